"""What an encoder learns by: losses over the vectors of a batch.

Those of sentence-transformers where it has them. All can be computed of vectors that are there already
(`compute_loss_from_embeddings`), so that words can be put to a photo, and a teacher beside an encoder, before.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from hf_fashion.backbones.encoders import picture_net
from hf_fashion.errors import InputError, extra, in_range

with extra("training of an encoder", "sentence-transformers", "retrieve"):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding, Transformer

BOTH_WAYS: Any = ("query_to_doc", "doc_to_query")
CACHED = losses.CachedMultipleNegativesRankingLoss
Features = Sequence[dict[str, torch.Tensor]]  # of each column of a batch what the encoder takes


class SigmoidLoss(nn.Module):
    """SigLIP's loss: each pair of the batch by itself is right or wrong (Zhai et al. 2023, arXiv 2303.15343).

    It learns its scale and its bias. Those of a net that has them (SigLIP) are taken, and stay the net's, where its
    vectors are those of the encoder; else (a layer is behind it) they are the loss's, and begin as told.

    Args:
        model: The encoder.
        temperature: At the start, as one over the scale; the paper begins at 0.1.
        bias: At the start; the paper's.
    """

    def __init__(self, model: SentenceTransformer, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__()
        self.model = model
        net = picture_net(model)
        scale, offset = (getattr(net, name, None) for name in ("logit_scale", "logit_bias"))
        bare = all(isinstance(module, (Transformer, Normalize)) for module in model.children())
        if bare and isinstance(scale, nn.Parameter) and isinstance(offset, nn.Parameter):
            self.log_scale, self.bias = scale, offset
        else:
            self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / temperature))))
            self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, sentence_features: Features, labels: Any) -> torch.Tensor:
        return self.compute_loss_from_embeddings(_vectors(self.model, sentence_features), labels)

    def compute_loss_from_embeddings(self, embeddings: list[torch.Tensor], labels: Any) -> torch.Tensor:
        """The loss of vectors (pairs, dimension): of what asks, of the right answers, of wrong ones."""
        logits = _cosines(embeddings[0], torch.cat(embeddings[1:])) * self.log_scale.exp() + self.bias
        signs = 2 * torch.eye(*logits.shape, device=logits.device) - 1
        return -nn.functional.logsigmoid(signs * logits).sum() / len(logits)


class ComposedLoss(nn.Module):
    """A photo and words about what is to be different ask for another photo, as in Fashion IQ.

    What asks is the sum of both vectors, as in Baldrati et al. 2022 (CLIP4Cir, CVPR workshops), and as
    `searches.composed` has it with a weight of one half.

    Args:
        model: The encoder.
        loss: Of what asks and of the right answers.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, sentence_features: Features, labels: Any) -> torch.Tensor:
        return self.compute_loss_from_embeddings(_vectors(self.model, sentence_features), labels)

    def compute_loss_from_embeddings(self, embeddings: list[torch.Tensor], labels: Any) -> torch.Tensor:
        """The loss of vectors (pairs, dimension): of photos, of words, of the photos that they ask for."""
        photos, words, *answers = embeddings
        asking = nn.functional.normalize(photos, dim=1) + nn.functional.normalize(words, dim=1)
        return cast(torch.Tensor, cast(Any, self.loss).compute_loss_from_embeddings([asking, *answers], labels))


class TeacherLoss(nn.Module):
    """An encoder learns from a larger one, beside its own loss or alone (distillation).

    Two things are learned: how near each photo of the batch is to each other one (or to each text), as the softmax of
    the teacher's similarities tells it, both ways (affinity mimicking, Wu et al. 2023, TinyCLIP, arXiv 2309.12314);
    and the teacher's vectors themselves, up to a linear map where their lengths differ, which of all means did most in
    Yang et al. 2023 (CLIP-KD, arXiv 2307.12732). The map is the loss's, and is not kept in the encoder.

    A batch has the columns twice: as the encoder takes them, and as the teacher does (`PairCollator`).

    Args:
        model: The encoder.
        teacher: It does not learn.
        loss: The encoder's own.
        weight: Of the teacher, from 0 to 1; the own loss has the rest. With 1 it is not asked: nothing need be right.
        temperature: Of the softmax of similarities.
    """

    def __init__(
        self, model: SentenceTransformer, teacher: SentenceTransformer, loss: nn.Module, weight: float = 0.5,
        temperature: float = 0.05,
    ) -> None:  # fmt: skip
        super().__init__()
        in_range("teacher_weight", weight, 0.0, 1.0)
        self.model, self.loss, self.weight, self.temperature = model, loss, weight, temperature
        # Not a module of this one: nothing of it is to be counted, saved or trained.
        self._teacher = [teacher.eval().requires_grad_(False)]
        width, wide = int(model.get_embedding_dimension() or 0), int(teacher.get_embedding_dimension() or 0)
        self.map = nn.Identity() if width == wide else nn.Linear(width, wide, bias=False)

    def forward(self, sentence_features: Features, labels: Any) -> torch.Tensor:
        half = len(sentence_features) // 2
        told = _vectors(self.model, sentence_features[:half])
        [teacher] = self._teacher
        with torch.no_grad():
            wanted = _vectors(teacher.to(told[0].device), sentence_features[half:])
        loss = told[0].new_zeros(())
        if self.weight < 1:
            own: Any = self.loss
            loss = loss + (1 - self.weight) * own.compute_loss_from_embeddings(told, labels)
        return loss + self.weight * (self._affinity(told, wanted) + self._features(told, wanted))

    def _affinity(self, told: list[torch.Tensor], wanted: list[torch.Tensor]) -> torch.Tensor:
        ours, theirs = (_cosines(one[0], one[1]) for one in (told, wanted))
        ways = [
            nn.functional.kl_div(
                (mine / self.temperature).log_softmax(1), (its / self.temperature).log_softmax(1),
                reduction="batchmean", log_target=True,
            )
            for mine, its in ((ours, theirs), (ours.T, theirs.T))
        ]  # fmt: skip
        return torch.stack(ways).mean()

    def _features(self, told: list[torch.Tensor], wanted: list[torch.Tensor]) -> torch.Tensor:
        near = [nn.functional.cosine_similarity(self.map(mine), its) for mine, its in zip(told, wanted, strict=True)]
        return 1 - torch.cat(near).mean()


def _cosines(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Vectors (n, d) and (m, d) -> (n, m), in 32 bits also under `--bf16`: in 16 a cosine is off by up to 0.004, which
    at SigLIP's scale is a half of a logit."""
    with torch.autocast(left.device.type, enabled=False):
        return nn.functional.normalize(left.float(), dim=1) @ nn.functional.normalize(right.float(), dim=1).T


def _vectors(encoder: SentenceTransformer, columns: Features) -> list[torch.Tensor]:
    return [encoder(dict(features))["sentence_embedding"] for features in columns]


def retrieval_loss(
    encoder: SentenceTransformer,
    kind: Literal["contrastive", "sigmoid", "triplet"] = "contrastive",
    *,
    temperature: float = 0.05,
    margin: float = 0.2,
    mini_batch_size: int | None = None,
    dimensions: Sequence[int] = (),
    composed: bool = False,
    teacher: SentenceTransformer | None = None,
    teacher_weight: float = 0.5,
) -> nn.Module:
    """The loss of an encoder.

    Args:
        encoder: Whose it is.
        kind: `contrastive`: of all answers of the batch the right one is to be told, both ways (InfoNCE, as CLIP and
            sentence-transformers' multiple negatives); `sigmoid`: SigLIP's; `triplet`: the right answer nearer than
            the wrong one by a margin, for pairs with wrong answers.
        temperature: Of `contrastive`, and `sigmoid` at its start, where the net has no scale of its own (SigLIP).
        margin: Of `triplet`, in cosine distance.
        mini_batch_size: Pairs that are in memory at a time, of batches of any size, with the same result (GradCache,
            Gao et al. 2021, arXiv 2101.06983); for `contrastive`.
        dimensions: Of Matryoshka (Kusupati et al. 2022, arXiv 2205.13147): the first so many numbers of a vector are
            to be a good vector, too.
        composed: What asks is a photo with words, see `ComposedLoss`.
        teacher: A larger encoder to learn from, see `TeacherLoss`.
        teacher_weight: Its share.

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
    for other, named in ((composed, "--match composed"), (teacher is not None, "--teacher")):
        if other and (mini_batch_size is not None or (teacher is not None and dimensions)):
            raise InputError(
                named, expected="it without --mini_batch_size" + " and --matryoshka" * (teacher is not None),
                found="both", fix="leave one out",
            )  # fmt: skip
    if composed and kind == "triplet":
        raise InputError(
            "--match composed", expected="--loss contrastive or sigmoid", found="--loss triplet", fix="leave it out"
        )
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
    if composed:
        made = ComposedLoss(encoder, made)
    if teacher is not None:
        made = TeacherLoss(encoder, teacher, made, teacher_weight, temperature)
    if dimensions:
        made = losses.MatryoshkaLoss(encoder, made, sorted({*dimensions, width}, reverse=True))
    return made
