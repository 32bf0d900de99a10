"""Figures of boxes against pycocotools and hand-made truth, on whole sets, in batches and on drawn photos."""

import contextlib
import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_boxes import random_boxes

from hf_fashion import metric_modules, metrics
from hf_fashion.metrics import boxes, coco, matching, resampling
from hf_fashion.metrics.intervals import draw_rows


def pycocotools(predictions, references, labels):
    """The accumulated and summarized evaluation by pycocotools."""

    def made(part, **more):
        columns = {"image_id": part.image, "bbox": part.box, "category_id": part.label, **more}
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        found = COCO()
        found.dataset = {
            "images": [{"id": number} for number in range(references.n_images)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(labels)],
            "annotations": [dict(zip(columns, row, strict=True), id=number) for number, row in enumerate(rows, 1)],
        }
        found.createIndex()
        return found

    area = predictions.box[:, 2] * predictions.box[:, 3]
    none = np.zeros(len(predictions), dtype=int)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluated = COCOeval(
            made(references, area=references.area, iscrowd=references.crowd.astype(int)),
            made(predictions, area=area, score=predictions.score, iscrowd=none),
            "bbox",
        )
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated


def of_photos(part, drawn):
    """The boxes of drawn photos, each of which becomes a photo of its own."""
    rows = [np.flatnonzero(part.image == image) for image in drawn]
    taken = part[np.concatenate(rows)]
    taken.image = np.repeat(np.arange(len(drawn)), [len(of_photo) for of_photo in rows])
    if isinstance(part, metrics.Annotations):
        taken.n_images = len(drawn)
    return taken


def as_dicts(predictions, references):
    """The same, a dict a photo, xywh."""
    said, truth = [], []
    for image in range(references.n_images):
        some, there = predictions[predictions.image == image], references[references.image == image]
        said.append({"boxes": some.box.tolist(), "scores": some.score.tolist(), "labels": some.label.tolist()})
        truth.append(
            {"boxes": there.box.tolist(), "labels": there.label.tolist(), "area": there.area.tolist(),
             "iscrowd": there.crowd.astype(int).tolist()}
        )  # fmt: skip
    return said, truth


@pytest.mark.parametrize("seed", range(4))
def test_the_twelve_figures_are_those_of_pycocotools(seed):
    predictions, references, labels = random_boxes(crowds=seed % 2 == 0, ties=seed > 1, said=20, seed=seed)
    figures = metrics.detection(predictions, references, labels, n_resamples=0)
    wanted = pycocotools(predictions, references, labels)
    assert [figures[name] for name in coco.FIGURES] == pytest.approx(list(wanted.stats), abs=1e-9)
    precision = wanted.eval["precision"][:, :, :, 0, 2]
    for number, label in enumerate(labels[:-1]):
        assert figures[f"ap/{label}"] == pytest.approx(precision[:, :, number].mean(), abs=1e-9)
        assert figures[f"ap_50/{label}"] == pytest.approx(precision[0, :, number].mean(), abs=1e-9)
    assert figures["ap/c3"] is None and figures["n/c3"] == 0  # never seen, not bad at
    assert figures["n"] == references.n_images
    assert figures["n_boxes"] == sum(figures[f"n/{label}"] for label in labels) == (~references.crowd).sum()
    assert 0.05 < figures["map"] < 0.5 and not [name for name in figures if "_low" in name]


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_of_a_draw_are_those_of_the_library_on_the_drawn_photos(seed):
    predictions, references, labels = random_boxes(said=20, seed=seed)
    weights = draw_rows(references.n_images, 3, seed)  # the first draw is the set itself
    draws = coco.figures_of_draws(resampling.resample(predictions, references, len(labels), weights), labels)
    for number, taken in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(references.n_images), taken)
        again = metrics.detection(of_photos(predictions, drawn), of_photos(references, drawn), labels, n_resamples=0)
        for name, values in draws.items():
            wanted = np.nan if again[name] is None else again[name]
            assert values[number] == pytest.approx(wanted, abs=1e-9, nan_ok=True), name


def test_precision_and_recall_are_those_of_the_library_at_each_iou_and_size():
    predictions, references, labels = random_boxes(said=30, ties=True, seed=5)
    [precision], [recall] = vars(resampling.resample(predictions, references, 4, np.ones((1, 40)))).values()
    evaluated = coco._evaluate(predictions, references, len(labels)).eval
    known = evaluated["recall"] >= 0
    wanted = np.where(known[..., 2], evaluated["precision"].mean(axis=1)[..., 2], np.nan)
    assert precision == pytest.approx(wanted.transpose(2, 0, 1), abs=1e-9, nan_ok=True)
    wanted = np.where(known, evaluated["recall"], np.nan).transpose(3, 2, 0, 1)
    assert recall == pytest.approx(wanted, abs=1e-9, nan_ok=True)
    assert np.isnan(precision[..., 3]).all() and np.isfinite(precision[0, :, :3]).all()


@pytest.mark.parametrize("crowd", [[0, 0, 0], [0, 1, 0], [1, 0, 1]])
@pytest.mark.parametrize("area", [[1600, 1600, 1600], [1600, 100, 1600], [100, 1600, 100], [np.nan] * 3])
@pytest.mark.parametrize("scores", [[0.9, 0.8, 0.7, 0.6], [0.6, 0.7, 0.8, 0.9], [0.5] * 4])
@pytest.mark.parametrize("left", [0, 300])
def test_boxes_on_one_another_are_matched_as_pycocotools_does(crowd, area, scores, left):
    """Equal IoUs with two boxes, a crowd or a box of another size that lies better than one that counts."""
    there = np.array([[0, 0, 40, 40], [16, 0, 40, 40], [left, 0, 44, 40.0]])
    said = np.array([[8, 0, 40, 40], [24, 0, 40, 40], [0, 0, 44, 40], [0, 0, 44, 40.0]])
    references = metrics.Annotations(np.zeros(3, int), there, np.zeros(3, int), 1, np.array(area, float), crowd)
    predictions = metrics.Detections(np.zeros(4, int), said, np.array(scores), np.zeros(4, int))
    wanted = pycocotools(predictions, references, ["hat"])
    figures = metrics.detection(predictions, references, ["hat"], n_resamples=0)
    given = [-1 if figures[name] is None else figures[name] for name in coco.FIGURES]
    assert given == pytest.approx(list(wanted.stats), abs=1e-9)
    draws = resampling.resample(predictions, references, 1, np.ones((1, 1)))
    ours = coco.figures_of_draws(draws, ["hat"])
    assert [ours[name][0] for name in coco.FIGURES] == pytest.approx(
        [np.nan if value < 0 else value for value in wanted.stats], abs=1e-9, nan_ok=True
    )


def test_boxes_come_in_any_order_and_in_pieces_of_any_size(monkeypatch):
    predictions, references, labels = random_boxes(said=20, seed=6)
    whole = metrics.detection(predictions, references, labels, n_resamples=20)
    rng = np.random.default_rng(0)
    shuffled = predictions[rng.permutation(len(predictions))], references[rng.permutation(len(references))]
    monkeypatch.setattr(matching, "_PAIRS", 7)
    monkeypatch.setattr(resampling, "_NUMBERS", 2000)
    again = metrics.detection(*shuffled, labels, n_resamples=20)
    assert again == pytest.approx(whole, abs=1e-12)


def test_intervals_are_percentiles_over_photos_round_the_figure():
    predictions, references, labels = random_boxes(said=20, seed=1)
    figures = metrics.detection(predictions, references, labels, n_resamples=60, seed=3)
    weights = draw_rows(references.n_images, 60, 3)[1:]
    draws = coco.figures_of_draws(resampling.resample(predictions, references, len(labels), weights), labels)
    for name in ("map", "mar_10", "ap/c1", "ap_50/c0"):
        low, high = np.percentile(draws[name], [2.5, 97.5])
        shift = figures[name] - draws[name].mean() if name in metrics.MEANS else 0.0
        assert [figures[key] for key in metrics.interval_keys(name)] == pytest.approx([low + shift, high + shift])
        assert low < figures[name] < high
    assert figures["ap_low/c3"] is figures["ap_high/c3"] is None


def test_hand_made_truth():
    """A dress found well, a hat found at an IoU of 0.6 only, a second hat missed, a dress that is none."""
    references = metrics.Annotations(
        np.array([0, 0, 2]), np.array([[0, 0, 100, 100], [200, 0, 50, 50], [0, 0, 50, 50.0]]), np.array([0, 1, 1]), 4
    )
    predictions = metrics.Detections(
        np.array([0, 0, 3]),
        np.array([[0, 0, 100, 100], [200, 0, 50, 30], [5, 5, 9, 9.0]]),
        np.array([0.9, 0.8, 0.95]),
        np.array([0, 1, 0]),
    )
    figures = metrics.detection(predictions, references, ["dress", "hat", "shoes"], n_resamples=0)
    hat = 51 / 101  # half of the hats: recalls 0 to 0.5 are reached
    assert figures["ap_50/dress"] == figures["ap/dress"] == pytest.approx(0.5)  # the surest dress is none
    assert figures["ap_50/hat"] == pytest.approx(hat)
    assert figures["ap/hat"] == pytest.approx(hat * 3 / 10)  # IoU 0.5, 0.55 and 0.6
    assert figures["map_50"] == pytest.approx((0.5 + hat) / 2) and figures["map_75"] == pytest.approx(0.25)
    assert figures["mar_100"] == pytest.approx((1 + 0.5 * 3 / 10) / 2)
    assert figures["map_small"] is None and figures["map_large"] == pytest.approx(1.0)  # the false dress is small
    assert (figures["n"], figures["n_boxes"], figures["n/hat"], figures["ap/shoes"]) == (4, 3, 2, None)


def test_all_found_and_nothing_found_are_no_certainty():
    _, references, labels = random_boxes(crowds=False)
    perfect = metrics.Detections(references.image, references.box, np.ones(len(references)), references.label)
    figures = metrics.detection(perfect, references, labels)
    assert figures["map"] == figures["ap/c0"] == 1.0
    reach = 1.959964**2 / (figures["n/c0"] + 1.959964**2)
    assert (figures["ap_low/c0"], figures["ap_high/c0"]) == (pytest.approx(1 - reach), 1.0)
    nothing = perfect[np.empty(0, dtype=int)]
    figures = metrics.detection(nothing, references, labels)
    assert figures["map"] == figures["mar_100"] == figures["map_low"] == figures["ap/c0"] == 0.0
    assert 0 < figures["map_high"] < 0.1 < figures["ap_high/c0"] / 0.5


def test_photos_without_any_box():
    empty = metrics.Annotations.of_images([{"boxes": [], "labels": []}] * 3)
    said = metrics.Detections.of_images([{"boxes": [[0, 0, 9, 9]], "scores": [0.5], "labels": [0]}, *empty_said(2)])
    for predictions in (said, metrics.Detections.of_images(empty_said(3))):
        figures = metrics.detection(predictions, empty, ["hat"])
        assert figures["n"] == 3 and figures["n_boxes"] == 0
        assert all(figures[name] is None for name in (*coco.FIGURES, "ap/hat", "map_low", "ap_high/hat"))


def empty_said(photos):
    return [{"boxes": [], "scores": [], "labels": []}] * photos


def test_forms_of_boxes():
    corners = {"boxes": [[10, 20, 40, 60]], "scores": [0.5], "labels": [2]}
    for box_format, box in (("xyxy", [10, 20, 40, 60]), ("xywh", [10, 20, 30, 40]), ("cxcywh", [25, 40, 30, 40])):
        read = metrics.Detections.of_images([*empty_said(1), corners | {"boxes": [box]}], box_format)
        assert read.box.tolist() == [[10, 20, 30, 40]] and read.image.tolist() == [1] and read.label.tolist() == [2]
    truth = {"boxes": [[0, 0, 5, 4], [0, 0, 3, 3]], "labels": [0, 1]}
    read = metrics.Annotations.of_images([truth, truth | {"area": [7, None], "iscrowd": [0, 1]}])
    assert read.area.tolist() == [20, 9, 7, 9] and read.crowd.tolist() == [False, False, False, True]
    assert read.n_images == 2


def test_the_module_loads_by_path_and_computes_the_same():
    import evaluate  # takes seconds

    predictions, references, labels = random_boxes(photos=12)
    said, truth = as_dicts(predictions, references)
    truth[0] |= {"area": [], "iscrowd": []}  # not known
    module = evaluate.load(metric_modules.path("fashion_detection"))
    for start in range(0, 12, 5):
        module.add_batch(predictions=said[start : start + 5], references=truth[start : start + 5])
    got = module.compute(labels=labels, n_resamples=10, seed=3)
    wanted = metrics.Detections.of_images(said, "xywh"), metrics.Annotations.of_images(truth)
    assert got == metrics.detection(*wanted, labels, n_resamples=10, seed=3)


def test_the_module_counts_the_photos_of_all_processes(tmp_path):
    import evaluate

    predictions, references, labels = random_boxes(photos=12)
    said, truth = as_dicts(predictions, references)

    def computed(process):  # `evaluate` gathers through files: a thread does what a process would
        module = evaluate.load(
            metric_modules.path("fashion_detection"), num_process=2, process_id=process, experiment_id="both",
            cache_dir=str(tmp_path),
        )  # fmt: skip
        module.add_batch(predictions=said[process::2], references=truth[process::2])
        return module.compute(labels=labels, n_resamples=0)

    with ThreadPoolExecutor() as threads:
        first, second = threads.map(computed, range(2))
    assert first == pytest.approx(metrics.detection(predictions, references, labels, n_resamples=0))
    assert second is None


def test_curves_are_those_of_pycocotools():
    predictions, references, labels = random_boxes(said=20)
    evaluated = pycocotools(predictions, references, labels).eval
    for number, iou in ((0, 0.5), (5, 0.75)):
        curves = metrics.precision_recall(predictions, references, labels, iou)
        wanted = evaluated["precision"][number, :, :3, 0, 2].T
        assert curves.precision[:3] == pytest.approx(wanted) and np.isnan(curves.precision[3]).all()
        assert curves.score[:3] == pytest.approx(evaluated["scores"][number, :, :3, 0, 2].T)
        assert curves.mean == pytest.approx(wanted.mean(axis=0))
        assert curves.recall.shape == (101,) and curves.labels == labels


def test_ious_are_those_of_pycocotools():
    from pycocotools import mask

    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 8, (200, 4)).astype(float) for _ in range(2))
    other[:20, 2:] = 0  # nothing shares anything with it
    crowd = rng.random(200) < 0.5
    wanted = [mask.iou(a[None], b[None], [c])[0][0] for a, b, c in zip(one, other, crowd, strict=True)]
    assert boxes.ious(one, other, crowd) == pytest.approx(np.nan_to_num(wanted))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"image": np.array([0, 4])}, "3 photos, and predictions a box of photo 4"),
        ({"label": np.array([0, 2])}, "0 to 1, found 2"),
        ({"label": np.array([0, -1])}, "whole numbers from 0 on, found -1"),
        ({"label": np.array([0, 1.5])}, "whole numbers"),
        ({"score": np.array([0, np.nan])}, "scores of predictions must be finite"),
        ({"score": np.array([0.5])}, "one a box"),
        ({"box": np.array([[0, 0, 5, 5], [0, 0, -1, 5]])}, r"\[0.0, 0.0, -1.0, 5.0\] in photo 2"),
        ({"box": np.array([[0, 0, 5, 5], [0, 0, np.inf, 5]])}, "finite"),
        ({"box": np.zeros((2, 3))}, r"\(2, 3\)"),
    ],
)
def test_refusals(changed, reason):
    given = {"image": np.array([0, 2]), "box": np.ones((2, 4)), "score": np.ones(2), "label": np.array([0, 1])}
    references = metrics.Annotations(np.array([0]), np.ones((1, 4)), np.array([0]), 3)
    with pytest.raises(ValueError, match=reason):
        metrics.detection(metrics.Detections(**given | changed), references, ["hat", "bag"])


def test_refusals_of_annotations_labels_and_forms():
    one = np.array([0]), np.ones((1, 4)), np.array([0])
    with pytest.raises(ValueError, match="0 photos, and a box of photo 0"):
        metrics.Annotations(*one, 0)
    with pytest.raises(ValueError, match="area and crowd"):
        metrics.Annotations(*one, 1, np.ones(2))
    with pytest.raises(ValueError, match="no photos"):
        metrics.detection(metrics.Detections.of_images([]), metrics.Annotations.of_images([]), ["hat"])
    with pytest.raises(ValueError, match="labels must differ"):
        metrics.detection(metrics.Detections.of_images([]), metrics.Annotations(*one, 1), ["hat", "hat"])
    with pytest.raises(ValueError, match="photo 1: 1 boxes, 1 labels, 2 scores"):
        odd = {"boxes": [[0, 0, 1, 1]], "labels": [0], "scores": [1, 2]}
        metrics.Detections.of_images([*empty_said(1), odd])
    with pytest.raises(ValueError, match="xywh, xyxy or cxcywh, found 'yolo'"):
        metrics.Detections.of_images(empty_said(1), "yolo")


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    predictions, references, labels = random_boxes(photos=3)
    with pytest.raises(ImportError, match=r"hf_fashion\[detect\]"):
        metrics.detection(predictions, references, labels)
