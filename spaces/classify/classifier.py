"""The model behind the page: photos in, what it says of them out, those of several visitors in one pass."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from said import PASS, THUMBNAIL, Said, distinct, highest_first
from torch import Tensor

from hf_fashion.backbones import load_classifier
from hf_fashion.backbones.sources import find
from hf_fashion.serving import Decoder, Passes, spare_a_core

MANY = "multi_label_classification"


class Classifier:
    """An image classifier of the Hub, of a folder or of hf_fashion itself, for many threads at once.

    Args:
        model: As `load_classifier` takes it: a Hub id, `timm/<name>`, a folder, `efficientnet-lite0`.
        revision: Branch, tag or commit of a Hub id.

    Attributes:
        folder: Where its files lie: the card is README.md.
        net: The bare transformers model, on the GPU if there is one.
        processor: Its image processor.
        labels: Of all logits, in their order; the second of two equal names has a number: "crane (2)".
        attributes: What the config says of several attributes; None for a model of one label a photo.
        unsure_below: The score of 95 % precision on validation, None where config.json does not tell it.
        form: None: it is no export.

    Raises:
        InputError: There is no such model, or it is no classifier, with what to do.
    """

    def __init__(self, model: str, revision: str | None = None) -> None:
        spare_a_core()
        self.folder = find(model, revision)
        net: Any
        net, self.processor = load_classifier(self.folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = net.to(self.device)
        self.labels = distinct(str(name) for _, name in sorted(self.net.config.id2label.items()))
        self.attributes = _Attributes(self.net.config) if self.net.config.problem_type == MANY else None
        told = getattr(self.net.config, "unsure_below", None)
        self.unsure_below = float(told) if isinstance(told, int | float) else None
        self.form = None
        self._decoder, self._passes = Decoder(), Passes(self._pass, PASS)

    def look(self, photo: str | Path) -> tuple[Tensor, Image.Image]:
        """A photo as the net sees it (1, 3, height, width), and a small one to show.

        Raises:
            ValueError: It cannot be read, or is too large; the text is the reason.
        """
        with self._decoder.open(photo) as image:
            pixels = self.processor(image, return_tensors="pt")["pixel_values"]
            image.thumbnail((THUMBNAIL, THUMBNAIL))
        return pixels, image

    def say(self, pixels: Sequence[Tensor]) -> list[list[Said]]:
        """What the model says of each photo that `look` has seen, a group of labels after the other."""
        if not pixels:
            return []
        return [self._said(row) for row in self.logits(torch.cat([*pixels])).float()]

    def logits(self, pixels: Tensor) -> Tensor:
        """(n, 3, height, width) -> (n, K), in one pass with what other threads are waiting for."""
        return torch.stack(self._passes([{"pixel_values": one[None]} for one in pixels]))

    def _pass(self, inputs: dict[str, Tensor]) -> Sequence[Tensor]:
        with torch.inference_mode():
            return [*self.net(inputs["pixel_values"].to(self.device)).logits.cpu()]

    def _said(self, logits: Tensor) -> list[Said]:
        if self.attributes is not None:
            return self.attributes.say(logits)
        scores = highest_first(self.labels, logits.softmax(dim=0).tolist())
        best, score = next(iter(scores.items()))
        return [Said("", (best,), scores, None if self.unsure_below is None else score >= self.unsure_below)]


class _Attributes:
    """The groups of labels of one config: see `hf_fashion.attributes`."""

    def __init__(self, config: Any) -> None:
        from hf_fashion import attributes  # takes seconds, with the Trainer, and serves no other model

        self.module, self.groups = attributes, attributes.of_config(config) or []
        self.thresholds = attributes.thresholds_of(config, self.groups)

    def say(self, logits: Tensor) -> list[Said]:
        scores = self.module.probabilities(logits[None].numpy(), self.groups)
        chosen = self.module.decide(scores, self.groups, self.thresholds)[0]
        every = []
        for group in self.groups:
            of_group = highest_first(group.labels, scores[0, group.span].tolist())
            said = {group.labels[number] for number in np.flatnonzero(chosen[group.span])}
            labels = tuple(label for label in of_group if label in said)
            every.append(Said(group.name if len(self.groups) > 1 else "", labels, of_group, many=group.many))
        return every
