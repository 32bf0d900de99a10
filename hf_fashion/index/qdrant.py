"""An index in a collection of Qdrant: on a server by its address, or in a folder or in memory for trying it out.

The key of a server is read from QDRANT_API_KEY of the environment, and is written nowhere. A server finds neighbours
by a graph (HNSW): nearly all of them; the folder and the memory are searched exactly.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from hf_fashion.errors import InputError, extra, printable
from hf_fashion.index import about, rows
from hf_fashion.index.about import About
from hf_fashion.index.where import Condition, qdrant, qdrant_path

KEY = "QDRANT_API_KEY"
COLLECTION = "photos"
_ABOUT = "hf_fashion"  # key of the collection's metadata
_ROWS = 512  # in a request
_NO_NAME = '"'  # what the name of a column cannot have there
_SCHEMAS = {"text": "keyword", "texts": "keyword", "integer": "integer", "number": "float", "boolean": "bool"}


class Store:
    """See `exact.Store`, whose methods it has.

    Args:
        folder: Of an index.
    """

    def __init__(self, folder: Path) -> None:
        self._begin(_client(str(folder)), COLLECTION, str(folder))

    def _begin(self, client: Any, collection: str, target: str) -> None:
        self._client, self._collection, self._target = client, collection, target
        self._folder = Path(target) if not _is_server(target) and target != ":memory:" else None

    @classmethod
    def open(cls, address: str) -> "Store":
        """Opens the collection of a server."""
        client, collection = _client(address), _collection(address)
        with _asking(address):
            there = client.collection_exists(collection)
        if not there:
            raise InputError(
                f"index {address}", expected="a collection that is there", found=f"none called {collection}",
                fix="hf-fashion index PHOTOS MODEL -o ADDRESS makes one",
            )  # fmt: skip
        made = cls.__new__(cls)
        made._begin(client, collection, address)
        return made

    @classmethod
    def create(cls, target: str | Path, told: About) -> "Store":
        """Makes the collection."""
        client, collection = _client(str(target)), _collection(str(target))
        from qdrant_client import models

        with _asking(str(target)):
            if client.collection_exists(collection):
                raise InputError(
                    f"index {target}", expected="a new collection", found=f"{collection}, which is there",
                    fix="another name at the end of the address; or index.open, if it is an index",
                )  # fmt: skip
            shape = models.VectorParams(size=told.dimension, distance=models.Distance.DOT)
            client.create_collection(collection, vectors_config=shape, metadata={_ABOUT: told.to_dict()})
        made = cls.__new__(cls)
        made._begin(client, collection, str(target))
        if made._folder is not None:
            about.write(made._folder, told.to_dict())
        return made

    @property
    def about(self) -> About:
        with _asking(self._target):
            held = self._client.get_collection(self._collection).config.metadata or {}
        return about.of(held.get(_ABOUT), f"index {self._target}")

    def __len__(self) -> int:
        with _asking(self._target):
            return int(self._client.count(self._collection, exact=True).count)

    def upsert(self, ids: Sequence[str], vectors: np.ndarray, table: pa.Table, columns: dict[str, str]) -> None:
        from qdrant_client import models

        self._widen(columns)
        payloads = [
            {"id": one} | {name: value for name, value in row.items() if value is not None}
            for one, row in zip(ids, rows.dicts(table), strict=True)
        ]
        with _asking(self._target):
            for at in range(0, len(ids), _ROWS):
                part = slice(at, at + _ROWS)
                points = models.Batch(ids=_points(ids[part]), vectors=vectors[part].tolist(), payloads=payloads[part])
                self._client.upsert(self._collection, points, wait=True)

    def delete(self, ids: Sequence[str]) -> int:
        before = len(self)
        with _asking(self._target):
            for at in range(0, len(ids), _ROWS):
                self._client.delete(self._collection, _points(ids[at : at + _ROWS]), wait=True)
        return before - len(self)

    def compact(self) -> None:
        """Nothing to do: a server does it by itself."""

    def search(
        self, queries: np.ndarray, k: int, conditions: Sequence[Condition], columns: Sequence[str]
    ) -> tuple[list[list[str]], list[np.ndarray], list[list[dict[str, Any]]]]:
        from qdrant_client import models

        wanted = ["id", *map(qdrant_path, columns)]
        asks = [
            models.QueryRequest(query=query, filter=qdrant(conditions), limit=k, with_payload=wanted)
            for query in queries.tolist()
        ]
        with _asking(self._target):
            answers = [one.points for one in self._client.query_batch_points(self._collection, asks)]
        ids = [[point.payload["id"] for point in points] for points in answers]
        scores = [np.array([point.score for point in points], dtype=np.float32) for points in answers]
        return ids, scores, [[_row(point, columns) for point in points] for points in answers]

    def rows_of(self, ids: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {
            point.payload["id"]: _row(point, columns)
            for point in self._read(ids, ["id", *map(qdrant_path, columns)], False)
        }

    def vectors_of(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        found = self._read(ids, ["id"], True)
        return {point.payload["id"]: np.array(point.vector, dtype=np.float32) for point in found}

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[list[str], np.ndarray, pa.Table]]:
        kinds, place, wanted = self.about.columns, None, ["id", *map(qdrant_path, columns)]
        while True:
            with _asking(self._target):
                points, place = self._client.scroll(
                    self._collection, limit=_ROWS, offset=place, with_payload=wanted, with_vectors=True
                )
            if points:
                told = [_row(point, columns) for point in points]
                part = {name: pa.array([row[name] for row in told], rows.KINDS[kinds[name]]) for name in columns}
                vectors = np.array([point.vector for point in points], dtype=np.float32)
                yield [point.payload["id"] for point in points], vectors, pa.table(part)
            if place is None:
                return

    def close(self) -> None:
        self._client.close()

    def _read(self, ids: Sequence[str], payload: Sequence[str], vectors: bool) -> list[Any]:
        points: list[Any] = []
        with _asking(self._target):
            for at in range(0, len(ids), _ROWS):
                points += self._client.retrieve(
                    self._collection, _points(ids[at : at + _ROWS]), with_payload=list(payload), with_vectors=vectors
                )
        return points

    def _widen(self, columns: dict[str, str]) -> None:
        """Tells the collection of new columns; a server gets an index over each, for filters."""
        told = self.about
        if columns == told.columns:
            return
        for name in columns:
            if _NO_NAME in name:
                raise InputError(
                    f"column {name}", expected=f"a name without {_NO_NAME} for Qdrant", found=name,
                    fix="rename the column",
                )  # fmt: skip
        new = replace(told, columns=columns).to_dict()
        with _asking(self._target):
            self._client.update_collection(self._collection, metadata={_ABOUT: new})
            for name, kind in columns.items() if _is_server(self._target) else ():
                if told.columns.get(name) != kind and name != rows.PICTURE:
                    self._client.create_payload_index(
                        self._collection, qdrant_path(name), field_schema=_SCHEMAS[kind], wait=True
                    )
        if self._folder is not None:
            about.write(self._folder, new)


def exists(address: str) -> bool:
    """Whether a server has the collection."""
    client = _client(address)
    try:
        with _asking(address):
            return bool(client.collection_exists(_collection(address)))
    finally:
        client.close()


def _is_server(target: str) -> bool:
    return urlsplit(target).scheme in ("http", "https")


def _client(target: str) -> Any:
    with extra("the backend qdrant", "qdrant-client", "index"):
        from qdrant_client import QdrantClient

    if target == ":memory:":
        return QdrantClient(location=target)
    if not _is_server(target):
        try:
            return QdrantClient(path=target)
        except RuntimeError as error:
            raise InputError(
                f"index {target}", expected="a folder that no other process has open", found=str(error).split(".")[0],
                fix="end the other process, or use a server",
            ) from error  # fmt: skip
    parts = urlsplit(target)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "the address of the index", expected="http://host:6333/COLLECTION, without a name, a key or ?",
            found="more than that", fix=f"put the key into {KEY} of the environment",
        )  # fmt: skip
    with _asking(target):
        address = f"{parts.scheme}://{parts.netloc}"
        return QdrantClient(url=address, api_key=os.environ.get(KEY) or None, timeout=60)


def _collection(target: str) -> str:
    name = urlsplit(target).path.strip("/") if _is_server(target) else COLLECTION
    if "/" in name:
        raise InputError(
            f"index {target}", expected="one name behind the host", found=name, fix="http://host:6333/COLLECTION"
        )
    return name or COLLECTION


def _points(ids: Sequence[str]) -> list[Any]:
    """What Qdrant calls them: a UUID of each id."""
    return [str(uuid.uuid5(uuid.NAMESPACE_URL, one)) for one in ids]


def _row(point: Any, columns: Sequence[str]) -> dict[str, Any]:
    return {name: point.payload.get(name) for name in columns}


@contextlib.contextmanager
def _asking(target: str) -> Iterator[None]:
    """Turns what a server answers, or does not, into an `InputError`."""
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise InputError(
            f"index {target}", expected="a server of Qdrant that answers",
            found=printable(str(error).splitlines()[0] if str(error) else type(error).__name__)[:200],
            fix=f"look at the address, and at {KEY} of the environment",
        ) from error  # fmt: skip
