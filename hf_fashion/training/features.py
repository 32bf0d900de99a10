"""What a frozen backbone says of each photo, computed once: the head then learns on it, to the same bits.

With a frozen backbone, and photos that are shown alike in every epoch, all but the head gives the same in every epoch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import timm
import torch
import transformers
from accelerate import PartialState
from datasets import Dataset, Image
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.modeling_outputs import ImageClassifierOutput

from hf_fashion import cache
from hf_fashion.backbones.freezing import backbone_parameters, head_layers

KEY = "features"  # in an example and a batch, in the place of pixel_values
_BAR_FROM = 500  # photos


def reason_against(model: PreTrainedModel) -> str:
    """Why features of a net cannot be computed once, in words; empty when they can."""
    learning = [name for name in backbone_parameters(model) if model.get_parameter(name).requires_grad]
    if learning:
        return "parts of the backbone learn (--freeze backbone)"
    heads = head_layers(model)
    if len(heads) != 1:
        return f"a {model.config.model_type} net has {len(heads)} layers that give its logits"
    return ""


class Kept:
    """What a net says of photos at one place of it, computed once and kept on the disk.

    Args:
        says: Pictures (n, 3, height, width) -> what is kept of them (n, ...).
        about: All that it depends on beside the photos: see `about`.
        args: Of the training.

    Attributes:
        exact: Whether batches of every size so far gave the same bits; a net whose kernels differ by the size of a
            batch gives others in the last decimals, where the last batch of an epoch is smaller.
    """

    def __init__(self, says: Callable[[torch.Tensor], np.ndarray], about: Any, args: TrainingArguments) -> None:
        self._says, self._about, self._args, self.exact = says, about, args, True

    def name(self, prepared: Dataset, batch_size: int, in_order: bool) -> str:
        """What it is called on the disk; see `of`."""
        stored = prepared.with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))
        pictures = cache.of_pictures(row["image"] for row in stored)
        return cache.name_of(**self._about, pictures=pictures, batch=batch_size, order=in_order)

    def of(self, prepared: Dataset, batch_size: int, in_order: bool, name: str | None = None) -> np.ndarray:
        """What is said of photos (rows, ...).

        Args:
            prepared: Rows whose transform gives `pixel_values`, as of `examples.of_evaluation`.
            batch_size: Photos that pass the net together: as in the training, since bits may depend on it.
            in_order: The last batch is as small as rows are left, as in an evaluation; else it is filled up with rows
                before it, as most batches of a training that shuffles are.
            name: Of `name`, where it is known already.

        Raises:
            InputError: The disk is full.
        """
        name = name or self.name(prepared, batch_size, in_order)
        with PartialState().main_process_first():
            there = cache.held(name)
            found = self._make(name, prepared, batch_size, in_order) if there is None else there
        if not in_order and len(found) > batch_size and len(found) % batch_size:
            left = len(found) % batch_size  # rows of the last batch of every epoch of a training
            self.exact &= np.array_equal(self._says(pixels_of(prepared, range(left))), found[:left])
        return found

    def _make(self, name: str, prepared: Dataset, batch_size: int, in_order: bool) -> np.ndarray:
        count = len(prepared)
        first = self._says(pixels_of(prepared, range(min(batch_size, count))))

        def fill(array: np.memmap) -> None:
            array[: len(first)] = first
            starts = range(len(first), count, batch_size)
            for start in tqdm(starts, "features", disable=count < _BAR_FROM or self._args.disable_tqdm):
                stop = min(start + batch_size, count)
                begin = start if in_order else stop - batch_size
                array[start:stop] = self._says(pixels_of(prepared, range(begin, stop)))[start - begin :]

        return cache.make(name, (count, *first.shape[1:]), first.dtype, fill)


def pixels_of(prepared: Dataset, rows: range) -> torch.Tensor:
    """The pictures of some rows (n, 3, height, width)."""
    pixels: Any = prepared[rows.start : rows.stop]["pixel_values"]
    return pixels if isinstance(pixels, torch.Tensor) else torch.stack(list(pixels))


def about(
    model: PreTrainedModel, processor: Any, args: TrainingArguments, tensors: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """What decides what a net says of a photo.

    Args:
        model: The net.
        processor: Its image processor.
        args: Of the training: precision and device are theirs.
        tensors: Those of the net that what it says depends on.
    """
    config = {name: value for name, value in model.config.to_dict().items() if not _of_labels(name)}
    return {
        "net": type(model).__name__, "config": config, "weights": cache.of_tensors(tensors),
        "processor": processor.to_dict(), "precision": args.mixed_precision, "device": _device(args),
        "threads": torch.get_num_threads(), "torch": torch.__version__, "transformers": transformers.__version__,
        "timm": timm.__version__, "attention": getattr(model.config, "_attn_implementation", None),
    }  # fmt: skip


@contextmanager
def in_precision(model: PreTrainedModel, args: TrainingArguments, train: bool = False) -> Iterator[None]:
    """Within, a net runs on the device and in the precision of a training, in train or eval mode; draws are undone."""
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(str(args.mixed_precision))
    was = model.training
    try:
        nn.Module.to(model, args.device).train(train)
        with torch.random.fork_rng(), torch.autocast(args.device.type, half, enabled=half is not None):
            yield
    finally:
        model.train(was)


class Features:
    """The features of a net: what its head is given for a photo.

    Args:
        model: A classifier with a frozen backbone, of which `reason_against` says nothing.
        processor: Its image processor.
        args: Of the training: precision and device are theirs.

    Attributes:
        kept: Those of any photos (rows, ...), as 32-bit floats.
        words: What they are called.
    """

    words = "features"

    def __init__(self, model: PreTrainedModel, processor: Any, args: TrainingArguments) -> None:
        self.model, self.args = model, args
        nn.Module.to(model, memory_format=torch.channels_last)  # as the Trainer will have it
        [self._head] = head_layers(model)
        of_head = {id(own) for own in self._head.parameters()}
        tensors = {name: value for name, value in model.state_dict(keep_vars=True).items() if id(value) not in of_head}
        self.kept = Kept(
            lambda pixels: self.seen(pixels).float().cpu().numpy(), about(model, processor, args, tensors), args
        )

    def seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the head is given for a batch of pictures (n, 3, height, width)."""
        found: list[torch.Tensor] = []
        hook = self._head.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        try:
            with torch.no_grad(), in_precision(self.model, self.args):
                self.model(pixel_values=pixels.to(self.args.device))
        finally:
            hook.remove()
        return found[0]

    def misses(self, pixels: torch.Tensor) -> str:
        """What keeps the head from learning on features as it does on pictures, in words; empty when nothing does."""
        told = self.seen(pixels)
        if len(told) != len(pixels):
            return "its head is not given one row a photo"
        with torch.no_grad(), in_precision(self.model, self.args, train=True):
            plain = self.model(pixel_values=pixels.to(self.args.device)).logits
            again = self._head(told)
        return "" if torch.equal(plain, again) else "something between backbone and head changes while it learns"

    @contextmanager
    def taken(self, trainer: Trainer) -> Iterator[None]:
        """While it lasts, the net's `forward` takes `features` where it is given no pictures."""
        plain: Callable[..., Any] = self.model.forward
        head = self._head

        def forward(pixel_values: Any = None, features: Any = None, **more: Any) -> Any:
            if features is None:
                return plain(pixel_values=pixel_values, **more)
            return ImageClassifierOutput(logits=head(features))

        self.model.forward = forward
        try:
            yield
        finally:
            # What accelerate laid over it for half precision goes first, or it would bring it back later.
            trainer.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            self.model.__dict__.pop("forward", None)


def held_for(
    model: PreTrainedModel, processor: Any, args: TrainingArguments, train: Dataset, evaluated: Dataset
) -> tuple[Features | None, dict[str, np.ndarray], str]:
    """The features of the photos of a training, where the head can learn on them.

    Args:
        model: See `Features`.
        processor: See there.
        args: See there.
        train: Rows of the training split as of `examples.of_evaluation`.
        evaluated: Those of validation.

    Returns:
        What computes them, and name of the split -> features; or None, nothing, and the reason in words.
    """
    if reason := reason_against(model):
        return None, {}, reason
    made = Features(model, processor, args)
    if reason := made.misses(pixels_of(train, range(min(len(train), 4)))):
        return None, {}, reason
    arrays = {
        "train": made.kept.of(train, args.per_device_train_batch_size, in_order=False),
        "validation": made.kept.of(evaluated, args.per_device_eval_batch_size, in_order=True),
    }
    return made, arrays, ""


class Rows(torch.utils.data.Dataset):
    """Rows -> examples (features or pixel_values, labels), without a look at the photos.

    Args:
        dataset: Of the labels, and of `source_row`; its pictures are not read.
        kept: By row or rows, what is shown: features (rows, ...), or a `photo_cache.Prepared`.
        target: A row -> its `labels`.
        key: What it is called in an example.
    """

    def __init__(self, dataset: Dataset, kept: Any, target: Callable[[Any], Any], key: str = KEY) -> None:
        named = [name for name in dataset.column_names if name != "image"]
        self.dataset = dataset.with_format(None).select_columns(named)
        self._kept, self._key = kept, key
        self._labels = [target(row) for row in self.dataset]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        return self.__getitems__([index[0] if isinstance(index, tuple) else index])[0]

    def __getitems__(self, rows: list[int]) -> list[dict[str, Any]]:
        """The examples of a batch, read together."""
        shown = torch.as_tensor(np.array(told) if isinstance(told := self._kept[rows], np.ndarray) else told)
        return [{self._key: one, "labels": self._labels[row]} for one, row in zip(shown, rows, strict=True)]


def _of_labels(name: str) -> bool:
    return name in (
        "id2label",
        "label2id",
        "label_names",
        "num_labels",
        "problem_type",
        "name_or_path",
        "_name_or_path",
    )


def _device(args: TrainingArguments) -> str:
    kind = args.device.type
    if kind == "cuda":
        return f"{torch.cuda.get_device_name(args.device)}, --tf32 {args.tf32}"
    return f"{kind} {torch.backends.cpu.get_cpu_capability()}" if kind == "cpu" else kind
