"""How a photo becomes what a net sees, as plain values for `hf_fashion.runtime`; checked against the processor."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from transformers import (
    ConvNextImageProcessor,
    RfDetrImageProcessor,
    TimmWrapperImageProcessor,
)

from hf_fashion import runtime
from hf_fashion.backbones import input_spec
from hf_fashion.errors import InputError

# Grey levels by which a pixel may differ from the processor's. torch and Pillow round a resize each in its own way:
# one or two levels on some thousandths of the pixels; a filling of the mean colour is half a level off.
CLOSEST = 3.0
CLOSEST_MEAN = 0.6
# Width and height, in sides of the net, of noise that is shown to both, too: photos of a shop are often of one shape,
# and need no resizing when they have the net's.
_ROUGH = ((2.2, 1.6), (1.5, 2.1), (0.7, 0.6))
_NAMES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


class Shown(NamedTuple):
    """How a net is shown its photos.

    Args:
        values: For `runtime.pixels`.
        mean: Of each channel in grey levels (0 to 255), subtracted in the graph.
        std: Likewise; what is left is divided by it.
    """

    values: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def of_processor(processor: Any, *, detects: bool = False) -> Shown:
    """What an image processor does, in numbers.

    Raises:
        InputError: It does something else than resize, crop, fill up, scale and shift.
    """
    if detects:
        scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
        mean = [value / scale for value in processor.image_mean] if processor.do_normalize else [0.0] * 3
        std = [value / scale for value in processor.image_std] if processor.do_normalize else [1 / scale] * 3
    else:
        spec = input_spec(processor)
        mean, std = ([255 * value for value in values] for values in (spec.mean, spec.std))
    values: dict[str, Any] = {
        "resize": "squash", "size": None, "limit": None, "multiple": None, "rounding": "down",
        "resample": "bilinear", "filter": True, "crop": None,
        "crop_rounding": "down", "pad": None, "pad_color": None, "pad_place": "corner",
    }  # fmt: skip
    values |= _timm(processor) if isinstance(processor, TimmWrapperImageProcessor) else _transformers(processor)
    if values["pad"]:
        values["pad_color"] = [round(value) for value in mean]
    return Shown(values, tuple(map(float, mean)), tuple(map(float, std)))


def _timm(processor: TimmWrapperImageProcessor) -> dict[str, Any]:
    """What `timm.data.create_transform` makes of the same values."""
    data = processor.data_config
    height, width = (int(side) for side in data["input_size"][-2:])
    scaled = [math.floor(side / (data["crop_pct"] or 0.875)) for side in (height, width)]
    how = {"resample": "bilinear" if data["interpolation"] == "random" else data["interpolation"]}
    crop = {"crop": [height, width], "crop_rounding": "nearest"}
    if data["crop_mode"] == "squash":
        return how | {"size": scaled} | (crop if scaled != [height, width] else {})
    if data["crop_mode"] == "border":
        fits = {"resize": "longest", "size": scaled, "rounding": "nearest"}
        if scaled != [height, width]:
            raise _unknown(processor, "it fills up and crops at once")
        return how | fits | {"pad": [height, width], "pad_place": "center"}
    if scaled[0] != scaled[1]:
        raise _unknown(processor, f"a middle of {height} x {width} pixels, which is no square")
    return how | {"resize": "shortest", "size": scaled[0]} | crop


def _transformers(processor: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    size = {key: value for key, value in dict(processor.size).items() if value}
    number = 2 if processor.resample is None else int(processor.resample) if _is_number(processor.resample) else None
    told["resample"] = _NAMES[number] if number is not None else processor.resample.value
    if not getattr(processor, "do_resize", True):
        raise _unknown(processor, "it does not resize")
    crop = getattr(processor, "do_center_crop", None) and dict(processor.crop_size)
    if isinstance(processor, ConvNextImageProcessor) or hasattr(processor, "crop_pct"):
        side = size["shortest_edge"]
        if side >= 384:
            return told | {"size": [side, side]}
        return told | {"resize": "shortest", "size": int(side / processor.crop_pct), "crop": [side, side]}
    if "height" in size:
        told |= {"size": [size["height"], size["width"]]}
    elif "max_height" in size:
        told |= {"resize": "longest", "size": [size["max_height"], size["max_width"]]}
    elif "shortest_edge" in size:
        told |= {"resize": "shortest", "size": size["shortest_edge"], "limit": size.get("longest_edge")}
    else:
        raise _unknown(processor, f"a size of {size}")
    if type(processor).__name__.startswith("YolosImageProcessor"):  # with torchvision, or with Pillow
        told["multiple"] = 16
    if isinstance(processor, RfDetrImageProcessor) and told["resample"] == "bilinear":
        told["filter"] = False
    if crop:
        told["crop"] = [crop["height"], crop["width"]]
    pad = getattr(processor, "pad_size", None)
    if getattr(processor, "do_pad", False) and pad:
        told["pad"] = [dict(pad)["height"], dict(pad)["width"]]
    return told


def _is_number(value: Any) -> bool:
    try:
        int(value)
    except (TypeError, ValueError):
        return False
    return True


def differences(shown: Shown, processor: Any, photos: Sequence[Image.Image]) -> dict[str, float]:
    """By how much the pixels differ from those of the processor, in grey levels.

    Args:
        shown: Of the processor.
        processor: The original's.
        photos: Upright RGB.

    Returns:
        `largest`, and `mean` over all pixels of the photos; both infinite where a size is another one.
    """
    largest, means = 0.0, []
    mean, std = (np.array(values)[:, None, None] for values in (shown.mean, shown.std))
    for photo in photos:
        theirs = np.asarray(processor(images=photo, return_tensors="pt")["pixel_values"][0], dtype=np.float64)
        ours = runtime.pixels(photo, shown.values).transpose(2, 0, 1)
        if ours.shape != theirs.shape:
            return {"largest": math.inf, "mean": math.inf}
        apart = np.abs(theirs * std + mean - ours)
        largest = max(largest, float(apart.max()))
        means.append(float(apart.mean()))
    return {"largest": round(largest, 3), "mean": round(float(np.mean(means)), 4)}


def refuse_differences(shown: Shown, processor: Any, photos: Sequence[Image.Image]) -> dict[str, float]:
    """`differences` of the photos and of noise, larger and smaller than the net's, where they are small.

    Raises:
        InputError: They are not: numpy and Pillow do not do what the processor does.
    """
    drawn, side = np.random.default_rng(0), np.max(shown.values["size"])
    rough = [
        Image.fromarray(drawn.integers(0, 256, (round(side * height), round(side * width), 3), dtype=np.uint8))
        for width, height in _ROUGH
    ]
    told = differences(shown, processor, [*photos, *rough])
    if not (told["largest"] <= CLOSEST and told["mean"] <= CLOSEST_MEAN):  # NaN, too
        raise _unknown(
            processor, f"pixels that differ by {told['largest']:g} grey levels (on average {told['mean']:g})"
        )
    return told


def _unknown(processor: Any, found: str) -> InputError:
    return InputError(
        f"the image processor {type(processor).__name__}",
        expected="one that resizes (and crops, or fills up) in a way that numpy and Pillow repeat", found=found,
        fix="train with --resize squash, crop or pad; hf_fashion then saves a processor that can be repeated",
    )  # fmt: skip
