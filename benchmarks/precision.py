"""Whole training steps in bfloat16 against those of a `Trainer` as it comes: speed, and how far the gradient differs.

    OMP_NUM_THREADS=1 python benchmarks/precision.py
    python benchmarks/precision.py --nets swin-tiny resnet50 --batch_size 32 --device cuda

Random weights and pictures at the size of the net: a step takes as long whatever they are. The peer is full precision
with the attention and the optimizer that transformers takes by itself; ours is bfloat16 as `with_precision` sets it.
Both run in this process, step by step in turn, `--rounds` after one to warm up; the median ratio counts (CPU time, on
a GPU wall time). The gate beside it is the gradient of the first step, from the same weights: how far bfloat16 moves
it, next to how far other pictures move it. Where rounding is more than a tenth of that noise, which every training
lives with, the ratio does not count. `hf_fashion.training.precision` has the table that came of it.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
from backbones import NETS
from lines import line, write
from transformers import AutoConfig, AutoModelForImageClassification, TrainingArguments

from hf_fashion.backbones import reset
from hf_fashion.training.precision import supports_bf16, with_precision


def gradient(model, pixels, labels, dtype, device):
    """The loss's gradient over all weights, one after the other, as one vector; in full precision whatever `dtype`."""
    for part in model.modules():  # what they drop depends on the type of numbers, too
        part.train(part.training and "Drop" not in type(part).__name__)
    with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
        logits = model(pixel_values=pixels).logits
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    found = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    model.zero_grad()
    return found


def distance(one, other):
    """|one - other| as a share of |other|."""
    return ((one - other).norm() / other.norm()).item()


def step(model, optimizer, pixels, labels, dtype, device):
    """Seconds of a step."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
        logits = model(pixel_values=pixels).logits
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path, help="Where the lines go, for table.py.")
    args = parser.parse_args()
    lines = []
    print(f"bf16 in this device's instructions: {supports_bf16(args.device)}; {torch.get_num_threads()} threads\n")
    print("| net | full, photos/s | bf16, photos/s | ratio | gradient moved by bf16 | by other pictures |")
    print("|---|---|---|---|---|---|")
    for name in args.nets:
        whole = AutoConfig.for_model(**NETS[name].config, num_labels=10)
        torch.manual_seed(0)
        net = reset(AutoModelForImageClassification.from_config(whole)).to(args.device)
        net = net.to(memory_format=torch.channels_last).train()
        ours = copy.deepcopy(net)
        with tempfile.TemporaryDirectory() as folder:
            asked = TrainingArguments(folder, bf16=True, use_cpu=args.device == "cpu", report_to="none")
            with_precision(asked, ours)
        shape = (args.batch_size, 3, NETS[name].side, NETS[name].side)
        pixels, others = (
            torch.randn(shape, device=args.device).contiguous(memory_format=torch.channels_last) for _ in range(2)
        )
        labels = torch.arange(args.batch_size, device=args.device) % 10
        # Copies: a pass in training mode also moves the running averages of batch normalisation.
        full, half = torch.float32, torch.bfloat16
        exact = gradient(copy.deepcopy(net), pixels, labels, full, args.device)
        rounding = distance(gradient(copy.deepcopy(ours), pixels, labels, half, args.device), exact)
        noise = distance(gradient(copy.deepcopy(net), others, labels, full, args.device), exact)
        del exact
        sides = [(one, torch.optim.AdamW(one.parameters(), lr=1e-4, fused=True), dtype)
                 for one, dtype in ((net, full), (ours, half))]  # fmt: skip
        rounds = [
            [step(one, optimizer, pixels, labels, dtype, args.device) for one, optimizer, dtype in sides]
            for _ in range(args.rounds + 1)
        ][1:]
        peer, mine = ([one[side] / args.batch_size * 1000 for one in rounds] for side in (0, 1))
        told = line(
            f"a training step of {name}, batch {args.batch_size}", peer, mine, unit="ms a photo",
            gate=f"bf16 moves the gradient by {rounding:.3f}, other pictures by {noise:.3f}",
            passed=rounding <= 0.1 * noise, against="Trainer in fp32",
        )  # fmt: skip
        lines.append(told)
        void = "" if told["passed"] else " (void: rounding moves the gradient too far)"
        ratio = f"{told['ratio']:.2f} ({told['least']:.2f} to {told['most']:.2f}){void}"
        rates = " | ".join(f"{1000 / told[side]:.1f}" for side in ("peer", "ours"))
        print(f"| {name} | {rates} | {ratio} | {rounding:.3f} | {noise:.3f} |", flush=True)
    if args.json:
        write(args.json, lines)


if __name__ == "__main__":
    main()
