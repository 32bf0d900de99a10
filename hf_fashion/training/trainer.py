"""The Trainer: transformers' own, with the few repairs that a whole run needs."""

import math
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer_utils import PredictionOutput

from hf_fashion.errors import InputError, library_errors
from hf_fashion.training.averaging import MovingAverage


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


class PassEpochOn(TrainerCallback):
    """Tells the training dataset which epoch begins.

    Accelerate 1.15 does it itself, but not with several processes, nor in an epoch that is resumed in its middle: the
    dataset would stay in epoch 0.
    """

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        dataset: Any = getattr(train_dataloader, "dataset", None)
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(int((state.epoch or 0) + 1e-6))


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
        self.add_callback(PassEpochOn())

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
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, MovingAverage):
                callback.resume(resume_from_checkpoint)

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
