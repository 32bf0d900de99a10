"""Photos that are opened once: the same pictures, to the bit, and the same training."""

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image
from safetensors.torch import load_file
from tiny import photos, tiny, undrawn  # noqa: F401 (a fixture)

from hf_fashion import backbones, images, photo_cache
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe
from hf_fashion.tasks import classify


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("kept")
    photos(size=90).save_to_disk(place / "photos")
    for kind in ("swin", "timm", "vit"):
        torch.manual_seed(0)
        tiny(kind, place / kind)
    return place


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_FASHION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows_of(place, split="train"):
    return DatasetDict.load_from_disk(place / "photos")[split]


@pytest.mark.parametrize("kind", ["swin", "timm", "vit"])
def test_prepared_photos_are_the_processors_to_the_bit(place, kind, monkeypatch):
    rows = rows_of(place)
    _, processor = backbones.load_classifier(place / kind, ["a", "b"])
    plain = classify.prepare(rows, processor)[:]["pixel_values"]
    plain = plain if isinstance(plain, torch.Tensor) else torch.stack(list(plain))
    made = photo_cache.Prepared(rows, processor)
    assert torch.equal(made.numbers(made[:]), plain) and torch.equal(made.numbers(made[[3, 1]]), plain[[3, 1]])
    assert made[5].dtype == torch.uint8 and torch.equal(made.numbers(made[5][None])[0], plain[5])
    assert len(made) == len(rows)
    opened = []

    def decode(photo, decode=images.decode, **more):
        opened.append(photo)
        return decode(photo, **more)

    monkeypatch.setattr(images, "decode", decode)
    assert torch.equal(photo_cache.Prepared(rows, processor)[:], made[:]) and len(opened) == 1  # one, to compare


def test_what_would_not_be_the_same_is_not_kept(place, monkeypatch):
    _, processor = backbones.load_classifier(place / "vit", ["a", "b"])

    monkeypatch.setattr(
        photo_cache.Prepared, "_back", lambda self, numbers: (numbers * 0 + 7).to(torch.uint8)
    )  # as of pictures that are filled up with a mean of half a grey level
    with pytest.raises(photo_cache.Inexact):
        photo_cache.Prepared(rows_of(place), processor)


def test_other_photos_and_processors_are_kept_apart(place, kept, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_FASHION_CACHE", str(tmp_path / "cache"))
    rows = rows_of(place)
    _, processor = backbones.load_classifier(place / "vit", ["a", "b"])
    photo_cache.Prepared(rows, processor)
    photo_cache.Prepared(rows, processor)
    assert len(list(kept.iterdir())) == 1
    photo_cache.Prepared(rows.select(range(3)), processor)
    _, other = backbones.load_classifier(place / "vit", ["a", "b"], image_size=48)
    photo_cache.Prepared(rows, other)
    assert len(list(kept.iterdir())) == 3


def test_shrunk_photos_are_upright_and_the_same_as_without_the_cache(tmp_path):
    turned = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 100, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "small.png")
    Image.new("L", (301, 77), 50).save(tmp_path / "grey.png")
    names = ["turned.jpg", "small.png", "grey.png"]
    rows = Dataset.from_dict({"image": [str(tmp_path / name) for name in names]}, Features({"image": ImageFeature()}))
    made = photo_cache.Shrunk(rows, 40)
    assert [one.size for one in (made[0], made[1], made[2])] == [(40, 67), (30, 20), (156, 40)]
    for number, name in enumerate(names):
        plain = photo_cache.shrink(images.decode(tmp_path / name), 40)
        assert np.array_equal(np.asarray(made[number]), np.asarray(plain))
    again = photo_cache.Shrunk(rows, 40)
    assert np.array_equal(np.asarray(again[2]), np.asarray(made[2])) and len(again) == 3


def test_a_photo_that_cannot_be_read_leaves_nothing_behind(tmp_path, kept):
    rows = Dataset.from_list(
        [{"image": {"bytes": b"no picture", "path": None}}], features=Features({"image": ImageFeature()})
    )
    with pytest.raises(ValueError):
        photo_cache.Shrunk(rows, 40)
    assert not kept.exists() or not list(kept.iterdir())


def run(place, folder, *more):
    return recipe.main([
        "--model", str(place / "swin"), "--dataset", str(place / "photos"), "--num_train_epochs", "2",
        "--per_device_train_batch_size", "6", "--learning_rate", "1e-2", "--use_cpu", "True", "--disable_tqdm", "True",
        "--output_dir", str(folder), *more,
    ])  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_a_training_on_kept_photos(place, tmp_path, kept):
    """Shown alike, the weights are those of a training without the cache; small photos are not shrunk at all."""
    fixed = ["--smallest_crop", "1", "--no_flip"]
    for name, more in (("plain", fixed), ("kept", [*fixed, "--photo_cache", "64"]), ("cropped", []),
                       ("cropped-kept", ["--photo_cache", "500"])):  # fmt: skip
        run(place, tmp_path / name, *more)
    weights = {name: load_file(tmp_path / name / "model.safetensors")
               for name in ("plain", "kept", "cropped", "cropped-kept")}  # fmt: skip
    assert all(torch.equal(value, weights["kept"][name]) for name, value in weights["plain"].items())
    assert all(torch.equal(value, weights["cropped-kept"][name]) for name, value in weights["cropped"].items())
    assert any(not torch.equal(value, weights["plain"][name]) for name, value in weights["cropped"].items())
    with pytest.raises(InputError, match="so many pixels the net sees"):
        run(place, tmp_path / "no", "--photo_cache", "16")
