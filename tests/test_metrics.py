"""Figures against hand-made truth and against scikit-learn, on the rows and on resampled rows."""

import evaluate
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, top_k_accuracy_score

from hf_fashion import metric_modules, metrics
from hf_fashion.metrics import multi_label

LABELS = ["dress", "hat", "shoes"]


def one_hot(predictions, classes=3):
    return np.eye(classes)[predictions]


def random_rows(n=200, classes=8, seed=0):
    rng = np.random.default_rng(seed)
    references = rng.integers(0, classes, n)
    return (
        rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[references],
        references,
        [f"c{i}" for i in range(classes)],
    )


def test_hand_made_truth():
    # dress: 2 of 3 found, nothing else called so; hat: its 1 found, but 1 dress called hat; shoes: nowhere
    figures = metrics.classification(one_hot([0, 0, 1, 1]), np.array([0, 0, 0, 1]), LABELS)
    assert figures["n"] == 4
    assert figures["accuracy"] == figures["f1_micro"] == 0.75
    assert (figures["precision/dress"], figures["recall/dress"]) == (1.0, pytest.approx(2 / 3))
    assert (figures["precision/hat"], figures["recall/hat"]) == (0.5, 1.0)
    assert figures["f1/dress"] == pytest.approx(0.8)
    assert figures["f1_macro"] == pytest.approx((0.8 + 2 / 3) / 2)  # shoes occur nowhere, and so do not count
    assert figures["n/shoes"] == 0
    assert figures["f1/shoes"] is figures["recall/shoes"] is figures["f1_low/shoes"] is None  # not measured, not bad
    assert figures["confusion_matrix"] == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert "top_5_accuracy" not in figures


def test_values_are_those_of_scikit_learn():
    scores, references, labels = random_rows()
    figures = metrics.classification(scores, references, labels, n_resamples=0)
    predictions = scores.argmax(1)
    macro = precision_recall_fscore_support(references, predictions, average="macro", zero_division=0)
    assert figures["accuracy"] == accuracy_score(references, predictions)
    assert [figures[f"{name}_macro"] for name in ("precision", "recall", "f1")] == list(macro[:3])
    assert figures["top_5_accuracy"] == top_k_accuracy_score(references, scores, k=5)
    assert not [name for name in figures if "_low" in name]


def test_what_is_right_is_among_the_first_five_also_where_scores_are_tied():
    scores = np.zeros((6, 10))
    scores[3:, 9] = 1.0
    figures = metrics.classification(scores, np.array([0, 0, 5, 9, 4, 3]), [str(n) for n in range(10)], n_resamples=20)
    assert figures["accuracy"] == 0.5  # 0, 0 and 9
    assert figures["top_5_accuracy"] == pytest.approx(4 / 6)  # 3, too; 0 to 4 come first, or 9 and 0 to 3
    assert figures["top_5_accuracy_low"] <= 4 / 6 <= figures["top_5_accuracy_high"]


def test_intervals_are_percentiles_of_scikit_learn_on_resampled_rows():
    scores, references, labels = random_rows(n=60)
    figures = metrics.classification(scores, references, labels, n_resamples=50, seed=7)
    rng = np.random.default_rng(7)
    again = {"accuracy": [], "f1_macro": [], "recall/c3": [], "top_5_accuracy": []}
    for _ in range(50):
        rows = rng.integers(0, 60, 60)
        drawn, truth = scores[rows], references[rows]
        again["accuracy"].append(accuracy_score(truth, drawn.argmax(1)))
        again["top_5_accuracy"].append(top_k_accuracy_score(truth, drawn, k=5, labels=range(8)))
        kwargs = {"zero_division": 0}
        again["f1_macro"].append(precision_recall_fscore_support(truth, drawn.argmax(1), average="macro", **kwargs)[2])
        if 3 in truth:
            recall = precision_recall_fscore_support(truth, drawn.argmax(1), labels=range(8), **kwargs)[1]
            again["recall/c3"].append(recall[3])
    for name, values in again.items():
        ends = [figures[key] for key in metrics.interval_keys(name)]
        shift = figures[name] - np.mean(values) if name == "f1_macro" else 0.0
        assert ends == pytest.approx(np.percentile(values, [2.5, 97.5]) + shift)


def test_the_interval_of_a_macro_figure_holds_the_figure_also_in_a_long_tail():
    """Draws miss classes of one row, and are all too high without these."""
    references = np.array([0] * 60 + list(range(1, 31)))
    said = np.where(references == 0, references, (references + 1) % 31)
    labels = [f"c{number}" for number in range(31)]
    figures = metrics.classification(np.eye(31)[said], references, labels, n_resamples=200)
    assert figures["recall_macro_low"] <= figures["recall_macro"] <= figures["recall_macro_high"]
    truth = np.eye(31)[references]
    scores = truth * np.random.default_rng(0).random(truth.shape)
    of_labels = metrics.attributes(scores, truth, scores > 0.5, labels, {"all": range(31)}, n_resamples=200)
    for name in ("map", "f1_macro", "map/all"):
        low, high = metrics.interval_keys(name)
        assert of_labels[low] <= of_labels[name] <= of_labels[high]


def test_a_rare_class_that_is_always_right_is_not_said_to_be_perhaps_never_right():
    references = np.array([0] * 3 + [1] * 60)
    figures = metrics.classification(one_hot(references), references, LABELS)
    assert figures["recall/dress"] == 1.0
    assert 0.4 < figures["recall_low/dress"] < 0.5 and figures["recall_high/dress"] == 1.0  # Wilson, 3 of 3: 0.438
    assert 0.9 < figures["accuracy_low"] < 1.0  # and 63 of 63 is not certainty


def test_a_label_that_is_called_like_an_end_of_an_interval_keeps_its_own_figures():
    labels = ["dress", "dress_low", "a/b"]
    figures = metrics.classification(one_hot([0, 0, 1, 2]), np.array([0, 1, 1, 2]), labels)
    assert figures["f1/dress_low"] == pytest.approx(2 / 3)
    assert figures["f1/a/b"] == 1.0 and figures["f1_low/a/b"] < 1.0


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        references = rng.integers(0, 3, 150)
        predictions = np.where(rng.random(150) < 0.8, references, (references + 1) % 3)
        figures = metrics.classification(one_hot(predictions), references, LABELS, n_resamples=200, seed=seed)
        covered += figures["accuracy_low"] <= 0.8 <= figures["accuracy_high"]
    assert 88 <= covered <= 100


def test_the_module_loads_by_path_and_computes_the_same():
    scores, references, labels = random_rows()
    module = evaluate.load(metric_modules.path("fashion_classification"))
    got = module.compute(predictions=scores, references=references, labels=labels, seed=3)
    assert got == metrics.classification(scores.astype(np.float32), references, labels, seed=3)


def test_a_metric_folder_in_the_working_directory_is_not_run(tmp_path, monkeypatch):
    trap = tmp_path / "fashion_classification"
    trap.mkdir()
    (trap / "fashion_classification.py").write_text("raise SystemExit('the wrong module ran')")
    monkeypatch.chdir(tmp_path)
    assert (
        evaluate.load(metric_modules.path("fashion_classification")).compute(
            predictions=one_hot([0, 1]), references=[0, 1], labels=LABELS
        )["accuracy"]
        == 1.0
    )


@pytest.mark.parametrize(
    ("scores", "references", "labels", "reason"),
    [
        (one_hot([0, 1]), [0, 1], ["a", "b"], r"shape \(n, 2 classes\)"),
        (one_hot([0, 1]), [0, 1, 2], LABELS, r"shape \(2,\)"),
        (np.empty((0, 3)), [], LABELS, "no rows"),
        (np.array([[0.0, np.nan, 1.0]]), [0], LABELS, "row 0"),
        (one_hot([0, 1]), [0, 3], LABELS, "0 to 2"),
        (one_hot([0, 1]), [0, -1], LABELS, "0 to 2"),
        (one_hot([0, 1]), [0, 1], ["a", "a", "b"], "differ"),
    ],
)
def test_refusals(scores, references, labels, reason):
    with pytest.raises(ValueError, match=reason):
        metrics.classification(scores, np.array(references, dtype=int), labels)


def test_unknown_module_is_named_with_those_that_are_there():
    with pytest.raises(ValueError, match="fashion_classification"):
        metric_modules.path("accuracy")


ATTRIBUTES = ["color: red", "color: blue", "soft", "warm"]
GROUPS = {"color": [0, 1], "tags": [2, 3]}


def attribute_rows(n=60, seed=3):
    rng = np.random.default_rng(seed)
    color = rng.integers(0, 2, n)
    truth = np.stack([color == 0, color == 1, *(rng.random((2, n)) < 0.3)], axis=1).astype(float)
    scores = np.clip(truth * 0.3 + np.round(rng.random((n, 4)), 1) * 0.7, 0, 1)  # rounded: with ties
    truth[:5, :2] = np.nan
    truth[5:9, 3] = np.nan
    return scores, truth, scores > 0.5


def test_attribute_figures_are_those_of_scikit_learn_on_known_rows():
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    scores, truth, said = attribute_rows()
    figures = metrics.attributes(scores, truth, said, ATTRIBUTES, GROUPS, ["color"], n_resamples=50)
    aps, f1s = [], []
    for number, label in enumerate(ATTRIBUTES):
        known = ~np.isnan(truth[:, number])
        aps.append(average_precision_score(truth[known, number], scores[known, number]))
        wanted = precision_recall_fscore_support(truth[known, number], said[known, number], average="binary")[:3]
        f1s.append(wanted[2])
        assert figures[f"ap/{label}"] == pytest.approx(aps[-1])
        assert [figures[f"{name}/{label}"] for name in ("precision", "recall", "f1")] == pytest.approx(list(wanted))
        assert figures[f"known/{label}"] == known.sum() and figures[f"n/{label}"] == np.nansum(truth[:, number])
        assert figures[f"ap_low/{label}"] <= figures[f"ap/{label}"] <= figures[f"ap_high/{label}"]
    assert figures["map"] == pytest.approx(np.mean(aps)) and figures["f1_macro"] == pytest.approx(np.mean(f1s))
    assert figures["map/tags"] == pytest.approx(np.mean(aps[2:]))
    right = (said[5:, :2] & (truth[5:, :2] == 1)).any(axis=1).mean()
    assert figures["accuracy/color"] == pytest.approx(right) and "accuracy/tags" not in figures
    assert (figures["known/color"], figures["n"]) == (55, 60)


def test_a_draw_of_attribute_rows_is_what_scikit_learn_says_of_those_rows():
    from sklearn.metrics import average_precision_score

    scores, truth, _ = attribute_rows()
    known = ~np.isnan(truth[:, 3])
    score, held = scores[known, 3], truth[known, 3] == 1
    rows = np.random.default_rng(0).integers(0, len(score), (4, len(score)))
    draws = np.stack([np.bincount(row, minlength=len(score)) for row in rows]).astype(float)
    wanted = [average_precision_score(held[row], score[row]) for row in rows]
    assert multi_label.average_precision(score, held, draws) == pytest.approx(wanted)


def test_labels_that_nothing_is_known_of_are_none_and_leave_the_means():
    scores, truth, said = attribute_rows()
    truth[:, 3], said[:, 2] = 0.0, False
    said[:, 3] = False
    figures = metrics.attributes(scores, truth, said, ATTRIBUTES, GROUPS, ["color"], n_resamples=20)
    assert figures["ap/warm"] is None and figures["f1/warm"] is None and figures["f1/soft"] == 0.0
    assert figures["map"] == pytest.approx(np.mean([figures[f"ap/{label}"] for label in ATTRIBUTES[:3]]))
    assert figures["f1_macro/tags"] == 0.0
    with pytest.raises(ValueError, match=r"\(n, 4\)"):
        metrics.attributes(scores[:, :3], truth, said, ATTRIBUTES, GROUPS)


def test_a_group_that_is_called_as_its_label_is_never_mistaken_for_it():
    scores, truth, said = attribute_rows()
    truth[:, 2:] = np.where(np.isnan(truth[:, 3:]), np.nan, truth[:, 2:])
    labels = ["a", "b", "tags", "warm"]
    figures = metrics.attributes(scores, truth, said, labels, {"tags": [2, 3]}, n_resamples=0)
    assert figures["known/tags"] == figures["known/warm"] == 56
    truth[20, 2] = np.nan  # of the group something is known there, of the label not
    with pytest.raises(ValueError, match="both called 'tags'"):
        metrics.attributes(scores, truth, said, labels, {"tags": [2, 3]}, n_resamples=0)


def test_a_figure_of_a_group_at_its_limit_has_the_interval_of_its_own_rows():
    truth = np.full((1000, 2), np.nan)
    truth[:6] = np.eye(2)[[0, 1] * 3]
    scores = np.nan_to_num(truth, nan=0.5)
    figures = metrics.attributes(scores, truth, scores > 0.6, ["a", "b"], {"g": [0, 1]}, ["g"], n_resamples=50)
    assert figures["map/g"] == 1 and figures["map_low/g"] == pytest.approx(figures["accuracy_low/g"])


def test_what_every_draw_says_has_no_interval():
    """A net that says one class only: its macro recall is a third in each draw, which is no certainty."""
    figures = metrics.classification(np.tile([1.0, 0, 0], (60, 1)), np.arange(60) % 3, ["a", "b", "c"])
    assert figures["recall_macro"] == pytest.approx(1 / 3)
    assert figures["recall_macro_low"] is None and figures["recall_macro_high"] is None


def test_unsure_below_is_the_lowest_score_that_is_right_often_enough():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])

    def chosen(right, precision, scores=scores, least=1):
        return metrics.unsure_below(scores, np.array(right), precision, least)

    assert chosen([1, 1, 0, 1, 0], 0.7) == 0.6  # 3 of 4; 3 of 5 are too few
    assert chosen([0, 1, 1, 1, 0], 0.6) == 0.5  # the surest one is wrong
    assert chosen([1, 1, 1, 1, 1], 0.95) == 0.5
    assert chosen([0, 0, 0, 0, 0], 0.95) == np.inf
    # Equal scores stand or fall together, whatever their order.
    assert chosen([1, 1, 0], 0.9, np.array([0.9, 0.8, 0.8])) == 0.9
    # A few that are right say nothing of 95 of 100.
    assert chosen([1, 1, 0, 0, 0], 0.95, least=3) == np.inf
    assert metrics.unsure_below(scores, np.ones(5)) is None
