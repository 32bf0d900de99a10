"""Raw files of public datasets with boxes, written here in their exact form, whole and damaged."""

import json

import pytest
from detection import check, load, photo, put, told

from hf_fashion import boxed, data, sources
from hf_fashion.errors import InputError
from hf_fashion.report import Report
from hf_fashion.sources import deepfashion2, fashionpedia, modanet


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(name, folder):
    report = Report({"source": name})
    return sources.module(name).load(folder, report), report


def change(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


# --- Fashionpedia


def pedia(names, start):
    """A json as its makers publish it: attributes, masks as polygons and as RLE, ids from 0."""
    images = [
        {
            "id": start + n, "width": 40, "height": 32, "file_name": f"{name}.jpg", "license": 1, "time_captured": "",
            "original_url": "http://x/1.jpg", "isstatic": 0, "kaggle_id": name,
        }
        for n, name in enumerate(names)
    ]  # fmt: skip
    annotations = [
        {
            "id": 10 * (start + n) + k, "image_id": start + n, "category_id": (7 * n + k) % 46, "attribute_ids": [317],
            "segmentation": {"counts": "abc", "size": [32, 40]} if k == 1 else [[1, 2, 3, 4, 5, 6]],
            "bbox": [1.0 + k, 2.0, 10.0, 12.0], "area": 60, "iscrowd": int(k == 1),
        }
        for n in range(len(names)) for k in range(3)
    ]  # fmt: skip
    categories = [
        {"id": n, "name": name, "supercategory": "upperbody", "level": 2, "taxonomy_id": "obj000008_00"}
        for n, name in enumerate(fashionpedia.LABELS)
    ]
    attributes = [{"id": 0, "name": "classic (t-shirt)", "supercategory": "nickname", "level": 1, "taxonomy_id": "a"}]
    info = {"year": 2020, "version": "1.0", "description": "Fashionpedia", "contributor": "x", "url": "x"}
    licenses = [{"id": 1, "name": "Attribution", "url": "x"}]
    return {
        "info": info, "licenses": licenses, "images": images, "annotations": annotations, "categories": categories,
        "attributes": attributes,
    }  # fmt: skip


@pytest.fixture
def fashionpedia_raw(tmp_path):
    root = tmp_path / "pedia"
    train, val = [f"t{n}" for n in range(8)], ["v0", "v1", "v2"]
    for number, name in enumerate(train):
        put(root / "train" / f"{name}.jpg", photo(number, format="JPEG"))
    for number, name in enumerate([*val, "unlabelled"]):
        put(root / "test" / f"{name}.jpg", photo(50 + number, format="JPEG"))
    put(root / "instances_attributes_train2020.json", pedia(train, 0))
    put(root / "instances_attributes_val2020.json", pedia(val, 100))
    put(root / "info_test2020.json", {"images": [{"id": 1, "file_name": "unlabelled.jpg"}]})
    return root


def test_fashionpedia_comes_with_its_46_names(fashionpedia_raw):
    dataset, report = read("fashionpedia", fashionpedia_raw)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 8, "validation": 3}
    assert data.box_labels(dataset) == fashionpedia.LABELS and len(fashionpedia.LABELS) == 46
    assert fashionpedia.LABELS[26:28] == ["umbrella", "hood"]  # the last that is worn, the first part
    row = dataset["validation"][1]
    assert (row["image_id"], row["source_row"]) == ("101", "test/v1.jpg")
    assert row["objects"] == {
        "bbox": [[1, 2, 10, 12], [2, 2, 10, 12], [3, 2, 10, 12]], "category": [7, 8, 9], "area": [60, 60, 60],
        "iscrowd": [0, 1, 0],
    }  # fmt: skip
    assert told(report, "warning") == [("split train", "8"), ("split validation", "3")] and not report.of("error")


def test_fashionpedia_goes_the_whole_way(fashionpedia_raw):
    dataset, report = load(f"fashionpedia:{fashionpedia_raw}")
    assert report.source["license"] == "cc-by-4.0" and report.cut == ["test"]
    assert check(dataset, report).of("error") == []
    with pytest.raises(InputError, match="type fashionpedia:"):
        load(fashionpedia_raw)


def test_fashionpedia_with_other_categories_or_files(fashionpedia_raw):
    path = fashionpedia_raw / "instances_attributes_val2020.json"
    change(path, lambda told_: told_["categories"].pop())
    change(path, lambda told_: told_["images"].append({"id": 7, "file_name": "gone.jpg"}))
    _, report = read("fashionpedia", fashionpedia_raw)
    assert ("split validation", "45; only in one of the two: tassel") in told(report, "warning")
    assert told(report, "error") == [
        ("instances_attributes_val2020.json: image 7", "no such file: gone.jpg"),
    ]
    path.unlink()
    with pytest.raises(InputError, match="no instances_attributes_val2020.json"):
        read("fashionpedia", fashionpedia_raw)


# --- ModaNet


@pytest.fixture
def modanet_raw(tmp_path):
    """As the README of its repository gives the format; the json of val has no annotations."""
    root = tmp_path / "modanet"
    names = [f"{n:07d}" for n in range(20)]
    for number, name in enumerate(names):
        put(root / "images" / f"{name}.jpg", photo(number, format="JPEG"))
    head = {
        "info": {"version": "1.0", "description": "ModaNet", "contributor": "x", "date_created": "2018"},
        "licenses": [{"id": 1, "name": "CC BY-NC 4.0", "url": "x"}], "year": 2018, "type": "instances",
        "categories": [
            {"supercategory": "fashion", "id": n, "name": name} for n, name in enumerate(modanet.LABELS, 1)
        ],
    }  # fmt: skip
    images = [
        {"id": n, "width": 40, "height": 32, "file_name": f"{name}.jpg", "license": 3} for n, name in enumerate(names)
    ]
    annotations = [
        {
            "area": 100, "bbox": [3, 4, 20, 10], "segmentation": [[3, 4, 23, 4, 23, 14]], "image_id": n, "id": n,
            "category_id": n % 13 + 1, "iscrowd": 0,
        }
        for n in range(20)
    ]  # fmt: skip
    put(
        root / "annotations" / "modanet2018_instances_train.json",
        head | {"images": images, "annotations": annotations},
    )
    put(root / "annotations" / "modanet2018_instances_val.json", head | {"images": []})
    return root


def test_modanet_comes_with_its_13_names(modanet_raw):
    dataset, report = read("modanet", modanet_raw)
    assert data.box_labels(dataset) == modanet.LABELS and len(modanet.LABELS) == 13
    assert boxed.class_counts(dataset["train"]).tolist() == [2] * 7 + [1] * 6
    assert told(report, "warning") == [("split train", "20")] and not report.of("error")
    dataset, report = load(f"modanet:{modanet_raw}")
    assert report.source["license"] == "cc-by-nc-4.0" and report.cut == ["validation", "test"]
    with pytest.raises(InputError, match="type modanet:"):
        load(modanet_raw)


def test_modanet_without_its_photos(modanet_raw):
    (modanet_raw / "images").rename(modanet_raw / "elsewhere")
    with pytest.raises(InputError, match="no images"):
        read("modanet", modanet_raw)


# --- DeepFashion2


def item(kind, box, **changes):
    return {
        "segmentation": [[1, 2, 3, 4, 5, 6]], "scale": 3, "viewpoint": 2, "zoom_in": 1, "landmarks": [1, 2, 2],
        "style": 1, "bounding_box": box, "category_id": kind, "occlusion": 1,
        "category_name": deepfashion2.LABELS[kind - 1],
    } | changes  # fmt: skip


@pytest.fixture
def deepfashion2_raw(tmp_path):
    root = tmp_path / "df2"
    for split, count in (("train", 12), ("validation", 4)):
        for number in range(1, count + 1):
            put(root / split / "image" / f"{number:06d}.jpg", photo(number + 40 * (split == "train"), format="JPEG"))
            annotation = {"source": "shop" if number % 2 else "user", "pair_id": (number + 1) // 2}
            annotation["item1"] = item(number, [1, 2, 21, 14])
            annotation["item2"] = item(13, [5, 5, 40, 32])
            put(root / split / "annos" / f"{number:06d}.json", annotation)
    put(root / "test" / "image" / "000001.jpg", photo(99, format="JPEG"))
    return root


def test_deepfashion2_comes_as_corner_and_size(deepfashion2_raw):
    dataset, report = read("deepfashion2", deepfashion2_raw)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 12, "validation": 4}
    assert data.box_labels(dataset) == deepfashion2.LABELS and len(deepfashion2.LABELS) == 13
    row = dataset["train"][2]
    assert (row["image_id"], row["source_row"]) == ("000003", "train/image/000003.jpg")
    assert (row["pair_id"], row["source"]) == ("2", "shop")
    assert row["objects"] == {"bbox": [[1, 2, 20, 12], [5, 5, 35, 27]], "category": [2, 12], "area": [240, 945]}
    assert told(report, "warning") == [("split train", "12"), ("split validation", "4")] and not report.of("error")


def test_deepfashion2_goes_the_whole_way(deepfashion2_raw):
    dataset, report = load(f"deepfashion2:{deepfashion2_raw}", split_by="pair_id", validation_share=None)
    assert report.cut == ["test"] and set(dataset["test"].features) >= {"pair_id", "objects", "image_id"}
    train, test = set(dataset["train"]["pair_id"][:]), set(dataset["test"]["pair_id"][:])
    assert not train & test
    with pytest.raises(InputError, match="type deepfashion2:"):
        load(deepfashion2_raw)


@pytest.mark.parametrize("edit, where, words", [
    (lambda t: t["item1"].update(category_id=14), ", item1", "14"),
    (lambda t: t["item1"].update(category_id=True), ", item1", "True"),
    (lambda t: t["item2"].update(category_id=1), ", item2", "1 and sling dress"),
    (lambda t: t["item2"].update(bounding_box=[1, 2, 3]), ", item2", "[1, 2, 3]"),
    (lambda t: t["item2"].pop("bounding_box"), ", item2", "None"),
    (lambda t: t.update(item3="x"), ", item3", "None"),
])  # fmt: skip
def test_deepfashion2_items_that_cannot_be_used_are_told_by_file(deepfashion2_raw, edit, where, words):
    change(deepfashion2_raw / "train" / "annos" / "000002.json", edit)
    dataset, report = read("deepfashion2", deepfashion2_raw)
    [(place, found)] = told(report, "error")
    assert place == f"train/annos/000002.json{where}" and words in found and len(dataset["train"]) == 12


def test_deepfashion2_files_that_are_missing_or_damaged(deepfashion2_raw):
    (deepfashion2_raw / "train" / "image" / "000001.jpg").unlink()
    put(deepfashion2_raw / "train" / "annos" / "000002.json", "{")
    put(deepfashion2_raw / "train" / "annos" / "000003.json", "[]")
    dataset, report = read("deepfashion2", deepfashion2_raw)
    assert sorted(where for where, _ in told(report, "error")) == [
        f"train/annos/00000{n}.json" for n in (1, 2, 3)
    ]  # fmt: skip
    assert len(dataset["train"]) == 9 and dataset["train"][0]["objects"]["category"] == [3, 12]
    with pytest.raises(InputError, match="no train/annos"):
        read("deepfashion2", deepfashion2_raw / "test")


@pytest.mark.parametrize("name", ["fashionpedia", "modanet", "deepfashion2"])
def test_a_wrong_folder_says_what_was_expected_and_where_to_get_it(tmp_path, name):
    put(tmp_path / "other" / "notes.txt", "x")
    with pytest.raises(InputError, match="there is: notes.txt") as caught:
        load(f"{name}:other")
    assert sources.module(name).HOMEPAGE in caught.value.fix
    with pytest.raises(InputError, match="no such folder"):
        load(f"{name}:nowhere")
