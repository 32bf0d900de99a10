"""A run's folder -> a model card whose every number was measured in that run; and what the Hub asks of cards.

    cards.write(run, usage=task.usage, photo=photo)     # README.md beside the model, its examples executed
    cards.validate("README.md", "model")                # offline; also "dataset" and "space"

`hf-fashion card RUN` renders it again.
"""

from hf_fashion.cards.results import refuse_benchmark
from hf_fashion.cards.rules import validate
from hf_fashion.cards.writing import (
    PHOTOS,
    addressed,
    main,
    record_without_photos,
    refuse_license,
    refuse_prose,
    render,
    without_photos,
    write,
)

__all__ = [
    "PHOTOS",
    "addressed",
    "main",
    "record_without_photos",
    "refuse_benchmark",
    "refuse_license",
    "refuse_prose",
    "render",
    "validate",
    "without_photos",
    "write",
]
