"""Random pictures: what a policy does, that its draws can be repeated, and what fills the borders."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from hf_fashion.augmentation import KEY, Augmented, crop_and_flip
from hf_fashion.backbones import InputSpec, input_spec
from hf_fashion.errors import InputError

POLICIES = ("randaugment", "trivialaugment")


@pytest.fixture(scope="module")
def spec() -> InputSpec:
    from transformers import ViTImageProcessor

    processor = ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.8, 0.4, 0.2], image_std=[0.5] * 3)
    return input_spec(processor)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8))


def augmented(spec, photo, policy, rows=20, **options):
    augment = crop_and_flip(spec, policy=policy)
    return Augmented([photo] * rows, lambda row: {"pixel_values": augment(row)}, 1, **options)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_draws_from_torch_alone_and_can_be_repeated(policy, spec, photo):
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = [example["pixel_values"] for example in augmented(spec, photo, policy)]
    assert random.getstate() == states[0] and (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    again = [example["pixel_values"] for example in augmented(spec, photo, policy)]
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert all(picture.shape == (3, 32, 32) and picture.dtype == torch.float32 for picture in first)
    plain = [example["pixel_values"] for example in augmented(spec, photo, "none")]
    # The crop and the flip are the same ones; a policy may pick "identity", but not each time.
    assert sum(torch.equal(*pair) for pair in zip(first, plain, strict=True)) < 10


@pytest.mark.parametrize("policy", POLICIES)
def test_borders_that_come_in_have_the_mean_colour(policy, spec):
    mean = tuple(round(255 * value) for value in spec.mean)
    bordered = 0
    for example in augmented(spec, Image.new("RGB", (40, 48), mean), policy, rows=60):
        bytes_ = (example["pixel_values"] * 0.5 + torch.tensor(spec.mean)[:, None, None]).mul(255).round().int()
        colors = {tuple(color) for color in bytes_.flatten(1).T.tolist()}
        # One colour stays one, whatever is done to it; moved after a change of colour, it has the fill beside it.
        assert len(colors) == 1 or (len(colors) == 2 and mean in colors), colors
        bordered += len(colors) == 2
    assert policy == "trivialaugment" or bordered


def test_another_policy_is_refused(spec):
    with pytest.raises(InputError, match="trivialaugment"):
        crop_and_flip(spec, policy="autoaugment")


def test_keys_differ_by_seed_epoch_row_and_time(spec, photo):
    rows = augmented(spec, photo, "none", keyed=True)
    keys = {rows[0][KEY], rows[1][KEY], rows[0, 1][KEY], Augmented([photo], lambda row: {}, 2, keyed=True)[0][KEY]}
    assert rows[0, 0][KEY] == rows[0][KEY]
    rows.set_epoch(1)
    keys.add(rows[0][KEY])
    assert len(keys) == 5 and all(0 <= key < 2**63 for key in keys)
    assert KEY not in augmented(spec, photo, "none")[0]
