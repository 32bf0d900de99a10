"""The scenes that `detect` trains on when nothing is typed."""

import numpy as np
from PIL import Image as PILImage

from hf_fashion.samples import scenes


def test_scenes_are_the_same_for_a_seed_and_their_boxes_hold_a_garment():
    sizes = {"validation": 12, "test": 4}
    made, again, other = (scenes.scenes(sizes, side=160, seed=seed) for seed in (3, 3, 4))
    assert made["validation"]["objects"] == again["validation"]["objects"] != other["validation"]["objects"]
    assert made["validation"].features == made["test"].features
    names = made["validation"].features["objects"]["category"].feature.names
    for row in made["validation"]:
        pixels = np.asarray(row["image"], dtype=int)
        assert pixels.shape == (160, 160, 3) and len(row["objects"]["bbox"]) >= 1
        for (x, y, w, h), category, area in zip(*row["objects"].values(), strict=True):
            assert x >= 0 and y >= 0 and x + w <= 160 and y + h <= 160 and min(w, h) >= 8
            assert 0.2 * w * h < area <= w * h and category in range(len(names))
    assert len(set(made["validation"]["source_row"])) == 12


def test_garments_are_cut_from_the_photos_of_their_own_split():
    from datasets import Dataset

    photos = Dataset.from_parquet(str(scenes.Path(scenes.__file__).parent / "photos" / "test.parquet"))
    garments = scenes.cut_outs(photos, "test")
    assert len(garments) > 0.8 * len(photos)
    for garment in garments[:5]:
        assert garment.label == photos[garment.row]["label"]
        alpha = garment.picture.getchannel("A")
        assert alpha.getbbox() == (0, 0, *garment.picture.size) and isinstance(garment.picture, PILImage.Image)
