"""The second epoch: photos opened and prepared again, or read from `photo_cache`.

    python benchmarks/photo_cache.py --dataset clothing --photos 512      # a folder that `data.load` reads
    python benchmarks/photo_cache.py --dataset clothing --photos 48 --megapixels 12

Peer: `datasets` with a transform that calls an image processor, as in transformers' example for image classification,
behind torch's DataLoader in one process: the model's processor, and ViT's (squashed to 224) with its Pillow backend
and with torchvision. `numbers`: the same loader on `photo_cache.Prepared`, of which the first epoch (not in the ratio,
shown beside) has made the file. Gate: the same numbers to the bit, or the ratio is void. `bytes` are these batches
before they become numbers, as they go to a GPU.

`cropped` is the same with a random crop and a flip: the peer opens the photo and crops it; ours crops a photo that was
kept with a shorter side of 1.5 times the net's. The draws are the same; the pictures are not to the bit: the mean
difference of their crops in grey levels stands beside it. `--megapixels` enlarges the photos first, which are then
encoded as JPEG anew: what a phone takes, in size.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lines
import numpy as np
import torch
from datasets import Dataset, Features, Image
from PIL import Image as PILImage
from torchvision.transforms import v2
from transformers import AutoImageProcessor, ViTImageProcessor

from hf_fashion import backbones, data, images, photo_cache
from hf_fashion.training.features import Rows

COLUMNS = Features({"image": Image()})
Numbers = Callable[[torch.Tensor], torch.Tensor] | None


def enlarged(rows: Dataset, pixels: float) -> Dataset:
    made = []
    for row in rows.cast_column("image", Image(decode=False)):
        photo = images.decode(row["image"])
        scale = (pixels / (photo.width * photo.height)) ** 0.5
        size = [8 * round(side * scale / 8) for side in photo.size]  # as a camera's
        larger = photo.resize((size[0], size[1]), PILImage.Resampling.BICUBIC)
        buffer = io.BytesIO()
        larger.save(buffer, "JPEG", quality=92)
        made.append({"image": {"bytes": buffer.getvalue(), "path": None}})
    return Dataset.from_list(made, features=COLUMNS)


def batches(loader: torch.utils.data.DataLoader, numbers: Numbers = None) -> Iterator[torch.Tensor]:
    return (batch["pixel_values"] if numbers is None else numbers(batch["pixel_values"]) for batch in loader)


def clocked(loader: torch.utils.data.DataLoader, numbers: Numbers = None) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in batches(loader, numbers):  # dropped, as a training does
        pass
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


class Cropped(torch.utils.data.Dataset):
    """Photos that are cropped and flipped at random, with the same draws whatever they come from."""

    def __init__(self, photos: list | Dataset | photo_cache.Shrunk, count: int, size: tuple[int, int]) -> None:
        self.photos, self.count, self.size = photos, count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        photo = self.photos[row]
        photo = photo["image"].convert("RGB") if isinstance(photo, dict) else photo
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(row)
            top, left, height, width = torch.rand(4).tolist()
            flip = bool(torch.rand(()) < 0.5)
        # Shares of the photo, so that a smaller one is cropped alike.
        h, w = (0.7 + 0.3 * height) * photo.height, (0.7 + 0.3 * width) * photo.width
        box = (left * (photo.width - w), top * (photo.height - h))
        crop = photo.resize(self.size[::-1], PILImage.Resampling.BICUBIC, (*box, box[0] + w, box[1] + h), 3.0)
        pixels = v2.functional.pil_to_tensor(crop)
        return {"pixel_values": pixels.flip(-1) if flip else pixels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--megapixels", type=float)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="Write the figures here, too.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset, _ = data.load(args.dataset, COLUMNS, label_columns=[], validation_share=None, test_share=None)
    rows = dataset["train"].select_columns(["image"])
    rows = rows.select(range(min(args.photos, len(rows))))
    if args.megapixels:
        rows = enlarged(rows, args.megapixels * 1e6)
    _, processor = backbones.load_classifier(args.model, ["a", "b"])
    spec, fast = backbones.input_spec(processor), ViTImageProcessor()
    with tempfile.TemporaryDirectory() as folder:
        fast.save_pretrained(folder)
        slow = AutoImageProcessor.from_pretrained(folder, backend="pil")
    processors = {args.model: processor, "ViT's with Pillow": slow, "ViT's with torchvision": fast}

    def loader(photos: object) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(photos, batch_size=32)  # type: ignore[arg-type]

    def of_datasets(processor: Any) -> torch.utils.data.DataLoader:
        def prepare(batch: dict) -> dict:
            photos = [photo.convert("RGB") for photo in batch["image"]]
            return {"pixel_values": processor(photos, return_tensors="pt")["pixel_values"]}

        return loader(rows.with_transform(prepare))

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_FASHION_CACHE"] = folder
        labels = rows.add_column("label", [0] * len(rows))
        sides: dict[str, tuple[torch.utils.data.DataLoader, Numbers]] = {}
        same, first = {}, {}
        for name, one in processors.items():
            start = time.process_time()
            kept = photo_cache.Prepared(rows, one)
            first[name] = time.process_time() - start
            ours = loader(Rows(labels, kept, lambda row: row["label"], "pixel_values"))
            sides |= {
                f"peer, {name}": (of_datasets(one), None), f"numbers, {name}": (ours, kept.numbers),
                f"bytes, {name}": (ours, None),
            }  # fmt: skip
            both = zip(batches(*sides[f"peer, {name}"]), batches(*sides[f"numbers, {name}"]), strict=True)
            same[name] = all(torch.equal(a, b) for a, b in both)
        start = time.process_time()
        shrunk = photo_cache.Shrunk(rows, round(1.5 * min(spec.height, spec.width)))
        first["cropped"] = time.process_time() - start
        size = (spec.height, spec.width)
        sides["peer, cropped"] = (loader(Cropped(rows, len(rows), size)), None)
        sides["ours, cropped"] = (loader(Cropped(shrunk, len(rows), size)), None)
        both = zip(batches(*sides["peer, cropped"]), batches(*sides["ours, cropped"]), strict=True)
        apart = float(torch.cat([(a.float() - b.float()).abs().flatten() for a, b in both]).mean())
        told: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for number in range(args.rounds):
            for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                told[name].append(clocked(*sides[name]))
    pixels = np.mean([np.prod(images.probe(row["image"])) for row in rows.cast_column("image", Image(decode=False))])
    print(
        f"{len(rows)} photos of {pixels / 1e6:.2f} megapixels, {args.model} ({spec.height} x {spec.width}), one thread"
    )
    print(f"made in CPU s: {', '.join(f'{name} {seconds:.1f}' for name, seconds in first.items())}")
    print(f"cropped: {apart:.2f} grey levels apart on average\n")
    print("| epoch | CPU ms a photo | wall ms | peer to this, CPU | to the bit |\n|---|---|---|---|---|")
    for name, runs in told.items():
        of = name.partition(", ")[2]
        exact = same.get(of, False)
        ratios = lines.span([a["cpu"] / b["cpu"] for a, b in zip(told[f"peer, {of}"], runs, strict=True)])
        cpu, wall = (lines.span([1000 * run[kind] / len(rows) for run in runs], 3) for kind in ("cpu", "wall"))
        print(f"| {name} | {cpu} | {wall} | {ratios} | {'yes' if exact else 'no'} |")
    if args.json:
        cpu = {name: [1000 * run["cpu"] / len(rows) for run in runs] for name, runs in told.items()}
        unit, of = "CPU ms a photo", f"photos of {pixels / 1e6:.1f} MP"
        found = [
            lines.line(
                f"epoch 2{more}, {of}", cpu[f"peer, {name}"], cpu[f"{side}, {name}"], unit=unit,
                gate=f"the same to the bit: {'yes' if same[name] else 'no'}", passed=same[name],
                against=f"datasets and the image processor, {name}",
            )
            for name in processors
            for side, more in (("numbers", ""), ("bytes", " as bytes"))
        ]  # fmt: skip
        found.append(
            lines.line(
                f"epoch 2, cropped at random, {of}", cpu["peer, cropped"], cpu["ours, cropped"], unit=unit,
                gate=f"{apart:.2f} grey levels apart (at most 3)", passed=apart <= 3,
                against="the same crops of photos that are opened each time",
            )
        )  # fmt: skip
        lines.write(args.json, found)


if __name__ == "__main__":
    main()
