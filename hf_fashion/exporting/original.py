"""The model that is exported: loaded as it was saved, asked as its own library asks it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hf_fashion import attributes, backbones, cropping
from hf_fashion.backbones.sources import EMBEDDED, FILES, find
from hf_fashion.errors import InputError
from hf_fashion.exporting import shown

NO_NUMBERS = [(0, math.nan, [math.nan] * 4)]  # what a detector says of a photo whose scores or corners are none
TASKS = {
    "classification": "image-classification", "attributes": "image-classification", "detection": "object-detection",
    "retrieval": "image-feature-extraction",
}  # fmt: skip
# Detectors whose classes have a last one for "nothing there", in one softmax; all others have a sigmoid for each.
_SOFTMAX = ("detr", "yolos", "table-transformer")
_CONDITIONAL = 100  # the surest pairs that the processors of Conditional and Deformable DETR look at


@dataclass
class Original:
    """A model as its library loads it.

    Args:
        kind: `classification`, `attributes`, `detection` or `retrieval`.
        net: The torch module; of an encoder the `SentenceTransformer`.
        processor: Its image processor.
        shown: What that does, in numbers.
        about: What `runtime.json` says of the answers: labels, groups, thresholds.
    """

    kind: str
    net: Any
    processor: Any
    shown: shown.Shown
    about: dict[str, Any] = field(default_factory=dict)

    def answers(self, photos: Sequence[Image.Image], batch_size: int = 8) -> Any:
        """What the model says, in its own library's way.

        Args:
            photos: As `images.decode` gives them.
            batch_size: Photos at once.

        Returns:
            Scores (photos, labels); vectors (photos, dimension); of a detector for each photo its boxes, as
            `cropping.shares` gives them.
        """
        with torch.inference_mode():
            if self.kind == "retrieval":
                vectors = self.net.encode(
                    list(photos), batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
                )
                return np.asarray(vectors, dtype=np.float32)
            if self.kind == "detection":
                return [box for start in range(0, len(photos), batch_size)
                        for box in self._boxes(photos[start : start + batch_size])]  # fmt: skip
            parts = []
            for start in range(0, len(photos), batch_size):
                made = [self._input(photo)["pixel_values"] for photo in photos[start : start + batch_size]]
                parts.append(self.net(pixel_values=torch.cat(made)).logits.float().numpy())
            logits = np.concatenate(parts)
        if self.kind == "attributes":
            return attributes.probabilities(logits, attributes.of_config(self.net.config) or [])
        return torch.softmax(torch.as_tensor(logits, dtype=torch.float64), dim=1).numpy()

    def _input(self, photo: Image.Image) -> Mapping[str, torch.Tensor]:
        return dict(self.processor(images=photo, return_tensors="pt"))

    def _boxes(self, photos: Sequence[Image.Image]) -> list[Any]:
        # Each by itself, as `pipeline` does; those of one shape go through the net together.
        inputs = [self._input(photo) for photo in photos]
        made: list[Any] = []
        for _, alike in itertools.groupby(inputs, key=lambda one: one["pixel_values"].shape):
            group = list(alike)
            batch = {key: torch.cat([one[key] for one in group]) for key in group[0]}
            outputs = self.net(**batch)
            told = cropping.shares(self.processor, outputs, threshold=cropping.FLOOR)
            # Scores that are NaN draw no box: it would look as if there were none.
            made += [
                drawn if scores.isfinite().all() and corners.isfinite().all() else NO_NUMBERS
                for drawn, scores, corners in zip(told, outputs.logits, outputs.pred_boxes, strict=True)
            ]
        return made


def load(model: str, *, task: str = "auto", revision: str | None = None) -> Original:
    """Loads a classifier, a model of attributes, a detector or an encoder, by what its files say it is.

    Args:
        model: A folder or a Hub id, as of `hf-fashion score`.
        task: `retrieve`: take what is named for an encoder, as CLIP, or a classifier without its head.
        revision: Branch, tag or commit of a Hub id.

    Raises:
        InputError: It cannot be loaded, or sees photos in a way that cannot be repeated.
    """
    # Whether sentence-transformers saved it: then it is an encoder, and nothing else.
    saved = model not in EMBEDDED and (find(model, revision, [*FILES, "modules.json"]) / "modules.json").is_file()
    if saved or task == "retrieve":
        return _encoder(model, revision)
    if backbones.is_detector(model, revision):
        net, processor = backbones.load_detector(model, revision=revision)
        return _detector(net, processor)
    net, processor = backbones.load_classifier(model, revision=revision)
    groups = attributes.of_config(net.config)
    labels = [str(name) for _, name in sorted((net.config.id2label or {}).items())]
    about: dict[str, Any] = {"labels": labels, "outputs": ["scores"]}
    if groups:
        limits = attributes.thresholds_of(net.config, groups)
        about["groups"] = attributes.describe(groups)["attribute_groups"]
        about["thresholds"] = dict(zip(attributes.names(groups), map(float, limits), strict=True))
    if isinstance(getattr(net.config, "unsure_below", None), int | float):
        about["unsure_below"] = float(net.config.unsure_below)
    kind = "attributes" if groups else "classification"
    return Original(kind, net.eval(), processor, shown.of_processor(processor), about)


def _detector(net: Any, processor: Any) -> Original:
    softmax = net.config.model_type in _SOFTMAX
    queries = int(net.config.num_queries if not softmax else 0)
    if net.config.model_type in ("conditional_detr", "deformable_detr"):
        queries = min(_CONDITIONAL, queries * len(net.config.id2label))
    threshold = cropping.score_threshold(net.config)
    about = {
        "labels": cropping.class_names(net.config), "outputs": ["scores", "boxes"],
        "score_threshold": cropping.USUAL if threshold is None else threshold,
        "queries_at_most": queries or None, "same": cropping.SAME, "most": cropping.MOST,
    }  # fmt: skip
    return Original("detection", net.eval(), processor, shown.of_processor(processor, detects=True), about)


def _encoder(model: str, revision: str | None) -> Original:
    encoder = backbones.load_encoder(model, revision=revision)
    from hf_fashion.backbones.encoders import Transformer  # with sentence-transformers, which is an extra

    seeing = next((part for part in encoder.modules() if isinstance(part, Transformer) and "image" in part.modalities),
                  None)  # fmt: skip
    if seeing is None:
        raise InputError(
            f"the encoder '{model}'", expected="one that sees photos", found="one of texts alone",
            fix="another model: texts are not exported",
        )  # fmt: skip
    processor: Any = seeing.processor
    processor = getattr(processor, "image_processor", processor)
    about = {"outputs": ["vectors"], "dimension": int(encoder.get_embedding_dimension() or 0)}
    return Original("retrieval", encoder.eval(), processor, shown.of_processor(processor), about)


def name_of(model: str, revision: str | None = None) -> dict[str, str | None]:
    """`backbones.describe`, in which a run's folder is called by its own name."""
    told = backbones.describe(model, revision)
    place = Path(model).expanduser()
    return told | ({"name": place.resolve().name} if place.is_dir() else {})
