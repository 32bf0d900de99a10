"""Finished runs, side by side: `hf-fashion compare`."""

import argparse
import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, List, disable_progress_bars

from hf_fashion import plots, record
from hf_fashion.comparison.paired import WIDTH, ends, in_words, pairs, pairs_by_map, verdicts
from hf_fashion.errors import InputError, command
from hf_fashion.report import cell

ONE_LABEL, ATTRIBUTES = "one label a photo", "attributes"
_ENDS = ("difference_low", "difference_high")
TESTED = {ONE_LABEL: "accuracy", ATTRIBUTES: "map"}  # by which pairs are tested


def main(argv: list[str] | None = None) -> None:
    """`hf-fashion compare <run folder> ...`: prints the table, the verdicts, and what was left out and why."""
    parser = argparse.ArgumentParser(
        "hf-fashion compare", description="Lay finished runs side by side, best first.", allow_abbrev=False
    )
    parser.add_argument("folders", nargs="+", metavar="folder", help="Folders of runs, as runs/*.")
    parser.add_argument("--metric", default="accuracy", help="A figure of eval_results.json. Default: accuracy.")
    parser.add_argument("--to", metavar="FILE.png", help="Save the comparison as a picture, too.")
    args = parser.parse_args(argv)
    target = Path(args.to) if args.to else None
    if target and (target.suffix.lower() != ".png" or not target.parent.is_dir()):
        raise InputError(
            f"--to {target}", expected="a file FILE.png in a folder that is there",
            found=f"the suffix {target.suffix!r}" if target.parent.is_dir() else f"no folder {target.parent}",
            fix="--to comparison.png",
        )  # fmt: skip
    disable_progress_bars()  # a bar a file would drown the table
    runs, left_out = _read(args.folders, args.metric)
    if not runs:
        raise InputError(
            f"hf-fashion compare {' '.join(args.folders[:3])}{' ...' if len(args.folders) > 3 else ''}",
            expected=f"folders of finished runs with the figure {args.metric}",
            found="none\n" + "\n".join(f"    {folder}: {reason}" for folder, reason in left_out),
            fix="name the folders that recipes printed at their end; for runs of attributes --metric map",
        )
    groups = _groups(runs)
    tested = {group[0].name: _tests(group, args.metric) for group in groups}
    print(_table(runs, groups, args.metric))
    for letter, group in zip(_letters(groups), groups, strict=True):
        if len(group) > 1:
            which = f"Rows {letter}" if letter else "All"
            print(f"\n{which}: {len(group)} runs, measured on the same {_rows_of(group)}.")
            if args.metric == TESTED[group[0].kind]:
                print("\n".join(verdicts(tested[group[0].name], best=group[0].name)))
            else:
                print(f"No verdicts: pairs are tested by {TESTED[group[0].kind]}, and not by {args.metric}.")
    apart = _apart(groups)
    if apart:
        print("\nNot comparable:\n" + "\n".join(f"  {line}" for line in apart))
        if sum(group[0].kind == ONE_LABEL for group in groups) > 1:
            print(f"  To bring models to the same rows: {command('score')} --compare MODEL MODEL ... --dataset PHOTOS")
        if sum(group[0].kind == ATTRIBUTES for group in groups) > 1:
            print("  To compare nets for attributes, train each with the same photos and the same --split_seed.")
    if left_out:
        print("\nLeft out:\n" + "\n".join(f"  {cell(folder, WIDTH)}: {reason}" for folder, reason in left_out))
    if target:
        _picture(runs, groups, tested, args.metric).savefig(target, dpi=130)
        print(f"\n{target}")


@dataclass
class _Measured:
    """A finished run and the rows on which it was measured.

    Args:
        name: Its folder, seen from the folder that all of them have in common.
        run: The record.
        figures: The content of eval_results.json.
        rows: source_row -> (truth, said): its label and whether the prediction is right; of attributes what is known
            of each label, by name, and the scores in the order of `labels`. None without such predictions.
        reason: Why there are none.
        labels: The names of the attributes, sorted; empty where there is one label a photo.
    """

    name: str
    run: record.Run
    figures: dict[str, Any]
    rows: dict[str, tuple[Hashable, Any]] | None
    reason: str = ""
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return ATTRIBUTES if self.labels else ONE_LABEL

    @property
    def same(self) -> Any:
        """Equal for runs that may be compared."""
        if self.rows is None:
            return self.name
        truth = frozenset((row, label) for row, (label, _) in self.rows.items())
        return self.run.info["dataset"].get("fingerprint"), self.labels, truth


def _read(folders: Iterable[str], metric: str) -> tuple[list[_Measured], list[tuple[str, str]]]:
    """The runs, best first, and each folder that is left out with the reason."""
    runs: list[_Measured] = []
    left_out: list[tuple[str, str]] = []
    seen = set()
    for folder in folders:
        place = Path(folder).resolve()
        if place in seen:
            left_out.append((folder, "named twice"))
            continue
        seen.add(place)
        try:
            run = record.read(folder)
            if run.info["status"] != "finished":
                left_out.append((folder, f"not finished (status: {run.info['status']})"))
                continue
            figures, _, _ = run.results, run.info["dataset"], run.info["base_model"]
        except InputError as error:
            left_out.append((folder, error.found))
        except FileNotFoundError:
            left_out.append((folder, "no eval_results.json"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            left_out.append((folder, f"its record cannot be read ({cell(f'{type(error).__name__}: {error}', 120)})"))
        else:
            value = figures.get(metric)
            if "models" in figures:
                left_out.append((folder, "it compares models itself: read its README.md"))
            elif isinstance(value, bool) or not isinstance(value, (int, float)):
                left_out.append((folder, f"no figure {metric} in its eval_results.json"))
            else:
                runs.append(_Measured(folder, run, figures, *_rows(run, figures.get("split"))))
    if runs:
        places = [os.path.abspath(measured.run.folder) for measured in runs]
        common = os.path.commonpath([os.path.dirname(place) for place in places])
        for measured, path in zip(runs, places, strict=True):
            measured.name = Path(os.path.relpath(path, common)).as_posix()
    return sorted(runs, key=lambda measured: -measured.figures[metric]), left_out


def _rows(run: record.Run, split: str | None) -> tuple[dict[str, tuple[Hashable, Any]] | None, str, tuple[str, ...]]:
    """`rows`, `reason` and `labels` of `_Measured`."""
    try:
        predictions = run.predictions
    except (OSError, ValueError) as error:
        return None, f"its predictions.parquet cannot be read ({type(error).__name__})", ()
    features, labels = predictions.features, ()
    rows: list[tuple[str, tuple[Hashable, Any]]]
    if {"split", "source_row", "label", "prediction"} <= set(features) and isinstance(features["label"], ClassLabel):
        names = features["label"].names
        rows = [
            (row, (names[true], true == said))
            for row, true, said in _columns(predictions, split, ("label", "prediction"))
        ]
    elif (
        {"split", "source_row", "references", "scores"} <= set(features)
        and isinstance(features.get("predictions"), List)
        and isinstance(features["predictions"].feature, ClassLabel)
    ):
        names = features["predictions"].feature.names
        order = np.argsort(names)  # runs may number them differently
        labels = tuple(names[place] for place in order)
        rows = [
            (row, (_known(np.asarray(true)[order]), np.asarray(scores)[order]))
            for row, true, scores in _columns(predictions, split, ("references", "scores"))
        ]
    else:
        return None, "its predictions.parquet has neither a single label a row nor attributes", ()
    if not rows or len(dict(rows)) < len(rows):
        return None, "no rows of its split" if not rows else "several rows have one name (source_row)", labels
    return dict(rows), "", labels


def _columns(predictions: Dataset, split: str | None, columns: tuple[str, str]) -> list[tuple[str, Any, Any]]:
    """`source_row` and two more columns of the rows of a split."""
    table = predictions.select_columns(["split", "source_row", *columns])[:]
    chosen = np.flatnonzero(np.asarray(table["split"]) == split)
    return [(table["source_row"][at], table[columns[0]][at], table[columns[1]][at]) for at in chosen]


def _known(truth: np.ndarray) -> tuple[float | None, ...]:
    """1, 0 and None (not known): unlike NaN, None is equal to itself."""
    return tuple(None if np.isnan(value) else float(value) for value in truth)


def _groups(runs: Sequence[_Measured]) -> list[list[_Measured]]:
    """Runs of the same rows together; each best first, as the groups are."""
    groups: dict[Any, list[_Measured]] = {}
    for measured in runs:
        groups.setdefault(measured.same, []).append(measured)
    return list(groups.values())


def _letters(groups: Sequence[Any]) -> list[str]:
    """A, B, ..., Z, A1, ...; nothing when there is one group only."""
    if len(groups) == 1:
        return [""]
    return [f"{chr(65 + number % 26)}{number // 26 or ''}" for number in range(len(groups))]


def _tests(group: Sequence[_Measured], metric: str) -> list[dict[str, Any]]:
    first = group[0].rows
    if metric != TESTED[group[0].kind] or len(group) < 2 or first is None:
        return []
    said = {one.name: np.array([(one.rows or {})[row][1] for row in first]) for one in group}
    if group[0].kind == ONE_LABEL:
        return pairs(said)
    truth: list[Any] = [truth for truth, _ in first.values()]
    return pairs_by_map(said, np.array(truth, dtype=float))


def _rows_of(group: Sequence[_Measured]) -> str:
    return f"{len(group[0].rows or ())} rows of {_data(group[0])}"


def _apart(groups: Sequence[Sequence[_Measured]]) -> list[str]:
    """Why the runs of each group are not set against those of the largest one."""
    largest = max(groups, key=len)
    names = dict(zip(_letters(groups), groups, strict=True))
    to = next(letter for letter, group in names.items() if group is largest)
    return [
        f"rows {letter} ({', '.join(cell(one.name, WIDTH) for one in group)}) with rows {to}: "
        + _why(group[0], largest[0])
        for letter, group in names.items()
        if group is not largest
    ]


def _why(other: _Measured, first: _Measured) -> str:
    if other.rows is None or first.rows is None:
        return other.reason or first.reason
    if other.kind != first.kind:
        return f"{other.kind}, and there {first.kind}"
    prints = [one.run.info["dataset"].get("fingerprint") for one in (other, first)]
    if prints[0] != prints[1]:
        why = f"other photos ({_data(other)}, fingerprint {prints[0]}; {_data(first)}, {prints[1]})"
        return why + _other_cut(other, first)
    shared = other.rows.keys() & first.rows.keys()
    if len(shared) < max(len(other.rows), len(first.rows)):
        why = f"other rows of the same photos: {len(other.rows)} and {len(first.rows)}, {len(shared)} of them in both"
        return why + _other_cut(other, first)
    differ = sum(other.rows[row][0] != first.rows[row][0] for row in shared)
    return f"the same rows with other labels ({differ} of {len(shared)})"


def _other_cut(other: _Measured, first: _Measured) -> str:
    """The cause and what to type, where the rows of both were cut from one source with different seeds; else ""."""
    records = [one.run.info for one in (other, first)]
    split = first.figures.get("split")
    if any(split not in info["dataset"].get("cut", ()) for info in records) or other.figures.get("split") != split:
        return ""
    if records[0]["dataset"].get("source") != records[1]["dataset"].get("source"):
        return ""
    # An argument stands in the record where it is not the default, which is the run's own seed.
    seeds = [info.get("arguments", {}).get("split_seed", info.get("seed")) for info in records]
    if seeds[0] == seeds[1]:
        return ""
    return (
        f"; the {split} split was cut from train by seed {seeds[0]}, and there by {seeds[1]}: "
        f"train with --split_seed {seeds[1]}, whatever --seed is"
    )


def _table(runs: Sequence[_Measured], groups: Sequence[Sequence[_Measured]], metric: str) -> str:
    letter = {one.name: name for name, group in zip(_letters(groups), groups, strict=True) for one in group}
    head = ["run", "base model", "data", "split", "n", metric, "95 % interval", "macro F1", "train CPU s", "rows"]
    lines = [head]
    for one in runs:
        seconds, f1 = one.run.info.get("training_cpu_seconds"), one.figures.get("f1_macro")
        lines.append(
            [
                cell(one.name, WIDTH),
                cell(str(one.run.info["base_model"].get("name")), 28),
                cell(_data(one), 28),
                str(one.figures.get("split")),
                str(one.figures.get("n", "–")),
                f"{one.figures[metric]:.3f}",
                in_words(one.figures, metric),
                f"{f1:.3f}" if isinstance(f1, float) else "–",
                f"{seconds:.0f}" if seconds is not None else "–",
                letter[one.name],
            ]
        )
    left = {"run", "base model", "data", "split", "95 % interval", "rows"}
    kept = [
        column
        for column, name in enumerate(head)
        if not (name == "macro F1" and metric == "f1_macro") and not (name == "rows" and len(groups) == 1)
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            f"{line[column]:<{widths[column]}}" if head[column] in left else f"{line[column]:>{widths[column]}}"
            for column in kept
        ).rstrip()
        for line in lines
    )


def _picture(
    runs: Sequence[_Measured],
    groups: Sequence[Sequence[_Measured]],
    tested: Mapping[str, Sequence[dict[str, Any]]],
    metric: str,
) -> Any:
    behind = {
        pair["b"]: pair | {end: pair["difference"] if pair[end] is None else pair[end] for end in _ENDS}
        for best, found in tested.items()
        for pair in found
        if pair["a"] == best
    }
    sizes = {one.figures.get("n") for one in runs}
    words, rows = {one.name: "" for one in runs}, {}
    for letter, group in zip(_letters(groups), groups, strict=True):
        if behind:  # else there is no column of differences, in which to say why one is missing
            of = f" of rows {letter}" if letter else ""
            best = f"best{of}" if tested[group[0].name] else "not tested"
            words[group[0].name] = best if len(group) > 1 else "not comparable"
        for one in group:
            n = f"n = {one.figures.get('n', '–')}" if len(sizes) > 1 else ""
            rows[one.name] = ", ".join(filter(None, [f"rows {letter}" if letter else "", n]))
    ordered = [one for group in groups for one in group]
    shown = f"n = {sizes.pop()}" if len(sizes) == 1 and sizes != {None} else ""
    return plots.comparison(
        [one.name for one in ordered],
        [ends(one.figures, metric) for one in ordered],
        [behind.get(one.name) for one in ordered],
        [words[one.name] for one in ordered],
        metric,
        shown,
        [rows[one.name] for one in ordered],
    )


def _data(one: _Measured) -> str:
    """The source in a word: a Hub id, or the name of a folder or file, without the way to it."""
    dataset = one.run.info["dataset"]
    source = str(dataset.get("source"))
    return source if dataset.get("kind") in ("hub", "sample") else Path(source).name or source
