"""The Trainer: transformers' own, with the few repairs that a whole run needs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import recursively_apply
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PredictionOutput, has_length

from hf_fashion.errors import InputError, library_errors
from hf_fashion.streaming import StreamedExamples
from hf_fashion.training import faults
from hf_fashion.training.averaging import MovingAverage
from hf_fashion.training.guarded import GuardedTrainer
from hf_fashion.training.recomputing import HeldNorms


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
    dataset would stay in epoch 0. A streamed one is told which batches the Trainer is going to throw away, too.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._resumes = not args.ignore_data_skip

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        dataset: Any = getattr(train_dataloader, "dataset", None)
        epoch = int((state.epoch or 0) + 1e-6)
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)
        if isinstance(dataset, StreamedExamples):
            steps = -(-len(train_dataloader) // args.gradient_accumulation_steps)
            done = state.global_step % steps * args.gradient_accumulation_steps
            dataset.skip(epoch, done if self._resumes else 0)
        self._resumes = False


# In a batch of a process that no row is left for at the end of an epoch: its loss counts nothing.
IDLE = "idle"


class FashionTrainer(GuardedTrainer):
    """`transformers.Trainer` that restores every tensor, keeps what was learned, and counts rows once.

    Checkpoints of ViT, Swin, DeiT, BEiT, DINOv2 and others keep older tensor names; the Trainer (transformers 5.23)
    loads them with `strict=False` and without renaming, so that a resumed or "best" model is part checkpoint, part
    last step (transformers issues 43701, 48805). `from_pretrained` renames; so the two loading methods go through it.

    Several processes take equally many rows at a time, so accelerate 1.15 fills the last batches up with rows from the
    beginning. `Trainer.predict` cuts these off its predictions, but they count twice in the loss of training and of
    evaluation. Here they do not, so that n processes with batches of b rows learn what one with n * b does (without
    dropout, whose draws differ, and batch norm, whose statistics are those of a process's own rows; in training, for
    losses that are divided by the rows of the whole step, as those of the tasks are).

    With activation checkpointing batch norms count each batch once, as without it.

    Args:
        *args: Of `Trainer`.
        numbers: What makes `pixel_values` of bytes, on the device: see `photo_cache.Prepared`.
        **kwargs: Of `Trainer`.
    """

    def __init__(
        self, *args: Any, numbers: Callable[[torch.Tensor], torch.Tensor] | None = None, **kwargs: Any
    ) -> None:
        self._numbers = numbers
        with library_errors("the settings of the training"):
            super().__init__(*args, **kwargs)
        self._held: HeldNorms | None = None
        # Same numbers, and a convolution net takes half the time on a CPU, less on a GPU too.
        torch.nn.Module.to(cast(torch.nn.Module, self.model), memory_format=torch.channels_last)
        self.add_callback(StopOnNonFiniteLoss())
        self.add_callback(PassEpochOn())

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """`Trainer.get_train_dataloader`, but a streamed dataset reads what is this process's and no more.

        Left to accelerate, one process would decode for all (`dispatch_batches`), or each would decode everything.
        """
        dataset, args = self.train_dataset, self.args
        if not isinstance(dataset, StreamedExamples):
            return super().get_train_dataloader()
        dataset.share(args.train_batch_size, args.process_index, args.world_size)
        loader: torch.utils.data.DataLoader = torch.utils.data.DataLoader(
            dataset, batch_size=args.train_batch_size, collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers, pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers, prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
        )  # fmt: skip
        faults.finishing(loader, self._signals)
        device = self.accelerator.device
        return prepare_data_loader(loader, device, num_processes=1, process_index=0, dispatch_batches=False)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The batches of a step and the count of their labels, without the rows that accelerate filled up with."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        processes, fills = self.args.world_size, cast(Any, self.args.accelerator_config).even_batches
        fills = fills and not isinstance(self.train_dataset, StreamedExamples)  # it deals its rows out itself
        if not (batches and processes > 1 and fills and has_length(self.train_dataset)):
            return batches, count
        last, size = batches[-1], len(batches[-1]["labels"])
        left = len(cast(Any, self.train_dataset)) % (processes * size)
        if left and self.accelerator.gradient_state.end_of_dataloader and not self.args.dataloader_drop_last:
            own = _share(left, size, self.args.process_index)
            # No process may miss a step, or the others would wait for it for ever.
            batches[-1] = {name: value[: max(own, 1)] for name, value in last.items()} | ({} if own else {IDLE: True})
            if count is not None:
                count = count - (processes * size - left) * last["labels"][0].numel()
        return batches, count

    def _prepare_inputs(self, inputs: Any) -> Any:
        inputs = super()._prepare_inputs(inputs)
        pixels = inputs.get("pixel_values")
        if self._numbers is not None and pixels is not None and pixels.dtype == torch.uint8:
            inputs["pixel_values"] = self._numbers(pixels)
        return inputs

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self._release()
        idle = inputs.pop(IDLE, False)
        if not torch.is_grad_enabled():
            num_items_in_batch = None  # the mean over the rows given: the loop of the evaluation weighs it by them
        loss: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._hold(model)
        if idle and return_outputs:
            return loss[0] * 0.0, loss[1]
        return loss * 0.0 if idle else loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        try:
            return super().training_step(*args, **kwargs)
        finally:
            self._release()

    def _hold(self, model: Any) -> None:
        if self.args.activation_checkpointing and torch.is_grad_enabled():
            self._held = HeldNorms(model)  # what follows is the backward pass

    def _release(self) -> None:
        if self._held is not None:
            self._held.release()
        self._held = None

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """`Trainer.prediction_step` on the rows that are no filling; predictions are filled up again afterwards."""
        gradient_state, size = self.accelerator.gradient_state, len(inputs["labels"])
        left = gradient_state.remainder if gradient_state.end_of_dataloader and self.args.world_size > 1 else 0
        if left <= 0:
            return super().prediction_step(model, inputs, *args, **kwargs)
        own = max(_share(left, size, self.args.process_index), 1)
        done = super().prediction_step(model, {name: value[:own] for name, value in inputs.items()}, *args, **kwargs)

        def fill(rows: torch.Tensor) -> torch.Tensor:
            return torch.cat([rows, rows[-1:].expand(size - own, *rows.shape[1:])])

        return done[0], *recursively_apply(fill, done[1:])

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


def _share(left: int, size: int, process: int) -> int:
    """How many of the `left` rows are those of a process, where each one takes `size` in turn."""
    return min(max(left - process * size, 0), size)


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


def device_name(args: TrainingArguments | None = None) -> str:
    """What the run computes on, in words: the GPU's name, or the CPU's threads; and in which precision it trains."""
    state = PartialState()
    half = {"bf16": ", bfloat16", "fp16": ", float16"}.get(args.mixed_precision if args else "no", "")
    if state.device.type == "cuda":
        return f"{state.num_processes} x {torch.cuda.get_device_name()}{half}"
    threads = torch.get_num_threads()
    several = f", {state.num_processes} processes" if state.num_processes > 1 else ""
    return f"{state.device.type}, {threads} thread{'s' * (threads > 1)}{several}{half}"
