"""Cuts the sample photos out of the `clothing` folder (CC0; 2,608 train, 290 validation and 316 test photos).

    python hf_fashion/samples/make_photos.py --source clothing --output_dir hf_fashion/samples/photos

Each split is cut from the same split of the source, class by class in the source's own proportions, so nothing moves
between train, validation and test. JPEG bytes, features and file names are kept as they are.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIZES = {"train": 260, "validation": 60, "test": 80}
BYTES_LIMIT = 6_000_000
Row = tuple[str, int]


def shares(counts: np.ndarray, size: int) -> np.ndarray:
    """Splits `size` photos over classes in proportion to `counts` (largest remainder), at least one for each class."""
    exact = counts * size / counts.sum()
    chosen = np.maximum(np.floor(exact).astype(int), 1)
    for position in np.argsort(chosen - exact, kind="stable")[: size - chosen.sum()]:
        chosen[position] += 1
    return chosen


def neighbours(path: Path) -> dict[Row, set[Row]]:
    """Reads which rows look alike, from the source's list of candidate pairs."""
    near: dict[Row, set[Row]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            a, b = (line["split_a"], int(line["row_a"])), (line["split_b"], int(line["row_b"]))
            near.setdefault(a, set()).add(b)
            near.setdefault(b, set()).add(a)
    return near


def choose(
    split: str,
    labels: np.ndarray,
    size: int,
    near: dict[Row, set[Row]],
    taken: set[Row],
    rng: np.random.Generator,
) -> list[int]:
    """Draws rows of one split, and adds them to `taken`; a row that looks like a taken one is passed over."""
    classes, counts = np.unique(labels, return_counts=True)
    rows: list[int] = []
    for label, wanted in zip(classes, shares(counts, size), strict=True):
        free = int(wanted)
        for row in rng.permutation(np.flatnonzero(labels == label)).tolist():
            if free and not near.get((split, row), set()) & taken:
                taken.add((split, row))
                rows.append(row)
                free -= 1
        if free:
            raise ValueError(f"{split}: class {label} has too few rows that do not look alike")
    return sorted(rows)  # the source's rows are shuffled within a split already


def cut(source: Path, output_dir: Path, seed: int) -> dict[str, pa.Table]:
    """Writes `<split>.parquet` for each split, and gives the tables written."""
    near, taken, tables = neighbours(source / "near_duplicates.csv"), set[Row](), {}
    rng = np.random.default_rng(seed)
    output_dir.mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        table = pq.read_table(source / f"{split}.parquet", columns=["image", "label"])
        rows = choose(split, table["label"].to_numpy(), size, near, taken, rng)
        tables[split] = table.take(rows)
        pq.write_table(tables[split], output_dir / f"{split}.parquet")
    total = sum((output_dir / f"{split}.parquet").stat().st_size for split in SIZES)
    if total > BYTES_LIMIT:
        raise ValueError(f"the sample photos take {total} bytes, more than {BYTES_LIMIT}")
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the `clothing` folder")
    parser.add_argument("--output_dir", type=Path, required=True, help="where <split>.parquet is written")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    for split, table in cut(args.source, args.output_dir, args.seed).items():
        counts = np.bincount(table["label"].to_numpy()).tolist()
        print(f"{split}: {table.num_rows} photos, by class {counts}")


if __name__ == "__main__":
    main()
