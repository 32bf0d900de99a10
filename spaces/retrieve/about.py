"""What the page says of its index and of its model."""

from pathlib import Path
from urllib.parse import quote

from columns import READ
from huggingface_hub import constants
from retriever import Retriever, Settings

from hf_fashion.backbones.sources import ENCODER_FILES, find
from hf_fashion.serving import card_text, described, intended_use, of_export, plain

TITLE = "Where is one like this?"


class About:
    """Title, heading and a text about the index and its model.

    Args:
        settings: What the page serves.
        retriever: The opened index.
    """

    def __init__(self, settings: Settings, retriever: Retriever) -> None:
        own = retriever.export
        text = card_text(own or find(retriever.model, retriever.revision, ENCODER_FILES))
        ways = ["Drop a photo"] + ["type words"] * retriever.takes_words
        if settings.speech and retriever.takes_words:
            ways.append("speak")
        asked = ", ".join(ways[:-1]) + " or " * (len(ways) > 1) + ways[-1]
        together = ", or both together" * retriever.takes_words
        self.title = TITLE
        self.heading = (
            f"# {TITLE}\n{asked}{together}: the page shows which of {len(retriever.index):,} photos are nearest, as "
            f"{_called(retriever.model, retriever.revision, own)} sees them."
        )
        if own is not None:
            self.heading += (
                " That model runs from an exported file, which reads no words: this page searches by photos."
            )
        if settings.detector:
            self.heading += (
                " Garments in a photo are found by "
                f"{_called(settings.detector, settings.detector_revision, retriever.detector)}."
            )
        if settings.speech and retriever.takes_words:
            self.heading += f" Speech is heard by {_called(settings.speech, settings.speech_revision, None)}."
        self.text = f"{_near(retriever)}\n\n{_counts(retriever)}{of_export(retriever.form)}{intended_use(text)}"


def _called(name: str, revision: str | None, export: Path | None) -> str:
    """A model with a link to its card and its licence; `export`: where its files lie if it is one."""
    told = described(name, revision, export)
    shown = plain(str(name if told["kind"] == "hub" else told["name"]))
    link = f"[{shown}]({constants.ENDPOINT}/{quote(name)})" if told["kind"] == "hub" else f"**{shown}**"
    return f"{link} (licence: {plain(str(told['license']))})"


def _near(retriever: Retriever) -> str:
    """The scale of the scores, as it was measured on the index."""
    near = retriever.near
    made = ["A score is 1 for the same photo, and lower the less two are alike."]
    if near.random is not None:
        made.append(f"Two photos of this collection taken at random have {near.random:.2f} (the median of a sample).")
    kinds = [("a photo of it, asked for by itself, finds another one with", True, 0.0)]
    if retriever.takes_words:
        what = "the title of a photo of it" if near.by_title else "a word of its own columns"
        kinds.append((f"{what} finds a photo with", False, 1.0))
    for words, photo, weight in kinds:
        usual, limit = near.median(photo, weight), near.limit(photo, weight)
        if usual is None:
            made.append("How near words should be, nobody can tell here: its columns hold none.")
        elif limit is None:
            made.append(f"As a rule {words} {usual:.2f}; there are too few to tell when nothing is near.")
        else:
            made.append(
                f"As a rule {words} {usual:.2f}, and only {100 * near.level:g} in 100 stay below {limit:.2f}: there "
                "this page says that nothing is near."
            )
    return " ".join(made)


def _counts(retriever: Retriever) -> str:
    if retriever.columns.rows >= len(retriever.index):
        return ""
    return f"The counts in the filters are of the first {READ:,} photos or so.\n\n"
