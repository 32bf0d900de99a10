"""A run's folder -> a model card whose every number was measured in that run; and what the Hub asks of cards.

    cards.write(run, usage=task.usage, photo=photo)     # README.md beside the model, its examples executed
    cards.validate("README.md", "model")                # offline; also "dataset" and "space"

`hf-fashion card RUN` renders it again.
"""

from hf_fashion.cards.results import refuse_benchmark
from hf_fashion.cards.rules import validate
from hf_fashion.cards.writing import addressed, main, refuse_license, refuse_prose, render, write

__all__ = ["addressed", "main", "refuse_benchmark", "refuse_license", "refuse_prose", "render", "validate", "write"]
