"""Errors by kind, on hand-made photos with one error each, and by what they cost."""

import numpy as np
import pytest
from random_boxes import random_boxes

from hf_fashion import metrics
from hf_fashion.metrics import tide

LABELS = ["dress", "hat"]
DRESS, HAT = [0.0, 0, 100, 100], [300.0, 0, 100, 100]
# A dress and a hat in each photo; what is said besides the dress, and the error that it is. `said` as (box, label).
CASES = {
    "right": ([(HAT, 1)], []),
    "missed": ([], ["missed"]),
    # Nearer than 0.5 to nothing of its class, and 0.6 of the hat: said to be a dress.
    "classification": ([([300.0, 0, 100, 60], 0)], ["classification"]),
    "localisation": ([([300.0, 0, 100, 40], 1)], ["localisation"]),
    "duplicate": ([(HAT, 1), ([300.0, 0, 100, 80], 1)], ["duplicate"]),
    "background": ([(HAT, 1), ([600.0, 0, 50, 50], 1)], ["background"]),
    "barely": ([(HAT, 1), ([300.0, 0, 100, 9], 1)], ["background"]),  # an IoU of 0.09
    # An IoU of 0.4 with a hat, called a dress: the hat is missed besides.
    "both": ([([300.0, 0, 100, 40], 0)], ["both", "missed"]),
    # Of two that are about one hat only the surer one could find it.
    "twice": ([([300.0, 0, 100, 40], 1), ([300.0, 0, 100, 30], 1)], ["localisation", "localisation"]),
    # About a hat that was found: a wrong place, whoever has the hat.
    "beside": ([(HAT, 1), ([300.0, 0, 100, 40], 1)], ["localisation"]),
    # A wrong place counts before a wrong class.
    "place first": ([([300.0, 0, 100, 60], 0), ([20.0, 0, 300, 100], 0)], ["classification", "localisation"]),
}


def photos(*cases):
    """A photo of each case; the dress is always found first."""
    said, truth = [], []
    for case in cases:
        found = [(DRESS, 0), *CASES[case][0]]
        said.append(
            {
                "boxes": [box for box, _ in found],
                "labels": [label for _, label in found],
                "scores": [0.9 - 0.1 * place for place in range(len(found))],
            }
        )
        truth.append({"boxes": [DRESS, HAT], "labels": [0, 1]})
    return metrics.Detections.of_images(said, "xywh"), metrics.Annotations.of_images(truth)


@pytest.mark.parametrize("case", CASES)
def test_each_error_is_called_by_its_kind(case):
    wanted = CASES[case][1]
    figures = metrics.detection_errors(*photos(case), LABELS)
    told = {name: figures[f"n/{name}"] for name in metrics.ERROR_KINDS if figures[f"n/{name}"]}
    assert told == {name: wanted.count(name) for name in wanted}
    costly = {name for name in metrics.ERROR_KINDS if figures[f"d_ap/{name}"]}
    if case in ("missed", "classification", "localisation", "twice", "place first"):
        assert costly <= set(wanted) | {"missed"} and figures["map"] == pytest.approx(0.5)
    if case in ("localisation", "twice", "classification"):  # set right, the hat is found
        assert figures[f"d_ap/{wanted[0]}"] == pytest.approx(0.5)


def test_what_was_found_and_what_an_error_is_about():
    predictions, references = photos("right", "twice", "both", "duplicate")
    told = metrics.assign_errors(predictions, references)
    kinds = [tide.ERROR_KINDS[kind] if kind >= 0 else "right" for kind in told.kind]
    assert kinds == ["right", "right", "right", "localisation", "localisation", "right", "both", "right", "right",
                     "duplicate"]  # fmt: skip
    assert told.about.tolist() == [0, 1, 2, 3, 3, 4, -1, 6, 7, -1]
    assert np.flatnonzero(told.mends).tolist() == [3]
    assert np.flatnonzero(~told.found).tolist() == [3, 5] and np.flatnonzero(told.missed).tolist() == [5]


def test_costs_by_hand():
    """Hats of four photos: two found, one missed, one in the wrong place; the surest hat of all is background."""
    predictions, references = photos("right", "right", "missed", "localisation")
    extra = metrics.Detections(np.array([0]), np.array([[600.0, 0, 9, 9]]), np.array([0.95]), np.array([1]))
    joined = {name: np.concatenate([vars(predictions)[name], vars(extra)[name]]) for name in vars(extra)}
    figures = metrics.detection_errors(metrics.Detections(**joined), references, LABELS)
    # 51 of 101 recalls are reached by 2 of 4, at a precision of 2 in 3.
    hats = 51 / 101 * 2 / 3
    assert figures["map"] == pytest.approx((1 + hats) / 2)
    assert figures["d_ap/background"] == pytest.approx((51 / 101 - hats) / 2)
    assert figures["d_ap/localisation"] == pytest.approx((76 / 101 * 3 / 4 - hats) / 2)
    assert figures["d_ap/missed"] == pytest.approx((67 / 101 * 2 / 3 - hats) / 2)
    assert figures["d_ap/duplicate"] == figures["d_ap/both"] == figures["d_ap/classification"] == 0
    assert figures["n/right"] == 6


@pytest.mark.parametrize("seed", range(3))
def test_the_base_is_the_figure_of_the_library_and_every_detection_has_a_kind(seed):
    predictions, references, labels = random_boxes(said=25, seed=seed)
    figures = metrics.detection_errors(predictions, references, labels)
    whole = metrics.detection(predictions, references, labels, n_resamples=0)
    assert figures["map"] == pytest.approx(whole["map_50"], abs=1e-9)
    told = metrics.assign_errors(predictions, references)
    assert all(figures[f"n/{name}"] and figures[f"d_ap/{name}"] >= 0 for name in metrics.ERROR_KINDS)
    counted = sum(figures[f"n/{name}"] for name in ("right", *metrics.ERROR_KINDS)) - figures["n/missed"]
    assert counted == (told.kind != tide.IGNORED).sum() < len(predictions)  # some lie in a crowd
    assert not (told.found & told.missed).any() and not told.missed[references.crowd].any()
    assert told.mends.sum() + told.found.sum() + told.missed.sum() == (~references.crowd).sum()


def test_pieces_of_any_size_say_the_same(monkeypatch):
    predictions, references, labels = random_boxes(said=25)
    whole = metrics.detection_errors(predictions, references, labels)
    monkeypatch.setattr(tide, "_PAIRS", 5)
    assert metrics.detection_errors(predictions, references, labels) == whole


def test_beyond_a_hundred_of_a_class_nothing_counts():
    box = np.tile([0.0, 0, 100, 100], (120, 1)) + np.arange(120)[:, None] * [1000, 0, 0, 0]
    predictions = metrics.Detections(np.zeros(120, int), box, np.linspace(1, 0, 120), np.zeros(120, int))
    references = metrics.Annotations(np.zeros(1, int), box[110:111], np.zeros(1, int), 1)
    figures = metrics.detection_errors(predictions, references, ["dress"])
    assert (figures["n/right"], figures["n/background"], figures["n/missed"]) == (0, 100, 1)


def test_no_boxes():
    nothing = metrics.Detections.of_images([{"boxes": [], "scores": [], "labels": []}] * 2)
    figures = metrics.detection_errors(nothing, photos("right", "right")[1], LABELS)
    assert figures["n/missed"] == 4 and figures["map"] == 0 and figures["d_ap/missed"] == 0
    figures = metrics.detection_errors(
        photos("right")[0], metrics.Annotations.of_images([{"boxes": [], "labels": []}]), LABELS
    )
    assert figures["map"] is None and figures["d_ap/missed"] is None and figures["n/background"] == 2


def test_costs_are_those_of_the_authors():
    """All cases together, scored lower from photo to photo, by `tidecv` 1.0.1."""
    predictions, references = photos(*CASES)
    predictions.score -= 1e-3 * np.arange(len(predictions))
    figures = metrics.detection_errors(predictions, references, LABELS)
    theirs = {"classification": 8.649222065063645, "localisation": 12.857142857142856, "missed": 4.073550212164068}
    assert figures["map"] == pytest.approx(0.6882602545968883)
    assert [100 * figures[f"d_ap/{name}"] for name in metrics.ERROR_KINDS] == pytest.approx(
        [theirs.get(name, 0.0) for name in metrics.ERROR_KINDS]
    )


def test_the_best_threshold_is_where_f1_is_highest():
    true = np.array([[0, 0, 10, 10], [30, 0, 10, 10], [0, 0, 10, 10]])
    truth = metrics.Annotations(np.array([0, 0, 1]), true, np.zeros(3, int), 2)
    boxes = np.array([[0, 0, 10, 10], [60, 0, 10, 10], [30, 0, 10, 10], [0, 50, 10, 10], [5, 50, 10, 10]])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    said = metrics.Detections(np.array([0, 0, 0, 1, 1]), boxes, scores, np.zeros(5, int))
    # F1 after each: 2/4, 2/5, 4/6, 4/7, 4/8.
    assert metrics.best_threshold(said, truth) == pytest.approx(0.7, abs=1e-3)
    nothing = said[np.array([1])]
    assert metrics.best_threshold(nothing, truth) is None
