"""`recipes/detect.py`, run as a user would, and the folder that it leaves."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tiny import slow_but, undrawn, without_drawing  # noqa: F401 (a fixture)
from tiny_detectors import KINDS, NAMES, boxed_folder, tiny_backbone, tiny_detector
from transformers import pipeline

from hf_fashion import backbones, data, metrics, record, training
from hf_fashion.errors import InputError
from hf_fashion.recipes import detect as recipe
from hf_fashion.recipes import score
from hf_fashion.tasks import detect

QUICK = [
    "--num_train_epochs", "1", "--per_device_train_batch_size", "4", "--learning_rate", "1e-3", "--use_cpu", "True",
    "--disable_tqdm", "True",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("detect")
    boxed_folder(place / "photos")
    for kind in ("rt_detr_v2", "detr"):
        tiny_detector(kind, place / kind)
        with nullcontext() if kind == "rt_detr_v2" else without_drawing():
            recipe.main(run_of(place, kind, place / f"run-{kind}"))
    return place


def run_of(place, kind, folder, *more):
    return [
        "--model",
        str(place / kind),
        "--dataset",
        str(place / "photos"),
        *QUICK,
        "--output_dir",
        str(folder),
        *more,
    ]


@pytest.mark.parametrize("kind", ["rt_detr_v2", "detr"])
def test_the_folder_holds_all_that_the_design_names(place, kind):
    folder = place / f"run-{kind}"
    run = record.read(folder)
    assert run.info["status"] == "finished" and run.info["recipe"] == "detect"
    assert run.info["dataset"]["sizes"] == {"train": 12, "validation": 6, "test": 7}
    drawn = {path.stem for path in (folder / "plots").iterdir()}
    assert drawn >= {"learning_curve", "precision_recall", "ap_by_class", "errors"}
    results = run.results
    assert (results["split"], results["n"], results["validation"]["n"]) == ("test", 7, 6)
    assert results["map_low"] <= results["map"] <= results["map_high"]
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "object-detection" and card.data.library_name == "transformers"
    told = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert told["map_50"] == pytest.approx(results["map_50"], abs=5e-5)
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {str(number): name for number, name in enumerate(NAMES)}
    assert 0 < config["score_threshold"] <= 1
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


@pytest.mark.parametrize("kind", ["rt_detr_v2", "detr"])
def test_the_figures_count_the_boxes_that_are_stored(place, kind):
    run = record.read(place / f"run-{kind}")
    rows = record.of_split(run.predictions, "test")
    assert len(set(rows["image_id"])) == 7
    said = [{"boxes": one["bbox"], "scores": one["score"], "labels": one["category"]} for one in rows["detections"]]
    truth = [{"boxes": one["bbox"], "labels": one["category"], "area": one["area"]} for one in rows["objects"]]
    counted = metrics.detection(
        metrics.Detections.of_images(said, "xywh"), metrics.Annotations.of_images(truth), NAMES, n_resamples=0
    )
    assert counted["map"] == pytest.approx(run.results["map"])
    stored = data.load(str(place / "photos"), detect.COLUMNS)[0]["test"]
    assert rows["objects"] == stored["objects"]


def assert_boxes_of_the_run(folder, bare):
    rows = record.of_split(record.read(folder).predictions, "test")
    assert len(bare) == len(rows) == 7
    for theirs, ours in zip(bare, rows["detections"], strict=True):
        assert_same_boxes(sorted(theirs, key=lambda one: -one["score"]), ours)


@pytest.mark.parametrize("kind", ["rt_detr_v2", "detr"])
def test_the_bare_pipeline_gives_the_boxes_that_we_measured(place, kind):
    """With photos of different shapes; it cuts corners to whole pixels."""
    photos = Dataset.from_parquet(str(place / "photos" / "test.parquet"))
    bare = pipeline("object-detection", model=str(place / f"run-{kind}"))
    assert_boxes_of_the_run(place / f"run-{kind}", [bare(photo, threshold=0.0) for photo in photos["image"]])


@pytest.mark.slow  # a fresh process
def test_a_process_without_us_gives_the_boxes_that_we_measured(place):
    code = """
import json, sys
sys.modules["hf_fashion"] = None
from datasets import Dataset
from transformers import pipeline
photos, *folders = sys.argv[1:]
rows = list(Dataset.from_parquet(photos))
out = []
for folder in folders:
    detect = pipeline("object-detection", model=folder)
    out.append([detect(row["image"], threshold=0.0) for row in rows])
print(json.dumps(out))
"""
    folders = [place / "run-rt_detr_v2", place / "run-detr"]
    command = [sys.executable, "-c", code, str(place / "photos" / "test.parquet"), *map(str, folders)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    for folder, bare in zip(folders, told, strict=True):
        assert_boxes_of_the_run(folder, bare)


def assert_same_boxes(theirs, ours):
    assert np.allclose([one["score"] for one in theirs], ours["score"], atol=1e-4)
    for one, box, label, surety in zip(theirs, ours["bbox"], ours["category"], ours["score"], strict=True):
        if sum(abs(surety - other) < 1e-4 for other in ours["score"]) > 1:
            continue  # of equal scores the order is nobody's
        corners = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        assert one["label"] == NAMES[label] and np.abs(np.array(list(one["box"].values())) - corners).max() < 1.05


# Squares, masks, and neither.
@pytest.mark.parametrize("kind", slow_but(KINDS, "rt_detr_v2", "detr", "yolos"))
def test_photos_of_any_shape_are_measured_as_one_by_one(kind, tmp_path):
    """A batch of several shapes gives the boxes of single photos."""
    boxed_folder(tmp_path / "photos", train=2, validation=1, test=4)
    model, processor = backbones.load_detector(tiny_detector(kind, tmp_path / "net"))
    rows = data.load(str(tmp_path / "photos"), detect.COLUMNS)[0]["test"]
    found = []
    for batch in (1, 4):
        args = training.DetectionTrainingArguments(
            output_dir=str(tmp_path / "out"), use_cpu=True, disable_tqdm=True, per_device_eval_batch_size=batch
        )
        trainer = training.DetectionTrainer(
            model=model,
            args=args,
            processing_class=processor,
            data_collator=detect.collate(model),
            eval_dataset=detect.prepare(rows, processor),
        )
        found.append(trainer.predict(detect.prepare(rows, processor)).predictions)
    assert found[0].shape == (4, 100, 6)
    assert np.allclose(found[0][..., 4], found[1][..., 4], atol=1e-4)
    sure = np.abs(np.diff(found[0][..., 4], axis=1, append=-9)) > 1e-4
    assert np.abs(found[0] - found[1])[sure].max() < 0.05


def test_what_learns_moves(place):
    start, end = (backbones.load_detector(place / name)[0].state_dict() for name in ("rt_detr_v2", "run-rt_detr_v2"))
    moved = {name for name, tensor in end.items() if not torch.equal(tensor, start[name])}
    assert any("class_embed" in name for name in moved) and any("backbone" in name for name in moved)


@pytest.mark.slow  # another run; that records repeat runs is what `test_classify.py` shows, too
@pytest.mark.usefixtures("undrawn")
def test_a_second_run_from_the_record_is_equal(place):
    again = place / "again"
    recipe.main(["--config", str(place / "run-rt_detr_v2" / "run.json"), "--output_dir", str(again)])
    one, two = (load_file(folder / "model.safetensors") for folder in (place / "run-rt_detr_v2", again))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow  # three runs
def test_a_run_that_ended_in_its_middle_goes_on_to_the_bit(place):
    """Crops, sizes and canvases are drawn by seed, epoch and row."""
    more = ["--multi_scale", "64", "96", "--zoom_out", "1.5", "--color", "0.2", "--dense", "1.0", "--sampler", "sqrt",
            "--save_strategy", "steps", "--save_steps", "2", "--eval_strategy", "steps", "--eval_steps", "2",
            "--num_train_epochs", "2", "--save_total_limit", "9"]  # fmt: skip
    whole, part = place / "whole", place / "part"
    recipe.main(run_of(place, "rt_detr_v2", whole, *more))
    recipe.main(run_of(place, "rt_detr_v2", part, *more, "--max_steps", "6"))
    for folder in part.glob("checkpoint-*"):
        if folder.name != "checkpoint-2":
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    recipe.main(["--output_dir", str(part), "--resume_from_checkpoint", "last"])
    one, two = (load_file(folder / "checkpoint-6" / "model.safetensors") for folder in (whole, part))
    assert all(torch.equal(one[name], two[name]) for name in one)


NEW = {
    "d_model": 16, "encoder_hidden_dim": 16, "decoder_in_channels": [16] * 3, "num_queries": 12, "decoder_layers": 2,
}  # fmt: skip


def new_run(place, folder):
    """A new detector: an epoch of its cells alone, then one with its decoder; a checkpoint is written between them."""
    net = tiny_backbone(place / "backbone")
    recipe.main(
        ["--model", "rt_detr_v2", "--backbone", str(net), "--detector_config", json.dumps(NEW), "--image_size", "64",
         "--dataset", str(place / "photos"), *QUICK, "--dense", "1", "--dense_epochs", "1", "--dense_cells", "3",
         "--num_train_epochs", "2", "--moving_average", "0.5", "--save_total_limit", "9",
         "--output_dir", str(folder)]
    )  # fmt: skip
    return [load_file(folder / f"checkpoint-{step}" / "model.safetensors") for step in (3, 6)]


@pytest.mark.usefixtures("undrawn")
def test_a_new_detector_learns_by_its_cells_alone_at_first_and_then_with_its_decoder(place, tmp_path):
    alone, together = new_run(place, tmp_path / "new")
    fresh = {name for name in alone if name.startswith("model.decoder.layers") and name.endswith("output_proj.weight")}
    assert fresh and all((alone[name] == 0).all() for name in fresh)
    assert any((together[name] != 0).any() for name in fresh)
    assert alone["model.enc_score_head.weight"].std() > 0


@pytest.mark.slow  # two runs
@pytest.mark.usefixtures("undrawn")
def test_a_new_detector_resumes_where_the_decoder_joins(place, tmp_path):
    _, together = new_run(place, tmp_path / "new")
    shutil.rmtree(tmp_path / "new" / "checkpoint-6")
    recipe.main(["--output_dir", str(tmp_path / "new"), "--resume_from_checkpoint", "last"])
    again = load_file(tmp_path / "new" / "checkpoint-6" / "model.safetensors")
    assert all(torch.equal(together[name], again[name]) for name in together)


@pytest.mark.parametrize(
    ("more", "told"),
    [(["--multi_scale", "64", "96"], "a net that sees squares"), (["--dense", "1"], "maps of 8, 16 and 32 pixels")],
)
def test_what_a_detr_cannot_do_is_refused(place, more, told, tmp_path):
    with pytest.raises(InputError, match=told):
        recipe.main(run_of(place, "detr", tmp_path / "run", *more))


def test_a_split_without_boxes_is_refused(place, tmp_path):
    dataset = boxed_folder(tmp_path / "photos", train=4, validation=2, test=2)
    empty = {"bbox": [], "category": [], "area": []}
    dataset["test"].map(lambda row: {"objects": empty}).cast(dataset["test"].features).to_parquet(
        tmp_path / "photos" / "test.parquet"
    )
    with pytest.raises(InputError, match="boxes of test"):
        recipe.main([*run_of(place, "detr", tmp_path / "run"), "--dataset", str(tmp_path / "photos")])


def test_the_rarest_class_of_each_photo():
    rows = [([0, 0, 1], None), ([0], None), ([], None), ([2, 0], [1, 0]), ([1, 0], None)]
    objects = [
        {"bbox": [[1, 1, 5, 5]] * len(told), "category": told, "iscrowd": crowd or [0] * len(told)}
        for told, crowd in rows
    ]
    assert detect.rarest(Dataset.from_dict({"objects": objects})).tolist() == [1, 0, 0, 0, 1]


@pytest.mark.usefixtures("undrawn")
def test_score_measures_a_detector_as_its_run_did(place):
    folder = place / "scored"
    score.main(
        ["--model", str(place / "run-rt_detr_v2"), "--dataset", str(place / "photos" / "test.parquet"),
         "--use_cpu", "True", "--disable_tqdm", "True", "--output_dir", str(folder)]
    )  # fmt: skip
    run, before = record.read(folder), record.read(place / "run-rt_detr_v2")
    assert run.results["map"] == pytest.approx(before.results["map"]) and run.results["n"] == 7
    assert (folder / "plots" / "precision_recall.png").is_file() and "object-detection" in (
        folder / "README.md"
    ).read_text()
    with pytest.raises(InputError, match="a detector"):
        score.main(["--compare", str(place / "run-rt_detr_v2"), str(place / "run-detr"), "--dataset", "sample"])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--detector_config", "[1]"], "a JSON object"),
        (["--dense", "200"], "dense"),
        (["--dense", "1", "--dense_epochs", "1"], "a new detector"),
        (["--zoom_out", "0.5"], "zoom_out"),
        (["--metric_for_best_model", "accuracy"], "map, map_50, map_75, loss"),
        (["--objects_column", "boxes"], "boxes"),
        (["--multi_scale", "64", "80"], "multiples of 32"),
        (["--image_size", "80"], "multiples of 32"),
    ],
)
def test_settings_that_cannot_be_are_refused(place, more, told, tmp_path):
    with pytest.raises(InputError, match=told):
        recipe.main(run_of(place, "rt_detr_v2", tmp_path / "run", *more))
