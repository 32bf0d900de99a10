"""What a finished model says of the photos of a catalogue, however many: `catalogue` writes it into one parquet file.

Photos are opened by threads while the net works, some hundred at a time are in memory, and what is done is on the
disk: a run that was broken off goes on where it was. Several processes (`accelerate launch`) take a share each. An
exported model is asked through `hf_fashion.runtime`, and no torch is imported for it.
"""

import contextlib
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetDict, Image, Value
from tqdm.auto import tqdm

from hf_fashion import exports, fingerprint, images
from hf_fashion.errors import InputError, writing

if TYPE_CHECKING:
    import torch

Said = dict[str, Any]  # what a model says of one photo, by the names of the columns
_UNFINISHED = ".unfinished"
_ABOUT = "about.json"
_GOES_ON = "make room there; the same command goes on where it was"
_BAR_FROM = 200  # photos
_KINDS = {"classification": "a classifier", "attributes": "a classifier", "detection": "a detector",
          "retrieval": "an encoder"}  # fmt: skip
ERROR = "error"  # the column with the reason why a photo has no answer
GROUP = b"group"  # of a column that is not called as its group: metadata with the group's name
# Of weights that overflow, for one: such scores say nothing.
NOT_NUMBERS = "the model's scores of this photo are no numbers (NaN or infinite)"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
BOXES = pa.schema([("boxes", pa.list_(pa.struct(
    [("label", pa.string()), ("score", pa.float32()), *((name, pa.float32()) for name in CORNERS)]
)))])  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A finished model, as a function.

    Args:
        schema: The columns that it fills.
        say: What `opens` made of photos -> what it says of each.
        identity: Plain values that name it, and what is asked of it.
        opens: What the thread that opens a photo makes of it; by itself a PIL image, RGB.
        light: Whether it is asked without torch.
    """

    schema: pa.Schema
    say: Callable[[Sequence[Any]], list[Said]]
    identity: dict[str, Any]
    opens: Callable[[images.Source, images.Limits], Any] = lambda photo, limits: images.decode(photo, limits=limits)
    light: bool = False


def load(
    model: str | Path, revision: str | None = None, *, top_k: int = 1, score: float | None = None,
    device: "torch.device | None" = None,
) -> Model:  # fmt: skip
    """A model of any task: what it says becomes columns.

    A classifier: `label` and `score`, and with `top_k` above 1 `labels` and `scores`, surest first. A model of
    attributes: of each group its column, of one label or a list of them, and `<group>_score`. A detector: `boxes`,
    each with `label`, `score`, `xmin`, `ymin`, `xmax`, `ymax` in pixels of the upright photo. An encoder: `vector`, of
    length 1.

    Args:
        model: A Hub id or a folder, trained or exported.
        revision: Branch, tag or commit of a Hub id.
        top_k: Labels that a classifier tells.
        score: The lowest of a detector's boxes; None for its own `score_threshold`, or 0.5.
        device: Where it computes; None for a GPU if there is one. An exported model computes on the CPU, on all cores.

    Raises:
        InputError: What `load_classifier` and its kin, or `runtime.load`, raise; a setting that is not of this kind of
            model.
    """
    asked = {"model": str(model), "revision": revision, "top_k": top_k, "score": score}
    folder = exports.find(model, revision)
    if folder is not None:
        net = exports.Net(folder)
        _refuse_unused(_KINDS[net.kind], model, top_k, score)
        return _exported(net, top_k, score, asked)
    import torch

    from hf_fashion import backbones, predictors
    from hf_fashion.backbones.sources import is_encoder

    place = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if backbones.is_detector(model, revision):
        _refuse_unused("a detector", model, top_k, score)
        return predictors.detector(model, revision, score, place, asked)
    if is_encoder(model, revision):
        _refuse_unused("an encoder", model, top_k, score)
        return predictors.encoder(model, revision, place, asked)
    _refuse_unused("a classifier", model, top_k, score)
    return predictors.classifier(model, revision, top_k, place, asked)


def _refuse_unused(kind: str, model: str | Path, top_k: int, score: float | None) -> None:
    for name, given, of in (("--top_k", top_k != 1, "a classifier"), ("--score", score is not None, "a detector")):
        if given and kind != of:
            raise InputError(name, expected=of, found=f"{kind}, {model}", fix="leave it out")


def labelled(names: Sequence[str], top_k: int) -> tuple[pa.Schema, Callable[[np.ndarray], Said]]:
    """The columns of a model of one label a photo, and what makes a row of a photo's scores (K,).

    Raises:
        InputError: It has fewer labels.
    """
    if not 1 <= top_k <= len(names):
        raise InputError(
            f"--top_k {top_k}", expected=f"1 to {len(names)}: so many labels the model has", found=str(top_k),
            fix="--top_k 3",
        )  # fmt: skip
    several = [("labels", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))] if top_k > 1 else []

    def row(scores: np.ndarray) -> Said:
        if not finite(scores):
            return {ERROR: NOT_NUMBERS}
        order: list[int] = np.argsort(-scores, kind="stable")[:top_k].tolist()
        made: Said = {"label": names[order[0]], "score": float(scores[order[0]])}
        if several:
            made |= {"labels": [names[one] for one in order], "scores": scores[order].tolist()}
        return made

    return pa.schema([("label", pa.string()), ("score", pa.float32()), *several]), row


def attributed(
    groups: Sequence[tuple[str, Sequence[str], bool]], top_k: int
) -> tuple[pa.Schema, Callable[[np.ndarray, np.ndarray], Said]]:
    """The columns of a model of attributes, and what makes a row of a photo's scores and choices, each (K,).

    A group whose column would be called as another one, or as `error`, has `_said` behind its name; the columns' own
    metadata say of which `group` they are then.

    Args:
        groups: The name of each, its labels, and whether a photo may have several of them.
        top_k: Must be 1.
    """
    if top_k != 1:
        raise InputError(
            f"--top_k {top_k}", expected="a model of one label a photo", found="one of attributes",
            fix="leave it out",
        )  # fmt: skip
    fields: list[pa.Field] = []
    columns: list[str] = []
    own = {column for name, _, _ in groups for column in (name, f"{name}_score")}
    for name, _, many in groups:
        text, number = (pa.list_(pa.string()), pa.list_(pa.float32())) if many else (pa.string(), pa.float32())
        column = name
        taken = {ERROR, *(one.name for one in fields)}
        while {column, f"{column}_score"} & (taken if column == name else taken | own):
            column += "_said"
        told = {GROUP: name} if column != name else None
        fields += [pa.field(column, text, metadata=told), pa.field(f"{column}_score", number, metadata=told)]
        columns.append(column)

    def row(scores: np.ndarray, chosen: np.ndarray) -> Said:
        if not finite(scores):
            return {ERROR: NOT_NUMBERS}
        made: Said = {}
        start = 0
        for (_, labels, many), name in zip(groups, columns, strict=True):
            places = np.flatnonzero(chosen[start : start + len(labels)]).tolist()
            said, told = [labels[place] for place in places], [float(scores[start + place]) for place in places]
            made[name], made[f"{name}_score"] = (said, told) if many else (said[0], told[0])
            start += len(labels)
        return made

    return pa.schema(fields), row


def finite(*numbers: Any) -> bool:
    """Whether arrays hold numbers alone, neither NaN nor infinite ones."""
    return all(bool(np.isfinite(one).all()) for one in numbers)


def vectors(width: int) -> pa.Schema:
    """The column of an encoder."""
    return pa.schema([("vector", pa.list_(pa.float32(), width))])


def vector_or_error(vector: np.ndarray) -> Said:
    """The row of a photo with this vector (d,)."""
    return {"vector": vector} if finite(vector) else {ERROR: NOT_NUMBERS}


def _exported(net: exports.Net, top_k: int, score: float | None, asked: dict[str, Any]) -> Model:
    """An export, whose columns and answers are those of the trained model."""
    about = net.about
    identity = asked | {"weights": net.digest()}
    if net.kind == "detection":
        return _exported_detector(net, score, identity)

    def opens(photo: images.Source, limits: images.Limits) -> np.ndarray:
        return net.look(images.decode(photo, limits=limits))

    if net.kind == "retrieval":

        def say(shown: Sequence[np.ndarray]) -> list[Said]:
            return [vector_or_error(made[0]) for made in net.outputs(shown)]

        return Model(vectors(int(about["dimension"])), say, identity, opens, light=True)
    if net.kind == "attributes":
        groups = exports.groups(about)
        limits = np.array([about["thresholds"].get(label, 0.5) for _, _, labels, _ in groups for label in labels])
        schema, of_choices = attributed([(name, bare, many) for name, bare, _, many in groups], top_k)

        def say_all(shown: Sequence[np.ndarray]) -> list[Said]:
            return [of_choices(made[0], _chosen(made[0], groups, limits)) for made in net.outputs(shown)]

        return Model(schema, say_all, identity, opens, light=True)
    schema, of_scores = labelled(net.labels, top_k)
    return Model(
        schema, lambda shown: [of_scores(made[0]) for made in net.outputs(shown)], identity, opens, light=True
    )


def _chosen(scores: np.ndarray, groups: Sequence[tuple[str, list[str], list[str], bool]], limits: Any) -> np.ndarray:
    """What of all labels is said (K,): the surest of those that exclude each other, and what reaches its threshold."""
    chosen = scores >= limits
    start = 0
    for _, labels, _, many in groups:
        part = slice(start, start + len(labels))
        start = part.stop
        if not many:
            chosen[part] = np.arange(len(labels)) == scores[part].argmax()
    return np.asarray(chosen)


def _exported_detector(net: exports.Net, score: float | None, identity: dict[str, Any]) -> Model:
    least = float(net.about["score_threshold"] if score is None else score)

    def opens(photo: images.Source, limits: images.Limits) -> tuple[np.ndarray, tuple[int, int]]:
        decoded = images.decode(photo, limits=limits)
        return net.look(decoded), decoded.size

    def say(seen: Sequence[tuple[np.ndarray, tuple[int, int]]]) -> list[Said]:
        made: list[Said] = []
        for outputs, (_, size) in zip(net.outputs([shown for shown, _ in seen]), seen, strict=True):
            if not finite(*outputs):
                made.append({ERROR: NOT_NUMBERS})
                continue
            told = []
            for label, sure, box in exports.garments(net.about, outputs, least):
                place = (min(max(share, 0.0), 1.0) * side for share, side in zip(box, (*size, *size), strict=True))
                told.append({"label": net.labels[label], "score": sure, **dict(zip(CORNERS, place, strict=True))})
            made.append({"boxes": told})
        return made

    return Model(BOXES, say, identity | {"score": least}, opens, light=True)


@dataclass
class Done:
    """What `catalogue` did.

    Args:
        photos: Rows of the file.
        before: Of these, how many were there from a run that was broken off.
        unreadable: Photos without an answer, each with `where` and `reason`; they have a row with `error`.
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
    same model and photos goes on from there. A photo that cannot be read, or whose scores are no numbers, has a row
    with the reason in `error`, and nothing else.

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
    path, state = Path(path), _state(model)
    refuse_output(path)
    rows, kept = _plain(dataset, model.schema)
    schema = pa.schema([*kept, *model.schema, pa.field(ERROR, pa.string())])
    beside = path.with_name(path.name + _UNFINISHED)
    with state.main_process_first(), writing(f"the predictions in {beside}", _GOES_ON):
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
    accelerate = sys.modules.get("accelerate")  # without it there is one process
    return accelerate is None or bool(accelerate.PartialState(cpu=not _has_gpu()).is_main_process)


class _Alone:
    """What accelerate's `PartialState` is to one process, without torch."""

    process_index, num_processes, is_main_process = 0, 1, True

    def main_process_first(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def wait_for_everyone(self) -> None:
        pass


def _state(model: Model) -> Any:
    # `accelerate launch` with several processes says so in WORLD_SIZE.
    if model.light and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return _Alone()
    from accelerate import PartialState

    return PartialState(cpu=not _has_gpu())


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _plain(dataset: Dataset, schema: pa.Schema) -> tuple[Dataset, pa.Schema]:
    """The rows with their plain columns, names in the place of classes' numbers; and these columns' kinds.

    A column of a name that the model fills is called `<name>_given`, with one more `_given` where that is taken, too.
    """
    rows = dataset.with_format(None).cast_column("image", Image(decode=False))
    for name, feature in list(rows.features.items()):
        if isinstance(feature, ClassLabel):
            names: Any = feature
            told = [None if value is None or value < 0 else names.int2str(value) for value in rows[name]]
            rows = rows.remove_columns(name).add_column(name, told, feature=Value("string"))
    filled = {*schema.names, ERROR}
    for name in [name for name in rows.column_names if name in filled]:
        new = f"{name}_given"
        while new in filled or new in rows.column_names:
            new += "_given"
        rows = rows.rename_column(name, new)
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
    with writing(f"the predictions {path}", _GOES_ON):
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
            return model.opens(pictures[row]["image"], limits)
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
        yield from ({ERROR: one.reason} if isinstance(one, _Unreadable) else next(said) for one in seen)
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
    with writing(f"the predictions {path}", _GOES_ON):
        with pq.ParquetWriter(whole, schema) as writer:
            rows = [{"source_row": one["where"], ERROR: one["reason"]} for one in left]
            last = pa.table(
                {one.name: pa.array([row.get(one.name) for row in rows], one.type) for one in schema}, schema=schema
            )
            for table in (*(pq.read_table(_part(beside, start)) for start in starts), *([last] if rows else ())):
                writer.write_table(table)
                bad = table.filter(pc.is_valid(table.column(ERROR)))
                names = bad.column("source_row") if "source_row" in bad.column_names else bad.column(ERROR)
                unreadable += [
                    {"where": str(where), "reason": str(reason)}
                    for where, reason in zip(names.to_pylist(), bad.column(ERROR).to_pylist(), strict=True)
                ]
        os.replace(whole, path)
    shutil.rmtree(beside)
    return unreadable
