"""Which columns of a dataset hold the picture and the label, and how its classes are called."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Features, Image, LargeList, List, Value

from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell

IMAGE_COLUMNS = ("image", "file_name", "filename", "path", "image_path", "file")
LABEL_COLUMNS = ("label", "labels", "class", "category")
# What programs write for an empty cell.
MISSING = {"", "-", "?", "#n/a", "<na>", "n/a", "na", "nan", "nil", "none", "null", "undefined"}
_GENERIC = re.compile(r"((label|class|category)[ _-]?)?\d+", re.IGNORECASE)


def pick(features: Features, names: Mapping[str, str], split: str) -> tuple[str, str]:
    """Chooses the columns of pictures and of labels: those that are named, typed so, or called so.

    Args:
        features: Columns of the source.
        names: "image" or "label" -> the column that the user names.
        split: For messages.

    Raises:
        InputError: One cannot be told.
    """
    for wanted, name in names.items():
        _refuse_missing(features, name, wanted, f"{wanted}_column", split)
    typed = [name for name, feature in features.items() if isinstance(feature, Image)]
    image = names.get("image") or (typed[0] if len(typed) == 1 else None)
    image = image or next((name for name in IMAGE_COLUMNS if name in features and may_be_image(features[name])), None)
    if image is None or not may_be_image(features[image]):
        raise InputError(
            f"column of pictures (split {split})",
            expected=f"one column of type Image, or one named {', '.join(IMAGE_COLUMNS)}",
            found=", ".join(features) or "no column" if image is None else f"{image}: {cell(str(features[image]))}",
            fix="type --image_column NAME",
        )
    classed = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    guesses = [*LABEL_COLUMNS, *(classed if len(classed) == 1 else [])]
    label = names.get("label") or next((name for name in guesses if name in features and name != image), None)
    if label is None:
        raise InputError(
            f"column of labels (split {split})",
            expected=f"a column named {', '.join(LABEL_COLUMNS)}, or one ClassLabel",
            found=", ".join(features) or "no column",
            fix="type --label_column NAME with the column that holds the class",
        )
    return image, label


def pick_attributes(
    features: Features, names: Mapping[str, str], attributes: Sequence[str], split: str
) -> tuple[str, list[str]]:
    """Chooses the column of pictures, and checks that the columns of attributes are there; see `pick`."""
    for name in attributes:
        _refuse_missing(features, name, "attribute", "label_columns", split, attributes)
    image, _ = pick(features, {**names, "label": attributes[0]}, split)
    taken = sorted({image, "image", "source_row"} & set(attributes))
    if taken or len(set(attributes)) < len(attributes):
        raise InputError(
            "--label_columns " + " ".join(attributes),
            expected="columns of labels, each once",
            found=f"the column of pictures or of row names: {', '.join(taken)}" if taken else "one twice",
            fix="leave it out, or rename the column",
        )
    return image, list(attributes)


def _refuse_missing(
    features: Features, name: str, wanted: str, setting: str, split: str, typed: Sequence[str] = ()
) -> None:
    if name not in features:
        near = difflib.get_close_matches(name, list(features), 1)
        if near and typed:  # the others that were typed stay
            near = [" ".join(near[0] if other == name else other for other in typed)]
        raise InputError(
            f"column {name} for the {wanted} (split {split})",
            expected="a column of the dataset",
            found=", ".join(features) or "no column",
            fix=f"type --{setting} {near[0]}" if near else f"type --{setting} NAME with one of these",
        )


def is_list(feature: Any) -> bool:
    return isinstance(feature, List | LargeList)


def is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string", "string_view")


def may_be_image(feature: Any) -> bool:
    binary = isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")
    return isinstance(feature, Image) or is_text(feature) or binary or isinstance(feature, dict) and "bytes" in feature


def label_texts(
    column: str, feature: Any, values: Sequence[Any], where: Sequence[str], report: Report
) -> list[str | None]:
    """Gives each label as the text of its class; None, and an error in the report, where there is none.

    Args:
        column: Name of the column.
        feature: Its type in `datasets`.
        values: Its values.
        where: How each row is named in a finding.
        report: Is added to.

    Raises:
        InputError: The column holds no single labels.
    """
    if is_list(feature):
        raise InputError(
            f"column {column}",
            expected="one label a row",
            found="lists of labels",
            fix=f"type --label_columns {column}, or --label_column NAME with a column of single labels",
        )
    if not isinstance(feature, ClassLabel | Value):
        raise InputError(
            f"column {column}", expected="text, numbers or a ClassLabel", found=cell(str(feature)), fix="name another"
        )
    texts: list[str | None] = []
    for value, row in zip(values, where, strict=True):
        text = None
        if isinstance(feature, ClassLabel):
            text = feature.names[value] if value is not None and 0 <= value < len(feature.names) else None
        elif isinstance(value, float):
            if value.is_integer():  # pandas turns whole numbers beside an empty cell into decimal ones
                text = str(int(value))
            elif np.isfinite(value):
                raise InputError(f"column {column}", expected="classes", found=f"{value} in {row}", fix="name another")
        elif value is not None and str(value).strip():
            text = str(value)
        if text is None:
            report.add(
                "error",
                row,
                column,
                expected="a label",
                found="nothing" if value is None else repr(value),
                fix="fill in the label, or remove the row",
            )
        texts.append(text)
    return texts


def attribute_texts(
    column: str, feature: Any, values: Sequence[Any], where: Sequence[str], separator: str | None, report: Report
) -> tuple[list[Any], bool]:
    """Gives each value of an attribute as text, or as a list of texts; None where it is not known.

    Args:
        column: Name of the column.
        feature: Its type in `datasets`.
        values: Its values.
        where: How each row is named in a finding.
        separator: What stands between the labels of a cell of text; None when a cell is one label.
        report: Is told of values that are not labels, and of how many are missing.

    Returns:
        The texts, and whether they are lists: any number of labels a row, where a text is one of several that exclude
        each other.

    Raises:
        InputError: The column holds no labels.
    """
    many = is_list(feature) or separator is not None and is_text(feature)
    inner = feature.feature if is_list(feature) else feature
    texts: list[Any] = []
    silent = Report({})  # an empty cell is not an error here
    for value, row in zip(values, where, strict=True):
        if value is None or isinstance(value, str) and not value.strip():
            texts.append(None)
        elif many:
            parts = value if is_list(feature) else [part for part in map(str.strip, value.split(separator)) if part]
            told = label_texts(column, inner, parts, [row] * len(parts), report)
            texts.append(list(dict.fromkeys(text for text in told if text is not None)))
        else:
            texts.extend(label_texts(column, inner, [value], [row], silent))
    joined = [text for text in texts if isinstance(text, str) and "|" in text]
    if joined:
        report.add(
            "warning", "dataset", column, expected="one label in a cell",
            found=f"a | in {len(joined)} rows: {joined[0]}",
            fix="if it parts several labels: --label_separator '|'",
        )  # fmt: skip
    missing = sum(text is None for text in texts)
    if missing:
        report.add(
            "note",
            "dataset",
            column,
            found=f"{missing} of {len(texts)} rows ha{'s' if missing == 1 else 've'} no {column}: not known",
        )
    return texts, many


def class_names(
    texts: Mapping[str, Sequence[str | None]], declared: Mapping[str, list[str]], report: Report, column: str = "label"
) -> list[str]:
    """Makes one list of class names for all splits.

    Args:
        texts: Split -> label of each row.
        declared: Split -> names of its ClassLabel, for splits that have one; the first sets the order.
        report: Is told of names that differ between splits, and of names that say nothing.
        column: For messages.
    """
    used = {text for part in texts.values() for text in part if text is not None}
    names: list[str] = next(iter(declared.values()), [])
    for split, other in declared.items():
        if set(other) != set(names):
            odd = sorted(set(other) ^ set(names))
            report.add(
                "error",
                f"split {split}",
                column,
                expected="the same classes in every split",
                found=f"only in one of {next(iter(declared))} and {split}: {cell(', '.join(odd))}",
                fix="give all splits the same ClassLabel names",
            )
        elif other != names:
            report.add("note", f"split {split}", column, found="class names in another order: matched by name")
        names = [*names, *(name for name in other if name not in names)]
    extra = used - set(names)
    numeric = all(re.fullmatch(r"[0-9]+", text) for text in extra)
    names = [*names, *sorted(extra, key=lambda text: (int(text), text) if numeric else (0, text))]
    missing = [name for name in names if name.strip().lower() in MISSING and name in used]
    if missing:
        report.add(
            "warning",
            "dataset",
            column,
            expected="names of classes",
            found=f"perhaps no label, read as a class: {cell(', '.join(missing))}",
            fix="empty these cells if they mean that nothing is known",
        )
    if names and all(_GENERIC.fullmatch(name) for name in names):
        report.add(
            "warning",
            "dataset",
            column,
            expected="names of classes",
            found=f"generic names: {cell(', '.join(names))}",
            fix="give the classes names (ClassLabel, or text in the column), or the model will answer in numbers",
        )
    return names
