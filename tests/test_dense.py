"""The dense loss: which cells learn a box, and that a net that says it right pays nothing."""

from types import SimpleNamespace

import pytest
import torch
from tiny_detectors import NAMES, boxed_folder, tiny_backbone, tiny_detector
from torchvision.ops import box_convert

from hf_fashion import backbones, training
from hf_fashion.errors import InputError
from hf_fashion.recipes import detect as recipe
from hf_fashion.tasks import detect
from hf_fashion.training import dense, detecting
from hf_fashion.training.trainer import IDLE

CELLS = dense.cells_of(64, 96, torch.device("cpu"))
LABELS = [
    {"class_labels": torch.tensor([1, 0]), "boxes": torch.tensor([[0.3, 0.5, 0.4, 0.6], [0.8, 0.2, 0.1, 0.2]])},
    {"class_labels": torch.tensor([], dtype=torch.long), "boxes": torch.zeros(0, 4)},
]


def outputs(scores=-4.0, boxes=None):
    logits = torch.full((2, len(CELLS), 3), scores)
    boxes = CELLS.clamp(1e-4, 1 - 1e-4).expand(2, -1, 4).clone() if boxes is None else boxes
    return SimpleNamespace(enc_outputs_class=logits, enc_outputs_coord_logits=torch.logit(boxes))


def test_cells_stand_as_the_encoder_orders_them():
    assert len(CELLS) == 8 * 12 + 4 * 6 + 2 * 3
    assert torch.allclose(CELLS[1], torch.tensor([1.5 / 12, 0.5 / 8, 1 / 12, 1 / 8]))
    assert torch.allclose(CELLS[8 * 12 + 6], torch.tensor([0.5 / 6, 1.5 / 4, 1 / 6, 1 / 4]))
    assert torch.allclose(CELLS[-1], torch.tensor([2.5 / 3, 0.75, 1 / 3, 1 / 2]))


def test_cells_in_a_box_learn_it_and_no_others():
    truth = box_convert(LABELS[0]["boxes"], "cxcywh", "xyxy")
    said = CELLS.clone()
    said[:, 2:] = 0.3
    corners = box_convert(said, "cxcywh", "xyxy")
    owner, quality = dense.assign(torch.rand(len(CELLS), 3), corners, truth, LABELS[0]["class_labels"], CELLS)
    for box in (0, 1):
        own = CELLS[owner == box]
        assert 0 < len(own) <= dense.CELLS
        reach = torch.maximum(LABELS[0]["boxes"][box, 2:], own[:, 2:]) / 2
        assert ((own[:, :2] - LABELS[0]["boxes"][box, :2]).abs() <= reach).all()
    assert (quality[owner < 0] == 0).all() and (quality[owner >= 0] > 0).all() and quality.max() <= 1


def test_a_net_that_is_right_pays_least_and_the_gradient_reaches_what_is_wrong():
    right = outputs()
    boxes = right.enc_outputs_coord_logits.sigmoid()
    for box, center in enumerate(LABELS[0]["boxes"]):
        inside = torch.nonzero(((CELLS[:, :2] - center[:2]).abs() <= center[2:] / 2).all(dim=1))[:, 0]
        near = inside[: dense.CELLS]
        boxes[0, near] = center
        right.enc_outputs_class[0, near, LABELS[0]["class_labels"][box]] = 6.0
    right.enc_outputs_coord_logits = torch.logit(boxes).requires_grad_()
    wrong = outputs()
    wrong.enc_outputs_class.requires_grad_()
    wrong.enc_outputs_coord_logits.requires_grad_()
    cost = dense.dense_loss(wrong, LABELS, 64, 96)
    assert dense.dense_loss(right, LABELS, 64, 96) < 0.2 * cost
    cost.backward()
    assert wrong.enc_outputs_class.grad.abs().sum() > 0 and wrong.enc_outputs_coord_logits.grad[0].abs().sum() > 0
    assert wrong.enc_outputs_coord_logits.grad[1].abs().sum() == 0  # no box, nothing to place


def test_photos_without_any_box():
    assert torch.isfinite(dense.dense_loss(outputs(), [LABELS[1], LABELS[1]], 64, 96))


def test_other_nets_and_sizes_are_refused():
    with pytest.raises(ValueError, match="encoder's cells"):
        dense.dense_loss(SimpleNamespace(logits=torch.zeros(1)), LABELS, 64, 96)
    with pytest.raises(ValueError, match="expected 504 cells"):
        dense.dense_loss(outputs(), LABELS, 128, 192)


NEW = {"d_model": 32, "encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "num_queries": 20}


@pytest.mark.parametrize("architecture", ["rt_detr_v2", "d_fine"])
def test_a_decoder_begins_with_what_the_cells_say(architecture):
    torch.manual_seed(0)
    net, _ = backbones.load_detector(
        architecture, ["a", "b"], backbone="sample", detector_config=NEW, image_size=[64, 96]
    )
    with torch.no_grad():
        for part in (net.model.enc_score_head, net.model.enc_output[1]):  # as if they had learned
            for own in part.parameters():
                own.add_(torch.randn_like(own) * 0.1)
        photo = torch.randn(1, 3, 64, 96)
        dense.start_decoder(net)
        said = net(photo)
        # The norms come once more after each layer, as the encoder's last one does.
        state, norm = said.enc_topk_logits, net.model.enc_output[1]
        best = said.enc_outputs_class.max(-1).values.topk(20).indices
        cells = said.enc_outputs_coord_logits.sigmoid().gather(1, best[..., None].expand(-1, -1, 4))
    assert state.shape == said.logits.shape == (1, 20, 2) and norm.weight.std() > 0
    assert torch.allclose(said.pred_boxes, cells, atol=0.02 if architecture == "d_fine" else 1e-5)
    together = torch.corrcoef(torch.stack([said.logits.flatten(), state.flatten()]))[0, 1]
    assert together > 0.9
    left = {name for name, own in net.named_parameters() if any(own is other for other in dense.of_decoder(net))}
    assert "model.enc_score_head.weight" not in left and not any("backbone" in name for name in left)
    assert any("decoder.layers.2" in name for name in left)


def test_a_batch_that_only_fills_up_teaches_nothing_and_counts_no_boxes(tmp_path, monkeypatch):
    """Of a process that no photo is left for; with the decoder and, at first, without."""
    photos = boxed_folder(tmp_path / "photos", train=2, validation=1, test=1)
    new = {"backbone": tiny_backbone(tmp_path / "net"), "detector_config": NEW, "image_size": 64}
    net, processor = backbones.load_detector("rt_detr_v2", NAMES, **new)
    trainer = training.DetectionTrainer(
        model=net, args=training.DetectionTrainingArguments(str(tmp_path / "run"), use_cpu=True, eval_strategy="no",
                                                            load_best_model_at_end=False),
        processing_class=processor, train_dataset=detect.prepare(photos["train"], processor, train=True),
        data_collator=detect.collate(net), dense=1.0, dense_epochs=1,
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    counted = []
    own = dense.dense_loss
    monkeypatch.setattr(
        detecting,
        "dense_loss",
        lambda *given: counted.append(sum(len(one["boxes"]) for one in given[1])) or own(*given),
    )
    for epoch in (0.5, 1.5):
        trainer.state.epoch = epoch
        net.train().zero_grad()
        assert trainer.compute_loss(net, dict(batch)) > 0
        loss = trainer.compute_loss(net, batch | {IDLE: True})
        loss.backward()
        assert loss == 0 and all((own.grad == 0).all() for own in net.parameters() if own.requires_grad)
    assert counted[0] == counted[2] > 0 and counted[1] == counted[3] == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--dense_cells", "4"], "dense_cells 4(?s:.*)dense 2"),
        (
            ["--dense", "1", "--backbone", "net", "--dense_epochs", "3", "--num_train_epochs", "3"],
            "num_train_epochs 12",
        ),
        (["--gradient_checkpointing", "True"], "gives no such way"),
    ],
)
def test_settings_that_would_do_nothing_are_refused_before_photos_are_looked_at(more, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxed_folder(tmp_path / "photos", train=2, validation=1, test=1)
    tiny_detector("rt_detr_v2", tmp_path / "rt_detr_v2")
    monkeypatch.setattr(recipe.checks, "check", None)
    with pytest.raises(InputError, match=told):
        recipe.main(["--model", "rt_detr_v2", "--dataset", "photos", "--use_cpu", "True", *more])
