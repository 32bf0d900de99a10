"""A card says what the run measured, survives hostile labels, and its usage was executed."""

import html
import json
import re
import shutil

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from huggingface_hub import ModelCard, metadata_load
from PIL import Image

from hf_fashion import cards, metrics, record
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify

LABELS = ["dress", "<script>alert(1)</script>", "a|b\nc", "$x_y$ *z*"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run's folder, all but its card."""
    tmp_path = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 40)
    scores = rng.dirichlet(np.ones(4), 40)
    results = {"test": metrics.classification(scores, truth, LABELS, n_resamples=20)}
    label = ClassLabel(names=LABELS)
    photos = [Image.new("RGB", (20, 30), (int(c), 80, 80)) for c in rng.integers(0, 255, 40)]
    dataset = DatasetDict(
        test=Dataset.from_dict(
            {"image": photos, "label": truth.tolist()}, features=Features({"image": ImageFeature(), "label": label})
        )
    )
    predictions = Dataset.from_dict(
        {
            "split": ["test"] * 40,
            "row": range(40),
            "label": truth.tolist(),
            "prediction": scores.argmax(1).tolist(),
            "score": scores.max(1).tolist(),
            "scores": scores.tolist(),
        },
        features=Features(
            {
                "split": Value("string"),
                "row": Value("int32"),
                "label": label,
                "prediction": label,
                "score": Value("float32"),
                "scores": [Value("float32")],
            }
        ),
    )
    history = [
        {"epoch": 1.0, "step": 3, "loss": 2.0},
        {"epoch": 1.0, "step": 3, "eval_loss": 1.5, "eval_accuracy": 0.4},
    ]
    with record.start(
        tmp_path / "my run",
        "classify",
        arguments={"model": "x/y"},
        argv=["--model", "x/y"],
        seed=1,
        dataset={
            "source": "./photos <b>",
            "kind": "folder",
            "license": "unknown",
            "fingerprint": "f00",
            "revision": None,
            "sizes": {"train": 9, "test": 40},
            "left_out": [],
            "notes": ["label 'a|b' is odd"],
        },
        base_model={"name": "y", "id": "x/y", "base_model": "x/y", "revision": "abc", "license": "apache-2.0"},
        device="cpu",
    ) as run:
        record.write(
            run,
            results=results,
            predictions=predictions,
            history=history,
            labels=LABELS,
            plots=classify.figures(predictions, results, dataset, history=history, best_step=3),
            kind="classification",
            opening="An image classifier of " + ", ".join(LABELS),
            headline_metric="accuracy",
            model_type="swin",
            preprocessing="squashed",
            protocol="Measured once.",
            weakest="dress",
            training_wall_seconds=1.0,
            training_cpu_seconds=2.0,
        )
    return run.folder


@pytest.fixture
def run(made, tmp_path):
    return record.read(shutil.copytree(made, tmp_path / "my run"))


def usage(model, photo):
    return f'from pathlib import Path\nprint(Path("{model}").is_dir(), Path("{photo}").stat().st_size > 0)'


def write(run, **changes):
    given = {"usage": usage, "photo": Image.new("RGB", (9, 9)), "photo_label": "dress"}
    return cards.write(run, **given | changes)


def test_its_numbers_are_the_runs(run):
    write(run)
    card = ModelCard.load(run.folder / "README.md")
    [result] = [r for r in card.data.eval_results if r.metric_name == "accuracy"]
    assert result.metric_value == pytest.approx(run.results["accuracy"], abs=5e-5)
    assert (result.task_type, result.dataset_split) == ("image-classification", "test")
    row = next(line for line in card.text.splitlines() if line.startswith("| accuracy |"))
    figures = run.results
    assert row == "| accuracy | {accuracy:.3f} | {accuracy_low:.3f} to {accuracy_high:.3f} | {n} |".format(**figures)
    assert "bootstrap" in card.text and "Measured once." in card.text
    table = {line.split(" | ")[0].strip("| "): line for line in card.text.splitlines() if line.count(" | ") == 5}
    dress = [f"{figures[key]:.2f}" for key in ("precision/dress", "recall/dress", "f1/dress")]
    assert table["dress"].split(" | ")[1:4] == dress and table["dress"].endswith(f" {figures['n/dress']} |")


def test_metadata_is_what_the_hub_reads(run):
    write(run)
    assert cards.validate(run.folder / "README.md") == []
    metadata = metadata_load(run.folder / "README.md")
    assert metadata["library_name"] == "transformers"
    assert metadata["pipeline_tag"] == "image-classification"
    assert (metadata["base_model"], metadata["base_model_relation"]) == ("x/y", "finetune")
    assert "hf_fashion" in metadata["tags"]
    assert "datasets" not in metadata  # a folder of hers is no dataset of the Hub
    assert metadata["license"] == "unknown"
    assert {result["type"] for result in metadata["model-index"][0]["results"][0]["metrics"]} <= {
        "accuracy",
        "f1",
        "precision",
        "recall",
    }


def test_what_follows_from_the_licences(run):
    run.info["dataset"]["license"] = "cc-by-nc-sa-4.0"
    run.note(arguments={"license": "apache-2.0"})
    text = write(run).text
    assert "- The base model (apache-2.0): keep the notices and name the authors." in text
    assert "- The licence of the photos, cc-by-nc-sa-4.0, asks more than apache-2.0 says: pass changed" in text
    assert "use it for no commercial purpose" in text and "photos that are shown on this page" in text
    run.note(arguments={"license": "cc-by-nc-sa-4.0"})
    assert "asks more" not in cards.render(run).text


def test_the_licence_chain_says_unknown_where_nobody_said(run):
    text = write(run).text
    assert (
        "| photos | unknown |" in text and "| base model | apache-2.0 |" in text and "| this model | unknown |" in text
    )
    run.note(arguments={"license": "mit"})
    assert metadata_license(cards.render(run)) == "mit"


def metadata_license(card):
    return card.data.license


def test_usage_was_executed_where_it_says(run):
    text = write(run).text
    assert usage("my run", "photo.jpg") in text and "True True" in text


def test_usage_that_fails_fails_the_card(run):
    with pytest.raises(ZeroDivisionError):
        write(run, usage=lambda model, photo: "1 / 0")
    assert not (run.folder / "README.md").exists()


def test_what_the_usage_prints_cannot_leave_its_fence(run):
    write(run, usage=lambda model, photo: "print('```')\nprint('<script>alert(1)</script>')")
    body = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "````\n```\n<script>alert(1)</script>\n````" in body


def test_private_folders_do_not_get_onto_the_card(run):
    run.note(
        command="accelerate launch recipes/classify.py --dataset /home/anna/photos",
        arguments={"dataset": "/home/anna/photos"},
    )
    assert "/home/anna" not in write(run).content


TRICKS = (
    r"\(\href{javascript:a}{x}\)", r"a\\(x\\)", "$$x$$", "https://evil.example", "WWW.evil.example", "a@b.example",
)  # fmt: skip


def test_a_label_is_neither_a_formula_nor_a_link(run):
    """The Hub reads formulas before it reads Markdown, and makes links of bare addresses."""
    write(run)
    for label in TRICKS:
        run.note(opening=f"Classes: {label}")
        sentence = next(line for line in cards.render(run).text.splitlines() if line.startswith("Classes:"))
        assert not re.search(r"\\\\[()]|://|www\.|@|(?<!\\)\$\$", sentence, re.IGNORECASE)
        assert html.unescape(re.sub(r"\\([$|*])", r"\1", sentence)) == f"Classes: {label}"  # and reads as it was typed


def test_a_rendered_card_never_replaces_what_is_no_card(run, tmp_path):
    write(run)
    (tmp_path / "thesis.md").write_text("mine")
    for target in (tmp_path / "thesis.md", tmp_path):
        with pytest.raises(InputError, match="--to"):
            cards.main([str(run.folder), "--to", str(target)])
    cards.main([str(run.folder), "--to", str(tmp_path / "card.md")])
    cards.main([str(run.folder), "--to", str(tmp_path / "card.md")])  # its own may be rendered again


def test_labels_are_text_and_never_markup(run):
    body = write(run).content.split("---", 2)[2]
    assert "<script>" not in body and "<b>" not in body
    rows = [line for line in body.splitlines() if line.startswith("| a")]
    assert any(r"a\|b c" in row for row in rows)


def test_pictures_of_the_card_are_there(run):
    text = write(run).text
    for name in ("learning_curve", "confusion_matrix", "f1_by_class", "surest_mistakes"):
        assert f"](plots/{name}.png)" in text and (run.folder / "plots" / f"{name}.png").stat().st_size > 5000


def test_a_sheet_of_no_mistakes_is_not_shown(run):
    figures = run.folder / "eval_results.json"
    figures.write_text(json.dumps(json.loads(figures.read_text()) | {"accuracy": 1.0}))
    text = write(record.read(run.folder)).text
    assert "surest_mistakes" not in text and "photos that are shown" not in text and "plots/confusion_matrix" in text


def test_links_lead_to_the_hub_in_use(run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.example")
    assert "](https://hub.example/x/y)" in write(run).text


def test_a_measurement_of_photos_that_are_not_new_says_so(run):
    run.note(recipe="score", seen=["ada/net was trained on this very dataset."])
    text = write(record.read(run.folder), usage=None).text
    assert ".\n\n**Not new photos.** ada/net was trained on this very dataset.\n\nThe model itself is not" in text


def test_prose_is_taken_from_the_file_or_the_card_says_that_there_is_none(run, tmp_path):
    assert "written nothing here yet" in write(run).text
    (tmp_path / "prose.md").write_text("For sorting **returns**.", encoding="utf-8")
    assert "For sorting **returns**." in write(run, prose=tmp_path / "prose.md").text
    with pytest.raises(InputError, match="none.md"):
        write(run, prose=tmp_path / "none.md")


def test_on_the_hub_the_code_loads_the_model_by_its_id(run, monkeypatch):
    write(run, usage=lambda model, photo: f"print(len(str({json.dumps(model)})) > 0)")
    monkeypatch.chdir(run.folder.parent)
    cards.main([str(run.folder), "--repo", "anna/dresses"])
    card = ModelCard.load(run.folder / "README.md")
    assert 'print(len(str("anna/dresses")) > 0)' in card.text and '"my run"' not in card.text
    assert card.data.model_name == "dresses" and "seen from where the run was started" not in card.text
    with pytest.raises(InputError, match="anna/dresses/x"):
        cards.main([str(run.folder), "--repo", "anna/dresses/x"])


def test_a_card_that_was_changed_by_hand_keeps_the_changes_on_the_hub(run, tmp_path):
    write(run, usage=lambda model, photo: f"print({json.dumps(model)})")
    text = (run.folder / "README.md").read_text(encoding="utf-8")
    assert cards.addressed(text, run.folder, "anna/dresses") == str(cards.render(run, repo="anna/dresses"))
    changed = cards.addressed(text + "By Anna.\n", run.folder, "anna/dresses")
    assert changed.endswith("By Anna.\n") and 'print("anna/dresses")' in changed and '("my run")' not in changed
    assert cards.addressed(text, tmp_path / "no run", "anna/dresses") == text


def test_a_card_without_photos_names_none_and_says_nothing_of_them(run):
    write(run, examples=[])
    run.note(widget=[{"src": "widget/1.jpg", "example_title": "dress"}])
    text = str(cards.render(run))
    assert "widget:\n- src: widget/1.jpg" in text and "surest_mistakes.png" in text and "photos that are shown" in text
    bare = cards.without_photos(text)
    record_ = cards.record_without_photos((run.folder / "run.json").read_text(encoding="utf-8"))
    (run.folder / "run.json").write_text(record_, encoding="utf-8")
    assert bare == str(cards.render(record.read(run.folder)))  # as it were if there had never been any
    assert "confusion_matrix.png" in bare and "model-index" in bare
    assert cards.without_photos(bare) == bare and cards.without_photos("# No metadata\n") == "# No metadata\n"
    detection = "# Net\n\n![boxes](plots/worst.png)\n![bars](plots/ap_by_class.png)\n"
    assert cards.without_photos(detection) == "# Net\n\n![bars](plots/ap_by_class.png)\n"
    elsewhere = "---\nwidget:\n- src: https://example.org/a.jpg\n---\nText\n"
    assert cards.without_photos(elsewhere) == elsewhere


def test_a_text_that_the_record_names_is_told_and_is_a_text(run, tmp_path, capsys):
    write(run)
    for name in ("about.md", "id_rsa"):
        (tmp_path / name).write_text("For shops.")
        run.note(arguments=run.info["arguments"] | {"card_prose": str(tmp_path / name)})
        if name == "about.md":
            cards.main([str(run.folder)])
            assert f"the text of {tmp_path / name}, as the run's record says" in capsys.readouterr().out
        else:
            with pytest.raises(InputError, match=r"(?s)id_rsa, which .*run.json names.*--prose"):
                cards.main([str(run.folder)])
    cards.main([str(run.folder), "--prose", str(tmp_path / "id_rsa")])  # typed is meant


def test_a_card_can_be_rendered_elsewhere_with_its_plots(run, tmp_path):
    write(run)
    cards.main([str(run.folder), "--to", str(tmp_path / "cards.md")])
    text = (tmp_path / "cards.md").read_text(encoding="utf-8")
    assert "](cards/confusion_matrix.png)" in text and (tmp_path / "cards" / "confusion_matrix.png").is_file()
    assert json.loads((run.folder / "run.json").read_text())["usage"]["output"] == "True True"
    assert "surest_mistakes.png" in text
    cards.main([str(run.folder), "--to", str(tmp_path / "bare.md"), "--no_photos"])
    assert (
        not (tmp_path / "bare" / "surest_mistakes.png").exists()
        and (tmp_path / "bare" / "confusion_matrix.png").is_file()
    )
    assert "surest_mistakes" not in (tmp_path / "bare.md").read_text(encoding="utf-8").split("## How it was made")[0]
