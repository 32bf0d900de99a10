"""Search in a gallery: the ranks of the right answers, the first answers, and the figures of both.

A score is an inner product of 32 bits, added up in 64: equal vectors have equal scores wherever they stand, and an
encoder that says the same of all photos finds nothing instead of a part by luck.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hf_fashion.metrics.intervals import N_RESAMPLES, interval_ends

SEED = 42
KS = (1, 5, 10)
_DEPTH = 10  # of nDCG
_BLOCK = 8_000_000  # scores in memory at once
_GALLERY = 8192  # vectors of the gallery at once

Places = Sequence[np.ndarray] | Sequence[Sequence[int]]


def rank_relevant(
    queries: np.ndarray,
    gallery: np.ndarray,
    relevant: Places,
    ignored: Places | None = None,
    *,
    block: int = _BLOCK,
) -> list[np.ndarray]:
    """The ranks of each query's right answers among the gallery, by inner product.

    Of equal scores the wrong answers stand first. An answer that is ignored is not in the gallery, also where it is
    right: so the query's own photo is taken out.

    Args:
        queries: (n, d) vectors, of length 1 for cosine similarity.
        gallery: (m, d) vectors; an array on the disk (`numpy.memmap`) is read in parts.
        relevant: Of each query the places (rows of `gallery`) of its right answers.
        ignored: Of each query the places that are left out.
        block: Scores in memory at once, never all n x m of them.

    Returns:
        Of each query the ranks of its right answers, from 1 on and ascending; empty where it has none.

    Raises:
        ValueError: Shapes that do not fit, vectors that are not finite, places outside the gallery.
    """
    queries, gallery = _checked(queries, gallery, block)
    right = _places(relevant, len(queries), len(gallery), "relevant")
    without = _places(ignored, len(queries), len(gallery), "ignored")
    right = [
        np.setdiff1d(places, out, assume_unique=True) if len(out) else places
        for places, out in zip(right, without, strict=True)
    ]
    ranks: list[np.ndarray] = []
    for rows in _slices(len(queries), max(1, block // min(_GALLERY, block, len(gallery)))):
        asked, offset = _vectors(queries, rows, "queries"), rows.start
        best = [_descending(asked[row - offset], gallery, right[row], block) for row in _numbers(rows)]
        wrong = [np.zeros(len(scores), dtype=np.int64) for scores in best]
        for part, scores in _scores(asked, gallery, block):
            _hide(scores, right, rows, part)
            _hide(scores, without, rows, part)
            for row, own in enumerate(best):
                if len(own):
                    near = np.sort(scores[row, scores[row] >= own[-1]])
                    wrong[row] += len(near) - np.searchsorted(near, own)
        ranks += [count + np.arange(1, len(count) + 1) for count in wrong]
    return ranks


def top(
    queries: np.ndarray, gallery: np.ndarray, k: int, ignored: Places | None = None, *, block: int = _BLOCK
) -> tuple[np.ndarray, np.ndarray]:
    """The k places of the gallery with the highest inner products, the first place at a tie.

    Args:
        queries: (n, d) vectors.
        gallery: (m, d) vectors.
        k: How many; at most the size of the gallery.
        ignored: Of each query the places that are left out.
        block: Scores in memory at once.

    Returns:
        Places and scores, both (n, k); -1 and minus infinity where a query has fewer than k places left.

    Raises:
        ValueError: Shapes that do not fit, vectors that are not finite, places outside the gallery, k below 1 or above
            the size of the gallery.
    """
    queries, gallery = _checked(queries, gallery, block)
    without = _places(ignored, len(queries), len(gallery), "ignored")
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k must be 1 to {len(gallery)}, the size of the gallery; found {k}")
    places = np.full((len(queries), k), -1, dtype=np.int64)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for rows in _slices(len(queries), max(1, block // min(_GALLERY, block, len(gallery)))):
        asked = _vectors(queries, rows, "queries")
        for part, scores in _scores(asked, gallery, block):
            _hide(scores, without, rows, part)
            first = _first(scores, k)
            # Those of before stand in front, so that the first place wins a tie, and none one that is left out.
            both = np.concatenate([best[rows], np.take_along_axis(scores, first, axis=1)], axis=1)
            where = np.concatenate([places[rows], first + part.start], axis=1)
            order = np.argsort(-both, axis=1, kind="stable")[:, :k]
            best[rows] = np.take_along_axis(both, order, axis=1)
            places[rows] = np.take_along_axis(where, order, axis=1)
    return places, best


def retrieval(
    ranks: Places,
    ks: Sequence[int] = KS,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
    groups: Sequence[Any] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Figures of a search, means over queries, with 95 % intervals.

    Args:
        ranks: Of each query the ranks of all its right answers in the gallery, from 1 on: what `rank_relevant` gives.
        ks: For recall.
        n_resamples: Draws of the bootstrap over queries; 0 leaves the intervals out.
        seed: Seed of the draws: with the same queries two encoders are compared on the same draws.
        groups: (n,) what each query belongs to (its item): whole groups are drawn, since photos of one item are found,
            or not, together.

    Returns:
        A flat dict: `n` (queries) and

        - `recall_at_<k>`: share of queries with a right answer among the first k, as DeepFashion's benchmarks count
        - `map_at_r`: of a query with R right answers, the sum of the precisions at the right ones among the first R,
          over R (Musgrave, Belongie, Lim, A Metric Learning Reality Check, ECCV 2020, arXiv 2003.08505)
        - `mrr`: mean of 1 / rank of the first right answer
        - `ndcg_at_10`: a right answer at rank r gives 1 / log2(r + 1), over what the best order gives (Järvelin and
          Kekäläinen, ACM Transactions on Information Systems 20, 2002)

        each with the ends of its interval as `<name>_low` and `<name>_high`.

    Raises:
        ValueError: No query, a query without a right answer, ranks that are none, groups of another length.
    """
    values = query_figures(ranks, ks)
    results: dict[str, Any] = {"n": len(ranks)}
    results |= {name: float(value.mean()) for name, value in values.items()}
    if n_resamples:
        draws, drawn = _draw(values, groups, n_resamples, np.random.default_rng(seed))
        results |= interval_ends(results, draws, dict.fromkeys(values, drawn))
    return results


def retrieval_macro(
    ranks: Mapping[str, Places],
    ks: Sequence[int] = KS,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
    groups: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
) -> dict[str, Any]:
    """Figures of searches in several galleries and their mean, as Fashion IQ's over dresses, shirts and tops.

    Args:
        ranks: Name of each part -> what `retrieval` takes.
        ks: See there.
        n_resamples: See there; each part is drawn by itself.
        seed: See there.
        groups: Name of each part -> what `retrieval` takes.

    Returns:
        The figures of `retrieval`, means over the parts, each of which counts alike; those of a part as
        `recall_at_1/<part>`, `recall_at_1_low/<part>`, `n/<part>` and so on.

    Raises:
        ValueError: No part, and what `retrieval` raises, with the name of the part.
    """
    if not ranks:
        raise ValueError("no part to evaluate")
    results: dict[str, Any] = {"n": sum(len(part) for part in ranks.values())}
    rng = np.random.default_rng(seed)
    draws: list[dict[str, np.ndarray]] = []
    drawn = 0
    for part, of_part in ranks.items():
        try:
            values = query_figures(of_part, ks)
            results |= {f"n/{part}": len(of_part)}
            results |= {f"{name}/{part}": float(value.mean()) for name, value in values.items()}
            if n_resamples:
                of_draws, count = _draw(values, None if groups is None else groups[part], n_resamples, rng)
                draws.append(of_draws)
                drawn += count
                named = {f"{name}/{part}": draw for name, draw in of_draws.items()}
                results |= interval_ends(results, named, dict.fromkeys(named, count))
        except ValueError as error:
            raise ValueError(f"{part}: {error}") from error
    means = {name: float(np.mean([results[f"{name}/{part}"] for part in ranks])) for name in values}
    results |= means
    if n_resamples:
        together = {name: np.mean([of_draws[name] for of_draws in draws], axis=0) for name in means}
        results |= interval_ends(results, together, dict.fromkeys(means, drawn))
    return results


def query_figures(ranks: Places, ks: Sequence[int] = KS) -> dict[str, np.ndarray]:
    """The figures of each query by itself, as a paired test of two encoders needs them.

    Args:
        ranks: Of each query the ranks of its right answers, as `retrieval` takes them.
        ks: For recall.

    Returns:
        Name as in `retrieval` -> (n,) values between 0 and 1; those of recall are 0 or 1.

    Raises:
        ValueError: No query, a query without a right answer, ranks that are none.
    """
    if not ks or min(ks) < 1 or len(set(ks)) != len(ks):
        raise ValueError(f"ks must be different numbers from 1 on, found {tuple(ks)}")
    if not len(ranks):
        raise ValueError("no queries to evaluate")
    sizes = np.array([len(of_query) for of_query in ranks])
    if (sizes == 0).any():
        raise ValueError(
            f"query {sizes.argmin()} has no right answer in the gallery ({(sizes == 0).sum()} of {len(sizes)} have"
            " none): leave these queries out, and say how many they are"
        )
    flat, query = np.concatenate([np.asarray(of_query) for of_query in ranks]), np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((flat, query))
    flat, starts = flat[order], np.cumsum(sizes) - sizes
    twice = (np.diff(flat) == 0) & (np.diff(query) == 0)
    if flat.dtype.kind not in "iu" or flat.min() < 1 or twice.any():
        raise ValueError("ranks must be whole numbers from 1 on, each once a query")
    first = flat[starts]
    values = {f"recall_at_{k}": (first <= k).astype(float) for k in ks}
    precision = (np.arange(len(flat)) - np.repeat(starts, sizes) + 1) / flat
    within = flat <= np.repeat(sizes, sizes)
    values["map_at_r"] = np.add.reduceat(np.where(within, precision, 0.0), starts) / sizes
    values["mrr"] = 1 / first
    gains = 1 / np.log2(np.arange(2, _DEPTH + 2))
    gained = np.where(flat <= _DEPTH, gains[np.minimum(flat, _DEPTH) - 1], 0.0)
    values["ndcg_at_10"] = np.add.reduceat(gained, starts) / gains.cumsum()[np.minimum(sizes, _DEPTH) - 1]
    return values


def _draw(
    values: Mapping[str, np.ndarray],
    groups: Sequence[Any] | np.ndarray | None,
    n_resamples: int,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], int]:
    """Each figure on each draw of whole groups (draws,), and how many groups there are."""
    n = len(next(iter(values.values())))
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups must be of the same {n} queries, found {len(groups)}")
    group = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes = np.bincount(group)
    sums = np.stack([np.bincount(group, weights=value) for value in values.values()], axis=1)
    draws = np.empty((n_resamples, len(values)))
    for draw in range(n_resamples):
        taken = np.bincount(rng.integers(0, len(sizes), len(sizes)), minlength=len(sizes))
        draws[draw] = (taken @ sums) / (taken @ sizes)
    return dict(zip(values, draws.T, strict=True)), len(sizes)


def _checked(queries: np.ndarray, gallery: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    queries, gallery = np.asanyarray(queries), np.asanyarray(gallery)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"vectors must be (n, d) and (m, d), found {queries.shape} and {gallery.shape}")
    if not len(queries) or not len(gallery):
        raise ValueError(f"no vectors: {len(queries)} queries, {len(gallery)} in the gallery")
    if block < 1:
        raise ValueError(f"block must be 1 or more, found {block}")
    return queries, gallery


def _places(places: Places | None, n: int, m: int, name: str) -> list[np.ndarray]:
    """Of each query its places, sorted, each once."""
    if places is None:
        return [np.empty(0, dtype=np.int64)] * n
    if len(places) != n:
        raise ValueError(f"{name} must have places of {n} queries, found {len(places)}")
    known: dict[int, tuple[Any, np.ndarray]] = {}  # queries may share one array, which may be long
    found = []
    for row, one in enumerate(places):
        if id(one) not in known:
            array = np.asarray(one)
            if len(array) and (array.ndim != 1 or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= m):
                raise ValueError(f"{name} of query {row} must be places from 0 to {m - 1}, found {array}")
            known[id(one)] = one, np.unique(array.astype(np.int64))  # held, or its id may become another's
        found.append(known[id(one)][1])
    return found


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _numbers(rows: slice) -> range:
    return range(rows.start, rows.stop)


def _vectors(vectors: np.ndarray, rows: slice, name: str) -> np.ndarray:
    found = vectors[rows].astype(np.float64)
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        raise ValueError(f"vectors must be finite; row {rows.start + int(finite.argmin())} of {name} is not")
    return found


def _scores(asked: np.ndarray, gallery: np.ndarray, block: int) -> Iterator[tuple[slice, np.ndarray]]:
    for part in _slices(len(gallery), min(_GALLERY, max(1, block // len(asked)))):
        yield part, (asked @ _vectors(gallery, part, "the gallery").T).astype(np.float32)


def _descending(asked: np.ndarray, gallery: np.ndarray, places: np.ndarray, block: int) -> np.ndarray:
    """The scores of one query's right answers, the highest first."""
    parts = [
        (gallery[places[part]].astype(np.float64) @ asked).astype(np.float32)
        for part in _slices(len(places), max(1, min(_GALLERY, block)))
    ]
    return np.sort(np.concatenate([np.empty(0, np.float32), *parts]))[::-1]


def _hide(scores: np.ndarray, places: Sequence[np.ndarray], rows: slice, part: slice) -> None:
    """Sets the scores of each query's places below all others."""
    for number, row in enumerate(_numbers(rows)):
        low, high = np.searchsorted(places[row], [part.start, part.stop])
        scores[number, places[row][low:high] - part.start] = -np.inf


def _first(scores: np.ndarray, k: int) -> np.ndarray:
    """The columns of the k highest scores of each row, ascending; the first columns at a tie (n, at most k)."""
    if k >= scores.shape[1]:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    columns = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    last = np.take_along_axis(scores, columns, axis=1).min(axis=1, keepdims=True)
    for row in np.flatnonzero((scores >= last).sum(axis=1) > k):
        columns[row] = np.argsort(-scores[row], kind="stable")[:k]
    return np.sort(columns, axis=1)
