"""Training of encoders: the Trainer, the losses and the optimizer; what they learn from is in `pairs`.

The Trainer is sentence-transformers' own, with the guard of all ours.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer_utils import TrainOutput

from hf_fashion.backbones.encoders import picture_net
from hf_fashion.errors import InputError, extra, in_range
from hf_fashion.training import faults
from hf_fashion.training.arguments import FashionTrainingArguments
from hf_fashion.training.encoder_losses import CACHED
from hf_fashion.training.guarded import GuardedTrainer
from hf_fashion.training.lora import merge
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

LOSS = "loss.safetensors"  # in a checkpoint, what a loss learns itself
ADAPTER = "adapter_model.safetensors"  # in a checkpoint of LoRA, what learns
# Settings of sentence-transformers for columns and batches that are made here.
_NOT_USED = ("prompts", "router_mapping")


_CONTRASTIVE = (losses.MultipleNegativesRankingLoss, CACHED)


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
        kinds: What is put beside the photos: other photos, texts, both in turns, or texts that say what is to be
            different (`ComposedPairs`).
        teacher: Of a `TeacherLoss`.
        lora: What `lora.add_lora_to_encoder` gave: a checkpoint holds what learns alone, and `train` ends with the
            encoder as the plain one that it was.
        **kwargs: Of that.
    """

    def __init__(
        self,
        *args: Any,
        kinds: Sequence[Kind] = ("image",),
        teacher: SentenceTransformer | None = None,
        lora: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        self.kinds, self._lora = tuple(kinds), list(lora)
        encoder = kwargs["model"] if "model" in kwargs else args[0]
        kwargs.setdefault("data_collator", PairCollator(encoder, teacher))
        super().__init__(*args, **kwargs)
        # Each part of a cached batch passes the net by itself, and the last one alone is waited for.
        self._cached = any(isinstance(one, CACHED) for one in cast(nn.Module, self.loss).modules())
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
        self._tell_scale()
        while self._lora:
            merge(self._lora.pop())
        with contextlib.suppress(OSError):  # sentence-transformers makes a folder for figures that go elsewhere here
            (Path(str(self.args.output_dir)) / "eval").rmdir()
        return done

    def _tell_scale(self) -> None:
        """Writes the temperature that a net learned photos and texts with into the net, where it has a place for it
        (CLIP): what reads probabilities from it (zero-shot pipelines) multiplies by that. SigLIP has an offset, too,
        which a loss that compares pairs with each other does not learn: it becomes what makes of a pair's sigmoid its
        chance against the other pairs of a batch, on average over one of the training."""
        encoder = self.accelerator.unwrap_model(self.model)
        net = picture_net(encoder)
        own, offset = (getattr(net, name, None) for name in ("logit_scale", "logit_bias"))
        losses_ = [one for one in cast(nn.Module, self.loss).modules() if isinstance(one, _CONTRASTIVE)]
        if "text" not in self.kinds or not isinstance(own, nn.Parameter) or not losses_:
            return
        with torch.no_grad():
            own.fill_(math.log(losses_[0].scale))
            if isinstance(offset, nn.Parameter) and self.args.train_batch_size > 1:
                pairs = cast(Pairs, self.train_dataset)
                pairs.set_epoch(0)
                drawn = [pairs[key] for key in next(keys for keys in self._batches() if keys[0][1] == "text")]
                told = [[pair[name] for pair in drawn] for name in ("anchor", "positive")]
                photos, texts = (
                    encoder.encode(
                        one, batch_size=self.args.per_device_eval_batch_size, normalize_embeddings=True,
                        convert_to_tensor=True, show_progress_bar=False,
                    ) for one in told
                )  # fmt: skip
                logits = (losses_[0].scale * photos @ texts.T).fill_diagonal_(-math.inf)
                offset.fill_(-torch.cat([logits.logsumexp(0), logits.logsumexp(1)]).mean())

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

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        if not self._lora:  # without a card, and the pickle of the settings, which nobody reads
            self.accelerator.unwrap_model(self.model).save_pretrained(str(folder), create_model_card=False)
            return
        save_file({name: own.detach().cpu().contiguous() for name, own in self._learning().items()}, folder / ADAPTER)

    def _learning(self) -> dict[str, nn.Parameter]:
        """What learns of the encoder."""
        net = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        return {name: own for name, own in net.named_parameters() if own.requires_grad}

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._lora:
            self._take(Path(resume_from_checkpoint) / ADAPTER, self._learning(), "the --lora_rank and --model")
        else:
            super()._load_from_checkpoint(resume_from_checkpoint)
        self._take(Path(resume_from_checkpoint) / LOSS, self._of_loss(), "the loss")

    def _take(self, path: Path, own: Mapping[str, nn.Parameter], what: str) -> None:
        stored = load_file(path) if path.is_file() else {}
        if {name: value.shape for name, value in stored.items()} != {name: value.shape for name, value in own.items()}:
            raise InputError(
                f"{path.name} of checkpoint {path.parent}", expected=f"{len(own)} tensors, as this run learns them",
                found=f"{len(stored)}" if len(stored) != len(own) else "others",
                fix=f"resume with {what} that wrote the checkpoint",
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
        now = next((one.mini_batch_size for one in parts if isinstance(one, CACHED)), None)
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
                f"pairs with {'texts' if kind == 'text' else 'photos'}: {left} of {len(pairs)} are in no batch "
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
    """Pairs -> a batch; the numbers of the rows go along for messages.

    Args:
        encoder: That learns.
        teacher: For it all columns come once more, as it takes them, behind those of the encoder.
    """

    def __init__(self, encoder: SentenceTransformer, teacher: SentenceTransformer | None = None) -> None:
        super().__init__(preprocess_fn=encoder.preprocess)
        self.teacher = teacher

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [pair.pop(faults.ROW) for pair in features]
        batch = super().__call__(features)
        if self.teacher is not None:
            for name in features[0]:
                told = self.teacher.preprocess([pair[name] for pair in features])
                batch |= {f"teacher_{name}_{key}": value for key, value in told.items()}
        return {**batch, faults.ROWS: torch.tensor(rows)}


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
