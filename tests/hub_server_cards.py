"""What the double reads in a card: the metadata's rules, and the tags that the Hub derives from it.

The rules are those that the Hub documents (licence ids, model-index, Space settings) and words its errors in;
its own code is not public, so a card that passes here may still meet a rule that nobody wrote down.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import yaml

_LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma unknown other
"""
_TASKS = """
any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
document-question-answering visual-document-retrieval feature-extraction fill-mask image-classification
image-feature-extraction image-segmentation image-text-to-image image-text-to-text image-text-to-video
image-to-3d image-to-image image-to-text image-to-video keypoint-detection mask-generation multiple-choice
object-detection other question-answering reinforcement-learning robotics sentence-similarity summarization
table-question-answering table-to-text tabular-classification tabular-regression tabular-to-text
text-classification text-generation text-ranking text-retrieval text-to-3d text-to-audio text-to-image
text-to-speech text-to-video time-series-forecasting token-classification translation
unconditional-image-generation video-classification video-text-to-text video-to-video visual-question-answering
voice-activity-detection zero-shot-classification zero-shot-image-classification zero-shot-object-detection
"""
_SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T"
LICENSES, TASKS, SIZES = _LICENSES.split(), _TASKS.split(), _SIZES.split()
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
RELATIONS = ("finetune", "quantized", "adapter", "merge")
_REPO = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)


def read(content: str) -> Any:
    """The metadata of a card, {} without any.

    Raises:
        yaml.YAMLError: It is no YAML.
    """
    front = _FRONT.match(content)
    return (yaml.safe_load(front[1]) or {}) if front else {}


class _Check:
    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def string(self, value: Any, where: str, required: bool = False) -> None:
        if value is None and required:
            self.errors.append(f'"{where}" is required')
        elif value is not None and not isinstance(value, str):
            self.errors.append(f'"{where}" must be a string')

    def array(self, value: Any, where: str) -> list:
        if value is None or isinstance(value, list):
            return value or []
        self.errors.append(f'"{where}" must be an array')
        return []

    def strings(self, card: dict, key: str, or_one: bool = True) -> list[str]:
        value = card.get(key)
        if or_one and isinstance(value, str):
            return [value]
        found = self.array(value, key)
        for i, item in enumerate(found):
            self.string(item, f"{key}[{i}]", required=True)
        return [item for item in found if isinstance(item, str)]

    def one_of(self, value: Any, where: str, allowed: Any) -> None:
        if value is not None and value not in allowed:
            self.errors.append(f'"{where}" must be one of [{", ".join(map(str, allowed))}]')

    def repos(self, card: dict, key: str, kind: str) -> None:
        for i, value in enumerate(self.strings(card, key)):
            if not _REPO.match(value):
                where = key if isinstance(card[key], str) else f"{key}[{i}]"
                message = f'"{where}" with value "{value}" is not valid. Use a {kind} id from https://hf.co/{kind}s.'
                (self.errors if key == "base_model" else self.warnings).append(message)

    def model_index(self, index: Any) -> None:
        for i, model in enumerate(self.array(index, "model-index")):
            at = f"model-index[{i}]"
            if not isinstance(model, dict):
                self.errors.append(f'"{at}" must be of type object')
                continue
            self.string(model.get("name"), f"{at}.name", required=True)
            if model.get("results") is None:
                self.errors.append(f'"{at}.results" is required')
            for j, result in enumerate(self.array(model.get("results"), f"{at}.results")):
                self._result(result if isinstance(result, dict) else {}, f"{at}.results[{j}]")

    def _result(self, result: dict, at: str) -> None:
        for part, required in (("task", ("type",)), ("dataset", ("type", "name"))):
            value = result.get(part)
            if not isinstance(value, dict):
                self.errors.append(f'"{at}.{part}" {"is required" if value is None else "must be of type object"}')
                continue
            for key in (*required, "name", *(("config", "split", "revision") if part == "dataset" else ())):
                self.string(value.get(key), f"{at}.{part}.{key}", required=key in required)
        if result.get("metrics") is None:
            self.errors.append(f'"{at}.metrics" is required')
        for k, metric in enumerate(self.array(result.get("metrics"), f"{at}.metrics")):
            where, metric = f"{at}.metrics[{k}]", metric if isinstance(metric, dict) else {}
            self.string(metric.get("type"), f"{where}.type", required=True)
            self.string(metric.get("name"), f"{where}.name")
            value = metric.get("value")
            if value is None:
                self.errors.append(f'"{where}.value" is required')
            elif isinstance(value, float) and value != value:
                self.errors.append(f'"{where}.value" must not be NaN')


def validate(content: str, kind: str) -> tuple[list[str], list[str]]:
    """Errors and warnings, in the Hub's words.

    Args:
        content: A whole README.md.
        kind: model, dataset or space.
    """
    check = _Check()
    try:
        card = read(content)
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {str(error).splitlines()[0]}"], []
    if not isinstance(card, dict):
        return ["The metadata must be an object"], []
    if not card:
        return [], ["empty or missing yaml metadata in repo card"]
    licences = check.strings(card, "license")
    for value in licences:
        check.one_of(value, "license", LICENSES)
    if "other" in licences and not card.get("license_name"):
        check.warnings.append('"license_name" is recommended when "license" is "other"')
    check.string(card.get("license_name"), "license_name")
    for key in ("tags", "metrics"):
        check.strings(card, key)
    for value in check.strings(card, "language"):
        if not re.fullmatch(r"[a-z]{2,3}|code|multilingual", value):
            check.errors.append(f'"language" with value "{value}" is not valid. It must be an ISO 639 code')
    check.repos(card, "datasets", "dataset")
    check.repos(card, "base_model", "model")
    check.one_of(card.get("base_model_relation"), "base_model_relation", RELATIONS)
    check.string(card.get("thumbnail"), "thumbnail")
    if kind == "model":
        check.string(card.get("library_name"), "library_name")
        check.string(card.get("pipeline_tag"), "pipeline_tag")
        if isinstance(card.get("pipeline_tag"), str) and card["pipeline_tag"] not in TASKS:
            check.warnings.append(f'The pipeline tag "{card["pipeline_tag"]}" is not in the official list')
        for i, item in enumerate(check.array(card.get("widget"), "widget")):
            if not isinstance(item, dict):
                check.errors.append(f'"widget[{i}]" must be of type object')
        check.model_index(card.get("model-index"))
    elif kind == "dataset":
        for value in check.strings(card, "task_categories"):
            if value not in TASKS:
                check.warnings.append(f'The task_categories "{value}" is not in the official list')
        for value in check.strings(card, "size_categories"):
            check.one_of(value, "size_categories", SIZES)
        for i, item in enumerate(check.array(card.get("configs"), "configs")):
            check.string(
                (item if isinstance(item, dict) else {}).get("config_name"), f"configs[{i}].config_name", True
            )
    else:
        _space(card, check)
    return check.errors, check.warnings


def _space(card: dict, check: _Check) -> None:
    check.string(card.get("title"), "title")
    if card.get("sdk") is None:
        check.errors.append('"sdk" is required')
    check.one_of(card.get("sdk"), "sdk", ("gradio", "docker", "static", "streamlit"))
    for key in ("colorFrom", "colorTo"):
        check.one_of(card.get(key), key, COLOURS)
    emoji = card.get("emoji")
    if emoji is not None and (not isinstance(emoji, str) or re.search(r"[\w\s]", emoji) or not emoji):
        check.errors.append('"emoji" must be an emoji')
    for key in ("sdk_version", "python_version"):
        check.string(card.get(key), key)
        if isinstance(card.get(key), str) and not re.fullmatch(r"\d+(\.\d+){1,2}\w*", card[key]):
            check.errors.append(f'"{key}" must be a version')
    if len(str(card.get("short_description") or "")) > 60:
        check.errors.append('"short_description" length must be less than or equal to 60 characters long')
    check.strings(card, "models", or_one=False)


def describe(files: dict[str, bytes], kind: str) -> dict:
    """What the Hub says of a repository because of its files: tags, pipeline_tag, library_name, config, ..."""
    try:
        card = read(files.get("README.md", b"").decode())
    except (yaml.YAMLError, UnicodeDecodeError):
        card = {}
    card = card if isinstance(card, dict) else {}
    each = lambda key: [card[key]] if isinstance(card.get(key), str) else list(card.get(key) or [])  # noqa: E731
    tags = list(each("tags"))
    found: dict[str, Any] = {"cardData": card or None}
    if kind == "model":
        config = _json(files.get("config.json"))
        library = card.get("library_name") or ("transformers" if config.get("model_type") else None)
        task = card.get("pipeline_tag")
        if task is None and any("ImageClassification" in name for name in config.get("architectures") or []):
            task = "image-classification"
        for name in ("safetensors", library, config.get("model_type"), task):
            held = any(path.endswith(".safetensors") for path in files) if name == "safetensors" else name
            if held and name not in tags:
                tags.append(name)
        for base in each("base_model"):
            tags += [f"base_model:{base}", f"base_model:{card.get('base_model_relation', 'finetune')}:{base}"]
        tags += [f"dataset:{name}" for name in each("datasets")]
        found |= {"pipeline_tag": task, "library_name": library}
        found["config"] = {key: config[key] for key in ("architectures", "model_type") if key in config}
        found["model-index"] = card.get("model-index")
        if "model.safetensors" in files:
            found["safetensors"] = _parameters(files["model.safetensors"])
    elif kind == "dataset":
        for key in ("task_categories", "size_categories"):
            tags += [f"{key}:{name}" for name in each(key)]
    tags += [f"license:{name}" for name in each("license")] + ["region:us"]
    return found | {"tags": tags}


def _json(data: bytes | None) -> dict:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _parameters(data: bytes) -> dict | None:
    if len(data) < 8:
        return None
    header = _json(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    counts: dict[str, int] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for length in tensor["shape"]:
                size *= length
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + size
    return {"parameters": counts, "total": sum(counts.values())}
