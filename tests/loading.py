"""What the tests of `data.load` share: small sources made in code, and what was loaded of them in plain values."""

from io import BytesIO

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from hf_fashion import data
from hf_fashion.errors import InputError

COLUMNS = Features({"image": Image(), "label": Value("string")})


def picture(seed=0, format="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = BytesIO()
    PILImage.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def put(path, seed=0, format="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(seed, format))
    return path


def tree(root, classes=("dress", "hat"), count=10):
    for label in classes:
        for number in range(count):
            put(root / label / f"{number}.png", hash((label, number)) % 2**32)
    return root


def in_hand(texts, **columns):
    return Dataset.from_dict(
        {"image": [{"bytes": picture(number), "path": None} for number in range(len(texts))], "label": texts}
        | columns,
        features=Features(
            {"image": Image(), "label": Value("string")} | {name: Value("string") for name in columns},
        ),
    )


def load(source, **options):
    return data.load(source, COLUMNS, **options)


def table(dataset):
    """All rows of a dataset as (split, source_row, label text)."""
    names = data.labels(dataset)
    return sorted(
        (split, row["source_row"], names[row["label"]])
        for split, rows in dataset.items()
        for row in rows.remove_columns("image")
    )


def errors(report):
    return [(finding.where, finding.found) for finding in report.of("error")]


def texts(report, level):
    return " | ".join(f"{finding.where} {finding.column} {finding.found}" for finding in report.of(level))


def expect_error(source, *words, **options):
    with pytest.raises(InputError) as caught:
        load(source, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
