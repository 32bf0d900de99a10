# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[retrieve]"]
# ///
"""Fine-tune an encoder for search on your photos, measure it, and leave a folder with its card.

    accelerate launch recipes/retrieve.py
    accelerate launch recipes/retrieve.py --model google/siglip2-base-patch16-224 --dataset ./catalogue
    accelerate launch recipes/retrieve.py --dataset photos.csv --item_column product --match image
    accelerate launch recipes/retrieve.py --output_dir runs/mine --resume_from_checkpoint last

The first, with nothing typed, is `--config retrieve-sample`: two views of each photo that ships with hf_fashion, which
shows that everything fits together, and no more. `--help` lists every setting.
"""

import sys
import time
from importlib.metadata import version
from typing import Any

from transformers import EarlyStoppingCallback, set_seed

from hf_fashion import backbones, cards, checks, hub, images, items, record, searches, settings, training
from hf_fashion.errors import InputError, script
from hf_fashion.tasks import retrieve
from hf_fashion.training import device_name, encoder_losses, retrieving
from hf_fashion.training import pairs as paired_photos

DEFAULT = ["--config", "retrieve-sample"]  # with nothing typed


def main(argv: list[str] | None = None) -> record.Run:
    argv = list(sys.argv[1:] if argv is None else argv) or DEFAULT
    parsed: tuple[Any, ...] = settings.parse_args(
        "retrieve", (retrieve.Arguments, retrieving.RetrievalTrainingArguments), argv, metrics=searches.METRICS
    )
    args, training_args, changed = parsed
    if args.early_stopping_patience is not None and training_args.eval_strategy == "no":
        raise InputError(
            "--early_stopping_patience", expected="evaluations to judge by", found="--eval_strategy no",
            fix="--eval_strategy epoch",
        )  # fmt: skip

    dataset, report = items.load(
        args.dataset, item_column=args.item_column, text_column=args.text_column, shared_items=args.shared_items,
        config=args.dataset_config, revision=args.dataset_revision,
        names={"image": args.image_column} if args.image_column else None, split_by=args.split_by,
        validation_share=args.validation_share, test_share=args.test_share,
        seed=training_args.seed if args.split_seed is None else args.split_seed, limits=args.limits,
    )  # fmt: skip
    record.refuse_other_cut(
        args.model, report.to_dict(), seed=training_args.seed if args.split_seed is None else args.split_seed,
        validation_share=args.validation_share, test_share=args.test_share,
    )  # fmt: skip
    kinds = items.matched(dataset, args.match)

    # The encoder: one that is there, or a net with what makes vectors of its maps, and of texts.
    set_seed(training_args.seed)
    text_model = args.text_model
    if text_model is not None and not items.with_words(kinds):
        raise InputError(
            f"--text_model {text_model}", expected="texts that are matched, which it would learn from",
            found=f"photos alone (--match {args.match})", fix="--match both, or leave it out",
        )  # fmt: skip
    if text_model is None and items.with_words(kinds) and not retrieve.reads_texts(args.model, args.model_revision):
        text_model = "words"
    encoder = backbones.load_encoder(
        args.model, text_model=text_model, texts=items.texts_of(dataset["train"]), dimension=args.dimension,
        freeze=args.freeze, image_size=args.image_size, resize=args.resize, revision=args.model_revision,
        text_revision=args.text_model_revision,
    )  # fmt: skip
    retrieve.refuse_without_texts(encoder, kinds, args.model)
    teacher = None if args.teacher is None else backbones.load_encoder(args.teacher, revision=args.teacher_revision)
    if teacher is not None:
        retrieve.refuse_without_texts(teacher, kinds, args.teacher, "teacher")
    of_teacher = None if args.teacher is None else backbones.describe(args.teacher, args.teacher_revision)

    # Every photo is looked at once; what is wrong stops the run here, all of it in one message.
    checks.check(dataset, report, on_bad_image=args.on_bad_image, limits=args.limits).raise_on_errors()
    dataset = checks.drop(dataset, report)
    if args.gallery is not None:
        dataset[items.GALLERY] = items.load_gallery(
            args.gallery,
            item_column=args.item_column,
            text_column=args.text_column,
            config=args.gallery_config,
            limits=args.limits,
        )
    if training_args.process_index == 0:
        print(report)

    base_model = backbones.describe(args.model, args.model_revision)
    of_texts = None if text_model in (None, "words") else backbones.describe(text_model, args.text_model_revision)
    target = hub.before_training(
        training_args, license=args.license, license_name=args.license_name, license_link=args.license_link,
        dataset=report.to_dict(), base_model=base_model["base_model"], task="image-feature-extraction",
        library="sentence-transformers",
    )  # fmt: skip

    loss = encoder_losses.retrieval_loss(
        encoder, args.loss, temperature=args.temperature, margin=args.margin, mini_batch_size=args.mini_batch_size,
        dimensions=args.matryoshka or (), composed="composed" in kinds, teacher=teacher,
        teacher_weight=args.teacher_weight,
    )  # fmt: skip
    # Where no texts are matched, items with the same text are others like any other.
    known = ["image", "item_id", "source_row", *(["text"] if "text" in kinds else [])]
    known += [items.CHANGES] if "composed" in kinds else []
    pairs = (paired_photos.ComposedPairs if "composed" in kinds else paired_photos.Pairs)(
        dataset["train"].select_columns(known), training_args.seed,
        augment=paired_photos.crop_and_flip(args.smallest_crop, args.flip), limits=args.limits,
    )  # fmt: skip
    if isinstance(pairs, paired_photos.ComposedPairs) and pairs.left_out and training_args.process_index == 0:
        gone = "; ".join(f"{count} left out: {reason}" for reason, count in pairs.left_out.items())
        print(f"{len(pairs)} changes to learn from; {gone}")
    if args.hard_negatives:
        # On the device of this process: sentence-transformers takes the first GPU in all of them.
        vectors = searches.embed(encoder.to(training_args.device), dataset["train"], limits=args.limits)
        pairs.wrong = searches.nearest_wrong(vectors, pairs.groups, args.hard_negatives)
    most = paired_photos.differing(pairs, kinds)
    if "per_device_train_batch_size" not in changed and 4 <= most < training_args.per_device_train_batch_size:
        # Nobody chose it, and each pair must differ from all others of its batch.
        training_args.per_device_train_batch_size = changed["per_device_train_batch_size"] = (most + 1) // 2
        if training_args.process_index == 0:
            print(f"{most} items differ: {(most + 1) // 2} pairs a step (--per_device_train_batch_size)")
    lora = training.add_lora_to_encoder(encoder, args.lora_rank, args.lora_alpha) if args.lora_rank else []
    batch = training_args.per_device_eval_batch_size
    trainer = retrieving.RetrievalTrainer(
        model=encoder,
        args=training_args,
        train_dataset=pairs,
        kinds=kinds,
        teacher=teacher,
        lora=lora,
        loss=loss,
        evaluator=retrieving.Measured(
            retrieve.measure(dataset, args.limits, batch, kinds), training_args.metric_for_best_model
        ),
        optimizers=(retrieving.encoder_optimizer(loss, training_args, args.head_learning_rate), None),
        callbacks=[EarlyStoppingCallback(args.early_stopping_patience)] if args.early_stopping_patience else [],
    )
    run = record.start(
        training_args.output_dir, "retrieve", arguments=changed, argv=argv, seed=training_args.seed,
        dataset=report.to_dict(), base_model=base_model, device=device_name(training_args),
        writes=trainer.is_world_process_zero(), resumed_from=training_args.resume_from_checkpoint,
    )  # fmt: skip
    with run:
        # How the encoder searches as it came: what the training is to be measured against.
        asked_as = {"batch_size": batch, "limits": args.limits, "reference_searched": items.as_challenge(args.dataset)}
        untrained, _ = searches.predict(encoder, dataset, **asked_as)
        clock = time.perf_counter(), time.process_time()
        trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        run.note(
            training_wall_seconds=time.perf_counter() - clock[0], training_cpu_seconds=time.process_time() - clock[1]
        )
        if not trainer.is_world_process_zero():
            return run

        # Measured once, after everything was chosen on validation.
        predictions, asked = searches.predict(encoder, dataset, **asked_as)
        chosen_by = training_args.metric_for_best_model if training_args.load_best_model_at_end else None
        results = searches.evaluate(predictions, shared_items=args.shared_items, learned=kinds)
        figures = retrieve.figures(
            predictions, results, dataset, history=trainer.state.log_history,
            metric=training_args.metric_for_best_model,
            best_step=trainer.state.best_global_step if chosen_by else None, limits=args.limits, kinds=kinds,
        )  # fmt: skip
        record.write(
            run,
            model=encoder,
            results=results,
            predictions=predictions,
            plots=figures,
            versions=run.info["versions"] | {"sentence-transformers": version("sentence-transformers")},
            history=trainer.state.log_history,
            **retrieve.facts(
                encoder,
                dataset,
                asked,
                results,
                searches.gained(untrained, predictions, shared_items=args.shared_items, learned=kinds),
                chosen_by=chosen_by,
                kinds=kinds,
                text_model=of_texts,
                teacher=of_teacher,
                shared_items=args.shared_items,
            ),  # fmt: skip
        )
        example = dataset["test"][0]
        cards.write(
            run, usage=retrieve.usage_of(example, encoder), photo=images.decode(example["image"], limits=args.limits),
            photo_label=example.get("text") or example["item_id"], task="image-feature-extraction",
            prose=args.card_prose, limits=args.limits,
        )  # fmt: skip
    hub.after_training(run, target, "hf-fashion index PHOTOS {folder} --output_dir garments")
    return run


if __name__ == "__main__":
    script(main)()
