"""Paired statistics against known values, and `hf-fashion compare` on runs whose truth is made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from hf_fashion import cli, comparison, metrics, plots, record
from hf_fashion.comparison import runs as compared_runs
from hf_fashion.errors import InputError

NAMES = ["dress", "hat", "shoes"]


def rights(only_a, only_b, both, neither=0):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


def test_mcnemar_is_the_exact_binomial_test_of_the_rows_on_which_they_differ():
    figures = metrics.paired(*rights(6, 16, 70, 8))
    assert figures["p"] == pytest.approx(0.0525, abs=5e-5)  # 2 * P(X <= 6), X binomial of 22 and one half
    assert figures["p"] == binomtest(6, 22).pvalue
    assert (figures["n"], figures["only_a"], figures["only_b"]) == (100, 6, 16)
    assert (figures["accuracy_a"], figures["accuracy_b"]) == (0.76, 0.86)
    assert figures["difference"] == pytest.approx(-0.10)
    assert figures["tie"] is True  # p is above 0.05, though the interval leaves 0 out
    assert metrics.paired(*rights(6, 18, 70, 8))["tie"] is False


def test_the_interval_is_that_of_drawn_rows_and_turns_with_the_order():
    a, b = rights(30, 12, 100, 20)
    figures, turned = metrics.paired(a, b), metrics.paired(b, a)
    rng = np.random.default_rng(5)
    draws = [np.mean(a[rows], dtype=float) - np.mean(b[rows]) for rows in rng.integers(0, len(a), (4000, len(a)))]
    ends = [figures["difference_low"], figures["difference_high"]]
    assert ends == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.008)
    assert [-turned["difference_high"], -turned["difference_low"]] == pytest.approx(ends, abs=0.008)
    # Of unpaired samples of this size the interval would be nearly twice as wide.
    assert ends[1] - ends[0] < 0.17


def test_models_that_never_differ_are_a_tie_without_certainty():
    figures = metrics.paired(*rights(0, 0, 40, 40))
    assert (figures["p"], figures["difference"], figures["tie"]) == (1.0, 0.0, True)
    # "Rule of three": 3 / 80 for one side; Wilson's for both sides is a little wider.
    assert 3 / 80 < figures["difference_high"] == -figures["difference_low"] < 4 / 80
    one = metrics.paired(*rights(1, 0, 40, 40))
    assert one["difference_low"] < 0 < one["difference"] < one["difference_high"]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    for only_a, only_b in ((0.15, 0.05), (0.02, 0.01)):
        covered = 0
        for seed in range(200):
            kind = np.random.default_rng(seed).choice(3, 80, p=[only_a, only_b, 1 - only_a - only_b])
            figures = metrics.paired(kind != 1, kind != 0, n_resamples=1000, seed=seed)
            covered += figures["difference_low"] <= only_a - only_b + 1e-12 <= figures["difference_high"] + 2e-12
        assert covered >= 182  # 91 %


def test_f1_is_that_of_scikit_learn_and_its_draws_are_the_same_rows_for_both():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 120)
    good, bad = (np.where(rng.random(120) < share, truth, rng.integers(0, 4, 120)) for share in (0.8, 0.4))
    figures = metrics.paired_f1_macro(good, bad, truth, n_resamples=300)
    of = [f1_score(truth, said, average="macro") for said in (good, bad)]
    assert figures["f1_macro_difference"] == pytest.approx(of[0] - of[1])
    assert 0 < figures["f1_macro_difference_low"] < of[0] - of[1] < figures["f1_macro_difference_high"]
    same = metrics.paired_f1_macro(good, good, truth, n_resamples=20)
    assert (same["f1_macro_difference"], same["f1_macro_difference_low"]) == (0.0, None)
    # All but one answer alike: were other rows drawn for each, the interval would be as wide as that of one figure.
    almost = np.where(np.arange(120) == np.flatnonzero(good == truth)[0], (truth + 1) % 4, good)
    near = metrics.paired_f1_macro(good, almost, truth, n_resamples=300)
    assert near["f1_macro_difference_high"] - near["f1_macro_difference_low"] < 0.04


def test_holm_by_hand():
    # 0.01 * 4; 0.02 * 3; 0.03 * 2 = 0.06, level with the one before; 0.9
    assert metrics.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert metrics.holm([0.6, 0.7]) == [1.0, 1.0]
    assert metrics.holm([]) == []


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([True], [True, False], "same rows"),
        (np.array([], bool), np.array([], bool), "no rows"),
        ([0.3, 0.7], [0.1, 0.2], "bool"),
    ],
)
def test_refusals(a, b, reason):
    with pytest.raises(ValueError, match=reason):
        metrics.paired(a, b)


def test_with_several_pairs_the_verdict_goes_by_the_corrected_p():
    truth = np.ones(100, bool)
    good, middle, low = truth.copy(), truth.copy(), truth.copy()
    middle[:7] = low[30:60] = False
    found = comparison.pairs({"low": low, "middle": middle, "good": good})
    assert [(pair["a"], pair["b"]) for pair in found] == [("good", "middle"), ("good", "low"), ("middle", "low")]
    first = found[0]
    assert (first["p"], first["p_holm"]) == (pytest.approx(0.015625), pytest.approx(0.015625))  # the largest: times 1
    assert first["tie"] is False and "good is better than middle by 7.0 points (" in first["verdict"]
    many = comparison.pairs({f"{n}": np.roll(middle, 7 * n) for n in range(4)} | {"good": good})
    assert {pair["tie"] for pair in many} == {True}  # p = 0.016 four times: 0.16 after the correction
    assert all(pair["verdict"].startswith("a tie: ") and "p = 0.1" in pair["verdict"] for pair in many[:4])


def test_the_sentence_says_who_by_how_much_and_of_how_many():
    a, b = rights(30, 10, 200, 76)
    [pair] = comparison.pairs({"b": b, "a": a})
    low, high = (100 * pair[f"difference_{end}"] for end in ("low", "high"))
    assert pair["verdict"] == f"a is better than b by 6.3 points ({low:.1f} to {high:.1f}), McNemar p = 0.002, n = 316"


def made(folder, said, truth=None, *, fingerprint="f", rows=None, results=None, finish=True, label=None):
    """A run whose predictions are `said`."""
    truth = [number % 3 for number in range(len(said))] if truth is None else truth
    right = float(np.mean(np.array(said) == truth))
    figures = results or {
        "n": len(said),
        "accuracy": right,
        "accuracy_low": 0.0,
        "accuracy_high": 1.0,
        "f1_macro": 0.5,
    }
    label = label or ClassLabel(names=NAMES)
    # Rows of another split stand in front, which no comparison may count.
    table = {
        "split": ["validation"] * 2 + ["test"] * len(said), "label": [0, 0, *truth], "prediction": [1, 1, *said],
        "source_row": ["v0", "v1", *(rows or [f"r{number}" for number in range(len(said))])],
    }  # fmt: skip
    kinds = {"split": Value("string"), "label": label, "prediction": label, "source_row": Value("string")}
    run = record.start(
        folder, "classify", arguments={}, argv=[], seed=0, device="cpu", base_model={"name": "net", "id": None},
        dataset={"source": "/far/away/photos", "kind": "folder", "fingerprint": fingerprint},
    )  # fmt: skip
    if finish:
        with run:
            predictions = Dataset.from_dict(table, features=Features(kinds))
            record.write(run, results={"test": figures}, predictions=predictions, plots={}, training_cpu_seconds=12.3)
    return str(folder)


GOOD = [number % 3 for number in range(30)]
BAD = [0] * 30


def compare(capsys, *argv):
    comparison.main(list(argv))
    return capsys.readouterr().out


def test_runs_of_the_same_rows_are_ranked_and_paired_whatever_the_order_of_their_rows(tmp_path, capsys):
    said = [2, *GOOD[1:]]  # wrong on r0
    good = made(tmp_path / "good", said)
    turned = made(tmp_path / "turned", said[::-1], GOOD[::-1], rows=[f"r{number}" for number in range(29, -1, -1)])
    bad = made(tmp_path / "bad", BAD)
    out = compare(capsys, bad, good, turned).splitlines()
    assert out[0].split()[:3] == ["run", "base", "model"] and "rows" not in out[0]
    assert [line.split()[0] for line in out[1:4]] == ["good", "turned", "bad"]
    assert out[1].split()[1:] == ["net", "photos", "test", "30", "0.967", "0.000", "to", "1.000", "0.500", "12"]
    assert out[5] == "All: 3 runs, measured on the same 30 rows of photos."
    assert out[6].startswith("a tie: good and turned, 0.0 points apart (-11.4 to 11.4)")  # not one row differs
    assert out[7].startswith("good is better than bad by 63.3 points") and "p < 0.001 (Holm)" in out[7]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprint": "g"}, "other photos (photos, fingerprint g; photos, f)"),
        ({"rows": [f"r{number + 10}" for number in range(30)]}, "other rows of the same photos: 30 and 30, 20 of"),
        ({"truth": [1, 1, *GOOD[2:]]}, "the same rows with other labels (1 of 30)"),
        ({"label": Value("int64")}, "its predictions.parquet has neither a single label a row nor attributes"),
        ({"rows": ["r0"] * 30}, "several rows have one name"),
    ],
)
def test_runs_of_other_rows_are_named_with_the_reason_and_never_paired(changes, reason, tmp_path, capsys):
    good, bad = made(tmp_path / "good", GOOD), made(tmp_path / "bad", BAD)
    other = made(tmp_path / "other", GOOD, **changes)
    out = compare(capsys, good, other, bad)
    [apart] = [line for line in out.split("Not comparable:\n")[1].splitlines() if ": " in line and "(other)" in line]
    assert reason in apart
    assert out.splitlines()[0].endswith("rows")
    assert "Rows A: 2 runs" in out or "Rows B: 2 runs" in out
    verdicts = [line for line in out.splitlines() if "better than" in line or "a tie:" in line]
    assert len(verdicts) == 1 and "other" not in verdicts[0]


@pytest.mark.parametrize(
    ("arguments", "cut", "says"),
    [
        ({}, ["test"], "; the test split was cut from train by seed 7, and there by 0: train with --split_seed 0"),
        ({"split_seed": 3}, ["test"], "the test split was cut from train by seed 3, and there by 0"),
        ({"split_seed": 0}, ["test"], None),
        ({}, ["validation"], None),  # the photos of the test were given
    ],
)
def test_runs_whose_test_photos_another_seed_cut_are_told_so(arguments, cut, says, tmp_path, capsys):
    good, bad = made(tmp_path / "good", GOOD), made(tmp_path / "bad", BAD)
    other = made(tmp_path / "other", GOOD, rows=[f"r{number + 10}" for number in range(30)])
    for folder, seed, told in ((good, 0, {}), (bad, 0, {}), (other, 7, arguments)):
        path = Path(folder) / "run.json"
        info = json.loads(path.read_text()) | {"seed": seed, "arguments": told}
        info["dataset"]["cut"] = cut
        path.write_text(json.dumps(info))
        results = Path(folder) / "eval_results.json"
        assert json.loads(results.read_text())["split"] == "test"
    out = compare(capsys, good, bad, other)
    assert "other rows of the same photos" in out
    assert says in out if says else "was cut from" not in out


def test_what_is_no_finished_run_is_left_out_with_the_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # long paths are cut in the table
    good = made(tmp_path / "good", GOOD)
    made(tmp_path / "running", GOOD, finish=False)
    made(tmp_path / "boxes", GOOD, results={"n": 30, "map": 0.5, "f1_macro": 0.4})
    made(tmp_path / "half", GOOD)
    (tmp_path / "half" / "eval_results.json").unlink()
    made(tmp_path / "torn", GOOD)
    (tmp_path / "torn" / "run.json").write_text('{"status": ')
    (tmp_path / "photo.jpg").write_bytes(b"")
    with (
        pytest.raises(ValueError),
        record.Run(tmp_path / "boom", json.loads((tmp_path / "running/run.json").read_text())),
    ):
        (tmp_path / "boom").mkdir()
        raise ValueError("boom")
    out = compare(capsys, *sorted(path.name for path in tmp_path.iterdir()), f"{Path(good).name}/")
    told = dict(line.strip().split(": ", 1) for line in out.split("Left out:\n")[1].splitlines())
    assert told.pop("torn").startswith("its record cannot be read (JSONDecodeError")
    assert told == {
        "running": "not finished (status: running)", "boom": "not finished (status: failed)",
        "boxes": "no figure accuracy in its eval_results.json", "half": "no eval_results.json",
        "photo.jpg": "no run.json", "good/": "named twice",
    }  # fmt: skip
    assert "better" not in out and "tie" not in out


def test_another_metric_ranks_and_says_that_it_is_not_tested(tmp_path, capsys):
    one = made(tmp_path / "one", GOOD, results={"n": 30, "map": 0.4, "map_low": 0.3, "map_high": 0.5})
    two = made(tmp_path / "two", BAD, results={"n": 30, "map": 0.6, "map_low": 0.5, "map_high": 0.7})
    out = compare(capsys, one, two, "--metric", "map")
    assert out.index("\ntwo") < out.index("\none") and "0.500 to 0.700" in out
    assert "No verdicts: pairs are tested by accuracy, and not by map." in out and "McNemar" not in out


TAGS = ["color: red", "color: blue", "soft"]


def tagged(folder, scores, truth, names=TAGS, **changes):
    """A run of attributes that gave these scores; the order of its labels is that of `names`."""
    order = [TAGS.index(name) for name in names]
    rows = [f"r{number}" for number in range(len(truth))] if "rows" not in changes else changes.pop("rows")
    value = metrics.attributes(scores, truth, scores > 0.5, TAGS, {}, n_resamples=0)["map"]
    table = {
        "split": ["test"] * len(truth), "source_row": rows, "predictions": [[0]] * len(truth),
        "references": truth[:, order].tolist(), "scores": scores[:, order].tolist(),
    }  # fmt: skip
    numbers = List(Value("float32"))
    kinds = {"split": Value("string"), "source_row": Value("string"), "predictions": List(ClassLabel(names=names)),
             "references": numbers, "scores": numbers}  # fmt: skip
    run = record.start(
        folder, "classify", arguments={}, argv=[], seed=0, device="cpu", base_model={"name": "net", "id": None},
        dataset={"source": "/far/away/photos", "kind": "folder", "fingerprint": "f"} | changes,
    )  # fmt: skip
    with run:
        record.write(
            run, results={"test": {"n": len(truth), "map": value}}, plots={},
            predictions=Dataset.from_dict(table, features=Features(kinds)),
        )  # fmt: skip
    return str(folder)


def tags(n=60):
    random = np.random.default_rng(0)
    truth = (random.random((n, 3)) < 0.4).astype(float)
    noise = random.random((n, 3))
    truth[:7, 2] = np.nan
    return truth, np.nan_to_num(truth) * 0.5 + noise * 0.5, noise  # known apart, and by chance alone


def test_runs_of_attributes_are_paired_photo_by_photo_by_their_mean_average_precision(tmp_path, capsys):
    truth, good, bad = tags()
    first = tagged(tmp_path / "first", good, truth)
    # The same run with its labels and its rows in another order.
    turned = [f"r{number}" for number in range(59, -1, -1)]
    copy = tagged(tmp_path / "copy", good[::-1], truth[::-1], TAGS[::-1], rows=turned)
    worse = tagged(tmp_path / "worse", bad, truth)
    out = compare(capsys, first, copy, worse, "--metric", "map", "--to", str(tmp_path / "plot.png")).splitlines()
    assert out[5] == "All: 3 runs, measured on the same 60 rows of photos."
    assert out[6].startswith("a tie: first and copy, 0.0 points apart, paired bootstrap p = 1.000 (Holm), n = 60")
    assert out[7].startswith("first is better than worse by ") and "(Holm)" in out[7]
    assert not [line for line in out if "Not comparable" in line or "No verdicts" in line]
    out = compare(capsys, first, copy, "--metric", "map")
    assert "score" not in out


def test_attributes_of_other_rows_are_not_sent_to_a_recipe_that_refuses_them(tmp_path, capsys):
    truth, good, _ = tags()
    first, other = tagged(tmp_path / "first", good, truth), tagged(tmp_path / "other", good, truth, fingerprint="g")
    single = made(tmp_path / "single", GOOD, results={"n": 30, "map": 0.1})
    out = compare(capsys, first, other, single, "--metric", "map")
    assert "other photos (photos, fingerprint g; photos, f)" in out and "--compare" not in out
    assert "--split_seed" in out and "(single) with rows A: one label a photo, and there attributes" in out
    unknown = truth.copy()
    unknown[20, 1] = np.nan
    less = tagged(tmp_path / "less", good, unknown)
    assert "the same rows with other labels (1 of 60)" in compare(capsys, first, less, "--metric", "map")


def test_the_difference_of_two_maps_is_that_of_the_draws_of_both():
    truth, good, bad = tags()
    [[_, pair], [turned, _]] = metrics.paired_map([good, bad], truth, n_resamples=200)
    alone = [metrics.attributes(scores, truth, scores > 0.5, TAGS, {}, n_resamples=0)["map"] for scores in (good, bad)]
    assert (pair["map_a"], pair["map_b"]) == pytest.approx(alone)
    assert pair["difference"] == pytest.approx(alone[0] - alone[1]) and pair["tie"] is False
    assert 0 < pair["difference_low"] < pair["difference"] < pair["difference_high"] and pair["p"] < 0.05
    assert turned["difference_low"] == -pair["difference_high"]
    blurred = 0.6 * good + 0.4 * bad
    almost = np.concatenate([bad[:2], blurred[2:]])
    near = metrics.paired_map([blurred, almost], truth, n_resamples=200)[0][1]
    assert near["tie"] is True and near["difference_low"] <= 0 < near["difference"] < near["difference_high"]
    # Were other rows drawn for each, the interval would be wider than that of one figure, which is 0.17 wide.
    assert near["difference_high"] - near["difference_low"] < 0.1
    with pytest.raises(ValueError, match="same rows"):
        metrics.paired_map([good, bad[:5]], truth)
    with pytest.raises(ValueError, match="yes"):
        metrics.paired_map([good, bad], truth * 0)


def test_nothing_to_compare_is_one_message(tmp_path):
    made(tmp_path / "running", GOOD, finish=False)
    with pytest.raises(SystemExit) as caught:
        cli.main(["compare", str(tmp_path / "running"), str(tmp_path / "none")])
    text = str(caught.value)
    assert "expected: folders of finished runs" in text and "running: not finished" in text and "none: no run" in text
    with pytest.raises(InputError, match="'.pdf'"):
        comparison.main([str(tmp_path), "--to", "plot.pdf"])


def test_a_picture_is_written_where_it_is_asked_for_and_nowhere_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "good", GOOD), made(tmp_path / "bad", BAD), made(tmp_path / "other", BAD, fingerprint="g")
    before = {path.name for path in tmp_path.iterdir()}
    comparison.main(["good", "bad", "other"])
    assert {path.name for path in tmp_path.iterdir()} == before
    comparison.main(["good", "bad", "other", "--to", "plot.png"])
    assert min(Image.open(tmp_path / "plot.png").size) > 300
    assert capsys.readouterr().out.splitlines()[-1] == "plot.png"


def drawn(folders, metric="accuracy"):
    """The texts of the picture: title, names, and what stands in the column of differences."""
    runs, _ = compared_runs._read(folders, metric)
    groups = compared_runs._groups(runs)
    tested = {group[0].name: compared_runs._tests(group, metric) for group in groups}
    figure = compared_runs._picture(runs, groups, tested, metric)
    left, *right = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    return figure._suptitle.get_text(), names, [text.get_text() for axes in right for text in axes.texts]


def test_the_picture_names_the_rows_of_the_table_and_n_of_each_bar(tmp_path):
    good, bad = made(tmp_path / "good", GOOD), made(tmp_path / "bad", BAD)
    other = made(tmp_path / "other", BAD[:19], fingerprint="g")
    title, names, right = drawn([good, other])
    assert (title, right) == ("Accuracy", []) and names == ["good  (rows A, n = 30)", "other  (rows B, n = 19)"]
    title, names, right = drawn([good, bad, other])
    assert names == ["good  (rows A, n = 30)", "bad  (rows A, n = 30)", "other  (rows B, n = 19)"]
    assert right[0] == "best of rows A" and right[1].startswith("worse by") and right[2] == "not comparable"
    assert drawn([good, bad])[:2] == ("Accuracy, n = 30", ["good", "bad"])


def test_the_figure_says_ties_and_differences_in_words():
    gap = {"difference": 0.05, "difference_low": 0.02, "difference_high": 0.08, "tie": False}
    tie = {"difference": 0.01, "difference_low": -0.02, "difference_high": 0.04, "tie": True}
    figure = plots.comparison(
        ["a", "b", "c", "$d"], [(0.9, 0.8, 0.95), (0.89, 0.8, 0.95), (0.85, 0.8, 0.9), (0.5, None, None)],
        [None, tie, gap, None], ["best", "", "", "other rows"], "accuracy", "n = 80",
    )  # fmt: skip
    left, right = figure.axes
    assert [text.get_text() for text in right.texts] == ["best", "a tie (-1.0)", "worse by 5.0", "other rows"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b", "c", r"\$d"]
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first on top
