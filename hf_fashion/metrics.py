"""Plain functions: arrays in, a flat dict out; each figure with n and a bootstrap interval.

The values are scikit-learn's. The intervals are percentile bootstraps over rows (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13): rows are drawn with replacement, the figure is computed again on
each draw on which it is defined, and the 2.5th and 97.5th percentiles are the ends of the 95 % interval. Where all
rows are right, or all wrong, every draw says the same, and a bootstrap would claim certainty: there the interval is
Wilson's for k of n (Journal of the American Statistical Association 22, 1927), n being the rows that it counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

CONFIDENCE = 0.95
N_RESAMPLES = 1000
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
        `top_5_accuracy` is there only with more than five classes. `confusion_matrix` is a list of rows (true) of
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
        results["top_5_accuracy"] = float(top_k_accuracy_score(references, scores, k=5, labels=classes))
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
            if value in (0.0, 1.0):
                low, high = _wilson(value, rows.get(name, results["n"]))
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
    # As scikit-learn's top_k_accuracy_score: a stable sort, so that ties go to the higher class number.
    top = np.argsort(scores, axis=1, kind="mergesort")[:, ::-1][:, :k]
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
