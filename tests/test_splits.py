"""Train, validation and test: how those of a source are told, and how missing ones are cut from train."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from loading import COLUMNS, expect_error, in_hand, load, picture, table, texts, tree

from hf_fashion import data


def test_cut_is_stratified_seeded_and_complete():
    rows = in_hand(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    dataset, report = load(rows)
    assert report.sizes == {"train": 70, "validation": 15, "test": 15}
    assert [data.class_counts(part).tolist() for part in dataset.values()] == [[42, 20, 8], [9, 5, 1], [9, 5, 1]]
    assert len({row for _, row, _ in table(dataset)}) == 100
    assert table(load(rows)[0]) == table(dataset) != table(load(rows, seed=1)[0])
    assert "cut from train's 100 rows" in texts(report, "note") and "seed 42" in texts(report, "note")
    assert load(rows, validation_share=0.3, test_share=0.1)[1].sizes == {"train": 60, "validation": 30, "test": 10}


def test_copies_of_a_file_stay_in_one_split(tmp_path):
    root = tree(tmp_path)
    for number in range(10):
        for copy in range(3):
            name = f"copy{copy}-{number}.png"
            shutil.copy(root / "dress" / f"{number}.png", root / ("hat" if copy else "dress") / name)
    dataset, report = load(root)
    splits_of = {}
    for split, row, label in table(dataset):
        if label == "dress" or "copy" in row:
            splits_of.setdefault(row[-5], set()).add(split)  # 3 of dress/copy0-3.png
    assert len(splits_of) == 10 and all(len(splits) == 1 for splits in splits_of.values())
    assert len(set.union(*splits_of.values())) > 1
    assert "30 copies of pictures" in texts(report, "note") and sum(report.sizes.values()) == 50
    embedded = Dataset.from_dict(
        {"image": [{"bytes": picture(number // 2), "path": None} for number in range(40)], "label": ["a", "b"] * 20},
        features=COLUMNS,
    )
    rows = {int(row.split(":")[1]) for split, row, _ in table(load(embedded)[0]) if split == "test"}
    assert rows and all(number ^ 1 in rows for number in rows)


def test_small_classes():
    dataset, report = load(in_hand(["a"] * 20 + ["b"] * 3 + ["c"] * 2 + ["d"]))
    counts = {split: data.class_counts(part).tolist() for split, part in dataset.items()}
    assert [counts[split][1] for split in counts] == [1, 1, 1]
    assert [counts[split][2] for split in counts] == [1, 0, 1]
    assert [counts[split][3] for split in counts] == [1, 0, 0]
    assert "split validation label none of: c, d" in texts(report, "warning")
    assert "one photo only of: b, c, d" in texts(report, "warning")
    assert not report.of("error")


def test_too_few_rows_to_cut():
    _, report = load(in_hand(["a", "b"]))
    assert "split validation label 0 of 2" in texts(report, "error")


def test_missing_test_is_cut_and_validation_stays():
    train, validation = in_hand(["a", "b"] * 20), in_hand(["a", "b"] * 3)
    dataset, report = load(DatasetDict(train=train, dev=validation))
    assert report.sizes == {"train": 34, "validation": 6, "test": 6}
    assert {row for split, row, _ in table(dataset) if split == "validation"} == {f"dev:{n}" for n in range(6)}


@pytest.mark.parametrize("groups", [8, 40, 200])
def test_groups_stay_whole(groups):
    rng = np.random.default_rng(0)
    group = rng.integers(0, groups, 400)
    rows = in_hand([str(text) for text in rng.choice(["a", "b", "c"], 400, p=[0.6, 0.3, 0.1])], item=group.astype(str))
    dataset, report = load(rows, split_by="item")
    parts = [set(part["item"]) for part in dataset.values()]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert abs(report.sizes["test"] - 60) < 30 and abs(report.sizes["validation"] - 60) < 30
    assert sum(report.sizes.values()) == 400 and list(dataset["test"].features) == [
        "image",
        "label",
        "source_row",
        "item",
    ]
    assert "groups of item kept whole" in texts(report, "note")
    assert table(load(rows, split_by="item")[0]) == table(dataset)


def test_groups_that_cannot_be_cut():
    rows = in_hand(["a", "b"] * 10, item=["x", "y"] * 10)
    expect_error(rows, "at least 3 groups", "2 group", split_by="item")
    expect_error(rows, "column nothing", "item", split_by="nothing")
    large = in_hand(["a", "b"] * 10, item=["x"] * 16 + ["y", "y", "z", "z"])
    assert load(large, split_by="item")[1].sizes["train"] == 16
    holes = in_hand(["a", "b"] * 10, item=["x", "y", "z", None] * 5)
    assert "5 row(s) without one" in texts(load(holes, split_by="item")[1], "error")


def test_groups_in_two_given_splits_are_a_leak():
    rows = in_hand(["a", "b"] * 3, item=["x", "y", "z"] * 2)
    _, report = load(DatasetDict(train=rows, validation=rows.select([0, 1]), test=rows.select([2])), split_by="item")
    assert "splits train and validation item 2 group(s) in both, the first: x" in texts(report, "error")


def test_names_of_splits():
    rows = in_hand(["a", "b"] * 3)
    assert list(load(DatasetDict(Train=rows, valid=rows, TEST=rows))[0]) == ["train", "validation", "test"]
    expect_error(DatasetDict(train=rows, val=rows, dev=rows), "val and dev mean the same")
    expect_error(DatasetDict(validation=rows, test=rows), "a train split")
    expect_error(DatasetDict(test=rows), "a train split")
    _, report = load(DatasetDict(train=rows, validation=rows, test=rows, extra=rows))
    assert "split extra  6 rows that are not used" in texts(report, "warning")
    assert "gallery" in texts(load(DatasetDict(gallery=in_hand(["a", "b"] * 10)))[1], "note")


def test_lone_test():
    rows = in_hand(["a", "b"] * 3)
    assert load(DatasetDict(train=rows, test=rows.select(range(4))), lone_split="test")[1].sizes == {"test": 4}
    assert load(DatasetDict(anything=rows), lone_split="test")[1].sizes == {"test": 6}
    expect_error(DatasetDict(train=rows, validation=rows), "a test split", lone_split="test")
    assert load(rows, lone_split="validation")[1].sizes == {"validation": 6}
    expect_error(DatasetDict(test=rows), "a validation split", lone_split="validation")
    expect_error(rows, "lone split", lone_split="x")


@pytest.mark.parametrize("shares", [(0, 0.1), (0.5, 0.5), (-0.1, 0.1), (0.1, 1.2)])
def test_impossible_shares(shares):
    expect_error(in_hand(["a"]), "shares", validation_share=shares[0], test_share=shares[1])


def test_files_of_one_size_that_may_not_be_read_are_told(tmp_path, monkeypatch):
    root = tree(tmp_path / "photos")
    shutil.copy(root / "hat" / "0.png", root / "hat" / "1.png")

    def refused(*_):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert load(root)[1].sizes == {"train": 14, "validation": 3, "test": 3}
