"""What the Trainer gets of a stream: every row once an epoch, dealt out over processes and workers."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_fashion import images
from hf_fashion.augmentation import drawn
from hf_fashion.reading import outside
from hf_fashion.report import PICTURE, cell
from hf_fashion.streaming.source import RowError, Stream

_BATCH = 64  # rows of a row group in memory at once, beside the shuffle buffer


class StreamedExamples(torch.utils.data.IterableDataset):
    """Rows of a stream -> training examples, in an order that depends on (seed, epoch) and on how many read.

    In each epoch the row groups are shuffled and dealt out, in that order, to the processes and to the workers of
    each; a worker shuffles its share with a buffer. Every row comes once an epoch; where the rows cannot be dealt out
    evenly, the last process gets up to (processes - 1) rows a second time, so that all make the same number of
    steps. Which crop a row gets depends on (seed, epoch, row) only, as in `augmentation.Augmented`.

    Args:
        stream: The split.
        transform: Row -> example; draws from torch's global generator.
        seed: The run's seed.
        keyed: See `augmentation.Augmented`.
        limits: See `images.decode`.
        shuffle_buffer: Encoded rows that a worker holds to draw from. More than a row group has, or rows that lie
            together stay together.
        on_bad_image: "stop", or "drop": the row is noted, and the one before it is shown again with another crop, so
            that all processes keep step.
        left_out: File that such rows are noted in.
    """

    def __init__(
        self, stream: Stream, transform: Callable[[dict[str, Any]], dict[str, Any]], seed: int, *,
        keyed: bool = False, limits: images.Limits = images.LIMITS, shuffle_buffer: int = 1000,
        on_bad_image: str = "stop", left_out: Path | None = None,
    ) -> None:  # fmt: skip
        self.stream, self.transform, self.seed, self.keyed, self.limits = stream, transform, seed, keyed, limits
        self.shuffle_buffer, self.on_bad_image, self.left_out = shuffle_buffer, on_bad_image, left_out
        self.batch_size, self.process, self.processes = 1, 0, 1
        # In shared memory, since worker processes that outlive an epoch hold a copy of everything else.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._skipped = torch.zeros(2, dtype=torch.int64).share_memory_()  # an epoch, and batches of it
        self._told: set[str] = set()

    def share(self, batch_size: int, process: int = 0, processes: int = 1) -> None:
        """Says what the data loader asks for: batches of this size, for one of so many processes."""
        self.batch_size, self.process, self.processes = batch_size, process, processes

    def __len__(self) -> int:
        """Examples an epoch, of this process."""
        return -(-len(self.stream) // self.processes)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def skip(self, epoch: int, batches: int) -> None:
        """Says that the first batches of an epoch are going to be thrown away, and so need not be decoded."""
        self._skipped.copy_(torch.tensor([epoch, batches]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = torch.utils.data.get_worker_info()
        lane, lanes = (worker.id, worker.num_workers) if worker else (0, 1)
        epoch, skipped = self._skipped.tolist()
        skipped *= epoch == int(self._epoch)
        unread = (skipped // lanes + (lane < skipped % lanes)) * self.batch_size
        passed: deque[dict[str, Any]] = deque(maxlen=_BATCH)  # rows that were not decoded
        example: dict[str, Any] | None = None  # the last one
        good: dict[str, Any] | None = None  # the row that it was made of, for the `time`th time
        time, owed = 0, 0
        for number, row in enumerate(self.shuffled(lane, lanes)):
            if number < unread and example is not None:
                passed.append(row)
                yield example  # into a batch that the reader throws away
                continue
            decoded = self._decoded(row)
            if decoded is not None:
                good, time = decoded, 0
            elif passed:  # as if the rows before had been decoded
                bad = 0
                while passed and (decoded := self._decoded(passed.pop())) is None:
                    bad += 1
                good, time = (decoded, bad + 1) if decoded is not None else (good, time + bad)
            passed.clear()
            if good is None:
                owed += 1
                continue
            for _ in range(1 + owed):
                name = f"{self.seed}/{int(self._epoch)}/{good['row']}" + (f"/{time}" if time else "")
                example = drawn(self.transform, good["values"], name, self.keyed)
                time += 1
                yield example
            owed = 0
        if owed:
            raise RowError(
                f"{owed} training pictures that one process reads in an epoch",
                expected="one at least that can be read", found=f"none, the last of them {row['place']}",
                fix="check the dataset, or read with fewer --dataloader_num_workers",
            )  # fmt: skip

    def shuffled(self, lane: int, lanes: int) -> Iterator[dict[str, Any]]:
        """The rows of one worker's share in the order of the epoch that is on, as `Stream.rows` gives them.

        Args:
            lane: The worker, from 0.
            lanes: How many there are; 1 when the process reads itself.
        """
        epoch = int(self._epoch)
        batches = -(-len(self) // self.batch_size)
        # Whole batches to each, the first workers one more: then the loader, which takes a batch from each in turn,
        # gets as many as it counts on, and only the last is short.
        first = (lane * (batches // lanes) + min(lane, batches % lanes)) * self.batch_size
        last = first + (batches // lanes + (lane < batches % lanes)) * self.batch_size
        start = self.process * len(self)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.stream.groups)
        rows = self.stream.rows(self.stream.pieces(order, start + min(first, len(self)), start + min(last, len(self))))
        random = np.random.default_rng([self.seed, epoch, self.process, lane])
        held: list[dict[str, Any]] = []
        for row in rows:
            if len(held) < self.shuffle_buffer:
                held.append(row)
                continue
            place = int(random.integers(len(held)))
            yield held[place]
            held[place] = row
        yield from (held[place] for place in random.permutation(len(held)))

    def _decoded(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The row with its picture and class numbers; None when the picture is left out."""
        values = row["values"]
        labels = {}
        for column, name in self.stream.told.items():
            try:
                labels[column] = self.stream.label(column, values[name])
            except KeyError:
                raise RowError(
                    row["place"], expected=f"a {column} that was there when the run began",
                    found=cell(repr(values[name])), fix="leave the files as they are while a run reads them",
                ) from None  # fmt: skip
        try:
            picture = images.decode(outside.embedded(values[self.stream.image]), limits=self.limits)
        except ValueError as error:
            if self.on_bad_image == "stop":
                raise RowError(
                    row["place"], expected=PICTURE, found=str(error),
                    fix="mend the row in its place and --resume_from_checkpoint last; or start anew with "
                    "--on_bad_image drop, or without --streaming, which looks at all rows beforehand",
                ) from error  # fmt: skip
            self._note(row["place"], str(error))
            return None
        return {"row": row["row"], "values": {"image": picture, **labels}}

    def _note(self, place: str, reason: str) -> None:
        if self.left_out is not None and place not in self._told:
            self._told.add(place)
            with open(self.left_out, "a", encoding="utf-8") as file:  # a short line in one piece, also from many
                file.write(json.dumps({"where": place, "reason": reason}) + "\n")
