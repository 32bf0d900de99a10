"""`create` and `open`, and the `Index` that they give: one form in front of every backend."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from hf_fashion.errors import InputError
from hf_fashion.index import about, rows
from hf_fashion.index.about import About
from hf_fashion.index.rows import PICTURE, Rows
from hf_fashion.index.where import Where, parse

BACKENDS = ("exact", "lancedb", "qdrant")
MEMORY = ":memory:"
_OF_LENGTH_1 = 0.01  # what was stored in half precision is off by some 0.001


class Found(NamedTuple):
    """What a search found, for each query, the best first; fewer than k where there are no more.

    Args:
        ids: Of the rows.
        scores: Inner products (found,) float32: cosines, where vectors are normalised.
        rows: The columns of each.
    """

    ids: list[list[str]]
    scores: list[np.ndarray]
    rows: list[list[dict[str, Any]]]


class Index:
    """Vectors with an id and a row each. Made by `create` and `open`; a context manager.

    Args:
        store: Of a backend.
        target: The folder or address.
    """

    def __init__(self, store: Any, target: str) -> None:
        self._store = store
        self.target = target

    @property
    def about(self) -> About:
        """Backend, model, dimension and columns."""
        told: About = self._store.about
        return told

    @property
    def made_by(self) -> dict[str, Any]:
        """The model that made the vectors: `model`, `revision`, `hash`, `normalised`."""
        return self.about.made_by

    @property
    def model(self) -> str:
        """The model that made it: a Hub id, or where its folder is now.

        A relative path is one from where `hf-fashion index` ran, so it is looked for above the index, too.
        """
        named = str(self.made_by["model"])
        if Path(named).exists() or Path(named).is_absolute() or _is_server(self.target):
            return named
        above = (folder / named for folder in Path(self.target).resolve().parents)
        return next((str(path) for path in above if path.is_dir()), named)

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return self.about.dimension

    @property
    def columns(self) -> dict[str, str]:
        """Column of the rows -> its kind: text, integer, number, boolean or texts."""
        return self.about.columns

    def __len__(self) -> int:
        return len(self._store)

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of files and connections."""
        self._store.close()

    def refuse_other(self, made_by: Mapping[str, Any] | str, what: str = "the model") -> None:
        """Raises InputError where `made_by` (see `identify`) is another model than that of the index."""
        about.refuse_other(self.about, made_by, what)

    def upsert(self, ids: Sequence[str], vectors: np.ndarray, rows_: Rows = None) -> None:
        """Adds vectors, in the place of those with the same ids: all of them, or none (Qdrant: 512 at a time).

        Args:
            ids: One for each, none twice.
            vectors: (n, dimension); of length 1 where the index says so.
            rows_: A pyarrow Table, or a dict each: text, numbers, true or false, lists of text. Columns may be new.

        Raises:
            InputError: What is given does not fit the index, or itself.
        """
        ids, told = _ids(ids), self.about
        vectors = _vectors(told, vectors, "vectors")
        if len(vectors) != len(ids):
            raise InputError(
                "vectors", expected=f"{len(ids)}, one for each id", found=str(len(vectors)), fix="give as many"
            )
        table, columns = rows.table(rows_, len(ids), told.columns)
        if ids:
            self._store.upsert(ids, vectors, table, columns)

    def delete(self, ids: Sequence[str]) -> int:
        """Takes ids out; those that are not in are passed over. Gives how many were in."""
        ids = _ids(ids)
        return int(self._store.delete(ids)) if ids else 0

    def search(
        self, queries: np.ndarray, k: int = 10, where: Where = None, *, columns: Sequence[str] | None = None
    ) -> Found:
        """The nearest vectors of each query, by inner product, among the rows that a filter lets pass.

        Args:
            queries: (n, dimension), of the model of the index.
            k: How many at most.
            where: See `where.parse`: `category=dress price<50`, or a dict.
            columns: Which are given with each; None for all.

        Raises:
            InputError: Queries of another length, a filter that cannot be read, an unknown column.
        """
        if not 1 <= k <= 100_000:
            raise InputError(f"k {k}", expected="1 to 100000", found=str(k), fix="k=10")
        told = self.about
        queries = _vectors(told, queries, "queries", is_query=True)
        return Found(*self._store.search(queries, k, parse(where, told.columns), _chosen(told, columns)))

    def refuse_where(self, where: Where) -> None:
        """Raises InputError for a filter that `search` would refuse."""
        parse(where, self.columns)

    def rows_of(self, ids: Sequence[str], *, columns: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """The rows of those ids that are in."""
        found: dict[str, dict[str, Any]] = self._store.rows_of(_ids(ids), _chosen(self.about, columns, hidden=True))
        return found

    def vectors_of(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors (dimension,) of those ids that are in: "more like this"."""
        found: dict[str, np.ndarray] = self._store.vectors_of(_ids(ids))
        return found

    def scan(self, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All of it, a part at a time: `id`, `vector` (a list of float32 of fixed length) and the columns."""
        chosen = _chosen(self.about, columns, hidden=True)
        for ids, vectors, table in self._store.scan(chosen):
            flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
            lists = pa.FixedSizeListArray.from_arrays(flat, self.dimension)
            yield pa.table(
                {"id": pa.array(ids, pa.string()), "vector": lists} | {name: table.column(name) for name in chosen}
            )

    def to_parquet(self, path: str | Path) -> None:
        """Writes all of it into one parquet file, which Spark, Ray, Daft, ... read; see `parquet.write`."""
        from hf_fashion.index.parquet import write

        write(self, Path(path))

    def compact(self) -> None:
        """Puts in order on the disk what many changes left. Searches go on meanwhile."""
        self._store.compact()


def create(
    target: str | Path, *, made_by: Mapping[str, Any] | str, dimension: int,
    backend: Literal["exact", "lancedb", "qdrant"] = "exact",
) -> Index:  # fmt: skip
    """Makes an empty index.

    Args:
        target: A new or empty folder. With `qdrant` also an address, `http://host:6333/COLLECTION` (its key is taken
            from QDRANT_API_KEY of the environment), or ":memory:".
        made_by: The model of the vectors, as `identify` gives it; its name alone says less.
        dimension: Numbers of a vector.
        backend: "exact": a folder, searched in whole, so that nothing is missed; best up to some million vectors.
            "lancedb": a folder of LanceDB. "qdrant": a server, or a folder for trying it out.

    Raises:
        InputError: The target is in use, or a package is missing.
    """
    if backend not in BACKENDS:
        raise InputError("backend", expected=", ".join(BACKENDS), found=backend, fix="type one of these")
    if not 1 <= dimension <= 65536:
        raise InputError(
            f"dimension {dimension}", expected="1 to 65536", found=str(dimension), fix="that of the model"
        )
    told = About(backend, about.maker(made_by), dimension)
    name = str(target)
    if _is_server(name):
        if backend != "qdrant":
            raise InputError(f"index {name}", expected="a folder", found="an address", fix='backend="qdrant"')
        from hf_fashion.index import qdrant

        return Index(qdrant.Store.create(name, told), name)
    folder = Path(target)
    with _disk(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"index {folder}", expected="a new or empty folder",
                found="one in use" if folder.is_dir() else "a file",
                fix="another name; or index.open, if it is an index",
            )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
    return Index(_module(backend).Store.create(folder, told), name)


def open(target: str | Path, *, made_by: Mapping[str, Any] | str | None = None) -> Index:
    """Opens an index.

    Args:
        target: Its folder or address.
        made_by: The model with which queries are made (see `identify`): another than that of the index is refused.

    Raises:
        InputError: There is none, it is of another model, or a package is missing.
    """
    name = str(target)
    if name == MEMORY:
        raise InputError("index :memory:", expected="a folder or an address", found=name, fix="index.create makes one")
    if _is_server(name):
        from hf_fashion.index import qdrant

        opened = Index(qdrant.Store.open(name), name)
    else:
        folder = Path(target)
        with _disk(folder):
            told = about.of(about.read(folder), f"index {folder}")
        if told.backend not in BACKENDS:
            raise InputError(
                f"index {folder}", expected=f"one of: {', '.join(BACKENDS)}", found=told.backend,
                fix="build it again with hf-fashion index",
            )  # fmt: skip
        with _disk(folder):
            opened = Index(_module(told.backend).Store(folder), name)
    if made_by is not None:
        try:
            opened.refuse_other(made_by)
        except InputError:
            opened.close()
            raise
    return opened


def exists(target: str | Path) -> bool:
    """Whether there is an index."""
    if _is_server(str(target)):
        from hf_fashion.index import qdrant

        return str(target) != MEMORY and qdrant.exists(str(target))
    return (Path(target) / about.FILE).is_file()


def _is_server(target: str) -> bool:
    return target == MEMORY or urlsplit(target).scheme in ("http", "https")


def _module(backend: str) -> Any:
    """The backend's, imported when it is asked for: each needs a library."""
    if backend == "exact":
        from hf_fashion.index import exact

        return exact
    if backend == "lancedb":
        from hf_fashion.index import lance

        return lance
    from hf_fashion.index import qdrant

    return qdrant


def _chosen(told: About, columns: Sequence[str] | None, hidden: bool = False) -> list[str]:
    if columns is None:
        return [name for name in told.columns if hidden or name != PICTURE]
    for name in columns:
        if name not in told.columns:
            raise InputError(
                f"column {name}", expected=f"one of: {', '.join(told.columns)}", found=name, fix="type one of these"
            )
    return list(columns)


def _vectors(told: About, vectors: np.ndarray, what: str, is_query: bool = False) -> np.ndarray:
    """Vectors as float32, of the length that the index asks for."""
    made = np.asarray(vectors, dtype=np.float32)
    made = made[None] if is_query and made.ndim == 1 else made
    if made.ndim != 2 or made.shape[1] != told.dimension:
        raise InputError(
            what, expected=f"an array (n, {told.dimension}), of the model {told.made_by['model']}",
            found=str(made.shape), fix="make them with that model",
        )  # fmt: skip
    lengths = np.linalg.norm(made, axis=1)
    bad = ~np.isfinite(lengths)
    if told.made_by["normalised"]:
        bad |= ~(np.abs(lengths - 1) <= _OF_LENGTH_1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{what}, row {first}", expected="vectors of length 1" if told.made_by["normalised"] else "numbers",
            found=f"length {lengths[first]:.4g}", fix="encode(..., normalize_embeddings=True)",
        )  # fmt: skip
    return np.require(made, requirements=["C", "W"])  # torch warns of what is read-only


def _ids(ids: Sequence[str]) -> list[str]:
    made = list(ids)
    wrong = next((one for one in made if not isinstance(one, str) or not one), None)
    if wrong is not None:
        raise InputError("ids", expected="texts, none empty", found=f"{wrong!r}", fix="str(id)")
    if len(set(made)) < len(made):
        twice = next(one for one in made if made.count(one) > 1)
        raise InputError("ids", expected="each once", found=f"{twice!r} several times", fix="keep one of them")
    return made


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"index {folder}", expected="a folder that can be read and written",
            found=str(error), fix="another folder, or build it again",
        ) from error  # fmt: skip
