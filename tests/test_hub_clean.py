"""What leaves with a push: canaries that must not, pictures bare of metadata and else the same, what must go along."""

import importlib.util
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_fashion import images
from hf_fashion.errors import InputError
from hf_fashion.hub import clean, pictures, secrets

_SPEC = importlib.util.spec_from_file_location(
    "push_canaries", Path(__file__).parents[1] / "benchmarks" / "push_canaries.py"
)
canaries = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(canaries)


@pytest.mark.parametrize("name", canaries.CANARIES)
def test_no_canary_gets_through(tmp_path, name):
    place = canaries.folder(tmp_path / "run")
    canaries.CANARIES[name](place)
    found, told = canaries.let_through(place)
    assert not found and told


def test_the_search_finds_canaries_where_nobody_takes_them_out(tmp_path, monkeypatch):
    """Or the test above would pass for any push."""
    monkeypatch.setattr(clean, "_take", lambda made, name, path, edit, secret: made.files.update({name: path}))
    monkeypatch.setattr(clean, "_not_a_file_of", lambda root, path: None)
    monkeypatch.setattr(clean, "is_allowed", lambda name, allowed: True)
    seen = []
    for number, (name, plant) in enumerate(canaries.CANARIES.items()):
        plant(place := canaries.folder(tmp_path / str(number)))
        seen += [name] if canaries.let_through(place)[0] else []
    # Folders that are not even walked, as those of git and of checkpoints, stay at home still.
    assert len(canaries.CANARIES) - len(seen) <= 3, set(canaries.CANARIES) - set(seen)


def test_what_is_needed_goes_along_unchanged(tmp_path):
    place = canaries.folder(tmp_path / "run")
    (place / ".eval_results").mkdir()
    (place / ".eval_results" / "a.yaml").write_text("- value: 0.5\n")
    made = clean.export(place, clean.MODEL)
    assert set(made.files) == {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert not made.left_out and not made.changed
    assert made.text("README.md") == canaries.CARD


def test_what_stays_is_told_with_the_reason(tmp_path):
    place = canaries.folder(tmp_path / "run")
    (place / "checkpoint-7").mkdir()
    (place / "checkpoint-7" / "optimizer.pt").touch()
    for name in ("predictions.parquet", "training_args.bin", "a.xyz", ".env"):
        (place / name).touch()
    left_out = clean.export(place, clean.MODEL).left_out
    assert left_out.keys() == {"checkpoint-7/", "predictions.parquet", "training_args.bin", "a.xyz", ".env"}
    assert "names your files" in left_out["predictions.parquet"] and "run code" in left_out["training_args.bin"]


@pytest.mark.parametrize(
    "harmless",
    [
        "https://huggingface.co/api/models/home/x and https://a.org/home/jane/x",
        "and/or, 1/2, n/a, train/dress/1.jpg, ../photos, ./home/x, ~/photos",
        "`accelerate launch recipes/classify.py --dataset photos/home`",
        "pad_token: <|endoftext|>, cls_token: [CLS], revision e83c5163316f89bfbde7d9ab23ca2e25604af290",
        "hf_fashion, hf_hub_download, sk-learn, token: None, password: null, api_key: ***",
        "a ratio 3:/4, C: 10, D:5, /api/models/x",
        "token: the token of the Hub, tokens: 123456789012, token=kwargs.get('token'), bypass=abc123def456",
        "a bearer of news, Bearer token, git+ssh://git@github.com/a/b, HF_TOKEN=$HF_TOKEN, HF_TOKEN=<your token>",
        "OpenAI(api_key=os.environ['API_KEY']), api_key = os.getenv('KEY'), password = getpass.getpass()",
        "access_token=settings.token, private_key = load_private_key(p), apiKey = process.env.API_KEY",
        "f'postgres://{user}:{password}@{host}', https://me:$TOKEN@host.org, api_key: Optional[str]",
        "api_key='your-key-here', api_key: YOUR_API_KEY, GOOGLE_API_KEY=$KEY, API_KEY=${API_KEY}",
        "task-efficientnet-lite0-clothing-2026, disk-usage-of-the-whole-machine, mask_token: [MASK]",
    ],
)
def test_what_is_neither_secret_nor_path_is_left_alone(harmless):
    assert not list(secrets.found_in(harmless))
    assert secrets.without_paths(harmless) == (harmless, 0)


@pytest.mark.parametrize(
    "text",
    [
        "api_key='os.environ-like1'", "password=hunter2hunter2", "api_key = abcdefgh", "hub_token: a.b.c.d1e2f3",
        "WANDB_API_KEY=0123456789abcdef", "client_secret=$ecretsecret", "password: correcthorse",
        "https://me:hunter2@host.org", "postgres://{user}:hunter2@host", "password='getpass.getpass()'",
    ],
)  # fmt: skip
def test_what_is_a_secret_is_one_beside_code_too(text):
    assert list(secrets.found_in(text))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("see /home/jane/photos/a.jpg.", "see a.jpg."),
        ("--dataset=/mnt/x/photos --n 3", "--dataset=photos --n 3"),
        (r"in C:\Users\jane\photos now", "in photos now"),
        (r"\\server\share\photos", "photos"),
        ("file:///Users/jane/photos", "photos"),
        ("![x](/tmp/a/b.png)", "![x](b.png)"),
        ("cd /home/jane now", "cd ~ now"),
        (r"cd C:\Users\jane", "cd ~"),
        ("-v photos:/home/jane/x", "-v photos:x"),
    ],
)
def test_paths_of_a_machine_are_cut(before, after):
    assert secrets.without_paths(before) == (after, 1)


def test_a_home_with_a_blank_in_its_name_is_cut(tmp_path, monkeypatch):
    home = tmp_path / "Jane Roe"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    secrets._own_folders.cache_clear()
    try:
        assert str(home) not in secrets.without_paths(f"see {home}/photos x")[0]
    finally:
        secrets._own_folders.cache_clear()


def test_labels_and_vocabularies_stay_as_the_model_knows_them(tmp_path):
    place = canaries.folder(tmp_path / "run")
    labels = {"0": "/home/women/dresses", "1": "/home/men/dresses"}
    config = {"id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}, "cache": "/home/jane/cache"}
    (place / "config.json").write_text(json.dumps(config))
    (place / "vocab.json").write_text('{"/usr/bin": 1, "/opt/bin": 2}')
    (place / "eval_results.json").write_text(json.dumps({"f1": {v: k for k, v in labels.items()}}))
    made = clean.export(place, clean.MODEL)
    assert json.loads(made.text("config.json")) == config | {"cache": "cache"}
    assert made.text("vocab.json") == '{"/usr/bin": 1, "/opt/bin": 2}'
    assert json.loads(made.text("eval_results.json"))["f1"] == {"dresses": "0", "dresses (2)": "1"}  # none is lost
    config["id2label"] = {"0": str(place)}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"(?s)a label.*a path of this machine"):
        clean.export(place, clean.MODEL)


# --- pictures


def noise(size=(23, 17), mode="RGB"):
    pixels = np.random.default_rng(3).integers(0, 256, (*size[::-1], len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(), mode if mode != "RGB" else None)


def saved(format, image=None, **options):
    buffer = BytesIO()
    (image or noise()).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "quality": 60, "restart_marker_blocks": 2}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 50}),
    ],
)
def test_pictures_keep_their_pixels_and_lose_all_that_is_told_of_them(format, options, orientation):
    exif = canaries.exif()
    exif[0x0112] = orientation
    data = saved(format, exif=exif, **options)
    bare, _ = pictures.bare(data)
    assert np.array_equal(np.asarray(images.decode(bare)), np.asarray(images.decode(data)))
    assert canaries.MARK.encode() in data and canaries.MARK.encode() not in bare
    with Image.open(BytesIO(bare)) as image:
        assert dict(image.getexif()) == ({} if orientation == 1 else {0x0112: orientation})
        with Image.open(BytesIO(data)) as before:
            assert image.mode == before.mode and np.array_equal(np.asarray(image), np.asarray(before))  # as stored
    assert pictures.bare(bare)[0] == bare


def test_colour_profiles_transparency_and_animations_stay():
    profile = b"\x00" * 128
    for format in ("JPEG", "PNG", "WEBP"):
        with Image.open(BytesIO(pictures.bare(saved(format, icc_profile=profile))[0])) as image:
            assert image.info["icc_profile"] == profile
    seen = noise(mode="RGBA")
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        with Image.open(BytesIO(pictures.bare(saved(format, seen, exif=canaries.exif(), **options))[0])) as image:
            assert np.array_equal(np.asarray(image.convert("RGBA")), np.asarray(seen))
    frames = [noise(), noise().rotate(180)]
    for format in ("PNG", "WEBP"):
        made = saved(format, frames[0], save_all=True, append_images=frames[1:], exif=canaries.exif())
        with Image.open(BytesIO(pictures.bare(made)[0])) as image:
            assert image.n_frames == 2


def test_cmyk_pictures_keep_what_says_how_they_are_read():
    data = saved("JPEG", noise().convert("CMYK"))
    assert np.array_equal(np.asarray(images.decode(pictures.bare(data)[0])), np.asarray(images.decode(data)))


def test_other_formats_become_png_as_they_are_decoded():
    for format in ("TIFF", "GIF", "BMP"):
        data = saved(format, **({"exif": canaries.exif()} if format == "TIFF" else {}))
        bare, ending = pictures.bare(data)
        assert ending == "png" and bare.startswith(b"\x89PNG")
        assert np.array_equal(np.asarray(images.decode(bare)), np.asarray(images.decode(data)))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff\xe1\x00\x10", b"\x89PNG\r\n\x1a\n\x00"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        pictures.bare(data)


def test_a_picture_that_is_cut_short_is_refused():
    for format in ("JPEG", "PNG"):
        data = saved(format, noise((200, 200)))
        with pytest.raises(ValueError, match="damaged|cut short"):
            pictures.bare(data[: len(data) // 2])


def test_a_picture_must_be_what_its_name_says(tmp_path):
    place = canaries.folder(tmp_path / "run")
    (place / "plots" / "bars.png").write_bytes(saved("JPEG"))
    with pytest.raises(InputError, match=r"call it bars.jpg"):
        clean.export(place, clean.MODEL)


def test_a_json_written_in_numbers_is_read(tmp_path):
    place = canaries.folder(tmp_path / "run")
    hidden = "".join(f"\\u{ord(letter):04x}" for letter in canaries.TOKEN)
    (place / "config.json").write_text(f'{{"note": "{hidden}"}}')
    assert json.loads((place / "config.json").read_text())["note"] == canaries.TOKEN
    with pytest.raises(InputError, match="Hugging Face token"):
        clean.export(place, clean.MODEL)
