"""A finished model, trained or exported, for many threads at once: encoded photos in, what it says of each out.

The answers have the form of `hf_fashion.runtime`, whatever the model is. A trained one needs torch, an exported one
does not.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_fashion import exports, runtime
from hf_fashion.errors import InputError, extra
from hf_fashion.images import Source
from hf_fashion.passes import Decoder, Inputs, Passes, cores

FLOOR = 0.01  # boxes of a lower score are never told
Size = tuple[int, int]  # width and height of a photo


@dataclass(frozen=True)
class Asked:
    """What is asked of a model beside the photos.

    Args:
        top_k: Labels of a classifier.
        score: The lowest of a detector's boxes; None for its own.
    """

    top_k: int = 5
    score: float | None = None


class NoNumbers(InputError):
    """What a net says of a photo is NaN or infinite, for which JSON has no word."""

    def __init__(self, name: str) -> None:
        super().__init__(
            name, expected="scores that are numbers", found="NaN or infinite ones, which the model gives for it",
            fix="another photo; if it is said of all, another model: weights or activations of this one overflow",
        )  # fmt: skip


@dataclass(frozen=True)
class _Parts:
    """A model in the parts that threads share.

    Args:
        about: As runtime.json: `kind`, `labels`, `groups`, `thresholds`, `score_threshold`, ...
        told: `name`, `license`, `kind` and `engine`.
        look: A photo -> what the net sees of it.
        run: What the net sees of n photos of one shape -> an answer of each, None where it has no numbers.
        tell: The answer, the photo's size and what is asked -> what is told of it.
    """

    about: dict[str, Any]
    told: dict[str, str]
    look: Callable[[Any], Inputs]
    run: Callable[[dict[str, Any]], Sequence[Any]]
    tell: Callable[[Any, Size, Asked], Any]


class Answering:
    """A model that answers.

    Args:
        model: A folder or a Hub id, trained or exported.
        revision: Branch, tag or commit of a Hub id.
        batch_size: Photos in one pass of the net.
        wait: Seconds that a pass waits for more photos.
        threads: Of the engine, or of torch; None for as many as it chooses.

    Attributes:
        about: `kind` (`classification`, `attributes`, `detection` or `retrieval`), `labels`, and what else
            runtime.json says of such a model.
        told: `name`, `license`, `kind` ("hub", "folder" or "embedded") and `engine`.

    Raises:
        InputError: There is no such model, or it cannot be loaded.
    """

    def __init__(
        self, model: str | Path, revision: str | None = None, *, batch_size: int = 32, wait: float = 0.0,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        folder = exports.find(model, revision)
        parts = _trained(model, revision, threads) if folder is None else _exported(model, folder, threads)
        self.about, self.told = parts.about, parts.told
        self._look, self._tell = parts.look, parts.tell
        self._decoder, self._passes = Decoder(), Passes(parts.run, batch_size, wait)

    @property
    def kind(self) -> str:
        """`classification`, `attributes`, `detection` or `retrieval`."""
        return str(self.about["kind"])

    def __call__(self, photos: Sequence[Source], names: Sequence[str], asked: Asked) -> list[Any]:
        """What the model says of each photo, in the form of `runtime.Exported`; of a vector a list of numbers.

        Args:
            photos: As `images.decode` takes them.
            names: What each is called in an error.
            asked: How much of it.

        Raises:
            InputError: A photo cannot be read; the first one is named.
            NoNumbers: The net says nothing of one that can be told.
        """
        if len(photos) == 1:
            seen = [self._open(photos[0], names[0])]
        else:
            # Threads of its own: those of all requests together could all wait with large photos of one.
            with ThreadPoolExecutor(min(cores(), len(photos))) as opening:
                seen = list(opening.map(self._open, photos, names))
        said = self._passes([inputs for inputs, _ in seen])
        for one, name in zip(said, names, strict=True):
            if one is None:
                raise NoNumbers(name)
        return [self._tell(one, size, asked) for one, (_, size) in zip(said, seen, strict=True)]

    def warm_up(self) -> None:
        """Sends a grey photo through: the first pass of a net is its longest."""
        self._passes([self._look(Image.new("RGB", (64, 64), (127, 127, 127)))])

    def _open(self, photo: Source, name: str) -> tuple[Inputs, Size]:
        try:
            with self._decoder.open(photo) as image:
                return self._look(image), image.size
        except ValueError as error:
            raise InputError(name, expected="a picture", found=str(error), fix="another file") from error


def surest(labels: Sequence[str], scores: np.ndarray, top_k: int) -> list[dict[str, Any]]:
    """The labels with the highest scores (K,), as `runtime` tells them."""
    order: list[int] = np.argsort(-scores, kind="stable")[:top_k].tolist()
    return [{"label": labels[place], "score": float(scores[place])} for place in order]


def in_pixels(labels: Sequence[str], found: tuple[int, float, Sequence[float]], size: Size) -> dict[str, Any]:
    """A box of shares of a photo, as `runtime` tells it."""
    label, score, shares = found
    sides = [round(min(max(share, 0.0), 1.0) * side, 2) for share, side in zip(shares, (*size, *size), strict=True)]
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))
    return {"label": labels[label], "score": score, "box": corners}


def _sound(answer: Any, *numbers: Any) -> Any:
    """An answer; None where not all the numbers that it was made of are some."""
    return answer if all(np.isfinite(one).all() for one in numbers) else None


def _exported(model: str | Path, folder: Path, threads: int | None) -> _Parts:
    net = exports.Net(folder, threads=threads)
    told = exports.describe(model, folder) | {"engine": net.about["format"]}
    told.pop("card")

    def run(inputs: dict[str, Any]) -> Sequence[Any]:
        return [_sound(outputs, *outputs) for outputs in zip(*net.run(inputs["pixels"]), strict=True)]

    def tell(outputs: Sequence[np.ndarray], size: Size, asked: Asked) -> Any:
        if net.kind == "retrieval":
            return outputs[0].tolist()
        if net.kind == "attributes":
            return runtime.said(net.about, outputs[0])
        if net.kind == "detection":
            [found] = runtime.boxes(net.about, *(one[None] for one in outputs), threshold=asked.score)
            return [in_pixels(net.labels, one, size) for one in found]
        return surest(net.labels, outputs[0], asked.top_k)

    return _Parts(net.about, told, lambda image: {"pixels": net.look(image)}, run, tell)


def _trained(model: str | Path, revision: str | None, threads: int | None) -> _Parts:
    import torch

    from hf_fashion import backbones
    from hf_fashion.backbones.sources import is_encoder

    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    described = backbones.describe(model, revision)
    told = {name: str(described[name]) for name in ("name", "license", "kind")} | {"engine": f"torch, {device.type}"}
    if backbones.is_detector(model, revision):
        return _detector(model, revision, device, told)
    if is_encoder(model, revision):
        return _encoder(model, revision, device, told)
    return _classifier(model, revision, device, told)


def _classifier(model: str | Path, revision: str | None, device: Any, told: dict[str, str]) -> _Parts:
    import torch

    from hf_fashion import attributes, backbones

    net, processor = backbones.load_classifier(model, revision=revision)
    whole: Any = net.to(device, memory_format=torch.channels_last).eval()
    groups = attributes.of_config(whole.config)
    labels = [str(name) for _, name in sorted(whole.config.id2label.items())]
    about: dict[str, Any] = {"kind": "classification", "labels": labels}
    if groups is not None:
        limits = attributes.thresholds_of(whole.config, groups)
        about |= {
            "kind": "attributes", "groups": attributes.describe(groups)["attribute_groups"],
            "thresholds": dict(zip(attributes.names(groups), map(float, limits), strict=True)),
        }  # fmt: skip

    def run(inputs: dict[str, Any]) -> Sequence[Any]:
        with torch.inference_mode():
            logits = whole(pixel_values=inputs["pixel_values"].to(device)).logits.float().cpu()
        if groups is None:
            scores = logits.double().softmax(dim=1).numpy()
        else:
            scores = attributes.probabilities(logits.numpy(), groups)
        return [_sound(each, each) for each in scores]

    def tell(scores: np.ndarray, _: Size, asked: Asked) -> Any:
        return surest(labels, scores, asked.top_k) if groups is None else runtime.said(about, scores)

    return _Parts(about, told, partial(_inputs, processor), run, tell)


def _inputs(processor: Any, image: Any) -> Inputs:
    return dict(processor(images=image, return_tensors="pt"))


def _detector(model: str | Path, revision: str | None, device: Any, told: dict[str, str]) -> _Parts:
    import torch

    from hf_fashion import backbones, cropping

    net, processor = backbones.load_detector(model, revision=revision)
    whole: Any = net.to(device).eval()
    labels = cropping.class_names(whole.config)
    threshold = cropping.score_threshold(whole.config)
    about = {
        "kind": "detection", "labels": labels, "score_threshold": cropping.USUAL if threshold is None else threshold
    }  # fmt: skip

    def run(inputs: dict[str, Any]) -> Sequence[Any]:
        with torch.inference_mode():
            outputs = whole(**{name: tensor.to(device) for name, tensor in inputs.items()})
            made = cropping.shares(processor, outputs, threshold=FLOOR)
        raw = (outputs.logits.float().cpu().numpy(), outputs.pred_boxes.float().cpu().numpy())
        return [_sound(*each) for each in zip(made, *raw, strict=True)]

    def tell(found: Sequence[Any], size: Size, asked: Asked) -> Any:
        least = about["score_threshold"] if asked.score is None else asked.score
        return [in_pixels(labels, one, size) for one in found if one[1] > least]

    return _Parts(about, told, partial(_inputs, processor), run, tell)


def _encoder(model: str | Path, revision: str | None, device: Any, told: dict[str, str]) -> _Parts:
    import torch

    from hf_fashion import backbones

    with extra("an encoder", "sentence-transformers", "retrieve"):
        net: Any = backbones.load_encoder(model, revision=revision).to(device)

    def look(image: Any) -> Inputs:
        return {"pixel_values": net.preprocess([image])["pixel_values"]}

    def run(inputs: dict[str, Any]) -> Sequence[Any]:
        seen = {"pixel_values": inputs["pixel_values"].to(device), "modality": "image"}
        with torch.inference_mode():
            vectors = torch.nn.functional.normalize(net(seen)["sentence_embedding"].float(), dim=1)
        return [_sound(each, each) for each in vectors.cpu().numpy()]

    about = {"kind": "retrieval", "labels": [], "dimension": int(net.get_embedding_dimension() or 0)}
    return _Parts(about, told, look, run, lambda vector, size, asked: vector.tolist())
