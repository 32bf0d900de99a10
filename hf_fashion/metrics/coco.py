"""COCO's figures of boxes (https://cocodataset.org/#detection-eval), by the names of torchmetrics and transformers.

The values are those of `faster-coco-eval`, class by class, which bounds its memory. The intervals are percentile
bootstraps over photos; see `hf_fashion.metrics`, `hf_fashion.metrics.matching`, `hf_fashion.metrics.resampling`.

Of few boxes average precision is too high, more so at a strict IoU: it takes the best precision at each recall or
above, and few boxes leave much to chance. In a simulation (`benchmarks/detection_metrics.py`, 40 repetitions, 8
classes) `map` of 80 photos was 0.035 above that of all 4,000 photos, and its interval held the latter in 0.72; of 175
photos 0.022, and 0.75; `map_50` 0.010 and 0.85, `mar_100` 0.000 and 0.95, AP by class 0.022 and 0.86.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_fashion.metrics.boxes import Annotations, Detections, check
from hf_fashion.metrics.intervals import draw_rows, interval_ends
from hf_fashion.metrics.matching import MAX_DETECTIONS, ranks
from hf_fashion.metrics.resampling import Draws, resample

# In the order of COCO's own list.
FIGURES = (
    "map", "map_50", "map_75", "map_small", "map_medium", "map_large",
    "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large",
)  # fmt: skip
N_RESAMPLES = 200


def detection(
    predictions: Detections,
    references: Annotations,
    labels: Sequence[str],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Mean average precision and recall of boxes as COCO has them, with 95 % intervals over photos.

    A class counts where there is a box of it, as in COCO. The intervals of means over classes are shifted as
    those of macro figures are; where a figure is 0 or 1 the interval is Wilson's for its boxes.

    Args:
        predictions: What the detector says; of a class in a photo the surest 100 count.
        references: What is there.
        labels: Class names in the order of their numbers.
        n_resamples: Draws of the bootstrap; 0 leaves the intervals out.
        seed: Seed of the draws.

    Returns:
        A flat dict: `n` (photos), `n_boxes`, `map` (IoU 0.5 to 0.95), `map_50`, `map_75`, `map_small` (below 32 x 32
        square pixels), `map_medium`, `map_large` (above 96 x 96), the recalls `mar_1`, `mar_10`, `mar_100` (with so
        many boxes of a class in a photo), `mar_small`, `mar_medium`, `mar_large`; by class `ap/<label>`,
        `ap_50/<label>` and `n/<label>` (boxes, without crowds); the ends of intervals as in `classification`. A figure
        of a class or size of which there is no box is None.

    Raises:
        ValueError: No photos; photos or classes of boxes that there are not.
    """
    check(predictions, references, labels)
    evaluated = _evaluate(predictions, references, len(labels))
    evaluated.summarize()
    boxes = np.bincount(references.label[~references.crowd], minlength=len(labels))
    results: dict[str, Any] = {"n": references.n_images, "n_boxes": int(boxes.sum())}
    # What is not defined is -1 there.
    results |= {name: _known(value) for name, value in zip(FIGURES, evaluated.stats, strict=True)}
    precision = evaluated.eval["precision"][:, :, :, 0, -1]  # IoUs, recalls, classes
    for number, label in enumerate(labels):
        results[f"ap/{label}"] = _known(precision[:, :, number].mean())
        results[f"ap_50/{label}"] = _known(precision[0, :, number].mean())
        results[f"n/{label}"] = int(boxes[number])
    if n_resamples:
        weights = draw_rows(references.n_images, n_resamples, seed)[1:]
        draws = figures_of_draws(resample(predictions, references, len(labels), weights), labels)
        rows: dict[str, float] = dict.fromkeys(FIGURES, results["n_boxes"])
        rows |= {f"{name}/{label}": results[f"n/{label}"] for name in ("ap", "ap_50") for label in labels}
        results |= interval_ends(results, draws, rows)
    return results


def figures_of_draws(draws: Draws, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """The figures of each draw by their names (draws,); NaN where one is not defined."""
    ap, ar = draws.precision, draws.recall
    mean = functools.partial(_mean, axis=(1, 2))
    values = {"map": mean(ap[:, 0]), "map_50": mean(ap[:, 0, :1]), "map_75": mean(ap[:, 0, 5:6])}
    values |= {f"map_{size}": mean(ap[:, number]) for number, size in enumerate(("small", "medium", "large"), 1)}
    values |= {f"mar_{most}": mean(ar[:, number, 0]) for number, most in enumerate((1, 10, 100))}
    values |= {f"mar_{size}": mean(ar[:, 2, number]) for number, size in enumerate(("small", "medium", "large"), 1)}
    for number, label in enumerate(labels):
        values[f"ap/{label}"] = ap[:, 0, :, number].mean(axis=1)
        values[f"ap_50/{label}"] = ap[:, 0, 0, number]
    return values


@dataclass(frozen=True)
class Curves:
    """Precision over recall.

    Args:
        recall: 0 to 1 (101,).
        precision: The best one at each recall or above (classes, 101); NaN of a class without boxes.
        score: From which score on that is (classes, 101); 0 where no score reaches the recall.
        labels: Class names.
    """

    recall: np.ndarray
    precision: np.ndarray
    score: np.ndarray
    labels: list[str]

    @property
    def mean(self) -> np.ndarray:
        """The mean precision over the classes that have boxes (101,)."""
        return _mean(self.precision, axis=0)


def precision_recall(
    predictions: Detections, references: Annotations, labels: Sequence[str], iou: float = 0.5
) -> Curves:
    """The curves of each class at one IoU, by `faster-coco-eval`.

    Raises:
        ValueError: As `detection`.
    """
    check(predictions, references, labels)
    one = {"iouThrs": np.array([iou]), "areaRng": [[0, 1e10]], "areaRngLbl": ["all"], "maxDets": [MAX_DETECTIONS]}
    evaluated = _evaluate(predictions, references, len(labels), **one)
    precision, score = (evaluated.eval[name][0, :, :, 0, 0].T for name in ("precision", "scores"))
    known = precision[:, :1] >= 0
    return Curves(
        evaluated.params.recThrs, np.where(known, precision, np.nan), np.where(known, score, np.nan), list(labels)
    )


def _evaluate(predictions: Detections, references: Annotations, n_labels: int, **settings: Any) -> Any:
    """The library's evaluation, accumulated: `eval` holds precision (IoUs, recalls, classes, sizes, counts) and more.

    Args:
        predictions: What the detector says.
        references: What is there.
        n_labels: Classes.
        **settings: Fields of the library's `params`.
    """
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise ImportError("figures of boxes need faster-coco-eval: pip install 'hf_fashion[detect]'") from error
    whole = COCOeval_faster(iouType="bbox")
    vars(whole.params).update(settings)
    params = whole.params
    shape = (len(params.iouThrs), len(params.recThrs), n_labels, len(params.areaRng), len(params.maxDets))
    whole.eval = {name: np.full(shape, -1.0) for name in ("precision", "scores")}
    whole.eval["recall"] = np.full((shape[0], *shape[2:]), -1.0)
    predictions = predictions[ranks(predictions.image, predictions.score, predictions.label) < params.maxDets[-1]]
    said, truth = (np.argsort(part.label, kind="stable") for part in (predictions, references))
    edges = np.arange(n_labels + 1)
    of_said = np.searchsorted(predictions.label[said], edges)
    of_truth = np.searchsorted(references.label[truth], edges)
    for label in range(n_labels):
        there = references[truth[of_truth[label] : of_truth[label + 1]]]
        if there.crowd.all():  # or none
            continue
        found = predictions[said[of_said[label] : of_said[label + 1]]]
        images = [{"id": image} for image in np.union1d(there.image, found.image).tolist()]
        one = COCOeval_faster(
            _coco(images, there, {"iscrowd": there.crowd.astype(int), "area": there.area}),
            _coco(images, found, {"score": found.score, "area": found.box[:, 2] * found.box[:, 3]}),
            iouType="bbox",
        )
        vars(one.params).update(settings)
        one.evaluate()
        one.accumulate()
        for name, values in whole.eval.items():
            values[..., label, :, :] = one.eval[name][..., 0, :, :]
    return whole


def _coco(images: list[dict[str, Any]], boxes: Detections | Annotations, more: Mapping[str, np.ndarray]) -> Any:
    """Boxes of one class as the library's `COCO`."""
    from faster_coco_eval import COCO

    columns = {"image_id": boxes.image, "bbox": boxes.box, **more}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    # An id of 0 would mean "not matched" there.
    annotations = [
        dict(zip(columns, row, strict=True), id=number, category_id=1) for number, row in enumerate(rows, 1)
    ]
    return COCO({"images": images, "annotations": annotations, "categories": [{"id": 1}]})


def _known(value: float) -> float | None:
    return None if value < 0 else float(value)


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """The mean of what is known, NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
