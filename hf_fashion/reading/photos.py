"""What the readers of boxes share: finding photos, their sizes, rows of boxes, and telling of thousands of them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Image, Value
from tqdm.auto import tqdm

from hf_fashion.boxes import canonical_features, column_of, upright_size
from hf_fashion.report import Level, Report, cell

_EACH = 5  # findings of a kind that get a line of their own; of more there is one line for all
_NAMED = 20  # places that such a line names
_BAR_AFTER = 2.0  # seconds
_CLUTTER = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}
DOCUMENTS = {
    ".cache", ".csv", ".html", ".json", ".jsonl", ".md", ".npy", ".npz", ".pdf", ".tsv", ".txt", ".xml", ".yaml",
    ".yml",
}  # fmt: skip


class Faults:
    """Findings of many annotations, told in few lines."""

    def __init__(self) -> None:
        self._found: dict[tuple[Level, str, str, str], list[tuple[str, str]]] = {}

    def add(self, level: Level, where: str, column: str, expected: str, found: str, fix: str) -> None:
        """See `Report.add`. Findings that differ in `where` and `found` only are of one kind."""
        self._found.setdefault((level, column, expected, fix), []).append((where, found))

    def tell(self, report: Report) -> None:
        """Adds them to the report: each of a few of a kind, or one line for all."""
        for (level, column, expected, fix), told in self._found.items():
            if len(told) <= _EACH:
                for where, found in told:
                    report.add(level, where, column, expected=expected, found=found, fix=fix)
                continue
            places = list(dict.fromkeys(where for where, _ in told))
            more = f"; and {len(places) - _NAMED} more" * (len(places) > _NAMED)
            report.add(
                level, "; ".join(places[:_NAMED]) + more, column, expected=expected,
                found=f"{len(told)} times; the first: {told[0][1]}", fix=fix,
            )  # fmt: skip
        self._found.clear()


def classes(names: Mapping[Any, str], what: str, report: Report) -> tuple[list[str], dict[Any, int]]:
    """Numbers the classes from 0 without gaps.

    Args:
        names: Id of each class -> its name, in the order that they shall have.
        what: Where they stand, for messages.
        report: Is told of ids with one name: they become one class.

    Returns:
        The names, and id -> number.
    """
    unique = list(dict.fromkeys(names.values()))
    if len(unique) < len(names):
        twice = [name for name in unique if list(names.values()).count(name) > 1]
        report.add(
            "warning", what, "objects", expected="a name of its own for each class",
            found=f"more than one id of: {cell(', '.join(twice), 200)}; read as one class", fix="rename them",
        )  # fmt: skip
    number = {name: place for place, name in enumerate(unique)}
    return unique, {key: number[name] for key, name in names.items()}


def make(
    paths: Sequence[str], ids: Sequence[str], where: Sequence[str], names: list[str], row: np.ndarray,
    bbox: np.ndarray, category: np.ndarray, area: np.ndarray | None = None, crowd: np.ndarray | None = None,
) -> Dataset:  # fmt: skip
    """Builds rows of photos and boxes without a Python object for each box.

    Args:
        paths: File of each photo (rows,).
        ids: Its `image_id` (rows,).
        where: Its `source_row` (rows,).
        names: Of the classes.
        row: Row of each box, in any order (boxes,).
        bbox: x, y, width, height in pixels (boxes, 4).
        category: Number of its class (boxes,).
        area: In pixels, NaN where it is not given (boxes,); None: width times height.
        crowd: 0 or 1 (boxes,); None: no column `iscrowd`.
    """
    order = np.argsort(row, kind="stable")
    bbox, category = bbox.reshape(-1, 4)[order], category.astype(np.int64)[order]
    with np.errstate(all="ignore"):  # of NaN and infinite numbers, which are told of
        whole = bbox[:, 2] * bbox[:, 3]
        areas = whole if area is None else np.where(np.isnan(area[order]), whole, area[order])
    objects = column_of(
        np.bincount(row, minlength=len(paths)), bbox, category, areas,
        None if crowd is None else crowd.astype(np.int64)[order],
    )  # fmt: skip
    kinds = canonical_features(names, has_crowd=crowd is not None)
    features = Features({"image": Image(), **kinds, "source_row": Value("string")})
    columns = {
        "image": pa.array(paths, pa.string()), "image_id": pa.array(ids, pa.string()), "objects": objects,
        "source_row": pa.array(where, pa.string()),
    }  # fmt: skip
    return Dataset.from_dict(columns, features=features)


def sizes(paths: Sequence[Path | None]) -> np.ndarray:
    """Width and height of each photo, upright, from its header (photos, 2); 0 and 0 where it cannot be read."""
    each = tqdm(paths, desc="reading sizes", unit="picture", delay=_BAR_AFTER)
    found = [(0, 0) if path is None else upright_size(path) for path in each]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def compare(told: np.ndarray, real: np.ndarray, where: Sequence[str], faults: Faults) -> None:
    """Warns of photos whose size is not the one that the annotations say.

    Args:
        told: Width and height as the annotations say (photos, 2); 0 where they say nothing.
        real: Of `sizes`.
        where: How each photo is named in a finding.
        faults: Is added to.
    """
    differs = ((told != real) & (told > 0) & (real > 0)).any(axis=1)
    for photo in np.flatnonzero(differs).tolist():
        (width, height), (w, h) = told[photo].tolist(), real[photo].tolist()
        turned = (width, height) == (h, w)
        faults.add(
            "warning", where[photo], "objects", "the width and height of the upright picture",
            f"{width} x {height} px, of a picture of {w} x {h} px"
            + ", as before its EXIF orientation was applied" * turned,
            "the boxes may be those of the picture before it was turned or resized: look at some",
        )  # fmt: skip


def walk(folder: Path, faults: Faults) -> Iterator[Path]:
    """The files in a folder and those below it that may be photos, in order. Links to folders are not followed."""
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in [name for name in inner if os.path.islink(os.path.join(place, name))]:
            faults.add(
                "error",
                name,
                "image",
                "a folder",
                "a link to a folder, which is not followed",
                "copy the folder itself",
            )
        for name in sorted(files):
            path = Path(place, name)
            if name.startswith(".") or name.lower() in _CLUTTER or path.suffix.lower() in DOCUMENTS:
                continue
            try:
                name.encode("utf-8")
            except UnicodeEncodeError:  # bytes that are not UTF-8 come as lone surrogates
                faults.add(
                    "error", ascii(name), "image", "a file name in UTF-8", ascii(os.fsencode(name)), "rename it"
                )
                continue
            yield path


def inside(path: Path, root: Path) -> bool:
    """Whether a path lies in a folder when all links are followed."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, too long, a null character
        return False


def relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
