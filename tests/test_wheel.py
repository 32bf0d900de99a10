"""The wheel, installed beside nothing of the checkout, does what the checkout does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import photos, tiny

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)], cwd=place)
    [wheel] = place.glob("*.whl")
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place / "site"), str(wheel)]
    run([sys.executable, "-m", *install], cwd=place)
    return place / "site"


def run(command, cwd, site=None):
    environment = os.environ | ({"PYTHONPATH": str(site)} if site else {})
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_all_that_ships_is_there(site):
    package = site / "hf_fashion"
    for name in (
        "py.typed",
        "samples/photos/train.parquet",
        "samples/checkpoint/model.safetensors",
        "templates/trained.md",
        "recipes/classify.py",
        "spaces/classify/app.py",
        "spaces/classify/examples/hat.jpg",
        "spaces/detect/app.py",
        "spaces/detect/page.js",
        "recipes/crop.py",
        "samples/photos/outlines.parquet",
        "metric_modules/fashion_detection/fashion_detection.py",
        "recipes/score.py",
        "recipes/sweep.py",
        "recipes/accelerate/gpu-n.yaml",
        "recipes/configs/classify-efficientnet-lite0.yaml",
        "model_cards/classify-efficientnet-lite0.md",
        "metric_modules/fashion_classification/fashion_classification.py",
    ):
        assert (package / name).is_file(), name
    modules = {path.relative_to(ROOT) for path in (ROOT / "hf_fashion").rglob("*.py")}
    assert {path for path in modules if not (site / path).is_file()} == set()
    assert sum(path.stat().st_size for path in package.rglob("*")) < 25e6


def test_the_installed_copy_is_the_one_that_is_imported_outside_the_checkout(site, tmp_path):
    code = "import hf_fashion, hf_fashion.recipes as recipes; print(hf_fashion.__file__, *recipes.__path__)"
    for where in run([sys.executable, "-c", code], tmp_path, site).split():
        assert where.startswith(str(site))


@pytest.mark.slow  # `.ci/run` launches a checkout for real; this is the wheel alone
def test_accelerate_launch_outside_the_checkout_ends_with_table_folder_and_what_to_type_next(site, tmp_path):
    photos(tmp_path / "photos", train=4, validation=3, test=3)
    tiny("resnet", tmp_path / "net")
    argv = ["--config", "classify-efficientnet-lite0", "--model", "net", "--dataset", "photos", "--freeze", "none",
            "--num_train_epochs", "1", "--image_size", "32", "--use_cpu"]  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "-m", "hf_fashion.recipes.classify"]
    tail = run([*launch, *argv], tmp_path, site).strip().splitlines()[-12:]
    assert any(line.split()[:1] == ["accuracy"] and line.split()[-1] == "9" for line in tail)
    folder = tmp_path / next(line.split()[1] for line in tail if line.startswith("folder:"))
    assert folder.match("runs/classify-*-1") and (folder / "README.md").is_file()
    assert any(line.split()[:4] == ["accelerate", "launch", "-m", "hf_fashion.recipes.score"] for line in tail)


def test_the_console_word_and_help(site, tmp_path):
    out = run([sys.executable, "-m", "hf_fashion.cli", "--help"], tmp_path, site)
    assert all(f"  {word} " in out for word in ("classify", "score", "card"))
