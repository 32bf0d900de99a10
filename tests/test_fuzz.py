"""Whatever comes in at the door: a result, or an error that says what is wrong. Never another exception."""

import json
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import bad_pictures
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_fashion import images

SECONDS, MEGABYTES = 2, 500  # that one input may take
NUMBERS = (0, 1, 2, 8, 255, 256, 5000, 65535, 2**31 - 1, 2**31, 2**32 - 1)
SIZES = ((5000, 5000), (24_999, 1000), (1, 65_535), (381, 65_535), (48, 35), (0, 36))  # some just under the limit
PNG = b"\x89PNG\r\n\x1a\n"


def seeds():
    """Small pictures of every format that Pillow writes, and all bad pictures that are small and can be read."""
    Image.init()
    small = Image.fromarray(bad_pictures.photo())
    made = [case.data for case in bad_pictures.cases() if case.wanted != "refused" and len(case.data) < 20_000]
    for format in sorted(Image.SAVE):
        for mode in ("RGB", "RGBA", "L", "1", "P"):
            try:
                made.append(bad_pictures.encoded(small.convert(mode), format))
                images.decode(made[-1])
            except (OSError, ValueError, KeyError, NotImplementedError, AttributeError):
                continue  # not this mode
    return made


SEEDS = seeds()


def mended(data):
    """A PNG whose checksums are right again: otherwise a change in a chunk is never looked at."""
    made, place = [], len(PNG)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        body = data[place + 4 : place + 8 + length]
        made.append(data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + length
    return PNG + b"".join(made) + data[place:]


@st.composite
def mutated_pictures(draw):
    """A picture with up to three changes: flips, cuts, splices with another, other numbers, noise, another size."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from(["flip", "flip", "cut", "end", "splice", "noise", "number", "size", "size"]))
        reach = len(data) if draw(st.booleans()) else min(len(data), 80)  # half of them in the header
        at = draw(st.integers(0, max(0, reach - 1)))
        if change == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif change == "cut":
            del data[at : at + draw(st.integers(1, 100))]
        elif change == "end":
            del data[at:]
        elif change == "splice":
            other = draw(st.sampled_from(SEEDS))
            data[at:] = other[draw(st.integers(0, len(other))) :]
        elif change == "noise":
            data[at : at + 8] = draw(st.binary(min_size=1, max_size=8))
        elif change == "size":
            width, height = draw(st.sampled_from(SIZES))
            for order in ("<H", ">H"):
                new = data[:200].replace(struct.pack(order, bad_pictures.WIDTH), struct.pack(order, width))
                data[:200] = new.replace(struct.pack(order, bad_pictures.HEIGHT), struct.pack(order, height))
        else:
            size, order = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from(["big", "little"]))
            number = draw(st.sampled_from(NUMBERS)) % 256**size
            data[at : at + size] = number.to_bytes(size, order)
    data = bytes(data)
    return mended(data) if data.startswith(PNG) and draw(st.booleans()) else data


def decode(data):
    """Decodes, or is refused with a reason."""
    try:
        decoded = images.decode(data)
    except ValueError as error:
        assert str(error)
        return "refused"
    assert decoded.mode == "RGB" and 0 < decoded.width * decoded.height <= images.LIMITS.max_pixels
    return "decoded"


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(mutated_pictures())
@pytest.mark.filterwarnings("ignore")  # pytest sets its own filters in place of ours
def test_mutated_pictures_are_decoded_or_refused(data):
    start = time.process_time()
    decode(data)
    assert time.process_time() - start < SECONDS


def measure(count):
    """Runs in a process of its own; prints how many inputs had which outcome, and the most that one of them took."""
    told = {"decoded": 0, "refused": 0, "seconds": 0.0, "megabytes": 0.0}

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(mutated_pictures())
    def every(data):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        start = time.process_time()
        told[decode(data)] += 1
        told["seconds"] = max(told["seconds"], time.process_time() - start)
        status = Path("/proc/self/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        told["megabytes"] = max(told["megabytes"], peak)
        assert peak < MEGABYTES and time.process_time() - start < SECONDS

    every()
    print(json.dumps(told))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_10_000_mutated_pictures_take_at_most_2_s_and_500_mb_each():
    code = "import test_fuzz; test_fuzz.measure(10_000)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["decoded"] + told["refused"] >= 10_000 and min(told["decoded"], told["refused"]) > 500
