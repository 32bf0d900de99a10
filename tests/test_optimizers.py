"""Learning rates by part: every parameter in one group, at the rate that its depth says, also after a resume."""

import pytest
import torch
from datasets import DatasetDict
from test_training import arguments
from tiny import KINDS, photos, tiny
from transformers import Trainer, set_seed

from hf_fashion import backbones, training
from hf_fashion.backbones.freezing import head_layers, stages
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify

LABELS = ["circle", "square", "stripes"]
# Stages of the tiny nets, and a weight of the first embeddings, of the last stage and of the norm after it.
PLACES = {
    "vit": (3, "vit.embeddings.cls_token", "vit.layers.2.mlp.fc1.weight", "vit.layernorm.weight"),
    "dinov2": (3, "dinov2.embeddings.cls_token", "dinov2.encoder.layer.2.mlp.fc1.weight", "dinov2.layernorm.weight"),
    "swin": (3, "swin.embeddings.norm.weight", "swin.encoder.layers.2.blocks.1.mlp.fc1.weight", "swin.layernorm.bias"),
    "convnext": (3, "convnext.embeddings.layernorm.bias", "convnext.encoder.stages.2.layers.0.pwconv1.weight",
                 "convnext.layernorm.weight"),
    "resnet": (3, "resnet.embedder.embedder.convolution.weight",
               "resnet.encoder.stages.2.layers.0.layer.0.convolution.weight", None),
    "timm": (4, "timm_model.conv1.weight", "timm_model.layer4.0.conv1.weight", None),
    "timm_vit": (3, "timm_model.cls_token", "timm_model.blocks.2.mlp.fc1.weight", None),  # the norm is in it
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {kind: tiny(kind, tmp_path_factory.mktemp("nets") / kind) for kind in KINDS}


def plain(folder, **changes):
    return arguments(folder, eval_strategy="no", load_best_model_at_end=False, **changes)


def rates(model, groups):
    """Name -> (learning rate, weight decay); fails on a parameter in two groups."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = group["lr"], group["weight_decay"]
    return found


@pytest.mark.parametrize("freeze", ("none", "stages:1", "backbone"))
@pytest.mark.parametrize("kind", KINDS)
def test_every_learning_parameter_is_in_one_group_and_decays_as_in_trainer(kind, freeze, checkpoints, tmp_path):
    model, _ = backbones.load_classifier(checkpoints[kind], LABELS, freeze=freeze)
    groups = training.parameter_groups(
        model, learning_rate=0.1, weight_decay=0.05, head_learning_rate=1.0, layer_decay=0.5
    )
    found = rates(model, groups)
    assert found.keys() == {name for name, value in model.named_parameters() if value.requires_grad}
    theirs = Trainer(model, plain(tmp_path, weight_decay=0.05)).create_optimizer()
    assert {name: decay for name, (_, decay) in found.items()} == {
        name: decay for name, (_, decay) in rates(model, theirs.param_groups).items()
    }
    head = {id(parameter) for layer in head_layers(model) for parameter in layer.parameters()}
    in_head = {name for name, value in model.named_parameters() if id(value) in head}
    assert {name for name, (rate, _) in found.items() if rate == 1.0} == in_head


@pytest.mark.parametrize("kind", PLACES)
def test_rates_fall_from_the_end_to_the_embeddings(kind, checkpoints):
    model, _ = backbones.load_classifier(checkpoints[kind], LABELS)
    count, first, last, norm = PLACES[kind]
    found = rates(model, training.parameter_groups(model, learning_rate=0.1, layer_decay=0.5))
    assert len(stages(model)) == count + 1
    assert found[last][0] == pytest.approx(0.1 * 0.5)
    assert found[first][0] == pytest.approx(0.1 * 0.5 ** (count + 1))
    assert norm is None or found[norm][0] == pytest.approx(0.1)
    head = {id(parameter) for layer in head_layers(model) for parameter in layer.parameters()}
    assert {found[name][0] for name, value in model.named_parameters() if id(value) in head} == {0.1}
    assert len({rate for rate, _ in found.values()}) == count + 2


def test_without_parts_the_groups_are_the_trainers_own(checkpoints, tmp_path):
    model, _ = backbones.load_classifier(checkpoints["swin"], LABELS)
    args = plain(tmp_path, optim="sgd", weight_decay=0.3)
    ours, theirs = training.optimizer(model, args), Trainer(model, args).create_optimizer()
    assert type(ours) is type(theirs)
    assert rates(model, ours.param_groups) == rates(model, theirs.param_groups)


def test_wrong_settings_and_a_net_that_does_not_learn_are_refused(checkpoints, tmp_path):
    model, _ = backbones.load_classifier(checkpoints["vit"], LABELS)
    for name, wrong in (("layer_decay", 0.0), ("layer_decay", 1.5), ("head_learning_rate", -1.0)):
        with pytest.raises(InputError, match=name):
            training.parameter_groups(model, learning_rate=0.1, **{name: wrong})
    with pytest.raises(InputError, match="lomo"):  # makes groups of its own, or is not installed
        training.optimizer(model, plain(tmp_path, optim="lomo"))
    model.requires_grad_(False)
    with pytest.raises(InputError, match="frozen"):
        training.parameter_groups(model, learning_rate=0.1)


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    return photos(train=6, validation=3)


def make(checkpoint, folder, data, **changes):
    set_seed(1)
    model, processor = backbones.load_classifier(checkpoint, LABELS, freeze="stages:1")
    args = arguments(folder, eval_strategy="no", load_best_model_at_end=False, logging_strategy="steps",
                     logging_steps=1, **changes)  # fmt: skip
    return training.FashionTrainer(
        model=model,
        args=args,
        train_dataset=classify.prepare(data["train"], processor, train=True, seed=1),
        optimizers=(training.optimizer(model, args, head_learning_rate=0.05, layer_decay=0.5), None),
    )


@pytest.mark.parametrize("kind", ("swin", "timm"))
def test_the_schedule_scales_every_group_and_a_resume_restores_them(kind, checkpoints, tmp_path, data):
    whole = make(checkpoints[kind], tmp_path / "whole", data, save_strategy="steps", save_steps=4)
    peaks = [group["lr"] for group in whole.optimizer.param_groups]
    shares: list[list[float]] = []
    step = whole.optimizer.step
    whole.optimizer.step = lambda *args, **kwargs: (
        shares.append([group["lr"] / peak for group, peak in zip(whole.optimizer.param_groups, peaks, strict=True)]),
        step(*args, **kwargs),
    )[1]
    start = {name: value.clone() for name, value in whole.model.named_parameters()}
    whole.train()
    assert len(shares) == 9 and len({round(share[0], 9) for share in shares}) > 5
    assert all(value == pytest.approx(share[0]) for share in shares for value in share)
    for name, value in whole.model.named_parameters():
        assert torch.equal(value, start[name]) != value.requires_grad, name
    resumed = make(checkpoints[kind], tmp_path / "resumed", data, save_strategy="no")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    logged = [[log["learning_rate"] for log in trainer.state.log_history if "learning_rate" in log]
              for trainer in (whole, resumed)]  # fmt: skip
    assert logged[0] == logged[1]
