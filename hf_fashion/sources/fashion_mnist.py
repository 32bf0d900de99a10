"""Fashion-MNIST: grey pictures of 28 x 28 pixels of articles sold by Zalando, in ten classes.

- Rows: train 60,000, test 10,000; each class 6,000 and 1,000 (README of the repository).
- Licence: MIT (its LICENSE, and Debian's copyright file).
- Paper: Han Xiao, Kashif Rasul, Roland Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
  Learning Algorithms, 2017, arXiv 1708.07747.
- Files: the four idx files, with or without .gz. On Debian `apt-get install dataset-fashion-mnist` puts them into
  /usr/share/datasets/fashion-mnist.
"""

import gzip
import math
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage
from tqdm.auto import tqdm

from hf_fashion import sources
from hf_fashion.errors import InputError
from hf_fashion.report import Report

LICENSE = "mit"
HOMEPAGE = "https://github.com/zalandoresearch/fashion-mnist"
COUNTS = {"train": 60_000, "test": 10_000}
RAW = ("*-images-idx3-ubyte*",)
LABELS = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip
_PREFIXES = {"train": "train", "test": "t10k"}
_KINDS = {"images": (0x803, "images-idx3-ubyte"), "labels": (0x801, "labels-idx1-ubyte")}
_BAR_AFTER = 2.0  # seconds


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the four idx files.

    Args:
        folder: Holds them.
        report: Gets an error for each label above 9, and a warning where a count differs from the published one.

    Returns:
        train and test, with `image` (28 x 28, grey, PNG), `label` (ClassLabel) and `source_row` ("train:0", counted
        from 0 in the order of the file).

    Raises:
        InputError: A file is missing or damaged, or two do not belong together.
    """
    wanted = {
        f"{split} {kind}": (f"{prefix}-{ending}.gz", f"{prefix}-{ending}")
        for split, prefix in _PREFIXES.items()
        for kind, (_, ending) in _KINDS.items()
    }
    files = sources.find(folder, wanted, HOMEPAGE)
    raw = {name: _idx(path, *_KINDS[name.split()[1]]) for name, path in files.items()}
    splits = {}
    for split in COUNTS:
        pictures, labels = raw[f"{split} images"], raw[f"{split} labels"]
        if len(pictures) != len(labels):
            raise InputError(
                f"files {files[f'{split} images']} and {files[f'{split} labels'].name}",
                expected="a label for each picture",
                found=f"{len(pictures)} pictures, {len(labels)} labels",
                fix=f"get both anew from {HOMEPAGE}",
            )
        splits[split] = _split(split, pictures, labels, files[f"{split} labels"].name, report)
    return sources.finish(splits, COUNTS, report)


def _idx(path: Path, magic: int, ending: str) -> np.ndarray:
    """Reads an idx file of bytes: a magic number that tells the number of axes, their lengths, then the values."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, "a whole gzip file", str(error)) from None
    axes = magic & 0xFF
    start = 4 * (1 + axes)
    if len(data) < start or struct.unpack(">I", data[:4])[0] != magic:
        raise _damaged(
            path, f"a file that starts with {magic:#010x}, as {ending} does", data[:4].hex(" ") or "nothing"
        )
    shape = struct.unpack(f">{axes}I", data[4:start])
    if shape[1:] not in ((), (28, 28)):
        raise _damaged(path, "pictures of 28 x 28 pixels", f"{shape[1]} x {shape[2]}")
    if len(data) != start + math.prod(shape):
        raise _damaged(path, f"{start + math.prod(shape)} bytes, as its header says", f"{len(data)}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _damaged(path: Path, expected: str, found: str) -> InputError:
    return InputError(f"file {path}", expected=expected, found=found, fix=f"get it anew from {HOMEPAGE}")


def _split(split: str, pictures: np.ndarray, labels: np.ndarray, file: str, report: Report) -> Dataset:
    for row in np.flatnonzero(labels >= len(LABELS)):
        report.add(
            "error",
            f"{file}:{row}",
            "label",
            expected=f"0 to {len(LABELS) - 1}",
            found=str(labels[row]),
            fix=f"get the file anew from {HOMEPAGE}",
        )
    kept = np.flatnonzero(labels < len(LABELS))
    bar = tqdm(kept, desc=f"reading {split}", unit="picture", delay=_BAR_AFTER)
    return Dataset.from_dict(
        {
            "image": pa.array([_png(pictures[row]) for row in bar], pa.binary()),
            "label": labels[kept].astype(np.int64),
            "source_row": [f"{split}:{row}" for row in kept],
        },
        features=Features({"image": Image(), "label": ClassLabel(names=LABELS), "source_row": Value("string")}),
    )


def _png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
