"""Opens what a user calls a dataset: a Dataset in hand, `sample`, a folder, a file, or a dataset on the Hub."""

import difflib
import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import (
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from huggingface_hub import HfApi, metadata_load
from huggingface_hub.errors import (
    GatedRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_fashion import folders, sources, tables
from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell
from hf_fashion.splits import split_name

SAMPLE = Path(__file__).parent / "samples"
KINDS = "a folder, a .csv, .tsv, .jsonl or .parquet file, a Hub id like org/name, fashion_mnist:FOLDER, or sample"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_STREAMED = "a Hub id or a folder, with train, validation and test in parquet files that hold the pictures"
_FILES = (*tables.SUFFIXES, ".parquet")
_TIMEOUT = 10.0  # seconds for the first question to the Hub; load_dataset alone tries for half a minute
_FAULTS = (DatasetsError, OSError, ValueError, KeyError, RuntimeError, NotImplementedError)  # of a broken dataset


class Part(NamedTuple):
    """The rows of one split as its source has them.

    Args:
        rows: All columns of the source.
        where: How each row is named in a finding; None for "split:number".
        folder: What paths in a column of text are relative to; None when text cannot be a path.
    """

    rows: Dataset
    where: Sequence[str] | None = None
    folder: Path | None = None


class Opened(NamedTuple):
    """A source as its library reads it.

    Args:
        kind: What it is, for people.
        parts: Name of each split, as the source says it -> its rows.
        license: Licence id, "" when it is not said.
        revision: Commit on the Hub.
        root: The folder that paths are told relative to.
    """

    kind: str
    parts: dict[str, Part]
    license: str = ""
    revision: str | None = None
    root: Path | None = None


class ParquetFiles(NamedTuple):
    """Where the rows of a source lie.

    Args:
        kind: See `Opened`.
        files: Name of each split, as the source says it -> paths, or addresses of fsspec.
        root: The folder of the source, "" on the Hub.
        features: Columns, when a README.md says them.
        license: See `Opened`.
        revision: See there.
    """

    kind: str
    files: dict[str, list[str]]
    root: str
    features: Features | None
    license: str = ""
    revision: str | None = None


def read(
    source: Any, config: str | None, revision: str | None, image_columns: Sequence[str], report: Report
) -> Opened:
    """Opens a dataset.

    Args:
        source: See `hf_fashion.data.load`.
        config: Name of a configuration of the dataset.
        revision: Commit, branch or tag on the Hub.
        image_columns: Names that a column of paths may have.
        report: Is told of what cannot be used, and of what is worth knowing.

    Raises:
        InputError: It is not there, or nothing sensible can be read from it.
    """
    if isinstance(source, IterableDataset | IterableDatasetDict):
        raise InputError(
            "dataset",
            expected="a Dataset or DatasetDict",
            found="a streaming dataset",
            fix="load it without streaming",
        )
    raw = _raw(source)
    on_hub = isinstance(source, str) and source != "sample" and raw is None and not _exists(source)
    if revision is not None and not on_hub:
        raise InputError(
            f"revision {revision}", expected="a dataset on the Hub", found=f"{source}", fix="leave the revision out"
        )
    if isinstance(source, Dataset | DatasetDict):
        opened = _in_hand("dataset in hand", source)
    elif not isinstance(source, str | Path):
        raise InputError("dataset", expected=f"a Dataset, {KINDS}", found=f"a {type(source).__name__}", fix="give one")
    elif source == "sample":
        if _exists("sample"):
            raise InputError(
                "dataset sample", expected="one thing of that name", found="the photos that ship, and a ./sample here",
                fix="--dataset ./sample for yours; to take those that ship, run from another folder",
            )  # fmt: skip
        return _configured(SAMPLE, config, report)._replace(kind="sample")
    elif raw is not None:
        name, folder = raw
        splits = sources.module(name).load(folder, report)
        opened = _in_hand(name, splits, sources.module(name).LICENSE)
    elif on_hub:
        return _hub(str(source), config, revision, report)
    else:
        path = Path(source).expanduser()
        if not path.exists():
            raise _nothing_there(str(source))
        opened = _folder(path, config, image_columns, report) if path.is_dir() else _file(path, image_columns, report)
    if config is not None and opened.kind != "dataset folder":
        raise InputError(
            f"config {config}", expected="a source that has configs", found=opened.kind, fix="leave the config out"
        )
    return opened


def parquet_files(source: Any, config: str | None, revision: str | None, report: Report) -> ParquetFiles:
    """Finds the parquet files of a source without reading them, for a training that streams them.

    Raises:
        InputError: The source is another one.
    """
    told = f"dataset {source} with --streaming"
    if not isinstance(source, str | Path) or source == "sample" or _raw(source) is not None:
        raise InputError(told, expected=_STREAMED, found="photos that lie on the disk", fix="leave --streaming out")
    if _exists(str(source)):
        path = Path(source).expanduser()
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        plain = path.is_dir() and "dataset_dict.json" not in names and _table_in(path) is None
        if not plain or not (
            _readme(path).get("configs") or any(_has_parquet(path / name) for name in ("", "data", config or ""))
        ):
            raise InputError(
                told, expected=_STREAMED, found="a file" if path.is_file() else "a folder without parquet files",
                fix="leave --streaming out: a disk that holds the photos need not stream them; or write each split to "
                "parquet (Dataset.to_parquet, pictures embedded) as data/train-00000-of-00001.parquet, ...",
            )  # fmt: skip
        builder = attempt(f"folder {path}", lambda: load_dataset_builder(os.path.abspath(path), config))
        found = ParquetFiles("dataset folder", {}, str(path), None, _license(_readme(path).get("license")))
    else:
        builder, license_, commit = _from_hub(str(source), config, revision, report, load_dataset_builder)
        found = ParquetFiles("hub", {}, "", None, license_, commit)
    if revision is not None and found.kind != "hub":
        raise InputError(
            f"revision {revision}", expected="a dataset on the Hub", found=f"{source}", fix="leave the revision out"
        )
    files = {str(split): list(map(str, paths)) for split, paths in (builder.config.data_files or {}).items()}
    others = sorted({Path(path).suffix or path for paths in files.values() for path in paths} - {".parquet"})
    if others or not files:
        raise InputError(
            told, expected=_STREAMED, found=f"files that end in {', '.join(others)}" if others else "no files",
            fix="--dataset_revision refs/convert/parquet, where the Hub keeps its own copy of most datasets in parquet"
            if found.kind == "hub" else "leave --streaming out",
        )  # fmt: skip
    return found._replace(files=files, features=builder.info.features)


def _exists(source: str) -> bool:
    try:
        return Path(source).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a file name, no such user, a null byte
        return False


def _raw(source: Any) -> tuple[str, Path] | None:
    """Parts `fashion_mnist:/data/fashion-mnist` into a module of `hf_fashion.sources` and a folder; None when the
    source is something else: a file whose name holds a colon, an address, a path with a drive letter."""
    if not isinstance(source, str) or ":" not in source or _exists(source):
        return None
    name, _, folder = source.partition(":")
    if name in sources.names():
        return name, Path(os.path.abspath(os.path.expanduser(folder)))
    if len(name) > 1 and folder and _exists(folder):
        near = difflib.get_close_matches(name.lower().replace("-", "_"), sources.names(), 1)
        raise InputError(
            f"dataset {source}",
            expected=f"one of {', '.join(sources.names())} before the colon",
            found=f"{name}; did you mean {near[0]}?" if near else name,
            fix=f"type {near[0]}:{folder}" if near else "type one of these, or the folder alone",
        )
    return None


def _in_hand(kind: str, source: Dataset | DatasetDict, license_: str = "") -> Opened:
    splits = {"train": source} if isinstance(source, Dataset) else {str(name): rows for name, rows in source.items()}
    said = next((text for rows in splits.values() if (text := _license(rows.info.license))), license_)
    return Opened(kind, {name: Part(rows) for name, rows in splits.items()}, said)


def _file(path: Path, image_columns: Sequence[str], report: Report) -> Opened:
    suffix, license_ = path.suffix.lower(), _license(_readme(path.parent).get("license"))
    if suffix == ".parquet":
        # Datasets takes a path for a pattern: escaped, a file called `a[1].parquet` is found.
        name = glob.escape(os.path.abspath(path))
        rows = attempt(f"file {path}", lambda: load_dataset("parquet", data_files=name, split="train"))
        return Opened("parquet file", {"train": Part(rows, None, path.parent)}, license_, None, path.parent)
    if suffix in tables.SUFFIXES:
        rows, where = tables.read(path, image_columns, report)
        parts = _by_split(Part(rows, where, path.parent), image_columns, report)
        return Opened(f"{suffix[1:]} file", parts, license_, None, path.parent)
    raise InputError(
        f"file {path}",
        expected=f"a file that ends in {', '.join(_FILES)}",
        found=suffix or "no ending",
        fix=f"give {KINDS}",
    )


def _by_split(part: Part, image_columns: Sequence[str], report: Report) -> dict[str, Part]:
    """Parts a table by its column `split`, or by the split folder that every path starts with."""
    rows, where = part.rows, part.where or []
    if "split" in rows.column_names:
        values = [str(value or "") for value in rows["split"]]
        for value, row in zip(values, where, strict=True):
            if split_name(value) is None:
                report.add(
                    "error",
                    row,
                    "split",
                    expected="train, validation or test",
                    found=repr(value),
                    fix="mend the cell, or rename the column when it means something else",
                )
    else:
        paths = [re.split(r"[/\\]", value) for value in _paths(rows, image_columns)]
        values = [path[0] for path in paths]
        if not paths or not all(len(path) > 1 and split_name(path[0]) for path in paths):
            return {"train": part}
        report.add("note", "dataset", "image", found="the first folder of each path is read as the split")
    wanted: dict[str, list[int]] = {}
    for number, value in enumerate(values):
        if name := split_name(value):
            wanted.setdefault(name, []).append(number)
    return {
        name: part._replace(rows=rows.select(numbers), where=[where[number] for number in numbers])
        for name, numbers in wanted.items()
    }


def _paths(rows: Dataset, image_columns: Sequence[str]) -> list[str]:
    """The column of paths of a table, as text; empty when it has none."""
    column = next((name for name in image_columns if name in rows.column_names), None)
    return [str(value or "") for value in rows[column]] if column else []


def _folder(path: Path, config: str | None, image_columns: Sequence[str], report: Report) -> Opened:
    names = {entry.name for entry in path.iterdir()}
    license_ = _license(_readme(path).get("license"))
    if "dataset_dict.json" in names or {"state.json", "dataset_info.json"} <= names:
        return _in_hand("saved dataset", attempt(f"folder {path}", lambda: load_from_disk(str(path))), license_)
    if table := _table_in(path):
        opened = _file(table, image_columns, report)
        _tell_unlisted(path, opened.parts, image_columns, report)
        return opened._replace(kind="folder with a table", root=path)
    tabled = [name for name in sorted(names) if split_name(name) and _table_in(path / name)]
    if tabled:
        return _split_folders(path, sorted(names), tabled, image_columns, report)._replace(license=license_)
    if _readme(path).get("configs") or any(_has_parquet(path / name) for name in ("", "data", config or "")):
        return _configured(path, config, report)
    if known := sources.recognise(path):
        raise InputError(
            f"folder {path}",
            expected="a folder for each class, a metadata.csv, or parquet files",
            found=f"raw files that {known} reads",
            fix=f"type {known}:{path}",
        )
    parts = {name: Part(rows) for name, rows in folders.read(path, report).items()}
    return Opened("class folders", parts, license_, None, path)


def _has_parquet(folder: Path) -> bool:
    return folder.is_dir() and any(entry.suffix == ".parquet" for entry in folder.iterdir())


def _table_in(folder: Path) -> Path | None:
    return next((folder / name for name in ("metadata.csv", "metadata.jsonl") if (folder / name).is_file()), None)


def _split_folders(
    path: Path, names: list[str], tabled: list[str], image_columns: Sequence[str], report: Report
) -> Opened:
    """Reads `train/metadata.csv`, `test/metadata.csv`, ..."""
    without = [name for name in names if name not in tabled and (path / name).is_dir() and not name.startswith(".")]
    if without:
        raise InputError(
            f"folder {path}",
            expected="split folders that all hold a metadata.csv or metadata.jsonl",
            found=f"one in {', '.join(tabled)}, none in {', '.join(without)}",
            fix="write one there, or move the folder away",
        )
    parts = {}
    for name in tabled:
        table = _table_in(path / name)
        assert table is not None  # `tabled` holds the folders that have one
        rows, where = tables.read(table, image_columns, report)
        parts[name] = Part(rows, [f"{name}/{row}" for row in where], path / name)
        _tell_unlisted(path / name, {name: parts[name]}, image_columns, report)
    return Opened("folder with tables", parts, root=path)


def _tell_unlisted(folder: Path, parts: dict[str, Part], image_columns: Sequence[str], report: Report) -> None:
    """Warns of files in a folder that its table does not list."""
    listed = {
        os.path.normpath(value.replace("\\", "/"))
        for part in parts.values()
        for value in _paths(part.rows, image_columns)
    }
    extra = []
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            relative = os.path.relpath(os.path.join(place, name), folder)
            if not name.startswith((".", "metadata.", "README", "LICENSE")) and relative not in listed:
                extra.append(relative)
    if extra:
        report.add(
            "warning",
            folder.name,
            "image",
            expected="a row of the table for each file",
            found=f"{len(extra)} file(s) without a row, the first: {cell(extra[0])}",
            fix="add rows, or remove the files",
        )


def _configured(path: Path, config: str | None, report: Report) -> Opened:
    """Reads a folder as the Hub would: parquet files, and a README.md that may name configs and splits."""
    loaded = attempt(f"folder {path}", lambda: load_dataset(os.path.abspath(path), config))
    _tell_image_folder(loaded, report)
    return _in_hand("dataset folder", loaded, _license(_readme(path).get("license")))


def _tell_image_folder(loaded: DatasetDict, report: Report) -> None:
    if any(rows.info.builder_name == "imagefolder" for rows in loaded.values()):
        report.add(
            "warning",
            "dataset",
            "image",
            expected="pictures embedded in parquet files",
            found="loose files, read by ImageFolder: it leaves out files by their endings (.avif, .heic, none) unsaid",
            fix="compare the number of rows with the number of files",
        )


def _hub(source: str, config: str | None, revision: str | None, report: Report) -> Opened:
    loaded, license_, commit = _from_hub(source, config, revision, report, load_dataset)
    _tell_image_folder(loaded, report)
    cached = _commit(loaded)
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision) and cached not in (None, revision):
        raise _not_loaded(source, f"offline, commit {cached} in the cache, not {revision}", _OFFLINE)
    return _in_hand("hub", loaded, license_)._replace(revision=cached or commit)


def _from_hub(
    source: str, config: str | None, revision: str | None, report: Report, load: Callable[..., Any]
) -> tuple[Any, str, str | None]:
    """What `load` of datasets makes of a dataset on the Hub, or of its copy in the cache when offline mode is on; its
    licence; its commit. Never runs code of a repository."""
    if not _HUB_ID.fullmatch(source) or Path(source).suffix.lower() in _FILES:
        raise _nothing_there(source)
    license_, commit = "", revision
    try:
        info = HfApi().dataset_info(source, revision=revision, timeout=_TIMEOUT)
        license_, commit = _license(info.card_data.license if info.card_data else None), info.sha
    except OfflineModeIsEnabled:
        report.add("note", f"dataset {source}", "", found="read from the cache: offline mode is on")
    except RevisionNotFoundError:
        raise _not_loaded(source, f"no revision {revision!r}", "look up the commits of the dataset") from None
    except GatedRepoError:
        raise _gated(source) from None
    except RepositoryNotFoundError:
        raise _not_loaded(source, "no such dataset on the Hub, or it is private", _PRIVATE) from None
    except Exception as error:  # the exceptions of the network belong to whichever client huggingface_hub uses
        raise _not_loaded(source, f"the Hub cannot be asked: {_said(error)}", _NO_NETWORK) from error
    try:
        return load(source, config, revision=commit), license_, commit
    except DatasetNotFoundError as error:
        if "gated" in str(error):
            raise _gated(source) from error
        raise _not_loaded(source, _said(error), _PRIVATE) from error
    except ConnectionError as error:
        raise _not_loaded(source, f"no network, and no copy in the cache ({_said(error)})", _OFFLINE) from error
    except _FAULTS as error:
        raise _not_loaded(source, _said(error), "see https://huggingface.co/datasets/" + source) from error


_PRIVATE = "check the id; for a private or gated dataset type `hf auth login` first"
_OFFLINE = "give a local folder or file, or --dataset sample; with a network, unset HF_HUB_OFFLINE"
_NO_NETWORK = (
    "give a local folder or file, or --dataset sample; HF_HUB_OFFLINE=1 takes a copy that an earlier run cached"
)


def _gated(source: str) -> InputError:
    return _not_loaded(
        source,
        "it is gated: its owner wants to be asked first",
        f"accept the terms at https://huggingface.co/datasets/{source}, then type `hf auth login`",
    )


def _not_loaded(source: str, found: str, fix: str) -> InputError:
    near = _near(source)
    found += f"; nor a folder of that name here, but: {', '.join(near)}" if near else ""
    return InputError(f"dataset {source}", expected="a dataset on the Hub or a local path", found=found, fix=fix)


def _commit(loaded: DatasetDict) -> str | None:
    """Reads the commit off the folder in which datasets keeps its copy."""
    files = [str(file["filename"]) for rows in loaded.values() for file in rows.cache_files]
    return next((match[1] for file in files if (match := re.search(r"[/\\]([0-9a-f]{40})[/\\]", file))), None)


def _nothing_there(source: str) -> InputError:
    near = _near(source)
    return InputError(
        f"dataset {source}",
        expected=KINDS,
        found=f"no such file or folder; close to it: {', '.join(near)}" if near else "no such file or folder",
        fix=f"type {near[0]}" if near else "check the path (it is read from the current folder)",
    )


def _near(source: str) -> list[str]:
    """Names like the wanted one, in the folder where it was looked for."""
    path = Path(source).expanduser()
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except (OSError, ValueError):
        return []
    return [str(path.parent / name) for name in difflib.get_close_matches(path.name, names, 3)]


def _readme(folder: Path) -> dict[str, Any]:
    """The metadata at the head of a folder's README.md; empty when there is none that can be read."""
    try:
        return metadata_load(folder / "README.md") or {}
    except Exception:  # the YAML parser's own errors; a README without a right head says nothing
        return {}


def _license(said: Any) -> str:
    said = ", ".join(map(str, said)) if isinstance(said, list) else str(said or "").strip()
    return "" if said.lower() in ("unknown", "none") else said


def attempt(what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except _FAULTS as error:
        raise InputError(
            what,
            expected="a dataset that `datasets` can load",
            found=_said(error),
            fix="mend it, or give another",
        ) from error


def _said(error: BaseException) -> str:
    """The text of an exception in one line; datasets puts the true reason into the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return cell(" ".join(str(error).split()) or type(error).__name__, 300)
