"""The column `objects` of a dataset as it stands, read as arrays: one entry a box, whatever form the column has."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, LargeList, List, Value

from hf_fashion.errors import InputError
from hf_fashion.report import cell

BBOX_KEYS = ("bbox", "bboxes", "box", "boxes")
CATEGORY_KEYS = ("category", "categories", "category_id", "category_ids", "label", "labels")
_BATCH = 10_000  # rows in memory at once


@dataclass(frozen=True)
class Layout:
    """Where the parts of a box stand in the column `objects`.

    Args:
        bbox: Key of the four numbers.
        category: Key of the category.
        listed: A list of dicts; else a dict of lists.
        names: Of the category's ClassLabel, None where it has none.
        keys: All that there are.
    """

    bbox: str
    category: str
    listed: bool
    names: list[str] | None
    keys: list[str]


@dataclass(frozen=True)
class Boxes:
    """The boxes of some rows, one after the other.

    Args:
        row: The row of each box (boxes,).
        number: Its place among the boxes of its row, from 0 (boxes,).
        bbox: Its numbers as they stand there (boxes, 4); NaN where one is missing.
        four: Whether there are four of them (boxes,).
        code: Its category as a place in `values`, -1 where there is none (boxes,).
        values: The categories that occur: text or numbers.
        area: NaN where none is given (boxes,).
        crowd: `iscrowd`, NaN where it is not given (boxes,).
        has_crowd: Whether the column has an `iscrowd`.
        counts: Boxes of each row (rows,).
        uneven: Row -> why its lists do not belong together; such a row has no boxes here.
    """

    row: np.ndarray
    number: np.ndarray
    bbox: np.ndarray
    four: np.ndarray
    code: np.ndarray
    values: list[Any]
    area: np.ndarray
    crowd: np.ndarray
    has_crowd: bool
    counts: np.ndarray
    uneven: dict[int, str]


def layout(features: Features, column: str = "objects") -> Layout:
    """Finds the parts of a box in a dataset's columns.

    Raises:
        InputError: There is no such column, or it holds no boxes with categories.
    """
    feature = features.get(column)
    listed = isinstance(feature, List | LargeList) and isinstance(feature.feature, dict)
    inner = feature.feature if listed else feature
    if not isinstance(inner, dict):
        raise InputError(
            f"column {column}", expected="a dict of lists, or a list of dicts, with bbox and category",
            found="no such column" if feature is None else cell(str(feature)),
            fix="store the boxes of each picture as {bbox: [[x, y, width, height], ...], category: [...]}",
        )  # fmt: skip
    found = [next((key for key in keys if key in inner), None) for keys in (BBOX_KEYS, CATEGORY_KEYS)]
    bbox, category = found
    if bbox is None or category is None:
        raise InputError(
            f"column {column}", expected="bbox, and category, category_id or label",
            found=", ".join(inner) or "nothing",
            fix="rename the keys",
        )  # fmt: skip
    kind = inner[category]
    kind = kind if listed or not isinstance(kind, List | LargeList) else kind.feature
    names = list(kind.names) if isinstance(kind, ClassLabel) and kind.names else None
    return Layout(bbox, category, listed, names, list(inner))


def read(rows: Dataset, column: str = "objects") -> Iterator[Boxes]:
    """Reads the boxes of some thousand rows at a time; rows are counted from the first of the dataset.

    Raises:
        InputError: The column holds no boxes: no lists, or numbers that are none.
    """
    where = layout(rows.features, column)
    start = 0
    for batch in rows.with_format("arrow").select_columns([column]).iter(batch_size=_BATCH):
        yield _flat(batch.column(column).combine_chunks(), where, start)
        start += len(batch)


def read_all(rows: Dataset, column: str = "objects") -> Boxes:
    """The boxes of all rows."""
    parts = list(read(rows, column))
    if not parts:
        objects = rows.features[column]
        return _flat(pa.array([], Features({column: objects}).arrow_schema.field(0).type), layout(rows.features), 0)
    values = list(dict.fromkeys(value for part in parts for value in part.values))
    place = {value: number for number, value in enumerate(values)}
    codes = [np.array([*(place[value] for value in part.values), -1])[part.code] for part in parts]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("row", "number", "bbox", "four", "area", "crowd", "counts")
    }
    uneven = {row: reason for part in parts for row, reason in part.uneven.items()}
    has_crowd = parts[0].has_crowd
    return Boxes(**joined, code=np.concatenate(codes), values=values, has_crowd=has_crowd, uneven=uneven)


def row_names(rows: Dataset) -> list[str]:
    """How each row is named: as its source named it, or by its number."""
    if "source_row" not in rows.column_names:
        return [str(number) for number in range(len(rows))]
    return [str(name) for name in rows.with_format(None).select_columns(["source_row"])[:]["source_row"]]


def image_ids(rows: Dataset) -> list[str | None]:
    """The `image_id` of each row as text, None where it is missing; without the column, the row's name.

    Raises:
        InputError: The ids are neither text nor numbers.
    """
    feature = rows.features.get("image_id")
    if feature is None:
        return list(row_names(rows))
    if not isinstance(feature, Value | ClassLabel):
        raise InputError(
            "column image_id", expected="text or numbers", found=cell(str(feature)), fix="rename or mend the column"
        )
    values = rows.with_format(None).select_columns(["image_id"])[:]["image_id"]
    whole = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    return [None if v is None or v != v or not str(v).strip() else str(v) for v in whole]


def _flat(objects: pa.Array, where: Layout, start: int) -> Boxes:
    """Takes the boxes out of a column; `start` is its first row."""
    optional: list[str] = [key for key in ("area", "iscrowd") if key in where.keys]
    if where.listed:
        counts = _lengths(objects)
        flat = pc.list_flatten(objects)
        parts = {key: pc.struct_field(flat, key) for key in (where.bbox, where.category, *optional)}
        given: dict[str, np.ndarray] = {key: np.ones(len(objects), dtype=bool) for key in optional}
        uneven: dict[int, str] = {}
    else:
        lists = {key: pc.struct_field(objects, key) for key in (where.bbox, where.category, *optional)}
        lengths = {key: _lengths(_checked(list_, _is_list, key, "a list")) for key, list_ in lists.items()}
        counts = lengths[where.bbox]
        even = lengths[where.category] == counts
        for key in optional:  # an empty list of areas says that they are not known
            even &= (lengths[key] == counts) | (lengths[key] == 0)
        uneven = {
            start + int(row): ", ".join(f"{lengths[key][row]} {key}" for key in lists) for row in np.flatnonzero(~even)
        }
        counts = np.where(even, counts, 0)
        given = {key: even & (lengths[key] == counts) for key in optional}
        parts = {key: pc.list_flatten(list_.filter(pa.array(given.get(key, even)))) for key, list_ in lists.items()}
    row = np.repeat(np.arange(len(counts)), counts)
    extra = {key: np.full(len(row), np.nan) for key in ("area", "iscrowd")}
    for key in optional:
        extra[key][given[key][row]] = _numbers(parts[key], key)
    bbox, four = _fours(parts[where.bbox], where.bbox)
    code, values = _coded(parts[where.category], where.category)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Boxes(
        row=row + start, number=number, bbox=bbox, four=four, code=code, values=values, area=extra["area"],
        crowd=extra["iscrowd"], has_crowd="iscrowd" in optional, counts=counts, uneven=uneven,
    )  # fmt: skip


def _fours(bbox: pa.Array, key: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of each box (boxes, 4), and whether there are four of them (boxes,)."""
    if pa.types.is_null(bbox.type):
        return np.full((len(bbox), 4), np.nan), np.zeros(len(bbox), dtype=bool)
    four = _lengths(_checked(bbox, _is_list, key, "a list of four numbers for each box")) == 4
    numbers = np.full((len(bbox), 4), np.nan)
    numbers[four] = _numbers(pc.list_flatten(bbox.filter(pa.array(four))), key).reshape(-1, 4)
    return numbers, four


def _coded(category: pa.Array, key: str) -> tuple[np.ndarray, list[Any]]:
    """Each category as a place in the list of those that occur, -1 where it is missing."""
    coded = _checked(category, _is_category, key, "text or a number for each box").dictionary_encode()
    values = coded.dictionary.to_pylist()
    return pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False), values


def _numbers(array: pa.Array, key: str) -> np.ndarray:
    return _checked(array, _is_number, key, "numbers").cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _lengths(lists: pa.Array) -> np.ndarray:
    if pa.types.is_null(lists.type):
        return np.zeros(len(lists), dtype=np.int64)
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _checked(array: pa.Array, is_right: Callable[[pa.DataType], bool], key: str, wanted: str) -> pa.Array:
    if not is_right(array.type):
        raise InputError(f"{key} of the boxes", expected=wanted, found=cell(str(array.type)), fix="mend the column")
    return array


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    other = types.is_decimal(kind) or types.is_boolean(kind) or types.is_null(kind)
    return types.is_integer(kind) or types.is_floating(kind) or other


def _is_category(kind: pa.DataType) -> bool:
    types = pa.types
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return text or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)
