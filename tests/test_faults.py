"""Faults in training: values that are not finite, and full memory."""

import traceback

import faulty
import pytest
import test_streaming
import torch
from datasets import DatasetDict
from safetensors.torch import load_file
from test_training import make
from tiny import photos, undrawn  # noqa: F401 (a fixture)

from hf_fashion import record, streaming, training
from hf_fashion.augmentation import Augmented
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify
from hf_fashion.training import checkpoints, faults


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    return photos(train=4, validation=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return faulty.place(tmp_path_factory.mktemp("faults"))


def poison(monkeypatch, row, epoch=0):
    """Makes the pixels of a training row NaN."""
    plain = Augmented.__getitem__

    def spoiled(self, index):
        example = plain(self, index)
        if (index[0] if isinstance(index, tuple) else index) == row and int(self._epoch) == epoch:
            example["pixel_values"] = example["pixel_values"] * float("nan")
        return example

    monkeypatch.setattr(Augmented, "__getitem__", spoiled)


@pytest.mark.parametrize("more", [(), ("--dataloader_num_workers", "2", "--sampler", "balanced")])
def test_a_row_that_breaks_the_run_is_named_and_the_last_checkpoint_is_good(more, place, monkeypatch):
    poison(monkeypatch, row=5, epoch=1)
    run = place / f"poisoned {len(more)}"
    with pytest.raises(InputError, match="finite loss") as caught:
        classify.main(faulty.argv(place, run.name, "--logging_strategy", "no", *more))
    assert "with these 4 rows" in str(caught.value) and "look at these rows" in str(caught.value)
    info = record.read(run).info
    assert info["status"] == "failed" and "loss = nan" in info["error"]
    assert len(info["not_finite"]["rows"]) == 4 and "train/square/1.png" in info["not_finite"]["rows"]
    assert "1.png" in str(caught.value)  # 4 photos of each of 3 classes: row 5 is the second square
    assert 4 <= info["not_finite"]["step"] <= 6 and "checkpoint" in info["go_on"]
    assert not checkpoints.problems(checkpoints.listed(run)[-1])


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_rows_are_named_by_their_place(workers, tmp_path, monkeypatch):
    plain = streaming.examples.drawn

    def drawn(transform, row, name, keyed):
        example = plain(transform, row, name, keyed)
        spoiled = name.startswith("1/1/10")  # seed, epoch, row
        return example | {"pixel_values": example["pixel_values"] * (float("nan") if spoiled else 1)}

    monkeypatch.setattr(streaming.examples, "drawn", drawn)
    trainer = test_streaming.trainer(test_streaming.streamable(tmp_path / "photos"), tmp_path, "run", workers)
    with pytest.raises(InputError, match="with these [43] rows: ") as caught:
        trainer.train()
    assert "data/train-00001-of-00003.parquet row 2" in caught.value.found
    traceback.clear_frames(caught.tb)  # they hold the loader, whose workers would be waited for


class Slope(training.FashionTrainer):
    """The loss of step 2 is finite, its gradients are not: the slope of a root at 0."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if torch.is_grad_enabled() and self.state.global_step == 1:
            self.before = {name: value.clone() for name, value in model.state_dict().items()}
            loss = loss + (outputs["logits"].sum() * 0.0).sqrt()
        return (loss, outputs) if return_outputs else loss


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_not_finite_stops_before_it_changes_a_weight(clip, tmp_path, data):
    trainer = make("vit", tmp_path, data, trainer_class=Slope, max_grad_norm=clip, logging_strategy="no")
    with pytest.raises(InputError, match="step 2") as caught:
        trainer.train()
    assert "norm of the gradients = nan" in str(caught.value)
    assert all(torch.equal(value, trainer.before[name]) for name, value in trainer.model.state_dict().items())


def test_rows_are_named_as_the_source_does(data):
    rows = data["train"].add_column("source_row", [f"train.csv:{row}" for row in range(12)])
    assert faults.row_names(rows, [3, 0]) == ["train.csv:3", "train.csv:0"]
    balanced = training.Balanced(Augmented(rows, dict, seed=1), rows["label"], seed=1)
    assert faults.row_names(balanced, [0, 1]) == [f"train.csv:{balanced.row(item)}" for item in (0, 1)]
    assert faults.row_names([1, 2, 3], [2]) == ["row 2"]


def starve(trainer, fits, after=0):
    """Lets the memory hold no more than so many training photos, once so many batches were through."""
    seen = iter(range(10**6))

    def forward(module, args, kwargs):
        if torch.is_grad_enabled() and next(seen) >= after and len(kwargs["pixel_values"]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    trainer.model.register_forward_pre_hook(forward, with_kwargs=True)


def trained(folder, data, *, fits=None, after=0, **changes):
    given = {"load_best_model_at_end": False, "per_device_train_batch_size": 6, "save_strategy": "no"} | changes
    trainer = make("swin", folder, data, **given)
    if fits is not None:
        starve(trainer, fits, after)
    trainer.train()
    return trainer


def equal(one, two):
    states = one.model.state_dict(), two.model.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_out_of_memory_starts_again_from_untouched_weights_with_as_many_photos_a_step(tmp_path, data, capsys):
    small = trained(tmp_path / "small", data, per_device_train_batch_size=3, gradient_accumulation_steps=2)
    starved = trained(tmp_path / "starved", data, fits=4, after=3)
    assert starved.args.per_device_train_batch_size == 3 and starved.args.gradient_accumulation_steps == 2
    assert starved.state.global_step == small.state.global_step == 6 and equal(small, starved)
    assert "out of memory with 6 photos at a time" in capsys.readouterr().out


def test_out_of_memory_goes_on_from_the_last_checkpoint(tmp_path, data, capsys):
    starved = trained(tmp_path, data, fits=4, after=3, save_strategy="epoch")
    assert "goes on from" in capsys.readouterr().out and starved.state.global_step == 6
    first, last = ((tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors") for step in (2, 6))
    assert any(not torch.equal(value, load_file(last)[name]) for name, value in load_file(first).items())


def test_out_of_memory_with_one_photo_is_the_end(tmp_path, data):
    with pytest.raises(InputError, match="out of memory with 1 photo a step") as caught:
        trained(tmp_path, data, fits=0)
    assert "2.00 GiB" in str(caught.value)


@pytest.mark.usefixtures("undrawn")
def test_out_of_memory_is_recorded(place, monkeypatch):
    plain = training.FashionTrainer.training_step

    def step(self, model, inputs, *args, **kwargs):
        if len(inputs["labels"]) > 2:
            raise MemoryError
        return plain(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(training.FashionTrainer, "training_step", step)
    info = classify.main(faulty.argv(place, "memory")).info
    assert info["status"] == "finished" and info["out_of_memory"]["batch"] == 4
    assert info["out_of_memory"]["then"] == {"batch": 2, "gradient_accumulation_steps": 2}


def test_out_of_memory_in_evaluation_measures_in_smaller_batches(tmp_path, data):
    trainer = make("swin", tmp_path, data)
    whole = trainer.predict(trainer.eval_dataset).predictions

    def forward(module, args, kwargs):
        if len(kwargs["pixel_values"]) > 4:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes")

    trainer.model.register_forward_pre_hook(forward, with_kwargs=True)
    again = trainer.predict(trainer.eval_dataset).predictions
    assert trainer.args.per_device_eval_batch_size == 4 and torch.allclose(*map(torch.tensor, (whole, again)))


def test_smaller_batches_make_the_batch_again():
    assert [faults.smaller(size) for size in (32, 12, 9, 7, 1)] == [16, 6, 3, 1, 0]


@pytest.mark.parametrize("name", ["auto_find_batch_size", "enable_jit_checkpoint", "dataloader_drop_last"])
def test_the_trainers_own_answers_are_refused(name, tmp_path):
    with pytest.raises(InputError, match=name):
        training.FashionTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **{name: True})


def test_weights_that_the_last_step_made_not_finite_are_no_result(place, monkeypatch):
    """No loss is computed with them any more, and no checkpoint written."""
    plain = training.FashionTrainer._maybe_log_save_evaluate

    def spoil(trainer, *args, **kwargs):
        if trainer.state.global_step == trainer.state.max_steps:
            with torch.no_grad():
                next(trainer.model.parameters()).view(-1)[0] = float("nan")
        return plain(trainer, *args, **kwargs)

    monkeypatch.setattr(training.FashionTrainer, "_maybe_log_save_evaluate", spoil)
    never = ["--save_strategy", "no", "--eval_strategy", "no", "--load_best_model_at_end", "False"]
    with pytest.raises(InputError, match="finite weights"):
        classify.main(faulty.argv(place, "spoilt", *never))
    assert record.read(place / "spoilt").info["status"] == "failed"
    assert not (place / "spoilt" / "model.safetensors").exists()
