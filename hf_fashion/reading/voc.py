"""Pascal VOC: an XML in Annotations/ for each photo in JPEGImages/, and lists of the splits in ImageSets/Main/.

The corners of a box count pixels from 1, and the last pixel belongs to it: xmin 1 and xmax W are the whole width (the
development kit of the challenge; its annotations of 2006 say "Top left pixel co-ordinates : (1, 1)", and detectron2
reads those of 2007 and 2012 so, too). So x = xmin - 1 and width = xmax - xmin + 1. A
dataset in which a corner is 0 counts from 0, as many programs write it: there x = xmin and width = xmax - xmin.

Objects marked `difficult` are neither found nor missed in the challenge's own figures. The one thing that means this
in COCO's figures is `iscrowd`, so they have iscrowd 1. (Converters to COCO often write a key `ignore`, which
pycocotools overwrites with iscrowd.)
"""

import xml.etree.ElementTree as ET
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hf_fashion import tables
from hf_fashion.errors import InputError
from hf_fashion.reading import photos
from hf_fashion.reading.opened import Opened, Part, said
from hf_fashion.report import PICTURE, Report, cell
from hf_fashion.splits import split_name

_ANNOTATIONS = ("Annotations", "annotations", "Annotation", "annotation", "xmls", "labels")
_PICTURES = ("JPEGImages", "images", "Images", "PNGImages", "img")
_SETS = ("train", "val", "test")
_MOST_BYTES = 10_000_000  # of one XML
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MEND = "mend or remove the object"


class _Place(NamedTuple):
    """Folders of XMLs and of pictures."""

    annotations: Path
    pictures: Path


def find(folder: Path) -> dict[str, _Place]:
    """Finds folders of XMLs with their pictures: Annotations and JPEGImages, or both kinds in one folder, for the
    whole or for each split.

    Returns:
        Name of each split, "" for the whole; empty when there is none.

    Raises:
        InputError: There are XMLs and no pictures.
    """
    if place := _place(folder):
        return {"": place}
    tops = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and photos.inside(entry, folder)]
    splits = {entry.name: _place(entry) for entry in tops if split_name(entry.name)}
    inner = [entry.name for entry in tops if (entry / "Annotations").is_dir() and not split_name(entry.name)]
    if inner and any(_place(folder / name) for name in inner):  # VOCdevkit/VOC2012
        raise InputError(
            f"folder {folder}", expected="a folder with Annotations and JPEGImages",
            found=f"such a one in it: {inner[0]}", fix=f"type {folder / inner[0]}",
        )  # fmt: skip
    return {name: place for name, place in splits.items() if place is not None}


def _place(folder: Path) -> _Place | None:
    inside = [folder / name for name in _ANNOTATIONS if (folder / name).is_dir()]
    home = next((place for place in (*inside, folder) if _is_annotation(place)), None)
    if home is None or not photos.inside(home, folder):
        return None
    pictures = next((folder / name for name in _PICTURES if (folder / name).is_dir()), None)
    if pictures is None and home != folder and not any(photos.walk(home, photos.Faults())):
        raise InputError(
            f"folder {folder}", expected="a folder JPEGImages or images with the pictures, beside the XMLs",
            found=f"{home.name} alone", fix=f"put the pictures into {folder / 'JPEGImages'}",
        )  # fmt: skip
    return _Place(home, pictures or home)


def _is_annotation(folder: Path) -> bool:
    """Whether the first XML of a folder is one of Pascal VOC."""
    first = next(iter(sorted(folder.glob("*.xml"))), None)
    if first is None or not first.is_file():
        return False
    with first.open("rb") as file:
        head = file.read(4096)
    return b"<annotation" in head or "<annotation".encode("utf-16-le") in head


def read(found: dict[str, _Place], root: Path, report: Report) -> Opened:
    """Reads Pascal VOC.

    Args:
        found: Of `find`.
        root: The folder that the user gave.
        report: Gets an error for each XML, object or picture that cannot be used.

    Raises:
        InputError: Nothing can be read.
    """
    faults, read_ = photos.Faults(), {}
    for name, place in found.items():
        for split, stems in (_sets(root, place, report) if name == "" else {name: None}).items():
            read_[split] = _Photos(place, stems, root, faults, report)
    from_zero = any((part.corners[:, :2] == 0).any() for part in read_.values())
    if from_zero:
        found_ = "corners of 0: read as counted from 0, and the last pixel as not in the box"
        report.add("note", "dataset", "objects", found=found_)
    names = sorted({name for part in read_.values() for name in part.names})
    if not names:
        faults.tell(report)
        report.raise_on_errors()
        raise InputError(f"folder {root}", expected="objects", found="none in any XML", fix="give another folder")
    number = {name: place for place, name in enumerate(names)}
    difficult = sum(int((part.difficult == 1).sum()) for part in read_.values())
    if difficult:
        report.add(
            "note", "dataset", "objects", found=f"{difficult} objects marked difficult have iscrowd 1: they are "
            "neither found nor missed in figures, as in those of the challenge",
        )  # fmt: skip
    parts = {}
    for split, part in read_.items():
        start = part.corners[:, :2] - (not from_zero)
        bbox = np.concatenate([start, part.corners[:, 2:] - start], axis=1)
        rows = photos.make(
            part.paths, part.ids, part.where, names, part.row, bbox,
            np.array([number[name] for name in part.names], dtype=np.int64),
            crowd=part.difficult if difficult else None,
        )  # fmt: skip
        parts[split] = Part(rows)
    faults.tell(report)
    return Opened("Pascal VOC folder", parts, "", None, root)


def _sets(root: Path, place: _Place, report: Report) -> dict[str, list[str] | None]:
    """The ids of each split, by the lists of ImageSets/Main; None for all XMLs."""
    home = root / "ImageSets" / "Main"
    files = {name: home / f"{name}.txt" for name in _SETS if (home / f"{name}.txt").is_file()}
    if not files.keys() & {"train", "val"} and (home / "trainval.txt").is_file():
        files = {"train": home / "trainval.txt", **files}
    files = {name: path for name, path in files.items() if photos.inside(path, root)}
    if not files:
        return {"train": None}
    sets: dict[str, list[str] | None] = {}
    named: set[str] = set()
    for name, path in files.items():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"list {path}", expected="an id a line", found=said(error), fix="mend it") from error
        # Names of files may hold blanks; ids of the challenge's own lists are alone in their lines.
        ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        there = any((place.annotations / f"{one}.xml").is_file() for one in ids)
        if not there and name == "test":  # the challenge keeps its annotations
            report.add("note", f"ImageSets/Main/{path.name}", "", found=f"not used: no XML for any of {len(ids)} ids")
            continue
        sets[name] = ids
        named |= set(ids)
    spare = [path.stem for path in sorted(place.annotations.glob("*.xml")) if path.stem not in named]
    if spare:
        found = f"{len(spare)} XMLs in no list, not used; the first: {cell(spare[0])}"
        report.add("note", "ImageSets/Main", "", found=found)
    return sets


class _NoDoctype(ET.TreeBuilder):
    """Builds a tree, unless there is a DOCTYPE: entities that unfold into more than a memory holds, or that name
    files, are declared there, and annotations have none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("a DOCTYPE, which may declare entities")


def _parse(path: Path) -> ET.Element:
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes")
    parser = ET.XMLParser(target=_NoDoctype())
    parser.feed(path.read_bytes())
    tree: ET.Element = parser.close()
    return tree


class _Photos:
    """The photos of one split, and their boxes as arrays.

    Attributes:
        paths, ids, where: See `photos.make` (rows,).
        row: Row of each box (boxes,).
        corners: As they stand in the XML (boxes, 4).
        names: Name of the class of each box (boxes,).
        difficult: 0 or 1 (boxes,).
    """

    def __init__(
        self, place: _Place, stems: list[str] | None, root: Path, faults: photos.Faults, report: Report
    ) -> None:  # fmt: skip
        self._faults, self._names = faults, list[str]()
        self._row, self._corners, self._difficult = array("q"), array("d"), array("q")
        found: list[tuple[str, str, str]] = []  # id, where, name of the picture
        sizes: list[tuple[float, float]] = []
        pictures = self._pictures(place, root)
        home = place.annotations
        for stem in stems if stems is not None else [path.stem for path in sorted(home.glob("*.xml"))]:
            path = home / f"{stem}.xml"
            where = photos.relative(path, root)
            tree = self._tree(path, where, root)
            if tree is None:
                continue
            told = (tree.findtext("filename") or "").strip().replace("\\", "/").rsplit("/", 1)[-1]
            names = pictures.get(stem) or pictures.get(Path(told).stem, [])
            if len(names) > 1 and told in names:
                names = [told]
            if len(names) != 1:
                found_ = f"{' and '.join(names)}" if names else f"none called {cell(stem)} in {place.pictures.name}"
                expected = "one picture for each XML" if names else PICTURE
                faults.add("error", where, "image", expected, found_, "mend the name, or remove the XML")
                continue
            self._read(tree, where, len(found))
            found.append((stem, where, names[0]))
            sizes.append((_number(tree.findtext("size/width")), _number(tree.findtext("size/height"))))
        base = photos.relative(place.pictures, root)
        names_ = [name if base == "." else f"{base}/{name}" for _, _, name in found]
        paths = tables.resolve(names_, [where for _, where, _ in found], root, report)
        told_sizes = np.nan_to_num(np.array(sizes, dtype=np.float64).reshape(-1, 2), posinf=0, neginf=0)
        photos.compare(told_sizes.astype(np.int64), photos.sizes(paths), [where for _, where, _ in found], faults)
        kept = np.array([path is not None for path in paths], dtype=bool)
        there = np.flatnonzero(kept).tolist()
        self.paths, self.ids = [str(paths[row]) for row in there], [found[row][0] for row in there]
        self.where = [names_[row] for row in there]
        row = np.array(self._row, dtype=np.int64)
        use = kept[row]
        self.row = (np.cumsum(kept) - 1)[row[use]]
        self.corners = np.array(self._corners).reshape(-1, 4)[use]
        self.difficult = np.array(self._difficult, dtype=np.int64)[use]
        self.names = [name for name, wanted in zip(self._names, use.tolist(), strict=True) if wanted]
        self._names.clear()

    def _pictures(self, place: _Place, root: Path) -> dict[str, list[str]]:
        """Name without its ending -> names of the pictures."""
        pictures: dict[str, list[str]] = {}
        for path in photos.walk(place.pictures, self._faults):
            pictures.setdefault(path.stem, []).append(photos.relative(path, place.pictures))
        return pictures

    def _tree(self, path: Path, where: str, root: Path) -> ET.Element | None:
        """The parsed XML; None, and an error, where there is none."""
        try:
            if not path.is_file():
                found = "no such file"
            elif not photos.inside(path, root):
                found = "a link out of the folder"
            else:
                tree = _parse(path)
                if tree.tag == "annotation":
                    return tree
                found = f"<{cell(tree.tag)}>"
        except (ET.ParseError, ValueError, OSError, LookupError) as error:  # LookupError: no such encoding
            found = said(error)
        self._faults.add("error", where, "objects", "an XML of Pascal VOC", found, "mend it, or remove it")
        return None

    def _read(self, tree: ET.Element, where: str, row: int) -> None:
        """Reads the objects of one XML."""
        for place, one in enumerate(tree.findall("object")):
            name, box = one.findtext("name") or "", one.find("bndbox")
            flag = (one.findtext("difficult") or "0").strip()
            what = f"{where}, object {place}"
            if not name.strip():
                self._faults.add("error", what, "objects", "a name", "none", _MEND)
            elif box is None or any(box.find(corner) is None for corner in _CORNERS):
                self._faults.add("error", what, "objects", "a bndbox with xmin, ymin, xmax, ymax", "none", _MEND)
            elif flag not in ("0", "1"):
                self._faults.add("error", what, "objects", "difficult 0 or 1", cell(repr(flag)), _MEND)
            else:
                self._row.append(row)
                self._names.append(name.strip())
                self._corners.extend(_number(box.findtext(corner)) for corner in _CORNERS)
                self._difficult.append(int(flag))


def _number(text: Any) -> float:
    """NaN for what is no number: `hf_fashion.checks.boxes` tells of it."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")
