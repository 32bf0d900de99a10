"""Intervals of figures: draws of rows, percentiles of what they give, Wilson's at the ends."""

from collections.abc import Mapping
from typing import Any

import numpy as np

CONFIDENCE = 0.95
N_RESAMPLES = 1000
MEANS = (  # over classes
    "precision_macro", "recall_macro", "f1_macro",
    "map", "map_50", "map_75", "map_small", "map_medium", "map_large",
    "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large",
)  # fmt: skip
_Z = 1.959964  # of the normal distribution, for CONFIDENCE


def interval_keys(name: str) -> tuple[str, str]:
    """The keys of the ends of a figure's interval: `f1_low/dress` for `f1/dress`, `accuracy_low` for `accuracy`."""
    metric, slash, label = name.partition("/")
    return f"{metric}_low{slash}{label}", f"{metric}_high{slash}{label}"


def interval_ends(
    results: Mapping[str, Any], draws: Mapping[str, np.ndarray], rows: Mapping[str, float]
) -> dict[str, float | None]:
    """The ends of each figure's interval, by `interval_keys`; None where there is none.

    Args:
        results: The figures, and `n`.
        draws: Of the figures that get one, what each draw gives (draws,); NaN where it is not defined there.
        rows: How many rows a figure counts, where these are not all `n`.
    """
    tail = (1 - CONFIDENCE) / 2 * 100
    ends: dict[str, float | None] = {}
    for name, values in draws.items():
        value, low, high = results[name], None, None
        if value is not None and np.isfinite(values).any():
            low, high = map(float, np.nanpercentile(values, [tail, 100 - tail]))
            if name.partition("/")[0] in MEANS:
                shift = value - float(np.nanmean(values))
                low, high = max(0.0, min(low + shift, value)), min(1.0, max(high + shift, value))
            if value in (0.0, 1.0):
                low, high = wilson(value, rows.get(name, results["n"]))
            elif np.ptp(values[np.isfinite(values)]) < 1e-12:
                low, high = None, None  # every draw says the same, which is no certainty
        ends |= zip(interval_keys(name), (low, high), strict=True)
    return ends


def wilson(share: float, n: float) -> tuple[float, float]:
    """The interval for a share of 0 or 1 of n."""
    reach = _Z**2 / (n + _Z**2)
    return (1 - reach, 1.0) if share else (0.0, reach)


def draw_rows(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each draw takes each row (1 + n_resamples, n).

    The first draw is the data themselves: one computation gives the figures and their intervals.
    """
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    return np.concatenate([np.ones((1, n)), drawn])


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The share, or NaN where there is nothing to take a share of."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


def mean_over(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The mean over columns, of those that count (draws,)."""
    return divide(np.where(where, np.nan_to_num(values), 0.0).sum(axis=1), where.sum(axis=1).astype(float))
