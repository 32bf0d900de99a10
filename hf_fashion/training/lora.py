"""LoRA: a few small matrices learn beside the weights of a net, and are added to them at the end."""

from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel

from hf_fashion.backbones.freezing import head_layers, stages
from hf_fashion.errors import InputError, extra, in_range

if TYPE_CHECKING:
    from peft import PeftModel

# The projections of an attention layer, by the names that transformers' and timm's nets give them.
_ATTENTION = (
    "q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "query", "key", "value", "output.dense", "qkv", "proj",
)  # fmt: skip


def add_lora(model: PreTrainedModel, rank: int, alpha: float, dropout: float = 0.0) -> "PeftModel":
    """Freezes a classifier and puts low-rank matrices beside its layers (Hu et al. 2021, arXiv 2106.09685).

    What gets them: the query, key, value and output projections of every attention layer; in a net without attention,
    every linear and convolution layer of the stages whose kernels see all channels. The layers that give the logits
    learn in full. At the start the logits are those of the net as it came.

    The frozen net stays in eval mode while it trains, as `backbones.freeze` has it: no dropout, no drop-path, no new
    batch statistics.

    Give the result to `FashionTrainer`; a checkpoint holds the small matrices and the head. `merge` makes a plain net.

    Args:
        model: An image classifier; it is changed in place.
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
    targets = _targets(model)
    heads = [name for name, module in model.named_modules() if any(module is layer for layer in head_layers(model))]
    config: Any = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, modules_to_save=heads  # type: ignore[arg-type]
    )  # fmt: skip
    wrapped: Any = get_peft_model(model, config)
    # Not a name that peft would look for on the Hub at every checkpoint.
    wrapped.peft_config["default"].base_model_name_or_path = ""
    wrapped.register_forward_pre_hook(_hold_base_in_eval)
    return wrapped


def merge(model: "PeftModel") -> PreTrainedModel:
    """Adds what was learnt to the weights of the net, and returns it as the plain net that it was, in eval mode.

    Its names of tensors and its architecture are those of the checkpoint that LoRA was added to, and so it saves and
    loads without peft. The wrapped model gives from now on what the merged one does.
    """
    whole: Any = model
    net: PreTrainedModel = whole.merge_and_unload()
    return net.eval()


def _hold_base_in_eval(model: nn.Module, _inputs: Any) -> None:
    for name, module in model.named_modules():
        if "lora_" not in name and "modules_to_save" not in name:
            module.training = False


def _targets(model: PreTrainedModel) -> list[str]:
    attention = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        # torch's own attention reads the weight of its last layer itself, beside which nothing can stand.
        and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)
        and name.endswith(tuple(f".{end}" for end in _ATTENTION))
        and any(part.startswith("att") or part.endswith("_attn") for part in name.split("."))
    ]
    if attention:
        return attention
    inside = {name.rpartition(".")[0] for stage in stages(model)[1:] for name in stage}
    layers = [
        name
        for name, module in model.named_modules()
        if name in inside and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
    ]
    if not layers:
        raise InputError(
            f"LoRA for this {model.config.model_type} net", expected="attention, linear or convolution layers",
            found="none", fix="leave --lora_rank out",
        )  # fmt: skip
    return layers
