"""Raw files of public datasets, written here in their exact form, whole and damaged."""

import csv
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, List
from PIL import Image as PILImage

from hf_fashion import checks, data, sources
from hf_fashion.errors import InputError
from hf_fashion.report import Report
from hf_fashion.sources import clothing, fashion_mnist, fashion_product_images
from hf_fashion.tasks import classify


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def photo(path, seed=0, size=(20, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    PILImage.fromarray(pixels).save(path)


def read(name, folder):
    report = Report({"source": name})
    return sources.module(name).load(folder, report), report


def load(name, folder, **options):
    """The whole way of a user: `--dataset <name>:<folder>`, and all checks."""
    dataset, report = data.load(f"{name}:{folder}", classify.COLUMNS, **options)
    checks.check(dataset, report).raise_on_errors()
    return dataset, report


def told(report, level):
    return [(finding.where, finding.column, finding.found) for finding in report.of(level)]


def rewrite(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


# --- Fashion-MNIST


def mnist(folder, rows=30, zipped=True):
    """Writes the four idx files, as the makers' own script does."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for prefix, count in (("train", rows), ("t10k", 10)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images = struct.pack(">IIII", 0x803, count, 28, 28) + pixels.tobytes()
        labels = struct.pack(">II", 0x801, count) + bytes(number % 10 for number in range(count))
        for name, content in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            path = folder / (name + ".gz" * zipped)
            path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist_comes_pixel_by_pixel_with_its_names(tmp_path, zipped):
    dataset, report = read("fashion_mnist", mnist(tmp_path / "raw", zipped=zipped))
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 30, "test": 10}
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    for number in (0, 29):
        assert (np.asarray(dataset["train"][number]["image"]) == pixels[number]).all()
    assert dataset["train"].features["label"] == ClassLabel(names=fashion_mnist.LABELS)
    assert dataset["train"]["label"][:12] == [*range(10), 0, 1]
    assert dataset["test"]["source_row"][9] == "test:9"
    assert told(report, "warning") == [("split train", "", "30"), ("split test", "", "10")]  # a part, not the whole
    assert not report.of("error")


def test_fashion_mnist_goes_the_whole_way(tmp_path):
    dataset, report = load("fashion_mnist", mnist(tmp_path / "raw", rows=60))
    assert report.sizes == {"train": 50, "validation": 10, "test": 10} and report.cut == ["validation"]
    assert (report.source["kind"], report.source["license"]) == ("fashion_mnist", "mit")
    assert data.labels(dataset)[9] == "Ankle boot"


def set_bytes(path, change):
    path.write_bytes(gzip.compress(bytes(change(bytearray(gzip.decompress(path.read_bytes()))))))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("train-images-idx3-ubyte.gz", lambda raw: raw[:-5], r"23536 bytes.*\n.*23531"),
        ("train-images-idx3-ubyte.gz", lambda raw: raw + b"\0", r"23536 bytes.*\n.*23537"),
        ("train-images-idx3-ubyte.gz", lambda raw: raw[:9], "starts with 0x00000803"),
        ("train-images-idx3-ubyte.gz", lambda raw: raw[:3] + b"\1" + raw[4:], r"0x00000803.*\n.*00 00 08 01"),
        ("t10k-labels-idx1-ubyte.gz", lambda raw: b"<html>" + raw, "starts with 0x00000801"),
        ("t10k-labels-idx1-ubyte.gz", lambda raw: struct.pack(">II", 0x801, 9) + raw[8:-1], "10 pictures, 9 labels"),
        (
            "t10k-images-idx3-ubyte.gz",
            lambda raw: raw[:8] + struct.pack(">II", 14, 56) + raw[16:],
            r"28 x 28 pixels\n.*14 x 56",
        ),
    ],
)
def test_damaged_idx_files_are_refused_by_name(tmp_path, file, damage, message):
    folder = mnist(tmp_path / "raw")
    set_bytes(folder / file, damage)
    with pytest.raises(InputError, match=message) as caught:
        read("fashion_mnist", folder)
    assert file in str(caught.value) and fashion_mnist.HOMEPAGE in str(caught.value)


@pytest.mark.parametrize("cut", [lambda raw: raw[:-9], lambda raw: b"no gzip", lambda raw: raw[:40] + b"\xff" * 60])
def test_a_damaged_gzip_file_is_refused_by_name(tmp_path, cut):
    folder = mnist(tmp_path / "raw")
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte.gz\n.*a whole gzip file"):
        read("fashion_mnist", folder)


def test_a_label_that_is_no_class_is_told_by_row(tmp_path):
    folder = mnist(tmp_path / "raw")
    set_bytes(folder / "train-labels-idx1-ubyte.gz", lambda raw: raw[: 8 + 4] + b"\x0a" + raw[8 + 5 :])
    dataset, report = read("fashion_mnist", folder)
    assert told(report, "error") == [("train-labels-idx1-ubyte.gz:4", "label", "10")]
    assert len(dataset["train"]) == 29 and "train:4" not in dataset["train"]["source_row"]
    with pytest.raises(InputError, match="train-labels-idx1-ubyte.gz:4"):
        load("fashion_mnist", folder)


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.isdir(os.environ.get("HF_FASHION_MNIST", "")), reason="HF_FASHION_MNIST names no folder"
)
def test_the_real_fashion_mnist_is_as_published():
    dataset, report = read("fashion_mnist", Path(os.environ["HF_FASHION_MNIST"]))
    assert not report.findings
    for split, each in (("train", 6000), ("test", 1000)):
        assert data.class_counts(dataset[split]).tolist() == [each] * 10


# --- clothing


def garments(folder, per_class=2):
    seed = 0
    for split in ("train", "validation", "test"):
        for label in clothing.LABELS:
            for _ in range(per_class):
                photo(folder / split / label / f"{seed}.jpg", seed := seed + 1)
    (folder / "README.md").write_text("## Clothing dataset (subset)\n")
    (folder / "LICENSE").write_text("CC0\n")
    return folder


def test_clothing_goes_the_whole_way(tmp_path):
    dataset, report = load("clothing", garments(tmp_path / "clothing-dataset-small"))
    assert report.sizes == {"train": 20, "validation": 20, "test": 20} and report.cut == []
    assert (report.source["kind"], report.source["license"]) == ("clothing", "cc0-1.0")
    assert data.labels(dataset) == clothing.LABELS
    assert dataset["test"]["source_row"][0].startswith("test/dress/")
    assert ("split train", "", "20") in told(report, "warning")


def test_a_folder_that_is_no_class_of_clothing_is_an_error(tmp_path):
    folder = garments(tmp_path / "raw", per_class=1)
    photo(folder / "train" / "tshirt" / "1.jpg", 99)
    dataset, report = read("clothing", folder)
    assert told(report, "error") == [("train/tshirt", "label", "1 pictures of 'tshirt'")]
    assert len(dataset["train"]) == 10


def test_clothing_without_a_split_says_which(tmp_path):
    folder = garments(tmp_path / "raw", per_class=1)
    (folder / "validation").rename(folder / "val")
    with pytest.raises(
        InputError, match=r"expected: train, validation, test\n.*no validation; there is: LICENSE, README"
    ):
        read("clothing", folder)


# --- Fashion Product Images

ROWS = [
    "15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt",
    "39386,Men,Apparel,Bottomwear,Jeans,Blue,Summer,2012,Casual,Peter England Men Party Blue Jeans",
    "59263,Women,Accessories,Watches,Watches,Silver,Winter,2016,Casual,Titan Women Silver Watch",
    "13,Unisex,Footwear,Shoes,Casual Shoes,White,Winter,2012,Casual,Newfeel Unisex White, Blue and Orange, Casual",
    '14,Boys,Apparel,Topwear,Tshirts,Red,,,NA,Disney Boys 3" Red Tshirt',
    '15,Girls,Apparel,Topwear,Tshirts,NA,Fall,2011.0,Sports,"Gini, and ""Jony"" Girls"',
]


def shop(folder, rows=ROWS, without=()):
    folder.mkdir(exist_ok=True)
    (folder / "styles.csv").write_text("\n".join([fashion_product_images.HEADER, *rows]) + "\n")
    for number, row in enumerate(rows):
        if (name := row.split(",")[0]) not in without:
            photo(folder / "images" / f"{name}.jpg", number)
    return folder


def test_titles_with_commas_and_lone_quotes_are_read_and_empty_cells_are_null(tmp_path):
    dataset, report = read("fashion_product_images", shop(tmp_path / "raw"))
    rows = dataset["train"]
    assert not report.of("error")
    assert rows["title"][3:] == [
        "Newfeel Unisex White, Blue and Orange, Casual",
        'Disney Boys 3" Red Tshirt',
        'Gini, and "Jony" Girls',
    ]
    assert rows["year"][:] == [2011, 2012, 2016, 2012, None, 2011]
    assert rows.features["season"] == ClassLabel(names=["Fall", "Summer", "Winter"])
    assert [rows[4][name] for name in ("season", "usage")] == [None, None] and rows[5]["base_colour"] is None
    assert rows.features["article_type"].int2str(rows["article_type"][1]) == "Jeans"
    assert rows["source_row"][0] == "images/15970.jpg" and rows[0]["image"].size == (24, 20)
    # the plain reader of Python sees the first trouble in the same file
    with open("raw/styles.csv", newline="") as file:
        assert len(list(csv.reader(file))[4]) == 12


def test_fashion_product_images_goes_the_whole_way(tmp_path):
    rows = [
        f"{number},Men,Apparel,Topwear,{('Shirts', 'Jeans')[number % 2]},Blue,Fall,2011,Casual,A, thing"
        for number in range(1, 41)
    ]
    dataset, report = load("fashion_product_images", shop(tmp_path / "raw", rows), names={"label": "article_type"})
    assert report.sizes == {"train": 28, "validation": 6, "test": 6}
    assert data.labels(dataset) == ["Jeans", "Shirts"]
    assert (report.source["kind"], report.source["license"]) == ("fashion_product_images", "unknown")


def test_the_pictures_that_were_never_published_are_a_note_and_others_are_errors(tmp_path):
    known = "39403,Men,Apparel,Topwear,Shirts,Red,Fall,2011,Casual,Without a picture"
    folder = shop(tmp_path / "raw", [*ROWS, known], without=("39403", "59263"))
    dataset, report = read("fashion_product_images", folder)
    assert told(report, "note") == [("styles.csv", "image", "1 rows whose picture was never published")]
    assert told(report, "error") == [("styles.csv:4", "image", "no such file: images/59263.jpg")]
    assert len(dataset["train"]) == 5
    (folder / "images" / "39403.jpg").write_bytes((folder / "images" / "13.jpg").read_bytes())
    assert len(read("fashion_product_images", folder)[0]["train"]) == 6  # should it ever be published


@pytest.mark.parametrize(
    ("row", "where", "found"),
    [
        ("16,Men,Apparel", "", "3"),
        ("abc" + ROWS[0][5:], "id", "'abc'"),
        ("../13" + ROWS[0][5:], "id", "'../13'"),
        (ROWS[0], "id", "15970, as in line 2"),
        ("16" + ROWS[0][5:].replace("2011", "Casual"), "year", "'Casual'"),
    ],
)
def test_lines_that_cannot_be_used_are_told_by_number(tmp_path, row, where, found):
    folder = shop(tmp_path / "raw")
    path = folder / "styles.csv"
    path.write_text(path.read_text() + "\n" + row + "\n")
    dataset, report = read("fashion_product_images", folder)
    assert told(report, "error") == [("styles.csv:9", where, found)]
    assert len(dataset["train"]) == 6


def test_another_table_is_refused(tmp_path):
    folder = shop(tmp_path / "raw")
    rewrite(folder / "styles.csv", "baseColour", "color")
    with pytest.raises(InputError, match=r"styles.csv\n.*expected: the first line id,gender"):
        read("fashion_product_images", folder)


# --- DeepFashion

CATEGORIES = ["Anorak", "Blazer", "Blouse", "Cape"]
ATTRIBUTES = ["a-line", "abstract", "abstract chevron", "abstract chevron print"]
VALUES = {0: "-1 -1  1 -1", 1: " 1  1 -1 -1", 2: "-1 -1 -1 -1", 3: " 0  0  0  0", 4: " 1  0 -1 -1"}


def place(number):
    return f"img/Sheer_Pleated-Front_Blouse/img_{number:08d}.jpg"


def deep(folder, rows=24, annotations="Anno_coarse", boxes=True):
    """Writes the lists as they are published: a count, a header, fixed-width columns."""
    (folder / annotations).mkdir(parents=True)
    (folder / "Eval").mkdir()
    kinds = ("category", "attribute")
    lists = {
        f"{annotations}/list_{short}_cloth.txt": (
            f"{kind}_name  {kind}_type",
            [f"{name:<29}{number % 3 + 1}" for number, name in enumerate(names)],
        )
        for kind, short, names in zip(kinds, ("category", "attr"), (CATEGORIES, ATTRIBUTES), strict=True)
    }
    columns = {
        f"{annotations}/list_category_img.txt": ("image_name  category_label", lambda row: str(row % 3 + 1)),
        f"{annotations}/list_attr_img.txt": ("image_name  attribute_labels", lambda row: VALUES[row % 5]),
        "Eval/list_eval_partition.txt": (
            "image_name  evaluation_status",
            lambda row: "train" if row < rows // 2 else ("val", "test")[row // 3 % 2],
        ),
    }
    if boxes:
        columns[f"{annotations}/list_bbox.txt"] = (
            "image_name  x_1  y_1  x_2  y_2",
            lambda row: f"{row:03d} 001 030 020",
        )
    for name, (header, cell) in columns.items():
        lists[name] = (header, [f"{place(row):<70} {cell(row)}" for row in range(rows)])
    for name, (header, content) in lists.items():
        (folder / name).write_text("\n".join([str(len(content)), header, *content]) + "\n")
    for row in range(rows):
        photo(folder / place(row), row)
    return folder


def test_deepfashion_has_categories_attributes_and_boxes(tmp_path):
    dataset, report = read("deepfashion", deep(tmp_path / "raw"))
    assert not report.of("error")
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 12, "validation": 6, "test": 6}
    rows = dataset["train"]
    assert rows.features["category"] == ClassLabel(names=["Anorak", "Blazer", "Blouse"])  # no picture is a Cape
    assert rows["category"][:4] == [0, 1, 2, 0]
    assert rows.features["attributes"] == List(ClassLabel(names=ATTRIBUTES))
    assert rows["attributes"][:5] == [[2], [0, 1], [], None, [0]]  # [] is none, null is unknown
    assert rows["bbox"][:2] == [[0, 1, 30, 19], [1, 1, 29, 19]]  # x, y, width, height
    assert rows["source_row"][1] == place(1) and rows[1]["image"].size == (24, 20)
    notes = told(report, "note")
    assert ("list_category_cloth.txt", "category", "no picture, so no class: Cape") in notes
    assert any(where == "list_attr_img.txt" and found.startswith("4 pictures with some") for where, _, found in notes)


@pytest.mark.parametrize("annotations", ["Anno_coarse", "Anno"])
def test_deepfashion_goes_the_whole_way_in_its_own_splits(tmp_path, annotations):
    dataset, report = load("deepfashion", deep(tmp_path / "raw", annotations=annotations, boxes=False))
    assert report.sizes == {"train": 12, "validation": 6, "test": 6} and report.cut == []
    assert data.labels(dataset) == CATEGORIES[:3]
    assert report.source["kind"] == "deepfashion"


def test_deepfashion_pictures_may_lie_where_the_archive_puts_them(tmp_path):
    folder = deep(tmp_path / "raw")
    (folder / "Img").mkdir()
    (folder / "img").rename(folder / "Img" / "img")
    assert len(read("deepfashion", folder)[0]["train"]) == 12


CATEGORY, PARTITION = "Anno_coarse/list_category_img.txt", "Eval/list_eval_partition.txt"
VALUE_LIST, BOX_LIST = "Anno_coarse/list_attr_img.txt", "Anno_coarse/list_bbox.txt"


@pytest.mark.parametrize(
    ("file", "old", "new", "where", "column", "found", "left"),
    [
        (CATEGORY, f"{place(1):<70} 2", f"{place(1):<70} 5", "list_category_img.txt:4", "category", "'5'", 23),
        (CATEGORY, f"{place(1):<70} 2", f"{place(1):<70} 0", "list_category_img.txt:4", "category", "'0'", 23),
        (CATEGORY, f"{place(1):<70} 2", f"{place(1)}", "list_category_img.txt:4", "category", "''", 23),
        (PARTITION, f"{place(1):<70} train", f"{place(1)} trial", "list_eval_partition.txt:4", "split", "'trial'", 23),
        (PARTITION, f"{place(1):<70} train", f"{place(0)} train", "list_eval_partition.txt:4", "image", place(0), 23),
        (VALUE_LIST, f"{place(1):<70}  1  1 -1 -1", f"{place(1):<70}  1  1 -1", "list_attr_img.txt:4", "attributes",
         "1  1 -1", 23),
        (VALUE_LIST, f"{place(1):<70}  1  1 -1 -1", f"{place(1):<70}  1  2 -1 -1", "list_attr_img.txt:4", "attributes",
         "1  2 -1 -1", 23),
        (VALUE_LIST, f"{place(1):<70}  1  1 -1 -1", f"{place(1):<70}  1  x -1 -1", "list_attr_img.txt:4", "attributes",
         "1  x -1 -1", 23),
        (CATEGORY, "24\n", "25\n", "list_category_img.txt:1", "", "24", 24),
        (VALUE_LIST, "24\n", "23\n", "list_attr_img.txt:1", "", "24", 24),
        (CATEGORY, f"{place(1):<70} 2", "img/../../x.jpg 2", "list_attr_img.txt:4", "image", place(1), 23),
    ],
)  # fmt: skip
def test_rows_of_deepfashion_that_cannot_be_used_are_told_by_line(
    tmp_path, file, old, new, where, column, found, left
):
    folder = deep(tmp_path / "raw")
    rewrite(folder / file, old, new)
    dataset, report = read("deepfashion", folder)
    assert (where, column, found) in told(report, "error")
    assert sum(map(len, dataset.values())) == left
    with pytest.raises(InputError, match=where.split(":")[0]):
        load("deepfashion", folder)


def test_a_list_that_is_cut_short_is_one_error_not_one_a_row(tmp_path):
    folder = deep(tmp_path / "raw")
    path = folder / VALUE_LIST
    path.write_text("\n".join(path.read_text().splitlines()[:12]))
    dataset, report = read("deepfashion", folder)
    assert told(report, "error") == [
        ("list_attr_img.txt:1", "", "10"),
        ("list_attr_img.txt", "image", f"14 pictures without one, the first: {place(10)}"),
    ]
    assert len(dataset["train"]) == 10


def test_a_picture_that_is_missing_is_told_by_line_and_can_be_left_out(tmp_path):
    folder = deep(tmp_path / "raw")
    (folder / place(2)).unlink()
    dataset, report = read("deepfashion", folder)
    assert told(report, "error") == [("list_category_img.txt:5", "image", f"no such file: {place(2)}")]
    report.leave_out_pictures()
    assert not report.of("error") and place(2) not in dataset["train"]["source_row"]


def test_a_box_that_is_none_is_left_empty(tmp_path):
    folder = deep(tmp_path / "raw")
    rewrite(folder / BOX_LIST, f"{place(1):<70} 001 001 030 020", f"{place(1):<70} 030 001 030 020")
    dataset, report = read("deepfashion", folder)
    assert ("list_bbox.txt:4", "bbox", "030 001 030 020") in told(report, "warning")
    assert dataset["train"]["bbox"][:2] == [[0, 1, 30, 19], None]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (CATEGORY, "24\n", "image_name\n"),
        ("Anno_coarse/list_attr_cloth.txt", f"{'abstract':<29}2", "abstract"),
        ("Anno_coarse/list_category_cloth.txt", "Blazer ", "Anorak "),
    ],
)
def test_a_list_that_cannot_be_one_is_refused(tmp_path, file, old, new):
    folder = deep(tmp_path / "raw")
    rewrite(folder / file, old, new)
    with pytest.raises(InputError, match=file.split("/")[1]):
        read("deepfashion", folder)


# --- how a user names one


def test_every_module_keeps_the_contract():
    photos = ["clothing", "deepfashion", "fashion_mnist", "fashion_product_images"]
    retrieval = ["consumer_to_shop", "fashion200k", "fashion_iq", "hm", "inshop"]
    assert sources.names() == sorted([*photos, "deepfashion2", "fashionpedia", "modanet", *retrieval])
    for name in sources.names():
        module = sources.module(name)
        assert module.__doc__ and module.HOMEPAGE.startswith("https://") and isinstance(module.LICENSE, str)
        assert sum(module.COUNTS.values()) > 0 or module.TOTAL  # of one no list says how many are in each split
        assert set(module.COUNTS) <= {"train", "validation", "test"}
        for fact in ("Rows:", "Licence:", "Paper:", "Files:"):
            assert fact in module.__doc__


@pytest.mark.parametrize("name", ["clothing", "deepfashion", "fashion_mnist", "fashion_product_images"])
def test_a_wrong_folder_says_what_was_expected_and_where_to_get_it(tmp_path, name):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(InputError, match="there is: notes.txt") as caught:
        data.load(f"{name}:other", classify.COLUMNS)
    assert sources.module(name).HOMEPAGE in caught.value.fix
    with pytest.raises(InputError, match="no such folder"):
        data.load(f"{name}:nowhere", classify.COLUMNS)


@pytest.mark.parametrize("wrong", ["Fashion-MNIST", "fashion_mnst", "fashionmnist"])
def test_a_misspelt_name_is_answered_with_the_right_one(tmp_path, wrong):
    mnist(tmp_path / "raw")
    with pytest.raises(InputError, match=r"did you mean fashion_mnist\?\n.*type fashion_mnist:raw"):
        data.load(f"{wrong}:raw", classify.COLUMNS)


def test_a_name_like_no_other_is_answered_with_all(tmp_path):
    mnist(tmp_path / "raw")
    with pytest.raises(InputError, match="expected: one of clothing, consumer_to_shop, deepfashion"):
        data.load("zzz:raw", classify.COLUMNS)


def test_a_path_that_holds_a_colon_stays_a_path(tmp_path):
    garments(tmp_path / "clothing:raw", per_class=1)
    dataset, report = data.load("clothing:raw", classify.COLUMNS)
    assert report.source["kind"] == "class folders" and report.sizes["train"] == 10
    with pytest.raises(InputError, match=r"dataset C:\\photos\n.*a folder, a .csv"):
        data.load("C:\\photos", classify.COLUMNS)
    with pytest.raises(InputError, match="dataset zzz:nowhere"):
        data.load("zzz:nowhere", classify.COLUMNS)


@pytest.mark.parametrize(
    ("name", "write"), [("fashion_mnist", mnist), ("fashion_product_images", shop), ("deepfashion", deep)]
)
def test_raw_files_given_without_the_name_are_told_apart(tmp_path, name, write):
    write(tmp_path / "raw")
    with pytest.raises(InputError, match=f"raw files that {name} reads\n.*type {name}:raw"):
        data.load("raw", classify.COLUMNS)


def test_config_and_revision_belong_to_other_sources(tmp_path):
    mnist(tmp_path / "raw")
    with pytest.raises(InputError, match="config big"):
        data.load("fashion_mnist:raw", classify.COLUMNS, config="big")
    with pytest.raises(InputError, match="revision main"):
        data.load("fashion_mnist:raw", classify.COLUMNS, revision="main")
