"""Photos of a dataset become vectors in an index: batch by batch, over several processes, resumed where it was."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import ClassLabel, Dataset, DatasetDict, Image, concatenate_datasets
from tqdm.auto import tqdm

from hf_fashion import images
from hf_fashion.columns import is_list
from hf_fashion.errors import InputError
from hf_fashion.index import about, rows
from hf_fashion.index.rows import PICTURE
from hf_fashion.index.whole import Index
from hf_fashion.report import DROP
from hf_fashion.report import PICTURE as READABLE

BAR_FROM = 200  # photos
_IDS = ("id", "image_id", "source_row")  # columns that name a photo, the first that is there
_NEVER_NUMBERS = {*_IDS, "item_id"}
_NUMBER = r"^\s*-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?\s*$"  # 01 is a name
_WHOLE = r"^\s*-?[0-9]+\s*$"
_DIGEST = 16  # bytes
_SCAN = 10_000  # rows in memory at once
_THREADS = 8
_NAMED = 5  # photos in an error


@dataclass
class Built:
    """What `build` did.

    Args:
        embedded: Photos that went through the encoder.
        updated: Photos that were in already, of which another column changed.
        unchanged: Photos that were in already.
        deleted: Photos that were in, and are in the dataset no longer.
        left_out: Photos that cannot be read, each with `where` and `reason`.
        left_columns: Columns that an index cannot have (boxes, nested data).
    """

    embedded: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    left_out: list[dict[str, str]] = field(default_factory=list)
    left_columns: list[str] = field(default_factory=list)


def build(
    dataset: Dataset | DatasetDict, encoder: Any, target: Index, *, id_column: str | None = None,
    batch_size: int = 32, write_every: int = 512, on_bad_image: Literal["stop", "drop"] = "stop",
    delete_gone: bool = False, limits: images.Limits = images.LIMITS,
) -> Built:  # fmt: skip
    """Embeds the photos of a dataset, with their other columns as rows.

    What is in already with the same file is not embedded again, so a build that was broken off goes on where it was,
    at most `write_every` photos before; and one of a changed dataset takes what is new. Ids that the dataset has no
    longer stay, unless `delete_gone`; `target.delete` takes out any. Columns of the index that the dataset lacks keep
    their values.

    Of several processes (`accelerate launch`) each embeds and writes its share; they must all call this.

    Args:
        dataset: Canonical rows: `image`, and whatever else. Labels become their names, text that is a number in every
            row becomes numbers. Of several splits the rows get a column `split`.
        encoder: A `SentenceTransformer`, the one of the index.
        target: The index.
        id_column: Column with another value in each row, by which photos are known; default: `id`, `image_id` or
            `source_row`.
        batch_size: Photos in the encoder at once, and as decoded pictures in memory.
        write_every: Photos that are written together.
        on_bad_image: On photos that cannot be read: "stop" writes what came before and raises; "drop" goes on, and
            takes such a photo out of the index if it was in.
        delete_gone: At the end take out what the dataset has no longer.
        limits: See `images.decode`.

    Returns:
        Counts of all processes.

    Raises:
        InputError: The encoder is not that of the index, ids are not unique, a photo cannot be read.
    """
    if on_bad_image not in ("stop", "drop"):
        raise InputError("on_bad_image", expected="stop or drop", found=on_bad_image, fix="type one of the two")
    made_by = target.made_by
    if made_by["hash"]:
        same = about.identify(encoder, made_by["model"], made_by["revision"], normalised=made_by["normalised"])
        target.refuse_other(same, "the encoder")
    state = processes()
    if state.num_processes > 1:
        encoder.to(state.device)  # or all would take the first GPU
    photos = _Photos(dataset, id_column, target.columns)
    built = Built(left_columns=photos.left_columns if state.is_main_process else [])
    fault: dict[str, str] | None = None
    starts = range(state.process_index * write_every, len(photos), state.num_processes * write_every)
    hidden = not state.is_main_process or len(photos) < BAR_FROM
    with tqdm(total=sum(1 for _ in starts) * write_every, desc="embedding", unit="photo", disable=hidden) as bar:
        try:
            for start in starts:
                chunk = photos.part(start, start + write_every, limits)
                bar.total = bar.total - write_every + len(chunk) if len(chunk) < write_every else bar.total
                _add(chunk, encoder, target, batch_size, on_bad_image, limits, built, bar)
        except InputError as error:  # the others wait for this one at the end
            fault = {name: getattr(error, name) for name in ("what", "expected", "found", "fix")}
    if state.num_processes == 1:
        parts: list[tuple[Built, dict[str, str] | None]] = [(built, fault)]
    else:
        parts = gather_object([(built, fault)])
    for _, one in parts:
        if one is not None:
            raise InputError(one["what"], expected=one["expected"], found=one["found"], fix=one["fix"])
    told = _sum([one for one, _ in parts])
    if delete_gone:
        if state.is_main_process:
            told.deleted = target.delete(photos.gone(target))
        state.wait_for_everyone()
    return told


def processes() -> PartialState:
    """The processes of this run; also where there is no GPU, of which accelerate by itself makes runs of their own."""
    return PartialState(cpu=not torch.cuda.is_available())


def _sum(parts: Sequence[Built]) -> Built:
    total = Built()
    for one in parts:
        total.embedded, total.updated = total.embedded + one.embedded, total.updated + one.updated
        total.unchanged += one.unchanged
        total.left_out += one.left_out
        total.left_columns += one.left_columns
    return total


@dataclass
class _Part:
    """Photos on their way: every list has one entry a photo."""

    ids: list[str]
    where: list[str]
    pictures: list[Any]  # as stored
    rows: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.ids)


class _Photos:
    """The rows of all splits, with ids and with columns that an index can have."""

    def __init__(self, dataset: Dataset | DatasetDict, id_column: str | None, known: dict[str, str]) -> None:
        parts = {"": dataset} if isinstance(dataset, Dataset) else dict(dataset)
        parts = {split: part.with_format(None) for split, part in parts.items() if len(part)}
        if not parts:
            raise InputError("dataset", expected="photos", found="no row", fix="give one with photos")
        features = next(iter(parts.values())).features
        if "image" not in features:
            raise InputError(
                "dataset", expected="a column image", found=", ".join(features), fix="load it with data.load"
            )
        if len(parts) > 1 and "split" not in features:
            parts = {split: part.add_column("split", [split] * len(part)) for split, part in parts.items()}
        self._held = concatenate_datasets([part.cast_column("image", Image(decode=False)) for part in parts.values()])
        self._id = id_column or next((name for name in _IDS if name in features), "")
        if self._id not in features:
            raise InputError(
                f"id_column {self._id}" if self._id else "id_column",
                expected="a column with another value in each row", found=", ".join(features),
                fix="--id_column with one of these",
            )  # fmt: skip
        self._where = "source_row" if "source_row" in features else self._id
        self._names: dict[str, list[str]] = {}  # column -> names of its classes
        self._kinds: dict[str, str] = {}
        self.left_columns: list[str] = []
        for name, feature in self._held.features.items():
            if name == "image" or name == self._id == "id":
                continue
            inner = feature.feature if is_list(feature) else feature
            if isinstance(inner, ClassLabel):
                self._names[name] = list(inner.names or [])
                self._kinds[name] = "texts" if is_list(feature) else "text"
                continue
            kind = rows.kind_of(self._held.features.arrow_schema.field(name).type)
            if kind is None or name in rows.RESERVED or name == PICTURE:
                self.left_columns.append(name)
            else:
                self._kinds[name] = kind
        self._read_columns(known)

    def __len__(self) -> int:
        return len(self._held)

    def _read_columns(self, known: dict[str, str]) -> None:
        """Goes through ids and texts once: no id twice, and which texts are numbers."""
        texts = {n for n, kind in self._kinds.items() if kind == "text" and n not in self._names} - _NEVER_NUMBERS
        texts -= {self._id, *(name for name, kind in known.items() if kind == "text")}
        numbers, whole, empty = set(texts), set(texts), set(texts)
        ids = []
        held = self._held.select_columns(sorted({self._id, *texts})).with_format("arrow")
        for batch in held.iter(batch_size=_SCAN):
            ids.append(pc.cast(batch.column(self._id), pa.string()))
            for name in list(numbers):
                column = batch.column(name)
                if not rows.is_text(column.type):  # dates
                    numbers.discard(name)
                    continue
                told = column.filter(pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(column), ""), False))
                empty -= {name} if len(told) else set()
                numbers -= {name} if not _all(told, _NUMBER) else set()
                whole -= {name} if not _all(told, _WHOLE) else set()
        for name in numbers - empty:
            self._kinds[name] = "integer" if name in whole else "number"
        self._numbers = numbers - empty
        self._ids = ids
        chunks = pa.chunked_array([chunk for part in ids for chunk in part.chunks], type=pa.string())
        missing = chunks.null_count + int(pc.sum(pc.equal(chunks, "")).as_py() or 0)
        if missing or pc.count_distinct(chunks).as_py() < len(chunks):
            counts = pc.value_counts(chunks)
            often = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
            raise InputError(
                f"column {self._id}", expected="another value in each row, by which a photo is known",
                found=f"{missing} rows without one" if missing else f"{often[0].as_py()!r} in several rows",
                fix="--id_column with another column, or make them differ",
            )  # fmt: skip

    def gone(self, target: Index) -> list[str]:
        """Ids of the index that are not among these photos."""
        known = pa.chunked_array([chunk for part in self._ids for chunk in part.chunks], type=pa.string())
        found: list[str] = []
        for held in target.scan(columns=[]):
            names = held.column("id")
            found += names.filter(pc.invert(pc.is_in(names, value_set=known))).to_pylist()
        return found

    def part(self, start: int, stop: int, limits: images.Limits) -> _Part:
        """Some of the photos, with the hashes of their files in their rows."""
        held = self._held[start : min(stop, len(self._held))]
        made: dict[str, list[Any]] = {}
        for name in self._kinds:
            values = held[name]
            if name in self._names:
                values = [_named(value, self._names[name]) for value in values]
            elif name in self._numbers:
                number = int if self._kinds[name] == "integer" else float
                values = [number(value) if (value or "").strip() else None for value in values]
            made[name] = values
        with ThreadPoolExecutor(_THREADS) as pool:
            made[PICTURE] = list(pool.map(lambda source: _digest(source, limits), held["image"]))
        each = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
        return _Part([str(one) for one in held[self._id]], list(map(str, held[self._where])), held["image"], each)


def _all(column: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, pattern)).as_py() is not False)


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [names[one] for one in value]
    return None if value is None or value < 0 else names[value]


def _digest(source: Any, limits: images.Limits) -> str:
    """A hash of the encoded picture; "" of one that cannot be read, or is too large to be."""
    data = source and source.get("bytes")
    if source and data is None:
        try:
            path = str(source["path"])
            if not os.path.isfile(path) or os.path.getsize(path) > limits.max_bytes:
                return ""
            with open(path, "rb") as file:
                data = file.read()
        except (OSError, ValueError):
            return ""
    return hashlib.blake2b(data, digest_size=_DIGEST).hexdigest() if data else ""


def _add(
    part: _Part, encoder: Any, target: Index, batch_size: int, on_bad_image: str, limits: images.Limits,
    built: Built, bar: Any,
) -> None:  # fmt: skip
    """Brings some photos into the index: those that are new or changed through the encoder, others without it."""
    known = target.rows_of(part.ids)
    places = range(len(part))
    same = [p for p in places if part.rows[p][PICTURE] and _told(known, part.ids[p]) == part.rows[p][PICTURE]]
    now = rows.dicts(rows.table(part.rows, len(part), target.columns)[0])
    old = [p for p in same if any(known[part.ids[p]].get(name) != value for name, value in now[p].items())]
    new = sorted({*places} - {*same})
    bar.update(len(same))
    kept: list[int] = []
    bad: dict[int, str] = {}
    vectors: list[np.ndarray] = []
    for start in range(0, len(new), batch_size):
        some = new[start : start + batch_size]
        pictures = []
        for place, picture in _decoded(part, some, limits):
            if isinstance(picture, str):
                bad[place] = picture
            else:
                kept.append(place)
                pictures.append(picture)
        if pictures:
            made = encoder.encode(
                pictures, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False,
                normalize_embeddings=target.made_by["normalised"],
            )  # fmt: skip
            vectors.append(np.asarray(made, dtype=np.float32))
        bar.update(len(some))
    if old:
        held = target.vectors_of([part.ids[place] for place in old])
        vectors.append(np.stack([held[part.ids[place]] for place in old]))
    ids = [part.ids[place] for place in (*kept, *old)]
    if ids:
        told = [{**known.get(part.ids[place], {}), **part.rows[place]} for place in (*kept, *old)]
        target.upsert(ids, np.concatenate(vectors), told)
    built.embedded, built.updated = built.embedded + len(kept), built.updated + len(old)
    built.unchanged += len(same) - len(old)
    if bad and on_bad_image == "stop":
        more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        named = "; ".join(f"{part.where[place]}: {reason}" for place, reason in [*bad.items()][:_NAMED])
        raise InputError("photos", expected=READABLE, found=named + more, fix=DROP)
    built.left_out += [{"where": part.where[place], "reason": reason} for place, reason in bad.items()]
    target.delete([part.ids[place] for place in bad if part.ids[place] in known])


def _decoded(part: _Part, places: Sequence[int], limits: images.Limits) -> Iterator[tuple[int, Any]]:
    """Each photo, or why it cannot be read."""

    def decode(place: int) -> Any:
        try:
            return images.decode(part.pictures[place], limits=limits)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(min(_THREADS, len(places))) as pool:
        yield from zip(places, pool.map(decode, places), strict=True)


def _told(known: dict[str, dict[str, Any]], one: str) -> str | None:
    held = known.get(one)
    return None if held is None else held.get(PICTURE)
