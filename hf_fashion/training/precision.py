"""Which precision a net trains in on a device: bfloat16 where it was measured to help and to hold the loss."""

import dataclasses
from typing import TypeVar

import torch
from transformers import PreTrainedModel, TimmWrapperConfig, TrainingArguments

Arguments = TypeVar("Arguments", bound=TrainingArguments)

# Training steps in bfloat16 over those in full precision on a CPU that has it in its instructions: ratio of photos/s
# by `benchmarks/precision.py`, one thread of an AMD EPYC with AVX512-BF16. By how the name of the model type, or of
# timm's architecture, begins: a family has the same blocks, of which one net was measured.
GAIN_ON_CPU = {
    "swin": 1.8, "vit": 1.8, "dinov2": 1.5, "siglip": 1.7, "convnext": 1.6, "resnet": 1.7, "vgg": 1.7,
    "tf_efficientnet_lite": 1.0,
}  # fmt: skip
WORTH = 1.3  # a smaller gain is not worth another rounding


def supports_bf16(device: str) -> bool:
    """Whether a device computes in bfloat16 by itself; what merely emulates it is slower than full precision.

    Args:
        device: "cpu" or "cuda".
    """
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def with_precision(args: Arguments, model: PreTrainedModel, wanted: str = "auto") -> Arguments:
    """The arguments of a training, with `bf16` where it helps; as they are when `bf16` or `fp16` was asked for.

    On a GPU with bfloat16 every net takes it (on the word of its maker: not measured here); on a CPU those of
    `GAIN_ON_CPU`. The net is saved and measured in full precision in any case (`FashionTrainer.predict`).

    Args:
        args: The arguments.
        model: The net.
        wanted: "auto" or "full".
    """
    device = args.device.type
    if wanted == "full" or args.bf16 or args.fp16 or device not in ("cpu", "cuda") or not supports_bf16(device):
        return args
    config = model.config
    kind = config.architecture if isinstance(config, TimmWrapperConfig) else config.model_type
    gain = next((gain for family, gain in GAIN_ON_CPU.items() if str(kind).startswith(family)), 1.0)
    if device == "cpu" and gain < WORTH:
        return args
    # `use_cpu` is what transformers asks of those who want bfloat16 without a GPU.
    return dataclasses.replace(args, bf16=True, use_cpu=args.use_cpu or device == "cpu")
