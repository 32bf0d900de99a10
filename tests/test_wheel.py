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


def test_a_run_outside_the_checkout(site, tmp_path):
    photos(tmp_path / "photos", train=4, validation=3, test=3)
    tiny("resnet", tmp_path / "net")
    where = run([sys.executable, "-c", "import hf_fashion; print(hf_fashion.__file__)"], tmp_path, site)
    assert where.startswith(str(site))
    out = run(
        [
            sys.executable,
            "-m",
            "hf_fashion.recipes.classify",
            "--config",
            "classify-efficientnet-lite0",
            "--model",
            "net",
            "--dataset",
            "photos",
            "--num_train_epochs",
            "1",
            "--image_size",
            "32",
            "--freeze",
            "none",
            "--use_cpu",
        ],
        tmp_path,
        site,
    )
    assert "accuracy" in out and list((tmp_path / "runs").glob("classify-*-1/README.md"))


def test_the_console_word_and_help(site, tmp_path):
    out = run([sys.executable, "-m", "hf_fashion.cli", "--help"], tmp_path, site)
    assert all(f"  {word} " in out for word in ("classify", "score", "card"))
