"""A page for an object detector: drop photos, see what is worn in them and where, and take the crops along.

    MODEL=runs/mine python app.py
    MODEL=org/name MODEL_REVISION=v1 python app.py
    MODEL=runs/mine CLASSIFIER=org/dresses python app.py

The model is what MODEL names (a Hub id, a folder); else the first of `models` in README.md, which is how a Space says
it. With CLASSIFIER, a model of one label a photo, each crop is named by it, too. Exports (`hf-fashion export`) answer
without torch.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

import answers
import gradio as gr
from about import TITLE, About
from detector import Detector
from found import USUAL, start
from huggingface_hub import metadata_load

from hf_fashion.errors import InputError
from hf_fashion.serving import MAX_BYTES, Page, not_loaded, only_uploads, own_examples, upload

HERE = Path(__file__).parent
AT_ONCE = 6  # photos in one answer
BOXES, LEAST = 30, 0.05  # boxes of a photo that the page holds, and the lowest score that its slider goes to
KEPT = 30  # minutes that an upload stays on the disk
SHIPPED = {
    "coat-and-longsleeve", "coat-jumper-shirt-and-shorts", "jumper-and-trousers", "shirt-and-shoes",
    "shirt-and-trousers", "trousers-and-shoes",
}  # fmt: skip
CLEANED = 5  # minutes from one look for old uploads to the next


def model() -> tuple[str, str | None]:
    """The model that the settings name, and its revision.

    Raises:
        InputError: They name none.
    """
    named = [os.environ.get("MODEL") or "", *((metadata_load(HERE / "README.md") or {}).get("models") or [])]
    chosen = next(filter(None, named), None)
    if chosen is None:
        raise InputError(
            "the variable MODEL", expected="the id or folder of a detector", found="none",
            fix="MODEL=runs/mine python app.py; of a Space: hf-fashion push spaces/detect REPO --model USER/NAME",
        )  # fmt: skip
    return chosen, os.environ.get("MODEL_REVISION") or None


def classifier() -> tuple[str | None, str | None]:
    """The model that names crops, and its revision; None where the settings name none."""
    return os.environ.get("CLASSIFIER") or None, os.environ.get("CLASSIFIER_REVISION") or None


def examples_of(name: str, revision: str | None, folder: Path) -> list[Path]:
    """Photos to try: your own in `examples/`; else those of the model's page; else all of `examples/`."""
    beside = sorted((HERE / "examples").glob("*.*"))
    own = [path for path in beside if path.stem not in SHIPPED]
    return own or own_examples(name, revision, folder) or beside


def build(
    name: str, revision: str | None = None, namer: str | None = None, namer_revision: str | None = None
) -> gr.Blocks:
    """The page of one model; `namer` is the classifier of the crops."""
    detector = Detector(name, revision, namer, namer_revision)
    about = About(name, revision, detector, namer, namer_revision)
    threshold = USUAL if detector.threshold is None else detector.threshold
    begin = start(detector.threshold)
    least = min(LEAST, begin)

    def show(photos: Sequence[Path], left: Sequence[Path] = ()) -> str:
        seen: list[Any] = []
        for photo in photos:
            try:
                seen.append(detector.look(photo, photo.name))
            except ValueError as reason:
                seen.append((reason, photo.name))
        found = detector.find([one for one in seen if isinstance(one, answers.Seen)], least, BOXES)
        return answers.page(seen, found, [path.name for path in left]) if photos else answers.WAITING

    def show_uploads(photos: Any) -> str:
        several = photos if isinstance(photos, list) else [photos] if photos else []
        every = [upload(photo) for photo in several]
        return show(every[:AT_ONCE], every[AT_ONCE:])

    def show_example(number: int) -> str:
        return show([examples[number]])

    def detect(photo: dict[str, Any] | None, score: float | None) -> list[dict[str, Any]]:
        """Finds the garments in a photo, and where each is.

        Args:
            photo: One picture (JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP) of at most 20 MB and 25 megapixels.
            score: Boxes of a lower score, from 0.01 to 1, are left out. The default is what was best on validation
                photos, or 0.5 where nobody measured it.

        Returns:
            The boxes, surest first, at most 100: `label`, its `score` from 0 to 1, and `box` with `xmin`, `ymin`,
            `xmax` and `ymax` in pixels of the upright photo. Where the page names crops, `classified`: what that
            model says of the crop, `label` and `score`.
        """
        if score is not None and (
            isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1
        ):
            raise gr.Error("The score must be a number from 0 to 1.", print_exception=False)
        try:
            seen = detector.look(upload(photo))
        except ValueError as reason:
            raise gr.Error(f"This photo cannot be used: {reason}", print_exception=False) from None
        return answers.as_list(seen.size, detector.find([seen], threshold if score is None else score)[0])

    examples = examples_of(name, revision, detector.folder)
    private: dict[str, Any] = {"preprocess": False, "api_visibility": "private", "concurrency_limit": 8}
    with Page(title=about.title, delete_cache=(CLEANED * 60, KEPT * 60), analytics_enabled=False) as page:
        gr.Markdown(about.heading)
        with gr.Row(equal_height=False):
            with gr.Column():
                with gr.Tab("Upload"):
                    files = gr.File(file_count="multiple", file_types=["image"], label="Photos", height=180)
                with gr.Tab("Camera"):
                    camera = gr.Image(
                        sources=["webcam"], label="Camera", type="filepath", image_mode=None, buttons=[], height=320,
                        webcam_options=gr.WebcamOptions(mirror=False),
                    )  # fmt: skip
            with gr.Column():
                if examples:
                    tried = gr.Dataset(
                        components=[gr.Image(visible=False)], samples=[[str(path)] for path in examples],
                        label="Or try one of these", type="index",
                    )  # fmt: skip
                gr.Slider(
                    least, 1, begin, step=0.01, label="Lowest score of a box that is shown", elem_id="score",
                    buttons=[], interactive=True,
                )  # fmt: skip
        gr.HTML('<p role="status"></p>', elem_id="status")
        said = gr.HTML(
            answers.WAITING, elem_id="answers", js_on_load=(HERE / "page.js").read_text(encoding="utf-8")
        )  # fmt: skip
        with gr.Accordion("What this model is for, and its limits", open=False):
            gr.Markdown(about.text)
        gr.Markdown(f"Photos are used for the answer only, and deleted within {KEPT + CLEANED} minutes.")
        with gr.Row(visible=False):
            photo, told, ask = gr.File(label="photo"), gr.JSON(label="boxes"), gr.Button()
            score = gr.Number(threshold, label="score")
        for component in (files, camera, photo, *([tried] if examples else [])):
            only_uploads(component)
        # Events take what the visitor sent as it came (`preprocess`): Gradio would open pictures with its own decoder,
        # and leave an empty file behind for each.
        for component in (files, camera):
            component.change(show_uploads, component, said, **private)
        if examples:
            tried.click(show_example, tried, said, api_visibility="private")
        ask.click(detect, [photo, score], told, api_name="detect", preprocess=False, concurrency_limit=8)
    return page.queue(max_size=100)


LAUNCH: dict[str, Any] = {
    "theme": gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ),
    "css_paths": HERE / "page.css",
    "i18n": gr.I18n(en={"upload_text.drop_file": "Drop photos here", "upload_text.click_to_upload": "Choose photos"}),
    "footer_links": ["api", "gradio", "settings"],
    "max_file_size": MAX_BYTES,
    "enable_monitoring": False,
    "run_history": False,
    "mcp_server": True,
    "ssr_mode": False,
}


def main() -> None:
    name = ""
    try:
        name, revision = model()
        page = build(name, revision, *classifier())
    except InputError as error:
        if "SPACE_ID" not in os.environ:
            sys.exit(f"\nerror: {error}\n")
        page = not_loaded(TITLE, name, error)
    page.launch(**LAUNCH)


if __name__ == "__main__":
    main()
