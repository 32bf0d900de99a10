"""Arrays that are computed once and kept on the disk: whole or not there, memory-mapped, at most so many bytes.

An array is named by a hash of all that it depends on, so what is there is right, and several runs share it. The folder
is `hf_fashion` within the cache of the Hub's libraries (`HF_HOME`), or what `HF_FASHION_CACHE` names.
"""

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.constants import HF_HOME
from numpy.lib.format import open_memmap

from hf_fashion.errors import InputError, writing

LIMIT = 20 * 2**30  # bytes of all arrays together; `HF_FASHION_CACHE_GB` says another one
_UNFINISHED = ".unfinished"
_ABANDONED = 24 * 3600  # seconds since somebody last wrote into an unfinished array
_ELSEWHERE = "HF_FASHION_CACHE=FOLDER on a disk with room for it, or make room there; HF_FASHION_CACHE_GB=N bounds it"


def folder() -> Path:
    """Where arrays are kept."""
    return Path(os.environ.get("HF_FASHION_CACHE") or Path(HF_HOME) / "hf_fashion").expanduser()


def name_of(**parts: Any) -> str:
    """A name for an array, out of all that it depends on (plain values, in any order)."""
    told = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def held(name: str) -> np.memmap | None:
    """The array of that name, read-only; None where there is none."""
    path = folder() / f"{name}.npy"
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        os.utime(path)  # what was used last is removed last
    except (OSError, ValueError, EOFError):  # not there, or cut short, also to nothing: it is made anew
        return None
    return array


def make(name: str, shape: tuple[int, ...], dtype: Any, fill: Callable[[np.memmap], None]) -> np.memmap:
    """Makes an array, keeps it, and gives it as `held` does.

    Args:
        name: Of `name_of`.
        shape: Of the array.
        dtype: Of its numbers.
        fill: Writes all of it.

    Raises:
        InputError: The disk is full, or the folder cannot be written.
    """
    place = folder()
    beside = place / f"{name}.{uuid.uuid4().hex}{_UNFINISHED}"
    try:
        with writing(f"the cache {place}", _ELSEWHERE):
            with _written(place):
                place.mkdir(parents=True, exist_ok=True)
                _make_room(place, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
                array = open_memmap(beside, mode="w+", dtype=dtype, shape=shape)
            _reserve(beside)
            fill(array)
            array.flush()
            del array
            os.replace(beside, place / f"{name}.npy")
    finally:
        with contextlib.suppress(OSError):  # the folder is a file, for one
            beside.unlink(missing_ok=True)
    found = held(name)
    if found is None:
        raise InputError(
            f"the cache {place}", expected=f"the array {name} that was just written", found="none",
            fix="HF_FASHION_CACHE=FOLDER on a disk that keeps files",
        )  # fmt: skip
    return found


def allowed() -> float:
    """Bytes that all arrays together may take."""
    told = os.environ.get("HF_FASHION_CACHE_GB")
    try:
        limit = LIMIT if told is None else float(told) * 2**30
        if not limit >= 0:
            raise ValueError
        return limit
    except ValueError:
        raise InputError(
            "HF_FASHION_CACHE_GB", expected="a number of gigabytes", found=str(told), fix="HF_FASHION_CACHE_GB=20"
        ) from None


@contextlib.contextmanager
def _written(place: Path) -> Iterator[None]:
    """Turns what is raised where the folder is a file, or may not be written, into an `InputError`."""
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InputError(
            f"the cache {place}", expected="a folder that can be made and written", found=str(error.strerror),
            fix="HF_FASHION_CACHE=FOLDER, another one",
        ) from error  # fmt: skip


def _reserve(path: Path) -> None:
    """Has the disk keep room for all of a file: a write into a map that finds none ends the process (SIGBUS)."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _make_room(place: Path, size: int) -> None:
    """Removes what was used least lately until an array of so many bytes fits; maps that are open stay readable.

    What a run that was killed left unfinished goes, too, a day later.
    """
    limit = allowed()
    for path in place.glob(f"*{_UNFINISHED}"):
        with contextlib.suppress(OSError):  # another run removed it
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()
    if size > limit:
        raise InputError(
            f"the cache {place}", expected=f"an array of at most {limit / 2**30:.1f} GB",
            found=f"{size / 2**30:.1f} GB", fix="HF_FASHION_CACHE_GB with a larger number, or a run without the cache",
        )  # fmt: skip
    files: list[tuple[float, int, Path]] = []
    for path in place.glob("*.npy"):
        try:
            told = path.stat()
        except OSError:  # another run removed it
            continue
        files.append((told.st_mtime, told.st_size, path))
    total = sum(one[1] for one in files)
    for _, bytes_, path in sorted(files):
        if total + size <= limit:
            break
        path.unlink(missing_ok=True)
        total -= bytes_


def of_pictures(pictures: Any) -> str:
    """A hash of encoded pictures, in their order: rows `{bytes, path}`, as a column `Image(decode=False)` has them."""
    digest = hashlib.blake2b(digest_size=16)
    for picture in pictures:
        data = picture["bytes"] if isinstance(picture, Mapping) else None
        if data is None:
            path = picture["path"] if isinstance(picture, Mapping) else picture
            data = Path(str(path)).read_bytes()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def of_tensors(tensors: Mapping[str, Any]) -> str:
    """A hash of tensors: their names, kinds, shapes and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.flatten().view(-1).numpy().tobytes() if plain.numel() else b"")
    return digest.hexdigest()
