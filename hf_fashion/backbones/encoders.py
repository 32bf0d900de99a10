"""`load_encoder`: a checkpoint becomes a `SentenceTransformer`, whose vectors of photos and texts can be compared."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import (
    MODEL_MAPPING,
    AutoModel,
    PreTrainedModel,
    TimmWrapperConfig,
)
from transformers.utils import logging

from hf_fashion.backbones import freezing
from hf_fashion.backbones.loading import load_classifier
from hf_fashion.backbones.sources import EMBEDDED, ENCODER_FILES, find, first_line, leads_out, read_config
from hf_fashion.errors import InputError, extra

with extra("an encoder", "sentence-transformers", "retrieve"):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        Normalize,
        Pooling,
        Router,
        StaticEmbedding,
        Transformer,
    )

WORDS = "words"  # the text model that is made anew
VOCABULARY = 8000  # pieces of words at most that it knows
# Nets whose pooled output has a layer that only their pretraining knows: their first token is taken.
_FIRST_TOKEN = ("vit", "deit", "vit_msn")
# Nets whose maps, or tokens where none stands for the whole, are averaged.
_MAPS = ("resnet", "regnet", "efficientnet", "mobilenet_v1", "mobilenet_v2", "mobilevit", "ijepa")
# Nets for pictures and texts that learned from texts filled up to one length, without a mask: their vector is that of
# the last place, so without the filling it would be another one, and depend on the other texts of a batch.
_FILLED = ("siglip", "siglip2")
# Modules of sentence-transformers that are a net of transformers: the last one is what CLIP was saved as.
_NETS = ("Transformer", ".CLIPModel")


def load_encoder(
    model: str | Path,
    *,
    text_model: str | Path | None = None,
    texts: Sequence[str] = (),
    dimension: int | None = None,
    freeze: str = "none",
    image_size: int | None = None,
    resize: str = "keep",
    revision: str | None = None,
    text_revision: str | None = None,
) -> SentenceTransformer:
    """Loads an encoder in 32-bit floats: photos, and texts if it takes any -> vectors of length 1.

    Args:
        model: A Hub id or a local folder: an encoder of sentence-transformers; a net for pictures and texts (CLIP,
            SigLIP); a classifier or its backbone (ViT, Swin, DINOv2, ConvNeXt, timm nets), whose head is left out.
        text_model: What texts pass, where the model takes pictures alone: a Hub id or a folder of
            sentence-transformers or transformers; `words`: a mean of the vectors of its words' pieces, made anew.
        texts: For `words`: from which it takes the pieces.
        dimension: Numbers of a vector: a new linear layer gives so many. None for the net's own; with a text model
            of another width 256.
        freeze: What does not learn of the net that sees the pictures, see `freeze`; of CLIP and SigLIP of both.
        image_size: Pixels of the side of the square that the net sees; None for the checkpoint's own.
        resize: `keep`, `squash`, `crop` or `pad`, see `load_classifier`.
        revision: Branch, tag or commit of a Hub id.
        text_revision: Of the text model.

    Returns:
        The encoder: `encode` takes photos, and texts, and gives (n, dimension) floats.

    Raises:
        InputError: The checkpoint, the plan or a size cannot be used; the message says what can.
    """
    if dimension is not None and (not isinstance(dimension, int) or not 1 <= dimension <= 65536):
        raise InputError(
            "the dimension of the vectors", expected="a whole number above 0", found=repr(dimension),
            fix="--dimension 256, for example",
        )  # fmt: skip
    folder = find(model, revision, ENCODER_FILES)
    if str(model) not in EMBEDDED and (folder / "modules.json").is_file():
        if text_model is not None or dimension is not None or image_size is not None or resize != "keep":
            raise InputError(
                f"the encoder '{model}'", expected="it as it is: it has its modules",
                found="--text_model, --dimension, --image_size or --resize", fix="leave these out",
            )  # fmt: skip
        encoder = _saved(folder, model)
        net = picture_net(encoder)
        if net is not None:
            freezing.freeze(net, freeze)
            for module in encoder.modules() if freeze != "none" else ():
                if getattr(module, "model", None) is net:
                    module.register_forward_pre_hook(_hold_in_eval)
        elif freeze != "none":
            raise _nothing_to_freeze(model)
        return encoder
    net, processor, both = _net(folder, model, image_size, resize)
    if both and text_model is not None:
        raise InputError(
            f"--text_model {text_model}", expected=f"none: '{model}' takes texts itself", found="one",
            fix="leave it out",
        )  # fmt: skip
    freezing.freeze(net, freeze)
    seeing, width = _seeing(net, processor, both)
    if freeze != "none":  # of CLIP another method is asked than the one that the net's own hook stands before
        seeing[0].register_forward_pre_hook(_hold_in_eval)
    if text_model is None:
        last = [] if dimension is None else [_layer(width, dimension)]
        return _encoder([*seeing, *last], model)
    reading, words_width = _reading(text_model, texts, dimension or 256, text_revision)
    out = dimension or (width if words_width == width else 256)
    ways = {
        "image": [*seeing, *([] if width == out and dimension is None else [_layer(width, out)])],
        "text": [*reading, *([] if words_width == out else [_layer(words_width, out)])],
    }
    return _encoder([Router(ways, default_route="image")], model)


def picture_net(encoder: SentenceTransformer) -> PreTrainedModel | None:
    """The net of transformers or timm that sees the pictures; None for an encoder of texts alone."""
    for module in encoder.modules():
        if isinstance(module, Transformer) and "image" in module.modalities:
            return module.model
    return None


def takes_texts(encoder: SentenceTransformer) -> bool:
    """Whether an encoder gives vectors of texts, too."""
    return "text" in encoder.modalities


def _hold_in_eval(module: Any, _inputs: Any) -> None:
    for part in freezing.frozen_modules(module.model):
        part.training = False


def _encoder(modules: list[Any], model: str | Path) -> SentenceTransformer:
    encoder = SentenceTransformer(modules=[*modules, Normalize()], similarity_fn_name="cosine")
    net = picture_net(encoder)
    if net is not None:
        net.name_or_path = net.config.name_or_path = str(model)
    return _quick(encoder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' advice out of a load; its errors stay."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _quick(encoder: SentenceTransformer) -> SentenceTransformer:
    """In eval mode, and with the layout in memory with which a CPU takes two thirds of the time for convolutions; the
    vectors are the same but for the last digits."""
    return encoder.to(memory_format=torch.channels_last).eval()


def _saved(folder: Path, model: str | Path) -> SentenceTransformer:
    """An encoder as sentence-transformers saved it: modules of that library alone, and no pickle."""
    what = f"the encoder '{model}'"
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        kinds, paths = [str(one["type"]) for one in modules], [str(one["path"]) for one in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            what, expected="a modules.json of sentence-transformers", found=first_line(error),
            fix="save or download it again",
        ) from error  # fmt: skip
    for number, path in enumerate(paths):  # grows: a Router's modules lie in folders of its own
        if kinds[number].endswith((".Router", ".Asym")):
            inner = _routed(folder / path, what)
            kinds += inner.values()
            paths += [str(Path(path) / name) for name in inner]
    odd = [kind for kind in kinds if not kind.startswith("sentence_transformers.")]
    outside = [path for path in paths if Path(path).is_absolute() or ".." in Path(path).parts]
    if outside:
        raise InputError(
            what, expected="modules in its own folder", found=outside[0], fix="save or download it again"
        )  # fmt: skip
    pickles = [name for kind, path in zip(kinds, paths, strict=True) for name in _pickles(folder, path, kind)]
    if odd or pickles:
        raise InputError(
            what, expected="modules of sentence-transformers, and weights in model.safetensors",
            found=f"code of others ({odd[0]})" if odd else f"{pickles[0]}, a pickle, which can run code",
            fix="take another checkpoint: code from a repository is never run here" if odd
            else "convert it: load it where you trust it, then save_pretrained(folder)",
        )  # fmt: skip
    for kind, path in zip(kinds, paths, strict=True):
        if kind.endswith(_NETS) and (leads := _leads_out(folder / path)):
            raise InputError(
                what, expected="nets that are all in its folder", found=f"{path or 'its folder'}: {leads}",
                fix="take another checkpoint; or, where you trust it, load it and save_pretrained(<a new folder>)",
            )  # fmt: skip
    try:
        with _quiet():
            return _quick(
                SentenceTransformer(
                    str(folder), trust_remote_code=False, local_files_only=True,
                    model_kwargs={"dtype": torch.float32, "use_safetensors": True},
                )
            )  # fmt: skip
    except Exception as error:  # each module raises something of its own
        raise InputError(
            what, expected="an encoder that sentence-transformers can load",
            found=f"{type(error).__name__}: {first_line(error)}", fix="save or download it again",
        ) from error  # fmt: skip


def _pickles(folder: Path, path: str, kind: str) -> list[str]:
    """The pickles that a module would read: where there are safetensors, nobody looks at what lies beside them."""
    place = folder / path
    parted = kind.endswith(_NETS) and (place / "model.safetensors.index.json").is_file()
    if parted or (place / "model.safetensors").is_file():
        return []
    return sorted(str(found.relative_to(folder)) for found in place.glob("pytorch_model*.bin"))


def _leads_out(folder: Path) -> str | None:
    """What in the folder of a net leads out of it."""
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"config.json, which cannot be read: {first_line(error)}"
    return leads_out(folder, raw if isinstance(raw, dict) else {}, names)


def _routed(folder: Path, what: str) -> dict[str, str]:
    """The modules of a Router, by the names of their folders."""
    path = next((folder / name for name in ("router_config.json", "config.json") if (folder / name).is_file()), None)
    try:
        types = json.loads(path.read_text(encoding="utf-8"))["types"] if path else {}
        return {str(name): str(kind) for name, kind in types.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{what}, its Router", expected="`types`: module -> its class", found=first_line(error),
            fix="save or download it again",
        ) from error  # fmt: skip


def _net(folder: Path, model: str | Path, image_size: int | None, resize: str) -> tuple[PreTrainedModel, Any, bool]:
    """A net without a head, its processor, and whether it takes pictures and texts."""
    config = read_config(folder, model)
    kind: Any = MODEL_MAPPING.get(type(config), None)
    if hasattr(kind, "get_image_features"):
        if image_size is not None or resize != "keep":
            raise InputError(
                f"--image_size or --resize for '{model}'", expected="neither: it sees pictures as it learned to",
                found="one of them", fix="leave it out",
            )  # fmt: skip
        net, lost = _loaded(folder, model)
        if lost:
            raise InputError(
                f"the weights of the model '{model}'", expected="every tensor of the net",
                found=f"{len(lost)} that are missing ({lost[0]}, ...); they would be random", fix="download it again",
            )  # fmt: skip
        return net, None, True
    classifier, processor = load_classifier(model, ["one", "two"], resize=resize, image_size=image_size)
    config = classifier.config
    # Those of the head, which is left out: what a config has that nobody named.
    config.id2label, config.problem_type = {0: "LABEL_0", 1: "LABEL_1"}, None
    config.label2id = {name: number for number, name in config.id2label.items()}
    if isinstance(config, TimmWrapperConfig):
        config.label_names = list(config.id2label.values())
        # What sentence-transformers asks a timm net's config for, and timm alone knows.
        wrapped: Any = classifier.timm_model
        config.num_features = wrapped.num_features
        config.num_classes = 0
        tensors = classifier.state_dict()
    else:
        tensors = classifier.base_model.state_dict()
        if not tensors or classifier.base_model is classifier:
            raise InputError(
                f"the model '{model}'", expected="a net with a body and a head", found=f"a {config.model_type} net",
                fix="another checkpoint: ViT, Swin, DINOv2, ConvNeXt, ResNet, timm/<name>",
            )  # fmt: skip
    net = AutoModel.from_config(config)
    with torch.no_grad():
        missing = [
            name for name in net.load_state_dict(tensors, strict=False).missing_keys if "pooler.dense" not in name
        ]
        for name, own in net.named_parameters():
            if "pooler.dense" in name:  # nobody asks it; the same file from every run
                own.zero_()
                own.requires_grad_(False)
    if missing:
        raise InputError(
            f"the model '{model}'", expected="a body that is a net of its own",
            found=f"{len(missing)} tensors that its classifier does not have ({missing[0]}, ...)",
            fix="another checkpoint: ViT, Swin, DINOv2, ConvNeXt, ResNet, timm/<name>",
        )  # fmt: skip
    return net, processor, False


def _loaded(folder: Path, model: str | Path) -> tuple[PreTrainedModel, list[str]]:
    try:
        with _quiet():
            net, info = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except Exception as error:  # each architecture raises something of its own
        raise InputError(
            f"the model '{model}'", expected="a net that transformers can load",
            found=f"{type(error).__name__}: {first_line(error)}", fix="save or download it again",
        ) from error  # fmt: skip
    return net, sorted(info["missing_keys"])


def _seeing(net: PreTrainedModel, processor: Any, both: bool) -> tuple[list[Any], int]:
    """The modules that make a vector of a picture, and its width; they are what a folder of them would load as."""
    kind = str(net.config.model_type)
    settings: dict[str, Any] = {}
    if not both:
        output = "last_hidden_state" if kind in (*_FIRST_TOKEN, *_MAPS) else "pooler_output"
        settings = {
            "modality_config": {"image": {"method": "forward", "method_output_name": output}},
            "module_output_name": "token_embeddings" if output == "last_hidden_state" else "sentence_embedding",
        }
    with tempfile.TemporaryDirectory() as place:
        if both:
            filled = kind in _FILLED
            longest = net.config.text_config.max_position_embeddings if filled else None
            how = {"padding": "max_length", "max_length": longest, "return_attention_mask": False}
            first = Transformer(str(net.config.name_or_path), processing_kwargs={"text": how} if filled else None)
        else:
            # Not net.save_pretrained, which of several processes writes in the first one only.
            net.config.save_pretrained(place)
            tensors = {name: value.contiguous().clone() for name, value in net.state_dict().items()}
            save_file(tensors, Path(place) / "model.safetensors", {"format": "pt"})
            if not isinstance(net.config, TimmWrapperConfig):  # its processor lies in config.json
                processor.save_pretrained(place)
            with _quiet():  # of a timm net's processor, which has one backend
                first = Transformer(place, **settings)
    first.model = net
    width = int(first.get_embedding_dimension())
    if settings.get("module_output_name") == "token_embeddings":
        return [first, Pooling(width, pooling_mode="cls" if kind in _FIRST_TOKEN else "mean")], width
    return [first], width


def _reading(
    text_model: str | Path, texts: Sequence[str], dimension: int, revision: str | None
) -> tuple[list[Any], int]:
    """The modules that make a vector of a text, and its width."""
    if str(text_model) == WORDS:
        return [_words(texts, dimension)], dimension
    folder = find(text_model, revision, ENCODER_FILES)
    if (folder / "modules.json").is_file():
        encoder = _saved(folder, text_model)
        if not takes_texts(encoder):
            raise InputError(
                f"--text_model {text_model}", expected="an encoder of texts", found="one of pictures",
                fix="--text_model words",
            )  # fmt: skip
        parts = [module for module in encoder.children() if not isinstance(module, Normalize)]
        return parts, int(encoder.get_embedding_dimension() or 0)
    if not (folder / "model.safetensors").is_file() and not list(folder.glob("model-*.safetensors")):
        raise InputError(
            f"the weights of the text model '{text_model}'", expected="model.safetensors", found="none in its folder",
            fix="another text model, or --text_model words",
        )  # fmt: skip
    if leads := _leads_out(folder):
        raise InputError(
            f"the text model '{text_model}'", expected="a net that is all in its folder", found=leads,
            fix="another text model, or --text_model words",
        )  # fmt: skip
    try:
        first = Transformer(
            str(folder), model_kwargs={"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False}
        )
    except Exception as error:  # each architecture, and each tokenizer
        raise InputError(
            f"the text model '{text_model}'", expected="a net of transformers with its tokenizer",
            found=f"{type(error).__name__}: {first_line(error)}", fix="another text model, or --text_model words",
        ) from error  # fmt: skip
    width = int(first.get_embedding_dimension())
    return [first, Pooling(width, pooling_mode="mean")], width


def _words(texts: Sequence[str], dimension: int) -> StaticEmbedding:
    """A mean of vectors of pieces of words, which are those that occur in the texts at least twice."""
    if not texts:
        raise InputError(
            f"--text_model {WORDS}", expected="texts of the training split, of which its words are taken",
            found="none", fix="--text_column NAME",
        )  # fmt: skip
    tokenizer = Tokenizer(token_models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, min_frequency=2, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return StaticEmbedding(tokenizer, embedding_dim=dimension)


def _layer(width: int, dimension: int) -> Dense:
    """A linear map without an offset, drawn from torch's global random state: seed first."""
    return Dense(width, dimension, bias=False, activation_function=torch.nn.Identity())


def _nothing_to_freeze(model: str | Path) -> InputError:
    return InputError(
        f"--freeze for the encoder '{model}'", expected="one that sees pictures", found="one of texts alone",
        fix="leave it out",
    )  # fmt: skip
