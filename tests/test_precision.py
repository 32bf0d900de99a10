"""Precision by the device: which nets train in bfloat16, and that the choice is said and can be overruled."""

import pytest
import torch
from tiny import photos, tiny
from transformers import AutoModelForImageClassification

from hf_fashion import FashionTrainingArguments, load_classifier
from hf_fashion.recipes import classify as recipe
from hf_fashion.training import precision, with_precision

CPU = {"bf16": False, "use_cpu": True}


@pytest.fixture
def bf16_cpu(monkeypatch):
    """A CPU that has bfloat16 in its instructions, whatever this one has."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def net(architecture, folder):
    return AutoModelForImageClassification.from_pretrained(tiny(architecture, folder))


@pytest.mark.parametrize("kind", ["swin", "vit", "timm", "timm_vit"])
def test_nets_that_gain_train_in_bfloat16_where_the_cpu_has_it(bf16_cpu, tmp_path, kind):
    args = FashionTrainingArguments(output_dir=str(tmp_path), seed=7, **CPU)
    half = with_precision(args, net(kind, tmp_path / "net"))
    assert half.bf16 and half.mixed_precision == "bf16" and half.seed == 7
    assert not args.bf16


def test_a_net_that_is_slower_in_bfloat16_or_was_not_measured_stays_as_it_is(bf16_cpu, tmp_path):
    args = FashionTrainingArguments(output_dir=str(tmp_path), **CPU)
    slower, _ = load_classifier("efficientnet-lite0", ["a", "b"])
    assert slower.config.architecture.startswith("tf_efficientnet_lite")
    assert precision.GAIN_ON_CPU["tf_efficientnet_lite"] < precision.WORTH and with_precision(args, slower) is args
    unknown, _ = load_classifier("timm/mobilenetv3_small_050", ["a", "b"], from_scratch=True)
    assert with_precision(args, unknown) is args


@pytest.mark.parametrize("capabilities", [{}, {"avx512_f": True, "avx512_bf16": False}])
def test_without_the_instructions_nothing_changes(monkeypatch, tmp_path, capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    args = FashionTrainingArguments(output_dir=str(tmp_path), **CPU)
    assert with_precision(args, net("swin", tmp_path / "net")) is args


def test_what_was_asked_for_stands(bf16_cpu, tmp_path):
    swin = net("swin", tmp_path / "net")
    typed = FashionTrainingArguments(output_dir=str(tmp_path), bf16=True, use_cpu=True)
    assert with_precision(typed, swin) is typed
    plain = FashionTrainingArguments(output_dir=str(tmp_path), **CPU)
    assert with_precision(plain, swin, "full") is plain


@pytest.mark.parametrize("wanted", ["auto", "full"])
def test_a_run_says_its_precision_and_is_measured_in_full(bf16_cpu, tmp_path, wanted):
    data, folder = tmp_path / "photos", tmp_path / "run"
    photos(data, train=4, validation=2, test=2)
    run = recipe.main(
        ["--model", str(tiny("swin", tmp_path / "net")), "--dataset", str(data), "--output_dir", str(folder),
         "--num_train_epochs", "1", "--use_cpu", "True", "--disable_tqdm", "True", "--precision", wanted]
    )  # fmt: skip
    assert ("bfloat16" in run.info["device"]) == (wanted == "auto")
    saved = AutoModelForImageClassification.from_pretrained(folder)
    assert saved.dtype == torch.float32
