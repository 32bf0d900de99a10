"""Photos and Spaces against the double of the Hub: parquet that loads the same, a card that was counted, a page."""

import os
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, load_dataset
from packaging.requirements import Requirement
from PIL import Image as PILImage

from hf_fashion import checks, data, images
from hf_fashion import hub as ours
from hf_fashion.errors import InputError
from hf_fashion.hub import photos, spaces
from hf_fashion.recipes import push

pytestmark = pytest.mark.usefixtures("no_waiting")

MARK = "CANARY-7f3a"
LABELS = ["dress | long", "hat"]


def photo(seed: int, format: str = "JPEG", orientation: int = 6) -> bytes:
    exif = PILImage.Exif()
    exif[0x0112], exif[0x010E] = orientation, MARK
    exif.get_ifd(0x8825)[2] = (47.0, 22.0, 36.0)
    buffer = BytesIO()
    pixels = np.random.default_rng([seed, os.getpid()]).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    PILImage.fromarray(pixels).save(buffer, format, exif=exif)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Class folders in two splits, whose photos tell where they were taken."""
    for number in range(24):
        split, label = "train" if number < 16 else "test", number % 2
        format = ("JPEG", "PNG", "TIFF")[number % 3]
        path = tmp_path / "jane" / split / LABELS[label] / f"jane_{number}.{format.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number, format))
    return tmp_path / "jane"


def pixels(rows):
    return [np.asarray(images.decode(row["image"])) for row in rows.cast_column("image", Image(decode=False))]


def test_photos_arrive_with_their_pixels_and_labels_and_nothing_that_was_told_of_them(hub_by_both, folder, capsys):
    push.main([str(folder), "atelier/photos", "--license", "cc-by-4.0"])
    repo = hub_by_both.repo("atelier/photos", "dataset")
    files = repo.files()
    assert repo.private and files.keys() - {".gitattributes"} == {
        "README.md", "sheet.jpg", "data/train-00000.parquet", "data/test-00000.parquet",
    }  # fmt: skip
    for name, content in files.items():
        assert MARK.encode() not in content and b"jane" not in content, name
    there = load_dataset("atelier/photos")
    here, _ = data.load(folder, push.COLUMNS, validation_share=None, test_share=None)
    assert there["train"].features["label"].names == LABELS
    for split in ("train", "test"):
        assert list(there[split]["label"]) == list(here[split]["label"])
        assert all(np.array_equal(a, b) for a, b in zip(pixels(there[split]), pixels(here[split]), strict=True))
    told = capsys.readouterr().out
    assert "licence cc-by-4.0" in told.split("\n")[0] and "which way up they are shown" in told
    assert "column source_row (names your files)" in told and "data/train-00000.parquet" in told
    again = push.main([str(folder), "atelier/photos", "--license", "cc-by-4.0"])
    assert again.sent == () and len(repo.history()) == 2  # the same photos make the same bytes


def test_the_card_of_one_split_does_not_say_that_splits_were_compared(hub, folder):
    push.main([str(folder / "train"), "photos"])
    card = hub.repo("ada/photos", "dataset").files()["README.md"].decode()
    assert "there is one split" in card and "in the other splits" not in card and "but for the orientation" in card
    assert not [line for line in card.splitlines() if line.endswith(" ")]
    assert "| hat | 8 |" in card


def test_the_card_counts_and_says_what_the_check_found(hub, folder):
    (folder / "train" / "hat" / "copy.png").write_bytes(next((folder / "train" / "hat").glob("*.png")).read_bytes())
    push.main([str(folder), "ada/photos", "--license", "cc-by-4.0", "--public"])
    repo = hub.repo("ada/photos", "dataset")
    card = repo.files()["README.md"].decode()
    front = yaml.safe_load(card.split("---")[1])
    assert not repo.private and front["license"] == "cc-by-4.0"
    assert front["configs"][0]["data_files"][0] == {"split": "train", "path": "data/train-*.parquet"}
    assert "| dress \\| long | 8 | 4 |" in card and "| hat | 9 | 4 |" in card
    assert "17 train, 8 test photos" in card and 'load_dataset("ada/photos")' in card
    assert "equal" in card or "each picture" in card
    with PILImage.open(BytesIO(repo.files()["sheet.jpg"])) as sheet:
        assert sheet.format == "JPEG" and sheet.width > 300


def test_public_photos_need_a_licence(hub, folder):
    with pytest.raises(InputError, match="--license cc-by-4.0"):
        push.main([str(folder), "ada/photos", "--public"])
    assert not hub.count("commit")


def test_a_licence_that_the_hub_refuses_is_told_before_the_photos_are_read(hub, tmp_path):
    with pytest.raises(InputError, match="--license cc-by-4.0"):
        push.main([str(tmp_path / "not_there"), "ada/photos", "--type", "dataset", "--license", "cc-by"])
    dataset, report = loaded(table())
    with pytest.raises(InputError, match="an id of the Hub's list"):
        ours.push_photos(dataset, report, "photos", license="my-own")
    assert not hub.requests


def test_the_card_says_only_what_was_done_and_what_can_be_typed(hub):
    dataset, report = data.load(table(), push.COLUMNS, validation_share=None, test_share=None)
    ours.push_photos(dataset, report, "photos", license="mit")
    card = hub.repo("ada/photos", "dataset").files()["README.md"].decode()
    assert "were not looked at one by one" in card and "decoded once" not in card
    assert "hf-fashion classify --dataset ada/photos`" in card
    dataset, report = loaded(table())
    for column, typed in (("season", "--label_columns season`"), ("objects", None)):
        other = dataset.rename_column("label", column)
        if typed is None:
            other = other.remove_columns(column)
        ours.push_photos(other, report, f"of_{column}", checked=True, license="mit")
        card = hub.repo(f"ada/of_{column}", "dataset").files()["README.md"].decode()
        assert "decoded once" in card and ("hf-fashion classify" in card) == (typed is not None)
        assert typed is None or typed in card


def test_photos_with_errors_stay_at_home(hub, folder):
    leak = next((folder / "train" / "hat").iterdir())
    (folder / "test" / "hat" / leak.name).write_bytes(leak.read_bytes())
    with pytest.raises(InputError, match="1 error"):
        push.main([str(folder), "ada/photos", "--license", "mit"])
    dataset, report = loaded(table())
    report.add("error", "dataset", "label", expected="right labels", found="wrong ones")
    with pytest.raises(InputError, match="wrong ones"):
        ours.push_photos(dataset, report, "photos", license="mit")
    assert not hub.count("create")


def test_the_hub_is_asked_before_the_photos_are_read(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.add_token("ada", "read"))
    with pytest.raises(ours.HubError, match=r"(?s)role `read`.*then: hf-fashion push .*--type dataset"):
        push.main([str(tmp_path / "not_there"), "photos", "--type", "dataset"])


def table(**columns):
    features = {"image": Image(), "label": ClassLabel(names=LABELS)} | {name: Value("string") for name in columns}
    rows = {"image": [{"bytes": photo(n), "path": f"/home/jane/{n}.jpg"} for n in range(4)], "label": [0, 1, 0, 1]}
    return DatasetDict(train=Dataset.from_dict(rows | columns, features=Features(features)))


def loaded(dataset):
    found, report = data.load(dataset, push.COLUMNS, validation_share=None, test_share=None)
    return found, checks.check(found, report)


def test_texts_of_the_table_are_looked_through(hub, tmp_path, capsys):
    (tmp_path / "b").touch()
    dataset, report = loaded(table(title=["/home/dresses", str(tmp_path / "b"), f"see {tmp_path}/b.", "/data/x/b c"]))
    ours.push_photos(dataset, report, "photos", license="mit")
    [*_, there] = [load_dataset("ada/photos")["train"]]
    # A category that looks like a path is nobody's place; what lies on this machine is.
    assert list(there["title"]) == ["/home/dresses", "b", "see b.", "/data/x/b c"]
    assert "column title (2 paths of this machine cut to the last part)" in capsys.readouterr().out
    assert there.cast_column("image", Image(decode=False))[0]["image"]["path"] == "train-000000.jpg"
    dataset, report = loaded(table(title=["a", "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567", "c", "d"]))
    with pytest.raises(InputError, match=r"(?s)train, row 1, title.*Hugging Face token"):
        ours.push_photos(dataset, report, "others", license="mit")


def pushed(rows):
    _, report = loaded(table())
    ours.push_photos(DatasetDict(train=rows), report, "photos", license="mit")


def test_columns_that_cannot_be_looked_through_are_refused(hub):
    rows = table()["train"]
    for name, values, feature, words in (
        ("thumb", [photo(1)] * 4, Value("binary"), r"(?s)column thumb.*cast_column\('thumb', datasets.Image\(\)\)"),
        ("views", [[{"bytes": photo(1), "path": None}]] * 4, List(Image()), r"remove_columns\('views'\)"),
        ("part", [{"i": {"bytes": photo(1), "path": None}}] * 4, {"i": Image()}, r"remove_columns\('part'\)"),
        ("sound", [{"bytes": b"RIFF", "path": None}] * 4, Audio(decode=False), r"found: +Audio, which may hold"),
    ):
        with pytest.raises(InputError, match=words):
            pushed(rows.add_column(name, values, feature=Features({name: feature})[name]))
    assert not hub.count("commit")


def test_names_of_columns_and_labels_are_looked_through(hub, tmp_path):
    rows, token = table(title=list("abcd"))["train"], "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
    for changed in (
        rows.rename_column("title", token),
        rows.cast_column("label", ClassLabel(names=[token, "hat"])),
        rows.add_column("part", [{token: 1}] * 4),
    ):
        with pytest.raises(InputError, match="Hugging Face token") as told:
            pushed(changed)
        assert token not in str(told.value)
    with pytest.raises(InputError, match="a path of this machine"):
        pushed(rows.cast_column("label", ClassLabel(names=[str(tmp_path), "hat"])))
    assert not hub.count("commit")


def test_many_photos_are_cut_into_files_and_old_ones_go(hub, monkeypatch):
    monkeypatch.setattr(photos, "_BATCH", 1)
    monkeypatch.setattr(photos, "SHARD", 3000)
    dataset, report = loaded(table())
    ours.push_photos(dataset, report, "photos", license="mit")
    repo = hub.repo("ada/photos", "dataset")
    assert len([path for path in repo.files() if path.startswith("data/")]) > 1
    assert load_dataset("ada/photos")["train"].num_rows == 4
    monkeypatch.setattr(photos, "SHARD", 10**9)
    ours.push_photos(dataset, report, "photos", license="mit")
    assert [path for path in repo.files() if path.startswith("data/")] == ["data/train-00000.parquet"]


# --- Spaces

README = (
    '---\ntitle: Shirts\nsdk: gradio\nsdk_version: 6.31.0\npython_version: "3.12"\napp_file: app.py\nmodels: []\n---\n'
)


@pytest.fixture
def page(tmp_path):
    place = tmp_path / "shirts"
    (place / "examples").mkdir(parents=True)
    (place / "app.py").write_text("import os\nprint(os.environ['MODEL'])\n")
    (place / "requirements.txt").write_text(
        "--extra-index-url https://a.org/cpu\nhf_fashion[check]  # ours\ntorch==2.14\n"
    )
    (place / "README.md").write_text(README + "\n# Shirts\n")
    (place / "examples" / "hat.jpg").write_bytes(photo(1))
    (place / "secrets.env").write_text("A=1")
    return place


def repo_settings(hub):
    return f"set it at {hub.endpoint}/spaces/ada/demo/settings, or make the model public"


def test_a_space_arrives_with_its_model_and_with_the_library(hub, page, tmp_path, capsys):
    hub.create("ada/net", private=True)
    push.main([str(page), "demo", "--model", "ada/net"])
    repo = hub.repo("ada/demo", "space")
    files = repo.files()
    assert repo.private and repo.variables == {"MODEL": "ada/net"} and repo.sdk == "gradio"
    assert yaml.safe_load(files["README.md"].decode().split("---")[1])["models"] == ["ada/net"]
    assert files["README.md"].decode().endswith("# Shirts\n") and "secrets.env" not in files
    assert MARK.encode() not in files["examples/hat.jpg"]
    lines = files["requirements.txt"].decode().splitlines()
    names = [Requirement(line).name for line in lines if not line.startswith("--")]
    assert lines[0] == "--extra-index-url https://a.org/cpu" and names.count("torch") == 1
    assert {"transformers", "imagehash"} <= set(names) and not {"gradio", "hf_fashion", "hf-fashion"} & set(names)
    told = capsys.readouterr().out
    assert "ada/net is private" in told and "its secret HF_TOKEN" in told and repo_settings(hub) in told
    assert told.index("checksums equal") < told.index("its secret HF_TOKEN")  # where it is read
    # As Python finds it where the page runs: beside app.py.
    for name, content in files.items():
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    import subprocess

    code = (
        "import hf_fashion, importlib.metadata as m; print(hf_fashion.__file__, m.version('hf_fashion')); "
        "import hf_fashion.errors, hf_fashion.images"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}; {code}"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "there")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == [
        str(tmp_path / "there" / "hf_fashion" / "__init__.py"),
        ours.spaces.hf_fashion.__version__,
    ]


def test_a_lone_name_is_a_model_of_ones_own_as_it_is_for_repos(hub, page, tmp_path, monkeypatch, capsys):
    hub.create("ada/net", private=False)
    push.main([str(page), "demo", "--model", "net"])
    repo = hub.repo("ada/demo", "space")
    assert repo.variables == {"MODEL": "ada/net"} and b"- ada/net" in repo.files()["README.md"]
    push.main([str(page), "demo"])
    assert "goes on to show ada/net" in capsys.readouterr().out and repo.variables == {"MODEL": "ada/net"}
    with pytest.raises(ours.HubError, match=r"the model ada/nett"):
        push.main([str(page), "other", "--model", "nett"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    for typed in ("runs/mine", "./runs/mine"):
        with pytest.raises(InputError, match=r"(?s)--model.*a folder of this machine.*hf-fashion push \S*runs/mine"):
            push.main([str(page), "other", "--model", typed])
    with pytest.raises(InputError, match="--model USER/NAME"):
        push.main([str(page), "other", "--model", "a/b/c"])
    assert not any("other" in name for _, name in hub.repos)


def test_of_the_library_only_what_is_served_goes_along(tmp_path, monkeypatch):
    root = tmp_path / "hf_fashion"
    (root / "hub").mkdir(parents=True)
    for name in ("__init__.py", "hub/a.py", "py.typed", ".env", "notes.pkl", "hub/.hidden.py"):
        (root / name).write_text("X = 1\n")
    (tmp_path / "outside.py").write_text("X = 2\n")
    (root / "link.py").symlink_to(tmp_path / "outside.py")
    monkeypatch.setattr(spaces.hf_fashion, "__file__", str(root / "__init__.py"))
    files = {name for name in spaces.library() if not name.endswith("METADATA")}
    assert files == {"hf_fashion/__init__.py", "hf_fashion/hub/a.py", "hf_fashion/py.typed"}
    (root / "local.py").write_text("KEY = 'hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567'\n")
    with pytest.raises(InputError, match=r"(?s)local.py, line 1.*Hugging Face token"):
        spaces.library()


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("sdk_version: 6.31.0\n", "", "sdk_version"),
        ("6.31.0", "6", "sdk_version"),
        ('python_version: "3.12"\n', "", "python_version"),
        ("app_file: app.py", "app_file: main.py", "main.py"),
        ("title: Shirts", "title: [", "YAML"),
    ],
)
def test_a_space_that_the_hub_would_run_otherwise_is_refused(page, before, after, word):
    (page / "README.md").write_text(README.replace(before, after))
    with pytest.raises(InputError, match=word):
        spaces.front_matter(page)


def test_a_model_that_is_not_there_is_told_before_the_space_is_made(hub, page):
    with pytest.raises(ours.HubError, match=r"(?s)the model ada/net.*none of that name"):
        push.main([str(page), "demo", "--model", "ada/net"])
    assert not hub.repos


def test_the_lines_of_a_readme_stay_but_for_its_models():
    text = "---\ntitle: A\nmodels:\n- old/one\n- old/two\nlicense: mit\n---\nText\n"
    assert spaces.with_models(text, ["a/b"]) == "---\ntitle: A\nlicense: mit\nmodels:\n- a/b\n---\nText\n"


def test_our_own_spaces_can_be_pushed():
    for folder in sorted((Path(__file__).parents[1] / "spaces").glob("*/")):
        assert spaces.front_matter(folder)["sdk"] == "gradio"
