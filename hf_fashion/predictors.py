"""What each kind of trained model says of photos, as columns: `predicting.load` calls these."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_fashion import attributes, backbones, cache, cropping, images, preparing
from hf_fashion.errors import extra
from hf_fashion.predicting import (
    BOXES,
    CORNERS,
    ERROR,
    NOT_NUMBERS,
    Model,
    Said,
    attributed,
    labelled,
    vector_or_error,
    vectors,
)


def classifier(
    model: str | Path, revision: str | None, top_k: int, device: torch.device, asked: dict[str, Any]
) -> Model:
    loaded: Any = backbones.load_classifier(model, revision=revision)
    net, processor = loaded
    net = net.to(device, memory_format=torch.channels_last).eval()
    names = [str(name) for _, name in sorted(net.config.id2label.items())]
    groups = attributes.of_config(net.config)
    identity = asked | _identity(net, processor)

    prepare = preparing.Preparer(processor)

    def opens(photo: images.Source, limits: images.Limits) -> torch.Tensor:
        return torch.stack(list(prepare([photo], limits=limits)))

    def logits(pixels: Sequence[torch.Tensor]) -> np.ndarray:
        with torch.inference_mode():
            told: torch.Tensor = net(pixel_values=torch.cat(list(pixels)).to(device)).logits
        return told.float().cpu().numpy()

    if groups is not None:
        schema, row = attributed([(group.name, group.labels, group.many) for group in groups], top_k)
        thresholds = attributes.thresholds_of(net.config, groups)

        def say_all(pixels: Sequence[torch.Tensor]) -> list[Said]:
            scores = attributes.probabilities(logits(pixels), groups)
            return [row(*one) for one in zip(scores, attributes.decide(scores, groups, thresholds), strict=True)]

        return Model(schema, say_all, identity, opens)
    schema, of_scores = labelled(names, top_k)

    def say(pixels: Sequence[torch.Tensor]) -> list[Said]:
        scores = torch.softmax(torch.as_tensor(logits(pixels), dtype=torch.float64), dim=1).numpy()
        return [of_scores(one) for one in scores]

    return Model(schema, say, identity, opens)


def detector(
    model: str | Path, revision: str | None, score: float | None, device: torch.device, asked: dict[str, Any]
) -> Model:
    loaded: Any = backbones.load_detector(model, revision=revision)
    net, processor = loaded
    net = net.to(device).eval()
    names = list(dict.fromkeys(cropping.class_names(net.config)))  # as `found_boxes` counts them
    least = next(one for one in (score, cropping.score_threshold(net.config), cropping.USUAL) if one is not None)
    find = cropping.found_boxes(net, processor, floor=min(least, cropping.FLOOR))

    sound: list[bool] = []

    def look(_: Any, __: Any, outputs: Any) -> None:
        told = zip(outputs.logits, outputs.pred_boxes, strict=True)
        sound.extend(bool(logits.isfinite().all() and places.isfinite().all()) for logits, places in told)

    net.register_forward_hook(look)  # a box whose score is no number is left out later, as if there was none

    def say(photos: Sequence[Any]) -> list[Said]:
        made: list[Said] = []
        sound.clear()
        for boxes, numbers in zip(find(photos, [{} for _ in photos]), sound, strict=True):
            if not numbers:
                made.append({ERROR: NOT_NUMBERS})
                continue
            told = []
            for one in boxes:
                x, y, width, height = one.bbox
                if (one.score or 0.0) >= least:
                    place = dict(zip(CORNERS, (x, y, x + width, y + height), strict=True))
                    told.append({"label": names[one.label], "score": one.score, **place})
            made.append({"boxes": told})
        return made

    identity = asked | _identity(net, processor) | {"score": least}
    return Model(BOXES, say, identity)


def encoder(model: str | Path, revision: str | None, device: torch.device, asked: dict[str, Any]) -> Model:
    with extra("an encoder", "sentence-transformers", "retrieve"):
        net = backbones.load_encoder(model, revision=revision).to(device)
    from hf_fashion.index import identify  # seconds, which no other model needs

    width = int(net.get_embedding_dimension() or 0)

    def say(photos: Sequence[Any]) -> list[Said]:
        made = net.encode(list(photos), batch_size=len(photos), normalize_embeddings=True, show_progress_bar=False)
        return [vector_or_error(vector) for vector in np.asarray(made, dtype=np.float32)]

    identity = asked | {"weights": identify(net, str(model), revision)["hash"]}
    return Model(vectors(width), say, identity)


def _identity(net: Any, processor: Any) -> dict[str, str]:
    """Hashes of a net's weights, and of its labels, its thresholds and how photos are prepared: with others of these
    its answers are others, too."""
    told = json.dumps([net.config.to_dict(), processor.to_dict()], sort_keys=True, default=str)
    return {
        "weights": cache.of_tensors(net.state_dict()),
        "settings": hashlib.blake2b(told.encode(), digest_size=16).hexdigest(),
    }
