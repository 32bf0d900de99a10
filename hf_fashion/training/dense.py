"""A loss for RT-DETR and D-FINE that gives every box many teachers: what lets them learn from some hundred photos.

A detector of this family matches each true box with one query alone, of which a few hundred photos make too few. But
its encoder scores every cell of its maps before it chooses the queries, with heads of a dense detector; here these
learn from all cells that fit a box, as in TOOD (Feng et al. 2021, arXiv 2108.07755: task-aligned assignment), with the
quality focal loss (Li et al. 2020, arXiv 2006.04388). The net itself is unchanged, and is saved and served as ever.
"""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.nn import functional
from torchvision.ops import box_convert, box_iou, generalized_box_iou_loss

STRIDES = (8, 16, 32)  # of the maps that the encoder scores
CELLS = 10  # at most that learn a box
SCORE_POWER, IOU_POWER = 0.5, 6.0  # alpha and beta of TOOD, whose alpha is 1
FOCUS = 2.0  # beta of the quality focal loss
L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0  # as in the detectors' own loss


def dense_loss(
    outputs: Any, labels: Sequence[dict[str, torch.Tensor]], height: int, width: int, most: int = CELLS
) -> torch.Tensor:
    """The loss of the encoder's cells.

    Args:
        outputs: Of RT-DETR, RT-DETR v2 or D-FINE: `enc_outputs_class` (photos, cells, classes) and
            `enc_outputs_coord_logits` (photos, cells, 4), before the sigmoid.
        labels: Of each photo `class_labels` (boxes,) and `boxes` (boxes, 4): centre, width, height as shares.
        height: Pixels of what the net saw.
        width: Likewise.
        most: Cells at most that learn a box. Many teach quickly; few leave less to choose from, as the decoder must.

    Raises:
        ValueError: The outputs have no cells, or other ones than maps of 8, 16 and 32 pixels have.
    """
    logits, coordinates = (
        getattr(outputs, "enc_outputs_class", None),
        getattr(outputs, "enc_outputs_coord_logits", None),
    )
    if logits is None or coordinates is None:
        raise ValueError(
            "a dense loss needs the scores of the encoder's cells, as RT-DETR, RT-DETR v2 and D-FINE have"
        )
    cells = cells_of(height, width, logits.device)
    if len(cells) != logits.shape[1]:
        raise ValueError(f"expected {len(cells)} cells of maps of {STRIDES} pixels, found {logits.shape[1]}")
    logits, boxes = logits.float(), box_convert(coordinates.float().sigmoid(), "cxcywh", "xyxy")
    scores = logits.detach().sigmoid()
    wanted = torch.zeros_like(logits)
    weights, found, true = [], [], []
    for photo, told in enumerate(labels):
        truth, classes = box_convert(told["boxes"].float(), "cxcywh", "xyxy"), told["class_labels"]
        owner, quality = assign(scores[photo], boxes[photo].detach(), truth, classes, cells, most)
        own = torch.nonzero(owner >= 0)[:, 0]
        wanted[photo, own, classes[owner[own]]] = quality[own]
        weights.append(quality[own])
        found.append(boxes[photo, own])
        true.append(truth[owner[own]])
    weight, box, target = torch.cat(weights), torch.cat(found), torch.cat(true)
    total = weight.sum()
    state = PartialState()
    if state.num_processes > 1:  # gradients are averaged over processes, so that of all is the sum over all weights
        total = reduce(total, reduction="mean")
    total = total.clamp(min=1.0 / state.num_processes)
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    by_class = (entropy * (wanted - scores).abs() ** FOCUS).sum()
    by_place = ((box - target).abs().sum(dim=1) * weight).sum()
    by_overlap = (generalized_box_iou_loss(box, target) * weight).sum()
    return (by_class + L1_WEIGHT * by_place + GIOU_WEIGHT * by_overlap) / total


def cells_of(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Centre, width and height of the cells of all maps, as shares of the photo (cells, 4), in the encoder's order."""
    made = []
    for stride in STRIDES:
        rows, columns = -(-height // stride), -(-width // stride)
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        grid = torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)
        made.append(
            torch.cat([grid, torch.tensor([1 / columns, 1 / rows], device=device).expand(len(grid), 2)], dim=1)
        )
    return torch.cat(made)


@torch.no_grad()
def start_decoder(net: Any) -> None:
    """Makes the decoder of a new RT-DETR or D-FINE say what the encoder's cells say, while its layers add nothing.

    `load_detector` builds such layers; what is left are the norms, and the heads of the classes.
    """
    norm, head = net.model.enc_output[1], net.model.enc_score_head
    for part in net.model.decoder.layers.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.load_state_dict(norm.state_dict())
    for own in net.class_embed:
        own.load_state_dict(head.state_dict())


def of_decoder(net: Any) -> list[torch.nn.Parameter]:
    """The learning parameters of RT-DETR or D-FINE that the encoder's cells do not need."""
    parts = [net.model.decoder, net.class_embed, net.bbox_embed, getattr(net.model, "denoising_class_embed", None)]
    found = {id(own): own for part in parts if part is not None for own in part.parameters() if own.requires_grad}
    return list(found.values())


@torch.no_grad()
def assign(
    scores: torch.Tensor,
    boxes: torch.Tensor,
    truth: torch.Tensor,
    classes: torch.Tensor,
    cells: torch.Tensor,
    most: int = CELLS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which cell learns which box of a photo, and how sure of it is to become.

    Args:
        scores: Of each cell and class (cells, classes).
        boxes: What each cell says, corners as shares (cells, 4).
        truth: The true boxes, corners as shares (boxes, 4).
        classes: Their classes (boxes,).
        cells: Of `cells_of`.
        most: Cells at most that learn a box.

    Returns:
        The place of the box of each cell, -1 for none (cells,), and its score to be (cells,).
    """
    if not len(truth):
        return torch.full((len(cells),), -1, device=cells.device), torch.zeros(len(cells), device=cells.device)
    overlap = box_iou(truth, boxes)
    aligned = scores[:, classes].T ** SCORE_POWER * overlap**IOU_POWER
    # A cell whose centre lies in the box; of a box that is smaller than a cell, the cells next to its centre.
    centre = box_convert(truth, "xyxy", "cxcywh")
    reach = torch.maximum(centre[:, None, 2:], cells[None, :, 2:]) / 2
    inside = ((cells[None, :, :2] - centre[:, None, :2]).abs() <= reach).all(dim=2)
    aligned = aligned * inside
    best, place = aligned.topk(min(most, len(cells)), dim=1)
    chosen = torch.zeros_like(inside).scatter_(1, place, best > 0)
    several = chosen.sum(dim=0) > 1
    if several.any():  # a cell learns the box that it overlaps most
        nearest = (overlap * chosen).argmax(dim=0)
        chosen[:, several] = False
        chosen[nearest[several], torch.nonzero(several)[:, 0]] = True
    aligned = aligned * chosen
    highest = (overlap * chosen).amax(dim=1, keepdim=True)
    quality, owner = (aligned / aligned.amax(dim=1, keepdim=True).clamp(min=1e-12) * highest).max(dim=0)
    any_box = chosen.any(dim=0)
    return torch.where(any_box, owner, -1), quality * any_box
