"""`evaluate.Metric` modules over `hf_fashion.metrics`; `evaluate.load(path("<name>"))` loads one without a network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_fashion import record


def path(name: str) -> str:
    """The folder of a metric module, for `evaluate.load`."""
    folder = Path(__file__).parent / name
    if not (folder / f"{name}.py").is_file():
        there = sorted(
            child.name for child in Path(__file__).parent.iterdir() if (child / f"{child.name}.py").is_file()
        )
        raise ValueError(f"no metric module {name!r}; there are: {', '.join(there)}")
    return str(folder)


def by_split(
    name: str, predictions: Dataset, inputs: Callable[[Dataset], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Split -> what the module computes of its rows.

    Args:
        name: Of the module.
        predictions: Rows with a `split` column.
        inputs: Rows of one split -> the arguments of the module's `compute`.
    """
    import evaluate  # takes seconds, and only the end of a run needs it

    module = evaluate.load(path(name))
    splits = dict.fromkeys(predictions["split"])
    return {split: module.compute(**inputs(record.of_split(predictions, split))) for split in splits}
