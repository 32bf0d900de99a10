"""A repo of the Hub onto this disk: all of it or an error, its commit known, its checksums compared when asked to.

A folder is not only the Hub's: what its user wrote or changed is refused before a byte is fetched, never replaced
unasked. Which files a pull wrote is told by the client's notes below `.cache/huggingface/download`, and of which repo
and commit they are by our own record beside them, for the Hub may be out of reach next time.
"""

import glob
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from hf_fashion.hub.client import HubError, api, ask
from hf_fashion.hub.pushing import KINDS, same
from hf_fashion.hub.target import info

T = TypeVar("T")

# What is taken: kinds of files that their usual readers only read. A list of what is not would always be too short.
DATA = (
    ".safetensors", ".onnx", ".tflite", ".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".csv", ".tsv", ".parquet",
    ".arrow", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic",
)  # fmt: skip
NAMES = ("license", "notice", "readme", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", ".gitattributes",
         "openvino_model.bin", "openvino_model.xml")  # fmt: skip
# A file of another origin that a loader would take before the pulled ones, or with them.
WEIGHTS = ("model*.safetensors", "model*.index.json", "pytorch_model*.bin*", "adapter_model.*", "adapter_config.json")
NOTES = Path(".cache") / "huggingface"
RECORD = NOTES / "hf_fashion_pull.json"


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Args:
        folder: Where the files lie.
        repo: Its id.
        kind: model, dataset or space.
        commit: That the files are of.
        from_cache: Whether the Hub could not be asked, and files of an earlier pull are used.
        left_out: Paths that stayed on the Hub: they may run code, or are of a kind that is not in `DATA`.
        removed: Paths of an earlier pull into this folder that the commit does not have.
    """

    folder: Path
    repo: str
    kind: str
    commit: str
    from_cache: bool
    left_out: tuple[str, ...]
    removed: tuple[str, ...] = ()


def pull(
    repo: str, kind: str = "model", *, revision: str | None = None, folder: str | Path | None = None,
    verify: bool = False, overwrite: bool = False, token: str | None = None,
) -> Pulled:  # fmt: skip
    """Downloads a repo: its weights, configs, texts, tables and pictures, by the endings of their names (`DATA`).

    All else is left out and named, since it may run code when it is opened or loaded: scripts, pickles, archives,
    libraries, and whatever nobody thought of. The contents are not looked into; a pickle called `.json` would be
    taken, and refused by what reads JSON.

    Without a way to the Hub the files of an earlier pull are used, when all of that commit is there; it is said, never
    silent. In a folder the unchanged files of an earlier pull of the same repo are replaced, and removed when the
    commit does not have them; a folder of another repo, and what someone changed or put there, is refused.

    Args:
        repo: <namespace>/<name>.
        kind: model, dataset or space.
        revision: Branch, tag or commit; the main branch when None.
        folder: Where to put the files; the Hub's cache when None.
        verify: Compare the checksum of each file with the Hub's: a cached file may have changed since.
        overwrite: Replace files of the folder that no pull wrote, or that were changed since, and those of another
            repo.
        token: Of the Hub; the stored one when None.

    Raises:
        HubError: There is no such repo or revision; a part of it is missing; a checksum is another; the folder holds
            files that would be lost, or would be loaded along with the pulled ones.
    """
    what, hub = f"pull of {repo}" + (f" at {revision}" if revision else ""), api(token)
    if kind not in KINDS:
        raise HubError(what, expected=", ".join(KINDS), found=kind, fix=f"--type {KINDS[0]}")
    into = None if folder is None else Path(folder).expanduser().resolve()
    if into is not None and into.exists() and not into.is_dir():
        raise HubError(
            what, expected="a folder, or a name for a new one", found=f"the file {into}", fix="another name"
        )
    try:
        # First without the client's own way of falling back on its cache, which it only logs.
        _get(what, lambda: hub.repo_info(repo, repo_type=kind, revision=revision))
        commit = _get(what, lambda: hub.resolve_revision(repo, repo_type=kind, revision=revision)).resolved
    except HubError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):
            raise _with_namesake(error, what, hub, repo, kind) from error.__cause__
        offline = isinstance(error.__cause__, httpx2.TransportError | OSError) and error.status is None
        if not (error.passing or offline):
            raise
        return _earlier(what, repo, kind, revision, into, verify, error)
    there = _tree(what, hub, repo, kind, commit)
    left_out = tuple(path for path in there if _may_run(path))
    taken = {path: entry for path, entry in there.items() if not _may_run(path)}

    def fetch(paths: Iterable[str], force: bool = False) -> Path:
        wanted = set(paths)
        # The client compares each path with each pattern: the shorter list of the two.
        others = there.keys() - wanted
        only: dict[str, Any] = (
            {"ignore_patterns": [glob.escape(path) for path in others]} if len(others) < len(wanted)
            else {"allow_patterns": [glob.escape(path) for path in wanted]}
        )  # fmt: skip

        def call() -> Path:
            try:
                return Path(
                    snapshot_download(
                        repo, repo_type=kind, revision=commit, local_dir=into, token=token, force_download=force,
                        **only,
                    )
                )  # fmt: skip
            except ValueError as error:
                if isinstance(error, OSError | HFValidationError):
                    raise
                # Told to force, the client hides behind it what the Hub answered.
                if isinstance(error.__cause__, httpx2.HTTPError | OSError):
                    raise error.__cause__ from None
                raise HubError(
                    what, expected="files that can be put on this disk", found=" ".join(str(error).split())[:400],
                    fix="mend what it names, or ask its owner to",
                ) from error  # fmt: skip

        return _get(what, call)

    removed: tuple[str, ...] = ()
    if into is None:
        place = fetch(taken)
        if cut := _incomplete(place, _sizes(taken)):
            fetch(cut, force=True)  # the client takes any file of its cache for whole
    else:
        place, notes = into, _notes(into)
        if not overwrite:
            _refuse_other_repo(what, into, repo, kind, notes)
        removed = _refuse_to_lose(what, into, kind, there, taken, notes, overwrite)
        wanted = {path: entry for path, entry in taken.items() if not _has(into / path, entry)}
        into.mkdir(parents=True, exist_ok=True)
        _refuse_no_room(what, into, sum(entry.size for entry in wanted.values()))
        _write_record(into, {"repo": repo, "kind": kind})  # without a commit, until all is there again
        before = {path: _changed_at(into / path) for path in wanted}
        try:
            for present in (False, True):
                some = [path for path in wanted if (into / path).exists() == present]
                if some:
                    fetch(some, force=present)
        except BaseException:
            # What came in part, of a disk that is full, the next pull would take for its user's own.
            for path, entry in wanted.items():
                if _changed_at(into / path) not in (None, before[path]) and not _has(into / path, entry):
                    (into / path).unlink()
            raise
        # Where the Hub breaks off, the client goes by a file of that name, be it the old one.
        _refuse_incomplete(what, place, taken)
        _refuse_changed(what, place, wanted)
        for path in removed:
            (into / path).unlink()
            _note(into, path).unlink()
    _refuse_incomplete(what, place, taken)
    if verify:
        _refuse_changed(what, place, taken)
    if into is not None:
        _write_record(
            into,
            {"repo": repo, "kind": kind, "revision": revision, "commit": commit, "files": _sizes(taken)},
        )  # fmt: skip
    return Pulled(place, repo, kind, commit, False, left_out, removed)


# --- without a way to the Hub


def _earlier(
    what: str, repo: str, kind: str, revision: str | None, into: Path | None, verify: bool, error: HubError
) -> Pulled:
    """The files of an earlier pull, when they are this repo's and whole."""
    if into is None:
        place, commit, sizes = _in_cache(what, repo, kind, revision, error)
    else:
        place, (commit, sizes) = into, _in_folder(what, into, repo, kind, revision, error)
    where = "cache" if into is None else "folder"
    taken = {path: size for path, size in sizes.items() if not _may_run(path)}
    if cut := _incomplete(place, taken):
        raise HubError(
            what, expected="all of its files",
            found=f"a part of them in the {where}, and no way to the Hub ({error.found}); "
            f"missing, changed or cut short: {_some(cut)}",
            fix=error.fix, passing=True,
        ) from error  # fmt: skip
    print(f"the Hub could not be asked ({error.found}): {repo} as it lies in the {where}, commit {commit[:12]}")
    if verify:
        raise HubError(
            what, expected="the Hub's checksums", found=f"no way to ask for them ({error.found})",
            fix="leave --verify out, or connect", passing=True,
        )  # fmt: skip
    return Pulled(place, repo, kind, commit, True, tuple(path for path in sizes if _may_run(path)))


def _in_cache(
    what: str, repo: str, kind: str, revision: str | None, error: HubError
) -> tuple[Path, str, dict[str, int]]:
    try:
        # The empty list of patterns: where it lies. The client itself would take a file of no bytes for whole.
        place = Path(
            snapshot_download(repo, repo_type=kind, revision=revision, local_files_only=True, allow_patterns=[])
        )
        commit = place.name
        stored = json.loads((place.parents[1] / "trees" / f"{commit}.json").read_text(encoding="utf-8"))
        return place, commit, {path: int(file["size"]) for path, file in stored["files"].items()}
    except LocalEntryNotFoundError as missing:
        raise HubError(
            what, expected="a way to the Hub, or files in the cache", found=f"neither ({error.found})", fix=error.fix,
            passing=True,
        ) from missing  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as unknown:
        raise HubError(
            what, expected="a list of the commit's files, to compare the cache with",
            found=f"none that can be read, and no way to the Hub ({error.found})", fix=error.fix, passing=True,
        ) from unknown  # fmt: skip


def _in_folder(
    what: str, into: Path, repo: str, kind: str, revision: str | None, error: HubError
) -> tuple[str, dict[str, int]]:
    try:
        record = json.loads((into / RECORD).read_text(encoding="utf-8"))
        ours = record["repo"] == repo and record["kind"] == kind and revision in (record["revision"], record["commit"])
        commit, sizes = str(record["commit"]), {str(path): int(size) for path, size in record["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        ours = False
    if not ours:
        raise HubError(
            what, expected="a way to the Hub, or a folder that holds an earlier pull of just this",
            found=f"no such record in {into}, and no way to the Hub ({error.found})", fix=error.fix, passing=True,
        ) from error  # fmt: skip
    return commit, sizes


def _write_record(into: Path, record: Mapping[str, Any]) -> None:
    (into / NOTES).mkdir(parents=True, exist_ok=True)
    (into / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


# --- a folder that is not empty


def _refuse_other_repo(what: str, into: Path, repo: str, kind: str, notes: Mapping[str, str]) -> None:
    """Raises HubError where the folder's files were pulled from another repo: they would be taken out as its own."""
    present = [path for path in notes if (into / path).is_file()]
    try:
        record = json.loads((into / RECORD).read_text(encoding="utf-8"))
        known = f"the {record['kind']} {record['repo']}"
    except FileNotFoundError:
        known = "a repo that no record names"  # pulled with another tool
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        known = "a repo that its record does not tell"
    if present and known != f"the {kind} {repo}":
        raise HubError(
            what, expected=f"an empty folder, or one that holds an earlier pull of the {kind} {repo}",
            found=f"{into} holds {known}",
            fix="pull into another folder; --overwrite (overwrite=True) puts this repo in the place of that one",
        )  # fmt: skip


def _refuse_to_lose(
    what: str, into: Path, kind: str, there: Mapping[str, RepoFile], taken: Mapping[str, RepoFile],
    notes: Mapping[str, str], overwrite: bool,
) -> tuple[str, ...]:  # fmt: skip
    """Raises HubError for what would be lost or mixed up; gives the paths of earlier pulls that have to go."""
    blocked = [path for path in taken if _link_or_folder(into, path)]
    if kind == "model":
        present = [path.name for path in into.iterdir()] if into.is_dir() else []
        known = there.keys() | notes.keys()
        blocked += [
            name for name in present if name not in known and any(fnmatch(name, pattern) for pattern in WEIGHTS)
        ]
    if blocked:
        raise HubError(
            what, expected=f"room for its files in {into}, and no weights there but its own",
            found=f"links, folders of the same name, or weights of another origin: {_some(blocked)}",
            fix="pull into another folder, or move them away",
        )  # fmt: skip
    gone = [path for path in notes if path not in there and (into / path).is_file()]
    edited = [
        path for path, entry in taken.items()
        if (into / path).exists() and not _has(into / path, entry) and not _written(into / path, notes.get(path))
    ]  # fmt: skip
    edited += [path for path in gone if not _written(into / path, notes[path])]
    if edited and not overwrite:
        raise HubError(
            what, expected=f"no files in {into} that would be lost",
            found=f"no pull wrote these, or they were changed since: {_some(edited)}",
            fix="pull into another folder, or move them away; --overwrite (overwrite=True) gives them up",
        )  # fmt: skip
    return tuple(gone)


def _refuse_no_room(what: str, into: Path, needed: int) -> None:
    free = shutil.disk_usage(into).free
    if needed > free:
        raise HubError(
            what, expected=f"a disk with {needed / 1e6:.1f} MB of room", found=f"{free / 1e6:.1f} MB in {into}",
            fix="make room there, or pull into a folder on a larger disk",
        )  # fmt: skip


def _changed_at(file: Path) -> int | None:
    """When a file was written, in ns; None where there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def _notes(into: Path) -> dict[str, str]:
    """Path -> the checksum of what the client wrote there: its notes hold the commit, the checksum and the time."""
    found, root = {}, into / NOTES / "download"
    for note in sorted(root.rglob("*.metadata")):
        path = note.relative_to(root).as_posix().removesuffix(".metadata")
        try:
            lines = note.read_text(encoding="utf-8").split()
        except (OSError, UnicodeError):
            continue  # without a note the file counts as its user's
        if len(lines) >= 2 and not _link_or_folder(into, path):
            found[path] = lines[1]
    return found


def _note(into: Path, path: str) -> Path:
    return into / NOTES / "download" / f"{path}.metadata"


def _written(file: Path, checksum: str | None) -> bool:
    """Whether a file still has the bytes that a pull wrote."""
    if checksum is None:
        return False
    if len(checksum) == 64:
        with file.open("rb") as opened:
            return bool(sha_fileobj(opened).hex() == checksum)
    return bool(git_hash(file.read_bytes()) == checksum)


def _has(file: Path, entry: RepoFile) -> bool:
    return file.is_file() and same(entry, file)


def _link_or_folder(into: Path, path: str) -> bool:
    """Whether something is in a file's way: a link (to write through it changes what lies elsewhere) or a folder."""
    file = into / path
    above = [place for place in file.parents if place.is_relative_to(into) and place != into]
    return (
        any(place.is_symlink() for place in (file, *above))
        or any(place.exists() and not place.is_dir() for place in above)
        or (file.exists() and not file.is_file())
    )


# --- what is there


def _get(what: str, call: Callable[[], T]) -> T:
    """`ask`, for what is fetched: its advice is for what is sent."""
    try:
        return ask(what, call)
    except HubError as error:
        fix = error.fix
        if error.passing:
            fix = "look at the network, and type the same again later: what has arrived whole is not fetched twice"
        elif error.status == 403 or "may write" in fix:
            fix = "`hf auth login`, with a token that may read it"
        raise HubError(
            what, expected=error.expected, found=error.found, fix=fix, passing=error.passing, status=error.status
        ) from error.__cause__  # fmt: skip


def _with_namesake(error: HubError, what: str, hub: HfApi, repo: str, kind: str) -> HubError:
    """The error that a repo is not there, which names those of other kinds with the same name."""
    found = [other for other in KINDS if other != kind and _is_there(what, hub, repo, other)]
    if not found:
        return error
    return HubError(
        what, expected=f"a {kind} of that name", found=f"none, but a {' and a '.join(found)} of that name",
        fix=f"hf-fashion pull {shlex.quote(repo)} --type {found[0]}", status=error.status,
    )  # fmt: skip


def _is_there(what: str, hub: HfApi, repo: str, kind: str) -> bool:
    try:
        return info(what, hub, repo, kind) is not None
    except HubError:  # nothing is said of what cannot be asked
        return False


def _tree(what: str, hub: HfApi, repo: str, kind: str, commit: str) -> dict[str, RepoFile]:
    def call() -> dict[str, RepoFile]:
        entries = hub.list_repo_tree(repo, repo_type=kind, revision=commit, recursive=True)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    there = _get(what, call)
    if leading_out := [path for path in there if _leads_out(path)]:
        raise HubError(
            what, expected="paths below the repo's folder", found=_some(leading_out),
            fix="nothing was fetched; ask its owner to rename them, and trust the repo no further than that",
        )  # fmt: skip
    return there


def _leads_out(path: str) -> bool:
    parts = path.replace("\\", "/").split("/")
    return any(part in ("", ".", "..") or PureWindowsPath(part).drive for part in parts)


def _may_run(path: str) -> bool:
    """Whether a path is not of a kind that is known to be data."""
    *folders, name = path.lower().split("/")
    if any(folder.startswith(".") and folder != ".eval_results" for folder in folders):
        return True  # .git, and the client's own notes
    if name in NAMES:
        return False
    return name.startswith(".") or os.path.splitext(name)[1] not in DATA


def _sizes(files: Mapping[str, RepoFile]) -> dict[str, int]:
    return {path: entry.size for path, entry in files.items()}


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _incomplete(place: Path, sizes: Mapping[str, int]) -> list[str]:
    return [
        path for path, size in sizes.items()
        if not (place / path).is_file() or (place / path).stat().st_size != size
    ]  # fmt: skip


def _refuse_incomplete(what: str, place: Path, taken: Mapping[str, RepoFile]) -> None:
    if missing := _incomplete(place, _sizes(taken)):
        raise HubError(
            what, expected="all of its files", found=f"{_some(missing)} missing or cut short in {place}",
            fix="pull again", passing=True,
        )  # fmt: skip


def _refuse_changed(what: str, place: Path, taken: Mapping[str, RepoFile]) -> None:
    if wrong := [path for path, entry in taken.items() if not same(entry, place / path)]:
        raise HubError(
            what, expected="files with the Hub's checksums",
            found=f"other bytes in {_some(wrong)}, below {place}",
            fix="remove these files and what they link to, then pull again: here or on the way they were changed",
        )  # fmt: skip
