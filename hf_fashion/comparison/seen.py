"""Whether a model has learned from the photos that it is measured on, as far as the record of its run says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import hf_hub_download

from hf_fashion.cards.rules import repo_id
from hf_fashion.errors import InputError
from hf_fashion.report import Report


def seen(report: Report, model: str, revision: str | None) -> str | None:
    """What is to be said of a model that has learned from the photos; None when its record does not say so.

    Raises:
        InputError: Its run cut its own splits from just these photos: most of what would be measured it has learned.
    """
    path = record_of(model, revision)
    try:
        trained_on = json.loads(path.read_text(encoding="utf-8"))["dataset"] if path else {}
        same, cut = trained_on.get("pictures") == report.source["pictures"], trained_on.get("cut")
        within = _is_within(report.source, trained_on)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # a record of others, under the same name
        return None
    if same and cut:
        folder = path.parent if path and Path(model).expanduser().exists() else model
        raise InputError(
            f"--dataset {report.source['source']}",
            expected=f"photos that the model {model} has not seen",
            found="the source that it was trained on, whose test split was cut by that run",
            fix=f"read {folder}/eval_results.json, which has the figures of that test split; to lay runs side by side "
            "type hf-fashion compare RUN RUN; or name other photos",
        )
    if not same and not within:
        return None
    told = (
        f"{model} was trained on the training photos among these: its figures flatter."
        if same else f"{model} was trained on this very dataset: of its test split these are the figures of that run "
        "once more, and photos of its other splits it has learned."
    )  # fmt: skip
    report.add("warning", f"dataset {report.source['source']}", "", expected="photos that are new to it", found=told)
    return told


def _is_within(source: Mapping[str, Any], trained_on: Mapping[str, Any]) -> bool:
    """Whether the photos are the dataset of a run, or of a folder within it."""
    ours, theirs = str(source["source"]), str(trained_on["source"])
    if ours == theirs or "hub" in (source.get("kind"), trained_on.get("kind")):
        return ours == theirs
    return Path(theirs).is_dir() and Path(ours).resolve().is_relative_to(Path(theirs).resolve())


def record_of(model: str, revision: str | None) -> Path | None:
    """The run.json of a model, in its folder or in its repo on the Hub; None where there is none."""
    folder = Path(model).expanduser()
    if folder.exists():  # a checkpoint-<step> lies in the folder of its run
        return next((path for place in (folder, folder.parent) if (path := place / "run.json").is_file()), None)
    if repo_id(model) is not None or "/" not in model:
        return None
    try:
        return Path(hf_hub_download(model, "run.json", revision=revision))
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError):  # none there, or no way to the Hub
        return None
