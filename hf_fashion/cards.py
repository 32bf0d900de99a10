"""A run's folder -> a model card whose every number was measured in that run."""

import argparse
import contextlib
import html
import io
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from PIL import Image

from hf_fashion import record
from hf_fashion.errors import InputError

METADATA_METRICS = ("accuracy", "top_5_accuracy", "precision_macro", "recall_macro", "f1_macro")
# The Hub's own names for the kinds of metric; ours say more (macro, top 5).
METRIC_TYPES = {
    "accuracy": "accuracy", "top_5_accuracy": "accuracy", "precision_macro": "precision",
    "recall_macro": "recall", "f1_macro": "f1",
}  # fmt: skip
UNKNOWN = "unknown"


def write(
    run: record.Run,
    *,
    usage: Callable[[str, str], str],
    photo: Image.Image,
    photo_label: str,
    task: str = "image-classification",
    prose: str | Path | None = None,
) -> ModelCard:
    """Writes README.md into the run's folder: metadata with a model-index, figures, licences, executed usage.

    Args:
        run: A finished `record.write`.
        usage: (model, photo path) -> Python code; it is executed on `photo`, and its output is shown.
        photo: A picture of the test split.
        photo_label: Its true label.
        task: The Hub's name of the task.
        prose: A Markdown file for "Intended use and limits"; what the run itself can say stands there otherwise.
    """
    code = usage(run.folder.name, "photo.jpg")
    output = _execute(code, run.folder, photo)
    run.note(usage={"code": code, "output": output, "label": photo_label}, task=task)
    card = render(run, prose)
    card.save(run.folder / "README.md")
    return card


def render(
    run: record.Run, prose: str | Path | None = None, plots: str = "plots", command: str | None = None
) -> ModelCard:
    """The card of a folder that has all else.

    Args:
        run: The folder.
        prose: A Markdown file for "Intended use and limits".
        plots: Where the card's pictures lie, seen from the card.
        command: The command that rendered the card, when it was not the recipe.
    """
    info, results = run.info, run.results
    dataset, base = info["dataset"], info["base_model"]
    license_ = _result_license(info)
    metadata = ModelCardData(
        model_name=run.folder.name,
        license=license_ if license_ != UNKNOWN else UNKNOWN,
        library_name="transformers",
        pipeline_tag=info["task"],
        tags=["hf_fashion", "fashion", info["task"]],
        metrics=sorted({METRIC_TYPES[name] for name in METADATA_METRICS if name in results}),
        base_model=None if _from_scratch(info) else base.get("base_model"),
        base_model_relation="finetune" if base.get("base_model") and not _from_scratch(info) else None,
        datasets=[dataset["source"]] if dataset.get("kind") == "hub" else None,
        eval_results=list(_eval_results(info, results)),
    )
    text = _prose(prose)
    return ModelCard.from_template(
        metadata,
        template_path=str(Path(__file__).parent / "templates" / f"{info['recipe']}.md"),
        info=info,
        results=results,
        md=_markdown,
        fmt=lambda name, figures: _figure(name, figures),
        dataset_name=_dataset_name(dataset),
        base_name=_base_name(info),
        from_scratch=_from_scratch(info),
        headline=[name for name in record.HEADLINE if name in results],
        labels=info["labels"],
        license_chain={
            "photos": dataset.get("license") or UNKNOWN,
            "base model": "none: trained from random weights"
            if _from_scratch(info)
            else base.get("license") or UNKNOWN,
            "this model": license_,
        },
        prose=text,
        plots=plots,
        command=command,
    )


def main(argv: list[str] | None = None) -> None:
    """`hf-fashion card <run folder>`: renders its card again, or to another place with its plots beside it."""
    parser = argparse.ArgumentParser("hf-fashion card", description="Render the card of a run's folder again.")
    parser.add_argument("folder", help="A run's folder.")
    parser.add_argument("--prose", help="Markdown file with intended use and limits.")
    parser.add_argument("--to", help="Write the card here, and its plots into a folder beside it. Default: README.md.")
    args = parser.parse_args(argv)
    run = record.read(args.folder)
    if args.to is None:
        render(run, args.prose or run.info["arguments"].get("card_prose")).save(run.folder / "README.md")
        return
    target = Path(args.to)
    pictures = target.with_suffix("")
    shutil.copytree(run.folder / "plots", pictures, dirs_exist_ok=True)
    command = shlex.join(["hf-fashion", "card", *(sys.argv[2:] if argv is None else argv)])
    render(run, args.prose or run.info["arguments"].get("card_prose"), pictures.name, command).save(target)
    print(target)


def _execute(code: str, folder: Path, photo: Image.Image) -> str:
    """Runs the code where the folder and photo.jpg lie beside it, as it stands on the card; returns what it prints."""
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / folder.name).symlink_to(folder.resolve(), target_is_directory=True)
        photo.save(Path(place) / "photo.jpg", quality=95)
        with contextlib.chdir(place), contextlib.redirect_stdout(printed):
            exec(compile(code, "<the card's usage>", "exec"), {"__name__": "__usage__"})
    return printed.getvalue().strip()


def _eval_results(info: dict[str, Any], results: dict[str, Any]) -> Iterator[EvalResult]:
    dataset = info["dataset"]
    for name in METADATA_METRICS:
        if name in results:
            yield EvalResult(
                task_type=info["task"],
                dataset_type=dataset["source"] if dataset.get("kind") == "hub" else _dataset_name(dataset),
                dataset_name=_dataset_name(dataset),
                dataset_config=dataset.get("config"),
                dataset_split=results["split"],
                dataset_revision=dataset.get("revision"),
                metric_type=METRIC_TYPES[name],
                metric_name=name,
                metric_value=round(results[name], 4),
            )


def _result_license(info: dict[str, Any]) -> str:
    """What the user said; otherwise nothing is claimed, since a licence is given and not computed."""
    return info["arguments"].get("license") or UNKNOWN


def _from_scratch(info: dict[str, Any]) -> bool:
    return bool(info["arguments"].get("from_scratch"))


def _dataset_name(dataset: dict[str, Any]) -> str:
    return str(dataset.get("name") or Path(str(dataset["source"])).name or dataset["source"])


def _base_name(info: dict[str, Any]) -> str:
    return str(info["base_model"].get("name") or info["base_model"].get("id") or UNKNOWN)


def _prose(path: str | Path | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(
            f"--card_prose {path}", expected="a Markdown file", found=os.strerror(error.errno or 0),
            fix="the path of a text with intended use and limits, or leave it out",
        ) from error  # fmt: skip


def _figure(name: str, figures: dict[str, Any]) -> str:
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return f"{figures[name]:.3f} | {low:.3f} to {high:.3f}" if low is not None else f"{figures[name]:.3f} | "


def _markdown(text: Any) -> str:
    """Text of the user's (labels, paths) in a Markdown table or sentence: as text, never as markup."""
    escaped = html.escape(str(text), quote=False).replace("\n", " ").replace("\r", " ")
    for character in "\\`*_[]|~$":
        escaped = escaped.replace(character, "\\" + character)
    return escaped
