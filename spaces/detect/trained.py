"""The nets behind the page where they were trained: asked by transformers, with torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from found import FLOOR, Found, inside
from PIL import Image
from torch import Tensor

from hf_fashion.backbones import load_classifier, load_detector
from hf_fashion.backbones.sources import find
from hf_fashion.cropping import SAME, class_names, score_threshold, shares
from hf_fashion.errors import InputError
from hf_fashion.passes import Inputs
from hf_fashion.serving import spare_a_core


class Net:
    """A detector as `load_detector` takes it.

    Attributes:
        folder: Where its files lie: the card is README.md.
        labels: The classes, in the order of their numbers.
        threshold: The score at which F1 was best on validation, as config.json tells it; else None.
        form: None: it is no export.

    Raises:
        InputError: There is no such model, or it is no detector.
    """

    form = None

    def __init__(self, model: str, revision: str | None) -> None:
        spare_a_core()
        self.folder = find(model, revision)
        net: Any
        net, self.processor = load_detector(self.folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = net.to(self.device)
        self.labels = class_names(self.net.config)
        self.threshold = score_threshold(self.net.config)

    def look(self, image: Image.Image) -> Inputs:
        """A photo as the net sees it."""
        return dict(self.processor(images=image, return_tensors="pt"))

    def boxes(self, inputs: dict[str, Tensor]) -> list[list[Found]]:
        """The boxes of each photo, the surest first."""
        with torch.inference_mode():
            outputs = self.net(**{name: tensor.to(self.device) for name, tensor in inputs.items()})
            answers = shares(self.processor, outputs, threshold=FLOOR, same=SAME)
        return [
            [Found(self.labels[number], number, score, inside(box)) for number, score, box in answer]
            for answer in answers
        ]


class Namer:
    """A classifier that names crops, as `load_classifier` takes it.

    Raises:
        InputError: There is no such model, or it is none of one label a photo.
    """

    def __init__(self, model: str, revision: str | None) -> None:
        folder: Path = find(model, revision)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        net: Any
        net, self.processor = load_classifier(folder)
        if net.config.problem_type == "multi_label_classification":
            raise InputError(
                f"CLASSIFIER {folder}", expected="a model of one label a photo", found="one of several",
                fix="name another, or none",
            )  # fmt: skip
        self.net = net.to(self.device)
        self.labels = class_names(net.config)

    def look(self, crop: Image.Image) -> Inputs:
        """A crop as the net sees it."""
        return dict(self.processor(crop, return_tensors="pt"))

    def best(self, inputs: dict[str, Tensor]) -> Sequence[tuple[str, float]]:
        """The label of each crop, and its score."""
        with torch.inference_mode():
            logits = self.net(inputs["pixel_values"].to(self.device)).logits.float()
        best = logits.softmax(dim=1).max(dim=1)
        return [(self.labels[at], score) for score, at in zip(*map(Tensor.tolist, best), strict=True)]
