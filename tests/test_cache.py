"""Arrays on the disk: damaged files, full disks, and what killed runs leave."""

import os

import numpy as np
import pytest

from hf_fashion import cache
from hf_fashion.errors import InputError


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_FASHION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_made_anew(kept, share):
    whole = cache.make("one", (1000,), np.float32, lambda array: array.fill(3))
    path = kept / "one.npy"
    data = path.read_bytes()
    del whole
    path.write_bytes(data[: int(share * len(data))])
    assert cache.held("one") is None
    assert cache.make("one", (1000,), np.float32, lambda array: array.fill(4))[999] == 4


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="a system without it")
def test_the_disk_has_room_before_anything_is_written(kept, monkeypatch):
    taken = []

    def fill(array):
        taken.extend(512 * path.stat().st_blocks for path in kept.iterdir())

    cache.make("large", (1_000_000,), np.uint8, fill)
    assert len(taken) == 1 and taken[0] >= 1_000_000  # a sparse file takes a block

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="a disk with room for it"):
        cache.make("more", (1_000_000,), np.uint8, lambda array: pytest.fail("written into a map without room"))
    assert [path.name for path in kept.iterdir()] == ["large.npy"]


def test_what_a_killed_run_left_goes_a_day_later(kept):
    kept.mkdir()
    for name, age in (("old.1.unfinished", 90_000), ("new.2.unfinished", 3_000)):
        (kept / name).write_bytes(b"1")
        now = (kept / name).stat().st_mtime
        os.utime(kept / name, (now - age, now - age))
    cache.make("one", (10,), np.uint8, lambda array: array.fill(1))
    assert {path.name for path in kept.iterdir()} == {"one.npy", "new.2.unfinished"}
