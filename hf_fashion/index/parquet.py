"""Vectors as parquet: `id`, `vector` (a list of float32), and the columns; what Spark, Ray or Daft write and read."""

import glob
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_fashion.errors import InputError, writing
from hf_fashion.index import rows, whole
from hf_fashion.index.whole import Index

_KEY = b"hf_fashion_index"  # of the file's metadata: what `About.to_dict` gives
_ROWS = 16384  # in memory at once


def write(index: Index, path: Path) -> None:
    """Writes an index into one file; one that is there is replaced when the new one is whole.

    Raises:
        InputError: The file cannot be written.
    """
    told = index.about
    vector = pa.list_(pa.float32(), told.dimension)
    schema = pa.schema(
        [("id", pa.string()), ("vector", vector), *rows.schema(told.columns)],
        metadata={_KEY: json.dumps(told.to_dict()).encode()},
    )
    new = path.with_name(path.name + ".new")
    try:
        with writing(f"parquet {path}"), pq.ParquetWriter(new, schema) as file:
            for part in index.scan(columns=list(told.columns)):
                file.write_table(part.cast(schema))
        os.replace(new, path)
    except OSError as error:
        raise InputError(
            f"parquet {path}", expected="a file that can be written", found=str(error.strerror or error),
            fix="another path",
        ) from error  # fmt: skip
    finally:
        new.unlink(missing_ok=True)


def from_parquet(
    paths: str | Path, target: str | Path, *, made_by: Mapping[str, Any] | str | None = None,
    backend: Literal["exact", "lancedb", "qdrant"] = "exact", id_column: str = "id", vector_column: str = "vector",
) -> Index:  # fmt: skip
    """Brings vectors from parquet files into an index: a new one, or into one that is there.

    Args:
        paths: A file, a folder, or a pattern such as `vectors/*.parquet`.
        target: See `index.create`. Into one that is there ids are added, or replaced.
        made_by: The model, see `index.identify`; where it is None the files must say it, as those of `to_parquet` do.
        backend: Of a new index.
        id_column: Column of the ids: text, or whole numbers, which become text.
        vector_column: Column of lists of decimals, all of one length.

    Returns:
        The index, open.

    Raises:
        InputError: There are no such files or columns, vectors differ in length, an id stands twice in files for a
            new index, or the index is of another model.
    """
    files = _files(str(paths))
    told = made_by if made_by is not None else _told(files[0])
    is_new = not whole.exists(target)
    index = None if is_new else whole.open(target, made_by=told)
    seen = 0
    for file in files:
        for ids, vectors, table in _parts(file, id_column, vector_column):
            if index is None:
                index = whole.create(target, made_by=told, dimension=vectors.shape[1], backend=backend)
            if is_new and (twice := index.rows_of(ids, columns=[])):
                raise InputError(
                    f"{file}: column {id_column}", expected="each id once", found=f"{next(iter(twice))!r} again",
                    fix=f"make them differ, delete {target}, and start again",
                )  # fmt: skip
            index.upsert(ids, vectors, table)
            seen += len(ids)
    if index is None or not seen:
        raise InputError(f"parquet {paths}", expected="rows", found="none", fix="give files with vectors")
    return index


def _files(paths: str) -> list[Path]:
    if Path(paths).is_dir():
        files = sorted(Path(paths).rglob("*.parquet"))
    else:
        files = [Path(paths)] if Path(paths).is_file() else sorted(map(Path, glob.glob(paths, recursive=True)))
    if not files:
        raise InputError(f"parquet {paths}", expected="a file, a folder or a pattern", found="no file", fix="mend it")
    return files


def _told(file: Path) -> dict[str, Any]:
    held = (_opened(file).schema_arrow.metadata or {}).get(_KEY)
    if held is None:
        raise InputError(
            f"parquet {file}", expected="made_by: which model made the vectors", found="none, nor in the file",
            fix='made_by={"model": ID_OR_FOLDER, ...}, as index.identify(encoder, MODEL) gives it',
        )  # fmt: skip
    made_by: dict[str, Any] = json.loads(held)["made_by"]
    return made_by


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"parquet {file}", expected="a parquet file", found=str(error).splitlines()[0], fix="write it again"
        ) from error


def _parts(file: Path, id_column: str, vector_column: str) -> Iterator[tuple[list[str], np.ndarray, pa.Table]]:
    with _opened(file) as opened:
        names = opened.schema_arrow.names
        for name in (id_column, vector_column):
            if name not in names:
                raise InputError(
                    f"parquet {file}", expected=f"a column {name}", found=", ".join(names),
                    fix="id_column=..., vector_column=...",
                )  # fmt: skip
        for batch in opened.iter_batches(_ROWS):
            table = pa.Table.from_batches([batch])
            ids = table.column(id_column)
            if not (rows.is_text(ids.type) or pa.types.is_integer(ids.type)) or ids.null_count:
                found = f"{ids.null_count} without one" if ids.null_count else str(ids.type)
                raise InputError(f"{file}: column {id_column}", expected="text", found=found, fix="convert it to text")
            vectors = _vectors(table.column(vector_column), f"{file}: column {vector_column}")
            yield ids.cast(pa.string()).to_pylist(), vectors, table.drop_columns([id_column, vector_column])


def _vectors(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """A column of lists as (n, d) float32, whatever kind of list it is."""
    lists = pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks()
    if isinstance(lists, pa.ExtensionArray):  # a tensor of Ray, where Ray is loaded
        lists = lists.storage
    types = pa.types
    is_list = types.is_list(lists.type) or types.is_large_list(lists.type) or types.is_fixed_size_list(lists.type)
    if not is_list or not types.is_floating(lists.type.value_type):
        raise InputError(where, expected="lists of decimals", found=str(lists.type), fix="vector_column=...")
    flat = lists.flatten()
    wide = len(flat) // max(len(lists), 1)
    lengths = {wide} if types.is_fixed_size_list(lists.type) else set(pa.compute.list_value_length(lists).to_pylist())
    if lists.null_count or flat.null_count or lengths != {wide}:
        found = ", ".join(str(length) for length in sorted(lengths, key=str)[:5]) if lengths != {wide} else "nulls"
        raise InputError(where, expected="lists of one length", found=found, fix="leave those rows out")
    made: np.ndarray = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(len(lists), wide)
    return made
