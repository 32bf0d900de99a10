"""Photos with items and texts, for retrieval: loading, and what of them is brought together."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, concatenate_datasets

from hf_fashion import data, protocols
from hf_fashion.errors import InputError
from hf_fashion.report import Report
from hf_fashion.samples.views import views

COLUMNS = Features({"image": Image()})
SPLITS = ("validation", "test")
GALLERY = "gallery"  # a split of more photos that are searched
CHANGES = "relative_captions"  # the column of what is asked for by a photo with words


def load(
    source: Any,
    *,
    item_column: str | None = None,
    text_column: str | None = None,
    shared_items: bool = False,
    **settings: Any,
) -> tuple[DatasetDict, Report]:
    """Photos with `item_id`, `text`, or both, and all their other columns.

    Args:
        source: As of `data.load`; "sample" is `samples.views`.
        item_column: Which column says the item; None for `item_id`; without one each photo is an item of its own.
        text_column: Which column is the text; None for `text`, if there is one.
        shared_items: Items may lie in several splits, as classes do.
        **settings: Of `data.load`. Splits that are cut off keep the photos of an item together, unless they may not.

    Returns:
        Splits train, validation and test, and what was seen on the way.

    Raises:
        InputError: A column that is not there, neither items nor texts, an item in two splits.
    """
    sample = source == "sample" and not Path("sample").exists()
    opened = views() if sample else source
    by = settings.pop("split_by", None) or (None if shared_items else item_column)
    settings["label_columns"] = []  # a column of classes, folders' names too, is carried along like any other
    try:
        dataset, report = data.load(opened, COLUMNS, split_by=by, **settings)
    except InputError as error:
        if by != item_column or by is None or by not in error.what:
            raise
        raise InputError(  # not --split_by, which nobody typed
            f"--item_column {item_column}", expected="a column of the dataset", found=error.found,
            fix="--item_column with one of these",
        ) from error  # fmt: skip
    there = next(iter(dataset.values())).column_names
    if by is None and not shared_items and "item_id" in there:
        try:
            dataset, report = data.load(opened, COLUMNS, split_by="item_id", **settings)
        except InputError as error:
            if error.what != "the column to split by":
                raise
            raise InputError(  # not --split_by, which nobody typed
                "items of the photos", expected=error.expected.replace("groups", "items"),
                found=error.found.replace("group(s)", "item(s)"),
                fix="more items; or --shared_items True, where items are classes that lie in all splits",
            ) from error  # fmt: skip
    if sample:
        report.source |= {"source": "sample", "kind": "sample", "license": "cc0-1.0"}
    for name, setting in ((item_column, "item_column"), (text_column, "text_column")):
        if name is not None and name not in there:
            raise InputError(
                f"--{setting} {name}", expected="a column of the dataset", found=", ".join(there),
                fix=f"--{setting} with one of these",
            )  # fmt: skip
    item = item_column or ("item_id" if "item_id" in there else None)
    text = text_column or ("text" if "text" in there else None)
    if item is None and text is None:
        raise InputError(
            "columns of the photos", expected="item_id (equal for photos of one item), text, or both",
            found=", ".join(there), fix="--item_column NAME or --text_column NAME",
        )  # fmt: skip
    made = DatasetDict({split: _canonical(rows, item, text, split) for split, rows in dataset.items()})
    report.source["fingerprint"] = _fingerprint(str(report.source["fingerprint"]), made)
    report.carried += [name for name in next(iter(made.values())).column_names if name not in report.carried]
    if not shared_items:
        protocols.refuse_leaks(made)
    return made, report


def load_gallery(
    source: Any, *, item_column: str | None = None, text_column: str | None = None, **settings: Any
) -> Dataset:
    """More photos that are searched and are right for no query, unless their `item_id` is a query's, or their text."""
    settings = {name: value for name, value in settings.items() if name in ("config", "revision", "names", "limits")}
    dataset, _ = data.load(source, COLUMNS, lone_split="test", **settings)
    rows = concatenate_datasets(list(dataset.values()))
    item = item_column if item_column in rows.column_names else "item_id" if "item_id" in rows.column_names else None
    if item is None:  # photos of another dataset may be called as those of this one
        rows = rows.add_column("item_id", [f"{GALLERY}:{row}" for row in range(len(rows))], feature=Value("string"))
        item = "item_id"
    text = text_column if text_column in rows.column_names else "text" if "text" in rows.column_names else None
    return _canonical(rows, item, text, GALLERY)


def texts_of(rows: Dataset) -> list[str]:
    """The texts of a split, without the rows that have none, and the words of its changes."""
    plain = rows.with_format(None)
    texts = [text for text in plain["text"] if text] if "text" in rows.column_names else []
    if CHANGES in rows.column_names:
        texts += [words for asked in protocols.changes_of(rows) for _, words in asked if words]
    return texts


def matched(dataset: DatasetDict, match: str) -> tuple[str, ...]:
    """What is brought together in training: `image`, `text`, both, or `composed`, as the photos have it.

    Raises:
        InputError: They do not have what is asked for.
    """
    rows = dataset["train"]
    items = rows.with_format(None)["item_id"]
    several = len(set(items)) < len(items)
    texts = "text" in rows.column_names and any(rows.with_format(None)["text"])
    changes = CHANGES in rows.column_names and any(protocols.changes_of(rows))
    if match == "composed" or (match == "auto" and changes):
        if not changes:
            raise InputError(
                "--match composed", expected=f"a column {CHANGES} of the training split: lists of target and captions",
                found=", ".join(rows.column_names), fix="add it, target being an item_id; or another --match",
            )  # fmt: skip
        return ("composed",)
    wanted = {"image": ("image",), "text": ("text",), "both": ("image", "text")}.get(match)
    if wanted is None:
        wanted = tuple(kind for kind, there in (("image", several), ("text", texts)) if there)
        if not wanted:
            raise InputError(
                "the training photos", expected="items of several photos, or texts", found="neither",
                fix="--item_column NAME or --text_column NAME",
            )  # fmt: skip
    if "text" in wanted and not texts:
        raise InputError(
            f"--match {match}", expected="texts in the training split", found="none", fix="--text_column NAME"
        )
    return wanted


def as_challenge(source: Any) -> bool:
    """Whether photos with words are to be asked as Fashion IQ's challenge does, whose raw files the photos are."""
    return str(source).startswith("fashion_iq:")


def with_words(kinds: Iterable[str]) -> bool:
    """Whether what is brought together, as of `matched`, has words in it."""
    return not {"text", "composed"}.isdisjoint(kinds)


def _canonical(rows: Dataset, item: str | None, text: str | None, split: str) -> Dataset:
    """Rows with `item_id`, and `text` where there is one; blank texts are none."""
    if not len(rows):
        raise InputError(
            f"split {split}", expected="photos", found="none", fix="more photos; or another --validation_share, "
            "--test_share; without --shared_items whole items are cut off",
        )  # fmt: skip
    plain = rows.with_format(None)
    columns: dict[str, list[str | None]] = {}
    for name, column in (("item_id", item), ("text", text)):
        if column is not None:
            columns[name] = _words_of(rows, column)
    if item is None:
        columns["item_id"] = [str(row) for row in plain["source_row"]]
    named = zip(plain["source_row"], columns["item_id"], strict=True)
    lacking = [str(row) for row, name in named if name is None]
    if lacking and split != GALLERY:
        raise InputError(
            f"column {item}", expected="a value in every row, equal for photos of one item",
            found=f"{len(lacking)} of {len(rows)} rows of {split} without one ({', '.join(lacking[:3])})",
            fix="fill these cells, or remove the rows",
        )  # fmt: skip
    lost = [name for name in ("item_id", "text") if name in rows.column_names and name in columns]
    rows = rows.remove_columns(lost)
    for name, values in columns.items():
        rows = rows.add_column(name, values, feature=Value("string"))
    return rows


def _words_of(rows: Dataset, column: str) -> list[str | None]:
    """A column as texts; None where a cell is empty or blank."""
    feature = rows.features[column]
    if not isinstance(feature, (Value, ClassLabel)):
        raise InputError(
            f"column {column}", expected="one text or number a row", found=str(feature),
            fix="name another column; of several texts a row keep one, or give each a row",
        )  # fmt: skip
    names = getattr(feature, "names", None)
    told: list[str | None] = []
    for value in rows.with_format(None)[column]:
        if value is None or value != value or (names and value < 0):
            told.append(None)
        elif isinstance(value, float) and value.is_integer():
            told.append(str(int(value)))  # a column of numbers in which some are missing
        else:
            told.append(names[value] if names else str(value))
    return [None if value is None or not value.strip() else value for value in told]


def _fingerprint(of_photos: str, dataset: DatasetDict) -> str:
    """That of the photos, and of what is learned with them: a run that is resumed must find both as they were."""
    digest = hashlib.sha256(of_photos.encode())
    for rows in (dataset[split] for split in ("train", *SPLITS) if split in dataset):
        for name in ("item_id", "text", "role", CHANGES):
            if name in rows.column_names:
                digest.update(f"{name} {list(rows.with_format(None)[name])}".encode())
    return digest.hexdigest()[:16]
