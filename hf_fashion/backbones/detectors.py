"""`load_detector`: a checkpoint whose classes are the labels, or a new detector over the backbone of a classifier."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image as PILImage
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_BACKBONE_MAPPING,
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    ConditionalDetrImageProcessor,
    DetrImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    RTDetrImageProcessor,
    TimmBackboneConfig,
    TimmWrapperConfig,
)
from transformers.utils import logging

from hf_fashion.backbones import freezing
from hf_fashion.backbones.loading import load_classifier
from hf_fashion.backbones.preprocessing import input_spec
from hf_fashion.backbones.sources import EMBEDDED, find, first_line, read_config
from hf_fashion.errors import InputError

# Architectures that can be built over a backbone, in sizes that some hundred photos and a CPU can feed; the values
# that papers and checkpoints have are those of transformers' own configs.
_NARROW = {
    "d_model": 128, "encoder_hidden_dim": 128, "encoder_ffn_dim": 512, "decoder_in_channels": [128] * 3,
    "decoder_ffn_dim": 512, "decoder_layers": 3, "num_queries": 100,
}  # fmt: skip
NEW: dict[str, dict[str, Any]] = {
    "rt_detr_v2": _NARROW,
    "d_fine": _NARROW,
    "detr": {"decoder_layers": 3, "encoder_layers": 3, "num_queries": 50},
    "conditional_detr": {"decoder_layers": 3, "encoder_layers": 3, "num_queries": 100},
}
_PROCESSORS: dict[str, Any] = {
    "rt_detr_v2": RTDetrImageProcessor, "d_fine": RTDetrImageProcessor, "detr": DetrImageProcessor,
    "conditional_detr": ConditionalDetrImageProcessor,
}  # fmt: skip
_STRIDES = (8, 16, 32)  # of the maps that RT-DETR and D-FINE see
_DETECTORS: Any = MODEL_FOR_OBJECT_DETECTION_MAPPING
_BACKBONES: Any = MODEL_FOR_BACKBONE_MAPPING
_TIMM: Any = TimmBackboneConfig
_LONGEST = 1333 / 800  # the limit of the longer side over the shorter one, as DETR has it


def load_detector(
    model: str | Path,
    labels: Sequence[str] | None = None,
    *,
    backbone: str | Path | None = None,
    detector_config: Mapping[str, Any] | None = None,
    freeze: str = "none",
    image_size: int | Sequence[int] | None = None,
    revision: str | None = None,
) -> tuple[PreTrainedModel, Any]:
    """Loads a detector in 32-bit floats whose classes are `labels`.

    All that depends on the classes is drawn anew (from torch's global random state: seed first), unless `labels` are
    the checkpoint's own in the same order.

    Args:
        model: A Hub id or a local folder that `AutoModelForObjectDetection` loads; with `backbone` an architecture:
            one of `NEW`.
        labels: The class names; None for the checkpoint's own.
        backbone: A classifier, as `load_classifier` takes it, whose weights the new detector begins with; the rest of
            it is random.
        detector_config: Values of the architecture's config, over those in `NEW`.
        freeze: What does not learn: `none`, `backbone` or `stages:N`, see `freeze`.
        image_size: Pixels: the side of the square that the net sees, or its height and width; where it sees photos in
            their own proportions, the shorter side, to which the longer one's limit keeps its proportion. None for
            the checkpoint's own.
        revision: Branch, tag or commit of a Hub id.

    Returns:
        The model, in eval mode, and its image processor.

    Raises:
        InputError: The checkpoint, the backbone, the plan or the size cannot be used; the message says what can.
    """
    sides = [image_size] if isinstance(image_size, int) else list(image_size or ())
    if (image_size is not None and len(sides) not in (1, 2)) or any(not 32 <= side <= 4096 for side in sides):
        raise InputError(
            "the image size", expected="32 to 4096 pixels: one side, or height and width", found=repr(image_size),
            fix="--image_size 640, or --image_size 640 480",
        )  # fmt: skip
    if labels is not None and (not labels or len(set(labels)) != len(labels)):
        raise InputError(
            "the labels of the detector", expected="one or more different class names",
            found=f"{len(labels)} names, {len(set(labels))} of them different", fix="give every class its own name",
        )  # fmt: skip
    if backbone is None:
        if detector_config:
            raise InputError(
                "--detector_config", expected="a new detector, over a --backbone", found="a checkpoint with its own",
                fix="leave it out, or --model rt_detr_v2 --backbone efficientnet-lite0",
            )  # fmt: skip
        net, processor = _load_checkpoint(model, labels, sides, revision)
    else:
        net, processor = _build(str(model), backbone, labels, detector_config or {}, sides or [384], revision)
    size = dict(processor.size)
    shown = [size["height"], size["width"]] if "height" in size else []
    refuse_sides(net, shown)
    _refuse_few_cells(net, shown)
    freezing.freeze(net, freeze)
    return net.eval(), processor


def is_detector(model: str | Path, revision: str | None = None) -> bool:
    """Whether a checkpoint is a detector's, by its config.json; a Hub id is downloaded for it, as loading would do."""
    if str(model) in EMBEDDED:
        return False
    try:
        raw = json.loads((find(model, revision) / "config.json").read_text(encoding="utf-8"))
        kind = CONFIG_MAPPING[raw["model_type"]]
    except (OSError, ValueError, KeyError, TypeError):  # whoever loads it says what is wrong
        return False
    return kind in MODEL_FOR_OBJECT_DETECTION_MAPPING


def refuse_sides(model: PreTrainedModel, sides: Sequence[int]) -> None:
    """Raises InputError for sides in pixels that a net cannot take.

    RT-DETR and D-FINE join maps that fit exactly; RF-DETR cuts its patches into windows of one size.
    """
    step = 1
    backbone: Any = getattr(model.config, "backbone_config", None)
    if hasattr(model.config, "encoder_in_channels"):
        step = _STRIDES[-1]
    elif hasattr(backbone, "num_windows"):
        step = backbone.patch_size * backbone.num_windows
    odd = [side for side in sides if side % step]
    if odd:
        raise InputError(
            f"sides of {', '.join(map(str, odd))} pixels for this {model.config.model_type} net",
            expected=f"multiples of {step}", found=", ".join(map(str, odd)),
            fix=f"{max(1, round(odd[0] / step)) * step}, for example",
        )  # fmt: skip


def _refuse_few_cells(model: Any, shown: Sequence[int]) -> None:
    """Raises InputError where RT-DETR or D-FINE have fewer cells than queries, which are chosen from them."""
    strides = getattr(model.config, "feat_strides", ()) if hasattr(model.config, "encoder_in_channels") else ()
    if not shown or not strides:
        return
    cells, queries = sum((shown[0] // step) * (shown[1] // step) for step in strides), model.config.num_queries
    if cells < queries:
        raise InputError(
            f"pictures of {shown[0]} x {shown[1]} pixels for this {model.config.model_type} net",
            expected=f"{queries} cells or more, as many as it has queries", found=f"{cells} cells",
            fix="a larger --image_size; or, for a new detector, "
            f"--detector_config '{{\"num_queries\": {max(1, cells // 2)}}}'",
        )  # fmt: skip


def _load_checkpoint(
    model: str | Path, labels: Sequence[str] | None, sides: Sequence[int], revision: str | None
) -> tuple[PreTrainedModel, Any]:
    if str(model) in NEW and not Path(model).exists():
        raise InputError(
            f"the model '{model}'", expected="a checkpoint", found="the name of an architecture",
            fix=f"--model {model} --backbone efficientnet-lite0, to build one over that backbone",
        )  # fmt: skip
    folder = find(model, revision)
    config = read_config(folder, model, detector=True)
    own = [str(name) for _, name in sorted((config.id2label or {}).items())]
    # Nets with COCO's own numbers have places without a class, each of them called N/A.
    own = [name if own.index(name) == place else f"{name} ({place})" for place, name in enumerate(own)]
    names = own if labels is None else list(labels)
    _set_labels(config, names)
    try:
        processor: Any = AutoImageProcessor.from_pretrained(folder, backend="torchvision", trust_remote_code=False)
    except Exception as error:  # whatever its own checks raise
        raise InputError(
            f"the image processor of the model '{model}'", expected="a preprocessor_config.json of transformers",
            found=first_line(error),
            fix="AutoImageProcessor.from_pretrained(<original>).save_pretrained(<folder>)",
        ) from error  # fmt: skip
    if not hasattr(processor, "post_process_object_detection"):
        raise InputError(
            f"the image processor of the model '{model}'", expected="one of a detector, which turns logits into boxes",
            found=type(processor).__name__, fix="save the processor of the original detector there",
        )  # fmt: skip
    if sides:
        processor.size = _size(processor, sides)
    net, lost = _weights(folder, config, model)
    classes = _of_classes(config)
    if lost - classes or (labels is None and lost):
        odd = sorted(lost - classes) or sorted(lost)
        raise InputError(
            f"the weights of the model '{model}'", expected="every tensor of the detector",
            found=f"{len(odd)} that are missing or of another shape ({', '.join(odd[:3])}); they would be random",
            fix="take a checkpoint whose config.json and model.safetensors belong together",
        )  # fmt: skip
    if names != own:
        fresh: Any = AutoModelForObjectDetection.from_config(config)
        tensors = {name: tensor for name, tensor in fresh.state_dict().items() if name in classes}
        net.load_state_dict(tensors, strict=False)
    net.name_or_path = net.config.name_or_path = str(model)
    return net, processor


def _set_labels(config: PreTrainedConfig, names: Sequence[str]) -> None:
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in config.id2label.items()}


def _weights(folder: Path, config: PreTrainedConfig, model: str | Path) -> tuple[PreTrainedModel, set[str]]:
    """The net, and the tensors that the file did not give."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is looked at here
    try:
        net, info = AutoModelForObjectDetection.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # each architecture raises something of its own
        raise InputError(
            f"the model '{model}'", expected="a detector that transformers can load",
            found=f"{type(error).__name__}: {first_line(error)}", fix="save or download it again",
        ) from error  # fmt: skip
    finally:
        logging.set_verbosity(verbosity)
    return net, set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}


def _of_classes(config: PreTrainedConfig) -> set[str]:
    """Names of the tensors whose shape depends on the number of classes."""

    def shapes(more: int) -> dict[str, torch.Size]:
        other: Any = type(config).from_dict(config.to_dict())
        _set_labels(other, [str(number) for number in range(int(config.num_labels or 0) + more)])
        with torch.device("meta"):
            net = _DETECTORS[type(config)](other)
        return {name: tensor.shape for name, tensor in net.state_dict().items()}

    now, then = shapes(0), shapes(1)
    return {name for name, shape in now.items() if shape != then[name]}


def _size(processor: Any, sides: Sequence[int]) -> dict[str, int]:
    if "height" in dict(processor.size):
        return {"height": sides[0], "width": sides[-1]}
    if len(sides) == 2:
        raise InputError(
            f"--image_size {sides[0]} {sides[1]}", expected="one number: the net sees photos in their proportions",
            found="two", fix=f"--image_size {min(sides)}",
        )  # fmt: skip
    return {"shortest_edge": sides[0], "longest_edge": round(sides[0] * _LONGEST)}


def _build(
    architecture: str,
    backbone: str | Path,
    labels: Sequence[str] | None,
    detector_config: Mapping[str, Any],
    sides: Sequence[int],
    revision: str | None,
) -> tuple[PreTrainedModel, Any]:
    """A new detector whose backbone has the weights of a classifier."""
    what = f"--model {architecture} --backbone {backbone}"
    if architecture not in NEW:
        raise InputError(
            what, expected=f"an architecture: {', '.join(NEW)}", found=architecture,
            fix="one of these; or leave --backbone out, for a checkpoint of a detector",
        )  # fmt: skip
    if labels is None:
        raise InputError(
            "the labels of the detector", expected="class names", found="none, and a new detector has none of its own",
            fix="a checkpoint in place of --backbone",
        )  # fmt: skip
    kind = CONFIG_MAPPING[architecture]
    unknown = sorted(set(detector_config) - set(kind().to_dict()))
    if unknown:
        raise InputError(
            f"--detector_config {json.dumps(dict(detector_config))}", expected=f"values of {kind.__name__}",
            found=f"no such: {', '.join(unknown)}", fix="see the documentation of that class",
        )  # fmt: skip
    classifier, shown = load_classifier(backbone, ["one", "two"], revision=revision)  # its head is not used
    own, tensors, channels = _as_backbone(classifier, backbone)
    values: dict[str, Any] = {**NEW[architecture], **detector_config, "backbone_config": own}
    several = "encoder_in_channels" in kind().to_dict()
    if several:
        values["encoder_in_channels"] = channels
        if isinstance(own, TimmBackboneConfig):
            # The architecture would put plain norms in the place of timm's, which hold the activations, too; timm
            # freezes its own (`freeze_batch_norm_2d`).
            values["freeze_backbone_batch_norms"] = False
    try:
        config = kind(**values)
        _set_labels(config, labels)
        net = _DETECTORS[kind](config)
    except Exception as error:  # whatever the architecture refuses
        raise InputError(
            what, expected="values that fit together", found=f"{type(error).__name__}: {first_line(error)}",
            fix="other values in --detector_config",
        ) from error  # fmt: skip
    place = net.get_submodule(str(freezing.detector_backbone(net))).model
    state = {name: tensors.get(_plain(name)) for name in place.state_dict()}
    lost = [name for name, tensor in state.items() if tensor is None and "hidden_states_norms" not in name]
    if lost:
        raise _no_maps(backbone, f"{len(lost)} tensors that it does not have ({', '.join(lost[:3])})")
    if several:
        _draw(net)
    place.load_state_dict({name: tensor for name, tensor in state.items() if tensor is not None}, strict=False)
    spec = input_spec(shown)
    processor: Any = _PROCESSORS[architecture](
        do_normalize=True, image_mean=list(spec.mean), image_std=list(spec.std), resample=PILImage.Resampling.BILINEAR
    )
    processor.size = _size(processor, sides)
    net.name_or_path = net.config.name_or_path = f"{architecture} over {backbone}"
    return net, processor


@torch.no_grad()
def _draw(net: Any) -> None:
    """Random weights of RT-DETR and D-FINE: PyTorch's own way and the papers' zeros, where transformers (5.23) draws
    all from a normal distribution of a deviation of 0.01. Beyond the papers, a decoder layer begins by adding nothing.
    """
    parts = net.model
    new = [parts.encoder_input_proj, parts.encoder, parts.decoder_input_proj, parts.enc_output, parts.enc_bbox_head]
    new += [net.bbox_embed, parts.decoder.query_pos_head]
    ends = [parts.enc_bbox_head, *net.bbox_embed]
    if net.config.model_type == "d_fine":
        qualities = [layer.reg_conf for layer in parts.decoder.lqe_layers]
        new += [parts.decoder.pre_bbox_head, *qualities]
        ends += [parts.decoder.pre_bbox_head, *qualities]
    new += [
        part
        for layer in parts.decoder.layers
        for name, part in layer.named_children()
        if not name.startswith("encoder_")
    ]  # the deformable attention has a way of its own, which transformers follows
    for module in (module for part in new for module in part.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm)):
            module.reset_parameters()
    for head in ends:  # a box begins where its cell is
        last = head.layers[-1]
        last.weight.zero_()
        last.bias.zero_()
    parts.enc_score_head.bias.fill_(-math.log(99))  # every class begins at a score of 0.01
    for head in net.class_embed:
        head.load_state_dict(parts.enc_score_head.state_dict())
    for name, last in parts.decoder.layers.named_modules():  # a layer begins by passing on what the encoder says
        if name.endswith(("self_attn.o_proj", "encoder_attn.output_proj", "mlp.fc2")):
            last.weight.zero_()
            last.bias.zero_()


def _plain(name: str) -> str:
    """A tensor of a timm backbone as timm calls it; some architectures hold the wrapper, some what is in it."""
    return name.removeprefix("_backbone.")


def _as_backbone(
    classifier: PreTrainedModel, name: str | Path
) -> tuple[PreTrainedConfig, dict[str, torch.Tensor], list[int]]:
    """A classifier without its head: the config of the backbone that it is, its tensors, the channels of its maps."""
    config: Any = classifier.config
    if isinstance(config, TimmWrapperConfig):
        probe: Any = timm.create_model(config.architecture, features_only=True)
        steps = probe.feature_info.reduction()
        places = [steps.index(stride) for stride in _STRIDES if stride in steps]
        if len(places) < len(_STRIDES):
            raise _no_maps(name, f"maps of {', '.join(map(str, steps))} pixels")
        own: Any = _TIMM(
            backbone=config.architecture,
            out_indices=places,
            features_only=True,
            use_pretrained_backbone=False,
            freeze_batch_norm_2d=True,
        )
        net: Any = classifier
        return own, net.timm_model.state_dict(), [probe.feature_info.channels()[place] for place in places]
    stages = len(getattr(config, "stage_names", ()))
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING or stages < 4:
        raise _no_maps(name, f"a {config.model_type} net" + f" of {stages - 1} stages" * (stages > 0))
    own = type(config).from_dict(config.to_dict())
    own.set_output_features_output_indices(out_indices=[stages - 3, stages - 2, stages - 1], out_features=None)
    with torch.device("meta"):
        made = _BACKBONES[type(own)](own)
    if len(set(made.channels)) < 2:
        raise _no_maps(name, f"a {config.model_type} net, whose blocks all see one size")
    # Some backbones keep the prefix of the classifier's tensors, some do not.
    tensors = classifier.state_dict()
    prefix = f"{classifier.base_model_prefix}."
    return own, tensors | {key.removeprefix(prefix): value for key, value in tensors.items()}, list(made.channels)


def _no_maps(name: str | Path, found: str) -> InputError:
    return InputError(
        f"--backbone {name}", expected="a net with maps of 8, 16 and 32 pixels: of convolutions, or Swin", found=found,
        fix="--backbone efficientnet-lite0, microsoft/resnet-50, facebook/convnext-tiny-224, or timm/<name>",
    )  # fmt: skip
