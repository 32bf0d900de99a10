"""Tiny random detectors of each family, and a small dataset of boxes that they can learn."""

from io import BytesIO

import numpy as np
import torch
import transformers as hf
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage

NAMES = ["dress", "hat", "shoes"]
_SMALL = {
    "d_model": 16, "encoder_hidden_dim": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "decoder_layers": 2,
    "num_queries": 12, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
}  # fmt: skip
_MAPS = _SMALL | {"decoder_in_channels": [16] * 3, "num_denoising": 4}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}


def _nets():
    resnet = hf.RTDetrResNetConfig(**_RESNET, out_indices=[2, 3, 4])
    maps = {"backbone_config": resnet, "encoder_in_channels": [16, 24, 32], **_MAPS}
    own = hf.ResNetConfig(**_RESNET, out_indices=[4])
    plain = {"backbone_config": own, "encoder_layers": 1, **_SMALL}
    vit = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {
        "rt_detr_v2": (hf.RTDetrV2Config, maps),
        "d_fine": (hf.DFineConfig, maps | {"depth_mult": 0.34}),
        "detr": (hf.DetrConfig, plain),
        "conditional_detr": (hf.ConditionalDetrConfig, plain),
        "rf_detr": (
            hf.RfDetrConfig,
            {
                "backbone_config": hf.RfDetrDinov2Config(
                    **vit, mlp_ratio=2, image_size=64, patch_size=16, num_windows=2, out_indices=[2]
                ),
                "d_model": 16,
                "decoder_ffn_dim": 32,
                "decoder_layers": 2,
                "decoder_self_attention_heads": 2,
                "decoder_cross_attention_heads": 2,
                "num_queries": 12,
                "group_detr": 2,
                "intermediate_size": 32,
            },
        ),
        "yolos": (
            hf.YolosConfig,
            {**vit, "intermediate_size": 32, "image_size": [64, 64], "patch_size": 16, "num_detection_tokens": 12},
        ),
    }


PROCESSORS = {
    "rt_detr_v2": hf.RTDetrImageProcessor, "d_fine": hf.RTDetrImageProcessor, "detr": hf.DetrImageProcessor,
    "conditional_detr": hf.ConditionalDetrImageProcessor, "yolos": hf.YolosImageProcessor,
    "rf_detr": hf.RfDetrImageProcessor,
}  # fmt: skip
KINDS = list(PROCESSORS)


def tiny_net(kind, names=NAMES):
    """Random weights of a kind."""
    torch.manual_seed(0)
    config, values = _nets()[kind]
    told = config(**values, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    return hf.AutoModelForObjectDetection.from_config(told)


def tiny_detector(kind, folder, names=NAMES, side=64):
    """A folder with random weights of a kind and its processor."""
    tiny_net(kind, names).save_pretrained(folder)
    square = kind in ("rt_detr_v2", "d_fine", "rf_detr")
    size = {"height": side, "width": side} if square else {"shortest_edge": side, "longest_edge": side + side // 2}
    PROCESSORS[kind](size=size).save_pretrained(folder)
    return folder


def tiny_backbone(folder):
    """A folder with a random ResNet, whose maps are of 4, 8, 16 and 32 pixels, and its processor."""
    torch.manual_seed(0)
    hf.ResNetForImageClassification(hf.ResNetConfig(**_RESNET, num_labels=3)).save_pretrained(folder)
    hf.ConvNextImageProcessor(size={"shortest_edge": 64}).save_pretrained(folder)
    return folder


def boxed_rows(count, seed, names=NAMES, sizes=((80, 60), (60, 80))):
    """Photos with one to three rectangles of the colour of their class, which is where their boxes are."""
    rng = np.random.default_rng(seed)
    colors = np.array([(210, 40, 40), (40, 180, 60), (50, 60, 210)])
    rows = []
    for number in range(count):
        width, height = sizes[number % len(sizes)]
        pixels = np.full((height, width, 3), 200, np.uint8) + rng.integers(0, 30, (height, width, 1), dtype=np.uint8)
        bbox, category = [], []
        for _ in range(int(rng.integers(1, 4))):
            w, h = (int(side) for side in rng.integers(15, 30, 2))
            x, y, label = int(rng.integers(width - w)), int(rng.integers(height - h)), int(rng.integers(len(names)))
            pixels[y : y + h, x : x + w] = colors[label]
            bbox.append([float(x), float(y), float(w), float(h)])
            category.append(label)
        stored = BytesIO()
        PILImage.fromarray(pixels).save(stored, "PNG")
        objects = {"bbox": bbox, "category": category, "area": [box[2] * box[3] for box in bbox]}
        rows.append(
            {"image": {"bytes": stored.getvalue(), "path": None}, "image_id": f"{seed}-{number}", "objects": objects}
        )
    return rows


def boxed_folder(folder, train=12, validation=6, test=7, names=NAMES):
    """A folder of parquet files with a split each."""
    features = Features(
        {
            "image": Image(),
            "image_id": Value("string"),
            "objects": {
                "bbox": List(List(Value("float32"), length=4)),
                "category": List(ClassLabel(names=names)),
                "area": List(Value("float32")),
            },
        }
    )
    folder.mkdir(parents=True)
    splits = {"train": train, "validation": validation, "test": test}
    made = {
        split: Dataset.from_list(boxed_rows(count, seed, names), features=features)
        for seed, (split, count) in enumerate(splits.items())
    }
    for split, rows in made.items():
        rows.to_parquet(folder / f"{split}.parquet")
    return DatasetDict(made)
