"""What a model says of a photo, trained or exported."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PASS = 32  # photos in one pass of the net
THUMBNAIL = 320  # pixels, the longer side


@dataclass(frozen=True)
class Said:
    """What the model says of one photo: all of it, or one attribute where it has several.

    Args:
        group: The attribute's name, "" where there is none.
        labels: What it says: one label; of tags all that reach their thresholds, which may be none.
        scores: Label -> score from 0 to 1, the highest first.
        sure: Whether the score reaches that of 95 % precision on the validation photos; None where nobody measured it.
        many: Whether several labels, or none, may be right.
    """

    group: str
    labels: tuple[str, ...]
    scores: dict[str, float]
    sure: bool | None = None
    many: bool = False


def distinct(names: Iterable[str]) -> list[str]:
    """The names, those that repeat with a number: answers are kept by name, and ImageNet has two cranes."""
    given = [*names]
    every: dict[str, None] = {}
    for name in given:
        number, new = 1, name
        while new in every or (number > 1 and new in given):
            number += 1
            new = f"{name} ({number})"
        every[new] = None
    return [*every]


def highest_first(labels: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    return dict(sorted(zip(labels, scores, strict=True), key=lambda pair: -pair[1]))
