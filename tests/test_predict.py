"""`hf-fashion predict`: what a model of any task says of a catalogue, in one parquet file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from datasets import Image as DatasetImage
from PIL import Image
from tiny import photos, tiny
from transformers import pipeline

from hf_fashion import backbones, images, predicting
from hf_fashion.errors import InputError
from hf_fashion.recipes import predict as recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("predict")
    photos(place / "photos", train=0, validation=0, test=7)
    torch.manual_seed(0)
    tiny("vit", place / "vit")
    tiny("swin", place / "swin")
    backbones.load_encoder(place / "swin", dimension=8).save_pretrained(str(place / "encoder"))
    net, processor = backbones.load_classifier(place / "vit", ["color: red", "color: blue", "tags: new", "tags: old"])
    net.config.update({
        "problem_type": "multi_label_classification", "thresholds": {"tags: new": 0.0, "tags: old": 1.0},
        "attribute_groups": {"color": {"many": False, "labels": ["color: red", "color: blue"]},
                             "tags": {"many": True, "labels": ["tags: new", "tags: old"]}},
    })  # fmt: skip
    net.save_pretrained(place / "attributes")
    processor.save_pretrained(place / "attributes")
    return place


def run(place, model, file, *more):
    return recipe.main([str(place / model), str(place / "photos"), "-o", str(file), *more])


def test_a_classifier_says_what_the_pipeline_says(place, tmp_path, capsys):
    done = run(place, "vit", tmp_path / "out.parquet", "--top_k", "2", "--write_every", "8", "--batch_size", "3")
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert done.photos == len(table) == 21 and done.before == 0 and not done.unreadable
    assert list(table[0])[:2] == ["source_row", "label_given"]
    assert list(table[0])[2:] == ["label", "score", "labels", "scores", "error"]
    asked = pipeline("image-classification", model=str(place / "vit"), device="cpu")
    for row in table:
        told = asked(images.decode(place / "photos" / "test" / row["source_row"].removeprefix("test/")), top_k=2)
        assert row["labels"] == [one["label"] for one in told] and row["label"] == row["labels"][0]
        np.testing.assert_allclose(row["scores"], [one["score"] for one in told], atol=1e-5)
        assert row["label_given"] in row["source_row"] and row["error"] is None
    said = capsys.readouterr().out
    assert "photos:   21" in said and "label_given, label, score" in said and not list(tmp_path.glob("*.unfinished"))


def test_attributes_and_vectors(place, tmp_path):
    run(place, "attributes", tmp_path / "a.parquet")
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert {row["color"] for row in rows} <= {"red", "blue"} and all(row["tags"] == ["new"] for row in rows)
    assert all(0.5 <= row["color_score"] <= 1 and len(row["tags_score"]) == 1 for row in rows)
    run(place, "encoder", tmp_path / "v.parquet")
    vectors = np.stack(pq.read_table(tmp_path / "v.parquet").column("vector").to_numpy())
    assert vectors.shape == (21, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    encoder = backbones.load_encoder(place / "encoder")
    first = pq.read_table(tmp_path / "v.parquet").column("source_row")[0].as_py()
    photo = images.decode(place / "photos" / "test" / first.removeprefix("test/"))
    np.testing.assert_allclose(vectors[0], encoder.encode([photo])[0], atol=1e-5)


def test_a_detector_says_boxes_in_pixels(place, tmp_path):
    from tiny_detectors import tiny_detector

    tiny_detector("rt_detr_v2", tmp_path / "net")
    recipe.main([str(tmp_path / "net"), str(place / "photos"), "-o", str(tmp_path / "b.parquet"), "--score", "0.0"])
    rows = pq.read_table(tmp_path / "b.parquet").to_pylist()
    assert rows[0]["boxes"] and set(rows[0]["boxes"][0]) == {"label", "score", "xmin", "ymin", "xmax", "ymax"}
    with Image.open(place / "photos" / "test" / rows[0]["source_row"].removeprefix("test/")) as photo:
        assert all(0 <= box["xmin"] < box["xmax"] <= photo.width for box in rows[0]["boxes"])


def test_a_photo_that_cannot_be_read_has_a_row_that_says_why(place, tmp_path, capsys):
    rows = [{"image": {"bytes": b"no picture", "path": None}, "source_row": "bad"}]
    rows += [{"image": {"bytes": (place / "photos" / "test" / "circle" / "0.png").read_bytes(), "path": None},
              "source_row": "good"}]  # fmt: skip
    from datasets import Features, Value
    from datasets import Image as ImageFeature

    dataset = Dataset.from_list(rows, features=Features({"image": ImageFeature(), "source_row": Value("string")}))
    done = predicting.catalogue(predicting.load(place / "vit"), dataset, tmp_path / "out.parquet")
    bad, good = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert done.unreadable == [{"where": "bad", "reason": bad["error"]}] and bad["error"] and bad["label"] is None
    assert good["label"] and good["error"] is None


def test_a_broken_file_of_a_folder_has_a_row_too(place, tmp_path):
    shutil.copytree(place / "photos" / "test", tmp_path / "photos")
    (tmp_path / "photos" / "circle" / "1.png").write_bytes(b"")
    done = recipe.main([str(place / "vit"), str(tmp_path / "photos"), "-o", str(tmp_path / "out.parquet")])
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(rows) == done.photos == 21 and len(done.unreadable) == 1
    [bad] = [row for row in rows if row["error"]]
    assert "circle/1.png" in bad["source_row"] and bad["label"] is None


def test_a_run_goes_on_where_it_was(place, tmp_path, monkeypatch):
    model = predicting.load(place / "vit")
    broken = predicting.Model(model.schema, lambda seen: (_ for _ in ()).throw(RuntimeError("power")), model.identity,
                              model.opens)  # fmt: skip
    count = []

    def say(seen):
        count.append(len(seen))
        if sum(count) > 12:
            raise RuntimeError("power")
        return model.say(seen)

    args = recipe.Arguments(model="m", dataset=str(place / "photos"), output_file=str(tmp_path / "out.parquet"))
    dataset, _ = recipe.read(args)
    half = predicting.Model(model.schema, say, model.identity, model.opens)
    with pytest.raises(RuntimeError, match="power"):
        predicting.catalogue(half, dataset, tmp_path / "out.parquet", batch_size=4, write_every=4)
    assert not (tmp_path / "out.parquet").exists()
    done = predicting.catalogue(model, dataset, tmp_path / "out.parquet", batch_size=4, write_every=4)
    assert done.before == 12 and done.photos == 21
    predicting.catalogue(model, dataset, tmp_path / "whole.parquet", batch_size=4)
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(tmp_path / "whole.parquet"))
    with pytest.raises(RuntimeError):
        predicting.catalogue(broken, dataset, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="others: weights"):
        other = predicting.Model(model.schema, model.say, model.identity | {"weights": "x"}, model.opens)
        predicting.catalogue(other, dataset, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="one that is there"):
        predicting.catalogue(model, dataset, tmp_path / "out.parquet")


@pytest.mark.slow  # processes
def test_a_killed_process_loses_nothing(place, tmp_path):
    command = [sys.executable, "-m", "hf_fashion.recipes.predict", str(place / "vit"), str(place / "photos"), "-o",
               str(tmp_path / "out.parquet"), "--write_every", "2", "--batch_size", "2"]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    beside = tmp_path / "out.parquet.unfinished"
    while process.poll() is None and len(list(beside.glob("*.parquet"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if beside.exists():
        (beside / "000000000000.99999").write_bytes(b"half")  # what a kill leaves
        assert json.loads((beside / "about.json").read_text())["rows"] == 21
        run(place, "vit", tmp_path / "out.parquet", "--write_every", "2", "--batch_size", "2")
    run(place, "vit", tmp_path / "again.parquet")
    one, two = (pq.read_table(tmp_path / f"{name}.parquet").to_pylist() for name in ("out", "again"))
    assert [row["label"] for row in one] == [row["label"] for row in two] and len(one) == 21


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "MODEL PHOTOS -o FILE.parquet"),
        (["vit", "photos", "-o", "x.csv"], "ends with .parquet"),
        (["vit", "photos", "-o", "x.parquet", "--top_k", "9"], "1 to 3"),
        (["encoder", "photos", "-o", "x.parquet", "--top_k", "2"], "found:    an encoder"),
        (["vit", "photos", "-o", "x.parquet", "--score", "0.2"], "found:    a classifier"),
        (["attributes", "photos", "-o", "x.parquet", "--top_k", "2"], "one of attributes"),
    ],
)
def test_what_cannot_be_is_refused(place, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        recipe.main([str(place / word) if word in ("vit", "encoder", "attributes", "photos") else word
                     for word in words])  # fmt: skip
    assert told in str(error.value)


def test_no_split_is_left_out(place, tmp_path):
    """Of train, validation and test as of the last two: a folder named test is one of several, not all there is."""
    photos(tmp_path / "photos", train=2, validation=1, test=1)
    dataset, report = recipe.read(
        recipe.Arguments(model="m", dataset=str(tmp_path / "photos"), output_file="x.parquet")
    )
    assert dataset["split"] == ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    shutil.rmtree(tmp_path / "photos" / "train")
    (tmp_path / "photos" / "validation" / "circle" / "0.png").write_bytes(b"")
    dataset, report = recipe.read(
        recipe.Arguments(model="m", dataset=str(tmp_path / "photos"), output_file="x.parquet")
    )
    assert dataset["split"] == ["validation"] * 2 + ["test"] * 3 and len(report.left_out) == 1
    assert report.sizes == {"validation": 2, "test": 3}
    shutil.rmtree(tmp_path / "photos" / "validation")
    (tmp_path / "photos" / "test").rename(tmp_path / "photos" / "validation")
    dataset, _ = recipe.read(recipe.Arguments(model="m", dataset=str(tmp_path / "photos"), output_file="x.parquet"))
    assert len(dataset) == 3 and "split" not in dataset.column_names


def test_columns_of_an_earlier_answer_are_kept(place, tmp_path):
    """Their names are those of the model, and so are those that they would get."""
    model = predicting.load(place / "vit")
    row = {
        "image": str(place / "photos" / "test" / "circle" / "0.png"),
        "label": "a",
        "label_given": "b",
        "error": "c",
    }
    dataset = Dataset.from_list([row | {"source_row": "0"}]).cast_column("image", DatasetImage())
    predicting.catalogue(model, dataset, tmp_path / "out.parquet")
    [told] = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (told["label_given_given"], told["label_given"], told["error_given"]) == ("a", "b", "c")
    assert told["label"] not in ("a", "b") and told["error"] is None


@pytest.mark.parametrize(
    ("kind", "file", "change"),
    [
        ("vit", "config.json", {"id2label": {"0": "x", "1": "y", "2": "z"}, "label2id": {"x": 0, "y": 1, "z": 2}}),
        ("vit", "preprocessor_config.json", {"image_mean": [0.1, 0.1, 0.1]}),
        ("attributes", "config.json", {"thresholds": {"tags: new": 0.9, "tags: old": 0.9}}),
    ],
)
def test_a_model_that_answers_otherwise_does_not_go_on(kind, file, change, place, tmp_path):
    """With the same weights, in the same folder."""
    shutil.copytree(place / kind, tmp_path / "net")
    before = predicting.load(tmp_path / "net").identity
    assert predicting.load(tmp_path / "net").identity == before
    told = json.loads((tmp_path / "net" / file).read_text())
    (tmp_path / "net" / file).write_text(json.dumps(told | change))
    after = predicting.load(tmp_path / "net").identity
    assert after["weights"] == before["weights"] and after != before
