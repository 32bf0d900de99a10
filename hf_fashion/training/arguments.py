"""The settings of a training: transformers' own, with defaults for photos, and those of our parts."""

import os
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import TrainingArguments

from hf_fashion.errors import InputError, in_range


@dataclass
class FashionTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with defaults for a fine-tune of a few thousand photos."""

    _argument_group_name = "training (transformers.TrainingArguments; the names and meanings are its own)"

    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for the run; new or empty. Default: runs/<recipe>-<date>-<n>."}
    )
    num_train_epochs: float = field(default=8.0, metadata={"help": "Passes over the training photos."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Photos a step and device."})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Photos a step and device in evaluation."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule after the warm-up."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up: below 1 a share of all steps, else steps."})
    eval_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "no, steps, epoch or best."})
    logging_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "Keep the checkpoint that was best on validation, not the last one."}
    )
    metric_for_best_model: str = field(default="accuracy", metadata={"help": "What 'best' means, on validation."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept beside the best one."})
    # An image column is 'unused' in the Trainer's eyes and would be dropped before the transform sees it.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Leave it False: the photos are a column."})
    # True hides a NaN loss as 0.000.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "True would print a NaN loss as 0."})
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "Keys of the labels."})
    dataloader_num_workers: int = field(
        default_factory=lambda: min(8, (os.cpu_count() or 2) - 1) if torch.cuda.is_available() else 0,
        metadata={"help": "Processes that load photos. Default: 0 on a CPU, up to 8 with a GPU."},
    )
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Page-locked batches; of use with a GPU only."}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "'last' (needs --output_dir) or the path of a checkpoint."}
    )

    force_resume: bool = field(
        default=False, metadata={"help": "Resume although settings or photos are others than the run had."}
    )
    # Without it early stopping would count from 0 again.
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Resume what callbacks count, as early stopping does, too."}
    )

    # Frozen parameters do not require gradients, so none of those that do goes unused.
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Leave it False."})

    def __post_init__(self) -> None:
        in_range("learning_rate", self.learning_rate, 0.0, 10.0)
        in_range("num_train_epochs", self.num_train_epochs, 1e-6, 1e6)
        in_range("per_device_train_batch_size", self.per_device_train_batch_size, 1, 1e6)
        in_range("per_device_eval_batch_size", self.per_device_eval_batch_size, 1, 1e6)
        in_range("gradient_accumulation_steps", self.gradient_accumulation_steps, 1, 1e6)
        in_range("dataloader_num_workers", self.dataloader_num_workers, 0, 1024)
        in_range("seed", self.seed, 0, 2**32 - 1)
        for name, refused, why, fix in (
            ("hub_token", self.hub_token, "what is typed here ends in records and histories", "hf auth login"),
            ("remove_unused_columns", self.remove_unused_columns, "it would drop the photos", "leave it out"),
            ("auto_find_batch_size", self.auto_find_batch_size, "full memory is met without it", "leave it out"),
            ("enable_jit_checkpoint", self.enable_jit_checkpoint, "SIGTERM saves without it", "leave it out"),
            ("prediction_loss_only", self.prediction_loss_only, "nothing could be measured", "leave it out"),
            ("batch_eval_metrics", self.batch_eval_metrics, "metrics here see all rows at once", "leave it out"),
            ("dataloader_drop_last", self.dataloader_drop_last, "evaluations would lose photos", "leave it out"),
            ("bf16_full_eval", self.bf16_full_eval, "it would leave the net in half precision", "--bf16 True"),
            ("fp16_full_eval", self.fp16_full_eval, "it would leave the net in half precision", "--fp16 True"),
            ("fsdp", self.fsdp, "not supported: these models fit on one device", "leave it out"),
            ("deepspeed", self.deepspeed, "not supported: these models fit on one device", "leave it out"),
        ):
            if refused:
                raise InputError(f"--{name}", expected=f"a run without it: {why}", found=f"--{name}", fix=fix)
        super().__post_init__()


@dataclass
class LearningArguments:
    """Settings of how the parts of a net learn, of any task."""

    _argument_group_name = "method (each off by default)"

    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the head, apart from the backbone's."}
    )
    layer_decay: float | None = field(
        default=None, metadata={"help": "Each stage learns at this share of the next one's rate; usual: 0.65 to 0.9."}
    )
    moving_average: float | None = field(
        default=None,
        metadata={"help": "Measure and keep a moving average of the weights; 0.99 for some hundred steps, or more."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop when so many evaluations in a row were no better."}
    )
    lora_rank: int | None = field(
        default=None, metadata={"help": "LoRA: freeze the net, learn matrices of this rank beside it; usual: 8."}
    )
    lora_alpha: float = field(default=16.0, metadata={"help": "LoRA's scale."})

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("head_learning_rate", 0.0, 10.0),
            ("layer_decay", 1e-6, 1.0),
            ("moving_average", 0.0, 0.999999),
            ("early_stopping_patience", 1, 1e6),
            ("lora_rank", 1, 1024),
            ("lora_alpha", 1e-6, 1e6),
        ):
            value = getattr(self, name)
            if value is not None:
                in_range(name, value, lowest, highest)
        if self.lora_rank and (self.head_learning_rate or self.layer_decay):
            raise InputError(
                "--lora_rank with --head_learning_rate or --layer_decay", expected="one of the two",
                found="both: with LoRA the net's own weights do not learn", fix="leave one out",
            )  # fmt: skip


@dataclass
class MethodArguments(LearningArguments):
    """Settings of what is handed to the Trainer beside the net: against a long tail, noise, and too few photos."""

    _argument_group_name = "method (each off by default, but for --precision)"

    class_weights: Literal["none", "sqrt", "balanced"] = field(
        default="none",
        metadata={"help": "Weigh rare classes more in the loss: fully, or by the square root of their frequency."},
    )
    sampler: Literal["shuffle", "sqrt", "balanced"] = field(
        default="shuffle",
        metadata={"help": "Show rare classes more often: all classes equally often, or by the square root."},
    )
    focal_gamma: float = field(default=0.0, metadata={"help": "Focal loss: look away from easy photos; usual: 2."})
    augment: Literal["none", "randaugment", "trivialaugment"] = field(
        default="none",
        metadata={"help": "Random changes of shape and colour after the crop; not for labels that name colours."},
    )
    mixup: float = field(default=0.0, metadata={"help": "Blend pairs of photos; Beta's alpha, usual: 0.2."})
    cutmix: float = field(default=0.0, metadata={"help": "Paste a part of a photo into another; alpha, usual: 1."})
    precision: Literal["auto", "full"] = field(
        default="auto",
        metadata={
            "help": "auto: train in bfloat16 where it was measured to be quicker for this net on this kind of device; "
            "full: never. --bf16 True: always. The model is measured and saved in full precision."
        },
    )

    teacher: str | None = field(
        default=None,
        metadata={"help": "A larger finished classifier with these labels to learn from, too: a Hub id or a folder."},
    )
    teacher_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of it."})
    teacher_weight: float = field(
        default=0.7, metadata={"help": "Its share of the loss, 0 to 1; the labels have the rest."}
    )
    teacher_temperature: float = field(
        default=2.0, metadata={"help": "Above 1 the teacher tells more of what is unlikely."}
    )
    teacher_features: float = field(
        default=0.0,
        metadata={"help": "So much counts that photos lie to each other as they do for the teacher; usual: 1000."},
    )
    unlabelled: str | None = field(
        default=None, metadata={"help": "With --teacher: more photos, whose labels nobody knows: any dataset."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("focal_gamma", self.focal_gamma, 0.0, 10.0)
        in_range("mixup", self.mixup, 0.0, 100.0)
        in_range("cutmix", self.cutmix, 0.0, 100.0)
        in_range("teacher_weight", self.teacher_weight, 0.0, 1.0)
        in_range("teacher_temperature", self.teacher_temperature, 0.1, 100.0)
        in_range("teacher_features", self.teacher_features, 0.0, 1e6)
        if self.unlabelled and self.teacher is None:
            raise InputError(
                f"--unlabelled {self.unlabelled}", expected="--teacher MODEL, who says what they show", found="none",
                fix="add it, or leave --unlabelled out",
            )  # fmt: skip
        for name, given, wrong, expected in (
            ("unlabelled", self.unlabelled, self.mixes, "a run without --mixup and --cutmix"),
            ("unlabelled", self.unlabelled, self.sampler != "shuffle", "a run without --sampler"),
            ("teacher", self.teacher, self.lora_rank, "a run without --lora_rank"),
        ):  # fmt: skip
            if given and wrong:
                raise InputError(f"--{name} {given}", expected=expected, found="it", fix=f"leave --{name} or it out")

    @property
    def mixes(self) -> bool:
        """Whether training batches are mixed, so that their labels are soft."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def power(self) -> dict[str, float]:
        """The exponents of `class_weights` and `sampler`."""
        exponents = {"none": 0.0, "shuffle": 0.0, "sqrt": 0.5, "balanced": 1.0}
        return {"class_weights": exponents[self.class_weights], "sampler": exponents[self.sampler]}


@dataclass
class DetectionTrainingArguments(FashionTrainingArguments):
    """`FashionTrainingArguments` with defaults for a detector of the DETR family."""

    num_train_epochs: float = field(default=30.0, metadata={"help": "Passes over the training photos."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Photos a step and device."})
    per_device_eval_batch_size: int = field(default=8, metadata={"help": "Photos a step and device in evaluation."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(default=1e-4, metadata={"help": "AdamW's weight decay."})
    max_grad_norm: float = field(default=0.1, metadata={"help": "Gradients are scaled down to this norm."})
    metric_for_best_model: str = field(default="map", metadata={"help": "What 'best' means, on validation."})
