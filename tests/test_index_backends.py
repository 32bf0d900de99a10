"""Each backend gives what the exact one gives; addresses and keys of servers; and vectors that go to Ray and back."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Image, Value
from fake_encoder import Encoder, unit
from PIL import Image as PILImage

from hf_fashion import index
from hf_fashion.errors import InputError

BACKENDS = ["exact", "lancedb", "qdrant", "memory"]
FILTERS = [
    None, "category=dress price<50 stock>0", "category=\"it's\"", "tags=b", "tags=a,b", "sale=true stock=1,2",
    'rare="x y" price>=10 price<=20', {"stock": 1.5}, {"stock": {">": 1.5}}, {"stock": {"<=": 1e30}},
    {"price": [0.5, 1.0]}, "sale=true,false", "sku=9007199254740993", 'category="a\' OR true --"',
]  # fmt: skip


def rows_of(count):
    return [
        {
            "price": number * 0.5, "category": ("dress", "it's")[number % 2], "stock": number % 5,
            "tags": ["a", "b"][: number % 3], "sale": number % 2 == 0, "rare": None if number % 3 else "x y",
            "sku": 2**53 + number,
        }
        for number in range(count)
    ]  # fmt: skip


def made(backend, tmp_path, **settings):
    where = ":memory:" if backend == "memory" else tmp_path / backend
    settings = {"made_by": "a model", "dimension": 16} | settings
    return index.create(where, backend="qdrant" if backend == "memory" else backend, **settings)


def plain(found):
    return found.ids, [score.round(4).tolist() for score in found.scores], found.rows


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """Vectors, queries, and what the exact index finds for each filter."""
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng, 100), unit(rng, 3)
    with made("exact", tmp_path_factory.mktemp("truth")) as target:
        target.upsert([f"p/{number}" for number in range(100)], vectors, rows_of(100))
        answers = [plain(target.search(queries, 5, where)) for where in FILTERS]
    assert [bool(ids[0]) for ids, _, _ in answers] == [True] * 7 + [False] + [True] * 5 + [False]
    return vectors, queries, answers


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_every_filter_finds_the_same(backend, tmp_path, truth):
    vectors, queries, answers = truth
    with made(backend, tmp_path) as target:
        target.upsert([f"p/{number}" for number in range(100)], vectors, rows_of(100))
        for where, answer in zip(FILTERS, answers, strict=True):
            assert plain(target.search(queries, 5, where)) == answer, where


@pytest.mark.parametrize("backend", BACKENDS)
def test_upsert_delete_columns_and_opening_again(backend, tmp_path, truth):
    vectors, queries, _ = truth
    ids = [f"p{number}" for number in range(100)]
    with made(backend, tmp_path) as target:
        target.upsert(ids, vectors, rows_of(100))
        assert len(target) == 100 and target.delete(["p0", "p1", "not there"]) == 2 and len(target) == 98
        target.upsert(["p5", "new"], vectors[:2], [{"stock": 9, "made": "here"}, {"stock": 8.5}])
        assert len(target) == 99
        assert target.columns["stock"] == "number" and target.columns["made"] == "text"
        assert target.search(vectors[0], 1, "made=here").ids == [["p5"]]
        assert target.search(vectors[1], 1, "stock>8 stock<9").ids == [["new"]]
        assert target.search(queries[0], 1, columns=["stock"]).rows == [[{"stock": pytest.approx(5, abs=5)}]]
        empty = dict.fromkeys(("price", "category", "tags", "sale", "rare", "sku"))
        assert target.rows_of(["p5", "p0"]) == {"p5": empty | {"stock": 9, "made": "here"}}
        np.testing.assert_allclose(target.vectors_of(["p7", "p1"])["p7"], vectors[7], atol=1e-6)
        parts = pa.concat_tables([*target.scan()])
        assert sorted(parts.column("id").to_pylist()) == sorted({*ids, "new"} - {"p0", "p1"})
        target.compact()
        told, found = target.about, plain(target.search(queries, 5, "stock>2"))
        with pytest.raises(InputError, match="did you mean stock"):
            target.search(queries, 5, "stok>2")
        with pytest.raises(InputError, match="as in the rows before"):
            target.upsert(["x"], vectors[:1], [{"stock": "many"}])
    if backend != "memory":
        with index.open(tmp_path / backend) as again:
            assert again.about == told and len(again) == 99 and plain(again.search(queries, 5, "stock>2")) == found
        with pytest.raises(InputError, match="another model"):
            index.open(tmp_path / backend, made_by="another model")


@pytest.mark.parametrize("backend", BACKENDS)
def test_photos_resume_and_go_from_one_backend_to_another(backend, tmp_path):
    encoder = Encoder()
    pictures = [
        PILImage.fromarray(np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8))
        for number in range(8)
    ]
    kinds = Features({"image": Image(), "id": Value("string"), "price": Value("int64")})
    photos = Dataset.from_dict({"image": pictures, "id": [*"abcdefgh"], "price": [*range(8)]}, features=kinds)
    with made(backend, tmp_path, made_by=index.identify(encoder, "m")) as target:
        assert index.build(photos.select(range(5)), encoder, target, write_every=2).embedded == 5
        changed = photos.remove_columns("price").add_column("price", [9, *range(1, 8)])
        again = index.build(changed, encoder, target, write_every=2)
        assert (again.embedded, again.updated, again.unchanged) == (3, 1, 4)
        query = encoder.encode(pictures[:1], normalize_embeddings=True)
        assert target.search(query, 1) == ([["a"]], [pytest.approx([1], abs=1e-5)], [[{"price": 9}]])
        target.to_parquet(tmp_path / "vectors.parquet")
    for other in BACKENDS[:3]:
        with index.from_parquet(tmp_path / "vectors.parquet", tmp_path / f"to-{other}", backend=other) as copy:
            assert copy.about.backend == other and copy.search(query, 1).ids == [["a"]] and len(copy) == 8
            assert index.build(changed, encoder, copy).unchanged == 8


@pytest.mark.parametrize(("backend", "name"), [("lancedb", "a.b"), ("lancedb", "a`b"), ("qdrant", 'a"b')])
def test_names_of_columns_that_a_backend_cannot_have(backend, name, tmp_path):
    rng = np.random.default_rng(0)
    with made(backend, tmp_path) as target:
        with pytest.raises(InputError, match="rename the column"):
            target.upsert(["a"], unit(rng, 1), [{name: 1}])
        assert len(target) == 0 and target.columns == {}
        target.upsert(["a"], unit(rng, 1), [{"Ünï x-y": 1}])
        assert target.search(unit(rng, 1), 1, '"Ünï x-y">0').ids == [["a"]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_odd_names_and_values(backend, tmp_path):
    """Names that look like a path in nested data, and text that could end a literal of SQL."""
    rng = np.random.default_rng(0)
    names = ["a-b", "x y", "Ünï", "a[0]", "select"] + ["a.b"] * (backend != "lancedb")
    row = dict.fromkeys(names, '\'; drop \\ "photos" --')
    with made(backend, tmp_path) as target:
        target.upsert(["a", "b"], unit(rng, 2), [row, dict.fromkeys(names, "x")])
        for name in names:
            assert target.search(unit(rng, 1), 2, {name: row[name]}) == ([["a"]], [pytest.approx([0], abs=1)], [[row]])
        assert target.rows_of(["a"]) == {"a": row}
        assert pa.concat_tables([*target.scan(columns=names)]).select(names).to_pylist()[0] in (
            row,
            dict.fromkeys(names, "x"),
        )
        assert target.delete(["' or true --"]) == 0 and len(target) == 2


@pytest.mark.parametrize(("package", "backend"), [("lancedb", "lancedb"), ("qdrant-client", "qdrant")])
def test_a_missing_package_names_the_extra(package, backend, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(InputError, match=r"hf_fashion\[index\]") as error:
        made(backend, tmp_path)
    assert package in str(error.value)


# Lance.


def test_a_writer_that_died_while_a_column_grew_wider_left_nothing_wrong(tmp_path):
    """LanceDB cannot cast whole numbers in place: the wider column is made, the other goes, the name follows."""
    rng = np.random.default_rng(0)
    vectors = unit(rng, 3)
    for died in ("made", "gone"):
        where = tmp_path / died
        with index.create(where, made_by="m", dimension=16, backend="lancedb") as target:
            target.upsert(["a"], vectors[:1], [{"stock": 1}])
            table = target._store._table
            table.add_columns({"stock__number": "CAST(`stock` AS DOUBLE)"})
            if died == "gone":
                table.drop_columns(["stock"])
        with index.open(where) as target:
            target.upsert(["b"], vectors[1:2], [{"stock": 2.5}])
            assert target.rows_of(["a", "b"]) == {"a": {"stock": 1.0}, "b": {"stock": 2.5}}


# Qdrant.


class Server:
    """As much of a client as `create` and `open` ask for, and what it was made with."""

    made: list[dict] = []

    def __new__(cls, **settings):
        from qdrant_client.local.qdrant_local import QdrantLocal

        cls.made.append(settings)
        client = cls.held.setdefault(settings["url"], QdrantLocal(":memory:"))
        client.close = lambda: None
        return client

    held: dict = {}


@pytest.fixture
def server(monkeypatch):
    import qdrant_client

    Server.made, Server.held = [], {}
    monkeypatch.setattr(qdrant_client, "QdrantClient", Server)
    return Server


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect")
def test_the_same_code_with_an_address_and_a_key_that_is_written_nowhere(server, monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", "s3cret")
    address = "https://search.example.com:6333/garments"
    rng = np.random.default_rng(0)
    assert not index.exists(address)
    with pytest.raises(InputError, match="none called garments"):
        index.open(address)
    with index.create(address, made_by="m", dimension=16, backend="qdrant") as target:
        target.upsert(["a", "b"], unit(rng, 2), rows_of(2))
    with index.open(address) as again:
        assert again.search(unit(rng, 1), 2, "price>0").ids == [["b"]] and again.columns["price"] == "number"
        assert "s3cret" not in json.dumps(again.about.to_dict())
        collection = again._store._client.get_collection("garments")
        assert "s3cret" not in str(collection)
    with pytest.raises(InputError, match="a new collection"):
        index.create(address, made_by="m", dimension=16, backend="qdrant")
    assert all(one["url"] == "https://search.example.com:6333" and one["api_key"] == "s3cret" for one in server.made)


@pytest.mark.parametrize(
    "address",
    ["http://me:s3cret@host:6333/a", "http://host:6333/a?api_key=s3cret", "http://host/a#s3cret"],
)
def test_an_address_holds_no_key_and_the_message_neither(address):
    with pytest.raises(InputError, match="QDRANT_API_KEY") as error:
        index.create(address, made_by="m", dimension=16, backend="qdrant")
    assert "s3cret" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Failed to obtain server version")
def test_a_server_that_does_not_answer():
    with pytest.raises(InputError, match="a server of Qdrant that answers"):
        index.open("http://127.0.0.1:9/garments")


def test_an_address_is_for_qdrant_and_memory_is_not_opened():
    with pytest.raises(InputError, match="backend"):
        index.create("http://127.0.0.1:9/garments", made_by="m", dimension=16)
    with pytest.raises(InputError, match="index.create"):
        index.open(":memory:")


def test_a_folder_of_qdrant_is_for_one_process(tmp_path):
    with made("qdrant", tmp_path), pytest.raises(InputError, match="no other process"):
        index.open(tmp_path / "qdrant")


# Ray.

RAY = """
import sys
import numpy as np, ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
source, target, other = sys.argv[1:]
rows = ray.data.read_parquet(source)                         # what `to_parquet` wrote
assert rows.count() == 40 and {*rows.columns()} == {"id", "vector", "price"}
half = rows.filter(lambda row: row["price"] < 10)
half.map_batches(lambda batch: batch | {"vector": -np.stack(batch["vector"])}).write_parquet(target)
made = ray.data.range(30).map_batches(                       # vectors that Ray makes: a tensor for each batch
    lambda batch: {
        "id": batch["id"].astype(str), "price": batch["id"] * 0.5,
        "vector": np.eye(16, dtype=np.float32)[batch["id"] % 16],
    }
)
made.write_parquet(other)
"""


@pytest.mark.slow
def test_ray_reads_and_writes_the_vectors(tmp_path):
    vectors = unit(np.random.default_rng(0), 40)
    with made("exact", tmp_path) as target:
        target.upsert([f"p{number}" for number in range(40)], vectors, [{"price": n * 0.5} for n in range(40)])
        target.to_parquet(tmp_path / "vectors.parquet")
    places = [str(tmp_path / name) for name in ("vectors.parquet", "half", "made")]
    # No token in the user's home, and time to start on a busy machine.
    env = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "240"}
    subprocess.run([sys.executable, "-c", RAY, *places], check=True, timeout=500, env=env)
    with index.from_parquet(tmp_path / "half", tmp_path / "back", made_by="a model") as back:
        assert len(back) == 20 and back.search(-vectors[3], 1).ids == [["p3"]]
    with index.from_parquet(tmp_path / "made", tmp_path / "new", made_by="a model") as new:
        found = new.search(np.eye(16, dtype=np.float32)[5], 2)
        assert sorted(found.ids[0]) == ["21", "5"] and new.columns == {"price": "number"} and len(new) == 30
