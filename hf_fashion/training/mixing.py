"""Mixup and CutMix as the Trainer's collator: on training batches only, and the same again after a resume."""

import hashlib
from typing import Any

import torch
from torchvision.transforms import v2
from transformers import default_data_collator

from hf_fashion.augmentation import KEY
from hf_fashion.errors import InputError, in_range


class MixCollator:
    """Makes a batch, and mixes each picture and its label with its neighbour's: mixup, CutMix, or either by a coin.

    mixup (Zhang et al. 2017, arXiv 1710.09412) blends two pictures; CutMix (Yun et al. 2019, arXiv 1905.04899) pastes
    a rectangle of one into the other. The label is mixed in the same shares. One share is drawn for a batch.

    The Trainer has one collator for training and evaluation. Examples with a key, as from `Augmented(keyed=True)`, are
    training examples: they are mixed, by random numbers that depend on their keys only, so that a resumed run and
    worker processes make the same batches. Examples without a key are collated and nothing else.

    Labels are class numbers, which become shares (rows, num_classes) in every training batch, mixed or not; or float
    vectors (num_classes,) an example, which are mixed as they are, and a value that is unknown (NaN) in one of two
    examples is unknown in their mixture. `training.classification_loss` takes the shares.

    Args:
        num_classes: Length of the label vectors.
        mixup_alpha: Of the Beta distribution of mixup's share; 0 for no mixup. Usual: 0.2.
        cutmix_alpha: Of the Beta distribution of CutMix's share; 0 for no CutMix. Usual: 1.
        probability: Share of the batches that are mixed.

    Raises:
        InputError: Neither of the two, or a value out of its range.
    """

    def __init__(
        self, num_classes: int, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0, probability: float = 1.0
    ) -> None:
        in_range("mixup", mixup_alpha, 0.0, 100.0)
        in_range("cutmix", cutmix_alpha, 0.0, 100.0)
        in_range("mix_probability", probability, 0.0, 1.0)
        self.num_classes, self.probability = num_classes, probability
        self.mixers: list[Any] = []
        if mixup_alpha > 0:
            self.mixers.append(v2.MixUp(alpha=mixup_alpha, num_classes=num_classes))
        if cutmix_alpha > 0:
            self.mixers.append(v2.CutMix(alpha=cutmix_alpha, num_classes=num_classes))
        if not self.mixers:
            raise InputError(
                "mixup and CutMix", expected="at least one of the two above 0",
                found=f"mixup {mixup_alpha:g}, cutmix {cutmix_alpha:g}", fix="--mixup 0.2, --cutmix 1.0, or both",
            )  # fmt: skip

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        if KEY not in examples[0]:
            return default_data_collator(examples)
        keys = "/".join(str(int(example[KEY])) for example in examples)
        batch = default_data_collator(
            [{name: value for name, value in example.items() if name != KEY} for example in examples]
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int.from_bytes(hashlib.blake2b(keys.encode(), digest_size=7).digest()))
            mixed = bool(torch.rand(()) < self.probability)
            mixer = self.mixers[int(torch.randint(len(self.mixers), ()))]
            if mixed:
                batch["pixel_values"], batch["labels"] = mixer(batch["pixel_values"], batch["labels"])
        if batch["labels"].ndim == 1:
            batch["labels"] = torch.nn.functional.one_hot(batch["labels"], self.num_classes)
        batch["labels"] = batch["labels"].float()
        return batch
