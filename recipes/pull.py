# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion"]
# ///
"""Pull a model or photos from the Hub: all of its data or an error.

Taken are weights (safetensors, ONNX), configs, texts, tables and pictures, by the endings of their names; all else may
run code when it is opened or loaded, stays on the Hub, and is named: scripts, pickles, archives, a Space's app (for
which there is `hf download you/demo --repo-type space`).

    hf-fashion pull you/dresses                          # into the Hub's cache
    hf-fashion pull you/dresses ./dresses --verify       # into a folder, its checksums compared
    hf-fashion pull you/photos --type dataset --revision v1
    hf-fashion pull you/dresses ./dresses --overwrite    # also over files that you changed there

A file in the folder that no pull wrote, or that was changed since, and a folder with a pull of another repo, are
refused before anything is fetched.
It ends with the folder, the commit, and the settings that name just this commit.
"""

import argparse
import shlex
import sys

from hf_fashion import hub
from hf_fashion.errors import printable, script

SETTINGS = {
    "model": "--model {repo} --model_revision {commit}",
    "dataset": "--dataset {repo} --dataset_revision {commit}",
}


def main(argv: list[str] | None = None) -> hub.Pulled:
    args = _parser().parse_args(list(sys.argv[1:] if argv is None else argv))
    if args.type == "space":
        typed = ["hf", "download", args.repo, "--repo-type", "space", "--local-dir", args.folder or "SPACE"]
        print(f"a Space is code, which a pull leaves on the Hub; to get all of it: {shlex.join(typed)}")
    pulled = hub.pull(
        args.repo, args.type, revision=args.revision, folder=args.folder, verify=args.verify, overwrite=args.overwrite,
    )  # fmt: skip
    for path in pulled.left_out:
        print(printable(f"left out: {path} (may run code, or of a kind that is not known to be data)"))
    for path in pulled.removed:
        print(printable(f"removed: {path} (of an earlier pull, and not in this commit)"))
    print(f"folder: {pulled.folder}")
    print(f"commit: {pulled.commit}" + (", checksums equal to the Hub's" if args.verify else ""))
    if args.type in SETTINGS:
        print(f"next:   {SETTINGS[args.type].format(repo=pulled.repo, commit=pulled.commit)}")
    return pulled


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hf-fashion pull", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("repo", help="<you or an organization>/<name>.")
    parser.add_argument("folder", nargs="?", help="Where to put the files. Default: the Hub's cache.")
    parser.add_argument(
        "--type", choices=("model", "dataset", "space"), default="model",
        help="Default: model. Of a Space, which is code, only texts and pictures are taken; all of it by "
        "`hf download --repo-type space`.",
    )  # fmt: skip
    parser.add_argument("--revision", help="Branch, tag or commit. Default: the newest of main.")
    parser.add_argument("--verify", action="store_true", help="Compare each file's checksum with the Hub's.")
    parser.add_argument(
        "--overwrite", action="store_true", help="Give up what you changed, or another repo left there."
    )
    return parser


if __name__ == "__main__":
    script(main)()
