"""Retrieval: photos of one item find each other, and words find photos."""

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Dataset, DatasetDict

from hf_fashion import images, plots, record, search_sheets, searches
from hf_fashion.arguments import CardArguments, DatasetArguments, SplitArguments
from hf_fashion.backbones.encoders import SentenceTransformer, StaticEmbedding, picture_net, takes_texts
from hf_fashion.backbones.sources import EMBEDDED, ENCODER_FILES, find
from hf_fashion.errors import InputError, in_range
from hf_fashion.items import with_words
from hf_fashion.protocols import Protocol


@dataclass
class PhotoArguments(DatasetArguments):
    """Settings that say which photos, items and texts."""

    _argument_group_name = "photos"

    dataset: str = field(
        default="sample",
        metadata={
            "help": "Photos with a column item_id, a column text, or both: a Hub id, a folder with metadata.csv, "
            "parquet, CSV, 'sample' (two views of each photo that ships with hf_fashion), or the raw files of a "
            "public dataset: NAME:FOLDER with inshop, consumer_to_shop, fashion200k, fashion_iq, hm or "
            "fashion_product_images for NAME. A column role (query, gallery) in validation and test says which photos "
            "ask, and which are searched."
        },
    )
    item_column: str | None = field(
        default=None, metadata={"help": "Column that is equal for photos of one item. Default: item_id."}
    )
    text_column: str | None = field(
        default=None, metadata={"help": "Column of texts. Default: text, if there is one."}
    )
    shared_items: bool = field(
        default=False,
        metadata={"help": "Items are classes, that lie in all splits: neighbours are of the same class."},
    )
    gallery: str | None = field(
        default=None, metadata={"help": "A dataset of more photos that are searched (distractors), in measuring."}
    )
    gallery_config: str | None = field(default=None, metadata={"help": "Which configuration of it."})


@dataclass
class Arguments(PhotoArguments, SplitArguments, CardArguments):
    """Settings of the recipe."""

    _argument_group_name = "photos, model and method"

    model: str = field(
        default="efficientnet-lite0",
        metadata={
            "help": "What to start from: a Hub id or a folder of an encoder (sentence-transformers), of CLIP or "
            "SigLIP, of a classifier or its backbone; timm/<name>; efficientnet-lite0."
        },
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    text_model: str | None = field(
        default=None,
        metadata={
            "help": "What reads texts, where the model takes photos alone: a Hub id or a folder (a multilingual one, "
            "say); words: made anew from the training texts. Default: words where texts are matched."
        },
    )
    text_model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of it."})
    match: Literal["auto", "image", "text", "both", "composed"] = field(
        default="auto",
        metadata={
            "help": "What is brought together: photos of one item, photos and their texts, or both in turns; "
            "composed: a photo with words on what is to be different, and the photo that they ask for (a column "
            "relative_captions, as of fashion_iq). Default: what the photos have."
        },
    )
    dimension: int | None = field(
        default=None,
        metadata={"help": "Numbers of a vector: a new last layer. Default: the net's own; 256 with texts."},
    )
    freeze: str = field(
        default="none",
        metadata={"help": "What does not learn of the net that sees: none of it, backbone, or stages:N."},
    )
    image_size: int | None = field(default=None, metadata={"help": "Pixels of the sides that the net sees."})
    resize: Literal["keep", "squash", "crop", "pad"] = field(
        default="keep", metadata={"help": "How a photo becomes a square. Default: as the model's processor does."}
    )
    loss: Literal["contrastive", "sigmoid", "triplet"] = field(
        default="contrastive",
        metadata={
            "help": "contrastive: tell the right answer from all others of the batch, both ways (as CLIP); sigmoid: "
            "each pair by itself (as SigLIP); triplet: nearer than a wrong one, with --hard_negatives."
        },
    )
    temperature: float = field(
        default=0.05, metadata={"help": "Of contrastive, and of sigmoid at its start; SigLIP begins with its own."}
    )
    margin: float = field(default=0.2, metadata={"help": "Of triplet, in cosine distance."})
    hard_negatives: int = field(
        default=0,
        metadata={
            "help": "Of each photo so many nearest of other items, as the untrained encoder sees them: one of them is "
            "the wrong answer of its pair. 0: the batch alone."
        },
    )
    teacher: str | None = field(
        default=None,
        metadata={"help": "A larger encoder to learn from, beside --loss: a Hub id or a folder (distillation)."},
    )
    teacher_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of it."})
    teacher_weight: float = field(
        default=0.5, metadata={"help": "Its share of the loss, 0 to 1; 1: it alone, whatever belongs together."}
    )
    lora_rank: int | None = field(
        default=None, metadata={"help": "LoRA: freeze the nets, learn matrices of this rank beside them; usual: 8."}
    )
    lora_alpha: float = field(default=16.0, metadata={"help": "LoRA's scale."})
    mini_batch_size: int | None = field(
        default=None,
        metadata={"help": "Pairs in memory at a time, so that batches may be of any size (GradCache); same result."},
    )
    matryoshka: list[int] | None = field(
        default=None,
        metadata={"help": "Lengths at which the first numbers of a vector are to be a vector of their own: 128 64."},
    )
    smallest_crop: float = field(
        default=0.6, metadata={"help": "Training photos are cropped at random; at least this share is kept; 1: none."}
    )
    flip: bool = field(default=True, metadata={"help": "Mirror half of the training photos; --no_flip: none."})
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of what is new: the last layers, a text model of words."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop when so many evaluations in a row were no better."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_splits()
        self.refuse_card(self.dataset)
        in_range("smallest_crop", self.smallest_crop, 0.01, 1.0)
        in_range("hard_negatives", self.hard_negatives, 0, 1000)
        in_range("teacher_weight", self.teacher_weight, 0.0, 1.0)
        in_range("lora_alpha", self.lora_alpha, 1e-6, 1e6)
        if self.lora_rank is not None:
            in_range("lora_rank", self.lora_rank, 1, 1024)
            if self.freeze != "none":
                raise InputError(
                    "--lora_rank with --freeze", expected="one of the two: LoRA freezes the nets itself", found="both",
                    fix="leave --freeze out",
                )  # fmt: skip
        if self.match == "composed" and self.hard_negatives:
            raise InputError(
                "--hard_negatives", expected="none with --match composed", found=str(self.hard_negatives),
                fix="leave it out",
            )  # fmt: skip
        if self.early_stopping_patience is not None:
            in_range("early_stopping_patience", self.early_stopping_patience, 1, 1e6)
        if self.loss == "triplet" and not self.hard_negatives:
            raise InputError(
                "--loss triplet", expected="--hard_negatives with it: what the wrong answers are", found="none",
                fix="--hard_negatives 10",
            )  # fmt: skip


def reads_texts(model: str, revision: str | None = None) -> bool:
    """Whether a checkpoint takes texts beside photos, by its config alone."""
    if model in EMBEDDED:
        return False
    folder = find(model, revision, ENCODER_FILES)
    if (folder / "modules.json").is_file():
        return True  # what it takes is seen when it is loaded
    config = (
        json.loads((folder / "config.json").read_text(encoding="utf-8")) if (folder / "config.json").is_file() else {}
    )
    return "text_config" in config


def refuse_without_texts(
    encoder: SentenceTransformer, kinds: Sequence[str], model: str, setting: str = "model"
) -> None:
    """Raises InputError where texts are to be matched by an encoder of photos alone."""
    if with_words(kinds) and not takes_texts(encoder):
        raise InputError(
            f"--{setting} {model}", expected="an encoder that takes texts, since texts are matched",
            found="one of photos",
            fix="--match image" + ", or its backbone with --text_model words" * (setting == "model"),
        )  # fmt: skip


def measure(
    dataset: DatasetDict, limits: images.Limits = images.LIMITS, batch_size: int = 32, kinds: Sequence[str] = ()
) -> Callable[[SentenceTransformer], dict[str, float]]:
    """Encoder -> its figures on validation, for the choice of a checkpoint; those of the search that counts most, of
    the `kinds` that are learned."""

    def figures_now(encoder: SentenceTransformer) -> dict[str, float]:
        rows = dataset["validation"]
        made = searches.possible(rows, takes_texts(encoder))  # without distractors: they would take most of the time
        first = searches.main_search(made, kinds)
        photos = searches.embed(encoder, rows, batch_size=batch_size, limits=limits)
        asked = {name: protocol for name, protocol in made.items() if searches.kind_of(name) == first}
        ranks = {name: found[0] for name, found in searches.ask(encoder, asked, photos).items()}
        told = searches.figures_of(ranks, n_resamples=0)
        return {key: float(told[key]) for key in searches.METRICS}

    return figures_now


def figures(
    predictions: Dataset,
    results: Mapping[str, Mapping[str, Any]],
    dataset: DatasetDict,
    *,
    split: str = "test",
    history: Sequence[Mapping[str, Any]] = (),
    metric: str = "recall_at_1",
    best_step: int | None = None,
    limits: images.Limits = images.LIMITS,
    kinds: Sequence[str] = (),
) -> dict[str, Any]:
    """Name -> matplotlib figure: learning curve (after a training), recall of each search, and searches with what was
    found: some by chance, and those whose right answer stands last.

    Args:
        predictions: Of `predict`.
        results: Of `evaluate`.
        dataset: The photos.
        split: The one that is shown.
        history: The log of the training.
        metric: What chose the checkpoint.
        best_step: Its step.
        limits: See `images.decode`.
        kinds: What was learned, as of `items.matched`.
    """
    figured = results[split]
    rows = record.of_split(predictions, split)
    asked = [searches.kind_of(search) for search in rows["search"]]
    first = searches.main_search(asked, kinds)
    drawn: dict[str, Any] = {}
    if history:
        drawn["learning_curve"] = plots.learning_curve(history, metric, best_step)
    made = sorted(set(asked), key=lambda kind: (kind != first, kind))
    keys = [(kind, k) for kind in made for k in searches.KS]
    prefix = {kind: "" if kind == first else f"{kind}/" for kind in made}
    value, low, high = (
        [figured[f"{prefix[kind]}recall_at_{k}{end}"] for kind, k in keys] for end in ("", "_low", "_high")
    )
    drawn["recall"] = plots.intervals(
        [f"{ASKED[kind]}, first {k}" for kind, k in keys], value, low, high,
        [figured[f"{prefix[kind]}n"] for kind, _ in keys],
        f"Recall among the first k, by what asks, {split} split",
    )  # fmt: skip
    chosen = rows.select([row for row, kind in enumerate(asked) if kind == first])
    return drawn | search_sheets.draw(dataset, split, chosen, limits=limits)


ASKED = {"image": "photo", "text": "text", "composed": "photo + words"}
CARD_FIGURES = {
    "recall_at_1": {"type": "recall", "name": "Recall at 1", "args": {"k": 1}},
    "recall_at_5": {"type": "recall", "name": "Recall at 5", "args": {"k": 5}},
    "recall_at_10": {"type": "recall", "name": "Recall at 10", "args": {"k": 10}},
    "map_at_r": {"type": "mean_average_precision", "name": "Mean average precision at R"},
    "mrr": {"type": "mrr", "name": "Mean reciprocal rank"},
    "ndcg_at_10": {"type": "ndcg", "name": "nDCG at 10", "args": {"k": 10}},
}


def facts(
    encoder: SentenceTransformer,
    dataset: DatasetDict,
    told: Mapping[str, Mapping[str, Protocol]],
    results: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Mapping[str, Any]] | None = None,
    split: str = "test",
    chosen_by: str | None = None,
    kinds: Sequence[str] = (),
    text_model: Mapping[str, Any] | None = None,
    teacher: Mapping[str, Any] | None = None,
    shared_items: bool = False,
) -> dict[str, Any]:
    """What the card says in words.

    Args:
        encoder: That was measured.
        dataset: The splits.
        told: Of `predict`.
        results: Split -> figures.
        before: Of `gained`.
        split: The one that is reported.
        chosen_by: The metric that chose the checkpoint on validation; None when the last one was taken.
        kinds: What was brought together in training, as of `items.matched`; none where nobody knows.
        text_model: What `backbones.describe` says of another net that reads the texts.
        teacher: And of an encoder that it learned from.
        shared_items: See `searches.evaluate`.
    """
    made = told[split]
    first = searches.main_search(made, kinds)
    texts = takes_texts(encoder)
    width = int(encoder.get_embedding_dimension() or 0)
    if chosen_by is not None:
        selection = f"The checkpoint was chosen by {chosen_by} on the validation split. "
    else:
        selection = "The weights of the last step were taken. " if "train" in dataset else ""
    near = {
        "image": "photos of one item near each other",
        "text": "texts near their photos",
        "composed": "a photo and words on what is to be different, added, near the photo that they ask for",
    }
    opening = f"An encoder: a photo{' or a text' if texts else ''} in, a vector of {width} numbers out"
    learned = ", and ".join(words for kind, words in near.items() if kind in kinds)
    opening += f"; it learned to lay {learned}." if learned else "."
    if texts and kinds and not with_words(kinds):
        opening += " It learned from photos alone: texts may fit them less than those of the base model did."
    made_anew = next((module for module in encoder.modules() if isinstance(module, StaticEmbedding)), None)
    if made_anew is not None:
        opening += f" Texts are means over {made_anew.num_embeddings:,} pieces of words, those of the training texts."
    net = picture_net(encoder)
    asked: dict[str, Any] = {}
    for name, protocol in made.items():  # the parts of a composed search are one
        told_of = asked.setdefault(searches.kind_of(name), {"line": "", "n": 0})
        told_of["line"] = f"{told_of['line']} {protocol.line}".strip()
        told_of["n"] += len(protocol.queries)
    if "composed" in asked:
        asked["composed"]["line"] += " The figures are the means over the categories."
    drawn = "queries" if shared_items else "items"
    return {
        "kind": "retrieval",
        "library": "sentence-transformers",
        "opening": opening,
        "needs_timm": net is not None and net.config.model_type == "timm_wrapper",
        "text_model": None if text_model is None else dict(text_model),
        "teacher": None if teacher is None else dict(teacher),
        "headline_metric": "recall_at_1",
        "card_figures": CARD_FIGURES,
        "labels": [],
        "texts": texts,
        "dimension": width,
        "searches": asked,
        "main_search": first,
        "protocol": f"{selection}Measured once. {asked[first]['line']} Intervals: bootstrap over {drawn}.",
        "before": before,
    }


def usage_of(example: Mapping[str, Any], encoder: SentenceTransformer) -> Callable[[str, str], str]:
    """`usage` of an encoder, with the words of a row where it reads some."""
    text = example.get("text") if takes_texts(encoder) else None
    return lambda model, photo: usage(model, photo, text)


def usage(model: str, photo: str, text: str | None = None) -> str:
    """The code with which anybody uses the model; cards execute it before they show it."""
    asked = (
        ""
        if text is None
        else f"""
        words = encoder.encode([{json.dumps(text, ensure_ascii=False)}])
        print("similarity of these words and the photo:", round(float(encoder.similarity(words, vectors)[0, 0]), 3))"""
    )
    return textwrap.dedent(f"""
        from PIL import Image
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer({json.dumps(model)})
        vectors = encoder.encode([Image.open({json.dumps(photo)})])
        print("a vector of", vectors.shape[1], "numbers, of length", round(float((vectors**2).sum() ** 0.5), 3)){asked}
    """).strip()
