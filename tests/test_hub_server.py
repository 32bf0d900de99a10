"""The double of the Hub, met by the clients it is for, by xet and by LFS. Its faults: `test_hub_server_faults.py`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import huggingface_hub.utils._http as client_http
import numpy as np
import pytest
from hub_fixtures import CARD, commit_files, contents, small_run
from hub_server_cards import validate
from hub_server_store import HubError, Storage
from hub_server_xet import Cas, Term, chunks_of
from huggingface_hub import (
    HfApi,
    HfFileSystem,
    ModelCard,
    constants,
    get_safetensors_metadata,
    hf_hub_download,
    metadata_update,
    snapshot_download,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from PIL import Image

# The clients' own.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def folder(tmp_path):
    return small_run(tmp_path / "run")


def forget_downloads():
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)


# Flows


def test_a_folder_goes_up_and_comes_back(hub_by_both, folder):
    hub, api = hub_by_both, HfApi()
    (folder / "figures").mkdir()
    # Long runs, repeats and floats: each of xet's ways of packing a chunk.
    floats = np.random.default_rng(int.from_bytes(os.urandom(4))).normal(size=1_000_000).astype("float32").tobytes()
    (folder / "figures/big.bin").write_bytes(os.urandom(5_000_000) + bytes(3_000_000) + floats + os.urandom(3_000_000))
    api.create_repo("ada/shirts", private=True)
    assert api.create_repo("ada/shirts", exist_ok=True).repo_id == "ada/shirts"
    info = api.upload_folder(repo_id="ada/shirts", folder_path=folder)
    repo = hub.repo("ada/shirts")
    assert repo.private and repo.files() == contents(folder) and info.oid == repo.history()[0].sha
    down = contents(snapshot_download("ada/shirts"))
    assert down.pop(".gitattributes") and down == contents(folder)
    checked = api.verify_repo_checksums("ada/shirts")
    assert (checked.checked_count, checked.mismatches, checked.missing_paths) == (5, [], [])
    commits, sent = hub.count("commit"), hub.count("xorb") + hub.count("blob")
    api.upload_folder(repo_id="ada/shirts", folder_path=folder)
    assert hub.count("commit") == commits and len(repo.history()) == 2, "nothing new, no commit"
    assert hub.count("xorb") + hub.count("blob") == sent == (1 if hub.xet else 2), "nothing is sent twice"
    assert hub.leaks == []


def test_what_the_api_says_of_a_repository(hub):
    api = HfApi()
    hub.create("atelier/shirts", files={"README.md": CARD.encode(), "a/b/c.txt": b"c", "a/d.txt": b"d"})
    api.upload_file(repo_id="atelier/shirts", path_in_repo="w.bin", path_or_fileobj=b"\0" * 10)
    info = api.model_info("atelier/shirts", files_metadata=True)
    assert info.pipeline_tag == "image-classification" and "license:mit" in info.tags and not info.private
    assert {f.rfilename: f.size for f in info.siblings}["w.bin"] == 10
    hub.page_size = 2  # four pages
    tree = list(api.list_repo_tree("atelier/shirts", recursive=True, expand=True))
    assert [item.path for item in tree] == [".gitattributes", "README.md", "a", "a/b", "a/b/c.txt", "a/d.txt", "w.bin"]
    assert tree[-1].last_commit.title == "Upload w.bin with huggingface_hub" and tree[-1].lfs.size == 10
    assert [item.path for item in api.get_paths_info("atelier/shirts", ["a/b", "w.bin", "none"])] == ["a/b", "w.bin"]
    assert [model.id for model in api.list_models(author="atelier")] == ["atelier/shirts"]
    assert [repo.id for repo in api.list_user_repos("atelier")] == ["atelier/shirts"]
    fields = api.model_info("atelier/shirts", expand=["tags"])
    assert fields.tags == info.tags and fields.siblings is None
    api.create_branch("atelier/shirts", branch="dev/one")
    api.create_tag("atelier/shirts", tag="v1", revision="dev/one")
    pull = api.upload_file(repo_id="atelier/shirts", path_in_repo="p.txt", path_or_fileobj=b"p", create_pr=True)
    assert pull.pr_revision == "refs/pr/1" and "p.txt" not in hub.repo("atelier/shirts").files()
    assert Path(hf_hub_download("atelier/shirts", "p.txt", revision="refs/pr/1")).read_bytes() == b"p"
    refs = api.list_repo_refs("atelier/shirts", include_pull_requests=True)
    assert [[r.name for r in kind] for kind in (refs.branches, refs.tags, refs.pull_requests)] == [
        ["main", "dev/one"],
        ["v1"],
        ["1"],
    ]
    api.merge_pull_request("atelier/shirts", 1)
    assert hub.repo("atelier/shirts").files()["p.txt"] == b"p"
    assert api.list_repo_commits("atelier/shirts")[0].title == "Upload p.txt with huggingface_hub (#1)"
    api.delete_folder("a", "atelier/shirts")
    api.delete_file("p.txt", "atelier/shirts")
    assert set(hub.repo("atelier/shirts").files()) == {"README.md", "w.bin"}
    api.update_repo_settings("atelier/shirts", private=True)
    api.move_repo("atelier/shirts", "ada/shirts")
    assert hub.repo("ada/shirts").private
    api.delete_repo("ada/shirts")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ada/shirts")
    unknown = {seen.path.split("/")[2] for seen in hub.requests if seen.step == "other"}
    assert unknown <= {"agent-harnesses", "v1", "v2"}, "what the clients do without: new versions of xet's calls"


def test_large_files_by_lfs_in_parts(hub, folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("hub_server_files.PART", 40_000)
    hub.create("ada/shirts")
    commit_files(folder)
    assert hub.count("blob") == 4  # three parts, and the word that they are all
    assert hub.repo("ada/shirts").files() == contents(folder)


@pytest.mark.slow  # for its imports
def test_transformers(hub_by_both, tmp_path):
    import torch
    from tiny import tiny
    from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

    tiny("vit", tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    model.push_to_hub("ada/vit", private=True)
    AutoImageProcessor.from_pretrained(tmp_path).push_to_hub("ada/vit")
    forget_downloads()
    again = AutoModelForImageClassification.from_pretrained("ada/vit")
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    info = HfApi().model_info("ada/vit")
    assert (info.library_name, info.pipeline_tag) == ("transformers", "image-classification")
    assert (
        info.safetensors.total == model.num_parameters() == get_safetensors_metadata("ada/vit").parameter_count["F32"]
    )
    found = pipeline("image-classification", "ada/vit")(Image.new("RGB", (40, 40), "red"))
    assert found[0]["label"] in model.config.label2id
    with pytest.raises(OSError, match="no-such-branch"):
        AutoModelForImageClassification.from_pretrained("ada/vit", revision="no-such-branch")


def test_datasets(hub_by_both, tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, load_dataset
    from datasets import Image as ImageFeature

    noise = np.random.default_rng(int.from_bytes(os.urandom(4))).integers(0, 255, (4, 20, 20, 3), dtype=np.uint8)
    columns = {"image": [Image.fromarray(one) for one in noise], "label": [0, 1, 0, 1]}
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["bag", "shoe"])})
    photos = Dataset.from_dict(columns, features=features)
    DatasetDict({"train": photos, "test": photos}).push_to_hub("atelier/photos", private=True)
    assert hub_by_both.repo("atelier/photos", "dataset").private
    loaded = load_dataset("atelier/photos", split="test", cache_dir=str(tmp_path))
    assert loaded.features == features and (np.asarray(loaded[3]["image"]) == noise[3]).all()
    streamed = list(load_dataset("atelier/photos", split="train", streaming=True))
    assert [row["label"] for row in streamed] == [0, 1, 0, 1] and (np.asarray(streamed[0]["image"]) == noise[0]).all()
    for i, one in enumerate(noise[:2]):
        (tmp_path / f"up/{i}").mkdir(parents=True)
        Image.fromarray(one).save(tmp_path / f"up/{i}/a.png")
    HfApi().create_repo("ada/folder", repo_type="dataset")
    HfApi().upload_folder(repo_id="ada/folder", repo_type="dataset", folder_path=tmp_path / "up")
    assert load_dataset("ada/folder", split="train", cache_dir=str(tmp_path)).features["label"].names == ["0", "1"]
    files = HfFileSystem()
    assert sorted(files.glob("datasets/ada/folder/**/*.png")) == [f"datasets/ada/folder/{i}/a.png" for i in (0, 1)]
    with files.open("datasets/ada/folder/0/a.png") as file:  # by ranges
        assert (np.asarray(Image.open(file)) == noise[0]).all()


@pytest.mark.slow  # for its imports
def test_timm_and_peft(hub, tmp_path):
    import timm
    from peft import LoraConfig, PeftModel, get_peft_model
    from tiny import tiny
    from transformers import AutoModelForImageClassification

    net = timm.create_model("test_resnet.r160_in1k", num_classes=3)
    timm.models.push_to_hf_hub(net, "ada/timm", model_config={"architecture": "test_resnet", "num_classes": 3})
    assert timm.create_model("hf-hub:ada/timm", pretrained=True).num_classes == 3
    tiny("vit", tmp_path)
    base = AutoModelForImageClassification.from_pretrained(tmp_path)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).push_to_hub("ada/lora")
    assert set(hub.repo("ada/lora").files()) >= {"adapter_config.json", "adapter_model.safetensors"}
    fresh = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert PeftModel.from_pretrained(fresh, "ada/lora").peft_config["default"].target_modules == {"q_proj"}


@pytest.mark.slow  # for its imports
def test_a_space(hub):
    import gradio as gr
    from gradio_client import Client

    api = HfApi()
    api.create_repo("ada/app", repo_type="space", space_sdk="gradio", space_secrets=[{"key": "KEY", "value": "v"}])
    assert api.get_space_runtime("ada/app").stage == "NO_APP_FILE"
    assert hub.repo("ada/app", "space").secrets == {"KEY": "v"} and list(api.get_space_secrets("ada/app")) == ["KEY"]
    api.add_space_variable("ada/app", "MODEL", "ada/vit")
    assert api.get_space_variables("ada/app")["MODEL"].value == "ada/vit"
    app = gr.Interface(lambda text: text.upper(), "text", "text", api_name="shout")
    try:
        _, url, _ = app.launch(prevent_thread_lock=True, quiet=True)
        hub.serve_space("ada/app", url)
        assert api.space_info("ada/app").runtime.stage == "RUNNING"
        client = Client("ada/app", verbose=False)
        assert client.predict("a dress", api_name="/shout") == "A DRESS"
        client.close()
    finally:
        app.close()


# Accounts and cards


def test_who_may_do_what(hub, folder, monkeypatch):
    api = HfApi()
    hub.create("ada/shirts", private=True, files={"a.txt": b"a"})
    who = api.whoami()
    assert (who["name"], [org["name"] for org in who["orgs"]]) == ("ada", ["atelier"])
    assert who["auth"]["accessToken"]["role"] == "write"
    api.auth_check("ada/shirts", write=True)
    with pytest.raises(HfHubHTTPError, match="403.*rights"):
        api.create_repo("eve/shirts")

    monkeypatch.setenv("HF_TOKEN", hub.add_token("ada", "read"))
    assert Path(hf_hub_download("ada/shirts", "a.txt")).read_bytes() == b"a"
    for refused in (lambda: api.create_repo("ada/new"), lambda: commit_files(folder)):
        with pytest.raises(HfHubHTTPError, match="403.*write permissions"):
            refused()

    monkeypatch.setenv("HF_TOKEN", hub.add_token("ada", "fineGrained", scopes=["ada/shirts"]))
    assert api.whoami()["auth"]["accessToken"]["fineGrained"]["scoped"][0]["entity"]["name"] == "ada/shirts"
    assert commit_files(folder).oid
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("ada/new")

    for token in (hub.add_token("ada", "expired"), "hf_" + "n" * 34):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(HfHubHTTPError, match="Invalid user token"):
            api.whoami()
        with pytest.raises(HfHubHTTPError, match="401") as refusal:
            api.model_info("ada/shirts")
        assert not isinstance(refusal.value, RepositoryNotFoundError)

    hub.add_user("eve")
    monkeypatch.setenv("HF_TOKEN", hub.add_token("eve"))
    with pytest.raises(RepositoryNotFoundError, match="404"):
        api.model_info("ada/shirts")
    hub.repo("ada/shirts").private, hub.repo("ada/shirts").gated = False, "manual"
    assert api.model_info("ada/shirts").gated == "manual"
    with pytest.raises(GatedRepoError):
        hf_hub_download("ada/shirts", "README.md")
    hub.repo("ada/shirts").granted.add("eve")
    assert hf_hub_download("ada/shirts", "README.md")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RepositoryNotFoundError, match="401"):
        api.model_info("ada/none")


def test_missing_things_are_told_apart(hub):
    hub.create("ada/shirts", files={"a.txt": b"abc"})
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("ada/shirts", "none.txt")
    with pytest.raises(RevisionNotFoundError):
        HfApi().model_info("ada/shirts", revision="none")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().dataset_info("ada/shirts")  # a model of that name is no dataset
    assert client_http.get_session().get(f"{hub.endpoint}/api/nothing-like-it").status_code == 404


@pytest.mark.parametrize("kind", ["regular", "large"])
def test_ranges(hub, kind):
    hub.create("ada/shirts", files={"a": b"\0bcdef" if kind == "large" else b"abcdef"})
    get, url = client_http.get_session().get, f"{hub.endpoint}/ada/shirts/resolve/main/a"
    part = get(url, headers={"Range": "bytes=2-3"})
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"cd", "bytes 2-3/6")
    assert get(url, headers={"Range": "bytes=-2"}).content == b"ef"
    late = get(url, headers={"Range": "bytes=6-"})
    assert (late.status_code, late.headers["Content-Range"]) == (416, "bytes */6")


def test_a_span_of_a_file_by_xet():
    cas = Cas(Storage())
    chunks = [b"abc", b"defg", b"hi", b"jkl"]
    for name, packed in (("x", chunks[:3]), ("y", chunks[3:])):
        cas.put_xorb(name, b"".join(bytes([0, len(c), 0, 0, 0, len(c), 0, 0]) + c for c in packed))
    cas.files["f"] = [Term("x", 0, 3, 9), Term("y", 0, 1, 3)]
    whole, size = b"".join(chunks), 12
    for first in range(size):
        for last in (*range(first, size), size + 5, None):
            told, made = cas.reconstruction("f", "", (first, last)), b""
            for term in told["terms"]:
                (fetch,) = [f for f in told["fetch_info"][term["hash"]] if f["range"] == term["range"]]
                span = cas.xorb(term["hash"])[0][fetch["url_range"]["start"] : fetch["url_range"]["end"] + 1]
                made += b"".join(chunks_of(span))
            assert sum(term["unpacked_length"] for term in told["terms"]) == len(made)
            wanted = whole[first : size if last is None else last + 1]
            assert made[told["offset_into_first_range"] :].startswith(wanted)
    with pytest.raises(HubError) as refusal:
        cas.reconstruction("f", "", (size, None))
    assert refusal.value.status == 416


def test_a_card_by_its_client(hub):
    hub.create("ada/shirts")
    ModelCard(CARD).push_to_hub("ada/shirts")
    metadata_update("ada/shirts", {"tags": ["fashion"]})
    assert ModelCard.load("ada/shirts").data.tags == ["fashion"] and "fashion" in HfApi().model_info("ada/shirts").tags
    with pytest.raises(ValueError, match='"license" must be one of'):
        HfApi().upload_file(
            repo_id="ada/shirts", path_in_repo="README.md", path_or_fileobj=b"---\nlicense: mine\n---\n"
        )
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        HfApi().upload_file(repo_id="ada/shirts", path_in_repo="README.md", path_or_fileobj=b"# words")


RESULT = "model-index: [{name: a, results: [{task: {type: t}, dataset: {type: d, name: D}, metrics: [%s]}]}]"


@pytest.mark.parametrize(
    ("kind", "metadata", "wrong"),
    [
        ("model", "license: [mit, Apache 2]", '"license" must be one of'),
        ("model", "tags: fashion\nwidget: {a: b}", '"widget" must be an array'),
        ("model", RESULT % "{type: accuracy}", '"model-index[0].results[0].metrics[0].value" is required'),
        ("model", RESULT % "{type: accuracy, value: .nan}", "must not be NaN"),
        ("model", "model-index: [{name: a, results: [{task: {type: t}}]}]", ".dataset" + '" is required'),
        ("model", "base_model: ../runs/x y", "Use a model id"),
        ("model", "base_model_relation: copy", '"base_model_relation" must be one of'),
        ("model", "a: [", "Invalid YAML"),
        ("dataset", "size_categories: many", '"size_categories" must be one of'),
        ("space", "title: A", '"sdk" is required'),
        ("space", "sdk: gradio\ncolorFrom: magenta", '"colorFrom" must be one of'),
        ("space", "sdk: gradio\nsdk_version: 6", '"sdk_version" must be a string'),
    ],
)
def test_what_a_card_may_not_say(kind, metadata, wrong):
    errors, _ = validate(f"---\n{metadata}\n---\n", kind)
    assert any(wrong in error for error in errors), errors


def test_what_a_card_may_say():
    full = RESULT % "{type: accuracy, value: 0.9, name: Accuracy}" + "\nlicense: cc-by-4.0\ntags: [a]\nlanguage: en"
    assert validate(f"---\n{full}\nbase_model: timm/vit\nlibrary_name: timm\n---\n# words", "model") == ([], [])
    assert validate("---\npipeline_tag: dressing\n---\n", "model")[1] == [
        'The pipeline tag "dressing" is not in the official list'
    ]
    space = "title: A\nemoji: 👗\nsdk: gradio\nsdk_version: 6.31.0\npython_version: '3.12'\nmodels: [ada/vit]"
    assert validate(f"---\n{space}\n---\n", "space") == ([], [])


def test_without_the_fixture_nothing_is_online():
    with pytest.raises(OfflineModeIsEnabled):
        HfApi().model_info("ada/shirts")
    assert sys.modules["datasets.config"].HF_HUB_OFFLINE if "datasets.config" in sys.modules else True


# By hand


def test_the_command_prints_what_to_export():
    script = Path(__file__).with_name("hub_server.py")
    with subprocess.Popen([sys.executable, script, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline() for _ in range(4)]
            exported = dict(pair.split("=", 1) for pair in lines[3].split()[1:])
            assert exported["HF_TOKEN"].startswith("hf_") and "HF_HUB_OFFLINE" in lines[2]
            found = re.search(r"http://127\.0\.0\.1:\d+", lines[0])[0]
            assert exported["HF_ENDPOINT"] == found
            api = HfApi(endpoint=found, token=exported["HF_TOKEN"])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(constants, "HF_HUB_OFFLINE", False)
                api.create_repo("ada/shirts")
            page = urllib.request.urlopen(found).read().decode()
            assert 'href="/ada/shirts"' in page
            assert "initial commit" in urllib.request.urlopen(f"{found}/ada/shirts").read().decode()
            # What clients keep of an earlier Hub, whose repos are gone, is not taken for this one's.
            home = Path(exported["HF_HOME"])
            assert home.is_dir() and not any(home.iterdir()) and home.name != "hub_double"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0 and not home.exists()
        finally:
            process.terminate()
