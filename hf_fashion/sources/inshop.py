"""DeepFashion, In-shop Clothes Retrieval Benchmark: several photos of each item of a web shop; a photo asks for the
others of its item.

- Rows: train 25,882 photos of 3,997 items; test 26,830 photos of 3,985 others: 14,218 that ask (role query) and 12,612
  that are searched (role gallery). (52,712 photos: README of the dataset; the parts as those who use the benchmark
  count the list, which was not at hand when this was written.)
- Licence: non-commercial research only, by an agreement with the Multimedia Laboratory of the Chinese University of
  Hong Kong, which forbids to pass the pictures on.
- Paper: Ziwei Liu, Ping Luo, Shi Qiu, Xiaogang Wang, Xiaoou Tang: DeepFashion: Powering Robust Clothes Recognition and
  Retrieval with Rich Annotations, CVPR 2016.
- Files: Eval/list_eval_partition.txt; img/ (or Img/img/), unpacked; if wanted, Anno/list_description_inshop.json.

The first line of the list is the number of its rows, the second names its columns: picture, item, and train, query or
gallery. `protocols.in_shop` measures as the benchmark does. A validation split is cut from train by items:
`--split_by item_id`.
"""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Image, Value

from hf_fashion import sources, tables
from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell
from hf_fashion.sources.deepfashion import lines

LICENSE = "other"
HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html"
COUNTS = {"train": 25_882, "test": 26_830}
RAW = ("Anno*/list_*inshop*", "Eval/list_eval_partition.txt")
_SPLITS = {"train": "train", "query": "test", "gallery": "test"}
_ANEW = f"get the file anew from {HOMEPAGE}"


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the list and, where it is there, the descriptions.

    Args:
        folder: Holds Eval/, img/ and perhaps Anno/.
        report: Gets an error for each line that cannot be used, each picture that is missing and a list whose length
            is not what its first line says, and a warning where a count differs from the published one.

    Returns:
        train and test, with `image` (paths: nothing is copied), `item_id`, `role` (query, gallery; null in train),
        `text` (the description of the item; the column is there only if its file is, null where it says nothing),
        `gender` and `category` (folders of the picture, as WOMEN and Dresses) and `source_row` (the path as the list
        has it).

    Raises:
        InputError: A file is missing, or no such list.
    """
    wanted = {
        "list": ("Eval/list_eval_partition.txt", "list_eval_partition.txt"), "img": ("img", "Img/img"),
    }  # fmt: skip
    files = sources.find(folder, wanted, HOMEPAGE)
    descriptions = folder / "Anno" / "list_description_inshop.json"
    texts = _texts(descriptions) if descriptions.exists() else None
    rows: dict[str, dict[str, Any]] = {}
    split_of: dict[str, str] = {}
    for line, text in lines(files["list"], report):
        where, cells = f"{files['list'].name}:{line}", text.split()
        fault = _fault(cells, rows, split_of)
        if fault:
            report.add("error", where, fault[0], expected=fault[1], found=cell(fault[2]), fix=_ANEW)
            continue
        picture, item, status = cells
        split_of.setdefault(item, _SPLITS[status])
        parts = [*picture.split("/")[1:-2], None, None]  # img/WOMEN/Dresses/id_00000002/02_1_front.jpg
        rows[picture] = {
            "split": _SPLITS[status], "where": where, "item_id": item,
            "role": status if status != "train" else None, "gender": parts[0], "category": parts[1],
            **({} if texts is None else {"text": texts.get(item)}), "source_row": picture,
        }  # fmt: skip
    return dataset(rows, files["img"].parent, COUNTS, report)


def dataset(rows: dict[str, dict[str, Any]], folder: Path, published: dict[str, int], report: Report) -> DatasetDict:
    """Finds the pictures of rows, and makes the splits of them.

    Args:
        rows: Path of each picture, relative to `folder` -> its columns of text, and `split` and `where`, which are
            none.
        folder: Of the pictures.
        published: Split -> its published number of rows.
        report: Gets an error for each picture that is missing.

    Raises:
        InputError: No row is left.
    """
    found = tables.resolve(list(rows), [row["where"] for row in rows.values()], folder, report)
    paths = {name: str(path) for name, path in zip(rows, found, strict=True) if path is not None}
    columns = [name for name in next(iter(rows.values()), {}) if name not in ("split", "where")]
    features = Features({"image": Image()} | {name: Value("string") for name in columns})
    splits = {}
    for split in ("train", "validation", "test"):
        kept = {name: row for name, row in rows.items() if row["split"] == split and name in paths}
        told = {name: [row[name] for row in kept.values()] for name in columns}
        splits[split] = Dataset.from_dict({"image": [paths[name] for name in kept], **told}, features=features)
    return sources.finish(splits, published, report)


def _fault(cells: list[str], rows: dict[str, Any], split_of: dict[str, str]) -> tuple[str, str, str] | None:
    """Says what is wrong with a line: the column, what was expected, what was found."""
    if len(cells) != 3:
        return "", "a picture, an item, and train, query or gallery", " ".join(cells)
    picture, item, status = cells
    if status not in _SPLITS:
        return "evaluation_status", ", ".join(_SPLITS), repr(status)
    if picture in rows:
        return "image_name", "each picture once", f"{picture}, as in {rows[picture]['where']}"
    if split_of.get(item, _SPLITS[status]) != _SPLITS[status]:
        return "item_id", "each item in one split", f"{item} in {split_of[item]} and {_SPLITS[status]}"
    return None


def _texts(path: Path) -> dict[str, str]:
    """Reads item -> its description, lines joined; the first one of an item that is there several times."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        texts: dict[str, str] = {}
        for entry in entries:
            text = " ".join(line.strip() for line in entry["description"] if line.strip())
            if text:
                texts.setdefault(entry["item"], text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"json {path}", expected="a list of objects with item, color and description (a list of lines)",
            found=cell(f"{type(error).__name__}: {error}"), fix=_ANEW,
        ) from None  # fmt: skip
    return texts
