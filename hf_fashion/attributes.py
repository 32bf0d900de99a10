"""Attributes: several groups of labels (colour, sleeve, tags) that one net tells at once.

A group is a column of the dataset. Where its labels exclude each other, the net's scores of the group go through one
softmax; where a photo may have several of them, or none, each goes through a sigmoid of its own. What is not known of
a photo is NaN here, and counts neither as yes nor as no. All that a reader of the model needs stands in its config as
plain values: `attribute_groups` and `thresholds`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import DatasetDict
from torch import Tensor
from transformers import PreTrainedConfig

from hf_fashion import data
from hf_fashion.training.losses import rows_of

HALF = 0.5  # the threshold of a label that validation says nothing about


@dataclass(frozen=True)
class Group:
    """Labels that belong together.

    Args:
        name: The column.
        labels: Their names within the group.
        many: Whether a photo may have several of them, or none; else it has exactly one.
        start: Where they stand among the logits of all groups.
    """

    name: str
    labels: tuple[str, ...]
    many: bool
    start: int = 0

    @property
    def span(self) -> slice:
        """Their place among the logits."""
        return slice(self.start, self.start + len(self.labels))


def of_dataset(dataset: DatasetDict) -> list[Group]:
    """The groups of a dataset as `data.load` gives it, in the order of its columns."""
    groups: list[Group] = []
    for column, many in data.attributes(dataset).items():
        start = groups[-1].span.stop if groups else 0
        groups.append(Group(column, tuple(data.labels(dataset, column)), many, start))
    return groups


def of_config(config: PreTrainedConfig) -> list[Group] | None:
    """The groups of a finished model; None when it has no attributes."""
    if config.problem_type != "multi_label_classification":
        return None
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    stored: Mapping[str, Any] | None = getattr(config, "attribute_groups", None)
    if stored is None:  # a multi-label model of somebody else
        return [Group("labels", tuple(names), many=True)]
    groups: list[Group] = []
    for name, group in stored.items():
        start = groups[-1].span.stop if groups else 0
        bare = tuple(label.removeprefix(f"{name}: ") if len(stored) > 1 else label for label in group["labels"])
        groups.append(Group(name, bare, bool(group["many"]), start))
    return groups


def names(groups: Sequence[Group]) -> list[str]:
    """The names of the logits: `color: red`, or the bare label where there is one group only."""
    return [f"{group.name}: {label}" if len(groups) > 1 else label for group in groups for label in group.labels]


def describe(groups: Sequence[Group], thresholds: Sequence[float] | np.ndarray | None = None) -> dict[str, Any]:
    """What a model's config says of its groups, in plain values.

    Args:
        groups: The groups.
        thresholds: Of each label (K,), see `choose_thresholds`.
    """
    called = names(groups)
    told: dict[str, Any] = {
        "attribute_groups": {group.name: {"many": group.many, "labels": called[group.span]} for group in groups}
    }
    if thresholds is not None:
        free = {called[number] for group in groups if group.many for number in range(len(called))[group.span]}
        # All digits: of a score beside it a rounded threshold could stand on the other side.
        told["thresholds"] = {
            name: float(value) for name, value in zip(called, thresholds, strict=True) if name in free
        }
    return told


def thresholds_of(config: PreTrainedConfig, groups: Sequence[Group]) -> np.ndarray:
    """The thresholds that a finished model brings, 0.5 where it brings none (K,)."""
    stored = getattr(config, "thresholds", None) or {}
    return np.asarray([float(stored.get(name, HALF)) for name in names(groups)])


def encode(row: Mapping[str, Any], groups: Sequence[Group]) -> np.ndarray:
    """One row's labels as 1 (it has it), 0 (it has not) and NaN (not known): (K,) float32."""
    target = np.full(groups[-1].span.stop, np.nan, dtype=np.float32)
    for group in groups:
        value = row[group.name]
        if value is not None:
            target[group.span] = 0
            target[[group.start + number for number in (value if group.many else [value])]] = 1
    return target


def loss(groups: Sequence[Group]) -> Callable[..., Tensor]:
    """`compute_loss_func` for the Trainer: cross-entropy of each softmax, mean binary cross-entropy of each sigmoid.

    A row's loss is the mean over the groups; what is unknown adds nothing to it. So a batch's loss is the mean of its
    rows', and batches that are accumulated weigh as one large batch does.
    """

    def compute(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        logits = outputs["logits"].float()
        total = logits.sum() * 0.0
        for group in groups:
            scores, targets = logits[:, group.span], labels[:, group.span].float()
            known = ~targets.isnan()
            targets = targets.nan_to_num()
            if group.many:
                each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
                total = total + (each * known).sum() / len(group.labels)
            else:
                # Of mixed photos the target is soft; of a photo of unknown value all entries are NaN.
                total = total - (scores.log_softmax(1) * targets).sum()
        return total / rows_of(labels, num_items_in_batch) / len(groups)

    return compute


def probabilities(logits: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
    """(n, K) logits -> (n, K) probabilities: a softmax within each exclusive group, a sigmoid elsewhere."""
    scores = torch.as_tensor(logits, dtype=torch.float64)
    parts = [scores[:, group.span] for group in groups]
    parts = [part.sigmoid() if group.many else part.softmax(1) for group, part in zip(groups, parts, strict=True)]
    return torch.cat(parts, dim=1).numpy()


def decide(scores: np.ndarray, groups: Sequence[Group], thresholds: np.ndarray) -> np.ndarray:
    """(n, K) probabilities -> (n, K) bool: the highest of each exclusive group, and what reaches its threshold."""
    chosen = scores >= thresholds
    for group in groups:
        if not group.many:
            best = scores[:, group.span].argmax(axis=1)
            chosen[:, group.span] = best[:, None] == np.arange(len(group.labels))
    return chosen


def choose_thresholds(scores: np.ndarray, references: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
    """The threshold of each label that gives it the highest F1 (Lipton et al., 2014, arXiv 1402.1892).

    To be called with validation scores. Of thresholds that do as well the one nearest to 0.5 is taken, in the middle
    between two scores. Labels of exclusive groups, and labels without a known yes, keep 0.5.

    Args:
        scores: (n, K) probabilities.
        references: (n, K) of 1, 0 and NaN.
        groups: The groups.

    Returns:
        (K,) thresholds between 0 and 1.
    """
    thresholds = np.full(scores.shape[1], HALF)
    for group in groups:
        for number in range(scores.shape[1])[group.span] if group.many else ():
            known = ~np.isnan(references[:, number])
            score, truth = scores[known, number], references[known, number]
            if truth.any():
                thresholds[number] = _best_threshold(score, truth)
    return thresholds


def _best_threshold(score: np.ndarray, truth: np.ndarray) -> float:
    order = np.argsort(-score, kind="stable")
    score, truth = score[order], truth[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))  # a threshold cannot part equal scores
    f1 = 2 * np.cumsum(truth)[last] / (last + 1 + truth.sum())
    below = np.append(score[last][1:], 0.0)
    middles = (score[last] + below) / 2
    middles = np.where(middles > below, middles, score[last])  # between neighbours there is no number
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(middles[best[np.abs(middles[best] - HALF).argmin()]])
