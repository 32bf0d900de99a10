"""`recipes/classify.py --label_columns ...`, run as a user would: a folder that bare transformers reads."""

import json
import shutil
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List
from huggingface_hub import ModelCard
from tiny import photos, tiny, undrawn, without_drawing  # noqa: F401 (a fixture)
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from hf_fashion import attributes, cards, record
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe
from hf_fashion.recipes import score
from hf_fashion.tasks import attributes as task

SHAPES = ("circle", "square", "stripes")
QUICK = [
    "--num_train_epochs", "6", "--per_device_train_batch_size", "8", "--learning_rate", "0.01",
    "--use_cpu", "True", "--disable_tqdm", "True",
]  # fmt: skip
KINDS = ("swin", "timm")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A CSV with a column of one shape a photo, one of tags, holes in both, and a finished run of each net."""
    place = tmp_path_factory.mktemp("attributes")
    photos(place / "photos", train=10, validation=5, test=6)
    lines = ["image,split,shape,tags"]
    for number, path in enumerate(sorted((place / "photos").rglob("*.png"))):
        split, shape = path.relative_to(place / "photos").parts[:2]
        tags = {"circle": "round|smooth", "square": "smooth", "stripes": "thin"}[shape]
        shape = "" if number % 7 == 0 else shape
        tags = "" if number % 5 == 0 else tags
        lines.append(f"{path.relative_to(place)},{split},{shape},{tags}")
    (place / "photos.csv").write_text("\n".join(lines) + "\n")
    for kind in KINDS:
        tiny(kind, place / kind)
        with nullcontext() if kind == "swin" else without_drawing():
            recipe.main(run_of(place, kind))
    return place


def run_of(place, kind, *more, folder=None):
    return [
        "--model", str(place / kind), "--dataset", str(place / "photos.csv"), "--label_columns", "shape", "tags",
        "--label_separator", "|", *QUICK, "--output_dir", str(folder or place / f"run-{kind}"), *more,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_measures_every_attribute_where_it_is_known(place, kind):
    run = record.read(place / f"run-{kind}")
    results, rows = run.results, run.predictions
    assert results["n"] == 18 and results["validation"]["n"] == 15
    test = [row for row in rows if row["split"] == "test"]
    truth = np.array([row["references"] for row in test], dtype=float)
    assert results["known/shape"] == (~np.isnan(truth[:, 0])).sum() < 18
    assert results["known/tags: thin"] == (~np.isnan(truth[:, 5])).sum() < 18
    scores = np.array([row["scores"] for row in test])
    assert np.allclose(scores[:, :3].sum(axis=1), 1, atol=1e-5)
    right = [scores[i, :3].argmax() == truth[i, :3].argmax() for i in range(18) if not np.isnan(truth[i, 0])]
    assert results["accuracy/shape"] == pytest.approx(np.mean(right))
    assert results["map"] > 0.6 and results["map_low"] <= results["map"] <= results["map_high"]
    plots = {path.stem for path in (run.folder / "plots").iterdir()}
    assert plots == {"learning_curve", "f1_by_label", "confusion_matrix_shape", "surest_mistakes"}
    assert run.info["labels"] == [*(f"shape: {shape}" for shape in SHAPES), *(f"tags: {t}" for t in TAGS)]


TAGS = ("round", "smooth", "thin")


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds_come_from_validation_and_stand_in_the_config(place, kind):
    run = record.read(place / f"run-{kind}")
    config = json.loads((run.folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["attribute_groups"]["tags"] == {"many": True, "labels": [f"tags: {tag}" for tag in TAGS]}
    assert set(config["thresholds"]) == {f"tags: {tag}" for tag in TAGS}
    rows = [row for row in run.predictions if row["split"] == "validation"]
    groups = [attributes.Group("shape", SHAPES, False), attributes.Group("tags", TAGS, True, 3)]
    scores, truth = (np.array([row[name] for row in rows], dtype=float) for name in ("scores", "references"))
    chosen = attributes.choose_thresholds(scores, truth, groups)
    assert list(config["thresholds"].values()) == pytest.approx(chosen[3:], abs=1e-5)
    for row in (row for row in run.predictions if row["split"] == "test"):
        over = [3 + n for n in range(3) if row["scores"][3 + n] >= chosen[3 + n] - 1e-6]
        assert row["predictions"] == [int(np.argmax(row["scores"][:3])), *over]


@pytest.mark.parametrize("kind", KINDS)
def test_bare_transformers_gives_the_scores_that_we_measured(place, kind):
    """That it does so where the library is not installed is shown with one label a photo, in `test_classify.py`."""
    run = record.read(place / f"run-{kind}")
    tag = pipeline("image-classification", model=str(run.folder), top_k=6)
    assert all(type(part).__module__.startswith("transformers.") for part in (tag.model, tag.image_processor))
    labels = run.info["labels"]
    rows = [row for row in run.predictions if row["split"] == "test"]
    assert len(rows) == 18
    for row in rows:
        got = {guess["label"]: guess["score"] for guess in tag(str(place / row["source_row"]))}
        assert [got[name] for name in labels[3:]] == pytest.approx(row["scores"][3:], abs=1e-5)
        best = max(labels[:3], key=got.get)  # sigmoid and softmax have the same highest score
        assert best == labels[int(np.argmax(row["scores"][:3]))]


def test_the_card_says_what_was_measured_and_its_code_was_run(place):
    run = record.read(place / "run-swin")
    card = ModelCard.load(run.folder / "README.md")
    values = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert values["map"] == pytest.approx(run.results["map"], abs=5e-5) and "accuracy" not in values
    assert "2 attributes out: shape (one of 3); tags (any of 3)" in card.text
    assert run.info["usage"]["output"].splitlines()[0] in {f"shape: {shape}" for shape in SHAPES}
    for label in run.info["labels"]:
        assert f"| {run.results[f'f1/{label}']:.2f} |" in card.text
    assert "](plots/confusion_matrix_shape.png)" in card.text and "![shape: confusion matrix]" in card.text


def test_a_label_without_photos_has_no_figures_on_the_card_and_is_not_the_weakest(place, tmp_path):
    folder = shutil.copytree(place / "run-swin", tmp_path / "run")
    run = record.read(folder)
    figures = run.results | {"n/shape: circle": 0, "f1/shape: circle": 0.0, "precision/shape: circle": 0.0}
    (folder / "eval_results.json").write_text(json.dumps(figures))
    info = json.loads((folder / "run.json").read_text())
    del info["captions"]  # as runs of before have none
    (folder / "run.json").write_text(json.dumps(info))
    text = str(cards.render(record.read(folder)))
    assert "| shape: circle | – | – | – | – | – | 0 |" in text and "![confusion matrix shape]" in text
    groups = [attributes.Group("shape", SHAPES, False), attributes.Group("tags", TAGS, True, 3)]
    dataset = DatasetDict({"test": Dataset.from_dict({"shape": [], "tags": []}, features=Features(
        {"shape": ClassLabel(names=list(SHAPES)), "tags": List(ClassLabel(names=list(TAGS)))}
    ))})  # fmt: skip
    assert attributes.of_dataset(dataset) == groups
    figures |= {f"f1/{label}": 0.5 for label in run.info["labels"][1:]} | {"n/shape: square": 4, "n/tags: thin": 9}
    figures |= {f"n/{label}": 2 for label in run.info["labels"] if label not in ("shape: square", "tags: thin")}
    figures |= {"n/shape: circle": 0}
    model = AutoModelForImageClassification.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    told = task.facts(model, processor, dataset, {"test": figures})
    assert told["weakest"] == "tags: thin"
    assert "In the macro F1 (precision, recall) 1 label that no photo has" in told["protocol"]
    told = task.facts(model, processor, dataset, {"test": figures | {"f1/shape: circle": None}})
    assert "macro F1" not in told["protocol"]


@pytest.mark.usefixtures("undrawn")
def test_a_repeated_run_is_the_same_and_tells_what_to_type_next(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hf-fashion"])
    again = recipe.main(["--config", str(place / "run-swin" / "run.json"), "--output_dir", str(tmp_path / "again")])
    assert again.results == record.read(place / "run-swin").results
    score, push = (line.split() for line in capsys.readouterr().out.strip().splitlines()[-2:])
    assert score == ["hf-fashion", "score", "--model", str(again.folder), "--dataset", "OTHER_PHOTOS"]
    assert push == ["hf-fashion", "push", str(again.folder), "again"]


def test_a_metric_of_the_other_task_is_refused(place, tmp_path):
    with pytest.raises(InputError, match="one of: accuracy, f1_macro, map, loss"):
        recipe.main(run_of(place, "swin", "--metric_for_best_model", "top", folder=tmp_path / "x"))
    with pytest.raises(InputError, match="one of: map, f1_macro, loss"):
        recipe.main(run_of(place, "swin", "--metric-for-best-model", "accuracy", folder=tmp_path / "x"))


@pytest.mark.parametrize(
    ("more", "fix"),
    [
        (["--class_weights", "balanced"], "--class_weights none"),
        (["--sampler", "sqrt"], "--sampler shuffle"),
        (["--focal_gamma", "2"], "--focal_gamma 0"),
        (["--label_smoothing_factor", "0.1"], "--label_smoothing_factor 0"),
        (["--metric_for_best_model", "accuracy"], "--metric_for_best_model map"),
    ],
)
def test_settings_for_one_label_a_photo_are_refused_before_photos_are_read(more, fix, place, tmp_path, monkeypatch):
    def not_yet(*_):
        raise AssertionError("the photos were read")

    monkeypatch.setattr(recipe, "read", not_yet)
    with pytest.raises(InputError) as caught:
        recipe.main(run_of(place, "swin", *more, folder=tmp_path / "x"))
    assert caught.value.fix == fix


def test_where_lists_are_found_in_the_data_the_task_itself_refuses(place):
    rows = Dataset.from_dict({"shape": [0, 1]}, features=Features({"shape": ClassLabel(names=["a", "b"])}))
    with pytest.raises(InputError, match="--sampler"):
        task.prepare(rows, None, train=True, balance=1.0)
    with pytest.raises(InputError, match="--focal_gamma"):
        task.loss([], rows, focal_gamma=2.0)


def test_a_finished_model_is_measured_on_other_photos(place, tmp_path):
    run = score.main(["--model", str(place / "run-swin"), "--dataset", str(place / "photos.csv"), "--label_separator",
                      "|", "--output_dir", str(tmp_path / "score"), "--use_cpu", "True"])  # fmt: skip
    of_run = record.read(place / "run-swin").results
    assert {key: value for key, value in run.results.items() if key != "split"} == {
        key: value for key, value in of_run.items() if key not in ("split", "validation")
    }
    assert "mean average precision" in (run.folder / "README.md").read_text()
    lines = (place / "photos.csv").read_text().splitlines()
    part = [",".join(line.split(",")[:3]) for line in lines if "stripes" not in line]
    (place / "part.csv").write_text("\n".join(part) + "\n")
    run = score.main(["--model", str(place / "run-swin"), "--dataset", str(place / "part.csv"), "--label_columns",
                      "shape", "--output_dir", str(tmp_path / "part"), "--use_cpu", "True"])  # fmt: skip
    assert run.results["known/tags"] == 0 and run.results["map/tags"] is None and run.results["known/shape"] > 5


def test_models_and_columns_that_do_not_fit_are_refused(place, tmp_path):
    photos_of = ["--dataset", str(place / "photos.csv"), "--output_dir", str(tmp_path / "x"), "--use_cpu", "True"]
    with pytest.raises(InputError, match="hf-fashion compare"):
        score.main(["--compare", str(place / "run-swin"), str(place / "run-timm"), *photos_of])
    with pytest.raises(InputError, match="a model of one label"):
        score.main(["--model", str(place / "swin"), "--label_columns", "shape", *photos_of])
    text = (place / "photos.csv").read_text().replace(",circle,", ",oval,")
    (place / "odd.csv").write_text(text)
    with pytest.raises(InputError, match="oval"):
        score.main(["--model", str(place / "run-swin"), "--dataset", str(place / "odd.csv"), "--label_separator", "|",
                    *photos_of[2:]])  # fmt: skip
