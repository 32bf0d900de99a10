"""Which box of a detector is right, at each IoU and for each size: COCO's greedy matching, for many photos at once.

`faster-coco-eval` matches too, and its figures are those that are reported (`hf_fashion.metrics.coco`); but what it
matched stays inside it, and the bootstrap needs it: matched once, the figures of 200 draws of the photos are sums. The
tests hold both to the same figures, on whole sets and on drawn ones.
"""

from dataclasses import dataclass

import numpy as np

from hf_fashion.metrics.boxes import Annotations, Detections, ious, pairs

MAX_DETECTIONS = 100  # of a class in a photo
_PAIRS = 2_000_000  # in memory at once


@dataclass(frozen=True)
class Matches:
    """Which detections are right.

    Most detections come near no box of their class: these are in no entry here, and wrong at each IoU.

    Args:
        detection: The detections that come near a box of their class (s,), by their place; from low to high.
        match: The place of the annotation that each is matched with, -1 for none (sizes, IoUs, s).
        ignored: Whether it counts neither as right nor as wrong (sizes, IoUs, s).
    """

    detection: np.ndarray
    match: np.ndarray
    ignored: np.ndarray


def ranks(image: np.ndarray, score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The place of each detection among those of its class in its photo (n,): 0 for the surest, the first at a tie."""
    order = np.lexsort((-score, label, image))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(image[order]) != 0) | (np.diff(label[order]) != 0)
    places = np.arange(len(order))
    found = np.empty(len(order), dtype=np.int64)
    found[order] = places - np.maximum.accumulate(np.where(new, places, 0))
    return found


def match(predictions: Detections, references: Annotations, thresholds: np.ndarray, sizes: np.ndarray) -> Matches:
    """Matches as COCO does (`evaluateImg` of pycocotools): surest first, each with the best box that is still free.

    Args:
        predictions: At most `MAX_DETECTIONS` of a class in a photo, by `ranks`.
        references: What is there.
        thresholds: IoUs from which on a box is found (IoUs,).
        sizes: Lowest and highest area in square pixels of each size (sizes, 2).
    """
    n_labels = 1 + max((int(part.label.max()) for part in (predictions, references) if len(part)), default=0)
    said = predictions.image * n_labels + predictions.label  # a group: one class in one photo
    there = references.image * n_labels + references.label
    by_group = np.argsort(there, kind="stable")
    first = np.searchsorted(there[by_group], said, side="left")
    counts = np.searchsorted(there[by_group], said, side="right") - first
    order = np.lexsort((-predictions.score, said))
    order = order[counts[order] > 0]
    # Where the IoU is 1, a threshold of 1 would be missed by rounding.
    needed = np.minimum(thresholds, 1 - 1e-10)
    outside = _outside(references.area, sizes) | references.crowd  # (sizes, m)
    found = [(np.empty(0, dtype=np.int64), np.empty((len(sizes), len(needed), 0), dtype=np.int32))]
    for chunk in _chunks(counts[order], said[order]):
        rows = order[chunk]
        at, partner = pairs(first[rows], counts[rows])
        partner = by_group[partner]
        iou = ious(predictions.box[rows[at]], references.box[partner], references.crowd[partner])
        near = iou >= needed.min()
        at, partner, iou = at[near], partner[near], iou[near]
        by_iou = np.lexsort((partner, iou, at))  # of equal IoUs COCO takes the box that stands last
        near_rows, start, size = np.unique(at, return_index=True, return_counts=True)
        group = said[rows[near_rows]]
        parts = partner[by_iou], iou[by_iou] >= needed[:, None], start, size
        found.append((rows[near_rows], _in_turn(group, *parts, outside, references.crowd)))
    detection = np.concatenate([part for part, _ in found])
    matched = np.concatenate([part for _, part in found], axis=2)
    by_place = np.argsort(detection)
    detection, matched = detection[by_place], matched[:, :, by_place]
    area = predictions.box[detection, 2] * predictions.box[detection, 3]
    ignored = np.broadcast_to(_outside(area, sizes)[:, None], matched.shape).copy()
    which = np.nonzero(matched >= 0)
    ignored[which] = outside[which[0], matched[which]]
    return Matches(detection, matched, ignored)


def _in_turn(
    group: np.ndarray,
    partner: np.ndarray,
    enough: np.ndarray,
    start: np.ndarray,
    size: np.ndarray,
    outside: np.ndarray,
    crowd: np.ndarray,
) -> np.ndarray:
    """The annotation that each detection takes, the surest first; -1 for none (sizes, IoUs, n).

    Round by round: the first detection of every group, then the second one of every group, and so on.

    Args:
        group: Of each detection (n,); those of a group come together, the surest first.
        partner: The annotations near the first detection, the better later, then those near the second (pairs,).
        enough: Whether each is near enough (IoUs, pairs).
        start: Where those of each detection begin (n,).
        size: How many it has (n,).
        outside: Whether an annotation is ignored (sizes, m).
        crowd: Whether it is a crowd, which several may take (m,).
    """
    n = len(group)
    turn = ranks(group, -np.arange(n), np.zeros(n, dtype=np.int64))
    free = np.ones((len(outside), len(enough), len(crowd)), dtype=bool)
    matched = np.full((len(outside), len(enough), n), -1, dtype=np.int32)
    for playing in filter(len, np.split(np.argsort(turn, kind="stable"), np.cumsum(np.bincount(turn)))):
        _, pair = pairs(start[playing], size[playing])
        boxes = partner[pair]
        possible = (free[:, :, boxes] | crowd[boxes]) & enough[:, pair]
        # Those that count come before those that are ignored; among these, the later the better.
        worth = np.where(possible, np.arange(1, len(pair) + 1) + len(pair) * ~outside[:, None, boxes], 0)
        best = np.maximum.reduceat(worth, np.cumsum(size[playing]) - size[playing], axis=2)
        taken = np.where(best > 0, boxes[(best - 1) % len(pair)], -1)
        matched[:, :, playing] = taken
        which = np.nonzero(taken >= 0)
        free[which[0], which[1], taken[which]] = False
    return matched


def _outside(area: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Whether an area is not of a size (sizes, n)."""
    return (area < sizes[:, :1]) | (area > sizes[:, 1:])


def _chunks(counts: np.ndarray, groups: np.ndarray) -> list[slice]:
    """Slices of things of at most `_PAIRS` partners together, where whole groups allow it."""
    begins = np.flatnonzero(np.diff(groups, prepend=-1))
    if not len(begins):
        return []
    load = (np.cumsum(counts) - counts)[begins] // _PAIRS
    cuts = begins[np.flatnonzero(np.diff(load, prepend=-1))]
    return [slice(int(a), int(b)) for a, b in zip(cuts, [*cuts[1:], len(counts)], strict=True)]
