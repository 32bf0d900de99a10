"""The repo that a push goes to, and what the Hub says of it."""

from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from hf_fashion.hub import client
from hf_fashion.hub.client import ask


@dataclass(frozen=True)
class Target:
    """A repo that was asked about, and that what is pushed may go to.

    Args:
        repo: <namespace>/<name>.
        kind: model, dataset or space.
        private: Whether it is, or will be.
        exists: Whether it is there already.
        user: Who the token is of.
        token: None for the one that is stored.
    """

    repo: str
    kind: str
    private: bool
    exists: bool
    user: str
    token: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Of its page."""
        return f"{client.endpoint()}/{'' if self.kind == 'model' else self.kind + 's/'}{self.repo}"


def info(what: str, hub: HfApi, repo: str, kind: str) -> Any:
    """What the Hub says of a repo; None when it shows none of that name."""

    def call() -> Any:
        try:
            return hub.repo_info(repo, repo_type=kind)
        except RepositoryNotFoundError:
            return None

    return ask(what, call)


def tree(what: str, hub: HfApi, target: Target, commit: str) -> dict[str, RepoFile]:
    """Path -> what the Hub says of each file of a commit."""

    def call() -> dict[str, RepoFile]:
        entries = hub.list_repo_tree(target.repo, repo_type=target.kind, revision=commit, recursive=True)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    return ask(what, call)
