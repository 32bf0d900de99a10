"""All that is wrong with a dataset of photos, told at once before the first training step.

    report = checks.check(dataset, report)                       # what every recipe does: each picture decoded once
    report = checks.check(dataset, report, thorough=True)        # and near-duplicates, classes of few photos
    checks.write(dataset, report, "findings")                    # report.html with the pictures, findings.parquet
    checks.fix(dataset, report, "cleaned")                       # a copy without what is certainly wrong

`hf-fashion check PHOTOS` does all of it from the command line.
"""

from hf_fashion.checks.cleaning import fix, options, refuse_in_use, refuse_inside
from hf_fashion.checks.labels import tell_unchecked
from hf_fashion.checks.page import refuse_others, write
from hf_fashion.checks.whole import after_training, check, drop

__all__ = [
    "after_training", "check", "drop", "fix", "options", "refuse_in_use", "refuse_inside", "refuse_others",
    "tell_unchecked", "write",
]  # fmt: skip
