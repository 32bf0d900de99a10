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

import sys
import time
from contextlib import nullcontext
from typing import Any

from datasets import DatasetDict, Features, Image, Value, concatenate_datasets
from transformers import set_seed

from hf_fashion import (
    backbones,
    cards,
    checks,
    data,
    examples,
    hub,
    images,
    photo_cache,
    record,
    settings,
    streaming,
    training,
)
from hf_fashion.errors import InputError, command, script
from hf_fashion.tasks import attributes, classify
from hf_fashion.training import activations, features
from hf_fashion.training.distilling import UNLABELLED

DEFAULT = ["--config", "classify-efficientnet-lite0"]  # with nothing typed


def parse_args(argv: list[str]) -> tuple[Any, ...]:
    args, method, training_args, changed = settings.parse_args(
        "classify", (classify.Arguments, training.MethodArguments, training.FashionTrainingArguments), argv,
        metrics=list(dict.fromkeys((*classify.METRICS, *attributes.METRICS))),
    )  # fmt: skip
    if method.lora_rank and (args.from_scratch or args.freeze != "none"):
        raise InputError(
            "--lora_rank", expected="a checkpoint that LoRA itself freezes",
            found="--from_scratch True" if args.from_scratch else f"--freeze {args.freeze}",
            fix="--from_scratch False" if args.from_scratch else "--freeze none",
        )  # fmt: skip
    if args.label_columns:  # columns of lists that only the data show are refused later, in the task's own functions
        attributes.refuse(
            **method.power, focal_gamma=method.focal_gamma,
            label_smoothing_factor=training_args.label_smoothing_factor,
        )  # fmt: skip
    for name, given, wrong in (
        ("teacher", method.teacher, args.label_columns and "--label_columns: it teaches one label a photo"),
        ("unlabelled", method.unlabelled, args.streaming and "--streaming"),
    ):
        if given and wrong:
            raise InputError(
                f"--{name} {given}", expected="a run without it", found=wrong, fix="leave one of the two out"
            )
    return args, method, training_args, changed


def read(args: Any, method: Any, training_args: Any) -> tuple[Any, ...]:
    """The photos, cut into splits where these are missing, and what was seen; `--streaming` makes train a stream."""
    names = {"image": args.image_column, "label": args.label_column}
    if args.streaming:
        dataset, report = streaming.load(
            args.dataset, config=args.dataset_config, revision=args.dataset_revision, names=names,
            label_columns=args.label_columns, shuffle_buffer=args.shuffle_buffer, on_bad_image=args.on_bad_image,
            folder=training_args.output_dir,
        )  # fmt: skip
        streaming.refuse(training_args, method.sampler, report)
        return dataset, report
    return data.load(
        args.dataset, classify.COLUMNS, config=args.dataset_config, revision=args.dataset_revision, names=names,
        label_columns=args.label_columns, label_separator=args.label_separator, merge_labels=args.merge_labels,
        split_by=args.split_by, validation_share=args.validation_share, test_share=args.test_share,
        seed=training_args.seed if args.split_seed is None else args.split_seed,
    )  # fmt: skip


def features_of(
    task: Any, model: Any, processor: Any, dataset: Any, args: Any, method: Any, training_args: Any
) -> tuple[Any, dict[str, Any]]:
    """What a frozen backbone, or frozen first stages, say of each photo: once for all epochs, where it is the same."""
    off = args.feature_cache == "off" or args.freeze == "none"
    if off or args.streaming or method.mixes or method.teacher:
        return None, {}
    whole = not features.reason_against(model)
    if not examples.is_fixed(args.smallest_crop, args.flip, method.augment):
        frozen, they = ("backbone is", "it") if whole else ("first stages are", "they")
        print(
            f"the {frozen} frozen: with --smallest_crop 1 --no_flip {they} would see each photo once, not every epoch"
        )
        return None, {}
    prepared = [task.prepare(dataset[split], processor, limits=args.limits) for split in ("train", "validation")]
    if whole:
        held, seen, reason = features.held_for(model, processor, training_args, *prepared)
    else:
        opened = args.photo_cache is None
        held, seen, reason = activations.held_for(model, processor, training_args, *prepared, opened=opened)
    if training_args.process_index == 0:
        if reason:
            print(f"{'features are' if whole else 'frozen stages are'} computed in every epoch: {reason}")
        else:
            kept = "to the bit" if held.kept.exact else "but for rounding, in the last batch of an epoch"
            print(f"{held.words} of {sum(map(len, seen.values()))} photos are computed once; the same, {kept}")
    return held, seen


def kept_of(rows: Any, processor: Any, args: Any, method: Any, train: bool = False) -> Any:
    """The photos, opened and kept as bytes, where that was asked for."""
    if args.photo_cache is None:
        return None
    if train and not examples.is_fixed(args.smallest_crop, args.flip, method.augment):
        spec = backbones.input_spec(processor)
        if args.photo_cache < min(spec.height, spec.width):
            raise InputError(
                f"--photo_cache {args.photo_cache}", found=str(args.photo_cache),
                expected=f"{min(spec.height, spec.width)} or more: so many pixels the net sees",
                fix=f"--photo_cache {round(1.5 * min(spec.height, spec.width))}",
            )  # fmt: skip
        return photo_cache.Shrunk(rows, args.photo_cache, args.limits)
    if train and method.mixes:  # numbers, not bytes
        return None
    try:
        return photo_cache.Prepared(rows, processor, args.limits)
    except photo_cache.Inexact as reason:
        print(f"photos are opened in every epoch: {reason}")
        return None


def with_unlabelled(measured: Any, source: str, args: Any) -> Any:
    """The training photos, and behind them those of the training split, or all, of another dataset, without labels."""
    dataset, report = data.load(
        source, Features({"image": Image()}), label_columns=[], validation_share=None, test_share=None,
        limits=args.limits,
    )  # fmt: skip
    known = ["image", "source_row"]
    # Beside those that measure: none of them may be among the photos that are learned from, labelled or not.
    parts = {"train": dataset["train"], "validation": measured["validation"], "test": measured["test"]}
    both = DatasetDict({split: rows.select_columns(known) for split, rows in parts.items()})
    checks.check(both, report, on_bad_image=args.on_bad_image, limits=args.limits).raise_on_errors()
    more = checks.drop(both, report)["train"]
    print(f"photos without a label: {len(more)} of {source}")
    named = [f"{source}: {row}" for row in more["source_row"]]
    more = more.remove_columns("source_row").add_column("source_row", named, feature=Value("string"))
    label = [UNLABELLED] * len(more)
    rows = measured["train"]
    return concatenate_datasets([rows.select_columns(["image", "label", "source_row"]),
                                 more.add_column("label", label, feature=rows.features["label"])])  # fmt: skip


def main(argv: list[str] | None = None, *, sweep: str | None = None) -> record.Run:
    """`sweep`: the command of the sweep that this run is a part of, whose test photos are left alone."""
    argv = list(sys.argv[1:] if argv is None else argv) or DEFAULT
    args, method, training_args, changed = parse_args(argv)
    if args.label_columns:
        settings.choose_metric(training_args, attributes.METRICS, argv)

    dataset, report = read(args, method, training_args)
    task = classify if args.label_columns is None and not data.has_lists(dataset) else attributes
    classes = task.classes(dataset)
    settings.choose_metric(training_args, task.METRICS, argv)

    # The net: a checkpoint whose head is replaced by one for these labels.
    set_seed(training_args.seed)
    model, processor = backbones.load_classifier(
        args.model,
        task.names(classes),
        freeze=args.freeze,
        resize=args.resize,
        image_size=args.image_size,
        revision=args.model_revision,
        from_scratch=args.from_scratch,
    )
    model.config.update(task.config(classes))
    training.refuse_recomputing(training_args, model)
    training_args = training.with_precision(training_args, model, method.precision)

    # Every photo is looked at once; what is wrong stops the run here, all of it in one message.
    checks.check(dataset, report, on_bad_image=args.on_bad_image, limits=args.limits).raise_on_errors()
    dataset = checks.drop(dataset, report)
    if training_args.process_index == 0:
        print(report)

    # Asked before the training whether the push at its end can go well; the Trainer's own is never made.
    base_model = backbones.describe(args.model, args.model_revision)
    target = hub.before_training(
        training_args, license=args.license, license_name=args.license_name, license_link=args.license_link,
        dataset=report.to_dict(), base_model=None if args.from_scratch else base_model["base_model"],
    )  # fmt: skip

    held, seen = features_of(task, model, processor, dataset, args, method, training_args)
    teacher, of_teacher = None, None
    if method.teacher:
        if task is attributes:
            raise InputError(
                f"--teacher {method.teacher}", expected="photos with one label each", found="photos with several",
                fix="leave --teacher out",
            )  # fmt: skip
        teacher = training.Teacher(
            *backbones.load_classifier(method.teacher, revision=method.teacher_revision),
            backbones.input_spec(processor), task.names(classes),
        )  # fmt: skip
        of_teacher = backbones.describe(method.teacher, method.teacher_revision)
    learned = dataset["train"]
    if method.unlabelled:
        learned = with_unlabelled(dataset, method.unlabelled, args)
    kept, measured = None, None
    if not seen:
        kept = kept_of(learned, processor, args, method, train=True)
        measured = kept_of(dataset["validation"], processor, args, method)
    train = task.prepare(
        learned, processor, train=True, seed=training_args.seed, balance=method.power["sampler"],
        keyed=method.mixes, limits=args.limits, features=seen.get("train"), kept=kept,
        smallest_crop=args.smallest_crop, flip=args.flip, policy=method.augment,
    )  # fmt: skip
    if method.lora_rank:
        model = training.add_lora(model, method.lora_rank, method.lora_alpha)
    distilled = {
        "teacher": teacher, "weight": method.teacher_weight, "temperature": method.teacher_temperature,
        "feature_weight": method.teacher_features,
    }  # fmt: skip
    trainer = (training.DistillationTrainer if teacher else training.FashionTrainer)(
        model=model,
        args=training_args,
        processing_class=processor,
        train_dataset=train,
        eval_dataset=task.prepare(
            dataset["validation"], processor, limits=args.limits, features=seen.get("validation"), kept=measured
        ),
        compute_metrics=task.metrics(classes),
        compute_loss_func=task.loss(
            classes, dataset["train"], weights=method.power["class_weights"], focal_gamma=method.focal_gamma,
            smoothing=training_args.label_smoothing_factor,
        ),
        data_collator=training.collator(len(task.names(classes)), method),
        optimizers=(training.rates(model, training_args, method), None),
        callbacks=training.callbacks(method, training_args),
        numbers=getattr(measured, "numbers", None) or getattr(kept, "numbers", None),
        **(distilled if teacher else {}),
    )  # fmt: skip
    run = record.start(
        training_args.output_dir, "classify", arguments=changed, argv=argv, seed=training_args.seed,
        dataset=report.to_dict(), base_model=base_model,
        device=training.device_name(training_args), writes=trainer.is_world_process_zero(),
        resumed_from=training_args.resume_from_checkpoint,
    )  # fmt: skip
    if sweep is not None:
        run.note(command=sweep)  # classify's own, typed again, would measure the test photos
    with run:
        clock = time.perf_counter(), time.process_time()
        with held.taken(trainer) if held else nullcontext():
            trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
            validated = trainer.evaluate() if sweep is not None else {}
        if held:
            run.note(
                feature_cache={"photos": sum(map(len, seen.values())), "exact": held.kept.exact, "of": held.words}
            )
        run.note(
            training_wall_seconds=time.perf_counter() - clock[0], training_cpu_seconds=time.process_time() - clock[1],
            dataset=checks.after_training(dataset, report).to_dict(),
        )  # fmt: skip
        if sweep is not None:
            run.note(
                metric=training_args.metric_for_best_model.removeprefix("eval_"), validation=validated,
                history=trainer.state.log_history,
            )  # fmt: skip
            return run
        if method.lora_rank:
            model = trainer.model = training.merge(model)

        # Measured once, after everything was chosen on validation.
        predictions = task.predict(trainer, dataset, processor, ("validation", "test"), limits=args.limits)
        if not trainer.is_world_process_zero():
            return run
        chosen_by = training_args.metric_for_best_model if training_args.load_best_model_at_end else None
        results = task.evaluate(predictions, classes)
        figures = task.figures(
            predictions, results, dataset, history=trainer.state.log_history,
            metric=training_args.metric_for_best_model,
            best_step=trainer.state.best_global_step if chosen_by else None, limits=args.limits,
        )  # fmt: skip
        record.write(
            run, model=model, processor=processor, results=results, predictions=predictions, plots=figures,
            history=trainer.state.log_history, labels=task.names(classes), teacher=of_teacher,
            unlabelled=len(learned) - len(dataset["train"]) if method.unlabelled else 0,
            **task.facts(model, processor, dataset, results, chosen_by=chosen_by, predictions=predictions),
        )  # fmt: skip
        example = dataset["test"][0]
        shown = ((row["image"], task.example_label(row, classes)) for row in dataset["test"].shuffle(seed=0))
        cards.write(
            run, usage=task.usage, photo=images.decode(example["image"], limits=args.limits),
            photo_label=task.example_label(example, classes), prose=args.card_prose, limits=args.limits,
            examples=shown if args.card_photos else (),
        )  # fmt: skip
    hub.after_training(run, target, command("score") + " --model {folder} --dataset OTHER_PHOTOS")
    return run


if __name__ == "__main__":
    script(main)()
