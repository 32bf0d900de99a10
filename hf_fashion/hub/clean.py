"""What of a folder may leave: a list of what is allowed, so that all that nobody thought of stays at home.

Weights in safetensors, the configs that load them, the card, the run's record and figures, pictures. Texts are looked
through for secrets and for paths of this machine, pictures lose their metadata, weights must be what their name says.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hf_fashion.errors import InputError
from hf_fashion.hub import pictures, secrets

PICTURES = ("*.png", "*.jpg", "*.jpeg", "*.webp")
# Pattern of the path -> why it goes along is said by its name. No `*` here matches a `/`.
_NET = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "sentence_bert_config.json",
)  # fmt: skip
# Graphs: they hold no code to be run.
EXPORTED = ("model.onnx", "openvino_model.xml", "openvino_model.bin", "model.tflite")
MODEL = (
    *_NET, "modules.json", "config_sentence_transformers.json", "router_config.json",
    # Modules of an encoder: one behind the other, and those of each way of a Router.
    *(f"{folder}/{name}" for folder in ("[0-9]_*", "*_[0-9]_*") for name in _NET),
    "README.md", "LICENSE", "NOTICE", "run.json", "eval_results.json", ".eval_results/*.yaml",
    *EXPORTED, "runtime.json", "parity.json", "labels.txt",
    *(f"{folder}/{kind}" for folder in ("plots", "widget", "examples") for kind in PICTURES),
)  # fmt: skip
SPACE = (
    "README.md", "LICENSE", "NOTICE", "requirements.txt", "pre-requirements.txt", "packages.txt", "*.py", "*.css",
    "*.js", "*.svg",
    *(f"{folder}{kind}" for folder in ("", "examples/", "assets/") for kind in PICTURES),
)  # fmt: skip
LABELS = ("id2label", "label2id", "attribute_groups", "labels")
DATASET = ("README.md", "data/*.parquet", "sheet.jpg")
# Why something well known stays at home; of all else it is said that it is not on the list.
REASONS = (
    ("checkpoint-*", "the training's state, with an optimizer in pickles"),
    ("*.bin *.pt *.pth *.pkl *.pickle *.ckpt *.npz *.npy *.joblib *.h5 *.msgpack", "may run code when it is loaded"),
    ("predictions.parquet", "names your files photo by photo; eval_results.json and the plots tell the figures"),
    (".env* *.pem *.key id_* .netrc .git .git/* .ssh/* *token .cache/* .huggingface/*", "may hold secrets"),
    ("*.ipynb *.py *.sh *.log runs/* wandb/* events.out.*", "the work's own, not the model's"),
)
TEXTS = (".json", ".md", ".txt", ".yaml", ".py", ".css", ".js", ".svg", "LICENSE", "NOTICE")
LARGEST = 50_000_000_000  # bytes of one file that the Hub takes
MOST_FILES = 25_000  # in one commit
_LARGEST_TEXT = 100_000_000


@dataclass
class Export:
    """What leaves, and what does not.

    Args:
        files: Path in the repo -> the bytes, or the file whose bytes they are.
        left_out: Path -> why it stays at home.
        changed: Path -> what was changed in the copy that leaves.
    """

    files: dict[str, bytes | Path] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)

    def size(self, path: str) -> int:
        """Bytes of one file."""
        content = self.files[path]
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def text(self, path: str) -> str:
        """One file as text."""
        content = self.files[path]
        return (content if isinstance(content, bytes) else content.read_bytes()).decode("utf-8")


def export(
    folder: str | Path, allowed: tuple[str, ...], *, edits: Mapping[str, Callable[[str], str]] | None = None,
    withheld: Mapping[str, str] | None = None,
) -> Export:  # fmt: skip
    """Collects what of a folder may leave.

    Args:
        folder: Is read only.
        allowed: Patterns of paths, as `MODEL`.
        edits: Path -> what to make of its text.
        withheld: Pattern of paths that stay at home although they are allowed -> why.

    Raises:
        InputError: A secret in a text, weights that are none, a picture that cannot be read, a file that is too large.
    """
    root, made = Path(folder).resolve(), Export()
    secret: list[str] = []
    for path in _walk(root, made):
        name = path.relative_to(root).as_posix()
        if not is_allowed(name, allowed):
            made.left_out[name] = reason(name)
        elif why := _held_back(name, withheld or {}) or _not_a_file_of(root, path):
            made.left_out[name] = why
        else:
            _take(made, name, path, (edits or {}).get(name), secret)
    made.left_out = by_folder(made.left_out)
    if secret:
        raise InputError(
            f"{folder}: it holds secrets", expected="nothing that others could use in your name",
            found="; ".join(secret[:10]) + (f"; and {len(secret) - 10} more" if len(secret) > 10 else ""),
            fix="take it out of the file, and revoke it: whoever saw the file may have it",
        )  # fmt: skip
    if len(made.files) > MOST_FILES:
        raise InputError(
            f"{folder}", expected=f"{MOST_FILES} files at most", found=str(len(made.files)),
            fix="put them together into fewer",
        )  # fmt: skip
    return made


def is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    """Whether a path matches a pattern part by part."""
    parts = name.split("/")
    return any(
        len(wanted) == len(parts) and all(map(fnmatch, parts, wanted))
        for wanted in (pattern.split("/") for pattern in allowed)
    )


def reason(name: str) -> str:
    """Why a path is not on a list."""
    parts = name.split("/")
    for patterns, why in REASONS:
        for pattern in patterns.split():
            if fnmatch(name, pattern) or any(fnmatch(part, pattern) for part in parts):
                return why
    return "not on the list of what a repo needs"


def _held_back(name: str, withheld: Mapping[str, str]) -> str | None:
    return next((why for pattern, why in withheld.items() if is_allowed(name, (pattern,))), None)


def _walk(root: Path, made: Export) -> list[Path]:
    """All files, not below folders that can hold nothing allowed (a checkpoint has thousands of bytes to look at)."""
    found: list[Path] = []
    for place, folders, files in os.walk(root, followlinks=False):
        here = Path(place)
        for name in sorted(folders):
            path = here / name
            relative = path.relative_to(root).as_posix()
            if path.is_symlink() or name.startswith("checkpoint-") or name in (".git", ".cache", "__pycache__"):
                made.left_out[relative + "/"] = "a link" if path.is_symlink() else reason(relative)
                folders.remove(name)
        found += [here / name for name in files]
    return sorted(found)


def _not_a_file_of(root: Path, path: Path) -> str | None:
    """Why a path is no file of the folder itself; None when it is."""
    if not path.resolve().is_relative_to(root) and not _in_hub_cache(root, path):
        return "a link out of the folder"
    try:
        return None if stat.S_ISREG(os.stat(path).st_mode) else "no plain file"
    except OSError:
        return "a link to nothing"


def _in_hub_cache(root: Path, path: Path) -> bool:
    """The files of a snapshot in the Hub's cache are links into its own blobs."""
    return root.parent.name == "snapshots" and path.resolve().is_relative_to(root.parents[1] / "blobs")


def _take(made: Export, name: str, path: Path, edit: Callable[[str], str] | None, secret: list[str]) -> None:
    size = path.stat().st_size
    if size > LARGEST:
        raise InputError(
            str(path), expected=f"{LARGEST // 10**9} GB at most, which the Hub takes in one file",
            found=f"{size / 1e9:.1f} GB", fix="save_pretrained(folder, max_shard_size='5GB')",
        )  # fmt: skip
    if name.endswith(".safetensors"):
        refuse_no_weights(path)
        header = _header(path)
        told = json.dumps(header, ensure_ascii=False)
        secret += [f"{name}, its header: {kind}" for _, kind in secrets.found_in(told)]
        if secrets.without_paths_in([*header, header.get("__metadata__")])[1]:
            raise InputError(
                str(path), expected="weights that name no place of a machine", found="a path in the file's header",
                fix="save the model again: model.save_pretrained(folder)",
            )  # fmt: skip
        made.files[name] = path
    elif name.endswith(".parquet") or name in EXPORTED:
        made.files[name] = path
    elif name.endswith(TEXTS):
        text = _text(path)
        text = edit(text) if edit else text
        found = list(secrets.found_in(text))
        secret += [f"{name}, line {line}: {kind}" for line, kind in found]
        kept, cut = _cut(name, text)
        if name.endswith(".json"):  # letters may be written as numbers, and slashes with a mark before them
            plain = json.dumps(json.loads(text), ensure_ascii=False)
            seen = {kind for _, kind in found}
            secret += [f"{name}: {kind}" for _, kind in secrets.found_in(plain) if kind not in seen]
        if cut:
            made.changed[name] = f"{cut} path{'s' * (cut > 1)} of this machine cut to the last part"
        made.files[name] = kept.encode("utf-8")
    else:
        before = path.read_bytes()
        try:
            after, ending = pictures.bare(before)
        except ValueError as error:
            raise InputError(
                str(path), expected="a picture", found=str(error), fix="save it again, or take it out"
            ) from None
        called = path.suffix[1:].lower().replace("jpeg", "jpg")
        if ending != called:
            raise InputError(
                str(path), expected=f"a {called.upper()} picture, as its name says", found=f"one of {ending.upper()}",
                fix=f"call it {path.stem}.{ending}",
            )  # fmt: skip
        if before != after:
            made.changed[name] = "metadata taken out"
        made.files[name] = after


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            raise ValueError(f"{path.stat().st_size / 1e6:.0f} MB")
        text = path.read_bytes().decode("utf-8")
        if "\x00" in text:
            raise ValueError("bytes that are no text")
        return text
    except ValueError as error:
        raise InputError(
            str(path), expected="a text in UTF-8", found=str(error), fix="save it as text, or take it out"
        ) from None


def _cut(name: str, text: str) -> tuple[str, int]:
    """A text without paths of this machine, and of the run's record without what only this machine needs."""
    if name.rpartition("/")[2] in ("vocab.json", "vocab.txt", "merges.txt", "tokenizer.json"):  # tokens of the model
        return text, 0
    if not name.endswith(".json"):
        return secrets.without_paths(text) if not name.endswith((".py", ".js", ".css", ".svg")) else (text, 0)
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            twice.append(name)
        return made

    try:
        content: Any = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InputError(name, expected="JSON", found=str(error), fix="save it again, or take it out") from None
    _refuse_labels(name, content)
    if name == "run.json" and isinstance(content, dict):
        content = {key: value for key, value in content.items() if key not in ("go_on", "pushed")}
    shown, cut = secrets.without_paths_in(content)
    # What `from_pretrained` notes of where it found the net: of no use to others, and it may be a folder here.
    dropped = isinstance(shown, dict) and _is_place(content.get("_name_or_path")) and shown.pop("_name_or_path", None)
    # Of an entry that stands there twice only the last is read, and was looked at: only that one leaves.
    if not cut and not dropped and not twice and name != "run.json":
        return text, 0
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n", cut or int(bool(dropped))


def _refuse_labels(name: str, value: Any, within: bool = False) -> None:
    """Raises InputError for labels that name a place of this machine: to cut them would alter the model."""
    if isinstance(value, dict):
        for key, entry in value.items():
            _refuse_labels(name, key, within)
            _refuse_labels(name, entry, within or key in LABELS)
    elif isinstance(value, list):
        for entry in value:
            _refuse_labels(name, entry, within)
    elif within and isinstance(value, str) and secrets.without_own_paths(value)[1]:
        raise InputError(
            f"{name}, a label", expected="a word of the model", found=f"{value}, a path of this machine",
            fix="train with labels that name none: hf-fashion check PHOTOS shows them",
        )  # fmt: skip


def _is_place(name: Any) -> bool:
    return isinstance(name, str) and (name.startswith(("/", ".", "~", "\\")) or ":" in name or Path(name).is_dir())


def refuse_no_weights(path: Path) -> None:
    """Raises InputError unless a file is what `.safetensors` says: a table of tensors, and their bytes."""
    try:
        header = _header(path)
        length = int.from_bytes(path.open("rb").read(8), "little")
        places = sorted(tuple(tensor["data_offsets"]) for key, tensor in header.items() if key != "__metadata__")
        end = places[-1][1] if places else 0
        # One tensor after the other: between them nothing can lie that no tensor shows.
        whole = path.stat().st_size == 8 + length + end and all(
            place[0] == before for place, before in zip(places, [0, *(after for _, after in places)], strict=False)
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise InputError(
            str(path), expected="weights in the format safetensors, whole", found="something else, or a part of them",
            fix="save the model again: model.save_pretrained(folder)",
        )  # fmt: skip


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= 100_000_000:
            raise ValueError("no header")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("no table")
    return header


def by_folder(left_out: dict[str, str]) -> dict[str, str]:
    """Of many files of one folder that stay at home for one reason, the folder."""
    counts: dict[tuple[str, str], list[str]] = {}
    for name, why in left_out.items():
        folder = re.match(r"[^/]+/(?=.)", name)
        counts.setdefault((folder.group() if folder else name, why), []).append(name)
    return {
        (names[0] if len(names) == 1 else f"{folder} ({len(names)} files)"): why
        for (folder, why), names in counts.items()
    }
