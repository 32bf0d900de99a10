"""Random weights: of a checkpoint's architecture, or of one that timm builds itself, without a Hub."""

import tempfile

import pytest
import torch
from tiny import photos, tiny, undrawn  # noqa: F401 (a fixture)
from transformers import AutoModelForImageClassification

from hf_fashion import load_classifier
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe

LABELS = ["coat", "dress", "hat"]


def drawn(model, seed=0, **settings):
    torch.manual_seed(seed)
    return load_classifier(model, LABELS, from_scratch=True, **settings)


def test_timm_builds_a_net_without_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    net, processor = drawn("timm/resnet10t", image_size=64)
    assert net.config.architecture == "resnet10t" and net.config.id2label == dict(enumerate(LABELS))
    assert processor.data_config["input_size"][-2:] == (64, 64)
    assert net(torch.rand(2, 3, 64, 64)).logits.shape == (2, 3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["timm", "swin"])
def test_the_seed_decides_and_no_weight_is_the_checkpoints(model, tmp_path):
    folder = tiny(model, tmp_path / "net")
    one, same, other = (drawn(folder, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    kept = load_classifier(folder, LABELS)[0].state_dict()
    matrices = [key for key in one if one[key].ndim > 1 and one[key].is_floating_point() and "bias" not in key]
    assert matrices and not any(torch.equal(one[key], other[key]) for key in matrices)
    assert not any(torch.equal(one[key], kept[key]) for key in matrices)


def test_an_architecture_that_timm_does_not_have_gets_its_neighbours_name():
    with pytest.raises(InputError, match="timm/resnet18"):
        drawn("timm/resnet81")


@pytest.mark.usefixtures("undrawn")
def test_a_run_from_random_weights_loads_bare(tmp_path):
    photos(tmp_path / "photos", train=4, validation=2, test=2)
    run = recipe.main(
        ["--model", "timm/resnet10t", "--from_scratch", "True", "--image_size", "32", "--num_train_epochs", "1",
         "--dataset", str(tmp_path / "photos"), "--output_dir", str(tmp_path / "run"), "--use_cpu", "True"]
    )  # fmt: skip
    assert run.results["n"] == 6
    net, info = AutoModelForImageClassification.from_pretrained(run.folder, output_loading_info=True)
    assert not any(info.values()) and net.config.architecture == "resnet10t"
