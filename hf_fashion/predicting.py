"""What a finished model says of the photos of a catalogue, however many: `catalogue` writes it into one parquet file.

Photos are opened by threads while the net works, some hundred at a time are in memory, and what is done is on the
disk: a run that was broken off goes on where it was. Several processes (`accelerate launch`) take a share each.
"""

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from datasets import ClassLabel, Dataset, DatasetDict, Image, Value
from tqdm.auto import tqdm

from hf_fashion import attributes, backbones, cache, cropping, fingerprint, images
from hf_fashion.backbones.sources import is_encoder
from hf_fashion.errors import InputError, extra, writing

Said = dict[str, Any]  # what a model says of one photo, by the names of the columns
_UNFINISHED = ".unfinished"
_ABOUT = "about.json"
_BAR_FROM = 200  # photos


@dataclass(frozen=True)
class Model:
    """A finished model, as a function.

    Args:
        schema: The columns that it fills.
        say: Photos (PIL, RGB) -> what it says of each.
        identity: Plain values that name it, and what is asked of it.
        opens: What is done to a photo by the thread that opens it.
    """

    schema: pa.Schema
    say: Callable[[Sequence[Any]], list[Said]]
    identity: dict[str, Any]
    opens: Callable[[Any], Any] = field(default=lambda photo: photo)


def load(
    model: str | Path, revision: str | None = None, *, top_k: int = 1, score: float | None = None,
    device: torch.device | None = None,
) -> Model:  # fmt: skip
    """A model of any task: what it says becomes columns.

    A classifier: `label` and `score`, and with `top_k` above 1 `labels` and `scores`, surest first. A model of
    attributes: of each group its column, of one label or a list of them, and `<group>_score`. A detector: `boxes`,
    each with `label`, `score`, `xmin`, `ymin`, `xmax`, `ymax` in pixels of the upright photo. An encoder: `vector`, of
    length 1.

    Args:
        model: A Hub id or a folder.
        revision: Branch, tag or commit of a Hub id.
        top_k: Labels that a classifier tells.
        score: The lowest of a detector's boxes; None for its own `score_threshold`, or 0.5.
        device: Where it computes; None for a GPU if there is one.

    Raises:
        InputError: What `load_classifier` and its kin raise; a setting that is not of this kind of model.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = {"model": str(model), "revision": revision, "top_k": top_k, "score": score}
    if backbones.is_detector(model, revision):
        kind, made = "a detector", lambda: _detector(model, revision, score, device, asked)
    elif is_encoder(model, revision):
        kind, made = "an encoder", lambda: _encoder(model, revision, device, asked)
    else:
        kind, made = "a classifier", lambda: _classifier(model, revision, top_k, device, asked)
    for name, given, of in (("--top_k", top_k != 1, "a classifier"), ("--score", score is not None, "a detector")):
        if given and kind != of:
            raise InputError(name, expected=of, found=f"{kind}, {model}", fix="leave it out")
    return made()


def _classifier(
    model: str | Path, revision: str | None, top_k: int, device: torch.device, asked: dict[str, Any]
) -> Model:
    loaded: Any = backbones.load_classifier(model, revision=revision)
    net, processor = loaded
    net = net.to(device, memory_format=torch.channels_last).eval()
    names = [str(name) for _, name in sorted(net.config.id2label.items())]
    groups = attributes.of_config(net.config)
    identity = asked | {"weights": cache.of_tensors(net.state_dict())}

    def opens(photo: Any) -> torch.Tensor:
        pixels: torch.Tensor = processor(photo, return_tensors="pt")["pixel_values"]
        return pixels

    def logits(pixels: Sequence[torch.Tensor]) -> np.ndarray:
        with torch.inference_mode():
            told: torch.Tensor = net(pixel_values=torch.cat(list(pixels)).to(device)).logits
        return told.float().cpu().numpy()

    if groups is not None:
        if top_k != 1:
            raise InputError(
                f"--top_k {top_k}", expected="a model of one label a photo", found="one of attributes",
                fix="leave it out",
            )  # fmt: skip
        return _attributes(groups, attributes.thresholds_of(net.config, groups), logits, opens, identity)
    if not 1 <= top_k <= len(names):
        raise InputError(
            f"--top_k {top_k}", expected=f"1 to {len(names)}: so many labels the model has", found=str(top_k),
            fix="--top_k 3",
        )  # fmt: skip
    several = [("labels", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))] if top_k > 1 else []

    def say(pixels: Sequence[torch.Tensor]) -> list[Said]:
        told = torch.softmax(torch.as_tensor(logits(pixels), dtype=torch.float64), dim=1).numpy()
        made = []
        for scores in told:
            order = np.argsort(-scores, kind="stable")[:top_k]
            row: Said = {"label": names[order[0]], "score": float(scores[order[0]])}
            if several:
                row |= {"labels": [names[one] for one in order], "scores": scores[order].tolist()}
            made.append(row)
        return made

    schema = pa.schema([("label", pa.string()), ("score", pa.float32()), *several])
    return Model(schema, say, identity, opens)


def _attributes(
    groups: Sequence[attributes.Group], thresholds: np.ndarray, logits: Callable[[Sequence[torch.Tensor]], np.ndarray],
    opens: Callable[[Any], torch.Tensor], identity: dict[str, Any],
) -> Model:  # fmt: skip
    fields = []
    for group in groups:
        text, number = (pa.list_(pa.string()), pa.list_(pa.float32())) if group.many else (pa.string(), pa.float32())
        fields += [(group.name, text), (f"{group.name}_score", number)]

    def say(pixels: Sequence[torch.Tensor]) -> list[Said]:
        scores = attributes.probabilities(logits(pixels), groups)
        chosen = attributes.decide(scores, groups, thresholds)
        made = []
        for score, said in zip(scores, chosen, strict=True):
            row: Said = {}
            for group in groups:
                places = np.flatnonzero(said[group.span])
                labels, told = [group.labels[place] for place in places], score[group.span][places].tolist()
                row[group.name], row[f"{group.name}_score"] = (labels, told) if group.many else (labels[0], told[0])
            made.append(row)
        return made

    return Model(pa.schema(fields), say, identity, opens)


def _detector(
    model: str | Path, revision: str | None, score: float | None, device: torch.device, asked: dict[str, Any]
) -> Model:
    loaded: Any = backbones.load_detector(model, revision=revision)
    net, processor = loaded
    net = net.to(device).eval()
    names = list(dict.fromkeys(cropping.class_names(net.config)))  # as `found_boxes` counts them
    least = next(one for one in (score, cropping.score_threshold(net.config), cropping.USUAL) if one is not None)
    find = cropping.found_boxes(net, processor, floor=min(least, cropping.FLOOR))
    corners = ("xmin", "ymin", "xmax", "ymax")
    box = pa.struct([("label", pa.string()), ("score", pa.float32()), *((name, pa.float32()) for name in corners)])

    def say(photos: Sequence[Any]) -> list[Said]:
        made = []
        for boxes in find(photos, [{} for _ in photos]):
            told = []
            for one in boxes:
                x, y, width, height = one.bbox
                if (one.score or 0.0) >= least:
                    place = dict(zip(corners, (x, y, x + width, y + height), strict=True))
                    told.append({"label": names[one.label], "score": one.score, **place})
            made.append({"boxes": told})
        return made

    identity = asked | {"weights": cache.of_tensors(net.state_dict()), "score": least}
    return Model(pa.schema([("boxes", pa.list_(box))]), say, identity)


def _encoder(model: str | Path, revision: str | None, device: torch.device, asked: dict[str, Any]) -> Model:
    with extra("an encoder", "sentence-transformers", "retrieve"):
        encoder = backbones.load_encoder(model, revision=revision).to(device)
    width = int(encoder.get_embedding_dimension() or 0)

    def say(photos: Sequence[Any]) -> list[Said]:
        vectors = encoder.encode(
            list(photos), batch_size=len(photos), normalize_embeddings=True, show_progress_bar=False
        )
        return [{"vector": vector} for vector in np.asarray(vectors, dtype=np.float32)]

    identity = asked | {"weights": cache.of_tensors(encoder.state_dict())}
    return Model(pa.schema([("vector", pa.list_(pa.float32(), width))]), say, identity)


@dataclass
class Done:
    """What `catalogue` did.

    Args:
        photos: Rows of the file.
        before: Of these, how many were there from a run that was broken off.
        unreadable: Photos that cannot be read, each with `where` and `reason`; they have a row with `error`.
    """

    photos: int = 0
    before: int = 0
    unreadable: list[dict[str, str]] = field(default_factory=list)


def catalogue(
    model: Model, dataset: Dataset, path: str | Path, *, batch_size: int = 32, write_every: int = 1024,
    threads: int | None = None, limits: images.Limits = images.LIMITS, progress: bool = True,
    unreadable: Sequence[dict[str, str]] = (),
) -> Done:  # fmt: skip
    """Writes what a model says of each photo into a new parquet file, a row a photo, in the order of the rows.

    Beside it, in `<path>.unfinished`, lies what is done so far, in files of `write_every` rows; a second run with the
    same model and photos goes on from there. A photo that cannot be read has a row with the reason in `error`, and
    nothing else.

    Args:
        model: Of `load`.
        dataset: Rows with `image`, `source_row`, and any other columns of plain values, which are kept.
        path: A new file that ends with .parquet.
        batch_size: Photos that pass the net together.
        write_every: Rows of a part: at most so many are done once more after a kill.
        threads: That open photos; None for one a core, at most 8.
        limits: See `images.decode`.
        progress: Show a bar where there are many.
        unreadable: Photos that are no rows since they could not be read, each with `where` and `reason`: their rows
            come last.

    Raises:
        InputError: The file is there, other photos or another model began it, a column of the model's name, a full
            disk.
    """
    path, state = Path(path), PartialState(cpu=not torch.cuda.is_available())
    refuse_output(path)
    rows, kept = _plain(dataset, model.schema)
    schema = pa.schema([*kept, *model.schema, pa.field("error", pa.string())])
    beside = path.with_name(path.name + _UNFINISHED)
    with state.main_process_first(), writing(f"the predictions in {beside}"):
        _begin(beside, model, rows, write_every)
    starts = range(0, len(rows), write_every)
    mine = [start for start in starts[state.process_index :: state.num_processes] if not _part(beside, start).exists()]
    hidden = not progress or not state.is_main_process or len(rows) < _BAR_FROM
    done = Done(photos=len(rows), before=len(rows) - sum(min(write_every, len(rows) - start) for start in mine))
    if state.num_processes > 1:
        done.before = 0
    bar = tqdm(total=len(rows), initial=done.before, desc="photos", unit="photo", disable=hidden)
    with bar, ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        for start in mine:
            part = rows.select(range(start, min(start + write_every, len(rows))))
            said = list(_say(model, part, pool, batch_size, limits, bar))
            plain = part.select_columns(kept.names).with_format("arrow")[:].cast(kept)
            told = [pa.array([row.get(one.name) for row in said], one.type) for one in list(schema)[len(kept) :]]
            _write(pa.table([*plain.columns, *told], schema=schema), _part(beside, start))
    state.wait_for_everyone()
    if state.is_main_process:
        done.unreadable = _join(beside, path, starts, schema, unreadable)
        done.photos += len(unreadable)
    state.wait_for_everyone()
    return done


def refuse_output(path: str | Path) -> None:
    """Raises InputError for a file that is there, or is no parquet."""
    if Path(path).exists() or Path(path).suffix != ".parquet":
        raise InputError(
            f"output {path}", expected="a new file that ends with .parquet",
            found="one that is there" if Path(path).exists() else "another ending", fix="another name",
        )  # fmt: skip


def is_main() -> bool:
    """Whether this is the process that talks."""
    return PartialState(cpu=not torch.cuda.is_available()).is_main_process


def _plain(dataset: Dataset, schema: pa.Schema) -> tuple[Dataset, pa.Schema]:
    """The rows with their plain columns, names in the place of classes' numbers; and these columns' kinds.

    A column of a name that the model fills is called `<name>_given`.
    """
    rows = dataset.with_format(None).cast_column("image", Image(decode=False))
    for name, feature in list(rows.features.items()):
        if isinstance(feature, ClassLabel):
            names: Any = feature
            told = [None if value is None or value < 0 else names.int2str(value) for value in rows[name]]
            rows = rows.remove_columns(name).add_column(name, told, feature=Value("string"))
    for name in {*schema.names, "error"} & set(rows.column_names):
        rows = rows.rename_column(name, f"{name}_given")
    stored = rows.features.arrow_schema
    kept = [one for one in stored if one.name != "image" and not pa.types.is_nested(one.type)]
    return rows, pa.schema([pa.field(one.name, one.type) for one in kept])


def _begin(beside: Path, model: Model, rows: Dataset, write_every: int) -> None:
    """Makes the folder of what is done, or refuses one of another model or other photos."""
    photos = fingerprint.of(DatasetDict({"test": rows}), [])[1]
    about = model.identity | {"photos": photos, "rows": len(rows), "write_every": write_every}
    path = beside / _ABOUT
    if beside.is_dir() and not path.exists() and not any(beside.iterdir()):
        beside.rmdir()
    if not beside.exists():
        beside.mkdir(parents=True)
        path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    odd = [name for name in about if before.get(name) != about[name]]
    if odd:
        raise InputError(
            f"what is done so far in {beside}", expected="the same model, photos and settings",
            found=f"others: {', '.join(odd)}", fix=f"another name for the output, or remove {beside}",
        )  # fmt: skip


def _part(beside: Path, start: int) -> Path:
    return beside / f"{start:012d}.parquet"


def _write(table: pa.Table, path: Path) -> None:
    with writing(f"the predictions {path}"):
        half = path.with_suffix(f".{os.getpid()}")
        pq.write_table(table, half)
        os.replace(half, path)


def _say(
    model: Model, rows: Dataset, pool: ThreadPoolExecutor, batch_size: int, limits: images.Limits, bar: Any
) -> Iterator[Said]:
    """What the model says of each row, or `error`; photos are opened ahead of the net."""
    pictures = rows.select_columns(["image"])

    def opened(row: int) -> Any:
        try:
            return model.opens(images.decode(pictures[row]["image"], limits=limits))
        except ValueError as error:
            return _Unreadable(str(error))

    waiting: deque[Future[Any]] = deque()
    left = iter(range(len(rows)))
    while True:
        for row in left:
            waiting.append(pool.submit(opened, row))
            if len(waiting) >= 3 * batch_size:
                break
        if not waiting:
            return
        seen = [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
        good = [one for one in seen if not isinstance(one, _Unreadable)]
        said = iter(model.say(good) if good else [])
        yield from ({"error": one.reason} if isinstance(one, _Unreadable) else next(said) for one in seen)
        bar.update(len(seen))


@dataclass(frozen=True)
class _Unreadable:
    reason: str


def _join(
    beside: Path, path: Path, starts: range, schema: pa.Schema, left: Sequence[dict[str, str]]
) -> list[dict[str, str]]:  # fmt: skip
    """Puts the parts into one file, and removes them; gives what could not be read."""
    unreadable = []
    whole = beside / "whole"
    with writing(f"the predictions {path}"):
        with pq.ParquetWriter(whole, schema) as writer:
            rows = [{"source_row": one["where"], "error": one["reason"]} for one in left]
            last = pa.table(
                {one.name: pa.array([row.get(one.name) for row in rows], one.type) for one in schema}, schema=schema
            )
            for table in (*(pq.read_table(_part(beside, start)) for start in starts), *([last] if rows else ())):
                writer.write_table(table)
                bad = table.filter(pc.is_valid(table.column("error")))
                names = bad.column("source_row") if "source_row" in bad.column_names else bad.column("error")
                unreadable += [
                    {"where": str(where), "reason": str(reason)}
                    for where, reason in zip(names.to_pylist(), bad.column("error").to_pylist(), strict=True)
                ]
        os.replace(whole, path)
    shutil.rmtree(beside)
    return unreadable
