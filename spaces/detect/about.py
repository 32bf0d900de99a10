"""What the page says of its model, out of the model's own card."""

from urllib.parse import quote

from detector import Detector
from huggingface_hub import ModelCard, constants

from hf_fashion import backbones
from hf_fashion.cropping import USUAL
from hf_fashion.serving import intended_use, plain

TITLE = "What is worn in the photo?"


class About:
    """Title, heading and a text about the model.

    Args:
        name: The model as the settings name it.
        revision: Its revision.
        detector: The loaded model.
        classifier: What names the crops, as the settings name it.
        classifier_revision: Its revision.
    """

    def __init__(
        self, name: str, revision: str | None, detector: Detector, classifier: str | None = None,
        classifier_revision: str | None = None,
    ) -> None:  # fmt: skip
        card = detector.folder / "README.md"
        text = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).text if card.is_file() else ""
        names = [*dict.fromkeys(detector.labels)]
        some = ", ".join(map(plain, names[:15])) + (", ..." if len(names) > 15 else "")
        self.title = TITLE
        self.heading = (
            f"# {TITLE}\nDrop a photo: the model {_called(name, revision)} draws a box round each of the things it "
            f"knows: {some}."
        )
        if classifier:
            self.heading += f" What is in a box is then named by {_called(classifier, classifier_revision)}."
        self.text = f"{_score(detector)}\n\n{intended_use(text)}"


def _called(name: str, revision: str | None) -> str:
    """A model with a link to its card and its licence."""
    told = backbones.describe(name, revision)
    shown = plain(str(name if told["kind"] == "hub" else told["name"]))
    link = f"[{shown}]({constants.ENDPOINT}/{quote(name)})" if told["kind"] == "hub" else f"**{shown}**"
    return f"{link} (licence: {plain(str(told['license']))})"


def _score(detector: Detector) -> str:
    if detector.threshold is None:
        return f"Nobody has measured above which score its boxes are best believed: {USUAL:.2f} is the usual."
    return (
        f"The page starts with boxes of a score of {detector.threshold:.2f} and above: on the validation photos that "
        "gave the best balance (F1) of boxes that are right and garments that are found. A lower score shows more of "
        "the garments, and more boxes that are wrong."
    )
