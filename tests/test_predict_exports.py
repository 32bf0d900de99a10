"""`hf-fashion predict` with exported models: the columns and rows of the trained one, without torch."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torchvision.ops import batched_nms

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import exported

from hf_fashion import exports, predicting
from hf_fashion.errors import InputError
from hf_fashion.recipes import predict as recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return exported.made(tmp_path_factory)


def rows_of(model, photos, file, *more):
    recipe.main([str(model), str(photos), "-o", str(file), *more])
    return pq.read_table(file)


@pytest.mark.parametrize("kind, settings", [("vit", ["--top_k", "2"]), ("attributes", []), ("encoder", [])])
def test_an_export_fills_the_same_columns_with_the_same(kind, settings, place, tmp_path):
    trained, export = (
        rows_of(place[name], place["photos"], tmp_path / f"{name}.parquet", "--batch_size", "4", *settings)
        for name in (kind, f"{kind}-export")
    )
    assert trained.schema.equals(export.schema) and len(trained) == 39
    if kind == "vit":
        assert len(set(trained.column("label").to_pylist())) > 1
    for one, other in zip(trained.to_pylist(), export.to_pylist(), strict=True):
        for name, value in one.items():
            if isinstance(value, float) or (isinstance(value, list) and value and isinstance(value[0], float)):
                np.testing.assert_allclose(other[name], value, atol=0.02)  # torch and Pillow round a pixel differently
            else:
                assert other[name] == value


def test_boxes_of_an_export_are_those_of_the_detector(place, tmp_path):
    trained, export = (
        rows_of(place[name], place["boxed"], tmp_path / f"{name}.parquet", "--score", "0.1")
        for name in ("detector", "detector-export")
    )
    assert trained.schema.equals(export.schema)
    near = every = 0
    for one, other in zip(trained.column("boxes").to_pylist(), export.column("boxes").to_pylist(), strict=True):
        places = [(box["label"], *(box[name] for name in predicting.CORNERS)) for box in other]
        for box in one:
            every += 1
            near += any(
                label == box["label"] and np.allclose(corners, [box[name] for name in predicting.CORNERS], atol=2)
                for label, *corners in places
            )
    assert every > 10 and near / every > 0.7  # a random decoder takes another query for one grey level


def test_of_boxes_that_overlap_the_surest_is_told_whatever_its_class():
    random = np.random.default_rng(0)
    corners = np.sort(random.random((40, 2, 2)).astype(np.float32), axis=1).reshape(40, 4)
    scores = random.random((40, 3)).astype(np.float32)
    about = {"same": 0.5, "most": 30, "queries_at_most": 60, "score_threshold": 0.9}
    told = exports.garments(about, [scores, corners], 0.3)
    order = np.argsort(-scores.ravel())[:60]
    sure, box = scores.ravel()[order], corners[order // 3]
    kept = batched_nms(torch.tensor(box), torch.tensor(sure), torch.zeros(60), 0.5)[:30].tolist()
    assert [one[:2] for one in told] == [(int(order[n] % 3), float(sure[n])) for n in kept if sure[n] >= 0.3]
    assert 3 < len(told) < 30 and exports.garments(about, [scores, corners], 1.0) == []
    least = told[-1][1]
    assert exports.garments(about, [scores, corners], least)[-1][1] == least  # the limit itself counts


def test_a_photo_that_cannot_be_read_has_a_row_and_a_run_goes_on(place, tmp_path, monkeypatch):
    shutil.copytree(place["photos"] / "test", tmp_path / "photos")
    (tmp_path / "photos" / "old 0" / "1.png").write_bytes(b"")
    model = predicting.load(place["vit-export"])
    dataset, report = recipe.read(
        recipe.Arguments(model="m", dataset=str(tmp_path / "photos"), output_file="x.parquet")
    )
    count = []

    def say(shown):
        count.append(len(shown))
        if sum(count) > 12:
            raise RuntimeError("power")
        return model.say(shown)

    half = predicting.Model(model.schema, say, model.identity, model.opens, light=True)
    with pytest.raises(RuntimeError, match="power"):
        predicting.catalogue(half, dataset, tmp_path / "out.parquet", batch_size=4, write_every=4)
    left = [{name: str(one[name]) for name in ("where", "reason")} for one in report.left_out]
    done = predicting.catalogue(
        predicting.load(place["vit-export"]), dataset, tmp_path / "out.parquet", batch_size=4, write_every=4,
        unreadable=left,
    )  # fmt: skip
    assert (done.before, done.photos, len(done.unreadable)) == (12, 21, 1)
    [bad] = [row for row in pq.read_table(tmp_path / "out.parquet").to_pylist() if row["error"]]
    assert "1.png" in bad["source_row"] and bad["label"] is None


def test_another_export_does_not_go_on_with_what_one_began(place, tmp_path):
    model = predicting.load(place["vit-export"])
    shutil.copytree(place["vit-export"], tmp_path / "other")
    about = json.loads((tmp_path / "other" / "runtime.json").read_text())
    (tmp_path / "other" / "runtime.json").write_text(json.dumps(about | {"made_by": "somebody"}))
    other = predicting.load(tmp_path / "other")
    assert other.identity["weights"] != model.identity["weights"]
    assert predicting.load(place["vit-export"]).identity == model.identity


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "other"}, "kind: other"), ({"labels": ["a"]}, "1 of classification"), ({"batch": -1}, "gives"),
        ({"labels": [1, 2, 3]}, "no text"), ({"input": None}, "TypeError"), ({"outputs": ["none"]}, "none"),
        ({"kind": "attributes"}, "groups"), ({"kind": "detection", "score_threshold": 0.5}, "3 of detection"),
    ],
)  # fmt: skip
def test_an_export_whose_files_do_not_fit_is_told_at_the_start(change, told, place, tmp_path):
    shutil.copytree(place["vit-export"], tmp_path / "odd")
    about = json.loads((tmp_path / "odd" / "runtime.json").read_text())
    (tmp_path / "odd" / "runtime.json").write_text(json.dumps(about | change))
    with pytest.raises(InputError) as error:
        exports.Net(tmp_path / "odd")
    assert told in error.value.found and error.value.fix == "export it again"


def test_a_broken_file_is_told_without_its_place(place, tmp_path):
    """The page of a Space shows it."""
    shutil.copytree(place["vit-export"], tmp_path / "cut")
    (tmp_path / "cut" / "model.onnx").write_bytes(b"cut")
    with pytest.raises(InputError) as error:
        exports.Net(tmp_path / "cut")
    assert "InvalidProtobuf" in error.value.found and str(tmp_path) not in error.value.found


@pytest.mark.parametrize("card", [b"\xff\xfe", b"---\nlicense: [a\n---\n", b"---\n- a\n---\n", None])
def test_a_card_that_cannot_be_read_is_none(card, place, tmp_path):
    if card is not None:
        (tmp_path / "README.md").write_bytes(card)
    told = exports.describe(tmp_path, tmp_path)
    assert told == {"name": tmp_path.name, "license": "unknown", "card": "", "kind": "folder"}


def test_no_torch_is_imported(place, tmp_path):
    """From photos to the file."""
    code = f"""
import sys
from datasets import Dataset, Features, Image, Value
from hf_fashion import predicting
path = {str(place["photos"] / "test" / "old 1" / "0.png")!r}
rows = [{{"image": {{"bytes": open(path, "rb").read(), "path": None}}, "source_row": str(n)}} for n in range(5)]
dataset = Dataset.from_list(rows, features=Features({{"image": Image(), "source_row": Value("string")}}))
for kind in ("vit", "attributes", "encoder", "detector"):
    model = predicting.load(f"{place["vit"].parent}/{{kind}}-export")
    done = predicting.catalogue(model, dataset, f"{tmp_path}/{{kind}}.parquet", batch_size=2)
    assert done.photos == 5 and predicting.is_main()
assert not {{"torch", "transformers", "accelerate", "timm", "sklearn"}} & {{*sys.modules}}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "vit.parquet").column("label").to_pylist()[0]


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("vit", ["--top_k", "9"], "1 to 3"),
        ("vit", ["--score", "0.2"], "found:    a classifier"),
        ("encoder", ["--top_k", "2"], "found:    an encoder"),
        ("attributes", ["--top_k", "2"], "one of attributes"),
        ("vit", ["--model_revision", "v1"], "leave it out"),
    ],
)
def test_what_cannot_be_is_refused(kind, settings, told, place, tmp_path):
    with pytest.raises(InputError) as error:
        rows_of(place[f"{kind}-export"], place["photos"], tmp_path / "x.parquet", *settings)
    assert told in str(error.value)


def test_an_export_of_the_hub_is_found_and_a_model_is_none(hub, place, monkeypatch):
    files = {path.name: path.read_bytes() for path in place["vit-export"].iterdir() if path.is_file()}
    hub.create("ada/light", files=files | {"other.bin": b"x", "model.safetensors": b"x"})
    hub.create("ada/net", files={path.name: path.read_bytes() for path in place["vit"].iterdir()})
    folder = exports.find("ada/light")
    assert {path.name for path in folder.iterdir()} == {"runtime.json", "model.onnx", "README.md"}
    assert exports.find("ada/net") is None and exports.find("ada/none") is None
    assert exports.find(place["vit"]) is None and exports.find(place["vit-export"]) == place["vit-export"]
    assert predicting.load("ada/light").schema.names == ["label", "score"]
    told = exports.describe("ada/light", folder)
    assert (told["name"], told["kind"]) == ("ada/light", "hub") and "# " in told["card"]
    monkeypatch.setattr(exports, "HfApi", lambda: (_ for _ in ()).throw(OSError("no network")))
    assert exports.find("ada/light") == folder and exports.find("ada/net") is None
