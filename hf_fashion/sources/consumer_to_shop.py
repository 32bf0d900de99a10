"""DeepFashion, Consumer-to-shop Clothes Retrieval Benchmark: a photo by a consumer asks for the shop's photos of the
item.

- Rows: 239,557 photos in 195,540 pairs of one by a consumer and one of the shop (README of the dataset). How many lie
  in each split was not at hand when this was written, so only their sum is compared.
- Licence: non-commercial research only, by an agreement with the Multimedia Laboratory of the Chinese University of
  Hong Kong, which forbids to pass the pictures on.
- Paper: Ziwei Liu, Ping Luo, Shi Qiu, Xiaogang Wang, Xiaoou Tang: DeepFashion: Powering Robust Clothes Recognition and
  Retrieval with Rich Annotations, CVPR 2016.
- Files: Eval/list_eval_partition.txt; img/ (or Img/img/), unpacked.

The first line of the list is the number of its rows, the second names its columns: the consumer's picture, the shop's,
the item, and train, val or test. A picture stands in several lines; here it is one row, with the role query where it
is a consumer's and gallery where it is the shop's. `protocols.consumer_to_shop` measures as the benchmark does.
"""

from pathlib import Path
from typing import Any

from datasets import DatasetDict

from hf_fashion import sources
from hf_fashion.report import Report, cell
from hf_fashion.sources import inshop
from hf_fashion.sources.deepfashion import lines

LICENSE = "other"
HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/Consumer2ShopRetrieval.html"
COUNTS: dict[str, int] = {}
TOTAL = 239_557
RAW = ("Anno*/list_*consumer2shop*", "Eval/list_eval_partition.txt")
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_ROLES = ("query", "gallery")  # of the two pictures of a line
_ANEW = f"get the file anew from {HOMEPAGE}"


def load(folder: Path, report: Report) -> DatasetDict:
    """Reads the list.

    Args:
        folder: Holds Eval/ and img/.
        report: Gets an error for each line that cannot be used, each picture that is missing and a list whose length
            is not what its first line says, and a warning where the number of photos differs from the published one.

    Returns:
        train, validation and test, with `image` (paths: nothing is copied), `item_id`, `role` (query for a consumer's
        photo, gallery for the shop's, also in train), `group` and `category` (folders of the picture, as CLOTHING and
        Blouse) and `source_row` (the path as the list has it).

    Raises:
        InputError: A file is missing, or no such list.
    """
    wanted = {
        "list": ("Eval/list_eval_partition.txt", "list_eval_partition.txt"), "img": ("img", "Img/img"),
    }  # fmt: skip
    files = sources.find(folder, wanted, HOMEPAGE)
    rows: dict[str, dict[str, Any]] = {}
    for line, text in lines(files["list"], report):
        where, cells = f"{files['list'].name}:{line}", text.split()
        if len(cells) != 4 or cells[3] not in _SPLITS:
            report.add(
                "error", where, "", expected=f"two pictures, an item, and {', '.join(_SPLITS)}",
                found=cell(" ".join(cells)), fix=_ANEW,
            )  # fmt: skip
            continue
        item, split = cells[2], _SPLITS[cells[3]]
        for picture, role in zip(cells[:2], _ROLES, strict=True):
            parts = [*picture.split("/")[1:-2], None, None]  # img/CLOTHING/Blouse/id_00000001/shop_01.jpg
            row = {
                "split": split, "where": where, "item_id": item, "role": role, "group": parts[0],
                "category": parts[1], "source_row": picture,
            }  # fmt: skip
            before = rows.setdefault(picture, row)
            odd = [name for name in ("split", "item_id", "role") if before[name] != row[name]]
            if odd:
                report.add(
                    "error", where, odd[0], expected=f"{before[odd[0]]}, as in {before['where']}",
                    found=cell(f"{row[odd[0]]} for {picture}"), fix=_ANEW,
                )  # fmt: skip
    found = inshop.dataset(rows, files["img"].parent, COUNTS, report)
    count = sum(map(len, found.values()))
    if count != TOTAL:
        report.add(
            "warning", "dataset", "", expected=f"{TOTAL} photos, as published", found=str(count),
            fix="nothing, if a part is wanted; figures will not compare with published ones",
        )  # fmt: skip
    return found
