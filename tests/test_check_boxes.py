"""Every box that is wrong is told by its picture and its place there; boxes of another form by the whole set."""

import time
from io import BytesIO

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, LargeList, List, Value
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from memory import within_memory
from PIL import Image as PILImage

from hf_fashion import boxes, images
from hf_fashion.checks.boxes import tell_boxes
from hf_fashion.errors import InputError
from hf_fashion.report import Report

WIDTH, HEIGHT = 100, 80
NAMES = ["bag", "hat", "belt"]
GOOD = [10, 20, 30, 40]


def split(rows, categories=None, names=NAMES, **more):
    """Rows of boxes: one list of boxes a picture. Other columns as `area=`, `iscrowd=` of boxes, or `image_id=`."""
    kind = ClassLabel(names=names) if names else Value("int64")
    inner = {"bbox": List(List(Value("float64"))), "category": List(kind)}
    objects = {"bbox": rows, "category": categories or [[0] * len(row) for row in rows]}
    for key in more.keys() & {"area", "iscrowd"}:
        inner[key], objects[key] = List(Value("float64")), more.pop(key)
    listed = [dict(zip(objects, row, strict=True)) for row in zip(*objects.values(), strict=True)]
    dataset = Dataset.from_dict({"objects": listed}, features=Features({"objects": inner}))
    for key, values in more.items():
        dataset = dataset.add_column(key, values)
    return dataset


def check(train, sizes=None, report=None, **options):
    parts = train if isinstance(train, dict) else {"train": train}
    sizes = sizes or {name: np.array([[WIDTH, HEIGHT]] * len(rows)) for name, rows in parts.items()}
    places = {name: [f"{name}:{row}" for row in range(len(rows))] for name, rows in parts.items()}
    report = report or Report({"source": "x"})
    tell_boxes(parts, sizes, places, report, **options)
    return report


def told(report, level="error"):
    return [(finding.where, finding.found) for finding in report.of(level)]


def many(count=200, seed=0):
    """Boxes of garments: anywhere, of any size."""
    random = np.random.default_rng(seed)
    side = random.uniform(0.05, 0.9, (count, 2)) * (WIDTH, HEIGHT)
    return np.concatenate([random.uniform(0, 1, (count, 2)) * ((WIDTH, HEIGHT) - side), side], axis=1)


def test_good_boxes_have_nothing_to_report():
    rows = split([[GOOD, [0, 0, WIDTH, HEIGHT]], [], [[5.5, 6, 7, 8]]], area=[[900, 1], [], [56]], image_id=[3, 1, 2])
    assert check(rows).findings == []


@pytest.mark.parametrize("box, words", [
    ([np.nan, 0, 5, 5], "not a number"), ([0, None, 5, 5], "not a number"), ([0, 0, np.inf, 5], "infinite"),
    ([0, 0, -5, 5], "negative"), ([0, 0, 0, 5], "no area"), ([100, 0, 5, 5], ": outside the picture"),
    ([-9, 0, 9, 5], ": outside the picture"), ([90, 20, 11, 5], "partly outside"), ([50, -1, 9, 9], "partly outside"),
    ([1, 2, 3], "another count"), (None, "another count"), ([0.1, 0.1, 0.5, 0.5], "0 to 1"),
])  # fmt: skip
def test_each_bad_box_is_told_with_its_picture_and_place(box, words):
    report = check(split([[GOOD], [GOOD, box], []]))
    [(where, found)] = told(report)
    assert where == "train:1, box 1" and words in found and report.findings[0].rows == (("train", 1),)
    with pytest.raises(InputError, match="train:1, box 1"):
        report.raise_on_errors()


def test_rounding_at_the_edge_is_no_fault():
    shares = np.array([[2 / 3, 2 / 3, 2 / 3, 2 / 3]]).round(6)
    rows = split([boxes.to_xywh(shares, "relative_cxcywh", np.array([[1333, 800]])).astype("float32").tolist()])
    assert sum(rows[0]["objects"]["bbox"][0][::2]) > 1333
    assert check(rows, {"train": np.array([[1333, 800]])}).findings == []


def test_of_thousands_there_is_one_line_with_the_count():
    report = check(split([[GOOD, [0, 0, 0, 5], [0, 0, -1, 5]]] * 1500))
    assert len(report.of("error")) == 2
    empty = next(finding for finding in report.findings if "no area" in finding.found)
    assert empty.found.startswith("1500 of 4500 boxes, in 1500 pictures") and "[0, 0, 0, 5]" in empty.found
    assert empty.where.startswith("train:0, box 1; train:1, box 1") and empty.where.endswith("and 1480 more")
    assert len(empty.rows) == 20


def test_clip_and_drop_settle_what_they_can():
    rows = [[GOOD, [90, 20, 30, 5]], [[0, 0, 0, 5]]]
    clipped = check(split(rows), on_bad_box="clip")
    assert told(clipped, "warning") == [
        ("train:0, box 1", "[90, 20, 30, 5] in 100 x 80 px: partly outside the picture")
    ]
    assert [where for where, _ in told(clipped)] == ["train:1, box 0"] and clipped.left_out == []
    dropped = check(split(rows), on_bad_box="drop")
    assert told(dropped) == [] and len(dropped.of("warning")) == 2
    assert dropped.left_out == [{"where": "train:1, box 0", "reason": "no area"}]
    made = boxes.mend(boxes.canonical(split(rows), NAMES), np.array([[WIDTH, HEIGHT]] * 2), "drop")
    assert check(made).findings == []


def test_clipping_one_side_leaves_a_tiny_other_side_as_it_is():
    rows = boxes.canonical(split([[[39.3, 0.7, 1e-17, HEIGHT]]]), NAMES)
    clipped = boxes.mend(rows, np.array([[WIDTH, HEIGHT]]), "clip")
    assert clipped[0]["objects"]["bbox"][0][2] == rows[0]["objects"]["bbox"][0][2] > 0
    assert check(clipped).of("error") == []


@pytest.mark.parametrize("box_format", boxes.FORMATS[1:])
def test_boxes_of_another_form_are_told_over_the_set(box_format):
    bbox, sizes = many(), np.array([[WIDTH, HEIGHT]] * 200)
    rows = [[box] for box in boxes.from_xywh(bbox, box_format, sizes).tolist()]
    report = check({"train": split([[box] for box in bbox.tolist()]), "test": split(rows)})
    [finding] = report.findings
    assert finding.where == "split test" and f"200 as {box_format}" in finding.found
    assert f"--box_format {box_format}" in finding.fix
    made = boxes.canonical(split(rows), NAMES, box_format=box_format, sizes=sizes)
    assert check(made, box_format=box_format).findings == []


@pytest.mark.parametrize("typed", boxes.FORMATS[:3])
@pytest.mark.parametrize("true", boxes.FORMATS)
def test_a_format_that_was_typed_by_mistake_is_told(typed, true):
    if typed == true:
        return
    sizes = np.array([[WIDTH, HEIGHT]] * 200)
    rows = split([[box] for box in boxes.from_xywh(many(), true, sizes).tolist()])
    report = check(boxes.canonical(rows, NAMES, box_format=typed, sizes=sizes), box_format=typed)
    told_of = [finding for finding in report.of("warning") if "make sense" in finding.found]
    assert len(told_of) == 1 and f"--box_format {true}" in told_of[0].fix


@pytest.mark.parametrize("seed", range(5))
def test_boxes_drawn_over_the_edge_are_not_taken_for_another_form(seed):
    bbox = many(seed=seed)
    bbox[::4, 2:] = (WIDTH, HEIGHT) - bbox[::4, :2] + 2
    report = check(split([[box] for box in bbox.tolist()]))
    assert ["partly outside" in found for _, found in told(report)] == [True]


@pytest.mark.parametrize("slips, beyond", [(20, 1), (2, 8)])
def test_a_few_slips_are_not_taken_for_another_form(slips, beyond):
    """Small boxes in the middle make sense as centres, too: only many that are far outside would speak for that."""
    bbox = np.tile([45.0, 40, 20, 10], (100, 1)) + np.arange(100)[:, None] * [0.1, 0.1, 0, 0]
    bbox[:slips, 0] = WIDTH - 20 + beyond
    report = check(split([[box] for box in bbox.tolist()]))
    assert all("partly outside" in found for _, found in told(report)) and report.of("error")


def test_boxes_of_a_picture_before_exif_turned_it():
    exif = PILImage.Exif()
    exif[0x0112] = 6
    encoded = []
    for options in ({"exif": exif}, {}):
        buffer = BytesIO()
        PILImage.new("RGB", (80, 60)).save(buffer, "JPEG", **options)
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    rows = split([[[5, 5, 70, 50], [1, 1, 9, 9]], [[5, 5, 70, 50]], [[62, 5, 30, 5]]])
    pictures = Dataset.from_dict({"image": [*encoded, encoded[1]]}, features=Features({"image": Image()}))
    rows = pictures.add_column("objects", rows[:]["objects"], feature=rows.features["objects"])
    sizes = np.array([images.decode(picture).size for picture in [*encoded, encoded[1]]])
    assert sizes.tolist() == [[60, 80], [80, 60], [80, 60]] == boxes.sizes_of(rows).tolist()
    found = dict(told(check(rows, {"train": sizes})))
    assert list(found) == ["train:2, box 0", "train:0, box 0"]
    assert "EXIF" in found["train:0, box 0"] and "EXIF" not in found["train:2, box 0"]


@pytest.mark.parametrize("names, ids, words", [
    (NAMES, [0, 3], "3 (1 boxes); ids seen: 0, 3"), (NAMES, [0, 9], "9 (1 boxes)"), (NAMES, [-1, 0], "-1 (1 boxes)"),
    (NAMES, [None, 0], "nothing (1 boxes)"), (None, [0, 2], "ids 0, 2"), (None, [1, 2], "ids 1, 2"),
    (None, [-3, 0], "-3 (1 boxes)"), (None, [None, 0], "nothing"),
])  # fmt: skip
def test_categories_that_are_no_class_are_told_with_the_ids_seen(names, ids, words):
    whole = split([[GOOD, [1, 1, 9, 9]]], [ids], names=None)
    if names:  # a ClassLabel out of range cannot be made by hand, but a file may hold it
        kind = Features({"objects": {"bbox": List(List(Value("float64"))), "category": List(ClassLabel(names=names))}})
        whole = Dataset(whole.data, info=whole.info.copy()).with_format("arrow")
        whole.info.features = kind
    [(_, found)] = told(check(whole))
    assert words in found


def test_text_categories_are_fine_and_blank_ones_are_not():
    kind = {"bbox": List(List(Value("float64"))), "categories": List(Value("string"))}
    row = {"bbox": [GOOD, [1, 1, 9, 9]], "categories": ["hat", " "]}
    report = check(Dataset.from_dict({"objects": [row]}, features=Features({"objects": kind})))
    assert told(report) == [("train:0, box 1", "' ' (1 boxes)")]


def test_ids_that_occur_twice_or_are_missing():
    rows = [[GOOD]] * 4
    report = check(
        {"train": split(rows, image_id=["a", "b", "a", "b"]), "test": split(rows[:2], image_id=["a", None])}
    )
    assert told(report) == [
        ("train:0 and train:2; train:1 and train:3", "2 again: a, b"), ("test:1", "none in 1 rows")
    ]  # fmt: skip
    assert report.findings[0].rows == (("train", 0), ("train", 2), ("train", 1), ("train", 3))


def test_odd_boxes_are_warnings():
    rows = [[GOOD, GOOD], [[10, 10, 0.5, 9]], [GOOD], [GOOD], [GOOD]]
    area = [[9, 9], [1], [5000], [-1], [0.2]]
    report = check(split(rows, area=area, width=[100] * 4 + [50], height=[80] * 5))
    assert told(report) == []
    assert [(where, found.rsplit(": ")[-1]) for where, found in told(report, "warning")] == [
        ("train:0, box 1", "the same box and category again"), ("train:4, box 0", "another size"),
        ("train:1, box 0", "less than 1 px wide or high"), ("train:2, box 0", "another area"),
        ("train:3, box 0", "another area"), ("train:4, box 0", "another area"),
    ]  # fmt: skip
    assert check(split([[GOOD, GOOD]], [[0, 1]])).findings == []


def test_crowds_are_counted_and_other_values_told():
    report = check(split([[GOOD, [1, 1, 9, 9]]], iscrowd=[[1, 0]]))
    assert told(report, "note") == [("split train", "1 of 2 boxes are iscrowd")] and len(report.findings) == 1
    assert told(check(split([[GOOD]], iscrowd=[[2]]))) == [("train:0, box 0", "iscrowd 2: another value")]


def test_lists_of_different_lengths_and_columns_without_boxes():
    assert told(check(split([[GOOD], [GOOD]], [[0], [0, 1]]))) == [
        ("train:1", "1 bbox, 2 category: lists of different lengths")
    ]
    other = Dataset.from_dict({"objects": ["[1, 2, 3, 4]"]})
    report = check({"train": other, "test": split([[[0, 0, 0, 1]]])})
    assert [where for where, _ in told(report)] == ["split train", "test:0, box 0"]


def classes(counts, names=None):
    """Rows with so many boxes of each class: name -> count."""
    told = [name for name, count in counts.items() for _ in range(count)]
    numbers = [[names.index(name)] for name in told] if names else [[name] for name in told]
    kind = ClassLabel(names=names) if names else Value("string")
    rows = [{"bbox": [box], "category": code} for box, code in zip(many(len(told)).tolist(), numbers, strict=True)]
    objects = {"bbox": List(List(Value("float64"))), "category": List(kind)}
    return Dataset.from_dict({"objects": rows}, features=Features({"objects": objects}))


@pytest.mark.parametrize("names", [None, ["Bag", "bag", "trousers", "trousres", "hat"]])
def test_classes_of_boxes_that_are_spelt_in_several_ways(names):
    rows = classes({"Bag": 12, "bag": 30, "trousers": 60, "trousres": 2, "hat": 20}, names)
    report = check(rows)
    assert not report.of("error") and {finding.column for finding in report.findings} == {"objects"}
    assert [found for _, found in told(report, "warning")] == [
        "2 classes: 'Bag', 'bag'", "'trousres' (2) is one letter from 'trousers' (60)"
    ]  # fmt: skip


@pytest.mark.parametrize("names", [None, ["bag", "hat", "belt"]])
def test_classes_of_boxes_that_a_split_lacks(names):
    parts = {"train": classes({"bag": 20, "hat": 12}, names), "test": classes({"bag": 5, "belt": 3}, names)}
    found = told(check(parts), "warning")
    assert found == [
        ("split train", "none of 1 of 3 classes: belt"), ("split test", "none of 1 of 3 classes: hat"),
    ]  # fmt: skip
    assert told(check({"test": parts["test"]}), "warning") == []


def test_classes_of_few_boxes_are_told_by_a_thorough_check():
    rows = classes({"bag": 20, "hat": 3, "scarf": 9}, ["bag", "hat", "scarf", "tie"])
    assert check(rows).findings == []
    assert told(check(rows, thorough=True), "warning") == [
        ("split train", "fewer of 2 of 3 classes: hat (3), scarf (9)"),
        ("dataset", "none of 1 of 4 classes: tie"),
    ]


def test_pictures_without_boxes_are_fine_and_a_dataset_without_any_is_not():
    assert check({"train": split([[GOOD], []]), "test": split([[], []])}).findings == []
    assert told(check(split([[], []]))) == [("dataset", "none in any picture")]


def test_boxes_of_a_picture_that_cannot_be_read_are_not_judged():
    rows = split([[[500, 0, 5, 5]], [GOOD]])
    assert check(rows, {"train": np.array([[0, 0], [WIDTH, HEIGHT]])}).findings == []


@pytest.mark.parametrize("setting", ["on_bad_box", "box_format"])
def test_settings_that_are_none_are_refused(setting):
    with pytest.raises(InputError, match=setting):
        check(split([[GOOD]]), **{setting: "mend"})


NUMBERS = st.one_of(
    st.sampled_from([0, 0.0, -0.0, 1, 100, 80, 1e308, -1e308, 1e-320, np.nan, np.inf, -np.inf, None]),
    st.floats(), st.floats(-10, 110), st.floats(0, 1), st.none(),
)  # fmt: skip
BBOX = st.one_of(st.none(), st.lists(NUMBERS, min_size=4, max_size=4), st.lists(NUMBERS, max_size=5))
CATEGORIES = (
    (Value("int64"), st.one_of(st.none(), st.integers(-2, 4), st.integers(-(2**63), 2**63 - 1))),
    (Value("uint64"), st.integers(0, 2**63 - 1)), (Value("float32"), st.one_of(st.none(), st.floats(width=32))),
    (Value("string"), st.one_of(st.none(), st.text(max_size=3), st.sampled_from(["bag", "Bag", "", "0", "-1"]))),
    (Value("bool"), st.booleans()), (Value("null"), st.none()), (ClassLabel(names=NAMES), st.integers(0, 2)),
    (List(Value("int64")), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2)),
    (Value("binary"), st.binary(max_size=2)),
)  # fmt: skip
EXTRAS = ((Value("float64"), NUMBERS), (Value("string"), st.text(max_size=2)), (Value("bool"), st.booleans()))


TIDY = (
    (Value("int64"), st.integers(0, 1)), (Value("string"), st.sampled_from(["bag", "hat"])),
    (ClassLabel(names=NAMES), st.integers(0, 2)), (Value("float64"), st.sampled_from([0.0, 1.0])),
)  # fmt: skip


@st.composite
def datasets(draw):
    """A column `objects`, and the sizes of the pictures: of any form, or, as often, in order but for the numbers."""
    tidy, count = draw(st.booleans()), draw(st.integers(0, 4))
    four = st.lists(NUMBERS, min_size=4, max_size=4)
    keys = {draw(st.sampled_from(["bbox", "boxes"])): (List(Value("float64")), four if tidy else BBOX)}
    keys[draw(st.sampled_from(["category", "categories", "label"]))] = draw(
        st.sampled_from(TIDY if tidy else CATEGORIES)
    )
    for key in draw(st.sets(st.sampled_from(["area", "iscrowd", "id", "bbox"]))) - keys.keys():
        keys[key] = EXTRAS[2 * (key == "iscrowd")] if tidy else draw(st.sampled_from(EXTRAS))
    box = st.fixed_dictionaries({key: value for key, (_, value) in keys.items()})
    outer = draw(st.sampled_from([List, LargeList]))
    if draw(st.booleans()):
        feature = outer({key: kind for key, (kind, _) in keys.items()})
        row = st.lists(box if tidy else st.one_of(st.none(), box), max_size=4)
    else:
        feature = {key: outer(kind) for key, (kind, _) in keys.items()}
        even = st.lists(box, max_size=4).map(lambda row: {key: [one[key] for one in row] for key in keys})
        lists = {key: st.one_of(st.none(), st.lists(value, max_size=2)) for key, (_, value) in keys.items()}
        row = even if tidy else st.one_of(even, st.fixed_dictionaries(lists))
    columns = {"objects": draw(st.lists(st.one_of(st.none(), row), min_size=count, max_size=count))}
    features = {"objects": feature}
    if not tidy and draw(st.booleans()):
        id_kind, ids = draw(st.sampled_from([*CATEGORIES[:6], CATEGORIES[7]]))
        columns["image_id"] = draw(st.lists(ids, min_size=count, max_size=count))
        features["image_id"] = id_kind
    sizes = draw(st.lists(st.sampled_from([(100, 80), (0, 0), (1, 1), (5000, 5000)]), min_size=count, max_size=count))
    return Dataset.from_dict(columns, features=Features(features)), np.array(sizes, dtype=int).reshape(-1, 2)


def try_any(made, box_format, on_bad_box):
    """The whole way of a dataset: InputError, or findings in words; never anything else, and never slow."""
    dataset, sizes = made
    start = time.process_time()
    report = check(dataset, {"train": sizes}, box_format=box_format, on_bad_box=on_bad_box, thorough=True)
    assert all(finding.found and finding.where for finding in report.findings)
    try:
        names = boxes.class_names({"train": dataset}, Report({}))
        whole = boxes.canonical(dataset, names, box_format=box_format or "xywh", sizes=sizes)
    except InputError as error:
        assert error.found
        assert len(dataset) == 0 or report.of("error"), f"refused, but not told: {error}"
    else:
        assert whole.features["objects"]["bbox"].feature.length == 4 and len(whole) == len(dataset)
        again = check(boxes.mend(whole, sizes, "drop"), {"train": sizes})
        wrong = [f for f in again.of("error") if f.where.startswith("train") and "0 to 1" not in f.found]
        assert not wrong, wrong
    assert time.process_time() - start < 2


fuzz = given(datasets(), st.sampled_from([None, *boxes.FORMATS]), st.sampled_from(["stop", "clip", "drop"]))
quick = {"phases": [Phase.generate], "deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=50, **quick)
@fuzz
def test_any_boxes(made, box_format, on_bad_box):
    try_any(made, box_format, on_bad_box)


@pytest.mark.slow
def test_any_boxes_ten_thousand_times_take_at_most_500_mb_each():
    with within_memory():
        settings(max_examples=10_000, **quick)(fuzz(try_any))()
