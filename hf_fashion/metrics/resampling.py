"""COCO's average precision and recall of many draws of the photos at once, from matches that were made once.

A draw takes a photo w times. It would be matched the same each time, so a draw's curve is that of the whole set with
each detection counted w times: one sort by score serves all draws, and only the places of right detections need a
precision, since nowhere else the recall rises.
"""

from dataclasses import dataclass

import numpy as np

from hf_fashion.metrics.boxes import Annotations, Detections
from hf_fashion.metrics.matching import match, ranks

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# Square pixels, all sizes first.
SIZES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], dtype=float)
MAX_DETECTIONS = (1, 10, 100)
_NUMBERS = 8_000_000  # in memory at once


@dataclass(frozen=True)
class Draws:
    """Figures of each draw; NaN where it holds no box of a class and size.

    Args:
        precision: Average precision (draws, sizes, IoUs, classes).
        recall: Recall of the first `MAX_DETECTIONS` of a class in a photo (draws, 3, sizes, IoUs, classes).
    """

    precision: np.ndarray
    recall: np.ndarray


def resample(predictions: Detections, references: Annotations, n_labels: int, weights: np.ndarray) -> Draws:
    """What COCO's evaluation says of each draw.

    Where a photo holds two detections of one class and of equal scores, COCO ranks them as they happen to stand, and a
    photo that is taken twice a draw has them in turn; here each counts twice in its place.

    Args:
        predictions: What a detector says.
        references: What is there.
        n_labels: Classes.
        weights: How often each draw takes each photo (draws, photos).
    """
    rank = ranks(predictions.image, predictions.score, predictions.label)
    kept = rank < MAX_DETECTIONS[-1]
    predictions, rank = predictions[kept], rank[kept]
    matches = match(predictions, references, IOUS, SIZES)
    place = np.full(len(predictions), -1)
    place[matches.detection] = np.arange(len(matches.detection))
    counted = ~references.crowd & (references.area >= SIZES[:, :1]) & (references.area <= SIZES[:, 1:])
    area = predictions.box[:, 2] * predictions.box[:, 3]
    shape = (len(weights), len(SIZES), len(IOUS), n_labels)
    precision = np.full(shape, np.nan)
    recall = np.full((len(weights), len(MAX_DETECTIONS), *shape[1:]), np.nan)
    weights = weights.astype(np.int32)
    for label in range(n_labels):
        truth = np.flatnonzero(references.label == label)
        if not counted[0, truth].any():
            continue
        said = np.flatnonzero(predictions.label == label)
        said = said[np.lexsort((predictions.image[said], -predictions.score[said]))]
        image, near = predictions.image[said], place[said] >= 0
        rows = place[said[near]]
        right = (matches.match[:, :, rows] >= 0) & ~matches.ignored[:, :, rows]
        counts = ~matches.ignored[:, :, rows]
        within = (area[said] >= SIZES[:, :1]) & (area[said] <= SIZES[:, 1:])
        of_rank = rank[said[near]]
        for part in _parts(len(weights), len(said)):
            drawn = weights[part]
            of_near = drawn[:, image[near]]
            summed = of_near.astype(np.float32)  # whole numbers below 2 ** 24
            for size in range(len(SIZES)):
                total = drawn[:, references.image[truth[counted[size, truth]]]].sum(axis=1)
                far = within[size] & ~near
                before = np.zeros((len(drawn), far.sum() + 1), dtype=np.int32)
                np.cumsum(drawn[:, image[far]], axis=1, out=before[:, 1:])
                before = before[:, np.cumsum(far)[near]]  # wrong ones that are surer than each near one
                for iou in range(len(IOUS)):
                    hit = right[size, iou]
                    hits = np.cumsum(of_near[:, hit], axis=1, dtype=np.int32)
                    seen = np.cumsum(of_near * counts[size, iou], axis=1, dtype=np.int32) + before
                    precision[part, size, iou, label] = average_precision(hits, seen[:, hit], total)
                for number, most in enumerate(MAX_DETECTIONS):
                    hits = summed @ (right[size] & (of_rank < most)).T.astype(np.float32)
                    recall[part, number, size, :, label] = _share(hits.astype(float), total[:, None])
    return Draws(precision, recall)


def average_precision(hits: np.ndarray, seen: np.ndarray, total: np.ndarray) -> np.ndarray:
    """COCO's average precision, the mean over 101 recalls of the best precision at that recall or above.

    Args:
        hits: Right detections up to each right one, the surest first (draws, right ones).
        seen: All that count up to there (draws, right ones).
        total: Boxes that are there (draws,).

    Returns:
        (draws,), NaN where nothing is there.
    """
    draws, length = hits.shape
    if not length:
        return np.where(total > 0, 0.0, np.nan)
    precision = np.divide(hits, seen, out=np.zeros(hits.shape), where=seen > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # The fewest right ones whose recall, as it is rounded, reaches each of the 101.
    divisor = np.maximum(total, 1)[:, None]
    needed = np.ceil(RECALLS * divisor).astype(np.int64)
    needed -= (needed > 0) & ((needed - 1) / divisor >= RECALLS)
    needed += needed / divisor < RECALLS
    step = int(total.max(initial=0)) + 2
    row = np.arange(draws)[:, None]
    at = np.searchsorted((hits + row * step).ravel(), (needed + row * step).ravel()).reshape(needed.shape)
    at -= row * length
    reached = np.where(at < length, np.take_along_axis(best, np.minimum(at, length - 1), axis=1), 0.0)
    return np.where(total > 0, reached.mean(axis=1), np.nan)


def _share(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.divide(part, total, out=np.full(part.shape, np.nan), where=total > 0)


def _parts(draws: int, length: int) -> list[slice]:
    size = max(1, _NUMBERS // max(1, length))
    return [slice(start, min(start + size, draws)) for start in range(0, draws, size)]
