"""H&M Personalized Fashion Recommendations: articles of a fashion chain, each with a photo, a description and groups.

- Rows: 105,542 in articles.csv, of which 105,100 have a picture; no splits. (Counts as those who use the competition's
  files give them; the files were not at hand when this was written.)
- Licence: the rules of the competition (Kaggle, 2022), which allow non-commercial and academic use only, as those who
  use it say; the page was not read.
- Paper: none. By H&M Group, 2022.
- Files: articles.csv and images/<first three digits>/<article_id>.jpg. The tables of customers and purchases are not
  read.

An article is a product (`product_code`) in one colour, with one photo. The description is the product's and does not
name the colour: a search by text calls all colours right, as equal texts are. Split by `product_code`, or one product
lies in two splits.
"""

import csv
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from hf_fashion import sources, tables
from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell

LICENSE = "other"
HOMEPAGE = "https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations/data"
COUNTS = {"train": 105_100}
RAW = ("articles.csv", "images/[0-9][0-9][0-9]")
_TEXTS = {"item_id": "article_id", "product_code": "product_code", "title": "prod_name", "text": "detail_desc"}
_CLASSES = {
    "product_type": "product_type_name", "product_group": "product_group_name",
    "graphical_appearance": "graphical_appearance_name", "colour": "colour_group_name",
    "department": "department_name", "index_group": "index_group_name", "garment_group": "garment_group_name",
}  # fmt: skip
_DIGITS = 10  # of an article's number; programs that read it as a number lose the zero in front


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads articles.csv.

    Args:
        folder: Holds articles.csv and images/.
        report: Gets an error for each line that cannot be used, a note on articles without a picture (there are some,
            says the competition), and a warning when the count differs from the published one.

    Returns:
        One split, "train", with `image` (paths: nothing is copied), `item_id` (article_id, ten digits),
        `product_code`, `title` (prod_name), `text` (detail_desc; null where there is none), `product_type`,
        `product_group`, `graphical_appearance`, `colour`, `department`, `index_group`, `garment_group` (ClassLabel of
        the values that occur, sorted) and `source_row` (path of the picture).

    Raises:
        InputError: A file is missing, or articles.csv is another table.
    """
    files = sources.find(folder, {name: (name,) for name in ("articles.csv", "images")}, HOMEPAGE)
    rows = _table(files["articles.csv"], report)
    bare = [row["item_id"] for row in rows if not (folder / row["source_row"]).exists()]
    if bare:
        report.add(
            "note", "articles.csv", "image", found=f"{len(bare)} articles without a picture, the first: {bare[0]}"
        )
    rows = [row for row in rows if row["item_id"] not in set(bare)]
    where = [row["where"] for row in rows]
    paths = tables.resolve([row["source_row"] for row in rows], where, folder, report)
    kept = [row | {"image": str(path)} for row, path in zip(rows, paths, strict=True) if path is not None]
    features: dict[str, Any] = {"image": Image(), **{name: Value("string") for name in _TEXTS}}
    for name in _CLASSES:
        features[name] = ClassLabel(names=sorted({row[name] for row in kept if row[name]}))
    features["source_row"] = Value("string")
    columns = {name: [row[name] for row in kept] for name in features}
    return sources.finish({"train": Dataset.from_dict(columns, features=Features(features))}, COUNTS, report)


def _table(path: Path, report: Report) -> list[dict[str, Any]]:
    """Reads the rows; lines that cannot be used become errors."""
    wanted = {**_TEXTS, **_CLASSES}
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            missing = [name for name in wanted.values() if name not in header]
            if missing:
                raise InputError(
                    f"table {path}", expected=f"a first line with {', '.join(wanted.values())}",
                    found=f"no {', '.join(missing)} in: {cell(','.join(header), 150)}",
                    fix=f"give the articles.csv of {HOMEPAGE}",
                )  # fmt: skip
            line = reader.line_num + 1
            for cells in reader:
                fault = _fault(cells, header, seen)
                if fault:
                    report.add(
                        "error", f"{path.name}:{line}", fault[0], expected=fault[1], found=cell(fault[2]),
                        fix="mend the line",
                    )  # fmt: skip
                elif cells:
                    told = dict(zip(header, (part.strip() or None for part in cells), strict=True))
                    row: dict[str, Any] = {name: told[column] for name, column in wanted.items()}
                    row["item_id"] = item = str(row["item_id"]).zfill(_DIGITS)
                    seen[item] = line
                    rows.append(row | {"where": f"{path.name}:{line}", "source_row": f"images/{item[:3]}/{item}.jpg"})
                line = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"table {path}", expected="a CSV file in UTF-8", found=str(error), fix=f"get it anew from {HOMEPAGE}"
        ) from None
    return rows


def _fault(cells: list[str], header: list[str], seen: dict[str, int]) -> tuple[str, str, str] | None:
    """Says what is wrong with a line: the column, what was expected, what was found."""
    if cells and len(cells) != len(header):
        return "", f"{len(header)} cells, as in the first line", str(len(cells))
    if not cells:
        return None
    item = cells[header.index("article_id")].strip()
    if not (item.isascii() and item.isdecimal()) or len(item) > _DIGITS:
        return "article_id", f"a number of at most {_DIGITS} digits", repr(item)
    if (before := seen.get(item.zfill(_DIGITS))) is not None:
        return "article_id", "each article once", f"{item}, as in line {before}"
    return None
