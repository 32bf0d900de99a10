"""Zero-shot classification: an encoder of photos and texts tells classes by their names, without having learned them.

A class is the mean of the vectors of sentences with its name, and a photo's score for it is their cosine. How a score
is made of a cosine is the checkpoint's own affair: CLIP multiplies it and takes a softmax over the classes (Radford et
al., 2021, arXiv 2103.00020), SigLIP multiplies it, adds an offset and takes a sigmoid for each class (Zhai et al.,
2023, arXiv 2303.15343); an encoder trained for search alone has neither, and its cosines are no probabilities until
`hf_fashion.calibration` makes them so. With one sentence the scores are those of bare transformers.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hf_fashion import attributes
from hf_fashion.attributes import Group
from hf_fashion.backbones.encoders import Normalize, SentenceTransformer, Transformer, picture_net, takes_texts
from hf_fashion.errors import InputError
from hf_fashion.report import cell

GROUP, GROUP_OF_SEVERAL = "label", "labels"  # the one group, where none is named
_ARTICLE = re.compile(r"(an?|the|some)\s", re.IGNORECASE)
_COLUMNS = ("label", "words", "group")  # of a file of labels
_MOST_SENTENCES = 100_000


@dataclass(frozen=True)
class Scale:
    """How a checkpoint makes scores of cosines.

    Args:
        kind: `softmax` over the labels of a group, `sigmoid` of each label, or `cosine`: it has no way of its own.
        factor: By which a cosine is multiplied.
        bias: What is added then.
    """

    kind: Literal["softmax", "sigmoid", "cosine"]
    factor: float = 1.0
    bias: float = 0.0


def scale_of(encoder: SentenceTransformer) -> Scale:
    """The scale that the net of an encoder learned, where its vectors are the net's own.

    A layer behind the net, or another net for texts, makes other cosines than those that the scale was learned for.
    """
    net = picture_net(encoder)
    bare = all(isinstance(module, (Transformer, Normalize)) for module in encoder.children())
    if net is None or not bare or not hasattr(net, "logit_scale"):
        return Scale("cosine")
    with torch.no_grad():
        factor = float(torch.as_tensor(net.logit_scale).float().exp())
        bias = getattr(net, "logit_bias", None)
        return Scale("softmax", factor) if bias is None else Scale("sigmoid", factor, float(bias))


def sentence(template: str, words: str) -> str:
    """A template with words in the place of `{}`; an article that the words bring themselves takes the place of the
    template's: `a photo of a {}.` and `some trousers` become `a photo of some trousers.`"""
    if _ARTICLE.match(words):
        template = re.sub(r"\b(an?|the)\s+\{\}", "{}", template, flags=re.IGNORECASE)
    return template.replace("{}", words)


def refuse_templates(templates: Sequence[str]) -> None:
    """Raises InputError for templates without a place for the class, or none at all."""
    odd = [template for template in templates if template.count("{}") != 1]
    if odd or not templates:
        raise InputError(
            "--templates", expected="sentences, each with {} once, where the class stands",
            found=cell(odd[0]) if odd else "none", fix='--templates "a photo of a {}."',
        )  # fmt: skip


def class_vectors(encoder: SentenceTransformer, words: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """The vectors of classes: of each sentence of length 1, their mean, of length 1 again (Radford et al., 2021).

    Without the first step sentences would weigh by the lengths of their vectors, without the second classes would be
    favoured whose sentences agree.

    Args:
        encoder: One that takes texts.
        words: What stands for each class in the sentences.
        templates: Sentences with `{}` in the place of the words.

    Returns:
        (classes, dimension) 32-bit floats.

    Raises:
        InputError: The encoder takes photos alone; a template has no place for the class.
    """
    if not takes_texts(encoder):
        raise InputError(
            "the model", expected="an encoder of photos and texts (CLIP, SigLIP, or trained by hf-fashion retrieve "
            "with texts)", found="one of photos alone", fix="another model",
        )  # fmt: skip
    refuse_templates(templates)
    if not 0 < len(words) * len(templates) <= _MOST_SENTENCES:
        raise InputError(
            "labels and templates", expected=f"1 to {_MOST_SENTENCES} sentences",
            found=f"{len(words)} labels x {len(templates)} templates", fix="fewer of one of them",
        )  # fmt: skip
    texts = [sentence(template, word) for word in words for template in templates]
    made = encoder.encode(texts, batch_size=256, normalize_embeddings=True, show_progress_bar=False)
    each = np.asarray(made, dtype=np.float64).reshape(len(words), len(templates), -1)
    mean = each.mean(axis=1)
    return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


def logits_of(photos: np.ndarray, classes: np.ndarray, scale: Scale) -> np.ndarray:
    """Vectors of photos (n, d) and of classes (K, d), both of length 1 -> the checkpoint's logits (n, K); the cosines
    where it has no scale."""
    return scale.factor * (np.asarray(photos, dtype=np.float64) @ np.asarray(classes, dtype=np.float64).T) + scale.bias


def scores_of(logits: np.ndarray, groups: Sequence[Group], scale: Scale) -> np.ndarray:
    """Logits -> scores (n, K) as the checkpoint makes them, not calibrated.

    Raises:
        InputError: A photo may have several labels, and the checkpoint cannot score one by itself.
    """
    refuse_several(groups, scale)
    if scale.kind == "cosine":
        return logits
    if scale.kind == "sigmoid":
        return torch.as_tensor(logits, dtype=torch.float64).sigmoid().numpy()
    return attributes.probabilities(logits, groups)


def has_scores(groups: Sequence[Group], scale: Scale) -> bool:
    """Whether the checkpoint itself makes probabilities for such groups, calibrated or not."""
    return scale.kind == "sigmoid" or scale.kind == "softmax" and not any(group.many for group in groups)


def refuse_several(groups: Sequence[Group], scale: Scale) -> None:
    """Raises InputError where a photo may have several labels, and the checkpoint cannot score one by itself."""
    if any(group.many for group in groups) and not has_scores(groups, scale):
        how = "compares the labels of a group with each other" if scale.kind == "softmax" else "has no scale at all"
        raise InputError(
            "several labels a photo",
            expected="a checkpoint that scores each label by itself (SigLIP), or photos with labels to calibrate on",
            found=f"a checkpoint that {how}, and none", fix="--calibrate_on validation, or leave --several out",
        )  # fmt: skip


def read_labels(given: Sequence[str], *, several: bool = False) -> tuple[list[Group], list[str]]:
    """Labels as they are typed, `dress` or `t-shirt=short-sleeved t-shirt` -> the one group, and the words of each."""
    rows = []
    for one in given:
        name, equals, words = one.partition("=")
        rows.append({"label": name.strip(), "words": words.strip()} if equals else {"label": one.strip()})
    return _groups(rows, "--labels", several)


def of_names(names: Sequence[str], what: str, *, several: bool = False) -> tuple[list[Group], list[str]]:
    """Labels that need no words, whatever is in their names; `what` is where they are from, for errors."""
    return _groups([{"label": name} for name in names], what, several)


def read_labels_file(path: str | Path, *, several: bool = False) -> tuple[list[Group], list[str]]:
    """Reads labels from a file: lines as of `read_labels`, or a CSV with the columns `label` and, if wanted, `words`
    and `group` (colour, sleeve, ...: each group is told by itself).

    Args:
        path: A file; one that ends in .csv must have a first line with the names of its columns.
        several: Whether a photo may have several labels of a group, or none.

    Returns:
        The groups, and what stands for each of their labels in sentences, in the order of the logits.

    Raises:
        InputError: It cannot be read, or a label is missing or there twice.
    """
    what = f"--labels_file {path}"
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        found = "other bytes" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
        raise InputError(what, expected="a text file in UTF-8", found=found, fix="name another file") from error
    if Path(path).suffix.lower() != ".csv":
        lines = [line for line in text.splitlines() if line.strip()]
        groups, words = read_labels(lines, several=several)
        return groups, words
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = [name.strip() for name in reader.fieldnames or ()]
    odd = sorted(set(names) - {*_COLUMNS})
    if "label" not in names or odd:
        raise InputError(
            f"{what}, line 1", expected="the columns label and, if wanted, words, group", found=", ".join(names),
            fix="write such a line; or call it .txt, with one label a line",
        )  # fmt: skip
    reader.fieldnames = names
    try:
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"{what}, line {reader.line_num}", expected=f"{len(names)} cells", found="more" if None in row else
                    "fewer", fix="mend the line (a cell that holds a comma needs quotes)",
                )  # fmt: skip
            rows.append({name: value.strip() for name, value in row.items()})
    except csv.Error as error:
        raise InputError(f"{what}, line {reader.line_num}", expected="CSV", found=str(error), fix="mend it") from error
    return _groups(rows, what, several)


def _groups(rows: Sequence[Mapping[str, str]], what: str, several: bool) -> tuple[list[Group], list[str]]:
    """Groups in the order in which they are named first, and the words of their labels."""
    usual = GROUP_OF_SEVERAL if several else GROUP
    made: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, 1):
        label, group = row["label"], row.get("group", usual)
        labels = made.setdefault(group, {})
        if not label or not group or label in labels or "|" in label:
            found = "an empty one" if not label else "an empty group" if not group else cell(label)
            found += " twice" if label in labels else ", with a |, which parts labels" if "|" in label else ""
            raise InputError(
                f"{what}, label {number}", expected="a name, each once in its group", found=found, fix="mend it"
            )
        labels[label] = row.get("words") or label.replace("_", " ")
    groups: list[Group] = []
    for name, labels in made.items():
        start = groups[-1].span.stop if groups else 0
        groups.append(Group(name, tuple(labels), several, start))
    few = [group.name for group in groups if len(group.labels) < 2 and not several]
    if few or not groups:
        raise InputError(
            what, expected="two labels or more, to choose between", found=f"one in {few[0]}" if few else "none",
            fix="--labels dress shirt skirt; or --several, where a photo may have none of them",
        )  # fmt: skip
    return groups, [words for labels in made.values() for words in labels.values()]
