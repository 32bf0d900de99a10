"""Encoded photos -> the numbers that a model's image processor makes of them, to the bit, in less time.

On its way through a processor of transformers a photo is copied several times at its full size, and each becomes
numbers by itself. Here a photo is resized where its decoder left it, by the processor's own functions, into the bytes
of the whole batch, which become numbers at once. Where that does not give what the processor gives, it is called.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

from hf_fashion import images
from hf_fashion.backbones.preprocessing import input_spec
from hf_fashion.errors import InputError

Way = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None]


class Preparer:
    """A model's image processor as a function of encoded photos.

    Attributes:
        way: How its bytes become numbers, one of `WAYS`; None where only the processor itself gives what it gives.

    Args:
        processor: Of `backbones.load_classifier`, or any other.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.way: Way | None = None
        try:
            self._spec = input_spec(processor)
        except InputError:  # it keeps the proportions of photos, or flips channels
            return
        self.way = self._measured()

    def __call__(
        self, photos: Sequence[images.Source], *, limits: images.Limits = images.LIMITS
    ) -> torch.Tensor | list[torch.Tensor]:
        """What the processor makes of photos, its `pixel_values`.

        Args:
            photos: As `images.decode` takes them.
            limits: See `images.decode`.

        Raises:
            ValueError: A photo cannot be read.
        """
        if self.way is not None:
            resized = (self._resized(photo, limits) for photo in photos)
            size = (len(photos), 3, self._spec.height, self._spec.width)
            return _numbers(self.way, resized, torch.empty(size), self._spec.mean, self._spec.std)
        decoded = [images.decode(photo, limits=limits) for photo in photos]
        made: torch.Tensor | list[torch.Tensor] = self.processor(decoded, return_tensors="pt")["pixel_values"]
        return made

    def bytes(self, photos: Sequence[images.Source], *, limits: images.Limits = images.LIMITS) -> torch.Tensor:
        """Photos as the processor resizes them (photos, 3, height, width), uint8: where there is a `way`."""
        made = torch.empty((len(photos), 3, self._spec.height, self._spec.width), dtype=torch.uint8)
        for photo, out in zip(photos, made, strict=True):
            out.copy_(self._resized(photo, limits))
        return made

    def _resized(self, photo: images.Source, limits: images.Limits) -> torch.Tensor:
        if isinstance(self.processor, TimmWrapperImageProcessor):
            shown: Any = images.decode(photo, limits=limits)
            for step in self.processor.val_transforms.transforms[:-2]:  # the last two make numbers
                shown = step(shown)
            return torch.from_numpy(np.array(shown)).permute(2, 0, 1)
        shown = torch.from_numpy(images.pixels(photo, limits=limits)).permute(2, 0, 1)[None]  # no copy
        if self.processor.do_resize:
            shown = self.processor.resize(shown, size=self.processor.size, resample=self.processor.resample)
        if self.processor.do_center_crop:
            shown = self.processor.center_crop(shown, self.processor.crop_size)
        resized: torch.Tensor = shown[0]
        return resized

    def _measured(self) -> Way | None:
        """The way that gives what the processor gives, of pictures larger and smaller than the net's, of any shape."""
        height, width = self._spec.height, self._spec.width
        noise = np.random.default_rng(0).integers(0, 256, (2 * height, 2 * width + 1, 3), dtype=np.uint8)
        ways = list(WAYS)
        for high, wide in (
            (height, width), (height // 2 + 3, width // 3 + 1), (2 * height, width + 1), (height + 2, 2 * width + 1),
            (7, 2 * width),
        ):  # fmt: skip
            photo = Image.fromarray(noise[:high, :wide])
            try:
                expected = self.processor(photo, return_tensors="pt")["pixel_values"]
                resized = self.bytes([photo])
                made = [numbers(way, resized, self._spec.mean, self._spec.std) for way in ways]
            except Exception:  # its functions are called otherwise, or it has none of these
                return None
            ways = [way for way, one in zip(ways, made, strict=True) if torch.equal(one, torch.as_tensor(expected))]
        return ways[0] if ways else None


def numbers(way: Way, pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Bytes (photos, 3, height, width), on any device -> scaled, shifted floats.

    Args:
        way: One of `WAYS`.
        pixels: uint8.
        mean: Of each channel, of pixels from 0 to 1.
        std: Likewise.
    """
    made = torch.empty(pixels.shape, dtype=torch.float32, device=pixels.device)
    # One photo after the other on a CPU: what is subtracted lies in its cache when it is divided.
    if pixels.device.type == "cpu":
        return _numbers(way, pixels, made, mean, std)
    return _numbers(way, [pixels], made[None], mean, std)[0]


def _numbers(
    way: Way, pixels: Iterable[torch.Tensor], made: torch.Tensor, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    shift, scale = (torch.tensor(one, device=made.device)[:, None, None] for one in (mean, std))
    for part, out in zip(pixels, made, strict=True):
        way(part, shift, scale, out)
    return made


def _in_steps(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(pixels).div_(255).sub_(mean).div_(std)  # timm's, and torchvision's transforms


def _at_once(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(pixels).sub_(mean * 255).div_(std * 255)  # transformers' with torchvision


def _scaled(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(pixels).mul_(1 / 255).sub_(mean).div_(std)  # transformers' with Pillow


WAYS: tuple[Way, ...] = (_at_once, _in_steps, _scaled)
