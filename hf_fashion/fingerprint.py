"""A short text that names the content of a dataset: the same rows have the same, however they were cut into splits."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from hf_fashion.columns import is_list
from hf_fashion.objects import layout, read
from hf_fashion.splits import ORDER


def of(dataset: DatasetDict, columns: Sequence[str], has_boxes: bool = False) -> tuple[str, str]:
    """Names the content cheaply: labels, and name or length of each picture; the pixels are not read.

    Args:
        dataset: Canonical rows.
        columns: Those of labels.
        has_boxes: Whether there are canonical boxes.

    Returns:
        Of labels, boxes and pictures; of the pictures alone, which are the same whatever labels are read with them.
    """
    digest, of_pictures = hashlib.sha256(), hashlib.sha256()
    for split in ORDER:  # their names are not told: a source without splits may be read as train or as test
        rows = dataset.get(split, ())
        if not len(rows):
            continue
        for column in columns:
            many = is_list(rows.features[column])
            feature = rows.features[column].feature if many else rows.features[column]
            digest.update(f"{len(rows)} {list(feature.names)}".encode())
            if column == "label" and not many and None not in _values(rows, column):
                digest.update(np.asarray(_values(rows, column), dtype=int).astype("<i8").tobytes())
            else:
                digest.update(f"{column} {_values(rows, column)}".encode())
        if has_boxes:
            digest.update(f"{len(rows)} {layout(rows.features).names}".encode())
            for part in read(rows):  # that of numbers, which are the same whatever they are stored as
                numbers = np.concatenate([part.bbox, part.area[:, None], np.nan_to_num(part.crowd)[:, None]], axis=1)
                values = "\n".join(map(str, part.values))
                for held in (part.counts, part.code, numbers.astype("<f4")):
                    digest.update(np.ascontiguousarray(held).tobytes())
                digest.update(values.encode())
        stored = rows.data.column("image")
        lengths = pc.fill_null(pc.binary_length(pc.struct_field(stored, "bytes")), -1)
        paths = pc.fill_null(pc.struct_field(stored, "path"), "")
        for length, path in zip(lengths.to_pylist(), paths.to_pylist(), strict=True):
            if length < 0:
                length = os.path.getsize(path) if os.path.isfile(path) else -1
            picture = f"{length} {os.path.basename(path)}\n".encode()
            digest.update(picture)
            of_pictures.update(picture)
    return digest.hexdigest()[:16], of_pictures.hexdigest()[:16]


def _values(rows: Dataset, column: str) -> Any:
    return rows.with_format(None).select_columns([column])[:][column]
