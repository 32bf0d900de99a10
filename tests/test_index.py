"""The index that is searched exactly: search, filters, changes, photos, parquet, and the two commands."""

import datetime
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from fake_encoder import Encoder, unit
from PIL import Image as PILImage

from hf_fashion import backbones, index
from hf_fashion.errors import InputError
from hf_fashion.index import exact, searching
from hf_fashion.index.where import parse
from hf_fashion.recipes import index as index_recipe
from hf_fashion.recipes import search as search_recipe


def best(queries, vectors, k, allowed=None):
    """Places (n, k) of the largest inner products, by a sort of all of them."""
    scores = queries @ vectors.T
    scores = scores if allowed is None else np.where(allowed, scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def names(places):
    return [[f"p{place}" for place in row] for row in places]


@pytest.fixture
def filled(tmp_path):
    """500 vectors in clusters, written in batches of 90, and their rows."""
    rng = np.random.default_rng(0)
    centres = unit(rng, 10)
    vectors = centres[rng.integers(0, 10, 500)] + 0.05 * rng.normal(size=(500, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = [
        {"price": place * 0.5, "category": ("dress", "shirt")[place % 2], "stock": place % 5} for place in range(500)
    ]
    made = index.create(tmp_path / "garments", made_by="a model", dimension=16)
    for start in range(0, 500, 90):
        ids = [f"p{place}" for place in range(start, min(start + 90, 500))]
        made.upsert(ids, vectors[start : start + 90], rows[start : start + 90])
    with made:
        yield made, vectors, rows


# Search.


@pytest.mark.parametrize("bf16", [True, False])
def test_a_search_finds_what_a_sort_of_all_finds(filled, monkeypatch, bf16):
    made, vectors, _ = filled
    monkeypatch.setattr(searching, "supports_bf16", lambda device: bf16)
    monkeypatch.setattr(searching, "_MOST", 64)  # several blocks
    monkeypatch.setattr(searching, "_LEAST", 64)
    queries = unit(np.random.default_rng(1), 300)  # more than go through at once
    found = made.search(queries, 7)
    assert found.ids == names(best(queries, vectors, 7))
    np.testing.assert_allclose(found.scores, -np.sort(-(queries @ vectors.T), axis=1)[:, :7], atol=1e-6)
    assert found.rows[0][0] == made.rows_of(found.ids[0])[found.ids[0][0]]


def test_neighbours_nearer_than_bfloat16_can_tell_are_told(tmp_path):
    """Queries nearly at right angles to all vectors: rounding moves scores by more than what lies between them."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    vectors = np.concatenate([unit(rng, 2000, 12), 0.02 * rng.normal(size=(2000, 4))], axis=1) @ basis.T
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    queries = basis[:, 12:].T.astype(np.float32)
    with index.create(tmp_path / "near", made_by="a model", dimension=16) as made:
        made.upsert([f"p{place}" for place in range(2000)], vectors)
        assert made.search(queries, 10).ids == names(best(queries, vectors, 10))


def test_rounding_is_never_more_than_is_reckoned_with(filled):
    made, _, _ = filled
    queries = torch.from_numpy(unit(np.random.default_rng(2), 200))
    coarse = queries.to(torch.bfloat16)
    moved = (queries - coarse.float()).norm(dim=1)
    for segment in made._store._now().segments:
        near = (torch.from_numpy(segment.coarse).view(torch.bfloat16) @ coarse.T).float()
        off = searching._off(queries.norm(dim=1), moved, segment.told["norm"], segment.told["rounding"])
        true = torch.from_numpy(segment.vectors) @ queries.T
        assert ((near - true).abs() <= off + near.abs() * searching._BF16).all()


@pytest.mark.parametrize("is_first", [True, False])
def test_no_candidate_is_lost_where_scores_are_off_as_far_as_they_may_be(is_first):
    rng = np.random.default_rng(7)
    true = rng.normal(scale=0.02, size=(500, 30)).astype(np.float32)
    off = torch.full((30,), 0.01)
    best = -np.sort(-true, axis=0)[4]
    noise = np.where(true >= best, -0.01, 0.01)  # the right ones seem worse, the wrong ones better
    near = torch.from_numpy(true + noise.astype(np.float32)).to(torch.bfloat16)
    worst = torch.full((30,), -torch.inf) if is_first else torch.from_numpy(best)
    asks, columns = searching._candidates(near, worst, off, 5)
    found = np.zeros(true.shape, dtype=bool)
    found[columns, asks] = True
    assert found[true >= best].all() and found.sum() < found.size / 2


def test_vectors_that_are_all_equal_are_found_in_their_order(tmp_path):
    with index.create(tmp_path / "equal", made_by="a model", dimension=16) as made:
        one = unit(np.random.default_rng(0), 1)
        made.upsert([f"p{place}" for place in range(2000)], np.repeat(one, 2000, axis=0))
        assert made.search(one, 3).ids == [["p0", "p1", "p2"]]


def test_fewer_than_k_and_none(tmp_path):
    with index.create(tmp_path / "few", made_by="a model", dimension=16) as made:
        query = unit(np.random.default_rng(0), 2)
        assert made.search(query, 5) == ([[], []], [pytest.approx([]), pytest.approx([])], [[], []])
        made.upsert(["a", "b"], query, [{"stock": 1}, {}])
        assert made.search(query[0], 5).ids == [["a", "b"]]
        assert made.search(query[1], 5, "stock=1").ids == [["a"]]
        assert made.search(query[1], 5, "stock>1").ids == [[]]


# Filters.


@pytest.mark.parametrize(
    "where",
    [
        "category=dress price<50 stock>0",
        "category=dress and price<50 AND stock > 0",
        {"category": "dress", "price": {"<": 50}, "stock": {">": 0}},
    ],
)
@pytest.mark.parametrize("bf16", [True, False])
def test_a_filtered_search_is_exact(filled, monkeypatch, where, bf16):
    monkeypatch.setattr(searching, "supports_bf16", lambda device: bf16)
    made, vectors, rows = filled
    allowed = np.array([row["category"] == "dress" and row["price"] < 50 and row["stock"] > 0 for row in rows])
    queries = unit(np.random.default_rng(3), 20)
    assert made.search(queries, 5, where).ids == names(best(queries, vectors, 5, allowed))


def test_a_filter_that_lets_most_pass(filled):
    made, vectors, rows = filled
    allowed = np.array([row["stock"] != 2 for row in rows])
    queries = unit(np.random.default_rng(3), 20)
    assert made.search(queries, 5, "stock=0,1,3,4").ids == names(best(queries, vectors, 5, allowed))


def test_quotes_and_signs_in_filters():
    columns = {"name": "text", "a b": "text", "tags": "texts", "sale": "boolean", "size": "integer"}

    def read(where):
        return [(one.column, one.operator, one.values) for one in parse(where, columns)]

    assert read('name="light blue",red') == [("name", "=", ("light blue", "red"))]
    assert read('"a b"="say \\"hi\\", now"') == [("a b", "=", ('say "hi", now',))]
    assert read("sale=true size<=41.5") == [("sale", "=", (True,)), ("size", "<=", (41,))]
    assert read("size>41.5 size>=41.5 size<41.5") == [
        ("size", ">", (41,)),
        ("size", ">=", (42,)),
        ("size", "<", (42,)),
    ]
    assert read("size=41.5,42") == [("size", "=", (42,))]
    assert read({"tags": ["a", "b"], "size": {">": 1, "<": 3}}) == [
        ("tags", "=", ("a", "b")), ("size", ">", (1,)), ("size", "<", (3,)),
    ]  # fmt: skip
    assert read(None) == read("") == read({}) == []


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("colour=red", "expected: one of: category, price, sale"),
        ("pric<50", "did you mean price?"),
        ("price<cheap", "expected: a number"),
        ("price<1,2", "expected: one value to compare with"),
        ("price=nan", "expected: a number"),
        ("category<dress", "expected: a column of numbers before <"),
        ("sale=perhaps", "expected: true or false"),
        ("price < 50 or stock>0", "found:    or stock>0"),
        ("price", "found:    price"),
        ("category=light blue", "found:    blue"),
        ({"price": "50"}, "expected: a number"),
        ({"price": True}, "expected: a number"),
        ({"category": 7}, "expected: text"),
        ({"price": {"!=": 1}}, "found:    !="),
        ({"category": []}, "expected: a value"),
    ],
)
def test_filters_that_cannot_be_read_say_why(where, said):
    with pytest.raises(InputError) as error:
        parse(where, {"category": "text", "price": "number", "sale": "boolean"})
    assert said in str(error.value)


# Changes.


def test_upsert_replaces_and_delete_removes(filled):
    made, vectors, _ = filled
    rng = np.random.default_rng(4)
    new = unit(rng, 3)
    made.upsert(["p0", "p499", "new"], new, [{"category": "hat", "stock": 9}] * 3)
    assert made.delete(["p1", "p2", "not there"]) == 2 and len(made) == 499
    kept = {f"p{place}": vector for place, vector in enumerate(vectors)} | dict(
        zip(["p0", "p499", "new"], new, strict=True)
    )
    del kept["p1"], kept["p2"]
    ids, matrix = [*kept], np.stack([*kept.values()])
    queries = unit(rng, 30)
    assert made.search(queries, 5).ids == [[ids[place] for place in row] for row in best(queries, matrix, 5)]
    assert made.search(new[0], 1, "category=hat").ids == [["p0"]]
    assert made.rows_of(["p0", "p1"]) == {"p0": {"price": None, "category": "hat", "stock": 9}}
    np.testing.assert_array_equal(made.vectors_of(["p499"])["p499"], new[1])
    with index.open(made.target) as again:
        assert len(again) == 499 and again.search(queries, 5).ids == made.search(queries, 5).ids


def test_many_small_changes_leave_few_segments_and_no_dead_rows_behind(tmp_path):
    rng = np.random.default_rng(5)
    kept = {}
    with index.create(tmp_path / "busy", made_by="a model", dimension=16) as made:
        for step in range(30):
            ids = [f"p{number}" for number in rng.choice(80, size=5, replace=False)]
            vectors = unit(rng, 5)
            made.upsert(ids, vectors, [{"step": step}] * 5)
            kept |= {one: (vector, step) for one, vector in zip(ids, vectors, strict=True)}
            gone = [f"p{number}" for number in rng.choice(80, size=2, replace=False)]
            assert made.delete(gone) == sum(kept.pop(one, None) is not None for one in gone)
            assert len(made) == len(kept)
        segments = made._store._now().segments
        assert len(segments) <= 8 and all(len(one.dead) * 2 <= one.rows for one in segments)
        folder = tmp_path / "busy" / "segments"
        assert {path.name for path in folder.iterdir()} == {one.told["name"] for one in segments}
        made.compact()
        assert [len(one.dead) for one in made._store._now().segments] == [0] and len(made) == len(kept)
        assert made.rows_of([*kept]) == {one: {"step": step} for one, (_, step) in kept.items()}
        np.testing.assert_array_equal(
            np.stack([*made.vectors_of([*kept]).values()]),
            np.stack([kept[one][0] for one in made.vectors_of([*kept])]),
        )


def test_large_segments_are_let_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(exact, "_WHOLE", 16 * 4 * 100)
    with index.create(tmp_path / "large", made_by="a model", dimension=16) as made:
        for start in range(0, 500, 10):
            made.upsert([f"p{place}" for place in range(start, start + 10)], unit(np.random.default_rng(start), 10))
        assert len(made) == 500 and max(one.rows for one in made._store._now().segments) < 200


def test_columns_come_later_and_numbers_grow_wider(tmp_path):
    rng = np.random.default_rng(6)
    with index.create(tmp_path / "rows", made_by="a model", dimension=16) as made:
        made.upsert(["a"], unit(rng, 1), [{"price": 10, "none": None}])
        made.upsert(
            ["b"],
            unit(rng, 1),
            pa.table({"price": [9.5], "tags": [["new", "red"]], "made": [datetime.date(2026, 11, 30)]}),
        )
        made.upsert(["c"], unit(rng, 1))
        assert made.columns == {"price": "number", "tags": "texts", "made": "text"}
        query = unit(rng, 1)
        assert made.search(query, 3, "price>9").ids[0] in (["a", "b"], ["b", "a"])
        assert made.search(query, 3, "price=10").ids == [["a"]] and made.search(query, 3, "tags=red,x").ids == [["b"]]
        made.compact()
        assert made.rows_of(["a", "b", "c"]) == {
            "a": {"price": 10.0, "tags": None, "made": None},
            "b": {"price": 9.5, "tags": ["new", "red"], "made": "2026-11-30"},
            "c": {"price": None, "tags": None, "made": None},
        }
        assert set(made.search(query, 3, columns=["price"]).rows[0][0]) == {"price"}


@pytest.mark.parametrize(
    ("ids", "count", "rows", "said"),
    [
        (["a", "a"], 2, None, "'a' several times"),
        (["a", 7], 2, None, "expected: texts"),
        (["a", ""], 2, None, "none empty"),
        (["a", "b"], 3, None, "expected: 2, one for each id"),
        (["a", "b"], 2, [{}], "expected: 2, one for each id"),
        (["a", "b"], 2, [{"id": "x"}, {}], "column id"),
        (["a", "b"], 2, [{"x": 1}, {"x": "one"}], "values of one kind"),
        (["a", "b"], 2, [{"x": {"y": 1}}, {}], "lists of text"),
        (["a", "b"], 2, [{"price": "10"}, {}], "expected: number, as in the rows before"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(tmp_path, ids, count, rows, said):
    rng = np.random.default_rng(0)
    with index.create(tmp_path / "rows", made_by="a model", dimension=16) as made:
        made.upsert(["z"], unit(rng, 1), [{"price": 1.5}])
        with pytest.raises(InputError) as error:
            made.upsert(ids, unit(rng, count), rows)
        assert said in str(error.value) and len(made) == 1 and made.columns == {"price": "number"}


def test_vectors_of_another_kind_are_refused(tmp_path):
    with index.create(tmp_path / "a", made_by="a model", dimension=16) as made:
        for bad in (np.ones((1, 8)), np.ones(16), np.ones((1, 16)), np.full((1, 16), np.nan)):
            with pytest.raises(InputError):
                made.upsert(["a"], bad)
        for bad in (np.ones((1, 8)), np.ones(16), np.full(16, np.inf)):
            with pytest.raises(InputError):
                made.search(bad, 1)
    with index.create(tmp_path / "b", made_by={"model": "m", "normalised": False}, dimension=16) as free:
        free.upsert(["a", "b"], np.stack([np.ones(16), 3 * np.ones(16)]))
        assert free.search(np.ones(16), 2).ids == [["b", "a"]]


# What made it.


def test_another_model_is_refused_and_a_moved_one_is_not(tmp_path):
    ours = index.identify(Encoder(), "runs/one", normalised=True)
    index.create(tmp_path / "a", made_by=ours, dimension=16).close()
    assert index.open(tmp_path / "a", made_by=index.identify(Encoder(), "elsewhere")).made_by == ours
    other = index.identify(Encoder(seed=1), "runs/one")
    with pytest.raises(InputError, match="runs/one"):
        index.open(tmp_path / "a", made_by=other)
    with pytest.raises(InputError, match="not normalised"):
        index.open(tmp_path / "a", made_by=ours | {"normalised": False})
    with pytest.raises(InputError, match="runs/two"):  # no hash to know it by
        index.open(tmp_path / "a", made_by="runs/two")
    with pytest.raises(InputError, match="model"):
        index.create(tmp_path / "b", made_by={"name": "x"}, dimension=16)


def test_the_hash_sees_how_pictures_are_prepared(tmp_path):
    from transformers import ViTImageProcessor

    def told(**settings):
        encoder = Encoder()
        encoder.layer.processor = ViTImageProcessor(**settings)
        return index.identify(encoder, "m")["hash"]

    assert told() == told() != told(image_mean=[0.1, 0.1, 0.1])


def test_folders_that_are_no_index_say_so(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="a new or empty folder"):
        index.create(tmp_path / "full", made_by="m", dimension=4)
    for folder in ("full", "missing"):
        with pytest.raises(InputError, match="index.json"):
            index.open(tmp_path / folder)
    for text, said in (("{", "index.json"), ("[]", "list"), ('{"format": 9}', "format 9")):
        (tmp_path / "full" / "index.json").write_text(text)
        with pytest.raises(InputError, match=said):
            index.open(tmp_path / "full")
    with pytest.raises(InputError, match="exact, lancedb, qdrant"):
        index.create(tmp_path / "new", made_by="m", dimension=4, backend="faiss")


def test_a_manifest_leads_out_of_no_folder(filled):
    made, _, _ = filled
    file = Path(made.target) / "index.json"
    told = json.loads(file.read_text())
    told["segments"][0]["name"] = "../../elsewhere"
    file.write_text(json.dumps(told))
    with pytest.raises(InputError, match="names of its own files"):
        index.open(made.target)


def test_a_lost_file_of_a_segment_is_an_error_and_not_a_wait(filled):
    made, _, _ = filled
    made.close()
    next(Path(made.target).glob("segments/*/vectors.npy")).unlink()
    with pytest.raises(InputError, match="vectors.npy"):
        index.open(made.target)


# Photos.


def photo(number, side=16):
    return PILImage.fromarray(np.random.default_rng(number).integers(0, 255, (side, side, 3), dtype=np.uint8))


@pytest.fixture
def photos(tmp_path):
    """20 photos in files, with columns of every kind."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        photo(number).save(folder / f"{number}.png")
    rows = {
        "image": [str(folder / f"{number}.png") for number in range(20)],
        "source_row": [f"{number}.png" for number in range(20)],
        "label": [number % 2 for number in range(20)],
        "tags": [[0], [0, 1], []] * 6 + [[1], [0]],
        "price": [f"{number}.50" for number in range(20)],
        "code": [f"0{number}" for number in range(20)],
        "item_id": [str(number // 2) for number in range(20)],
        "nested": [{"x": 1}] * 20,
    }
    kinds = Features(
        {
            "image": Image(), "source_row": Value("string"), "label": ClassLabel(names=["dress", "shirt"]),
            "tags": List(ClassLabel(names=["new", "red"])), "price": Value("string"), "code": Value("string"),
            "item_id": Value("string"), "nested": {"x": Value("int32")},
        }
    )  # fmt: skip
    return Dataset.from_dict(rows, features=kinds)


def target(tmp_path, encoder, name="index"):
    return index.create(tmp_path / name, made_by=index.identify(encoder, "a model"), dimension=16)


def test_photos_are_embedded_with_their_columns(tmp_path, photos):
    encoder = Encoder()
    with target(tmp_path, encoder) as made:
        built = index.build(photos, encoder, made, batch_size=3, write_every=7)
        assert (built.embedded, built.updated, built.unchanged, built.left_out) == (20, 0, 0, [])
        assert built.left_columns == ["nested"] and len(made) == 20
        assert made.columns == {
            "source_row": "text", "label": "text", "tags": "texts", "price": "number", "code": "text",
            "item_id": "text", "picture": "text",
        }  # fmt: skip
        found = made.search(encoder.encode([photo(7)], normalize_embeddings=True), 1)
        assert found.ids == [["7.png"]] and found.scores[0] == pytest.approx([1], abs=1e-3)
        assert found.rows[0][0] == {
            "source_row": "7.png", "label": "shirt", "tags": ["new", "red"], "price": 7.5, "code": "07",
            "item_id": "3",
        }  # fmt: skip


def test_a_second_build_embeds_what_is_new_or_changed_only(tmp_path, photos):
    encoder = Encoder()
    folder = Path(photos.with_format(None).cast_column("image", Image(decode=False))[0]["image"]["path"]).parent
    with target(tmp_path, encoder) as made:
        index.build(photos.select(range(15)), encoder, made, write_every=4)
        made.upsert(
            ["3.png"], made.vectors_of(["3.png"])["3.png"][None], [made.rows_of(["3.png"])["3.png"] | {"stock": 4}]
        )
        encoder.seen = 0
        again = index.build(photos.select(range(15)), encoder, made, write_every=4)
        assert (again.embedded, again.updated, again.unchanged, encoder.seen) == (0, 0, 15, 0)
        photo(100).save(folder / "2.png")
        prices = photos.with_format(None)["price"][:]
        changed = photos.remove_columns("price").add_column("price", ["99", *prices[1:3], "5", *prices[4:]])
        third = index.build(changed, encoder, made, write_every=4)
        assert (third.embedded, third.updated, third.unchanged, encoder.seen) == (6, 2, 12, 6) and len(made) == 20
        assert made.rows_of(["0.png"], columns=["price"]) == {"0.png": {"price": 99.0}}
        assert made.rows_of(["3.png"], columns=["price", "stock"]) == {"3.png": {"price": 5.0, "stock": 4}}
        assert made.search(encoder.encode([photo(100)], normalize_embeddings=True), 1).ids == [["2.png"]]


def test_splits_go_into_one_index_and_say_which(tmp_path, photos):
    encoder = Encoder()
    both = DatasetDict(train=photos.select(range(12)), test=photos.select(range(12, 20)))
    with target(tmp_path, encoder) as made:
        index.build(both, encoder, made)
        query = encoder.encode([photo(1)], normalize_embeddings=True)
        assert set(made.search(query, 20, "split=test").ids[0]) == {f"{number}.png" for number in range(12, 20)}


def test_photos_that_cannot_be_read_stop_or_are_left_out(tmp_path, photos):
    encoder = Encoder()
    folder = Path(photos.with_format(None).cast_column("image", Image(decode=False))[0]["image"]["path"]).parent
    with target(tmp_path, encoder) as made:
        index.build(photos.select([9]), encoder, made)
        (folder / "9.png").write_bytes(b"<html>")
        (folder / "12.png").unlink()
        with pytest.raises(InputError, match="9.png: an HTML page.*") as error:
            index.build(photos, encoder, made, write_every=10)
        assert "--on_bad_image drop" in str(error.value)
        assert len(made) == 10  # the good ones of the first ten are in, and the old 9
        built = index.build(photos, encoder, made, write_every=10, on_bad_image="drop")
        assert built.left_out == [
            {"where": "9.png", "reason": "an HTML page, perhaps the error page of a download"},
            {"where": "12.png", "reason": "no such file"},
        ]
        assert (built.embedded, built.unchanged) == (9, 9) and len(made) == 18 and made.rows_of(["9.png"]) == {}


def test_an_encoder_of_another_seed_is_refused(tmp_path, photos):
    with target(tmp_path, Encoder()) as made, pytest.raises(InputError, match="the encoder"):
        index.build(photos, Encoder(seed=1), made)


@pytest.mark.parametrize(("column", "said"), [("item_id", "in several rows"), ("sku", "source_row")])
def test_ids_must_differ_and_be_there(tmp_path, photos, column, said):
    encoder = Encoder()
    with target(tmp_path, encoder) as made, pytest.raises(InputError, match=said):
        index.build(photos, encoder, made, id_column=column)


def test_a_column_that_was_text_stays_text(tmp_path, photos):
    encoder = Encoder()
    with target(tmp_path, encoder) as made:
        index.build(photos.add_column("size", ["S", *["38"] * 19]), encoder, made)
        index.build(photos.add_column("size", ["40"] * 20), encoder, made)
        assert made.columns["size"] == "text" and made.rows_of(["0.png"], columns=["size"]) == {
            "0.png": {"size": "40"}
        }


# Parquet.


def test_parquet_gives_the_same_index_again(filled, tmp_path):
    made, vectors, rows = filled
    made.delete(["p3"])
    made.to_parquet(tmp_path / "vectors.parquet")
    table = pq.read_table(tmp_path / "vectors.parquet")
    assert table.column_names == ["id", "vector", "price", "category", "stock"] and table.num_rows == 499
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 16)
    with index.from_parquet(tmp_path / "vectors.parquet", tmp_path / "again") as again:
        queries = unit(np.random.default_rng(0), 10)
        ours, theirs = made.search(queries, 5), again.search(queries, 5)
        assert ours.ids == theirs.ids and ours.rows == theirs.rows and again.made_by == made.made_by
    # Into one that is there.
    with index.from_parquet(tmp_path / "vectors.parquet", tmp_path / "again") as again:
        assert len(again) == 499


def test_parquet_of_others(tmp_path):
    """Lists of any length and precision, in several files, as Spark writes them; ids that are numbers."""
    vectors = unit(np.random.default_rng(0), 6).astype(np.float64)
    for part in range(2):
        some = slice(part * 3, part * 3 + 3)
        table = pa.table(
            {"sku": [1, 2, 3] if part == 0 else [4, 5, 6], "features": vectors[some].tolist(), "price": [1, 2, 3]}
        )
        pq.write_table(table, tmp_path / f"part-{part}.parquet")
    read = {"made_by": "m", "id_column": "sku", "vector_column": "features"}
    with index.from_parquet(tmp_path / "part-*.parquet", tmp_path / "made", **read) as made:
        assert made.search(vectors[4], 1) == ([["5"]], [pytest.approx([1])], [[{"price": 2}]]) and len(made) == 6


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": ["a", "a"], "vector": [[1.0, 0.0], [0.0, 1.0]]}, "several times"),
        ({"id": ["a", "b"], "vector": [[1.0, 0.0], [0.0]]}, "lists of one length"),
        ({"id": ["a", "b"], "vector": [[1.0, 0.0], None]}, "lists of one length"),
        ({"id": ["a", None], "vector": [[1.0, 0.0], [0.0, 1.0]]}, "1 without one"),
        ({"id": ["a", "b"], "vector": ["x", "y"]}, "lists of decimals"),
        ({"sku": ["a", "b"], "vector": [[1.0, 0.0], [0.0, 1.0]]}, "a column id"),
    ],
)
def test_parquet_that_does_not_fit_is_refused(tmp_path, columns, said):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=said):
        index.from_parquet(tmp_path / "a.parquet", tmp_path / "made", made_by="m")


def test_an_id_in_two_files_and_files_that_do_not_say_their_model(tmp_path):
    for name in "ab":
        pq.write_table(pa.table({"id": ["x"], "vector": [[1.0, 0.0]]}), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match="'x' again"):
        index.from_parquet(tmp_path / "*.parquet", tmp_path / "made", made_by="m")
    with pytest.raises(InputError, match="made_by"):
        index.from_parquet(tmp_path / "a.parquet", tmp_path / "made2")
    with pytest.raises(InputError, match="no file"):
        index.from_parquet(tmp_path / "none*.parquet", tmp_path / "made3", made_by="m")


# The commands.


@pytest.fixture
def encoder(monkeypatch):
    made = Encoder()
    monkeypatch.setattr(backbones, "load_encoder", lambda model, **_: made)
    return made


def test_the_commands_index_and_search(tmp_path, monkeypatch, capsys, photos, encoder):
    monkeypatch.chdir(tmp_path)
    lines = ["file_name,price,category", *(f"{n}.png,{n}.50,{('dress', 'shirt')[n % 2]}" for n in range(20))]
    (tmp_path / "photos" / "metadata.csv").write_text("\n".join(lines))
    index_recipe.main(["photos", "a/model", "-o", "garments", "--write_every", "8"])
    said = capsys.readouterr().out
    assert "embedded: 20" in said and "price (number)" in said and "20 vectors of 16 numbers (exact)" in said
    assert index_recipe.main(["photos", "a/model", "-o", "garments"]).unchanged == 20
    capsys.readouterr()
    found = search_recipe.main(
        ["garments", "--image", "photos/7.png", "--k", "3", "--where", "category=shirt price<15"]
    )
    said = capsys.readouterr().out
    assert (
        found.ids[0][0] == "7.png"
        and len(found.ids[0]) == 3
        and said.splitlines()[1].split()[:3] == ["1", "1.000", "7.png"]
    )
    search_recipe.main(["garments", "--text", "red dress", "--output_file", "found.parquet"])
    assert pq.read_table("found.parquet").column_names[:4] == ["rank", "score", "id", "source_row"]
    search_recipe.main(["garments", "--text", "red dress", "--where", "price>1000"])
    assert "nothing found that fulfils price>1000" in capsys.readouterr().out
    # A photo with words: the sum of both; all weight on one is that one alone.
    words, both = ["--text", "red dress"], ["--image", "photos/7.png", "--text", "red dress"]
    asked = ["garments", "--k", "20"]
    seen = [
        search_recipe.main([*asked, *more])
        for more in (words, both, [*both, "--text_weight", "1"], [*both, "--text_weight", "0"])
    ]
    assert seen[0].ids == seen[2].ids and seen[3].ids[0][0] == "7.png" and seen[1].ids != seen[0].ids
    two = [encoder.encode([one], normalize_embeddings=True) for one in ("red dress", photo(7))]
    asked_for = (two[0] + two[1]) / np.linalg.norm(two[0] + two[1])
    held = encoder.encode([photo(number) for number in range(20)], normalize_embeddings=True)
    assert seen[1].scores[0][0] == pytest.approx(float((held @ asked_for.T).max()), abs=1e-5)


def test_a_model_is_found_from_another_folder(tmp_path, monkeypatch, encoder):
    (tmp_path / "shop" / "runs" / "enc").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "shop")
    made_by = index.identify(encoder, "runs/enc")
    index.create("indices/garments", made_by=made_by, dimension=16).close()
    monkeypatch.chdir(tmp_path)
    with index.open("shop/indices/garments") as made:
        assert made.model == str(tmp_path / "shop" / "runs" / "enc")
    (tmp_path / "shop" / "runs" / "enc").rename(tmp_path / "moved")

    def load_encoder(model, **_):
        raise InputError(f"the model '{model}'", expected="a folder", found="no folder of that name", fix="other")

    monkeypatch.setattr(backbones, "load_encoder", load_encoder)
    with pytest.raises(InputError, match="--model WHERE_IT_IS_NOW"):
        search_recipe.main(["shop/indices/garments", "--text", "red"])


def test_photos_that_are_gone_are_taken_out(tmp_path, monkeypatch, capsys, photos, encoder):
    monkeypatch.chdir(tmp_path)
    index_recipe.main(["photos", "a/model", "-o", "garments"])
    for number in (3, 4):
        (tmp_path / "photos" / f"{number}.png").unlink()
    assert index_recipe.main(["photos", "a/model", "-o", "garments"]).deleted == 0
    built = index_recipe.main(["photos", "a/model", "-o", "garments", "--delete_gone", "True"])
    assert built.deleted == 2 and built.unchanged == 18 and "deleted: 2" in capsys.readouterr().out
    with index.open("garments") as made:
        assert len(made) == 18 and not made.rows_of(["3.png", "4.png"])
    with pytest.raises(InputError, match=r"1 that are not there: 3\.png"):
        index_recipe.main(["--delete", "3.png", "5.png", "-o", "garments"])
    asked, rows_of = [], index.Index.rows_of
    monkeypatch.setattr(index.Index, "rows_of", lambda *one, **more: asked.append(1) or rows_of(*one, **more))
    assert index_recipe.main(["--delete", "5.png", "6.png", "-o", "garments"]).deleted == 2
    assert asked == [1]  # of a million ids, too
    assert "16 vectors are left" in capsys.readouterr().out


def test_class_folders_give_a_column_to_filter_by(tmp_path, monkeypatch, encoder):
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        place = tmp_path / "photos" / ("dress", "shirt")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        photo(number).save(place / f"{number}.png")
    index_recipe.main(["photos", "a/model", "-o", "garments"])
    with index.open("garments") as made:
        found = made.search(unit(np.random.default_rng(0), 1), 6, "label=shirt").ids[0]
    assert sorted(found) == ["shirt/1.png", "shirt/3.png", "shirt/5.png"]


def test_bad_photos_are_named_on_the_screen_and_in_the_folder(tmp_path, monkeypatch, capsys, photos, encoder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "5.png").write_bytes(b"")
    with pytest.raises(InputError, match="5.png"):
        index_recipe.main(["photos", "a/model", "-o", "garments"])
    index_recipe.main(["photos", "a/model", "-o", "garments", "--on_bad_image", "drop"])
    assert "left out: 5.png" in capsys.readouterr().out
    assert "5.png" in (tmp_path / "garments" / "left_out.csv").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "FOLDER --image PHOTO"),
        (["garments"], "one of them"),
        (["garments", "--image", "none.jpg", "--text", "b"], "no such file"),
        (["garments", "--text", " "], "found:    blanks"),
        (["garments", "--image", "none.jpg", "--text", " "], "found:    blanks"),
        (["garments", "--image", "none.jpg", "--text_weight", "0.6"], "a photo and words"),
        (["garments", "--text", "b", "--text_weight", "0.6"], "a photo and words"),
        (["garments", "--text", "b", "--text_weight", "2"], "text_weight"),
        (["nothing", "--text", "b"], "index.json"),
        (["garments", "--text", "b", "--where", "colour=red"], "filter on column colour"),
        (["garments", "--image", "none.jpg"], "no such file"),
        (["garments", "--text", "b", "--k", "0"], "1 to 100000"),
        (["garments", "--text", "b", "--output_file", "a.csv"], "ends with .parquet"),
    ],
)
def test_search_says_what_is_wrong(tmp_path, monkeypatch, encoder, words, said):
    monkeypatch.chdir(tmp_path)
    with index.create("garments", made_by=index.identify(encoder, "m"), dimension=16) as made:
        made.upsert(["a"], unit(np.random.default_rng(0), 1), [{"price": 1.5}])
    with pytest.raises(InputError) as error:
        search_recipe.main(words)
    assert said in str(error.value)


def test_search_refuses_another_model_and_words_for_one_of_photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_photos = Encoder(modalities=("image",))
    index.create("garments", made_by=index.identify(of_photos, "m"), dimension=16).close()
    monkeypatch.setattr(backbones, "load_encoder", lambda model, **_: of_photos)
    with pytest.raises(InputError, match="photos alone"):
        search_recipe.main(["garments", "--text", "red"])
    monkeypatch.setattr(backbones, "load_encoder", lambda model, **_: Encoder(seed=3))
    with pytest.raises(InputError, match="vectors of the model of the index"):
        search_recipe.main(["garments", "--text", "red", "--model", "other"])


@pytest.mark.parametrize("words", [[], ["photos"], ["photos", "m"], ["photos", "-o", "x"]])
def test_index_says_what_is_lacking(words):
    with pytest.raises(InputError, match="PHOTOS MODEL -o FOLDER"):
        index_recipe.main(words)


def test_neither_needs_lancedb_or_qdrant(tmp_path):
    code = (
        "import sys; from hf_fashion import index; import numpy as np\n"
        "with index.create(sys.argv[1], made_by='m', dimension=2) as made: made.upsert(['a'], np.eye(2)[:1])\n"
        "assert not {'lancedb', 'qdrant_client', 'sentence_transformers'} & {*sys.modules}"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code, str(tmp_path / "a")]) == 0
