"""Detectors: checkpoints whose classes become the labels, new ones over a backbone, what is frozen and refused."""

import pytest
import torch
import transformers as hf
from PIL import Image
from tiny import LABELS, slow_but
from tiny_detectors import KINDS, tiny_detector

from hf_fashion import backbones
from hf_fashion.backbones import freezing
from hf_fashion.errors import InputError
from hf_fashion.training import parameter_groups


@pytest.fixture(scope="session")
def detector_folders(tmp_path_factory):
    """A folder with a tiny random checkpoint of each kind, of three classes."""
    place = tmp_path_factory.mktemp("detectors")
    return {kind: tiny_detector(kind, place / kind) for kind in KINDS}


def answer(folder, size=(70, 50)):
    photo = Image.new("RGB", size, (200, 30, 90))
    return hf.pipeline("object-detection", model=str(folder), threshold=0.0)(photo)


# D-FINE has the heads of RT-DETR, Conditional DETR those of DETR.
@pytest.mark.parametrize("kind", slow_but(KINDS, *set(KINDS) - {"d_fine", "conditional_detr"}))
def test_other_classes_are_drawn_anew_and_all_else_is_the_checkpoints(kind, detector_folders):
    own, _ = backbones.load_detector(detector_folders[kind])
    before = own.state_dict()
    for labels in (["top", "bag", "coat"], LABELS):  # as many as before, and others
        model, _ = backbones.load_detector(detector_folders[kind], labels)
        assert list(model.config.id2label.values()) == list(labels) and model.config.num_labels == len(labels)
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed and all("class" in name or "score" in name for name in changed), changed
    same, _ = backbones.load_detector(detector_folders[kind], ["dress", "hat", "shoes"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in same.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_what_is_not_frozen_and_bare_transformers_loads_what_is_saved(kind, detector_folders, tmp_path):
    model, processor = backbones.load_detector(detector_folders[kind], LABELS, freeze="backbone")
    backbone = set(freezing.backbone_parameters(model))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    groups = parameter_groups(model, learning_rate=0.1, head_learning_rate=0.5)
    assert {group["lr"] for group in groups} == {0.5}
    model.train()
    labels = [
        {"class_labels": torch.tensor([1, 3]), "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.3, 0.4]])}
    ]
    model(pixel_values=torch.randn(1, 3, 64, 64), labels=labels).loss.backward()
    assert not any(module.training for module in backbones.frozen_modules(model))
    torch.optim.SGD(groups).step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and not {name for name in changed if name in backbone}
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert {found["label"] for found in answer(tmp_path)} <= set(LABELS)


@pytest.mark.parametrize("kind", slow_but(KINDS, "rt_detr_v2", "detr", "yolos", "rf_detr"))
def test_stages_are_those_of_the_backbone(kind, detector_folders):
    model, _ = backbones.load_detector(detector_folders[kind], LABELS, freeze="stages:1")
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    backbone = set(freezing.backbone_parameters(model))
    assert frozen and frozen < backbone < {name for name, _ in model.named_parameters()}
    with pytest.raises(InputError, match="stages:1 to stages:"):
        backbones.load_detector(detector_folders[kind], LABELS, freeze="stages:40")


# D-FINE takes its maps as RT-DETR does.
@pytest.mark.parametrize("architecture", slow_but(["rt_detr_v2", "d_fine", "detr"], "rt_detr_v2", "detr"))
def test_a_new_detector_sees_through_its_backbone_as_that_did(architecture, tmp_path):
    torch.manual_seed(0)
    small = {"d_model": 32, "num_queries": 20, "encoder_layers": 1, "decoder_layers": 2}
    if architecture != "detr":
        small |= {"encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3}
    model, processor = backbones.load_detector(
        architecture, LABELS, backbone="efficientnet-lite0", detector_config=small,
        image_size=64 if architecture == "detr" else [96, 64],
    )  # fmt: skip
    told = {"shortest_edge": 64, "longest_edge": 107} if architecture == "detr" else {"height": 96, "width": 64}
    assert dict(processor.size) == told and model.config.d_model == 32
    classifier, _ = backbones.load_classifier("efficientnet-lite0")
    photo = torch.randn(1, 3, 96, 64)
    model.train()  # its norms stay as they are
    with torch.no_grad():
        seen = model.model.backbone.model(photo)
        seen = seen[-1] if isinstance(seen, list) else seen.feature_maps[-1]
        wanted = classifier.timm_model.forward_intermediates(photo, intermediates_only=True)[-1]
    assert torch.allclose(seen, wanted, atol=1e-3)
    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = hf.AutoModelForObjectDetection.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(photo).logits, model(photo).logits)
    assert answer(tmp_path)


def test_a_new_detector_over_a_swin(tmp_path):
    model, _ = backbones.load_detector("rt_detr_v2", LABELS, backbone="sample", image_size=128)
    weights, _ = backbones.load_classifier("sample", LABELS)
    mine, theirs = model.state_dict(), weights.state_dict()
    shared = [name for name in mine if name.startswith("model.backbone.model.swin.")]
    assert len(shared) > 100
    assert all(torch.equal(mine[name], theirs[name.removeprefix("model.backbone.model.")]) for name in shared)


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("rt_detr_v2", {}, "name of an architecture"),
        ("swin", {"backbone": "efficientnet-lite0"}, "rt_detr_v2, d_fine, detr"),
        ("rt_detr_v2", {"backbone": "efficientnet-lite0", "detector_config": {"n_queries": 3}}, "no such: n_queries"),
        ("rt_detr_v2", {"backbone": "efficientnet-lite0", "detector_config": {"d_model": 7}}, "fit together"),
        ("detr", {"backbone": "sample", "image_size": [64, 32]}, "their proportions"),
        ("rt_detr_v2", {"backbone": "efficientnet-lite0", "image_size": 8}, "32 to 4096"),
        ("sample", {}, "detects objects"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_type(model, settings, told):
    with pytest.raises(InputError, match=told):
        backbones.load_detector(model, LABELS, **settings)


def test_fewer_cells_than_queries_are_refused():
    small = {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "num_queries": 85}
    settings = {"backbone": "sample", "detector_config": small}
    with pytest.raises(InputError, match=r"(?s)85 cells or more.*84 cells"):
        backbones.load_detector("rt_detr_v2", LABELS, image_size=64, **settings)
    backbones.load_detector("rt_detr_v2", LABELS, image_size=[64, 96], **settings)
