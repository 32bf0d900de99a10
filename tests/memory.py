"""How much memory a process takes; imports nothing of ours, so that a process of its own is asked at once."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def within_memory(megabytes: float = 500) -> Iterator[None]:
    """Fails when the process takes so much more inside than before; where there is no /proc, it does nothing."""
    if not Path("/proc/self/clear_refs").exists():
        yield
        return
    gc.collect()  # or what other tests left is freed inside, and hides what is taken
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < megabytes


def memory(kind: str) -> float:
    """Megabytes of the process, by the name of a line of its status (`VmRSS`, `VmHWM`)."""
    return int(Path("/proc/self/status").read_text().partition(f"{kind}:")[2].split()[0]) / 1024
