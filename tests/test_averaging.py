"""The moving average: its values, where it is and where it is not, and a resume to the bit."""

import pytest
import torch
from datasets import DatasetDict
from safetensors.torch import load_file
from test_training import arguments, differing
from tiny import photos, slow_but, tiny
from transformers import AutoModelForImageClassification, TrainerCallback, set_seed

from hf_fashion import backbones, training
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify
from hf_fashion.training.averaging import RAW_WEIGHTS


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    return photos(train=6, validation=3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {kind: tiny(kind, tmp_path_factory.mktemp("nets") / kind) for kind in ("vit", "resnet", "timm")}


class Watch(TrainerCallback):
    """Records the raw weights as the optimizer leaves them, and what is in the net at each evaluation."""

    def __init__(self) -> None:
        self.raw: list[dict[str, torch.Tensor]] = []
        self.evaluated: list[dict[str, torch.Tensor]] = []

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.raw.append({name: value.clone() for name, value in model.state_dict().items()})

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        self.evaluated.append({name: value.clone() for name, value in model.state_dict().items()})


def make(checkpoint, folder, data, *, freeze="none", decay=0.9, metric=None, **changes):
    set_seed(1)
    labels = data["train"].features["label"].names
    model, processor = backbones.load_classifier(checkpoint, labels, freeze=freeze)
    watch = Watch()
    trainer = training.FashionTrainer(
        model=model,
        args=arguments(folder, **{"load_best_model_at_end": False} | changes),
        train_dataset=classify.prepare(data["train"], processor, train=True, seed=1),
        eval_dataset=classify.prepare(data["validation"], processor),
        compute_metrics=metric or classify.metrics(labels),
        callbacks=[training.MovingAverage(decay), watch] if decay is not None else [watch],
    )
    return trainer, watch


def averages(start, raw, decay):
    """The average after each step, in double precision."""
    average = {name: value.double() for name, value in start.items()}
    found = []
    for step, weights in enumerate(raw, start=1):
        kept = min(decay, (1 + step) / (10 + step))
        average = {name: kept * value + (1 - kept) * weights[name].double() for name, value in average.items()}
        found.append(average)
    return found


@pytest.mark.parametrize(
    ("kind", "freeze"),
    [
        ("vit", "none"),
        pytest.param("vit", "stages:1", marks=pytest.mark.slow),
        ("resnet", "stages:1"),
        ("timm", "none"),
    ],
)
def test_what_is_evaluated_saved_and_left_is_the_average_and_training_does_not_see_it(
    kind, freeze, checkpoints, tmp_path, data
):
    plain, bare = make(checkpoints[kind], tmp_path / "plain", data, freeze=freeze, decay=None, save_strategy="no")
    plain.train()
    trainer, watch = make(checkpoints[kind], tmp_path / "run", data, freeze=freeze, save_total_limit=None)
    start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert len(watch.raw) == 9 and len(watch.evaluated) == 3
    for with_average, without in zip(watch.raw, bare.raw, strict=True):  # the path of the raw weights is the same
        assert all(torch.equal(value, without[name]) for name, value in with_average.items())
    truth = averages(start, watch.raw, 0.9)
    for number, evaluated in enumerate(watch.evaluated):
        for name, value in evaluated.items():
            if value.is_floating_point():
                assert torch.allclose(value.double(), truth[3 * number + 2][name], atol=1e-5), name
        saved = tmp_path / "run" / f"checkpoint-{3 * number + 3}"
        net = AutoModelForImageClassification.from_pretrained(saved).state_dict()
        assert all(torch.equal(net[name], value) for name, value in evaluated.items())
        raw = load_file(saved / RAW_WEIGHTS)
        assert all(torch.equal(raw[name], watch.raw[3 * number + 2][name]) for name in raw)
    last = trainer.model.state_dict()
    assert all(torch.equal(value, last[name]) for name, value in watch.evaluated[-1].items())
    frozen = {name for name, value in trainer.model.named_parameters() if not value.requires_grad}
    assert bool(frozen) == (freeze != "none") and not frozen & raw.keys()
    assert all(torch.equal(last[name], start[name]) for name in frozen)
    moved = [name for name in raw if not torch.allclose(last[name], watch.raw[-1][name], atol=1e-4)]
    assert len(moved) > len(raw) / 2  # the average is not the raw net, or the test could not fail


@pytest.mark.parametrize("kind", slow_but(("vit", "resnet"), "resnet"))
def test_a_resumed_run_is_the_unbroken_one(kind, checkpoints, tmp_path, data):
    changes = {"eval_strategy": "no", "save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2,
               "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}  # fmt: skip
    whole, all_steps = make(checkpoints[kind], tmp_path / "whole", data, **changes)
    whole.train()
    assert len(all_steps.raw) == 10
    for step in (2, 6):  # in the middle of the first epoch, and of the second
        resumed, steps = make(checkpoints[kind], tmp_path / str(step), data, **changes)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert len(steps.raw) == 10 - step
        for one, other in zip(all_steps.raw[step:], steps.raw, strict=True):
            assert all(torch.equal(value, other[name]) for name, value in one.items())
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_the_best_model_is_an_average_and_is_what_predicts(checkpoints, tmp_path, data):
    falls = iter(range(100, 0, -1))
    trainer, watch = make(checkpoints["resnet"], tmp_path, data, load_best_model_at_end=True, save_total_limit=1,
                          metric=lambda prediction: {"accuracy": next(falls)})  # fmt: skip
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-3")
    assert differing(trainer.model, trainer.state.best_model_checkpoint) == []
    assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in watch.evaluated[0].items())
    scores = torch.as_tensor(trainer.predict(trainer.eval_dataset).predictions)
    net = AutoModelForImageClassification.from_pretrained(trainer.state.best_model_checkpoint).eval()
    pixels = torch.stack([trainer.eval_dataset[row]["pixel_values"] for row in range(len(trainer.eval_dataset))])
    with torch.no_grad():
        assert torch.allclose(net(pixels).logits, scores, atol=1e-5)


def test_what_cannot_be_averaged_or_gone_on_with_is_refused(checkpoints, tmp_path, data):
    for decay in (-0.1, 1.0):
        with pytest.raises(InputError, match="moving_average"):
            training.MovingAverage(decay)
    plain, _ = make(checkpoints["vit"], tmp_path / "plain", data, decay=None, num_train_epochs=1)
    plain.train()
    trainer, _ = make(checkpoints["vit"], tmp_path / "run", data)
    with pytest.raises(InputError, match="raw_weights"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "plain" / "checkpoint-3"))
