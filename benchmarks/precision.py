"""Training steps in bfloat16 against full precision: speed, and how far the loss of the same steps differs.

    OMP_NUM_THREADS=1 python benchmarks/precision.py
    python benchmarks/precision.py --nets swin-tiny resnet50 --batch_size 32 --device cuda

Random weights and pictures at the size of the net: a step takes as long whatever they are. Both precisions run
in this process, one after the other, `--rounds` steps after one to warm up; the quickest counts (CPU time, on a GPU
wall time). The gate beside the ratio is the gradient of the first step, from the same weights: how far bfloat16 moves
it, next to how far other pictures move it. Where rounding is more than a tenth of that noise, which every training
lives with, the ratio does not count. `hf_fashion.training.precision` has the table that came of it.
"""

import argparse
import copy
import time

import torch
from backbones import NETS
from transformers import AutoConfig, AutoModelForImageClassification

from hf_fashion.backbones import reset
from hf_fashion.training.precision import supports_bf16


def gradient(model, pixels, labels, dtype, device):
    """The loss's gradient over all weights, one after the other, as one vector; in full precision whatever `dtype`."""
    torch.manual_seed(0)  # the same dropout in both precisions
    with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
        logits = model(pixel_values=pixels).logits
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    found = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    model.zero_grad()
    return found


def distance(one, other):
    """|one - other| as a share of |other|."""
    return ((one - other).norm() / other.norm()).item()


def step_time(model, pixels, labels, dtype, rounds, device):
    """Seconds of the quickest step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    best = float("inf")
    clock = time.perf_counter if device == "cuda" else time.process_time
    for number in range(rounds + 1):
        start = clock()
        with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
            logits = model(pixel_values=pixels).logits
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        if number:
            best = min(best, clock() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    print(f"bf16 in this device's instructions: {supports_bf16(args.device)}; {torch.get_num_threads()} threads\n")
    print("| net | full, photos/s | bf16, photos/s | ratio | gradient moved by bf16 | by other pictures |")
    print("|---|---|---|---|---|---|")
    for name in args.nets:
        whole = AutoConfig.for_model(**NETS[name].config, num_labels=10)
        torch.manual_seed(0)
        net = reset(AutoModelForImageClassification.from_config(whole)).to(args.device)
        net = net.to(memory_format=torch.channels_last).train()
        shape = (args.batch_size, 3, NETS[name].side, NETS[name].side)
        pixels, others = (
            torch.randn(shape, device=args.device).contiguous(memory_format=torch.channels_last) for _ in range(2)
        )
        labels = torch.arange(args.batch_size, device=args.device) % 10
        # Copies: a pass in training mode also moves the running averages of batch normalisation.
        full, half = torch.float32, torch.bfloat16
        exact, rounded = (gradient(copy.deepcopy(net), pixels, labels, dtype, args.device) for dtype in (full, half))
        rounding = distance(rounded, exact)
        noise = distance(gradient(copy.deepcopy(net), others, labels, full, args.device), exact)
        del exact, rounded
        seconds = [
            step_time(copy.deepcopy(net), pixels, labels, dtype, args.rounds, args.device) for dtype in (full, half)
        ]
        gate = "" if rounding <= 0.1 * noise else " (void: rounding moves the gradient too far)"
        rates = " | ".join(f"{args.batch_size / one:.1f}" for one in seconds)
        print(f"| {name} | {rates} | {seconds[0] / seconds[1]:.2f}{gate} | {rounding:.3f} | {noise:.3f} |", flush=True)


if __name__ == "__main__":
    main()
