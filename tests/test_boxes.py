"""Boxes of any form come out as x, y, width and height in pixels with classes by name, or are refused in words."""

from io import BytesIO

import numpy as np
import pytest
from bad_pictures import cases
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, LargeList, List, Value
from PIL import Image as PILImage

from hf_fashion import boxes, images
from hf_fashion.errors import InputError
from hf_fashion.objects import CATEGORY_KEYS
from hf_fashion.report import Report

WIDTH, HEIGHT = 100, 80
BOXES = [[[10, 20, 30, 40], [0, 0, 100, 80]], [], [[5.5, 6, 7, 8]]]
NAMES = ["bag", "hat"]


def rows(bbox=BOXES, category=((0, 1), (), (1,)), **more):
    """Rows of boxes as a dict of lists; `more` are other keys of the boxes."""
    objects = [
        {"bbox": bbox[row], "category": list(category[row])} | {key: values[row] for key, values in more.items()}
        for row in range(len(bbox))
    ]
    kind = Value("string") if any(isinstance(v, str) for row in category for v in row) else Value("int64")
    inner = {"bbox": List(List(Value("float64"))), "category": List(kind)}
    inner |= {key: List(Value("float64")) for key in more}
    return Dataset.from_dict({"objects": objects}, features=Features({"objects": inner}))


def sizes(dataset):
    return np.array([[WIDTH, HEIGHT]] * len(dataset))


def as_dicts(dataset, **names):
    """The same boxes as a list of dicts, with other names of the keys."""
    inner = dataset.features["objects"]
    listed = [
        [{names.get(key, key): values[box] for key, values in row.items()} for box in range(len(row["bbox"]))]
        for row in dataset[:]["objects"]
    ]
    kind = List({names.get(key, key): feature.feature for key, feature in inner.items()})
    return Dataset.from_dict({"objects": listed}, features=Features({"objects": kind}))


def expect(words, dataset, names=NAMES, **options):
    with pytest.raises(InputError) as caught:
        boxes.canonical(dataset, names, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_dict_of_lists_and_a_list_of_dicts_become_the_same():
    one = boxes.canonical(rows(), NAMES)
    assert one.features == boxes.canonical_features(NAMES)
    assert one[:]["objects"] == boxes.canonical(as_dicts(rows()), NAMES)[:]["objects"]
    assert one[0]["objects"] == {"bbox": BOXES[0], "category": [0, 1], "area": [1200.0, 8000.0]}
    assert one[1]["objects"] == {"bbox": [], "category": [], "area": []}


@pytest.mark.parametrize("key", CATEGORY_KEYS)
def test_the_category_may_be_called_otherwise(key):
    wanted = boxes.canonical(rows(), NAMES)[:]
    assert boxes.canonical(as_dicts(rows(), category=key, bbox="boxes"), NAMES)[:] == wanted


def test_areas_and_crowds_that_are_given_stay():
    made = boxes.canonical(rows(area=[[7, None], [], [3]], iscrowd=[[1, 0], [], [None]]), NAMES)
    assert made.features == boxes.canonical_features(NAMES, has_crowd=True)
    assert [row["area"] for row in made[:]["objects"]] == [[7, 8000], [], [3]]
    assert [row["iscrowd"] for row in made[:]["objects"]] == [[1, 0], [], [0]]
    lacking = boxes.canonical(rows(area=[[7, 8], [], []]), NAMES)  # a list that is empty says nothing
    assert lacking[2]["objects"]["area"] == [56]


@pytest.mark.parametrize("box_format", boxes.FORMATS)
def test_every_format_comes_out_in_pixels(box_format):
    made = np.array([[10.0, 20, 30, 40], [0, 0, 100, 80], [5.5, 6, 7, 8]])
    size = np.array([[WIDTH, HEIGHT]] * 3)
    known = {
        "xywh": [10, 20, 30, 40], "xyxy": [10, 20, 40, 60], "cxcywh": [25, 40, 30, 40],
        "relative_xywh": [0.1, 0.25, 0.3, 0.5], "relative_xyxy": [0.1, 0.25, 0.4, 0.75],
        "relative_cxcywh": [0.25, 0.5, 0.3, 0.5],
    }  # fmt: skip
    raw = boxes.from_xywh(made, box_format, size)
    assert np.allclose(raw[0], known[box_format])
    dataset = rows([raw[:2].tolist(), [], raw[2:].tolist()])
    found = boxes.canonical(dataset, NAMES, box_format=box_format, sizes=sizes(dataset))[:]["objects"]
    assert np.allclose([box for row in found for box in row["bbox"]], made, atol=1e-4)


def test_relative_boxes_need_the_sizes():
    expect(["sizes"], rows(), box_format="relative_xyxy")
    expect(["box_format", "relative_cxcywh"], rows(), box_format="yolo")
    dataset = rows([[[0.1, 0.1, 0.5, 0.5]], [], []], ((0,), (), ()))
    unknown = boxes.canonical(dataset, NAMES, box_format="relative_xywh", sizes=np.zeros((3, 2)))
    assert np.isnan(unknown[0]["objects"]["bbox"]).all()


def test_text_becomes_classes_in_order():
    dataset = rows(category=(("skirt", "bag"), (), ("skirt",)))
    report = Report({})
    names = boxes.class_names({"train": dataset, "test": rows(category=(("coat", "bag"), (), ("bag",)))}, report)
    assert names == ["bag", "coat", "skirt"] and report.findings == []
    assert [row["category"] for row in boxes.canonical(dataset, names)[:]["objects"]] == [[2, 0], [], [2]]


def test_names_of_a_class_label_are_kept_and_matched():
    kind = Features(
        {"objects": {"bbox": List(List(Value("float32"), length=4)), "category": List(ClassLabel(names=NAMES))}}
    )
    turned = Features({"objects": {**kind["objects"], "category": List(ClassLabel(names=NAMES[::-1]))}})
    parts = {"train": rows().cast(kind), "test": rows().cast(turned)}
    report = Report({})
    assert boxes.class_names(parts, report) == NAMES
    assert "another order" in report.findings[0].found
    assert boxes.canonical(parts["test"], NAMES)[0]["objects"]["category"] == [1, 0]


def test_numbers_become_classes_when_there_are_no_gaps():
    report = Report({})
    names = boxes.class_names({"train": rows()}, report)
    assert names == ["0", "1"] and "generic names" in report.of("warning")[0].found
    assert boxes.class_names({"train": rows()}, Report({}), ["bag", "hat", "belt"]) == ["bag", "hat", "belt"]
    assert boxes.canonical(rows(), NAMES)[2]["objects"]["category"] == [1]


@pytest.mark.parametrize("ids, told", [((1, 2, 1), "1, 2"), ((0, 2, 2), "0, 2"), ((-1, 0, 1), "-1, 0, 1")])
def test_ids_with_gaps_are_refused_with_the_ids_seen(ids, told):
    with pytest.raises(InputError) as caught:
        boxes.class_names({"train": rows(category=(ids[:2], (), ids[2:]))}, Report({}))
    assert f"ids {told}" in str(caught.value)


def test_names_in_one_split_and_numbers_in_another_are_refused():
    with pytest.raises(InputError, match="names in every split"):
        boxes.class_names({"train": rows(category=(("a", "b"), (), ("a",))), "test": rows()}, Report({}))


@pytest.mark.parametrize("category, told", [
    (((0, 2), (), (2,)), "2 (2 boxes)"), (((0, -1), (), (1,)), "-1 (1 boxes)"), (((0, None), (), (1,)), "nothing"),
    ((("bag", "Hat"), (), ("hat",)), "'Hat'"), ((("bag", " "), (), ("hat",)), "' '"),
])  # fmt: skip
def test_categories_that_are_no_class_are_refused_by_name(category, told):
    expect([told, "2 classes", "box"], rows(category=category))


def test_boxes_without_a_canonical_form_are_refused_with_their_place():
    expect(["four numbers", "row 2, box 0"], rows([*BOXES[:2], [[1, 2, 3]]]))
    expect(["four numbers", "row 0, box 1"], rows([[BOXES[0][0], None], *BOXES[1:]]))
    expect(["row 0", "2 bbox", "1 category"], rows(category=((0,), (), (1,))))
    expect(["0 or 1", "row 2"], rows(iscrowd=[[0, 1], [], [2]]))


NUMBERS, FOURS = List(Value("int64")), List(List(Value("int64")))


@pytest.mark.parametrize("kind, value", [
    (Value("string"), "[[1, 2, 3, 4]]"), (List(Value("float32")), [1.0, 2, 3, 4]),
    ({"bbox": List(List(Value("string"))), "category": NUMBERS}, {"bbox": [["1"] * 4], "category": [0]}),
    ({"bbox": FOURS}, {"bbox": [[1, 2, 3, 4]]}),
    ({"bbox": NUMBERS, "category": NUMBERS}, {"bbox": [1, 2, 3, 4], "category": [0] * 4}),
    ({"bbox": FOURS, "category": Value("int64")}, {"bbox": [[1, 2, 3, 4]], "category": 0}),
    ({"bbox": FOURS, "category": FOURS}, {"bbox": [[1] * 4], "category": [[0]]}),
])  # fmt: skip
def test_a_column_that_holds_no_boxes_is_refused(kind, value):
    expect(["expected"], Dataset.from_dict({"objects": [value]}, features=Features({"objects": kind})))


def test_nothing_in_a_row_is_no_box():
    dataset = Dataset.from_list([{"objects": None}, {"objects": {"bbox": [[1, 2, 3, 4]], "category": [0]}}])
    assert [len(row["bbox"]) for row in boxes.canonical(dataset, NAMES)[:]["objects"]] == [0, 1]
    empty = rows([[], []], ((), ()))
    assert [row["bbox"] for row in boxes.canonical(empty, NAMES)[:]["objects"]] == [[], []]
    assert len(boxes.canonical(rows([], ()), NAMES)) == 0
    assert boxes.class_names({"train": empty}, Report({}), NAMES) == NAMES


def test_large_lists_and_rows_out_of_order():
    kind = Features({"objects": {"bbox": LargeList(List(Value("float32"))), "category": LargeList(Value("float64"))}})
    dataset = rows().cast(kind)
    assert boxes.canonical(dataset, NAMES)[:] == boxes.canonical(rows(), NAMES)[:]
    made = boxes.canonical(dataset.select([2, 0]), NAMES)
    assert made[0]["objects"]["bbox"] == BOXES[2] and made[1]["objects"]["bbox"] == BOXES[0]


def test_image_ids_become_text():
    dataset = rows()
    assert boxes.canonical(dataset, NAMES)[:]["image_id"] == ["0", "1", "2"]
    assert boxes.canonical(dataset.add_column("source_row", ["a", "b", "c"]), NAMES)[:]["image_id"] == ["a", "b", "c"]
    for ids in ([7, 8, 9], [7.0, 8.0, 9.0], ["7", "8", "9"]):
        assert boxes.canonical(dataset.add_column("image_id", ids), NAMES)[:]["image_id"] == ["7", "8", "9"]
    expect(["1 more than once: 7"], dataset.add_column("image_id", [7, 8, 7]))
    expect(["1 missing"], dataset.add_column("image_id", ["7", None, "8"]))
    expect(["text or numbers"], dataset.add_column("image_id", [[7], [8], [9]]))


def test_other_columns_stay():
    made = boxes.canonical(rows().add_column("width", [1, 2, 3]), NAMES)
    assert made[:]["width"] == [1, 2, 3] and set(made.column_names) == {"width", "image_id", "objects"}


BAD = [[[90, 10, 20, 20], [10, 10, 20, 20]], [[np.nan, 0, 1, 1]], [[10, 10, 0, 5], [200, 0, 5, 5], [5, 5, 5, 5]]]


def test_a_box_of_which_a_trace_is_inside_is_outside():
    """Clipped to the picture it would be a box without an area, as 10,000 drawn ones showed."""
    sizes = np.array([[100.0, 80.0]])
    for bbox in ([50, 79.9999999, 10, 20], [-10, 5, 10.0000001, 9]):
        found = boxes.faults(np.array([bbox]), sizes)
        assert [name for name, mask in found.items() if mask.any()] == ["outside"]
    found = boxes.faults(np.array([[50, 40, 1e-4, 5.0], [95, 70, 20, 20]]), np.repeat(sizes, 2, axis=0))
    assert not found["outside"].any() and found["partly"].tolist() == [False, True]


def test_bad_boxes_are_clipped_and_left_out_when_told():
    dataset = boxes.canonical(rows(BAD, ((0, 1), (0,), (0, 0, 1)), area=[[400, 9], [1], [1, 1, 9]]), NAMES)
    size = sizes(dataset)
    assert boxes.mend(dataset, size, "stop") is dataset
    clipped = boxes.mend(dataset, size, "clip")[:]["objects"]
    assert clipped[0] == {"bbox": [[90, 10, 10, 20], [10, 10, 20, 20]], "category": [0, 1], "area": [200, 9]}
    assert len(clipped[1]["bbox"]) == 1 and len(clipped[2]["bbox"]) == 3
    dropped = boxes.mend(dataset, size, "drop")
    assert [row["bbox"] for row in dropped[:]["objects"]] == [[[90, 10, 10, 20], [10, 10, 20, 20]], [], [[5, 5, 5, 5]]]
    assert dropped[2]["objects"] == {"bbox": [[5, 5, 5, 5]], "category": [1], "area": [9]}
    assert dropped.features == dataset.features and boxes.mend(dropped, size, "drop") is dropped


def test_the_size_of_a_header_is_that_of_the_decoded_picture():
    seen = 0
    for case in cases():
        if case.wanted == "refused":
            continue
        assert boxes.upright_size(case.data) == images.decode(case.data).size, case.name
        seen += 1
    assert seen > 30
    assert boxes.upright_size(b"<html>") == (0, 0) == boxes.upright_size({"bytes": None, "path": None})


def test_sizes_are_those_of_the_upright_picture():
    exif = PILImage.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    PILImage.new("RGB", (40, 30)).save(buffer, "JPEG", exif=exif)
    pictures = [{"bytes": buffer.getvalue(), "path": None}, {"bytes": b"", "path": None}]
    dataset = Dataset.from_dict({"image": pictures}, features=Features({"image": Image()}))
    assert boxes.sizes_of(dataset).tolist() == [[30, 40], [0, 0]]


def test_a_dataset_goes_the_whole_way():
    parts = DatasetDict(train=rows(category=(("b", "a"), (), ("a",))), test=rows(category=(("a", "a"), (), ("b",))))
    names = boxes.class_names(parts, Report({}))
    made = DatasetDict({split: boxes.canonical(part, names) for split, part in parts.items()})
    assert made["train"].features == made["test"].features
    again = {split: boxes.canonical(part, boxes.class_names(made, Report({}))) for split, part in made.items()}
    assert {split: part[:] for split, part in again.items()} == {split: part[:] for split, part in made.items()}
