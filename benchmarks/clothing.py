"""Accuracy and CPU time on clothing-dataset-small, of each checkpoint that ships, by its config.

    python benchmarks/clothing.py --data clothing                        # every row, three seeds: hours
    python benchmarks/clothing.py --data clothing --rows frozen --seeds 42

`--data` is a folder with train, validation and test parquet files (github.com/alexeygrigorev/clothing-dataset-small,
CC0). Every row is a whole run of `recipes/classify.py`; the checkpoint is chosen on validation, and each test photo is
looked at once. The peer stands in the same table: a frozen backbone beside the fine-tune, random weights beside the
small net.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from hf_fashion.recipes import classify

LITE0 = ["--config", "classify-efficientnet-lite0-clothing"]
# Both of the small net's rows learn in bf16, which takes it half the time; all is measured in full precision.
SMALL = ["--config", "classify-sample-clothing", "--bf16", "True", "--use_cpu", "True"]
ROWS = {
    "frozen": [*LITE0, "--freeze", "backbone", "--learning_rate", "5e-3", "--num_train_epochs", "4"],
    "fine-tuned": LITE0,
    "fully fine-tuned": [*LITE0, "--freeze", "none", "--num_train_epochs", "3"],
    "small": SMALL,
    "small from scratch": [*SMALL, "--from_scratch", "True"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("HF_FASHION_DATA"), help="Folder; default $HF_FASHION_DATA.")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--output", help="JSON file for the figures.")
    args = parser.parse_args()
    if args.data is None or not Path(args.data).is_dir():
        print("left out: needs --data, or HF_FASHION_DATA, with the clothing photos")
        return
    table = {}
    for row in args.rows:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                run = classify.main(
                    [*ROWS[row], "--dataset", args.data, "--seed", str(seed), "--output_dir", f"{folder}/run"]
                )
                figures = run.results
                table.setdefault(row, []).append(
                    {
                        "seed": seed,
                        **{
                            name: figures[name]
                            for name in ("n", "accuracy", "accuracy_low", "accuracy_high", "f1_macro")
                        },
                        "validation": figures["validation"]["accuracy"],
                        **{name: run.info[name] for name in ("training_cpu_seconds", "cpu_seconds")},
                    }
                )
    print(f"\n{'row':<20} {'seeds':>5} {'test':>7} {'spread':>15} {'validation':>11} {'F1 macro':>9} {'CPU s':>7}   n")
    for row, runs in table.items():
        mean = {name: statistics.mean(run[name] for run in runs) for name in runs[0]}
        accuracies = [run["accuracy"] for run in runs]
        spread = f"{min(accuracies):.3f} to {max(accuracies):.3f}"
        print(
            f"{row:<20} {len(runs):>5} {mean['accuracy']:>7.3f} {spread:>15} {mean['validation']:>11.3f} "
            f"{mean['f1_macro']:>9.3f} {mean['cpu_seconds']:>7.0f}   {runs[0]['n']}"
        )
    if {"small", "small from scratch"} <= set(table):
        gain = statistics.mean(
            one["accuracy"] - two["accuracy"]
            for one, two in zip(table["small"], table["small from scratch"], strict=True)
        )
        print(f"small over from scratch: {100 * gain:+.1f} points, mean over seeds")
    if args.output:
        Path(args.output).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
