"""What ships: photos and a checkpoint, small enough, and loadable without us."""

import json
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Image, load_dataset
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoModelForImageClassification

import hf_fashion
from hf_fashion import backbones, checks, data
from hf_fashion.tasks import classify

SAMPLES = Path(hf_fashion.__file__).parent / "samples"
CHECKPOINT = SAMPLES / "checkpoint"


def test_photos_are_what_the_readme_counts():
    dataset, report = data.load("sample", classify.COLUMNS)
    assert report.sizes == {"train": 260, "validation": 60, "test": 80}
    assert report.source["license"] == "cc0-1.0"
    assert len(data.labels(dataset)) == 10
    assert all(len(set(rows["label"])) == 10 for rows in dataset.values())
    assert checks.check(dataset, report).of("error") == []
    assert sum(path.stat().st_size for path in (SAMPLES / "photos").iterdir()) <= 6_000_000


def test_photos_load_with_bare_datasets():
    files = {split: str(SAMPLES / "photos" / f"{split}.parquet") for split in ("train", "validation", "test")}
    rows = load_dataset("parquet", data_files=files)["test"]
    assert isinstance(rows.features["label"], ClassLabel) and isinstance(rows.features["image"], Image)
    assert rows[0]["image"].mode == "RGB"


def test_checkpoint_is_small_and_holds_no_pickle_and_no_code():
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= 12_000_000
    assert {path.suffix for path in CHECKPOINT.iterdir()} <= {".json", ".safetensors", ".md"}
    assert "auto_map" not in json.loads((CHECKPOINT / "config.json").read_text())
    with safe_open(CHECKPOINT / "model.safetensors", "pt") as weights:
        assert all(torch.isfinite(weights.get_tensor(name).float()).all() for name in weights.keys())  # noqa: SIM118


def test_checkpoint_loads_with_bare_transformers_in_float32():
    model = AutoModelForImageClassification.from_pretrained(CHECKPOINT, num_labels=10)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    processor = AutoImageProcessor.from_pretrained(CHECKPOINT)
    photo = load_dataset("parquet", data_files=str(SAMPLES / "photos" / "test.parquet"), split="train")[0]["image"]
    assert model(**processor(photo, return_tensors="pt")).logits.shape == (1, 10)


@pytest.mark.parametrize("name", ["sample", "efficientnet-lite0"])
def test_short_names_load_and_are_described(name):
    model, processor = backbones.load_classifier(name, ["a", "b"], freeze="backbone")
    spec = backbones.input_spec(processor)
    assert model(torch.zeros(1, 3, spec.height, spec.width)).logits.shape == (1, 2)
    told = backbones.describe(name)
    assert told["license"] == "apache-2.0" and told["kind"] == "embedded" and told["base_model"] is None
