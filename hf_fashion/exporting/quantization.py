"""int8: the weighted layers of an ONNX graph in whole numbers of 8 bits, ranges measured on training photos.

QDQ form, symmetric weights with a scale for each channel (one for a whole tensor costs EfficientNet-Lite0 3.5 points).
Softmax, LayerNorm, additions and products of two activations stay in float.
"""

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_fashion.errors import extra
from hf_fashion.exporting import sensitivity

with extra("int8", "onnxruntime", "export"):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.shape_inference import quant_pre_process

KINDS = ("Conv", "MatMul", "Gemm")
# They cut off what a layer gives: a range measured behind them is the finer one, and they cost nothing in int8.
CUTS = ("Relu", "Clip")


class Quantizer:
    """A float graph that can be written with any of its layers in int8; see `sensitivity.Quantizer`."""

    form = "onnx"

    def __init__(self, path: Path, pixels: Iterable[np.ndarray], *, detects: bool = False) -> None:
        """Prepares a graph, and measures the ranges of all that flows into and out of its weighted layers.

        Args:
            path: Of the float graph.
            pixels: Of calibration photos (1, height, width, 3) uint8.
            detects: Whether what decides about boxes stays in float.
        """
        self.pixels = list(pixels)
        with tempfile.TemporaryDirectory() as place, _quiet():
            prepared = Path(place) / "prepared.onnx"
            # The symbolic inference of shapes fails for Swin, and is not needed for weights.
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            self.model = onnx.load(prepared)
            layers = _weighted(self.model)
            calibrator = create_calibrator(
                prepared, [*KINDS, *CUTS], str(Path(place) / "augmented.onnx"), CalibrationMethod.MinMax
            )
            calibrator.collect_data(_Reader(self.pixels))
            self.ranges = calibrator.compute_data()
            del calibrator  # its session holds a file of the folder
        whole = [layer for layer in layers if not (detects and sensitivity.deciding(layer))]
        self.deciding = len(layers) - len(whole)
        self.blocks = sensitivity.blocks_of({layer: layer for layer in whole})

    def write_layers(self, path: Path, layers: Sequence[str]) -> None:
        """Writes the graph with these weighted layers in int8."""
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
