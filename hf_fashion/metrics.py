"""Plain functions: arrays in, a flat dict out; each figure with n and a bootstrap interval.

The values are scikit-learn's. The intervals are percentile bootstraps over rows (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13): rows are drawn with replacement, the figure is computed again on
each draw on which it is defined, and the 2.5th and 97.5th percentiles are the ends of the 95 % interval. Where all
rows are right, or all wrong, every draw says the same, and a bootstrap would claim certainty: there the interval is
Wilson's for k of n (Journal of the American Statistical Association 22, 1927), n being the rows that it counts.

A class of few rows is missing in many draws and leaves their mean over classes, which is then higher than the figure.
So the draws of a macro figure are shifted until their mean is the figure. In simulations (300 repetitions,
`benchmarks/interval_coverage.py`) of 40 classes in a long tail and 268 rows their interval held the true value in
0.73, against 0.59 unshifted; of 10 classes and 80 rows in 0.94 against 0.92; of 100 classes and 1,000 rows in 0.60
against 0.25. It is too narrow where most classes have a handful of rows: then the mean itself is off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

CONFIDENCE = 0.95
N_RESAMPLES = 1000
MEANS = ("precision_macro", "recall_macro", "f1_macro", "map")  # over classes
HALF = 0.5
_Z = 1.959964  # of the normal distribution, for CONFIDENCE


def classification(
    scores: np.ndarray,
    references: np.ndarray,
    labels: Sequence[str],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy, top-5, precision, recall and F1 of single-label predictions, with 95 % intervals.

    Macro averages are over the classes that occur in references or predictions, as scikit-learn's are by default.
    Micro precision, recall and F1 of single-label predictions all equal accuracy; they are there by their names.

    Args:
        scores: (n, classes) logits or probabilities; the highest is the prediction, the first one at a tie.
        references: (n,) true class numbers, 0 to classes - 1.
        labels: Class names in the order of the columns of `scores`.
        n_resamples: Draws of the bootstrap; 0 leaves the intervals out.
        seed: Seed of the draws.

    Returns:
        A flat dict: `n`, each metric as a float, the ends of its interval as `<metric>_low` and `<metric>_high`; per
        class `precision/<label>`, `recall/<label>`, `f1/<label>`, their ends as `f1_low/<label>` and so on, and
        `n/<label>`. A figure of a class that occurs nowhere is None, and recall is None without rows of the class.
        `top_5_accuracy` is there only with more than five classes; of tied scores the first count, as for the
        prediction. `confusion_matrix` is a list of rows (true) of
        columns (predicted).

    Raises:
        ValueError: Shapes that do not fit, no rows, scores that are not finite, references out of range.
    """
    scores, references = np.asarray(scores), np.asarray(references)
    _check(scores, references, labels)
    classes = np.arange(len(labels))
    predictions = scores.argmax(axis=1)
    accuracy = float(accuracy_score(references, predictions))
    results: dict[str, Any] = {"n": len(references), "accuracy": accuracy}
    in_top_5 = None
    if len(labels) > 5:
        # scikit-learn gives ties to the higher class number, and the prediction is the lower one: turned round, no row
        # is right and not among the first five.
        turned = len(labels) - 1 - references, scores[:, ::-1]
        results["top_5_accuracy"] = float(top_k_accuracy_score(*turned, k=5, labels=classes))
        in_top_5 = _in_top(scores, references, k=5)
    for average in ("macro", "micro"):
        values = precision_recall_fscore_support(references, predictions, average=average, zero_division=0.0)[:3]
        for name, value in zip(("precision", "recall", "f1"), values, strict=True):
            results[f"{name}_{average}"] = float(value)
    by_class = precision_recall_fscore_support(references, predictions, labels=classes, zero_division=np.nan)
    matrix = confusion_matrix(references, predictions, labels=classes)
    counts = {"precision": matrix.sum(axis=0), "recall": matrix.sum(axis=1)}
    counts["f1"] = (counts["precision"] + counts["recall"]) / 2
    for name, values in zip(("precision", "recall", "f1"), by_class[:3], strict=True):
        for label, value in zip(labels, values, strict=True):
            results[f"{name}/{label}"] = None if np.isnan(value) else float(value)
    for label, count in zip(labels, by_class[3], strict=True):
        results[f"n/{label}"] = int(count)
    if n_resamples:
        draws = _resample(predictions, references, in_top_5, labels, n_resamples, seed)
        rows = {f"{name}/{label}": counts[name][i] for name in counts for i, label in enumerate(labels)}
        results |= _intervals(results, draws, rows)
    results["confusion_matrix"] = matrix.tolist()
    return results


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
    draws = _draws(len(scores), n_resamples, seed)
    hits, guessed, held = (draws @ part.astype(float) for part in (said & truth, said, truth))
    ap = _average_precisions(scores, references, draws)
    precision, recall, f1 = _divide(hits, guessed), _divide(hits, held), _divide(2 * hits, guessed + held)
    occurs = (guessed + held) > 0
    values: dict[str, np.ndarray] = {"map": _mean(ap, np.isfinite(ap))}
    for name, part in (("precision_macro", precision), ("recall_macro", recall), ("f1_macro", f1)):
        values[name] = _mean(np.nan_to_num(part), occurs)
    values["f1_micro"] = _divide(2 * hits.sum(axis=1), (guessed + held).sum(axis=1))
    rows: dict[str, float] = {}
    for group, members in groups.items():
        chosen = list(members)
        values[f"map/{group}"] = _mean(ap[:, chosen], np.isfinite(ap[:, chosen]))
        values[f"f1_macro/{group}"] = _mean(np.nan_to_num(f1[:, chosen]), occurs[:, chosen])
        rows[f"map/{group}"] = rows[f"f1_macro/{group}"] = int(known[:, chosen].any(axis=1).sum())
        if group in exclusive:
            of_group = known[:, chosen].all(axis=1)
            right = (said[:, chosen] & truth[:, chosen]).any(axis=1)
            values[f"accuracy/{group}"] = _divide(draws @ right.astype(float), draws @ of_group.astype(float))
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
        results |= _intervals(results, {name: draw[1:] for name, draw in values.items()}, rows)
    return results


def _draws(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each draw takes each row (1 + n_resamples, n).

    The first draw is the data themselves: one computation gives the figures and their intervals.
    """
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    return np.concatenate([np.ones((1, n)), drawn])


def _average_precisions(scores: np.ndarray, references: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Average precision of each label (draws, K) on the rows of which it is known."""
    # Of very many labels and rows fewer draws, at least 100: it is sorted weights that take the time.
    few = draws[: 1 + max(100, int(4e9 / scores.size))]
    by_label = [
        _average_precision(scores[known, k], references[known, k] > HALF, few[:, known])
        for k, known in enumerate(~np.isnan(references.T))
    ]
    return np.stack(by_label, axis=1)


def _average_precision(scores: np.ndarray, truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Average precision as scikit-learn's, of each draw (draws, n) of the rows; NaN where it has no row of a yes."""
    if not truth.any():
        return np.full(len(draws), np.nan)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # equal scores are one step of the curve
    weights = draws[:, order]
    seen, found = weights.cumsum(axis=1)[:, ends], (weights * truth[order]).cumsum(axis=1)[:, ends]
    steps = np.diff(found, axis=1, prepend=0.0)
    return _divide((steps * np.nan_to_num(_divide(found, seen))).sum(axis=1), found[:, -1])


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The mean over columns, of those that count (draws,)."""
    return _divide(np.where(where, np.nan_to_num(values), 0.0).sum(axis=1), where.sum(axis=1).astype(float))


def interval_keys(name: str) -> tuple[str, str]:
    """The keys of the ends of a figure's interval: `f1_low/dress` for `f1/dress`, `accuracy_low` for `accuracy`."""
    metric, slash, label = name.partition("/")
    return f"{metric}_low{slash}{label}", f"{metric}_high{slash}{label}"


def _intervals(
    results: Mapping[str, Any], draws: Mapping[str, np.ndarray], rows: Mapping[str, float]
) -> dict[str, float | None]:
    tail = (1 - CONFIDENCE) / 2 * 100
    ends: dict[str, float | None] = {}
    for name, values in draws.items():
        value, low, high = results[name], None, None
        if value is not None:
            low, high = map(float, np.nanpercentile(values, [tail, 100 - tail]))
            if name.partition("/")[0] in MEANS:
                shift = value - float(np.nanmean(values))
                low, high = max(0.0, min(low + shift, value)), min(1.0, max(high + shift, value))
            if value in (0.0, 1.0):
                low, high = _wilson(value, rows.get(name, results["n"]))
            elif np.ptp(values[np.isfinite(values)]) < 1e-12:
                low, high = None, None  # every draw says the same, which is no certainty
        ends |= zip(interval_keys(name), (low, high), strict=True)
    return ends


def _wilson(share: float, n: float) -> tuple[float, float]:
    """The interval for a share of 0 or 1 of n."""
    reach = _Z**2 / (n + _Z**2)
    return (1 - reach, 1.0) if share else (0.0, reach)


def _resample(
    predictions: np.ndarray,
    references: np.ndarray,
    in_top_5: np.ndarray | None,
    labels: Sequence[str],
    n_resamples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Each metric on each draw of rows, from counts: as scikit-learn on the drawn rows, and some 100 times quicker."""
    rng = np.random.default_rng(seed)
    k, n = len(labels), len(references)
    hits = predictions == references
    true_positive, predicted, true = (np.empty((n_resamples, k)) for _ in range(3))
    top_5 = np.empty(n_resamples)
    for draw in range(n_resamples):
        rows = rng.integers(0, n, n)
        true_positive[draw] = np.bincount(references[rows], weights=hits[rows], minlength=k)
        predicted[draw] = np.bincount(predictions[rows], minlength=k)
        true[draw] = np.bincount(references[rows], minlength=k)
        if in_top_5 is not None:
            top_5[draw] = in_top_5[rows].mean()
    precision = _divide(true_positive, predicted)
    recall = _divide(true_positive, true)
    f1 = _divide(2 * true_positive, predicted + true)
    occurs = (predicted + true) > 0
    draws = {"accuracy": true_positive.sum(axis=1) / n}
    draws |= {f"{name}_micro": draws["accuracy"] for name in ("precision", "recall", "f1")}
    if in_top_5 is not None:
        draws["top_5_accuracy"] = top_5
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        # As scikit-learn: a class that occurs counts as 0 where its own figure is not defined.
        draws[f"{name}_macro"] = np.where(occurs, np.nan_to_num(values), 0.0).sum(axis=1) / occurs.sum(axis=1)
        for number, label in enumerate(labels):
            draws[f"{name}/{label}"] = values[:, number]
    return draws


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The share, or NaN where there is nothing to take a share of."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


def _in_top(scores: np.ndarray, references: np.ndarray, k: int) -> np.ndarray:
    # A stable sort of the turned columns: as of the prediction, ties go to the lower class number.
    top = scores.shape[1] - 1 - np.argsort(scores[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :k]
    return (top == references[:, None]).any(axis=1)


def _check(scores: np.ndarray, references: np.ndarray, labels: Sequence[str]) -> None:
    if scores.ndim != 2 or scores.shape[1] != len(labels):
        raise ValueError(f"scores must have the shape (n, {len(labels)} classes), found {scores.shape}")
    if references.shape != (len(scores),):
        raise ValueError(f"references must have the shape ({len(scores)},), found {references.shape}")
    if not len(scores):
        raise ValueError("no rows to evaluate")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite; row {np.flatnonzero(~np.isfinite(scores).all(axis=1))[0]} is not")
    if references.min() < 0 or references.max() >= len(labels):
        raise ValueError(f"references must be 0 to {len(labels) - 1}, found {references.min()} to {references.max()}")
    if len(set(labels)) != len(labels):
        raise ValueError(f"labels must differ, found {list(labels)}")


def paired(
    right_a: Sequence[bool] | np.ndarray,
    right_b: Sequence[bool] | np.ndarray,
    *,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """The difference of two models' accuracy on the same rows, and whether it is more than chance.

    Two intervals that overlap say little of the difference: the models saw the same rows, and most are easy, or hard,
    for both. Here only the rows count on which one is right and the other wrong. McNemar's exact test (McNemar,
    Psychometrika 12, 1947; its exact form is the binomial test of the two counts against one half) gives p; the
    interval is the percentile bootstrap over rows, both models on the same drawn rows.

    Where no row is of the kind that would move an end beyond 0, draws cannot show that there may be such rows, and
    an end at 0 would claim it. There the end is the highest share that none of n rows speaks for, Wilson's (z squared
    over n + z squared; the "rule of three" of Hanley and Lippman-Hand, Journal of the American Medical Association
    249, 1983, says 3 / n for one side).

    Args:
        right_a: (n,) whether the first model's prediction is right.
        right_b: (n,) the same of the second, for the same rows in the same order.
        n_resamples: Draws of the bootstrap.
        seed: Seed of the draws.

    Returns:
        `n`, `accuracy_a`, `accuracy_b`, `difference` (a - b, as a share) with `difference_low` and `difference_high`
        of its 95 % interval, `only_a` and `only_b` (rows on which just that one is right), `p`, and `tie`: True
        unless the interval leaves 0 out and p is below 0.05.

    Raises:
        ValueError: Lengths that differ, no rows, values that are not true or false.
    """
    a, b = np.asarray(right_a), np.asarray(right_b)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"both must be of the same rows, shape (n,); found {a.shape} and {b.shape}")
    if not len(a):
        raise ValueError("no rows to compare")
    if a.dtype != bool or b.dtype != bool:
        raise ValueError(f"right or wrong must be given as bool, found {a.dtype} and {b.dtype}")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    # Rows drawn with replacement hold so many of each of the three kinds: the counts are drawn, and no rows.
    shares = np.array([only_a, only_b, n - only_a - only_b]) / n
    draws = np.random.default_rng(seed).multinomial(n, shares, n_resamples)
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = map(float, np.percentile((draws[:, 0] - draws[:, 1]) / n, [tail, 100 - tail]))
    unseen = _wilson(0.0, n)[1]
    low = -unseen if low == 0 and not only_b else low
    high = unseen if high == 0 and not only_a else high
    return {
        "n": n,
        "accuracy_a": float(a.mean()),
        "accuracy_b": float(b.mean()),
        "difference": (only_a - only_b) / n,
        "difference_low": low,
        "difference_high": high,
        "only_a": only_a,
        "only_b": only_b,
        "p": p,
        "tie": low <= 0 <= high or p >= 1 - CONFIDENCE,
    }


def paired_f1_macro(
    predictions_a: np.ndarray,
    predictions_b: np.ndarray,
    references: np.ndarray,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, float | None]:
    """The difference of two models' macro F1 on the same rows, with the percentile bootstrap over rows.

    Args:
        predictions_a: (n,) class numbers that the first model says.
        predictions_b: (n,) those of the second, numbered alike.
        references: (n,) true class numbers, from 0 on.
        n_resamples: Draws of the bootstrap.
        seed: Seed of the draws; the same rows are drawn for both.

    Returns:
        `f1_macro_difference` (a - b) and the ends of its interval, `f1_macro_difference_low` and `..._high`: None
        where both say the same on every row, since draws would then claim certainty.
    """
    said = [np.asarray(predictions_a), np.asarray(predictions_b)]
    references = np.asarray(references)
    labels = [str(number) for number in range(1 + max(int(rows.max()) for rows in (*said, references)))]
    values, draws = [], []
    for rows in said:
        values.append(precision_recall_fscore_support(references, rows, average="macro", zero_division=0.0)[2])
        draws.append(_resample(rows, references, None, labels, n_resamples, seed)["f1_macro"])
    low: float | None = None
    high: float | None = None
    if (said[0] != said[1]).any():
        tail = (1 - CONFIDENCE) / 2 * 100
        low, high = map(float, np.percentile(draws[0] - draws[1], [tail, 100 - tail]))
    return {
        "f1_macro_difference": float(values[0] - values[1]),
        "f1_macro_difference_low": low,
        "f1_macro_difference_high": high,
    }


def unsure_below(scores: np.ndarray, right: np.ndarray, precision: float = 0.95, least: int = 20) -> float | None:
    """The lowest score at and above which a share of at least `precision` of the predictions is right.

    To be chosen on validation; on other photos the share will be near it, not above it for certain.

    Args:
        scores: The score of each prediction (rows,).
        right: Whether it is right (rows,).
        precision: The share.
        least: Predictions that must be at or above the score: of fewer than 20, 0.95 says no more than 1 does.

    Returns:
        One of the scores; infinity when no score reaches the share; None when there are fewer than `least` rows.
    """
    if len(scores) < least:
        return None
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked = np.asarray(scores)[order]
    shares = np.cumsum(np.asarray(right, dtype=bool)[order]) / np.arange(1, len(order) + 1)
    # Of equal scores all are at or above it, so only the last of them counts.
    last = np.append(ranked[1:] != ranked[:-1], True)
    reached = np.flatnonzero(last & (shares >= precision) & (np.arange(1, len(order) + 1) >= least))
    return float(ranked[reached[-1]]) if len(reached) else float("inf")


def paired_map(
    scores: Sequence[np.ndarray], references: np.ndarray, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> list[list[dict[str, Any]]]:
    """The differences of several models' mean average precision on the same rows, with the bootstrap over rows.

    The same rows are drawn for all models. The interval is the percentile one of the difference; p goes with it: twice
    the share of the draws on the wrong side of 0, or at it (Efron and Tibshirani 1993, section 15.4), and never below
    2 / (draws + 1).

    Args:
        scores: Of each model (n, K) probabilities.
        references: (n, K) of 1, 0 and NaN (not known).
        n_resamples: Draws of the bootstrap.
        seed: Seed of the draws.

    Returns:
        For models a and b, as `found[a][b]`: `n`, `map_a`, `map_b`, `difference` (a - b) with `difference_low` and
        `difference_high` of its 95 % interval, `p`, and `tie`: True unless the interval leaves 0 out and p is below
        0.05. Where every draw says the same there is no interval (None), and no difference that is more than chance.

    Raises:
        ValueError: Shapes that do not fit, no rows, no label with a known yes.
    """
    references = np.asarray(references, dtype=float)
    given = [np.asarray(one, dtype=float) for one in scores]
    if references.ndim != 2 or not len(references) or any(one.shape != references.shape for one in given):
        shapes = [one.shape for one in given]
        raise ValueError(f"all must be of the same rows and labels, (n, K); found {shapes} and {references.shape}")
    if not (references > HALF).any():
        raise ValueError("no label has a known yes")
    draws = _draws(len(references), n_resamples, seed)
    by_label = [_average_precisions(one, references, draws) for one in given]
    values = [_mean(ap, np.isfinite(ap)) for ap in by_label]
    tail = (1 - CONFIDENCE) / 2 * 100

    def compared(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
        difference, gaps = float(a[0] - b[0]), (a - b)[1:]
        gaps = gaps[np.isfinite(gaps)]  # a draw may have no yes at all
        low: float | None = None
        high: float | None = None
        p = 1.0
        if len(gaps) and np.ptp(gaps) > 1e-12:
            low, high = map(float, np.percentile(gaps, [tail, 100 - tail]))
            p = min(1.0, 2 * (1 + min((gaps <= 0).sum(), (gaps >= 0).sum())) / (1 + len(gaps)))
        tie = low is None or high is None or low <= 0 <= high or p >= 1 - CONFIDENCE
        return {
            "n": len(references), "map_a": float(a[0]), "map_b": float(b[0]), "difference": difference,
            "difference_low": low, "difference_high": high, "p": float(p), "tie": bool(tie),
        }  # fmt: skip

    return [[compared(a, b) for b in values] for a in values]


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Corrects the p values of several tests, so that the chance of any false alarm among them stays below 5 %.

    Holm, Scandinavian Journal of Statistics 6 (1979): the smallest of m is multiplied by m, the next by m - 1, and so
    on; none falls below the one before it, none rises above 1.

    Args:
        p_values: One of each test.

    Returns:
        The corrected values, in the order in which they came.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in corrected]
