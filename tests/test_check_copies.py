"""Pictures that are nearly the same are found among many; studio shots that only look alike to a hash are not."""

import itertools
import tracemalloc

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Image
from messy import encoded, scene, studio
from PIL import Image as PILImage
from PIL import ImageEnhance

from hf_fashion import checks
from hf_fashion.checks import copies
from hf_fashion.checks.pictures import Looked, Place, thumbnail
from hf_fashion.report import Report

imagehash = pytest.importorskip("imagehash")


def groups(*pictures, split=None):
    """The rows of each finding about pictures that are nearly the same."""
    parts = {}
    for number, picture in enumerate(pictures):
        parts.setdefault(split[number] if split else "train", []).append({"bytes": picture, "path": None})
    features = Features({"image": Image()})
    dataset = DatasetDict({name: Dataset.from_dict({"image": of}, features=features) for name, of in parts.items()})
    report = checks.check(dataset, Report({}), thorough=True)
    return [finding.rows for finding in report.findings if "nearly" in finding.found]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, "JPEG", quality=40),
        lambda image: encoded(image.resize((60, 80), PILImage.Resampling.LANCZOS)),
        lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.05)),
        lambda image: encoded(image.crop((2, 2, 118, 158)), "JPEG", quality=80),
    ],
    ids=["encoded", "sized", "brighter", "cropped"],
)
def test_another_version_of_a_scene(change):
    others = [encoded(scene(number)) for number in range(1, 6)]
    assert groups(encoded(scene(0)), *others, change(scene(0))) == [(("train", 0), ("train", 6))]


def test_another_version_of_a_studio_shot():
    shot = studio((150, 90, 70))
    small = shot.resize((90, 120), PILImage.Resampling.LANCZOS)
    assert groups(encoded(shot), encoded(small, "JPEG", quality=70)) == [(("train", 0), ("train", 1))]


def test_studio_shots_of_one_pose_are_different_pictures():
    """Their hashes are near: without the second look all would be one."""
    shots = [studio(color) for color in [(200, 30, 30), (30, 60, 200), (40, 140, 60), (20, 20, 20)]]
    hashes = [imagehash.phash(shot) for shot in shots]
    assert min(a - b for a, b in itertools.combinations(hashes, 2)) <= copies.HASH_DISTANCE
    assert groups(*map(encoded, shots)) == []


def test_blank_pictures_are_not_compared():
    assert groups(*(encoded(PILImage.new("RGB", (40, 40), (shade,) * 3)) for shade in (250, 251, 252))) == []


def test_versions_of_one_picture_are_one_group_across_splits():
    versions = [encoded(scene(0), "JPEG", quality=quality) for quality in (95, 70, 40)]
    [rows] = groups(*versions, split=["train", "test", "train"])
    assert sorted(rows) == [("test", 0), ("train", 0), ("train", 1)]


def test_all_pairs_are_found_as_by_comparing_each_with_each():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 400, dtype=np.uint64)
    for row in range(0, 400, 4):  # a neighbour of each fourth, 0 to 11 bits away
        flips = sum(1 << bit for bit in random.choice(64, row // 4 % 12, replace=False).tolist())
        hashes[row + 1] = hashes[row] ^ np.uint64(flips)
    distance = np.bitwise_count(hashes[:, None] ^ hashes)
    wanted = {(a, b) for a, b in np.argwhere(distance <= copies.HASH_DISTANCE).tolist() if a < b}
    found = {pair for a, b in copies.pairs(hashes) for pair in zip(a.tolist(), b.tolist(), strict=True)}
    assert found == wanted and len(wanted) >= 75


def test_two_thumbnails_of_noise_are_not_alike():
    random = np.random.default_rng(0)
    noise = [thumbnail(PILImage.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))) for _ in range(2)]
    assert copies.alike(noise[0], noise[0]) and not copies.alike(*noise)


def test_of_many_versions_of_one_picture_not_all_pairs_are_kept(monkeypatch):
    """The same placeholder, saved a hundred times: of n versions there are n * n pairs."""
    count, draw = 400, np.random.default_rng(0)
    hashes = np.zeros(count, dtype=np.uint64) ^ (np.uint64(1) << draw.integers(0, 64, count).astype(np.uint64))
    looked = Looked(
        places=[Place("train", number, str(number)) for number in range(count)], hashes=hashes,
        small=np.full((count, 8, 8, 3), 128, dtype=np.uint8), flat=np.zeros(count, dtype=np.uint16),
    )  # fmt: skip
    compared = []
    monkeypatch.setattr(copies, "alike", lambda a, b: not compared.append(1))
    monkeypatch.setattr(copies.images, "decode", lambda *args, **options: PILImage.new("RGB", (8, 8)))
    pictures = Dataset.from_dict({"image": [{"bytes": b"", "path": None}] * count}, Features({"image": Image()}))
    tracemalloc.start()
    found = copies.near(DatasetDict(train=pictures), looked, [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [list(range(count))] and len(compared) == count - 1
    assert peak < 25 * 2**20, peak


def test_how_many_pairs_wait_changes_no_group(monkeypatch):
    pictures = [encoded(scene(seed), "JPEG", quality=quality) for seed in range(3) for quality in (30, 60, 90)]
    found = groups(*pictures)
    monkeypatch.setattr(copies, "_WAITING", 0)
    assert groups(*pictures) == found and [len(rows) for rows in found] == [3, 3, 3]
