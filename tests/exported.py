"""Exports of tiny nets for the tests of what answers with them, made once a run of the tests."""

import contextlib
import io
import os
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from tiny import photos, tiny
from tiny_detectors import boxed_folder, tiny_detector

from hf_fashion import backbones
from hf_fashion.recipes import export as recipe


def spread(source: Path, by: float = 20) -> None:
    """Random weights say nearly the same of every photo: with a larger head a checkpoint's answers differ."""
    path = source / "model.safetensors"
    tensors, drawn = load_file(path), torch.Generator().manual_seed(3)
    for name, tensor in tensors.items():
        if name.startswith("classifier"):
            tensors[name] = torch.randn(tensor.shape, generator=drawn) * (by if tensor.ndim > 1 else 0.1)
    save_file(tensors, path, {"format": "pt"})


def sharpened(source: Path) -> None:
    """Random detectors find all places alike; with larger weights some are better than others."""
    path = source / "model.safetensors"
    tensors, drawn = load_file(path), torch.Generator().manual_seed(5)
    for name, tensor in tensors.items():
        if tensor.ndim >= 2:
            many = 2.0 if any(part in name for part in ("score_head", "class_embed", "class_labels")) else 1.0
            tensors[name] = torch.randn(tensor.shape, generator=drawn) * many / tensor[0].numel() ** 0.5
    save_file(tensors, path, {"format": "pt"})


def made(tmp_path_factory) -> dict[str, Path]:
    """`make`, once in a run of the tests, whichever of its workers asks first."""
    root = tmp_path_factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "exported"
    with FileLock(f"{root}.lock"):
        if not (root / "done").exists():
            root.mkdir()
            make(root)
            (root / "done").touch()
    return {path.name: path for path in root.iterdir() if path.is_dir()}


def make(root: Path) -> dict[str, Path]:
    """Kind -> the folder of a trained net (`vit`, `attributes`, `encoder`, `detector`), `<kind>-export` -> its export;
    and `photos` (folders of labels) and `boxed` (COCO)."""
    torch.manual_seed(0)
    places = {name: root / name for name in ("vit", "attributes", "encoder", "detector", "photos", "boxed")}
    photos(places["photos"], classes=("old 0", "old 1", "old 2"), train=4, validation=2, test=7)
    boxed_folder(places["boxed"])
    tiny("vit", places["vit"])
    spread(places["vit"])
    net, processor = backbones.load_classifier(places["vit"], ["color: red", "color: blue", "tags: new", "tags: old"])
    net.config.update({
        "problem_type": "multi_label_classification", "thresholds": {"tags: new": 0.0, "tags: old": 1.0},
        "attribute_groups": {"color": {"many": False, "labels": ["color: red", "color: blue"]},
                             "tags": {"many": True, "labels": ["tags: new", "tags: old"]}},
    })  # fmt: skip
    net.save_pretrained(places["attributes"])
    processor.save_pretrained(places["attributes"])
    spread(places["attributes"], by=2)  # no score is 1, whether in 32 or in 64 bits
    backbones.load_encoder(places["vit"], dimension=8).save_pretrained(str(places["encoder"]))
    tiny_detector("rt_detr_v2", places["detector"])
    sharpened(places["detector"])
    for kind in ("vit", "attributes", "encoder", "detector"):
        data = places["boxed" if kind == "detector" else "photos"]
        # Boxes of a random decoder move with a grey level: what is tested here is who answers, not how well.
        least = ["--least_agreement", "0.5"] if kind == "detector" else []
        places[f"{kind}-export"] = root / f"{kind}-export"
        with contextlib.redirect_stdout(io.StringIO()):
            recipe.main([str(places[kind]), "--dataset", str(data), "-o", str(places[f"{kind}-export"]), *least])
    return places
