"""Real processes: `accelerate launch` and the console word, as they are typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands import launch as launcher
from tiny import photos, tiny

import hf_fashion
from hf_fashion import cli
from hf_fashion.recipes import classify as recipe

ROOT = Path(__file__).parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]


def launch(*argv, cwd):
    return subprocess.run([*LAUNCH, *argv], cwd=cwd, capture_output=True, text=True, env=os.environ)


def test_accelerate_launch_ends_with_table_folder_and_what_to_type_next(tmp_path):
    photos(tmp_path / "photos", train=4, validation=3, test=3)
    tiny("vit", tmp_path / "net")
    done = launch(
        str(ROOT / "recipes" / "classify.py"), "--model", "net", "--dataset", "photos", "--num_train_epochs", "1",
        "--use_cpu", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tail = done.stdout.strip().splitlines()[-12:]
    assert any(line.split()[:1] == ["accuracy"] and line.split()[-1] == "9" for line in tail)
    folder = next(line.split()[1] for line in tail if line.startswith("folder:"))
    assert (tmp_path / folder / "README.md").is_file()
    assert any("score.py" in line for line in tail)


def test_a_wrong_setting_ends_in_one_message_and_no_traceback(tmp_path, monkeypatch, capfd):
    """The launcher's own code in this process: it starts the recipe in one of its own."""
    monkeypatch.chdir(tmp_path)
    argv = ["--quiet", str(ROOT / "recipes" / "classify.py"), "--learnin_rate", "1"]
    with pytest.raises(SystemExit) as ended:
        launcher.launch_command(launcher.launch_command_parser().parse_args(argv))
    said = capfd.readouterr().err
    assert ended.value.code not in (None, 0)
    assert "did you mean --learning_rate" in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_words_of_the_console(capsys, monkeypatch):
    cli.main(["--version"])
    assert capsys.readouterr().out.strip() == f"hf_fashion {hf_fashion.__version__}"
    with pytest.raises(SystemExit, match="did you mean classify"):
        cli.main(["clasify"])
    handed = []
    monkeypatch.setattr(recipe, "main", handed.append)
    cli.main(["classify", "--seed", "1"])
    assert handed == [["--seed", "1"]]


def test_a_wrong_setting_behind_a_word_is_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(["classify", "--resize", "stretch"])
    assert str(caught.value).strip().startswith("error: argument --resize") and "to do:" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "sample"])
def test_the_embedded_checkpoints_learn_the_sample_photos(name, tmp_path):
    """The figures themselves stand on the cards; a broken checkpoint, processor or config falls far below."""
    run = recipe.main(["--config", f"classify-{name}", "--output_dir", str(tmp_path / "run")])
    assert run.results["n"] == 80
    assert run.results["accuracy"] > {"efficientnet-lite0": 0.7, "sample": 0.4}[name]
