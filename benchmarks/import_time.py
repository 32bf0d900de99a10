"""CPU seconds of `import hf_fashion`, against the import that a script of transformers starts with.

    python benchmarks/import_time.py

Each import in a process of its own, in alternating order, after one that warms the disk cache.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import lines

ROUNDS = 5
PEER, OURS = "from transformers import Trainer", "import hf_fashion"
NOTHING = "pass"


def cpu_seconds(code: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="Write the figures here, too.")
    args = parser.parse_args()
    codes = (PEER, OURS, NOTHING)
    for code in codes:
        cpu_seconds(code)
    taken: dict[str, list[float]] = {code: [] for code in codes}
    for number in range(ROUNDS):
        for code in codes if number % 2 else codes[::-1]:
            taken[code].append(cpu_seconds(code))
    print(f"{'code':<36} {'CPU s, median':>14} {'min':>6} {'max':>6}   ({ROUNDS} rounds; `pass` is Python itself)")
    for code, seconds in taken.items():
        print(f"{code:<36} {sorted(seconds)[ROUNDS // 2]:>14.2f} {min(seconds):>6.2f} {max(seconds):>6.2f}")
    ratio = sorted(taken[PEER])[ROUNDS // 2] / sorted(taken[OURS])[ROUNDS // 2]
    print(f"ratio {ratio:.0f}x; quality gate: none, nothing is computed")
    if args.json:
        lines.write(
            args.json,
            [lines.line("import hf_fashion", taken[PEER], taken[OURS], unit="CPU s", gate="none: nothing is computed",
                        passed=True, against="from transformers import Trainer")],
        )  # fmt: skip


if __name__ == "__main__":
    main()
