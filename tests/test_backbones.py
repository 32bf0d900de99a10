"""Loading of classifiers, on tiny random checkpoints of each family: a new head, and the encoder as it was."""

import json
import shutil

import pytest
import timm
import torch
import transformers
from tiny import KINDS, LABELS, batch, logits, save, tiny
from transformers import AutoModelForImageClassification

from hf_fashion import backbones
from hf_fashion.errors import InputError


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_for_the_labels_and_the_encoder_as_it_was(kind, checkpoints, tmp_path):
    model, processor = backbones.load_classifier(checkpoints[kind], LABELS)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {label: index for index, label in enumerate(LABELS)}
    assert logits(model).shape == (6, 4)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

    old = AutoModelForImageClassification.from_pretrained(checkpoints[kind]).state_dict()
    new = model.state_dict()
    changed = {name for name in new if not torch.equal(new[name], old[name])}
    assert {new[name].shape[0] for name in changed} == {4} and len(changed) in (1, 2)

    save(model, processor, tmp_path)
    bare = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert bare.config.id2label == model.config.id2label and bare.config.label2id == model.config.label2id
    torch.testing.assert_close(logits(bare), logits(model), rtol=0, atol=1e-6)
    assert all(torch.equal(tensor, new[name]) for name, tensor in bare.state_dict().items())
    assert str(checkpoints[kind].parent) not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_an_old_head_stays_only_with_the_same_labels_in_the_same_order(kind, checkpoints):
    own = ["old 0", "old 1", "old 2"]
    old = AutoModelForImageClassification.from_pretrained(checkpoints[kind])
    kept, _ = backbones.load_classifier(checkpoints[kind], own)
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in kept.state_dict().items())
    for labels in (own[::-1], ["dress", "shirt", "shoe"]):
        model, _ = backbones.load_classifier(checkpoints[kind], labels)
        differs = {
            name for name, tensor in model.state_dict().items() if not torch.equal(tensor, old.state_dict()[name])
        }
        assert any(name.endswith("weight") for name in differs)
        assert all(tensor.shape[0] == 3 for name, tensor in model.state_dict().items() if name in differs)


def test_the_head_comes_from_the_seed(checkpoints):
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        heads.append(backbones.load_classifier(checkpoints["vit"], LABELS)[0].classifier.weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_timm_keeps_the_newest_label_names_over_two_rounds(checkpoints, tmp_path):
    """Trap 37: TimmWrapper leaves the first label names on disk."""
    first = save(*backbones.load_classifier(checkpoints["timm"], LABELS), tmp_path / "first")
    model, processor = backbones.load_classifier(first, ["hat", "sock"])
    second = save(model, processor, tmp_path / "second")
    raw = json.loads((second / "config.json").read_text())
    assert raw["label_names"] == ["hat", "sock"] and raw["num_classes"] == 2
    assert AutoModelForImageClassification.from_pretrained(second).config.id2label == {0: "hat", 1: "sock"}
    third, _ = backbones.load_classifier(second, ["hat", "sock"])  # and these are seen as its own
    assert torch.equal(third.timm_model.get_classifier().weight, model.timm_model.get_classifier().weight)


def test_a_folder_of_timms_own_save_for_hf_loads(tmp_path):
    """Trap 22: `model_args.num_classes` is given twice, and TimmWrapper dies of it."""
    net = timm.create_model("test_efficientnet", num_classes=5)
    timm.models.save_for_hf(
        net, tmp_path, model_args={"num_classes": 5, "drop_path_rate": 0.1}, safe_serialization=True
    )
    with pytest.raises(TypeError):
        AutoModelForImageClassification.from_pretrained(tmp_path)
    model, processor = backbones.load_classifier(tmp_path, LABELS)
    assert torch.equal(model.timm_model.conv_stem.weight, net.conv_stem.weight)
    save(model, processor, tmp_path / "out")
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "out").config.num_labels == 4


def test_half_precision_and_multi_label_checkpoints_train_in_full_and_single(checkpoints, tmp_path):
    """Trap 49, and a loss that would come along with the checkpoint."""
    old = AutoModelForImageClassification.from_pretrained(checkpoints["vit"]).half()
    old.config.problem_type = "multi_label_classification"
    old.save_pretrained(tmp_path)
    shutil.copy(checkpoints["vit"] / "preprocessor_config.json", tmp_path)
    model, _ = backbones.load_classifier(tmp_path, LABELS)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.problem_type == "single_label_classification"
    assert model(batch(), labels=torch.zeros(6, dtype=torch.long)).loss.isfinite()


def test_a_distilled_deit_gets_the_class_that_can_train(tmp_path):
    config = transformers.DeiTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    transformers.DeiTForImageClassificationWithTeacher(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    model, _ = backbones.load_classifier(tmp_path, LABELS)
    assert type(model) is transformers.DeiTForImageClassification


@pytest.mark.parametrize("labels", [[], ["one"], ["a", "b", "a"]])
def test_labels_that_make_no_classifier(labels, checkpoints):
    with pytest.raises(InputError, match="two or more different class names"):
        backbones.load_classifier(checkpoints["vit"], labels)


def test_a_checkpoints_own_labels_may_repeat(tmp_path):
    config = tiny("resnet", tmp_path, labels=3) / "config.json"
    told = json.loads(config.read_text())
    names = {"0": "crane", "1": "hat", "2": "crane"}
    for numbers, fine in (({"crane": 2, "hat": 1}, True), ({"crane": 1, "hat": 1}, False), ({"crane": -1}, False)):
        config.write_text(json.dumps(told | {"id2label": names, "label2id": numbers}))
        if fine:
            model, _ = backbones.load_classifier(tmp_path)
            assert [*model.config.id2label.values()] == ["crane", "hat", "crane"]
        else:
            with pytest.raises(InputError, match="id2label and label2id"):
                backbones.load_classifier(tmp_path)
