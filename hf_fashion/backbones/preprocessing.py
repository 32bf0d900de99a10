"""How a net is shown its pictures: the image processor, and what it does in numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode
from transformers import (
    AutoImageProcessor,
    PreTrainedConfig,
    TimmWrapperConfig,
    TimmWrapperImageProcessor,
    ViTImageProcessor,
)

from hf_fashion.backbones.sources import first_line
from hf_fashion.errors import InputError

# What timm calls the ways to make a square (`timm.data.transforms_imagenet_eval`).
TIMM_CROP_MODES = {"squash": "squash", "crop": "center", "pad": "border"}


@dataclass(frozen=True)
class InputSpec:
    """What a net sees: all that a training transform needs to make the same kind of tensor.

    `height` and `width` in pixels; `mean` and `std` per channel, of pixels scaled to 0 to 1; `resize` is what the
    processor does at evaluation: `squash`, `crop` or `pad`.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: InterpolationMode
    resize: str

    def in_words(self) -> str:
        """How a photo becomes the net's rectangle, for a card."""
        how = {"squash": "squashed to", "crop": "resized and cropped to", "pad": "resized and padded to"}
        return f"{how[self.resize]} {self.height} x {self.width} pixels by the processor in the folder"


def input_spec(processor: Any) -> InputSpec:
    """Says what an image processor does, by what it does with a few small pictures.

    Raises:
        InputError: It does more than resize to one size, scale and shift each channel (it flips channels, cuts
            patches, keeps the picture's proportions), so that a training transform cannot do the same.
    """
    tones = np.array(
        [[0, 102, 255], [255, 0, 51], [51, 153, 102]], np.uint8
    )  # one-colour pictures, the third to check
    ramp = np.tile(
        np.arange(256, dtype=np.uint8)[None, :, None], (128, 1, 3)
    )  # dark left, bright right, twice as wide
    try:
        first, second, third = (_see(processor, np.full((64, 64, 3), tone, np.uint8)) for tone in tones)
        wide = _see(processor, ramp)
        a, b, c = (tone[:, None, None] / 255 for tone in tones)
        with np.errstate(all="ignore"):
            std = (a - b) / (first - second)
            mean = a - first * std
            fits = wide.shape == third.shape and np.allclose((c - mean) / std, third, atol=1e-3)
        found = "another result"
    except Exception as error:  # each processor raises something of its own
        fits, found = False, first_line(error)
    if not fits:
        raise InputError(
            f"the image processor {type(processor).__name__}",
            expected="one that resizes to one size, scales pixels to 0 to 1, subtracts mean and divides by std",
            found=found,
            fix="take a checkpoint with a usual image processor",
        )
    edge = (wide * std + mean)[
        0, :, 0
    ]  # the left column: the picture's dark edge, its cut inside, or edge and filling
    resize = "pad" if np.ptp(edge) > 0.1 else "crop" if edge.mean() > 0.05 else "squash"
    if isinstance(processor, TimmWrapperImageProcessor):
        data = processor.data_config
        said = data["mean"], data["std"]
        mode = InterpolationMode("bilinear" if data["interpolation"] == "random" else data["interpolation"])
    else:
        said = processor.image_mean, processor.image_std
        resample = Image.Resampling.BILINEAR if processor.resample is None else processor.resample
        mode = (
            resample if isinstance(resample, InterpolationMode) else InterpolationMode[Image.Resampling(resample).name]
        )
    measured = mean[:, 0, 0], std[:, 0, 0]
    if all(value is not None for value in said) and np.allclose(said, measured, atol=1e-3):
        measured = said  # the exact numbers; EfficientNet's class does not do what its numbers say
    means, stds = (tuple(float(value) for value in values) for values in measured)
    return InputSpec(third.shape[1], third.shape[2], means, stds, mode, resize)


def _see(processor: Any, picture: np.ndarray) -> np.ndarray:
    return processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"][0].numpy().astype(np.float64)


def load_processor(
    folder: Path, config: PreTrainedConfig, model: str | Path, resize: str, image_size: int | None
) -> Any:
    """Loads the image processor and sets `resize` and `image_size` in it (and in a timm net's config)."""
    if resize not in ("keep", *TIMM_CROP_MODES):
        raise InputError(
            f"the resize '{resize}'",
            expected="keep, squash, crop or pad",
            found=repr(resize),
            fix="--resize pad, for example",
        )
    if image_size is not None and (not isinstance(image_size, int) or not 1 <= image_size <= 4096):
        raise InputError(
            "the image size",
            expected="pixels, a whole number",
            found=repr(image_size),
            fix="--image_size 224, for example",
        )
    try:
        if isinstance(config, TimmWrapperConfig):
            cfg = dict(config.pretrained_cfg)
            if image_size is not None:
                cfg["input_size"] = [3, image_size, image_size]
            if resize != "keep":
                cfg |= {"crop_mode": TIMM_CROP_MODES[resize], "crop_pct": 1.0}
            config.pretrained_cfg = cfg  # saved in the model's config.json, from which timm's processor is loaded
            return TimmWrapperImageProcessor(pretrained_cfg=cfg, architecture=config.architecture)
        # The backend changes pixels and is not saved: this is what `pipeline` takes too (traps 16, 40).
        processor = AutoImageProcessor.from_pretrained(folder, backend="torchvision", trust_remote_code=False)
    except Exception as error:  # whatever its own checks raise
        raise InputError(
            f"the image processor of the model '{model}'",
            expected="a preprocessor_config.json of transformers, or a pretrained_cfg of timm",
            found=first_line(error),
            fix="AutoImageProcessor.from_pretrained(<original>).save_pretrained(<folder>)",
        ) from error
    if resize == "keep" and image_size is None:
        return processor
    spec = input_spec(processor)
    height, width = (image_size, image_size) if image_size is not None else (spec.height, spec.width)
    if resize == "keep":
        scale = {"height": height / spec.height, "width": width / spec.width}
        values = processor.to_dict()
        for key in ("size", "crop_size", "pad_size"):
            if values.get(key):
                values[key] = {
                    side: round(old * scale.get(side, scale["height"])) for side, old in values[key].items()
                }
        processor = type(processor).from_dict(values)
    else:
        exact = {"height": height, "width": width}
        processor = ViTImageProcessor(
            do_resize=True,
            size={
                "squash": exact,
                "crop": {"shortest_edge": max(height, width)},
                "pad": {"max_height": height, "max_width": width},
            }[resize],
            resample=processor.resample,
            do_center_crop=resize == "crop",
            crop_size=exact,
            do_pad=resize == "pad",  # after normalising, with zeros: the mean colour
            pad_size=exact,
            do_rescale=True,
            do_normalize=True,
            image_mean=list(spec.mean),
            image_std=list(spec.std),
            do_convert_rgb=getattr(processor, "do_convert_rgb", None),
        )
    new = input_spec(processor)
    if (new.height, new.width) != (height, width) or resize not in ("keep", new.resize):
        raise InputError(
            f"the image processor of the model '{model}'",
            expected=f"{height}x{width} pixels, {resize}",
            found=f"it gives {new.height}x{new.width} pixels, {new.resize}",
            fix="name --resize squash, crop or pad beside --image_size",
        )
    return processor
