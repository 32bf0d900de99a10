"""What kind of errors a detector makes, and how much average precision each kind costs: TIDE.

Bolya, Foley, Hays and Hoffman, TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020
(https://arxiv.org/abs/2008.08115). A wrong detection has one kind, the first of these that holds; IoUs are with the
boxes of its photo, crowds left out:

- localisation: with a box of its class the IoU is 0.1 to 0.5;
- classification: with a box of another class it is 0.5 or more;
- duplicate: with a box of its class it is 0.5 or more, and a surer detection has that box;
- background: with no box it is more than 0.1;
- both: what is left: 0.1 to 0.5 with a box of another class.

A box that was not found, and that no error of class or location is about, is missed. What a kind costs is the rise of
average precision at IoU 0.5 when it alone is mended: class or location set right where the box is still free and no
surer error is about it, else the detection taken away; the other kinds taken away; missed boxes not counted. The
order of the kinds and the rest that the paper leaves open are as in its authors' own `tidecv`; but means are over the
classes that have boxes, as COCO's are, and detections in a crowd are no errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_fashion.metrics.boxes import Annotations, Detections, check, ious, pairs
from hf_fashion.metrics.matching import MAX_DETECTIONS, match, ranks
from hf_fashion.metrics.resampling import SIZES, average_precision

ERROR_KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)
RIGHT, IGNORED = -1, -2
_PAIRS = 2_000_000  # in memory at once


@dataclass(frozen=True)
class Assigned:
    """What became of each box.

    Args:
        kind: Of each detection its place in `ERROR_KINDS`, `RIGHT` or `IGNORED`: in a crowd, or beyond the 100 surest
            of its class in its photo (n,).
        about: The annotation that it found, or that its error of class or location is about; -1 for none (n,).
        mends: Whether it would find that annotation if its error were mended (n,).
        found: Whether each annotation was found (m,).
        missed: Whether it was not, and no error of class or location is about it (m,).
    """

    kind: np.ndarray
    about: np.ndarray
    mends: np.ndarray
    found: np.ndarray
    missed: np.ndarray


def assign_errors(
    predictions: Detections, references: Annotations, *, iou: float = 0.5, background: float = 0.1
) -> Assigned:
    """Says of each detection and each annotation what became of it.

    Args:
        predictions: What the detector says.
        references: What is there.
        iou: From which IoU on a box is found.
        background: Up to which IoU a detection is about nothing.
    """
    kept = np.flatnonzero(ranks(predictions.image, predictions.score, predictions.label) < MAX_DETECTIONS)
    kind, about = np.full(len(predictions), IGNORED), np.full(len(predictions), -1)
    matches = match(predictions[kept], references, np.array([iou]), SIZES[:1])
    near, ignored = kept[matches.detection], matches.ignored[0, 0]
    about[near] = np.where(ignored, -1, matches.match[0, 0])
    kind[kept] = BACKGROUND
    kind[near[ignored]] = IGNORED
    kind[about >= 0] = RIGHT
    found = np.zeros(len(references), dtype=bool)
    found[about[about >= 0]] = True
    wrong = np.flatnonzero(kind == BACKGROUND)
    kind[wrong], about[wrong] = _kinds(predictions[wrong], references, found, iou, background)
    mends = np.zeros(len(predictions), dtype=bool)
    free = wrong[about[wrong] >= 0]
    free = free[~found[about[free]]]
    surest = free[np.lexsort((-predictions.score[free], about[free]))]
    mends[surest[np.diff(about[surest], prepend=-1) != 0]] = True
    missed = ~found & ~references.crowd
    missed[about[mends]] = False
    return Assigned(kind, about, mends, found, missed)


def detection_errors(
    predictions: Detections,
    references: Annotations,
    labels: Sequence[str],
    *,
    iou: float = 0.5,
    background: float = 0.1,
) -> dict[str, Any]:
    """How many errors there are of each kind, and what average precision each kind costs.

    Args:
        predictions: What the detector says.
        references: What is there.
        labels: Class names in the order of their numbers.
        iou: From which IoU on a box is found.
        background: Up to which IoU a detection is about nothing.

    Returns:
        A flat dict: `map`, at this one IoU; `d_ap/<kind>`, by how much it would rise without the errors of that kind
        alone (they need not add up), and `n/<kind>`, for the kinds in `ERROR_KINDS`; `n/right`. None where there is
        no box at all.

    Raises:
        ValueError: As `detection`.
    """
    check(predictions, references, labels)
    told = assign_errors(predictions, references, iou=iou, background=background)
    counted = references.label[~references.crowd]
    total = np.bincount(counted, minlength=len(labels))
    right, there = told.kind == RIGHT, told.kind != IGNORED
    if not total.any():
        nothing: dict[str, Any] = {"map": None} | {f"d_ap/{name}": None for name in ERROR_KINDS}
        return nothing | _counts(told)

    def mean(label: np.ndarray, right: np.ndarray, kept: np.ndarray, boxes: np.ndarray) -> float:
        """Mean average precision; of a class all of whose boxes were taken out it is 0."""
        values = []
        for number in np.flatnonzero(total):
            rows = np.flatnonzero(kept & (label == number))
            rows = rows[np.lexsort((predictions.image[rows], -predictions.score[rows]))]
            hit = right[rows]
            hits, seen = np.cumsum(hit)[None, hit], np.arange(1, len(rows) + 1)[None, hit]
            values.append(average_precision(hits, seen, boxes[number : number + 1])[0])
        return float(np.nan_to_num(values).mean())

    base = mean(predictions.label, right, there, total)
    results: dict[str, Any] = {"map": base}
    for number, name in enumerate(ERROR_KINDS):
        errors = told.kind == number
        label, boxes = predictions.label, total
        if number == CLASSIFICATION:
            label = np.where(errors, references.label[told.about], label)
        if number == MISSED:
            boxes = total - np.bincount(references.label[told.missed], minlength=len(labels))
        mended = errors & told.mends
        rise = mean(label, right | mended, there & (~errors | mended), boxes) - base
        results[f"d_ap/{name}"] = max(0.0, rise)  # the 101 recalls can make it a trace less
    return results | _counts(told)


def _kinds(
    wrong: Detections, references: Annotations, found: np.ndarray, iou: float, background: float
) -> tuple[np.ndarray, np.ndarray]:
    """The kind of each wrong detection, and the annotation that it is about or -1 (wrong ones,) each."""
    real = np.flatnonzero(~references.crowd)
    real = real[np.argsort(references.image[real], kind="stable")]
    image = references.image[real]
    first = np.searchsorted(image, wrong.image, side="left")
    counts = np.searchsorted(image, wrong.image, side="right") - first
    kind, about = np.full(len(wrong), BACKGROUND), np.full(len(wrong), -1)
    rows = np.flatnonzero(counts)
    cuts = np.flatnonzero(np.diff((np.cumsum(counts[rows]) - counts[rows]) // _PAIRS)) + 1
    for part in np.split(rows, cuts) if len(rows) else []:
        at, partner = pairs(first[part], counts[part])
        partner = real[partner]
        overlap = ious(wrong.box[part[at]], references.box[partner])
        begins = np.cumsum(counts[part]) - counts[part]
        same = wrong.label[part[at]] == references.label[partner]

        def best(
            where: np.ndarray, overlap: np.ndarray = overlap, partner: np.ndarray = partner,
            begins: np.ndarray = begins, at: np.ndarray = at,
        ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
            """The highest IoU of each detection, -1 for none, and whom it is with: the first one at a tie."""
            values = np.where(where, overlap, -1.0)
            highest = np.maximum.reduceat(values, begins)
            order = np.arange(len(values))
            place = np.minimum.reduceat(np.where(values == highest[at], order, len(values)), begins)
            return highest, partner[place]

        of_class, own = best(same)
        of_other, other = best(~same)
        of_found, _ = best(same & found[partner])
        conditions = [
            (of_class >= background) & (of_class <= iou),
            of_other >= iou,
            of_found >= iou,
            np.maximum(of_class, of_other) <= background,
        ]
        kind[part] = np.select(conditions, [LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND], BOTH)
        about[part] = np.select(conditions[:2], [own, other], -1)
    return kind, about


def _counts(told: Assigned) -> dict[str, int]:
    counts = {f"n/{name}": int((told.kind == number).sum()) for number, name in enumerate(ERROR_KINDS)}
    return {"n/right": int((told.kind == RIGHT).sum())} | counts | {"n/missed": int(told.missed.sum())}


def best_threshold(said: Detections, truth: Annotations) -> float | None:
    """The score at and above which F1 over all boxes is highest, at an IoU of 0.5; None where no box is right."""
    assigned = assign_errors(said, truth)
    counted = np.flatnonzero(assigned.kind >= -1)
    order = counted[np.argsort(-said.score[counted], kind="stable")]
    right = np.cumsum(assigned.kind[order] == -1)
    f1 = 2 * right / (np.arange(1, len(order) + 1) + (~truth.crowd).sum())
    if not len(order) or not right[-1]:
        return None
    # Rounded down: the score itself is still above it when it is read from a file of 32-bit floats.
    return float(np.floor(said.score[order[int(np.argmax(f1))]] * 1e4) / 1e4)
