"""Several processes on one machine: the folder of one process, with its figures; and the configs that start them.

The fast tests fork two; the slow ones start fresh ones, by the config for a CPU, as the README says it, or torchrun.
"""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands import launch
from processes import several
from safetensors.torch import load_file
from tiny import photos, tiny, without_drawing
from tiny_detectors import boxed_folder, tiny_detector
from torch.distributed import run as torchrun

from hf_fashion import record
from hf_fashion.errors import INTERRUPTED
from hf_fashion.recipes import classify, detect, score
from hf_fashion.training import checkpoints

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "recipes" / "accelerate"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "cpu-2-processes.yaml")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """21, 9 and 9 photos, of which two processes cannot take equally many; a net without dropout."""
    place = tmp_path_factory.mktemp("processes")
    photos(place / "photos", train=7, validation=3, test=3)
    torch.manual_seed(0)  # rounding, which Adam makes larger, differs between one process and two
    config = tiny("swin", place / "net") / "config.json"
    no_dropout = {"hidden_dropout_prob": 0.0, "drop_path_rate": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | no_dropout))
    return place


def start(launcher, recipe, *argv, cwd):
    command = [sys.executable, *launcher, str(ROOT / "recipes" / f"{recipe}.py"), *argv]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=240)


def settings(train_batch, evaluation_batch, folder, *more):
    return [
        "--model", "net", "--dataset", "photos", "--use_cpu", "True", "--disable_tqdm", "True",
        "--learning_rate", "0.01", "--num_train_epochs", "2", "--per_device_train_batch_size", str(train_batch),
        "--per_device_eval_batch_size", str(evaluation_batch), "--precision", "full", "--output_dir", folder, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pair(place):
    """What a run of two processes wrote, its folder, and that of one process with batches twice as large."""
    told = place / "trained.txt"
    command = [sys.executable, str(ROOT / "recipes" / "classify.py"), *settings(4, 2, "two")]
    assert several(2, command, cwd=place, told=told) == [0, 0], told.read_text()
    with pytest.MonkeyPatch.context() as patch, without_drawing():
        patch.chdir(place)
        classify.main(settings(8, 4, "one"))
    return told.read_text(), record.read(place / "one"), record.read(place / "two")


def assert_same_weights(one, two):
    one, two = (load_file(Path(folder) / "model.safetensors") for folder in (one, two))
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


def assert_same_figures(one, two):
    assert one.keys() == two.keys()
    numbers = [name for name, value in one.items() if isinstance(value, float)]
    assert [one[name] for name in numbers] == pytest.approx([two[name] for name in numbers], abs=1e-5)
    assert {name: one[name] for name in one.keys() - numbers} == {name: two[name] for name in two.keys() - numbers}


def test_two_processes_learn_and_measure_what_one_does(pair):
    """5 of 21 rows are left for the last step: 4 for one process and 1 for the other; and of 9 for evaluation, 1."""
    _, one, two = pair
    assert two.info["device"].endswith("2 processes")
    assert_same_weights(one.folder, two.folder)
    validation = [run.results.pop("validation") for run in (one, two)]
    assert_same_figures(*validation)
    assert_same_figures(*({k: v for k, v in run.results.items() if k != "validation"} for run in (one, two)))
    told = [
        [entry[name] for entry in run.info["history"] for name in ("loss", "grad_norm", "eval_loss") if name in entry]
        for run in (one, two)
    ]
    assert len(told[0]) == 6 and told[0] == pytest.approx(told[1], abs=1e-4)


def test_every_row_is_measured_once_and_in_order(pair):
    one, two = (run.predictions for run in pair[1:])
    for column in ("split", "row", "source_row", "label"):
        assert one[column][:] == two[column][:]
    assert len(set(zip(two["split"], two["source_row"], strict=True))) == len(two) == 18
    assert np.allclose(one["scores"][:], two["scores"][:], atol=1e-5)


def assert_said_once(text, folder):
    for said in ("dataset photos", "metric  ", "accuracy  ", "folder: ", "next: "):
        assert text.count(said) == 1, said
    assert f"accelerate launch recipes/score.py --model {folder} " in text
    assert "destroy_process_group" not in text and "Traceback" not in text


def test_there_is_one_folder_and_all_is_said_once(pair, place):
    told, _, two = pair
    assert {path.name for path in place.iterdir()} == {"photos", "net", "one", "two", "trained.txt"}
    assert {path.name for path in two.folder.iterdir()} >= {"README.md", "run.json", "predictions.parquet", "plots"}
    assert_said_once(told, "two")


@pytest.mark.slow  # three fresh processes
def test_the_config_for_a_cpu_starts_two_processes_that_do_the_same(pair, place):
    done = start(ACCELERATE, "classify", *settings(4, 2, "launched"), cwd=place)
    assert done.returncode == 0, done.stderr
    launched = record.read(place / "launched")
    assert launched.info["device"].endswith("2 processes")
    assert_same_weights(pair[1].folder, launched.folder)
    assert_said_once(done.stdout + done.stderr, "launched")


def test_two_processes_score_as_one(place, pair, monkeypatch):
    argv = ["--model", "one", "--dataset", "photos", "--use_cpu", "True", "--disable_tqdm", "True"]
    two = ["--per_device_eval_batch_size", "2", "--output_dir", "scored"]
    command, told = [sys.executable, str(ROOT / "recipes" / "score.py"), *argv, *two], place / "told.txt"
    codes = several(2, command, cwd=place, told=told)
    assert codes == [0, 0], told.read_text()
    two = record.read(place / "scored")
    assert two.info["device"].endswith("2 processes") and told.read_text().count("folder: ") == 1
    monkeypatch.chdir(place)
    assert_same_figures(score.main([*argv, "--output_dir", "scored alone"]).results, two.results)


@pytest.mark.slow
def test_a_run_goes_on_in_two_processes_from_the_middle_of_an_epoch(place):
    """Of 21 rows 3 are left for the last step, none of them for the second process."""
    often = ["--eval_strategy", "steps", "--save_strategy", "steps", "--save_steps", "2", "--eval_steps", "2",
             "--load_best_model_at_end", "False", "--save_total_limit", "9"]  # fmt: skip
    done = start(TORCHRUN, "classify", *settings(3, 2, "whole", *often), cwd=place)
    assert done.returncode == 0, done.stderr
    first = load_file(place / "whole" / "model.safetensors")
    go_on = ["--output_dir", "whole", "--resume_from_checkpoint", "whole/checkpoint-2"]
    done = start(TORCHRUN, "classify", *go_on, cwd=place)
    assert done.returncode == 0, done.stderr
    again = load_file(place / "whole" / "model.safetensors")
    assert max(float((first[name] - again[name]).abs().max()) for name in first) < 1e-6
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        classify.main(settings(6, 4, "whole alone", *often))
    assert_same_weights(place / "whole", place / "whole alone")


@pytest.mark.slow
def test_two_processes_without_a_gpu_are_refused_unless_it_is_said(place):
    done = start(TORCHRUN, "classify", "--model", "net", "--dataset", "photos", "--output_dir", "no", cwd=place)
    assert done.returncode != 0 and "--use_cpu True" in done.stderr and not (place / "no").exists()


OFTEN = ["--eval_strategy", "steps", "--save_strategy", "steps", "--save_steps", "1", "--eval_steps", "1"]


@pytest.mark.slow
def test_a_signal_to_the_launcher_leaves_a_checkpoint_of_all_and_run_json_says_so(place):
    argv = settings(4, 2, "signalled", *OFTEN, "--num_train_epochs", "10000")
    command = [sys.executable, *TORCHRUN, str(ROOT / "recipes" / "classify.py"), *argv]
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not checkpoints.listed(place / "signalled") and process.poll() is None:
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=200)[1].decode()
    assert process.returncode != 0 and f"exitcode  : {INTERRUPTED}" not in said
    info = record.read(place / "signalled").info
    last = checkpoints.listed(place / "signalled")[-1]
    assert info["status"] == "interrupted" and last.name == f"checkpoint-{info['interrupted_at_step']}"
    assert checkpoints.problems(last) == [] and {"rng_state_0.pth", "rng_state_1.pth"} <= {
        path.name for path in last.iterdir()
    }


@pytest.mark.slow
def test_the_rows_of_the_process_that_met_them_are_named_by_all(place):
    script = place / "poisoned.py"
    script.write_text(
        "import sys; from hf_fashion.augmentation import Augmented; from hf_fashion.recipes import classify\n"
        "from hf_fashion.errors import script\n"
        "plain = Augmented.__getitem__\n"
        "def spoiled(self, row):\n"
        "    example = plain(self, row)\n"
        "    return example | {'pixel_values': example['pixel_values'] * (float('nan') if row == 5 else 1)}\n"
        "Augmented.__getitem__ = spoiled\n"
        "script(classify.main)(sys.argv[1:])\n"
    )
    command = [sys.executable, *TORCHRUN, str(script), *settings(4, 2, "poisoned", *OFTEN)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0 and "finite loss" in done.stderr
    info = record.read(place / "poisoned").info
    assert info["status"] == "failed" and any("row 5 (" in name for name in info["not_finite"]["rows"])
    assert 1 <= len(info["not_finite"]["rows"]) <= 4  # of one process, not of both


@pytest.fixture
def started(monkeypatch):
    """What accelerate hands to torchrun, or the command and environment that it starts itself."""
    handed = {}

    class Process:
        returncode = 0

        def __init__(self, command, env):
            handed.update(command=command, env=env)

        def wait(self):
            pass

    monkeypatch.setattr(torchrun, "run", lambda args: handed.update(vars(args)))
    monkeypatch.setattr(subprocess, "Popen", Process)

    def start(name, *argv):
        parser = launch.launch_command_parser()
        launch.launch_command(parser.parse_args(["--config_file", str(CONFIGS / f"{name}.yaml"), *argv, "recipe.py"]))
        return handed

    return start


def test_the_config_for_a_cpu_is_two_processes(started):
    handed = started("cpu-2-processes")
    assert (handed["nproc_per_node"], handed["nnodes"]) == ("2", "1:1")


def test_gpu_1_is_one_process_that_sees_one_gpu(started):
    handed = started("gpu-1")
    assert handed["command"] == [sys.executable, "recipe.py"] and handed["env"]["CUDA_VISIBLE_DEVICES"] == "0"


def test_gpu_n_is_as_many_processes_as_are_typed(started):
    handed = started("gpu-n", "--num_processes", "4")
    assert (handed["nproc_per_node"], handed["nnodes"]) == ("4", "1:1")
    with pytest.raises(ValueError, match="--num_processes"):
        started("gpu-n")


def test_gpu_machines_meet_at_the_first_one(started):
    handed = started(
        "gpu-machines", "--num_machines", "2", "--num_processes", "16", "--main_process_ip", "10.0.0.1",
        "--machine_rank", "1",
    )  # fmt: skip
    assert (handed["nproc_per_node"], handed["nnodes"], handed["node_rank"]) == ("8", "2", 1)
    assert (handed["rdzv_backend"], handed["rdzv_endpoint"]) == ("static", "10.0.0.1:29500")


def test_configs_are_named_here_ship_and_do_not_hide_the_library():
    names = {path.name for path in CONFIGS.iterdir()}
    assert names == {f"{name}.yaml" for name in ("cpu-2-processes", "gpu-1", "gpu-n", "gpu-machines")}
    assert all(yaml.safe_load((CONFIGS / name).read_text())["mixed_precision"] == "no" for name in names)
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "accelerate/*.yaml" in packaged["hf_fashion.recipes"]


@pytest.mark.slow  # a minute each
@pytest.mark.parametrize(("kind", "more"), [("rt_detr_v2", ["--dense", "1"]), ("detr", [])])
def test_a_detector_of_two_processes_counts_each_photo_once(kind, more, tmp_path):
    """Of 10, 5 and 5 photos, of which two processes cannot take equally many."""
    boxed_folder(tmp_path / "photos", train=10, validation=5, test=5)
    tiny_detector(kind, tmp_path / "net")

    def argv(batch, folder):
        return [
            "--model", "net", "--dataset", "photos", "--use_cpu", "True", "--disable_tqdm", "True",
            "--num_train_epochs", "1", "--per_device_train_batch_size", str(batch),
            "--per_device_eval_batch_size", "3",
            "--learning_rate", "1e-4", "--output_dir", folder, *more,
        ]  # fmt: skip

    done = start(TORCHRUN, "detect", *argv(2, "two"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        detect.main(argv(4, "one"))
    one, two = record.read(tmp_path / "one"), record.read(tmp_path / "two")
    assert two.results["n"] == 5 and two.results["validation"]["n"] == 5
    assert sorted(two.predictions["image_id"]) == sorted(one.predictions["image_id"])
    assert len(set(two.predictions["image_id"])) == 10
