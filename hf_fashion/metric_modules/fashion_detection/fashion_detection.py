"""Mean average precision and recall of boxes as COCO has them, each with n and a 95 % bootstrap interval."""

import datasets
import evaluate

import hf_fashion.metrics

_DESCRIPTION = """
COCO's twelve figures of detected boxes, by faster-coco-eval, called as torchmetrics calls them: map (IoU 0.5 to 0.95),
map_50, map_75, map_small, map_medium, map_large, mar_1, mar_10, mar_100, mar_small, mar_medium, mar_large; and average
precision by class. Each has a 95 % interval, a percentile bootstrap over photos.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: for each photo a dict of boxes (four numbers each), scores and labels (class numbers).
    references: for each photo a dict of boxes, labels, area (square pixels, of the mask where there is one; an empty
        list: width times height) and iscrowd (0 or 1; an empty list: all 0).
    labels: names of the classes, in the order of their numbers.
    box_format: of all boxes, in pixels: xywh (the default: left, top, width, height), xyxy or cxcywh.
    n_resamples: draws of the bootstrap, 200 by default; 0 leaves the intervals out.
    seed: seed of the draws.

Returns:
    A flat dict: n (photos), n_boxes, the twelve figures, ap/<label>, ap_50/<label>, n/<label>; the ends of intervals
    as map_low, map_high, ap_low/<label> and so on. A figure of a class or size of which there is no box is None.

Examples:
    >>> metric = evaluate.load(hf_fashion.metric_modules.path("fashion_detection"))
    >>> truth = {"boxes": [[10, 10, 50, 80]], "labels": [0], "area": [], "iscrowd": []}
    >>> said = {"boxes": [[10, 10, 50, 80]], "scores": [0.9], "labels": [0]}
    >>> metric.compute(predictions=[said], references=[truth], labels=["dress", "hat"])["map"]
    1.0
"""

_CITATION = """
@inproceedings{lin2014microsoft,
  title={Microsoft {COCO}: Common Objects in Context},
  author={Lin, Tsung-Yi and others},
  booktitle={European Conference on Computer Vision},
  year={2014}
}
"""


class FashionDetection(evaluate.Metric):
    """See the module; computes `hf_fashion.metrics.detection`."""

    def _info(self) -> evaluate.MetricInfo:
        # 64 bits: an IoU that is rounded may fall on the other side of a threshold.
        number, whole = datasets.Value("float64"), datasets.Value("int64")
        boxes = datasets.Sequence(datasets.Sequence(number, length=4))
        several, classes = datasets.Sequence(number), datasets.Sequence(whole)
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": {"boxes": boxes, "scores": several, "labels": classes},
                    "references": {"boxes": boxes, "labels": classes, "area": several, "iscrowd": classes},
                }
            ),
            reference_urls=["https://cocodataset.org/#detection-eval"],
        )

    def _compute(
        self,
        predictions: list[dict],
        references: list[dict],
        labels: list[str],
        box_format: hf_fashion.metrics.BoxFormat = "xywh",
        n_resamples: int = 200,
        seed: int = 0,
    ) -> dict:
        said = hf_fashion.metrics.Detections.of_images(predictions, box_format)
        truth = hf_fashion.metrics.Annotations.of_images(references, box_format)
        return hf_fashion.metrics.detection(said, truth, labels, n_resamples=n_resamples, seed=seed)
