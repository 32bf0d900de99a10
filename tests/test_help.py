"""`--help` of the classifier: what a newcomer must know stands in it."""

import pkgutil
import re
from dataclasses import fields

import pytest

from hf_fashion import sources
from hf_fashion.recipes import classify as recipe
from hf_fashion.tasks import classify, detect, retrieve


@pytest.fixture
def shown(capsys, monkeypatch):
    """The help of each setting, by its name."""
    monkeypatch.setenv("COLUMNS", "10000")  # or lines are broken within words
    with pytest.raises(SystemExit):
        recipe.main(["--help"])
    parts = [part.split() for part in re.split(r"\n(?=  -)", capsys.readouterr().out)]
    return {words[0].removeprefix("--").rstrip(","): " ".join(words) for words in parts}


def test_every_public_dataset_is_named(shown):
    names = {module.name for module in pkgutil.iter_modules(sources.__path__)}
    of_boxes = {"deepfashion2", "fashionpedia", "modanet"}
    of_retrieval = {"consumer_to_shop", "fashion200k", "fashion_iq", "hm", "inshop"}
    told = detect.Arguments.__dataclass_fields__["dataset"].metadata["help"]
    assert of_boxes < names and all(name in told for name in of_boxes)
    told = retrieve.PhotoArguments.__dataclass_fields__["dataset"].metadata["help"]
    assert of_retrieval < names and all(name in told for name in of_retrieval)
    assert all(name in shown["dataset"] for name in names - of_boxes - of_retrieval)


def test_a_setting_and_its_opposite_are_not_told_with_the_same_meaning(shown):
    assert shown["no_flip"].count("--no_flip") == 2  # its name, and in the sentence that both share


def test_every_setting_of_ours_has_a_sentence(shown):
    for field in fields(classify.Arguments):
        told = field.metadata["help"]
        assert told in shown[field.name] and told[0].isupper() and told.endswith(".")


def test_settings_that_need_another_name_it(shown):
    assert "--streaming" in shown["shuffle_buffer"] and "--label_columns" in shown["label_separator"]
