"""Fashion-MNIST: accuracy on its 10,000 test pictures within an hour on two cores.

    python benchmarks/fashion_mnist.py --data /usr/share/datasets/fashion-mnist --output fashion-mnist.json
    python benchmarks/fashion_mnist.py --data ... --output fashion-mnist.json --rows "ViT from random weights"

`--data` is a folder with the four idx files (Debian: `apt-get install dataset-fashion-mnist`). Every row is a whole
run of `recipes/classify.py`; the checkpoint is chosen on validation (5 % of the training pictures), and test is looked
at once. What is in `--output` is not run again.

Published: people 0.835, and 0.949 for a ResNet-18, 0.967 for a wide ResNet (README of zalandoresearch/fashion-mnist).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from transformers import (
    PreTrainedConfig,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from hf_fashion.recipes import classify

LITE0 = ["--config", "classify-efficientnet-lite0-fashion-mnist"]
COMMON = ["--smallest_crop", "0.7", "--validation_share", "0.05", "--per_device_eval_batch_size", "128"]
SMALL = [
    *COMMON, "--model", "sample", "--image_size", "128", "--weight_decay", "0.05",
    "--per_device_train_batch_size", "64",
]  # fmt: skip
# Nets for 28 pixels. Trained from nothing, a wider initialisation than transformers' 0.02 learns sooner.
SWIN = SwinConfig(
    image_size=28, patch_size=2, window_size=7, embed_dim=64, depths=[2, 4], num_heads=[2, 4], drop_path_rate=0.1,
    initializer_range=0.1,
)  # fmt: skip
VIT = ViTConfig(
    image_size=28, patch_size=4, hidden_size=192, num_hidden_layers=6, num_attention_heads=3, intermediate_size=768,
    initializer_range=0.1,
)  # fmt: skip
ALONE = [
    *COMMON, "--from_scratch", "True", "--learning_rate", "1e-3", "--weight_decay", "0.05",
    "--label_smoothing_factor", "0.1", "--per_device_train_batch_size", "128",
]  # fmt: skip
ROWS: dict[str, tuple[list[str], PreTrainedConfig | None]] = {
    "EfficientNet-Lite0, ImageNet weights": (LITE0, None),
    "small Swin, distilled weights": ([*SMALL, "--num_train_epochs", "3"], None),
    "Swin from random weights": ([*ALONE, "--num_train_epochs", "4"], SWIN),
    "ViT from random weights": ([*ALONE, "--num_train_epochs", "2"], VIT),
}


def save(config: PreTrainedConfig, folder: str) -> str:
    """A checkpoint of random weights, so that the recipe has a net of this shape to begin with."""
    kind = SwinForImageClassification if isinstance(config, SwinConfig) else ViTForImageClassification
    kind(config).save_pretrained(folder)
    side = {"height": config.image_size, "width": config.image_size}
    ViTImageProcessor(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    return folder


def measure(data: str, row: str) -> dict:
    options, config = ROWS[row]
    with tempfile.TemporaryDirectory() as folder:
        model = ["--model", save(config, f"{folder}/net")] if config else []
        clock = time.perf_counter(), time.process_time()
        run = classify.main(
            [*options, *model, "--dataset", f"fashion_mnist:{data}", "--output_dir", f"{folder}/run", "--seed", "42"]
        )
        return {
            "row": row,
            **{name: run.results[name] for name in ("n", "accuracy", "accuracy_low", "accuracy_high", "f1_macro")},
            "validation": run.results["validation"]["accuracy"],
            "wall_seconds": time.perf_counter() - clock[0],
            "cpu_seconds": time.process_time() - clock[1],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="Folder of the idx files.")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--output", type=Path, required=True, help="JSON file: what is in it is not run again.")
    args = parser.parse_args()
    if not Path(args.data).is_dir():
        print(f"left out: needs --data with the idx files; there is no {args.data}")
        return
    runs = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else []
    for row in args.rows:
        if row not in {run["row"] for run in runs}:
            runs.append(measure(args.data, row))
            args.output.write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
    print("\n| net | test accuracy (95 %) | validation | CPU min | wall min |\n|---|---|---|---|---|")
    for run in sorted(runs, key=lambda run: -run["accuracy"]):
        print(
            f"| {run['row']} | {run['accuracy']:.4f} ({run['accuracy_low']:.4f} to {run['accuracy_high']:.4f}) "
            f"| {run['validation']:.4f} | {run['cpu_seconds'] / 60:.0f} | {run['wall_seconds'] / 60:.0f} |"
        )


if __name__ == "__main__":
    main()
