"""Balanced epochs: classes in the shares that were asked for, rows in turn, the same again after a resume."""

from collections import Counter

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from test_training import arguments
from tiny import photos, tiny
from transformers import set_seed

from hf_fashion import backbones, training
from hf_fashion.augmentation import Augmented
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify

LABELS = [0] * 40 + [1] * 17 + [2] * 3


def epoch(balanced, number):
    balanced.set_epoch(number)
    return [balanced[index] for index in range(len(balanced))]


def test_classes_come_equally_often_and_a_small_one_repeats_evenly():
    balanced = training.Balanced(range(60), LABELS, seed=1)
    for number in range(3):
        rows = epoch(balanced, number)
        assert [Counter(LABELS[row] for row in rows)[label] for label in range(3)] == [20, 20, 20]
        times = Counter(rows)
        assert len({row for row in rows if row < 40}) == 20  # of the large class none twice
        assert {times[row] for row in range(57, 60)} <= {6, 7, 8}  # an epoch goes on in the middle of a turn


def test_a_large_class_shows_all_its_rows_before_any_again():
    balanced = training.Balanced(range(60), LABELS, seed=1)
    first, second = (Counter(row for row in epoch(balanced, number) if row < 40) for number in (0, 1))
    assert not first.keys() & second.keys() and len(first) + len(second) == 40


@pytest.mark.parametrize("counts", ([40, 17, 3], [7, 1], [1] * 13, [301, 3, 2, 1, 1]))
@pytest.mark.parametrize("power", (0.0, 0.3, 0.5, 1.0))
def test_shares_are_what_the_power_says_and_no_item_is_lost(power, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    balanced = training.Balanced(range(len(labels)), labels, seed=3, power=power)
    truth = np.array(counts, dtype=float) ** (1 - power)
    truth *= len(labels) / truth.sum()
    shown: Counter = Counter()
    for number in range(12):
        rows = epoch(balanced, number)
        assert len(rows) == len(labels)
        found = np.bincount(labels[rows], minlength=len(counts))
        assert (abs(found - truth) < 2).all()
        shown.update(rows)
        for label in range(len(counts)):  # in turn, over all epochs so far
            times = [shown[row] for row in np.flatnonzero(labels == label)]
            assert max(times) - min(times) <= 1
        if power == 0:
            assert sorted(rows) == list(range(len(labels)))


def test_an_epoch_depends_on_seed_and_epoch_only():
    one, other = (training.Balanced(range(60), LABELS, seed=seed) for seed in (1, 2))
    fifth = epoch(one, 5)
    assert epoch(training.Balanced(range(60), LABELS, seed=1), 5) == fifth  # as after a resume
    assert epoch(one, 4) != fifth and epoch(other, 5) != fifth
    assert epoch(one, 5) == fifth


def test_a_row_that_comes_twice_is_drawn_twice():
    augmented = Augmented([{"value": row} for row in range(60)], lambda row: {**row, "draw": torch.rand(()).item()}, 1)
    items = epoch(training.Balanced(augmented, LABELS, seed=1), 0)
    assert len({item["draw"] for item in items}) == 60 and len({item["value"] for item in items}) < 60
    again = epoch(training.Balanced(augmented, LABELS, seed=1), 0)
    later = epoch(training.Balanced(augmented, LABELS, seed=1), 1)
    assert items == again and not {item["draw"] for item in items} & {item["draw"] for item in later}


def test_what_cannot_be_balanced_is_refused():
    with pytest.raises(InputError, match="labels"):
        training.Balanced(range(3), [0, 1], seed=1)
    with pytest.raises(InputError, match="labels"):
        training.Balanced([], [], seed=1)
    with pytest.raises(InputError, match="power"):
        training.Balanced(range(2), [0, 1], seed=1, power=-1)


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    rows = photos(train=8, validation=2)
    few = [row for row, label in enumerate(rows["train"]["label"]) if label < 2 or row % 4 == 0]
    return DatasetDict({**rows, "train": rows["train"].select(few)})  # 8, 8 and 2 of a class


def make(checkpoint, folder, data, **changes):
    set_seed(1)
    model, processor = backbones.load_classifier(checkpoint, data["train"].features["label"].names)
    train = classify.prepare(data["train"], processor, train=True, seed=1)
    trainer = training.FashionTrainer(
        model=model,
        args=arguments(folder, eval_strategy="no", load_best_model_at_end=False, **changes),
        train_dataset=training.Balanced(train, data["train"]["label"], seed=1),
    )
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _module, _args, given: seen.append(given["pixel_values"]), with_kwargs=True)
    return trainer, seen


def test_trainer_and_workers_and_a_resume_in_mid_epoch_see_the_same(data, tmp_path):
    checkpoint = tiny("timm_vit", tmp_path / "net")
    whole, seen = make(checkpoint, tmp_path / "whole", data, save_strategy="steps", save_steps=2)
    whole.train()
    assert len({picture.numpy().tobytes() for picture in torch.cat(seen)}) == 3 * len(data["train"])
    resumed, _ = make(checkpoint, tmp_path / "resumed", data, save_strategy="no", dataloader_num_workers=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))  # of 9 steps, 3 an epoch
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
