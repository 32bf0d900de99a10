"""What a run meets: signals, lack of memory, rows that break it. Each is noticed here, and answered by the Trainer."""

import copy
import functools
import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import Trainer

from hf_fashion.streaming import StreamedExamples
from hf_fashion.training.sampling import Balanced

# The number of its row in an example, and the numbers in a batch.
ROW, ROWS = "row_number", "row_numbers"
_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """As a context: SIGTERM and Ctrl-C are a wish to end at the end of the step; a second Ctrl-C ends at once.

    A signal that is ignored (`nohup`) stays so. Python takes signals in its main thread only; in another one this does
    nothing.

    Attributes:
        seen: Name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.seen: str | None = None
        # The same for worker processes, in shared memory.
        self.flag = torch.zeros((), dtype=torch.bool).share_memory_()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
        self.flag.fill_(False)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.seen is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.seen is None:
            self.seen = signal.Signals(number).name
            self.flag.fill_(True)
            # Not by print: the signal may have come in the middle of one.
            os.write(2, f"\n{self.seen}: the run ends with this step, after a checkpoint\n".encode())


def finishing(loader: Any, signals: Signals) -> Any:
    """Makes workers outlive a SIGTERM or Ctrl-C that reached the whole group, until the step is done.

    Args:
        loader: A `torch.utils.data.DataLoader`, or what accelerate made of one.
        signals: Of the main process.
    """
    own = getattr(loader, "base_dataloader", loader)  # accelerate's own has the attributes, and starts no worker
    begun = isinstance(own.worker_init_fn, functools.partial) and own.worker_init_fn.func is _begin_worker
    if not own.num_workers or begun:  # begun: one that persistent workers keep
        return loader
    own.worker_init_fn = functools.partial(_begin_worker, signals.flag, own.worker_init_fn)
    context: Any = own.multiprocessing_context or multiprocessing.get_context(multiprocessing.get_start_method())
    if context.get_start_method() == "fork":
        shielded = copy.copy(context)
        shielded.Process = _shielded(context.Process)
        own.multiprocessing_context = shielded
    return loader


@functools.cache
def _shielded(process: Any) -> Any:
    """Processes that begin with both signals held back: torch's worker would end by one that comes before its init."""

    class Shielded(process):
        def start(self) -> None:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return Shielded


def _begin_worker(flag: torch.Tensor, init: Callable[[int], None] | None, worker: int) -> None:
    def take(number: int, frame: FrameType | None) -> None:
        waited = time.monotonic() + 2
        while time.monotonic() < waited:  # the main process may see its signal later than this one does
            if flag:
                return
            time.sleep(0.02)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in _NUMBERS:
        signal.signal(number, take)
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)
    if init is not None:
        init(worker)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device or the machine has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and (
        "not enough memory" in str(error) or should_reduce_batch_size(error)  # torch's on Windows; all others
    )


def smaller(batch: int) -> int:
    """The largest part of a batch, half of it at most, of which a whole number makes the batch again; of 1, 0."""
    return next((size for size in range(batch // 2, 0, -1) if batch % size == 0), 0)


class Beginning:
    """What a training begins with, so that it can begin again.

    Args:
        trainer: Before it trains.
        weights: Keep the weights too, on the CPU; False when a checkpoint has them.
    """

    def __init__(self, trainer: Trainer, weights: bool = True) -> None:
        net: Any = trainer.model
        kept = net.state_dict() if weights else {}
        self._weights = {name: value.detach().to("cpu", copy=True) for name, value in kept.items()}
        self._optimizer: Any = trainer.optimizer  # one that was handed to the Trainer, or none
        self._states = None if self._optimizer is None else copy.deepcopy(self._optimizer.state_dict())
        self._random: Any = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._of_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def forget_weights(self) -> None:
        """From now on there is a checkpoint that has them."""
        self._weights = {}

    def restore(self, trainer: Trainer) -> None:
        """Puts everything back that is kept."""
        net: Any = trainer.model
        net.zero_grad(set_to_none=True)
        if self._weights:
            net.load_state_dict(self._weights)
        trainer.model_wrapped, trainer.lr_scheduler = net, None
        trainer.optimizer = self._optimizer
        if self._optimizer is not None:
            self._optimizer.load_state_dict(copy.deepcopy(self._states))
        random.setstate(self._random[0])
        np.random.set_state(self._random[1])
        torch.set_rng_state(self._random[2])
        if self._of_gpus:
            torch.cuda.set_rng_state_all(self._of_gpus)


class Numbered(torch.utils.data.Dataset):
    """A dataset whose examples carry the number of their row, under the name `ROW`.

    Args:
        dataset: Examples, by index.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.dataset[row], ROW: row}

    def __getitems__(self, rows: list[int]) -> list[dict[str, Any]]:
        together = getattr(self.dataset, "__getitems__", None)
        examples = together(rows) if together else [self.dataset[row] for row in rows]
        return [{**example, ROW: row} for example, row in zip(examples, rows, strict=True)]


class NumberedCollator:
    """A collator that takes the numbers of the rows out of the examples, and puts them beside the batch, as `ROWS`.

    Args:
        collate: The collator of the examples as they were.
    """

    def __init__(self, collate: Callable[[list[dict[str, Any]]], Any]) -> None:
        self.collate = collate

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        rows = [example.pop(ROW, -1) for example in examples]
        batch = self.collate(examples)
        batch[ROWS] = torch.tensor(rows)
        return batch


def row_names(dataset: Any, rows: Sequence[int]) -> list[str]:
    """How rows of the training split are called where a user would look for them: by source row, file, or number.

    Args:
        dataset: What the Trainer was given: a `Balanced`, an `Augmented`, or a `datasets.Dataset`.
        rows: Indices into it, as they were shown in the epoch that is on.
    """
    if isinstance(dataset, Balanced):
        return row_names(dataset.dataset, [dataset.row(row) for row in rows])
    if not isinstance(dataset, datasets.Dataset) and hasattr(dataset, "dataset"):
        return row_names(dataset.dataset, rows)
    if not isinstance(dataset, datasets.Dataset):
        return [f"row {row}" for row in rows]
    plain = dataset.with_format("arrow")  # nothing is decoded: the picture may be what is wrong
    names = []
    for row in rows:
        [found] = plain[[row]].to_pylist()
        picture = found.get("image")
        path = picture.get("path") if isinstance(picture, dict) else None
        names.append(found.get("source_row") or (f"row {row} ({path})" if path else f"row {row}"))
    return names


def streamed_row_names(dataset: StreamedExamples, batch: int, workers: int) -> list[str]:
    """The same of a batch that was streamed: its rows are read once more, as they come in the epoch that is on.

    Args:
        dataset: What the Trainer was given.
        batch: Its number in the epoch, of this process.
        workers: How many worker processes read.
    """
    lanes = max(workers, 1)
    first = batch // lanes * dataset.batch_size
    rows = itertools.islice(dataset.shuffled(batch % lanes, lanes), first, first + dataset.batch_size)
    return [row["place"] for row in rows]
