"""Train, validation and test: their names, how missing ones are cut, and which classes they hold."""

from collections.abc import Mapping, Sequence

import numpy as np

from hf_fashion.errors import InputError
from hf_fashion.report import Report, cell

ORDER = ("train", "validation", "test")
_DRAWS = 100
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
