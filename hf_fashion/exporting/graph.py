"""A model as one graph: pixels in, scores, boxes or vectors out; and as a file of ONNX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_fashion import attributes, runtime
from hf_fashion.backbones.sources import first_line
from hf_fashion.errors import InputError, extra, writing
from hf_fashion.exporting.original import Original

OPSET = 17  # the first with LayerNormalization, which engines have a kernel for
_SINES = "SinePositionEmbedding"
ROOM = "make room there, or set TMPDIR to a folder on another disk"
# What another net would not mend.
NOT_OF_THE_NET = (InputError, OSError, MemoryError, ImportError)
_ALIKE = 1e-3  # by which a score, a corner or a number of a vector may differ from torch's, on noise


class Graph(nn.Module):
    """A net between pixels and answers.

    Pixels come as bytes, (photos, height, width, 3), as every decoder gives them: a quarter of what floats take, and
    nobody has to know mean and std, which are part of the graph.
    """

    def __init__(self, original: Original) -> None:
        super().__init__()
        self.kind, self.net = original.kind, original.net
        self.groups = attributes.of_config(original.net.config) if self.kind == "attributes" else None
        self.softmax = self.kind == "detection" and original.about["queries_at_most"] is None
        for name, values in (("mean", original.shown.mean), ("std", original.shown.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[None, :, None, None])

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(photos, height, width, 3) uint8 -> scores (photos, labels), vectors (photos, dimension), or a detector's
        scores (photos, boxes, labels) and corners x0, y0, x1, y1 as shares of the photo (photos, boxes, 4)."""
        shown = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std  # type: ignore[operator]
        if self.kind == "retrieval":
            told = self.net({"pixel_values": shown, "modality": "image"})["sentence_embedding"]
            return nn.functional.normalize(told, dim=1)
        told = self.net(pixel_values=shown)
        if self.kind == "detection":
            scores = told.logits.softmax(-1)[..., :-1] if self.softmax else told.logits.sigmoid()
            x, y, width, height = told.pred_boxes.unbind(-1)
            return scores, torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)
        if not self.groups:
            return told.logits.softmax(1)
        parts = [told.logits[:, group.span] for group in self.groups]
        parts = [
            part.sigmoid() if group.many else part.softmax(1) for group, part in zip(self.groups, parts, strict=True)
        ]
        return torch.cat(parts, dim=1)


def write(original: Original, path: Path) -> int | None:
    """Writes the graph as ONNX, and asks it for batches of one and three.

    Args:
        original: The model.
        path: Of the file, `model.onnx`.

    Returns:
        Photos that go through it together: None for any number, 1 where a batch cannot be had.

    Raises:
        InputError: The net cannot be exported, or the file says something else than torch.
    """
    with extra("an export", "onnx", "export"):
        import onnx
        import onnxruntime  # noqa: F401 (the file is asked with it)
    graph = Graph(original).eval()
    height, width = sides(original)
    several = noise(2, height, width)
    batch, failed = None, _failed(graph, several, path, original, (1, 3))
    if failed:  # a net that knows its batch: it sees one photo at a time
        print(
            f"batches of any size cannot be exported ({type(failed).__name__}: {first_line(failed)[:150]}): one photo"
        )
        batch, failed = 1, _failed(graph, several[:1], path, original, (1,))
    if failed:
        raise InputError(
            f"the export of a {architecture(original)} net", expected="one that torch.onnx can trace",
            found=f"{type(failed).__name__}: {first_line(failed)[:200]}", fix="a net of another architecture",
        ) from failed  # fmt: skip
    made = onnx.load(path)
    for node in made.graph.node:  # places in the source of this machine
        node.doc_string = ""
    onnx.save(made, path)
    return batch


def _failed(
    graph: Graph, pixels: Tensor, path: Path, original: Original, batches: tuple[int, ...]
) -> Exception | None:  # fmt: skip
    """Writes the file and asks it; gives what the net cannot do."""
    try:
        with writing(str(path), fix=ROOM):
            _export(graph, pixels, path, original, dynamic=len(batches) > 1)
            refuse_other(graph, runtime.engine(path, {"format": "onnx", **original.about}), original, batches)
    except NOT_OF_THE_NET:
        raise
    except Exception as error:  # each architecture fails in its own way; ONNX Runtime's errors have no other base
        return error
    return None


def architecture(original: Original) -> str:
    """What its library calls the net."""
    config = getattr(original.net, "config", None)
    return str(getattr(config, "model_type", original.kind))


def sides(original: Original) -> tuple[int, int]:
    """Height and width of what the net is traced with."""
    values = original.shown.values
    size = values["crop"] or values["pad"] or values["size"]
    return (size[0], size[1]) if isinstance(size, list) else (size, size * 5 // 4)


def keeps_proportions(values: dict[str, Any]) -> bool:
    """Whether a net sees photos of several shapes."""
    return not (values["crop"] or values["pad"] or values["resize"] == "squash")


def noise(count: int, height: int, width: int) -> Tensor:
    """Photos of chance (count, height, width, 3) uint8, the same each time."""
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=drawn)


def _export(graph: Graph, pixels: Tensor, path: Path, original: Original, dynamic: bool) -> None:
    """Traced by torch's older exporter: the newer one (torch 2.14) fails for Swin, and for batches of Swin."""
    free: dict[int, str] = {0: "photos"} if dynamic else {}
    outputs = original.about["outputs"]
    axes = {name: dict(free) for name in ("pixels", *outputs)}
    if keeps_proportions(original.shown.values):
        axes["pixels"] |= {1: "height", 2: "width"}
    fixed = contextlib.nullcontext() if keeps_proportions(original.shown.values) else fixed_positions(graph, pixels)
    with torch.no_grad(), _quiet(), fixed:
        torch.onnx.export(
            graph, (pixels,), str(path), dynamo=False, input_names=["pixels"], output_names=outputs,
            dynamic_axes=axes, opset_version=OPSET,
        )  # fmt: skip


@contextlib.contextmanager
def fixed_positions(graph: Graph, pixels: Tensor, *, sines: bool = False) -> Iterator[None]:
    """Position embeddings that a net stretches to the size of its photos become constants, since all photos have one
    size: for RF-DETR's way of stretching ONNX has no operator.

    Args:
        graph: The net.
        pixels: Of the size, and number, of all that the net will see.
        sines: Also those that are computed of the size: LiteRT has no operator for powers of a constant.
    """
    fixed: list[tuple[Any, str]] = [
        (part, "interpolate_pos_encoding") for part in graph.modules() if hasattr(part, "interpolate_pos_encoding")
    ]
    if sines:
        fixed += [(part, "forward") for part in graph.modules() if type(part).__name__.endswith(_SINES)]
    for part, name in fixed:
        setattr(part, name, _once(getattr(part, name)))
    try:
        with torch.no_grad():
            graph(pixels)  # they are computed here, before the tracer looks
        yield
    finally:
        for part, name in fixed:
            delattr(part, name)


def _once(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    kept: list[Tensor] = []

    def first(*args: Any, **kwargs: Any) -> Tensor:
        if not kept:
            kept.append(function(*args, **kwargs).detach().clone())
        return kept[0]

    return first


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice of a tracer, and the whole graph that it prints when it fails."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def refuse_other(graph: Graph, run: runtime.Run, original: Original, batches: tuple[int, ...]) -> None:
    """Compares what an engine says with torch, on noise; what engines raise is passed on.

    Args:
        graph: The net.
        run: The file in its engine.
        original: The model.
        batches: Numbers of photos at once.

    Raises:
        ValueError: It says something else.
    """
    height, width = sides(original)
    for count in batches:
        if keeps_proportions(original.shown.values):
            height, width = width, height
        pixels = noise(count, height, width)
        found = run(pixels.numpy())
        with torch.no_grad():
            told = graph(pixels)
        expected = [one.numpy() for one in (told if isinstance(told, tuple) else (told,))]
        if [one.shape for one in found] != [one.shape for one in expected]:
            raise ValueError(f"the exported graph gives {found[0].shape}, torch {expected[0].shape}")
        if original.kind == "detection":  # noise has many equal scores, whose boxes may stand in any order
            continue
        apart = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        if not apart <= _ALIKE:
            raise ValueError(f"the exported graph differs by {apart:.2g} from torch, for {count} photos")
