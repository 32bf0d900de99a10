"""Labels that are probably wrong are named, and the right ones are not."""

import sys

import numpy as np
import pytest
import torch
from datasets import ClassLabel, DatasetDict
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


def test_labels_that_are_perhaps_none_are_passed_over(shapes, monkeypatch):
    """Of 24 photos 8 are `n/a`, which the guesses would doubt."""
    shown = np.repeat(np.repeat(np.eye(2), 12, axis=0), 200, axis=1)
    shown += np.random.default_rng(0).normal(0, 0.01, shown.shape)
    monkeypatch.setattr(suspects, "features", lambda parts, limits: shown)
    names = ClassLabel(names=["circle", "square", "n/a"])
    labels = [2] * 4 + [0] * 7 + [1] * 9 + [2] * 4
    rows = shapes["train"].remove_columns("label").add_column("label", labels, feature=names)
    report = checks.check(DatasetDict(train=rows), Report({}), label_errors=True)
    told = [finding for finding in report.findings if "looks like" in finding.found]
    assert [(f.level, f.where) for f in told] == [("warning", "train:11")]
    assert not any("n/a" in finding.found for finding in told)


def test_doubts_of_a_bad_guesser_are_notes(shapes, monkeypatch):
    noise = np.random.default_rng(0).normal(size=(24, 3))
    monkeypatch.setattr(suspects, "features", lambda parts, limits: noise)
    report = checks.check(DatasetDict(train=shapes["train"]), Report({}), label_errors=True)
    told = [finding for finding in report.findings if "looks like" in finding.found]
    assert len(told) > 1 and {finding.level for finding in told} == {"note"}
    [hint] = [finding.found for finding in told if "weak hint" in finding.found]
    assert hint.endswith("% of the 24 labels")
