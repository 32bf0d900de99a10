"""An index that is searched exactly, in a folder: segments that never change, and one file that says which count.

A change writes new files beside the old ones and then puts a new `index.json` in the place of the old one. So a reader
sees all of a change or nothing of it, in whatever moment the writer dies; and it reads on in what it has opened.
"""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock

from hf_fashion.errors import InputError
from hf_fashion.index import about, rows, searching
from hf_fashion.index.about import About
from hf_fashion.index.segments import CHUNK, Segment, bury, clean, hashes_of, take, write
from hf_fashion.index.where import Condition, mask

LOCK = "index.lock"
_SEGMENTS = "segments"
_ALIKE = 8  # segments of about one size become one
_WHOLE = 2**30  # bytes of vectors from which a segment is large enough


class _State:
    """One state of an index, with its segments open."""

    def __init__(self, folder: Path, told: dict[str, Any], held: dict[tuple[str, str], Segment]) -> None:
        self.about = about.of(told, f"index {folder}")
        self.change = int(told["change"])
        self.segments = []
        for one in told["segments"]:
            if Path(one["name"]).name != one["name"] or Path(one["deleted"]).name != one["deleted"]:
                raise InputError(
                    f"index {folder}", expected="names of its own files", found=one["name"], fix="build it again"
                )
            at = folder / _SEGMENTS / one["name"]
            self.segments.append(held.get((one["name"], one["deleted"])) or Segment(at, one))


class Store:
    """See the module.

    Args:
        folder: Of an index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: tuple[dict[str, Any], _State | None] = {}, None
        self._lock = FileLock(folder / LOCK)
        self._now()

    @staticmethod
    def create(folder: Path, told: About) -> "Store":
        """Makes an empty index in a folder that is there."""
        about.write(folder, told.to_dict() | {"change": 0, "segments": []})
        return Store(folder)

    @property
    def about(self) -> About:
        return self._now().about

    def __len__(self) -> int:
        return sum(segment.living for segment in self._now().segments)

    def upsert(self, ids: Sequence[str], vectors: np.ndarray, table: pa.Table, columns: dict[str, str]) -> None:
        """Writes vectors (n, d) float32 and their rows, in the place of those with the same ids."""
        with self._changing() as state:
            told = self._without(state, ids)
            named = pa.table({"id": pa.array(ids, pa.string()), **{n: table.column(n) for n in table.column_names}})
            schema = pa.schema([("id", pa.string()), *rows.schema({n: columns[n] for n in table.column_names})])
            parts = ((vectors[at : at + CHUNK], named.slice(at, CHUNK)) for at in range(0, len(ids), CHUNK))
            told.append(write(self._new(), parts, len(ids), state.about.dimension, schema))
            self._commit(replace(state.about, columns=columns), told, state.change)
            self._settle()

    def delete(self, ids: Sequence[str]) -> int:
        """Takes rows out; gives how many there were."""
        with self._changing() as state:
            before = sum(segment.living for segment in state.segments)
            self._commit(state.about, self._without(state, ids), state.change)
            self._settle()
            return before - len(self)

    def compact(self) -> None:
        """Puts small segments together, and writes those anew of which rows are dead."""
        with self._changing() as state:
            self._join([s for s in state.segments if len(s.dead) or not self._is_whole(s)])

    def search(
        self, queries: np.ndarray, k: int, conditions: Sequence[Condition], columns: Sequence[str]
    ) -> tuple[list[list[str]], list[np.ndarray], list[list[dict[str, Any]]]]:
        """See `Index.search`."""
        state = self._now()
        allowed = [self._allowed(segment, conditions) for segment in state.segments]
        places, scores = searching.top(state.segments, queries, k, allowed)
        count = (places >= 0).sum(axis=1)
        found = _rows(state, places[places >= 0], ["id", *columns])
        ids, told = found.column("id").to_pylist(), rows.dicts(found.select(list(columns)))
        ends = np.cumsum(count)
        parts = [slice(end - n, end) for end, n in zip(ends.tolist(), count.tolist(), strict=True)]
        kept = [score[:n] for score, n in zip(scores, count.tolist(), strict=True)]
        return [ids[part] for part in parts], kept, [told[part] for part in parts]

    def rows_of(self, ids: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The rows of those ids that are there."""
        state = self._now()
        named = _places(state, ids)
        found = _rows(state, np.array([*named.values()], dtype=np.int64), columns)
        return dict(zip((ids[number] for number in named), rows.dicts(found), strict=True))

    def vectors_of(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors (d,) of those ids that are there."""
        made: dict[str, np.ndarray] = {}
        hashes = hashes_of(ids)
        for segment in self._now().segments:
            made |= {ids[number]: np.array(segment.vectors[row]) for number, row in segment.find(ids, hashes).items()}
        return made

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[list[str], np.ndarray, pa.Table]]:
        """All ids, vectors and rows of one state, a part at a time."""
        state = self._now()
        for segment in state.segments:
            for vectors, table in segment.parts():
                yield table.column("id").to_pylist(), vectors, rows.filled(table, state.about.columns, columns)

    def close(self) -> None:
        self._open = {}, None

    def _now(self) -> _State:
        """The state of now; the one that is open, where nothing changed since."""
        missed: dict[str, Any] = {}
        while True:
            told = about.read(self.folder)
            before, state = self._open
            if state is not None and before == told:
                return state
            held = {(one.told["name"], one.told["deleted"]): one for one in state.segments} if state else {}
            try:
                state = _State(self.folder, told, held)
            except FileNotFoundError:  # merged away since `index.json` was read, or lost
                if told == missed:
                    raise
                missed = told
                continue
            self._open = told, state
            return state

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_State]:
        """The state to change, which nobody else changes meanwhile; what an earlier writer left is removed."""
        with self._lock:
            state = self._now()
            clean(self.folder / _SEGMENTS, [segment.told for segment in state.segments])
            yield state
            clean(self.folder / _SEGMENTS, [segment.told for segment in self._now().segments])

    def _commit(self, told: About, segments: Sequence[dict[str, Any]], change: int) -> None:
        about.write(self.folder, told.to_dict() | {"change": change + 1, "segments": list(segments)})

    def _new(self) -> Path:
        return self.folder / _SEGMENTS / uuid.uuid4().hex

    def _without(self, state: _State, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The segments with these ids dead."""
        hashes = hashes_of(ids)
        told = []
        for segment in state.segments:
            found = segment.find(ids, hashes)
            if not found:
                told.append(segment.told)
            elif len(found) < segment.living:
                at = self.folder / _SEGMENTS / segment.told["name"]
                told.append(bury(at, segment, found.values(), f"deleted-{state.change + 1}.npy"))
        return told

    def _is_whole(self, segment: Segment) -> bool:
        return segment.vectors.nbytes >= _WHOLE

    def _settle(self) -> None:
        """Joins segments of about one size as soon as there are many, and thins those that are half dead.

        So that each row is written again only a few times, however small the batches were.
        """
        while True:
            segments = self._now().segments
            sizes: dict[int, list[Segment]] = {}
            for segment in segments:
                if not self._is_whole(segment):
                    sizes.setdefault(int(np.log(max(segment.living, CHUNK // 16)) / np.log(_ALIKE)), []).append(
                        segment
                    )
            alike = next((some for some in sizes.values() if len(some) >= _ALIKE), [])
            thin = [segment for segment in segments if len(segment.dead) * 2 > segment.rows and segment not in alike]
            if not alike and not thin:
                return
            self._join([*alike, *thin])

    def _join(self, old: Sequence[Segment]) -> None:
        """Writes the living rows of some segments as new ones, in the place of the old."""
        state = self._now()
        if len(old) < 2 and not any(len(segment.dead) for segment in old):
            return
        gone = {segment.told["name"] for segment in old}
        told = [segment.told for segment in state.segments if segment.told["name"] not in gone]
        columns = list(state.about.columns)
        schema = pa.schema([("id", pa.string()), *rows.schema(state.about.columns)])
        for group in self._groups(old):
            living = sum(segment.living for segment in group)
            if living:
                parts = (
                    (vectors, pa.table({"id": table.column("id"), **_columns(table, state, columns)}))
                    for segment in group
                    for vectors, table in segment.parts()
                )
                told.append(write(self._new(), parts, living, state.about.dimension, schema))
        self._commit(state.about, told, state.change)

    def _groups(self, old: Sequence[Segment]) -> list[list[Segment]]:
        """Which become one: as many as make a whole one."""
        groups: list[list[Segment]] = [[]]
        size = 0
        for segment in old:
            groups[-1].append(segment)
            size += segment.vectors.nbytes
            if size >= _WHOLE:
                groups.append([])
                size = 0
        return [group for group in groups if group]

    def _allowed(self, segment: Segment, conditions: Sequence[Condition]) -> np.ndarray | None:
        if not conditions:
            return segment.alive
        wanted = mask(segment.table, conditions)
        return wanted if segment.alive is None else wanted & segment.alive


def _columns(table: pa.Table, state: _State, columns: Sequence[str]) -> dict[str, Any]:
    made = rows.filled(table, state.about.columns, columns)
    return {name: made.column(name) for name in columns}


def _places(state: _State, ids: Sequence[str]) -> dict[int, int]:
    """Place among the ids -> place in the segments as if they were one behind the other."""
    hashes, first = hashes_of(ids), 0
    found: dict[int, int] = {}
    for segment in state.segments:
        found |= {number: first + row for number, row in segment.find(ids, hashes).items()}
        first += segment.rows
    return found


def _rows(state: _State, places: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """The rows at places in the segments, in their order, with `id` where it is asked for."""
    columns = list(columns) or ["id"]
    kinds = {"id": "text", **state.about.columns}
    starts = np.cumsum([0, *(segment.rows for segment in state.segments)])
    which = np.searchsorted(starts, places, side="right") - 1
    order, parts = np.argsort(which, kind="stable"), []
    for number in np.unique(which):
        segment = state.segments[number]
        held = [name for name in columns if name in segment.table.column_names]
        part = take(segment.table.select(held or ["id"]), places[which == number] - starts[number])
        parts.append(rows.filled(part, kinds, columns))
    if not parts:
        return rows.schema({name: kinds[name] for name in columns}).empty_table()
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pa.concat_tables(parts).take(pa.array(back))
