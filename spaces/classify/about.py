"""What the page says of its model, out of the model's own card."""

from typing import Any
from urllib.parse import quote

from huggingface_hub import constants

from hf_fashion.serving import card_text, described, intended_use, of_export, plain

TITLE = "What is in the photo?"
NOT_MEASURED = "How sure its answers are was not measured for this model: a high score may be wrong, too."


class About:
    """Title, heading and a text about the model.

    Args:
        name: The model as the settings name it.
        revision: Its revision.
        classifier: The loaded model, trained or exported.
    """

    def __init__(self, name: str, revision: str | None, classifier: Any) -> None:
        told = described(name, revision, classifier.folder if classifier.form else None)
        text = card_text(classifier.folder)
        shown = plain(str(name if told["kind"] == "hub" else told["name"]))
        link = f"[{shown}]({constants.ENDPOINT}/{quote(name)})" if told["kind"] == "hub" else f"**{shown}**"
        licence = plain(str(told["license"]))
        self.title = TITLE
        self.heading = f"# {TITLE}\nDrop a photo: the model {link} (licence: {licence}) says {_what(classifier)}."
        if classifier.attributes is None and classifier.unsure_below is None:
            self.heading += f"\n\n{NOT_MEASURED}"
        self.text = f"{_how_sure(classifier)}\n\n{of_export(classifier.form)}{intended_use(text)}"


def _what(classifier: Any) -> str:
    """What the model tells of a photo."""
    names = classifier.labels
    if classifier.attributes is not None and len(classifier.attributes.groups) > 1:
        names = [group.name for group in classifier.attributes.groups]
    some = ", ".join(map(plain, names[:12])) + (", ..." if len(names) > 12 else "")
    return f"which of its {len(names)} labels fits: {some}" if names is classifier.labels else f"its {some}"


def _how_sure(classifier: Any) -> str:
    if classifier.attributes is not None:
        return "Where several labels may be right, those are named whose scores reach thresholds chosen on validation."
    if classifier.unsure_below is None:
        return (
            "Nobody has measured below which score this model is unsure; only answers whose best two scores are close "
            "are marked."
        )
    if classifier.unsure_below >= 1:
        return "**Unsure** is said of every answer: at no score were 95 in 100 of the validation photos right."
    return (
        f"**Unsure** is said below {100 * classifier.unsure_below:.0f} %: of the validation photos with that score "
        "or more, 95 in 100 were right."
    )
