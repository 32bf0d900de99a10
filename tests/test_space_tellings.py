"""What the pages' texts say is what the pages do: the slider's number, and the address for MCP clients."""

import importlib.util
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")

SPACES = Path(__file__).parents[1] / "spaces"


@pytest.fixture(scope="module")
def detect():
    """The modules `found` and `about` of the page of detectors, under names of their own."""
    made = {}
    before = {name: sys.modules.get(name) for name in ("found", "about", "detector")}
    sys.modules["detector"] = SimpleNamespace(Detector=None)  # loads a net, which nobody asks here
    try:
        for name in ("found", "about"):
            spec = importlib.util.spec_from_file_location(name, SPACES / "detect" / f"{name}.py")
            made[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(made[name])
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    return SimpleNamespace(**made)


@pytest.mark.parametrize(
    ("threshold", "begin"),
    [(None, 0.5), (0.527, 0.52), (0.53, 0.53), (0.57, 0.57), (0.29, 0.29), (0.001, 0.01), (1.0, 1.0)],
)
def test_the_slider_begins_with_the_number_that_the_text_says(threshold, begin, detect):
    assert detect.found.start(threshold) == begin
    told = detect.about._score(SimpleNamespace(threshold=threshold))
    assert f"{begin:.2f}" in told and set(re.findall(r"\d\.\d\d", told)) == {f"{begin:.2f}"}


def test_no_step_hides_a_box_that_the_model_believes(detect):
    for number in range(1, 1001):
        begin = detect.found.start(number / 1000)
        assert begin <= max(number / 1000, detect.found.FLOOR) + 1e-9
        assert math.isclose(begin * 100, round(begin * 100))


@pytest.mark.parametrize("stem", ["classify", "detect", "retrieve"])
def test_the_address_for_mcp_clients_is_whole(stem):
    text = (SPACES / stem / "README.md").read_text(encoding="utf-8")
    assert "http://127.0.0.1:7860/gradio_api/mcp/" in text and ".hf.space/gradio_api/mcp/" in text
    assert '"mcp_server": True' in (SPACES / stem / "app.py").read_text(encoding="utf-8")
