"""Which rows an epoch shows: classes of a long tail equally often, the same again after a resume."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hf_fashion.augmentation import Augmented
from hf_fashion.errors import InputError, in_range


class Balanced(torch.utils.data.Dataset):
    """A dataset that shows small classes more often and large ones less, in as many items an epoch as it has rows.

    What item i of an epoch is depends on (seed, epoch, i) only, so a resumed run and worker processes see the same.
    Each class has a queue of its rows, shuffled anew each time it is through, and every epoch goes on where the last
    one stopped: no row of a class is shown again before all its other rows were, also over epochs, so that the rows
    which a large class does not show in one epoch come in the next.

    Args:
        dataset: Rows, by index. An `Augmented` one draws anew for each showing of a row; its epoch is set too.
        labels: Class number of each row.
        seed: The run's seed.
        power: 1 shows all classes equally often; 0 shows each row once an epoch, as without this; between them a
            class with n rows has a share of n^(1 - power) (Mahajan et al. 2018, arXiv 1805.00932, take 0.5).

    Raises:
        InputError: Not one label a row, or a power outside 0 to 1.
    """

    def __init__(self, dataset: Any, labels: Sequence[int], seed: int, power: float = 1.0) -> None:
        in_range("power", power, 0.0, 1.0)
        if len(labels) != len(dataset) or not len(labels):
            raise InputError(
                "the labels of a balanced dataset", expected=f"one for each of {len(dataset)} rows, 1 or more",
                found=f"{len(labels)} labels", fix="give the label column of the same rows",
            )  # fmt: skip
        self.dataset, self.seed = dataset, seed
        known = np.asarray(labels)
        self._rows = [np.flatnonzero(known == label) for label in np.unique(known)]
        share = np.cumsum([len(rows) ** (1 - power) for rows in self._rows])
        self._share = share / share[-1]
        # In shared memory, since worker processes that outlive an epoch hold a copy of everything else.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._plan: tuple[int, list[tuple[int, int]]] = (-1, [])

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def row(self, index: int) -> int:
        """The row of `dataset` that an item of this epoch shows."""
        return self._item(index)[0]

    def __getitem__(self, index: int) -> Any:
        row, time = self._item(index)
        return self.dataset[row, time] if isinstance(self.dataset, Augmented) else self.dataset[row]

    def _item(self, index: int) -> tuple[int, int]:
        epoch = int(self._epoch)
        if self._plan[0] != epoch:
            self._plan = epoch, self._draw(epoch)
        return self._plan[1][index]

    def _draw(self, epoch: int) -> list[tuple[int, int]]:
        """(row, how often it came before in this epoch) of each item."""
        start, end = self._shown(epoch), self._shown(epoch + 1)
        items = []
        for number, rows in enumerate(self._rows):
            for place in range(start[number], end[number]):
                lap, within = divmod(place, len(rows))
                if within == 0 or place == start[number]:
                    order = np.random.default_rng([self.seed, number, lap]).permutation(rows)
                items.append(int(order[within]))
        shuffled = np.random.default_rng([self.seed, len(self._rows), epoch]).permutation(items)
        seen: dict[int, int] = {}
        plan = []
        for row in shuffled.tolist():
            plan.append((row, seen.get(row, 0)))
            seen[row] = seen.get(row, 0) + 1
        return plan

    def _shown(self, epochs: int) -> list[int]:
        """Items that each class had in the epochs before: its exact share to within one, and all items in sum."""
        # The small sum: a product that is a whole number must not be rounded to the one below.
        bounds = np.floor(epochs * len(self) * self._share + 1e-6).astype(np.int64)
        return np.diff(bounds, prepend=0).tolist()
