"""What the benchmarks have in common: a line is a peer, ours, their ratio and a gate that voids it; kept as JSON."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def line(
    name: str, peer: Sequence[float], ours: Sequence[float], *, unit: str, gate: str, passed: bool, against: str
) -> dict[str, Any]:
    """A line of the table.

    Args:
        name: What is done.
        peer: What the peer took in each round.
        ours: What ours took in the same rounds.
        unit: Of both, less is better.
        gate: What must hold, and what was found.
        passed: Whether it holds; if not the ratio is void.
        against: Who the peer is.
    """
    ratios = [one / other for one, other in zip(peer, ours, strict=True)]
    return {
        "line": name, "against": against, "unit": unit, "rounds": len(ratios), "peer": float(np.median(peer)),
        "ours": float(np.median(ours)), "ratio": float(np.median(ratios)), "least": min(ratios), "most": max(ratios),
        "gate": gate, "passed": passed,
    }  # fmt: skip


def span(values: Sequence[float], digits: int = 1) -> str:
    """The median, with the least and the most."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def machine() -> str:
    """The processor, its cores, and the system."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(row.split(":")[1].strip() for row in told if row.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Writes lines, with the machine and the command that measured them."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    told = {"machine": machine(), "command": f"python benchmarks/{shlex.join(words)}", "lines": list(lines)}
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
