"""Average precision, precision, recall and F1 of attributes, each with n and a 95 % bootstrap interval."""

import datasets
import evaluate
import numpy as np

import hf_fashion.metrics

_DESCRIPTION = """
Figures of photos with several labels: mean average precision, precision, recall and F1 (macro, micro, by group, by
label). Labels that are not known of a photo (NaN) count neither as yes nor as no. Each figure has a 95 % interval, a
percentile bootstrap over photos.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: for each photo the probabilities of all labels.
    references: for each photo 1, 0 or NaN (not known) for all labels.
    said: for each photo True or False for all labels: what was decided.
    labels: the names, in the order of the scores.
    groups: name -> numbers of its labels.
    exclusive: groups of which a photo has exactly one label.
    n_resamples: draws of the bootstrap, 1000 by default; 0 leaves the intervals out.
    seed: seed of the draws.

Returns:
    A flat dict: n, map, f1_macro, f1_micro, precision_macro, recall_macro, by group (map/color, accuracy/color, ...),
    by label (ap/red, f1/red, f1_low/red, ...).

Examples:
    >>> metric = evaluate.load(hf_fashion.metric_modules.path("fashion_attributes"))
    >>> metric.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[[1, 0], [0, 1]],
    ...     said=[[True, False], [False, True]], labels=["red", "blue"], groups={"color": [0, 1]})["map"]
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


class FashionAttributes(evaluate.Metric):
    """See the module; computes `hf_fashion.metrics.attributes`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Sequence(datasets.Value("float32")),
                }
            ),
            reference_urls=["https://scikit-learn.org/stable/modules/model_evaluation.html"],
        )

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[list[float]],
        said: list[list[bool]],
        labels: list[str],
        groups: dict[str, list[int]],
        exclusive: list[str] | tuple[str, ...] = (),
        n_resamples: int = 1000,
        seed: int = 0,
    ) -> dict:
        truth = np.asarray(references, dtype=float)  # None, of a table without NaN, becomes NaN
        return hf_fashion.metrics.attributes(
            np.asarray(predictions),
            truth,
            np.asarray(said),
            labels,
            groups,
            exclusive,
            n_resamples=n_resamples,
            seed=seed,
        )
