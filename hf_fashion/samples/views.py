"""Items for retrieval: two views cut from each sample photo, with the name of its class as text.

Made when they are asked for, the same for the same seed. They show that an encoder learns and that everything fits
together, and no more: two parts of one photo share its light and its background, as two photos of a shop do not.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

SHARE = 0.7  # of each side that a view keeps
_PHOTOS = Path(__file__).parent / "photos"
FEATURES = Features(
    {"image": Image(), "item_id": Value("string"), "text": Value("string"), "source_row": Value("string")}
)


def views(seed: int = 0) -> DatasetDict:
    """Two rows a photo: the upper left part and the lower right one, or the upper right and the lower left.

    Args:
        seed: Decides which.

    Returns:
        Splits train, validation and test of the sample photos; rows (image, item_id, text, source_row).
    """
    made = {}
    for split in ("train", "validation", "test"):
        photos = Dataset.from_parquet(str(_PHOTOS / f"{split}.parquet"))
        names, rng = photos.features["label"].names, np.random.default_rng([seed, *split.encode()])
        rows: list[dict[str, Any]] = []
        for number, row in enumerate(photos):
            left = bool(rng.integers(2))
            for view, (right, down) in enumerate(((not left, False), (left, True))):
                rows.append(
                    {
                        "image": {"bytes": _part(row["image"], right, down), "path": None},
                        "item_id": f"{split}-{number}",
                        "text": names[row["label"]],
                        "source_row": f"{split}:{number}, view {view + 1}",
                    }
                )
        made[split] = Dataset.from_list(rows, features=FEATURES)
    return DatasetDict(made)


def _part(photo: PILImage.Image, right: bool, down: bool) -> bytes:
    width, height = round(photo.width * SHARE), round(photo.height * SHARE)
    left, top = (photo.width - width) * right, (photo.height - height) * down
    file = BytesIO()
    photo.convert("RGB").crop((left, top, left + width, top + height)).save(file, "JPEG", quality=90)
    return file.getvalue()
