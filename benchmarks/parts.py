"""What each part of a training brings alone, on clothing-dataset-small: one setting changed, all else the same.

    python benchmarks/parts.py --data clothing --output parts.json          # every part, three seeds: two hours
    python benchmarks/parts.py --data clothing --output parts.json --parts "moving average" --seeds 42

`--data` is a folder with train, validation and test parquet files (github.com/alexeygrigorev/clothing-dataset-small,
CC0). Every run is a whole run of `recipes/classify.py` with the small Swin, in bf16. What is in `--output` is not run
again. Accuracies are means over seeds; a part's difference to the base is paired photo by photo and seed by seed: its
95 % interval is a bootstrap over photos and seeds, its p of a permutation over photos, corrected (Holm) for the number
of parts that are in `--output`: with `--parts`, or before all are run, these are fewer, and p is smaller than it will
be. A tie: p is not below 0.05, or the interval holds 0.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np

from hf_fashion import metrics
from hf_fashion.recipes import classify

BASE = ["--config", "classify-sample-clothing", "--bf16", "True", "--use_cpu", "True"]
PARTS = {
    "base": [],
    "no augmentation": ["--smallest_crop", "1", "--flip", "False"],
    "TrivialAugment": ["--augment", "trivialaugment"],
    "RandAugment": ["--augment", "randaugment"],
    "class weights": ["--class_weights", "balanced"],
    "head rate x 10": ["--head_learning_rate", "5e-3"],
    "160 px (base: 128)": ["--image_size", "160"],
    "moving average": ["--moving_average", "0.99"],
    "label smoothing": ["--label_smoothing_factor", "0.1"],
    "mixup and CutMix": ["--mixup", "0.2", "--cutmix", "1"],
    "full precision": ["--bf16", "False", "--precision", "full"],
    "weights at random": ["--from_scratch", "True"],
}
DRAWS = 10_000


def measure(data: str, part: str, seed: int) -> dict:
    """One run: its figures, and which test photos it got right, as a text of 0 and 1."""
    with tempfile.TemporaryDirectory() as folder:
        options = [*BASE, *PARTS[part], "--dataset", data, "--seed", str(seed), "--output_dir", f"{folder}/run"]
        run = classify.main(options)
        figures, rows = run.results, run.predictions
        test = [at for at, split in enumerate(rows["split"][:]) if split == "test"]
        rows = rows.select(test).sort("source_row")
        right = np.asarray(rows["label"][:]) == np.asarray(rows["prediction"][:])
        return {
            "part": part,
            "seed": seed,
            "accuracy": figures["accuracy"],
            "f1_macro": figures["f1_macro"],
            "validation": figures["validation"]["accuracy"],
            "cpu_seconds": run.info["training_cpu_seconds"],
            "right": "".join(map(str, right.astype(int))),
        }


def difference(one: np.ndarray, base: np.ndarray) -> dict[str, float]:
    """How much more often `one` is right than `base`, both (seeds, photos) of 0 and 1.

    Returns:
        `difference` with its interval `low` to `high`, and `p`.
    """
    gap = one - base
    seeds, photos = gap.shape
    generator = np.random.default_rng(0)
    drawn = [
        gap[generator.integers(seeds, size=seeds)][:, generator.integers(photos, size=photos)].mean()
        for _ in range(DRAWS)
    ]
    by_photo = gap.mean(axis=0)
    signs = generator.choice([-1, 1], size=(DRAWS, photos))
    extreme = np.abs((signs * by_photo).mean(axis=1)) >= abs(by_photo.mean()) - 1e-12
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"difference": gap.mean(), "low": low, "high": high, "p": (1 + extreme.sum()) / (1 + DRAWS)}


def table(runs: list[dict]) -> str:
    """Markdown, the best part first."""
    of: dict[str, list[dict]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        of.setdefault(run["part"], []).append(run)
    rights = {part: np.array([[int(bit) for bit in run["right"]] for run in found]) for part, found in of.items()}
    seeds = {part: [run["seed"] for run in found] for part, found in of.items()}
    compared = [part for part in of if part != "base" and seeds[part] == seeds.get("base")]
    gaps = {part: difference(rights[part], rights["base"]) for part in compared}
    corrected = dict(zip(compared, metrics.holm([gaps[part]["p"] for part in compared]), strict=True))
    lines = [
        "| part | test accuracy, by seed | mean | against the base, points (95 %) | p (Holm) | validation | macro F1 "
        "| CPU s |\n|---|---|---|---|---|---|---|---|"
    ]
    for part, found in sorted(of.items(), key=lambda item: -statistics.mean(run["accuracy"] for run in item[1])):
        mean = {
            name: statistics.mean(run[name] for run in found)
            for name in ("accuracy", "validation", "f1_macro", "cpu_seconds")
        }
        against, p = "", ""
        if part in gaps:
            points, low, high = (100 * gaps[part][name] for name in ("difference", "low", "high"))
            tie = corrected[part] >= 0.05 or low <= 0 <= high
            against = f"{points:+.1f} ({low:.1f} to {high:.1f}){', a tie' if tie else ''}"
            p = "< 0.001" if corrected[part] < 0.001 else f"{corrected[part]:.3f}"
        seeds_of = [f"{run['accuracy']:.3f}" for run in found]
        lines.append(
            f"| {part} | {' '.join(seeds_of)} | {mean['accuracy']:.3f} | {against} "
            f"| {p} | {mean['validation']:.3f} | {mean['f1_macro']:.3f} | {mean['cpu_seconds']:.0f} |"
        )
    left = len(PARTS) - 1 - len(compared)
    lines.append(
        f"\np is Holm's over the {len(compared)} parts that were run with the seeds of the base"
        + (f"; {left} more may follow, and p grows with them" if left else "")
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("HF_FASHION_DATA"), help="Folder; default $HF_FASHION_DATA.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--output", type=Path, required=True, help="JSON file: what is in it is not run again.")
    args = parser.parse_args()
    if args.data is None or not Path(args.data).is_dir():
        print("left out: needs --data, or HF_FASHION_DATA, with the clothing photos")
        return
    runs = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else []
    done = {(run["part"], run["seed"]) for run in runs}
    for part in args.parts:
        for seed in args.seeds:
            if (part, seed) not in done:
                runs.append(measure(args.data, part, seed))
                args.output.write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
    print("\n" + table(runs))


if __name__ == "__main__":
    main()
