"""An index whose writer is killed, or that is read while it changes: the old state or the new one, never a mixture."""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from fake_encoder import Encoder, unit
from PIL import Image as PILImage
from processes import several

from hf_fashion import index
from hf_fashion.errors import InputError
from hf_fashion.index import about, exact, segments

FORK = multiprocessing.get_context("fork")
PHOTOS = 60


def dataset(count=PHOTOS):
    pictures = [
        PILImage.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8))
        for number in range(count)
    ]
    kinds = Features({"image": Image(), "id": Value("string"), "number": Value("int64")})
    rows = {"image": pictures, "id": [f"p{number}" for number in range(count)], "number": [*range(count)]}
    return Dataset.from_dict(rows, features=kinds)


class Slow(Encoder):
    """It takes its time, and says in a file how many photos it saw."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def encode(self, inputs, **settings):
        made = super().encode(inputs, **settings)
        with self.log.open("a") as file:
            file.write(f"{len(inputs)}\n")
        time.sleep(0.01)
        return made


def killed(process, log, wait):
    """Starts a process, and kills it some time after it embedded its next batches. Whether it was still at work."""
    done = len(log.read_text().split()) if log.exists() else 0
    process.start()
    while process.is_alive() and (not log.exists() or len(log.read_text().split()) < done + 4):
        time.sleep(0.001)
    time.sleep(wait)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def whole(target, encoder):
    """Whether each photo is in the index once, with the vector of its picture and its row."""
    photos = dataset()
    vectors = encoder.encode(photos["image"][:], normalize_embeddings=True)
    found = target.search(vectors, 1)
    assert found.ids == [[f"p{number}"] for number in range(PHOTOS)] and len(target) == PHOTOS
    assert [row[0]["number"] for row in found.rows] == [*range(PHOTOS)]
    everything = target.search(vectors[:1], 1000).ids[0]
    assert len(everything) == PHOTOS and len({*everything}) == PHOTOS


@pytest.mark.parametrize("backend", ["exact", pytest.param("lancedb", marks=pytest.mark.slow)])
def test_indexing_that_is_killed_goes_on_and_loses_nothing(tmp_path, backend):
    log, every = tmp_path / "log", 4
    encoder = Slow(log)
    settings = {"made_by": index.identify(encoder, "m"), "dimension": 16, "backend": backend}
    index.create(tmp_path / "index", **settings).close()
    # The threads of LanceDB do not outlive a fork.
    context, kills_at_most = (FORK, 4) if backend == "exact" else (multiprocessing.get_context("spawn"), 1)
    chance = random.Random(0)
    kills, alive = 0, True
    while alive and kills < kills_at_most:
        process = context.Process(target=_build, args=(str(tmp_path / "index"), str(log), every))
        alive = killed(process, log, 0.1 * chance.random())
        kills += alive
    assert kills, "it was never killed at work: make it slower"
    with index.open(tmp_path / "index") as target:
        before = len(target)
        built = index.build(dataset(), encoder, target, batch_size=2, write_every=every)
        assert (built.embedded, built.unchanged) == (PHOTOS - before, before)
        whole(target, Encoder())
    embedded = sum(map(int, log.read_text().split()))
    assert PHOTOS <= embedded <= PHOTOS + kills * every  # of each kill the unfinished batch is done again, no more


def _build(folder, log, every):
    with index.open(folder) as target:
        index.build(dataset(), Slow(Path(log)), target, batch_size=2, write_every=every)


class Died(BaseException):
    """The writer's death, in a place that is chosen."""


def dies(name):
    def instead(*args, **kwargs):
        raise Died(name)

    return instead


@pytest.mark.parametrize(
    ("place", "name"),
    [(segments, "write"), (segments.os, "fsync"), (segments.np, "stack"), (about.json, "dump"), (about.os, "replace")],
)
@pytest.mark.parametrize("change", ["upsert", "delete", "compact"])
def test_a_writer_that_dies_anywhere_leaves_the_state_before(tmp_path, monkeypatch, place, name, change):
    rng = np.random.default_rng(0)
    vectors = unit(rng, 6)
    target = index.create(tmp_path / "index", made_by="m", dimension=16)
    target.upsert(["a", "b", "c"], vectors[:3], [{"n": 1}, {"n": 2}, {"n": 3}])
    target.upsert(["d"], vectors[3:4], [{"n": 4}])
    target.delete(["c"])
    changes = {
        "upsert": lambda: target.upsert(["a", "new"], vectors[4:], [{"n": 5}, {"m": 6}]),
        "delete": lambda: target.delete(["a"]),
        "compact": target.compact,
    }
    with monkeypatch.context() as patch:
        patch.setattr(place, name, dies(name))
        if place is segments and name == "write":
            patch.setattr("hf_fashion.index.exact.write", dies(name))
        with pytest.raises(Died):
            changes[change]()
    # The delete is done before the segment, half of whose rows are dead then, is written anew.
    kept = {"a": {"n": 1}, "b": {"n": 2}, "d": {"n": 4}}
    if change == "delete" and name in ("write", "stack"):
        del kept["a"]
    for state in (target, index.open(tmp_path / "index")):  # of this process, and of another
        assert state.search(vectors[3], 5).ids == target.search(vectors[3], 5).ids
        assert len(state) == len(kept) and state.columns == {"n": "integer"}
        assert state.rows_of(["a", "b", "c", "d"]) == kept
        np.testing.assert_array_equal(state.vectors_of(["b"])["b"], vectors[1])
    changes[change]()  # the next writer can, and leaves nothing of the dead one behind
    used = {one.told["name"] for one in target._store._now().segments}
    assert {path.name for path in (tmp_path / "index" / "segments").iterdir()} == used
    assert len(target) == {"upsert": 4, "delete": 2, "compact": 3}[change]


def test_who_reads_while_another_writes_sees_one_state(tmp_path):
    """A writer replaces all of 40 rows at once, again and again; a reader that found two versions saw a half."""
    rng = np.random.default_rng(0)
    vectors, ids = unit(rng, 40), [f"p{number}" for number in range(40)]
    others = unit(rng, 7)
    with index.create(tmp_path / "index", made_by="m", dimension=16) as target:
        target.upsert(ids, vectors, [{"version": 0}] * 40)

    def write():
        with index.open(tmp_path / "index") as target:
            for version in range(1, 10_000):
                target.upsert(ids, vectors, [{"version": version}] * 40)
                target.upsert([f"x{number}" for number in range(7)], others, [{"version": -1}] * 7)
                target.delete([f"x{number}" for number in range(7)])
                if version % 5 == 0:
                    target.compact()

    writer = FORK.Process(target=write)
    writer.start()
    seen, extra = set(), set()
    try:
        with index.open(tmp_path / "index") as target:
            end = time.monotonic() + 60
            while (len(seen) < 12 or len(extra) < 2) and time.monotonic() < end:
                [found], _, [rows] = target.search(vectors[:1], 100)
                versions = {row["version"] for row in rows} - {-1}
                assert len(versions) == 1 and {*found} >= {*ids} and len({*found}) == len(found) in (40, 47)
                assert len(target.search(vectors[:1], 100, "version>=0").ids[0]) == 40
                assert len(target.rows_of(ids)) == 40 and len(target) in (40, 47)
                seen |= versions
                extra.add(len(found))
            assert writer.is_alive() and len(seen) >= 12 and extra == {40, 47}
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()


def test_a_reader_whose_files_are_merged_away_before_it_opens_them_looks_again(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    vectors = unit(rng, 6)
    with index.create(tmp_path / "index", made_by="m", dimension=16) as target:
        for number in range(6):
            target.upsert([f"p{number}"], vectors[number : number + 1])
        whole_segment, merges = exact.Segment, [target.compact]

        def segment(folder, told):
            if merges:
                monkeypatch.setattr(exact, "Segment", whole_segment)
                merges.pop()()
                monkeypatch.setattr(exact, "Segment", segment)
            return whole_segment(folder, told)

        monkeypatch.setattr(exact, "Segment", segment)
        with index.open(tmp_path / "index") as reader:
            assert not merges and reader.search(vectors, 1).ids == [[f"p{number}"] for number in range(6)]


def test_writers_wait_for_each_other(tmp_path):
    rng = np.random.default_rng(0)
    vectors = unit(rng, 2 * 12)
    index.create(tmp_path / "index", made_by="m", dimension=16).close()

    def write(first):
        with index.open(tmp_path / "index") as target:
            for number in range(first, first + 12):
                target.upsert([f"p{number}"], vectors[number : number + 1], [{"n": number}])

    writers = [FORK.Process(target=write, args=(first,)) for first in (0, 12)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    with index.open(tmp_path / "index") as target:
        assert len(target) == 24 and target.search(vectors, 1).ids == [[f"p{number}"] for number in range(24)]


def test_a_full_disk_says_so_and_changes_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    with index.create(tmp_path / "index", made_by="m", dimension=16) as target:
        target.upsert(["a"], unit(rng, 1))

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(segments.np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(InputError, match="a disk with room"):
            target.upsert(["b"], unit(rng, 1))
        monkeypatch.undo()
        assert len(target) == 1
        target.upsert(["b"], unit(rng, 1))
        assert len(target) == 2


SHARES = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_index_faults import Slow, dataset
from hf_fashion import index
from hf_fashion.index.building import processes
state = processes()
assert state.num_processes == 2
encoder = Slow(Path(f"log-{state.process_index}"))
with index.open("index") as target:
    built = index.build(dataset(), encoder, target, batch_size=2, write_every=8)
print("embedded", built.embedded)
import torch.distributed
torch.distributed.destroy_process_group()
"""


def test_each_of_several_processes_embeds_its_share(tmp_path):
    index.create(tmp_path / "index", made_by=index.identify(Encoder(), "m"), dimension=16).close()
    (tmp_path / "script.py").write_text(SHARES)
    command = [sys.executable, str(tmp_path / "script.py"), str(Path(__file__).parent)]
    told = tmp_path / "told"
    assert several(2, command, tmp_path, told) == [0, 0], told.read_text()
    assert told.read_text().count(f"embedded {PHOTOS}") == 2
    seen = [sum(map(int, (tmp_path / f"log-{rank}").read_text().split())) for rank in range(2)]
    assert sorted(seen) == [28, 32]
    with index.open(tmp_path / "index") as target:
        whole(target, Encoder())
