"""The one test of the real Hub: create, push, load, delete. Run it by

    HF_FASHION_HUB_TOKEN=<a token with the role write> pytest -m hub

It runs in a process of its own, since here all clients talk to the double. What it makes is private, and deleted.
"""

import os
import subprocess
import sys
import uuid

import pytest
from tiny import tiny

TOKEN = os.environ.get("HF_FASHION_HUB_TOKEN")  # conftest takes HF_TOKEN away from the tests
CARD = "---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: image-classification\n---\n\n# A test\n"
CODE = """
import sys
from huggingface_hub import HfApi
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification
from hf_fashion import InputError, hub

folder, name = sys.argv[1:]
api = HfApi()
repo = f"{api.whoami()['name']}/{name}"
try:
    first = hub.push(folder, repo)
    assert api.repo_info(repo).private and set(first.sent) >= {"config.json", "model.safetensors", "README.md"}
    assert hub.push(folder, repo).sent == ()
    api.upload_file(path_or_fileobj=b"---\\nlicense: mit\\n---\\nBy hand.\\n", path_in_repo="README.md", repo_id=repo)
    try:
        hub.push(folder, repo)
        raise SystemExit("a change by hand was written over")
    except InputError as error:
        assert "changed in another way" in str(error)
    second = hub.push(folder, repo, overwrite=True)
    net = AutoModelForImageClassification.from_pretrained(repo, revision=second.commit)
    kept, state = load_file(f"{folder}/model.safetensors"), net.state_dict()
    assert all((kept[key] == state[key]).all() for key in kept)
    assert hub.pull(repo, revision=first.commit, verify=True).commit == first.commit
finally:
    api.delete_repo(repo, missing_ok=True)
assert not api.repo_exists(repo)
"""


@pytest.mark.hub
def test_create_push_load_delete(tmp_path):
    assert TOKEN, "HF_FASHION_HUB_TOKEN: a token with the role `write`; what is made is private and deleted again"
    folder = tiny("resnet", tmp_path / "net")
    (folder / "README.md").write_text(CARD)
    ours = ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment |= {"HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", CODE, str(folder), f"hf-fashion-test-{uuid.uuid4().hex[:12]}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
