"""The fixtures `hub` and `hub_by_both`: the double of the Hub, for tests in this process. See `hub_server.py`.

The endpoint of huggingface_hub and datasets is fixed when they are imported, so the double listens before that: from
`conftest.py`, for every test. All tests are offline (HF_HUB_OFFLINE=1) but those that take one of these fixtures.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub_server import Hub

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

HUB = Hub()
CARD = "---\nlicense: mit\npipeline_tag: image-classification\n---\n# A net\n"


@contextmanager
def _online(monkeypatch: pytest.MonkeyPatch, xet: bool) -> Iterator[Hub]:
    import huggingface_hub.constants as constants  # not above: it imports what the environment is set for

    HUB.reset()
    HUB.xet = xet
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_TOKEN", HUB.token)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
    _let_datasets(offline=False)
    try:
        yield HUB
    finally:
        _let_datasets(offline=True)  # also when the test was the first to import it
        HUB.reset()  # lets go of clients that wait in silence


def _let_datasets(offline: bool) -> None:
    """datasets keeps a switch of its own, read when it is imported."""
    if "datasets.config" in sys.modules:
        sys.modules["datasets.config"].HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub, online, an empty cache, HF_TOKEN of a user who may write to "ada" and "atelier"."""
    with _online(monkeypatch, xet=True) as found:
        yield found


@pytest.fixture(params=["xet", "lfs"])
def hub_by_both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The same, once with large files by xet and once by LFS; `hub.xet` says which."""
    with _online(monkeypatch, xet=request.param == "xet") as found:
        yield found


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long: neither a push before its next try, nor the client before its own."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))


def small_run(folder: Path) -> Path:
    """Make a folder to push: one large file, two small ones. New bytes each time, for xet remembers what it sent."""
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(os.urandom(100_000))
    (folder / "README.md").write_text(CARD)
    (folder / "config.json").write_text("{}")
    return folder


def contents(folder: str | Path) -> dict[str, bytes]:
    """Path -> bytes of what lies in a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def commit_files(folder: Path, **more: Any) -> CommitInfo:
    """One commit of a folder's files to ada/shirts, as the clients' own push does it."""
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
    return HfApi().create_commit("ada/shirts", operations, commit_message="files", **more)
