"""LoRA: a few small matrices learn beside the weights of a net, and are added to them at the end."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel

from hf_fashion.backbones.detectors import _of_classes
from hf_fashion.backbones.freezing import detector_backbone, head_layers, stages
from hf_fashion.errors import InputError, extra, in_range

if TYPE_CHECKING:
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer

# The projections of an attention layer, by the names that transformers' and timm's nets give them.
_ATTENTION = (
    "q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "query", "key", "value", "output.dense", "qkv", "proj",
)  # fmt: skip


def add_lora(model: PreTrainedModel, rank: int, alpha: float, dropout: float = 0.0) -> "PeftModel":
    """Freezes a net and puts low-rank matrices beside its layers (Hu et al. 2021, arXiv 2106.09685).

    What gets them in a classifier: the query, key, value and output projections of every attention layer; in a net
    without attention, every linear and convolution layer of the stages whose kernels see all channels. The layers that
    give the logits learn in full.

    In a detector every linear layer gets them, attention that samples points included (Dettmers et al. 2023, arXiv
    2305.14314: fewer did not reach a full fine-tune); convolutions stay as they are. The heads of classes and boxes
    learn in full, and so does the embedding of RT-DETR's and D-FINE's denoising queries: what depends on the classes
    is random when these are new; how a box is drawn around a thing changes with the annotators as classes do, and
    beside a layer of 4 outputs nothing of a usual rank is smaller than the layer. What heads share stays shared.

    At the start the outputs are those of the net as it came.

    The frozen net stays in eval mode while it trains, as `backbones.freeze` has it: no dropout, no drop-path, no new
    batch statistics. In a detector that holds for the backbone and for all batch norms; the rest trains as ever, since
    denoising queries, groups of queries and losses of the layers exist in training mode alone.

    Give the result to the Trainer; a checkpoint holds the small matrices and the heads. `merge` makes a plain net.

    Args:
        model: An image classifier or a detector; it is changed in place.
        rank: Width of the matrices. Usual: 4 to 16.
        alpha: What is learnt is scaled by alpha / rank. Usual: once or twice the rank.
        dropout: Share of a layer's inputs that its small matrices do not see in training.

    Raises:
        InputError: `peft` is not installed, a value is out of its range, or the net has no layer that could get any.
    """
    with extra("LoRA", "peft", "lora"):
        from peft import LoraConfig, get_peft_model
    in_range("lora_rank", rank, 1, 1024)
    in_range("lora_alpha", alpha, 1e-6, 1e6)
    in_range("lora_dropout", dropout, 0.0, 0.9)
    heads = _heads(model)
    config: Any = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=_targets(model, heads)  # type: ignore[arg-type]
    )  # fmt: skip
    with _own_ties_hidden(model):
        wrapped: Any = get_peft_model(model, config)
    _learn_in_full(model, heads)
    told = wrapped.peft_config["default"]
    told.modules_to_save = heads
    # Not a name that peft would look for on the Hub at every checkpoint.
    told.base_model_name_or_path = ""
    wrapped.register_forward_pre_hook(_hold_base_in_eval)
    return wrapped


def add_lora_to_encoder(encoder: "SentenceTransformer", rank: int, alpha: float) -> "list[PeftModel]":
    """`add_lora` for the nets of an encoder, that of pictures and that of texts; layers behind them learn in full.

    The encoder is changed in place, and stays one of sentence-transformers. What is returned is for
    `RetrievalTrainer`, or for `merge`.

    Args:
        encoder: Whose nets are frozen.
        rank: See `add_lora`.
        alpha: See `add_lora`.

    Raises:
        InputError: As there; or it has no net of transformers.
    """
    modules = [module for module in encoder.modules() if isinstance(getattr(module, "model", None), PreTrainedModel)]
    wrapped = []
    for module in modules:
        net: Any = module.model
        wrapped.append(add_lora(net, rank, alpha))
        # Not before the net's own `forward`: of CLIP another method is asked.
        module.register_forward_pre_hook(_hold_nets_in_eval)
    if not wrapped:
        raise InputError(
            "--lora_rank", expected="an encoder with a net of transformers", found="none", fix="leave it out"
        )
    return wrapped


def merge(model: "PeftModel") -> PreTrainedModel:
    """Adds what was learnt to the weights of the net, and returns it as the plain net that it was, in eval mode.

    Its names of tensors and its architecture are those of the checkpoint that LoRA was added to, and so it saves and
    loads without peft. The wrapped model gives from now on what the merged one does.
    """
    whole: Any = model
    net: PreTrainedModel = whole.merge_and_unload()
    return net.eval()


@contextmanager
def _own_ties_hidden(model: PreTrainedModel) -> Iterator[None]:
    """peft (0.21) asks a net of which some weights are shared for its word embeddings; RT-DETR raises."""
    settings: Any = model.config
    shared = getattr(settings, "tie_word_embeddings", False)
    if shared:
        settings.tie_word_embeddings = False
    try:
        yield
    finally:
        if shared:
            settings.tie_word_embeddings = shared


def _learn_in_full(model: PreTrainedModel, names: list[str]) -> None:
    """Puts peft's copies, which learn and which its checkpoints hold, in the place of frozen modules.

    Given to peft as `modules_to_save`, names would be taken as endings (RF-DETR's `class_embed` is one of
    `enc_out_class_embed`), and modules that share weights (RT-DETR's `class_embed` and `decoder.class_embed`) would
    each get weights of their own, of which a saved net keeps one.
    """
    from peft.utils import ModulesToSaveWrapper

    copies: dict[nn.Parameter, nn.Parameter] = {}
    for name in names:
        parent, _, child = name.rpartition(".")
        both: Any = ModulesToSaveWrapper(model.get_submodule(name), "default")
        both.set_adapter("default")
        setattr(model.get_submodule(parent), child, both)
        for key, original in both.original_module.named_parameters(remove_duplicate=False):
            place, _, last = key.rpartition(".")
            owner = both.modules_to_save["default"].get_submodule(place)
            setattr(owner, last, copies.setdefault(original, getattr(owner, last)))


def _hold_base_in_eval(model: Any, _inputs: Any) -> None:
    net = model.get_base_model()
    backbone = detector_backbone(net)
    for name, module in net.named_modules():
        if "lora_" in name or "modules_to_save" in name:
            continue
        if backbone is None or f"{name}.".startswith(f"{backbone}.") or hasattr(module, "running_mean"):
            module.training = False


def _hold_nets_in_eval(module: Any, _inputs: Any) -> None:
    for name, part in module.model.named_modules():
        if "lora_" not in name:
            part.training = False


def _heads(model: PreTrainedModel) -> list[str]:
    """The modules that learn in full, by all of their names."""
    named = list(model.named_modules(remove_duplicate=False))
    if detector_backbone(model) is None:
        layers = head_layers(model)
        return [name for name, module in named if any(module is layer for layer in layers)]
    # Of a perceptron (YOLOS) the last layer depends on the classes; the head is all of it.
    classes = {re.sub(r"\.layers\.\d+$", "", name.rpartition(".")[0]) for name in _of_classes(model.config)}
    heads: list[str] = []
    for name, module in named:
        inside = name.startswith(tuple(f"{head}." for head in heads))
        if not (inside or isinstance(module, nn.ModuleList)) and (name in classes or "bbox" in name):
            heads.append(name)
    return heads


def _targets(model: PreTrainedModel, heads: list[str]) -> list[str]:
    """The layers that get small matrices."""
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        # torch's own attention reads the weight of its last layer itself, beside which nothing can stand.
        and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)
    ]
    if detector_backbone(model) is not None:
        layers = [name for name in linear if not f"{name}.".startswith(tuple(f"{head}." for head in heads))]
    else:
        layers = [
            name
            for name in linear
            if name.endswith(tuple(f".{end}" for end in _ATTENTION))
            and any(part.startswith("att") or part.endswith("_attn") for part in name.split("."))
        ]
        if not layers:
            inside = {name.rpartition(".")[0] for stage in stages(model)[1:] for name in stage}
            layers = [
                name
                for name, module in model.named_modules()
                if name in inside
                and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
            ]
    if not layers:
        raise InputError(
            f"LoRA for this {model.config.model_type} net", expected="attention, linear or convolution layers",
            found="none", fix="leave --lora_rank out",
        )  # fmt: skip
    return layers
