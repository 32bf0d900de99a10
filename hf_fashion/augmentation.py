"""Random pictures that are the same again: every draw is keyed by seed, epoch and row."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torchvision.transforms import v2

from hf_fashion.backbones import InputSpec
from hf_fashion.errors import InputError

# The name under which an example carries the key of its random draws.
KEY = "augmentation_key"


class Augmented(torch.utils.data.Dataset):
    """A dataset whose random transform depends on (seed, epoch, row) only.

    So a run that is resumed, or that loads with more worker processes, sees the pictures that it would have seen
    anyway. Accelerate's data loaders call `set_epoch`; in a loop of your own, call it before each epoch.

    Args:
        dataset: Rows, by index.
        transform: Row -> example; draws from torch's global generator.
        seed: The run's seed.
        keyed: Adds the key of the draws to each example, under the name `KEY` (int64), for a collator that takes it
            out again: `training.MixCollator` tells by it what is a training example, and draws by it.
    """

    def __init__(
        self, dataset: Any, transform: Callable[[dict[str, Any]], dict[str, Any]], seed: int, keyed: bool = False
    ) -> None:
        self.dataset, self.transform, self.seed, self.keyed = dataset, transform, seed, keyed
        # In shared memory, since worker processes that outlive an epoch hold a copy of everything else.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """The example of a row; of a row that comes more than once in an epoch, `[row, time]`, each time another."""
        row, time = index if isinstance(index, tuple) else (index, 0)
        name = f"{self.seed}/{int(self._epoch)}/{row}" + (f"/{time}" if time else "")
        return drawn(self.transform, self.dataset[row], name, self.keyed)


def drawn(
    transform: Callable[[dict[str, Any]], dict[str, Any]], row: dict[str, Any], name: str, keyed: bool
) -> dict[str, Any]:
    """The example of a row, its random draws keyed by `name`; see `Augmented`."""
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        example = transform(row)
    return {**example, KEY: key} if keyed else example


def crop_and_flip(
    spec: InputSpec,
    smallest_crop: float = 0.5,
    flip: bool = True,
    policy: Literal["none", "randaugment", "trivialaugment"] = "none",
) -> v2.Compose:
    """PIL picture, or array (h, w, 3) of bytes -> float tensor (3, height, width), normalised as the processor does.

    Args:
        spec: What the processor gives at evaluation.
        smallest_crop: Smallest share of the picture's area that a random crop keeps; 1.0 crops (almost) nothing.
        flip: Mirror half of the pictures. Not for labels that know left from right.
        policy: What is done to the crop's bytes: `randaugment`, two of 14 changes of shape or colour of medium
            strength (Cubuk et al. 2019, arXiv 1909.13719); `trivialaugment`, one of any strength (Müller and Hutter
            2021, arXiv 2103.10158); or `none`. What comes in at the borders has the mean colour. Not for labels that
            name colours.

    Raises:
        InputError: Another policy.
    """
    # torchvision's two draw from torch's global generator alone, which is what `Augmented` seeds.
    policies: dict[str, Callable[..., Any]] = {"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide}
    if policy != "none" and policy not in policies:
        raise InputError(
            f"--augment {policy}", expected="none, " + ", ".join(policies), found=repr(policy), fix="one of these"
        )
    steps: list[Callable[..., Any]] = [_as_tensor]
    if spec.resize == "pad":  # as at evaluation: a crop of the padded picture, not of the picture
        steps.append(functools.partial(pad_to_shape, height=spec.height, width=spec.width, mean=spec.mean))
    steps.append(
        v2.RandomResizedCrop(
            (spec.height, spec.width), scale=(smallest_crop, 1.0), interpolation=spec.interpolation, antialias=True
        )
    )
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    if policy != "none":
        fill = [round(255 * value) for value in spec.mean]
        # Nearest pixel, as in the papers' code: torchvision's bilinear warp of a tensor leaves a seam at the fill.
        steps.append(policies[policy](fill=fill, interpolation=v2.InterpolationMode.NEAREST))
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)])


def _as_tensor(photo: Any) -> torch.Tensor:
    """(3, height, width) bytes, of an array where they lie."""
    if isinstance(photo, np.ndarray):
        return torch.from_numpy(photo).permute(2, 0, 1)
    made: torch.Tensor = v2.functional.pil_to_tensor(photo)
    return made


def pad_to_shape(photo: torch.Tensor, height: int, width: int, mean: tuple[float, ...]) -> torch.Tensor:
    """(3, h, w) bytes -> the smallest picture of the shape height : width around it, filled with the mean colour."""
    _, h, w = photo.shape
    to_h, to_w = max(h, round(w * height / width)), max(w, round(h * width / height))
    top, left = (to_h - h) // 2, (to_w - w) // 2
    padded = torch.tensor([round(255 * value) for value in mean], dtype=torch.uint8)[:, None, None]
    padded = padded.expand(3, to_h, to_w).clone()
    padded[:, top : top + h, left : left + w] = photo
    return padded
