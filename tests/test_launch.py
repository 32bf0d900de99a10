"""`accelerate launch` and the console word, as they are typed: what is wrong, and which recipe is started.

The runs that it starts in fresh processes are slow tests of `test_wheel.py` (one) and `test_many_processes.py` (two).
"""

import subprocess
from pathlib import Path

import pytest
from accelerate.commands import launch as launcher
from processes import Forked

import hf_fashion
from hf_fashion import cli
from hf_fashion.recipes import classify as recipe

ROOT = Path(__file__).parents[1]


def test_a_wrong_setting_ends_in_one_message_and_no_traceback(tmp_path, monkeypatch, capfd):
    """The launcher's own code in this process: it starts the recipe in one of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", Forked)
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
