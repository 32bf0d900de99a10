"""The Trainer and its arguments: transformers' own, with the defaults and the few repairs that a whole run needs."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PredictionOutput

from hf_fashion.errors import InputError, in_range, library_errors


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


class StopOnNonFiniteLoss(TrainerCallback):
    """Ends a run whose logged loss is NaN or infinite: what follows would be saved as if it were a model."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        for name in ("loss", "eval_loss"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise InputError(
                    f"training stopped at step {state.global_step}",
                    expected=f"a finite {name}",
                    found=f"{name} = {value}",
                    fix="a lower --learning_rate, or --max_grad_norm 1.0; the last checkpoint is kept",
                )


class FashionTrainer(Trainer):
    """`transformers.Trainer` that restores every tensor, and stops at a loss that is not finite.

    Checkpoints of ViT, Swin, DeiT, BEiT, DINOv2 and others keep older tensor names; the Trainer (transformers 5.23)
    loads them with `strict=False` and without renaming, so that a resumed or "best" model is part checkpoint, part
    last step (transformers issues 43701, 48805). `from_pretrained` renames; so the two loading methods go through it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with library_errors("the settings of the training"):
            super().__init__(*args, **kwargs)
        # Same numbers, and a convolution net takes half the time on a CPU, less on a GPU too.
        torch.nn.Module.to(cast(torch.nn.Module, self.model), memory_format=torch.channels_last)
        self.add_callback(StopOnNonFiniteLoss())

    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        """`Trainer.predict` in full precision also after `--bf16`: the net is measured as it is saved and served."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return super().predict(*args, **kwargs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        if isinstance(model, PreTrainedModel):
            restore(model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if isinstance(self.model, PreTrainedModel) and best is not None:
            restore(self.model, best)
        else:
            super()._load_best_model()


def restore(model: PreTrainedModel, checkpoint: str | Path) -> None:
    """Loads every tensor of a checkpoint into `model`, in place.

    Raises:
        InputError: The checkpoint holds other tensors than the model.
    """
    loaded: Any = type(model).from_pretrained(
        checkpoint, dtype=model.dtype, use_safetensors=True, output_loading_info=True
    )
    fresh, info = loaded
    odd = {name: sorted(map(str, keys)) for name, keys in info.items() if keys}
    if odd:
        raise InputError(
            f"checkpoint {checkpoint}",
            expected="every tensor of the model, and no other",
            found=", ".join(f"{name}: {len(keys)} ({keys[0]}, ...)" for name, keys in odd.items()),
            fix="resume with the model, the labels and the version of transformers that wrote the checkpoint",
        )
    model.load_state_dict(fresh.state_dict(), strict=True)


def device_name() -> str:
    """What the run computes on, in words: the GPU's name, or the CPU's threads."""
    state = PartialState()
    if state.device.type == "cuda":
        return f"{state.num_processes} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    several = f", {state.num_processes} processes" if state.num_processes > 1 else ""
    return f"{state.device.type}, {threads} thread{'s' * (threads > 1)}{several}"
