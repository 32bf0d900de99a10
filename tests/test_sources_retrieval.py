"""Raw files of public datasets for retrieval, written here in their exact form, whole and damaged."""

import json

import pytest
from datasets import ClassLabel, DatasetDict, Features, Image
from detection import photo, put, told

from hf_fashion import data, protocols, sources
from hf_fashion.errors import InputError
from hf_fashion.report import Report
from hf_fashion.sources import consumer_to_shop, fashion_iq, fashion_product_images


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(name, folder):
    report = Report({"source": name})
    return sources.module(name).load(folder, report), report


def errors(report):
    return [(finding.where, finding.column, finding.found) for finding in report.of("error")]


def picture(path, seed=0):
    return put(path, photo(seed, format="JPEG"))


def rewrite(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def change(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def listed(path, header, lines):
    """A list of DeepFashion: a count, a header, columns that are filled up with blanks."""
    return put(path, "\n".join([str(len(lines)), header, *lines]) + "\n")


# --- In-shop

PARTITION = "Eval/list_eval_partition.txt"
INSHOP = [  # gender, category, item, photo, status
    ("WOMEN", "Dresses", 2, "02_1_front", "train"),
    ("WOMEN", "Dresses", 2, "02_3_back", "train"),
    ("MEN", "Denim", 80, "01_1_front", "train"),
    ("WOMEN", "Tees_Tanks", 1, "01_1_front", "query"),
    ("WOMEN", "Tees_Tanks", 1, "01_2_side", "gallery"),
    ("WOMEN", "Tees_Tanks", 1, "01_4_full", "gallery"),
    ("MEN", "Pants", 7, "03_1_front", "query"),
    ("MEN", "Pants", 7, "03_7_additional", "gallery"),
]


def inshop_path(row):
    gender, category, item, name, _ = row
    return f"img/{gender}/{category}/id_{item:08d}/{name}.jpg"


def inshop_line(row):
    return f"{inshop_path(row):<70} id_{row[2]:08d} {row[4]}"


@pytest.fixture
def inshop_raw(tmp_path):
    root = tmp_path / "In-shop"
    listed(root / PARTITION, "image_name item_id evaluation_status", [inshop_line(row) for row in INSHOP])
    for number, row in enumerate(INSHOP):
        picture(root / inshop_path(row), number)
    put(
        root / "Anno" / "list_description_inshop.json",
        [
            {"item": "id_00000001", "color": "Cream", "description": ["Soft and easy. ", "", "100% Cotton"]},
            {"item": "id_00000001", "color": "Black", "description": ["Another colour"]},
            {"item": "id_00000002", "color": "Red", "description": []},
        ],
    )
    return root


def test_inshop_has_items_roles_and_descriptions(inshop_raw):
    dataset, report = read("inshop", inshop_raw)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 3, "test": 5}
    test = dataset["test"]
    assert test["item_id"][:] == ["id_00000001"] * 3 + ["id_00000007"] * 2
    assert test["role"][:] == ["query", "gallery", "gallery", "query", "gallery"]
    assert dataset["train"]["role"][:] == [None] * 3
    assert test["text"][:] == ["Soft and easy. 100% Cotton"] * 3 + [None] * 2 and dataset["train"]["text"][0] is None
    assert (test["gender"][0], test["category"][0]) == ("WOMEN", "Tees_Tanks")
    assert test["source_row"][0] == inshop_path(INSHOP[3]) and test[0]["image"].size == (40, 32)
    assert [finding.where for finding in report.of("warning")] == ["split train", "split test"] and not errors(report)


def test_inshop_is_measured_as_its_benchmark_does(inshop_raw):
    dataset, _ = read("inshop", inshop_raw)
    found = protocols.in_shop(dataset["test"])
    assert found.queries.tolist() == [0, 3] and found.gallery.tolist() == [1, 2, 4]
    assert [one.tolist() for one in found.relevant] == [[0, 1], [2]] and found.left_out == {}
    protocols.refuse_leaks(dataset)


def test_inshop_without_descriptions_and_where_the_archive_puts_the_pictures(inshop_raw):
    (inshop_raw / "Anno" / "list_description_inshop.json").unlink()
    (inshop_raw / "Img").mkdir()
    (inshop_raw / "img").rename(inshop_raw / "Img" / "img")
    dataset, report = read("inshop", inshop_raw)
    assert len(dataset["test"]) == 5 and "text" not in dataset["test"].column_names and not errors(report)


@pytest.mark.parametrize(
    ("old", "new", "where", "column", "left"),
    [
        ("id_00000080 train", "id_00000080 val", ":5", "evaluation_status", 7),
        ("id_00000080 train", "train", ":5", "", 7),
        ("03_7_additional.jpg", "03_1_front.jpg", ":10", "image_name", 7),
        ("id_00000080 train", "id_00000080 query", "", "", 8),  # all right: another status
        ("id_00000007 gallery", "id_00000080 gallery", ":10", "item_id", 7),
        ("8\nimage_name", "9\nimage_name", ":1", "", 8),
    ],
)
def test_lines_of_inshop_that_cannot_be_used_are_told_by_number(inshop_raw, old, new, where, column, left):
    rewrite(inshop_raw / PARTITION, old, new)
    dataset, report = read("inshop", inshop_raw)
    found = [(finding.where, finding.column) for finding in report.of("error")]
    assert found == ([(f"list_eval_partition.txt{where}", column)] if where else [])
    assert sum(map(len, dataset.values())) == left


def test_a_picture_of_inshop_that_is_missing_is_told_by_line(inshop_raw):
    (inshop_raw / inshop_path(INSHOP[4])).unlink()
    dataset, report = read("inshop", inshop_raw)
    assert errors(report) == [("list_eval_partition.txt:7", "image", f"no such file: {inshop_path(INSHOP[4])}")]
    assert len(dataset["test"]) == 4
    report.leave_out_pictures()
    assert not errors(report)


@pytest.mark.parametrize("content", ["{", {"item": "id"}, [{"item": "id_1"}], [1]])
def test_descriptions_of_another_form_are_refused(inshop_raw, content):
    put(inshop_raw / "Anno" / "list_description_inshop.json", content)
    with pytest.raises(InputError, match="list_description_inshop.json"):
        read("inshop", inshop_raw)


# --- Consumer-to-shop

OF_CONSUMER = "com" + "sumer"  # as the makers spell it
PAIRS = [  # folder, item, consumer, shop, status
    ("CLOTHING/Blouse", 1, f"{OF_CONSUMER}_01", "shop_01", "train"),
    ("CLOTHING/Blouse", 1, f"{OF_CONSUMER}_02", "shop_01", "train"),
    ("TOPS/T_Shirt", 218, f"{OF_CONSUMER}_01", "shop_01", "test"),
    ("TOPS/T_Shirt", 218, f"{OF_CONSUMER}_01", "shop_02", "test"),
    ("TOPS/T_Shirt", 218, f"{OF_CONSUMER}_02", "shop_01", "test"),
    ("TROUSERS/Jeans", 9, f"{OF_CONSUMER}_05", "shop_01", "test"),
    ("TROUSERS/Jeans", 12, f"{OF_CONSUMER}_01", "shop_01", "val"),
]


def pair_paths(pair):
    return [f"img/{pair[0]}/id_{pair[1]:08d}/{name}.jpg" for name in pair[2:4]]


@pytest.fixture
def pairs_raw(tmp_path):
    root = tmp_path / "Consumer-to-shop"
    lines = ["{:<60} {:<60} id_{:08d} {}".format(*pair_paths(pair), pair[1], pair[4]) for pair in PAIRS]
    listed(root / PARTITION, "image_pair_name_1 image_pair_name_2 item_id evaluation_status", lines)
    for number, path in enumerate(sorted({path for pair in PAIRS for path in pair_paths(pair)})):
        picture(root / path, number)
    return root


def test_a_photo_of_several_pairs_is_one_row_with_its_role(pairs_raw):
    dataset, report = read("consumer_to_shop", pairs_raw)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 3, "validation": 2, "test": 6}
    test = dataset["test"]
    assert test["role"][:] == ["query", "gallery", "gallery", "query", "query", "gallery"]
    assert test["item_id"][:] == ["id_00000218"] * 4 + ["id_00000009"] * 2
    assert (test["group"][0], test["category"][0]) == ("TOPS", "T_Shirt")
    assert dataset["train"]["role"][:] == ["query", "gallery", "query"]
    assert [(f.where, f.found) for f in report.of("warning")] == [("dataset", "11")] and not errors(report)


def test_consumer_to_shop_is_measured_as_its_benchmark_does(pairs_raw):
    dataset, _ = read("consumer_to_shop", pairs_raw)
    found = protocols.consumer_to_shop(dataset["test"])
    assert found.queries.tolist() == [0, 3, 4] and found.gallery.tolist() == [1, 2, 5]
    assert [one.tolist() for one in found.relevant] == [[0, 1], [0, 1], [2]]
    shop = dataset["validation"].filter(lambda row: row["role"] == "gallery", load_from_cache_file=False)
    assert len(protocols.consumer_to_shop(dataset["test"], shop).gallery) == 4
    protocols.refuse_leaks(dataset)


def test_the_published_number_of_photos_gives_no_warning(pairs_raw, monkeypatch):
    monkeypatch.setattr(consumer_to_shop, "TOTAL", 11)
    assert not read("consumer_to_shop", pairs_raw)[1].findings


@pytest.mark.parametrize(
    ("old", "new", "column", "found"),
    [
        (" val\n", " dev\n", "", "dev"),
        ("id_00000012 val\n", "val\n", "", "val"),
        ("id_00000218 test\nimg/TROUSERS", "id_00000218 val\nimg/TROUSERS", "split", "validation for"),
        ("id_00000009 test", "id_00000010 test", None, None),  # another name of an item is none
    ],
)
def test_pairs_that_cannot_be_used_are_told_by_line(pairs_raw, old, new, column, found):
    rewrite(pairs_raw / PARTITION, old, new)
    _, report = read("consumer_to_shop", pairs_raw)
    if column is None:
        assert not errors(report)
    else:
        assert {(finding.column, found in finding.found) for finding in report.of("error")} == {(column, True)}


def test_a_photo_with_two_roles_or_items_is_an_error(pairs_raw):
    text = (pairs_raw / PARTITION).read_text()
    consumer, shop = pair_paths(PAIRS[0])
    for line, column in (
        (f"{shop} {consumer} id_00000001 train", "role"),
        (f"{consumer} x id_00000003 train", "item_id"),
    ):
        (pairs_raw / PARTITION).write_text(text.replace("7\n", "8\n", 1) + line + "\n")
        _, report = read("consumer_to_shop", pairs_raw)
        assert ("list_eval_partition.txt:10", column) in [(f.where, f.column) for f in report.of("error")]


# --- Fashion IQ


def iq_id(category, split, number):
    return f"B00{category[0].upper()}{split[0].upper()}{number:05d}"


@pytest.fixture
def iq_raw(tmp_path):
    """As published: lists of ids, and of pairs with two captions; those of test have no target."""
    root = tmp_path / "fashion-iq"
    for category in fashion_iq.CATEGORIES:
        for split, photos in (("train", 4), ("val", 3), ("test", 2)):
            ids = [iq_id(category, split, number) for number in range(photos)]
            pairs = [
                {"target": ids[1], "candidate": ids[0], "captions": ["is longer", "and more red"]},
                {"target": ids[0], "candidate": ids[1], "captions": ["is shorter", " white"]},
                {"target": ids[-1], "candidate": ids[0], "captions": ["has stripes", "darker"]},
            ]
            if split == "test":
                pairs = [{name: value for name, value in pair.items() if name != "target"} for pair in pairs]
            put(root / "captions" / f"cap.{category}.{split}.json", pairs)
            put(root / "image_splits" / f"split.{category}.{split}.json", ids)
            for number, one in enumerate(ids):
                picture(root / "images" / f"{one}.jpg", number)
    return root


def test_fashion_iq_has_photos_with_what_is_asked_of_them(iq_raw):
    dataset, report = read("fashion_iq", iq_raw)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 12, "validation": 9}
    rows = dataset["validation"]
    assert rows.features["category"] == ClassLabel(names=["dress", "shirt", "toptee"])
    assert rows["category"][:] == [0] * 3 + [1] * 3 + [2] * 3
    assert rows["item_id"][:2] == ["B00DV00000", "B00DV00001"]
    assert rows["relative_captions"][0] == [
        {"target": "B00DV00001", "captions": ["is longer", "and more red"]},
        {"target": "B00DV00002", "captions": ["has stripes", "darker"]},
    ]
    assert rows["relative_captions"][2] == [] and rows["source_row"][0] == "images/B00DV00000.jpg"
    assert rows[0]["image"].size == (40, 32)
    assert not errors(report) and [f.where for f in report.of("warning")] == ["split train", "split validation"]


def test_fashion_iq_is_measured_as_its_challenge_did(iq_raw):
    dataset, _ = read("fashion_iq", iq_raw)
    found = protocols.composed(dataset["validation"])
    assert list(found) == ["dress", "shirt", "toptee"]
    shirt = found["shirt"]
    assert shirt.queries.tolist() == [3, 3, 4] and shirt.gallery.tolist() == [3, 4, 5]
    assert [one.tolist() for one in shirt.relevant] == [[1], [2], [0]]
    assert shirt.texts[0] == "is longer and and more red" and shirt.ignored is None
    protocols.refuse_leaks(dataset)


@pytest.mark.parametrize("form", ["images/{item}.png", "resized_images/{category}/{item}.jpg"])
def test_photos_of_fashion_iq_may_lie_in_other_ways(iq_raw, form):
    for category in fashion_iq.CATEGORIES:
        for path in (iq_raw / "images").glob(f"B00{category[0].upper()}*"):
            put(iq_raw / form.format(category=category, item=path.stem), path.read_bytes())
            path.unlink()
    if not list((iq_raw / "images").iterdir()):
        (iq_raw / "images").rmdir()
    dataset, report = read("fashion_iq", iq_raw)
    assert len(dataset["validation"]) == 9 and not errors(report)
    assert dataset["validation"]["source_row"][0] == form.format(category="dress", item="B00DV00000")


def test_photos_that_are_gone_can_be_left_out_and_their_queries_are_counted(iq_raw):
    (iq_raw / "images" / "B00DV00002.jpg").unlink()
    dataset, report = read("fashion_iq", iq_raw)
    assert errors(report) == [("split.dress.val.json: 2", "image", "no such file: images/B00DV00002.jpg")]
    report.leave_out_pictures()
    assert not errors(report)
    found = protocols.composed(dataset["validation"])["dress"]
    assert found.left_out == {"the target is not in the gallery": 1} and len(found.queries) == 2


@pytest.mark.parametrize(
    ("folder", "edit", "number", "column"),
    [
        ("captions", lambda pairs: pairs[1].update(target="B0"), 1, "target"),
        ("captions", lambda pairs: pairs[0].update(candidate=3), 0, "candidate"),
        ("captions", lambda pairs: pairs[0].update(captions=[]), 0, "captions"),
        ("captions", lambda pairs: pairs[0].update(captions="x"), 0, "captions"),
        ("captions", lambda pairs: pairs[2].pop("target"), 2, ""),
        ("captions", lambda pairs: pairs.append("x"), 3, ""),
        ("image_splits", lambda ids: ids.append(ids[0]), 4, ""),
        ("image_splits", lambda ids: ids.append(7), 4, ""),
    ],
)  # fmt: skip
def test_entries_of_fashion_iq_that_cannot_be_used_are_told_by_number(iq_raw, folder, edit, number, column):
    name = {"captions": "cap.dress.val.json", "image_splits": "split.shirt.train.json"}[folder]
    change(iq_raw / folder / name, edit)
    dataset, report = read("fashion_iq", iq_raw)
    assert [(finding.where, finding.column) for finding in report.of("error")] == [(f"{name}: {number}", column)]
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 12, "validation": 9}


@pytest.mark.parametrize("content", ["{", "{}", '"x"'])
def test_a_json_of_fashion_iq_that_is_no_list_is_refused(iq_raw, content):
    (iq_raw / "captions" / "cap.toptee.train.json").write_text(content)
    with pytest.raises(InputError, match="cap.toptee.train.json\n.*expected: a list"):
        read("fashion_iq", iq_raw)


# --- Fashion200K

LINES = {
    ("dress", "train"): [
        ("dresses/casual_and_day_dresses/51727804/51727804_0", "-1.78", "green linen-blend a-line dress"),
        ("dresses/casual_and_day_dresses/51727804/51727804_1", "5.3", "green linen-blend a-line dress"),
        ("dresses/casual_and_day_dresses/56037632/56037632_0", "0", "black cami dress"),
    ],
    ("top", "train"): [("tops/blouses/111/111_0", "2.5", "white silk blouse")],
    ("dress", "test"): [("dresses/cocktail_dresses/90/90_0", "1e-3", "red dress")],
    ("jacket", "test"): [("jackets/blazers_and_suit_jackets/91/91_2", "-4.48", "embellished wool jacket black")],
}


@pytest.fixture
def words_raw(tmp_path):
    root = tmp_path / "fashion200k"
    for category in ("dress", "jacket", "pants", "skirt", "top"):
        for split in ("train", "test"):
            lines = LINES.get((category, split), [])
            text = "".join(f"women/{path}.jpeg\t{score}\t{words}\n" for path, score, words in lines)
            put(root / "labels" / f"{category}_{split}_detect_all.txt", text)
            for number, (path, _, _) in enumerate(lines):
                picture(root / "women" / f"{path}.jpeg", number)
    return root


def test_fashion200k_has_products_and_descriptions(words_raw):
    dataset, report = read("fashion200k", words_raw)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 4, "test": 2}
    rows = dataset["train"]
    assert rows["item_id"][:] == ["51727804", "51727804", "56037632", "111"]
    assert rows["text"][0] == "green linen-blend a-line dress" and rows["category"][:] == [0, 0, 0, 4]
    assert rows["detection_score"][1] == pytest.approx(5.3)
    assert rows["source_row"][3] == "women/tops/blouses/111/111_0.jpeg" and rows[0]["image"].size == (40, 32)
    assert not errors(report) and told(report, "warning") == [("split train", "4"), ("split test", "2")]
    found = protocols.text_to_image(rows)
    assert found.texts[0] == "green linen-blend a-line dress" and found.relevant[0].tolist() == [0, 1]
    protocols.refuse_leaks(dataset)


def test_a_line_that_names_a_picture_again_is_left_out_with_a_warning(words_raw):
    again = "women/dresses/casual_and_day_dresses/56037632/56037632_0.jpeg\t1\tanother text\n"
    with (words_raw / "labels" / "dress_test_detect_all.txt").open("a") as file:
        file.write(again)
    dataset, report = read("fashion200k", words_raw)
    assert "dress_test_detect_all.txt:2" in [finding.where for finding in report.of("warning")]
    assert len(dataset["test"]) == 2 and "black cami dress" in dataset["train"]["text"][:] and not errors(report)


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("women/a/b/1/1_0.jpeg\t1.0", ""),
        ("women/a/b/1/1_0.jpeg\t1.0\ta\tb", ""),
        ("1_0.jpeg\t1.0\ttext", "image"),
        ("women/a/b/1/1_0.jpeg\thigh\ttext", "detection_score"),
        ("women/a/b/1/1_0.jpeg\t1.0\t ", "text"),
        ("women/a/b/1/1_0.jpeg\t1.0\ttext", "image"),  # there is no such picture
        ("../a/b/1/1_0.jpeg\t1.0\ttext", "image"),
    ],
)
def test_lines_of_fashion200k_that_cannot_be_used_are_told_by_number(words_raw, line, column):
    put(words_raw / "labels" / "skirt_train_detect_all.txt", f"\n{line}\n")
    dataset, report = read("fashion200k", words_raw)
    assert [(f.where, f.column) for f in report.of("error")] == [("skirt_train_detect_all.txt:2", column)]
    assert len(dataset["train"]) == 4


def test_labels_in_other_bytes_are_refused(words_raw):
    (words_raw / "labels" / "top_test_detect_all.txt").write_bytes(b"women/a/1/1_0.jpeg\t1\tcaf\xe9\n")
    with pytest.raises(InputError, match="top_test_detect_all.txt\n.*UTF-8"):
        read("fashion200k", words_raw)


# --- H&M

HEADER = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,graphical_appearance_no,"
    "graphical_appearance_name,colour_group_code,colour_group_name,perceived_colour_value_id,"
    "perceived_colour_value_name,perceived_colour_master_id,perceived_colour_master_name,department_no,"
    "department_name,index_code,index_name,index_group_no,index_group_name,section_no,section_name,garment_group_no,"
    "garment_group_name,detail_desc"
)
GROUPS = "1676,Jersey Basic,A,Ladieswear,1,Ladieswear,16,Everyday Basics,1002,Jersey Basic"
ARTICLES = [
    f"0108775015,0108775,Strap top,253,Vest top,Garment Upper body,1010016,Solid,09,Black,4,Dark,5,Black,{GROUPS},"
    "Jersey top with narrow shoulder straps.",
    f"0108775044,0108775,Strap top,253,Vest top,Garment Upper body,1010016,Solid,10,White,3,Light,9,White,{GROUPS},"
    "Jersey top with narrow shoulder straps.",
    f'0110065001,0110065,OP T-shirt (Idro),306,Bra,Underwear,1010016,Solid,09,Black,4,Dark,5,Black,{GROUPS},'
    '"Microfibre T-shirt bra, moulded, with ""cups""."',
    f"0999999001,0999999,Bag,66,Bag,Accessories,1010016,Solid,09,Black,4,Dark,5,Black,{GROUPS},",
]  # fmt: skip


@pytest.fixture
def hm_raw(tmp_path):
    root = tmp_path / "hm"
    put(root / "articles.csv", "\n".join([HEADER, *ARTICLES]) + "\n")
    for number, line in enumerate(ARTICLES):
        name = line.split(",")[0]
        picture(root / "images" / name[:3] / f"{name}.jpg", number)
    return root


def test_hm_has_articles_with_descriptions_and_groups(hm_raw):
    dataset, report = read("hm", hm_raw)
    rows = dataset["train"]
    assert rows["item_id"][:2] == ["0108775015", "0108775044"] and rows["product_code"][0] == "0108775"
    assert rows["text"][2:] == ['Microfibre T-shirt bra, moulded, with "cups".', None]
    assert rows["title"][2] == "OP T-shirt (Idro)"
    assert rows.features["colour"] == ClassLabel(names=["Black", "White"]) and rows["colour"][:] == [0, 1, 0, 0]
    assert rows.features["product_type"].names == ["Bag", "Bra", "Vest top"]
    assert rows["source_row"][0] == "images/010/0108775015.jpg" and rows[0]["image"].size == (40, 32)
    assert not errors(report) and told(report, "warning") == [("split train", "4")]
    found = protocols.text_to_image(rows)  # all colours of the product are right
    assert len(found.texts) == 2 and found.relevant[0].tolist() == [0, 1]


def test_articles_without_a_picture_are_a_note(hm_raw):
    (hm_raw / "images" / "011" / "0110065001.jpg").unlink()
    dataset, report = read("hm", hm_raw)
    assert told(report, "note") == [("articles.csv", "1 articles without a picture, the first: 0110065001")]
    assert len(dataset["train"]) == 3 and not errors(report)


def test_numbers_that_lost_their_zero_find_their_picture(hm_raw):
    text = (hm_raw / "articles.csv").read_text()
    (hm_raw / "articles.csv").write_text(text.replace("\n0", "\n"))
    dataset, _ = read("hm", hm_raw)
    assert dataset["train"]["item_id"][0] == "0108775015" and len(dataset["train"]) == 4


@pytest.mark.parametrize(
    ("line", "column"), [("1,2,3", ""), ("abc" + ARTICLES[0][10:], "article_id"), (ARTICLES[0], "article_id"),
                         ("10108775015" + ARTICLES[0][10:], "article_id")],
)  # fmt: skip
def test_lines_of_articles_that_cannot_be_used_are_told_by_number(hm_raw, line, column):
    with (hm_raw / "articles.csv").open("a") as file:
        file.write(line + "\n")
    dataset, report = read("hm", hm_raw)
    assert [(f.where, f.column) for f in report.of("error")] == [("articles.csv:6", column)]
    assert len(dataset["train"]) == 4


def test_another_table_of_articles_is_refused(hm_raw):
    rewrite(hm_raw / "articles.csv", "detail_desc", "description")
    with pytest.raises(InputError, match="articles.csv\n.*\n.*no detail_desc in: article_id"):
        read("hm", hm_raw)
    (hm_raw / "articles.csv").write_text(f'{HEADER}\n"open,')
    with pytest.raises(InputError, match="a CSV file"):
        read("hm", hm_raw)


# --- Fashion Product Images


def test_fashion_product_images_can_be_searched_by_their_titles(tmp_path):
    shirt = "Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual"
    lines = [f"15,{shirt},Blue Shirt", f"16,{shirt},Blue shirt", f"17,{shirt},"]
    put(tmp_path / "raw" / "styles.csv", "\n".join([fashion_product_images.HEADER, *lines]) + "\n")
    for number in (15, 16, 17):
        picture(tmp_path / "raw" / "images" / f"{number}.jpg", number)
    rows = read("fashion_product_images", tmp_path / "raw")[0]["train"]
    assert rows["item_id"][:] == ["15", "16", "17"] and rows["text"][:] == rows["title"][:] == [
        "Blue Shirt",
        "Blue shirt",
        None,
    ]
    assert [one.tolist() for one in protocols.text_to_image(rows).relevant] == [[0, 1]]


# --- all

RETRIEVAL = ["consumer_to_shop", "fashion200k", "fashion_iq", "hm", "inshop"]


def test_every_module_keeps_the_contract():
    assert set(RETRIEVAL) <= set(sources.names())
    for name in RETRIEVAL:
        module = sources.module(name)
        assert module.HOMEPAGE.startswith("https://") and module.LICENSE in ("", "other") and module.RAW
        assert set(module.COUNTS) <= {"train", "validation", "test"}
        for fact in ("Rows:", "Licence:", "Paper:", "Files:"):
            assert fact in module.__doc__


@pytest.mark.parametrize("name", RETRIEVAL)
def test_a_wrong_folder_says_what_was_expected_and_where_to_get_it(tmp_path, name):
    put(tmp_path / "other" / "notes.txt", "x")
    with pytest.raises(InputError, match="there is: notes.txt") as caught:
        read(name, tmp_path / "other")
    assert sources.module(name).HOMEPAGE in caught.value.fix
    with pytest.raises(InputError, match="no such folder"):
        read(name, tmp_path / "nowhere")


def test_raw_files_are_told_apart(inshop_raw, pairs_raw, iq_raw, words_raw, hm_raw):
    put(pairs_raw / "Anno" / "list_item_consumer2shop.txt", "1\nid_00000001\n")
    given = {inshop_raw: "inshop", pairs_raw: "consumer_to_shop", iq_raw: "fashion_iq", words_raw: "fashion200k"}
    assert {folder: sources.recognise(folder) for folder in [*given, hm_raw]} == {**given, hm_raw: "hm"}


def test_all_go_the_way_of_a_user_with_all_their_columns(inshop_raw, pairs_raw, iq_raw, words_raw, hm_raw):
    for name, folder in zip(sorted(RETRIEVAL), (pairs_raw, words_raw, iq_raw, hm_raw, inshop_raw), strict=True):
        raw, _ = read(name, folder)
        dataset, report = data.load(
            f"{name}:{folder}", Features({"image": Image()}), label_columns=[], validation_share=None, test_share=None
        )
        assert not errors(report) and (report.source["kind"], list(dataset)) == (name, list(raw))
        for split, rows in raw.items():
            assert {column: dataset[split].features[column] for column in rows.features} == dict(rows.features)
            assert dataset[split]["item_id"][:] == rows["item_id"][:]
        if name == "fashion_iq":
            assert protocols.composed(dataset["validation"])["shirt"].queries.tolist() == [3, 3, 4]


def test_all_splits_have_pictures_and_items(inshop_raw, pairs_raw, iq_raw, words_raw, hm_raw):
    for name, folder in zip(sorted(RETRIEVAL), (pairs_raw, words_raw, iq_raw, hm_raw, inshop_raw), strict=True):
        dataset, _ = read(name, folder)
        assert isinstance(dataset, DatasetDict)
        for rows in dataset.values():
            assert {"image", "item_id", "source_row"} <= set(rows.column_names)
            assert all(rows["item_id"][:]) and all(picture is not None for picture in rows["image"][:])
