"""LiteRT's conversion: lines of its C++ that help nobody are not shown, all others are."""

import os

import pytest

from hf_fashion.exporting import litert

NOISE = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    b"I0000 00:00:1796097897.371471   21112 port.cc:153] oneDNN custom operations are on.\n",
    b"I0000 00:00:1796097916.017643   21112 flatbuffer_export.cc:4410] Estimated count of arithmetic ops: 0.647 M\n",
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n",
)
OTHERS = (
    b"E0000 00:00:1 2 port.cc:153] out of memory\n",
    b"W0000 00:00:1 2 x.cc:1] odd\n",
    b"I0000 00:00:1 2 x.cc:1] new\n",
)


def test_only_what_helps_nobody_is_kept_back(capfd):
    with pytest.raises(ZeroDivisionError), litert._without_noise():
        os.write(2, NOISE[0] + OTHERS[0] + NOISE[1] + OTHERS[1] + NOISE[2] + OTHERS[2] + NOISE[3])
        _ = 1 / 0
    os.write(2, NOISE[0])  # and afterwards nothing is
    assert capfd.readouterr().err.encode() == b"".join(OTHERS) + NOISE[0]
