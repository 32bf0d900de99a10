"""Files and folders of the user's: class folders, tables, parquet files, boxes as COCO, YOLO or Pascal VOC, saved
datasets, zips."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder, load_from_disk

from hf_fashion import folders, sources, tables
from hf_fashion.errors import InputError
from hf_fashion.reading import archives, coco, outside, voc, yolo
from hf_fashion.reading.opened import Opened, Part, attempt, in_hand, license_of, readme
from hf_fashion.report import Report, cell
from hf_fashion.splits import split_name

KINDS = (
    "a folder, a .csv, .tsv, .jsonl, .parquet or .zip file, a COCO .json, a YOLO data.yaml, a Hub id like org/name, "
    "fashion_mnist:FOLDER, or sample"
)
SUFFIXES = (*tables.SUFFIXES, ".parquet", ".zip", ".json", ".yaml", ".yml")


def read_path(
    path: Path, config: str | None, image_columns: Sequence[str], report: Report, labels: bool = True
) -> Opened:
    """Opens a file or a folder that is there; see `hf_fashion.reading.read`."""
    if path.is_dir():
        return _read_folder(path, config, image_columns, report, labels)
    if path.suffix.lower() != ".zip":
        return _read_file(path, image_columns, report)
    place = archives.unpack(path, report)
    try:
        opened = _read_folder(place, config, image_columns, report, labels)
    except InputError as error:  # the user knows the zip, not where it was unpacked
        told = (text.replace(str(place), str(path)) for text in (error.what, error.expected, error.found, error.fix))
        what, expected, found, fix = told
        raise InputError(what, expected=expected, found=found, fix=fix) from None
    return opened._replace(kind=f"zip of {opened.kind}")


def _read_file(path: Path, image_columns: Sequence[str], report: Report) -> Opened:
    suffix, license_ = path.suffix.lower(), license_of(readme(path.parent).get("license"))
    if suffix == ".parquet":
        # Datasets takes a path for a pattern: escaped, a file called `a[1].parquet` is found.
        name = glob.escape(os.path.abspath(path))
        rows = attempt(f"file {path}", lambda: load_dataset("parquet", data_files=name, split="train"))
        part = outside.without_paths("train", Part(rows, None, path.parent), None, report)
        return Opened("parquet file", {"train": part}, license_, None, path.parent)
    if suffix in tables.SUFFIXES:
        rows, where = tables.read(path, image_columns, report)
        parts = _by_split(Part(rows, where, path.parent), image_columns, report)
        return Opened(f"{suffix[1:]} file", parts, license_, None, path.parent)
    if suffix == ".json":
        return _licensed(coco.read({"train": path}, path.parent, report, whole=False), license_)
    if suffix in (".yaml", ".yml"):
        return _licensed(yolo.read(path, report), license_)
    raise InputError(
        f"file {path}",
        expected=f"a file that ends in {', '.join(SUFFIXES)}",
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


def _read_folder(path: Path, config: str | None, image_columns: Sequence[str], report: Report, labels: bool) -> Opened:
    names = {entry.name for entry in path.iterdir()}
    license_ = license_of(readme(path).get("license"))
    if "dataset_dict.json" in names or {"state.json", "dataset_info.json"} <= names:
        loaded = attempt(f"folder {path}", lambda: load_from_disk(str(path)))
        opened = in_hand("saved dataset", loaded, license_)
        files = [file["filename"] for part in opened.parts.values() for file in part.rows.cache_files]
        outside.refuse_files(f"folder {path}", path, files)
        return _inside(opened, path, None, report)
    if table := table_in(path):
        opened = _read_file(table, image_columns, report)
        _tell_unlisted(path, opened.parts, image_columns, report)
        return opened._replace(kind="folder with a table", root=path)
    tabled = [name for name in sorted(names) if split_name(name) and table_in(path / name)]
    if tabled:
        return _split_folders(path, sorted(names), tabled, image_columns, report)._replace(license=license_)
    if readme(path).get("configs") or any(has_parquet(path / name) for name in ("", "data", config or "")):
        return configured(path, config, report)
    if known := sources.recognise(path):
        raise InputError(
            f"folder {path}",
            expected="a folder for each class, a metadata.csv, or parquet files",
            found=f"raw files that {known} reads",
            fix=f"type {known}:{path}",
        )
    if (boxed := _boxed(path, report)) is not None:
        return _licensed(boxed, license_)
    parts = {name: Part(rows) for name, rows in folders.read(path, report, labels=labels).items()}
    told = all("label" in part.rows.features for part in parts.values())
    return Opened("class folders" if told else "folder of pictures", parts, license_, None, path)


def _boxed(path: Path, report: Report) -> Opened | None:
    """Reads a folder of COCO, YOLO or Pascal VOC; None when it is none of them."""
    if jsons := coco.find(path, report):
        return coco.read(jsons, path, report, whole=True)
    if described := yolo.find(path):
        return yolo.read(described, report)
    if annotations := voc.find(path):
        return voc.read(annotations, path, report)
    return None


def _licensed(opened: Opened, license_: str) -> Opened:
    """With the licence that a README.md says, where there is one."""
    return opened._replace(license=license_) if license_ else opened


def has_parquet(folder: Path) -> bool:
    return folder.is_dir() and any(entry.suffix == ".parquet" for entry in folder.iterdir())


def table_in(folder: Path) -> Path | None:
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
        table = table_in(path / name)
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


def configured(path: Path, config: str | None, report: Report) -> Opened:
    """Reads a folder as the Hub would: parquet files, and a README.md that may name configs and splits."""
    builder_of(path, config)
    loaded = attempt(f"folder {path}", lambda: load_dataset(os.path.abspath(path), config))
    opened = in_hand("dataset folder", loaded, license_of(readme(path).get("license")))
    loose = path if tell_image_folder(loaded, report) else None
    return _inside(opened, path, loose, report)


def builder_of(path: Path, config: str | None) -> Any:
    """The builder of `datasets` for a folder, all of whose files lie in it.

    Raises:
        InputError: There is none; its README.md names files elsewhere, or links lead there.
    """
    outside.refuse_named(f"folder {path}", readme(path))
    builder = attempt(f"folder {path}", lambda: load_dataset_builder(os.path.abspath(path), config))
    files = [str(file) for files in (builder.config.data_files or {}).values() for file in files]
    outside.refuse_files(f"folder {path}", path, files)
    return builder


def _inside(opened: Opened, root: Path, pictures: Path | None, report: Report) -> Opened:
    """The rows whose pictures are in the tables themselves, or lie in the folder `pictures`; paths in a column of text
    are relative to `root`."""
    parts = {
        name: outside.without_paths(name, part._replace(folder=root), pictures, report)
        for name, part in opened.parts.items()
    }
    return opened._replace(parts=parts, root=root)


def tell_image_folder(loaded: DatasetDict, report: Report) -> bool:
    """Says so when loose files were read by ImageFolder."""
    loose = any(rows.info.builder_name == "imagefolder" for rows in loaded.values())
    if loose:
        report.add(
            "warning",
            "dataset",
            "image",
            expected="pictures embedded in parquet files",
            found="loose files, read by ImageFolder: it leaves out files by their endings (.avif, .heic, none) unsaid",
            fix="compare the number of rows with the number of files",
        )
    return loose
