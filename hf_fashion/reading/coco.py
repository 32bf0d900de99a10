"""COCO: a json with `images`, `annotations` and `categories`, and folders of photos beside it.

Category ids may be any numbers, with gaps: classes are numbered from 0 in the order of the ids, and keep their names.
Masks are not read. See https://cocodataset.org/#format-data for the format.
"""

import contextlib
import json
import mmap
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from hf_fashion import tables
from hf_fashion.errors import InputError
from hf_fashion.reading import photos
from hf_fashion.reading.opened import Opened, Part, license_of, said
from hf_fashion.report import Report, cell
from hf_fashion.splits import split_name

_KEYS = ("images", "annotations", "categories")
_FOLDERS = ("images", "image", "img", "JPEGImages", "data")
_LIKE = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
_SAMPLE = 50  # names of files that are looked for in each folder
_HEAVY = ("segmentation", "keypoints", "landmarks", "counts")  # what makes a json large, and is not read


def lacks(path: Path) -> list[str]:
    """The parts of a COCO json of which there is no word in a file; none when it may be one. It is not parsed."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return [key for key in _KEYS if content.find(f'"{key}"'.encode()) < 0]
    except (OSError, ValueError):  # empty files cannot be mapped
        return list(_KEYS)


def find(folder: Path, report: Report) -> dict[str, Path]:
    """Finds the COCO jsons of a folder: in it, in `annotations`, or one in each split folder.

    Returns:
        Name of each split -> its json; empty when there is none.

    Raises:
        InputError: Several jsons are of one split; an `annotations` folder holds jsons that are almost COCO.
    """
    tops = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and photos.inside(entry, folder)]
    homes = [entry for entry in tops if entry.name.lower() in ("annotations", "annotation")]
    places = [folder, *homes, *(entry for entry in tops if split_name(entry.name))]
    files = {path: lacks(path) for place in places for path in sorted(place.glob("*.json"))}
    files = {path: missing for path, missing in files.items() if photos.inside(path, folder)}
    found: dict[str, list[Path]] = {}
    for path in (path for path, missing in files.items() if not missing):
        found.setdefault(split_of(path), []).append(path)
    others = [path for path, missing in files.items() if missing and path.parent in (folder, *homes)]
    almost = next((path for path in others if path.parent in homes and "images" not in files[path]), None)
    if not found and almost is not None:
        raise _no_coco(almost, f"no {' and no '.join(files[almost])}")
    if not found:
        return {}
    chosen = {}
    for name, paths in found.items():
        ours = [path for path in paths if path.name.startswith("instances")] or paths  # beside keypoints, stuff, ...
        if len(ours) > 1:
            raise InputError(
                f"folder {folder}", expected="one COCO json for each split",
                found=f"{' and '.join(photos.relative(path, folder) for path in ours)} for {name}",
                fix=f"give the json itself as the dataset, as {ours[0]}",
            )  # fmt: skip
        chosen[name] = ours[0]
        others += [path for path in paths if path != ours[0]]
    for path in others:
        report.add("note", photos.relative(path, folder), "objects", found="a json that is not used")
    return chosen


def split_of(path: Path) -> str:
    """The split that the name of a json says (`instances_train2017.json`: train2017), or else that of its folder."""
    said_ = [token for token in _tokens(path) if split_name(token.rstrip("0123456789"))]
    if said_:
        return said_[0].rstrip("0123456789")
    return path.parent.name if split_name(path.parent.name) else path.stem


def _tokens(path: Path) -> list[str]:
    return [token for token in re.split(r"[_\-. ]+", path.stem) if token]


def read(files: dict[str, Path], root: Path, report: Report, *, whole: bool) -> Opened:
    """Reads COCO jsons.

    Args:
        files: Name of each split -> its json.
        root: The folder that the user gave, or that of the one json.
        whole: They are all that there are: warn of pictures that none of them lists.
        report: Gets an error for each picture that is missing and each annotation that cannot be used, and warnings of
            sizes that are not those of the pictures.

    Raises:
        InputError: A file is no COCO json, or none of its pictures is there.
    """
    parts, used, licenses = {}, set(), set()
    for name, path in files.items():
        document = load(path)
        home = pictures_of(path, [image.get("file_name") for image in document["images"] if isinstance(image, dict)])
        if not photos.inside(home, root):
            root = path.parent.parent  # the folder of pictures lies beside the one that was given
        parts[name] = (path, document, home)
        licenses |= {str(told.get("name")) for told in document.get("licenses") or () if isinstance(told, dict)}
    rows, listed = {}, set()
    for name in list(parts):
        path, document, home = parts.pop(name)
        rows[name] = Part(table(path, document, home, root, report))
        used.add(home)
        listed |= set(rows[name].rows["source_row"][:])
    if whole:
        _tell_unlisted(used, root, listed, report)
    license_ = license_of(licenses.pop()) if len(licenses) == 1 else ""
    return Opened("COCO folder" if whole else "COCO json", rows, license_, None, root)


def load(path: Path) -> dict[str, Any]:
    """Parses a COCO json, without masks.

    Raises:
        InputError: It is none.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            document = json.load(file, object_hook=_light)
    except (ValueError, RecursionError, OSError) as error:
        raise _no_coco(path, said(error)) from error
    if not isinstance(document, dict):
        raise _no_coco(path, f"a {type(document).__name__}" + _hint(document))
    wrong = [key for key in _KEYS if not isinstance(document.get(key), list)]
    if wrong:
        keys = ", ".join(cell(key, 30) for key in list(document)[:8]) or "nothing"
        raise _no_coco(path, f"no list {' and no list '.join(wrong)}; there is: {keys}")
    return document


def _light(value: dict[str, Any]) -> dict[str, Any]:
    """Lets go of masks while the file is read: they are most of it."""
    for key in _HEAVY:
        value.pop(key, None)
    return value


def _hint(document: Any) -> str:
    first = document[0] if isinstance(document, list) and document else None
    return ": of detections, not of annotations" if isinstance(first, dict) and "score" in first else ""


def _no_coco(path: Path, found: str) -> InputError:
    return InputError(
        f"file {path}", expected="a COCO json: an object with lists images, annotations and categories", found=found,
        fix="give such a file, a folder with some, or another kind of dataset",
    )  # fmt: skip


def pictures_of(path: Path, names: Sequence[Any]) -> Path:
    """The folder that a json's file names are relative to: the one in which most of some of them lie.

    Raises:
        InputError: None of them is in any folder that is looked in.
    """
    few = [name for name in names if isinstance(name, str)]
    few = few[:: max(1, len(few) // _SAMPLE)]
    home, above = path.parent, path.parent.parent
    told = _tokens(path)
    split = split_name(split_of(path).rstrip("0123456789"))
    told = list(dict.fromkeys([*reversed(told), *_LIKE.get(split or "", ())]))
    nested = [f"{outer}/{name}" for outer in _FOLDERS for name in told]
    places = [base / name for base in (home, above) for name in (*told, *nested, *_FOLDERS, "")]
    places = [place for place in dict.fromkeys(places) if place.is_dir()]
    led_out = [place for place in places if not photos.inside(place, above)]
    places = [place for place in places if place not in led_out]
    counts = [sum(_is_there(place, name) for name in few) for place in places]
    if not few or not max(counts, default=0):
        looked = ", ".join(photos.relative(place, home) for place in places) or "."
        raise InputError(
            f"file {path}: its pictures",
            expected="the folder of the pictures beside the json, or beside its folder",
            found=(f"none of {len(names)} there, as {cell(str(few[0]))}" if few else "no image in it")
            + f"; looked in: {looked}"
            + "".join(f"; {place.name} is a link out of the folder" for place in led_out),
            fix=f"put the pictures into {above / 'images'}, or the json beside them",
        )
    return places[counts.index(max(counts))]


def _is_there(place: Path, name: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return (place / name).is_file()
    return False


def table(path: Path, document: dict[str, Any], home: Path, root: Path, report: Report) -> Dataset:
    """The rows of one json.

    Args:
        path: The json, for messages.
        document: Of `load`. Its lists are emptied while they are read.
        home: The folder that file names are relative to.
        root: What `source_row` is relative to.
        report: See `read`.

    Returns:
        `image` (paths), `image_id`, `objects` (with `iscrowd` where the json has one), `source_row`.
    """
    faults = photos.Faults()
    names, number = _categories(path, document["categories"], document["annotations"], report)
    found = _Images(path, document["images"], faults)
    boxes = _Boxes(path, document["annotations"], found.rows, number, faults)
    document.clear()
    paths = tables.resolve(found.files, found.where, home, report)
    photos.compare(found.sizes, photos.sizes(paths), found.where, faults)
    faults.tell(report)
    kept = np.array([file is not None for file in paths], dtype=bool)
    there = [row for row, file in enumerate(paths) if file is not None]
    use, place = kept[boxes.row], np.cumsum(kept) - 1
    root = root.resolve()
    return photos.make(
        [str(paths[row]) for row in there], [found.ids[row] for row in there],
        [photos.relative(Path(str(paths[row])), root) for row in there], names,
        place[boxes.row[use]], boxes.bbox[use], boxes.category[use], boxes.area[use],
        boxes.crowd[use] if boxes.has_crowd else None,
    )  # fmt: skip


def _categories(
    path: Path, told: list[Any], annotations: list[Any], report: Report
) -> tuple[list[str], dict[Any, int]]:
    """Names of the classes, and category id -> number of its class."""
    names: dict[Any, str] = {}
    above = set()
    for category in told:
        key = category.get("id") if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        text = "" if name is None or isinstance(name, dict | list) else str(name)
        if not _is_id(key) or not text.strip() or key in names or not _is_text(text):
            raise InputError(
                f"file {path}: categories", expected="an id and a name for each, each id once",
                found=cell(f"{category}", 200), fix="mend the category",
            )  # fmt: skip
        names[key] = text
        above.add(str(category.get("supercategory")))
    if all(isinstance(key, int) for key in names):
        names = dict(sorted(names.items()))
    used = {str(one.get("category_id")) for one in annotations if isinstance(one, dict)}
    heads = [key for key, name in names.items() if name in above and str(key) not in used]
    for key in heads if len(heads) < len(names) else ():  # some programs write the project's name as category 0
        report.add(
            "note",
            path.name,
            "objects",
            found=f"category {key}, {names[key]!a}: the head of others, and no box has it",
        )
        del names[key]
    if not names:
        raise InputError(f"file {path}: categories", expected="some", found="none", fix="write them")
    return photos.classes(names, path.name, report)


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and _is_text(str(value))


def _is_text(text: str) -> bool:
    """Whether a text can be written: half of a surrogate pair cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


class _Images:
    """The list `images`: of each that can be used the id, the file name and the size that is told."""

    def __init__(self, path: Path, images: list[Any], faults: photos.Faults) -> None:
        self.rows: dict[Any, int] = {}  # id -> row
        self.ids: list[str] = []
        self.files: list[str] = []
        self.where: list[str] = []
        sizes = array("d")
        files: dict[str, Any] = {}
        for place, image in enumerate(images):
            key = image.get("id") if isinstance(image, dict) else None
            file = image.get("file_name") if isinstance(image, dict) else None
            where = f"{path.name}: image {key}" if _is_id(key) else f"{path.name}: images[{place}]"
            if not _is_id(key) or not isinstance(file, str) or not _is_text(file):
                faults.add("error", where, "image", "an id and a file_name", cell(f"{image}", 100), "mend the image")
            elif key in self.rows:
                faults.add("error", where, "image_id", "each id once", f"again, for {cell(file)}", "number them anew")
            elif file in files:
                faults.add(
                    "error", where, "image", "each file once", f"{cell(file)}, as image {files[file]}",
                    "put all boxes of a picture under one id",
                )  # fmt: skip
            else:
                self.rows[key], files[file] = len(self.ids), key
                self.ids.append(str(key))
                self.files.append(file)
                self.where.append(where)
                sizes.extend(_number(image.get(side)) for side in ("width", "height"))
        self.sizes = np.nan_to_num(np.array(sizes), posinf=0, neginf=0).reshape(-1, 2).astype(np.int64)


class _Boxes:
    """The list `annotations` as arrays, one entry a box."""

    def __init__(
        self, path: Path, annotations: list[Any], rows: dict[Any, int], number: dict[Any, int], faults: photos.Faults
    ) -> None:  # fmt: skip
        row, category, crowd = array("q"), array("q"), array("q")
        bbox, area = array("d"), array("d")
        seen: set[Any] = set()
        self.has_crowd = False
        for place, one in enumerate(annotations):
            key = one.get("id") if isinstance(one, dict) else None
            where = f"{path.name}: annotation {key}" if _is_id(key) else f"{path.name}: annotations[{place}]"
            if not isinstance(one, dict):
                faults.add("error", where, "objects", "an annotation", cell(f"{one}"), "mend or remove it")
                continue
            if _is_id(key) and key in seen:
                faults.add(
                    "warning", where, "objects", "each id of an annotation once", "again",
                    "number them anew: other programs may take only one of them",
                )  # fmt: skip
            elif _is_id(key):
                seen.add(key)
            image, kind, numbers = one.get("image_id"), one.get("category_id"), one.get("bbox")
            flag = one.get("iscrowd")
            self.has_crowd |= flag is not None
            if not _is_id(image) or image not in rows:
                faults.add("error", where, "image_id", "an image of the list images", f"{image!r}", _MEND)
            elif not _is_id(kind) or kind not in number:
                faults.add("error", where, "objects", "a category of the list categories", f"{kind!r}", _MEND)
            elif not isinstance(numbers, list) or len(numbers) != 4:
                found = "none" if numbers is None else cell(f"{numbers}")
                faults.add("error", where, "objects", "a bbox of four numbers", found, _MEND)
            elif flag not in (None, 0, 1):
                faults.add("error", where, "objects", "iscrowd 0 or 1", cell(f"{flag!r}"), _MEND)
            else:
                row.append(rows[image])
                category.append(number[kind])
                bbox.extend(map(_number, numbers))
                area.append(_number(one.get("area")))
                crowd.append(int(flag or 0))
        self.row, self.category, self.crowd = (np.array(part, dtype=np.int64) for part in (row, category, crowd))
        self.bbox, self.area = np.array(bbox).reshape(-1, 4), np.array(area)


_MEND = "mend or remove the annotation"


def _number(value: Any) -> float:
    """NaN for what is no number: `hf_fashion.checks.boxes` tells of it."""
    try:
        return float(value) if isinstance(value, int | float) else float("nan")
    except OverflowError:
        return float("inf")


def _tell_unlisted(homes: set[Path], root: Path, listed: set[str], report: Report) -> None:
    """Warns of files in the folders of pictures that no json lists."""
    outer = [home for home in homes if not any(home != other and home.is_relative_to(other) for other in homes)]
    silent, root = photos.Faults(), root.resolve()
    found = [photos.relative(path.resolve(), root) for home in sorted(outer) for path in photos.walk(home, silent)]
    extra = [name for name in found if name not in listed]
    if extra:
        report.add(
            "warning", root.name, "image", expected="an entry in a json for each file",
            found=f"{len(extra)} file(s) that none lists, the first: {cell(extra[0])}",
            fix="nothing, if they are not wanted",
        )  # fmt: skip
