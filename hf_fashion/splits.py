"""Train, validation and test: which part of a source is which, how missing ones are cut, which classes they hold."""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Image

from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell

ORDER = ("train", "validation", "test")
_BATCH = 256  # rows
_DRAWS = 100
_FEW = 7  # rows, of which a split of 15 % gets one
_ALIASES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}


def split_name(name: str) -> str | None:
    """Gives the canonical name of a split ("validation" for "val"), or None when the name is not that of a split."""
    return _ALIASES.get(str(name).lower())


def choose(sizes: Mapping[str, int], lone_split: str, report: Report) -> dict[str, str]:
    """Chooses which part of a source is which split.

    Args:
        sizes: Name of each part, as the source has it -> its rows.
        lone_split: What a source without splits is; any other than "train" is chosen alone.
        report: Is told of a part that is read as `lone_split`, and of parts that are not used.

    Returns:
        Canonical split -> name of its part, in the order train, validation, test.

    Raises:
        InputError: Two parts are one split, or `lone_split` is not there.
    """
    known: dict[str, list[str]] = {}
    for name in sizes:
        known.setdefault(split_name(name) or "", []).append(name)
    doubled = next((raw for name, raw in known.items() if name and len(raw) > 1), None)
    if doubled:
        raise InputError(
            "splits", expected="each split once", found=f"{' and '.join(doubled)} mean the same", fix="rename one"
        )
    only = next((name for name in sizes if len(sizes) == 1 and split_name(name) in (None, "train")), None)
    if lone_split != "train":
        wanted = {lone_split: known.get(lone_split, [only])[0]}
    elif only is not None:
        wanted = {"train": only}
    else:
        wanted = {split: known[split][0] for split in ORDER if split in known}
    chosen = {split: name for split, name in wanted.items() if name is not None}
    if lone_split not in chosen:
        raise InputError(
            "splits",
            expected=f"a {lone_split} split, or no splits",
            found=", ".join(sizes),
            fix=f"rename one of them to {lone_split}, or give the file of one split as the dataset",
        )
    for name in known.get("", []):
        if name in chosen.values():
            report.add("note", f"split {name}", "", found=f"read as {lone_split}")
        else:
            report.add(
                "warning",
                f"split {name}",
                "",
                expected="train, validation or test",
                found=f"{sizes[name]} rows that are not used",
                fix="rename the split if it is to be used",
            )
    return chosen


def cut_missing(
    dataset: DatasetDict,
    columns: Sequence[str],
    split_by: str | None,
    shares: Mapping[str, float],
    seed: int,
    report: Report,
) -> DatasetDict:
    """Cuts the splits that are missing from train, and tells how.

    Args:
        dataset: Canonical rows, train among them.
        columns: The columns of labels.
        split_by: Column whose groups must not lie in two splits.
        shares: Split -> the share of train that it gets when it is missing.
        seed: Decides which rows are cut.
        report: Is told how it was cut, and of groups that lie in two splits all the same.
    """
    missing = {split: share for split, share in shares.items() if split not in dataset}
    train = dataset["train"]
    if missing and len(train):
        groups = train[split_by][:] if split_by is not None else None
        # Equal files go to one split, as one row: cut apart, they would be a leak.
        first = _first_copies(train) if groups is None else np.arange(len(train))
        units = np.unique(first)
        rows = cut(_strata(train, columns)[units], missing, seed, groups)
        rows = {split: np.flatnonzero(np.isin(first, units[chosen])) for split, chosen in rows.items()}
        if len(units) < len(train):
            report.add(
                "note",
                "dataset",
                "image",
                found=f"{len(train) - len(units)} copies of pictures, kept in one split each",
            )
        report.cut = [split for split in ORDER if split in missing]
        dataset = DatasetDict(dict(dataset) | {split: train.select(numbers) for split, numbers in rows.items()})
        how = f"groups of {split_by} kept whole" if split_by else "in each class's proportion"
        sizes = " and ".join(f"{split} ({len(rows[split])} rows)" for split in missing)
        report.add("note", "dataset", "", found=f"{sizes} cut from train's {len(train)} rows, {how}, seed {seed}")
        for split, share in missing.items():
            got = len(rows[split]) / len(train)
            if not len(rows[split]) or split_by and not share / 2 <= got <= share * 2:
                reason = "groups are large" if split_by else "rows are few"
                report.add(
                    "warning" if len(rows[split]) else "error",
                    f"split {split}",
                    split_by or "label",
                    expected=f"about {share:.0%} of the rows",
                    found=f"{len(rows[split])} of {len(train)}: {reason}",
                    fix="add photos" if split_by is None else "give the splits yourself",
                )
    if split_by is not None:
        _tell_shared_groups(dataset, split_by, report)
    return dataset


def _strata(rows: Dataset, columns: Sequence[str]) -> np.ndarray:
    """The class of each row; of attributes the rarest that it has, so that rare ones come into every split (rows,).

    Values of fewer than `_FEW` rows are passed over: each would put a row into every split, and train would be small.
    """
    values = {column: rows[column][:] for column in columns}
    if list(values) == ["label"] and all(isinstance(value, int) for value in values["label"]):
        return np.asarray(values["label"], dtype=int)
    held: list[list[tuple[str, int]]] = [[] for _ in range(len(rows))]
    for column, told in values.items():
        for row, value in zip(held, told, strict=True):
            numbers = value if isinstance(value, list) else [] if value is None else [value]
            row.extend((column, number) for number in numbers)
    counts = Counter(value for row in held for value in row)
    held = [[value for value in row if counts[value] >= _FEW] for row in held]
    number = {value: position for position, value in enumerate(counts, start=1)}
    return np.asarray([number[min(row, key=lambda value: (counts[value], value))] if row else 0 for row in held])


def _first_copies(rows: Dataset) -> np.ndarray:
    """Gives for each row the number of the first row whose encoded picture is the same (rows,)."""
    raw = rows.select_columns(["image"]).cast_column("image", Image(decode=False))
    sizes = [_size(source) for batch in raw.iter(_BATCH) for source in batch["image"]]
    often = {size for size, count in Counter(sizes).items() if count > 1 and size >= 0}
    seen: dict[bytes, int] = {}
    first = np.arange(len(rows))
    number = 0
    for batch in raw.iter(_BATCH):
        for source in batch["image"]:
            # Only these can be equal: most files need not be read. Of one that may not be read, the check tells.
            with contextlib.suppress(OSError):
                if sizes[number] in often:
                    content = source["bytes"] if source["bytes"] is not None else Path(source["path"]).read_bytes()
                    first[number] = seen.setdefault(hashlib.blake2b(content, digest_size=16).digest(), number)
            number += 1
    return first


def _size(source: Mapping[str, Any] | None) -> int:
    """Length of an encoded picture in bytes; below 0 when there is none."""
    if source is None or source["bytes"] is None and not os.path.isfile(source["path"] or ""):
        return -1
    return len(source["bytes"]) if source["bytes"] is not None else os.path.getsize(source["path"])


def _tell_shared_groups(dataset: DatasetDict, split_by: str, report: Report) -> None:
    groups = {split: set(rows[split_by][:]) for split, rows in dataset.items()}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = sorted(groups.get(first, set()) & groups.get(second, set()))
        if shared:
            report.add(
                "error",
                f"splits {first} and {second}",
                split_by,
                expected="no group in two splits",
                found=f"{len(shared)} group(s) in both, the first: {cell(shared[0])}",
                fix="remove them from one split, or give one split and have the others cut",
            )


def cut(
    labels: np.ndarray, shares: Mapping[str, float], seed: int, groups: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Chooses the rows of new splits.

    Args:
        labels: Class of each row of train, integers (rows,).
        shares: Name of each new split -> the share of the rows that it takes.
        seed: The same seed gives the same rows.
        groups: Group of each row; when given, no group comes to lie in two splits.

    Returns:
        Sorted row numbers of "train" (what is left) and of each new split.

    Raises:
        InputError: There are fewer groups than splits.
    """
    chosen = _by_label(labels, shares, seed) if groups is None else _by_group(labels, shares, seed, groups)
    taken = np.concatenate(list(chosen.values()))
    chosen["train"] = np.setdiff1d(np.arange(len(labels)), taken)
    return {split: np.sort(chosen[split]) for split in ORDER if split in chosen}


def _by_label(labels: np.ndarray, shares: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Draws from each class in proportion. scikit-learn's splitters refuse classes of one row, or leave small classes
    out of a split; here every class with enough rows is in every split, and a single row stays in train."""
    classes, counts = np.unique(labels, return_counts=True)
    quotas, left = {}, counts - 1  # train keeps at least one row of each class
    for split, share in shares.items():
        exact = counts * share
        quota = np.floor(exact).astype(int)
        largest = np.argsort(quota - exact, kind="stable")
        quota[largest[: round(len(labels) * share) - quota.sum()]] += 1
        quotas[split] = np.minimum(np.maximum(quota, 1), left)
        left = left - quotas[split]
    rng = np.random.default_rng(seed)
    rows: dict[str, list[np.ndarray]] = {split: [np.empty(0, dtype=int)] for split in shares}
    for position, label in enumerate(classes):
        shuffled, start = rng.permutation(np.flatnonzero(labels == label)), 0
        for split in shares:
            stop = start + quotas[split][position]
            rows[split].append(shuffled[start:stop])
            start = stop
    return {split: np.concatenate(parts) for split, parts in rows.items()}


def _by_group(
    labels: np.ndarray, shares: Mapping[str, float], seed: int, groups: Sequence[str]
) -> dict[str, np.ndarray]:
    """Takes whole groups for one new split after the other."""
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(set(names)) <= len(shares):
        raise InputError(
            "the column to split by",
            expected=f"at least {len(shares) + 1} groups, one for train and each of {', '.join(shares)}",
            found=f"{len(set(names))} group(s)",
            fix="choose another column for --split_by, or leave it out",
        )
    rest, chosen = np.arange(len(labels)), {}
    rng = np.random.default_rng(seed)
    for position, (split, share) in enumerate(shares.items()):
        spare = len(shares) - position  # groups that later splits and train need
        drawn = _draw_groups(labels[rest], names[rest], share * len(labels), spare, rng)
        chosen[split], rest = rest[drawn], rest[~drawn]
    return chosen


def _draw_groups(
    labels: np.ndarray, groups: np.ndarray, wanted: float, spare: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws whole groups many times, and gives the draw (rows,) of bool that is nearest to `wanted` rows and to the
    class mix, and takes no class away altogether. (scikit-learn's StratifiedGroupKFold needs seconds for 200 groups,
    and its GroupShuffleSplit counts groups, not rows.)"""
    groups = np.unique(groups, return_inverse=True)[1]
    sizes, everything = np.bincount(groups), np.bincount(labels)
    best, best_score = np.zeros(len(labels), dtype=bool), np.inf
    for _ in range(_DRAWS):
        order = rng.permutation(len(sizes))
        nearest = np.abs(np.cumsum(sizes[order])[: len(sizes) - spare] - wanted).argmin()
        rows = np.isin(groups, order[: nearest + 1])
        counts = np.bincount(labels[rows], minlength=len(everything))
        lost = np.sum((counts == everything) & (everything > 0))
        mix = np.abs(counts / rows.sum() - everything / len(labels)).sum()
        score = 10 * lost + abs(rows.sum() - wanted) / wanted + mix
        if score < best_score:
            best, best_score = rows, score
    return best


def coverage(
    counts: Mapping[str, np.ndarray], names: Sequence[str], report: Report, column: str = "label", strict: bool = True
) -> None:
    """Adds findings on classes that a split lacks.

    Args:
        counts: Split -> rows of each class (classes,).
        names: Class names, in label order.
        report: Is added to.
        column: The column of the classes, for messages.
        strict: False for an attribute among others: what cannot be learned is warned of and stops nothing.
    """
    total = np.sum(list(counts.values()), axis=0)
    if len(names) < 2 or np.count_nonzero(total) < 2:
        report.add(
            "error" if "train" in counts and strict else "warning",
            "dataset",
            column,
            expected="rows of two classes or more",
            found=f"one class only: {_some(names, total > 0)}" if total.any() else "no row",
            fix="add photos of another class, or name the right column with --label_column",
        )
    if "train" not in counts:
        return
    train = counts["train"]
    if (train == 0).any():
        report.add(
            "error" if strict else "warning",
            "split train",
            column,
            expected="photos of every class",
            found=f"none of: {_some(names, train == 0)}",
            fix="add photos of these classes to train, or take the classes out of the dataset",
        )
    if (train == 1).any():
        report.add(
            "warning",
            "split train",
            column,
            expected="2 photos or more of every class",
            found=f"one photo only of: {_some(names, train == 1)}",
            fix="add photos",
        )
    for split in ("validation", "test"):
        if split in counts and (missing := (counts[split] == 0) & (train > 0)).any():
            report.add(
                "warning",
                f"split {split}",
                column,
                expected="photos of every class",
                found=f"none of: {_some(names, missing)}",
                fix="add photos; figures for these classes cannot be measured",
            )


def _some(names: Sequence[str], chosen: np.ndarray, shown: int = 5) -> str:
    """Lists the chosen names, the first few only."""
    listed = [cell(name, 30) for name, wanted in zip(names, chosen, strict=True) if wanted]
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more
