"""What the clients of today do on each fault of the Hub, by xet and by LFS.

Where a test fails after an update of the clients, they do better (or worse), and a guard of ours may go (or come).
"""

import base64
import http.client
import json
import time
import urllib.request
from pathlib import Path

import huggingface_hub.utils._http as client_http
import pytest
from hub_fixtures import commit_files, contents, small_run
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

# The clients' own.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
DROPPED = client_http.httpx2.RemoteProtocolError
STEPS = {"xet": ("preupload", "xet-token", "xorb", "shard"), "lfs": ("preupload", "lfs", "blob", "verify")}


@pytest.fixture
def folder(tmp_path):
    return small_run(tmp_path / "run")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The client's backoff of 1, 2, 4 s is counted in requests here, not waited for."""
    clock = type("Clock", (), {"sleep": staticmethod(lambda seconds: None), "monotonic": client_http.time.monotonic})
    monkeypatch.setattr(client_http, "time", clock)


@pytest.mark.parametrize("how", [429, 503, "cut"])
@pytest.mark.parametrize("step", ["create", "validate", "commit", "info"])
def test_one_bad_answer_ends_a_push(hub_by_both, folder, step, how):
    fault = hub_by_both.fail(step, how)
    with pytest.raises(DROPPED if how == "cut" else HfHubHTTPError):
        HfApi().create_repo("ada/shirts")
        commit_files(folder)
        HfApi().model_info("ada/shirts")
    assert fault.hits == hub_by_both.count(step) == 1
    assert not hub_by_both.repos or len(hub_by_both.repo("ada/shirts").history()) == (2 if step == "info" else 1)


@pytest.mark.parametrize("how", [429, 503, "cut"])
def test_one_bad_answer_in_an_upload_is_asked_again(hub_by_both, folder, how):
    hub = hub_by_both
    hub.create("ada/shirts")
    steps = STEPS["xet" if hub.xet else "lfs"]
    faults = [hub.fail(step, how) for step in steps]
    commit_files(folder)
    assert [(fault.hits, hub.count(fault.step)) for fault in faults] == [(1, 2)] * 4
    assert hub.repo("ada/shirts").files() == contents(folder)


def test_retry_after_is_sent(hub):
    hub.create("ada/shirts")
    hub.fail("info", 429, retry_after=7)
    with pytest.raises(HfHubHTTPError) as refusal:
        HfApi().model_info("ada/shirts")
    assert refusal.value.response.headers["Retry-After"] == "7"


def test_an_answer_lost_after_a_commit(hub_by_both, folder):
    hub = hub_by_both
    hub.create("ada/shirts")
    fault = hub.fail("commit", "lost")
    with pytest.raises(DROPPED):
        commit_files(folder)
    assert fault.hits == 1 and len(hub.repo("ada/shirts").history()) == 2, "it landed all the same"


def test_xet_upload_folder_commits_twice_when_the_answer_is_lost(hub, folder):
    hub.create("ada/shirts")
    hub.fail("commit", "lost")
    HfApi().upload_folder(repo_id="ada/shirts", folder_path=folder)
    titles = [commit.title for commit in hub.repo("ada/shirts").history()]
    assert titles == ["Upload folder using huggingface_hub"] * 2 + ["initial commit"]


def test_someone_pushed_meanwhile(hub_by_both, folder):
    repo = hub_by_both.create("ada/shirts")
    hub_by_both.before("commit", lambda: repo.commit({"theirs.txt": b"x"}))
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        commit_files(folder, parent_commit=repo.history()[0].sha)
    assert set(repo.files()) == {"theirs.txt"}


@pytest.mark.parametrize("how", ["expired", "read-only", "full", 412])
def test_refused_at_the_commit(hub_by_both, folder, how):
    repo = hub_by_both.create("ada/shirts")
    hub_by_both.fail("commit", how)
    with pytest.raises(HfHubHTTPError) as refusal:
        commit_files(folder)
    assert refusal.value.response.status_code == {"expired": 401, 412: 412}.get(how, 403)
    assert len(repo.history()) == 1
    sent = hub_by_both.count("xorb") + hub_by_both.count("blob")
    commit_files(folder)
    assert repo.files() == contents(folder)
    assert hub_by_both.count("xorb") + hub_by_both.count("blob") == sent, "nothing is sent twice"


def test_the_same_refusal_is_another_error_by_xet_and_by_lfs(hub_by_both, folder):
    hub_by_both.create("ada/shirts")
    xet = hub_by_both.xet
    hub_by_both.fail("xet-token" if xet else "lfs", "read-only", times=9)
    with pytest.raises(ConnectionError if xet else HfHubHTTPError, match="403"):
        commit_files(folder)
    hub_by_both.fail("xorb" if xet else "blob", 500, times=99)
    hub_by_both.faults[0].times = 0
    with pytest.raises(ConnectionError if xet else RuntimeError):
        commit_files(folder)
    assert hub_by_both.faults[1].hits == 6  # five retries


def test_no_room(hub_by_both, folder):
    hub_by_both.create("ada/shirts")
    hub_by_both.quota = 50_000
    with pytest.raises(ConnectionError if hub_by_both.xet else ValueError):
        commit_files(folder)
    hub_by_both.quota = None
    assert commit_files(folder).oid


@pytest.mark.parametrize("where", ["stored", "sent", "later"])
def test_a_byte_changed_on_the_way_is_seen_by_checksums_only(hub_by_both, folder, where):
    hub = hub_by_both
    hub.create("ada/shirts")
    stored = "xorb" if hub.xet else "blob"
    fault = None if where == "later" else hub.fail(stored if where == "stored" else "download", "corrupt")
    commit_files(folder)
    if where == "later":
        hub.spoil("ada/shirts", "weights.safetensors")
    here = Path(snapshot_download("ada/shirts"), "weights.safetensors").read_bytes()
    sent = (folder / "weights.safetensors").read_bytes()
    assert (fault is None or fault.hits == 1) and here != sent and len(here) == len(sent)
    assert [found["path"] for found in HfApi().verify_repo_checksums("ada/shirts").mismatches] == [
        "weights.safetensors"
    ]


def test_an_invalid_card_refuses_the_whole_commit(hub_by_both, folder):
    repo = hub_by_both.create("ada/shirts")
    (folder / "README.md").write_text("---\nlicense: mine\n---\n")
    with pytest.raises(ValueError, match="Invalid metadata in README.md"):
        commit_files(folder)
    assert repo.files() == {} and hub_by_both.count("xorb") + hub_by_both.count("blob") == 0
    # And the Hub refuses it too, from a client that does not ask first.
    card = base64.b64encode((folder / "README.md").read_bytes()).decode()
    answer = raw_commit(hub_by_both, {"key": "file", "value": {"path": "README.md", "content": card}})
    assert answer.status_code == 400 and '"license\\" must be one of' in answer.text


def raw_commit(hub, *lines):
    header = {"key": "header", "value": {"summary": "x"}}
    body = "\n".join(json.dumps(line) for line in (header, *lines))
    head = {"Authorization": f"Bearer {hub.token}"}
    return client_http.get_session().post(
        f"{hub.endpoint}/api/models/ada/shirts/commit/main", content=body, headers=head
    )


def test_a_large_file_that_never_came_cannot_be_committed(hub):
    hub.create("ada/shirts")
    answer = raw_commit(hub, {"key": "lfsFile", "value": {"path": "w.bin", "oid": "0" * 64, "size": 3}})
    assert answer.status_code == 400 and "does not exist" in answer.text


def test_downloads_that_break_off_are_taken_up_again(hub_by_both, folder):
    hub = hub_by_both
    hub.create("ada/shirts")
    commit_files(folder)
    faults = [hub.fail("download", "half"), hub.fail("tree", 503)]
    down = contents(snapshot_download("ada/shirts"))
    assert [fault.hits for fault in faults] == [1, 1] and hub.count("download") == 2
    assert down["weights.safetensors"] == (folder / "weights.safetensors").read_bytes()


def test_a_partial_cache_is_taken_for_the_whole_when_the_hub_is_down(hub):
    hub.create("ada/shirts", files={"a.txt": b"a", "b.txt": b"b"})
    hub.fail("info", 500, times=2)
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("ada/shirts")
    hf_hub_download("ada/shirts", "a.txt")
    assert list(contents(snapshot_download("ada/shirts"))) == ["a.txt"]  # not a word of b.txt


def test_silence_lasts_until_the_reader_has_enough(hub):
    hub.create("ada/shirts")
    fault = hub.fail("info", "silent", times=2)
    with pytest.raises(client_http.httpx2.ReadTimeout):
        HfApi().model_info("ada/shirts", timeout=0.2)
    line = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=10)
    line.request("GET", "/api/models/ada/shirts")
    while fault.hits < 2:
        time.sleep(0.01)
    hub.reset()  # ends the silence with a dropped line
    with pytest.raises(http.client.RemoteDisconnected):
        line.getresponse()


def test_a_token_sent_to_the_storage_is_noticed(hub, folder):
    hub.create("ada/shirts")
    commit_files(folder)
    snapshot_download("ada/shirts")
    assert hub.leaks == []  # the clients keep it to the API
    url = f"{hub.endpoint}/ada/shirts/resolve/main/weights.safetensors"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {hub.token}"})):
        pass  # urllib takes the header along to another host
    assert [token for _, token in hub.leaks] == [hub.token]


def test_faults_are_counted_and_narrowed(hub):
    hub.create("ada/shirts")
    hub.create("ada/shoes")
    fault = hub.fail("info", 500, times=2, after=1, match="shoes")
    codes = []
    for name in ("shoes", "shirts", "shoes", "shirts", "shoes", "shoes"):
        codes.append(client_http.get_session().get(f"{hub.endpoint}/api/models/ada/{name}").status_code)
    assert codes == [200, 200, 500, 200, 500, 200] and fault.hits == 2
    for wrong in ({"step": "push", "how": 500}, {"step": "commit", "how": "boom"}):
        with pytest.raises(ValueError, match="no (step|fault)"):
            hub.fail(**wrong)
