"""What messages and last lines tell to type next is what works here: the console's word, or a recipe of a checkout."""

import runpy
import sys
from types import SimpleNamespace

import pytest

from hf_fashion import sweeps
from hf_fashion.errors import InputError, command


@pytest.mark.parametrize(
    ("program", "module", "typed"),
    [
        ("/usr/bin/hf-fashion", None, "hf-fashion score"),
        (r"hf-fashion.exe", None, "hf-fashion score"),
        ("hf_fashion/cli.py", "hf_fashion.cli", "hf-fashion score"),
        ("x/classify.py", "hf_fashion.recipes.classify", "accelerate launch -m hf_fashion.recipes.score"),
        ("recipes/classify.py", None, "accelerate launch recipes/score.py"),
        ("pytest", "pytest.__main__", "accelerate launch recipes/score.py"),
        ("", None, "accelerate launch recipes/score.py"),
    ],
)
def test_a_recipe_is_typed_as_this_process_was(program, module, typed, monkeypatch):
    spec = SimpleNamespace(name=module) if module else None
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    assert command("score") == typed


def test_a_message_behind_the_consoles_word_names_that_word(tmp_path, monkeypatch):
    """As `python -m hf_fashion.cli` runs it, argv and __main__ included, without the seconds of a new process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["-m", "sweep", "--seeds", "1"])
    monkeypatch.delitem(sys.modules, "hf_fashion.cli", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("hf_fashion.cli", run_name="__main__", alter_sys=True)
    said = str(ended.value.code)  # Python prints a text that a process ends with, and its exit code is 1
    assert "to do:    hf-fashion sweep --try" in said and "recipes/" not in said


def test_help_of_a_sweep_names_the_consoles_words(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hf-fashion"])
    with pytest.raises(SystemExit):
        sweeps.parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "usage: hf-fashion sweep" in shown and "`hf-fashion classify --help`" in " ".join(shown.split())
    with pytest.raises(InputError, match="hf-fashion sweep --help"):
        sweeps.parse_args(["--trials", "many"])
