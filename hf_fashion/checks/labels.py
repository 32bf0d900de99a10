"""What is wrong with the labels of a dataset as such: their names, how often each occurs, that they fit each other."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, DatasetDict

from hf_fashion import data
from hf_fashion.columns import is_list
from hf_fashion.report import Report, cell

FEW = 10  # photos of a class in train, under which little can be learned of it or said about it
_UNIQUE = 10  # rows or classes below which a share of unique labels says nothing
_RARE = 20  # a label is rare beside one that occurs so many times as often
_SHORT = 4  # letters; shorter names are often one letter apart
_LONG = 100  # letters; of a name of n letters n rests are kept: one of 20,000, read as a label, took a gigabyte
_SHOWN = 8  # classes that one finding names
# Garments one letter apart: neither is the other misspelt.
_GARMENTS = frozenset(
    {
        *("boa", "boas", "boot", "boots", "cap", "cape", "capes", "caps", "coat", "coats", "shirt", "shirts"),
        *("short", "shorts", "skirt", "skirts", "tee", "tees", "tie", "ties"),
    }
)


def columns(dataset: DatasetDict, report: Report) -> list[str]:
    """The columns that are labels, and not carried along; none for pictures alone, or with boxes."""
    features = next(iter(dataset.values())).features
    kinds = {name: feature.feature if is_list(feature) else feature for name, feature in features.items()}
    return [name for name, kind in kinds.items() if isinstance(kind, ClassLabel) and name not in report.carried]


def tell_unchecked(dataset: DatasetDict, report: Report) -> None:
    """Notes that no labels were looked at, where there are none (those of boxes are)."""
    if columns(dataset, report) or "objects" in next(iter(dataset.values())).features:
        return
    others = [cell(name, 30) for name in report.carried]
    told = f"; columns: {', '.join(others[:_SHOWN])}" + f" and {len(others) - _SHOWN} more" * (len(others) > _SHOWN)
    hint = f"{told}; --label_columns NAME" * bool(others)
    report.add("note", "dataset", "", found=f"labels were not checked: no label column found{hint}")


def tell_names(dataset: DatasetDict, column: str, report: Report) -> bool:
    """Tells of splits whose ClassLabel has other names than the first one's, or in another order.

    (`data.load` brings both into line; this is for datasets that come from elsewhere.)

    Returns:
        Whether there are such.
    """
    names = {split: _names(rows.features[column]) for split, rows in dataset.items()}
    first = next(iter(names))
    others = [split for split in names if names[split] != names[first]]
    for split in others:
        strangers = sorted(set(names[split]) ^ set(names[first]))
        report.add(
            "error",
            f"split {split}",
            column,
            expected=f"the classes of {first}, in the same order",
            found=f"only in one of the two: {cell(', '.join(strangers))}" if strangers else "another order",
            fix="load the dataset with data.load, or cast_column to one ClassLabel in every split",
        )
    return bool(others)


def tell_unique(counts: Mapping[str, np.ndarray], column: str, report: Report) -> None:
    """Tells of a column in which nearly every row has a label of its own."""
    total = np.sum(list(counts.values()), axis=0)
    classes = np.count_nonzero(total)
    if classes >= _UNIQUE and classes * 2 > total.sum():
        report.add(
            "error",
            "dataset",
            column,
            expected="classes of several photos each",
            found=f"{classes} classes in {total.sum()} rows: is this the right column?",
            fix="type --label_column NAME with the column that holds the class",
        )


def tell_few(
    counts: Mapping[str, np.ndarray], names: Sequence[str], column: str, report: Report, things: str = "photos"
) -> None:
    """Warns of classes that have few photos (or boxes: `things`) where it is learned; of none others tell."""
    split = "train" if "train" in counts else next(iter(counts))
    rare = [n for n in np.argsort(counts[split], kind="stable").tolist() if 0 < counts[split][n] < FEW]
    if rare:
        told = [f"{cell(names[number], 30)} ({counts[split][number]})" for number in rare[:_SHOWN]]
        report.add(
            "warning",
            f"split {split}",
            column,
            expected=f"{FEW} {things} or more of every class",
            found=f"fewer of {len(rare)} of {np.count_nonzero(counts[split])} classes: {', '.join(told)}"
            + f" and {len(rare) - _SHOWN} more" * (len(rare) > _SHOWN),
            fix=f"add {things}, or put classes together",
        )


def tell_spellings(counts: Mapping[str, np.ndarray], names: Sequence[str], column: str, report: Report) -> None:
    """Warns of class names that differ in case, blanks or the form of accents only, or that look like a slip of the
    pen: one letter beside a far more frequent name."""
    alike: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        alike.setdefault(data.folded(name), []).append(number)
    for spellings in alike.values():
        if len(spellings) > 1:
            report.add(
                "warning",
                "dataset",
                column,
                expected="one spelling for each class",
                found=f"{len(spellings)} classes: {', '.join(ascii(names[number]) for number in spellings)}",
                fix="if they are one class, give them one name",
            )
    total = np.sum(list(counts.values()), axis=0)
    often = {name: int(total[numbers].sum()) for name, numbers in alike.items()}
    for rare, frequent in _neighbours(often):
        report.add(
            "warning",
            "dataset",
            column,
            expected="one spelling for each class",
            found=f"{rare!a} ({often[rare]}) is one letter from {frequent!a} ({often[frequent]})",
            fix="if they are one class, give them one name",
        )


def _neighbours(often: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of a rare name and a frequent one that differ by one letter: more, less, wrong, or moved.

    Two such names have a common rest when a letter is taken out of either (or one is such a rest of the other), so
    that not every name needs to be compared with every other.
    """
    rests: dict[str, set[str]] = defaultdict(set)
    for name in often:
        if _SHORT <= len(name) <= _LONG:
            for rest in {name, *(name[:place] + name[place + 1 :] for place in range(len(name)))}:
                rests[rest].add(name)
    found = {
        (rare, frequent)
        for together in rests.values() if len(together) > 1
        for rare in together
        for frequent in together
        if 0 < often[rare] * _RARE <= often[frequent] and not _both_real(rare, frequent)
    }  # fmt: skip
    return sorted(found)


def _both_real(one: str, two: str) -> bool:
    """Whether the names differ in a word that is right in both, or in a figure."""
    differing = {*one.split()} ^ {*two.split()}
    return differing <= _GARMENTS or any(char.isdigit() for word in differing for char in word)


def _names(feature: Any) -> list[str]:
    inner = feature.feature if is_list(feature) else feature
    return list(inner.names or ()) if isinstance(inner, ClassLabel) else []


def called(label: Any, names: Sequence[str]) -> str:
    """A label of a row in words."""
    if label is None:
        return "unknown"
    return cell(", ".join(names[number] for number in (label if isinstance(label, list) else [label])) or "none", 25)
