"""`--push_to_hub` of the recipe: asked before the first step, one clean commit at the end, none by the Trainer."""

import json
import re

import pytest
from PIL import Image
from tiny import photos, tiny

from hf_fashion import data, record
from hf_fashion import hub as ours
from hf_fashion.hub import client
from hf_fashion.recipes import classify, push, score
from hf_fashion.tasks.classify import COLUMNS
from hf_fashion.training import FashionTrainer


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", train=4, validation=3, test=3)
    tiny("resnet", tmp_path / "net")
    return [
        "--model", "net", "--dataset", str(tmp_path / "photos"), "--num_train_epochs", "1", "--use_cpu", "True",
        "--disable_tqdm", "True", "--license", "apache-2.0", "--output_dir", "runs/shirts", "--push_to_hub", "True",
    ]  # fmt: skip


def test_a_run_is_pushed_once_private_and_loads_again(hub, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.0)
    hub.fail("commit", 500, times=99)
    with pytest.raises(ours.HubError, match="then: hf-fashion push runs/shirts ada/shirts"):
        classify.main(words)
    run = record.read("runs/shirts")
    assert run.info["status"] == "finished"  # the push is none of its business
    assert run.info["arguments"]["push_to_hub"] is True  # so that the record repeats it
    hub.faults.clear()
    push.main(["runs/shirts", "ada/shirts"])
    repo = hub.repo("ada/shirts")
    files = repo.files()
    assert [commit.title.split(",")[0] for commit in repo.history()] == ["shirts", "initial commit"] and repo.private
    assert {"config.json", "model.safetensors", "README.md", "run.json", "eval_results.json"} <= files.keys()
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth")) or "checkpoint" in name]
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    assert json.loads(files["run.json"])["dataset"]["source"] == "photos"
    told = capsys.readouterr().out
    assert told.index("when it is trained, it goes to") < told.index("checksums equal")

    # The card's code, as a visitor copies it, loads the model by its id.
    [code] = re.findall(r"```python\n(.*?)```", files["README.md"].decode(), re.DOTALL)
    assert 'model="ada/shirts"' in code and "runs/shirts" not in code
    Image.new("RGB", (32, 32), "red").save("photo.jpg")
    exec(code, {})
    assert re.search(r"^\d\.\d{3}  \w+$", capsys.readouterr().out, re.MULTILINE)

    # By its id, at its commit, which the record names.
    commit = repo.history()[0].sha
    repo.commit({"config.json": b"{}"}, "broken meanwhile")
    photos(tmp_path / "others", train=1, validation=1, test=2)
    again = score.main(
        ["--model", "ada/shirts", "--model_revision", commit, "--dataset", "others", "--use_cpu", "True"]
    )
    assert again.info["base_model"]["revision"] == commit


def test_who_may_not_push_is_told_before_the_first_step(hub, words, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.add_token("ada", "read"))
    monkeypatch.setattr(FashionTrainer, "train", lambda *args, **kwargs: pytest.fail("it was trained"))
    with pytest.raises(ours.HubError, match="role `read`"):
        classify.main(words)
    assert not hub.repos


def test_photos_by_id_name_their_commit_for_the_record(hub, tmp_path):
    photos(tmp_path / "photos", train=4, validation=3, test=3)
    dataset, report = data.load(tmp_path / "photos", COLUMNS)
    commit = ours.push_photos(dataset, report, "ada/photos", license="cc0-1.0").commit
    hub.repo("ada/photos", "dataset").commit({"notes.md": b"later"}, "later")
    _, report = data.load("ada/photos", COLUMNS, revision=commit)
    assert (report.source["revision"], report.source["license"]) == (commit, "cc0-1.0")
