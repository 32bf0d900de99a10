"""An exported model against the library that the original is asked with: photo by photo, in batches, and cold.

    OMP_NUM_THREADS=1 python benchmarks/export.py --dataset clothing:FOLDER --model runs/classify-1
    OMP_NUM_THREADS=1 python benchmarks/export.py --model runs/detector --dataset street --pairs onnx:fp32

The peer is `pipeline` (of an encoder, `SentenceTransformer`) in 32-bit floats; ours is `hf_fashion.runtime` with a
folder of `hf-fashion export`. Both get decoded photos and give labels, boxes or vectors, one thread each, in
turns, five rounds; CPU time a photo. Cold: a fresh process with one photo, its whole CPU time, and the most memory
that it held (Linux). The gate is that of the
export: it agrees with the original on photos of validation and test, or the ratio is void; so with a trained model.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lines
import torch
from transformers import pipeline

from hf_fashion import backbones, exporting, runtime
from hf_fashion.errors import InputError
from hf_fashion.exporting import parity
from hf_fashion.recipes import export as recipe

ROUNDS = 5
PAIRS = [f"{form}:{precision}" for form, several in exporting.PRECISIONS.items() for precision in several]
PIPELINE = "from transformers import pipeline\npipeline"
COLD = {
    "classification": PIPELINE + '("image-classification", model={model!r})({photo!r})',
    "detection": PIPELINE + '("object-detection", model={model!r})({photo!r})',
    "retrieval": "from PIL import Image\nfrom sentence_transformers import SentenceTransformer\n"
    "SentenceTransformer({model!r}).encode([Image.open({photo!r})])",
}
OURS = "from hf_fashion import runtime\nruntime.load({model!r}, threads=1)({photo!r})"


def peer_of(kind: str, model: str) -> tuple[str, Callable[[list[Any], int], Any]]:
    """What the original is asked with, and its name."""
    if kind == "retrieval":
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(model)
        return "SentenceTransformer", lambda photos, size: encoder.encode(
            photos, batch_size=size, show_progress_bar=False
        )
    task = {"detection": "object-detection"}.get(kind, "image-classification")
    asked: Any = pipeline(task, model=model, device="cpu")
    return f"pipeline({task})", lambda photos, size: list(asked(photos, batch_size=size))


def cpu_ms(call: Callable[[], Any], photos: int) -> float:
    started = time.process_time()
    call()
    return 1000 * (time.process_time() - started) / photos


def in_turns(*sides: Callable[[], Any]) -> list[list[Any]]:
    """What each side takes in each round; the first round warms up."""
    took: list[list[Any]] = [[] for _ in sides]
    for number in range(ROUNDS + 1):
        for place in range(len(sides))[:: 1 if number % 2 else -1]:
            spent = sides[place]()
            if number:
                took[place].append(spent)
    return took


def cold(code: str) -> tuple[float, float]:
    """CPU seconds of a whole process, and the most MB that it held."""
    code += "\nprint(next(row for row in open('/proc/self/status') if row.startswith('VmHWM')))"
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    after = os.times()
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    return taken, int(done.stdout.split()[-2]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="A trained model; default: the net that ships here, as an encoder.")
    parser.add_argument("--dataset", default="sample", help="Photos like those that it was trained on.")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=PAIRS)
    parser.add_argument("--photos", type=int, default=32, help="That are timed in each round.")
    parser.add_argument("--export_settings", nargs=argparse.REMAINDER, default=[], help="More, for hf-fashion export.")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    made: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        model = args.model
        if model is None:
            model = str(Path(place) / "sample")
            backbones.load_encoder("sample").save_pretrained(model)
        original = exporting.load(model)
        name, peer = peer_of(original.kind, model)
        for pair in args.pairs:
            form, precision = pair.split(":")
            folder = str(Path(place) / pair.replace(":", "-"))
            argv = [model, "--dataset", args.dataset, "-o", folder, "--format", form, "--precision", precision]
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    told = recipe.main([*argv, *args.export_settings])
            except InputError as error:
                print(f"{pair}: no export: {error.found}", file=sys.stderr)
                continue
            gate = f"{told['agreement']:.3f} ({told['agreement_low']:.3f} to {told['agreement_high']:.3f})"
            gate += f" of {told['n']} agree"
            read = recipe.Arguments(model=model, dataset=args.dataset, output_dir=f"{folder}-none", photos=args.photos)
            rows, _ = recipe.measured(read, original, recipe.read(read, original.kind)[0])
            photos = [photo for batch in parity.decoded(rows) for photo in batch]
            ours = runtime.load(folder, threads=1)
            for size in (1, 8):
                calls = (partial(peer, photos, size), partial(ours, photos, batch_size=size))
                took = in_turns(*(partial(cpu_ms, call, len(photos)) for call in calls))
                what = f"{original.kind}, {form} {precision}, batch {size}"
                made.append(lines.line(what, *took, unit="CPU ms", gate=gate, passed=told["passed"], against=name))
            photo = str(Path(place) / "photo.jpg")
            photos[0].save(photo, quality=95)
            theirs = COLD[{"attributes": "classification"}.get(original.kind, original.kind)]
            codes = (theirs.format(model=model, photo=photo), OURS.format(model=folder, photo=photo))
            took = in_turns(*(partial(cold, code) for code in codes))
            what = f"{original.kind}, {form} {precision}, first photo of a process"
            for number, unit in enumerate(("CPU s", "MB held")):
                of = ([one[number] for one in side] for side in took)
                made.append(lines.line(what, *of, unit=unit, gate=gate, passed=told["passed"], against=name))
            for one in made[-4:]:
                print(
                    f"{one['line']}: {one['peer']:.3g} {one['unit']} ({one['against']}), {one['ours']:.3g}; "
                    f"{one['ratio']:.1f}x ({one['least']:.1f} to {one['most']:.1f}); {one['gate']}", flush=True,
                )  # fmt: skip
    if args.json:
        lines.write(args.json, made)


if __name__ == "__main__":
    main()
