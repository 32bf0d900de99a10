"""One decoder for every picture: training, evaluation and serving see the same RGB pixels.

Bare `convert("RGB")` puts black behind a transparent garment, saturates 16-bit pictures and takes gigabytes for a
small file of many pixels. `decode` gives the one right answer or a `ValueError` with the reason. It changes no global
of Pillow and may run in many threads at once.
"""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

Source = bytes | str | Path | Image.Image | np.ndarray | dict[str, Any]

MAX_PIXELS = 25_000_000
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEADER_BYTES = 1024

# Pillow warns about odd EXIF and TIFF tags of files that it reads well. `catch_warnings` in each call would not be
# safe in threads, so its warnings about files are switched off once, for the process; real faults are exceptions.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.")


def decode(
    source: Source, *, background: tuple[int, int, int] = (255, 255, 255), max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decodes one picture.

    Args:
        source: Encoded bytes, the path of a file, a PIL image, an array (height, width) or (height, width, 1, 3 or 4)
            of uint8 or uint16, or the `{"bytes", "path"}` that `datasets` stores.
        background: The colour (red, green, blue; 0 to 255) that shows through transparent pixels.
        max_pixels: Width times height that is refused when exceeded, before anything is decoded. Pillow's own limit of
            about 179 million pixels stays in force.

    Returns:
        A new image of mode "RGB", 8 bits a channel, turned upright by its EXIF orientation, without metadata. Of an
        animation it is the first frame.

    Raises:
        ValueError: The picture cannot be read, or not with certainty; the text is the reason.
    """
    if isinstance(source, np.ndarray):
        _check_pixels(source.shape[1::-1] if source.ndim >= 2 else (0, 0), max_pixels)
        return _rgb(_from_array(source), background)
    if isinstance(source, Image.Image):
        return _load(source, background, max_pixels)
    with _open(source) as image:
        return _load(image, background, max_pixels)


def probe(source: Source) -> tuple[int, int]:
    """Reads the header of a picture only.

    Returns:
        Width and height in pixels as stored (before the EXIF orientation is applied).

    Raises:
        ValueError: It is not a picture; the text is the reason.
    """
    with _open(source) as image:
        return image.size


def _open(source: Source | None) -> Image.Image:
    """Opens the header of an encoded picture, or raises a ValueError that names what the file is instead."""
    if isinstance(source, dict):
        source = source["bytes"] if source.get("bytes") is not None else source.get("path")
    if not isinstance(source, bytes | bytearray | str | Path):
        found = "nothing" if source is None else f"a {type(source).__name__}"
        raise ValueError(f"no picture: expected bytes, a path, a PIL image or an array, found {found}")
    try:
        image = Image.open(BytesIO(source) if isinstance(source, bytes | bytearray) else source)
    except UnidentifiedImageError:
        raise ValueError(_reason(_header(source))) from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"too many pixels: {error}") from None
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except Exception as error:  # plug-ins of Pillow raise anything, from SyntaxError to struct.error
        raise ValueError(_fault("cannot be opened", error)) from error
    if image.format == "EPS":
        image.close()
        raise ValueError("a PostScript drawing (EPS): save it as PNG or JPEG")  # Pillow would start Ghostscript
    return image


def _load(image: Image.Image, background: tuple[int, int, int], max_pixels: int) -> Image.Image:
    """Decodes an opened picture to upright RGB."""
    _check_pixels(image.size, max_pixels)
    try:
        image.load()
    except Exception as error:
        raise ValueError(_fault("damaged or cut short", error)) from error
    turn = _UPRIGHT.get(_orientation(image))
    rgb = _rgb(image, background)
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info = {}  # it holds the orientation still: decoding the result again would turn it again
    return rgb


def _check_pixels(size: tuple[int, ...], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ValueError(f"too many pixels: {width} x {height} is more than the limit of {max_pixels}")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF data says nothing about the pixels
        return 1


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Converts any mode to a new RGB image."""
    if image.mode == "F":
        raise ValueError("pixels are decimal numbers without a fixed range: save it with 8 bits a channel")
    if image.mode.startswith("I"):
        image = _from_array(_sixteen_bit(np.asarray(image)))
    elif image.mode == "LAB":
        image = _from_lab(image)
    elif image.has_transparency_data:
        if image.mode == "La":  # Pillow converts premultiplied grey to LA only
            image = image.convert("LA")
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    return image.convert("RGB")


def _sixteen_bit(array: np.ndarray) -> np.ndarray:
    """Checks that integers are within 16 bits, since the scale of 32-bit pictures cannot be known."""
    if array.min() < 0 or array.max() > 65535:
        raise ValueError(f"32-bit pixels from {array.min()} to {array.max()}: save it with 8 or 16 bits a channel")
    return array.astype(np.uint16)


def _from_array(array: np.ndarray) -> Image.Image:
    """Makes an image of mode L, RGB or RGBA of an array."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if 0 in array.shape or not (array.ndim == 2 or array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ValueError(f"an array must be (height, width) or (height, width, 1, 3 or 4), found {array.shape}")
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"an array must be uint8 or uint16, found {array.dtype}: scale it to 0..255 and cast it")
    return Image.fromarray(np.ascontiguousarray(array))


def _from_lab(image: Image.Image) -> Image.Image:
    try:
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        converted = ImageCms.applyTransform(image, transform)
    except Exception as error:
        raise ValueError(_fault("LAB colours cannot be converted", error)) from error
    assert converted is not None  # only in-place transforms give None
    return converted


def _header(source: bytes | bytearray | str | Path) -> bytes:
    if isinstance(source, bytes | bytearray):
        return bytes(source[:_HEADER_BYTES])
    with open(source, "rb") as file:
        return file.read(_HEADER_BYTES)


def _reason(header: bytes) -> str:
    """Says what a file that is no picture is."""
    text = header.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not header:
        return "the file is empty (0 bytes)"
    if text.startswith(b"version https://git-lfs.github.com/spec"):
        return "a git-lfs pointer, not the picture itself: run `git lfs pull`"
    if b"<svg" in text:
        return "an SVG drawing: save it as PNG or JPEG"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, perhaps the error page of a download"
    if text.startswith(b"<?xml"):
        return "an XML file"
    if text.startswith(b"%!ps"):
        return "a PostScript drawing (EPS): save it as PNG or JPEG"
    if text.startswith(b"%pdf"):
        return "a PDF file: save its pages as PNG or JPEG"
    if header[4:8] == b"ftyp" and header[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "a HEIC photo: convert it to JPEG (or install and register pillow-heif)"
    if header.startswith(b"PK\x03\x04"):
        return "a zip archive"
    if header.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\x00", b"MM\x00*")):
        return "a picture whose header is damaged or cut short"
    return "not a picture in any format that Pillow reads"


def _fault(what: str, error: Exception) -> str:
    return f"{what} ({str(error) or type(error).__name__})"
