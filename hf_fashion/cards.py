"""A run's folder -> a model card whose every number was measured in that run."""

import argparse
import contextlib
import html
import io
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from PIL import Image

from hf_fashion import record
from hf_fashion.errors import InputError

# The Hub's own names for the kinds of metric; ours say more (macro, top 5).
METRIC_TYPES = {
    "accuracy": "accuracy",
    "top_5_accuracy": "accuracy",
    "map": "mean_average_precision",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "f1_macro": "f1",
}
HEADLINES = {"accuracy": "accuracy", "map": "mean average precision"}
LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # as all ids of the Hub's list are
ROWS_SHOWN = 40  # classes in a card's table
UNKNOWN = "unknown"


def write(
    run: record.Run,
    *,
    usage: Callable[[str, str], str] | None = None,
    photo: Image.Image | None = None,
    photo_label: str | None = None,
    task: str = "image-classification",
    prose: str | Path | None = None,
) -> ModelCard:
    """Writes README.md into the run's folder: metadata with a model-index, figures, licences, executed usage.

    Args:
        run: A finished `record.write`.
        usage: (model, photo path) -> Python code; it is executed on `photo`, and its output is shown. None for a run
            that only measured.
        photo: A picture of the test split.
        photo_label: Its true label.
        task: The Hub's name of the task.
        prose: A Markdown file for "Intended use and limits"; what the run itself can say stands there otherwise.
    """
    run.note(task=task)
    if usage is not None and photo is not None:
        # As a reader in the folder where the run was started would name it; of an absolute path only the name.
        relative = not run.folder.is_absolute() and ".." not in run.folder.parts and run.folder.name
        model = run.folder.as_posix() if relative else run.name
        code = usage(model, "photo.jpg")
        run.note(usage={"code": code, "output": _execute(code, run, model, photo), "label": photo_label})
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
    dataset, base, labels = info["dataset"], info["base_model"], info["labels"]
    from_scratch = bool(info["arguments"].get("from_scratch"))
    # A licence is given and not computed: what nobody said is unknown.
    license_ = info["arguments"].get("license") or UNKNOWN
    metadata = ModelCardData(
        model_name=run.name,
        license=license_,
        library_name="transformers",
        pipeline_tag=info["task"],
        tags=["hf_fashion", "fashion", info["task"]],
        metrics=sorted({METRIC_TYPES[name] for name in record.HEADLINE if name in results}),
        base_model=None if from_scratch else base.get("base_model"),
        base_model_relation="finetune" if base.get("base_model") and not from_scratch else None,
        datasets=[_dataset_name(dataset)] if dataset.get("kind") == "hub" else None,
        eval_results=list(_eval_results(info, results)),
    )
    folder = Path(__file__).parent / "templates"
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), keep_trailing_newline=True).get_template(
        f"{info['recipe']}.md"
    )
    weakest = sorted(labels, key=lambda label: (results[f"f1/{label}"] is None, results[f"f1/{label}"] or 0.0))
    shown = set(weakest[:ROWS_SHOWN])
    usage, shown_command = info.get("usage", {}), _without_folders(info["command"])
    fenced = [usage.get("output", ""), usage.get("code", ""), shown_command, command or ""]
    return ModelCard(
        template.render(
            card_data=metadata.to_yaml(),
            info=info,
            results=results,
            labels=labels,
            table_labels=[label for label in labels if label in shown],
            headline=[name for name in record.HEADLINE if results.get(name) is not None],
            license_chain={
                "photos": dataset.get("license") or UNKNOWN,
                "base model": "none: random weights" if from_scratch else base.get("license") or UNKNOWN,
                "this model": license_,
            },
            dataset_name=_dataset_name(dataset),
            base_name=base["name"],
            from_scratch=from_scratch,
            prose=_prose(prose),
            plots=plots,
            shown_command=shown_command,
            command=command,
            fence="`" * max([3, *(len(run_) + 1 for text in fenced for run_ in re.findall("`+", text))]),
            md=_markdown,
            shown=_in_code,
            plain=_printable,
            fmt=_figure,
            told=_told,
            called=HEADLINES,
            share=lambda key: "–" if results.get(key) is None else f"{results[key]:.2f}",
        )
    )


def main(argv: list[str] | None = None) -> None:
    """`hf-fashion card <run folder>`: renders its card again, or to another place with its plots beside it."""
    parser = argparse.ArgumentParser("hf-fashion card", description="Render the card of a run's folder again.")
    parser.add_argument("folder", help="A run's folder.")
    parser.add_argument("--prose", help="Markdown file with intended use and limits.")
    parser.add_argument("--to", help="Write the card here, and its plots into a folder beside it. Default: README.md.")
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    run = record.read(args.folder)
    if "task" not in run.info:
        raise InputError(
            args.folder, expected="the folder of a finished run", found=f"status: {run.info['status']}",
            fix="resume that run, or name another",
        )  # fmt: skip
    if "kind" not in run.info and run.info["recipe"] != "compare":
        raise InputError(
            args.folder, expected="the folder of a run of this version", found="one of an earlier version",
            fix="run it again: --config " + shlex.quote(f"{args.folder}/run.json"),
        )  # fmt: skip
    prose = args.prose or run.info["arguments"].get("card_prose")
    if args.to is None:
        render(run, prose).save(run.folder / "README.md")
        return
    target = Path(args.to)
    if target.is_dir() or (target.exists() and "tags:\n- hf_fashion\n" not in target.read_text(encoding="utf-8")):
        raise InputError(
            f"--to {target}", expected="a new file, or a card that was written before", found="something else",
            fix="name another file",
        )  # fmt: skip
    pictures = target.with_suffix("")
    shutil.copytree(run.folder / "plots", pictures, dirs_exist_ok=True)
    render(run, prose, pictures.name, shlex.join(["hf-fashion", "card", *argv])).save(target)
    print(target)


def refuse_license(license_: str | None) -> None:
    """Raises InputError unless it may be the Hub's id of a licence: an invalid card would stop a whole upload."""
    if license_ is not None and not LICENSE_ID.fullmatch(license_):
        raise InputError(
            f"--license {license_}", expected="an id of the Hub's list, as apache-2.0, mit, cc-by-4.0, other",
            found=license_, fix="--license other, when it is none of these",
        )  # fmt: skip


def refuse_prose(path: str | None) -> None:
    """Raises InputError unless the text for the card is there."""
    _prose(path)


def _execute(code: str, run: record.Run, model: str, photo: Image.Image) -> str:
    """Runs the code where the folder and photo.jpg lie beside it, as it stands on the card; returns what it prints."""
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as place:
        here = Path(place) / model
        here.parent.mkdir(parents=True, exist_ok=True)
        try:
            here.symlink_to(run.folder.resolve(), target_is_directory=True)
        except OSError:  # Windows without the right to make links
            shutil.copytree(run.folder, here, ignore=shutil.ignore_patterns("checkpoint-*"))
        photo.save(Path(place) / "photo.jpg", quality=95)
        with contextlib.chdir(place), contextlib.redirect_stdout(printed), _quiet("transformers"):
            exec(compile(code, "<the card's usage>", "exec"), {"__name__": "__usage__"})
    return printed.getvalue().strip()


@contextlib.contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Keeps a library's advice out of the end of a run; its errors stay."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _eval_results(info: dict[str, Any], results: dict[str, Any]) -> Iterator[EvalResult]:
    dataset = info["dataset"]
    for name in record.HEADLINE:
        if results.get(name) is not None:
            yield EvalResult(
                task_type=info["task"],
                dataset_type=_dataset_name(dataset),
                dataset_name=_dataset_name(dataset),
                dataset_config=_one_line(dataset.get("config")),
                dataset_split=results["split"],
                dataset_revision=_one_line(dataset.get("revision")),
                metric_type=METRIC_TYPES[name],
                metric_name=name,
                metric_value=round(results[name], 4),
            )


def _dataset_name(dataset: dict[str, Any]) -> str:
    if dataset.get("kind") == "sample":
        return "the sample photos of hf_fashion"
    source = str(dataset["source"])
    return str(_one_line(source if dataset.get("kind") == "hub" else Path(source).resolve().name))


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute()


def _without_folders(command: str) -> str:
    """The command with absolute paths cut to their names: a card is read by others, a home folder is not theirs."""
    return shlex.join(Path(token).name if _is_path(token) else token for token in shlex.split(command))


def _prose(path: str | Path | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(
            f"the text for the card, {path}", expected="a Markdown file", found=os.strerror(error.errno or 0),
            fix="the path of a text with intended use and limits, or leave it out",
        ) from error  # fmt: skip


def _figure(name: str, figures: dict[str, Any]) -> str:
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return f"{figures[name]:.3f} | {low:.3f} to {high:.3f}" if low is not None else f"{figures[name]:.3f} | "


def _told(name: str, figures: dict[str, Any]) -> str:
    """A figure and its interval, within a sentence."""
    if figures.get(name) is None:
        return "not defined: no photo has a label that is known"
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    interval = f" (95 % interval {low:.3f} to {high:.3f})" if low is not None else ""
    return f"**{figures[name]:.3f}**{interval}"


def _in_code(value: Any) -> str:
    """A setting or a commit between single backticks: on one line, without a backtick that would end them; of an
    absolute path the name."""
    return str(_one_line(str(Path(value).name if _is_path(value) else value))).replace("`", "'")


def _one_line(text: str | None) -> str | None:
    return None if text is None else _printable(" ".join(text.split()))


def _printable(text: str) -> str:
    """Text in a fence: line ends stay, other characters that cannot be printed are written out."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _markdown(text: Any) -> str:
    """Text of the user's (labels, paths) in a Markdown table or sentence: as text, never as markup."""
    # Control characters and turns of the writing direction would hide what stands there.
    escaped = html.escape(str(_one_line(str(text))), quote=False)
    for character in "\\`*_[]|~$":
        escaped = escaped.replace(character, "\\" + character)
    return escaped
