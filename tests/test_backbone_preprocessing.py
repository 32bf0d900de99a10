"""Preprocessing of classifiers: what each resize keeps of a picture, and that what is saved does the same."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny import KINDS, LABELS, batch, logits, save
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional
from transformers import pipeline

from hf_fashion import backbones
from hf_fashion.errors import InputError


def picture(width=70, height=50, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


EVERY = [("keep", None), ("squash", None), ("crop", None), ("pad", None), ("keep", 48), ("pad", 48)]
PROCESSORS = ("vit", "convnext", "dinov2", "timm")  # the other kinds have one of theirs


@pytest.mark.parametrize(
    ("kind", "resize", "image_size"),
    [(kind, *case) for kind in KINDS for case in (EVERY if kind in PROCESSORS else [("crop", None), ("pad", 48)])],
)
def test_resize_and_size_are_saved_and_pipeline_does_the_same(kind, image_size, resize, checkpoints, tmp_path):
    model, processor = backbones.load_classifier(checkpoints[kind], LABELS, resize=resize, image_size=image_size)
    save(model, processor, tmp_path)
    classify = pipeline("image-classification", model=str(tmp_path))
    spec = backbones.input_spec(processor)
    assert (spec.height, spec.width) == ((image_size or 32),) * 2
    assert resize in ("keep", spec.resize)
    for size in ((70, 50), (30, 90), (32, 32), (20, 20)):
        ours = processor(picture(*size), return_tensors="pt")["pixel_values"]
        theirs = classify.image_processor(picture(*size), return_tensors="pt")["pixel_values"]
        assert torch.equal(ours, theirs)
    top = classify(picture(), top_k=4)
    own = torch.softmax(logits(model, processor(picture(), return_tensors="pt")["pixel_values"]), -1)[0]
    assert {row["label"]: pytest.approx(row["score"], abs=1e-6) for row in top} == dict(
        zip(LABELS, own.tolist(), strict=True)
    )
    assert backbones.input_spec(classify.image_processor) == spec


@pytest.mark.parametrize("kind", PROCESSORS)
def test_what_each_resize_keeps_of_the_picture(kind, checkpoints):
    """A wide picture with one bright column at each end: squash and pad show both, crop shows none."""
    array = np.zeros((60, 120, 3), np.uint8)
    array[:, :10] = array[:, -10:] = 255
    for resize, expected in (("squash", 255), ("crop", 0), ("pad", 255)):
        _, processor = backbones.load_classifier(checkpoints[kind], LABELS, resize=resize)
        spec = backbones.input_spec(processor)
        pixels = processor(Image.fromarray(array), return_tensors="pt")["pixel_values"][0].numpy()
        pixels = (pixels * np.reshape(spec.std, (3, 1, 1)) + np.reshape(spec.mean, (3, 1, 1))) * 255
        row = 8 if resize == "pad" and kind != "timm" else 16  # transformers pads below, timm above and below
        assert pixels[:, row, [0, -1]] == pytest.approx(expected, abs=1)
        if resize == "pad":  # the filling is the mean colour, 0 once normalised
            filled = pixels[:, -1, :] / 255
            assert filled == pytest.approx(np.broadcast_to(np.reshape(spec.mean, (3, 1)), filled.shape), abs=0.003)


def test_squash_is_a_plain_resize_with_the_checkpoints_own_numbers(checkpoints):
    _, processor = backbones.load_classifier(checkpoints["convnext"], LABELS, resize="squash")
    spec = backbones.input_spec(processor)
    assert spec.mean == pytest.approx((0.485, 0.456, 0.406)) and spec.std == pytest.approx((0.229, 0.224, 0.225))
    assert spec.interpolation is InterpolationMode.BICUBIC
    pixels = torch.from_numpy(np.asarray(picture()).copy()).permute(2, 0, 1)
    expected = functional.resize(pixels, [32, 32], interpolation=spec.interpolation, antialias=True) / 255
    expected = functional.normalize(expected, list(spec.mean), list(spec.std))
    torch.testing.assert_close(
        processor(picture(), return_tensors="pt")["pixel_values"][0], expected, atol=1e-5, rtol=0
    )


def test_vit_positions_are_interpolated_once_for_another_size(checkpoints, tmp_path):
    native, processor = backbones.load_classifier(checkpoints["vit"], ["old 0", "old 1", "old 2"])
    model, processor = backbones.load_classifier(checkpoints["vit"], ["old 0", "old 1", "old 2"], image_size=64)
    assert model.config.image_size == 64 and model.vit.embeddings.position_embeddings.shape[1] == 65
    pixels = batch(64)
    with torch.no_grad():
        expected = native(pixels, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(logits(model, pixels), expected, atol=1e-5, rtol=0)


def test_a_size_that_swin_cannot_take_names_those_that_it_can(checkpoints):
    """Trap 38: each stage must be as large as its window."""
    with pytest.raises(InputError, match="a size that the net can take: 32, 64, 96"):
        backbones.load_classifier(checkpoints["swin"], LABELS, image_size=24)


@pytest.mark.parametrize("image_size", [0, -1, 224.5, "224", 100000])
def test_sizes_that_are_none(image_size, checkpoints):
    with pytest.raises(InputError, match="the image size"):
        backbones.load_classifier(checkpoints["vit"], LABELS, image_size=image_size)


def test_a_resize_that_is_none(checkpoints):
    with pytest.raises(InputError, match="keep, squash, crop or pad"):
        backbones.load_classifier(checkpoints["vit"], LABELS, resize="stretch")


def test_input_spec_measures_what_the_numbers_do_not_say():
    spec = backbones.input_spec(transformers.EfficientNetImageProcessor())  # normalises twice
    assert spec.mean == pytest.approx((0.5,) * 3) and spec.std == pytest.approx((0.25,) * 3)
    spec = backbones.input_spec(transformers.ViTImageProcessor(resample=0, do_normalize=False))
    assert spec.interpolation is InterpolationMode.NEAREST
    assert spec.mean == pytest.approx((0.0,) * 3, abs=1e-6) and spec.std == pytest.approx((1.0,) * 3)


def test_a_processor_that_flips_channels_is_not_described():
    with pytest.raises(InputError, match="MobileViTImageProcessor"):
        backbones.input_spec(transformers.MobileViTImageProcessor())
    with pytest.raises(InputError, match="resizes to one size"):
        backbones.input_spec(transformers.CLIPImageProcessor(do_center_crop=False))
