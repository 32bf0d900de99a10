"""JPEG bytes to a batch: `datasets` and an image processor, or `preparing`, which evaluation goes through.

    python benchmarks/decode.py --dataset clothing --photos 256        # a folder that `data.load` reads
    python benchmarks/decode.py --dataset clothing --photos 12 --megapixels 12 --classifier runs/classify-...

Peer: `datasets` with a transform that calls the image processor, as in transformers' example for image classification,
behind torch's DataLoader in one process: the processor of ViT (squashed to 224) with its Pillow backend, and with
torchvision; and timm's (`--timm`). Ours: `examples.of_evaluation` behind the same loader. Gate: the numbers of the
processor (with torchvision, or timm's) to the bit; those of the Pillow backend, which rounds otherwise, within a PSNR
of 60 dB. `without simplejpeg` is ours without the extra `fast`.

With `--megapixels` photos are enlarged and encoded anew: what a phone takes, in size. `reduced` is then
`images.decode(..., at_least=448)` in front of the processor, another picture: its PSNR is told, and its gate is the
labels of `--classifier`, a trained one, of which 99 % at least of `--labels` photos must be those of the whole ones.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lines
import numpy as np
import torch
from datasets import Dataset, Image
from photo_cache import COLUMNS, enlarged
from transformers import AutoImageProcessor, ViTImageProcessor

from hf_fashion import backbones, data, examples, images, preparing

DECIBELS, AGREEMENT = 60.0, 0.99
MARGIN = 2  # times the net's side: what a reduced photo has at least
Side = Callable[[], Iterator[torch.Tensor]]  # its batches are dropped when they are timed, as a training does


def of_datasets(rows: Dataset, processor: Any, batch_size: int) -> Side:
    def prepare(batch: dict) -> dict:
        photos = [photo.convert("RGB") for photo in batch["image"]]
        return {"pixel_values": processor(photos, return_tensors="pt")["pixel_values"]}

    return seen(rows.with_transform(prepare), batch_size)


def of_ours(rows: Dataset, processor: Any, batch_size: int) -> Side:
    labelled = rows.add_column("label", [0] * len(rows))
    return seen(examples.of_evaluation(labelled, processor, ["label"], lambda row: row["label"]), batch_size)


def of_reduced(rows: Dataset, processor: Any, batch_size: int, at_least: int) -> Side:
    def prepare(batch: dict) -> dict:
        photos = [images.decode(photo, at_least=at_least) for photo in batch["image"]]
        return {"pixel_values": processor(photos, return_tensors="pt")["pixel_values"]}

    return seen(rows.cast_column("image", Image(decode=False)).with_transform(prepare), batch_size)


def seen(rows: Dataset, batch_size: int) -> Side:
    loader = torch.utils.data.DataLoader(rows, batch_size=batch_size)  # type: ignore[arg-type]
    return lambda: (batch["pixel_values"] for batch in loader)


def without_turbo(side: Side) -> Side:
    def alone() -> Iterator[torch.Tensor]:
        kept, images.TURBO = images.TURBO, False
        try:
            yield from side()
        finally:
            images.TURBO = kept

    return alone


def decibels(one: list[torch.Tensor], other: list[torch.Tensor], std: float) -> float:
    """PSNR of two sets of batches, of pixels from 0 to 1; infinite where they are the same."""
    error = torch.cat([((a - b).double() * std).square().mean(dim=(1, 2, 3)) for a, b in zip(one, other, strict=True)])
    mean = float(error.mean())
    return float("inf") if mean == 0 else -10 * float(np.log10(mean))


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def labels(classifier: str, rows: Dataset, pixels: float) -> tuple[float, float]:
    """Of a trained classifier, the share of photos that keep their label when reduced, and the largest drift of a
    probability."""
    net, processor = backbones.load_classifier(classifier)
    spec, prepare = backbones.input_spec(processor), preparing.Preparer(processor)
    at_least, told = MARGIN * max(spec.height, spec.width), []
    for start in range(0, len(rows), 8):  # photos of this size are not held at once
        larger = enlarged(rows.select(range(start, min(start + 8, len(rows)))), pixels)
        for row in larger.cast_column("image", Image(decode=False)):
            both = [row["image"], images.decode(row["image"], at_least=at_least)]
            with torch.inference_mode():
                told.append(net.eval()(pixel_values=prepare(both)).logits.softmax(dim=1))
    scores = torch.stack(told)
    agree = (scores[:, 0].argmax(dim=1) == scores[:, 1].argmax(dim=1)).double().mean()
    return float(agree), float((scores[:, 0] - scores[:, 1]).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--megapixels", type=float)
    parser.add_argument("--timm", default="efficientnet-lite0", help="A model of timm, for its processor.")
    parser.add_argument("--classifier", help="A trained one, for the labels of reduced photos.")
    parser.add_argument("--labels", type=int, default=120, help="So many photos, for --classifier.")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="Write the figures here, too.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset, _ = data.load(args.dataset, COLUMNS, label_columns=[], validation_share=None, test_share=None)
    every = dataset["train"].select_columns(["image"])
    rows = every.select(range(min(args.photos, len(every))))
    if args.megapixels:
        rows = enlarged(rows, args.megapixels * 1e6)
    fast = ViTImageProcessor()
    with tempfile.TemporaryDirectory() as folder:
        fast.save_pretrained(folder)
        slow = AutoImageProcessor.from_pretrained(folder, backend="pil")
    _, of_timm = backbones.load_classifier(args.timm, ["a", "b"])
    size = args.batch_size
    sides: dict[str, Side] = {
        "Pillow backend": of_datasets(rows, slow, size),
        "torchvision backend": of_datasets(rows, fast, size),
        "ours": of_ours(rows, fast, size),
        "timm's": of_datasets(rows, of_timm, size),
        "ours, timm's": of_ours(rows, of_timm, size),
    }
    if images.TURBO:
        for name in ("ours", "ours, timm's"):
            sides[f"{name}, without simplejpeg"] = without_turbo(sides[name])
    side = max(fast.size["height"], fast.size["width"])
    if args.megapixels:
        sides["reduced"] = of_reduced(rows, fast, size, MARGIN * side)
        sides["reduced, timm's"] = of_reduced(rows, of_timm, size, MARGIN * side)

    made = {name: list(one()) for name, one in sides.items()}
    std, of_timm_std = fast.image_std[0], backbones.input_spec(of_timm).std[0]
    exact = {name: same(made[name], made["timm's" if "timm" in name else "torchvision backend"]) for name in sides}
    gate = decibels(made["Pillow backend"], made["ours"], std)
    reduced = {}
    if args.megapixels:
        reduced = {
            "reduced": decibels(made["ours"], made["reduced"], std),
            "reduced, timm's": decibels(made["ours, timm's"], made["reduced, timm's"], of_timm_std),
        }
    del made
    told: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(args.rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in sides[name]():
                pass
            told[name].append({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall})

    sizes = [np.prod(images.probe(row["image"])) for row in rows.cast_column("image", Image(decode=False))]
    turbo = "with simplejpeg" if images.TURBO else "simplejpeg is not installed"
    print(f"{len(rows)} photos of {np.mean(sizes) / 1e6:.2f} megapixels to {side} x {side}, one thread, {turbo}\n")
    print("| side | CPU ms a photo | wall ms | Pillow backend to this, CPU | torchvision's or timm's to the bit |")
    print("|---|---|---|---|---|")
    for name, runs in told.items():
        peer = told["timm's" if "timm" in name else "Pillow backend"]
        ratio = lines.span([a["cpu"] / b["cpu"] for a, b in zip(peer, runs, strict=True)], 2)
        cpu, wall = (lines.span([1000 * run[kind] / len(rows) for run in runs], 2) for kind in ("cpu", "wall"))
        print(f"| {name} | {cpu} | {wall} | {ratio} | {'yes' if exact[name] else 'no'} |")
    print(f"\nours against the Pillow backend: {gate:.1f} dB")
    for name, value in reduced.items():
        print(f"{name} against the whole photo: {value:.1f} dB")
    if args.megapixels and args.classifier:
        asked = every.select(range(min(args.labels, len(every))))
        agree, drift = labels(args.classifier, asked, args.megapixels * 1e6)
        print(
            f"labels of {len(asked)} reduced photos: {100 * agree:.1f} % the same, a probability drifts by {drift:.3f}"
        )
    if args.json:
        cpu = {name: [1000 * run["cpu"] / len(rows) for run in runs] for name, runs in told.items()}
        of, unit = f"photos of {np.mean(sizes) / 1e6:.1f} MP", "CPU ms a photo"
        peers = {
            "ours": ("Pillow backend", "datasets and ViT's processor with Pillow"),
            "ours, timm's": ("timm's", "datasets and timm's processor"),
        }
        found = []
        for name, (peer, against) in peers.items():
            for more in ("", ", without simplejpeg"):
                if name + more in cpu:
                    passed = exact[name + more] and (gate >= DECIBELS or peer == "timm's")
                    says = "the processor's to the bit: " + ("yes" if exact[name + more] else "no")
                    says += f"; {gate:.0f} dB" if peer == "Pillow backend" else ""
                    found.append(
                        lines.line(
                            f"JPEG bytes to a batch{more}, {of}", cpu[peer], cpu[name + more], unit=unit, gate=says,
                            passed=passed, against=against,
                        )
                    )  # fmt: skip
        found.append(
            lines.line(
                f"JPEG bytes to a batch, {of}", cpu["torchvision backend"], cpu["ours"], unit=unit,
                gate="the same to the bit: " + ("yes" if exact["ours"] else "no"), passed=exact["ours"],
                against="datasets and ViT's processor with torchvision",
            )
        )  # fmt: skip
        if args.megapixels and args.classifier:
            found.append(
                lines.line(
                    f"JPEG bytes to a batch, reduced, {of}", cpu["Pillow backend"], cpu["reduced"], unit=unit,
                    gate=f"{reduced['reduced']:.0f} dB; labels {100 * agree:.1f} % the same (at least 99)",
                    passed=agree >= AGREEMENT, against="datasets and ViT's processor with Pillow",
                )
            )  # fmt: skip
        lines.write(args.json, found)


if __name__ == "__main__":
    main()
