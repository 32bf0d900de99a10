"""What a zero-shot classifier says of the photos of a dataset, batch by batch, and how that stands against what is
known of them; `tag_tables` writes it down."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Image, Value
from tqdm.auto import tqdm

from hf_fashion import attributes, calibration, images, metrics, plots, zero_shot
from hf_fashion.attributes import Group
from hf_fashion.backbones.encoders import SentenceTransformer
from hf_fashion.columns import LABEL_COLUMNS, is_list
from hf_fashion.errors import InputError
from hf_fashion.report import DROP, PICTURE

SEPARATOR = "|"  # of several labels in a cell
BAR_FROM = 200  # photos
_THREADS = 8
_NAMED = 5  # photos in an error


def photo_logits(
    dataset: DatasetDict, encoder: SentenceTransformer, classes: np.ndarray, scale: zero_shot.Scale, *,
    batch_size: int = 32, on_bad_image: Literal["stop", "drop"] = "stop", limits: images.Limits = images.LIMITS,
) -> tuple[dict[str, np.ndarray], dict[str, list[int]], list[dict[str, str]]]:  # fmt: skip
    """What a zero-shot classifier says of each photo; no more than a batch of photos is in memory.

    Args:
        dataset: Splits of rows with `image` and `source_row`.
        encoder: Of photos and texts.
        classes: The vectors of the classes (K, d), of `zero_shot.class_vectors`.
        scale: The encoder's.
        batch_size: Photos in the encoder at once.
        on_bad_image: Photos that cannot be read stop it, or are left out.
        limits: See `images.decode`.

    Returns:
        By split the logits of the photos that can be read (n, K) in 32 bits, and the numbers of their rows; and the
        photos that were left out, with `split`, `where` and `reason`.

    Raises:
        InputError: A photo cannot be read.
    """
    found: dict[str, np.ndarray] = {}
    kept: dict[str, list[int]] = {}
    left: list[dict[str, str]] = []
    total = sum(map(len, dataset.values()))
    with tqdm(total=total, desc="looking at photos", unit="photo", disable=total < BAR_FROM) as bar:
        for split, rows in dataset.items():
            kept[split] = []
            parts = [np.empty((0, len(classes)), dtype=np.float32)]
            for start, names, pictures in _batches(rows, batch_size):
                decoded = _decoded(pictures, limits)
                bad = {names[place]: one for place, one in enumerate(decoded) if isinstance(one, str)}
                if bad and on_bad_image == "stop":
                    named = "; ".join(f"{name}: {reason}" for name, reason in [*bad.items()][:_NAMED])
                    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
                    raise InputError("photos", expected=PICTURE, found=named + more, fix=DROP)
                left += [{"split": split, "where": name, "reason": reason} for name, reason in bad.items()]
                read = [(start + place, one) for place, one in enumerate(decoded) if not isinstance(one, str)]
                if read:
                    vectors = encoder.encode(
                        [photo for _, photo in read], batch_size=batch_size, normalize_embeddings=True,
                        show_progress_bar=False,
                    )  # fmt: skip
                    parts.append(zero_shot.logits_of(vectors, classes, scale).astype(np.float32))
                    kept[split] += [place for place, _ in read]
                bar.update(len(names))
            found[split] = np.concatenate(parts)
    return found, kept, left


def _batches(rows: Dataset, size: int) -> Iterator[tuple[int, list[str], list[Any]]]:
    """The number of the first row of each batch, the names of its rows, the photos as they are stored."""
    held = rows.with_format(None).select_columns(["image", "source_row"]).cast_column("image", Image(decode=False))
    for start in range(0, len(held), size):
        part = held[start : start + size]
        yield start, list(map(str, part["source_row"])), part["image"]


def _decoded(pictures: Sequence[Any], limits: images.Limits) -> list[Any]:
    """Each photo, or why it cannot be read."""

    def decode(picture: Any) -> Any:
        try:
            return images.decode(picture, limits=limits)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(min(_THREADS, len(pictures))) as pool:
        return list(pool.map(decode, pictures))


@dataclass
class Truth:
    """What is known of photos.

    Args:
        texts: Split -> group -> the labels of each row, as they stand there; None where nothing is known. Groups of
            which the photos say nothing at all are missing.
        references: Split -> (n, K) of 1, 0 and NaN (not known).
        strange: Labels that are not among those asked for -> how many rows; of these the group is not known.
    """

    texts: dict[str, dict[str, list[list[str] | None]]]
    references: dict[str, np.ndarray]
    strange: Counter[str]

    def __bool__(self) -> bool:
        return any(not np.isnan(part).all() for part in self.references.values())


def label_column(dataset: DatasetDict, named: str | None = None) -> str | None:
    """The column that holds the label of a photo, where there is one.

    Raises:
        InputError: The one that is named is not there.
    """
    there = next(iter(dataset.values())).column_names
    if named is not None and named not in there:
        raise InputError(
            f"--label_column {named}", expected="a column of the photos", found=", ".join(there),
            fix="--label_column with one of these",
        )  # fmt: skip
    return named or next((name for name in LABEL_COLUMNS if name in there), None)


def texts_of(rows: Dataset, column: str, separator: str | None) -> list[list[str] | None]:
    """A column of labels as texts, several a row where it is one of lists or a cell is parted; None: not known."""
    feature = rows.features[column]
    inner = feature.feature if is_list(feature) else feature
    if not isinstance(inner, ClassLabel | Value):
        raise InputError(
            f"column {column}", expected="labels", found=str(feature), fix="--label_column with another column"
        )
    names = inner.names if isinstance(inner, ClassLabel) else None
    found: list[list[str] | None] = []
    for value in rows.with_format(None)[column]:
        each = value if is_list(feature) else [value]
        if each is not None and not is_list(feature) and separator and isinstance(value, str):
            each = value.split(separator)
        texts = [_text(one, names) for one in each or () if one is not None and one == one]
        texts = [text for text in texts if text]
        found.append(list(dict.fromkeys(texts)) if texts or is_list(feature) and each is not None else None)
    return found


def _text(value: Any, names: Sequence[str] | None) -> str:
    if names is not None:
        return names[value] if 0 <= value < len(names) else ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def truth_of(dataset: DatasetDict, groups: Sequence[Group], columns: Mapping[str, str | None]) -> Truth:
    """What photos say of themselves, by group; a group's labels are matched by name.

    Args:
        dataset: Splits of rows.
        groups: The groups of labels.
        columns: Group -> its column; None for one that the photos do not have.
    """
    made = Truth({}, {}, Counter())
    for split, rows in dataset.items():
        texts: dict[str, list[list[str] | None]] = {}
        references = np.full((len(rows), groups[-1].span.stop), np.nan)
        for group in groups:
            column = columns.get(group.name)
            if column is None:
                continue
            number = {label: place for place, label in enumerate(group.labels)}
            texts[group.name] = texts_of(rows, column, SEPARATOR if group.many else None)
            for row, labels in enumerate(texts[group.name]):
                strangers = [label for label in labels or () if label not in number]
                made.strange.update(strangers)
                if labels is None or strangers or not group.many and len(labels) != 1:
                    continue
                references[row, group.span] = 0
                references[row, [group.start + number[label] for label in labels]] = 1
        made.texts[split], made.references[split] = texts, references
    return made


def thresholds(
    groups: Sequence[Group], least_score: float | None, scores: Mapping[str, np.ndarray], truth: Truth,
    chosen_on: str | None,
) -> np.ndarray:  # fmt: skip
    """The score from which on each label is told (K,).

    Args:
        groups: The groups.
        least_score: The one that was asked for; None: of labels that exclude each other always the best is told.
        scores: Split -> (n, K).
        truth: Of these photos.
        chosen_on: Split on which the thresholds of labels that do not exclude each other are chosen, see
            `attributes.choose_thresholds`; None: they are 0.5.
    """
    if least_score is not None:
        return np.full(groups[-1].span.stop, least_score)
    chosen: Any = attributes.HALF
    if chosen_on is not None:
        chosen = attributes.choose_thresholds(scores[chosen_on], truth.references[chosen_on], groups)
    return np.where(_free(groups), chosen, -np.inf)


def _free(groups: Sequence[Group]) -> np.ndarray:
    """Which labels do not exclude each other (K,)."""
    return np.concatenate([np.full(len(group.labels), group.many) for group in groups])


def measure(
    scores: Mapping[str, np.ndarray], truth: Truth, groups: Sequence[Group], thresholds: np.ndarray, *,
    but: str | None = None, raw: Mapping[str, np.ndarray], are_probabilities: bool = True, seed: int = 0,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Figures and plots on what photos say of themselves: those of the test split where it says something, else all
    that say something but those of the split `but`, from which something was learned.

    Args:
        scores: Split -> (n, K).
        truth: Of these photos.
        groups: The groups.
        thresholds: Scores from which on labels are told (K,).
        but: The split that scores were calibrated on.
        raw: The checkpoint's own scores, beside calibrated ones, where it has any.
        are_probabilities: Whether `scores` are, so that it can be said how well they mean what they say.
        seed: Of the intervals.

    Returns:
        Figures: `split`, what was measured; those of `metrics.classification` for one group whose labels exclude each
        other, else those of `metrics.attributes`, the best label being said of each photo, sure or not; `ece`,
        `log_loss` and, of `raw`, `ece_before`, `log_loss_before`; where best labels may be below their threshold,
        `share_told`, the share that is not, and `accuracy_told`. And name -> matplotlib figure: confusions of each
        exclusive group, F1 by label of the others, the reliability of scores. Nothing when there is no truth.
    """
    splits = [split for split, part in truth.references.items() if not np.isnan(part).all() and split != but]
    splits = ["test"] if "test" in splits else splits
    if not splits:
        return {}, {}
    references = np.concatenate([truth.references[split] for split in splits])
    known = ~np.isnan(references).all(axis=1)
    references = references[known]
    told = np.concatenate([scores[split] for split in splits])[known]
    said = attributes.decide(told, groups, np.where(_free(groups), thresholds, -np.inf))
    figured: dict[str, Any] = {"split": ", ".join(splits)}
    if len(groups) == 1 and not groups[0].many:
        figured |= metrics.classification(told, references.argmax(axis=1), groups[0].labels, seed=seed)
    else:
        numbers = {group.name: range(group.start, group.span.stop) for group in groups}
        exclusive = [group.name for group in groups if not group.many]
        figured |= metrics.attributes(told, references, said, attributes.names(groups), numbers, exclusive, seed=seed)
    drawn = _drawn(references, said, figured, groups)
    single = [group for group in groups if not group.many]
    if single and np.isfinite(thresholds).all():
        best, right = calibration.told(told, references, single)
        sure = best >= thresholds.max()
        figured["share_told"] = float(sure.mean())
        figured["accuracy_told"] = float(right[sure].mean()) if sure.any() else None
    if are_probabilities:
        pairs = {"calibrated" if but else "not calibrated": (told, "")}
        if raw:
            pairs = {"before": (np.concatenate([raw[split] for split in splits])[known], "_before"), **pairs}
        series = {}
        for name, (one, ending) in pairs.items():
            series[name] = calibration.told(one, references, groups)
            figured[f"ece{ending}"] = calibration.expected_error(*series[name])
            figured[f"log_loss{ending}"] = calibration.log_loss(one, references, groups)
        drawn["reliability"] = calibration.reliability(
            series, f"Scores and truth, {figured['split']}, n = {known.sum()}"
        )
    return figured, drawn


def figures_told(figured: Mapping[str, Any]) -> str:
    """The figures of `measure` in lines, with their intervals."""
    shown = []
    for name in ("accuracy", "map", "f1_macro"):
        if figured.get(name) is not None:
            low, high = (figured.get(key) for key in metrics.interval_keys(name))
            shown.append(f"{name} {figured[name]:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else ""))
    lines = [f"measured: {', '.join(shown)}, on {figured['n']} photos of {figured['split']}"]
    for name, words in (("ece", "calibration error"), ("log_loss", "log loss")):
        if name in figured:
            before = figured.get(f"{name}_before")
            was = "" if before is None else f", before {before:.3f}"
            lines.append(f"          {words} {figured[name]:.3f}{was}")
    if figured.get("accuracy_told") is not None:
        share, right = figured["share_told"], figured["accuracy_told"]
        lines.append(f"          of those that are not left blank ({share:.1%}), {right:.1%} are right")
    return "\n".join(lines)


def _drawn(
    references: np.ndarray, said: np.ndarray, figured: Mapping[str, Any], groups: Sequence[Group]
) -> dict[str, Any]:
    where = figured["split"]
    made: dict[str, Any] = {}
    for place, group in enumerate(groups):
        known = ~np.isnan(references[:, group.span]).any(axis=1)
        if not known.any():
            continue
        title = f"{where}, n = {known.sum()}" if len(groups) == 1 else f"{group.name}, {where}, n = {known.sum()}"
        name = "" if len(groups) == 1 else f"_{place + 1}"
        if group.many:
            called = attributes.names(groups)[group.span]
            there = [label for label in called if figured[f"n/{label}"]][: plots.MOST_ROWS]
            value, low, high = ([figured[f"{key}/{label}"] for label in there] for key in ("f1", "f1_low", "f1_high"))
            counts = [figured[f"n/{label}"] for label in there]
            made[f"f1_by_label{name}"] = plots.intervals(there, value, low, high, counts, f"F1 by label, {title}")
        else:
            matrix = np.zeros((len(group.labels),) * 2, dtype=int)
            pairs = (part[known][:, group.span].argmax(axis=1) for part in (references, said))
            np.add.at(matrix, tuple(pairs), 1)
            made[f"confusion_matrix{name}"] = plots.confusion_matrix(
                matrix.tolist(), group.labels, f"Confusions, {title}"
            )
    return made


def decide(scores: np.ndarray, groups: Sequence[Group], thresholds: np.ndarray) -> np.ndarray:
    """(n, K) scores -> (n, K) bools: what is said; of an exclusive group nothing where its best score is too low."""
    return attributes.decide(scores, groups, thresholds) & (scores >= thresholds)
