"""COCO jsons and their folders of photos, whole and damaged."""

import json
import math
import os
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from detection import (
    COLUMNS,
    HEIGHT,
    NAMES,
    WIDTH,
    check,
    coco,
    document,
    expect_error,
    load,
    photo,
    photos,
    put,
    table,
    told,
    truth,
)

from hf_fashion import data
from hf_fashion.errors import InputError
from hf_fashion.reading import coco as reader

TRAIN, VAL, TEST = truth(10, 1), truth(6, 2), truth(6, 3)
SPLITS = {"train": TRAIN, "validation": VAL, "test": TEST}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path):
    return coco(tmp_path / "shop", train=TRAIN, val=VAL, test=TEST)


def change(path, edit):
    """Edits the parsed json of a file in place."""
    told_ = json.loads(path.read_text())
    edit(told_)
    path.write_text(json.dumps(told_))


def alone(tmp_path, boxes=TRAIN, edit=lambda told: None, **changes):
    """One json with its photos beside it."""
    photos(tmp_path / "alone", boxes)
    path = put(tmp_path / "alone" / "boxes.json", document(boxes, **changes))
    change(path, edit)
    return path


def test_a_folder_comes_with_real_names_and_ids_without_gaps(root):
    dataset, report = load(root)
    assert table(dataset) == SPLITS and report.findings == []
    assert data.box_labels(dataset) == ["hat", "bag", "shoe"]  # in the order of the ids
    assert list(dataset) == ["train", "validation", "test"] and report.source["kind"] == "COCO folder"
    row = dataset["train"][3]
    assert (row["image_id"], row["source_row"]) == ("103", "train2017/1_003.png") and row["image"].size == (40, 32)
    assert row["objects"]["area"] == [box[3] * box[4] / 2 for box in TRAIN["1_003"]]
    assert row["objects"]["iscrowd"] == [0, 0, 0]
    assert check(dataset, report).of("error") == []


@pytest.mark.parametrize("layout", [
    "annotations/instances_train.json images", "annotations/instances_train.json train",
    "annotations/instances_train2017.json train2017", "annotations/instances_train2017.json images/train2017",
    "instances_train.json .", "instances_train.json images", "train/_annotations.coco.json train",
    "annotations/instances_default.json images", "labels.json data",
])  # fmt: skip
def test_the_folder_of_photos_is_found(tmp_path, layout):
    path, folder = layout.split()
    photos(tmp_path / "shop" / folder, TRAIN)
    put(tmp_path / "shop" / path, document(TRAIN))
    for source in (tmp_path / "shop" / path, tmp_path / "shop"):
        dataset, report = load(source, validation_share=None, test_share=None)
        assert table(dataset) == {"train": TRAIN} and not report.of("error") and not report.of("warning")


def test_file_names_may_hold_the_folder(tmp_path):
    photos(tmp_path / "shop" / "images" / "train", TRAIN)
    told_ = document(TRAIN)
    for image in told_["images"]:
        image["file_name"] = "train/" + image["file_name"]
    put(tmp_path / "shop" / "annotations" / "instances.json", told_)
    assert table(load(tmp_path / "shop", validation_share=None, test_share=None)[0]) == {"train": TRAIN}


def test_splits_as_roboflow_writes_them_in_a_zip(tmp_path):
    head = [{"id": 0, "name": "garments", "supercategory": "none"}]
    below = [{"id": n, "name": name, "supercategory": "garments"} for n, name in enumerate(NAMES, 1)]
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as file:
        for split, boxes in (("train", TRAIN), ("valid", VAL), ("test", TEST)):
            told_ = document(boxes, categories=head + below)
            for one in told_["annotations"]:
                one["category_id"] = {7: 1, 3: 2, 90: 3}[one["category_id"]]
            file.writestr(f"{split}/_annotations.coco.json", json.dumps(told_))
            for number, name in enumerate(boxes):
                file.writestr(f"{split}/{name}.png", photo(number))
    dataset, report = load(tmp_path / "shop.zip")
    assert table(dataset) == SPLITS and data.box_labels(dataset) == NAMES
    assert report.source["kind"] == "zip of COCO folder" and "garments" in told(report, "note")[0][1]


def test_jsons_of_other_tasks_are_passed_over(root):
    put(root / "annotations" / "captions_train2017.json", {"images": [], "annotations": [], "info": {}})
    put(root / "annotations" / "person_keypoints_train2017.json", document(TRAIN))
    dataset, report = load(root)
    assert table(dataset) == SPLITS
    assert [where for where, _ in told(report, "note")] == [
        "annotations/captions_train2017.json", "annotations/person_keypoints_train2017.json"
    ]  # fmt: skip
    put(root / "annotations" / "instances_train2014.json", document(TRAIN))
    expect_error(root, "one COCO json for each split", "instances_train2014.json")


def test_crowds_are_kept_and_areas_that_are_missing_are_made(tmp_path):
    def edit(told_):
        told_["annotations"][0]["iscrowd"] = 1
        del told_["annotations"][1]["area"], told_["annotations"][2]["iscrowd"]

    dataset, report = load(alone(tmp_path, edit=edit), validation_share=None, test_share=None)
    objects = [row for row in dataset["train"]["objects"][:] if row["bbox"]]
    assert [value for row in objects for value in row["iscrowd"]][:3] == [1, 0, 0]
    kind, x, y, w, h = TRAIN["1_002"][0]
    assert objects[1]["area"][0] == w * h


@pytest.mark.parametrize("edit, where, words", [
    (lambda t: t["annotations"][0].update(image_id=999), "annotation 1", "999"),
    (lambda t: t["annotations"][0].update(category_id=8), "annotation 1", "8"),
    (lambda t: t["annotations"][0].update(category_id=[8]), "annotation 1", "[8]"),
    (lambda t: t["annotations"][0].update(bbox=[1, 2, 3]), "annotation 1", "[1, 2, 3]"),
    (lambda t: t["annotations"][0].pop("bbox"), "annotation 1", "none"),
    (lambda t: t["annotations"][0].update(iscrowd="yes"), "annotation 1", "yes"),
    (lambda t: t["annotations"].insert(0, "x"), "annotations[0]", "x"),
    (lambda t: t["images"].append(dict(t["images"][0], file_name="other.png")), "image 100", "other.png"),
    (lambda t: t["images"].append(dict(t["images"][0], id=5)), "image 5", "1_000.png, as image 100"),
    (lambda t: t["images"].append({"id": 5}), "image 5", "{'id': 5}"),
    (lambda t: t["images"].append({"id": 5, "file_name": "\ud800.png"}), "image 5", "ud800"),
    (lambda t: t["images"].append({"file_name": "x.png"}), "images[10]", "x.png"),
    (lambda t: t["images"].append({"id": 5, "file_name": "gone.png"}), "image 5", "no such file: gone.png"),
    (lambda t: t["images"].append({"id": 5, "file_name": "../up.png"}), "image 5", "../up.png"),
    (lambda t: t["images"].append({"id": 5, "file_name": "/etc/passwd"}), "image 5", "absolute"),
    (lambda t: t["images"].append({"id": 5, "file_name": "link.png"}), "image 5", "link to"),
    (lambda t: t["images"].append({"id": 5, "file_name": "http://x/y.png"}), "image 5", "address"),
])  # fmt: skip
def test_what_cannot_be_used_is_told_by_its_id(tmp_path, edit, where, words):
    path = alone(tmp_path)
    put(tmp_path / "up.png", photo())
    (path.parent / "link.png").symlink_to(tmp_path / "up.png")
    change(path, edit)
    _, report = load(path, validation_share=None, test_share=None)
    [(place, found)] = told(report, "error")
    assert place == f"boxes.json: {where}" and words in found
    with pytest.raises(InputError, match="boxes.json"):
        report.raise_on_errors()


def test_thousands_of_faults_are_one_line(tmp_path):
    def edit(told_):
        told_["annotations"] += [{"id": n, "image_id": n, "category_id": 7, "bbox": []} for n in range(5000, 9000)]

    [(where, found)] = told(load(alone(tmp_path, edit=edit))[1], "error")
    assert "and 3980 more" in where and found.startswith("4000 times")


def test_ids_of_annotations_that_occur_twice_and_names_that_do_are_warned_of(tmp_path):
    def edit(told_):
        told_["annotations"][1]["id"] = 1
        told_["categories"].append({"id": 91, "name": "hat"})
        told_["annotations"][2]["category_id"] = 91

    dataset, report = load(alone(tmp_path, edit=edit), validation_share=None, test_share=None)
    assert data.box_labels(dataset) == ["hat", "bag", "shoe"]
    assert [found for _, found in told(report, "warning")] == ["more than one id of: hat; read as one class", "again"]


def test_sizes_that_are_not_those_of_the_upright_picture_are_told(tmp_path):
    path = alone(tmp_path, boxes={"a": [], "b": TRAIN["1_003"], "c": []})
    put(path.parent / "a.png", photo(1, (40, 32), orientation=6))
    put(path.parent / "c.png", photo(1, (20, 16)))
    _, report = load(path, validation_share=None, test_share=None)
    assert told(report, "warning") == [
        (
            "boxes.json: image 100",
            "40 x 32 px, of a picture of 32 x 40 px, as before its EXIF orientation was applied",
        ),
        ("boxes.json: image 102", "40 x 32 px, of a picture of 20 x 16 px"),
    ]


def test_boxes_of_a_picture_before_exif_turned_it_stop_the_run(tmp_path):
    path = alone(tmp_path, boxes={"a": [("hat", 1, 1, 38, 10)], "b": TRAIN["1_003"]})
    put(path.parent / "a.png", photo(1, (WIDTH, HEIGHT), orientation=6))
    dataset, report = load(path, validation_share=None, test_share=None)
    [(where, found)] = told(check(dataset, report), "error")
    assert where == "train: a.png, box 0" and "EXIF" in found


def test_numbers_that_are_none_come_through_to_the_check(tmp_path):
    def edit(told_):
        told_["annotations"][0]["bbox"] = [0, 0, math.nan, 5]
        told_["annotations"][1]["bbox"] = [0, 0, None, 5]
        told_["annotations"][2]["bbox"] = [0, 0, 10**400, 5]

    dataset, report = load(alone(tmp_path, edit=edit), validation_share=None, test_share=None)
    assert sorted(found.split(": ")[1] for _, found in told(check(dataset, report), "error")) == [
        "infinite", "not a number", "not a number"
    ]  # fmt: skip


def test_corners_given_as_widths_are_refused_with_the_option_to_type(tmp_path):
    boxes = {f"p{n}": [("hat", 20, 16, 10, 8), ("bag", 25, 20, 10, 8)] for n in range(6)}

    def edit(told_):
        for one in told_["annotations"]:
            x, y, w, h = one["bbox"]
            one["bbox"] = [x, y, x + w, y + h]
            del one["area"]

    path = alone(tmp_path, boxes=boxes, edit=edit)
    dataset, report = load(path)
    with pytest.raises(InputError, match="--box_format xyxy"):
        check(dataset, report).raise_on_errors()
    dataset, report = load(path, box_format="xyxy", validation_share=None, test_share=None)
    assert table(dataset) == {"train": boxes}
    assert check(dataset, report, box_format="xyxy").of("error") == []


def test_pictures_that_no_json_lists_are_warned_of(root):
    put(root / "val2017" / "extra.png", photo())
    _, report = load(root)
    assert told(report, "warning") == [("shop", "1 file(s) that none lists, the first: val2017/extra.png")]


@pytest.mark.parametrize("content, words", [
    ("[1, 2]", "a list"), ('[{"image_id": 1, "score": 0.5}]', "of detections"), ('{"images": []}', "no list annot"),
    ("{", "Expecting"), ("", "Expecting"), ('{"images": {}, "annotations": [], "categories": []}', "no list images"),
    ("[" * 100_000, "recursion"),
])  # fmt: skip
def test_a_json_that_is_no_coco_is_refused_with_what_it_is(tmp_path, content, words):
    expect_error(put(tmp_path / "x.json", content), "a COCO json", words)


@pytest.mark.parametrize("categories, words", [
    ([], "none"), ([{"id": 1}], "{'id': 1}"), ([{"id": 1, "name": " "}], "name"), (["hat"], "hat"),
    ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "'b'"), ([{"id": True, "name": "a"}], "True"),
])  # fmt: skip
def test_categories_that_cannot_be_used_are_refused(tmp_path, categories, words):
    expect_error(alone(tmp_path, categories=categories), "categories", words)


def test_photos_that_are_not_there_are_one_message_with_the_places(tmp_path):
    put(tmp_path / "shop" / "annotations" / "instances_train.json", document(TRAIN))
    (tmp_path / "shop" / "images").mkdir()
    expect_error(tmp_path / "shop", "none of 10 there, as 1_000.png", "../images", str(tmp_path / "shop" / "images"))


def test_a_folder_of_photos_that_is_a_link_out_is_not_followed(tmp_path):
    photos(tmp_path / "elsewhere", TRAIN)
    put(tmp_path / "shop" / "annotations" / "instances_train.json", document(TRAIN))
    (tmp_path / "shop" / "images").symlink_to(tmp_path / "elsewhere")
    expect_error(tmp_path / "shop", "images is a link out of the folder")


def test_an_annotations_folder_that_is_almost_one_is_told(tmp_path):
    told_ = document(TRAIN)
    del told_["categories"]
    put(tmp_path / "shop" / "annotations" / "instances_train.json", told_)
    photos(tmp_path / "shop" / "images", TRAIN)
    expect_error(tmp_path / "shop", "a COCO json", "no categories")


def test_a_file_given_alone_is_the_whole_whatever_its_name(root):
    dataset, report = load(root / "annotations" / "instances_val2017.json", validation_share=None, test_share=None)
    assert table(dataset) == {"train": VAL} and report.findings == []


def test_other_classes_in_another_split_are_an_error(root):
    path = root / "annotations" / "instances_test2017.json"
    change(path, lambda told_: told_["categories"].append({"id": 99, "name": "tie"}))
    assert told(load(root)[1], "error")[0][1] == "only in one of train and test: tie"


def test_category_ids_that_differ_between_splits_are_matched_by_name(root):
    path = root / "annotations" / "instances_test2017.json"
    turned = {7: 1, 3: 2, 90: 3}

    def edit(told_):
        for category in told_["categories"]:
            category["id"] = turned[category["id"]]
        for one in told_["annotations"]:
            one["category_id"] = turned[one["category_id"]]

    change(path, edit)
    dataset, report = load(root)
    assert table(dataset) == SPLITS and not report.of("error")


def test_masks_are_not_kept_in_memory(tmp_path):
    boxes = truth(40)
    told_ = document(boxes)
    for one in told_["annotations"]:
        one["segmentation"] = [np.arange(5_000).tolist()]
    path = put(tmp_path / "boxes.json", told_)
    del told_
    tracemalloc.start()
    try:
        assert "segmentation" not in reader.load(path)["annotations"][0]
        now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now < 1_000_000 and most < os.path.getsize(path) * 3


def test_many_photos_are_read_in_seconds(tmp_path):
    """Of one picture under many names: links within the folder."""
    put(tmp_path / "images" / "photo.png", photo())
    names = {f"p{n}": [("hat", 1, 1, 5, 5)] * 15 for n in range(1000)}
    for name in names:
        os.link(tmp_path / "images" / "photo.png", tmp_path / "images" / f"{name}.png")
    path = put(tmp_path / "boxes.json", document(names))
    start = time.process_time()
    dataset, _ = data.load(path, COLUMNS, validation_share=None, test_share=None)
    assert len(dataset["train"]) == 1000 and time.process_time() - start < 4
