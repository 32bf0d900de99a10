"""The Spaces, started, asked by programs and looked at in a browser."""

import importlib.metadata
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import exported
import httpx
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement
from PIL import Image
from tiny import png, tiny
from transformers import pipeline

from hf_fashion import attributes, images
from hf_fashion.errors import InputError

FOLDER = Path(__file__).parents[1] / "spaces" / "classify"
sys.path.insert(0, str(FOLDER))

import answers  # noqa: E402
import app  # noqa: E402
import gradio  # noqa: E402
from about import About, intended_use  # noqa: E402
from classifier import Classifier, Said  # noqa: E402
from gradio_client import Client, handle_file  # noqa: E402

EXAMPLES = sorted((FOLDER / "examples").glob("*.jpg"))


def model(folder, kind="resnet", labels=3, **config):
    """A tiny checkpoint whose config says more."""
    path = tiny(kind, folder, labels=labels) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Name -> a file that is no photo that the page takes."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "cut.jpg").write_bytes(EXAMPLES[0].read_bytes()[:900])
    (folder / "page.jpg").write_text("<html>not found</html>")
    Image.new("1", (13_300, 13_400)).save(folder / "bomb.png")  # 22 KB; Pillow alone would read it
    (folder / "large.jpg").write_bytes(EXAMPLES[0].read_bytes() + bytes(21 * 2**20))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page of a tiny net, in this process; gives its address."""
    folder = model(tmp_path_factory.mktemp("net"), unsure_below=0.999)
    folder.joinpath("README.md").write_text(
        "---\nlicense: mit\n---\n# Net\n\n## Intended use\n\nFor a **test**.\n\n## Data\n"
    )
    with pytest.MonkeyPatch.context() as patch:  # a page that ends deletes its uploads: not those of another run
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        patch.setattr(app, "SHIPPED", set())  # all examples, whatever the labels
        page = app.build(str(folder))
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH)
        yield url.rstrip("/")
        page.close()


@pytest.fixture(scope="module")
def client(server):
    return Client(server, verbose=False)


def ask(client, path):
    return client.predict(photo=handle_file(path), api_name="/classify")


# What the model says


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_the_scores_are_those_of_the_pipeline(tmp_path, kind):
    folder = model(tmp_path, kind)
    classifier = Classifier(str(folder))
    for example in EXAMPLES[:2]:
        [[said]] = classifier.say([classifier.look(example)[0]])
        guesses = pipeline("image-classification", model=str(folder), top_k=None)(images.decode(example))
        assert [*said.scores] == [guess["label"] for guess in guesses]
        np.testing.assert_allclose([*said.scores.values()], [guess["score"] for guess in guesses], atol=1e-6)
        assert said.labels == (guesses[0]["label"],) and said.group == ""


@pytest.mark.parametrize("told, sure", [({"unsure_below": 0.01}, True), ({"unsure_below": 1.1}, False), ({}, None),
                                        ({"unsure_below": "high"}, None)])  # fmt: skip
def test_it_is_unsure_below_the_score_that_the_config_holds(tmp_path, told, sure):
    classifier = Classifier(str(model(tmp_path, **told)))
    [[said]] = classifier.say([classifier.look(EXAMPLES[0])[0]])
    assert said.sure is sure
    assert ("Unsure" in answers.page([(None, Image.new("RGB", (9, 9)), "a.jpg")], [[said]])) == (sure is False)
    about = About("x", None, classifier)
    assert ("95 in 100" in about.text) == (sure is not None) == ("not measured" not in about.heading)


@pytest.mark.parametrize("second, sure, close", [(0.33, None, True), (0.2, None, False), (0.33, True, False)])
def test_a_near_tie_is_marked_where_nobody_measured_how_sure_the_model_is(second, sure, close):
    said = Said("", ("hat",), {"hat": 0.34, "dress": second, "sock": 0.0}, sure=sure)
    shown = answers.page([(None, Image.new("RGB", (9, 9)), "a.jpg")], [[said]])
    assert ("hat?" in shown) == ("dress scores nearly as high" in shown) == close


def test_of_several_photos_each_is_called_by_its_name_and_what_is_left_is_told():
    said = Said("", ("hat",), {"hat": 1.0}, sure=True)
    small = Image.new("RGB", (9, 9))
    assert "<p" not in answers.page([(None, small, "a.jpg")], [[said]])
    shown = answers.page([(None, small, "a.jpg"), (None, small, "b.jpg")], [[said], [said]], ["c.jpg", "<d>.jpg"])
    assert '<p class="name">a.jpg</p>' in shown and '<p class="name">b.jpg</p>' in shown
    assert "The first 2 of 4 photos" in shown and "c.jpg, &lt;d&gt;.jpg" in shown


def test_examples_are_of_things_that_the_model_knows(tmp_path, monkeypatch):
    names = ["Hat", "sock", "tie"]
    net = model(tmp_path / "net", id2label=dict(enumerate(names)), label2id={name: n for n, name in enumerate(names)})
    classifier = Classifier(str(net))
    assert [path.stem for path in app.examples_of(str(net), None, classifier)] == ["hat"]
    assert len(app.examples_of(app.BUILT_IN, None, classifier)) == len(EXAMPLES)
    (net / "widget").mkdir()
    (net / "widget" / "1.jpg").write_bytes(EXAMPLES[0].read_bytes())
    (net / "widget" / "2.jpg").write_text("<html>")
    [theirs] = app.examples_of(str(net), None, classifier)
    assert theirs.name == "1.jpg" and net not in theirs.parents and images.decode(theirs).size[0] > 100
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "mine.jpg").write_bytes(EXAMPLES[0].read_bytes())
    monkeypatch.setattr(app, "HERE", tmp_path)
    assert [path.stem for path in app.examples_of(str(net), None, classifier)] == ["mine"]


def test_examples_come_from_the_models_repo(hub, tmp_path):
    hub.create("ada/net", files={"widget/1.jpg": EXAMPLES[0].read_bytes()}, private=True)
    classifier = Classifier(str(model(tmp_path / "net")))
    assert [path.name for path in app.examples_of("ada/net", None, classifier)] == ["1.jpg"]
    assert app.examples_of("ada/none", None, classifier) == []


def test_a_model_that_cannot_be_loaded_is_told_and_nothing_is_raised(monkeypatch, capsys):
    monkeypatch.setenv("MODEL", "ada/*private*")
    launched = []
    monkeypatch.setattr(gradio.Blocks, "launch", lambda self, **settings: launched.append(self))
    with pytest.raises(SystemExit, match=r"(?s)error: the model 'ada/\*private\*'.*to do:"):
        app.main()
    assert not launched
    monkeypatch.setenv("SPACE_ID", "ada/demo")
    app.main()
    [page] = launched
    [told] = [block.value for block in page.blocks.values() if isinstance(block, gradio.Markdown)]
    assert "HF_TOKEN" in told and "&#42;private&#42;" in told and "could not be loaded" in told
    assert "error: the model 'ada/*private*'" in capsys.readouterr().err


def test_attributes_are_told_group_by_group(tmp_path):
    groups = [attributes.Group("colour", ("red", "blue"), many=False), attributes.Group("tags", ("a", "b"), True, 2)]
    names = attributes.names(groups)
    told = attributes.describe(groups, np.array([0.5, 0.5, 0.0, 1.0]))
    folder = model(
        tmp_path, labels=4, problem_type="multi_label_classification", id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)}, **told,
    )  # fmt: skip
    classifier = Classifier(str(folder))
    pixels = classifier.look(EXAMPLES[0])[0]
    [[colour, tags]] = classifier.say([pixels])
    scores = attributes.probabilities(classifier.logits(pixels).numpy(), groups)[0]
    assert (colour.group, colour.many, tags.group, tags.many) == ("colour", False, "tags", True)
    assert colour.scores == pytest.approx({"red": scores[0], "blue": scores[1]})
    assert sum(colour.scores.values()) == pytest.approx(1) and colour.labels == (
        max(colour.scores, key=colour.scores.get),
    )
    assert tags.labels == ("a",)  # at its thresholds 0 and 1
    assert answers.as_dict([colour, tags])["tags"]["labels"] == ["a"]
    shown = answers.page([(pixels, Image.new("RGB", (9, 9)), "a.jpg")], [[colour, tags]])
    assert "<small>colour</small>" in shown and "<small>tags</small> a" in shown
    about = About("x", None, classifier)
    assert "says its colour, tags." in about.heading and "thresholds" in about.text


def test_a_model_without_a_head_is_refused():
    with pytest.raises(ValueError, match="missing"):
        Classifier("sample")


def test_photos_of_many_visitors_share_a_pass(tmp_path):
    classifier = Classifier(str(model(tmp_path)))
    photos = [classifier.look(EXAMPLES[number % 6])[0] for number in range(20)]
    alone = [classifier.logits(photo) for photo in photos]
    forward, sizes = classifier.net.forward, []

    def slow(pixels):
        sizes.append(len(pixels))
        time.sleep(0.05)
        return forward(pixels)

    classifier.net.forward = slow
    together = [None] * len(photos)
    threads = [
        threading.Thread(target=lambda n=number: together.__setitem__(n, classifier.logits(photos[n])))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sizes) == 20 and len(sizes) < 10
    torch.testing.assert_close(torch.cat(together), torch.cat(alone))


def test_a_pass_that_fails_is_told_and_the_next_goes_on(tmp_path):
    classifier = Classifier(str(model(tmp_path)))
    pixels = classifier.look(EXAMPLES[0])[0]
    with pytest.raises(ValueError, match="channel"):
        classifier.logits(pixels[:, :1])
    assert classifier.logits(pixels).shape == (1, 3)


def test_nothing_that_strangers_write_becomes_html():
    said = Said("<b>", ("<i>",), {"<i>": 0.9, "<script>": 0.1}, sure=False)
    shown = answers.page([(None, Image.new("RGB", (9, 9)), '"><script>'), (ValueError("<u>"), "<s>.jpg")], [[said]])
    assert not any(bad in shown for bad in ("<b>", "<i>", "<script>", "<u>", "<s>"))


def test_a_score_never_reads_as_certain():
    assert [answers.percent(score) for score in (0.0, 0.004, 0.5, 0.994, 1.0)] == [
        "<1 %",
        "<1 %",
        "50 %",
        "99 %",
        ">99 %",
    ]


@pytest.mark.parametrize(
    "card, told",
    [
        (
            "# A\n\n## Intended use and limits\n\n**For** it.\n\n### More\n\nx\n\n## Data\n\ny",
            "**For** it.\n\n### More\n\nx",
        ),
        ("## Use\n\ncode\n\n## Uses\n\n### Direct Use\n\nz\n\n### Other", "z"),
        ("## Uses\n\nz\n", "z"),
    ],
)
def test_the_intended_use_is_the_cards(card, told):
    assert intended_use(card) == told
    assert "does not say" in intended_use("# A card\n\nwithout it")


def test_what_the_author_of_a_model_writes_is_shown_not_rendered(tmp_path):
    odd = ["![a](http://e.org/a.png)", "<img src=x>\n# b", "www.e.org $$x$$ `c` t-shirt"]
    folder = model(tmp_path / "*net*", id2label=dict(enumerate(odd)), label2id={name: n for n, name in enumerate(odd)})
    (folder / "README.md").write_text(
        "---\nlicense: '[mit](http://e.org)'\n---\n## Uses\n\n" + "![](b)![x][c] <img src='d'> <script\n!![](e)[f](g)"
    )
    about = About(str(folder), None, Classifier(str(folder)))
    written = about.heading.partition("\n")[2]
    assert not {*"<>[]()!$`_"} & {*written.replace("(licence: ", "", 1).replace(") says", "", 1)}
    assert written.count("*") == 4 and "www." not in written and "t-shirt" in written
    for odd_one in (*odd, "[mit](http://e.org)"):
        assert " ".join(odd_one.split()) in unescape(written)
    assert "![" not in about.text and "<" not in about.text and "&lt;script" in about.text


@pytest.mark.parametrize(
    "card, told",
    [
        ("a ![b](c.png 'd') e", "a  e"),
        ("![a][b] ![c]", ""),
        ("[![a](b)](c) x", "[](c) x"),
        ("<p align='x'>a</p> <!-- b\n --> 3 < 4", "a  3 &lt; 4"),
        ("<<b>img src=x>", "&lt;img src=x>"),
        ("**a** [b](c)\n- d", "**a** [b](c)\n- d"),
    ],
)
def test_images_and_html_of_a_card_are_left_out(card, told):
    assert intended_use(f"## Uses\n\n{card}\n") == told.strip()


# The Space itself


def test_the_front_matter_is_complete():
    card = SpaceCard.load(FOLDER / "README.md").data
    assert card.sdk == "gradio" and card.sdk_version == gradio.__version__, "the newest release has the fixes"
    assert card.app_file == "app.py" and (FOLDER / card.app_file).is_file()
    assert (card.python_version, card.license, card.models) == ("3.12", "apache-2.0", [])
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {card.colorFrom, card.colorTo} <= colours and card.title and not card.emoji.isascii()
    assert len(card.short_description) <= 60 and "hf_fashion" in card.tags


def test_the_model_is_what_the_settings_name(monkeypatch, tmp_path):
    assert app.model() == ("efficientnet-lite0", None)
    front = yaml.safe_dump({"models": ["me/dresses"]})
    (tmp_path / "README.md").write_text(f"---\n{front}---\n")
    monkeypatch.setattr(app, "HERE", tmp_path)
    assert app.model() == ("me/dresses", None)
    monkeypatch.setenv("MODEL", "runs/mine")
    monkeypatch.setenv("MODEL_REVISION", "v1")
    assert app.model() == ("runs/mine", "v1")


def test_programs_get_an_answer_and_reasons(client, broken):
    answer = ask(client, EXAMPLES[0])
    assert answer["label"] == max(answer["scores"], key=answer["scores"].get) and answer["sure"] is False
    assert answer["score"] == answer["scores"][answer["label"]] and len(answer["scores"]) == 3
    for name, reason in (
        ("cut.jpg", "cut short"),
        ("page.jpg", "an HTML page"),
        ("bomb.png", "too many pixels, 13,300 x 13,400.*smaller copy"),
    ):
        with pytest.raises(Exception, match=f"This photo cannot be used: .*{reason}"):
            ask(client, broken[name])


def call(server, path):
    """What the page answers to a program that names a path, or an address, without uploading."""
    body = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
    event = httpx.post(f"{server}/gradio_api/call/classify", json=body).json()["event_id"]
    return httpx.get(f"{server}/gradio_api/call/classify/{event}").text


def test_what_was_not_uploaded_is_not_read(server):
    here = f"{server}/gradio_api/file="
    for path in ("http://127.0.0.1:9/a.jpg", f"{here}{EXAMPLES[0]}", f"{here}../..{EXAMPLES[0]}", here):
        assert "Addresses are not fetched" in call(server, path)
    told = call(server, str(EXAMPLES[0]))
    assert "event: error" in told and "scores" not in told


def event(server, number, *data):
    """What an event of the page answers; its buttons and fields are numbered, and anybody may send anything."""
    session = uuid.uuid4().hex
    body = {"data": data, "fn_index": number, "session_hash": session}
    httpx.post(f"{server}/gradio_api/queue/join", json=body).raise_for_status()
    with httpx.stream("GET", f"{server}/gradio_api/queue/data?session_hash={session}", timeout=30) as lines:
        for line in lines.iter_lines():
            told = json.loads(line.removeprefix("data:") or "{}")
            if told.get("msg") == "process_completed":
                return told
    raise AssertionError("no answer")


def test_no_event_opens_a_file_of_the_server(server, tmp_path):
    numbers = [one["id"] for one in httpx.get(f"{server}/config").json()["dependencies"]]
    assert len(numbers) >= 4  # files, camera, examples, programs
    [uploaded] = httpx.post(f"{server}/gradio_api/upload", files={"files": ("a.png", png(2))}).json()
    (tmp_path / "own.png").write_bytes(png(3))
    files = [uploaded, str(tmp_path / "none"), str(tmp_path / "own.png"), "/etc/hostname"]
    marked = {"meta": {"_type": "gradio.FileData"}}  # without it Gradio looks at no path
    asked = [
        (number, path, mark, many)
        for number in numbers
        for many in (False, True)
        for mark, paths in (({}, files), (marked, [uploaded, "http://127.0.0.1:9/a.png"]))
        for path in paths
    ]

    def send(number, path, mark, many):
        photo = {"path": path} | mark
        return event(server, number, [photo] if many else photo)

    with ThreadPoolExecutor(16) as pool:
        told = [*pool.map(lambda one: send(*one), asked)]
    read, reasons = 0, {}
    for (number, path, mark, many), answer in zip(asked, told, strict=True):
        output = str(answer["output"])
        if path == uploaded:
            read += "data:image" in output or "scores" in output
            continue
        assert not answer["success"] and "data:image" not in output, (number, path, mark, many)
        if mark:
            assert "Addresses are not fetched" in output
        else:
            reasons.setdefault((number, many), set()).add(output.replace(path, ""))
    assert all(len(different) == 1 for different in reasons.values()), "the answer tells which files there are"
    assert read >= 4  # what was uploaded is read: the test asks as the page does


def test_a_path_is_followed_to_its_end_before_it_is_judged(server, tmp_path):
    [uploaded] = httpx.post(f"{server}/gradio_api/upload", files={"files": ("a.png", png(2))}).json()
    link = Path(uploaded).with_name("link.png")
    link.unlink(missing_ok=True)
    link.symlink_to(EXAMPLES[0])
    try:
        for path in (link, f"{Path(uploaded).parent}/{'../' * 20}{EXAMPLES[0]}", EXAMPLES[0]):
            with pytest.raises(gradio.Error, match="upload the photo itself"):
                app.upload({"path": str(path)})
    finally:
        link.unlink()
    assert app.upload({"path": uploaded}) == Path(uploaded).resolve()
    for odd in ({"path": "a\0b"}, {"path": None}, {"path": ["a"]}, "a", 5, None, {}):
        with pytest.raises(gradio.Error, match="upload the photo itself"):
            app.upload(odd)


def test_long_lists_are_refused_before_their_files_are_looked_at(server):
    [path] = httpx.post(f"{server}/gradio_api/upload", files={"files": ("a.png", png(2))}).json()
    photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for many in ([photo] * 101, [[photo] * 60] * 2, [{"a": photo, "b": photo}] * 60, {str(n): 0 for n in range(101)}):
        assert "At most 100 photos" in event(server, 0, many)["output"]["error"]
    told = event(server, 0, [photo] * 100)
    assert told["success"] and "The first 12 of 100 photos" in told["output"]["data"][0]
    assert told["output"]["data"][0].count(Path(path).name) == 2 * 12 + 88  # twice with each answer, and those left


def test_the_net_that_is_built_in_starts_and_answers():
    name, revision = app.model()
    app.build(name, revision).close()
    classifier = Classifier(name, revision)
    assert len({*classifier.labels}) == 1000 and {"crane", "crane (2)"} <= {*classifier.labels}
    [[said]] = classifier.say([classifier.look(EXAMPLES[0])[0]])
    assert len(said.scores) == 1000


def test_labels_that_repeat_get_numbers(tmp_path):
    names = ["hat", "hat", "hat (2)", "hat"]
    classifier = Classifier(str(model(tmp_path, labels=4, id2label=dict(enumerate(names)), label2id={"hat": 3})))
    assert classifier.labels == ["hat", "hat (3)", "hat (2)", "hat (4)"]


def test_an_upload_may_be_named_by_its_address(server):
    [path] = httpx.post(f"{server}/gradio_api/upload", files={"files": ("a b.png", png(2))}).json()
    assert "scores" in call(server, f"{server}/gradio_api/file={quote(path)}")


def test_large_uploads_and_the_watching_of_visitors_are_refused(server, broken):
    with broken["large.jpg"].open("rb") as file:
        assert httpx.post(f"{server}/gradio_api/upload", files={"files": file}).status_code == 413
    assert httpx.get(f"{server}/monitoring").status_code == 403
    config = httpx.get(f"{server}/config").json()
    assert config["analytics_enabled"] is False


def test_the_tool_for_mcp_clients_says_what_it_does(server):
    [tool] = httpx.get(f"{server}/gradio_api/mcp/schema").json()
    assert tool["name"] == "classify" and "how sure" in tool["description"]
    assert [*tool["inputSchema"]["properties"]] == ["photo"]


@pytest.mark.slow
def test_uploads_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "KEPT", 1 / 60)
    monkeypatch.setattr(app, "CLEANED", 1 / 60)
    page = app.build(str(model(tmp_path)))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH)
    try:
        [path] = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.png", png(1))}).json()
        assert Path(path).is_file()
        deadline = time.monotonic() + 20
        while Path(path).exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not Path(path).exists()
    finally:
        page.close()


@pytest.mark.slow
def test_a_pushed_space_starts_as_the_hub_lays_it_out(hub, tmp_path):
    from hf_fashion.hub import push_space

    net = model(tmp_path / "net", unsure_below=0.999)
    net.joinpath("README.md").write_text("---\nlicense: mit\n---\n# Net\n\n## Intended use\n\nFor a test.\n")
    hub.create("ada/net", files={path.name: path.read_bytes() for path in net.iterdir()}, private=True)
    push_space(FOLDER, "demo", model="net")
    repo = hub.repo("ada/demo", "space")
    for name, content in repo.files().items():
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with started(hub, tmp_path, repo.variables) as address:  # without the secret that a private model needs
        page = httpx.get(address).text
        assert "could not be loaded" in page and "HF_TOKEN" in page
        assert "Traceback" not in (tmp_path / "told.txt").read_text()
    with started(hub, tmp_path, repo.variables | {"HF_TOKEN": hub.token}) as address:
        answer = ask(Client(address, verbose=False), EXAMPLES[0])
        assert answer["sure"] is False and len(answer["scores"]) == 3
        page = httpx.get(address).text
        assert "ada/net" in page and "For a test." in page


@contextmanager
def started(hub, place, settings):
    """The Space of the folder `space`, as the Hub starts it; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = hub.env(home=place / "home", GRADIO_SERVER_PORT=port, SPACE_ID="ada/demo", **settings)
    if "HF_TOKEN" not in settings:
        env.pop("HF_TOKEN", None)
    told = place / "told.txt"
    with told.open("w") as output, subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("as_a_space.py"))], cwd=place / "space", env=env,
        stdout=output, stderr=output,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + 300
            while "Running on local URL" not in told.read_text():
                assert process.poll() is None and time.monotonic() < deadline, told.read_text()
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


# In a browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium, as of `apt-get install chromium`")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # fmt: skip
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=quiet)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, server):
    """A function that opens the page; whatever it asks of others, or says is wrong, fails the test."""
    contexts, faults = [], []

    def open_page(**options):
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options)))
        page = contexts[-1].new_page()
        page.on("request", lambda r: None if r.url.startswith((server, "data:", "blob:")) else faults.append(r.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(server)
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


def test_a_visitor_sees_labels_bars_and_reasons(visit, broken):
    page = visit()
    main = page.locator("main")
    page.get_by_text("Drop photos here").wait_for()
    width = main.bounding_box()["width"]
    assert width > 1000
    cards = upload(page, EXAMPLES[0], broken["cut.jpg"], EXAMPLES[1])
    assert cards.count() == 3 and main.bounding_box()["width"] == width  # nothing jumps
    dropped, examples = (
        page.locator(".file-preview").bounding_box(),
        page.locator(".gallery-item").first.bounding_box(),
    )
    assert 0 < examples["y"] - (dropped["y"] + dropped["height"]) < 100  # below the photos, not below the answers
    first = cards.nth(0)
    assert first.locator("img").get_attribute("alt") == EXAMPLES[0].name and first.locator(".bars li").count() == 3
    assert "old" in first.locator("h2").inner_text() and "Unsure" in first.inner_text()
    widths = [box["width"] for box in (bar.bounding_box() for bar in first.locator(".bars div div").all())]
    assert widths == sorted(widths, reverse=True) and widths[0] > 0
    assert "cut.jpg" in cards.nth(1).inner_text() and "cut short" in cards.nth(1).inner_text()
    about = page.get_by_role("button", name="What this model is for")
    about.click()
    page.get_by_text("For a test.").wait_for()
    assert "licence: mit" in page.locator("h1 + p").inner_text()


@pytest.mark.slow
def test_examples_and_the_camera(visit):
    page = visit()
    page.locator("button.gallery-item").nth(1).click()
    page.wait_for_selector("#answers .said img")
    assert page.locator("#answers img").get_attribute("alt") == EXAMPLES[1].name
    page.get_by_role("tab", name="Camera").click()
    page.get_by_text("Webcam").click()
    page.wait_for_function(
        "document.querySelector('video')?.currentTime > 0.2"
    )  # before there is a picture, none is taken
    page.get_by_role("button", name="capture photo").click()
    page.wait_for_function(f"document.querySelector('#answers img').alt != '{EXAMPLES[1].name}'")


def test_examples_are_called_by_their_names(visit):
    page = visit()
    for path in EXAMPLES:
        page.get_by_role("button", name=f"Example: {path.stem}", exact=True).wait_for()
    assert page.locator("button.gallery-item:not([aria-label])").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit, scheme):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    page = visit(**phone)
    upload(page, EXAMPLES[0], EXAMPLES[1])
    # The answer comes into sight by itself.
    page.wait_for_function("document.querySelector('#answers').getBoundingClientRect().top < innerHeight / 2")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    card = page.locator("#answers .said > li").first
    text, back = (
        [int(part) for part in page.evaluate(
            f"getComputedStyle(document.querySelector('#answers .said > li')).{name}"
        ).strip("rgba()").split(",")[:3]]
        for name in ("color", "backgroundColor")
    )  # fmt: skip
    assert (sum(back) > 600, sum(text) > 600) == ((True, False) if scheme == "light" else (False, True))
    assert card.bounding_box()["width"] > 280


@pytest.mark.slow
def test_the_keyboard_alone(visit):
    page = visit()

    def tab_to(selector):
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches('{selector}')"):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to(".upload-container")
    chosen = []
    page.on("filechooser", lambda chooser: chosen.append(chooser))
    for _ in range(20):  # on a busy machine Chromium may take the key and open nothing
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        if chosen:
            break
    chosen[0].set_files(str(EXAMPLES[0]))
    page.wait_for_selector("#answers .said")
    assert page.evaluate("document.querySelector('#answers [aria-live=polite], [aria-live=polite] #answers') !== null")
    tab_to(".gallery-item")
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('#answers img').alt == '{EXAMPLES[0].name}'")


@pytest.mark.slow
def test_too_large_a_file_is_refused_before_it_is_sent(visit, broken):
    page = visit()
    page.locator("input[type=file]").first.set_input_files(str(broken["large.jpg"]))
    page.get_by_text("exceed the maximum allowed size of 20.0 Mb").wait_for()


def test_pictures_stay_pictures():
    """The examples can be read, and show what their names say (`hf_fashion/samples`, test split)."""
    assert {path.stem for path in EXAMPLES} == {"dress", "hat", "shirt", "shoes", "shorts", "t-shirt"}
    for path in EXAMPLES:
        assert min(images.decode(BytesIO(path.read_bytes()).getvalue()).size) >= 100


# An exported model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    pytest.importorskip("onnx")
    return exported.made(tmp_path_factory)


@pytest.mark.parametrize("kind", ["vit", "attributes"])
def test_an_export_says_what_the_model_says(kind, place):
    trained, export = Classifier(str(place[kind])), app.load(str(place[f"{kind}-export"]), None)
    assert trained.labels == export.labels and trained.form is None and export.form == "ONNX, fp32"
    for example in EXAMPLES:
        said, told = (one.say([one.look(example)[0]])[0] for one in (trained, export))
        assert [one.group for one in said] == [one.group for one in told]
        for one, other in zip(said, told, strict=True):
            assert ({*one.labels}, one.many, one.sure) == ({*other.labels}, other.many, other.sure)
            assert other.scores == pytest.approx(one.scores, abs=0.05)
    about, own = About(str(place[kind]), None, trained), About(str(place[f"{kind}-export"]), None, export)
    assert "exported file (ONNX, fp32)" in own.text and "exported" not in about.text
    assert own.heading.replace(f"{kind}-export", kind) == about.heading
    assert export.say([]) == []


def test_an_export_may_know_when_it_is_unsure(place, tmp_path):
    folder = shutil.copytree(place["vit-export"], tmp_path / "net")
    told = json.loads((folder / "runtime.json").read_text())
    (folder / "runtime.json").write_text(json.dumps(told | {"unsure_below": 1.1}))
    export = app.load(str(folder), None)
    [[said]] = export.say([export.look(EXAMPLES[0])[0]])
    assert said.sure is False and "95 in 100" in About("x", None, export).text


def test_a_page_needs_no_card_that_can_be_read(place, tmp_path):
    folder = shutil.copytree(place["vit-export"], tmp_path / "net")
    (folder / "README.md").write_bytes(b"---\nlicense: [a\n---\n\xff")
    assert "licence: unknown" in About(str(folder), None, app.load(str(folder), None)).heading


def test_another_kind_of_export_and_a_lack_of_torch_are_told(place, monkeypatch):
    with pytest.raises(InputError, match="an export that is a detector"):
        app.load(str(place["detector-export"]), None)
    monkeypatch.setitem(sys.modules, "classifier", None)
    with pytest.raises(InputError, match="an export, or an installation with torch"):
        app.load(str(place["vit"]), None)


def test_a_pushed_space_of_an_export_asks_for_no_torch(hub, place):
    from hf_fashion.hub import push_space

    for name in ("vit", "vit-export"):
        files = {path.name: path.read_bytes() for path in place[name].iterdir() if path.is_file()}
        hub.create(f"ada/{name}", files=files, private=True)
    push_space(FOLDER, "demo", model="vit-export")
    files = hub.repo("ada/demo", "space").files()
    asked = {Requirement(line).name: line for line in files["requirements.txt"].decode().splitlines()}
    assert set(asked) == {"numpy", "pillow", "huggingface_hub", "httpx2", "pyyaml", "onnxruntime"}
    told = [Requirement(line) for line in importlib.metadata.requires("hf-fashion")]
    assert all(any(one.name == name and str(one.specifier) in line for one in told) for name, line in asked.items())
    assert "requirements-export.txt" not in files and "light.py" in files and "hf_fashion/exports.py" in files
    push_space(FOLDER, "other", model="vit")
    assert b"torch" in hub.repo("ada/other", "space").files()["requirements.txt"]


@pytest.mark.slow
def test_a_pushed_space_of_an_export_starts_without_torch(hub, place, tmp_path):
    """`as_a_space.py` lets it import what its requirements.txt brings, and nothing else."""
    from hf_fashion.hub import push_space

    files = {path.name: path.read_bytes() for path in place["vit-export"].iterdir() if path.is_file()}
    hub.create("ada/net", files=files)
    push_space(FOLDER, "demo", model="net")
    repo = hub.repo("ada/demo", "space")
    for name, content in repo.files().items():
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with started(hub, tmp_path, repo.variables | {"HF_TOKEN": hub.token}) as address:
        answer = ask(Client(address, verbose=False), EXAMPLES[0])
        export = app.load(str(place["vit-export"]), None)
        [[said]] = export.say([export.look(EXAMPLES[0])[0]])
        assert answer["scores"] == pytest.approx(said.scores, abs=1e-4)
    with started(hub, tmp_path, {"MODEL": "efficientnet-lite0"}) as address:  # a trained one, without torch
        assert "no torch" in httpx.get(address).text


@pytest.mark.slow
def test_a_visitor_of_an_export_sees_its_answers(browser, place, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    page_of = app.build(str(place["vit-export"]))
    _, url, _ = page_of.launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH)
    try:
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#answers .waiting")
        cards = upload(page, EXAMPLES[0], EXAMPLES[1])
        assert cards.count() == 2 and cards.nth(0).locator(".bars li").count() == 3
        page.get_by_role("button", name="What this model is for").click()
        page.get_by_text("The model runs from an exported file (ONNX, fp32)").wait_for()
        page.close()
    finally:
        page_of.close()
