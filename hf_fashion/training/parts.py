"""What `MethodArguments` asks for, as plain objects that a recipe hands to the Trainer; None for what it does not."""

import torch
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback, TrainingArguments

from hf_fashion.errors import InputError
from hf_fashion.training.arguments import LearningArguments, MethodArguments
from hf_fashion.training.averaging import MovingAverage
from hf_fashion.training.mixing import MixCollator
from hf_fashion.training.optimizers import optimizer


def collator(num_classes: int, method: MethodArguments) -> MixCollator | None:
    """`data_collator` for the Trainer."""
    return MixCollator(num_classes, method.mixup, method.cutmix) if method.mixes else None


def rates(model: PreTrainedModel, args: TrainingArguments, method: LearningArguments) -> torch.optim.Optimizer | None:
    """The optimizer, where parts of the net learn at rates of their own."""
    if method.head_learning_rate is None and method.layer_decay is None:
        return None
    return optimizer(model, args, head_learning_rate=method.head_learning_rate, layer_decay=method.layer_decay)


def callbacks(method: LearningArguments, args: TrainingArguments) -> list[TrainerCallback]:
    """`callbacks` for the Trainer.

    Raises:
        InputError: Early stopping without evaluations.
    """
    if method.early_stopping_patience is not None and args.eval_strategy == "no":
        raise InputError(
            "--early_stopping_patience", expected="evaluations to judge by", found="--eval_strategy no",
            fix="--eval_strategy epoch",
        )  # fmt: skip
    made: list[TrainerCallback] = []
    if method.moving_average is not None:
        made.append(MovingAverage(method.moving_average))
    if method.early_stopping_patience is not None:
        made.append(EarlyStoppingCallback(method.early_stopping_patience))
    return made
