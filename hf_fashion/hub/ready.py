"""Whether a folder is ready to be pushed: a finished run, a whole model with its card, no secret in its name."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hf_fashion.errors import InputError
from hf_fashion.hub import clean, secrets

SENDS_PHOTOS = "`hf-fashion push ... --card_photos` sends them"


def refuse_unready(folder: Path) -> None:
    """Raises InputError unless a folder holds a whole model with its card."""
    if not folder.is_dir():
        raise InputError(f"{folder}", expected="the folder of a run", found="no such folder", fix="check the spelling")
    names = {path.name for path in folder.iterdir()} | {path.name for path in folder.glob("*[0-9]_*/*.safetensors")}
    if "run.json" in names:
        info = _table(folder / "run.json", "the record of a run")
        if info.get("status") != "finished":
            raise InputError(
                f"{folder}", expected="a finished run", found=f"status: {info.get('status')}",
                fix=str(info.get("go_on") or "wait for it"),
            )  # fmt: skip
    refuse_incomplete(folder, names)


def refuse_incomplete(folder: Path, names: Iterable[str]) -> None:
    """Raises InputError unless a model, its weights and its card are among the files."""
    names = set(names)
    parts = "modules.json" in names  # of sentence-transformers, each in a folder
    exported = {"runtime.json", "parity.json"} <= names and bool(
        {"model.onnx", "openvino_model.bin", "model.tflite"} & names
    )
    quoted = shlex.quote(str(folder))
    for there, wanted, fix in (
        (exported or parts or "config.json" in names, "config.json, of a model",
         "push the folder of a run that trained"),
        (exported or any(name.endswith(".safetensors") for name in names), "weights in safetensors",
         "model.save_pretrained(folder)"),
        ("README.md" in names, "README.md, the card", f"hf-fashion card {quoted}"),
    ):  # fmt: skip
        if not there:
            raise InputError(f"{folder}", expected=wanted, found=", ".join(sorted(names)[:8]) or "nothing", fix=fix)


def refuse_shards_missing(folder: Path, made: clean.Export) -> None:
    """Raises InputError unless the parts that an index of weights names leave with it."""
    for path in (path for path in made.files if path.endswith(".safetensors.index.json")):
        parts = _table(folder / path, "an index of weights", made.text(path)).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
            raise InputError(
                f"{folder / path}", expected="`weight_map`: weight -> file", found="none",
                fix="model.save_pretrained(folder)",
            )  # fmt: skip
        missing = sorted(set(parts.values()) - made.files.keys())
        if missing:
            raise InputError(
                f"{folder / path}", expected="the files that it names", found=f"no {', '.join(missing[:5])}",
                fix="save the model again: model.save_pretrained(folder); or take the index out, if it is an old one",
            )  # fmt: skip


def photos_stay(folder: Path) -> str | None:
    """Why the photos on a run's card stay at home; None when they may go, or when it is no run's folder.

    A model is what its owner means to send: photos of others, or of people, go along only where someone said that
    they may.
    """
    if not (folder / "run.json").is_file():
        return None
    info = _table(folder / "run.json", "the record of a run")
    dataset, arguments = info.get("dataset"), info.get("arguments")
    if not isinstance(dataset, dict) or not isinstance(arguments, dict):  # a record of others, under the same name
        return None
    if arguments.get("card_photos") is False:
        return f"the run was told --no_card_photos; {SENDS_PHOTOS}"
    if dataset.get("license") in (None, "", "unknown"):
        return f"photos whose licence nobody said; {SENDS_PHOTOS}"
    return None


def refuse_secret(name: str) -> None:
    """Raises InputError, which does not tell it, when what becomes a title or an address holds a secret."""
    for _, kind in secrets.found_in(name):
        raise InputError(
            "the name of what is pushed", expected="a name that everybody may read", found=kind,
            fix="rename the folder or the repo, and revoke it: whoever saw it may have it",
        )  # fmt: skip


def _table(path: Path, meaning: str, text: str | None = None) -> dict[str, Any]:
    """A JSON file that holds a table; InputError when it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8") if text is None else text)
        found = f"a {type(content).__name__}"
    except (OSError, ValueError, RecursionError) as error:
        content, found = None, str(error)
    if not isinstance(content, dict):
        raise InputError(
            f"{path}", expected=f"JSON: {meaning}", found=found, fix="save it again, or take it out of the folder"
        )
    return content
