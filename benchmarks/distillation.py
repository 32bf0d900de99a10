"""A small net with few labels: by itself, and taught by a larger one on the photos that nobody labelled.

    python benchmarks/distillation.py --data clothing                       # 260 labels, three seeds: hours
    python benchmarks/distillation.py --data clothing --labels 520 --seeds 42 --epochs 4

`--data` is a folder of photos with the splits train, validation and test. A drawn `--labels` of the training photos
keep their labels; the others lose them. The teacher is fine-tuned on the labels alone, so that nobody knows more than
these. The small net is fine-tuned on the same labels for as many steps as it takes when it is taught on all the
photos, and then taught; every training chooses its epoch on validation, and looks at each test photo once. Beside the
accuracies stands the difference on the same test photos, paired, with its 95 % interval (`metrics.paired`).
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import lines
import numpy as np
import pyarrow.parquet as pq
from datasets import ClassLabel, load_dataset

from hf_fashion import metrics
from hf_fashion.recipes import classify, distill

LARGE = ["--config", "classify-efficientnet-lite0-clothing"]
SMALL = ["--config", "classify-sample-clothing"]


def split(source: str, labels: int, seed: int, folder: Path) -> tuple[int, int]:
    """Writes `few` with so many labelled photos and the other splits whole, and `more` with the rest, unlabelled."""
    photos = load_dataset(source)
    column = photos["train"].features["label"]
    if not isinstance(column, ClassLabel):
        raise SystemExit(f"--data {source}: expected a `label` of classes, found {column}")
    parts = photos["train"].train_test_split(train_size=labels, seed=seed, stratify_by_column="label")
    (folder / "few").mkdir()
    (folder / "more").mkdir()
    parts["train"].to_parquet(folder / "few" / "train.parquet")
    for name in ("validation", "test"):
        photos[name].to_parquet(folder / "few" / f"{name}.parquet")
    parts["test"].select_columns(["image"]).to_parquet(folder / "more" / "train.parquet")
    return len(parts["train"]), len(parts["test"])


def right(folder: Path) -> np.ndarray:
    """Whether each test photo's label was told, in the order of the photos."""
    told = pq.read_table(folder / "predictions.parquet", columns=["split", "row", "label", "prediction"]).to_pandas()
    told = told[told.split == "test"].sort_values("row")
    return (told.label == told.prediction).to_numpy()


def measured(seed: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Three trainings of one draw of labels, and the differences between them on the test photos."""
    few, more = split(args.data, args.labels, seed, folder)
    base = ["--dataset", str(folder / "few"), "--seed", str(seed), "--disable_tqdm", "True"]
    alone = args.epochs * (few + more) // few
    taught = ["--student", "sample", "--teacher", str(folder / "teacher"), "--unlabelled", str(folder / "more")]
    rows = {
        "teacher": (classify, [*LARGE, "--num_train_epochs", str(args.teacher_epochs)]),
        "alone": (classify, [*SMALL, "--num_train_epochs", str(alone)]),
        "taught": (distill, [*SMALL, *taught, "--num_train_epochs", str(args.epochs)]),
    }
    told: dict[str, Any] = {"seed": seed, "labels": few, "unlabelled": more}
    for name, (recipe, words) in rows.items():
        run = recipe.main([*words, *base, "--output_dir", str(folder / name)])
        figures = ("n", "accuracy", "accuracy_low", "accuracy_high", "f1_macro")
        told[name] = {figure: run.results[figure] for figure in figures}
        told[name]["cpu_seconds"] = run.info["training_cpu_seconds"]
        print(f"seed {seed}, {name}: {told[name]}", file=sys.stderr, flush=True)
    told["gain"] = metrics.paired(right(folder / "taught"), right(folder / "alone"))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--labels", type=int, default=260)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--epochs", type=int, default=8, help="Over all photos; of the labelled ones as many steps.")
    parser.add_argument("--teacher_epochs", type=int, default=12, help="Over the labelled ones.")
    parser.add_argument("--json", type=Path, help="Write the figures here, too.")
    args = parser.parse_args()
    told = []
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            told.append(measured(seed, args, Path(folder)))
    first = told[0]
    print(f"\n{first['labels']} labels, {first['unlabelled']} photos without, {first['taught']['n']} test photos")
    print("\n| net | accuracy, mean over seeds | seeds | training, CPU s |\n|---|---|---|---|")
    for name in ("teacher", "alone", "taught"):
        of_seeds = [one[name]["accuracy"] for one in told]
        seconds = statistics.mean(one[name]["cpu_seconds"] for one in told)
        each = ", ".join(f"{value:.3f}" for value in of_seeds)
        print(f"| {name} | {statistics.mean(of_seeds):.3f} | {each} | {seconds:.0f} |")
    for one in told:
        gain = one["gain"]
        span = f"{100 * gain['difference_low']:+.1f} to {100 * gain['difference_high']:+.1f}"
        print(
            f"\nseed {one['seed']}: taught - alone {100 * gain['difference']:+.1f} points ({span}), p {gain['p']:.4f}"
        )
    if args.json:
        args.json.write_text(
            json.dumps({"machine": lines.machine(), "seeds": told}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
