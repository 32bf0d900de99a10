"""Optimizers whose parts of the net learn at different speeds."""

from typing import Any, cast

import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hf_fashion.backbones.freezing import backbone_parameters, stages
from hf_fashion.errors import InputError, in_range, library_errors


def parameter_groups(
    model: PreTrainedModel,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    head_learning_rate: float | None = None,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """The learning parameters of a net in groups, each with its learning rate and weight decay.

    With `layer_decay` the last stage learns at `learning_rate` times it, the stage before at that times it again, and
    so on down to the embeddings (Clark et al. 2020, arXiv 2003.10555; Bao et al. 2021, arXiv 2106.08254). A norm after
    the last stage learns at the whole rate; timm counts it to the last stage. Stages are those of `backbones.freeze`:
    the blocks of ViT, DeiT, BEiT and DINOv2, the stages of Swin, ConvNeXt and ResNet, the coarse groups of timm nets.

    Weights decay as in `Trainer`: all but biases and the norms that it knows by class or name.

    Args:
        model: An image classifier or a detector, or one from `add_lora`; parameters that are frozen are left out.
        learning_rate: Peak rate of the backbone.
        weight_decay: Of every weight but biases and norms.
        head_learning_rate: Peak rate of the layers that give the logits, and of all of a detector that comes after its
            backbone; None for the backbone's.
        layer_decay: Above 0, up to 1; None for none.

    Returns:
        Groups {params, lr, weight_decay}, from the net's end to its beginning and the head last. The first one's rate
        is what `Trainer` logs.

    Raises:
        InputError: A rate or decay out of its range, nothing that learns, or a net without stages that can be told.
    """
    in_range("learning_rate", learning_rate, 0.0, 10.0)
    in_range("head_learning_rate", learning_rate if head_learning_rate is None else head_learning_rate, 0.0, 10.0)
    in_range("layer_decay", 1.0 if layer_decay is None else layer_decay, 1e-6, 1.0)
    net: PreTrainedModel = cast(Any, model).get_base_model() if hasattr(model, "get_base_model") else model
    backbone = set(backbone_parameters(net))
    depth: dict[str, int] = {}  # how many stages from the end; what is in none of them is at 0
    if layer_decay is not None:
        rows = stages(net)
        depth = {name: len(rows) - number for number, names in enumerate(rows) for name in names}
    # The method asks nothing of its Trainer.
    decaying = set(Trainer.get_decay_parameter_names(cast(Any, None), net))
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            place = depth.get(name, 0) if name in backbone else float("inf")
            groups.setdefault((place, name not in decaying), []).append(parameter)
    if not groups:
        raise InputError(
            "the optimizer", expected="a net with something that learns", found="every parameter is frozen",
            fix="--freeze none, or --freeze backbone",
        )  # fmt: skip
    made = []
    for place, plain in sorted(groups):
        if place == float("inf"):
            rate = learning_rate if head_learning_rate is None else head_learning_rate
        else:
            rate = learning_rate * (1.0 if layer_decay is None else layer_decay) ** place
        made.append({"params": groups[place, plain], "lr": rate, "weight_decay": 0.0 if plain else weight_decay})
    return made


def optimizer(
    model: PreTrainedModel,
    args: TrainingArguments,
    *,
    head_learning_rate: float | None = None,
    layer_decay: float | None = None,
) -> torch.optim.Optimizer:
    """The optimizer that `args.optim` names, over `parameter_groups`.

    For `Trainer(optimizers=(optimizer(...), None))`.

    The Trainer makes the schedule; it scales the rate of every group alike.

    Args:
        model: The net that the Trainer gets.
        args: Its arguments: `optim`, `learning_rate`, `weight_decay`, the betas, ...
        head_learning_rate: See `parameter_groups`.
        layer_decay: See there.

    Raises:
        InputError: See there; or an optimizer that makes groups of its own (GaLore, LOMO, ...).
    """
    with library_errors(f"--optim {args.optim}"):
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if (
        not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer))
        or {"params", "model", "optimizer_dict"} & settings.keys()
    ):
        raise InputError(
            f"--optim {args.optim} with learning rates by part", expected="an optimizer that takes groups",
            found="one that makes its own", fix="--optim adamw_torch",
        )  # fmt: skip
    groups = parameter_groups(
        model, learning_rate=args.learning_rate, weight_decay=args.weight_decay,
        head_learning_rate=head_learning_rate, layer_decay=layer_decay,
    )  # fmt: skip
    made: torch.optim.Optimizer = kind(groups, **settings)
    return made
