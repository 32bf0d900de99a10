"""Opens what a user calls a dataset: a Dataset in hand, `sample`, a folder, a file, or a dataset on the Hub."""

import difflib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import (
    Dataset,
    DatasetDict,
    IterableDataset,
    IterableDatasetDict,
    load_dataset,
    load_dataset_builder,
)
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_fashion import sources
from hf_fashion.errors import InputError
from hf_fashion.reading import local, outside
from hf_fashion.reading.local import KINDS
from hf_fashion.reading.opened import FAULTS, Opened, ParquetFiles, Part, attempt, in_hand, license_of, readme, said
from hf_fashion.report import Report
from hf_fashion.samples import scenes

__all__ = ["KINDS", "SAMPLE", "Opened", "ParquetFiles", "Part", "attempt", "parquet_files", "read"]

SAMPLE = Path(__file__).parents[1] / "samples"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_STREAMED = "a Hub id or a folder, with train, validation and test in parquet files that hold the pictures"
_TIMEOUT = 10.0  # seconds for the first question to the Hub; load_dataset alone tries for half a minute


def read(
    source: Any,
    config: str | None,
    revision: str | None,
    image_columns: Sequence[str],
    report: Report,
    *,
    labels: bool = True,
    boxes: bool = False,
) -> Opened:
    """Opens a dataset.

    Args:
        source: See `hf_fashion.data.load`.
        config: Name of a configuration of the dataset.
        revision: Commit, branch or tag on the Hub.
        image_columns: Names that a column of paths may have.
        report: Is told of what cannot be used, and of what is worth knowing.
        labels: See `folders.read`.
        boxes: Whether there must be some: `sample` is then scenes made of its photos.

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
        opened = in_hand("dataset in hand", source)
    elif not isinstance(source, str | Path):
        raise InputError("dataset", expected=f"a Dataset, {KINDS}", found=f"a {type(source).__name__}", fix="give one")
    elif source == "sample":
        if _exists("sample"):
            raise InputError(
                "dataset sample", expected="one thing of that name", found="the photos that ship, and a ./sample here",
                fix="--dataset ./sample for yours; to take those that ship, run from another folder",
            )  # fmt: skip
        if not boxes:
            return local.configured(SAMPLE, config, report)._replace(kind="sample")
        opened = in_hand("sample", scenes.scenes(), license_of(readme(SAMPLE).get("license")))
    elif raw is not None:
        name, folder = raw
        splits = sources.module(name).load(folder, report)
        opened = in_hand(name, splits, sources.module(name).LICENSE)
    elif on_hub:
        return _hub(str(source), config, revision, report)
    else:
        path = Path(source).expanduser()
        if not path.exists():
            raise _nothing_there(str(source))
        opened = local.read_path(path, config, image_columns, report, labels)
    if config is not None and not opened.kind.endswith("dataset folder"):
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
        plain = path.is_dir() and "dataset_dict.json" not in names and local.table_in(path) is None
        if not plain or not (
            readme(path).get("configs") or any(local.has_parquet(path / name) for name in ("", "data", config or ""))
        ):
            raise InputError(
                told, expected=_STREAMED, found="a file" if path.is_file() else "a folder without parquet files",
                fix="leave --streaming out: a disk that holds the photos need not stream them; or write each split to "
                "parquet (Dataset.to_parquet, pictures embedded) as data/train-00000-of-00001.parquet, ...",
            )  # fmt: skip
        builder = local.builder_of(path, config)
        found = ParquetFiles("dataset folder", {}, str(path), None, license_of(readme(path).get("license")))
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


def _hub(source: str, config: str | None, revision: str | None, report: Report) -> Opened:
    loaded, license_, commit = _from_hub(source, config, revision, report, load_dataset)
    loose = local.tell_image_folder(loaded, report)
    cached = _commit(loaded)
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision) and cached not in (None, revision):
        raise _not_loaded(source, f"offline, commit {cached} in the cache, not {revision}", _OFFLINE)
    opened = in_hand("hub", loaded, license_)._replace(revision=cached or commit)
    if loose:  # the pictures are files of the cache
        return opened
    parts = {name: outside.without_paths(name, part, None, report) for name, part in opened.parts.items()}
    return opened._replace(parts=parts)


def _from_hub(
    source: str, config: str | None, revision: str | None, report: Report, load: Callable[..., Any]
) -> tuple[Any, str, str | None]:
    """What `load` of datasets makes of a dataset on the Hub, or of its copy in the cache when offline mode is on; its
    licence; its commit. Never runs code of a repository."""
    if not _HUB_ID.fullmatch(source) or Path(source).suffix.lower() in local.SUFFIXES:
        raise _nothing_there(source)
    license_, commit = "", revision
    try:
        info = HfApi().dataset_info(source, revision=revision, timeout=_TIMEOUT)
    except OfflineModeIsEnabled:
        report.add("note", f"dataset {source}", "", found="read from the cache: offline mode is on")
    except RevisionNotFoundError:
        raise _not_loaded(source, f"no revision {revision!r}", "look up the commits of the dataset") from None
    except GatedRepoError:
        raise _gated(source) from None
    except RepositoryNotFoundError:
        raise _not_loaded(source, "no such dataset on the Hub, or it is private", _PRIVATE) from None
    except Exception as error:  # the exceptions of the network belong to whichever client huggingface_hub uses
        raise _not_loaded(source, f"the Hub cannot be asked: {said(error)}", _NO_NETWORK) from error
    else:
        license_, commit = license_of(info.card_data.license if info.card_data else None), info.sha
        outside.refuse_named(f"dataset {source}", {"configs": getattr(info.card_data, "configs", None)})
    try:
        return load(source, config, revision=commit), license_, commit
    except DatasetNotFoundError as error:
        if "gated" in str(error):
            raise _gated(source) from error
        raise _not_loaded(source, said(error), _PRIVATE) from error
    except ConnectionError as error:
        raise _not_loaded(source, f"no network, and no copy in the cache ({said(error)})", _OFFLINE) from error
    except FAULTS as error:
        raise _not_loaded(source, said(error), "see https://huggingface.co/datasets/" + source) from error


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
