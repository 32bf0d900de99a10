"""Streamed training: every row once an epoch, the same again, exact after a resume; faults told with their place."""

import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from tiny import SHAPES, numbered, parquet, photos, streamable, tiny
from torch.utils.data import DataLoader
from transformers import set_seed

from hf_fashion import backbones, checks, data, images, streaming, training
from hf_fashion.augmentation import Augmented
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify


def which(row: dict) -> dict:
    """A transform that tells which row it got, and draws."""
    return {"row": row["image"].getpixel((0, 0))[0], "labels": row["label"], "draw": torch.rand(())}


def examples(given: Path, seed: int = 1, **options) -> streaming.StreamedExamples:
    return shuffled(streaming.load(given, shuffle_buffer=5, **options)[0]["train"], seed)


def shuffled(stream: streaming.Stream, seed: int = 1) -> streaming.StreamedExamples:
    return streaming.StreamedExamples(stream, which, seed, **stream.options)


def shown(stream: streaming.StreamedExamples, epoch=0, batch=3, workers=0, process=0, processes=1) -> list[list[int]]:
    """The rows of each batch that a process gets in an epoch."""
    stream.share(batch, process, processes)
    stream.set_epoch(epoch)
    loader = DataLoader(stream, batch_size=batch, num_workers=workers)
    batches = [batch["row"].tolist() for batch in loader]
    assert len(batches) == len(loader)  # what the Trainer counts its steps by
    return batches


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("rows, processes", [(25, 1), (26, 2), pytest.param(23, 2, marks=pytest.mark.slow), (23, 4)])
def test_every_row_comes_once_an_epoch_to_all_processes_and_workers_together(tmp_path, rows, processes, workers):
    stream = examples(streamable(tmp_path, rows, files=1 if processes == 4 else 3))
    parts = [shown(stream, workers=workers, process=number, processes=processes) for number in range(processes)]
    assert len({tuple(map(len, part)) for part in parts}) == 1  # or one would wait for another for ever
    seen = Counter(row for part in parts for batch in part for row in batch)
    assert sorted(seen) == list(range(rows))
    assert seen.total() == rows + -rows % processes


def test_the_order_depends_on_seed_and_epoch_alone(tmp_path):
    folder = streamable(tmp_path)
    first = shown(examples(folder))
    assert shown(examples(folder)) == first
    assert shown(examples(folder), epoch=1) != first
    assert shown(examples(folder, seed=2)) != first
    unshuffled = examples(folder)
    unshuffled.shuffle_buffer = 1
    assert shown(unshuffled, epoch=1) != shown(unshuffled)  # the row groups come in another order
    flat = [row for batch in first for row in batch]
    assert flat != sorted(flat)
    near = np.abs(np.diff(flat))
    assert (near == 1).sum() < len(flat) / 3  # rows of one row group do not stay together


def test_labels_and_crops_are_those_of_the_row_as_without_streaming(tmp_path):
    folder = streamable(tmp_path)
    stream = examples(folder)
    stream.share(3)
    whole, _ = data.load(folder, classify.COLUMNS)
    kept = Augmented(whole["train"], which, 1)
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        kept.set_epoch(epoch)
        for example in stream:
            twin = kept[example["row"]]
            assert (example["labels"], float(example["draw"])) == (twin["labels"], float(twin["draw"]))


def test_a_stream_reads_only_as_far_ahead_as_its_buffer(tmp_path, monkeypatch):
    stream = examples(streamable(tmp_path, rows=200, group=10))
    read = []
    rows = streaming.Stream.rows
    monkeypatch.setattr(
        streaming.Stream, "rows", lambda self, pieces: (read.append(1) or row for row in rows(self, pieces))
    )
    for number, _ in enumerate(stream, start=1):
        assert len(read) <= number + 5


def test_counts_and_names_are_those_of_the_whole_dataset(tmp_path):
    folder = streamable(tmp_path)
    dataset, report = streaming.load(folder)
    stream = dataset["train"]
    whole, _ = data.load(folder, classify.COLUMNS)
    assert len(stream) == 23
    assert stream.features == {name: whole["train"].features[name] for name in ("image", "label")}
    assert stream.class_counts().tolist() == data.class_counts(whole["train"]).tolist()
    for split in ("validation", "test"):
        assert dataset[split]["label"] == whole[split]["label"]
        assert dataset[split]["source_row"] == whole[split]["source_row"]
    assert list(dataset) == list(whole) and isinstance(stream, streaming.Stream)
    assert "not looked at" in str(report)


def test_labels_are_matched_by_name_as_text_too(tmp_path):
    text = Features({"image": ImageFeature(), "label": Value("string")})
    first, other = (
        Features({"image": ImageFeature(), "label": ClassLabel(names=names)}) for names in (list("cab"), list("bca"))
    )
    splits = {
        "train": numbered(12, first, label=[1, 2, 0] * 4),
        "validation": numbered(6, other, label=[2, 0, 1, 2, 0, 1]),
        "test": numbered(3, text, label=list("abc")),
    }
    for split, rows in splits.items():
        path = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        rows.to_parquet(path)
    dataset, report = streaming.load(tmp_path)
    report.raise_on_errors()
    names = data.labels(dataset)
    assert names == list("cab") and dataset["train"].features["label"].names == names
    assert [names[label] for label in dataset["validation"]["label"]] == list("abcabc")
    assert [photo.getpixel((0, 0))[0] for photo in dataset["validation"]["image"]] == list(range(6))
    assert [names[label] for label in dataset["test"]["label"]] == list("abc")
    got = {example["row"]: names[example["labels"]] for example in shuffled(dataset["train"])}
    assert [got[row] for row in range(12)] == list("abcabcabcabc")


def test_what_follows_skipped_batches_is_as_if_they_had_been_decoded(tmp_path):
    broken = (0, 1, 2, 3, 5, 6, 7, 9, 14, 15, 16, 20, 21)
    stream = examples(streamable(tmp_path, broken=broken), on_bad_image="drop")
    stream.share(2)

    def drawn(epoch):
        stream.set_epoch(epoch)
        return [(example["row"], float(example["draw"])) for example in stream]

    for epoch in (0, 1):
        whole = drawn(epoch)
        assert len(whole) == len(set(whole)) == 23  # what is shown again is cropped anew
        for batches in range(1, 12):
            stream.skip(epoch, batches)
            assert drawn(epoch)[2 * batches :] == whole[2 * batches :]
        stream.skip(epoch, 0)
    assert drawn(1)[:2] != drawn(0)[:2]


def trainer(folder, tmp_path, name, workers=0, on_bad_image="stop", **changes):
    set_seed(1)
    dataset, _ = streaming.load(folder, shuffle_buffer=7, on_bad_image=on_bad_image, folder=tmp_path)
    model, processor = backbones.load_classifier(tiny("resnet", tmp_path / "net"), SHAPES)
    given = {
        "output_dir": str(tmp_path / name), "num_train_epochs": 2, "per_device_train_batch_size": 4, "use_cpu": True,
        "learning_rate": 0.02, "save_strategy": "steps", "save_steps": 1, "save_total_limit": None,
        "eval_strategy": "no", "logging_strategy": "steps", "logging_steps": 1, "load_best_model_at_end": False,
        "disable_tqdm": True, "dataloader_num_workers": workers,
    }  # fmt: skip
    return training.FashionTrainer(
        model=model,
        args=training.FashionTrainingArguments(**given | changes),
        train_dataset=classify.prepare(dataset["train"], processor, train=True, seed=1),
        eval_dataset=classify.prepare(dataset["validation"], processor),
    )


def differing(one, two) -> list[str]:
    other = two.model.state_dict()
    return [name for name, tensor in one.model.state_dict().items() if not torch.equal(tensor, other[name])]


def counting(patch) -> list:
    """Grows by each encoded picture that is decoded."""
    decoded: list = []
    real = images.decode
    count = lambda photo, **more: (isinstance(photo, dict | bytes) and decoded.append(1)) or real(photo, **more)  # noqa: E731
    patch.setattr(images, "decode", count)
    return decoded


@pytest.mark.parametrize(
    "workers, broken",
    [pytest.param(0, (), marks=pytest.mark.slow), (2, ()), (0, (0, 1, 2, 3, 5, 9, 14, 20, 21))],
)
def test_a_resumed_run_ends_where_the_whole_one_does_to_the_last_bit(tmp_path, workers, broken, monkeypatch):
    folder = streamable(tmp_path / "photos", broken=broken)
    whole = trainer(folder, tmp_path, "whole", workers, "drop")
    whole.train()
    assert whole.state.global_step == 2 * 6
    steps = (2, 9) if broken else (9,) if workers else (4, 6, 9)
    for step in steps:  # in the middle of an epoch, and between two
        with monkeypatch.context() as patch:
            decoded = counting(patch)
            resumed = trainer(folder, tmp_path, f"resumed-{step}", workers, "drop", save_strategy="no")
            resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert differing(whole, resumed) == [], step
        if not workers and not broken:
            left = 23 - 4 * (step % 6) + 23 * (step < 6)
            assert left <= len(decoded) <= left + 1  # one stands for all rows that are thrown away
    if not workers and not broken:
        again = trainer(folder, tmp_path, "again", workers, "drop", save_strategy="no")
        again.train()
        assert differing(whole, again) == []
        other = trainer(folder, tmp_path, "other", workers, "drop", seed=2, save_strategy="no")
        other.train_dataset.seed = 2
        other.train()
        assert differing(whole, other)  # or the test could not fail


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_picture_stops_the_run_with_its_place(tmp_path, workers):
    folder = streamable(tmp_path, broken=(10,))
    stream = examples(folder)
    with pytest.raises(InputError, match="train-00001-of-00003.parquet row 2\n") as caught:
        shown(stream, workers=workers)
    assert caught.value.found.startswith("a picture whose header is damaged")
    assert "--on_bad_image drop" in caught.value.fix and "\n" not in caught.value.what
    traceback.clear_frames(caught.tb)  # they hold the loader, whose workers would be waited for


def test_dropped_pictures_are_noted_once_and_all_keep_step(tmp_path):
    folder = streamable(tmp_path / "photos", broken=(0, 10, 11))
    dataset, report = streaming.load(folder, shuffle_buffer=5, on_bad_image="drop", folder=tmp_path)
    made = shuffled(dataset["train"])
    for epoch in (0, 1):
        for process in (0, 1):
            batches = shown(made, epoch=epoch, process=process, processes=2)
            assert sum(map(len, batches)) == 12
    assert len((tmp_path / streaming.LEFT_OUT).read_text().splitlines()) == 3
    (tmp_path / streaming.LEFT_OUT).write_text((tmp_path / streaming.LEFT_OUT).read_text() * 2)  # of other workers
    assert checks.after_training(dataset, report) is report
    assert [row["where"] for row in report.left_out] == [
        f"data/train-0000{file}-of-00003.parquet row {row}" for file, row in ((0, 0), (1, 2), (1, 3))
    ]
    assert report.sizes["train"] == 20
    dataset, again = streaming.load(folder, on_bad_image="drop", folder=tmp_path)  # as a run that is resumed
    assert checks.check(dataset, again).sizes == {"train": 20, "validation": 6, "test": 9}
    assert again.left_out == report.left_out


def test_a_check_counts_the_labels_of_a_stream_and_looks_at_the_other_splits(tmp_path):
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list("abcdefghijkl"))})
    splits = {
        "train": numbered(36, features, label=list(range(12)) * 3),
        "validation": numbered(12, features, broken=(3,), green=8, label=list(range(12))),
        "test": numbered(6, features, green=9, label=list(range(6))),
    }
    dataset, report = streaming.load(parquet(tmp_path, DatasetDict(splits)), on_bad_image="drop")
    checks.check(dataset, report, on_bad_image="drop")
    assert not report.of("error")  # 12 classes in 18 rows would be the wrong column, in 54 they are not
    assert [row["where"] for row in report.left_out] == ["validation:3"]
    assert report.sizes == {"train": 36, "validation": 11, "test": 6}
    kept = checks.drop(dataset, report)
    assert kept["train"] is dataset["train"] and len(kept["validation"]) == 11


def test_a_share_without_one_good_picture_is_an_error(tmp_path):
    stream = examples(streamable(tmp_path, broken=tuple(range(23))), on_bad_image="drop", folder=tmp_path)
    with pytest.raises(InputError, match="23 training pictures"):
        shown(stream)


def test_a_label_that_was_not_there_at_the_beginning_stops_the_run(tmp_path):
    text = Features({"image": ImageFeature(), "label": Value("string")})
    one = numbered(6, text, label=list("ababab"))
    folder = parquet(tmp_path, DatasetDict(train=one, validation=one, test=one), files=1)
    stream = examples(folder)
    numbered(6, text, label=list("ababaz")).to_parquet(folder / "data/train-00000-of-00001.parquet", batch_size=4)
    with pytest.raises(InputError, match="parquet row 5\n(.|\n)*'z'"):
        shown(stream)


def test_rows_without_a_label_are_told_before_the_first_step(tmp_path):
    rows = numbered(12, label=[None if row == 7 else row % 3 for row in range(12)])
    folder = parquet(tmp_path, DatasetDict(train=rows, validation=numbered(6), test=numbered(6)), files=2)
    with pytest.raises(InputError, match="train-00001-of-00002.parquet row 1"):
        streaming.load(folder)[1].raise_on_errors()


UNKNOWN = {
    "class number -1": (ClassLabel(names=["a", "b"]), [0, 1, -1]),
    "a class that is called None": (ClassLabel(names=["None", "b"]), [0, 1, -1]),
    "not a number": (Value("float32"), [0.0, 1.0, float("nan")]),
    "blank": (Value("string"), ["x", "y", " "]),
    "empty list, no list": (List(Value("string")), [["x", "y"], [], None]),
    "null in a list": (List(Value("string")), [["x"], ["y", None], None]),
    "blank in a list": (List(Value("string")), [["x"], ["y", ""], None]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_of_an_attribute_is_what_it_is_without_streaming(tmp_path, name):
    kind, values = UNKNOWN[name]
    features = Features({"image": ImageFeature(), "color": kind})
    splits = {
        split: numbered(6, features, green=green, color=values * 2)
        for split, green in (("train", 7), ("validation", 8), ("test", 9))
    }
    folder = parquet(tmp_path / "data", DatasetDict(splits), files=1)
    whole, told = data.load(folder, classify.COLUMNS, label_columns=["color"])
    dataset, report = streaming.load(folder, label_columns=["color"])
    stream = dataset["train"]
    rows = list(stream.rows(stream.pieces(np.arange(stream.groups), 0, len(stream))))
    assert stream.names["color"] == data.labels(whole, "color")
    assert [stream.label("color", row["values"]["color"]) for row in rows] == whole["train"]["color"][:]
    faults = [{finding.where for finding in found.of("error") if "train" in finding.where} for found in (told, report)]
    assert bool(faults[0]) == bool(faults[1]) == ("in a list" in name)
    assert all(where.endswith("row 1") for where in faults[1])


def test_a_missing_number_among_the_labels_is_told_with_its_row(tmp_path):
    features = Features({"image": ImageFeature(), "label": Value("float32")})
    splits = {"train": numbered(6, features, label=[0.0, 1.0, float("nan")] * 2)}
    splits |= {split: numbered(2, features, green=8, label=[0.0, 1.0]) for split in ("validation", "test")}
    _, report = streaming.load(parquet(tmp_path / "data", DatasetDict(splits), files=1))
    [found] = report.of("error")
    assert found.where.endswith("row 2") and found.found == "nan, 2 time(s) from there on"


def test_a_class_that_train_lacks_is_told_before_the_first_step(tmp_path):
    rows = numbered(12, label=[row % 2 for row in range(12)])
    folder = parquet(tmp_path, DatasetDict(train=rows, validation=numbered(6), test=numbered(6)))
    with pytest.raises(InputError, match="none of: stripes"):
        streaming.load(folder)[1].raise_on_errors()


def test_missing_splits_are_not_cut_from_a_stream(tmp_path):
    folder = parquet(tmp_path, DatasetDict(train=numbered(12), test=numbered(6)))
    with pytest.raises(InputError, match="no validation(.|\n)*data/validation-00000-of-00001.parquet"):
        streaming.load(folder)


def test_what_cannot_be_streamed_is_refused_with_what_to_type(tmp_path):
    photos(tmp_path / "classes", train=1, validation=1, test=1)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "metadata.csv").write_text("file_name,label\n")
    (tmp_path / "photos.csv").write_text("image,label\n")
    (tmp_path / "raw").mkdir()
    saved = DatasetDict(train=numbered(3))
    saved.save_to_disk(tmp_path / "saved")
    for given in ("sample", f"fashion_mnist:{tmp_path / 'raw'}", *(
        str(tmp_path / name) for name in ("classes", "table", "photos.csv", "saved")
    )):  # fmt: skip
        with pytest.raises(InputError, match="parquet") as caught:
            streaming.load(given)
        assert "leave --streaming out" in caught.value.fix
    with pytest.raises(InputError, match="no such file"):
        streaming.load(str(tmp_path / "nowhere"))
    paths = Features({"image": Value("string"), "label": ClassLabel(names=list(SHAPES))})
    rows = Dataset.from_dict({"image": ["a.png"] * 3, "label": [0, 1, 2]}, features=paths)
    with pytest.raises(InputError, match="found:    paths"):
        streaming.load(parquet(tmp_path / "paths", DatasetDict(train=rows, validation=rows, test=rows)))


def test_a_file_with_other_columns_is_named(tmp_path):
    folder = streamable(tmp_path)
    odd = numbered(3).rename_column("label", "kind")
    odd.to_parquet(folder / "data" / "train-00001-of-00003.parquet")
    with pytest.raises(InputError, match="train-00001-of-00003.parquet(.|\n)*no label"):
        streaming.load(folder)
