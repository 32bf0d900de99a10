"""Reads photos with labels from anywhere into one form: a `DatasetDict` of train, validation and test with the columns
`image` (Image), `label` (ClassLabel with real names) and `source_row` (text that names the row in its source).

`load` tells what it saw on the way in a `Report`; `hf_fashion.checks.check` adds what only decoding shows.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from hf_fashion import reading, tables
from hf_fashion.columns import IMAGE_COLUMNS, class_names, is_text, label_texts, pick
from hf_fashion.errors import InputError
from hf_fashion.report import Finding, Report, cell
from hf_fashion.splits import ORDER, coverage, cut, split_name

__all__ = ["Finding", "Report", "labels", "load"]

_BATCH = 256  # rows


class _Rows(NamedTuple):
    """One split on its way: every list has one entry a row."""

    images: Dataset | list[str]  # a dataset with the one column `image`, or paths
    texts: list[str | None]
    source_rows: list[str]
    groups: list[str] | None
    keep: list[bool]
    declared: list[str] | None  # names of the source's own ClassLabel


def load(
    source: str | Path | Dataset | DatasetDict,
    columns: Features,
    *,
    config: str | None = None,
    revision: str | None = None,
    names: Mapping[str, str] | None = None,
    split_by: str | None = None,
    lone_split: str = "train",
    validation_share: float = 0.15,
    test_share: float = 0.15,
    seed: int = 42,
) -> tuple[DatasetDict, Report]:
    """Loads a dataset of photos with one label each.

    Args:
        source: A Dataset or DatasetDict, "sample", a tree of class folders (with split folders above or not), a folder
            with metadata.csv or .jsonl, a CSV, TSV, JSON-lines or parquet file, a folder made by `save_to_disk` or
            with parquet files, or the id of a dataset on the Hub.
        columns: The canonical columns: `image` and `label`.
        config: Configuration of a dataset that has several.
        revision: Commit, branch or tag of a dataset on the Hub.
        names: Canonical column -> the column of the source, where it cannot be guessed.
        split_by: Column whose groups must not lie in two splits (photos of one item, of one person). It is kept.
        lone_split: What a source without splits is: "train" has the missing splits cut from it; "validation" or
            "test" is given alone and whole, as it is given alone from a source that has it.
        validation_share: Share of train that a missing validation split gets.
        test_share: Share of train that a missing test split gets.
        seed: Decides which rows are cut.

    Returns:
        The splits, in the order train, validation, test, and what was seen on the way. Rows with an error are not in
        the splits; `report.raise_on_errors()` stops there.

    Raises:
        InputError: Nothing sensible can be loaded.
    """
    names = _check_settings(columns, names or {}, lone_split, validation_share, test_share)
    given = source if isinstance(source, str) else str(source) if isinstance(source, Path) else "in hand"
    report = Report({"source": given, "kind": "", "config": config, "revision": None, "license": "unknown"})
    image_columns = [names["image"]] if "image" in names else IMAGE_COLUMNS
    opened = reading.read(source, config, revision, image_columns, report)
    report.source |= {"kind": opened.kind, "revision": opened.revision, "license": opened.license or "unknown"}
    parts = _named_splits(opened.parts, lone_split, report)
    rows = {split: _rows(part, split, opened, names, split_by, report) for split, part in parts.items()}
    label_names = class_names(
        {split: part.texts for split, part in rows.items()},
        {split: part.declared for split, part in rows.items() if part.declared is not None},
        report,
    )
    dataset = DatasetDict({split: _canonical(part, label_names, split_by) for split, part in rows.items()})
    report.source["fingerprint"] = _fingerprint(dataset)
    if not any(len(part) for part in dataset.values()):
        report.raise_on_errors()
        raise InputError(f"dataset {given}", expected="labelled photos", found="no row", fix="check what it holds")
    if lone_split == "train":
        dataset = _cut_missing(dataset, split_by, validation_share, test_share, seed, report)
    dataset = DatasetDict({split: dataset[split] for split in ORDER if split in dataset})
    coverage({split: class_counts(part) for split, part in dataset.items()}, label_names, report)
    report.sizes = {split: len(part) for split, part in dataset.items()}
    return dataset, report


def labels(dataset: DatasetDict, column: str = "label") -> list[str]:
    """Gives the class names, in the order of the label numbers."""
    feature = next(iter(dataset.values())).features[column]
    if not isinstance(feature, ClassLabel) or feature.names is None:
        raise InputError(
            f"column {column}", expected="a ClassLabel", found=f"{feature}", fix="load the dataset with data.load"
        )
    return list(feature.names)


def class_counts(dataset: Dataset, column: str = "label") -> np.ndarray:
    """Counts the rows of each class (classes,)."""
    return np.bincount(_values(dataset, column, int), minlength=dataset.features[column].num_classes)


def _check_settings(
    columns: Features, names: Mapping[str, str], lone_split: str, validation_share: float, test_share: float
) -> dict[str, str]:
    if set(columns) != {"image", "label"}:
        raise InputError(
            "columns", expected="image and label", found=", ".join(columns), fix="pass the COLUMNS of tasks.classify"
        )
    unknown = sorted(set(names) - set(columns))
    if unknown:
        raise InputError(
            "names of columns", expected="names for image and label", found=", ".join(unknown), fix="leave these out"
        )
    if lone_split not in ORDER:
        raise InputError("lone split", expected=", ".join(ORDER), found=lone_split, fix="type one of these")
    if min(validation_share, test_share) <= 0 or validation_share + test_share >= 1:
        raise InputError(
            "shares of the splits",
            expected="both above 0, less than 1 together",
            found=f"validation {validation_share}, test {test_share}",
            fix="type for example --validation_share 0.15 --test_share 0.15",
        )
    return {column: name for column, name in names.items() if name}


def _named_splits(parts: Mapping[str, reading.Part], lone_split: str, report: Report) -> dict[str, reading.Part]:
    """Gives each part of a source its canonical split name, and each row a name."""
    parts = {
        name: part if part.where else part._replace(where=_where(name, part.rows)) for name, part in parts.items()
    }
    known: dict[str, list[str]] = {}
    for name in parts:
        known.setdefault(split_name(name) or "", []).append(name)
    doubled = next((raw for name, raw in known.items() if name and len(raw) > 1), None)
    if doubled:
        raise InputError(
            "splits", expected="each split once", found=f"{' and '.join(doubled)} mean the same", fix="rename one"
        )
    only = next((name for name in parts if len(parts) == 1 and split_name(name) in (None, "train")), None)
    if lone_split != "train":
        chosen = {lone_split: known[lone_split][0] if lone_split in known else only}
    elif only is not None:
        chosen = {"train": only}
    else:
        chosen = {split: known[split][0] if split in known else None for split in ORDER}
    if chosen.get(lone_split) is None:
        raise InputError(
            "splits",
            expected=f"a {lone_split} split, or no splits",
            found=", ".join(parts),
            fix=f"rename one of them to {lone_split}, or give the file of one split as the dataset",
        )
    named = {split: parts[raw] for split, raw in chosen.items() if raw is not None}
    for raw in known.get("", []):
        if raw in chosen.values():
            report.add("note", f"split {raw}", "", found=f"read as {lone_split}")
        else:
            report.add(
                "warning",
                f"split {raw}",
                "",
                expected="train, validation or test",
                found=f"{len(parts[raw].rows)} rows that are not used",
                fix="rename the split if it is to be used",
            )
    return named


def _where(split: str, rows: Dataset) -> list[str]:
    """Names the rows of a split: by the column that an earlier load made, or by number."""
    if rows.features.get("source_row") == Value("string"):
        return [str(text) for text in _values(rows, "source_row")]
    return [f"{split}:{number}" for number in range(len(rows))]


def _values(rows: Dataset, column: str, dtype: type | None = None) -> Any:
    """One column as a list, or as an array of the type asked for."""
    values = rows.with_format(None).select_columns([column])[:][column]
    return values if dtype is None else np.asarray(values, dtype=dtype)


def _rows(
    part: reading.Part,
    split: str,
    opened: reading.Opened,
    names: Mapping[str, str],
    split_by: str | None,
    report: Report,
) -> _Rows:
    """Finds image, label and group of each row of one split, and what is wrong with them."""
    rows = part.rows.with_format(None)
    where = list(part.where or ())
    image, label = pick(rows.features, names, split)
    others = [name for name in rows.features if name not in (image, label, "image", "label", "source_row")]
    if split_by is not None and split_by not in others:
        raise InputError(
            f"column {split_by} to split by",
            expected="a column of the dataset besides image and label",
            found=", ".join(others) or "no other column",
            fix="type one of these names, or leave --split_by out",
        )
    unused = [name for name in rows.column_names if name not in (image, label, split_by, "source_row", "split")]
    if unused:
        report.add("note", "dataset", "", found=f"columns that are not used: {', '.join(unused)}")
    feature = rows.features[image]
    texts = label_texts(label, rows.features[label], _values(rows, label), where, report)
    keep = [text is not None for text in texts]
    images: Dataset | list[str]
    if is_text(feature) and opened.kind == "hub":
        raise InputError(f"column {image}", expected="pictures", found="text", fix="type --image_column NAME")
    if is_text(feature) and part.folder is not None:
        paths = tables.resolve(_values(rows, image), where, part.folder, report)
        keep = [kept and path is not None for kept, path in zip(keep, paths, strict=True)]
        _tell_repeats(paths, texts, where, keep, report)
        images = [str(path or "") for path in paths]
        root = opened.root.resolve() if opened.root else part.folder
        where = [path.relative_to(root).as_posix() if path else row for path, row in zip(paths, where, strict=True)]
    else:
        pictures = rows.select_columns([image])
        images = (pictures.rename_column(image, "image") if image != "image" else pictures).cast_column(
            "image", Image()
        )
    groups = None
    if split_by is not None:
        groups = ["" if value is None else str(value) for value in _values(rows, split_by)]
        empty = [row for row, group in zip(where, groups, strict=True) if not group.strip()]
        if empty:
            report.add(
                "error",
                empty[0],
                split_by,
                expected="a group in every row, since rows are split by it",
                found=f"{len(empty)} row(s) without one",
                fix="fill the column",
            )
    declared = list(rows.features[label].names) if isinstance(rows.features[label], ClassLabel) else None
    return _Rows(images, texts, where, groups, keep, declared)


def _tell_repeats(
    paths: Sequence[Path | None], texts: Sequence[str | None], where: Sequence[str], keep: list[bool], report: Report
) -> None:
    """Tells of files that a table lists more than once; with two labels they are not kept."""
    seen: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        if path is not None and texts[row] is not None:
            seen.setdefault(os.path.realpath(path), []).append(row)
    for rows in seen.values():
        if len(rows) == 1:
            continue
        told = sorted({str(texts[row]) for row in rows})
        conflict = len(told) > 1
        report.add(
            "error" if conflict else "warning",
            " and ".join(where[row] for row in rows[:3]),
            "label" if conflict else "image",
            expected="one row, and one label, for each file",
            found=f"{Path(str(paths[rows[0]])).name} listed {len(rows)} times, as {', '.join(told)}",
            fix="remove the wrong rows",
        )
        for row in rows if conflict else ():
            keep[row] = False


def _canonical(part: _Rows, label_names: list[str], split_by: str | None) -> Dataset:
    """Builds the canonical columns of one split, of the rows that are kept. Pictures are not copied."""
    kept = [row for row, wanted in enumerate(part.keep) if wanted]
    feature = ClassLabel(names=label_names)
    number = {name: position for position, name in enumerate(label_names)}
    columns: dict[str, tuple[list[Any], Any]] = {
        "label": ([number.get(text or "", 0) for text in part.texts], feature),  # 0: of rows that are not kept
        "source_row": (part.source_rows, Value("string")),
    }
    if split_by is not None and part.groups is not None:
        columns[split_by] = (part.groups, Value("string"))
    if isinstance(part.images, Dataset):
        rows = part.images
        for name, (values, kind) in columns.items():
            rows = rows.add_column(name, values, feature=kind)
        return rows if len(kept) == len(rows) else rows.select(kept)
    return Dataset.from_dict(
        {"image": [part.images[row] for row in kept]}
        | {name: [values[row] for row in kept] for name, (values, _) in columns.items()},
        features=Features({"image": Image()} | {name: kind for name, (_, kind) in columns.items()}),
    )


def _fingerprint(dataset: DatasetDict) -> str:
    """Names the content cheaply: labels, and name or length of each picture; the pixels are not read."""
    digest = hashlib.sha256()
    for split in ORDER:  # their names are not told: a source without splits may be read as train or as test
        rows = dataset.get(split, ())
        if not len(rows):
            continue
        digest.update(f"{len(rows)} {labels(dataset)}".encode())
        digest.update(_values(rows, "label", int).astype("<i8").tobytes())
        stored = rows.data.column("image")
        lengths = pc.fill_null(pc.binary_length(pc.struct_field(stored, "bytes")), -1)
        paths = pc.fill_null(pc.struct_field(stored, "path"), "")
        for length, path in zip(lengths.to_pylist(), paths.to_pylist(), strict=True):
            if length < 0:
                length = os.path.getsize(path) if os.path.isfile(path) else -1
            digest.update(f"{length} {os.path.basename(path)}\n".encode())
    return digest.hexdigest()[:16]


def _cut_missing(
    dataset: DatasetDict, split_by: str | None, validation_share: float, test_share: float, seed: int, report: Report
) -> DatasetDict:
    """Cuts the splits that are missing from train, and tells how."""
    shares = {"test": test_share, "validation": validation_share}
    missing = {split: share for split, share in shares.items() if split not in dataset}
    train = dataset["train"]
    if missing and len(train):
        groups = _values(train, split_by) if split_by is not None else None
        # Equal files go to one split, as one row: cut apart, they would be a leak.
        first = _first_copies(train) if groups is None else np.arange(len(train))
        units = np.unique(first)
        rows = cut(_values(train, "label", int)[units], missing, seed, groups)
        rows = {split: np.flatnonzero(np.isin(first, units[chosen])) for split, chosen in rows.items()}
        if len(units) < len(train):
            report.add(
                "note",
                "dataset",
                "image",
                found=f"{len(train) - len(units)} copies of pictures, kept in one split each",
            )
        report.cut = [split for split in ORDER if split in missing]
        dataset = DatasetDict(dict(dataset) | {split: train.select(numbers) for split, numbers in rows.items()})
        how = f"groups of {split_by} kept whole" if split_by else "in each class's proportion"
        sizes = " and ".join(f"{split} ({len(rows[split])} rows)" for split in missing)
        report.add("note", "dataset", "", found=f"{sizes} cut from train's {len(train)} rows, {how}, seed {seed}")
        for split, share in missing.items():
            got = len(rows[split]) / len(train)
            if not len(rows[split]) or split_by and not share / 2 <= got <= share * 2:
                reason = "groups are large" if split_by else "rows are few"
                report.add(
                    "warning" if len(rows[split]) else "error",
                    f"split {split}",
                    split_by or "label",
                    expected=f"about {share:.0%} of the rows",
                    found=f"{len(rows[split])} of {len(train)}: {reason}",
                    fix="add photos" if split_by is None else "give the splits yourself",
                )
    if split_by is not None:
        _tell_shared_groups(dataset, split_by, report)
    return dataset


def _first_copies(rows: Dataset) -> np.ndarray:
    """Gives for each row the number of the first row whose encoded picture is the same (rows,)."""
    raw = rows.select_columns(["image"]).cast_column("image", Image(decode=False))
    sizes = [_size(source) for batch in raw.iter(_BATCH) for source in batch["image"]]
    often = {size for size, count in Counter(sizes).items() if count > 1}
    seen: dict[bytes, int] = {}
    first = np.arange(len(rows))
    number = 0
    for batch in raw.iter(_BATCH):
        for source in batch["image"]:
            if sizes[number] in often:  # only these can be equal: most files need not be read
                content = source["bytes"] if source["bytes"] is not None else Path(source["path"]).read_bytes()
                first[number] = seen.setdefault(hashlib.blake2b(content, digest_size=16).digest(), number)
            number += 1
    return first


def _size(source: Mapping[str, Any] | None) -> int:
    """Length of an encoded picture in bytes; below 0 when there is none."""
    if source is None or source["bytes"] is None and not os.path.isfile(source["path"] or ""):
        return -1
    return len(source["bytes"]) if source["bytes"] is not None else os.path.getsize(source["path"])


def _tell_shared_groups(dataset: DatasetDict, split_by: str, report: Report) -> None:
    groups = {split: set(_values(rows, split_by)) for split, rows in dataset.items()}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = sorted(groups.get(first, set()) & groups.get(second, set()))
        if shared:
            report.add(
                "error",
                f"splits {first} and {second}",
                split_by,
                expected="no group in two splits",
                found=f"{len(shared)} group(s) in both, the first: {cell(shared[0])}",
                fix="remove them from one split, or give one split and have the others cut",
            )
