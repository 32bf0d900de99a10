"""Recipes as processes of their own without the seconds that their imports take: forks of the test's process.

That a fresh interpreter starts them too is what slow tests of `test_wheel.py` (one) and `test_many_processes.py` (two)
see.
"""

import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate.state import AcceleratorState


class Forked:
    """As much of `subprocess.Popen` as the tests use, for `[sys.executable, script, *arguments]`.

    Args:
        command: The first word is not looked at.
        cwd: The folder where it works; the test's, if none is given.
        env: Its environment; the test's, if none is given.
        told: A file for all that it writes; where the test's own output goes, if none is given.
        own_group: Whether it is in a process group of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        told: Path | None = None,
        own_group: bool = False,
    ) -> None:
        def run() -> None:
            if own_group:
                os.setsid()
            if told is not None:
                file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(file, 1)
                os.dup2(file, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            os.chdir(cwd or ".")
            if env is not None:
                os.environ.clear()
                os.environ.update(env)
            AcceleratorState._reset_state(reset_partial_state=True)  # the test's own: one process
            sys.argv = [*command[1:]]
            runpy.run_path(command[1], run_name="__main__")

        self._process = multiprocessing.get_context("fork").Process(target=run)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 240) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode


def several(count: int, command: Sequence[str], cwd: Path, told: Path) -> list[int | None]:
    """Runs so many processes of one training or measurement, as torchrun does; gives their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    begun = []
    for rank in range(count):
        env = os.environ | {name: str(value) for name, value in (common | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        begun.append(Forked(command, cwd=cwd, env=env, told=told))
    return [process.wait() for process in begun]
