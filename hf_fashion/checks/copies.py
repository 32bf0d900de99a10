"""Pictures that occur more than once: equal pixels, and pictures that are nearly the same.

Perceptual hashes alone say too much: studio shots of one pose on white have the same hash whatever the garment. So a
pair whose hashes are near is looked at again, in thumbnails of 64 x 64 pixels cut into 16 blocks, each of which is
looked for around its place in the other picture. Two photos of one scene agree in every block, also where one was
cropped a little. Where blocks of both pictures show nothing (a shot on a plain ground) the outline makes every block
agree, and only another encoding or size of the same file counts.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.lib.stride_tricks import sliding_window_view
from tqdm.auto import tqdm

from hf_fashion import images
from hf_fashion.checks.pictures import BLOCKS, SIDE, Looked, blocks, encoded, is_flat, thumbnail

HASH_DISTANCE = 8  # bits of 64: other shots of one scene had 2 to 8 in street photos, another encoding 0 to 4
# Both pairs of limits were chosen on the photos that are counted here: elsewhere they may do less well.
# In a scene: the least agreement of (nearly) all blocks, and the largest difference of a block's mean colour. Six of
# six scenes that were shot twice have 0.75 or more and 28 or less; all but 3 of 179 other pairs that hashes name fail.
_SCENE = (0.74, 28.0)
# On a plain ground: of 7,624 pairs of catalogue photos that hashes name, these leave the copies and one other.
_GROUND = (0.94, 5.0)
_PLAIN = 2  # blocks of both that show nothing make a plain ground
_SHIFT = 5  # pixels of 64 by which a block may lie elsewhere
_SMALL_SCENE, _SMALL_GROUND = 24.0, 12.0  # mean and largest difference of 255 beyond which nothing is decoded again
_LEAST = 1.0  # variance that a block's colours count with at least, so that the noise of a flat one does not
_WAITING = 1_000_000  # pairs
_WINDOW = 2_000  # pictures of one hash that each is compared with: more of one are no longer pairs to look at


def equal(looked: Looked) -> list[list[int]]:
    """Groups of pictures with equal pixels, in the order of their first."""
    readable = np.array([number for number in range(len(looked.places)) if number not in looked.reasons], dtype=int)
    _, group, count = np.unique(looked.digests[readable], return_inverse=True, return_counts=True)
    found: dict[int, list[int]] = {}
    for place in np.flatnonzero(count[group] > 1).tolist():
        found.setdefault(int(group[place]), []).append(int(readable[place]))
    return sorted(found.values())


def near(
    dataset: DatasetDict, looked: Looked, same: list[list[int]], limits: images.Limits = images.LIMITS
) -> list[list[int]]:
    """Groups of pictures that are nearly the same, in the order of their first.

    Args:
        dataset: The pictures; those that may be alike are decoded again.
        looked: With perceptual hashes.
        same: Groups of equal pictures, of which the first stands for all.
        limits: With which they were looked at.
    """
    left_out = set(looked.reasons) | {number for group in same for number in group[1:]}
    blank = looked.flat == (1 << BLOCKS * BLOCKS) - 1  # nothing to compare
    rows = np.array([n for n in range(len(looked.places)) if n not in left_out and not blank[n]], dtype=int)
    sources = {split: encoded(part) for split, part in dataset.items() if isinstance(part, Dataset)}

    @lru_cache(maxsize=1024)
    def seen(number: int) -> np.ndarray:
        place = looked.places[number]
        return thumbnail(images.decode(sources[place.split][place.number]["image"], limits=limits))

    groups, different = _Groups(len(rows)), set[int]()
    waiting, count = [np.empty(0, dtype=np.int64)], 0

    def compare() -> None:
        found = np.unique(np.concatenate(waiting)).tolist()
        for pair in tqdm(found, desc="comparing pictures", unit="pair", disable=len(found) < 1000):
            a, b = divmod(pair, len(rows))
            if pair in different or groups.together(a, b):
                continue
            if alike(seen(int(rows[a])), seen(int(rows[b]))):
                groups.join(a, b)
            else:
                different.add(pair)
        waiting.clear()

    # Of n pictures that are all alike (one placeholder, saved n times) there are n * n pairs: some wait at a time, and
    # of those that hang together already none does.
    for a, b in _candidates(looked, rows, groups):
        waiting.append(a * len(rows) + b)
        count += len(a)
        if count > _WAITING:
            compare()
            count = 0
    if waiting:
        compare()
    return [[int(rows[number]) for number in group] for group in groups.all()]


def pairs(hashes: np.ndarray, distance: int = HASH_DISTANCE) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Finds all pairs of hashes that differ in at most `distance` bits, without comparing each with each.

    The 64 bits are cut into `distance + 1` bands: hashes that differ in no more bits agree in one band at least.

    Args:
        hashes: (n,) uint64.
        distance: Bits.

    Yields:
        (pairs,), (pairs,): places of both, the smaller first; a pair may come more than once.
    """
    edges = np.linspace(0, 64, distance + 2).astype(int)
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        keys = (hashes >> np.uint64(start)) & np.uint64((1 << (stop - start)) - 1)
        order = np.lexsort((hashes, keys))
        left = np.arange(len(order))
        for step in range(1, min(len(order), _WINDOW)):
            left = left[left + step < len(order)]
            left = left[keys[order[left]] == keys[order[left + step]]]
            if not len(left):
                break  # keys are sorted: nothing farther away is equal, either
            a, b = order[left], order[left + step]
            close = np.bitwise_count(hashes[a] ^ hashes[b]) <= distance
            if close.any():
                yield np.minimum(a, b)[close], np.maximum(a, b)[close]


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two thumbnails (64, 64, 3) uint8 show the same picture, perhaps encoded, sized or cropped otherwise."""
    flat = is_flat(blocks(a)) & is_flat(blocks(b))
    if flat.all():
        return False
    least, most = _GROUND if flat.sum() >= _PLAIN else _SCENE
    agreement, color = _agreement(a, b, ~flat)
    return bool(np.quantile(agreement, 0.1) >= least and color.max() <= most)


def _agreement(a: np.ndarray, b: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each chosen block of `a`, looked for around its place in `b`: the correlation at the best place, and the
    difference of the mean colours there (0 to 255)."""
    side = SIDE // BLOCKS
    ours = blocks(a)
    around = np.pad(b.astype(np.float32), ((_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), mode="edge")
    windows = sliding_window_view(around, (side, side), axis=(0, 1))
    found = []
    for number in np.flatnonzero(chosen).tolist():
        y, x = (side * part for part in divmod(number, BLOCKS))
        theirs = windows[y : y + 2 * _SHIFT + 1, x : x + 2 * _SHIFT + 1].reshape(-1, 3, side * side)
        one = ours[number].T
        means, mean = theirs.mean(axis=2), one.mean(axis=1)
        centred = one - mean[:, None]
        inner = np.einsum("wcp,cp->w", theirs, centred)  # the other side's mean falls out
        energy = (theirs**2).sum(axis=(1, 2)) - side * side * (means**2).sum(axis=1)
        floor = 3 * side * side * _LEAST
        score = inner / np.sqrt(np.maximum(energy, floor) * max(float((centred**2).sum()), floor))
        best = int(score.argmax())
        found.append((score[best], np.abs(means[best] - mean).max()))
    agreement, color = np.array(found).T
    return agreement, color


def _candidates(looked: Looked, rows: np.ndarray, groups: "_Groups") -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (of places in `rows`) whose hashes are near, whose small thumbnails do not rule it out, and that do not
    hang together."""
    small, flat = looked.small[rows].astype(np.int16), looked.flat[rows]
    half = small.reshape(-1, BLOCKS, 2, BLOCKS, 2, 3).mean(axis=(2, 4), dtype=np.float32)
    for a, b in pairs(looked.hashes[rows]):
        apart = groups.roots()[a] != groups.roots()[b]
        a, b = a[apart], b[apart]
        ground = np.bitwise_count(flat[a] & flat[b]) >= _PLAIN
        scene = np.abs(small[a] - small[b]).mean(axis=(1, 2, 3)) <= _SMALL_SCENE
        still = np.abs(half[a] - half[b]).max(axis=(1, 2, 3)) <= _SMALL_GROUND
        kept = np.where(ground, still, scene)
        yield a[kept], b[kept]


class _Groups:
    """Which of `count` pictures hang together (union-find)."""

    def __init__(self, count: int) -> None:
        self._root: dict[int, int] = {}
        self._roots: np.ndarray | None = None
        self._count = count

    def _find(self, number: int) -> int:
        while (root := self._root.get(number, number)) != number:
            self._root[number] = self._root.get(root, root)
            number = root
        return number

    def roots(self) -> np.ndarray:
        """One picture of each one's group, the same for all of them (count,)."""
        if self._roots is None:
            self._roots = np.arange(self._count)
            self._roots[list(self._root)] = [self._find(number) for number in list(self._root)]
        return self._roots

    def together(self, a: int, b: int) -> bool:
        return self._find(a) == self._find(b)

    def join(self, a: int, b: int) -> None:
        a, b = sorted((self._find(a), self._find(b)))
        self._root[b] = a
        self._roots = None

    def all(self) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for number in sorted({*self._root, *self._root.values()}):
            found.setdefault(self._find(number), []).append(number)
        return sorted(found.values())
