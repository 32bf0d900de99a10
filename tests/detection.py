"""Small photos with boxes, and the same as COCO, as a YOLO folder and as Pascal VOC."""

import json
from io import BytesIO

import numpy as np
import pytest
from datasets import Features, Image, List, Value
from PIL import Image as PILImage

from hf_fashion import checks, data
from hf_fashion.errors import InputError

COLUMNS = Features(
    {
        "image": Image(),
        "objects": {
            "bbox": List(List(Value("float32"), length=4)),
            "category": List(Value("string")),
            "area": List(Value("float32")),
        },
    }
)
WIDTH, HEIGHT = 40, 32
NAMES = ["bag", "hat", "shoe"]
IDS = {"bag": 7, "hat": 3, "shoe": 90}  # of COCO: any numbers, in another order than the names


def photo(seed=0, size=(WIDTH, HEIGHT), orientation=None, format="PNG"):
    """An encoded photo; with an EXIF orientation of 6 its upright width is the height given."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    exif = PILImage.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = BytesIO()
    PILImage.fromarray(pixels).save(buffer, format, exif=exif)
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def truth(rows=10, seed=0):
    """Name of a photo -> its boxes (name of the class, x, y, width, height), one photo without any."""
    random = np.random.default_rng(seed)
    made = {}
    for row in range(rows):
        boxes = []
        for box in range(row % 4):
            x, y = random.integers(0, WIDTH // 2), random.integers(0, HEIGHT // 2)
            w, h = random.integers(2, WIDTH // 2), random.integers(2, HEIGHT // 2)
            boxes.append((NAMES[(row + box) % 3], int(x), int(y), int(w), int(h)))
        made[f"{seed}_{row:03d}"] = boxes
    return made


def document(boxes, **changes):
    """A COCO json of photos called <name>.png."""
    names = list(boxes)
    flat = [(row, box) for row, name in enumerate(names) for box in boxes[name]]
    made = {
        "info": {},
        "images": [
            {"id": 100 + row, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
            for row, name in enumerate(names)
        ],
        "annotations": [
            {
                "id": number, "image_id": 100 + row, "category_id": IDS[kind], "bbox": box,
                "area": box[2] * box[3] / 2, "iscrowd": 0, "segmentation": [[1, 2, 3, 4, 5, 6]],
            }
            for number, (row, (kind, *box)) in enumerate(flat, 1)
        ],
        "categories": [{"id": IDS[name], "name": name, "supercategory": "x"} for name in NAMES],
    }  # fmt: skip
    return made | changes


def photos(folder, boxes):
    for number, name in enumerate(boxes):
        put(folder / f"{name}.png", photo(hash(name) % 2**32 + number))


def coco(root, **splits):
    """`annotations/instances_<split>2017.json` beside `<split>2017/`."""
    for split, boxes in splits.items():
        photos(root / f"{split}2017", boxes)
        put(root / "annotations" / f"instances_{split}2017.json", document(boxes))
    return root


def yolo(root, **splits):
    """`data.yaml`, `images/<split>/` and `labels/<split>/`."""
    for split, boxes in splits.items():
        photos(root / "images" / split, boxes)
        for name, each in boxes.items():
            if each:
                put(root / "labels" / split / f"{name}.txt", "".join(map(line, each)))
    lines = "".join(f"{split}: images/{split}\n" for split in splits)
    put(root / "data.yaml", f"path: .\n{lines}names: [{', '.join(NAMES)}]\n")
    return root


def line(box):
    kind, x, y, w, h = box
    shares = (x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT
    return f"{NAMES.index(kind)} " + " ".join(f"{share:.6f}" for share in shares) + "\n"


def xml(boxes, name, objects="", size=(WIDTH, HEIGHT)):
    """An annotation of Pascal VOC: corners from 1, the last pixel in the box."""
    for kind, x, y, w, h in boxes:
        objects += (
            f"<object><name>{kind}</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
            f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        )
    return (
        f"<annotation><folder>VOC</folder><filename>{name}.png</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height><depth>3</depth></size><segmented>0</segmented>{objects}</annotation>"
    )


def voc(root, **splits):
    """`Annotations/`, `JPEGImages/` and `ImageSets/Main/`."""
    for split, boxes in splits.items():
        photos(root / "JPEGImages", boxes)
        for name, each in boxes.items():
            put(root / "Annotations" / f"{name}.xml", xml(each, name))
        put(root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(boxes) + "\n")
    return root


def load(source, **options):
    return data.load(source, COLUMNS, **options)


def table(dataset):
    """Split -> name of each photo -> its boxes, as in `truth`, to a hundredth of a pixel."""
    names = data.box_labels(dataset)
    made = {}
    for split, rows in dataset.items():
        for row in rows.remove_columns("image"):
            kinds = [names[number] for number in row["objects"]["category"]]
            boxes = [tuple(round(value, 2) for value in box) for box in row["objects"]["bbox"]]
            name = row["source_row"].rsplit("/", 1)[-1].rsplit(".", 1)[0]
            made.setdefault(split, {})[name] = [(kind, *box) for kind, box in zip(kinds, boxes, strict=True)]
    return made


def check(dataset, report, **options):
    return checks.check(dataset, report, **options)


def told(report, level):
    return [(finding.where, finding.found) for finding in report.of(level)]


def expect_error(source, *words, **options):
    with pytest.raises(InputError) as caught:
        load(source, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
