"""The lines in which this library is faster than what one would otherwise do, each measured in a process of its own.

    python benchmarks/table.py --data clothing --output bench          # some two hours on one core
    python benchmarks/table.py --data clothing --output bench --only frozen search

`--data` is a folder of photos that `data.load` reads; without it the 400 photos that ship with the package. Prints a
table of peer, ours, the ratio with its least and most over the rounds, and the gate beside it; leaves the table, what
each benchmark printed, `lines.json` and `ratios.png` in `--output`. A gate that does not hold voids its ratio. With
`--only` some are measured anew, and the figures of the others that are in `--output` stay in the table.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm.auto import tqdm

HERE = Path(__file__).parent
# Name -> the script, its settings, and whether it takes `--dataset`.
BENCHMARKS: dict[str, tuple[str, list[str], bool]] = {
    "import": ("import_time.py", [], False),
    "batches": ("decode.py", [], True),
    "phone batches": ("decode.py", ["--photos", "12", "--megapixels", "12"], True),
    "photos": ("photo_cache.py", [], True),
    "phone photos": ("photo_cache.py", ["--photos", "48", "--megapixels", "12"], True),
    "frozen": ("frozen.py", [], True),
    "first stages frozen": ("partial.py", ["--photos", "32"], True),
    "steps": ("precision.py", ["--nets", "swin-tiny", "vit-base", "--batch_size", "16"], False),
    "export": ("export.py", [], True),
    "server": ("serve.py", [], False),
    "search": ("search.py", ["--vectors", "50000"], False),
    "small catalogue": ("search.py", ["--vectors", "4000", "--peers", "lancedb", "qdrant"], False),
    "large catalogue": ("search.py", ["--vectors", "1000000"], False),
    "boxes": ("detection_metrics.py", ["--only", "times", "--photos", "1000"], False),
}


def measure(name: str, args: argparse.Namespace) -> None:
    """Runs a benchmark, which leaves its figures and what it printed in `--output`."""
    script, settings, of_photos = BENCHMARKS[name]
    told = file(name, args)
    command = [sys.executable, str(HERE / script), *settings, "--json", str(told)]
    command += ["--dataset", args.data] if of_photos and args.data else []
    command += ["--model", args.model] if name == "export" and args.model else []
    env = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    told.with_suffix(".txt").write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")


def file(name: str, args: argparse.Namespace) -> Path:
    folder: Path = args.output
    return folder / f"{name.replace(' ', '-')}.json"


def there(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of all benchmarks whose figures are in `--output`, in their order."""
    found = [
        json.loads(path.read_text(encoding="utf-8")) for name in BENCHMARKS if (path := file(name, args)).exists()
    ]
    return [{**line, "command": one["command"], "machine": one["machine"]} for one in found for line in one["lines"]]


def drawn(lines: list[dict[str, Any]]) -> Figure:
    """Each ratio with its least and most, on a logarithmic scale; void ones are left out and counted."""
    good = [one for one in lines if one["passed"]]
    void = len(lines) - len(good)
    columns = 2 if len(good) > 30 else 1
    rows = math.ceil(len(good) / columns)
    figure = Figure(figsize=(10 * columns, 1.2 + 0.36 * rows), layout="constrained")
    every = figure.subplots(1, columns, sharex=True, squeeze=False)[0]
    for number, axes in enumerate(every):
        part = good[number * rows : (number + 1) * rows]
        for place, one in enumerate(part):
            axes.plot([one["least"], one["most"]], [place, place], color="#2b6cdf", linewidth=2)
            axes.plot(one["ratio"], place, "o", color="#2b6cdf")
            said = f"{one['ratio']:.{1 if one['ratio'] < 100 else 0}f}x"
            axes.annotate(said, (one["most"], place), (6, 0), textcoords="offset points", va="center")
        named = [f"{one['line']} ({one['unit']})\nagainst {one['against']}" for one in part]
        axes.set_yticks(range(len(part)), named, fontsize=8)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_xscale("log")
        axes.axvline(1, color="#888888", linewidth=1)
        axes.xaxis.set_major_formatter("{x:g}x")
        axes.set_xlabel("peer over ours: median, least and most of the rounds")
        axes.margins(x=0.2)
        axes.grid(axis="x", alpha=0.3)
    title = "What the peer takes, over what ours takes" + f"; {void} void, whose gate did not hold" * (void > 0)
    figure.suptitle(title, fontsize=11)
    return figure


def table(lines: list[dict[str, Any]]) -> str:
    rows = ["| what | against | peer | ours | ratio (least to most) | gate |", "|---|---|---|---|---|---|"]
    for one in lines:
        ratio = f"{one['ratio']:.1f} ({one['least']:.1f} to {one['most']:.1f})" if one["passed"] else "void"
        taken = " | ".join(f"{one[side]:.3g} {one['unit']}" for side in ("peer", "ours"))
        rows.append(f"| {one['line']} | {one['against']} | {taken} | {ratio} | {one['gate']} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Photos; default: the sample.")
    parser.add_argument("--model", help="A model trained on these photos, for the lines of exports.")
    parser.add_argument("--output", type=Path, default=Path("bench"), help="A folder for tables, JSON and the plot.")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="Some of the lines.")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name in tqdm(args.only or BENCHMARKS, desc="benchmarks", unit="benchmark"):
        measure(name, args)
        lines = there(args)
        machines = "; ".join(dict.fromkeys(one["machine"] for one in lines))
        told = f"{machines}, one thread\n\n{table(lines)}\n"
        # After each, since one that fails after two hours must not take the others' figures with it.
        (args.output / "table.md").write_text(told, encoding="utf-8")
        (args.output / "lines.json").write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")
        drawn(lines).savefig(args.output / "ratios.png", dpi=130)
    print(told)


if __name__ == "__main__":
    main()
