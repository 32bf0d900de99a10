"""DeepFashion2: photos from shops and of customers, with boxes (no masks, no landmarks) of 13 kinds of clothes.

- Rows: train 191,961, validation 32,153: the files that were released, as those who use them count them (they were
  not at hand when this was written). The README tells of 390,884 and 33,669, the whole of the paper; of test, photos
  without labels were released.
- Categories: 13, ids 1 to 13, named in the README.
- Licence: non-commercial research; a form has to be filled in for the password of the zips (README). The photos are
  their owners'.
- Paper: Yuying Ge, Ruimao Zhang, Lingyun Wu, Xiaogang Wang, Xiaoou Tang, Ping Luo: DeepFashion2: A Versatile Benchmark
  for Detection, Pose Estimation, Segmentation and Re-Identification of Clothing Images, CVPR 2019.
- Files: train/image/000001.jpg with train/annos/000001.json, and the same in validation/, unpacked.

An annotation has `source` (shop or user), `pair_id`, and an object for each garment: item1, item2, ... with
`category_id`, `category_name` and `bounding_box`, the corners [x1, y1, x2, y2] in pixels (deepfashion2_to_coco.py of
github.com/switchablenorms/DeepFashion2 takes x2 - x1 for the width). Photos of one pair_id show the same clothes: cut
splits by it, `--split_by pair_id`.
"""

import json
import re
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Value
from tqdm.auto import tqdm

from hf_fashion import sources, tables
from hf_fashion.reading import photos
from hf_fashion.report import Report, cell

LICENSE = "other"  # the Hub's id for one that has no id
HOMEPAGE = "https://github.com/switchablenorms/DeepFashion2"
COUNTS = {"train": 191_961, "validation": 32_153}
RAW = ("*/annos", "*/image")
LABELS = [
    "short sleeve top", "long sleeve top", "short sleeve outwear", "long sleeve outwear", "vest", "sling", "shorts",
    "trousers", "skirt", "short sleeve dress", "long sleeve dress", "vest dress", "sling dress",
]  # fmt: skip
_ITEM = re.compile(r"item\d+")
_ANEW = f"get the file anew from {HOMEPAGE}"
_BAR_AFTER = 2.0  # seconds


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the annotation of each photo.

    Args:
        folder: Holds train/ and validation/.
        report: Gets an error for each annotation that cannot be used and each photo that is missing, and a warning
            where a count differs from the published one.

    Returns:
        train and validation (one may be missing), with `image` (paths: nothing is copied), `image_id` (as 000001),
        `objects` (see `hf_fashion.boxes`), `pair_id`, `source` and `source_row` (path relative to the folder).

    Raises:
        InputError: There is neither of the two.
    """
    there = {split: folder / split for split in COUNTS if (folder / split / "annos").is_dir()}
    if not there:
        sources.find(folder, {"annos": ("train/annos",), "image": ("train/image",)}, HOMEPAGE)
    splits = {}
    for split, home in there.items():
        sources.find(folder, {"image": (f"{split}/image",)}, HOMEPAGE)
        splits[split] = _split(home, folder, report)
    return sources.finish(splits, COUNTS, report)


def _split(home: Path, folder: Path, report: Report) -> Dataset:
    faults = photos.Faults()
    row, category, bbox = array("q"), array("q"), array("d")
    ids: list[str] = []
    pairs: list[str] = []
    origins: list[str] = []
    files = sorted(path for path in (home / "annos").iterdir() if path.suffix == ".json")
    for path in tqdm(files, desc=f"reading {home.name}", unit="file", delay=_BAR_AFTER):
        where = photos.relative(path, folder)
        told = _parse(path, where, folder, faults)
        if told is None:
            continue
        for name in (name for name in told if _ITEM.fullmatch(name)):
            item = told[name] if isinstance(told[name], dict) else {}
            kind, box = item.get("category_id"), item.get("bounding_box")
            if not isinstance(kind, int) or not 1 <= kind <= len(LABELS):
                faults.add("error", f"{where}, {name}", "objects", "category_id 1 to 13", cell(f"{kind!r}"), _ANEW)
            elif item.get("category_name", LABELS[kind - 1]) != LABELS[kind - 1]:
                found = f"{kind} and {cell(str(item['category_name']))}"
                faults.add("error", f"{where}, {name}", "objects", "a category_name for its category_id", found, _ANEW)
            elif not isinstance(box, list) or not _are_four_numbers(box):
                faults.add(
                    "error", f"{where}, {name}", "objects", "a bounding_box x1, y1, x2, y2", cell(f"{box!r}"), _ANEW
                )
            else:
                row.append(len(ids))
                category.append(kind - 1)
                bbox.extend(map(float, box))
        ids.append(path.stem)
        pairs.append(str(told.get("pair_id", "")))
        origins.append(str(told.get("source", "")))
    names = [f"{home.name}/image/{name}.jpg" for name in ids]
    paths = tables.resolve(names, [f"{home.name}/annos/{name}.json" for name in ids], folder, report)
    faults.tell(report)
    kept = np.array([path is not None for path in paths], dtype=bool)
    there = np.flatnonzero(kept).tolist()
    rows, corners = np.array(row, dtype=np.int64), np.array(bbox).reshape(-1, 4)
    use = kept[rows]
    made = photos.make(
        [str(paths[number]) for number in there], [ids[number] for number in there],
        [names[number] for number in there], LABELS, (np.cumsum(kept) - 1)[rows[use]],
        np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)[use],
        np.array(category, dtype=np.int64)[use],
    )  # fmt: skip
    made = made.add_column("pair_id", [pairs[number] for number in there], feature=Value("string"))
    return made.add_column("source", [origins[number] for number in there], feature=Value("string"))


def _parse(path: Path, where: str, folder: Path, faults: photos.Faults) -> dict[str, Any] | None:
    """The annotation of one photo; None, and an error, where there is none."""
    try:
        if not photos.inside(path, folder):
            raise ValueError("a link out of the folder")
        told = json.loads(path.read_bytes())
        if isinstance(told, dict):
            return told
        found = f"a {type(told).__name__}"
    except (OSError, ValueError, RecursionError) as error:
        found = cell(str(error), 100)
    faults.add("error", where, "objects", "a JSON object", found, _ANEW)
    return None


def _are_four_numbers(box: list[Any]) -> bool:
    return len(box) == 4 and all(isinstance(value, int | float) for value in box)
