"""Figures that any task can use: plain data in, a `matplotlib.figure.Figure` out; nothing is shown or saved."""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from PIL import Image

from hf_fashion.report import cell

# Rows of a plot beyond which it is cut to the weakest: a thousand classes do not fit on a page.
MOST_ROWS = 40
INK, GREY, BLUE, ORANGE = "#1f2430", "#8a8f99", "#2f6fde", "#d9762b"
LEAST_SPAN = 0.1  # of a curve's metric: below it one photo more would look like a leap
HALO = [withStroke(linewidth=2.6, foreground=INK)]  # so that a white line is seen on white
LETTER = 0.09  # inches that a letter of a title is wide, on average; one of a tick's label is 0.08


def learning_curve(
    history: Sequence[Mapping[str, Any]], metric: str, best_step: int | None = None, loss: str = "Loss"
) -> Figure:
    """Loss on the left; the validation metric on the right; both over epochs.

    Args:
        history: `trainer.state.log_history`.
        metric: The metric to draw, as it is called there, without `eval_`.
        best_step: The step whose weights were kept; marked.
        loss: Title of the left part.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    metric = metric.removeprefix("eval_")
    for axes, rows in (
        (left, [("loss", GREY, "training"), ("eval_loss", BLUE, "validation")]),
        (right, [(f"eval_{metric}", BLUE, "validation")]),
    ):
        for key, color, label in rows:
            points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, label=label, marker="o", markersize=3.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        _name_lone_points(axes)
    kept = [entry["epoch"] for entry in history if entry.get("step") == best_step and f"eval_{metric}" in entry]
    if kept:
        value = next(
            entry[f"eval_{metric}"] for entry in history if entry["epoch"] == kept[0] and f"eval_{metric}" in entry
        )
        right.plot(kept[0], value, "o", color=ORANGE, markersize=9, label=f"kept: {value:.3f}", zorder=3)
    if right.has_data() and metric != "loss":
        low, high = right.get_ylim()
        more = (LEAST_SPAN - (high - low)) / 2
        if more > 0:
            right.set_ylim(low - more, high + more)
    left.set_title(loss, loc="left", fontsize="medium" if len(loss) > 12 else None)
    right.set_title(f"{metric.replace('_', ' ').capitalize()} on validation", loc="left")
    for axes in (left, right):
        _plain(axes)
        if axes.has_data():
            axes.legend(frameon=False)
        else:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axes.transAxes)
    return figure


def _name_lone_points(axes: Any) -> None:
    """Of a single epoch there is no line: its dots are made larger, and their values stand beside them."""
    epochs = {float(x) for line in axes.lines for x in line.get_xdata()}
    if len(epochs) != 1:
        return
    [epoch] = epochs
    axes.set_xticks([epoch], [f"{epoch:.3g}"])
    axes.set_xlim(epoch - 1, epoch + 1)
    axes.margins(y=0.4)
    for number, line in enumerate(axes.lines):  # on either side: two losses may be equal
        line.set_markersize(9)
        value, side = float(line.get_ydata()[0]), 1 - 2 * (number % 2)
        axes.annotate(f"{value:.3f}", (epoch, value), (10 * side, 0), textcoords="offset points", va="center",
                      ha="left" if side > 0 else "right", color=INK)  # fmt: skip


def confusion_matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> Figure:
    """Counts in cells, shaded by the share of the true class (the row).

    Of more than `MOST_ROWS` classes the most confused ones are shown.
    """
    counts = np.asarray(matrix)
    if len(labels) > MOST_ROWS:
        wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
        kept = np.sort(np.argsort(-wrong, kind="stable")[:MOST_ROWS])
        title += f" (the {MOST_ROWS} most confused of {len(labels)} classes)"
        counts, labels = counts[np.ix_(kept, kept)], [labels[number] for number in kept]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # A square of cells, beside and below it the labels, and the colour bar.
    side = max(3.2, 0.55 * len(labels))
    title = textwrap.fill(title, int(side / LETTER))
    names = [_short(label) for label in labels]
    beside = 0.6 + 0.08 * max(map(len, names), default=0)
    below = 0.6 + 0.06 * max(map(len, names), default=0)
    figure = Figure(figsize=(beside + side + 1.2, side + below + 0.36 * (1 + title.count("\n"))), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, loc="left")
    if len(labels) <= 30:  # beyond that the numbers are specks
        for row, column in np.argwhere(counts > 0):
            axes.text(
                column, row, counts[row, column], ha="center", va="center", fontsize=9,
                color="white" if shares[row, column] > 0.55 else INK,
            )  # fmt: skip
    figure.colorbar(shown, ax=axes, shrink=0.75, label="share of the true class")
    return figure


def intervals(names: Sequence[str], values: Sequence[float], low: Sequence[float], high: Sequence[float],
              counts: Sequence[int], title: str) -> Figure:  # fmt: skip
    """One row a name, best first: a dot at the value, a line over its interval, n beside the name.

    The values stand in a column of their own on the right, where none lies on an axis or on another one. Intervals are
    those of `metrics`, and the title says of which two kinds: where no photo is wrong a draw of them shows no spread,
    so Wilson's takes its place, and fewer photos may seem to be surer.
    """
    order = np.argsort(values)
    figure = Figure(figsize=(7, max(2.4, 0.34 * len(names) + 1.2)), layout="constrained")
    axes = figure.subplots()
    for row, number in enumerate(order):
        axes.plot([low[number], high[number]], [row, row], color=BLUE, alpha=0.35, linewidth=5, solid_capstyle="round")
        axes.plot(values[number], row, "o", color=BLUE)
        axes.annotate(f"{values[number]:.2f}", (1, row), (6, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize=9, color=INK)  # fmt: skip
    axes.set_yticks(range(len(names)), [f"{_short(names[number])}  (n={counts[number]})" for number in order])
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.6, len(names) - 0.4)
    how = "(bootstrap; Wilson where all or none are right)"
    figure.suptitle(f"{textwrap.fill(title, 72)}\n{how}", x=0.01, ha="left")
    axes.grid(axis="x", color="#e6e8ec")
    _plain(axes)
    return figure


def photo_sheet(photos: Sequence[Image.Image], captions: Sequence[str], title: str, columns: int = 6) -> Figure:
    """Photos in a grid, a caption above each; with no photos a sheet that says so."""
    columns = min(columns, max(3, len(photos)))
    rows = max(1, -(-len(photos) // columns))
    figure = Figure(figsize=(columns * 1.75, rows * 2.35 + 0.4), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(columns * 1.75 / LETTER)), x=0.01, ha="left")
    if not photos:
        figure.text(0.5, 0.4, "none", ha="center", color=GREY)
        return figure
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
        axes.set_anchor("N")  # captions of a row at one height, whatever the shapes of its photos
    for axes, photo, caption in zip(grid.flat, photos, captions, strict=False):
        thumbnail = photo.copy()
        thumbnail.thumbnail((256, 256))
        axes.imshow(thumbnail)
        axes.set_title("\n".join(_short(line, 26) for line in caption.splitlines()), fontsize=8, color=INK)
    return figure


def precision_recall(recall: np.ndarray, precision: np.ndarray, labels: Sequence[str], counts: Sequence[int],
                     title: str) -> Figure:  # fmt: skip
    """A panel for the mean over classes and one a class, the best first; the average precision above each.

    Args:
        recall: 0 to 1 (points,).
        precision: The best one at each recall or above (classes, points); NaN of a class without boxes.
        labels: Class names.
        counts: Boxes of each.
        title: What was measured on, at which IoU.
    """
    means = precision.mean(axis=1)
    order = [number for number in np.argsort(-means, kind="stable") if np.isfinite(means[number])]
    if len(order) >= MOST_ROWS:
        title += f" (the {MOST_ROWS - 1} weakest of {len(order)} classes)"
    shown = order[1 - MOST_ROWS :]
    panels = [(f"mean of {len(order)} classes", precision[order].mean(axis=0), ORANGE)] if order else []
    panels += [(f"{_short(labels[number], 20)} (n={counts[number]})", precision[number], BLUE) for number in shown]
    columns = min(5, max(2, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(1.9 * columns + 0.4, 1.85 * rows + 0.8), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for place, (axes, (name, values, color)) in enumerate(zip(grid.flat, panels, strict=False)):
        axes.plot(recall, values, color=color, linewidth=1.6)
        axes.fill_between(recall, values, color=color, alpha=0.15, linewidth=0)
        axes.set_title(f"{name}\nAP {values.mean():.2f}", fontsize=8, color=INK)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=8)
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=8)
        axes.tick_params(labelbottom=place + columns >= len(panels))  # the lowest of its column
        axes.grid(color="#e6e8ec")
        _plain(axes)
    if panels:
        figure.supxlabel("recall: share of what is there that is found", fontsize=9)
        figure.supylabel("precision", fontsize=9)
    figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() / LETTER)), x=0.01, ha="left")
    return figure


def detection_errors(costs: Mapping[str, float], counts: Mapping[str, int], title: str) -> Figure:
    """A bar for each kind of error: by how much average precision would rise without it; how many beside its name.

    Args:
        costs: Kind -> rise, as a share.
        counts: Kind -> errors of that kind.
        title: What was measured on, at which IoU.
    """
    figure = Figure(figsize=(7, 0.4 * len(costs) + 1.5), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(costs)), list(costs.values()), color=ORANGE, height=0.6)
    for row, cost in enumerate(costs.values()):
        axes.annotate(f"{100 * cost:.1f}", (1, row), (6, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize=9, color=INK)  # fmt: skip
    axes.set_yticks(range(len(costs)), [f"{kind}  (n={counts[kind]})" for kind in costs])
    axes.set_ylim(len(costs) - 0.4, -0.6)
    axes.set_xlim(0, max(LEAST_SPAN, 1.1 * max(costs.values(), default=0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
    figure.supxlabel("average precision that it costs alone, in points", fontsize=9)
    figure.suptitle(textwrap.fill(title, int(7 / LETTER)), x=0.01, ha="left")
    axes.grid(axis="x", color="#e6e8ec")
    axes.set_axisbelow(True)
    _plain(axes)
    return figure


def boxes_on_photos(
    photos: Sequence[Image.Image],
    truth: Sequence[Sequence[tuple[Sequence[float], str, bool]]],
    predicted: Sequence[Sequence[tuple[Sequence[float], str, bool]]],
    captions: Sequence[str],
    title: str,
    columns: int = 4,
) -> Figure:
    """Photos in a grid with what is there and what a detector says; a caption above each.

    What is there and was found has no name: it is that of the box that found it. Names that would lie on one another
    are moved along their boxes, or left out where there is no room.

    Args:
        photos: Of any size.
        truth: For each the boxes that are there: left, top, width and height in its pixels, name, whether found.
        predicted: For each the boxes that the detector says: the same, name with score, whether it is right.
        captions: For each, lines.
        title: What the sheet shows.
        columns: Photos in a row.
    """
    columns = min(columns, max(2, len(photos)))
    rows = max(1, -(-len(photos) // columns))
    width = 2.7
    tallest = max((photo.height / photo.width for photo in photos), default=1.0)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    height = width * min(max(tallest, 0.6), 1.6) + 0.2 * lines
    figure = Figure(figsize=(columns * width, rows * height + 0.9), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(columns * width / LETTER)), x=0.01, ha="left")
    if not photos:
        figure.text(0.5, 0.4, "none", ha="center", color=GREY)
        return figure
    styles: dict[str, dict[str, Any]] = {
        "said, right": {"edgecolor": BLUE, "linewidth": 1.8},
        "said, wrong": {"edgecolor": ORANGE, "linewidth": 1.8},
        "there, missed": {"edgecolor": "white", "linewidth": 1.6, "linestyle": (0, (4, 3)), "path_effects": HALO},
        "there, found": {"edgecolor": "white", "linewidth": 0.9, "linestyle": (0, (1, 2)), "path_effects": HALO},
    }
    handles = [Rectangle((0, 0), 1, 1, fill=False, label=name, **style) for name, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8, handlelength=2.6)
    grid = figure.subplots(rows, columns, squeeze=False)
    named: list[tuple[Any, Sequence[float], str, str]] = []
    for axes in grid.flat:
        axes.axis("off")
        axes.set_anchor("N")
    for axes, photo, there, said, caption in zip(grid.flat, photos, truth, predicted, captions, strict=False):
        thumbnail = photo.convert("RGB")
        thumbnail.thumbnail((512, 512))
        axes.imshow(thumbnail, extent=(0, photo.width, photo.height, 0))
        axes.set_title("\n".join(_short(line, 34) for line in caption.splitlines()), fontsize=8, color=INK)
        drawn = [
            (box, "" if found else name, f"there, {'found' if found else 'missed'}") for box, name, found in there
        ]
        drawn += [(box, name, f"said, {'right' if right else 'wrong'}") for box, name, right in said]
        for box, name, kind in sorted(drawn, key=lambda one: list(styles).index(one[2]), reverse=True):
            axes.add_patch(Rectangle((box[0], box[1]), box[2], box[3], fill=False, **styles[kind]))
            if name:
                named.append((axes, box, name, kind))
        axes.set_xlim(0, photo.width)
        axes.set_ylim(photo.height, 0)
    _name_boxes(figure, named[::-1])
    return figure


def _name_boxes(figure: Figure, named: Sequence[tuple[Any, Sequence[float], str, str]]) -> None:
    """Writes names at the edges of their boxes, inside the photo, none on another one; the first ones first."""
    figure.draw_without_rendering()  # places are known once all is laid out
    figure.set_layout_engine("none")
    colors = {"said, right": ("white", BLUE), "said, wrong": (INK, ORANGE), "there, missed": (INK, "white")}
    taken: dict[Any, list[Bbox]] = {}
    for axes, (left, top, width, height), name, kind in named:
        ink, ground = colors[kind]
        text = axes.text(
            0, 0, _short(name, 26), fontsize=6, color=ink, va="top", clip_on=True,
            bbox={"facecolor": ground, "edgecolor": "none", "pad": 0.8, "alpha": 0.9},
        )  # fmt: skip
        inside, size = axes.bbox, text.get_window_extent().padded(1.5)
        x0, y0 = axes.transData.transform((left, top + height))
        x1, y1 = axes.transData.transform((left + width, top))
        across = np.clip([x0, x1 - size.width], inside.x0, inside.x1 - size.width)
        down = np.clip(np.arange(y1, y0 + size.height - 1, -size.height) if y1 > y0 else [y1], inside.y0 + size.height,
                       inside.y1)  # fmt: skip
        above = min(y1 + size.height, inside.y1)
        for x, y in [(x, y) for y in (*down, above) for x in across]:
            box = Bbox.from_bounds(x, y - size.height, size.width, size.height)
            if not any(box.overlaps(other) for other in taken.setdefault(axes, [])):
                taken[axes].append(box)
                text.set_position(axes.transData.inverted().transform((x + 1.5, y - 1.5)))
                break
        else:
            text.remove()


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def _short(label: str, width: int = 28) -> str:
    # Cut in the middle: names of one family differ at their ends. `$` starts mathematics in matplotlib.
    cut = cell(" ".join(label.split()), width)
    return " ".join(cut.split()).replace("$", r"\$") or "…"


def comparison(
    names: Sequence[str],
    values: Sequence[tuple[float, float | None, float | None]],
    gaps: Sequence[Mapping[str, Any] | None],
    words: Sequence[str],
    metric: str,
    title: str,
    rows: Sequence[str] | None = None,
) -> Figure:
    """A row a model, the first on top: its figure on the left, on the right how far it is behind the best.

    Args:
        names: The models, best first.
        values: The figure of each, and the ends of its interval (None for none).
        gaps: For each the pair (best, this one) as `metrics.paired` gives it; None for the best itself, and for one
            that is not compared.
        words: What stands on the right in place of a gap; behind the names where there is no gap at all.
        metric: The name of the figure.
        title: What was measured on.
        rows: What each was measured on, where it is not the same for all; behind its name.
    """
    cut = len(names) - MOST_ROWS
    if cut > 0:
        title += f" (the first {MOST_ROWS} of {len(names)})"
        names, values, gaps, words = names[:MOST_ROWS], values[:MOST_ROWS], gaps[:MOST_ROWS], words[:MOST_ROWS]
        rows = rows and rows[:MOST_ROWS]
    paired = any(gaps)
    width = 11 if paired else 8.5
    figure = Figure(figsize=(width, 1.5 + 0.55 * len(names)), layout="constrained")
    title = f"{metric.replace('_', ' ').capitalize()}, {title}".rstrip(", ")
    figure.suptitle(textwrap.fill(title, int(width / LETTER)), x=0.01, ha="left")
    panels = figure.subplots(1, 1 + paired, sharey=True, squeeze=False)[0]
    left = panels[0]
    for row, (value, low, high) in enumerate(values):
        _interval_row(left, row, value, low, high, BLUE, f"{value:.3f}")
    shown = [_short(name, 44) for name in names]
    behind_names = list(rows or [""] * len(names))
    if paired:
        right = panels[1]
        for row, (gap, word) in enumerate(zip(gaps, words, strict=True)):
            if gap is None:
                right.annotate(word, (0, row), (-8, 0), textcoords="offset points", ha="right", va="center",
                               fontsize=9, color=GREY)  # fmt: skip
                continue
            # Seen from this model: the pair's difference is the best minus this one.
            behind, low, high = (-100 * gap[key] for key in ("difference", "difference_high", "difference_low"))
            behind = round(behind, 1) or 0.0  # never -0.0
            said = f"a tie ({behind:+.1f})" if gap["tie"] else f"worse by {-behind:.1f}"
            _interval_row(right, row, behind, low, high, GREY if gap["tie"] else ORANGE, said)
        right.axvline(0, color=INK, linewidth=0.8, zorder=1)
        right.set_title("Difference to the best, in points", loc="left")
        right.tick_params(left=False)
    else:
        behind_names = [", ".join(filter(None, told)) for told in zip(words, behind_names, strict=True)]
    shown = [f"{name}  ({told})" if told else name for name, told in zip(shown, behind_names, strict=True)]
    left.set_yticks(range(len(names)), shown)
    left.set_ylim(len(names) - 0.5, -0.7)
    for axes in panels:
        axes.grid(axis="x", color="#e6e8ec")
        axes.set_axisbelow(True)
        axes.margins(x=0.12)
        _plain(axes)
    return figure


def _interval_row(
    axes: Any, row: int, value: float, low: float | None, high: float | None, color: str, said: str
) -> None:
    if low is not None and high is not None:
        axes.plot([low, high], [row, row], color=color, alpha=0.4, linewidth=5, solid_capstyle="round")
    axes.plot(value, row, "o", color=color)
    axes.annotate(said, (value, row), (0, 7), textcoords="offset points", ha="center", fontsize=8, color=INK,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip


def sweep(
    settings: Mapping[str, Sequence[str]],
    names: Sequence[str],
    points: Sequence[Mapping[str, str]],
    values: Sequence[Sequence[float]],
    metric: str,
    log: Collection[str] = (),
) -> Figure:
    """A panel a setting: the mean of each point and its spread over the seeds, against the value of that setting.

    Args:
        settings: Setting -> its values; none for a range of numbers.
        names: What stands over each point, where there is room; the best first.
        points: The value of every setting, for each point.
        values: The metric on validation with each seed, for each point.
        metric: Its name.
        log: The ranges that are drawn on a log scale.
    """
    columns, rows = min(3, len(settings)), -(-len(settings) // 3)
    width = max(6.5, 4.2 * columns)
    figure = Figure(figsize=(width, 0.9 + 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for spare in panels[len(settings) :]:
        spare.axis("off")
    labels, taken = [], []
    for axes, (name, choices) in zip(panels, settings.items(), strict=False):
        ticks = _ordered(choices, [point[name] for point in points])
        for number in reversed(range(len(points))):  # the best on top
            value, seeds, color = points[number][name], values[number], BLUE if number else ORANGE
            if choices:  # points that share a value lie beside each other, the best on the left
                mates = [mate for mate, point in enumerate(points) if point[name] == value]
                # So close to their tick that none is taken for one of another value, which a trend is read off.
                wide = min(0.3, 0.08 * len(mates))
                place = ticks.index(value) + wide * ((mates.index(number) + 0.5) / len(mates) - 0.5)
            else:
                place = float(value)
            mean, std = float(np.mean(seeds)), float(np.std(seeds, ddof=1)) if len(seeds) > 1 else 0.0
            ends = min(mean - std, *seeds), max(mean + std, *seeds)
            if len(seeds) > 1:
                axes.plot([place, place], [mean - std, mean + std], color=color, alpha=0.35, linewidth=5,
                          solid_capstyle="butt")  # fmt: skip
                axes.plot([place] * len(seeds), seeds, "_", color=INK, markersize=8, markeredgewidth=1, zorder=3)
            axes.plot(place, mean, "o", color=color, zorder=4)
            if number < MOST_ROWS:
                label = axes.annotate(names[number], (place, ends[1]), (0, 5), textcoords="offset points", ha="center",
                                      fontsize=7, color=INK)  # fmt: skip
                labels.append(label)
            taken.append((axes, place, *ends))
        if choices:
            shown = [_short(choice, 24) for choice in ticks]
            crowded = sum(len(text) + 2 for text in shown) * 0.08 > width / columns - 0.8
            turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
            axes.set_xticks(range(len(ticks)), shown, **turned)
            axes.set_xlim(-0.6, len(ticks) - 0.4)
        elif name in log:
            axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.grid(axis="both" if choices else "y", color="#e6e8ec")
        axes.set_axisbelow(True)
        axes.margins(y=0.12)
        _plain(axes)
    for axes in panels[::columns]:
        axes.set_ylabel(metric.replace("_", " "))
    several = any(len(seeds) > 1 for seeds in values)
    told = ", bar = one standard deviation, dash = a seed" if several else ""
    title = f"{metric.replace('_', ' ').capitalize()} on validation (number = point, orange = the best, "
    title += f"{np.mean(values[0]):.3f}{told})"
    figure.suptitle(textwrap.fill(title, int(width / LETTER)), x=0.01, ha="left")
    _keep_apart(figure, labels[::-1], taken)
    return figure


def _ordered(choices: Sequence[str], best_first: Sequence[str]) -> list[str]:
    """The values of a setting: numbers by size, since a trend is read off them; words in the order of their best."""
    try:
        return sorted(choices, key=float)
    except ValueError:
        return sorted(choices, key=[*best_first, *choices].index)


def _keep_apart(figure: Figure, labels: Sequence[Any], taken: Sequence[tuple[Any, float, float, float]]) -> None:
    """Removes the labels that would lie on a point (axes, x, its lowest and highest y) or on a label before them."""
    figure.draw_without_rendering()  # places are known once all is laid out
    boxes = []
    for axes, x, low, high in taken:
        left, bottom = axes.transData.transform((x, low))
        boxes.append(Bbox([[left - 5, bottom - 4], [left + 5, axes.transData.transform((x, high))[1] + 4]]))
    for label in labels:
        box = label.get_window_extent().expanded(1.5, 1)  # two numbers side by side would be read as one
        if any(box.overlaps(other) for other in boxes):
            label.remove()
        else:
            boxes.append(box)
