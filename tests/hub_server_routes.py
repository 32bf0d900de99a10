"""How a call reaches its answer: the table of routes that `hub_server_api.py` and `hub_server_files.py` fill."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from hub_server_store import Repo

if TYPE_CHECKING:
    from hub_server import Hub

STEPS: dict[str, str] = {}  # step -> the calls it stands for
ROUTES: list[tuple[str, re.Pattern, str, Callable]] = []
REPO = r"/api/(?P<types>models|datasets|spaces)/(?P<id>[^/]+(?:/[^/]+)?)"
FILES = r"/(?!api/|_)(?:(?P<types>datasets|spaces)/)?(?P<id>[^/]+(?:/[^/]+)?)"


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    half: bool = False  # it breaks off in the middle


@dataclass
class Call:
    """A request. `args` are the route's names, unquoted; `user` is None for a visitor without a token."""

    hub: Hub
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes
    args: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    role: str | None = None

    @property
    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[-1].lower() in ("1", "true")

    @property
    def kind(self) -> str:
        return (self.args.get("types") or "models")[:-1]

    def repo(self, write: bool = False) -> Repo:
        return self.hub.reach(self, self.kind, self.args["id"], write)


def answer(value: Any, status: int = 200, head: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(head or {})})


def route(method: str, pattern: str, step: str) -> Callable:
    def add(function: Callable) -> Callable:
        STEPS.setdefault(step, "")
        STEPS[step] += f"{method} {pattern} "
        ROUTES.append((method, re.compile(pattern), step, function))
        return function

    return add


def page(call: Call, items: list, size: int) -> Answer:
    """One page, and the address of the next in a Link header."""
    start = int(call.query.get("cursor", ["0"])[-1])
    rest = [(k, v) for k, vs in call.query.items() if k != "cursor" for v in vs] + [("cursor", str(start + size))]
    head = {"X-Total-Count": str(len(items))}
    if start + size < len(items):
        query = "&".join(f"{quote(k)}={quote(v)}" for k, v in rest)
        head["Link"] = f'<{call.hub.endpoint}{call.path}?{query}>; rel="next"'
    return answer(items[start : start + size], head=head)


def find(method: str, path: str) -> tuple[str, Callable, dict[str, str]] | None:
    """The step, the function and the names of a call; None for one that the double does not know."""
    for wanted, pattern, step, function in ROUTES:
        found = pattern.fullmatch(path)
        if found and wanted == ("GET" if method == "HEAD" else method):
            names = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
            return step, function, names
    return None
