"""DeepFashion, Category and Attribute Prediction Benchmark: photos of clothes from shops and from people, with one of
50 categories and any of 1,000 attributes each.

- Rows: 289,222: train 209,222, validation 40,000, test 40,000 (as those who use the benchmark count Eval's list; the
  lists themselves were not at hand when this was written).
- Categories: 50 in the list, of which 46 occur: Cape, Nightdress, Shirtdress and Sundress were merged into Dress
  (README of the dataset). Here only those that occur are classes, in the order of the list.
- Licence: non-commercial research only, by an agreement with the Multimedia Laboratory of the Chinese University of
  Hong Kong, which forbids to pass the pictures on.
- Paper: Ziwei Liu, Ping Luo, Shi Qiu, Xiaogang Wang, Xiaoou Tang: DeepFashion: Powering Robust Clothes Recognition and
  Retrieval with Rich Annotations, CVPR 2016.
- Files: Anno_coarse/ (older copies: Anno/) with list_category_cloth.txt, list_category_img.txt, list_attr_cloth.txt,
  list_attr_img.txt and, if wanted, list_bbox.txt; Eval/list_eval_partition.txt; img/ (or Img/img/), unpacked.

The first line of each list is the number of its rows, the second names its columns. An attribute of a picture is 1
(it holds), -1 (it does not) or 0 (unknown), as the README of the dataset says. Here a picture has the list of those
that hold: empty when none holds, null when all are unknown. Where only some are unknown, they count as not holding; a
note says how many pictures that are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from tqdm.auto import tqdm

from hf_fashion import sources, tables
from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell

LICENSE = "other"  # the Hub's id for one that has no id
HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/AttributePrediction.html"
COUNTS = {"train": 209_222, "validation": 40_000, "test": 40_000}
RAW = ("Anno*/list_category_img.txt",)
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_LISTS = ("list_category_cloth.txt", "list_category_img.txt", "list_attr_cloth.txt", "list_attr_img.txt")
_ANEW = f"get the file anew from {HOMEPAGE}"
_BAR_AFTER = 2.0  # seconds


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the lists.

    Args:
        folder: Holds Anno_coarse/, Eval/ and img/.
        report: Gets an error for each line that cannot be used, each picture that is missing and each list whose
            length is not what its first line says, and a warning where a count differs from the published one.

    Returns:
        train, validation and test, with `image` (paths: nothing is copied), `category` (ClassLabel), `attributes`
        (list of ClassLabel, see above), `bbox` (x, y, width, height in pixels; null where the list has no box; the
        column is there only if list_bbox.txt is) and `source_row` (the path as the lists have it).

    Raises:
        InputError: A file is missing, or no list at all.
    """
    wanted: dict[str, tuple[str, ...]] = {name: (f"Anno_coarse/{name}", f"Anno/{name}") for name in _LISTS}
    wanted |= {"list_eval_partition.txt": ("Eval/list_eval_partition.txt",), "img": ("img", "Img/img")}
    files = sources.find(folder, wanted, HOMEPAGE)
    category_names = _names(files["list_category_cloth.txt"], report)
    attribute_names = _names(files["list_attr_cloth.txt"], report)
    photos = _Photos(files["list_category_img.txt"], len(category_names), report)
    splits = photos.splits(files["list_eval_partition.txt"])
    attributes = photos.attributes(files["list_attr_img.txt"], len(attribute_names))
    boxes_file = files["list_attr_img.txt"].with_name("list_bbox.txt")
    boxes = photos.boxes(boxes_file) if boxes_file.exists() else None
    pictures = photos.pictures(files["img"].parent)
    used = np.unique(photos.categories[photos.usable])
    idle = [name for number, name in enumerate(category_names) if number not in used]
    if idle:
        report.add("note", "list_category_cloth.txt", "category", found=f"no picture, so no class: {', '.join(idle)}")
    features: dict[str, Any] = {
        "image": Image(),
        "category": ClassLabel(names=[category_names[number] for number in used]),
        "attributes": List(ClassLabel(names=attribute_names)),
        **({"bbox": List(Value("int32"))} if boxes is not None else {}),
        "source_row": Value("string"),
    }
    dataset = {}
    for split in COUNTS:
        kept = [row for row in np.flatnonzero(photos.usable) if splits[row] == split]
        columns: dict[str, Any] = {
            "image": pa.array([pictures[row] for row in kept], pa.string()),
            "category": np.searchsorted(used, photos.categories[kept]),
            "attributes": _lists([attributes[row] for row in kept], pa.int64()),
            "bbox": _lists([boxes[row] for row in kept], pa.int32()) if boxes is not None else None,
            "source_row": pa.array([photos.paths[row] for row in kept], pa.string()),
        }
        dataset[split] = Dataset.from_dict({name: columns[name] for name in features}, features=Features(features))
    return sources.finish(dataset, COUNTS, report)


def _lists(values: list[np.ndarray | None], kind: pa.DataType) -> pa.Array:
    """Makes a column of lists, without a Python object for each number in them."""
    lengths = [0 if value is None else len(value) for value in values]
    numbers = np.concatenate([np.empty(0, np.int64), *(value for value in values if value is not None)])
    return pa.ListArray.from_arrays(
        pa.array(np.cumsum([0, *lengths]), pa.int32()),
        pa.array(numbers, kind),
        mask=pa.array([value is None for value in values], pa.bool_()),
    )


def lines(path: Path, report: Report) -> Iterator[tuple[int, str]]:
    """Gives line number and text of each row of a list, and tells when they are not as many as its first line says."""
    # The lists are ASCII; a name in other bytes is still found on the disk.
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        told = file.readline().strip()
        if not told.isdecimal():
            raise InputError(
                f"list {path}", expected="a first line with the number of rows", found=cell(repr(told)), fix=_ANEW
            )
        file.readline()
        rows = 0
        for line, text in enumerate(file, 3):
            if text.strip():
                rows += 1
                yield line, text
    if rows != int(told):
        report.add("error", f"{path.name}:1", "", expected=f"{told} rows, as it says", found=str(rows), fix=_ANEW)


def _names(path: Path, report: Report) -> list[str]:
    """Reads the names of a list whose rows are a name, which may hold blanks, and a number for its kind."""
    names: dict[str, int] = {}
    for line, text in lines(path, report):
        name, *kind = text.rsplit(maxsplit=1)
        if not kind or not kind[0].isdecimal() or name.strip() in names:
            raise InputError(
                f"list {path}, line {line}",
                expected="a name that no other line has, and a number",
                found=cell(repr(text.strip())),
                fix=_ANEW,
            )
        names[name.strip()] = line
    return list(names)


class _Photos:
    """The rows of list_category_img.txt, and what the other lists say of them.

    Attributes:
        paths: As the lists have them, (rows,).
        categories: Number of each from 0, -1 where it is none (rows,).
        usable: Whether no list has an error for it (rows,).
    """

    def __init__(self, path: Path, categories: int, report: Report) -> None:
        self.report, self.name = report, path.name
        self.paths: list[str] = []
        self.lines: list[int] = []
        self._rows: dict[str, int] = {}
        numbers = []
        for line, text in lines(path, report):
            image, *rest = text.split(maxsplit=1)
            if image in self._rows:
                self._refuse(f"{path.name}:{line}", "image", "each picture once", f"{cell(image)} again")
                continue
            self._rows[image] = len(self.paths)
            self.paths.append(image)
            self.lines.append(line)
            number = "".join(rest).strip()
            numbers.append(int(number) - 1 if number.isdecimal() and 1 <= int(number) <= categories else -1)
            if numbers[-1] < 0:
                self._refuse(f"{path.name}:{line}", "category", f"1 to {categories}", cell(repr(number)))
        self.categories = np.array(numbers, np.int64)
        self.usable = self.categories >= 0

    def _refuse(self, where: str, column: str, expected: str, found: str) -> None:
        self.report.add("error", where, column, expected=expected, found=found, fix=_ANEW)

    def _each(self, path: Path, what: str) -> Iterator[tuple[int, str, str]]:
        """Gives for each row of another list the number of the photo, where it stands, and the text after the path.
        Photos without a row are not usable, and counted."""
        seen = np.zeros(len(self.paths), dtype=bool)
        rows = tqdm(
            lines(path, self.report), total=len(self.paths), desc=f"reading {what}", unit="row", delay=_BAR_AFTER
        )
        for line, text in rows:
            image, *rest = text.split(maxsplit=1)
            row = self._rows.get(image)
            where = f"{path.name}:{line}"
            if row is None or seen[row]:
                expected = "each picture once" if row is not None else f"a picture of {self.name}"
                self._refuse(where, "image", expected, cell(image))
                continue
            seen[row] = True
            yield row, where, "".join(rest).strip()
        missing = np.flatnonzero(~seen)
        if len(missing):
            found = f"{len(missing)} pictures without one, the first: {cell(self.paths[missing[0]])}"
            self._refuse(path.name, "image", "a row for each picture", found)
            self.usable &= seen

    def splits(self, path: Path) -> list[str | None]:
        """Reads the split of each photo."""
        splits: list[str | None] = [None] * len(self.paths)
        for row, where, word in self._each(path, "splits"):
            splits[row] = _SPLITS.get(word)
            if splits[row] is None:
                self._refuse(where, "split", ", ".join(_SPLITS), cell(repr(word)))
                self.usable[row] = False
        return splits

    def attributes(self, path: Path, count: int) -> list[np.ndarray | None]:
        """Reads the numbers of the attributes that each photo has; None when all are unknown.

        The file has 289 million values (0.9 GB): they are never in memory together.
        """
        held: list[np.ndarray | None] = [None] * len(self.paths)
        doubtful = 0
        for row, where, text in self._each(path, "attributes"):
            try:
                values = np.fromstring(text, np.int32, sep=" ")
            except ValueError:
                values = np.empty(0, np.int32)
            if len(values) != count or values.min() < -1 or values.max() > 1:
                self._refuse(where, "attributes", f"{count} numbers, each -1, 0 or 1", cell(text))
                self.usable[row] = False
                continue
            unknown = int(np.count_nonzero(values == 0))
            doubtful += 0 < unknown < count
            held[row] = np.flatnonzero(values == 1) if unknown < count else None
        if doubtful:
            found = f"{doubtful} pictures with some attributes unknown (0): read as not holding"
            self.report.add("note", path.name, "attributes", found=found)
        return held

    def boxes(self, path: Path) -> list[np.ndarray | None]:
        """Reads x, y, width and height of each photo's garment; None, with a warning, where that is no box."""
        boxes: list[np.ndarray | None] = [None] * len(self.paths)
        for row, where, text in self._each(path, "boxes"):
            try:
                left, top, right, bottom = map(int, text.split())
            except ValueError:
                left = top = right = bottom = 0
            if 0 <= left < right and 0 <= top < bottom:
                boxes[row] = np.array([left, top, right - left, bottom - top])
            else:
                self.report.add(
                    "warning", where, "bbox", expected="x_1 < x_2 and y_1 < y_2", found=cell(text), fix="left empty"
                )
        return boxes

    def pictures(self, folder: Path) -> list[str]:
        """Finds the file of each usable photo."""
        rows = np.flatnonzero(self.usable)
        where = [f"{self.name}:{self.lines[row]}" for row in rows]
        found = [""] * len(self.paths)
        for row, path in zip(
            rows, tables.resolve([self.paths[row] for row in rows], where, folder, self.report), strict=True
        ):
            found[row] = str(path or "")
            self.usable[row] = path is not None
        return found
