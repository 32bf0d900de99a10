"""Clothing dataset, small: photos of single garments in ten classes, taken at home by volunteers and Tagias.com.

- Rows: train 3,068, validation 341, test 372 (files of the repository at commit 1196151).
- Licence: CC0-1.0 (its LICENSE file; the README says "can be freely used for any purpose").
- Paper: none. By Alexey Grigorev, 2020; the ten most frequent classes of github.com/alexeygrigorev/clothing-dataset.
- Files: a clone of the repository, `<split>/<class>/<name>.jpg`. It is a tree of class folders, which can be read
  without this module; the module knows the licence, checks the classes and the counts.
"""

from pathlib import Path

from datasets import ClassLabel, DatasetDict

from hf_fashion import folders, sources
from hf_fashion.report import Report

LICENSE = "cc0-1.0"
HOMEPAGE = "https://github.com/alexeygrigorev/clothing-dataset-small"
COUNTS = {"train": 3_068, "validation": 341, "test": 372}
RAW = ()
LABELS = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"]


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the class folders.

    Args:
        folder: Holds train, validation and test.
        report: Gets an error for each file that is no picture and each folder that is no class of the dataset, and a
            warning where a count differs from the published one.

    Returns:
        train, validation and test, with `image` (paths: nothing is copied), `label` (ClassLabel) and `source_row`
        (path relative to the folder).

    Raises:
        InputError: A split folder is missing, or the tree can be read in two ways.
    """
    sources.find(folder, {split: (split,) for split in COUNTS}, HOMEPAGE)
    splits = {}
    for split, rows in folders.read(folder, report).items():
        labels = rows["label"][:]
        for label in sorted(set(labels) - set(LABELS)):
            report.add(
                "error",
                f"{split}/{label}",
                "label",
                expected=f"one of {', '.join(LABELS)}",
                found=f"{labels.count(label)} pictures of {label!r}",
                fix="remove the folder; for classes of your own give the folder without `clothing:`",
            )
        known = [number for number, label in enumerate(labels) if label in LABELS]
        splits[split] = rows.select(known).cast_column("label", ClassLabel(names=LABELS))
    return sources.finish(splits, COUNTS, report)
