"""`recipes/sweep.py`: every point with every seed, chosen on validation, and a sweep that goes on where it was."""

import csv
import json
import shlex
import statistics
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from tiny import photos, tiny, undrawn  # noqa: F401 (a fixture)

from hf_fashion import plots, record, sweeps
from hf_fashion.errors import InputError, script
from hf_fashion.recipes import classify as recipe
from hf_fashion.recipes import sweep as sweeper
from hf_fashion.sweeps import study
from hf_fashion.tasks import classify

# The sweep of the fixture draws its figure; the others draw none.
pytestmark = pytest.mark.usefixtures("undrawn")
QUICK = [
    "--num_train_epochs",
    "1",
    "--per_device_train_batch_size",
    "8",
    "--use_cpu",
    "True",
    "--disable_tqdm",
    "True",
]
GRID = ["--try", "learning_rate", "1e-2", "1e-1", "--try", "freeze", "none", "backbone", "--seeds", "1", "2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos without splits, a tiny checkpoint, and a finished sweep of a grid."""
    place = tmp_path_factory.mktemp("sweep")
    photos(place / "photos", train=12, validation=1, test=1)
    tiny("resnet", place / "net")
    sweeper.main([*tokens(place, *GRID), "--output_dir", str(place / "whole")])
    return place


def tokens(place, *more):
    return ["--model", str(place / "net"), "--dataset", str(place / "photos" / "train"), *QUICK, *more]


def table_of(sweep):
    """The table without the CPU seconds."""
    return "\n".join(line.rsplit(maxsplit=1)[0] for line in sweep.table().splitlines())


def told(folder):
    return json.loads((Path(folder) / "sweep.json").read_text())


class Interrupted(KeyboardInterrupt):
    pass


def fake(ends=(), fails=(), early=()):
    """A stand-in for `classify.main`: a figure out of the settings at once; it can end or fail at the n-th run."""
    calls = []

    def main(argv, *, sweep):
        assert sweep.startswith("accelerate launch recipes/sweep.py --model ")
        calls.append(argv)
        settings = dict(token[2:].split("=", 1) for token in argv if "=" in token)
        folder, seed = (argv[argv.index(name) + 1] for name in ("--output_dir", "--seed"))
        if len(calls) in early:
            raise InputError("the photos", expected="some", found="none", fix="other photos")
        Path(folder).mkdir(parents=True)
        (Path(folder) / "checkpoint-1").mkdir()
        told_ = {"commit": None, "python": "", "device": "", "dataset": {}, "base_model": {}, "versions": {}}
        (Path(folder) / "run.json").write_text(json.dumps(told_))
        if len(calls) in ends:
            raise Interrupted
        if len(calls) in fails:
            raise InputError("training stopped at step 3", expected="a finite loss", found="loss = nan", fix="less")
        value = zlib.crc32(f"{sorted(settings.items())} {seed}".encode()) / 2**32
        return SimpleNamespace(info={"metric": "accuracy", "validation": {"eval_accuracy": value}})

    return main, calls


def test_a_grid_runs_every_point_with_every_seed_and_means_are_right(place):
    found = told(place / "whole")
    runs = [(trial["settings"], run) for trial in found["trials"] for run in trial["runs"]]
    done = {(point["learning_rate"], point["freeze"], run["seed"]) for point, run in runs}
    assert done == {
        (rate, plan, seed) for rate in ("1e-2", "1e-1") for plan in ("none", "backbone") for seed in (1, 2)
    }
    for point, run in runs:
        info = record.read(place / "whole" / run["folder"]).info
        assert info["status"] == "finished" and info["seed"] == run["seed"]
        assert info["arguments"]["learning_rate"] == float(point["learning_rate"])
        assert info["arguments"].get("freeze", "none") == point["freeze"]
        kept = max(entry["eval_accuracy"] for entry in info["history"] if "eval_accuracy" in entry)
        assert run["value"] == kept and run["cpu_seconds"] > 0
    for trial in found["trials"]:
        values = [run["value"] for run in trial["runs"]]
        assert trial["mean"] == pytest.approx(sum(values) / 2) and trial["std"] == pytest.approx(
            statistics.stdev(values)
        )
        assert (trial["min"], trial["max"], trial["n"]) == (min(values), max(values), 2)
    means = {trial["trial"]: trial["mean"] for trial in found["trials"]}
    assert found["best"] == max(means, key=lambda number: (means[number], -number))
    with (place / "whole" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == sorted(means.values(), reverse=True)
    assert (found["status"], found["metric"], found["direction"]) == ("finished", "accuracy", "maximize")
    assert {"commit", "versions", "argv", "device", "dataset"} <= found.keys() and "optuna" in found["versions"]


def test_the_record_of_a_run_says_that_the_sweep_made_it(place):
    """The command of its own, typed again, would measure the test photos."""
    found = told(place / "whole")
    assert shlex.split(found["command"])[2:] == [
        "recipes/sweep.py", *tokens(place, *GRID), "--output_dir", str(place / "whole")
    ]  # fmt: skip
    for trial in found["trials"]:
        for run in trial["runs"]:
            assert record.read(place / "whole" / run["folder"]).info["command"] == found["command"]


def test_the_folder_has_no_checkpoint_and_no_pickle(place):
    files = {path.name for path in (place / "whole").rglob("*") if path.is_file()}
    assert files == {"sweep.json", "sweep.csv", "sweep.png", "sweep.lock", "study.jsonl", "run.json"}


def test_the_printed_command_trains_what_was_chosen_and_measures_it(place, tmp_path):
    found = told(place / "whole")
    accelerate, launch, script_, *argv = shlex.split(found["next"])
    assert (accelerate, launch, script_) == ("accelerate", "launch", "recipes/classify.py")
    run = recipe.main([*argv, "--output_dir", str(tmp_path / "best")])
    best = next(trial for trial in found["trials"] if trial["trial"] == found["best"])
    assert run.results["split"] == "test"
    assert run.results["validation"]["accuracy"] == pytest.approx(best["runs"][0]["value"])


def test_no_run_sees_the_test_photos_of_the_last_one(place, tmp_path, monkeypatch):
    """The seeds 1 and 2 would cut other photos off: what is test for one would be validation for the other."""
    seen: list[tuple[bool, frozenset]] = []
    prepare = classify.prepare

    def watched(rows, processor, *, train=False, **more):
        seen.append((train, frozenset(rows["source_row"])))
        return prepare(rows, processor, train=train, **more)

    monkeypatch.setattr(classify, "prepare", watched)
    sweep = sweeper.main([*tokens(place, "--try", "learning_rate", "1e-2"), "--seeds", "1", "2", "--output_dir",
                          str(tmp_path / "sweep")])  # fmt: skip
    of_sweep = set(seen)
    assert len(seen) == 4 and len(of_sweep) == 2  # a train and a validation split, the same in both runs
    seen.clear()
    recipe.main([*shlex.split(sweep.command())[3:], "--output_dir", str(tmp_path / "best")])
    [test] = set(seen) - of_sweep
    assert test[1] and not any(test[1] & rows for _, rows in of_sweep)


def test_an_interrupted_sweep_goes_on_and_ends_as_the_unbroken_one(place, tmp_path, monkeypatch, capsys):
    main, calls = fake(ends=(8 + 6,))
    monkeypatch.setattr(recipe, "main", main)
    whole = sweeper.main([*tokens(place, *GRID), "--output_dir", str(tmp_path / "whole")])
    assert len(calls) == 8
    capsys.readouterr()
    folder = tmp_path / "broken"
    with pytest.raises(Interrupted):  # in the middle of its sixth run
        sweeper.main([*tokens(place, *GRID), "--output_dir", str(folder)])
    assert told(folder)["status"] == "interrupted" and sum(len(t["runs"]) for t in told(folder)["trials"]) == 5
    shown = capsys.readouterr().out
    assert f"--output_dir {folder} --resume" in shown and "not finished, 1 of 2 runs" in shown
    sweep = sweeper.main(["--output_dir", str(folder), "--resume"])
    assert len(calls) == 8 + 6 + 3
    assert table_of(sweep) == table_of(whole) and len({trial["mean"] for trial in sweep.ranked}) == 4
    assert told(folder)["next"] == told(whole.folder)["next"]
    sweeper.main(["--output_dir", str(folder), "--resume"])
    assert len(calls) == 8 + 6 + 3 and told(folder)["status"] == "finished"


@pytest.mark.slow
def test_an_interrupted_search_proposes_what_an_unbroken_one_does(place, tmp_path, monkeypatch):
    argv = [*tokens(place, "--search", "learning_rate", "1e-4", "1e-2", "log", "--try", "freeze", "none", "backbone",
                    "--search", "image_size", "32", "64", "--trials", "12", "--seeds", "1")]  # fmt: skip
    main, calls = fake()
    monkeypatch.setattr(recipe, "main", main)
    whole = sweeper.main([*argv, "--output_dir", str(tmp_path / "whole")])
    assert len(calls) == 12
    points = [trial["settings"] for trial in told(tmp_path / "whole")["trials"]]
    assert all(1e-4 <= float(point["learning_rate"]) <= 1e-2 for point in points)
    assert {type(json.loads(point["image_size"])) for point in points} == {int}
    assert len({json.dumps(point) for point in points}) == 12
    main, calls = fake(ends=(4, 12))
    monkeypatch.setattr(recipe, "main", main)
    folder = tmp_path / "broken"
    with pytest.raises(Interrupted):
        sweeper.main([*argv, "--output_dir", str(folder)])
    with (folder / "study.jsonl").open("a") as file:
        file.write('{"op_code":4,"worker')  # as a kill while it is written leaves it
    with pytest.raises(Interrupted):
        sweeper.main(["--output_dir", str(folder), "--resume"])
    broken = sweeper.main(["--output_dir", str(folder), "--resume"])
    assert broken.table() == whole.table() and len(calls) == 14


def test_a_failed_run_is_recorded_and_the_sweep_goes_on(place, tmp_path, monkeypatch, capsys):
    main, calls = fake(fails=(3,))
    monkeypatch.setattr(recipe, "main", main)
    folder = tmp_path / "sweep"
    sweep = sweeper.main([*tokens(place, *GRID), "--output_dir", str(folder)])
    failed = [trial for trial in told(folder)["trials"] if trial["status"] == "failed"]
    assert [trial["trial"] for trial in failed] == [1] and "loss = nan" in failed[0]["reason"]
    assert len(calls) == 7  # the other seed of that point is not run
    assert len(sweep.ranked) == 3 and 1 not in [trial["trial"] for trial in sweep.ranked]
    assert "failed with seed 1: --learning_rate=1e-2 --freeze=backbone" in capsys.readouterr().out
    assert not list(folder.rglob("checkpoint-*"))
    sweeper.main(["--output_dir", str(folder), "--resume"])
    assert len(calls) == 7


def test_what_fails_before_the_first_training_ends_the_sweep(place, tmp_path, monkeypatch):
    main, calls = fake(early=(1,))
    monkeypatch.setattr(recipe, "main", main)
    with pytest.raises(InputError, match="the photos"):
        sweeper.main([*tokens(place, *GRID), "--output_dir", str(tmp_path / "sweep")])
    assert told(tmp_path / "sweep")["status"] == "failed"
    sweep = sweeper.main(["--output_dir", str(tmp_path / "sweep"), "--resume"])
    assert len(calls) == 9 and len(sweep.ranked) == 4


def test_less_is_better_where_the_loss_is_compared(place, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "main", fake()[0])
    argv = tokens(place, *GRID, "--metric_for_best_model", "loss")
    sweep = sweeper.main([*argv, "--output_dir", str(tmp_path / "sweep")])
    means = [trial["mean"] for trial in sweep.ranked]
    assert means == sorted(means) and means[0] < means[-1] and told(sweep.folder)["direction"] == "minimize"


def test_names_with_dashes_are_those_with_underscores(place, tmp_path, monkeypatch):
    main, calls = fake()
    monkeypatch.setattr(recipe, "main", main)
    asked = ["--try", "learning-rate", "1e-2", "1e-1", "--search", "lora-alpha", "8", "16", "--trials", "1"]
    sweep = sweeper.main([*tokens(place, *asked), "--split-seed", "3", "--output-dir", str(tmp_path / "x")])
    assert sweep.folder == tmp_path / "x" and len(calls) == 1
    assert set(told(sweep.folder)["trials"][0]["settings"]) == {"learning_rate", "lora_alpha"}
    assert [calls[0][at + 1] for at, token in enumerate(calls[0]) if token == "--split_seed"] == ["3", "3"]
    argv = [*tokens(place), "--try", "flip", "True", "False", "--output-dir", str(tmp_path / "y")]
    for owned in (["--seed", "1"], ["--seed=1"], ["--resume-from-checkpoint", "last"]):
        with pytest.raises(InputError, match="in a sweep"):
            sweeper.main([*argv, *owned])


def test_weights_and_focus_may_be_tried_where_the_plain_loss_of_validation_is_compared(place, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "main", fake()[0])
    tried = ["--try", "class_weights", "none", "sqrt", "--try", "focal_gamma", "0", "2", "--try", "mixup", "0", "0.4"]
    argv = [*tokens(place, *tried), "--metric_for_best_model", "loss", "--output_dir", str(tmp_path / "sweep")]
    assert len(sweeper.main(argv).ranked) == 8


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "nothing to try"),
        (["--try", "learnin_rate", "1e-3"], "did you mean --learning_rate"),
        (["--try", "learning_rate", "1e-3", "fast"], "fast"),
        (["--try", "learning_rate", "1e-3", "100"], "--learning_rate 100"),
        (["--try", "learning_rate", "1e-3", "0.001"], "each point once"),
        (["--try", "learning_rate", "1e-3", "1e-3"], "a value twice"),
        (["--try", "learning_rate"], "no value"),
        (["--try", "freeze", "none", "stages:9"], "stages:9"),
        (["--try", "freeze", "none", "heads"], "none, backbone, or stages:N"),
        (["--try", "augment", "none", "mosaic"], "mosaic"),
        (["--try", "flip", "True", "--try", "flip", "False"], "each setting once"),
        (["--try", "num_train_epochs", "1", "2"], "each setting once"),
        (["--try", "seed", "1", "2"], "--seeds"),
        (["--try", "flip", "True", "False", "--seed", "1"], "--seeds"),
        (["--try", "flip", "True", "False", "--seeds", "1", "1"], "each seed once"),
        (["--try", "flip", "True", "False", "--trials", "3"], "every point is run"),
        (["--try", "test_share", "0.1", "0.2"], "measured on the same photos"),
        (["--try", "metric_for_best_model", "accuracy", "f1_macro"], "by the same figure"),
        (["--try", "test-share", "0.1", "0.2"], "measured on the same photos"),
        (["--try", "num-train-epochs", "1", "2"], "each setting once"),
        (["--try", "flip", "True", "False", "--flip-", "True"], "--flip_"),
        (["--try", "flip", "True", "False", "--output-dir=x", "--resume-from-checkpoint", "last"], "--resume"),
        (["--search", "learning_rate", "1e-2", "1e-3"], "the lower one first"),
        (["--search", "learning_rate", "0", "1e-3", "log"], "above 0 on a log scale"),
        (["--search", "learning_rate", "1e-3"], "two numbers"),
        (["--search", "freeze", "1", "2"], "a setting that is a number"),
        (["--search", "lora_rank", "1.5", "2.5"], "lora_rank"),
        (["--search", "flip", "0", "1"], "a setting that is a number"),
        (["--try", "flip", "True", "False", "--learnin_rate", "1"], "did you mean --learning_rate"),
    ],
)
def test_a_wrong_setting_ends_the_sweep_before_anything_is_trained(more, message, place, tmp_path, monkeypatch):
    main, calls = fake()
    monkeypatch.setattr(recipe, "main", main)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        sweeper.main(tokens(place, *more))
    assert message in str(error.value)
    assert not calls and not list(tmp_path.glob("runs/sweep*"))


def test_a_folder_of_a_sweep_is_not_used_again_nor_by_two_at_once(place, tmp_path):
    argv = [*tokens(place, *GRID), "--output_dir", str(place / "whole")]
    with pytest.raises(InputError, match="--resume"):
        sweeper.main(argv)
    with pytest.raises(InputError, match="its own settings"):
        sweeper.main([*argv, "--resume"])
    with pytest.raises(InputError, match="with a sweep.json"):
        sweeper.main(["--output_dir", str(tmp_path), "--resume"])
    with FileLock(place / "whole" / "sweep.lock"), pytest.raises(InputError, match="one that is running"):
        sweeper.main(["--output_dir", str(place / "whole"), "--resume"])


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ([(0.80, 0.84), (0.79, 0.81)], "over seeds, 0.0283: a tie."),
        ([(0.80, 0.82), (0.99, 0.99)], "Point 1 is ahead of point 0 by 0.1800 (accuracy, validation), more than"),
        (
            [(0.5, 0.5), (0.5, 0.5)],
            "by 0.0000 (accuracy, validation), no more than the standard deviation over seeds, 0.0000: a tie.",
        ),
        ([(0.5,), (0.7,)], "with one seed a point it is not known"),
        ([(0.5, 0.6)], "nothing to compare"),
        ([(0.80, 0.84), (0.79, 0.81), (0.78, 0.86)], "Within the spread of the best: points 2, 1"),
    ],
)
def test_the_verdict_says_a_tie_where_it_is_one(figures, says):
    sweep = object.__new__(sweeps.Sweep)
    sweep.greater = True
    trials = [
        {"trial": number, "status": "finished", **study._figures(values)} for number, values in enumerate(figures)
    ]
    sweep.info = {"metric": "accuracy", "trials": trials}
    if len(figures) == 3:
        says = says.replace("points 2, 1", "points " + ", ".join(str(t["trial"]) for t in sweep.ranked[1:]))
    assert says in sweep.verdict()


def test_what_to_type_next_is_typed_as_the_sweep_was(monkeypatch):
    sweep = object.__new__(sweeps.Sweep)
    sweep.greater, sweep.seeds, sweep.folder = True, [1], Path("runs/the sweep")
    sweep.asked = SimpleNamespace(rest=["--dataset", "my photos"])
    sweep.info = {"trials": [{"trial": 0, "status": "finished", "mean": 0.5, "settings": {"flip": "True"}}]}
    assert sweep.command().startswith("accelerate launch recipes/classify.py --dataset")
    monkeypatch.setattr("sys.argv", ["/usr/bin/hf-fashion"])
    assert sweep.command() == "hf-fashion classify --dataset 'my photos' --flip=True --seed 1"
    assert sweep.resume_command() == "hf-fashion sweep --output_dir 'runs/the sweep' --resume"


def test_without_optuna_the_extra_is_named(place, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"hf_fashion\[sweep\]"):
        sweeper.main(tokens(place, *GRID))


def test_help_names_the_sweeps_own_settings(capsys):
    with pytest.raises(SystemExit) as end:
        script(sweeper.main)(["--help"])
    assert end.value.code == 0 and "--search NAME" in capsys.readouterr().out


def test_the_figure_has_a_panel_a_setting():
    settings = {"freeze": ("none", "backbone"), "learning_rate": (), "flip": ("True", "False"), "mixup": ("0", "0.4")}
    points = [{"freeze": "none", "learning_rate": "0.01", "flip": "True", "mixup": "0"},
              {"freeze": "none", "learning_rate": "0.001", "flip": "False", "mixup": "0"}]  # fmt: skip
    figure = plots.sweep(settings, ["1", "0"], points, [[0.8, 0.9], [0.7, 0.8]], "accuracy", log={"learning_rate"})
    shown = {axes.get_xlabel(): axes for axes in figure.axes if axes.get_xlabel()}
    assert shown.keys() == settings.keys() and shown["learning_rate"].get_xscale() == "log"
    dots = {tuple(line.get_data()[1]) for line in shown["learning_rate"].lines if line.get_marker() == "o"}
    assert {round(float(y), 6) for (y,) in dots} == {0.85, 0.75}
