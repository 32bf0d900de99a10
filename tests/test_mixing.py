"""Mixup and CutMix: pictures and labels in the same shares, in training only, the same again after a resume."""

import pytest
import torch
from datasets import DatasetDict
from test_training import arguments
from tiny import photos, tiny
from transformers import set_seed

from hf_fashion import backbones, training
from hf_fashion.augmentation import KEY
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify


def examples(rows=4, first_key=0):
    """Picture n is n everywhere and of class n, so that its share in a mixture can be read off."""
    return [
        {"pixel_values": torch.full((3, 8, 8), float(row)), "labels": row, KEY: first_key + row}
        for row in range(rows)
    ]  # fmt: skip


def test_mixup_mixes_pictures_and_labels_in_the_same_shares():
    batch = training.MixCollator(4, mixup_alpha=1.0)(examples())
    pictures, labels = batch["pixel_values"], batch["labels"]
    assert set(batch) == {"pixel_values", "labels"} and labels.shape == (4, 4) and labels.dtype == torch.float32
    assert torch.allclose(labels.sum(1), torch.ones(4))
    assert torch.allclose(pictures, (labels @ torch.arange(4.0))[:, None, None, None].expand(4, 3, 8, 8))
    assert ((labels > 0).sum(1) == 2).all()


def test_cutmix_pastes_a_rectangle_and_its_share_of_the_label():
    collator = training.MixCollator(4, cutmix_alpha=1.0)
    cut = 0
    for first_key in range(0, 40, 4):
        batch = collator(examples(first_key=first_key))
        pictures, labels = batch["pixel_values"], batch["labels"]
        share = (pictures == torch.arange(4.0)[:, None, None, None]).float().mean((1, 2, 3))
        assert torch.allclose(labels.diagonal(), share) and torch.allclose(labels.sum(1), torch.ones(4))
        cut += int(share[0] < 1)
    assert cut > 3


def test_the_same_keys_give_the_same_batch_and_others_another():
    collator = training.MixCollator(4, mixup_alpha=1.0, cutmix_alpha=1.0)
    first = collator(examples())
    state = torch.get_rng_state()
    assert torch.equal(collator(examples())["pixel_values"], first["pixel_values"])
    assert torch.equal(torch.get_rng_state(), state)
    others = [collator(examples(first_key=key))["pixel_values"] for key in range(10, 60, 10)]
    assert not any(torch.equal(other, first["pixel_values"]) for other in others)
    whole = [(batch == batch.round()).all().item() for batch in others]
    assert {True, False} == set(whole)  # both ways of mixing come up


def test_the_probability_is_the_share_of_the_batches():
    collator = training.MixCollator(4, mixup_alpha=1.0, probability=0.3)
    mixed = 0
    for key in range(0, 1200, 4):
        labels = collator(examples(first_key=key))["labels"]
        assert labels.shape == (4, 4)  # shares, also where nothing was mixed: the Trainer counts them
        mixed += int((labels.max() < 1).item())
    assert 60 < mixed < 120


def test_examples_without_a_key_pass_as_they_are():
    plain = [{name: value for name, value in example.items() if name != KEY} for example in examples()]
    batch = training.MixCollator(4, mixup_alpha=1.0)(plain)
    assert torch.equal(batch["labels"], torch.arange(4)) and batch["labels"].dtype == torch.int64
    assert torch.equal(batch["pixel_values"], torch.stack([example["pixel_values"] for example in plain]))


@pytest.mark.parametrize("way", ("mixup_alpha", "cutmix_alpha"))
def test_a_batch_of_one_stays_itself(way):
    batch = training.MixCollator(4, **{way: 1.0})(examples(rows=1))
    assert torch.allclose(batch["labels"], torch.tensor([[1.0, 0, 0, 0]]), atol=1e-6)
    assert torch.allclose(batch["pixel_values"], torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("way", ("mixup_alpha", "cutmix_alpha"))
def test_of_vectors_what_is_unknown_in_one_is_unknown_in_the_mixture(way):
    nan = float("nan")
    given = examples(rows=3)
    for example, labels in zip(given, ([1, 0, nan], [1, 1, 0], [0, 1, 1]), strict=True):
        example["labels"] = torch.tensor(labels)
    mixed = training.MixCollator(3, **{way: 1.0})(given)["labels"]
    assert mixed.isnan().tolist() == [[False, False, True], [False, False, True], [False, False, False]]
    share = mixed[0, 0]  # of row 0, which has row 2 mixed in
    assert torch.allclose(mixed[0, :2], torch.stack((share, 1 - share)))
    assert torch.allclose(mixed[1, :2], torch.stack((torch.ones(()), share))) and 0 < share < 1


def test_settings_that_mix_nothing_are_refused():
    with pytest.raises(InputError, match="above 0"):
        training.MixCollator(3)
    for name in ("mixup_alpha", "cutmix_alpha", "probability"):
        with pytest.raises(InputError):
            training.MixCollator(3, **{"mixup_alpha": 1.0, name: -0.5})


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    return photos(train=8, validation=4)


def make(checkpoint, folder, data, **changes):
    set_seed(1)
    labels = data["train"].features["label"].names
    model, processor = backbones.load_classifier(checkpoint, labels)
    train = classify.prepare(data["train"], processor, train=True, seed=1)
    train.keyed = True
    trainer = training.FashionTrainer(
        model=model,
        args=arguments(folder, load_best_model_at_end=False, per_device_train_batch_size=5, **changes),
        train_dataset=training.Balanced(train, data["train"]["label"], seed=1),
        eval_dataset=classify.prepare(data["validation"], processor),
        compute_metrics=classify.metrics(labels),
        compute_loss_func=training.classification_loss(smoothing=0.1),
        data_collator=training.MixCollator(3, mixup_alpha=0.5, cutmix_alpha=1.0),
    )
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _module, _args, given: seen.append(given["pixel_values"]), with_kwargs=True)
    return trainer, seen, processor


def test_trainer_and_workers_and_a_resume_in_mid_epoch_mix_the_same(data, tmp_path):
    checkpoint = tiny("swin", tmp_path / "net")
    whole, seen, processor = make(checkpoint, tmp_path / "whole", data, save_strategy="steps", save_steps=2)
    whole.train()
    truth = torch.cat([row["pixel_values"][None] for row in classify.prepare(data["validation"], processor)])
    shown = [picture for picture in seen if len(picture) == 12]  # the evaluations; training has 5 rows a batch
    assert len(shown) == 3 and all(torch.equal(picture, truth) for picture in shown)
    resumed, _, _ = make(checkpoint, tmp_path / "resumed", data, save_strategy="no", dataloader_num_workers=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))  # of 15 steps, 5 an epoch
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
