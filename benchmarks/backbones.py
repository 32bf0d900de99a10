"""Size, cost and published accuracy of the nets of `recipes/configs`, as a Markdown table.

    python benchmarks/backbones.py

Needs no weights and no network: each net is built from what its checkpoint's config.json says, written out below, on
torch's meta device, where tensors have shapes and no numbers; so parameters and operations are counted, not estimated.

Parameters are those that `load_classifier` gives for 10 classes. GMACs are the multiply-adds of the convolutions and
matrix products for one photo: half of the operations that `torch.utils.flop_counter` counts, and what papers give
(often under the name FLOPs). Top-1 is on ImageNet-1k and the sources' own; nothing was measured here.
"""

from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedModel


class Net(NamedTuple):
    """A config `classify-<name>`: its checkpoint, and what the table says of it."""

    checkpoint: str
    side: int  # of the photo, in pixels
    stages: int  # the largest N of `--freeze stages:N`
    license: str  # of the weights, as their card says
    top1: str  # as published, with its source
    config: dict[str, Any]


SWIN_HUB = "MODELHUB.md of microsoft/Swin-Transformer"
TIMM_RESULTS = "results-imagenet.csv of timm"
NETS = {
    "efficientnet-lite0": Net(
        "efficientnet-lite0", 224, 7, "apache-2.0", "75.1 (README of EfficientNet-Lite, Google)",
        {"model_type": "timm_wrapper", "architecture": "tf_efficientnet_lite0"},
    ),
    "sample": Net(
        "sample", 128, 3, "apache-2.0", "none published",
        {"model_type": "swin", "image_size": 128, "patch_size": 8, "window_size": 4, "embed_dim": 96,
         "depths": [2, 4, 2], "num_heads": [3, 6, 12]},
    ),
    "swin-tiny": Net(
        "microsoft/swin-tiny-patch4-window7-224", 224, 4, "apache-2.0", f"81.2 ({SWIN_HUB})",
        {"model_type": "swin", "image_size": 224, "patch_size": 4, "window_size": 7, "embed_dim": 96,
         "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    ),
    "swin-base": Net(
        "microsoft/swin-base-patch4-window7-224-in22k", 224, 4, "apache-2.0",
        f"85.2, fine-tuned on it ({SWIN_HUB})",
        {"model_type": "swin", "image_size": 224, "patch_size": 4, "window_size": 7, "embed_dim": 128,
         "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
    ),
    "swinv2-tiny": Net(
        "microsoft/swinv2-tiny-patch4-window8-256", 256, 4, "apache-2.0", f"81.8 ({SWIN_HUB})",
        {"model_type": "swinv2", "image_size": 256, "patch_size": 4, "window_size": 8, "embed_dim": 96,
         "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    ),
    "vit-base": Net(
        "google/vit-base-patch16-224-in21k", 224, 12, "apache-2.0",
        f"81.8, fine-tuned on it ({TIMM_RESULTS}, vit_base_patch16_224.orig_in21k_ft_in1k)",
        {"model_type": "vit", "image_size": 224, "patch_size": 16, "hidden_size": 768, "num_hidden_layers": 12,
         "num_attention_heads": 12, "intermediate_size": 3072},
    ),
    "dinov2-small": Net(
        "facebook/dinov2-small", 224, 12, "apache-2.0", "81.1, a linear layer on the frozen net (Oquab et al. 2023)",
        # Positions for 518 pixels, which the net interpolates; the mask token is left out by `load_classifier`.
        {"model_type": "dinov2", "image_size": 518, "patch_size": 14, "hidden_size": 384, "num_hidden_layers": 12,
         "num_attention_heads": 6, "mlp_ratio": 4, "use_mask_token": False},
    ),
    "siglip2-base": Net(
        "google/siglip2-base-patch16-224", 224, 12, "apache-2.0", "78.2, zero-shot (Tschannen et al. 2025)",
        # The pooling head, as the text tower, is left out by `load_classifier`.
        {"model_type": "siglip",
         "vision_config": {"image_size": 224, "patch_size": 16, "hidden_size": 768, "num_hidden_layers": 12,
                           "num_attention_heads": 12, "intermediate_size": 3072, "vision_use_head": False}},
    ),
    "convnext-tiny": Net(
        "facebook/convnext-tiny-224", 224, 4, "apache-2.0", "82.1 (Liu et al. 2022)",
        {"model_type": "convnext", "image_size": 224, "hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
    ),
    "resnet50": Net(
        "timm/resnet50.a1_in1k", 224, 4, "apache-2.0", "80.4 (Wightman et al. 2021)",
        {"model_type": "timm_wrapper", "architecture": "resnet50"},
    ),
    "mobilenetv4-small": Net(
        "timm/mobilenetv4_conv_small.e2400_r224_in1k", 224, 6, "apache-2.0",
        "73.8, the authors' own weights (Qin et al. 2024)",
        {"model_type": "timm_wrapper", "architecture": "mobilenetv4_conv_small"},
    ),
    "vgg16": Net(
        "timm/vgg16.tv_in1k", 224, 13, "bsd-3-clause", f"71.6 ({TIMM_RESULTS})",
        {"model_type": "timm_wrapper", "architecture": "vgg16"},
    ),
    "inception-v3": Net(
        "timm/inception_v3.tv_in1k", 299, 13, "apache-2.0", f"77.4 ({TIMM_RESULTS})",
        {"model_type": "timm_wrapper", "architecture": "inception_v3"},
    ),
}  # fmt: skip


def build(config: dict[str, Any], labels: int = 10) -> PreTrainedModel:
    """The net of a config with a head for so many labels, on the meta device."""
    whole = AutoConfig.for_model(**config, num_labels=labels)
    if config["model_type"] != "timm_wrapper":
        whole._attn_implementation = "eager"  # plain matrix products, which the counter knows on every device
    with torch.device("meta"):
        return AutoModelForImageClassification.from_config(whole).eval()


def parameters(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: PreTrainedModel, side: int) -> float:
    """Multiply-adds for one photo of `side` pixels squared."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops() / 2


def main() -> None:
    print(
        "| config | checkpoint | parameters | GMACs | photo side | stages | licence | ImageNet-1k top-1, published |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, net in NETS.items():
        model = build(net.config)
        link = f"[{net.checkpoint}](https://huggingface.co/{net.checkpoint})" if "/" in net.checkpoint else "ships"
        millions, gmacs = parameters(model) / 1e6, macs(model, net.side) / 1e9
        print(
            f"| `classify-{name}` | {link} | {millions:.1f} M | {gmacs:.1f} | {net.side} | {net.stages} "
            f"| {net.license} | {net.top1} |"
        )


if __name__ == "__main__":
    main()
