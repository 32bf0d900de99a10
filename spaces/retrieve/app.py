"""A page for an index of photos: drop a photo, type or speak, set filters, see what is nearest.

    INDEX=garments python app.py
    INDEX=garments PHOTOS=./photos MODEL=runs/retrieve-1 python app.py
    INDEX=org/garments MODEL=org/encoder DETECTOR=org/garment-boxes SPEECH=openai/whisper-tiny python app.py
    INDEX=http://localhost:6333/garments PHOTOS=org/photos python app.py        # Qdrant; key: QDRANT_API_KEY

INDEX is a folder that `hf-fashion index` wrote, a data set of the Hub that is such a folder, or an address of Qdrant;
else the first of `datasets` in README.md, which is how a Space says it; else the folder `index` beside this file. Its
model is the one that it names, or MODEL, or the first of `models`, where it is now; another one is refused.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

import answers
import gradio as gr
from about import TITLE, About
from columns import Range
from gradio.utils import get_upload_folder
from huggingface_hub import metadata_load
from near import LEVEL
from retriever import Answer, Found, Retriever, Settings
from speech import LONGEST, Speech

from hf_fashion.errors import InputError
from hf_fashion.index.rows import PICTURE
from hf_fashion.serving import MAX_BYTES, Page, only_uploads, own_examples, plain, upload

HERE = Path(__file__).parent
MOST = (12, 24, 48, 96)  # photos in an answer
WORDS = 300  # characters
WHERE = 1000
KEPT = 30  # minutes that an upload stays on the disk
SHIPPED = {"dress", "hat", "shirt", "shoes", "shorts", "t-shirt"}  # photos of `examples`, called by what is on them
CLEANED = 5  # minutes from one look for old uploads to the next


def settings() -> Settings:
    """What the variables and README.md name.

    Raises:
        InputError: They name no index.
    """
    front = metadata_load(HERE / "README.md") or {}
    named: dict[str, Any] = {name: os.environ.get(name.upper()) or None for name in Settings.__dataclass_fields__}
    own = [str(HERE / "index")] if (HERE / "index").is_dir() else []
    named["index"] = next(filter(None, [named["index"], *(front.get("datasets") or []), *own]), None)
    if named["index"] is None:
        raise InputError(
            "the variable INDEX", expected="a folder of hf-fashion index, a data set of the Hub, or an address",
            found="none",
            fix="hf-fashion index ./photos runs/retrieve-1 -o garments; INDEX=garments PHOTOS=./photos python app.py",
        )  # fmt: skip
    named["model"] = named["model"] or next(iter(front.get("models") or []), None)
    try:
        far = float(named.pop("far") or LEVEL)
    except ValueError:
        far = -1
    if not 0 <= far < 1:
        raise InputError(
            "the variable FAR", expected=f"a share from 0 to below 1, such as {LEVEL}", found=os.environ["FAR"],
            fix="leave it out",
        )  # fmt: skip
    return Settings(**named, far=far)


def examples_of(retriever: Retriever) -> list[Path]:
    """Photos to try: your own in `examples/`; else those of the model's page; else all of `examples/`."""
    beside = sorted((HERE / "examples").glob("*.*"))
    own = [path for path in beside if path.stem not in SHIPPED]
    return own or own_examples(retriever.model, retriever.revision, Path(retriever.model)) or beside


def build(chosen: Settings) -> gr.Blocks:
    """The page of one index."""
    retriever = Retriever(chosen)
    about = About(chosen, retriever)
    ears = Speech(chosen.speech, chosen.speech_revision) if chosen.speech and retriever.takes_words else None
    tell_photos(retriever)

    def find(
        photo: Path | None, source: Any, words: Any, weight: Any, most: Any, where: Any
    ) -> tuple[Answer, Found | None]:
        """Asks the index; what is given may be anything, since anybody may send it.

        Args:
            photo: What was uploaded, or None.
            source: {"like": id of the index}, {"garment": place of a garment of the photo}, or None.
            words: Or None.
            weight: Of the words.
            most: How many are wanted.
            where: A filter.
        """
        if not isinstance(words, str | None) or len(words or "") > WORDS:
            raise ValueError(f"words are text of at most {WORDS} characters")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise ValueError("the weight of the words is a number from 0 to 1")
        if isinstance(most, bool) or not isinstance(most, int | float) or not 1 <= most <= MOST[-1]:
            raise ValueError(f"at most {MOST[-1]} photos are shown")
        words, like, vector = (words or "").strip(), None, None
        if words and not retriever.takes_words:
            raise ValueError("the model of this index takes no words")
        if source and "like" in source:
            one = source["like"] if isinstance(source["like"], str) else ""
            vector = retriever.vector_of(one)
            if vector is None:
                raise ValueError("this photo is in the index no longer")
            row = retriever.row_of(one)
            like = Found(one, 1.0, row, retriever.photos.small(row.pop(PICTURE, None)))
        elif photo:
            garment = (source or {}).get("garment")
            if garment is not None and not 0 <= garment < len(retriever.garments(photo)):
                raise ValueError("this garment is not in the photo")
            vector = retriever.look(photo, garment)
        if vector is None and not words:
            raise ValueError("a photo or words are needed")
        without = like.id if like else ""
        return retriever.search(vector, words, float(weight), int(most), where, without), like

    def show(source: Any, photo: Any, words: Any, weight: Any, most: Any, *filters: Any) -> str:
        if not photo and not source and (words is None or isinstance(words, str) and not words.strip()):
            return answers.WAITING
        sent = upload(photo) if photo else None
        try:
            return answers.page(*find(sent, source, words, weight, most, retriever.columns.where(filters)))
        except InputError as error:
            return answers.refused("This filter", ValueError(f"{error.expected} expected, found {error.found}"))
        except ValueError as error:
            return answers.refused("This photo" if photo and not source else "This query", error)

    def go(*given: Any) -> str:
        """`show`, and the page goes there: a phone shows the answer below all that is asked with."""
        return show(*given).replace('<div class="said">', f'<div class="said" data-go="{answers.mark()}">', 1)

    def show_photo(photo: Any, *rest: Any) -> tuple[str, str, None]:
        if not photo:
            return show(None, photo, *rest), "", None
        sent = upload(photo)
        try:
            crops = answers.garments(retriever.crops(sent))
        except ValueError:  # `show` says why
            crops = ""
        # Where garments are offered, the visitor stays with them.
        return (show if crops else go)(None, photo, *rest), crops, None

    def show_garment(event: gr.EventData, photo: Any, *rest: Any) -> tuple[str, dict[str, int] | None]:
        place = event._data.get("garment") if isinstance(event._data, dict) else None
        source = {"garment": place} if isinstance(place, int) and not isinstance(place, bool) else None
        return go(source, photo, *rest), source

    def show_like(event: gr.EventData, photo: Any, *rest: Any) -> tuple[str, dict[str, str] | None]:
        one = event._data.get("id") if isinstance(event._data, dict) else None
        source = {"like": one} if isinstance(one, str) and one else None
        return go(source, photo, *rest), source

    def hear(recording: Any) -> tuple[str, None]:
        path = upload(recording)
        try:
            assert ears is not None
            told = ears.words(path)
        except ValueError as reason:
            raise gr.Error(f"This recording cannot be used: {reason}.", print_exception=False) from None
        finally:
            path.unlink(missing_ok=True)
        if not told:
            raise gr.Error("No words were heard: please say it again.", print_exception=False)
        return told[:WORDS], None

    def example(number: int) -> str:
        folder = Path(get_upload_folder())
        folder.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(examples[number], Path(tempfile.mkdtemp(dir=folder)) / examples[number].name))

    def search(
        photo: dict[str, Any] | None, words: str | None, where: str | None, most: float, weight: float
    ) -> dict[str, Any]:
        """Finds photos of this index by a photo, by words, or by both together, with a filter.

        Args:
            photo: One picture (JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP) of at most 20 MB and 25 megapixels, or null.
            words: What is looked for, of at most 300 characters, or null; only where the page has a field for words.
            where: A filter on the columns, such as `category=dress price<50 colour=red,"light blue"`, or null.
            most: How many photos are wanted, 1 to 96.
            weight: Where both are given: how much the words count against the photo, from 0 to 1.

        Returns:
            `found`: the nearest first, each with `id`, `score` (a cosine, 1 for the same) and `columns`. `near`:
            whether the first is as near as what belongs into this index usually finds; null where nobody can tell.
        """
        sent = upload(photo) if photo else None
        try:
            if not isinstance(where, str | None) or len(where or "") > WHERE:
                raise ValueError(f"a filter is text of at most {WHERE} characters")
            return answers.as_dict(find(sent, None, words, weight, most, where or None)[0])
        except InputError as error:
            told = f"{error.what}: expected {error.expected}, found {error.found}"
            raise gr.Error(f"This filter cannot be used: {told}", print_exception=False) from None
        except ValueError as reason:
            raise gr.Error(f"This cannot be searched: {reason}", print_exception=False) from None

    examples = examples_of(retriever)
    js = (HERE / "page.js").read_text(encoding="utf-8")
    private: dict[str, Any] = {
        "preprocess": False, "api_visibility": "private", "concurrency_limit": 8, "trigger_mode": "always_last",
    }  # fmt: skip
    with Page(title=about.title, delete_cache=(CLEANED * 60, KEPT * 60), analytics_enabled=False) as page:
        gr.Markdown(about.heading)
        source = gr.State(None, time_to_live=KEPT * 60)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300, elem_id="asking"):
                photo = gr.Image(
                    sources=["upload", "webcam"], label="Photo", type="filepath", image_mode=None, buttons=[],
                    height=240, webcam_options=gr.WebcamOptions(mirror=False),
                )  # fmt: skip
                crops = gr.HTML("", elem_id="garments", js_on_load=js)
                if examples:
                    tried = gr.Dataset(
                        components=[gr.Image(visible=False)], samples=[[str(path)] for path in examples],
                        label="Or try one of these", type="index",
                    )  # fmt: skip
                words = gr.Textbox(
                    label="Words", placeholder="red dress with dots", max_length=WORDS, lines=1,
                    visible=retriever.takes_words,
                )  # fmt: skip
                voice = gr.Audio(
                    sources=["microphone"], type="filepath", format="wav", label=f"Or say it (up to {LONGEST} s)",
                    editable=False, buttons=[], visible=ears is not None, elem_id="voice",
                )  # fmt: skip
                weight = gr.Slider(
                    0, 1, 0.5, step=0.05, label="With a photo and words: how much the words count", buttons=[],
                    visible=retriever.takes_words, elem_id="weight",
                )  # fmt: skip
                filters: list[Any] = []
                if retriever.columns.filters:
                    with gr.Accordion("Filters", open=False, elem_id="filters"):
                        for one in retriever.columns.filters:
                            filters += _filter(one)
                most = gr.Dropdown([*MOST], value=MOST[0], label="Photos at most", filterable=False)
                with gr.Row():
                    anew = gr.Button("Start anew", min_width=100)
                    ask = gr.Button("Search", variant="primary", min_width=100)
            with gr.Column(scale=5, min_width=300):
                gr.HTML('<p role="status"></p>', elem_id="status")
                said = gr.HTML(answers.WAITING, elem_id="answers", js_on_load=js)
        with gr.Accordion("What near means here, what the model is for, and its limits", open=False):
            gr.Markdown(about.text)
        gr.Markdown(
            f"Photos are used for the answer only, and deleted within {KEPT + CLEANED} minutes"
            + ("; recordings as soon as their words are in the field." if ears else ".")
        )
        with gr.Row(visible=False):
            sent, told, send = gr.File(label="photo"), gr.JSON(label="found"), gr.Button()
            typed, where = gr.Textbox(label="words"), gr.Textbox(label="where")
            wanted, share = gr.Number(MOST[0], label="most"), gr.Number(0.5, label="weight")
        for component in (photo, sent, voice, *([tried] if examples else [])):
            only_uploads(component)
        # Events take what the visitor sent as it came (`preprocess`): Gradio would open pictures with its own decoder,
        # and leave an empty file behind for each.
        rest = [words, weight, most, *filters]
        photo.change(show_photo, [photo, *rest], [said, crops, source], **private)
        crops.select(show_garment, [photo, *rest], [said, source], **private)
        said.click(show_like, [photo, *rest], [said, source], **private)
        for event in (ask.click, words.submit):
            event(go, [source, photo, *rest], said, **private)
        for event in (weight.release, most.input, *(one.input for one in filters)):
            event(show, [source, photo, *rest], said, **private)
        if ears is not None:
            heard = voice.input(hear, voice, [words, voice], **private)
            heard.success(go, [source, photo, *rest], said, **private)
        cleared = [None, None, "", "", 0.5, *(one.value for one in filters), answers.WAITING]
        anew.click(
            lambda: cleared, None, [source, photo, crops, words, weight, *filters, said], api_visibility="private"
        )  # fmt: skip
        if examples:
            tried.click(example, tried, photo, api_visibility="private")
        send.click(
            search, [sent, typed, where, wanted, share], told, api_name="search", preprocess=False, concurrency_limit=8
        )  # fmt: skip
    return page.queue(max_size=100)


def _filter(one: Any) -> list[Any]:
    """The fields of one filter."""
    if isinstance(one, Range):
        with gr.Row():
            return [
                gr.Number(one.low, label=f"{one.column} from", min_width=100, buttons=[]),
                gr.Number(one.high, label=f"{one.column} to", min_width=100, buttons=[]),
            ]
    shown = [(f"{'yes' if value is True else 'no' if value is False else value} ({count:,})", value)
             for value, count in one.options]  # fmt: skip
    label = one.column + (f" (the {len(one.options)} most frequent; type others)" if one.others else "")
    return [gr.Dropdown(shown, value=[], multiselect=True, label=label, allow_custom_value=bool(one.others))]


def tell_photos(retriever: Retriever) -> None:
    """Says at the start how many of some photos can be shown."""
    drawn = [row.get(PICTURE) for row in retriever.columns.drawn]
    there = sum(one in retriever.photos for one in drawn)
    if there < len(drawn):
        print(
            f"of {len(drawn)} photos of the index, drawn at random, {there} can be shown: "
            "PHOTOS=FOLDER names where they lie, or: python photos.py INDEX FOLDER",
            file=sys.stderr,
        )


def not_opened(error: InputError) -> gr.Blocks:
    """What a Space shows whose index, or model, cannot be used."""
    print(f"error: {error}", file=sys.stderr)
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(
            f"# {TITLE}\nThere is nothing to search yet. {plain(error.what)}: {plain(error.expected)} was expected, "
            f"and this was found: {plain(error.found)}.\n\nThe owner of this Space sets the variable `INDEX`, and "
            "`MODEL` where the index's model lies elsewhere now (Settings, Variables and secrets); for what is "
            "private also the secret `HF_TOKEN`, a token that may read it. Then the Space is started anew."
        )
    return page


LAUNCH: dict[str, Any] = {
    "theme": gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ),
    "css_paths": HERE / "page.css",
    "i18n": gr.I18n(en={"upload_text.drop_image": "Drop a photo here", "upload_text.click_to_upload": "Choose one"}),
    "footer_links": ["api", "gradio", "settings"],
    "max_file_size": MAX_BYTES,
    "enable_monitoring": False,
    "run_history": False,
    "mcp_server": True,
    "ssr_mode": False,
}


def main() -> None:
    try:
        page = build(settings())
    except InputError as error:
        if "SPACE_ID" not in os.environ:
            sys.exit(f"\nerror: {error}\n")
        page = not_opened(error)
    page.launch(**LAUNCH)


if __name__ == "__main__":
    main()
