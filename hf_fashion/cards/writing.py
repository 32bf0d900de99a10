"""A run's folder -> a model card whose every number was measured in that run."""

import argparse
import contextlib
import html
import io
import json
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import ModelCard, constants
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from PIL import Image

from hf_fashion import images, record
from hf_fashion.cards import licenses, widget
from hf_fashion.cards import metadata as card_metadata
from hf_fashion.cards import results as card_results
from hf_fashion.cards.metadata import dataset_name, hub_dataset, one_line
from hf_fashion.cards.rules import repo_id, validate
from hf_fashion.errors import InputError, setting_and_value
from hf_fashion.errors import printable as printable_line

ROWS_SHOWN = 40  # classes in a card's table
_LIGHT = 30_000  # bytes of a picture beside a card that is kept apart from its run
UNKNOWN = licenses.UNKNOWN
# Plots that show photos, of all tasks.
SHEETS = ("surest_mistakes", "best", "worst", "missed", "found", "not_found")
# What shows photos of the dataset beside a card.
PHOTOS = (f"{widget.FOLDER}/*", *(f"plots/{sheet}.png" for sheet in SHEETS))


def write(
    run: record.Run,
    *,
    usage: Callable[[str, str], str] | None = None,
    photo: Image.Image | None = None,
    photo_label: str | None = None,
    task: str = "image-classification",
    prose: str | Path | None = None,
    examples: Iterable[tuple[Any, str]] = (),
    limits: images.Limits = images.LIMITS,
) -> ModelCard:
    """Writes README.md into the run's folder: metadata with a model-index, figures, licences, executed usage.

    With `benchmark_id` among the run's settings it also writes the figure for that leaderboard, into `.eval_results`.

    Args:
        run: A finished `record.write`.
        usage: (model, photo path) -> Python code; it is executed on `photo`, and its output is shown. None for a run
            that only measured.
        photo: A picture of the test split.
        photo_label: Its true label.
        task: The Hub's name of the task.
        prose: A Markdown file for "Intended use and limits"; what the run itself can say stands there otherwise.
        examples: (photo, true label): the first of different labels go into the folder, as examples of the model's
            page, with what it says of them. They are shown to all who see the model.
        limits: What a photo of `examples` may be.

    """
    run.note(task=task)
    if usage is not None and photo is not None:
        # As a reader in the folder where the run was started would name it; of an absolute path only the name.
        relative = not run.folder.is_absolute() and ".." not in run.folder.parts and run.folder.name
        model = run.folder.as_posix() if relative else run.name
        code = usage(model, "photo.jpg")
        output = _execute(code, run, model, photo)
        run.note(usage={"code": code, "model": model, "output": output, "label": photo_label})
    with _quiet("transformers"):
        run.note(widget=widget.write(run, examples, task, limits=limits))
    card = render(run, prose)
    card.save(run.folder / "README.md")
    try:
        validate(run.folder / "README.md")
    except InputError as error:  # a run of hours does not end without its card for that; a push stops there
        print(f"the Hub would refuse the card: {error}", file=sys.stderr)
    benchmark = run.info["arguments"].get("benchmark_id")
    if benchmark is not None:
        card_results.write(run, benchmark)
    return card


def render(
    run: record.Run,
    prose: str | Path | None = None,
    plots: str = "plots",
    command: str | None = None,
    repo: str | None = None,
) -> ModelCard:
    """The card of a folder that has all else.

    Args:
        run: The folder.
        prose: A Markdown file for "Intended use and limits".
        plots: Where the card's pictures lie, seen from the card.
        command: The command that rendered the card, when it was not the recipe.
        repo: The id that the model has on the Hub: the code on the card then loads it by that.
    """
    info, results = run.info, run.results
    dataset, base, labels = info["dataset"], info["base_model"], info["labels"]
    from_scratch = bool(info["arguments"].get("from_scratch"))
    metadata = card_metadata.of_run(run, repo, widget=plots == "plots")  # examples lie in the model's repo alone
    folder = Path(__file__).parents[1] / "templates"
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), keep_trailing_newline=True).get_template(
        f"{info['recipe'] if info['recipe'] in ('score', 'compare') else 'trained'}.md"
    )
    by = info.get("by_class", "f1")  # the figure by which a task says which of its classes is weak
    weakest = sorted(
        labels,
        key=lambda label: (not results[f"n/{label}"], results[f"{by}/{label}"] is None, results[f"{by}/{label}"] or 0),
    )
    shown = set(weakest[:ROWS_SHOWN])
    usage, shown_command = _usage(info.get("usage", {}), repo), without_folders(info["command"])
    fenced = [usage.get("output", ""), usage.get("code", ""), shown_command, command or ""]
    behind = {"photos": dataset.get("license") or UNKNOWN}
    if not from_scratch:
        behind["base model"] = base.get("license") or UNKNOWN
    if info.get("text_model"):  # of an encoder whose texts another net reads
        behind["text model"] = info["text_model"].get("license") or UNKNOWN
    if info.get("teacher"):
        behind["teacher"] = info["teacher"].get("license") or UNKNOWN
    figures = card_metadata.figures(run)
    return ModelCard(
        template.render(
            card_data=metadata.to_yaml(),
            info=info | {"plots": _pictured_plots(info, results)},
            results=results,
            labels=labels,
            table_labels=[label for label in labels if label in shown],
            headline=list(figures),
            license_chain={
                "photos": behind["photos"],
                "base model": behind.get("base model", "none: random weights"),
                **{what: told for what, told in behind.items() if what == "text model"},
                "this model": str(metadata.license),
            },
            follows=licenses.follows(behind, str(metadata.license)),
            dataset_name=dataset_name(dataset),
            dataset_url=_url("datasets/", hub_dataset(dataset)),
            base_name=base.get("began_with") or base["name"],
            base_url=_url("", base.get("base_model")),
            linked=_linked,
            from_scratch=from_scratch,
            prose=_prose(prose),
            plots=plots,
            usage=usage,
            repo=repo,
            pictured=bool(metadata.get("widget")) or bool({*SHEETS} & {*_pictured_plots(info, results)}),
            co2=metadata.get("co2_eq_emissions"),
            shown_command=shown_command,
            command=command,
            fence="`" * max([3, *(len(run_) + 1 for text in fenced for run_ in re.findall("`+", text))]),
            md=_markdown,
            shown=_in_code,
            quoted=shlex.quote,
            plain=_printable,
            fmt=_figure,
            told=_told,
            called={name: figure.name.lower() for name, figure in card_metadata.FIGURES.items()}
            | {name: figure.name for name, figure in figures.items() if name not in card_metadata.FIGURES},
            share=lambda key: "–" if results.get(key) is None else f"{results[key]:.2f}",
        )
    )


def _pictured_plots(info: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """The plots that a card shows: not the sheet of mistakes where there are none."""
    return [plot for plot in info.get("plots", ()) if plot != "surest_mistakes" or results.get("accuracy") != 1]


def addressed(text: str, folder: str | Path, repo: str) -> str:
    """A README.md as it reads on the Hub: its code loads the model by its id there, not from the run's folder.

    Args:
        text: README.md of the folder; what was changed in it by hand stays.
        folder: Of a run. Any other folder's text comes back as it is.
        repo: The model's id.
    """
    if not (Path(folder) / "run.json").is_file():
        return text
    run = record.read(folder)
    arguments, usage = run.info.get("arguments"), run.info.get("usage")
    if not isinstance(arguments, dict):  # a record of others, under the same name
        return text
    # Its text with intended uses is no longer where it was; or it is the record of others, or of an earlier version.
    with contextlib.suppress(
        InputError, LookupError, TypeError, AttributeError, ValueError, OSError, jinja2.TemplateError
    ):
        prose = arguments.get("card_prose")
        if text == str(render(run, prose)):
            return str(render(run, prose, repo=repo))
    model = usage.get("model") if isinstance(usage, dict) else None
    return text.replace(json.dumps(model), json.dumps(repo)) if isinstance(model, str) else text


def without_photos(text: str) -> str:
    """A card without the photos that stay at home (`PHOTOS`), and without what it says of them."""
    block = REGEX_YAML_BLOCK.match(text)
    if block:
        front = re.sub(r"^widget:\n(?:[ -].*\n)*", _unless_elsewhere, f"{block[2]}\n", flags=re.MULTILINE)
        text = text[: block.start(2)] + front.removesuffix("\n") + text[block.end(2) :]
    text = re.sub(rf"^!\[.*\]\(\S*/(?:{'|'.join(SHEETS)})\.png\)\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^- The photos that are shown on this page .*\n", "", text, flags=re.MULTILINE)


def _unless_elsewhere(widget_: re.Match[str]) -> str:
    """Nothing, where examples lie in the model's own folder; pictures of other places are their author's."""
    return "" if f"src: {widget.FOLDER}/" in widget_.group() else widget_.group()


def record_without_photos(text: str) -> str:
    """A run.json that does not name the photos that stay at home."""
    info = json.loads(text)
    info.pop("widget", None)
    if isinstance(info.get("plots"), list):
        info["plots"] = [plot for plot in info["plots"] if plot not in SHEETS]
    return json.dumps(info, indent=2, ensure_ascii=False) + "\n"


def main(argv: list[str] | None = None) -> None:
    """`hf-fashion card <run folder>`: renders its card again, or to another place with its plots beside it."""
    parser = argparse.ArgumentParser("hf-fashion card", description="Render the card of a run's folder again.")
    parser.add_argument("folder", help="A run's folder.")
    parser.add_argument("--prose", help="Markdown file with intended use and limits.")
    parser.add_argument("--license", help="Licence of the model, as apache-2.0; kept in the run's record.")
    parser.add_argument("--to", help="Write the card here, and its plots into a folder beside it. Default: README.md.")
    parser.add_argument(
        "--no_photos", action="store_true", help="With --to: leave out the pictures that show photos of the dataset."
    )
    parser.add_argument("--repo", help="The model's id on the Hub, by which the code on the card loads it.")
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
    prose = args.prose or _told_prose(run)
    if args.repo is not None and repo_id(args.repo) is not None:
        raise InputError(
            f"--repo {args.repo}", expected="the id of a model on the Hub", found=str(repo_id(args.repo)),
            fix="--repo USER/NAME",
        )  # fmt: skip
    if args.license is not None:
        refuse_license(args.license)
        run.info["arguments"] |= {"license": args.license}
    if args.no_photos and args.to is None:
        raise InputError(
            "--no_photos", expected="--to with it: the run's own folder keeps its pictures", found="no --to",
            fix="--to CARD.md",
        )  # fmt: skip
    if args.to is None:
        card = render(run, prose, repo=args.repo)
        validate(str(card))
        if args.license is not None:
            run.note(arguments=run.info["arguments"])
        card.save(run.folder / "README.md")
        print(run.folder / "README.md")
        return
    target = Path(args.to)
    if target.is_dir() or (target.exists() and "tags:\n- hf_fashion\n" not in target.read_text(encoding="utf-8")):
        raise InputError(
            f"--to {target}", expected="a new file, or a card that was written before", found="something else",
            fix="name another file",
        )  # fmt: skip
    pictures = target.with_suffix("")
    left = [f"{sheet}.png" for sheet in SHEETS] if args.no_photos else []
    shutil.copytree(run.folder / "plots", pictures, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*left))
    for name in left:  # of an earlier call
        (pictures / name).unlink(missing_ok=True)
    for picture in pictures.glob("*.png"):
        if picture.stat().st_size > _LIGHT:  # in a repository for good: 256 colours are a third
            Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)
    card = render(run, prose, pictures.name, shlex.join(["hf-fashion", "card", *argv]), args.repo)
    (ModelCard(without_photos(str(card))) if args.no_photos else card).save(target)
    print(target)


def _told_prose(run: record.Run) -> str | None:
    """The text that the run's record names, which may be the record of somebody else: it is said what is taken.

    Raises:
        InputError: It is no Markdown: whatever it is, it was not written for a card.
    """
    path = run.info["arguments"].get("card_prose")
    if path is None:
        return None
    if Path(str(path)).suffix.lower() not in (".md", ".markdown", ".txt"):
        raise InputError(
            f"the text for the card, {path}, which {run.folder / 'run.json'} names", expected="a Markdown file",
            found=f"another file: {path}", fix=f"--prose {shlex.quote(str(path))}, if it shall stand on the card",
        )  # fmt: skip
    print(f"intended use and limits: the text of {printable_line(str(path))}, as the run's record says")
    return str(path)


def refuse_license(license_: str | None) -> None:
    """Raises InputError unless it is an id of the Hub's list: an invalid card would stop a whole upload."""
    if license_ is not None and license_ not in licenses.LICENSES:
        near = licenses.nearest(license_)
        raise InputError(
            f"--license {license_}", expected="an id of the Hub's list, as apache-2.0, mit, cc-by-4.0, other",
            found=license_, fix=f"--license {near}" if near else "--license other, when it is none of these",
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


def _usage(usage: dict[str, str], repo: str | None) -> dict[str, str]:
    """The usage, with the model's id on the Hub in the place of the folder that it was executed with."""
    if repo is None or "model" not in usage:
        return usage
    return usage | {"code": usage["code"].replace(json.dumps(usage["model"]), json.dumps(repo))}


def _url(kind: str, id_: str | None) -> str | None:
    return f"{constants.ENDPOINT}/{kind}{id_}" if id_ and repo_id(id_) is None else None


def _linked(text: Any, url: str | None) -> str:
    return f"[{_markdown(text)}]({url})" if url else _markdown(text)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute()


def without_folders(command: str) -> str:
    """The command with absolute paths as `path/to/<name>`: a card is read by others, a home folder is not theirs."""
    parts = map(setting_and_value, shlex.split(command))
    return shlex.join(
        setting + (f"path/to/{Path(value).name}" if _is_path(value) else value) for setting, value in parts
    )


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
    return str(one_line(str(Path(value).name if _is_path(value) else value))).replace("`", "'")


def _printable(text: str) -> str:
    """Text in a fence: line ends stay, other characters that cannot be printed are written out."""
    return "\n".join(map(printable_line, text.split("\n")))


def _markdown(text: Any) -> str:
    """Text of the user's (labels, paths) in a Markdown table or sentence: as text, never as markup or a link."""
    # Control characters and turns of the writing direction would hide what stands there.
    escaped = html.escape(str(one_line(str(text))), quote=False)
    # By name, since the Hub reads what stands between an escaped backslash and parentheses as a formula.
    escaped = escaped.replace("\\", "&#92;")
    for character in "`*_[]|~$":
        escaped = escaped.replace(character, "\\" + character)
    # Bare addresses become links.
    return re.sub(r"(?<=www)\.", "&#46;", escaped.replace("://", "&#58;//").replace("@", "&#64;"), flags=re.IGNORECASE)
