"""Pictures: nothing lies on something else or is cut off, whatever the names are and however many."""

import itertools

import numpy as np
import pytest
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
    words = ["best of rows A", *["other rows"] * (count - 1)]
    return plots.comparison(NAMES[:count], values, [None] * count, words, "accuracy", "n from 80 to 316")


def swept(count):
    values = [[0.9 - 0.03 * place, 0.88 - 0.03 * place, 0.91 - 0.03 * place] for place in range(count)]
    points = [{"model": name, "mixup": str(place % 2)} for place, name in enumerate(NAMES[:count])]
    names = [str(place) for place in range(count)]
    return plots.sweep({"model": NAMES[:count], "mixup": ("0", "1")}, names, points, values, "accuracy")


def sheet(count):
    shapes = [(30, 60), (60, 20), (40, 40)]
    photos = [Image.new("RGB", shapes[number % 3]) for number in range(count)]
    return plots.photo_sheet(photos, [f"is {name}\nsaid {name} 0.98" for name in NAMES[:count]], "Surest of 12")


@pytest.mark.parametrize("count", [2, 5, 12])
@pytest.mark.parametrize("draw", [f1, confusions, compared, apart, swept, sheet])
def test_no_text_lies_on_another_or_is_cut_off(draw, count):
    refuse_overlaps(draw(count))


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
