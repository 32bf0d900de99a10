"""Cut-outs: a dataset with one row for each garment, out of photos and boxes, true ones or a detector's."""

import csv
import itertools
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage
from torchvision.ops import batched_nms
from tqdm.auto import tqdm

from hf_fashion import images, objects
from hf_fashion.errors import InputError, writing
from hf_fashion.splits import ORDER
from hf_fashion.spreadsheets import safe

USUAL = 0.5  # the score from which boxes are taken where a model's config has no `score_threshold`
SAME = 0.7  # IoU above which two boxes are one garment, told twice
MOST = 100  # boxes of a photo, the surest
FLOOR = 0.05  # boxes of a lower score are not even counted: some detectors give hundreds for every photo
LEFT_OUT = "left_out.csv"
NOTHING = "photos without a garment"
BAR_FROM = 20  # photos; fewer are done before a bar is read
_SHARD = 256 * 2**20  # bytes of pictures in a file
_GROUP = 64  # rows in memory at once, and in a row group


class Box(NamedTuple):
    """One garment of a photo.

    Args:
        label: The number of its class.
        bbox: x, y, width and height in pixels of the upright photo.
        score: Of the detector, from 0 to 1; None for a true box.
        crowd: Whether it stands for a group, which is no garment.
    """

    label: int
    bbox: tuple[float, float, float, float]
    score: float | None = None
    crowd: bool = False


# Photos as `images.decode` gives them, and their rows without them -> the boxes of each.
Find = Callable[[Sequence[PILImage.Image], Sequence[Mapping[str, Any]]], list[list[Box]]]


def class_names(config: Any) -> list[str]:
    """The names of a detector's classes, in the order of its logits; a number without a name is called by itself.

    Names may repeat: COCO's 91 numbers have eleven that are "N/A".
    """
    named = {int(number): str(name) for number, name in (config.id2label or {}).items()}
    return [named.get(number, str(number)) for number in range(max(named, default=-1) + 1)]


def score_threshold(config: Any) -> float | None:
    """The score above which a detector's boxes are best believed, as its config tells it; None where it does not."""
    told = getattr(config, "score_threshold", None)
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) and 0 < told <= 1 else None


def shares(
    processor: Any, outputs: Any, *, threshold: float = 0.0, same: float = SAME, across: bool = False
) -> list[list[tuple[int, float, list[float]]]]:
    """What a detector's answer says of each photo: class, score, and corners (x0, y0, x1, y1) as shares of the photo.

    Args:
        processor: The detector's image processor.
        outputs: The net's, for photos that were not filled up to one size.
        threshold: Boxes of a lower score are left out.
        same: Of boxes of one class that overlap by more than this IoU, the surest is kept; 1 for all.
        across: Of boxes of any class.

    Returns:
        For each photo the boxes, at most `MOST`, the surest first.
    """
    made = []
    for one in processor.post_process_object_detection(outputs, threshold=threshold):  # without sizes: shares
        group = torch.zeros_like(one["labels"]) if across else one["labels"]
        order = batched_nms(one["boxes"].float(), one["scores"].float(), group, same)[:MOST]
        made.append([*zip(*(one[key][order].tolist() for key in ("labels", "scores", "boxes")), strict=True)])
    return made


def true_boxes(photos: Sequence[PILImage.Image], rows: Sequence[Mapping[str, Any]]) -> list[list[Box]]:
    """The boxes in the column `objects` of canonical rows."""
    made = []
    for row in rows:
        told = row["objects"]
        crowd = told.get("iscrowd") or [0] * len(told["bbox"])
        each = zip(told["category"], told["bbox"], crowd, strict=True)
        made.append([Box(label, tuple(bbox), None, bool(many)) for label, bbox, many in each])
    return made


def found_boxes(model: Any, processor: Any, *, floor: float = FLOOR, same: float = SAME) -> Find:
    """A function that asks a detector for its boxes with a score above `floor`; photos of one shape go through it
    together. `Box.label` is a place among the names of `class_names`, each once.

    Of boxes that overlap by more than an IoU of `same` the surest is given, whatever their classes: they show one
    garment, and a picture with two labels teaches nothing.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net, names = model.to(device).eval(), class_names(model.config)
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}

    def find(photos: Sequence[PILImage.Image], rows: Sequence[Mapping[str, Any]]) -> list[list[Box]]:
        # Each by itself, as `pipeline` does: some nets cannot be told that a photo was filled up to the others' size.
        inputs = [dict(processor(images=photo, return_tensors="pt")) for photo in photos]
        made: list[list[Box]] = []
        order = itertools.groupby(range(len(photos)), key=lambda number: inputs[number]["pixel_values"].shape)
        for _, alike in order:
            numbers = list(alike)
            keys = inputs[numbers[0]]
            batch = {key: torch.cat([inputs[number][key] for number in numbers]).to(device) for key in keys}
            with torch.inference_mode():
                answers = shares(processor, net(**batch), threshold=floor, same=same, across=True)
            for number, answer in zip(numbers, answers, strict=True):
                width, height = photos[number].size
                told = [(places[names[label]], _pixels(box, width, height), score) for label, score, box in answer]
                made.append([Box(*one) for one in told])
        return made

    return find


def _pixels(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """Corners as shares of a photo -> x, y, width and height in its pixels, clipped to it."""
    (x0, x1), (y0, y1) = (
        [min(max(box[axis + end], 0.0), 1.0) * side for end in (0, 2)] for axis, side in ((0, width), (1, height))
    )
    return x0, y0, max(x1 - x0, 0.0), max(y1 - y0, 0.0)


def cut(photo: PILImage.Image, bbox: Sequence[float], margin: float = 0.0) -> PILImage.Image:
    """The pixels of a box, whose edges go to the nearest whole pixel; at least one pixel.

    Args:
        photo: Upright.
        bbox: x, y, width and height in pixels.
        margin: Share of the box's width (and height) that is added on each side, as far as the photo goes.
    """
    x, y, width, height = bbox
    left, right = _edges(x - margin * width, x + (1 + margin) * width, photo.width)
    top, bottom = _edges(y - margin * height, y + (1 + margin) * height, photo.height)
    return photo.crop((left, top, right, bottom))


def _edges(start: float, end: float, side: int) -> tuple[int, int]:
    first = min(max(round(start), 0), side - 1)
    return first, min(max(round(end), first + 1), side)


def write(
    dataset: DatasetDict, folder: str | Path, labels: Sequence[str], find: Find, *, threshold: float | None = None,
    min_side: int = 16, margin: float = 0.0, image_format: Literal["jpeg", "png"] = "jpeg", batch_size: int = 8,
    limits: images.Limits = images.LIMITS,
) -> dict[str, Any]:  # fmt: skip
    """Writes the cut-outs as parquet files that `data.load` reads, and `left_out.csv`.

    A photo's garments stay in its split. The rows have `image` (encoded, without metadata), `label` (a ClassLabel of
    the classes that occur), `score` (of a detector), `bbox` (x, y, width, height in pixels of the photo), `image_id`
    (of the photo), `item_id` (the photo's and the garment's number) and `source_row` (the photo's and the number).

    Args:
        dataset: Splits of rows with `image`, that can be decoded.
        folder: A new or empty folder.
        labels: The class names.
        find: `true_boxes`, or what `found_boxes` gives.
        threshold: Boxes of a lower score are left out; None where boxes have no score.
        min_side: Boxes whose shorter side has fewer pixels are left out.
        margin: See `cut`.
        image_format: Of the pictures: JPEG of quality 95 with whole colours, or PNG.
        batch_size: Photos that are in memory at once.
        limits: See `images.decode`.

    Returns:
        `photos` and `rows` (split -> count), `labels` (name -> rows), `left_out` (reason -> boxes or photos).

    Raises:
        InputError: The folder cannot be made, or the disk is full.
    """
    folder = Path(folder)
    photos: dict[str, int] = {}
    written: dict[str, int] = {}
    used: Counter[int] = Counter()
    left: Counter[str] = Counter()
    shards: dict[str, list[Path]] = {}
    total = sum(map(len, dataset.values()))
    low = "" if threshold is None else f"boxes with a score from {min(FLOOR, threshold):g} to below {threshold:g}"
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--output_dir {folder}", expected="a folder that can be made", found=str(error.strerror),
            fix="another --output_dir",
        ) from error  # fmt: skip
    with (
        writing(f"--output_dir {folder}"),
        tqdm(total=total, desc="cutting out", unit="photo", disable=total < BAR_FROM) as bar,
    ):
        with (folder / LEFT_OUT).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(("split", "where", "reason"))
            for split, rows in dataset.items():
                out = _Shards(folder / "data", split, _features(labels, threshold is not None))
                photos[split] = len(rows)
                with out:
                    for row, boxes, photo in _batches(rows, find, batch_size, limits):
                        kept, refused = _kept(boxes, threshold, min_side, low)
                        for reason in refused.values():
                            left[reason] += 1
                        told = [(f", box {number}", why) for number, why in refused.items() if why != low]
                        if not kept:
                            left[NOTHING] += 1
                            told.append(("", NOTHING))
                        for place, why in told:
                            table.writerow([safe(split), safe(f"{row['source_row']}{place}"), why])
                        for number in kept:
                            box = boxes[number]
                            used[box.label] += 1
                            out.add(_row(row, number, box, cut(photo, box.bbox, margin), image_format, threshold))
                        bar.update()
                written[split], shards[split] = out.rows, out.paths
        _finish(shards, [number for number in range(len(labels)) if used[number]], labels)
    often = {labels[number]: used[number] for number in range(len(labels)) if used[number]}
    return {"photos": photos, "rows": written, "labels": often, "left_out": dict(left)}


def _features(labels: Sequence[str], scored: bool) -> Features:
    return Features(
        {
            "image": Image(),
            "label": ClassLabel(names=list(labels)),
            **({"score": Value("float32")} if scored else {}),
            "bbox": List(Value("float32"), length=4),
            **dict.fromkeys(("image_id", "item_id", "source_row"), Value("string")),
        }
    )


def _batches(rows: Dataset, find: Find, size: int, limits: images.Limits) -> Any:
    """Of each row: it without its photo but with its names, its boxes, its photo."""
    ids, names, number = objects.image_ids(rows), objects.row_names(rows), 0
    encoded = rows.with_format(None).cast_column("image", Image(decode=False))
    for batch in encoded.iter(batch_size=size):
        pictures: Any = batch.pop("image")
        photos = [images.decode(picture, limits=limits) for picture in pictures]
        told = [
            {key: values[place] for key, values in batch.items()}
            | {"image_id": ids[number + place] or names[number + place], "source_row": names[number + place]}
            for place in range(len(photos))
        ]
        number += len(photos)
        yield from zip(told, find(photos, told), photos, strict=True)


def _kept(boxes: Sequence[Box], threshold: float | None, min_side: int, low: str) -> tuple[list[int], dict[int, str]]:
    """The places of the boxes that are cut out, and why others are not: `low` for those of a low score."""
    refused = {}
    for number, box in enumerate(boxes):
        if threshold is not None and box.score is not None and box.score < threshold:
            refused[number] = low
        elif box.crowd:
            refused[number] = "boxes of a group (iscrowd)"
        elif not min(box.bbox[2:]) >= min_side:  # so NaN is refused, too
            refused[number] = f"boxes with a side under {min_side} px"
    return [number for number in range(len(boxes)) if number not in refused], refused


def _row(
    row: Mapping[str, Any], number: int, box: Box, crop: PILImage.Image, image_format: str, threshold: float | None
) -> dict[str, Any]:
    buffer = BytesIO()
    if image_format == "png":
        crop.save(buffer, "PNG")
    else:
        crop.save(buffer, "JPEG", quality=95, subsampling=0)
    # Rows of a dataset, not names of files: two photos may have one name in two folders.
    return {
        "image": {"bytes": buffer.getvalue(), "path": None},
        "label": box.label,
        **({"score": box.score} if threshold is not None else {}),
        "bbox": list(box.bbox),
        "image_id": row["image_id"],
        "item_id": f"{row['image_id']}#{number}",
        "source_row": f"{row['source_row']}#{number}",
    }


class _Shards:
    """Files of one split, each of about `_SHARD` bytes; they end in .part until all are there."""

    def __init__(self, folder: Path, split: str, features: Features) -> None:
        self.folder, self.split, self.features = folder, split, features
        self.paths: list[Path] = []
        self.rows, self._bytes = 0, 0
        self._waiting: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        self.rows += 1
        self._bytes += len(row["image"]["bytes"])
        if len(self._waiting) >= _GROUP or self._bytes >= _SHARD:
            self._flush()
        if self._bytes >= _SHARD and self._writer is not None:
            self._writer.close()
            self._writer, self._bytes = None, 0

    def _flush(self) -> None:
        if not self._waiting:
            return
        schema = self.features.arrow_schema
        if self._writer is None:
            self.paths.append(self.folder / f"{self.split}-{len(self.paths):05d}.part")
            self._writer = pq.ParquetWriter(self.paths[-1], schema)
        self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=schema))
        self._waiting = []


def _finish(shards: Mapping[str, Sequence[Path]], used: Sequence[int], labels: Sequence[str]) -> None:
    """Gives all files their names. Classes of which there is no row are taken out of the labels: a training refuses
    what it cannot learn."""
    lookup = pa.array([used.index(number) if number in used else None for number in range(len(labels))], pa.int64())
    for split, paths in shards.items():
        for number, path in enumerate(paths):
            final = path.with_name(f"{split}-{number:05d}-of-{len(paths):05d}.parquet")
            if len(used) == len(labels):
                path.rename(final)
                continue
            part = pq.ParquetFile(path)
            scored = "score" in part.schema_arrow.names
            schema = _features([labels[place] for place in used], scored).arrow_schema
            place = schema.get_field_index("label")
            with pq.ParquetWriter(final, schema) as writer:
                for batch in part.iter_batches(batch_size=_GROUP):
                    table = pa.Table.from_batches([batch])
                    numbers = lookup.take(table.column("label").combine_chunks())
                    writer.write_table(table.set_column(place, "label", numbers).cast(schema))
            part.close()
            path.unlink()


def readme(
    folder: str | Path, counts: Mapping[str, Any], *, source: Mapping[str, Any], made_by: str,
    unreadable: Sequence[Mapping[str, str]] = (),
) -> str:  # fmt: skip
    """The card of the cut-outs.

    Args:
        folder: Where they are.
        counts: Of `write`.
        source: `Report.source` of the photos.
        made_by: What drew the boxes and how they were cut, in words.
        unreadable: Photos (and boxes) that were left out before, as `Report.left_out` has them.
    """
    front = {
        "license": source.get("license") or "unknown", "task_categories": ["image-classification"],
        "tags": ["hf_fashion", "fashion"],
    }  # fmt: skip
    name = str(source["source"])
    place = Path(name.partition(":")[2] or name).expanduser()
    name = place.name if place.exists() else name  # of a folder of somebody's, its own name alone
    revision = f" (revision {source['revision']})" if source.get("revision") else ""
    splits = "".join(f"| {split} | {counts['photos'][split]} | {rows} |\n" for split, rows in counts["rows"].items())
    often = sorted(counts["labels"].items(), key=lambda pair: -pair[1])
    classes = "".join(f"| {_cell(label)} | {rows} |\n" for label, rows in often)
    left = dict(counts["left_out"])
    left |= {"photos or boxes that cannot be used": len(unreadable)} if unreadable else {}
    out = "".join(f"- {reason}: {number}\n" for reason, number in left.items()) or "- nothing\n"
    cut_by = " --split_by image_id" if lacks_splits(counts) else ""
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# Garments cut out of photos\n\n"
        f"One row for each garment in the photos of `{name}`{revision}; made by `hf-fashion crop`. {made_by}\n\n"
        f"| split | photos | garments |\n|---|---|---|\n{splits}\n| class | garments |\n|---|---|\n{classes}\n"
        "`label` is the garment's class, `bbox` its box in the photo (x, y, width, height in pixels), `image_id` the "
        "photo, `item_id` the garment, `source_row` the row of the photo in its source, and the garment's number. The "
        "garments of a photo are in one split: keep it so (`--split_by image_id`) where you cut splits.\n\n"
        f"Left out (each by name in {LEFT_OUT}, but for boxes of a low score):\n\n{out}\n"
        f"```bash\nhf-fashion classify --dataset {shlex.quote(Path(folder).name)}{cut_by}\n```\n"
    )


def lacks_splits(counts: Mapping[str, Any]) -> bool:
    """Whether a training would cut splits from the rows, and so must keep a photo's garments together."""
    return not all(counts["rows"].get(split) for split in ORDER)


def add_left_out(folder: str | Path, unreadable: Sequence[Mapping[str, str]]) -> None:
    """Adds to `left_out.csv` what was left out before anything was cut."""
    with (Path(folder) / LEFT_OUT).open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(("", safe(row["where"]), safe(row["reason"])) for row in unreadable)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
