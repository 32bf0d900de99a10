"""Edges of the gate of exports: what is wrong of a few photos alone, and what an export leaves that was broken off."""

import numpy as np
import pytest
from test_export import decided
from test_export_gate import ATTRIBUTES, LABELS, told, unit
from tiny import photos, tiny

from hf_fashion import exporting, runtime
from hf_fashion.errors import InputError
from hf_fashion.exporting import making, parity, shown

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
VECTORS = {"kind": "retrieval"}


def test_one_photo_of_no_numbers_is_too_many():
    """Of 300 it is less than what `--least_agreement 0.99` forgives."""
    expected = np.random.default_rng(0).dirichlet([1, 1, 1], 300)
    found = expected.copy()
    found[7] = np.nan
    figures = told(LABELS, expected, found)
    assert figures["agreement"] > 0.99 and not parity.enough(figures, 0.99)
    vectors = unit(np.random.default_rng(0).normal(size=(300, 8)))
    assert parity.enough(told(VECTORS, vectors, vectors), 0.99)
    vectors[7], broken = vectors[8], vectors.copy()
    broken[7] = np.inf
    assert not parity.enough(told(VECTORS, vectors, broken), 0.9)


@pytest.mark.parametrize("others", [1, 3])
def test_an_export_that_looks_at_no_photo_is_not_saved_by_the_commonest_label(others):
    """It is right wherever the original says that label, and wrong of a few photos only."""
    expected = 0.2 * np.random.default_rng(0).dirichlet([1, 1, 1], 300) + [0.1, 0.6, 0.1]
    expected[:others] = expected[:others, [1, 0, 2]]
    blind = np.repeat([[0.1, 0.8, 0.1]], 300, axis=0)
    figures = told(LABELS, expected, blind)
    assert (blind.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.99 and figures["agreement"] < 0.5
    drawn = np.random.default_rng(0).uniform(0.1, 0.4, (300, 4))
    drawn[:others, 2] = 0.9
    blind = drawn.copy()
    blind[:, 2:] = 0.01
    assert told(ATTRIBUTES, drawn, blind)["attributes"]["several"] < 0.5
    near = drawn.copy()  # a rare label that is lost, and all else as it was: what `least` is for
    near[0, 2] = 0.45
    assert told(ATTRIBUTES, drawn, near)["attributes"]["several"] == pytest.approx(299 / 300)


def test_vectors_of_another_length_are_not_the_same():
    """A search takes their product for the cosine."""
    vectors = unit(np.random.default_rng(0).normal(size=(40, 8)))
    figures = told(VECTORS, vectors, 3 * vectors)
    assert figures["cosine_min"] > 0.99 and figures["agreement"] == 0.0
    assert told(VECTORS, vectors, vectors.astype(np.float16))["agreement"] == 1.0


def test_a_split_of_a_photo_is_not_measured_by_itself():
    """Nobody is near a photo that is alone, and one photo of validation decides nothing."""
    rows = photos(train=1, validation=1, test=4)["test"]
    splits = ["test"] * (len(rows) - 1) + ["validation"]
    both = exporting.Photos(rows, exporting.Truth(), None, splits)
    assert len(both.of("validation")) == 0 and len(both.of("test")) == len(rows) - 1
    half = exporting.Photos(rows, exporting.Truth(), None, ["test", "validation"] * (len(rows) // 2))
    assert len(half.of("validation")) == len(half.of("test")) == len(rows) // 2 >= parity.FEWEST


def test_pixels_of_no_numbers_are_not_near(tmp_path):
    """A std of 0 in the processor: what is infinite differs by no number from anything."""
    original = exporting.load(str(tiny("vit", tmp_path / "net")))
    few = photos(train=1, validation=1, test=1)["test"]["image"]
    assert shown.refuse_differences(original.shown, original.processor, few)["largest"] <= shown.CLOSEST
    flat = type(original.processor)(size=original.processor.size, image_std=[0.0, 0.5, 0.5])
    other = original.shown._replace(std=(0.0, *original.shown.std[1:]))
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match="grey levels"):
        shown.refuse_differences(other, flat, few)


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), InputError("x", expected="y", found="z", fix="")])
def test_what_was_not_measured_cannot_be_loaded(reason, tmp_path, monkeypatch):
    """Broken off between the file and the gate, an export leaves no model."""
    original = exporting.load(str(decided(tiny("resnet", tmp_path / "tiny"), tmp_path / "net")))
    rows = photos(train=1, validation=1, test=4)["test"]
    ask = parity.ask

    def broken_off(model, *args):
        if isinstance(model, runtime.Exported):
            raise reason
        return ask(model, *args)

    monkeypatch.setattr(parity, "ask", broken_off)
    (tmp_path / "export").mkdir()
    with pytest.raises(type(reason)):
        making.make(
            original, tmp_path / "export", exporting.Photos(rows, exporting.Truth(), None), form="onnx",
            precision="fp32",
        )  # fmt: skip
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["runtime.json"]
    with pytest.raises(InputError, match="no such file"):
        runtime.load(tmp_path / "export")
