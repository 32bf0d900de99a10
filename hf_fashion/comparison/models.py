"""Several models, measured together on the same rows: what `recipes/score.py --compare` records and shows."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets

from hf_fashion import metrics, plots
from hf_fashion.comparison.paired import WIDTH, ends, in_words, pairs, verdicts
from hf_fashion.report import cell


def distinct(models: Sequence[str], names: list[str]) -> list[str]:
    """Short names of the models; as much of a folder's path as it takes to tell them apart."""
    for depth in itertools.count(2):
        if len(set(names)) == len(names):
            break
        names = ["/".join(Path(name).resolve().parts[-depth:]) if Path(name).is_dir() else name for name in models]
    return names


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
        [ends(figures, "accuracy") for figures in models.values()],
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
        interval = in_words(figures, "accuracy")
        lines.append(f"{cell(name, WIDTH):<{width}}  {figures['accuracy']:>8.3f}   {interval:<16} {figures['n']:>6}")
    return "\n".join([*lines, "", *verdicts(compared["pairs"])])
