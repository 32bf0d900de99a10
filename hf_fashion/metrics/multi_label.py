"""Figures of several labels a row, some of them not known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_fashion.metrics.intervals import N_RESAMPLES, divide, draw_rows, interval_ends, mean_over

HALF = 0.5


def attributes(
    scores: np.ndarray,
    references: np.ndarray,
    predictions: np.ndarray,
    labels: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    exclusive: Sequence[str] = (),
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Average precision, precision, recall and F1 of each label, their means, and by group; with 95 % intervals.

    A row counts for a label where its truth is known. Means are over the labels that have a known yes (for `map`) or
    that occur in references or predictions (for F1). Micro figures count all known pairs of row and label.

    Args:
        scores: (n, K) probabilities: rows of each label are ranked by them.
        references: (n, K) of 1, 0 and NaN (not known).
        predictions: (n, K) bool: what was said.
        labels: (K,) names.
        groups: Name -> the numbers of its labels.
        exclusive: Groups of which a row has exactly one label: these get an `accuracy`.
        n_resamples: Draws of the bootstrap over rows; 0 leaves the intervals out.
        seed: Seed of the draws.

    Returns:
        A flat dict: `n` (rows), `map`, `f1_macro`, `f1_micro`, `precision_macro`, `recall_macro`; by group
        `map/<group>`, `f1_macro/<group>`, `accuracy/<group>` of exclusive ones, `known/<group>` (rows); by label
        `ap/<label>`, `precision/<label>`, `recall/<label>`, `f1/<label>`, `n/<label>` (rows that have it) and
        `known/<label>`; the ends of intervals as in `classification`. What is not defined is None.

    Raises:
        ValueError: Shapes that do not fit, no rows, scores that are not finite, a group called as a label that is
            known of other rows.
    """
    scores, references = np.asarray(scores, dtype=float), np.asarray(references, dtype=float)
    predictions = np.asarray(predictions, dtype=bool)
    shape = (len(scores), len(labels))
    if not scores.shape == references.shape == predictions.shape == shape or not len(scores):
        found = f"{scores.shape}, {references.shape}, {predictions.shape}"
        raise ValueError(f"scores, references and predictions must all be (n, {len(labels)}), found {found}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    known = ~np.isnan(references)
    truth = known & (np.nan_to_num(references) > HALF)
    said = predictions & known
    draws = draw_rows(len(scores), n_resamples, seed)
    hits, guessed, held = (draws @ part.astype(float) for part in (said & truth, said, truth))
    ap = average_precisions(scores, references, draws)
    precision, recall, f1 = divide(hits, guessed), divide(hits, held), divide(2 * hits, guessed + held)
    occurs = (guessed + held) > 0
    values: dict[str, np.ndarray] = {"map": mean_over(ap, np.isfinite(ap))}
    for name, part in (("precision_macro", precision), ("recall_macro", recall), ("f1_macro", f1)):
        values[name] = mean_over(np.nan_to_num(part), occurs)
    values["f1_micro"] = divide(2 * hits.sum(axis=1), (guessed + held).sum(axis=1))
    rows: dict[str, float] = {}
    for group, members in groups.items():
        chosen = list(members)
        values[f"map/{group}"] = mean_over(ap[:, chosen], np.isfinite(ap[:, chosen]))
        values[f"f1_macro/{group}"] = mean_over(np.nan_to_num(f1[:, chosen]), occurs[:, chosen])
        rows[f"map/{group}"] = rows[f"f1_macro/{group}"] = int(known[:, chosen].any(axis=1).sum())
        if group in exclusive:
            of_group = known[:, chosen].all(axis=1)
            right = (said[:, chosen] & truth[:, chosen]).any(axis=1)
            values[f"accuracy/{group}"] = divide(draws @ right.astype(float), draws @ of_group.astype(float))
            rows[f"accuracy/{group}"] = int(of_group.sum())
    counts = {"ap": held[0], "precision": guessed[0], "recall": held[0], "f1": (guessed[0] + held[0]) / 2}
    for name, part in (("ap", ap), ("precision", precision), ("recall", recall), ("f1", f1)):
        for number, label in enumerate(labels):
            values[f"{name}/{label}"] = part[:, number]
            rows[f"{name}/{label}"] = counts[name][number]
    results: dict[str, Any] = {"n": len(scores)}
    results |= {name: None if np.isnan(draw[0]) else float(draw[0]) for name, draw in values.items()}
    results |= {f"known/{group}": int(known[:, list(members)].any(axis=1).sum()) for group, members in groups.items()}
    for number, label in enumerate(labels):
        rows_known = int(known[:, number].sum())
        if results.get(f"known/{label}", rows_known) != rows_known:  # one key, and it would say two things
            raise ValueError(f"a group and a label are both called {label!r}, and are known of different rows")
        results |= {f"n/{label}": int(truth[:, number].sum()), f"known/{label}": rows_known}
    if n_resamples:
        results |= interval_ends(results, {name: draw[1:] for name, draw in values.items()}, rows)
    return results


def average_precisions(scores: np.ndarray, references: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Average precision of each label (draws, K) on the rows of which it is known."""
    # Of very many labels and rows fewer draws, at least 100: it is sorted weights that take the time.
    few = draws[: 1 + max(100, int(4e9 / scores.size))]
    by_label = [
        average_precision(scores[known, k], references[known, k] > HALF, few[:, known])
        for k, known in enumerate(~np.isnan(references.T))
    ]
    return np.stack(by_label, axis=1)


def average_precision(scores: np.ndarray, truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Average precision as scikit-learn's, of each draw (draws, n) of the rows; NaN where it has no row of a yes."""
    if not truth.any():
        return np.full(len(draws), np.nan)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # equal scores are one step of the curve
    weights = draws[:, order]
    seen, found = weights.cumsum(axis=1)[:, ends], (weights * truth[order]).cumsum(axis=1)[:, ends]
    steps = np.diff(found, axis=1, prepend=0.0)
    return divide((steps * np.nan_to_num(divide(found, seen))).sum(axis=1), found[:, -1])
