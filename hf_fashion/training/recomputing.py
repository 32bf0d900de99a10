"""Activation checkpointing: which nets can do it, and batch norms that count a batch once."""

import torch
from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from hf_fashion.errors import InputError


def can_recompute(model: nn.Module) -> bool:
    """Whether a net can forget what its layers gave, and compute it again when the gradients ask for it."""
    return bool(getattr(model, "supports_gradient_checkpointing", False))


def refuse_recomputing(args: TrainingArguments, model: PreTrainedModel) -> None:
    """Raises InputError where activation checkpointing was asked for and the net has none.

    Args:
        args: The arguments of the training.
        model: The net.
    """
    if args.activation_checkpointing and not can_recompute(model):
        kind = getattr(model.config, "architecture", None) or model.config.model_type
        raise InputError(
            "--activation_checkpointing True", expected="a net that can compute its layers a second time",
            found=f"{kind}, which its library gives no such way",
            fix="leave it out; against full memory: --per_device_train_batch_size 8 --gradient_accumulation_steps 4",
        )  # fmt: skip


class HeldNorms:
    """The batch norms of a net, which learn nothing from here until `release`.

    With activation checkpointing the layers compute a batch a second time, within the backward pass, and their batch
    norms would move their running statistics a second time, too.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self._momenta = [(norm, norm.momentum) for norm in norms]
        self._counts = [
            (norm.num_batches_tracked, norm.num_batches_tracked.clone())
            for norm in norms
            if norm.num_batches_tracked is not None
        ]
        for norm in norms:
            # Not the statistics themselves, put back afterwards: the graph of the step may hold them, unchanged.
            norm.momentum = 0.0

    def release(self) -> None:
        """From here on they learn again."""
        for norm, momentum in self._momenta:
            norm.momentum = momentum
        with torch.no_grad():
            for count, before in self._counts:
                count.copy_(before)
