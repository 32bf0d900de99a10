"""Rows of a dataset -> what a net is shown: decoded, cropped, normalised when they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, Image

from hf_fashion import backbones, images, preparing
from hf_fashion.augmentation import Augmented, crop_and_flip
from hf_fashion.photo_cache import Photos, Prepared, Shrunk
from hf_fashion.streaming import Stream, StreamedExamples
from hf_fashion.training.features import Rows


def is_fixed(smallest_crop: float = 0.5, flip: bool = True, policy: str = "none") -> bool:
    """Whether training photos are shown alike in every epoch: see `augmentation.crop_and_flip`."""
    return smallest_crop == 1.0 and not flip and policy == "none"


def of_training(
    dataset: Dataset | Stream,
    processor: Any,
    columns: Sequence[str],
    target: Callable[[Mapping[str, Any]], Any],
    *,
    seed: int,
    keyed: bool = False,
    limits: images.Limits = images.LIMITS,
    features: np.ndarray | None = None,
    kept: Prepared | Shrunk | None = None,
    **augment: Any,
) -> Augmented | StreamedExamples | Rows:
    """Rows -> examples (pixel_values, labels), augmented anew in each epoch; as in an evaluation where `is_fixed`.

    Args:
        dataset: Canonical rows.
        processor: The model's image processor.
        columns: Columns of labels.
        target: A row of these columns -> its `labels`.
        seed: Of the random crops.
        keyed: See `augmentation.Augmented`.
        limits: See `images.decode`.
        features: Of a frozen backbone (rows, ...), in the place of the photos: see `training.features`.
        kept: The photos, opened already: see `photo_cache`.
        **augment: See `augmentation.crop_and_flip`.
    """
    if features is not None:
        return Rows(dataset, features, target)
    if isinstance(kept, Prepared):
        return Rows(dataset, kept, target, "pixel_values")
    transform: Callable[[Any], Any]
    if is_fixed(**augment):
        prepare = preparing.Preparer(processor)

        def transform(photo: Any) -> Any:
            return prepare([photo], limits=limits)[0]

    else:
        augmented = crop_and_flip(backbones.input_spec(processor), **augment)

        def transform(photo: Any) -> Any:
            return augmented(photo if kept is not None else images.pixels(photo, limits=limits))

    def example(row: dict[str, Any]) -> dict[str, Any]:
        return {"pixel_values": transform(row["image"]), "labels": target(row)}

    if isinstance(dataset, Stream):
        return StreamedExamples(dataset, example, seed, keyed=keyed, limits=limits, **dataset.options)
    named = ["source_row"] if "source_row" in dataset.column_names else []  # a row that breaks a training is named
    encoded = _encoded(dataset, [*columns, *named])
    return Augmented(encoded if kept is None else Photos(encoded, kept), example, seed, keyed=keyed)


def of_evaluation(
    dataset: Dataset,
    processor: Any,
    columns: Sequence[str],
    target: Callable[[Mapping[str, Any]], Any],
    *,
    limits: images.Limits = images.LIMITS,
    features: np.ndarray | None = None,
    kept: Prepared | None = None,
) -> Dataset | Rows:
    """Rows -> examples (pixel_values, labels) as the processor alone makes them; see `of_training`."""
    if features is not None:
        return Rows(dataset, features, target)
    if kept is not None:
        return Rows(dataset, kept, target, "pixel_values")

    prepare = preparing.Preparer(processor)

    def batch(rows: dict[str, list[Any]]) -> dict[str, Any]:
        told = [dict(zip(columns, values, strict=True)) for values in zip(*map(rows.get, columns), strict=True)]
        return {"pixel_values": prepare(rows["image"], limits=limits), "labels": [target(row) for row in told]}

    return _encoded(dataset, columns).with_transform(batch)


def photos(dataset: Dataset, rows: Sequence[int], *, limits: images.Limits = images.LIMITS) -> list[Any]:
    """The decoded photos of some rows, as PIL images."""
    return [images.decode(photo, limits=limits) for photo in _encoded(dataset, []).select(rows)["image"]]


def _encoded(dataset: Dataset, columns: Sequence[str]) -> Dataset:
    return dataset.select_columns(["image", *columns]).cast_column("image", Image(decode=False))
