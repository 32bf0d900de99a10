"""Random crops, flips and colours of photos whose boxes move along.

The geometry is torchvision's (`transforms.v2` on `tv_tensors`): it is a core dependency already, knows boxes, and
draws from torch's generator alone, which `augmentation.Augmented` seeds; albumentations would be one more dependency
with a generator of its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import RandomResizedCrop, v2
from torchvision.transforms.v2 import functional

VISIBLE = 0.3  # share of a box's area that must be left of it in a crop, or it is left out
_ASPECT = (2 / 3, 3 / 2)  # of a crop, over the photo's own


class Boxed(NamedTuple):
    """A photo with boxes.

    Args:
        photo: Bytes (3, height, width).
        bbox: x, y, width, height in pixels (boxes, 4).
        kept: Places of these boxes among those that were given (boxes,).
    """

    photo: torch.Tensor
    bbox: np.ndarray
    kept: np.ndarray


def crop_and_flip(
    smallest_crop: float = 0.3, flip: bool = True, zoom_out: float = 1.0, color: float = 0.0
) -> Callable[[Image.Image, np.ndarray], Boxed]:
    """PIL photo and boxes -> another view of both, of another size; the processor makes it the net's.

    Args:
        smallest_crop: Smallest share of the photo's area that a random crop keeps; 1.0 does not crop. Half of the
            photos are cropped, and of a crop that would hold no box the photo is taken whole.
        flip: Mirror half of the photos.
        zoom_out: Up to so many times the photo's sides becomes a canvas of its mean colour, on which it lies anywhere;
            1.0: none. Half of the photos that are not cropped.
        color: Strength of random brightness, contrast and saturation, 0 to 1. Not for labels that name colours.
    """
    jitter = v2.ColorJitter(brightness=color, contrast=color, saturation=color) if color > 0 else None

    def transform(picture: Image.Image, bbox: np.ndarray) -> Boxed:
        photo = functional.pil_to_tensor(picture)
        boxed = Boxed(photo, np.asarray(bbox, dtype=np.float32).reshape(-1, 4), np.arange(len(bbox)))
        if smallest_crop < 1 and _chance():
            boxed = _cropped(boxed, smallest_crop)
        elif zoom_out > 1 and _chance():
            boxed = _on_canvas(boxed, zoom_out)
        if flip and _chance():
            boxed = boxed._replace(photo=functional.horizontal_flip(boxed.photo), bbox=_mirrored(boxed))
        return boxed if jitter is None else boxed._replace(photo=jitter(boxed.photo))

    return transform


def _chance() -> bool:
    return bool(torch.rand(()) < 0.5)


def _boxes(boxed: Boxed) -> tv_tensors.BoundingBoxes:
    height, width = boxed.photo.shape[-2:]
    return tv_tensors.BoundingBoxes(boxed.bbox, format="XYWH", canvas_size=(height, width))


def _mirrored(boxed: Boxed) -> np.ndarray:
    return functional.horizontal_flip(_boxes(boxed)).numpy()


def _cropped(boxed: Boxed, smallest: float) -> Boxed:
    """A crop with the boxes of which enough is in it; the photo as it was where none is."""
    height, width = boxed.photo.shape[-2:]
    ratio = [limit * width / height for limit in _ASPECT]
    top, left, h, w = RandomResizedCrop.get_params(boxed.photo, [smallest, 1.0], ratio)
    bbox = functional.crop(_boxes(boxed), top, left, h, w).numpy()
    with np.errstate(all="ignore"):
        share = bbox[:, 2:].prod(axis=1) / boxed.bbox[:, 2:].prod(axis=1)
    seen = share >= VISIBLE
    if len(seen) and not seen.any():
        return boxed
    return Boxed(functional.crop(boxed.photo, top, left, h, w), bbox[seen], boxed.kept[seen])


def _on_canvas(boxed: Boxed, most: float) -> Boxed:
    """The photo somewhere on a larger canvas of its mean colour."""
    height, width = boxed.photo.shape[-2:]
    scale = 1 + float(torch.rand(())) * (most - 1)
    more_h, more_w = round(height * (scale - 1)), round(width * (scale - 1))
    top, left = (int(torch.randint(0, more + 1, ())) for more in (more_h, more_w))
    mean = boxed.photo.float().mean(dim=(1, 2)).round().to(torch.uint8)
    canvas = mean[:, None, None].expand(-1, height + more_h, width + more_w).clone()
    canvas[:, top : top + height, left : left + width] = boxed.photo
    return boxed._replace(photo=canvas, bbox=boxed.bbox + np.array([left, top, 0, 0], dtype=np.float32))
