"""The model behind the page where it is an export: as `classifier.py`, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from said import PASS, THUMBNAIL, Said, distinct, highest_first

from hf_fashion import exports
from hf_fashion.passes import Decoder, Passes, engine_threads


@dataclass(frozen=True)
class Group:
    """An attribute: its name, and its labels in the order of the scores."""

    name: str
    labels: list[str]
    many: bool
    thresholds: list[float]


@dataclass(frozen=True)
class Attributes:
    """All of a model's."""

    groups: list[Group]


class Exported:
    """A classifier of `hf-fashion export`, for many threads at once; as `classifier.Classifier`.

    Args:
        model: As the settings name it.
        folder: Where its files lie: the card is README.md.

    Raises:
        InputError: It cannot be loaded, or it is no classifier.
    """

    def __init__(self, model: str, folder: Path) -> None:
        self.folder, self.net = folder, exports.Net(folder, threads=engine_threads())
        exports.refuse_other_kind(
            self.net, f"the model '{model}'", ("classification", "attributes"), "a classifier of photos"
        )  # fmt: skip
        about = self.net.about
        self.form = self.net.form
        self.labels = distinct(self.net.labels)
        self.attributes = None
        if self.net.kind == "attributes":
            groups = [
                Group(name, bare, many, [about["thresholds"].get(label, 0.5) for label in labels])
                for name, bare, labels, many in exports.groups(about)
            ]
            self.attributes = Attributes(groups)
        told = about.get("unsure_below")
        self.unsure_below = float(told) if isinstance(told, int | float) else None
        self._decoder, self._passes = Decoder(), Passes(self._pass, PASS)

    def look(self, photo: str | Path) -> tuple[np.ndarray, Image.Image]:
        """A photo as the net sees it (1, height, width, 3), and a small one to show.

        Raises:
            ValueError: It cannot be read, or is too large; the text is the reason.
        """
        with self._decoder.open(photo) as image:
            pixels = self.net.look(image)
            image.thumbnail((THUMBNAIL, THUMBNAIL))
        return pixels, image

    def say(self, pixels: Sequence[np.ndarray]) -> list[list[Said]]:
        """What the model says of each photo that `look` has seen, a group of labels after the other."""
        return [self._said(scores) for scores in self._passes([{"pixels": one} for one in pixels])]

    def _pass(self, inputs: dict[str, Any]) -> Sequence[np.ndarray]:
        return list(self.net.run(inputs["pixels"])[0])

    def _said(self, scores: np.ndarray) -> list[Said]:
        if self.attributes is None:
            told = highest_first(self.labels, scores.tolist())
            best, score = next(iter(told.items()))
            return [Said("", (best,), told, None if self.unsure_below is None else score >= self.unsure_below)]
        every, start = [], 0
        for group in self.attributes.groups:
            part = scores[start : start + len(group.labels)]
            start += len(group.labels)
            told = highest_first(group.labels, part.tolist())
            limits = dict(zip(group.labels, group.thresholds, strict=True))
            best = group.labels[int(part.argmax())]
            labels = tuple(label for label in told if told[label] >= limits[label]) if group.many else (best,)
            name = group.name if len(self.attributes.groups) > 1 else ""
            every.append(Said(name, labels, told, many=group.many))
        return every
