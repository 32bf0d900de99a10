# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[check]"]
# ///
"""Push a run, photos or a Space to the Hub: one clean commit, private, shown before it is sent.

    hf-fashion push runs/classify-2026-11-24-1 dresses          # you/dresses: model, card, figures
    hf-fashion push ./photos you/photos --type dataset --license cc-by-4.0
    hf-fashion push spaces/classify you/demo --model you/dresses
    hf-fashion push runs/mine an-organization/dresses --public

The token is that of `hf auth login`, or HF_TOKEN. When the Hub fails it, the same command goes on: what was sent is
not sent twice.
"""

import argparse
import difflib
import importlib.util
import shlex
import sys
from pathlib import Path

from datasets import Features, Image

from hf_fashion import cards, checks, data, hub
from hf_fashion.errors import InputError, script

COLUMNS = Features({"image": Image()})  # labels where there are any; all other columns go along


def main(argv: list[str] | None = None) -> hub.Pushed:
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parsed(argv)
    if args.type is None:
        _refuse_misspelt(args.source)
        _refuse_part_of_run(args.source, args.repo)
    kind = args.type or kind_of(args.source)
    _refuse_unused(args, kind)
    given = {"public": args.public, "overwrite": args.overwrite}
    try:
        if kind == "model":
            return hub.push(args.source, args.repo, card_photos=bool(args.card_photos), **given)
        if kind == "space":
            return hub.push_space(args.source, args.repo, model=args.model, **given)
        return photos(args)
    except hub.HubError as error:
        if "hf-fashion push" in error.fix or not hub.client.may_go_on(error):
            raise
        raise hub.HubError(
            error.what, expected=error.expected, found=error.found, passing=error.passing, status=error.status,
            fix=f"{error.fix}; then: {shlex.join(['hf-fashion', 'push', *argv])}",
        ) from error  # fmt: skip


def photos(args: argparse.Namespace) -> hub.Pushed:
    """Asks the Hub first, then reads and checks the photos."""
    cards.refuse_license(args.license)
    target = hub.preflight(args.repo, "dataset", public=args.public)
    dataset, report = data.load(
        args.source, COLUMNS, config=args.config, revision=args.revision, label_columns=args.label_columns,
        names={"image": args.image_column, "label": args.label_column}, validation_share=None, test_share=None,
    )  # fmt: skip
    # Near-duplicates are looked for where the package for it is there.
    thorough = importlib.util.find_spec("imagehash") is not None
    checks.check(dataset, report, on_bad_image=args.on_bad_image, thorough=thorough)
    if args.license is not None:
        report.source["license"] = args.license
    print(report)
    report.raise_on_errors()
    dataset = checks.drop(dataset, report)
    return hub.push_photos(
        dataset, report, target, checked=True, license=args.license, public=args.public, overwrite=args.overwrite
    )


def kind_of(source: str) -> str:
    """What a folder is, by what lies in it: a Space, a model, or photos."""
    folder = Path(source)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "app.py" in names:
        return "space"
    if names & {"config.json", "run.json", "modules.json"}:
        return "model"
    return "dataset"


def _refuse_misspelt(source: str) -> None:
    """Raises InputError for a folder that is not there, before it is taken for photos on the Hub."""
    path = Path(source).expanduser()
    if ":" not in source and source != "sample" and not path.exists():
        near = difflib.get_close_matches(
            path.name, [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else [], n=1
        )
        raise InputError(
            f"push of {source}", expected="the folder of a run or of a Space, or photos",
            found=f"no {path.name} in {path.parent}" if path.parent.is_dir() else "no such folder",
            fix=(f"did you mean {path.parent / near[0]}?" if near else "check the spelling")
            + "; photos of that name on the Hub: --type dataset",
        )  # fmt: skip


def _refuse_part_of_run(source: str, repo: str) -> None:
    """Raises InputError for a folder of runs, and for one within a run, whose pictures would pass for photos."""
    folder = Path(source).expanduser().resolve()
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names & {"run.json", "README.md", "app.py"}:
        return
    above = next((place for place in folder.parents if (place / "run.json").is_file()), None)
    runs = sorted((path.parent for path in folder.glob("*/run.json")), key=lambda run: run.stat().st_mtime)
    if above is not None:
        told, run = f"a part of the run {above.name}", above
    elif runs:
        told, run = f"a folder of runs: {', '.join(run.name for run in runs[-5:])}", runs[-1]
    else:
        return
    run = run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
    raise InputError(
        f"push of {source}", expected="the folder of one run, of a Space, or photos", found=told,
        fix=f"{shlex.join(['hf-fashion', 'push', str(run), repo])}; if it is photos: --type dataset",
    )  # fmt: skip


def _refuse_unused(args: argparse.Namespace, kind: str) -> None:
    """Raises InputError for a setting that this kind of repo has no use for."""
    of_photos = ("license", "config", "revision", "image_column", "label_column", "label_columns")
    kinds_of = {"model": ("space",), "card_photos": ("model",), **dict.fromkeys(of_photos, ("dataset",))}
    for name, kinds in kinds_of.items():
        if getattr(args, name) is not None and kind not in kinds:
            raise InputError(
                f"--{name}", expected=f"a {kinds[0]}", found=f"{args.source}, which is a {kind}",
                fix=f"leave it out; or --type {kinds[0]}, if it is one",
            )  # fmt: skip


def _parsed(argv: list[str]) -> argparse.Namespace:
    """The settings; of a misspelt one it is told which was meant."""
    parser = _parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        name = next((token for token in unknown if token.startswith("-")), unknown[0]).split("=")[0]
        options = [option for action in parser._actions for option in action.option_strings]
        near = difflib.get_close_matches(name, options, n=1)
        raise InputError(
            f"unknown setting: {' '.join(unknown)}", expected="a setting that `hf-fashion push --help` lists",
            found=name, fix=f"did you mean {near[0]}?" if near else "hf-fashion push --help",
        )  # fmt: skip
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hf-fashion push", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("source", help="A run's folder, a folder of spaces/, or photos as `--dataset` takes them.")
    parser.add_argument("repo", help="<name>, or <you or an organization>/<name>; made when it is not there.")
    parser.add_argument("--type", choices=("model", "dataset", "space"), help="Default: by what lies in the folder.")
    parser.add_argument("--public", action="store_true", help="Everybody may see it. Default: private.")
    parser.add_argument("--overwrite", action="store_true", help="Write over what was changed there in another way.")
    model, space = parser.add_argument_group("a model"), parser.add_argument_group("a Space")
    dataset = parser.add_argument_group("photos")
    model.add_argument(
        "--card_photos", action="store_const", const=True,
        help="Send the photos of its card also where nobody said the licence of the photos.",
    )  # fmt: skip
    space.add_argument("--model", help="Id of the model that it shows; <name> is one of yours.")
    dataset.add_argument("--license", help="Of the photos, an id of the Hub's list. Default: what the source says.")
    dataset.add_argument("--on_bad_image", choices=("stop", "drop"), default="stop", help="Stop, or leave them out.")
    dataset.add_argument("--config", help="Configuration of a dataset that has several.")
    dataset.add_argument("--revision", help="Commit, branch or tag of a dataset on the Hub.")
    dataset.add_argument("--image_column", help="Where it cannot be guessed.")
    dataset.add_argument("--label_column", help="Where it cannot be guessed.")
    dataset.add_argument("--label_columns", nargs="+", help="Columns of attributes, in the place of one label.")
    return parser


if __name__ == "__main__":
    script(main)()
