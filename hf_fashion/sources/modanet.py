"""ModaNet: street photos of the PaperDoll (Chictopia) set, with boxes (no polygons) of 13 kinds of garments.

- Rows: 55,176 photos (the paper), of which 52,377 in train (as those who use it count them: the file was not at hand
  when this was written); the published json of the others holds no annotations (they are those of a challenge; 210 KB
  where that of train has 101 MB, README) and is not read.
- Categories: 13, listed in the README; ids 1 to 13.
- Licence: annotations CC BY-NC 4.0 (README of github.com/eBay/modanet); of the photos, the rights are their owners'.
- Paper: Shuai Zheng, Fan Yang, M. Hadi Kiapour, Robinson Piramuthu: ModaNet: A Large-Scale Street Fashion Dataset with
  Polygon Annotations, ACM Multimedia 2018.
- Files: annotations/modanet2018_instances_train.json, in COCO's format; images/ with the photos under the names of the
  json (they are not published with the annotations: they come from github.com/kyamagu/paperdoll).
"""

from pathlib import Path

from datasets import DatasetDict

from hf_fashion import sources
from hf_fashion.reading import coco
from hf_fashion.report import Report

LICENSE = "cc-by-nc-4.0"
HOMEPAGE = "https://github.com/eBay/modanet"
COUNTS = {"train": 52_377}
RAW = ("annotations/modanet2018_instances_train.json",)
LABELS = [
    "bag", "belt", "boots", "footwear", "outer", "dress", "sunglasses", "pants", "top", "shorts", "skirt", "headwear",
    "scarf & tie",
]  # fmt: skip
_JSON = "modanet2018_instances_train.json"


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the json of train.

    Args:
        folder: Holds the json and the photos.
        report: Gets an error for each photo that is missing and each annotation that cannot be used, and a warning
            where a count or the list of categories differs from the published one.

    Returns:
        train, with `image` (paths: nothing is copied), `image_id`, `objects` (see `hf_fashion.boxes`; the area is that
        of the polygons) and `source_row` (path relative to the folder).

    Raises:
        InputError: A file or folder is missing, or no COCO json.
    """
    wanted = {"json": (f"annotations/{_JSON}", _JSON), "photos": ("images", "photos", "images/train")}
    found = sources.find(folder, wanted, HOMEPAGE)
    rows = coco.table(found["json"], coco.load(found["json"]), found["photos"], folder, report)
    sources.tell_labels(rows, LABELS, "train", report)
    return sources.finish({"train": rows}, COUNTS, report)
