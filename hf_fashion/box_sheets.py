"""Photos with their true boxes and those that a detector drew: the best, the worst, those where most is missed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from hf_fashion import examples, images, metrics, plots

SHOWN = 8  # photos on each sheet


def draw(
    dataset: Dataset,
    ids: Sequence[str],
    said: metrics.Detections,
    truth: metrics.Annotations,
    labels: Sequence[str],
    threshold: float,
    of_split: str,
    *,
    limits: images.Limits = images.LIMITS,
) -> dict[str, Any]:
    """Name of the sheet (best, worst, missed) -> matplotlib figure; none where there is nothing to show.

    Args:
        dataset: The photos of a split.
        ids: How each is called.
        said: The boxes that the detector drew on them.
        truth: What is there.
        labels: Class names.
        threshold: Boxes of a lower score are not drawn, and do not count.
        of_split: What the photos are, for the titles.
        limits: See `images.decode`.
    """
    shown = said[np.flatnonzero(said.score >= threshold)]
    return {
        name: _sheet(dataset, ids, shown, truth, labels, chosen, f"{told}, {of_split}", limits)
        for name, (chosen, told) in _chosen(shown, truth, threshold).items()
    }


def _chosen(
    said: metrics.Detections, truth: metrics.Annotations, threshold: float
) -> dict[str, tuple[list[int], str]]:
    """Name of a sheet -> the photos on it, and its title."""
    assigned = metrics.assign_errors(said, truth)
    count = truth.n_images
    right = np.bincount(said.image[assigned.kind == -1], minlength=count)
    wrong = np.bincount(said.image[assigned.kind >= 0], minlength=count)
    lost = ~assigned.found & ~truth.crowd
    missed = np.bincount(truth.image[lost], minlength=count)
    f1 = 2 * right / np.maximum(2 * right + wrong + missed, 1)
    some = np.flatnonzero(right + missed > 0)
    best = sorted(some, key=lambda photo: (-f1[photo], -right[photo]))[:SHOWN]
    worst = sorted(some, key=lambda photo: (f1[photo], -missed[photo]))[:SHOWN]
    most = sorted(np.flatnonzero(missed > 0), key=lambda photo: -missed[photo])[:SHOWN]
    at = f"boxes with a score of {threshold:.2f} and above"
    sheets = {
        "best": (best, f"Best photos, {at}"), "worst": (worst, f"Worst photos, {at}"),
        "missed": (most, f"Most garments not found ({lost.sum()} of {(~truth.crowd).sum()} in all), {at}"),
    }  # fmt: skip
    return {name: ([int(photo) for photo in chosen], told) for name, (chosen, told) in sheets.items() if chosen}


def _sheet(
    dataset: Dataset, ids: Sequence[str], said: metrics.Detections, truth: metrics.Annotations,
    labels: Sequence[str], chosen: Sequence[int], title: str, limits: images.Limits,
) -> Any:  # fmt: skip
    """Photos with their boxes: the true ones, and those that the model drew."""
    assigned = metrics.assign_errors(said, truth)
    true: list[Any] = []
    predicted: list[Any] = []
    for photo in chosen:
        there, drawn = np.flatnonzero(truth.image == photo), np.flatnonzero(said.image == photo)
        true.append([(truth.box[place], labels[truth.label[place]], bool(assigned.found[place])) for place in there])
        predicted.append(
            [
                (said.box[place], f"{labels[said.label[place]]} {said.score[place]:.2f}", assigned.kind[place] == -1)
                for place in drawn
            ]
        )
    photos = examples.photos(dataset, chosen, limits=limits)
    return plots.boxes_on_photos(photos, true, predicted, [str(ids[photo])[:40] for photo in chosen], title)
