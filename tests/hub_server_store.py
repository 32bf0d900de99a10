"""What the double of the Hub keeps, in memory: users and tokens, repositories with their history, large files.

No HTTP here. `hub_server.py` serves it, `hub_server_xet.py` fills `Storage` the way that xet does.
"""

from __future__ import annotations

import fnmatch
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

TYPES = ("model", "dataset", "space")
PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}
# The lines that a new repository starts with; a dataset keeps pictures and tables as large files too.
LARGE = "7z arrow bin bz2 ckpt gz h5 joblib model msgpack npy npz onnx parquet pb pickle pkl pt pth rar safetensors"
LARGE_PATTERNS = [f"*.{end}" for end in f"{LARGE} tar tflite tgz wasm xz zip zst".split()] + ["*tfevents*"]
MEDIA = "jpg jpeg png webp gif tiff bmp mp4 wav flac mp3"
DATASET_PATTERNS = [f"*.{end}" for end in MEDIA.split()]
REGULAR_LIMIT = 10 * 2**20  # bytes; a file above it is always a large one


class HubError(Exception):
    """An answer that is an error.

    Args:
        status: The HTTP status.
        message: In the body, and in X-Error-Message.
        code: X-Error-Code, by which huggingface_hub picks the exception.
        headers: More headers.
        body: The body, when it is not `{"error": message}`.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict | None = None, body: dict | None = None
    ):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers, self.body = headers or {}, body


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit. `sha256` is None for a regular file, whose bytes lie in the storage under `oid`."""

    size: int
    oid: str
    sha256: str | None = None

    @property
    def key(self) -> str:
        return self.sha256 or self.oid

    @property
    def pointer(self) -> bytes:
        return pointer(self.sha256 or "", self.size)


def spoiled(data: bytes) -> bytes:
    """As many bytes, one of them changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :] if data else data


def pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


@dataclass
class Storage:
    """Bytes by key (git oid, or sha256 of a large file), and which large files came by xet (sha256 -> xet hash)."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    xet: dict[str, str] = field(default_factory=dict)
    rotten: set[str] = field(default_factory=set)  # keys whose bytes are read with one of them changed

    def read(self, key: str) -> bytes:
        data = self.blobs[key]
        return spoiled(data) if key in self.rotten else data

    def large(self, sha256: str) -> File:
        size = len(self.blobs[sha256])
        return File(size, git_oid(pointer(sha256, size)), sha256)

    def put(self, data: bytes, large: bool) -> File:
        sha256 = hashlib.sha256(data).hexdigest() if large else None
        oid = git_oid(pointer(sha256, len(data)) if sha256 else data)
        self.blobs[sha256 or oid] = data
        return File(len(data), oid, sha256)


@dataclass
class Commit:
    sha: str
    title: str
    message: str
    author: str
    parent: str | None
    files: dict[str, File]
    date: str = field(default_factory=now)


@dataclass
class Token:
    """role: write, read, expired or fineGrained; `scopes`: the namespaces or repositories the last may write."""

    value: str
    user: str
    role: str = "write"
    scopes: tuple[str, ...] = ()


class Repo:
    """A repository: `files()`, `history()`, `commit()`, `refs`, and what the Hub knows beside git."""

    def __init__(self, storage: Storage, kind: str, name: str, author: str, private: bool, sdk: str | None):
        self.storage, self.kind, self.name = storage, kind, name
        self.private, self.sdk = private, sdk
        self.gated: bool | str = False
        self.granted: set[str] = set()  # who may read it though gated
        self.created = now()
        self.refs: dict[str, str] = {}
        self.commits: dict[str, Commit] = {}
        self.discussions: list[dict] = []
        self.secrets: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.host: str | None = None  # where a Space answers
        self.paused = False
        self.hardware = "cpu-basic"
        patterns = LARGE_PATTERNS + (DATASET_PATTERNS if kind == "dataset" else [])
        first = {".gitattributes": "".join(f"{p} filter=lfs diff=lfs merge=lfs -text\n" for p in patterns).encode()}
        if kind == "space":
            title = name.split("/")[1]
            first["README.md"] = f"---\ntitle: {title}\nemoji: 👗\nsdk: {sdk}\n---\n".encode()
        self.commit(first, title="initial commit", author=author)

    @property
    def namespace(self) -> str:
        return self.name.split("/")[0]

    @property
    def path(self) -> str:
        """As in the address of its page: `datasets/user/name`."""
        return PREFIX[self.kind] + self.name

    def resolve(self, revision: str) -> str:
        """The commit of a branch, tag, pull request or (the start of) a commit id.

        Raises:
            HubError: 404, RevisionNotFound.
        """
        for ref in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if ref in self.refs:
                return self.refs[ref]
        known = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        if known:
            return known[0]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def branch(self, revision: str) -> str:
        """The full name of a ref that takes commits."""
        for ref in (revision, f"refs/heads/{revision}"):
            if ref in self.refs and not ref.startswith("refs/tags/"):
                return ref
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def tree(self, revision: str = "main") -> dict[str, File]:
        return self.commits[self.resolve(revision)].files

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Path -> bytes, large files too, without `.gitattributes`."""
        tree = self.tree(revision)
        return {path: self.read(file) for path, file in tree.items() if path != ".gitattributes"}

    def read(self, file: File) -> bytes:
        return self.storage.read(file.key)

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits, newest first."""
        found = [self.commits[self.resolve(revision)]]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found

    def is_large(self, path: str, size: int, sample: bytes) -> bool:
        """The double's rule; the Hub's own is not published: patterns of `.gitattributes`, size, or binary content."""
        attributes = self.tree().get(".gitattributes")
        lines = self.read(attributes).decode() if attributes else ""
        patterns = [line.split()[0] for line in lines.splitlines() if "filter=lfs" in line]
        name = path.rsplit("/", 1)[-1]
        return size > 0 and (
            size > REGULAR_LIMIT or b"\0" in sample or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        )

    def commit(
        self,
        files: Mapping[str, bytes | File | None],
        title: str = "a commit by a test",
        message: str = "",
        author: str = "ada",
        revision: str = "main",
    ) -> Commit:
        """Add a commit without HTTP; a test uses it for "someone else pushed meanwhile".

        Args:
            files: Path -> content; None removes the file.
            title: The commit's first line.
            message: The rest of it.
            author: A user's name.
            revision: The branch or pull request that moves.

        Raises:
            HubError: 404 for an unknown branch.
        """
        ref = self.branch(revision) if self.commits else f"refs/heads/{revision}"
        head = self.refs.get(ref)
        tree = dict(self.commits[head].files) if head else {}
        for path, content in files.items():
            if content is None:
                tree.pop(path, None)
            elif isinstance(content, File):
                tree[path] = content
            else:
                large = bool(self.commits) and self.is_large(path, len(content), content)
                tree[path] = self.storage.put(content, large)
        sha = secrets.token_hex(20)  # never one of an earlier test, for clients keep what they know of a commit
        self.commits[sha] = Commit(sha, title, message, author, head, dict(sorted(tree.items())))
        self.refs[ref] = sha
        return self.commits[sha]

    @property
    def size(self) -> int:
        """Bytes of all files of its history, each once."""
        return sum({f.key: f.size for commit in self.commits.values() for f in commit.files.values()}.values())

    def discuss(self, title: str, author: str, text: str, pull_request: bool) -> dict:
        number = len(self.discussions) + 1
        item = {"num": number, "title": title, "author": author, "status": "draft" if pull_request else "open"}
        item |= {"isPullRequest": pull_request, "createdAt": now(), "events": [], "merged": None}
        self.discussions.append(item)
        self.say(item, "comment", author, {"edited": False, "hidden": False, "latest": {"raw": text}})
        if pull_request:
            self.refs[f"refs/pr/{number}"] = self.resolve("main")
        return item

    def say(self, item: dict, kind: str, author: str, data: dict) -> dict:
        event = {"id": f"{item['num']}-{len(item['events'])}", "type": kind, "createdAt": now(), "data": data}
        item["events"].append(event | {"author": {"name": author}})
        return item["events"][-1]

    def merge(self, number: int, author: str) -> None:
        item = self.discussions[number - 1]
        head, main = self.tree(f"refs/pr/{number}"), {c.sha for c in self.history()}
        base = next(c for c in self.history(f"refs/pr/{number}") if c.sha in main).files
        change: dict[str, bytes | File | None] = {p: f for p, f in head.items() if base.get(p) != f}
        change |= dict.fromkeys(set(base) - set(head))
        item["merged"] = self.commit(change, title=f"{item['title']} (#{number})", author=author).sha
        item["status"] = "merged"
        self.say(item, "status-change", author, {"status": "merged"})
