"""Every kind of bad picture that occurs in catalogues, made in code, with what must become of it."""

import struct
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms

WHITE = (255, 255, 255)
HEIGHT, WIDTH = 36, 48


@dataclass(frozen=True)
class Case:
    """One picture.

    Args:
        name: In words, once only.
        data: The content of the file.
        wanted: "right": decoded to `truth`. "refused": a ValueError with `reason`. "reported": decoded, and
            `images.odd_shape` says `reason`.
        truth: RGB pixels (height, width, 3).
        off: By how much of 255 a pixel may differ from `truth`: lossy formats.
        reason: Words of the refusal, or of the report.
        plain: Opaque, 8 bits a channel: a bare `pipeline` must see the same when it is given the path.
        file_name: As the operating system gives it: bytes that are not UTF-8 as lone surrogates.
    """

    name: str
    data: bytes
    wanted: Literal["right", "refused", "reported"]
    truth: np.ndarray | None = None
    off: int = 0
    reason: str = ""
    plain: bool = False
    file_name: str = "photo.jpg"

    def write(self, folder: Path) -> Path:
        """Writes the file into a folder of its own, and gives its path."""
        path = folder / self.name.replace("/", " ") / self.file_name
        path.parent.mkdir(parents=True)
        path.write_bytes(self.data)
        return path

    def difference(self, image: Image.Image) -> int:
        """By how much of 255 the pixels of an RGB image differ from the truth at most; 255 when the size differs."""
        assert self.truth is not None and image.mode == "RGB"
        pixels = np.asarray(image).astype(int)
        return 255 if pixels.shape != self.truth.shape else int(np.abs(pixels - self.truth).max())


def cases() -> list[Case]:
    """All of them."""
    groups = (transparent, deep, modes, turned, moving, profiles, damaged, strangers, bombs, odd_shapes, odd_names)
    made = [case for group in groups for case in group()]
    assert len({case.name for case in made}) == len(made)
    return made


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo() -> np.ndarray:
    """Smooth colours, which a lossy format keeps, of a different tone in each corner."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 5, y * 7, 200 - x * 2 - y * 2], axis=2).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    size: tuple[int, int], depth: int, color: int, packed: bytes, extra: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """A PNG file of already compressed scan lines, with further chunks in front of them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    chunks = b"".join(chunk(kind, data) for kind, data in extra)
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def deep_png(array: np.ndarray, color: int, key: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits a channel: uint16 (height, width, channels), the channels of the PNG colour type."""
    lines = zlib.compress(b"".join(b"\0" + line.astype(">u2").tobytes() for line in array))
    extra = [(b"tRNS", np.array(key, dtype=">u2").tobytes())] if key else []
    return png(array.shape[1::-1], 16, color, lines, extra)


def tiff(tags: dict[int, tuple[int, ...]], data: bytes) -> bytes:
    """A TIFF file of 32-bit tags and its strip or tile; tags 273 and 324 (offsets) are filled in."""
    start = 8 + 2 + 12 * len(tags) + 4
    beyond = b""
    entries = b""
    place = start + sum(4 * len(values) for values in tags.values() if len(values) > 1)
    for tag, values in sorted(tags.items()):
        values = (place,) if tag in (273, 324) else values
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, beyond = struct.pack("<I", start + len(beyond)), beyond + packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + packed
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4 + beyond + data


def psd(array: np.ndarray) -> bytes:
    """A PSD file with no layers, whose cover is uint8 (height, width, 3)."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, *array.shape[:2], 8, 3)
    return header + b"\0" * 12 + b"\0\0" + array.transpose(2, 0, 1).tobytes()


def zeros(count: int) -> bytes:
    """`count` zero bytes, compressed, without ever holding them."""
    block = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = packer.compress(bytes(count % block)) + packer.flush()
    return b"\x78\xda" + one * (count // block) + rest + struct.pack(">I", (count % 65521) << 16 | 1)


def transparent() -> list[Case]:
    """Transparent pictures: white shows through, as in a browser."""
    alpha = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    alpha[:, : WIDTH // 2] = 255
    cut = alpha[..., None] == 0
    rgba = np.dstack([np.where(cut, 0, photo()), alpha])  # black below, as cut-out tools leave it
    truth = np.where(cut, 255, photo())
    grey = np.dstack([np.where(alpha == 0, 0, 128), alpha]).astype(np.uint8)
    grey_truth = np.where(cut, 255, np.full((1, 1, 3), 128)).astype(np.uint8)
    half = np.dstack([np.zeros_like(photo()), np.full_like(alpha, 51)])  # black at 20 %: 255 x 0.8
    indexed = Image.fromarray((alpha == 255).astype(np.uint8))
    indexed.putpalette([0, 0, 0, 10, 20, 30])
    of_palette = np.where(cut, 255, np.array([10, 20, 30])).astype(np.uint8)
    keyed = Image.fromarray(np.where(cut, 0, np.maximum(photo(), 1)))
    wide = np.where(alpha == 0, 1000, 40000).astype(np.uint16)[..., None]  # 1000 is nearly black
    wide_truth = np.where(cut, 255, np.full((1, 1, 3), 156)).astype(np.uint8)
    image, blend = Image.fromarray(rgba), np.full_like(photo(), 204)
    soft = {"quality": 100, "exact": True}
    return [
        Case("RGBA PNG", encoded(image, "PNG"), "right", truth),
        Case("half transparent RGBA PNG", encoded(Image.fromarray(half), "PNG"), "right", blend),
        Case("LA PNG", encoded(Image.fromarray(grey, "LA"), "PNG"), "right", grey_truth),
        Case("palette PNG, one colour transparent", encoded(indexed, "PNG", transparency=0), "right", of_palette),
        Case("palette PNG, an alpha a colour", encoded(indexed, "PNG", transparency=b"\0\xff"), "right", of_palette),
        Case("RGB PNG with a key colour", encoded(keyed, "PNG", transparency=(0, 0, 0)), "right",
             np.where(cut, 255, np.maximum(photo(), 1))),
        Case("16-bit grey PNG with a key colour", deep_png(wide, 0, (1000,)), "right", wide_truth),
        Case("16-bit RGB PNG with a key colour", deep_png(wide.repeat(3, 2), 2, (1000,) * 3), "right", wide_truth),
        Case("16-bit RGBA PNG", deep_png(rgba.astype(np.uint16) * 257, 6), "right", truth),
        Case("transparent GIF", encoded(indexed, "GIF", transparency=0), "right", of_palette),
        Case("RGBA WebP", encoded(image, "WEBP", lossless=True, exact=True), "right", truth),
        Case("lossy WebP with alpha", encoded(Image.fromarray(grey, "LA").convert("RGBA"), "WEBP", **soft), "right",
             grey_truth, 8),
        Case("RGBA TIFF", encoded(image, "TIFF"), "right", truth),
        Case("RGBA AVIF", encoded(image, "AVIF", quality=100, subsampling="4:4:4"), "right", truth, 8),
    ]  # fmt: skip


def deep() -> list[Case]:
    """More than 8 bits a channel."""
    wide = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    truth = ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
    grey, grey_truth = wide[:, :, 0], truth[:, :, :1].repeat(3, axis=2)
    size = {256: (WIDTH,), 257: (HEIGHT,), 259: (1,), 278: (HEIGHT,), 273: (0,)}
    rgb16 = size | {258: (16, 16, 16), 262: (2,), 277: (3,), 279: (wide.nbytes,)}
    pgm = b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + grey.astype(">u2").tobytes()
    float_ = Image.fromarray(grey.astype(np.float32) / 65535)
    int32, small = (Image.fromarray(array.astype(np.int32)) for array in (grey * np.int32(9), truth[:, :, 0]))
    return [
        Case("16-bit grey PNG", encoded(Image.fromarray(grey), "PNG"), "right", grey_truth),
        Case("16-bit grey TIFF", encoded(Image.fromarray(grey), "TIFF"), "right", grey_truth),
        Case("16-bit grey PGM", pgm, "right", grey_truth),
        Case("16-bit RGB PNG", deep_png(wide, 2), "right", truth, 1),
        Case("16-bit RGB TIFF", tiff(rgb16, wide.astype("<u2").tobytes()), "right", truth, 1),
        Case("float TIFF", encoded(float_, "TIFF"), "refused", reason="decimal numbers"),
        Case("32-bit TIFF", encoded(int32, "TIFF"), "refused", reason="32-bit"),
        Case("32-bit TIFF of 8-bit values", encoded(small, "TIFF"), "refused", reason="32-bit"),
    ]  # fmt: skip


def modes() -> list[Case]:
    """Opaque pictures of 8 bits that are not RGB, or not in a usual format."""
    image, truth = Image.fromarray(photo()), photo()
    grey = np.asarray(image.convert("L").convert("RGB"))
    bilevel = image.convert("1")
    black_white = np.asarray(bilevel.convert("RGB"))
    colors = image.quantize(16)
    of_palette = np.asarray(colors.convert("RGB"))
    profile = ImageCms.createProfile
    muted = truth // 3 + 60  # 8-bit LAB holds no strong blue
    lab = ImageCms.profileToProfile(Image.fromarray(muted), profile("sRGB"), profile("LAB"), outputMode="LAB")
    fine = {"quality": 100, "subsampling": 0}
    avif = encoded(image, "AVIF", quality=100, subsampling="4:4:4")
    two = {"save_all": True, "append_images": [Image.new("RGB", image.size)]}
    return [
        Case("CMYK JPEG", encoded(image.convert("CMYK"), "JPEG", **fine), "right", truth, 4, plain=True),
        Case("CMYK TIFF", encoded(image.convert("CMYK"), "TIFF"), "right", truth, plain=True),
        Case("grey JPEG", encoded(image.convert("L"), "JPEG", quality=100), "right", grey, 2, plain=True),
        Case("bilevel PNG", encoded(bilevel, "PNG"), "right", black_white, plain=True),
        Case("fax TIFF", encoded(bilevel, "TIFF", compression="group4"), "right", black_white, plain=True),
        Case("palette PNG", encoded(colors, "PNG"), "right", of_palette, plain=True),
        Case("palette BMP", encoded(colors, "BMP"), "right", of_palette, plain=True),
        Case("LAB TIFF", encoded(lab, "TIFF"), "right", muted, 6, plain=True),
        Case("BMP", encoded(image, "BMP"), "right", truth, plain=True),
        Case("MPO of a stereo camera", encoded(image, "MPO", **fine, **two), "right", truth, 4, plain=True),
        Case("PSD cover", psd(truth), "right", truth, plain=True),
        Case("progressive JPEG", encoded(image, "JPEG", progressive=True, **fine), "right", truth, 4, plain=True),
        Case("AVIF", avif, "right", truth, 6, plain=True, file_name="photo.avif"),
        Case("AVIF named .jpg", avif, "right", truth, 6, plain=True),
        Case("PNG named .jpg", encoded(image, "PNG"), "right", truth, plain=True),
    ]  # fmt: skip


def turned() -> list[Case]:
    """EXIF orientation of every kind, and EXIF data that are broken."""
    upright = Image.fromarray(photo())
    stored_by = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the transposition that undoes it
    fine = {"quality": 100, "subsampling": 0}
    made = []
    for orientation in range(1, 9):
        stored = upright.transpose(Image.Transpose(stored_by[orientation])) if orientation > 1 else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(stored, "JPEG", exif=exif, **fine)
        made.append(Case(f"EXIF orientation {orientation}", data, "right", photo(), 4, plain=True))
    for name, exif_bytes in (
        ("cut", b"Exif\0\0II*\0\xff\xff\xff\xff"),
        ("of noise", b"Exif\0\0garbage"),
        ("empty", b"Exif\0\0"),
    ):
        data = encoded(upright, "JPEG", exif=exif_bytes, **fine)
        made.append(Case(f"EXIF data {name}", data, "right", photo(), 4, plain=True))
    return made


def moving() -> list[Case]:
    """Several frames: the first counts."""
    first = Image.fromarray(photo()).quantize(16)
    rest = {"save_all": True, "append_images": [Image.new("RGB", first.size, color) for color in ("red", "blue")]}
    truth, rgb = np.asarray(first.convert("RGB")), first.convert("RGB")
    return [
        Case("animated GIF", encoded(first, "GIF", **rest), "right", truth, plain=True),
        Case("animated WebP", encoded(rgb, "WEBP", lossless=True, **rest), "right", truth, plain=True),
        Case("animated PNG", encoded(rgb, "PNG", **rest), "right", truth, plain=True),
        Case("TIFF of several pages", encoded(rgb, "TIFF", **rest), "right", truth, plain=True),
    ]


def profiles() -> list[Case]:
    """Colour profiles: not applied, as nothing on the way does, and of any size."""
    image, truth = Image.fromarray(photo()), photo()
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = usual + bytes(3_000_000)  # of a press; Pillow gives up above 1 MB in a PNG
    broken = (b"iCCP", b"no end of the name")
    lines = zlib.compress(b"".join(b"\0" + line.tobytes() for line in truth))
    jpeg = {"format": "JPEG", "quality": 100, "subsampling": 0}
    webp = encoded(image, "WEBP", lossless=True, icc_profile=large)
    return [
        Case("JPEG with a profile", encoded(image, icc_profile=usual, **jpeg), "right", truth, 4, plain=True),
        Case("JPEG with 3 MB of profile", encoded(image, icc_profile=large, **jpeg), "right", truth, 4, plain=True),
        Case("PNG with a profile", encoded(image, "PNG", icc_profile=usual), "right", truth, plain=True),
        Case("PNG with 3 MB of profile", encoded(image, "PNG", icc_profile=large), "right", truth),
        Case("PNG with a broken profile", png((WIDTH, HEIGHT), 8, 2, lines, [broken]), "right", truth),
        Case("WebP with 3 MB of profile", webp, "right", truth, plain=True),
    ]


def damaged() -> list[Case]:
    """Files that were pictures once."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    made = []
    for name, format, options in (
        ("JPEG", "JPEG", {}), ("progressive JPEG", "JPEG", {"progressive": True}), ("PNG", "PNG", {}),
        ("GIF", "GIF", {}), ("WebP", "WEBP", {}), ("AVIF", "AVIF", {}), ("TIFF", "TIFF", {}),
    ):  # fmt: skip
        data = encoded(noise, format, **options)
        made.append(
            Case(f"{name} cut short", data[: len(data) * 2 // 3], "refused", reason="damaged|cut short|opened")
        )
    jpeg, whole = encoded(noise, "JPEG"), encoded(noise, "PNG")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    table = bytearray(jpeg)
    table[table.index(b"\xff\xc4") + 5] ^= 0x80  # counts of codes in a Huffman table
    bad_tags = b"II*\0" + struct.pack("<IH", 8, 3) + struct.pack("<HHII", 256, 2, 9, 2**31) * 3
    return [
        *made,
        Case("JPEG of its first bytes", jpeg[:20], "refused", reason="damaged|cut short"),
        Case("bit flip in the tables of a JPEG", bytes(table), "refused", reason="damaged"),
        Case("bit flip in the pixels of a PNG", bytes(flipped), "refused", reason="damaged"),
        Case("bad TIFF", bad_tags, "refused", reason="damaged|opened"),
    ]


def strangers() -> list[Case]:
    """Files that never were pictures, or not of a kind that is read."""
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    html = b"<!DOCTYPE html><html><body><svg></svg>404: not found</body></html>"
    heic = struct.pack(">I", 24) + b"ftypheic" + b"\0\0\0\0mif1heic" + bytes(100)
    contents = {"0 bytes": (b"", "empty"), "HTML page": (html, "HTML"), "SVG": (svg, "SVG"), "EPS": (eps, "EPS"),
                "HEIC": (heic, "HEIC"), "git-lfs pointer": (lfs, "git lfs pull"), "PDF": (b"%PDF-1.7\n", "PDF"),
                "zip": (b"PK\x03\x04" + bytes(30), "zip"), "text": (b"file not found\n", "not a picture")}  # fmt: skip
    return [Case(name, data, "refused", reason=reason) for name, (data, reason) in contents.items()]


def bombs() -> list[Case]:
    """Small files that would take much memory."""
    side = 13_350  # 178 megapixels, just under Pillow's own limit
    lines = zlib.compress(b"".join(b"\0" + line.tobytes() for line in photo()))
    text = (b"zTXt", b"Comment\0\0" + zeros(64_000_000))
    tile = {256: (16,), 257: (16,), 258: (8,), 259: (8,), 262: (1,), 277: (1,), 322: (30_000,), 323: (30_000,)}
    tiles = tile | {324: (0,), 325: (10**6,)}
    largest = png((side, side), 8, 2, zeros(side * (3 * side + 1)))
    large = png((6500, 4000), 8, 2, zeros(4000 * (3 * 6500 + 1)))
    return [
        Case("178 megapixels in 500 KB", largest, "refused", reason=f"{side} x {side} is more than the limit"),
        Case("26 megapixels", large, "refused", reason="too many pixels"),
        Case("more pixels than Pillow takes", png((60_000, 60_000), 8, 2, b""), "refused", reason="too many pixels"),
        Case("text bomb in a PNG", png((WIDTH, HEIGHT), 8, 2, lines, [text]), "refused", reason="too large"),
        Case("TIFF with a tile of 900 MP", tiff(tiles, zeros(900_000_000)), "refused", reason="30000 x 30000"),
    ]


def odd_shapes() -> list[Case]:
    """Pictures that are right, and hardly photos."""
    made = []
    for width, height in ((1, 1), (3, 3), (4, 1), (20_000, 1), (1, 20_000), (2000, 20)):
        truth = np.full((height, width, 3), 90, dtype=np.uint8)
        reason = "under 16 px" if min(width, height) < 16 else "more than 20 times"
        data = encoded(Image.fromarray(truth), "PNG")
        made.append(Case(f"{width} x {height}", data, "reported", truth, reason=reason, plain=True))
    return made


def odd_names() -> list[Case]:
    """A usual photo under a name that trips path handling."""
    data, truth = encoded(Image.fromarray(photo()), "PNG"), photo()
    names = {
        "non-ASCII": "Jäckchen 黒い.png",
        "NFD": unicodedata.normalize("NFD", "Jäckchen.png"),
        "with glob characters": "a[1]*?{x,y}.png",
        "with percent": "100%25 wool.png",
        "with hash": "top #3.png",
        "with a newline": "two\nlines.png",
        "like a URL": "http:www.example.com&a=b.png",
        "not UTF-8": "\udce9t\udce9.png",
        "in capitals": "IMG_1.PNG",
        "without ending": "IMG_2",
        "with a query": "3.png?x=1",
        "a dotfile": ".photo.png",
        "of a Mac copy": "._photo.png",
    }
    return [Case(f"name {kind}", data, "right", truth, plain=True, file_name=name) for kind, name in names.items()]
