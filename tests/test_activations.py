"""Activations behind frozen stages, computed once: the net learns on them as it does on photos, to the bit."""

import shutil

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from processes import several
from safetensors.torch import load_file
from tiny import batch, photos, slow_but, tiny, undrawn  # noqa: F401 (a fixture)
from torch import nn
from transformers import AutoModelForImageClassification, set_seed

from hf_fashion import backbones, record
from hf_fashion.recipes import classify as recipe
from hf_fashion.tasks import classify
from hf_fashion.training import FashionTrainer, FashionTrainingArguments, activations
from hf_fashion.training.activations import Activations, NoCut, held_for
from hf_fashion.training.features import Kept

# A net, its freeze plan, and the module that is given what is kept.
CUTS = [
    ("vit", "stages:2", "vit.layers.2"),
    ("swin", "stages:1", "swin.encoder.layers.1"),
    ("timm", "stages:3", "timm_model.layer4"),
    ("efficientnet", "stages:3", "timm_model.blocks.3"),
]
MORE = [
    ("vit", "stages:3", "classifier"), ("beit", "stages:1", "beit.layers.1"),
    ("swinv2", "stages:2", "swinv2.encoder.layers.2"), ("dinov2", "stages:1", "dinov2.encoder.layer.1"),
    ("convnext", "stages:2", "convnext.encoder.stages.2"), ("resnet", "stages:1", "resnet.encoder.stages.1"),
    ("timm_vit", "stages:2", "timm_model.blocks.2"),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("activations")
    photos().save_to_disk(place / "photos")
    for kind in {kind for kind, *_ in CUTS + MORE} - {"efficientnet"}:
        torch.manual_seed(0)
        tiny(kind, place / kind)
    return place


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_FASHION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def loaded(place, kind, plan):
    set_seed(0)
    names = DatasetDict.load_from_disk(place / "photos")["train"].features["label"].names
    if kind != "efficientnet":
        return backbones.load_classifier(place / kind, names, freeze=plan)
    return backbones.load_classifier("efficientnet-lite0", names, freeze=plan, image_size=32)


def arguments(folder, **more):
    plain = {
        "num_train_epochs": 2, "per_device_train_batch_size": 5, "use_cpu": True, "disable_tqdm": True,
        "save_strategy": "no", "report_to": "none", "learning_rate": 1e-2, "eval_strategy": "epoch",
        "load_best_model_at_end": False,
    }  # fmt: skip
    return FashionTrainingArguments(output_dir=str(folder), **plain | more)


def trained(place, kind, plan, folder, cached, rows=15, **more):
    """The weights after two epochs, what was logged, and the activations."""
    model, processor = loaded(place, kind, plan)
    parts = DatasetDict.load_from_disk(place / "photos")
    train, evaluated = parts["train"].select(range(rows)), parts["validation"].select(range(6))
    args = arguments(folder, **more)
    held, seen = None, {}
    if cached:
        held, seen, reason = held_for(
            model, processor, args, classify.prepare(train, processor), classify.prepare(evaluated, processor)
        )
        assert held is not None, reason
    learned = classify.prepare(
        train, processor, train=True, smallest_crop=1.0, flip=False, features=seen.get("train")
    )  # fmt: skip
    measured = classify.prepare(evaluated, processor, features=seen.get("validation"))
    trainer = FashionTrainer(
        model=model, args=args, train_dataset=learned, eval_dataset=measured,
        compute_metrics=classify.metrics(train.features["label"].names),
    )  # fmt: skip
    set_seed(1)
    if held is None:
        trainer.train()
    else:
        with held.taken(trainer):
            trainer.train()
        # accelerate lays its autocast over the whole net's.
        assert not any("forward" in module.__dict__ for module in model.modules() if module is not model)
    logged = [{name: value for name, value in entry.items() if "loss" in name} for entry in trainer.state.log_history]
    return {name: value.clone() for name, value in model.state_dict().items()}, logged, held


@pytest.mark.parametrize(
    ("kind", "plan", "cut"), [*CUTS, *(pytest.param(*more, marks=pytest.mark.slow) for more in MORE)]
)
def test_the_net_is_the_same_to_the_bit(place, tmp_path, kind, plan, cut):
    start = loaded(place, kind, plan)[0].state_dict()
    plain, before, _ = trained(place, kind, plan, tmp_path, cached=False)
    again, after, held = trained(place, kind, plan, tmp_path, cached=True)
    assert held.cut.name == cut
    assert not [name for name in plain if not torch.equal(plain[name], again[name])] and before == after
    assert all("loss" in str(entry) for entry in after[:2])
    assert any(name.startswith(cut) and not torch.equal(plain[name], start[name]) for name in plain)
    if kind == "vit":  # whose kernels do not differ by the size of the last batch
        pair = [trained(place, kind, plan, tmp_path, cached=cached, rows=17) for cached in (False, True)]
        assert pair[1][2].kept.exact and all(
            torch.equal(value, pair[1][0][name]) for name, value in pair[0][0].items()
        )


@pytest.mark.parametrize("kind", slow_but(["vit", "swin", "timm_vit"], "vit", "swin"))
def test_in_bfloat16(place, tmp_path, kind):
    plain, before, _ = trained(place, kind, "stages:1", tmp_path, cached=False, bf16=True)
    again, after, held = trained(place, kind, "stages:1", tmp_path, cached=True, bf16=True)
    assert not [name for name in plain if not torch.equal(plain[name], again[name])] and before == after
    assert held.cut.dtype == (torch.bfloat16 if kind == "swin" else torch.float32)  # as the net itself gives them


@pytest.mark.parametrize("kind", slow_but(["vit", "timm_vit", "swin"], "vit", "timm_vit"))
def test_with_activation_checkpointing_and_steps_of_several_batches(place, tmp_path, kind):
    more = {"activation_checkpointing": True, "gradient_accumulation_steps": 2}
    plain, *_ = trained(place, kind, "stages:1", tmp_path, cached=False, **more)
    again, *_ = trained(place, kind, "stages:1", tmp_path, cached=True, **more)
    assert not [name for name in plain if not torch.equal(plain[name], again[name])]


def run(place, folder, *more):
    plain = ["--freeze", "stages:2", "--smallest_crop", "1", "--no_flip", "--num_train_epochs", "2"]
    plain += ["--per_device_train_batch_size", "5", "--learning_rate", "1e-2", "--use_cpu", "True"]
    named = ["--model", str(place / "vit"), "--dataset", str(place / "photos"), "--output_dir", str(folder)]
    return recipe.main([*named, *plain, "--disable_tqdm", "True", *more])


@pytest.mark.usefixtures("undrawn")
def test_whole_runs(place, tmp_path, capsys, kept, monkeypatch):
    run(place, tmp_path / "plain", "--feature_cache", "off")
    assert not kept.exists()
    run(place, tmp_path / "cached", "--save_total_limit", "9")
    assert "activations before vit.layers.2 (" in (told := capsys.readouterr().out) and "the same, to the bit" in told
    made = []
    monkeypatch.setattr(Kept, "_make", lambda *args: made.append(args))
    run(place, tmp_path / "again", "--learning_rate", "3e-3", "--sampler", "balanced", "--photo_cache", "64")
    assert not made and "to the bit" in capsys.readouterr().out
    plain, cached = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "cached"))
    assert plain.keys() == cached.keys() and all(torch.equal(plain[name], cached[name]) for name in plain)
    one, two = (record.read(tmp_path / name) for name in ("plain", "cached"))
    assert one.results == two.results and two.info["feature_cache"]["exact"]
    for before, after in zip(one.info["history"], two.info["history"], strict=True):
        for name in before.keys() - {"total_flos"}:
            assert before[name] == after[name] or "second" in name or "runtime" in name
    whole = AutoModelForImageClassification.from_pretrained(tmp_path / "cached")  # bare
    assert whole(batch()).logits.shape == (6, 3)
    last = max((tmp_path / "cached").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    shutil.rmtree(last)
    recipe.main(["--output_dir", str(tmp_path / "cached"), "--resume_from_checkpoint", "last"])
    resumed = load_file(tmp_path / "cached" / "model.safetensors")
    assert all(torch.equal(plain[name], resumed[name]) for name in plain)


@pytest.mark.slow
def test_two_processes(place, tmp_path, kept):
    torch.set_num_threads(1)
    named = ["--model", str(place / "vit"), "--dataset", str(place / "photos"), "--freeze", "stages:2"]
    plain = ["--smallest_crop", "1", "--no_flip", "--num_train_epochs", "2", "--per_device_train_batch_size", "4"]
    for mode in ("off", "auto"):
        words = [*named, *plain, "--use_cpu", "True", "--output_dir", str(tmp_path / mode), "--feature_cache", mode]
        assert several(2, ["python", recipe.__file__, *words], tmp_path, tmp_path / "told") == [0, 0]
    assert (tmp_path / "told").read_text().count("activations before vit.layers.2") == 1
    assert len(list(kept.iterdir())) == 2
    off, auto = (load_file(tmp_path / mode / "model.safetensors") for mode in ("off", "auto"))
    assert all(torch.equal(off[name], auto[name]) for name in off)


def of(place, tmp_path, kind, plan, **more):
    model, processor = loaded(place, kind, plan)
    parts = DatasetDict.load_from_disk(place / "photos")
    prepared = [classify.prepare(parts[split], processor) for split in ("train", "validation")]
    return model, processor, arguments(tmp_path, **more), prepared


def changed(model, how):
    """Makes a net one of which the frozen stages cannot, or must not, be computed once."""
    layers = model.vit.layers
    plain = {name: layers[number].forward for name, number in (("last", 2), ("first", 0))}
    if how == "dropout":  # that `freeze` does not hold in eval mode, as it has no module

        def first(states, *args, **named):
            return nn.functional.dropout(plain["first"](states, *args, **named), 0.1)

        layers[0].forward = first
    elif how == "statistics":

        def first(states, *args, **named):
            return plain["first"](states, *args, **named) * (2 if model.training else 1)

        layers[0].forward = first
    elif how == "skip":  # U-Net
        kept = []
        layers[0].register_forward_hook(lambda _, given, told: kept.append(told))

        def last(states, *args, **named):
            return plain["last"](states, *args, **named) + kept.pop()

        layers[2].forward = last
    elif how == "twice":
        again = layers[0]

        def last(states, *args, **named):
            return plain["last"](again(states), *args, **named)

        layers[2].forward = last
    elif how == "another parameter":  # learns before the cut, in no module of its own
        model.prompt = nn.Parameter(torch.zeros(16))
        layers[0].register_forward_hook(lambda _, given, told: told + model.prompt)
    elif how == "two tensors":
        layers[2].register_forward_pre_hook(lambda _, given: (given[0], given[0].clone()))
        layers[2].forward = lambda states, other, **named: plain["last"](states + other)


@pytest.mark.parametrize(("how", "reason"), [
    ("dropout", "drawn at random"), ("statistics", "is another while it learns"), ("skip", "is not all that reads"),
    ("twice", "runs more than once"), ("another parameter", "is not all that reads"),
    ("two tensors", "is given 2 tensors"),
])  # fmt: skip
def test_nets_that_cannot_be_cut_are_told(place, tmp_path, kept, how, reason):
    model, processor, args, prepared = of(place, tmp_path, "vit", "stages:2")
    changed(model, how)
    held, seen, told = held_for(model, processor, args, *prepared)
    assert held is None and not seen and reason in told and not kept.exists()


def test_nothing_is_frozen(place, tmp_path):
    model, processor, args, _ = of(place, tmp_path, "vit", "none")
    with pytest.raises(NoCut, match="no frozen stage"):
        Activations(model, processor, args, torch.Size((3, 32, 32)))


def test_where_it_pays(place, tmp_path, kept, monkeypatch):
    model, processor, args, prepared = of(place, tmp_path, "vit", "stages:2", num_train_epochs=1)
    assert "in 1 epochs" in held_for(model, processor, args, *prepared)[2]
    args = arguments(tmp_path)
    monkeypatch.setenv("HF_FASHION_CACHE_GB", "1e-6")
    assert "HF_FASHION_CACHE_GB" in held_for(model, processor, args, *prepared)[2]
    monkeypatch.delenv("HF_FASHION_CACHE_GB")
    monkeypatch.setattr(activations, "_DISK", 10.0)
    assert "it does not pay" in held_for(model, processor, args, *prepared)[2]
    assert not kept.exists()
    monkeypatch.undo()
    assert "compiled" in held_for(model, processor, arguments(tmp_path, torch_compile=True), *prepared)[2]


def test_batch_norms_that_learn_do_not_count_the_proof(place, tmp_path):
    model, processor, args, prepared = of(place, tmp_path, "timm", "stages:2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert held_for(model, processor, args, *prepared)[0] is not None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_changes_the_activations_changes_their_name(place, tmp_path, kept):
    model, processor, args, (train, _) = of(place, tmp_path, "timm", "stages:2")

    def names():
        Activations(model, processor, args, torch.Size((3, 32, 32))).kept.of(train, 4, in_order=False)
        return len(list(kept.iterdir()))

    assert names() == 1
    with torch.no_grad():
        model.timm_model.layer3[0].conv1.weight.add_(1)  # learns: its own affair
    assert names() == 1
    with torch.no_grad():
        model.timm_model.layer2[0].bn1.running_mean.add_(1)
    assert names() == 2
    with torch.no_grad():
        model.timm_model.conv1.weight.add_(1)
    assert names() == 3
    backbones.freeze(model, "stages:1")
    assert names() == 4


@pytest.mark.parametrize("kind", ["vit", "swin", "timm"])
def test_what_is_frozen_does_not_run(place, tmp_path, kind):
    model, processor, args, (train, _) = of(place, tmp_path, kind, "stages:2")
    held = Activations(model, processor, args, torch.Size((3, 32, 32)))
    shown = torch.from_numpy(np.array(held.kept.of(train, 4, in_order=False)[:5]))
    # Those that are passed over are called, and give nothing; what is in them is not called.
    passed = [module for module, _ in held.cut.before]
    frozen = [
        module for module in model.modules() if module not in passed and isinstance(module, nn.Conv2d | nn.Linear)
    ]
    frozen = [module for module in frozen if not module.weight.requires_grad]
    ran = []
    for module in frozen:
        module.register_forward_hook(lambda *_: ran.append(1))
    model.eval()
    with torch.no_grad(), held.taken():
        told = model(features=shown).logits
        assert not ran and frozen
        plain = model(pixel_values=train[:5]["pixel_values"]).logits  # photos are taken as ever
        assert ran and torch.equal(plain, told)
    with torch.no_grad():
        assert torch.equal(model(pixel_values=train[:5]["pixel_values"]).logits, told)


def test_they_are_kept_as_they_are(place, tmp_path):
    model, processor, args, _ = of(place, tmp_path, "timm", "stages:1", bf16=True)
    held = Activations(model, processor, args, torch.Size((3, 32, 32)))
    seen = held.seen(batch())
    stored = held.stored(seen)
    assert stored.dtype == np.int16 and stored.shape == tuple(seen.shape[place] for place in (0, 2, 3, 1))
    again = held.restored(torch.from_numpy(stored))
    assert torch.equal(again, seen) and again.stride() == seen.stride() and again.dtype == torch.bfloat16
