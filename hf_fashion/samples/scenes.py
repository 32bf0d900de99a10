"""Scenes for detection: garments cut out of the sample photos, laid on other backgrounds, with their boxes.

Made when they are asked for, the same for the same seed; nothing is downloaded, and nothing is on the disk. They show
that a detector learns, and no more: a garment lies flat and alone as no person wears it, and its outline is a guess.
"""

from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage
from PIL import ImageFilter

SIZES = {"train": 240, "validation": 50, "test": 80}
SIDE = 320  # pixels of a scene's sides
MOST = 4  # garments in a scene
_OVERLAP = 0.15  # of a garment's box that another may cover
_PARTS = Path(__file__).parent / "photos"


class Garment(NamedTuple):
    """A cut-out.

    Args:
        picture: With its outline as transparency (RGBA), cropped to it.
        label: Its class.
        row: Of its photo in the split.
    """

    picture: PILImage.Image
    label: int
    row: int


def scenes(sizes: dict[str, int] = SIZES, *, side: int = SIDE, seed: int = 0) -> DatasetDict:
    """Makes the scenes of each split, out of the sample photos of the same split.

    Args:
        sizes: Split (train, validation, test) -> scenes.
        side: Pixels of a scene's sides.
        seed: Decides all that is drawn.

    Returns:
        Rows (image, image_id, objects {bbox (x, y, width, height in pixels), category, area (of the outline)},
        source_row): `source_row` names the scene and the rows of the photos in it.
    """
    made = {}
    for split, count in sizes.items():
        photos = Dataset.from_parquet(str(_PARTS / f"{split}.parquet"))
        label = photos.features["label"]
        garments = cut_outs(photos, split)
        rng = np.random.default_rng([seed, *split.encode()])
        order = [place for _ in range(-(-MOST * count // len(garments))) for place in rng.permutation(len(garments))]
        rows: list[dict[str, Any]] = []
        for number in range(count):
            wanted = int(rng.integers(1, MOST + 1))
            chosen, order = [garments[place] for place in order[:wanted]], order[wanted:]
            backdrop = photos[int(rng.integers(len(photos)))]["image"]
            rows.append(_scene(chosen, backdrop, side, rng, f"{split}-{number}"))
        features = Features(
            {
                "image": Image(),
                "image_id": Value("string"),
                "objects": {
                    "bbox": List(List(Value("float32"), length=4)),
                    "category": List(ClassLabel(names=label.names)),
                    "area": List(Value("float32")),
                },
                "source_row": Value("string"),
            }
        )
        made[split] = Dataset.from_list(rows, features=features)
    return DatasetDict(made)


def cut_outs(photos: Dataset, split: str) -> list[Garment]:
    """The garments of the photos (image, label) of a split whose outlines are known, which are most."""
    known = Dataset.from_parquet(str(_PARTS / "outlines.parquet"))
    found = []
    for entry in known:
        if entry["split"] != split:
            continue
        example = photos[entry["row"]]
        picture = example["image"].convert("RGB")
        large = entry["outline"].convert("L").resize(picture.size, PILImage.Resampling.BILINEAR)
        picture.putalpha(large.filter(ImageFilter.GaussianBlur(2)).point(lambda value: 255 * (value > 128)))
        found.append(Garment(picture.crop(picture.getchannel("A").getbbox()), example["label"], entry["row"]))
    return found


def _scene(
    garments: list[Garment], backdrop: PILImage.Image, side: int, rng: np.random.Generator, name: str
) -> dict[str, Any]:
    """Lays garments on a blurred photo; one for which there is no room is left out."""
    ground = backdrop.convert("RGB").resize((side, side)).filter(ImageFilter.GaussianBlur(side / 16))
    bbox: list[list[float]] = []
    category, area, rows = [], [], []
    for garment in garments:
        longest = side * rng.uniform(0.3, 0.65 if len(garments) > 1 else 0.9)
        scale = longest / max(garment.picture.size)
        width, height = (max(8, round(length * scale)) for length in garment.picture.size)
        picture = garment.picture.resize((width, height), PILImage.Resampling.BILINEAR)
        if rng.random() < 0.5:
            picture = picture.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT)
        for _ in range(30):
            left, top = int(rng.integers(side - width + 1)), int(rng.integers(side - height + 1))
            box = [float(left), float(top), float(width), float(height)]
            if all(_covered(box, other) < _OVERLAP and _covered(other, box) < _OVERLAP for other in bbox):
                ground.paste(picture, (left, top), picture.getchannel("A"))
                bbox.append(box)
                category.append(garment.label)
                area.append(float((np.asarray(picture.getchannel("A")) > 127).sum()))
                rows.append(garment.row)
                break
    stored = BytesIO()
    ground.save(stored, "JPEG", quality=90)
    return {
        "image": {"bytes": stored.getvalue(), "path": f"{name}.jpg"},
        "image_id": name,
        "objects": {"bbox": bbox, "category": category, "area": area},
        "source_row": f"{name} ({', '.join(map(str, rows))})",
    }


def _covered(box: list[float], other: list[float]) -> float:
    """The share of a box that another covers."""
    wide = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    high = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(wide, 0) * max(high, 0) / (box[2] * box[3])
