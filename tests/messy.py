"""A folder of photos with one of everything that is wrong in real catalogues, and what a check should say of it."""

from io import BytesIO
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage
from PIL import ImageDraw

HOSTILE = "<script>alert(1)</script>"
NAMES = ["Dress", "dress ", "trousers", "trouser", HOSTILE]
COLUMNS = Features({"image": Image(), "label": ClassLabel(names=NAMES), "title": Value("string")})


def encoded(image: PILImage.Image, format: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(seed: int, size: tuple[int, int] = (120, 160)) -> PILImage.Image:
    """A garment on a patterned floor: every part of the picture shows something."""
    random = np.random.default_rng(seed)
    floor = PILImage.fromarray(random.integers(40, 216, (12, 9, 3), dtype=np.uint8)).resize(size, 2)
    draw = ImageDraw.Draw(floor)
    for _ in range(6):
        x, y, w, h = (random.random(4) * [size[0], size[1], 50, 60]).astype(int).tolist()
        draw.rectangle((x, y, x + w + 8, y + h + 8), fill=tuple(random.integers(0, 256, 3).tolist()))
    return floor


def studio(color: tuple[int, int, int]) -> PILImage.Image:
    """A shirt on white, always in the same pose: only its colour tells one from the other."""
    shirt = PILImage.new("RGB", (120, 160), "white")
    draw = ImageDraw.Draw(shirt)
    outline = [(10, 40), (40, 20), (80, 20), (110, 40), (96, 70), (84, 60), (84, 140), (36, 140), (36, 60), (24, 70)]
    draw.polygon(outline, fill=color)
    draw.line((60, 24, 60, 138), fill=(90, 90, 90), width=2)
    return shirt


def dataset(rows: int = 24) -> DatasetDict:
    """Three splits: see the comments for what is wrong with them."""
    train = [encoded(scene(number)) for number in range(rows)]
    labels = [0] * (rows - 3) + [1, 2, 4]
    again = scene(3).resize((60, 80), PILImage.Resampling.LANCZOS)
    train[5] = encoded(again, "JPEG", quality=60)  # nearly row 3, within train
    train[7] = b"<html>not found</html>"
    train[8] = train[2]  # equal to row 2
    train[rows - 3] = train[1]  # equal to row 1, with another label
    train[10] = encoded(scene(10, (6, 6)))  # tiny
    train[11], train[12] = encoded(studio((200, 30, 30))), encoded(studio((30, 60, 200)))  # not alike
    test = [encoded(scene(100 + number)) for number in range(6)]
    test[1] = encoded(scene(4).convert("RGBA"), "WEBP", lossless=True)  # the pixels of train's row 4: a leak
    test[2] = encoded(scene(6).crop((3, 2, 118, 158)), "JPEG", quality=85)  # nearly train's row 6
    parts = {"train": (train, labels), "test": (test, [0, 0, 0, 2, 2, 0])}
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {
                    "image": [{"bytes": data, "path": f"{split}-{n}.jpg"} for n, data in enumerate(pictures)],
                    "label": told,
                    "title": [f"photo {n}" for n in range(len(told))],
                },
                features=COLUMNS,
            )
            for split, (pictures, told) in parts.items()
        }  # fmt: skip
    )


def folder(place: Path) -> Path:
    """The dataset as parquet files."""
    (place / "data").mkdir(parents=True)
    for split, rows in dataset().items():
        rows.to_parquet(place / "data" / f"{split}-00000-of-00001.parquet")
    return place
