"""An export from beginning to end: the graph, the engine's file, and the gate that lets nothing else out."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

import hf_fashion
from hf_fashion import images, runtime
from hf_fashion.errors import InputError, extra, writing
from hf_fashion.exporting import graph, parity, sensitivity, shown
from hf_fashion.exporting.original import Original

REPORT = "parity.json"
LABELS = "labels.txt"  # a name a line, in the order of the scores: what apps with LiteRT read
# What engines run: of a format each precision that its parity tests pass with.
PRECISIONS = {"onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8"), "litert": ("fp32", "fp16", "int8")}
# Shares of the blocks that stay in float, the most sensitive ones, when all in int8 says too much else.
IN_FLOAT = (0.1, 0.25, 0.5, 0.75)
_TIMED = 16  # photos
_LOOKED_AT = 16  # photos whose pixels are held to the processor's


class Photos(NamedTuple):
    """What an export is made on.

    Args:
        measured: Rows with `image` that neither training nor calibration saw.
        truth: What is known of them.
        calibration: Rows of the training split, for int8.
        splits: `validation` or `test` for each measured row. Where there are both, int8 decides by those of
            validation which layers stay in float, and what is measured on those of test is reported by itself.
            Otherwise it decides by calibration's.
    """

    measured: Dataset
    truth: parity.Truth
    calibration: Dataset | None
    splits: Sequence[str] = ()

    def of(self, split: str) -> np.ndarray:
        """The places of the measured rows of one split, where there is another one, too, and these are enough."""
        places = np.flatnonzero(np.array(self.splits, dtype=object) == split)
        return places if parity.FEWEST <= len(places) < len(self.splits) else places[:0]


def refuse_pair(form: str, precision: str) -> None:
    """Raises InputError for a precision that a format, or this CPU, does not have; for packages that are missing."""
    if precision not in PRECISIONS[form]:
        others = [name for name, known in PRECISIONS.items() if precision in known]
        raise InputError(
            f"--format {form} --precision {precision}", expected=f"{form} with {' or '.join(PRECISIONS[form])}",
            found=f"{precision}, for which its engine has no kernels on a CPU",
            fix=f"--format {others[0]} --precision {precision}, or --precision {PRECISIONS[form][0]}",
        )  # fmt: skip
    if form == "litert":
        from hf_fashion.exporting import litert

        litert.refuse_missing()
    if form == "openvino":
        with extra("--format openvino", "openvino", "export"):
            import openvino
        able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in able:
            raise InputError(
                "--precision bf16", expected="a CPU that computes with bf16, to measure it on",
                found=f"one that has {', '.join(able)}", fix="--precision int8 or fp32; or another machine",
            )  # fmt: skip


def refuse_shapes(original: Original, form: str) -> None:
    """Raises InputError for LiteRT of a net that sees photos of many shapes, since its files have one; and of nets for
    which it is known to have no operators."""
    if form != "litert":
        return
    from hf_fashion.exporting import litert

    litert.refuse_net(original)
    if graph.keeps_proportions(original.shown.values):
        raise InputError(
            "--format litert", expected="a net that sees photos of one shape", found="one that keeps proportions",
            fix="--format onnx; or train with --resize squash, crop or pad",
        )  # fmt: skip


def refuse_few(photos: Photos, precision: str) -> None:
    """Raises InputError where there are not photos enough to measure, or calibrate, an export with."""
    if precision == "int8" and not _count(photos.calibration):
        raise InputError(
            "--precision int8", expected="photos of a training split, to measure ranges with", found="none",
            fix="--dataset with a train split, or --precision fp32",
        )  # fmt: skip
    if len(photos.measured) < parity.FEWEST:
        raise InputError(
            "the photos of validation and test", expected=f"{parity.FEWEST} or more, better some hundred",
            found=str(len(photos.measured)), fix="--dataset with more of them, or a higher --photos",
        )  # fmt: skip


def make(
    original: Original, folder: Path, photos: Photos, *, form: str, precision: str, least: float = 0.99,
    limits: images.Limits = images.LIMITS,
) -> dict[str, Any]:  # fmt: skip
    """Writes the model's file, runtime.json and parity.json, when the export says what the original says.

    Args:
        original: The model.
        folder: Where they go.
        photos: What it is measured and calibrated with.
        form: `onnx`, `openvino` or `litert`.
        precision: `fp32`, `fp16`, `bf16` or `int8`, see `PRECISIONS`.
        least: The share of equal answers that is enough.
        limits: See `images.decode`.

    Returns:
        The content of parity.json.

    Raises:
        InputError: It agrees in less, or nothing was there to agree on; parity.json is there, and no model.
    """
    refuse_pair(form, precision)
    refuse_shapes(original, form)
    refuse_few(photos, precision)
    first = next(parity.decoded(photos.measured.select(range(min(_LOOKED_AT, len(photos.measured)))), limits))
    differ = shown.refuse_differences(original.shown, original.processor, first)
    threads = torch.get_num_threads()
    tries: list[dict[str, Any]] = []
    taken: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
        writing(f"the export in {folder}", graph.ROOM),
    ):
        plain = Path(place) / ("float.tflite" if form == "litert" else "float.onnx")
        if form == "litert":
            from hf_fashion.exporting import litert

            batch: int | None = litert.write(original, plain)
        else:
            batch = graph.write(original, plain)
        about = {
            "version": runtime.VERSION, "made_by": f"hf_fashion {hf_fashion.__version__}", "format": form,
            "precision": precision, "kind": original.kind, "batch": batch, "input": original.shown.values,
            **original.about,
        }  # fmt: skip
        # What broke off leaves nothing that can be loaded: the file goes into the folder when it has passed.
        built = Path(place) / "built"
        built.mkdir()
        for where in (folder, built):
            _write_json(where / runtime.ABOUT, about)
        expected = parity.ask(original, photos.measured, limits)

        def found(rows: Dataset) -> parity.Answers:
            return parity.ask(runtime.load(built, threads=threads), rows, limits)

        if precision == "int8" and photos.calibration is not None:
            deciding = photos.of("validation")
            rows = photos.measured.select(deciding) if len(deciding) else photos.calibration
            known = expected.of(deciding) if len(deciding) else parity.ask(original, rows, limits)

            def attempt(path: Path) -> dict[str, Any]:
                convert(path, built, form, precision)
                return parity.compare(about, known, found(rows), parity.Truth())

            tries, taken = _in_int8(plain, about, photos.calibration, attempt, least, limits)
        else:
            convert(plain, built, form, precision)
        answers = found(photos.measured)
        best = parity.compare(about, expected, answers, photos.truth)
        test = photos.of("test")
        on_test = (
            parity.compare(about, expected.of(test), answers.of(test), photos.truth.of(test)) if len(test) else None
        )
        exported = runtime.load(built, threads=threads)
        timed = parity.times(
            {"original": lambda photo: original.answers([photo]), "exported": lambda photo: exported(photo)},
            first[:_TIMED], rounds=parity.ROUNDS,
        )  # fmt: skip
        report = {
            "format": form, "precision": precision, "least_agreement": least,
            "passed": best["n"] >= parity.FEWEST and parity.enough(best, least), **best,
            "splits": list(dict.fromkeys(photos.splits)),
            "test": on_test,
            "in_float": taken.get("in_float", []), "deciding_in_float": taken.get("deciding", 0),
            "tries": tries, "tried_on": "validation" if len(photos.of("validation")) else "training",
            "pixels": differ, "calibration_photos": 0 if precision != "int8" else _count(photos.calibration),
            "bytes": {"original": _weights(original), "exported": _size(built, form)},
            "times": timed, "threads": threads, "batch": "any" if batch is None else batch,
        }  # fmt: skip
        _write_json(folder / REPORT, report)
        if not report["passed"]:
            other = f"read {folder / REPORT}; another --precision"
            other += ", or more --calibration_photos" if precision == "int8" else ""
            enough = best["n"] >= parity.FEWEST
            raise InputError(
                f"--format {form} --precision {precision}",
                expected=f"the original's answers for {least:.0%} of the photos (--least_agreement {least:g})",
                found=parity.in_words(best) + (f"; the best of {len(tries)} tries" if len(tries) > 1 else ""),
                fix=f"{other}; or a lower --least_agreement" if enough
                else "photos in which the model finds something, or a model that is surer",
            )  # fmt: skip
        for name in reversed(_files(form)):  # what `runtime.load` looks for comes last
            beside = folder / f"{name}.unfinished"
            try:
                shutil.copyfile(built / name, beside)  # Windows does not move what an engine has open
                os.replace(beside, folder / name)
            finally:
                beside.unlink(missing_ok=True)
    if form == "litert" and "labels" in about:
        lines = [" ".join(label.split()) for label in about["labels"]]
        (folder / LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return report


def _in_int8(
    plain: Path, about: Mapping[str, Any], calibration: Dataset, attempt: Callable[[Path], dict[str, Any]],
    least: float, limits: images.Limits,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:  # fmt: skip
    """Tries all blocks in int8, then with more and more of the sensitive ones in float.

    Returns:
        The tries in their order, and the one that is left in the folder: the first that agrees, or else the one that
        agrees most.
    """
    pixels = [
        runtime.pixels(photo, about["input"])[None] for batch in parity.decoded(calibration, limits) for photo in batch
    ]
    detects = about["kind"] == "detection"
    quantizer: sensitivity.Quantizer
    if about["format"] == "litert":
        from hf_fashion.exporting import litert

        quantizer = litert.Quantizer(plain, pixels, detects=detects)
    else:
        from hf_fashion.exporting import quantization

        quantizer = quantization.Quantizer(plain, pixels, detects=detects)
    path = plain.with_stem("int8")
    tries: list[dict[str, Any]] = []

    def attempted(left: Sequence[str], moved: Mapping[str, float]) -> bool:
        sensitivity.write(quantizer, path, left)
        tries.append(
            _short(attempt(path))
            | {"in_float": list(left), "sensitivity": {name: moved[name] for name in left}}
            | {"deciding": quantizer.deciding}
        )
        print(f"int8 with {len(left)} of {len(quantizer.blocks)} blocks in float: {parity.in_words(tries[-1])}")
        return parity.enough(tries[-1], least)

    if attempted([], {}):
        return tries, tries[0]
    moved = sensitivity.sensitivity(quantizer, about)
    blocks = list(moved)
    ends = [next(iter(quantizer.blocks)), list(quantizer.blocks)[-1]]  # the first and the last layer cost little
    for share in IN_FLOAT:
        left = list(dict.fromkeys([*blocks[: math.ceil(share * len(blocks))], *ends]))
        if len(left) == len(blocks) or attempted(left, moved):
            break
    best = max(tries, key=lambda one: (parity.enough(one, least), one["agreement"]))
    if best is not tries[-1]:
        sensitivity.write(quantizer, path, best["in_float"])
        attempt(path)
    return tries, best


def convert(path: Path, folder: Path, form: str, precision: str) -> None:
    """Writes a float or int8 graph, of ONNX or LiteRT, as the file that an engine loads."""
    target = folder / runtime.FILES[form]
    if form == "litert" and precision == "fp16":
        from hf_fashion.exporting import litert

        litert.halved(path, target)
        return
    if form != "openvino":
        shutil.copyfile(path, target)
        return
    with extra("--format openvino", "openvino", "export"):
        import openvino
    model = openvino.convert_model(str(path))
    # Weights of half the size lose nothing that bf16 would keep: fp16 has three bits more.
    openvino.save_model(model, str(target), compress_to_fp16=precision == "bf16")


def _short(figures: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("agreement", "agreement_low", "agreement_high", "n", "of", "attributes", "lost", "not_finite",
            "drift_mean", "drift_max", "same_neighbour", "cosine_mean", "cosine_min")  # fmt: skip
    return {name: figures[name] for name in kept if name in figures}


def _count(rows: Dataset | None) -> int:
    return 0 if rows is None else len(rows)


def _size(folder: Path, form: str) -> int:
    return sum((folder / name).stat().st_size for name in _files(form))


def _files(form: str) -> list[str]:
    return [runtime.FILES[form], *(["openvino_model.bin"] if form == "openvino" else [])]


def _weights(original: Original) -> int:
    """Bytes of the weights in safetensors; of an encoder those of what sees photos alone cannot be told apart."""
    return sum(tensor.numel() * tensor.element_size() for tensor in original.net.state_dict().values())


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a report")


def thumbnail(rows: Dataset, limits: images.Limits = images.LIMITS) -> Image.Image:
    """The first photo, for the card's usage."""
    return next(parity.decoded(rows.select([0]), limits))[0]
