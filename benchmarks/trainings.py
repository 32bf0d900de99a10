"""What the benchmarks of trainings have in common: a side is a process of its own, which prints what it took."""

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import lines


def settings(folder: str, *, epochs: int, rate: float, bf16: bool) -> Any:
    """Arguments of a Trainer that writes and measures nothing, batches of 32, on a CPU."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder, num_train_epochs=epochs, per_device_train_batch_size=32, use_cpu=True, learning_rate=rate,
        save_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False, label_names=["labels"],
        seed=0, logging_strategy="no", bf16=bf16,
    )  # fmt: skip


def taken(since: tuple[float, float]) -> dict[str, float]:
    """Seconds since `clock` was looked at."""
    wall, cpu = clock()
    return {"wall": wall - since[0], "cpu": cpu - since[1]}


def clock() -> tuple[float, float]:
    """Wall and CPU seconds."""
    return time.perf_counter(), time.process_time()


def accuracy(trainer: Any, processor: Any, dataset: Any) -> dict[str, Any]:
    """The share of photos of validation and test whose label is told, in full precision; `measured`: of so many."""
    import torch
    from datasets import concatenate_datasets

    from hf_fashion.tasks import classify

    net = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    rows = concatenate_datasets([dataset["validation"], dataset["test"]])
    shown, right = classify.prepare(rows, processor), 0
    for start in range(0, len(rows), 32):
        part = shown[start : start + 32]
        with torch.no_grad():
            right += sum(net(part["pixel_values"]).logits.argmax(1).eq(torch.tensor(part["labels"])).tolist())
    return {"accuracy": right / len(rows), "measured": len(rows)}


def tell(told: Mapping[str, Any]) -> None:
    """Hands figures to the process that asked, by `run`."""
    print("told " + json.dumps(told))


def run(words: Sequence[str], cache: str) -> dict[str, Any]:
    """A side, in a process of its own with one thread: this script with other words; what it `tell`s.

    Args:
        words: Its settings.
        cache: Where it keeps features, activations and photos.
    """
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"OMP_NUM_THREADS": "1", "HF_FASHION_CACHE": cache, "TQDM_DISABLE": "1"}
        command = [sys.executable, sys.argv[0], *words, "--folder", folder]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("told ")), None)
    if line is None:
        raise SystemExit(done.stderr)
    told: dict[str, Any] = json.loads(line.removeprefix("told "))
    return told


def rounds(sides: Sequence[str], words: Sequence[str], count: int) -> dict[str, list[dict[str, Any]]]:
    """What each side took in each round: in turns, from either end; "again" last, on what the round has kept."""
    told: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    fresh = [side for side in sides if side != "again"]
    for number in range(count):
        with tempfile.TemporaryDirectory() as cache:
            for side in fresh if number % 2 == 0 else fresh[::-1]:
                told[side].append(run(["--side", side, *words], cache))
            told["again"].append(run(["--side", "again", *words], cache))
    return told


def close(told: Mapping[str, list[dict[str, Any]]]) -> tuple[bool, str]:
    """Whether "half" is as accurate as the peer in each round, within 0.2 points; and their accuracies in words."""
    pairs = [(one["accuracy"], other["accuracy"]) for one, other in zip(told["peer"], told["half"], strict=True)]
    says = f"accuracy {pairs[0][0]:.3f} and {pairs[0][1]:.3f} of {told['peer'][0]['measured']} photos"
    return max(abs(one - other) for one, other in pairs) <= 0.002, says


def show(told: Mapping[str, list[dict[str, Any]]], gates: Mapping[str, tuple[bool, str]]) -> None:
    """Prints what the sides took; a gate that does not hold voids its ratio."""
    print("\n| training | CPU s | wall s | peer to it, CPU |\n|---|---|---|---|")
    for side, runs in told.items():
        ratios = [peer["cpu"] / one["cpu"] for peer, one in zip(told["peer"], runs, strict=True)]
        cpu, wall = (lines.span([one[kind] for one in runs], 2) for kind in ("cpu", "wall"))
        good = side == "peer" or gates[side][0]
        print(f"| {side} | {cpu} | {wall} | {lines.span(ratios) if good else 'void'} |")
    print(flush=True)


def told_lines(
    told: Mapping[str, list[dict[str, Any]]],
    gates: Mapping[str, tuple[bool, str]],
    names: Mapping[str, str],
    peer: str,
) -> list[dict[str, Any]]:
    """Lines of the table of benchmarks, of the sides that `names` names."""
    seconds = {side: [one["cpu"] for one in runs] for side, runs in told.items()}
    return [
        lines.line(
            name, seconds["peer"], seconds[side], unit="CPU s", gate=gates[side][1], passed=gates[side][0],
            against=peer,
        )
        for side, name in names.items()
        if side in told
    ]  # fmt: skip


def words_of(args: Namespace, *names: str) -> list[str]:
    """Settings as words again, for `run`."""
    return [word for name in names for word in (f"--{name}", str(getattr(args, name)))]
