# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[check]"]
# ///
"""Push a run, photos or a Space to the Hub: one clean commit, private, shown before it is sent.

    hf-fashion push runs/classify-2026-11-24-1 dresses          # you/dresses: model, card, figures
    hf-fashion push ./photos you/photos --type dataset --license cc-by-4.0
    hf-fashion push spaces/classify you/demo --model you/dresses
    hf-fashion push runs/mine an-organization/dresses --public

The token is that of `hf auth login`, or HF_TOKEN. When it fails, the same command goes on: what was sent is not sent
twice.
"""

import argparse
import importlib.util
import shlex
import sys
from pathlib import Path

from datasets import Features, Image

from hf_fashion import checks, data, hub
from hf_fashion.errors import InputError, script

COLUMNS = Features({"image": Image()})  # labels where there are any; all other columns go along


def main(argv: list[str] | None = None) -> hub.Pushed:
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv)
    kind = args.type or kind_of(args.source)
    _refuse_unused(args, kind)
    given = {"public": args.public, "overwrite": args.overwrite}
    try:
        if kind == "model":
            return hub.push(args.source, args.repo, **given)
        if kind == "space":
            return hub.push_space(args.source, args.repo, model=args.model, **given)
        return photos(args)
    except hub.HubError as error:
        if "hf-fashion push" in error.fix:
            raise
        raise hub.HubError(
            error.what, expected=error.expected, found=error.found, passing=error.passing, status=error.status,
            fix=f"{error.fix}; then: {shlex.join(['hf-fashion', 'push', *argv])}",
        ) from error  # fmt: skip


def photos(args: argparse.Namespace) -> hub.Pushed:
    """Asks the Hub first, then reads and checks the photos."""
    target = hub.preflight(args.repo, "dataset", public=args.public)
    dataset, report = data.load(
        args.source, COLUMNS, config=args.config, revision=args.revision, label_columns=args.label_columns,
        names={"image": args.image_column, "label": args.label_column}, validation_share=None, test_share=None,
    )  # fmt: skip
    # Near-duplicates are looked for where the package for it is there.
    thorough = importlib.util.find_spec("imagehash") is not None
    checks.check(dataset, report, on_bad_image=args.on_bad_image, thorough=thorough)
    print(report)
    report.raise_on_errors()
    dataset = checks.drop(dataset, report)
    return hub.push_photos(dataset, report, target, license=args.license, public=args.public, overwrite=args.overwrite)


def kind_of(source: str) -> str:
    """What a folder is, by what lies in it: a Space, a model, or photos."""
    folder = Path(source)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "app.py" in names:
        return "space"
    if names & {"config.json", "run.json", "modules.json"}:
        return "model"
    return "dataset"


def _refuse_unused(args: argparse.Namespace, kind: str) -> None:
    """Raises InputError for a setting that this kind of repo has no use for."""
    of_photos = ("license", "config", "revision", "image_column", "label_column", "label_columns")
    for name, kinds in {"model": ("space",), **dict.fromkeys(of_photos, ("dataset",))}.items():
        if getattr(args, name) is not None and kind not in kinds:
            raise InputError(
                f"--{name}", expected=f"a {kinds[0]}", found=f"{args.source}, which is a {kind}",
                fix=f"leave it out; or --type {kinds[0]}, if it is one",
            )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hf-fashion push", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("source", help="A run's folder, a folder of spaces/, or photos as `--dataset` takes them.")
    parser.add_argument("repo", help="<name>, or <you or an organization>/<name>; made when it is not there.")
    parser.add_argument("--type", choices=("model", "dataset", "space"), help="Default: by what lies in the folder.")
    parser.add_argument("--public", action="store_true", help="Everybody may see it. Default: private.")
    parser.add_argument("--overwrite", action="store_true", help="Write over what others changed in the repo.")
    space, dataset = parser.add_argument_group("a Space"), parser.add_argument_group("photos")
    space.add_argument("--model", help="Id of the model that it shows.")
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
