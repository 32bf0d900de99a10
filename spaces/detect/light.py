"""The nets behind the page where they are exports: as `trained.py`, without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from found import FLOOR, USUAL, Found, inside
from PIL import Image

from hf_fashion import exports, runtime
from hf_fashion.passes import Inputs, engine_threads


class Net:
    """A detector of `hf-fashion export`.

    Raises:
        InputError: It cannot be loaded, or it is no detector.
    """

    def __init__(self, model: str, folder: Path) -> None:
        self.folder, self.net = folder, exports.Net(folder, threads=engine_threads())
        exports.refuse_other_kind(self.net, f"the model '{model}'", ("detection",), "a detector")
        self.labels, self.form = self.net.labels, self.net.form
        told = float(self.net.about["score_threshold"])
        self.threshold = None if told == USUAL else told  # the usual stands where nobody measured one

    def look(self, image: Image.Image) -> Inputs:
        """A photo as the net sees it."""
        return {"pixels": self.net.look(image)}

    def boxes(self, inputs: dict[str, Any]) -> list[list[Found]]:
        """The boxes of each photo, the surest first."""
        answers = runtime.boxes(self.net.about, *self.net.run(inputs["pixels"]), threshold=FLOOR)
        return [
            [Found(self.labels[number], number, score, inside(box)) for number, score, box in answer]
            for answer in answers
        ]


class Namer:
    """A classifier of `hf-fashion export` that names crops.

    Raises:
        InputError: It cannot be loaded, or it is none of one label a photo.
    """

    def __init__(self, model: str, folder: Path) -> None:
        self.net = exports.Net(folder, threads=engine_threads())
        exports.refuse_other_kind(
            self.net, f"CLASSIFIER {model}", ("classification",), "a model of one label a photo"
        )  # fmt: skip

    def look(self, crop: Image.Image) -> Inputs:
        """A crop as the net sees it."""
        return {"pixels": self.net.look(crop)}

    def best(self, inputs: dict[str, Any]) -> Sequence[tuple[str, float]]:
        """The label of each crop, and its score."""
        scores: np.ndarray = self.net.run(inputs["pixels"])[0]
        return [(self.net.labels[int(one.argmax())], float(one.max())) for one in scores]
