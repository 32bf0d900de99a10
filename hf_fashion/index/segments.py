"""A part of an exact index on disk: vectors, a rounded copy, rows and ids, mapped into memory and never changed."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from hf_fashion.errors import writing
from hf_fashion.index import about

CHUNK = 16384  # rows in memory at once while a segment is written, and in a batch of its rows
_PARTS = ("vectors.npy", "coarse.npy", "ids.npy", "rows.arrow")


class Segment:
    """An open segment. What is mapped can be read on when its files are gone.

    Args:
        folder: Of the segment.
        told: What `write` gave, and `deleted`: the name of the file that says which rows are dead, "" for none.
    """

    def __init__(self, folder: Path, told: dict[str, Any]) -> None:
        self.told = told
        self.rows = int(told["rows"])
        self.vectors = _mapped(folder / "vectors.npy")  # (rows, dimension) float32
        self.coarse = _mapped(folder / "coarse.npy")  # the same, bfloat16 in int16
        self._ids = _mapped(folder / "ids.npy")  # (2, rows) uint64: hashes in order, and the row of each
        with pa.memory_map(str(folder / "rows.arrow")) as source:
            self.table = pa.ipc.open_file(source).read_all()  # nothing is copied
        self.dead = np.zeros(0, dtype=np.int64)  # rows, in order
        self.alive: np.ndarray | None = None  # (rows,) bool; None where all are
        if told["deleted"]:
            bits = np.load(folder / told["deleted"])
            self.alive = ~np.unpackbits(bits, count=self.rows).astype(bool)
            self.dead = np.flatnonzero(~self.alive)

    @property
    def living(self) -> int:
        return self.rows - len(self.dead)

    def find(self, ids: Sequence[str], hashes: np.ndarray) -> dict[int, int]:
        """Of ids and their hashes those that are here and alive: place among them -> row."""
        ordered = self._ids[0]
        first = np.searchsorted(ordered, hashes)
        found = {}
        for number in np.flatnonzero(
            (first < self.rows) & (ordered[np.minimum(first, self.rows - 1)] == hashes)
        ).tolist():
            place = int(first[number])
            while place < self.rows and ordered[place] == hashes[number]:  # several: of dead rows, or by chance
                row = int(self._ids[1, place])
                if (self.alive is None or self.alive[row]) and self._id(row) == ids[number]:
                    found[number] = row
                place += 1
        return found

    def _id(self, row: int) -> str:
        return str(take(self.table.select(["id"]), np.array([row])).column(0)[0])

    def parts(self, rows: int = CHUNK) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """The living vectors and their rows, so many at a time."""
        for start in range(0, self.rows, rows):
            vectors, table = self.vectors[start : start + rows], self.table.slice(start, rows)
            if self.alive is not None:
                kept = np.flatnonzero(self.alive[start : start + rows])
                vectors, table = vectors[kept], take(table, kept)
            if len(vectors):
                yield np.asarray(vectors), table


def take(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Rows of a table in the order given, without putting its batches together as Arrow itself does."""
    batches = table.to_batches()
    ends = np.cumsum([batch.num_rows for batch in batches])
    which = np.searchsorted(ends, rows, side="right")
    order = np.argsort(which, kind="stable")
    made = []
    for number in np.unique(which):
        start = ends[number] - batches[number].num_rows
        made.append(batches[number].take(pa.array(rows[which == number] - start, type=pa.int64())))
    if not made:
        return table.slice(0, 0)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pa.Table.from_batches(made).combine_chunks().take(pa.array(back))


def hashes_of(ids: Sequence[str]) -> np.ndarray:
    """A hash of 64 bits of each id (n,) uint64."""
    each = (hashlib.blake2b(one.encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(b"".join(each), dtype="<u8").astype(np.uint64)


def rounded(vectors: np.ndarray) -> torch.Tensor:
    """Vectors in bfloat16, each number to the nearest."""
    return torch.from_numpy(np.ascontiguousarray(vectors)).to(torch.bfloat16)


def write(
    folder: Path, parts: Iterable[tuple[np.ndarray, pa.Table]], rows: int, dimension: int, schema: pa.Schema
) -> dict[str, Any]:
    """Writes a segment into a new folder.

    Args:
        folder: It.
        parts: Vectors (n, dimension) float32 and their rows, with the columns of the schema.
        rows: Of all parts.
        dimension: Numbers of a vector.
        schema: `id` and the others.

    Returns:
        `name`, `rows`, `norm` (the longest vector), `rounding` (the most that one moved when it was rounded).

    Raises:
        InputError: The disk is full.
    """
    folder.mkdir(parents=True)
    hashes = np.empty(rows, dtype=np.uint64)
    done, norm, moved = 0, 0.0, 0.0
    with contextlib.ExitStack() as stack, writing(f"index {folder.parent.parent}"):
        # Not mapped while they are written: a full disk would end the process.
        vectors_file, coarse_file = (stack.enter_context((folder / name).open("wb")) for name in _PARTS[:2])
        for file, dtype in ((vectors_file, "<f4"), (coarse_file, "<i2")):
            header = {"descr": dtype, "fortran_order": False, "shape": (rows, dimension)}
            np.lib.format.write_array_header_1_0(file, header)
        rows_file = stack.enter_context((folder / "rows.arrow").open("wb"))
        table_file = stack.enter_context(pa.ipc.new_file(rows_file, schema))
        for vectors, table in parts:
            vectors = np.ascontiguousarray(vectors, dtype="<f4")
            coarse = rounded(vectors)
            vectors_file.write(vectors.data)
            coarse_file.write(coarse.view(torch.int16).numpy().astype("<i2", copy=False).data)
            table_file.write_table(table.select(schema.names).cast(schema), max_chunksize=CHUNK)
            hashes[done : done + len(vectors)] = hashes_of(table.column("id").to_pylist())
            exact = torch.from_numpy(vectors)
            norm = max(norm, float(exact.norm(dim=1).max()))
            moved = max(moved, float((exact - coarse.float()).norm(dim=1).max()))
            done += len(vectors)
        assert done == rows, f"{done} rows of {rows}"
        order = np.argsort(hashes, kind="stable")
        with (folder / "ids.npy").open("wb") as ids_file:
            np.save(ids_file, np.stack([hashes[order], order.astype(np.uint64)]))
    for name in _PARTS:
        _flush(folder / name)
    about.sync(folder)
    about.sync(folder.parent)
    return {"name": folder.name, "rows": rows, "norm": norm, "rounding": moved, "deleted": ""}


def bury(folder: Path, segment: Segment, rows: Iterable[int], name: str) -> dict[str, Any]:
    """Writes which rows of a segment are dead, besides those before, into a file of the name given.

    Returns:
        What is told of the segment then.
    """
    dead = np.zeros(segment.rows, dtype=bool)
    dead[segment.dead] = True
    dead[list(rows)] = True
    with writing(f"index {folder.parent.parent}"):
        np.save(folder / name, np.packbits(dead))
    _flush(folder / name)
    return segment.told | {"deleted": name}


def clean(folder: Path, told: Sequence[dict[str, Any]]) -> None:
    """Removes what no manifest names any more: segments that were merged or not finished, and files of the dead.

    Args:
        folder: Of the segments.
        told: Those that are in use.
    """
    used = {one["name"]: one["deleted"] for one in told}
    for place in folder.iterdir() if folder.is_dir() else ():
        if place.name not in used:
            shutil.rmtree(place, ignore_errors=True)
            continue
        for file in place.glob("deleted-*.npy"):
            if file.name != used[place.name]:
                file.unlink(missing_ok=True)


def _mapped(path: Path) -> np.ndarray:
    # "c": pages are shared until somebody writes to them, which nobody does; torch warns of what is read-only.
    made: np.ndarray = np.load(path, mmap_mode="c").view(np.ndarray)  # a memmap makes objects of its slices slowly
    return made


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
