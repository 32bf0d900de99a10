# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[detect]"]
# ///
"""Fine-tune an object detector on your photos with boxes, measure it, and leave a folder with its card.

    accelerate launch recipes/detect.py
    accelerate launch recipes/detect.py --model ustc-community/dfine-small-coco --dataset annotations/instances.json
    accelerate launch recipes/detect.py --config detect-rt-detr-v2-lite0 --dataset ./yolo_folder
    accelerate launch recipes/detect.py --output_dir runs/mine --resume_from_checkpoint last

The first, with nothing typed, is `--config detect-sample`, on scenes made of the photos that ship with hf_fashion.
`--help` lists every setting.
"""

import sys
import time
from typing import Any

from transformers import set_seed

from hf_fashion import backbones, cards, checks, data, hub, images, record, settings, training
from hf_fashion.errors import InputError, command, script
from hf_fashion.tasks import detect

DEFAULT = ["--config", "detect-sample"]  # with nothing typed


def main(argv: list[str] | None = None) -> record.Run:
    argv = list(sys.argv[1:] if argv is None else argv) or DEFAULT
    parsed: tuple[Any, ...] = settings.parse_args(
        "detect", (detect.Arguments, training.LearningArguments, training.DetectionTrainingArguments), argv,
        metrics=detect.METRICS,
    )  # fmt: skip
    args, method, training_args, changed = parsed
    if method.lora_rank and (args.backbone is not None or args.freeze != "none"):
        new = args.backbone is not None
        raise InputError(
            "--lora_rank", expected="a detector's checkpoint, which LoRA itself freezes",
            found=f"a new detector over --backbone {args.backbone}, whose random rest has to learn in full" if new
            else f"--freeze {args.freeze}",
            fix="--model ustc-community/dfine-small-coco, without --backbone" if new else "--freeze none",
        )  # fmt: skip
    if training_args.num_train_epochs <= args.dense_epochs and training_args.max_steps <= 0:
        raise InputError(
            f"--dense_epochs {args.dense_epochs}", expected="some epochs left, in which the decoder learns",
            found=f"--num_train_epochs {training_args.num_train_epochs:g}",
            fix=f"--num_train_epochs {4 * args.dense_epochs}, or fewer --dense_epochs",
        )  # fmt: skip

    dataset, report = data.load(
        args.dataset, detect.COLUMNS, config=args.dataset_config, revision=args.dataset_revision,
        names={"image": args.image_column, "objects": args.objects_column}, split_by=args.split_by,
        validation_share=args.validation_share, test_share=args.test_share,
        seed=training_args.seed if args.split_seed is None else args.split_seed, box_format=args.box_format,
        on_bad_box=args.on_bad_box, limits=args.limits,
    )  # fmt: skip
    record.refuse_other_cut(
        args.model, report.to_dict(), seed=training_args.seed if args.split_seed is None else args.split_seed,
        validation_share=args.validation_share, test_share=args.test_share,
    )  # fmt: skip
    classes = detect.classes(dataset)

    # The net: a checkpoint whose classes become these, or a new one over a backbone.
    set_seed(training_args.seed)
    model, processor = backbones.load_detector(
        args.model, classes, backbone=args.backbone, detector_config=args.detector_config, freeze=args.freeze,
        image_size=args.image_size, revision=args.model_revision,
    )  # fmt: skip
    training.refuse_recomputing(training_args, model)

    # Every photo and box is looked at once; what is wrong stops the run here, all of it in one message.
    checks.check(
        dataset, report, on_bad_image=args.on_bad_image, limits=args.limits, box_format=args.box_format,
        on_bad_box=args.on_bad_box,
    ).raise_on_errors()  # fmt: skip
    dataset = checks.drop(dataset, report)
    detect.refuse_without_boxes(dataset)
    if training_args.process_index == 0:
        print(report)
        if args.backbone is not None and not args.dense and args.model in ("rt_detr_v2", "d_fine"):
            print("a new detector learns little from few photos without --dense 2; see detect-rt-detr-v2-lite0")

    # Asked before the training whether the push at its end can go well; the Trainer's own is never made.
    base_model = backbones.describe(args.backbone or args.model, args.model_revision)
    if args.backbone is not None:
        base_model |= {"name": f"{args.model} over {base_model['name']}"}
    target = hub.before_training(
        training_args, license=args.license, license_name=args.license_name, license_link=args.license_link,
        dataset=report.to_dict(), base_model=base_model["base_model"], task="object-detection",
    )  # fmt: skip

    if method.lora_rank:
        model = training.add_lora(model, method.lora_rank, method.lora_alpha)
    trainer = training.DetectionTrainer(
        model=model,
        args=training_args,
        processing_class=processor,
        train_dataset=detect.prepare(
            dataset["train"], processor, train=True, seed=training_args.seed, balance=args.balance,
            keyed=bool(args.multi_scale), limits=args.limits, smallest_crop=args.smallest_crop, flip=args.flip,
            zoom_out=args.zoom_out, color=args.color,
        ),
        eval_dataset=detect.prepare(dataset["validation"], processor, limits=args.limits),
        compute_metrics=detect.metrics(dataset["validation"], classes),
        data_collator=detect.collate(model, args.multi_scale or (), processor),
        optimizers=(training.rates(model, training_args, method), None),
        callbacks=training.callbacks(method, training_args),
        dense=args.dense,
        dense_cells=args.dense_cells,
        dense_epochs=args.dense_epochs,
    )  # fmt: skip
    run = record.start(
        training_args.output_dir, "detect", arguments=changed, argv=argv, seed=training_args.seed,
        dataset=report.to_dict(), base_model=base_model,
        device=training.device_name(training_args), writes=trainer.is_world_process_zero(),
        resumed_from=training_args.resume_from_checkpoint,
    )  # fmt: skip
    with run:
        clock = time.perf_counter(), time.process_time()
        trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        run.note(
            training_wall_seconds=time.perf_counter() - clock[0], training_cpu_seconds=time.process_time() - clock[1]
        )
        if method.lora_rank:
            model = trainer.model = training.merge(model)

        # Measured once, after everything was chosen on validation.
        predictions = detect.predict(trainer, dataset, processor, ("validation", "test"), limits=args.limits)
        if not trainer.is_world_process_zero():
            return run
        chosen_by = training_args.metric_for_best_model if training_args.load_best_model_at_end else None
        results = detect.evaluate(predictions, classes)
        figures = detect.figures(
            predictions, results, dataset, history=trainer.state.log_history,
            metric=training_args.metric_for_best_model,
            best_step=trainer.state.best_global_step if chosen_by else None,
            threshold=model.config.score_threshold, dense_epochs=args.dense_epochs, limits=args.limits,
        )  # fmt: skip
        record.write(
            run, model=model, processor=processor, results=results, predictions=predictions, plots=figures,
            history=trainer.state.log_history, labels=classes,
            **detect.facts(model, processor, dataset, results, chosen_by=chosen_by),
        )  # fmt: skip
        example = dataset["test"][0]
        cards.write(
            run, usage=detect.usage, photo=images.decode(example["image"], limits=args.limits),
            photo_label=detect.example_label(example, classes), task="object-detection", prose=args.card_prose,
            limits=args.limits,
            examples=detect.shown(dataset["test"].shuffle(seed=0), classes) if args.card_photos else (),
        )  # fmt: skip
    hub.after_training(run, target, command("score") + " --model {folder} --dataset OTHER_PHOTOS")
    return run


if __name__ == "__main__":
    script(main)()
