"""Pascal VOC, whole and damaged."""

import os
import time

import pytest
from detection import NAMES, check, expect_error, load, photo, photos, put, table, told, truth, voc, xml

from hf_fashion import data

TRAIN, VAL, TEST = truth(10, 1), truth(6, 2), truth(6, 3)
SPLITS = {"train": TRAIN, "validation": VAL, "test": TEST}
WHOLE = {"validation_share": None, "test_share": None}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path):
    return voc(tmp_path / "shop", train=TRAIN, val=VAL, test=TEST)


def one(tmp_path, objects="", text=None):
    """Two photos; the first with these objects, or this XML."""
    root = tmp_path / "one"
    photos(root / "JPEGImages", {"a": 0, "b": 0})
    put(root / "Annotations" / "a.xml", xml([], "a", objects) if text is None else text)
    put(root / "Annotations" / "b.xml", xml([("hat", 1, 1, 5, 5)], "b"))
    return root


def box(name="hat", corners=(2, 3, 11, 12), more=""):
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>"


def test_a_folder_comes_with_boxes_from_zero(root):
    dataset, report = load(root)
    assert table(dataset) == SPLITS and data.box_labels(dataset) == NAMES and report.findings == []
    assert report.source["kind"] == "Pascal VOC folder"
    row = dataset["train"][3]
    assert (row["image_id"], row["source_row"]) == ("1_003", "JPEGImages/1_003.png") and row["image"].size == (40, 32)
    assert set(row["objects"]) == {"bbox", "category", "area"}
    assert check(dataset, report).of("error") == []


def test_corners_of_one_and_the_width_are_the_whole_picture(tmp_path):
    root = one(tmp_path, box(corners=(1, 1, 40, 32)))
    dataset, report = load(root, **WHOLE)
    assert table(dataset)["train"]["a"] == [("hat", 0, 0, 40, 32)] and not told(report, "note")
    assert check(dataset, report).of("error") == []


def test_a_corner_of_zero_says_that_all_count_from_zero(tmp_path):
    root = one(tmp_path, box(corners=(0, 0, 40, 32)) + box("bag", (2, 3, 11, 12)))
    dataset, report = load(root, **WHOLE)
    assert table(dataset)["train"] == {
        "a": [("hat", 0, 0, 40, 32), ("bag", 2, 3, 9, 9)], "b": [("hat", 2, 2, 4, 4)],
    }  # fmt: skip
    assert "corners of 0" in told(report, "note")[0][1]
    assert check(dataset, report).of("error") == []


def test_difficult_objects_are_crowds_and_this_is_said(tmp_path):
    objects = (
        box(more="<difficult>1</difficult>") + box("bag", more="<difficult>0</difficult>") + box("bag", (1, 1, 2, 2))
    )
    dataset, report = load(one(tmp_path, objects), **WHOLE)
    assert [row["iscrowd"] for row in dataset["train"]["objects"][:]] == [[1, 0, 0], [0]]
    assert "1 objects marked difficult have iscrowd 1" in told(report, "note")[0][1]


def test_parts_of_objects_are_not_objects(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>"
    assert table(load(one(tmp_path, box(more=part)), **WHOLE)[0])["train"]["a"] == [("hat", 1, 2, 10, 10)]


@pytest.mark.parametrize("layout", ["annotations images", ". .", "Annotations images"])
def test_other_folders(tmp_path, layout):
    home, pictures = layout.split()
    photos(tmp_path / "shop" / pictures, TRAIN)
    for name, boxes in TRAIN.items():
        put(tmp_path / "shop" / home / f"{name}.xml", xml(boxes, name))
    assert table(load(tmp_path / "shop", **WHOLE)[0]) == {"train": TRAIN}


def test_split_folders_as_roboflow_writes_them(tmp_path):
    for split, boxes in (("train", TRAIN), ("valid", VAL), ("test", TEST)):
        photos(tmp_path / "shop" / split, boxes)
        for name, each in boxes.items():
            put(tmp_path / "shop" / split / f"{name}.xml", xml(each, name))
    assert table(load(tmp_path / "shop")[0]) == SPLITS


def test_lists_of_the_challenge(root):
    lists = root / "ImageSets" / "Main"
    put(lists / "trainval.txt", "\n".join([*TRAIN, *VAL]))
    put(lists / "hat_train.txt", "1_000 -1\n1_001  1\n")
    put(lists / "test.txt", "2009_1\n2009_2\n")
    dataset, report = load(root, **WHOLE)
    assert table(dataset) == {"train": TRAIN, "validation": VAL}
    assert told(report, "note") == [
        ("ImageSets/Main/test.txt", "not used: no XML for any of 2 ids"),
        ("ImageSets/Main", "6 XMLs in no list, not used; the first: 3_000"),
    ]
    put(lists / "train.txt", "\n".join([*TRAIN, "gone"]))
    assert told(load(root, **WHOLE)[1], "error") == [("Annotations/gone.xml", "no such file")]
    os.remove(lists / "train.txt")
    os.remove(lists / "val.txt")
    assert table(load(root, **WHOLE)[0]) == {"train": {**TRAIN, **VAL}}


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><annotation><filename>&i;</filename></annotation>"
)
OUTSIDE = (
    '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object>'
    "</annotation>"
)


@pytest.mark.parametrize("text, words", [
    (BOMB, "DOCTYPE"), (OUTSIDE, "DOCTYPE"), (BOMB.encode("utf-16"), "DOCTYPE"), ("<annotation>", "no element found"),
    ("<html></html>", "<html>"), ("no xml", "syntax error"), ("", "no element found"), (b"\xff\xfe\x00", ""),
    ('<?xml version="1.0" encoding="no-such"?><annotation/>', "unknown encoding"),
])  # fmt: skip
def test_xml_that_cannot_be_used_is_told_and_nothing_is_unfolded(tmp_path, text, words):
    root = one(tmp_path, text=text)
    put(root / "Annotations" / "0.xml", xml([], "a"))  # the first one says that the folder is one of Pascal VOC
    put(root / "JPEGImages" / "0.png", photo(5))
    start = time.process_time()
    dataset, report = load(root, **WHOLE)
    [(where, found)] = told(report, "error")
    assert where == "Annotations/a.xml" and words in found and "root:" not in found
    assert sorted(table(dataset)["train"]) == ["0", "b"] and time.process_time() - start < 5


def test_elements_in_elements_without_end(tmp_path):
    deep = "<annotation>" + "<x>" * 200_000 + "</x>" * 200_000 + box() + "</annotation>"
    assert table(load(one(tmp_path, text=deep), **WHOLE)[0])["train"]["a"] == [("hat", 1, 2, 10, 10)]


@pytest.mark.parametrize("objects, words", [
    (box(""), "none"), (box("  "), "none"), ("<object><name>hat</name></object>", "none"),
    ("<object><name>hat</name><bndbox><xmin>1</xmin></bndbox></object>", "none"),
    (box(more="<difficult>yes</difficult>"), "'yes'"),
])  # fmt: skip
def test_an_object_that_cannot_be_used_is_told_by_its_place(tmp_path, objects, words):
    _, report = load(one(tmp_path, box() + objects), **WHOLE)
    [(where, found)] = told(report, "error")
    assert where == "Annotations/a.xml, object 1" and words in found


def test_numbers_that_are_none_come_through_to_the_check(tmp_path):
    dataset, report = load(one(tmp_path, box(corners=("x", 2, 3, 4)) + box(corners=(9, 9, 5, 12))), **WHOLE)
    found = " ".join(text for _, text in told(check(dataset, report), "error"))
    assert "not a number" in found and "negative width" in found


def test_pictures_that_are_missing_or_two(tmp_path):
    root = one(tmp_path, box())
    put(root / "Annotations" / "c.xml", xml([], "gone"))
    put(root / "JPEGImages" / "a.jpg", photo(3, format="JPEG"))
    _, report = load(root, **WHOLE)
    assert told(report, "error") == [("Annotations/c.xml", "none called c in JPEGImages")]  # a.xml names a.png
    put(root / "Annotations" / "a.xml", xml([], "other", box()))
    assert told(load(root, **WHOLE)[1], "error")[0] == ("Annotations/a.xml", "a.jpg and a.png")


def test_sizes_that_are_not_those_of_the_upright_picture_are_told(tmp_path):
    root = one(tmp_path, box())
    put(root / "JPEGImages" / "a.png", photo(1, orientation=6))
    assert told(load(root, **WHOLE)[1], "warning") == [
        ("Annotations/a.xml", "40 x 32 px, of a picture of 32 x 40 px, as before its EXIF orientation was applied")
    ]


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    root = one(tmp_path, box())
    put(tmp_path / "up.xml", xml([], "up"))
    put(tmp_path / "up.png", photo())
    (root / "Annotations" / "up.xml").symlink_to(tmp_path / "up.xml")
    os.remove(root / "JPEGImages" / "a.png")
    (root / "JPEGImages" / "a.png").symlink_to(tmp_path / "up.png")
    assert sorted(where for where, _ in told(load(root, **WHOLE)[1], "error")) == [
        "Annotations/a.xml", "Annotations/up.xml"
    ]  # fmt: skip


def test_folders_that_are_almost_one_are_told(root, tmp_path):
    expect_error(tmp_path, "such a one in it: shop", f"type {tmp_path / 'shop'}")
    os.rename(root / "JPEGImages", tmp_path / "elsewhere")
    expect_error(root, "a folder JPEGImages or images", "Annotations alone")


def test_a_format_that_is_typed_besides_is_refused(root):
    expect_error(root, "--box_format xyxy", "Pascal VOC folder", box_format="xyxy")


def test_many_photos_are_read_in_seconds(tmp_path):
    root = tmp_path / "shop"
    put(root / "images" / "photo.png", photo())
    put(root / "Annotations" / "photo.xml", xml([], "photo"))
    text = xml([("hat", 1, 1, 5, 5)] * 15, "x")
    for number in range(1000):
        os.link(root / "images" / "photo.png", root / "images" / f"p{number}.png")
        (root / "Annotations" / f"p{number}.xml").write_text(text)
    start = time.process_time()
    dataset, _ = load(root, **WHOLE)
    assert len(dataset["train"]) == 1001 and time.process_time() - start < 4
