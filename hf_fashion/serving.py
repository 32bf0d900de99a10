"""What the pages in `spaces/` share: they read what was uploaded and nothing else, hold no more decoded photos than
there are cores, send those of several visitors through the net in one pass, and show a card without what strangers
could hide in it.
"""

import os
import re
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
import httpx2
import torch
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like
from huggingface_hub import snapshot_download
from PIL import Image
from torch import Tensor

from hf_fashion.errors import InputError
from hf_fashion.images import Limits, decode, probe

MAX_BYTES = 20 * 2**20  # of a file; phones make a quarter of that
LIMITS = Limits(max_bytes=MAX_BYTES)  # 25 megapixels: what phones take, in at most some 300 MB while it is decoded
LARGE = 16_000_000  # pixels; phones make 12 million, most of them
MOST = 100  # photos in one request; the rest of a longer list would be looked at for nothing
LONGEST = 3000  # characters of a card's section on the intended use

Inputs = Mapping[str, Tensor]  # what a processor makes of one photo: each tensor (1, ...)


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


def cores() -> int:
    """The cores of this machine; a Space says how many are its own."""
    return int(os.environ.get("CPU_CORES") or os.cpu_count() or 1)


def spare_a_core() -> None:
    """Leaves a core free for decoding and the server: threads that fight for a core wait for each other, and two on
    two busy cores took ten times the CPU time of one."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() - 1))


class Decoder:
    """Decodes the photos of visitors, no more of them at a time than there are cores, and of large ones one.

    A decoded photo takes up to some hundred megabytes; and a visitor with a usual photo does not wait for large ones.
    """

    def __init__(self) -> None:
        self._decoding, self._large = threading.Semaphore(cores()), threading.Semaphore()

    @contextmanager
    def open(self, photo: str | Path) -> Iterator[Image.Image]:
        """A photo as `images.decode` gives it, to be let go when the block ends.

        Raises:
            ValueError: It cannot be read, or is too large; the text is the reason.
        """
        width, height = probe(photo)
        if width * height > LIMITS.max_pixels:
            raise ValueError(
                f"too many pixels, {width:,} x {height:,}. Photos of up to {LIMITS.max_pixels // 10**6} million "
                "pixels are taken: save a smaller copy, 2,000 pixels wide for instance, and drop that"
            )
        with self._large if width * height > LARGE else nullcontext(), self._decoding:
            yield decode(photo, limits=LIMITS)


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


class Passes:
    """A net for many threads at once: what waits while a pass runs goes through in the next one together.

    Args:
        run: What a processor makes of n photos of one shape -> one answer for each.
        most: Photos in one pass.
    """

    def __init__(self, run: Callable[[dict[str, Tensor]], Sequence[Any]], most: int) -> None:
        self._run, self._most = run, most
        self._waiting: deque[tuple[Inputs, Future[Any]]] = deque()
        self._passing = threading.Lock()

    def __call__(self, photos: Sequence[Inputs]) -> list[Any]:
        """The answer for each photo; what `run` raises is raised by each of its pass, and the next go on."""
        mine: list[Future[Any]] = [Future() for _ in photos]
        for one in zip(photos, mine, strict=True):
            self._waiting.append(one)
        for future in mine:
            # Whoever gets the lock takes along all that came in while the last pass ran.
            while not future.done():
                with self._passing:
                    if not future.done():
                        self._pass()
        return [future.result() for future in mine]

    def _pass(self) -> None:
        first = self._waiting.popleft()
        jobs: list[tuple[Inputs, Future[Any]]] = [first]
        others: list[tuple[Inputs, Future[Any]]] = []
        for _ in range(min(len(self._waiting), self._most - 1)):
            job = self._waiting.popleft()
            (jobs if _shapes(job[0]) == _shapes(first[0]) else others).append(job)
        self._waiting.extendleft(reversed(others))
        try:
            answers = self._run({name: torch.cat([job[0][name] for job in jobs]) for name in first[0]})
        except Exception as error:  # out of memory, for one: each visitor of this pass is told
            for _, future in jobs:
                future.set_exception(error)
            return
        for (_, future), answer in zip(jobs, answers, strict=True):
            future.set_result(answer)


def _shapes(inputs: Inputs) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in inputs.items()}


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
