"""Scores that mean what they say: of the photos that are told with a score of 0.8, eight of ten are right.

Logits are stretched, and where labels do not exclude each other moved, until the truth of photos that are kept aside
is as likely as it can be: temperature scaling (Guo et al., 2017, arXiv 1706.04599) and Platt's (1999). The truth is
taken to be as Platt takes it, a little short of certain, so that the scores of a model without a mistake on few photos
stay short of certain, too. Which label of an exclusive group is the best does not change.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax

from hf_fashion.attributes import Group, probabilities
from hf_fashion.errors import InputError
from hf_fashion.plots import BLUE, GREY, INK, LETTER, ORANGE

BINS = 15  # of Guo et al.


@dataclass(frozen=True)
class Calibration:
    """What makes calibrated scores of logits.

    Args:
        groups: The groups of labels.
        slopes: By which the logits of each label are multiplied (K,), one number a group: 1 / temperature.
        biases: What is added then (K,); 0 where labels exclude each other.
        photos: Photos with a known label that it was learned from.
        unseen: Labels that none of these photos has.
    """

    groups: Sequence[Group]
    slopes: np.ndarray
    biases: np.ndarray
    photos: int
    unseen: tuple[str, ...]

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Logits (n, K) -> probabilities (n, K): a softmax in each exclusive group, a sigmoid elsewhere."""
        return probabilities(np.asarray(logits, dtype=np.float64) * self.slopes + self.biases, self.groups)

    def __str__(self) -> str:
        told = []
        for group in self.groups:
            slope = float(self.slopes[group.start])
            how = f"slope {slope:.3g}, a bias for each label" if group.many else f"temperature {1 / slope:.3g}"
            told.append(f"{group.name}: {how}" if len(self.groups) > 1 else how)
        return f"{self.photos} photos ({'; '.join(told)})"

    def to_dict(self) -> dict[str, Any]:
        """In plain values: of each exclusive group the temperature, of others the slope and the bias of each label."""
        made: dict[str, Any] = {"photos": self.photos, "unseen": list(self.unseen)}
        for group in self.groups:
            slope = float(self.slopes[group.start])
            if group.many:
                biases = dict(zip(group.labels, self.biases[group.span].tolist(), strict=True))
                made[group.name] = {"slope": slope, "biases": biases}
            else:
                made[group.name] = {"temperature": 1 / slope}
        return made


def fit(logits: np.ndarray, references: np.ndarray, groups: Sequence[Group]) -> Calibration:
    """Learns a calibration from photos that nothing else was learned from, and that nothing is measured on.

    Args:
        logits: (n, K).
        references: (n, K) of 1, 0 and NaN (not known).
        groups: The groups; each exclusive one gets a slope, of each other one every label a bias, too.

    Raises:
        InputError: Of a group nothing is known.
    """
    logits, references = np.asarray(logits, dtype=np.float64), np.asarray(references, dtype=np.float64)
    slopes, biases = np.ones(logits.shape[1]), np.zeros(logits.shape[1])
    known = ~np.isnan(references)
    for group in groups:
        rows = known[:, group.span].any(axis=1)
        if not rows.any():
            raise InputError(
                "photos to calibrate on", expected=f"some whose {group.name} is known, one of the labels asked for",
                found="none", fix="another split, or labels spelt as those of the photos are",
            )  # fmt: skip
        part, truth = logits[rows, group.span], references[rows, group.span]
        if group.many:
            slopes[group.span], biases[group.span] = _sigmoids(part, truth)
        else:
            slopes[group.span] = _temperature(part, truth)
    names = [(group.name, label) for group in groups for label in group.labels]
    never = ~(np.nan_to_num(references) > 0).any(axis=0)
    unseen = [
        f"{name}: {label}" if len(groups) > 1 else label
        for (name, label), missing in zip(names, never, strict=True)
        if missing
    ]
    return Calibration(tuple(groups), slopes, biases, int(known.any(axis=1).sum()), tuple(unseen))


def _temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The slope (1 / temperature) of the least cross-entropy."""
    n, labels = truth.shape
    targets = truth * (1 - 1 / (n + 2)) + (1 - truth) / (n + 2) / (labels - 1)
    spread = float(logits.std(axis=1).mean()) or 1.0

    def loss(exponent: float) -> float:
        return -float((targets * log_softmax(np.exp(exponent) / spread * logits, axis=1)).sum(axis=1).mean())

    # Convex in the slope, so there is one lowest point; without any use in the logits it lies at 0, the left end.
    found = minimize_scalar(loss, bounds=(np.log(1e-3), np.log(1e4)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) / spread


def _sigmoids(logits: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """One slope, and a bias for each label, of the least mean binary cross-entropy of what is known."""
    known, yes = ~np.isnan(truth), np.nan_to_num(truth) > 0
    positive, negative = yes.sum(axis=0), (known & ~yes).sum(axis=0)
    targets = np.where(yes, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, spread = float(logits[known].mean()), float(logits[known].std()) or 1.0
    plain = (logits - centre) / spread

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        made = numbers[0] * plain + numbers[1:]
        each = np.where(known, np.logaddexp(0, made) - targets * made, 0.0)
        slope = np.where(known, expit(made) - targets, 0.0)
        gradient = np.concatenate([[(slope * plain).sum()], slope.sum(axis=0)])
        return each.sum() / known.sum(), gradient / known.sum()

    begin = np.concatenate([[1.0], np.zeros(logits.shape[1])])
    limits = [(0.0, None)] + [(None, None)] * logits.shape[1]
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 1000, "ftol": 1e-12})
    slope, biases = float(found.x[0]) / spread, found.x[1:]
    some = known.any(axis=0)
    biases = np.where(some, biases, biases[some].mean())  # of a label of which nothing is known
    return slope, biases - slope * centre


def told(scores: np.ndarray, references: np.ndarray, groups: Sequence[Group]) -> tuple[np.ndarray, np.ndarray]:
    """What was said with which score, and whether it is so: of an exclusive group the best label of each photo, of
    others every label of each photo; where the truth is known.

    Returns:
        Scores (m,) and bools (m,).
    """
    found, right = [], []
    for group in groups:
        part, truth = scores[:, group.span], references[:, group.span]
        known = ~np.isnan(truth)
        if group.many:
            found.append(part[known])
            right.append(truth[known] > 0)
        else:
            rows = np.flatnonzero(known.all(axis=1))
            best = part[rows].argmax(axis=1)
            found.append(part[rows, best])
            right.append(truth[rows, best] > 0)
    return np.concatenate(found), np.concatenate(right)


def expected_error(scores: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: how far scores are from the share that is right, on average over bins of equal
    width, each weighing by what lies in it (Guo et al., 2017). Of few scores it is too high, whatever the model.

    Args:
        scores: From 0 to 1 (m,).
        right: Whether what was said is so (m,).
        bins: How many.
    """
    weights, score, share = _binned(scores, right, bins)
    return float((weights * np.abs(score - share)).sum() / weights.sum())


def log_loss(scores: np.ndarray, references: np.ndarray, groups: Sequence[Group]) -> float:
    """How unlikely the truth is by the scores: mean negative logarithm, over known labels and groups; what
    `fit` makes small."""
    losses = []
    tiny = np.finfo(np.float64).tiny
    for group in groups:
        part, truth = scores[:, group.span], references[:, group.span]
        known = ~np.isnan(truth)
        if group.many:
            of_truth = np.where(truth[known] > 0, part[known], 1 - part[known])
        else:
            of_truth = part[np.nan_to_num(truth) > 0]
        losses.append(-np.log(np.maximum(of_truth, tiny)))
    return float(np.concatenate(losses).mean())


def _binned(scores: np.ndarray, right: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each bin with something in it: how much, its mean score, the share that is right."""
    scores, right = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if scores.shape != right.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores and right must have one shape (m,), m > 0, found {scores.shape}, {right.shape}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores must be from 0 to 1")
    place = np.clip(np.ceil(scores * bins).astype(int) - 1, 0, bins - 1)  # (0, 1/bins], ..., 0 in the first
    weights = np.bincount(place, minlength=bins).astype(float)
    there = weights > 0
    sums = (np.bincount(place, weights=values, minlength=bins)[there] for values in (scores, right))
    score, share = (values / weights[there] for values in sums)
    return weights[there], score, share


def reliability(series: dict[str, tuple[np.ndarray, np.ndarray]], title: str, bins: int = BINS) -> Figure:
    """Share that is right against score, and below how often which score is given; on the diagonal a score is what it
    says.

    Args:
        series: Name -> scores (m,) and whether what was said is so (m,), as of `told`; two at most.
        title: What was measured on.
        bins: As of `expected_error`, whose value stands beside each name.
    """
    figure = Figure(figsize=(5, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    edges = np.linspace(0, 1, bins + 1)
    for (name, (scores, right)), color in zip(series.items(), (BLUE, ORANGE), strict=False):
        _, score, share = _binned(scores, right, bins)
        above.plot(score, share, "o-", color=color, label=f"{name} (ECE {expected_error(scores, right, bins):.3f})")
        below.hist(scores, edges, color=color, alpha=0.5)
    above.set_ylabel("share that is right")
    below.set_ylabel("how many")
    below.set_xlabel("score")
    above.set_xlim(-0.02, 1.02)
    above.set_ylim(-0.02, 1.02)
    above.legend(frameon=False, loc="upper left", fontsize=9)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
    figure.suptitle(textwrap.fill(title, int(5 / LETTER)), x=0.01, ha="left")
    return figure
