"""Fashionpedia: photos of people in daily life and at events, with boxes (and masks, not read) of garments and parts.

- Rows: train 45,623, validation 1,158; 2,044 of test have no labels and are not read (counts of the published files,
  as those who use them give them; the files were not at hand when this was written).
- Categories: 46, of which the first 27 are garments and things that are worn or carried (ids 0 to 26), and 19 are
  parts of garments (collar, sleeve, pocket, ...; README of github.com/cvdfoundation/fashionpedia). The 294 attributes
  are not read.
- Licence: annotations CC BY 4.0 (card of the dataset on the Hub, detection-datasets/fashionpedia); of the photos, the
  rights are their owners'.
- Paper: Menglin Jia, Mengyun Shi, Mikhail Sirotenko, Yin Cui, Claire Cardie, Bharath Hariharan, Hartwig Adam, Serge
  Belongie: Fashionpedia: Ontology, Segmentation, and an Attribute Localization Dataset, ECCV 2020.
- Files: instances_attributes_train2020.json and instances_attributes_val2020.json, in COCO's format; train/ (of
  train2020.zip) and test/ (of val_test2020.zip, where the validation photos lie, too), unpacked.
"""

from pathlib import Path

from datasets import DatasetDict

from hf_fashion import sources
from hf_fashion.reading import coco
from hf_fashion.report import Report

LICENSE = "cc-by-4.0"
HOMEPAGE = "https://github.com/cvdfoundation/fashionpedia"
COUNTS = {"train": 45_623, "validation": 1_158}
RAW = ("instances_attributes_*2020.json",)
LABELS = [
    "shirt, blouse", "top, t-shirt, sweatshirt", "sweater", "cardigan", "jacket", "vest", "pants", "shorts", "skirt",
    "coat", "dress", "jumpsuit", "cape", "glasses", "hat", "headband, head covering, hair accessory", "tie", "glove",
    "watch", "belt", "leg warmer", "tights, stockings", "sock", "shoe", "bag, wallet", "scarf", "umbrella", "hood",
    "collar", "lapel", "epaulette", "sleeve", "pocket", "neckline", "buckle", "zipper", "applique", "bead", "bow",
    "flower", "fringe", "ribbon", "rivet", "ruffle", "sequin", "tassel",
]  # fmt: skip
_FILES = {
    "train": "instances_attributes_train2020.json", "validation": "instances_attributes_val2020.json",
}  # fmt: skip
_PICTURES = {
    "train": ("train", "train2020/train", "images/train"),
    "validation": ("test", "val_test2020/test", "val2020/test", "images/test", "val", "images/val"),
}


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the two jsons.

    Args:
        folder: Holds the jsons and the folders of photos.
        report: Gets an error for each photo that is missing and each annotation that cannot be used, and a warning
            where a count or the list of categories differs from the published one.

    Returns:
        train and validation, with `image` (paths: nothing is copied), `image_id`, `objects` (see `hf_fashion.boxes`;
        the area is that of the mask) and `source_row` (path relative to the folder).

    Raises:
        InputError: A file or folder is missing, or no COCO json.
    """
    wanted = {split: (file, f"annotations/{file}") for split, file in _FILES.items()}
    pictures = {f"{split} photos": paths for split, paths in _PICTURES.items()}
    found = sources.find(folder, {**wanted, **pictures}, HOMEPAGE)
    dataset = {}
    for split in COUNTS:
        document = coco.load(found[split])
        rows = coco.table(found[split], document, found[f"{split} photos"], folder, report)
        sources.tell_labels(rows, LABELS, split, report)
        dataset[split] = rows
    return sources.finish(dataset, COUNTS, report)
