"""What the page says of its model, out of the model's own card."""

from pathlib import Path
from urllib.parse import quote

from detector import Detector
from found import USUAL, start
from huggingface_hub import constants

from hf_fashion.serving import card_text, described, intended_use, of_export, plain

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
        text = card_text(detector.folder)
        names = [*dict.fromkeys(detector.labels)]
        some = ", ".join(map(plain, names[:15])) + (", ..." if len(names) > 15 else "")
        own = detector.folder if detector.form else None
        self.title = TITLE
        self.heading = (
            f"# {TITLE}\nDrop a photo: the model {_called(name, revision, own)} draws a box round each of the things "
            f"it knows: {some}."
        )
        if classifier and detector.unnamed:
            self.heading += (
                f" What is in a box gets no further name: the classifier {plain(classifier)} needs "
                f"{plain(detector.unnamed)}, which is not installed here; an export of it does not."
            )
        elif classifier:
            named = _called(classifier, classifier_revision, detector.namer_folder)
            self.heading += f" What is in a box is then named by {named}."
        self.text = f"{_score(detector)}\n\n{of_export(detector.form)}{intended_use(text)}"


def _called(name: str, revision: str | None, export: Path | None) -> str:
    """A model with a link to its card and its licence; `export`: where its files lie if it is one."""
    told = described(name, revision, export)
    shown = plain(str(name if told["kind"] == "hub" else told["name"]))
    link = f"[{shown}]({constants.ENDPOINT}/{quote(name)})" if told["kind"] == "hub" else f"**{shown}**"
    return f"{link} (licence: {plain(str(told['license']))})"


def _score(detector: Detector) -> str:
    if detector.threshold is None:
        return f"Nobody has measured above which score its boxes are best believed: {USUAL:.2f} is the usual."
    return (
        f"The page starts with boxes of a score of {start(detector.threshold):.2f} and above: on the validation "
        "photos that gave the best balance (F1) of boxes that are right and garments that are found. A lower score "
        "shows more of the garments, and more boxes that are wrong."
    )
