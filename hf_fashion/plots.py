"""Figures that any task can use: plain data in, a `matplotlib.figure.Figure` out; nothing is shown or saved."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

# Rows of a plot beyond which it is cut to the weakest: a thousand classes do not fit on a page.
MOST_ROWS = 40
INK, GREY, BLUE, ORANGE = "#1f2430", "#8a8f99", "#2f6fde", "#d9762b"


def learning_curve(history: Sequence[Mapping[str, Any]], metric: str, best_step: int | None = None) -> Figure:
    """Loss on the left; the validation metric on the right; both over epochs.

    Args:
        history: `trainer.state.log_history`.
        metric: The metric to draw, as it is called there, without `eval_`.
        best_step: The step whose weights were kept; marked.
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
    kept = [entry["epoch"] for entry in history if entry.get("step") == best_step and f"eval_{metric}" in entry]
    if kept:
        value = next(
            entry[f"eval_{metric}"] for entry in history if entry["epoch"] == kept[0] and f"eval_{metric}" in entry
        )
        right.plot(kept[0], value, "o", color=ORANGE, markersize=9, label=f"kept: {value:.3f}", zorder=3)
    left.set_title("Loss", loc="left")
    right.set_title(f"{metric.replace('_', ' ').capitalize()} on validation", loc="left")
    for axes in (left, right):
        _plain(axes)
        if axes.has_data():
            axes.legend(frameon=False)
    return figure


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
    size = max(4.5, 0.55 * len(labels) + 2.2)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set_xticks(ticks, [_short(label) for label in labels], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [_short(label) for label in labels])
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
    """One row a name, best first: a dot at the value, a line over its interval, n beside the name."""
    order = np.argsort(values)
    figure = Figure(figsize=(7, max(2.4, 0.34 * len(names) + 1.2)), layout="constrained")
    axes = figure.subplots()
    for row, number in enumerate(order):
        axes.plot([low[number], high[number]], [row, row], color=BLUE, alpha=0.35, linewidth=5, solid_capstyle="round")
        axes.plot(values[number], row, "o", color=BLUE)
        axes.annotate(f"{values[number]:.2f}", (values[number], row), (0, 6), textcoords="offset points", ha="center",
                      fontsize=8, color=INK)  # fmt: skip
    axes.set_yticks(range(len(names)), [f"{_short(names[number])}  (n={counts[number]})" for number in order])
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.6, len(names) - 0.2)
    axes.set_title(title, loc="left")
    axes.grid(axis="x", color="#e6e8ec")
    _plain(axes)
    return figure


def photo_sheet(photos: Sequence[Image.Image], captions: Sequence[str], title: str, columns: int = 6) -> Figure:
    """Photos in a grid, a caption under each; with no photos a sheet that says so."""
    columns = min(columns, max(3, len(photos)))
    rows = max(1, -(-len(photos) // columns))
    figure = Figure(figsize=(columns * 1.75, rows * 2.35 + 0.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left")
    if not photos:
        figure.text(0.5, 0.4, "none", ha="center", color=GREY)
        return figure
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, photo, caption in zip(grid.flat, photos, captions, strict=False):
        thumbnail = photo.copy()
        thumbnail.thumbnail((256, 256))
        axes.imshow(thumbnail)
        axes.set_title("\n".join(_short(line, 26) for line in caption.splitlines()), fontsize=8, color=INK)
    return figure


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def _short(label: str, width: int = 28) -> str:
    # `$` starts mathematics in matplotlib, and a label may hold one.
    return textwrap.shorten(label, width, placeholder="…").replace("$", r"\$") or "…"
