"""What is wrong with the boxes of a dataset: each named by its picture and its place there, counted from 0.

Bare stacks drop or clip such boxes in silence, and learn from boxes of another form as if they were right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Image, Value

from hf_fashion import images
from hf_fashion.boxed import LOOSE, some, tell_format, tell_lacking
from hf_fashion.boxes import FORMATS, ON_BAD_BOX, class_of, faults, gap, seen
from hf_fashion.checks import labels
from hf_fashion.errors import InputError
from hf_fashion.objects import Boxes, image_ids, layout, read
from hf_fashion.report import Level, Report, cell

_EACH = 5  # boxes of a kind that get a line of their own; of more there is one line for all
_NAMED = 20  # boxes that such a line names
_SWAPPED = [1, 0]
_CLIP, _DROP = "mend them, or type --on_bad_box clip", "mend them, or type --on_bad_box drop"

# Kind -> level, what is expected, what was found, what to do.
_KINDS: dict[str, tuple[Level, str, str, str]] = {
    "uneven": ("error", "lists of one length in a row", "lists of different lengths", "mend the rows"),
    "four": ("error", "four numbers", "another count of numbers", "mend or remove them"),
    "nan": ("error", "numbers", "not a number", _DROP),
    "infinite": ("error", "finite numbers", "infinite", _DROP),
    "negative": ("error", "width and height above 0", "negative width or height", _DROP),
    "empty": ("error", "width and height above 0", "no area", _DROP),
    "outside": ("error", "boxes in their pictures", "outside the picture", _DROP),
    "partly": ("error", "boxes in their pictures", "partly outside the picture", _CLIP),
    "turned": ("error", "boxes of the upright picture", "fits only the picture as it was before EXIF turned it",
               "turn the boxes, or store the picture without its EXIF orientation"),
    "shares": ("error", "pixels, as the other boxes", "numbers from 0 to 1", "give all boxes in one form"),
    "crowd": ("error", "iscrowd 0 or 1", "another value", "mend iscrowd"),
    "twice": ("warning", "each box once", "the same box and category again", "remove the second"),
    "tiny": ("warning", "boxes of 1 px or more", "less than 1 px wide or high", "look at them"),
    "area": ("warning", "an area above 0, and at most width x height", "another area",
             "mend the areas, or leave them out: then they are width x height"),
    "size": ("warning", "the size that the columns width and height give", "another size",
             "the boxes may be those of the picture before it was resized or turned"),
}  # fmt: skip
_HOPELESS = ("nan", "infinite", "negative", "empty", "outside")


@dataclass
class _Tally:
    """How often one thing was seen in a split, and where first."""

    count: int = 0
    pictures: int = 0
    first: list[tuple[str, str, int]] = field(default_factory=list)  # the place, what stands there, the row


@dataclass
class _Split:
    """One split on its way through the check."""

    name: str
    rows: Dataset
    sizes: np.ndarray  # width and height (rows, 2), 0 where the picture cannot be read
    places: Sequence[str]
    boxes: int = 0
    crowds: int = 0  # boxes with iscrowd 1
    kinds: dict[str, _Tally] = field(default_factory=dict)
    ids: dict[Any, tuple[int, str, int]] = field(default_factory=dict)  # category -> boxes; place, row of the first
    names: list[str] | None = None

    def place(self, boxes: Boxes, box: int) -> str:
        return f"{self.places[boxes.row[box]]}, box {boxes.number[box]}"


def tell_boxes(
    parts: Mapping[str, Dataset],
    sizes: Mapping[str, np.ndarray],
    places: Mapping[str, Sequence[str]],
    report: Report,
    *,
    box_format: str | None = None,
    on_bad_box: str = "stop",
    thorough: bool = False,
) -> None:
    """Looks at every box of a dataset once its pictures were looked at.

    Errors: boxes that are given in another format than x, y, width, height in pixels (told of a whole split by the
    share of boxes that make sense in one format only), numbers that are none, boxes without area or outside their
    picture, boxes of a picture before its EXIF orientation was applied, categories that are no class, image ids that
    occur twice. Warnings: a box twice, boxes below 1 px, odd areas, classes that are spelt in several ways or that one
    split lacks. Pictures without boxes are fine.

    Args:
        parts: Split -> rows with the column `objects`, in pixels: as `boxes.canonical` gives them, or as they come.
        sizes: Split -> width and height of each picture as `images.decode` gives it (rows, 2); 0 and 0 where it
            cannot be read: its boxes are not judged.
        places: Split -> how each row is named in a finding.
        report: Is added to.
        box_format: What the user typed, and the boxes were converted from. Boxes that speak against it are an error
            when nothing was typed, else a warning.
        on_bad_box: "stop" makes bad boxes errors. "clip" makes those that are partly outside a warning with their
            number; "drop" besides makes those that cannot be mended warnings, and records each in `report.left_out`.
            `boxes.mend` does what was chosen.
        thorough: Warn of classes of few boxes, too.

    Raises:
        InputError: A setting is none of those above.
    """
    if on_bad_box not in ON_BAD_BOX:
        raise InputError("on_bad_box", expected="stop, clip or drop", found=on_bad_box, fix="type one of these")
    if box_format not in (None, *FORMATS):
        raise InputError("box_format", expected=", ".join(FORMATS), found=str(box_format), fix="type one of these")
    splits = [
        _Split(name, rows, np.asarray(sizes[name], dtype=np.float64).reshape(-1, 2), places[name])
        for name, rows in parts.items()
    ]
    for split in splits:
        try:
            split.names = layout(split.rows.features).names
            refused = tell_format(split.rows, split.sizes, split.name, box_format, report)
            for boxes in read(split.rows):
                _look(split, boxes, refused, on_bad_box, report)
        except InputError as error:
            found = f"{error.what}: {error.found}"
            where = f"split {split.name}"
            report.add("error", where, "objects", expected=error.expected, found=found, fix=error.fix)
            continue
        for kind, tally in split.kinds.items():
            _tell_kind(split, kind, tally, on_bad_box, report)
        if split.crowds:
            found = f"{split.crowds} of {split.boxes} boxes are iscrowd"
            report.add("note", f"split {split.name}", "objects", found=found)
    _tell_categories(splits, report)
    _tell_classes(splits, thorough, report)
    _tell_image_ids(splits, report)
    if splits and not any(split.boxes or split.kinds for split in splits) and not report.of("error"):
        report.add("error", "dataset", "objects", expected="boxes", found="none in any picture", fix="add some")


def _look(split: _Split, boxes: Boxes, refused: bool, on_bad_box: str, report: Report) -> None:
    """Counts what is wrong with the boxes of some rows."""
    split.boxes += len(boxes.row)
    for row, reason in boxes.uneven.items():
        tally = split.kinds.setdefault("uneven", _Tally())
        tally.count, tally.pictures = tally.count + 1, tally.pictures + 1
        tally.first += [(split.places[row], reason, row)] * (len(tally.first) < _NAMED)
    sizes = split.sizes[boxes.row]
    wrong = faults(boxes.bbox, sizes)
    wrong["nan"] &= boxes.four
    finite = np.isfinite(boxes.bbox).all(axis=1)
    found = {"four": ~boxes.four, "nan": wrong.pop("nan"), "infinite": wrong.pop("infinite")}
    found["crowd"] = ~np.isnan(boxes.crowd) & ~np.isin(boxes.crowd, (0, 1))
    found["twice"] = finite & _again(boxes, finite)
    if not refused:
        turned = _turned(split, boxes, wrong)
        inner = finite & (sizes > 0).all(axis=1) & (boxes.bbox[:, 2:] > 0).all(axis=1)
        shares = inner & (boxes.bbox <= 1).all(axis=1) & ~wrong["outside"] & (boxes.bbox >= 0).all(axis=1)
        found |= {kind: mask & ~turned for kind, mask in wrong.items()}
        found |= {"turned": turned, "shares": shares, "size": _resized(split, boxes)}
        found["tiny"] = inner & (boxes.bbox[:, 2:] < 1).any(axis=1) & ~shares
        found["area"] = inner & _odd_area(boxes)
    for kind, mask in found.items():
        for box in _count(split, kind, boxes, mask):
            if kind in _HOPELESS and on_bad_box == "drop":
                report.leave_out(split.place(boxes, box), _KINDS[kind][2])
    split.crowds += int((boxes.crowd == 1).sum())
    codes, first, counts = np.unique(boxes.code, return_index=True, return_counts=True)
    for code, box, count in zip(codes.tolist(), first.tolist(), counts.tolist(), strict=True):
        value = None if code < 0 else boxes.values[code]
        before, where, row = split.ids.get(value, (0, split.place(boxes, box), int(boxes.row[box])))
        split.ids[value] = (before + count, where, row)


def _count(split: _Split, kind: str, boxes: Boxes, mask: np.ndarray) -> list[int]:
    """Adds the boxes of a mask to the count of their kind."""
    marked = np.flatnonzero(mask).tolist()
    if marked:
        tally = split.kinds.setdefault(kind, _Tally())
        tally.count += len(marked)
        tally.pictures += len(np.unique(boxes.row[mask]))
        for box in marked[: _NAMED - len(tally.first)]:
            tally.first.append((split.place(boxes, box), _shown(split, kind, boxes, box), int(boxes.row[box])))
    return marked


def _shown(split: _Split, kind: str, boxes: Boxes, box: int) -> str:
    """What stands there, in words."""
    text = "[" + ", ".join(f"{value:.6g}" for value in boxes.bbox[box]) + "]"
    width, height = split.sizes[boxes.row[box]].astype(int)
    if kind in ("outside", "partly", "turned"):
        text += f" in {width} x {height} px"
    if kind == "area":
        text += f" with area {boxes.area[box]:.6g}"
    if kind == "crowd":
        text = f"iscrowd {boxes.crowd[box]:g}"
    if kind == "size":
        text = f"a picture of {width} x {height} px"
    return text


def _tell_kind(split: _Split, kind: str, tally: _Tally, on_bad_box: str, report: Report) -> None:
    level, expected, found, fix = _KINDS[kind]
    if kind == "partly" and on_bad_box != "stop":
        level, fix = "warning", "clipped"
    elif kind in _HOPELESS and on_bad_box == "drop":
        level, fix = "warning", "left out"
    if tally.count <= _EACH:
        for place, shown, row in tally.first:
            text, rows = f"{shown}: {found}", ((split.name, row),)
            report.add(level, place, "objects", expected=expected, found=text, fix=fix, rows=rows)
        return
    more, shown = tally.count - len(tally.first), tally.first[0][1]
    report.add(
        level,
        "; ".join(place for place, _, _ in tally.first) + f"; and {more} more" * (more > 0),
        "objects",
        expected=expected,
        found=f"{tally.count} of {split.boxes} boxes, in {tally.pictures} pictures: {found}; the first {shown}",
        fix=fix,
        rows=tuple((split.name, row) for row in dict.fromkeys(row for _, _, row in tally.first)),
    )


def _again(boxes: Boxes, finite: np.ndarray) -> np.ndarray:
    """Whether the same box with the same category stands earlier in its row (boxes,)."""
    again = np.zeros(len(finite), dtype=bool)
    table = np.column_stack([boxes.row, boxes.code, boxes.bbox])[finite]
    _, first = np.unique(table, axis=0, return_index=True)
    again[np.delete(np.flatnonzero(finite), first)] = True
    return again


def _odd_area(boxes: Boxes) -> np.ndarray:
    """Whether an area is given that no mask in the box can have, or that is far too small for pixels (boxes,)."""
    with np.errstate(all="ignore"):
        whole = boxes.bbox[:, 2] * boxes.bbox[:, 3]
        return (boxes.area > whole * 1.01 + 1) | (boxes.area <= 0) | (boxes.area < 1) & (whole >= 16)


def _resized(split: _Split, boxes: Boxes) -> np.ndarray:
    """The first box of each row whose columns `width` and `height` are not the picture's (boxes,)."""
    features = split.rows.features
    odd = np.zeros(len(boxes.row), dtype=bool)
    numbers = [isinstance(features.get(name), Value) and "int" in features[name].dtype for name in ("width", "height")]
    if not all(numbers) or not len(odd):
        return odd
    start, end = int(boxes.row[0]), int(boxes.row[-1]) + 1
    told = split.rows.with_format(None).select_columns(["width", "height"])[start:end]
    columns = [[-1 if value is None else value for value in told[name]] for name in ("width", "height")]
    sizes = split.sizes[start:end]
    differs = (sizes != np.array(columns, dtype=np.float64).T).any(axis=1) & (sizes > 0).all(axis=1)
    return differs[boxes.row - start] & (boxes.number == 0)


def _turned(split: _Split, boxes: Boxes, wrong: dict[str, np.ndarray]) -> np.ndarray:
    """Boxes of pictures that EXIF turns by a quarter, whose boxes fit them only as they are stored (boxes,)."""
    sizes = split.sizes[boxes.row]
    with np.errstate(all="ignore"):
        end = boxes.bbox[:, :2] + boxes.bbox[:, 2:]
        beyond = (wrong["outside"] | wrong["partly"]) & (end > sizes * (1 + LOOSE)).any(axis=1)
        misfit = ((end > sizes[:, _SWAPPED] * (1 + LOOSE)) | (boxes.bbox[:, :2] < 0)).any(axis=1)
    rows = np.setdiff1d(boxes.row[beyond], boxes.row[misfit])
    if not len(rows) or "image" not in split.rows.column_names:
        return np.zeros(len(boxes.row), dtype=bool)
    pictures = split.rows.with_format(None).select_columns(["image"])
    if not isinstance(pictures.features["image"], Image):
        return np.zeros(len(boxes.row), dtype=bool)
    turned = []
    for row, picture in zip(rows, pictures.cast_column("image", Image(decode=False)).select(rows), strict=True):
        try:
            stored = images.probe(picture["image"])
        except ValueError:
            continue
        turned += [row] * (stored == tuple(split.sizes[row][_SWAPPED]) and stored[0] != stored[1])
    return np.isin(boxes.row, turned) & beyond


def _tell_categories(splits: list[_Split], report: Report) -> None:
    """Tells of categories that are no class, with all the ids that were seen."""
    ids: set[int] = set()
    for split in splits:
        numbers = {int(v) for v in split.ids if isinstance(v, int | float) and float(v).is_integer()}
        wrong = {value: told for value, told in split.ids.items() if class_of(value, split.names) is None}
        if split.names is None:
            ids |= numbers
        if not wrong:
            continue
        named = [f"{'nothing' if v is None else repr(v)} ({count} boxes)" for v, (count, _, _) in wrong.items()]
        told = ", ".join(named[:10]) + f" and {len(named) - 10} others" * (len(named) > 10)
        report.add(
            "error",
            next(iter(wrong.values()))[1],
            "objects",
            expected=f"categories 0 to {len(split.names) - 1}"
            if split.names
            else "ids from 0 on, or text, for each box",
            found=told + f"; ids seen: {seen(numbers)}" * bool(numbers),
            fix=_NAME,
            rows=tuple((split.name, row) for _, _, row in list(wrong.values())[:_NAMED]),
        )
    if ids and min(ids) >= 0 and gap(ids):
        report.add("error", "dataset", "objects", expected="ids 0, 1, 2, ... without gaps", found=gap(ids), fix=_NAME)


_NAME = "number the categories from 0, or give every id its name (text, or a ClassLabel)"


def _tell_classes(splits: list[_Split], thorough: bool, report: Report) -> None:
    """Tells of the classes as such: their names, and how often each is boxed."""
    boxed: dict[str, dict[str, int]] = {split.name: {} for split in splits}
    for split in splits:
        for value, (count, _, _) in split.ids.items():
            if (name := class_of(value, split.names)) is not None:
                boxed[split.name][name] = boxed[split.name].get(name, 0) + count
    names = list(dict.fromkeys(name for split in splits for name in (*(split.names or ()), *boxed[split.name])))
    counts = {split: np.array([told.get(name, 0) for name in names], dtype=int) for split, told in boxed.items()}
    if not names:
        return
    labels.tell_spellings(counts, names, "objects", report)
    tell_lacking(counts, names, report)
    total = np.sum(list(counts.values()), axis=0)
    if thorough:
        labels.tell_few(counts, names, "objects", report, things="boxes")
        if (total == 0).any():
            report.add(
                "warning", "dataset", "objects", expected="boxes of every class",
                found=f"none of {(total == 0).sum()} of {len(names)} classes: {some(names, total == 0)}",
                fix="add some, or take the names out",
            )  # fmt: skip


def _tell_image_ids(splits: list[_Split], report: Report) -> None:
    """Tells of ids that are missing, or occur twice in a split. Other splits may count from 0 again."""
    for split in splits:
        feature = split.rows.features.get("image_id")
        if feature is None:
            continue
        if not isinstance(feature, Value | ClassLabel):
            report.add(
                "error", f"split {split.name}", "image_id", expected="text or numbers", found=cell(str(feature))
            )
            continue
        first: dict[str, int] = {}
        repeats, missing = [], []
        for row, text in enumerate(image_ids(split.rows)):
            if text is None:
                missing.append(row)
            elif first.setdefault(text, row) != row:
                repeats.append((text, row))
        fix = "put all boxes of a picture into one row, or mend the ids"
        if missing:
            places = "; ".join(split.places[row] for row in missing[:_NAMED])
            rows = tuple((split.name, row) for row in missing[:_NAMED])
            found = f"none in {len(missing)} rows"
            report.add("error", places, "image_id", expected="an id", found=found, fix=fix, rows=rows)
        if repeats:
            places = "; ".join(
                f"{split.places[first[text]]} and {split.places[row]}" for text, row in repeats[:_NAMED]
            )
            found = f"{len(repeats)} again: {', '.join(text for text, _ in repeats[:5])}"
            rows = tuple((split.name, row) for text, row in repeats[:_NAMED] for row in (first[text], row))
            report.add("error", places, "image_id", expected="another id in each row", found=found, fix=fix, rows=rows)
