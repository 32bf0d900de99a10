"""A repo of the Hub onto this disk: all of it or an error, its commit known, its checksums compared when asked to."""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError
from huggingface_hub.hf_api import RepoFile

from hf_fashion.hub.client import HubError, api, ask
from hf_fashion.hub.pushing import KINDS

# What is never taken from a repo: it would run, or could when it is loaded.
CODE = (
    "*.py", "*.sh", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.npz", "*.npy", "*.joblib", "*.h5",
    "*.msgpack", "*.ipynb", "*.so", "*.dll", "*.exe", "*.whl", "*.tar", "*.onnx_data.py",
)  # fmt: skip


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Args:
        folder: Where the files lie.
        repo: Its id.
        kind: model, dataset or space.
        commit: That the files are of.
        from_cache: Whether the Hub could not be asked, and files of an earlier pull are used.
        left_out: Paths that could run code, and stayed on the Hub.
    """

    folder: Path
    repo: str
    kind: str
    commit: str
    from_cache: bool
    left_out: tuple[str, ...]


def pull(
    repo: str, kind: str = "model", *, revision: str | None = None, folder: str | Path | None = None,
    verify: bool = False, token: str | None = None,
) -> Pulled:  # fmt: skip
    """Downloads a repo, without anything in it that could run.

    Without a way to the Hub the cache is used, when all of that commit is there; it is said, never silent.

    Args:
        repo: <namespace>/<name>.
        kind: model, dataset or space.
        revision: Branch, tag or commit; the main branch when None.
        folder: Where to put the files; the Hub's cache when None.
        verify: Compare the checksum of each file with the Hub's: a cached file may have changed since.
        token: Of the Hub; the stored one when None.

    Raises:
        HubError: There is no such repo or revision; a part of it is missing; a checksum is another.
    """
    what, hub = f"pull of {repo}" + (f" at {revision}" if revision else ""), api(token)
    if kind not in KINDS:
        raise HubError(what, expected=", ".join(KINDS), found=kind, fix=f"--type {KINDS[0]}")
    try:
        # First without the client's own way of falling back on its cache, which it only logs.
        ask(what, lambda: hub.repo_info(repo, repo_type=kind, revision=revision))
        commit = ask(what, lambda: hub.resolve_revision(repo, repo_type=kind, revision=revision)).resolved
    except HubError as error:
        offline = isinstance(error.__cause__, httpx2.TransportError | OSError) and error.status is None
        if not (error.passing or offline):
            raise
        return _cached(what, repo, kind, revision, folder, verify, error)
    there = _tree(what, hub, repo, kind, commit)
    left_out = tuple(path for path in there if _may_run(path))

    def call() -> Path:
        return Path(
            snapshot_download(
                repo, repo_type=kind, revision=commit, local_dir=folder, ignore_patterns=list(CODE), token=token
            )
        )

    place = ask(what, call)
    _refuse_incomplete(what, place, there)
    if verify:
        _refuse_changed(what, place, there)
    return Pulled(place, repo, kind, commit, False, left_out)


def _cached(
    what: str, repo: str, kind: str, revision: str | None, folder: str | Path | None, verify: bool, error: HubError
) -> Pulled:
    try:
        place = Path(
            snapshot_download(
                repo, repo_type=kind, revision=revision, local_dir=folder, local_files_only=True,
                ignore_patterns=list(CODE),
            )
        )  # fmt: skip
    except IncompleteSnapshotError as partial:
        raise HubError(
            what, expected="all of its files",
            found=f"a part of them in the cache, and no way to the Hub ({error.found})",
            fix=error.fix, passing=True,
        ) from partial  # fmt: skip
    except LocalEntryNotFoundError as missing:
        raise HubError(
            what, expected="a way to the Hub, or files in the cache", found=f"neither ({error.found})", fix=error.fix,
            passing=True,
        ) from missing  # fmt: skip
    commit = place.name if folder is None else revision or "unknown"
    print(f"the Hub could not be asked ({error.found}): {repo} as it lies in the cache, commit {commit[:12]}")
    if verify:
        raise HubError(
            what, expected="the Hub's checksums", found=f"no way to ask for them ({error.found})",
            fix="leave --verify out, or connect", passing=True,
        )  # fmt: skip
    return Pulled(place, repo, kind, commit, True, ())


def _tree(what: str, hub: HfApi, repo: str, kind: str, commit: str) -> dict[str, RepoFile]:
    def call() -> dict[str, RepoFile]:
        entries = hub.list_repo_tree(repo, repo_type=kind, revision=commit, recursive=True)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    return ask(what, call)


def _may_run(path: str) -> bool:
    return any(fnmatch(path, pattern) for pattern in CODE)


def _refuse_incomplete(what: str, place: Path, there: dict[str, RepoFile]) -> None:
    missing = [
        path for path, entry in there.items()
        if not _may_run(path) and (not (place / path).is_file() or (place / path).stat().st_size != entry.size)
    ]  # fmt: skip
    if missing:
        raise HubError(
            what, expected="all of its files", found=f"{', '.join(missing[:5])} missing or cut short in {place}",
            fix="pull again", passing=True,
        )  # fmt: skip


def _refuse_changed(what: str, place: Path, there: dict[str, RepoFile]) -> None:
    from hf_fashion.hub.pushing import same

    wrong = [path for path, entry in there.items() if not _may_run(path) and not same(entry, place / path)]
    if wrong:
        raise HubError(
            what, expected="files with the Hub's checksums",
            found=f"other bytes in {', '.join(wrong[:5])}, below {place}",
            fix="remove these files and what they link to, then pull again: here or on the way they were changed",
        )  # fmt: skip
