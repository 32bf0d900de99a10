"""No test asks a Hub, and none reads or writes the user's caches. Set before anything imports huggingface_hub."""

import os
import sys
import tempfile

import pytest

assert "huggingface_hub" not in sys.modules, "the environment below would come too late"
_HOME = tempfile.TemporaryDirectory(prefix="hf_fashion_tests_")
os.environ |= {
    "HF_HOME": _HOME.name,
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MPLBACKEND": "agg",
    # Nets of a few thousand weights are slower on several threads, and two workers share two cores.
    "OMP_NUM_THREADS": "1",
}
for _name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Kind -> the folder of a tiny checkpoint; a test that changes one copies it first."""
    from tiny import KINDS, tiny  # not above: it imports what the environment is set for

    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: tiny(kind, root / kind) for kind in KINDS}
