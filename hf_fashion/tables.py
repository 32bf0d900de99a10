"""CSV, TSV and JSON-lines files that list pictures: read exactly as they are written, or refused with the line.

Every cell stays text (`01` is not 1, `NA` is not nothing). What cannot be told for certain (encoding, delimiter) is
refused rather than guessed.
"""

import codecs
import contextlib
import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from hf_fashion.errors import InputError
from hf_fashion.report import PICTURE, Report, cell

SUFFIXES = (".csv", ".tsv", ".jsonl")
_DELIMITERS = (",", ";", "\t")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What Western European text in cp1252 holds. Letters that it shares with Czech or Icelandic are left out, since the
# same bytes may be another alphabet.
_WESTERN = set("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœŸ“”‘’„–—…«»€£©®™°·½¿¡\xa0")
Row = dict[str, Any]


def read(path: Path, image_columns: Sequence[str], report: Report) -> tuple[Dataset, list[str]]:
    """Reads a table.

    Args:
        path: A .csv, .tsv or .jsonl file.
        image_columns: Names that the column of pictures may have; the header must hold one of them.
        report: Gets an error for each line that cannot be used; such lines are not in the result.

    Returns:
        The columns of the table as text (a column that holds lists or objects is a list of texts), and the file name
        and line of each row.

    Raises:
        InputError: The file as a whole cannot be read, or holds no row.
    """
    text = _text(path, report)
    if path.suffix.lower() == ".jsonl":
        names, rows = _json_lines(path, text, report)
    else:
        names, rows = _csv(path, text, image_columns, report)
    if not rows:
        raise InputError(
            f"table {path}",
            expected="a row for each picture",
            found="a header and no rows" if names else "no rows",
            fix="fill the table, or give another file",
        )
    nested = {name for name in names if any(isinstance(row.get(name), list | dict) for _, row in rows)}
    columns: dict[str, list[Any]] = {
        name: [(_list if name in nested else _plain)(row.get(name)) for _, row in rows] for name in names
    }
    features = {name: List(Value("string")) if name in nested else Value("string") for name in names}
    return Dataset.from_dict(columns, features=Features(features)), [f"{path.name}:{line}" for line, _ in rows]


def _list(value: Any) -> list[str] | None:
    """A list of texts; a text alone is a list of one; objects in a list are their JSON; an object alone and lists of
    lists are not known."""
    parts = value if isinstance(value, list) else [value]
    if value is None or isinstance(value, dict) or any(isinstance(part, list) for part in parts):
        return None
    return [
        json.dumps(part, ensure_ascii=False) if isinstance(part, dict) else str(part)
        for part in parts
        if part is not None
    ]


def _plain(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _text(path: Path, report: Report) -> str:
    """Decodes a file: by its byte order mark, as UTF-8, or as Windows text where that can hardly be anything else."""
    try:
        str(path.resolve()).encode("utf-8")
        data = path.read_bytes()
    except UnicodeEncodeError:
        raise InputError(
            f"table {path}",
            expected="a path in UTF-8",
            found=ascii(os.fsencode(path)),
            fix="rename the file or folder",
        ) from None
    except OSError as error:
        raise InputError(
            f"table {path}", expected="a file that may be read", found=str(error.strerror),
            fix="give yourself the right to read it",
        ) from None  # fmt: skip
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        western = _western(data) if encoding == "utf-8" else None
        if western is None:
            raise InputError(
                f"table {path}",
                expected="text in UTF-8",
                found=f"other bytes, first in line {line}",
                fix="save the file as UTF-8 (spreadsheets: 'CSV UTF-8')",
            ) from None
        words = sorted({word for word in re.findall(r"\w+", western) if not word.isascii()})
        report.add(
            "warning",
            path.name,
            "",
            expected="text in UTF-8",
            found=f"Windows text (cp1252), read as: {', '.join(words[:5])}",
            fix="check these words; save the file as UTF-8",
        )
        return western


def _western(data: bytes) -> str | None:
    """Decodes cp1252, unless the result looks like another alphabet read wrongly (`Ïëàòüå`): words that are mostly
    accented letters, or accented capitals inside a word in small letters."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    if "\0" in text or any(not c.isascii() and c not in _WESTERN for c in text):
        return None
    for word in re.findall(r"[^\W\d_]+", text):
        accented = [c for c in word if not c.isascii()]
        if len(accented) * 2 > len(word) or any(c.isupper() for c in word[1:]) and not word.isupper():
            return None
    return text


def _csv(
    path: Path, text: str, image_columns: Sequence[str], report: Report
) -> tuple[list[str], list[tuple[int, Row]]]:
    """Parses a CSV file with the one delimiter under which its header names a column of pictures."""
    readings = {}
    for delimiter in _DELIMITERS:
        header: list[str] = []
        with contextlib.suppress(csv.Error):  # said below, where the file is read
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        if any(name.strip() in image_columns for name in header):
            readings[delimiter] = [name.strip() for name in header]
    if all(len(header) == 1 for header in readings.values()):
        readings = dict(list(readings.items())[:1])  # one column only: no delimiter to tell
    if len(readings) != 1:
        first = text.split("\n", 1)[0]
        raise InputError(
            f"table {path}",
            expected=f"a first line with column names, one of them {', '.join(image_columns)}",
            found=cell(first, 200) or "an empty file",
            fix="write such a line, or type --image_column NAME",
        )
    delimiter, names = next(iter(readings.items()))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"table {path}", expected="each column once", found=f"twice: {', '.join(twice)}", fix="rename one of them"
        )
    rows: list[tuple[int, Row]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        next(reader)
        line = reader.line_num + 1
        for values in reader:
            if any("\0" in value for value in values):
                report.add(
                    "error", f"{path.name}:{line}", "", expected="text", found="a null character",
                    fix="mend the line; perhaps the file is damaged, or not in UTF-8",
                )  # fmt: skip
            elif swallowed := _swallowed(values, names, image_columns, delimiter, path.parent):
                report.add(
                    "error", f"{path.name}:{line}", swallowed, expected="a cell that ends in its own line",
                    found=f"lines {line} to {reader.line_num} in one cell, rows of their own among them",
                    fix=f"mend the quotes: one that is not closed in line {line}",
                )  # fmt: skip
            elif len(values) == len(names):
                rows.append((line, dict(zip(names, values, strict=True))))
            elif values:
                report.add(
                    "error",
                    f"{path.name}:{line}",
                    "",
                    expected=f"{len(names)} cells, as in the first line",
                    found=f"{len(values)}",
                    fix="mend the line (a cell that holds the delimiter needs quotes)",
                )
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"table {path}", expected="a CSV file", found=f"{error}, from line {line}", fix="mend the quotes"
        ) from None
    return names, rows


def _swallowed(
    values: Sequence[str], names: Sequence[str], image_columns: Sequence[str], delimiter: str, folder: Path
) -> str | None:
    """The column of a cell in which other rows stand, since a quote is not closed: lines of as many cells that name a
    file. A text of several lines is none."""
    place = next(number for number, name in enumerate(names) if name in image_columns)
    for number, value in enumerate(values):
        for text in value.splitlines()[1:]:
            cells = text.split(delimiter)
            file = cells[place].strip().strip('"') if len(cells) >= len(names) else ""
            if _refusal(file) is None and os.path.isfile(folder / file):
                return names[number] if number < len(names) else ""
    return None


def _json_lines(path: Path, text: str, report: Report) -> tuple[list[str], list[tuple[int, Row]]]:
    rows, names = [], dict[str, None]()
    # Not splitlines(): JSON text may hold U+2028 and other characters that it takes for ends of lines.
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_once)
            if not isinstance(row, dict):
                raise ValueError(f"a {type(row).__name__}")
            json.dumps(row, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
        except (ValueError, RecursionError) as error:
            report.add(
                "error",
                f"{path.name}:{line}",
                "",
                expected='one JSON object, like {"file_name": "1.jpg", "label": "hat"}',
                found=str(error),
                fix="mend the line",
            )
            continue
        rows.append((line, row))
        names.update(dict.fromkeys(row))
    return list(names), rows


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):  # json itself takes the last
        twice = sorted({name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1})
        raise ValueError(f"twice: {cell(', '.join(twice), 100)}")
    return row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is not JSON")


def resolve(values: Sequence[str | None], where: Sequence[str], folder: Path, report: Report) -> list[Path | None]:
    """Finds the files that a column of paths names.

    Args:
        values: Paths relative to `folder`.
        where: How each row is named in a finding.
        folder: No path may lead out of it.
        report: Gets an error for each path that is refused.

    Returns:
        For each row the path, or None with an error in the report.
    """
    folder = folder.resolve()
    found: list[Path | None] = []
    backslashes = 0
    for value, row in zip(values, where, strict=True):
        reason = _refusal(value)
        path = None
        if value and not reason:
            path = folder / value
            if "\\" in value and not path.exists() and (folder / value.replace("\\", "/")).exists():
                path, backslashes = folder / value.replace("\\", "/"), backslashes + 1
            reason = _missing(path, folder)
        if reason:
            expected, problem, fix = reason
            report.add("error", row, "image", expected=expected, found=problem, fix=fix)
            path = None
        found.append(path)
    if backslashes:
        report.add("note", "dataset", "image", found=f"{backslashes} paths with \\ were read as with /")
    return found


Refusal = tuple[str, str, str]


def _refusal(value: str | None) -> Refusal | None:
    """Says why a path is refused by its text alone: expected, found, what to do."""
    if value is None or not value.strip():
        return PICTURE, "no path", "fill the cell, or remove the row"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", value):
        return "a path relative to the table", f"an address: {value}", "download the picture, and name the file"
    parts = re.split(r"[/\\]", value)
    if value.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:[/\\]", value):
        return "a path relative to the table", f"an absolute path: {value}", "make it relative to the table's folder"
    if ".." in parts:
        return "a path inside the table's folder", value, "move the picture into the folder"
    return None


def _missing(path: Path, folder: Path) -> Refusal | None:
    """Says why a path is refused by what is on the disk."""
    try:
        real = path.resolve()
        if not real.is_relative_to(folder):
            return "a path inside the table's folder", f"a link to {real}", "copy the picture into the folder"
        if real.is_file():
            return None
        if real.exists():
            return PICTURE, f"no file but a folder or a pipe: {path.name}", "name a file"
    except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a null character
        return PICTURE, f"{cell(path.name)}: {error}", "mend the path"
    other = next(
        (form for form in ("NFC", "NFD") if (path.parent / unicodedata.normalize(form, path.name)).exists()), ""
    )
    hint = f" (there is one whose accents are written in another way, {other})" if other else ""
    return PICTURE, f"no such file: {path.relative_to(folder)}{hint}", "mend the path, or remove the row"
