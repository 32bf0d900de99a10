"""The report of a check as a page with the pictures in it, and as a table for programs."""

import base64
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict
from PIL import Image

from hf_fashion import images
from hf_fashion.checks.pictures import Place, encoded, row_names
from hf_fashion.columns import is_list
from hf_fashion.errors import InputError, writing
from hf_fashion.report import Finding, Level, Report, cell

PAGE, TABLE = "report.html", "findings.parquet"
_SIDE = 176  # pixels of a picture on the page, the longer side
_SHOWN = 60  # findings of one kind on the page; the table has all
_PICTURES = 6  # of one finding
_MARK = "<title>Check of "  # in every page that the template makes
_LEVELS: tuple[Level, ...] = ("error", "warning", "note")


def write(dataset: DatasetDict, report: Report, folder: str | Path, *, limits: images.Limits = images.LIMITS) -> Path:
    """Writes `report.html`, one file that needs no other and runs nothing, and `findings.parquet`.

    Args:
        dataset: As it was checked: findings name its rows.
        report: What `check` found.
        folder: Is made if it is not there.
        limits: With which it was checked: a picture above them is not shown.

    Returns:
        The page.

    Raises:
        InputError: A file of that name is there that is no report; the disk is full.
    """
    refuse_others(folder)
    folder = Path(folder)
    with writing(f"--output_dir {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(_table(report), folder / TABLE)
        (folder / PAGE).write_text(render(dataset, report, limits), encoding="utf-8")
    return folder / PAGE


def refuse_others(folder: str | Path | None) -> None:
    """Raises InputError where a report would write over what is none; an earlier report is written over. To be asked
    before the long check."""
    path = Path(folder or "")
    page, table = path / PAGE, path / TABLE
    if folder is None or not path.exists():
        return
    told = next((file for file in (page, table) if file.exists()), None)
    if path.is_dir() and (told is None or page.is_file() and _MARK in page.read_text("utf-8", "replace")[:2000]):
        return
    raise InputError(
        f"--output_dir {folder}", expected="a folder, without a file that a report would write over",
        found=f"{told}, which is no report of a check" if path.is_dir() else "a file", fix="another folder",
    )  # fmt: skip


def render(dataset: DatasetDict, report: Report, limits: images.Limits = images.LIMITS) -> str:
    """The page as text."""
    place = Path(__file__).parents[1] / "templates"
    # File names and labels are anybody's: all that is filled in is escaped, and the page may load and run nothing.
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(place), autoescape=True, trim_blocks=True)
    source = report.source
    return environment.get_template("check.html").render(
        name=cell(str(source.get("source")), 120), kind=source.get("kind"), license=source.get("license"),
        sizes=report.sizes, left_out=report.left_out, sections=_sections(_Pictures(dataset, limits), report),
        counts={level: len(report.of(level)) for level in _LEVELS}, table=TABLE, cell=cell,
    )  # fmt: skip


def _sections(pictures: "_Pictures", report: Report) -> list[dict[str, Any]]:
    """Findings of one kind together, errors first, as the template wants them."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for level in _LEVELS:
        for finding in report.of(level):
            kinds.setdefault((level, finding.expected), []).append(finding)
    sections = []
    for number, ((of, expected), findings) in enumerate(kinds.items()):
        fixes = {finding.fix for finding in findings}
        cards = [
            {
                "where": finding.where, "column": finding.column, "found": finding.found,
                "fix": finding.fix if len(fixes) > 1 else "",
                "pictures": [pictures.shown(*row) for row in finding.rows[:_PICTURES]],
                "more": max(0, len(finding.rows) - _PICTURES),
            }
            for finding in findings[:_SHOWN]
        ]  # fmt: skip
        sections.append(
            {
                "id": f"kind-{number}",
                "level": of,
                "title": expected,
                "count": len(findings),
                "fix": next(iter(fixes)) if len(fixes) == 1 else "",
                "cards": cards,
                "more": max(0, len(findings) - _SHOWN),
            }  # fmt: skip
        )
    return sections


class _Pictures:
    """The pictures of a dataset as a page shows them: small, with name and labels."""

    def __init__(self, dataset: DatasetDict, limits: images.Limits) -> None:
        self.limits = limits
        self.rows = {split: rows for split, rows in dataset.items() if isinstance(rows, Dataset)}
        self.raw = {split: encoded(rows) for split, rows in self.rows.items()}
        self.names = {split: row_names(split, rows) for split, rows in self.rows.items()}
        self.labels = {
            split: rows.with_format(None).select_columns([name for name in rows.features if _is_label(rows, name)])
            for split, rows in self.rows.items()
        }

    def shown(self, split: str, number: int) -> dict[str, str]:
        """`data`: the address of the picture itself, "" when it cannot be read; `name`; `label`."""
        try:
            data = _address(images.decode(self.raw[split][number]["image"], limits=self.limits))
        except ValueError:
            data = ""
        return {
            "data": data,
            "name": str(Place(split, number, self.names[split][number])),
            "label": ", ".join(self._labels(split, number)),
        }

    def _labels(self, split: str, number: int) -> Iterable[str]:
        for column, value in (self.labels[split][number] if self.labels[split].column_names else {}).items():
            feature = self.labels[split].features[column]
            names = (feature.feature if is_list(feature) else feature).names
            yield from (names[each] for each in (value if isinstance(value, list) else [value]) if each is not None)


def _is_label(rows: Dataset, name: str) -> bool:
    feature = rows.features[name]
    return hasattr(feature.feature if is_list(feature) else feature, "names")


def _address(image: Image.Image) -> str:
    image.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _table(report: Report) -> pa.Table:
    columns = ("level", "where", "column", "expected", "found", "fix")
    row = pa.struct([("split", pa.string()), ("row", pa.int64())])
    table: dict[str, Any] = {name: [_plain(getattr(f, name)) for f in report.findings] for name in columns}
    table["rows"] = [[{"split": split, "row": number} for split, number in f.rows] for f in report.findings]
    return pa.table(table, pa.schema([*((name, pa.string()) for name in columns), ("rows", pa.list_(row))]))


def _plain(text: str) -> str:
    """Text that is UTF-8: names of files may be none."""
    return text.encode("utf-8", "backslashreplace").decode()
