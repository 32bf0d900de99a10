"""Every bad picture is decoded right, refused with its reason, or reported; serving sees what training saw."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import bad_pictures
import numpy as np
import pytest
import tiny
import transformers
from datasets import Dataset, Features, Image

from hf_fashion import backbones, data, images
from hf_fashion.tasks import classify

# pytest sets its own filters in place of ours
pytestmark = [
    pytest.mark.filterwarnings("ignore:Corrupt EXIF"),
    pytest.mark.filterwarnings("ignore:Truncated File Read"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
CASES = bad_pictures.cases()
ACCEPTED = [case for case in CASES if case.wanted != "refused"]


def name(case):
    return case.name


@pytest.mark.parametrize("case", CASES, ids=name)
def test_every_case_comes_out_as_wanted(case, tmp_path):
    path = case.write(tmp_path)
    sources = [case.data, path, {"bytes": None, "path": str(path)}]
    with contextlib.suppress(Exception):  # some cannot be opened by Pillow alone
        sources.append(images.Image.open(path))
    for source in sources:
        if case.wanted == "refused":
            with pytest.raises(ValueError, match=case.reason):
                images.decode(source)
            continue
        decoded = images.decode(source)
        assert decoded.info == {} and case.difference(decoded) <= case.off
        oddity = images.odd_shape(decoded.size)
        assert case.reason in oddity if case.wanted == "reported" else oddity == ""


def test_pixels_of_a_case_that_goes_wrong_are_seen():
    """The bare conversion fails the test above, on the cases that it is known to fail on."""
    wrong = set()
    for case in ACCEPTED:
        try:
            bare = images.Image.open(images.BytesIO(case.data)).convert("RGB")
        except (OSError, ValueError, SyntaxError):
            continue
        if case.difference(bare) > case.off:
            wrong.add(case.name)
    assert {"RGBA PNG", "RGBA WebP", "transparent GIF", "EXIF orientation 3", "EXIF orientation 6"} <= wrong
    assert not {"BMP", "CMYK TIFF", "PSD cover", "animated GIF"} & wrong


@pytest.fixture(scope="module", params=["vit", "timm"])
def served(request, tmp_path_factory):
    folder = tiny.tiny(request.param, tmp_path_factory.mktemp("net"))
    processor = backbones.load_classifier(folder, labels=["a", "b", "c"])[1]
    return transformers.pipeline("image-classification", model=str(folder)), processor


def differences(seen, served, processor):
    """By how much of 255 the pixels differ that two nets are fed."""
    std = np.asarray(backbones.input_spec(processor).std)[:, None, None]
    return np.abs(seen.numpy() - served.numpy()) * std * 255


def trained_on(source, processor):
    rows = Dataset.from_dict(
        {"image": [source], "label": [0]}, features=Features({"image": Image(), "label": data.Value("int64")})
    )
    return classify.prepare(rows, processor)[0]["pixel_values"]


@pytest.mark.parametrize("case", ACCEPTED, ids=name)
def test_a_bare_pipeline_is_fed_what_training_saw(case, served, tmp_path):
    pipe, processor = served
    path = str(case.write(tmp_path))
    try:
        path.encode()
        source = {"bytes": None, "path": path}
    except UnicodeEncodeError:  # a table cannot hold it
        source = {"bytes": case.data, "path": None}
    seen = trained_on(source, processor)
    fed = pipe.preprocess(path if case.plain else images.decode(path))["pixel_values"][0]
    assert differences(seen, fed, processor).max() <= 1


def test_a_bare_pipeline_is_fed_something_else_by_path_when_a_garment_is_cut_out(served, tmp_path):
    pipe, processor = served
    case = next(case for case in CASES if case.name == "RGBA PNG")
    path = str(case.write(tmp_path))
    seen = trained_on({"bytes": None, "path": path}, processor)
    assert differences(seen, pipe.preprocess(path)["pixel_values"][0], processor).max() > 200


def test_a_folder_of_odd_names_is_read_and_the_rest_is_listed(tmp_path):
    names = {case.file_name for case in bad_pictures.odd_names()}
    unread = {"\udce9t\udce9.png", ".photo.png", "._photo.png"}
    for label in ("coat", "dress"):
        (tmp_path / label).mkdir()
        for number, file_name in enumerate(sorted(names)):
            tone = 40 + 10 * number + 5 * (label == "coat")
            shade = images.Image.new("RGB", (20, 20), (tone, 0, 0))
            (tmp_path / label / file_name).write_bytes(bad_pictures.encoded(shade, "PNG"))
    (tmp_path / "coat" / "page.jpg").write_text("<html>")
    dataset, report = data.load(tmp_path, classify.COLUMNS)
    read = {source for rows in dataset.values() for source in rows["source_row"]}
    assert read == {f"{label}/{file_name}" for label in ("coat", "dress") for file_name in names - unread}
    listed = {(finding.where, finding.level) for finding in report.findings}
    assert ("coat/page.jpg", "error") in listed and ("coat/\\udce9t\\udce9.png", "error") in listed
    assert ("coat/.photo.png", "note") in listed and ("coat/._photo.png", "note") in listed
    for rows in dataset.values():
        assert all(image.size == (20, 20) for image in map(images.decode, rows["image"]))


PEAK = """
import sys
from hf_fashion import images
for path in sys.argv[1:]:
    try:
        images.decode(path)
    except ValueError:
        pass
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(*paths):
    """Megabytes that a fresh process takes to decode these files."""
    printed = subprocess.run([sys.executable, "-c", PEAK, *paths], capture_output=True, text=True, check=True).stdout
    return int(printed) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_what_is_refused_takes_no_memory_and_what_is_accepted_at_most_500_mb(tmp_path):
    bombs = [str(case.write(tmp_path)) for case in bad_pictures.bombs()]
    assert peak(*bombs) < 150
    # The costliest of the formats: its decoder holds two canvases. A picture of one colour, whose size was changed.
    webp = bytearray(bad_pictures.encoded(images.Image.new("RGBA", (16, 16)), "WEBP", lossless=True))
    at = webp.index(b"VP8L") + 9
    webp[at : at + 4] = (4999 | 4999 << 14 | 1 << 28).to_bytes(4, "little")
    assert images.probe(bytes(webp)) == (5000, 5000)
    (tmp_path / "large.webp").write_bytes(webp)
    assert 200 < peak(str(tmp_path / "large.webp")) < 500


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match="pipe"):
        images.decode(tmp_path / "photo.jpg")
