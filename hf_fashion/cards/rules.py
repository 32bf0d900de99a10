"""A card's metadata against the Hub's documented rules, without a network: what the Hub would refuse, and what it
would take and not understand.

An invalid README.md stops a whole push, weights included, and the Hub says so only then. Sources: the specifications
`modelcard.md`, `datasetcard.md` and `eval_results.yaml` of huggingface/hub-docs, the reference of the configuration of
Spaces, and the messages of the Hub's own check.
"""

import difflib
import math
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeGuard, get_args

from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id

from hf_fashion.cards.front_matter import Metadata, Place, text_of, told
from hf_fashion.cards.licenses import LICENSES, nearest
from hf_fashion.errors import InputError

RepoType = Literal["model", "dataset", "space"]
RELATIONS = ("finetune", "adapter", "merge", "quantized")
# Ids of tasks: models name one in `pipeline_tag`, datasets some in `task_categories`.
_TASKS = """
    any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
    document-question-answering feature-extraction fill-mask graph-ml image-classification image-feature-extraction
    image-segmentation image-text-to-image image-text-to-text image-text-to-video image-to-3d image-to-image
    image-to-text image-to-video keypoint-detection mask-generation multiple-choice object-detection other
    question-answering reinforcement-learning robotics sentence-similarity summarization table-question-answering
    table-to-text tabular-classification tabular-regression tabular-to-text text-classification text-generation
    text-ranking text-retrieval text-to-3d text-to-audio text-to-image text-to-speech text-to-video
    text2text-generation time-series-forecasting token-classification translation unconditional-image-generation
    video-classification video-text-to-text video-to-video visual-document-retrieval visual-question-answering
    voice-activity-detection zero-shot-classification zero-shot-image-classification zero-shot-object-detection
"""
TASKS = tuple(_TASKS.split())
SIZES = (
    "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B",
    "100B<n<1T", "n>1T",
)  # fmt: skip
SDKS = ("gradio", "streamlit", "docker", "static")
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SHORT = 60  # characters of a Space's short_description
HEADERS = ("cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy")
DATASET_TYPE = re.compile(r"(?:[\w-]+/)?[\w.-]+", re.ASCII)  # the Hub's own pattern for a model-index
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")
_PICTURE = re.compile(r"!\[[^\]\n]*\]\(([^)\s]+)\)")
_KEYS = {
    "model": "language license license_name license_link library_name pipeline_tag tags datasets metrics base_model "
    "base_model_relation new_version widget model-index co2_eq_emissions thumbnail inference extra_gated_prompt",
    "dataset": "language license license_name license_link pretty_name tags task_categories task_ids size_categories "
    "annotations_creators language_creators source_datasets multilinguality configs dataset_info viewer thumbnail "
    "extra_gated_prompt paperswithcode_id",
    "space": "title emoji colorFrom colorTo sdk sdk_version python_version app_file app_port base_path fullWidth "
    "header short_description models datasets tags license pinned thumbnail hf_oauth disable_embedding custom_headers "
    "suggested_hardware suggested_storage startup_duration_timeout preload_from_hub app_build_command",
}


def validate(card: str | Path, repo_type: RepoType = "model") -> list[str]:
    """Checks the metadata of a card as the Hub does before it takes a commit.

    Args:
        card: The text of a README.md, or its path; beside a path the pictures are looked for that the card shows.
        repo_type: What the card is of.

    Returns:
        What the Hub takes, but does not understand or show, in sentences.

    Raises:
        InputError: What the Hub refuses, all of it in one message: line, key, what is right, what to type.
    """
    if repo_type not in get_args(RepoType):
        raise InputError(
            f"repo_type {repo_type!r}", expected="one of: model, dataset, space", found=repr(repo_type),
            fix="repo_type='model'",
        )  # fmt: skip
    is_text = isinstance(card, str) and ("\n" in card or not Path(card).is_file())
    path = None if is_text else Path(card)
    metadata = Metadata(str(card) if path is None else text_of(path), "README.md" if path is None else str(path))
    _common(metadata, repo_type)
    {"model": _model, "dataset": _dataset, "space": _space}[repo_type](metadata)
    if path is not None:
        _pictures(metadata, path.parent)
    metadata.raise_on_errors()
    return metadata.warnings


def repo_id(value: Any) -> str | None:
    """Why a value cannot be the id of a repo on the Hub; None when it can."""
    try:
        validate_repo_id(value)
    except HFValidationError as error:
        return str(error).splitlines()[0]
    return None if DATASET_TYPE.fullmatch(value) else "other characters than letters, digits, '-', '_' and '.'"


def _common(metadata: Metadata, repo_type: str) -> None:
    known = _KEYS[repo_type].split()
    for key in metadata.values:
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.85)
        if key not in known and near and near[0] not in metadata.values:
            metadata.wrong((str(key),), "a key that the Hub reads", str(key), f"{near[0]}: ...", refused=False)
    for place, license_ in metadata.strings("license", "apache-2.0"):
        if license_ not in LICENSES:
            metadata.wrong(
                place, "an id of the Hub's list of licences", license_,
                f"license: {nearest(license_)}" if nearest(license_) else
                f"license: {(difflib.get_close_matches(license_.lower(), LICENSES, n=1) or ['other'])[0]}; "
                "or license: other, with license_name and license_link",
            )  # fmt: skip
    told_ = metadata.get("license")
    licenses = told_ if isinstance(told_, list) else [told_]
    name, link = metadata.string("license_name", example="my-license-1.0"), metadata.string("license_link")
    if "other" in licenses and not (name and link):
        metadata.wrong(
            ("license",), "license_name and license_link beside license: other", "other, without them",
            "license_name: my-license-1.0 and license_link: LICENSE (that file), or a URL", refused=False,
        )  # fmt: skip
    for place, language in metadata.strings("language", "en"):
        if not _LANGUAGE.fullmatch(language):
            short = language.lower().split("-")[0]
            metadata.wrong(
                place,
                "an ISO 639 code of two or three letters, code or multilingual",
                language,
                f"language: {short if _LANGUAGE.fullmatch(short) else 'en'}",
            )
    for key, example in (("tags", "fashion"), ("metrics", "accuracy")):
        list(metadata.strings(key, example))
    _ids(metadata, "base_model", "model")
    _ids(metadata, "datasets", "dataset")
    metadata.choice(("base_model_relation",), metadata.get("base_model_relation"), RELATIONS)
    metadata.string("thumbnail", example="https://...")


def _ids(metadata: Metadata, key: str, kind: str, lone: bool = True) -> None:
    for place, value in metadata.strings(key, f"user/{kind}", lone):
        reason = repo_id(value)
        if reason is not None:
            path = "a path of this machine" if Path(value).is_absolute() or value.startswith((".", "~")) else reason
            metadata.wrong(
                place, f"the id of a {kind} on the Hub", f"{value} ({path})",
                f"{key}: user/{kind}; or leave it out, when it is not on the Hub",
            )  # fmt: skip


def _model(metadata: Metadata) -> None:
    for key in ("library_name", "pipeline_tag"):
        metadata.string(key, example={"library_name": "transformers"}.get(key, "image-classification"))
    tag = metadata.get("pipeline_tag")
    metadata.choice(("pipeline_tag",), tag if isinstance(tag, str) else None, TASKS, refused=False)
    _ids(metadata, "new_version", "model")
    if metadata.get("base_model_relation") and not metadata.get("base_model"):
        metadata.wrong(
            ("base_model_relation",), "base_model beside it", "none", "base_model: user/model; or leave both out",
            refused=False,
        )  # fmt: skip
    co2 = metadata.get("co2_eq_emissions")
    grams = co2.get("emissions") if isinstance(co2, dict) else co2
    if co2 is not None and not (_is_number(grams) and grams >= 0):
        metadata.wrong(
            ("co2_eq_emissions",),
            "grams of CO2",
            told(grams),
            "co2_eq_emissions: {emissions: 12.5, source: codecarbon}",
        )
    _widget(metadata)
    _index(metadata)


def _widget(metadata: Metadata) -> None:
    for place, example in metadata.mappings("widget", example="src: widget/1.jpg"):
        source = example.get("src")
        if source is not None and (not isinstance(source, str) or not source.strip()):
            metadata.wrong((*place, "src"), "a path within the repo, or a URL", told(source), "src: widget/1.jpg")
        elif source is not None and "://" not in source and not _within(source):
            metadata.wrong((*place, "src"), "a path within the repo", source, "src: widget/1.jpg")
        output = example.get("output")
        if output is not None and not isinstance(output, (list, dict)):
            metadata.wrong(
                (*place, "output"), "a list of label and score", told(output), "- {label: dress, score: 0.9}"
            )
        for number, guess in enumerate(output if isinstance(output, list) else ()):
            if not isinstance(guess, dict):
                continue
            if "label" in guess and not isinstance(guess["label"], str):
                here = (*place, "output", number, "label")
                typed = metadata.raw.get(here, "...")
                metadata.wrong(here, "text", told(guess["label"]), f'in quotes: label: "{typed}"')
            score = guess.get("score")
            if score is not None and not (_is_number(score) and 0 <= score <= 1):
                metadata.wrong((*place, "output", number, "score"), "a number from 0 to 1", told(score), "score: 0.9")


def _index(metadata: Metadata) -> None:
    before = metadata.errors
    for place, model in metadata.mappings("model-index", example="name: my-model"):
        metadata.string(*place, "name", needed=True, example="my-model")
        if not isinstance(model.get("results"), list):
            metadata.wrong((*place, "results"), "a list", told(model.get("results")), "results: [...]")
        for at, result in metadata.mappings(*place, "results", example="task: {type: image-classification}"):
            for key, example in (("task", "image-classification"), ("dataset", "user/dataset")):
                metadata.string(*at, key, "type", needed=True, example=example)
            type_ = metadata.get(*at, "dataset", "type")
            if isinstance(type_, str) and type_.strip() and not DATASET_TYPE.fullmatch(type_):
                plain = re.sub(r"[^\w.-]+", "-", type_, flags=re.ASCII).strip("-") or "dataset"
                metadata.wrong(
                    (*at, "dataset", "type"), "an id: letters, digits, '-', '_', '.' and one '/' at most", type_,
                    f"type: {plain}; the readable name goes into dataset.name",
                )  # fmt: skip
            metadata.string(*at, "dataset", "name", needed=True, example="My photos")
            for key in ("config", "split", "revision"):
                metadata.string(*at, "dataset", key, example="test")
            if not isinstance(result.get("metrics"), list) or not result["metrics"]:
                metadata.wrong((*at, "metrics"), "a list of type and value", told(result.get("metrics")),
                               "metrics: [{type: accuracy, value: 0.9}]")  # fmt: skip
            for here, metric in metadata.mappings(*at, "metrics", example="{type: accuracy, value: 0.9}"):
                metadata.string(*here, "type", needed=True, example="accuracy")
                metadata.string(*here, "name", example="Accuracy")
                value = metric.get("value")
                if value is None or isinstance(value, float) and not math.isfinite(value):
                    metadata.wrong((*here, "value"), "a number", told(value), "leave this metric out")
    if metadata.get("model-index") and metadata.errors == before:
        try:
            model_index_to_eval_results(metadata.get("model-index"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            metadata.wrong(
                ("model-index",), "the shape that huggingface_hub reads", repr(error), "as its specification"
            )


def _dataset(metadata: Metadata) -> None:
    metadata.string("pretty_name", example="My photos")
    for place, value in metadata.strings("task_categories", "image-classification"):
        metadata.choice(place, value, TASKS, refused=False)
    for place, value in metadata.strings("size_categories", SIZES[0]):
        metadata.choice(place, value, SIZES)
    for key in ("task_ids", "annotations_creators", "language_creators", "source_datasets", "multilinguality"):
        list(metadata.strings(key))
    names: list[str] = []
    for place, config in metadata.mappings("configs", example="config_name: default"):
        name = metadata.string(*place, "config_name", needed=True, example="default")
        if name in names:
            metadata.wrong((*place, "config_name"), "each name once", str(name), "another name")
        names.append(str(name))
        files = config.get("data_files")
        for number, part in enumerate(files if isinstance(files, list) else ()):
            whole = isinstance(part, dict) and isinstance(part.get("split"), str) and part.get("path")
            if not (isinstance(part, str) or whole):
                metadata.wrong(
                    (*place, "data_files", number),
                    "split and path",
                    told(part),
                    "- {split: train, path: data/train-*}",
                )
        if files is not None and not isinstance(files, (str, list)):
            metadata.wrong((*place, "data_files"), "a path, or a list", told(files), "data_files: data/*.parquet")
    info = metadata.get("dataset_info")
    for number, part in enumerate(info if isinstance(info, list) else [info]):
        at: Place = ("dataset_info", number) if isinstance(info, list) else ("dataset_info",)
        if part is not None and not isinstance(part, dict):
            metadata.wrong(at, "features and splits", told(part), "leave it out; datasets writes it")
        for key in ("features", "splits"):
            list(metadata.mappings(*at, key, example="name: image"))


def _space(metadata: Metadata) -> None:
    sdk = metadata.string("sdk", needed=True, example="gradio")
    metadata.choice(("sdk",), sdk, SDKS)
    for key in ("title", "app_file", "app_build_command", "startup_duration_timeout", "suggested_hardware"):
        metadata.string(key)
    for key in ("colorFrom", "colorTo"):
        metadata.choice((key,), metadata.get(key), COLORS)
    emoji = metadata.string("emoji", example="👗")
    if emoji is not None and not _is_emoji(emoji):
        metadata.wrong(("emoji",), "an emoji and nothing else", emoji, "emoji: 👗")
    short = metadata.string("short_description")
    if short is not None and len(short) > SHORT:
        metadata.wrong(
            ("short_description",),
            f"{SHORT} characters at most",
            f"{len(short)}",
            f"cut {len(short) - SHORT} characters",
        )
    for key in ("python_version", "sdk_version"):
        value, typed = metadata.get(key), metadata.raw.get((key,), "")
        if value is not None and not isinstance(value, str):  # YAML reads 3.10 as 3.1
            metadata.wrong((key,), "a version in quotes", f"{typed}, read as the number {value}", f'{key}: "{typed}"')
    version = metadata.raw.get(("python_version",))
    if version and not re.fullmatch(r"3\.\d+(\.\d+)?", version):
        metadata.wrong(("python_version",), "3.x or 3.x.x", version, 'python_version: "3.12"')
    exact = metadata.raw.get(("sdk_version",))
    if sdk == "gradio" and not (exact and _VERSION.fullmatch(exact)):
        metadata.wrong(
            ("sdk_version",), "an exact version, so that the page stays as it was tried", exact or "none",
            "sdk_version: 6.31.0", refused=False,
        )  # fmt: skip
    if sdk == "gradio" and not version:
        metadata.wrong(
            ("python_version",), "the version that the page needs", "none, which means 3.10", 'python_version: "3.12"',
            refused=False,
        )  # fmt: skip
    app = metadata.get("app_file")
    if isinstance(app, str) and not _within(app):
        metadata.wrong(("app_file",), "a path within the repo", app, "app_file: app.py")
    port = metadata.get("app_port")
    if port is not None and not (isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536):
        metadata.wrong(("app_port",), "a port, 1 to 65535", told(port), "app_port: 7860")
    base = metadata.string("base_path", example="/")
    if base is not None and not base.startswith("/"):
        metadata.wrong(("base_path",), "a path from /", base, f"base_path: /{base}")
    metadata.flags("pinned", "fullWidth", "disable_embedding", "hf_oauth")
    metadata.choice(("header",), metadata.get("header"), ("default", "mini"))
    metadata.choice(("suggested_storage",), metadata.get("suggested_storage"), ("small", "medium", "large"))
    _ids(metadata, "models", "model", lone=False)
    headers = metadata.get("custom_headers")
    if headers is not None and not isinstance(headers, dict):
        metadata.wrong(("custom_headers",), "keys and values", told(headers), "leave it out")
    for name in headers if isinstance(headers, dict) else ():
        metadata.choice(("custom_headers", str(name)), name, HEADERS)


def _pictures(metadata: Metadata, folder: Path) -> None:
    """Warns of files that the card names and that do not lie beside it."""
    named: list[tuple[Place, Any]] = [((), source) for source in _PICTURE.findall(metadata.body)]
    widget = metadata.get("widget")
    for number, example in enumerate(widget if isinstance(widget, list) else ()):
        named.append((("widget", number, "src"), example.get("src") if isinstance(example, dict) else None))
    named.append((("app_file",), metadata.get("app_file")))
    for place, source in named:
        if isinstance(source, str) and "://" not in source and _within(source) and not (folder / source).is_file():
            metadata.wrong(
                place,
                "a file beside the card",
                f"{source} is not there",
                "put it there, or leave it out",
                refused=False,
            )


def _within(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and ":" not in path


def _is_emoji(text: str) -> bool:
    kinds = [unicodedata.category(character) for character in text]
    return "So" in kinds and set(kinds) <= {"So", "Sk", "Mn", "Me", "Cf"} and not any(map(str.isspace, text))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
