# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion"]
# ///
"""Cut garments out of photos, one row each, by true boxes or by a detector: a dataset to classify or to search.

    hf-fashion crop sample -o garments                             # by the dataset's own boxes
    hf-fashion crop ./photos --model runs/detector -o garments     # by a detector's boxes
    hf-fashion crop instances.json -o garments --margin 0.1 --min_side 48
    hf-fashion classify --dataset garments

A photo's garments stay in its split. `garments/README.md` says what was made, `left_out.csv` names what was not.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import DatasetDict, Features, Image

from hf_fashion import backbones, checks, cropping, data, record, settings
from hf_fashion.errors import InputError, command, in_range, script
from hf_fashion.report import Report
from hf_fashion.tasks import detect

PHOTOS = Features({"image": Image()})  # for a detector


@dataclass
class Arguments(detect.PhotoArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos, boxes and cut-outs"

    output_dir: str | None = field(
        default=None, metadata={"aliases": ["-o"], "help": "A new folder, for the cut-outs; must be given."}
    )
    model: str | None = field(
        default=None,
        metadata={"help": "A detector whose boxes are cut out: a Hub id or a folder; without it the true boxes are."},
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    score: float | None = field(
        default=None,
        metadata={
            "help": "With --model: boxes of a lower score are left out. Default: the score_threshold of the model's "
            "config, which hf_fashion chooses on validation; else 0.5."
        },
    )
    overlap: float = field(
        default=cropping.SAME,
        metadata={
            "help": "With --model: of two boxes that overlap by more than this IoU, the surer one is cut out; 1: both."
        },
    )
    min_side: int = field(
        default=32,
        metadata={"help": "Boxes whose shorter side has fewer pixels are left out; of such photos it warns."},
    )
    margin: float = field(
        default=0.0, metadata={"help": "Share of a box's width and height that is added on each of its sides."}
    )
    image_format: Literal["jpeg", "png"] = field(
        default="jpeg", metadata={"help": "Of the cut-outs: jpeg (quality 95), or png, which keeps every pixel."}
    )
    batch_size: int = field(default=8, metadata={"help": "Photos in memory, and in the detector, at once."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_dir is None:
            raise InputError("--output_dir", expected="a new folder", found="none", fix="-o garments")
        in_range("margin", self.margin, 0.0, 2.0)
        in_range("overlap", self.overlap, 0.0, 1.0)
        in_range("batch_size", self.batch_size, 1, 1024)
        if self.model is not None:
            boxed = {
                "objects_column": self.objects_column, "box_format": self.box_format,
                "on_bad_box": None if self.on_bad_box == "stop" else self.on_bad_box,
            }  # fmt: skip
            for name, value in boxed.items():
                if value is not None:
                    raise InputError(
                        f"--{name} {value}", expected="true boxes", found=f"--model {self.model}, which draws its own",
                        fix=f"leave --{name} or --model out",
                    )  # fmt: skip
            if self.score is not None:
                in_range("score", self.score, 0.0, 1.0)
        elif self.score is not None or self.model_revision is not None:
            raise InputError(
                "--score, --model_revision", expected="--model, whose boxes have scores", found="none",
                fix="--model DETECTOR, or leave them out",
            )  # fmt: skip


def read(args: Any) -> tuple[DatasetDict, Report]:
    """The photos, checked: with their boxes, or alone where a detector draws them."""
    names = {"image": args.image_column} | ({} if args.model is not None else {"objects": args.objects_column})
    boxed = {} if args.model is not None else {"box_format": args.box_format, "on_bad_box": args.on_bad_box}
    dataset, report = data.load(
        args.dataset, PHOTOS if args.model is not None else detect.COLUMNS, config=args.dataset_config,
        revision=args.dataset_revision, names=names, validation_share=None, test_share=None, limits=args.limits,
        **boxed,
    )  # fmt: skip
    if args.model is not None:
        kept = ("image", "image_id", "source_row")
        dataset = DatasetDict({s: rows.select_columns([c for c in kept if c in rows.features])
                               for s, rows in dataset.items()})  # fmt: skip
        # Labels of whole photos play no part here, however few there are.
        whole = [f for f in report.findings if f.column == "label" and f.where.startswith(("dataset", "split"))]
        report.findings[:] = [finding for finding in report.findings if finding not in whole]
    checks.check(dataset, report, on_bad_image=args.on_bad_image, limits=args.limits, **boxed).raise_on_errors()
    return checks.drop(dataset, report), report


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv = ["--dataset", *argv]
    parsed: tuple[Any, ...] = settings.parse_args("crop", (Arguments,), argv)
    args, _ = parsed
    record.refuse_in_use(args.output_dir)
    checks.refuse_inside(args.dataset, {"output_dir": args.output_dir})
    if args.model is not None:
        model, processor = backbones.load_detector(args.model, revision=args.model_revision)
        own = cropping.score_threshold(model.config)
        threshold = args.score if args.score is not None else cropping.USUAL if own is None else own
        labels = list(dict.fromkeys(cropping.class_names(model.config)))
        find = cropping.found_boxes(model, processor, floor=min(cropping.FLOOR, threshold), same=args.overlap)
        name = backbones.describe(args.model, args.model_revision)["name"]
        made_by = f"The boxes are those that the detector `{name}` drew with a score of {threshold:g} or more"
        made_by += f"; of those with an IoU over {args.overlap:g}, the surest." if args.overlap < 1 else "."
    else:
        find, threshold, made_by = cropping.true_boxes, None, "The boxes are the dataset's own."
    dataset, report = read(args)
    if args.model is None:
        labels = detect.classes(dataset)
    print(report)
    counts = cropping.write(
        dataset, args.output_dir, labels, find, threshold=threshold, min_side=args.min_side, margin=args.margin,
        image_format=args.image_format, batch_size=args.batch_size, limits=args.limits,
    )  # fmt: skip
    cropping.add_left_out(args.output_dir, report.left_out)
    made_by += f" Of each box a margin of {args.margin:.0%} of its sides is kept." if args.margin else ""
    card = cropping.readme(
        args.output_dir, counts, source=report.source, made_by=made_by, unreadable=report.left_out
    )  # fmt: skip
    folder = Path(args.output_dir)
    (folder / "README.md").write_text(card, encoding="utf-8")
    rows = ", ".join(
        f"{split} {counts['rows'][split]} of {counts['photos'][split]} photos" for split in counts["rows"]
    )
    print(f"\ngarments: {rows}")
    for reason, number in counts["left_out"].items():
        print(f"left out: {reason}: {number}")
    quoted = shlex.quote(str(folder))
    alone = " --split_by image_id" if cropping.lacks_splits(counts) else ""  # a photo's garments in one split
    print(f"folder:   {folder}")
    print(f"next:     {command('classify')} --dataset {quoted}{alone}" if any(counts["rows"].values()) else
          "          there is no garment in it: a lower --score or --min_side?")  # fmt: skip
    return counts


if __name__ == "__main__":
    script(main)()
