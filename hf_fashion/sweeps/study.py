"""The folder of a sweep: its points and runs, what comes next, and what is said of them at the end."""

import contextlib
import csv
import importlib.metadata
import json
import os
import shlex
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from hf_fashion import plots, record
from hf_fashion.errors import InputError, command
from hf_fashion.report import cell
from hf_fashion.sweeps.asking import Asked, tokens


@dataclass(frozen=True)
class Job:
    """One run: a point with one seed.

    Attributes:
        trial: Number of the point.
        values: Setting -> value, as text.
        seed: The run's seed.
        folder: Where the run goes.
        number: Which run of the sweep this is, from 1.
        total: How many runs the sweep has when none fails.
    """

    trial: int
    values: dict[str, str]
    seed: int
    folder: str
    number: int
    total: int

    @property
    def tokens(self) -> list[str]:
        return [*tokens(self.values), "--seed", str(self.seed), "--output_dir", self.folder]

    def __str__(self) -> str:
        said = " ".join(tokens(self.values))
        return f"== run {self.number} of {self.total}, point {self.trial}: {said}, seed {self.seed}"


class Sweep:
    """The folder of a sweep; as a context it notes how the sweep ended, and keeps a second one out.

    In every process of a launch there is one; the first process alone reads and writes, and tells the others.

    Args:
        asked: The settings.
        seeds: The runs of each point.
        metric: What the points are compared by, on validation.
        greater: Whether more of it is better.

    Attributes:
        folder: Where everything is.
        info: The content of sweep.json.
        first: Whether this is the first process.
        is_new: Whether no run has ended yet.
        typed: The command that it began with.
    """

    def __init__(self, asked: Asked, *, seeds: Sequence[int], metric: str, greater: bool) -> None:
        self.asked, self.seeds, self.greater = asked, list(seeds), greater
        self.first, self.is_new = PartialState().is_main_process, True
        self.typed = f"{command('sweep')} {shlex.join(asked.argv)}"
        if not self.first:
            return
        self.folder = Path(asked.output_dir or record.claim_folder("sweep"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / "sweep.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"--output_dir {self.folder}", expected="a sweep that no other process works on",
                found="one that is running", fix="wait for it, or end it",
            ) from error  # fmt: skip
        path = self.folder / "sweep.json"
        self.info: dict[str, Any] = {
            "status": "running",
            "command": self.typed,
            "argv": asked.argv,
            "swept": [asdict(setting) for setting in asked.swept],
            "seeds": self.seeds,
            "metric": metric,
            "direction": "maximize" if greater else "minimize",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "trials": [],
        }
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            self.info = before | {"status": "running"}
            self.is_new = not any(entry["runs"] for entry in before["trials"])
        self._distributions = {setting.name: setting.distribution() for setting in asked.swept}
        self._study = self._open()
        self._write()

    def _open(self) -> Any:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        path = self.folder / "study.jsonl"
        if path.is_file():
            # A line that a kill or a full disk cut off would spoil the next one.
            content = path.read_bytes()
            if not content.endswith(b"\n"):
                os.truncate(path, content.rfind(b"\n") + 1)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))), study_name="sweep",
            direction="maximize" if self.greater else "minimize", load_if_exists=True,
        )  # fmt: skip
        for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            if trial.params.keys() != self._distributions.keys():  # killed while it was drawn
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if not self.asked.searches:
            # Not GridSampler: it shuffles, and with ask and tell it raises at the last point (its own docstring).
            there = [trial.user_attrs.get("point", trial.params) for trial in study.trials if self._is_whole(trial)]
            for point in self.asked.grid():
                if point not in there:
                    study.enqueue_trial(point, user_attrs={"point": point})
        return study

    def _is_whole(self, trial: Any) -> bool:
        """Not a point that was given up while it was drawn."""
        return trial.state.name == "WAITING" or trial.params.keys() == self._distributions.keys()

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.first:
            return
        interrupted = kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))
        self.info["status"] = "finished" if kind is None else "interrupted" if interrupted else "failed"
        self.info["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._write()
        if self.ranked:
            (self.folder / "plots").mkdir(exist_ok=True)
            self.figure().savefig(self.folder / "plots" / "sweep.png", dpi=130)
        self._lock.release()

    def next(self) -> Job | None:
        """The next run, the same in every process; None when all is done."""
        job = [self._next() if self.first else None]
        if PartialState().num_processes > 1:
            job = broadcast_object_list(job)
        return job[0]

    def _next(self) -> Job | None:
        import optuna

        points = self.asked.trials if self.asked.searches else len(self.asked.grid())
        while True:
            begun = [t for t in self._study.trials if t.state.name != "WAITING" and self._is_whole(t)]
            running = [t for t in begun if t.state.name == "RUNNING"]
            if running:
                number, params = running[0].number, running[0].params
            elif len(begun) < points:
                # Seeded point by point: a search that was interrupted proposes what an unbroken one does.
                self._study.sampler = optuna.samplers.TPESampler(seed=self.seeds[0] + len(begun))
                trial = self._study.ask(self._distributions)
                number, params = trial.number, trial.params
            else:
                return None
            entry = self._entry(number, params)
            done = [run["seed"] for run in entry["runs"]]
            missing = [seed for seed in self.seeds if seed not in done]
            if missing and entry["status"] == "running":
                folder = self.folder / f"trial-{number}" / f"seed-{missing[0]}"
                shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
                ended = sum(
                    len(t["runs"]) if t["status"] == "running" else len(self.seeds) for t in self.info["trials"]
                )
                total = points * len(self.seeds)
                return Job(number, entry["settings"], missing[0], str(folder), ended + 1, total)
            if entry["status"] == "failed":
                self._study.tell(number, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(number, entry["mean"])

    def _entry(self, number: int, params: Mapping[str, Any]) -> dict[str, Any]:
        trials: list[dict[str, Any]] = self.info["trials"]
        for entry in trials:
            if entry["trial"] == number:
                return entry
        settings = {name: str(params[name]) for name in self._distributions}
        trials.append({"trial": number, "settings": settings, "status": "running", "reason": None, "runs": []})
        return trials[-1]

    def tell(
        self,
        job: Job,
        *,
        value: float | None,
        cpu_seconds: float,
        metric: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Notes how a run ended, and removes its checkpoints.

        A point of which a run fails is failed, and its other seeds are not run: a mean over those that went well would
        flatter it.

        Args:
            job: From `next`.
            value: The metric on validation; None when the run failed.
            cpu_seconds: Of the whole run.
            metric: Its name, which may be another than was thought before the photos were seen.
            reason: Why it failed.
        """
        self.is_new = False
        if not self.first:
            return
        for checkpoint in Path(job.folder).glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
        entry = self._entry(job.trial, job.values)
        if metric is not None:
            self.info["metric"] = metric
        run: dict[str, Any] = {"seed": job.seed, "value": value, "cpu_seconds": round(cpu_seconds, 1)}
        run["folder"] = str(Path(job.folder).relative_to(self.folder))
        with contextlib.suppress(InputError):  # a run that failed early has no run.json
            info = record.read(job.folder).info
            run["commit"] = info["commit"]
            if "versions" not in self.info:
                versions = info["versions"] | {"optuna": importlib.metadata.version("optuna")}
                told = {name: info[name] for name in ("commit", "python", "device", "dataset", "base_model")}
                self.info |= {"versions": versions} | told
        entry["runs"].append(run)
        entry["cpu_seconds"] = round(sum(one["cpu_seconds"] for one in entry["runs"]), 1)
        if value is None:
            entry |= {"status": "failed", "reason": reason, "failed_seed": job.seed}
        elif len(entry["runs"]) == len(self.seeds):
            entry |= {"status": "finished", **_figures([one["value"] for one in entry["runs"]])}
        self._write()

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """The finished points, best first; of equal ones the earlier first."""
        finished = [entry for entry in self.info["trials"] if entry["status"] == "finished"]
        return sorted(finished, key=lambda entry: -entry["mean"] if self.greater else entry["mean"])

    def _write(self) -> None:
        ranked = self.ranked
        if ranked:
            self.info |= {"best": ranked[0]["trial"], "verdict": self.verdict(), "next": self.command()}
        beside = self.folder / "sweep.json.part"
        beside.write_text(
            json.dumps(self.info, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        os.replace(beside, self.folder / "sweep.json")
        others = [entry for entry in self.info["trials"] if entry["status"] != "finished"]
        names = list(self._distributions)
        figures = ["mean", "std", "min", "max", "n", "cpu_seconds"]
        with (self.folder / "sweep.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)

            def write(*cells: Any) -> None:
                rows.writerow([spreadsheet_cell(each) for each in cells])

            seeds = [f"{self.info['metric']}_seed_{seed}" for seed in self.seeds]
            write("trial", *names, *figures, *seeds, "status", "reason")
            for entry in [*ranked, *others]:
                by_seed = {run["seed"]: run["value"] for run in entry["runs"]}
                write(
                    entry["trial"], *(entry["settings"][name] for name in names),
                    *(entry.get(name) for name in figures), *(by_seed.get(seed) for seed in self.seeds),
                    entry["status"], entry["reason"],
                )  # fmt: skip

    def figure(self) -> Any:
        """The matplotlib figure: a panel a setting, mean and spread over the seeds of every point."""
        ranked = self.ranked
        return plots.sweep(
            {setting.name: setting.values for setting in self.asked.swept},
            [str(entry["trial"]) for entry in ranked],
            [entry["settings"] for entry in ranked],
            [[run["value"] for run in entry["runs"]] for entry in ranked],
            self.info["metric"],
            log={setting.name for setting in self.asked.swept if setting.log},
        )

    def table(self) -> str:
        """A line a finished point, best first; then what failed, and why."""
        ranked, names = self.ranked, list(self._distributions)
        shown = [[_short(entry["settings"][name]) for name in names] for entry in ranked]
        widths = [
            max(len(name), *(len(row[column]) for row in shown), 0) if shown else len(name)
            for column, name in enumerate(names)
        ]
        metric = self.info["metric"]
        head = "  ".join(f"{name:<{width}}" for name, width in zip(names, widths, strict=True))
        lines = [f"point  {head}  {metric:>8}  {'std':>6}  {'min to max':<14}  seeds   CPU s   (validation)"]
        for entry, row in zip(ranked, shown, strict=True):
            cells = "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
            std = "" if entry["std"] is None else f"{entry['std']:.4f}"
            span = f"{entry['min']:.3f} to {entry['max']:.3f}" if entry["n"] > 1 else ""
            lines.append(
                f"{entry['trial']:>5}  {cells}  {entry['mean']:>{max(8, len(metric))}.4f}  {std:>6}  {span:<14}  "
                f"{entry['n']:>5}  {entry['cpu_seconds']:>6.0f}"
            )
        for entry in self.info["trials"]:
            said = " ".join(tokens(entry["settings"]))
            if entry["status"] == "failed":
                lines.append(
                    f"{entry['trial']:>5}  failed with seed {entry['failed_seed']}: {said}: {entry['reason']}"
                )
            elif entry["status"] == "running":
                lines.append(
                    f"{entry['trial']:>5}  not finished, {len(entry['runs'])} of {len(self.seeds)} runs: {said}"
                )
        return "\n".join(lines)

    def verdict(self) -> str:
        """Whether the best point is better than the next by more than the seeds alone make."""
        best, *rest = self.ranked
        metric = self.info["metric"]
        if not rest:
            return f"Only point {best['trial']} has finished: there is nothing to compare it with."
        gap = abs(best["mean"] - rest[0]["mean"])
        said = f"Point {best['trial']} is ahead of point {rest[0]['trial']} by {gap:.4f} ({metric}, validation)"
        if best["std"] is None:
            return f"{said}; with one seed a point it is not known how much of that is chance: --seeds 42 43 44 tells."
        spread = max(best["std"], rest[0]["std"])
        tied = [entry for entry in rest if abs(best["mean"] - entry["mean"]) <= max(best["std"], entry["std"])]
        if gap <= spread:
            also = f" Within the spread of the best: points {', '.join(str(entry['trial']) for entry in tied)}."
            tie = f"{said}, no more than the standard deviation over seeds, {spread:.4f}: a tie."
            return tie + also * (len(tied) > 1)
        return f"{said}, more than the standard deviation over seeds, {spread:.4f}."

    def command(self) -> str:
        """What trains the best point for real, and measures it once on the test split."""
        best = self.ranked[0]
        chosen = [*self.asked.rest, *tokens(best["settings"]), "--seed", str(self.seeds[0])]
        return f"{command('classify')} {shlex.join(chosen)}"

    def resume_command(self) -> str:
        return f"{command('sweep')} --output_dir {shlex.quote(str(self.folder))} --resume"

    def summary(self) -> str:
        """What a sweep ends with: the table, the verdict, what to type next."""
        lines = [self.table(), ""]
        if self.ranked:
            lines += [self.verdict(), ""]
        lines.append(f"folder: {self.folder} (sweep.json, sweep.csv, plots/sweep.png; checkpoints were removed)")
        if self.info["status"] != "finished":
            return "\n".join([*lines, f"{self.info['status']}; to go on: {self.resume_command()}"])
        if self.ranked:
            lines += [
                f"next:   train the best and measure it, once, on test (here it is the best of {len(self.ranked)}, and"
                f" looks better than it is):\n        {self.command()}"
            ]
        return "\n".join(lines)


def _figures(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def spreadsheet_cell(value: Any) -> Any:
    """A cell of a CSV file that a spreadsheet shows and does not run: text that begins as a formula gets an apostrophe
    (OWASP, "CSV Injection"); numbers stay as they are."""
    if not isinstance(value, str) or not value.lstrip().startswith(("=", "+", "-", "@")):
        return value
    with contextlib.suppress(ValueError):
        float(value)
        return value
    return "'" + value


def _short(value: str) -> str:
    """A value that Optuna drew has 17 digits; the table shows four."""
    if len(value) > 8:
        with contextlib.suppress(ValueError):
            return f"{float(value):.4g}"
    return cell(value, 32)
