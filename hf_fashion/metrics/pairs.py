"""Two models, or several, on the same rows: whether their difference is more than chance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.signal import convolve
from scipy.stats import binom, binomtest
from sklearn.metrics import precision_recall_fscore_support

from hf_fashion.metrics.intervals import CONFIDENCE, N_RESAMPLES, draw_rows, mean_over, wilson
from hf_fashion.metrics.multi_label import HALF, average_precisions
from hf_fashion.metrics.single_label import resample

_NUMBERS = 4_000_000  # of draws in memory at once


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
    unseen = wilson(0.0, n)[1]
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
        draws.append(resample(rows, references, None, labels, n_resamples, seed)["f1_macro"])
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
    draws = draw_rows(len(references), n_resamples, seed)
    by_label = [average_precisions(one, references, draws) for one in given]
    values = [mean_over(ap, np.isfinite(ap)) for ap in by_label]
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


def paired_by_item(
    right_a: np.ndarray, right_b: np.ndarray, items: Sequence[str], *, n_resamples: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """`paired` of rows that belong to items.

    If the models were alike, the balance of each item (rows on which only one of them is right, minus those on which
    only the other is) would be as likely as its opposite. p is the share of all ways to turn the signs of the items'
    balances that lead as far from 0 as the rows did, counted exactly (Fisher's randomization test); with one row an
    item that is McNemar's exact test. The interval is the percentile bootstrap over items, both models on the same
    draws; where no item speaks for one of the models its end is Wilson's, as in `paired`.

    Args:
        right_a: (n,) whether the first model is right.
        right_b: (n,) the same of the second, for the same rows.
        items: (n,) the item of each row.
        n_resamples: Draws of the bootstrap.
        seed: Seed of the draws.

    Returns:
        The figures of `paired`, and `items`, how many there are.
    """
    a, b = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    group = np.unique(np.asarray(items), return_inverse=True)[1]
    balance = np.bincount(group, weights=a.astype(float) - b).round().astype(int)
    chances = np.ones(1)  # of each sum of the balances that keep their sign, from 0 on
    for size, count in zip(*np.unique(np.abs(balance[balance != 0]), return_counts=True), strict=True):
        steps = np.zeros(size * count + 1)
        steps[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = convolve(chances, steps)
    reached = np.abs(2 * np.arange(len(chances)) - (len(chances) - 1)) >= abs(balance.sum())
    p = float(np.clip(chances[reached].sum(), 0.0, 1.0))
    difference, low, high = difference_by_item(a, b, items, n_resamples=n_resamples, seed=seed)
    unseen = wilson(0.0, len(balance))[1]
    low = -unseen if not low and not (balance < 0).any() else low
    high = unseen if not high and not (balance > 0).any() else high
    return {
        "n": len(a), "accuracy_a": float(a.mean()), "accuracy_b": float(b.mean()), "difference": difference,
        "difference_low": low, "difference_high": high, "only_a": int((a & ~b).sum()), "only_b": int((b & ~a).sum()),
        "p": p, "tie": low is None or high is None or low <= 0 <= high or p >= 0.05, "items": len(balance),
    }  # fmt: skip


def difference_by_item(
    values_a: np.ndarray, values_b: np.ndarray, items: Sequence[str], *, n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float | None, float | None]:  # fmt: skip
    """The difference of two models' means (a - b), and its percentile bootstrap over items.

    Args:
        values_a: (n,) a figure of each row.
        values_b: (n,) the same of the second model.
        items: (n,) the item of each row: whole items are drawn.
        n_resamples: Draws of the bootstrap.
        seed: Seed of the draws; the same items are drawn for both models.

    Returns:
        The difference and the ends of its 95 % interval; None where both have the same value in every row.
    """
    gaps = np.asarray(values_a, dtype=float) - np.asarray(values_b, dtype=float)
    if not gaps.any():
        return 0.0, None, None
    group = np.unique(np.asarray(items), return_inverse=True)[1]
    told = np.stack([np.bincount(group, weights=gaps), np.bincount(group)], axis=1)
    # A draw holds so many items of each kind: of items with the same rows and gaps the number is drawn, and not which.
    kinds, counts = np.unique(told, axis=0, return_counts=True)
    rng, draws, block = np.random.default_rng(seed), [], max(1, _NUMBERS // len(kinds))
    for start in range(0, n_resamples, block):
        drawn = rng.multinomial(len(told), counts / len(told), min(block, n_resamples - start)) @ kinds
        draws.append(drawn[:, 0] / drawn[:, 1])
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = map(float, np.percentile(np.concatenate(draws), [tail, 100 - tail]))
    return float(gaps.mean()), low, high
