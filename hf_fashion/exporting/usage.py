"""The lines with which anybody asks an exported model, without hf_fashion; they are run before a card shows them."""

import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image

from hf_fashion import runtime
from hf_fashion.errors import InputError

# What must not be needed.
_BLOCKED = ("torch", "transformers", "datasets", "timm", "sentence_transformers", "hf_fashion")


def usage(about: dict[str, Any], folder: str, photo: str) -> str:
    """Python that needs numpy, Pillow and the engine.

    Args:
        about: runtime.json.
        folder: Of the export, as the code names it.
        photo: A file.
    """
    engine = {"onnx": "import onnxruntime", "openvino": "import openvino",
              "litert": "from ai_edge_litert.interpreter import Interpreter"}[about["format"]]  # fmt: skip
    needs_json = about["kind"] != "retrieval"
    path = json.dumps(f"{folder}/{runtime.FILES[about['format']]}")
    lines = ["import json", ""] if needs_json else []
    lines += ["import numpy as np", engine, "from PIL import Image, ImageOps", ""]
    # White behind a transparent garment, as `images.decode` has it: `convert("RGB")` by itself makes it black.
    lines += [f'photo = ImageOps.exif_transpose(Image.open({json.dumps(photo)})).convert("RGBA")']
    lines += ['photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")']
    lines += ["width, height = photo.size"] if about["kind"] == "detection" else []
    lines += _resized(about["input"])
    if about["format"] == "openvino":
        hint = runtime.HINTS[about["precision"]]
        lines += [f'model = openvino.Core().compile_model({path}, "CPU", {{"INFERENCE_PRECISION_HINT": "{hint}"}})',
                  "answer = model([np.asarray(photo)[None]])"]  # fmt: skip
        told = [f'answer["{name}"][0]' for name in about["outputs"]]
    elif about["format"] == "litert":
        lines += [f"model = Interpreter({path}).get_signature_runner()",
                  "answer = model(pixels=np.asarray(photo)[None])"]  # fmt: skip
        told = [f'answer["{name}"][0]' for name in about["outputs"]]
    else:
        lines += [f'model = onnxruntime.InferenceSession({path}, providers=["CPUExecutionProvider"])',
                  'answer = model.run(None, {"pixels": np.asarray(photo)[None]})']  # fmt: skip
        told = [f"answer[{place}][0]" for place in range(len(about["outputs"]))]
    lines += [f"{', '.join(about['outputs']) if len(told) > 1 else about['outputs'][0]} = {', '.join(told)}"]
    if needs_json:
        lines += [f'about = json.load(open({json.dumps(folder + "/" + runtime.ABOUT)}, encoding="utf-8"))']
    return "\n".join([*lines, *textwrap.dedent(_ANSWERS[_which(about)]).strip().splitlines()])


def _which(about: dict[str, Any]) -> str:
    return "boxes" if about["kind"] == "detection" and not about["queries_at_most"] else about["kind"]


def _resized(shown: dict[str, Any]) -> list[str]:
    how = f"Image.Resampling.{shown['resample'].upper()}"
    if shown["resize"] == "squash":
        lines = [f"photo = photo.resize(({shown['size'][1]}, {shown['size'][0]}), {how})"]
    elif shown["resize"] == "longest":
        whole = "round" if shown["rounding"] == "nearest" else "int"
        lines = [f"scale = min({shown['size'][1]} / photo.width, {shown['size'][0]} / photo.height)",
                 f"photo = photo.resize([{whole}(side * scale) for side in photo.size], {how})"]  # fmt: skip
    elif shown["limit"]:
        lines = [f"side = min({shown['size']}, {shown['limit']} * min(photo.size) / max(photo.size))",
                 "long = int(side * max(photo.size) / min(photo.size))",
                 "size = (round(side), long) if photo.width <= photo.height else (long, round(side))",
                 *([f"size = [side - side % {shown['multiple']} for side in size]"] if shown["multiple"] else []),
                 f"photo = photo.resize(size, {how})"]  # fmt: skip
    else:
        lines = ["short = min(photo.size)"]
        lines += [f"photo = photo.resize([int({shown['size']} * side / short) for side in photo.size], {how})"]
    if not shown["filter"]:  # see `runtime._between`
        size = lines.pop().removeprefix("photo = photo.resize(").removesuffix(f", {how})")
        lines += [f"size, photo = {size}, np.asarray(photo, dtype=np.float32)",
                  "for axis, last in enumerate(np.array(photo.shape[:2]) - 1):",
                  "    at = np.clip((np.arange(size[1 - axis]) + 0.5) * (last + 1) / size[1 - axis] - 0.5, 0, last)",
                  "    low, share = at.astype(int), np.expand_dims(at % 1, (1 - axis, 2))",
                  "    after = photo.take(np.minimum(low + 1, last), axis)",
                  "    photo = photo.take(low, axis) * (1 - share) + after * share",
                  "photo = Image.fromarray(photo.round().astype(np.uint8))"]  # fmt: skip
    if shown["crop"]:
        height, width = shown["crop"]
        whole = "round" if shown["crop_rounding"] == "nearest" else "int"
        lines += [f"left, top = {whole}((photo.width - {width}) / 2), {whole}((photo.height - {height}) / 2)",
                  f"photo = photo.crop((left, top, left + {width}, top + {height}))"]  # fmt: skip
    if shown["pad"]:
        height, width = shown["pad"]
        place = "(0, 0)"
        if shown["pad_place"] == "center":
            place = f"(({width} - photo.width) // 2, ({height} - photo.height) // 2)"
        lines += [f'canvas = Image.new("RGB", ({width}, {height}), {tuple(shown["pad_color"])})',
                  f"canvas.paste(photo, {place})", "photo = canvas"]  # fmt: skip
    return lines


_ANSWERS = {
    "classification": """
        for place in np.argsort(-scores)[:3]:
            print(f"{scores[place]:.3f}  {about['labels'][place]}")
    """,
    "attributes": """
        scores = dict(zip(about["labels"], scores.tolist()))
        for name, group in about["groups"].items():
            if group["many"]:
                print([label for label in group["labels"] if scores[label] >= about["thresholds"][label]])
            else:
                print(max(group["labels"], key=scores.get))
    """,
    "detection": """
        for best in np.argsort(-scores, axis=None)[: about["queries_at_most"]]:
            box, label = divmod(int(best), scores.shape[1])
            if scores[box, label] > about["score_threshold"]:
                corners = boxes[box] * [width, height, width, height]
                print(f"{scores[box, label]:.3f}  {about['labels'][label]}  {corners.round().astype(int).tolist()}")
    """,
    "boxes": """
        for box in np.argsort(-scores.max(axis=1)):
            label = int(scores[box].argmax())
            if scores[box, label] > about["score_threshold"]:
                corners = boxes[box] * [width, height, width, height]
                print(f"{scores[box, label]:.3f}  {about['labels'][label]}  {corners.round().astype(int).tolist()}")
    """,
    "retrieval": """
        print("a vector of", vectors.shape[0], "numbers, of length", round(float((vectors**2).sum() ** 0.5), 3))
    """,
}


def run(code: str, folder: Path, name: str, photo: Image.Image) -> str:
    """Runs the code in a process of its own, which has neither torch nor hf_fashion; gives what it prints.

    Args:
        code: Of `usage`.
        folder: The export.
        name: As the code names it.
        photo: Becomes photo.jpg.

    Raises:
        InputError: It fails.
    """
    block = f"import sys\nsys.modules.update(dict.fromkeys({_BLOCKED!r}))\n"
    with tempfile.TemporaryDirectory() as place:
        here = Path(place) / name
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(folder.resolve(), target_is_directory=True)
        photo.save(Path(place) / "photo.jpg", quality=95)
        done = subprocess.run(
            [sys.executable, "-c", block + code], cwd=place, capture_output=True, text=True, timeout=300
        )
    if done.returncode:
        raise InputError(
            "the code for the card", expected="code that runs", found=done.stderr.strip()[-500:],
            fix="report this, with the command",
        )  # fmt: skip
    return done.stdout.strip()
