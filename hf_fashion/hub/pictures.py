"""Pictures without what is written about them: place, time, camera, owner, thumbnails. Pixels stay bit for bit.

Of JPEG, PNG and WebP the parts that hold the picture are copied and all others left out; nothing is encoded again. The
one thing kept of the metadata is the orientation, without which the picture would lie on its side. All other formats
are written as PNG, as `images.decode` reads them.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from hf_fashion import images

_PNG = b"\x89PNG\r\n\x1a\n"
# What changes how the pixels are shown; beside the picture itself.
_PNG_KEPT = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP", b"bKGD",
    b"pHYs", b"acTL", b"fcTL", b"fdAT",
}  # fmt: skip
_WEBP_KEPT = {b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
_ORIENTATION = 0x0112


class _Odd(Exception):
    """A file that is not built as its format says."""


def bare(data: bytes) -> tuple[bytes, str]:
    """An encoded picture without metadata.

    Args:
        data: A picture of any format that `images.decode` reads.

    Returns:
        The encoded picture, and the ending of its file's name: jpg, png or webp.

    Raises:
        ValueError: It cannot be read; the text is the reason.
    """
    images.probe(data)  # the reason, when it is no picture at all
    try:
        if data.startswith(b"\xff\xd8"):
            return b"".join(_jpeg(data)), "jpg"
        if data.startswith(_PNG):
            return b"".join(_png(data)), "png"
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data), "webp"
    except (_Odd, IndexError, struct.error):
        pass  # what Pillow reads nevertheless is encoded again below
    buffer = BytesIO()
    images.decode(data).save(buffer, "PNG")
    return buffer.getvalue(), "png"


def _orientation(data: bytes) -> int:
    with Image.open(BytesIO(data)) as image:
        try:
            return int(image.getexif().get(_ORIENTATION, 1))
        except Exception:  # broken metadata, which goes anyway
            return 1


def _exif(orientation: int) -> bytes:
    """TIFF data with the one tag."""
    return b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def _jpeg(data: bytes) -> Iterator[bytes]:
    orientation = _orientation(data)
    yield data[:2]
    if orientation in range(2, 9):
        exif = b"Exif\x00\x00" + _exif(orientation)
        yield b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    place = 2
    while True:
        if data[place] != 0xFF:
            raise _Odd
        while data[place + 1] == 0xFF:  # fill bytes
            place += 1
        marker = data[place + 1]
        if marker == 0xD9:  # the end: what follows it (a second picture, a film) is not copied
            yield b"\xff\xd9"
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            yield data[place : place + 2]
            place += 2
            continue
        end = place + 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
        if end > len(data) or end < place + 4:
            raise _Odd
        segment = data[place:end]
        if marker == 0xDA:  # a scan: its coded pixels go on up to the next marker
            while not (data[end] == 0xFF and data[end + 1] != 0 and not 0xD0 <= data[end + 1] <= 0xD7):
                end = data.find(b"\xff", end + 1)
                if end < 0:
                    raise _Odd
            yield data[place:end]
        elif marker == 0xE0 and segment[4:].startswith(b"JFIF\x00"):  # without the thumbnail that may be in it
            yield b"\xff\xe0\x00\x10" + segment[4:16] + b"\x00\x00"
        elif marker == 0xEE and segment[4:].startswith(b"Adobe"):  # twelve bytes; what follows is nobody's
            if len(segment) < 16:
                raise _Odd
            yield b"\xff\xee\x00\x0e" + segment[4:16]
        elif not _told_only(marker, segment[4:]):
            yield segment
        place = end


def _told_only(marker: int, content: bytes) -> bool:
    """Whether a JPEG's segment only tells about the picture: comments, and applications' data but for colours."""
    if marker == 0xE2:
        return not content.startswith(b"ICC_PROFILE\x00")
    return marker == 0xFE or 0xE0 <= marker <= 0xEF


def _png(data: bytes) -> Iterator[bytes]:
    orientation, place = _orientation(data), len(_PNG)
    yield _PNG
    while True:
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        if end > len(data):
            raise _Odd
        if kind == b"IDAT" and orientation in range(2, 9):
            yield _chunk(b"eXIf", _exif(orientation))
            orientation = 1
        if kind in _PNG_KEPT:
            yield data[place:end]
        if kind == b"IEND":
            return
        place = end


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _frame(content: bytes) -> bytes:
    """A frame of an animated WebP: where it lies, and the parts that hold its pixels."""
    made, place = content[:16], 16
    while place + 8 <= len(content):
        kind, length = struct.unpack("<4sI", content[place : place + 8])
        after = place + 8 + length + length % 2
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):
            made += content[place:after]
        place = after
    return struct.pack("<4sI", b"ANMF", len(made)) + made + b"\x00" * (len(made) % 2)


def _webp(data: bytes) -> bytes:
    orientation, place, end = _orientation(data), 12, 8 + struct.unpack("<I", data[4:8])[0]
    parts: list[bytes] = []
    if end > len(data):
        raise _Odd
    while place + 8 <= end:
        kind, length = struct.unpack("<4sI", data[place : place + 8])
        after = place + 8 + length + length % 2
        chunk = data[place:after]
        if kind == b"VP8X":  # its flags say which parts there are: of EXIF (8) and XMP (4) the one that is written
            flags = chunk[8] & ~0x0C | (8 if orientation in range(2, 9) else 0)
            parts.append(chunk[:8] + bytes([flags]) + chunk[9:])
        elif kind == b"ANMF":
            parts.append(_frame(chunk[8 : 8 + length]))
        elif kind in _WEBP_KEPT:
            parts.append(chunk)
        place = after
    if orientation in range(2, 9):
        exif = _exif(orientation)
        parts.append(struct.pack("<4sI", b"EXIF", len(exif)) + exif)
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
