"""`recipes/tag.py`, run as a user would: photos get labels, from which `recipes/classify.py` learns."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image
from test_zero_shot import tiny
from tiny import undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import catalogue, data, record, tag_tables, zero_shot
from hf_fashion.attributes import Group
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as classify_recipe
from hf_fashion.recipes import tag as recipe
from hf_fashion.tasks import classify

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
TEMPLATE = "a photo of a {}."
BROKEN = b"\x89PNG and then nothing"


def photo(colour, seed, size=(48, 40)):
    noise = np.random.default_rng(seed).integers(-30, 31, (*size, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A CLIP and a SigLIP that have learned three colours; of the latter only that they differ."""
    place = tmp_path_factory.mktemp("nets")
    texts = [TEMPLATE.format(colour) for colour in COLOURS]
    made = {}
    for kind in ("clip", "siglip"):
        folder = tiny(kind, place / kind, texts=texts)
        net, processor = hf.AutoModel.from_pretrained(folder), hf.AutoProcessor.from_pretrained(folder)
        filled = {"padding": "max_length", "max_length": 64} if kind == "siglip" else {"padding": True}
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        torch.manual_seed(0)
        for step in range(40):
            shown = [photo(colour, 1000 + step) for colour in COLOURS]
            inputs = processor(text=texts, images=shown, return_tensors="pt", **filled)
            loss = net(**inputs, return_loss=True).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss < 0.2, kind
        net.save_pretrained(folder)
        made[kind] = str(folder)
    return made


def fill(folder, train=6, validation=8, test=5):
    """Photos in split and class folders."""
    seed = 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        for colour in COLOURS if count else ():
            (folder / split / colour).mkdir(parents=True)
            for _ in range(count):
                photo(colour, seed).save(folder / split / colour / f"{seed}.png")
                seed += 1
    return folder


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tag(*argv):
    return recipe.main([*map(str, argv), "--templates", TEMPLATE])


def test_a_first_classifier_learns_from_a_table_of_labels_that_nobody_gave(nets, checkpoints, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    colours = [colour for colour in COLOURS for _ in range(14)]
    for number, colour in enumerate(colours):
        photo(colour, number).save(tmp_path / "photos" / f"{number:02d}.png")
    output = tmp_path / "tags.csv"
    told = tag(tmp_path / "photos", nets["clip"], "--labels", "crimson=red", "green", "blue", "-o", output)
    rows = rows_of(output)
    assert list(rows[0]) == ["file_name", "split", "label", "score", "second_label", "second_score"]
    assert [row["file_name"] for row in rows] == [f"photos/{number:02d}.png" for number in range(42)]
    wanted = ["crimson" if colour == "red" else colour for colour in colours]
    assert [row["label"] for row in rows] == wanted
    assert all(
        float(row["score"]) > float(row["second_score"]) and row["second_label"] != row["label"] for row in rows
    )
    said = capsys.readouterr().out
    assert "crimson 14, green 14, blue 14" in said and "not calibrated" in said
    assert told["figures"] == {} and json.loads((tmp_path / "tags.figures.json").read_text()) == told
    assert told["labels"] == {"label": {"crimson": "red", "green": "green", "blue": "blue"}}
    with without_drawing():
        run = classify_recipe.main([
            "--model", str(checkpoints["vit"]), "--dataset", str(output), "--output_dir", str(tmp_path / "run"),
            "--max_steps", "1", "--use_cpu", "True", "--disable_tqdm", "True",
        ])  # fmt: skip
    assert f"--dataset {output}" in said
    assert record.read(run.folder).results["n"] == 6
    assert set(run.predictions.features["label"].names) == {"crimson", "green", "blue"}


def test_scores_are_those_of_bare_transformers(nets, tmp_path):
    fill(tmp_path / "photos", train=1, validation=1, test=1)
    for kind in ("clip", "siglip"):
        tag(tmp_path / "photos", nets[kind], "-o", tmp_path / f"{kind}.csv", "--batch_size", "4")
        asked = hf.pipeline("zero-shot-image-classification", model=nets[kind], device="cpu")
        for row in rows_of(tmp_path / f"{kind}.csv"):
            said = asked(str(tmp_path / row["file_name"]), candidate_labels=[*COLOURS], hypothesis_template=TEMPLATE)
            assert [one["label"] for one in said][:2] == [row["label"], row["second_label"]]
            assert [one["score"] for one in said][:2] == pytest.approx(
                [float(row["score"]), float(row["second_score"])], abs=1e-4
            )


def test_photos_with_labels_are_measured_and_calibrated_on_others(nets, tmp_path, capsys):
    photos = fill(tmp_path / "photos")
    wrong = tmp_path / "photos" / "test" / "green" / "wrong.png"
    photo("blue", 99).save(wrong)
    told = tag(photos, nets["clip"], "-o", tmp_path / "tags.csv", "--calibrate_on", "validation")
    figures = told["figures"]
    assert figures["split"] == "test" and figures["n"] == 16
    assert figures["accuracy"] == pytest.approx(15 / 16) and figures["accuracy_low"] < 15 / 16
    assert figures["confusion_matrix"] == [[5, 0, 0], [1, 5, 0], [0, 0, 5]]  # blue, green, red
    assert set(figures) >= {"ece", "ece_before", "log_loss", "log_loss_before", "f1_macro", "f1_macro_low"}
    assert told["calibration"]["photos"] == 24 and told["calibration"]["label"]["temperature"] > 0
    for name in ("confusion_matrix", "reliability"):
        assert (tmp_path / f"tags.{name}.png").stat().st_size > 1000
    rows = rows_of(tmp_path / "tags.csv")
    assert {(row["split"], row["true_label"]) for row in rows if row["file_name"].endswith("wrong.png")} == {
        ("test", "green")
    }
    said = capsys.readouterr().out
    assert "calibrated on validation, 24 photos (temperature" in said and "accuracy 0.938 (" in said
    assert f"from {told['sure_from']:.3f} on" in said
    scores = [float(row["score"]) for row in rows]
    assert max(scores) < 1  # 24 of 24 photos that are right do not make certain


def test_figures_are_of_no_photo_that_was_learned_from(nets, tmp_path, capsys):
    photos = fill(tmp_path / "photos", train=3, validation=5, test=0)
    told = tag(photos, nets["clip"], "--labels", *COLOURS, "-o", tmp_path / "a.csv", "--calibrate_on", "validation")
    assert (told["figures"]["split"], told["figures"]["n"], told["calibration"]["photos"]) == ("train", 9, 15)
    told = tag(
        photos / "train", nets["clip"], "--labels", *COLOURS, "-o", tmp_path / "b.csv", "--calibrate_on", "train"
    )
    assert told["figures"] == {} and "measured: nothing" in capsys.readouterr().out


@pytest.mark.parametrize("cut", [["validation", "test"], []])
def test_a_model_that_has_learned_from_the_photos_is_said_to(nets, tmp_path, capsys, cut):
    """What it says of them is written down all the same: it is the figures that would flatter."""
    photos = fill(tmp_path / "photos", train=3, validation=2, test=0)
    argv = (photos, "--labels", *COLOURS)
    assert tag(photos, nets["clip"], *argv[1:], "-o", tmp_path / "new.csv")["seen"] is None
    _, report = data.load(photos, catalogue.COLUMNS, label_columns=[], validation_share=None, test_share=None)
    mine = shutil.copytree(nets["clip"], tmp_path / "mine")
    (mine / "run.json").write_text(json.dumps({"dataset": report.to_dict() | {"cut": cut}}))
    capsys.readouterr()
    told = tag(photos, mine, *argv[1:], "-o", tmp_path / "old.csv")
    assert "flatter" in told["seen"] and told["figures"]["n"] == 15
    assert "flatter" in capsys.readouterr().out.replace("\n", " ")


def test_what_is_unsure_is_left_blank_and_listed(nets, tmp_path, capsys):
    photos = fill(tmp_path / "photos", train=3, validation=3, test=3)
    for number in range(3):  # neither red nor blue
        Image.new("RGB", (40, 40), (100 + 20 * number, 30, 125)).save(photos / "train" / "red" / f"purple{number}.png")
    arguments = (photos, nets["clip"], "--calibrate_on", "validation", "--labels", *COLOURS)
    tag(*arguments, "-o", tmp_path / "all.csv")
    scores = {row["file_name"]: float(row["score"]) for row in rows_of(tmp_path / "all.csv")}
    assert len(scores) == 30 and not (tmp_path / "all.unsure.csv").exists()
    ranked = sorted(scores.values())
    assert ranked[1] < ranked[2] - 0.001
    capsys.readouterr()
    told = tag(*arguments, "-o", tmp_path / "some.csv", "--least_score", (ranked[1] + ranked[2]) / 2)
    sure, unsure = rows_of(tmp_path / "some.csv"), rows_of(tmp_path / "some.unsure.csv")
    assert [row["file_name"] for row in unsure] == sorted(scores, key=scores.get)[:2]  # the least sure first
    assert {row["label"] for row in unsure} == {""} and all(row["guess"] in COLOURS for row in unsure)
    assert len(sure) == 28 and "" not in {row["label"] for row in sure}
    assert told["counts"] == {"labelled": 28, "unsure": 2}
    assert told["figures"]["share_told"] == 1.0 and told["figures"]["accuracy_told"] == 1.0
    said = capsys.readouterr().out
    assert "left blank: 2 of 30 photos" in said and str(tmp_path / "some.unsure.csv") in said
    dataset, report = data.load(str(tmp_path / "some.csv"), classify.COLUMNS)  # none of it is an error to a training
    assert not report.of("error")
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 10, "validation": 9, "test": 9}
    tag(*arguments, "-o", tmp_path / "none.csv", "--least_score", "1")
    assert "none has a label" in capsys.readouterr().out and rows_of(tmp_path / "none.csv") == []


def test_tags_and_groups_are_columns_that_a_training_of_attributes_reads(nets, tmp_path, capsys):
    photos = fill(tmp_path / "photos", train=2, validation=4, test=2)
    table = tmp_path / "photos.csv"
    lines = ["file_name,split,colour,warm"]
    for path in sorted(photos.rglob("*.png")):
        split, colour = path.parts[-3:-1]
        lines.append(f"{path.relative_to(tmp_path)},{split},{colour},{'red|glow' if colour == 'red' else ''}")
    table.write_text("\n".join(lines) + "\n")
    # Several labels a photo: SigLIP scores each by itself.
    told = tag(table, nets["siglip"], "--labels", *COLOURS, "--several", "-o", tmp_path / "tags.csv",
               "--label_column", "colour")  # fmt: skip
    assert told["figures"]["map"] > 0.9 and told["figures"]["n"] == 6 and (tmp_path / "tags.f1_by_label.png").exists()
    rows = rows_of(tmp_path / "tags.csv")
    assert list(rows[0]) == [
        "file_name", "split", "labels", "labels_scores", "labels_score", "labels_guess", "true_labels",
    ]  # fmt: skip
    assert {row["labels_guess"] for row in rows} == {*COLOURS}
    said = capsys.readouterr().out
    assert "--label_columns labels --label_separator '|'" in said
    for row in rows:  # from 0.5 on, a sigmoid each
        scores = [float(score) for score in row["labels_scores"].split("|") if score]
        assert len(scores) == len([label for label in row["labels"].split("|") if label])
        assert all(score >= 0.5 for score in scores) and scores == sorted(scores, reverse=True)
    all_of_them = (tmp_path / "all.csv", "--least_score", "0")
    tag(table, nets["siglip"], "--labels", *COLOURS, "--several", "-o", *all_of_them)
    dataset, _ = data.load(str(tmp_path / "all.csv"), classify.COLUMNS, label_columns=["labels"], label_separator="|")
    assert data.attributes(dataset) == {"labels": True} and {len(row) for row in dataset["train"]["labels"]} == {3}
    capsys.readouterr()
    # Groups, of each of which one label is told.
    (tmp_path / "groups.csv").write_text("label,words,group\nred,,colour\ngreen,,colour\nblue,,colour\n"
                                         "warm,red,tone\ncold,blue,tone\n")  # fmt: skip
    told = tag(table, nets["clip"], "--labels_file", tmp_path / "groups.csv", "-o", tmp_path / "groups")
    assert told["figures"]["accuracy/colour"] == 1.0
    assert "--label_columns colour tone" in capsys.readouterr().out
    dataset, _ = data.load(str(tmp_path / "groups"), classify.COLUMNS, label_columns=["colour", "tone"])
    assert data.attributes(dataset) == {"colour": False, "tone": False}
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 6, "validation": 12, "test": 6}
    for row in dataset["test"]:
        colour = dataset["test"].features["colour"].int2str(row["colour"])
        assert colour in row["source_row"] and row["image"].size == (40, 48)
        assert colour == "green" or {"red": "warm", "blue": "cold"}[colour] == dataset["test"].features[
            "tone"
        ].int2str(row["tone"])


def test_several_labels_are_calibrated_where_the_checkpoint_cannot_score_one(nets, tmp_path):
    photos = fill(tmp_path / "photos")
    arguments = (photos, nets["clip"], "--labels", *COLOURS, "--several", "--label_column", "label")
    with pytest.raises(InputError, match="compares the labels"):
        tag(*arguments, "-o", tmp_path / "tags.csv")
    told = tag(*arguments, "-o", tmp_path / "tags.csv", "--calibrate_on", "validation")
    assert told["figures"]["f1_macro"] > 0.9 and "ece_before" not in told["figures"]
    assert [row["labels"] for row in rows_of(tmp_path / "tags.csv") if "/red/" in row["file_name"]] == ["red"] * 19


def test_photos_within_tables_get_a_folder_and_keep_their_splits(nets, tmp_path, capsys):
    features = Features({"image": ImageFeature(), "kind": ClassLabel(names=["red", "green", "blue", "pink"])})
    rows = [{"image": photo(colour, number), "kind": colour} for number, colour in enumerate([*COLOURS] * 3)]
    held = Dataset.from_list([*rows, {"image": photo("red", 9), "kind": "pink"}], features=features)
    DatasetDict({"train": held.select(range(6)), "test": held.select(range(6, 10))}).save_to_disk(tmp_path / "saved")
    arguments = (tmp_path / "saved", nets["clip"], "--label_column", "kind", "--labels", *COLOURS)
    with pytest.raises(InputError, match="photos that are files"):
        tag(*arguments, "-o", tmp_path / "tags.csv")
    assert not list(tmp_path.glob("tags*"))
    told = tag(*arguments, "-o", tmp_path / "tagged", "--least_score", "0.5")
    assert "pink (1)" in capsys.readouterr().out
    assert told["figures"]["n"] == 3 and told["figures"]["accuracy"] == 1.0
    dataset, report = data.load(str(tmp_path / "tagged"), classify.COLUMNS, validation_share=None)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 6, "test": 4}
    assert data.labels(dataset) == ["blue", "green", "red"]
    assert np.array_equal(np.asarray(dataset["train"][1]["image"]), np.asarray(photo("green", 1)))
    assert "nobody has looked at them" in (tmp_path / "tagged" / "README.md").read_text()


def test_bad_photos_stop_it_or_are_left_out_by_name(nets, tmp_path, capsys):
    photos = fill(tmp_path / "photos", train=2, validation=2, test=2)
    bad = photos / "test" / "blue" / "bad.png"
    photo("blue", 99).save(bad)
    bad.write_bytes(bad.read_bytes()[:300])  # its header can be read
    arguments = (photos, nets["clip"], "--labels", *COLOURS, "-o", tmp_path / "tags.csv")
    with pytest.raises(InputError, match="bad.png.*\n.*on_bad_image drop"):
        tag(*arguments)
    assert not list(tmp_path.glob("tags*"))
    tag(*arguments, "--on_bad_image", "drop")
    assert len(rows_of(tmp_path / "tags.csv")) == 18
    [row] = rows_of(tmp_path / "tags.left_out.csv")
    assert row["where"].endswith("blue/bad.png") and row["reason"]
    assert "left out: 1 photos in all" in capsys.readouterr().out


def test_a_name_that_a_spreadsheet_would_run_is_read_back(nets, tmp_path):
    (tmp_path / "=1+1").mkdir()
    for number, colour in enumerate(COLOURS):
        photo(colour, number).save(tmp_path / "=1+1" / f"{colour}, \"é\" 'x'.png")
    tag(tmp_path / "=1+1", nets["clip"], "--labels", *COLOURS, "-o", tmp_path / "tags.csv")
    assert all(row["file_name"].startswith("./=1+1/") for row in rows_of(tmp_path / "tags.csv"))
    dataset, report = data.load(str(tmp_path / "tags.csv"), classify.COLUMNS, validation_share=None, test_share=None)
    assert not report.of("error") and len(dataset["train"]) == 3


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--labels", "red", "blue"), "no output"),
        (("--labels", "red", "blue", "-o", "tags.csv", "--labels_file", "x"), "one of the two"),
        (("--labels", "red", "-o", "tags.csv"), "two labels or more"),
        (("--labels", "red", "blue", "-o", "there.csv"), "never written over"),
        (("--labels", "red", "blue", "-o", "no/such/tags.csv"), "no such folder"),
        (("--labels", "red", "blue", "-o", "tags.parquet"), "-o tags: a folder"),
        (("--labels", "red", "blue", "-o", "photos/tags.csv"), "outside of the dataset"),
        (("--labels", "red", "blue", "-o", "elsewhere/tags.csv"), "a table names no others"),
        (("--labels", "red", "blue", "-o", "tags.csv", "--calibrate_on", "validation"), "none of that name"),
        (("--labels", "red", "blue", "-o", "tags.csv", "--label_column", "kind"), "a column of the photos"),
        (("--labels", "red", "blue", "-o", "tags.csv", "--least_score", "2"), "--least_score"),
        (("-o", "tags.csv",), "labels to choose from"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch, argv, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there.csv").write_text("mine")
    photo("red", 0).save(tmp_path / "photos" / "a.png")
    with pytest.raises(InputError, match=told):
        recipe.main(["photos", "no/model", *argv])
    assert (tmp_path / "there.csv").read_text() == "mine" and not (tmp_path / "tags.csv").exists()


def test_nothing_is_calibrated_on_the_test_split(tmp_path):
    with pytest.raises(InputError, match="invalid choice"):
        recipe.main(["photos", "model", "-o", str(tmp_path / "x.csv"), "--calibrate_on", "test"])


def test_groups_whose_columns_have_one_name_are_refused():
    for names in (("split", "x"), ("a", "a_score"), ("true_a", "a")):
        groups = [Group(name, ("x", "y"), False, 2 * place) for place, name in enumerate(names)]
        with pytest.raises(InputError, match="columns of their own"):
            tag_tables.refuse_names(groups)
    tag_tables.refuse_names(zero_shot.read_labels(["a", "b"])[0])


def test_labels_of_photos_are_read_from_columns_of_any_kind():
    from hf_fashion import tagging

    rows = Dataset.from_dict(
        {
            "class": [0, 1, None], "text": ["a|b", " ", None], "number": [1.0, 2.0, None],
            "many": [["a", "b"], [], None],
        },
        features=Features(
            {"class": ClassLabel(names=["a", "b"]), "text": Value("string"), "number": Value("float32"),
             "many": List(Value("string"))}
        ),
    )  # fmt: skip
    assert tagging.texts_of(rows, "class", None) == [["a"], ["b"], None]
    assert tagging.texts_of(rows, "text", "|") == [["a", "b"], None, None]
    assert tagging.texts_of(rows, "text", None) == [["a|b"], None, None]
    assert tagging.texts_of(rows, "number", None) == [["1"], ["2"], None]
    assert tagging.texts_of(rows, "many", None) == [["a", "b"], [], None]
