"""All that is wrong with a dataset of labelled photos, told at once before the first training step."""

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict, Image
from tqdm.auto import tqdm

from hf_fashion import data, images
from hf_fashion.errors import InputError
from hf_fashion.report import PICTURE, Report, cell
from hf_fashion.splits import coverage

SMALLEST_SIDE = 16  # pixels
LARGEST_ASPECT = 20  # longer side / shorter side
_BAR_FROM = 500  # pictures
_BATCH = 64  # rows in memory at once
_FEW = 10  # rows or classes below which a share of unique labels says nothing


class _Look(NamedTuple):
    """What decoding one picture showed; `reason` is why it cannot be read, "" when it can."""

    digest: bytes
    width: int
    height: int
    reason: str


class _Place(NamedTuple):
    split: str
    row: str
    labels: tuple[Any, ...] = ()  # of each column of labels: a number, a list of numbers, None

    def __str__(self) -> str:
        return self.row if self.row.startswith(f"{self.split}:") else f"{self.split}: {self.row}"


def check(dataset: DatasetDict, report: Report, *, on_bad_image: str = "stop") -> Report:
    """Looks at every picture and label once; of several processes the first one does, and tells the others.

    Errors: unreadable pictures, equal pictures in two splits (a leak), classes without a row in train, one class only,
    a column of labels that cannot be one. Warnings: equal pictures with two labels, tiny or very long pictures,
    classes with few rows, class names that are spelt in several ways.

    Args:
        dataset: As `data.load` gives it, or `streaming.load`: of a stream the labels are counted, and its pictures are
            looked at while they are learned from; see `after_training`.
        report: Is added to.
        on_bad_image: "stop" makes unreadable pictures errors; "drop" makes them warnings and records them in
            `report.left_out`, and `drop` takes them out of the dataset.

    Returns:
        The report. `report.raise_on_errors()` stops when it holds errors.

    Raises:
        InputError: `on_bad_image` is neither of the two.
    """
    if on_bad_image not in ("stop", "drop"):
        raise InputError("on_bad_image", expected="stop or drop", found=on_bad_image, fix="type one of the two")
    if not torch.distributed.is_initialized():
        return _check(dataset, report, on_bad_image)
    if PartialState().is_main_process:
        _check(dataset, report, on_bad_image)
    [found] = broadcast_object_list([vars(report)])
    vars(report).update(found)
    return report


def _check(dataset: DatasetDict, report: Report, on_bad_image: str) -> Report:
    names = {column: data.labels(dataset, column) for column in data.attributes(dataset)}
    single = list(data.attributes(dataset).items()) == [("label", False)]
    first: dict[bytes, _Place] = {}
    here = {split: rows for split, rows in dataset.items() if isinstance(rows, Dataset)}  # the others are streams
    total = sum(len(rows) for rows in here.values())
    readable: dict[str, list[int]] = {split: [] for split in here}
    with tqdm(total=total, desc="checking pictures", unit="picture", disable=total < _BAR_FROM) as bar:
        for split, rows in here.items():
            for number, (place, look) in enumerate(_looks(split, rows, list(names))):
                bar.update()
                if look.reason:
                    report.add("error", str(place), "image", expected=PICTURE, found=look.reason, fix=_DROP)
                else:
                    readable[split].append(number)
                    _tell_shape(place, look, report)
                    _tell_equal(place, first.setdefault(look.digest, place), names, report)
    kept = {**dataset, **{split: rows.select(readable[split]) for split, rows in here.items()}}
    if on_bad_image == "drop":
        report.leave_out_pictures()
    for column, class_names in names.items():
        counts = {split: _counts(rows, column) for split, rows in kept.items()}
        if single:
            _tell_label_column(counts, column, report)
        _tell_spellings(class_names, column, report)
        if on_bad_image == "stop":  # unreadable rows stop the run by themselves; count the dataset as it stands
            counts = {split: _counts(rows, column) for split, rows in dataset.items()}
        coverage(counts, class_names, report, column, strict=single)
    report.sizes = {split: len(rows) for split, rows in (kept if on_bad_image == "drop" else dataset).items()}
    for split, size in report.sizes.items():
        if size == 0 and len(dataset[split]):
            report.add("error", f"split {split}", "", expected="photos", found="none that can be read", fix="add some")
    return after_training(dataset, report)  # of a run that is resumed, the training up to there


_DROP = "mend or remove the file, or type --on_bad_image drop"


def drop(dataset: DatasetDict, report: Report) -> DatasetDict:
    """Takes the rows out that `check(..., on_bad_image="drop")` recorded in `report.left_out`."""
    left_out = {row["where"] for row in report.left_out}
    kept = dict(dataset)
    for split, rows in dataset.items():
        if not isinstance(rows, Dataset):
            continue  # a stream passes them over itself
        places = [str(_Place(split, row)) for row in _row_names(split, rows)]
        numbers = [number for number, place in enumerate(places) if place not in left_out]
        kept[split] = rows if len(numbers) == len(rows) else rows.select(numbers)
    return DatasetDict(kept)


def after_training(dataset: DatasetDict, report: Report) -> Report:
    """Records in the report the pictures that only a training from a stream met, and could not read.

    A dataset without a stream was looked at in whole by `check`: nothing is added.
    """
    for rows in dataset.values():
        if not isinstance(rows, Dataset):
            rows.settle(report)
    return report


def _counts(rows: Any, column: str) -> np.ndarray:
    """Rows of each class (classes,); a stream counted them as it was opened."""
    return data.class_counts(rows, column) if isinstance(rows, Dataset) else rows.class_counts(column)


def _row_names(split: str, rows: Dataset) -> list[str]:
    if "source_row" not in rows.features:
        return [f"{split}:{number}" for number in range(len(rows))]
    return list(rows.with_format(None).select_columns(["source_row"])[:]["source_row"])


def _looks(split: str, rows: Dataset, columns: list[str]) -> Iterator[tuple[_Place, _Look]]:
    """Decodes the pictures of a split in threads, a batch at a time."""
    names = _row_names(split, rows)
    raw = rows.with_format(None).select_columns(["image", *columns]).cast_column("image", Image(decode=False))
    start = 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        for batch in raw.iter(batch_size=_BATCH):
            labels = zip(*(batch[column] for column in columns), strict=True)
            for look, told in zip(pool.map(_look, batch["image"]), labels, strict=True):
                yield _Place(split, names[start], told), look
                start += 1


def _look(source: Any) -> _Look:
    try:
        image = images.decode(source)
    except ValueError as error:
        return _Look(b"", 0, 0, str(error))
    digest = hashlib.blake2b(f"{image.width} {image.height} ".encode(), digest_size=16)
    digest.update(image.tobytes())
    return _Look(digest.digest(), image.width, image.height, "")


def _tell_shape(place: _Place, look: _Look, report: Report) -> None:
    short, long = sorted((look.width, look.height))
    if short < SMALLEST_SIDE or long > LARGEST_ASPECT * short:
        report.add(
            "warning",
            str(place),
            "image",
            expected=f"sides of {SMALLEST_SIDE} px or more, none {LARGEST_ASPECT} times the other",
            found=f"{look.width} x {look.height} px",
            fix="look at the picture",
        )


def _tell_equal(place: _Place, first: _Place, names: dict[str, list[str]], report: Report) -> None:
    """Tells of a picture whose pixels were seen before."""
    if first is place:
        return
    if first.split != place.split:
        report.add(
            "error",
            f"{first} and {place}",
            "image",
            expected=f"no picture of {first.split} in {place.split}",
            found="equal pixels: a leak",
            fix="remove one of the two",
        )
        return
    for column, one, two in zip(names, first.labels, place.labels, strict=True):
        if one != two:
            report.add(
                "warning",
                f"{first} and {place}",
                column,
                expected="one label for equal pixels",
                found=f"{_called(one, names[column])} and {_called(two, names[column])}",
                fix="correct one of the two",
            )


def _called(label: Any, names: list[str]) -> str:
    """A label of a row in words."""
    if label is None:
        return "unknown"
    return cell(", ".join(names[number] for number in (label if isinstance(label, list) else [label])) or "none", 25)


def _tell_label_column(counts: dict[str, np.ndarray], column: str, report: Report) -> None:
    total = np.sum(list(counts.values()), axis=0)
    classes = np.count_nonzero(total)
    if classes >= _FEW and classes * 2 > total.sum():
        report.add(
            "error",
            "dataset",
            column,
            expected="classes of several photos each",
            found=f"{classes} classes in {total.sum()} rows: is this the right column?",
            fix="type --label_column NAME with the column that holds the class",
        )


def _tell_spellings(names: list[str], column: str, report: Report) -> None:
    """Warns of class names that differ in case, blanks or the form of accents only."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(" ".join(unicodedata.normalize("NFC", name).casefold().split()), []).append(name)
    for spellings in alike.values():
        if len(spellings) > 1:
            report.add(
                "warning",
                "dataset",
                column,
                expected="one spelling for each class",
                found=f"{len(spellings)} classes: {', '.join(map(ascii, spellings))}",
                fix="if they are one class, give them one name",
            )
