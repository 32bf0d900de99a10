"""A detector of ours beside a usual one, torchvision's FCOS, on the same photos: average precision of both, paired.

    OMP_NUM_THREADS=1 python benchmarks/street.py --data street --output_dir peer     # trains the peer: half an hour
    python benchmarks/street.py --data street --output_dir compared --peer_weights peer/model.safetensors \\
        --model runs/mine

`--data` is a folder with train, validation and test files of photos with boxes; `--model` one that
`AutoModelForObjectDetection` loads. The test photos are read last, once by each net, and nothing is chosen by them.

The peer is FCOS (Tian et al. 2019, arXiv 1904.01355) as torchvision builds it over a ResNet-50 (maps of 8 to 128
pixels; of the backbone all batch norms, and all layers up to maps of 4 pixels, frozen), over the ImageNet
EfficientNet-Lite0 that ours begin with, with a pyramid of 128 channels. Photos come in with a longer side of 384
pixels, half of them mirrored, 4 a step, for 9 epochs. Torchvision's own schedule (SGD at a rate of 0.01 for 16 photos,
divided by ten after 16 and after 22 of 26 epochs of COCO) is one for 190,000 steps; for these 1,332 it is AdamW at
1.5e-4 for the backbone and 6e-4 for the rest, with its warm-up (from a thousandth, over the first epoch), then
a cosine to 0. Nothing of this was tuned.

Its answer is measured with all boxes of a score above 0.01, since COCO's figures reward the tail, and as torchvision
serves it, above 0.2.
"""

import argparse
import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from datasets import Dataset, Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.layers import freeze_batch_norm_2d
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.ops import FeaturePyramidNetwork, box_convert
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm
from transformers import pipeline

from hf_fashion import backbones, checks, data, images, metrics
from hf_fashion.box_augmentation import crop_and_flip
from hf_fashion.comparison.paired import in_words
from hf_fashion.errors import InputError
from hf_fashion.metrics.coco import figures_of_draws
from hf_fashion.metrics.intervals import draw_rows
from hf_fashion.metrics.resampling import resample
from hf_fashion.tasks import detect
from hf_fashion.training.detecting import packed

SIDE = 384  # pixels, of the longer side
WIDTH = 128  # channels of the pyramid
EPOCHS, BATCH = 9, 4
BACKBONE_RATE, RATE, WEIGHT_DECAY = 1.5e-4, 6e-4, 1e-4
LOWEST, SERVED = 0.01, 0.2  # scores
FIGURES = {"map": "AP", "map_50": "AP50", "map_75": "AP75"}
DRAWS = 200


class Pyramid(nn.Module):
    """The ImageNet backbone with a feature pyramid on its maps of 8, 16 and 32 pixels, as `FCOS` wants it."""

    out_channels = WIDTH

    def __init__(self) -> None:
        super().__init__()
        classifier: Any = backbones.load_classifier("efficientnet-lite0")[0]
        body: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3, 4))
        missing = body.load_state_dict(classifier.timm_model.state_dict(), strict=False).missing_keys
        assert not missing, missing
        for part in (body.conv_stem, body.blocks[:2]):
            part.requires_grad_(False)
        self.body = freeze_batch_norm_2d(body)
        self.pyramid = FeaturePyramidNetwork(body.feature_info.channels(), WIDTH, LastLevelP6P7(WIDTH, WIDTH))

    def forward(self, pixels: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        maps = self.body(pixels)
        return self.pyramid(OrderedDict((str(number), one) for number, one in enumerate(maps)))


def build(classes: int) -> FCOS:
    """The peer; the random part of its weights is drawn from torch's global random state."""
    half = [0.5] * 3  # mean and std of EfficientNet-Lite
    net = FCOS(Pyramid(), classes, min_size=SIDE, max_size=SIDE, image_mean=half, image_std=half, score_thresh=LOWEST)
    return net.to(memory_format=torch.channels_last)  # a tenth faster on a CPU


def train(net: FCOS, rows: Dataset, epochs: int = EPOCHS) -> None:
    """Trains the peer in place; draws from torch's global random state."""
    augment = crop_and_flip(smallest_crop=1.0)  # mirrors only
    body = [weight for weight in net.backbone.body.parameters() if weight.requires_grad]
    rest = [*net.backbone.pyramid.parameters(), *net.head.parameters()]
    groups: list[dict[str, Any]] = [{"params": body, "lr": BACKBONE_RATE}, {"params": rest}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=WEIGHT_DECAY)
    steps = len(rows) // BATCH
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=steps)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, (epochs - 1) * steps)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, decay], [steps])
    net.train()
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(rows))[: steps * BATCH].view(steps, BATCH).tolist()
        for batch in tqdm(order, desc=f"epoch {epoch + 1} of {epochs}", mininterval=10):
            photos, targets = [], []
            for row in (rows[number] for number in batch):
                boxed = augment(images.decode(row["image"]), np.asarray(row["objects"]["bbox"]))
                photos.append(boxed.photo / 255)
                boxes = box_convert(torch.from_numpy(boxed.bbox), "xywh", "xyxy")
                targets.append({"boxes": boxes, "labels": torch.tensor(row["objects"]["category"])})
            loss = torch.stack(list(net(photos, targets).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: mean loss {total / steps:.3f}", flush=True)


def of_peer(net: FCOS, rows: Dataset) -> metrics.Detections:
    """The boxes that the peer says."""
    net.eval()
    found = []
    with torch.no_grad():
        for row in tqdm(rows, desc="peer", mininterval=10):
            found += net([pil_to_tensor(images.decode(row["image"])) / 255])
    return metrics.Detections.of_images(found)


def of_ours(folder: str, rows: Dataset, labels: Sequence[str]) -> metrics.Detections:
    """The boxes that `pipeline` makes with any threshold, before it cuts corners to whole pixels; the 100 surest.

    Raises:
        InputError: The model has other classes than the photos.
    """
    served: Any = pipeline("object-detection", model=folder, device="cpu")
    own = served.model.config.id2label
    if set(own.values()) != set(labels):
        raise InputError(
            f"--model {folder}", expected=f"the classes {', '.join(labels)}", found=", ".join(own.values()),
            fix="a folder that recipes/detect.py trained on these photos",
        )  # fmt: skip
    number = np.array([labels.index(own[place]) for place in range(len(own))])
    found = []
    with torch.no_grad():
        for row in tqdm(rows, desc="ours", mininterval=10):
            photo = images.decode(row["image"])
            outputs = served.model(**served.image_processor(images=photo, return_tensors="pt"))
            [boxes] = packed(
                served.image_processor.post_process_object_detection(
                    outputs, threshold=0.0, target_sizes=[(photo.height, photo.width)]
                )
            )
            kept = boxes[boxes[:, 4] >= 0].numpy()
            found.append({"boxes": kept[:, :4], "scores": kept[:, 4], "labels": number[kept[:, 5].astype(int)]})
    return metrics.Detections.of_images(found)


def training_seconds(folder: str | Path) -> float | None:
    """CPU seconds of the training of a run, and of those that it began with; None where a record is missing."""
    record = Path(folder) / "run.json"
    if not record.is_file():
        return None
    run = json.loads(record.read_text(encoding="utf-8"))
    seconds, start = run.get("training_cpu_seconds"), run["arguments"].get("model")
    if "backbone" in run["arguments"] or start is None or not Path(start).is_dir():
        return seconds
    before = training_seconds(start)
    return None if seconds is None or before is None else seconds + before


def paired(
    one: metrics.Detections, other: metrics.Detections, truth: metrics.Annotations, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The differences of AP and AP50 (one - other): the percentile bootstrap over photos, the same drawn for both.

    Returns:
        By figure `difference`, the ends of its 95 % interval `low` and `high`, and `p`: twice the share of the draws
        on the wrong side of 0, or at it.
    """
    weights = draw_rows(truth.n_images, DRAWS, 0)
    draws = [figures_of_draws(resample(said, truth, len(labels), weights), labels) for said in (one, other)]
    told = {}
    for name in ("map", "map_50"):
        gaps = draws[0][name] - draws[1][name]
        low, high = np.percentile(gaps[1:], [2.5, 97.5])
        wrong = min((gaps[1:] <= 0).sum(), (gaps[1:] >= 0).sum())
        p = min(1.0, 2 * (1 + wrong) / (1 + DRAWS))
        told[name] = {"difference": float(gaps[0]), "low": float(low), "high": float(high), "p": float(p)}
    return told


def table(rows: dict[str, dict[str, Any]], labels: Sequence[str]) -> str:
    """The figures of each net, then AP by class, as Markdown."""
    head = ["net", *(f"{shown} (95 %)" for shown in FIGURES.values()), "training, CPU s"]
    lines = [head, ["---"] * len(head)]
    for name, told in rows.items():
        figures = [f"{told[key]:.3f} ({in_words(told, key) or 'no interval'})" for key in FIGURES]
        seconds = told["training_cpu_seconds"]
        lines.append([name, *figures, "not known" if seconds is None else f"{seconds:.0f}"])
    lines += [[], ["AP by class", "boxes", *rows], ["---"] * (2 + len(rows))]
    first = next(iter(rows.values()))
    for label in labels:
        by_net = [told[f"ap/{label}"] for told in rows.values()]
        lines.append([label, str(first[f"n/{label}"]), *("-" if ap is None else f"{ap:.3f}" for ap in by_net)])
    return "\n".join(f"| {' | '.join(line)} |" if line else "" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Folder of photos with boxes: train, validation and test.")
    parser.add_argument(
        "--output_dir", required=True, type=Path, help="Folder for the peer's weights and the figures."
    )
    parser.add_argument("--model", help="Folder of a trained detector; without it the peer is measured alone.")
    parser.add_argument("--peer_weights", type=Path, help="The peer's weights of an earlier call: no training.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dataset, report = data.load(args.data, detect.COLUMNS)
    checks.check(dataset, report).raise_on_errors()
    dataset = checks.drop(dataset, report).cast_column("image", Image(decode=False))
    labels = data.box_labels(dataset)
    args.output_dir.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(args.seed)
    peer = build(len(labels))
    if args.peer_weights is None:
        start = time.process_time()
        train(peer, dataset["train"])
        seconds = time.process_time() - start
        noted = {"classes": json.dumps(labels), "seed": str(args.seed), "training_cpu_seconds": str(seconds)}
        args.peer_weights = args.output_dir / "model.safetensors"
        save_file({name: weight.contiguous() for name, weight in peer.state_dict().items()}, args.peer_weights, noted)
    with safe_open(args.peer_weights, "pt") as file:
        noted = file.metadata()
    if json.loads(noted["classes"]) != labels:
        raise InputError(
            f"--peer_weights {args.peer_weights}", expected=f"the classes {', '.join(labels)}",
            found=noted["classes"], fix="leave it out, to train the peer on these photos",
        )  # fmt: skip
    peer.load_state_dict(load_file(args.peer_weights))

    rows = dataset["validation"]
    seen = metrics.detection(of_peer(peer, rows), detect.annotations(rows), labels, n_resamples=0)
    print(f"FCOS on validation, where nothing was chosen: AP {seen['map']:.3f}, AP50 {seen['map_50']:.3f}", flush=True)
    rows = dataset["test"]
    truth = detect.annotations(rows)
    said = {"FCOS": of_peer(peer, rows)}
    # What is surer is never put down by what is less sure: this is the answer of `score_thresh=SERVED`.
    said[f"FCOS, scores above {SERVED}"] = said["FCOS"][said["FCOS"].score > SERVED]
    seconds_of: dict[str, Any] = dict.fromkeys(said, float(noted["training_cpu_seconds"]))
    if args.model:
        said = {"ours": of_ours(args.model, rows, labels)} | said
        seconds_of["ours"] = training_seconds(args.model)
    figured: dict[str, Any] = {
        name: metrics.detection(boxes, truth, labels, n_resamples=DRAWS) | {"training_cpu_seconds": seconds_of[name]}
        for name, boxes in said.items()
    }
    print(f"{args.data}, test split: {len(rows)} photos, {len(truth)} boxes; {DRAWS} draws\n")
    print(table(figured, labels))
    if args.model:
        figured["ours - FCOS"] = paired(said["ours"], said["FCOS"], truth, labels)
        print("\nours - FCOS, paired over photos:")
        for name, told in figured["ours - FCOS"].items():
            print("{}: {difference:+.3f} ({low:+.3f} to {high:+.3f}), p = {p:.2f}".format(FIGURES[name], **told))
    settings = {"data": args.data, "model": args.model, "peer_seed": int(noted["seed"])}
    path = args.output_dir / "street.json"
    path.write_text(json.dumps(settings | figured, indent=2) + "\n", encoding="utf-8")
    print(f"\nfigures: {path}; the peer: {args.peer_weights}")


if __name__ == "__main__":
    main()
