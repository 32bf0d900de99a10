"""Sweeps: which settings to try, which were tried, and which was best on validation.

Optuna keeps the points and proposes the next one, in a file of the sweep's folder; what each run of a point gave
stands in `sweep.json`. Both are written after every run, so that a sweep that was killed goes on where it was.

Why not `Trainer.hyperparameter_search`: in transformers 5.23 it sets attributes of `TrainingArguments` on one Trainer,
unchecked and without `__post_init__` (text for a bool becomes True), and passes over every other name with a warning.
What learns, the photos' changes, the loss, the collator and the optimizer are fixed before it starts (it refuses
`optimizers` beside `model_init`). It has one run a point, takes the last epoch's metrics where we keep the best epoch,
and does not know an unfinished point when it is started again. Here a point is a few whole runs of a recipe instead.
"""

from hf_fashion.sweeps.asking import Asked, Swept, parse_args, refuse_missing, tokens
from hf_fashion.sweeps.study import Job, Sweep

__all__ = ["Asked", "Job", "Sweep", "Swept", "parse_args", "refuse_missing", "tokens"]
