"""Photos with whatever columns they have, for words that look at all of them."""

from datasets import DatasetDict, Features, Image

from hf_fashion import data
from hf_fashion.arguments import DatasetArguments
from hf_fashion.report import Report

COLUMNS = Features({"image": Image()})  # and all others, as they are


def read(args: DatasetArguments) -> tuple[DatasetDict, Report]:
    """The photos with their columns; each is decoded when its turn comes.

    Raises:
        InputError: They cannot be read.
    """
    dataset, report = data.load(
        args.dataset, COLUMNS, config=args.dataset_config, revision=args.dataset_revision,
        names={"image": args.image_column} if args.image_column else None, label_columns=[], validation_share=None,
        test_share=None, limits=args.limits,
    )  # fmt: skip
    if args.on_bad_image == "drop":
        report.leave_out_pictures()
    report.raise_on_errors()
    return dataset, report
