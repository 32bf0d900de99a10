"""Photos with labels to the Hub: parquet with the pictures inside, bare of metadata, and a card that was counted."""

import html
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Image, LargeList, List, Pdf, Value, Video

from hf_fashion import data, images, plots
from hf_fashion.cards import refuse_license
from hf_fashion.columns import is_list
from hf_fashion.errors import InputError, printable, writing
from hf_fashion.hub import clean, pictures, secrets
from hf_fashion.hub.pushing import Pushed, preflight, send, validate
from hf_fashion.hub.target import Target
from hf_fashion.report import Finding, Report

SHARD = 400_000_000  # bytes of pictures in one file
_BATCH = 64  # rows in memory, and in a row group: what a viewer reads at once
SHEET = 24  # photos on the sheet
ROWS_SHOWN = 60  # classes in the card's table
UNKNOWN = "unknown"
# Names the files of whoever made the dataset; the photos are numbered instead.
LEFT_OUT = ("source_row",)


def push_photos(
    dataset: DatasetDict,
    report: Report,
    repo: str | Target,
    *,
    checked: bool = False,
    license: str | None = None,
    public: bool = False,
    overwrite: bool = False,
    token: str | None = None,
) -> Pushed:
    """Pushes a dataset as `data.load` gives it.

    Pictures are embedded without metadata (`pictures.bare`: the pixels stay bit for bit, in JPEG, PNG and WebP), and
    are called by split and number. The column `source_row`, which names files, stays at home.

    Args:
        dataset: Split -> rows with a column `image`.
        report: Of `data.load`, and of `checks.check`: what it found stands on the card.
        repo: <name> or <namespace>/<name>; or what `preflight` gave.
        checked: `checks.check` looked at each photo, as the card then says.
        license: Id of the Hub's list; what the source says of itself when None.
        public: Whether everybody may see it.
        overwrite: Write over what others changed in the repo.
        token: Of the Hub; the stored one when None.

    Raises:
        InputError: The dataset has errors; a text in it holds a secret; nobody said the licence of public photos; or
            the disk has no room.
        HubError: What the Hub refused.
    """
    report.raise_on_errors()
    refuse_license(license)
    license = license or (None if report.source.get("license") == UNKNOWN else report.source.get("license")) or None
    if public and license is None:
        raise InputError(
            "--public", expected="photos whose licence is known", found="nobody says it",
            fix="--license cc-by-4.0, or another id of the Hub's list; or leave --public out",
        )  # fmt: skip
    target = repo if isinstance(repo, Target) else preflight(repo, "dataset", public=public, token=token)
    rows = {
        split: part.remove_columns([c for c in LEFT_OUT if c in part.column_names]) for split, part in dataset.items()
    }
    _refuse_columns(rows)
    name = target.repo.split("/")[1]
    front = _front(name, license, rows)
    validate(front, "dataset", target.token)
    cut = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="hf_fashion_push_") as place:
        folder = Path(place)
        _refuse_no_room(rows, folder)
        with writing(f"the parquet files in {folder}"):
            (folder / "data").mkdir()
            for split, part in rows.items():
                _write(split, part, folder / "data", cut)
        sheet = _sheet(rows, name)
        (folder / "sheet.jpg").write_bytes(sheet)
        (folder / "README.md").write_text(_card(front, target.repo, license, rows, report, checked), encoding="utf-8")
        made = clean.export(folder, clean.DATASET)
        made.left_out |= {f"column {column}": "names your files" for column in LEFT_OUT if _has(dataset, column)}
        made.changed |= {
            f"column {column}": f"{count} path{'s' * (count > 1)} of this machine cut to the last part"
            for column, count in cut.items()
        }
        made.changed["data/"] = (
            "pictures are embedded, without metadata (but which way up they are shown), and called by split and number"
        )
        return send(made, target, name=name, overwrite=overwrite)


def _has(dataset: DatasetDict, column: str) -> bool:
    return any(column in part.column_names for part in dataset.values())


def _refuse_columns(rows: dict[str, Dataset]) -> None:
    """Raises InputError for columns that cannot be looked through, and for names that must not leave."""
    for split, part in rows.items():
        for column, feature in part.features.items():
            where = f"{split}, column {printable(column)}"
            for name in [column, *_names(feature)]:
                _refuse_secret(name, f"{split}, the name of a column or label")
                if secrets.without_own_paths(name)[1]:
                    raise InputError(
                        f"{split}, the name of a column or label", expected="a word of the dataset",
                        found=f"{printable(name)}, a path of this machine",
                        fix="dataset.rename_column, or the label's own word in its ClassLabel",
                    )  # fmt: skip
            for inner, kind in _parts(feature):
                is_bytes = isinstance(kind, Value) and "binary" in kind.dtype
                if is_bytes or isinstance(kind, Audio | Video | Pdf):
                    raise InputError(
                        where, expected="texts, numbers, labels or pictures",
                        found=f"{'bytes' if is_bytes else type(kind).__name__}, which may hold who made it, and where",
                        fix=f"if they are pictures: dataset.cast_column({column!r}, datasets.Image()); or "
                        f"dataset.remove_columns({column!r})",
                    )  # fmt: skip
                if isinstance(kind, Image) and inner:
                    raise InputError(
                        where, expected="one picture in a row of a column, as datasets.Image()",
                        found="pictures in a list or a table", fix=f"a column for each picture, and then "
                        f"dataset.remove_columns({column!r})",
                    )  # fmt: skip


def _parts(feature: Any, inner: bool = False) -> Iterator[tuple[bool, Any]]:
    """A column's feature and all that lies within it; each with whether it does."""
    yield inner, feature
    if isinstance(feature, List | LargeList):
        feature = [feature.feature]
    for part in feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else ():
        yield from _parts(part, True)


def _names(feature: Any) -> Iterator[str]:
    """The names of fields and labels within a column."""
    for _, part in _parts(feature):
        if isinstance(part, dict):
            yield from part
        elif isinstance(part, ClassLabel):
            yield from part.names


def _refuse_no_room(rows: dict[str, Dataset], folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    needed = sum(len(part) for part in rows.values()) * 1000 + sum(_bytes_of(part) for part in rows.values())
    if needed > free:
        raise InputError(
            "the parquet files", expected=f"a disk with {needed / 1e9:.1f} GB of room",
            found=f"{free / 1e9:.1f} GB in {folder}", fix="make room there, or TMPDIR=<a folder on a larger disk>",
        )  # fmt: skip


def _bytes_of(rows: Dataset) -> int:
    """Of all pictures of a split, as they are stored."""
    total = 0
    for picture in _encoded(rows)["image"]:
        content = picture and picture["bytes"]
        total += len(content) if content is not None else Path(picture["path"]).stat().st_size if picture else 0
    return total


def _encoded(rows: Dataset) -> Dataset:
    for column in _image_columns(rows):
        rows = rows.cast_column(column, Image(decode=False))
    return rows.with_format(None)


def _image_columns(rows: Dataset) -> list[str]:
    return [name for name, feature in rows.features.items() if isinstance(feature, Image)]


def _write(split: str, rows: Dataset, folder: Path, cut: Counter[str]) -> None:
    """Writes a split as `<split>-00000.parquet`, ..., the same bytes for the same rows; counts paths cut by column."""
    schema = rows.features.arrow_schema
    shard = written = 0
    writer: pq.ParquetWriter | None = None
    try:
        for table, size in _tables(split, rows, schema, cut):
            if writer is not None and written + size > SHARD:
                writer.close()
                writer, written, shard = None, 0, shard + 1
            writer = writer or pq.ParquetWriter(folder / f"{split}-{shard:05d}.parquet", schema)
            writer.write_table(table)
            written += size
    finally:
        if writer is not None:
            writer.close()


def _tables(
    split: str, rows: Dataset, schema: pa.Schema, cut: Counter[str]
) -> Iterator[tuple[pa.Table, int]]:  # fmt: skip
    columns, number = _image_columns(rows), 0
    for batch in _encoded(rows).iter(batch_size=_BATCH):
        count, size = len(next(iter(batch.values()))), 0
        for column, values in batch.items():
            if column not in columns:
                shown = [
                    _shown(value, f"{split}, row {number + place}, {column}") for place, value in enumerate(values)
                ]
                batch[column] = [value for value, _ in shown]
                if paths := sum(count for _, count in shown):
                    cut[column] += paths
                continue
            for place, picture in enumerate(values):
                if picture is None:
                    continue
                content, ending = _bare(picture, f"{split}, row {number + place}")
                stem = split if column == "image" else f"{split}-{column}"
                values[place] = {"bytes": content, "path": f"{stem}-{number + place:06d}.{ending}"}
                size += len(content)
        number += count
        yield pa.Table.from_pydict(batch, schema=schema), size


def _bare(picture: dict[str, Any], where: str) -> tuple[bytes, str]:
    content = picture["bytes"] if picture["bytes"] is not None else Path(picture["path"]).read_bytes()
    try:
        return pictures.bare(content)
    except ValueError as error:
        raise InputError(
            where, expected="a picture that can be read", found=str(error), fix="hf-fashion check PHOTOS --fix COPY"
        ) from None


def _shown(value: Any, where: str) -> tuple[Any, int]:
    """A value of the table without paths of this machine, and how many were cut; other texts stay to the letter.

    Raises:
        InputError: It holds a secret.
    """
    if isinstance(value, str):
        _refuse_secret(value, where)
        return secrets.without_own_paths(value)
    if isinstance(value, list):
        each = [_shown(entry, where) for entry in value]
        return [entry for entry, _ in each], sum(count for _, count in each)
    if isinstance(value, dict):
        entries = {key: _shown(entry, where) for key, entry in value.items()}
        return {key: entry for key, (entry, _) in entries.items()}, sum(count for _, count in entries.values())
    return value, 0


def _refuse_secret(text: str, where: str) -> None:
    for _, kind in secrets.found_in(text):
        raise InputError(
            where, expected="nothing that others could use in your name", found=kind,
            fix="take it out of the source, and revoke it",
        )  # fmt: skip


def _front(name: str, license: str | None, rows: dict[str, Dataset]) -> str:
    """The card's metadata, with its `---` lines."""
    total = sum(len(part) for part in rows.values())
    steps = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    metadata: dict[str, Any] = {"pretty_name": name, "license": license or UNKNOWN}
    if tasks := _tasks(next(iter(rows.values()))):
        metadata["task_categories"] = tasks
    metadata |= {
        "size_categories": [next((told for most, told in steps if total < most), "1M<n<10M")],
        "tags": ["fashion", "hf_fashion"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in rows],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n"


def _tasks(rows: Dataset) -> list[str]:
    boxes = ["object-detection"] if "objects" in rows.features else []
    return (["image-classification"] if _label_columns(rows) else []) + boxes


def _label_columns(rows: Dataset) -> list[str]:
    kinds = {name: f.feature if is_list(f) else f for name, f in rows.features.items()}
    return [name for name, kind in kinds.items() if getattr(kind, "names", None)]


def _card(
    front: str, repo: str, license: str | None, rows: dict[str, Dataset], report: Report, checked: bool
) -> str:  # fmt: skip
    first = next(iter(rows.values()))
    counts = {
        column: {
            label: [int(data.class_counts(part, column)[number]) for part in rows.values()]
            for number, label in enumerate(data.labels(DatasetDict(rows), column))
        }
        for column in _label_columns(first)
    }
    # Of single photos it is only counted: the words about them name files.
    found = Counter(
        (finding.level, finding.column, finding.expected or "–", finding.found if _of_the_whole(finding) else "–")
        for finding in report.findings
        if finding.level != "error"
    )
    folder = Path(__file__).parents[1] / "templates"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), keep_trailing_newline=True)
    return environment.get_template("dataset.md").render(
        front=front, repo=repo, name=repo.split("/")[1], license=license or UNKNOWN,
        sizes={split: len(part) for split, part in rows.items()}, counts=counts, shown=ROWS_SHOWN,
        columns=first.column_names, found=found, left_out=len(report.left_out),
        source=_source(report), cut=report.cut, md=_markdown, checked=checked,
        boxed="objects" in first.features, classify=_classify(first),
    )  # fmt: skip


def _classify(rows: Dataset) -> str | None:
    """What `hf-fashion classify` needs beside the dataset to learn its labels; None where there are none."""
    columns = _label_columns(rows)
    if columns == ["label"] and not is_list(rows.features["label"]):
        return ""
    plain = all(re.fullmatch(r"[\w.-]+", column, re.ASCII) for column in columns)
    return " --label_columns " + " ".join(columns) if columns and plain else None


def _of_the_whole(finding: Finding) -> bool:
    return not finding.rows and finding.where.startswith(("dataset", "split "))


def _source(report: Report) -> str | None:
    """Where the photos are from, when that is a place that others can go to."""
    source = report.source
    return f"{source['source']}, revision {source['revision']}" if source.get("kind") == "hub" else None


def _markdown(text: Any) -> str:
    """A label or name in a table: as text, never as markup."""
    plain = html.escape(printable(" ".join(str(text).split())), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_[]|~$" else letter for letter in plain)


def _sheet(rows: dict[str, Dataset], name: str) -> bytes:
    """A JPEG of some photos of each class, the first ones of the largest split."""
    split, part = max(rows.items(), key=lambda item: len(item[1]))
    column = next((column for column in _label_columns(part) if not is_list(part.features[column])), None)
    labels = ["" if column is None else _name(part, column, value) for value in _values(part, column)]
    each, seen, chosen = max(1, SHEET // len({*labels, ""} - {""} or {""})), Counter[str](), list[int]()
    for number, label in enumerate(labels):
        if len(chosen) < SHEET and (seen[label] < each or column is None):
            seen[label] += 1
            chosen.append(number)
    chosen.sort(key=lambda number: labels[number])
    encoded = _encoded(part)
    photos = [images.decode(encoded[number]["image"]) for number in chosen]
    captions = [labels[number] for number in chosen]
    figure = plots.photo_sheet(photos, captions, f"{name}: photos of its {split} split")
    buffer = BytesIO()
    figure.savefig(buffer, format="jpg", dpi=100, pil_kwargs={"quality": 85})
    return pictures.bare(buffer.getvalue())[0]


def _values(rows: Dataset, column: str | None) -> list[Any]:
    return [None] * len(rows) if column is None else list(rows.with_format(None).select_columns([column])[:][column])


def _name(rows: Dataset, column: str, value: int | None) -> str:
    return "" if value is None else str(rows.features[column].names[value])
