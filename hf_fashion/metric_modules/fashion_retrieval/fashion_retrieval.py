"""Recall at k, mAP at R, MRR and nDCG at 10 of a search, each with n and a 95 % bootstrap interval."""

import datasets
import evaluate

import hf_fashion.metrics

_DESCRIPTION = """
Figures of a search in a gallery from the ranks of the right answers: recall at k (a right answer among the first k, as
DeepFashion's benchmarks count), mean average precision at R, mean reciprocal rank and nDCG at 10. Each has a 95 %
interval, a percentile bootstrap over queries, or over groups of queries that belong together.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: for each query the ranks of all its right answers in the gallery, from 1 on
        (hf_fashion.metrics.rank_relevant gives them). A query without a right answer is refused.
    ks: for recall, 1, 5 and 10 by default.
    groups: for each query what it belongs to (its item); None: each stands for itself.
    n_resamples: draws of the bootstrap, 1000 by default; 0 leaves the intervals out.
    seed: seed of the draws.

Returns:
    A flat dict: n, recall_at_1, recall_at_5, recall_at_10, map_at_r, mrr, ndcg_at_10, and the ends of their intervals
    as recall_at_1_low, recall_at_1_high and so on.

Examples:
    >>> metric = evaluate.load(hf_fashion.metric_modules.path("fashion_retrieval"))
    >>> metric.compute(predictions=[[1, 4], [2]])["recall_at_1"]
    0.5
"""

_CITATION = """
@inproceedings{musgrave2020metric,
  title={A Metric Learning Reality Check},
  author={Musgrave, Kevin and Belongie, Serge and Lim, S.-N.},
  booktitle={European Conference on Computer Vision},
  year={2020}
}
"""


class FashionRetrieval(evaluate.Metric):
    """See the module; computes `hf_fashion.metrics.retrieval`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Sequence(datasets.Value("int64"))}),
            reference_urls=["https://arxiv.org/abs/2003.08505"],
        )

    def _compute(
        self,
        predictions: list[list[int]],
        ks: list[int] | tuple[int, ...] = (1, 5, 10),
        groups: list | None = None,
        n_resamples: int = 1000,
        seed: int = 42,
    ) -> dict:
        return hf_fashion.metrics.retrieval(predictions, ks, n_resamples=n_resamples, seed=seed, groups=groups)
