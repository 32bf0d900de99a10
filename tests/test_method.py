"""Every setting of the method, typed as a user would: a whole run with it, and what it changed."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import photos, slow_but, tiny, undrawn  # noqa: F401 (a fixture)
from transformers import AutoModelForImageClassification

from hf_fashion import record
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe

# The plain run draws its figures; nothing in them depends on the settings below.
pytestmark = pytest.mark.usefixtures("undrawn")
QUICK = [
    "--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--learning_rate", "0.01",
    "--use_cpu", "True", "--disable_tqdm", "True",
]  # fmt: skip
SETTINGS = {
    "class weights": ["--class_weights", "balanced"],
    "balanced": ["--sampler", "balanced"],
    "focal": ["--focal_gamma", "2"],
    "smoothing": ["--label_smoothing_factor", "0.1"],
    "mixed": ["--mixup", "0.2", "--cutmix", "1", "--class_weights", "sqrt", "--label_smoothing_factor", "0.1"],
    "augmented": ["--augment", "trivialaugment"],
    "rates": ["--head_learning_rate", "0.05", "--layer_decay", "0.7"],
    "average": ["--moving_average", "0.9"],
    "lora": ["--lora_rank", "4"],
    "accumulated": ["--gradient_accumulation_steps", "2"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos of a long tail, a tiny Swin, and a plain run of it."""
    place = tmp_path_factory.mktemp("method")
    photos(place / "photos", train=10, validation=4, test=4)
    for number in range(3, 10):
        (place / "photos" / "train" / "stripes" / f"{number}.png").unlink()
    tiny("swin", place / "net")
    recipe.main(run_of(place, "plain"))
    return place


def run_of(place, name, *more):
    folders = ["--model", str(place / "net"), "--dataset", str(place / "photos"), "--output_dir", str(place / name)]
    return [*folders, *QUICK, *more]


def run_with(place, name):
    """The run with one of `SETTINGS`, made when it is first asked for."""
    if not (place / name).is_dir():
        recipe.main(run_of(place, name, *SETTINGS[name]))
    return record.read(place / name)


# The others are settings of "mixed" and of the resumed run, too.
@pytest.mark.parametrize("name", slow_but(SETTINGS, "focal", "mixed", "lora", "accumulated"))
def test_a_run_with_it_is_whole_learns_otherwise_and_is_recorded(place, name):
    run = run_with(place, name)
    assert run.info["status"] == "finished" and run.results["n"] == 12
    assert {token.removeprefix("--") for token in SETTINGS[name][::2]} <= set(run.info["arguments"])
    one, two = (load_file(folder / "model.safetensors") for folder in (place / "plain", place / name))
    assert one.keys() == two.keys() and any(not torch.equal(one[key], two[key]) for key in one)
    net, info = AutoModelForImageClassification.from_pretrained(place / name, output_loading_info=True)
    assert not any(info.values())


def test_lora_moves_the_projections_and_the_head_only(place):
    before, after = (
        load_file(folder / "model.safetensors") for folder in (place / "net", run_with(place, "lora").folder)
    )
    moved = {
        key for key in before if before[key].shape != after[key].shape or not torch.equal(before[key], after[key])
    }
    assert any("query" in key or "q_proj" in key for key in moved) and "classifier.weight" in moved
    assert not any("embeddings" in key or "norm" in key or "fc1" in key for key in moved)


def test_a_net_that_cannot_recompute_is_told_before_the_photos_are_looked_at(place, tmp_path):
    net, photo = tiny("convnext", tmp_path / "net"), next((place / "photos" / "train" / "circle").iterdir())
    argv = [*run_of(place, "x", "--activation_checkpointing", "True"), "--model", str(net)]
    before, folder = photo.read_bytes(), tmp_path / "run"
    photo.write_bytes(b"not a picture")  # which a run without it ends with
    try:
        with pytest.raises(InputError, match="(?s)activation_checkpointing True.*convnext"):
            recipe.main([*argv, "--output_dir", str(folder)])
    finally:
        photo.write_bytes(before)


def test_early_stopping_stops(place):
    recipe.main(
        run_of(place, "stopped", "--early_stopping_patience", "1", "--num_train_epochs", "30", "--learning_rate", "0")
    )
    state = json.loads(next((place / "stopped").glob("checkpoint-*/trainer_state.json")).read_text())
    assert state["epoch"] < 4


def test_a_resumed_run_with_all_of_it_ends_as_an_unbroken_one(place, tmp_path):
    many = [
        *SETTINGS["mixed"],
        *SETTINGS["balanced"],
        *SETTINGS["rates"],
        *SETTINGS["average"],
        *SETTINGS["augmented"],
    ]
    run = recipe.main(run_of(place, "whole", *many, "--num_train_epochs", "2", "--save_total_limit", "5"))
    assert {token.removeprefix("--") for token in many[::2]} <= set(run.info["arguments"])
    first = min((place / "whole").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    recipe.main(["--output_dir", str(tmp_path / "on"), "--resume_from_checkpoint", str(first), "--config",
                 str(place / "whole" / "run.json")])  # fmt: skip
    one, two = (load_file(folder / "model.safetensors") for folder in (place / "whole", tmp_path / "on"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    "tokens, words",
    [
        (["--mixup", "-1"], "mixup"),
        (["--sampler", "fair"], "sampler"),
        (["--lora_rank", "4", "--layer_decay", "0.5"], "one of the two"),
        (["--moving_average", "1"], "moving_average"),
        (["--lora_rank", "4", "--freeze", "stages:1"], "lora_rank"),
        (["--lora_rank", "4", "--from_scratch", "True"], "lora_rank"),
        (["--early_stopping_patience", "1", "--eval_strategy", "no", "--load_best_model_at_end", "False"], "patience"),
        (["--label_separator", "|"], "label_separator"),
        (["--label_column", "label", "--label_columns", "label"], "one of the two"),
        (["--shuffle_buffer", "5"], "shuffle_buffer"),
    ],
)
def test_wrong_values_end_before_anything(place, tmp_path, tokens, words):
    with pytest.raises(InputError, match=words):
        recipe.main([*run_of(place, "x", *tokens), "--output_dir", str(tmp_path / "x")])
    assert not [*tmp_path.rglob("*.*")]
