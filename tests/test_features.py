"""Features of a frozen backbone, computed once: the head that learns on them is the one that learns on photos."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import photos, slow_but, tiny, undrawn  # noqa: F401 (a fixture)

from hf_fashion import backbones, cache, examples, record
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe
from hf_fashion.tasks import classify
from hf_fashion.training import FashionTrainingArguments, features
from hf_fashion.training.features import Features, Kept, held_for, reason_against


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("features")
    photos().save_to_disk(place / "photos")
    for kind in ("swin", "vit", "convnext", "timm"):
        torch.manual_seed(0)
        tiny(kind, place / kind)
    return place


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_FASHION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(place, folder, kind, *more):
    plain = ["--freeze", "backbone", "--smallest_crop", "1", "--no_flip", "--num_train_epochs", "3"]
    plain += ["--per_device_train_batch_size", "5", "--learning_rate", "1e-2", "--use_cpu", "True"]
    named = ["--model", str(place / kind), "--dataset", str(place / "photos"), "--output_dir", str(folder)]
    return recipe.main([*named, *plain, "--disable_tqdm", "True", *more])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("kind", slow_but(["swin", "vit", "timm"], "swin", "timm"))
def test_the_head_is_the_same_to_the_bit(place, tmp_path, kind, capsys, kept):
    run(place, tmp_path / "plain", kind, "--feature_cache", "off")
    assert not kept.exists()
    run(place, tmp_path / "cached", kind)
    assert "photos are computed once; the same, to the bit" in capsys.readouterr().out
    plain, cached = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "cached"))
    start = load_file(place / kind / "model.safetensors")
    assert plain.keys() == cached.keys() and all(torch.equal(plain[name], cached[name]) for name in plain)
    assert any(not torch.equal(plain[name], start[name]) for name in plain if name in start) or start.keys() != plain
    one, two = (record.read(tmp_path / name) for name in ("plain", "cached"))
    assert one.results == two.results
    for before, after in zip(one.info["history"], two.info["history"], strict=True):
        for name in before.keys() - {"total_flos"}:
            assert before[name] == after[name] or "second" in name or "runtime" in name
    sizes = one.info["dataset"]["sizes"]
    count = sizes["train"] + sizes["validation"]
    assert two.info["feature_cache"] == {"photos": count, "exact": True, "of": "features"}


@pytest.mark.usefixtures("undrawn")
def test_a_second_run_looks_at_no_photo(place, tmp_path, monkeypatch):
    run(place, tmp_path / "first", "vit")
    seen = []
    monkeypatch.setattr(Kept, "_make", lambda *args: seen.append(args))
    run(place, tmp_path / "second", "vit", "--learning_rate", "3e-3", "--sampler", "balanced")
    assert not seen


@pytest.mark.usefixtures("undrawn")
def test_a_run_goes_on_from_a_checkpoint(place, tmp_path):
    import shutil

    run(place, tmp_path / "run", "vit", "--save_total_limit", "9")
    whole = load_file(tmp_path / "run" / "model.safetensors")
    for folder in sorted((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))[1:]:
        shutil.rmtree(folder)
    recipe.main(["--output_dir", str(tmp_path / "run"), "--resume_from_checkpoint", "last"])
    again = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def prepared(place, kind, **changes):
    from datasets import DatasetDict

    dataset = DatasetDict.load_from_disk(place / "photos")
    torch.manual_seed(0)
    names = dataset["train"].features["label"].names
    model, processor = backbones.load_classifier(place / kind, names, freeze="backbone", **changes)
    return model, processor, [classify.prepare(dataset[split], processor) for split in ("train", "validation")]


def arguments(tmp_path, **more):
    return FashionTrainingArguments(output_dir=str(tmp_path / "x"), use_cpu=True, disable_tqdm=True, **more)


def test_what_changes_the_features_changes_their_name(place, tmp_path, kept):
    model, processor, (train, _) = prepared(place, "vit")
    args = arguments(tmp_path)
    Features(model, processor, args).kept.of(train, 4, in_order=False)
    assert len(list(kept.iterdir())) == 1
    with torch.no_grad():
        model.classifier.weight.add_(1)  # the head's own
    Features(model, processor, args).kept.of(train, 4, in_order=False)
    assert len(list(kept.iterdir())) == 1
    with torch.no_grad():
        next(model.base_model.parameters()).add_(1)
    Features(model, processor, args).kept.of(train, 4, in_order=False)
    processor.image_mean = [0.1, 0.2, 0.3]
    Features(model, processor, args).kept.of(train, 4, in_order=False)
    Features(model, processor, args).kept.of(train.select(range(6)), 4, in_order=False)
    Features(model, processor, args).kept.of(train, 3, in_order=False)
    assert len(list(kept.iterdir())) == 5


def test_nets_whose_head_sees_something_new_each_time_are_told(place, tmp_path):
    model, processor, parts = prepared(place, "vit")
    model.classifier = torch.nn.Sequential(torch.nn.Dropout(0.5), model.classifier)
    held, seen, reason = held_for(model, processor, arguments(tmp_path), *parts)
    assert held is None and not seen and "changes while it learns" in reason
    model, *_ = prepared(place, "swin")
    backbones.freeze(model, "stages:1")
    assert "parts of the backbone learn" in reason_against(model)


@pytest.mark.parametrize(("crop", "flip", "policy", "fixed"), [
    (1.0, False, "none", True), (0.9, False, "none", False), (1.0, True, "none", False),
    (1.0, False, "randaugment", False),
])  # fmt: skip
def test_photos_that_are_shown_alike(place, crop, flip, policy, fixed):
    assert examples.is_fixed(crop, flip, policy) == fixed
    if fixed:
        _, processor, (train, _) = prepared(place, "vit")
        plain = train.with_format(None)
        shown = classify.prepare(plain, processor, train=True, smallest_crop=crop, flip=flip, policy=policy)
        assert torch.equal(shown[3]["pixel_values"], torch.as_tensor(train[3]["pixel_values"]))


def test_the_cache_is_bounded_and_whole_or_not_there(kept, monkeypatch):
    monkeypatch.setenv("HF_FASHION_CACHE_GB", str(3000 / 2**30))
    for number in range(3):
        cache.make(f"array{number}", (250,), np.float32, lambda array, number=number: array.fill(number))
        assert cache.held("array0") is not None or number == 2
        if number == 1:
            import os

            os.utime(kept / "array0.npy", (1, 1))
    assert {path.stem for path in kept.iterdir()} == {"array1", "array2"}  # what was used least lately went
    with pytest.raises(RuntimeError):
        cache.make("broken", (10,), np.float32, lambda array: (_ for _ in ()).throw(RuntimeError("x")))
    assert cache.held("broken") is None and len(list(kept.iterdir())) == 2
    with pytest.raises(InputError, match="at most"):
        cache.make("large", (2500,), np.float32, lambda array: None)
    monkeypatch.setenv("HF_FASHION_CACHE_GB", "many")
    with pytest.raises(InputError, match="a number of gigabytes"):
        cache.make("any", (1,), np.float32, lambda array: None)


def test_features_of_a_gpu_that_rounds_otherwise_are_others(place, monkeypatch):
    """`--tf32 False` computes with more bits than the default: what one run kept is not what the other computes."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    model, processor, _ = prepared(place, "vit")

    def told(tf32, device="cuda"):
        args = SimpleNamespace(device=torch.device(device), mixed_precision="no", tf32=tf32)
        return features.about(model, processor, args, {})

    assert told(True) != told(False) and told(True) == told(True)
    assert told(True, "cpu") == told(False, "cpu")
