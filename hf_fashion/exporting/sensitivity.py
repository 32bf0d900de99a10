"""Which layers int8 harms most: each block of a net alone in int8, on training photos."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hf_fashion import runtime

_MOST_BLOCKS = 30  # whose sensitivity is measured; of a net with more, neighbours are joined
# Of a detector these decide which boxes are looked at and where they are, and cost little beside the rest of the net.
_DECIDING = re.compile(
    r"decoder|enc_output|enc_score|enc_bbox|bbox_embed|bbox_pred|class_embed|class_labels|bbox|heads"
)


class Quantizer(Protocol):
    """A float graph that can be written with any of its layers in int8.

    Attributes:
        form: Whose file it writes, `onnx` or `litert`.
        pixels: Of calibration photos (1, height, width, 3) uint8.
        blocks: Name of a block -> its weighted layers, in the order of the graph.
        deciding: How many weighted layers stay in float whatever is asked for, see `deciding`.
    """

    form: str
    pixels: list[np.ndarray]
    blocks: dict[str, list[str]]
    deciding: int

    def write_layers(self, path: Path, layers: Sequence[str]) -> None: ...


def write(quantizer: Quantizer, path: Path, in_float: Sequence[str] = ()) -> None:
    """Writes a graph in int8, without the blocks that stay in float."""
    quantizer.write_layers(
        path, [layer for block, layers in quantizer.blocks.items() if block not in in_float for layer in layers]
    )


def sensitivity(quantizer: Quantizer, about: Mapping[str, Any], photos: int = 8) -> dict[str, float]:
    """By how much each block alone, in int8, moves what the graph says.

    Args:
        quantizer: Of the graph.
        about: runtime.json; of the outputs the first counts: scores, or vectors.
        photos: Calibration photos that are asked.

    Returns:
        Block -> mean square of the difference from the float graph, the most sensitive first.
    """
    asked = quantizer.pixels[:: max(1, len(quantizer.pixels) // photos)][:photos]
    moved: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "one"

        def say(layers: Sequence[str]) -> list[np.ndarray]:
            quantizer.write_layers(path, layers)
            run = runtime.engine(path, {**about, "format": quantizer.form}, threads=1)
            return [_in_order(np.asarray(run(photo)[0], dtype=np.float64)) for photo in asked]

        plain = say([])
        for block, layers in quantizer.blocks.items():
            moved[block] = float(np.mean([np.square(a - b).mean() for a, b in zip(plain, say(layers), strict=True)]))
    return dict(sorted(moved.items(), key=lambda pair: -pair[1]))


def _in_order(scores: np.ndarray) -> np.ndarray:
    """A detector's queries may change places: its scores are compared in their order."""
    return np.sort(scores.reshape(-1))[::-1][:1000] if scores.ndim == 3 else scores


def deciding(layer: str) -> bool:
    """Whether a detector's layer (its path in the net) is of the decoder, or tells scores and corners."""
    return _DECIDING.search(layer) is not None


def blocks_of(paths: Mapping[str, str]) -> dict[str, list[str]]:
    """Layers by the block of the net that they are in, told by the last number in their path; of nets with very many
    blocks several in a row together.

    Args:
        paths: Layer -> its path, parts of the net divided by `/`, the layer itself as the last; in the graph's order.
    """
    blocks: dict[str, list[str]] = {}
    for layer, path in paths.items():
        parts = path.strip("/").split("/")[:-1]
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
