"""The server under 8 clients at once, whose photos share passes of the net, against one client after the other.

    python benchmarks/serve.py
    python benchmarks/serve.py --model exported --clients 16 --requests 256

`hf-fashion serve` runs an export (without `--model` one of the sample's checkpoint, made here) in a process of its
own, and another one whose passes take one photo each. The clients are in this process, on the same cores, and post
photos of the sample as they are; wall time a photo, from the first request to the last answer, five rounds in turns.
The gate: every answer is that of `hf_fashion.runtime` to the same photo, labels the same and numbers to 0.0001.
"""

import argparse
import contextlib
import io
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import lines
import numpy as np
import pyarrow.parquet as pq

import hf_fashion
from hf_fashion import runtime

ROUNDS = 5
NEAR = 1e-4  # engines compute a batch in another order than one photo


def sample_export(place: Path) -> str:
    """An export of the small Swin that ships, as an encoder: it has no head."""
    from hf_fashion.recipes import export

    with contextlib.redirect_stdout(io.StringIO()):
        export.main(["sample", "--task", "retrieve", "--dataset", "sample", "-o", str(place / "export")])
    return str(place / "export")


def photos(count: int) -> list[bytes]:
    """Photos of the sample's test split, encoded."""
    folder = Path(hf_fashion.__file__).parent / "samples" / "photos"
    rows = [row for path in sorted(folder.glob("test*.parquet")) for row in pq.read_table(path, columns=["image"])[0]]
    return [row.as_py()["bytes"] for row in rows][:count]


@contextlib.contextmanager
def served(model: str, *settings: str) -> Iterator[str]:
    """The address of a server of the model."""
    command = [sys.executable, "-m", "hf_fashion.recipes.serve", model, "--port", "0", *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        told = [process.stdout.readline() for _ in range(3)]
        yield told[1].split()[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def posted(address: str, sent: list[bytes], clients: int) -> tuple[float, list[Any]]:
    """Milliseconds a photo, and the answers."""
    with httpx.Client(base_url=address, timeout=60, limits=httpx.Limits(max_connections=clients)) as client:

        def post(photo: bytes) -> Any:
            told = client.post("/predict", content=photo, headers={"content-type": "image/jpeg"})
            return told.raise_for_status().json()

        with ThreadPoolExecutor(clients) as pool:
            began = time.perf_counter()
            answers = list(pool.map(post, sent))
            return 1000 * (time.perf_counter() - began) / len(sent), answers


def same(told: Any, said: Any) -> bool:
    """Whether two answers are equal: vectors, labels with scores, or boxes."""
    if isinstance(said, np.ndarray):
        return bool(np.abs(np.asarray(told) - said).max() <= NEAR)
    if isinstance(said, dict):
        return told.keys() == said.keys() and all(same(told[key], said[key]) for key in said)
    if isinstance(said, list):
        return len(told) == len(said) and all(map(same, told, said))
    return told == said if isinstance(said, str) else abs(told - said) <= NEAR * max(1.0, abs(said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="A folder of hf-fashion export; default: one of the sample's checkpoint.")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=128, help="Of each round.")
    parser.add_argument("--wait_ms", default="0")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        model = args.model or sample_export(Path(place))
        several = photos(64)
        sent = [several[number % len(several)] for number in range(args.requests)]
        exported = runtime.load(model)
        expected = [exported(photo) for photo in several]
        ways: dict[str, tuple[str, int]] = {}
        took: dict[str, list[float]] = {}
        right = total = 0
        with served(model, "--wait_ms", args.wait_ms) as batched, served(model, "--batch_size", "1") as single:
            ways = {
                "one client": (batched, 1), "no batches": (single, args.clients), "batches": (batched, args.clients)
            }  # fmt: skip
            for number in range(ROUNDS + 1):
                for name in list(ways)[:: 1 if number % 2 else -1]:
                    spent, answers = posted(ways[name][0], sent, ways[name][1])
                    right += sum(same(told, expected[n % len(several)]) for n, told in enumerate(answers))
                    total += len(answers)
                    if number:  # the first round warms up
                        took.setdefault(name, []).append(spent)
    gate = f"{right} of {total} answers are those of runtime"
    about = f"{exported.about['kind']}, {args.clients} clients at once"
    made = [
        lines.line(f"served, {about}", took[peer], took["batches"], unit="ms", gate=gate, passed=right == total,
                   against=against)
        for peer, against in (("one client", "one request after another"), ("no batches", "as many, one photo a pass"))
    ]  # fmt: skip
    for one in made:
        rates = [1000 / one[side] for side in ("peer", "ours")]
        print(
            f"{one['line']}: {rates[1]:.1f} photos a second, {one['against']}: {rates[0]:.1f}; {one['ratio']:.2f}x "
            f"({one['least']:.2f} to {one['most']:.2f}); {gate}"
        )
    if args.json:
        lines.write(args.json, made)


if __name__ == "__main__":
    main()
