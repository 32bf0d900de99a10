"""What servers of models share: photos of strangers are decoded within limits, and those of several people at once go
through the net in one pass. No torch is imported for it, since exported models need none.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from PIL import Image

from hf_fashion.images import Limits, Source, decode, probe

MAX_BYTES = 20 * 2**20  # of a file; phones make a quarter of that
LIMITS = Limits(max_bytes=MAX_BYTES)  # 25 megapixels: what phones take, in at most some 300 MB while it is decoded
# Nets bring the shorter side to some hundred pixels: of a strip of 1 x 20,000 (100 bytes of PNG) that makes gigabytes.
MAX_ASPECT = 50
LARGE = 16_000_000  # pixels; phones make 12 million, most of them

Inputs = Mapping[str, Any]  # what a net sees of one photo: each array or tensor (1, ...)


def cores() -> int:
    """The cores of this machine; a Space says how many are its own."""
    return int(os.environ.get("CPU_CORES") or os.cpu_count() or 1)


def engine_threads() -> int:
    """Threads of an engine that leave a core free for decoding and the server, as `OMP_NUM_THREADS` says it else."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else max(1, cores() - 1)


class Decoder:
    """Decodes the photos of visitors, no more of them at a time than there are cores, and of large ones one.

    A decoded photo takes up to some hundred megabytes; and a visitor with a usual photo does not wait for large ones.
    """

    def __init__(self) -> None:
        self._decoding, self._large = threading.Semaphore(cores()), threading.Semaphore()

    @contextmanager
    def open(self, photo: Source) -> Iterator[Image.Image]:
        """A photo as `images.decode` gives it, to be let go when the block ends.

        Raises:
            ValueError: It cannot be read, or is too large; the text is the reason.
        """
        width, height = probe(photo)
        if width * height > LIMITS.max_pixels:
            raise ValueError(
                f"too many pixels, {width:,} x {height:,}. Photos of up to {LIMITS.max_pixels // 10**6} million "
                "pixels are taken: save a smaller copy, 2,000 pixels wide for instance, and drop that"
            )
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ValueError(f"a strip of {width:,} x {height:,}, longer than {MAX_ASPECT} times its width")
        with self._large if width * height > LARGE else nullcontext(), self._decoding:
            yield decode(photo, limits=LIMITS)


class Passes:
    """A net for many threads at once: what waits while a pass runs goes through in the next one together.

    Args:
        run: What a processor makes of n photos of one shape -> one answer for each.
        most: Photos in one pass.
        wait: Seconds that a pass waits for more photos, where fewer than `most` are there.
    """

    def __init__(self, run: Callable[[dict[str, Any]], Sequence[Any]], most: int, wait: float = 0.0) -> None:
        self._run, self._most, self._wait = run, most, wait
        self._waiting: deque[tuple[Inputs, Future[Any]]] = deque()
        self._passing, self._came = threading.Lock(), threading.Event()

    def __call__(self, photos: Sequence[Inputs]) -> list[Any]:
        """The answer for each photo; what `run` raises is raised by each of its pass, and the next go on."""
        mine: list[Future[Any]] = [Future() for _ in photos]
        for one in zip(photos, mine, strict=True):
            self._waiting.append(one)
        self._came.set()
        for future in mine:
            # Whoever gets the lock takes along all that came in while the last pass ran.
            while not future.done():
                with self._passing:
                    if not future.done():
                        self._gather()
                        self._pass()
        return [future.result() for future in mine]

    def _gather(self) -> None:
        """Waits until there are enough photos for a pass, or long enough."""
        end = time.monotonic() + self._wait
        while len(self._waiting) < self._most and (left := end - time.monotonic()) > 0:
            self._came.clear()
            if len(self._waiting) < self._most:
                self._came.wait(left)

    def _pass(self) -> None:
        first = self._waiting.popleft()
        jobs: list[tuple[Inputs, Future[Any]]] = [first]
        others: list[tuple[Inputs, Future[Any]]] = []
        for _ in range(min(len(self._waiting), self._most - 1)):
            job = self._waiting.popleft()
            (jobs if _shapes(job[0]) == _shapes(first[0]) else others).append(job)
        self._waiting.extendleft(reversed(others))
        try:
            answers = self._run({name: _joined([job[0][name] for job in jobs]) for name in first[0]})
        except Exception as error:  # out of memory, for one: each visitor of this pass is told
            for _, future in jobs:
                future.set_exception(error)
            return
        for (_, future), answer in zip(jobs, answers, strict=True):
            future.set_result(answer)


def _shapes(inputs: Inputs) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in inputs.items()}


def _joined(arrays: Sequence[Any]) -> Any:
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays)
    import torch  # whose tensor it is: imported before

    return torch.cat(list(arrays))
