"""Whether an exported model says what the original says: the same photos through both, each in its own whole way."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, Image
from PIL import Image as PILImage

from hf_fashion import cropping, images, runtime
from hf_fashion import metrics as plain_metrics
from hf_fashion.errors import InputError
from hf_fashion.exporting.original import NO_NUMBERS, Original
from hf_fashion.metrics import Annotations, Detections

SAME_BOX = 0.75  # IoU from which on a box of the export is the original's
_Z = 1.959964  # of the normal distribution, for 95 %
_IN_MEMORY = 16  # photos
NEAR = 0.01  # by which the cosine to a neighbour may be lower
SAME_VECTOR = 0.95  # cosine from which on a vector of the export is the original's: an index holds vectors of both
SAME_LENGTH = 0.01  # share by which a vector's length may differ: a search takes a product of two for their cosine
SAME_SCORE = 0.05  # by which scores may differ where a model says one thing of all photos, and so would anything
FOLLOWS = 0.9  # share of the original's variance from photo to photo (R squared) from which on scores are its own
_ROUNDED = 1e-3  # by which scores of 64 bits differ from photo to photo that are one number in 32, or in half of these
FEWEST = 4  # answers, or photos, of which a share says something
ROUNDS = 5  # of a timing
_AS_NEAR = f"as near as {SAME_SCORE:g}, or going up and down with the original's (R squared of {FOLLOWS:g})"


class Truth(NamedTuple):
    """What is known of the photos, by which both models are measured.

    Args:
        labels: The number of each photo's class (photos,), -1 where the model has no such class.
        boxes: Of a detector.
        items: Of an encoder: equal for photos that show one thing.
    """

    labels: np.ndarray | None = None
    boxes: Annotations | None = None
    items: Sequence[str] | None = None

    def of(self, places: np.ndarray) -> "Truth":
        """Of some of the photos."""
        labels = None if self.labels is None else self.labels[places]
        items = None if self.items is None else [self.items[place] for place in places]
        if self.boxes is None:
            return Truth(labels, None, items)
        number = np.full(self.boxes.n_images, -1)
        number[places] = np.arange(len(places))
        boxes = self.boxes[number[self.boxes.image] >= 0]
        boxes.image, boxes.n_images = number[boxes.image], len(places)
        return Truth(labels, boxes, items)


class Answers(NamedTuple):
    """What a model says of photos.

    Args:
        told: Scores (photos, labels), vectors (photos, dimension), or of a detector a list of boxes for each photo.
        sizes: Width and height of each upright photo.
    """

    told: Any
    sizes: list[tuple[int, int]]

    def of(self, places: np.ndarray) -> "Answers":
        """About some of the photos."""
        told = self.told[places] if isinstance(self.told, np.ndarray) else [self.told[place] for place in places]
        return Answers(told, [self.sizes[place] for place in places])


def ask(model: Original | runtime.Exported, rows: Dataset, limits: images.Limits = images.LIMITS) -> Answers:
    """What a model says of the photos of rows.

    Args:
        model: The original, or the exported one.
        rows: With `image`, in any form.
        limits: See `images.decode`.
    """
    told, sizes = [], []
    for photos in decoded(rows, limits):
        told.append(model.answers(photos) if isinstance(model, Original) else of_exported(model, photos))
        sizes += [photo.size for photo in photos]
    return Answers(
        np.concatenate(told) if isinstance(told[0], np.ndarray) else [box for part in told for box in part], sizes
    )


def decoded(rows: Dataset, limits: images.Limits = images.LIMITS) -> Iterator[list[PILImage.Image]]:
    """The photos of rows, some at a time."""
    encoded = rows.with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))
    for batch in encoded.iter(batch_size=_IN_MEMORY):
        pictures: Any = batch
        yield [images.decode(picture, limits=limits) for picture in pictures["image"]]


def of_exported(model: runtime.Exported, photos: Sequence[Any]) -> Any:
    """What an exported model says, as `Original.answers` gives it."""
    parts = [outputs for _, outputs in model.outputs(photos)]
    if model.about["kind"] != "detection":
        return np.concatenate([part[0] for part in parts])
    made = []
    for part in parts:
        boxes = runtime.boxes(model.about, *part, threshold=cropping.FLOOR)
        # Scores that are NaN draw no box: it would look as if there were none.
        made += [drawn if _all_finite(*numbers) else NO_NUMBERS for drawn, *numbers in zip(boxes, *part, strict=True)]
    return made


def _all_finite(*numbers: np.ndarray) -> bool:
    return all(bool(np.isfinite(one).all()) for one in numbers)


def compare(about: Mapping[str, Any], expected: Answers, found: Answers, truth: Truth) -> dict[str, Any]:
    """How far two models agree.

    Args:
        about: runtime.json.
        expected: Of the original.
        found: Of the exported one, on the same photos.
        truth: What is known of the photos.

    Returns:
        `agreement` with `agreement_low` and `agreement_high` (Wilson, 95 %), `n` of what (`of`); `drift_mean` and
        `drift_max` of scores; `not_finite` where the export gives NaN or infinity for so many photos; `lost`, labels
        that the original says of `FEWEST` photos or more and the export of none of these; and what the
        kind of model has besides, with `original/...` and `exported/...` where the truth is known.

    Raises:
        InputError: The original itself gives NaN or infinity.
    """
    if broken := int((~_finite(expected.told)).sum()):
        raise InputError(
            "the model", expected="finite numbers of each photo",
            found=f"NaN or infinity of {broken} of {len(expected.sizes)}",
            fix="another checkpoint: the training of this one went astray",
        )  # fmt: skip
    good = _finite(found.told)
    broken = int((~good).sum())
    if isinstance(found.told, np.ndarray):
        found = found._replace(told=np.where(good[:, None], found.told, 0.0))
    else:
        found = found._replace(told=[boxes if whole else [] for boxes, whole in zip(found.told, good, strict=True)])
    of_kind: dict[str, Callable[..., dict[str, Any]]] = {
        "classification": _labels, "attributes": _attributes, "detection": _boxes, "retrieval": _vectors
    }  # fmt: skip
    figures = of_kind[about["kind"]](about, expected, found, truth)
    low, high = wilson(figures["agreement"], figures["n"])
    if broken:
        figures["not_finite"] = broken
    return figures | {"photos": len(expected.sizes), "agreement_low": low, "agreement_high": high}


def enough(figures: Mapping[str, Any], least: float) -> bool:
    """Whether two models agree in so much; of attributes in each one, or nine good ones would hide a bad one.

    A single photo of which the export gives NaN or infinity is too many, however many others are right, and so is a
    label that the original says of `FEWEST` photos or more, and the export of none of these.
    """
    shares = (figures["agreement"], *figures.get("attributes", {}).values())
    return not (figures.get("not_finite") or figures.get("lost")) and all(share >= least for share in shares)


def _finite(told: Any) -> np.ndarray:
    """Of which photos all numbers are finite (photos,)."""
    if isinstance(told, np.ndarray):
        return np.asarray(np.isfinite(told).all(axis=1))
    return np.array(
        [bool(np.isfinite([[score, *box] for _, score, box in boxes]).all()) for boxes in told], dtype=bool
    )


def _near(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Of which photos (photos,) scores (photos, labels) are the original's, where one model says one thing of all.

    The same answer would prove nothing then: a file that looks at no photo gives it, too, and is right for all but the
    few photos of which the original says something else. Rounding may move scores by more than `SAME_SCORE`: those
    that go up and down with the original's from photo to photo are its own all the same.
    """
    spread = expected - expected.mean(axis=0)
    if len(found) > 1 and (found == found[0]).all() and np.abs(spread).max() > _ROUNDED:
        return np.zeros(len(found), dtype=bool)  # blind
    if ((expected - found) ** 2).sum() <= (1 - FOLLOWS) * (spread**2).sum():
        return np.ones(len(found), dtype=bool)
    near: np.ndarray = np.abs(expected - found).max(axis=1) <= SAME_SCORE
    return near


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _drift(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    apart = np.abs(np.asarray(a, dtype=np.float64) - b)
    return {"drift_mean": float(apart.mean()) if apart.size else 0.0, "drift_max": float(apart.max(initial=0.0))}


def _labels(about: Mapping[str, Any], expected: Answers, found: Answers, truth: Truth) -> dict[str, Any]:
    a, b = (answers.told.argmax(axis=1) for answers in (expected, found))
    rows, same, of = np.arange(len(a)), a == b, "photos with the same label"
    same &= found.told.max(axis=1) > 0  # all zeros are no label
    if len(a) and ((a == a[0]).all() or (b == b[0]).all()):
        same &= _near(expected.told, found.told)
        of += f", and scores {_AS_NEAR}, since one of them says one label of all"
    figures: dict[str, Any] = {"of": of, "n": len(a), "agreement": float(same.mean())}
    # Among hundreds of photos a rare label hardly counts: that the export never says it must show by itself.
    said = {label: a == number for number, label in enumerate(about["labels"])}
    if lost := [label for label, rows_ in said.items() if rows_.sum() >= FEWEST and not same[rows_].any()]:
        figures["lost"] = lost
    figures |= _drift(expected.told[rows, a], found.told[rows, a])  # of the label that the original says
    # Of some of the photos, as those of one split, perhaps none has a class of the model.
    if truth.labels is not None and (known := truth.labels >= 0).any():
        for name, told in (("original", a), ("exported", b)):
            figures[f"{name}/accuracy"] = float((told == truth.labels)[known].mean())
    return figures


def _attributes(about: Mapping[str, Any], expected: Answers, found: Answers, truth: Truth) -> dict[str, Any]:
    told = [[runtime.said(about, scores) for scores in answers.told] for answers in (expected, found)]
    shares, start = {}, 0
    for name, group in about["groups"].items():
        span = slice(start, start := start + len(group["labels"]))
        first, second = ([frozenset(one["label"] for one in photo[name]) for photo in each] for each in told)
        same = np.array([a == b for a, b in zip(first, second, strict=True)])
        if 1 in (len(set(first)), len(set(second))):
            same &= _near(expected.told[:, span], found.told[:, span])
        shares[name] = float(same.mean())
    figures = {
        "of": "attributes of a photo with the same labels (where one model says the same of all photos: and "
        f"scores {_AS_NEAR})",
        "n": len(shares) * len(expected.sizes), "agreement": float(np.mean(list(shares.values()))),
        "attributes": shares,
    }  # fmt: skip
    return figures | _drift(expected.told, found.told)


def _boxes(about: Mapping[str, Any], expected: Answers, found: Answers, truth: Truth) -> dict[str, Any]:
    limit = about["score_threshold"]
    pairs: list[tuple[float, float]] = []
    counts = [0, 0]
    for first, second in zip(expected.told, found.told, strict=True):
        a, b = ([one for one in each if one[1] > limit] for each in (first, second))
        counts = [counts[0] + len(a), counts[1] + len(b)]
        left = list(range(len(b)))
        for label, score, box in a:
            near = [(_iou(box, b[place][2]), -place) for place in left if b[place][0] == label]
            share, place = max(near, default=(0.0, 1))
            if share >= SAME_BOX:
                left.remove(-place)
                pairs.append((score, b[-place][1]))
    boxes = sum(counts)
    drifts = np.array(pairs).reshape(-1, 2)
    figures: dict[str, Any] = {
        "of": f"boxes with a score above {limit:g} that both draw (same label, IoU of {SAME_BOX:g} or more)",
        "n": max(counts), "agreement": 2 * len(pairs) / boxes if boxes else 1.0,
        "original/boxes": counts[0], "exported/boxes": counts[1], **_drift(drifts[:, 0], drifts[:, 1]),
    }  # fmt: skip
    if truth.boxes is not None:
        for name, answers in (("original", expected), ("exported", found)):
            said = Detections.of_images(
                [_scaled(each, size) for each, size in zip(answers.told, answers.sizes, strict=True)]
            )
            told = plain_metrics.detection(said, truth.boxes, about["labels"], n_resamples=0)
            figures |= {f"{name}/{key}": told[key] for key in ("map", "map_50")}
    return figures


def _scaled(boxes: Sequence[tuple[int, float, Sequence[float]]], size: tuple[int, int]) -> dict[str, Any]:
    sides = np.array([*size, *size], dtype=np.float64)
    corners = np.array([box for _, _, box in boxes], dtype=np.float64).reshape(-1, 4)
    corners = np.clip(corners, 0, 1) * sides
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2])
    return {"boxes": corners, "scores": [score for _, score, _ in boxes], "labels": [label for label, _, _ in boxes]}


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = (max(0.0, min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis])) for axis in (0, 1))
    whole = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - width * height
    return width * height / whole if whole > 0 else 0.0


def _vectors(about: Mapping[str, Any], expected: Answers, found: Answers, truth: Truth) -> dict[str, Any]:
    """Each photo asks for its nearest among the others; the export asks with its own vectors among its own.

    Among some hundred garments many are as near as each other: an answer is the original's, too, when the original
    finds it as near as its own but for `NEAR`. And an index that one of them filled is asked by the other: the vectors
    themselves are the same, but for `SAME_VECTOR`.
    """
    a, b = (np.asarray(answers.told, dtype=np.float64) for answers in (expected, found))
    lengths = [np.linalg.norm(each, axis=1) for each in (a, b)]
    cosine = (a * b).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    nearest = []
    similar = a @ a.T
    for scores in (similar, b @ b.T):
        np.fill_diagonal(scores, -np.inf)
        nearest.append(scores.argmax(axis=1))
    rows = np.arange(len(a))
    lost = similar[rows, nearest[0]] - similar[rows, nearest[1]]
    blind = len(b) > 1 and (b == b[0]).all() and not (a == a[0]).all()
    same = (
        (lost <= NEAR)
        & (cosine >= SAME_VECTOR)
        & (np.abs(lengths[1] - lengths[0]) <= SAME_LENGTH * lengths[0])
        & (not blind)
    )
    figures: dict[str, Any] = {
        "of": f"photos with the original's nearest neighbour, or one that it finds as near (to {NEAR:g} of cosine), "
        f"and with its vector (cosine of {SAME_VECTOR:g} or more, and its length)",
        "n": len(a), "agreement": float(same.mean()),
        "same_neighbour": float((nearest[0] == nearest[1]).mean()),
        "cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min()),
        "drift_mean": float(1 - cosine.mean()), "drift_max": float(1 - cosine.min()),
    }  # fmt: skip
    if truth.items is not None:
        items = np.asarray(truth.items)
        asked = np.array([(items == item).sum() > 1 for item in items])
        for name, places in zip(("original", "exported"), nearest, strict=True):
            figures[f"{name}/recall_at_1"] = float((items[places] == items)[asked].mean()) if asked.any() else None
    return figures


def in_words(figures: Mapping[str, Any]) -> str:
    """One line of a comparison."""
    line = f"{figures['agreement']:.3f} ({figures['agreement_low']:.3f} to {figures['agreement_high']:.3f}) of "
    line += f"{figures['n']} {figures['of']}; "
    if "cosine_mean" in figures:
        line += f"the very same for {figures['same_neighbour']:.3f}; cosine of both vectors "
        line += f"{figures['cosine_mean']:.5f} on average, {figures['cosine_min']:.5f} at least"
    else:
        line += f"scores drift by {figures['drift_mean']:.2g} on average, {figures['drift_max']:.2g} at most"
    if figures.get("attributes"):
        worst = min(figures["attributes"], key=figures["attributes"].__getitem__)
        line += f"; the least for '{worst}': {figures['attributes'][worst]:.3f}"
    if figures.get("lost"):
        line += f"; never {', '.join(map(repr, figures['lost']))}, where the original says it"
    if figures.get("not_finite"):
        line += f"; NaN or infinity of {figures['not_finite']} photos"
    for key in ("accuracy", "map", "map_50", "recall_at_1"):
        a, b = figures.get(f"original/{key}"), figures.get(f"exported/{key}")
        if a is not None and b is not None:
            line += f"; {key} {a:.3f}, now {b:.3f}"
    return line


def times(
    models: Mapping[str, Callable[[PILImage.Image], Any]], photos: Sequence[PILImage.Image], rounds: int = ROUNDS
) -> dict[str, dict[str, float]]:
    """Milliseconds a photo of each model, one photo at a time, from decoded pixels to the answer; in turns.

    Args:
        models: Name -> what is called with a photo.
        photos: Upright RGB.
        rounds: Of all photos; before them each model sees one.

    Returns:
        Name -> `cpu_ms` and `wall_ms` (the median round), `cpu_ms_min`, `cpu_ms_max`.
    """
    cpu: dict[str, list[float]] = {name: [] for name in models}
    wall: dict[str, list[float]] = {name: [] for name in models}
    for call in models.values():
        call(photos[0])
    for number in range(rounds):
        order = list(models) if number % 2 == 0 else list(models)[::-1]
        for name in order:
            before, started = time.process_time(), time.perf_counter()
            for photo in photos:
                models[name](photo)
            cpu[name].append(1000 * (time.process_time() - before) / len(photos))
            wall[name].append(1000 * (time.perf_counter() - started) / len(photos))
    return {
        name: {
            "cpu_ms": statistics.median(cpu[name]), "cpu_ms_min": min(cpu[name]), "cpu_ms_max": max(cpu[name]),
            "wall_ms": statistics.median(wall[name]),
        }
        for name in models
    }  # fmt: skip
