"""Random pictures that are the same again: every draw is keyed by seed, epoch and row."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torchvision.transforms import v2

from hf_fashion.backbones import InputSpec


class Augmented(torch.utils.data.Dataset):
    """A dataset whose random transform depends on (seed, epoch, row) only.

    So a run that is resumed, or that loads with more worker processes, sees the pictures that it would have seen
    anyway. Accelerate's data loaders call `set_epoch`; in a loop of your own, call it before each epoch.

    Args:
        dataset: Rows, by index.
        transform: Row -> example; draws from torch's global generator.
        seed: The run's seed.
    """

    def __init__(self, dataset: Any, transform: Callable[[dict[str, Any]], dict[str, Any]], seed: int) -> None:
        self.dataset, self.transform, self.seed = dataset, transform, seed
        # In shared memory, since worker processes that outlive an epoch hold a copy of everything else.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        key = hashlib.blake2b(f"{self.seed}/{int(self._epoch)}/{index}".encode(), digest_size=7).digest()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int.from_bytes(key))
            return self.transform(self.dataset[index])


def crop_and_flip(spec: InputSpec, smallest_crop: float = 0.5, flip: bool = True) -> v2.Compose:
    """PIL picture -> float tensor (3, height, width), normalised as the processor does.

    Args:
        spec: What the processor gives at evaluation.
        smallest_crop: Smallest share of the picture's area that a random crop keeps; 1.0 crops (almost) nothing.
        flip: Mirror half of the pictures. Not for labels that know left from right.
    """
    steps: list[Callable[..., Any]] = [v2.PILToTensor()]
    if spec.resize == "pad":  # as at evaluation: a crop of the padded picture, not of the picture
        steps.append(functools.partial(pad_to_shape, height=spec.height, width=spec.width, mean=spec.mean))
    steps.append(
        v2.RandomResizedCrop(
            (spec.height, spec.width), scale=(smallest_crop, 1.0), interpolation=spec.interpolation, antialias=True
        )
    )
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)])


def pad_to_shape(photo: torch.Tensor, height: int, width: int, mean: tuple[float, ...]) -> torch.Tensor:
    """(3, h, w) bytes -> the smallest picture of the shape height : width around it, filled with the mean colour."""
    _, h, w = photo.shape
    to_h, to_w = max(h, round(w * height / width)), max(w, round(h * width / height))
    top, left = (to_h - h) // 2, (to_w - w) // 2
    padded = torch.tensor([round(255 * value) for value in mean], dtype=torch.uint8)[:, None, None]
    padded = padded.expand(3, to_h, to_w).clone()
    padded[:, top : top + h, left : left + w] = photo
    return padded
