"""How often the 95 % interval of macro F1 holds the true value, by simulation: the quality gate of `metrics`.

    python benchmarks/interval_coverage.py                # the cases that the docstring of metrics quotes: 10 minutes

A classifier is made up that is right with a probability of its own for each class, in a long tail of classes; the true
macro F1 is that of 400,000 rows. The peer is the plain percentile bootstrap, of the same draws.
"""

import argparse

import numpy as np
from sklearn.metrics import f1_score
from tqdm.auto import tqdm

from hf_fashion import metrics

# Rows, classes, mean accuracy of a class, exponent of the tail (class k has a share of 1 / k ** exponent).
CASES = [(80, 10, 0.8, 0.5), (268, 40, 0.7, 1.0), (268, 40, 0.5, 1.0), (316, 10, 0.9, 0.3), (1000, 100, 0.7, 1.0)]
MANY = 400_000


def percentile(predictions: np.ndarray, references: np.ndarray, classes: int, draws: int) -> tuple[float, float]:
    """The plain bootstrap of macro F1: each draw's mean over the classes that occur in it."""
    rows = len(references)
    weights = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), draws)
    true, said = np.eye(classes)[references], np.eye(classes)[predictions]
    occurs = weights @ true + weights @ said
    f1 = np.where(occurs > 0, 2 * (weights @ (true * said)) / np.maximum(occurs, 1), np.nan)
    low, high = np.nanpercentile(np.nanmean(f1, axis=1), [2.5, 97.5])
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--draws", type=int, default=1000, help="Of each bootstrap.")
    args = parser.parse_args()
    print("| rows | classes | true macro F1 | plain: holds it | width | ours: holds it | width |")
    print("|---|---|---|---|---|---|---|")
    generator = np.random.default_rng(0)
    for rows, classes, accuracy, tail in CASES:
        share = 1 / np.arange(1, classes + 1) ** tail
        share /= share.sum()
        of_class = np.clip(generator.normal(accuracy, 0.15, classes), 0.05, 1)

        def draw(n: int, share: np.ndarray = share, of_class: np.ndarray = of_class) -> tuple[np.ndarray, np.ndarray]:
            references = generator.choice(len(share), n, p=share)
            right = generator.random(n) < of_class[references]
            return np.where(right, references, generator.choice(len(share), n, p=share)), references

        predictions, references = draw(MANY)
        true = f1_score(references, predictions, average="macro")
        held, width = np.zeros(2), np.zeros(2)
        for _ in tqdm(range(args.repetitions), desc=f"{rows} rows, {classes} classes", leave=False):
            predictions, references = draw(rows)
            figures = metrics.classification(
                np.eye(classes)[predictions], references, [str(k) for k in range(classes)], n_resamples=args.draws
            )
            both = (
                percentile(predictions, references, classes, args.draws),
                (figures["f1_macro_low"], figures["f1_macro_high"]),
            )
            for which, (low, high) in enumerate(both):
                held[which] += low <= true <= high
                width[which] += high - low
        held, width = held / args.repetitions, width / args.repetitions
        print(
            f"| {rows} | {classes} | {true:.3f} | {held[0]:.2f} | {width[0]:.3f} | {held[1]:.2f} | {width[1]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
