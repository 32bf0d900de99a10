"""`recipes/score.py --compare`: several models on the same photos, paired, in one folder."""

import json
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import photos, tiny, undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import comparison, data
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify, score

QUICK = ["--use_cpu", "True", "--disable_tqdm", "True"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos, a trained run, a copy of it, one with random weights, and one whose labels are numbered otherwise."""
    place = tmp_path_factory.mktemp("compare")
    photos(place / "photos", train=16, validation=4, test=16)
    tiny("timm", place / "net")
    for name, more in (("trained", ["--num_train_epochs", "8"]), ("random", ["--learning_rate", "0", "--seed", "1"])):
        argv = [
            "--model", str(place / "net"), "--dataset", str(place / "photos"), "--learning_rate", "0.01",
            "--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--resize", "pad",
            "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "False",
            "--output_dir", str(place / name), *QUICK, *more,
        ]  # fmt: skip
        with without_drawing():
            classify.main(argv)
    shutil.copytree(place / "trained", place / "copy")
    turn(place / "trained", place / "turned")
    return place


def turn(source, target):
    """The same net with its classes in the opposite order."""
    shutil.copytree(source, target)
    weights = load_file(source / "model.safetensors")
    for name, value in weights.items():
        if value.ndim and len(value) == 3 and "conv1" not in name:
            weights[name] = value.flip(0).contiguous()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["label_names"] = config["label_names"][::-1]
    for key in ("id2label", "label2id"):
        config.pop(key, None)
    (target / "config.json").write_text(json.dumps(config))


def compare(place, folder, *names, data="photos"):
    models = [str(place / name) for name in names]
    return score.main(["--compare", *models, "--dataset", str(place / data), "--output_dir", str(folder), *QUICK])


def test_a_copy_is_a_tie_and_random_weights_are_worse(place, tmp_path, capsys):
    run = compare(place, tmp_path / "run", "random", "trained", "copy")
    results = run.results
    assert (results["n"], results["best"], list(results["models"])) == (48, "trained", ["trained", "copy", "random"])
    verdicts = {(pair["a"], pair["b"]): pair for pair in results["pairs"]}
    tie, worse = verdicts["trained", "copy"], verdicts["trained", "random"]
    assert tie["tie"] and tie["difference_low"] < 0 < tie["difference_high"] and tie["p_holm"] == 1.0
    assert not worse["tie"] and worse["difference_low"] > 0 and worse["f1_macro_difference_low"] > 0

    printed = capsys.readouterr().out
    card = ModelCard.load(run.folder / "README.md").text
    accuracy = results["models"]["trained"]["accuracy"]
    assert f"| trained | {accuracy:.3f} | " in card
    assert [line.split()[0] for line in printed.splitlines() if "0." in line and " to " in line][:3] == [
        "trained", "copy", "random",
    ]  # fmt: skip
    for pair in results["pairs"]:
        assert pair["verdict"] in printed
        assert pair["verdict"].replace("<", "&lt;") in card
    assert "Holm" in card and "a tie: trained and copy" in card
    assert Image.open(run.folder / "plots" / "comparison.png").size[0] > 600
    assert {path.name for path in run.folder.iterdir()} == {
        "README.md", "eval_results.json", "plots", "predictions.parquet", "run.json",
    }  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_figures_and_rows_are_those_that_each_model_gets_alone(place, tmp_path, capsys):
    run = compare(place, tmp_path / "both", "trained", "random")
    rows = run.predictions
    for name in ("trained", "random"):
        alone = score.main(
            ["--model", str(place / name), "--dataset", str(place / "photos"), "--output_dir", str(tmp_path / name)]
            + QUICK
        )
        figures = {key: value for key, value in alone.results.items() if key not in ("split", "confidence")}
        assert run.results["models"][name] == figures
        card = (alone.folder / "README.md").read_text()
        assert "trained on this very dataset" in card and "photos that are new to it" in capsys.readouterr().out
        own = rows.filter(lambda model, name=name: model == name, input_columns="model").remove_columns("model")
        assert own.to_list() == alone.predictions.to_list()
    assert run.info["models"]["trained"]["id"] == "trained"
    assert run.info["arguments"]["compare"] == [str(place / "trained"), str(place / "random")]
    again = score.main(["--config", str(run.folder / "run.json"), "--output_dir", str(tmp_path / "again")])
    assert again.results == run.results


@pytest.mark.usefixtures("undrawn")
def test_labels_of_another_order_are_matched_by_name(place, tmp_path):
    run = compare(place, tmp_path / "run", "trained", "turned")
    [pair] = run.results["pairs"]
    assert (pair["only_a"], pair["only_b"]) == (0, 0) and run.results["models"]["turned"]["accuracy"] > 0.5
    parts = [
        run.predictions.filter(lambda model, n=n: model == n, input_columns="model") for n in ("trained", "turned")
    ]
    assert parts[0]["prediction"][:] == parts[1]["prediction"][:] and parts[0]["label"][:] == parts[1]["label"][:]
    assert np.allclose(parts[0]["scores"][:], parts[1]["scores"][:], atol=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_models_in_folders_of_one_name_are_told_apart(place, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(place / "trained", tmp_path / name / "last")
    run = compare(tmp_path, tmp_path / "run", "one/last", "two/last", data=place / "photos")
    assert list(run.results["models"]) == ["one/last", "two/last"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "neither"),
        (["--model", "a", "--compare", "a", "b"], "both"),
        (["--compare", "a"], "two or more"),
        (["--compare", "a", "b", "a"], "several times: a"),
        (["--compare", "a", "b", "--model_revision", "main"], "leave it out"),
    ],
)
def test_exactly_one_of_model_and_compare(argv, says, tmp_path):
    with pytest.raises(InputError, match=says) as caught:
        score.main([*argv, "--dataset", "none", "--output_dir", str(tmp_path / "run")])
    assert "--model, --compare" in str(caught.value)


def test_a_folder_named_in_two_ways_is_one_model(place, tmp_path):
    with pytest.raises(InputError, match="several times"):
        compare(place, tmp_path / "run", "trained", "copy/../trained")


def test_the_model_that_does_not_know_a_label_is_named(place, tmp_path):
    tiny("resnet", tmp_path / "stranger")
    with pytest.raises(InputError, match=r"for the model \S*stranger\n.*old 0"):
        compare(place, tmp_path / "run", "trained", tmp_path / "stranger")
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


@pytest.mark.usefixtures("undrawn")
def test_photos_that_one_of_the_models_was_trained_on_are_refused(place, tmp_path):
    flat = tmp_path / "flat"
    for path in (place / "photos").rglob("*.png"):
        (flat / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, flat / path.parent.name / f"{path.parent.parent.name}-{path.name}")
    argv = ["--model", str(place / "net"), "--dataset", str(flat), "--max_steps", "1"]
    classify.main([*argv, "--output_dir", str(tmp_path / "cut"), *QUICK])
    [checkpoint] = (tmp_path / "cut").glob("checkpoint-*")
    for model in (tmp_path / "cut", checkpoint):
        with pytest.raises(InputError, match=f"{model} has not seen"):
            compare(place, tmp_path / "run", "trained", model, data=flat)


@pytest.mark.parametrize(
    ("trained_on", "found"),
    [
        ({"cut": ["validation", "test"], "pictures": "f00"}, "refused"),
        ({"cut": [], "pictures": "f00"}, "flatter"),
        ({"cut": [], "pictures": "abc", "source": "eve/photos", "kind": "hub"}, "very dataset"),
        ({"cut": [], "pictures": "abc", "source": "eve/others", "kind": "hub"}, None),
        ([], None),
    ],
)
def test_the_record_of_a_model_on_the_hub_says_what_it_has_seen(hub, trained_on, found):
    source = {"source": "photos", "kind": "folder"}
    info = {"dataset": source | trained_on if trained_on else []}
    hub.create("ada/net", files={"run.json": json.dumps(info).encode()}, private=True)
    report = data.Report({"source": "eve/photos", "kind": "hub", "pictures": "f00"})
    if found == "refused":
        with pytest.raises(InputError, match="(?s)ada/net has not seen.*read ada/net/eval_results.json"):
            score.seen(report, "ada/net", None)
        return
    told = score.seen(report, "ada/net", None)
    assert (found in told and found in report.of("warning")[0].found) if found else told is None
    assert score.seen(report, "ada/none", None) is None and score.seen(report, "efficientnet-lite0", None) is None


def test_a_folder_within_the_training_photos_is_not_new(tmp_path):
    (tmp_path / "photos" / "train").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    info = {"dataset": {"source": str(tmp_path / "photos"), "kind": "folder", "pictures": "abc", "cut": []}}
    (tmp_path / "run.json").write_text(json.dumps(info))
    for folder, known in (("photos/train", True), ("other", False)):
        report = data.Report({"source": str(tmp_path / folder), "kind": "folder", "pictures": "f00"})
        assert bool(score.seen(report, str(tmp_path), None)) == known == bool(report.of("warning"))


@pytest.mark.usefixtures("undrawn")
def test_the_command_sets_runs_of_these_photos_side_by_side_and_leaves_a_comparison_out(place, tmp_path, capsys):
    folder = compare(place, tmp_path / "run", "trained", "random").folder
    capsys.readouterr()
    comparison.main([str(place / "trained"), str(place / "random"), str(folder)])
    out = capsys.readouterr().out
    assert "trained is better than" in out and "n = 48" in out
    assert f"{folder}: it compares models itself" in out
