"""Fashion200K: crops of clothes from a shopping site (Lyst, 2016), several of each product, each with a description.

- Rows: train 172,049 lines, test 29,789, of five categories (dress, jacket, pants, skirt, top), as those who read the
  files count them; they name 201,824 pictures, so a few lines repeat one. (The files were not at hand when this was
  written.)
- Licence: not known: none is stated.
- Paper: Xintong Han, Zuxuan Wu, Phoenix X. Huang, Xiao Zhang, Menglong Zhu, Yuan Li, Yang Zhao, Larry S. Davis:
  Automatic Spatially-aware Fashion Concept Discovery, ICCV 2017.
- Files: labels/<category>_<train or test>_detect_all.txt and women/, unpacked.

A line of a file of labels is the path of a picture, the score of the detector that cut it out, and the description of
the product, with tabs between. A product is the folder of its pictures.
"""

from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from hf_fashion import sources, tables
from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell

LICENSE = ""
HOMEPAGE = "https://github.com/xthan/fashion-200k"
COUNTS = {"train": 172_049, "test": 29_789}
RAW = ("labels/*_detect_all.txt",)
CATEGORIES = ["dress", "jacket", "pants", "skirt", "top"]
_FEATURES = Features(
    {
        "image": Image(),
        "item_id": Value("string"),
        "text": Value("string"),
        "category": ClassLabel(names=CATEGORIES),
        "detection_score": Value("float32"),
        "source_row": Value("string"),
    }
)
_ANEW = f"get the file anew from {HOMEPAGE}"


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the ten files of labels.

    Args:
        folder: Holds labels/ and women/.
        report: Gets an error for each line that cannot be used and each picture that is missing, a warning for each
            line that names a picture again (the first counts, and train before test) and where a count differs from
            the published one.

    Returns:
        train and test, with `image` (paths: nothing is copied), `item_id` (the number of the product), `text` (the
        description), `category` (ClassLabel, by the file), `detection_score` and `source_row` (the path as the file
        has it).

    Raises:
        InputError: A file is missing, or is not text in UTF-8.
    """
    names = [f"labels/{category}_{split}_detect_all.txt" for split in COUNTS for category in CATEGORIES]
    files = sources.find(folder, {name: (name,) for name in [*names, "women"]}, HOMEPAGE)
    first: dict[str, str] = {}
    splits = {}
    for split in COUNTS:
        rows = [
            row
            for category in CATEGORIES
            for row in _rows(files[f"labels/{category}_{split}_detect_all.txt"], category, first, report)
        ]
        paths = tables.resolve(
            [row["source_row"] for row in rows], [row["where"] for row in rows], files["women"].parent, report
        )
        kept = [row | {"image": str(path)} for row, path in zip(rows, paths, strict=True) if path is not None]
        columns = {name: [row[name] for row in kept] for name in _FEATURES}
        splits[split] = Dataset.from_dict(columns, features=_FEATURES)
    return sources.finish(splits, COUNTS, report)


def _rows(path: Path, category: str, first: dict[str, str], report: Report) -> list[dict[str, Any]]:
    """The lines of a file; `first` keeps where each picture was named before."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"list {path}", expected="text in UTF-8", found=str(error), fix=_ANEW) from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where, cells = f"{path.name}:{number}", [part.strip() for part in line.split("\t")]
        fault = _fault(cells)
        if fault:
            report.add("error", where, fault[0], expected=fault[1], found=cell(fault[2]), fix=_ANEW)
            continue
        picture, score, text = cells
        if first.setdefault(picture, where) != where:
            report.add(
                "warning", where, "image", expected="each picture once",
                found=cell(f"{picture}, as in {first[picture]}"), fix="left out: the first counts",
            )  # fmt: skip
            continue
        rows.append(
            {
                "where": where, "item_id": picture.split("/")[-2], "text": text, "category": category,
                "detection_score": float(score), "source_row": picture,
            }
        )  # fmt: skip
    return rows


def _fault(cells: list[str]) -> tuple[str, str, str] | None:
    """Says what is wrong with a line: the column, what was expected, what was found."""
    if len(cells) != 3:
        return "", "a picture, a score and a description, with tabs between", " | ".join(cells)
    picture, score, text = cells
    if len(picture.split("/")) < 3 or not picture.split("/")[-2]:
        return "image", "a path whose last folder is the product", repr(picture)
    try:
        float(score)
    except ValueError:
        return "detection_score", "a number", repr(score)
    return None if text else ("text", "a description", "nothing")
