"""The nets of `recipes/configs`: each is fine-tuned, frozen, saved and loaded in its own architecture, made narrow.

The checkpoints have the Hub's files and the nets' own stages and photo size; only their layers are narrow.
"""

import importlib.util
import json
from pathlib import Path

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import photos, slow_but
from transformers import AutoImageProcessor, AutoModelForImageClassification, set_seed

from hf_fashion import backbones, settings, training
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify

_spec = importlib.util.spec_from_file_location(
    "benchmark_backbones", Path(__file__).parents[1] / "benchmarks" / "backbones.py"
)
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)
NETS = benchmark.NETS

# What the layers are made narrow with; those of `LARGE` cannot be, and are random ones of their real size.
_SWIN = {"embed_dim": 24, "depths": [2, 2, 2, 2]}
_VIT = {"hidden_size": 24, "intermediate_size": 48}
NARROW = {
    "swin-tiny": _SWIN,
    "swin-base": _SWIN | {"embed_dim": 32},
    "swinv2-tiny": _SWIN,
    "vit-base": _VIT,
    "dinov2-small": {"hidden_size": 24, "use_mask_token": True},
    "siglip2-base": {
        "vision_config": NETS["siglip2-base"].config["vision_config"] | _VIT | {"vision_use_head": True},
        "text_config": _VIT | {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50000},
    },
    "convnext-tiny": {"hidden_sizes": [8, 16, 32, 64], "layer_scale_init_value": 0.5},
    "resnet50": {"model_args": {"channels": [8, 16, 32, 64], "zero_init_last": False}},
    "vgg16": {"model_args": {"mlp_ratio": 0.01}},
}
LARGE = ("inception-v3", "efficientnet-lite0", "mobilenetv4-small")
# The class that the Hub's checkpoint was saved as, where it is not a classifier.
SAVED_AS = {"vit-base": "ViTModel", "dinov2-small": "Dinov2Model", "siglip2-base": "SiglipModel"}
# preprocessor_config.json, in the old spelling where the Hub's file has it.
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_OLD_VIT = {"feature_extractor_type": "ViTFeatureExtractor", "do_resize": True, "do_normalize": True}
PROCESSORS = {
    "swin-tiny": {**_OLD_VIT, **IMAGENET, "resample": 3, "size": 224},
    "swin-base": {**_OLD_VIT, **IMAGENET, "resample": 3, "size": 224},
    "swinv2-tiny": {
        "image_processor_type": "ViTImageProcessor", **IMAGENET, "resample": 3, "size": {"height": 256, "width": 256}
    },
    "vit-base": {**_OLD_VIT, **HALF, "resample": 2, "size": 224},
    "dinov2-small": {
        "image_processor_type": "BitImageProcessor", **IMAGENET, "resample": 3, "do_center_crop": True,
        "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224},
    },
    "siglip2-base": {
        "image_processor_type": "SiglipImageProcessor", "processor_class": "SiglipProcessor", **HALF, "resample": 2,
        "do_convert_rgb": None, "size": {"height": 224, "width": 224},
    },
    "convnext-tiny": {
        "feature_extractor_type": "ConvNextFeatureExtractor", **IMAGENET, "resample": 3, "crop_pct": 0.875, "size": 224
    },
}  # fmt: skip
SQUASHED = {"swin-tiny", "swin-base", "swinv2-tiny", "vit-base", "siglip2-base"}
# Beginnings of the names of what `stages:1` freezes, and of what `backbone` leaves to learn.
_SWIN_FIRST = ("swin.embeddings.", "swin.encoder.layers.0.")
FIRST = {
    "efficientnet-lite0": ("timm_model.conv_stem.", "timm_model.bn1.", "timm_model.blocks.0."),
    "sample": _SWIN_FIRST,
    "swin-tiny": _SWIN_FIRST,
    "swinv2-tiny": ("swinv2.embeddings.", "swinv2.encoder.layers.0."),
    "vit-base": ("vit.embeddings.", "vit.layers.0."),
    "dinov2-small": ("dinov2.embeddings.", "dinov2.encoder.layer.0."),
    "siglip2-base": ("vision_model.embeddings.", "vision_model.encoder.layers.0."),
    "convnext-tiny": ("convnext.embeddings.", "convnext.encoder.stages.0."),
    "resnet50": ("timm_model.conv1.", "timm_model.bn1.", "timm_model.layer1."),
    "mobilenetv4-small": ("timm_model.conv_stem.", "timm_model.bn1.", "timm_model.blocks.0."),
    "vgg16": ("timm_model.features.0.", "timm_model.features.2."),
    "inception-v3": ("timm_model.Conv2d_1a_3x3.", "timm_model.Conv2d_2a_3x3.", "timm_model.Conv2d_2b_3x3."),
}
HEAD = (
    {"vgg16": "timm_model.head.fc."}
    | dict.fromkeys(("efficientnet-lite0", "mobilenetv4-small"), "timm_model.classifier.")
    | dict.fromkeys(("resnet50", "inception-v3"), "timm_model.fc.")
)


@pytest.fixture(scope="module", autouse=True)
def narrow_vgg():
    """VGG's widths are a list inside timm: a sixteenth of each."""
    whole = timm.models.vgg.cfgs["vgg16"]
    timm.models.vgg.cfgs["vgg16"] = [width if width == "M" else width // 16 for width in whole]
    yield
    timm.models.vgg.cfgs["vgg16"] = whole


@pytest.fixture(scope="module")
def rows():
    return photos(train=1, validation=1, test=1, size=64)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, narrow_vgg):
    """Name -> a folder with the files of that config's checkpoint, made when it is first asked for."""
    root = tmp_path_factory.mktemp("checkpoints")

    def get(name):
        if name == "sample":
            return "sample"
        if not (root / name).is_dir():
            set_seed(0)
            save(name, root / name)
        return str(root / name)

    return get


def save(name, folder):
    values = NETS[name].config | NARROW.get(name, {})
    if name in PROCESSORS:
        config = transformers.AutoConfig.for_model(**values, num_labels=5)
        if name in SAVED_AS:
            getattr(transformers, SAVED_AS[name])(config).save_pretrained(folder)
        else:
            AutoModelForImageClassification.from_config(config).save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[name]))
        return
    # As timm's own repositories are: the tensors by timm's names, and a config.json without transformers' keys.
    args = values.get("model_args", {})
    extra = {"aux_logits": True} if name == "inception-v3" else {}  # the Hub's file holds those tensors
    net = timm.create_model(values["architecture"], **args, **extra)
    for module in net.modules() if name == "inception-v3" else ():  # its own start makes a million of each logit
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    cfg = timm.models.get_pretrained_cfg(NETS[name].checkpoint.removeprefix("timm/"), allow_unregistered=True)
    cfg = cfg.to_dict() if cfg else dict(net.default_cfg)
    raw = {"architecture": values["architecture"], "num_classes": 1000, "pretrained_cfg": cfg, "model_args": args}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    save_file({key: tensor.contiguous() for key, tensor in net.state_dict().items()}, folder / "model.safetensors")


def parse(name, folder, *argv):
    args, training_args, _ = settings.parse_args(
        "classify",
        (classify.Arguments, training.FashionTrainingArguments),
        ["--config", f"classify-{name}", "--output_dir", str(folder), *argv],
        metrics=classify.METRICS,
    )
    return args, training_args


def load(name, checkpoints, plan, full_size=False):
    size = 96 if name in LARGE and not full_size else None  # a tenth of the time
    labels = ["circle", "square", "stripes"]
    return backbones.load_classifier(checkpoints(name), labels, freeze=plan, image_size=size)


def one_step(name, checkpoints, rows, folder):
    """Loads, trains for one step, and gives (model, processor, the names of all tensors that stayed as they were)."""
    args, training_args = parse(
        name, folder, "--freeze", "none", "--max_steps", "1", "--warmup_steps", "0", "--per_device_train_batch_size",
        "2", "--learning_rate", "1e-4", "--weight_decay", "0", "--eval_strategy", "no", "--save_strategy", "no",
        "--load_best_model_at_end", "False", "--use_cpu", "True", "--disable_tqdm", "True",
    )  # fmt: skip
    set_seed(1)
    model, processor = load(name, checkpoints, args.freeze)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    training.FashionTrainer(
        model=model,
        args=training_args,
        train_dataset=classify.prepare(rows["train"], processor, train=True, seed=1),
    ).train()
    return model, processor, {key for key, tensor in model.state_dict().items() if torch.equal(tensor, before[key])}


def bare_step(name, plan, checkpoints, rows):
    """The same step without the Trainer, which takes most of its time; gives (model, names of what stayed)."""
    set_seed(1)
    model, processor = load(name, checkpoints, plan)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    train = classify.prepare(rows["train"], processor, train=True, seed=1)
    examples = [train[row] for row in range(2)]
    model.train()
    pixels = torch.stack([example["pixel_values"] for example in examples])
    model(pixel_values=pixels, labels=torch.tensor([example["labels"] for example in examples])).loss.backward()
    torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=1e-4).step()
    return model, {key for key, tensor in model.state_dict().items() if torch.equal(tensor, before[key])}


def frozen_of(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def names_of(model):
    return {name for name, _ in model.named_parameters()}


# Adam moves whatever has a gradient; a key's bias has none but rounding, since the softmax takes it out.
def still(same):
    return {name for name in same if not name.endswith(("num_batches_tracked", "k_proj.bias", "key.bias"))}


@pytest.mark.parametrize("name", NETS)
def test_the_config_is_one_of_the_recipe_and_of_the_table(name, tmp_path):
    args, training_args = parse(name, tmp_path / "run")
    net = NETS[name]
    assert args.model == net.checkpoint
    assert args.license is None  # of a model that learned from other photos: who owns them says it
    assert 0 < training_args.learning_rate <= 0.01
    if net.checkpoint.startswith("timm/"):
        tag = net.checkpoint.removeprefix("timm/")
        assert tag in timm.list_pretrained()
        cfg = timm.models.get_pretrained_cfg(tag)
        assert (cfg.input_size, cfg.license) == ((3, net.side, net.side), net.license)
        assert cfg.architecture == net.config["architecture"]


def test_every_backbone_of_the_configs_is_in_the_table():
    folder = Path(__file__).parents[1] / "recipes" / "configs"
    stems = {path.stem.removeprefix("classify-").removesuffix("-clothing") for path in folder.glob("classify-*.yaml")}
    assert set(NETS) <= stems


# Millions of parameters with 1,000 classes (results-imagenet.csv of timm; DINOv2: without classes) and GMACs (papers).
PUBLISHED = {
    "efficientnet-lite0": (4.65, 0.41), "swin-tiny": (28.29, 4.5), "swin-base": (87.77, 15.4),
    "swinv2-tiny": (28.35, 5.9), "vit-base": (86.57, 17.6), "dinov2-small": (22.06, None),
    "convnext-tiny": (28.59, 4.5), "resnet50": (25.56, 4.1), "inception-v3": (23.83, 5.7),
    "mobilenetv4-small": (3.77, 0.2),
}  # fmt: skip


@pytest.mark.parametrize("name", slow_but(PUBLISHED, *PUBLISHED.keys() - {"swin-base", "swinv2-tiny", "inception-v3"}))
def test_the_table_counts_what_papers_count(name):
    millions, gmacs = PUBLISHED[name]
    model = benchmark.build(NETS[name].config, 1000)
    count = benchmark.parameters(model)
    if name == "dinov2-small":
        count -= benchmark.parameters(model.classifier)
    assert count / 1e6 == pytest.approx(millions, abs=0.0051)
    if gmacs is not None:
        assert benchmark.macs(model, NETS[name].side) / 1e9 == pytest.approx(gmacs, abs=0.051)


# The larger Swin has the parts of the smaller one, Swin v2 nearly, and MobileNetV4 those of EfficientNet; Inception,
# of its real size, takes as long as six others.
SELDOM = {"swin-base", "swinv2-tiny", "mobilenetv4-small", "inception-v3"}


@pytest.mark.parametrize("name", slow_but(NETS, *NETS.keys() - SELDOM))
def test_one_step_moves_everything_and_what_is_saved_is_what_was_trained(name, checkpoints, rows, tmp_path):
    model, processor, same = one_step(name, checkpoints, rows, tmp_path / "run")
    # A parameter that no step reaches would also stop a run on several GPUs.
    assert not frozen_of(model) and not still(same)

    spec = backbones.input_spec(load(name, checkpoints, "none", full_size=True)[1] if name in LARGE else processor)
    assert (spec.height, spec.width) == (NETS[name].side, NETS[name].side)
    assert spec.resize == ("squash" if name in SQUASHED else "crop")

    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    bare, info = AutoModelForImageClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info.values())
    state = model.state_dict()
    assert bare.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in bare.state_dict().items())
    again = AutoImageProcessor.from_pretrained(tmp_path / "saved", backend="torchvision")
    photo = rows["test"][0]["image"]
    pixels = processor(photo, return_tensors="pt")["pixel_values"]
    assert torch.equal(again(photo, return_tensors="pt")["pixel_values"], pixels)
    with torch.no_grad():
        torch.testing.assert_close(bare.eval()(pixels).logits, model.eval()(pixels).logits, rtol=0, atol=1e-5)


# What depends on the parts alone; the larger Swin has those of the smaller one.
PARTS = [name for name in NETS if name != "swin-base"]


# `backbone` freezes what the stages, counted below, freeze together: here one net with batch norms and one without.
PLANS = [("stages:1", name) for name in PARTS if name not in SELDOM]
PLANS += [("backbone", name) for name in ("efficientnet-lite0", "swin-tiny")]
SLOW = [(plan, name) for plan in ("backbone", "stages:1") for name in PARTS if (plan, name) not in PLANS]


@pytest.mark.parametrize(("plan", "name"), [*PLANS, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_what_a_plan_freezes_stays_and_the_rest_learns(name, plan, checkpoints, rows):
    model, same = bare_step(name, plan, checkpoints, rows)
    head = HEAD.get(name, "classifier.")
    if plan == "backbone":
        expected = {key for key in names_of(model) if not key.startswith(head)}
    else:
        expected = {key for key in names_of(model) if key.startswith(FIRST[name])}
    assert frozen_of(model) == expected and 0 < len(expected) < len(names_of(model))
    buffers = {key for key in model.state_dict() if key not in names_of(model)}
    of_frozen = {key for key in buffers if f"{key.rpartition('.')[0]}.weight" in expected}
    assert expected | of_frozen <= same
    assert not still(same) - expected - of_frozen


@pytest.mark.parametrize("name", NETS)
def test_as_many_stages_as_the_table_says_are_the_whole_backbone(name, checkpoints):
    model, _ = load(name, checkpoints, f"stages:{NETS[name].stages}")
    assert names_of(model) - frozen_of(model) == {
        key for key in names_of(model) if key.startswith(HEAD.get(name, "classifier."))
    }
    backbones.freeze(model, f"stages:{NETS[name].stages - 1}")
    assert len(names_of(model) - frozen_of(model)) > 2
    with pytest.raises(InputError, match=f"stages:1 to stages:{NETS[name].stages}:"):
        backbones.freeze(model, f"stages:{NETS[name].stages + 1}")


@pytest.mark.parametrize(
    ("name", "plan", "learning"),
    [
        ("vgg16", None, {"features.24", "features.26", "features.28", "pre_logits.fc1", "pre_logits.fc2", "head.fc"}),
        ("vgg16", "stages:12", {"pre_logits.fc1", "pre_logits.fc2", "head.fc"}),
        ("inception-v3", None, {"Mixed_7b", "Mixed_7c", "fc"}),
        ("resnet50", None, {"layer2", "layer3", "layer4", "fc"}),
    ],
)
def test_what_the_freezing_configs_leave_to_learn(name, plan, learning, checkpoints, tmp_path):
    args, _ = parse(name, tmp_path / "run")
    model, _ = load(name, checkpoints, plan or args.freeze)
    depth = 2 if name == "vgg16" else 1
    parts = {".".join(key.split(".")[1 : 1 + depth]) for key in names_of(model) - frozen_of(model)}
    assert parts == learning


def test_siglip_keeps_the_vision_tower_and_no_more(checkpoints, tmp_path):
    """The Hub's checkpoint holds two towers, and a pooling head that no classifier calls."""
    whole = load_file(Path(checkpoints("siglip2-base")) / "model.safetensors")
    assert any(key.startswith("text_model.") for key in whole) and "vision_model.head.probe" in whole
    model, processor = load("siglip2-base", checkpoints, "none")
    assert type(model) is transformers.SiglipForImageClassification
    assert type(processor) is transformers.SiglipImageProcessor
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    tower = {key for key in whole if key.startswith("vision_model.") and ".head." not in key}
    assert saved.keys() - tower == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(saved[key], whole[key]) for key in tower)

    # The logits are those of the net with that head.
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config.vision_config.vision_use_head = True
    other = AutoModelForImageClassification.from_pretrained(tmp_path, config=config)
    assert other.vision_model.head is not None
    pixels = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(other.eval()(pixels).logits, model.eval()(pixels).logits)


def test_the_auxiliary_classifier_of_inception_is_neither_made_nor_saved(checkpoints, tmp_path):
    """torchvision's weights hold one, for 1,000 classes: made anew, it would be random, and saved."""
    whole = load_file(Path(checkpoints("inception-v3")) / "model.safetensors")
    assert "AuxLogits.fc.weight" in whole
    model, _ = load("inception-v3", checkpoints, "none")
    assert model.timm_model.AuxLogits is None
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert not [key for key in saved if "AuxLogits" in key]
    kept = {key for key in whole if not key.startswith(("AuxLogits.", "fc."))}
    assert kept == {key for key in saved if not key.startswith("fc.")}
    assert all(torch.equal(saved[key], whole[key]) for key in kept)
