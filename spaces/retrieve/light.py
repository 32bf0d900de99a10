"""The nets behind the page where they are exports: an encoder of photos, and a detector of garments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_fashion import cropping, exports
from hf_fashion.errors import InputError
from hf_fashion.images import decode
from hf_fashion.index import Index
from hf_fashion.passes import engine_threads

LOOKED_AT = 16  # photos of the index that are held to its vectors
ALIKE = 0.9  # the least cosine of half of them, an estimate: the index holds small copies of what it was made of


class Encoder:
    """An encoder of `hf-fashion export`, which sees photos and reads no words.

    Args:
        model: As the settings name it.
        folder: Where its files lie.

    Raises:
        InputError: It cannot be loaded, or it is no encoder.
    """

    def __init__(self, model: str, folder: Path) -> None:
        self.model, self.net = model, exports.Net(folder, threads=engine_threads())
        exports.refuse_other_kind(self.net, f"the model '{model}'", ("retrieval",), "an encoder")

    def encode(self, photos: Sequence[Image.Image], **_: Any) -> np.ndarray:
        """The vectors (n, d) of photos, of length 1."""
        return np.stack([made[0] for made in self.net.outputs([self.net.look(photo) for photo in photos])])

    def refuse_other(self, target: Index, copies: Sequence[tuple[np.ndarray, bytes | None]]) -> None:
        """Raises InputError where it does not see photos of the index as the model of the index did.

        An index knows its model by a hash of its weights, which an export has not; so its vectors tell.

        Args:
            target: The index.
            copies: Vectors (d,) of its photos, and these, encoded; None where one is not there.
        """
        expected = f"an export of the model of the index, {target.model}"
        width = int(self.net.about["dimension"])
        if width != target.dimension or not target.made_by["normalised"]:
            raise InputError(
                f"the model '{self.model}'", expected=f"{expected}: {target.dimension} numbers",
                found=f"{width}, of length 1", fix="hf-fashion export of that model; or hf-fashion index with another",
            )  # fmt: skip
        known = [(vector, photo) for vector, photo in copies if photo is not None][:LOOKED_AT]
        if not known:
            raise InputError(
                "PHOTOS", expected=f"photos of the index, to see whether '{self.model}' is {expected}", found="none",
                fix="PHOTOS=FOLDER with the photos that hf-fashion index was given",
            )  # fmt: skip
        made = self.encode([decode(photo) for _, photo in known])
        alike = float(np.median([vector @ one for (vector, _), one in zip(known, made, strict=True)]))
        if alike < ALIKE:
            raise InputError(
                f"the model '{self.model}'", expected=expected,
                found=f"one whose vectors of {len(known)} of its photos have a cosine of {alike:.2f} to those there",
                fix="hf-fashion export of that model; or hf-fashion index with another",
            )  # fmt: skip


def detector(model: str, folder: Path) -> tuple[cropping.Find, list[str], float]:
    """A function that finds garments, the names of its classes, and from which score they are believed.

    Raises:
        InputError: It cannot be loaded, or it is no detector.
    """
    net = exports.Net(folder, threads=engine_threads())
    exports.refuse_other_kind(net, f"DETECTOR {model}", ("detection",), "a detector")
    threshold = float(net.about["score_threshold"])

    def find(photos: Sequence[Image.Image], _: Sequence[Mapping[str, Any]]) -> list[list[cropping.Box]]:
        made = []
        for photo, outputs in zip(photos, net.outputs([net.look(photo) for photo in photos]), strict=True):
            boxes = []
            for label, score, shares in exports.garments(net.about, outputs, threshold):
                x0, y0, x1, y1 = (
                    min(max(share, 0.0), 1.0) * side
                    for share, side in zip(shares, (*photo.size, *photo.size), strict=True)
                )
                boxes.append(cropping.Box(label, (x0, y0, max(x1 - x0, 0.0), max(y1 - y0, 0.0)), score))
            made.append(boxes)
        return made

    return find, net.labels, threshold
