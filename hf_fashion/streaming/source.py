"""Parquet files as a training split: where its rows lie, their labels, and reading a part of them."""

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image, List

from hf_fashion import reading
from hf_fashion.columns import is_list, label_texts
from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell
from hf_fashion.splits import ORDER

_BATCH = 64  # rows of a row group in memory at once, beside the shuffle buffer
_LABELS = 65_536  # labels in memory at once


class RowError(InputError):
    """Something is wrong with a row that was met in training.

    Torch makes an exception of a worker process again in the main one, from a text that ends with its message; the
    message is taken out of it.
    """

    def __init__(self, what: str, *, expected: str = "", found: str = "", fix: str = "") -> None:
        told = re.search(r".*RowError: (.+)\n  expected: (.+)\n  found:    (.+)\n  to do:    (.+)", what, re.DOTALL)
        if told:
            what, expected, found, fix = (part.strip() for part in told.groups())
        super().__init__(what, expected=expected, found=found, fix=fix)


class _Group(NamedTuple):
    """A row group: `first` is the number of its first row in the split, `offset` in its file."""

    file: int
    group: int
    first: int
    offset: int
    rows: int


class Stream:
    """The training split before it is read: where its rows lie, their labels' names and how often each occurs.

    Args:
        files: Parquet files, as paths or addresses of fsspec (`hf://...`).
        root: What the names of files in messages are relative to.
        features: Columns of the files.
        image: Column of the pictures.
        told: Canonical column of labels -> the column of the files.
        strict: Every row has its one label; else they are attributes, and may be unknown.

    Raises:
        InputError: A file that cannot be read, or lacks a column.
    """

    def __init__(
        self, files: Sequence[str], root: str, features: Features, image: str, told: Mapping[str, str],
        strict: bool = True,
    ) -> None:  # fmt: skip
        self.files, self.image, self.told, self.strict = list(files), image, dict(told), strict
        self.root, self._source = root, features
        self._groups: list[_Group] = []
        self.names: dict[str, list[str]] = {}
        self.options: dict[str, Any] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._footers: dict[int, pq.FileMetaData] = {}
        for number in range(len(self.files)):
            self._add(number)

    def __len__(self) -> int:
        return self._groups[-1].first + self._groups[-1].rows if self._groups else 0

    @property
    def features(self) -> Features:
        """The canonical columns, as those of the other splits."""
        kinds: dict[str, Any] = {"image": Image()}
        for column, name in self.told.items():
            label = ClassLabel(names=self.names[column])
            kinds[column] = List(label) if is_list(self._source[name]) else label
        return Features(kinds)

    def class_counts(self, column: str = "label") -> np.ndarray:
        """Rows of each class (classes,)."""
        return np.asarray([self._counts[column][name] for name in self.names[column]], dtype=int)

    def count(self, report: Report) -> dict[str, list[str]]:
        """Reads the columns of labels alone, and tells the report of rows without a label.

        Returns:
            Column -> the labels that occur, as text.
        """
        for column, name in self.told.items():
            feature, counted = self._source[name], Counter[str]()
            many = is_list(feature)
            inner = feature.feature if many else feature
            for number in range(len(self.files)):
                start = 0
                for values in self._column(number, name):
                    for pair in pc.value_counts(values.flatten() if many else values).to_pylist():
                        text = _text(name, inner, pair["values"])
                        if text is not None:
                            counted[text] += pair["counts"]
                        elif self.strict or many:  # nothing at all is not known; nothing in a list is a fault
                            rows = (value if many else [value] for value in values.to_pylist())
                            told = (any(_same(part, pair["values"]) for part in row or ()) for row in rows)
                            row = start + list(told).index(True)
                            report.add(
                                "error", self.place(number, row), name, expected="a label",
                                found=f"{pair['values']!r}, {pair['counts']} time(s) from there on",
                                fix="fill in the labels, or remove the rows",
                            )  # fmt: skip
                    start += len(values)
            self._counts[column] = counted
        return {column: list(counted) for column, counted in self._counts.items()}

    def place(self, file: int, row: int) -> str:
        """How a row is named in messages."""
        return f"{_short(self.files[file], self.root)} row {row}"

    def label(self, column: str, value: Any) -> Any:
        """A value of the files as a class number, a list of these, or None for an attribute that is not known.

        Raises:
            KeyError: There is no such class.
        """
        feature = self._source[self.told[column]]
        if is_list(feature):
            if value is None:
                return None
            numbers = (self._number(column, feature.feature, part) for part in value)
            return list(dict.fromkeys(number for number in numbers if number is not None))
        number = self._number(column, feature, value)
        if number is None and self.strict:
            raise KeyError(value)
        return number

    def rows(self, pieces: Iterable[tuple[_Group, int, int]]) -> Iterator[dict[str, Any]]:
        """Encoded rows of parts (row group, from, to) of row groups: `row` is the number in the split."""
        columns = list(dict.fromkeys([self.image, *self.told.values()]))
        for group, start, stop in pieces:
            position = 0
            with self._open(group.file) as file:
                batches = file.iter_batches(_BATCH, row_groups=[group.group], columns=columns, use_threads=False)
                for batch in batches:
                    first = max(start, position)
                    taken = (
                        batch.slice(first - position, max(stop - first, 0)) if first < position + len(batch) else ()
                    )
                    for number, values in enumerate(taken.to_pylist() if taken else (), start=first):
                        place = self.place(group.file, group.offset + number)
                        yield {"row": group.first + number, "place": place, "values": values}
                    position += len(batch)
                    if position >= stop:
                        break

    def pieces(self, order: np.ndarray, start: int, stop: int) -> Iterator[tuple[_Group, int, int]]:
        """The parts of row groups that hold rows start to stop when the groups stand in the given order; behind the
        last row the first comes again."""
        ends = np.cumsum([self._groups[number].rows for number in order])
        position = start
        while position < stop:
            within = position % len(self)
            index = int(np.searchsorted(ends, within, side="right"))
            group = self._groups[order[index]]
            first = within - int(ends[index] - group.rows)
            last = min(group.rows, first + stop - position)
            yield group, first, last
            position += last - first

    @property
    def groups(self) -> int:
        """How many row groups there are."""
        return len(self._groups)

    def settle(self, report: Report) -> None:
        """Adds to the report the rows that training left out so far, each once, and the size of what is left."""
        left_out = self.options["left_out"]
        lines = left_out.read_text(encoding="utf-8").splitlines() if left_out and left_out.is_file() else []
        rows = {row["where"]: row for row in map(json.loads, lines)}
        for where in sorted(rows, key=lambda where: (where.rpartition(" ")[0], int(where.rpartition(" ")[2]))):
            report.leave_out(**rows[where])
        sizes = {**report.sizes, "train": len(self) - len(rows)}
        report.sizes = {split: sizes[split] for split in ORDER if split in sizes}

    def _number(self, column: str, feature: Any, value: Any) -> int | None:
        if column not in self._numbers:
            self._numbers[column] = {name: number for number, name in enumerate(self.names[column])}
        text = _text(self.told[column], feature, value)
        return None if text is None else self._numbers[column][text]

    @contextlib.contextmanager
    def _open(self, number: int) -> Iterator[pq.ParquetFile]:
        # A footer is read once: row groups come in random order, and each of another file than the one before.
        with _opened(self.files[number]) as handle:
            file = pq.ParquetFile(handle, metadata=self._footers.get(number))
            self._footers[number] = file.metadata
            yield file

    def _column(self, number: int, name: str) -> Iterator[Any]:
        with self._open(number) as file:
            for batch in file.iter_batches(_LABELS, columns=[name]):
                yield batch.column(0)

    def _add(self, number: int) -> None:
        name = _short(self.files[number], self.root)
        try:
            with self._open(number) as file:
                footer, columns = file.metadata, file.schema_arrow.names
        except (OSError, ValueError) as error:
            raise InputError(
                f"file {name}", expected="a parquet file", found=cell(str(error), 200), fix="mend it, or take it out"
            ) from error
        missing = sorted({self.image, *self.told.values()} - set(columns))
        if missing:
            raise InputError(
                f"file {name}", expected="the columns of the other files", found=f"no {', '.join(missing)}",
                fix="write all files with the same columns",
            )  # fmt: skip
        first, offset = len(self), 0
        for group in range(footer.num_row_groups):
            rows = footer.row_group(group).num_rows
            if rows:
                self._groups.append(_Group(number, group, first + offset, offset, rows))
            offset += rows


def features_of(file: str) -> Features:
    def read() -> Features:
        with _opened(file) as handle:
            return Features.from_arrow_schema(pq.read_schema(handle))

    return reading.attempt(f"file {file}", read)


def _opened(file: str) -> Any:
    system, path = fsspec.core.url_to_fs(file)
    return system.open(path, "rb")


def _text(name: str, feature: Any, value: Any) -> str | None:
    return label_texts(name, feature, [value], [""], Report({}))[0]


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))  # NaN is NaN, too


def _short(file: str, root: str) -> str:
    """A file as the source names it: within its folder, or within its repository on the Hub."""
    if "://" in file:
        return re.sub(r"^hf://datasets/[^/]+/[^/@]+(@[^/]+)?/", "", file)
    return Path(os.path.relpath(file, root)).as_posix()
