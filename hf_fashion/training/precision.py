"""Which precision a net trains in on a device: bfloat16 where it was measured to help and to hold the loss."""

import dataclasses
import re
from typing import TypeVar

from transformers import PreTrainedConfig, PreTrainedModel, TimmWrapperConfig, TrainingArguments

from hf_fashion.devices import supports_bf16

Arguments = TypeVar("Arguments", bound=TrainingArguments)

# The families of nets of which one was measured: what their model type, or timm's architecture, is called. A name that
# merely begins alike (resnetv2_50, swin_s3_tiny, convnextv2_tiny) is another net: not measured.
_FAMILIES = {
    "swin": r"swin|swin_(tiny|small|base|large)_patch\d+_window\d+_\d+",
    "swinv2": r"swinv2|swinv2_(tiny|small|base|large)_window\d+_\d+",
    "vit": r"vit|vit_(tiny|small|base|large)_patch\d+_\d+",
    "dinov2": r"dinov2|vit_(small|base|large)_patch14_dinov2",
    "siglip": r"siglip",
    "convnext": r"convnext|convnext_(tiny|small|base|large)",
    "resnet": r"resnet|resnet\d+",
    "vgg": r"vgg\d+",
    "inception_v3": r"inception_v3",
    "efficientnet_lite": r"(tf_)?efficientnet_lite\d",
}
# Training steps in bfloat16 over those in full precision on a CPU that has it in its instructions: ratio of photos/s
# by `benchmarks/precision.py`, one thread of an AMD EPYC with AVX512-BF16.
GAIN_ON_CPU = {
    "swin": 1.7, "swinv2": 1.7, "vit": 1.7, "dinov2": 1.4, "siglip": 1.7, "convnext": 1.6,
}  # fmt: skip
# Attention written out in torch is quicker than its fused kernel in bfloat16 on a CPU: the windows of a Swin have a
# bias that learns, which sends the fused one to a slow way (a step of swin-tiny takes 1.5 times as long), and of
# dinov2 its backward pass is slow (1.25 times). `benchmarks/precision.py`, one thread of an Intel Xeon with AMX.
EAGER_ON_CPU = {"swin", "dinov2"}
# Those that failed its gate: rounding moves their gradient by more than a tenth of what other pictures do.
FAILED = {"efficientnet_lite", "inception_v3", "resnet", "vgg"}
WORTH = 1.3  # a smaller gain is not worth another rounding


def family(config: PreTrainedConfig) -> str:
    """The family of a net, a key of `GAIN_ON_CPU` or one of `FAILED`; nothing for one that was not measured."""
    name = config.architecture if isinstance(config, TimmWrapperConfig) else config.model_type
    name = str(name).partition(".")[0]  # timm's names may end with the name of the weights
    return next((kind for kind, called in _FAMILIES.items() if re.fullmatch(called, name)), "")


def with_precision(args: Arguments, model: PreTrainedModel, wanted: str = "auto") -> Arguments:
    """The arguments of a training, with `bf16` where it helps; as they are when `bf16` or `fp16` was asked for.

    A net of `EAGER_ON_CPU` that trains in bfloat16 on a CPU takes its attention eagerly from here on.

    On a GPU with bfloat16 every net takes it (on the word of its maker: not measured here), but for those of `FAILED`;
    on a CPU those of `GAIN_ON_CPU` alone. The net is saved and measured in full precision in any case
    (`FashionTrainer.predict`).

    Args:
        args: The arguments.
        model: The net.
        wanted: "auto" or "full".
    """
    device = args.device.type
    kind = family(model.config)
    if wanted != "full" and not (args.bf16 or args.fp16) and _helps(kind, device):
        # `use_cpu` is what transformers asks of those who want bfloat16 without a GPU.
        args = dataclasses.replace(args, bf16=True, use_cpu=args.use_cpu or device == "cpu")
    if args.bf16 and device == "cpu" and kind in EAGER_ON_CPU and not isinstance(model.config, TimmWrapperConfig):
        model.set_attn_implementation("eager")
    return args


def _helps(kind: str, device: str) -> bool:
    if device not in ("cpu", "cuda") or not supports_bf16(device) or kind in FAILED:
        return False
    return device == "cuda" or GAIN_ON_CPU.get(kind, 1.0) >= WORTH
