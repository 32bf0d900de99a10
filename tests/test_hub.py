"""Push and pull of a model against the double of the Hub: what arrives, and what each fault leads to."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import HfApi
from PIL import Image
from safetensors.numpy import load_file, save_file

from hf_fashion import cards
from hf_fashion import hub as ours
from hf_fashion.errors import InputError
from hf_fashion.hub import clean, client, pulling, pushing
from hf_fashion.recipes import pull as pull_recipe
from hf_fashion.recipes import push as push_recipe

pytestmark = pytest.mark.usefixtures("no_waiting")

CARD = "---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: image-classification\n---\n\n# Shirts\n"
SENT = {"README.md", "config.json", "eval_results.json", "model.safetensors", "plots/bars.png", "run.json"}


@pytest.fixture
def folder(tmp_path):
    """The folder of a run, with weights that no other test has sent."""
    return run_folder(tmp_path / "shirts")


def run_folder(place: Path) -> Path:
    (place / "plots").mkdir(parents=True)
    save_file({"head": np.frombuffer(os.urandom(400_000), np.uint8)}, place / "model.safetensors")
    (place / "config.json").write_text('{"model_type": "resnet"}\n')
    (place / "README.md").write_text(CARD)
    (place / "run.json").write_text('{"status": "finished", "recipe": "classify"}\n')
    (place / "eval_results.json").write_text('{"accuracy": 0.75}\n')
    Image.new("RGB", (8, 8), "red").save(place / "plots" / "bars.png")
    (place / "predictions.parquet").write_bytes(b"PAR1")
    (place / "checkpoint-3").mkdir()
    (place / "checkpoint-3" / "optimizer.pt").write_bytes(b"\x80\x02")
    return place


def titles(hub, repo="ada/shirts", kind="model"):
    return [commit.title.split(",")[0] for commit in hub.repo(repo, kind).history()]


def refused(*words, error=ours.HubError):
    return pytest.raises(error, match="(?s)" + ".*".join(words))


def test_what_is_pushed_arrives_private_once_and_again_for_nothing(hub_by_both, folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    pushed = ours.push(folder, "shirts")
    repo = hub_by_both.repo("ada/shirts")
    assert repo.private and set(repo.files()) - {".gitattributes"} == SENT
    assert repo.files()["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert pushed.commit == repo.history()[0].sha and set(pushed.sent) == SENT
    told = capsys.readouterr().out
    assert told.index("(model, private, new), as ada") < told.index("6 files sent")
    assert "model.safetensors" in told and "400.1 kB" in told and "predictions.parquet (names your files" in told
    again = ours.push(folder, "ada/shirts")
    assert again.sent == () and len(repo.history()) == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not hub_by_both.leaks


def test_public_only_when_it_was_said(hub, folder):
    ours.push(folder, "atelier/shirts", public=True)
    assert not hub.repo("atelier/shirts").private
    with refused("a public one, that everybody sees", error=InputError):
        ours.push(folder, "atelier/shirts")
    hub.create("ada/coats", private=True)
    with refused(
        "a private one, which a push does not change", "hf repos settings ada/coats --public`", error=InputError
    ):
        ours.push(folder, "ada/coats", public=True)
    assert hub.count("commit") == 1


@pytest.mark.parametrize(
    ("name", "role", "repo", "words"),
    [
        ("ada", "read", "shirts", "one with the role `read`"),
        ("ada", "expired", "shirts", "refuses this one"),
        ("ada", "fineGrained", "shirts", "fine-grained one without that right"),
    ],
)
def test_who_may_not_write_is_told_before_anything_is_sent(hub, folder, monkeypatch, name, role, repo, words):
    monkeypatch.setenv("HF_TOKEN", hub.add_token(name, role))
    with refused(words, "then: hf-fashion push .*shirts"):
        ours.push(folder, repo)
    assert not hub.repos and not hub.count("commit") and not hub.count("preupload")


@pytest.mark.parametrize(
    ("repo", "words"),
    [
        ("maison/shirts", "expected: a namespace that you may write to: ada, atelier"),
        ("shirts of mine", "id of a repo"),
    ],
)
def test_of_a_name_that_cannot_be_the_same_command_is_not_told_to_go_on(hub, folder, repo, words):
    with pytest.raises(InputError, match=words) as told:
        ours.push(folder, repo)
    assert "then:" not in told.value.fix and not hub.repos


def test_roles_in_an_organization_and_rights_of_a_token_are_read():
    scope = {"entity": {"type": "org", "name": "atelier"}, "permissions": ["repo.content.read", "repo.write"]}
    fine = {"role": "fineGrained", "fineGrained": {"scoped": [scope]}}
    who = {"name": "ada", "orgs": [{"name": "atelier", "roleInOrg": "read"}], "auth": {"accessToken": fine}}
    with refused("a role in atelier that may write", "push to ada/shirts"):
        pushing._refuse_namespace("push", "atelier/shirts", who)
    who["orgs"][0]["roleInOrg"] = "contributor"
    pushing._refuse_namespace("push", "atelier/shirts", who)
    pushing._refuse_no_creation("push", "atelier/shirts", who)
    with refused("fine-grained one without that right"):
        pushing._refuse_no_creation("push", "ada/shirts", who)
    scope["permissions"] = ["repo.content.read"]
    with refused("fine-grained one without that right"):
        pushing._refuse_no_creation("push", "atelier/shirts", who)


def test_a_fine_grained_token_for_the_repo_is_enough(hub, folder, monkeypatch):
    hub.create("ada/shirts", private=True)
    monkeypatch.setenv("HF_TOKEN", hub.add_token("ada", "fineGrained", scopes=["ada/shirts"]))
    assert ours.push(folder, "ada/shirts").sent


def test_no_token_and_offline_are_said(hub, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with refused("expected: a token of yours", "hf auth login"):
        ours.push(folder, "shirts")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    with refused("HF_HUB_OFFLINE is set"):
        ours.push(folder, "shirts")


def test_a_card_that_the_hub_would_refuse_is_refused_before(hub, folder, monkeypatch):
    (folder / "README.md").write_text("---\nlicense: my-own\n---\n")
    with refused("README.md, line 2, license", "my-own", error=InputError):
        ours.push(folder, "shirts")
    monkeypatch.setattr(cards, "validate", lambda text, kind: [])  # a rule that nobody has written down
    with refused("README.md: its metadata", "license"):
        ours.push(folder, "shirts")
    assert not hub.repos


def test_a_folder_that_is_not_ready_is_refused_without_the_hub(folder):
    (folder / "run.json").write_text('{"status": "interrupted", "go_on": "hf-fashion classify --resume"}')
    with refused("status: interrupted", "hf-fashion classify --resume", error=InputError):
        ours.push(folder, "shirts")
    (folder / "run.json").unlink()
    (folder / "README.md").unlink()
    with refused("README.md, the card", "hf-fashion card", error=InputError):
        ours.push(folder, "shirts")
    (folder / "model.safetensors").write_bytes((folder / "checkpoint-3" / "optimizer.pt").read_bytes())
    (folder / "README.md").write_text(CARD)
    with refused("weights in the format safetensors", error=InputError):
        ours.push(folder, "shirts")


@pytest.mark.parametrize("step", ["whoami", "info", "validate", "create", "preupload", "commit", "tree"])
def test_a_busy_hub_is_asked_again(hub, folder, capsys, step):
    faults = [hub.fail(step, 503, times=2), hub.fail(step, 429, retry_after=0)]
    ours.push(folder, "shirts")
    assert [fault.hits for fault in faults] == [2, 1] and len(titles(hub)) == 2
    # The client itself repeats these two.
    assert step in ("preupload", "tree") or "slow down (429)" in capsys.readouterr().out


def test_it_waits_as_long_as_it_is_asked_to_and_not_for_ever(hub, folder, monkeypatch):
    waited = []
    monkeypatch.setattr(client.time, "sleep", waited.append)
    hub.fail("whoami", 429, retry_after=7)
    hub.fail("commit", 429, retry_after=11)
    ours.push(folder, "shirts")
    assert waited == [7, 11]
    fault = hub.fail("whoami", 429, retry_after=3600, times=9)
    with refused("slow down", "then: hf-fashion push"):
        ours.push(folder, "shirts")
    assert fault.hits == 1


def test_in_the_end_it_gives_up_and_tells_the_command_that_goes_on(hub_by_both, folder, capsys):
    fault = hub_by_both.fail("commit", 500, times=99)
    with refused("the Hub answers 500", f"then: hf-fashion push {folder} shirts$"):
        ours.push(folder, "shirts")
    assert fault.hits == client.TRIES and titles(hub_by_both) == ["initial commit"]
    hub_by_both.faults.clear()
    hub_by_both.requests.clear()
    push_recipe.main([str(folder), "shirts"])
    assert set(hub_by_both.repo("ada/shirts").files()) - {".gitattributes"} == SENT
    uploads = [
        seen for seen in hub_by_both.requests if seen.step in ("blob", "xorb") and seen.method in ("PUT", "POST")
    ]
    assert not uploads  # the weights had arrived the first time


@pytest.mark.parametrize("how", ["lost", "half"])
def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub_by_both, folder, how):
    hub_by_both.fail("commit", how)
    ours.push(folder, "shirts")
    assert titles(hub_by_both) == ["shirts", "initial commit"]


def test_a_lost_answer_of_create_makes_no_second_repo(hub, folder):
    hub.fail("create", "lost")
    ours.push(folder, "shirts")
    assert len(hub.repos) == 1 and hub.repo("ada/shirts").private


def test_a_cut_connection_and_a_silent_hub_are_tried_again(hub, folder, monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 0.3)
    faults = [hub.fail("whoami", "cut"), hub.fail("create", "silent"), hub.fail("commit", "cut")]
    ours.push(folder, "shirts")
    assert [fault.hits for fault in faults] == [1, 1, 1]


def test_who_pushes_meanwhile_loses_nothing(hub, folder):
    repo = hub.create("ada/shirts", private=True)
    hub.before("commit", lambda: repo.commit({"notes.md": b"a note"}, "a note"))
    ours.push(folder, "ada/shirts")
    assert titles(hub) == ["shirts", "a note", "initial commit"]
    assert repo.files()["notes.md"] == b"a note" and hub.count("commit") == 2


def test_a_hub_that_always_has_a_newer_commit_is_given_up_on(hub, folder):
    fault = hub.fail("commit", 412, times=99)
    with refused("412"):
        ours.push(folder, "shirts")
    assert fault.hits == client.TRIES


def test_what_a_person_changed_on_the_hub_is_not_written_over(hub, folder):
    ours.push(folder, "shirts")
    repo = hub.repo("ada/shirts")
    repo.commit({"README.md": CARD.encode() + b"\nBy hand.\n"}, "Update README.md")
    (folder / "README.md").write_text(CARD + "\nA new run.\n")
    with refused("README.md, changed in another way", "Update README.md", "hf download", error=InputError):
        ours.push(folder, "shirts")
    assert b"By hand." in repo.files()["README.md"]
    ours.push(folder, "shirts", overwrite=True)
    assert b"A new run." in repo.files()["README.md"]
    (folder / "README.md").write_text(CARD + "\nAnd another.\n")
    ours.push(folder, "shirts")  # what is there now is ours
    assert b"And another." in repo.files()["README.md"]


def test_a_change_of_a_person_just_before_the_commit_is_not_written_over(hub, folder):
    ours.push(folder, "shirts")
    repo = hub.repo("ada/shirts")
    (folder / "README.md").write_text(CARD + "\nA new run.\n")
    hub.before("commit", lambda: repo.commit({"README.md": b"---\nlicense: mit\n---\nBy hand.\n"}, "Update README.md"))
    with refused("changed in another way", error=InputError):
        ours.push(folder, "shirts")
    assert b"By hand." in repo.files()["README.md"]


def test_a_repo_of_other_work_is_not_written_over(hub, folder):
    repo = hub.create("ada/shirts", files={"model.safetensors": b"other weights"}, private=True)
    repo.commit({"README.md": b"another model"}, "End of training")
    with refused("a repo that ada pushed to with hf_fashion", error=InputError):
        ours.push(folder, "ada/shirts")
    assert repo.files()["model.safetensors"] == b"other weights"


def test_weights_of_an_older_push_do_not_stay_beside_the_new(hub, folder, capsys):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    ours.push(folder, "shirts")
    (folder / "model-00001-of-00001.safetensors").rename(folder / "model.safetensors")
    (folder / "model.safetensors.index.json").unlink()
    ours.push(folder, "shirts")
    assert set(hub.repo("ada/shirts").files()) - {".gitattributes"} == SENT
    assert "taken out there, as it is of an earlier push: model.safetensors.index.json" in capsys.readouterr().out


def test_the_push_of_another_person_is_not_written_over(hub, folder, tmp_path, monkeypatch):
    hub.add_org("maison", ["ada", "eve"])
    ours.push(folder, "maison/shirts")
    repo = hub.repo("maison/shirts")
    kept = repo.files()
    with monkeypatch.context() as eve:
        eve.setenv("HF_TOKEN", hub.add_token("eve"))
        other = run_folder(tmp_path / "eve" / "shirts")
        with refused("a repo that eve pushed to", "model.safetensors", "by ada", "--overwrite", error=InputError):
            ours.push(other, "maison/shirts")
        assert repo.files() == kept
        ours.push(other, "maison/shirts", overwrite=True)
        assert repo.files()["model.safetensors"] == (other / "model.safetensors").read_bytes()
    with refused("as the last push of ada left them", "model.safetensors", "by eve", error=InputError):
        ours.push(folder, "maison/shirts")


def test_a_new_run_takes_the_place_of_the_same_persons_old_one_and_says_so(hub, folder, tmp_path, capsys):
    (folder / "tokenizer.json").write_text("{}\n")
    ours.push(folder, "shirts")
    newer = run_folder(tmp_path / "shirts-2")
    ours.push(newer, "shirts")
    repo = hub.repo("ada/shirts")
    assert repo.files()["model.safetensors"] == (newer / "model.safetensors").read_bytes()
    assert "tokenizer.json" not in repo.files() and titles(hub) == ["shirts-2", "shirts", "initial commit"]
    assert "in the place of your push of shirts, which stays in the repo's history" in capsys.readouterr().out


@pytest.mark.parametrize("title", ['Revert "{}"', "{} reverted"])
def test_a_title_that_only_holds_ours_is_not_ours(hub, folder, title):
    ours.push(folder, "shirts")
    repo = hub.repo("ada/shirts")
    repo.commit({"README.md": CARD.encode() + b"\nBy hand.\n"}, title.format(repo.history()[0].title))
    (folder / "README.md").write_text(CARD + "\nA new run.\n")
    with refused("README.md, changed in another way", error=InputError):
        ours.push(folder, "shirts")
    assert b"By hand." in repo.files()["README.md"]


def test_a_history_of_one_commit_is_no_leave_to_write_over(hub, folder):
    ours.push(folder, "shirts")
    repo = hub.repo("ada/shirts")
    repo.commit({"README.md": CARD.encode() + b"\nBy hand.\n"}, "Update README.md")
    hub.create("ada/coats", files={"README.md": b"# By hand\n"}, private=True)
    for name in ("ada/shirts", "ada/coats"):
        HfApi().super_squash_history(name)
        assert len(hub.repo(name).history()) == 1
        with refused("README.md, changed in another way", error=InputError):
            ours.push(folder, name)
    assert b"By hand." in repo.files()["README.md"]


def test_what_an_earlier_push_brought_goes_and_what_others_added_stays(hub, folder):
    for name in ("preprocessor_config.json", "tokenizer.json"):
        (folder / name).write_text("{}\n")
    ours.push(folder, "shirts")
    repo = hub.repo("ada/shirts")
    repo.commit({"plots/mine.png": b"\x89PNG", "model.safetensors.index.json": b"{}"}, "by hand")
    (folder / "config.json").write_text('{"model_type": "vit"}\n')
    ours.push(folder, "shirts")  # now a commit of ours holds what was added by hand
    assert "tokenizer.json" in repo.files()
    for name in ("preprocessor_config.json", "tokenizer.json", "eval_results.json"):
        (folder / name).unlink()
    repo.commit({"tokenizer.json": b'{"by": "hand"}'}, "another tokenizer")
    ours.push(folder, "shirts", overwrite=True)
    gone = {"eval_results.json", "preprocessor_config.json"}
    kept = {"plots/mine.png", "model.safetensors.index.json", "tokenizer.json"}
    assert not gone & repo.files().keys() and kept <= repo.files().keys()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with refused("found: +model.safetensors.index.json, changed in another way", error=InputError):
        ours.push(folder, "shirts")


def test_a_file_that_a_person_took_out_is_not_brought_back(hub, folder):
    ours.push(folder, "shirts")
    hub.repo("ada/shirts").commit({"plots/bars.png": None}, "no bars")
    with refused("found: +plots/bars.png, changed in another way", error=InputError):
        ours.push(folder, "shirts")


def test_a_repo_that_became_public_meanwhile_gets_nothing(hub, folder):
    ours.push(folder, "shirts")
    repo = hub.repo("ada/shirts")
    (folder / "config.json").write_text('{"model_type": "vit"}\n')
    target = ours.preflight("shirts")
    repo.private = False
    with refused("a public one, that everybody sees", error=InputError):
        pushing.send(clean.export(folder, clean.MODEL), target, name="shirts")
    assert hub.count("commit") == 1


def test_a_refused_space_keeps_its_variable(hub, tmp_path):
    page = space(tmp_path / "demo")
    hub.create("ada/net", private=True)
    hub.create("ada/coats", private=True)
    ours.push_space(page, "demo", model="ada/net")  # over the README.md that the Hub makes
    repo = hub.repo("ada/demo", "space")
    assert repo.variables == {"MODEL": "ada/net"}
    repo.commit({"app.py": b"print(2)\n"}, "Update app.py")
    with refused("app.py, changed in another way", error=InputError):
        ours.push_space(page, "demo", model="ada/coats")
    assert repo.variables == {"MODEL": "ada/net"}
    ours.push_space(page, "demo", model="ada/coats", overwrite=True)
    assert repo.variables == {"MODEL": "ada/coats"} and repo.files()["app.py"] == b"print(1)\n"


PICTURED = (
    "---\nlicense: apache-2.0\nwidget:\n- src: widget/1.jpg\n  output:\n  - label: hat\n    score: 0.9\n"
    "model-index: []\n---\n\n# Shirts\n\n![bars](plots/bars.png)\n![surest mistakes](plots/surest_mistakes.png)\n\n"
    "- The photos that are shown on this page are of the test split, under the licence of the photos.\n"
)
PHOTOS = {"widget/1.jpg", "plots/surest_mistakes.png"}


def pictured(folder, license, **arguments):
    """A run with photos beside its card."""
    (folder / "widget").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "widget" / "1.jpg")
    Image.new("RGB", (8, 8)).save(folder / "plots" / "surest_mistakes.png")
    info = {"status": "finished", "dataset": {"license": license}, "arguments": arguments,
            "plots": ["bars", "surest_mistakes"], "widget": [{"src": "widget/1.jpg"}]}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info))
    (folder / "README.md").write_text(PICTURED)


@pytest.mark.parametrize(
    ("license", "arguments"), [("unknown", {}), (None, {}), ("cc0-1.0", {"card_photos": False})], ids=str
)
def test_photos_whose_licence_nobody_said_stay_at_home_unless_they_are_asked_for(
    hub, folder, capsys, license, arguments
):
    pictured(folder, license, **arguments)
    push_recipe.main([str(folder), "shirts"])
    files = hub.repo("ada/shirts").files()
    assert files.keys() - {".gitattributes"} == SENT
    card, record = files["README.md"].decode(), json.loads(files["run.json"])
    front = yaml.safe_load(card.split("---")[1])
    assert front == {"license": "apache-2.0", "model-index": []} and "![bars](plots/bars.png)" in card
    assert "surest" not in card and "photos" not in card and record["plots"] == ["bars"] and "widget" not in record
    told = capsys.readouterr().out
    assert "hf-fashion push ... --card_photos` sends them" in told and "widget/1.jpg (" in told
    push_recipe.main([str(folder), "shirts", "--card_photos"])
    files = hub.repo("ada/shirts").files()
    assert files.keys() >= PHOTOS and files["README.md"].decode() == PICTURED


def test_photos_of_a_known_licence_go_along(hub, folder):
    pictured(folder, "cc0-1.0")
    ours.push(folder, "shirts")
    assert hub.repo("ada/shirts").files().keys() >= PHOTOS


@pytest.mark.parametrize(
    "record",
    [{"recipe": "classify", "arguments": {}}, {"recipe": "no_such", "arguments": []}, {"arguments": {"a": 1}}],
)
def test_a_record_of_an_earlier_version_is_no_reason_to_stop(hub, folder, record):
    (folder / "run.json").write_text(json.dumps(record | {"status": "finished", "usage": {"model": "runs/a"}}))
    (folder / "README.md").write_text(CARD + 'pipeline(model="runs/a")\n')
    ours.push(folder, "shirts")
    card = hub.repo("ada/shirts").files()["README.md"].decode()
    assert card.endswith('runs/a")\n' if record["arguments"] == [] else 'ada/shirts")\n')


def test_an_index_of_weights_that_are_not_there_is_refused(hub, folder):
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"head": "model.safetensors", "body": "model-00002-of-00002.safetensors"}}')
    with refused("index.json", "no model-00002-of-00002.safetensors", error=InputError):
        ours.push(folder, "shirts")
    for content in ("[]", '{"weight_map": ["head"]}'):
        index.write_text(content)
        with refused("index.json", "expected: (JSON: an index of weights|`weight_map`)", error=InputError):
            ours.push(folder, "shirts")
    index.write_text('{"weight_map": {"head": "model.safetensors"}}')
    assert "model.safetensors.index.json" in ours.push(folder, "shirts").sent


@pytest.mark.parametrize("content", [b'{"status": ', b"[]", b"\xff", b"[" * 100_000])
def test_a_broken_record_is_told(folder, content):
    (folder / "run.json").write_bytes(content)
    with refused("run.json", "JSON: the record of a run", error=InputError):
        ours.push(folder, "shirts")


def test_a_token_in_a_name_is_neither_sent_nor_told(hub, tmp_path):
    token = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456"
    with refused("the name of what is pushed", "a Hugging Face token", error=InputError) as told:
        ours.push(run_folder(tmp_path / token), "shirts")
    assert token not in str(told.value)
    with refused("a Hugging Face token", error=InputError):
        ours.preflight(token)
    assert not hub.requests


def test_other_bytes_than_were_sent_are_seen(hub, folder):
    def meanwhile():  # between the commit and the look at it
        hub.repo("ada/shirts").history()[0].files.pop("eval_results.json")

    hub.before("tree", lambda: hub.before("tree", meanwhile))
    with refused("other bytes, or none, of eval_results.json at commit", "then: hf-fashion push"):
        ours.push(folder, "shirts")


def test_no_room_on_the_hub_is_said(hub_by_both, folder):
    hub_by_both.quota = 1000
    with refused("expected: room for it on the Hub|the Hub forbids it \\(403\\)", "then: hf-fashion push"):
        ours.push(folder, "shirts")


def test_a_token_that_is_revoked_within_the_push_is_one_kind_of_error(hub_by_both, folder):
    hub_by_both.fail("preupload", "expired", times=9)
    with refused("refuses this one|may do this", "then: hf-fashion push"):
        ours.push(folder, "shirts")


def test_what_was_pushed_loads_with_bare_transformers(hub, tmp_path):
    from tiny import tiny
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    place = tiny("resnet", tmp_path / "net")
    (place / "README.md").write_text(CARD)
    commit = ours.push(place, "net").commit
    net = AutoModelForImageClassification.from_pretrained("ada/net", revision=commit)
    AutoImageProcessor.from_pretrained("ada/net", revision=commit)
    kept, state = load_file(place / "model.safetensors"), net.state_dict()
    assert len(kept) > 10 and all((kept[name] == state[name].numpy()).all() for name in kept)


# --- pull


@pytest.fixture
def pushed(hub, folder):
    return ours.push(folder, "ada/shirts")


def test_an_encoder_arrives_with_the_modules_of_its_ways(hub, tmp_path):
    """A Router's modules, nets among them, lie in folders of their own."""
    from sentence_transformers import SentenceTransformer
    from test_encoders import TEXTS, photos
    from tiny import tiny

    from hf_fashion import backbones

    tiny("swin", tmp_path / "swin")
    encoder = backbones.load_encoder(tmp_path / "swin", text_model="words", texts=TEXTS, dimension=8)
    encoder.save_pretrained(str(tmp_path / "encoder"))
    (tmp_path / "encoder" / "README.md").write_text(CARD)
    before = {path.relative_to(tmp_path / "encoder").as_posix() for path in (tmp_path / "encoder").rglob("*.*")}
    ours.push(tmp_path / "encoder", "ada/encoder")
    assert set(hub.repo("ada/encoder").files()) - {".gitattributes"} == before
    pulled = SentenceTransformer(str(ours.pull("ada/encoder").folder), device="cpu")
    assert np.array_equal(pulled.encode(photos()), encoder.encode(photos()))
    assert np.array_equal(pulled.encode(TEXTS), encoder.encode(TEXTS))
    for path in (tmp_path / "encoder").rglob("*.safetensors"):
        path.unlink()
    with refused("weights in safetensors", error=InputError):
        ours.push(tmp_path / "encoder", "ada/encoder")


def test_what_was_pulled_is_whole_and_names_its_commit(hub, pushed, folder, tmp_path, capsys):
    first = pushed.commit
    hub.repo("ada/shirts").commit({"config.json": b'{"model_type": "vit"}\n'}, "another")
    pulled = pull_recipe.main(["ada/shirts", "--revision", first, "--verify"])
    assert pulled.commit == first and not pulled.from_cache
    assert (pulled.folder / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    told = capsys.readouterr().out
    assert f"--model ada/shirts --model_revision {first}" in told and "checksums equal" in told
    there = pull_recipe.main(["ada/shirts", str(tmp_path / "here")])
    assert there.folder == tmp_path / "here" and (there.folder / "config.json").read_text().count("vit")
    assert load_file(there.folder / "model.safetensors").keys() == {"head"}


def test_nothing_that_could_run_is_pulled(hub, capsys):
    files = dict.fromkeys(("model.py", "pytorch_model.bin", "a/b.pkl", "setup.sh", "config.json"), b"x")
    hub.create("eve/net", files=files)
    pulled = pull_recipe.main(["eve/net"])
    assert {path.name for path in pulled.folder.rglob("*") if path.is_file()} == {"config.json", ".gitattributes"}
    assert capsys.readouterr().out.count("may run code") == 4


def test_without_a_hub_the_cache_is_used_and_that_is_said(hub, pushed, monkeypatch, capsys):
    ours.pull("ada/shirts")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    pulled = ours.pull("ada/shirts")
    assert pulled.from_cache and pulled.commit == pushed.commit
    assert f"as it lies in the cache, commit {pushed.commit[:12]}" in capsys.readouterr().out
    with refused("no way to ask for them"):
        ours.pull("ada/shirts", verify=True)
    (pulled.folder / "model.safetensors").unlink()
    with refused("a part of them in the cache"):
        ours.pull("ada/shirts")
    with refused("neither", "unset HF_HUB_OFFLINE"):
        ours.pull("ada/coats")


def test_a_hub_that_only_answers_500_is_no_reason_for_silence(hub, pushed, capsys):
    ours.pull("ada/shirts")
    hub.fail("info", 500, times=99)
    assert ours.pull("ada/shirts").from_cache
    assert "could not be asked (the Hub answers 500)" in capsys.readouterr().out


def test_what_is_not_there_or_not_for_me_is_no_matter_of_the_cache(hub, pushed, monkeypatch):
    ours.pull("ada/shirts")
    with refused("a branch, tag or commit", "none of that name"):
        ours.pull("ada/shirts", revision="v9")
    hub.add_user("eve")
    monkeypatch.setenv("HF_TOKEN", hub.add_token("eve"))
    with refused("the Hub shows none of that name"):
        ours.pull("ada/shirts")


@pytest.mark.parametrize("where", ["there", "here"])
def test_changed_bytes_of_the_same_size_are_seen_when_asked_for(hub_by_both, folder, where, monkeypatch):
    ours.push(folder, "ada/shirts")
    if where == "there":
        hub_by_both.spoil("ada/shirts", "model.safetensors")
        with refused("checksums|other bytes|model.safetensors|network"):
            ours.pull("ada/shirts", verify=True)
        return
    pulled = ours.pull("ada/shirts", verify=True)
    weights = (pulled.folder / "model.safetensors").resolve()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert not ours.pull("ada/shirts").from_cache  # sizes are equal
    with refused("other bytes in model.safetensors"):
        ours.pull("ada/shirts", verify=True)


def test_a_file_that_was_cut_short_is_seen(hub, pushed, folder):
    pulled = ours.pull("ada/shirts")
    weights = (pulled.folder / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:1000])
    ours.pull("ada/shirts")  # is fetched anew
    assert weights.read_bytes() == (folder / "model.safetensors").read_bytes()


# --- the command, and the training's push


def test_the_command_tells_a_space_a_model_and_photos_apart(tmp_path, folder):
    assert push_recipe.kind_of(str(folder)) == "model"
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "app.py").touch()
    assert push_recipe.kind_of(str(tmp_path / "space")) == "space"
    assert push_recipe.kind_of(str(tmp_path)) == "dataset" == push_recipe.kind_of("sample")
    with refused("--license", "which is a model", error=InputError):
        push_recipe.main([str(folder), "shirts", "--license", "mit"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("runs/none", "no none in runs"),
        ("nowhere/none", "no such folder"),
        ("none", "found: +no none in"),
        ("runs", "found: +a folder of runs: shirts\n.*hf-fashion push runs/shirts dresses"),
        ("runs/shirts/plots", "found: +a part of the run shirts\n.*hf-fashion push runs/shirts dresses"),
        ("runs/shirts/checkpoint-3", "found: +a part of the run shirts"),
        ("runs/shirst", "did you mean runs/shirts"),
    ],
)
def test_what_is_no_run_is_told_with_what_to_type(hub, tmp_path, monkeypatch, source, words):
    run_folder(tmp_path / "runs" / "shirts")
    monkeypatch.chdir(tmp_path)
    with refused(words, error=InputError):
        push_recipe.main([source, "dresses"])
    assert not hub.requests


def test_a_namesake_of_another_kind_is_told(hub, folder, capsys):
    hub.create("ada/shirts", "dataset", private=True)
    ours.push(folder, "shirts")
    assert "ada/shirts is a dataset already; a model of the same name is made beside it" in capsys.readouterr().out


def test_a_misspelt_setting_is_told_with_the_right_one(folder):
    with refused("unknown setting: --licence mit", "did you mean --license", error=InputError):
        push_recipe.main([str(folder), "shirts", "--licence", "mit"])


def test_of_a_wrong_name_the_same_command_is_not_told_to_go_on(hub, tmp_path):
    page = space(tmp_path / "demo")
    with refused("the model ada/none", "check the spelling") as told:
        push_recipe.main([str(page), "demo", "--model", "ada/none"])
    assert "then:" not in told.value.fix and not hub.repos


@pytest.mark.parametrize(("content", "line"), [(b"a = (\n", 1), (b"a = 1\n  b = 2\n", 2)])
def test_a_space_whose_python_cannot_be_parsed_is_refused(hub, tmp_path, content, line):
    page = space(tmp_path / "demo")
    (page / "more.py").write_bytes(content)
    with refused(f"more.py, line {line}", "Python that can be parsed", error=InputError):
        ours.push_space(page, "demo")
    assert not hub.repos


def space(page):
    page.mkdir()
    (page / "app.py").write_text("print(1)\n")
    (page / "requirements.txt").write_text("numpy\n")
    (page / "README.md").write_text('---\nsdk: gradio\nsdk_version: 6.31.0\npython_version: "3.12"\n---\n')
    return page


class Asked:
    """Of `transformers.TrainingArguments` what a push reads."""

    push_to_hub, process_index, hub_model_id, hub_private_repo, hub_token = True, 0, None, None, None
    hub_strategy, hub_always_push, hub_revision, output_dir = "every_save", False, None, "runs/classify-1"


def test_a_folder_that_is_misspelt_is_not_looked_for_on_the_hub(hub, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for source in ("./shirst", str(folder.parent / "shirst")):
        with pytest.raises(InputError, match=r"(?s)no shirst in.*did you mean .*shirts"):
            push_recipe.main([source, "shirts"])
    assert not hub.requests


def test_a_silent_storage_is_waited_for_no_longer_than_the_hub():
    assert os.environ["HF_XET_CLIENT_READ_TIMEOUT"] == f"{client.SILENCE:.0f}s"


def test_a_training_asks_before_its_first_step_and_the_trainer_does_not_push(hub, monkeypatch, capsys):
    args = Asked()
    target = ours.before_training(args, license="apache-2.0", base_model="microsoft/resnet-18")
    assert (target.repo, target.private, args.push_to_hub) == ("ada/classify-1", True, False)
    assert "when it is trained, it goes to" in capsys.readouterr().out
    assert ours.before_training(args, license=None) is None
    args.push_to_hub, args.hub_private_repo, args.hub_model_id = True, False, "atelier/net"
    assert not ours.before_training(args, license=None).private
    args.push_to_hub = True
    with refused("README.md, line 3, license", error=InputError):
        ours.before_training(args, license="my-own")
    assert not hub.repos
    hub.create("ada/classify-1", files={"README.md": b"# By hand\n"}, private=True)
    args.push_to_hub, args.hub_private_repo, args.hub_model_id = True, None, None
    with refused("README.md, changed in another way", "another --hub_model_id", error=InputError):
        ours.before_training(args, license="mit")
    monkeypatch.setenv("HF_TOKEN", hub.add_token("ada", "read"))
    args.push_to_hub = True
    with refused("role `read`"):
        ours.before_training(args, license="mit")


def test_pull_takes_no_pattern_that_a_model_needs():
    needed = ("config.json", "model.safetensors", "README.md", "data/train-00000.parquet", "tokenizer.json")
    assert not any(map(pulling._may_run, needed))
