"""Lay finished runs side by side, best first, and say which differences are more than chance.

    hf-fashion compare runs/*
    hf-fashion compare runs/* --metric f1_macro --to comparison.png

Only runs that were measured on the same rows, with the same labels, are set against each other: their predictions are
paired row by row. `recipes/score.py --compare` brings models of one label a photo, of any origin, to the same rows.
Runs of attributes are compared by `--metric map`.
"""

import argparse
import itertools
import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Value, concatenate_datasets, disable_progress_bars

from hf_fashion import metrics, plots, record
from hf_fashion.errors import InputError, command
from hf_fashion.report import cell

WIDTH = 80  # characters of a run's or a model's name
ONE_LABEL, ATTRIBUTES = "one label a photo", "attributes"
_ENDS = ("difference_low", "difference_high")
TESTED = {ONE_LABEL: "accuracy", ATTRIBUTES: "map"}  # by which pairs are tested


def pairs(right: Mapping[str, np.ndarray], *, seed: int = 0) -> list[dict[str, Any]]:
    """`metrics.paired` of every two models, the more accurate one first.

    With more than two models there are several tests, and a false alarm becomes likelier with each: p is corrected
    (`metrics.holm`), and the verdict goes by the corrected one. Intervals are of each pair alone.

    Args:
        right: Model -> (n,) whether its predictions are right; the same rows in the same order for all.
        seed: Seed of the bootstrap.

    Returns:
        For each pair the figures of `metrics.paired`, the names `a` and `b`, `p_holm`, `tie` by that p, `tests` (how
        many pairs there are) and `verdict`, a sentence.
    """
    order = sorted(right, key=lambda name: -right[name].mean())
    found = [
        {"a": a, "b": b, **metrics.paired(right[a], right[b], seed=seed)} for a, b in itertools.combinations(order, 2)
    ]
    return _corrected(found)


def _corrected(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for pair, p in zip(found, metrics.holm([pair["p"] for pair in found]), strict=True):
        pair |= {"p_holm": p, "tie": pair["tie"] or p >= 0.05, "tests": len(found)}
        pair["verdict"] = _verdict(pair)
    return found


def pairs_by_map(scores: Mapping[str, np.ndarray], references: np.ndarray, *, seed: int = 0) -> list[dict[str, Any]]:
    """`metrics.paired_map` of every two models, the one of the higher mean average precision first.

    Args:
        scores: Model -> (n, K) probabilities; the same rows and labels in the same order for all.
        references: (n, K) of 1, 0 and NaN (not known).
        seed: Seed of the bootstrap.

    Returns:
        As `pairs`, with the figures of `metrics.paired_map`.
    """
    names = list(scores)
    compared = metrics.paired_map(list(scores.values()), references, seed=seed)
    order = sorted(range(len(names)), key=lambda number: -compared[number][number]["map_a"])
    found = [{"a": names[a], "b": names[b], **compared[a][b]} for a, b in itertools.combinations(order, 2)]
    return _corrected(found)


def gather(predictions: Mapping[str, Dataset]) -> Dataset:
    """The predictions of several models as one table with a `model` column.

    Models may number their labels differently, or know others: here all are numbered alike, by name. A label that a
    model does not know has the score 0 there.

    Args:
        predictions: Model -> rows (split, row, source_row, label, prediction, score, scores).

    Returns:
        Rows (model, split, row, source_row, label, prediction, score, scores), model after model.
    """
    names = list(dict.fromkeys(name for rows in predictions.values() for name in rows.features["label"].names))
    label = ClassLabel(names=names)
    parts = []
    for model, rows in predictions.items():
        places = np.array([names.index(name) for name in rows.features["label"].names])
        scores = np.zeros((len(rows), len(names)), dtype=np.float32)
        scores[:, places] = np.asarray(rows["scores"][:], dtype=np.float32)
        table: dict[str, Any] = {
            "model": [model] * len(rows),
            **{name: rows[name][:] for name in ("split", "row", "source_row")},
            "label": places[rows["label"][:]].tolist(),
            "prediction": places[rows["prediction"][:]].tolist(),
            "score": rows["score"][:],
            "scores": scores.tolist(),
        }
        kept = {name: rows.features[name] for name in ("split", "row", "source_row", "score", "scores")}
        features = {"model": Value("string"), **kept, "label": label, "prediction": label}
        parts.append(Dataset.from_dict(table, features=Features({name: features[name] for name in table})))
    return concatenate_datasets(parts)


def results(predictions: Dataset, figures: Mapping[str, Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """What eval_results.json says of a comparison: the figures of each model, best first, and of each pair.

    Args:
        predictions: As `gather` gives them.
        figures: Model -> flat dict of `metrics.classification`.
        seed: Seed of the bootstraps.

    Returns:
        `n`, `best` (the most accurate model), `models` (name -> figures) and `pairs` (see `pairs`; the difference of
        macro F1 is there too, `f1_macro_difference` with its interval).
    """
    model = np.asarray(predictions["model"][:])
    label, said = (np.asarray(predictions[name][:]) for name in ("label", "prediction"))
    of = {name: model == name for name in figures}
    compared = pairs({name: label[rows] == said[rows] for name, rows in of.items()}, seed=seed)
    for pair in compared:
        a, b = of[pair["a"]], of[pair["b"]]
        pair |= metrics.paired_f1_macro(said[a], said[b], label[a], seed=seed)
    order = [compared[0]["a"], *(pair["b"] for pair in compared if pair["a"] == compared[0]["a"])]
    return {
        "n": compared[0]["n"],
        "best": order[0],
        "models": {name: dict(figures[name]) for name in order},
        "pairs": compared,
    }


def figure(compared: Mapping[str, Any], split: str = "test") -> Any:
    """The matplotlib figure of `results`: accuracy of each model, and the difference to the best."""
    models, best = compared["models"], compared["best"]
    behind = {pair["b"]: pair for pair in compared["pairs"] if pair["a"] == best}
    return plots.comparison(
        list(models),
        [_ends(figures, "accuracy") for figures in models.values()],
        [behind.get(name) for name in models],
        ["most accurate" if name == best else "" for name in models],
        "accuracy",
        f"{split} split, n = {compared['n']}",
    )


def summary(compared: Mapping[str, Any], split: str = "test") -> str:
    """What a comparison ends with: a line a model (accuracy, interval, n), then a line a pair."""
    width = max(5, *(len(cell(name, WIDTH)) for name in compared["models"]))
    lines = [f"{'model':<{width}}  accuracy   {'95 % interval':<16} {'n':>6}   ({split})"]
    for name, figures in compared["models"].items():
        interval = _interval(figures, "accuracy")
        lines.append(f"{cell(name, WIDTH):<{width}}  {figures['accuracy']:>8.3f}   {interval:<16} {figures['n']:>6}")
    return "\n".join([*lines, "", *_verdicts(compared["pairs"])])


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
                print("\n".join(_verdicts(tested[group[0].name], best=group[0].name)))
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
                _interval(one.figures, metric),
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
        [_ends(one.figures, metric) for one in ordered],
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


def _ends(figures: Mapping[str, Any], metric: str) -> tuple[float, float | None, float | None]:
    low, high = (figures.get(key) for key in metrics.interval_keys(metric))
    return figures[metric], low, high


def _interval(figures: Mapping[str, Any], metric: str) -> str:
    _, low, high = _ends(figures, metric)
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _verdicts(found: Sequence[Mapping[str, Any]], best: str | None = None) -> list[str]:
    """A line a pair, of the best one's only when it is named; and how p was corrected."""
    lines = [pair["verdict"] for pair in found if best is None or pair["a"] == best]
    if len(found) > 1:
        lines.append(
            f"p is Holm's, for {len(found)} pairs; intervals (95 %) are of each pair alone. "
            "A tie: p is not below 0.05, or the interval holds 0."
        )
    return lines


def _verdict(pair: Mapping[str, Any]) -> str:
    points, low, high = (pair[key] for key in ("difference", "difference_low", "difference_high"))
    p = "p < 0.001" if pair["p_holm"] < 0.001 else f"p = {pair['p_holm']:.3f}"
    test = "paired bootstrap" if "map_a" in pair else "McNemar"
    test = f"{test} {p}{' (Holm)' if pair['tests'] > 1 else ''}, n = {pair['n']}"
    a, b = (cell(pair[name], WIDTH) for name in ("a", "b"))
    between = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    if pair["tie"]:
        return f"a tie: {a} and {b}, {100 * points:.1f} points apart{between}, {test}"
    return f"{a} is better than {b} by {100 * points:.1f} points{between}, {test}"
