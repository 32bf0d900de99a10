"""Attributes: one photo, several columns of labels; the functions are those of `classify`."""

import itertools
import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, concatenate_datasets
from transformers import EvalPrediction, PreTrainedModel, Trainer

from hf_fashion import attributes, backbones, data, examples, images, metric_modules, plots, record
from hf_fashion import metrics as plain_metrics
from hf_fashion.attributes import Group
from hf_fashion.errors import InputError

METRICS = ("map", "f1_macro")
SHOWN = 18  # photos on the sheet of mistakes


def classes(dataset: DatasetDict) -> list[Group]:
    """The groups of labels of a dataset.

    Raises:
        InputError: Nothing is known of the validation photos, by which checkpoint and thresholds are chosen.
    """
    groups = attributes.of_dataset(dataset)
    rows = dataset.get("validation")
    if rows is not None and not any(data.class_counts(rows, group.name).any() for group in groups):
        raise InputError(
            "split validation", expected="photos with labels in " + ", ".join(group.name for group in groups),
            found="none", fix="move some photos with labels to validation",
        )  # fmt: skip
    return groups


def names(groups: Sequence[Group]) -> list[str]:
    """The names of the logits."""
    return attributes.names(groups)


def config(groups: Sequence[Group]) -> dict[str, Any]:
    """What the model's config says of its labels."""
    return {"problem_type": "multi_label_classification"} | attributes.describe(groups)


def prepare(
    dataset: Dataset,
    processor: Any,
    *,
    train: bool = False,
    seed: int = 42,
    balance: float = 0.0,
    keyed: bool = False,
    limits: images.Limits = images.LIMITS,
    features: Any = None,
    kept: Any = None,
    **augment: Any,
) -> Any:
    """Rows (image, a column for each group) -> examples (pixel_values, labels), made when they are asked for.

    `labels` are (K,) float32: 1, 0, and NaN where it is not known; see `classify.prepare` for the rest.

    Raises:
        InputError: `balance`: a photo has labels of several groups, and cannot be shown more often for one alone.
    """
    refuse(sampler=balance)
    groups = attributes.of_dataset(DatasetDict({"rows": dataset}))
    columns = [group.name for group in groups]

    def target(row: Mapping[str, Any]) -> np.ndarray:
        return attributes.encode(row, groups)

    if train:
        return examples.of_training(
            dataset,
            processor,
            columns,
            target,
            seed=seed,
            keyed=keyed,
            limits=limits,
            features=features,
            kept=kept,
            **augment,
        )
    return examples.of_evaluation(dataset, processor, columns, target, limits=limits, features=features, kept=kept)


def metrics(groups: Sequence[Group]) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` for the Trainer; F1 at the threshold 0.5, since better ones are chosen at the end only."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        scores = attributes.probabilities(np.asarray(prediction.predictions), groups)
        said = attributes.decide(scores, groups, np.full(scores.shape[1], attributes.HALF))
        figures = _figures(groups, scores, np.asarray(prediction.label_ids), said, n_resamples=0)
        return {name: figures[name] for name in METRICS if figures[name] is not None}

    return compute


def predict(
    trainer: Trainer,
    dataset: DatasetDict,
    processor: Any,
    splits: Sequence[str],
    *,
    limits: images.Limits = images.LIMITS,
) -> Dataset:
    """Scores of every photo of `splits`, and what is said at the model's thresholds.

    With a `train` split in the dataset, the thresholds are chosen here, on `validation`, and written into the model's
    config; a finished model brings its own.

    Returns:
        Rows (split, row, source_row, labels, predictions, references, scores): `labels` are those that a photo has,
        `predictions` those that were said, `references` 1, 0 and NaN (not known), `scores` probabilities, these two in
        the order of the model's labels.
    """
    groups = attributes.of_dataset(dataset)
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    outputs = {
        split: trainer.predict(prepare(dataset[split], processor, limits=limits), metric_key_prefix=split)
        for split in splits
    }
    scores = {
        split: attributes.probabilities(np.asarray(output.predictions), groups) for split, output in outputs.items()
    }
    truth = {split: np.asarray(output.label_ids) for split, output in outputs.items()}
    if "train" in dataset and "validation" in scores:
        chosen = attributes.choose_thresholds(scores["validation"], truth["validation"], groups)
        model.config.update(attributes.describe(groups, chosen))
    thresholds = attributes.thresholds_of(model.config, groups)
    label = ClassLabel(names=attributes.names(groups))
    features = Features(
        {
            "split": Value("string"),
            "row": Value("int32"),
            "source_row": Value("string"),
            "labels": List(label),
            "predictions": List(label),
            "references": List(Value("float32")),
            "scores": List(Value("float32")),
        }
    )
    parts = []
    for split in splits:
        said = attributes.decide(scores[split], groups, thresholds)
        table = {
            "split": [split] * len(dataset[split]),
            "row": list(range(len(dataset[split]))),
            "source_row": dataset[split]["source_row"],
            "labels": [np.flatnonzero(row == 1).tolist() for row in truth[split]],
            "predictions": [np.flatnonzero(row).tolist() for row in said],
            "references": truth[split].tolist(),
            "scores": scores[split].tolist(),
        }
        parts.append(Dataset.from_dict({name: list(column) for name, column in table.items()}, features=features))
    return concatenate_datasets(parts)


def as_labelled_by(dataset: DatasetDict, model: PreTrainedModel) -> DatasetDict:
    """The rows with the columns and numbers of a finished model; a group that they do not have is not known of them.

    Raises:
        InputError: A label that the model does not know, or a group of another kind.
    """
    groups = attributes.of_config(model.config) or []
    theirs = {group.name: group for group in attributes.of_dataset(dataset)}
    strange = sorted(theirs.keys() - {group.name for group in groups})
    if strange:
        raise InputError(
            "columns of attributes", expected="those that the model knows: " + ", ".join(g.name for g in groups),
            found=", ".join(strange), fix="--label_columns with some of these; rename the columns of the photos",
        )  # fmt: skip
    for group in groups:
        other = theirs.get(group.name)
        if other is None:
            continue
        used = {
            other.labels[number]
            for rows in dataset.values()
            for value in rows[group.name]
            if value is not None
            for number in (value if other.many else [value])
        }
        strangers = sorted(used - set(group.labels))
        if strangers or other.many and not group.many:
            raise InputError(
                f"column {group.name} of the photos",
                expected="labels that the model knows: " + ", ".join(group.labels[:20]),
                found=", ".join(strangers[:20]) or "several labels a row, where the model knows one",
                fix="rename the labels to the model's, or leave those photos out",
            )

    def relabel(rows: Dataset) -> Dataset:
        told = {}
        for group in groups:
            if group.name not in theirs:
                told[group.name] = [None] * len(rows)
                continue
            other, number = theirs[group.name], {label: place for place, label in enumerate(group.labels)}
            told[group.name] = [_renumber(value, other, group, number) for value in rows[group.name]]
        rows = rows.select_columns(["image", "source_row"])
        for group in groups:
            label = ClassLabel(names=list(group.labels))
            rows = rows.add_column(group.name, told[group.name], feature=List(label) if group.many else label)
        return rows

    return DatasetDict({split: relabel(rows) for split, rows in dataset.items()})


def _renumber(value: Any, theirs: Group, group: Group, number: Mapping[str, int]) -> Any:
    if value is None:
        return None
    numbers = [number[theirs.labels[old]] for old in (value if theirs.many else [value])]
    return numbers if group.many else numbers[0]


def evaluate(predictions: Dataset, groups: Sequence[Group], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Split -> the figures of `metrics.attributes`, computed by its `evaluate` module."""

    def inputs(rows: Dataset) -> dict[str, Any]:
        return {
            "predictions": rows["scores"], "references": rows["references"], "said": _said(rows), "seed": seed,
            **_naming(groups),
        }  # fmt: skip

    return metric_modules.by_split("fashion_attributes", predictions, inputs)


def figures(
    predictions: Dataset,
    results: Mapping[str, Mapping[str, Any]],
    dataset: DatasetDict,
    *,
    split: str = "test",
    history: Sequence[Mapping[str, Any]] = (),
    metric: str = "map",
    best_step: int | None = None,
    limits: images.Limits = images.LIMITS,
) -> dict[str, Any]:
    """Name -> matplotlib figure: learning curve (after a training), F1 by label, confusions of each exclusive group,
    and the surest mistakes with their photos, each photo once.

    A value that no photo has is left out, and the titles say how many such values there are.
    """
    groups, figured = attributes.of_dataset(dataset), results[split]
    of_split = f"{split} split, n = {figured['n']}"
    drawn = {}
    if history:
        drawn["learning_curve"] = plots.learning_curve(history, metric, best_step)
    present = _present(groups, figured)
    # Of many labels the frequent ones: the weakest would be those of one photo, about which nothing can be said.
    often = set(sorted(present, key=lambda label: -figured[f"n/{label}"])[: plots.MOST_ROWS])
    cut = f" (the {plots.MOST_ROWS} most frequent of {len(present)})" if len(present) > plots.MOST_ROWS else ""
    cut += _not_shown(sum(len(group.labels) for group in groups) - len(present), "label", "no photo")
    present = [label for label in present if label in often]
    value, low, high = ([figured[f"{key}/{label}"] for label in present] for key in ("f1", "f1_low", "f1_high"))
    counts = [figured[f"n/{label}"] for label in present]
    title = f"F1 by label with 95 % intervals, {of_split}{cut}"
    drawn["f1_by_label"] = plots.intervals(present, value, low, high, counts, title)
    rows = record.of_split(predictions, split)
    truth, said, scores = np.asarray(rows["references"], dtype=float), _said(rows), np.asarray(rows["scores"])
    for name, group in _confusion_plots(groups).items():
        known = ~np.isnan(truth[:, group.start])
        if known.any():
            pairs = truth[known][:, group.span].argmax(axis=1), said[known][:, group.span].argmax(axis=1)
            matrix = np.zeros((len(group.labels),) * 2, dtype=int)
            np.add.at(matrix, pairs, 1)
            occurs = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
            title = f"{group.name}: confusions, {split} split, n = {known.sum()}"
            title += _not_shown(len(group.labels) - len(occurs), "value", "no photo and no prediction")
            drawn[name] = plots.confusion_matrix(
                matrix[np.ix_(occurs, occurs)].tolist(), [group.labels[place] for place in occurs], title
            )
    wrong = _mistakes(groups, truth, said, scores)
    first: dict[int, tuple[int, str, str, str, float]] = {}
    for mistake in wrong:
        first.setdefault(mistake[0], mistake)  # a photo of which much is wrong would fill the sheet
    surest = list(first.values())[:SHOWN]
    drawn["surest_mistakes"] = plots.photo_sheet(
        examples.photos(dataset[split], [row for row, *_ in surest], limits=limits),
        [f"{group}\n{is_}\n{said_} {score:.2f}" for _, group, is_, said_, score in surest],
        f"Surest of {len(wrong)} mistakes, one a photo, {of_split}" + ", the attributes in turn" * (len(groups) > 1),
    )
    return drawn


def _present(groups: Sequence[Group], figured: Mapping[str, Any]) -> list[str]:
    """The labels that some photo has: of any other F1 is 0 or nothing, whatever the model can do."""
    return [label for label in attributes.names(groups) if figured[f"n/{label}"]]


def _not_shown(number: int, what: str, lacks: str) -> str:
    if not number:
        return ""
    return f"; not shown: {number} {what}{'s' * (number > 1)} with {lacks}"


def _confusion_plots(groups: Sequence[Group]) -> dict[str, Group]:
    """Name of the plot, fit for a file and an address -> the group; of exclusive groups only."""
    found: dict[str, Group] = {}
    for group in groups:
        if group.many:
            continue
        name = plain = "confusion_matrix_" + re.sub(r"[^a-z0-9]+", "-", group.name.lower()).strip("-")[:60]
        number = 1
        while name in found or name == "confusion_matrix_":  # nothing but letters of other scripts
            number += 1
            name = f"{plain.rstrip('_')}_{number}"
        found[name] = group
    return found


def usage(model: str, photo: str) -> str:
    """The code with which anybody uses the model; cards execute it before they show it."""
    return textwrap.dedent(f"""
        from transformers import pipeline

        tag = pipeline("image-classification", model={json.dumps(model)})
        config = tag.model.config
        scores = {{guess["label"]: guess["score"] for guess in tag({json.dumps(photo)}, top_k=config.num_labels)}}
        for name, group in config.attribute_groups.items():
            if group["many"]:
                print([label for label in group["labels"] if scores[label] >= config.thresholds[label]])
            else:
                print(max(group["labels"], key=scores.get))
    """).strip()


def example_label(row: Mapping[str, Any], groups: Sequence[Group]) -> str:
    """What a row is, in words: for the card's example."""
    target = attributes.encode(row, groups)
    return ", ".join(label for label, value in zip(attributes.names(groups), target, strict=True) if value == 1)


def facts(
    model: PreTrainedModel,
    processor: Any,
    dataset: DatasetDict,
    results: Mapping[str, Mapping[str, Any]],
    split: str = "test",
    chosen_by: str | None = None,
    predictions: Dataset | None = None,
) -> dict[str, Any]:
    """What the card says in words; see `classify.facts`. Of attributes, `predictions` tell it nothing."""
    groups, figured = attributes.of_dataset(dataset), results[split]
    present = _present(groups, figured)
    only_said = sum(figured[f"f1/{label}"] is not None for label in attributes.names(groups)) - len(present)
    macro = ""
    if only_said:
        labels = f"{only_said} label{'s' * (only_said > 1)} that no photo has and that the model said"
        macro = (
            f" In the macro F1 (precision, recall) {labels} count{'s' * (only_said == 1)} as 0, as in scikit-learn."
        )
    if chosen_by is not None:
        selection = f"The checkpoint was chosen by {chosen_by} on {len(dataset['validation'])} validation photos"
    else:
        selection = "The weights of the last step were taken" if "train" in dataset else ""
    if any(group.many for group in groups) and "train" in dataset:
        selection += ", and the threshold of each label by its F1 there"
    told = "; ".join(f"{group.name} ({'any of' if group.many else 'one of'} {len(group.labels)})" for group in groups)
    return {
        "kind": "attributes",
        "groups": {group.name: attributes.names(groups)[group.span] for group in groups},
        "model_type": model.config.model_type,
        "opening": f"A tagger of photos: one photo in, {len(groups)} attribute{'s' * (len(groups) > 1)} out: {told}.",
        "headline_metric": "map",
        "preprocessing": backbones.input_spec(processor).in_words(),
        "protocol": f"{selection}{'; m' if selection else 'M'}easured once on all {figured['n']} photos of the "
        f"{split} split, one view a photo, each label on the photos of which its attribute is known. Of an attribute "
        "with one label a photo the highest softmax score is the prediction; of others, all labels whose sigmoid "
        "score reaches their threshold." + macro,
        "captions": {plot: f"{group.name}: confusion matrix" for plot, group in _confusion_plots(groups).items()},
        # Of equal ones the one of most photos, of which it is known best.
        "weakest": min(present, key=lambda label: (figured[f"f1/{label}"], -figured[f"n/{label}"]), default=""),
    }


def loss(
    groups: Sequence[Group],
    rows: Dataset,
    *,
    weights: float = 0.0,
    focal_gamma: float = 0.0,
    smoothing: float = 0.0,
) -> Callable[..., torch.Tensor]:
    """`compute_loss_func` for the Trainer, see `attributes.loss`.

    Raises:
        InputError: Class weights, focal loss or label smoothing, which are for one label a photo.
    """
    refuse(class_weights=weights, focal_gamma=focal_gamma, label_smoothing_factor=smoothing)
    return attributes.loss(groups)


def refuse(**settings: float) -> None:
    """Raises InputError for a setting of a training that is for one label a photo; a recipe asks before it reads.

    Args:
        **settings: Any of `class_weights`, `sampler`, `focal_gamma` and `label_smoothing_factor`; 0 is off.
    """
    off = {"class_weights": "none", "sampler": "shuffle", "focal_gamma": "0", "label_smoothing_factor": "0"}
    for name, value in settings.items():
        if value:
            raise InputError(
                f"--{name}", expected="a run with one label a photo", found="attributes",
                fix=f"--{name} {off[name]}",
            )  # fmt: skip


def _naming(groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "labels": attributes.names(groups),
        "groups": {group.name: list(range(group.start, group.span.stop)) for group in groups},
        "exclusive": [group.name for group in groups if not group.many],
    }


def _figures(
    groups: Sequence[Group], scores: np.ndarray, references: np.ndarray, said: np.ndarray, **options: Any
) -> dict[str, Any]:
    return plain_metrics.attributes(scores, references, said, **_naming(groups), **options)


def _said(rows: Dataset) -> np.ndarray:
    """The predictions as (n, K) bool."""
    said = np.zeros((len(rows), rows.features["predictions"].feature.num_classes), dtype=bool)
    for row, numbers in zip(said, rows["predictions"], strict=True):
        row[numbers] = True
    return said


def _mistakes(
    groups: Sequence[Group], truth: np.ndarray, said: np.ndarray, scores: np.ndarray
) -> list[tuple[int, str, str, str, float]]:
    """(row, attribute, what it is, what was said, how surely): one of each attribute in turn, surest first.

    Without turns an attribute of many values, about which a net is surest, would be all that is seen.
    """
    by_group = []
    for group in groups:
        found = []
        true, told, score = truth[:, group.span], said[:, group.span], scores[:, group.span]
        for row, number in np.argwhere(told & (true == 0)):
            label, surely = group.labels[number], float(score[row, number])
            if group.many:
                found.append((int(row), group.name, f"not {label}", "said so", surely))
            else:
                found.append((int(row), group.name, f"is {group.labels[true[row].argmax()]}", f"said {label}", surely))
        for row, number in np.argwhere(~told & (true == 1)) if group.many else ():
            surely = 1 - float(score[row, number])
            found.append((int(row), group.name, f"is {group.labels[number]}", "said not", surely))
        by_group.append(sorted(found, key=lambda mistake: -mistake[-1]))
    return [mistake for turn in itertools.zip_longest(*by_group) for mistake in turn if mistake is not None]
