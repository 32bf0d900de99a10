"""Models of attributes in every format: labels, thresholds and what is said of each group are the original's."""

import json

import numpy as np
import pytest
import torch
from test_export import PAIRS, made
from tiny import photos, save, tiny

from hf_fashion import attributes, backbones, cards, images, runtime
from hf_fashion.recipes import export as recipe

NAMES = [
    "color: red", "color: blue", "color: green", "sleeve: long", "sleeve: short", "tags: new", "tags: soft",
    "tags: warm",
]  # fmt: skip
GROUPS = {
    "color": {"many": False, "labels": NAMES[:3]},
    "sleeve": {"many": False, "labels": NAMES[3:5]},
    "tags": {"many": True, "labels": NAMES[5:]},
}


@pytest.fixture(scope="module")
def dataset():
    return photos(train=12, validation=4, test=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory, dataset):
    """A ResNet with two groups of a softmax and one of sigmoids, which decides differently from photo to photo."""
    place = tmp_path_factory.mktemp("attributes")
    torch.manual_seed(0)
    net, processor = backbones.load_classifier(tiny("resnet", place / "tiny", labels=len(NAMES)))
    shown = torch.cat([processor(photo, return_tensors="pt")["pixel_values"] for photo in dataset["train"]["image"]])
    head = net.classifier[-1]
    with torch.no_grad():
        told = net(shown).logits
        spread = told.std(dim=0) / 2
        head.bias.copy_((head.bias - told.mean(dim=0)) / spread)
        head.weight.div_(spread[:, None])
    net.config.update({
        "problem_type": "multi_label_classification", "attribute_groups": GROUPS,
        "id2label": dict(enumerate(NAMES)), "label2id": {name: place for place, name in enumerate(NAMES)},
        "thresholds": {"tags: new": 0.3, "tags: soft": 0.6},  # warm: a half
    })  # fmt: skip
    return save(net, processor, place / "net")


# What engines of other formats say differs from these by a file only.
FAST = {("onnx", "fp32"), ("onnx", "int8"), ("litert", "fp32")}


@pytest.mark.parametrize(
    ("form", "precision"), [pytest.param(*pair, marks=() if pair in FAST else pytest.mark.slow) for pair in PAIRS]
)
def test_each_pair_decides_as_the_original(form, precision, model, dataset, tmp_path):
    if form == "litert":
        pytest.importorskip("litert_torch")
    if form == "openvino":
        openvino = pytest.importorskip("openvino")
        if precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("a CPU without bf16")
    # Of a net of chance some photos stand near a threshold, which a rounded weight steps over.
    least = {"fp32": 1.0, "fp16": 1.0}.get(precision, 0.6)
    original, report = made(model, dataset, tmp_path / "export", form, precision, least=least)
    about = json.loads((tmp_path / "export" / runtime.ABOUT).read_text())
    assert original.kind == about["kind"] == "attributes" and about["labels"] == NAMES and about["groups"] == GROUPS
    assert about["thresholds"] == dict(zip(NAMES, [0.5] * 5 + [0.3, 0.6, 0.5], strict=True))
    assert report["n"] == 3 * 18 and set(report["attributes"]) == set(GROUPS)
    assert min(report["attributes"].values()) >= least

    groups = attributes.of_config(original.net.config)
    scores = original.answers([images.decode(photo) for photo in dataset["test"]["image"]])
    chosen = attributes.decide(scores, groups, attributes.thresholds_of(original.net.config, groups))
    expected = [
        {group.name: {NAMES[place] for place in np.flatnonzero(row) if group.start <= place < group.span.stop}
         for group in groups} for row in chosen
    ]  # fmt: skip
    told = runtime.load(tmp_path / "export")(dataset["test"]["image"])
    found = [{name: {one["label"] for one in each} for name, each in photo.items()} for photo in told]
    same = [found[row][name] == said for row, photo in enumerate(expected) for name, said in photo.items()]
    assert np.mean(same) >= least and np.mean(same) == pytest.approx(report["agreement"])
    for name in GROUPS:  # or agreement would say nothing
        assert len({frozenset(photo[name]) for photo in expected}) > 1
    drift = max(
        abs(one["score"] - scores[row, NAMES.index(one["label"])])
        for row, photo in enumerate(told) for each in photo.values() for one in each
    )  # fmt: skip
    assert drift < {"fp32": 5e-3, "fp16": 1e-2}.get(precision, 1.0)
    if form == "litert":
        assert (tmp_path / "export" / "labels.txt").read_text().splitlines() == NAMES


@pytest.mark.slow
def test_a_card_of_attributes_for_phones(model, tmp_path, monkeypatch):
    """Its lines were run, and print what is said of each group."""
    pytest.importorskip("litert_torch")
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "shapes", train=4, validation=2, test=6)
    told = recipe.main([str(model), "--dataset", "shapes", "-o", "phone", "--format", "litert"])
    assert told["passed"] and told["photos"] == 24 and told["n"] == 72 and told["test"]["n"] == 54
    text = (tmp_path / "phone" / "README.md").read_text()
    assert cards.validate(tmp_path / "phone" / "README.md") == []
    assert "of 72 attributes of a photo with the same labels" in text
    code, printed = text.split("```python\n")[1].split("```")[0], text.split("```")[3]
    assert len(code.strip().splitlines()) <= 22 and 'about["groups"]' in code
    lines = printed.strip().splitlines()
    assert any(line in NAMES[:3] for line in lines) and any(line in NAMES[3:5] for line in lines)
