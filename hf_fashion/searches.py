"""An encoder searches photos: by photos, and by words; what it finds, and how well."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from tqdm.auto import tqdm

from hf_fashion import images, metric_modules, protocols, record
from hf_fashion import metrics as plain_metrics
from hf_fashion.backbones.encoders import SentenceTransformer, takes_texts
from hf_fashion.composed import composed
from hf_fashion.errors import InputError
from hf_fashion.items import CHANGES, GALLERY, SPLITS
from hf_fashion.protocols import Protocol

KS = (1, 5, 10)
METRICS = tuple(f"recall_at_{k}" for k in KS) + ("map_at_r", "mrr", "ndcg_at_10")
COMPOSED_KS = (*KS, 50)  # as papers on Fashion IQ have it
_SHOWN = 10  # answers of a query in predictions.parquet


def possible(
    rows: Dataset, texts: bool, gallery: Dataset | None = None, *, reference_searched: bool = False
) -> dict[str, Protocol]:
    """Name -> the searches that a split allows: photos by photos, and by texts where the encoder reads them, and by a
    photo with words: `composed/<category>`. The photo of these is left out of what it asks for, as a shop would,
    unless it is searched as in Fashion IQ's challenge: there it is nearly always found first, and recall at 1 is 0."""
    made: dict[str, Protocol] = {}
    items = rows.with_format(None)["item_id"]
    if "role" in rows.column_names and any(rows.with_format(None)["role"]):
        made["image"] = protocols.query_gallery(rows, gallery)
    elif len(set(items)) < len(items):
        made["image"] = protocols.leave_one_out(rows, gallery)
    if texts and "text" in rows.column_names and any(rows.with_format(None)["text"]):
        made["text"] = protocols.text_to_image(rows, gallery)
    if texts and CHANGES in rows.column_names and any(protocols.changes_of(rows)):
        asked = protocols.composed(rows, gallery, ignore_reference=not reference_searched)
        made |= {f"composed/{kind}": protocol for kind, protocol in asked.items()}
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


def kind_of(search: str) -> str:
    """`image`, `text` or `composed`: a composed search has a part for each category."""
    return search.partition("/")[0]


def main_search(made: Iterable[str], learned: Iterable[str] = ()) -> str:
    """The kind of search whose figures stand first: one that was learned, as of `items.matched`; with words where
    there is one, since it is the harder one to learn."""
    kinds, taught = {kind_of(search) for search in made}, set(learned)
    order = sorted(("composed", "text", "image"), key=lambda kind: kind not in taught)
    return next((kind for kind in order if kind in kinds), "image")


def figures_of(ranks: Mapping[str, Sequence[np.ndarray]], **settings: Any) -> dict[str, Any]:
    """The figures of one kind of search: of its one search, or the means over its categories, and theirs.

    Args:
        ranks: Search -> ranks of the right answers of each query.
        **settings: Of `metrics.retrieval` (`groups`: search -> of each query).
    """
    if kind_of(next(iter(ranks))) == "composed":
        named = {search.partition("/")[2]: of_part for search, of_part in ranks.items()}
        if settings.get("groups") is not None:
            settings["groups"] = {search.partition("/")[2]: told for search, told in settings["groups"].items()}
        return plain_metrics.retrieval_macro(named, COMPOSED_KS, **settings)
    [(search, of_one)] = ranks.items()
    if settings.get("groups") is not None:
        settings["groups"] = settings["groups"][search]
    return plain_metrics.retrieval(of_one, KS, **settings)


def ask(
    encoder: SentenceTransformer, made: Mapping[str, Protocol], photos: np.ndarray
) -> dict[str, tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """Search -> the ranks of the right answers, the first answers and their scores; `photos` are those of the split,
    and of the gallery behind them (photos, dimension)."""
    found = {}
    for name, protocol in made.items():
        asked = photos[protocol.queries]
        if protocol.texts is not None:
            words = encoder.encode(protocol.texts, batch_size=256, normalize_embeddings=True, show_progress_bar=False)
            told = np.asarray(words, dtype=np.float32)
            asked = composed(asked, told) if protocol.query_kind == "composed" else told
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
    reference_searched: bool = False,
) -> tuple[Dataset, dict[str, dict[str, Protocol]]]:
    """Asks all queries of the splits, as of `possible`.

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
        told[split] = possible(rows, takes_texts(encoder), gallery, reference_searched=reference_searched)
        names = _names(rows) + ([] if gallery is None else [f"{GALLERY}:{name}" for name in _names(gallery)])
        items = list(rows.with_format(None)["item_id"])
        if gallery is not None:
            known = "item_id" in gallery.column_names
            items += list(gallery.with_format(None)["item_id"]) if known else [""] * len(gallery)
        photos = embed(encoder, rows, batch_size=batch_size, limits=limits)
        found = ask(encoder, told[split], photos if more is None else np.concatenate([photos, more]))
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


def evaluate(
    predictions: Dataset, seed: int = 42, *, shared_items: bool = False, learned: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Split -> figures, with 95 % intervals: those of the main search by their names, of the other one with its name
    in front (`image/recall_at_1`).

    Args:
        predictions: Of `predict`.
        seed: Of the bootstrap.
        shared_items: Items are classes: those there are, so that photos are drawn; else whole items are, since other
            photos of a shop are of other items.
        learned: See `main_search`.
    """
    first = main_search(predictions["search"], learned)
    results: dict[str, dict[str, Any]] = {}
    kinds = [kind_of(search) for search in predictions["search"]]
    for kind in sorted(set(kinds), key=lambda kind: (kind != first, kind)):
        chosen = predictions.select([row for row, other in enumerate(kinds) if other == kind])
        if kind == "composed":
            of_kind = {}
            for split in dict.fromkeys(chosen["split"]):
                ranks, groups = _by_search(record.of_split(chosen, split))
                of_kind[split] = figures_of(ranks, groups=None if shared_items else groups, seed=seed)
        else:
            of_kind = metric_modules.by_split(
                "fashion_retrieval", chosen, lambda rows: _inputs(rows, seed, shared_items)
            )
        for split, told in of_kind.items():
            named = told if kind == first else {f"{kind}/{name}": value for name, value in told.items()}
            results.setdefault(split, {}).update(named)
    return results


def _inputs(rows: Dataset, seed: int, shared_items: bool) -> dict[str, Any]:
    plain = rows.with_format(None)
    groups = None if shared_items else list(plain["item_id"])
    return {"predictions": plain["ranks"], "groups": groups, "ks": list(KS), "seed": seed}


def _by_search(rows: Dataset) -> tuple[dict[str, list[np.ndarray]], dict[str, list[str]]]:
    """Search -> ranks, and items, of its queries."""
    ranks: dict[str, list[np.ndarray]] = {}
    groups: dict[str, list[str]] = {}
    plain = rows.with_format(None)
    for search, told, item in zip(plain["search"], plain["ranks"], plain["item_id"], strict=True):
        ranks.setdefault(search, []).append(np.asarray(told))
        groups.setdefault(search, []).append(item)
    return ranks, groups


def gained(
    before: Dataset, after: Dataset, split: str = "test", *, shared_items: bool = False, learned: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """What a training was worth: recall at 1 and at 10 of the main search before and after it, on the same queries.

    Args:
        before: Of `predict`, with the encoder as it came.
        after: The same with the trained one.
        split: Of the queries.
        shared_items: See `evaluate`.
        learned: See `main_search`.

    Returns:
        Figure -> what `metrics.paired` says, or `metrics.paired_by_item` where an item asks several times; `a` is
        after the training, `b` before it.
    """
    first = main_search(after["search"], learned)
    hits, items = [], []
    for told in (after, before):
        rows = record.of_split(told, split)
        asked = [row for row, search in enumerate(rows["search"]) if kind_of(search) == first]
        hits.append(np.asarray([min(ranks) for ranks in rows.select(asked)["ranks"]]))
        items = list(rows.select(asked)["item_id"])
    if shared_items or len(set(items)) == len(items):
        return {f"recall_at_{k}": plain_metrics.paired(hits[0] <= k, hits[1] <= k) for k in (1, 10)}
    return {f"recall_at_{k}": plain_metrics.paired_by_item(hits[0] <= k, hits[1] <= k, items) for k in (1, 10)}
