"""A small double of the Hub that the unmodified clients talk to: huggingface_hub (by xet and by LFS), transformers,
datasets, timm, peft, gradio_client. It keeps everything in memory, and needs only PyYAML and pyarrow.

By hand: `make hub` (or `python tests/hub_server.py --port 8765`) prints what to export, and its front page lists the
repositories. In a test, in the same process (the endpoint of every client here is the double, see `conftest.py`):

    def test_push(hub):                       # empty, online, HF_TOKEN may write to "ada" and to the org "atelier"
        HfApi().create_repo("ada/shirts")
        HfApi().upload_file(repo_id="ada/shirts", path_in_repo="a.txt", path_or_fileobj=b"a")
        assert hub.repo("ada/shirts").files() == {"a.txt": b"a"}
        assert hub.count("commit") == 1

The fixture `hub` uploads large files by xet, as users do; `hub_by_both` runs its test twice, by xet and by LFS.
In a subprocess (a command, a killed process): `subprocess.run(..., env=hub.env())`, `hub.env(xet=False)` for LFS.

    hub.repo(name, "dataset")                 # a Repo: .files(rev), .history(rev), .refs, .private, .gated
    hub.create(name, "space", files={...})    # without HTTP; .commit() on it is "someone else pushed meanwhile"
    hub.add_user("eve"), hub.add_org("maison", ["eve"]), hub.add_token("eve", "read")
                                              # roles: write, read, expired, fineGrained with scopes=["eve/shirts"]
    monkeypatch.setenv("HF_TOKEN", hub.add_token("ada", "read"))
    hub.requests, hub.count(step), hub.leaks  # what came; user tokens that were sent to the storage's origin
    hub.quota = 10_000_000                    # bytes that fit; more is refused as the Hub does
    hub.serve_space("ada/app", "http://127.0.0.1:7860")   # for gradio_client.Client("ada/app")
    hub.before("commit", function)            # called once, before the next such call is answered
    hub.spoil("ada/shirts", "model.safetensors")          # same size, one byte changed

    fault = hub.fail("commit", 503, times=2)  # the next two; fault.hits counts
    hub.fail("info", 429, retry_after=1)
    hub.fail("commit", "lost")                # done, but the connection drops before the answer

Steps: whoami create delete settings validate preupload lfs blob verify xet-token xorb shard commit info list tree
paths refs resolve download reconstruction discussion space; `match=` narrows a fault to addresses that hold a text.
Faults: a status (429 with retry_after, 5xx, 401, 403, 412, ...); "cut" (no answer), "half" (the answer breaks off),
"lost", "silent" (nothing comes until `hub.reset()`), "corrupt" (on blob, xorb: what was stored; on download, resolve:
what is sent), "expired", "read-only", "full".

xet keeps a cache of what it sent: use new bytes (`os.urandom`) in each test that counts xorbs. What the double cannot
show: the Hub's own rule for large files, its exact words, pull requests' permissions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

import hub_server_api  # noqa: F401 (fills the table of routes)
import hub_server_files  # noqa: F401
from hub_server_routes import STEPS, Answer, Call, answer, find
from hub_server_store import HubError, Repo, Storage, Token, spoiled
from hub_server_xet import Cas

TOKEN = "hf_" + "TheWriteTokenOfAdaInTheDouble".ljust(34, "x")  # as long as a real one
# What a person may have set that leads elsewhere.
OTHERS = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_XET_CACHE", "HF_DATASETS_CACHE"]
OTHERS += ["HF_HUB_DISABLE_XET", "HUGGINGFACE_CO_STAGING"]
FAULTS = ("cut", "half", "lost", "silent", "corrupt", "expired", "read-only", "full")
WORDS = {
    429: "We had to rate limit your IP. To continue using our service, create a HF account or login.",
    412: "A commit has happened since. Please refresh and try again.",
    500: "Internal Error - We're working hard to fix this as soon as possible!",
}


@dataclass
class Fault:
    """What goes wrong; `hits` counts how often it did."""

    step: str
    how: int | str
    times: int = 1
    after: int = 0
    match: str = ""
    method: str = ""
    retry_after: int | None = None
    hits: int = 0


@dataclass
class Seen:
    """A request that came. `user` is the name behind its token; `status` is None when it got no answer."""

    method: str
    path: str
    step: str
    user: str | None
    token: str | None
    host: str
    size: int
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Hub:
    """The double. Listens on 127.0.0.1 as soon as it is made; large files are served on localhost, another origin."""

    def __init__(self, port: int = 0):
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.hub = self
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.blob_origin = f"http://localhost:{self.port}"
        self.lock = threading.RLock()
        self._quiet = threading.Event()
        self.storage = Storage()
        self.cas = Cas(self.storage)
        self.reset()
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def reset(self) -> None:
        """Forget everything but the stored bytes, which clients' own caches may count on."""
        self._quiet.set()  # lets go of those who wait in silence
        with self.lock:
            self._quiet = threading.Event()
            self.repos: dict[tuple[str, str], Repo] = {}
            self.users: set[str] = set()
            self.orgs: dict[str, list[str]] = {}
            self.tokens: dict[str, Token] = {}
            self.requests: list[Seen] = []
            self.leaks: list[tuple[str, str]] = []
            self.faults: list[Fault] = []
            self.hooks: list[tuple[str, Callable[[], Any]]] = []
            self.parts: dict[str, dict[int, bytes]] = {}
            self.xet_tokens: dict[str, float] = {}
            self.xet_seconds = 3600
            self.page_size = 1000
            self.xet = True  # how the clients of this process send large files; the fixtures say it
            self.quota: int | None = None
            self.storage.rotten.clear()
            self.add_user("ada")
            self.add_org("atelier", ["ada"])
            self.token = self.add_token("ada", "write", value=TOKEN)

    def stop(self) -> None:
        self._quiet.set()
        self._server.shutdown()
        self._server.server_close()

    # What a test sets up

    def settings(self, xet: bool = True) -> dict[str, str]:
        """The environment that points every client here."""
        found = {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": self.token, "NO_PROXY": "127.0.0.1,localhost"}
        found |= {"HF_XET_CLIENT_RETRY_BASE_DELAY": "50ms", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        found |= {"HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
        return found | ({} if xet else {"HF_HUB_DISABLE_XET": "1"})

    def env(self, xet: bool = True, home: str | os.PathLike | None = None, **more: str) -> dict[str, str]:
        """The whole environment of a subprocess, online and with this Hub; `home` is its HF_HOME."""
        found = {key: value for key, value in os.environ.items() if key not in OTHERS}
        return found | self.settings(xet) | ({"HF_HOME": str(home)} if home else {}) | more

    def add_user(self, name: str) -> None:
        self.users.add(name)

    def add_org(self, name: str, members: Iterable[str]) -> None:
        self.orgs[name] = list(members)

    def add_token(self, user: str, role: str = "write", scopes: Iterable[str] = (), value: str | None = None) -> str:
        """A new token; roles are write, read, expired and fineGrained (which writes to `scopes` only)."""
        value = value or "hf_" + f"{user}{role}{len(self.tokens)}".ljust(34, "x")
        self.tokens[value] = Token(value, user, role, tuple(scopes))
        return value

    def create(
        self,
        name: str,
        kind: str = "model",
        files: dict[str, bytes] | None = None,
        private: bool = False,
        sdk: str | None = None,
        author: str = "ada",
    ) -> Repo:
        repo = Repo(self.storage, kind, name, author, private, sdk or ("gradio" if kind == "space" else None))
        if files:
            repo.commit(dict(files), author=author)
        self.repos[kind, name] = repo
        return repo

    def repo(self, name: str, kind: str = "model") -> Repo:
        """A repository that exists.

        Raises:
            KeyError: There is none.
        """
        return self.repos[kind, name]

    def serve_space(self, name: str, url: str) -> Repo:
        """Say that a Space runs at a local address; it is made when there is none."""
        repo = self.repos.get(("space", name)) or self.create(name, "space", files={"app.py": b""})
        repo.host = url.rstrip("/")
        return repo

    def spoil(self, name: str, path: str, kind: str = "model", revision: str = "main") -> None:
        """Change one byte of a file as it is stored; its size and what the Hub says of it stay."""
        key = self.repo(name, kind).tree(revision)[path].key
        self.storage.rotten.add(key)
        self.storage.rotten.update(term.xorb for term in self.cas.files.get(self.storage.xet.get(key, ""), []))

    def fail(self, step: str, how: int | str, **more: Any) -> Fault:
        """Let the next `times` (1) calls of a step go wrong, after the first `after` (0); see the top of this file."""
        if step not in STEPS:
            raise ValueError(f"no step {step!r}; there are {', '.join(STEPS)}")
        if not isinstance(how, int) and how not in FAULTS:
            raise ValueError(f"no fault {how!r}; there are statuses and {', '.join(FAULTS)}")
        fault = Fault(step, how, **more)
        self.faults.append(fault)
        return fault

    def before(self, step: str, function: Callable[[], Any]) -> None:
        self.hooks.append((step, function))

    def count(self, step: str) -> int:
        """How many calls of a step came."""
        return sum(seen.step == step for seen in self.requests)

    # What the routes ask

    def orgs_of(self, user: str) -> list[str]:
        return [org for org, members in self.orgs.items() if user in members]

    def token_of(self, call: Call) -> Token:
        return self.tokens[(call.headers.get("Authorization") or "").removeprefix("Bearer ")]

    def need_user(self, call: Call) -> str:
        if call.user is None:
            raise HubError(401, "Invalid username or password.")
        return call.user

    def writes(self, call: Call, name: str) -> bool:
        namespace = name.split("/")[0]
        if call.role == "fineGrained":
            return bool({name, namespace} & set(self.token_of(call).scopes))
        return call.role == "write" and namespace in (call.user, *self.orgs_of(call.user or ""))

    def may_write(self, call: Call, name: str) -> None:
        user = self.need_user(call)
        if not self.writes(call, name):
            namespace = name.split("/")[0]
            if call.role == "read" and namespace in (user, *self.orgs_of(user)):
                raise HubError(403, "Your token does not have write permissions: use a token with the write role")
            raise HubError(403, f'You don\'t have the rights to write to the namespace "{namespace}"')

    def may_see(self, call: Call, repo: Repo) -> bool:
        user = call.user or ""
        return not repo.private or repo.namespace in (user, *self.orgs_of(user))

    def may_read_files(self, call: Call, repo: Repo) -> None:
        user = call.user or ""
        if repo.gated and user not in repo.granted and repo.namespace not in (user, *self.orgs_of(user)):
            words = f"Access to {repo.kind} {repo.name} is restricted. You must have access to it and be authenticated"
            raise HubError(403 if user else 401, words, "GatedRepo")

    def reach(self, call: Call, kind: str, name: str, write: bool) -> Repo:
        repo = self.repos.get((kind, name))
        if repo is None or not self.may_see(call, repo):
            # To a visitor the Hub does not tell a private repository from a missing one.
            raise HubError(404 if call.user else 401, "Repository not found", "RepoNotFound")
        if write:
            self.may_write(call, name)
        return repo

    def check_quota(self, more: int) -> None:
        if self.quota is not None and sum(repo.size for repo in self.repos.values()) + more > self.quota:
            raise HubError(403, "Private repository storage limit reached, please upgrade your plan")

    def form(self, body: bytes) -> dict[str, list[str]]:
        return parse_qs(body.decode())

    # Answering

    def fault_for(self, step: str, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            fits = fault.step == step and fault.match in path and fault.method in ("", method)
            if fits and fault.hits < fault.times:
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.hits += 1
                return fault
        return None

    def handle(self, call: Call, seen: Seen) -> Answer | None:
        """The answer to a call; None cuts the connection."""
        found = find(call.method, call.path)
        if found is None:
            return self.refuse(HubError(404, f"The double does not know {call.method} {call.path}"))
        seen.step, function, call.args = found
        for hook in [hook for hook in self.hooks if hook[0] == seen.step]:
            self.hooks.remove(hook)
            hook[1]()
        with self.lock:
            fault = self.fault_for(seen.step, call.method, call.path)
        how = fault.how if fault else ""
        if how == "silent":
            self._quiet.wait()
        if how in ("silent", "cut"):
            return None
        try:
            if fault and (error := _error_of(fault)):
                raise error
            with self.lock:
                self.identify(call)
                reply = function(call)
        except HubError as error:
            return self.refuse(error)
        if how == "corrupt":
            key = call.args.get("oid") or call.args.get("hash") or ""
            if seen.step in ("blob", "xorb"):
                self.storage.rotten.add(key)
            else:
                reply.body = spoiled(reply.body)
        reply.half = how == "half"
        return None if how == "lost" else reply

    def identify(self, call: Call) -> None:
        value = (call.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not value or value.startswith("xet_"):
            return
        token = self.tokens.get(value)
        if token is None or token.role == "expired":
            expired = f'User Access Token "{value[:6]}..." is expired'
            raise HubError(401, expired if token else "Invalid credentials in Authorization header")
        call.user, call.role = token.user, token.role

    def refuse(self, error: HubError) -> Answer:
        code = {"X-Error-Code": error.code} if error.code else {}
        head = {"X-Error-Message": error.message, **code, **error.headers}
        return answer(error.body or {"error": error.message}, error.status, head)


def _error_of(fault: Fault) -> HubError | None:
    if isinstance(fault.how, int):
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return HubError(fault.how, WORDS.get(fault.how, "Something went wrong"), headers=headers)
    if fault.how == "expired":
        return HubError(401, 'User Access Token "test" is expired')
    if fault.how == "read-only":
        return HubError(403, "Your token does not have write permissions: use a token with the write role")
    if fault.how == "full":
        return HubError(403, "Private repository storage limit reached, please upgrade your plan")
    return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    hub: Hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self) -> None:
        hub, body = self.server.hub, self._body()
        path, _, query = self.path.partition("?")
        call = Call(hub, self.command, path, parse_qs(query), self.headers, body)
        value = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        user = hub.tokens[value].user if value in hub.tokens else None
        host = self.headers.get("Host") or ""
        seen = Seen(self.command, unquote(path), "other", user, value or None, host, len(body))
        seen.headers = dict(self.headers)
        hub.requests.append(seen)
        if f"http://{host}" == hub.blob_origin and value in hub.tokens:
            hub.leaks.append((seen.path, value))
        reply = hub.handle(call, seen)
        if reply is None:
            return self._cut()
        seen.status = reply.status
        head = [f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('?',))[0]}"]
        head += [f"{key}: {text}" for key, text in reply.headers.items()]
        head += [f"Content-Length: {len(reply.body)}", f"X-Request-Id: double-{len(hub.requests)}", "", ""]
        shown = b"" if self.command == "HEAD" else reply.body
        shown = shown[: len(shown) // 2] if reply.half else shown
        self.wfile.write("\r\n".join(head).encode("latin-1", "replace") + shown)
        if reply.half:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _serve


def main(argv: list[str] | None = None) -> None:
    """Serve until Ctrl-C, for a person who wants to try the library against it."""
    parser = argparse.ArgumentParser(description="A Hub of your own, in memory, for trying things out.")
    parser.add_argument("--port", type=int, default=8765, help="0 picks a free one")
    parser.add_argument("--lfs", action="store_true", help="let clients upload by LFS, not xet")
    parser.add_argument("--home", help="their HF_HOME; a new folder, gone at the end, when it is not given")
    args = parser.parse_args(argv)
    try:
        hub = Hub(args.port)
    except OSError as error:
        sys.exit(f"port {args.port}: {error.strerror}; try --port 0")
    home = args.home or tempfile.mkdtemp(prefix="hub_double_")  # what a client keeps is of this Hub alone
    print(f"A Hub at {hub.endpoint} (its front page lists what is there). In another terminal:\n")
    print("unset " + " ".join(OTHERS))
    print("export " + " ".join(f"{k}={v}" for k, v in {**hub.settings(not args.lfs), "HF_HOME": home}.items()))
    print('\nYou are "ada", a member of "atelier". Ctrl-C stops it, and what was pushed is gone.', flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        hub.stop()
        if args.home is None:
            shutil.rmtree(home, ignore_errors=True)
        print(json.dumps({"repositories": len(hub.repos), "requests": len(hub.requests)}))


if __name__ == "__main__":
    main()
