"""`--torch_compile`: a net that torch compiled while it learned is saved, measured and loaded like any other."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import photos, tiny, undrawn, without_drawing  # noqa: F401 (a fixture)
from transformers import AutoModelForImageClassification

from hf_fashion.recipes import classify as recipe

pytestmark = [
    pytest.mark.slow,  # some minutes: a compiler of C++ runs for each shape
    pytest.mark.skipif(sys.platform == "win32", reason="torch compiles for a CPU with a compiler of C++"),
]


def trained(place, name, *more):
    words = ["--model", str(place / "resnet"), "--dataset", str(place / "photos"), "--output_dir", str(place / name)]
    words += ["--num_train_epochs", "2", "--per_device_train_batch_size", "8", "--use_cpu", "True"]
    with without_drawing():
        run = recipe.main([*words, "--learning_rate", "0.01", "--disable_tqdm", "True", *more])
    return run, load_file(place / name / "model.safetensors")


def test_a_compiled_training_gives_the_folder_of_any_other(tmp_path):
    photos(tmp_path / "photos", train=10, validation=8, test=6)
    tiny("resnet", tmp_path / "resnet")  # once: it is drawn at random
    plain, weights = trained(tmp_path, "plain")
    calls = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    run, compiled = trained(tmp_path, "compiled", "--torch_compile", "True")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > calls, "nothing was compiled"
    assert run.info["arguments"]["torch_compile"] is True
    assert list(compiled) == list(weights), "a compiled net's names begin with _orig_mod"
    apart = max(float((compiled[name] - weights[name]).abs().max()) for name in weights)
    assert 0 <= apart < 1e-2  # fused sums round otherwise; nothing of this net is drawn while it learns
    assert run.results["accuracy"] == pytest.approx(plain.results["accuracy"], abs=2 / 18)
    net = AutoModelForImageClassification.from_pretrained(tmp_path / "compiled").eval()
    with torch.no_grad():
        logits = net(torch.zeros(1, 3, 32, 32)).logits
    assert np.isfinite(logits.numpy()).all()
