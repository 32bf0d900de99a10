# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[retrieve]"]
# ///
"""Give photos labels by the labels' names alone (zero-shot), with CLIP, SigLIP or an encoder of your own.

    hf-fashion tag ./photos openai/clip-vit-base-patch32 --labels dress shirt "tee=short-sleeved t-shirt" -o tags.csv
    hf-fashion classify --dataset tags.csv
    hf-fashion tag ./photos google/siglip2-base-patch16-224 --labels floral striped lace --several -o tags.csv
    hf-fashion tag photos.csv runs/retrieve-1 --calibrate_on validation --least_score 0.6 -o tagged

A label may have words that say better what it is (`name=words`); `--labels_file` takes groups of labels (colour,
sleeve). Where photos have labels of their own it is measured how many are right, and `--calibrate_on validation` makes
scores what they say. The output is a CSV in a folder above the photos, or a new folder that holds these, too.
"""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import DatasetDict

from hf_fashion import backbones, calibration, checks, metrics, prompts, settings, tag_tables, tagging, zero_shot
from hf_fashion.arguments import DatasetArguments
from hf_fashion.attributes import Group
from hf_fashion.catalogue import read
from hf_fashion.comparison.seen import seen
from hf_fashion.errors import InputError, command, in_range, script, writing
from hf_fashion.report import SHOWN, Report, cell

SETS = tuple(prompts.SETS)
SCORES = {
    "softmax": "the checkpoint's softmax over the labels", "sigmoid": "the checkpoint's sigmoid of each label",
    "cosine": "cosines and no probabilities, since the checkpoint has no scale for them",
}  # fmt: skip


@dataclass
class Arguments(DatasetArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos, model and labels"

    model: str | None = field(
        default=None,
        metadata={
            "help": "An encoder of photos and texts: a Hub id (CLIP, SigLIP, ...) or a folder, as of hf-fashion "
            "retrieve; must be given."
        },
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    labels: list[str] | None = field(
        default=None,
        metadata={
            "help": "The labels to choose from, each as dress or as t-shirt='short-sleeved t-shirt', with words for "
            "the model. Default: those that the photos have."
        },
    )
    labels_file: str | None = field(
        default=None,
        metadata={
            "help": "In place of --labels: a file with one a line; or a CSV with the columns label and, if wanted, "
            "words and group (colour, sleeve): of each group one label is chosen."
        },
    )
    several: bool = field(
        default=False, metadata={"help": "A photo may have several of the labels (of a group), or none: tags."}
    )
    prompts: Literal[SETS] | None = field(  # type: ignore[valid-type]
        default=None,
        metadata={
            "help": "Which sentences a label is put into: fashion (garments), attributes, photo (one sentence), bare "
            "(none). Default: fashion; with groups or --several, attributes; for an encoder trained for search alone, "
            "bare."
        },
    )
    templates: list[str] | None = field(
        default=None,
        metadata={"help": "In place of --prompts: your own sentences, with {} where the label stands."},
    )
    label_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of the labels that photos have, where it is not found by itself; of groups these are "
            "columns of their names."
        },
    )
    calibrate_on: Literal["train", "validation"] | None = field(
        default=None,
        metadata={
            "help": "Split whose labels are used to make the scores what they say, of photos that the model has not "
            "learned from; figures are of other photos. Default: scores as the checkpoint makes them."
        },
    )
    least_score: float | None = field(
        default=None,
        metadata={
            "help": "A photo whose best label has a lower score gets none; of --several, a label is told from it on. "
            "Default: each photo gets its best label; of --several, the score that is best on --calibrate_on for "
            "each label, else 0.5."
        },
    )
    output: str | None = field(
        default=None,
        metadata={
            "aliases": ["-o"],
            "help": "A new CSV, in a folder above the photos; or a new folder, for the photos with their labels "
            "(parquet). Must be given.",
        },
    )
    batch_size: int = field(default=32, metadata={"help": "Photos in memory, and in the encoder, at once."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("model", self.model), ("output", self.output)):
            if value is None:
                raise InputError(
                    f"--{name}", expected=f"{command('tag')} PHOTOS MODEL --labels dress shirt -o tags.csv",
                    found=f"no {name}", fix="add it",
                )  # fmt: skip
        for one, other in (("labels", "labels_file"), ("prompts", "templates")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise InputError(f"--{one}, --{other}", expected="one of the two", found="both", fix="leave one out")
        in_range("batch_size", self.batch_size, 1, 4096)
        if self.least_score is not None:
            in_range("least_score", self.least_score, -1.0, 1.0)
        if self.templates is not None:
            zero_shot.refuse_templates(self.templates)

    def beside(self, name: str) -> Path:
        """The place of a file that comes along with the output."""
        return tag_tables.beside(str(self.output), name)


def learned_from(args: Arguments, report: Report) -> str | None:
    """What is to be said of figures where the model has learned from these photos; None when nobody knows of it."""
    try:
        return seen(report, str(args.model), args.model_revision)
    except InputError:  # its run cut its splits itself: to label photos that one has is no wrong
        told = f"{args.model} was trained on these photos: what is measured on those that it learned from flatters."
        report.add("warning", f"dataset {args.dataset}", "", expected="photos that are new to it", found=told)
        return told


def labels_of(args: Arguments, dataset: DatasetDict) -> tuple[list[Group], list[str], dict[str, str | None]]:
    """The groups of labels, the words of each label, and the columns that say what is known of a group."""
    there = next(iter(dataset.values())).column_names
    if args.labels_file is not None:
        groups, words = zero_shot.read_labels_file(args.labels_file, several=args.several)
    elif args.labels is not None:
        groups, words = zero_shot.read_labels(args.labels, several=args.several)
    else:
        column = tagging.label_column(dataset, args.label_column)
        if column is None:
            raise InputError(
                "--labels", expected="labels to choose from, or photos that have some", found="neither",
                fix="--labels dress shirt skirt",
            )  # fmt: skip
        parts = [tagging.texts_of(rows, column, "|" if args.several else None) for rows in dataset.values()]
        found = sorted({label for part in parts for row in part for label in row or ()})
        groups, words = zero_shot.of_names(found, f"the labels in the column {column}", several=args.several)
    tag_tables.refuse_names(groups)
    if len(groups) == 1 and groups[0].name in (zero_shot.GROUP, zero_shot.GROUP_OF_SEVERAL):
        return groups, words, {groups[0].name: tagging.label_column(dataset, args.label_column)}
    if args.label_column is not None:
        raise InputError(
            f"--label_column {args.label_column}", expected="none with groups, whose columns bear their names",
            found="one", fix="leave it out",
        )  # fmt: skip
    return groups, words, {group.name: group.name if group.name in there else None for group in groups}


def tell(
    args: Arguments, groups: Sequence[Group], columns: Mapping[str, Mapping[str, list[Any]]], told: Mapping[str, Any],
    made: calibration.Calibration | None, strange: Mapping[str, int], left_out: Sequence[Mapping[str, str]],
) -> None:  # fmt: skip
    """What was done, and what was not."""
    for one in left_out[:SHOWN]:
        print(f"left out: {cell(one['where'])}: {cell(one['reason'], 200)}")
    if left_out:
        print(f"left out: {len(left_out)} photos in all: {args.beside(tag_tables.LEFT_OUT)}")
    print(f"scores:   {told['scores']}")
    if made is None:
        print("          where photos have labels, --calibrate_on SPLIT makes them what they say")
    elif made.unseen:
        print(f"          no photo there is: {listed(made.unseen)}; their scores are guesses")
    if told.get("sure_from") is not None:
        print(f"          from {told['sure_from']:.3f} on, 95 % are right there (--least_score)")
    if strange:
        print("labels of the photos that were not asked for, not measured: "
              + listed([f"{label} ({number})" for label, number in strange.items()]))  # fmt: skip
    if told["figures"]:
        print(tagging.figures_told(told["figures"]))
    elif made is not None:
        print(f"measured: nothing, since no photos have labels but those of {args.calibrate_on}")
    for group in groups:
        cells = [label for part in columns.values() for label in part[group.name]]
        often = Counter(one for label in cells if label for one in (label if group.many else [label]))
        print(f"{group.name}:".ljust(9), listed([f"{label} {often[label]}" for label in group.labels]))
        if blank := sum(label is None for label in cells):
            why = "no label reaches its score" if group.many else f"their best score is below {args.least_score:g}"
            print(f"          left blank: {blank} of {len(cells)} photos: {why}")
    counts = told["counts"]
    if counts["unsure"]:
        print(f"          these are in {args.beside(tag_tables.UNSURE)}, for somebody to look at")
    print(f"written:  {args.output}: {counts['labelled']} photos; {args.beside(tag_tables.FIGURES)}")
    if not counts["labelled"]:
        print("          none has a label: a lower --least_score?")
        return
    further = f"{command('classify')} --dataset {shlex.quote(str(args.output))}"
    if tag_tables.lone(groups) is None:
        further += " --label_columns " + " ".join(shlex.quote(group.name) for group in groups)
        further += f" --label_separator '{tagging.SEPARATOR}'" * (tag_tables.is_table(args.output) and args.several)
    elif groups[0].name != zero_shot.GROUP:
        further += f" --label_column {shlex.quote(groups[0].name)}"
    print(f"next:     {further}")
    print("          (its figures will be against these labels: believe those on photos that somebody has labelled)")


def listed(names: Sequence[str]) -> str:
    """Names in a line, the first ones."""
    return ", ".join(map(cell, names[:SHOWN])) + f", and {len(names) - SHOWN} more" * (len(names) > SHOWN)


def write(
    args: Arguments, dataset: DatasetDict, paths: Mapping[str, list[str]], groups: Sequence[Group],
    columns: Mapping[str, Mapping[str, list[Any]]], told: dict[str, Any], drawn: Mapping[str, Any],
    left_out: Sequence[Mapping[str, str]],
) -> None:  # fmt: skip
    """Writes labels, figures, plots and what was left out; adds to `told` how many photos got a label."""
    output, single = Path(str(args.output)), tag_tables.lone(groups)
    if tag_tables.is_table(args.output):
        told["counts"] = tag_tables.write_table(output, args.beside(tag_tables.UNSURE), paths, columns, single)
    else:
        told["counts"] = tag_tables.write_folder(output, dataset, columns, single)
        tag_tables.write_card(output, told)
    with writing(f"-o {output}"):
        text = json.dumps(told, indent=2, ensure_ascii=False)
        args.beside(tag_tables.FIGURES).write_text(text + "\n", encoding="utf-8")
        for name, figure in drawn.items():
            figure.savefig(args.beside(f"{name}.png"), dpi=150)
    if left_out:
        tag_tables.write_left_out(args.beside(tag_tables.LEFT_OUT), left_out)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = list(sys.argv[1:] if argv is None else argv)
    for place, name in ((0, "--dataset"), (2, "--model")):
        if len(argv) > place and not argv[place].startswith("-") and (place == 0 or argv[0] == "--dataset"):
            argv[place:place] = [name]
    parsed: tuple[Any, ...] = settings.parse_args("tag", (Arguments,), argv)
    args, _ = parsed
    tag_tables.refuse_output(str(args.output))
    checks.refuse_inside(args.dataset, {"output": args.output})
    dataset, report = read(args)
    groups, words, named = labels_of(args, dataset)
    paths = tag_tables.relative_paths(dataset, Path(args.output)) if tag_tables.is_table(args.output) else {}
    if args.calibrate_on is not None and args.calibrate_on not in dataset:
        raise InputError(
            f"--calibrate_on {args.calibrate_on}", expected=f"one of the splits: {', '.join(dataset)}",
            found="none of that name", fix="another split; or leave it out: scores are not calibrated then",
        )  # fmt: skip

    # The classes as vectors, and how the checkpoint makes scores of cosines.
    encoder = backbones.load_encoder(args.model, revision=args.model_revision)
    scale = zero_shot.scale_of(encoder)
    if args.calibrate_on is None:
        zero_shot.refuse_several(groups, scale)
    attributed = tag_tables.lone(groups) is None
    usual = "bare" if scale.kind == "cosine" else "attributes" if attributed else "fashion"
    templates = args.templates or prompts.SETS[args.prompts or usual]
    classes = zero_shot.class_vectors(encoder, words, templates)
    known = learned_from(args, report)
    print(report)
    shown = zero_shot.sentence(templates[0], words[0])
    print(f"labels:   {len(words)}, each in {len(templates)} sentence{'s' * (len(templates) > 1)}: {cell(shown)}")

    logits, kept, left_out = tagging.photo_logits(
        dataset, encoder, classes, scale, batch_size=args.batch_size, on_bad_image=args.on_bad_image,
        limits=args.limits,
    )  # fmt: skip
    dataset = DatasetDict({split: rows.select(kept[split]) for split, rows in dataset.items()})
    paths = {split: [names[row] for row in kept[split]] for split, names in paths.items()}
    truth = tagging.truth_of(dataset, groups, named)
    made, raw = None, {}
    if args.calibrate_on is None or zero_shot.has_scores(groups, scale):
        raw = {split: zero_shot.scores_of(part, groups, scale) for split, part in logits.items()}
    scores = raw
    if args.calibrate_on is not None:
        made = calibration.fit(logits[args.calibrate_on], truth.references[args.calibrate_on], groups)
        scores = {split: made.scores(part) for split, part in logits.items()}
    thresholds = tagging.thresholds(groups, args.least_score, scores, truth, args.calibrate_on)
    columns = {
        split: tag_tables.columns_of(part, tagging.decide(part, groups, thresholds), groups, truth.texts[split])
        for split, part in scores.items()
    }

    told: dict[str, Any] = {
        "model": backbones.describe(args.model, args.model_revision), "source": report.source,
        "labels": {group.name: dict(zip(group.labels, words[group.span], strict=True)) for group in groups},
        "templates": list(templates),
        "scores": f"calibrated on {args.calibrate_on}, {made}" if made else f"{SCORES[scale.kind]}; not calibrated",
        "calibration": made and made.to_dict(), "least_score": args.least_score, "seen": known,
    }  # fmt: skip
    if made is not None and not attributed:
        best = calibration.told(scores[args.calibrate_on], truth.references[args.calibrate_on], groups)
        sure_from = metrics.unsure_below(*best)
        told["sure_from"] = sure_from if sure_from is not None and sure_from <= 1 else None
    told["figures"], drawn = tagging.measure(
        scores, truth, groups, thresholds, but=args.calibrate_on, raw=raw if made else {},
        are_probabilities=bool(made) or zero_shot.has_scores(groups, scale),
    )  # fmt: skip
    write(args, dataset, paths, groups, columns, told, drawn, [*report.left_out, *left_out])
    tell(args, groups, columns, told, made, truth.strange, [*report.left_out, *left_out])
    return told


if __name__ == "__main__":
    script(main)()
