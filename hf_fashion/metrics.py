"""Plain functions: arrays in, a flat dict out; each figure with n and a bootstrap interval.

The values are scikit-learn's. The intervals are percentile bootstraps over rows (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13): rows are drawn with replacement, the figure is computed again on
each draw, and the 2.5th and 97.5th percentiles are the ends of the 95 % interval.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

CONFIDENCE = 0.95


def classification(
    scores: np.ndarray,
    references: np.ndarray,
    labels: Sequence[str],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy, top-5, precision, recall and F1 of single-label predictions, with 95 % intervals.

    Macro averages are over the classes that occur in references or predictions, as scikit-learn's are by default.
    Micro precision, recall and F1 of single-label predictions all equal accuracy; `f1_micro` is there by its name.

    Args:
        scores: (n, classes) logits or probabilities; the highest is the prediction, the first one at a tie.
        references: (n,) true class numbers, 0 to classes - 1.
        labels: Class names in the order of the columns of `scores`.
        n_resamples: Draws of the bootstrap; 0 leaves the intervals out.
        seed: Seed of the draws.

    Returns:
        A flat dict: `n`, each metric as a float, its interval as `<metric>_low` and `<metric>_high`, per class
        `precision/<label>`, `recall/<label>`, `f1/<label>` and `n/<label>`. `top_5_accuracy` is there only with more
        than five classes. `confusion_matrix` is a list of rows (true) of columns (predicted).

    Raises:
        ValueError: Shapes that do not fit, no rows, scores that are not finite, references out of range.
    """
    scores, references = np.asarray(scores), np.asarray(references)
    _check(scores, references, labels)
    classes = np.arange(len(labels))
    predictions = scores.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(
        references, predictions, labels=classes, zero_division=0.0
    )
    macro = precision_recall_fscore_support(references, predictions, average="macro", zero_division=0.0)
    accuracy = float(accuracy_score(references, predictions))
    results: dict[str, Any] = {"n": len(references), "accuracy": accuracy}
    in_top_5 = None
    if len(labels) > 5:
        results["top_5_accuracy"] = float(top_k_accuracy_score(references, scores, k=5, labels=classes))
        in_top_5 = _in_top(scores, references, k=5)
    results |= dict(zip(("precision_macro", "recall_macro", "f1_macro"), map(float, macro[:3]), strict=True))
    results["f1_micro"] = float(
        precision_recall_fscore_support(references, predictions, average="micro", zero_division=0.0)[2]
    )
    for number, label in enumerate(labels):
        results[f"precision/{label}"] = float(precision[number])
        results[f"recall/{label}"] = float(recall[number])
        results[f"f1/{label}"] = float(f1[number])
        results[f"n/{label}"] = int(support[number])
    if n_resamples:
        draws = _resample(predictions, references, in_top_5, labels, n_resamples, seed)
        tail = (1 - CONFIDENCE) / 2 * 100
        for name, values in draws.items():
            results[f"{name}_low"], results[f"{name}_high"] = map(float, np.percentile(values, [tail, 100 - tail]))
    results["confusion_matrix"] = confusion_matrix(references, predictions, labels=classes).tolist()
    return results


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
    draws["f1_micro"] = draws["accuracy"]
    if in_top_5 is not None:
        draws["top_5_accuracy"] = top_5
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        draws[f"{name}_macro"] = (values * occurs).sum(axis=1) / occurs.sum(axis=1)
        for number, label in enumerate(labels):
            draws[f"{name}/{label}"] = values[:, number]
    return draws


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


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
