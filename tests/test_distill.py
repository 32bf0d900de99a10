"""A small net that learns from a large one."""

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from tiny import photos, tiny, undrawn, without_drawing  # noqa: F401 (a fixture)
from transformers import AutoModelForImageClassification

from hf_fashion import backbones, record
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe
from hf_fashion.recipes import distill
from hf_fashion.tasks import classify
from hf_fashion.training import DistillationTrainer, FashionTrainer, FashionTrainingArguments, Teacher
from hf_fashion.training.distilling import UNLABELLED, apart, unlike
from hf_fashion.training.losses import classification_loss


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("distill")
    dataset = photos(train=8, validation=4, test=4)
    dataset.save_to_disk(place / "photos")
    dataset["train"].remove_columns("label").save_to_disk(place / "more")
    torch.manual_seed(0)
    tiny("vit", place / "small")
    tiny("convnext", place / "large")
    with without_drawing():
        recipe.main([*plain(place, place / "teacher"), "--model", str(place / "large"), "--num_train_epochs", "6",
                     "--learning_rate", "1e-2"])  # fmt: skip
    return place


def plain(place, folder):
    return ["--dataset", str(place / "photos"), "--per_device_train_batch_size", "8", "--num_train_epochs", "2",
            "--use_cpu", "True", "--disable_tqdm", "True", "--output_dir", str(folder)]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_a_student_learns_from_a_teacher_and_from_photos_without_labels(place, tmp_path, capsys):
    words = ["--teacher", str(place / "teacher"), "--student", str(place / "small"), "--unlabelled",
             str(place / "more"), "--teacher_features", "10"]  # fmt: skip
    distill.main([*words, *plain(place, tmp_path / "run")])
    run = record.read(tmp_path / "run")
    assert run.info["recipe"] == "classify" and run.info["unlabelled"] == 24
    assert run.info["teacher"]["name"].endswith("teacher")
    assert "photos without a label: 24" in capsys.readouterr().out
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8").replace("\\", "")
    assert "learned from the larger" in card
    saved = AutoModelForImageClassification.from_pretrained(tmp_path / "run")
    start = AutoModelForImageClassification.from_pretrained(place / "small")
    assert saved.state_dict().keys() == start.state_dict().keys()
    distill.main(["--output_dir", str(tmp_path / "again"), "--config", str(tmp_path / "run" / "run.json"),
                  "--teacher", str(place / "teacher"), "--student", str(place / "small")])  # fmt: skip
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "again").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in saved.state_dict().items())


def parts(place, tmp_path, *, labels=None, **settings):
    dataset = DatasetDict.load_from_disk(place / "photos")["train"]
    if labels is not None:
        dataset = dataset.remove_columns("label").add_column("label", labels, feature=dataset.features["label"])
    names = dataset.features["label"].names
    torch.manual_seed(0)
    net, processor = backbones.load_classifier(place / "small", names)
    spec = backbones.input_spec(processor)
    teacher = Teacher(*backbones.load_classifier(place / "teacher"), spec, names)
    args = FashionTrainingArguments(
        output_dir=str(tmp_path / "x"), use_cpu=True, disable_tqdm=True, max_steps=1, eval_strategy="no",
        per_device_train_batch_size=6, learning_rate=0.0, save_strategy="no", load_best_model_at_end=False,
        report_to="none",
    )  # fmt: skip
    trainer = DistillationTrainer(
        model=net, args=args, processing_class=processor, compute_loss_func=classification_loss(),
        train_dataset=classify.prepare(dataset, processor, train=True), teacher=teacher, **settings,
    )  # fmt: skip
    return trainer, teacher, net, classify.prepare(dataset, processor)


def loss_of(trainer, prepared, count=6):
    batch = trainer.data_collator([prepared[row] for row in range(count)])
    return float(trainer.compute_loss(trainer.model, dict(batch)).detach()), batch


def test_the_loss_is_that_of_the_papers(place, tmp_path):
    trainer, teacher, net, prepared = parts(place, tmp_path, weight=0.6, temperature=3.0)
    told, batch = loss_of(trainer, prepared)
    with torch.no_grad():
        logits, wanted = net(pixel_values=batch["pixel_values"]).logits, teacher(batch["pixel_values"])[0]
    p, q = (torch.softmax(one / 3.0, dim=1) for one in (wanted, logits))
    kl = (p * (p.log() - q.log())).sum(1).mean() * 9
    own = torch.nn.functional.cross_entropy(logits, batch["labels"])
    assert told == pytest.approx(float(0.4 * own + 0.6 * kl), rel=1e-5)
    with torch.no_grad():  # in evaluation the labels alone
        assert float(trainer.compute_loss(net, dict(batch))) == pytest.approx(float(own), rel=1e-6)


def test_photos_without_a_label_have_the_teacher_alone(place, tmp_path):
    labels = [UNLABELLED, 0, UNLABELLED, 1, 2, UNLABELLED] * 4
    trainer, teacher, net, prepared = parts(place, tmp_path, labels=labels, weight=0.5, temperature=1.0)
    told, batch = loss_of(trainer, prepared)
    with torch.no_grad():
        logits, wanted = net(pixel_values=batch["pixel_values"]).logits, teacher(batch["pixel_values"])[0]
    kl, known = apart(logits, wanted, 1.0), batch["labels"] != UNLABELLED
    own = torch.nn.functional.cross_entropy(logits[known], batch["labels"][known], reduction="sum")
    assert told == pytest.approx(float((kl[~known].sum() + 0.5 * kl[known].sum() + 0.5 * own) / 6), rel=1e-5)
    trainer.train()  # with batches in which nobody has a label, too


def test_parts_of_a_step_have_the_loss_of_the_whole(place, tmp_path):
    labels = [UNLABELLED, 0, UNLABELLED, 1, 2, UNLABELLED] * 4
    trainer, _, net, prepared = parts(place, tmp_path, labels=labels, weight=0.5)
    whole, batch = loss_of(trainer, prepared)
    halves = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 3), slice(3, 6))]
    count = torch.tensor(6)
    told = [trainer.compute_loss(net, dict(half), num_items_in_batch=count).detach() for half in halves]
    assert float(sum(told)) == pytest.approx(whole, rel=1e-5)


def test_a_teacher_sees_the_students_picture_as_it_takes_one(place, tmp_path):
    _, teacher, _, prepared = parts(place, tmp_path)
    pixels = prepared[:4]["pixel_values"]
    pixels = pixels if isinstance(pixels, torch.Tensor) else torch.stack(list(pixels))
    own, processor = backbones.load_classifier(place / "teacher")
    dataset = DatasetDict.load_from_disk(place / "photos")["train"]
    direct = own(**processor([dataset[row]["image"] for row in range(4)], return_tensors="pt")).logits.detach()
    np.testing.assert_allclose(teacher(pixels)[0], direct, atol=0.3)
    assert teacher._pictures(pixels).shape[-2:] == (teacher._takes.height, teacher._takes.width)


def test_labels_are_matched_by_name(place):
    net, processor = backbones.load_classifier(place / "teacher")
    names = list(net.config.label2id)
    spec = backbones.input_spec(processor)
    pixels = torch.randn(2, 3, spec.height, spec.width)
    forward, back = (Teacher(net, processor, spec, order)(pixels)[0] for order in (names, names[::-1]))
    assert torch.equal(forward, back.flip(1))
    with pytest.raises(InputError, match="does not know: skirt"):
        Teacher(net, processor, spec, [*names, "skirt"])


def test_layouts_that_agree_cost_nothing():
    features = torch.randn(5, 8)
    assert float(unlike(features, features @ torch.linalg.qr(torch.randn(8, 8))[0] * 3)) == pytest.approx(0, abs=1e-6)
    assert float(unlike(features, torch.randn(5, 3))) > 0.01


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--teacher LARGE --student SMALL"),
        (["--teacher", "x"], "no student"),
        (["--teacher", "x", "--student", "y", "--model", "z"], "expected: --student"),
    ],
)
def test_what_is_lacking_is_said(words, told):
    with pytest.raises(InputError) as error:
        distill.main(words)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--unlabelled", "more"], "expected: --teacher MODEL"),
        (["--unlabelled", "more", "--teacher", "teacher", "--mixup", "0.2"], "without --mixup"),
        (["--teacher", "teacher", "--lora_rank", "2"], "without --lora_rank"),
        (["--teacher", "teacher", "--teacher_weight", "2"], "teacher_weight"),
    ],
)
def test_what_does_not_go_together_is_refused(place, tmp_path, words, told):
    words = [str(place / word) if word in ("more", "teacher") else word for word in words]
    with pytest.raises(InputError) as error:
        recipe.main([*plain(place, tmp_path / "no"), "--model", str(place / "small"), *words])
    assert told in str(error.value)


def test_photos_that_measure_are_not_learned_from_without_labels_either(place, tmp_path):
    dataset = DatasetDict.load_from_disk(place / "photos")
    dataset["test"].remove_columns("label").save_to_disk(tmp_path / "leak")
    words = [
        "--model",
        str(place / "small"),
        "--teacher",
        str(place / "teacher"),
        "--unlabelled",
        str(tmp_path / "leak"),
    ]
    with pytest.raises(InputError, match="equal pixels: a leak"):
        recipe.main([*plain(place, tmp_path / "no"), *words])


@pytest.mark.usefixtures("undrawn")
def test_an_encoder_teaches_an_encoder(place, tmp_path):
    from test_retrieve import rows_of

    splits = {split: rows_of(split, 1, seed) for seed, split in enumerate(("train", "validation", "test"))}
    DatasetDict(splits).save_to_disk(tmp_path / "items")
    torch.manual_seed(0)
    backbones.load_encoder(place / "large", dimension=12).save_pretrained(str(tmp_path / "teacher"))
    words = ["--teacher", str(tmp_path / "teacher"), "--student", str(place / "small"), "--match", "image"]
    words += ["--per_device_train_batch_size", "4", "--num_train_epochs", "1", "--dataset", str(tmp_path / "items")]
    distill.main([*words, "--use_cpu", "True", "--disable_tqdm", "True", "--output_dir", str(tmp_path / "run")])
    run = record.read(tmp_path / "run")
    assert run.info["recipe"] == "retrieve" and run.info["teacher"]["name"].endswith("teacher")
    assert issubclass(DistillationTrainer, FashionTrainer)
