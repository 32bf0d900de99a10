"""The model behind the page: photos in, boxes with names out, those of several visitors in one pass."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import light
from found import FLOOR, MOST, Found, Seen, pixels
from PIL import Image

from hf_fashion import exports
from hf_fashion.passes import Decoder, Inputs, Passes
from hf_fashion.serving import needing_torch

PASS, CROPS = 8, 32  # photos in one pass of the detector, crops in one of the classifier
SHOWN = 1600  # pixels, the longer side of the photo that is shown, and out of which crops are cut


class Detector:
    """An object detector of the Hub or of a folder, trained or exported, for many threads at once; behind it a
    classifier, if wanted.

    Args:
        model: As `load_detector` takes it, or an export.
        revision: Branch, tag or commit of a Hub id.
        classifier: A model of one label a photo that names each crop, as `load_classifier` takes it, or an export.
        classifier_revision: Its revision.

    Attributes:
        folder: Where its files lie: the card is README.md.
        labels: The classes, in the order of their numbers.
        threshold: The score at which F1 was best on validation, as the model tells it; else None.
        form: Format and precision of an export; else None.
        namer_folder: Of an exported classifier; else None.
        unnamed: Why crops get no names from the classifier that was wanted; else None.

    Raises:
        InputError: There is no such model, or it is no detector (no classifier), with what to do.
    """

    def __init__(
        self, model: str, revision: str | None = None, classifier: str | None = None,
        classifier_revision: str | None = None,
    ) -> None:  # fmt: skip
        self.net: Any = _net(model, revision)
        self.folder, self.labels, self.threshold = self.net.folder, self.net.labels, self.net.threshold
        self.form: str | None = self.net.form
        self._decoder, self._passes = Decoder(), Passes(self.net.boxes, PASS)
        self.namer_folder = exports.find(classifier, classifier_revision) if classifier else None
        self.unnamed: str | None = None
        self._namer: Any = None
        if classifier is not None:
            self._namer = self._loaded(classifier, classifier_revision)
        self._naming = Passes(self._namer.best, CROPS) if self._namer else None

    def look(self, photo: str | Path, name: str = "") -> Seen:
        """A photo as the net sees it.

        Raises:
            ValueError: It cannot be read, or is too large; the text is the reason.
        """
        with self._decoder.open(photo) as image:
            size, inputs = image.size, self.net.look(image)
            image.thumbnail((SHOWN, SHOWN))
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=88)
        return Seen(inputs, size, buffer.getvalue(), name)

    def find(self, photos: Sequence[Seen], least: float = FLOOR, most: int = MOST) -> list[list[Found]]:
        """The boxes of each photo, surest first: at most so many, and with at least that score.

        Some detectors draw several boxes round one garment: of those of one class that overlap by more than the IoU
        `SAME` of `hf_fashion.cropping` the surest is told.
        """
        found = [
            [one for one in boxes[:most] if one.score >= least] for boxes in self._passes([*map(_inputs, photos)])
        ]
        return found if self._naming is None else self._named(photos, found)

    def _named(self, photos: Sequence[Seen], found: Sequence[Sequence[Found]]) -> list[list[Found]]:
        """The boxes with what the classifier says of each crop."""
        assert self._naming is not None
        made = []
        for photo, boxes in zip(photos, found, strict=True):
            with Image.open(BytesIO(photo.jpeg)) as image:
                image.load()
            crops = [image.crop(pixels(one.box, image.size)) for one in boxes]
            said = self._naming([self._namer.look(crop) for crop in crops])
            named = [Found(b.label, b.number, b.score, b.box, says) for b, says in zip(boxes, said, strict=True)]
            made.append(named)
        return made

    def _loaded(self, classifier: str, revision: str | None) -> Any:
        if self.namer_folder is not None:
            return light.Namer(classifier, self.namer_folder)
        try:
            from trained import Namer
        except ModuleNotFoundError as error:  # a Space of an export is installed without torch
            self.unnamed = str(error.name)
            return None
        return Namer(classifier, revision)


def _net(model: str, revision: str | None) -> Any:
    folder = exports.find(model, revision)
    if folder is not None:
        return light.Net(model, folder)
    with needing_torch(model):
        from trained import Net
    return Net(model, revision)


def _inputs(photo: Seen) -> Inputs:
    return photo.inputs
