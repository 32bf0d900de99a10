"""Everything that is wrong with a dataset is told at once, before training; only what the user says is left out."""

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from hf_fashion import checks, data, images
from hf_fashion.checks import labels, pictures
from hf_fashion.errors import InputError
from hf_fashion.report import PICTURE, SHOWN, Report

COLUMNS = Features({"image": Image(), "label": Value("string")})
NAMES = ["dress", "hat"]


def picture(seed, size=(20, 20), format="PNG", **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = BytesIO()
    PILImage.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def split(labels, seed=0, names=NAMES, **replaced):
    """Rows with pictures of their own; `row3=...` replaces the picture of row 3."""
    encoded = [picture(seed + number) for number in range(len(labels))]
    for row, content in replaced.items():
        encoded[int(row.removeprefix("row"))] = content
    return Dataset.from_dict(
        {"image": [{"bytes": content, "path": None} for content in encoded], "label": labels},
        features=Features({"image": Image(), "label": ClassLabel(names=names)}),
    )


def splits(train=None, validation=None, test=None):
    return DatasetDict(
        train=train or split([0, 0, 1, 1], 0),
        validation=validation or split([0, 1], 100),
        test=test or split([0, 1], 200),
    )


def check(dataset, **options):
    return checks.check(dataset, Report({"source": "x"}), **options)


def findings(report, level):
    return [(finding.where, finding.found) for finding in report.of(level)]


def test_a_good_dataset_has_nothing_to_report():
    report = Report({"source": "x"})
    assert checks.check(splits(), report) is report
    assert report.findings == [] and report.sizes == {"train": 4, "validation": 2, "test": 2}
    assert report.raise_on_errors() is report


def test_the_sample_is_clean():
    dataset, report = data.load("sample", COLUMNS)
    assert checks.check(dataset, report).findings == []


def test_all_unreadable_pictures_are_named():
    dataset = splits(
        train=split([0, 0, 1, 1, 1], row1=b"", row3=picture(9)[:200]), test=split([0, 1], 200, row0=b"<html>")
    )
    report = check(dataset)
    assert [where for where, _ in findings(report, "error")] == ["train:1", "train:3", "test:0"]
    assert "empty" in findings(report, "error")[0][1] and "HTML" in findings(report, "error")[2][1]
    assert report.left_out == [] and report.sizes["train"] == 5
    with pytest.raises(InputError) as caught:
        report.raise_on_errors()
    assert all(row in str(caught.value) for row in ("train:1", "train:3", "test:0", "--on_bad_image drop"))


def test_drop_leaves_out_just_the_unreadable_rows():
    dataset = splits(train=split([0, 0, 1, 1, 1], row1=b"", row3=b"<html>"))
    report = check(dataset, on_bad_image="drop")
    assert report.of("error") == [] and report.raise_on_errors() is report
    assert [row["where"] for row in report.left_out] == ["train:1", "train:3"] and "empty" in report.left_out[0][
        "reason"
    ]
    kept = checks.drop(dataset, report)
    assert report.sizes == {"train": 3, "validation": 2, "test": 2} == {name: len(rows) for name, rows in kept.items()}
    assert kept["train"]["label"][:] == [0, 1, 1] and len(dataset["train"]) == 5
    assert check(kept).findings == [f for f in report.findings if "one photo" in f.found]
    assert checks.drop(kept, Report({})) == kept


def test_drop_leaves_out_no_other_row_of_the_same_name():
    """Two sources that were put together, each with its own `1.jpg`."""
    rows = split([0, 0, 1, 1, 1], row1=b"junk").add_column("source_row", ["1.jpg", "2.jpg", "1.jpg", "2.jpg", "2.jpg"])
    dataset = splits(train=rows)
    report = check(dataset, on_bad_image="drop")
    assert checks.drop(dataset, report)["train"]["label"][:] == [0, 1, 1, 1] and report.sizes["train"] == 4


def test_drop_counts_classes_after_dropping():
    dataset = splits(train=split([0, 0, 1], row2=b""))
    assert ("split train", "none of: hat") in findings(check(dataset, on_bad_image="drop"), "error")


def test_drop_covers_what_loading_could_not_read(tmp_path):
    for number, label in enumerate(["dress", "hat"] * 10):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "hat" / "text.png").write_text("text")
    (tmp_path / "hat" / "1.png").write_bytes(picture(1)[:300])  # its header is right: decoding shows it
    (tmp_path / "out.png").symlink_to("/dev/null")
    dataset, report = data.load(tmp_path, COLUMNS)
    checks.check(dataset, report, on_bad_image="drop")
    left_out = [row["where"] for row in report.left_out]
    assert left_out[0] == "hat/text.png" and left_out[1].endswith(": hat/1.png") and len(left_out) == 2
    assert [where for where, _ in findings(report, "error")] == ["out.png"]  # never settled by dropping pictures
    kept = checks.drop(dataset, report)
    assert sum(map(len, kept.values())) == 19 == sum(report.sizes.values())
    assert not any("hat/1.png" in rows["source_row"][:] for rows in kept.values())


def test_equal_pixels_in_two_splits_are_a_leak():
    leaked = picture(1)
    stored = PILImage.open(BytesIO(leaked))
    buffer = BytesIO()
    stored.convert("RGBA").save(buffer, "WEBP", lossless=True)  # other bytes, the same pixels
    report = check(splits(test=split([0, 1], 200, row1=buffer.getvalue())))
    assert findings(report, "error") == [("train:1 and test:1", "equal pixels: a leak")]


def test_equal_pixels_within_a_split():
    same = picture(7)
    report = check(splits(train=split([0, 0, 1, 1], row0=same, row1=same)))
    assert findings(report, "warning") == [("train:0 and train:1", "equal pixels")] and not report.of("error")
    report = check(splits(train=split([0, 0, 1, 1], row0=same, row3=same)))
    assert findings(report, "warning") == [("train:0 and train:3", "dress and hat")] and not report.of("error")


@pytest.mark.parametrize(("size", "told"), [((15, 40), 1), ((16, 16), 0), ((16, 320), 0), ((321, 16), 1), ((1, 1), 1)])
def test_shapes(size, told):
    report = check(splits(train=split([0, 0, 1, 1], row2=picture(5, size))))
    assert len(report.of("warning")) == told and not report.of("error")
    if told:
        assert (
            findings(report, "warning")[0][0] == "train:2" and f"{size[0]} x {size[1]} px" in report.findings[0].found
        )


def test_the_limits_of_shapes_are_settings():
    small = splits(train=split([0, 0, 1, 1], row2=picture(5, (19, 20))))
    assert check(small).findings == []
    report = check(small, limits=images.Limits(min_side=20, max_aspect=2))
    assert [where for where, _ in findings(report, "warning")] == ["train:2"]


def test_many_equal_pictures_are_one_finding():
    same = {f"row{row}": picture(70) for row in (0, 1, 2, 3, 4, 5)}
    report = check(splits(train=split([0, 0, 0, 0, 0, 0, 1, 1], **same), test=split([0, 1], 200, row1=picture(70))))
    assert findings(report, "error") == [("train:0, train:1, train:2, train:3 and 3 more", "equal pixels: a leak")]
    assert report.of("error")[0].rows == (*(("train", row) for row in range(6)), ("test", 1))
    assert findings(report, "warning")[0][1] == "dress and hat"  # the leaked one has another label


def test_classes_without_rows():
    names = [*NAMES, "bag", "shoe"]
    report = check(
        DatasetDict(
            train=split([0, 0, 1, 3], 0, names),
            validation=split([0, 1], 100, names),
            test=split([0, 2, 1], 200, names),
        )
    )
    assert findings(report, "error") == [("split train", "none of: bag")]
    assert ("split train", "one photo only of: hat, shoe") in findings(report, "warning")
    assert ("split validation", "none of: shoe") in findings(report, "warning")
    assert ("split test", "none of: shoe") in findings(report, "warning")


def test_one_class_only():
    rows = {"train": split([0, 0], names=["dress"]), "validation": split([0], 100, names=["dress"])}
    assert findings(check(DatasetDict(rows)), "error") == [("dataset", "one class only: dress")]
    report = check(DatasetDict(test=split([0, 0], names=["dress"])))
    assert not report.of("error") and findings(report, "warning") == [("dataset", "one class only: dress")]


def test_labels_that_are_nearly_unique():
    names = [f"photo {number}" for number in range(30)]
    report = check(DatasetDict(train=split(list(range(30)), names=names)))
    assert findings(report, "error") == [("dataset", "30 classes in 30 rows: is this the right column?")]
    few = DatasetDict(train=split([*range(9), 0], names=names[:9]))
    assert not check(few).of("error")


def test_spellings():
    names = ["Dress", "dress ", "hat", "te\u0301e", "t\u00e9e"]
    report = check(DatasetDict(train=split([0, 1, 2, 3, 4] * 2, names=names)))
    told = [found for _, found in findings(report, "warning")]
    assert told == ["2 classes: 'Dress', 'dress '", "2 classes: 'te\\u0301e', 't\\xe9e'"]


def test_a_slip_of_the_pen_is_told_beside_a_frequent_name():
    names = ["trousers", "trouser", "shirt", "skirt", "size 40", "size 41"]
    labels = [0] * 40 + [1, 3, 5] + [2] * 40 + [4] * 40
    report = check(DatasetDict(train=split(labels, names=names)))
    told = [found for _, found in findings(report, "warning") if "letter" in found]
    assert told == ["'trouser' (1) is one letter from 'trousers' (40)"]  # skirts are no shirts, and 41 is not 40
    alike = DatasetDict(train=split([0] * 40 + [1] * 30, names=names[:2]))
    assert not [found for _, found in findings(check(alike), "warning") if "letter" in found]


@pytest.mark.parametrize(("names", "told"), [(["hat", "dress"], "another order"), (["dress", "cap"], "cap, hat")])
def test_splits_that_number_their_classes_differently(names, told):
    report = check(DatasetDict(train=split([0, 0, 1, 1]), test=split([0, 1], 200, names=names)))
    [finding] = [finding for finding in report.of("error") if finding.where == "split test"]
    assert told in finding.found and "data.load" in finding.fix


def test_classes_of_few_photos_are_told_when_asked():
    dataset = DatasetDict(train=split([0] * 12 + [1] * 3))
    assert check(dataset).findings == []
    assert findings(check(dataset, thorough=True), "warning") == [("split train", "fewer of 1 of 2 classes: hat (3)")]


def test_pictures_without_labels_and_with_boxes():
    rows = split([0, 1, 1], row1=b"")
    alone = check(DatasetDict(train=rows.remove_columns("label")))
    assert [where for where, _ in findings(alone, "error")] == ["train:1"] and alone.sizes == {"train": 3}
    boxes = [{"bbox": [[2, 2, 8, 8]], "category": ["dress"]}] * 2 + [{"bbox": [[90, 2, 8, 8]], "category": ["hat"]}]
    report = check(DatasetDict(train=rows.remove_columns("label").add_column("objects", boxes)))
    outside = next(finding for finding in report.of("error") if "outside" in finding.found)
    assert outside.where == "train:2, box 0" and outside.rows == (("train", 2),)


def test_source_rows_name_the_rows():
    rows = split([0, 0, 1, 1], row1=b"").add_column("source_row", [f"dress/{number}.jpg" for number in range(4)])
    report = check(splits(train=rows), on_bad_image="drop")
    assert report.left_out == [{"where": "train: dress/1.jpg", "reason": "the file is empty (0 bytes)"}]
    assert len(checks.drop(splits(train=rows), report)["train"]) == 3
    finding = next(f for f in report.findings if f.expected == PICTURE)
    assert finding.level == "warning" and finding.fix == "left out"


def test_orientation_and_transparency_do_not_hide_a_leak():
    upright = PILImage.open(BytesIO(picture(3, (20, 30))))
    exif = PILImage.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    upright.transpose(PILImage.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    dataset = splits(
        train=split([0, 0, 1, 1], row3=picture(3, (20, 30))), validation=split([0, 1], 100, row0=buffer.getvalue())
    )
    assert findings(check(dataset), "error") == [("train:3 and validation:0", "equal pixels: a leak")]


def test_wrong_settings():
    with pytest.raises(InputError, match="stop or drop"):
        check(splits(), on_bad_image="ignore")
    with pytest.raises(InputError, match="ClassLabel"):
        check(DatasetDict(train=split([0, 1]).cast_column("label", Value("int64"))))


def test_a_transform_is_not_applied():
    dataset = splits(
        train=split([0, 0, 1, 1]).with_transform(lambda batch: {"pixel_values": [0] * len(batch["label"])})
    )
    assert check(dataset).findings == []


def test_bar_only_for_many(monkeypatch, capfd):
    check(splits())
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(pictures, "BAR_FROM", 8)
    check(splits())
    assert "checking pictures" in capfd.readouterr().err


def test_a_long_reason_is_printed_whole():
    reason = "a HEIC photo: convert it to JPEG (or install and register pillow-heif), as was said already elsewhere"
    report = Report({"source": "x"})
    report.add("error", "n" * 100, "image", expected=PICTURE, found=reason, fix="mend")
    table = str(report).splitlines()
    column, end = table[1].index("found"), table[1].index("to do")
    assert " ".join(line[column:end].strip() for line in table[2:]).startswith(reason)
    assert "".join(line[7:77].strip() for line in table[2:]).startswith("n" * 100) and "\u2026" not in str(report)
    assert max(map(len, table)) < 220


def test_the_table_says_where_the_rest_is():
    report = Report({"source": "my photos"})
    for number in range(SHOWN + 3):
        report.add("error", f"row {number}", "image", expected=PICTURE, found="gone", fix="mend")
    assert "... and 3 more: --output_dir findings lists all" in str(report)
    assert "... and 3 more: findings has all" in report.text("findings has all")
    with pytest.raises(InputError, match="check.* --dataset 'my photos' --output_dir findings lists all"):
        report.raise_on_errors()


def test_an_error_fills_what_was_found_and_says_each_thing_to_do_once():
    report = Report({"source": "x"})
    for where, fix in (("a", "mend it"), ("b", "mend it, or leave it out"), ("c", "mend it")):
        report.add("error", where, "image", expected="a", found="b", fix=fix)
    with pytest.raises(InputError) as caught:
        report.raise_on_errors()
    assert caught.value.fix == "mend it, or leave it out" and caught.value.found.startswith("3 errors\nlevel")


def test_what_to_do_about_photos_above_a_limit_names_the_setting():
    photos = splits(train=split([0, 0, 1, 1, 1], row0=picture(5, (90, 80)), row1=picture(6, (50, 40)), row4=b""))
    for name, limits in (("max_pixels", images.Limits(max_pixels=400)), ("max_bytes", images.Limits(max_bytes=2000))):
        report = check(photos, limits=limits)
        fixes = {finding.where: finding.fix for finding in report.of("error")}
        assert "--on_bad_image drop" in fixes["train:0"] and "allow" not in fixes["train:4"]
        value = int(fixes["train:0"].split(f"--{name} ")[1])
        assert fixes["train:1"] == fixes["train:0"] and len(str(value).rstrip("0")) <= 2
        report = check(photos, limits=images.Limits(**{name: value}))
        assert [finding.where for finding in report.of("error")] == ["train:4"]


def test_a_label_of_many_letters_takes_little_memory():
    """A whole text read as a label: all that is left of it without one letter was kept, 1 GB for 20,000 letters."""
    names = ["dress" * 2000, "hat"]
    tracemalloc.start()
    labels.tell_spellings({"train": np.array([1, 50])}, names, "label", Report({}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20
