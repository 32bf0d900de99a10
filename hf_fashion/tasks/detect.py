"""Object detection: which garments are in a photo, and where."""

import inspect
import json
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, concatenate_datasets
from transformers import EvalPrediction, PreTrainedModel, Trainer

from hf_fashion import box_augmentation, box_sheets, data, images, metric_modules, plots, record, training
from hf_fashion import metrics as plain_metrics
from hf_fashion.arguments import BoxArguments, CardArguments, DatasetArguments, SplitArguments
from hf_fashion.augmentation import Augmented
from hf_fashion.backbones.detectors import refuse_sides
from hf_fashion.errors import InputError, in_range
from hf_fashion.training.dense import CELLS
from hf_fashion.training.detecting import ROWS, DetectionCollator

# What `compute_metrics` gives, and so what may choose a checkpoint.
METRICS = ("map", "map_50", "map_75")
COLUMNS = Features(
    {
        "image": Image(),
        "objects": {
            "bbox": List(List(Value("float32"), length=4)),
            "category": List(Value("string")),
            "area": List(Value("float32")),
        },
    }
)


@dataclass
class PhotoArguments(DatasetArguments, BoxArguments):
    """Settings that say which photos with boxes, and how to read them."""

    _argument_group_name = "photos"

    dataset: str = field(
        default="sample",
        metadata={
            "help": "Photos with boxes: parquet or a Hub id with a column objects (bbox, category), a COCO json or "
            "the folder that holds it, a YOLO folder (data.yaml), a Pascal VOC folder (Annotations/), 'sample' "
            "(scenes made of the photos that ship with hf_fashion), or the raw files of a public dataset: NAME:FOLDER "
            "with fashionpedia, deepfashion2 or modanet for NAME."
        },
    )


@dataclass
class Arguments(PhotoArguments, SplitArguments, CardArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos, model and method"

    model: str | None = field(
        default=None,
        metadata={
            "help": "The detector to start from: a Hub id or a folder that AutoModelForObjectDetection loads; with "
            "--backbone an architecture, that is built anew: rt_detr_v2, d_fine, detr or conditional_detr. Default: "
            "rt_detr_v2 over efficientnet-lite0."
        },
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    backbone: str | None = field(
        default=None,
        metadata={
            "help": "A classifier (a Hub id, timm/<name>, a folder, efficientnet-lite0) over which a new detector is "
            "built."
        },
    )
    detector_config: dict | str | None = field(
        default=None,
        metadata={"help": "With --backbone: values of the architecture's config as JSON, as '{\"num_queries\": 50}'."},
    )
    freeze: str = field(
        default="none",
        metadata={
            "help": "What does not learn: none of it, backbone, or stages:N (the stem and the first N stages of the "
            "backbone)."
        },
    )
    image_size: list[int] | None = field(
        default=None,
        metadata={
            "help": "Pixels that the net sees: the side of a square, or height and width (384 256); the shorter side "
            "where it sees photos in their own proportions."
        },
    )
    multi_scale: list[int] | None = field(
        default=None,
        metadata={"help": "Sides in pixels of which each training batch takes one at random, as 320 352 384 416."},
    )
    dense: float = field(
        default=0.0,
        metadata={
            "help": "Weight of a second loss, with which up to --dense_cells cells of the encoder learn each box "
            "(RT-DETR, D-FINE): for a new detector and few photos; usual: 1 to 2."
        },
    )
    dense_cells: int = field(
        default=CELLS,
        metadata={"help": "With --dense: cells at most that learn a box. Fewer (4) leave fewer doubles at the end."},
    )
    dense_epochs: int = field(
        default=0,
        metadata={
            "help": "With --dense: so many epochs at the beginning learn by it alone, before the decoder joins (early "
            "stopping counts them, too); for a new detector; usual: a quarter of all."
        },
    )
    smallest_crop: float = field(
        default=0.3,
        metadata={"help": "Half of the training photos are cropped at random; at least this share is kept; 1: none."},
    )
    zoom_out: float = field(
        default=1.0,
        metadata={"help": "Some training photos are laid on a canvas of up to so many times their sides; 1: none."},
    )
    color: float = field(
        default=0.0,
        metadata={
            "help": "Strength of random changes of brightness, contrast and saturation, 0 to 1; not for labels that "
            "name colours."
        },
    )
    flip: bool = field(default=True, metadata={"help": "Mirror half of the training photos; --no_flip: none."})
    sampler: Literal["shuffle", "sqrt", "balanced"] = field(
        default="shuffle",
        metadata={
            "help": "Show photos with rare garments more often: by the square root of how rare the rarest in each is, "
            "or fully."
        },
    )

    @property
    def balance(self) -> float:
        """The exponent of `sampler`."""
        return {"shuffle": 0.0, "sqrt": 0.5, "balanced": 1.0}[self.sampler]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_splits()
        self.refuse_card(self.dataset)
        if self.model is None:
            self.model, self.backbone = "rt_detr_v2", self.backbone or "efficientnet-lite0"
        in_range("smallest_crop", self.smallest_crop, 0.01, 1.0)
        in_range("zoom_out", self.zoom_out, 1.0, 8.0)
        in_range("color", self.color, 0.0, 1.0)
        in_range("dense", self.dense, 0.0, 100.0)
        in_range("dense_cells", self.dense_cells, 1, 1000)
        in_range("dense_epochs", self.dense_epochs, 0, 1e6)
        if self.dense_cells != CELLS and not self.dense:
            raise InputError(
                f"--dense_cells {self.dense_cells}", expected="--dense above 0", found="--dense 0",
                fix="--dense 2, or leave it out",
            )  # fmt: skip
        if self.dense_epochs and not (self.dense and self.backbone):
            raise InputError(
                f"--dense_epochs {self.dense_epochs}", expected="--dense above 0, and a new detector (--backbone)",
                found="a checkpoint, whose decoder it would undo" if self.dense else "--dense 0",
                fix="leave it out" if self.dense else "--dense 2",
            )  # fmt: skip
        if isinstance(self.detector_config, str):
            self.detector_config = _json(self.detector_config)
        for side in self.multi_scale or ():
            in_range("multi_scale", side, 32, 4096)


def _json(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        found: Any = str(error)
    else:
        if isinstance(values, dict):
            return values
        found = type(values).__name__
    raise InputError(
        f"--detector_config {text}",
        expected="a JSON object",
        found=found,
        fix="--detector_config '{\"num_queries\": 50}'",
    )


def classes(dataset: DatasetDict) -> list[str]:
    """The class names of a dataset, in the order of their numbers."""
    return data.box_labels(dataset)


def names(labels: Sequence[str]) -> list[str]:
    """The names of the classes that the model's config holds."""
    return list(labels)


def prepare(
    dataset: Dataset,
    processor: Any,
    *,
    train: bool = False,
    seed: int = 42,
    balance: float = 0.0,
    keyed: bool = False,
    limits: images.Limits = images.LIMITS,
    **augment: Any,
) -> Any:
    """Rows (image, objects) -> examples (pixel_values, labels), made when they are asked for.

    Args:
        dataset: Canonical rows.
        processor: The detector's image processor.
        train: Random crops, flips and colours before the processor's own resize.
        seed: Of the random draws.
        balance: Show photos with rare classes more often: the power of `training.Balanced`, by the rarest class of a
            photo.
        keyed: See `augmentation.Augmented`.
        limits: See `images.decode`.
        **augment: See `box_augmentation.crop_and_flip`.
    """
    kept = ["image", "objects", *(["source_row"] if "source_row" in dataset.column_names else [])]
    rows = dataset.select_columns(kept).cast_column("image", Image(decode=False))
    transform = box_augmentation.crop_and_flip(**augment) if train else None

    def example(row: dict[str, Any]) -> dict[str, Any]:
        photo: Any = images.decode(row["image"], limits=limits)
        objects = row["objects"]
        category, area = np.asarray(objects["category"], dtype=int), np.asarray(objects["area"], dtype=float)
        bbox = np.asarray(objects["bbox"], dtype=np.float32).reshape(-1, 4)
        crowd = np.asarray(objects.get("iscrowd") or np.zeros(len(bbox)), dtype=int)
        if transform is not None:
            one = crowd == 0  # a crowd's box is no garment to be learned
            bbox, category, area, crowd = bbox[one], category[one], area[one], crowd[one]
            photo, bbox, left = transform(photo, bbox)
            category, area, crowd = category[left], area[left], crowd[left]
        annotations = [
            {"bbox": box.tolist(), "category_id": int(number), "area": float(size), "iscrowd": int(many)}
            for box, number, size, many in zip(bbox, category, area, crowd, strict=True)
        ]
        made = processor(
            images=photo, annotations={"image_id": 0, "annotations": annotations}, return_tensors="pt",
            **({} if transform is None else {"input_data_format": "channels_first"}),
        )  # fmt: skip
        return {"pixel_values": made["pixel_values"][0], "labels": dict(made["labels"][0])}

    if train:
        made = Augmented(rows, example, seed, keyed=keyed)
        return training.Balanced(made, rarest(dataset).tolist(), seed, balance) if balance else made
    return _Measured(rows, example)


def rarest(rows: Dataset) -> np.ndarray:
    """Of each row the class of its boxes, crowds left out, that the fewest boxes of all rows have (rows,).

    A row without boxes counts to the class with the most: it is nothing rare.
    """
    objects = rows.with_format(None).select_columns(["objects"])[:]["objects"]
    told = [
        [
            c
            for c, crowd in zip(one["category"], one.get("iscrowd") or [0] * len(one["category"]), strict=True)
            if not crowd
        ]
        for one in objects
    ]
    counts = np.bincount([number for one in told for number in one] or [0])
    usual = int(counts.argmax())
    return np.array([min(one, key=lambda number: (counts[number], number), default=usual) for one in told])


def refuse_without_boxes(dataset: DatasetDict) -> None:
    """Raises InputError for splits without any box, from which nothing is learned and on which nothing is measured."""
    empty = [split for split, rows in dataset.items() if annotations(rows).crowd.all()]
    if empty:
        raise InputError(
            f"the boxes of {', '.join(empty)}", expected="some in each split", found="none, crowds left out",
            fix="photos with boxes; or larger --validation_share and --test_share, or another --split_seed",
        )  # fmt: skip


class _Measured(torch.utils.data.Dataset):
    """Examples of an evaluation, each with its place among the rows."""

    def __init__(self, rows: Dataset, example: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.rows, self.example = rows, example

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.example(self.rows[row]) | {ROWS: row}


def collate(model: PreTrainedModel, sizes: Sequence[int] = (), processor: Any = None) -> DetectionCollator:
    """`data_collator` for the Trainer, for what this net can be told; see there for `sizes`.

    Raises:
        InputError: Sides that the net cannot take, or for a processor whose pictures are no squares.
    """
    refuse_sides(model, sizes)
    shown = {} if processor is None else dict(processor.size)
    if sizes and shown and ("height" not in shown or shown["height"] != shown["width"]):
        raise InputError(
            f"--multi_scale {' '.join(map(str, sizes))}", expected="a net that sees squares, in evaluation too",
            found=_size_in_words(processor).strip(","), fix=f"leave it out, or --image_size {sizes[0]}",
        )  # fmt: skip
    net: Any = model
    net = net.get_base_model() if hasattr(net, "get_base_model") else net  # of one from `add_lora`
    return DetectionCollator(masked="pixel_mask" in inspect.signature(net.forward).parameters, sizes=sizes)


def metrics(rows: Dataset, labels: Sequence[str]) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` for the Trainer: the figures that choose a checkpoint, without intervals.

    Args:
        rows: The split that the Trainer evaluates.
        labels: The class names.
    """
    truth = annotations(rows)

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        found = _detections(np.asarray(prediction.predictions), np.asarray(prediction.label_ids))
        figures = plain_metrics.detection(found, truth, labels, n_resamples=0)
        return {name: float("nan") if figures[name] is None else figures[name] for name in METRICS}

    return compute


def annotations(rows: Dataset) -> plain_metrics.Annotations:
    """The boxes of canonical rows, for `metrics.detection`."""
    told = rows.with_format(None).select_columns(["objects"])[:]["objects"]
    keys = {"boxes": "bbox", "labels": "category", "area": "area", "iscrowd": "iscrowd"}
    return plain_metrics.Annotations.of_images(
        [{name: one[key] for name, key in keys.items() if one.get(key) is not None} for one in told],
        box_format="xywh",
    )


def _detections(found: np.ndarray, places: np.ndarray) -> plain_metrics.Detections:
    """The Trainer's predictions (photos, 100, 6) as flat arrays; `places` are the photos' rows (photos,)."""
    real = found[:, :, 4] >= 0
    flat = found[real].astype(np.float64)
    image = np.broadcast_to(np.asarray(places)[:, None], real.shape)[real]
    corners = flat[:, :4]
    box = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return plain_metrics.Detections(image, box, flat[:, 4], flat[:, 5].astype(int))


def predict(
    trainer: Trainer,
    dataset: DatasetDict,
    processor: Any,
    splits: Sequence[str],
    *,
    limits: images.Limits = images.LIMITS,
) -> Dataset:
    """The boxes of every photo of `splits`, on all devices of the trainer; for `limits` see `images.decode`.

    With a `train` split in the dataset, the score is chosen here, on `validation`, above which most of the boxes are
    right and most of the garments are found (the highest F1 at an IoU of 0.5), and written into the model's config as
    `score_threshold`; `pipeline` takes 0.5 unless it is told.

    Returns:
        Rows (split, row, source_row, image_id, objects, detections): `row` counts within the split, `objects` are the
        true boxes, `detections` {bbox (x, y, width, height in pixels), category, score} the 100 surest, surest first.
    """
    parts = []
    for split in splits:
        rows = dataset[split]
        output: Any = trainer.predict(prepare(rows, processor, limits=limits), metric_key_prefix=split)
        order = np.argsort(output.label_ids, kind="stable")
        found = np.asarray(output.predictions)[order]
        parts.append(_table(split, rows, found))
        if split == "validation" and "train" in dataset:
            said, truth = _detections(found, np.arange(len(found))), annotations(rows)
            model: Any = trainer.accelerator.unwrap_model(trainer.model)
            best = plain_metrics.best_threshold(said, truth)
            model.config.score_threshold = 0.5 if best is None else best  # what `pipeline` takes
    return concatenate_datasets(parts)


def _table(split: str, rows: Dataset, found: np.ndarray) -> Dataset:
    category = rows.features["objects"]["category"].feature
    detections = []
    for photo in found:
        kept = photo[photo[:, 4] >= 0]
        bbox = np.concatenate([kept[:, :2], kept[:, 2:4] - kept[:, :2]], axis=1)
        detections.append(
            {"bbox": bbox.tolist(), "category": kept[:, 5].astype(int).tolist(), "score": kept[:, 4].tolist()}
        )
    features = Features(
        {
            "split": Value("string"),
            "row": Value("int32"),
            "source_row": Value("string"),
            "image_id": Value("string"),
            "objects": rows.features["objects"],
            "detections": {
                "bbox": List(List(Value("float32"), length=4)),
                "category": List(ClassLabel(names=category.names)),
                "score": List(Value("float32")),
            },
        }
    )
    plain = rows.with_format(None)
    table = {
        "split": [split] * len(rows),
        "row": list(range(len(rows))),
        "source_row": list(plain["source_row"]),
        "image_id": list(plain["image_id"]),
        "objects": list(plain["objects"]),
        "detections": detections,
    }
    return Dataset.from_dict(table, features=features)


def as_labelled_by(dataset: DatasetDict, model: PreTrainedModel) -> DatasetDict:
    """The rows with their categories numbered as a finished model numbers them; they are matched by name.

    Raises:
        InputError: A category that the model does not know.
    """
    known = [str(name) for _, name in sorted((model.config.id2label or {}).items())]
    number = {name: place for place, name in enumerate(known)}
    old = data.box_labels(dataset)
    used = {old[c] for rows in dataset.values() for one in rows.with_format(None)["objects"] for c in one["category"]}
    strangers = sorted(used - number.keys())
    if strangers:
        raise InputError(
            f"{len(strangers)} categories of the boxes",
            expected="those that the model knows: " + ", ".join(known[:20]) + (", ..." if len(known) > 20 else ""),
            found=", ".join(strangers[:20]) + (", ..." if len(strangers) > 20 else ""),
            fix="rename the categories to the model's, spelt as it spells them, or leave those boxes out",
        )

    def relabel(rows: Dataset) -> Dataset:
        told = [
            one | {"category": [number[old[c]] for c in one["category"]]} for one in rows.with_format(None)["objects"]
        ]
        kind = dict(rows.features["objects"]) | {"category": List(ClassLabel(names=known))}
        return rows.remove_columns("objects").add_column("objects", told, feature=kind)

    return DatasetDict({split: relabel(rows) for split, rows in dataset.items()})


def evaluate(predictions: Dataset, labels: Sequence[str], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Split -> the figures of `metrics.detection`, computed by its `evaluate` module; and the errors by kind."""

    def inputs(rows: Dataset) -> dict[str, Any]:
        said, truth = _said(rows), _true(rows)
        return {"predictions": said, "references": truth, "labels": list(labels), "box_format": "xywh", "seed": seed}

    results = metric_modules.by_split("fashion_detection", predictions, inputs)
    for split, figured in results.items():
        rows = record.of_split(predictions, split)
        said = plain_metrics.Detections.of_images(_said(rows), box_format="xywh")
        truth = plain_metrics.Annotations.of_images(_true(rows), box_format="xywh")
        errors = plain_metrics.detection_errors(said, truth, labels)
        figured |= {f"errors/{name}": value for name, value in errors.items()}
    return results


def _said(rows: Dataset) -> list[dict[str, Any]]:
    told = rows.with_format(None)["detections"]
    return [{"boxes": one["bbox"], "scores": one["score"], "labels": one["category"]} for one in told]


def _true(rows: Dataset) -> list[dict[str, Any]]:
    told = rows.with_format(None)["objects"]
    return [
        {"boxes": one["bbox"], "labels": one["category"], "area": one["area"], "iscrowd": one.get("iscrowd") or []}
        for one in told
    ]


def figures(
    predictions: Dataset,
    results: Mapping[str, Mapping[str, Any]],
    dataset: DatasetDict,
    *,
    split: str = "test",
    history: Sequence[Mapping[str, Any]] = (),
    metric: str = "map",
    best_step: int | None = None,
    threshold: float | None = None,
    dense_epochs: int = 0,
    limits: images.Limits = images.LIMITS,
) -> dict[str, Any]:
    """Name -> matplotlib figure: learning curve (after a training), AP by class, precision and recall, errors by kind,
    and photos with their boxes: the best, the worst, and those with the most garments missed.

    Args:
        predictions: Of `predict`.
        results: Of `evaluate`.
        dataset: The photos.
        split: The one that is shown.
        history: The log of the training.
        metric: What chose the checkpoint.
        best_step: Its step.
        threshold: Boxes of a lower score are not drawn on photos; None for 0.5, which `pipeline` takes.
        dense_epochs: So many epochs the training's loss was that of the cells alone, which is lower.
        limits: See `images.decode`.
    """
    labels, figured = data.box_labels(dataset), results[split]
    of_split = f"{split} split, n = {figured['n']} photos"
    drawn: dict[str, Any] = {}
    if history:
        title = f"Loss (training: of the cells alone up to epoch {dense_epochs})" if dense_epochs else "Loss"
        drawn["learning_curve"] = plots.learning_curve(history, metric, best_step, title)
    present = [label for label in labels if figured[f"n/{label}"]]
    missing = len(labels) - len(present)
    often = set(sorted(present, key=lambda label: -figured[f"n/{label}"])[: plots.MOST_ROWS])
    cut = f" (the {plots.MOST_ROWS} most frequent of {len(present)})" if len(present) > plots.MOST_ROWS else ""
    cut += f"; not shown: {missing} class{'es' * (missing > 1)} with no box" if missing else ""
    present = [label for label in present if label in often]
    value, low, high = ([figured[f"{key}/{label}"] for label in present] for key in ("ap", "ap_low", "ap_high"))
    counts = [figured[f"n/{label}"] for label in present]
    title = f"AP by class with 95 % intervals, {of_split}{cut}"
    drawn["ap_by_class"] = plots.intervals(present, value, low, high, counts, title)
    rows = record.of_split(predictions, split)
    said = plain_metrics.Detections.of_images(_said(rows), box_format="xywh")
    truth = plain_metrics.Annotations.of_images(_true(rows), box_format="xywh")
    curves = plain_metrics.precision_recall(said, truth, labels)
    drawn["precision_recall"] = plots.precision_recall(
        curves.recall, curves.precision, curves.labels, [figured[f"n/{label}"] for label in labels],
        f"Precision and recall at IoU 0.5, {of_split}",
    )  # fmt: skip
    kinds = plain_metrics.ERROR_KINDS
    drawn["errors"] = plots.detection_errors(
        {kind: figured[f"errors/d_ap/{kind}"] or 0.0 for kind in kinds},
        {kind: figured[f"errors/n/{kind}"] for kind in kinds},
        f"What each kind of error costs of mAP at IoU 0.5, {of_split}",
    )
    return drawn | box_sheets.draw(
        dataset[split], rows["image_id"], said, truth, labels, 0.5 if threshold is None else threshold, of_split,
        limits=limits,
    )  # fmt: skip


def usage(model: str, photo: str) -> str:
    """The code with which anybody uses the model; cards execute it before they show it."""
    return textwrap.dedent(f"""
        from transformers import pipeline

        detect = pipeline("object-detection", model={json.dumps(model)})
        for found in detect({json.dumps(photo)}, threshold=detect.model.config.score_threshold):
            print(f"{{found['score']:.3f}}  {{found['label']}}  {{found['box']}}")
    """).strip()


def example_label(row: Mapping[str, Any], labels: Sequence[str]) -> str:
    """What is in a photo, in words: for the card's example."""
    there = [labels[number] for number in row["objects"]["category"]]
    counts = {name: there.count(name) for name in dict.fromkeys(there)}
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts.items()) or "nothing"


def shown(rows: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> Iterable[tuple[Any, str]]:
    """Photos with what is in them, for the examples on the card."""
    return ((row["image"], example_label(row, labels)) for row in rows)


def facts(
    model: PreTrainedModel,
    processor: Any,
    dataset: DatasetDict,
    results: Mapping[str, Mapping[str, Any]],
    split: str = "test",
    chosen_by: str | None = None,
) -> dict[str, Any]:
    """What the card says in words: how a photo comes in, how the figures came about, where the model is weak.

    Args:
        model: The net that was measured.
        processor: Its image processor.
        dataset: The splits.
        results: Split -> figures.
        split: The one that is reported.
        chosen_by: The metric that chose the checkpoint on validation; None when the last one was taken.
    """
    figured, labels = results[split], data.box_labels(dataset)
    present = [label for label in labels if figured[f"n/{label}"]]
    if chosen_by is not None:
        selection = f"The checkpoint was chosen by {chosen_by} on {len(dataset['validation'])} validation photos; "
    else:
        selection = "The weights of the last step were taken; " if "train" in dataset else ""
    told = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
    threshold = getattr(model.config, "score_threshold", None)
    return {
        "kind": "detection",
        "model_type": model.config.model_type,
        "needs_timm": getattr(getattr(model.config, "backbone_config", None), "model_type", "") == "timm_backbone",
        "opening": f"An object detector: one photo in, boxes of {len(labels)} classes out ({told}).",
        "headline_metric": "map",
        "by_class": "ap",
        "card_figures": CARD_FIGURES,
        "score_threshold": threshold,
        "threshold_found": bool(results.get("validation", {}).get("map_50")),
        "preprocessing": f"resized to {_size_in_words(processor)} by the processor in the folder",
        "protocol": f"{selection}{'m' if selection else 'M'}easured once on all {figured['n']} photos of the {split} "
        f"split ({figured['n_boxes']} boxes) as COCO does: the 100 surest boxes of a photo, IoU 0.50 to 0.95, areas "
        "as the dataset gives them; intervals: bootstrap over photos, 200 draws.",
        "weakest": min(present, key=lambda label: (figured[f"ap/{label}"], -figured[f"n/{label}"])),
    }


CARD_FIGURES = {
    "map": {"type": "mean_average_precision", "name": "mAP (IoU 0.50 to 0.95)"},
    "map_50": {"type": "mean_average_precision", "name": "mAP at IoU 0.50", "args": {"iou": 0.5}},
    "map_75": {"type": "mean_average_precision", "name": "mAP at IoU 0.75", "args": {"iou": 0.75}},
    "mar_100": {"type": "recall", "name": "Mean average recall, 100 boxes", "args": {"max_detections": 100}},
}


def _size_in_words(processor: Any) -> str:
    size = dict(processor.size)
    if "height" in size:
        return f"{size['height']} x {size['width']} pixels"
    return f"a shorter side of {size['shortest_edge']} pixels, the longer one {size['longest_edge']} at most,"
