"""Exported models without torch and transformers: numpy, Pillow and one engine answer for a photo.

    from hf_fashion import runtime

    model = runtime.load("exported")          # a folder of `hf-fashion export`
    model("photo.jpg")                        # [{"label": "dress", "score": 0.98}, ...]
    model(["a.jpg", "b.jpg"], batch_size=8)   # a list of answers

A classifier gives labels with scores, the surest first; a model of attributes, for each attribute, the labels that it
says; a detector boxes in pixels; an encoder a vector of length 1. This module imports numpy and Pillow; ONNX Runtime,
OpenVINO or LiteRT is imported when a folder is loaded. A loaded model may be asked by several threads.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_fashion import images
from hf_fashion.errors import InputError, extra

ABOUT = "runtime.json"  # what `load` must know of a model
VERSION = 1  # of that file
FILES = {"onnx": "model.onnx", "openvino": "openvino_model.xml", "litert": "model.tflite"}
# OpenVINO computes in half precision where the CPU can, unless it is told.
HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
# Pixels of a photo on the way to its size, some 200 MB: a shorter side of 224 makes 2 billion of a strip of 1 x 40,000
_MOST = 50_000_000
_ONE = (str, Path, bytes, bytearray, Image.Image, np.ndarray, dict)  # all else is several photos
Run = Callable[[np.ndarray], list[np.ndarray]]  # pixels (photos, height, width, 3) uint8 -> the graph's outputs


def load(folder: str | Path, *, threads: int | None = None) -> "Exported":
    """Loads a folder of `hf-fashion export`.

    Args:
        folder: With runtime.json and the model's file.
        threads: Of the engine; None for as many as it chooses.

    Raises:
        InputError: It is no such folder, a file is missing, or the engine is not installed.
    """
    place = Path(folder).expanduser()
    try:
        about = json.loads((place / ABOUT).read_text(encoding="utf-8"))
        version, name = about["version"], FILES[about["format"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the exported model {folder}", expected=f"a folder of hf-fashion export, with {ABOUT}",
            found=f"{type(error).__name__}: {error}", fix="hf-fashion export MODEL -o FOLDER",
        ) from error  # fmt: skip
    if version != VERSION:
        raise InputError(
            f"the exported model {folder}", expected=f"{ABOUT} of version {VERSION}", found=f"version {version}",
            fix="export it again, or upgrade hf_fashion",
        )  # fmt: skip
    if not (place / name).is_file():
        raise InputError(
            f"the exported model {folder}", expected=name, found="no such file in it", fix="export it again"
        )
    return Exported(about, engine(place / name, about, threads=threads))


def engine(path: Path, about: Mapping[str, Any], *, threads: int | None = None) -> Run:
    """What runs the file of a model.

    Args:
        path: Of the file.
        about: runtime.json: its format, precision and outputs.
        threads: See `load`.
    """
    engines = {"onnx": _onnx, "openvino": _openvino, "litert": _litert}
    return engines[about["format"]](path, about, threads)


def _onnx(path: Path, about: Mapping[str, Any], threads: int | None) -> Run:
    with extra("an ONNX model", "onnxruntime", "export"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pixels: list(session.run(about["outputs"], {"pixels": pixels}))


def _openvino(path: Path, about: Mapping[str, Any], threads: int | None) -> Run:
    with extra("an OpenVINO model", "openvino", "export"):
        import openvino

    settings = {"INFERENCE_PRECISION_HINT": HINTS[about["precision"]], "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        told = compiled([pixels])
        return [np.array(told[name]) for name in about["outputs"]]

    return _one_by_one(run)


def _litert(path: Path, about: Mapping[str, Any], threads: int | None) -> Run:
    with extra("a LiteRT model", "ai-edge-litert", "litert"):
        from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path), num_threads=threads).get_signature_runner()

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        told = model(pixels=pixels)
        return [told[name] for name in about["outputs"]]

    return _one_by_one(run)


def _one_by_one(run: Run) -> Run:
    """For engines whose one place for inputs and outputs is shared by all threads that ask."""
    lock = threading.Lock()

    def asked(pixels: np.ndarray) -> list[np.ndarray]:
        with lock:
            return run(pixels)

    return asked


class Exported:
    """An exported model; called with a photo it gives its answer, with several a list of answers.

    Attributes:
        about: The content of runtime.json: `kind`, `labels`, how a photo is resized, ...
    """

    def __init__(self, about: dict[str, Any], run: Run) -> None:
        self.about, self.run = about, run

    def __call__(
        self,
        photos: images.Source | Sequence[images.Source],
        *,
        batch_size: int = 8,
        top_k: int = 5,
        threshold: float | None = None,
    ) -> Any:
        """Answers for one photo, or for a list of them.

        Args:
            photos: Paths, bytes, PIL images or arrays, as `images.decode` takes them.
            batch_size: Photos that go through the model together.
            top_k: Of a classifier, so many labels.
            threshold: Of a detector, boxes of a lower score are left out; None for the model's own.

        Returns:
            Of a classifier a list of `{"label", "score"}`, the surest first; of attributes `{attribute: [{"label",
            "score"}, ...]}` with the labels that it says; of a detector a list of `{"label", "score", "box": {"xmin",
            "ymin", "xmax", "ymax"}}`, in pixels of the upright photo; of an encoder a vector (d,), 32-bit floats. For
            several photos a list of these; of vectors an array (n, d).

        Raises:
            InputError: A photo cannot be read; it is named.
        """
        several = not isinstance(photos, _ONE)
        asked: Any = photos if several else [photos]
        answers: list[Any] = []
        for decoded, outputs in self.outputs(asked, batch_size=batch_size):
            if self.about["kind"] == "retrieval":
                answers += list(outputs[0])
            elif self.about["kind"] == "detection":
                found = boxes(self.about, *outputs, threshold=threshold)
                answers += [
                    [_in_pixels(self.about["labels"], box, photo.size) for box in each]
                    for photo, each in zip(decoded, found, strict=True)
                ]
            elif self.about["kind"] == "attributes":
                answers += [said(self.about, scores) for scores in outputs[0]]
            else:
                answers += [_surest(self.about["labels"], scores, top_k) for scores in outputs[0]]
        if not several:
            return answers[0]
        return np.stack(answers) if self.about["kind"] == "retrieval" and answers else answers

    def outputs(
        self, photos: Sequence[images.Source], *, batch_size: int = 8
    ) -> Iterator[tuple[list[Image.Image], list[np.ndarray]]]:
        """What the graph itself says, batch by batch.

        Yields:
            The decoded photos, and the arrays of `about["outputs"]`, each (photos, ...).
        """
        size = min(batch_size, self.about["batch"] or batch_size)
        waiting: list[tuple[Image.Image, np.ndarray]] = []
        for number, photo in enumerate(photos):
            try:
                decoded = images.decode(photo)
                shown = pixels(decoded, self.about["input"])
            except ValueError as error:
                raise InputError(
                    f"photo {photo if isinstance(photo, str | Path) else number}", expected="a picture",
                    found=str(error), fix="another file",
                ) from error  # fmt: skip
            # Where photos keep their proportions, those of one shape go through together.
            if waiting and (len(waiting) == size or waiting[0][1].shape != shown.shape):
                yield self._batch(waiting)
                waiting = []
            waiting.append((decoded, shown))
        if waiting:
            yield self._batch(waiting)

    def _batch(self, waiting: list[tuple[Image.Image, np.ndarray]]) -> tuple[list[Image.Image], list[np.ndarray]]:
        return [photo for photo, _ in waiting], self.run(np.stack([shown for _, shown in waiting]))


def pixels(photo: Image.Image, shown: Mapping[str, Any]) -> np.ndarray:
    """A photo as the graph takes it (height, width, 3), uint8: resized, cropped, filled up.

    Args:
        photo: Upright RGB, as `images.decode` gives it.
        shown: `input` of runtime.json: `resize` (`squash`, `shortest` or `longest`), `size` (height, width; or the
            side in pixels), `limit` of the longer side, `multiple` of which both sides are, `resample`, `filter`
            (False: see `_between`), `crop` and `pad` (height, width).

    Raises:
        ValueError: A strip that would take gigabytes of memory; the text is the reason.
    """
    how = Image.Resampling[shown["resample"].upper()]
    size = _size(photo.width, photo.height, shown)
    if size[0] * max(size[1], photo.height) > _MOST:  # Pillow brings the width to its size first
        taken = 3 * size[0] * max(size[1], photo.height) / 1e6
        raise ValueError(
            f"a strip of {photo.width:,} x {photo.height:,}: resized it would take {taken:,.0f} MB of memory"
        )
    if size != photo.size:
        photo = photo.resize(size, how) if shown.get("filter", True) else _between(photo, size)
    if shown["crop"]:
        height, width = shown["crop"]
        whole = round if shown["crop_rounding"] == "nearest" else int
        left, top = (int(whole((side - cut) / 2)) for side, cut in zip(photo.size, (width, height), strict=True))
        photo = photo.crop((left, top, left + width, top + height))
    if shown["pad"]:
        height, width = shown["pad"]
        canvas = Image.new("RGB", (width, height), tuple(shown["pad_color"]))
        centred = shown["pad_place"] == "center"
        canvas.paste(photo, ((width - photo.width) // 2, (height - photo.height) // 2) if centred else (0, 0))
        photo = canvas
    return np.asarray(photo)


def _between(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resized to (width, height) as torch does without antialiasing: a pixel lies between four of the photo, however
    many there are."""
    levels = np.asarray(photo, dtype=np.float32)
    for axis, side in enumerate(size[::-1]):
        last = levels.shape[axis] - 1
        at = np.clip((np.arange(side) + 0.5) * (last + 1) / side - 0.5, 0, last)
        low = at.astype(int)
        share = np.expand_dims((at - low).astype(np.float32), (1, 2) if axis == 0 else (0, 2))
        levels = levels.take(low, axis) * (1 - share) + levels.take(np.minimum(low + 1, last), axis) * share
    return Image.fromarray(levels.round().astype(np.uint8))


def _size(width: int, height: int, shown: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height to which a photo is resized."""
    if shown["resize"] == "squash":
        return shown["size"][1], shown["size"][0]
    if shown["resize"] == "longest":
        scale = min(shown["size"][0] / height, shown["size"][1] / width)
        if shown["rounding"] == "nearest":
            return max(1, round(width * scale)), max(1, round(height * scale))
        return max(1, int(width * scale)), max(1, int(height * scale))
    short, long = sorted((width, height))
    side: float = shown["size"]
    if shown["limit"] and long / short * side > shown["limit"]:
        side = shown["limit"] * short / long
    first, last = round(side), int(side * long / short)
    if short == first and shown["limit"]:
        first, last = short, long
    if shown["multiple"]:
        first, last = (side - side % shown["multiple"] for side in (first, last))
    return (first, last) if width <= height else (last, first)


def _surest(labels: Sequence[str], scores: np.ndarray, top_k: int) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": labels[place], "score": float(scores[place])} for place in order]


def said(about: Mapping[str, Any], scores: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Attribute -> the labels that a photo has: the surest of those that exclude each other, else what reaches its
    threshold."""
    told, start = {}, 0
    for name, group in about["groups"].items():
        labels = group["labels"]
        part = scores[start : start + len(labels)]
        start += len(labels)
        limits = [about["thresholds"].get(label, 0.5) for label in labels]
        chosen = np.flatnonzero(part >= limits) if group["many"] else [int(part.argmax())]
        each = [{"label": labels[place], "score": float(part[place])} for place in chosen]
        told[name] = sorted(each, key=lambda one: -one["score"])
    return told


def boxes(
    about: Mapping[str, Any], scores: np.ndarray, corners: np.ndarray, *, threshold: float | None = None
) -> list[list[tuple[int, float, list[float]]]]:
    """What a detector says of each photo: class, score, and corners (x0, y0, x1, y1) as shares of the photo.

    Args:
        about: `queries_at_most` surest pairs of a box and a class are looked at, or of each box the surest class
            (None); of boxes of one class that overlap by more than an IoU of `same` the surest is kept; `most` at
            most; those above `score_threshold`.
        scores: (photos, boxes, classes), from 0 to 1.
        corners: (photos, boxes, 4), shares of the photo.
        threshold: In the place of the model's own.
    """
    limit = about["score_threshold"] if threshold is None else threshold
    found = []
    for of_photo, where in zip(scores, corners, strict=True):
        if about["queries_at_most"]:
            flat = of_photo.ravel()
            order = np.argsort(-flat, kind="stable")[: about["queries_at_most"]]
            score, place, label = flat[order], order // of_photo.shape[1], order % of_photo.shape[1]
        else:
            label = of_photo.argmax(axis=1)
            score = of_photo[np.arange(len(label)), label]
            place = np.argsort(-score, kind="stable")
            score, label = score[place], label[place]
        sure = score > limit
        score, label, box = score[sure], label[sure], where[place[sure]].astype(np.float64)
        kept = suppressed(box, label, about["same"])[: about["most"]]
        found.append([(int(label[one]), float(score[one]), box[one].tolist()) for one in kept])
    return found


def suppressed(box: np.ndarray, label: np.ndarray, same: float) -> list[int]:
    """The places of boxes, sorted by score, that no surer box of their class covers."""
    area = np.clip(box[:, 2] - box[:, 0], 0, None) * np.clip(box[:, 3] - box[:, 1], 0, None)
    left, kept = np.arange(len(box)), []
    while len(left):
        one, rest = int(left[0]), left[1:]
        kept.append(one)
        start, end = np.maximum(box[one, :2], box[rest, :2]), np.minimum(box[one, 2:], box[rest, 2:])
        shared = np.clip(end - start, 0, None).prod(axis=1)
        whole = area[one] + area[rest] - shared
        iou = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
        left = rest[(iou <= same) | (label[rest] != label[one])]
    return kept


def _in_pixels(labels: Sequence[str], found: tuple[int, float, list[float]], size: tuple[int, int]) -> dict[str, Any]:
    label, score, shares = found
    scaled = [min(max(share, 0.0), 1.0) * side for share, side in zip(shares, (*size, *size), strict=True)]
    box = {name: round(value, 2) for name, value in zip(("xmin", "ymin", "xmax", "ymax"), scaled, strict=True)}
    return {"label": labels[label], "score": score, "box": box}
