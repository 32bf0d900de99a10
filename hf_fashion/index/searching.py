"""Exact search through segments: one pass in bfloat16 where the CPU has it, and every candidate weighed again.

A product in bfloat16 is off by less than can be told beforehand from how far rounding moved the vectors. So what lies
that near to the k-th best is weighed in float32, and nothing that belongs to the first k is lost.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from hf_fashion.devices import supports_bf16
from hf_fashion.index.segments import Segment, rounded

_SCORES = 2**22  # in memory at once
_QUERIES = 256
_LEAST, _MOST = 1024, 65536  # rows of a block
_BF16 = 2.0**-8  # the share of itself that a number loses at most when it is rounded to bfloat16
_SUMS = 2.0**-14  # the same for the order of a sum in float32, by far
_DENSE = 16  # candidates that are more than this part of a block are weighed by one product of all
_LOWEST = -1e38  # no score is lower, but for the -inf of what may not be found
_PAIRS = 2**22  # numbers of vectors that are gathered at once


def top(
    segments: Sequence[Segment], queries: np.ndarray, k: int, allowed: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """The k largest inner products of each query.

    Args:
        segments: Those searched.
        queries: (n, d) float32.
        k: How many are wanted.
        allowed: For each segment which rows may be found (rows,) bool; None for all.

    Returns:
        Places (n, k) int64 in the segments as if they were one behind the other, and scores (n, k) float32, the best
        first; -1 and -inf where there are fewer. Of equal scores the first place stands first.
    """
    parts = [_top(segments, queries[at : at + _QUERIES], k, allowed) for at in range(0, len(queries), _QUERIES)]
    return np.concatenate([places for places, _ in parts]), np.concatenate([scores for _, scores in parts])


def _top(
    segments: Sequence[Segment], queries: np.ndarray, k: int, allowed: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    exact = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
    is_coarse = supports_bf16("cpu")
    asked = rounded(queries) if is_coarse else exact
    length, moved = exact.norm(dim=1), (exact - asked.float()).norm(dim=1)
    places = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    first = 0
    for segment, mask in zip(segments, allowed, strict=True):
        off = _off(length, moved, segment.told["norm"], segment.told["rounding"] if is_coarse else 0.0)
        for rows, closed in _blocks(segment.rows, mask, min(max(_SCORES // len(queries), _LEAST), _MOST)):
            if is_coarse:
                held = torch.from_numpy(segment.coarse[rows]).view(torch.bfloat16)
            else:
                held = torch.from_numpy(segment.vectors[rows])
            near = held @ asked.T  # twice as fast as the other way round
            if closed is not None:
                near[closed] = -torch.inf
            asks, found = _candidates(near, torch.from_numpy(scores[:, -1]), off, k)
            if len(asks) > near.numel() // _DENSE and is_coarse:
                near = exact @ torch.from_numpy(segment.vectors[rows]).T
                if closed is not None:
                    near[:, closed] = -torch.inf
                best, column = (made.numpy() for made in near.topk(min(k, near.shape[1]), dim=1))
                asks, rank = np.nonzero(best > -np.inf)
                weighed, found = best[asks, rank], column[asks, rank]
            else:
                weighed = _weigh(exact, segment.vectors, asks, _numbers(rows, found))
            _merge(places, scores, asks, _numbers(rows, found) + first, weighed)
        first += segment.rows
    return places, scores


def _off(length: torch.Tensor, moved: torch.Tensor, norm: float, rounding: float) -> torch.Tensor:
    """How far products of rounded vectors may be off (queries,), before they are rounded themselves.

    Args:
        length: Of the queries.
        moved: How far rounding moved each query.
        norm: Of the longest vector.
        rounding: How far rounding moved a vector at most.
    """
    return moved * norm + (length + moved) * rounding + _SUMS * length * norm


def _blocks(rows: int, mask: np.ndarray | None, size: int) -> Iterator[tuple[slice | np.ndarray, torch.Tensor | None]]:
    """Rows that are looked at together, and which of them may not be found; of few that may, these alone."""
    if mask is not None and (open_rows := np.flatnonzero(mask)).size < rows // 2:
        for start in range(0, len(open_rows), size):
            yield open_rows[start : start + size], None
        return
    for start in range(0, rows, size):
        block = slice(start, min(start + size, rows))
        closed = None if mask is None else torch.from_numpy(np.flatnonzero(~mask[block]))
        yield block, closed


def _numbers(rows: slice | np.ndarray, found: np.ndarray) -> np.ndarray:
    """Columns of a block -> rows of the segment."""
    return found + rows.start if isinstance(rows, slice) else rows[found]


def _candidates(near: torch.Tensor, worst: torch.Tensor, off: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """What may belong to the first k, as pairs of query and column, by query.

    Args:
        near: Scores (columns, queries), each off by at most `off`, and by what rounding to its type takes; -inf for
            what may not be found.
        worst: The k-th best exact score so far (queries,), -inf where there are fewer.
        off: (queries,).
        k: How many are wanted.
    """
    is_coarse = near.dtype == torch.bfloat16
    lost = _BF16 if is_coarse else 0.0
    fresh = (worst == -torch.inf).nonzero()[:, 0]
    if len(fresh):  # k others of this block are at least so good
        best = near[:, fresh].T.contiguous().topk(min(k, len(near)), dim=1).values[:, -1].float()
        worst = worst.index_copy(0, fresh, best - best.abs() * lost - off[fresh])
    floor = (worst - off - worst.abs() * lost).clamp_min(_LOWEST)
    passed = _at_least(near, floor) if is_coarse else (near >= floor).numpy()
    columns, asks = np.divmod(np.flatnonzero(passed), near.shape[1])
    return asks, columns


def _at_least(near: torch.Tensor, floor: torch.Tensor) -> np.ndarray:
    """Where scores in bfloat16 (columns, queries) are at least a float32 (queries,), or nearly: it is rounded down."""
    # Its upper half is the number in bfloat16 next to it, on the side of zero.
    down = (floor.numpy().view(np.int32) >> 16).astype(np.int16)
    if (down > 0).all():  # then they are in the order of their bits, which is ten times as fast
        made: np.ndarray = near.view(torch.int16).numpy() >= down
        return made
    down[down < 0] += 1  # away from zero
    return (near >= torch.from_numpy(down).view(torch.bfloat16)).numpy()


def _weigh(queries: torch.Tensor, vectors: np.ndarray, asks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products in float32 of pairs of a query and a row."""
    weighed = np.empty(len(rows), dtype=np.float32)
    step = max(1, _PAIRS // vectors.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        weighed[part] = (
            (queries[torch.from_numpy(asks[part])] * torch.from_numpy(vectors[rows[part]])).sum(dim=1).numpy()
        )
    return weighed


def _merge(places: np.ndarray, scores: np.ndarray, asks: np.ndarray, found: np.ndarray, weighed: np.ndarray) -> None:
    """Puts pairs among the best of their queries, in place."""
    if not len(asks):
        return
    touched, asks = np.unique(asks, return_inverse=True)
    k = places.shape[1]
    query = np.concatenate([np.repeat(np.arange(len(touched)), k), asks])
    place = np.concatenate([places[touched].ravel(), found])
    score = np.concatenate([scores[touched].ravel(), weighed])
    order = np.lexsort((place, -score, query))
    start = np.searchsorted(query[order], np.arange(len(touched)))
    best = order[(start[:, None] + np.arange(k)).ravel()]  # each query has its k from before, at least
    places[touched], scores[touched] = place[best].reshape(-1, k), score[best].reshape(-1, k)
