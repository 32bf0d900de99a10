"""What a card tells the Hub: figures of any task, examples with what the model says, benchmarks, emissions."""

import json
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load, parse_eval_result_entries
from PIL import Image
from tiny import png
from transformers import pipeline

from hf_fashion import cards, record
from hf_fashion.cards import licenses as card_licenses
from hf_fashion.cards import metadata as card_metadata
from hf_fashion.cards import results as card_results
from hf_fashion.cards import widget as card_widget
from hf_fashion.errors import InputError

COMMIT = "5503434ddd753f426f4b38109466949a1217c2bb"
HUB = {"source": "anna/photos", "kind": "hub", "config": "small", "revision": COMMIT, "license": "mit", "sizes": {}}
BASE = {"name": "b", "id": "org/base", "base_model": "org/base", "revision": None, "license": "apache-2.0"}
RESULTS = {"split": "test", "n": 80, "accuracy": 0.87654, "f1_macro": 0.5, "top_5_accuracy": None}


@pytest.fixture
def made(tmp_path):
    """`made(results, **run_json)`: a run's folder with no more in it than a card's metadata are read from."""

    def make(results=RESULTS, **more):
        folder = tmp_path / "dresses"
        folder.mkdir(exist_ok=True)
        (folder / "eval_results.json").write_text(json.dumps(results))
        info = {
            "recipe": "classify", "task": "image-classification", "arguments": {}, "dataset": HUB, "base_model": BASE,
            "headline_metric": "accuracy", "protocol": "Measured once.", "started": "2026-11-24T10:00:00+00:00",
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(info | more))
        return record.read(folder)

    return make


def valid(data):
    """The metadata as a card has them, once the Hub's rules took them."""
    text = f"---\n{data.to_yaml()}\n---\n# A model\n"
    assert cards.validate(text) == []
    return ModelCard(text).data.to_dict()


def test_a_run_on_a_dataset_of_the_hub(made):
    told = valid(card_metadata.of_run(made()))
    [model] = told["model-index"]
    [result] = model["results"]
    assert model["name"] == "dresses"
    assert result["task"] == {"type": "image-classification", "name": "Image Classification"}
    assert result["dataset"] == {
        "type": "anna/photos", "name": "anna/photos", "config": "small", "split": "test", "revision": COMMIT
    }  # fmt: skip
    assert result["metrics"] == [
        {"type": "accuracy", "value": 0.8765, "name": "accuracy"},
        {"type": "f1", "value": 0.5, "name": "f1_macro", "args": {"average": "macro"}},
    ]
    assert told["datasets"] == ["anna/photos"] and told["metrics"] == ["accuracy", "f1"]
    assert (told["base_model"], told["base_model_relation"]) == ("org/base", "finetune")
    assert (told["library_name"], told["pipeline_tag"]) == ("transformers", "image-classification")


@pytest.mark.parametrize(
    ("task", "figures", "results"),
    [
        (
            "object-detection",
            {
                "map_50_95": {"type": "mean_average_precision", "name": "mAP at IoU 0.5 to 0.95"},
                "map_50": {"type": "mean_average_precision", "name": "mAP at IoU 0.5", "args": {"iou": 0.5}},
            },
            {"map_50_95": 0.31, "map_50": 0.5},
        ),
        (
            "image-feature-extraction",
            {"recall_at_1": {"type": "recall", "name": "Recall at 1", "args": {"k": 1}}},
            {"recall_at_1": 0.25},
        ),
    ],
)
def test_a_task_that_is_no_classification_names_its_own_figures(made, task, figures, results):
    run = made(
        {"split": "test", "n": 9} | results, task=task, card_figures=figures, headline_metric=next(iter(figures))
    )
    told = valid(card_metadata.of_run(run))
    [result] = told["model-index"][0]["results"]
    assert told["pipeline_tag"] == result["task"]["type"] == task
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == results
    assert [metric["type"] for metric in result["metrics"]] == [figure["type"] for figure in figures.values()]
    run.info["dataset"] = HUB | {"source": "./bench", "kind": "parquet file"}
    card_results.write(run, "org/bench:detect")
    [entry] = yaml.safe_load((run.folder / ".eval_results" / "org--bench.yaml").read_text())
    assert entry["value"] == results[run.info["headline_metric"]]


def test_what_is_not_on_the_hub_is_no_id(made):
    dataset = HUB | {"source": "./My photos", "kind": "folder", "revision": "main"}
    told = valid(card_metadata.of_run(made(dataset=dataset, base_model=BASE | {"base_model": "/home/anna/net"})))
    assert "datasets" not in told and "base_model" not in told and "base_model_relation" not in told
    [result] = told["model-index"][0]["results"]
    # The Hub refuses the whole push for a type with a blank in it.
    assert result["dataset"] == {"type": "My-photos", "name": "My photos", "config": "small", "split": "test"}


@pytest.mark.parametrize(
    ("more", "absent"),
    [
        ({"arguments": {"from_scratch": True}}, {"base_model", "base_model_relation"}),
        # No model lies in the folder of a measurement, and nothing was trained on its photos.
        ({"recipe": "score"}, {"base_model", "base_model_relation", "library_name", "datasets", "widget"}),
    ],
)
def test_nothing_is_said_that_is_not_so(made, more, absent):
    told = valid(card_metadata.of_run(made(widget=[{"src": "widget/1.jpg"}], **more)))
    assert not absent & set(told) and "model-index" in told


def test_a_licence_that_is_none_of_the_list(made):
    given = {"license": "other", "license_name": "dresses-1.0", "license_link": "LICENSE"}
    assert valid(card_metadata.of_run(made(arguments=given))) | given == valid(
        card_metadata.of_run(made(arguments=given))
    )
    cards.refuse_license("other")
    for license_, says in (("Apache 2.0", "apache-2.0"), ("gpl-3.0-or-later", "gpl-3.0"), ("my own", "other")):
        with pytest.raises(InputError, match=f"--license {says}"):
            cards.refuse_license(license_)


# -- what a licence asks


@pytest.mark.parametrize(
    ("license_", "asks"),
    [
        ("cc0-1.0", ()),
        ("mit", ("attribution",)),
        ("cc-by-nc-sa-4.0", ("attribution", "same", "no commerce")),
        ("cc-by-nd-4.0", ("attribution", "no changes")),
        ("agpl-3.0", ("attribution", "same")),
        ("apple-amlr", ("attribution", "no commerce", "own terms")),
        ("llama3.1", ("attribution", "own terms")),
        ("unknown", None),
        ("mit, apache-2.0", None),
    ],
)
def test_what_a_licence_asks(license_, asks):
    assert card_licenses.conditions(license_) == asks


def test_every_licence_of_the_list_is_thought_of():
    assert all(
        card_licenses.conditions(license_) is not None for license_ in {*card_licenses.LICENSES} - {"unknown", "cc"}
    )


# -- examples on the model's page


@pytest.mark.parametrize("kind", ["swin", "timm"])
def test_examples_are_what_the_model_in_the_folder_says(checkpoints, made, kind):
    run = made()
    shutil.copytree(checkpoints[kind], run.folder, dirs_exist_ok=True)
    photo = Image.new("RGB", (1500, 900), (200, 30, 30))
    photo.info["comment"] = b"Anna, 52.5 N"
    photo.getexif()[0x010E] = "at home"
    examples = [
        (photo, "dress"),
        (photo, "dress"),
        ({"bytes": png(3), "path": None}, "no"),
        (photo, "bag"),
        (1, "never read"),
    ]
    told = card_widget.write(run, examples, "image-classification")
    assert [example["example_title"] for example in told] == ["dress", "no", "bag"]
    ask = pipeline("image-classification", model=str(run.folder))
    for example in told:
        path = run.folder / example["src"]
        picture = Image.open(path)
        assert (
            max(picture.size) <= 640
            and not picture.getexif()
            and not {"comment", "exif", "icc_profile"} & set(picture.info)
        )
        assert b"52.5" not in path.read_bytes()
        said = ask(str(path))
        assert [guess["label"] for guess in example["output"]] == [guess["label"] for guess in said]
        assert [guess["score"] for guess in example["output"]] == pytest.approx([g["score"] for g in said], abs=6e-5)
    run.note(widget=told)
    (run.folder / "README.md").write_text(f"---\n{card_metadata.of_run(run).to_yaml()}\n---\n")
    assert cards.validate(run.folder / "README.md") == []  # its pictures lie there
    assert metadata_load(run.folder / "README.md")["widget"] == told
    assert "widget" not in card_metadata.of_run(run, widget=False)
    assert card_widget.write(run, examples, "image-feature-extraction") == [] and not (run.folder / "widget").exists()


def test_timm_does_not_read_what_transformers_saves_of_it(checkpoints):
    """So the card of a timm net says transformers, and no tag says timm."""
    import timm

    with pytest.raises(Exception):  # noqa: B017 (what it stumbles over first is its own matter)
        timm.create_model(f"local-dir:{checkpoints['timm']}", pretrained=True)


# -- benchmarks


def test_the_entry_of_a_benchmark(made):
    run = made(dataset=HUB | {"source": "org/bench"}, finished="2026-11-24T12:00:00+00:00")
    path = card_results.write(run, "org/bench:garments", repo="anna/dresses")
    assert path == run.folder / ".eval_results" / "org--bench.yaml"
    [entry] = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("org/bench", "garments", 0.8765)
    assert (entry.dataset_revision, entry.date) == (COMMIT, "2026-11-24")
    assert entry.source_url == "https://huggingface.co/anna/dresses/blob/main/eval_results.json"
    assert entry.notes == "Accuracy, test split, n = 80"
    card_results.validate(path)
    with pytest.raises(InputError, match="org/other"):  # a figure of other photos
        card_results.write(run, "org/other")


def test_a_benchmark_that_cannot_be_is_refused_before_the_training():
    card_results.refuse_benchmark(None)
    card_results.refuse_benchmark("org/bench", "./photos")
    for setting, source in (("bench", None), ("org/be nch", None), ("org/bench:", None), ("org/bench", "anna/photos")):
        with pytest.raises(InputError, match="--benchmark_id"):
            card_results.refuse_benchmark(setting, source)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dataset: {id: a/b}\nvalue: 1\n", "a list"),
        ("- dataset: {id: a/b}\n  value: 1\n", "task_id"),
        ("- dataset: {id: a b, task_id: x}\n  value: 1\n", "line 1, .*dataset.id"),
        ("- dataset: {id: a/b, task_id: x}\n", "value"),
        ("- dataset: {id: a/b, task_id: x}\n  value: 1\n  date: today\n", "line 3, .*date"),
        ("- dataset: {id: a/b, task_id: x}\n  value: 1\n  source: {name: me}\n", "source.url"),
        ("- a: [\n", "YAML"),
    ],
)
def test_a_file_of_results_that_is_wrong(text, says):
    with pytest.raises(InputError, match=says):
        card_results.validate(text)


# -- emissions


def test_emissions_are_told_when_they_were_measured(made):
    run = made()
    assert "co2_eq_emissions" not in card_metadata.of_run(run)
    head = "timestamp,emissions,country_name,region,cpu_model,gpu_model,longitude,codecarbon_version\n"
    rows = "a,0.0012,Germany,berlin,Xeon,,13.4,3.0.1\nb,0.0003,Germany,berlin,Xeon,,13.4,3.0.1\n"
    (run.folder / "emissions.csv").write_text(head + rows)
    assert valid(card_metadata.of_run(run))["co2_eq_emissions"] == {  # two parts of a run that was resumed, in grams
        "emissions": 1.5, "source": "codecarbon 3.0.1", "training_type": "fine-tuning",
        "geographical_location": "berlin, Germany", "hardware_used": "Xeon",
    }  # fmt: skip
    for broken in ("", "a,b\n1,2\n", head, head + "a,nan,x,,,,,\n"):
        (run.folder / "emissions.csv").write_text(broken)
        assert "co2_eq_emissions" not in card_metadata.of_run(run)
