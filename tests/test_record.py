"""The folder that a run leaves: whole at every moment, readable again, never somebody else's."""

import json
import os
import signal
from datetime import datetime

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from matplotlib.figure import Figure

from hf_fashion import record
from hf_fashion.errors import INTERRUPTED, InputError, Interrupted, command

RESULTS = {"n": 4, "accuracy": 0.75, "accuracy_low": 0.25, "accuracy_high": 1.0, "f1_macro": 0.7}


class Saves:
    def __init__(self, name):
        self.name = name

    def save_pretrained(self, folder):
        (folder / self.name).write_text("{}")


def start(folder, **changes):
    given = {
        "arguments": {"seed": 3}, "argv": ["--seed", "3"], "seed": 3, "dataset": {"source": "./a b"},
        "base_model": {"id": None}, "device": "cpu",
    }  # fmt: skip
    return record.start(folder, "classify", **given | changes)


def predictions():
    label = ClassLabel(names=["dress", "hat"])
    return Dataset.from_dict(
        {"split": ["test"] * 2, "label": [0, 1], "prediction": [0, 0], "scores": [[0.9, 0.1], [0.6, 0.4]]},
        features=Features(
            {"split": Value("string"), "label": label, "prediction": label, "scores": [Value("float32")]}
        ),
    )


def written(folder):
    with start(folder) as run:
        return record.write(
            run, results={"validation": RESULTS | {"accuracy": 0.5}, "test": RESULTS}, predictions=predictions(),
            plots={"bars": Figure()}, model=Saves("config.json"), processor=Saves("preprocessor_config.json"),
            history=[{"epoch": 1.0, "loss": 2.0}], labels=["dress", "hat"],
        )  # fmt: skip


def test_all_parts_are_there_and_read_back(tmp_path):
    written(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json", "eval_results.json", "predictions.parquet", "plots", "config.json", "preprocessor_config.json",
    }  # fmt: skip
    run = record.read(tmp_path / "run")
    assert run.info["status"] == "finished"
    assert run.info["command"] == "accelerate launch recipes/classify.py --seed 3"
    assert set(record.VERSIONS_OF) == set(run.info["versions"])
    assert (run.info["labels"], run.info["history"]) == (["dress", "hat"], [{"epoch": 1.0, "loss": 2.0}])
    assert run.results["accuracy"] == 0.75 and run.results["split"] == "test"
    assert run.results["validation"]["accuracy"] == 0.5
    assert run.predictions.features["label"].names == ["dress", "hat"]
    assert (tmp_path / "run" / "plots" / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_status_says_how_it_ended(tmp_path):
    with start(tmp_path / "a") as run:
        assert json.loads((tmp_path / "a" / "run.json").read_text())["status"] == "running"
    for name, error, status in (("b", ValueError("no\nmore"), "failed"), ("c", KeyboardInterrupt(), "interrupted")):
        with pytest.raises(type(error)), start(tmp_path / name):
            raise error
        assert record.read(tmp_path / name).info["status"] == status
    assert run.info["status"] == "finished" and run.info["wall_seconds"] >= 0
    assert record.read(tmp_path / "b").info["error"] == "ValueError: no"


def test_an_input_error_says_in_run_json_what_was_found_and_how_to_go_on(tmp_path):
    error = InputError("step 3", expected="a finite loss", found="loss = nan", fix="look")
    with pytest.raises(InputError), start(tmp_path / "run") as run:
        (tmp_path / "run" / "checkpoint-2").mkdir()
        record.note(tmp_path / "run", step=3)
        raise error
    info = record.read(tmp_path / "run").info
    assert info["error"] == "InputError: step 3: loss = nan" and info["step"] == 3
    assert info["go_on"] == f"{command('classify')} --output_dir {run.folder} --resume_from_checkpoint last"
    record.note(tmp_path / "run", step=4)  # no run is going on there: nothing happens
    assert record.read(tmp_path / "run").info["step"] == 3


def test_sigterm_outside_of_training_is_an_interruption_too(tmp_path):
    with pytest.raises(Interrupted) as caught, start(tmp_path / "run"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == INTERRUPTED and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    info = record.read(tmp_path / "run").info
    assert info["status"] == "interrupted" and "SIGTERM" in info["error"]


def test_a_folder_is_locked_until_its_run_ends(tmp_path):
    with start(tmp_path / "run"):
        with pytest.raises(InputError, match="one that is running"):
            record.refuse_running(tmp_path / "run")
        with pytest.raises(InputError, match="one that is running"):
            start(tmp_path / "run", resumed_from=str(tmp_path / "run" / "checkpoint-2"))
    record.refuse_running(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json"}
    with pytest.raises(InputError, match="new or empty"):  # it came in between, and is through
        start(tmp_path / "run")


def test_other_photos_on_resume_must_be_forced(tmp_path, capsys):
    checkpoint = str(tmp_path / "run" / "checkpoint-2")
    with start(tmp_path / "run", dataset={"source": "./a", "fingerprint": "then"}):
        pass
    with start(tmp_path / "run", resumed_from=checkpoint, dataset={"source": "./b", "fingerprint": "then"}):
        pass
    now = {"resumed_from": checkpoint, "dataset": {"source": "./b", "fingerprint": "now"}}
    with pytest.raises(InputError, match="--force_resume True"):
        start(tmp_path / "run", **now)
    record.refuse_running(tmp_path / "run")  # the refusal holds nothing
    with start(tmp_path / "run", **now, arguments={"force_resume": True}) as run:
        assert "forced" in capsys.readouterr().out
    assert run.info["dataset"]["fingerprint"] == "now"


def test_a_run_json_that_cannot_be_written_hides_no_error(tmp_path, monkeypatch, capsys):
    def full(*args):
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match="the reason"), start(tmp_path / "run"):
        monkeypatch.setattr(os, "fsync", full)
        raise ValueError("the reason")
    assert "No space left" in capsys.readouterr().err
    assert record.read(tmp_path / "run").info["status"] == "running"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json"}


def test_a_process_that_does_not_write_writes_nothing(tmp_path):
    with start(tmp_path / "run", writes=False) as run:
        run.note(more=1)
    assert not (tmp_path / "run").exists()


def test_a_number_that_is_not_finite_is_never_written(tmp_path):
    with pytest.raises(ValueError), start(tmp_path / "run") as run:
        record.write(run, results={"test": {"accuracy": float("nan")}}, predictions=predictions(), plots={})
    assert not (tmp_path / "run" / "eval_results.json").exists()


def test_new_folder_counts_on(tmp_path):
    day = f"{datetime.now():%Y-%m-%d}"
    assert record.new_folder("classify", tmp_path) == str(tmp_path / f"classify-{day}-1")
    (tmp_path / f"classify-{day}-1").symlink_to("nowhere")
    assert record.new_folder("classify", tmp_path) == str(tmp_path / f"classify-{day}-2")


def test_a_file_is_refused_as_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="found:    a file"):
        record.refuse_in_use(tmp_path / "file")


def test_reading_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match="no run.json"):
        record.read(tmp_path)


def test_summary_has_value_interval_and_n(tmp_path):
    text = record.summary(written(tmp_path / "run"))
    assert text.splitlines()[0].split() == ["metric", "value", "95", "%", "interval", "n", "(test)"]
    assert text.splitlines()[1].split() == ["accuracy", "0.750", "0.250", "to", "1.000", "4"]


def test_a_run_is_not_gone_on_with_from_another_cut_of_its_photos(tmp_path):
    cut = {"pictures": "abc", "cut": ["validation", "test"]}
    told = {"dataset": cut, "seed": 42, "arguments": {"test_share": 0.2}}
    (tmp_path / "run.json").write_text(json.dumps(told))
    same = {"seed": 42, "validation_share": 0.15, "test_share": 0.2}
    record.refuse_other_cut(tmp_path, cut, **same)
    record.refuse_other_cut(tmp_path, cut | {"pictures": "others"}, **same | {"seed": 1})
    record.refuse_other_cut("a/model", cut, **same)
    with pytest.raises(InputError, match=r"(?s)--split_seed 1 \(there 42\).*--split_seed 42"):
        record.refuse_other_cut(tmp_path, cut, **same | {"seed": 1})
    with pytest.raises(InputError, match="--test_share 0.2"):
        record.refuse_other_cut(tmp_path, cut, **same | {"test_share": 0.15})
    (tmp_path / "run.json").write_text(json.dumps(told | {"dataset": cut | {"cut": []}}))
    record.refuse_other_cut(tmp_path, cut, **same | {"seed": 1})  # splits of the source's own
