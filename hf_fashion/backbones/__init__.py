"""Checkpoints become classifiers: a head that fits the labels, parts that do not learn, and how a picture is shown.

    model, processor = load_classifier("microsoft/swin-tiny-patch4-window7-224", ["dress", "shirt"], freeze="stages:2")

What comes back are plain `transformers` objects: what they save loads with `pipeline("image-classification")` alone;
`load_encoder` gives a `SentenceTransformer`.
"""

from typing import TYPE_CHECKING, Any

from hf_fashion.backbones.detectors import is_detector, load_detector
from hf_fashion.backbones.freezing import freeze, frozen_modules
from hf_fashion.backbones.loading import load_classifier, reset
from hf_fashion.backbones.preprocessing import InputSpec, input_spec
from hf_fashion.backbones.sources import describe

if TYPE_CHECKING:
    from hf_fashion.backbones.encoders import load_encoder

__all__ = [
    "InputSpec",
    "describe",
    "freeze",
    "frozen_modules",
    "input_spec",
    "is_detector",
    "load_classifier",
    "load_detector",
    "load_encoder",
    "reset",
]


def __getattr__(name: str) -> Any:
    if name == "load_encoder":  # sentence-transformers is an extra
        from hf_fashion.backbones.encoders import load_encoder

        return load_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
