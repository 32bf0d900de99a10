"""`.eval_results/*.yaml`: a run's figure for the leaderboard of a benchmark dataset on the Hub."""

import re
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from hf_fashion import record
from hf_fashion.cards.front_matter import Metadata, text_of, told
from hf_fashion.cards.metadata import FIGURES, figures, hub_dataset, one_line, slug
from hf_fashion.cards.rules import repo_id
from hf_fashion.errors import InputError

FOLDER = ".eval_results"
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Benchmark(NamedTuple):
    """A task of a benchmark dataset.

    Args:
        dataset: The dataset's id on the Hub, which must be registered there as a benchmark.
        task: The task's id in that dataset's eval.yaml.
    """

    dataset: str
    task: str = "default"


def benchmark_of(setting: str) -> Benchmark:
    """Reads `--benchmark_id`: DATASET or DATASET:TASK.

    Raises:
        InputError: It is neither.
    """
    dataset, _, task = setting.partition(":")
    reason = repo_id(dataset)
    if reason is not None or "/" not in dataset or ":" in setting and not task.strip():
        raise InputError(
            f"--benchmark_id {setting}", expected="the id of a dataset on the Hub, or that and :TASK of its eval.yaml",
            found=setting, fix="--benchmark_id USER/DATASET:TASK, or leave it out",
        )  # fmt: skip
    return Benchmark(dataset, task.strip() or "default")


def refuse_benchmark(setting: str | None, source: str | None = None) -> None:
    """Raises InputError unless a `--benchmark_id` can be read, and is of the dataset that will be measured.

    Args:
        setting: As typed, or None.
        source: `--dataset`; where it is another dataset of the Hub, the figure would be of other photos.
    """
    if setting is None:
        return
    wanted = benchmark_of(setting)
    if source is not None and "/" in source and repo_id(source) is None and not Path(source).exists():
        _refuse_other(wanted, source)


def _refuse_other(wanted: Benchmark, source: str) -> None:
    if source != wanted.dataset:
        raise InputError(
            f"--benchmark_id {wanted.dataset}", expected=f"the dataset that is measured, {source}",
            found=wanted.dataset, fix=f"--dataset {wanted.dataset}, or leave --benchmark_id out",
        )  # fmt: skip


def write(run: record.Run, setting: str, repo: str | None = None) -> Path:
    """Writes the run's headline figure as the Hub reads it for a leaderboard.

    Args:
        run: A folder that `record.write` made.
        setting: DATASET or DATASET:TASK.
        repo: The model's id on the Hub; the entry then links to the run's figures there.

    Returns:
        The file, `.eval_results/<dataset>.yaml`.

    Raises:
        InputError: The run measured another dataset of the Hub, or its headline figure is not defined.
    """
    wanted, info, results = benchmark_of(setting), run.info, run.results
    measured, name = hub_dataset(info["dataset"]), info["headline_metric"]
    if measured is not None:
        _refuse_other(wanted, measured)
    if results.get(name) is None:
        raise InputError(
            f"--benchmark_id {setting}", expected=f"a run with a figure of {name}", found="none",
            fix="leave --benchmark_id out",
        )  # fmt: skip
    revision = info["dataset"].get("revision")
    figure = figures(run).get(name) or FIGURES[name]
    entry = EvalResultEntry(
        dataset_id=wanted.dataset,
        task_id=wanted.task,
        value=round(results[name], 4),
        dataset_revision=revision if measured and _COMMIT.fullmatch(str(revision)) else None,
        date=str(info.get("finished") or info["started"])[:10],
        source_url=f"https://huggingface.co/{repo}/blob/main/eval_results.json" if repo else None,
        source_name="eval_results.json" if repo else None,
        notes=one_line(f"{figure.name}, {results['split']} split, n = {results['n']}"),
    )
    path = run.folder / FOLDER / f"{slug(wanted.dataset.replace('/', '--'))}.yaml"
    path.parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
    validate(text)
    path.write_text(text, encoding="utf-8")
    return path


def validate(file: str | Path) -> None:
    """Checks a file of `.eval_results` against its specification.

    Args:
        file: Its text, or its path.

    Raises:
        InputError: What is wrong, all of it: line, key, what is right, what to type.
    """
    is_text = isinstance(file, str) and ("\n" in file or not Path(file).is_file())
    path = None if is_text else Path(file)
    found = Metadata(str(file) if path is None else text_of(path), str(path or FOLDER), block=False)
    if not found.values:
        found.wrong((), "a list of results", told(found.values), "- dataset: {id: user/data, task_id: default}")
    for place, entry in found.mappings(example="dataset: {id: user/data, task_id: default}"):
        dataset = found.string(*place, "dataset", "id", needed=True, example="user/data")
        if dataset and (reason := repo_id(dataset)):
            found.wrong(
                (*place, "dataset", "id"), "the id of a dataset on the Hub", f"{dataset} ({reason})", "id: user/data"
            )
        found.string(*place, "dataset", "task_id", needed=True, example="default")
        found.string(*place, "dataset", "revision", example="a commit")
        if entry.get("value") is None or isinstance(entry["value"], (bool, dict, list)):
            found.wrong((*place, "value"), "a number", told(entry.get("value")), "value: 0.9")
        _date(found, (*place, "date"), entry.get("date"))
        source = entry.get("source")
        if source is not None:
            found.string(*place, "source", "url", needed=True, example="https://...")
    found.raise_on_errors()


def _date(found: Metadata, place: tuple[str | int, ...], value: Any) -> None:
    if value is None or isinstance(value, (date, datetime)):
        return
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        found.wrong(place, "a date, as 2026-11-24", told(value), 'date: "2026-11-24"')
