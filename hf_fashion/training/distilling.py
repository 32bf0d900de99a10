"""A small net learns from a large one: what that says of each photo, beside the labels or in their place."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from hf_fashion.backbones.freezing import head_layers
from hf_fashion.backbones.preprocessing import InputSpec, input_spec
from hf_fashion.errors import InputError, in_range
from hf_fashion.training.losses import rows_of
from hf_fashion.training.trainer import FashionTrainer

UNLABELLED = -1  # in the place of a class number; not -100, which the Trainer does not count as a row


class Teacher:
    """A finished classifier that says what it thinks of the student's own pictures.

    Both see the same crop: a teacher that is asked about another view of the photo teaches less (Beyer et al. 2022,
    arXiv 2106.05237). Pictures are resized to the teacher's size, and normalised as it takes them.

    Args:
        model: The teacher.
        processor: Its image processor.
        seen: What the student's processor does.
        labels: The student's labels, in the order of its logits; the teacher's are matched by name.

    Raises:
        InputError: A label that the teacher does not know, or a processor that cannot be imitated.
    """

    def __init__(self, model: PreTrainedModel, processor: Any, seen: InputSpec, labels: Sequence[str]) -> None:
        # Convolutions take some half of the time so: EfficientNet-Lite0 on a CPU 31 ms a photo for 58.
        self.model: Any = nn.Module.to(model.eval().requires_grad_(False), memory_format=torch.channels_last)
        self._seen, self._takes = seen, input_spec(processor)
        named = {str(name): int(number) for number, name in (model.config.id2label or {}).items()}
        unknown = [label for label in labels if label not in named]
        if unknown:
            raise InputError(
                f"--teacher {model.name_or_path}", expected="a classifier with the labels of the photos, by name",
                found=f"{len(unknown)} that it does not know: {', '.join(unknown[:5])}",
                fix="train the teacher on these labels first: hf-fashion classify --model LARGE --dataset ...",
            )  # fmt: skip
        self._order = [named[label] for label in labels]
        self._head = _head(model)

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (rows, classes) in the student's order, and what its head is given (rows, width).

        Args:
            pixels: (rows, 3, height, width), as the student takes them.
        """
        with torch.no_grad():
            logits, features = watched(self.model.to(pixels.device), self._head, self._pictures(pixels))
        return logits[:, self._order].float(), features.float()

    def _pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        both = ((one.height, one.width, one.mean, one.std) for one in (self._seen, self._takes))
        if next(both) == next(both):
            return pixels

        def column(values: Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=pixels.dtype, device=pixels.device)[:, None, None]

        plain = pixels * column(self._seen.std) + column(self._seen.mean)
        size = (self._takes.height, self._takes.width)
        if plain.shape[-2:] != size:
            plain = functional.interpolate(plain, size, mode="bicubic", antialias=True).clamp(0, 1)
        return (plain - column(self._takes.mean)) / column(self._takes.std)


def watched(model: Any, head: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of a classifier, and what its head was given."""
    found: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        logits: torch.Tensor = model(pixel_values=pixels).logits
    finally:
        hook.remove()
    return logits, found[0].flatten(1)


def _head(model: PreTrainedModel) -> Any:
    heads = [layer for layer in head_layers(model) if isinstance(layer, nn.Linear)]
    if len(heads) != 1:
        raise InputError(
            f"distillation of a {model.config.model_type} net", expected="one linear layer that gives its logits",
            found=f"{len(heads)}", fix="another net",
        )  # fmt: skip
    return heads[0]


class DistillationTrainer(FashionTrainer):
    """`FashionTrainer` whose loss is shared between the labels and a teacher.

    The loss of a row is (1 - weight) times that of its label, plus weight times T^2 KL(teacher / T || student / T) of
    the softmax of the logits (Hinton et al. 2015, arXiv 1503.02531); rows without a label have the teacher's alone.
    With `feature_weight` comes so many times how far the photos of a batch lie from each other otherwise than for the
    teacher, by what both heads are given (similarity-preserving, Tung and Mori 2019, arXiv 1907.09682).

    Evaluation looks at the labels alone.

    Args:
        *args: Of `FashionTrainer`.
        teacher: The large net.
        weight: Its share, from 0 to 1.
        temperature: T: above 1 it tells more of what is unlikely.
        feature_weight: Of the features; 0 for none.
        **kwargs: Of that; `compute_loss_func` is the loss of the labels.
    """

    def __init__(
        self, *args: Any, teacher: Teacher, weight: float = 0.7, temperature: float = 2.0, feature_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        in_range("teacher_weight", weight, 0.0, 1.0)
        in_range("teacher_temperature", temperature, 0.1, 100.0)
        in_range("teacher_features", feature_weight, 0.0, 1e6)
        self.teacher, self.weight, self.temperature, self.feature_weight = teacher, weight, temperature, feature_weight
        self._head = _head(kwargs["model"] if "model" in kwargs else args[0])
        super().__init__(*args, **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not torch.is_grad_enabled():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        of_labels: Any = self.compute_loss_func
        told, seen = self.teacher(inputs["pixel_values"])
        found: list[torch.Tensor] = []
        hook = self._head.register_forward_pre_hook(lambda _, given: found.append(given[0].flatten(1)))

        def shared(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            logits = (outputs["logits"] if isinstance(outputs, dict) else outputs[0]).float()
            kept = labels != UNLABELLED if labels.ndim == 1 else torch.ones_like(labels[:, 0], dtype=torch.bool)
            share = torch.where(kept, self.weight, 1.0)  # rows without a label have nobody else to learn from
            rows = rows_of(labels, num_items_in_batch)
            loss = (share * apart(logits, told, self.temperature)).sum() / rows
            if self.weight < 1 and kept.any():
                count = labels.numel() if num_items_in_batch is None else num_items_in_batch
                loss = loss + (1 - self.weight) * of_labels({"logits": logits[kept]}, labels[kept], count)
            if self.feature_weight:
                loss = loss + self.feature_weight * unlike(found[0].float(), seen) * len(labels) / rows
            return loss

        self.compute_loss_func = shared
        try:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self.compute_loss_func = of_labels
            hook.remove()


def apart(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 KL(teacher / T || student / T) of the softmax of logits (rows, classes): (rows,)."""
    ours, theirs = ((one / temperature).log_softmax(1) for one in (student, teacher))
    return functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(1) * temperature**2


def unlike(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How otherwise two nets lay out a batch: mean square of the difference of their similarities (rows, rows), each
    row of these of length 1; features are (rows, any width)."""
    ours, theirs = (functional.normalize(one @ one.T, dim=1) for one in (student, teacher))
    return (ours - theirs).square().mean()
