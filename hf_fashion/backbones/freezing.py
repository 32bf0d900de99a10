"""Parts of a net that do not learn."""

import re
from typing import Any

from timm.models import group_parameters
from torch import nn
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    MODEL_MAPPING,
    PreTrainedModel,
    TimmWrapperForImageClassification,
    TimmWrapperModel,
)

from hf_fashion.errors import InputError


def freeze(model: PreTrainedModel, plan: str) -> None:
    """Freezes a part of a net: its parameters do not learn, and its modules stay in eval mode while it trains.

    So frozen batch norms keep their statistics, and frozen dropout and drop-path do nothing, although `Trainer` calls
    `model.train()` before every step (trap 7): a hook before each forward pass sets them back. The hook is a plain
    function and the list of modules an attribute, `model.frozen`, so copies and pickles of the model behave alike.
    Freezing again replaces the earlier plan.

    Args:
        model: An image classifier of transformers, timm nets included, a detector, or a net without a head, of which
            all is backbone; of one for pictures and texts (CLIP) all but the projections.
        plan: `none`; `backbone`: only the head learns (of a detector, all that comes after its backbone); `stages:N`:
            the embeddings (the stem) and the first N stages do not learn. Those are the blocks of ViT, DeiT, BEiT and
            DINOv2, the stages of Swin, ConvNeXt and ResNet (a stage has the downsampling that its class holds), and
            for timm nets the groups after the stem in timm's own `group_matcher(coarse=True)`: VGG's convolutions are
            one each, and its two hidden layers the last. All of them are the whole backbone, the last norm too: as
            `backbone`. A detector's are those of its backbone.

    Raises:
        InputError: Another plan, more stages than there are, or a net of which the stages cannot be told.
    """
    everything = backbone_parameters(model)
    match = re.fullmatch(r"stages:([0-9]{1,4})", plan)
    if plan == "none":
        names: list[str] = []
    elif plan == "backbone":
        names = everything
    elif match and int(match[1]) > 0:
        count, parts = int(match[1]), stages(model)
        most = len(parts) - 1  # beside the embeddings
        if count > most:
            raise InputError(
                f"the freeze plan '{plan}'",
                expected=f"stages:1 to stages:{most}: so many has this {model.config.model_type} net",
                found=str(count),
                fix=f"--freeze stages:{max(1, most // 2)}, or --freeze backbone for all",
            )
        names = everything if count == most else [name for part in parts[: count + 1] for name in part]
    else:
        raise InputError(
            f"the freeze plan '{plan}'",
            expected="none, backbone, or stages:N with N from 1",
            found=repr(plan),
            fix="--freeze backbone, or --freeze stages:2",
        )
    before: dict[str, list[str]] | None = getattr(model, "frozen", None)
    for name in before["parameters"] if before else []:
        model.get_parameter(name).requires_grad_(True)
    learning = [name for name in names if model.get_parameter(name).requires_grad]
    for name in learning:
        model.get_parameter(name).requires_grad_(False)
    if before is None:
        model.register_forward_pre_hook(_hold_in_eval)
    setattr(model, "frozen", {"parameters": learning, "modules": _modules_of(model, set(names))})  # noqa: B010
    _hold_in_eval(model, ())


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The modules that `freeze` keeps in eval mode."""
    frozen: dict[str, list[str]] | None = getattr(model, "frozen", None)
    names = set(frozen["modules"]) if frozen else set()
    return [module for name, module in model.named_modules() if name in names]


def _hold_in_eval(model: nn.Module, _inputs: Any) -> None:
    for module in frozen_modules(model):
        module.training = False


def _modules_of(model: nn.Module, frozen: set[str]) -> list[str]:
    """Modules with frozen parameters only; those without any (dropout, drop-path) if a frozen one comes after them."""
    found: list[str] = []
    waiting: list[str] = []  # without parameters, and so far no frozen module after them

    def walk(module: nn.Module, prefix: str) -> None:
        for child_name, child in module.named_children():
            name = f"{prefix}{child_name}"
            states = {f"{name}.{key}" in frozen for key, _ in child.named_parameters()}
            inside = [name, *(f"{name}.{key}" for key, _ in child.named_modules() if key)]
            if states == {True}:
                found.extend((*waiting, *inside))
                waiting.clear()
            elif not states:
                waiting.extend(inside)
            elif states == {True, False}:
                walk(child, f"{name}.")

    walk(model, "")
    return found


def _body(model: PreTrainedModel) -> nn.Module:
    """The encoder: what a classifier has beside its head. CLIP's and SigLIP's classes do not name it."""
    bare: Any = MODEL_MAPPING.get(type(model.config), None)
    if bare is not None and isinstance(model, bare):
        return model
    return model.base_model if model.base_model is not model else next(model.children())


def detector_backbone(model: nn.Module) -> str | None:
    """The name of the part of a detector that sees the picture first; None for a net that is no detector.

    In the nets of the DETR family it is a module called `backbone`; YOLOS is a ViT with two heads and nothing between.
    """
    if type(model) not in MODEL_FOR_OBJECT_DETECTION_MAPPING.values():
        return None
    # The innermost one: RF-DETR's first `backbone` holds the projections into the detector, too.
    named = [name for name, _ in model.named_modules() if name.rpartition(".")[2] == "backbone"]
    inner = max((name for name in named if name.startswith(named[0])), key=len, default=None)
    return inner or next(name for name, module in model.named_modules() if module is _body(model))  # type: ignore[arg-type]


def backbone_parameters(model: PreTrainedModel) -> list[str]:
    """Names of the parameters of the backbone: what a picture passes before the head, or before the detector."""
    backbone = detector_backbone(model)
    if backbone is not None:
        return [name for name, _ in model.named_parameters() if name.startswith(f"{backbone}.")]
    if hasattr(model, "get_image_features"):
        return [name for name, _ in model.named_parameters() if name.startswith(("vision_model.", "text_model."))]
    head = {id(parameter) for part in head_layers(model) for parameter in part.parameters()}
    return [name for name, parameter in model.named_parameters() if id(parameter) not in head]


def head_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The layers of a classifier that give the logits."""
    if isinstance(model, TimmWrapperModel):
        return []
    if isinstance(model, TimmWrapperForImageClassification):
        head = model.timm_model.get_classifier()
        return list(head) if isinstance(head, (tuple, list)) else [head]
    inside = set(_body(model).modules())
    layers = [
        module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d)) and module not in inside
    ]
    return [layer for layer in layers if layer.weight.shape[0] == model.config.num_labels]


def stages(model: PreTrainedModel) -> list[list[str]]:
    """Names of the backbone's parameters as a picture passes them: the embeddings', the first stage's, and so on.

    The first list is empty where a timm net does not tell its embeddings from its first stage. What comes after the
    last stage (a norm) is in none of them.

    Raises:
        InputError: A net of which the stages cannot be told.
    """
    backbone = backbone_parameters(model)
    embeddings: list[str] = []
    groups: list[list[str]] = []
    if detector_backbone(model) is not None:
        embeddings, groups = _numbered(backbone)
    elif isinstance(model, (TimmWrapperForImageClassification, TimmWrapperModel)):
        net, known = model.timm_model, set(backbone)
        matcher = net.group_matcher(coarse=True) if hasattr(net, "group_matcher") else None
        named = group_parameters(net, matcher) if matcher else {}
        groups = [[f"timm_model.{name}" for name in named[key]] for key in sorted(named)]
        # Of the group with the head, what stands before it if that is layers, as in VGG; not if it is a norm alone.
        groups = [
            [name for name in group if name in known]
            for group in groups
            if known.issuperset(group) or any(name in known and model.get_parameter(name).ndim > 1 for name in group)
        ]
        if isinstance(matcher, dict) and "stem" in matcher and len(groups) > 1:
            embeddings, groups = groups[0], groups[1:]
    else:
        body = _body(model)
        prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is body)
        lists = [
            name
            for name, module in body.named_modules()
            if isinstance(module, nn.ModuleList) and any(True for _ in module.parameters())
        ]
        lists = [name for name in lists if not any(name.startswith(f"{outer}.") for outer in lists)]
        if len(lists) == 1:  # the blocks or stages, of whatever name; before them come the embeddings
            parts = [f"{prefix}{lists[0]}.{key}." for key, _ in body.get_submodule(lists[0]).named_children()]
            groups = [[name for name in backbone if name.startswith(part)] for part in parts]
            embeddings = backbone[: backbone.index(groups[0][0])]
    if not groups or not any(groups):
        raise InputError(
            f"the stages of this {model.config.model_type} net",
            expected="a net that is one row of blocks or stages",
            found="it has several rows, or does not say its order",
            fix="--freeze backbone or --freeze none, and no --layer_decay",
        )
    return [embeddings, *groups]


def _numbered(names: list[str]) -> tuple[list[str], list[list[str]]]:
    """Parameters of a backbone by the number in `blocks.0`, `stages.0`, `stages_0`, `layers.0` or `layer1` of their
    name; what has none and comes before them are the embeddings."""
    embeddings: list[str] = []
    groups: dict[int, list[str]] = {}
    for name in names:
        found = re.search(r"\.(?:blocks|stages|layers?|features)[._]?(\d+)\.", name)
        if found:
            groups.setdefault(int(found[1]), []).append(name)
        elif not groups:
            embeddings.append(name)
    return embeddings, [groups[number] for number in sorted(groups)]
