"""A head on a frozen backbone, ten epochs: the bare Trainer runs the backbone in each, ours once.

    python benchmarks/frozen.py --dataset clothing --photos 256     # a folder that `data.load` reads; else the sample
    python benchmarks/frozen.py --model runs/mine --rounds 7

Peer: `transformers.Trainer` on the photos of a `datasets.Dataset`, opened and prepared by the checkpoint's image
processor in each epoch, the backbone frozen and in eval mode. Ours: the same Trainer, settings and order of rows, on
features (`training.features`). Each side runs in a process of its own, in alternating order; hashing and writing are
part of ours. Gate: the head's weights are the same to the bit, or the ratio is void. `again` is a second training on
the features that are there, with another learning rate, as in a sweep. `half` is ours in bfloat16 (the recipe's
`--bf16 True`, which it takes by itself for nets where that was measured to help), against the peer in full precision;
its gate is the accuracy on the photos of validation and test, measured in full precision: within 0.2 points.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lines
import numpy as np

SIDES = ("peer", "ours", "again", "half")


def train(side: str, args: argparse.Namespace) -> None:
    """One training; prints what it took, and a hash of the head."""
    import torch
    from datasets import concatenate_datasets
    from transformers import Trainer, TrainingArguments, default_data_collator, set_seed

    from hf_fashion import backbones, checks, data
    from hf_fashion.tasks import classify
    from hf_fashion.training import features
    from hf_fashion.training.losses import classification_loss

    torch.set_num_threads(1)
    dataset, report = data.load(args.dataset, classify.COLUMNS)
    checks.check(dataset, report)
    rows = dataset["train"].shuffle(seed=0).select(range(min(args.photos, len(dataset["train"]))))
    set_seed(0)
    names = rows.features["label"].names
    net, processor = backbones.load_classifier(args.model, names, freeze="backbone", from_scratch=args.from_scratch)
    net = net.to(memory_format=torch.channels_last)
    settings = TrainingArguments(
        output_dir=args.folder, num_train_epochs=args.epochs, per_device_train_batch_size=32, use_cpu=True,
        learning_rate=3e-3 if side == "again" else 1e-3, save_strategy="no", report_to="none", disable_tqdm=True,
        remove_unused_columns=False, label_names=["labels"], seed=0, logging_strategy="no", bf16=side == "half",
    )  # fmt: skip
    prepared = classify.prepare(rows, processor)
    wall, cpu = time.perf_counter(), time.process_time()
    held, seen = None, None
    if side != "peer":
        held = features.Features(net, processor, settings)
        seen = held.kept.of(prepared, 32, in_order=False)
    trainer = Trainer(
        model=net, args=settings, data_collator=default_data_collator, compute_loss_func=classification_loss(),
        train_dataset=prepared if seen is None else classify.prepare(rows, processor, features=seen),
    )  # fmt: skip
    if held is None:
        trainer.train()
    else:
        with held.taken(trainer):
            trainer.train()
    told = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    [head] = backbones.freezing.head_layers(net)
    weights = b"".join(value.numpy().tobytes() for value in head.state_dict().values())
    told |= {"head": hashlib.blake2b(weights).hexdigest(), "photos": len(rows)}
    if side in ("peer", "half"):
        trainer.accelerator.unwrap_model(net, keep_fp32_wrapper=False)
        rows = concatenate_datasets([dataset["validation"], dataset["test"]])
        shown, right = classify.prepare(rows, processor), 0
        net.eval()
        for start in range(0, len(rows), 32):
            part = shown[start : start + 32]
            with torch.no_grad():
                right += sum(net(part["pixel_values"]).logits.argmax(1).eq(torch.tensor(part["labels"])).tolist())
        told |= {"accuracy": right / len(rows), "measured": len(rows)}
    print("told " + json.dumps(told))


def run(side: str, args: argparse.Namespace, cache: str) -> dict:
    words = [sys.executable, __file__, "--side", side, "--model", args.model, "--dataset", args.dataset]
    words += ["--photos", str(args.photos), "--epochs", str(args.epochs)]
    words += ["--from_scratch"] if args.from_scratch else []
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"OMP_NUM_THREADS": "1", "HF_FASHION_CACHE": cache, "TQDM_DISABLE": "1"}
        done = subprocess.run([*words, "--folder", folder], env=env, capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("told ")), None)
    if line is None:
        raise SystemExit(done.stderr)
    return json.loads(line.removeprefix("told "))


def span(values: list[float], digits: int = 1) -> str:
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--from_scratch", action="store_true", help="Weights at random, where none can be had.")
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="Write the figures here, too.")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        train(args.side, args)
        return
    told: dict[str, list[dict]] = {side: [] for side in SIDES}
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as cache:
            for side in ("peer", "ours", "half") if number % 2 == 0 else ("half", "ours", "peer"):
                told[side].append(run(side, args, cache))
            told["again"].append(run("again", args, cache))
    same = all(one["head"] == other["head"] for one, other in zip(told["peer"], told["ours"], strict=True))
    print(f"{args.model}, {told['peer'][0]['photos']} photos, {args.epochs} epochs, {args.rounds} rounds, one thread")
    accuracies = [[one["accuracy"] for one in told[side]] for side in ("peer", "half")]
    apart = max(abs(one - other) for one, other in zip(*accuracies, strict=True))
    exact = f"head weights the same to the bit: {'yes' if same else 'no'}"
    close = f"accuracy {accuracies[0][0]:.3f} and {accuracies[1][0]:.3f} of {told['peer'][0]['measured']} photos"
    gates = dict.fromkeys(("ours", "again"), (same, exact)) | {"half": (apart <= 0.002, close)}
    print(f"{exact}\nin bfloat16: {close}\n")
    print("| training | CPU s | wall s | peer to it, CPU |\n|---|---|---|---|")
    for side in SIDES:
        ratios = [peer["cpu"] / one["cpu"] for peer, one in zip(told["peer"], told[side], strict=True)]
        cpu, wall = (span([one[name] for one in told[side]], 2) for name in ("cpu", "wall"))
        print(f"| {side} | {cpu} | {wall} | {span(ratios) if side == 'peer' or gates[side][0] else 'void'} |")
    if args.json:
        seconds = {side: [one["cpu"] for one in told[side]] for side in SIDES}
        net = "ViT-S" if "vit_small" in args.model else args.model
        lines.write(
            args.json,
            [
                lines.line(
                    f"{what}, {net}, {args.epochs} epochs", seconds["peer"], seconds[side], unit="CPU s",
                    gate=gates[side][1], passed=gates[side][0], against="Trainer, the backbone in each step",
                )
                for what, side in (
                    ("head on a frozen backbone", "ours"), ("the same again, on its features", "again"),
                    ("head on features in bfloat16", "half"),
                )
            ],
        )  # fmt: skip


if __name__ == "__main__":
    main()
