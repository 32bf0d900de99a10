"""Parquet, saved datasets, datasets in hand and on the Hub: every way in, and what is said where nothing is there."""

from types import SimpleNamespace

import pytest
from datasets import Dataset, DatasetDict, Image, IterableDatasetDict
from huggingface_hub import errors as hub_errors
from loading import expect_error, in_hand, load, table, tree

from hf_fashion import data, reading


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
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    expect_error("a.rar", ".csv, .tsv, .jsonl, .parquet, .zip")


def test_hub_without_a_network(monkeypatch):
    # What the switch HF_HUB_OFFLINE=1 sets when the libraries are imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    expect_error(
        "nobody/nothing-of-this-name", "nobody/nothing-of-this-name", "no copy in the cache", "--dataset sample"
    )
    expect_error("nobody/nothing-of-this-name", "no copy", revision="0" * 40, config="x")


def test_hub_answers(monkeypatch):
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
