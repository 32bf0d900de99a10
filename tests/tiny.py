"""Makes small random checkpoints, small learnable pictures and small streams for the tests: nothing is downloaded."""

from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
LABELS = ["dress", "shirt", "shoe", "bag"]  # not those of a checkpoint made here
SHAPES = ("circle", "square", "stripes")
BROKEN = b"\x89PNG and then nothing"
KINDS = ("vit", "deit", "beit", "dinov2", "swin", "swinv2", "convnext", "resnet", "timm", "timm_vit")
# Dropout and drop-path are on, so that a test can see whether a frozen part still uses them.
_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.2,
}
_SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1, 2],
    "num_heads": [1, 2, 2],
    "window_size": 4,
    "drop_path_rate": 0.2,
    "hidden_dropout_prob": 0.2,
}
_CONFIGS = {
    "vit": ("ViTConfig", _VIT),
    "deit": ("DeiTConfig", _VIT),
    "beit": ("BeitConfig", {**_VIT, "use_relative_position_bias": True, "drop_path_rate": 0.2}),
    "dinov2": ("Dinov2Config", {**_VIT, "drop_path_rate": 0.2, "mlp_ratio": 2}),
    "swin": ("SwinConfig", _SWIN),
    "swinv2": ("Swinv2Config", _SWIN),
    "convnext": (
        "ConvNextConfig",
        {
            "hidden_sizes": [8, 16, 16],
            "depths": [1, 1, 1],
            "num_stages": 3,
            "image_size": 32,
            "drop_path_rate": 0.2,
            "layer_scale_init_value": 0.5,  # with the usual 1e-6 the layers would not move within a test
        },
    ),
    "resnet": ("ResNetConfig", {"embedding_size": 8, "hidden_sizes": [8, 16, 16], "depths": [1, 1, 1]}),
}
# A net with batch norm and drop-path (29,000 parameters), and a ViT.
_TIMM: dict[str, tuple[str, dict]] = {
    "timm": (
        "resnet18",
        {"layers": [1, 1, 1, 1], "channels": [8, 16, 16, 16], "drop_path_rate": 0.5, "zero_init_last": False},
    ),
    "timm_vit": (
        "vit_tiny_patch16_224",
        {"embed_dim": 16, "depth": 3, "num_heads": 2, "img_size": 32, "patch_size": 8},
    ),
}


def tiny(kind: str, folder: str | Path, labels: int = 3) -> Path:
    """Saves a random checkpoint of a few thousand parameters for 32-pixel pictures (config, safetensors, processor).

    Args:
        kind: One of `KINDS`.
        folder: Where to save; made if it is not there.
        labels: How many classes; they are called `old 0`, `old 1`, ...

    Returns:
        The folder.
    """
    folder = Path(folder)
    names = [f"old {index}" for index in range(labels)]
    id2label, label2id = dict(enumerate(names)), {name: index for index, name in enumerate(names)}
    if kind in _TIMM:
        architecture, args = _TIMM[kind]
        raw = {
            "architecture": architecture,
            "num_classes": labels,
            "label_names": names,
            "pretrained_cfg": {
                "input_size": [3, 32, 32],
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "interpolation": "bicubic",
                "crop_pct": 0.875,
                "crop_mode": "center",
            },
            "model_args": args,
        }
        config = transformers.TimmWrapperConfig.from_dict(raw)
        model = transformers.TimmWrapperForImageClassification(config)
        # The wrapper draws all weights with a deviation of 0.02, with which this net gives zeros: timm's own, then.
        model.timm_model = timm.create_model(architecture, num_classes=labels, **args)
        model.save_pretrained(folder)
        return folder
    name, values = _CONFIGS[kind]
    config = getattr(transformers, name)(**values, id2label=id2label, label2id=label2id, architectures=[])
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    _processor(kind).save_pretrained(folder)
    return folder


def _processor(kind: str):
    if kind in ("convnext", "resnet"):
        return transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, image_mean=MEAN, image_std=STD)
    if kind == "dinov2":
        crop = {"height": 32, "width": 32}
        return transformers.BitImageProcessor(size={"shortest_edge": 36}, crop_size=crop)
    return transformers.ViTImageProcessor(size={"height": 32, "width": 32})


def slow_but(kinds, *fast):
    """Parameters of a test, of which all are slow but those named."""
    return [pytest.param(kind, marks=() if kind in fast else pytest.mark.slow) for kind in kinds]


def batch(size: int = 32, count: int = 6) -> torch.Tensor:
    """Noise as a net takes it (count, 3, size, size)."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def logits(model, pixels: torch.Tensor | None = None) -> torch.Tensor:
    """What a net says of the pixels, of `batch()` where none are given (rows, classes)."""
    with torch.no_grad():
        return model.eval()(batch() if pixels is None else pixels).logits


def save(model, processor, folder: Path) -> Path:
    """Saves both as their library does."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def photos(
    folder: str | Path | None = None,
    *,
    classes: tuple[str, ...] = SHAPES,
    train: int = 8,
    validation: int = 4,
    test: int = 4,
    size: int = 40,
    seed: int = 0,
) -> DatasetDict:
    """Coloured shapes on noise, so many of each class and split, that a tiny net can learn to tell apart.

    Args:
        folder: If given, also written there as `<split>/<class>/<number>.png`.
        classes: Names; the n-th is drawn as circle, square, stripes, triangle, ... in that order, over and over.
        train: Pictures of each class in the split; `validation` and `test` alike.
        size: Shorter side in pixels; the longer one is up to half as long again.
        seed: Of the random numbers.

    Returns:
        Columns `image` (PIL, RGB) and `label` (ClassLabel).
    """
    random = np.random.default_rng(seed)
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(classes))})
    splits = {}
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        rows: dict[str, list] = {"image": [], "label": []}
        for label, name in enumerate(classes):
            for number in range(count):
                picture = _draw(label, size, random)
                rows["image"].append(picture)
                rows["label"].append(label)
                if folder is not None:
                    path = Path(folder) / split / name / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    picture.save(path)
        splits[split] = Dataset.from_dict(rows, features=features)
    return DatasetDict(splits)


@contextmanager
def without_drawing():
    """Figures are made, but not laid out, and saved as a file of one pixel: drawing is a third of a short run's time.

    For whole runs whose figures nothing looks at; each recipe has runs that draw them, too.
    """
    with pytest.MonkeyPatch.context() as patch:  # of its own: a test may undo what it changed itself
        patch.setattr(Figure, "draw_without_rendering", lambda _figure: None)
        patch.setattr(Figure, "savefig", lambda _figure, path, **_settings: Path(path).write_bytes(png(size=1)))
        # Dozens of axes with a photo each: making them takes as long as the run.
        for sheet in ("plots.photo_sheet", "box_sheets._sheet", "search_sheets._sheet"):
            patch.setattr(f"hf_fashion.{sheet}", lambda *_, **__: Figure())
        yield


@pytest.fixture
def undrawn():
    with without_drawing():
        yield


def png(seed: int = 0, size: int = 16) -> bytes:
    """A picture of noise, encoded."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def numbered(rows: int, features: Features | None = None, broken: tuple[int, ...] = (), green=7, **columns) -> Dataset:
    """Small pictures that say in their colour which row they are; those of the rows in `broken` cannot be read."""
    pictures = []
    for row in range(rows):
        buffer = BytesIO()
        Image.new("RGB", (20, 20), (row, green, 7)).save(buffer, "PNG")
        pictures.append({"bytes": BROKEN if row in broken else buffer.getvalue(), "path": None})
    features = features or Features({"image": ImageFeature(), "label": ClassLabel(names=list(SHAPES))})
    columns = columns or {"label": [row % 3 for row in range(rows)]}
    return Dataset.from_dict({"image": pictures, **columns}, features=features)


def parquet(folder: Path, dataset: DatasetDict, files: int = 3, group: int = 4) -> Path:
    """Parquet as the Hub has it: pictures inside, `files` of train, row groups of `group` rows."""
    (folder / "data").mkdir(parents=True)
    for split, rows in dataset.items():
        parts = files if split == "train" else 1
        for number in range(parts):
            path = folder / "data" / f"{split}-{number:05d}-of-{parts:05d}.parquet"
            rows.shard(parts, number).to_parquet(path, batch_size=group)
    return folder


def streamable(folder: Path, rows: int = 23, broken: tuple[int, ...] = (), **options) -> Path:
    """Three splits of `numbered` pictures, so many of train, as `parquet` writes them."""
    splits = {"train": numbered(rows, broken=broken), "validation": numbered(6, green=8), "test": numbered(9, green=9)}
    return parquet(folder, DatasetDict(splits), **options)


def _draw(shape: int, size: int, random: np.random.Generator) -> Image.Image:
    width, height = size + int(random.integers(size // 2)), size + int(random.integers(size // 2))
    picture = Image.fromarray(random.integers(200, 256, (height, width, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(picture)
    color = tuple(int(value) for value in np.roll([200, 60, 60], shape) + random.integers(-40, 40, 3))
    left, top, side = width // 5, height // 5, min(width, height) * 3 // 5
    box = (left, top, left + side, top + side)
    if shape % 4 == 0:
        draw.ellipse(box, fill=color)
    elif shape % 4 == 1:
        draw.rectangle(box, fill=color)
    elif shape % 4 == 2:
        for x in range(left, left + side, 6):
            draw.rectangle((x, top, x + 2, top + side), fill=color)
    else:
        draw.polygon([(left, top + side), (left + side, top + side), (left + side // 2, top)], fill=color)
    return picture
