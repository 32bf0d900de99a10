"""The sample, the columns and labels that are read of a source, and the report of what was seen."""

import json
import shutil

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from loading import errors, expect_error, in_hand, load, texts, tree

from hf_fashion import data
from hf_fashion.errors import InputError
from hf_fashion.reading import SAMPLE
from hf_fashion.report import SHOWN, Report
from hf_fashion.samples import make_photos


def test_sample():
    dataset, report = load("sample")
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 260, "validation": 60, "test": 80}
    assert list(dataset) == ["train", "validation", "test"] and report.sizes["test"] == 80
    assert data.labels(dataset)[:3] == ["dress", "hat", "longsleeve"] and len(data.labels(dataset)) == 10
    assert dataset["test"].features == dataset["train"].features
    assert isinstance(dataset["train"].features["label"], ClassLabel)
    assert list(dataset["train"].features) == ["image", "label", "source_row"]
    assert report.source["license"] == "cc0-1.0" and report.source["kind"] == "sample"
    assert dataset["test"][3]["source_row"] == "test:3"
    assert not report.findings
    assert load("sample")[1].source["fingerprint"] == report.source["fingerprint"]
    for rows in dataset.values():
        assert (data.class_counts(rows) > 0).all()
    assert sum(path.stat().st_size for path in (SAMPLE / "photos").iterdir()) <= 6_000_000
    card = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for number, name in enumerate(data.labels(dataset)):
        row = " | ".join(str(data.class_counts(rows)[number]) for rows in dataset.values())
        assert f"| {name} | {row} |" in card


def test_sample_is_cut_without_near_duplicates(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b", "c"])})
    for split, size in (("train", 600), ("validation", 100), ("test", 200)):
        rows = {"image": [{"bytes": b"%d" % row, "path": None} for row in range(size)]}
        rows["label"] = [0, 0, 0, 1, 2] * (size // 5)
        Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / f"{split}.parquet"))
    pairs = [f"train,{row},validation,{row % 100}" for row in range(60)]
    (tmp_path / "near_duplicates.csv").write_text("\n".join(["split_a,row_a,split_b,row_b", *pairs]))
    tables = make_photos.cut(tmp_path, tmp_path / "out", seed=1)
    counts = {split: np.bincount(table["label"].to_numpy()).tolist() for split, table in tables.items()}
    assert counts == {"train": [156, 52, 52], "validation": [36, 12, 12], "test": [48, 16, 16]}
    chosen = {split: {int(row["bytes"]) for row in table["image"].to_pylist()} for split, table in tables.items()}
    assert not {row % 100 for row in chosen["train"] if row < 60} & chosen["validation"]
    assert Dataset.from_parquet(str(tmp_path / "out" / "test.parquet")).features == features


def test_columns_are_guessed_or_named():
    rows = in_hand(["a", "b"] * 10)
    for name in ("labels", "class", "category"):
        assert data.labels(load(rows.rename_column("label", name))[0]) == ["a", "b"]
    other = rows.rename_columns({"label": "kind", "image": "photo"})
    assert data.labels(load(other, names={"label": "kind"})[0]) == ["a", "b"]
    coded = other.cast_column("kind", ClassLabel(names=["b", "a"]))
    assert data.labels(load(coded)[0]) == ["b", "a"]  # the only ClassLabel
    expect_error(other, "column of labels", "photo, kind", "--label_column")
    expect_error(other, "kind", "type --label_column kind", names={"label": "knid"})
    expect_error(rows, "names of columns", names={"labels": "label"})
    expect_error(rows.remove_columns("image"), "column of pictures", "--image_column")


def test_named_label_wins_over_the_usual_one():
    rows = in_hand(["a", "b"] * 10, color=["red", "blue"] * 10)
    dataset, report = load(rows, names={"label": "color"})
    assert data.labels(dataset) == ["blue", "red"]
    assert "columns that are not used: label" in texts(report, "note")


def test_structures_and_fractions_are_no_label(tmp_path):
    rows = in_hand(["a", "b"] * 10).remove_columns("label")
    expect_error(rows.add_column("label", [{"x": "a"}] * 20), "text, numbers or a ClassLabel")
    expect_error(rows.add_column("label", [0.5] * 20), "classes", "0.5")


def test_numbers_become_their_text_and_generic_names_are_told():
    rows = in_hand(["a", "b"] * 10).remove_columns("label").add_column("label", [10, 9] * 10)
    dataset, report = load(rows)
    assert data.labels(dataset) == ["9", "10"]
    assert "generic names: 9, 10" in texts(report, "warning")
    coded = in_hand(["a", "b"] * 10).cast_column("label", ClassLabel(names=["a", "b"]))
    coded = coded.cast_column("label", ClassLabel(names=["LABEL_0", "LABEL_1"]))
    assert "LABEL_0" in texts(load(coded)[1], "warning")
    decimal = in_hand(["a"] * 3).remove_columns("label").add_column("label", [1.0, 2.0, None])
    dataset, report = load(decimal, lone_split="test")
    assert data.labels(dataset) == ["1", "2"] and errors(report) == [("train:2", "nothing")]


def test_label_text_is_kept_exactly():
    given = ["01", "1", "NA", "None", "null", " a", "=1+1", "Größe"]
    dataset, report = load(in_hand(given * 3), lone_split="test")
    assert sorted(data.labels(dataset)) == sorted(given) and not report.of("error")


def test_missing_labels_are_errors_by_row():
    dataset, report = load(in_hand(["a", "b", None, "", "  "] * 4), lone_split="test")
    assert len(report.of("error")) == 12 and report.of("error")[0].where == "train:2"
    assert report.sizes == {"test": 8}
    rows = in_hand(["a"] * 4).remove_columns("label")
    coded = rows.add_column("label", [0, -1, 1, None], feature=ClassLabel(names=["a", "b"]))
    dataset, report = load(coded, lone_split="test")
    assert errors(report) == [("train:1", "-1"), ("train:3", "nothing")] and report.sizes == {"test": 2}
    with pytest.raises(InputError, match="no row|2 errors"):
        load(in_hand([None, None]))


def test_class_names_of_splits():
    a, b = (
        in_hand(["x", "y"] * 5).cast_column("label", ClassLabel(names=names)) for names in (["x", "y"], ["y", "x"])
    )
    dataset, report = load(DatasetDict(train=a, validation=b, test=b))
    assert "another order" in texts(report, "note") and not report.of("error")
    assert data.labels(dataset) == ["x", "y"] and dataset["test"]["label"][:2] == [0, 1]
    more = in_hand(["x", "z"] * 5).cast_column("label", ClassLabel(names=["x", "z"]))
    dataset, report = load(DatasetDict(train=a, validation=a, test=more))
    assert data.labels(dataset) == ["x", "y", "z"]
    assert "only in one of train and test: y, z" in texts(report, "error") and "none of: z" in texts(report, "error")


def test_report_prints_all_that_fits():
    report = Report({"source": "x", "kind": "csv file", "license": "mit"}, sizes={"train": 3})
    assert "train 3" in str(report) and report.raise_on_errors() is report
    for number in range(SHOWN + 5):
        report.add("error", f"row {number}", "label", expected="a", found="b\n\x1b[31m", fix="mend")
    report.add("error", "row 0", "label", expected="a", found="b\n\x1b[31m", fix="mend")
    assert len(report.findings) == SHOWN + 5
    with pytest.raises(InputError, match="25 errors") as caught:
        report.raise_on_errors()
    text = str(caught.value)
    assert "and 5 more" in text and r"b\n\x1b[31m" in text and f"row {SHOWN - 1}" in text and "\x1b" not in text


def test_record_of_a_report_is_plain(tmp_path):
    _, report = load(in_hand(["a", "b", None] * 10))
    told = json.loads(json.dumps(report.to_dict()))
    assert set(told) == {
        *("source", "kind", "config", "revision", "license", "fingerprint", "pictures"),
        *("sizes", "cut", "left_out", "notes"),
    }
    assert any("cut from train's 20 rows" in note for note in told["notes"]) and told["sizes"] == report.sizes


def test_fingerprint_is_that_of_the_content():
    rows = in_hand(["a", "b"] * 10)
    _, report = load(rows)
    assert report.cut == ["validation", "test"] and report.to_dict()["cut"] == report.cut
    same = load(rows, lone_split="test", seed=7)[1]
    assert same.source["fingerprint"] == report.source["fingerprint"] and same.cut == []
    assert load(in_hand(["b", "a"] * 10))[1].source["fingerprint"] != report.source["fingerprint"]


def test_source_is_not_touched(tmp_path):
    root = tree(tmp_path / "photos", count=3)
    shutil.copytree(root, tmp_path / "copy")
    load(root)
    assert sorted(p.relative_to(root) for p in root.rglob("*")) == sorted(
        p.relative_to(tmp_path / "copy") for p in (tmp_path / "copy").rglob("*")
    )
