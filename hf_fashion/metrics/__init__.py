"""Plain functions: arrays in, a flat dict out; each figure with n and a bootstrap interval.

The values are scikit-learn's, of boxes those of faster-coco-eval, of a search those of their definitions
(`retrieval`). The intervals are percentile bootstraps over rows
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13): rows are drawn with replacement, the figure
is computed again on each draw on which it is defined, and the 2.5th and 97.5th percentiles are the ends of the 95 %
interval. Where all rows are right, or all wrong, every draw says the same, and a bootstrap would claim certainty:
there the interval is Wilson's for k of n (Journal of the American Statistical Association 22, 1927), n being the rows
that it counts.

A class of few rows is missing in many draws and leaves their mean over classes, which is then higher than the figure.
So the draws of a macro figure are shifted until their mean is the figure. In simulations (300 repetitions,
`benchmarks/interval_coverage.py`) of 40 classes in a long tail and 268 rows their interval held the true value in
0.73, against 0.59 unshifted; of 10 classes and 80 rows in 0.94 against 0.92; of 100 classes and 1,000 rows in 0.60
against 0.25. It is too narrow where most classes have a handful of rows: then the mean itself is off.
"""

from hf_fashion.metrics.boxes import Annotations, BoxFormat, Detections
from hf_fashion.metrics.coco import Curves, detection, precision_recall
from hf_fashion.metrics.intervals import CONFIDENCE, MEANS, N_RESAMPLES, interval_keys
from hf_fashion.metrics.multi_label import attributes
from hf_fashion.metrics.pairs import difference_by_item, holm, paired, paired_by_item, paired_f1_macro, paired_map
from hf_fashion.metrics.retrieval import query_figures, rank_relevant, retrieval, retrieval_macro, top
from hf_fashion.metrics.single_label import classification, unsure_below
from hf_fashion.metrics.tide import ERROR_KINDS, Assigned, assign_errors, best_threshold, detection_errors

__all__ = [
    "CONFIDENCE",
    "ERROR_KINDS",
    "MEANS",
    "N_RESAMPLES",
    "Annotations",
    "Assigned",
    "BoxFormat",
    "Curves",
    "Detections",
    "assign_errors",
    "attributes",
    "best_threshold",
    "classification",
    "detection",
    "detection_errors",
    "difference_by_item",
    "holm",
    "interval_keys",
    "paired",
    "paired_by_item",
    "paired_f1_macro",
    "paired_map",
    "precision_recall",
    "query_figures",
    "rank_relevant",
    "retrieval",
    "retrieval_macro",
    "top",
    "unsure_below",
]
