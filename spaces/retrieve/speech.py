"""Speech to words, by any model of `pipeline("automatic-speech-recognition")`."""

import threading
import wave
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly
from transformers import pipeline

from hf_fashion.backbones.sources import ENCODER_FILES, find, first_line
from hf_fashion.errors import InputError

LONGEST = 30  # seconds, which is what Whisper hears at once
_NUMBERS = {1: np.uint8, 2: np.int16, 4: np.int32}  # bytes of a sample in a WAV file
_RATES = (4_000, 192_000)


class Speech:
    """A model of speech for many threads.

    Args:
        model: A Hub id or a folder.
        revision: Branch, tag or commit of a Hub id.

    Raises:
        InputError: There is none, or it does not hear.
    """

    def __init__(self, model: str, revision: str | None = None) -> None:
        folder = find(model, revision, [*ENCODER_FILES, "normalizer.json"])
        try:
            self._pipe: Any = pipeline(
                "automatic-speech-recognition", model=str(folder), model_kwargs={"use_safetensors": True}
            )
        except Exception as error:  # each architecture raises something of its own
            raise InputError(
                f"SPEECH {model}", expected='a model of pipeline("automatic-speech-recognition")',
                found=f"{type(error).__name__}: {first_line(error)}", fix="another, such as openai/whisper-tiny",
            ) from error  # fmt: skip
        self._hearing = threading.Lock()

    def words(self, recording: Path) -> str:
        """What is said in a WAV file.

        Raises:
            ValueError: It cannot be read, or is too long; the text is the reason.
        """
        rate = int(self._pipe.feature_extractor.sampling_rate)
        sound = read(recording, rate)
        with self._hearing:
            told = self._pipe({"raw": sound, "sampling_rate": rate})
        return " ".join(str(told["text"]).split())


def read(recording: Path, rate: int) -> np.ndarray:
    """A WAV file as one channel (n,) float32 from -1 to 1.

    Args:
        recording: The file: whole numbers of 8, 16 or 32 bits, at most `LONGEST` seconds.
        rate: Samples a second that are wanted.

    Raises:
        ValueError: It cannot be read, is too long, or holds nothing.
    """
    try:
        with wave.open(str(recording), "rb") as file:
            channels, width, own = file.getnchannels(), file.getsampwidth(), file.getframerate()
            if not _RATES[0] <= own <= _RATES[1] or width not in _NUMBERS:
                raise ValueError(f"{8 * width} bits at {own} Hz")
            if file.getnframes() > LONGEST * own:
                raise ValueError(f"it is longer than {LONGEST} seconds")
            data = file.readframes(LONGEST * own)
    except (wave.Error, EOFError, OSError) as error:
        raise ValueError("it is no WAV file of plain samples") from error
    samples = np.frombuffer(data[: len(data) // (width * channels) * width * channels], dtype=_NUMBERS[width])
    sound = samples.reshape(-1, channels).astype(np.float32).mean(axis=1)
    sound = (sound - 128) / 128 if width == 1 else sound / 2.0 ** (8 * width - 1)
    if not len(sound):
        raise ValueError("it holds no sound")
    shared = gcd(own, rate)
    made: np.ndarray = resample_poly(sound, rate // shared, own // shared).astype(np.float32)
    return made
