"""An index in a folder of LanceDB: a table of its own format, with `index.json` beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock

from hf_fashion.errors import InputError, extra
from hf_fashion.index import about, rows
from hf_fashion.index.about import About
from hf_fashion.index.where import Condition, sql

TABLE = "photos"
LOCK = "index.lock"
_ORDER_EVERY = 256  # changes, each of which leaves small files
_IDS = 1000  # named in one condition
_ROWS = 8192  # in memory at once
_WIDE = "__number"  # behind the name of a column while it becomes one of numbers
_NO_NAME = ".`"  # what the name of a column cannot have there


class Store:
    """See `exact.Store`, whose methods it has.

    Args:
        folder: Of an index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK)
        self._db = _connect(folder)
        self._table = self._db.open_table(TABLE)

    @staticmethod
    def create(folder: Path, told: About) -> "Store":
        fields = [("id", pa.string()), ("vector", pa.list_(pa.float32(), told.dimension))]
        _connect(folder).create_table(TABLE, schema=pa.schema(fields))
        about.write(folder, told.to_dict())
        return Store(folder)

    @property
    def about(self) -> About:
        return about.of(about.read(self.folder), f"index {self.folder}")

    def __len__(self) -> int:
        return int(self._table.count_rows())

    def upsert(self, ids: Sequence[str], vectors: np.ndarray, table: pa.Table, columns: dict[str, str]) -> None:
        with self._lock:
            told = self.about
            self._widen(told, columns)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), told.dimension)
            made = rows.filled(table, columns, list(columns))
            new = pa.table(
                {"id": pa.array(ids, pa.string()), "vector": flat} | {name: made.column(name) for name in columns}
            )
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(new)
            self._order()

    def delete(self, ids: Sequence[str]) -> int:
        with self._lock:
            before = len(self)
            for part in _parts(ids):
                self._table.delete(_named(part))
            self._order()
            return before - len(self)

    def compact(self) -> None:
        with self._lock:
            self._table.optimize(cleanup_older_than=timedelta(minutes=10))  # readers may still be in older ones

    def search(
        self, queries: np.ndarray, k: int, conditions: Sequence[Condition], columns: Sequence[str]
    ) -> tuple[list[list[str]], list[np.ndarray], list[list[dict[str, Any]]]]:
        ids, scores, told = [], [], []
        for query in queries:
            search = self._table.search(query, vector_column_name="vector").distance_type("dot").limit(k)
            search = search.where(sql(conditions), prefilter=True) if conditions else search
            found = search.select(["id", *columns, "_distance"]).to_arrow()
            scores.append((1 - found.column("_distance").to_numpy()).astype(np.float32))
            ids.append(found.column("id").to_pylist())
            told.append(rows.dicts(found.select(list(columns))))
        return ids, scores, told

    def rows_of(self, ids: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        made: dict[str, dict[str, Any]] = {}
        for part in _parts(ids):
            found = self._read(_named(part), ["id", *columns])
            made |= dict(zip(found.column("id").to_pylist(), rows.dicts(found.select(list(columns))), strict=True))
        return made

    def vectors_of(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        made: dict[str, np.ndarray] = {}
        for part in _parts(ids):
            found = self._read(_named(part), ["id", "vector"])
            made |= dict(zip(found.column("id").to_pylist(), _array(found), strict=True))
        return made

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[list[str], np.ndarray, pa.Table]]:
        reader = self._table.search().select(["id", "vector", *columns]).to_batches(_ROWS)
        for batch in reader:
            part = pa.Table.from_batches([batch])
            if part.num_rows:
                yield part.column("id").to_pylist(), _array(part), part.select(list(columns))

    def close(self) -> None:
        del self._table, self._db

    def _read(self, condition: str, columns: Sequence[str]) -> pa.Table:
        return self._table.search().where(condition).select(list(columns)).limit(_IDS).to_arrow()

    def _widen(self, told: About, columns: dict[str, str]) -> None:
        """Adds columns that are new to the table, and makes whole numbers numbers."""
        for name in columns:
            if name not in told.columns and (_WIDE in name or any(sign in name for sign in _NO_NAME)):
                raise InputError(
                    f"column {name}", expected=f"a name without {', '.join((*_NO_NAME, _WIDE))} for LanceDB",
                    found=name, fix="rename the column",
                )  # fmt: skip
        self._rename()  # where a writer died in between
        there = set(self._table.schema.names)  # of that writer, more than was told
        new = {name: kind for name, kind in columns.items() if name not in there}
        if new:
            self._table.add_columns(rows.schema(new))
        for name in set(columns) & there:
            if self._table.schema.field(name).type != rows.KINDS[columns[name]]:
                self._table.add_columns({name + _WIDE: f"CAST(`{name}` AS DOUBLE)"})  # it has no cast in place
                self._table.drop_columns([name])
                self._rename()
        if columns != told.columns:
            about.write(self.folder, replace(told, columns=columns).to_dict())

    def _rename(self) -> None:
        """Ends what `_widen` began: a column of numbers takes the place of the one of whole numbers."""
        names = self._table.schema.names
        for wide in (name for name in names if name.endswith(_WIDE)):
            if wide.removesuffix(_WIDE) in names:
                self._table.drop_columns([wide])  # it may be older than the other
            else:
                self._table.alter_columns({"path": wide, "rename": wide.removesuffix(_WIDE)})

    def _order(self) -> None:
        if self._table.version % _ORDER_EVERY == 0:
            self.compact()


def _connect(folder: Path) -> Any:
    with extra("the backend lancedb", "lancedb", "index"):
        import lancedb

    return lancedb.connect(str(folder), read_consistency_interval=timedelta(0))  # what others wrote is seen at once


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS):
        yield ids[start : start + _IDS]


def _named(ids: Sequence[str]) -> str:
    return sql([Condition("id", "text", "=", tuple(ids))])


def _array(part: pa.Table) -> np.ndarray:
    """The column of vectors as (n, dimension) float32."""
    lists = part.column("vector").combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    made: np.ndarray = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1)
    return made
