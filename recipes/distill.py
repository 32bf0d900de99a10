# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion"]
# ///
"""Teach a small net what a large one knows: a classifier, or an encoder for search.

    accelerate launch recipes/distill.py --teacher runs/large --student sample --dataset ./photos
    accelerate launch recipes/distill.py --teacher runs/large --student timm/mobilenetv4_conv_small.e2400_r224_in1k \\
        --dataset ./photos --unlabelled ./more_photos
    accelerate launch recipes/distill.py --teacher you/large-encoder --student efficientnet-lite0 --dataset ./catalogue

It is `classify.py`, or `retrieve.py` for a teacher that is an encoder, with `--model` called `--student`; all their
settings, configs, checks, figures and cards are theirs. `--teacher_weight`, `--teacher_temperature` and
`--teacher_features` say how much the teacher counts, and how.
"""

import argparse
import sys
from typing import Any

from hf_fashion import record
from hf_fashion.backbones.sources import is_encoder
from hf_fashion.errors import InputError, command, script


def main(argv: list[str] | None = None) -> record.Run:
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog=command("distill"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False, epilog=f"All other settings: {command('classify')} --help, {command('retrieve')} --help.",
    )  # fmt: skip
    parser.add_argument("--teacher", help="The large finished model: a Hub id or a folder; must be given.")
    parser.add_argument("--student", help="The small net to start from, as --model of these recipes; must be given.")
    parser.add_argument("--teacher_revision", help="Branch, tag or commit of a Hub teacher.")
    told, rest = parser.parse_known_args(argv)
    for name in ("teacher", "student"):
        if getattr(told, name) is None:
            raise InputError(
                f"--{name}", expected=f"{command('distill')} --teacher LARGE --student SMALL --dataset PHOTOS",
                found=f"no {name}", fix="add it",
            )  # fmt: skip
    if "--model" in rest:
        raise InputError("--model", expected="--student", found="--model", fix="leave it out")
    words = ["--model", told.student, "--teacher", told.teacher, *rest]
    words += ["--teacher_revision", told.teacher_revision] if told.teacher_revision else []
    recipe: Any
    if is_encoder(told.teacher, told.teacher_revision):
        from hf_fashion.recipes import retrieve as recipe
    else:
        from hf_fashion.recipes import classify as recipe
    run: record.Run = recipe.main(words)
    return run


if __name__ == "__main__":
    script(main)()
