"""The settings of a training: transformers' own, with defaults for photos."""

import os
from dataclasses import dataclass, field

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
        upload = "train first, then `hf upload <you>/<name> <the run's folder> --exclude 'checkpoint-*'`"
        for name, refused, why, fix in (
            ("push_to_hub", self.push_to_hub, "the Trainer's own push uploads pickles, overwrites the card", upload),
            ("hub_token", self.hub_token, "what is typed here ends in records and histories", "hf auth login"),
            ("remove_unused_columns", self.remove_unused_columns, "it would drop the photos", "leave it out"),
            ("prediction_loss_only", self.prediction_loss_only, "nothing could be measured", "leave it out"),
            ("batch_eval_metrics", self.batch_eval_metrics, "metrics here see all rows at once", "leave it out"),
            ("bf16_full_eval", self.bf16_full_eval, "it would leave the net in half precision", "--bf16 True"),
            ("fp16_full_eval", self.fp16_full_eval, "it would leave the net in half precision", "--fp16 True"),
            ("fsdp", self.fsdp, "not supported: these models fit on one device", "leave it out"),
            ("deepspeed", self.deepspeed, "not supported: these models fit on one device", "leave it out"),
        ):
            if refused:
                raise InputError(f"--{name}", expected=f"a run without it: {why}", found=f"--{name}", fix=fix)
        super().__post_init__()
