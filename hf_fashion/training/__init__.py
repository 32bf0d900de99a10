"""Training: transformers' Trainer and its arguments, and plain objects that a recipe hands to it."""

from hf_fashion.training import checkpoints
from hf_fashion.training.arguments import (
    DetectionTrainingArguments,
    FashionTrainingArguments,
    LearningArguments,
    MethodArguments,
)
from hf_fashion.training.averaging import MovingAverage
from hf_fashion.training.detecting import DetectionCollator, DetectionTrainer
from hf_fashion.training.distilling import DistillationTrainer, Teacher
from hf_fashion.training.lora import add_lora, add_lora_to_encoder, merge
from hf_fashion.training.losses import class_weights, classification_loss
from hf_fashion.training.mixing import MixCollator
from hf_fashion.training.optimizers import optimizer, parameter_groups
from hf_fashion.training.parts import callbacks, collator, rates
from hf_fashion.training.precision import supports_bf16, with_precision
from hf_fashion.training.recomputing import refuse_recomputing
from hf_fashion.training.sampling import Balanced
from hf_fashion.training.trainer import FashionTrainer, StopOnNonFiniteLoss, device_name, restore

__all__ = [
    "Balanced",
    "DetectionCollator",
    "DetectionTrainer",
    "DetectionTrainingArguments",
    "DistillationTrainer",
    "FashionTrainer",
    "FashionTrainingArguments",
    "LearningArguments",
    "MethodArguments",
    "MixCollator",
    "MovingAverage",
    "StopOnNonFiniteLoss",
    "Teacher",
    "add_lora",
    "add_lora_to_encoder",
    "callbacks",
    "checkpoints",
    "class_weights",
    "classification_loss",
    "collator",
    "device_name",
    "merge",
    "optimizer",
    "parameter_groups",
    "rates",
    "refuse_recomputing",
    "restore",
    "supports_bf16",
    "with_precision",
]
