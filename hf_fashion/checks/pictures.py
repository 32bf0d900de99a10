"""Decodes every picture of a dataset once, on all cores, and keeps no more of it than some hundred bytes."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, DatasetDict, Image
from PIL import Image as PILImage
from tqdm.auto import tqdm

from hf_fashion import images
from hf_fashion.errors import extra

BAR_FROM = 500  # pictures
SIDE = 64  # pixels of the thumbnails that are compared
BLOCKS = 4  # a thumbnail is compared in so many blocks a side
SMALL = 8  # pixels a side of what is kept of each thumbnail
_BATCH = 64  # rows in memory at once
_FLAT = 16.0  # variance of a block's colours, of 255 squared, under which it shows nothing
_DIGEST = 16  # bytes


class Place(NamedTuple):
    """A row: `row` is what it is called in its source."""

    split: str
    number: int
    row: str

    def __str__(self) -> str:
        return self.row if self.row.startswith(f"{self.split}:") else f"{self.split}: {self.row}"


@dataclass
class Looked:
    """What decoding showed of each picture, split after split.

    Args:
        places: Where each stands.
        reasons: Picture -> why it cannot be read; the others can.
        digests: Hash of the decoded pixels (n,) of 16 bytes; pictures are equal where it is equal.
        sizes: Width and height in pixels as decoded (n, 2), 0 and 0 where it cannot be read.
        hashes: Perceptual hash (n,) of 64 bits. Empty unless it was asked for, as the next two.
        small: The picture in 8 x 8 pixels (n, 8, 8, 3).
        flat: A bit for each of the 16 blocks of the picture that shows nothing (n,).
    """

    places: list[Place] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    digests: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=f"V{_DIGEST}"))
    sizes: np.ndarray = field(default_factory=lambda: np.empty((0, 2), dtype=np.int32))
    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    small: np.ndarray = field(default_factory=lambda: np.empty((0, SMALL, SMALL, 3), dtype=np.uint8))
    flat: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint16))

    def of(self, split: str) -> list[int]:
        """The pictures of a split."""
        return [number for number, place in enumerate(self.places) if place.split == split]


class _Look(NamedTuple):
    """What decoding one picture showed; `reason` is why it cannot be read, "" when it can."""

    reason: str
    digest: bytes = bytes(_DIGEST)
    size: tuple[int, int] = (0, 0)
    hash: int = 0
    small: np.ndarray | None = None
    flat: int = 0


def look(dataset: DatasetDict, *, alike: bool = False, limits: images.Limits = images.LIMITS) -> Looked:
    """Decodes all pictures in threads (Pillow's decoders, and hashing, let go of Python's lock).

    Args:
        dataset: Canonical rows; what is a stream is passed over.
        alike: Take the perceptual hashes and thumbnails with which `copies.near` finds pictures that are alike.
        limits: See `images.decode`.

    Raises:
        InputError: `alike` without imagehash.
    """
    here = {split: rows for split, rows in dataset.items() if isinstance(rows, Dataset)}
    total = sum(len(rows) for rows in here.values())
    looked = Looked(digests=np.zeros(total, dtype=f"V{_DIGEST}"), sizes=np.zeros((total, 2), dtype=np.int32))
    if alike:
        looked.hashes, looked.flat = np.zeros(total, dtype=np.uint64), np.zeros(total, dtype=np.uint16)
        looked.small = np.zeros((total, SMALL, SMALL, 3), dtype=np.uint8)
    see = _seer(alike, limits)
    with tqdm(total=total, desc="checking pictures", unit="picture", disable=total < BAR_FROM) as bar:
        for split, rows in here.items():
            looked.places += [Place(split, *row) for row in enumerate(row_names(split, rows))]
        for number, one in enumerate(seen for rows in here.values() for seen in in_threads(see, rows)):
            bar.update()
            if one.reason:
                looked.reasons[number] = one.reason
                continue
            looked.digests[number], looked.sizes[number] = np.void(one.digest), one.size
            if alike:
                looked.hashes[number], looked.small[number], looked.flat[number] = one.hash, one.small, one.flat
    return looked


def row_names(split: str, rows: Dataset) -> list[str]:
    """What each row is called: as in its source, or by split and number."""
    if "source_row" not in rows.features:
        return [f"{split}:{number}" for number in range(len(rows))]
    return list(rows.with_format(None).select_columns(["source_row"])[:]["source_row"])


def encoded(rows: Dataset) -> Dataset:
    """The pictures of a split as they are stored, `{"bytes", "path"}`."""
    return rows.with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))


def in_threads(see: Callable[[Any], Any], rows: Dataset) -> Iterator[Any]:
    """Applies a function to each encoded picture of a split, on all cores, a batch at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        for batch in encoded(rows).iter(batch_size=_BATCH):
            yield from pool.map(see, batch["image"])


def thumbnail(image: PILImage.Image) -> np.ndarray:
    """A picture squeezed to (64, 64, 3) uint8, each pixel the mean of what it stands for."""
    return np.asarray(image.resize((SIDE, SIDE), PILImage.Resampling.BOX))


def blocks(thumb: np.ndarray) -> np.ndarray:
    """The 16 blocks of a thumbnail (64, 64, 3), row after row: (16, pixels, 3) float32."""
    side = SIDE // BLOCKS
    parted = thumb.astype(np.float32).reshape(BLOCKS, side, BLOCKS, side, 3).swapaxes(1, 2)
    return parted.reshape(BLOCKS * BLOCKS, side * side, 3)


def is_flat(parted: np.ndarray) -> np.ndarray:
    """Whether each block shows nothing (16,): its colours hardly differ."""
    return parted.var(axis=1).mean(axis=1) < _FLAT


def _seer(alike: bool, limits: images.Limits) -> Callable[[Any], _Look]:
    """The function that looks at one picture."""
    if alike:
        with extra("near-duplicates", "imagehash", "check"):
            import imagehash

    def see(source: Any) -> _Look:
        try:
            image = images.decode(source, limits=limits)
        except ValueError as error:
            return _Look(str(error))
        digest = hashlib.blake2b(f"{image.width} {image.height} ".encode(), digest_size=_DIGEST)
        digest.update(image.tobytes())
        told = _Look("", digest.digest(), image.size)
        if not alike:
            return told
        bits = imagehash.phash(image).hash.ravel()
        thumb = thumbnail(image)
        step = SIDE // SMALL
        small = thumb.reshape(SMALL, step, SMALL, step, 3).mean(axis=(1, 3)).astype(np.uint8)
        flat = sum(1 << number for number in np.flatnonzero(is_flat(blocks(thumb))).tolist())
        return told._replace(hash=int.from_bytes(np.packbits(bits).tobytes(), "big"), small=small, flat=flat)

    return see
