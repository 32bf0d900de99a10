"""What a detector sees and finds, trained or exported."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from hf_fashion.passes import Inputs

FLOOR = 0.01  # boxes of a lower score are never told
# As `hf_fashion.cropping` has them, which needs torch: boxes of a photo, and the score where a model has no own.
MOST, USUAL = 100, 0.5


def start(threshold: float | None) -> float:
    """The score at which the slider begins, and which the page tells: on one of its steps, and no higher than the
    model's own, so that no box that it believes is hidden.

    Args:
        threshold: The model's own; None where nobody measured one.
    """
    steps = 100 * (USUAL if threshold is None else threshold)
    return max(FLOOR, floor(steps + 1e-6) / 100)  # 100 * 0.57 is a little less than 57


@dataclass(frozen=True)
class Seen:
    """A photo as the net sees it, and as it is shown.

    Args:
        inputs: What the processor makes of it.
        size: Its width and height in pixels.
        jpeg: It, with a longer side of at most `SHOWN` pixels.
        name: Of its file.
    """

    inputs: Inputs
    size: tuple[int, int]
    jpeg: bytes
    name: str


@dataclass(frozen=True)
class Found:
    """One box.

    Args:
        label: Its class.
        number: Of the class.
        score: From 0 to 1.
        box: xmin, ymin, xmax and ymax as shares of the photo, from 0 to 1.
        says: What the classifier says of the crop, and its score; None without one.
    """

    label: str
    number: int
    score: float
    box: tuple[float, float, float, float]
    says: tuple[str, float] | None = None


def pixels(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box in shares of a photo -> the pixels that it touches: left, top, right, bottom; at least one."""
    (width, height), (left, top) = size, (int(box[0] * size[0]), int(box[1] * size[1]))
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(left + 1, ceil(box[2] * width)), max(top + 1, ceil(box[3] * height))


def inside(box: Sequence[float]) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = (min(1.0, max(0.0, value)) for value in box)
    return xmin, ymin, max(xmin, xmax), max(ymin, ymax)
