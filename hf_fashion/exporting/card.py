"""The card of an export: what it came from, how near it is to that, how it is used."""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import ModelCard, ModelCardData

from hf_fashion import record
from hf_fashion.cards import validate
from hf_fashion.cards.licenses import UNKNOWN
from hf_fashion.cards.metadata import dataset_name, hub_dataset, one_line
from hf_fashion.cards.rules import repo_id
from hf_fashion.cards.writing import without_folders
from hf_fashion.exporting.original import TASKS

# As models on the Hub are tagged: those for LiteRT by its older name.
_LIBRARY = {"onnx": "onnx", "openvino": "openvino", "litert": "tflite"}
_ENGINE = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT (TensorFlow Lite)"}
_PACKAGE = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}
_BITS = {
    "fp32": "32-bit floats", "fp16": "32-bit floats, with weights in 16 bits", "bf16": "bf16", "int8": "int8"
}  # fmt: skip
_GIVEN = {
    "scores": "(floats from 0 to 1)", "boxes": "(corners x0, y0, x1, y1 as shares of width and height)",
    "vectors": "(floats, of length 1)",
}  # fmt: skip
_FIGURES = {"accuracy": "accuracy", "map": "mAP", "map_50": "mAP at IoU 0.50", "recall_at_1": "recall at 1"}


def write(
    run: record.Run, about: Mapping[str, Any], report: Mapping[str, Any], usage: Mapping[str, str],
    base_model: str | None = None,
) -> ModelCard:  # fmt: skip
    """Writes README.md into the folder of an export.

    Args:
        run: Its record.
        about: runtime.json.
        report: parity.json.
        usage: `code`, what it printed (`output`), and the `folder` that it names.
        base_model: Id of the original on the Hub; None for what is known of it.
    """
    base, dataset = run.info["base_model"], run.info["dataset"]
    origin = base_model or base.get("base_model")
    origin = origin if origin is not None and repo_id(origin) is None else None
    task = TASKS[about["kind"]]
    metadata = ModelCardData(
        license=base.get("license") or UNKNOWN, library_name=_LIBRARY[about["format"]], pipeline_tag=task,
        tags=["hf_fashion", "fashion", about["format"], about["precision"], task],
        base_model=origin, base_model_relation="quantized" if origin else None,
        datasets=[dataset["source"]] if hub_dataset(dataset) else None,
    )  # fmt: skip
    folder = Path(__file__).parents[1] / "templates"
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), keep_trailing_newline=True).get_template(
        "export.md"
    )
    code = [usage["code"], usage["output"]]
    test = report["test"] or {}
    told = [
        {"name": name + of, "original": figures[f"original/{key}"], "exported": figures[f"exported/{key}"]}
        for key, name in _FIGURES.items()
        for of, figures in (("", report), (f", the {test.get('photos')} of test alone", test))
        if figures.get(f"original/{key}") is not None
    ]
    card = ModelCard(
        template.render(
            card_data=metadata.to_yaml(),
            md=_markdown,
            about=about,
            report=report,
            usage=usage,
            figures=told,
            sides=about["input"]["crop"] or about["input"]["pad"] or about["input"]["size"],
            outputs=" and ".join(f"`{name}` {_GIVEN[name]}" for name in about["outputs"]),
            name=base["name"],
            origin=origin or base["id"],
            dataset=dataset_name(dataset),
            engine=_ENGINE[about["format"]],
            bits=_BITS[about["precision"]],
            package=_PACKAGE[about["format"]],
            megabytes={name: value / 1e6 for name, value in report["bytes"].items()},
            faster=report["times"]["original"]["cpu_ms"] / max(report["times"]["exported"]["cpu_ms"], 1e-9),
            command=without_folders(run.info["command"]),
            device=run.info["device"],
            versions=run.info["versions"],
            fence="`" * max([3, *(len(ticks) + 1 for text in code for ticks in re.findall("`+", text))]),
        )  # fmt: skip
    )
    card.save(run.folder / "README.md")
    validate(run.folder / "README.md")
    return card


def _markdown(text: Any) -> str:
    """Somebody's text in a sentence or a table: as text, never as markup."""
    escaped = html.escape(str(one_line(str(text))), quote=False).replace("\\", "&#92;")
    return re.sub(r"([`*_\[\]|~$])", r"\\\1", escaped).replace("://", "&#58;//").replace("@", "&#64;")
