"""Labels that are probably wrong are named, and the right ones are not."""

import sys

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from tiny import photos

from hf_fashion import checks
from hf_fashion.checks import suspects
from hf_fashion.errors import InputError
from hf_fashion.report import Report

pytest.importorskip("cleanlab")


def swapped(rows, *numbers):
    labels = list(rows["label"])
    for number in numbers:
        labels[number] = 1 - labels[number]
    return rows.remove_columns("label").add_column("label", labels, feature=rows.features["label"])


@pytest.fixture
def shapes():
    return photos(classes=("circle", "square"), train=12, validation=3, test=3, size=60)


def test_swapped_labels_are_found(shapes):
    """With the features of the real net."""
    dataset = DatasetDict(shapes, train=swapped(shapes["train"], 2, 20))
    report = checks.check(dataset, Report({}), label_errors=True)
    told = {finding.where: finding for finding in report.findings if "looks like" in finding.found}
    assert {"train:2", "train:20"} <= told.keys() and len(told) <= 3
    assert told["train:2"].found.startswith("square, but looks like circle (")
    assert told["train:2"].rows == (("train", 2),)


def test_the_folds_are_the_same_each_time():
    shown, labels = np.random.default_rng(0).random((40, 8), dtype=np.float32), np.arange(40) % 2
    torch.manual_seed(1)
    assert np.array_equal(suspects.out_of_fold(shown, labels), suspects.out_of_fold(shown, labels))


def test_pictures_that_cannot_be_read_and_rare_classes_are_passed_over(shapes, monkeypatch):
    monkeypatch.setattr(suspects, "features", lambda parts: np.eye(36, 50, dtype=np.float16))
    few = DatasetDict(train=shapes["train"].select([0, 1, 2, 3, 12]))
    report = checks.check(few, Report({}), label_errors=True)
    assert any("too few photos" in finding.found for finding in report.of("note"))


def test_cleanlab_is_asked_for_by_name(shapes, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(InputError, match=r"pip install 'hf_fashion\[check\]'"):
        checks.check(shapes, Report({}), label_errors=True)
