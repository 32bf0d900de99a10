"""What must not pass the gate of an export, though a share of equal answers alone would let it through."""

import errno
import json
import types

import numpy as np
import pytest
from PIL import Image
from tiny import photos, tiny

from hf_fashion import exporting, images, runtime
from hf_fashion.errors import InputError
from hf_fashion.exporting import graph, making, parity, shown, usage
from hf_fashion.recipes import export as recipe

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LABELS = {"kind": "classification", "labels": ["a", "b", "c"]}
ATTRIBUTES = {
    "kind": "attributes", "labels": ["a", "b", "c", "d"], "thresholds": {"c": 0.5, "d": 0.5},
    "groups": {"one": {"many": False, "labels": ["a", "b"]}, "several": {"many": True, "labels": ["c", "d"]}},
}  # fmt: skip


def told(about, expected, found):
    sizes = [(8, 8)] * len(expected)
    return parity.compare(about, parity.Answers(expected, sizes), parity.Answers(found, sizes), parity.Truth())


def scores(count, *, one=False):
    """Of three labels (count, 3): all different, or the second one of all photos."""
    drawn = np.random.default_rng(0).dirichlet([1, 1, 1], count)
    return 0.2 * drawn + [0.1, 0.6, 0.1] if one else drawn


def test_a_rare_label_that_is_lost_is_a_refusal():
    expected = scores(1000)
    expected[:, 2] = 0.0
    expected[:4] = [0.1, 0.2, 0.7]
    found = expected.copy()
    found[:4] = [0.6, 0.2, 0.2]
    figures = told(LABELS, expected, found)
    assert figures["agreement"] == 0.996 and figures["lost"] == ["c"] and not parity.enough(figures, 0.99)
    assert "never 'c'" in parity.in_words(figures)
    found[0] = expected[0]  # once at least
    figures = told(LABELS, expected, found)
    assert "lost" not in figures and parity.enough(figures, 0.99)
    found[:4] = expected[:4] = [0.6, 0.3, 0.1]
    assert "lost" not in told(LABELS, expected, found)  # which the original does not say either


# Numbers that are none


def test_what_is_no_number_agrees_with_nothing():
    """Of a row of NaN numpy, too, says that the first label is the surest."""
    expected = scores(20)
    expected[:5] = [0.8, 0.1, 0.1]
    found = expected.copy()
    found[:5] = np.nan
    figures = told(LABELS, expected, found)
    assert figures["agreement"] == 0.75 and figures["not_finite"] == 5
    assert "NaN or infinity of 5 photos" in parity.in_words(figures)
    json.dumps(figures, allow_nan=False)
    both = np.concatenate([expected, expected[:, :1]], axis=1)
    found = np.where(np.arange(20)[:, None] < 5, np.inf, both)
    assert told(ATTRIBUTES, both, found)["not_finite"] == 5
    vectors = np.random.default_rng(0).normal(size=(20, 6))
    broken = np.where(np.arange(20)[:, None] < 5, np.nan, vectors)
    figures = told({"kind": "retrieval"}, vectors, broken)
    assert figures["agreement"] <= 0.75 and figures["cosine_min"] == 0.0
    json.dumps(figures, allow_nan=False)


def test_a_detector_whose_boxes_are_no_numbers():
    about = {"kind": "detection", "score_threshold": 0.5, "labels": ["a"]}
    boxes = [[(0, 0.9, [0.1, 0.1, 0.5, 0.5])]] * 4
    found = [*boxes[:3], [(0, 0.9, [0.1, float("nan"), 0.5, 0.5])]]
    figures = told(about, boxes, found)
    assert figures["not_finite"] == 1 and figures["agreement"] == pytest.approx(6 / 7)


def test_a_detector_whose_scores_are_no_numbers():
    """They draw no box, which would look as if there were none."""
    about = {"kind": "detection", "score_threshold": 0.5, "labels": ["a", "b"], "queries_at_most": 4, "same": 0.7,
             "most": 9}  # fmt: skip
    said = np.tile(np.array([[0.9, 0.1], [0.8, 0.1]], np.float32), (300, 1, 1))
    corners = np.tile(np.array([[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.9, 0.9]], np.float32), (300, 1, 1))

    def answers(scores, boxes):
        model = types.SimpleNamespace(about=about, outputs=lambda photos: iter([(photos, (scores, boxes))]))
        return parity.Answers(parity.of_exported(model, [None] * 300), [(8, 8)] * 300)

    expected = answers(said, corners)
    assert parity.enough(parity.compare(about, expected, answers(said, corners), parity.Truth()), 0.99)
    for broken in (said.copy(), corners.copy()):
        broken[7, 0, 0] = np.nan
        found = answers(broken, corners) if broken.shape[-1] == 2 else answers(said, broken)
        figures = parity.compare(about, expected, found, parity.Truth())
        assert figures["not_finite"] == 1 and not parity.enough(figures, 0.99)


def test_rounding_of_photos_of_one_label_is_no_blindness():
    """Of many photos of one label int8 moves some scores by more than 0.05."""
    rng = np.random.default_rng(1)
    expected = rng.dirichlet([1, 8, 1], 300)
    expected = expected[expected.argmax(axis=1) == 1]
    found = expected + rng.normal(0, 0.03, expected.shape)
    assert np.abs(found - expected).max() > parity.SAME_SCORE
    assert parity.enough(told(LABELS, expected, found), 0.99)
    mixed = expected[rng.permutation(len(expected))]  # the same scores, of other photos
    assert not parity.enough(told(LABELS, expected, mixed), 0.99)
    # A sigmoid that is sure: 64 bits tell photos apart, 32 do not.
    sure = np.column_stack([scores(20)[:, :2], 1 - np.linspace(1e-8, 2e-8, 20), np.linspace(1e-9, 2e-9, 20)])
    assert told(ATTRIBUTES, sure, sure.astype(np.float32).astype(float))["attributes"]["several"] == 1.0


def test_an_original_that_says_no_numbers_is_refused():
    expected = scores(20)
    expected[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinity of 1 of 20") as error:
        told(LABELS, expected, expected)
    assert "checkpoint" in error.value.fix


# Answers that prove nothing


def test_one_label_of_all_photos_proves_nothing():
    """A file that looks at no photo gives it, too: there the scores must be near, and differ from photo to photo."""
    expected = scores(20, one=True)
    assert told(LABELS, expected, expected)["agreement"] == 1.0
    assert told(LABELS, expected, expected + 0.01)["agreement"] == 1.0
    blind = np.repeat(expected[:1], 20, axis=0)
    assert np.abs(blind - expected).max(axis=1).min() < parity.SAME_SCORE
    assert told(LABELS, expected, blind)["agreement"] == 0.0
    flat = np.repeat([[0.3, 0.4, 0.3]], 20, axis=0) + scores(20) * 1e-3
    assert (flat.argmax(axis=1) == 1).all() and told(LABELS, expected, flat)["agreement"] < 0.5
    assert "one label of all" in told(LABELS, expected, flat)["of"]
    several = scores(20)  # where labels differ, they are what counts
    assert told(LABELS, several, several**0.5)["agreement"] == 1.0


def test_a_bad_attribute_does_not_hide_behind_good_ones():
    drawn = np.random.default_rng(0).uniform(0.1, 0.9, (100, 4))
    found = drawn.copy()
    found[:3, :2] = found[:3, 1::-1]
    figures = told(ATTRIBUTES, drawn, found)
    assert figures["attributes"] == {"one": 0.97, "several": 1.0} and figures["agreement"] == pytest.approx(0.985)
    assert not parity.enough(figures, 0.98) and parity.enough(figures, 0.97)
    assert "the least for 'one': 0.970" in parity.in_words(figures)


def test_labels_that_no_photo_has_prove_nothing():
    """Below their thresholds in both, wherever their scores are."""
    drawn = np.random.default_rng(0).uniform(0.1, 0.4, (20, 4))
    found = drawn.copy()
    found[:, 2:] = 0.01
    assert told(ATTRIBUTES, drawn, found)["attributes"]["several"] == 0.0
    found[:, 2:] = drawn[:, 2:] + 0.02
    assert told(ATTRIBUTES, drawn, found)["attributes"]["several"] == 1.0


def test_one_photo_without_numbers_is_too_many():
    expected = scores(400)
    found = expected.copy()
    found[7] = np.nan
    figures = told(LABELS, expected, found)
    assert figures["agreement"] > 0.99 and not parity.enough(figures, 0.99)


def test_a_blind_export_is_not_saved_by_few_other_photos():
    """It says of all photos what the original says of nearly all."""
    expected = np.concatenate([scores(399, one=True), [[0.9, 0.05, 0.05]]])
    assert told(LABELS, expected, np.repeat(expected[:1], 400, axis=0))["agreement"] == 0.0


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_of_another_space_are_not_the_same():
    """Turned, they keep all neighbours; but an index that the original filled would be asked in vain."""
    drawn = np.random.default_rng(0)
    vectors = unit(drawn.normal(size=(40, 8)))
    turn = np.linalg.qr(drawn.normal(size=(8, 8)))[0]
    figures = told({"kind": "retrieval"}, vectors, vectors @ turn)
    assert figures["same_neighbour"] == 1.0 and figures["agreement"] < 0.5
    assert told({"kind": "retrieval"}, vectors, vectors)["agreement"] == 1.0


def test_vectors_of_another_length_are_not_the_same():
    """A search takes the product of two for their cosine."""
    vectors = unit(np.random.default_rng(0).normal(size=(40, 8)))
    assert told({"kind": "retrieval"}, vectors, 3 * vectors)["agreement"] == 0.0


def test_vectors_that_are_all_alike_prove_nothing():
    vectors = unit(np.ones((20, 8)) + 0.01 * np.random.default_rng(0).normal(size=(20, 8)))
    assert told({"kind": "retrieval"}, vectors, np.repeat(vectors[:1], 20, axis=0))["agreement"] == 0.0


def test_a_handful_of_photos_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "write", lambda *_: pytest.fail("written"))
    original = exporting.load(str(tiny("vit", tmp_path / "net")))
    rows = photos(train=1, validation=1, test=1)["test"]
    with pytest.raises(InputError, match="4 or more") as error:
        making.make(original, tmp_path, exporting.Photos(rows, exporting.Truth(), None), form="onnx", precision="fp32")
    assert error.value.found == "3" and "--photos" in error.value.fix


# The pixels


@pytest.mark.parametrize("wrong", [{"resample": "nearest"}, {"resample": "bicubic"}])
def test_photos_that_need_no_resizing_do_not_prove_it(wrong, tmp_path):
    """All of a shop's photos have the net's size: those of tomorrow have another one."""
    original = exporting.load(str(tiny("vit", tmp_path / "net")))
    drawn = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    few = [Image.fromarray(photo) for photo in drawn]
    assert shown.refuse_differences(original.shown, original.processor, few)["largest"] <= 1
    other = original.shown._replace(values=original.shown.values | wrong)
    assert shown.differences(other, original.processor, few)["largest"] == 0
    with pytest.raises(InputError, match="grey levels"):
        shown.refuse_differences(other, original.processor, few)


def test_the_lines_of_a_card_decode_as_we_do(tmp_path):
    """Upright, and white behind what is transparent; palettes, grey and CMYK, too."""
    original = exporting.load(str(tiny("vit", tmp_path / "net")))
    about = {"format": "onnx", "precision": "fp32", "kind": "retrieval", "outputs": ["vectors"],
             "input": original.shown.values}  # fmt: skip
    lines = usage.usage(about, "export", "PHOTO").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("photo ="))
    end = next(number for number, line in enumerate(lines) if line.startswith("model ="))
    drawn = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    rgba = Image.fromarray(drawn, "RGBA")
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "rgba.png": (rgba, {}), "rgb.png": (rgba.convert("RGB"), {}), "grey.png": (rgba.convert("L"), {}),
        "la.png": (rgba.convert("LA"), {}), "palette.png": (rgba.convert("RGB").quantize(16), {}),
        "seen through.png": (rgba.convert("RGB").quantize(16), {"transparency": 3}),
        "cmyk.jpg": (rgba.convert("CMYK"), {}), "turned.jpg": (rgba.convert("RGB"), {"exif": turned}),
    }  # fmt: skip
    for name, (picture, settings) in kinds.items():
        picture.save(tmp_path / name, **settings)
        names: dict = {}
        code = "\n".join(["from PIL import Image, ImageOps", *lines[start:end]])
        exec(code.replace('"PHOTO"', repr(str(tmp_path / name))), names)
        expected = runtime.pixels(images.decode(tmp_path / name), original.shown.values)
        apart = np.abs(np.asarray(names["photo"]).astype(int) - expected)
        assert apart.max() <= 1, name


# What is left behind


def test_what_breaks_off_leaves_nothing_to_load(tmp_path, monkeypatch):
    """Killed between the file and its verdict, a folder would look like any other export."""
    original = exporting.load(str(tiny("vit", tmp_path / "net")))
    rows = photos(train=1, validation=1, test=2)["test"]

    def broken(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(parity, "times", broken)
    (tmp_path / "o").mkdir()
    with pytest.raises(KeyboardInterrupt):
        making.make(
            original, tmp_path / "o", exporting.Photos(rows, exporting.Truth(), None), form="onnx", precision="fp32"
        )
    with pytest.raises(InputError):
        runtime.load(tmp_path / "o")


# What another net would not mend


@pytest.mark.parametrize(
    "reason", [MemoryError("too large"), OSError(errno.EIO, "Input/output error"), ImportError("a package is broken")]
)
def test_what_is_wrong_with_the_machine_is_not_blamed_on_the_net(reason, tmp_path, monkeypatch):
    original = exporting.load(str(tiny("vit", tmp_path / "net")))

    def fail(*_args, **_settings):
        raise reason

    monkeypatch.setattr(graph, "_export", fail)
    with pytest.raises(type(reason)):
        graph.write(original, tmp_path / "model.onnx")


def test_a_full_disk_is_called_so(tmp_path, monkeypatch):
    """As torch's writer says it, without a number."""
    original = exporting.load(str(tiny("vit", tmp_path / "net")))

    def fail(*_args, **_settings):
        raise RuntimeError("[enforce fail at inline_container.cc:664] unexpected pos")

    monkeypatch.setattr(graph, "_export", fail)
    with pytest.raises(InputError, match="a disk with room") as error:
        graph.write(original, tmp_path / "model.onnx")
    assert "TMPDIR" in error.value.fix


def test_nets_without_operators_in_litert_are_refused_before_photos_are_read(tmp_path, monkeypatch):
    net = types.SimpleNamespace(config=types.SimpleNamespace(model_type="d_fine"))
    values = {"crop": None, "pad": None, "resize": "squash", "size": [64, 64]}
    original = exporting.Original("detection", net, None, shown.Shown(values, (0.0,) * 3, (1.0,) * 3), {})
    monkeypatch.setattr(recipe.exporting, "load", lambda *_args, **_settings: original)
    monkeypatch.setattr(recipe.exporting, "refuse_pair", lambda *_: None)
    monkeypatch.setattr(recipe, "described", lambda _: {})
    monkeypatch.setattr(recipe, "read", lambda *_: pytest.fail("read"))
    with pytest.raises(InputError, match="--format litert for a d_fine net") as error:
        recipe.main(["net", "--dataset", "x", "--format", "litert", "-o", str(tmp_path / "o")])
    assert "SORT" in error.value.found and "--format onnx" in error.value.fix
