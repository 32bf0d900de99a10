"""OpenVINO says what the original says, for each task that `hf-fashion export --help` offers it for.

Photos are labelled in test_export.py, and given attributes in test_export_litert_attributes.py.
"""

import numpy as np
import pytest
from test_export import made, opinionated
from tiny import photos, slow_but, tiny
from tiny_detectors import KINDS as DETECTORS
from tiny_detectors import boxed_folder, tiny_detector

from hf_fashion import exporting, runtime

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

SURE = {"detr": 0.1, "conditional_detr": 0.1, "yolos": 0.1, "rf_detr": 0.05}  # of a random net


@pytest.mark.parametrize("kind", slow_but(DETECTORS, "yolos"))
def test_a_detector_draws_the_same_boxes(kind, tmp_path):
    """Photos of several shapes, in batches of one shape, where the net keeps proportions."""
    rows = boxed_folder(tmp_path / "photos")["test"]
    original = exporting.load(str(opinionated(tiny_detector(kind, tmp_path / "net"))))
    original.about["score_threshold"] = SURE.get(kind, 0.5)
    (tmp_path / "export").mkdir()
    told = exporting.make(
        original, tmp_path / "export", exporting.Photos(rows, exporting.Truth(), None), form="openvino",
        precision="fp32", least=0.8,  # a pixel that is one level off moves some of a random decoder's boxes
    )  # fmt: skip
    assert told["original/boxes"] > 4 and told["drift_mean"] < 2e-3
    found = runtime.load(tmp_path / "export")(rows["image"], batch_size=3)
    assert sum(map(len, found)) == told["exported/boxes"]
    for photo, boxes in zip(rows["image"], found, strict=True):
        for box in (one["box"] for one in boxes):
            assert 0 <= box["xmin"] <= box["xmax"] <= photo.width and 0 <= box["ymin"] <= box["ymax"] <= photo.height


@pytest.mark.parametrize("kind", slow_but(["resnet", "vit", "swin"], "resnet"))
def test_an_encoder_gives_the_same_vectors(kind, tmp_path):
    pytest.importorskip("sentence_transformers")
    from hf_fashion.backbones.encoders import load_encoder

    dataset = photos(train=1, validation=1, test=6)
    load_encoder(tiny(kind, tmp_path / "net"), dimension=6).save_pretrained(str(tmp_path / "encoder"))
    original, report = made(tmp_path / "encoder", dataset, tmp_path / "export", "openvino")
    assert report["agreement"] == 1.0 and report["cosine_min"] > 0.9999
    few = dataset["test"]["image"][:4]
    vectors = runtime.load(tmp_path / "export")(few, batch_size=3)
    assert vectors.shape == (4, 6) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, original.net.encode(few, normalize_embeddings=True), atol=2e-3)
