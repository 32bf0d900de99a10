"""Every two of several models or runs, paired row by row: by how much one is better, or a tie."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_fashion import metrics
from hf_fashion.report import cell

WIDTH = 80  # characters of a run's or a model's name


def pairs(right: Mapping[str, np.ndarray], *, seed: int = 0) -> list[dict[str, Any]]:
    """`metrics.paired` of every two models, the more accurate one first.

    With more than two models there are several tests, and a false alarm becomes likelier with each: p is corrected
    (`metrics.holm`), and the verdict goes by the corrected one. Intervals are of each pair alone.

    Args:
        right: Model -> (n,) whether its predictions are right; the same rows in the same order for all.
        seed: Seed of the bootstrap.

    Returns:
        For each pair the figures of `metrics.paired`, the names `a` and `b`, `p_holm`, `tie` by that p, `tests` (how
        many pairs there are) and `verdict`, a sentence.
    """
    order = sorted(right, key=lambda name: -right[name].mean())
    found = [
        {"a": a, "b": b, **metrics.paired(right[a], right[b], seed=seed)} for a, b in itertools.combinations(order, 2)
    ]
    return _corrected(found)


def _corrected(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for pair, p in zip(found, metrics.holm([pair["p"] for pair in found]), strict=True):
        pair |= {"p_holm": p, "tie": pair["tie"] or p >= 0.05, "tests": len(found)}
        pair["verdict"] = _verdict(pair)
    return found


def pairs_by_map(scores: Mapping[str, np.ndarray], references: np.ndarray, *, seed: int = 0) -> list[dict[str, Any]]:
    """`metrics.paired_map` of every two models, the one of the higher mean average precision first.

    Args:
        scores: Model -> (n, K) probabilities; the same rows and labels in the same order for all.
        references: (n, K) of 1, 0 and NaN (not known).
        seed: Seed of the bootstrap.

    Returns:
        As `pairs`, with the figures of `metrics.paired_map`.
    """
    names = list(scores)
    compared = metrics.paired_map(list(scores.values()), references, seed=seed)
    order = sorted(range(len(names)), key=lambda number: -compared[number][number]["map_a"])
    found = [{"a": names[a], "b": names[b], **compared[a][b]} for a, b in itertools.combinations(order, 2)]
    return _corrected(found)


def pairs_by_item(
    right: Mapping[str, np.ndarray], items: Sequence[str] | None = None, *, seed: int = 0
) -> list[dict[str, Any]]:
    """`pairs` of rows that belong to items: those of one item are right, or wrong, together.

    Args:
        right: As there.
        items: (n,) the item of each row; None where each row is by itself.
        seed: Seed of the bootstrap.

    Returns:
        As `pairs`; where items have several rows with the figures of `metrics.paired_by_item`.
    """
    if items is None or len(set(items)) == len(items):
        return pairs(right, seed=seed)
    order = sorted(right, key=lambda name: -right[name].mean())
    return _corrected(
        [
            {"a": a, "b": b, **metrics.paired_by_item(right[a], right[b], items, seed=seed)}
            for a, b in itertools.combinations(order, 2)
        ]
    )


def ends(figures: Mapping[str, Any], metric: str) -> tuple[float, float | None, float | None]:
    low, high = (figures.get(key) for key in metrics.interval_keys(metric))
    return figures[metric], low, high


def in_words(figures: Mapping[str, Any], metric: str) -> str:
    _, low, high = ends(figures, metric)
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def verdicts(found: Sequence[Mapping[str, Any]], best: str | None = None) -> list[str]:
    """A line a pair, of the best one's only when it is named; and how p was corrected."""
    lines = [pair["verdict"] for pair in found if best is None or pair["a"] == best]
    if len(found) > 1:
        lines.append(
            f"p is Holm's, for {len(found)} pairs; intervals (95 %) are of each pair alone. "
            "A tie: p is not below 0.05, or the interval holds 0."
        )
    return lines


def _verdict(pair: Mapping[str, Any]) -> str:
    points, low, high = (pair[key] for key in ("difference", "difference_low", "difference_high"))
    p = "p < 0.001" if pair["p_holm"] < 0.001 else f"p = {pair['p_holm']:.3f}"
    test = "paired bootstrap" if "map_a" in pair else "McNemar"
    test = f"randomization over {pair['items']} items" if "items" in pair else test
    test = f"{test} {p}{' (Holm)' if pair['tests'] > 1 else ''}, n = {pair['n']}"
    a, b = (cell(pair[name], WIDTH) for name in ("a", "b"))
    between = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    if pair["tie"]:
        return f"a tie: {a} and {b}, {100 * points:.1f} points apart{between}, {test}"
    return f"{a} is better than {b} by {100 * points:.1f} points{between}, {test}"
