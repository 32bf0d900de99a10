# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion"]
# ///
"""Measure a finished classifier, ours or anybody's, on any photos with labels.

    accelerate launch recipes/score.py --model runs/classify-2026-11-24-1 --dataset other_photos.csv
    accelerate launch recipes/score.py --model google/vit-base-patch16-224 --dataset ./photos

A source without splits is the test split as a whole. The labels of the photos must be among the model's, by name.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from hf_fashion import backbones, cards, checks, data, record, settings, training
from hf_fashion.errors import InputError, script
from hf_fashion.tasks import classify


@dataclass
class Arguments(classify.PhotoArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos and model"

    model: str = field(kw_only=True, metadata={"help": "A run's folder, any checkpoint's folder, or a Hub id."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})


def main(argv: list[str] | None = None) -> record.Run:
    argv = list(sys.argv[1:] if argv is None else argv)
    args, training_args, changed = settings.parse_args("score", (Arguments, training.FashionTrainingArguments), argv)
    model, processor = backbones.load_classifier(args.model, revision=args.model_revision)
    dataset, report = data.load(
        args.dataset, classify.COLUMNS, config=args.dataset_config, revision=args.dataset_revision,
        names={"image": args.image_column, "label": args.label_column}, lone_split="test",
    )  # fmt: skip
    refuse_seen(report, args.model)
    checks.check(dataset, report, on_bad_image=args.on_bad_image).raise_on_errors()
    print(report)
    dataset = classify.as_labelled_by(checks.drop(dataset, report), model)

    photos = classify.prepare(dataset["test"], processor)
    trainer = training.FashionTrainer(model=model, args=training_args, processing_class=processor, eval_dataset=photos)
    run = record.start(
        training_args.output_dir, "score", arguments=changed, argv=argv, seed=training_args.seed,
        dataset=report.to_dict(), base_model=backbones.describe(args.model, args.model_revision),
        device=training.device_name(), writes=trainer.is_world_process_zero(),
    )  # fmt: skip
    with run:
        predictions = classify.predict(trainer, dataset, processor, splits=["test"])
        if not trainer.is_world_process_zero():
            return run
        results = classify.evaluate(predictions)
        figures = classify.figures(predictions, results, dataset)
        record.write(
            run, results=results, predictions=predictions, plots=figures, labels=data.labels(dataset),
            **classify.facts(model, processor, dataset, results),
        )  # fmt: skip
        cards.write(run)
    print(
        f"\n{record.summary(run)}\n\nfolder: {run.folder}\nnext:   read {run.folder}/README.md, and look at its plots"
    )
    return run


def refuse_seen(report: data.Report, model: str) -> None:
    """Raises InputError when the photos are those that the model's run cut its training photos from."""
    trained_on = record.read(model).info["dataset"] if (Path(model) / "run.json").is_file() else {}
    if trained_on.get("cut") and trained_on["fingerprint"] == report.source["fingerprint"]:
        raise InputError(
            f"--dataset {report.source['source']}",
            expected="photos that the model has not seen",
            found="the source that it was trained on, whose test split was cut by that run",
            fix=f"read {model}/eval_results.json, which has the figures of that test split, or name other photos",
        )


if __name__ == "__main__":
    script(main)()
