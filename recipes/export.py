# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[export]"]
# ///
"""Export a classifier, detector or encoder to ONNX, OpenVINO or LiteRT, if the file still says what the model says.

    hf-fashion export runs/classify-1 --dataset sample -o exported
    hf-fashion export runs/classify-1 --dataset ./photos --precision int8 -o exported-int8
    hf-fashion export runs/detector --dataset instances.json --format openvino --precision bf16 -o server
    hf-fashion export runs/classify-1 --dataset ./photos --format litert --precision int8 -o phone
    hf-fashion export runs/retrieve-1 --dataset photos.csv --item_column sku -o encoder
    python -c "from hf_fashion import runtime; print(runtime.load('exported')('photo.jpg'))"

Both are asked about the photos of validation and test; when they agree in less than --least_agreement, there is no
file, and parity.json says where they differ. int8 measures its ranges on training photos; where it harms, photos of
validation decide which layers stay in float, and those of test are measured by themselves, too.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, concatenate_datasets

from hf_fashion import checks, data, exporting, record, settings, training
from hf_fashion.arguments import BoxArguments, DatasetArguments
from hf_fashion.cards import refuse_license
from hf_fashion.cards.licenses import UNKNOWN
from hf_fashion.errors import InputError, from_here, in_range, script
from hf_fashion.exporting import card, usage
from hf_fashion.exporting.making import thumbnail
from hf_fashion.exporting.original import name_of
from hf_fashion.report import Report
from hf_fashion.samples.views import views
from hf_fashion.tasks import detect

PHOTOS = Features({"image": Image()})  # and what else they have
MEASURED = ("test", "validation")


@dataclass
class Arguments(DatasetArguments, BoxArguments):
    """Settings of the recipe."""

    _argument_group_name = "model, photos and file"
    _usage = "MODEL --dataset PHOTOS -o FOLDER"

    model: str | None = field(
        default=None, metadata={"help": "A run's folder, any checkpoint's folder, or a Hub id; must be given."}
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    task: Literal["auto", "retrieve"] = field(
        default="auto",
        metadata={
            "help": "retrieve: an encoder of photos, also of a CLIP or of a classifier's net without its head. auto: "
            "what the model's files say it is."
        },
    )
    output_dir: str | None = field(
        default=None, metadata={"aliases": ["-o"], "help": "A new folder, for the export; must be given."}
    )
    format: Literal["onnx", "openvino", "litert"] = field(
        default="onnx",
        metadata={
            "help": "onnx: runs everywhere; openvino: for servers with CPUs of Intel or AMD; litert: for phones, once "
            "TensorFlow Lite (pip install 'hf_fashion[litert]'): classifiers, models of attributes, encoders and "
            "RT-DETR v2, where all photos are brought to one shape."
        },
    )
    precision: Literal["fp32", "fp16", "bf16", "int8"] = field(
        default="fp32",
        metadata={
            "help": "fp32: as it was trained; fp16: LiteRT, half the size; bf16: OpenVINO, on CPUs that have it; "
            "int8: a quarter of the size, calibrated on the training split; layers that it harms stay in float."
        },
    )
    least_agreement: float = field(
        default=0.99,
        metadata={"help": "Share of the original's answers that the export must give, or there is no file."},
    )
    photos: int = field(default=300, metadata={"help": "Photos of test and validation that both are asked about."})
    calibration_photos: int = field(default=128, metadata={"help": "Of int8: training photos that give the ranges."})
    item_column: str | None = field(
        default=None,
        metadata={"help": "Of encoders: the column that is equal for photos of one item. Default: item_id, if any."},
    )
    seed: int = field(default=42, metadata={"help": "Decides which photos are taken, where there are more."})
    base_model: str | None = field(
        default=None,
        metadata={"help": "Id of the original on the Hub, for the card, where the model is given as a folder."},
    )
    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the original, for the card, as apache-2.0, where its own card says none."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("model", self.model), ("output_dir", self.output_dir)):
            if value is None:
                raise InputError(
                    f"--{name}", expected="hf-fashion export MODEL --dataset PHOTOS -o FOLDER", found=f"no {name}",
                    fix="add it",
                )  # fmt: skip
        in_range("least_agreement", self.least_agreement, 0.0, 1.0)
        in_range("photos", self.photos, 1, 1_000_000)
        in_range("calibration_photos", self.calibration_photos, 1, 10_000)
        in_range("seed", self.seed, 0, 2**32 - 1)
        refuse_license(self.license)
        exporting.refuse_pair(self.format, self.precision)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv = ["--model", *argv]
    parsed: tuple[Any, ...] = settings.parse_args("export", (Arguments,), argv)
    args, changed = parsed
    record.refuse_in_use(args.output_dir)
    checks.refuse_inside(args.dataset, {"output_dir": args.output_dir})
    original = exporting.load(args.model, task=args.task, revision=args.model_revision)
    named = described(args)
    exporting.refuse_shapes(original, args.format)
    dataset, report = read(args, original.kind)
    print(report)
    splits = [name for split in MEASURED if split in dataset for name in [split] * len(dataset[split])]
    photos = exporting.Photos(*measured(args, original, dataset), calibration=dataset.get("train"), splits=splits)
    exporting.refuse_few(photos, args.precision)
    run = record.start(
        args.output_dir, "export", arguments=changed, argv=from_here(argv), seed=args.seed, dataset=report.to_dict(),
        base_model=named, device=training.device_name(),
    )  # fmt: skip
    with run:
        told = exporting.make(
            original, run.folder, photos, form=args.format, precision=args.precision, least=args.least_agreement,
            limits=args.limits,
        )  # fmt: skip
        about = {"format": args.format, "precision": args.precision, "kind": original.kind,
                 "input": original.shown.values, **original.about}  # fmt: skip
        folder = Path(from_here([str(run.folder)])[0])
        relative = not folder.is_absolute() and ".." not in folder.parts and folder.name
        called = folder.as_posix() if relative else run.name
        code = usage.usage(about, called, "photo.jpg")
        output = usage.run(code, run.folder, called, thumbnail(photos.measured, args.limits))
        card.write(run, about, told, {"code": code, "output": output, "folder": called}, args.base_model)
    times = told["times"]
    print(f"\nagreement: {exporting.in_words(told)}")
    if told["test"]:
        print(f"test:      {exporting.in_words(told['test'])}")
    print(f"size:      {told['bytes']['exported'] / 1e6:.1f} MB (weights of the original: "
          f"{told['bytes']['original'] / 1e6:.1f})")  # fmt: skip
    print(f"time:      {times['exported']['cpu_ms']:.1f} CPU ms a photo (original: {times['original']['cpu_ms']:.1f})")
    quoted = shlex.quote(str(run.folder))
    print(f"folder:    {run.folder}\nnext:      python -c \"from hf_fashion import runtime; "
          f"print(runtime.load('{quoted}')('photo.jpg'))\"")  # fmt: skip
    return told


def described(args: Arguments) -> dict[str, str | None]:
    """How the original is called, and under which licence it is.

    Raises:
        InputError: Its own card says another licence than `--license`.
    """
    told = name_of(args.model, args.model_revision)
    if args.license is None:
        return told
    if told["license"] not in (UNKNOWN, args.license):
        raise InputError(
            f"--license {args.license}", expected=f"that of the original, as its card says it: {told['license']}",
            found=args.license, fix="leave it out",
        )  # fmt: skip
    return told | {"license": args.license}


def read(args: Arguments, kind: str) -> tuple[DatasetDict, Report]:
    """The photos, checked; with their boxes for a detector."""
    boxed = kind == "detection"
    source = views() if kind == "retrieval" and args.dataset == "sample" else args.dataset
    names = {"image": args.image_column} | ({"objects": args.objects_column} if boxed else {})
    of_boxes = {"box_format": args.box_format, "on_bad_box": args.on_bad_box} if boxed else {}
    dataset, report = data.load(
        source, detect.COLUMNS if boxed else PHOTOS, config=args.dataset_config, revision=args.dataset_revision,
        names=names, label_columns=None if kind in ("classification", "detection") else [], limits=args.limits,
        seed=args.seed, **of_boxes,
    )  # fmt: skip
    if kind == "retrieval" and args.dataset == "sample":
        report.source |= {"source": "sample", "kind": "sample", "license": "cc0-1.0"}
    dataset = few(args, dataset)
    # Labels of whole photos play no part here, however few there are.
    report.findings[:] = [f for f in report.findings if f.column != "label" or f.where.startswith("row")]
    checks.check(
        dataset, report, on_bad_image=args.on_bad_image, limits=args.limits, **of_boxes
    ).raise_on_errors()  # fmt: skip
    return checks.drop(dataset, report), report


def few(args: Arguments, dataset: DatasetDict) -> DatasetDict:
    """Of test and validation the photos that are asked about, of train those that give ranges: no others are read."""
    there = {split: len(dataset[split]) for split in MEASURED if split in dataset}
    drawn = np.random.default_rng(args.seed).permutation(sum(there.values()))[: args.photos]
    kept, start = {}, 0
    for split, rows in there.items():
        kept[split] = dataset[split].select(sorted(n - start for n in drawn.tolist() if start <= n < start + rows))
        start += rows
    if "train" in dataset and args.precision == "int8":
        train = np.random.default_rng(args.seed).permutation(len(dataset["train"]))[: args.calibration_photos]
        kept["train"] = dataset["train"].select(sorted(train.tolist()))
    return DatasetDict({split: rows for split, rows in kept.items() if len(rows)})


def measured(args: Arguments, original: exporting.Original, dataset: DatasetDict) -> tuple[Dataset, exporting.Truth]:
    """The photos that are asked about, and what is known of them."""
    parts = [dataset[split] for split in MEASURED if split in dataset]
    if not parts:
        raise InputError(
            f"--dataset {args.dataset}", expected="photos of a validation or test split that can be read",
            found="none", fix="photos to ask both models about",
        )  # fmt: skip
    if original.kind == "detection":
        parts = [*detect.as_labelled_by(DatasetDict({str(n): part for n, part in enumerate(parts)}), original.net)
                 .values()]  # fmt: skip
    rows = concatenate_datasets(parts)
    truth = exporting.Truth(
        labels=labels_of(rows, original.about["labels"]) if original.kind == "classification" else None,
        boxes=detect.annotations(rows) if original.kind == "detection" else None,
        items=items_of(rows, args.item_column) if original.kind == "retrieval" else None,
    )
    return rows, truth


def labels_of(rows: Dataset, labels: list[str]) -> np.ndarray | None:
    """The model's number of each photo's class, -1 for a class that it has not; None where photos have no label."""
    feature = rows.features.get("label")
    if not isinstance(feature, ClassLabel):
        return None
    place = {name: number for number, name in enumerate(labels)}
    numbers = [place.get(name, -1) for name in feature.names]
    told = np.array([-1 if label is None else numbers[label] for label in rows.with_format(None)["label"]])
    return told if (told >= 0).any() else None


def items_of(rows: Dataset, column: str | None) -> list[str] | None:
    """What item each photo shows, where there is a column that says it."""
    if column is not None and column not in rows.column_names:
        raise InputError(
            f"--item_column {column}", expected="a column of the dataset", found=", ".join(rows.column_names),
            fix="--item_column with one of these",
        )  # fmt: skip
    column = column or ("item_id" if "item_id" in rows.column_names else None)
    return None if column is None else list(map(str, rows.with_format(None)[column]))


if __name__ == "__main__":
    script(main)()
