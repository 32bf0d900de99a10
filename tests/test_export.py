"""An export says what the model says, or there is none: every architecture, every format and precision of --help."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, concatenate_datasets
from tiny import KINDS, photos, save, slow_but, tiny
from tiny_detectors import KINDS as DETECTORS
from tiny_detectors import boxed_folder, tiny_detector

from hf_fashion import backbones, cards, exporting, images, runtime
from hf_fashion.errors import InputError
from hf_fashion.exporting import graph, making, parity, shown, usage
from hf_fashion.metrics import Annotations
from hf_fashion.recipes import export as recipe

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PAIRS = [(form, precision) for form, several in exporting.PRECISIONS.items() for precision in several]


@pytest.fixture(scope="module")
def dataset():
    return photos(train=12, validation=4, test=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("photos") / "shapes"
    photos(place, classes=("old 0", "old 1", "old 2"), train=8, validation=4, test=6)
    return place


def decided(source, place):
    """A tiny checkpoint whose labels differ from photo to photo: random weights nearly always say the same."""
    net, processor = backbones.load_classifier(source)
    shown = [processor(photo, return_tensors="pt")["pixel_values"] for photo in photos()["train"]["image"]]
    head = [part for part in net.modules() if isinstance(part, torch.nn.Linear) and part.out_features == 3][-1]
    with torch.no_grad():
        told = net(torch.cat(shown)).logits
        spread = told.std(dim=0) / 2
        head.bias.copy_((head.bias - told.mean(dim=0)) / spread)
        head.weight.div_(spread[:, None])
    return save(net, processor, place)


def opinionated(place):
    """Random detectors find all places alike; with larger weights some are better than others, and stay so."""
    from safetensors.torch import load_file, save_file

    tensors, drawn = load_file(place / "model.safetensors"), torch.Generator().manual_seed(5)
    for name, tensor in tensors.items():
        if tensor.ndim >= 2:
            many = 2.0 if any(part in name for part in ("score_head", "class_embed", "class_labels")) else 1.0
            tensors[name] = torch.randn(tensor.shape, generator=drawn) * many / tensor[0].numel() ** 0.5
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    return place


def measured(dataset, **truth):
    return exporting.Photos(dataset["test"], exporting.Truth(**truth), dataset["train"])


def made(model, dataset, place, form="onnx", precision="fp32", **settings):
    place.mkdir(parents=True)
    original = exporting.load(str(model))
    return original, exporting.make(original, place, measured(dataset), form=form, precision=precision, **settings)


# Every architecture


# Transformers, windows whose number depends on the batch, a net of timm with batch norms; a ResNet is what is below.
@pytest.mark.parametrize("kind", slow_but(KINDS, "vit", "swin", "timm"))
def test_a_classifier_says_the_same(kind, dataset, tmp_path):
    torch.manual_seed(0)  # of weights that came by chance two labels may have one score
    original, report = made(tiny(kind, tmp_path / "net"), dataset, tmp_path / "export")
    assert report["passed"] and report["agreement"] == 1.0 and report["n"] == len(dataset["test"]) == 18
    assert report["batch"] == "any"  # Swin, too
    model, few = runtime.load(tmp_path / "export"), dataset["test"]["image"][:5]
    told, expected = model(few, top_k=3, batch_size=3), original.answers([images.decode(photo) for photo in few])
    for answer, scores in zip(told, expected, strict=True):
        by_name = {one["label"]: one["score"] for one in answer}
        np.testing.assert_allclose([by_name[name] for name in original.about["labels"]], scores, atol=2e-3)
    assert report["drift_max"] < 2e-3


# RT-DETR v2 is what the tests of Spaces and servers export: `exported.py`.
@pytest.mark.parametrize("kind", slow_but(DETECTORS, "detr"))
def test_a_detector_says_the_same(kind, tmp_path):
    """Also those that see photos in their own proportions, portrait and landscape."""
    model = opinionated(tiny_detector(kind, tmp_path / "net"))
    rows = boxed_folder(tmp_path / "photos")
    (tmp_path / "export").mkdir()
    original = exporting.load(str(model))
    original.about["score_threshold"] = {"detr": 0.1, "yolos": 0.1, "rf_detr": 0.05}.get(kind, 0.5)
    truth = exporting.Truth(boxes=recipe.detect.annotations(rows["test"]))
    told = exporting.make(
        original, tmp_path / "export", exporting.Photos(rows["test"], truth, None), form="onnx", precision="fp32",
        least=0.8,  # a pixel that is one level off moves some of a random decoder's boxes
    )  # fmt: skip
    assert told["original/boxes"] > 4 and told["drift_mean"] < 2e-3
    pixels = np.stack([runtime.pixels(photo, original.shown.values) for photo in rows["test"]["image"][:4:2]])
    found = runtime.engine(tmp_path / "export" / "model.onnx", {"format": "onnx", **original.about})(pixels)
    with torch.no_grad():
        expected = graph.Graph(original).eval()(torch.from_numpy(pixels))
    for a, b in zip(found, expected, strict=True):  # but for queries that are equally good
        assert np.isclose(a, b.numpy(), atol=1e-3).all(axis=-1).mean() > 0.75
    assert told["original/map_50"] == pytest.approx(told["exported/map_50"], abs=0.02)
    found = runtime.load(tmp_path / "export")(rows["test"]["image"][0])
    width, height = rows["test"]["image"][0].size
    assert all(0 <= one["box"]["xmin"] <= one["box"]["xmax"] <= width for one in found)
    assert all(0 <= one["box"]["ymin"] <= one["box"]["ymax"] <= height for one in found)


@pytest.mark.parametrize("kind", slow_but(["vit", "timm", "convnext", "clip"], "timm", "clip"))
def test_an_encoder_gives_the_same_vectors(kind, checkpoints, dataset, tmp_path):
    """Net, pooling, a new layer and the length of 1 are one graph; of CLIP what sees photos."""
    pytest.importorskip("sentence_transformers")
    from test_encoders import tiny_clip

    from hf_fashion.backbones.encoders import load_encoder

    source = tiny_clip("clip", tmp_path / "clip") if kind == "clip" else checkpoints[kind]
    load_encoder(source, **({} if kind == "clip" else {"dimension": 6})).save_pretrained(str(tmp_path / "encoder"))
    original, report = made(tmp_path / "encoder", dataset, tmp_path / "export")
    assert report["agreement"] == 1.0 and report["cosine_min"] > 0.9999
    few = dataset["test"]["image"][:4]
    vectors = runtime.load(tmp_path / "export")(few)
    assert vectors.shape == (4, original.about["dimension"]) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, original.net.encode(few, normalize_embeddings=True), atol=2e-3)


def test_attributes_come_with_their_thresholds(checkpoints, dataset, tmp_path):
    model = decided(checkpoints["resnet"], tmp_path / "net")
    config = json.loads((model / "config.json").read_text())
    config |= {
        "problem_type": "multi_label_classification",
        "id2label": {"0": "color: red", "1": "color: blue", "2": "tags: soft"},
        "label2id": {"color: red": 0, "color: blue": 1, "tags: soft": 2},
        "attribute_groups": {
            "color": {"many": False, "labels": ["color: red", "color: blue"]},
            "tags": {"many": True, "labels": ["tags: soft"]},
        },
        "thresholds": {"tags: soft": 0.3},
    }
    (model / "config.json").write_text(json.dumps(config))
    original, report = made(model, dataset, tmp_path / "export")
    assert original.kind == "attributes" and report["agreement"] == 1.0 and report["n"] == 2 * 18
    [told] = runtime.load(tmp_path / "export")(dataset["test"]["image"][:1])
    [scores] = original.answers([images.decode(dataset["test"]["image"][0])])
    assert [one["label"] for one in told["color"]] == [["color: red", "color: blue"][scores[:2].argmax()]]
    assert bool(told["tags"]) == bool(scores[2] >= 0.3)


# Every format and precision of --help


def test_help_offers_what_is_tested():
    hints = recipe.Arguments.__annotations__
    assert set(get_args(hints["format"])) == {form for form, _ in PAIRS} == set(runtime.FILES)
    assert set(get_args(hints["precision"])) == {precision for _, precision in PAIRS}


# OpenVINO in bf16 is its fp32, told to round; LiteRT has a file of its own.
SLOW = {("openvino", "bf16"): pytest.mark.slow}


@pytest.mark.parametrize(
    ("form", "precision"),
    [pytest.param(*pair, marks=SLOW.get(pair, ())) for pair in PAIRS if pair[0] != "litert"],
)
def test_each_pair_passes_its_gate(form, precision, checkpoints, dataset, tmp_path):
    if form == "openvino":
        openvino = pytest.importorskip("openvino")
        if precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("a CPU without bf16")
    passes_its_gate(form, precision, checkpoints["resnet"], dataset, tmp_path)


def passes_its_gate(form, precision, checkpoint, dataset, tmp_path):
    model = decided(checkpoint, tmp_path / "net")
    original, report = made(model, dataset, tmp_path / "export", form, precision, least=0.75)
    assert report["passed"] and (tmp_path / "export" / runtime.FILES[form]).is_file()
    said = {one["label"] for answer in runtime.load(tmp_path / "export")(dataset["test"]["image"], top_k=1)
            for one in answer}  # fmt: skip
    assert len(said) > 1  # or agreement would say nothing
    about = json.loads((tmp_path / "export" / runtime.ABOUT).read_text())
    pixels = np.stack([runtime.pixels(photo, about["input"]) for photo in dataset["test"]["image"]])
    run = runtime.engine(tmp_path / "export" / runtime.FILES[form], about)
    found = np.concatenate(
        [run(batch)[0] for batch in (np.split(pixels, len(pixels)) if about["batch"] else [pixels])]
    )
    with torch.no_grad():
        apart = np.abs(graph.Graph(original).eval()(torch.from_numpy(pixels)).numpy() - found).max()
    # OpenVINO would compute in bf16 where it can, unless it is told.
    rounded = (1e-4, 0.5 if form == "litert" else 0.3)  # in a file for phones the last layers are rounded, too
    least, most = {"fp32": (0.0, 1e-5), "fp16": (1e-6, 1e-2)}.get(precision, rounded)
    assert least <= apart < most
    code = usage.usage(about, "export", "photo.jpg")
    photo = images.decode(dataset["test"]["image"][0])
    assert usage.run(code, tmp_path / "export", "export", photo).count("old") == 3


def test_what_no_engine_runs_is_refused_at_the_door(tmp_path):
    with pytest.raises(InputError, match="onnx with fp32 or int8") as error:
        recipe.main(["x", "--precision", "bf16", "-o", str(tmp_path / "o")])
    assert "--format openvino --precision bf16" in error.value.fix


# int8


@pytest.mark.parametrize("kind", slow_but(("resnet", "vit", "swin", "convnext"), "resnet", "vit"))
def test_weighted_layers_are_whole_numbers(kind, checkpoints, dataset, tmp_path):
    model = decided(checkpoints[kind], tmp_path / "net")
    original, report = made(model, dataset, tmp_path / "export", precision="int8", least=0.0)
    [only] = report["tries"]
    assert only["in_float"] == [] and report["calibration_photos"] == 36
    net = onnx.load(tmp_path / "export" / "model.onnx").graph
    whole = {tensor.name for tensor in net.initializer if tensor.data_type == onnx.TensorProto.INT8}
    made_by = {name: node for node in net.node for name in node.output}
    for node in net.node:
        inputs = [made_by[name].op_type for name in node.input if name in made_by]
        if node.op_type in ("Conv", "Gemm"):
            assert inputs[:2] == ["DequantizeLinear", "DequantizeLinear"], node.name
        if node.op_type in ("Softmax", "LayerNormalization"):  # what flows into them; a bias of zeros may be shared
            assert node.input[0] not in made_by or made_by[node.input[0]].op_type != "DequantizeLinear", node.name
    assert len(whole) >= 4
    assert any(len(tensor.dims) == 1 and tensor.dims[0] > 1 for tensor in net.initializer if "scale" in tensor.name)


def test_sensitive_layers_stay_in_float(checkpoints, dataset, tmp_path, capsys):
    """With a threshold that int8 does not reach, more and more blocks are left out, those that move most first."""
    model = decided(checkpoints["resnet"], tmp_path / "net")
    with pytest.raises(InputError, match="least_agreement") as error:
        made(model, dataset, tmp_path / "export", precision="int8", least=1.1)
    report = json.loads((tmp_path / "export" / making.REPORT).read_text())
    tries = report["tries"]
    assert f"the best of {len(tries)} tries" in error.value.found
    assert not (tmp_path / "export" / "model.onnx").exists()
    assert len({len(one["in_float"]) for one in tries}) == len(tries)  # what is taken in the end is no other try
    best = max(tries, key=lambda one: one["agreement"])
    assert report["in_float"] == best["in_float"]
    assert not report["passed"] and len(tries) >= 3 and tries[0]["in_float"] == []
    moved = list(tries[2]["sensitivity"].values())
    assert len(tries[2]["in_float"]) > len(tries[1]["in_float"]) >= 2
    assert min(one["drift_mean"] for one in tries[2:]) < tries[0]["drift_mean"]
    assert moved[0] == max(moved) and "blocks in float" in capsys.readouterr().out


def test_int8_needs_training_photos(checkpoints, dataset, tmp_path):
    original = exporting.load(str(checkpoints["resnet"]))
    alone = exporting.Photos(dataset["test"], exporting.Truth(), None)
    with pytest.raises(InputError, match="training split"):
        exporting.make(original, tmp_path, alone, form="onnx", precision="int8")


def test_validation_decides_and_test_is_measured_by_itself(checkpoints, dataset, tmp_path, monkeypatch):
    """Photos of the test split have no say in which layers stay in float."""
    model, seen = decided(checkpoints["resnet"], tmp_path / "net"), []
    original, ask = exporting.load(str(model)), parity.ask
    monkeypatch.setattr(parity, "ask", lambda model, rows, *more: seen.append(len(rows)) or ask(model, rows, *more))
    rows = concatenate_datasets([dataset["test"], dataset["validation"]])
    splits = ["test"] * len(dataset["test"]) + ["validation"] * len(dataset["validation"])
    truth = exporting.Truth(labels=np.array(rows["label"]))
    photos = exporting.Photos(rows, truth, dataset["train"], splits)
    (tmp_path / "export").mkdir()
    told = exporting.make(original, tmp_path / "export", photos, form="onnx", precision="int8", least=0.5)
    assert seen == [30, 12, 30] and told["tried_on"] == "validation" and told["splits"] == ["test", "validation"]
    assert told["tries"][0]["n"] == 12 and told["n"] == 30 and told["test"]["n"] == 18
    on_validation = told["agreement"] * 30 - told["test"]["agreement"] * 18
    assert on_validation == pytest.approx(told["tries"][0]["agreement"] * 12)
    right = original.answers([images.decode(photo) for photo in dataset["test"]["image"]]).argmax(axis=1)
    expected = float((right == np.array(dataset["test"]["label"])).mean())
    assert told["test"]["original/accuracy"] == pytest.approx(expected)


def test_a_split_of_classes_that_the_model_has_not():
    """It has no accuracy: a share of no photos is no number, in JSON neither."""
    scores = parity.Answers(np.eye(3), [(8, 8)] * 3)
    about = {"kind": "classification", "labels": ["a", "b", "c"]}
    told = parity.compare(about, scores, scores, parity.Truth(labels=np.array([-1, -1, -1])))
    assert told["agreement"] == 1.0 and "original/accuracy" not in told
    json.dumps(told, allow_nan=False)
    told = parity.compare(about, scores, scores, parity.Truth(labels=np.array([-1, 1, 0])))
    assert told["original/accuracy"] == 0.5


def test_without_both_splits_training_photos_decide(dataset):
    one = exporting.Photos(dataset["test"], exporting.Truth(), dataset["train"], ["test"] * 18)
    assert len(one.of("test")) == len(one.of("validation")) == 0
    boxes = Annotations(np.array([0, 1, 1, 2]), np.arange(16.0).reshape(4, 4), np.array([0, 1, 2, 0]), 3)
    part = exporting.Truth(np.array([5, 6, 7]), boxes, ["a", "b", "c"]).of(np.array([1, 2]))
    assert part.labels.tolist() == [6, 7] and part.items == ["b", "c"]
    assert (
        part.boxes.image.tolist() == [0, 0, 1] and part.boxes.n_images == 2 and part.boxes.label.tolist() == [1, 2, 0]
    )


@pytest.mark.slow
def test_what_decides_about_boxes_stays_in_float(tmp_path):
    """Decoder and heads of a detector: a number that is rounded there moves a box, or takes another query."""
    from hf_fashion.exporting import quantization, sensitivity

    original = exporting.load(str(tiny_detector("rt_detr_v2", tmp_path / "net")))
    graph.write(original, tmp_path / "float.onnx")
    pixels = [graph.noise(1, *graph.sides(original)).numpy()]
    every, few = (quantization.Quantizer(tmp_path / "float.onnx", pixels, detects=told) for told in (False, True))
    named = [layer for layers in few.blocks.values() for layer in layers]
    assert every.deciding == 0 and few.deciding == sum(map(len, every.blocks.values())) - len(named) > 10
    assert not any("decoder/layers" in layer or "score_head" in layer for layer in named)
    assert any("backbone" in layer for layer in named) and any("encoder" in layer for layer in named)
    sensitivity.write(few, tmp_path / "int8.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert kinds.count("QuantizeLinear") > 10


@pytest.mark.parametrize("kind", slow_but(("yolos", "detr"), "yolos"))
def test_int8_of_nets_that_keep_proportions(kind, tmp_path):
    model = opinionated(tiny_detector(kind, tmp_path / "net"))
    rows = boxed_folder(tmp_path / "photos")
    (tmp_path / "export").mkdir()
    photos = exporting.Photos(rows["test"], exporting.Truth(), rows["train"])
    told = exporting.make(
        exporting.load(str(model)), tmp_path / "export", photos, form="onnx", precision="int8", least=0.0
    )
    assert told["deciding_in_float"] > 2
    net = onnx.load(tmp_path / "export" / "model.onnx").graph
    assert sum(tensor.data_type == onnx.TensorProto.INT8 for tensor in net.initializer) >= 4
    shapes = {runtime.pixels(photo, exporting.load(str(model)).shown.values).shape for photo in rows["test"]["image"]}
    assert len(shapes) > 1
    assert len(runtime.load(tmp_path / "export")(rows["test"]["image"])) == len(rows["test"])


# The gate


def test_a_broken_export_does_not_pass(checkpoints, dataset, tmp_path, monkeypatch):
    """The graph's file is right for torch.onnx and wrong for the photos: channels the other way round."""
    model = decided(checkpoints["resnet"], tmp_path / "net")
    forward = graph.Graph.forward
    monkeypatch.setattr(graph.Graph, "forward", lambda self, pixels: forward(self, pixels.flip(3)))
    with pytest.raises(InputError, match="the original's answers for 99%"):
        made(model, dataset, tmp_path / "export")
    report = json.loads((tmp_path / "export" / making.REPORT).read_text())
    assert not report["passed"] and report["agreement"] < 0.99
    assert not (tmp_path / "export" / "model.onnx").exists()


def test_a_graph_that_differs_from_torch_is_not_written(checkpoints, tmp_path, monkeypatch):
    original = exporting.load(str(checkpoints["vit"]))
    run = runtime.engine
    monkeypatch.setattr(runtime, "engine", lambda *args, **more: lambda pixels: [run(*args, **more)(pixels)[0] * 1.1])
    with pytest.raises(InputError, match="differs by"):
        graph.write(original, tmp_path / "model.onnx")


def test_a_wrong_decoder_does_not_pass(checkpoints, dataset, tmp_path, monkeypatch):
    """The photos' way is measured, too."""
    model = decided(checkpoints["resnet"], tmp_path / "net")
    pixels = runtime.pixels
    monkeypatch.setattr(runtime, "pixels", lambda photo, values: pixels(photo, values)[::-1])
    with pytest.raises(InputError, match="grey levels"):
        made(model, dataset, tmp_path / "export")


def test_wilson_is_that_of_the_book():
    """Its ends are the shares of which 98 of 100 is just 1.96 standard errors away."""
    for end in parity.wilson(0.98, 100):
        assert abs(0.98 - end) == pytest.approx(1.959964 * (end * (1 - end) / 100) ** 0.5)
    assert parity.wilson(1.0, 50) == pytest.approx((0.92865, 1.0), abs=1e-4)


def test_a_detector_that_finds_nothing_is_not_proven(tmp_path):
    """Two models that draw no box agree on nothing."""
    original = exporting.load(str(tiny_detector("yolos", tmp_path / "net")))
    original.about["score_threshold"] = 1.0
    rows = boxed_folder(tmp_path / "photos")
    (tmp_path / "export").mkdir()
    with pytest.raises(InputError, match="of 0 boxes") as error:
        exporting.make(
            original, tmp_path / "export", exporting.Photos(rows["test"], exporting.Truth(), None), form="onnx",
            precision="fp32",
        )  # fmt: skip
    assert "finds something" in error.value.fix and not (tmp_path / "export" / "model.onnx").exists()


def test_boxes_are_matched_once():
    about = {"score_threshold": 0.5, "kind": "detection", "labels": ["a", "b"]}
    box, other = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]
    expected = parity.Answers([[(0, 0.9, box), (1, 0.8, other)], [(0, 0.4, box)]], [(10, 10)] * 2)
    found = parity.Answers([[(0, 0.7, box), (0, 0.6, box)], [(0, 0.6, box)]], [(10, 10)] * 2)
    told = parity.compare(about, expected, found, exporting.Truth())
    assert (told["original/boxes"], told["exported/boxes"]) == (2, 3)
    assert told["agreement"] == pytest.approx(2 / 5) and told["drift_max"] == pytest.approx(0.2)


# The recipe


def test_a_folder_that_anybody_can_use(checkpoints, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = decided(checkpoints["resnet"], tmp_path / "net")
    told = recipe.main([str(model), "--dataset", str(folder), "-o", "exported", "--base_model", "you/dresses"])
    assert told["passed"] and told["photos"] == 30 and 0 <= told["original/accuracy"] <= 1
    place = Path("exported")
    assert {path.name for path in place.iterdir()} == {
        "model.onnx", "runtime.json", "parity.json", "README.md", "run.json"
    }  # fmt: skip
    run = json.loads((place / "run.json").read_text())
    assert run["status"] == "finished" and run["recipe"] == "export"
    text = (place / "README.md").read_text()
    assert "base_model_relation: quantized" in text and "base_model: you/dresses" in text
    assert str(tmp_path) not in text and str(tmp_path) not in (place / "runtime.json").read_text()
    assert str(tmp_path).encode() not in (place / "model.onnx").read_bytes() and b"site-packages" not in (
        place / "model.onnx"
    ).read_bytes()  # fmt: skip
    assert cards.validate(place / "README.md") == []
    assert f"{told['agreement']:.3f}" in text and "old " in text
    # The lines on the card, where nothing but numpy, Pillow and the engine can be imported.
    code = text.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 20
    photos()["test"]["image"][0].save("photo.jpg")
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'hf_fashion')))\n"
    done = subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    label = runtime.load(place)("photo.jpg")[0]["label"]
    assert done.stdout.splitlines()[0].split("  ")[1] == label
    assert "agreement: 1.000" in capsys.readouterr().out


def test_only_the_photos_that_are_asked_about_are_read(checkpoints, folder, tmp_path, monkeypatch):
    seen = []
    check = recipe.checks.check
    monkeypatch.setattr(
        recipe.checks, "check", lambda rows, *more, **settings: seen.append(rows) or check(rows, *more, **settings)
    )
    model = decided(checkpoints["resnet"], tmp_path / "net")
    told = recipe.main([str(model), "--dataset", str(folder), "-o", str(tmp_path / "o"), "--photos", "7"])
    assert told["photos"] == 7
    [rows] = seen
    assert sum(map(len, rows.values())) == 7 and "train" not in rows


def test_a_refused_export_leaves_its_report(checkpoints, folder, tmp_path, monkeypatch):
    model = decided(checkpoints["resnet"], tmp_path / "net")
    forward = graph.Graph.forward
    monkeypatch.setattr(graph.Graph, "forward", lambda self, pixels: forward(self, pixels.flip(3)))
    with pytest.raises(InputError):
        recipe.main([str(model), "--dataset", str(folder), "-o", str(tmp_path / "o")])
    assert json.loads((tmp_path / "o" / "run.json").read_text())["status"] == "failed"
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"run.json", "runtime.json", "parity.json"}


def test_what_must_be_given(tmp_path, capsys):
    for argv in ([], ["-o", str(tmp_path / "o")], ["model"]):
        with pytest.raises(InputError, match="hf-fashion export MODEL --dataset PHOTOS -o FOLDER"):
            recipe.main(argv)
    with pytest.raises(SystemExit):
        recipe.main(["--help"])
    shown = capsys.readouterr().out
    assert "litert" in shown and "--least_agreement" in shown


def test_labels_are_matched_by_name():
    features = Features({"image": Image(), "label": ClassLabel(names=["b", "x", "a"])})
    picture = photos(train=1, validation=1, test=1)["test"]["image"][0]
    rows = Dataset.from_dict({"image": [picture] * 3, "label": [0, 1, 2]}, features=features)
    assert recipe.labels_of(rows, ["a", "b"]).tolist() == [1, -1, 0]
    assert recipe.labels_of(rows, ["c"]) is None
    assert recipe.items_of(rows, "label") == ["0", "1", "2"] and recipe.items_of(rows, None) is None
    with pytest.raises(InputError, match="--item_column sku"):
        recipe.items_of(rows, "sku")


def test_a_processor_that_cannot_be_repeated_is_refused(checkpoints, tmp_path):
    net, processor = backbones.load_classifier(checkpoints["vit"])
    processor.do_resize = False
    with pytest.raises(InputError, match="the image processor ViTImageProcessor"):
        exporting.load(str(save(net, processor, tmp_path / "net")))


@pytest.mark.parametrize("size", [{"height": 48, "width": 40}, {"shortest_edge": 48, "longest_edge": 80}])
def test_the_lines_of_a_card_resize_without_a_filter(size):
    """RF-DETR's processor: each pixel between four of the photo."""
    from PIL import Image as PILImage
    from transformers import RfDetrImageProcessor

    told = shown.of_processor(RfDetrImageProcessor(size=size), detects=True)
    for width, height in ((64, 64), (92, 60), (33, 200), (20, 25)):
        rough = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        names = {"photo": PILImage.fromarray(rough), "np": np, "Image": PILImage}
        exec("\n".join(usage._resized(told.values)), names)
        expected = runtime.pixels(PILImage.fromarray(rough), told.values)
        assert np.abs(np.asarray(names["photo"]) - expected.astype(int)).max() <= 1
        assert told.values["filter"] is False
