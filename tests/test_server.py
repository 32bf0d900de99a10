"""`hf-fashion serve`: photos are posted, and what comes back is what the model says; nothing is kept."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")

import exported
import uvicorn
from PIL import Image
from tiny import png
from transformers import pipeline

from hf_fashion import images, passes, runtime, server
from hf_fashion.answering import Answering, Asked
from hf_fashion.errors import InputError
from hf_fashion.recipes import serve as recipe

KINDS = ("vit", "attributes", "encoder", "detector")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return exported.made(tmp_path_factory)


@pytest.fixture(scope="module")
def photos(place):
    """Encoded, as they are posted."""
    return [path.read_bytes() for path in sorted((place["photos"] / "test").rglob("*.png"))[:6]]


class Started:
    """A server in a thread."""

    def __init__(self, model, **limited):
        self.answering = Answering(model) if not isinstance(model, Answering) else model
        app = server.app(self.answering, server.Limited(**limited))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.socket.getsockname()[1]}", timeout=30)
        while not self.server.started:
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.server.should_exit = True
        self.thread.join()

    def send(self, *files, **params):
        form = [("photos", (f"{n}.png", data, "image/png")) for n, data in enumerate(files)]
        return self.client.post("/predict", files=form, params=params)

    def send_one(self, data, kind="image/png", **params):
        return self.client.post("/predict", content=data, headers={"content-type": kind}, params=params)


@pytest.fixture(scope="module")
def started(place):
    with Started(place["vit-export"], photos=4, bytes=2**20) as one:
        yield one


def near(one, other, atol):
    """Whether two answers are equal, but for small differences of numbers."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key], atol) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(near(*pair, atol) for pair in zip(one, other, strict=True))
    return one == other if isinstance(one, str) else abs(one - other) <= atol


# What is answered


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_answers_what_runtime_says(kind, place, photos):
    model = runtime.load(place[f"{kind}-export"])
    with Started(place[f"{kind}-export"]) as one:
        params = {"score": 0.2} if kind == "detector" else {"top_k": 2} if kind == "vit" else {}
        told = one.send(*photos, **params).json()
        alone = one.send_one(photos[0], **params).json()
    settings = {"threshold": 0.2} if kind == "detector" else {"top_k": 2}
    for photo, answer in zip(photos, told, strict=True):
        said = model(photo, **settings)
        assert near(said.tolist() if kind == "encoder" else said, answer, 1e-4)
    assert near(alone, told[0], 1e-4)
    assert len(told) == 6 and (kind != "detector" or any(told)) and json.dumps(told)


@pytest.mark.parametrize("kind", ["vit", "detector"])
def test_a_trained_model_answers_what_its_pipeline_says(kind, place, photos):
    task = {"vit": "image-classification", "detector": "object-detection"}[kind]
    asked = pipeline(task, model=str(place[kind]), device="cpu")
    with Started(place[kind]) as one:
        told = one.send(*photos, **({"score": 0.5} if kind == "detector" else {"top_k": 3})).json()
    for photo, answer in zip(photos, told, strict=True):
        said = asked(images.decode(photo), **({"threshold": 0.5} if kind == "detector" else {"top_k": 3}))
        if kind == "vit":
            assert near(said, answer, 1e-4)
        else:  # of boxes of one class that overlap the surest; `pipeline` gives all, in whole pixels
            assert all(any(near(box["box"], other["box"], 1) for other in said) for box in answer)
    assert any(told)


@pytest.mark.parametrize("kind", ["attributes", "encoder"])
def test_a_trained_model_and_its_export_answer_in_one_form(kind, place, photos):
    trained, export = (Answering(place[name])(photos, "abcdef", Asked()) for name in (kind, f"{kind}-export"))
    assert near(trained, export, 0.02)


def test_what_the_model_is(started, place):
    told = started.client.get("/").json()
    assert (told["model"], told["kind"], told["labels"]) == (
        "vit-export",
        "classification",
        ["old 0", "old 1", "old 2"],
    )
    assert told["limits"] == {
        "photos": 4, "request_bytes": 2**20, "photo_bytes": 2**20, "photo_pixels": 25_000_000,
        "photo_aspect": 50, "requests_at_a_time": 64,
    }  # fmt: skip
    assert told["license"] and started.client.get("/health").json() == {"status": "ok"}
    assert "swagger" in started.client.get("/docs").text
    schema = started.client.get("/openapi.json").json()
    asked = schema["paths"]["/predict"]["post"]
    assert set(asked["requestBody"]["content"]) == {"multipart/form-data", "image/*", "application/octet-stream"}
    assert [one["name"] for one in asked["parameters"]] == ["top_k", "score"]
    assert "Licence of the model" in schema["info"]["description"]


# Many at once


def test_requests_that_come_at_once_share_a_pass(place, photos):
    model = Answering(place["vit-export"], batch_size=8, wait=0.2)
    run, sizes = model._passes._run, []
    model._passes._run = lambda inputs: sizes.append(len(inputs["pixels"])) or run(inputs)
    with Started(model) as one, ThreadPoolExecutor(8) as pool:
        alone = [one.send_one(photo).json() for photo in photos[:2]]
        assert sizes == [1, 1]
        together = list(pool.map(lambda n: one.send_one(photos[n % 2]).json(), range(8)))
    assert sum(sizes) == 10 and len(sizes) <= 6 and max(sizes) >= 4
    assert all(near(told, alone[n % 2], 1e-5) for n, told in enumerate(together))


def test_a_pass_waits_no_longer_than_it_must():
    sizes = []

    def run(inputs):
        sizes.append(len(inputs["x"]))
        return list(inputs["x"][:, 0])

    several = passes.Passes(run, most=3, wait=30.0)
    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        told = list(pool.map(lambda n: several([{"x": np.full((1, 2), n)}])[0], range(3)))
    assert told == [0, 1, 2] and sizes == [3] and time.monotonic() - began < 10
    began = time.monotonic()
    assert passes.Passes(run, most=3, wait=0.1)([{"x": np.ones((1, 2))}]) == [1]
    assert 0.09 < time.monotonic() - began < 5


def test_large_photos_of_one_request_hold_up_no_other(place, photos, monkeypatch):
    """However few the cores."""
    monkeypatch.setenv("CPU_CORES", "1")
    model = Answering(place["vit-export"])
    noise = large(4_100, 4_000)
    with model._decoder._large, ThreadPoolExecutor(2) as pool:  # as if another large one was decoded just now
        held = pool.submit(model, [noise, noise], "ab", Asked())
        time.sleep(0.2)
        try:
            told = pool.submit(model, photos[:2], "cd", Asked()).result(timeout=20)
        finally:
            model._decoder._large.release()
        assert len(told) == 2 and len(held.result(timeout=20)) == 2
        model._decoder._large.acquire()


def test_who_comes_when_all_places_are_taken_is_told_to_come_later(place, photos):
    model = Answering(place["vit-export"])
    go, run, entered = threading.Event(), model._passes._run, threading.Semaphore(0)

    def slow(inputs):
        entered.release()
        assert go.wait(20)
        return run(inputs)

    model._passes._run = slow
    with Started(model, waiting=2) as one, ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.send_one, photos[0])
        assert entered.acquire(timeout=20)
        second = pool.submit(one.send_one, photos[1])
        deadline = time.monotonic() + 20
        while not model._passes._waiting and time.monotonic() < deadline:  # until the second is there, too
            time.sleep(0.01)
        told = one.send_one(photos[2])
        assert told.status_code == 503 and told.headers["retry-after"] == "1"
        assert told.json()["error"]["found"] == "more" and one.client.get("/health").status_code == 200
        go.set()
        assert first.result().status_code == second.result().status_code == 200
        assert one.send_one(photos[2]).status_code == 200


# What is refused


def large(width, height):
    buffer = BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


PART = b'--x\r\nContent-Disposition: form-data; name="p"; filename="a.png"\r\n\r\n' + png(1) + b"\r\n"
BROKEN_OFF = PART + PART.removesuffix(b"\r\n")  # the second file has no end


@pytest.mark.parametrize(
    ("send", "status", "told"),
    [
        (lambda s: s.send_one(b"<html>"), 422, "HTML"),
        (lambda s: s.send(png(1), b"nothing"), 422, "1.png"),
        (lambda s: s.send_one(large(13_300, 13_300)), 422, "too many pixels"),
        (lambda s: s.send_one(large(1, 20_000)), 422, "a strip of 1 x 20,000"),
        (lambda s: s.send_one(BROKEN_OFF, "multipart/form-data; boundary=x"), 400, "breaks off"),
        (lambda s: s.send_one(b"quoted", "multipart/form-data; boundary=x"), 400, "Invalid multipart"),
        (lambda s: s.client.post("/predict", data={"top_k": "3"}, files={"c": png(1)}), 400, "a field, top_k"),
        (lambda s: s.send_one(png(1), topk=3), 422, "topk"),
        (lambda s: s.send_one(b""), 400, "an empty request"),
        (lambda s: s.send(*[png(1)] * 5), 413, "at most 4 files"),
        (lambda s: s.send_one(bytes(2**20 + 1)), 413, "at most 1 MB"),
        (lambda s: s.send(bytes(2**19), bytes(2**19)), 413, "at most 1 MB"),
        (lambda s: s.client.post("/predict", content=iter([bytes(2**19)] * 3)), 413, "at most 1 MB"),
        (lambda s: s.client.post("/predict", json={"photo": "x"}), 415, "application/json"),
        (lambda s: s.client.post("/predict", data={"a": "b"}, files={"c": ("", b"")}), 400, "files"),
        (lambda s: s.send_one(b"x", "multipart/form-data"), 400, "boundary"),
        (lambda s: s.send_one(png(1), top_k=0), 422, "top_k"),
        (lambda s: s.send_one(png(1), score="nan"), 422, "score"),
        (lambda s: s.client.get("/predict"), 405, "Method"),
    ],
)
def test_what_cannot_be_answered_is_told(send, status, told, started):
    answer = send(started)
    assert answer.status_code == status and told in answer.text, answer.text
    assert "Traceback" not in answer.text
    if status in (400, 413, 415) or (status == 422 and "error" in answer.json()):
        assert set(answer.json()["error"]) == {"what", "expected", "found", "to_do"}
    assert started.send_one(png(1)).status_code == 200  # the next one is answered


def test_no_photo_reaches_a_disk_or_a_log(place, monkeypatch, caplog, capfd):
    """A file above a megabyte, which Starlette alone would spool."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8))
    buffer = BytesIO()
    noise.save(buffer, "PNG")
    rolled = []
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", lambda self: rolled.append(self))
    with Started(place["vit-export"]) as one, caplog.at_level("DEBUG"):
        assert len(buffer.getvalue()) > 2**20
        form = [("photos", ("secret-name.png", buffer.getvalue(), "image/png"))]
        assert one.client.post("/predict", files=form).status_code == 200
        assert one.send(b"not a photo").status_code == 422
        assert one.send_one(b"quoted", "multipart/form-data; boundary=x").status_code == 400
        with socket.create_connection(one.socket.getsockname()) as gone:  # who breaks off while it sends
            gone.sendall(
                b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nab"
            )
            time.sleep(0.2)
        deadline = time.monotonic() + 20
        while one.server.server_state.tasks and time.monotonic() < deadline:
            time.sleep(0.01)
    logged = caplog.text + "".join(capfd.readouterr())
    assert not rolled and not any(word in logged for word in ("secret-name", "boundary character", "Traceback"))


# The word


def test_a_server_is_started_and_ended(place):
    """In a process of its own, on a free port, until Ctrl-C."""
    command = [sys.executable, "-m", "hf_fashion.recipes.serve", str(place["vit-export"]), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        address = lines[1].split()[1]
        assert "vit-export: classification, onnx" in lines[0] and f"{address}/predict" in lines[2]
        told = httpx.post(f"{address}/predict", content=png(1), headers={"content-type": "image/png"}, timeout=30)
        assert told.json()[0]["label"].startswith("old")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode in (0, 130) and "Traceback" not in out + err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no model"),
        (["x", "--port", "70000"], "0 to 65535"),
        (["x", "--batch_size", "0"], "--batch_size 0"),
        (["x", "--threads", "0"], "--threads 0"),
        (["x", "--host", "203.0.113.9"], "an address of this machine"),
        (["./none", "--port", "0"], "no such folder"),
    ],
)
def test_settings_that_cannot_be_are_refused(words, told):
    with pytest.raises(InputError) as error:
        recipe.main(words)
    assert told in str(error.value)


def test_a_port_in_use_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError) as error:
        recipe.main(["sample", "--port", str(taken.getsockname()[1])])
    assert "--port 0" in str(error.value)


def test_a_server_of_an_export_needs_no_torch(place, photos, tmp_path):
    (tmp_path / "photo.png").write_bytes(photos[0])
    code = f"""
import sys
from hf_fashion import server
from hf_fashion.answering import Answering, Asked
for kind in {KINDS!r}:
    model = Answering(f"{place["vit"].parent}/{{kind}}-export")
    server.app(model)
    model.warm_up()
    assert model([open({str(tmp_path / "photo.png")!r}, "rb").read()], ["a photo"], Asked())
assert not {{"torch", "transformers", "gradio", "datasets", "pandas", "accelerate"}} & {{*sys.modules}}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
