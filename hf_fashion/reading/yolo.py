"""YOLO: a data.yaml that names the classes and the split folders, photos in images/, a text for each in labels/.

A line of a text is a class number and the centre, width and height of a box in shares of the picture; or a class
number and the points of a polygon, of which the bounding box is taken. A photo without a text has no objects. See
https://docs.ultralytics.com/datasets/detect/ for the format; `train: ../train/images`, as Roboflow writes beside
train/images, is read as that program's users mean it.
"""

import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from hf_fashion import images, tables
from hf_fashion.boxes import to_xywh
from hf_fashion.errors import InputError
from hf_fashion.reading import aliases, photos
from hf_fashion.reading.opened import Opened, Part, license_of, said
from hf_fashion.report import DROP, PICTURE, Report, cell
from hf_fashion.splits import split_name

_SPLITS = ("train", "val", "valid", "validation", "test")
_MOST_BYTES = 10_000_000  # of a data.yaml
_SLACK = 0.02  # beyond 1 that is rounding, or a box drawn over the edge
_MEND = "mend or remove the line"
_EXAMPLE = "path: .\ntrain: images/train\nval: images/val\nnames: {0: dress, 1: hat}"


def find(folder: Path) -> Path | None:
    """The file of a folder that names classes and split folders, data.yaml where there are several.

    Raises:
        InputError: There are images/ and labels/ with texts, and no such file; or a data.yaml that cannot be read.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".yaml", ".yml") and path.is_file())
    for path in sorted(files, key=lambda path: path.stem != "data"):
        try:
            told = _parse(path)
        except InputError:
            if path.stem == "data":
                raise
            continue
        if "names" in told and set(told) & set(_SPLITS):
            return path
    pictures, texts = folder / "images", folder / "labels"
    if pictures.is_dir() and texts.is_dir() and any(texts.rglob("*.txt")):
        raise InputError(
            f"folder {folder}", expected="a data.yaml beside images and labels: the names of the classes, and the "
            "folders of the splits",
            found=", ".join(path.name for path in files) + ", which names neither" if files else "none",
            fix=f"write a data.yaml: {' / '.join(_EXAMPLE.splitlines())}",
        )  # fmt: skip
    return None


def _parse(path: Path) -> dict[str, Any]:
    """A YAML file whose every scalar is text: a class called `no` is not False."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        text = path.read_text(encoding="utf-8-sig")
        aliases.refuse(f"file {path}", text)
        told = yaml.load(text, Loader=yaml.BaseLoader)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, TypeError, yaml.YAMLError) as error:
        raise _wrong(path, "YAML in UTF-8", said(error)) from error
    return told if isinstance(told, dict) else {}


def _wrong(path: Path, expected: str, found: str) -> InputError:
    fix = f"write it as: {' / '.join(_EXAMPLE.splitlines())}"
    return InputError(f"file {path}", expected=expected, found=found, fix=fix)


def read(path: Path, report: Report) -> Opened:
    """Reads a YOLO folder.

    Args:
        path: Its data.yaml.
        report: Gets an error for each line of a label that cannot be used and each picture that cannot be read, a
            warning for texts without a picture, and notes of pictures without a text and of polygons.

    Raises:
        InputError: It names no classes, or folders that are not there or lead out of the one that it lies in.
    """
    told, root = _parse(path), path.parent
    names, number = _classes(path, told.get("names"), told.get("nc"), report)
    places = _places(path, told, report)
    pose = "kpt_shape" in told
    roboflow = told.get("roboflow")
    license_ = license_of(told.get("license") or (roboflow.get("license") if isinstance(roboflow, dict) else None))
    faults, parts, seen = photos.Faults(), {}, _Seen(set(), set())
    for split, given in places.items():
        parts[split] = Part(_rows(split, given, root, names, number, pose, seen, faults, report))
    _tell_loose(seen, root, report)
    faults.tell(report)
    return Opened("YOLO folder", parts, license_, None, root)


def _classes(path: Path, told: Any, count: Any, report: Report) -> tuple[list[str], dict[Any, int]]:
    if isinstance(told, list):
        told = {str(place): name for place, name in enumerate(told)}
    texts = isinstance(told, dict) and all(isinstance(name, str) and name.strip() for name in told.values())
    if not texts or not told or not all(re.fullmatch(r"[0-9]{1,9}", str(key)) for key in told):
        raise _wrong(
            path, "names: a list of class names, or a number and a name for each", cell(f"names: {told}", 200)
        )
    if isinstance(count, str) and count.isdecimal() and int(count) != len(told):
        raise _wrong(path, f"{count} names, as nc says", f"{len(told)}: {cell(', '.join(told.values()), 200)}")
    names = {int(key): name for key, name in told.items()}
    return photos.classes(dict(sorted(names.items())), path.name, report)


def _places(path: Path, told: dict[str, Any], report: Report) -> dict[str, list[Path]]:
    """Name of each split -> its folders and lists."""
    root, base = path.parent, path.parent
    if isinstance(told.get("path"), str) and told["path"].strip():
        base = root / told["path"].strip()
        if not base.is_dir() or not photos.inside(base, root):
            led = f"path: {cell(told['path'])} is not followed, the folder of this file is taken"
            report.add("note", path.name, "", found=led)
            base = root
    places: dict[str, list[Path]] = {}
    for key in (key for key in _SPLITS if told.get(key)):
        values = told[key] if isinstance(told[key], list) else [told[key]]
        found = [_place(str(value).strip(), (base, root)) for value in values]
        lost = [str(value) for value, place in zip(values, found, strict=True) if place is None]
        if lost and split_name(key) == "test":  # often named where there is none
            report.add(
                "warning", path.name, "image", expected="the folders that it names", fix="nothing, if there is none",
                found=f"{key}: {cell(', '.join(lost))} is not in the folder, and not used",
            )  # fmt: skip
        elif lost:
            raise _wrong(
                path, f"{key}: a folder of pictures in {root}, relative to this file", f"{cell(', '.join(lost), 200)}"
            )
        if kept := [place for place in found if place is not None]:
            places[key] = kept
    if not places:
        raise _wrong(path, "train: a folder of pictures", "none")
    for first, second in ((a, b) for a in places for b in places if a < b):
        if shared := {place.resolve() for place in places[first]} & {place.resolve() for place in places[second]}:
            raise InputError(
                f"file {path}", expected="a folder of its own for each split",
                found=f"{photos.relative(shared.pop(), root.resolve())} for {first} and {second}",
                fix="leave one of the two out: a missing split is cut from train, and no picture is in both",
            )  # fmt: skip
    return places


def _place(value: str, bases: tuple[Path, ...]) -> Path | None:
    """The folder or list that a value names, within the folder of the file."""
    value = value.replace("\\", "/")
    below = re.sub(r"^(\.\./)+", "", value)  # beside data.yaml, though it says above it
    for base in bases:
        for path in (base / value, base / below):
            if value and photos.inside(path, bases[-1]) and path.exists():
                return path
    return None


class _Seen(NamedTuple):
    """The texts that belong to a picture, and the folders in which there are some."""

    texts: set[Path]
    folders: set[Path]


def _rows(
    split: str, given: list[Path], root: Path, names: list[str], number: dict[Any, int], pose: bool, seen: _Seen,
    faults: photos.Faults, report: Report,
) -> Any:  # fmt: skip
    """The rows of one split."""
    paths: list[Path] = []
    for place in given:
        paths += _listed(place, root, report) if place.is_file() else _inside(place, root, report, faults)
    paths = list(dict.fromkeys(paths))
    if not paths:
        folders = ", ".join(photos.relative(place, root) for place in given)
        raise InputError(
            f"split {split} of {root}", expected="pictures", found=f"none in {folders}", fix="mend data.yaml"
        )
    home = root.resolve()
    sizes, kept, lacking = photos.sizes(paths), list[Path](), list[Path]()
    row, category, bbox, polygons = array("q"), array("q"), array("d"), 0
    for path, size in zip(paths, sizes.tolist(), strict=True):
        if not all(size):  # shares of what?
            faults.add("error", photos.relative(path, home), "image", PICTURE, _why(path), DROP)
            continue
        text = _text_of(path, home)
        seen.texts.add(text)
        seen.folders.add(text.parent)
        if not text.is_file():
            lacking.append(path)
        elif not photos.inside(text, home):
            faults.add(
                "error", photos.relative(text, home), "objects", "a file inside the folder", "a link out of it",
                "copy the file itself",
            )  # fmt: skip
        else:
            for kind, numbers, is_polygon in _lines(text, photos.relative(text, home), number, pose, faults):
                row.append(len(kept))
                category.append(kind)
                bbox.extend(numbers)
                polygons += is_polygon
        kept.append(path)
    if len(lacking) == len(kept) and kept:
        raise InputError(
            f"split {split} of {root}",
            expected="a text with the boxes of each picture, in labels in the place of images",
            found=f"none for any of {len(kept)} pictures, as {photos.relative(_text_of(kept[0], home), home)}",
            fix="put the texts there",
        )  # fmt: skip
    if lacking:
        found = f"{len(lacking)} of {len(kept)} pictures have no text, and so no objects; the first: "
        report.add("note", f"split {split}", "objects", found=found + cell(photos.relative(lacking[0], home)))
    if polygons:
        found = f"{polygons} of {len(row)} lines are polygons: their bounding boxes are taken"
        report.add("note", f"split {split}", "objects", found=found)
    rows = np.array(row, dtype=np.int64)
    usable = sizes[(sizes > 0).all(axis=1)]
    pixels = to_xywh(np.array(bbox).reshape(-1, 4), "relative_cxcywh", usable[rows])
    where = [photos.relative(path, home) for path in kept]
    texts = [str(path) for path in kept]
    return photos.make(texts, where, where, names, rows, pixels, np.array(category, dtype=np.int64))


def _why(path: Path) -> str:
    try:
        images.probe(path)
    except ValueError as error:
        return str(error)
    return "a header that cannot be read"


def _inside(place: Path, root: Path, report: Report, faults: photos.Faults) -> list[Path]:
    """The pictures in a folder."""
    names = [photos.relative(path, root) for path in photos.walk(place, faults)]
    return [path for path in tables.resolve(names, names, root, report) if path is not None]


def _listed(place: Path, root: Path, report: Report) -> list[Path]:
    """The pictures that a text lists, one a line."""
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"list {place}", expected="a path a line, in UTF-8", found=said(error), fix="mend it"
        ) from error
    values = {number: line.strip().removeprefix("./") for number, line in enumerate(lines, 1) if line.strip()}
    where = [f"{place.name}:{number}" for number in values]
    return [path for path in tables.resolve(list(values.values()), where, root, report) if path is not None]


def _text_of(path: Path, root: Path) -> Path:
    """Where the boxes of a picture stand: `labels` in the place of the last `images`, or beside the picture."""
    parts = list(path.relative_to(root).parts)
    folders = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _lines(
    text: Path, where: str, number: dict[Any, int], pose: bool, faults: photos.Faults
) -> Iterator[tuple[int, list[float], bool]]:
    """Class number, centre and size of each box of a text, and whether it was a polygon."""
    try:
        lines = text.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        faults.add("error", where, "objects", "a text that can be read", said(error), "mend the file")
        return
    for place, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            kind, *numbers = map(float, words)
        except ValueError:
            faults.add("error", f"{where}:{place}", "objects", "numbers", cell(line), _MEND)
            continue
        polygon = len(numbers) >= 6 and len(numbers) % 2 == 0 and not pose
        if len(numbers) != 4 and not polygon and not (pose and len(numbers) > 4):
            found = f"{len(numbers)} numbers after the class: {cell(line)}"
            found += "; perhaps a detection with its score" * (len(numbers) == 5)
            faults.add("error", f"{where}:{place}", "objects", "a class and four numbers, or a polygon", found, _MEND)
            continue
        if kind not in number:
            told = f"{kind:g}"
            faults.add("error", f"{where}:{place}", "objects", "a class that data.yaml names", told, _MEND)
            continue
        numbers = _box(numbers) if polygon else numbers[:4]
        if any(abs(value) > 1 + _SLACK for value in numbers):  # NaN passes: the check tells of it
            faults.add("error", f"{where}:{place}", "objects", "shares of the picture, 0 to 1", cell(line), _MEND)
            continue
        yield number[kind], numbers, polygon


def _box(points: list[float]) -> list[float]:
    """Centre and size of the box around a polygon x, y, x, y, ..."""
    xs, ys = points[::2], points[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _tell_loose(seen: _Seen, root: Path, report: Report) -> None:
    """Warns of texts that belong to no picture."""
    texts = [path for folder in sorted(seen.folders) if folder.is_dir() for path in sorted(folder.glob("*.txt"))]
    extra = [path for path in texts if path not in seen.texts and path.name != "classes.txt"]
    extra = [path for path in extra if not path.name.startswith("README")]
    if extra:
        report.add(
            "warning", root.name, "objects", expected="a picture for each text of boxes",
            found=f"{len(extra)} without, the first: {cell(photos.relative(extra[0], root.resolve()))}",
            fix="put the pictures beside the others, or remove the texts",
        )  # fmt: skip
