"""Fashion IQ: photos of dresses, shirts and tops; captions of what is different in a target photo from a reference.

- Rows: train 46,609 photos (dress 11,452, shirt 19,036, toptee 16,121) with 18,000 pairs of reference and target,
  validation 15,536 (3,817, 6,346, 5,373) with 6,016; two captions each. The pairs of test were published without their
  targets, so papers measure on validation, and test is not read. (Counts as those who use the files give them; the
  files were not at hand when this was written.)
- Licence: Community Data License Agreement (README of the repository, which does not say which of the two); of the
  photos, which are Amazon's, the rights are their owners'.
- Paper: Hui Wu, Yupeng Gao, Xiaoxiao Guo, Ziad Al-Halah, Steven Rennie, Kristen Grauman, Rogerio Feris: Fashion IQ: A
  New Dataset Towards Retrieving Images by Natural Language Feedback, CVPR 2021, arXiv 1905.12794.
- Files: captions/cap.<category>.<split>.json, image_splits/split.<category>.<split>.json, and images/ (or
  resized_images/) with <id>.jpg or <id>.png, in folders of the categories or not. Not all photos can be had any more:
  `--on_bad_image drop` leaves those out that are missing.

`protocols.composed` measures as the challenge did.
"""

import json
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

from hf_fashion import sources, tables
from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell

LICENSE = "other"
HOMEPAGE = "https://github.com/XiaoxiaoGuo/fashion-iq"
COUNTS = {"train": 46_609, "validation": 15_536}
RAW = ("captions/cap.*.json", "image_splits/split.*.json")
CATEGORIES = ["dress", "shirt", "toptee"]
_SPLITS = {"train": "train", "validation": "val"}
_FEATURES = Features(
    {
        "image": Image(),
        "item_id": Value("string"),
        "category": ClassLabel(names=CATEGORIES),
        "relative_captions": List({"target": Value("string"), "captions": List(Value("string"))}),
        "source_row": Value("string"),
    }
)
_ANEW = f"get the file anew from {HOMEPAGE}"


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the jsons of train and validation.

    Args:
        folder: Holds captions/, image_splits/ and images/.
        report: Gets an error for each photo that is missing, each id that stands twice, and each pair that cannot be
            used, and a warning where a count differs from the published one.

    Returns:
        train and validation, with `image` (paths: nothing is copied), `item_id` (the id of the product at Amazon),
        `category` (ClassLabel), `relative_captions` (of a photo that is a reference, a list of `target`, an item_id,
        and `captions`; else empty) and `source_row` (path of the photo relative to the folder).

    Raises:
        InputError: A file is missing, or is another json.
    """
    names = [
        name
        for split in _SPLITS.values()
        for category in CATEGORIES
        for name in (f"captions/cap.{category}.{split}.json", f"image_splits/split.{category}.{split}.json")
    ]
    wanted: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
    wanted["photos"] = ("images", "resized_images", "image_data")
    files = sources.find(folder, wanted, HOMEPAGE)
    splits = {}
    for split, word in _SPLITS.items():
        rows = [row for category in CATEGORIES for row in _rows(files, category, word, report)]
        paths = tables.resolve(
            [_picture(files["photos"], row) for row in rows], [row["where"] for row in rows], folder, report
        )
        kept = [(str(path), row) for path, row in zip(paths, rows, strict=True) if path is not None]
        columns: dict[str, list[Any]] = {"image": [path for path, _ in kept]}
        columns |= {name: [row[name] for _, row in kept] for name in _FEATURES if name in (rows or [{}])[0]}
        columns["source_row"] = [_picture(files["photos"], row) for _, row in kept]
        splits[split] = Dataset.from_dict(columns, features=_FEATURES) if kept else Dataset.from_dict({})
    return sources.finish(splits, COUNTS, report)


def _rows(files: dict[str, Path], category: str, split: str, report: Report) -> list[dict[str, Any]]:
    """The photos of a category, each with the captions of which it is the reference."""
    name = f"image_splits/split.{category}.{split}.json"
    rows: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(_json(files[name])):
        where = f"{files[name].name}: {number}"
        if not isinstance(item, str) or not item.strip() or item in rows:
            expected = "each id once" if isinstance(item, str) and item in rows else "an id"
            report.add("error", where, "", expected=expected, found=cell(repr(item)), fix=_ANEW)
            continue
        rows[item] = {"where": where, "item_id": item, "category": category, "relative_captions": []}
    name = f"captions/cap.{category}.{split}.json"
    for number, pair in enumerate(_json(files[name])):
        fault = _fault(pair, rows)
        if fault:
            where = f"{files[name].name}: {number}"
            report.add("error", where, fault[0], expected=fault[1], found=cell(fault[2]), fix=_ANEW)
            continue
        change = {"target": pair["target"], "captions": pair["captions"]}
        rows[pair["candidate"]]["relative_captions"].append(change)
    return list(rows.values())


def _json(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        found = str(error)
    if not isinstance(found, list):
        told = found if isinstance(found, str) else f"a {type(found).__name__}"
        raise InputError(f"json {path}", expected="a list", found=cell(told, 150), fix=_ANEW)
    return found


def _fault(pair: Any, rows: dict[str, Any]) -> tuple[str, str, str] | None:
    """Says what is wrong with a pair: the column, what was expected, what was found."""
    if not isinstance(pair, dict) or not {"candidate", "target", "captions"} <= set(pair):
        return "", "an object with candidate, target and captions", repr(pair)
    for name in ("candidate", "target"):
        if not isinstance(pair[name], str) or pair[name] not in rows:
            return name, "an id of the category's split", repr(pair[name])
    captions = pair["captions"]
    if not isinstance(captions, list) or not captions or not all(isinstance(text, str) for text in captions):
        return "captions", "a list of texts", repr(captions)
    return None


def _picture(photos: Path, row: dict[str, Any]) -> str:
    """The path of a photo from the folder of the dataset; of one that is missing, where it would have been."""
    item, category = row["item_id"], row["category"]
    names = [f"{item}.jpg", f"{item}.png", f"{category}/{item}.jpg", f"{category}/{item}.png"]
    return f"{photos.name}/{next((name for name in names if (photos / name).exists()), names[0])}"
