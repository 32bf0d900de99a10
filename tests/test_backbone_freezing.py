"""Freezing of classifiers, on tiny random checkpoints of each family: what is frozen does not move, the rest does."""

import copy
import pickle

import pytest
import torch
import transformers
from tiny import KINDS, LABELS, batch, photos
from transformers import AutoModelForImageClassification, Trainer, TrainingArguments, set_seed

from hf_fashion import backbones
from hf_fashion.errors import InputError

STAGES = {"vit": 3, "deit": 3, "beit": 3, "dinov2": 3, "swin": 3, "swinv2": 3, "convnext": 3, "resnet": 3} | {
    "timm": 4,
    "timm_vit": 3,
}

PLANS = [(kind, plan) for kind in KINDS for plan in ("none", "backbone", "stages:1", f"stages:{STAGES[kind]}")]


def train_step(model):
    """What Trainer does in a step: train mode, then forward, backward, update. Returns what stayed the same.

    Gradients of four passes add up, seeded: in one of 64 passes drop-path takes a whole block out for all six photos.
    """
    set_seed(0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=1.0)
    for _ in range(4):
        model(pixel_values=batch(), labels=torch.tensor([0, 1, 2, 3, 0, 1])).loss.backward()
    optimizer.step()
    return {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}


@pytest.mark.parametrize(("kind", "plan"), PLANS)
def test_what_is_frozen_does_not_move_and_the_rest_does(kind, plan, checkpoints):
    model, _ = backbones.load_classifier(checkpoints[kind], LABELS, freeze=plan)
    same = train_step(model)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    modules = backbones.frozen_modules(model)
    assert frozen <= same and not any(module.training for module in modules)

    inside = {id(module) for module in modules}
    buffers = {name for name, _ in model.named_buffers() if name in model.state_dict()}
    statistics = {name for name in buffers if id(model.get_submodule(name.rpartition(".")[0])) in inside}
    assert statistics <= same

    # What may stay although it learns: a key's bias has no gradient (softmax), and no mask token is in use.
    idle = ("mask_token", "k_proj.bias", "key.bias")
    still = {name for name in same - frozen - statistics if not name.endswith(idle)}
    assert not {name for name, _ in model.named_parameters()} & still
    moving = {name for name in buffers - statistics if name.endswith(("running_mean", "running_var"))}
    assert not moving & same

    head = {id(parameter) for layer in backbones.freezing.head_layers(model) for parameter in layer.parameters()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) not in head}
    if plan in ("backbone", f"stages:{STAGES[kind]}"):
        assert frozen == names
    elif plan == "stages:1":
        assert frozen and frozen < names
        first = next(name for name, _ in model.named_parameters())  # of the embeddings or the stem
        assert first in frozen and sum("0" in name.split(".") for name in frozen) > 0
    else:
        assert not frozen and not modules


@pytest.mark.parametrize("kind", ["vit", "beit", "dinov2", "swin", "swinv2", "convnext", "timm"])
def test_a_frozen_backbone_is_deterministic_in_train_mode(kind, checkpoints):
    """No dropout and no drop-path are left in it; unfrozen they are at work."""
    for plan, same in (("none", False), ("backbone", True)):
        model, _ = backbones.load_classifier(checkpoints[kind], LABELS, freeze=plan)
        model.train()
        assert torch.equal(model(batch()).logits, model(batch()).logits) is same, plan


def test_paramless_modules_between_frozen_stages_are_frozen_and_the_heads_dropout_is_not():
    config = transformers.TimmWrapperConfig.from_dict(
        {"architecture": "test_vit", "num_classes": 4, "model_args": {"drop_rate": 0.5, "pos_drop_rate": 0.5}}
    )
    model = transformers.TimmWrapperForImageClassification(config)
    backbones.freeze(model, "stages:1")
    model.train()
    model(torch.zeros(2, 3, 160, 160))
    net = model.timm_model
    assert not net.pos_drop.training and not net.blocks[0].training
    assert net.head_drop.training and net.blocks[1].training and net.training


def test_stages_are_the_ones_that_the_names_say(checkpoints):
    def frozen(kind, plan):
        model, _ = backbones.load_classifier(checkpoints[kind], LABELS, freeze=plan)
        return {
            name.removeprefix("timm_model.")
            for name, parameter in model.named_parameters()
            if not parameter.requires_grad
        }

    parts = {name.split(".")[1] for name in frozen("vit", "stages:2")}
    assert parts == {"embeddings", "layers"}
    assert {name.split(".")[2] for name in frozen("vit", "stages:2") if ".layers." in name} == {"0", "1"}
    assert {name.split(".")[3] for name in frozen("swin", "stages:2") if ".layers." in name} == {"0", "1"}
    assert {name.split(".")[3] for name in frozen("convnext", "stages:1") if ".stages." in name} == {"0"}
    assert {name.split(".")[3] for name in frozen("resnet", "stages:1") if ".stages." in name} == {"0"}
    timm_names = frozen("timm", "stages:1")
    assert {name.split(".")[0] for name in timm_names} == {"conv1", "bn1", "layer1"}
    assert "vit.layernorm.weight" in frozen("vit", "stages:3")  # all blocks: the last norm too
    assert "vit.layernorm.weight" not in frozen("vit", "stages:2")


def test_freezing_survives_copy_pickle_save_and_another_plan(checkpoints, tmp_path):
    model, _ = backbones.load_classifier(checkpoints["resnet"], LABELS, freeze="stages:2")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        count = len(backbones.frozen_modules(twin))
        assert count == len(backbones.frozen_modules(model)) > 10
        twin.train()
        twin(batch())
        assert not any(module.training for module in backbones.frozen_modules(twin))
        assert all(module is not other for module in twin.modules() for other in model.modules())
    model.save_pretrained(tmp_path)
    assert "frozen" not in (tmp_path / "config.json").read_text()
    backbones.freeze(model, "stages:1")
    fewer = len(backbones.frozen_modules(model))
    assert 0 < fewer < count
    backbones.freeze(model, "none")
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not backbones.frozen_modules(model)


def test_freezing_under_ddp(checkpoints, tmp_path):
    model, _ = backbones.load_classifier(checkpoints["timm"], LABELS, freeze="stages:2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        same = train_step(wrapped)
    finally:
        torch.distributed.destroy_process_group()
    assert not any(module.training for module in backbones.frozen_modules(model))
    assert "module.timm_model.bn1.running_mean" in same and "module.timm_model.layer4.0.bn1.running_mean" not in same


def test_freezing_under_trainer(checkpoints, tmp_path):
    set_seed(0)
    model, processor = backbones.load_classifier(
        checkpoints["timm"], ["circle", "square", "stripes"], freeze="backbone"
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = [
        {"pixel_values": processor(row["image"])["pixel_values"][0], "labels": row["label"]}
        for row in photos()["train"]
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, report_to="none", use_cpu=True, learning_rate=0.1, save_strategy="no"
    )
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"timm_model.fc.weight", "timm_model.fc.bias"}


@pytest.mark.parametrize(
    "plan", ["", "all", "stages", "stages:", "stages:0", "stages:-1", "stages:1.5", "stages:x", "Backbone"]
)
def test_other_plans_are_refused(plan, checkpoints):
    with pytest.raises(InputError, match="none, backbone, or stages:N"):
        backbones.load_classifier(checkpoints["vit"], LABELS, freeze=plan)


@pytest.mark.parametrize("kind", KINDS)
def test_more_stages_than_there_are(kind, checkpoints):
    with pytest.raises(InputError, match=f"stages:1 to stages:{STAGES[kind]}"):
        backbones.load_classifier(checkpoints[kind], LABELS, freeze=f"stages:{STAGES[kind] + 1}")


def test_a_net_of_several_rows_has_no_stages_but_a_backbone():
    config = transformers.PoolFormerConfig(hidden_sizes=[8] * 4, depths=[1] * 4, num_labels=4)
    model = AutoModelForImageClassification.from_config(config)
    with pytest.raises(InputError, match="several rows"):
        backbones.freeze(model, "stages:1")
    backbones.freeze(model, "backbone")
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }
