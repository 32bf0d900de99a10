"""Filters: one small language for all backends, `category=dress price<50 colour=red,blue`, or the same as a dict."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_fashion.errors import InputError
from hf_fashion.index.rows import KINDS

Where = str | Mapping[str, Any] | None
EXAMPLE = 'category=dress price<50 colour=red,"light blue"'
_COMPARE = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
_NUMBERS = ("integer", "number")
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,"'<>=]+)"""
_NAME = r"""(?:"(?:[^"\\]|\\.)*"|[^\s<>=,"']+)"""
_TERM = re.compile(rf"\s*(?:and\s+)?({_NAME})\s*(<=|>=|=|<|>)\s*({_VALUE}(?:\s*,\s*{_VALUE})*)(?=\s|$)", re.IGNORECASE)


class Condition(NamedTuple):
    """One of the conditions, all of which must hold; null fulfils none.

    Args:
        column: Its name.
        kind: Of the column, see `rows.KINDS`.
        operator: "=" (the value is one of `values`; of a list of texts, one in it is) or a comparison with the one.
        values: Of the column's kind.
    """

    column: str
    kind: str
    operator: str
    values: tuple[Any, ...]


def parse(where: Where, columns: Mapping[str, str]) -> list[Condition]:
    """Reads a filter.

    Args:
        where: Text: `column=value`, `column=one,other` (either), `column<value` (also <=, >, >=) with blanks, or
            "and", between them; names and values with blanks or commas in quotes. Or a dict: column -> value, list of
            values, or comparisons, as `{"category": "dress", "colour": ["red", "blue"], "price": {"<": 50}}`.
        columns: Column -> kind.

    Raises:
        InputError: It cannot be read, or there is no such column, or its values are of another kind.
    """
    told = _of_text(where) if isinstance(where, str) else _of_dict(where or {})
    return [_condition(column, operator, values, columns, isinstance(where, str)) for column, operator, values in told]


def _of_text(text: str) -> Iterable[tuple[str, str, list[Any]]]:
    place = 0
    while text[place:].strip():
        term = _TERM.match(text, place)
        if term is None:
            raise InputError(
                f"--where {text}", expected=f"conditions such as {EXAMPLE}", found=text[place:].strip(),
                fix="mend it there; put names and values with blanks, commas or signs in quotes",
            )  # fmt: skip
        name, operator, values = term.groups()
        yield _bare(name), operator, [_bare(value) for value in re.findall(_VALUE, values)]
        place = term.end()


def _bare(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] in ("'", '"') else text


def _of_dict(where: Mapping[str, Any]) -> Iterable[tuple[str, str, list[Any]]]:
    for column, told in where.items():
        for operator, value in told.items() if isinstance(told, Mapping) else [("=", told)]:
            many = isinstance(value, list | tuple | set | frozenset)
            yield str(column), str(operator), list(value) if many else [value]


def _condition(
    column: str, operator: str, values: Sequence[Any], columns: Mapping[str, str], typed: bool
) -> Condition:
    if column not in columns:
        near = difflib.get_close_matches(column, columns, n=1)
        raise InputError(
            f"filter on column {column}", expected=f"one of: {', '.join(columns)}" if columns else "no filter",
            found=column if columns else "rows without columns",
            fix=f"did you mean {near[0]}?" if near else "type one of these names" if columns else "leave it out",
        )  # fmt: skip
    kind = columns[column]
    if operator not in ("=", *_COMPARE):
        raise InputError(
            f"filter on column {column}", expected=f"=, {', '.join(_COMPARE)}", found=operator, fix="use one of these"
        )
    if not values or operator != "=" and len(values) != 1:
        raise InputError(
            f"filter on column {column}", expected="one value to compare with" if values else "a value",
            found=", ".join(map(str, values)) or "none", fix="leave the others out" if values else "give one",
        )  # fmt: skip
    if operator != "=" and kind not in _NUMBERS:
        raise InputError(
            f"filter {column}{operator}{values[0]}", expected=f"a column of numbers before {operator}",
            found=f"{column} is {kind}", fix=f"{column}=VALUE, or another column",
        )  # fmt: skip
    made = [_value(column, kind, value, typed) for value in values]
    if kind == "integer":
        made = _whole(operator, made)
    return Condition(column, kind, operator, tuple(made))


def _whole(operator: str, values: Sequence[int | float]) -> list[int]:
    """The whole numbers that mean the same to a column of whole numbers: above 1.5 is above 1, and none equals 1.5."""
    if operator == "=":
        return [int(value) for value in values if value == int(value) and -(2**63) <= value < 2**63]
    bound = math.floor(values[0]) if operator in (">", "<=") else math.ceil(values[0])
    return [min(max(bound, -(2**63)), 2**63 - 1)]


def _value(column: str, kind: str, value: Any, typed: bool) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    made: Any = None
    if kind in ("text", "texts") and isinstance(value, str):
        made = value
    elif kind == "boolean":
        made = (
            {"true": True, "false": False}.get(value.lower()) if typed else value if isinstance(value, bool) else None
        )
    elif kind in _NUMBERS:
        made = _number(value) if typed or isinstance(value, int | float) and not isinstance(value, bool) else None
    if made is None:
        expected = {"boolean": "true or false", "integer": "a number", "number": "a number"}.get(kind, "text")
        raise InputError(f"filter on column {column}", expected=expected, found=f"{value!r}", fix=f"give {expected}")
    return made


def _number(value: Any) -> int | float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    try:
        return int(value) if abs(int(value)) < 2**63 else float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        return _number(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def mask(part: pa.Table, conditions: Sequence[Condition]) -> np.ndarray:
    """Which rows of a table fulfil all conditions (n,) bool; a column that it lacks is null."""
    kept = np.ones(part.num_rows, dtype=bool)
    for column, kind, operator, values in conditions:
        if column not in part.column_names:
            return np.zeros(part.num_rows, dtype=bool)
        held = part.column(column)
        if kind == "texts":
            kept &= _any_of(held, values)
        elif operator == "=":
            kept &= _bools(pc.is_in(held.cast(KINDS[kind]), value_set=pa.array(values, type=KINDS[kind])))
        else:
            kept &= _bools(getattr(pc, _COMPARE[operator])(held, pa.scalar(values[0])))
    return kept


def _any_of(held: pa.ChunkedArray, values: Sequence[Any]) -> np.ndarray:
    """Which lists hold one of the values."""
    parts = []
    for chunk in held.chunks:
        found = np.zeros(len(chunk), dtype=bool)
        within = _bools(pc.is_in(pc.list_flatten(chunk), value_set=pa.array(values, type=pa.string())))
        found[pc.list_parent_indices(chunk).to_numpy(zero_copy_only=False)[within]] = True
        parts.append(found)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def _bools(told: Any) -> np.ndarray:
    return (
        np.asarray(pc.fill_null(told, False).to_numpy(zero_copy_only=False), dtype=bool)
        if isinstance(told, pa.Array)
        else np.asarray(pc.fill_null(told, False).to_numpy(), dtype=bool)
    )


def sql(conditions: Sequence[Condition]) -> str:
    """The filter in the SQL of LanceDB."""
    return " AND ".join(map(_sql, conditions))


def _sql(condition: Condition) -> str:
    column, kind, operator, values = condition
    name = f"`{column}`"  # no name with a back-tick gets there
    if kind == "texts":
        return "(" + " OR ".join(f"array_has({name}, {_literal(value)})" for value in values) + ")"
    if operator == "=":
        return f"{name} IN ({', '.join(map(_literal, values))})" if values else "false"
    return f"{name} {operator} {_literal(values[0])}"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def qdrant_path(name: str) -> str:
    """How Qdrant is told of a column: in quotes, where the name could be read as a path in nested data."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def qdrant(conditions: Sequence[Condition]) -> Any:
    """The filter as Qdrant has it; None for no condition."""
    from qdrant_client import models

    names = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
    must: list[Any] = []
    for name, kind, operator, values in conditions:
        column = qdrant_path(name)
        if operator != "=":
            must.append(models.FieldCondition(key=column, range=models.Range(**{names[operator]: float(values[0])})))
        elif kind == "number":  # decimals match by range alone
            spans = [models.Range(gte=float(value), lte=float(value)) for value in values]
            either: list[Any] = [models.FieldCondition(key=column, range=one) for one in spans]
            must.append(models.Filter(should=either))
        elif kind == "boolean":
            either = [models.FieldCondition(key=column, match=models.MatchValue(value=value)) for value in values]
            must.append(models.Filter(should=either))
        else:
            match = models.MatchAny(any=list(values)) if values else None
            never = None if values else models.Range(lt=0, gt=0)
            must.append(models.FieldCondition(key=column, match=match, range=never))
    return models.Filter(must=must) if must else None
