# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion"]
# ///
"""Measure a finished classifier or detector, ours or anybody's, on any photos with labels or boxes; or compare several
classifiers on the same photos.

    accelerate launch recipes/score.py --model runs/classify-2026-11-24-1 --dataset other_photos.csv
    accelerate launch recipes/score.py --model google/vit-base-patch16-224 --dataset ./photos
    accelerate launch recipes/score.py --compare runs/mine google/vit-base-patch16-224 --dataset ./photos

A source without splits is the test split as a whole. The labels of the photos must be among each model's, by name.
"""

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from datasets import DatasetDict
from huggingface_hub import hf_hub_download
from transformers import PreTrainedModel, TrainingArguments

from hf_fashion import attributes as groups_of
from hf_fashion import backbones, cards, checks, comparison, data, images, record, settings, training
from hf_fashion.arguments import BoxArguments
from hf_fashion.cards.rules import repo_id
from hf_fashion.errors import InputError, script
from hf_fashion.tasks import attributes, classify, detect


@dataclass
class Arguments(classify.PhotoArguments, BoxArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos and model"

    model: str | None = field(default=None, metadata={"help": "A run's folder, any checkpoint's folder, or a Hub id."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    compare: list[str] | None = field(
        default=None,
        metadata={
            "help": "In place of --model, two or more: each is measured on the same photos, and each pair tested."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        models = self.compare or []
        places = [str(Path(model).expanduser().resolve()) if Path(model).exists() else model for model in models]
        twice = sorted({model for model, place in zip(models, places, strict=True) if places.count(place) > 1})
        for wrong, expected, found, fix in (
            (not models and self.model is None, "a model", "neither --model nor --compare", "--model MODEL"),
            (models and self.model is not None, "one of the two", "both", "--compare with all the models, no --model"),
            (len(models) == 1, "two or more models", f"one, {models[:1]}", f"--model {''.join(models[:1])}"),
            (twice, "each model once", f"several times: {', '.join(twice)}", "name each once"),
            (
                models and self.model_revision is not None, "the models as they stand", "--model_revision",
                "leave it out; to compare a revision, download it into a folder and name that",
            ),
        ):  # fmt: skip
            if wrong:
                raise InputError("--model, --compare", expected=expected, found=found, fix=fix)


def main(argv: list[str] | None = None) -> record.Run:
    argv = list(sys.argv[1:] if argv is None else argv)
    args, training_args, changed = settings.parse_args("score", (Arguments, training.FashionTrainingArguments), argv)
    models = args.compare or [args.model]
    detectors = [model for model in models if backbones.is_detector(model, args.model_revision)]
    if detectors and args.compare:
        raise InputError(
            "--compare", expected="classifiers", found=f"a detector, {detectors[0]}",
            fix="measure each by --model, and lay their folders side by side",
        )  # fmt: skip
    told = ("label_column", "label_columns", "label_separator", "merge_labels")
    given = [f"--{name}" for name in told if getattr(args, name)] if detectors else []
    if given:
        raise InputError(
            ", ".join(given), expected="a classifier", found=f"a detector, {detectors[0]}",
            fix="leave it out; --objects_column names the boxes",
        )  # fmt: skip
    load_net = backbones.load_detector if detectors else backbones.load_classifier
    nets = [load_net(model, revision=args.model_revision) for model in models]
    task, columns = (detect, None) if detectors else columns_of(args, [net for net, _ in nets])
    source = {"config": args.dataset_config, "revision": args.dataset_revision, "lone_split": "test"}
    if detectors:
        dataset, report = data.load(
            args.dataset, detect.COLUMNS, names={"image": args.image_column, "objects": args.objects_column},
            box_format=args.box_format, on_bad_box=args.on_bad_box, limits=args.limits, **source,
        )  # fmt: skip
    else:
        dataset, report = data.load(
            args.dataset, classify.COLUMNS, names={"image": args.image_column, "label": args.label_column},
            label_columns=columns, label_separator=args.label_separator, merge_labels=args.merge_labels, **source,
        )  # fmt: skip
    known = {model: told for model in models if (told := seen(report, model, args.model_revision))}
    checks.check(
        dataset, report, on_bad_image=args.on_bad_image, limits=args.limits, box_format=args.box_format,
        on_bad_box=args.on_bad_box,
    ).raise_on_errors()  # fmt: skip
    if training_args.process_index == 0:
        print(report)
    dataset = checks.drop(dataset, report)
    if detectors:
        detect.refuse_without_boxes(dataset)
    entrants = [
        Entrant(task, model, *net, dataset, training_args, args.limits)
        for model, net in zip(models, nets, strict=True)
    ]
    described = [backbones.describe(model, args.model_revision) for model in models]
    names = distinct(models, [str(told["name"]) for told in described])
    several = args.compare is not None
    run = record.start(
        training_args.output_dir, "score", arguments=changed, argv=argv, seed=training_args.seed,
        dataset=report.to_dict(), base_model={"name": ", ".join(names), "id": None} if several else described[0],
        device=training.device_name(), writes=entrants[0].trainer.is_world_process_zero(),
    )  # fmt: skip
    with run:
        if known and entrants[0].trainer.is_world_process_zero():
            run.note(seen=[*known.values()])
        for entrant in entrants:
            entrant.predict()
        if not entrants[0].trainer.is_world_process_zero():
            return run
        for entrant in entrants:
            entrant.evaluate()
        if several:
            predictions = comparison.gather(
                {name: entrant.predictions for name, entrant in zip(names, entrants, strict=True)}
            )
            compared = comparison.results(
                predictions, {name: entrant.results["test"] for name, entrant in zip(names, entrants, strict=True)}
            )
            record.write(
                run, results={"test": compared}, predictions=predictions,
                plots={"comparison": comparison.figure(compared)},
                recipe="compare", labels=[],  # the card's template; and no classes of one model
                models={
                    name: told | entrant.facts for name, told, entrant in zip(names, described, entrants, strict=True)
                },
            )  # fmt: skip
            shown = comparison.summary(compared)
        else:
            [one] = entrants
            record.write(
                run, results=one.results, predictions=one.predictions, labels=task.names(task.classes(one.dataset)),
                plots=task.figures(one.predictions, one.results, one.dataset, limits=args.limits, **one.drawn),
                **one.facts,
            )  # fmt: skip
            shown = record.summary(run)
        cards.write(run, task="object-detection" if task is detect else "image-classification")
    print(f"\n{shown}\n\nfolder: {run.folder}\nnext:   read {run.folder}/README.md, and look at its plots")
    return run


class Entrant:
    """One model on the photos: their labels numbered as it numbers them, its predictions and figures."""

    def __init__(
        self,
        task: Any,
        model: str,
        net: PreTrainedModel,
        processor: Any,
        dataset: DatasetDict,
        args: TrainingArguments,
        limits: images.Limits,
    ) -> None:
        self.task, self.net, self.processor, self.limits = task, net, processor, limits
        self.dataset = labelled(task, dataset, model, net)
        found = task is detect
        self.drawn = {"threshold": getattr(net.config, "score_threshold", None)} if found else {}
        self.trainer = (training.DetectionTrainer if found else training.FashionTrainer)(
            model=net, args=args, processing_class=processor, data_collator=detect.collate(net) if found else None,
            eval_dataset=task.prepare(self.dataset["test"], processor, limits=limits),
        )  # fmt: skip

    def predict(self) -> None:
        self.predictions = self.task.predict(
            self.trainer, self.dataset, self.processor, splits=["test"], limits=self.limits
        )

    def evaluate(self) -> None:
        self.results = self.task.evaluate(self.predictions, self.task.classes(self.dataset))
        self.facts = self.task.facts(self.net, self.processor, self.dataset, self.results)


def columns_of(args: Arguments, nets: Sequence[PreTrainedModel]) -> tuple[Any, list[str] | None]:
    """The task of the models, and the columns of labels: an attribute model says which it knows.

    Raises:
        InputError: Models of attributes in a comparison, or columns of attributes for a model of one label.
    """
    known = [groups_of.of_config(net.config) for net in nets]
    if not any(known):
        if args.label_columns:
            raise InputError(
                "--label_columns", expected="a model of attributes", found="a model of one label a photo",
                fix="--label_column NAME",
            )  # fmt: skip
        return classify, None
    if args.compare:
        raise InputError(
            "--compare", expected="classifiers with one label a photo", found="a model of attributes",
            fix="measure it by --model, and lay runs side by side: hf-fashion compare RUN RUN --metric map",
        )  # fmt: skip
    return attributes, args.label_columns or [group.name for group in known[0] or []]


def labelled(task: Any, dataset: DatasetDict, model: str, net: PreTrainedModel) -> DatasetDict:
    """The task's `as_labelled_by`, whose error says of which model."""
    try:
        return task.as_labelled_by(dataset, net)
    except InputError as error:
        raise InputError(
            f"{error.what}, for the model {model}", expected=error.expected, found=error.found, fix=error.fix
        ) from error


def distinct(models: Sequence[str], names: list[str]) -> list[str]:
    """Short names of the models; as much of a folder's path as it takes to tell them apart."""
    for depth in itertools.count(2):
        if len(set(names)) == len(names):
            break
        names = ["/".join(Path(name).resolve().parts[-depth:]) if Path(name).is_dir() else name for name in models]
    return names


def seen(report: data.Report, model: str, revision: str | None) -> str | None:
    """What is to be said of a model that has learned from the photos; None when its record does not say so.

    Raises:
        InputError: Its run cut its own splits from just these photos: most of what would be measured it has learned.
    """
    path = record_of(model, revision)
    try:
        trained_on = json.loads(path.read_text(encoding="utf-8"))["dataset"] if path else {}
        same, cut = trained_on.get("pictures") == report.source["pictures"], trained_on.get("cut")
        within = _is_within(report.source, trained_on)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # a record of others, under the same name
        return None
    if same and cut:
        folder = path.parent if path and Path(model).expanduser().exists() else model
        raise InputError(
            f"--dataset {report.source['source']}",
            expected=f"photos that the model {model} has not seen",
            found="the source that it was trained on, whose test split was cut by that run",
            fix=f"read {folder}/eval_results.json, which has the figures of that test split; to lay runs side by side "
            "type hf-fashion compare RUN RUN; or name other photos",
        )
    if not same and not within:
        return None
    told = (
        f"{model} was trained on the training photos among these: its figures flatter."
        if same else f"{model} was trained on this very dataset: of its test split these are the figures of that run "
        "once more, and photos of its other splits it has learned."
    )  # fmt: skip
    report.add("warning", f"dataset {report.source['source']}", "", expected="photos that are new to it", found=told)
    return told


def _is_within(source: Mapping[str, Any], trained_on: Mapping[str, Any]) -> bool:
    """Whether the photos are the dataset of a run, or of a folder within it."""
    ours, theirs = str(source["source"]), str(trained_on["source"])
    if ours == theirs or "hub" in (source.get("kind"), trained_on.get("kind")):
        return ours == theirs
    return Path(theirs).is_dir() and Path(ours).resolve().is_relative_to(Path(theirs).resolve())


def record_of(model: str, revision: str | None) -> Path | None:
    """The run.json of a model, in its folder or in its repo on the Hub; None where there is none."""
    folder = Path(model).expanduser()
    if folder.exists():  # a checkpoint-<step> lies in the folder of its run
        return next((path for place in (folder, folder.parent) if (path := place / "run.json").is_file()), None)
    if repo_id(model) is not None or "/" not in model:
        return None
    try:
        return Path(hf_hub_download(model, "run.json", revision=revision))
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError):  # none there, or no way to the Hub
        return None


if __name__ == "__main__":
    script(main)()
