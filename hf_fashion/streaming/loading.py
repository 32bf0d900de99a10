"""Opens a source whose training split is streamed: validation and test whole, train as a `Stream`."""

import functools
import glob
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, load_dataset
from transformers import TrainingArguments

from hf_fashion import data, reading
from hf_fashion.columns import attribute_texts, class_names, is_list, is_text, label_texts, pick, pick_attributes
from hf_fashion.errors import InputError
from hf_fashion.report import Report
from hf_fashion.splits import ORDER, coverage, split_name
from hf_fashion.streaming.source import Stream, features_of

LEFT_OUT = "left_out.jsonl"  # in the run's folder: a line for each picture that was passed over


def load(
    source: str | Path, *, config: str | None = None, revision: str | None = None,
    names: Mapping[str, str | None] | None = None, label_columns: Sequence[str] | None = None,
    shuffle_buffer: int = 1000, on_bad_image: str = "stop", folder: str | Path | None = None,
) -> tuple[DatasetDict, Report]:  # fmt: skip
    """Loads what is measured, and finds what is learned from.

    Args:
        source: A folder with parquet files as the Hub has them (data/train-00000-of-00002.parquet, ...), or a Hub id.
        config: Configuration of a dataset that has several.
        revision: Commit, branch or tag of a dataset on the Hub.
        names: See `data.load`.
        label_columns: See there.
        shuffle_buffer: See `StreamedExamples`.
        on_bad_image: See there.
        folder: Of the run; rows that are left out are noted in its `left_out.jsonl`.

    Returns:
        The splits: train as a `Stream`, validation and test as `data.load` gives them; and what was seen.

    Raises:
        InputError: Nothing that can be streamed, or one of the three splits is missing.
    """
    report = Report({"source": str(source), "kind": "", "config": config, "revision": None, "license": "unknown"})
    found = reading.parquet_files(source, config, revision, report)
    report.source |= {"kind": found.kind, "revision": found.revision, "license": found.license or "unknown"}
    splits = _splits(found.files, str(source), report)
    features = found.features or features_of(splits["train"][0])
    given = {column: name for column, name in (names or {}).items() if name}
    if label_columns is None:
        image, label = pick(features, given, "train")
        label_columns = [label] if is_list(features[label]) else None
    if label_columns is None:
        told = {"label": label}
    else:
        image, chosen = pick_attributes(features, given, label_columns, "train")
        told = {name: name for name in chosen}
    if is_text(features[image]):
        raise InputError(
            f"column {image}", expected="pictures inside the parquet files, which can be streamed", found="paths",
            fix="embed them: datasets.table.embed_table_storage before to_parquet, or push_to_hub, which does it",
        )  # fmt: skip
    stream = Stream(splits["train"], found.root, features, image, told, strict=label_columns is None)
    stream.options = {
        "shuffle_buffer": shuffle_buffer, "on_bad_image": on_bad_image,
        "left_out": Path(folder) / LEFT_OUT if folder is not None else None,
    }  # fmt: skip
    if not len(stream):
        raise InputError(f"dataset {source}", expected="training rows", found="none", fix="check what it holds")
    measured = {
        split: reading.attempt(f"the {split} split", functools.partial(_whole, splits[split], found.features))
        for split in ORDER[1:]
    }
    texts = {column: {"train": values} for column, values in stream.count(report).items()}
    said: dict[str, dict[str, list[Any]]] = {split: {} for split in measured}
    for column, name in told.items():
        declared = {"train": names_} if (names_ := _declared(features[name])) else {}
        for split, rows in measured.items():
            if name not in rows.features:
                pick_attributes(rows.features, given, [name], split)  # says what is missing
            said[split][column] = _texts(rows, name, label_columns is None)
            texts[column][split] = [text for row in said[split][column] for text in _each(row)]
            declared |= {split: names_} if (names_ := _declared(rows.features[name])) else {}
        stream.names[column] = class_names(texts[column], declared, report, column)
    dataset, digest = DatasetDict(train=stream), hashlib.sha256()
    for split, rows in measured.items():
        for column, name in told.items():
            rows = _numbered(rows, name, said[split][column], stream.names[column])
        canonical, part = data.load(
            DatasetDict({split: rows}), Features({"image": Image(), "label": Value("string")}),
            names={"image": image} | ({"label": told["label"]} if label_columns is None else {}),
            label_columns=label_columns, lone_split=split,
        )  # fmt: skip
        dataset[split] = canonical[split]
        digest.update(str(part.source["fingerprint"]).encode())
        for finding in part.findings:
            if finding.found.startswith("one class only"):
                continue  # what all splits have together is told below
            report.add(
                finding.level, finding.where, finding.column, expected=finding.expected, found=finding.found,
                fix=finding.fix,
            )  # fmt: skip
    for column in told:
        counts = {"train": stream.class_counts(column)} | {
            split: data.class_counts(dataset[split], column) for split in measured
        }
        coverage(counts, stream.names[column], report, column, strict=label_columns is None)
        digest.update(f"{column} {stream.names[column]} {counts['train'].tolist()}".encode())
    digest.update(f"{len(stream)} {[os.path.basename(file) for file in stream.files]}".encode())
    report.source |= {"fingerprint": digest.hexdigest()[:16]}
    report.add(
        "note", "split train", "image",
        found=f"streamed: its {len(stream)} pictures were not looked at before training, nor compared with those of "
        "validation and test, so a picture that lies in two splits was not found",
    )  # fmt: skip
    return dataset, report


def refuse(args: TrainingArguments, sampler: str, report: Report) -> None:
    """Raises InputError for settings that a streamed training cannot have; records how many processes read.

    Args:
        args: The training's. A run that is resumed must read as before, or rows would be shown twice in an epoch.
        sampler: `--sampler`.
        report: Its source gets an entry `readers`.
    """
    resumed_from = args.resume_from_checkpoint
    for name, wanted, why, fix in (
        ("sampler " + sampler, sampler != "shuffle", "rows that can be chosen", "--class_weights " + sampler),
        ("dataloader_drop_last", args.dataloader_drop_last, "the last rows too", "leave it out"),
    ):
        if wanted:
            raise InputError(f"--{name} with --streaming", expected=why, found="rows in the order of files", fix=fix)
    readers = {"processes": args.world_size, "workers": args.dataloader_num_workers}
    stored = Path(resumed_from).parent / "run.json" if resumed_from else None
    if stored is not None and stored.is_file():
        before = json.loads(stored.read_text(encoding="utf-8"))["dataset"].get("readers", readers)
        if before != readers:
            raise InputError(
                "the streamed run that is resumed", expected=_in_words(before), found=_in_words(readers),
                fix=f"as many as before: --dataloader_num_workers {before['workers']}",
            )  # fmt: skip
    report.source["readers"] = readers


def _in_words(readers: Mapping[str, int]) -> str:
    return f"{readers['processes']} process(es) with {readers['workers']} --dataloader_num_workers each"


def _splits(files: Mapping[str, Sequence[str]], source: str, report: Report) -> dict[str, list[str]]:
    """Canonical split -> its files."""
    found: dict[str, list[str]] = {}
    for name, paths in files.items():
        split = split_name(name)
        if split is None or split in found:
            report.add("note", f"split {name}", "", found="not used")
        else:
            found[split] = list(paths)
    missing = [split for split in ORDER if split not in found]
    if missing:
        raise InputError(
            f"dataset {source} with --streaming",
            expected="train, validation and test as splits of the source: nothing is cut from a stream",
            found=f"no {' and no '.join(missing)}, but {', '.join(files)}",
            fix=f"write them to files of their own, as data/{missing[0]}-00000-of-00001.parquet; or leave "
            "--streaming out",
        )  # fmt: skip
    return found


def _whole(files: Sequence[str], features: Features | None) -> Dataset:
    """Files as a dataset on the disk. (`load_dataset` of the source itself would fetch the training split, too.)"""
    names = [file if "://" in file else glob.escape(file) for file in files]
    return load_dataset("parquet", data_files=names, split="train", features=features)


def _declared(feature: Any) -> list[str]:
    inner = feature.feature if is_list(feature) else feature
    return list(inner.names) if isinstance(inner, ClassLabel) else []


def _texts(rows: Dataset, name: str, strict: bool) -> list[Any]:
    """The labels of a measured split as text; what is wrong with them `data.load` says."""
    values, silent = rows.with_format(None).select_columns([name])[:][name], Report({})
    where = [""] * len(values)
    if strict:
        return label_texts(name, rows.features[name], values, where, silent)
    return attribute_texts(name, rows.features[name], values, where, None, silent)[0]


def _each(row: Any) -> list[str]:
    return [] if row is None else row if isinstance(row, list) else [row]


def _numbered(rows: Dataset, name: str, texts: Sequence[Any], names: Sequence[str]) -> Dataset:
    """The column as numbers of these names."""
    if _declared(rows.features[name]) == list(names):
        return rows
    number = {text: position for position, text in enumerate(names)}
    label = ClassLabel(names=list(names))
    many = is_list(rows.features[name])
    values: list[Any] = []
    for row in texts:
        told = [number[text] for text in _each(row)]
        values.append(None if row is None else told if many else told[0])
    # Not `add_column`: what it adds cannot be taken off and added again (datasets 5.2), as `data.load` would.
    features = Features({**rows.features, name: List(label) if many else label})
    return rows.map(lambda _, row: {name: values[row]}, with_indices=True, input_columns=name, features=features)
