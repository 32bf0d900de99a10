"""`evaluate.Metric` modules over `hf_fashion.metrics`; `evaluate.load(path("<name>"))` loads one without a network."""

from pathlib import Path


def path(name: str) -> str:
    """The folder of a metric module, for `evaluate.load`."""
    folder = Path(__file__).parent / name
    if not (folder / f"{name}.py").is_file():
        there = sorted(
            child.name for child in Path(__file__).parent.iterdir() if (child / f"{child.name}.py").is_file()
        )
        raise ValueError(f"no metric module {name!r}; there are: {', '.join(there)}")
    return str(folder)
