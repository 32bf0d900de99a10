"""What a source names that does not lie in it: paths and addresses inside of parquet files, in a README.md, links.

`datasets` follows them all: a folder from a stranger would show a net the pictures of whoever trains it, or ask an
address of the stranger's choice.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from hf_fashion.errors import InputError
from hf_fashion.reading.opened import Part
from hf_fashion.report import PICTURE, Report

_PATH = "not the picture but a path: {}"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def refuse_named(what: str, metadata: Any) -> None:
    """Raises InputError when the `configs` of a README.md name files that do not lie beside it."""
    for path in _texts((metadata or {}).get("configs")):
        if _ADDRESS.match(path) or path.startswith(("/", "\\", "~")) or ".." in re.split(r"[/\\]", path):
            raise InputError(
                f"{what}: its README.md",
                expected="files of the dataset itself under configs",
                found=path,
                fix="name paths relative to the README.md, without ..",
            )


def _texts(configs: Any) -> Iterator[str]:
    """All texts of a nest that may be paths."""
    if isinstance(configs, str):
        yield configs
    elif isinstance(configs, dict):
        for key, value in configs.items():
            if key not in ("config_name", "split"):
                yield from _texts(value)
    elif isinstance(configs, list):
        for value in configs:
            yield from _texts(value)


def refuse_files(what: str, root: Path, files: Iterable[str]) -> None:
    """Raises InputError when one of the files of a folder is not in it: a link leads out, or its own lists do."""
    home = root.resolve()
    if home.parent.name == "snapshots":  # a folder of the Hub's cache, whose files are links into ../../blobs
        home = home.parents[1]
    for file in files:
        real = os.path.realpath(file)
        if not Path(real).is_relative_to(home):
            raise InputError(
                what, expected="files inside the folder", found=f"{file}, which is {real}", fix="copy the file itself"
            )


def without_paths(name: str, part: Part, folder: Path | None, report: Report) -> Part:
    """Takes out rows whose picture is not in the table but a path, unless it is one into `folder`.

    Args:
        name: Of the split, for messages.
        part: Its rows.
        folder: Where pictures may lie; None when all must be in the table itself.
        report: Gets an error for each such row.
    """
    refused: dict[int, str] = {}
    for column in _pictures(part.rows):
        values = part.rows.data.column(column)
        only_path = pc.and_(pc.is_null(pc.struct_field(values, "bytes")), pc.is_valid(pc.struct_field(values, "path")))
        for row in pc.indices_nonzero(pc.fill_null(only_path, False)).to_pylist():
            path = str(values[row]["path"].as_py())
            real = os.path.realpath(path)
            if folder is None or not os.path.isabs(path) or not Path(real).is_relative_to(folder.resolve()):
                refused[row] = path
    if not refused:
        return part
    where = part.where or [f"{name}:{number}" for number in range(len(part.rows))]
    for row, path in refused.items():
        report.add(
            "error", where[row], "image", expected=PICTURE, found=_PATH.format(path),
            fix="embed the pictures: `to_parquet` and `save_to_disk` of datasets do, where the files are",
        )  # fmt: skip
    kept = [row for row in range(len(part.rows)) if row not in refused]
    return part._replace(rows=part.rows.select(kept), where=[where[row] for row in kept])


def embedded(picture: Any) -> Any:
    """A picture as a parquet file holds it, which a file that is read while one learns may not have.

    Returns:
        Its bytes; None where there is nothing.

    Raises:
        ValueError: It is not in the file but a path, or an address.
    """
    told = picture if isinstance(picture, dict) else {"bytes": picture, "path": None}
    if isinstance(told.get("bytes"), str):  # a column of text in one of the files
        told = {"bytes": None, "path": told["bytes"]}
    if told.get("bytes") is None and told.get("path") is not None:
        raise ValueError(_PATH.format(told["path"]))
    return told.get("bytes")


def _pictures(rows: Dataset) -> list[str]:
    """The columns that hold `{"bytes", "path"}`, whatever their type is called."""
    return [
        field.name
        for field in rows.features.arrow_schema
        if pa.types.is_struct(field.type) and {"bytes", "path"} <= {inner.name for inner in field.type}
    ]
