"""What the top of a run's card says to the Hub: how the model is loaded, what it came from, its figures by task."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from hf_fashion import record
from hf_fashion.cards.licenses import UNKNOWN
from hf_fashion.cards.rules import repo_id
from hf_fashion.errors import printable

SAMPLE = "the sample photos of hf_fashion"
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Figure(NamedTuple):
    """How a figure of eval_results.json is called on a card.

    Args:
        type: The Hub's id of the metric.
        name: In sentences.
        args: What the metric was computed with.
    """

    type: str
    name: str
    args: dict[str, Any] | None = None


FIGURES = {
    "accuracy": Figure("accuracy", "Accuracy"),
    "top_5_accuracy": Figure("accuracy", "Top-5 accuracy", {"top_k": 5}),
    "map": Figure("mean_average_precision", "Mean average precision"),
    "precision_macro": Figure("precision", "Precision (macro)", {"average": "macro"}),
    "recall_macro": Figure("recall", "Recall (macro)", {"average": "macro"}),
    "f1_macro": Figure("f1", "F1 (macro)", {"average": "macro"}),
}


def figures(run: record.Run) -> dict[str, Figure]:
    """The run's headline figures that are defined, in their order; a task may name its own.

    `card_figures` of run.json (name -> type, name, args of `Figure`), from the task's `facts`, adds those of a task
    that is no classification: `{"map_50": {"type": "mean_average_precision", "name": "mAP at IoU 0.5"}}`.
    """
    own = {name: Figure(**told) for name, told in run.info.get("card_figures", {}).items()}
    known = {name: FIGURES[name] for name in record.HEADLINE if name in FIGURES} | own
    results = run.results
    return {name: figure for name, figure in known.items() if results.get(name) is not None}


def of_run(run: record.Run, repo: str | None = None, widget: bool = True) -> ModelCardData:
    """The metadata of a run's card.

    Args:
        run: A folder that `record.write` made.
        repo: The id that the model has, or will have, on the Hub.
        widget: Name the pictures of the folder `widget` as examples.
    """
    info = run.info
    dataset, base, arguments = info["dataset"], info["base_model"], info["arguments"]
    trained = info["recipe"] not in ("score", "compare")
    from_scratch = bool(arguments.get("from_scratch"))
    behind = [base, info.get("text_model") or {}] if trained and not from_scratch else []
    # A path of this machine, say, is none: the Hub refuses the whole push for it.
    origins = [id_ for told in behind if (id_ := told.get("base_model")) is not None and repo_id(id_) is None]
    origin = origins if len(origins) > 1 else next(iter(origins), None)
    on_hub = trained and hub_dataset(dataset) is not None
    told = figures(run)
    more: dict[str, Any] = {}
    if trained and widget and info.get("widget"):
        more["widget"] = info["widget"]
    if trained and (emissions := emissions_of(run.folder, from_scratch)):
        more["co2_eq_emissions"] = emissions
    return ModelCardData(
        model_name=repo.split("/")[-1] if repo else run.name,
        # A licence is given and not computed: what nobody said is unknown.
        license=arguments.get("license") or UNKNOWN,
        license_name=arguments.get("license_name"),
        license_link=arguments.get("license_link"),
        # What loads it, never hf_fashion: the Hub shows that library's working snippet. A timm net is saved by
        # transformers' TimmWrapper, under names of its own that timm does not read.
        library_name=info.get("library", "transformers") if trained else None,
        pipeline_tag=info["task"],
        tags=["hf_fashion", "fashion", info["task"]],
        metrics=sorted({figure.type for figure in told.values()}),
        base_model=origin,
        base_model_relation="finetune" if origin else None,
        datasets=[dataset["source"]] if on_hub else None,
        eval_results=list(_index(run, told)),
        **more,
    )


def _index(run: record.Run, told: Mapping[str, Figure]) -> Iterator[EvalResult]:
    info, results = run.info, run.results
    dataset = info["dataset"]
    name, revision = dataset_name(dataset), dataset.get("revision")
    for key, figure in told.items():
        yield EvalResult(
            task_type=info["task"],
            task_name=info["task"].replace("-", " ").title(),
            dataset_type=hub_dataset(dataset) or slug(name),
            dataset_name=name,
            dataset_config=one_line(dataset.get("config")),
            dataset_split=results["split"],
            dataset_revision=revision if isinstance(revision, str) and _COMMIT.fullmatch(revision) else None,
            metric_type=figure.type,
            metric_name=key,  # as eval_results.json calls it
            metric_value=round(results[key], 4),
            metric_args=figure.args,
        )


def hub_dataset(dataset: Mapping[str, Any]) -> str | None:
    """The Hub id of a run's dataset, None where it is not from the Hub."""
    source = dataset.get("source")
    return source if dataset.get("kind") == "hub" and repo_id(source) is None else None


def dataset_name(dataset: Mapping[str, Any]) -> str:
    """What a card calls a run's dataset; of a path the name alone."""
    if dataset.get("kind") == "sample":
        return SAMPLE
    source = str(dataset["source"])
    return str(one_line(source if dataset.get("kind") == "hub" else Path(source).resolve().name))


def slug(name: str) -> str:
    """A name as an id: the Hub refuses a model-index whose dataset type has blanks or signs in it."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")[:96] or "dataset"


def one_line(text: str | None) -> str | None:
    """Text without line ends, and with what cannot be printed written out."""
    return None if text is None else printable(" ".join(text.split()))


def emissions_of(folder: Path, from_scratch: bool = False) -> dict[str, Any] | None:
    """`co2_eq_emissions` as codecarbon measured them (`--report_to codecarbon` writes emissions.csv); else None.

    Args:
        folder: Of the run. A run that was resumed has a line for each part.
        from_scratch: The run began with random weights.

    Returns:
        Grams of CO2 equivalents, and where and on what; codecarbon writes kilograms.
    """
    path = folder / "emissions.csv"
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        grams = 1000 * sum(float(row["emissions"]) for row in rows)
    except (OSError, ValueError, KeyError, TypeError):  # another emissions.csv, or one half written
        return None
    if not rows or not 0 <= grams < float("inf"):
        return None
    last = rows[-1]
    place = ", ".join(part for part in (last.get("region"), last.get("country_name")) if part)
    hardware = ", ".join(part for part in (last.get("gpu_model"), last.get("cpu_model")) if part)
    told = {
        "emissions": round(grams, 4),
        "source": f"codecarbon {last.get('codecarbon_version') or ''}".strip(),
        "training_type": "pre-training" if from_scratch else "fine-tuning",
        "geographical_location": one_line(place) or None,
        "hardware_used": one_line(hardware) or None,
    }
    return {key: value for key, value in told.items() if value is not None}
