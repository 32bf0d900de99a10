"""Labels that were found for photos, written down as a CSV or as a dataset, from which a first model learns."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import DatasetDict, Features, Image, List, Value

from hf_fashion import record, tables
from hf_fashion.attributes import Group
from hf_fashion.errors import InputError, writing
from hf_fashion.report import Report
from hf_fashion.splits import ORDER
from hf_fashion.spreadsheets import FORMULA, safe
from hf_fashion.tagging import SEPARATOR

# What lies in the folder, or beside the table under its name.
FIGURES, UNSURE, LEFT_OUT = "figures.json", "unsure.csv", "left_out.csv"
COUNTED = ("labelled", "unsure")
_RESERVED = ("file_name", "image", "source_row", "split")
_ROWS = 64  # in memory at once, and in a row group
_FILE = 256 * 2**20  # bytes of pictures in a file


def is_table(output: str | Path) -> bool:
    """Whether labels are written as a CSV, not as a folder with the photos."""
    return str(output).lower().endswith(".csv")


def beside(output: str | Path, name: str) -> Path:
    """The place of a file that comes along: in the folder, or beside the CSV under its name."""
    return Path(output).with_suffix(f".{name}") if is_table(output) else Path(output) / name


def refuse_output(output: str) -> None:
    """Raises InputError for an output that is there already, or that is neither a CSV nor a folder."""
    path = Path(output)
    if path.suffix in (".parquet", ".tsv", ".jsonl", ".json", ".zip"):
        raise InputError(
            f"-o {output}", expected="a new .csv, or a new folder", found=path.suffix,
            fix=f"-o {path.with_suffix('')}: a folder with the photos and their labels in parquet files",
        )  # fmt: skip
    if not is_table(output):
        record.refuse_in_use(output)
        return
    names = (FIGURES, UNSURE, LEFT_OUT, "reliability.png", "confusion_matrix.png")
    there = [one for one in (path, *(beside(path, name) for name in names)) if one.exists()]
    if there or not path.absolute().parent.is_dir():
        raise InputError(
            f"-o {output}", expected="a new file, in a folder that is there",
            found=f"{there[0]}, which is never written over" if there else "no such folder", fix="another name",
        )  # fmt: skip


def lone(groups: Sequence[Group]) -> str | None:
    """The one column of labels, where a photo has exactly one: an empty cell of it is an error to a training, where an
    empty cell of an attribute says that it is not known."""
    return groups[0].name if len(groups) == 1 and not groups[0].many else None


def columns_of(
    scores: np.ndarray, said: np.ndarray, groups: Sequence[Group], truth: Mapping[str, list[list[str] | None]]
) -> dict[str, list[Any]]:
    """The columns of a table: what is said of each photo, with scores; None where nothing is.

    Of one group whose labels exclude each other these are `label`, `score`, `second_label`, `second_score`, `guess`
    (the best label, sure or not) and, where it is known, `true_label`. Of others they begin with the name of the
    group; where a photo may have several labels, these are a list, and `..._scores` are theirs.

    Args:
        scores: (n, K).
        said: (n, K) bools, of `tagging.decide`.
        groups: The groups.
        truth: Group -> what is known, of `tagging.truth_of`.
    """
    made: dict[str, list[Any]] = {}
    for group in groups:
        part, chosen, labels = scores[:, group.span], said[:, group.span], group.labels
        order = np.argsort(-part, axis=1, kind="stable")
        first = order[:, 0]
        prefix = _prefix(group, groups)
        if group.many:
            picked = [[one for one in row if chosen[place, one]] for place, row in enumerate(order)]
            made[group.name] = [[labels[one] for one in row] or None for row in picked]
            made[f"{prefix}scores"] = [part[place, row].tolist() or None for place, row in enumerate(picked)]
        else:
            sure = np.asarray(chosen.any(axis=1))
            made[group.name] = [labels[one] if sure[row] else None for row, one in enumerate(first)]
        made[f"{prefix}score"] = np.take_along_axis(part, first[:, None], axis=1)[:, 0].tolist()
        if not group.many:
            made[f"{prefix}second_label"] = [labels[one] for one in order[:, 1]]
            made[f"{prefix}second_score"] = np.take_along_axis(part, order[:, 1:2], axis=1)[:, 0].tolist()
        made[f"{prefix}guess"] = [labels[one] for one in first]
        if group.name in truth:
            known = [None if row is None else row if group.many else SEPARATOR.join(row) for row in truth[group.name]]
            made[f"true_{group.name}"] = known
    return made


def _prefix(group: Group, groups: Sequence[Group]) -> str:
    return "" if lone(groups) else f"{group.name}_"


def refuse_names(groups: Sequence[Group]) -> None:
    """Raises InputError for groups whose columns would be called as others are."""
    names = [*_RESERVED]
    for group in groups:
        names += [group.name, f"true_{group.name}"]
        kinds = ("score", "guess", "scores") if group.many else ("score", "guess", "second_label", "second_score")
        names += [f"{_prefix(group, groups)}{kind}" for kind in kinds]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            "groups of labels", expected="names that make columns of their own", found=f"two columns {twice[0]}",
            fix="call the group otherwise",
        )  # fmt: skip


def relative_paths(dataset: DatasetDict, output: Path) -> dict[str, list[str]]:
    """The file of each photo as a table in `output`'s folder names it.

    Raises:
        InputError: The photos are no files, or lie outside of that folder.
    """
    folder = output.absolute().parent.resolve()
    made = {}
    fix = f"-o {output.with_suffix('')}, a folder that holds the photos, too; or a table in a folder above the photos"
    for split, rows in dataset.items():
        told = rows.with_format(None).select_columns(["image", "source_row"]).cast_column("image", Image(decode=False))
        paths = []
        for start in range(0, len(told), 10_000):
            for picture in told[start : start + 10_000]["image"]:
                path = picture.get("path") if picture and picture.get("bytes") is None else None
                if path is None or "://" in path:
                    raise InputError(
                        f"-o {output}", expected="photos that are files, which a table can name",
                        found="photos within a table or an archive", fix=fix,
                    )  # fmt: skip
                place = Path(os.path.abspath(path))
                if not place.is_relative_to(folder):
                    place = place.parent.resolve() / place.name
                if not place.is_relative_to(folder):
                    raise InputError(
                        f"-o {output}", expected=f"photos in {folder} or in a folder of it: a table names no others",
                        found=str(path), fix=fix,
                    )  # fmt: skip
                name = place.relative_to(folder).as_posix()
                paths.append(f"./{name}" if name.startswith(FORMULA) else name)
        checked = Report({"source": str(output)})
        tables.resolve(paths, list(map(str, told["source_row"])), folder, checked)
        checked.raise_on_errors()  # names that a table cannot hold
        made[split] = paths
    return made


@contextmanager
def _new(path: Path) -> Iterator[Any]:
    """A writer of rows into a new file, which is not there when something goes wrong."""
    with writing(f"-o {path}"), path.open("x", encoding="utf-8", newline="") as file:
        try:
            yield csv.writer(file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return SEPARATOR.join(map(_cell, value))
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _lines(columns: Mapping[str, list[Any]], wanted: Sequence[str], rows: Sequence[int]) -> Iterator[list[str]]:
    for row in rows:
        # Labels are read back, so they stay as they are; what the photos say is not.
        yield [safe(_cell(columns[n][row])) if n.startswith("true_") else _cell(columns[n][row]) for n in wanted]


def write_table(
    path: Path, unsure: Path, names: Mapping[str, list[str]], columns: Mapping[str, Mapping[str, list[Any]]],
    single: str | None,
) -> dict[str, int]:  # fmt: skip
    """Writes a CSV of photos with labels, which `data.load` reads.

    Args:
        path: A new file.
        unsure: Another one, for photos without a label, where there are any and `single` is given.
        names: Split -> the file of each photo, relative to the folder of `path`.
        columns: Split -> what `columns_of` gives.
        single: What `lone` gives.

    Returns:
        `labelled` and `unsure`: rows of each file.
    """
    told = list(next(iter(columns.values())))
    wanted = told if single is None else [name for name in told if name != "guess"]
    split_rows = {split: _parted(columns[split], single) for split in names}
    with _new(path) as table:
        table.writerow(["file_name", "split", *wanted])
        for split, (sure, _) in split_rows.items():
            for row, line in zip(sure, _lines(columns[split], wanted, sure), strict=True):
                table.writerow([names[split][row], split, *line])
    if any(rest for _, rest in split_rows.values()):
        write_unsure(unsure, names, columns, {split: rest for split, (_, rest) in split_rows.items()}, "file_name")
    return {name: sum(len(rows[place]) for rows in split_rows.values()) for place, name in enumerate(COUNTED)}


def _parted(columns: Mapping[str, list[Any]], single: str | None) -> tuple[list[int], list[int]]:
    """Rows with a label, and rows without where each must have one."""
    count = len(next(iter(columns.values())))
    if single is None:
        return list(range(count)), []
    blank = [label is None for label in columns[single]]
    return [row for row in range(count) if not blank[row]], [row for row in range(count) if blank[row]]


def write_unsure(
    path: Path, names: Mapping[str, list[str]], columns: Mapping[str, Mapping[str, list[Any]]],
    rows: Mapping[str, list[int]], called: str,
) -> None:  # fmt: skip
    """Writes a CSV of the photos without a label, whose cell somebody may fill in, the least sure first."""
    told = list(next(iter(columns.values())))
    with _new(path) as table:
        table.writerow([called, "split", *told])
        for split, numbers in rows.items():
            order = sorted(numbers, key=lambda row: columns[split]["score"][row])
            for row, line in zip(order, _lines(columns[split], told, order), strict=True):
                name = names[split][row]
                table.writerow([name if called == "file_name" else safe(name), split, *line])


def write_folder(
    folder: Path, dataset: DatasetDict, columns: Mapping[str, Mapping[str, list[Any]]], single: str | None
) -> dict[str, int]:
    """Writes photos with labels as parquet files in `data/`, which `data.load` reads with their splits, and those
    without a label into `unsure.csv`; see `write_table`.

    Args:
        folder: A new or empty one.
        dataset: The photos; their files are copied as they are, batch by batch.
        columns: Split -> what `columns_of` gives.
        single: What `lone` gives.

    Returns:
        `labelled` and `unsure`: rows in `data/`, and in `unsure.csv`.
    """
    told = list(next(iter(columns.values())))
    wanted = told if single is None else [name for name in told if name != "guess"]
    kinds = {name: _kind([value for part in columns.values() for value in part[name]]) for name in wanted}
    schema = Features({"image": Image(), **kinds, "source_row": Value("string")}).arrow_schema
    rest: dict[str, list[int]] = {}
    names: dict[str, list[str]] = {}
    count = 0
    with writing(f"-o {folder}"):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for split, rows in dataset.items():
            sure, rest[split] = _parted(columns[split], single)
            names[split] = list(map(str, rows.with_format(None)["source_row"]))
            held = rows.with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))
            count += len(sure)
            out: pq.ParquetWriter | None = None
            size = number = 0
            for start in range(0, len(sure), _ROWS):
                some = sure[start : start + _ROWS]
                pictures = [_encoded(picture) for picture in held[some]["image"]]
                batch = {"image": pictures, "source_row": [names[split][row] for row in some]}
                batch |= {name: [columns[split][name][row] for row in some] for name in wanted}
                if out is None:
                    out, size = pq.ParquetWriter(folder / "data" / f"{split}-{number:05d}.parquet", schema), 0
                    number += 1
                out.write_table(pa.Table.from_pydict(batch, schema=schema))
                size += sum(len(picture["bytes"]) for picture in pictures)
                if size >= _FILE:
                    out.close()
                    out = None
            if out is not None:
                out.close()
    if any(rest.values()):
        write_unsure(folder / UNSURE, names, columns, rest, "source_row")
    return {"labelled": count, "unsure": sum(map(len, rest.values()))}


def _encoded(picture: Mapping[str, Any]) -> dict[str, Any]:
    """The bytes of a photo's file; its path is nobody's business."""
    data = picture.get("bytes")
    return {"bytes": Path(str(picture["path"])).read_bytes() if data is None else data, "path": None}


def _kind(values: Sequence[Any]) -> Any:
    first = next((value for value in values if value is not None), "")
    if isinstance(first, list):
        inner = next((one for value in values for one in value or ()), "")
        return List(Value("float32" if isinstance(inner, float) else "string"))
    return Value("float32" if isinstance(first, float) else "string")


def write_left_out(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes a CSV of photos that were left out, with the reasons."""
    with _new(path) as table:
        table.writerow(["split", "where", "reason"])
        table.writerows([row.get("split", ""), safe(row["where"]), safe(row["reason"])] for row in rows)


def write_card(folder: Path, told: Mapping[str, Any]) -> None:
    """Writes the README.md of a folder of labelled photos, which says that nobody looked at the labels.

    Args:
        folder: Of `write_folder`.
        told: `model`, `source` (of a `Report`), `scores` (what they are, in words), `counts` (of `write_folder`).
    """
    files = sorted(path.stem.rpartition("-")[0] for path in (folder / "data").glob("*.parquet"))
    splits = [{"split": split, "path": f"data/{split}-*.parquet"} for split in ORDER if split in files]
    front: dict[str, Any] = {"license": told["source"].get("license") or "unknown"}
    front |= {"task_categories": ["image-classification"], "tags": ["hf_fashion", "fashion", "machine-labelled"]}
    if splits:
        front["configs"] = [{"config_name": "default", "default": True, "data_files": splits}]
    name = str(told["source"]["source"])
    place = Path(name.partition(":")[2] or name).expanduser()
    name = place.name if place.exists() else name  # of a folder of somebody's, its own name alone
    unsure = f" {told['counts']['unsure']} more got none: {UNSURE}." if told["counts"]["unsure"] else ""
    (folder / "README.md").write_text(
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# Photos with labels of a machine\n\n"
        f"{told['counts']['labelled']} photos of `{name}`, labelled by `hf-fashion tag` with the model "
        f"`{told['model']['name']}` by the names of the labels alone (zero-shot); nobody has looked at them.{unsure} "
        f"Scores: {told['scores']}. `source_row` is the row of the photo in its source; how the labels were told, and "
        "how many are right where that is known, stands in `figures.json`.\n",
        encoding="utf-8",
    )
