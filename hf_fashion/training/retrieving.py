"""Training of encoders: the Trainer, the losses and the optimizer; what they learn from is in `pairs`.

The Trainer is sentence-transformers' own, with the guard of all ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer_utils import TrainOutput

from hf_fashion.errors import InputError, extra, in_range
from hf_fashion.training import faults
from hf_fashion.training.arguments import FashionTrainingArguments
from hf_fashion.training.guarded import GuardedTrainer
from hf_fashion.training.pairs import DistinctBatches, Kind, Pairs
from hf_fashion.training.trainer import PassEpochOn, StopOnNonFiniteLoss

with extra("training of an encoder", "sentence-transformers", "retrieve"):
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.data_collator import BaseDataCollator
    from sentence_transformers.base.evaluation import BaseEvaluator
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding, Transformer

BOTH_WAYS: Any = ("query_to_doc", "doc_to_query")
LOSS = "loss.safetensors"  # in a checkpoint, what a loss learns itself
# Settings of sentence-transformers for columns and batches that are made here.
_NOT_USED = ("prompts", "router_mapping")


@dataclass
class RetrievalTrainingArguments(FashionTrainingArguments, SentenceTransformerTrainingArguments):
    """`SentenceTransformerTrainingArguments` with defaults for some thousand photos."""

    _argument_group_name = "training (sentence_transformers.SentenceTransformerTrainingArguments; names are its own)"

    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the training photos."})
    per_device_train_batch_size: int = field(
        default=32, metadata={"help": "Pairs a step and device: each is a wrong answer to all others."}
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of AdamW."})
    metric_for_best_model: str = field(default="recall_at_1", metadata={"help": "What 'best' means, on validation."})
    label_names: list[str] | None = field(default_factory=list, metadata={"help": "Leave it empty."})

    def __post_init__(self) -> None:
        for name, refused, expected in (
            ("metric_for_best_model loss", str(self.metric_for_best_model).removeprefix("eval_") == "loss",
             "a figure of the searches, as recall_at_1: validation has no loss"),
            *((name, getattr(self, name), "a run without it: it is for columns") for name in _NOT_USED),
        ):  # fmt: skip
            if refused:
                raise InputError(f"--{name}", expected=expected, found=f"--{name}", fix="leave it out")
        super().__post_init__()


class RetrievalTrainer(GuardedTrainer, SentenceTransformerTrainer):
    """`SentenceTransformerTrainer` with the guard of `GuardedTrainer`, that learns from `Pairs`.

    - Checkpoints hold what a loss learns itself (`SigmoidLoss`), too, so that a resumed run is the same.
    - With several processes a step's loss is the mean of theirs: pairs are compared within a process. Nets that a
      batch does not pass (that of texts, in a batch of photos) are no reason to wait, and what a loss learns itself is
      the same in all.
    - Out of memory it ends where pairs are each other's wrong answers: fewer a step would be another training.
    - After `train` the encoder is in full precision, as it is saved, also after `--bf16`.

    Args:
        *args: Of `SentenceTransformerTrainer`; `train_dataset` is a `Pairs`.
        kinds: What is put beside the photos: other photos, texts, or both in turns.
        **kwargs: Of that.
    """

    def __init__(self, *args: Any, kinds: Sequence[Kind] = ("image",), **kwargs: Any) -> None:
        self.kinds = tuple(kinds)
        encoder = kwargs["model"] if "model" in kwargs else args[0]
        kwargs.setdefault("data_collator", PairCollator(encoder))
        super().__init__(*args, **kwargs)
        # Each part of a cached batch passes the net by itself, and the last one alone is waited for.
        self._cached = any(isinstance(one, _CACHED) for one in cast(nn.Module, self.loss).modules())
        handler = self.accelerator.ddp_handler
        if self._cached and handler is not None:
            handler.find_unused_parameters = True
        parts = cast(nn.Module, self.loss).modules()
        if self.args.n_gpu > 1 and any(isinstance(one, StaticEmbedding) for one in parts):
            # torch's DataParallel cuts a batch by its first dimension, which is not that of the texts here.
            raise InputError(
                "a text model of words on several GPUs", expected="a process for each GPU",
                found=f"one process for {self.args.n_gpu}",
                fix="accelerate launch --multi_gpu ..., or CUDA_VISIBLE_DEVICES=0 for one of them",
            )  # fmt: skip
        if self.train_dataset is not None:
            self._batches()  # what is wrong with their size is said before anything is measured
        self.add_callback(StopOnNonFiniteLoss())
        self.add_callback(PassEpochOn())

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """`GuardedTrainer.train`; see the class."""
        done = super().train(*args, **kwargs)
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return done

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss: Any = super().compute_loss(*args, **kwargs)
        if self.args.world_size == 1 or self._cached:
            return loss
        learning = [own for own in cast(nn.Module, self.loss).parameters() if own.requires_grad]
        return loss + 0.0 * torch.stack([own.sum() for own in learning]).sum()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if self.args.world_size > 1:
            for own in self._of_loss().values():
                own.grad = self.accelerator.reduce(own.grad, reduction="mean")
        return loss

    def _of_loss(self) -> dict[str, nn.Parameter]:
        """What the loss learns beside the encoder."""
        nets = {id(own) for own in cast(nn.Module, self.model).parameters()}
        named = cast(nn.Module, self.loss).named_parameters()
        return {name: own for name, own in named if id(own) not in nets}

    def _complete(self, written: Path, final: Path) -> None:
        super()._complete(written, final)
        own = {name: value.detach().cpu() for name, value in self._of_loss().items()}
        if own and self.args.should_save:
            save_file(own, written / LOSS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint)
        own, path = self._of_loss(), Path(resume_from_checkpoint) / LOSS
        stored = load_file(path) if path.is_file() else {}
        if stored.keys() != own.keys():
            raise InputError(
                f"{LOSS} of checkpoint {resume_from_checkpoint}", expected=", ".join(own) or "none",
                found=", ".join(stored) or "none", fix="resume with the loss that wrote the checkpoint",
            )  # fmt: skip
        with torch.no_grad():
            for name, value in stored.items():
                own[name].copy_(value)

    def _take_smaller_batches(self, error: Exception) -> None:
        parts = [*cast(nn.Module, self.loss).modules()]
        if any(isinstance(one, losses.TripletLoss) for one in parts):
            super()._take_smaller_batches(error)
            return
        batch = self.args.per_device_train_batch_size
        now = next((one.mini_batch_size for one in parts if isinstance(one, _CACHED)), None)
        size = faults.smaller(batch if now is None else now)
        in_parts = now is not None or (
            any(isinstance(one, losses.MultipleNegativesRankingLoss) for one in parts)
            and not any(isinstance(one, StaticEmbedding) for one in parts)
        )
        if size and in_parts:
            fix = f"--mini_batch_size {size}, with the same result"
        elif size > 1:
            fix = f"--per_device_train_batch_size {size}"
        else:
            fix = "a smaller --image_size or --model; --freeze backbone"
        raise InputError(
            f"out of memory with {batch if now is None else now} pairs at a time",
            expected="a step that fits into memory: with fewer pairs a step each would have fewer wrong answers",
            found=f"{type(error).__name__}: {error}".splitlines()[0][:200], fix=fix,
        ) from error  # fmt: skip

    def preprocess_dataset(self, dataset: Any = None, dataset_name: str | None = None) -> Any:
        return dataset  # its columns are made when they are asked for

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Nothing: the card is written from the run's folder."""

    def _batches(self) -> DistinctBatches:
        pairs = cast(Pairs, self.train_dataset)
        return DistinctBatches(pairs, self.kinds, self.args.train_batch_size, self.args.seed)

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        args, pairs, batches = self.args, cast(Pairs, self.train_dataset), self._batches()
        few = {kind: left for kind, left in batches.left.items() if left >= args.train_batch_size}
        for kind, left in few.items() if self.is_world_process_zero() else ():
            print(
                f"pairs with {'texts' if kind == 'text' else 'photos'}: {left} of {len(pairs)} photos are in no batch "
                f"of an epoch, each time others, since fewer than {args.train_batch_size} of them differ in item and "
                "text; a smaller --per_device_train_batch_size takes more of them"
            )
        self._note(**({"left_out_each_epoch": few} if few else {}))
        loader: torch.utils.data.DataLoader = torch.utils.data.DataLoader(
            pairs, batch_sampler=batches, collate_fn=self.data_collator, num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory, persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )  # fmt: skip
        faults.finishing(loader, self._signals)
        self.accelerator.even_batches = False
        return cast(Any, self.accelerator.prepare(loader))

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(
            str(self.state.best_model_checkpoint)
        )  # theirs goes on with the last one if it fails


class PairCollator(BaseDataCollator):
    """Pairs -> a batch; the numbers of the rows go along for messages."""

    def __init__(self, encoder: SentenceTransformer) -> None:
        super().__init__(preprocess_fn=encoder.preprocess)

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [pair.pop(faults.ROW) for pair in features]
        return {**super().__call__(features), faults.ROWS: torch.tensor(rows)}


class Measured(BaseEvaluator):
    """What `compute_metrics` is to other Trainers: figures of the encoder as it is, on validation.

    Args:
        measure: Encoder -> name -> figure.
        metric: The name of the one that matters most.
    """

    def __init__(self, measure: Callable[[SentenceTransformer], Mapping[str, float]], metric: str) -> None:
        super().__init__()
        self.measure, self.primary_metric = measure, metric

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        return dict(self.measure(model))


class SigmoidLoss(nn.Module):
    """SigLIP's loss: each pair of the batch by itself is right or wrong (Zhai et al. 2023, arXiv 2303.15343).

    It learns its scale and its bias; they are the loss's, not the encoder's.

    Args:
        model: The encoder.
        temperature: At the start, as one over the scale; the paper begins at 0.1.
        bias: At the start; the paper's.
    """

    def __init__(self, model: SentenceTransformer, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__()
        self.model = model
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / temperature))))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, sentence_features: Sequence[dict[str, torch.Tensor]], labels: Any) -> torch.Tensor:
        told = [self.model(dict(features))["sentence_embedding"] for features in sentence_features]
        left, right = (nn.functional.normalize(vectors, dim=1) for vectors in (told[0], torch.cat(told[1:])))
        logits = left @ right.T * self.log_scale.exp() + self.bias
        signs = 2 * torch.eye(*logits.shape, device=logits.device) - 1
        return -nn.functional.logsigmoid(signs * logits).sum() / len(left)


_CACHED = losses.CachedMultipleNegativesRankingLoss


def retrieval_loss(
    encoder: SentenceTransformer,
    kind: Literal["contrastive", "sigmoid", "triplet"] = "contrastive",
    *,
    temperature: float = 0.05,
    margin: float = 0.2,
    mini_batch_size: int | None = None,
    dimensions: Sequence[int] = (),
) -> nn.Module:
    """The loss of an encoder.

    Args:
        encoder: Whose it is.
        kind: `contrastive`: of all answers of the batch the right one is to be told, both ways (InfoNCE, as CLIP and
            sentence-transformers' multiple negatives); `sigmoid`: SigLIP's; `triplet`: the right answer nearer than
            the wrong one by a margin, for pairs with wrong answers.
        temperature: Of `contrastive`, and `sigmoid` at its start.
        margin: Of `triplet`, in cosine distance.
        mini_batch_size: Pairs that are in memory at a time, of batches of any size, with the same result (GradCache,
            Gao et al. 2021, arXiv 2101.06983); for `contrastive`.
        dimensions: Of Matryoshka (Kusupati et al. 2022, arXiv 2205.13147): the first so many numbers of a vector are
            to be a good vector, too.

    Raises:
        InputError: A value out of its range, or settings that do not go together.
    """
    in_range("temperature", temperature, 1e-3, 10.0)
    in_range("margin", margin, 0.0, 2.0)
    if mini_batch_size is not None and (kind != "contrastive" or mini_batch_size < 1):
        raise InputError(
            f"--mini_batch_size {mini_batch_size}", expected="1 or more, with --loss contrastive",
            found=f"--loss {kind}", fix="leave it out",
        )  # fmt: skip
    if mini_batch_size is not None and any(isinstance(module, StaticEmbedding) for module in encoder.modules()):
        raise InputError(
            f"--mini_batch_size {mini_batch_size}", expected="none with a text model of words",
            found="one", fix="leave it out, or name another --text_model",
        )  # fmt: skip
    width = int(encoder.get_embedding_dimension() or 0)
    odd = [one for one in dimensions if not 1 <= one <= width]
    if odd:
        raise InputError(
            f"--matryoshka {' '.join(map(str, dimensions))}", expected=f"1 to {width}: so long is a vector",
            found=str(odd[0]), fix=f"--matryoshka {width // 2} {width // 4}",
        )  # fmt: skip
    made: nn.Module
    if kind == "sigmoid":
        made = SigmoidLoss(encoder, temperature)
    elif kind == "triplet":
        made = losses.TripletLoss(encoder, losses.TripletDistanceMetric.COSINE, margin)
    elif mini_batch_size is not None:
        made = losses.CachedMultipleNegativesRankingLoss(
            encoder, scale=1 / temperature, mini_batch_size=mini_batch_size, directions=BOTH_WAYS,
            partition_mode="per_direction",
        )  # fmt: skip
    else:
        made = losses.MultipleNegativesRankingLoss(
            encoder, scale=1 / temperature, directions=BOTH_WAYS, partition_mode="per_direction"
        )
    if dimensions:
        made = losses.MatryoshkaLoss(encoder, made, sorted({*dimensions, width}, reverse=True))
    return made


def encoder_optimizer(loss: nn.Module, args: Any, head_learning_rate: float | None) -> torch.optim.Optimizer | None:
    """AdamW where what is new in an encoder (layers behind its nets, a text model of words) learns at its own rate."""
    if head_learning_rate is None:
        return None
    in_range("head_learning_rate", head_learning_rate, 0.0, 10.0)
    kind = str(getattr(args.optim, "value", args.optim))
    if kind not in ("adamw_torch", "adamw_torch_fused"):
        raise InputError(
            f"--optim {kind} with --head_learning_rate", expected="AdamW", found=kind, fix="--optim adamw_torch"
        )
    nets = {id(own) for module in loss.modules() if isinstance(module, Transformer) for own in module.parameters()}
    groups: list[dict[str, Any]] = []
    for trained, rate in ((True, args.learning_rate), (False, head_learning_rate)):
        for decays in (True, False):
            found = [
                own for own in loss.parameters()
                if own.requires_grad and (id(own) in nets) == trained and (own.ndim > 1) == decays
            ]  # fmt: skip
            if found:
                groups.append({"params": found, "lr": rate, "weight_decay": args.weight_decay if decays else 0.0})
    if not groups:
        raise InputError(
            "the optimizer", expected="an encoder with something that learns", found="every parameter is frozen",
            fix="--freeze none, or --dimension 256 for a new layer",
        )  # fmt: skip
    return torch.optim.AdamW(
        groups, lr=args.learning_rate, betas=(args.adam_beta1, args.adam_beta2), eps=args.adam_epsilon
    )
