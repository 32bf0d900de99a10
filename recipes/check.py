# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[check]"]
# ///
"""Tell all that is wrong with a dataset of photos: pictures, copies, labels, boxes; and write a cleaned copy.

    hf-fashion check ./photos
    hf-fashion check ./photos --output_dir findings            # findings/report.html, with the pictures
    hf-fashion check photos.csv --label_errors True            # and labels that are probably wrong
    hf-fashion check ./photos --fix cleaned                    # a copy; the source is not touched

It ends with 0 when nothing is wrong, or nothing but warnings, so that `hf-fashion check X && hf-fashion classify
--dataset X` goes on where a training would; with 1 when there is an error.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import DatasetDict, Features, Image

from hf_fashion import boxed, boxes, checks, data, settings
from hf_fashion.errors import InputError, command, script
from hf_fashion.report import Report
from hf_fashion.tasks import classify

COLUMNS = Features({"image": Image()})  # labels where there are any


@dataclass
class Arguments(classify.PhotoArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos and checks"

    output_dir: str | None = field(
        default=None, metadata={"help": "Write report.html, with the pictures, and findings.parquet into this folder."}
    )
    label_errors: bool = field(
        default=False,
        metadata={"help": "Look for labels that are probably wrong, too: some 70 ms a photo."},
    )
    fix: str | None = field(
        default=None,
        metadata={
            "help": "Write a copy into this new folder, without photos that cannot be read and copies of a photo in "
            "another split (that in test stays); left_out.csv names each, left_in.csv what you must decide."
        },
    )
    box_format: Literal[boxes.FORMATS] | None = field(  # type: ignore[valid-type]
        default=None, metadata={"help": "What the numbers of a box are, where they are not x, y, width, height."}
    )
    on_bad_box: Literal["stop", "clip", "drop"] = field(
        default="stop",
        metadata={
            "help": "On boxes that cannot be right: an error, or a warning; then --fix clips those that are partly "
            "outside their picture, and with drop leaves out those that cannot be mended."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fix is not None and self.fix == self.output_dir:
            raise InputError(
                f"--fix {self.fix}", expected="another folder than that of --output_dir", found="the same",
                fix="name two folders",
            )  # fmt: skip


def with_boxes(dataset: DatasetDict, report: Report, args: Arguments) -> DatasetDict:
    """The boxes as x, y, width and height, where the user said what they are or what to do about them."""
    if args.box_format is None and args.on_bad_box == "stop":
        return dataset
    parts = {split: rows for split, rows in dataset.items() if "objects" in rows.features}
    if not parts:
        raise InputError(
            "--box_format, --on_bad_box", expected="a column objects, with boxes", fix="leave them out",
            found=", ".join(next(iter(dataset.values())).column_names),
        )  # fmt: skip
    made = boxed.convert(parts, report, box_format=args.box_format, limits=args.limits)  # mended by --fix alone
    return DatasetDict({**dataset, **made})


def main(argv: list[str] | None = None) -> Report:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv = ["--dataset", *argv]
    parsed: tuple[Any, ...] = settings.parse_args("check", (Arguments,), argv)
    args, _ = parsed
    checks.refuse_in_use(args.fix)
    checks.refuse_others(args.output_dir)
    checks.refuse_inside(args.dataset, {"fix": args.fix, "output_dir": args.output_dir})
    dataset, report = data.load(
        args.dataset, COLUMNS, config=args.dataset_config, revision=args.dataset_revision,
        names={"image": args.image_column, "label": args.label_column}, label_columns=args.label_columns,
        label_separator=args.label_separator, validation_share=None, test_share=None, merge_labels=args.merge_labels,
    )  # fmt: skip
    lost = report.of("error")  # rows that could not be loaded
    dataset = with_boxes(dataset, report, args)
    checks.check(
        dataset, report, on_bad_image=args.on_bad_image, thorough=True, label_errors=args.label_errors,
        box_format=args.box_format, on_bad_box=args.on_bad_box, limits=args.limits,
    )  # fmt: skip
    checks.tell_unchecked(dataset, report)
    print(report.text(f"{args.output_dir} has all" if args.output_dir is not None else ""))
    errors, warnings = len(report.of("error")), len(report.of("warning"))
    print(f"\n{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}")
    if args.output_dir is not None:
        print(f"report: {checks.write(dataset, report, args.output_dir, limits=args.limits)}")
    if args.fix is not None:
        if args.on_bad_box != "stop":
            mended = {
                split: boxes.mend(rows, boxes.sizes_of(rows, limits=args.limits), args.on_bad_box)
                for split, rows in dataset.items()
            }
            dataset = DatasetDict(mended)
        folder = shlex.quote(str(checks.fix(dataset, report, args.fix, lost=lost, limits=args.limits)))
        print(f"copy:   {folder}, without what {folder}/left_out.csv names; left_in.csv is what you must decide")
        again = shlex.join(["--dataset", args.fix, *checks.options(dataset, report, args.limits)])
        left = any(file.suffix == ".parquet" for file in (Path(args.fix) / "data").iterdir())
        print(f"next:   {command('check')} {again}" if left else "        there is no photo in it: all were left out")
    if errors:
        sys.exit(1)
    return report


if __name__ == "__main__":
    script(main)()
