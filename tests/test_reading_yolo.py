"""YOLO folders, whole and damaged."""

import math
import os
import time

import pytest
from detection import HEIGHT, NAMES, WIDTH, check, expect_error, load, photo, photos, put, table, told, truth, yolo

from hf_fashion import data
from hf_fashion.errors import InputError

TRAIN, VAL, TEST = truth(10, 1), truth(6, 2), truth(6, 3)
SPLITS = {"train": TRAIN, "validation": VAL, "test": TEST}
WHOLE = {"validation_share": None, "test_share": None}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path):
    return yolo(tmp_path / "shop", train=TRAIN, val=VAL, test=TEST)


def one(tmp_path, text, more=""):
    """A photo with a label."""
    root = tmp_path / "one"
    put(root / "images" / "train" / "a.png", photo())
    put(root / "images" / "train" / "b.png", photo(1))
    put(root / "labels" / "train" / "b.txt", "0 0.5 0.5 0.25 0.25\n")
    put(root / "labels" / "train" / "a.txt", text)
    put(root / "data.yaml", f"train: images/train\nnames: [bag, hat, shoe]\n{more}")
    return root


def test_a_folder_comes_in_pixels_with_its_names(root):
    dataset, report = load(root)
    assert table(dataset) == SPLITS and data.box_labels(dataset) == NAMES
    assert report.source["kind"] == "YOLO folder"
    row = dataset["train"][3]
    assert row["image_id"] == row["source_row"] == "images/train/1_003.png" and row["image"].size == (WIDTH, HEIGHT)
    assert set(row["objects"]) == {"bbox", "category", "area"}
    kind, x, y, w, h = TRAIN["1_003"][0]
    assert row["objects"]["area"][0] == pytest.approx(w * h, abs=0.01)
    assert check(dataset, report).of("error") == []
    [first, *_] = told(report, "note")
    assert "3 of 10 pictures have no text, and so no objects; the first: images/train/1_000.png" in first[1]


def test_the_yaml_itself_may_be_given(root):
    assert table(load(root / "data.yaml")[0]) == SPLITS


@pytest.mark.parametrize("text, names", [
    ("train: images/train\nval: images/val\ntest: images/test\nnames: {0: bag, 1: hat, 2: shoe}", NAMES),
    ("train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: bag\n  2: shoe\n  1: hat", NAMES),
    ("path: .\ntrain: ./images/train/\nval: [images/val]\ntest: images\\test\nnc: 3\nnames: [bag, hat, shoe]", NAMES),
    ("train: ../images/train\nval: ../images/val\ntest: ../images/test\nnames: [bag, hat, shoe]", NAMES),
    ("path: /content/shop\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [bag, hat, shoe]", NAMES),
    ("train: images/train\nval: images/val\ntest: images/test\nnames: [no, 1e3, on]", ["no", "1e3", "on"]),
])  # fmt: skip
def test_a_yaml_may_be_written_in_many_ways(root, text, names):
    put(root / "data.yaml", text)
    dataset, report = load(root)
    assert data.box_labels(dataset) == names and report.sizes == {"train": 10, "validation": 6, "test": 6}
    assert ["is not followed" in found for _, found in told(report, "note")].count(True) == ("/content" in text)


def test_splits_as_roboflow_writes_them(tmp_path):
    root = yolo(tmp_path / "shop", train=TRAIN, valid=VAL)
    for split in ("train", "valid"):
        for kind in ("images", "labels"):
            (root / split).mkdir(exist_ok=True)
            os.rename(root / kind / split, root / split / kind)
    text = (
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\nnames: ['bag', 'hat', 'shoe']\n"
    )
    put(root / "data.yaml", text + "roboflow:\n  license: CC BY 4.0\n")
    dataset, report = load(root, **WHOLE)
    assert table(dataset) == {"train": TRAIN, "validation": VAL} and report.source["license"] == "CC BY 4.0"
    assert told(report, "warning") == [("data.yaml", "test: ../test/images is not in the folder, and not used")]


def test_labels_beside_the_photos_and_lists_of_photos(tmp_path):
    photos(tmp_path / "shop" / "flat", TRAIN)
    for name, boxes in TRAIN.items():
        put(tmp_path / "shop" / "flat" / f"{name}.txt", "" if not boxes else "1 0.5 0.5 0.5 0.5\n")
    put(tmp_path / "shop" / "train.txt", "./flat/1_001.png\nflat/1_002.png\n\n../up.png\n")
    put(tmp_path / "up.png", photo())
    put(tmp_path / "shop" / "data.yaml", "train: train.txt\nnames: [bag, hat]\n")
    dataset, report = load(tmp_path / "shop", **WHOLE)
    assert dataset["train"]["source_row"][:] == ["flat/1_001.png", "flat/1_002.png"]
    assert told(report, "error") == [("train.txt:4", "../up.png")]
    put(tmp_path / "shop" / "data.yaml", "train: flat\nnames: [bag, hat]\n")
    assert len(load(tmp_path / "shop", **WHOLE)[0]["train"]) == 10


def test_polygons_become_their_bounding_boxes_and_this_is_said(tmp_path):
    root = one(tmp_path, "2 0.25 0.25 0.5 0.125 0.75 0.5\n1 0.5 0.5 0.5 0.5\n")
    dataset, report = load(root, **WHOLE)
    assert table(dataset)["train"]["a"] == [("shoe", 10, 4, 20, 12), ("hat", 10, 8, 20, 16)]
    assert ("split train", "1 of 3 lines are polygons: their bounding boxes are taken") in told(report, "note")


def test_key_points_are_no_polygon(tmp_path):
    root = one(tmp_path, "2 0.5 0.5 0.5 0.5 0.1 0.1 0.9 0.9\n", more="kpt_shape: [2, 2]\n")
    assert table(load(root, **WHOLE)[0])["train"]["a"] == [("shoe", 10, 8, 20, 16)]


@pytest.mark.parametrize("text, where, words", [
    ("3 0.5 0.5 0.5 0.5", ":1", "3"), ("-1 0.5 0.5 0.5 0.5", ":1", "-1"), ("0.5 0.5 0.5 0.5 0.5", ":1", "0.5"),
    ("nan 0.5 0.5 0.5 0.5", ":1", "nan"), ("bag 0.5 0.5 0.5 0.5", ":1", "bag 0.5"),
    ("\n0 0.5 0.5 0.5", ":2", "3 numbers after"), ("0 0.5 0.5 0.5 0.5 0.9", ":1", "perhaps a detection"),
    ("0 20 16 10 8", ":1", "0 20 16 10 8"), ("0", ":1", "0 numbers"), ("\0\1", ":1", ""),
])  # fmt: skip
def test_a_line_that_cannot_be_used_is_told_by_its_number(tmp_path, text, where, words):
    dataset, report = load(one(tmp_path, text), **WHOLE)
    [(place, found)] = told(report, "error")
    assert place == f"labels/train/a.txt{where}" and words in found
    assert table(dataset)["train"]["a"] == []


def test_numbers_that_are_none_come_through_to_the_check(tmp_path):
    dataset, report = load(one(tmp_path, "0 nan 0.5 0.5 0.5\n1 0.9 0.5 0.5 0.5\n2 0.5 0.5 0 0.1"), **WHOLE)
    assert math.isnan(dataset["train"][0]["objects"]["bbox"][0][0])
    words = ("not a number", "partly outside", "no area")
    found = " ".join(text for _, text in told(check(dataset, report), "error"))
    assert all(word in found for word in words)


def test_boxes_of_an_exif_rotated_picture_are_shares_of_the_upright_one(tmp_path):
    root = one(tmp_path, "1 0.5 0.5 0.5 0.5\n")
    put(root / "images" / "train" / "a.png", photo(0, (40, 32), orientation=6))
    dataset, _ = load(root, **WHOLE)
    assert table(dataset)["train"]["a"] == [("hat", 8, 10, 16, 20)]


def test_a_picture_that_cannot_be_read_is_an_error_that_drop_settles(tmp_path):
    root = one(tmp_path, "1 0.5 0.5 0.5 0.5\n")
    put(root / "images" / "train" / "a.png", b"<html>")
    dataset, report = load(root, **WHOLE)
    assert list(table(dataset)["train"]) == ["b"] and [where for where, _ in told(report, "error")] == [
        "images/train/a.png"
    ]
    assert check(dataset, report, on_bad_image="drop").of("error") == []
    assert report.left_out[0]["where"] == "images/train/a.png"


def test_texts_without_a_picture_are_warned_of(root):
    put(root / "labels" / "val" / "gone.txt", "0 0.5 0.5 0.5 0.5")
    put(root / "labels" / "val" / "classes.txt", "bag")
    assert told(load(root)[1], "warning") == [("shop", "1 without, the first: labels/val/gone.txt")]


@pytest.mark.parametrize("text, words", [
    ("train: images/train\nnames: 3", "names: 3"), ("train: images/train\nnames: []", "names: {}"),
    ("train: images/train\nnames: {a: b}", "names: "), ("train: images/train\nnames: [bag, '']", "names: "),
    ("train: images/train\nnc: 4\nnames: [bag, hat]", "4 names, as nc says"),
    ("train: images/gone\nnames: [bag]", "images/gone"), ("train: ../../up\nnames: [bag]", "../../up"),
    ("train: /etc\nnames: [bag]", "/etc"),
    ("train: images/train\nval: images/train\nnames: [bag]", "for train and val"),
    ("train: labels/train\nnames: [bag]", "none in labels/train"), ("a: [", "YAML"), ("train: \0", "YAML"),
    ("train: &a [*a]\nnames: [bag]", "aliases"), ("train: !!python/object:os.system x\nnames: [bag]", ""),
])  # fmt: skip
def test_a_yaml_that_cannot_be_used_is_refused_with_the_reason(root, text, words):
    (root.parent / "up").mkdir()
    put(root.parent / "up" / "a.png", photo())
    put(root / "data.yaml", text)
    expect_error(root, "expected", words)


def test_aliases_that_unfold_are_refused(root):
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    put(root / "data.yaml", "a0: &a0 [x, x]\n" + bomb + "train: images/train\nnames: [bag]")
    expect_error(root, "aliases")


def test_folders_that_are_almost_one_are_told(root, tmp_path):
    os.remove(root / "data.yaml")
    expect_error(root, "a data.yaml beside images and labels", "none", "write a data.yaml")
    photos(tmp_path / "bare" / "images", TRAIN)
    put(tmp_path / "bare" / "data.yaml", "train: images\nnames: [bag]\n")
    expect_error(tmp_path / "bare", "none for any of 10 pictures, as labels/1_000.txt")


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    root = one(tmp_path, "1 0.5 0.5 0.5 0.5\n")
    put(tmp_path / "up.png", photo())
    put(tmp_path / "up.txt", "secret")
    (root / "images" / "train" / "link.png").symlink_to(tmp_path / "up.png")
    os.remove(root / "labels" / "train" / "a.txt")
    (root / "labels" / "train" / "a.txt").symlink_to(tmp_path / "up.txt")
    (root / "images" / "train" / "more").symlink_to(tmp_path)
    _, report = load(root, **WHOLE)
    assert sorted(where for where, _ in told(report, "error")) == [
        "images/train/link.png", "labels/train/a.txt", "more"
    ]  # fmt: skip
    assert "secret" not in str(report)


def test_a_format_that_is_typed_besides_is_refused(root):
    expect_error(root, "--box_format relative_cxcywh", "YOLO folder", "leave it out", box_format="relative_cxcywh")


def test_many_photos_are_read_in_seconds(tmp_path):
    root = tmp_path / "shop"
    put(root / "images" / "photo.png", photo())
    (root / "labels").mkdir()
    for number in range(1000):
        os.link(root / "images" / "photo.png", root / "images" / f"p{number}.png")
        (root / "labels" / f"p{number}.txt").write_text("1 0.5 0.5 0.25 0.25\n" * 15)
    put(root / "data.yaml", "train: images\nnames: [bag, hat]\n")
    start = time.process_time()
    dataset, _ = load(root, **WHOLE)
    assert len(dataset["train"]) == 1001 and time.process_time() - start < 4


def test_loading_does_not_write_into_the_folder(root):
    before = sorted(path for path in root.rglob("*"))
    load(root)
    assert sorted(path for path in root.rglob("*")) == before
    with pytest.raises(InputError, match="COLUMNS|label"):
        data.load(root, {"image": None, "label": None})
