"""Losses for the long tail and for noise: class weights, label smoothing, focal loss, soft labels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from hf_fashion.errors import InputError, in_range


def class_weights(counts: Sequence[int], power: float = 1.0) -> torch.Tensor:
    """Weights that fall with the number of rows of a class; their mean over all rows is 1.

    So the size of the loss, and with it the learning rate that suits, stays what it is without weights.

    Args:
        counts: Rows of each class in the training split, in the order of the logits. A class without rows gets 0.
        power: 1 weighs all classes alike, whatever their size; 0.5 takes the square root of the frequency (Mahajan et
            al. 2018, arXiv 1805.00932), a half-way house that is kinder to a very long tail; 0 is no weights.

    Returns:
        Float tensor (classes,).

    Raises:
        InputError: No rows at all, a negative count, or a power outside 0 to 1.
    """
    in_range("power", power, 0.0, 1.0)
    rows = torch.as_tensor(counts, dtype=torch.float64)
    if rows.ndim != 1 or rows.sum() <= 0 or (rows < 0).any():
        raise InputError(
            "class weights", expected="how many training rows each class has, and at least one row",
            found=str(list(counts))[:200], fix="check the labels of the training split",
        )  # fmt: skip
    weights = torch.where(rows > 0, rows.clamp(min=1) ** -power, 0.0)
    return (weights * rows.sum() / (weights * rows).sum()).float()


def rows_of(labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> Any:
    """By how many rows the sum of a batch's losses is divided: those of the whole step.

    Args:
        labels: (rows,) or (rows, entries).
        num_items_in_batch: The Trainer's count of the entries of the labels of all batches of the step. Under
            DataParallel it gives the count once a device and takes the loss for that of one device, though outputs
            come in gathered. None: the batch alone.
    """
    if num_items_in_batch is None:
        return len(labels)
    count = torch.as_tensor(num_items_in_batch, device=labels.device).flatten()
    return count[0] * len(count) / (labels.numel() / len(labels))


def classification_loss(
    *, weights: torch.Tensor | None = None, smoothing: float = 0.0, focal_gamma: float = 0.0
) -> Callable[..., torch.Tensor]:
    """`compute_loss_func` for the Trainer: cross-entropy with class weights, label smoothing and focal factors.

    For a row with target shares y (one-hot, or soft from mixup and CutMix), smoothed to (1 - s) y + s / classes, and
    probabilities p, the loss is the sum over classes of w y (1 - p)^gamma (-log p). With hard labels that is the focal
    loss (Lin et al. 2017, arXiv 1708.02002); with gamma 0 it is torch's `cross_entropy`.

    The sum over rows is divided by the rows of the whole step, not by the sum of their weights. So a batch in several
    parts (`gradient_accumulation_steps`, several devices) gives the gradients of the whole batch.

    In evaluation, where the Trainer turns gradients off, it is the plain cross-entropy: `eval_loss` can be compared
    between runs with different losses.

    The Trainer (transformers 5.23) passes over its own label smoother when it has a `compute_loss_func`: nothing is
    smoothed twice, and `smoothing` must be given here, as `args.label_smoothing_factor`.

    Args:
        weights: Float tensor (classes,), as from `class_weights`; None for equal ones.
        smoothing: Share of every target that is spread over all classes (Szegedy et al. 2016, arXiv 1512.00567).
        focal_gamma: How much the loss looks away from rows that are right already; the paper takes 2.

    Returns:
        A function (outputs, labels, num_items_in_batch) -> scalar. Labels are class numbers (rows,) or shares
        (rows, classes).

    Raises:
        InputError: A smoothing outside 0 to 1, or a gamma outside 0 to 10.
    """
    in_range("label_smoothing_factor", smoothing, 0.0, 1.0)
    in_range("focal_gamma", focal_gamma, 0.0, 10.0)

    def compute_loss(
        outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        logits = (outputs["logits"] if isinstance(outputs, dict) else outputs[0]).float()
        rows = rows_of(labels, num_items_in_batch)
        if not torch.is_grad_enabled():
            return functional.cross_entropy(logits, labels, reduction="sum") / rows
        given = None if weights is None else weights.to(logits)
        if focal_gamma == 0:
            return functional.cross_entropy(logits, labels, given, reduction="sum", label_smoothing=smoothing) / rows
        log_shares = functional.log_softmax(logits, dim=1)
        target = labels if labels.ndim == 2 else functional.one_hot(labels, logits.shape[1])
        target = (1 - smoothing) * target + smoothing / logits.shape[1]
        # Kept off 0, where the slope of a power below 1 is infinite.
        easy = (-torch.expm1(log_shares)).clamp(min=1e-6) ** focal_gamma
        terms = -target * easy * log_shares
        return (terms if given is None else given * terms).sum() / rows

    return compute_loss
