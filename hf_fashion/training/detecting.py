"""A Trainer for detectors: what a step of the evaluation gives is boxes, so many a photo that it fits any memory."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.trainer_utils import PredictionOutput

from hf_fashion.augmentation import KEY
from hf_fashion.errors import InputError
from hf_fashion.training.dense import CELLS, STRIDES, dense_loss, of_decoder, start_decoder
from hf_fashion.training.trainer import IDLE, FashionTrainer

MOST = 100  # boxes a photo that are measured, as COCO does
# Of an evaluation's batch: places of the photos in the split; height and width of each photo, and as the net sees it.
ROWS, SIZES, SEEN = "rows", "target_sizes", "seen"
FIELDS = 6  # of a box in `predictions`: x0, y0, x1, y1 in pixels of the photo, score, class; -1 where there is none


class DetectionTrainer(FashionTrainer):
    """`FashionTrainer` whose predictions are the boxes that the processor makes of the net's answer.

    They are those that `pipeline("object-detection", threshold=0)` gives, before it cuts corners to whole pixels. The
    Trainer's own way keeps every logit of every layer, and mangles lists of targets (trap 6); here a photo is a tensor
    of (100, 6) numbers, that any number of processes gather in the usual way, each photo once.

    `predictions` of `predict` and `compute_metrics` are (photos, 100, 6), see `FIELDS`; `label_ids` are the places of
    the photos in the split (photos,). The processor is the `processing_class`.
    """

    def __init__(
        self, *args: Any, dense: float = 0.0, dense_cells: int = CELLS, dense_epochs: int = 0, **kwargs: Any
    ) -> None:
        """As `FashionTrainer`.

        Args:
            *args: Of that.
            dense: Weight of `dense_loss` beside the net's own; 0 for none.
            dense_cells: Cells of the encoder at most that learn a box.
            dense_epochs: In so many epochs of the beginning it is the only loss, and the decoder passes on what the
                encoder says; for a new detector of `load_detector`.
            **kwargs: Of that.

        Raises:
            InputError: A dense loss for a net without the cells that it needs.
        """
        super().__init__(*args, **kwargs)
        self.label_names, self.dense = [ROWS], dense
        self.dense_cells, self.dense_epochs = dense_cells, dense_epochs
        config: Any = self.accelerator.unwrap_model(self.model).config
        if dense and tuple(getattr(config, "feat_strides", ())) != STRIDES:
            raise InputError(
                f"--dense {dense:g}", expected="RT-DETR, RT-DETR v2 or D-FINE over maps of 8, 16 and 32 pixels",
                found=f"a {config.model_type} net", fix="leave it out",
            )  # fmt: skip

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs.pop(ROWS, None)
        sizes, seen = inputs.pop(SIZES, None), inputs.pop(SEEN, None)
        if seen is not None and return_outputs:
            apart = bool((seen != seen.new_tensor(inputs["pixel_values"].shape[-2:])).any())
            if turns := self._most(len(seen) if apart else 0):
                return self._one_by_one(model, inputs, sizes, seen.tolist(), turns)
        idle = IDLE in inputs
        share = 0.0 if idle else 1.0
        if torch.is_grad_enabled() and self.dense_epochs and (epoch := self.state.epoch or 0.0) <= self.dense_epochs:
            start_decoder(self.accelerator.unwrap_model(self.model))
            if epoch < self.dense_epochs:
                return self._of_cells_alone(model, inputs, share)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.dense and torch.is_grad_enabled():
            cells = self._of_cells(outputs, inputs, idle)
            loss = loss - share * self._of_queries(outputs) + share * self.dense * cells
        if sizes is None or not return_outputs:
            return (loss, outputs) if return_outputs else loss
        return loss, {"loss": loss, "detections": self._boxes(outputs, sizes)}

    def _of_cells(self, outputs: Any, inputs: dict[str, Any], idle: bool) -> torch.Tensor:
        labels, (height, width) = inputs["labels"], inputs["pixel_values"].shape[-2:]
        if idle:  # nor do its boxes count in what the losses of all processes are divided by
            labels = [{name: one[name][:0] for name in ("class_labels", "boxes")} for one in labels]
        return dense_loss(outputs, labels, height, width, self.dense_cells)

    def _of_cells_alone(self, model: Any, inputs: dict[str, Any], share: float) -> torch.Tensor:
        """The dense loss without the decoder's; the net is shown no labels, so it matches and denoises nothing."""
        shown = {name: value for name, value in inputs.items() if name not in ("labels", IDLE)}
        loss = share * self.dense * self._of_cells(model(**shown), inputs, IDLE in inputs)
        self._hold(model)
        # Several processes wait for the gradients of all that learns.
        return loss + 0.0 * sum(own.sum() for own in of_decoder(self.accelerator.unwrap_model(self.model)))

    def _of_queries(self, outputs: Any) -> torch.Tensor:
        """The net's own loss on the cells that become queries: one cell a box, where the dense loss wants several."""
        config: Any = self.accelerator.unwrap_model(self.model).config
        last = f"_aux_{config.decoder_layers - 1}"
        own = [value for name, value in outputs.loss_dict.items() if name.endswith(last)]
        return torch.stack(own).sum() if own else outputs.loss.new_zeros(())

    def _boxes(self, outputs: Any, sizes: torch.Tensor) -> torch.Tensor:
        processor: Any = self.processing_class
        return packed(processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes))

    def _most(self, count: int) -> int:
        """The highest count of all processes."""
        if self.args.world_size == 1:
            return count
        counts: Any = self.accelerator.gather(torch.tensor([count], device=self.accelerator.device))
        return int(counts.max())

    def _one_by_one(
        self, model: Any, inputs: dict[str, Any], sizes: torch.Tensor, seen: list[list[int]], turns: int
    ) -> Any:
        """Photos of several shapes, each as `pipeline` shows it: what fills a batch up changes what the net sees.

        The losses of DETR and its kin add up boxes over all processes, so all of them take equally many turns; one
        that has no photo left shows its last one again, and forgets it.
        """
        losses, found = [], []
        for turn in range(turns):
            place = min(turn, len(seen) - 1)
            height, width = seen[place]
            one = {"pixel_values": inputs["pixel_values"][place : place + 1, :, :height, :width]}
            outputs = model(**one, labels=inputs["labels"][place : place + 1])
            if turn == place:
                losses.append(outputs.loss)
                found.append(self._boxes(outputs, sizes[place : place + 1]))
        loss = torch.stack(losses).mean()
        return loss, {"loss": loss, "detections": torch.cat(found)}

    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        """`FashionTrainer.predict` without `compute_metrics`, which knows the boxes of the validation split alone."""
        metrics, self.compute_metrics = self.compute_metrics, None
        try:
            return super().predict(*args, **kwargs)
        finally:
            self.compute_metrics = metrics


def packed(found: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
    """What a processor gives (a dict of boxes, scores and labels a photo) as one tensor (photos, 100, 6)."""
    made = found[0]["boxes"].new_full((len(found), MOST, FIELDS), -1.0, dtype=torch.float32)
    for photo, one in zip(made, found, strict=True):
        best = one["scores"].argsort(descending=True, stable=True)[:MOST]
        rows = torch.cat([one["boxes"], one["scores"][:, None], one["labels"][:, None].to(one["boxes"].dtype)], dim=1)
        photo[: len(best)] = rows[best].to(made.dtype)
    return made


class DetectionCollator:
    """Examples (pixel_values, labels) of any sizes -> a batch; smaller photos are filled up on the right and below.

    Args:
        masked: The net is told which pixels are filled (`pixel_mask`), and its boxes are shares of the photo. A net
            that cannot be told (YOLOS) gives shares of the filled picture.
        sizes: Sides in pixels of which each batch of training takes one, all photos alike; for nets that see squares.
            The draw is keyed by the batch's first example, see `augmentation.Augmented`.
    """

    def __init__(self, masked: bool, sizes: Sequence[int] = ()) -> None:
        self.masked, self.sizes = masked, list(sizes)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        photos = [example["pixel_values"] for example in examples]
        labels = [example["labels"] for example in examples]
        height, width = (max(photo.shape[side] for photo in photos) for side in (-2, -1))
        filled = any(photo.shape[-2:] != (height, width) for photo in photos)
        batch = torch.stack([_filled(photo, height, width) for photo in photos])
        made: dict[str, Any] = {"pixel_values": batch}
        if filled and self.masked:
            made["pixel_mask"] = torch.stack(
                [_filled(torch.ones_like(photo[0], dtype=torch.int64), height, width) for photo in photos]
            )
        elif filled and ROWS not in examples[0]:
            shares = [torch.tensor([width, height]) / torch.tensor([p.shape[-1], p.shape[-2]]) for p in photos]
            labels = [
                label | {"boxes": label["boxes"] / torch.cat([share, share])}
                for label, share in zip(labels, shares, strict=True)
            ]
        keys = [example.pop(KEY) for example in examples if KEY in example]
        if keys and self.sizes:
            side = self.sizes[int(keys[0]) % len(self.sizes)]
            made["pixel_values"] = torch.nn.functional.interpolate(
                batch, (side, side), mode="bilinear", align_corners=False, antialias=side < min(height, width)
            )
        made["labels"] = labels
        if ROWS in examples[0]:
            made[ROWS] = torch.tensor([example[ROWS] for example in examples])
            made[SIZES] = torch.stack([label["orig_size"] for label in labels]).float()
            made[SEEN] = torch.tensor([photo.shape[-2:] for photo in photos])
        return made


def _filled(photo: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(photo, (0, width - photo.shape[-1], 0, height - photo.shape[-2]))
