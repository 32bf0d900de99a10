"""JPEG, which is decoded in ways of its own: the pixels and the reasons are Pillow's, with the extra `fast` or not."""

import base64
import sys
from io import BytesIO

import numpy as np
import pyarrow  # noqa: F401 (so that it is there to be taken)
import pytest
from bad_pictures import encoded
from PIL import Image, ImageOps

from hf_fashion import images

_ENCODED = {  # 35 x 19 pixels, of kinds that Pillow does not write; by cjpeg of libjpeg-turbo
    "4:1:1": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wCDEAAoABwAHgAjAB4AGQAoACMAIQAjAC0AKwAoADAAPABkAEEAPAA3ADcAPAB7AFgAXQBJ"
        "AGQAkQCAAJkAlgCPAIAAjACKAKAAtADmAMMAoACqANoArQCKAIwAyAERAMsA2gDuAPUBAgEEAQIAmwDBARsBLwEYAPoBLADmAP0B"
        "AgD4/9sAQwErLS08NTx2QUF2+KWMpfj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4/8EA"
        "EQgAEwAjAwFBAAIRAQMRAf/EABgAAQEBAQEAAAAAAAAAAAAAAAADAgEF/8QAHhAAAgICAgMAAAAAAAAAAAAAAAECAxFhEyExQVH/"
        "xAAYAQADAQEAAAAAAAAAAAAAAAACBAUBA//EABsRAAEFAQEAAAAAAAAAAAAAAAABAgMREhMh/9oADAMBAAIRAxEAPwDzI1FI1FI0"
        "6KRo0YiaO0TynBoABchvZiNRaNRRVpeuzSrbAR1N8JcTjao0AAeQ3slBItFLB2CXwrjC6BvxCbEdUVjwABekHbP/2Q=="
    ),
    "4:4:0": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wCDEAAoABwAHgAjAB4AGQAoACMAIQAjAC0AKwAoADAAPABkAEEAPAA3ADcAPAB7AFgAXQBJ"
        "AGQAkQCAAJkAlgCPAIAAjACKAKAAtADmAMMAoACqANoArQCKAIwAyAERAMsA2gDuAPUBAgEEAQIAmwDBARsBLwEYAPoBLADmAP0B"
        "AgD4/9sAQwErLS08NTx2QUF2+KWMpfj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4/8EA"
        "EQgAEwAjAwESAAIRAQMRAf/EABgAAQEBAQEAAAAAAAAAAAAAAAQAAwEF/8QAHhAAAgICAgMAAAAAAAAAAAAAAAECAxFhEyExQVH/"
        "xAAYAQEAAwEAAAAAAAAAAAAAAAADAAIEBf/EAB0RAAMAAgIDAAAAAAAAAAAAAAABAgMREjETQYL/2gAMAwEAAhEDEQA/APMjUNjU"
        "Gq2CsoaNQ+NQiWxVlCRp0PVaXrsj4z2xJyhI0aGqtsryn0hllDcGhio0T5L+UygkQEHCRtFLBGnqWIjsEvhGWBka4wuiL5W1C0LJ"
        "1RWPBAJCn//Z"
    ),
    "arithmetic": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wCDEAAoABwAHgAjAB4AGQAoACMAIQAjAC0AKwAoADAAPABkAEEAPAA3ADcAPAB7AFgAXQBJ"
        "AGQAkQCAAJkAlgCPAIAAjACKAKAAtADmAMMAoACqANoArQCKAIwAyAERAMsA2gDuAPUBAgEEAQIAmwDBARsBLwEYAPoBLADmAP0B"
        "AgD4/9sAQwErLS08NTx2QUF2+KWMpfj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4/8oA"
        "EQgAEwAjAwEiAAIRAQMRAf/MAAYAEAEQ/9oADAMBAAIQAxAAAAH9m3Fd9YJ4p8JfMVWtnBGuveVLpKCkgP/MAAQQBf/aAAgBAQAB"
        "BQKWEwQ8/8wABBEF/9oACAEDAQE/ARBgbXyY/8wABBEF/9oACAECAQE/AQnakzMYH9j/zAAEEAX/2gAIAQEABj8CsP/MAAQQBf/a"
        "AAgBAQABPyHfqhpQjBLA/9oADAMBAAIAAwAAABDVL3Qw6P/MAAQRBf/aAAgBAwEBPxAV8P/MAAQRBf/aAAgBAgEBPxBfOGe4ehQ7"
        "hP/MAAQQBf/aAAgBAQABPxAGsw2+lbfyiJvG41vQWGDEHbh//9k="
    ),
}
WAYS = ("pillow", "turbo", "turbo without pyarrow")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(images, "TURBO", False)
    elif not images.TURBO:
        pytest.skip("simplejpeg is not installed")
    if request.param == "turbo without pyarrow":
        monkeypatch.delitem(sys.modules, "pyarrow")
    return request.param


def photo(height=33, width=65, seed=0):
    """Soft shapes under noise: every coefficient and every step of colour is used."""
    y, x = np.mgrid[:height, :width]
    soft = np.stack([x * 5 % 256, y * 7 % 256, x * y % 256], axis=2)
    return Image.fromarray((soft // 2 + np.random.default_rng(seed).integers(0, 128, soft.shape)).astype(np.uint8))


def jpeg(image=None, **options):
    return encoded(image or photo(), "JPEG", **options)


def turned(orientation, image=None, **options):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "of a camera"
    return jpeg(image, exif=exif, **options)


def kinds():
    made = {name: base64.b64decode(text) for name, text in _ENCODED.items()}
    for height, width in ((1, 1), (7, 9), (16, 16), (33, 65)):
        for name, subsampling in (("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
            made[f"{name}, {width} x {height}"] = jpeg(photo(height, width), subsampling=subsampling)
    made |= {
        "progressive": jpeg(progressive=True), "grey": jpeg(photo().convert("L")), "of RGB": jpeg(keep_rgb=True),
        "CMYK": jpeg(photo().convert("CMYK")), "with restart markers": jpeg(restart_marker_blocks=1),
        "of quality 1": jpeg(quality=1), "with a tail": jpeg() + b"tail" * 50,
        "two in one": jpeg() + jpeg(photo(seed=1)),
        "MPO": encoded(photo(), "MPO", save_all=True, append_images=[photo(seed=1)]),
        "extraneous bytes": (whole := jpeg(restart_marker_blocks=2)).replace(b"\xff\xd1", b"\x07\x07\xff\xd1", 1),
        "fill bytes": whole.replace(b"\xff\xda", b"\xff\xff\xda", 1),
        "grey, turned": turned(8, photo().convert("L")), "CMYK, turned": turned(5, photo().convert("CMYK")),
    }  # fmt: skip
    made |= {f"turned {number}": turned(number, subsampling=2 * (number % 2)) for number in range(1, 9)}
    return made


KINDS = kinds()


def of_pillow(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_pillows_to_the_bit(kind, way, tmp_path):
    (tmp_path / "a.jpg").write_bytes(KINDS[kind])
    expected = of_pillow(KINDS[kind])
    for source in (KINDS[kind], bytearray(KINDS[kind]), tmp_path / "a.jpg", {"bytes": KINDS[kind], "path": None}):
        decoded, array = images.decode(source), images.pixels(source)
        assert type(decoded) is Image.Image and decoded.mode == "RGB"
        assert not decoded.info and not decoded.getexif()  # neither a place nor a camera
        assert np.array_equal(np.asarray(decoded), expected) and np.array_equal(array, expected)
        assert array.dtype == np.uint8 and array.flags["W"] and array.flags["C"]


@pytest.mark.parametrize("at", [3, 20, 200, 0.3, 0.7, 0.98, -2, -1])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
def test_what_is_cut_short_is_refused_with_the_reason_of_pillow(at, options, way, monkeypatch):
    data = jpeg(photo(120, 90), **options)
    cut = data[: int(at * len(data)) if isinstance(at, float) else at]
    told = []
    for read in (images.decode, images.pixels):
        with pytest.raises(ValueError) as error:
            read(cut)
        told.append(str(error.value))
    try:
        Image.open(BytesIO(cut)).load()
    except Image.UnidentifiedImageError:
        expected = "a picture whose header is damaged or cut short"
    except OSError as error:
        expected = str(error)
    assert told[0] == told[1] and expected in told[0]


def test_bits_that_flip_are_seen_as_pillow_sees_them(way):
    random, outcomes = np.random.default_rng(0), set()
    for number in range(400):
        flipped = bytearray(KINDS[("4:2:0, 65 x 33", "progressive", "with restart markers")[number % 3]])
        flipped[random.integers(2, len(flipped))] ^= 1 << int(random.integers(8))
        try:
            image = Image.open(BytesIO(flipped), formats=["JPEG"])
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except Exception:
            expected = None
        for read in (images.decode, images.pixels):
            try:
                seen = np.asarray(read(bytes(flipped)))
            except ValueError:
                seen = None
            assert (seen is None) == (expected is None) and (seen is None or np.array_equal(seen, expected))
        outcomes.add(expected is None)
    assert outcomes == {True, False}


def test_turbo_decodes_what_it_has_nothing_against(monkeypatch):
    simplejpeg = pytest.importorskip("simplejpeg")
    taken = []
    plain = simplejpeg.decode_jpeg

    def decode_jpeg(*args, **options):
        array = plain(*args, **options)
        taken.append(array.shape)
        return array

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode_jpeg)
    for kind, count in (("4:2:0, 65 x 33", 2), ("arithmetic", 2), ("MPO", 2), ("turned 6", 2), ("grey", 1),
                        ("CMYK", 0), ("extraneous bytes", 0)):  # fmt: skip
        taken.clear()
        images.decode(KINDS[kind]), images.pixels(KINDS[kind])
        assert len(taken) == count, kind


def test_the_result_is_the_callers_own(way):
    decoded, again = images.decode(KINDS["4:2:0, 65 x 33"]), images.decode(KINDS["4:2:0, 65 x 33"])
    decoded.paste((1, 2, 3), (0, 0, 65, 33))
    assert decoded.getpixel((64, 32)) == (1, 2, 3)
    expected = Image.fromarray(of_pillow(KINDS["4:2:0, 65 x 33"]))
    del decoded
    for done in (lambda one: one.copy(), lambda one: one.resize((20, 10)), lambda one: one.crop((3, 4, 60, 30)),
                 lambda one: one.convert("L"), lambda one: one.rotate(30)):  # fmt: skip
        assert np.array_equal(np.asarray(done(again)), np.asarray(done(expected)))


def test_limits_hold_before_anything_is_decoded(way, monkeypatch):
    monkeypatch.setattr(images, "_content", lambda image: pytest.fail("it was read"))
    for options in ({}, {"at_least": 4}):
        with pytest.raises(ValueError, match="too many pixels"):
            images.decode(jpeg(), limits=images.Limits(max_pixels=33 * 65 - 1), **options)
    with pytest.raises(ValueError, match="too many pixels"):
        images.pixels(jpeg(), limits=images.Limits(max_pixels=33 * 65 - 1))


@pytest.mark.parametrize(
    ("at_least", "size"), [(600, (800, 600)), (301, (800, 600)), (300, (400, 300)), (80, (200, 150)), (1, (100, 75))]
)
def test_a_jpeg_comes_out_smaller_where_that_is_enough(at_least, size, way):
    y, x = np.mgrid[:600, :800]
    soft = Image.fromarray(np.stack([x // 4, y // 3, (x + y) // 6], axis=2).astype(np.uint8))
    for data, turn in ((jpeg(soft), False), (turned(6, soft), True), (jpeg(soft.convert("L")), False)):
        decoded = images.decode(data, at_least=at_least)
        assert decoded.size == (size[::-1] if turn else size) and decoded.mode == "RGB"
        small = np.asarray(images.decode(data).resize(decoded.size, Image.Resampling.BOX)).astype(int)
        assert np.abs(np.asarray(decoded) - small).max() <= 6
    assert images.decode(jpeg(soft.crop((0, 0, 799, 600))), at_least=at_least).size == (799, 600)  # proportions stay
    assert images.decode(encoded(soft), at_least=at_least).size == (800, 600)  # a PNG is decoded whole in any case
    with pytest.raises(ValueError, match="truncated"):
        images.decode(jpeg(soft)[:3000], at_least=at_least)


def test_pixels_are_those_of_decode_whatever_comes():
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    image, grey = Image.fromarray(noise), Image.fromarray(noise[:, :, 0])
    for source in (noise, noise[:, :, 0], image, encoded(image), encoded(image, "WEBP"), encoded(grey, "TIFF")):
        for background in ((255, 255, 255), (9, 99, 199)):
            array = images.pixels(source, background=background)
            assert np.array_equal(array, np.asarray(images.decode(source, background=background)))
    with pytest.raises(ValueError, match="no picture"):
        images.pixels(None)
