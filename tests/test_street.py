"""The comparison of two detectors on the same photos, `benchmarks/street.py`."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from random_boxes import random_boxes

from hf_fashion import metrics


@pytest.fixture(scope="module")
def street():
    spec = importlib.util.spec_from_file_location("street", Path(__file__).parents[1] / "benchmarks" / "street.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_difference_is_of_the_figures_and_over_the_same_photos(street):
    said, truth, labels = random_boxes(40, 3, 8)
    worse = metrics.Detections(said.image, said.box, np.random.default_rng(0).random(len(said)), said.label)
    told = street.paired(said, worse, truth, labels)
    for name in ("map", "map_50"):
        one, other = (metrics.detection(part, truth, labels, n_resamples=0)[name] for part in (said, worse))
        assert told[name]["difference"] == pytest.approx(one - other, abs=1e-9)
        assert told[name]["low"] < one - other < told[name]["high"]
    # Were each net measured on draws of its own, the one with itself would have an interval.
    itself = street.paired(said, said, truth, labels)["map"]
    assert itself == {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
