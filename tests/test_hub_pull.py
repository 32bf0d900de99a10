"""Pull against the double of the Hub: what a folder or the cache holds beforehand, and what is taken at all."""

import errno
import os
import shutil

import pytest
from huggingface_hub import HfApi

from hf_fashion import hub as ours
from hf_fashion.hub import clean, pulling
from hf_fashion.recipes import pull as recipe

pytestmark = pytest.mark.usefixtures("no_waiting")

NET = {"README.md": b"# net\n", "config.json": b"{}", "model.safetensors": b"weights " * 100}
RUNS = [
    "a.PY", "model.PKL", "a.pyc", "a.pyd", "a.dylib", "a.so.1", "a.dill", "a.sav", "a.pck", "a.th", "a.t7", "a.keras",
    "a.pb", "a.nemo", "a.mar", "a.zip", "a.tgz", "a.tar.gz", "a.ps1", "a.bat", "a.js", "Makefile", "pickle.model",
    "weights", "a.bin", "a.pt", "a.npy", "a.json.pkl", "a.html", ".env", ".git/config.json",
    ".cache/huggingface/hf_fashion_pull.json", "plots/run.sh",
]  # fmt: skip


@pytest.fixture
def net(hub):
    return hub.create("eve/net", files=NET)


@pytest.fixture
def down(hub):
    return lambda: hub.fail("info", 503, times=99)


def refused(*words):
    return pytest.raises(ours.HubError, match="(?s)" + ".*".join(words))


def files(folder):
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {path for path in found if not path.startswith((".cache", ".gitattributes"))}


# --- without a way to the Hub


@pytest.mark.parametrize("revision", [None, "main", "a" * 40])
def test_without_the_hub_a_folder_of_something_else_is_not_the_repo(net, down, tmp_path, capsys, revision):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    down()
    with refused("eve/net", "an earlier pull of just this", "the Hub answers 503", "not fetched twice"):
        recipe.main(["eve/net", str(tmp_path), *(["--revision", revision] if revision else [])])
    assert "next:" not in capsys.readouterr().out and files(tmp_path) == {"holiday.jpg"}


def test_without_the_hub_a_pulled_folder_is_itself_and_names_its_commit(hub, net, down, tmp_path, capsys):
    commit = ours.pull("eve/net", folder=tmp_path).commit
    down()
    pulled = recipe.main(["eve/net", str(tmp_path)])
    assert pulled.from_cache and pulled.commit == commit
    assert f"--model_revision {commit}" in capsys.readouterr().out
    assert ours.pull("eve/net", folder=tmp_path, revision=commit).commit == commit
    for other in ({"repo": "eve/other"}, {"revision": "v1"}, {"kind": "dataset"}):
        with refused("no such record"):
            ours.pull(**{"repo": "eve/net", "folder": tmp_path} | other)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with refused("a part of them in the folder", "model.safetensors"):
        ours.pull("eve/net", folder=tmp_path)


def test_a_pull_that_broke_off_leaves_no_folder_that_counts_as_whole(hub, net, down, tmp_path):
    ours.pull("eve/net", folder=tmp_path)
    net.commit({"config.json": b"[]", "README.md": b"# two\n"}, "of the same sizes")
    hub.fail("resolve", 503, times=99)
    with refused("eve/net", "the Hub answers 503", "not fetched twice"):
        ours.pull("eve/net", folder=tmp_path)
    down()
    with refused("no such record"):
        ours.pull("eve/net", folder=tmp_path)


def test_a_cached_file_that_was_cut_is_not_good_and_is_fetched_again(hub, net, down):
    pulled = ours.pull("eve/net")
    weights = (pulled.folder / "model.safetensors").resolve()
    weights.write_bytes(b"")
    fault = down()
    with refused("a part of them in the cache", "changed or cut short: model.safetensors"):
        ours.pull("eve/net")
    hub.faults.remove(fault)
    again = ours.pull("eve/net", verify=True)
    assert (again.folder / "model.safetensors").read_bytes() == NET["model.safetensors"]
    next(pulled.folder.parents[1].glob("trees/*.json")).unlink()
    down()
    with refused("a list of the commit's files"):
        ours.pull("eve/net")


# --- a folder that is not empty


def test_files_of_the_user_are_not_replaced_unless_they_are_given_up(net, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "model.safetensors").write_text("mine, too")
    (tmp_path / "notes.txt").write_text("in nobody's way")
    with refused("that would be lost", "README.md, model.safetensors", "another folder", "--overwrite"):
        ours.pull("eve/net", folder=tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine" and "config.json" not in files(tmp_path)
    recipe.main(["eve/net", str(tmp_path), "--overwrite"])
    assert (tmp_path / "model.safetensors").read_bytes() == NET["model.safetensors"]
    assert files(tmp_path) == {*NET, "notes.txt"}


def test_a_disk_that_gets_full_leaves_nothing_that_the_next_pull_takes_for_its_users_own(
    hub, net, tmp_path, monkeypatch
):  # fmt: skip
    ours.pull("eve/net", folder=tmp_path)
    net.commit({"model.safetensors": b"weights2" * 100, "new.json": b"[1, 2, 3]"}, "two")
    fetch = pulling.snapshot_download

    def full(*args, local_dir, **only):
        done = fetch(*args, local_dir=local_dir, **only)
        for name in ("model.safetensors", "new.json"):  # as `shutil.copyfile` out of the cache leaves them
            (local_dir / name).write_bytes((local_dir / name).read_bytes()[:5])
            (local_dir / ".cache" / "huggingface" / "download" / f"{name}.metadata").unlink(missing_ok=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), done)

    monkeypatch.setattr(pulling, "snapshot_download", full)
    with refused("No space left on device", "make room"):
        ours.pull("eve/net", folder=tmp_path)
    assert files(tmp_path) == {"README.md", "config.json"}
    monkeypatch.setattr(pulling, "snapshot_download", fetch)
    ours.pull("eve/net", folder=tmp_path, verify=True)
    assert (tmp_path / "new.json").read_bytes() == b"[1, 2, 3]"


def test_a_pull_without_room_is_refused_before_it_writes(net, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    with refused("a disk with 0.0 MB of room", "larger disk"):
        ours.pull("eve/net", folder=tmp_path)
    assert files(tmp_path) == set()


def test_what_xet_says_of_a_full_disk_is_not_told_as_the_networks(hub):
    error = RuntimeError("Task error: File reconstruction error: IO Error: No space left on device (os error 28)")
    told = ours.client.translate("pull", error)
    assert not told.passing and "make room" in told.fix


def test_equal_files_are_in_nobodys_way(hub, net, tmp_path):
    for name, content in NET.items():
        (tmp_path / name).write_bytes(content)
    assert ours.pull("eve/net", folder=tmp_path, verify=True).removed == ()


@pytest.mark.parametrize("text", ["a longer text of mine", "# my\n"])
def test_a_readme_edited_after_the_pull_is_named_kept_and_no_endless_story(net, tmp_path, text):
    ours.pull("eve/net", folder=tmp_path)
    (tmp_path / "README.md").write_text(text)
    net.commit({"config.json": b"[1]"}, "another")
    with refused("changed since: README.md", "--overwrite"):
        ours.pull("eve/net", folder=tmp_path)
    assert (tmp_path / "README.md").read_text() == text and (tmp_path / "config.json").read_bytes() == b"{}"
    ours.pull("eve/net", folder=tmp_path, overwrite=True)
    assert (tmp_path / "README.md").read_bytes() == NET["README.md"]
    assert (tmp_path / "config.json").read_bytes() == b"[1]"


def test_weights_of_an_earlier_pull_do_not_stay_beside_the_new_ones(hub, net, tmp_path, capsys):
    ours.pull("eve/net", folder=tmp_path)
    shards = {f"model-0000{i}-of-00002.safetensors": b"shard %d" % i for i in (1, 2)}
    hub.create("eve/shards", files={"config.json": b"{}", "model.safetensors.index.json": b"{}"} | shards)
    (tmp_path / "README.md").unlink()
    with refused("holds the model eve/net", "another folder", "--overwrite"):
        recipe.main(["eve/shards", str(tmp_path)])
    assert (tmp_path / "model.safetensors").is_file()
    recipe.main(["eve/shards", str(tmp_path), "--overwrite"])
    assert files(tmp_path) == {"config.json", "model.safetensors.index.json", *shards}
    assert "removed: model.safetensors" in capsys.readouterr().out
    (tmp_path / "model-00001-of-00002.safetensors").write_text("trained on")
    with refused("changed since: model-00001-of-00002.safetensors"):
        ours.pull("eve/shards", folder=tmp_path)
    assert (tmp_path / "model-00001-of-00002.safetensors").read_text() == "trained on"


def test_a_folder_of_another_repo_is_not_cleared(hub, net, tmp_path):
    hub.create("eve/net", "dataset", files={"data.csv": b"a"})
    ours.pull("eve/net", folder=tmp_path)
    before = files(tmp_path)
    for repo, kind in (("eve/net", "dataset"), ("eve/photos", "dataset")):
        hub.create("eve/photos", "dataset", files={"data.csv": b"a"}) if repo == "eve/photos" else None
        with refused("an earlier pull of the dataset", "holds the model eve/net"):
            ours.pull(repo, kind, folder=tmp_path)
        assert files(tmp_path) == before
    (tmp_path / ".cache" / "huggingface" / "hf_fashion_pull.json").unlink()  # as another tool leaves it
    with refused("holds a repo that no record names"):
        ours.pull("eve/photos", "dataset", folder=tmp_path)
    assert files(tmp_path) == before
    ours.pull("eve/photos", "dataset", folder=tmp_path, overwrite=True)
    assert "data.csv" in files(tmp_path) and "model.safetensors" not in files(tmp_path)


def test_a_pull_that_broke_off_is_known_as_that_repos(hub, net, tmp_path, monkeypatch):
    ours.pull("eve/net", folder=tmp_path)
    net.commit({"README.md": b"# new\n"}, "another")
    with monkeypatch.context() as patch:
        patch.setattr(pulling, "_refuse_incomplete", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ours.pull("eve/net", folder=tmp_path)
    ours.pull("eve/net", folder=tmp_path)
    assert (tmp_path / "README.md").read_bytes() == b"# new\n"


def test_a_repo_of_another_kind_and_the_way_to_get_a_space_are_told(hub, tmp_path, capsys):
    hub.create("eve/photos", "dataset", files={"data.csv": b"a"})
    hub.create("eve/demo", "space", files={"app.py": b"1"})
    with refused("none, but a dataset of that name", "hf-fashion pull eve/photos --type dataset"):
        ours.pull("eve/photos")
    with refused("the Hub shows none of that name"):
        ours.pull("eve/nothing")
    recipe.main(["eve/demo", str(tmp_path / "demo"), "--type", "space"])
    assert f"hf download eve/demo --repo-type space --local-dir {tmp_path / 'demo'}" in capsys.readouterr().out


def test_weights_of_another_origin_links_and_folders_are_refused_even_so(net, tmp_path):
    (tmp_path / "here").mkdir()
    mine = tmp_path / "here" / "model-00001-of-00002.safetensors"
    mine.write_text("mine")
    with refused("weights of another origin: model-00001"):
        ours.pull("eve/net", folder=tmp_path / "here", overwrite=True)
    mine.unlink()
    (tmp_path / "elsewhere.json").write_text("mine")
    (tmp_path / "here" / "config.json").symlink_to(tmp_path / "elsewhere.json")
    (tmp_path / "here" / "README.md").mkdir()
    with refused("README.md, config.json", "another folder"):
        ours.pull("eve/net", folder=tmp_path / "here", overwrite=True)
    assert (tmp_path / "elsewhere.json").read_text() == "mine"
    with refused("a folder, or a name for a new one"):
        ours.pull("eve/net", folder=tmp_path / "elsewhere.json")


def test_what_was_pulled_and_is_unchanged_moves_on_with_the_repo(net, tmp_path):
    ours.pull("eve/net", folder=tmp_path)
    net.commit({"README.md": b"# new\n", "model.safetensors": os.urandom(50)}, "another")
    ours.pull("eve/net", folder=tmp_path, verify=True)
    assert (tmp_path / "README.md").read_bytes() == b"# new\n"


# --- what is taken


def test_only_what_is_known_to_be_data_is_taken_and_the_rest_is_named(hub, tmp_path, capsys):
    hub.create("eve/code", files=NET | dict.fromkeys(RUNS, b"\x80\x04boom") | {"a/b.PNG": b"x", "LICENSE": b"mit"})
    pulled = recipe.main(["eve/code", str(tmp_path)])
    assert files(tmp_path) == {*NET, "a/b.PNG", "LICENSE"} and set(pulled.left_out) == set(RUNS)
    told = capsys.readouterr().out
    assert all(f"left out: {path} (" in told for path in RUNS)
    assert set(ours.pull("eve/code").left_out) == set(RUNS)


def test_all_that_a_push_sends_of_models_and_photos_is_taken_by_a_pull():
    sent = {pattern.replace("*", "1").replace("[0-9]", "1") for pattern in clean.MODEL + clean.DATASET}
    assert len(sent) > 30 and not [path for path in sent if pulling._may_run(path)]


@pytest.mark.parametrize(
    "path", ["../evil.json", "a/../../evil.json", "/evil.json", "a\\..\\evil.json", "C:evil.json"]
)
@pytest.mark.parametrize("folder", [None, "here"])
def test_a_path_that_leads_out_is_told_as_all_errors_are(net, tmp_path, monkeypatch, path, folder):
    def tree(self, *args, **kwargs):
        from huggingface_hub.hf_api import RepoFile

        return [RepoFile(path=path, size=1, oid="0" * 40)]

    monkeypatch.setattr(HfApi, "list_repo_tree", tree)
    with refused("paths below the repo's folder", "evil.json", "ask its owner"):
        ours.pull("eve/net", folder=folder and tmp_path / folder)
    assert not list(tmp_path.iterdir())


def test_advice_for_what_is_sent_is_not_given_for_what_is_fetched(hub, net, down, monkeypatch):
    down()
    with pytest.raises(ours.HubError) as error:
        ours.pull("eve/net")
    assert "not fetched twice" in error.value.fix and "sent" not in error.value.fix
    hub.faults.clear()
    hub.fail("info", "cut", times=99)
    with pytest.raises(ours.HubError) as error:
        ours.pull("eve/net")
    assert "not fetched twice" in error.value.fix and "sent" not in error.value.fix
