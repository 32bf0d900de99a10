"""What "near" means in an index, measured on it: a score says little by itself, and each model has scores of its own.

Photos of the index are asked for as a visitor would ask for them: a photo by itself (it and other photos of its item
do not count as found), words by the texts of its rows. So it is known which best score a query usually gets that does
belong here. A visitor's query whose best score is lower than those of nearly all of them is called far: of queries
that belong here at most a share of `level` is called so wrongly (a conformal p-value; Laxhammar and Falkman, 2010).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from columns import Choice, Columns

from hf_fashion.index import Index

SAMPLE = 200  # queries of each kind; their scores are known to some 2 points in 100
LEVEL = 0.05
TEXT, ITEM = "text", "item_id"  # the columns of canonical rows that tell what is on a photo, and of which item it is
_OTHERS = 20  # answers among which one of another item is looked for
_STEPS = 20  # weights of the words that are told apart
_SAME = 1e-4  # by which scores of one query differ at most, asked alone and among others


class Near:
    """The best scores of queries that belong to an index.

    Args:
        target: The index.
        columns: What was drawn of it.
        read: Texts -> vectors (n, d); None where the model takes none.
        mix: Vectors of photos and of texts, and the weight of the texts -> vectors of both together.
        level: The share of queries that belong to the index and that may be called far.

    Attributes:
        random: The score of two photos drawn at random, the median; None where the index is too small.
        level: As given.
    """

    def __init__(
        self, target: Index, columns: Columns, read: Callable[[Sequence[str]], np.ndarray] | None,
        mix: Callable[[np.ndarray, np.ndarray, float], np.ndarray], level: float = LEVEL,
    ) -> None:  # fmt: skip
        self._target, self._mix, self.level = target, mix, level
        self._ids, self._vectors = columns.ids, columns.vectors
        self._items = [row.get(ITEM) for row in columns.drawn]
        self.random = float(np.median(_pairs(self._vectors))) if len(self._ids) > 1 else None
        self._texts: list[str] = []
        self._read = np.empty((0, target.dimension), np.float32)
        self.by_title = False  # whether the words are texts of single photos; else values of columns
        if read is not None:
            titles = [row.get(TEXT) for row in columns.drawn]
            self.by_title = all(isinstance(title, str) and title for title in titles) and bool(titles)
            self._texts = [str(title) for title in titles] if self.by_title else _values(columns)
            self._read = read(self._texts) if self._texts else self._read
        self.usual = lru_cache(4 * _STEPS)(self._usual)

    def _usual(self, photo: bool, weight: float) -> np.ndarray:
        """The best scores of queries that belong here, the lowest first; none where there is nothing to ask with.

        Args:
            photo: Whether a photo asks.
            weight: Of the words, where they ask, too; 0 where they do not, 1 without a photo.
        """
        if photo and weight and not self.by_title:
            return np.empty(0, np.float32)
        if photo:
            both = self._mix(self._vectors, self._read, weight) if weight else self._vectors
            return np.sort(self._others(both)) if len(self._ids) > 1 else np.empty(0, np.float32)
        if not len(self._read):
            return np.empty(0, np.float32)
        return np.sort([scores[0] for scores in self._target.search(self._read, 1, columns=[]).scores])

    def _others(self, queries: np.ndarray) -> np.ndarray:
        """The score of the nearest photo that is another one, of another item."""
        known = [ITEM] if ITEM in self._target.columns else []
        found = self._target.search(queries, _OTHERS, columns=known)
        best = []
        for one, item, ids, scores, rows in zip(self._ids, self._items, *found, strict=True):
            others = (
                score for other, score, row in zip(ids, scores, rows, strict=True)
                if other != one and (item is None or row.get(ITEM) != item)
            )  # fmt: skip
            best.append(next(others, scores[-1]))
        return np.array(best, dtype=np.float32)

    def limit(self, photo: bool, weight: float) -> float | None:
        """The score below which a best one is called far; None where there are too few queries to tell."""
        usual = self.usual(photo, round(weight * _STEPS) / _STEPS)
        place = int(self.level * (len(usual) + 1)) - 1  # (place + 1) of n + 1 is the share
        return float(usual[place]) - _SAME if place >= 0 else None

    def median(self, photo: bool, weight: float) -> float | None:
        """The usual best score."""
        usual = self.usual(photo, round(weight * _STEPS) / _STEPS)
        return float(np.median(usual)) if len(usual) else None


def _pairs(vectors: np.ndarray) -> np.ndarray:
    """Scores of each with the next one: the draw has no order."""
    made: np.ndarray = (vectors * np.roll(vectors, 1, axis=0)).sum(axis=1)
    return made


def _values(columns: Columns) -> list[str]:
    """Words that fit photos of the index: values of its columns."""
    named = [str(value) for one in columns.filters if isinstance(one, Choice) for value, _ in one.options
             if isinstance(value, str) and any(sign.isalpha() for sign in value)]  # fmt: skip
    return list(dict.fromkeys(named))[:SAMPLE]
