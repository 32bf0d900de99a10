# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[retrieve]"]
# ///
"""Make a searchable folder, or fill a server, with the vectors of photos; again, and it takes what is new or changed.

    hf-fashion index ./photos runs/retrieve-1 -o garments
    hf-fashion index photos.csv openai/clip-vit-base-patch32 -o garments --id_column sku --backend lancedb
    hf-fashion index ./photos runs/retrieve-1 -o http://localhost:6333/garments    # Qdrant; key: QDRANT_API_KEY
    hf-fashion index ./photos runs/retrieve-1 -o garments --delete_gone True       # and what is there no longer
    hf-fashion index --delete sku-17 sku-18 -o garments                           # these alone, without a model
    hf-fashion search garments --image photo.jpg --where "category=dress price<50"

All columns of the dataset come along, for filters. A run that was broken off goes on where it was. Several processes
(`accelerate launch -m hf_fashion.recipes.index ...`) embed a share each. LanceDB and Qdrant: `hf_fashion[index]`.
"""

import csv
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_fashion import backbones, checks, cropping, index, settings
from hf_fashion.arguments import DatasetArguments
from hf_fashion.catalogue import read
from hf_fashion.errors import InputError, command, in_range, script
from hf_fashion.index.building import Built, processes
from hf_fashion.report import SHOWN, Report, cell


@dataclass
class Arguments(DatasetArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos, model and index"

    model: str | None = field(
        default=None, metadata={"help": "The encoder: a Hub id or a folder, as of hf-fashion retrieve; must be given."}
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    output_dir: str | None = field(
        default=None,
        metadata={
            "aliases": ["-o"],
            "help": "A new folder, or an index that is there; with qdrant also http://host:6333/COLLECTION. Must be "
            "given.",
        },
    )
    backend: Literal["exact", "lancedb", "qdrant"] | None = field(
        default=None,
        metadata={
            "help": "Of a new index. exact: misses nothing, up to some million photos; lancedb: a folder of LanceDB; "
            "qdrant: a server, or a folder for trying it out. Default: exact, for an address qdrant."
        },
    )
    id_column: str | None = field(
        default=None,
        metadata={
            "help": "Column with another value in each row, by which a photo is known again. Default: id, image_id, "
            "or its file or row."
        },
    )
    delete: list[str] | None = field(
        default=None, metadata={"help": "Take out the photos with these ids, and do nothing else."}
    )
    delete_gone: bool = field(
        default=False, metadata={"help": "Take out, too, what is in the index and in the dataset no longer."}
    )
    batch_size: int = field(default=32, metadata={"help": "Photos in the encoder, and in memory, at once."})
    write_every: int = field(
        default=512, metadata={"help": "Photos that are written together: at most so many are lost when it dies."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("model", self.model), ("output_dir", self.output_dir)):
            if value is None and not (name == "model" and self.delete):
                raise InputError(
                    f"--{name}", expected=f"{command('index')} PHOTOS MODEL -o FOLDER", found=f"no {name}",
                    fix="add it",
                )  # fmt: skip
        in_range("batch_size", self.batch_size, 1, 4096)
        in_range("write_every", self.write_every, 1, 65536)


def target_of(args: Arguments, encoder: Any) -> index.Index:
    """The index: opened, or made."""
    where = str(args.output_dir)
    made_by = index.identify(encoder, str(args.model), backbones.describe(args.model, args.model_revision)["revision"])
    if index.exists(where):
        opened = index.open(where, made_by=made_by)
        if args.backend not in (None, opened.about.backend):
            raise InputError(
                f"--backend {args.backend}", expected=f"{opened.about.backend}, as {where} is", found=args.backend,
                fix="leave it out, or another -o",
            )  # fmt: skip
        return opened
    backend = args.backend or ("qdrant" if where.startswith(("http://", "https://")) else "exact")
    dimension = encoder.get_embedding_dimension()
    return index.create(where, made_by=made_by, dimension=dimension, backend=backend)


def delete(args: Arguments) -> Built:
    """Takes out the photos that were named.

    Raises:
        InputError: One of them is not in; then none is taken out.
    """
    wanted = list(dict.fromkeys(args.delete or ()))
    with index.open(str(args.output_dir)) as target:
        there = target.rows_of(wanted, columns=[])
        unknown = [one for one in wanted if one not in there]
        if unknown:
            raise InputError(
                "--delete", expected=f"ids of photos in {args.output_dir}",
                found=f"{len(unknown)} that are not there: {', '.join(map(cell, unknown[:SHOWN]))}",
                fix="leave these out; hf-fashion search shows ids",
            )  # fmt: skip
        built = Built(deleted=target.delete(wanted))
        print(f"deleted: {built.deleted}\nindex:   {target.target}: {len(target)} vectors are left")
    return built


def tell(built: Built, report: Report, args: Arguments, target: index.Index) -> None:
    """What was done, and each photo that was left out: some on the screen, all in the folder."""
    left = [*report.left_out, *built.left_out]
    if built.left_columns:
        print(f"columns left out, of a kind that an index cannot have: {', '.join(map(cell, built.left_columns))}")
    for one in left[:SHOWN]:
        print(f"left out: {cell(one['where'])}: {cell(one['reason'], 200)}")
    folder = Path(target.target)
    if left and folder.is_dir():
        with (folder / cropping.LEFT_OUT).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(("split", "where", "reason"))
        cropping.add_left_out(folder, left)
        print(f"left out: {len(left)} photos in all: {folder / cropping.LEFT_OUT}")
    gone = f", deleted: {built.deleted}" if args.delete_gone else ""
    print(f"embedded: {built.embedded}, other columns updated: {built.updated}, unchanged: {built.unchanged}{gone}")
    print(f"index:    {target.target}: {len(target)} vectors of {target.dimension} numbers ({target.about.backend})")
    named = ", ".join(f"{name} ({kind})" for name, kind in target.columns.items() if name != "picture")
    print(f"filters:  {named or 'none'}")
    print(f"next:     hf-fashion search {shlex.quote(str(args.output_dir))} --image PHOTO")


def main(argv: list[str] | None = None) -> Built:
    argv = list(sys.argv[1:] if argv is None else argv)
    for name in ("--dataset", "--model"):
        place = 0 if name == "--dataset" else 2
        if (
            argv[:1]
            and len(argv) > place
            and not argv[place].startswith("-")
            and (place == 0 or argv[0] == "--dataset")
        ):
            argv[place:place] = [name]
    parsed: tuple[Any, ...] = settings.parse_args("index", (Arguments,), argv)
    args, _ = parsed
    if args.delete:
        return delete(args)
    if not args.output_dir.startswith(("http://", "https://")):
        checks.refuse_inside(args.dataset, {"output_dir": args.output_dir})
    state = processes()
    encoder = backbones.load_encoder(args.model, revision=args.model_revision)
    dataset, report = read(args)
    if state.is_main_process:
        print(report)
    with state.main_process_first():
        target = target_of(args, encoder)
    with target:
        built = index.build(
            dataset, encoder, target, id_column=args.id_column, batch_size=args.batch_size,
            write_every=args.write_every, on_bad_image=args.on_bad_image, delete_gone=args.delete_gone,
            limits=args.limits,
        )  # fmt: skip
        if state.is_main_process:
            tell(built, report, args, target)
    return built


if __name__ == "__main__":
    script(main)()
