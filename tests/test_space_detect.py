"""The Space of detectors, started, asked by programs and looked at in a browser."""

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import exported
import gradio
import httpx
import numpy as np
import pytest
import torch
import yaml
from gradio_client import Client, handle_file
from huggingface_hub import SpaceCard
from PIL import Image
from tiny import png, tiny
from tiny_detectors import KINDS, tiny_detector
from torchvision.ops import batched_nms
from transformers import AutoModelForObjectDetection, pipeline

from hf_fashion import cropping, images, serving
from hf_fashion.errors import InputError

FOLDER = Path(__file__).parents[1] / "spaces" / "detect"
EXAMPLES = sorted((FOLDER / "examples").glob("*.jpg"))
PHOTO = EXAMPLES[1]  # four garments
CARD = "---\nlicense: mit\n---\n# Net\n\n## Intended use\n\nFor a **test**.\n\n## Data\n"


def _space():
    """The modules of this folder; those of another Space have the same names in this process."""
    names = ("about", "answers", "app", "detector", "found", "light")
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(FOLDER))
    try:
        importlib.import_module("trained")  # stays: it is imported when a model asks for it
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(others)


about, answers, app, detector, found, light = _space()
Detector, Found, Seen = detector.Detector, detector.Found, detector.Seen


def model(folder, kind="rt_detr_v2", **config):
    """A tiny detector whose scores and boxes differ, and whose config says more."""
    tiny_detector(kind, folder)
    net = AutoModelForObjectDetection.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if name.endswith("bias") and ("class" in name or "score" in name):
                tensor.zero_()  # some begin where every score is 0.01
        for head in (net.model.enc_score_head, *net.class_embed) if kind == "rt_detr_v2" else ():
            head.weight.normal_(0, 0.5)  # torch.nn.init leaves what was loaded, after loads in threads
        for head in (net.model.enc_bbox_head, *net.bbox_embed) if kind == "rt_detr_v2" else ():
            head.layers[-1].weight.normal_(0, 0.5)
    net.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    folder = model(tmp_path_factory.mktemp("net"), score_threshold=0.7)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return tiny("resnet", tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Name -> a file that is no photo that the page takes."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "cut.jpg").write_bytes(PHOTO.read_bytes()[:900])
    (folder / "page.jpg").write_text("<html>not found</html>")
    Image.new("1", (13_300, 13_400)).save(folder / "bomb.png")  # 22 KB; Pillow alone would read it
    (folder / "large.jpg").write_bytes(PHOTO.read_bytes() + bytes(21 * 2**20))
    return {path.name: path for path in folder.iterdir()}


@contextmanager
def launched(uploads, *args):
    with pytest.MonkeyPatch.context() as patch:  # a page that ends deletes its uploads: not those of another run
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        page = app.build(*args)
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH)
        yield url.rstrip("/")
        page.close()


@pytest.fixture(scope="module")
def server(net, tmp_path_factory):
    """The page of a tiny net, in this process; gives its address."""
    with launched(tmp_path_factory.mktemp("uploads"), str(net)) as url:
        yield url


@pytest.fixture(scope="module")
def client(server):
    return Client(server, verbose=False)


def ask(client, path, **options):
    return client.predict(photo=handle_file(path), api_name="/detect", **options)


def wanted(folder, photo, least):
    """What bare transformers says, once for each garment."""
    found = pipeline("object-detection", model=str(folder), threshold=least)(images.decode(photo))
    boxes = torch.tensor([[*map(float, one["box"].values())] for one in found]).reshape(-1, 4)
    number = {name: place for place, name in enumerate(sorted({one["label"] for one in found}))}
    labels = torch.tensor([number[one["label"]] for one in found])
    kept = batched_nms(boxes, torch.tensor([one["score"] for one in found]), labels, cropping.SAME)
    return [found[place] for place in kept]


# What the model says


@pytest.mark.parametrize("kind", KINDS)
def test_the_boxes_are_those_of_the_pipeline(tmp_path, kind):
    folder = model(tmp_path, kind)
    shown = Detector(str(folder))
    seen = shown.look(PHOTO)
    told = answers.as_list(seen.size, shown.find([seen], 0.05)[0])
    bare = wanted(folder, PHOTO, 0.05)
    assert [one["label"] for one in told] == [one["label"] for one in bare] and told
    np.testing.assert_allclose([one["score"] for one in told], [one["score"] for one in bare], atol=1e-5)
    for mine, theirs in zip(told, bare, strict=True):
        np.testing.assert_allclose([*mine["box"].values()], [*theirs["box"].values()], atol=1)
        assert [*mine["box"]] == [*theirs["box"]]


def test_photos_of_many_visitors_share_a_pass_with_those_of_their_shape():
    sizes = []

    def run(inputs):
        sizes.append(len(inputs["x"]))
        time.sleep(0.05)
        return [float(one.sum()) for one in inputs["x"]]

    passes, told = serving.Passes(run, 8), {}
    photos = [torch.full((1, 2 + number % 2), float(number)) for number in range(20)]
    threads = [
        threading.Thread(target=lambda n=number: told.__setitem__(n, passes([{"x": photos[n]}])))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [told[number] for number in range(20)] == [[float(photos[number].sum())] for number in range(20)]
    assert sum(sizes) == 20 and len(sizes) < 12 and max(sizes) <= 8


def test_a_pass_that_fails_is_told_and_the_next_goes_on():
    def run(inputs):
        if inputs["x"].shape[1] == 2:
            raise RuntimeError("no memory")
        return [1] * len(inputs["x"])

    passes = serving.Passes(run, 8)
    with pytest.raises(RuntimeError, match="no memory"):
        passes([{"x": torch.zeros(1, 2)}])
    assert passes([{"x": torch.zeros(1, 3)}, {"x": torch.zeros(1, 3)}]) == [1, 1]


def test_crops_are_named_by_the_classifier_that_the_settings_name(net, classifier, tmp_path):
    shown = Detector(str(net), None, str(classifier))
    seen = shown.look(PHOTO)
    [found] = shown.find([seen], 0.6)
    bare = pipeline("image-classification", model=str(classifier), top_k=1)
    image = Image.open(BytesIO(seen.jpeg))
    for one in found:
        [guess] = bare(image.crop(detector.pixels(one.box, image.size)))
        assert one.says == (guess["label"], pytest.approx(guess["score"], abs=1e-5))
    told = answers.as_list(seen.size, found)
    assert len(told) > 1 and told[0]["classified"] == {"label": found[0].says[0], "score": found[0].says[1]}
    assert '<p class="says">' in answers.page([seen], [found])
    [plain] = Detector(str(net)).find([seen], 0.6)
    assert "says" not in answers.page([seen], [plain]) and "classified" not in answers.as_list(seen.size, plain)[0]
    many = tiny("resnet", tmp_path) / "config.json"
    many.write_text(json.dumps(json.loads(many.read_text()) | {"problem_type": "multi_label_classification"}))
    with pytest.raises(InputError, match="one label a photo"):
        Detector(str(net), None, str(tmp_path))


def test_a_model_that_is_no_detector_is_refused():
    with pytest.raises(InputError, match="detects objects"):
        Detector("sample")


def test_nothing_that_strangers_write_becomes_html():
    seen = Seen({}, (9, 9), b"", '"><script>')
    found = Found('<i>"x', 0, 0.9, (0, 0, 1, 1), ("<b>", 0.5))
    shown = answers.page([seen, (ValueError("<u>"), "<s>.jpg")], [[found]], ["<img>.jpg"])
    assert not any(bad in shown for bad in ("<b>", "<i>", "<script>", "<u>", "<s>", "<img>", '"x'))


def test_what_the_author_of_a_model_writes_is_shown_not_rendered(tmp_path):
    odd = ["![a](http://e.org/a.png)", "<img src=x>", "t-shirt"]
    folder = model(tmp_path / "*net*", id2label=dict(enumerate(odd)), label2id={name: n for n, name in enumerate(odd)})
    (folder / "README.md").write_text("---\nlicense: '[mit](x)'\n---\n## Uses\n\n![](b) <img src='d'> <script\n")
    told = about.About(str(folder), None, Detector(str(folder)))
    assert not {*"<>[]!"} & {*told.heading.partition("\n")[2]} and "t-shirt" in told.heading
    assert "![" not in told.text and "<" not in told.text and "Nobody has measured" in told.text


def test_a_box_touches_pixels_of_its_photo():
    assert detector.pixels((0, 0, 1, 1), (30, 20)) == (0, 0, 30, 20)
    assert detector.pixels((0.5, 0.5, 0.5, 0.5), (30, 20)) == (15, 10, 16, 11)
    assert detector.pixels((1, 1, 1, 1), (30, 20)) == (29, 19, 30, 20)


# The Space itself


def test_the_front_matter_is_complete():
    card = SpaceCard.load(FOLDER / "README.md").data
    assert card.sdk == "gradio" and card.sdk_version == gradio.__version__, "the newest release has the fixes"
    assert card.app_file == "app.py" and (FOLDER / card.app_file).is_file()
    assert (card.python_version, card.license, card.models) == ("3.12", "apache-2.0", [])
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {card.colorFrom, card.colorTo} <= colours and card.title and not card.emoji.isascii()
    assert len(card.short_description) <= 60 and "hf_fashion" in card.tags


def test_the_models_are_what_the_settings_name(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="MODEL=runs/mine"):
        app.model()
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump({'models': ['me/street']})}---\n")
    monkeypatch.setattr(app, "HERE", tmp_path)
    assert app.model() == ("me/street", None) and app.classifier() == (None, None)
    for name, value in {
        "MODEL": "a/b",
        "MODEL_REVISION": "v1",
        "CLASSIFIER": "c/d",
        "CLASSIFIER_REVISION": "",
    }.items():
        monkeypatch.setenv(name, value)
    assert app.model() == ("a/b", "v1") and app.classifier() == ("c/d", None)


def test_programs_get_boxes_and_reasons(client, net, broken):
    answer = ask(client, PHOTO)
    bare = wanted(net, PHOTO, 0.7)
    assert [(one["label"], one["box"].keys()) for one in answer] == [(one["label"], one["box"].keys()) for one in bare]
    assert answer and len(ask(client, PHOTO, score=0.05)) > len(answer) > len(ask(client, PHOTO, score=0.99))
    for name, reason in (("cut.jpg", "cut short"), ("page.jpg", "an HTML page"), ("bomb.png", "too many pixels")):
        with pytest.raises(Exception, match=f"This photo cannot be used: .*{reason}"):
            ask(client, broken[name])
    with pytest.raises(Exception, match="from 0 to 1"):
        ask(client, PHOTO, score=7)


def event(server, number, *values):
    """What an event of the page answers; anybody may send anything."""
    session = uuid.uuid4().hex
    body = {"data": values, "fn_index": number, "session_hash": session}
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
    events = httpx.get(f"{server}/config").json()["dependencies"]
    assert len(events) == 4  # files, camera, examples, programs
    reasons, read = set(), 0
    for one in events:
        rest = [0.5] * (len(one["inputs"]) - 1)
        for many in (False, True):
            for path, mark in ((tmp_path / "own.png", {}), (tmp_path / "none", {}), ("http://127.0.0.1:9/a", marked)):
                photo = {"path": str(path)} | mark
                told = event(server, one["id"], [photo] if many else photo, *rest)
                assert not told["success"] and "data:image" not in str(told["output"]), (one["api_name"], path)
                reasons |= {str(told["output"].get("error"))} if mark else set()
            mine = {"path": uploaded} | marked
            told = event(server, one["id"], [mine] if many else mine, *rest)
            read += told["success"]
    assert read >= 3 and reasons == {"Addresses are not fetched: upload the photo itself."}
    assert "At most 100 photos" in event(server, events[0]["id"], [{"path": uploaded}] * 101)["output"]["error"]


def test_the_page_refuses_what_it_should(server, broken):
    with broken["large.jpg"].open("rb") as file:
        assert httpx.post(f"{server}/gradio_api/upload", files={"files": file}).status_code == 413
    assert httpx.get(f"{server}/monitoring").status_code == 403
    assert httpx.get(f"{server}/config").json()["analytics_enabled"] is False
    [tool] = httpx.get(f"{server}/gradio_api/mcp/schema").json()
    assert tool["name"] == "detect" and "Finds the garments" in tool["description"]
    assert [*tool["inputSchema"]["properties"]] == ["photo", "score"]


def test_a_push_takes_all_that_the_page_needs_along(hub, net, tmp_path, monkeypatch):
    from hf_fashion.hub import push_space

    hub.create("ada/net", files={path.name: path.read_bytes() for path in net.iterdir()}, private=True)
    push_space(FOLDER, "demo", model="net")
    repo = hub.repo("ada/demo", "space")
    files = repo.files()
    mine = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.*") if "__pycache__" not in path.parts}
    mine.discard("requirements-export.txt")
    assert mine <= {*files} and {"hf_fashion/serving.py", "hf_fashion/cropping.py"} <= {*files}
    assert repo.variables == {"MODEL": "ada/net"} and b"models:\n- ada/net\n" in files["README.md"]


@pytest.mark.slow
def test_a_pushed_space_starts_as_the_hub_lays_it_out(hub, net, tmp_path):
    from hf_fashion.hub import push_space

    hub.create("ada/net", files={path.name: path.read_bytes() for path in net.iterdir()}, private=True)
    push_space(FOLDER, "demo", model="net")
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
            address = f"http://127.0.0.1:{port}"
            assert ask(Client(address, verbose=False), PHOTO)[0]["score"] >= 0.7
            assert "ada/net" in httpx.get(address).text
        finally:
            process.terminate()


# In a browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium, as of `apt-get install chromium`")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
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


def upload(page, *paths):
    page.locator("input[type=file]").first.set_input_files([str(path) for path in paths])
    page.wait_for_selector("#answers .said")
    return page.locator("#answers .said > li")


def at(page, score):
    """Moves the slider; the rows and boxes that are shown then."""
    page.locator("#score input[type=range]").fill(str(score))
    page.wait_for_timeout(200)
    return page.locator(".found > li:visible"), page.locator(".box:visible")


def test_a_visitor_sees_boxes_counts_and_crops_and_moves_the_slider(visit, client, broken):
    page = visit()
    cards = upload(page, PHOTO, broken["cut.jpg"])
    assert cards.count() == 2 and "cut short" in cards.nth(1).inner_text()
    answer = ask(client, PHOTO)
    page.wait_for_function("document.querySelector('.found a[href]')")
    rows, boxes = page.locator(".found > li:visible"), page.locator(".box:visible")
    assert rows.count() == boxes.count() == len(answer)
    assert (
        f"1 {answer[0]['label']}" in rows.first.inner_text() and f"1 {answer[0]['label']}" in boxes.first.inner_text()
    )
    photo, box = page.locator("figure img").bounding_box(), boxes.first.bounding_box()
    scale = photo["width"] / Image.open(PHOTO).width
    assert box["x"] - photo["x"] == pytest.approx(answer[0]["box"]["xmin"] * scale, abs=2)
    assert box["height"] == pytest.approx((answer[0]["box"]["ymax"] - answer[0]["box"]["ymin"]) * scale, abs=3)
    # Every word is told without another pass of the net, or any other request.
    asked = []
    page.on("request", lambda request: None if request.url.startswith("data:") else asked.append(request.url))
    for score in (0.05, 0.72, 1):
        rows, boxes = at(page, score)
        told = ask(client, PHOTO, score=score)[: app.BOXES]
        assert rows.count() == boxes.count() == len(told)
        labels = [one["label"] for one in told]
        counts = {label: labels.count(label) for label in labels}
        said = page.locator("#status p").inner_text()
        assert all(f"{count}\u00a0×\u00a0{label}" in said for label, count in counts.items())
    assert "nothing" in said and "Nothing" in page.locator(".counts").inner_text() and not asked
    assert page.locator("#status p[role=status]").count() == 1


@pytest.mark.slow
def test_a_crop_is_the_box_and_can_be_downloaded(visit, client):
    page = visit()
    upload(page, PHOTO)
    page.wait_for_function("document.querySelector('.found a[href]')")
    with page.expect_download() as started:
        page.locator(".found a").first.click()
    assert started.value.suggested_filename.startswith(f"{PHOTO.stem}-1-")
    box, crop = ask(client, PHOTO)[0]["box"], Image.open(started.value.path())
    assert abs(crop.width - (box["xmax"] - box["xmin"])) <= 2 and abs(crop.height - (box["ymax"] - box["ymin"])) <= 2
    true = images.decode(PHOTO).crop([*box.values()]).resize(crop.size)
    assert np.abs(np.asarray(true, dtype=float) - np.asarray(crop, dtype=float)).mean() < 12


@pytest.mark.slow
def test_examples_are_called_by_their_names_and_work_with_the_keyboard(visit):
    page = visit()
    for path in EXAMPLES:
        page.get_by_role("button", name=f"Example: {path.stem.replace('-', ' ')}", exact=True).wait_for()
    page.locator("button.gallery-item").nth(2).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#answers figure img")
    assert page.locator("#answers figure img").get_attribute("alt") == EXAMPLES[2].name
    slider = page.locator("#score input[type=range]")
    before = page.locator(".found > li:visible").count()
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(200)
    assert page.locator(".found > li:visible").count() > before and "slider" in slider.get_attribute("aria-label")
    page.locator(".found a").nth(1).focus()  # the box of the crop that has the focus stands out
    assert page.locator(".box.on").count() == 1 and "2 " in page.locator(".box.on").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit, scheme):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    page = visit(**phone)
    upload(page, EXAMPLES[0], EXAMPLES[1])
    page.wait_for_function("document.querySelector('.found a[href]')")
    # The answer comes into sight by itself.
    page.wait_for_function("document.querySelector('#answers').getBoundingClientRect().top < innerHeight / 2")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    photo = page.locator("figure img").first.bounding_box()
    assert photo["width"] > 240
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.box span')).fontSize)") >= 12
    text, back = (
        [int(part) for part in page.evaluate(
            f"getComputedStyle(document.querySelector('#answers .said > li')).{name}"
        ).strip("rgba()").split(",")[:3]]
        for name in ("color", "backgroundColor")
    )  # fmt: skip
    assert (sum(back) > 600, sum(text) > 600) == ((True, False) if scheme == "light" else (False, True))


@pytest.mark.slow
def test_crops_are_named_on_the_page(browser, visit, net, classifier, tmp_path):
    with launched(tmp_path, str(net), None, str(classifier)) as url:
        page = visit(url)
        upload(page, PHOTO)
        rows = page.locator(".found > li:visible")
        rows.first.wait_for()
        assert all("old" in row.inner_text() for row in rows.all()) and "then named by" in page.content()
        [one, *_] = ask(Client(url, verbose=False), PHOTO)
        assert one["classified"]["label"].startswith("old")


def test_the_photos_to_try_are_yours_or_the_models_or_ours(monkeypatch, tmp_path):
    assert app.examples_of(str(tmp_path / "none"), None, tmp_path) == EXAMPLES
    assert {path.stem for path in EXAMPLES} == app.SHIPPED
    (tmp_path / "widget").mkdir()
    (tmp_path / "widget" / "a.jpg").write_bytes(EXAMPLES[0].read_bytes())
    (tmp_path / "widget" / "b.jpg").write_bytes(b"no")
    [one] = app.examples_of(str(tmp_path), None, tmp_path)
    assert one.name == "a.jpg" and one.parent != tmp_path / "widget"
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "mine.jpg").write_bytes(EXAMPLES[0].read_bytes())
    monkeypatch.setattr(app, "HERE", tmp_path)
    assert [path.name for path in app.examples_of(str(tmp_path), None, tmp_path)] == ["mine.jpg"]


def test_a_model_that_cannot_be_loaded_is_told(monkeypatch, tmp_path):
    pages = []
    monkeypatch.setattr(gradio.Blocks, "launch", lambda page, **_: pages.append(page))
    monkeypatch.setenv("MODEL", str(tmp_path))
    with pytest.raises(SystemExit, match="expected"):
        app.main()
    monkeypatch.setenv("SPACE_ID", "ada/demo")
    app.main()
    [page] = pages
    assert "could not be loaded" in str(page.config["components"]) and "HF_TOKEN" in str(page.config["components"])


def test_pictures_stay_pictures():
    """The examples can be read, and are scenes of `hf_fashion.samples`."""
    assert len(EXAMPLES) == 6
    for path in EXAMPLES:
        assert images.decode(path).size == (480, 480) and not Image.open(path).getexif()


# An exported model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    pytest.importorskip("onnx")
    return exported.made(tmp_path_factory)


def boxes_of(place, name, *photos):
    one = Detector(str(place[name]))
    return one, one.find([one.look(photo) for photo in photos])


def test_an_export_finds_what_the_model_finds(place, tmp_path):
    """A photo of the size that the net sees: both see the same pixels."""
    side = 64
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side)).save(tmp_path / f"{number}.png")
    photos = sorted(tmp_path.glob("*.png"))
    (trained, expected), (export, told) = (boxes_of(place, name, *photos) for name in ("detector", "detector-export"))
    size = export.net.net.about["input"]["size"]
    assert size == [side, side], "the photo is resized"
    assert trained.labels == export.labels and trained.threshold is None and export.threshold is None
    assert export.form == "ONNX, fp32" and trained.form is None
    for one, other in zip(expected, told, strict=True):
        assert len(one) > 3 and [box.label for box in one] == [box.label for box in other]
        np.testing.assert_allclose([box.score for box in one], [box.score for box in other], atol=2e-3)
        np.testing.assert_allclose([box.box for box in one], [box.box for box in other], atol=2e-3)
    assert all(box.score >= 0.5 for box in export.find([export.look(photos[0])], 0.5)[0])
    assert len(export.find([export.look(photos[0])], 0.0, 2)[0]) == 2


def test_crops_are_named_by_an_export_too(place):
    namers = [Detector(str(place["detector-export"]), None, str(place[name])) for name in ("vit", "vit-export")]
    trained, export = (one.find([one.look(PHOTO)], 0.3, 5)[0] for one in namers)
    assert trained and [one.says[0] for one in trained] == [one.says[0] for one in export]
    np.testing.assert_allclose([one.says[1] for one in trained], [one.says[1] for one in export], atol=0.1)
    told = about.About(str(place["detector-export"]), None, namers[1], str(place["vit-export"]))
    assert "then named by **vit-export**" in told.heading and "exported file (ONNX, fp32)" in told.text
    with pytest.raises(InputError, match="a model of one label a photo"):
        Detector(str(place["detector-export"]), None, str(place["attributes-export"]))
    with pytest.raises(InputError, match="an export that is a classifier"):
        Detector(str(place["vit-export"]))


def test_what_needs_torch_is_left_out_and_told(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "trained", None)
    one = Detector(str(place["detector-export"]), None, str(place["vit"]))
    assert all(box.says is None for box in one.find([one.look(PHOTO)])[0])
    told = about.About(str(place["detector-export"]), None, one, str(place["vit"]))
    assert "gets no further name" in told.heading
    with pytest.raises(InputError, match="an export, or an installation with torch"):
        Detector(str(place["detector"]))


def test_constants_are_those_of_the_library():
    assert (found.MOST, found.USUAL) == (cropping.MOST, cropping.USUAL)


def test_a_pushed_space_of_an_export_asks_for_no_torch(hub, place):
    from hf_fashion.hub import push_space

    files = {path.name: path.read_bytes() for path in place["detector-export"].iterdir() if path.is_file()}
    hub.create("ada/net", files=files)
    push_space(FOLDER, "demo", model="net")
    asked = hub.repo("ada/demo", "space").files()["requirements.txt"].decode()
    assert "onnxruntime" in asked and "torch" not in asked and "transformers" not in asked


@pytest.mark.slow
def test_a_page_of_an_export(browser, place, tmp_path):
    """In a process that brings what a pushed Space installs, and in a browser."""
    from hf_fashion.hub import spaces

    space = shutil.copytree(FOLDER, tmp_path / "space", ignore=shutil.ignore_patterns("__pycache__"))
    (space / "requirements.txt").write_text(
        spaces.with_dependencies("", "onnxruntime", (FOLDER / spaces.LIGHT).read_text())
    )
    for name, content in spaces.library().items():
        (space / name).parent.mkdir(parents=True, exist_ok=True)
        (space / name).write_bytes(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = {"MODEL": str(place["detector-export"]), "GRADIO_SERVER_PORT": port, "GRADIO_TEMP_DIR": str(tmp_path)}
    told = tmp_path / "told.txt"
    with told.open("w") as output, subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("as_a_space.py"))], cwd=space, env=os.environ | settings,
        stdout=output, stderr=output,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + 300
            while "Running on local URL" not in told.read_text():
                assert process.poll() is None and time.monotonic() < deadline, told.read_text()
                time.sleep(0.5)
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}")
            page.wait_for_selector("#answers .waiting")
            page.locator("input[type=file]").first.set_input_files(str(PHOTO))
            page.wait_for_selector("#answers .said img")
            assert page.locator("#answers .found li").count() > 0
            page.close()
        finally:
            process.terminate()
