"""A zip, unpacked into a private temporary folder that goes when the process ends, and read as a folder is.

Names, links, sizes and their sum are looked at before anything is written; no file is written but under that folder.
"""

import atexit
import contextlib
import functools
import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from hf_fashion.errors import InputError
from hf_fashion.report import PICTURE, Report, cell
from hf_fashion.splits import split_name

MAX_MEMBERS = 200_000
MAX_BYTES = 10 * 2**30  # of all members together, unpacked
# Photos hardly shrink in a zip; what shrinks so much is a bomb, or drawings that whoever trusts them can unzip.
MAX_RATIO, RATIO_FROM = 100, 10 * 2**20  # times; bytes of a member
_LINK = 0o120000
_UTF8 = 0x800  # the flag of a member whose name is in UTF-8
_UNZIP = "if you trust it, unzip it, and give the folder"


def unpack(path: Path, report: Report) -> Path:
    """Unpacks a zip, once a process.

    Args:
        path: The zip.
        report: Gets an error for each member that is damaged.

    Returns:
        The folder that stands for it: of a zip that holds one folder with all others in it, that folder.

    Raises:
        InputError: It is no zip, is encrypted or too large, or holds names or links that lead out of it.
    """
    stat = path.stat()
    place, damaged = _unpack(path.resolve(), stat.st_mtime_ns, stat.st_size)
    for name, reason in damaged:
        report.add(
            "error", name, "image", expected=PICTURE, found=f"damaged in the zip: {reason}", fix="make the zip again"
        )
    tops = [entry for entry in place.iterdir() if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    alone = tops[0] if len(tops) == 1 and tops[0].is_dir() and split_name(tops[0].name) is None else None
    if alone is not None and any(entry.is_dir() or entry.name.startswith("metadata.") for entry in alone.iterdir()):
        report.add("note", path.name, "", found=f"read as what is in its one folder, {cell(alone.name)}")
        return alone
    return place


@functools.cache
def _unpack(path: Path, _mtime: int, size: int) -> tuple[Path, tuple[tuple[str, str], ...]]:
    """The folder, and name and reason of what could not be unpacked. The arguments tell one state of a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            private = tempfile.mkdtemp(prefix="hf_fashion-")
            atexit.register(shutil.rmtree, private, ignore_errors=True)
            place = Path(private) / (path.stem or "zip")
            place.mkdir()
            damaged = []
            for name, member in members.items():
                target = place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with archive.open(member) as source, target.open("xb") as file:
                        shutil.copyfileobj(source, file)
                except (zipfile.BadZipFile, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                    target.unlink(missing_ok=True)
                    damaged.append((name, str(error) or type(error).__name__))
            return place, tuple(damaged)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"zip {path}", expected="a zip that can be unpacked", found=cell(str(error), 200), fix="make the zip again"
        ) from error


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Name of each file -> the member, after a look at all that the directory says."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = _name(member)
        parts = name.split("/")
        if name.startswith(("/", "~")) or ".." in parts or ":" in parts[0]:
            raise _refused(path, "names inside the zip", f"a name that leads out of it: {cell(name)}")
        if member.external_attr >> 16 & 0o170000 == _LINK:
            raise _refused(path, "files", f"a link: {cell(name)}")
        if member.is_dir() or name.endswith("/"):
            continue
        name = str(PurePosixPath(name))
        if name in found:
            raise _refused(path, "each name once", f"twice: {cell(name)}")
        if member.file_size > RATIO_FROM and member.file_size > MAX_RATIO * member.compress_size:
            unpacked = f"{member.file_size / 2**20:.0f} MiB packed into {member.compress_size / 2**10:.0f} KiB"
            raise _refused(path, "photos", f"perhaps a bomb: {cell(name)}, {unpacked}")
        found[name] = member
    total = sum(member.file_size for member in found.values())
    room = min(MAX_BYTES, shutil.disk_usage(tempfile.gettempdir()).free)
    if len(found) > MAX_MEMBERS or total > room:
        limit = f"{MAX_MEMBERS} files and {room / 2**30:.1f} GiB at most ({tempfile.gettempdir()} has to hold them)"
        raise _refused(path, limit, f"{len(found)} files, {total / 2**30:.1f} GiB")
    return found


def _name(member: zipfile.ZipInfo) -> str:
    """A member's name with / between its parts. Where it does not say that it is in UTF-8, zipfile reads it as cp437;
    most programs write UTF-8 all the same."""
    name = member.filename
    if not member.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/") if os.sep == "/" else name


def _refused(path: Path, expected: str, found: str) -> InputError:
    return InputError(f"zip {path}", expected=expected, found=found, fix=_UNZIP)
