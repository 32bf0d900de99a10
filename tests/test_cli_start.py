"""`hf-fashion <word>` starts without lines that no user can do anything about, and keeps all others."""

import logging
import sys
import types

import pytest

from hf_fashion import cli

ADVICE = "%s is an Enum subclass and is now natively supported. Calling register_constant() on Enum subclasses is ..."
LOGGER = logging.getLogger("torch.utils._pytree")


@pytest.fixture
def said(monkeypatch, caplog):
    """What stands in the log after a word whose import logs this."""

    def start(*message):
        def main(argv):
            LOGGER.warning(*message)

        monkeypatch.setitem(sys.modules, "a_word", types.SimpleNamespace(main=main))
        monkeypatch.setattr(LOGGER, "propagate", True)
        caplog.clear()
        cli._run("a_word", [])
        return caplog.text

    return start


def test_torchaos_advice_is_not_told(said):
    assert not said(ADVICE, type("KernelPreference", (), {"__module__": "torchao.quantization.common"}))


@pytest.mark.parametrize(
    "message",
    [
        (ADVICE, type("Mine", (), {"__module__": "mine"})),
        ("%s is already registered", type("Other", (), {"__module__": "torchao.quantization.common"})),
        ("plain",),
    ],
)
def test_all_else_is(said, message):
    assert said(*message)


def test_and_afterwards_nothing_is_kept_back(said, caplog):
    said("plain")
    LOGGER.warning(ADVICE, type("KernelPreference", (), {"__module__": "torchao.quantization.common"}))
    assert "KernelPreference" in caplog.text
