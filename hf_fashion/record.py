"""What a run leaves in its folder: written here, read by cards, score, plots and whatever comes later.

The folder holds the model and its processor as their library saves them, `run.json` (how it came about),
`eval_results.json` (metric -> value, with split, n and interval), `predictions.parquet`, `plots/` and `README.md`.
This module knows no trainer and no task: it takes objects with `save_pretrained`, plain dicts, a `Dataset`, figures.
"""

import contextlib
import importlib.metadata
import inspect
import itertools
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from datasets import Dataset
from filelock import FileLock, Timeout

from hf_fashion.errors import InputError, Interrupted, command, from_here, writing

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
HEADLINE = (
    "accuracy",
    "top_5_accuracy",
    "map",
    "map_50",
    "map_75",
    "mar_100",
    "recall_at_1",
    "recall_at_5",
    "recall_at_10",
    "map_at_r",
    "mrr",
    "ndcg_at_10",
    "precision_macro",
    "recall_macro",
    "f1_macro",
)


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


# Held while a run is going on, by the kernel: it ends with the process, however that ends. Where a disk has no such
# locks, `filelock` makes do with the file itself, and tells by the process in it whether it is stale.
LOCK = "run.lock"


def refuse_running(folder: str | Path) -> None:
    """Raises InputError while another process has a run in `folder`."""
    if (Path(folder) / LOCK).exists():
        _locked(folder).release()


def _locked(folder: str | Path) -> FileLock:
    lock = FileLock(Path(folder) / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"--output_dir {folder}", expected="a folder that no other run works in", found="one that is running",
            fix="wait for it, or end it; or another --output_dir",
        ) from error  # fmt: skip
    return lock


# Folder -> the run that is going on there, so that what meets the training can be noted by who has only its folder.
_RUNNING: dict[Path, "Run"] = {}


def note(folder: str | Path, **entries: Any) -> None:
    """Adds entries to the run.json of the run that is going on in `folder`, if one is."""
    run = _RUNNING.get(Path(folder).resolve())
    if run is not None:
        run.note(**entries)


class Run:
    """A run's folder and its `run.json`; as a context it notes how the run ended.

    As a context it also makes SIGTERM an `Interrupted` (the Trainer, while it trains, finishes its step first), and
    when it ends it lets go of the lock that `start` took.

    Attributes:
        folder: Where everything is.
        name: The folder's own name.
        info: The content of run.json.
    """

    def __init__(self, folder: str | Path, info: dict[str, Any], writes: bool = True) -> None:
        self.folder, self.info, self._writes = Path(folder), info, writes
        self.name = self.folder.resolve().name  # of `.` too
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()
        self._lock: FileLock | None = None
        self._takes_signal = False

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
        _RUNNING[self.folder.resolve()] = self
        main = threading.current_thread() is threading.main_thread()
        self._takes_signal = main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        if self._takes_signal:
            signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._takes_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _RUNNING.pop(self.folder.resolve(), None)
        ended: dict[str, Any] = {
            "status": "finished",
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - self._wall, 1),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 1),
        }
        if kind is not None:
            stopped = issubclass(kind, (KeyboardInterrupt, SystemExit))
            told = f"{error.what}: {error.found}" if isinstance(error, InputError) else str(error)
            ended |= {"status": "interrupted" if stopped else "failed", "error": f"{kind.__name__}: {told}".strip()}
            ended["error"] = ended["error"].splitlines()[0]
            if self._writes and _whole_checkpoints(self.folder):
                place = shlex.quote(str(self.folder))
                ended["go_on"] = f"{command(self.info['recipe'])} --output_dir {place} --resume_from_checkpoint last"
                print(f"\n{ended['status']}; to go on from the last checkpoint: {ended['go_on']}", file=sys.stderr)
        try:
            self.note(**ended)
        except OSError as full:  # a disk that is full must not hide what happened
            if kind is None:
                raise
            print(f"{self.folder / 'run.json'} could not be written: {full}", file=sys.stderr)
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):  # Windows: it is open
                os.unlink(self._lock.lock_file)
            self._lock.release()
            self._lock = None


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(f"{signal.Signals(number).name}: it was not through")


def _whole_checkpoints(folder: Path) -> bool:
    return any(path.name.split("-")[-1].isdigit() for path in folder.glob("checkpoint-*"))


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

    Raises:
        InputError: Another run is in the folder, or was; or the run that is resumed had other photos, and
            `arguments` do not have `force_resume`.
    """
    if resumed_from:
        before = _refuse_other_photos(resumed_from, dataset, forced=bool(arguments.get("force_resume")))
        if before and writes:
            print(f"forced: the run goes on with other photos or labels than it had ({before})")
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
    run = Run(folder, info, writes)
    if writes:
        Path(folder).mkdir(parents=True, exist_ok=True)
        run._lock = _locked(folder)
        if not resumed_from and (run.folder / "run.json").exists():  # made since the folder was looked at
            run._release()
            refuse_in_use(folder)
    run.note()
    return run


def _refuse_other_photos(checkpoint: str, dataset: Mapping[str, Any], forced: bool) -> str | None:
    """The fingerprint of the photos that the run had, if they were others, and that is forced."""
    stored = Path(checkpoint).parent / "run.json"
    before = _read_json(stored).get("dataset", {}).get("fingerprint") if stored.is_file() else None
    if before is None or before == dataset.get("fingerprint"):
        return None
    if not forced:
        raise InputError(
            "the run that is resumed", expected=f"its own photos and labels (fingerprint {before})",
            found=f"others ({dataset.get('fingerprint')}) in {dataset.get('source')}",
            fix="the photos as they were; or --force_resume True; or a new run with --model <that run's folder>",
        )  # fmt: skip
    return str(before)


def refuse_other_cut(
    model: str | Path, dataset: Mapping[str, Any], *, seed: int, validation_share: float, test_share: float
) -> None:
    """Stops a training that begins with the net of a run, and would be measured with photos which that run learned.

    Args:
        model: What it begins with; all but the folder of a run passes.
        dataset: `Report.to_dict()` of the photos.
        seed: Of the cut, as the two shares.
        validation_share: Of the photos, cut off for validation.
        test_share: Likewise for the test.

    Raises:
        InputError: The same photos, whose splits that run cut otherwise.
    """
    try:
        before = _read_json(Path(model).expanduser() / "run.json")
        cut, told = before["dataset"], before["arguments"]
        theirs = {
            "split_seed": told.get("split_seed", before["seed"]),
            "validation_share": told.get("validation_share", 0.15), "test_share": told.get("test_share", 0.15),
        }  # fmt: skip
        same = cut["pictures"] == dataset.get("pictures") and bool(cut.get("cut"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # no run, or a record of others
        return
    ours = {"split_seed": seed, "validation_share": validation_share, "test_share": test_share}
    odd = [name for name, value in ours.items() if same and theirs[name] != value]
    if odd:
        raise InputError(
            f"--model {model}", expected="the splits that its run cut from these photos, or it has learned the test",
            found=", ".join(f"--{name} {ours[name]} (there {theirs[name]})" for name in odd),
            fix=" ".join(f"--{name} {theirs[name]}" for name in odd),
        )  # fmt: skip


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
        processor: Saved beside it; None where the model saves its own, as an encoder does.
        history: The log of the training.
        reported: The split whose figures are the run's.
        **entries: More for run.json.
    """
    folder = run.folder
    others = {split: dict(figures) for split, figures in results.items() if split != reported}
    with writing(f"the results in {folder}"):
        if model is not None:
            cards = "create_model_card" in inspect.signature(model.save_pretrained).parameters
            model.save_pretrained(folder, **({"create_model_card": False} if cards else {}))  # ours comes later
            # A timm processor lies in the model's config.json; its own save_pretrained does nothing but warn.
            if processor is not None and type(processor).__name__ != "TimmWrapperImageProcessor":
                processor.save_pretrained(folder)
        figures = {"split": reported, "confidence": 0.95, **results[reported], **others}
        _write_json(folder / "eval_results.json", figures)
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
    """What was typed, with absolute paths of the working folder seen from there; of a resumed run, what was typed at
    first, since that repeats it."""
    stored = Path(folder) / "run.json"
    if resumed_from and stored.is_file():
        return str(_read_json(stored)["command"])
    return shlex.join([*command(recipe).split(), *from_here(argv)])


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
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
