"""Retrieval: photos of one item find each other, and words find photos."""

import hashlib
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, concatenate_datasets
from tqdm.auto import tqdm

from hf_fashion import data, images, metric_modules, plots, protocols, record, search_sheets
from hf_fashion import metrics as plain_metrics
from hf_fashion.arguments import CardArguments, DatasetArguments, SplitArguments
from hf_fashion.backbones.encoders import SentenceTransformer, picture_net, takes_texts
from hf_fashion.backbones.sources import EMBEDDED, ENCODER_FILES, find
from hf_fashion.errors import InputError, in_range
from hf_fashion.protocols import Protocol
from hf_fashion.report import Report
from hf_fashion.samples.views import views

KS = (1, 5, 10)
METRICS = tuple(f"recall_at_{k}" for k in KS) + ("map_at_r", "mrr", "ndcg_at_10")
COLUMNS = Features({"image": Image()})
SPLITS = ("validation", "test")
GALLERY = "gallery"  # a split of more photos that are searched
_SHOWN = 10  # answers of a query in predictions.parquet


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
    match: Literal["auto", "image", "text", "both"] = field(
        default="auto",
        metadata={
            "help": "What is brought together: photos of one item, photos and their texts, or both in turns. Default: "
            "what the photos have."
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
    temperature: float = field(default=0.05, metadata={"help": "Of contrastive, and of sigmoid at its start."})
    margin: float = field(default=0.2, metadata={"help": "Of triplet, in cosine distance."})
    hard_negatives: int = field(
        default=0,
        metadata={
            "help": "Of each photo so many nearest of other items, as the untrained encoder sees them: one of them is "
            "the wrong answer of its pair. 0: the batch alone."
        },
    )
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
        if self.early_stopping_patience is not None:
            in_range("early_stopping_patience", self.early_stopping_patience, 1, 1e6)
        if self.loss == "triplet" and not self.hard_negatives:
            raise InputError(
                "--loss triplet", expected="--hard_negatives with it: what the wrong answers are", found="none",
                fix="--hard_negatives 10",
            )  # fmt: skip


def load(
    source: Any,
    *,
    item_column: str | None = None,
    text_column: str | None = None,
    shared_items: bool = False,
    **settings: Any,
) -> tuple[DatasetDict, Report]:
    """Photos with `item_id`, `text`, or both, and all their other columns.

    Args:
        source: As of `data.load`; "sample" is `samples.views`.
        item_column: Which column says the item; None for `item_id`; without one each photo is an item of its own.
        text_column: Which column is the text; None for `text`, if there is one.
        shared_items: Items may lie in several splits, as classes do.
        **settings: Of `data.load`. Splits that are cut off keep the photos of an item together, unless they may not.

    Returns:
        Splits train, validation and test, and what was seen on the way.

    Raises:
        InputError: A column that is not there, neither items nor texts, an item in two splits.
    """
    sample = source == "sample" and not Path("sample").exists()
    opened = views() if sample else source
    by = settings.pop("split_by", None) or (None if shared_items else item_column)
    settings["label_columns"] = []  # a column of classes, folders' names too, is carried along like any other
    try:
        dataset, report = data.load(opened, COLUMNS, split_by=by, **settings)
    except InputError as error:
        if by != item_column or by is None or by not in error.what:
            raise
        raise InputError(  # not --split_by, which nobody typed
            f"--item_column {item_column}", expected="a column of the dataset", found=error.found,
            fix="--item_column with one of these",
        ) from error  # fmt: skip
    there = next(iter(dataset.values())).column_names
    if by is None and not shared_items and "item_id" in there:
        dataset, report = data.load(opened, COLUMNS, split_by="item_id", **settings)
    if sample:
        report.source |= {"source": "sample", "kind": "sample", "license": "cc0-1.0"}
    for name, setting in ((item_column, "item_column"), (text_column, "text_column")):
        if name is not None and name not in there:
            raise InputError(
                f"--{setting} {name}", expected="a column of the dataset", found=", ".join(there),
                fix=f"--{setting} with one of these",
            )  # fmt: skip
    item = item_column or ("item_id" if "item_id" in there else None)
    text = text_column or ("text" if "text" in there else None)
    if item is None and text is None:
        raise InputError(
            "columns of the photos", expected="item_id (equal for photos of one item), text, or both",
            found=", ".join(there), fix="--item_column NAME or --text_column NAME",
        )  # fmt: skip
    made = DatasetDict({split: _canonical(rows, item, text, split) for split, rows in dataset.items()})
    report.source["fingerprint"] = _fingerprint(str(report.source["fingerprint"]), made)
    report.carried += [name for name in next(iter(made.values())).column_names if name not in report.carried]
    if not shared_items:
        protocols.refuse_leaks(made)
    return made, report


def load_gallery(
    source: Any, *, item_column: str | None = None, text_column: str | None = None, **settings: Any
) -> Dataset:
    """More photos that are searched and are right for no query, unless their `item_id` is a query's, or their text."""
    settings = {name: value for name, value in settings.items() if name in ("config", "revision", "names", "limits")}
    dataset, _ = data.load(source, COLUMNS, lone_split="test", **settings)
    rows = concatenate_datasets(list(dataset.values()))
    item = item_column if item_column in rows.column_names else "item_id" if "item_id" in rows.column_names else None
    if item is None:  # photos of another dataset may be called as those of this one
        rows = rows.add_column("item_id", [f"{GALLERY}:{row}" for row in range(len(rows))], feature=Value("string"))
        item = "item_id"
    text = text_column if text_column in rows.column_names else "text" if "text" in rows.column_names else None
    return _canonical(rows, item, text, GALLERY)


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


def texts_of(rows: Dataset) -> list[str]:
    """The texts of a split, without the rows that have none."""
    return [text for text in rows.with_format(None)["text"] if text] if "text" in rows.column_names else []


def refuse_without_texts(encoder: SentenceTransformer, kinds: Sequence[str], model: str) -> None:
    """Raises InputError where texts are to be matched by an encoder of photos alone."""
    if "text" in kinds and not takes_texts(encoder):
        raise InputError(
            f"--model {model}", expected="an encoder that takes texts, since texts are matched", found="one of photos",
            fix="--match image, or its backbone with --text_model words",
        )  # fmt: skip


def _canonical(rows: Dataset, item: str | None, text: str | None, split: str) -> Dataset:
    """Rows with `item_id`, and `text` where there is one; blank texts are none."""
    if not len(rows):
        raise InputError(
            f"split {split}", expected="photos", found="none", fix="more photos; or another --validation_share, "
            "--test_share; without --shared_items whole items are cut off",
        )  # fmt: skip
    plain = rows.with_format(None)
    columns: dict[str, list[str | None]] = {}
    for name, column in (("item_id", item), ("text", text)):
        if column is not None:
            columns[name] = _words_of(rows, column)
    if item is None:
        columns["item_id"] = [str(row) for row in plain["source_row"]]
    named = zip(plain["source_row"], columns["item_id"], strict=True)
    lacking = [str(row) for row, name in named if name is None]
    if lacking and split != GALLERY:
        raise InputError(
            f"column {item}", expected="a value in every row, equal for photos of one item",
            found=f"{len(lacking)} of {len(rows)} rows of {split} without one ({', '.join(lacking[:3])})",
            fix="fill these cells, or remove the rows",
        )  # fmt: skip
    lost = [name for name in ("item_id", "text") if name in rows.column_names and name in columns]
    rows = rows.remove_columns(lost)
    for name, values in columns.items():
        rows = rows.add_column(name, values, feature=Value("string"))
    return rows


def _words_of(rows: Dataset, column: str) -> list[str | None]:
    """A column as texts; None where a cell is empty or blank."""
    feature = rows.features[column]
    if not isinstance(feature, (Value, ClassLabel)):
        raise InputError(
            f"column {column}", expected="one text or number a row", found=str(feature),
            fix="name another column; of several texts a row keep one, or give each a row",
        )  # fmt: skip
    names = getattr(feature, "names", None)
    told: list[str | None] = []
    for value in rows.with_format(None)[column]:
        if value is None or value != value or (names and value < 0):
            told.append(None)
        elif isinstance(value, float) and value.is_integer():
            told.append(str(int(value)))  # a column of numbers in which some are missing
        else:
            told.append(names[value] if names else str(value))
    return [None if value is None or not value.strip() else value for value in told]


def _fingerprint(of_photos: str, dataset: DatasetDict) -> str:
    """That of the photos, and of what is learned with them: a run that is resumed must find both as they were."""
    digest = hashlib.sha256(of_photos.encode())
    for rows in (dataset[split] for split in ("train", *SPLITS) if split in dataset):
        for name in ("item_id", "text", "role"):
            if name in rows.column_names:
                digest.update(f"{name} {list(rows.with_format(None)[name])}".encode())
    return digest.hexdigest()[:16]


def matched(dataset: DatasetDict, match: str) -> tuple[str, ...]:
    """What is brought together in training: `image`, `text` or both, as the photos have it.

    Raises:
        InputError: They do not have what is asked for.
    """
    rows = dataset["train"]
    items = rows.with_format(None)["item_id"]
    several = len(set(items)) < len(items)
    texts = "text" in rows.column_names and any(rows.with_format(None)["text"])
    wanted = {"image": ("image",), "text": ("text",), "both": ("image", "text")}.get(match)
    if wanted is None:
        wanted = tuple(kind for kind, there in (("image", several), ("text", texts)) if there)
        if not wanted:
            raise InputError(
                "the training photos", expected="items of several photos, or texts", found="neither",
                fix="--item_column NAME or --text_column NAME",
            )  # fmt: skip
    if "text" in wanted and not texts:
        raise InputError(
            f"--match {match}", expected="texts in the training split", found="none", fix="--text_column NAME"
        )
    return wanted


def searches(rows: Dataset, texts: bool, gallery: Dataset | None = None) -> dict[str, Protocol]:
    """Name -> the searches that a split allows: photos by photos, and by texts where the encoder reads them."""
    made: dict[str, Protocol] = {}
    items = rows.with_format(None)["item_id"]
    if "role" in rows.column_names and any(rows.with_format(None)["role"]):
        made["image"] = protocols.query_gallery(rows, gallery)
    elif len(set(items)) < len(items):
        made["image"] = protocols.leave_one_out(rows, gallery)
    if texts and "text" in rows.column_names and any(rows.with_format(None)["text"]):
        made["text"] = protocols.text_to_image(rows, gallery)
    if not made:
        raise InputError(
            "photos to measure with", expected="items of several photos, or texts", found="neither",
            fix="--item_column NAME or --text_column NAME",
        )  # fmt: skip
    return made


def embed(
    encoder: SentenceTransformer, rows: Dataset, *, batch_size: int = 32, limits: images.Limits = images.LIMITS,
    progress: bool = True,
) -> np.ndarray:  # fmt: skip
    """The vectors of the photos of all rows (rows, dimension), 32-bit floats of length 1.

    Raises:
        InputError: A photo that cannot be read; it is named.
    """
    photos = rows.with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))
    names = _names(rows) if "source_row" in rows.column_names else list(map(str, range(len(rows))))
    found = []
    for start in tqdm(range(0, len(photos), batch_size), "photos", disable=not progress or len(photos) < 500):
        batch, part = [], slice(start, start + batch_size)
        for name, photo in zip(names[part], photos[part]["image"], strict=True):
            try:
                batch.append(images.decode(photo, limits=limits))
            except ValueError as error:  # of more photos to search: those of the splits were looked at
                raise InputError(
                    f"photo {name}", expected="a picture that can be read", found=str(error),
                    fix="mend it or leave it out; `hf-fashion check` names all of a dataset",
                ) from error  # fmt: skip
        found.append(encoder.encode(batch, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False))
    return np.concatenate(found).astype(np.float32)


def nearest_wrong(vectors: np.ndarray, groups: np.ndarray, count: int) -> list[list[int]]:
    """Of each row the `count` rows nearest to it that are of another group."""
    of_group = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    most = len(groups) - max(map(len, of_group.values()))
    if most < 1:
        raise InputError("--hard_negatives", expected="two or more items that differ", found="one", fix="leave it out")
    places, _ = plain_metrics.top(vectors, vectors, min(count, most), [of_group[group] for group in groups])
    return [[int(place) for place in row] for row in places]


def measure(
    dataset: DatasetDict, limits: images.Limits = images.LIMITS, batch_size: int = 32
) -> Callable[[SentenceTransformer], dict[str, float]]:
    """Encoder -> its figures on validation, for the choice of a checkpoint; those of the search that counts most."""

    def figures_now(encoder: SentenceTransformer) -> dict[str, float]:
        rows = dataset["validation"]
        made = searches(rows, takes_texts(encoder))  # without distractors: they would take most of the time
        name = main_search(made)
        photos = embed(encoder, rows, batch_size=batch_size, limits=limits)
        ranks, *_ = _ranks(encoder, {name: made[name]}, photos)[name]
        told = plain_metrics.retrieval(ranks, KS, n_resamples=0)
        return {key: float(told[key]) for key in METRICS}

    return figures_now


def main_search(made: Mapping[str, Any]) -> str:
    """The search whose figures stand first: by texts where there is one, since it is the harder one to learn."""
    return "text" if "text" in made else "image"


def _ranks(
    encoder: SentenceTransformer, made: Mapping[str, Protocol], photos: np.ndarray
) -> dict[str, tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """Search -> the ranks of the right answers, the first answers and their scores; `photos` are those of the split,
    and of the gallery behind them (photos, dimension)."""
    found = {}
    for name, protocol in made.items():
        if protocol.query_kind == "text":
            asked = encoder.encode(
                protocol.texts or [], batch_size=256, normalize_embeddings=True, show_progress_bar=False
            ).astype(np.float32)
        else:
            asked = photos[protocol.queries]
        searched = photos[protocol.gallery]
        ranks = plain_metrics.rank_relevant(asked, searched, protocol.relevant, protocol.ignored)
        first = plain_metrics.top(asked, searched, min(_SHOWN, len(searched)), protocol.ignored)
        found[name] = (ranks, *first)
    return found


PREDICTIONS = Features(
    {
        "split": Value("string"),
        "search": Value("string"),
        "query": Value("string"),
        "text": Value("string"),
        "item_id": Value("string"),
        "ranks": List(Value("int64")),
        "found": List(Value("string")),
        "found_items": List(Value("string")),
        "scores": List(Value("float32")),
    }
)


def predict(
    encoder: SentenceTransformer,
    dataset: DatasetDict,
    splits: Sequence[str] = SPLITS,
    *,
    batch_size: int = 32,
    limits: images.Limits = images.LIMITS,
) -> tuple[Dataset, dict[str, dict[str, Protocol]]]:
    """Asks all queries of the splits.

    Returns:
        A row a query: `split`, `search` (image, text), `query` (source row of its photo), `text`, `item_id`, `ranks`
        of all right answers, and the first ten answers: `found` (source rows), `found_items`, `scores`. And split ->
        search -> its protocol.
    """
    rows_made: list[dict[str, Any]] = []
    told: dict[str, dict[str, Protocol]] = {}
    gallery = dataset.get(GALLERY)
    more = None if gallery is None else embed(encoder, gallery, batch_size=batch_size, limits=limits)
    for split in (split for split in splits if split in dataset):
        rows = dataset[split]
        told[split] = searches(rows, takes_texts(encoder), gallery)
        names = _names(rows) + ([] if gallery is None else [f"{GALLERY}:{name}" for name in _names(gallery)])
        items = list(rows.with_format(None)["item_id"])
        if gallery is not None:
            known = "item_id" in gallery.column_names
            items += list(gallery.with_format(None)["item_id"]) if known else [""] * len(gallery)
        photos = embed(encoder, rows, batch_size=batch_size, limits=limits)
        found = _ranks(encoder, told[split], photos if more is None else np.concatenate([photos, more]))
        for search, protocol in told[split].items():
            ranks, places, scores = found[search]
            for query, row in enumerate(protocol.queries):
                answers = [int(protocol.gallery[place]) for place in places[query] if place >= 0]
                rows_made.append(
                    {
                        "split": split, "search": search, "query": names[row],
                        "text": protocol.texts[query] if protocol.texts else None, "item_id": protocol.groups[query],
                        "ranks": ranks[query].tolist(), "found": [names[answer] for answer in answers],
                        "found_items": [items[answer] for answer in answers],
                        "scores": scores[query][: len(answers)].tolist(),
                    }
                )  # fmt: skip
    return Dataset.from_list(rows_made, features=PREDICTIONS), told


def _names(rows: Dataset) -> list[str]:
    return [str(name) for name in rows.with_format(None)["source_row"]]


def evaluate(predictions: Dataset, seed: int = 42) -> dict[str, dict[str, Any]]:
    """Split -> figures, with 95 % intervals over items: those of the main search by their names, of the other one with
    its name in front (`image/recall_at_1`)."""
    searches_made = list(dict.fromkeys(predictions["search"]))
    first = main_search(dict.fromkeys(searches_made))
    results: dict[str, dict[str, Any]] = {}
    for search in sorted(searches_made, key=lambda name: name != first):
        chosen = predictions.select([row for row, name in enumerate(predictions["search"]) if name == search])

        def inputs(rows: Dataset) -> dict[str, Any]:
            plain = rows.with_format(None)
            return {"predictions": plain["ranks"], "groups": list(plain["item_id"]), "ks": list(KS), "seed": seed}

        for split, told in metric_modules.by_split("fashion_retrieval", chosen, inputs).items():
            named = told if search == first else {f"{search}/{name}": value for name, value in told.items()}
            results.setdefault(split, {}).update(named)
    return results


def gained(before: Dataset, after: Dataset, split: str = "test") -> dict[str, dict[str, Any]]:
    """What a training was worth: recall at 1 and at 10 of the main search before and after it, on the same queries.

    Args:
        before: Of `predict`, with the encoder as it came.
        after: The same with the trained one.
        split: Of the queries.

    Returns:
        Figure -> what `metrics.paired` says; `a` is after the training, `b` before it.
    """
    first = main_search(dict.fromkeys(after["search"]))
    hits = []
    for told in (after, before):
        rows = record.of_split(told, split)
        hits.append(
            [min(ranks) for ranks, search in zip(rows["ranks"], rows["search"], strict=True) if search == first]
        )
    best = [np.asarray(ranks) for ranks in hits]
    return {f"recall_at_{k}": plain_metrics.paired(best[0] <= k, best[1] <= k) for k in (1, 10)}


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
    """
    figured = results[split]
    rows = record.of_split(predictions, split)
    made = list(dict.fromkeys(rows["search"]))
    first = main_search(dict.fromkeys(made))
    drawn: dict[str, Any] = {}
    if history:
        drawn["learning_curve"] = plots.learning_curve(history, metric, best_step)
    keys = [(search, k) for search in sorted(made, key=lambda name: name != first) for k in KS]
    prefix = {search: "" if search == first else f"{search}/" for search in made}
    value, low, high = (
        [figured[f"{prefix[search]}recall_at_{k}{end}"] for search, k in keys] for end in ("", "_low", "_high")
    )
    drawn["recall"] = plots.intervals(
        [f"by {'a text' if search == 'text' else 'a photo'}, first {k}" for search, k in keys], value, low, high,
        [figured[f"{prefix[search]}n"] for search, _ in keys],
        f"Recall among the first k, {split} split",
    )  # fmt: skip
    chosen = rows.select([row for row, search in enumerate(rows["search"]) if search == first])
    return drawn | search_sheets.draw(dataset, split, chosen, limits=limits)


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
    kinds: Sequence[str] = ("image", "text"),
    text_model: Mapping[str, Any] | None = None,
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
        kinds: What was brought together in training, as of `matched`.
        text_model: What `backbones.describe` says of another net that reads the texts.
    """
    made = told[split]
    first = main_search(made)
    texts = takes_texts(encoder)
    width = int(encoder.get_embedding_dimension() or 0)
    if chosen_by is not None:
        selection = f"The checkpoint was chosen by {chosen_by} on the validation split. "
    else:
        selection = "The weights of the last step were taken. " if "train" in dataset else ""
    near = {"image": "photos of one item near each other", "text": "texts near their photos"}
    opening = f"An encoder: a photo{' or a text' if texts else ''} in, a vector of {width} numbers out; it learned to "
    opening += f"lay {', and '.join(words for kind, words in near.items() if kind in kinds)}."
    if texts and "text" not in kinds:
        opening += " It learned from photos alone: texts may fit them less than those of the base model did."
    net = picture_net(encoder)
    return {
        "kind": "retrieval",
        "library": "sentence-transformers",
        "opening": opening,
        "needs_timm": net is not None and net.config.model_type == "timm_wrapper",
        "text_model": None if text_model is None else dict(text_model),
        "headline_metric": "recall_at_1",
        "card_figures": CARD_FIGURES,
        "labels": [],
        "texts": texts,
        "dimension": width,
        "searches": {name: {"line": protocol.line, "n": len(protocol.queries)} for name, protocol in made.items()},
        "main_search": first,
        "protocol": f"{selection}Measured once. {made[first].line} Intervals: bootstrap over items.",
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
