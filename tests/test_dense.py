"""The dense loss: which cells learn a box, and that a net that says it right pays nothing."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.ops import box_convert

from hf_fashion.training import dense

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
