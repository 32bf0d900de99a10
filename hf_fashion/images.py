"""One decoder for every picture: training, evaluation and serving see the same RGB pixels.

Bare `convert("RGB")` puts black behind a transparent garment, saturates 16-bit pictures and takes gigabytes for a
small file of many pixels. `decode` gives the one right answer or a `ValueError` with the reason. It changes no global
of Pillow and may run in many threads at once.
"""

import os
import stat
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError, features

from hf_fashion.errors import InputError

Source = bytes | str | Path | Image.Image | np.ndarray | dict[str, Any]

TURBO = find_spec("simplejpeg") is not None  # the extra `fast`: the same pixels in less time; imported when used
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
_UPRIGHT_ARRAY: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # the same of an array (height, width, channels)
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}
_HEADER_BYTES = 1024
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow's names for grey of 2 and 4 bits
_TILE = (322, 323)  # the TIFF tags of its width and length in pixels
_PNG = b"\x89PNG\r\n\x1a\n"
_EPS = "a PostScript drawing (EPS): save it as PNG or JPEG"  # Pillow would start Ghostscript
# Their headers say nothing of what is decoded, which may be any other picture, of any size: an icon of 650 KB takes
# 700 MB, also to be refused, a texture (BLP) of 2 MB takes 2 GB. FITS of 100 KB takes 13 seconds.
_UNTOLD = {
    "ICO": (b"\0\0\1\0", "an icon (ICO)"),
    "ICNS": (b"icns", "an icon (ICNS)"),
    "BLP": (b"BLP", "a texture of a game (BLP)"),
    "FITS": (b"SIMPLE", "an image of astronomy (FITS)"),
    "IPTC": (b"\x1c\x03", "a record of IPTC"),
}

# Pillow warns about odd EXIF and TIFF tags of files that it reads well. `catch_warnings` in each call would not be
# safe in threads, so its warnings about files are switched off once, for the process; real faults are exceptions.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Limits:
    """What a picture may be. `decode` refuses what is above the first two; of the others `odd_shape` only tells.

    With the defaults no picture takes more than 500 MB of memory while it is decoded.

    Args:
        max_pixels: Width times height.
        max_bytes: Size of the file, or of the encoded bytes.
        min_side: The shorter side in pixels. A smaller one is a placeholder or a tracking pixel more often than a
            garment.
        max_aspect: The longer side divided by the shorter one. A longer picture is a banner or a separator.

    Raises:
        InputError: A limit below 1.
    """

    max_pixels: int = 25_000_000
    max_bytes: int = 100_000_000
    min_side: int = 16
    max_aspect: float = 20.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 1:  # so NaN is refused, too
                raise InputError(
                    f"--{name} {value}", expected="1 or more", found=str(value), fix="leave it out, or raise it"
                )


LIMITS = Limits()


def odd_shape(size: tuple[int, int], limits: Limits = LIMITS) -> str:
    """Says what is odd about the shape of a picture that can be read.

    Args:
        size: Width and height in pixels.
        limits: Of which `min_side` and `max_aspect` count.

    Returns:
        The reason in words, "" when nothing is odd.
    """
    width, height = size
    short, long = sorted(size)
    if short < limits.min_side:
        return f"{width} x {height} px: the shorter side is under {limits.min_side} px"
    if long > limits.max_aspect * short:
        return f"{width} x {height} px: one side is more than {limits.max_aspect:g} times the other"
    return ""


def decode(
    source: Source,
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    limits: Limits = LIMITS,
    at_least: int | None = None,
) -> Image.Image:
    """Decodes one picture.

    Args:
        source: Encoded bytes, the path of a file, a PIL image, an array (height, width) or (height, width, 1, 3 or 4)
            of uint8 or uint16, or the `{"bytes", "path"}` that `datasets` stores.
        background: The colour (red, green, blue; 0 to 255) that shows through transparent pixels.
        limits: A picture of more pixels or bytes is refused by its header, before anything is decoded. Pillow's own
            limit of about 179 million pixels stays in force.
        at_least: A JPEG may come out at a half, a quarter or an eighth of its size, in less time: each side with at
            least so many pixels, and in the same proportions. It is another picture than the whole one that is
            resized: with twice the net's side here, 237 of 240 photos of 12 megapixels kept their label. For what
            need not be exact.

    Returns:
        A new image of mode "RGB", 8 bits a channel, turned upright by its EXIF orientation, without metadata. Of an
        animation it is the first frame; of a PIL image that stands at another frame, that one.

    Raises:
        ValueError: The picture cannot be read, or not with certainty; the text is the reason.
    """
    if isinstance(source, np.ndarray):
        _check_pixels(source.shape[1::-1] if source.ndim >= 2 else (0, 0), limits)
        return _rgb(_from_array(source), background)
    if isinstance(source, Image.Image):
        return _load(source, background, limits)
    with _open(source, limits) as image:
        if at_least is not None:
            _check_pixels(image.size, limits)  # of the whole
            _reduce(image, at_least)
        rgb = _of_jpeg(image, limits)
        return _load(image, background, limits) if rgb is None else rgb


def pixels(
    source: Source, *, background: tuple[int, int, int] = (255, 255, 255), limits: Limits = LIMITS
) -> np.ndarray:
    """What `decode` gives as an array (height, width, 3) of uint8, for which a JPEG is copied less often."""
    if not isinstance(source, np.ndarray | Image.Image):
        with _open(source, limits) as image:
            array = _by_turbo(image, limits, "RGB")
            if array is not None:
                return np.ascontiguousarray(_UPRIGHT_ARRAY.get(_orientation(image), np.asarray)(array))
            rgb = _of_jpeg(image, limits, by_turbo=False)
            return np.array(_load(image, background, limits) if rgb is None else rgb)
    return np.array(decode(source, background=background, limits=limits))


def probe(source: Source) -> tuple[int, int]:
    """Reads the header of a picture only.

    Returns:
        Width and height in pixels as stored (before the EXIF orientation is applied).

    Raises:
        ValueError: It is not a picture; the text is the reason.
    """
    with _open(source) as image:
        return image.size


def _open(source: Source | None, limits: Limits | None = None) -> Image.Image:
    """Opens the header of an encoded picture, or raises a ValueError that names what the file is instead."""
    if isinstance(source, dict):
        source = source["bytes"] if source.get("bytes") is not None else source.get("path")
    if not isinstance(source, bytes | bytearray | str | Path):
        found = "nothing" if source is None else f"a {type(source).__name__}"
        raise ValueError(f"no picture: expected bytes, a path, a PIL image or an array, found {found}")
    size = len(source) if isinstance(source, bytes | bytearray) else _file_size(source)
    if limits is not None and size > limits.max_bytes:
        raise ValueError(f"the file is too large: {size} bytes are more than the limit of {limits.max_bytes}")
    try:
        image = _identify(source)
    except UnidentifiedImageError:
        raise ValueError(_reason(_read(source, _HEADER_BYTES))) from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"too many pixels: {error}") from None
    except Exception as error:  # plug-ins of Pillow raise anything, from SyntaxError to struct.error
        raise ValueError(_fault("cannot be opened", error)) from error
    if image.format == "EPS":
        image.close()
        raise ValueError(_EPS)
    return image


def _file_size(path: str | Path) -> int:
    """The size of a file in bytes, or a ValueError when there is no plain file: a pipe would be waited for."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null byte
        raise ValueError(_fault("cannot be opened", error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a folder, not a file" if stat.S_ISDIR(status.st_mode) else "a device or pipe, not a file")
    return status.st_size


def _identify(source: bytes | bytearray | str | Path) -> Image.Image:
    Image.init()
    formats = [name for name in Image.ID if name not in _UNTOLD]  # those of plug-ins, too
    if _read(source, 8).startswith(tuple(magic for magic, _ in _UNTOLD.values())):  # or TGA would take an icon
        raise UnidentifiedImageError
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes | bytearray) else source, formats=formats)
    except Exception:
        mended = _without_profile(source)
        if mended is None:
            raise
    return Image.open(BytesIO(mended), formats=formats)


def _without_profile(source: bytes | bytearray | str | Path) -> bytes | None:
    """Cuts the colour profile out of a PNG, since Pillow refuses one of more than 1 MB. None when there is none."""
    if _read(source, len(_PNG)) != _PNG:  # a film beside the photos is not read into memory
        return None
    data = _read(source, LIMITS.max_bytes)
    place = len(_PNG)
    while (kind := data[place + 4 : place + 8]) not in (b"IDAT", b""):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if kind == b"iCCP":
            return data[:place] + data[end:]
        place = end
    return None


def _reduce(image: Image.Image, at_least: int) -> None:
    """Has an opened JPEG decoded smaller by the largest factor that divides both sides: else what is made of it by its
    proportions is a pixel off, and that moves what is seen more than the smaller picture does."""
    for factor in (8, 4, 2):
        width, height = (side // factor for side in image.size)
        if min(width, height) >= at_least and image.size == (factor * width, factor * height):
            image.draft(None, (width, height))
            return


def _of_jpeg(image: Any, limits: Limits, *, by_turbo: bool = True) -> Image.Image | None:
    """An opened JPEG in colours as upright RGB, without the copy that `convert` makes of it.

    None where it is of another kind, and where it cannot be read: `_load` does it then, or says why not.
    """
    if image.format not in ("JPEG", "MPO") or image.mode != "RGB":
        return None
    _check_pixels(image.size, limits)
    # pyarrow takes a tenth of a second to import: too much for a process that has no other use for it.
    whole = by_turbo and not image.decoderconfig and "pyarrow" in sys.modules
    array = _by_turbo(image, limits, "RGBA") if whole else None
    if array is not None:
        import pyarrow

        flat = pyarrow.Array.from_buffers(pyarrow.uint8(), array.size, [None, pyarrow.py_buffer(array)])
        rgb = Image.fromarrow(pyarrow.FixedSizeListArray.from_arrays(flat, 4), "RGB", image.size)  # not copied
    else:
        rgb = Image.new("RGB", image.size, None)  # of no colour: nothing is written into it first
        try:
            rgb.frombytes(_content(image), "jpeg", (*image.tile[0][3], *image.decoderconfig))
        except Exception:
            return None
    turn = _UPRIGHT.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _by_turbo(image: Any, limits: Limits, channels: str) -> np.ndarray | None:
    """Pixels (height, width, channels) of an opened JPEG as they are stored, where libjpeg-turbo has nothing against
    it; of all else, and of all that it warns of, None: then Pillow says what is to be said.

    Args:
        image: Of Pillow, which reads the headers.
        limits: See `decode`.
        channels: "RGB", or "RGBA" with an opaque fourth channel.
    """
    if not TURBO or image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    _check_pixels(image.size, limits)
    import simplejpeg

    try:
        array: np.ndarray = simplejpeg.decode_jpeg(_content(image), channels, strict=True)
    except (ValueError, MemoryError):
        return None
    return array if array.shape[1::-1] == image.size else None


def _content(image: Any) -> bytes:
    """All bytes of the file of an opened picture."""
    image.fp.seek(0)
    data: bytes = image.fp.read()
    return data


def _load(image: Image.Image, background: tuple[int, int, int], limits: Limits) -> Image.Image:
    """Decodes an opened picture to upright RGB."""
    if image.format == "EPS":
        raise ValueError(_EPS)
    _check_pixels(image.size, limits)
    if image.format == "TIFF":
        _check_pixels(_tile(image), limits)
    if image.format == "JPEG2000" and image.mode == "RGBA":  # its decoder holds 16 bytes a pixel beside the picture
        _check_pixels(image.size, replace(limits, max_pixels=max(1, limits.max_pixels * 3 // 4)))
    key = _key_color(image)
    try:
        image.load()
    except Exception as error:
        raise ValueError(_fault("damaged or cut short", error)) from error
    turn = _UPRIGHT.get(_orientation(image))
    if key is not None:
        image = image.copy()
        image.info["transparency"] = key
    try:
        rgb = _rgb(image, background)
    except ValueError:
        raise
    except Exception as error:  # a palette without colours, for one
        raise ValueError(_fault(f"its colours (mode {image.mode}) cannot be read", error)) from error
    if turn is not None:
        rgb = rgb.transpose(turn)
    rgb.info = {}  # it holds the orientation still: decoding the result again would turn it again
    return rgb


def _check_pixels(size: tuple[int, ...], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ValueError(f"too many pixels: {width} x {height} is more than the limit of {limits.max_pixels}")


def _tile(image: Any) -> tuple[int, ...]:
    """Width and height of a TIFF's tiles, for which memory is taken whole, however small the picture is."""
    try:
        return tuple(int(image.tag_v2.get(tag, 0)) for tag in _TILE)
    except Exception:  # broken tags: the decoder says what it makes of them
        return (0, 0)


def _key_color(image: Image.Image) -> int | tuple[int, ...] | None:
    """The transparent colour of a PNG in the depth of its pixels, where Pillow leaves it in that of the file.

    None when there is none, or nothing to mend.
    """
    key, tile = image.info.get("transparency"), getattr(image, "tile", None)
    if key is None or image.format != "PNG" or not tile:
        return None
    stored = tile[0][3]
    if stored in _GREY_STEPS:
        return key * _GREY_STEPS[stored]
    return tuple(part >> 8 for part in key) if stored == "RGB;16B" else None


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
        return _from_integers(image, background)
    if image.mode == "LAB":
        return _from_lab(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # Pillow converts premultiplied grey to LA only
        image = image.convert("LA")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _from_integers(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Scales grey of 16 bits, also in a container of 32; the scale of others cannot be known."""
    array = np.asarray(image)
    low, high = int(array.min()), int(array.max())
    is_wide = image.mode == "I" and image.format not in ("PNG", "PPM")  # these two are of 16 bits in any mode
    if low < 0 or high > 65535 or is_wide and 0 < high <= 255:
        raise ValueError(f"32-bit pixels from {low} to {high}: save it with 8 or 16 bits a channel")
    grey = _from_array(array.astype(np.uint16)).convert("RGB")
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.paste(background, mask=Image.fromarray(array == key))
    return grey


def _from_array(array: np.ndarray) -> Image.Image:
    """Makes an image of mode L, RGB or RGBA of an array."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if 0 in array.shape or not (array.ndim == 2 or array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ValueError(f"an array must be (height, width) or (height, width, 1, 3 or 4), found {array.shape}")
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # of any byte order
        wide = array.astype(np.uint32)
        wide += 128  # in place, as the next line: at 25 megapixels each copy takes 100 MB
        wide //= 257
        array = wide.astype(np.uint8)
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


def _read(source: bytes | bytearray | str | Path, count: int | None = None) -> bytes:
    """The first bytes of a source, or all."""
    if isinstance(source, bytes | bytearray):
        return bytes(source[:count])
    with open(source, "rb") as file:
        return file.read() if count is None else file.read(count)


def _reason(header: bytes) -> str:
    """Says what a file that is no picture is."""
    text = header.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not header:
        return "the file is empty (0 bytes)"
    if text.startswith(b"version https://git-lfs.github.com/spec"):
        return "a git-lfs pointer, not the picture itself: run `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):  # it may hold an SVG drawing
        return "an HTML page, perhaps the error page of a download"
    if b"<svg" in text:
        return "an SVG drawing: save it as PNG or JPEG"
    if text.startswith(b"<?xml"):
        return "an XML file"
    if text.startswith(b"%!ps"):
        return _EPS
    if text.startswith(b"%pdf"):
        return "a PDF file: save its pages as PNG or JPEG"
    if header[4:8] == b"ftyp" and header[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "a HEIC photo: convert it to JPEG (or install and register pillow-heif)"
    if header[4:12] in (b"ftypavif", b"ftypavis") and not features.check("avif"):
        return "an AVIF picture that this Pillow cannot read: convert it to PNG or JPEG (or install pillow>=11.3)"
    if header.startswith(b"PK\x03\x04"):
        return "a zip archive"
    for magic, kind in _UNTOLD.values():
        if header.startswith(magic):
            return f"{kind}: save it as PNG or JPEG"
    kinds = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\x00", b"MM\x00*")
    if header.startswith(kinds) or header[8:12] == b"WEBP" or header[4:12] in (b"ftypavif", b"ftypavis"):
        return "a picture whose header is damaged or cut short"
    return "not a picture in any format that Pillow reads"


def _fault(what: str, error: Exception) -> str:
    return f"{what} ({str(error) or type(error).__name__})"
