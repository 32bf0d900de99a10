"""What the server refuses has one form; what is no number is never JSON; and SIGTERM ends it in order."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient
from tiny import png

from hf_fashion import answering, server
from hf_fashion.answering import Answering, NoNumbers
from hf_fashion.recipes import serve as recipe

ABOUT = {
    "classification": {"labels": ["hat", "coat"]},
    "attributes": {"labels": ["red", "blue"], "groups": {"color": {"many": False, "labels": ["red", "blue"]}},
                   "thresholds": {}},
    "detection": {"labels": ["hat", "coat"], "score_threshold": 0.3, "queries_at_most": 4, "same": 0.7, "most": 9},
    "retrieval": {"dimension": 2},
}  # fmt: skip


class Net:
    """An export whose answer is the same for each photo, but NaN in its first number for those that are dark."""

    kind = "classification"

    def __init__(self, folder, threads=None):
        self.about = {"kind": self.kind, "format": "onnx"} | ABOUT[self.kind]
        self.labels = self.about.get("labels", [])

    def look(self, photo):
        return np.asarray(photo.resize((4, 4)))[None]

    def run(self, pixels):
        scores = np.tile([0.7, 0.2], (len(pixels), 1))
        scores[pixels.reshape(len(pixels), -1).max(axis=1) < 9, 0] = np.nan
        places = np.tile([0.1, 0.1, 0.5, 0.5], (len(pixels), 1, 1))
        return [scores[:, None], places] if self.kind == "detection" else [scores]


@pytest.fixture
def answers(monkeypatch):
    """A server's client, of a model of some kind."""
    monkeypatch.setattr(answering.exports, "find", lambda *_: Path("export"))
    monkeypatch.setattr(answering.exports, "Net", Net)

    def made(kind="classification", **client):
        monkeypatch.setattr(Net, "kind", kind)
        return TestClient(server.app(Answering("export")), **client)

    return made


def dark():
    return bytes_of(0)


def bytes_of(grey):
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (8, 8), (grey,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ABOUT)
def test_scores_that_are_no_numbers_are_an_error_and_no_json(kind, answers):
    client = answers(kind)
    told = client.post("/predict", content=dark(), headers={"content-type": "image/png"})
    assert told.status_code == 500 and "NaN or infinite" in told.json()["error"]["found"]
    both = client.post("/predict", files=[("p", ("a.png", bytes_of(200))), ("p", ("b.png", dark()))])
    assert both.status_code == 500 and both.json()["error"]["what"] == "b.png"
    sound = client.post("/predict", content=bytes_of(200), headers={"content-type": "image/png"})
    assert sound.status_code == 200 and json.loads(sound.text, parse_constant=pytest.fail)


def test_one_photo_without_numbers_takes_no_other_down(answers):
    model = answers().app and Answering("export", wait=0.2, batch_size=2)
    ends = {}

    def ask(name, grey):
        try:
            ends[name] = model([bytes_of(grey)], [name], answering.Asked())
        except NoNumbers as error:
            ends[name] = error

    threads = [threading.Thread(target=ask, args=one) for one in (("dark", 0), ("light", 200))]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert isinstance(ends["dark"], NoNumbers) and ends["light"][0][0]["label"] == "hat"


@pytest.mark.parametrize(
    ("ask", "status", "told"),
    [
        (lambda c: c.get("/predict"), 405, "GET /predict: Method Not Allowed"),
        (lambda c: c.get("/nothing"), 404, "GET /nothing: Not Found"),
        (lambda c: c.post("/predict?top_k=0", content=png(1)), 422, "greater than or equal to 1"),
        (lambda c: c.post("/predict?top_k=many", content=png(1)), 422, "many"),
        (lambda c: c.post("/predict?score=nan", content=png(1)), 422, "score in the address"),
        (lambda c: c.post("/predict", data={"a": "b"}), 415, "-H 'content-type: image/jpeg' ADDRESS/predict"),
    ],
)
def test_every_refusal_has_the_servers_own_form(ask, status, told, answers):
    answer = ask(answers())
    error = answer.json()["error"]
    assert answer.status_code == status and {*error} == {"what", "expected", "found", "to_do"}
    assert told in " ".join(error.values()) and all(error.values())
    if status == 405:
        assert answer.headers["allow"] == "POST"


def test_what_breaks_within_is_told_in_that_form_and_not_how(answers, monkeypatch):
    client = answers(raise_server_exceptions=False)
    monkeypatch.setattr(Net, "run", lambda *_: 1 / 0)
    told = client.post("/predict", content=png(1), headers={"content-type": "image/png"})
    assert told.status_code == 500 and told.json()["error"]["found"] == "ZeroDivisionError"


def test_the_schema_says_what_a_refusal_is(answers):
    said = answers().get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    assert {*said} == {"200", "default"} and "to_do" in json.dumps(said["default"])


def test_sigterm_ends_it_with_a_line_when_what_is_under_way_is_answered(answers, monkeypatch, capsys):
    """In this process, whose own way with SIGTERM is there again afterwards."""
    answers()
    asked, told, run = threading.Event(), [], Net.run

    def slow(self, pixels):
        if told == ["ready"]:
            asked.set()
            time.sleep(0.5)
        return run(self, pixels)

    monkeypatch.setattr(Net, "run", slow)
    before, address = signal.getsignal(signal.SIGTERM), []
    listening = recipe.listening
    monkeypatch.setattr(recipe, "listening", lambda *place: address.append(listening(*place)) or address[0])

    def client():
        while not address:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{address[0].getsockname()[1]}"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{url}/health")
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        told.append("ready")
        told.append(httpx.post(f"{url}/predict", content=bytes_of(200), headers={"content-type": "image/png"}))

    asking = threading.Thread(target=client)
    ending = threading.Thread(target=lambda: (asked.wait(20), os.kill(os.getpid(), signal.SIGTERM)))
    asking.start(), ending.start()
    recipe.main(["export", "--port", "0"])
    asking.join(20), ending.join(20)
    assert told[1].status_code == 200 and capsys.readouterr().out.splitlines()[-1].startswith("ended:    by SIGTERM")
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_help_says_what_is_taken(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit):
        recipe.main(["--help"])
    shown = capsys.readouterr().out
    for told in ("at most 20 of them, 25 megapixels, and a longer side of 50 times", "within 60 seconds",
                 "Photos in one request, at most. (default: 32)", "come later. (default: 64)"):  # fmt: skip
        assert told in shown
