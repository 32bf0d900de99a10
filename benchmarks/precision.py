"""Training steps in bfloat16 against full precision: speed, and how far the loss of the same steps differs.

    OMP_NUM_THREADS=1 python benchmarks/precision.py
    python benchmarks/precision.py --nets swin-tiny resnet50 --batch_size 32 --device cuda

Random weights and pictures at the size of the net: a step takes as long whatever they are. Both precisions run
in this process, one after the other, `--rounds` steps after one to warm up; the quickest counts (CPU time, on a GPU
wall time). The gate beside the ratio is the loss after these steps, from the same weights: where it differs by more
than 5 %, the ratio does not count. `hf_fashion.training.precision` has the table that came of it.
"""

import argparse
import copy
import time

import torch
from backbones import NETS
from transformers import AutoConfig, AutoModelForImageClassification

from hf_fashion.backbones import reset
from hf_fashion.training.precision import supports_bf16


def step_times(model, pixels, labels, dtype, rounds, device):
    """Seconds of the quickest step, and the loss at the end."""
    torch.manual_seed(0)  # the same dropout in both precisions
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    best = float("inf")
    clock = time.perf_counter if device == "cuda" else time.process_time
    for number in range(rounds + 1):
        start = clock()
        with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
            logits = model(pixel_values=pixels).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        if number:
            best = min(best, clock() - start)
    return best, loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    print(f"bf16 in this device's instructions: {supports_bf16(args.device)}; {torch.get_num_threads()} threads\n")
    print("| net | full, photos/s | bf16, photos/s | ratio | loss, full | loss, bf16 |\n|---|---|---|---|---|---|")
    for name in args.nets:
        whole = AutoConfig.for_model(**NETS[name].config, num_labels=10)
        torch.manual_seed(0)
        net = reset(AutoModelForImageClassification.from_config(whole)).to(args.device)
        pixels = torch.randn(args.batch_size, 3, NETS[name].side, NETS[name].side, device=args.device)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(args.batch_size, device=args.device) % 10
        found = {}
        for dtype in (torch.float32, torch.bfloat16):
            one = copy.deepcopy(net).to(memory_format=torch.channels_last).train()
            found[dtype] = step_times(one, pixels, labels, dtype, args.rounds, args.device)
        (full, loss), (half, half_loss) = found.values()
        gate = "" if abs(half_loss - loss) <= 0.05 * loss else " (void: the losses differ)"
        rates = f"{args.batch_size / full:.1f} | {args.batch_size / half:.1f} | {full / half:.2f}{gate}"
        print(f"| {name} | {rates} | {loss:.3f} | {half_loss:.3f} |", flush=True)


if __name__ == "__main__":
    main()
