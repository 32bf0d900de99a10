"""The command line and configs: strict on names and values, the command line wins, folders are never overwritten."""

import atexit
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import save_file

from hf_fashion import searches, settings, training
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe
from hf_fashion.recipes import score
from hf_fashion.tasks import classify, detect, retrieve
from hf_fashion.training import checkpoints, retrieving


@dataclass
class Toy:
    """Settings of every kind."""

    model: str = "sample"
    image_size: int | None = None
    resize: Literal["keep", "crop"] = "keep"
    flip: bool = True
    columns: list[str] = field(default_factory=list)


def parse(*argv, classes=(Toy, training.FashionTrainingArguments), recipe="toy", metrics=("accuracy",)):
    return settings.parse_args(recipe, classes, list(argv), metrics=metrics)


def checkpoint(folder, step, **arguments):
    """A whole checkpoint of a net of one weight, and the run.json beside it."""
    made = folder / "made"
    made.mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, made / name)
    (made / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    save_file({"weight": torch.ones(1)}, made / "model.safetensors")
    checkpoints.commit(made, folder / f"checkpoint-{step}")
    (folder / "run.json").write_text(json.dumps({"arguments": arguments, "dataset": {"fingerprint": "of then"}}))
    return folder / f"checkpoint-{step}"


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


def test_an_empty_value_is_no_value():
    assert parse("--config", config("model:\nimage_size: null\n"))[0].model == "sample"


def test_a_config_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match=r"photo\.png"):
        parse("--config", "photo.png")


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
        (["--hub_token", "hf_secret"], "hub_token"),
        (["--eval_strategy", "no"], "load_best_model_at_end"),
        (["--eval_strategy", "often"], "often"),
        (["--lr_scheduler_type", "straight"], "straight"),
        (["--metric_for_best_model", "mood"], "accuracy, loss"),
        (["--remove_unused_columns", "True"], "drop the photos"),
        (["--gradient_accumulation_steps", "0"], "gradient_accumulation_steps"),
        (["--num_train_epochs", "0"], "num_train_epochs"),
        (["--seed", "-1"], "seed"),
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
        ("config: other.yaml", "config"),
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


def test_the_folder_is_new_or_empty(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        parse("--output_dir", "used")
    assert "another --output_dir" in str(caught.value) and "resume" not in str(caught.value)  # nothing to resume there
    assert parse("--output_dir", "empty")[1].output_dir == "empty"
    with pytest.raises(InputError, match="can be made"):
        parse("--output_dir", "used/thesis.txt/run")


def test_two_runs_that_start_together_get_two_folders(tmp_path):
    first, second = parse()[1].output_dir, parse()[1].output_dir
    assert first.startswith("runs/toy-") and first.endswith("-1") and second == first[:-1] + "2"
    assert (tmp_path / first).is_dir() and (tmp_path / second).is_dir()


def test_an_empty_folder_goes_again_when_the_process_ends(tmp_path, monkeypatch):
    goes = []
    monkeypatch.setattr(atexit, "register", lambda function, *args, **kwargs: goes.append((function, args, kwargs)))
    folder = Path(parse()[1].output_dir)
    assert folder.is_dir()
    for function, args, kwargs in goes:
        function(*args, **kwargs)
    assert goes and not folder.exists()


@pytest.mark.slow  # for its imports
def test_it_goes_when_a_process_of_its_own_ends(tmp_path):
    code = "from hf_fashion import settings as s, training as t; s.parse_args('toy', [t.FashionTrainingArguments], [])"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list((tmp_path / "runs").iterdir()) == []


def test_resume_takes_the_settings_of_its_run(tmp_path):
    checkpoint(tmp_path / "run", 5, seed=3, model="mine")
    last = checkpoint(tmp_path / "run", 20, seed=3, model="mine")
    for argv in (["--output_dir", "run", "--resume_from_checkpoint", "last"], ["--resume_from_checkpoint", str(last)]):
        toy, args, changed = parse(*argv)
        assert (Path(args.output_dir).name, Path(args.resume_from_checkpoint).name) == ("run", "checkpoint-20")
        assert (toy.model, args.seed, changed) == ("mine", 3, {"seed": 3, "model": "mine"})
    parse(*argv, "--seed", "3", "--disable_tqdm", "True")  # the same, or what changes nothing
    with pytest.raises(InputError, match="--seed 4"):
        parse(*argv, "--seed", "4")


def test_resume_passes_over_a_half_written_checkpoint(tmp_path, capsys):
    checkpoint(tmp_path / "run", 5)
    (checkpoint(tmp_path / "run", 20) / "optimizer.pt").unlink()
    args = parse("--output_dir", "run", "--resume_from_checkpoint", "last")[1]
    assert args.resume_from_checkpoint == "run/checkpoint-5"
    assert "passed over run/checkpoint-20: it has no optimizer.pt" in capsys.readouterr().out
    with pytest.raises(InputError, match="optimizer.pt"):
        parse("--resume_from_checkpoint", "run/checkpoint-20")


def test_other_settings_on_resume_must_be_forced_and_that_is_said_and_recorded_once(tmp_path, capsys):
    last = str(checkpoint(tmp_path / "run", 5, seed=3))
    argv = ["--resume_from_checkpoint", last, "--learning_rate", "0.1"]
    with pytest.raises(InputError, match="--force_resume True"):
        parse(*argv)
    _, args, changed = parse(*argv, "--force_resume", "True")
    assert (args.learning_rate, args.seed) == (0.1, 3)
    assert changed == {"seed": 3, "learning_rate": 0.1, "force_resume": True}
    assert "forced: the run goes on with other settings than it had: --learning_rate 0.1" in capsys.readouterr().out
    (tmp_path / "run" / "run.json").write_text(json.dumps({"arguments": changed}))
    assert parse("--resume_from_checkpoint", last)[2] == {"seed": 3, "learning_rate": 0.1}
    with pytest.raises(InputError, match="--learning_rate 0.2"):
        parse("--resume_from_checkpoint", last, "--learning_rate", "0.2")


def test_resume_never_writes_into_another_folder_with_files(tmp_path):
    last = checkpoint(tmp_path / "run", 5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my thesis")
    with pytest.raises(InputError, match="new or empty"):
        parse("--output_dir", "mine", "--resume_from_checkpoint", str(last))
    assert parse("--output_dir", "new", "--resume_from_checkpoint", str(last))[1].output_dir == "new"


def test_a_recipe_that_does_not_train_does_not_resume(tmp_path):
    last = checkpoint(tmp_path / "run", 5)
    with pytest.raises(InputError, match="a recipe that trains"):
        settings.parse_args("score", [training.FashionTrainingArguments], ["--resume_from_checkpoint", str(last)])


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

    names = [path.stem for path in Path(folder).glob("*.yaml")]
    assert names
    for name in names:
        stem = name.partition("-")[0]
        classes = {
            "classify": (classify.Arguments, training.MethodArguments, training.FashionTrainingArguments),
            "detect": (detect.Arguments, training.LearningArguments, training.DetectionTrainingArguments),
            "retrieve": (retrieve.Arguments, retrieving.RetrievalTrainingArguments),
        }[stem]
        metrics = {"classify": classify, "detect": detect, "retrieve": searches}[stem].METRICS
        parse("--config", name, classes=classes, metrics=metrics)


def test_help_is_the_recipes_own(capsys):
    with pytest.raises(SystemExit) as caught:
        recipe.main(["--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert shown.index("--dataset") < shown.index("--learning_rate")
