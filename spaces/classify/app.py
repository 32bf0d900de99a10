"""A page for an image classifier: drop photos, see what the model says of them and how sure it is.

    python app.py
    MODEL=runs/mine python app.py
    MODEL=org/name MODEL_REVISION=v1 python app.py

The model is what MODEL names (a Hub id, timm/<name>, a folder); else the first of `models` in README.md, which is how
a Space says it; else an ImageNet net that needs no Hub.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

import answers
import gradio as gr
from about import About
from classifier import MAX_BYTES, Classifier
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like
from huggingface_hub import metadata_load

HERE = Path(__file__).parent
AT_ONCE = 12  # photos in one answer
MOST = 100  # photos in one request; the rest of a longer list would be looked at for nothing
KEPT = 30  # minutes that an upload stays on the disk
CLEANED = 5  # minutes from one look for old uploads to the next


def model() -> tuple[str, str | None]:
    """The model that the settings name, and its revision."""
    named = (metadata_load(HERE / "README.md") or {}).get("models") or ["efficientnet-lite0"]
    return os.environ.get("MODEL") or named[0], os.environ.get("MODEL_REVISION")


class Page(gr.Blocks):
    """Blocks that refuse long requests before Gradio looks at every file that they name."""

    def validate_inputs(self, block_fn: Any, inputs: Any) -> None:
        left, named = [inputs], 0
        while left:
            value = left.pop()
            if isinstance(value, dict | list):
                named += isinstance(value, dict) and "path" in value
                if named > MOST or len(value) > MOST:
                    raise gr.Error(f"At most {MOST} photos at a time.", print_exception=False)
                left.extend(value.values() if isinstance(value, dict) else value)
        super().validate_inputs(block_fn, inputs)


def upload(photo: Any) -> Path:
    """The file that an event names, if it was uploaded here.

    Gradio looks only at the paths of payloads that carry `meta`, and the visitor writes the payload.

    Raises:
        gr.Error: It was not; of other files nothing is told, not even whether there are any.
    """
    path = photo.get("path") if isinstance(photo, dict) else None
    try:
        found = Path(path if isinstance(path, str) else "").resolve()
        if found.is_relative_to(Path(get_upload_folder()).resolve()):
            return found
    except (OSError, ValueError, RuntimeError):  # a name too long, with a null byte, of links in a circle
        pass
    raise gr.Error("Files of the server are not read: upload the photo itself.", print_exception=False)


def only_uploads(component: Any) -> None:
    """Makes a component take what was uploaded here; any other address Gradio would fetch whole, into memory."""
    keep = component.async_move_resource_to_block_cache

    async def take(path: str | None) -> str | None:
        if path and is_http_url_like(path):
            path = unquote(path.partition("/gradio_api/file=")[2])  # how MCP clients name what they uploaded
            if not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
                raise gr.Error("Addresses are not fetched: upload the photo itself.", print_exception=False)
        return await keep(path)

    component.async_move_resource_to_block_cache = take


def build(name: str, revision: str | None = None) -> gr.Blocks:
    """The page of one model."""
    classifier = Classifier(name, revision)
    about = About(name, revision, classifier)

    def show(photos: Sequence[Path], of: int) -> str:
        seen: list[Any] = []
        for photo in photos:
            try:
                seen.append((*classifier.look(photo), photo.name))
            except ValueError as reason:
                seen.append((reason, photo.name))
        said = classifier.say([one[0] for one in seen if len(one) == 3])
        return answers.page(seen, said, of) if photos else answers.WAITING

    def show_uploads(photos: Any) -> str:
        several = photos if isinstance(photos, list) else [photos] if photos else []
        return show([upload(photo) for photo in several[:AT_ONCE]], len(several))

    def show_example(number: int) -> str:
        return show([examples[number]], 1)

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

    examples = sorted((HERE / "examples").glob("*.*"))
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
            with gr.Column():
                # Read out when it changes: the focus stays where it is.
                said = gr.HTML(answers.WAITING, elem_id="answers", js_on_load="element.ariaLive = 'polite'")
        if examples:
            tried = gr.Dataset(
                components=[gr.Image(visible=False)], samples=[[str(path)] for path in examples],
                label="Or try one of these", type="index",
            )  # fmt: skip
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
            component.change(show_uploads, component, said, scroll_to_output=True, **private)
        if examples:
            tried.click(show_example, tried, said, scroll_to_output=True, api_visibility="private")
        ask.click(classify, photo, told, api_name="classify", preprocess=False, concurrency_limit=16)
    return page.queue(max_size=100)


LAUNCH: dict[str, Any] = {
    "theme": gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ),
    "css_paths": HERE / "page.css",
    "footer_links": ["api", "gradio", "settings"],
    "max_file_size": MAX_BYTES,
    "enable_monitoring": False,
    "run_history": False,
    "mcp_server": True,
    "ssr_mode": False,
}

if __name__ == "__main__":
    build(*model()).launch(**LAUNCH)
