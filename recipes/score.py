# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion"]
# ///
"""Measure a finished classifier, detector or encoder, ours or anybody's, on any photos; or compare several
classifiers, or several encoders, on the same photos.

    accelerate launch recipes/score.py --model runs/classify-2026-11-24-1 --dataset other_photos.csv
    accelerate launch recipes/score.py --model google/vit-base-patch16-224 --dataset ./photos
    accelerate launch recipes/score.py --compare runs/mine google/vit-base-patch16-224 --dataset ./photos
    accelerate launch recipes/score.py --task retrieve --compare runs/mine openai/clip-vit-base-patch32 --dataset shop

A source without splits is the test split as a whole. Labels of photos must be among each classifier's, by name.
Encoders (`hf_fashion[retrieve]`) search photos that have items, texts, or both.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import DatasetDict
from transformers import PreTrainedModel, TrainingArguments

from hf_fashion import attributes as groups_of
from hf_fashion import backbones, cards, checks, comparison, data, images, items, record, settings, training
from hf_fashion.arguments import BoxArguments
from hf_fashion.backbones.sources import is_encoder
from hf_fashion.comparison.seen import seen
from hf_fashion.errors import InputError, script
from hf_fashion.tasks import attributes, classify, detect

OF_LABELS = ("label_column", "label_columns", "label_separator", "merge_labels")
OF_BOXES = ("objects_column", "box_format")
OF_ITEMS = ("item_column", "text_column", "shared_items", "gallery", "gallery_config")


@dataclass
class Arguments(classify.PhotoArguments, BoxArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos and model"

    task: Literal["auto", "retrieve"] = field(
        default="auto",
        metadata={
            "help": "retrieve: take what is named for encoders, and search with them: CLIP, SigLIP, or the net of a "
            "classifier without its head. auto: encoders that sentence-transformers saved are, the others are not."
        },
    )
    model: str | None = field(default=None, metadata={"help": "A run's folder, any checkpoint's folder, or a Hub id."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    compare: list[str] | None = field(
        default=None,
        metadata={
            "help": "In place of --model, two or more: each is measured on the same photos, and each pair tested."
        },
    )
    item_column: str | None = field(
        default=None,
        metadata={"help": "Of encoders: the column that is equal for photos of one item. Default: item_id."},
    )
    text_column: str | None = field(
        default=None, metadata={"help": "Of encoders: the column of texts. Default: text, if there is one."}
    )
    shared_items: bool = field(
        default=False,
        metadata={"help": "Of encoders: items are classes, that lie in all splits: neighbours are of the same class."},
    )
    gallery: str | None = field(
        default=None, metadata={"help": "Of encoders: a dataset of more photos that are searched (distractors)."}
    )
    gallery_config: str | None = field(default=None, metadata={"help": "Which configuration of it."})

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
    if args.task == "retrieve" or any(is_encoder(model, args.model_revision) for model in models):
        refuse_settings(args, (*OF_LABELS, *OF_BOXES), "classifiers or detectors", "encoders", "leave it out")
        return search(args, training_args, models, changed, argv)
    refuse_settings(args, OF_ITEMS, "encoders", f"no --task, and no encoder's modules: {models[0]}", "--task retrieve")
    detectors = [model for model in models if backbones.is_detector(model, args.model_revision)]
    if detectors and args.compare:
        raise InputError(
            "--compare", expected="classifiers", found=f"a detector, {detectors[0]}",
            fix="measure each by --model, and lay their folders side by side",
        )  # fmt: skip
    if detectors:
        refuse_settings(
            args, OF_LABELS, "a classifier", f"a detector, {detectors[0]}",
            "leave it out; --objects_column names the boxes",
        )  # fmt: skip
    load_net = backbones.load_detector if detectors else load_classifier
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
    names = comparison.distinct(models, [str(told["name"]) for told in described])
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


def search(
    args: Arguments, training_args: TrainingArguments, models: Sequence[str], changed: Mapping[str, Any],
    argv: list[str],
) -> record.Run:  # fmt: skip
    """The way of `main` for encoders."""
    encoders = [backbones.load_encoder(model, revision=args.model_revision) for model in models]
    # With sentence-transformers, which is an extra.
    from hf_fashion import searches
    from hf_fashion.comparison import encoders as bake_off
    from hf_fashion.tasks import retrieve

    columns = {"item_column": args.item_column, "text_column": args.text_column, "limits": args.limits}
    dataset, report = items.load(
        args.dataset, shared_items=args.shared_items, config=args.dataset_config, revision=args.dataset_revision,
        names={"image": args.image_column} if args.image_column else None, lone_split="test", **columns,
    )  # fmt: skip
    known = {model: told for model in models if (told := seen(report, model, args.model_revision))}
    checks.check(dataset, report, on_bad_image=args.on_bad_image, limits=args.limits).raise_on_errors()
    first = training_args.process_index == 0  # the others have nothing to do: no Trainer shares the photos out
    if first:
        print(report)
    dataset = checks.drop(dataset, report)
    if args.gallery is not None:
        dataset[items.GALLERY] = items.load_gallery(args.gallery, config=args.gallery_config, **columns)
    described = [backbones.describe(model, args.model_revision) for model in models]
    names = comparison.distinct(models, [str(told["name"]) for told in described])
    of = {name: encoder.to(training_args.device) for name, encoder in zip(names, encoders, strict=True)}
    several = args.compare is not None
    if several:
        bake_off.refuse_nothing_common(of, dataset["test"])
    run = record.start(
        training_args.output_dir, "score", arguments=changed, argv=argv, seed=training_args.seed,
        dataset=report.to_dict(), base_model={"name": ", ".join(names), "id": None} if several else described[0],
        device=training.device_name(), writes=first,
    )  # fmt: skip
    with run:
        if not first:
            return run
        if known:
            run.note(seen=[*known.values()])
        batch, limits = training_args.per_device_eval_batch_size, args.limits
        found = {
            name: searches.predict(
                encoder,
                dataset,
                ["test"],
                batch_size=batch,
                limits=limits,
                reference_searched=items.as_challenge(args.dataset),
            )  # fmt: skip
            for name, encoder in of.items()
        }
        if several:
            predictions = {name: rows for name, (rows, _) in found.items()}
            told = {name: protocols["test"] for name, (_, protocols) in found.items()}
            costs = bake_off.costs(of, dict(zip(names, models, strict=True)), dataset["test"], limits=limits)
            compared = bake_off.results(predictions, told, costs, shared_items=args.shared_items)
            about = {name: one | bake_off.asks(one) for name, one in zip(names, described, strict=True)}
            record.write(
                run, results={"test": compared}, predictions=bake_off.gather(predictions),
                plots=bake_off.figures(compared), recipe="compare", kind="retrieval", labels=[], models=about,
            )  # fmt: skip
            chosen = models[names.index(compared["adapt"])]
            photos = {"dataset": args.dataset, **changed}
            shown = bake_off.summary(compared, about)
            last = "\n" + bake_off.adapt(compared, chosen, dataset["test"], photos, chosen in known)
        else:
            [(rows, protocols)] = found.values()
            results = searches.evaluate(rows, shared_items=args.shared_items)
            record.write(
                run, results=results, predictions=rows, plots=retrieve.figures(rows, results, dataset, limits=limits),
                **retrieve.facts(encoders[0], dataset, protocols, results, shared_items=args.shared_items),
            )  # fmt: skip
            shown, last = record.summary(run), ""
        cards.write(run, task="image-feature-extraction")
    print(f"\n{shown}\n\nfolder: {run.folder}\nnext:   read {run.folder}/README.md, and look at its plots{last}")
    return run


def load_classifier(model: str, revision: str | None) -> tuple[PreTrainedModel, Any]:
    """`backbones.load_classifier`, whose error says what else a net without a head can be, as CLIP is one."""
    try:
        return backbones.load_classifier(model, revision=revision)
    except InputError as error:
        if not error.what.startswith("the weights"):
            raise
        fix = f"{error.fix}; or, for an encoder, --task retrieve"
        raise InputError(error.what, expected=error.expected, found=error.found, fix=fix) from error


def refuse_settings(args: Arguments, names: Sequence[str], expected: str, found: str, fix: str) -> None:
    """Raises InputError for settings of other models than these."""
    given = [f"--{name}" for name in names if getattr(args, name)]
    if given:
        raise InputError(", ".join(given), expected=expected, found=found, fix=fix)


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


if __name__ == "__main__":
    script(main)()
