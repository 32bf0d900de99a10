"""`hf-fashion crop`: one row for each garment, out of true boxes and out of a detector's."""

import csv
from io import BytesIO

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from detection import photo
from PIL import Image as PILImage
from tiny_detectors import NAMES, boxed_folder, boxed_rows, tiny_detector
from transformers import AutoImageProcessor, AutoModelForObjectDetection, pipeline

from hf_fashion import cropping, data
from hf_fashion.errors import InputError
from hf_fashion.recipes import crop
from hf_fashion.tasks import classify


def features(names=NAMES):
    objects = {
        "bbox": List(List(Value("float32"), length=4)), "category": List(ClassLabel(names=names)),
        "iscrowd": List(Value("int64")),
    }  # fmt: skip
    return Features({"image": Image(), "image_id": Value("string"), "objects": objects})


def stored(path, *pictures, names=NAMES):
    """A parquet file of (bytes, boxes (class, x, y, w, h), crowd); gives its folder."""
    rows = []
    for number, (picture, boxes, *crowd) in enumerate(pictures):
        objects = {"bbox": [box[1:] for box in boxes], "category": [box[0] for box in boxes]}
        objects["iscrowd"] = crowd[0] if crowd else [0] * len(boxes)
        rows.append({"image": {"bytes": picture, "path": None}, "image_id": f"photo {number}", "objects": objects})
    path.mkdir(parents=True)
    Dataset.from_list(rows, features=features(names)).to_parquet(path / "train.parquet")
    return path


def made(folder, split="train"):
    return Dataset.from_parquet([str(path) for path in sorted((folder / "data").glob(f"{split}-*.parquet"))])


def left_out(folder):
    with (folder / "left_out.csv").open(encoding="utf-8", newline="") as file:
        return [*csv.reader(file)][1:]


def test_each_row_is_the_pixels_of_one_box_in_the_split_of_its_photo(tmp_path, capsys):
    source = boxed_folder(tmp_path / "photos", train=6, validation=3, test=4)
    crop.main([str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "--image_format", "png", "--min_side", "5"])
    owners = {}
    for split, photos in source.items():
        rows = made(tmp_path / "out", split)
        true = [(row, *box) for row in photos for box in zip(row["objects"]["bbox"], row["objects"]["category"],
                                                             strict=True)]  # fmt: skip
        assert len(rows) == len(true) > len(photos)
        for row, (photo_row, bbox, category) in zip(rows, true, strict=True):
            x, y, width, height = map(int, bbox)
            np.testing.assert_array_equal(row["image"], np.asarray(photo_row["image"])[y : y + height, x : x + width])
            assert row["image"].format == "PNG" and rows.features["label"].int2str(row["label"]) == NAMES[category]
            assert row["bbox"] == bbox and row["image_id"] == photo_row["image_id"] and "score" not in row
        assert len({*rows["item_id"]}) == len({*rows["source_row"]}) == len(rows)
        owners[split] = {*rows["image_id"]}
    assert not owners["train"] & owners["test"] and not owners["validation"] & (owners["train"] | owners["test"])
    assert "--split_by" not in capsys.readouterr().out


def test_what_is_made_trains_a_classifier(tmp_path):
    boxed_folder(tmp_path / "photos", train=20, validation=8, test=8)
    (tmp_path / "photos" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    counts = crop.main([str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "--min_side", "5"])
    dataset, report = data.load(str(tmp_path / "out"), classify.COLUMNS)
    assert not report.of("error") and {s: len(rows) for s, rows in dataset.items()} == counts["rows"]
    assert [*dataset] == ["train", "validation", "test"] and data.labels(dataset) == NAMES
    assert report.source["license"] == "cc0-1.0"
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "hf-fashion classify --dataset out\n" in card and f"| train | 20 | {counts['rows']['train']} |" in card


def test_a_photo_stays_in_one_split_when_splits_are_cut_later(tmp_path, capsys):
    rows = boxed_rows(20, 0)
    told = [(row["image"]["bytes"], [*zip(row["objects"]["category"], *zip(*row["objects"]["bbox"], strict=True),
                                          strict=True)]) for row in rows]  # fmt: skip
    folder = stored(tmp_path / "photos", *told)
    crop.main([str(folder), "-o", str(tmp_path / "out"), "--min_side", "5"])
    assert "--split_by image_id" in capsys.readouterr().out
    dataset, report = data.load(str(tmp_path / "out"), classify.COLUMNS, split_by="image_id")
    owners = [{*rows["image_id"]} for rows in dataset.values()]
    assert len(owners) == 3 and sum(map(len, owners)) == len(set.union(*owners)) == 20


def test_what_is_left_out_is_counted_and_named(tmp_path):
    pictures = [
        (photo(1), [(0, 0, 0, 20, 20), (1, 5, 5, 20, 4), (1, 1, 1, 30, 30)], [0, 0, 1]),
        (photo(2), []),
        (b"\xff\xd8\xff no", [(0, 0, 0, 20, 20)]),
    ]
    folder = stored(tmp_path / "photos", *pictures, names=["dress", "hat", "never worn"])
    with pytest.raises(InputError, match="on_bad_image drop"):
        crop.main([str(folder), "-o", str(tmp_path / "stopped")])
    assert not (tmp_path / "stopped").exists()
    counts = crop.main(
        [str(folder), "-o", str(tmp_path / "out"), "--min_side", "10", "--on_bad_image", "drop"]
    )  # fmt: skip
    rows = made(tmp_path / "out")
    assert len(rows) == 1 and rows.features["label"].names == ["dress"] and rows[0]["item_id"] == "photo 0#0"
    assert counts["left_out"] == {
        "boxes with a side under 10 px": 1, "boxes of a group (iscrowd)": 1, "photos without a garment": 1,
    }  # fmt: skip
    told = left_out(tmp_path / "out")
    assert [row[2] for row in told[:3]] == [*counts["left_out"]] and len(told) == 4
    assert told[0][1] == "train:0, box 1" and "train:2" in told[3][1]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "- boxes with a side under 10 px: 1\n" in card and "cannot be used: 1\n" in card


def test_turned_photos_are_cut_upright_and_nothing_of_the_camera_is_kept(tmp_path):
    turned = photo(3, (40, 32), orientation=6, format="JPEG")  # upright it is 32 wide
    crop.main([str(stored(tmp_path / "photos", (turned, [(0, 2, 30, 20, 9)]), (photo(4), [(1, 0, 0, 9, 9)]))),
               "-o", str(tmp_path / "out"), "--min_side", "5", "--margin", "0.5"])  # fmt: skip
    row = made(tmp_path / "out")[0]
    assert row["image"].size == (32, 14) and not row["image"].getexif()  # clipped on three sides
    assert row["image"].format == "JPEG" and row["bbox"] == [2, 30, 20, 9]


def test_large_datasets_become_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(cropping, "_SHARD", 400)
    monkeypatch.setattr(cropping, "_GROUP", 2)
    boxed_folder(tmp_path / "photos", names=["dress", "hat", "shoes"])
    crop.main([str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "--min_side", "5", "--image_format", "png"])
    files = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert len(files) > 6 and all(name.endswith(".parquet") for name in files)
    of = [name for name in files if name.startswith("train")]
    assert of == [f"train-{number:05d}-of-{len(of):05d}.parquet" for number in range(len(of))]
    whole, _ = data.load(str(tmp_path / "out"), classify.COLUMNS)
    assert len(whole["train"]) == len(made(tmp_path / "out"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A tiny detector that says something: its boxes lie in all places, its scores between 0.2 and 1."""
    folder = tiny_detector("rt_detr_v2", tmp_path_factory.mktemp("net"))
    net = AutoModelForObjectDetection.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for head in (net.model.enc_score_head, *net.class_embed):
            head.weight.normal_(0, 0.5)  # torch.nn.init leaves what was loaded, after loads in several threads
            head.bias.zero_()
    net.config.score_threshold = 0.6
    net.save_pretrained(folder)
    return folder


def test_a_detectors_boxes_are_those_of_the_pipeline(tmp_path, detector):
    source = boxed_folder(tmp_path / "photos", train=5, validation=2, test=2)
    options = ["--model", str(detector), "--overlap", "1", "--min_side", "1", "--batch_size", "2"]
    counts = crop.main([str(tmp_path / "photos"), "-o", str(tmp_path / "out"), *options])
    detect = pipeline("object-detection", model=str(detector), threshold=0.6)
    for split, photos in source.items():
        rows, wanted = made(tmp_path / "out", split), [found for row in photos for found in detect(row["image"])]
        assert len(rows) == len(wanted) > 0 and counts["rows"][split] == len(rows)
        for row, found in zip(rows, wanted, strict=True):
            assert rows.features["label"].int2str(row["label"]) == found["label"]
            assert row["score"] == pytest.approx(found["score"], abs=1e-5)
            x, y, width, height = row["bbox"]
            np.testing.assert_allclose([x, y, x + width, y + height], [*found["box"].values()], atol=1.01)
    assert any("to below 0.6" in reason for reason in counts["left_out"])
    fewer = crop.main([str(tmp_path / "photos"), "-o", str(tmp_path / "fewer"), *options, "--score", "0.9"])
    assert sum(fewer["rows"].values()) < sum(counts["rows"].values())


def test_photos_in_class_folders_of_one_class_are_cut_by_a_detector(tmp_path, detector):
    for number in range(3):
        path = tmp_path / "photos" / "dress" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number))
    crop.main([str(tmp_path / "photos"), "--model", str(detector), "-o", str(tmp_path / "out"), "--min_side", "1"])
    assert {*made(tmp_path / "out")["image_id"]} <= {f"dress/{number}.png" for number in range(3)}


def test_names_that_repeat_are_one_class(tmp_path, detector):
    net = AutoModelForObjectDetection.from_pretrained(detector)
    net.config.id2label = {0: "N/A", 1: "hat", 2: "N/A"}
    assert cropping.class_names(net.config) == ["N/A", "hat", "N/A"]
    processor = AutoImageProcessor.from_pretrained(detector)
    find = cropping.found_boxes(net, processor, floor=0.0, same=1.0)
    [boxes] = find([PILImage.new("RGB", (60, 40), "red")], [{}])
    assert {box.label for box in boxes} <= {0, 1} and len(boxes) == 12
    gaps = type("Config", (), {"id2label": {0: "a", 2: "c"}})
    assert cropping.class_names(gaps) == ["a", "1", "c"]


class _Told:
    """A processor that gives the same boxes whatever the net says."""

    def post_process_object_detection(self, outputs, threshold):
        boxes = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.52], [0.5, 0.5, 1, 1], [0, 0, 0.5, 0.51]])
        kept = (scores := torch.tensor([0.5, 0.9, 0.6, 0.7])) > threshold
        return [{"scores": scores[kept], "labels": torch.tensor([0, 0, 1, 1])[kept], "boxes": boxes[kept]}]


def test_boxes_of_one_garment_are_told_once():
    def scores(**options):
        [found] = cropping.shares(_Told(), None, **options)
        return [round(score, 2) for _, score, _ in found]

    assert scores(same=1) == [0.9, 0.7, 0.6, 0.5]
    assert scores() == [0.9, 0.7, 0.6]  # of one class
    assert scores(across=True) == [0.9, 0.6]
    assert scores(threshold=0.65) == [0.9, 0.7]


@pytest.mark.parametrize(
    ("bbox", "margin", "size"),
    [
        ((10, 5, 4, 6), 0, (4, 6)),
        ((9.996, 5.004, 4.002, 6), 0, (4, 6)),  # shares stored as 32-bit floats
        ((10, 8, 4, 6), 0.5, (8, 11)),  # the photo ends below
        ((39.9, 15.9, 0.05, 0.05), 0, (1, 1)),
        ((-5, -5, 100, 100), 0, (40, 16)),
    ],
)
def test_a_cut_stays_in_its_photo(bbox, margin, size):
    assert cropping.cut(PILImage.new("RGB", (40, 16)), bbox, margin).size == size


@pytest.mark.parametrize("told, expected", [(0.3, 0.3), (1, 1.0), (0, None), (7, None), (True, None), ("x", None)])
def test_the_threshold_is_a_score_or_none(told, expected):
    config = type("Config", (), {"score_threshold": told})
    assert cropping.score_threshold(config) == expected and cropping.score_threshold(object()) is None


def test_what_cannot_be_is_refused_with_what_to_type(tmp_path):
    boxed_folder(tmp_path / "photos")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("x")
    for options, told in (
        (["-o", "used"], "new or empty folder"),
        (["-o", "photos/out"], "outside of the dataset"),
        ([], "-o garments"),
        (["-o", "out", "--score", "0.4"], "--model DETECTOR"),
        (["-o", "out", "--model", "x", "--box_format", "xyxy"], "draws its own"),
        (["-o", "out", "--margin", "9"], "0 to 2"),
    ):
        typed = [str(tmp_path / word) if word.startswith(("used", "photos", "out")) else word for word in options]
        with pytest.raises(InputError, match=told):
            crop.main([str(tmp_path / "photos"), *typed])
        assert not (tmp_path / "out").exists()


def test_pictures_are_encoded_whole(tmp_path):
    crop.main([str(stored(tmp_path / "p", (photo(1), [(0, 0, 0, 20, 20), (1, 0, 0, 40, 32)]))), "-o",
               str(tmp_path / "out"), "--min_side", "5"])  # fmt: skip
    rows = made(tmp_path / "out").cast_column("image", Image(decode=False))
    assert all(PILImage.open(BytesIO(row["image"]["bytes"])).format == "JPEG" for row in rows)
