"""LiteRT, for phones: the file says what the model says, one photo at a time, and runs without torch."""

import importlib.util
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from test_export import decided, made, measured, opinionated, passes_its_gate
from tiny import photos, tiny
from tiny_detectors import boxed_folder, tiny_detector

from hf_fashion import cards, exporting, images, runtime
from hf_fashion.errors import InputError
from hf_fashion.exporting import graph
from hf_fashion.recipes import export as recipe

if importlib.util.find_spec("litert_torch") is None:  # not imported here: with it comes JAX, before all other tests
    pytest.skip("needs litert_torch", allow_module_level=True)
BLOCKED = ("torch", "transformers", "datasets", "timm", "litert_torch", "ai_edge_quantizer", "jax", "tensorflow")


@pytest.fixture(scope="module")
def dataset():
    return photos(train=12, validation=4, test=6)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """Of weights that came by chance two labels may have one score: of these they have not."""
    torch.manual_seed(0)
    return tiny("resnet", tmp_path_factory.mktemp("resnet") / "net")


@pytest.fixture(scope="module")
def exported(resnet, dataset, tmp_path_factory):
    place = tmp_path_factory.mktemp("phone")
    return made(decided(resnet, place / "net"), dataset, place / "export", "litert"), place / "export"


def test_a_file_for_phones(exported, dataset):
    """One signature with names: bytes in, scores out; the names of the labels beside it."""
    from ai_edge_litert.interpreter import Interpreter

    (original, report), place = exported
    assert report["passed"] and report["agreement"] == 1.0 and report["batch"] == 1 and report["drift_max"] < 1e-2
    assert (place / "labels.txt").read_text().splitlines() == original.about["labels"] == ["old 0", "old 1", "old 2"]
    content = (place / "model.tflite").read_bytes()
    assert b"site-packages" not in content and str(place).encode() not in content
    model = Interpreter(str(place / "model.tflite")).get_signature_runner()
    [(name, told)] = model.get_input_details().items()
    assert name == "pixels" and told["dtype"] is np.uint8 and told["shape"].tolist() == [1, 32, 32, 3]
    shown = runtime.pixels(dataset["test"]["image"][0], original.shown.values)[None]
    with torch.no_grad():
        expected = graph.Graph(original).eval()(torch.from_numpy(shown.copy())).numpy()
    np.testing.assert_allclose(model(pixels=shown)["scores"], expected, atol=1e-5)
    few = dataset["test"]["image"][:3]
    answers = runtime.load(place)(few, top_k=3, batch_size=8)
    for answer, scores in zip(answers, original.answers([images.decode(photo) for photo in few]), strict=True):
        by_name = {one["label"]: one["score"] for one in answer}
        np.testing.assert_allclose([by_name[name] for name in original.about["labels"]], scores, atol=1e-2)


def test_nothing_heavy_is_needed(exported, dataset, tmp_path):
    _, place = exported
    dataset["test"]["image"][0].save(tmp_path / "photo.png")
    code = f"import sys\nsys.modules.update(dict.fromkeys({BLOCKED!r}))\nfrom hf_fashion import runtime\n"
    code += f"print(runtime.load({str(place)!r})({str(tmp_path / 'photo.png')!r})[0]['label'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == runtime.load(place)(tmp_path / "photo.png")[0]["label"]


def test_several_threads_may_ask(exported):
    _, place = exported
    model, wrong = runtime.load(place, threads=1), []
    shown = [Image.effect_noise((40, 40), 90).convert("RGB") for _ in range(4)]
    expected = [model(photo) for photo in shown]

    def ask(number):
        wrong.extend(number for _ in range(40) if model(shown[number]) != expected[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# fp32 is what is made above, and the layers of int8 are looked at below.
@pytest.mark.slow
@pytest.mark.parametrize("precision", exporting.PRECISIONS["litert"])
def test_each_precision_passes_its_gate(precision, resnet, dataset, tmp_path):
    passes_its_gate("litert", precision, resnet, dataset, tmp_path)
    size = (tmp_path / "export" / "model.tflite").stat().st_size
    assert size > 0 and b"TFL3" in (tmp_path / "export" / "model.tflite").read_bytes()[:8]


def test_layers_in_int8(exported, dataset, tmp_path):
    """Weights are whole numbers with a scale for each channel; blocks that stay in float are not; softmax never is."""
    from ai_edge_litert.tools import flatbuffer_utils

    from hf_fashion.exporting import litert, sensitivity

    (original, _), place = exported
    pixels = [runtime.pixels(photo, original.shown.values)[None] for photo in dataset["train"]["image"][:8]]
    quantizer = litert.Quantizer(place / "model.tflite", pixels)
    assert quantizer.deciding == 0 and len(quantizer.blocks) >= 4
    first = next(iter(quantizer.blocks))

    def weights(path):
        """How many layers have their weights in 8 bits, and the most scales that one of them has."""
        net = flatbuffer_utils.read_model(str(path)).subgraphs[0]
        layers = [layer for layer in net.operators if layer.outputs is not None and len(layer.inputs) == 3]
        held = [net.tensors[layer.inputs[1]] for layer in layers]
        whole = [one for one in held if flatbuffer_utils.type_to_name(one.type) == "INT8"]
        return len(whole), max((len(one.quantization.scale) for one in whole), default=0)

    sensitivity.write(quantizer, tmp_path / "all.tflite")
    sensitivity.write(quantizer, tmp_path / "some.tflite", [first])
    sensitivity.write(quantizer, tmp_path / "none.tflite", list(quantizer.blocks))
    every, some, none = (weights(tmp_path / f"{name}.tflite") for name in ("all", "some", "none"))
    assert every[0] == sum(map(len, quantizer.blocks.values())) and every[1] > 1
    assert some[0] == every[0] - len(quantizer.blocks[first]) and none[0] == 0
    moved = sensitivity.sensitivity(quantizer, {"format": "litert", **original.about})
    assert set(moved) == set(quantizer.blocks) and list(moved.values()) == sorted(moved.values(), reverse=True)
    assert min(moved.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "swin", "dinov2", "convnext", "timm", "timm_vit"])
def test_other_architectures(kind, dataset, tmp_path):
    torch.manual_seed(0)
    _, report = made(tiny(kind, tmp_path / "net"), dataset, tmp_path / "export", "litert")
    assert report["agreement"] == 1.0 and report["drift_max"] < 2e-3


@pytest.mark.slow
def test_an_encoder(checkpoints, dataset, tmp_path):
    pytest.importorskip("sentence_transformers")
    from hf_fashion.backbones.encoders import load_encoder

    load_encoder(checkpoints["dinov2"], dimension=6).save_pretrained(str(tmp_path / "encoder"))
    original, report = made(tmp_path / "encoder", dataset, tmp_path / "export", "litert")
    assert report["agreement"] == 1.0 and report["cosine_min"] > 0.9999
    assert not (tmp_path / "export" / "labels.txt").exists()
    few = dataset["test"]["image"][:2]
    told = runtime.load(tmp_path / "export")(few)
    np.testing.assert_allclose(told, original.net.encode(few, normalize_embeddings=True), atol=2e-3)


@pytest.mark.slow
def test_a_detector(tmp_path):
    """RT-DETR v2: its positions become constants, its checks of shapes are left out."""
    model = opinionated(tiny_detector("rt_detr_v2", tmp_path / "net"))
    rows = boxed_folder(tmp_path / "photos")
    (tmp_path / "export").mkdir()
    original = exporting.load(str(model))
    photos = exporting.Photos(rows["test"], exporting.Truth(), None)
    # Of a random net many places are equally good, and LiteRT may take another one of them.
    told = exporting.make(original, tmp_path / "export", photos, form="litert", precision="fp32", least=0.6)
    assert told["original/boxes"] > 4 and told["drift_mean"] < 2e-3
    assert told["exported/boxes"] > 4
    found = runtime.load(tmp_path / "export")(rows["test"]["image"][0])
    assert found and all(set(one) == {"label", "score", "box"} for one in found)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99), ("int8", 0.9)])
def test_the_sample_that_ships_here(precision, least, tmp_path):
    """As an encoder: it has no labels."""
    argv = ["sample", "--task", "retrieve", "--dataset", "sample", "--format", "litert", "-o", str(tmp_path / "o")]
    argv += ["--precision", precision]
    told = recipe.main([*argv, "--photos", "60", "--calibration_photos", "32", "--least_agreement", str(least)])
    assert told["passed"] and told["agreement"] >= least
    assert told["bytes"]["exported"] < told["bytes"]["original"] * (1.2 if precision == "fp32" else 0.6)


# What cannot be had


def test_nets_that_keep_proportions_are_refused(tmp_path):
    original = exporting.load(str(tiny_detector("detr", tmp_path / "net")))
    with pytest.raises(InputError, match="keeps proportions") as error:
        exporting.refuse_shapes(original, "litert")
    assert "--format onnx" in error.value.fix


@pytest.mark.slow
def test_an_operator_that_litert_has_not(tmp_path):
    """D-FINE sorts: the converter writes it, and no engine knows it."""
    original = exporting.load(str(tiny_detector("d_fine", tmp_path / "net")))
    with pytest.raises(InputError, match="--format litert for a d_fine net") as error:
        exporting.make(
            original, tmp_path, measured(boxed_folder(tmp_path / "photos")), form="litert", precision="fp32"
        )
    assert "SORT" in error.value.found and "--format onnx" in error.value.fix


def test_bad_settings_are_refused_at_the_door(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="litert with fp32 or fp16 or int8") as error:
        recipe.main(["x", "--format", "litert", "--precision", "bf16", "-o", str(tmp_path / "o")])
    assert "--format openvino --precision bf16" in error.value.fix
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="the package litert-torch") as error:
        recipe.main(["x", "--format", "litert", "-o", str(tmp_path / "o")])
    assert error.value.fix == "pip install 'hf_fashion[litert]'"


def test_a_missing_engine_is_named(exported, monkeypatch):
    _, place = exported
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match="the package ai-edge-litert") as error:
        runtime.load(place)
    assert "hf_fashion[litert]" in error.value.fix


# The recipe


@pytest.mark.slow
def test_a_folder_for_an_app(resnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "shapes", classes=("old 0", "old 1", "old 2"), train=8, validation=4, test=6)
    model = decided(resnet, tmp_path / "net")
    argv = [str(model), "--dataset", "shapes", "-o", "phone", "--format", "litert", "--precision", "int8"]
    told = recipe.main([*argv, "--least_agreement", "0.7", "--base_model", "you/dresses"])
    assert told["photos"] == 30 and told["test"]["photos"] == 18
    assert {path.name for path in (tmp_path / "phone").iterdir()} == {
        "model.tflite", "labels.txt", "runtime.json", "parity.json", "README.md", "run.json"
    }  # fmt: skip
    text = (tmp_path / "phone" / "README.md").read_text()
    assert cards.validate(tmp_path / "phone" / "README.md") == []
    assert "library_name: tflite" in text and "labels.txt" in text and "(1, 32, 32, 3)" in text
    assert f"on the 18 of test alone, in {told['test']['agreement']:.3f}" in text
    code = text.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 20 and "ai_edge_litert" in code
