"""`recipes/classify.py` and `recipes/score.py`, run as a user would, and the folders that they leave."""

import csv
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from processes import Forked
from safetensors.torch import load_file
from tiny import photos, tiny, undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import load_classifier, metrics, record
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe
from hf_fashion.recipes import score
from hf_fashion.tasks import classify

QUICK = [
    "--num_train_epochs",
    "2",
    "--per_device_train_batch_size",
    "8",
    "--learning_rate",
    "0.01",
    "--use_cpu",
    "True",
    "--disable_tqdm",
    "True",
]
KINDS = ("swin", "resnet", "timm")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `photos/<split>/<class>/<n>.png`, tiny checkpoints, and a finished run of each."""
    place = tmp_path_factory.mktemp("classify")
    photos(place / "photos", train=10, validation=8, test=6)
    for kind in KINDS:
        with nullcontext() if kind == "swin" else without_drawing():
            recipe.main(run_of(place, kind, "--output_dir", str(place / f"run-{kind}"), "--resize", "pad"))
    return place


def run_of(place, kind, *more):
    tiny(kind, place / kind)
    return ["--model", str(place / kind), "--dataset", str(place / "photos"), *QUICK, *more]


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_holds_all_that_the_design_names(place, kind):
    folder = place / f"run-{kind}"
    run = record.read(folder)
    assert run.info["status"] == "finished"
    assert run.info["dataset"]["sizes"] == {"train": 30, "validation": 24, "test": 18}
    assert {"command", "arguments", "seed", "versions", "device", "wall_seconds", "cpu_seconds"} <= set(run.info)
    assert {path.stem for path in (folder / "plots").iterdir()} == {
        "learning_curve",
        "confusion_matrix",
        "f1_by_class",
        "surest_mistakes",
    }
    results = run.results
    assert (results["split"], results["n"], results["validation"]["n"]) == ("test", 18, 24)
    assert results["accuracy_low"] <= results["accuracy"] <= results["accuracy_high"]
    loose = [path for path in folder.iterdir() if path.is_file() and path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert loose == []


@pytest.mark.parametrize("kind", KINDS)
def test_config_says_below_which_score_the_model_is_unsure(place, kind):
    folder = place / f"run-{kind}"
    told = json.loads((folder / "config.json").read_text())["unsure_below"]
    rows = [row for row in Dataset.from_parquet(str(folder / "predictions.parquet")) if row["split"] == "validation"]
    scores = np.array([row["score"] for row in rows])
    chosen = metrics.unsure_below(scores, np.array([row["prediction"] == row["label"] for row in rows]))
    assert told == pytest.approx(min(chosen, 1.0), abs=1e-6)  # the file has 32 bits
    sure = scores >= np.float32(told)
    card = (folder / "README.md").read_text()
    right = sum(row["prediction"] == row["label"] for row, is_sure in zip(rows, sure, strict=True) if is_sure)
    assert (f"{right} of {sure.sum()} validation photos are right" if told < 1 else "No score was high") in card
    fresh, _ = load_classifier(folder, ["a", "b"])
    assert not hasattr(fresh.config, "unsure_below")  # another head, of which nobody knows


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_that_the_figures_count(place, kind):
    run = record.read(place / f"run-{kind}")
    rows = run.predictions
    assert rows.num_rows == 24 + 18
    test = rows.filter(lambda split: split == "test", input_columns="split")
    assert len(set(test["source_row"])) == 18
    right = np.mean(np.array(test["label"]) == np.array(test["prediction"]))
    assert right == pytest.approx(run.results["accuracy"])
    assert np.allclose(np.sum(test["scores"], axis=1), 1, atol=1e-5)
    assert rows.features["label"].names == ["circle", "square", "stripes"]


def test_the_card_says_what_the_run_measured(place):
    run = record.read(place / "run-swin")
    card = ModelCard.load(run.folder / "README.md")
    value = next(result.metric_value for result in card.data.eval_results if result.metric_name == "accuracy")
    assert value == pytest.approx(run.results["accuracy"], abs=5e-5)
    assert run.info["usage"]["output"] in card.text and "circle" in run.info["usage"]["output"]
    assert "padded" in card.text


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_process_without_us_gives_the_scores_that_we_measured(place, tmp_path, fresh):
    """Bare `pipeline`, by path, for every test photo of every run; a fork need not import all anew."""
    script, told = tmp_path / "bare.py", tmp_path / "told.txt"
    script.write_text("""
import json, sys
sys.modules["hf_fashion"] = None
from pathlib import Path
from transformers import pipeline
place, *folders = sys.argv[1:]
out = {}
for folder in folders:
    classify = pipeline("image-classification", model=folder, top_k=3)
    for photo in sorted(Path(place, "photos", "test").rglob("*.png")):
        guesses = {guess["label"]: guess["score"] for guess in classify(str(photo))}
        out[f"{folder}|{photo.relative_to(Path(place, 'photos'))}"] = guesses
print(json.dumps(out))
""")
    folders = [str(place / f"run-{kind}") for kind in KINDS]
    command = [sys.executable, str(script), str(place), *folders]
    if fresh:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told.write_text(done.stdout)
    else:
        assert Forked(command, told=told).wait() == 0, told.read_text()
    theirs = json.loads(told.read_text().splitlines()[-1])
    assert len(theirs) == 3 * 18
    for folder in folders:
        rows = record.read(folder).predictions
        names = rows.features["label"].names
        for row in rows:
            if row["split"] == "test":
                got = theirs[f"{folder}|{row['source_row']}"]
                assert [got[name] for name in names] == pytest.approx(row["scores"], abs=1e-5)
                assert max(got, key=got.get) == names[row["prediction"]]


@pytest.mark.usefixtures("undrawn")
def test_a_run_from_the_record_gives_the_same_numbers(place, tmp_path):
    again = recipe.main(["--config", str(place / "run-swin" / "run.json"), "--output_dir", str(tmp_path / "again")])
    assert again.results == record.read(place / "run-swin").results
    one, two = (load_file(folder / "model.safetensors") for folder in (place / "run-swin", tmp_path / "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.usefixtures("undrawn")
def test_everything_moves_and_what_is_frozen_does_not(place, tmp_path):
    before = load_file(place / "swin" / "model.safetensors")
    after = load_file(place / "run-swin" / "model.safetensors")
    assert [name for name in before if name in after and torch.equal(before[name], after[name])] == []
    recipe.main(run_of(place, "timm", "--freeze", "backbone", "--output_dir", str(tmp_path / "frozen")))
    before = load_file(place / "timm" / "model.safetensors")
    after = load_file(tmp_path / "frozen" / "model.safetensors")
    moved = {
        name
        for name in before
        if not (before[name].shape == after[name].shape and torch.equal(before[name], after[name]))
    }
    assert moved and all("head" in name or "fc" in name or "classifier" in name for name in moved), moved


@pytest.mark.usefixtures("undrawn")
def test_resume_last_ends_with_the_weights_of_the_whole_run(place, tmp_path):
    argv = run_of(place, "swin", "--output_dir", str(tmp_path / "run"), "--resize", "pad", "--save_total_limit", "9")
    recipe.main(argv)
    folder = tmp_path / "run"
    whole = load_file(folder / "model.safetensors")
    steps = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(steps) == 2
    for checkpoint in steps[1:]:  # as if it had been killed after the first epoch
        for path in sorted(checkpoint.rglob("*"), reverse=True):
            path.unlink()
        checkpoint.rmdir()
    # As the README says it: nothing but the folder, all else is read from its run.json.
    run = recipe.main(["--output_dir", str(folder), "--resume_from_checkpoint", "last"])
    assert run.info["resumed_from"] == str(steps[0])
    resumed = load_file(folder / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.usefixtures("undrawn")
def test_a_csv_is_cut_by_group_and_the_rows_are_named(place, tmp_path):
    files = sorted((place / "photos").rglob("*.png"))
    with open(tmp_path / "catalogue.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", "kind", "seller"])
        for number, path in enumerate(files):
            (tmp_path / f"{number}.png").write_bytes(path.read_bytes())
            writer.writerow([f"{number}.png", path.parent.name, f"seller {number % 21}"])
    run = recipe.main(
        [
            "--model",
            str(place / "swin"),
            "--dataset",
            str(tmp_path / "catalogue.csv"),
            "--image_column",
            "picture",
            "--label_column",
            "kind",
            "--split_by",
            "seller",
            "--output_dir",
            str(tmp_path / "run"),
            *QUICK,
        ]
    )
    sizes = run.info["dataset"]["sizes"]
    assert sum(sizes.values()) == len(files) and sizes["test"] >= 4
    held = [row for row in run.predictions if row["split"] == "test"]
    numbers = {int(Path(row["source_row"].split(":")[-1]).stem) if ".png" in row["source_row"] else -1 for row in held}
    assert len(numbers) == len(held)


def test_score_gives_the_runs_own_figures_on_its_own_test_photos(place, tmp_path):
    run = score.main(
        [
            "--model",
            str(place / "run-timm"),
            "--dataset",
            str(place / "photos" / "test"),
            "--output_dir",
            str(tmp_path / "score"),
            "--use_cpu",
            "True",
            "--disable_tqdm",
            "True",
        ]
    )
    trained = record.read(place / "run-timm").results
    trained.pop("validation")
    assert run.results == trained
    assert f"| accuracy | {trained['accuracy']:.3f} |" in (tmp_path / "score" / "README.md").read_text()
    assert {path.stem for path in (tmp_path / "score" / "plots").iterdir()} == {
        "confusion_matrix",
        "f1_by_class",
        "surest_mistakes",
    }
    assert not (tmp_path / "score" / "model.safetensors").exists()


@pytest.mark.usefixtures("undrawn")
def test_score_matches_labels_by_name_not_by_number(place, tmp_path):
    """Two of the three classes, in a folder: their numbers differ from the model's."""
    for name in ("stripes", "square"):
        (tmp_path / "two" / name).mkdir(parents=True)
        for path in (place / "photos" / "test" / name).iterdir():
            (tmp_path / "two" / name / path.name).write_bytes(path.read_bytes())
    run = score.main(
        [
            "--model",
            str(place / "run-timm"),
            "--dataset",
            str(tmp_path / "two"),
            "--output_dir",
            str(tmp_path / "score"),
            "--use_cpu",
            "True",
            "--disable_tqdm",
            "True",
        ]
    )
    trained = record.read(place / "run-timm").results
    for name in ("stripes", "square"):
        assert run.results[f"recall/{name}"] == trained[f"recall/{name}"]
    assert run.results["n"] == 12


def test_score_refuses_labels_that_the_model_does_not_know(place, tmp_path):
    photos(tmp_path / "photos", classes=("circle", "Square"), train=1, validation=1, test=2)
    with pytest.raises(InputError, match="Square"):
        score.main(
            [
                "--model",
                str(place / "run-timm"),
                "--dataset",
                str(tmp_path / "photos"),
                "--output_dir",
                str(tmp_path / "out"),
            ]
        )


@pytest.mark.usefixtures("undrawn")
def test_score_refuses_the_photos_that_a_run_cut_its_splits_from(place, tmp_path):
    flat = tmp_path / "flat"
    for path in (place / "photos").rglob("*.png"):
        (flat / path.parent.name).mkdir(parents=True, exist_ok=True)
        (flat / path.parent.name / f"{path.parent.parent.name}-{path.name}").write_bytes(path.read_bytes())
    recipe.main(
        ["--model", str(place / "swin"), "--dataset", str(flat), "--output_dir", str(tmp_path / "run"), *QUICK]
    )
    with pytest.raises(InputError, match="has not seen"):
        score.main(["--model", str(tmp_path / "run"), "--dataset", str(flat), "--output_dir", str(tmp_path / "out")])


BAD = {
    "an unknown setting": (["--learnin_rate", "1"], "did you mean"),
    "a dataset that is not there": (["--dataset", "./no_photos"], "no_photos"),
    "a Hub dataset without a network": (["--dataset", "somebody/photos"], "network|offline"),
    "a model that is not there": (["--model", "./no_model"], "no_model"),
    "a Hub model without a network": (["--model", "microsoft/resnet-50"], "network|offline"),
    "a freeze plan that is none": (["--freeze", "half"], "stages:N"),
    "more stages than there are": (["--freeze", "stages:9"], "stages"),
    "a config that is not there": (["--config", "none.yaml"], "none.yaml"),
    "a text for the card that is not there": (["--card_prose", "none.md"], "none.md"),
    "a licence that the Hub does not know": (["--license", "MIT License"], "apache-2.0"),
    "a share out of range": (["--test_share", "2"], "test_share"),
    "a column that is not there": (["--label_column", "colour"], "colour"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_ends_before_training_in_one_message(case, place, tmp_path):
    argv, says = BAD[case]
    with pytest.raises(InputError, match=says) as caught:
        recipe.main([*run_of(place, "swin", "--output_dir", str(tmp_path / "run")), *argv])
    text = str(caught.value)
    assert all(word in text for word in ("expected:", "found:", "to do:"))
    assert not any((tmp_path / "run").glob("*"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("broken", ["one class", "no labels", "an unreadable file"])
def test_wrong_photos_end_before_training(broken, place, tmp_path):
    photos(tmp_path / "photos", classes=("circle",) if broken == "one class" else ("circle", "square"))
    if broken == "no labels":
        for path in [*(tmp_path / "photos").rglob("*.png")]:
            path.rename(tmp_path / f"{path.parent.parent.name}-{path.parent.name}-{path.name}")
        source = tmp_path / "flat"
        source.mkdir()
        for path in tmp_path.glob("*.png"):
            path.rename(source / path.name)
    else:
        source = tmp_path / "photos"
    if broken == "an unreadable file":
        (source / "train" / "circle" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.raises(InputError) as caught:
        recipe.main(["--model", str(place / "swin"), "--dataset", str(source), "--output_dir", str(tmp_path / "run")])
    text = str(caught.value)
    assert all(word in text for word in ("expected:", "found:", "to do:"))
    if broken == "an unreadable file":
        assert "0.png" in text
        run = recipe.main(
            [
                "--model",
                str(place / "swin"),
                "--dataset",
                str(source),
                "--on_bad_image",
                "drop",
                "--output_dir",
                str(tmp_path / "run"),
                *QUICK,
            ]
        )
        assert len(run.info["dataset"]["left_out"]) == 1 and run.info["dataset"]["sizes"]["train"] == 15
    else:
        assert not any((tmp_path / "run").glob("*"))


@pytest.mark.usefixtures("undrawn")
def test_what_the_check_says_is_printed(place, tmp_path, capsys):
    photos(tmp_path / "photos", classes=("circle", "square"), train=3, validation=2, test=2)
    (tmp_path / "photos" / "train" / "circle" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    recipe.main(
        [
            "--model",
            str(place / "swin"),
            "--dataset",
            str(tmp_path / "photos"),
            "--on_bad_image",
            "drop",
            "--output_dir",
            str(tmp_path / "run"),
            *QUICK,
        ]
    )
    shown = capsys.readouterr().out
    assert "0.png" in shown and "left out" in shown


def test_padded_training_pictures_show_as_much_filling_as_those_of_evaluation():
    from PIL import Image
    from torchvision.transforms import InterpolationMode

    from hf_fashion.augmentation import crop_and_flip
    from hf_fashion.backbones import InputSpec

    spec = InputSpec(32, 32, (0.5,) * 3, (0.5,) * 3, InterpolationMode.BILINEAR, "pad")
    picture = crop_and_flip(spec, smallest_crop=1.0)(Image.new("RGB", (20, 80), "white"))
    # Three quarters are the mean colour, give or take the crop's own change of aspect.
    assert 0.6 < (picture.abs() < 0.1).float().mean() < 0.85


def test_a_thousand_classes_make_a_figure_and_a_card_of_a_page(tmp_path):
    from hf_fashion import metrics, plots

    labels = [f"class {number}" for number in range(1000)]
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 1000, 300)
    figures = metrics.classification(rng.normal(size=(300, 1000)), truth, labels, n_resamples=20)
    figure = plots.confusion_matrix(figures["confusion_matrix"], labels, "Confusions")
    assert max(figure.get_size_inches()) < 30
    assert "40 most confused of 1000" in figure.axes[0].get_title(loc="left")


def test_as_labelled_by_keeps_every_name():
    from datasets import ClassLabel, DatasetDict, Features
    from transformers import ResNetConfig, ResNetForImageClassification

    names = ["a", "b", "c"]
    config = ResNetConfig(
        embedding_size=4,
        hidden_sizes=[4],
        depths=[1],
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    rows = Dataset.from_dict({"label": [0, 1, 0]}, features=Features({"label": ClassLabel(names=["c", "a"])}))
    after = classify.as_labelled_by(DatasetDict(test=rows), ResNetForImageClassification(config))["test"]
    assert after.features["label"].names == names
    assert after.features["label"].int2str(after["label"]) == ["c", "a", "c"]
