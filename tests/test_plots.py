"""Pictures: nothing lies on something else or is cut off, whatever the names are and however many."""

import itertools
from pathlib import Path

import jinja2
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as Photo
from matplotlib.text import Text
from PIL import Image

from hf_fashion import plots
from hf_fashion.attributes import Group
from hf_fashion.tasks import attributes

NAMES = [
    "women's high-waisted flared denim trousers", "dress", "Strickjacke_mit_Knopfleiste_und_Taschen_XL", "hat",
    *(f"somebody/convnextv2-atto-1k-224-finetuned-clothing-v{number}" for number in range(8)),
]  # fmt: skip
HISTORY = [{"epoch": 1.0, "step": 3, "loss": 2.0}, {"epoch": 1.0, "step": 3, "eval_loss": 1.5, "eval_accuracy": 0.4}]


def texts(figure):
    """Every text that is drawn."""
    figure.draw_without_rendering()
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not axes.axison or not low <= tick.get_loc() <= high:
                    hidden.add(tick.label1)
        if not axes.axison:
            hidden |= {axes.xaxis.label, axes.yaxis.label}
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in found if text not in hidden]


def refuse_overlaps(figure):
    boxes = [(text, text.get_window_extent()) for text in texts(figure)]
    whole = figure.bbox.padded(1)
    for text, box in boxes:
        assert whole.contains(*box.min) and whole.contains(*box.max), f"cut off: {text}"
    level = [pair for pair in boxes if pair[0].get_rotation() % 90 == 0]  # slanted ones lie close, in wide boxes
    for (one, box), (other, of_other) in itertools.combinations(level, 2):
        assert not box.overlaps(of_other), f"{one} lies on {other}"


def f1(count):
    values = np.linspace(1, 0, count)
    values[-3:] = 0
    return plots.intervals(NAMES[:count], values, values * 0.9, values, [5] * count, "F1 by class, test split, n = 80")


def confusions(count):
    return plots.confusion_matrix(np.full((count, count), 1234), NAMES[:count], "Confusions, test split, n = 12345")


def compared(count):
    values = [(0.9 - 0.03 * place, 0.85 - 0.03 * place, 0.95 - 0.03 * place) for place in range(count)]
    gaps = [{"difference": 0.03 * place, "difference_low": 0.03 * place - 0.02, "difference_high": 0.03 * place + 0.02,
             "tie": not place} for place in range(count)]  # fmt: skip
    return plots.comparison(NAMES[:count], values, [None, *gaps[1:]], ["best", *[""] * (count - 1)], "accuracy",
                            "test split, n = 80")  # fmt: skip


def apart(count):
    values = [(0.9 - 0.03 * place, None, None) for place in range(count)]
    rows = [f"rows {'ABC'[place % 3]}, n = {80 + place}" for place in range(count)]
    return plots.comparison(NAMES[:count], values, [None] * count, [""] * count, "accuracy", "", rows)


def swept(count):
    values = [[0.9 - 0.03 * place, 0.88 - 0.03 * place, 0.91 - 0.03 * place] for place in range(count)]
    points = [{"model": name, "mixup": str(place % 2)} for place, name in enumerate(NAMES[:count])]
    names = [str(place) for place in range(count)]
    return plots.sweep({"model": NAMES[:count], "mixup": ("0", "1")}, names, points, values, "accuracy")


def sheet(count):
    shapes = [(30, 60), (60, 20), (40, 40)]
    photos = [Image.new("RGB", shapes[number % 3]) for number in range(count)]
    return plots.photo_sheet(photos, [f"is {name}\nsaid {name} 0.98" for name in NAMES[:count]], "Surest of 12")


def curves(count):
    recall = np.linspace(0, 1, 101)
    precision = np.stack([1 - recall ** (place + 1) for place in range(count)])
    return plots.precision_recall(recall, precision, NAMES[:count], [5] * count, "At IoU 0.5, test split, n = 80")


def errors(count):
    costs = {name: 0.02 * place for place, name in enumerate(NAMES[:count])}
    return plots.detection_errors(costs, dict.fromkeys(costs, 12), "Errors by kind, test split, n = 80")


def boxes(count):
    """Boxes on one another, at the edges of the photo and beyond them, on photos of all shapes."""
    shapes = [(300, 600), (600, 200), (400, 400)]
    photos = [Image.new("RGB", shapes[number % 3], "white") for number in range(count)]
    truth, said = [], []
    for photo in photos:
        where = [(0, 0, photo.width, photo.height), (photo.width - 20, photo.height - 20, 40, 40), (50, 50, 60, 60),
                 (50, 50, 3, 3)]  # fmt: skip
        truth.append([(box, name, place == 2) for place, (box, name) in enumerate(zip(where, NAMES, strict=False))])
        said.append([(box, f"{name} 0.93", place == 2) for box, name in zip(where, NAMES, strict=False)
                     for place in range(3)])  # fmt: skip
    captions = [f"photo {name}\n5 of 6 found, 3 wrong" for name in NAMES[:count]]
    return plots.boxes_on_photos(photos, truth, said, captions, "Worst photos of the test split, by F1")


OF_BOXES, OTHERS = (curves, errors, boxes), (f1, confusions, compared, apart, swept, sheet)


@pytest.mark.parametrize("draw", [*OF_BOXES, *OTHERS])
@pytest.mark.parametrize("most", [False, True])
def test_no_text_lies_on_another_or_is_cut_off(draw, most):
    """Of the fewest, and of many."""
    fewest = 1 if draw in OF_BOXES else 2
    refuse_overlaps(draw((5 if draw is boxes else 12) if most else fewest))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "count"),
    [(boxes, 12), *((draw, 5) for draw in (curves, errors, *OTHERS)), *((draw, 2) for draw in OF_BOXES)],
)
def test_no_text_lies_on_another_or_is_cut_off_in_between(draw, count):
    refuse_overlaps(draw(count))


def test_boxes_lie_where_they_are_on_the_photo_and_names_within_it():
    photo = Image.new("RGB", (1000, 2000))  # drawn smaller than it is
    truth = [[((100, 200, 300, 400), "dress", True), ((10, 1900, 90, 90), "shoes", False)]]
    said = [[((110, 210, 300, 400), "dress 0.91", True), ((-50, 20, 100, 50), "hat 0.40", False)]]
    figure = plots.boxes_on_photos([photo], truth, said, ["photo 1"], "Best photos")
    axes = figure.axes[0]
    drawn = {patch.get_bbox().bounds: patch.get_edgecolor()[:3] for patch in axes.patches}
    assert drawn.keys() == {tuple(map(float, box)) for box, *_ in (*truth[0], *said[0])}
    assert len(set(drawn.values())) == 3  # right, wrong, there
    assert axes.get_xlim() == (0, 1000) and axes.get_ylim() == (2000, 0)
    names = {text.get_text(): text for text in axes.texts}
    assert names.keys() == {"shoes", "dress 0.91", "hat 0.40"}  # what was found is named once
    figure.draw_without_rendering()
    for text in names.values():
        extent = text.get_window_extent()
        assert axes.bbox.padded(1).contains(*extent.min) and axes.bbox.padded(1).contains(*extent.max)
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend == ["said, right", "said, wrong", "there, missed", "there, found"]
    for lines in (plots.boxes_on_photos([], [], [], [], "None"), figure):
        refuse_overlaps(lines)


def test_curves_show_the_classes_that_have_boxes_the_best_first_and_of_many_the_weakest(monkeypatch):
    monkeypatch.setattr(plots, "MOST_ROWS", 9)
    recall = np.linspace(0, 1, 101)
    precision = np.linspace(0, 1, 13)[:, None] * np.ones(101)
    precision[7] = np.nan
    labels = [f"c{number}" for number in range(13)]
    figure = plots.precision_recall(recall, precision, labels, list(range(13)), "Test split")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 9 and titles[0] == "mean of 12 classes\nAP 0.49"
    assert titles[1] == "c8 (n=8)\nAP 0.67" and titles[-1] == "c0 (n=0)\nAP 0.00"
    assert not any(title.startswith("c7 ") for title in titles) and "8 weakest of 12" in title_of(figure)
    refuse_overlaps(figure)
    refuse_overlaps(plots.precision_recall(recall, precision[7:8], ["hat"], [0], "No boxes"))


def test_costs_of_errors_are_points():
    figure = plots.detection_errors({"missed": 0.056, "both": 0.0}, {"missed": 12, "both": 0}, "Test split")
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == ["5.6", "0.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["missed  (n=12)", "both  (n=0)"]
    assert axes.get_xlim() == (0, 0.1)  # a small loss is not blown up
    refuse_overlaps(figure)


def test_values_of_0_do_not_lie_on_the_axis():
    figure = f1(5)
    [axes] = figure.axes
    values = [text for text in texts(figure) if text.get_text() == "0.00"]
    assert len(values) == 3 and all(text.get_window_extent().x0 > axes.bbox.x1 for text in values)


def test_names_that_begin_alike_are_told_apart():
    for figure in (f1(12), compared(12)):
        shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert len(set(shown)) == 12 and not any(text.startswith("…") for text in shown)


def test_the_curve_of_one_epoch_shows_its_values():
    figure = plots.learning_curve(HISTORY, "accuracy", 3)
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["2.000", "1.500"]
    assert [text.get_text() for text in right.texts] == ["0.400"]
    assert [label.get_text() for label in left.get_xticklabels()] == ["1"]
    assert min(line.get_markersize() for axes in figure.axes for line in axes.lines) >= 8
    refuse_overlaps(figure)
    longer = plots.learning_curve([*HISTORY, HISTORY[0] | {"epoch": 2.0}, HISTORY[1] | {"epoch": 2.0}], "accuracy")
    assert not longer.axes[0].texts


def spans(*values):
    history = [{"epoch": float(place), "step": place, "eval_accuracy": value} for place, value in enumerate(values)]
    low, high = plots.learning_curve(history, "accuracy").axes[1].get_ylim()
    return low, high


def test_one_photo_more_is_no_leap_of_the_curve():
    low, high = spans(0.59, 0.6, 0.61)
    assert high - low == pytest.approx(0.1) and (low + high) / 2 == pytest.approx(0.6)
    low, high = spans(0.2, 0.9)
    assert low < 0.2 and high > 0.9 and high - low < 0.8  # a real rise is shown as it is


def test_the_two_kinds_of_interval_are_named():
    assert "bootstrap; Wilson where all or none are right" in f1(2)._suptitle.get_text()


def test_a_curve_that_was_not_measured_says_so():
    _, right = plots.learning_curve(HISTORY[:1], "accuracy").axes
    assert not right.axison and [text.get_text() for text in right.texts] == ["not measured"]


def test_a_tie_at_0_has_no_sign_of_less():
    gap = {"difference": 0.0, "difference_low": -0.1, "difference_high": 0.1, "tie": True}
    figure = plots.comparison(["a", "b"], [(0.5, 0.4, 0.6)] * 2, [None, gap], ["best", ""], "accuracy", "")
    assert [text.get_text() for text in figure.axes[1].texts] == ["best", "a tie (+0.0)"]


def test_a_sweep_has_its_best_first_and_numbers_by_size():
    points = [{"freeze": freeze, "rate": rate} for freeze in ("stages:2", "none") for rate in ("3e-3", "1e-2", "1e-3")]
    values = [[0.9 - 0.1 * place] for place in range(6)]
    settings = {"freeze": ("backbone", "none", "stages:2"), "rate": ("1e-2", "1e-3", "3e-3")}
    figure = plots.sweep(settings, [str(place) for place in range(6)], points, values, "accuracy")
    freeze, rate = figure.axes
    assert [label.get_text() for label in freeze.get_xticklabels()] == ["stages:2", "none", "backbone"]
    assert [label.get_text() for label in rate.get_xticklabels()] == ["1e-3", "3e-3", "1e-2"]
    dots = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in freeze.lines)
    assert [y for _, y in dots] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])


def test_points_of_one_value_stand_nearer_to_its_tick_than_to_any_other():
    for count in (2, 12):
        points = [{"rate": rate} for rate in ("1e-3", "3e-3") for _ in range(count)]
        values = [[0.5 + 0.01 * place] for place in range(2 * count)]
        figure = plots.sweep({"rate": ("1e-3", "3e-3")}, ["0"] * 2 * count, points, values, "f1_macro")
        [axes] = figure.axes
        places = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
        assert len(set(places)) == 2 * count
        assert max(min(abs(place), abs(place - 1)) for place in places) <= (0.05 if count == 2 else 0.15)
        assert axes.get_ylabel() == "f1 macro"


def test_the_sheet_of_attributes_takes_turns():
    """The net is surest about the 20 tags; the mistakes about shape are seen all the same."""
    groups = [
        Group("tags", tuple(f"tag {number}" for number in range(20)), True),
        Group("shape", ("a", "b"), False, 20),
    ]
    truth = np.zeros((30, 22))
    truth[:, 20] = 1
    said = np.zeros((30, 22), dtype=bool)
    said[:, :20] = True
    said[:3, 21] = True
    scores = np.full((30, 22), 0.99)
    scores[:3, 21] = (0.5, 0.7, 0.6)
    found = attributes._mistakes(groups, truth, said, scores)
    assert [group for _, group, *_ in found[:7]] == ["tags", "shape", "tags", "shape", "tags", "shape", "tags"]
    assert [mistake for mistake in found if mistake[1] == "shape"] == [
        (1, "shape", "is a", "said b", 0.7), (2, "shape", "is a", "said b", 0.6), (0, "shape", "is a", "said b", 0.5),
    ]  # fmt: skip
    assert len(found) == 603 and found[0][:4] == (0, "tags", "not tag 0", "said so")


FRUIT, TAGS = ("apple", "pear", "plum", "fig"), ("soft", "round", "rare")


@pytest.fixture(scope="module")
def tagged():
    """Four photos, a column of one fruit (`fig` is never said and no photo has it) and one of tags, and predictions:
    the first photo is wrong in all, `plum` and `rare` are said and no photo has them."""
    fruit, tags = ClassLabel(names=list(FRUIT)), List(ClassLabel(names=list(TAGS)))
    columns = {"image": Photo(), "source_row": Value("string"), "Fruit, fresh": fruit, "tags": tags}
    table = {
        "image": [Image.new("RGB", (8, 8))] * 4, "source_row": list("abcd"), "Fruit, fresh": [0, 1, 1, 1],
        "tags": [[0], [1], [1], [1]],
    }  # fmt: skip
    dataset = DatasetDict({"test": Dataset.from_dict(table, features=Features(columns))})
    groups = attributes.classes(dataset)
    truth = np.array([[1, 0, 0, 0, 1, 0, 0], *[[0, 1, 0, 0, 0, 1, 0]] * 3], dtype=float)
    scores = np.where(truth == 1, 0.9, 0.05)
    scores[0] = [0.1, 0.1, 0.8, 0, 0.1, 0.95, 0.9]
    label = ClassLabel(names=attributes.names(groups))
    kinds = {
        "split": Value("string"), "row": Value("int32"), "predictions": List(label),
        "references": List(Value("float32")), "scores": List(Value("float32")),
    }  # fmt: skip
    said = [np.flatnonzero(row > 0.5).tolist() for row in scores]
    rows = {"split": ["test"] * 4, "row": [0, 1, 2, 3], "predictions": said, "references": truth.tolist(),
            "scores": scores.tolist()}  # fmt: skip
    predictions = Dataset.from_dict(rows, features=Features(kinds))
    return dataset, predictions, attributes.evaluate(predictions, groups)


def title_of(figure):
    told = figure._suptitle.get_text() if figure._suptitle else figure.axes[0].get_title(loc="left")
    return told.replace("\n", " ")


def test_plots_of_attributes_are_called_by_attribute_and_say_what_they_do_not_show(tagged):
    dataset, predictions, results = tagged
    drawn = attributes.figures(predictions, results, dataset)
    assert drawn.keys() == {"f1_by_label", "confusion_matrix_fruit-fresh", "surest_mistakes"}
    matrix = drawn["confusion_matrix_fruit-fresh"]
    assert [label.get_text() for label in matrix.axes[0].get_yticklabels()] == ["apple", "pear", "plum"]
    assert title_of(matrix).endswith("n = 4; not shown: 1 value with no photo and no prediction")
    shown = [label.get_text().split("  ")[0] for label in drawn["f1_by_label"].axes[0].get_yticklabels()]
    assert sorted(shown) == ["Fruit, fresh: apple", "Fruit, fresh: pear", "tags: round", "tags: soft"]
    assert "n = 4; not shown: 3 labels with no photo" in title_of(drawn["f1_by_label"])
    sheet = drawn["surest_mistakes"]
    assert "Surest of 4 mistakes, one a photo" in title_of(sheet)
    assert [axes.get_title() for axes in sheet.axes if axes.get_title()] == ["Fruit, fresh\nis apple\nsaid plum 0.80"]
    for figure in drawn.values():
        refuse_overlaps(figure)


def test_names_of_attributes_that_look_alike_in_a_file_name_get_a_number():
    groups = [Group(name, ("a", "b"), False, 2 * place) for place, name in enumerate(["Größe", "Gr  e", "色", "形"])]
    groups.append(Group("tags", ("a",), True, 8))
    names = attributes._confusion_plots(groups)
    assert {plot.removeprefix("confusion_matrix_"): group.name for plot, group in names.items()} == {
        "gr-e": "Größe", "gr-e_2": "Gr  e", "2": "色", "3": "形",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["classification", "attributes"])
def test_a_table_has_no_figures_of_a_label_without_photos(kind):
    folder = Path(plots.__file__).parent / "templates"
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(folder)).get_template(f"figures_{kind}.md")
    text = template.render(
        results={"n": 9, "n/hat": 9, "n/shoe": 0}, labels=["hat", "shoe"], table_labels=["hat", "shoe"], headline=[],
        info={"protocol": "", "groups": {}, "plots": ["confusion_matrix_fruit"], "captions": None},
        md=str, share=lambda key: "0.50", fmt=None, plots="plots",
    )  # fmt: skip
    [hat, shoe] = [line for line in text.splitlines() if line.startswith(("| hat", "| shoe"))]
    assert "0.50 to 0.50 | 9 |" in hat and "0.50" not in shoe and shoe.endswith("– | 0 |")
    assert hat.count("|") == shoe.count("|")
    assert "![confusion matrix fruit](plots/confusion_matrix_fruit.png)" in text
