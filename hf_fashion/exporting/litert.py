"""A model as a file of LiteRT (once TensorFlow Lite), for phones; its weights in fp16, or its layers in int8.

int8 is static: weights with a scale for each channel, ranges of what flows between layers measured on training
photos. Softmax, normalisation, additions and products of two activations stay in float.
"""

import contextlib
import importlib.util
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_fashion import runtime
from hf_fashion.backbones.sources import first_line
from hf_fashion.errors import InputError, extra, writing
from hf_fashion.exporting import graph, sensitivity
from hf_fashion.exporting.original import Original

KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED")
# Nets that LiteRT 2.3 cannot run, or litert-torch 0.10 cannot write.
_WITHOUT = {
    "d_fine": "the operator SORT, which it has not", "rf_detr": "a graph that litert-torch cannot write",
}  # fmt: skip
# What the C++ of TensorFlow and LiteRT writes past Python, and nobody can do anything about.
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|I\d{4} .*\b(?:port|flatbuffer_export)\.cc:"
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate"
)
_SIGNATURE = "serving_default"  # what the converter calls the one way in


def refuse_missing() -> None:
    """Raises InputError where a package is missing, without the seconds that they take to load."""
    for package, module in (("litert-torch", "litert_torch"), ("ai-edge-litert", "ai_edge_litert")):
        with extra("--format litert", package, "litert"):
            if importlib.util.find_spec(module) is None:
                raise ImportError(package)


def refuse_net(original: Original) -> None:
    """Raises InputError for a net of which it is known that LiteRT has not all operators, before minutes of work."""
    if reason := _WITHOUT.get(graph.architecture(original)):
        raise InputError(
            f"--format litert for a {graph.architecture(original)} net",
            expected="one whose operators LiteRT has, all of them", found=reason,
            fix="--format onnx; or train an RT-DETR v2, which converts",
        )  # fmt: skip


class _Named(nn.Module):
    """A graph whose answers have names, which the file keeps."""

    def __init__(self, whole: graph.Graph, outputs: Sequence[str]) -> None:
        super().__init__()
        self.net, self.outputs = whole, list(outputs)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        told = self.net(pixels)
        return dict(zip(self.outputs, told if isinstance(told, tuple) else (told,), strict=True))


def write(original: Original, path: Path) -> int:
    """Writes the graph as a file of LiteRT, and asks it.

    Args:
        original: The model.
        path: Of the file, `model.tflite`.

    Returns:
        Photos that go through it together: 1. The converter (litert-torch 0.10) has no operators for numbers of photos
        that are not known.

    Raises:
        InputError: The net cannot be converted, LiteRT cannot run it, or it says something else than torch.
    """
    refuse_missing()
    whole = graph.Graph(original).eval()
    pixels = graph.noise(1, *graph.sides(original))
    about = {"format": "litert", **original.about}
    with extra("--format litert", "litert-torch", "litert"), _quiet():
        import litert_torch
    try:
        with (
            writing(str(path), fix=graph.ROOM), _quiet(), _unchecked(), torch.no_grad(),
            graph.fixed_positions(whole, pixels, sines=True),
        ):  # fmt: skip
            named = _Named(whole, about["outputs"]).eval()
            litert_torch.convert(named, sample_kwargs={"pixels": pixels}).export(str(path))
        with _without_noise():
            graph.refuse_other(whole, runtime.engine(path, about), original, (1,))
    except graph.NOT_OF_THE_NET:
        raise
    except Exception as error:  # each architecture fails in its own way; the compiler's errors have no other base
        raise InputError(
            f"--format litert for a {graph.architecture(original)} net",
            expected="one whose operators LiteRT has, all of them",
            found=f"{type(error).__name__}: {_reason(error)}", fix="--format onnx; or a net of another architecture",
        ) from error  # fmt: skip
    return 1


def _reason(error: Exception) -> str:
    """What a converter says, without the stack of the net's source behind it."""
    return re.sub(r"^.*?(?=error: )", "", first_line(error))[:200]


def halved(path: Path, target: Path) -> None:
    """Writes a file with its weights in fp16, from which an engine makes 32 bits, or computes in 16 as GPUs do."""
    with _quiet():
        from ai_edge_quantizer import qtyping, quantizer

        made = quantizer.Quantizer(str(path))
        every = qtyping.TFLOperationName.ALL_SUPPORTED
        made.add_weight_only_config(".*", every, 16, algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING)
        _save(made, target)


class Quantizer:
    """A float graph that can be written with any of its layers in int8; see `sensitivity.Quantizer`."""

    form = "litert"

    def __init__(self, path: Path, pixels: Iterable[np.ndarray], *, detects: bool = False) -> None:
        """Measures the ranges of all that flows through a graph.

        Args:
            path: Of the float graph.
            pixels: Of calibration photos (1, height, width, 3) uint8, all of one shape.
            detects: Whether what decides about boxes stays in float.
        """
        self.path, self.pixels = path, list(pixels)
        self.layers = _weighted(path)
        whole = {
            name: _readable(name) for name in self.layers if not (detects and sensitivity.deciding(_readable(name)))
        }
        self.deciding = len(self.layers) - len(whole)
        self.blocks = sensitivity.blocks_of(whole)
        photos = [{"pixels": photo} for photo in self.pixels]
        with _quiet():
            self.ranges = self._made(list(whole)).calibrate({_SIGNATURE: photos}, num_threads=torch.get_num_threads())

    def write_layers(self, path: Path, layers: Sequence[str]) -> None:
        """Writes the graph with these weighted layers in int8."""
        if not layers:
            path.write_bytes(self.path.read_bytes())
            return
        with _quiet():
            _save(self._made(layers), path, self.ranges)

    def _made(self, layers: Sequence[str]) -> Any:
        from ai_edge_quantizer import qtyping, quantizer

        made = quantizer.Quantizer(str(self.path))
        for kind in KINDS:
            names = [re.escape(name) for name in layers if self.layers[name] == kind]
            if names:
                # The scope of an operator is the name of what it gives, and a semicolon.
                made.add_static_config(f"^(?:{'|'.join(names)});?$", qtyping.TFLOperationName(kind), 8, 8)
        return made


def _weighted(path: Path) -> dict[str, str]:
    """What layers with weights give, by name -> kind of the layer; in the order of the graph."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    net = model.subgraphs[0]
    kinds = {number: flatbuffer_utils.opcode_to_name(model, number) for number in range(len(model.operatorCodes))}
    return {
        net.tensors[layer.outputs[0]].name.decode(): str(kinds[layer.opcodeIndex])
        for layer in net.operators
        if kinds[layer.opcodeIndex] in KINDS
    }


def _readable(name: str) -> str:
    """The path of a layer, of the names of modules: what a converter writes has those of their classes' files, too."""
    first = name.split(";")[0]
    parts = [part.rsplit(".", 1)[-1] for part in first.split("/")]
    return "/".join(parts).removeprefix("_Named/Graph_net/")


def _save(made: Any, target: Path, ranges: Mapping[str, Any] | None = None) -> None:
    told = made.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    target.write_bytes(bytes(told.quantized_model))


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Without the checks of shapes that transformers writes into a graph, for which LiteRT has no operator."""
    name = "TRANSFORMERS_DISABLE_TORCH_CHECK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Keeps `_NOISE` out of the process's stderr; what else is written there meanwhile comes when the block ends."""
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        kept = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not _NOISE.match(line):
                    os.write(2, line)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the steps, bars and advice that converters print."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            _without_noise(), warnings.catch_warnings(), np.errstate(invalid="ignore"),
            contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()),
        ):  # fmt: skip
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
