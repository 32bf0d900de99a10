"""Checkpoints that are whole or not there: written beside, committed by a manifest, verified before they are used."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.trainer_pt_utils import safe_globals

from hf_fashion.errors import InputError

# Written last, so that a checkpoint which has one was written to its end: step, and size and checksum of each file.
MANIFEST = "manifest.json"
# Where a checkpoint is until it is whole. Not a number at its end: no one takes it for a checkpoint.
UNFINISHED = "checkpoint-unfinished"
# What a run needs to go on from a checkpoint, beside the weights and the states of the random number generators.
FILES = ("trainer_state.json", "optimizer.pt", "scheduler.pt")


def listed(run: str | Path) -> list[Path]:
    """The folders checkpoint-<step> of a run, in the order of their steps; whole or not."""
    found = [path for path in Path(run).glob("checkpoint-*") if path.name.split("-")[-1].isdigit() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.split("-")[-1]))


def problems(checkpoint: str | Path) -> list[str]:
    """Why a run cannot go on from a checkpoint; nothing when it can.

    Every file is read once: those that the manifest names must have its sizes and checksums (BLAKE2b). Weights must be
    finite, and what torch unpickles must be tensors and plain values: `weights_only`, so that nothing is executed. A
    checkpoint without a manifest, as the bare Trainer writes it, has no problem when all its files can be read.

    Args:
        checkpoint: A folder checkpoint-<step>.
    """
    folder = Path(checkpoint)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not any(folder.glob("rng_state*.pth")):
        missing.append("rng_state.pth")
    # An encoder of several nets has its weights in folders.
    if not [*folder.rglob("model*.safetensors"), *folder.glob("adapter_model.safetensors")]:
        missing.append("model.safetensors")
    if missing:
        return [f"it has no {', '.join(missing)}"]
    return damaged(folder) or list(_unreadable(folder))


def damaged(checkpoint: str | Path) -> list[str]:
    """What is wrong with the files that a checkpoint has, whether or not a run could go on from it.

    Args:
        checkpoint: A folder checkpoint-<step>.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        return ["it is not there"]
    found = list(_differing(folder)) if (folder / MANIFEST).is_file() else []
    return found or list(_not_finite(folder))


def best(checkpoint: str | Path) -> Path | None:
    """The best checkpoint of a run, as a checkpoint of it says; None when it names none.

    It is looked for beside that checkpoint. The path in it is that of the day when it was written: a run that was
    moved or renamed since would end with other weights than its best, one that was copied with those of the original.

    Args:
        checkpoint: A folder checkpoint-<step>, whole.
    """
    folder = Path(checkpoint)
    stored = json.loads((folder / FILES[0]).read_text(encoding="utf-8")).get("best_model_checkpoint")
    if not stored:
        return None
    here = folder.parent / Path(stored).name
    return here if here.is_dir() or not Path(stored).is_dir() else Path(stored)


def newest(run: str | Path) -> tuple[Path | None, dict[Path, list[str]]]:
    """The newest checkpoint of a run that has no problem, and what is wrong with those that are newer.

    One without a manifest counts only when none with a manifest is good: ours all have one, so it is the bare
    Trainer's, or its manifest was lost and with it the proof that the files are those which were written.
    """
    passed: dict[Path, list[str]] = {}
    bare: Path | None = None
    if (Path(run) / UNFINISHED).is_dir():
        passed[Path(run) / UNFINISHED] = ["its writing was cut off"]
    for checkpoint in reversed(listed(run)):
        found = problems(checkpoint)
        if not found and (checkpoint / MANIFEST).is_file():
            return checkpoint, passed
        passed[checkpoint] = found or [f"it has no {MANIFEST}"]
        bare = checkpoint if not found and bare is None else bare
    if bare is not None:
        order = list(passed)
        passed = {path: passed[path] for path in order[: order.index(bare)]}
    return bare, passed


def commit(written: Path, final: Path) -> None:
    """Makes a checkpoint of what was written: manifest, everything on the disk, then its name.

    Args:
        written: Folder with all its files, on the same file system as `final`.
        final: Folder checkpoint-<step>; one that is there is replaced.

    Raises:
        InputError: Weights that are not finite; nothing is committed.
    """
    bad = list(_not_finite(written))
    if bad:
        raise InputError(
            f"training stopped at {final.name}, which was not kept", expected="finite weights", found="; ".join(bad),
            fix="a lower --learning_rate, or --max_grad_norm 1.0; go on from the last good checkpoint",
        )  # fmt: skip
    files = {}
    (written / MANIFEST).unlink(missing_ok=True)
    for path in sorted(path for path in written.rglob("*") if path.is_file()):
        _to_disk(path)
        files[path.relative_to(written).as_posix()] = _told(path)
    manifest = {"step": int(final.name.split("-")[-1]), "finite": True, "files": files}
    (written / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    _to_disk(written / MANIFEST)
    _to_disk(written)
    if final.exists():
        os.replace(final, written.parent / "replaced")
    os.replace(written, final)
    _to_disk(final.parent)


def rotate(run: str | Path, limit: int | None, kept: Iterable[str | Path]) -> None:
    """Removes checkpoints until `limit` are left, those written first of all; never one of `kept`.

    transformers' own keeps the one of the highest step, which may be a damaged one that a resumed run passed over, and
    removes the good one that was just written.
    """
    if not limit or limit < 1:
        return
    there = listed(run)
    safe = {Path(path).resolve() for path in kept}
    others = [path for path in there if path.resolve() not in safe]
    others.sort(key=lambda path: path.stat().st_mtime)
    for path in others[: max(0, len(there) - max(limit, len(there) - len(others)))]:
        shutil.rmtree(path, ignore_errors=True)


def _differing(folder: Path) -> Iterator[str]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, Any] = dict(manifest["files"])
        step = int(manifest["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{MANIFEST} cannot be read ({type(error).__name__})"
        return
    if folder.name != f"checkpoint-{step}":
        yield f"{MANIFEST} is of step {step}"
    used = [path.name for pattern in (*FILES, "*.safetensors", "rng_state*.pth") for path in folder.glob(pattern)]
    unlisted = [name for name in used if name not in files]
    if unlisted:
        yield f"{MANIFEST} does not know {', '.join(unlisted)}"
    for name, told in files.items():
        path = folder / PurePosixPath(name)
        if not path.resolve().is_relative_to(folder.resolve()):
            yield f"{MANIFEST} names a file outside: {name}"
        elif not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != told.get("size"):
            yield f"{name} has {path.stat().st_size} bytes, not {told.get('size')}"
        elif _told(path) != told:
            yield f"{name} is not what was written: another checksum"


def _unreadable(folder: Path) -> Iterator[str]:
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"trainer_state.json cannot be read ({type(error).__name__})"
    for path in [folder / "optimizer.pt", folder / "scheduler.pt", *sorted(folder.glob("rng_state*.pth"))]:
        try:
            with safe_globals():
                torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # of a damaged or hostile file: torch raises what it likes
            yield f"{path.name} cannot be read ({type(error).__name__})"


def _not_finite(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                bad = [name for name in file.keys() if not torch.isfinite(file.get_tensor(name)).all()]  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            yield f"{path.name} cannot be read ({type(error).__name__})"
            continue
        if bad:
            yield f"{path.name} has values that are not finite, in {len(bad)} tensors ({bad[0]}, ...)"


def _told(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "blake2b": hashlib.file_digest(file, "blake2b").hexdigest()}


def _to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, would survive a loss of power."""
    with contextlib.suppress(PermissionError):  # Windows opens no folder
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(number)
        finally:
            os.close(number)
