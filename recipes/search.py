# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[retrieve]"]
# ///
"""Search an index of photos by a photo, by words, or by both, with filters on its columns.

    hf-fashion search garments --image photo.jpg
    hf-fashion search garments --text "red dress" --k 20 --where "price<50 stock>0 size=38,40"
    hf-fashion search garments --image photo.jpg --text "the same in red"
    hf-fashion search http://localhost:6333/garments --image photo.jpg --output_file found.parquet

A photo with words asks by the sum of both vectors: an encoder trained with `--match composed` learned to, any other
finds what lies between what looks alike and what the words say.

A filter is column=value, column=one,other (either), or column<value (also <=, >, >=), with blanks between them.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_fashion import backbones, images, index, settings
from hf_fashion.composed import composed
from hf_fashion.errors import InputError, command, in_range, script, writing
from hf_fashion.report import cell

_HALF = 0.5


@dataclass
class Arguments:
    """Settings of the recipe."""

    _argument_group_name = "index, query and answer"

    index: str | None = field(
        default=None, metadata={"help": "The folder or address that hf-fashion index made; must be given."}
    )
    image: str | None = field(default=None, metadata={"help": "A photo to search by."})
    text: str | None = field(
        default=None, metadata={"help": "Words to search by, where the model of the index takes words."}
    )
    text_weight: float = field(
        default=_HALF, metadata={"help": "Of the words beside a photo, from 0 to 1; the photo has the rest."}
    )
    k: int = field(default=10, metadata={"help": "How many photos are wanted."})
    where: str | None = field(default=None, metadata={"help": 'A filter, as "category=dress price<50".'})
    output_file: str | None = field(default=None, metadata={"help": "Write the answer into this new parquet file."})
    model: str | None = field(
        default=None, metadata={"help": "Where the model of the index is now, if it moved; another one is refused."}
    )
    max_pixels: int = field(
        default=images.LIMITS.max_pixels, metadata={"help": "A photo of more pixels (width x height) is refused."}
    )

    def __post_init__(self) -> None:
        if self.index is None:
            raise InputError(
                "--index", expected=f"{command('search')} FOLDER --image PHOTO", found="no index", fix="add it"
            )
        blank = self.text is not None and not self.text.strip()
        if blank or (self.image is None and self.text is None):
            raise InputError(
                "--text" if blank else "--image, --text", expected="words" if blank else "one of them, or both",
                found="blanks" if blank else "none", fix='--image PHOTO, or --text "red dress"',
            )  # fmt: skip
        in_range("text_weight", self.text_weight, 0.0, 1.0)
        if self.text_weight != _HALF and (self.image is None or self.text is None):
            raise InputError(
                f"--text_weight {self.text_weight:g}", expected="a photo and words, between which it weighs",
                found="one of them", fix="add --image or --text, or leave it out",
            )  # fmt: skip
        in_range("k", self.k, 1, 100_000)
        if self.output_file is not None and (
            Path(self.output_file).exists() or not self.output_file.endswith(".parquet")
        ):
            raise InputError(
                f"--output_file {self.output_file}", expected="a new file that ends with .parquet",
                found="one that is there" if Path(self.output_file).exists() else "another ending",
                fix="another name",
            )  # fmt: skip


def query(args: Arguments, encoder: Any, normalised: bool) -> np.ndarray:
    """The vector (1, d) of the photo, of the words, or of both."""
    if args.text is not None and "text" not in encoder.modalities:
        raise InputError(
            "--text", expected="an index of a model that takes words", found="one that takes photos alone",
            fix="--image PHOTO",
        )  # fmt: skip
    asked: list[Any] = [] if args.text is None else [args.text]
    if args.image is not None:
        try:
            asked.insert(0, images.decode(args.image, limits=images.Limits(max_pixels=args.max_pixels)))
        except ValueError as error:
            raise InputError(
                f"--image {args.image}", expected="a picture that can be read", found=str(error), fix="another photo"
            ) from error
    told = [
        encoder.encode(
            [one], convert_to_numpy=True, normalize_embeddings=normalised or len(asked) > 1, show_progress_bar=False
        )
        for one in asked
    ]
    made: np.ndarray = told[0] if len(told) == 1 else composed(*told, args.text_weight)
    return made


def table(found: index.Found) -> str:
    """The answer as a table, a line for each photo."""
    rows = [["", "score", "id", *(found.rows[0][0] if found.rows[0] else {})]]
    for rank, (one, score, row) in enumerate(zip(found.ids[0], found.scores[0], found.rows[0], strict=True), 1):
        values = ["" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
                  for value in row.values()]  # fmt: skip
        rows.append([str(rank), f"{score:.3f}", cell(one), *map(cell, values)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def write(found: index.Found, path: str) -> None:
    """The answer as parquet: rank, score, id and the columns."""
    ids, scores, rows = found.ids[0], found.scores[0], found.rows[0]
    made = {"rank": pa.array(range(1, len(ids) + 1)), "score": pa.array(scores), "id": pa.array(ids, pa.string())}
    for name in rows[0] if rows else ():
        made[name + "_" * (name in ("rank", "score", "id"))] = pa.array([row[name] for row in rows])
    try:
        with writing(f"--output_file {path}"):
            pq.write_table(pa.table(made), path)
    except OSError as error:
        raise InputError(
            f"--output_file {path}", expected="a file that can be written", found=str(error.strerror or error),
            fix="another name",
        ) from error  # fmt: skip


def main(argv: list[str] | None = None) -> index.Found:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv = ["--index", *argv]
    parsed: tuple[Any, ...] = settings.parse_args("search", (Arguments,), argv)
    args, _ = parsed
    with index.open(args.index) as target:
        target.refuse_where(args.where)  # before the model is loaded
        made_by = target.made_by
        model, revision = (args.model, None) if args.model else (target.model, made_by["revision"])
        try:
            encoder = backbones.load_encoder(model, revision=revision)
        except InputError as error:
            if args.model or Path(model).exists():
                raise
            raise InputError(
                f"the model of the index {args.index}, '{model}'", expected="it where it was when the index was made",
                found=error.found, fix="--model WHERE_IT_IS_NOW",
            ) from error  # fmt: skip
        if made_by["hash"]:
            same = index.identify(encoder, model, revision, normalised=made_by["normalised"])
            target.refuse_other(same, f"the model {model}")
        found = target.search(query(args, encoder, made_by["normalised"]), args.k, args.where)
    if not found.ids[0]:
        print("nothing found" + f" that fulfils {args.where}" * bool(args.where))
    else:
        print(table(found))
    if args.output_file is not None:
        write(found, args.output_file)
        print(f"\nwritten: {args.output_file}")
    return found


if __name__ == "__main__":
    script(main)()
