"""A misspelt folder of a model is answered with the folder that was meant; ids of the Hub are left to the Hub."""

import pytest
from huggingface_hub.errors import GatedRepoError

from hf_fashion.backbones.sources import find
from hf_fashion.errors import InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with runs, a model and a folder that is called as an organization of the Hub is."""
    for name in ("runs/classify-2026-11-24-1/checkpoint-30", "runs/sweep-2026-11-24-1", "my_model", "google"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("runs/classfy-2026-11-24-1", "runs/classify-2026-11-24-1"),
        ("./runs/clasify-2026-11-24-1/checkpoint-3", "runs/classify-2026-11-24-1/checkpoint-30"),
        ("rnus/classify-2026-11-24-1/checkpoint-30", "runs/classify-2026-11-24-1/checkpoint-30"),
        ("./my_models", "my_model"),
        ("my_models", "my_model"),
        ("{here}/my_models", "{here}/my_model"),
        ("../{name}/my_models", "../{name}/my_model"),
        ("samples", "sample"),
    ],
)
def test_the_nearest_folder_is_named(typed, meant, here):
    typed, meant = (text.format(here=here, name=here.name) for text in (typed, meant))
    with pytest.raises(InputError) as caught:
        find(typed, None)
    assert caught.value.found.startswith("no such folder") and caught.value.fix == f"did you mean {meant}?"


@pytest.mark.parametrize("typed", ["./no_such_folder", "~/no_such_folder", "runs/no_such_folder"])
def test_without_a_near_one_it_is_said_that_there_is_no_such_folder(typed, here):
    with pytest.raises(InputError) as caught:
        find(typed, None)
    assert caught.value.found.startswith("no such folder") and "check the spelling" in caught.value.fix


def test_an_id_of_the_hub_is_left_to_the_hub(here, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    monkeypatch.setattr("hf_fashion.backbones.sources.snapshot_download", lambda name, **_: here / "my_model")
    for name in ("google/vit-base-patch16-224", "microsoft/resnet-50"):  # a folder google is there, none microsoft
        assert find(name, None) == here / "my_model"


def test_a_gated_model_is_told_as_such_beside_a_folder_of_its_organization(here, monkeypatch):
    class Gated(GatedRepoError):
        def __init__(self):
            Exception.__init__(self, "gated")

    def refuse(*_, **__):
        raise Gated

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(InputError, match="hf auth login"):
        find("google/gated", None)
