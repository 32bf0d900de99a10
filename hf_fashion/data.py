"""Reads photos with labels from anywhere into one form: a `DatasetDict` of train, validation and test with the columns
`image` (Image), `label` (ClassLabel with real names) and `source_row` (text that names the row in its source).

Of attributes there is, in the place of `label`, a column for each: a ClassLabel where its values exclude each other
(a colour), a list of ClassLabel where they do not (tags); null where the value is not known.

Of boxes there are, in the place of `label`, the columns `image_id` and `objects` of `hf_fashion.boxes`.

`load` tells what it saw on the way in a `Report`; `hf_fashion.checks.check` adds what only decoding shows.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, concatenate_datasets

from hf_fashion import boxed, fingerprint, images, reading, tables
from hf_fashion.columns import (
    IMAGE_COLUMNS,
    attribute_texts,
    class_names,
    is_list,
    is_text,
    label_texts,
    pick,
    pick_attributes,
)
from hf_fashion.errors import InputError
from hf_fashion.objects import layout
from hf_fashion.report import Finding, Report
from hf_fashion.splits import ORDER, choose, coverage, cut_missing

__all__ = ["Finding", "Report", "attributes", "box_labels", "labels", "load"]


class _Rows(NamedTuple):
    """One split on its way: every list has one entry a row."""

    images: Dataset | list[str]  # a dataset with the one column `image`, or paths
    texts: dict[str, list[Any]]  # column -> the label of each row, or the list of its labels; None: not known
    many: set[str]  # columns of lists
    source_rows: list[str]
    groups: list[str] | None
    keep: list[bool]
    declared: dict[str, list[str]]  # column -> names of the source's own ClassLabel, where it has one
    carried: Dataset  # the columns that are kept as they are


def load(
    source: str | Path | Dataset | DatasetDict,
    columns: Features,
    *,
    config: str | None = None,
    revision: str | None = None,
    names: Mapping[str, str] | None = None,
    label_columns: Sequence[str] | None = None,
    label_separator: str | None = None,
    merge_labels: bool = False,
    split_by: str | None = None,
    lone_split: str = "train",
    validation_share: float | None = 0.15,
    test_share: float | None = 0.15,
    seed: int = 42,
    box_format: str | None = None,
    on_bad_box: Literal["stop", "clip", "drop"] = "stop",
    limits: images.Limits = images.LIMITS,
) -> tuple[DatasetDict, Report]:
    """Loads a dataset of photos with one label each, with attributes, or with boxes.

    Args:
        source: A Dataset or DatasetDict, "sample", a tree of class folders (with split folders above or not), a folder
            with metadata.csv or .jsonl, a CSV, TSV, JSON-lines or parquet file, a folder made by `save_to_disk` or
            with parquet files, the id of a dataset on the Hub, or `<module of hf_fashion.sources>:<folder>` for raw
            files of a public dataset. Of boxes, besides: a COCO json or a folder with some, a YOLO folder, a folder
            of Pascal VOC.
        columns: The canonical columns: `image` and `label`, or `image` and `objects`. With `image` alone labels are
            taken where there are any, and all other columns (boxes, titles, ...) are carried along as they are:
            `report.carried` names them.
        config: Configuration of a dataset that has several.
        revision: Commit, branch or tag of a dataset on the Hub.
        names: Canonical column -> the column of the source, where it cannot be guessed.
        label_columns: Columns of attributes, each with a label or a list of labels a row, in the place of the one
            label. A source whose label is a list is read so of itself.
        label_separator: What stands between several labels in a cell of text ("|" for `soft|warm`). A column in which
            it stands nowhere holds one label a row.
        merge_labels: Take labels that differ in case, blanks or the form of accents only for one class, called as it
            is spelt most often; the report says which.
        split_by: Column whose groups must not lie in two splits (photos of one item, of one person). It is kept.
        lone_split: What a source without splits is: "train" has the missing splits cut from it; "validation" or
            "test" is given alone and whole, as it is given alone from a source that has it.
        validation_share: Share of train that a missing validation split gets; None: none is cut.
        test_share: Share of train that a missing test split gets; None: none is cut.
        seed: Decides which rows are cut.
        box_format: What the numbers of a box are, one of `boxes.FORMATS`, where they are not x, y, width and height
            in pixels.
        on_bad_box: "stop" leaves the boxes as they are: `hf_fashion.checks.check` tells what is wrong with them.
            "clip" and "drop" mend them as `boxes.mend` does; the report names each that is left out.
        limits: Those of `images.decode`, for the sizes of the pictures.

    Returns:
        The splits, in the order train, validation, test, and what was seen on the way. Rows with an error are not in
        the splits; `report.raise_on_errors()` stops there.

    Raises:
        InputError: Nothing sensible can be loaded.
    """
    names = _check_settings(columns, names or {}, lone_split, validation_share, test_share)
    has_boxes, column_of_boxes = "objects" in columns, names.get("objects", "objects")
    if has_boxes and (label_columns is not None or merge_labels):
        raise InputError(
            "label_columns, merge_labels", expected="none with boxes", found="some",
            fix="leave them out: the class of a box stands in the column objects",
        )  # fmt: skip
    given = source if isinstance(source, str) else str(source) if isinstance(source, Path) else "in hand"
    report = Report({"source": given, "kind": "", "config": config, "revision": None, "license": "unknown"})
    image_columns = [names["image"]] if "image" in names else IMAGE_COLUMNS
    labelled = "label" in columns or "label" in names or bool(label_columns)
    opened = reading.read(source, config, revision, image_columns, report, labels=labelled, boxes=has_boxes)
    report.source |= {"kind": opened.kind, "revision": opened.revision, "license": opened.license or "unknown"}
    chosen = choose({name: len(part.rows) for name, part in opened.parts.items()}, lone_split, report)
    parts = {split: _named_rows(name, opened.parts[name]) for split, name in chosen.items()}
    # Other columns that are kept; None for all.
    carry = [column_of_boxes, "image_id"] if has_boxes else None if "label" not in columns else []
    if has_boxes:
        label_columns = []
        for split, part in parts.items():
            boxed.tell_column(part.rows, column_of_boxes, split)
    if label_columns is None and carry is None and "label" not in names and _has_no_labels(parts, names):
        label_columns = []
    if label_columns is None:
        label_columns = _of_lists(parts, names)
    separators = dict.fromkeys(_separated(parts, label_columns or (), label_separator), label_separator)
    rows = {
        split: _rows(part, split, opened, names, label_columns, separators, split_by, carry, report)
        for split, part in parts.items()
    }
    label_names = _label_names(rows, report)
    if merge_labels:
        label_names = {column: _merged(rows, column, told, report) for column, told in label_names.items()}
    for column in (column for column, found in label_names.items() if label_columns is not None and not found):
        raise InputError(f"column {column}", expected="labels", found="none in any row", fix="leave the column out")
    if has_boxes:
        rows = _with_boxes(rows, column_of_boxes, box_format, on_bad_box, limits, report)
    dataset = DatasetDict({split: _canonical(part, label_names, split_by) for split, part in rows.items()})
    report.source["fingerprint"], report.source["pictures"] = fingerprint.of(dataset, list(label_names), has_boxes)
    if not any(len(part) for part in dataset.values()):
        report.raise_on_errors()
        raise InputError(f"dataset {given}", expected="labelled photos", found="no row", fix="check what it holds")
    if lone_split == "train":
        wanted = {"test": test_share, "validation": validation_share}
        shares = {split: share for split, share in wanted.items() if share is not None}
        told = [boxed.HELD] if has_boxes else list(label_names)
        dataset = cut_missing(dataset, told, split_by, shares, seed, report)
    dataset = DatasetDict({split: dataset[split] for split in ORDER if split in dataset})
    if has_boxes:
        dataset = dataset.remove_columns(boxed.HELD)
        boxed.tell_lacking({s: boxed.class_counts(part) for s, part in dataset.items()}, box_labels(dataset), report)
    for column, class_names_ in label_names.items():
        counts = {split: class_counts(part, column) for split, part in dataset.items()}
        coverage(counts, class_names_, report, column, strict=label_columns is None)
    report.sizes = {split: len(part) for split, part in dataset.items()}
    return dataset, report


def labels(dataset: DatasetDict, column: str = "label") -> list[str]:
    """Gives the class names, in the order of the label numbers."""
    feature = next(iter(dataset.values())).features[column]
    feature = feature.feature if is_list(feature) else feature
    if not isinstance(feature, ClassLabel) or feature.names is None:
        raise InputError(
            f"column {column}", expected="a ClassLabel", found=f"{feature}", fix="load the dataset with data.load"
        )
    return list(feature.names)


def box_labels(dataset: DatasetDict) -> list[str]:
    """Gives the class names of the boxes, in the order of the category numbers."""
    names = layout(next(iter(dataset.values())).features).names
    if names is None:
        raise InputError(
            "categories of the boxes", expected="a ClassLabel", found="numbers", fix="load the dataset with data.load"
        )
    return names


def attributes(dataset: DatasetDict) -> dict[str, bool]:
    """Column of labels -> whether a row may have several of them; `label` alone where there are no attributes."""
    features = next(iter(dataset.values())).features
    inner = {name: feature.feature if is_list(feature) else feature for name, feature in features.items()}
    found = {name: is_list(features[name]) for name, kind in inner.items() if isinstance(kind, ClassLabel)}
    if not found:
        raise InputError(
            "columns of labels",
            expected="a ClassLabel",
            found=", ".join(features),
            fix="load the dataset with data.load",
        )
    return found


def has_lists(dataset: DatasetDict) -> bool:
    """Whether a row may have several labels."""
    return any(attributes(dataset).values())


def class_counts(dataset: Dataset, column: str = "label") -> np.ndarray:
    """Counts the rows of each class (classes,)."""
    feature = dataset.features[column]
    values = _values(dataset, column)
    if is_list(feature):
        feature, values = feature.feature, [value for row in values for value in row or ()]
    known = np.asarray([value for value in values if value is not None], dtype=int)
    return np.bincount(known, minlength=feature.num_classes)


def _of_lists(parts: Mapping[str, reading.Part], names: Mapping[str, str]) -> list[str] | None:
    """The column of labels, where it is one of lists."""
    split, part = next(iter(parts.items()))
    _, label = pick(part.rows.features, names, split)
    return [label] if is_list(part.rows.features[label]) else None


def _has_no_labels(parts: Mapping[str, reading.Part], names: Mapping[str, str]) -> bool:
    split, part = next(iter(parts.items()))
    try:
        pick(part.rows.features, names, split)
    except InputError:
        _pick_image(part.rows.features, names, split)  # says what is wrong, when it is not the labels
        return True
    return False


def _pick_image(features: Features, names: Mapping[str, str], split: str) -> str:
    return pick(features, {**names, "label": next(iter(features))}, split)[0]


def _separated(parts: Mapping[str, reading.Part], columns: Sequence[str], separator: str | None) -> list[str]:
    """The columns of text in which the separator stands in any row of any split."""
    return [
        column
        for column in columns if separator
        for part in parts.values()
        if column in part.rows.features and is_text(part.rows.features[column])
        and any(separator in (value or "") for value in _values(part.rows, column))
    ]  # fmt: skip


def _label_names(rows: Mapping[str, _Rows], report: Report) -> dict[str, list[str]]:
    """Column of labels -> its class names, for all splits."""
    found = {}
    for column in next(iter(rows.values())).texts:
        texts = {
            split: [text for row in part.texts[column] for text in row or ()]
            if column in part.many
            else part.texts[column]
            for split, part in rows.items()
        }
        declared = {split: part.declared[column] for split, part in rows.items() if column in part.declared}
        found[column] = class_names(texts, declared, report, column)
    return found


def folded(name: str) -> str:
    """A label without its case, doubled blanks and the form of its accents; equal for spellings of one word."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _merged(rows: Mapping[str, _Rows], column: str, names: Sequence[str], report: Report) -> list[str]:
    """Spells each label as it is spelt most often, in the rows themselves.

    Returns:
        The names that are left, in the order in which they were.
    """
    each = [_each(row) for part in rows.values() for row in part.texts[column]]
    often = Counter(text for row in each for text in row)
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(folded(name), []).append(name)
    chosen = {name: max(spelt, key=lambda one: often[one]) for spelt in alike.values() for name in spelt}
    for spelt in alike.values():
        others = [f"{name!a} ({often[name]})" for name in spelt if name != chosen[name]]
        if others:
            report.add(
                "warning", "dataset", column, expected="one spelling for each class",
                found=f"merged into {chosen[spelt[0]]!a}, as was asked: {', '.join(others)}",
            )  # fmt: skip
    for part in rows.values():
        part.texts[column][:] = [
            list(dict.fromkeys(chosen[text] for text in row)) if isinstance(row, list) else row and chosen[row]
            for row in part.texts[column]
        ]
    return [name for name in names if chosen[name] == name]


def _each(row: Any) -> list[str]:
    return [] if row is None else row if isinstance(row, list) else [row]


def _with_boxes(
    rows: Mapping[str, _Rows], column: str, box_format: str | None, on_bad_box: str, limits: images.Limits,
    report: Report,
) -> dict[str, _Rows]:  # fmt: skip
    """Gives each split `image_id`, canonical `objects` and their classes in the place of the columns carried."""
    parts = {}
    for split, part in rows.items():
        held = part.carried.add_column("source_row", part.source_rows, feature=Value("string"))
        if boxed.needs_pictures(box_format, on_bad_box):
            pictures = part.images
            if not isinstance(pictures, Dataset):
                pictures = Dataset.from_dict({"image": pictures}, features=Features({"image": Image()}))
            held = concatenate_datasets([pictures, held], axis=1)
        parts[split] = held
    made = boxed.convert(
        parts, report, box_format=box_format, on_bad_box=on_bad_box, column=column, limits=limits
    )  # fmt: skip
    kept = {s: boxed.with_classes(part.select_columns(["image_id", "objects"])) for s, part in made.items()}
    return {split: part._replace(carried=kept[split]) for split, part in rows.items()}


def _check_settings(
    columns: Features,
    names: Mapping[str, str],
    lone_split: str,
    validation_share: float | None,
    test_share: float | None,
) -> dict[str, str]:
    if set(columns) not in ({"image", "label"}, {"image", "objects"}, {"image"}):
        raise InputError(
            "columns", expected="image and label, or image and objects", found=", ".join(columns),
            fix="pass the COLUMNS of tasks.classify or tasks.detect",
        )  # fmt: skip
    known = {"image", "objects" if "objects" in columns else "label"}
    unknown = sorted(set(names) - known)
    if unknown:
        raise InputError(
            "names of columns", expected=f"names for {' and '.join(sorted(known))}", found=", ".join(unknown),
            fix="leave these out",
        )  # fmt: skip
    if lone_split not in ORDER:
        raise InputError("lone split", expected=", ".join(ORDER), found=lone_split, fix="type one of these")
    shares = [share for share in (validation_share, test_share) if share is not None]
    if min(shares, default=1) <= 0 or sum(shares) >= 1:
        raise InputError(
            "shares of the splits",
            expected="both above 0, less than 1 together",
            found=f"validation {validation_share}, test {test_share}",
            fix="type for example --validation_share 0.15 --test_share 0.15",
        )
    return {column: name for column, name in names.items() if name}


def _named_rows(name: str, part: reading.Part) -> reading.Part:
    """Gives each row of a part a name: the one that it has, that of an earlier load, or its number."""
    if part.where:
        return part
    if part.rows.features.get("source_row") == Value("string"):
        return part._replace(where=[str(text) for text in _values(part.rows, "source_row")])
    return part._replace(where=[f"{name}:{number}" for number in range(len(part.rows))])


def _values(rows: Dataset, column: str, dtype: type | None = None) -> Any:
    """One column as a list, or as an array of the type asked for."""
    values = rows.with_format(None).select_columns([column])[:][column]
    return values if dtype is None else np.asarray(values, dtype=dtype)


def _rows(
    part: reading.Part,
    split: str,
    opened: reading.Opened,
    names: Mapping[str, str],
    label_columns: Sequence[str] | None,
    separators: Mapping[str, str | None],
    split_by: str | None,
    carry: Sequence[str] | None,
    report: Report,
) -> _Rows:
    """Finds image, label and group of each row of one split, and what is wrong with them."""
    rows = part.rows.with_format(None)
    where = list(part.where or ())
    if label_columns is None:
        image, label = pick(rows.features, names, split)
        told = {"label": label}
    elif not label_columns:
        image, told = _pick_image(rows.features, names, split), {}
    else:
        image, chosen = pick_attributes(rows.features, names, label_columns, split)
        told = {name: name for name in chosen}
    canonical = ("image", "label") if told else ("image",)  # without labels it is a column as others
    others = [name for name in rows.features if name not in (image, *canonical, "source_row", *told.values())]
    if split_by is not None and split_by not in others:
        raise InputError(
            f"column {split_by} to split by",
            expected="a column of the dataset besides image and label",
            found=", ".join(others) or "no other column",
            fix="type one of these names, or leave --split_by out",
        )
    used = (image, *told.values(), split_by, "source_row", "split")
    unused = [name for name in rows.column_names if name not in used]
    carried = [name for name in unused if (name not in canonical if carry is None else name in carry)]
    report.carried += [name for name in carried if name not in report.carried]
    if len(carried) < len(unused):
        left = ", ".join(name for name in unused if name not in carried)
        report.add("note", "dataset", "", found=f"columns that are not used: {left}")
    feature = rows.features[image]
    texts: dict[str, list[Any]] = {}
    many = set()
    for column, name in told.items():
        if label_columns is None:
            texts[column] = label_texts(name, rows.features[name], _values(rows, name), where, report)
            continue
        texts[column], lists = attribute_texts(
            name, rows.features[name], _values(rows, name), where, separators.get(name), report
        )
        many |= {column} if lists else set()
    keep = [label_columns is not None or text is not None for text in next(iter(texts.values()), [""] * len(rows))]
    images: Dataset | list[str]
    if is_text(feature) and opened.kind == "hub":
        raise InputError(f"column {image}", expected="pictures", found="text", fix="type --image_column NAME")
    if is_text(feature) and part.folder is not None:
        paths = tables.resolve(_values(rows, image), where, part.folder, report)
        keep = [kept and path is not None for kept, path in zip(keep, paths, strict=True)]
        _tell_repeats(paths, list(zip(*texts.values(), strict=True)) or [()] * len(rows), where, keep, report)
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
    kinds = {column: rows.features[name] for column, name in told.items()}
    kinds = {column: kind.feature if is_list(kind) else kind for column, kind in kinds.items()}
    declared = {column: list(kind.names) for column, kind in kinds.items() if isinstance(kind, ClassLabel)}
    return _Rows(images, texts, many, where, groups, keep, declared, rows.select_columns(carried))


def _tell_repeats(
    paths: Sequence[Path | None], texts: Sequence[tuple[Any, ...]], where: Sequence[str], keep: list[bool],
    report: Report,
) -> None:  # fmt: skip
    """Tells of files that a table lists more than once; with two labels they are not kept."""
    seen: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        if path is not None and texts[row] != (None,):
            seen.setdefault(os.path.realpath(path), []).append(row)
    for rows in seen.values():
        if len(rows) == 1:
            continue
        told = sorted({", ".join(map(str, texts[row])) for row in rows})
        conflict = len(told) > 1
        report.add(
            "error" if conflict else "warning",
            " and ".join(where[row] for row in rows[:3]),
            "label" if conflict else "image",
            expected="one row, and one label, for each file",
            found=f"{Path(str(paths[rows[0]])).name} listed {len(rows)} times, as {' and '.join(told)}",
            fix="remove the wrong rows",
        )
        for row in rows if conflict else ():
            keep[row] = False


def _canonical(part: _Rows, label_names: Mapping[str, list[str]], split_by: str | None) -> Dataset:
    """Builds the canonical columns of one split, of the rows that are kept. Pictures are not copied."""
    kept = [row for row, wanted in enumerate(part.keep) if wanted]
    columns: dict[str, tuple[list[Any], Any]] = {}
    for column, names in label_names.items():
        number: dict[str | None, int] = {name: position for position, name in enumerate(names)}
        texts, feature = part.texts[column], ClassLabel(names=names)
        if column in part.many:
            lists = [None if row is None else [number[text] for text in row] for row in texts]
            columns[column] = lists, List(feature)
        else:
            columns[column] = [number.get(text) for text in texts], feature
    columns["source_row"] = part.source_rows, Value("string")
    if split_by is not None and part.groups is not None:
        columns[split_by] = (part.groups, Value("string"))
    if isinstance(part.images, Dataset):
        rows = part.images
        for name, (values, kind) in columns.items():
            rows = rows.add_column(name, values, feature=kind)
        if part.carried.column_names:
            rows = concatenate_datasets([rows, part.carried], axis=1)
        return rows if len(kept) == len(rows) else rows.select(kept)
    made = Dataset.from_dict(
        {"image": [part.images[row] for row in kept]}
        | {name: [values[row] for row in kept] for name, (values, _) in columns.items()},
        features=Features({"image": Image()} | {name: kind for name, (_, kind) in columns.items()}),
    )
    if part.carried.column_names:
        made = concatenate_datasets([made, part.carried.select(kept)], axis=1)
    return made
