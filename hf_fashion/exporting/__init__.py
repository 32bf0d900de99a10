"""A model becomes a file that runs without torch and transformers, if it still says the same: `hf-fashion export`.

    original = exporting.load("runs/mine")
    report = exporting.make(original, Path("exported"), photos, form="onnx", precision="int8")

The pixels' way, the graph and the answers are compared with the original on real photos; `hf_fashion.runtime` loads
the folder.
"""

from hf_fashion.exporting.making import PRECISIONS, Photos, make, refuse_few, refuse_pair, refuse_shapes
from hf_fashion.exporting.original import TASKS, Original, load
from hf_fashion.exporting.parity import Truth, in_words

__all__ = [
    "PRECISIONS",
    "TASKS",
    "Original",
    "Photos",
    "Truth",
    "in_words",
    "load",
    "make",
    "refuse_few",
    "refuse_pair",
    "refuse_shapes",
]
