"""The first line of `--help` says what is typed without a setting's name, as the README shows it."""

import importlib

import pytest


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("predict", "predict MODEL PHOTOS -o FILE.parquet [--config NAME_OR_PATH] [--setting value ...]"),
        ("export", "export MODEL --dataset PHOTOS -o FOLDER [--config NAME_OR_PATH] [--setting value ...]"),
        ("serve", "serve MODEL [--config NAME_OR_PATH] [--setting value ...]"),
    ],
)
def test_the_usage_begins_with_it(word, shown, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "10000")
    monkeypatch.setattr("sys.argv", ["hf-fashion", word])
    pytest.importorskip("fastapi")
    recipe = importlib.import_module(f"hf_fashion.recipes.{word}")
    with pytest.raises(SystemExit):
        recipe.main(["--help"])
    assert capsys.readouterr().out.splitlines()[0] == f"usage: hf-fashion {shown}"
