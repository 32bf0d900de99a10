"""The boxes of a dataset in one form: `objects` = {`bbox` (x, y, width, height in pixels), `category`, `area`}.

Datasets of boxes differ in all of it: dicts of lists or lists of dicts, corners or centres, pixels or shares of the
picture, `category`, `categories`, `category_id` or `label`, with an area or without. A model that is given another
form than it expects learns from wrong boxes in silence.

No picture is decoded here. `hf_fashion.checks.boxes` tells what is wrong with boxes.
"""

from collections import Counter
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from hf_fashion import columns, images
from hf_fashion.errors import InputError
from hf_fashion.objects import Boxes, image_ids, layout, read_all, row_names
from hf_fashion.report import Report

FORMATS = ("xywh", "xyxy", "cxcywh", "relative_xywh", "relative_xyxy", "relative_cxcywh")
ON_BAD_BOX = ("stop", "clip", "drop")
TRACE = 1e-3  # pixels: of a box that has no more of a side in its picture, clipping would leave nothing
SLACK = 0.1  # pixels beyond the edge that are rounding: a share of 6 decimals, stored as float32
_ORIENTATION = 0x0112  # the EXIF tag; from 5 on, width and height change places


def canonical_features(names: list[str], has_crowd: bool = False) -> Features:
    """The columns that `canonical` makes."""
    objects = {
        "bbox": List(List(Value("float32"), length=4)),
        "category": List(ClassLabel(names=names)),
        "area": List(Value("float32")),
    }
    if has_crowd:
        objects["iscrowd"] = List(Value("int64"))
    return Features({"image_id": Value("string"), "objects": objects})


def class_of(value: Any, names: list[str] | None) -> str | None:
    """The class that a category names: text names itself, a whole number is a place in `names`.

    Returns:
        None where there is no such class. Without names every text and every number from 0 on is one.
    """
    if isinstance(value, float):  # pandas turns whole numbers beside an empty cell into decimal ones
        value = int(value) if value.is_integer() else None
    if isinstance(value, int):
        if names is None:
            return str(value) if value >= 0 else None
        return names[value] if 0 <= value < len(names) else None
    if value is None or not value.strip() or names is not None and value not in names:
        return None
    return str(value)


def class_names(parts: Mapping[str, Dataset], report: Report, names: list[str] | None = None) -> list[str]:
    """Makes one list of class names for all splits.

    Args:
        parts: Split -> its rows.
        report: Is told of names that differ between splits, and of names that say nothing.
        names: Of the category ids, where the dataset has numbers only.

    Raises:
        InputError: Numbers without names that are not 0, 1, 2, ...; numbers in one split and names in another.
    """
    texts: dict[str, list[str | None]] = {}
    declared: dict[str, list[str]] = {}
    ids: set[int] = set()
    worded = []
    for split, rows in parts.items():
        own = layout(rows.features).names
        values = read_all(rows).values
        texts[split] = [class_of(value, own or names) for value in values]
        if own or names:
            declared[split] = own or names or []
        numbers = {int(v) for v in values if isinstance(v, int | float) and float(v).is_integer()}
        ids |= numbers if own is None else set()
        worded += [split] * bool(own or any(isinstance(value, str) for value in values))
    if ids and worded and names is None:
        raise InputError(
            "categories of the boxes", expected="names in every split, or numbers in every split",
            found=f"names in {', '.join(worded)}, numbers elsewhere: {seen(ids)}", fix="give every split the names",
        )  # fmt: skip
    if names is None and (gaps := gap(ids)):
        raise InputError("categories of the boxes", expected="ids 0, 1, 2, ... without gaps", found=gaps, fix=_NAME)
    return columns.class_names(texts, declared, report, "objects")


_NAME = "number the categories from 0, or give every id its name (text, or a ClassLabel)"


def gap(ids: set[int]) -> str:
    """Says which ids there are when they are not 0, 1, 2, ...; "" when they are."""
    return "" if ids == set(range(len(ids))) else f"ids {seen(ids)}"


def seen(ids: set[int]) -> str:
    """Ids in few words: 1 to 15; 0, 3, 7."""
    order = sorted(ids)
    if len(order) > 3 and order[-1] - order[0] == len(order) - 1:
        return f"{order[0]} to {order[-1]}"
    few = ", ".join(map(str, order[:10]))
    return few if len(order) <= 10 else f"{few} and {len(order) - 10} more, up to {order[-1]}"


def canonical(
    rows: Dataset, names: list[str], *, box_format: str = "xywh", sizes: np.ndarray | None = None,
    column: str = "objects",
) -> Dataset:  # fmt: skip
    """Gives a split the columns `objects` and `image_id` of `canonical_features`; the other columns stay.

    An area that is missing is width times height, an `image_id` that is missing the row's name or number. Boxes that
    make no sense (NaN, outside) come through as they are: `checks.boxes.tell_boxes` tells of them. Pictures are
    copied only where the rows were selected or shuffled before.

    Args:
        rows: One split.
        names: Of `class_names`.
        box_format: One of `FORMATS`: top left corner and size, two corners, or centre and size; in pixels, or
            (relative) in shares of the picture's width and height.
        sizes: Width and height of each picture, upright, in pixels (rows, 2); see `sizes_of`. Needed for relative
            boxes; without a size (0) they become NaN.
        column: That of the boxes.

    Raises:
        InputError: A box without four numbers, a category that is no class, lists of different lengths, an `iscrowd`
            that is neither 0 nor 1, an `image_id` that is missing or occurs twice.
    """
    if box_format not in FORMATS:
        raise InputError("box_format", expected=", ".join(FORMATS), found=box_format, fix="type one of these")
    if box_format.startswith("relative") and sizes is None:
        raise InputError(
            "boxes in shares", expected="the sizes of the pictures", found="none", fix="pass sizes_of(rows)"
        )
    boxes = read_all(rows, column)
    own = layout(rows.features, column).names
    number = {name: place for place, name in enumerate(names)}
    classes = [number.get(class_of(value, own or names) or "") for value in boxes.values]
    category = np.array([-1 if place is None else place for place in classes] + [-1], dtype=np.int64)[boxes.code]
    _refuse(rows, boxes, category, names)
    bbox = to_xywh(boxes.bbox, box_format, None if sizes is None else sizes[boxes.row])
    with np.errstate(all="ignore"):
        area = np.where(np.isnan(boxes.area), bbox[:, 2] * bbox[:, 3], boxes.area)
    crowd = np.nan_to_num(boxes.crowd).astype(np.int64) if boxes.has_crowd else None
    ids = _unique_ids(rows)
    spare = [name for name in (column, "image_id", "objects") if name in rows.column_names]
    kinds = canonical_features(names, boxes.has_crowd)
    kept = rows.remove_columns(list(dict.fromkeys(spare)))
    if kept.column_names:
        made = kept.add_column("image_id", ids, feature=kinds["image_id"])
    else:  # without a column it would have no rows
        made = Dataset.from_dict({"image_id": ids}, features=Features({"image_id": kinds["image_id"]}))
    return made.add_column("objects", column_of(boxes.counts, bbox, category, area, crowd), feature=kinds["objects"])


def to_xywh(bbox: np.ndarray, box_format: str, sizes: np.ndarray | None = None) -> np.ndarray:
    """Turns boxes (boxes, 4) of any of `FORMATS` into x, y, width, height in pixels.

    Args:
        bbox: Numbers of each box.
        box_format: What they mean.
        sizes: Width and height of the picture of each box (boxes, 2), for relative formats.
    """
    with np.errstate(all="ignore"):  # of infinite ones NaN is made, which is told of
        if sizes is not None and box_format.startswith("relative"):
            known = np.where(sizes > 0, sizes, np.nan)
            bbox = bbox * np.concatenate([known, known], axis=1)
        first, second = bbox[:, :2], bbox[:, 2:]
        if box_format.endswith("xyxy"):
            second = second - first
        elif box_format.endswith("cxcywh"):
            first = first - second / 2
        return np.concatenate([first, second], axis=1)


def from_xywh(bbox: np.ndarray, box_format: str, sizes: np.ndarray) -> np.ndarray:
    """The other way than `to_xywh`."""
    with np.errstate(all="ignore"):
        first, second = bbox[:, :2], bbox[:, 2:]
        if box_format.endswith("cxcywh"):
            first = first + second / 2
        elif box_format.endswith("xyxy"):
            second = second + first
        made = np.concatenate([first, second], axis=1)
        return made / np.concatenate([sizes, sizes], axis=1) if box_format.startswith("relative") else made


def faults(bbox: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """What is wrong with each box; a box has one fault at most.

    Args:
        bbox: x, y, width, height in pixels (boxes, 4).
        sizes: Width and height of the picture of each box (boxes, 2); 0 where they are not known: then only numbers
            that are none are told.

    Returns:
        "nan", "infinite", "negative" (width or height), "empty" (0), "outside" (wholly, or but for `TRACE`), "partly"
        (outside by more than `SLACK`): a truth value for each box (boxes,).
    """
    with np.errstate(all="ignore"):
        start, side = bbox[:, :2], bbox[:, 2:]
        nan = np.isnan(bbox).any(axis=1)
        infinite = np.isinf(bbox).any(axis=1) & ~nan
        rest = ~nan & ~infinite & (sizes > 0).all(axis=1)
        negative = rest & (side < 0).any(axis=1)
        empty = rest & ~negative & (side == 0).any(axis=1)
        rest &= ~negative & ~empty
        crosses = (start < 0) | (start + side > sizes)
        seen = np.minimum(start + side, sizes) - np.maximum(start, 0)
        outside = rest & (crosses & (seen <= TRACE)).any(axis=1)
        partly = rest & ~outside & ((start < -SLACK) | (start + side > sizes + SLACK)).any(axis=1)
    found = {"nan": nan, "infinite": infinite, "negative": negative}
    return {**found, "empty": empty, "outside": outside, "partly": partly}


def mend(rows: Dataset, sizes: np.ndarray, on_bad_box: str) -> Dataset:
    """Clips the boxes of a canonical split to their pictures; with "drop" it leaves out those that cannot be mended.

    An area above the clipped width times height becomes that. Pictures whose boxes are all left out stay: they have
    no objects.

    Args:
        rows: As `canonical` gives them.
        sizes: Width and height of each picture, upright, in pixels (rows, 2).
        on_bad_box: "stop": nothing is done. "clip": boxes partly outside are clipped. "drop": besides, boxes that are
            not finite, have no area or lie outside are left out.
    """
    boxes = read_all(rows)
    wrong = faults(boxes.bbox, sizes[boxes.row])
    hopeless = np.logical_or.reduce([mask for name, mask in wrong.items() if name != "partly"])
    keep = ~hopeless if on_bad_box == "drop" else np.ones(len(hopeless), dtype=bool)
    if on_bad_box == "stop" or keep.all() and not wrong["partly"].any():
        return rows
    limits = sizes[boxes.row]
    with np.errstate(all="ignore"):  # of boxes that are not finite, and stay as they are
        start = np.clip(boxes.bbox[:, :2], 0, limits)
        end = np.clip(boxes.bbox[:, :2] + boxes.bbox[:, 2:], 0, limits)
        crosses = (boxes.bbox[:, :2] < 0) | (boxes.bbox[:, :2] + boxes.bbox[:, 2:] > limits)
        side = np.where(crosses, end - start, boxes.bbox[:, 2:])  # end - start of a tiny side could round to 0
        bbox = np.where(wrong["partly"][:, None], np.concatenate([start, side], axis=1), boxes.bbox)
        area = np.where(wrong["partly"], np.minimum(boxes.area, bbox[:, 2] * bbox[:, 3]), boxes.area)
    counts = np.bincount(boxes.row[keep], minlength=len(rows))
    category = np.array([*boxes.values, -1], dtype=np.int64)[boxes.code]
    crowd = boxes.crowd[keep].astype(np.int64) if boxes.has_crowd else None
    made = column_of(counts, bbox[keep], category[keep], area[keep], crowd)
    return rows.remove_columns(["objects"]).add_column("objects", made, feature=rows.features["objects"])


def sizes_of(rows: Dataset, column: str = "image", *, limits: images.Limits = images.LIMITS) -> np.ndarray:
    """Width and height of each picture in pixels (rows, 2), upright as `images.decode` gives it, from its header.

    0 and 0 where the header cannot be read. `limits` are those of `images.decode`.
    """
    pictures = rows.with_format(None).select_columns([column]).cast_column(column, Image(decode=False))
    found = [upright_size(row[column], limits) for row in pictures]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def upright_size(source: images.Source, limits: images.Limits = images.LIMITS) -> tuple[int, int]:
    """Width and height of one picture after its EXIF orientation is applied; 0, 0 when its header cannot be read."""
    try:
        width, height = images.probe(source)
    except ValueError:
        return 0, 0
    if width * height > limits.max_pixels:  # to look for EXIF data in a PNG, Pillow decodes it
        return width, height
    if isinstance(source, dict):
        source = source["bytes"] if source.get("bytes") is not None else source["path"]
    try:
        with PILImage.open(BytesIO(source) if isinstance(source, bytes) else source) as image:  # type: ignore[arg-type]
            turned = int(image.getexif().get(_ORIENTATION, 1)) in (5, 6, 7, 8)
    except Exception:  # broken EXIF data turns nothing
        turned = False
    return (height, width) if turned else (width, height)


def _refuse(rows: Dataset, boxes: Boxes, category: np.ndarray, names: list[str]) -> None:
    """Raises InputError for boxes that have no canonical form."""
    places = row_names(rows)
    if boxes.uneven:
        row, reason = next(iter(boxes.uneven.items()))
        raise InputError(
            f"objects of row {places[row]}", expected="lists of one length", found=reason,
            fix=f"mend the {len(boxes.uneven)} row(s) of this kind",
        )  # fmt: skip
    crowd = boxes.crowd[~np.isnan(boxes.crowd)]
    wrong = {
        "a box": ("four numbers", "another count", ~boxes.four),
        "category": (f"one of {len(names)} classes", _unknown(boxes, category), category < 0),
        "iscrowd": ("0 or 1", seen(set(crowd)), ~np.isnan(boxes.crowd) & ~np.isin(boxes.crowd, (0, 1))),
    }
    for what, (expected, found, mask) in wrong.items():
        if mask.any():
            first = int(np.flatnonzero(mask)[0])
            raise InputError(
                f"{what} in {mask.sum()} of {len(mask)} boxes, the first in row {places[boxes.row[first]]}, box "
                f"{boxes.number[first]}",
                expected=expected, found=found, fix=_NAME if what == "category" else "mend or remove these boxes",
            )  # fmt: skip


def _unknown(boxes: Boxes, category: np.ndarray) -> str:
    """The categories that are no class, in words."""
    codes, counts = np.unique(boxes.code[category < 0], return_counts=True)
    told = [
        f"{'nothing' if code < 0 else repr(boxes.values[code])} ({count} boxes)"
        for code, count in zip(codes[:10].tolist(), counts.tolist(), strict=False)
    ]
    return ", ".join(told) + f" and {len(codes) - 10} others" * (len(codes) > 10)


def _unique_ids(rows: Dataset) -> list[str]:
    ids = image_ids(rows)
    known = [text for text in ids if text is not None]
    repeated = [text for text, count in Counter(known).items() if count > 1]
    if repeated or len(known) < len(ids):
        missing = len(ids) - len(known)
        raise InputError(
            "column image_id", expected="another id in each row",
            found=f"{missing} missing; {len(repeated)} more than once: {', '.join(repeated[:5])}",
            fix="put all boxes of a picture into one row, or mend the ids",
        )  # fmt: skip
    return known


def column_of(
    counts: np.ndarray, bbox: np.ndarray, category: np.ndarray, area: np.ndarray, crowd: np.ndarray | None
) -> pa.Array:
    """Builds the column `objects` of `canonical_features`; `counts` are the boxes of each row (rows,)."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    with np.errstate(over="ignore"):  # it becomes infinite, which is told of
        fours = pa.FixedSizeListArray.from_arrays(pa.array(bbox.astype(np.float32).ravel()), 4)
        parts = {"bbox": fours, "category": pa.array(category), "area": pa.array(area.astype(np.float32))}
    if crowd is not None:
        parts["iscrowd"] = pa.array(crowd)
    lists = [pa.ListArray.from_arrays(offsets, part) for part in parts.values()]
    return pa.StructArray.from_arrays(lists, names=list(parts))
