"""What an index says of itself: which model made its vectors, how long they are, which columns its rows have."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_fashion.errors import InputError, writing

FILE = "index.json"
FORMAT = 1
_NOT_PIXELS = ("class", "name", "path", "type")  # parts of keys of a processor's config that change no pixel


@dataclass(frozen=True)
class About:
    """What is true of all of an index.

    Args:
        backend: "exact", "lancedb" or "qdrant".
        made_by: `model` (id or path), `revision`, `hash` (of weights and preprocessing, "" where it is not known) and
            `normalised`.
        dimension: Numbers of a vector.
        columns: Column of the rows -> its kind, one of `rows.KINDS`.
    """

    backend: str
    made_by: dict[str, Any]
    dimension: int
    columns: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def of(told: Any, where: str) -> About:
    """Reads what `About.to_dict` gave.

    Raises:
        InputError: It is not that.
    """
    names = ("backend", "made_by", "dimension", "columns")
    if not isinstance(told, dict) or told.get("format") != FORMAT or any(name not in told for name in names):
        found = f"format {told.get('format')}" if isinstance(told, dict) else type(told).__name__
        raise InputError(
            where, expected=f"the description of an index of format {FORMAT}", found=found,
            fix="build it again with hf-fashion index",
        )  # fmt: skip
    return About(**{name: told[name] for name in names})


def read(folder: Path) -> dict[str, Any]:
    """What `index.json` of a folder says.

    Raises:
        InputError: There is none, or it is not JSON.
    """
    try:
        told: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise InputError(
            f"index {folder}", expected=f"a folder with {FILE}", found="none" if missing else str(error),
            fix="hf-fashion index PHOTOS MODEL -o FOLDER makes one",
        ) from error  # fmt: skip
    return told


def write(folder: Path, told: Mapping[str, Any]) -> None:
    """Puts `index.json` in the place of the one before, in one step: who reads has the old one or the new one."""
    new = folder / f"{FILE}.new"
    with writing(f"index {folder}"):
        with new.open("w", encoding="utf-8") as file:
            json.dump(told, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, folder / FILE)
        sync(folder)


def sync(folder: Path) -> None:
    """Makes the names in a folder outlast a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def maker(told: Mapping[str, Any] | str) -> dict[str, Any]:
    """The full form of `made_by`; a text is the name of a model.

    Raises:
        InputError: It names no model, or says what it cannot.
    """
    given: Mapping[str, Any] = {"model": told} if isinstance(told, str) else told
    known = {"model": "", "revision": None, "hash": "", "normalised": True}
    unknown = sorted(set(given) - set(known))
    if unknown or not given.get("model"):
        raise InputError(
            "made_by", expected="model, and perhaps revision, hash, normalised",
            found=", ".join(unknown) or "no model", fix="index.identify(encoder, MODEL) gives it",
        )  # fmt: skip
    return known | dict(given)


def refuse_other(about: About, made_by: Mapping[str, Any] | str, what: str) -> None:
    """Raises InputError where vectors are of another model than those of the index: they cannot be compared.

    Two are the same by their hash; where one has none, by model and revision.
    """
    ours, theirs = about.made_by, maker(made_by)
    keys = ("hash",) if ours["hash"] and theirs["hash"] else ("model", "revision")
    if all(ours[key] == theirs[key] for key in (*keys, "normalised")):
        return
    raise InputError(
        what, expected=f"vectors of the model of the index: {_words(ours)}", found=_words(theirs),
        fix=f"--model {ours['model']}, or build another index with the other model",
    )  # fmt: skip


def _words(made_by: Mapping[str, Any]) -> str:
    revision = f" at {made_by['revision']}" if made_by["revision"] else ""
    digest = f" ({made_by['hash'][:12]})" if made_by["hash"] else ""
    return f"{made_by['model']}{revision}{digest}" + ", not normalised" * (not made_by["normalised"])


def identify(encoder: Any, model: str, revision: str | None = None, *, normalised: bool = True) -> dict[str, Any]:
    """What `made_by` says of an encoder, with a hash by which it is known wherever it lies.

    Args:
        encoder: A `SentenceTransformer`, or any module with weights and processors.
        model: Its id or path, from which it is loaded again.
        revision: Of a model on the Hub.
        normalised: Whether its vectors are brought to length 1, as they are for a cosine.

    Returns:
        `model`, `revision`, `hash`, `normalised`. The hash is of each weight's name, type, shape and values and of how
        pictures and texts are prepared; about a second for 500 MB of weights.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(memoryview(flat.view(torch.uint8).numpy()))
    for told in sorted(_preparations(encoder)):
        digest.update(told.encode())
    return {"model": str(model), "revision": revision, "hash": digest.hexdigest(), "normalised": normalised}


def _preparations(encoder: Any) -> set[str]:
    """How an encoder's processors and tokenizers prepare their inputs, as text."""
    from transformers import ImageProcessingMixin, PreTrainedTokenizerBase, ProcessorMixin

    held = [value for module in encoder.modules() for value in vars(module).values()]
    held += [part for value in held if isinstance(value, ProcessorMixin) for part in vars(value).values()]
    told = set()
    for value in held:
        if isinstance(value, ImageProcessingMixin):
            config = value.to_dict().items()
            pixels = {key: one for key, one in config if not any(part in key for part in _NOT_PIXELS)}
            told.add(json.dumps(pixels, sort_keys=True, default=str))
        elif isinstance(value, PreTrainedTokenizerBase):
            fast = getattr(value, "backend_tokenizer", None)
            told.add(fast.to_str() if fast is not None else json.dumps(value.get_vocab(), sort_keys=True))
    return told
