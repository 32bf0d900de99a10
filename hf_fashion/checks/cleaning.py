"""A copy of a dataset without what is certainly wrong in it, and two lists: what was left out, and what was not."""

import csv
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from datasets import Dataset, DatasetDict
from datasets.table import embed_table_storage

from hf_fashion import images
from hf_fashion.checks import labels
from hf_fashion.checks.pictures import Place, row_names
from hf_fashion.errors import InputError, writing
from hf_fashion.report import ONE_SPLIT, PICTURE, Finding, Report
from hf_fashion.splits import ORDER

LEFT_OUT, LEFT_IN = "left_out.csv", "left_in.csv"
_BATCH = 64  # rows in memory at once, and in a row group
_AGAIN = "in the source, then --fix again into a new folder"
_NAMED = 4  # pictures of a group
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def fix(
    dataset: DatasetDict, report: Report, folder: str | Path, *, lost: Sequence[Finding] = (),
    limits: images.Limits = images.LIMITS,
) -> Path:  # fmt: skip
    """Writes a cleaned copy that `data.load` reads, as `data/<split>-00000-of-00001.parquet`.

    Left out are pictures that cannot be read, and equal pictures in two splits: the copy in test stays, else the one
    in validation, so that what is measured on remains what others measured on, and only training loses a picture.
    What takes a judgement stays in, and is listed: equal pictures within a split, near-duplicates, labels, shapes.
    The bytes of the pictures are those of the source, which is not touched.

    Args:
        dataset: As it was checked.
        report: What `check` found in it.
        folder: A new or empty folder.
        lost: Errors of loading, whose rows are not in the dataset and so not in the copy.
        limits: With which it was checked.

    Returns:
        The folder.

    Raises:
        InputError: The folder is not empty, or the disk is full.
    """
    refuse_in_use(folder)
    folder = Path(folder)
    streams = [split for split, rows in dataset.items() if not isinstance(rows, Dataset)]
    if streams:
        raise InputError("--fix", expected="a dataset on the disk", found="a stream", fix="leave --streaming out")
    names = {split: row_names(split, rows) for split, rows in dataset.items()}
    out = _left_out(report, names)
    with writing(f"--fix {folder}"):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        sizes = {}
        for split, rows in dataset.items():
            kept = [number for number in range(len(rows)) if (split, number) not in out]
            sizes[split] = len(kept)
            if kept:
                _write(rows.select(kept), folder / "data" / f"{split}-00000-of-00001.parquet")
        lost = [finding for finding in lost if _is_row(finding)]
        told = [("", finding.where, _reason(finding)) for finding in lost]
        told += [(split, str(Place(split, row, names[split][row])), out[split, row]) for split, row in sorted(out)]
        _table(folder / LEFT_OUT, ("split", "where", "reason"), told)
        settled = (PICTURE, ONE_SPLIT)
        _table(
            folder / LEFT_IN, ("level", "where", "column", "found", "to_do"),
            [*((f.level, f.where, f.column, f.found, f"{f.fix} ({_AGAIN})" if f.fix else "")
               for f in report.findings if f.level != "note" and f.expected not in settled and f not in lost),
             *_copies_left(report, names)],
        )  # fmt: skip
        typed = shlex.join(["--dataset", folder.name, *options(dataset, report, limits)])
        (folder / "README.md").write_text(_readme(report, sizes, len(told), typed), encoding="utf-8")
    return folder


def options(dataset: DatasetDict, report: Report, limits: images.Limits = images.LIMITS) -> list[str]:
    """What is typed beside `--dataset` to read a copy as it was checked: its columns of labels, unless it is `label`
    alone, and limits that are not the default ones."""
    names = labels.columns(dataset, report)
    typed = ["--label_columns", *names] if names and names != ["label"] else []
    for name, value in vars(limits).items():
        typed += [f"--{name}", f"{value:.15g}"] if value != getattr(images.LIMITS, name) else []
    return typed


def refuse_in_use(folder: str | Path | None) -> None:
    """Raises InputError unless the folder of a copy is new or empty; to be asked before the long check."""
    path = Path(folder or "")
    if folder is not None and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(
            f"--fix {folder}", expected="a new or empty folder",
            found="a folder with files in it" if path.is_dir() else "a file", fix="another folder",
        )  # fmt: skip


def refuse_inside(source: str, folders: Mapping[str, str | None]) -> None:
    """Raises InputError for a folder to write into that lies in the source, which is never touched: read again, it
    would be a class.

    Args:
        source: What the user calls the dataset.
        folders: Setting -> its folder.
    """
    place = os.path.expanduser(source)
    place = place if os.path.exists(place) else os.path.expanduser(source.partition(":")[2])  # fashion_mnist:FOLDER
    if not os.path.isdir(place):
        return
    for setting, folder in folders.items():
        if folder is not None and Path(folder).resolve().is_relative_to(Path(place).resolve()):
            raise InputError(
                f"--{setting} {folder}", expected="a folder outside of the dataset", found=f"one in {source}",
                fix="another folder: the dataset is not touched",
            )  # fmt: skip


def _left_out(report: Report, names: dict[str, list[str]]) -> dict[tuple[str, int], str]:
    """Split and number of each row that is left out -> why."""
    out: dict[tuple[str, int], str] = {}
    for finding in report.findings:
        if finding.expected == PICTURE:
            out |= dict.fromkeys(finding.rows, finding.found)
        elif finding.expected == ONE_SPLIT:
            stays = max({split for split, _ in finding.rows}, key=ORDER.index)
            kept = next(number for split, number in finding.rows if split == stays)
            reason = f"equal pixels: its copy {Place(stays, kept, names[stays][kept])} stays"
            out |= {(split, number): reason for split, number in finding.rows if split != stays}
    return out


def _copies_left(report: Report, names: dict[str, list[str]]) -> list[tuple[str, str, str, str, str]]:
    """The rows of `left_in.csv` about equal pictures in two splits that are still there twice, in the split that
    stays."""
    told = []
    for finding in (finding for finding in report.findings if finding.expected == ONE_SPLIT):
        stays = max({split for split, _ in finding.rows}, key=ORDER.index)
        rows = [number for split, number in finding.rows if split == stays]
        if len(rows) > 1:
            where = ", ".join(str(Place(stays, number, names[stays][number])) for number in rows[:_NAMED])
            where += f" and {len(rows) - _NAMED} more" * (len(rows) > _NAMED)
            told.append(("warning", where, "image", "equal pixels", f"remove all but one ({_AGAIN})"))
    return told


def _is_row(finding: Finding) -> bool:
    """Whether an error of loading is about a row or file, and not about the whole."""
    return finding.level == "error" and not finding.where.startswith(("dataset", "split ", "splits "))


def _reason(finding: Finding) -> str:
    return f"{finding.column}: {finding.found}" if finding.column else finding.found


def _write(rows: Dataset, path: Path) -> None:
    """Writes rows with their pictures inside, a batch at a time."""
    schema = rows.features.arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        for table in rows.with_format("arrow").iter(batch_size=_BATCH):
            writer.write_table(embed_table_storage(table.cast(schema)))


def _table(path: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(head)
        for row in rows:
            cells = [f"'{text}" if text.startswith(_FORMULA) else text for text in row]
            # Names of files may be no UTF-8.
            table.writerow([text.encode("utf-8", "backslashreplace").decode() for text in cells])


def _readme(report: Report, sizes: dict[str, int], left_out: int, typed: str) -> str:
    front = f"---\n{yaml.safe_dump({'license': report.source.get('license') or 'unknown'})}---\n\n"
    rows = ", ".join(f"{split} {size}" for split, size in sizes.items())
    were = "was" if left_out == 1 else "were"
    return (
        f"{front}# A cleaned copy\n\nMade by `hf-fashion check --fix`. Rows: {rows}; {left_out} {were} left out, each "
        f"named with its reason in {LEFT_OUT}.\nWhat takes a judgement was left in, and is listed in {LEFT_IN}.\n\n"
        f"To go on, use the copy as it is:\n\n    hf-fashion classify {typed}\n\n"
        f"or mend in the source what {LEFT_IN} names, and run `hf-fashion check --fix` again into a new folder.\n"
    )
