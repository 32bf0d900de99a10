"""What a run leaves in its folder: written here, read by cards, score, plots and whatever comes later.

The folder holds the model and its processor as their library saves them, `run.json` (how it came about),
`eval_results.json` (metric -> value, with split, n and interval), `predictions.parquet`, `plots/` and `README.md`.
This module knows no trainer and no task: it takes objects with `save_pretrained`, plain dicts, a `Dataset`, figures.
"""

import importlib.metadata
import itertools
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from datasets import Dataset

from hf_fashion.errors import InputError

VERSIONS_OF = (
    "hf_fashion",
    "transformers",
    "datasets",
    "accelerate",
    "evaluate",
    "timm",
    "torch",
    "torchvision",
    "pillow",
)
HEADLINE = ("accuracy", "top_5_accuracy", "map", "precision_macro", "recall_macro", "f1_macro")


def new_folder(stem: str, parent: str | Path = "runs") -> str:
    """The first `<parent>/<stem>-<date>-<n>` that is not there yet; it is not made."""
    day = f"{Path(parent) / stem}-{datetime.now():%Y-%m-%d}"
    return next(name for n in itertools.count(1) if not os.path.lexists(name := f"{day}-{n}"))


def claim_folder(stem: str, parent: str | Path = "runs") -> str:
    """Makes the first folder that `new_folder` names and no other process makes first."""
    while True:
        folder = new_folder(stem, parent)
        Path(parent).mkdir(parents=True, exist_ok=True)
        try:
            Path(folder).mkdir()
        except FileExistsError:
            continue
        return folder


def refuse_in_use(folder: str | Path) -> None:
    """Raises InputError unless `folder` is missing or an empty folder."""
    path = Path(folder)
    if path.is_dir() and not any(path.iterdir()):
        return
    if os.path.lexists(path):
        resume = "; or go on with that run: --resume_from_checkpoint last" if any(path.glob("checkpoint-*")) else ""
        raise InputError(
            f"--output_dir {folder}",
            expected="a new or empty folder",
            found="a folder with files in it" if path.is_dir() else "a file",
            fix=f"another --output_dir{resume}",
        )


class Run:
    """A run's folder and its `run.json`; as a context it notes how the run ended.

    Attributes:
        folder: Where everything is.
        name: The folder's own name.
        info: The content of run.json.
    """

    def __init__(self, folder: str | Path, info: dict[str, Any], writes: bool = True) -> None:
        self.folder, self.info, self._writes = Path(folder), info, writes
        self.name = self.folder.resolve().name  # of `.` too
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    @property
    def results(self) -> dict[str, Any]:
        """The content of eval_results.json."""
        return _read_json(self.folder / "eval_results.json")

    @property
    def predictions(self) -> Dataset:
        """predictions.parquet, memory-mapped, with its features."""
        return Dataset.from_parquet(str(self.folder / "predictions.parquet"))

    def note(self, **entries: Any) -> None:
        """Adds entries to run.json, in one replacement of the file."""
        self.info |= entries
        if self._writes:
            _write_json(self.folder / "run.json", self.info)

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            status = "finished"
        else:
            status = "interrupted" if kind in (KeyboardInterrupt, SystemExit) else "failed"
            self.info["error"] = f"{kind.__name__}: {error}".splitlines()[0]
            if self._writes and any(self.folder.glob("checkpoint-*")):
                go_on = f"--output_dir {shlex.quote(str(self.folder))} --resume_from_checkpoint last"
                print(f"\n{status}; to go on from the last checkpoint: {go_on}", file=sys.stderr)
        self.note(
            status=status,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_seconds=round(time.perf_counter() - self._wall, 1),
            cpu_seconds=round(_cpu_seconds() - self._cpu, 1),
        )


def start(
    folder: str | Path,
    recipe: str,
    *,
    arguments: Mapping[str, Any],
    argv: list[str],
    seed: int,
    dataset: Mapping[str, Any],
    base_model: Mapping[str, Any],
    device: str,
    writes: bool = True,
    resumed_from: str | None = None,
) -> Run:
    """Makes the folder and its run.json with the status "running".

    Args:
        folder: New or empty, or the folder of the run that is resumed.
        recipe: The recipe's stem.
        arguments: The settings that differ from their defaults: `--config <folder>/run.json` repeats the run.
        argv: The tokens as typed.
        seed: The run's seed.
        dataset: Source, kind, revision, fingerprint, license, split sizes, rows left out (`Report.to_dict()`).
        base_model: id, revision, license, and what else is known of it (`backbones.describe`).
        device: In words.
        writes: False in all processes but the first.
        resumed_from: The checkpoint, when the run goes on from one.
    """
    info = {
        "status": "running",
        "recipe": recipe,
        "command": _command(folder, recipe, argv, resumed_from),
        "arguments": dict(arguments),
        "seed": seed,
        "dataset": dict(dataset),
        "base_model": dict(base_model),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS_OF},
        "python": platform.python_version(),
        "commit": _commit(),
        "device": device,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "resumed_from": resumed_from,
    }
    if writes:
        Path(folder).mkdir(parents=True, exist_ok=True)
    run = Run(folder, info, writes)
    run.note()
    return run


def write(
    run: Run,
    *,
    results: Mapping[str, Mapping[str, Any]],
    predictions: Dataset,
    plots: Mapping[str, Any],
    model: Any = None,
    processor: Any = None,
    history: list[dict[str, Any]] | None = None,
    reported: str = "test",
    **entries: Any,
) -> Run:
    """Writes all but the card.

    Args:
        run: From `start`.
        results: Split -> flat dict of figures; the `reported` split's stand at the top of eval_results.json.
        predictions: A row a photo, with a `split` column.
        plots: Name -> matplotlib figure.
        model: Saved as its library does, safetensors only; None when nothing was trained.
        processor: Saved beside it.
        history: The log of the training.
        reported: The split whose figures are the run's.
        **entries: More for run.json.
    """
    folder = run.folder
    if model is not None:
        model.save_pretrained(folder)
        # A timm processor lies in the model's config.json; its own save_pretrained does nothing but warn.
        if type(processor).__name__ != "TimmWrapperImageProcessor":
            processor.save_pretrained(folder)
    others = {split: dict(figures) for split, figures in results.items() if split != reported}
    _write_json(folder / "eval_results.json", {"split": reported, "confidence": 0.95, **results[reported], **others})
    predictions.to_parquet(folder / "predictions.parquet")
    (folder / "plots").mkdir(exist_ok=True)
    for name, figure in plots.items():
        figure.savefig(folder / "plots" / f"{name}.png", dpi=130)
    run.note(history=history or [], plots=sorted(plots), **entries)
    return run


def of_split(predictions: Dataset, split: str) -> Dataset:
    """The rows of predictions.parquet that are of one split."""
    return predictions.select([row for row, name in enumerate(predictions["split"]) if name == split])


def read(folder: str | Path) -> Run:
    """The run that left `folder`.

    Raises:
        InputError: There is no run.json.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise InputError(
            str(folder), expected="the folder of a run, with a run.json", found="no run.json",
            fix="the path that a recipe printed at its end, as runs/classify-<date>-<n>",
        )  # fmt: skip
    return Run(folder, _read_json(path))


def summary(run: Run) -> str:
    """The table that a recipe ends with: metric, value, 95 % interval, n."""
    results = run.results
    lines = [f"{'metric':<18} {'value':>7}   {'95 % interval':<16} {'n':>6}   ({results['split']})"]
    for name in HEADLINE:
        if results.get(name) is not None:
            low, high = results.get(f"{name}_low"), results.get(f"{name}_high")
            interval = f"{low:.3f} to {high:.3f}" if low is not None else ""
            lines.append(f"{name:<18} {results[name]:>7.3f}   {interval:<16} {results['n']:>6}")
    return "\n".join(lines)


def _command(folder: str | Path, recipe: str, argv: list[str], resumed_from: str | None) -> str:
    """What was typed; of a resumed run, what was typed at first, since that repeats it."""
    stored = Path(folder) / "run.json"
    if resumed_from and stored.is_file():
        return str(_read_json(stored)["command"])
    return shlex.join(["accelerate", "launch", f"recipes/{recipe}.py", *argv])


def _cpu_seconds() -> float:
    """CPU seconds of this process and of the workers that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _commit() -> str | None:
    """Commit of the checkout that this package runs from, with `-dirty` after changes; None when installed."""
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # no git, no commit yet
        return None
    return described if re.fullmatch(r"[0-9a-f]{40}(-dirty)?", described) else None


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    # Beside it first, then moved: who reads it meanwhile, or after a crash, finds the old or the new one whole.
    beside = path.with_suffix(".json.part")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, path)
