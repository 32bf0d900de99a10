"""The Space of indexes, started, asked by programs and looked at in a browser."""

import importlib
import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
import wave
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import exported
import gradio
import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers as hf
import yaml
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from fake_encoder import Encoder
from gradio_client import Client, handle_file
from huggingface_hub import SpaceCard
from PIL import Image
from test_encoders import tiny_clip
from tiny import png
from tiny_detectors import tiny_detector
from tokenizers import pre_tokenizers
from transformers import AutoModelForObjectDetection, pipeline

from hf_fashion import images, index, searches
from hf_fashion.errors import InputError

FOLDER = Path(__file__).parents[1] / "spaces" / "retrieve"
EXAMPLES = sorted((FOLDER / "examples").glob("*.jpg"))
COLOURS = {"red": (230, 20, 20), "green": (20, 200, 30), "blue": (20, 40, 230), "yellow": (240, 220, 20)}
EACH = 12  # photos of a colour
CARD = "---\nlicense: mit\n---\n# Net\n\n## Intended use\n\nFor a **test**.\n\n## Data\n"


def _space():
    """The modules of this folder; those of another Space have the same names in this process."""
    names = ("about", "answers", "app", "columns", "light", "near", "photos", "retriever", "speech")
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(FOLDER))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(others)


about, answers, app, columns, light, near, photos, retriever, speech = _space()
Retriever, Settings, Found, Answer = retriever.Retriever, retriever.Settings, retriever.Found, retriever.Answer


class Painter(Encoder):
    """To which the name of a colour is a picture of nothing else; `dots` is like nothing that is there."""

    def _features(self, one):
        if isinstance(one, str) and one.split()[0] in COLOURS:
            return super()._features(Image.new("RGB", (8, 8), COLOURS[one.split()[0]]))
        return super()._features(one)


def painted(colour, number, side=64):
    """A JPEG of about one colour."""
    rng = np.random.default_rng([number, *COLOURS[colour]])
    pixels = np.clip(rng.normal(COLOURS[colour], 12, (side, side, 3)) + rng.normal(0, 25, 3), 0, 255)
    buffer = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def shop():
    """A catalogue of `EACH` photos of each colour."""
    rows = [(colour, number) for colour in COLOURS for number in range(EACH)]
    return Dataset.from_dict(
        {
            "image": [{"bytes": painted(*row), "path": None} for row in rows],
            "id": [f"{colour}-{number}" for colour, number in rows],
            "text": [f"{colour} shirt {number}" for colour, number in rows],
            "colour": [colour for colour, _ in rows],
            "sizes": [["38", "40"] if number % 2 else ["40"] for _, number in rows],
            "price": [10.5 + number for _, number in rows],
            "sale": [number < 3 for _, number in rows],
            "page": [f"https://shop.example/{colour}/{number}" for colour, number in rows],
        },
        features=Features(
            {"image": ImageFeature(), "id": Value("string"), "text": Value("string"), "colour": Value("string"),
             "sizes": List(Value("string")), "price": Value("float64"), "sale": Value("bool"), "page": Value("string")}
        ),
    )  # fmt: skip


def indexed(dataset, folder, encoder, model):
    target = index.create(folder, made_by=index.identify(encoder, str(model)), dimension=16)
    index.build(dataset, encoder, target)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a catalogue: `garments` (the index), `shop` (its photos but the last), `model` (its card), and
    `boxes`, `speech`: nets."""
    root = tmp_path_factory.mktemp("place")
    dataset = shop()
    (root / "model").mkdir()
    (root / "model" / "README.md").write_text(CARD)
    indexed(dataset, root / "garments", Painter(), root / "model")
    (root / "shop").mkdir()
    dataset.select(range(len(dataset) - 1)).to_parquet(root / "shop" / "data.parquet")
    return root


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """A detector that finds something in any photo."""
    folder = tiny_detector("rt_detr_v2", tmp_path_factory.mktemp("boxes"))
    net = AutoModelForObjectDetection.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if name.endswith("bias") and ("class" in name or "score" in name):
                tensor.zero_()
        for head in (net.model.enc_score_head, *net.class_embed):
            head.weight.normal_(0, 0.5)
        for head in (net.model.enc_bbox_head, *net.bbox_embed):
            head.layers[-1].weight.normal_(0, 0.5)
    net.config.score_threshold = 0.6
    net.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ear(tmp_path_factory):
    """A net of speech that hears `red` in everything."""
    folder = tmp_path_factory.mktemp("ear")
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "red": 3}))
    hf.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    hf.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    net = hf.Wav2Vec2ForCTC(
        hf.Wav2Vec2Config(
            vocab_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            conv_dim=(8, 8), conv_stride=(10, 16), conv_kernel=(10, 16), num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        )
    )  # fmt: skip
    with torch.no_grad():
        net.lm_head.bias[3] = 100
    net.save_pretrained(folder)
    return folder


@pytest.fixture
def painter(monkeypatch):
    """The encoder of the catalogue, wherever it is asked for."""
    monkeypatch.setattr(retriever.backbones, "load_encoder", lambda *_, **__: Painter())


@contextmanager
def launched(uploads, settings):
    with pytest.MonkeyPatch.context() as patch:  # a page that ends deletes its uploads: not those of another run
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        with pytest.MonkeyPatch.context() as while_built:
            while_built.setattr(retriever.backbones, "load_encoder", lambda *_, **__: Painter())
            page = app.build(settings)
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH)
        yield url.rstrip("/")
        page.close()


@pytest.fixture(scope="module")
def server(place, boxes, ear, tmp_path_factory):
    """The page of the catalogue, in this process; gives its address."""
    settings = Settings(
        index=str(place / "garments"), photos=str(place / "shop"), detector=str(boxes), speech=str(ear)
    )  # fmt: skip
    with launched(tmp_path_factory.mktemp("uploads"), settings) as url:
        yield url


@pytest.fixture(scope="module")
def client(server):
    return Client(server, verbose=False)


@pytest.fixture(scope="module")
def blue(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.jpg"
    path.write_bytes(painted("blue", 99))
    return path


def ask(client, photo=None, words=None, where=None, most=5, weight=0.5):
    return client.predict(
        photo=handle_file(photo) if photo else None, words=words, where=where, most=most, weight=weight,
        api_name="/search",
    )  # fmt: skip


def ids(answer):
    return [one["id"] for one in answer["found"]]


# The index behind the page


def test_photos_are_found_again_by_their_hash_wherever_they_lie(place, tmp_path):
    dataset = shop()
    (tmp_path / "flat" / "deep").mkdir(parents=True)
    for number, row in enumerate(dataset.cast_column("image", ImageFeature(decode=False)).select(range(5))):
        (tmp_path / "flat" / "deep" / f"{number}.jpg").write_bytes(row["image"]["bytes"])
    (tmp_path / "flat" / "notes.txt").write_text("no photo")
    with index.open(place / "garments") as opened:
        told = opened.rows_of([dataset[number]["id"] for number in (0, 4, 5, 47)])
        hashes = [row["picture"] for row in told.values()]
    in_files, in_parquet = photos.Photos([tmp_path / "flat"]), photos.Photos([place / "shop"])
    assert [one in in_files for one in hashes] == [True, True, False, False]
    assert [one in in_parquet for one in hashes] == [True, True, True, False]
    seen = [np.asarray(Image.open(BytesIO(held.small(hashes[1]))), dtype=float) for held in (in_files, in_parquet)]
    true = np.asarray(images.decode(dataset.cast_column("image", ImageFeature(decode=False))[4]["image"]), dtype=float)
    assert np.array_equal(*seen) and np.abs(seen[0] - true).mean() < 4
    assert in_files.small(None) is in_files.small("0" * 32) is None
    assert in_files.small(photos.digest(b"no photo")) is None  # what cannot be read is not shown
    (tmp_path / "flat" / "deep" / "0.jpg").unlink()
    assert photos.Photos([tmp_path / "flat"]).small(hashes[0]) is in_files.small(hashes[0]) is None
    with pytest.raises(InputError, match="hf-fashion index was given"):
        photos.Photos([tmp_path / "none"])


def test_small_copies_go_along_with_the_index(place, tmp_path, capsys):
    folder = shutil.copytree(place / "garments", tmp_path / "garments")
    photos.main([str(folder), str(place / "shop")])
    assert "of 47 different photos; the index has 48" in capsys.readouterr().out
    held = pq.read_table(folder / "photos.parquet")
    assert held.column_names == ["picture", "image"] and held.num_rows == 47
    assert len(photos.Photos(photos.beside(folder))) == 47
    large = Image.new("RGB", (3000, 1000), (9, 9, 9))
    exif = large.getexif()
    exif[0x010F] = "maker"
    buffer = BytesIO()
    large.save(buffer, "JPEG", exif=exif)
    copy = Image.open(BytesIO(photos.small(buffer.getvalue())))
    assert copy.size == (320, 107) and not copy.getexif()
    with pytest.raises(SystemExit, match="usage"):
        photos.main([])
    with pytest.raises(SystemExit, match="no such folder"):
        photos.main([str(folder), str(tmp_path / "none")])


def test_columns_become_filters(place):
    with index.open(place / "garments") as opened:
        told = columns.read(opened, 30)
    named = {one.column: one for one in told.filters}
    assert [*named] == ["colour", "sizes", "price", "sale"]  # not text and page, of which each row has its own
    assert named["colour"].options == [(colour, EACH) for colour in COLOURS] and named["colour"].others == 0
    assert dict(named["sizes"].options) == {"40": 48, "38": 24} and dict(named["sale"].options) == {
        True: 12,
        False: 36,
    }
    assert (named["price"].low, named["price"].high) == (10.5, 21.5) and told.rows == 48
    assert len(told.ids) == len(set(told.ids)) == len(told.drawn) == len(told.vectors) == 30
    assert sum(one.startswith("yellow") for one in told.ids) > 3  # the last ones, too
    np.testing.assert_allclose(np.linalg.norm(told.vectors, axis=1), 1, atol=1e-5)
    assert told.where([[], [], 10.5, 21.5, []]) == {}
    assert told.where([["red"], ["38"], None, 12, [True]]) == {
        "colour": ["red"], "sizes": ["38"], "price": {"<=": 12}, "sale": [True]
    }  # fmt: skip


def test_a_column_of_many_values_offers_the_most_frequent(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "OPTIONS", 2)
    rows = [{"brand": brand} for brand in "aaabbbbccc"]
    with index.create(tmp_path / "i", made_by="m", dimension=2) as target:
        target.upsert([*map(str, range(10))], np.tile(np.array([[1, 0]], np.float32), (10, 1)), rows)
        [brand] = columns.read(target, 3).filters
    assert [value for value, _ in brand.options][0] == "b" and len(brand.options) == 2 and brand.others == 1


def calibrated(folder, vectors, rows, level=0.05, **how):
    with index.create(folder, made_by="m", dimension=vectors.shape[1]) as target:
        target.upsert([*map(str, range(len(vectors)))], vectors, rows)
        told = columns.read(target, near.SAMPLE)
        return near.Near(target, told, how.get("read"), retriever.composed, level)


def unit(count, seed, dimension=16):
    made = np.random.default_rng(seed).normal(size=(count, dimension))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def test_of_what_belongs_to_the_index_few_are_called_far(tmp_path):
    vectors = unit(1500, 0)
    scale = calibrated(tmp_path / "i", vectors[:1000], [{}] * 1000, 0.1)
    limit = scale.limit(True, 0)
    best = (vectors[1000:] @ vectors[:1000].T).max(axis=1)  # 500 others of the same kind
    assert 0.04 < (best <= limit).mean() < 0.18
    far = unit(500, 1, 16)
    far[:, 1:] = 0.05 * far[:, 1:]
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    assert scale.random == pytest.approx(0, abs=0.08) and scale.median(True, 0) > limit
    assert scale.limit(False, 1) is None  # no words were given to measure with


def test_photos_of_one_item_do_not_count_as_neighbours(tmp_path):
    vectors = np.repeat(unit(60, 0), 2, axis=0)
    alone = calibrated(tmp_path / "a", vectors, [{}] * 120)
    items = calibrated(tmp_path / "b", vectors, [{"item_id": str(row // 2)} for row in range(120)])
    assert alone.limit(True, 0) == pytest.approx(1, abs=1e-3) and items.limit(True, 0) < 0.8


def test_nobody_can_tell_what_is_near_from_a_handful_of_photos(tmp_path):
    scale = calibrated(tmp_path / "i", unit(10, 0), [{}] * 10)
    assert scale.limit(True, 0) is None and scale.median(True, 0) is not None
    assert calibrated(tmp_path / "one", unit(1, 0), [{}]).limit(True, 0) is None


def test_words_are_measured_by_titles_or_by_values(tmp_path):
    vectors = unit(40, 0)
    titles = [{"text": f"title {row}"} for row in range(40)]

    def read(texts):
        return np.stack([vectors[int(text.split()[1])] for text in texts])

    titled = calibrated(tmp_path / "a", vectors, titles, read=read)
    assert titled.by_title and titled.limit(False, 1) == pytest.approx(1, abs=1e-3)
    # A photo and its own title are one vector here, so both together ask as the photo does.
    assert titled.limit(True, 0.5) == pytest.approx(titled.limit(True, 0), abs=1e-5)
    kinds = [{"kind": f"kind {row % 20}"} for row in range(40)]
    valued = calibrated(tmp_path / "b", vectors, kinds, read=read)
    assert not valued.by_title and valued.limit(False, 1) == pytest.approx(1, abs=1e-3)
    assert valued.limit(True, 0.5) is None
    bare = calibrated(tmp_path / "c", vectors, [{}] * 40, read=read)
    assert bare.limit(False, 1) is None and bare.median(False, 1) is None


def test_vectors_are_those_of_the_model_of_the_index(tmp_path, blue):
    folder = tiny_clip("clip", tmp_path / "clip")
    from hf_fashion import backbones

    encoder = backbones.load_encoder(folder)
    dataset = shop().select(range(0, 48, 6))
    target = index.create(
        tmp_path / "i", made_by=index.identify(encoder, str(folder)), dimension=encoder.get_embedding_dimension()
    )
    index.build(dataset, encoder, target)
    opened = Retriever(Settings(index=str(tmp_path / "i")))
    bare = encoder.encode([images.decode(blue)], normalize_embeddings=True)
    np.testing.assert_allclose(opened.look(blue), bare, atol=1e-6)
    words = encoder.encode(["red dress"], normalize_embeddings=True)
    answer = opened.search(opened.look(blue), "red dress", 0.25, 3, None)
    mixed = 0.75 * bare + 0.25 * words
    mixed /= np.linalg.norm(mixed)
    np.testing.assert_allclose(retriever.composed(bare, words, 0.25), searches.composed(bare, words, 0.25), atol=1e-7)
    true = target.search(mixed, 3)
    assert [one.id for one in answer.found] == true.ids[0]
    np.testing.assert_allclose([one.score for one in answer.found], true.scores[0], atol=1e-5)
    other = tiny_clip("siglip", tmp_path / "siglip")
    with pytest.raises(InputError, match=r"(?s)the model .*siglip.*of the model of the index"):
        Retriever(Settings(index=str(tmp_path / "i"), model=str(other)))
    moved = shutil.copytree(folder, tmp_path / "moved")
    shutil.rmtree(folder)
    assert Retriever(Settings(index=str(tmp_path / "i"), model=str(moved))).model == str(moved)


def test_an_index_is_opened_wherever_it_lies(place, hub, painter, tmp_path):
    folder = place / "garments"
    with index.open(folder) as opened:
        opened.to_parquet(tmp_path / "index.parquet")
    for target in (folder, tmp_path, tmp_path / "index.parquet"):
        made, _ = retriever.opened(str(target))
        assert len(made) == 48 and made.made_by["model"] == str(place / "model")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files["photos.parquet"] = (place / "shop" / "data.parquet").read_bytes()
    hub.create("ada/garments", "dataset", files=files, private=True)
    held = Retriever(Settings(index="ada/garments", model=str(place / "model")))
    found = held.search(held.read(["red"]), "", 0.5, 3, None).found
    assert len(held.index) == 48 and found[0].id.startswith("red") and found[0].jpeg
    for wrong in ("ada/nothing", str(tmp_path / "none"), str(tmp_path / "a" / "b")):
        with pytest.raises(InputError, match="INDEX"):
            retriever.opened(wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="hf-fashion index PHOTOS MODEL"):
        retriever.opened(str(tmp_path / "empty"))
    with index.create(tmp_path / "bare", made_by="m", dimension=3):
        pass
    with pytest.raises(InputError, match="photos in it"):
        Retriever(Settings(index=str(tmp_path / "bare")))


@pytest.mark.slow
def test_an_index_of_qdrant_or_lancedb_is_served_too(place, painter, tmp_path):
    for backend in ("lancedb", "qdrant"):
        made_by = index.identify(Painter(), str(place / "model"))
        with index.create(tmp_path / backend, made_by=made_by, dimension=16, backend=backend) as target:
            index.build(shop(), Painter(), target)
        held = Retriever(Settings(index=str(tmp_path / backend), photos=str(place / "shop")))
        answer = held.search(held.read(["green"]), "", 0.5, 30, held.columns.where([["green"], ["38"], 12, None, []]))
        assert len(answer.found) == 5 and {one.row["colour"] for one in answer.found} == {"green"}
        assert all(one.jpeg for one in answer.found) and not answer.far
        held.index.close()


# Speech


def recording(path, seconds=1.0, rate=16_000, channels=1, width=2):
    sound = np.sin(np.arange(int(seconds * rate)) / rate * 2 * np.pi * 440)
    kind = {1: np.uint8, 2: np.int16, 4: np.int32}[width]
    samples = 127 * sound + 128 if width == 1 else sound * (2 ** (8 * width - 1) - 1)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(np.repeat(samples.astype(kind), channels).tobytes())
    return path


def test_a_recording_is_read_in_all_its_forms(tmp_path):
    true = speech.read(recording(tmp_path / "a.wav"), 16_000)
    assert true.shape == (16_000,) and true.dtype == np.float32 and np.abs(true).max() == pytest.approx(1, abs=1e-3)
    for number, form in enumerate(({"channels": 2}, {"width": 1}, {"width": 4}, {"rate": 48_000})):
        made = speech.read(recording(tmp_path / f"{number}.wav", **form), 16_000)
        assert made.shape == true.shape and np.abs(made - true)[100:-100].max() < 0.02, form
    (tmp_path / "page.wav").write_text("<html>")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:20])
    for path, reason in (
        (tmp_path / "page.wav", "no WAV"), (tmp_path / "cut.wav", "no WAV"), (tmp_path / "none.wav", "no WAV"),
        (recording(tmp_path / "long.wav", 31, 4_000), "longer than 30 seconds"),
        (recording(tmp_path / "empty.wav", 0), "no sound"), (recording(tmp_path / "slow.wav", rate=100), "100 Hz"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=reason):
            speech.read(path, 16_000)


def test_what_is_heard_is_what_the_pipeline_says(ear, tmp_path):
    path = recording(tmp_path / "a.wav")
    bare = pipeline("automatic-speech-recognition", model=str(ear))(speech.read(path, 16_000))
    assert speech.Speech(str(ear)).words(path) == bare["text"] == "red"
    with pytest.raises(InputError, match="SPEECH"):
        speech.Speech(str(tiny_clip("clip", tmp_path / "clip")))


def test_whisper_hears_too(tmp_path):
    folder = tmp_path / "whisper"
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    end, begin, untimed = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
    names = hf.WhisperTokenizer(vocab=letters, merges=[], unk_token=end, bos_token=end, eos_token=end)
    names.add_special_tokens(
        {"additional_special_tokens": [begin, "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
                                       "<|startofprev|>", "<|nospeech|>", untimed]}
    )  # fmt: skip
    names.save_pretrained(folder)
    hf.WhisperFeatureExtractor().save_pretrained(folder)
    last, first, plain = (names.convert_tokens_to_ids(one) for one in (end, begin, untimed))
    marks = {"decoder_start_token_id": first, "eos_token_id": last, "bos_token_id": last, "pad_token_id": last}
    torch.manual_seed(0)
    net = hf.WhisperForConditionalGeneration(
        hf.WhisperConfig(
            vocab_size=len(names), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_target_positions=32, **marks,
        )
    )  # fmt: skip
    net.generation_config = hf.GenerationConfig(
        max_length=12, no_timestamps_token_id=plain, is_multilingual=False, return_timestamps=False, **marks
    )
    net.save_pretrained(folder)
    path = recording(tmp_path / "a.wav", rate=48_000)
    bare = pipeline("automatic-speech-recognition", model=str(folder))(speech.read(path, 16_000))
    assert speech.Speech(str(folder)).words(path) == " ".join(bare["text"].split()) != ""


# What is shown


def test_nothing_that_strangers_write_becomes_html():
    row = {"text": "<b>", "<i>": '"><script>', "link": 'https://e.org/"onclick="x', "sizes": ["<u>"]}
    one = Found('"><s>', 0.5, row, None)
    garment = retriever.Garment("<em>", 0.9, (0, 0, 1, 1))
    shown = answers.page(Answer([one], 0.4, False), one) + answers.garments([(garment, b"")])
    shown += answers.refused("This photo", ValueError("<u>"))
    for bad in ("<b>", "<i>", "<script>", "<s>", "<em>", "<u>", '"onclick', '""'):
        assert bad not in shown.replace('alt=""', "").replace('value=""', "").replace('data-like=""', "")
    assert "javascript" not in answers.page(Answer([Found("a", 1, {"l": "javascript:x"}, None)], None, False)).replace(
        "javascript:x</dd>", ""
    )


def test_the_page_says_when_nothing_is_near_and_when_a_filter_leaves_nothing():
    one = Found("a", 0.3, {}, None)
    assert "Nothing near" in answers.page(Answer([one], 0.31, False))
    assert "Nothing near" not in answers.page(Answer([one], 0.3, False))
    assert "1 photo, the nearest first" in answers.page(Answer([one], None, False))
    assert "Nothing fulfils this filter" in answers.page(Answer([], 0.3, True))
    assert [answers.as_dict(Answer([one], limit, False))["near"] for limit in (0.4, 0.2, None)] == [False, True, None]
    assert "This photo is not here" in answers.page(Answer([one], None, False))


def test_what_the_author_of_a_model_writes_is_shown_not_rendered(place, painter, tmp_path):
    folder = tmp_path / "*net*"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: '[mit](x)'\n---\n## Uses\n\n![](b) <img src='d'> <script\n")
    settings = Settings(index=str(place / "garments"), model=str(folder))
    told = about.About(settings, Retriever(settings))
    assert not {*"<>[]!"} & {*told.heading.partition("\n")[2]} and "&#42;net&#42;" in told.heading
    assert "![" not in told.text and "<" not in told.text and "nothing is near" in told.text


# The Space itself


def test_the_front_matter_is_complete():
    card = SpaceCard.load(FOLDER / "README.md").data
    assert card.sdk == "gradio" and card.sdk_version == gradio.__version__, "the newest release has the fixes"
    assert card.app_file == "app.py" and (FOLDER / card.app_file).is_file()
    assert (card.python_version, card.license, card.models) == ("3.12", "apache-2.0", [])
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {card.colorFrom, card.colorTo} <= colours and card.title and not card.emoji.isascii()
    assert len(card.short_description) <= 60 and "hf_fashion" in card.tags


def test_index_and_model_are_what_the_settings_name(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r"INDEX=garments .*python app.py"):
        app.settings()
    monkeypatch.setattr(app, "HERE", tmp_path)
    (tmp_path / "README.md").write_text("---\ntitle: a\n---\n")
    (tmp_path / "index").mkdir()
    assert app.settings() == Settings(index=str(tmp_path / "index"))
    front = {"models": ["me/encoder"], "datasets": ["me/garments"]}
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump(front)}---\n")
    assert app.settings() == Settings(index="me/garments", model="me/encoder")
    told = {"INDEX": "a", "INDEX_REVISION": "v1", "MODEL": "b", "MODEL_REVISION": "", "PHOTOS": "c", "DETECTOR": "d",
            "SPEECH": "e", "FAR": "0.01"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert app.settings() == Settings("a", "v1", "b", None, "c", "d", None, "e", None, 0.01)
    for wrong in ("much", "1", "-0.1", "nan"):
        monkeypatch.setenv("FAR", wrong)
        with pytest.raises(InputError, match="FAR"):
            app.settings()


def test_programs_search_by_photo_by_words_and_by_both(client, blue):
    answer = ask(client, blue)
    assert {one["columns"]["colour"] for one in answer["found"]} == {"blue"} and answer["near"] is True
    assert len(ids(answer)) == 5 and "picture" not in answer["found"][0]["columns"]
    scores = [one["score"] for one in answer["found"]]
    assert scores == sorted(scores, reverse=True) and scores[0] <= 1.0001
    assert {one.split("-")[0] for one in ids(ask(client, words="red"))} == {"red"}
    assert {one.split("-")[0] for one in ids(ask(client, blue, "red", weight=1))} == {"red"}
    assert ids(ask(client, blue, "red", weight=0)) == ids(answer)
    assert ids(ask(client, blue, "red", weight=0.5)) not in (ids(answer), ids(ask(client, words="red")))
    dear = ask(client, blue, where="colour=red,green price>=20.5 sale=false", most=96)
    assert sorted(ids(dear)) == ["green-10", "green-11", "red-10", "red-11"] and dear["near"] is False
    assert ask(client, words="red", where="price>99") == {"near": None, "found": []}


def test_programs_are_told_what_is_wrong(client, blue, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(EXAMPLES[0].read_bytes()[:900])
    Image.new("1", (13_300, 13_400)).save(tmp_path / "bomb.png")
    for given, reason in (
        ({"photo": tmp_path / "cut.jpg"}, "cut short"), ({"photo": tmp_path / "bomb.png"}, "too many pixels"),
        ({}, "a photo or words are needed"), ({"words": "a" * 301}, "at most 300 characters"),
        ({"words": "red", "most": 1000}, "at most 96"), ({"words": "red", "weight": 2}, "from 0 to 1"),
        ({"words": "red", "where": "color=red"}, "expected one of"), ({"words": "red", "where": "colour<3"}, "filter"),
        ({"words": "red", "where": "a" * 1001}, "at most 1000"),
    ):  # fmt: skip
        with pytest.raises(Exception, match=reason):
            ask(client, **given)


def event(server, number, *values, data=None):
    """What an event of the page answers; anybody may send anything."""
    session = uuid.uuid4().hex
    body = {"data": values, "fn_index": number, "session_hash": session, "event_data": data}
    httpx.post(f"{server}/gradio_api/queue/join", json=body).raise_for_status()
    with httpx.stream("GET", f"{server}/gradio_api/queue/data?session_hash={session}", timeout=30) as lines:
        for line in lines.iter_lines():
            told = json.loads(line.removeprefix("data:") or "{}")
            if told.get("msg") == "process_completed":
                return told
    raise AssertionError("no answer")


def test_no_event_opens_a_file_of_the_server(server, tmp_path):
    [uploaded] = httpx.post(f"{server}/gradio_api/upload", files={"files": ("a.png", png(2))}).json()
    (tmp_path / "own.png").write_bytes(png(3))
    marked = {"meta": {"_type": "gradio.FileData"}}  # without it Gradio looks at no path
    config = httpx.get(f"{server}/config").json()
    kinds = {one["id"]: one["type"] for one in config["components"]}
    values = {"textbox": "", "number": None, "slider": 0.5, "dropdown": []}
    read = 0
    for one in config["dependencies"]:
        places = [number for number, id in enumerate(one["inputs"]) if kinds[id] in ("image", "file", "audio")]
        if not places:
            continue
        given = [values.get(kinds[id]) for id in one["inputs"]]
        given = [12 if value == [] and kinds[id] == "dropdown" and place == one["inputs"].index(id) and place in (3, 4)
                 else value for place, (value, id) in enumerate(zip(given, one["inputs"], strict=True))]  # fmt: skip
        for path, mark in ((tmp_path / "own.png", {}), (tmp_path / "none", {}), ("http://127.0.0.1:9/a", marked)):
            given[places[0]] = {"path": str(path)} | mark
            told = event(server, one["id"], *given, data={})
            assert not told["success"] and "data:image" not in str(told["output"]), (
                one["targets"],
                path,
                str(told["output"]),
            )
        given[places[0]] = {"path": uploaded} | marked
        read += "used" not in str(event(server, one["id"], *given, data={})["output"].get("error"))
    assert read >= 5


def test_what_visitors_send_instead_of_choices_is_refused_in_words(server):
    config = httpx.get(f"{server}/config").json()
    kinds = {one["id"]: one["type"] for one in config["components"]}
    [show] = [one for one in config["dependencies"] if [target[1] for target in one["targets"]] == ["submit"]]
    assert [kinds[id] for id in show["inputs"]] == [
        "state",
        "image",
        "textbox",
        "slider",
        "dropdown",
        "dropdown",
        "dropdown",
        "number",
        "number",
        "dropdown",
    ]
    usual = [None, None, "red", 0.5, 12, [], [], 10.5, 21.5, []]
    assert 'class="found"' in str(event(server, show["id"], *usual)["output"]["data"])
    for place, value, reason in (
        (2, {"a": 1}, "words are text"), (2, "x" * 301, "at most 300"), (3, "much", "from 0 to 1"),
        (4, 10_000, "at most 96"), (4, True, "at most 96"), (5, [{"$ne": 1}], "text expected"),
        (5, "red", "nearest first"), (7, "cheap", "a number expected"), (9, ["yes"], "true or false expected"),
        (5, ["no such colour"], "Nothing fulfils this filter"), (0, {"like": "red-0"}, "nearest first"),
    ):  # fmt: skip
        told = event(server, show["id"], *[value if number == place else one for number, one in enumerate(usual)])
        assert reason in str(told["output"]), (place, value, told["output"])


def test_the_page_refuses_what_it_should(server, tmp_path):
    (tmp_path / "large.jpg").write_bytes(EXAMPLES[0].read_bytes() + bytes(21 * 2**20))
    with (tmp_path / "large.jpg").open("rb") as file:
        assert httpx.post(f"{server}/gradio_api/upload", files={"files": file}).status_code == 413
    assert httpx.get(f"{server}/monitoring").status_code == 403
    assert httpx.get(f"{server}/config").json()["analytics_enabled"] is False
    [tool] = httpx.get(f"{server}/gradio_api/mcp/schema").json()
    assert tool["name"] == "search" and "Finds photos of this index" in tool["description"]
    assert [*tool["inputSchema"]["properties"]] == ["photo", "words", "where", "most", "weight"]


def test_an_encoder_of_photos_alone_asks_for_no_words(place, monkeypatch, tmp_path, ear):
    seeing = Encoder(modalities=("image",))
    indexed(shop(), tmp_path / "i", seeing, place / "model")
    monkeypatch.setattr(retriever.backbones, "load_encoder", lambda *_, **__: seeing)
    page = app.build(Settings(index=str(tmp_path / "i"), speech=str(ear)))
    shown = {block.label: block.visible for block in page.blocks.values() if getattr(block, "label", None)}
    assert not shown["Words"] and not any(shown[label] for label in shown if label.startswith(("Or say", "With a")))
    assert "words" not in str(page.config["components"][0])


def test_an_index_that_cannot_be_opened_is_told(monkeypatch, tmp_path):
    pages = []
    monkeypatch.setattr(gradio.Blocks, "launch", lambda page, **_: pages.append(page))
    with pytest.raises(SystemExit, match="INDEX"):
        app.main()
    monkeypatch.setenv("INDEX", str(tmp_path))
    with pytest.raises(SystemExit, match="expected"):
        app.main()
    monkeypatch.setenv("SPACE_ID", "ada/demo")
    app.main()
    [page] = pages
    assert "nothing to search yet" in str(page.config["components"]) and "HF_TOKEN" in str(page.config["components"])


def test_a_push_takes_all_that_the_page_needs_along(hub, place):
    from hf_fashion.hub import push_space

    hub.create("ada/net", files={"README.md": CARD.encode()}, private=True)
    push_space(FOLDER, "demo", model="net")
    repo = hub.repo("ada/demo", "space")
    files = repo.files()
    mine = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.*") if "__pycache__" not in path.parts}
    mine.discard("requirements-export.txt")
    assert mine <= {*files} and {"hf_fashion/serving.py", "hf_fashion/index/exact.py"} <= {*files}
    assert repo.variables == {"MODEL": "ada/net"} and b"models:\n- ada/net\n" in files["README.md"]
    assert b"sentence-transformers" in files["requirements.txt"] and b"lancedb" in files["requirements.txt"]


def test_the_photos_to_try_are_yours_or_the_models_or_ours(monkeypatch, place, painter, tmp_path):
    held = Retriever(Settings(index=str(place / "garments")))
    assert app.examples_of(held) == EXAMPLES and {path.stem for path in EXAMPLES} == app.SHIPPED
    for path in EXAMPLES:
        assert images.decode(path) and not Image.open(path).getexif()
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "mine.jpg").write_bytes(EXAMPLES[0].read_bytes())
    monkeypatch.setattr(app, "HERE", tmp_path)
    assert [path.name for path in app.examples_of(held)] == ["mine.jpg"]


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium, as of `apt-get install chromium`")
    said = recording(tmp_path_factory.mktemp("said") / "said.wav", 2, 48_000)
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
             f"--use-file-for-fake-audio-capture={said}"]  # fmt: skip
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=quiet)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, server):
    """A function that opens the page; whatever it asks of others, or says is wrong, fails the test."""
    contexts, faults = [], []

    def open_page(address=server, **options):
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options)))
        page = contexts[-1].new_page()
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else faults.append(r.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#answers .waiting")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def until(page, text):
    """Waits for a heading of the answers, and gives the cards."""
    page.wait_for_function(
        "text => document.querySelector('#answers .said h2')?.textContent.includes(text)", arg=text, timeout=20_000
    )
    return page.locator("#answers .found > li")


def counted(page, cards):
    """Waits until there are so many cards, and gives them."""
    page.wait_for_function(f"document.querySelectorAll('#answers .found > li').length === {cards}", timeout=20_000)
    return page.locator("#answers .found > li")


def upload(page, path):
    page.locator("input[type=file]").first.set_input_files(str(path))


def type_words(page, words):
    page.get_by_label("Words", exact=True).fill(words)
    page.keyboard.press("Enter")


def test_a_visitor_searches_by_photo_by_garment_and_by_words(visit, blue, client):
    page = visit()
    upload(page, blue)
    cards = until(page, "12 photos, the nearest first")
    true = [one["columns"]["text"] for one in ask(client, blue, most=12)["found"]]
    assert [card.split("\n")[0].split(" ", 1)[1] for card in cards.all_inner_texts()] == true
    assert "score" in cards.first.inner_text() and "12" in page.locator("#status p[role=status]").inner_text()
    assert cards.first.locator("img").evaluate("image => image.naturalWidth") == 64
    link = cards.first.locator("a")
    assert link.get_attribute("href").startswith("https://shop.example/blue/") and "noopener" in link.get_attribute(
        "rel"
    )
    # The garments that the detector finds, and the whole photo.
    garments = page.locator("#garments label")
    assert garments.count() > 1 and "Search with" in page.locator("#garments legend").inner_text()
    before = [card.inner_text() for card in cards.all()]
    whole = page.locator(".found").inner_text()  # read before the click, or the new answer may be there already
    garments.nth(1).locator("input").check()
    page.wait_for_function("old => document.querySelector('#answers .found').innerText !== old", arg=whole)
    garments.nth(0).locator("input").check()
    page.wait_for_function("old => document.querySelector('#answers .found > li').innerText === old", arg=before[0])
    garments.nth(1).locator("input").check()
    upload(page, EXAMPLES[0])
    page.wait_for_function("document.querySelector('#garments input').checked")
    upload(page, blue)
    page.wait_for_function("old => document.querySelector('#answers .found > li').innerText === old", arg=before[0])
    # Words beside the photo, then alone.
    type_words(page, "red")
    page.wait_for_function("old => document.querySelector('#answers .found > li').innerText !== old", arg=before[0])
    page.get_by_role("button", name="Start anew").click()
    page.wait_for_selector("#answers .waiting")
    assert page.locator("#garments label").count() == 0
    type_words(page, "red")
    assert all("red shirt" in card for card in until(page, "12 photos").all_inner_texts())


@pytest.mark.slow
def test_filters_more_like_this_and_nothing_near(visit):
    page = visit()
    type_words(page, "green")
    cards = until(page, "12 photos")
    page.wait_for_timeout(500)  # the answer comes into sight a moment later, which no list that is open may meet
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("sale").click()
    page.get_by_role("option", name="yes (12)").click()
    page.wait_for_function(
        "[...document.querySelectorAll('#answers .found > li')].every((card) => card.innerText.includes('sale\\nyes'))"
    )
    assert cards.count() == 12
    page.get_by_label("price to").fill("11")
    cards = counted(page, 4)
    assert all("10.5" in card for card in cards.all_inner_texts())
    page.get_by_label("price to").fill("2")
    until(page, "Nothing fulfils this filter")
    page.get_by_label("price to").fill("21.5")
    counted(page, 12)
    name = cards.nth(1).locator("h3").inner_text().split(" ", 1)[1]
    page.get_by_role("button", name=f"More like this: {name}").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".like")
    assert name in page.locator(".like").inner_text()
    page.wait_for_function("document.activeElement.tagName === 'H2'")  # the focus does not get lost
    assert name not in page.locator("#answers .found").inner_text().split("\n")
    page.get_by_role("button", name="Take it away").click()
    page.wait_for_selector(".like", state="detached")
    type_words(page, "aeroplane")
    assert until(page, "Nothing near").count() == 12 and "all the same" in page.locator(".said").inner_text()
    assert "Nothing near" in page.locator("#status p").inner_text()


@pytest.mark.slow
def test_a_visitor_speaks(visit, tmp_path, server):
    page = visit(permissions=["microphone"])
    page.locator("#voice").get_by_role("button", name="Record").click()
    page.wait_for_timeout(1500)
    page.locator("#voice").get_by_role("button", name="Stop").click()
    cards = until(page, "12 photos")
    assert page.get_by_label("Words", exact=True).input_value() == "red"
    assert all("red shirt" in card for card in cards.all_inner_texts())


@pytest.mark.slow
def test_a_pushed_space_starts_as_the_hub_lays_it_out(hub, tmp_path, blue):
    from hf_fashion import backbones
    from hf_fashion.hub import push_space

    folder = tiny_clip("clip", tmp_path / "clip")
    encoder = backbones.load_encoder(folder)
    made_by = index.identify(encoder, str(folder))
    garments = tmp_path / "garments"
    with index.create(garments, made_by=made_by, dimension=encoder.get_embedding_dimension()) as target:
        index.build(shop(), encoder, target)
    shop().to_parquet(tmp_path / "shop.parquet")
    assert photos.write(garments, [tmp_path / "shop.parquet"]) == (48, 48)
    for kind, name, root in (("model", "ada/clip", folder), ("dataset", "ada/garments", garments)):
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        hub.create(name, kind, files=files, private=True)
    mine = shutil.copytree(FOLDER, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    readme = mine / "README.md"
    readme.write_text(readme.read_text().replace("models: []", "models: []\ndatasets:\n- ada/garments", 1))
    push_space(mine, "demo", model="clip")
    repo = hub.repo("ada/demo", "space")
    for name, content in repo.files().items():
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = repo.variables | {"GRADIO_SERVER_PORT": port, "SPACE_ID": "ada/demo", "HF_TOKEN": hub.token}
    told = tmp_path / "told.txt"
    with told.open("w") as output, subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("as_a_space.py"))], cwd=tmp_path / "space",
        env=hub.env(home=tmp_path / "home", **settings), stdout=output, stderr=output,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + 300
            while "Running on local URL" not in told.read_text():
                assert process.poll() is None and time.monotonic() < deadline, told.read_text()
                time.sleep(0.5)
            assert "error:" not in told.read_text(), told.read_text()
            answer = ask(Client(f"http://127.0.0.1:{port}", verbose=False), blue, "red dress", most=3)
            assert len(answer["found"]) == 3 and answer["found"][0]["columns"]["text"]
            assert "can be shown" not in told.read_text()
        finally:
            process.terminate()


@pytest.mark.slow
def test_examples_are_called_by_their_names_and_work_with_the_keyboard(visit):
    page = visit()
    for path in EXAMPLES:
        page.get_by_role("button", name=f"Example: {path.stem.replace('-', ' ')}", exact=True).wait_for()
    page.locator("button.gallery-item").nth(2).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#answers .found")
    page.locator("#garments input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#garments input").nth(1).is_checked()


@pytest.mark.slow
def test_a_photo_that_cannot_be_read_and_one_that_is_not_here(visit, tmp_path):
    page = visit()
    (tmp_path / "cut.jpg").write_bytes(EXAMPLES[0].read_bytes()[:900])
    upload(page, tmp_path / "cut.jpg")
    until(page, "This photo cannot be used")
    page.get_by_role("button", name="Start anew").click()
    page.wait_for_selector("#answers .waiting")
    type_words(page, "yellow")
    until(page, "12 photos")
    [card] = [card for card in page.locator(".found > li").all() if "yellow shirt 11" in card.inner_text()]
    assert "This photo is not here" in card.inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit, scheme, blue):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    page = visit(**phone)
    upload(page, blue)
    until(page, "12 photos")
    assert page.evaluate("scrollY") < 50  # the garments are to be chosen from
    type_words(page, "blue")
    page.wait_for_function("document.querySelector('#answers').getBoundingClientRect().top < innerHeight / 2")
    page.get_by_role("button", name="Filters").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    cards = [card.bounding_box() for card in page.locator(".found > li").all()[:2]]
    assert cards[0]["y"] == cards[1]["y"] and cards[0]["width"] > 130
    text, back = (
        [int(part) for part in page.evaluate(
            f"getComputedStyle(document.querySelector('.found > li')).{name}"
        ).strip("rgba()").split(",")[:3]]
        for name in ("color", "backgroundColor")
    )  # fmt: skip
    assert (sum(back) > 600, sum(text) > 600) == ((True, False) if scheme == "light" else (False, True))


# An exported encoder


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    pytest.importorskip("onnx")
    return exported.made(tmp_path_factory)


@pytest.fixture(scope="module")
def garments(nets, tmp_path_factory):
    """The index of the trained encoder, and the photos of it."""
    from hf_fashion import backbones

    root = tmp_path_factory.mktemp("garments")
    dataset = shop()
    encoder = backbones.load_encoder(nets["encoder"])
    target = index.create(root / "index", made_by=index.identify(encoder, str(nets["encoder"])), dimension=8)
    index.build(dataset, encoder, target)
    dataset.to_parquet(root / "shop.parquet")
    return root


def settings_of(garments, nets, **more):
    given = {"photos": str(garments / "shop.parquet"), "model": str(nets["encoder-export"])}
    return Settings(**({"index": str(garments / "index")} | given | more))


def test_an_export_finds_what_the_encoder_finds(nets, garments, blue):
    trained = Retriever(settings_of(garments, nets, model=str(nets["encoder"])))
    export = Retriever(settings_of(garments, nets, detector=str(nets["detector-export"])))
    np.testing.assert_allclose(trained.look(blue), export.look(blue), atol=0.02)
    said, told = (one.search(one.look(blue), "", 0.5, 3, None) for one in (trained, export))
    assert [one.id for one in said.found] == [one.id for one in told.found]
    assert not export.takes_words and export.form == "ONNX, fp32" and trained.form is None
    assert export.finds_garments and all(jpeg for _, jpeg in export.crops(blue))
    shown = about.About(settings_of(garments, nets), export)
    assert "reads no words: this page searches by photos" in shown.heading and "ONNX, fp32" in shown.text
    assert "type words" not in shown.heading and "encoder-export" in shown.heading
    page = app.build(settings_of(garments, nets))
    visible = {block.label: block.visible for block in page.blocks.values() if getattr(block, "label", None)}
    assert not visible["Words"] and visible["Photo"]


def test_an_export_of_another_model_is_refused(nets, garments, tmp_path):
    from hf_fashion import backbones

    with pytest.raises(InputError, match="photos of the index, to see whether"):
        Retriever(settings_of(garments, nets, photos=None))
    with pytest.raises(InputError, match="an export that is a classifier"):
        Retriever(settings_of(garments, nets, model=str(nets["vit-export"])))
    for name, dimension, told in (("other", 8, "have a cosine of"), ("wide", 6, "expected: .* 6 numbers")):
        torch.manual_seed(7)
        encoder = backbones.load_encoder(nets["vit"], dimension=dimension)
        made_by = index.identify(encoder, name)
        target = index.create(tmp_path / name, made_by=made_by, dimension=dimension)
        index.build(shop(), encoder, target)
        with pytest.raises(InputError, match=told):
            Retriever(settings_of(garments, nets, index=str(tmp_path / name)))


@pytest.mark.slow
def test_a_visitor_searches_by_photo_with_an_export(browser, nets, garments, blue, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    made = app.build(settings_of(garments, nets))
    _, url, _ = made.launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH)
    try:
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#answers .waiting")
        page.locator("input[type=file]").first.set_input_files(str(blue))
        page.wait_for_selector("#answers .found li")
        assert page.locator("#answers .found li").count() == 12
        assert page.get_by_label("Words", exact=True).count() == 0
        page.close()
    finally:
        made.close()
