"""Boxes of many photos as flat arrays: what a detector says, and what is there; 56 bytes a box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

BoxFormat = Literal["xywh", "xyxy", "cxcywh"]


@dataclass
class Detections:
    """What a detector says, a box after the other, in any order.

    Args:
        image: The number of the photo of each box (n,), from 0.
        box: Left, top, width and height in pixels (n, 4).
        score: The higher the surer (n,).
        label: Class numbers (n,), from 0.

    Raises:
        ValueError: Shapes that do not fit, numbers that are not finite, a width or height below 0.
    """

    image: np.ndarray
    box: np.ndarray
    score: np.ndarray
    label: np.ndarray

    def __post_init__(self) -> None:
        self.image, self.box, self.label = _checked(self.image, self.box, self.label, "predictions")
        self.score = np.asarray(self.score, dtype=np.float64)
        if self.score.shape != self.image.shape or not np.isfinite(self.score).all():
            raise ValueError(f"scores of predictions must be finite, one a box; found {_shown(self.score)}")

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, chosen: np.ndarray) -> "Detections":
        return Detections(self.image[chosen], self.box[chosen], self.score[chosen], self.label[chosen])

    @classmethod
    def of_images(cls, per_image: Sequence[Mapping[str, Any]], box_format: BoxFormat = "xyxy") -> "Detections":
        """Of a dict a photo with `boxes` (n, 4), `scores` (n,) and `labels` (n,): lists, arrays, tensors on the CPU.

        Image processors of transformers give these in `post_process_object_detection`, as xyxy.
        """
        image, box, label = _flat(per_image, box_format)
        return cls(image, box, _joined([one["scores"] for one in per_image]), label)


@dataclass
class Annotations:
    """What is there, a box after the other, in any order.

    Args:
        image: The number of the photo of each box (m,), from 0.
        box: Left, top, width and height in pixels (m, 4).
        label: Class numbers (m,), from 0.
        n_images: Photos, with those that have no box.
        area: In square pixels (m,), of the mask where there is one; NaN, or None for all, where it is not known:
            then it is width times height. It says which boxes are small, medium and large.
        crowd: Whether a box is COCO's `iscrowd`, of many things at once (m,); None: none is. What is found there
            counts neither as right nor as wrong.

    Raises:
        ValueError: Shapes that do not fit, numbers that are not finite, a width or height below 0.
    """

    image: np.ndarray
    box: np.ndarray
    label: np.ndarray
    n_images: int
    area: np.ndarray = None  # type: ignore[assignment]  # an array as soon as it is made
    crowd: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.image, self.box, self.label = _checked(self.image, self.box, self.label, "references")
        if len(self.image) and self.image.max() >= self.n_images:
            raise ValueError(f"references have {self.n_images} photos, and a box of photo {self.image.max()}")
        area = np.full(len(self), np.nan) if self.area is None else np.asarray(self.area, dtype=np.float64)
        crowd = np.zeros(len(self), dtype=bool) if self.crowd is None else np.asarray(self.crowd).astype(bool)
        if not area.shape == crowd.shape == self.image.shape:
            raise ValueError(f"area and crowd must be one a box ({len(self)}), found {area.shape} and {crowd.shape}")
        self.area = np.where(np.isnan(area), self.box[:, 2] * self.box[:, 3], area)
        self.crowd = crowd

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, chosen: np.ndarray) -> "Annotations":
        parts = (self.image[chosen], self.box[chosen], self.label[chosen])
        return Annotations(*parts, self.n_images, self.area[chosen], self.crowd[chosen])

    @classmethod
    def of_images(cls, per_image: Sequence[Mapping[str, Any]], box_format: BoxFormat = "xywh") -> "Annotations":
        """Of a dict a photo with `boxes`, `labels` and, where they are known, `area` and `iscrowd`.

        A row of a dataset is `{"boxes": objects["bbox"], "labels": objects["category"], "area": objects["area"]}`.
        """
        image, box, label = _flat(per_image, box_format)
        counts = [len(one["labels"]) for one in per_image]
        area = _joined([_known(one.get("area"), n, np.nan) for one, n in zip(per_image, counts, strict=True)])
        crowd = _joined([_known(one.get("iscrowd"), n, 0) for one, n in zip(per_image, counts, strict=True)])
        return cls(image, box, label, len(per_image), area, crowd)


def check(predictions: Detections, references: Annotations, labels: Sequence[str]) -> None:
    """Raises ValueError where the two do not belong together, or not to the labels."""
    if not references.n_images:
        raise ValueError("no photos to evaluate")
    if len(set(labels)) != len(labels):
        raise ValueError(f"labels must differ, found {list(labels)}")
    for name, part in (("predictions", predictions), ("references", references)):
        if len(part) and part.label.max() >= len(labels):
            raise ValueError(f"labels of {name} must be 0 to {len(labels) - 1}, found {part.label.max()}")
    if len(predictions) and predictions.image.max() >= references.n_images:
        raise ValueError(
            f"references have {references.n_images} photos, and predictions a box of photo {predictions.image.max()}"
        )


def intersections(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Area that boxes share, pair by pair: (n, 4) and (n, 4) of xywh to (n,)."""
    sides = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    sides = np.maximum(sides, 0.0)
    return sides[:, 0] * sides[:, 1]


def ious(one: np.ndarray, other: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union, pair by pair: (n, 4) and (n, 4) of xywh to (n,).

    Args:
        one: Boxes of predictions.
        other: Boxes of references.
        crowd: Where the reference is a crowd (n,), the share of the prediction that lies in it counts, as in COCO.
    """
    shared = intersections(one, other)
    area = one[:, 2] * one[:, 3]
    union = area + other[:, 2] * other[:, 3] - shared
    if crowd is not None:
        union = np.where(crowd, area, union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def pairs(first: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a thing and its partners: the number of the thing, and of the partner.

    Args:
        first: The number of each thing's first partner (n,).
        counts: How many it has, one after the other (n,).
    """
    thing = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(thing)) - np.repeat(np.cumsum(counts) - counts, counts)
    return thing, first[thing] + within


def _checked(image: Any, box: Any, label: Any, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, box, label = np.asarray(image), np.asarray(box, dtype=np.float64), np.asarray(label)
    if image.ndim != 1 or box.shape != (len(image), 4) or label.shape != image.shape:
        raise ValueError(f"{what} must be (n,), (n, 4) and (n,), found {image.shape}, {box.shape} and {label.shape}")
    for name, numbers in (("photos", image), ("labels", label)):
        if len(numbers) and (numbers.dtype.kind not in "iu" or numbers.min() < 0):
            raise ValueError(f"{name} of {what} must be whole numbers from 0 on, found {_shown(numbers)}")
    wrong = np.flatnonzero(~np.isfinite(box).all(axis=1) | (box[:, 2:] < 0).any(axis=1))
    if len(wrong):
        found = f"{box[wrong[0]].tolist()} in photo {image[wrong[0]]}"
        raise ValueError(f"boxes of {what} must be finite, of a width and height of 0 or more; found {found}")
    return image.astype(np.int64), box, label.astype(np.int64)


def _shown(numbers: np.ndarray) -> str:
    bad = numbers[~np.isfinite(numbers)] if numbers.dtype.kind == "f" else numbers[numbers < 0]
    return f"{bad[0]}" if bad.size else f"{numbers.dtype} of shape {numbers.shape}"


def _flat(per_image: Sequence[Mapping[str, Any]], box_format: BoxFormat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes = [np.asarray(one["boxes"], dtype=np.float64).reshape(-1, 4) for one in per_image]
    counts = [len(box) for box in boxes]
    for number, (one, n) in enumerate(zip(per_image, counts, strict=True)):
        lengths = {key: len(one[key]) for key in ("boxes", "labels", "scores") if key in one}
        if set(lengths.values()) != {n}:
            raise ValueError(f"photo {number}: {', '.join(f'{length} {key}' for key, length in lengths.items())}")
    box = np.concatenate(boxes) if boxes else np.empty((0, 4))
    if box_format == "xyxy":
        box = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)
    elif box_format == "cxcywh":
        box = np.concatenate([box[:, :2] - box[:, 2:] / 2, box[:, 2:]], axis=1)
    elif box_format != "xywh":
        raise ValueError(f"box_format must be xywh, xyxy or cxcywh, found {box_format!r}")
    return np.repeat(np.arange(len(counts)), counts), box, _joined([one["labels"] for one in per_image], np.int64)


def _joined(parts: Sequence[Any], dtype: Any = np.float64) -> np.ndarray:
    arrays = [np.asarray(part) for part in parts]
    arrays = [array for array in arrays if array.size]  # an empty list is of floats
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)


def _known(values: Any, n: int, missing: float) -> Any:
    return [missing] * n if values is None or len(values) == 0 else values
