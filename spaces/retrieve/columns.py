"""The columns of an index as filters: which values there are and how often, and from where to where numbers go."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_fashion.index import Index
from hf_fashion.index.rows import PICTURE

READ = 200_000  # rows that are looked at: what a server sends in some minutes
OPTIONS = 50  # values of a column that are offered, the most frequent
SHOWN = 12  # filters on the page; `where` of the endpoint takes all columns
NAMES = ("source_row", "image_id", "item_id", PICTURE)  # columns that tell rows apart


@dataclass(frozen=True)
class Choice:
    """A column of text or of yes and no.

    Args:
        column: Its name.
        options: Value and how many rows have it, the most frequent first.
        others: How many values more there are.
    """

    column: str
    options: list[tuple[str, int]]
    others: int = 0


@dataclass(frozen=True)
class Range:
    """A column of numbers, and between which they lie."""

    column: str
    low: float
    high: float


@dataclass
class Columns:
    """What is known of an index without a query.

    Args:
        filters: Of its columns, in their order.
        rows: How many rows were read.
        ids: Of some rows drawn at random.
        vectors: Theirs (some, d).
        drawn: Their columns.
    """

    filters: list[Choice | Range]
    rows: int
    ids: list[str] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    drawn: list[dict[str, Any]] = field(default_factory=list)

    def where(self, values: Sequence[Any]) -> dict[str, Any]:
        """What is chosen on the page as `Index.search` takes it: a list for each `Choice`, low and high for each
        `Range`; what visitors send may be anything, and `Index.search` refuses what does not fit the column."""
        made: dict[str, Any] = {}
        given = iter(values)
        for one in self.filters:
            if isinstance(one, Range):
                low, high = next(given), next(given)  # as they were given to the fields, they leave nothing out
                told: Any = {
                    sign: bound for sign, bound, end in ((">=", low, one.low), ("<=", high, one.high))
                    if bound is not None and bound != end
                }  # fmt: skip
            else:
                chosen = next(given)
                told = chosen if isinstance(chosen, list) else [chosen] if chosen else []
            if told:
                made[one.column] = told
        return made


def read(target: Index, sample: int, seed: int = 0) -> Columns:
    """Looks at the rows of an index once.

    Args:
        target: The index.
        sample: How many rows are drawn.
        seed: Of the draw.
    """
    kinds = {name: kind for name, kind in target.columns.items() if name not in NAMES}
    counts: dict[str, Counter[Any]] = {name: Counter() for name, kind in kinds.items() if kind in _TEXTS}
    bounds: dict[str, list[float]] = {name: [] for name, kind in kinds.items() if kind in ("integer", "number")}
    seen, drawn, draw = 0, list[dict[str, Any]](), random.Random(seed)
    for part in target.scan():
        for name, counted in counts.items():
            counted.update(_counted(part.column(name)))
        for name, ends in bounds.items():
            low_high = pc.min_max(part.column(name)).as_py()
            ends += [low_high["min"], low_high["max"]] if low_high["min"] is not None else []
        for row in range(part.num_rows):  # each row so far is in the draw with the same chance
            place = seen + row if seen + row < sample else draw.randrange(seen + row + 1)
            if place < sample:
                drawn[place : place + 1] = [part.slice(row, 1).to_pylist()[0]]
        seen += part.num_rows
        if seen >= READ:
            break
    filters: list[Choice | Range] = []
    for name in kinds:
        if name in bounds and bounds[name] and min(bounds[name]) < max(bounds[name]):
            filters.append(Range(name, min(bounds[name]), max(bounds[name])))
        elif name in counts and (len(counts[name]) > 1 and 2 * len(counts[name]) <= sum(counts[name].values())):
            often = counts[name].most_common(OPTIONS)
            filters.append(Choice(name, often, len(counts[name]) - len(often)))
    vectors = np.array([row.pop("vector") for row in drawn], dtype=np.float32).reshape(len(drawn), target.dimension)
    return Columns(filters[:SHOWN], seen, [row.pop("id") for row in drawn], vectors, drawn)


_TEXTS = ("text", "texts", "boolean")


def _counted(column: pa.ChunkedArray) -> Mapping[Any, int]:
    told = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    each = pc.value_counts(told.drop_null())
    return dict(zip(each.field("values").to_pylist(), each.field("counts").to_pylist(), strict=True))
