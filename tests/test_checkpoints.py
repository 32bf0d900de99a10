"""Checkpoints: whole or not there, verified before they are used, and the last good one never lost."""

import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import faulty
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import record, settings, training
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify
from hf_fashion.training import checkpoints

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken run with checkpoints at steps 2, 4 and 6."""
    place = faulty.place(tmp_path_factory.mktemp("checkpoints"))
    with without_drawing():
        classify.main(faulty.argv(place, "whole"))
    return place / "whole"


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def chosen(run, wanted="last"):
    """The checkpoint that `--resume_from_checkpoint` finds."""
    kinds = (classify.classify.Arguments, training.MethodArguments, training.FashionTrainingArguments)
    tokens = ["--output_dir", str(run), "--resume_from_checkpoint", wanted]
    args = settings.parse_args("classify", kinds, tokens, metrics=("accuracy",))[2]
    return Path(args.resume_from_checkpoint).name


def test_a_run_leaves_whole_checkpoints_and_nothing_half_written(whole):
    assert [path.name for path in checkpoints.listed(whole)] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert not (whole / checkpoints.UNFINISHED).exists() and not (whole / record.LOCK).exists()
    for path in checkpoints.listed(whole):
        assert checkpoints.problems(path) == []
        files = json.loads((path / checkpoints.MANIFEST).read_text())["files"]
        there = {file.name for file in path.iterdir()}
        assert files.keys() | {checkpoints.MANIFEST} == there >= {"model.safetensors", "optimizer.pt", "rng_state.pth"}
    best = json.loads((path / "trainer_state.json").read_text())["best_model_checkpoint"]
    assert Path(best).parent == whole and Path(best).is_dir()


@pytest.mark.parametrize("kind", faulty.DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_named(kind, run, capsys):
    damage, says = faulty.DAMAGE[kind]
    damage(run / "checkpoint-6")
    beside = kind in ("an empty folder", "a half-written folder")
    assert chosen(run) == ("checkpoint-6" if beside else "checkpoint-4")
    told = capsys.readouterr().out
    assert told.count("passed over") == 1 and says in told
    if not beside and kind != "no manifest":
        with pytest.raises(InputError, match="whole checkpoint"):
            chosen(run, str(run / "checkpoint-6"))


def test_a_run_that_falls_back_ends_as_the_unbroken_one(whole, run):
    faulty.DAMAGE["a flipped bit in the weights"][0](run / "checkpoint-6")
    classify.main(faulty.go_on(run))
    assert faulty.same_weights(whole, run) and checkpoints.problems(run / "checkpoint-6") == []


def test_without_any_manifest_a_checkpoint_must_be_readable_and_finite(run, capsys):
    for path in checkpoints.listed(run):
        (path / checkpoints.MANIFEST).unlink()
    assert chosen(run) == "checkpoint-6" and "no manifest" in capsys.readouterr().out
    weights = load_file(run / "checkpoint-6" / "model.safetensors")
    next(iter(weights.values())).fill_(float("inf"))
    save_file(weights, run / "checkpoint-6" / "model.safetensors")
    (run / "checkpoint-4" / "scheduler.pt").write_bytes(b"no tensors")
    assert chosen(run) == "checkpoint-2"
    told = capsys.readouterr().out
    assert "not finite" in told and "scheduler.pt cannot be read" in told
    (run / "checkpoint-2" / "rng_state.pth").unlink()
    with pytest.raises(InputError, match=r"rng_state\.pth"):
        chosen(run)


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_what_a_checkpoint_holds_is_never_executed(name, run, tmp_path, capsys):
    last = run / "checkpoint-6"
    for write in (
        lambda path, thing: path.write_bytes(pickle.dumps(thing)),
        lambda path, thing: torch.save(thing, path),
    ):
        write(last / name, Harm(tmp_path / "harm"))
        shutil.move(last, run / "made")
        checkpoints.commit(run / "made", last)  # with a manifest that is right
        assert chosen(run) == "checkpoint-4" and f"{name} cannot be read" in capsys.readouterr().out
    assert not (tmp_path / "harm").exists()


def test_a_manifest_cannot_name_files_outside_nor_leave_out_what_is_used(run, capsys):
    path = run / "checkpoint-6" / checkpoints.MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"files": manifest["files"] | {"../run.json": {"size": 1}}}))
    assert chosen(run) == "checkpoint-4" and "outside" in capsys.readouterr().out
    del manifest["files"]["optimizer.pt"]
    path.write_text(json.dumps(manifest))
    assert chosen(run) == "checkpoint-4" and "does not know optimizer.pt" in capsys.readouterr().out


def test_weights_that_are_not_finite_are_never_committed(run):
    shutil.move(run / "checkpoint-6", run / "made")
    faulty.DAMAGE["NaN in the weights"][0](run / "made")
    with pytest.raises(InputError, match="finite weights"):
        checkpoints.commit(run / "made", run / "checkpoint-6")
    assert not (run / "checkpoint-6").exists()


def test_rotation_keeps_what_is_good(run):
    faulty.DAMAGE["no optimizer.pt"][0](run / "checkpoint-6")
    checkpoints.rotate(run, 1, [run / "checkpoint-2", run / "checkpoint-4"])  # just written; best
    assert [path.name for path in checkpoints.listed(run)] == ["checkpoint-2", "checkpoint-4"]


def test_a_run_that_goes_on_below_a_damaged_checkpoint_never_removes_its_own(whole, run, monkeypatch):
    for step in (4, 6):
        faulty.DAMAGE["no optimizer.pt"][0](run / f"checkpoint-{step}")
    good, plain = [], checkpoints.rotate

    def rotate(*args):
        plain(*args)
        good.append([path.name for path in checkpoints.listed(run) if not checkpoints.problems(path)])

    monkeypatch.setattr(checkpoints, "rotate", rotate)
    classify.main([*faulty.go_on(run), "--save_total_limit", "1"])
    assert [names[-1] for names in good] == ["checkpoint-4", "checkpoint-6"] and faulty.same_weights(whole, run)


def test_a_damaged_best_checkpoint_is_not_loaded_as_the_result(run, capsys):
    state = run / "checkpoint-4" / "trainer_state.json"
    told = json.loads(state.read_text()) | {"best_model_checkpoint": str(run / "checkpoint-2"), "best_metric": 2.0}
    state.write_text(json.dumps(told))
    shutil.move(run / "checkpoint-4", run / "made")
    checkpoints.commit(run / "made", run / "checkpoint-4")
    shutil.rmtree(run / "checkpoint-6")
    faulty.DAMAGE["a flipped bit in the weights"][0](run / "checkpoint-2")
    classify.main(faulty.go_on(run))
    assert "is left out: model.safetensors is not what was written" in capsys.readouterr().out
    assert record.read(run).info["status"] == "finished"


def test_a_full_disk_ends_the_run_clearly_and_loses_nothing(whole, monkeypatch):
    """A limit on the size of files stands in for the disk; torch and safetensors meet it in their own writers."""
    commit, before = checkpoints.commit, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(*args):
        commit(*args)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    monkeypatch.setattr(checkpoints, "commit", limited)
    try:
        with pytest.raises(InputError, match="disk with room") as caught:
            classify.main(faulty.argv(whole.parent, "full"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "checkpoint-4, which was not kept" in str(caught.value)
    full = whole.parent / "full"
    assert {path.name for path in full.iterdir()} == {"run.json", "checkpoint-2"}
    info = record.read(full).info
    assert info["status"] == "failed" and "which was not kept" in info["error"] and str(full) in info["go_on"]
    monkeypatch.undo()
    classify.main(faulty.go_on(full))
    assert faulty.same_weights(whole, full)


def test_the_results_of_a_run_on_a_full_disk_are_not_a_traceback(whole, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(record.Dataset, "to_parquet", full)
    with pytest.raises(InputError, match="No space left"):
        classify.main(faulty.argv(whole.parent, "no results", "--num_train_epochs", "1"))
    assert record.read(whole.parent / "no results").info["status"] == "failed"
