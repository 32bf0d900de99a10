"""Pairs of photos of one item, or of photos and texts, and batches of them whose rows all differ."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import datasets
import numpy as np
import torch
from torchvision.transforms import v2

from hf_fashion import images
from hf_fashion.augmentation import drawn
from hf_fashion.data import folded
from hf_fashion.errors import InputError, in_range
from hf_fashion.protocols import changes_of
from hf_fashion.training import faults

Kind = Literal["image", "text", "composed"]  # what is put beside a photo


class Pairs(torch.utils.data.Dataset):
    """Pairs to learn from, by (row, kind): the row's photo and another of its item, or the photo and its text.

    By (row, kind, row of a wrong answer) that row's photo or text comes along. All draws (the other photo, crops)
    depend on (seed, epoch, row) only, so a run that is resumed sees the pairs that it would have seen. A lone photo of
    an item is paired with itself, drawn a second time.

    Args:
        rows: Columns `image`, `item_id`, and `text` where texts are paired.
        seed: Of the draws.
        augment: PIL picture -> PIL picture, drawing from torch's global generator; None: the photo as it is.
        wrong: Rows that each row is to be told from (rows, any number), as of `nearest_wrong`: `DistinctBatches` draws
            one of them each time.
        limits: See `images.decode`.
    """

    def __init__(
        self,
        rows: Any,
        seed: int,
        *,
        augment: Callable[[Any], Any] | None = None,
        wrong: Sequence[Sequence[int]] | None = None,
        limits: images.Limits = images.LIMITS,
    ) -> None:
        self.seed, self.augment, self.wrong, self.limits = seed, augment, wrong, limits
        # As evaluation reads them: by `images.decode` alone.
        self.dataset = rows.cast_column("image", datasets.Image(decode=False))
        plain = rows.with_format(None)
        self.items = [str(item) for item in plain["item_id"]]
        self.texts: list[str | None] = list(plain["text"]) if "text" in rows.column_names else [None] * len(rows)
        self._of_item: dict[str, list[int]] = {}
        for row, item in enumerate(self.items):
            self._of_item.setdefault(item, []).append(row)
        self.groups = together(self.items, self.texts)
        # In shared memory, as of `Augmented`.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __getitem__(self, key: tuple[int, Kind] | tuple[int, Kind, int]) -> dict[str, Any]:
        """The pair {anchor, positive, negative where the key names one}: pictures and texts."""
        row, kind, *wrong = key

        def make(_: dict[str, Any]) -> dict[str, Any]:
            pair = {"anchor": self._photo(row), "positive": self.texts[row] if kind == "text" else self._other(row)}
            for other in wrong:
                pair["negative"] = self.texts[other] if kind == "text" else self._photo(other)
            return {**pair, faults.ROW: row}

        return drawn(make, {}, f"{self.seed}/{self.epoch}/{row}/{kind}", keyed=False)

    def _other(self, row: int) -> Any:
        others = [one for one in self._of_item[self.items[row]] if one != row] or [row]
        return self._photo(others[int(torch.randint(len(others), ()))])

    def _photo(self, row: int) -> Any:
        photo = images.decode(self.dataset[row]["image"], limits=self.limits)
        return photo if self.augment is None else self.augment(photo)


class ComposedPairs(Pairs):
    """What a photo and words about a change ask for, by (number of the change, kind): the photo, the words, a photo of
    the item that they ask for. Drawn as of `Pairs`.

    Args:
        rows: Columns `image`, `item_id` and `relative_captions`, as `protocols.changes_of` reads them.
        seed: Of the draws.
        augment: See `Pairs`.
        limits: See there.

    Attributes:
        left_out: Reason -> how many changes are no pair.

    Raises:
        InputError: No change asks with words for an item that is there.
    """

    def __init__(
        self,
        rows: Any,
        seed: int,
        *,
        augment: Callable[[Any], Any] | None = None,
        limits: images.Limits = images.LIMITS,
    ) -> None:
        super().__init__(rows, seed, augment=augment, limits=limits)
        changes = [(row, *change) for row, asked in enumerate(changes_of(rows)) for change in asked]
        known = [change for change in changes if change[1] in self._of_item]
        there = [change for change in known if change[2]]
        counted = {"the target is not in the training split": len(changes) - len(known),
                   "no words": len(known) - len(there)}  # fmt: skip
        self.left_out = {reason: count for reason, count in counted.items() if count}
        if not there:
            raise InputError(
                "column relative_captions", expected="changes that ask for an item of the training split",
                found=f"{len(changes)} changes, of none of which the target is there, and words" if changes
                else "no change",
                fix="`target` is an item_id of the same split",
            )  # fmt: skip
        self._references = [row for row, _, _ in there]
        self.items, self.texts = [item for _, item, _ in there], [words for *_, words in there]
        self.groups = together(self.items, [None] * len(there))

    def __getitem__(self, key: tuple[int, Kind] | tuple[int, Kind, int]) -> dict[str, Any]:
        """The change {anchor, words, target}."""
        number, kind, *_ = key
        row, answers = self._references[number], self._of_item[self.items[number]]

        def make(_: dict[str, Any]) -> dict[str, Any]:
            asked = {"anchor": self._photo(row), "words": self.texts[number]}
            return {**asked, "target": self._photo(answers[int(torch.randint(len(answers), ()))]), faults.ROW: row}

        return drawn(make, {}, f"{self.seed}/{self.epoch}/{number}/{kind}", keyed=False)


def together(items: Sequence[str], texts: Sequence[str | None]) -> np.ndarray:
    """A number for each row (rows,), equal for rows that may not be each other's wrong answer: of one item, or with
    one text (as searches tell texts apart: whatever its case and blanks), or joined by others that are."""
    parent = list(range(len(items)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, (item, text) in enumerate(zip(items, texts, strict=True)):
        for key in [("item", item), *([("text", folded(text))] if text else [])]:
            parent[root(row)] = root(first.setdefault(key, row))
    return np.asarray([root(row) for row in range(len(items))], dtype=int)


def differing(pairs: "Pairs", kinds: Sequence[Kind]) -> int:
    """How many rows a batch of `DistinctBatches` may have at most."""
    rows = [[row for row, text in enumerate(pairs.texts) if kind == "image" or text] for kind in kinds]
    return min(len(set(pairs.groups[of_kind])) for of_kind in rows) - (pairs.wrong is not None)


class DistinctBatches(torch.utils.data.Sampler):
    """Batches of keys of `Pairs` in which no two rows belong together, since each is a wrong answer to the others.

    Every row comes once an epoch and kind, but for what is left at the end and no longer fills a batch: it would have
    other wrong answers than all others. Kinds take turns. Where pairs have wrong answers of their own, one is drawn of
    those that are right for no other row of the batch, to which it is a wrong answer, too; where all are, of all rows.

    Args:
        pairs: Whose epoch, groups and wrong answers count.
        kinds: What is put beside the photos.
        batch_size: Rows a batch.
        seed: Of the order.

    Attributes:
        left: Kind -> rows that come in no batch of an epoch; which, is drawn anew each time.

    Raises:
        InputError: There are not as many groups as a batch has rows; with wrong answers, not one more.
    """

    def __init__(self, pairs: Pairs, kinds: Sequence[Kind], batch_size: int, seed: int) -> None:
        self.pairs, self.kinds, self.batch_size, self.seed, self.drop_last = pairs, list(kinds), batch_size, seed, True
        self._rows = {kind: self._usable(kind) for kind in self.kinds}
        for kind, rows in self._rows.items():
            there = len(set(pairs.groups[rows])) - (pairs.wrong is not None)
            if there < batch_size:
                more = ", and one more for wrong answers" if pairs.wrong is not None else ""
                raise InputError(
                    f"--per_device_train_batch_size {batch_size}",
                    expected=f"no more pairs a step than there are items that differ: {there} for pairs with "
                    + {"text": "texts", "image": "photos", "composed": "words and photos"}[kind] + more,
                    found=str(batch_size), fix=f"--per_device_train_batch_size {max(2, there // 2)}" if there > 1
                    else "photos of more items, with texts that differ",
                )  # fmt: skip
        self._counts = {kind: self._count(kind) for kind in self.kinds}
        self.left = {kind: len(rows) - self._counts[kind] * batch_size for kind, rows in self._rows.items()}

    def _usable(self, kind: Kind) -> list[int]:
        return [row for row, text in enumerate(self.pairs.texts) if kind == "image" or text]

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[list[tuple[int, Kind] | tuple[int, Kind, int]]]:
        made = [list(self._batches(kind)) for kind in self.kinds]
        rng = np.random.default_rng([self.seed, self.pairs.epoch, 0])
        for turn in range(max(map(len, made))):
            for kind, batches in zip(self.kinds, made, strict=True):
                if turn < len(batches):
                    yield self._keys(batches[turn], kind, rng)

    def _keys(self, rows: list[int], kind: Kind, rng: np.random.Generator) -> list[Any]:
        if self.pairs.wrong is None:
            return [(row, kind) for row in rows]
        groups, usable = self.pairs.groups, np.zeros(len(self.pairs), dtype=bool)
        usable[self._rows[kind]] = True
        usable &= ~np.isin(groups, groups[rows])
        keys = []
        for row in rows:
            near = [one for one in self.pairs.wrong[row] if usable[one]]
            drawn_of = near or np.flatnonzero(usable)
            keys.append((row, kind, int(drawn_of[int(rng.integers(len(drawn_of)))])))
        return keys

    def _batches(self, kind: Kind) -> Iterator[list[int]]:
        """As many whole batches as the groups allow; the same count each epoch, or a resume would err."""
        groups = self.pairs.groups
        rng = np.random.default_rng([self.seed, self.pairs.epoch, len(kind)])
        waiting: dict[int, list[int]] = {}
        for row in rng.permutation(self._rows[kind]).tolist():
            waiting.setdefault(int(groups[row]), []).append(row)
        # The largest groups first, so that what is left at the end is of as many groups as can be; of equal ones by
        # chance, or those that met in one batch would meet again in the next round.
        heap = [(-len(rows), rng.random(), group) for group, rows in waiting.items()]
        heapq.heapify(heap)
        for _ in range(self._counts[kind]):
            chosen = [heapq.heappop(heap) for _ in range(self.batch_size)]
            yield [waiting[group].pop() for _, _, group in chosen]
            for left, _, group in chosen:
                if left < -1:
                    heapq.heappush(heap, (left + 1, rng.random(), group))

    def _count(self, kind: Kind) -> int:
        """Whole batches that the sizes of the groups allow: of each group one row a batch."""
        sizes = np.unique(self.pairs.groups[self._rows[kind]], return_counts=True)[1]
        count = int(sizes.sum()) // self.batch_size
        while np.minimum(sizes, count).sum() < count * self.batch_size:
            count -= 1
        return count


def crop_and_flip(smallest_crop: float, flip: bool) -> Callable[[Any], Any] | None:
    """PIL picture -> PIL picture: a random part of it, from 3 : 4 to 4 : 3, mirrored half the time."""
    in_range("smallest_crop", smallest_crop, 0.01, 1.0)
    flips: list[Any] = [v2.RandomHorizontalFlip()] if flip else []
    if smallest_crop == 1.0:
        return v2.Compose(flips) if flips else None

    def crop(photo: Any) -> Any:
        top, left, height, width = v2.RandomResizedCrop(1, scale=(smallest_crop, 1.0)).make_params([photo]).values()
        return photo.crop((left, top, left + width, top + height))

    return v2.Compose([crop, *flips])
