"""The model behind the page: photos in, boxes with names out, those of several visitors in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hf_fashion.backbones import load_classifier, load_detector
from hf_fashion.backbones.sources import find
from hf_fashion.cropping import MOST, SAME, class_names, score_threshold, shares
from hf_fashion.errors import InputError
from hf_fashion.serving import Decoder, Inputs, Passes, spare_a_core

FLOOR = 0.01  # boxes of a lower score are never told
PASS, CROPS = 8, 32  # photos in one pass of the detector, crops in one of the classifier
SHOWN = 1600  # pixels, the longer side of the photo that is shown, and out of which crops are cut


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


class Detector:
    """An object detector of the Hub or of a folder, for many threads at once; behind it a classifier, if wanted.

    Args:
        model: As `load_detector` takes it.
        revision: Branch, tag or commit of a Hub id.
        classifier: A model of one label a photo that names each crop, as `load_classifier` takes it.
        classifier_revision: Its revision.

    Attributes:
        folder: Where its files lie: the card is README.md.
        labels: The classes, in the order of their numbers.
        threshold: The score at which F1 was best on validation, as config.json tells it; else None.

    Raises:
        InputError: There is no such model, or it is no detector (no classifier), with what to do.
    """

    def __init__(
        self, model: str, revision: str | None = None, classifier: str | None = None,
        classifier_revision: str | None = None,
    ) -> None:  # fmt: skip
        spare_a_core()
        self.folder = find(model, revision)
        net: Any
        net, self.processor = load_detector(self.folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = net.to(self.device)
        self.labels = class_names(self.net.config)
        self.threshold = score_threshold(self.net.config)
        self._decoder, self._passes = Decoder(), Passes(self._boxes, PASS)
        self._namer = _Namer(find(classifier, classifier_revision), self.device) if classifier else None

    def look(self, photo: str | Path, name: str = "") -> Seen:
        """A photo as the net sees it.

        Raises:
            ValueError: It cannot be read, or is too large; the text is the reason.
        """
        with self._decoder.open(photo) as image:
            size = image.size
            inputs = dict(self.processor(images=image, return_tensors="pt"))
            image.thumbnail((SHOWN, SHOWN))
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=88)
        return Seen(inputs, size, buffer.getvalue(), name)

    def find(self, photos: Sequence[Seen], least: float = FLOOR, most: int = MOST) -> list[list[Found]]:
        """The boxes of each photo, surest first: at most so many, and with at least that score.

        Some detectors draw several boxes round one garment: of those of one class that overlap by more than `SAME` the
        surest is told.
        """
        found = [
            [one for one in boxes[:most] if one.score >= least] for boxes in self._passes([*map(_inputs, photos)])
        ]
        return found if self._namer is None else self._namer.name(photos, found)

    def _boxes(self, inputs: dict[str, Tensor]) -> list[list[Found]]:
        with torch.inference_mode():
            outputs = self.net(**{name: tensor.to(self.device) for name, tensor in inputs.items()})
            answers = shares(self.processor, outputs, threshold=FLOOR, same=SAME)
        return [
            [Found(self.labels[number], number, score, _inside(box)) for number, score, box in answer]
            for answer in answers
        ]


class _Namer:
    """A classifier that names crops."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        net: Any
        net, self.processor = load_classifier(folder)
        if net.config.problem_type == "multi_label_classification":
            raise InputError(
                f"CLASSIFIER {folder}", expected="a model of one label a photo", found="one of several",
                fix="name another, or none",
            )  # fmt: skip
        self.net = net.to(device)
        self.labels = class_names(net.config)
        self._passes = Passes(self._scores, CROPS)

    def name(self, photos: Sequence[Seen], found: Sequence[Sequence[Found]]) -> list[list[Found]]:
        """The boxes with what the classifier says of each crop."""
        made = []
        for photo, boxes in zip(photos, found, strict=True):
            with Image.open(BytesIO(photo.jpeg)) as image:
                image.load()
            crops = [image.crop(pixels(one.box, image.size)) for one in boxes]
            said = self._passes([dict(self.processor(crop, return_tensors="pt")) for crop in crops])
            named = [Found(b.label, b.number, b.score, b.box, says) for b, says in zip(boxes, said, strict=True)]
            made.append(named)
        return made

    def _scores(self, inputs: dict[str, Tensor]) -> list[tuple[str, float]]:
        with torch.inference_mode():
            logits = self.net(inputs["pixel_values"].to(self.device)).logits.float()
        best = logits.softmax(dim=1).max(dim=1)
        return [(self.labels[at], score) for score, at in zip(*map(Tensor.tolist, best), strict=True)]


def pixels(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box in shares of a photo -> the pixels that it touches: left, top, right, bottom; at least one."""
    (width, height), (left, top) = size, (int(box[0] * size[0]), int(box[1] * size[1]))
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(left + 1, ceil(box[2] * width)), max(top + 1, ceil(box[3] * height))


def _inputs(photo: Seen) -> Inputs:
    return photo.inputs


def _inside(box: Sequence[float]) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = (min(1.0, max(0.0, value)) for value in box)
    return xmin, ymin, max(xmin, xmax), max(ymin, ymax)
