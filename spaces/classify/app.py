"""A page for an image classifier: drop photos, see what the model says of them and how sure it is.

    python app.py
    MODEL=runs/mine python app.py
    MODEL=org/name MODEL_REVISION=v1 python app.py

The model is what MODEL names (a Hub id, timm/<name>, a folder); else the first of `models` in README.md, which is how
a Space says it; else an ImageNet net that needs no Hub. An export (`hf-fashion export`) answers without torch.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

import answers
import gradio as gr
import light
from about import TITLE, About
from huggingface_hub import metadata_load

from hf_fashion import exports
from hf_fashion.errors import InputError
from hf_fashion.serving import MAX_BYTES, Page, needing_torch, not_loaded, only_uploads, own_examples, upload

HERE = Path(__file__).parent
AT_ONCE = 12  # photos in one answer
BUILT_IN = "efficientnet-lite0"  # an ImageNet net that needs no Hub
SHIPPED = {"dress", "hat", "shirt", "shoes", "shorts", "t-shirt"}  # photos of `examples`, called by what is on them
KEPT = 30  # minutes that an upload stays on the disk
CLEANED = 5  # minutes from one look for old uploads to the next
# The answer is read out when it changes: the focus stays where it is. And Gradio gives an example's picture no text:
# its button is called by its file's name, also when it is drawn anew. No event: visitors could send something to it.
ON_LOAD = """
element.ariaLive = "polite";
const name = () => document.querySelectorAll("button.gallery-item img").forEach((image) => {
  const file = decodeURIComponent(image.src.split("/").pop());
  image.closest("button").ariaLabel = "Example: " + file.replace(/\\.\\w+$/, "");
});
new MutationObserver(name).observe(document.body, {childList: true, subtree: true, attributeFilter: ["src"]});
name();
// On a phone the answer lies below the photo that was chosen; Gradio's own scrolling does not get there.
let told = element.textContent;
new MutationObserver(() => {
  if (element.textContent === told) return;
  told = element.textContent;
  setTimeout(() => {
    const {top} = element.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) element.scrollIntoView();
  }, 200);
}).observe(element, {childList: true, subtree: true, characterData: true});
"""


def model() -> tuple[str, str | None]:
    """The model that the settings name, and its revision."""
    named = (metadata_load(HERE / "README.md") or {}).get("models") or [BUILT_IN]
    return os.environ.get("MODEL") or named[0], os.environ.get("MODEL_REVISION") or None


def load(name: str, revision: str | None) -> Any:
    """The model, trained or exported.

    Raises:
        InputError: There is no such model, or it is no classifier, with what to do.
    """
    folder = exports.find(name, revision)
    if folder is not None:
        return light.Exported(name, folder)
    with needing_torch(name):
        from classifier import Classifier
    return Classifier(name, revision)


def examples_of(name: str, revision: str | None, classifier: Any) -> list[Path]:
    """Photos to try: your own in `examples/`; else those of the model's repo or folder (`widget/`), as small copies;
    else those of `examples/` whose label the model knows."""
    beside = sorted((HERE / "examples").glob("*.*"))
    if own := [path for path in beside if path.stem not in SHIPPED]:
        return own
    if theirs := own_examples(name, revision, classifier.folder):
        return theirs
    known = {label.casefold() for label in classifier.labels}
    return [path for path in beside if name == BUILT_IN or path.stem in known]


def build(name: str, revision: str | None = None) -> gr.Blocks:
    """The page of one model."""
    classifier = load(name, revision)
    about = About(name, revision, classifier)

    def show(photos: Sequence[Path], left: Sequence[Path] = ()) -> str:
        seen: list[Any] = []
        for photo in photos:
            try:
                seen.append((*classifier.look(photo), photo.name))
            except ValueError as reason:
                seen.append((reason, photo.name))
        said = classifier.say([one[0] for one in seen if len(one) == 3])
        return answers.page(seen, said, [path.name for path in left]) if photos else answers.WAITING

    def show_uploads(photos: Any) -> str:
        several = photos if isinstance(photos, list) else [photos] if photos else []
        every = [upload(photo) for photo in several]
        return show(every[:AT_ONCE], every[AT_ONCE:])

    def show_example(number: int) -> str:
        return show([examples[number]])

    def classify(photo: dict[str, Any] | None) -> dict[str, Any]:
        """Says which label of the model fits a photo, and how sure the model is.

        Args:
            photo: One picture (JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP) of at most 20 MB and 25 megapixels.

        Returns:
            `label`, its `score` from 0 to 1, `sure` (whether such scores were right in 95 of 100 validation photos;
            null where nobody measured it) and `scores` of all labels. Of a model of attributes: for each attribute its
            `labels` and `scores`.
        """
        try:
            pixels, _ = classifier.look(upload(photo))
        except ValueError as reason:
            raise gr.Error(f"This photo cannot be used: {reason}", print_exception=False) from None
        return answers.as_dict(classifier.say([pixels])[0])

    examples = examples_of(name, revision, classifier)
    private: dict[str, Any] = {"preprocess": False, "api_visibility": "private", "concurrency_limit": 16}
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
                if examples:
                    tried = gr.Dataset(
                        components=[gr.Image(visible=False)], samples=[[str(path)] for path in examples],
                        label="Or try one of these", type="index",
                    )  # fmt: skip
            with gr.Column():
                said = gr.HTML(answers.WAITING, elem_id="answers", js_on_load=ON_LOAD)
        with gr.Accordion("What this model is for, and its limits", open=False):
            gr.Markdown(about.text)
        gr.Markdown(f"Photos are used for the answer only, and deleted within {KEPT + CLEANED} minutes.")
        with gr.Row(visible=False):
            photo, told, ask = gr.File(label="photo"), gr.JSON(label="answer"), gr.Button()
        for component in (files, camera, photo, *([tried] if examples else [])):
            only_uploads(component)
        # Events take what the visitor sent as it came (`preprocess`): Gradio would open pictures with its own decoder,
        # and leave an empty file behind for each.
        for component in (files, camera):
            component.change(show_uploads, component, said, **private)
        if examples:
            tried.click(show_example, tried, said, api_visibility="private")
        ask.click(classify, photo, told, api_name="classify", preprocess=False, concurrency_limit=16)
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
    name, revision = model()
    try:
        page = build(name, revision)
    except InputError as error:
        if "SPACE_ID" not in os.environ:
            sys.exit(f"\nerror: {error}\n")
        page = not_loaded(TITLE, name, error)
    page.launch(**LAUNCH)


if __name__ == "__main__":
    main()
