"""Sheets of searches: what was asked on the left, what was found beside it, right answers framed."""

from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Image
from matplotlib.figure import Figure

from hf_fashion import images

ROWS, ANSWERS = 8, 5
SIDE = 160  # pixels of a photo's longer side
RIGHT, WRONG = "#1b7837", "#b2182b"


def draw(
    dataset: DatasetDict, split: str, rows: Dataset, *, limits: images.Limits = images.LIMITS, seed: int = 0
) -> dict[str, Figure]:
    """`found`: searches drawn by chance; `not_found`: those whose first right answer stands last.

    Args:
        dataset: The photos, and `gallery` where there is one.
        split: Of the queries.
        rows: Of predictions.parquet, of one split and one search.
        limits: See `images.decode`.
        seed: Of the draw.
    """
    plain = rows.with_format(None)
    places = {f"gallery:{name}": ("gallery", row) for row, name in enumerate(_names(dataset.get("gallery")))}
    places |= {name: (split, row) for row, name in enumerate(_names(dataset[split]))}
    first = np.asarray([min(ranks) for ranks in plain["ranks"]])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(first))[:ROWS])
    worst = [int(row) for row in np.argsort(-first, kind="stable")[:ROWS] if first[row] > 1]
    n = f"{split} split, n = {len(first)} searches"
    made = {"found": _sheet(dataset, places, plain, chosen.tolist(), f"Searches drawn by chance, {n}", limits)}
    if worst:
        title = f"The searches that went worst, {n}"
        made["not_found"] = _sheet(dataset, places, plain, worst, title, limits)
    return made


def _names(rows: Dataset | None) -> list[str]:
    return [] if rows is None else [str(name) for name in rows.with_format(None)["source_row"]]


def _sheet(
    dataset: DatasetDict, places: dict[str, tuple[str, int]], rows: Dataset, chosen: list[int], title: str,
    limits: images.Limits,
) -> Figure:  # fmt: skip
    figure = Figure(figsize=(1.5 * (ANSWERS + 1) + 0.6, 1.9 * len(chosen) + 0.7), layout="constrained")
    grid: Any = figure.subplots(len(chosen), ANSWERS + 1, squeeze=False)
    for line, number in zip(grid, chosen, strict=True):
        row = rows[number]
        right = _right(row)
        asked = line[0]
        asked.axis("off")
        composed = row["search"].startswith("composed/")
        if row["text"] and not composed:
            asked.text(
                0.5, 0.5, _wrapped(row["text"]), ha="center", va="center", fontsize=8, transform=asked.transAxes
            )
        else:
            asked.imshow(_photo(dataset, places[row["query"]], limits))
        words = f"\n{_wrapped(row['text'], width=26, most=3)}" if composed else ""
        asked.set_title(f"asked; right at {min(row['ranks'])}{words}", fontsize=7)
        for place, axes in enumerate(line[1:]):
            axes.set_xticks([])
            axes.set_yticks([])
            if place >= len(row["found"]):
                axes.axis("off")
                continue
            axes.imshow(_photo(dataset, places[row["found"][place]], limits))
            color = RIGHT if place + 1 in right else WRONG
            for spine in axes.spines.values():
                spine.set(color=color, linewidth=2.5)
            sign = "right" if place + 1 in right else "wrong"
            axes.set_title(f"{place + 1}: {sign}, {row['scores'][place]:.2f}", fontsize=7, color=color)
    figure.suptitle(title, fontsize=10)
    return figure


def _right(row: dict[str, Any]) -> set[int]:
    return set(row["ranks"])


def _photo(dataset: DatasetDict, place: tuple[str, int], limits: images.Limits) -> Any:
    split, row = place
    rows = dataset[split].with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))
    photo = images.decode(rows[row]["image"], limits=limits).convert("RGB")
    photo.thumbnail((SIDE, SIDE))
    return photo


def _wrapped(text: str, width: int = 18, most: int = 6) -> str:
    lines: list[str] = [""]
    for word in text.replace("$", r"\$").split():
        if len(lines[-1]) + len(word) > width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines[:most])
