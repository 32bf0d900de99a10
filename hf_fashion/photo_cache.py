"""Photos that are decoded and resized once, and kept as bytes on the disk: what an epoch reads is a copy in memory.

`Shrunk` is for training that crops at random: each photo with a given shorter side. `Prepared` is for photos that are
shown alike each time: the picture as the model's processor has it before it makes numbers of its bytes. What comes out
of either is, to the bit, what comes out without the cache.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import timm
import torch
import transformers
from accelerate import PartialState
from datasets import Dataset, Image
from PIL import Image as PILImage
from tqdm.auto import tqdm

from hf_fashion import cache, images, preparing
from hf_fashion.backbones.preprocessing import input_spec

_FORMAT = 1  # of what is kept; another one is made anew
_THREADS = 8
_BAR_FROM = 500  # photos


def shrink(photo: PILImage.Image, side: int) -> PILImage.Image:
    """A photo whose shorter side has at most so many pixels; its proportions stay."""
    short = min(photo.size)
    if short <= side:
        return photo
    width, height = (max(1, round(one * side / short)) for one in photo.size)
    return photo.resize((width, height), PILImage.Resampling.BICUBIC, reducing_gap=3.0)


class Shrunk:
    """Photos with a shorter side of at most so many pixels, by row.

    Args:
        rows: With `image`.
        side: Pixels.
        limits: See `images.decode`.

    Raises:
        ValueError: A photo cannot be read.
        InputError: The disk is full, or the cache may not be so large.
    """

    def __init__(self, rows: Dataset, side: int, limits: images.Limits = images.LIMITS) -> None:
        self.side = side
        stored = _stored(rows)
        name = cache.name_of(
            kind="shrunk", format=_FORMAT, side=side, pictures=cache.of_pictures(row["image"] for row in stored)
        )
        with PartialState().main_process_first():
            sizes, kept = cache.held(f"{name}-sizes"), cache.held(name)
            if sizes is None or kept is None:
                sizes, kept = self._make(name, stored, limits)
        self._sizes, self._bytes = sizes, kept
        ends = np.cumsum(self._sizes.astype(np.int64).prod(axis=1) * 3)
        self._starts = np.concatenate([[0], ends])

    def _make(self, name: str, stored: Dataset, limits: images.Limits) -> tuple[Any, Any]:
        def opened(row: int) -> np.ndarray:
            return np.asarray(shrink(images.decode(stored[row]["image"], limits=limits), self.side))

        # Sizes are known before anything is decoded, but for how a photo is turned; that changes no number of bytes.
        headers = [images.probe(stored[row]["image"]) for row in range(len(stored))]
        total = sum(int(np.prod(_shrunk_size(size, self.side))) * 3 for size in headers)
        sizes = np.zeros((len(stored), 2), dtype=np.int32)

        def fill(array: np.memmap) -> None:
            start = 0
            with ThreadPoolExecutor(_THREADS) as pool:
                for first in tqdm(range(0, len(stored), 64), "photos", disable=len(stored) < _BAR_FROM):
                    for row, pixels in enumerate(pool.map(opened, range(first, min(first + 64, len(stored)))), first):
                        sizes[row] = pixels.shape[:2]
                        array[start : start + pixels.size] = pixels.ravel()
                        start += pixels.size

        made = cache.make(name, (total,), np.uint8, fill)
        return cache.make(f"{name}-sizes", sizes.shape, np.int32, lambda array: np.copyto(array, sizes)), made

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, row: int) -> PILImage.Image:
        height, width = (int(side) for side in self._sizes[row])
        pixels = self._bytes[self._starts[row] : self._starts[row + 1]].reshape(height, width, 3)
        return PILImage.fromarray(np.ascontiguousarray(pixels))


def _shrunk_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    short = min(size)
    if short <= side:
        return size
    return max(1, round(size[0] * side / short)), max(1, round(size[1] * side / short))


class Prepared:
    """Photos as a model's processor resizes them, by row, as bytes; `numbers` then makes of them what it does.

    Bytes are a quarter of what is collated and moved to the device, where they become numbers (`FashionTrainer`).

    Args:
        rows: With `image`.
        processor: The model's image processor.
        limits: See `images.decode`.

    Raises:
        ValueError: A photo cannot be read.
        Inexact: What is kept would not become what the processor makes.
        InputError: The disk is full, or the processor does more than resize to one size, scale and shift.
    """

    def __init__(self, rows: Dataset, processor: Any, limits: images.Limits = images.LIMITS) -> None:
        stored, self._spec = _stored(rows), input_spec(processor)
        name = cache.name_of(
            kind="prepared", format=_FORMAT, processor=processor.to_dict(), by=type(processor).__name__,
            torch=torch.__version__, transformers=transformers.__version__, timm=timm.__version__,
            pictures=cache.of_pictures(row["image"] for row in stored),
        )  # fmt: skip

        first = torch.as_tensor(
            processor(images.decode(stored[0]["image"], limits=limits), return_tensors="pt")["pixel_values"]
        )
        way = next((one for one in preparing.WAYS if torch.equal(self._made(one, self._back(first)), first)), None)
        if way is None:
            raise Inexact("this processor makes other numbers of a byte than the usual ones")
        self._way = way

        def fill(array: np.memmap) -> None:
            prepare = preparing.Preparer(processor)

            def bytes_of(row: int) -> torch.Tensor:
                photo = [stored[row]["image"]]
                if prepare.way is not None:
                    return prepare.bytes(photo, limits=limits)[0]
                made = torch.as_tensor(prepare(photo, limits=limits)[0])
                kept = self._back(made)
                if not torch.equal(self.numbers(kept[None])[0], made):
                    raise Inexact("this processor's pictures are not made of whole bytes")
                return kept

            with ThreadPoolExecutor(_THREADS) as pool:
                for start in tqdm(range(0, len(stored), 64), "photos", disable=len(stored) < _BAR_FROM):
                    part = range(start, min(start + 64, len(stored)))
                    array[start : part.stop] = torch.stack(list(pool.map(bytes_of, part))).numpy()

        with PartialState().main_process_first():
            found = cache.held(name)
            shape = (len(stored), 3, self._spec.height, self._spec.width)
            self._bytes = np.asarray(cache.make(name, shape, np.uint8, fill) if found is None else found)

    def _back(self, numbers: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(one)[:, None, None] for one in (self._spec.mean, self._spec.std))
        return ((numbers.double() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)

    def numbers(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bytes (rows, 3, height, width), on any device -> what the processor makes of them, to the bit."""
        return self._made(self._way, pixels)

    def _made(self, way: preparing.Way, pixels: torch.Tensor) -> torch.Tensor:
        return preparing.numbers(way, pixels, self._spec.mean, self._spec.std)

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, rows: int | slice | Sequence[int]) -> torch.Tensor:
        """Bytes (3, height, width) of a row, or (rows, 3, height, width)."""
        if isinstance(rows, int | np.integer | slice):
            return torch.from_numpy(np.array(self._bytes[rows]))
        # Row by row: numpy's own way of picking rows takes more than twice the time.
        made = np.empty((len(rows), *self._bytes.shape[1:]), dtype=np.uint8)
        for row, out in zip(rows, made, strict=True):
            out[:] = self._bytes[row]
        return torch.from_numpy(made)


class Inexact(Exception):
    """What is kept would not be, to the bit, what the processor makes."""


def _stored(rows: Dataset) -> Dataset:
    return rows.with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))


class Photos(torch.utils.data.Dataset):
    """Rows whose `image` is the shrunk photo.

    Args:
        dataset: Of labels and `source_row`; its pictures are not read.
        shrunk: Of the same rows.
    """

    def __init__(self, dataset: Dataset, shrunk: Shrunk) -> None:
        self.dataset = dataset.with_format(None).remove_columns("image")
        self._shrunk = shrunk

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.dataset[row], "image": self._shrunk[row]}
