"""What the pages in `spaces/` share: they read what was uploaded and nothing else, hold no more decoded photos than
there are cores, send those of several visitors through the net in one pass, and show a card without what strangers
could hide in it.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
import httpx2
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like
from huggingface_hub import snapshot_download

from hf_fashion import exports
from hf_fashion.errors import InputError
from hf_fashion.images import decode
from hf_fashion.passes import LIMITS, MAX_BYTES, Decoder, Inputs, Passes, cores

__all__ = [
    "LIMITS", "LONGEST", "MAX_BYTES", "MOST", "Decoder", "Inputs", "Page", "Passes", "card_text", "cores",
    "described", "intended_use", "needing_torch", "not_loaded", "of_export", "only_uploads", "own_examples", "plain",
    "spare_a_core", "upload", "without_images",
]  # fmt: skip

MOST = 100  # photos in one request; the rest of a longer list would be looked at for nothing
LONGEST = 3000  # characters of a card's section on the intended use


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


def spare_a_core() -> None:
    """Leaves a core free for decoding and the server: threads that fight for a core wait for each other, and two on
    two busy cores took ten times the CPU time of one."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch  # a page of an exported model needs none

        torch.set_num_threads(max(1, cores() - 1))


def own_examples(name: str, revision: str | None, folder: Path, side: int = 640) -> list[Path]:
    """The photos of a model's page (`widget/` of its repo or folder) as small copies, six at most; decoded, so that
    what a browser gets is pixels and nothing else.

    Args:
        name: The model as the settings name it.
        revision: Its revision.
        folder: Where its files lie.
        side: Pixels of the longer side.
    """
    if not Path(name).exists() and "/" in name:
        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=["widget/*.jpg"]))
        except (httpx2.HTTPError, OSError, RuntimeError, ValueError):  # a page without examples is a page
            return []
    made = []
    for path in sorted(folder.glob("widget/*.jpg"))[:6]:
        try:
            photo = decode(path, limits=LIMITS)
        except ValueError:
            continue
        photo.thumbnail((side, side))
        made.append(Path(tempfile.mkdtemp(prefix="example_")) / path.name)
        photo.save(made[-1], quality=90)
    return made


def not_loaded(title: str, name: str, error: InputError) -> gr.Blocks:
    """What a Space shows whose model cannot be loaded."""
    print(f"error: {error}", file=sys.stderr)
    named = f"The model **{plain(name)}** could not be loaded: {plain(error.found)}." if name else "No model is named."
    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown(
            f"# {title}\n{named}\n\n"
            "If it is private, its owner sets a token that may read it as the secret `HF_TOKEN` of this Space "
            "(Settings, Variables and secrets), or makes the model public; if the name is wrong, the variable `MODEL` "
            "there says another. Then the Space is started anew."
        )
    return page


@contextmanager
def needing_torch(name: str) -> Iterator[None]:
    """Turns the lack of a package, imported inside for a trained model, into an `InputError`: a Space of an export is
    installed without torch."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"the model '{name}'", expected="an export, or an installation with torch",
            found=f"a trained model, or none, and no {error.name}",
            fix="hf-fashion push SPACE REPO --model NAME, which installs what that model needs",
        ) from error  # fmt: skip


def described(name: str, revision: str | None, export: Path | None) -> dict[str, Any]:
    """What a page says of a model: `name`, `license` and `kind`, as of `backbones.describe`.

    Args:
        name: As the settings name it.
        revision: Its revision.
        export: The folder of an export; None for a trained model, which needs torch anyway.
    """
    if export is not None:
        return dict(exports.describe(name, export))
    from hf_fashion import backbones

    return backbones.describe(name, revision)


def of_export(form: str | None) -> str:
    """What the text of a page says where its model is an export, as `exports.Net.form` names it."""
    if form is None:
        return ""
    return f"The model runs from an exported file ({form}); its card says how near that is to the original.\n\n"


def card_text(folder: Path) -> str:
    """The text of a model's card; "" where there is none, or one that cannot be read."""
    card = exports.card_of(folder)
    return card.text if card else ""


def plain(text: str) -> str:
    """Markdown that shows a text as it is: a label or a licence is whatever its author wrote."""
    return "".join(c if c.isalnum() or c in " -" else f"&#{ord(c)};" for c in " ".join(text.split()))


def without_images(markdown: str) -> str:
    """Markdown without its images and HTML, which would load what strangers chose into the visitor's browser."""
    markdown = re.sub(r"<!--.*?-->|</?[a-z][^<>]*>", "", markdown, flags=re.IGNORECASE | re.DOTALL)
    markdown = re.sub(r"!\[[^\]]*\](\([^()]*\)|\[[^\]]*\])?", "", markdown)
    return re.sub(r"!+\[", "[", markdown).replace("<", "&lt;")  # what is left was written to slip through


def intended_use(card: str) -> str:
    """The section of a card that says what the model is for, without images; a sentence where it has none."""
    for name in ("intended use", "direct use", "uses"):  # not "Use" or "Usage", which is code
        found = re.search(rf"^(#+)\s*{name}.*$", card, re.IGNORECASE | re.MULTILINE)
        if found:
            rest = card[found.end() :]
            end = re.search(rf"^#{{1,{len(found[1])}}}\s", rest, re.MULTILINE)
            return without_images(rest[: end.start() if end else None]).strip()[:LONGEST]
    return "Its card does not say what it is meant for: measure it on your own photos before you rely on it."
