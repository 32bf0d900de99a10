"""Exported models for those who ask them about many photos: found, named, run in batches, without torch.

An export is a folder of `hf-fashion export`, or a repo of the Hub with its files; `runtime.json` tells it from a model
that is loaded by its library.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from huggingface_hub import HfApi, ModelCard, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from PIL import Image

from hf_fashion import runtime
from hf_fashion.errors import InputError

UNKNOWN = "unknown"  # a licence that nobody says
CALLED = {
    "classification": "a classifier", "attributes": "a model of attributes", "detection": "a detector",
    "retrieval": "an encoder of photos",
}  # fmt: skip
ENGINES = {"onnx": "ONNX", "openvino": "OpenVINO", "litert": "LiteRT"}
# Of a repo: the engines' files, and what is beside them (weights), but no checkpoint that may lie there, too.
FILES = [
    runtime.ABOUT, "README.md", *(f"{name}*" for name in runtime.FILES.values()),
    f"{Path(runtime.FILES['openvino']).stem}.bin",
]  # fmt: skip


def find(model: str | Path, revision: str | None = None) -> Path | None:
    """The folder of an export, a Hub id's downloaded; None for what is none, or is not there: who loads trained models
    says what is wrong with it.

    Args:
        model: A folder or a Hub id.
        revision: Branch, tag or commit of a Hub id.
    """
    name, folder = str(model), Path(model).expanduser()
    if folder.is_dir():
        return folder if (folder / runtime.ABOUT).is_file() and revision is None else None
    if isinstance(model, Path) or name.count("/") != 1 or name.startswith((".", "~", "/")):
        return None
    try:
        # One question without retries, as for any model of the Hub.
        told = HfApi().model_info(name, revision=revision, timeout=10)
        if not any(file.rfilename == runtime.ABOUT for file in told.siblings or ()):
            return None
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except (HFValidationError, HfHubHTTPError) as error:
        if getattr(getattr(error, "response", None), "status_code", 500) < 500:
            return None
    except Exception:  # whatever a broken connection raises, the cache may hold the files
        pass
    try:
        kept = Path(snapshot_download(name, revision=revision, allow_patterns=FILES, local_files_only=True))
    except Exception:
        return None
    return kept if (kept / runtime.ABOUT).is_file() else None


def describe(model: str | Path, folder: Path) -> dict[str, str]:
    """How an export is called, and under which licence it is: `name`, `license`, `kind` ("hub" or "folder"), and the
    `card`'s text.

    Args:
        model: As the user named it.
        folder: Where `find` found it.
    """
    on_hub = not Path(model).expanduser().is_dir()
    told = {"name": str(model) if on_hub else folder.resolve().name, "license": UNKNOWN, "card": "",
            "kind": "hub" if on_hub else "folder"}  # fmt: skip
    card = card_of(folder)
    if card is None:
        return told
    license = card.data.get("license")
    return told | {"license": license if license and isinstance(license, str) else UNKNOWN, "card": card.text}


def card_of(folder: Path) -> ModelCard | None:
    """The card of a model; None where there is none, or one that cannot be read."""
    try:
        return ModelCard((folder / "README.md").read_text(encoding="utf-8"), ignore_metadata_errors=True)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def refuse_other_kind(net: "Net", what: str, kinds: Sequence[str], expected: str) -> None:
    """Raises InputError for an export of another kind than a page or a setting is for.

    Args:
        net: The export.
        what: What names it.
        kinds: That can be.
        expected: These in words.
    """
    if net.kind not in kinds:
        raise InputError(
            what, expected=expected, found=f"an export that is {CALLED[net.kind]}", fix="name another one"
        )  # fmt: skip


class Net:
    """The net of an export, apart from the decoding of photos and of its answers.

    Args:
        folder: Of the export.
        threads: Of the engine; None for as many as it chooses.

    Attributes:
        about: The content of runtime.json.
        kind: `classification`, `attributes`, `detection` or `retrieval`.
        labels: Of the scores, in their order; none of an encoder.

    Raises:
        InputError: See `runtime.load`; runtime.json and the model do not fit each other: a grey photo is asked about.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        self.folder = Path(folder).expanduser()
        try:
            loaded = runtime.load(self.folder, threads=threads)
            self.about: dict[str, Any] = loaded.about
            self.kind: str = loaded.about["kind"]
            self.labels: list[str] = list(loaded.about.get("labels") or ())
            self._run = loaded.run
            odd = self._odd()
        except InputError:
            raise
        except Exception as error:  # each engine raises something of its own, and runtime.json may say anything
            line = str(error).partition("\n")[0].replace(str(self.folder), "...")  # pages show it to visitors
            odd = f"{type(error).__name__}: {line}"
        if odd:
            raise InputError(
                f"the exported model {folder}", expected="its files as hf-fashion export wrote them", found=odd,
                fix="export it again",
            )  # fmt: skip

    def _odd(self) -> str:
        """What does not fit; or it raises whatever it raises."""
        if self.kind not in CALLED:
            return f"kind: {self.kind}"
        if not all(isinstance(label, str) for label in self.labels):
            return "labels that are no text"
        made = self.run(self.look(Image.new("RGB", (64, 64), (127, 127, 127))))
        wanted = len(self.labels)
        if self.kind == "retrieval":
            wanted = int(self.about["dimension"])
        elif self.kind == "attributes":
            wanted = sum(len(labels) for _, _, labels, _ in groups(self.about))
            dict(self.about["thresholds"])
        elif self.kind == "detection":
            float(self.about["score_threshold"])
        if len(made) != 1 + (self.kind == "detection") or made[0].shape[-1] != wanted:
            return f"{wanted} of {self.kind}, and a model that gives {', '.join(str(one.shape[1:]) for one in made)}"
        return ""

    def look(self, photo: Image.Image) -> np.ndarray:
        """A photo, upright RGB, as the net takes it (1, height, width, 3), uint8."""
        return runtime.pixels(photo, self.about["input"])[None]

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Photos of one shape (n, height, width, 3) -> the net's outputs, each (n, ...); in several passes where it
        takes no more at a time. Not for two threads at once: not every engine can."""
        most = self.about["batch"] or len(pixels)
        parts = [self._run(pixels[start : start + most]) for start in range(0, len(pixels), most)]
        return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]

    def outputs(self, shown: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """What the net says of each photo that `look` has seen, without the first axis; those of one shape that follow
        each other go through it together."""
        for _, alike in itertools.groupby(shown, key=np.shape):
            made = self.run(np.concatenate(list(alike)))
            yield from (list(each) for each in zip(*made, strict=True))

    @property
    def form(self) -> str:
        """Its format and precision in words: "ONNX, int8"."""
        return f"{ENGINES.get(self.about['format'], self.about['format'])}, {self.about['precision']}"

    def digest(self) -> str:
        """A hash of the model's files and of runtime.json."""
        told = hashlib.blake2b(digest_size=16)
        stem = Path(runtime.FILES[self.about["format"]]).stem
        for path in sorted([self.folder / runtime.ABOUT, *self.folder.glob(f"{stem}.*")]):
            with path.open("rb") as file:
                told.update(f"{path.name}\n{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return told.hexdigest()


def groups(about: Mapping[str, Any]) -> list[tuple[str, list[str], list[str], bool]]:
    """The attributes of an export: of each its name, the names of its labels within it, these as the scores are
    called, and whether a photo may have several of them."""
    several = len(about["groups"]) > 1
    return [
        (name, [label.removeprefix(f"{name}: ") if several else label for label in group["labels"]],
         list(group["labels"]), bool(group["many"]))
        for name, group in about["groups"].items()
    ]  # fmt: skip


def garments(about: Mapping[str, Any], outputs: Sequence[np.ndarray], least: float) -> list[Any]:
    """The boxes of one photo with at least a score, surest first, as `runtime.boxes` gives them; but of boxes that
    overlap the surest alone, whatever their classes, as of a trained detector in `hf-fashion predict`.

    Args:
        about: runtime.json.
        outputs: Scores (boxes, classes) and corners (boxes, 4).
        least: The lowest score.
    """
    every = {**about, "same": 1.0, "most": None}  # all of them
    [found] = runtime.boxes(every, *(one[None] for one in outputs), threshold=np.nextafter(least, -1.0))
    if not found:
        return []
    boxes = np.array([box for _, _, box in found])
    kept = runtime.suppressed(boxes, np.zeros(len(boxes), int), about["same"])
    return [found[place] for place in kept[: about["most"]]]
