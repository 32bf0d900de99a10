# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion"]
# ///
"""Fine-tune an image classifier on your photos, measure it, and leave a folder with its card.

    accelerate launch recipes/classify.py
    accelerate launch recipes/classify.py --model microsoft/swin-tiny-patch4-window7-224 --dataset ./photos
    accelerate launch recipes/classify.py --config classify-efficientnet-lite0 --dataset photos.csv --split_by seller
    accelerate launch recipes/classify.py --output_dir runs/mine --resume_from_checkpoint last

The first, with nothing typed, is `--config classify-efficientnet-lite0` on the 400 photos that ship with hf_fashion.
`--help` lists every setting.
"""

import shlex
import sys
import time

from transformers import set_seed

from hf_fashion import backbones, cards, checks, data, images, record, settings, training
from hf_fashion.errors import script
from hf_fashion.tasks import classify


def main(argv: list[str] | None = None) -> record.Run:
    argv = list(sys.argv[1:] if argv is None else argv) or ["--config", "classify-efficientnet-lite0"]
    args, training_args, changed = settings.parse_args(
        "classify", (classify.Arguments, training.FashionTrainingArguments), argv, metrics=classify.METRICS
    )

    # The photos: read, and cut into splits where these are missing.
    dataset, report = data.load(
        args.dataset,
        classify.COLUMNS,
        config=args.dataset_config,
        revision=args.dataset_revision,
        names={"image": args.image_column, "label": args.label_column},
        split_by=args.split_by,
        validation_share=args.validation_share,
        test_share=args.test_share,
        seed=training_args.seed,
    )
    labels = data.labels(dataset)

    # The net: a checkpoint whose head is replaced by one for these labels.
    set_seed(training_args.seed)
    model, processor = backbones.load_classifier(
        args.model,
        labels,
        freeze=args.freeze,
        resize=args.resize,
        image_size=args.image_size,
        revision=args.model_revision,
    )
    if args.from_scratch:
        model = classify.reset(model, training_args.seed)

    # Every photo is looked at once; what is wrong stops the run here, all of it in one message.
    checks.check(dataset, report, on_bad_image=args.on_bad_image).raise_on_errors()
    print(report)
    dataset = checks.drop(dataset, report)

    trainer = training.FashionTrainer(
        model=model,
        args=training_args,
        processing_class=processor,
        train_dataset=classify.prepare(
            dataset["train"], processor, train=True,
            smallest_crop=args.smallest_crop, flip=args.flip, seed=training_args.seed,
        ),
        eval_dataset=classify.prepare(dataset["validation"], processor),
        compute_metrics=classify.metrics(labels),
    )  # fmt: skip
    run = record.start(
        training_args.output_dir, "classify", arguments=changed, argv=argv, seed=training_args.seed,
        dataset=report.to_dict(), base_model=backbones.describe(args.model, args.model_revision),
        device=training.device_name(), writes=trainer.is_world_process_zero(),
        resumed_from=training_args.resume_from_checkpoint,
    )  # fmt: skip
    with run:
        clock = time.perf_counter(), time.process_time()
        trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        run.note(
            training_wall_seconds=time.perf_counter() - clock[0], training_cpu_seconds=time.process_time() - clock[1]
        )

        # Measured once, after everything was chosen on validation.
        predictions = classify.predict(trainer, dataset, processor, splits=("validation", "test"))
        if not trainer.is_world_process_zero():
            return run
        chosen_by = training_args.metric_for_best_model if training_args.load_best_model_at_end else None
        results = classify.evaluate(predictions)
        figures = classify.figures(
            predictions, results, dataset, history=trainer.state.log_history,
            metric=training_args.metric_for_best_model,
            best_step=trainer.state.best_global_step if chosen_by else None,
        )  # fmt: skip
        record.write(
            run, model=model, processor=processor, results=results, predictions=predictions, plots=figures,
            history=trainer.state.log_history, labels=labels,
            **classify.facts(model, processor, dataset, results, chosen_by=chosen_by),
        )  # fmt: skip
        example = dataset["test"][0]
        cards.write(
            run, usage=classify.usage, photo=images.decode(example["image"]), photo_label=labels[example["label"]],
            prose=args.card_prose,
        )  # fmt: skip
    folder = shlex.quote(str(run.folder))
    print(f"\n{record.summary(run)}\n\nfolder: {run.folder}")
    print(f"next:   read {folder}/README.md, the card, and look at its plots")
    print(f"        accelerate launch recipes/score.py --model {folder} --dataset OTHER_PHOTOS")
    return run


if __name__ == "__main__":
    script(main)()
