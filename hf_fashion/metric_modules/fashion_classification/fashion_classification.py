"""Accuracy, top-5, precision, recall, F1 and a confusion matrix, each with n and a 95 % bootstrap interval."""

import datasets
import evaluate
import numpy as np

import hf_fashion.metrics

_DESCRIPTION = """
Figures of single-label image classification from the scores of all classes: accuracy, top-5 accuracy, precision,
recall and F1 (macro, micro and per class), and the confusion matrix. Each has a 95 % interval, a percentile bootstrap
over rows.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: for each row the scores (logits or probabilities) of all classes.
    references: for each row the true class number.
    labels: the class names, in the order of the scores.
    n_resamples: draws of the bootstrap, 1000 by default; 0 leaves the intervals out.
    seed: seed of the draws.

Returns:
    A flat dict: n, accuracy, accuracy_low, accuracy_high, top_5_accuracy, precision, recall and f1 as _macro and
    _micro, the same per class (f1/dress, f1_low/dress, ...), and confusion_matrix (rows true, columns predicted).

Examples:
    >>> metric = evaluate.load(hf_fashion.metric_modules.path("fashion_classification"))
    >>> metric.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1], labels=["hat", "shoes"])["accuracy"]
    1.0
"""

_CITATION = """
@article{scikit-learn,
  title={Scikit-learn: Machine Learning in {P}ython},
  author={Pedregosa, F. and others},
  journal={Journal of Machine Learning Research},
  volume={12}, pages={2825--2830}, year={2011}
}
"""


class FashionClassification(evaluate.Metric):
    """See the module; computes `hf_fashion.metrics.classification`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
            reference_urls=["https://scikit-learn.org/stable/modules/model_evaluation.html"],
        )

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[int],
        labels: list[str],
        n_resamples: int = 1000,
        seed: int = 0,
    ) -> dict:
        scores, truth = np.asarray(predictions), np.asarray(references)
        return hf_fashion.metrics.classification(scores, truth, labels, n_resamples=n_resamples, seed=seed)
