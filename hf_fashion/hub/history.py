"""Whose the files of a repo are, by its history: what somebody else wrote, a push does not write over."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from huggingface_hub import GitCommitInfo, HfApi
from huggingface_hub.hf_api import RepoFile

from hf_fashion.errors import InputError
from hf_fashion.hub.client import ask
from hf_fashion.hub.target import Target, tree

_OURS = re.compile(r"(.*), pushed by hf_fashion \([0-9a-f]{12}\)")
# Pushes that are looked back at; what is older, and was not changed since, counts as somebody else's.
_LOOKED_BACK = 50
_MADE_BY_THE_HUB = {".gitattributes", "README.md"}  # in the first commit, README.md of a Space


def title(name: str, digest: str) -> str:
    """Of a commit of ours, by which it is known again.

    Args:
        name: Of what is pushed.
        digest: Of what it brings, 12 letters.
    """
    return f"{name}, pushed by hf_fashion ({digest})"


@dataclass(frozen=True)
class Past:
    """What the history tells of the files that are there.

    Args:
        newest: The newest commit.
        pushed: Path -> the name under which the token's owner pushed it, just as it is there now.
        last: Paths after the owner's last push; empty when there was none.
        fresh: Whether README.md is the one that came with the repo.
    """

    newest: GitCommitInfo
    pushed: dict[str, str]
    last: frozenset[str]
    fresh: bool


def past(what: str, hub: HfApi, target: Target, head: str, there: Mapping[str, RepoFile]) -> Past:
    """Looks through the history of a repo.

    Args:
        what: What is done, for messages.
        hub: The client.
        target: The repo.
        head: Its newest commit.
        there: Path -> file, at that commit.
    """
    commits = ask(what, lambda: list(hub.list_repo_commits(target.repo, repo_type=target.kind, revision=head)))
    trees: dict[str, Mapping[str, RepoFile]] = {head: there}

    def files(index: int) -> Mapping[str, RepoFile]:
        if index == len(commits):
            return {}
        commit = commits[index].commit_id
        if commit not in trees:
            trees[commit] = tree(what, hub, target, commit)
        return trees[commit]

    pushed: dict[str, str] = {}
    last: frozenset[str] = frozenset()
    looked = 0
    for index, commit in enumerate(commits):
        ours = _OURS.fullmatch(commit.title)
        if not ours or target.user not in commit.authors:
            continue
        after, before = files(index), files(index + 1)
        # What the push found there already, of others, is not its own.
        for path, entry in there.items():
            if path not in pushed and _blob(after, path) == entry.blob_id != _blob(before, path):
                pushed[path] = ours[1]
        last = last or frozenset(after)
        looked += 1
        if looked == _LOOKED_BACK or not there.keys() - pushed.keys() - {".gitattributes"}:
            break
    fresh = False
    if "README.md" in there and "README.md" not in pushed and commits[-1].title == "initial commit":
        first = files(len(commits) - 1)
        fresh = first.keys() <= _MADE_BY_THE_HUB and _blob(first, "README.md") == there["README.md"].blob_id
    return Past(commits[0], pushed, last, fresh)


def _blob(files: Mapping[str, RepoFile], path: str) -> str | None:
    return files[path].blob_id if path in files else None


def refuse_foreign(
    what: str, target: Target, known: Past, there: Mapping[str, RepoFile], written: Iterable[str],
    otherwise: str = "to write over it: --overwrite",
) -> None:  # fmt: skip
    """Raises InputError when a file that would be written is not as a push of the token's owner left it.

    Args:
        what: What is done, for messages.
        target: The repo.
        known: Its history.
        there: Path -> file, as it is now.
        written: Paths that would be written or taken out.
        otherwise: What to type when the change may go.
    """

    def is_foreign(path: str) -> bool:
        if path not in there:
            return path in known.last  # somebody took it out
        return path not in known.pushed and not (known.fresh and path == "README.md")

    foreign = [path for path in written if is_foreign(path)]
    if foreign:
        shown = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        by = f"{known.newest.title!r} by {', '.join(known.newest.authors) or 'unknown'}"
        raise InputError(
            what,
            expected=f"files as the last push of {target.user} left them" if known.last else "a repo that "
            f"{target.user} pushed to with hf_fashion",
            found=f"{shown}, changed in another way, by you or by somebody else; the newest commit: {by}",
            fix=f"to keep the change, take it into your folder: `hf download {target.repo} {shlex.quote(foreign[0])} "
            f"--repo-type {target.kind} --local-dir <the folder>`; {otherwise}",
        )  # fmt: skip
