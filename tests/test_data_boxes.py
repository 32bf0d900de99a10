"""Boxes through `data.load`: one form, every class in every split, and what was done to bad ones said."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from detection import COLUMNS, HEIGHT, NAMES, WIDTH, check, expect_error, load, photo, told

from hf_fashion import boxed, data
from hf_fashion.errors import InputError
from hf_fashion.report import Report

WHOLE = {"validation_share": None, "test_share": None}
BOX = [2, 3, 10, 12]
PHOTOS = [*(photo(seed) for seed in range(59)), photo(59, (50, 40))]


def rows(bbox, category=None, names=NAMES, column="objects", first=0, **more):
    """Rows of boxes, a list of boxes a picture; other columns as `image_id=`, `owner=`, or `iscrowd=` of boxes."""
    category = category or [[0] * len(row) for row in bbox]
    text = any(isinstance(value, str) for row in category for value in row)
    kind = Value("string") if text else ClassLabel(names=names) if names else Value("int64")
    inner = {"bbox": List(List(Value("float64"))), "category": List(kind)}
    parts = {"bbox": bbox, "category": category}
    for key in more.keys() & {"area", "iscrowd"}:
        inner[key], parts[key] = List(Value("float64")), more.pop(key)
    objects = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    images = [{"bytes": PHOTOS[(first + row) % 60], "path": None} for row in range(len(bbox))]
    made = Dataset.from_dict({"image": images, column: objects}, features=Features({"image": Image(), column: inner}))
    for key, values in more.items():
        made = made.add_column(key, values)
    return made


def spread(count, seed=0):
    """Rows with one to three boxes; classes of which the last is rare."""
    random = np.random.default_rng(seed)
    kinds = [random.choice(3, size=1 + row % 3, p=[0.6, 0.3, 0.1]).tolist() for row in range(count)]
    return rows([[BOX] * len(row) for row in kinds], kinds)


def test_canonical_columns_and_nothing_else():
    made = rows([[BOX], []], [[1], []], image_id=[7, 8], width=[40, 40], mask=["x", "y"])
    dataset, report = load(made, **WHOLE)
    assert set(dataset["train"].features) == {"image", "image_id", "objects", "source_row"}
    assert dataset["train"].features["objects"] == {
        "bbox": List(List(Value("float32"), length=4)), "category": List(ClassLabel(names=NAMES)),
        "area": List(Value("float32")),
    }  # fmt: skip
    assert dataset["train"][0]["image_id"] == "7" and dataset["train"][0]["source_row"] == "train:0"
    assert dataset["train"][:]["objects"] == [
        {"bbox": [BOX], "category": [1], "area": [120]}, {"bbox": [], "category": [], "area": []}
    ]  # fmt: skip
    assert "columns that are not used: width, mask" in told(report, "note")[0][1]
    assert data.box_labels(dataset) == NAMES and boxed.class_counts(dataset["train"]).tolist() == [0, 1, 0]
    assert check(dataset, report).of("error") == []


def test_loading_again_what_was_loaded_changes_nothing(tmp_path):
    dataset, report = load(spread(40))
    dataset.save_to_disk(str(tmp_path / "saved"))
    again, _ = load(tmp_path / "saved")
    assert {s: part[:]["objects"] for s, part in again.items()} == {
        s: part[:]["objects"] for s, part in dataset.items()
    }
    assert again["test"]["image_id"][:] == dataset["test"]["image_id"][:]
    assert dataset["train"].features == again["train"].features


@pytest.mark.parametrize("form", boxed.FORMATS)
def test_every_format_comes_out_in_pixels(form):
    size = np.array([[WIDTH, HEIGHT]])
    raw = boxed.from_xywh(np.array([BOX], dtype=float), form, size).tolist()
    dataset, _ = load(rows([raw] * 3), box_format=form, **WHOLE)
    assert np.allclose(dataset["train"][2]["objects"]["bbox"], [BOX], atol=1e-4)


def test_text_becomes_classes_in_order_and_other_names_of_columns_are_taken():
    made = rows([[BOX, BOX]] * 3, [["hat", "bag"]] * 3, column="things").rename_column("image", "photo")
    dataset, _ = load(
        made,
        names={
            "image": "photo",
            "objects": "things",
        },
        **WHOLE,
    )
    assert data.box_labels(dataset) == ["bag", "hat"] and dataset["train"][0]["objects"]["category"] == [1, 0]
    expect_error(made, "column objects for the boxes (split train)", "photo, things", "type --objects_column things")
    expect_error(made.remove_columns("things"), "give a dataset with boxes: a COCO json")
    expect_error(made, "bbox", names={"objects": "photo"})


def test_a_column_called_objects_that_is_not_meant_gives_way():
    made = rows([[BOX]] * 3, column="things").add_column("objects", ["x"] * 3)
    dataset, _ = load(made, names={"objects": "things"}, **WHOLE)
    assert dataset["train"][0]["objects"]["bbox"] == [BOX]


@pytest.mark.parametrize("seed", range(4))
def test_missing_splits_are_cut_with_every_class_in_each(seed):
    dataset, report = load(spread(60, seed), seed=seed)
    assert {split: len(part) for split, part in dataset.items()} == {"train": 42, "validation": 9, "test": 9}
    for part in dataset.values():
        assert (boxed.class_counts(part) > 0).all() and set(part.features) == set(dataset["train"].features)
    again, _ = load(spread(60, seed), seed=seed)
    assert again["test"]["source_row"][:] == dataset["test"]["source_row"][:]
    assert load(spread(60, seed), seed=seed + 9)[0]["test"]["source_row"][:] != dataset["test"]["source_row"][:]
    assert report.cut == ["validation", "test"] and not report.of("warning")


def test_groups_are_not_cut_apart():
    made = spread(60).add_column("owner", [str(row // 3) for row in range(60)])
    dataset, _ = load(made, split_by="owner")
    groups = [set(part["owner"][:]) for part in dataset.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20 and "owner" in dataset["test"].features
    assert list(load(spread(20), lone_split="test")[0]) == ["test"]


def test_classes_that_a_split_lacks_are_told_once():
    parts = DatasetDict(train=rows([[BOX]] * 9, [[0]] * 5 + [[1]] * 4), test=rows([[BOX]] * 3, [[2]] * 3, first=30))
    dataset, report = load(parts, **WHOLE)
    wanted = [
        ("split train", "none of 1 of 3 classes: shoe"), ("split test", "none of 2 of 3 classes: bag, hat"),
    ]  # fmt: skip
    assert told(report, "warning") == wanted
    assert told(check(dataset, report), "warning") == wanted


def test_fingerprint_is_that_of_photos_and_boxes():
    def of(made, **options):
        return load(made, **options)[1].source["fingerprint"]

    base = of(rows([[BOX], [BOX]]))
    assert of(rows([[BOX], [BOX]]), lone_split="test") == base == of(rows([[BOX], [BOX]], image_id=[5, 6]))
    assert len({base, of(rows([[BOX], [[2, 3, 10, 11]]])), of(rows([[BOX], [BOX]], [[0], [1]])),
                of(rows([[BOX], [BOX]], names=["a", "b", "c"])), of(rows([[BOX, BOX], []])),
                of(rows([[BOX], [BOX]], area=[[1], [1]])), of(rows([[BOX], [BOX]], iscrowd=[[0], [1]])),
                of(rows([[BOX], [BOX]], first=59))}) == 8  # fmt: skip


BAD = [
    [BOX, [30, 5, 20, 10]], [[np.nan, 0, 5, 5], BOX], [[5, 5, 0, 5], [90, 5, 5, 5], [5, 5, -3, 5], [np.inf, 0, 1, 1]],
    [], [BOX] * 20,
]  # fmt: skip


def test_bad_boxes_stay_and_are_told_by_the_check():
    dataset, report = load(rows(BAD), **WHOLE)
    assert [len(row["bbox"]) for row in dataset["train"]["objects"][:]] == [2, 2, 4, 0, 20] and not report.findings
    found = " ".join(text for _, text in told(check(dataset, report), "error"))
    for words in ("partly outside", "not a number", "no area", "outside the picture", "negative", "infinite"):
        assert words in found


def test_bad_boxes_are_clipped_and_counted():
    dataset, report = load(rows(BAD), on_bad_box="clip", **WHOLE)
    assert dataset["train"][0]["objects"] == {"bbox": [BOX, [30, 5, 10, 10]], "category": [0, 0], "area": [120, 100]}
    assert [len(row["bbox"]) for row in dataset["train"]["objects"][:]] == [2, 2, 4, 0, 20]
    assert told(report, "warning") == [
        ("train: train:0, box 1", "1 of 28 boxes, in 1 pictures: partly outside the picture")
    ]
    with pytest.raises(InputError, match="no area"):
        check(dataset, report, on_bad_box="clip").raise_on_errors()


def test_bad_boxes_are_left_out_by_name():
    dataset, report = load(rows(BAD), on_bad_box="drop", **WHOLE)
    assert [len(row["bbox"]) for row in dataset["train"]["objects"][:]] == [2, 1, 0, 0, 20]
    assert {row["where"]: row["reason"] for row in report.left_out} == {
        "train: train:1, box 0": "not a number", "train: train:2, box 0": "no area",
        "train: train:2, box 1": "outside the picture", "train: train:2, box 2": "negative width or height",
        "train: train:2, box 3": "infinite",
    }  # fmt: skip
    assert check(dataset, report, on_bad_box="drop").of("error") == []


def test_boxes_of_another_form_are_not_mended_but_refused():
    corners = [[[20, 16, 30, 24], [25, 20, 39, 30]]] * 6
    dataset, report = load(rows(corners), on_bad_box="drop", **WHOLE)
    assert len(dataset["train"][0]["objects"]["bbox"]) == 2 and report.left_out == []
    assert "--box_format xyxy" in report.of("error")[0].fix
    assert len(check(dataset, report, on_bad_box="drop").of("error")) == 1  # said once
    dataset, report = load(rows(corners), on_bad_box="drop", box_format="xyxy", **WHOLE)
    assert dataset["train"][0]["objects"]["bbox"][0] == [20, 16, 10, 8] and not report.findings


@pytest.mark.parametrize("made, options, words", [
    (rows([[[1, 2, 3]]]), {}, "four numbers"), (rows([[BOX]]), {"box_format": "yolo"}, "relative_xyxy"),
    (rows([[BOX]] * 2, image_id=["a", "a"]), {}, "image_id"), (rows([[BOX]], [[3]], names=None), {}, "ids 3"),
    (rows([[BOX]], iscrowd=[[2]]), {}, "iscrowd"), (rows([[BOX]], [[0, 0]]), {}, "1 bbox, 2 category"),
    (rows([[BOX]]), {"on_bad_box": "mend"}, "stop, clip, drop"),
    (rows([[BOX]]), {"merge_labels": True}, "merge_labels"),
    (rows([[BOX]]), {"label_columns": ["a"]}, "label_columns"), (rows([[BOX]]), {"names": {"label": "a"}}, "label"),
])  # fmt: skip
def test_what_has_no_canonical_form_is_refused(made, options, words):
    expect_error(made, "expected", words, **options)


def test_boxes_and_labels_are_two_ways_to_read_one_dataset():
    made = rows([[BOX]] * 20).add_column("label", ["a", "b"] * 10)
    labelled, report = data.load(made, Features({"image": Image(), "label": Value("string")}))
    assert data.labels(labelled) == ["a", "b"] and report.carried == []
    alone, report = data.load(made.remove_columns("label"), Features({"image": Image()}))
    assert report.carried == ["objects"] and "objects" in alone["train"].features
    with pytest.raises(InputError, match="image and objects"):
        data.load(made, Features({"image": Image(), "boxes": Value("string")}))
    with pytest.raises(InputError, match="a ClassLabel"):
        data.box_labels(DatasetDict(train=rows([[BOX]], names=None)))


def test_converting_in_hand_is_what_loading_does():
    made = rows([[BOX, [30, 5, 20, 10]]] * 2, [["hat", "bag"]] * 2)
    report = Report({"source": "x"})
    converted = boxed.convert({"train": made}, report, on_bad_box="clip")["train"]
    loaded, _ = data.load(made, COLUMNS, on_bad_box="clip", **WHOLE)
    assert converted[:]["objects"] == loaded["train"][:]["objects"] and converted[0]["image_id"] == "0"
