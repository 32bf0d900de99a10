"""Losses: what the formulas give, parts of a batch that add up to the whole, an eval loss that stays comparable."""

import math

import pytest
import torch
from datasets import DatasetDict
from test_training import arguments
from tiny import KINDS, photos, slow_but, tiny
from torch.nn import functional
from transformers import EarlyStoppingCallback, set_seed

from hf_fashion import backbones, training
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify

WEIGHTS = torch.tensor([0.5, 1.0, 1.5])


@pytest.fixture(scope="module")
def data() -> DatasetDict:
    return photos(train=8, validation=4)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {kind: tiny(kind, tmp_path_factory.mktemp("nets") / kind) for kind in KINDS}


def make(checkpoint, folder, data, *, freeze="none", loss=None, collator=None, callbacks=None, keyed=False, **changes):
    set_seed(1)
    labels = data["train"].features["label"].names
    model, processor = backbones.load_classifier(checkpoint, labels, freeze=freeze)
    train = classify.prepare(data["train"], processor, train=True, seed=1)
    train.keyed = keyed
    return training.FashionTrainer(
        model=model,
        args=arguments(folder, **{"save_strategy": "no", "load_best_model_at_end": False, "seed": 1} | changes),
        train_dataset=train,
        eval_dataset=classify.prepare(data["validation"], processor),
        compute_metrics=classify.metrics(labels),
        compute_loss_func=loss,
        data_collator=collator,
        callbacks=callbacks,
    )


def sample(rows=5, classes=3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=generator).requires_grad_()
    return {"logits": logits}, torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize("smoothing", (0.0, 0.1))
@pytest.mark.parametrize("weights", (None, WEIGHTS))
def test_without_focus_it_is_torchs_cross_entropy_over_the_number_of_rows(weights, smoothing):
    outputs, labels = sample()
    loss = training.classification_loss(weights=weights, smoothing=smoothing)
    truth = functional.cross_entropy(outputs["logits"], labels, weights, label_smoothing=smoothing, reduction="sum")
    assert torch.allclose(loss(outputs, labels), truth / 5)
    assert torch.allclose(loss((outputs["logits"],), labels, torch.tensor(20)), truth / 20)


def test_focal_loss_is_the_papers():
    outputs, labels = sample()
    loss = training.classification_loss(weights=WEIGHTS, focal_gamma=2.0)(outputs, labels)
    shares = outputs["logits"].detach().double().softmax(1)
    terms = [-WEIGHTS[y] * (1 - p[y]) ** 2 * math.log(p[y]) for p, y in zip(shares, labels, strict=True)]
    assert loss.item() == pytest.approx(sum(terms).item() / 5, rel=1e-5)


@pytest.mark.parametrize("smoothing", (0.0, 0.1))
@pytest.mark.parametrize("weights", (None, WEIGHTS))
def test_focal_loss_with_next_to_no_focus_is_cross_entropy(weights, smoothing):
    outputs, labels = sample()
    plain = training.classification_loss(weights=weights, smoothing=smoothing)
    focal = training.classification_loss(weights=weights, smoothing=smoothing, focal_gamma=1e-7)
    soft = torch.tensor([[0.3, 0.7, 0.0]] * 5)
    assert torch.allclose(focal(outputs, labels), plain(outputs, labels), atol=1e-5)
    assert torch.allclose(focal(outputs, soft), plain(outputs, soft), atol=1e-5)


@pytest.mark.parametrize("gamma", (0.0, 2.0))
def test_soft_labels_that_are_hard_give_the_hard_loss(gamma):
    outputs, labels = sample()
    loss = training.classification_loss(weights=WEIGHTS, smoothing=0.1, focal_gamma=gamma)
    soft = functional.one_hot(labels, 3).float()
    # The Trainer counts the elements of the labels, which are three times the rows.
    assert torch.allclose(loss(outputs, soft, torch.tensor(30)), loss(outputs, labels, torch.tensor(10)))


def test_under_data_parallel_the_count_that_comes_once_a_device_is_made_up_for():
    outputs, labels = sample()
    loss = training.classification_loss()
    assert torch.allclose(2 * loss(outputs, labels, torch.full((2, 1), 10)), loss(outputs, labels, torch.tensor(10)))


@pytest.mark.parametrize("gamma", (0.0, 0.5, 2.0))
def test_a_row_that_is_surely_right_has_a_finite_slope(gamma):
    logits = torch.tensor([[1e4, 0.0, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    training.classification_loss(focal_gamma=gamma)({"logits": logits}, torch.tensor([0, 0])).backward()
    assert logits.grad.isfinite().all() and logits.grad[1].abs().sum() > 0


def test_without_gradients_it_is_the_plain_cross_entropy():
    outputs, labels = sample()
    loss = training.classification_loss(weights=WEIGHTS, smoothing=0.1, focal_gamma=2.0)
    plain = functional.cross_entropy(outputs["logits"], labels)
    assert not torch.allclose(loss(outputs, labels), plain)
    with torch.no_grad():
        assert torch.allclose(loss(outputs, labels), plain)


def test_class_weights_have_mean_one_over_the_rows():
    counts = torch.tensor([100, 20, 0, 1])
    for power in (0.0, 0.5, 1.0):
        weights = training.class_weights(counts.tolist(), power)
        assert (weights * counts).sum().item() == pytest.approx(121)
        assert weights[2] == 0 and weights[1] / weights[0] == pytest.approx(5**power)
    for counts in ([0, 0], [], [-1, 3]):
        with pytest.raises(InputError, match="class weights"):
            training.class_weights(counts)
    with pytest.raises(InputError):
        training.class_weights([1, 2], power=2)


def test_settings_out_of_range_are_refused():
    for name, wrong in (("smoothing", 1.5), ("smoothing", -0.1), ("focal_gamma", -1.0), ("focal_gamma", math.nan)):
        with pytest.raises(InputError):
            training.classification_loss(**{name: wrong})


@pytest.mark.parametrize("soft", (False, True), ids=("hard", "soft"))
@pytest.mark.parametrize("kind", ("vit", "timm"))  # the Trainer counts the rows for both, and tells only one of them
def test_a_batch_in_parts_trains_as_the_whole_batch_does(kind, soft, checkpoints, tmp_path, data):
    """24 rows are steps of 16 and of 8, so the last step has fewer parts. Without clipping, which hides a factor."""
    heads = []
    for batch, parts in ((16, 1), (4, 4)):
        trainer = make(
            checkpoints[kind], tmp_path / str(parts), data, freeze="backbone", keyed=soft,
            loss=training.classification_loss(weights=WEIGHTS, smoothing=0.1, focal_gamma=2.0),
            # Mixing never, so that the parts are the same rows; labels are shares all the same.
            collator=training.MixCollator(3, mixup_alpha=1.0, probability=0.0) if soft else None,
            per_device_train_batch_size=batch, gradient_accumulation_steps=parts, num_train_epochs=2, optim="sgd",
            eval_strategy="no", max_grad_norm=0,
        )  # fmt: skip
        start = [parameter.clone() for parameter in trainer.model.parameters() if parameter.requires_grad]
        trainer.train()
        heads.append([parameter for parameter in trainer.model.parameters() if parameter.requires_grad])
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert len(losses) == 2 and all(0 < value < 2 for value in losses)  # a mean over rows, not a sum over parts
    for whole, part, before in zip(*heads, start, strict=True):
        assert torch.allclose(whole, part, atol=1e-5)
        assert not torch.allclose(whole, before, atol=1e-4)


@pytest.mark.parametrize("kind", slow_but(("beit", "swinv2", "resnet"), "resnet"))
def test_the_models_own_loss_is_still_wrong_for_a_batch_in_parts(kind, checkpoints, tmp_path, data):
    """Its gradients are so many times too large as there are parts. Fails when transformers mends it: then a recipe
    can do without `classification_loss` where nothing is weighed, smoothed or focused."""
    heads = []
    for batch, parts in ((16, 1), (4, 4)):
        trainer = make(
            checkpoints[kind], tmp_path / str(parts), data, freeze="backbone", per_device_train_batch_size=batch,
            gradient_accumulation_steps=parts, num_train_epochs=2, optim="sgd", max_grad_norm=0, eval_strategy="no",
        )  # fmt: skip
        trainer.train()
        heads.append(torch.cat([value.flatten() for value in trainer.model.parameters() if value.requires_grad]))
    assert not torch.allclose(*heads, atol=1e-5)


def test_eval_loss_is_the_same_whatever_the_training_loss(checkpoints, tmp_path, data):
    losses = []
    for number, loss in enumerate((None, training.classification_loss(weights=WEIGHTS, smoothing=0.1, focal_gamma=2))):
        trainer = make(checkpoints["swin"], tmp_path / str(number), data, loss=loss, per_device_eval_batch_size=5)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_trainers_own_label_smoother_is_passed_over(checkpoints, tmp_path, data):
    """If it were not, smoothing would be done twice: then `smoothing` must no longer be given."""
    values = []
    for factor in (0.0, 0.3):
        loss = training.classification_loss(smoothing=0.3)
        trainer = make(checkpoints["timm_vit"], tmp_path / str(factor), data, label_smoothing_factor=factor,
                       loss=loss, freeze="backbone", eval_strategy="no")  # fmt: skip
        trainer.train()
        values.append(trainer.model.get_parameter("timm_model.head.weight"))
    assert torch.equal(*values)


@pytest.mark.parametrize(
    ("kind", "freeze"),
    [
        ("vit", "none"),
        ("swin", "none"),
        ("timm", "stages:1"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("vit", "stages:1"), ("timm_vit", "none"))),
    ],
)
def test_activation_checkpointing_and_accumulation_give_the_same_gradients(kind, freeze, checkpoints, tmp_path, data):
    states = []
    for checkpointing in (False, True):
        trainer = make(
            checkpoints[kind], tmp_path / str(checkpointing), data, freeze=freeze, eval_strategy="no",
            loss=training.classification_loss(), activation_checkpointing=checkpointing,
            gradient_accumulation_steps=2, num_train_epochs=1,
        )  # fmt: skip
        before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
        trainer.train()
        states.append(trainer.model.state_dict())
        for name, parameter in trainer.model.named_parameters():
            assert parameter.requires_grad or torch.equal(parameter, before[name])
    assert any(module.__dict__.get("gradient_checkpointing") or module.__dict__.get("grad_checkpointing")
               for module in trainer.model.modules())  # fmt: skip
    for name, tensor in states[0].items():
        assert torch.allclose(tensor, states[1][name], atol=1e-5), name


def test_batch_norms_that_were_held_for_one_pass_learn_in_the_next(checkpoints, tmp_path, data):
    trainer = make(checkpoints["timm"], tmp_path, data, loss=training.classification_loss(),
                   activation_checkpointing=True, eval_strategy="no", num_train_epochs=1)  # fmt: skip
    norms = [module for module in trainer.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    rows = torch.utils.data.default_collate([trainer.train_dataset[row] for row in range(4)])
    trainer.model.train()
    for steps in (1, 2, 3):
        trainer.compute_loss(trainer.model, {name: rows[name] for name in ("pixel_values", "labels")})
        assert {int(norm.num_batches_tracked) for norm in norms} == {steps}
    trainer.train()
    assert norms and {norm.momentum for norm in norms} == {0.1}
    assert {int(norm.num_batches_tracked) for norm in norms} == {3 + trainer.state.max_steps}


@pytest.mark.parametrize("kind", ("convnext", "resnet", "vit"))
def test_a_net_without_activation_checkpointing_is_refused_and_nobody_is_sent_to_it(kind, checkpoints, tmp_path, data):
    trainer = make(checkpoints[kind], tmp_path, data, per_device_train_batch_size=1)
    with pytest.raises(InputError) as full:
        trainer._take_smaller_batches(torch.OutOfMemoryError("full"))
    assert ("--activation_checkpointing" in str(full.value)) == (kind == "vit")
    training.refuse_recomputing(trainer.args, trainer.model)  # not asked for
    trainer.args.activation_checkpointing = True
    if kind == "vit":
        training.refuse_recomputing(trainer.args, trainer.model)
        return
    with pytest.raises(InputError, match=f"(?s)activation_checkpointing True.*found: +{kind}"):
        training.refuse_recomputing(trainer.args, trainer.model)


def test_early_stopping_ends_a_run_that_gets_no_better(checkpoints, tmp_path, data):
    trainer = make(
        checkpoints["vit"], tmp_path, data, freeze="backbone", num_train_epochs=9, save_strategy="epoch",
        load_best_model_at_end=True, callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )  # fmt: skip
    falls = iter(range(100, 0, -1))
    trainer.compute_metrics = lambda prediction: {"accuracy": next(falls)}
    trainer.train()
    assert trainer.state.epoch == 3  # the first was best, and two more were waited for
    assert trainer.state.best_global_step == 4
