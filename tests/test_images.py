"""The one decoder: the same RGB pixels for every kind of picture, or a ValueError that says why not."""

import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import bad_pictures
import numpy as np
import pytest
from bad_pictures import encoded
from PIL import EpsImagePlugin, Image, ImageCms, ImageFile

from hf_fashion import images
from hf_fashion.errors import InputError


def noise(height=20, width=30, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png(width, height, depth=8, color=0):
    """A PNG file that is all header: its size is claimed, its pixels are missing."""
    return bad_pictures.png((width, height), depth, color, zlib.compress(b""))


def test_all_ways_in_give_the_same_pixels(tmp_path):
    image = Image.fromarray(noise())
    data = encoded(image)
    path = tmp_path / "ä b#%.jpg"  # the content decides, not the ending
    path.write_bytes(data)
    sources = [
        data,
        path,
        str(path),
        image,
        noise(),
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(path)},
    ]
    for source in sources:
        decoded = images.decode(source)
        assert decoded.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(decoded), noise())


def test_the_callers_image_is_not_changed():
    image = Image.fromarray(noise())
    images.decode(image).putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(image), noise())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa", "PA"])
def test_transparency_shows_white(mode):
    assert images.decode(Image.new(mode, (3, 2))).getpixel((0, 0)) == (255, 255, 255)


def test_transparency_blends_with_the_background_set():
    image = Image.new("RGBA", (3, 2), (0, 0, 0, 51))
    assert images.decode(image, background=(200, 100, 0)).getpixel((1, 1)) == (160, 80, 0)
    assert images.decode(encoded(image, "WEBP", lossless=True), background=(255, 0, 0)).getpixel((1, 1)) == (204, 0, 0)


def test_transparency_of_palettes_and_key_colours():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 0)
    for transparency in (0, b"\x00\xff"):
        decoded = images.decode(encoded(palette, transparency=transparency))
        assert [decoded.getpixel((0, 0)), decoded.getpixel((1, 1))] == [(255, 255, 255), (10, 20, 30)]
    for image, key in ((Image.new("RGB", (4, 4), (9, 9, 9)), (9, 9, 9)), (Image.new("L", (4, 4), 9), 9)):
        assert images.decode(encoded(image, transparency=key)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled():
    array = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    expected = [0, 1, 128, 255]
    image = Image.fromarray(array)
    for source in (array, image, encoded(image), encoded(image, "TIFF"), Image.fromarray(array.astype(np.int32))):
        decoded = np.asarray(images.decode(source))
        assert decoded[0, :, 0].tolist() == expected
        assert (decoded == decoded[:, :, :1]).all()
    assert np.asarray(images.decode(np.full((2, 2, 3), 65535, dtype=np.uint16))).tolist() == [[[255] * 3] * 2] * 2


def test_pixels_without_a_known_range_are_refused():
    with pytest.raises(ValueError, match="decimal numbers"):
        images.decode(encoded(Image.new("F", (3, 3), 0.5), "TIFF"))
    for value in (70000, -1):
        with pytest.raises(ValueError, match="32-bit pixels"):
            images.decode(encoded(Image.fromarray(np.full((3, 3), value, dtype=np.int32)), "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_are_converted_as_pillow_does(mode):
    image = Image.fromarray(noise()).convert(mode)
    np.testing.assert_array_equal(np.asarray(images.decode(image)), np.asarray(image.convert("RGB")))


def test_lab_colours():
    rgb = Image.new("RGB", (4, 4), (200, 60, 90))
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    decoded = images.decode(encoded(ImageCms.applyTransform(rgb, to_lab), "TIFF"))
    assert np.abs(np.subtract(decoded.getpixel((0, 0)), (200, 60, 90))).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_orientation_turns_once(orientation, format):
    upright = Image.fromarray(noise())
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that stores a picture so, by PIL's numbers
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = images.decode(encoded(stored, format, exif=exif))
    np.testing.assert_array_equal(np.asarray(decoded), noise())
    np.testing.assert_array_equal(np.asarray(images.decode(decoded)), noise())


@pytest.mark.parametrize("exif", [b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00garbage", b"Exif\x00\x00"])
@pytest.mark.filterwarnings(
    "ignore:Corrupt EXIF"
)  # pytest sets its own filters; ours is tested in a process of its own
def test_broken_exif_is_ignored(exif):
    assert images.decode(encoded(Image.new("RGB", (20, 10), (90, 90, 90)), "JPEG", exif=exif)).size == (20, 10)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    red, _, blue = images.decode(data).getpixel((4, 4))
    assert red > 200 > 50 > blue


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_cut_short(format):
    data = encoded(Image.fromarray(noise(100, 100)), format)
    with pytest.raises(ValueError):
        images.decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"\xef\xbb\xbf\n<html>", "HTML"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "SVG"),
        (b"<?xml version='1.0'?><a/>", "XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"),
        (b"PK\x03\x04zip", "zip"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"plain text, not a picture at all", "not a picture"),
    ],
)
def test_what_is_no_picture_is_named(data, reason, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for source in (data, path):
        for read in (images.decode, images.probe):
            with pytest.raises(ValueError, match=reason):
                read(source)


@pytest.mark.parametrize("source", [None, 3, {"bytes": None, "path": None}, {}, [1, 2]])
def test_no_picture_at_all(source):
    with pytest.raises(ValueError, match="no picture"):
        images.decode(source)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        images.decode(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="a folder"):
        images.decode(tmp_path)


def test_pixel_limit_holds_before_decoding():
    # Its pixels are missing: were they asked for first, the reason would be another one.
    with pytest.raises(ValueError, match="6000 x 5000 is more than the limit of 25000000"):
        images.decode(png(6000, 5000))
    with pytest.raises(ValueError, match="too many pixels"):
        images.decode(png(20000, 20000), limits=images.Limits(max_pixels=10**9))  # Pillow's own limit
    with pytest.raises(ValueError, match="too many pixels"):
        images.decode(noise(), limits=images.Limits(max_pixels=599))
    with pytest.raises(ValueError, match="too many pixels"):
        images.decode(Image.fromarray(noise()), limits=images.Limits(max_pixels=599))
    assert images.decode(noise(), limits=images.Limits(max_pixels=600)).size == (30, 20)


def test_file_size_limit_holds_before_reading(tmp_path):
    path = tmp_path / "large.jpg"
    with open(path, "wb") as file:
        file.truncate(images.LIMITS.max_bytes + 1)  # of no bytes on the disk
    for source in (path, {"bytes": None, "path": str(path)}, bytes(images.LIMITS.max_bytes + 1)):
        with pytest.raises(ValueError, match="100000001 bytes are more than the limit of 100000000"):
            images.decode(source)
    data = encoded(Image.fromarray(noise()))
    with pytest.raises(ValueError, match="the file is too large"):
        images.decode(data, limits=images.Limits(max_bytes=len(data) - 1))
    assert images.decode(data, limits=images.Limits(max_bytes=len(data))).size == (30, 20)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((15, 300), "15 x 300 px: the shorter side is under 16 px"),
        ((16, 320), ""),
        ((320, 16), ""),
        ((321, 16), "321 x 16 px: one side is more than 20 times the other"),
    ],
)
def test_odd_shapes_are_told_and_decoded(size, reason):
    assert images.odd_shape(size) == reason
    assert images.decode(Image.new("RGB", size)).size == size
    assert images.odd_shape(size, images.Limits(min_side=1, max_aspect=1000)) == ""


@pytest.mark.parametrize("value", [0, -1, float("nan")])
@pytest.mark.parametrize("name", ["max_pixels", "max_bytes", "min_side", "max_aspect"])
def test_a_limit_below_one_is_refused(name, value):
    with pytest.raises(InputError, match=name):
        images.Limits(**{name: value})


def test_no_drawing_starts_ghostscript_however_it_is_given(monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: pytest.fail("Ghostscript was started"))
    with pytest.raises(ValueError, match="EPS"):
        images.decode(Image.open(BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")))


@pytest.mark.parametrize("depth", [2, 4])
def test_the_key_colour_of_shallow_grey_is_transparent(depth):
    key = 1
    row = bytes([0b00_01_10_11] if depth == 2 else [0x01, 0x23])
    lines = zlib.compress(b"\0" + row)
    data = bad_pictures.png((4, 1), depth, 0, lines, [(b"tRNS", struct.pack(">H", key))])
    step = 255 // (2**depth - 1)
    assert np.asarray(images.decode(data))[0, :, 0].tolist() == [0, 255, 2 * step, 3 * step]


def test_a_palette_without_colours_is_refused():
    image = Image.new("P", (3, 3))
    image.palette = None
    with pytest.raises(ValueError, match="mode P"):
        images.decode(image)


def test_jpeg_2000_with_transparency_has_a_lower_limit_of_pixels():
    data = encoded(Image.new("RGBA", (30, 20)), "JPEG2000")
    assert images.decode(data, limits=images.Limits(max_pixels=800)).size == (30, 20)
    with pytest.raises(ValueError, match="too many pixels"):
        images.decode(data, limits=images.Limits(max_pixels=799))


def test_arrays():
    grey = noise(channels=1)
    for array in (grey, grey[:, :, 0], grey[:, :, [0, 0, 0]], np.asfortranarray(grey[:, :, 0])):
        np.testing.assert_array_equal(np.asarray(images.decode(array)), grey.repeat(3, axis=2))
    assert images.decode(np.zeros((2, 3, 4), dtype=np.uint8)).getpixel((0, 0)) == (255, 255, 255)
    for array in (np.zeros((3, 4)), np.zeros((3, 4), dtype=bool), np.zeros((3, 4), dtype=np.int64)):
        with pytest.raises(ValueError, match="uint8 or uint16"):
            images.decode(array)
    for shape in ((3, 20, 30), (5,), (0, 4, 3), (2, 2, 2, 3)):
        with pytest.raises(ValueError, match="must be"):
            images.decode(np.zeros(shape, dtype=np.uint8))


def test_probe_gives_the_stored_size():
    assert images.probe(encoded(Image.fromarray(noise()), "JPEG")) == (30, 20)


def test_many_threads_at_once():
    sources = [encoded(Image.fromarray(noise(seed=seed)), "PNG") for seed in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for seed, decoded in enumerate(pool.map(images.decode, sources)):
            np.testing.assert_array_equal(np.asarray(decoded), noise(seed=seed))


def test_no_warning_of_pillow_comes_through_and_its_limit_stays(tmp_path):
    (tmp_path / "large.png").write_bytes(png(10000, 10000))  # Pillow warns above 89 million pixels
    code = (
        "import PIL.Image, sys; before = PIL.Image.MAX_IMAGE_PIXELS; from hf_fashion import images\n"
        "try: images.decode(sys.argv[1])\n"
        "except ValueError as error: print(error, PIL.Image.MAX_IMAGE_PIXELS == before)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "large.png")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == "" and "limit of 25000000" in result.stdout and "True" in result.stdout


def icon(picture):
    """An .ico whose header says 16 x 16, whatever the picture in it is."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture), 22) + picture


def mac_icon(picture):
    return b"icns" + struct.pack(">I", 16 + len(picture)) + b"ic07" + struct.pack(">I", 8 + len(picture)) + picture


def texture(picture):
    """A BLP whose header says 64 x 64; the JPEG in it is decoded whole."""
    places = struct.pack("<32I", 160, *[0] * 15, len(picture), *[0] * 15)
    return b"BLP1" + struct.pack("<iIIIii", 0, 0, 64, 64, 0, 0) + places + bytes(4) + picture


@pytest.mark.parametrize("made, told", [
    (icon, "an icon (ICO)"), (mac_icon, "an icon (ICNS)"), (texture, "a texture of a game (BLP)"),
])  # fmt: skip
def test_a_file_whose_header_does_not_say_what_is_decoded_is_refused_by_it(made, told, monkeypatch):
    """Their pictures may be of any size: 650 KB took 700 MB, 2 MB took 2 GB, with the limits on."""
    buffer = BytesIO()
    Image.new("RGB", (5100, 5100)).save(buffer, "JPEG" if made is texture else "PNG")
    loaded = []
    plain = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: (loaded.append(image.size), plain(image))[1])
    for read in (images.probe, images.decode):
        with pytest.raises(ValueError, match=re.escape(told)):
            read(made(buffer.getvalue()))
    assert not loaded


def test_of_a_large_file_that_is_no_picture_only_the_beginning_is_read(tmp_path):
    """A film in a folder of photos: 3 GB of it were read into memory, to say that it is no picture."""
    with (tmp_path / "film.mp4").open("wb") as file:
        file.write(b"\0\0\0\x18ftypisom")
        file.truncate(100 * 2**20)
    tracemalloc.start()
    with pytest.raises(ValueError, match="not a picture"):
        images.probe(tmp_path / "film.mp4")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20
