"""What a check finds in datasets, how fast, in how much memory, and what its quick part costs a training.

    python benchmarks/check.py FOLDER ...                       # the folders' own findings: a minute each
    python benchmarks/check.py FOLDER --label_errors            # and labels that are probably wrong
    python benchmarks/check.py --memory                         # 2,000 and 20,000 made pictures

The quick part (each picture decoded and hashed, labels counted) is what every recipe does before its first step; the
first epoch beside it is the default one: EfficientNet-Lite0, batches of 16, on this machine, from 4 steps.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features, Image, disable_progress_bars
from PIL import Image as PILImage

from hf_fashion import backbones, checks, data
from hf_fashion.report import Report
from hf_fashion.tasks import classify

STEPS, BATCH = 6, 16
PHOTOS = Features({"image": Image()})


class Memory:
    """The most anonymous memory (MiB) of this process beyond that at the start, asked 20 times a second. Files that
    are mapped are not counted: the system takes their pages back when it needs them."""

    def __enter__(self) -> "Memory":
        self.start, self.most, self._done = _anonymous(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.most = max(self.most, _anonymous() - self.start)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _anonymous() -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


def measured(dataset: DatasetDict, report: Report, **options: bool) -> tuple[Report, float, float, float]:
    """A check: its report, wall and CPU seconds, and the memory that it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    with Memory() as memory:
        checks.check(dataset, report, **options)
    return report, time.perf_counter() - wall, time.process_time() - cpu, memory.most


def step_seconds(dataset: DatasetDict) -> tuple[float, float]:
    """Wall and CPU seconds that a photo takes in the first epoch: decoded, augmented, forward and back."""
    names = ["one", "other"]
    net, processor = backbones.load_classifier("efficientnet-lite0", names)
    rows = dataset["train"].remove_columns([n for n in dataset["train"].column_names if n != "image"])
    rows = rows.select(range(STEPS * BATCH)).add_column("label", [n % 2 for n in range(STEPS * BATCH)])
    examples = classify.prepare(rows, processor, train=True)
    optimizer = torch.optim.AdamW(net.train().parameters())
    wall, cpu = 0.0, 0.0
    for step in range(STEPS):
        if step == 2:  # the first ones warm up
            wall, cpu = time.perf_counter(), time.process_time()
        batch = [examples[number] for number in range(step * BATCH, (step + 1) * BATCH)]
        pixels = torch.stack([torch.as_tensor(row["pixel_values"]) for row in batch])
        torch.nn.functional.cross_entropy(net(pixels).logits, torch.arange(BATCH) % 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    count = (STEPS - 2) * BATCH
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count


def made(rows: int) -> DatasetDict:
    """Small photos on the disk, each another."""
    random = np.random.default_rng(0)

    def encode(_: object, number: int) -> dict[str, object]:
        pixels = random.integers(0, 256, (12, 9, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        PILImage.fromarray(pixels).resize((96, 128), PILImage.Resampling.BICUBIC).save(buffer, "JPEG")
        return {"image": {"bytes": buffer.getvalue(), "path": f"{number}.jpg"}}

    empty = Dataset.from_dict({"number": range(rows)})
    folder = tempfile.mkdtemp()
    empty.map(encode, with_indices=True, remove_columns="number", features=PHOTOS).to_parquet(f"{folder}/made.parquet")
    return DatasetDict(train=Dataset.from_parquet(f"{folder}/made.parquet"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--label_errors", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--made", type=int, help=argparse.SUPPRESS)  # one size, in a process of its own
    args = parser.parse_args()
    disable_progress_bars()
    if args.made:
        dataset = made(args.made)
        _, wall, cpu, memory = measured(dataset, Report({}), thorough=True)
        print(f"| {args.made} | {memory:.0f} | {args.made / wall:.0f} | {args.made / cpu:.0f} | {cpu / wall:.2f} |")
        return
    if args.memory:
        print("| made pictures | memory, MiB | pictures/s | pictures/CPU s | cores in use |\n|---|---|---|---|---|")
        for rows in (2_000, 20_000):
            print(
                subprocess.check_output([sys.executable, __file__, "--made", str(rows)], text=True).strip(), flush=True
            )
    for folder in args.folders:
        dataset, report = data.load(folder, PHOTOS, validation_share=None, test_share=None)
        pictures = sum(map(len, dataset.values()))
        before = len(report.findings)
        _, quick_wall, quick_cpu, quick_memory = measured(dataset, Report({}, carried=report.carried))
        _, wall, cpu, memory = measured(dataset, report, thorough=True, label_errors=args.label_errors)
        step_wall, step_cpu = step_seconds(dataset)
        share = quick_cpu / (step_cpu * len(dataset["train"]))
        print(f"\n## {Path(folder).name}: {pictures} pictures\n")
        print("| | wall s | CPU s | pictures/s | pictures/CPU s | memory, MiB |\n|---|---|---|---|---|---|")
        for name, told in (("quick", (quick_wall, quick_cpu, quick_memory)), ("whole", (wall, cpu, memory))):
            seconds, cpu_seconds, most = told
            print(f"| {name} | {seconds:.1f} | {cpu_seconds:.1f} | {pictures / seconds:.0f} | "
                  f"{pictures / cpu_seconds:.0f} | {most:.0f} |")  # fmt: skip
        print(f"\nA photo in the first epoch: {step_wall * 1e3:.0f} ms, {step_cpu * 1e3:.0f} CPU ms; the quick part "
              f"is {share:.1%} of the epoch's CPU time.\n")  # fmt: skip
        kinds = Counter((finding.level, finding.expected or finding.found) for finding in report.findings)
        print("| level | expected | found otherwise |\n|---|---|---|")
        for (level, expected), count in sorted(kinds.items()):
            print(f"| {level} | {expected} | {count} |")
        print(f"\n{before} of them were told by loading.", flush=True)


if __name__ == "__main__":
    main()
