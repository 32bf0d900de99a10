"""A moving average of the weights, which is what is evaluated, saved and left at the end."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from hf_fashion.errors import InputError, in_range

# Beside the averaged weights in a checkpoint: the weights that training goes on with.
RAW_WEIGHTS = "raw_weights.safetensors"


class MovingAverage(TrainerCallback):
    """Keeps an exponential moving average of the weights (Polyak and Juditsky 1992, SIAM J. Control Optim. 30(4)).

    Training goes on with the raw weights. They are in the net from the beginning of a step to its end; at all other
    times the average is: in evaluation, in checkpoints, in the best model and after training. A checkpoint has the
    raw weights too, in `raw_weights.safetensors`, and `FashionTrainer` goes on with them, bit by bit as if the run had
    not been interrupted.

    At step t the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that it leaves the weights of the start
    behind within a few steps.

    The statistics of batch norms are averaged as the weights are: those of the raw net would not fit the averaged
    weights, and it costs no pass over the data. Frozen weights, and whole numbers (counters), stay as they are.

    Args:
        decay: What the average keeps of itself in a step, 0 to below 1. Usual: 0.99 for a few hundred steps, 0.999 for
            thousands, 0.9999 for more.

    Raises:
        InputError: A decay out of its range; or, on resume, a checkpoint of a run without an average.
    """

    def __init__(self, decay: float) -> None:
        in_range("moving_average", decay, 0.0, 0.999999)
        self.decay = decay
        self._resumed: dict[str, torch.Tensor] | None = None
        # What is not in the net at the moment: the raw weights between steps, the average within one.
        self._aside: dict[str, torch.Tensor] = {}
        self._tracked: dict[str, torch.Tensor] = {}

    def resume(self, checkpoint: str | Path) -> None:
        """Reads the raw weights of a checkpoint; `FashionTrainer` calls it when it loads the averaged ones."""
        path = Path(checkpoint) / RAW_WEIGHTS
        if not path.is_file():
            raise InputError(
                f"checkpoint {checkpoint}", expected=f"{RAW_WEIGHTS}, as a run with a moving average writes it",
                found="none there", fix="an earlier checkpoint, or go on without --moving_average",
            )  # fmt: skip
        self._resumed = load_file(path)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        saved = model.state_dict().keys()
        self._tracked = {name: value for name, value in model.named_parameters() if value.requires_grad} | {
            name: value for name, value in model.named_buffers() if value.is_floating_point() and name in saved
        }
        self._aside = {name: value.detach().clone() for name, value in self._tracked.items()}
        if self._resumed is not None:
            if self._resumed.keys() != self._tracked.keys():
                odd = sorted(self._resumed.keys() ^ self._tracked.keys())
                raise InputError(
                    "the raw weights of the checkpoint", expected="the tensors that learn in this net",
                    found=f"{len(odd)} others or missing ({odd[0]}, ...)", fix="resume with the run's own --freeze",
                )  # fmt: skip
            for name, value in self._resumed.items():
                self._aside[name].copy_(value)
            self._resumed = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._swap()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        kept = min(self.decay, (1 + step) / (10 + step))
        for name, average in self._aside.items():
            average.lerp_(self._tracked[name].detach(), 1 - kept)
        self._swap()

    def save(self, checkpoint: str | Path) -> None:
        """Writes the raw weights into a checkpoint; `FashionTrainer` calls it when it writes the averaged ones."""
        raw = {name: value.contiguous() for name, value in self._aside.items()}
        save_file(raw, Path(checkpoint) / RAW_WEIGHTS)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._aside, self._tracked = {}, {}

    def _swap(self) -> None:
        # The storages change places and nothing is copied; between steps no graph holds on to them.
        for name, tensor in self._tracked.items():
            tensor.data, self._aside[name] = self._aside[name], tensor.data
