"""The Trainer's repairs: every tensor comes back, a run repeats itself, a NaN ends it."""

import json

import pytest
import torch
from datasets import DatasetDict
from tiny import KINDS, photos, slow_but, tiny
from transformers import AutoModelForImageClassification, Trainer, set_seed

from hf_fashion import backbones, training
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify

# Families whose checkpoints keep older tensor names (TRAPS 1); the others are loaded right by the plain Trainer.
RENAMED = ("vit", "swin", "deit", "beit", "dinov2")
FAST = ("vit", "swin", "timm")  # renamed; windows; batch norms


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    return photos(train=8, validation=4)


def arguments(folder, **changes):
    given = {
        "output_dir": str(folder), "num_train_epochs": 3, "per_device_train_batch_size": 6, "learning_rate": 0.02,
        "save_total_limit": None, "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    return training.FashionTrainingArguments(**given | changes)


def make(kind, tmp_path, data, trainer_class=training.FashionTrainer, metric=None, **changes):
    set_seed(1)
    labels = data["train"].features["label"].names
    model, processor = backbones.load_classifier(tiny(kind, tmp_path / "base"), labels)
    return trainer_class(
        model=model,
        args=arguments(tmp_path / "run", **changes),
        train_dataset=classify.prepare(data["train"], processor, train=True, seed=1),
        eval_dataset=classify.prepare(data["validation"], processor),
        compute_metrics=metric or classify.metrics(labels),
    )


def first_epoch_is_best():
    """A metric that only falls, so that the best weights are never the last ones."""
    falls = iter(range(100, 0, -1))
    return lambda prediction: {"accuracy": next(falls)}


def differing(model, checkpoint) -> list[str]:
    """Names of the tensors in which a model differs from what `from_pretrained` gives for a checkpoint."""
    truth = AutoModelForImageClassification.from_pretrained(checkpoint, dtype=torch.float32).state_dict()
    state = model.state_dict()
    assert state.keys() == truth.keys()
    return [name for name, tensor in state.items() if not torch.equal(tensor.cpu(), truth[name])]


@pytest.fixture(scope="module", params=slow_but(KINDS, *FAST))
def whole(request, tmp_path_factory, data):
    """A finished run of one kind of net, whose first epoch was the best; its kind, and its checkpoints in order."""
    folder = tmp_path_factory.mktemp(request.param)
    trainer = make(request.param, folder, data, metric=first_epoch_is_best(), num_train_epochs=2)
    trainer.train()
    return trainer, request.param, sorted((folder / "run").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))


def test_best_model_is_restored_to_the_last_tensor(whole):
    trainer, _, checkpoints = whole
    assert trainer.state.best_model_checkpoint == str(checkpoints[0])
    assert differing(trainer.model, checkpoints[0]) == []
    assert differing(trainer.model, checkpoints[-1])  # otherwise the test could not fail


def test_resumed_run_ends_where_the_whole_one_does(whole, tmp_path, data):
    _, kind, checkpoints = whole
    resumed = make(kind, tmp_path, data, load_best_model_at_end=False, save_strategy="no", num_train_epochs=2)
    resumed.train(resume_from_checkpoint=str(checkpoints[0]))
    assert resumed.state.global_step == int(checkpoints[-1].name[11:])
    assert differing(resumed.model, checkpoints[-1]) == []


@pytest.mark.parametrize("kind", slow_but(RENAMED, *FAST))
def test_the_plain_trainer_still_needs_the_repair(kind, tmp_path, data):
    """Fails when transformers restores these families itself: then FashionTrainer's two methods can go."""
    trainer = make(kind, tmp_path, data, trainer_class=Trainer, metric=first_epoch_is_best(), num_train_epochs=2)
    trainer.train()
    assert differing(trainer.model, trainer.state.best_model_checkpoint)


def test_two_runs_with_one_seed_are_equal_and_another_seed_is_not(tmp_path, data):
    states = []
    for number, seed in enumerate((1, 1, 2)):
        trainer = make("swin", tmp_path / str(number), data, seed=seed, num_train_epochs=1)
        trainer.train()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert any(not torch.equal(tensor, states[2][name]) for name, tensor in states[0].items())


def test_random_crops_are_keyed_by_seed_epoch_and_row(tmp_path, data):
    _, processor = backbones.load_classifier(tiny("vit", tmp_path), ["a", "b", "c"])
    crops = classify.prepare(data["train"], processor, train=True, seed=1)
    first = crops[0]["pixel_values"]
    torch.rand(7)  # whatever else draws meanwhile
    assert torch.equal(crops[0]["pixel_values"], first)
    other = classify.prepare(data["train"], processor, train=True, seed=2)[0]["pixel_values"]
    crops.set_epoch(1)
    assert not torch.equal(crops[0]["pixel_values"], first) and not torch.equal(other, first)
    state = torch.get_rng_state()
    crops[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_every_epoch_shows_other_crops_also_in_workers(tmp_path, data):
    for workers in (0, 2):
        trainer = make("vit", tmp_path / str(workers), data, dataloader_num_workers=workers, num_train_epochs=2,
                       eval_strategy="no", save_strategy="no", load_best_model_at_end=False)  # fmt: skip
        seen: list[torch.Tensor] = []
        trainer.model.register_forward_pre_hook(
            lambda module, args, kwargs, seen=seen: seen.append(kwargs["pixel_values"]), with_kwargs=True
        )
        trainer.train()
        globals().setdefault("_seen", {})[workers] = torch.cat(seen)
        half = len(torch.cat(seen)) // 2
        pictures = {tensor.numpy().tobytes() for tensor in torch.cat(seen)}
        assert len(pictures) == 2 * half
    assert torch.equal(globals()["_seen"][0], globals()["_seen"][2])


def test_what_is_measured_after_half_precision_training_is_the_saved_net(tmp_path, data):
    trainer = make("vit", tmp_path, data, bf16=True, num_train_epochs=1)
    trainer.train()
    photos_ = trainer.eval_dataset
    pixels = torch.stack([photos_[number]["pixel_values"] for number in range(len(photos_))])
    trainer.model.save_pretrained(tmp_path / "saved")
    saved = AutoModelForImageClassification.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        truth = saved(pixels).logits
    measured = torch.as_tensor(trainer.predict(photos_).predictions)
    assert torch.allclose(measured, truth, atol=1e-6)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not torch.allclose(saved(pixels).logits.float(), truth, atol=1e-6)  # or the test could not fail


def test_a_nan_ends_the_run_and_says_so(tmp_path, data):
    trainer = make("vit", tmp_path, data)
    with torch.no_grad():
        trainer.model.classifier.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="finite loss"):
        trainer.train()
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_checkpoint_of_another_net_is_refused(tmp_path, data):
    trainer = make("vit", tmp_path / "a", data, num_train_epochs=1)
    trainer.train()
    checkpoint = next((tmp_path / "a" / "run").glob("checkpoint-*"))
    config = json.loads((checkpoint / "config.json").read_text())
    config["num_hidden_layers"] += 1
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="missing_keys"):
        training.restore(trainer.model, checkpoint)
