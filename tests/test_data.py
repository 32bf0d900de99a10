"""Every way in gives the same three columns; what is wrong with a source is told by file and row, all at once."""

import json
import os
import shutil
import unicodedata
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, IterableDatasetDict, Value
from PIL import Image as PILImage

from hf_fashion import data
from hf_fashion.errors import InputError
from hf_fashion.reading import SAMPLE
from hf_fashion.report import SHOWN, Report
from hf_fashion.samples import make_photos

COLUMNS = Features({"image": Image(), "label": Value("string")})


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Keeps what `load_dataset` writes out of the user's cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def picture(seed=0, format="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = BytesIO()
    PILImage.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def put(path, seed=0, format="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(seed, format))
    return path


def tree(root, classes=("dress", "hat"), count=10):
    for label in classes:
        for number in range(count):
            put(root / label / f"{number}.png", hash((label, number)) % 2**32)
    return root


def in_hand(texts, **columns):
    return Dataset.from_dict(
        {"image": [{"bytes": picture(number), "path": None} for number in range(len(texts))], "label": texts}
        | columns,
        features=Features(
            {"image": Image(), "label": Value("string")} | {name: Value("string") for name in columns},
        ),
    )


def load(source, **options):
    return data.load(source, COLUMNS, **options)


def table(dataset):
    """All rows of a dataset as (split, source_row, label text)."""
    names = data.labels(dataset)
    return sorted(
        (split, row["source_row"], names[row["label"]])
        for split, rows in dataset.items()
        for row in rows.remove_columns("image")
    )


def errors(report):
    return [(finding.where, finding.found) for finding in report.of("error")]


def texts(report, level):
    return " | ".join(f"{finding.where} {finding.column} {finding.found}" for finding in report.of(level))


def expect_error(source, *words, **options):
    with pytest.raises(InputError) as caught:
        load(source, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


# -- the sample, files, saved datasets, datasets in hand


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


@pytest.mark.parametrize("name", ["a[1]*.parquet", "a b#%?.parquet"])
def test_parquet_file(tmp_path, name):
    in_hand(["b", "a"] * 20).to_parquet(str(tmp_path / "x"))
    (tmp_path / "x").rename(tmp_path / name)
    dataset, report = load(tmp_path / name)
    assert report.sizes == {"train": 28, "validation": 6, "test": 6}
    assert data.labels(dataset) == ["a", "b"] and report.source["kind"] == "parquet file"
    dataset, report = load(tmp_path / name, lone_split="test")
    assert report.sizes == {"test": 40}


def test_folder_of_parquet_with_configs(tmp_path):
    for name, size in (("one", 8), ("two", 12)):
        in_hand(["a", "b"] * size).to_parquet(str(tmp_path / f"{name}.parquet"))
    configs = "\n".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.parquet" for name in ("one", "two")
    )
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\nconfigs:\n{configs}\n---\n")
    dataset, report = load(tmp_path, config="two")
    assert sum(report.sizes.values()) == 24 and report.source["license"] == "mit" and report.source["config"] == "two"
    expect_error(tmp_path, "one", config="three")
    expect_error(tmp_path, "Config name is missing", "'one', 'two'")


def test_folder_of_parquet_by_split_names(tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "validation", "test"):
        in_hand(["a", "b"] * 3).to_parquet(str(tmp_path / "data" / f"{split}-00000-of-00001.parquet"))
    assert load(tmp_path)[1].sizes == {"train": 6, "validation": 6, "test": 6}


def test_parquet_of_raw_bytes(tmp_path):
    rows = in_hand(["a", "b"] * 10).cast_column("image", Image(decode=False))
    raw = Dataset.from_dict({"image": [row["bytes"] for row in rows["image"]], "label": rows["label"]})
    raw.to_parquet(str(tmp_path / "raw.parquet"))
    dataset, _ = load(tmp_path / "raw.parquet")
    assert isinstance(dataset["train"].features["image"], Image) and dataset["train"][0]["image"].size == (16, 16)


def test_saved_datasets(tmp_path):
    rows = in_hand(["a", "b"] * 10)
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict(train=rows, val=rows.select(range(4)), test=rows.select(range(2))).save_to_disk(str(tmp_path / "all"))
    assert load(tmp_path / "one")[1].sizes == {"train": 14, "validation": 3, "test": 3}
    dataset, report = load(tmp_path / "all")
    assert report.sizes == {"train": 20, "validation": 4, "test": 2} and report.source["kind"] == "saved dataset"
    assert dataset["validation"][1]["source_row"] == "val:1"


def test_load_takes_what_it_gave():
    dataset, report = load(in_hand(["a", "b"] * 10))
    again, report_again = load(dataset)
    assert table(again) == table(dataset)
    assert report_again.sizes == report.sizes


def test_order_and_selection_in_hand_are_kept():
    rows = in_hand([f"{number % 2}x" for number in range(20)]).shuffle(seed=1)
    dataset, _ = load(rows, lone_split="test")
    names = data.labels(dataset)
    assert [names[number] for number in dataset["test"]["label"]] == rows["label"][:]
    for position in (0, 7, 19):
        assert dataset["test"][position]["image"].tobytes() == rows[position]["image"].tobytes()


def test_transform_in_hand_is_not_applied():
    rows = in_hand(["a", "b"] * 10).with_transform(lambda batch: {"nothing": [0] * len(batch["label"])})
    assert data.labels(load(rows)[0]) == ["a", "b"]


def test_broken_parquet(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing more")
    expect_error(tmp_path / "a.parquet", "a.parquet", "expected")


# -- columns


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


# -- splits


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


def test_fingerprint_is_that_of_the_content():
    rows = in_hand(["a", "b"] * 10)
    _, report = load(rows)
    assert report.cut == ["validation", "test"] and report.to_dict()["cut"] == report.cut
    same = load(rows, lone_split="test", seed=7)[1]
    assert same.source["fingerprint"] == report.source["fingerprint"] and same.cut == []
    assert load(in_hand(["b", "a"] * 10))[1].source["fingerprint"] != report.source["fingerprint"]


def test_record_of_a_report_is_plain(tmp_path):
    _, report = load(in_hand(["a", "b", None] * 10))
    told = json.loads(json.dumps(report.to_dict()))
    assert set(told) == {
        *("source", "kind", "config", "revision", "license", "fingerprint", "pictures"),
        *("sizes", "cut", "left_out", "notes"),
    }
    assert any("cut from train's 20 rows" in note for note in told["notes"]) and told["sizes"] == report.sizes


@pytest.mark.parametrize("shares", [(0, 0.1), (0.5, 0.5), (-0.1, 0.1), (0.1, 1.2)])
def test_impossible_shares(shares):
    expect_error(in_hand(["a"]), "shares", validation_share=shares[0], test_share=shares[1])


# -- class folders


def test_class_folders(tmp_path):
    root = tree(tmp_path / "photos")
    dataset, report = load(root)
    assert report.sizes == {"train": 14, "validation": 3, "test": 3}
    assert data.labels(dataset) == ["dress", "hat"]
    assert {(row, label) for _, row, label in table(dataset)} >= {("dress/0.png", "dress"), ("hat/9.png", "hat")}
    row = dataset["train"].cast_column("image", Image(decode=False))[0]
    assert row["image"]["bytes"] is None and Path(row["image"]["path"]) == root / row["source_row"]
    assert report.source["kind"] == "class folders" and report.source["license"] == "unknown"
    assert load(str(root) + "/")[1].source["fingerprint"] == report.source["fingerprint"]
    put(root / "hat" / "new.png")
    assert load(root)[1].source["fingerprint"] != report.source["fingerprint"]


def test_relative_folder(tmp_path, monkeypatch):
    tree(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    dataset, _ = load("photos")
    monkeypatch.chdir("/")
    assert dataset["train"][0]["image"].size == (16, 16)


def test_split_folders(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        tree(tmp_path / split, count=count)
    dataset, report = load(tmp_path)
    assert report.sizes == {"train": 8, "validation": 4, "test": 2}
    assert ("validation", "val/dress/0.png", "dress") in table(dataset)


def test_class_names_like_splits_are_classes(tmp_path):
    tree(tmp_path, ("training shoes", "testers", "dev", "train set"), 4)
    dataset, report = load(tmp_path)
    assert data.labels(dataset) == ["dev", "testers", "train set", "training shoes"]
    assert "folder dev is read as a class" in texts(report, "note")


def test_two_readings_are_refused(tmp_path):
    tree(tmp_path / "mixed" / "train", ("a", "b"), 1)
    tree(tmp_path / "mixed", ("dress",), 1)
    expect_error(tmp_path / "mixed", "two readings", "train with folders inside", "dress without")
    tree(tmp_path / "half" / "train", ("a", "b"), 1)
    tree(tmp_path / "half", ("test",), 1)
    expect_error(tmp_path / "half", "two readings", "test have no class")
    tree(tmp_path / "flat", ("train", "test"), 1)
    expect_error(tmp_path / "flat", "two readings")
    tree(tmp_path / "deep" / "shoes", ("boots", "heels"), 1)
    expect_error(tmp_path / "deep", "two readings", "'shoes', or 'boots'")


def test_files_are_read_by_content(tmp_path):
    names = ["a.JPG", "none", "b.jpg?x=1", "c d.png", "e#%20.png", "f[1]*.png", "g\nh.png", "ü.png", "http:x.png"]
    names.append(unicodedata.normalize("NFD", "é.png"))
    for number, name in enumerate(names):
        put(tmp_path / "dress" / name, number)
    put(tmp_path / "hat" / "1.avif", format="AVIF")
    put(tmp_path / "hat" / "2.webp", format="WEBP")
    put(tmp_path / "hat" / "3.png", format="GIF")
    dataset, report = load(tmp_path)
    assert {row for _, row, _ in table(dataset)} == {f"dress/{name}" for name in names} | {
        f"hat/{name}" for name in ("1.avif", "2.webp", "3.png")
    }
    assert not report.of("error")
    for rows in dataset.values():
        assert all(image.size == (16, 16) for image in rows["image"])


def test_what_is_no_picture_is_listed(tmp_path):
    tree(tmp_path, count=5)
    for name in (".DS_Store", "._1.png", "Thumbs.db"):
        (tmp_path / "hat" / name).write_bytes(b"x")
    (tmp_path / "hat" / "notes.jpg").write_text("notes")
    (tmp_path / "hat" / "empty.png").write_text("")
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    (tmp_path / "bag").mkdir()
    (tmp_path / ".git").mkdir()
    put(tmp_path / "stray.png")
    dataset, report = load(tmp_path)
    assert data.labels(dataset) == ["dress", "hat"] and sum(report.sizes.values()) == 10
    found = dict(errors(report))
    assert set(found) == {"hat/notes.jpg", "hat/empty.png", "stray.png"}
    assert "empty" in found["hat/empty.png"] and "unknown class" in found["stray.png"]
    assert "bag label none" in texts(report, "warning") and report.source["license"] == "cc-by-4.0"
    for name in ("hat/.DS_Store", "hat/._1.png", "hat/Thumbs.db", "README.md"):
        assert f"{name} image passed over" in texts(report, "note")
    with pytest.raises(InputError) as caught:
        report.raise_on_errors()
    assert all(name in str(caught.value) for name in found)


def test_links(tmp_path):
    root = tree(tmp_path / "photos", count=5)
    put(tmp_path / "outside" / "1.png")
    (root / "hat" / "inside.png").symlink_to(root / "dress" / "1.png")
    (root / "hat" / "out.png").symlink_to(tmp_path / "outside" / "1.png")
    (root / "hat" / "dead.png").symlink_to(root / "nothing.png")
    (root / "bag").symlink_to(tmp_path / "outside")
    (root / "cap").symlink_to(root / "hat")
    dataset, report = load(root)
    assert set(dict(errors(report))) == {"hat/out.png", "hat/dead.png", "bag", "cap"}
    assert ("hat/inside.png", "hat") in {(row, label) for _, row, label in table(dataset)}
    (tmp_path / "link").symlink_to(root)
    assert set(dict(errors(load(tmp_path / "link")[1]))) == set(dict(errors(report)))


def test_names_that_are_not_utf8(tmp_path):
    tree(tmp_path, count=5)
    try:
        with open(os.fsencode(tmp_path / "hat") + b"/\xff.png", "wb") as file:
            file.write(picture())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    _, report = load(tmp_path)
    assert "xff" in errors(report)[0][1] and len(errors(report)) == 1
    assert "xff" in str(report) and str(report).encode("utf-8")


def test_folders_without_classes(tmp_path):
    (tmp_path / "empty").mkdir()
    expect_error(tmp_path / "empty", "no folders and no pictures")
    put(tmp_path / "flat" / "1.png")
    expect_error(tmp_path / "flat", "1 pictures without labels", "metadata.csv")


# -- tables


def listed(tmp_path, text, encoding="utf-8", name="labels.csv", count=6):
    for number in range(count):
        put(tmp_path / "photos" / f"{number}.png", number)
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


LINES = ["photos/0.png,dress", "photos/1.png,hat", "photos/2.png,Größe", "photos/3.png,01", "photos/4.png,NA"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv(tmp_path, encoding, delimiter, end):
    text = end.join(["file_name,label", *LINES, ""]).replace(",", delimiter)
    dataset, report = load(listed(tmp_path, text, encoding), lone_split="test")
    assert [(row, label) for _, row, label in table(dataset)] == [tuple(line.split(",")) for line in LINES]
    assert not report.of("error") and ("Größe" in texts(report, "warning")) == (encoding == "cp1252")
    assert report.source["kind"] == "csv file"


def test_csv_quotes_and_other_delimiters_in_cells(tmp_path):
    text = 'label,path,note\n"a;b",photos/0.png,"two\nlines"\n"c,d",photos/1.png,"say ""x"""\n'
    dataset, _ = load(listed(tmp_path, text), lone_split="test")
    assert data.labels(dataset) == ["a;b", "c,d"]


@pytest.mark.parametrize("encoding", ["cp1251", "cp1253", "shift-jis", "utf-16-le", "iso8859-2", "cp1250"])
def test_uncertain_encoding_is_refused(tmp_path, encoding):
    word = {"cp1253": "φόρεμα", "shift-jis": "帽子", "iso8859-2": "šaty", "cp1250": "šaty"}.get(encoding, "платье")
    expect_error(listed(tmp_path, f"file_name,label\nphotos/0.png,{word}\n", encoding), "table", "expected")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("an empty file",)),
        ("file_name,label\n", ("a header and no rows",)),
        ("photos/0.png,dress\n", ("photos/0.png,dress", "column names")),
        ("file_name,label,label\na,b,c\n", ("each column once", "label")),
        ('file_name,label\n"photos/0.png,dress\n', ("line 2",)),
        ("file_name\nphotos/0.png\n", ("column of labels", "--label_column")),
        ("file_name,color\nphotos/0.png,red\n", ("file_name, color",)),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, words):
    expect_error(listed(tmp_path, text), *words)


def test_csv_rows_with_errors_are_all_told(tmp_path):
    bad = {
        3: "photos/9.png,hat",
        4: "../0.png,hat",
        5: f"{tmp_path}/photos/0.png,hat",
        6: "file:///etc/passwd,hat",
        7: "https://example.org/1.png,hat",
        8: "photos/1.png,",
        9: ",hat",
        10: "photos/2.png,hat,extra",
        11: "photos,hat",
        12: r"C:\1.png,hat",
        13: "photos/3.png,a",
        14: "photos/3.png,b",
    }
    path = listed(tmp_path, "\n".join(["file_name,label", "photos/0.png,dress", *bad.values()]) + "\n")
    dataset, report = load(path, lone_split="test")
    assert table(dataset) == [("test", "photos/0.png", "dress")]
    found = " ".join(where for where, _ in errors(report))
    assert all(f"labels.csv:{line}" in found for line in bad), found
    assert len(errors(report)) == len(bad) - 1  # the last two are one finding
    with pytest.raises(InputError, match="11 errors"):
        report.raise_on_errors()


def test_csv_links_out_of_the_folder_are_refused(tmp_path):
    path = listed(tmp_path / "in", "file_name,label\nphotos/0.png,a\nphotos/out.png,b\n")
    (tmp_path / "in" / "photos" / "out.png").symlink_to(put(tmp_path / "secret.png"))
    assert "link" in dict(errors(load(path, lone_split="test")[1]))["labels.csv:3"]


def test_csv_backslashes_repeats_and_blank_lines(tmp_path):
    text = "file_name,label\nphotos\\0.png,a\n\nphotos/1.png,b\nphotos/1.png,b\n"
    dataset, report = load(listed(tmp_path, text), lone_split="test")
    assert len(dataset["test"]) == 3 and "1 paths with \\" in texts(report, "note")
    assert "labels.csv:4 and labels.csv:5" in texts(report, "warning")


def test_csv_with_splits(tmp_path):
    rows = [
        f"photos/{number}.png,{'ab'[number % 2]},{split}" for number, split in enumerate(["train"] * 4 + ["dev", "x"])
    ]
    dataset, report = load(listed(tmp_path, "\n".join(["image,label,split", *rows])), lone_split="train")
    assert len(dataset["validation"]) == 1 and errors(report)[0] == ("labels.csv:7", "'x'")
    put(tmp_path / "train" / "1.png"), put(tmp_path / "test" / "1.png", 1), put(tmp_path / "val" / "1.png", 2)
    (tmp_path / "all.csv").write_text("image,label\ntrain/1.png,a\ntest/1.png,b\nval/1.png,c\n")
    dataset, report = load(tmp_path / "all.csv")
    assert report.sizes == {"train": 1, "validation": 1, "test": 1} and "as the split" in texts(report, "note")


def test_json_lines(tmp_path):
    rows = [{"file_name": f"photos/{number}.png", "label": label} for number, label in enumerate(["a", 1, "01", None])]
    text = "\n".join(json.dumps(row) for row in rows) + '\n\n{"file_name":\n[1]\n{"file_name": "photos/4.png"}\n'
    dataset, report = load(listed(tmp_path, text, name="rows.jsonl"), lone_split="test")
    assert [label for *_, label in table(dataset)] == ["a", "1", "01"]
    assert [where for where, _ in errors(report)] == [f"rows.jsonl:{line}" for line in (6, 7, 4, 8)]


def test_folder_with_metadata(tmp_path):
    listed(tmp_path, "file_name,kind\nphotos/0.png,a\nphotos/1.png,b\n", name="metadata.csv", count=3)
    dataset, report = load(tmp_path, names={"label": "kind"}, lone_split="test")
    assert table(dataset) == [("test", "photos/0.png", "a"), ("test", "photos/1.png", "b")]
    assert "1 file(s) without a row, the first: photos/2.png" in texts(report, "warning")
    assert report.source["kind"] == "folder with a table"


def test_split_folders_with_metadata(tmp_path):
    for split in ("train", "test"):
        for number in range(4):
            put(tmp_path / split / f"{number}.png", number)
        rows = [{"file_name": f"{number}.png", "label": "ab"[number % 2]} for number in range(4)]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset, report = load(tmp_path, lone_split="test")
    assert ("test", "test/1.png", "b") in table(dataset) and report.sizes == {"test": 4}
    with (tmp_path / "test" / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "../train/1.png", "label": "a"}')
    assert errors(load(tmp_path, lone_split="test")[1])[0][0] == "test/metadata.jsonl:5"
    put(tmp_path / "val" / "1.png")
    expect_error(tmp_path, "none in val")


def test_parquet_of_paths(tmp_path):
    listed(tmp_path, "")
    Dataset.from_dict({"path": ["photos/0.png", "photos/9.png"], "label": ["a", "b"]}).to_parquet(
        str(tmp_path / "p.parquet")
    )
    dataset, report = load(tmp_path / "p.parquet", lone_split="test")
    assert table(dataset) == [("test", "photos/0.png", "a")] and errors(report) == [
        ("train:1", "no such file: photos/9.png")
    ]


# -- what is not there


def test_nothing_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path / "photos").parent)
    expect_error("fotos", "no such file", "photos", "type photos")
    expect_error("./photos/dres", "type photos/dress")
    expect_error("photos/labels.csv", "no such file")
    expect_error(tmp_path / "nothing", "no such file")
    expect_error("x" * 5000, "no such file")
    expect_error("", "expected")
    expect_error(7, "a int")
    expect_error("photos", "leave the revision out", revision="main")
    expect_error("photos", "leave the config out", config="default")
    (tmp_path / "a.zip").write_bytes(b"PK")
    expect_error("a.zip", ".csv, .tsv, .jsonl, .parquet")


def test_hub_without_a_network(monkeypatch):
    # What the switch HF_HUB_OFFLINE=1 sets when the libraries are imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    expect_error(
        "nobody/nothing-of-this-name", "nobody/nothing-of-this-name", "no copy in the cache", "--dataset sample"
    )
    expect_error("nobody/nothing-of-this-name", "no copy", revision="0" * 40, config="x")


def test_hub_answers(monkeypatch):
    from huggingface_hub import errors as hub_errors

    from hf_fashion import reading

    def answer(error):
        class Api:
            def dataset_info(self, *args, **kwargs):
                raise error

        monkeypatch.setattr(reading, "HfApi", Api)

    class Response:  # what the errors of huggingface_hub want to see
        headers, request, status_code, text = {}, None, 404, ""

    for kind, words in (
        (hub_errors.RepositoryNotFoundError, ("no such dataset on the Hub, or it is private", "hf auth login")),
        (hub_errors.GatedRepoError, ("gated", "accept the terms")),
        (hub_errors.RevisionNotFoundError, ("no revision 'v9'",)),
    ):
        answer(kind("said", response=Response()))
        expect_error("org/name", *words, revision="v9")
    answer(RuntimeError("Name or service not known"))
    expect_error("org/name", "the Hub cannot be asked: Name or service not known")


def test_hub_dataset_is_pinned_and_its_licence_read(monkeypatch):
    from types import SimpleNamespace

    from hf_fashion import reading

    asked = {}

    class Api:
        def dataset_info(self, source, revision, timeout):
            return SimpleNamespace(sha="c" * 40, card_data=SimpleNamespace(license=["mit", "cc0-1.0"]))

    def load_dataset(source, config, revision):
        asked.update(source=source, config=config, revision=revision)
        return DatasetDict(train=in_hand(["a", "b"] * 10))

    monkeypatch.setattr(reading, "HfApi", Api)
    monkeypatch.setattr(reading, "load_dataset", load_dataset)
    _, report = load("org/name", config="small", revision="main")
    assert asked == {"source": "org/name", "config": "small", "revision": "c" * 40}
    assert report.source["revision"] == "c" * 40 and report.source["license"] == "mit, cc0-1.0"
    assert report.source["kind"] == "hub" and report.source["source"] == "org/name"


def test_streaming_is_refused():
    expect_error(IterableDatasetDict(), "streaming")


# -- the report


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


def test_source_is_not_touched(tmp_path):
    root = tree(tmp_path / "photos", count=3)
    shutil.copytree(root, tmp_path / "copy")
    load(root)
    assert sorted(p.relative_to(root) for p in root.rglob("*")) == sorted(
        p.relative_to(tmp_path / "copy") for p in (tmp_path / "copy").rglob("*")
    )
