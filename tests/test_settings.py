"""The command line and configs: strict on names and values, the command line wins, folders are never overwritten."""

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from hf_fashion import training
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe
from hf_fashion.recipes import score
from hf_fashion.tasks import classify


@dataclass
class Toy:
    """Settings of every kind."""

    model: str = "sample"
    image_size: int | None = None
    resize: Literal["keep", "crop"] = "keep"
    flip: bool = True
    columns: list[str] = field(default_factory=list)


def parse(*argv, classes=(Toy, training.FashionTrainingArguments), recipe="toy"):
    return training.parse_args(recipe, classes, list(argv))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def config(text, name="settings.yaml"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def test_the_parsers_of_the_recipes_can_be_built():
    parse("--model", "sample", classes=(classify.Arguments, training.FashionTrainingArguments))
    parse("--model", "x", "--dataset", "y", classes=(score.Arguments, training.FashionTrainingArguments))


def test_values_of_a_config_are_typed_and_the_command_line_wins_wherever_it_stands():
    name = config("model: a\nlearning_rate: 1e-4\nflip: false\ncolumns: [01, b]\nseed: 3\nwarmup_steps: 0.2\n")
    toy, args, _ = parse("--seed", "5", "--config", name, "--model", "b")
    assert (toy.model, toy.flip, toy.columns) == ("b", False, ["01", "b"])
    assert (args.learning_rate, args.seed, args.warmup_steps) == (1e-4, 5, 0.2)


def test_a_nested_mapping_keeps_its_types():
    name = config("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs:\n  min_lr: 1.0e-6\n")
    assert parse("--config", name)[1].lr_scheduler_kwargs == {"min_lr": 1e-6}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--learning_rat", "1"], "did you mean --learning_rate"),  # argparse would take it as an abbreviation
        (["--learnin_rate", "1"], "did you mean --learning_rate"),
        (["stray"], "stray"),
        (["--learning_rate", "fast"], "learning_rate"),
        (["--learning_rate", "-1"], "0 to 10"),
        (["--image_size", "224.5"], "image_size"),
        (["--resize", "stretch"], "resize"),
        (["--per_device_train_batch_size", "0"], "1 to"),
        (["--config", "no_such_thing"], "classify-efficientnet-lite0"),
        (["--push_to_hub"], "hf upload"),
        (["--resume_from_checkpoint", "last"], "--output_dir"),
        (["--resume_from_checkpoint", "nowhere"], "trainer_state.json"),
    ],
)
def test_refused_on_the_command_line(argv, says):
    with pytest.raises(InputError, match=says):
        parse(*argv)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learnin_rate: 1e-4", "did you mean --learning_rate"),
        ("learning_rate: fast", "learning_rate"),
        ("image_size: 224.5", "image_size"),
        ("resize: stretch", "resize"),
        ("flip: maybe", "flip"),
        ("seed: 1\nseed: 2", "seed"),
        ("- a\n- b", "list"),
        ("just text", "str"),
        ("a: [", "YAML"),
        ("model: !!python/object/apply:os.system ['touch harm']", "constructor|tag"),
    ],
)
def test_refused_in_a_config(text, says, tmp_path):
    with pytest.raises(InputError, match=says):
        parse("--config", config(text))
    assert not (tmp_path / "harm").exists()


def test_a_message_says_what_was_expected_and_what_to_type():
    with pytest.raises(InputError) as caught:
        parse("--resize", "stretch")
    text = str(caught.value)
    assert all(word in text for word in ("expected:", "found:", "to do:", "keep", "crop")) and len(text) < 600


def test_the_folder_is_new_or_empty_and_nothing_is_made(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="another --output_dir"):
        parse("--output_dir", "used")
    assert parse("--output_dir", "empty")[1].output_dir == "empty"
    first = parse()[1].output_dir
    assert first.startswith("runs/toy-") and first.endswith("-1") and not (tmp_path / first).exists()
    (tmp_path / first).mkdir(parents=True)
    assert parse()[1].output_dir == first[:-1] + "2"


def test_resume_finds_the_last_checkpoint_and_its_folder(tmp_path):
    for step in (5, 20):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "run" / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    args = parse("--output_dir", "run", "--resume_from_checkpoint", "last")[1]
    assert (args.output_dir, args.resume_from_checkpoint) == ("run", "run/checkpoint-20")
    args = parse("--resume_from_checkpoint", "run/checkpoint-5")[1]
    assert (args.output_dir, args.resume_from_checkpoint) == ("run", "run/checkpoint-5")


def test_changed_settings_are_a_config_again():
    argv = [
        "--seed",
        "3",
        "--no_flip",
        "--learning_rate",
        "2e-4",
        "--columns",
        "a",
        "b",
        "--lr_scheduler_type",
        "linear",
    ]
    *_, changed = parse(*argv)
    assert changed == {
        "seed": 3,
        "flip": False,
        "learning_rate": 2e-4,
        "columns": ["a", "b"],
        "lr_scheduler_type": "linear",
    }
    name = config(json.dumps({"arguments": changed}), "run.json")
    assert parse("--config", name)[-1] == changed


def test_every_shipped_config_fits_its_recipe():
    import hf_fashion.recipes.configs

    folder = hf_fashion.recipes.configs.__path__[0]
    from pathlib import Path

    names = [path.stem for path in Path(folder).glob("*.yaml")]
    assert names
    for name in names:
        assert name.startswith("classify-")
        parse("--config", name, classes=(classify.Arguments, training.FashionTrainingArguments))


def test_help_is_the_recipes_own(capsys):
    with pytest.raises(SystemExit) as caught:
        recipe.main(["--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert shown.index("--dataset") < shown.index("--learning_rate")
