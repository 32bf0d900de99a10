"""Precision by the device: which nets train in bfloat16, and that the choice is said and can be overruled."""

import copy
from types import SimpleNamespace

import pytest
import torch
from tiny import photos, tiny, undrawn  # noqa: F401 (a fixture)
from transformers import AutoConfig, AutoModelForImageClassification

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


@pytest.mark.parametrize("kind", ["swin", "vit", "timm_vit"])
def test_nets_that_gain_train_in_bfloat16_where_the_cpu_has_it(bf16_cpu, tmp_path, kind):
    args = FashionTrainingArguments(output_dir=str(tmp_path), seed=7, **CPU)
    half = with_precision(args, net(kind, tmp_path / "net"))
    assert half.bf16 and half.mixed_precision == "bf16" and half.seed == 7
    assert not args.bf16


@pytest.mark.parametrize(("kind", "attention"), [("swin", "eager"), ("vit", "sdpa")])
def test_attention_in_bfloat16_on_a_cpu_is_the_quicker_one(bf16_cpu, tmp_path, kind, attention):
    args = FashionTrainingArguments(output_dir=str(tmp_path), **CPU)
    model = net(kind, tmp_path / "net")
    plain = copy.deepcopy(model)
    with_precision(args, model, "full")
    assert model.config._attn_implementation == plain.config._attn_implementation == "sdpa"
    with_precision(args, model)
    assert model.config._attn_implementation == attention
    pixels = torch.rand(2, 3, model.config.image_size, model.config.image_size)
    with torch.no_grad():
        torch.testing.assert_close(model(pixels).logits, plain(pixels).logits, atol=1e-5, rtol=1e-4)


def test_a_net_that_failed_the_gate_or_was_not_measured_stays_as_it_is(bf16_cpu, tmp_path):
    args = FashionTrainingArguments(output_dir=str(tmp_path), **CPU)
    assert with_precision(args, net("timm", tmp_path / "net")) is args  # a ResNet
    lite, _ = load_classifier("efficientnet-lite0", ["a", "b"])
    assert precision.family(lite.config) == "efficientnet_lite" and with_precision(args, lite) is args
    unknown, _ = load_classifier("timm/mobilenetv3_small_050", ["a", "b"], from_scratch=True)
    assert with_precision(args, unknown) is args


FAMILIES = {
    "swin": {"swin_tiny_patch4_window7_224": "swin", "swin_s3_tiny_224": "", "swinv2_cr_tiny_224": ""},
    "swinv2": {"swinv2_tiny_window8_256": "swinv2"},
    "vit": {"vit_base_patch16_224.augreg_in21k": "vit", "vitamin_small_224": "", "vit_base_patch16_siglip_224": ""},
    "dinov2": {"vit_small_patch14_dinov2": "dinov2"},
    "siglip": {},
    "convnext": {"convnext_tiny": "convnext", "convnextv2_tiny": ""},
    "resnet": {"resnet50.a1_in1k": "resnet", "resnetv2_50": "", "resnet50_gn": "", "seresnet50": ""},
    "vgg": {"vgg16": "vgg", "vgg16_bn": ""},
    "inception_v3": {"inception_v3.tv_in1k": "inception_v3", "inception_v4": ""},
    "efficientnet_lite": {"tf_efficientnet_lite0": "efficientnet_lite", "efficientnet_b0": ""},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_those_nets_that_have_the_blocks_that_were_measured(name):
    if name not in ("vgg", "inception_v3", "efficientnet_lite"):  # these are timm's alone
        assert precision.family(AutoConfig.for_model(name)) == name
    for architecture, family in FAMILIES[name].items():
        config = AutoConfig.for_model("timm_wrapper", architecture=architecture)
        assert precision.family(config) == family, architecture
    for other in ("convnextv2", "beit", "deit"):
        assert precision.family(AutoConfig.for_model(other)) == ""
    assert (name in precision.GAIN_ON_CPU) != (name in precision.FAILED)


@pytest.mark.parametrize(
    ("architecture", "cpu", "gpu"),
    [
        ("inception_v3", False, False),
        ("resnet50", False, False),
        ("swinv2_tiny_window8_256", True, True),
        ("mobilenetv3_small_050", False, True),
    ],
)
def test_a_net_that_failed_the_gate_stays_in_full_precision_on_every_device(
    monkeypatch, tmp_path, architecture, cpu, gpu
):
    monkeypatch.setattr(precision, "supports_bf16", lambda device: True)
    args = FashionTrainingArguments(output_dir=str(tmp_path), **CPU)
    wrapped = SimpleNamespace(config=AutoConfig.for_model("timm_wrapper", architecture=architecture))
    assert with_precision(args, wrapped).bf16 is cpu
    monkeypatch.setattr(FashionTrainingArguments, "device", torch.device("cuda"))
    assert with_precision(args, wrapped).bf16 is gpu


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
def test_a_run_says_its_precision_and_is_measured_in_full(bf16_cpu, tmp_path, undrawn, wanted):  # noqa: F811
    data, folder = tmp_path / "photos", tmp_path / "run"
    photos(data, train=4, validation=2, test=2)
    run = recipe.main(
        ["--model", str(tiny("swin", tmp_path / "net")), "--dataset", str(data), "--output_dir", str(folder),
         "--num_train_epochs", "1", "--use_cpu", "True", "--disable_tqdm", "True", "--precision", wanted]
    )  # fmt: skip
    assert ("bfloat16" in run.info["device"]) == (wanted == "auto")
    saved = AutoModelForImageClassification.from_pretrained(folder)
    assert saved.dtype == torch.float32
