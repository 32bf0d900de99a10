"""Runs that are killed or told to end: what goes on ends as what was never broken, to the bit."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import faulty
import pytest
import torch
from accelerate import Accelerator
from processes import Forked
from tiny import undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import record, training
from hf_fashion.errors import INTERRUPTED, InputError, Interrupted
from hf_fashion.recipes import classify
from hf_fashion.training import checkpoints, faults

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = faulty.place(tmp_path_factory.mktemp("kill"))
    with without_drawing():
        classify.main(faulty.argv(place, "whole"))
    return place


def signalled(monkeypatch, step, number=signal.SIGTERM):
    act = lambda: os.kill(os.getpid(), number)  # noqa: E731
    monkeypatch.setattr(training.FashionTrainer, "training_step", faulty.call_at(step, act))


@pytest.mark.parametrize(("step", "saving"), [pytest.param(4, False, marks=pytest.mark.slow), (3, True)])
def test_a_killed_run_goes_on_to_the_bit(step, saving, place):
    """In the middle of the second epoch; and while the checkpoint of step 4 is written."""
    run = place / f"killed {step}"
    assert faulty.killed(faulty.argv(place, run.name), step, saving) == -signal.SIGKILL
    assert [path.name for path in checkpoints.listed(run)] == ["checkpoint-2"]
    assert (run / checkpoints.UNFINISHED).exists() == saving and record.read(run).info["status"] == "running"
    classify.main(faulty.go_on(run))
    assert faulty.same_weights(place / "whole", run) and not (run / checkpoints.UNFINISHED).exists()


def test_a_run_whose_folder_was_moved_goes_on_to_the_bit_with_its_best_checkpoint(place):
    faulty.killed(faulty.argv(place, "before"), 6)
    (place / "before").rename(place / "after")
    classify.main(faulty.go_on(place / "after"))
    ended = [
        json.loads((checkpoints.listed(place / name)[-1] / "trainer_state.json").read_text())
        for name in ("whole", "after")
    ]
    assert [Path(state["best_model_checkpoint"]).name for state in ended] == ["checkpoint-2"] * 2  # and not the last
    assert ended[1]["best_model_checkpoint"] == str(place / "after" / "checkpoint-2")
    assert faulty.same_weights(place / "whole", place / "after")


def test_a_best_checkpoint_that_is_gone_is_told_and_chosen_anew(place, capsys):
    faulty.killed(faulty.argv(place, "lost"), 6)
    shutil.rmtree(place / "lost" / "checkpoint-2")
    classify.main(faulty.go_on(place / "lost"))
    assert "checkpoint-2, is left out: it is not there; it is chosen anew" in capsys.readouterr().out
    state = json.loads((place / "lost" / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_global_step"] == 6 and state["best_model_checkpoint"] == str(place / "lost" / "checkpoint-6")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_twenty_random_steps(workers, place, tmp_path):
    draw = random.Random(workers)
    for number in range(20):
        more = ["--dataloader_num_workers", str(workers), "--save_steps", "1", "--eval_steps", "1"]
        name = f"random {workers} {number}"
        step, saving = draw.randint(2, faulty.STEPS), draw.random() < 0.3
        assert faulty.killed(faulty.argv(place, name, *more), step, saving) == -signal.SIGKILL
        classify.main(faulty.go_on(place / name))
        classify.main(faulty.argv(place, f"{name} whole", *more)) if number == 0 else None
        assert faulty.same_weights(place / f"random {workers} 0 whole", place / name), (step, saving)


@pytest.mark.parametrize(
    ("step", "number"),
    [(1, signal.SIGTERM), pytest.param(3, signal.SIGTERM, marks=pytest.mark.slow), (6, signal.SIGINT)],
)
def test_a_signal_saves_at_the_end_of_the_step_and_the_run_goes_on_to_the_bit(step, number, place, monkeypatch):
    """In mid-epoch, in an epoch's last step, and in the last of all."""
    run, before = place / f"signalled {step}", signal.getsignal(number)
    signalled(monkeypatch, step, number)
    with pytest.raises(Interrupted, match=signal.Signals(number).name) as caught:
        classify.main(faulty.argv(place, run.name))
    assert caught.value.code == INTERRUPTED and signal.getsignal(number) == before
    assert checkpoints.listed(run)[-1].name == f"checkpoint-{step}" and not (run / record.LOCK).exists()
    info = record.read(run).info
    assert info["status"] == "interrupted" and info["interrupted_at_step"] == step
    assert info["go_on"].endswith(f"--output_dir '{run}' --resume_from_checkpoint last")
    monkeypatch.undo()
    classify.main(faulty.go_on(run))
    info = record.read(run).info
    assert info["status"] == "finished" and "go_on" not in info
    assert faulty.same_weights(place / "whole", run)


def test_a_signal_in_an_epochs_last_step_waits_for_the_epochs_evaluation(place, monkeypatch):
    by_epoch = ["--eval_strategy", "epoch", "--save_strategy", "epoch", "--save_total_limit", "1"]
    classify.main(faulty.argv(place, "epochs", *by_epoch))
    signalled(monkeypatch, 3)
    with pytest.raises(Interrupted):
        classify.main(faulty.argv(place, "epochs broken", *by_epoch))
    state = json.loads((place / "epochs broken" / "checkpoint-3" / "trainer_state.json").read_text())
    assert state["best_global_step"] == 3
    monkeypatch.undo()
    classify.main(faulty.go_on(place / "epochs broken"))
    assert faulty.same_weights(place / "epochs", place / "epochs broken")


def test_early_stopping_counts_on(place, monkeypatch):
    stops = ["--early_stopping_patience", "3", "--learning_rate", "0", "--num_train_epochs", "9"]
    classify.main(faulty.argv(place, "stopped", *stops))
    signalled(monkeypatch, 5)
    with pytest.raises(Interrupted):
        classify.main(faulty.argv(place, "stopped later", *stops))
    monkeypatch.undo()
    classify.main(faulty.go_on(place / "stopped later"))
    steps = [checkpoints.listed(place / name)[-1].name for name in ("stopped", "stopped later")]
    assert steps == ["checkpoint-8", "checkpoint-8"]  # 2 is the best, and 4, 6 and 8 are no better


def test_a_second_ctrl_c_ends_at_once(place, monkeypatch):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training.FashionTrainer, "training_step", faulty.call_at(4, twice))
    with pytest.raises(KeyboardInterrupt):
        classify.main(faulty.argv(place, "twice"))
    assert record.read(place / "twice").info["status"] == "interrupted"
    assert [path.name for path in checkpoints.listed(place / "twice")] == ["checkpoint-2"]


def test_a_process_group_with_workers_ends_with_a_code_of_its_own(place):
    """As a scheduler does it: SIGTERM to the recipe and to its workers at once."""
    tokens = faulty.argv(place, "group", "--num_train_epochs", "10000", "--dataloader_num_workers", "2")
    command = [sys.executable, str(ROOT / "recipes" / "classify.py"), *tokens]
    process = Forked(command, told=place / "told.txt", own_group=True)
    waited = time.monotonic() + 200
    while not checkpoints.listed(place / "group") and process.poll() is None and time.monotonic() < waited:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    code, said = process.wait(100), (place / "told.txt").read_text()
    assert code == INTERRUPTED, said
    assert "SIGTERM: the run ends with this step" in said and "Traceback" not in said
    info = record.read(place / "group").info
    last = checkpoints.listed(place / "group")[-1]
    assert info["status"] == "interrupted" and last.name == f"checkpoint-{info['interrupted_at_step']}"
    assert (
        checkpoints.problems(last) == [] and f"interrupted; to go on from the last checkpoint: {info['go_on']}" in said
    )


@pytest.mark.parametrize("prepared", [False, True])
def test_a_signal_that_meets_a_worker_at_its_birth_does_not_end_it(monkeypatch, prepared):
    """Between its fork and its init, where torch's own handler would; accelerate's loader starts them elsewhere."""
    signals, begin = faults.Signals(), faults._begin_worker

    def late(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        begin(*args)

    monkeypatch.setattr(faults, "_begin_worker", late)
    signals.flag.fill_(True)
    loader = torch.utils.data.DataLoader(range(4), num_workers=2)
    if prepared:
        loader = Accelerator(cpu=True).prepare(loader)
    loader = faults.finishing(loader, signals)
    assert [int(row) for row in loader] == [0, 1, 2, 3]


def test_two_runs_in_one_folder_are_refused_and_a_dead_one_blocks_nothing(place):
    """The first is stopped in a step, so that it holds the folder, and then killed."""
    run = place / "shared"

    def first():
        stop = lambda: os.kill(os.getpid(), signal.SIGSTOP)  # noqa: E731
        training.FashionTrainer.training_step = faulty.call_at(4, stop)
        classify.main(faulty.argv(place, run.name))

    process = multiprocessing.get_context("fork").Process(target=first)
    process.start()
    os.waitpid(process.pid, os.WUNTRACED)
    try:
        with pytest.raises(InputError, match="one that is running"):
            classify.main(faulty.go_on(run))
        with pytest.raises(InputError, match="new or empty"):
            classify.main(faulty.argv(place, run.name))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    classify.main(faulty.go_on(run))
    assert faulty.same_weights(place / "whole", run)
