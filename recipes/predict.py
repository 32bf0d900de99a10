# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion"]
# ///
"""Ask a finished model about all photos of a catalogue, and write what it says into one parquet file, a row a photo.

    hf-fashion predict runs/mine ./photos -o labels.parquet
    hf-fashion predict you/street photos.csv -o boxes.parquet --score 0.4
    hf-fashion predict runs/retrieve-1 ./photos -o vectors.parquet      # vectors, for Spark, Ray, numpy
    hf-fashion predict exported ./photos -o labels.parquet              # an export: light, on all cores
    accelerate launch -m hf_fashion.recipes.predict runs/mine ./photos -o labels.parquet       # on all GPUs

Classifiers, attributes, detectors and encoders, trained or exported by `hf-fashion export`. The columns of the photos
come along. A run that was broken off goes on where it was; a photo that cannot be read has a row that says why.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Features, Image, concatenate_datasets

from hf_fashion import data, predicting, settings
from hf_fashion.arguments import DatasetArguments
from hf_fashion.errors import InputError, command, in_range, script
from hf_fashion.report import SHOWN, Report, cell

COLUMNS = Features({"image": Image()})  # and all others, as they are


@dataclass
class Arguments(DatasetArguments):
    """Settings of the recipe."""

    _argument_group_name = "model, photos and answer"
    _usage = "MODEL PHOTOS -o FILE.parquet"

    model: str | None = field(
        default=None,
        metadata={"help": "A run's folder, any checkpoint's folder, an export, or a Hub id; must be given."},
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    output_file: str | None = field(
        default=None,
        metadata={
            "aliases": ["-o"],
            "help": "A new file that ends with .parquet; must be given. A row a photo: its own columns, what the "
            "model says, and `error`, why a photo has no answer; it is empty for all others.",
        },
    )
    top_k: int = field(default=1, metadata={"help": "Labels of a classifier, surest first."})
    score: float | None = field(
        default=None,
        metadata={"help": "Lowest score of a detector's boxes. Default: its own score_threshold, or 0.5."},
    )
    batch_size: int = field(default=32, metadata={"help": "Photos that pass the net together."})
    write_every: int = field(
        default=1024, metadata={"help": "Photos that are written together: so many are lost at most when it dies."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("model", self.model), ("output_file", self.output_file)):
            if value is None:
                raise InputError(
                    f"--{name}", expected=f"{command('predict')} MODEL PHOTOS -o FILE.parquet", found=f"no {name}",
                    fix="add it",
                )  # fmt: skip
        predicting.refuse_output(str(self.output_file))
        in_range("batch_size", self.batch_size, 1, 4096)
        in_range("write_every", self.write_every, 1, 65536)
        if self.score is not None:
            in_range("score", self.score, 0.0, 1.0)


def read(args: Arguments) -> tuple[Dataset, Report]:
    """All photos, those of several splits one behind the other with a column that says which."""
    try:
        dataset, report = load(args, "train")
    except InputError as error:
        if error.what != "splits":
            raise
        # No split of this name: all others then, each by itself.
        dataset, report = others(args, error)
    parts = {split: rows for split, rows in dataset.items() if len(rows)}
    if len(parts) > 1:
        named = [
            rows if "split" in rows.column_names else rows.add_column("split", [split] * len(rows))
            for split, rows in parts.items()
        ]
        return concatenate_datasets(named), report
    return next(iter(parts.values())), report


def load(args: Arguments, lone_split: str) -> tuple[DatasetDict, Report]:
    """The photos of a source, or of one split where it has no train; what cannot be read has a row later."""
    dataset, report = data.load(
        args.dataset, COLUMNS, config=args.dataset_config, revision=args.dataset_revision,
        names={"image": args.image_column} if args.image_column else None, label_columns=[], validation_share=None,
        test_share=None, lone_split=lone_split, limits=args.limits,
    )  # fmt: skip
    report.leave_out_pictures()
    report.raise_on_errors()
    return dataset, report


def others(args: Arguments, error: InputError) -> tuple[DatasetDict, Report]:
    """Validation and test of a source without train.

    Raises:
        InputError: It has neither: `error`.
    """
    found: dict[str, Dataset] = {}
    told: Report | None = None
    for split in ("validation", "test"):
        try:
            dataset, report = load(args, split)
        except InputError as other:
            if other.what != "splits":
                raise
            continue
        if told is not None:
            # Both looked at the same files.
            report.left_out[:0] = [one for one in told.left_out if one not in report.left_out]
            report.findings[:0] = [one for one in told.findings if one not in report.findings]
            report.sizes = told.sizes | report.sizes
        found |= dataset
        told = report
    if told is None:
        raise error
    return DatasetDict(found), told


def main(argv: list[str] | None = None) -> predicting.Done:
    argv = list(sys.argv[1:] if argv is None else argv)
    for place, name in ((0, "--model"), (2, "--dataset")):
        if len(argv) > place and not argv[place].startswith("-") and (place == 0 or argv[0] == "--model"):
            argv[place:place] = [name]
    parsed: tuple[Any, ...] = settings.parse_args("predict", (Arguments,), argv)
    args, _ = parsed
    model = predicting.load(args.model, args.model_revision, top_k=args.top_k, score=args.score)
    dataset, report = read(args)
    done = predicting.catalogue(
        model, dataset, args.output_file, batch_size=args.batch_size, write_every=args.write_every,
        limits=args.limits,
        unreadable=[{name: str(one[name]) for name in ("where", "reason")} for one in report.left_out],
    )  # fmt: skip
    if predicting.is_main():
        print(report)
        for one in done.unreadable[:SHOWN]:
            print(f"no answer: {cell(one['where'])}: {cell(one['reason'], 200)}")
        if done.unreadable:
            print(f"no answer: {len(done.unreadable)} of {done.photos} photos; the column `error` says why")
        for one in model.schema:
            if predicting.GROUP in (one.metadata or {}):
                print(f"column:   {one.name}, of {one.metadata[predicting.GROUP].decode()}, whose name is taken")
        again = f", {done.before} of them before" if done.before else ""
        print(f"photos:   {done.photos}{again}")
        print(f"written:  {args.output_file}: {', '.join(pq.read_schema(args.output_file).names)}")
        if "vector" in model.schema.names:
            print("next:     Spark, Ray, Daft or numpy; an index for hf-fashion search is made by hf-fashion index")
        else:
            print(f"next:     pandas.read_parquet({args.output_file!r})")
    return done


if __name__ == "__main__":
    script(main)()
