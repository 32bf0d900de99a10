"""The part of the Trainer that keeps what was learned: against values that are not finite, kills, and full memory."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list, gather_object, release_memory
from transformers import Trainer
from transformers.trainer_utils import PredictionOutput, TrainOutput

from hf_fashion import record
from hf_fashion.errors import InputError, Interrupted, writing
from hf_fashion.streaming import StreamedExamples
from hf_fashion.training import checkpoints, faults
from hf_fashion.training.averaging import MovingAverage
from hf_fashion.training.recomputing import can_recompute


class GuardedTrainer(Trainer):
    """`transformers.Trainer` that loses nothing of what was learned; `FashionTrainer` is one.

    - It ends at the first loss or gradient that is not finite, before that step changes a weight, and names the rows.
    - A checkpoint is there whole or not at all (`checkpoints.commit`), and is verified before it is used.
    - SIGTERM and Ctrl-C end the run with the step, after a checkpoint: `errors.Interrupted`.
    - Out of memory: smaller batches, as many rows a step (`gradient_accumulation_steps`), from untouched weights.

    It costs one look at the device a step, and with several processes one exchange of three numbers.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._signals = faults.Signals()
        self._asked_to_end = False  # the same in all processes
        self._step: list[tuple[torch.Tensor, torch.Tensor | None]] = []  # loss and rows of each batch of the step
        self._last_step = -1  # that `_maybe_log_save_evaluate` was called for
        self._beginning: faults.Beginning | None = None
        self._kept: Path | None = None  # the checkpoint that this training can begin again from
        self._saving: str | None = None  # where a checkpoint is written at the moment
        super().__init__(*args, **kwargs)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """`Trainer.train`; see the class.

        Args:
            resume_from_checkpoint: A checkpoint; True for the newest good one of the folder.
            *args: See there.
            **kwargs: See there.

        Raises:
            InputError: A damaged checkpoint; a value that is not finite; no memory for one row; a full disk.
            Interrupted: A signal.
        """
        self._kept = self._verified(resume_from_checkpoint) if resume_from_checkpoint else None
        if self.args.should_save:
            shutil.rmtree(Path(str(self.args.output_dir)) / checkpoints.UNFINISHED, ignore_errors=True)
        self._beginning = faults.Beginning(self, weights=self._kept is None)
        self._step, self._last_step, self._asked_to_end, self._signals.seen = [], -1, False, None
        with self._signals:
            while True:
                resumed = None if self._kept is None else str(self._kept)
                try:
                    done = super().train(resumed, *args, **kwargs)
                    break
                except Exception as error:
                    if not faults.is_out_of_memory(error):
                        raise
                    self._take_smaller_batches(error)
                # Only now the frames of the error are gone, and with them what they held.
                self._step = []
                self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
                self._beginning.restore(self)
                release_memory()
            self._refuse_not_finite()
            if self._asked_to_end or (self._signals.seen and self.args.world_size == 1):
                raise Interrupted(f"{self._signals.seen}: training was done")
        return done

    def _verified(self, wanted: str | bool) -> Path:
        if isinstance(wanted, str):
            found: Path | None = Path(wanted)
            bad = checkpoints.problems(wanted)
        else:
            found, passed = checkpoints.newest(str(self.args.output_dir))
            bad = ["; ".join(told) for told in passed.values()] or ["none there"]
        if found is None or (bad and isinstance(wanted, str)):
            raise InputError(
                f"checkpoint {wanted if isinstance(wanted, str) else self.args.output_dir}",
                expected="one that is whole", found="; ".join(bad), fix="--resume_from_checkpoint last",
            )  # fmt: skip
        return found

    def _refuse_not_finite(self) -> None:
        """Looks at the weights that a training ends with: those of its last step no loss was computed with."""
        told = cast(torch.nn.Module, self.model).state_dict()
        bad = [name for name, value in told.items() if not torch.isfinite(value).all()]
        if bad:
            raise InputError(
                f"training ended at step {self.state.global_step}", expected="finite weights",
                found=f"values that are not, in {len(bad)} tensors ({bad[0]}, ...)",
                fix="a lower --learning_rate, or --max_grad_norm 1.0; go on from the last good checkpoint",
            )  # fmt: skip

    def _note(self, **entries: Any) -> None:
        record.note(str(self.args.output_dir), **entries)

    # Steps: what is seen in them, and what is done about it.

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        rows = inputs.pop(faults.ROWS, None)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._step.append((loss, rows))
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        losses = torch.stack([loss.float().mean() for loss, _ in self._step])
        gradients = torch.as_tensor(norm, dtype=torch.float32, device=losses.device)
        bad = torch.cat([losses, gradients[None]]).isfinite().logical_not()
        asked = torch.tensor([self._signals.seen is not None], device=losses.device)
        facts = torch.stack([bad[:-1].sum(), bad[-1], asked[0]]).float()
        if self.args.world_size > 1:  # all end, or none
            facts = cast(torch.Tensor, self.accelerator.reduce(facts, reduction="sum"))
        in_loss, in_gradients, asked_to_end = facts.tolist()
        scaler = getattr(self.accelerator, "scaler", None)
        # In float16 too large a scale gives infinite gradients; the scaler then skips the step, and lowers the scale.
        if in_loss or (in_gradients and (scaler is None or scaler.get_scale() < 1)):
            self._stop(losses, gradients)
        self._asked_to_end, self._step = bool(asked_to_end), []
        return norm

    def _stop(self, losses: torch.Tensor, gradients: torch.Tensor) -> None:
        bad = [number for number, loss in enumerate(losses.tolist()) if not torch.isfinite(torch.tensor(loss))]
        named = [name for number in bad or range(len(self._step)) for name in self._names(number)]
        values = [f"loss = {losses[number].item()}" for number in bad] or [f"norm of the gradients = {gradients}"]
        if self.args.world_size > 1:
            told = gather_object([(bool(bad), named, values)])
            some = [one for one in told if one[0]] or told
            named = [name for one in some for name in one[1]]
            values = [value for one in some for value in one[2]]
        self._note(not_finite={"step": self.state.global_step + 1, "rows": named})
        good = f"go on from {self._kept}" if self._kept else "start again"
        raise InputError(
            f"training stopped at step {self.state.global_step + 1}, before it changed a weight",
            expected="a finite loss, and finite gradients",
            found=f"{values[0]} with these {len(named)} rows: {', '.join(named)}",
            fix=f"look at these rows; or {good} with a lower --learning_rate",
        )

    def _names(self, number: int) -> list[str]:
        dataset, rows = self.train_dataset, self._step[number][1]
        if isinstance(dataset, StreamedExamples):
            steps = -(-len(cast(Any, self.callback_handler.train_dataloader)) // self.args.gradient_accumulation_steps)
            batch = self.state.global_step % steps * self.args.gradient_accumulation_steps + number
            return faults.streamed_row_names(dataset, batch, self.args.dataloader_num_workers)
        return [] if rows is None else faults.row_names(dataset, rows.tolist())

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        plain = self.data_collator
        if kwargs.get("is_training") and not isinstance(dataset, torch.utils.data.IterableDataset):
            dataset, self.data_collator = faults.Numbered(dataset), faults.NumberedCollator(plain)
        try:
            loader = super()._get_dataloader(dataset, *args, **kwargs)
        finally:
            self.data_collator = plain
        return faults.finishing(loader, self._signals)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        step, name = self.state.global_step, f"checkpoint-{self.state.global_step}"
        of_epoch = self._last_step == step  # the Trainer calls it once more at the end of an epoch
        self._last_step = step
        # An epoch's evaluation belongs to its last step: a run that went on behind it would never make it.
        ends = self._asked_to_end and (of_epoch or not float(self.state.epoch or 0.5).is_integer())
        if ends and (self._kept is None or self._kept.name != name):
            self.control.should_save = True
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if ends and (not self.control.should_training_stop or step >= self.state.max_steps):
            self._note(interrupted_at_step=step)
            raise Interrupted(f"{self._signals.seen or 'a signal'}: {name} is there")

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The Trainer (transformers 5.23) makes one more step when a run that is through is resumed.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)
        else:
            self.control.should_training_stop = True

    # Memory.

    def _take_smaller_batches(self, error: Exception) -> None:
        args = self.args
        batch, size = args.per_device_train_batch_size, faults.smaller(args.per_device_train_batch_size)
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        # Workers deal a stream out by batches: in the middle of an epoch other batches would be other rows.
        dealt = isinstance(self.train_dataset, StreamedExamples) and args.dataloader_num_workers > 1
        if not size or args.world_size > 1 or (dealt and self._kept is not None):
            accumulate = args.gradient_accumulation_steps * batch // max(size, 1)
            recompute = not args.activation_checkpointing and can_recompute(cast(torch.nn.Module, self.model))
            raise InputError(
                f"out of memory with {batch} photo{'s' * (batch > 1)} a step and device", found=reason,
                expected="a step that fits into memory",
                fix=f"--per_device_train_batch_size {size} --gradient_accumulation_steps {accumulate}" if size
                else "a smaller --image_size or --model; --freeze backbone"
                + "; --activation_checkpointing True" * recompute,
            ) from error  # fmt: skip
        args.per_device_train_batch_size = size
        args.gradient_accumulation_steps *= batch // size
        self._train_batch_size = args.train_batch_size
        start = f"from {self._kept}" if self._kept else "from the beginning, with the weights as they were"
        if self.is_world_process_zero():
            print(
                f"out of memory with {batch} photos at a time: training goes on {start}, with {size} at a time and "
                f"{args.gradient_accumulation_steps} of these a step, as many photos a step as before"
            )
        smaller = {"batch": size, "gradient_accumulation_steps": args.gradient_accumulation_steps}
        self._note(out_of_memory={"batch": batch, "error": reason, "then": smaller, "start": start})

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return cast(dict[str, float], self._measured(super().evaluate, *args, **kwargs))

    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        return cast(PredictionOutput, self._measured(super().predict, *args, **kwargs))

    def _measured(self, measure: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Measures; out of memory, once more in smaller batches, which changes no figure."""
        while True:
            try:
                return measure(*args, **kwargs)
            except Exception as error:
                batch = self.args.per_device_eval_batch_size
                if not faults.is_out_of_memory(error) or self.args.world_size > 1 or batch == 1:
                    raise
            self.args.per_device_eval_batch_size = batch // 2
            self.__dict__.pop("_eval_dataloaders", None)  # those that persistent workers keep
            print(f"out of memory with {batch} photos at a time: measured with {batch // 2} at a time")
            release_memory()

    # Checkpoints.

    def _get_output_dir(self, trial: Any) -> str:
        return self._saving or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        run = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        beside = run / checkpoints.UNFINISHED
        self._saving = str(beside)
        try:
            with writing(f"{run / name}, which was not kept"):
                super()._save_checkpoint(model, trial)
                self._complete(beside / name, run / name)
                self.accelerator.wait_for_everyone()
                told: list[Any] = [self._commit(beside / name, run / name) if self.args.should_save else None]
        finally:
            self._saving = None
            if self.args.should_save or self.args.local_process_index == 0:
                shutil.rmtree(beside, ignore_errors=True)
        if self.args.world_size > 1:
            told = broadcast_object_list(told)
        if told[0] is not None:
            raise told[0]
        self._kept = run / name
        if self._beginning is not None:
            self._beginning.forget_weights()

    def _complete(self, written: Path, final: Path) -> None:
        """What the Trainer does not write, and the name of the best checkpoint, which may be this one."""
        best = self.state.best_model_checkpoint
        if best is not None and Path(best) == written:
            self.state.best_model_checkpoint = os.path.join(final.parent, final.name)
        if self.args.should_save:
            self.state.save_to_json(str(written / "trainer_state.json"))
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, MovingAverage):
                    callback.save(written)

    def _commit(self, written: Path, final: Path) -> InputError | None:
        """Commits, and removes what there is too much; what went wrong, since all processes are to end with it."""
        try:
            checkpoints.commit(written, final)
        except InputError as error:
            return error
        best = self.state.best_model_checkpoint
        checkpoints.rotate(final.parent, self.args.save_total_limit, [final, *([best] if best else [])])
        return None

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        begin: tuple[int, int] = super()._init_training_state(*args, **kwargs)
        best = None if self._kept is None else checkpoints.best(self._kept)
        if best is not None:
            self.state.best_model_checkpoint = str(best)
            if bad := checkpoints.damaged(best):
                if self.is_world_process_zero():
                    print(f"the best checkpoint so far, {best}, is left out: {'; '.join(bad)}; it is chosen anew")
                self.state.best_model_checkpoint = self.state.best_metric = self.state.best_global_step = None
        return begin

    def _finalize_training(self, *args: Any, **kwargs: Any) -> TrainOutput:
        # Before it is loaded, and before the others are removed.
        best = self.state.best_model_checkpoint
        if best is not None and (bad := checkpoints.damaged(best)):
            raise InputError(
                f"the best checkpoint, {best}", expected="the files that were written", found="; ".join(bad),
                fix="look after the disk; --resume_from_checkpoint last passes it over",
            )  # fmt: skip
        return super()._finalize_training(*args, **kwargs)
