"""`runtime.pixels`: strips take no gigabytes of memory; usual photos of any shape are what they were."""

import numpy as np
import pytest
from PIL import Image

from hf_fashion import runtime
from hf_fashion.errors import InputError

SHORTEST = {
    "resize": "shortest", "size": 224, "limit": None, "multiple": None, "rounding": "down", "resample": "bilinear",
    "filter": True, "crop": [224, 224], "crop_rounding": "down", "pad": None,
}  # fmt: skip
SQUASH = SHORTEST | {"resize": "squash", "size": [224, 224], "crop": None}


@pytest.mark.parametrize(
    ("width", "height", "shown"),
    [
        (1, 40_000, SHORTEST),
        (40_000, 1, SHORTEST),
        (1, 20_000_000, SQUASH),  # Pillow brings its width to 224 first, which makes 18 GB
    ],
)
def test_strips_that_would_take_gigabytes_are_refused(width, height, shown, monkeypatch):
    monkeypatch.setattr(Image.Image, "resize", lambda *_: pytest.fail("resized"))
    with pytest.raises(ValueError, match=f"a strip of {width:,} x {height:,}"):
        runtime.pixels(Image.new("RGB", (width, height)), shown)


@pytest.mark.parametrize("shown", [SHORTEST, SQUASH])
@pytest.mark.parametrize("size", [(1, 1), (2, 100), (3_000, 60), (100, 5_000), (5_000, 5_000)])
def test_what_servers_take_is_resized(size, shown):
    assert runtime.pixels(Image.new("RGB", size), shown).shape == (224, 224, 3)


def test_a_model_names_the_strip(tmp_path):
    model = runtime.Exported({"kind": "retrieval", "input": SHORTEST, "batch": None}, lambda pixels: [pixels[:, 0, 0]])
    strip = np.zeros((30_000, 1, 3), np.uint8)
    with pytest.raises(InputError, match="photo 1") as error:
        model([np.zeros((30, 20, 3), np.uint8), strip])
    assert "a strip of 1 x 30,000" in error.value.found
