"""Training: transformers' Trainer and its arguments, and plain objects that a recipe hands to it."""

from hf_fashion.training.arguments import FashionTrainingArguments
from hf_fashion.training.trainer import FashionTrainer, StopOnNonFiniteLoss, device_name, restore

__all__ = ["FashionTrainer", "FashionTrainingArguments", "StopOnNonFiniteLoss", "device_name", "restore"]
