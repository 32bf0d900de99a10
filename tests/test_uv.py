"""`uv run recipes/<stem>.py`, as `hf jobs uv run` does it: a recipe's header is all that it needs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_run_in_a_fresh_environment(tmp_path):
    """Some 6 GB of packages, once: UV_CACHE_DIR keeps them."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv, "pip install uv"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    recipe = shutil.copy(ROOT / "recipes" / "classify.py", tmp_path)  # with nothing of the checkout beside it
    settings = ["--config", "classify-efficientnet-lite0", "--num_train_epochs", "1", "--output_dir", "out"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [uv, "run", "--no-project", "--find-links", "dist", recipe, *settings, "--disable_tqdm", "True"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["status"] == "finished" and run["commit"] is None  # installed, not the checkout
