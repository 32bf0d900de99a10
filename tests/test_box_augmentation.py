"""Boxes move with their photo: what is drawn in a box is still in it after any crop, flip or canvas."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_fashion import box_augmentation

COLORS = ((220, 30, 30), (30, 200, 30), (30, 30, 220))


def scene():
    """A grey photo with three rectangles of their own colours, and their boxes."""
    photo = np.full((120, 90, 3), 128, np.uint8)
    boxes = [(5, 10, 30, 40), (50, 20, 35, 60), (10, 70, 25, 45)]
    for (x, y, w, h), color in zip(boxes, COLORS, strict=True):
        photo[y : y + h, x : x + w] = color
    return Image.fromarray(photo), np.array(boxes, dtype=np.float32)


@pytest.mark.parametrize(
    "settings", [{"smallest_crop": 0.2}, {"smallest_crop": 1.0, "zoom_out": 3.0}, {"smallest_crop": 1.0, "flip": True}]
)
def test_what_was_drawn_in_a_box_fills_it_and_is_nowhere_else(settings):
    photo, boxes = scene()
    transform = box_augmentation.crop_and_flip(**{"flip": False} | settings)
    changed = 0
    for seed in range(60):
        torch.manual_seed(seed)
        made = transform(photo, boxes)
        pixels = made.photo.permute(1, 2, 0).numpy().astype(int)
        changed += pixels.shape[:2] != (120, 90) or not np.array_equal(made.bbox, boxes)
        assert len(made.bbox) == len(made.kept) and len(made.kept)
        for (x, y, w, h), place in zip(made.bbox.astype(int), made.kept, strict=True):
            mask = (np.abs(pixels - COLORS[place]) < 12).all(axis=2)
            rows, columns = np.nonzero(mask)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
            assert mask[y : y + h, x : x + w].all()
    assert changed > 20


def test_a_box_of_which_little_is_left_goes_and_the_others_stay():
    photo, boxes = scene()
    transform = box_augmentation.crop_and_flip(smallest_crop=0.2, flip=False)
    seen = set()
    for seed in range(80):
        torch.manual_seed(seed)
        made = transform(photo, boxes)
        seen.add(len(made.kept))
        share = made.bbox[:, 2:].prod(axis=1) / boxes[made.kept, 2:].prod(axis=1)
        assert (share >= box_augmentation.VISIBLE).all()
    assert {1, 2, 3} <= seen


def test_a_photo_without_boxes_and_the_same_draws_again():
    photo, boxes = scene()
    transform = box_augmentation.crop_and_flip(smallest_crop=0.3, zoom_out=2.0, color=0.4)
    for seed in range(10):
        torch.manual_seed(seed)
        assert transform(photo, np.zeros((0, 4))).bbox.shape == (0, 4)
        torch.manual_seed(seed)
        first = transform(photo, boxes)
        torch.manual_seed(seed)
        again = transform(photo, boxes)
        assert torch.equal(first.photo, again.photo) and np.array_equal(first.bbox, again.bbox)
