"""Where the cache cannot be written, it is said how it is put elsewhere."""

import errno

import numpy as np
import pytest

from hf_fashion import cache
from hf_fashion.errors import InputError


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_FASHION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(fill=lambda array: array.fill(1)):
    return cache.make("one", (10,), np.uint8, fill)


def test_a_full_disk_names_the_setting(place):
    def full(array):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError) as error:
        make(full)
    assert error.value.what == f"the cache {place}" and error.value.fix.startswith("HF_FASHION_CACHE=FOLDER")
    assert "resume_from_checkpoint" not in str(error.value) and not [*place.iterdir()]


def test_a_file_in_its_place_names_the_setting(place):
    place.write_bytes(b"mine")
    with pytest.raises(InputError, match="HF_FASHION_CACHE=FOLDER"):
        make()
    assert place.read_bytes() == b"mine"


def test_a_folder_that_may_not_be_written_names_the_setting(monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cache, "open_memmap", refused)
    with pytest.raises(InputError, match="Permission denied"):
        make()


def test_what_fails_while_it_is_filled_stays_what_it_is():
    """A photo that may not be read is no fault of the cache's folder."""

    def refused(array):
        raise PermissionError(errno.EACCES, "Permission denied", "photo.jpg")

    with pytest.raises(PermissionError, match=r"photo\.jpg"):
        make(refused)
