"""Who asks, what is searched, and what counts as right: the protocols of the retrieval benchmarks.

Each function takes one split with the columns `image` and `item_id`, and what it needs besides: `role` ("query" or
"gallery"), `text`, or `category` and `relative_captions`. More photos for the gallery (distractors) may be given; one
of them is right only where its item, or its text, is that of a query.

Vectors of the queries and of the gallery, in the order of a `Protocol`, go through `metrics.rank_relevant` with its
`relevant` and `ignored`, and the ranks through `metrics.retrieval` with its `groups`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from datasets import Dataset, DatasetDict

from hf_fashion.data import folded
from hf_fashion.errors import InputError
from hf_fashion.report import cell

QUERY, GALLERY = "query", "gallery"  # of the column `role`
SPLITS = ("train", "validation", "test")  # that must not share an item
_SHOWN = 5  # items in a message
_ALL = "all"  # the one category of photos that have none
_CHANGE = ("target", "captions")  # of `relative_captions`


@dataclass(frozen=True, eq=False)
class Protocol:
    """A search whose right answers are known.

    Args:
        name: The benchmark's, or what it does.
        query_kind: What asks: a photo, a text, or both together.
        queries: Row of the split for each query (n,): its photo, or, of a text, the first photo that has it.
        texts: The words of each query; None where the photo asks alone.
        gallery: Row of each answer (m,); from the length of the split on they are rows of the distractors.
        gallery_texts: The words of each answer where texts are searched; None where photos are.
        relevant: Of each query the places in `gallery` of its right answers, one at least.
        ignored: Of each query the places that are left out for it; None where nothing is.
        groups: The item of each query: queries of one item are drawn together in a bootstrap.
        left_out: Reason -> how many would-be queries are not asked.
        line: All that in one sentence, for a model card.
    """

    name: str
    query_kind: Literal["image", "text", "composed"]
    queries: np.ndarray
    texts: list[str] | None
    gallery: np.ndarray
    gallery_texts: list[str] | None
    relevant: list[np.ndarray]
    ignored: list[np.ndarray] | None
    groups: list[str]
    left_out: dict[str, int]
    line: str


def query_gallery(split: Dataset, distractors: Dataset | None = None) -> Protocol:
    """Photos whose role is query against those whose role is gallery, of a catalogue of one's own; as `in_shop`.

    Args:
        split: With `item_id` and `role`.
        distractors: More photos of the gallery.

    Raises:
        InputError: As there.
    """
    return _by_role("Queries and gallery", "query photos", "gallery photos", split, distractors)


def in_shop(split: Dataset, distractors: Dataset | None = None) -> Protocol:
    """DeepFashion's In-shop Clothes Retrieval: photos whose role is query against those whose role is gallery.

    Liu et al., DeepFashion, CVPR 2016. Any photo of the query's item is right; a query photo is in no gallery.

    Args:
        split: With `item_id` and `role`.
        distractors: More photos of the gallery.

    Raises:
        InputError: A column is missing, a row has no role or no item, nobody asks, or no query has a right answer.
    """
    return _by_role("In-shop", "query photos", "gallery photos", split, distractors)


def consumer_to_shop(split: Dataset, distractors: Dataset | None = None) -> Protocol:
    """DeepFashion's Consumer-to-shop Clothes Retrieval: photos by consumers (role query) against a shop's (gallery).

    The README of the benchmark's files of December 2016 searches the shop photos of the test split; descriptions by
    others say those of validation and test. For these give the shop photos of validation as distractors.

    Args:
        split: With `item_id` and `role`.
        distractors: More shop photos.

    Raises:
        InputError: As `in_shop`.
    """
    return _by_role("Consumer-to-shop", "consumer photos", "shop photos", split, distractors)


def leave_one_out(split: Dataset, distractors: Dataset | None = None) -> Protocol:
    """Each photo asks for the others of its item among all others of the split, as in Stanford Online Products.

    Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016. The photo itself is left out.
    A photo that is the only one of its item does not ask; it stays in the gallery.

    Args:
        split: With `item_id`.
        distractors: More photos of the gallery.

    Raises:
        InputError: A column is missing, a row has no item, or no item has two photos.
    """
    items = _items(split)
    gallery, of_item = _gallery(range(len(split)), items, distractors, len(split))
    lonely = "the only photo of its item"
    others = [places[places != row] for row, places in enumerate(of_item[item] for item in items)]
    asked = [row for row, places in enumerate(others) if len(places)]
    left_out = _counted({lonely: len(items) - len(asked)})
    if not asked:
        raise _nothing("no item has two photos", left_out)
    return Protocol(
        "leave one out", "image", np.array(asked), None, gallery, None, [others[row] for row in asked],
        [np.array([row]) for row in asked], [items[row] for row in asked], left_out,
        _line("Leave one out", len(asked), "photos", f"each against the other {len(split) - 1:,} photos of the split",
              distractors, "the other photos of its item are right", left_out),
    )  # fmt: skip


def text_to_image(split: Dataset, distractors: Dataset | None = None) -> Protocol:
    """Each distinct text asks for photos, as in searches of Polyvore or of a catalogue by its titles.

    Every photo that has the text, and every photo of an item that has it, is right: with one photo called right, a
    search would be punished for another of the same title. Texts that differ in case, blanks or the form of accents
    only are one.

    Args:
        split: With `item_id` and `text`; a photo without a text is searched and does not ask.
        distractors: More photos of the gallery; those with the same text or item are right, too.

    Raises:
        InputError: A column is missing, a row has no item, or there is no text.
    """
    items, texts = _items(split), _texts(split)
    gallery, of_item = _gallery(range(len(split)), items, distractors, len(split))
    more = _texts(distractors) if distractors is not None and "text" in distractors.column_names else []
    of_text = _grouped(folded(text) if text else None for text in [*texts, *more])
    first: dict[str, int] = {}
    items_of: dict[str, set[str]] = defaultdict(set)
    for row, text in enumerate(texts):
        if text:
            first.setdefault(folded(text), row)
            items_of[folded(text)].add(items[row])
    if not first:
        raise _nothing("no row has a text", {})
    relevant = [_union([of_text[text], *(of_item[item] for item in items_of[text])]) for text in first]
    rows = list(first.values())
    return Protocol(
        "text to image", "text", np.array(rows), [str(texts[row]) for row in rows], gallery, None, relevant, None,
        [items[row] for row in rows], {},
        _line("Text to image", len(rows), "distinct texts", f"against {len(split):,} photos", distractors,
              "every photo of that text, or of an item that has it, is right", {}),
    )  # fmt: skip


def image_to_text(split: Dataset, distractors: Dataset | None = None) -> Protocol:
    """Each photo asks for its text among the distinct texts, as in Fashion-Gen's second direction.

    Zhuge et al., Kaleido-BERT, CVPR 2021, measure both. Every text of the photo's item is right; texts are told apart
    as in `text_to_image`.

    Args:
        split: With `item_id` and `text`.
        distractors: Their texts are searched, too.

    Raises:
        InputError: A column is missing, a row has no item, or there is no text.
    """
    items, texts = _items(split), _texts(split)
    more = _texts(distractors) if distractors is not None and "text" in distractors.column_names else []
    place: dict[str, int] = {}
    rows: list[int] = []
    of_item: dict[str, set[int]] = defaultdict(set)
    for row, text in enumerate([*texts, *more]):
        if text and folded(text) not in place:
            place[folded(text)] = len(rows)
            rows.append(row)
        if text and row < len(items):
            of_item[items[row]].add(place[folded(text)])
    asked = [row for row, item in enumerate(items) if item in of_item]
    left_out = _counted({"no text of the item": len(items) - len(asked)})
    if not asked:
        raise _nothing("no row has a text", left_out)
    words = [str([*texts, *more][row]) for row in rows]
    return Protocol(
        "image to text", "image", np.array(asked), None, np.array(rows), words,
        [np.array(sorted(of_item[items[row]])) for row in asked], None, [items[row] for row in asked], left_out,
        _line("Image to text", len(asked), "photos", f"against {len(rows):,} distinct texts", None,
              "every text of the photo's item is right", left_out),
    )  # fmt: skip


def composed(
    split: Dataset, distractors: Dataset | None = None, *, ignore_reference: bool = False
) -> dict[str, Protocol]:
    """Fashion IQ: a reference photo and what should be different ask for the target photo, each category by itself.

    Wu et al., Fashion IQ, CVPR 2021. The figure is the mean over the categories: `metrics.retrieval_macro`. The
    challenge's own evaluation (start_kit/utils.py, `Ranker.compute_rank`) ranks the target among all photos of the
    category's split, the reference included.

    Args:
        split: With `item_id` and `relative_captions`: of each row, as a reference, a list of `target` (an item_id) and
            `captions`, see `changes_of`. Without `category` all photos are one; one in which nobody asks has no
            protocol.
        distractors: More photos of the gallery, with `item_id` and `category`.
        ignore_reference: Leave the reference out of its own gallery, as some later papers do and as a shop would;
            their figures are higher, and do not compare with the challenge's.

    Returns:
        Category -> its protocol, in alphabetical order.

    Raises:
        InputError: A column is missing, a row has no item or no category, a cell is no list of changes, or in a
            category no query has its target in the gallery.
    """
    items, changes = _items(split), changes_of(split)
    grouped = "category" in split.column_names
    kinds = _known(split, "category") if grouped else [_ALL] * len(split)
    more = [] if distractors is None else _known(distractors, "category") if grouped else [_ALL] * len(distractors)
    protocols = {}
    for kind in sorted(set(kinds)):
        own = [row for row, other in enumerate(kinds) if other == kind]
        if not any(changes[row] for row in own):
            continue
        further = [row for row, other in enumerate(more) if other == kind]
        chosen = None if distractors is None else distractors.select(further)
        places, of_item = _gallery(own, items, chosen, len(split))
        places[len(own) :] = len(split) + np.array(further, dtype=np.int64)
        place = {row: number for number, row in enumerate(own)}
        queries, texts, relevant = [], [], []
        gone = dict.fromkeys(("the target is not in the gallery", "no words", "the target is the reference"), 0)
        for row in own:
            for target, words in changes[row]:
                right = of_item.get(target, np.empty(0, dtype=np.int64))
                others = right[right != place[row]] if ignore_reference else right
                if not len(others) or not words:
                    gone[[*gone][0 if not len(right) else 1 if not words else 2]] += 1
                    continue
                queries.append(row)
                texts.append(words)
                relevant.append(others)
        left_out = _counted(gone)
        if not queries:
            raise _nothing(f"category {kind}: no query has its target in the gallery", left_out)
        ignored = [np.array([place[row]]) for row in queries] if ignore_reference else None
        told = "the photo that was asked for is right"
        told += "; the reference is not searched" if ignore_reference else "; the reference is searched, too"
        protocols[kind] = Protocol(
            f"composed, {kind}", "composed", np.array(queries), texts, places, None, relevant, ignored,
            [items[row] for row in queries], left_out,
            _line(f"Composed, {kind}", len(queries), "photos with words", f"against {len(own):,} photos", chosen,
                  told, left_out),
        )  # fmt: skip
    if not protocols:
        raise _nothing("no row has a change in relative_captions", {})
    return protocols


def changes_of(split: Dataset) -> list[list[tuple[str, str]]]:
    """What each row asks for as a reference: the item, and the captions as one text, joined by "and" ("" for none).

    Args:
        split: With `relative_captions`: of each row None or a list of `target` and `captions`, which may lie in one
            list each, too. What is a text is read as JSON, as cells of a CSV hold it.

    Raises:
        InputError: The column is missing, or a cell is something else.
    """
    found = []
    for row, several in enumerate(_column(split, "relative_captions")):
        several = _of_json(several)
        if isinstance(several, dict) and all(isinstance(values, list) for values in several.values()):
            several = [dict(zip(several, values, strict=False)) for values in zip(*several.values(), strict=False)]
        if not isinstance(several, list | None):
            raise _no_change(row, several)
        asked = []
        for change in map(_of_json, several or ()):
            target, captions = (change.get(name) if isinstance(change, dict) else None for name in _CHANGE)
            if target is None or isinstance(target, list | dict) or not isinstance(captions, list):
                raise _no_change(row, change)
            if any(not isinstance(caption, str | None) for caption in captions):
                raise _no_change(row, change)
            words = [caption.strip(" .?,") for caption in captions if caption]
            name = int(target) if isinstance(target, float) and target.is_integer() else target
            asked.append((str(name), " and ".join(filter(None, words))))
        found.append(asked)
    return found


def _of_json(cell_: Any) -> Any:
    """What the text of a cell says; None for a blank one."""
    if not isinstance(cell_, str):
        return cell_
    try:
        return json.loads(cell_) if cell_.strip() else None
    except (ValueError, RecursionError):
        return cell_


def _no_change(row: int, found: object) -> InputError:
    return InputError(
        f"column relative_captions, row {row}",
        expected="a list of changes, each with a target (an item_id) and captions (a list of texts)",
        found=cell(repr(found), 150),
        fix='as in a line of JSON: [{"target": "sku-18", "captions": ["the same in red"]}]',
    )


def refuse_leaks(dataset: DatasetDict) -> None:
    """Stops when an item lies in two of train, validation and test: its photos would be known before they are asked.

    Args:
        dataset: Splits with `item_id`. A split of another name (a gallery) may hold any item.

    Raises:
        InputError: Names the items and their rows.
    """
    rows_of: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for split in SPLITS:
        if split in dataset:
            rows = dataset[split]
            names = _column(rows, "source_row") if "source_row" in rows.column_names else range(len(rows))
            for item, row in zip(_items(rows), names, strict=True):
                rows_of[item].setdefault(split, []).append(str(row))
    leaks = {item: splits for item, splits in rows_of.items() if len(splits) > 1}
    if leaks:
        told = [
            f"{item} ({'; '.join(f'{split}: {_some(rows)}' for split, rows in splits.items())})"
            for item, splits in list(leaks.items())[:_SHOWN]
        ]
        more = f" and {len(leaks) - _SHOWN} more" * (len(leaks) > _SHOWN)
        raise InputError(
            "column item_id", expected="each item in one split only",
            found=f"a leak of {len(leaks)} item{'s' * (len(leaks) > 1)} in two splits: {', '.join(told)}{more}",
            fix="move all photos of an item to one split; of a table without splits --split_by item_id does it",
        )  # fmt: skip


def _by_role(name: str, who: str, what: str, split: Dataset, distractors: Dataset | None) -> Protocol:
    items, roles = _items(split), _known(split, "role")
    odd = next((row for row, role in enumerate(roles) if role not in (QUERY, GALLERY)), None)
    if odd is not None:
        raise InputError(
            f"column role, row {odd}", expected=f"{QUERY} or {GALLERY}", found=cell(repr(roles[odd])),
            fix=f"call a photo that asks {QUERY}, and one that is searched {GALLERY}",
        )  # fmt: skip
    searched = [row for row, role in enumerate(roles) if role == GALLERY]
    gallery, of_item = _gallery(searched, items, distractors, len(split))
    asking = [row for row, role in enumerate(roles) if role == QUERY]
    asked = [row for row in asking if items[row] in of_item]
    left_out = _counted({"no photo of the item in the gallery": len(asking) - len(asked)})
    if not asked:
        raise _nothing(f"{len(asking)} rows with the role {QUERY}, none with a right answer", left_out)
    return Protocol(
        name, "image", np.array(asked), None, gallery, None, [of_item[items[row]] for row in asked], None,
        [items[row] for row in asked], left_out,
        _line(name, len(asked), who, f"against {len(searched):,} {what}", distractors,
              "every photo of the same item is right", left_out),
    )  # fmt: skip


def _gallery(
    rows: Sequence[int], items: Sequence[str], distractors: Dataset | None, length: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The rows of a gallery, distractors behind, and the places of each item in it."""
    more: list[str | None] = []
    if distractors is not None:
        more = _column(distractors, "item_id") if "item_id" in distractors.column_names else [None] * len(distractors)
    numbers = np.array([*rows, *range(length, length + len(more))], dtype=np.int64)
    return numbers, _grouped([*(items[row] for row in rows), *more])


def _grouped(keys: Iterable[str | None]) -> dict[str, np.ndarray]:
    """Key -> where it stands, ascending; those without one stand nowhere."""
    found: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if key is not None:
            found[key].append(place)
    return {key: np.array(places) for key, places in found.items()}


def _union(places: Iterable[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(list(places)))


def _column(rows: Dataset, name: str) -> list:
    """The values of a column, whatever transform the rows have."""
    if name not in rows.column_names:
        raise InputError(
            f"column {name}", expected="a column of that name", found=", ".join(rows.column_names) or "no column",
            fix="add the column, or give the one that it is this name",
        )  # fmt: skip
    return list(rows.with_format(None).select_columns([name])[name])


def _known(rows: Dataset, name: str) -> list[str]:
    """The values of a column that must not lack one, as text."""
    values = _column(rows, name)
    kind = rows.features[name]
    values = [kind.int2str(value) if hasattr(kind, "int2str") and value is not None else value for value in values]
    empty = next((row for row, value in enumerate(values) if value is None or not str(value).strip()), None)
    if empty is not None:
        raise InputError(
            f"column {name}, row {empty}", expected="a value in every row", found=repr(values[empty]),
            fix="fill the cell, or remove the row",
        )  # fmt: skip
    return [str(value) for value in values]


def _items(rows: Dataset) -> list[str]:
    return _known(rows, "item_id")


def _texts(rows: Dataset) -> list[str | None]:
    """The texts of rows; None where there is none."""
    return [text if text and text.strip() else None for text in _column(rows, "text")]


def _counted(reasons: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in reasons.items() if count}


def _nothing(found: str, left_out: Mapping[str, int]) -> InputError:
    told = "".join(f"; {count} left out: {reason}" for reason, count in left_out.items())
    return InputError(
        "queries of the split", expected="at least one with a right answer in the gallery", found=found + told,
        fix="give a split that has some, or another protocol",
    )  # fmt: skip


def _line(
    name: str, n: int, who: str, against: str, distractors: Dataset | None, right: str, left_out: Mapping[str, int]
) -> str:
    more = f" and {len(distractors):,} distractors" if distractors is not None and len(distractors) else ""
    left = "; ".join(f"{count:,} left out: {reason}" for reason, count in left_out.items()) or "none left out"
    return f"{name}: {n:,} {who} {against}{more}; {right}; {left}."


def _some(rows: Sequence[str]) -> str:
    return ", ".join(cell(row) for row in rows[:2]) + f" and {len(rows) - 2} more" * (len(rows) > 2)
