"""The boxes of all splits of a dataset: one list of classes, one form, and what was said or done about bad ones."""

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
from datasets import ClassLabel, Dataset, List

from hf_fashion import images
from hf_fashion.boxes import (
    FORMATS,
    ON_BAD_BOX,
    canonical,
    class_names,
    faults,
    from_xywh,
    mend,
    sizes_of,
    to_xywh,
)
from hf_fashion.errors import InputError
from hf_fashion.objects import layout, read, read_all, row_names
from hf_fashion.report import Report, cell

HELD = "classes of the boxes"  # the column of `with_classes`
LOOSE = 0.02  # of a side: boxes drawn over the edge by less speak for no other format
_ENOUGH = 3  # boxes that only make sense in another format; fewer may be slips
_MOST = 0.9  # share of the boxes that must make sense in the format that is told
_NAMED = 5  # boxes that a finding names
_SELF_TOLD = ("YOLO folder", "Pascal VOC folder")  # kinds of sources that say themselves what their numbers are
_REASONS = {
    "nan": "not a number", "infinite": "infinite", "negative": "negative width or height", "empty": "no area",
    "outside": "outside the picture", "partly": "partly outside the picture",
}  # fmt: skip


def tell_column(rows: Dataset, column: str, split: str) -> None:
    """Raises InputError where there is no such column of boxes, and names those that may be one."""
    if column in rows.features:
        layout(rows.features, column)
        return
    near = []
    for name in rows.features:
        with contextlib.suppress(InputError):
            layout(rows.features, name)
            near.append(name)
    raise InputError(
        f"column {column} for the boxes (split {split})",
        expected="a column of boxes, {bbox: [[x, y, width, height], ...], category: [...]} for each picture",
        found=", ".join(rows.features) or "no column",
        fix=f"type --objects_column {near[0]}" if near else "give a dataset with boxes: a COCO json, a YOLO folder, a "
        "folder of Pascal VOC, or parquet files with such a column",
    )  # fmt: skip


def needs_pictures(box_format: str | None, on_bad_box: str) -> bool:
    """Whether the sizes of the pictures are asked for."""
    return on_bad_box != "stop" or (box_format or "").startswith("relative")


def convert(
    parts: Mapping[str, Dataset], report: Report, *, box_format: str | None = None, on_bad_box: str = "stop",
    column: str = "objects", limits: images.Limits = images.LIMITS,
) -> dict[str, Dataset]:  # fmt: skip
    """Gives every split the columns of `canonical`, with one list of class names.

    Args:
        parts: Split -> its rows. The column `image` is needed where boxes are shares of it, or are to be mended.
        report: Is told of class names that differ, and of every box that is clipped or left out. Boxes that make
            sense in another format only are an error, and are not mended.
        box_format: See `canonical`; None for `xywh`.
        on_bad_box: See `mend`.
        column: That of the boxes.
        limits: Those of `images.decode`.

    Raises:
        InputError: See `class_names` and `canonical`; a setting that is none of its values.
    """
    if on_bad_box not in ON_BAD_BOX:
        raise InputError("on_bad_box", expected=", ".join(ON_BAD_BOX), found=on_bad_box, fix="type one of these")
    form, kind = box_format or "xywh", str(report.source.get("kind"))
    if box_format is not None and kind.endswith(_SELF_TOLD):
        raise InputError(
            f"--box_format {box_format}", expected="a source that does not say what the numbers of a box are",
            found=f"a {kind}, whose boxes are pixels already", fix="leave it out",
        )  # fmt: skip
    if column != "objects":
        parts = {split: _called(rows, column) for split, rows in parts.items()}
    names, made = class_names(parts, report), {}
    for split, rows in parts.items():
        sizes = sizes_of(rows, limits=limits) if needs_pictures(box_format, on_bad_box) else None
        made[split] = canonical(rows, names, box_format=form, sizes=sizes)
        if sizes is not None and on_bad_box != "stop":
            if tell_format(made[split], sizes, split, box_format, report):
                continue
            _tell_mended(made[split], sizes, split, on_bad_box, report)
            made[split] = mend(made[split], sizes, on_bad_box)
    return made


def _called(rows: Dataset, column: str) -> Dataset:
    """The rows with their boxes in the column `objects`, where the user names another."""
    layout(rows.features, column)  # says what is wrong with it
    spare = ["objects"] if "objects" in rows.features else []
    return rows.remove_columns(spare).rename_column(column, "objects")


def tell_format(rows: Dataset, sizes: np.ndarray, split: str, typed: str | None, report: Report) -> bool:
    """Tells of boxes that only make sense in another format, which shows over many boxes.

    Args:
        rows: One split, its boxes in the column `objects`, as `canonical` made them of those in the format `typed`.
        sizes: Width and height of each picture, upright, in pixels (rows, 2); boxes without a size (0) do not count.
        split: Its name.
        typed: The format that the user typed, None for none: then `xywh` was supposed.
        report: Gets an error when nothing was typed, else a warning.

    Returns:
        Whether the split is refused for it: then nothing can be said about where its boxes lie.
    """
    told = typed or "xywh"
    judged, fits, only, against = 0, *(dict.fromkeys(FORMATS, 0) for _ in range(3))
    for boxes in read(rows):
        limits = sizes[boxes.row]
        use = np.isfinite(boxes.bbox).all(axis=1) & (limits > 0).all(axis=1)
        raw, limits = from_xywh(boxes.bbox[use], told, limits[use]), limits[use]
        sense = {name: _makes_sense(raw, name, limits) for name in FORMATS}
        judged += len(raw)
        for name, mask in sense.items():
            fits[name] += int(mask.sum())
            only[name] += int((mask & ~sense[told]).sum())
            against[name] += int((sense[told] & ~mask).sum())
    best = max(FORMATS, key=lambda name: fits[name])
    enough = 1 if best.startswith("relative") != told.startswith("relative") else _ENOUGH  # no pixel box lies in 0..1
    if best == told or only[best] < max(enough, 5 * against[best]) or fits[best] < _MOST * judged:
        return False
    alike = [name for name in FORMATS if fits[name] == fits[best]]
    fix = f"type --box_format {' or --box_format '.join(alike)}"
    report.add(
        "warning" if typed else "error",
        f"split {split}",
        "objects",
        expected=f"boxes as {told}" + " in pixels" * (not told.startswith("relative")),
        found=f"of {judged} boxes {fits[told]} make sense as {told}, {fits[best]} as {' or '.join(alike)}",
        fix=fix if typed else f"{fix}; or --box_format {told} if they are right as they are",
    )
    return typed is None


def _makes_sense(raw: np.ndarray, box_format: str, sizes: np.ndarray) -> np.ndarray:
    """Whether each box, read so, has an area and lies in its picture (boxes,)."""
    with np.errstate(all="ignore"):
        xywh = to_xywh(raw, box_format, sizes)
        start, side, loose = xywh[:, :2], xywh[:, 2:], LOOSE * sizes
        inside = ((side > 0) & (start >= -loose) & (start + side <= sizes + loose)).all(axis=1)
        return inside & (box_format.startswith("relative") | (raw.max(axis=1, initial=0) > 1))


def class_counts(rows: Dataset) -> np.ndarray:
    """Boxes of each class of a canonical split (classes,)."""
    names, boxes = layout(rows.features).names or [], read_all(rows)
    numbers = np.array([*boxes.values, -1], dtype=np.int64)[boxes.code]
    return np.bincount(numbers[numbers >= 0], minlength=len(names))


def with_classes(rows: Dataset) -> Dataset:
    """Adds to a canonical split the column `HELD`: the classes that each picture has, each once."""
    boxes = read_all(rows)
    pairs = np.unique(np.column_stack([boxes.row, np.array([*boxes.values, -1], dtype=np.int64)[boxes.code]]), axis=0)
    ends = np.searchsorted(pairs[:, 0], np.arange(len(rows) + 1))
    held = [pairs[start:end, 1].tolist() for start, end in zip(ends[:-1], ends[1:], strict=True)]
    return rows.add_column(HELD, held, feature=List(ClassLabel(names=layout(rows.features).names)))


def tell_lacking(counts: Mapping[str, np.ndarray], names: Sequence[str], report: Report) -> None:
    """Warns of classes of which a split has no box.

    Args:
        counts: Split -> boxes of each class (classes,).
        names: Of the classes.
        report: Is added to.
    """
    total = np.sum(list(counts.values()), axis=0)
    train = counts.get("train", total)
    for part, present in counts.items():
        # What train has not cannot be learned; what it has, and the split has not, cannot be measured. A split without
        # any box may be meant so.
        lacks = (present == 0) & ((total if part == "train" else train) > 0)
        if lacks.any() and present.any():
            fix = "cannot be learned" if part == "train" else "cannot be measured"
            report.add(
                "warning", f"split {part}", "objects", expected="boxes of every class",
                found=f"none of {lacks.sum()} of {len(names)} classes: {some(names, lacks)}",
                fix=f"add some; these classes {fix}",
            )  # fmt: skip


def some(names: Sequence[str], chosen: np.ndarray, shown: int = 8) -> str:
    """Lists the chosen names, the first few only."""
    told = [cell(names[number], 30) for number in np.flatnonzero(chosen).tolist()]
    return ", ".join(told[:shown]) + f" and {len(told) - shown} more" * (len(told) > shown)


def _tell_mended(rows: Dataset, sizes: np.ndarray, split: str, on_bad_box: str, report: Report) -> None:
    """Counts in the report the boxes that `mend` clips, and records each that it leaves out."""
    boxes, names = read_all(rows), row_names(rows)
    for kind, mask in faults(boxes.bbox, sizes[boxes.row]).items():
        found = np.flatnonzero(mask).tolist()
        if not found or kind != "partly" and on_bad_box != "drop":
            continue
        places = [f"{split}: {names[boxes.row[box]]}, box {boxes.number[box]}" for box in found]
        reason = _REASONS[kind]
        for place in places if kind != "partly" else ():
            report.leave_out(place, reason)
        report.add(
            "warning", "; ".join(places[:_NAMED]) + f"; and {len(found) - _NAMED} more" * (len(found) > _NAMED),
            "objects", expected="boxes in their pictures",
            found=f"{len(found)} of {len(mask)} boxes, in {len(np.unique(boxes.row[mask]))} pictures: {reason}",
            fix="clipped" if kind == "partly" else "left out",
        )  # fmt: skip
