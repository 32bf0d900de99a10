"""Whole runs of the recipe with a streamed training split: what they leave behind, and what they refuse."""

import json

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from tiny import BROKEN, numbered, parquet, photos, streamable, tiny, undrawn  # noqa: F401 (a fixture)

from hf_fashion import record
from hf_fashion.errors import InputError
from hf_fashion.recipes import classify as recipe

pytestmark = pytest.mark.usefixtures("undrawn")
QUICK = ["--use_cpu", "True", "--disable_tqdm", "True", "--per_device_train_batch_size", "8"]


def main(folder, tmp_path, *more):
    out = tmp_path / "run"
    argv = ["--model", str(tiny("resnet", tmp_path / "net")), "--dataset", str(folder), "--streaming", "True"]
    return recipe.main([*argv, *QUICK, "--output_dir", str(out), *more])


def test_a_streamed_run_leaves_a_whole_folder_and_says_what_was_not_checked(tmp_path):
    shapes = photos(train=9, validation=4, test=5)
    folder = parquet(tmp_path / "photos", shapes, group=5)
    path = folder / "data" / "train-00001-of-00003.parquet"
    rows = Dataset.from_parquet(str(path)).cast_column("image", ImageFeature(decode=False))
    broken = [row | {"image": {"bytes": BROKEN, "path": None}} if n == 4 else row for n, row in enumerate(rows)]
    Dataset.from_list(broken, features=shapes["train"].features).to_parquet(path)
    run = main(folder, tmp_path, "--on_bad_image", "drop", "--class_weights", "balanced", "--mixup", "0.2",
               "--num_train_epochs", "2", "--learning_rate", "0.01")  # fmt: skip
    assert run.info["status"] == "finished"
    told = record.read(run.folder).info["dataset"]
    assert told["sizes"] == {"train": 26, "validation": 12, "test": 15}
    assert told["left_out"] == [
        {"where": "data/train-00001-of-00003.parquet row 4", "reason": told["left_out"][0]["reason"]}
    ]
    assert (run.results["n"], run.results["validation"]["n"]) == (15, 12)
    assert run.predictions.num_rows == 27
    card = (run.folder / "README.md").read_text()
    assert "not looked at before training" in card and "1 row was left out" in card
    steps = [entry["step"] for entry in run.info["history"] if "loss" in entry]
    assert steps == [4, 8]  # 27 rows in batches of 8, twice
    assert {"model.safetensors", "run.json", "eval_results.json", "predictions.parquet", "README.md"} <= {
        path.name for path in run.folder.iterdir()
    }


def test_attributes_are_streamed_too(tmp_path):
    features = Features(
        {"image": ImageFeature(), "color": ClassLabel(names=["red", "blue"]), "tags": List(Value("string"))}
    )

    def rows(count, green=7):
        return numbered(
            count, features, green=green, color=[None if row == 1 else row % 2 for row in range(count)],
            tags=[["soft", "warm"][: row % 3] for row in range(count)],
        )  # fmt: skip

    folder = parquet(tmp_path / "photos", DatasetDict(train=rows(17), validation=rows(8, 8), test=rows(8, 9)))
    run = main(folder, tmp_path, "--label_columns", "color", "tags", "--num_train_epochs", "1")
    assert run.info["status"] == "finished" and run.results["n"] == 8
    assert run.info["labels"] == ["color: red", "color: blue", "tags: soft", "tags: warm"]


def test_settings_that_a_stream_cannot_have_are_refused(tmp_path):
    folder = streamable(tmp_path / "photos")
    for more, told in (
        (("--sampler", "balanced"), "--class_weights balanced"),
        (("--dataloader_drop_last", "True"), "leave it out"),
        (("--split_by", "seller"), "leave one"),
        (("--label_separator", "|"), "leave one"),
    ):
        with pytest.raises(InputError) as caught:
            main(folder, tmp_path, *more)
        assert told in caught.value.fix


def test_a_run_that_is_resumed_reads_with_as_many_processes(tmp_path):
    folder = streamable(tmp_path / "photos")
    main(folder, tmp_path, "--num_train_epochs", "1")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["dataset"]["readers"] == {"processes": 1, "workers": 0}
    with pytest.raises(InputError, match="1 process.es. with 0") as caught:
        recipe.main(["--output_dir", str(tmp_path / "run"), "--resume_from_checkpoint", "last",
                     "--dataloader_num_workers", "2"])  # fmt: skip
    assert "--dataloader_num_workers 0" in caught.value.fix
