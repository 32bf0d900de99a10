"""Examples on a model's page: photos in the repo, each with what the model says of it."""

import shutil
from collections.abc import Iterable
from typing import Any

from PIL import Image

from hf_fashion import images, record
from hf_fashion.cards.metadata import one_line

FOLDER = "widget"
PHOTOS = 3
LOOKED_AT = 300  # photos among which different labels are looked for
SIDE = 640  # pixels of the longer side
GUESSES = 5
# Tasks whose pipeline says what the Hub's widget shows: labels and scores, and boxes.
TASKS = ("image-classification", "object-detection")


def write(
    run: record.Run,
    examples: Iterable[tuple[Any, str]],
    task: str,
    *,
    count: int = PHOTOS,
    limits: images.Limits = images.LIMITS,
) -> list[dict[str, Any]]:
    """Writes photos of different labels into the run's folder, and asks the model that lies there about them.

    The photos are smaller copies without metadata (EXIF, comments, profiles): they go where the model goes.

    Args:
        run: The folder, with a model and its processor.
        examples: (photo, true label); a photo as `images.decode` takes it, or decoded. Not more are read than needed.
        task: The Hub's name of the task; others than `TASKS` get no examples.
        count: Photos at most.
        limits: What a photo may be.

    Returns:
        `widget` of a card's metadata: src, example_title (the true label) and output.
    """
    place = run.folder / FOLDER
    if place.is_dir():
        shutil.rmtree(place)
    if task not in TASKS or count < 1:
        return []
    chosen = _different(examples, count, limits)
    if not chosen:
        return []
    from transformers import pipeline  # torch: only where a model is asked

    ask: Any = pipeline(task, model=str(run.folder))  # type: ignore[call-overload]
    # A detector says nothing below 0.5, unless it is told from where on it was found to be right.
    told_from = getattr(ask.model.config, "score_threshold", None) if task == "object-detection" else None
    settings = {} if told_from is None else {"threshold": told_from}
    place.mkdir()
    told = []
    for number, (photo, label) in enumerate(chosen, 1):
        path = place / f"{number}.jpg"
        _bare(photo).save(path, quality=90)
        guesses = sorted(ask(str(path), **settings), key=lambda guess: -guess["score"])[:GUESSES]
        output = [{**guess, "label": one_line(guess["label"]), "score": round(guess["score"], 4)} for guess in guesses]
        told.append(
            {"src": path.relative_to(run.folder).as_posix(), "example_title": one_line(label), "output": output}
        )
    return told


def _different(
    examples: Iterable[tuple[Any, str]], count: int, limits: images.Limits
) -> list[tuple[Image.Image, str]]:
    """The first photos whose labels differ; where there are too few labels, fewer photos."""
    chosen: dict[str, Any] = {}
    for number, (photo, label) in enumerate(examples):
        if len(chosen) == count or number == LOOKED_AT:
            break
        chosen.setdefault(label, photo)
    return [
        (photo if isinstance(photo, Image.Image) else images.decode(photo, limits=limits), label)
        for label, photo in chosen.items()
    ]


def _bare(photo: Image.Image) -> Image.Image:
    """A smaller copy of the pixels alone: Pillow saves along what it keeps beside them (comments, profiles)."""
    small = photo.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    bare = Image.new("RGB", small.size)
    bare.paste(small)
    return bare
