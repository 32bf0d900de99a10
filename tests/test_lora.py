"""LoRA: the right layers learn, all else stays, a run can be resumed, and the merged net is a plain one."""

import sys

import pytest
import torch
from datasets import DatasetDict
from test_training import arguments
from tiny import KINDS as TINY
from tiny import photos, save, slow_but, tiny
from transformers import (
    AutoModelForImageClassification,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipImageProcessor,
    set_seed,
)

from hf_fashion import backbones, training
from hf_fashion.backbones.freezing import head_layers
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify

pytest.importorskip("peft")
LABELS = ["circle", "square", "stripes"]
KINDS = (*TINY, "siglip")
# Layers of the tiny nets that get small matrices: attention layers times projections, or what else there is.
COUNTS = {"vit": 3 * 4, "deit": 3 * 4, "beit": 3 * 4, "dinov2": 3 * 4, "swin": 4 * 4, "swinv2": 4 * 4,
          "convnext": 3 * 2 + 2, "resnet": 3 * 3 + 2, "timm": 4 * 3, "timm_vit": 3 * 2,
          "siglip": 3 * 4}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    return photos(train=6, validation=3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    made = {kind: tiny(kind, tmp_path_factory.mktemp("nets") / kind) for kind in TINY}
    return made | {"siglip": siglip(tmp_path_factory.mktemp("nets"))}


def siglip(folder):
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    vision = sizes | {"image_size": 32, "patch_size": 8, "vision_use_head": False}
    config = SiglipConfig(vision_config=vision, text_config=sizes | {"vocab_size": 50}, num_labels=3)
    return save(SiglipForImageClassification(config), SiglipImageProcessor(size={"height": 32, "width": 32}), folder)


def make(checkpoint, folder, data, *, dropout=0.0, metric=None, **changes):
    set_seed(1)
    model, processor = backbones.load_classifier(checkpoint, LABELS)
    return training.FashionTrainer(
        model=training.add_lora(model, rank=4, alpha=8, dropout=dropout),
        args=arguments(folder, **changes),
        processing_class=processor,
        train_dataset=classify.prepare(data["train"], processor, train=True, seed=1),
        eval_dataset=classify.prepare(data["validation"], processor),
        compute_metrics=metric or classify.metrics(LABELS),
        compute_loss_func=training.classification_loss(),
    )


def with_matrices(model):
    return {name.split(".lora_A")[0] for name, _ in model.named_modules() if name.endswith("lora_A")}


# One of each way of attention or convolution, and of each library.
@pytest.mark.parametrize("kind", slow_but(KINDS, "vit", "swin", "convnext", "resnet", "timm", "siglip"))
def test_the_matrices_and_the_head_learn_and_the_merged_net_is_plain(kind, checkpoints, tmp_path, data):
    trainer = make(checkpoints[kind], tmp_path, data, eval_strategy="no", save_strategy="no", num_train_epochs=2,
                   load_best_model_at_end=False)  # fmt: skip
    set_seed(1)
    original, _ = backbones.load_classifier(checkpoints[kind], LABELS)
    pixels = torch.stack([trainer.eval_dataset[row]["pixel_values"] for row in range(4)])
    with torch.no_grad():
        assert torch.allclose(trainer.model.eval()(pixel_values=pixels).logits, original(pixels).logits, atol=1e-6)
    start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    for name, value in trainer.model.state_dict().items():
        learns = "lora_" in name or "modules_to_save" in name
        assert torch.equal(value, start[name]) != learns, name  # batch statistics too
    assert all("lora_" in name or "modules_to_save" in name
               for name, value in trainer.model.named_parameters() if value.requires_grad)  # fmt: skip

    with torch.no_grad():
        truth = trainer.model.eval()(pixel_values=pixels).logits
    net = training.merge(trainer.model)
    assert type(net) is type(original) and not net.training
    assert net.state_dict().keys() == original.state_dict().keys()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, original.state_dict()[name])}
    head = {id(parameter) for layer in head_layers(net) for parameter in layer.parameters()}
    assert {name for name, value in net.named_parameters() if id(value) in head} < moved
    assert len(moved) >= COUNTS[kind] and not torch.allclose(truth, original(pixels).logits, atol=1e-3)
    net.save_pretrained(tmp_path / "merged")
    plain = AutoModelForImageClassification.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        assert torch.allclose(plain(pixels).logits, truth, atol=1e-5)
    measured = torch.as_tensor(trainer.predict(trainer.eval_dataset).predictions)
    assert torch.allclose(measured[:4], plain(pixels).logits, atol=1e-5)  # what is measured is what was merged


@pytest.mark.parametrize("kind", slow_but(("vit", "swin", "resnet", "timm"), "timm"))
def test_a_resumed_run_is_the_unbroken_one_and_the_best_model_comes_back(kind, checkpoints, tmp_path, data):
    falls = iter(range(100, 0, -1))
    whole = make(checkpoints[kind], tmp_path / "whole", data, dropout=0.2, save_total_limit=None,
                 load_best_model_at_end=False)  # fmt: skip
    whole.train()
    resumed = make(checkpoints[kind], tmp_path / "resumed", data, dropout=0.2, load_best_model_at_end=False)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    best = make(checkpoints[kind], tmp_path / "best", data, dropout=0.2, save_total_limit=1,
                metric=lambda prediction: {"accuracy": next(falls)})  # fmt: skip
    best.train()
    assert best.state.best_model_checkpoint.endswith("checkpoint-3")
    first = make(checkpoints[kind], tmp_path / "first", data, dropout=0.2, save_strategy="no",
                 load_best_model_at_end=False)  # fmt: skip
    first.model.load_adapter(str(tmp_path / "whole" / "checkpoint-3"), "default")
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, best.model.state_dict()[name]), name


def test_the_base_stays_in_eval_mode_and_the_dropout_of_the_matrices_does_not(checkpoints):
    model = training.add_lora(backbones.load_classifier(checkpoints["swin"], LABELS)[0], 4, 8, dropout=0.5)
    model.train()
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(pixel_values=pixels).logits, model(pixel_values=pixels).logits)
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.fill_(0.5)
        assert not torch.equal(model(pixel_values=pixels).logits, model(pixel_values=pixels).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_that_should_get_matrices_and_head_and_stages_can_have_rates_of_their_own(kind, checkpoints):
    model = training.add_lora(backbones.load_classifier(checkpoints[kind], LABELS)[0], 4, 8)
    assert len(with_matrices(model)) == COUNTS[kind], with_matrices(model)
    groups = training.parameter_groups(model, learning_rate=0.1, head_learning_rate=1.0, layer_decay=0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(learning)
    for name, value in learning.items():
        assert ("modules_to_save" in name) == (rates[id(value)] == 1.0), name
    assert len(set(rates.values())) > 3 and max(rates.values()) == 1.0 and 0.05 in rates.values()


def test_a_checkpoint_asks_no_hub_for_the_base(checkpoints, tmp_path, monkeypatch):
    import huggingface_hub
    import peft.utils.save_and_load

    def ask(*_args, **_kwargs):
        raise AssertionError("asked")

    model, _ = backbones.load_classifier(checkpoints["vit"], LABELS)
    model.name_or_path = model.config.name_or_path = "somebody/net"
    monkeypatch.setattr(huggingface_hub, "file_exists", ask)
    monkeypatch.setattr(peft.utils.save_and_load, "check_file_exists_on_hf_hub", ask)
    wrapped = training.add_lora(model, 4, 8)
    for _ in range(2):  # peft would fill the name in at the first save, and ask at the second
        wrapped.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()


def test_a_missing_package_and_wrong_values_are_answered(checkpoints, monkeypatch):
    model, _ = backbones.load_classifier(checkpoints["vit"], LABELS)
    for wrong in ({"rank": 0}, {"alpha": 0}, {"dropout": 1.0}):
        with pytest.raises(InputError, match="lora_" + next(iter(wrong))):
            training.add_lora(model, **{"rank": 4, "alpha": 8} | wrong)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"hf_fashion\[lora\]"):
        training.add_lora(model, 4, 8)
