"""`check`: every picture and label of a dataset is looked at once, and everything is told together."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict

from hf_fashion import data, images
from hf_fashion.checks import copies, labels
from hf_fashion.checks.boxes import tell_boxes
from hf_fashion.checks.pictures import Looked, look
from hf_fashion.columns import is_list
from hf_fashion.errors import InputError
from hf_fashion.report import DROP, ONE_SPLIT, PICTURE, Report
from hf_fashion.splits import coverage

_NAMED = 4  # pictures that a finding about several names
# The reasons of `images.decode` for what is above a limit.
_PIXELS = re.compile(r"too many pixels: (\d+) x (\d+) is more than the limit of (\d+)")
_BYTES = re.compile(r"the file is too large: (\d+) bytes")


def check(
    dataset: DatasetDict,
    report: Report,
    *,
    on_bad_image: str = "stop",
    limits: images.Limits = images.LIMITS,
    thorough: bool = False,
    label_errors: bool = False,
    box_format: str | None = None,
    on_bad_box: str = "stop",
) -> Report:
    """Looks at every picture and label once; of several processes the first one does, and tells the others.

    Errors: unreadable pictures, equal pictures in two splits (a leak), classes without a row in train, one class only,
    a column of labels that cannot be one, other classes in another split, bad boxes. Warnings: equal pictures within a
    split or with two labels, tiny or very long pictures, classes of one row, names that are spelt in several ways.

    Args:
        dataset: As `data.load` gives it, or `streaming.load`: of a stream the labels are counted, and its pictures are
            looked at while they are learned from; see `after_training`. It may have labels, attributes, boxes (a
            column `objects`) or pictures alone.
        report: Is added to.
        on_bad_image: "stop" makes unreadable pictures errors; "drop" makes them warnings and records them in
            `report.left_out`, and `drop` takes them out of the dataset.
        limits: A picture above the pixels or bytes cannot be read; one below the side or above the aspect is odd.
        thorough: Look for near-duplicates, too, and warn of classes of few photos. Needs imagehash.
        label_errors: Look for labels that are probably wrong, see `suspects.tell_suspects`. Needs cleanlab, and some
            70 ms a picture.
        box_format: See `boxes.tell_boxes`.
        on_bad_box: See there.

    Returns:
        The report. `report.raise_on_errors()` stops when it holds errors.

    Raises:
        InputError: A setting that is none of its values, or a package that is missing.
    """
    if on_bad_image not in ("stop", "drop"):
        raise InputError("on_bad_image", expected="stop or drop", found=on_bad_image, fix="type one of the two")

    def whole() -> Report:
        looked = look(dataset, alike=thorough, limits=limits)
        names = _columns(dataset, report)
        _tell_pictures(looked, limits, report)
        same = copies.equal(looked)
        near = copies.near(dataset, looked, same, limits) if thorough else []
        _tell_copies(dataset, looked, names, same, near, report)
        _tell_labels(dataset, looked, names, on_bad_image, thorough, report)
        _tell_objects(dataset, looked, thorough, report, box_format, on_bad_box)
        if label_errors:
            from hf_fashion.checks.suspects import tell_suspects  # a net, and cleanlab: seldom asked for

            tell_suspects(dataset, looked, list(names), report, limits)
        return after_training(dataset, report)  # of a run that is resumed, the training up to there

    if not torch.distributed.is_initialized():
        return whole()
    if PartialState().is_main_process:
        whole()
    [found] = broadcast_object_list([vars(report)])
    vars(report).update(found)
    return report


def drop(dataset: DatasetDict, report: Report) -> DatasetDict:
    """Takes the rows out that `check(..., on_bad_image="drop")` recorded in `report.left_out`.

    Args:
        dataset: That which was checked, its rows in the same order.
        report: Of `check`.
    """
    # By number: of rows whose sources were put together, two may have one name.
    left_out = {
        row
        for finding in report.findings if finding.expected == PICTURE and finding.level != "error"
        for row in finding.rows
    }  # fmt: skip
    kept = dict(dataset)
    for split, rows in dataset.items():
        if not isinstance(rows, Dataset):
            continue  # a stream passes them over itself
        numbers = [number for number in range(len(rows)) if (split, number) not in left_out]
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


def _columns(dataset: DatasetDict, report: Report) -> dict[str, list[str]]:
    """Column of labels -> names of its classes; none for pictures alone, or with boxes."""
    features = {name for name in next(iter(dataset.values())).features if name not in report.carried}
    if features <= {"image", "source_row", "image_id", "objects"}:
        return {}
    return {column: data.labels(dataset, column) for column in data.attributes(dataset) if column in features}


def _tell_pictures(looked: Looked, limits: images.Limits, report: Report) -> None:
    """Tells of pictures that cannot be read, and of odd shapes."""
    pixels, size = _needed(looked.reasons.values(), limits)
    for number, place in enumerate(looked.places):
        rows = ((place.split, place.number),)
        if reason := looked.reasons.get(number):
            fix = DROP
            if _PIXELS.match(reason):
                fix += f", or allow it with --max_pixels {pixels}"
            elif _BYTES.match(reason):
                fix += f", or allow it with --max_bytes {size}"
            report.add("error", str(place), "image", expected=PICTURE, found=reason, fix=fix, rows=rows)
            continue
        width, height = looked.sizes[number].tolist()
        if odd := images.odd_shape((width, height), limits):
            report.add(
                "warning", str(place), "image",
                expected=f"sides of {limits.min_side} px or more, none {limits.max_aspect:g} times the other",
                found=odd, fix="look at the picture", rows=rows,
            )  # fmt: skip


def _needed(reasons: Iterable[str], limits: images.Limits) -> tuple[int, int]:
    """The `max_pixels` and `max_bytes` with which all that was refused for its size is read, rounded up."""
    pixels, size = limits.max_pixels, limits.max_bytes
    for reason in reasons:
        if told := _PIXELS.match(reason):
            width, height, limit = map(int, told.groups())
            pixels = max(pixels, -(-width * height * limits.max_pixels // limit))  # some kinds are allowed less
        elif told := _BYTES.match(reason):
            size = max(size, int(told[1]))
    return _round_up(pixels), _round_up(size)


def _round_up(number: int) -> int:
    """The next number of two figures and zeros."""
    step = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // step) * step


def _tell_copies(
    dataset: DatasetDict, looked: Looked, names: Mapping[str, list[str]], same: list[list[int]],
    near: list[list[int]], report: Report,
) -> None:  # fmt: skip
    """Tells of equal pictures, of labels that differ between them, and of pictures that are nearly the same."""
    for group in same:
        where, rows = _where(looked, group)
        leak = len({split for split, _ in rows}) > 1
        if leak:
            report.add(
                "error", where, "image", expected=ONE_SPLIT, found="equal pixels: a leak", rows=rows,
                fix="remove all but one; hf-fashion check --fix FOLDER does",
            )  # fmt: skip
        conflict = _tell_conflict(dataset, where, rows, names, report, expected="one label for equal pixels")
        if not leak and not conflict:
            report.add(
                "warning", where, "image", expected="each picture once", found="equal pixels", rows=rows,
                fix="remove all but one, unless it is meant to count more than once",
            )  # fmt: skip
    for group in near:
        where, rows = _where(looked, group)
        splits = len({split for split, _ in rows})
        report.add(
            "warning", where, "image", expected="different pictures" + " in different splits" * (splits > 1),
            found=f"nearly the same in {splits} splits" if splits > 1 else "nearly the same", rows=rows,
            fix="look at them; remove one, if they are one" + ": figures are too good otherwise" * (splits > 1),
        )  # fmt: skip
        _tell_conflict(dataset, where, rows, names, report, expected="one label for nearly equal pictures")


def _where(looked: Looked, group: Sequence[int]) -> tuple[str, tuple[tuple[str, int], ...]]:
    """The pictures of a group in words, and as split and row number."""
    places = [looked.places[number] for number in group]
    named = [str(place) for place in places[:_NAMED]] + [f"{len(group) - _NAMED} more"] * (len(group) > _NAMED)
    return ", ".join(named[:-1]) + " and " + named[-1], tuple((place.split, place.number) for place in places)


def _tell_conflict(
    dataset: DatasetDict, where: str, rows: Sequence[tuple[str, int]], names: Mapping[str, list[str]], report: Report,
    expected: str,
) -> bool:  # fmt: skip
    """Tells of different labels in a group of pictures."""
    found = False
    for column, class_names in names.items():
        told = [dataset[split].with_format(None).select_columns([column])[number][column] for split, number in rows]
        different = [label for place, label in enumerate(told) if label not in told[:place]]
        if len(different) > 1:
            found = True
            report.add(
                "warning", where, column, expected=expected, rows=tuple(rows), fix="correct what is wrong",
                found=" and ".join(labels.called(label, class_names) for label in different[:_NAMED]),
            )  # fmt: skip
    return found


def _tell_labels(
    dataset: DatasetDict, looked: Looked, names: Mapping[str, list[str]], on_bad_image: str, thorough: bool,
    report: Report,
) -> None:  # fmt: skip
    """Tells of the labels as such, counted without the pictures that are dropped; notes the sizes of the splits."""
    bad: dict[str, set[int]] = {split: set() for split in dataset}
    for number in looked.reasons:
        bad[looked.places[number].split].add(looked.places[number].number)
    readable = {split: rows for split, rows in dataset.items() if not bad[split]} | {
        split: dataset[split].select([number for number in range(len(dataset[split])) if number not in left_out])
        for split, left_out in bad.items()
        if left_out
    }
    if on_bad_image == "drop":
        report.leave_out_pictures()
    # Unreadable rows stop the run by themselves: without "drop" the dataset is counted as it stands.
    kept = readable if on_bad_image == "drop" else dataset
    single = list(names) == ["label"] and not is_list(next(iter(dataset.values())).features["label"])
    for column, class_names in names.items():
        if labels.tell_names(dataset, column, report):
            continue  # what the numbers mean is not certain
        counts = {split: _counts(kept[split], column) for split in dataset}
        if single:
            labels.tell_unique(counts, column, report)
        labels.tell_spellings(counts, class_names, column, report)
        coverage(counts, class_names, report, column, strict=single)
        if thorough:
            labels.tell_few(counts, class_names, column, report)
    report.sizes = {split: len(kept[split]) for split in dataset}
    for split, size in report.sizes.items():
        if size == 0 and len(dataset[split]):
            report.add("error", f"split {split}", "", expected="photos", found="none that can be read", fix="add some")


def _counts(rows: Any, column: str) -> np.ndarray:
    """Rows of each class (classes,); a stream counted them as it was opened."""
    return data.class_counts(rows, column) if isinstance(rows, Dataset) else rows.class_counts(column)


def _tell_objects(
    dataset: DatasetDict, looked: Looked, thorough: bool, report: Report, box_format: str | None, on_bad_box: str
) -> None:
    """Tells of the boxes, where there are any."""
    parts = {
        split: rows for split, rows in dataset.items() if isinstance(rows, Dataset) and "objects" in rows.features
    }
    if not parts:
        return
    places = {split: [looked.places[number] for number in looked.of(split)] for split in parts}
    tell_boxes(
        parts,
        {split: looked.sizes[looked.of(split)] for split in parts},
        {split: [str(place) for place in of] for split, of in places.items()},
        report, box_format=box_format, on_bad_box=on_bad_box, thorough=thorough,
    )  # fmt: skip
