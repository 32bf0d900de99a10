"""No test asks the Hub, and none reads or writes the user's caches. Set before anything imports huggingface_hub.

The endpoint of all clients is a double (`hub_server.py`); only tests that take the fixture `hub` are online with it.
"""

import gc
import os
import re
import ssl
import sys
import tempfile

import pytest
from hub_fixtures import HUB, hub, hub_by_both, no_waiting  # noqa: F401 (the fixtures are found here)

assert "huggingface_hub" not in sys.modules, "the environment below would come too late"
_HOME = tempfile.TemporaryDirectory(prefix="hf_fashion_tests_")
os.environ |= {
    **HUB.settings(),
    "HF_HOME": _HOME.name,
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MPLBACKEND": "agg",
    # Nets of a few thousand weights are slower on several threads, and two workers share two cores.
    "OMP_NUM_THREADS": "1",
}
for _name in (
    "HF_DATASETS_CACHE",
    "HF_HUB_CACHE",
    "HF_HUB_DISABLE_XET",
    "HF_MODULES_CACHE",
    "HF_TOKEN",
    "HF_XET_CACHE",
    "HUGGINGFACE_CO_STAGING",
    "TRANSFORMERS_OFFLINE",
):
    os.environ.pop(_name, None)
# transformers compiles some 530 patterns whenever it loads a detector, more than the 512 that `re` keeps.
re._MAXCACHE = 10_000
# The double speaks no TLS, and each client of httpx would read all certificates of the machine: 30 ms.
if "HF_FASHION_HUB_TOKEN" not in os.environ:
    ssl.SSLContext.load_verify_locations = lambda *args, **options: None


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Kind -> the folder of a tiny checkpoint; a test that changes one copies it first."""
    from tiny import KINDS, tiny  # not above: it imports what the environment is set for

    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: tiny(kind, root / kind) for kind in KINDS}


# The longest ones, the longest first: begun last, one would keep a worker busy while the other has nothing left.
LONG = (
    "test_detect", "test_many_processes", "test_classify", "test_backbone_configs", "test_detectors", "test_kill",
    "test_wheel", "test_method", "test_space_detect", "test_space_retrieve", "test_spaces", "test_streaming",
    "test_training", "test_export", "test_activations", "test_score_retrieve", "test_retrieve_learning",
)  # fmt: skip


# It loads JAX, which runs threads: a process that is forked after it may hang.
LAST = "test_export_litert"


def pytest_collection_modifyitems(items):
    order = {name: number for number, name in enumerate(LONG)} | {LAST: len(LONG) + 1}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))  # stable


def pytest_collection_finish():
    """What is imported by now stays: each full collection of garbage (one a training) would walk through all of it."""
    gc.collect()
    gc.freeze()
