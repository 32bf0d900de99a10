"""The rows beside the vectors: columns of text, numbers, yes or no, or lists of text, of one kind each."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from hf_fashion.errors import InputError

KINDS = {
    "text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(),
    "texts": pa.list_(pa.string()),
}  # fmt: skip
# Ours, and what LanceDB calls its own.
RESERVED = ("id", "vector", "score", "_distance", "_rowid", "_rowaddr", "_score", "_relevance_score")
PICTURE = "picture"  # the hash of a photo's file, by which `build` knows whether it changed

Rows: TypeAlias = pa.Table | Sequence[Mapping[str, Any]] | None


def table(rows: Rows, count: int, known: Mapping[str, str]) -> tuple[pa.Table, dict[str, str]]:
    """Brings rows to the kinds of an index.

    Args:
        rows: A table, or a dict a row (a key that a row lacks is null); None for no columns.
        count: How many there must be.
        known: Column -> kind, of the rows before.

    Returns:
        The columns, and all kinds. A column of whole numbers becomes one of numbers where the new ones are not whole.

    Raises:
        InputError: Another count, a name that is taken, or a value of another kind.
    """
    if rows is None:
        rows = [{}] * count
    if len(rows) != count:
        raise InputError("rows", expected=f"{count}, one for each id", found=str(len(rows)), fix="give as many")
    given = rows if isinstance(rows, pa.Table) else _of_dicts(rows)
    taken = [name for name in given.column_names if name in RESERVED]
    if taken:
        raise InputError(
            f"column {taken[0]}", expected=f"other names than {', '.join(RESERVED)}", found=taken[0],
            fix="rename the column, or leave it out",
        )  # fmt: skip
    kinds, columns = dict(known), {}
    for name in given.column_names:
        column = given.column(name)
        kind = kind_of(column.type)
        if kind is None and not pa.types.is_null(column.type):
            raise InputError(
                f"column {name}", expected="text, numbers, true or false, or lists of text", found=str(column.type),
                fix="leave the column out",
            )  # fmt: skip
        if kind is None and name not in known:
            continue  # null alone: what it is will be known when there is a value
        kinds[name] = _wider(name, known.get(name), kind)
        columns[name] = _cast(name, column, kinds[name])
    return pa.table(columns) if columns else pa.table({"": pa.nulls(count)}).select([]), kinds


def kind_of(dtype: pa.DataType) -> str | None:
    """The kind of a type of Arrow; None for one that rows cannot have, and for null."""
    types = pa.types
    if types.is_dictionary(dtype):
        return kind_of(dtype.value_type)
    if types.is_boolean(dtype):
        return "boolean"
    if types.is_integer(dtype):
        return "integer"
    if types.is_floating(dtype) or types.is_decimal(dtype):
        return "number"
    if is_text(dtype) or types.is_temporal(dtype) and not types.is_duration(dtype):
        return "text"
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype):
        return "texts" if is_text(dtype.value_type) else None
    return None


def is_text(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype))


def schema(columns: Mapping[str, str]) -> pa.Schema:
    """The columns of an index as Arrow has them."""
    return pa.schema([(name, KINDS[kind]) for name, kind in columns.items()])


def filled(part: pa.Table, columns: Mapping[str, str], wanted: Sequence[str]) -> pa.Table:
    """The wanted columns of a part that was written when an index had fewer, or narrower ones."""
    made = {}
    for name in wanted:
        kind = KINDS[columns[name]]
        made[name] = (
            part.column(name).cast(kind) if name in part.column_names else pa.nulls(part.num_rows, kind)
        )  # fmt: skip
    return pa.table(made) if made else part.select([])


def dicts(part: pa.Table) -> list[dict[str, Any]]:
    """A dict for each row, also where there are no columns."""
    return part.to_pylist() if part.num_columns else [{} for _ in range(part.num_rows)]


def _of_dicts(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[str(name)] = pa.array(values)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise InputError(
                f"column {name}", expected="values of one kind", found=str(error).splitlines()[0],
                fix="make them all text, or all numbers",
            ) from error  # fmt: skip
    return pa.table(columns)


def _wider(name: str, before: str | None, now: str | None) -> str:
    """The kind that holds both."""
    if before is None or now is None or before == now:
        return str(now if before is None else before)
    if {before, now} == {"integer", "number"}:
        return "number"
    raise InputError(
        f"column {name}", expected=f"{before}, as in the rows before", found=now, fix="convert it, or rename it"
    )


def _cast(name: str, column: Any, kind: str) -> Any:
    try:
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        made = pc.cast(column, KINDS[kind])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"column {name}", expected=kind, found=str(error).splitlines()[0], fix="convert it, or leave it out"
        ) from error
    # "Not a number" is no value in any filter, nor in JSON.
    return pc.if_else(pc.is_nan(made), pa.scalar(None, pa.float64()), made) if kind == "number" else made
