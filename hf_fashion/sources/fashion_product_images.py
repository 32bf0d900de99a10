"""Fashion Product Images: photos of products of an Indian web shop, each with a category, a colour, a season and more.

- Rows: 44,446 in styles.csv, of which 5 have no picture (ids 12347, 39401, 39403, 39410, 39425): 44,441. No splits.
  15 rows have no colour, 21 no season, 317 no usage, 1 no year, 7 no title. (These counts are from notes of several
  users of the dataset on GitHub; its page on Kaggle was not read.)
- Licence: not known. Kaggle's page is said to state MIT; whether its author holds the rights in the photos is not.
- Paper: none. By Param Aggarwal, 2019.
- Files: styles.csv and images/<id>.jpg, of `fashion-product-images-small` (60 x 80 pixels) or of
  `fashion-product-images-dataset` (the same rows, large pictures).

styles.csv does not quote cells: 22 titles hold commas, others a lone quotation mark, on which CSV readers stop or drop
rows. The title is the last column, so here a line is cut at its first nine commas.
"""

from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from hf_fashion import sources, tables
from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell

LICENSE = ""
HOMEPAGE = "https://www.kaggle.com/datasets/paramaggarwal/fashion-product-images-small"
COUNTS = {"train": 44_441}
RAW = ("styles.csv", "images")
HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
NO_PICTURE = {"12347", "39401", "39403", "39410", "39425"}
_LABELS = ("gender", "master_category", "sub_category", "article_type", "base_colour", "season", "usage")
_COLUMNS = ("id", *_LABELS[:-1], "year", "usage", "title")
_UNKNOWN = ("", "NA")


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads styles.csv.

    Args:
        folder: Holds styles.csv and images/.
        report: Gets an error for each line that cannot be used and each picture that is missing, a note on the
            pictures that were never published, and a warning when the count differs from the published one.

    Returns:
        One split, "train", with `image` (paths: nothing is copied), `item_id` (the id; one picture each), `gender`,
        `master_category`, `sub_category`, `article_type`, `base_colour`, `season`, `usage` (ClassLabel of the values
        that occur, sorted), `year`, `title` and, the same under its name for retrieval, `text`, and `source_row` (path
        of the picture). A cell that is empty or NA is null.

    Raises:
        InputError: A file is missing, or styles.csv is another table.
    """
    files = sources.find(folder, {name: (name,) for name in ("styles.csv", "images")}, HOMEPAGE)
    rows = _table(files["styles.csv"], report)
    unpublished = {
        line for line, row in rows.items() if row["id"] in NO_PICTURE and not (folder / _picture(row)).exists()
    }
    if unpublished:
        report.add("note", "styles.csv", "image", found=f"{len(unpublished)} rows whose picture was never published")
    rows = {line: row for line, row in rows.items() if line not in unpublished}
    where = [f"styles.csv:{line}" for line in rows]
    paths = tables.resolve([_picture(row) for row in rows.values()], where, folder, report)
    kept = [(path, row) for path, row in zip(paths, rows.values(), strict=True) if path is not None]
    columns: dict[str, list[Any]] = {name: [row[name] for _, row in kept] for name in _COLUMNS[1:]}
    classes = {name: ClassLabel(names=sorted({text for text in columns[name] if text})) for name in _LABELS}
    columns = {"item_id": [row["id"] for _, row in kept], **columns, "text": columns["title"]}
    others = {"year": Value("int32"), **{name: Value("string") for name in ("item_id", "title", "text")}}
    split = Dataset.from_dict(
        {"image": [str(path) for path, _ in kept], **columns, "source_row": [_picture(row) for _, row in kept]},
        features=Features(
            {"image": Image()}
            | {name: others.get(name) or classes[name] for name in columns}
            | {"source_row": Value("string")}
        ),
    )
    return sources.finish({"train": split}, COUNTS, report)


def _picture(row: dict[str, Any]) -> str:
    return f"images/{row['id']}.jpg"


def _table(path: Path, report: Report) -> dict[int, dict[str, Any]]:
    """Reads line number -> row; lines that cannot be used become errors."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"table {path}", expected="text in UTF-8", found=str(error), fix=f"get the file anew from {HOMEPAGE}"
        ) from None
    if lines[0].strip() != HEADER:
        raise InputError(
            f"table {path}",
            expected=f"the first line {HEADER}",
            found=cell(lines[0].strip(), 150) or "nothing",
            fix=f"give the styles.csv of {HOMEPAGE}",
        )
    rows: dict[int, dict[str, Any]] = {}
    seen: dict[str, int] = {}
    for line, text in enumerate(lines[1:], 2):
        if not text.strip():
            continue
        cells = [part.strip() for part in text.split(",", len(_COLUMNS) - 1)]
        row: dict[str, Any] = {
            name: None if part in _UNKNOWN else part for name, part in zip(_COLUMNS, cells, strict=False)
        }
        fault = _fault(cells, row, seen.get(cells[0]))
        if fault:
            report.add(
                "error", f"{path.name}:{line}", fault[0], expected=fault[1], found=fault[2], fix="mend the line"
            )
            continue
        seen[cells[0]] = line
        if row["title"] and len(row["title"]) > 1 and row["title"][0] == row["title"][-1] == '"':
            row["title"] = row["title"][1:-1].replace('""', '"')  # saved again by a program that does quote
        rows[line] = row | {"year": int(row["year"]) if row["year"] else None}
    return rows


def _fault(cells: list[str], row: dict[str, Any], before: int | None) -> tuple[str, str, str] | None:
    """Says what is wrong with a line: the column, what was expected, what was found."""
    if len(cells) < len(_COLUMNS):
        return "", f"{len(_COLUMNS)} cells or more", str(len(cells))
    if not (cells[0].isascii() and cells[0].isdecimal()):
        return "id", "a number", repr(cells[0])
    if before is not None:
        return "id", "each id once", f"{cells[0]}, as in line {before}"
    # pandas writes whole numbers beside an empty cell as decimal ones
    row["year"] = row["year"] and row["year"].removesuffix(".0")
    if row["year"] and not (row["year"].isascii() and row["year"].isdecimal()):
        return "year", "a year, or nothing", repr(row["year"])
    return None
