"""Fine-tune, evaluate and publish fashion models with the Hugging Face libraries.

The public names below are imported when they are first used, so that `import hf_fashion` costs no torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that holds it; a module of ours stands under its own name.
_NAMES = {
    "backbones": "hf_fashion.backbones",
    "cards": "hf_fashion.cards",
    "checks": "hf_fashion.checks",
    "data": "hf_fashion.data",
    "hub": "hf_fashion.hub",
    "images": "hf_fashion.images",
    "metrics": "hf_fashion.metrics",
    "plots": "hf_fashion.plots",
    "record": "hf_fashion.record",
    "settings": "hf_fashion.settings",
    "tasks": "hf_fashion.tasks",
    "training": "hf_fashion.training",
    "FashionTrainer": "hf_fashion.training",
    "FashionTrainingArguments": "hf_fashion.training",
    "InputError": "hf_fashion.errors",
    "Report": "hf_fashion.data",
    "check": "hf_fashion.checks",
    "decode": "hf_fashion.images",
    "freeze": "hf_fashion.backbones",
    "load": "hf_fashion.data",
    "load_classifier": "hf_fashion.backbones",
    "load_detector": "hf_fashion.backbones",
    "load_encoder": "hf_fashion.backbones",
    "parse_args": "hf_fashion.settings",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'hf_fashion' has no attribute {name!r}")
    module = importlib.import_module(_NAMES[name])
    return module if _NAMES[name] == f"hf_fashion.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
