"""Raw files of public datasets, one module each: what their makers publish -> a plain `DatasetDict`.

A user names one as `<module>:<folder>`, as in `--dataset fashion_mnist:/usr/share/datasets/fashion-mnist`. A module
holds

- a docstring: what the dataset is, its licence, counts, paper, and where each of these facts comes from
- `LICENSE`: id of the licence, "" when it is not known; `HOMEPAGE`: where to get the files
- `COUNTS`: split -> published number of rows
- `RAW`: globs which together tell a folder of these raw files; none when it can be read without the module
- `load(folder, report)`: checks every label, and gives columns of pictures, labels or boxes, and `source_row`

Nothing is downloaded.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from datasets import Dataset, DatasetDict

from hf_fashion.errors import InputError
from hf_fashion.objects import layout
from hf_fashion.report import Report, cell


def names() -> list[str]:
    """Lists the datasets: the modules of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def module(name: str) -> ModuleType:
    """Imports the module of one dataset."""
    return importlib.import_module(f"{__name__}.{name}")


def recognise(folder: Path) -> str | None:
    """Names the dataset whose raw files a folder holds; None when it is none that needs its module."""
    for name in names():
        patterns = module(name).RAW
        if patterns and all(any(folder.glob(pattern)) for pattern in patterns):
            return name
    return None


def find(folder: Path, wanted: Mapping[str, tuple[str, ...]], homepage: str) -> dict[str, Path]:
    """Finds files and folders of a dataset.

    Args:
        folder: Where the user says they are.
        wanted: Name of each -> the paths, relative to the folder, under which it is published; the first that is
            there counts.
        homepage: Is told in the error.

    Raises:
        InputError: Some are not there.
    """
    found = {
        name: path
        for name, paths in wanted.items()
        if (path := next((folder / path for path in paths if (folder / path).exists()), None)) is not None
    }
    missing = [paths[0] for name, paths in wanted.items() if name not in found]
    if missing:
        there = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else None
        raise InputError(
            f"folder {folder}",
            expected=", ".join(paths[0] for paths in wanted.values()),
            found="no such folder"
            if there is None
            else f"no {', '.join(missing)}; there is: {', '.join(there[:8]) or 'nothing'}"
            + f" and {len(there) - 8} more" * (len(there) > 8),
            fix=f"give the folder that holds them (from {homepage})",
        )
    return found


def tell_labels(rows: Dataset, published: Sequence[str], split: str, report: Report) -> None:
    """Warns of classes of boxes that are not the published ones: figures will not compare."""
    found = layout(rows.features).names or []
    if found != list(published):
        odd = sorted(set(found) ^ set(published))
        report.add(
            "warning", f"split {split}", "objects", expected=f"the {len(published)} published categories",
            found=f"{len(found)}; only in one of the two: {cell(', '.join(odd), 200)}" if odd else "another order",
            fix="nothing, if it is meant so",
        )  # fmt: skip


def finish(splits: Mapping[str, Dataset], published: Mapping[str, int], report: Report) -> DatasetDict:
    """Leaves empty splits out, and warns of counts that differ from the published ones: a subset is allowed.

    Raises:
        InputError: No row is left.
    """
    dataset = DatasetDict({name: rows for name, rows in splits.items() if len(rows)})
    if not dataset:
        report.raise_on_errors()
        raise InputError(
            f"dataset {report.source.get('source')}",
            expected="rows",
            found="none in any split",
            fix="check the files",
        )
    for name, count in published.items():
        rows = len(dataset.get(name, ()))
        if rows != count:
            report.add(
                "warning",
                f"split {name}",
                "",
                expected=f"{count} rows, as published",
                found=f"{rows}",
                fix="nothing, if a part is wanted; figures will not compare with published ones",
            )
    return dataset
