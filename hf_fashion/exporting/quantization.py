"""int8: the weighted layers of an ONNX graph in whole numbers of 8 bits, ranges measured on training photos.

QDQ form, symmetric weights with a scale for each channel (one for a whole tensor costs EfficientNet-Lite0 3.5 points).
Softmax, LayerNorm, additions and products of two activations stay in float.
"""

import contextlib
import logging
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_fashion.errors import extra

with extra("int8", "onnxruntime", "export"):
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.shape_inference import quant_pre_process

KINDS = ("Conv", "MatMul", "Gemm")
# They cut off what a layer gives: a range measured behind them is the finer one, and they cost nothing in int8.
CUTS = ("Relu", "Clip")
_MOST_BLOCKS = 30  # of which the sensitivity is measured; of a net with more, neighbours are joined


class Quantizer:
    """A float graph that can be written with any of its layers in int8.

    Attributes:
        blocks: Name of a block -> its weighted layers (names of nodes), in the order of the graph.
    """

    def __init__(self, path: Path, pixels: Iterable[np.ndarray]) -> None:
        """Prepares a graph, and measures the ranges of all that flows into and out of its weighted layers.

        Args:
            path: Of the float graph.
            pixels: Of calibration photos (1, height, width, 3) uint8, all of one shape.
        """
        self.pixels = list(pixels)
        with tempfile.TemporaryDirectory() as place, _quiet():
            prepared = Path(place) / "prepared.onnx"
            # The symbolic inference of shapes fails for Swin, and is not needed for weights.
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            self.model = onnx.load(prepared)
            self.layers = _weighted(self.model)
            calibrator = create_calibrator(
                prepared, [*KINDS, *CUTS], str(Path(place) / "augmented.onnx"), CalibrationMethod.MinMax
            )
            calibrator.collect_data(_Reader(self.pixels))
            self.ranges = calibrator.compute_data()
            del calibrator  # its session holds a file of the folder
        self.blocks = _blocks(self.layers)

    def write(self, path: Path, in_float: Collection[str] = ()) -> None:
        """Writes the graph in int8, without the blocks that stay in float."""
        left = {layer for block in in_float for layer in self.blocks[block]}
        self._write(path, [layer for layer in self.layers if layer not in left])

    def _write(self, path: Path, layers: Sequence[str]) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        if layers:  # none would mean all
            # The products of a linear layer are rounded once, where they are used next: its sums stay whole.
            how = {"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]}
            with _quiet():
                quantizer = QDQQuantizer(
                    model, per_channel=True, reduce_range=False, weight_qType=QuantType.QInt8,
                    activation_qType=QuantType.QUInt8, tensors_range=self.ranges,
                    nodes_to_quantize=[*layers, *_cuts_behind(model, layers)],
                    nodes_to_exclude=[], op_types_to_quantize=[*KINDS, *CUTS], extra_options=how,
                )  # fmt: skip
                quantizer.quantize_model()
            model = quantizer.model.model
        onnx.save(model, path)

    def sensitivity(self, outputs: Sequence[str], photos: int = 8) -> dict[str, float]:
        """By how much each block alone, in int8, moves what the graph says.

        Args:
            outputs: Of the graph; the first counts: scores, or vectors.
            photos: Calibration photos that are asked.

        Returns:
            Block -> mean square of the difference from the float graph, the most sensitive first.
        """
        asked = self.pixels[:: max(1, len(self.pixels) // photos)][:photos]
        moved: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "one.onnx"
            self._write(path, [])
            plain = self._say(path, outputs, asked)
            for block, layers in self.blocks.items():
                self._write(path, layers)
                told = self._say(path, outputs, asked)
                moved[block] = float(np.mean([np.square(a - b).mean() for a, b in zip(plain, told, strict=True)]))
        return dict(sorted(moved.items(), key=lambda pair: -pair[1]))

    def _say(self, path: Path, outputs: Sequence[str], pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        told = []
        for photo in pixels:
            scores = np.asarray(session.run([outputs[0]], {"pixels": photo})[0], dtype=np.float64)
            # A detector's queries may change places: its scores are compared in their order.
            told.append(np.sort(scores.reshape(-1))[::-1][:1000] if scores.ndim == 3 else scores)
        return told


class _Reader(CalibrationDataReader):
    def __init__(self, pixels: Iterable[np.ndarray]) -> None:
        self.left = iter(pixels)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        photo = next(self.left, None)
        return None if photo is None else {"pixels": photo}


def _weighted(model: Any) -> list[str]:
    """The names of the layers with weights, in the order of the graph; nodes without a name get one."""
    weights = {tensor.name for tensor in model.graph.initializer}
    found = []
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
        if node.op_type in KINDS and node.input[1] in weights:
            found.append(node.name)
    return found


def _cuts_behind(model: Any, layers: Collection[str]) -> list[str]:
    """The names of the `CUTS` that stand behind these layers."""
    given = {name for node in model.graph.node if node.name in layers for name in node.output}
    return [node.name for node in model.graph.node if node.op_type in CUTS and node.input[0] in given]


def _blocks(layers: Sequence[str]) -> dict[str, list[str]]:
    """Layers by the block of the net that they are in, told by the last number in their path; of nets with very many
    blocks several in a row together."""
    blocks: dict[str, list[str]] = {}
    for layer in layers:
        parts = layer.strip("/").split("/")[:-1]
        numbered = [place for place, part in enumerate(parts) if re.search(r"\.\d+$|_\d+$", part)]
        name = "/".join(parts[: numbered[-1] + 1] if numbered else parts) or layer
        blocks.setdefault(name, []).append(layer)
    step = -(-len(blocks) // _MOST_BLOCKS)
    if step > 1:
        named = list(blocks.items())
        blocks = {
            " to ".join(dict.fromkeys((named[start][0], named[min(start + step, len(named)) - 1][0]))): [
                layer for _, several in named[start : start + step] for layer in several
            ]
            for start in range(0, len(named), step)
        }
    return blocks


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice of the library, which comes as warnings for every run."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
