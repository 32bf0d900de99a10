"""Folders and zips as they occur: read as meant, or refused with the reason; nothing is lost unsaid."""

import atexit
import os
import tempfile
import zipfile

import pytest
from bad_sources import FOLDERS, ZIPPED, archive, bare, folders, in_hand, lines, ours
from datasets import Dataset, Features, Image, Value, load_from_disk
from loading import COLUMNS, errors, expect_error, load, picture, put, texts, tree

from hf_fashion import checks, data, reading
from hf_fashion.errors import InputError
from hf_fashion.reading import archives


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Keeps what `load_dataset` and zips write inside of the test's folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "unpacked"))
    archives._unpack.cache_clear()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in" / "source").mkdir(parents=True)
    return tmp_path / "in" / "source"


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: case.name)
def test_every_case_comes_out_as_wanted(case, root):
    made = case.make(root)
    before = sorted(os.fsencode(path) for path in root.parent.rglob("*"))
    outcome = ours(made, case.words)
    assert outcome.kind == case.wanted, outcome.said
    assert all(word in outcome.said for word in case.words), outcome.said
    assert sorted(os.fsencode(path) for path in root.parent.rglob("*")) == before  # nothing written beside the source


def test_an_outcome_is_told_by_pixels_and_labels(root):
    made = folders("dress", "hat")(root)
    assert ours(made).kind == "right" and bare(made, "right").kind == "right"
    assert ours(made._replace(truth={**made.truth, 0: "hat"})).kind == "wrong"
    assert ours(made._replace(truth={**made.truth, 59: "hat"})).kind == "wrong"
    assert bare(made._replace(truth={**made.truth, 0: "hat"}), "right").kind == "wrong"
    (root / "hat" / "4.png").write_text("")
    assert ours(made).kind == "refused" and bare(made, "right").kind == "crash"


# -- zips


def test_a_zip_is_unpacked_once_into_a_folder_that_goes(root, tmp_path, monkeypatch):
    goes = []
    monkeypatch.setattr(atexit, "register", lambda function, *args, **kwargs: goes.append((function, args, kwargs)))
    made = archive({f"photos/{label}/{n}.png": n for n, label in ZIPPED.items()}, ZIPPED)(root)
    dataset, report = load(made.source)
    assert report.source["kind"] == "zip of class folders" and "its one folder, photos" in texts(report, "note")
    assert {row for split in dataset.values() for row in split["source_row"]} == {
        f"{label}/{n}.png" for n, label in ZIPPED.items()
    }
    assert load(made.source)[1].source["fingerprint"] == report.source["fingerprint"]
    [private] = (tmp_path / "unpacked").iterdir()
    assert private.stat().st_mode & 0o077 == 0  # nobody else can look into it
    [(function, args, kwargs)] = goes
    function(*args, **kwargs)
    assert not private.exists()


@pytest.mark.parametrize("name", ["../canary", "a/../../canary", "/canary", "..\\canary", "C:/canary", "~/canary"])
def test_a_refused_zip_leaves_nothing(root, tmp_path, name):
    made = archive({"dress/0.png": 0, name + "x": b"x"})(root)
    expect_error(made.source, "leads out of it", "unzip it")
    assert not list(tmp_path.rglob("*canary*")) and not list((tmp_path / "unpacked").iterdir())


def test_a_zip_that_is_too_large_is_refused_before_it_is_unpacked(root, tmp_path, monkeypatch):
    made = archive({"dress/0.png": 0, "hat/1.png": 1, "hat/2.png": 2})(root)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    expect_error(made.source, "3 files", "2 files and")
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "unpacked"))
    monkeypatch.setattr(archives, "MAX_BYTES", 100)
    expect_error(made.source, "3 files", "at most")
    assert not list((tmp_path / "unpacked").iterdir())


def test_a_zip_with_a_password_or_a_name_twice_is_refused(root):
    path = archive({"dress/0.png": 0, "hat/1.png": 1})(root).source
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "a") as file:
        file.writestr("hat/1.png", b"x")
    expect_error(path, "twice: hat/1.png")
    content = bytearray(archive({"dress/0.png": 0})(root).source.read_bytes())
    content[6] |= 1
    content[content.find(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted member, in both places
    path.write_bytes(bytes(content))
    expect_error(path, "encrypted")


def test_a_damaged_member_is_named_and_the_others_are_read(root):
    path = archive({f"{label}/{n}.png": n for n, label in ZIPPED.items()})(root).source
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("hat/5.png").header_offset
    path.write_bytes(content[: start + 60] + bytes(20) + content[start + 80 :])
    dataset, report = load(path)
    assert [where for where, _ in errors(report)] == ["hat/5.png"] and sum(report.sizes.values()) == 7
    checks.check(dataset, report, on_bad_image="drop").raise_on_errors()
    assert report.left_out[0]["where"] == "hat/5.png"


def test_names_in_a_zip_without_the_utf8_flag(root):
    path = archive({"dress/0.png": 0, "hat/1.png": 1})(root).source
    name, other = "Größe".encode(), b"dress\x82"  # the second is cp437, as DOS wrote it
    content = path.read_bytes().replace(b"dress/", name[:5] + b"/")
    path.write_bytes(content)
    with zipfile.ZipFile(root / "names.zip", "w") as file:
        for number, label in enumerate((name, other)):
            info = zipfile.ZipInfo("x" * len(label) + "/0.png")
            file.writestr(info, picture(number))
    content = (root / "names.zip").read_bytes()
    for label in (name, other):
        content = content.replace(b"x" * len(label) + b"/", label + b"/")
    (root / "names.zip").write_bytes(content)
    assert data.labels(load(root / "names.zip", lone_split="test")[0]) == ["Größe", "dressé"]


def test_faults_inside_of_a_zip_are_told_by_the_zip(root, tmp_path):
    made = archive({"train/dress/0.png": 0, "hat/1.png": 1})(root)
    with pytest.raises(InputError) as caught:
        load(made.source)
    assert "two readings" in str(caught.value) and str(made.source) in str(caught.value)
    assert "unpacked" not in str(caught.value)


def test_a_zip_of_a_saved_dataset_or_of_parquet(root, tmp_path):
    rows = {"image": [{"bytes": picture(n), "path": None} for n in range(8)], "label": ["a", "b"] * 4}
    rows = Dataset.from_dict(rows, features=Features({"image": Image(), "label": Value("string")}))
    rows.to_parquet(str(root / "train.parquet"))
    path = archive({"data/train.parquet": (root / "train.parquet").read_bytes()})(root).source
    dataset, report = load(path, lone_split="test", config="default")
    assert len(dataset["test"]) == 8 and report.source["kind"] == "zip of dataset folder"


def test_a_zip_is_not_streamed(root):
    from hf_fashion import streaming

    with pytest.raises(InputError, match="leave --streaming out"):
        streaming.load(archive({"dress/0.png": 0})(root).source)


# -- folders of other kinds that lead elsewhere


def saved(tmp_path):
    rows = {"image": [{"bytes": picture(n), "path": None} for n in range(4)], "label": list("abab")}
    rows = Dataset.from_dict(rows, features=Features({"image": Image(), "label": Value("string")}))
    rows.save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_a_saved_dataset_whose_files_lie_elsewhere_is_refused(tmp_path):
    folder = saved(tmp_path)
    assert load(folder, lone_split="test")[1].sizes == {"test": 4}
    arrow = next(folder.glob("*.arrow"))
    arrow.rename(tmp_path / "elsewhere.arrow")
    state = folder / "state.json"
    state.write_text(state.read_text().replace(arrow.name, "../elsewhere.arrow"))
    assert len(load_from_disk(str(folder))) == 4  # datasets itself follows it
    expect_error(folder, "files inside the folder", "elsewhere.arrow")


def test_links_of_the_hubs_cache_are_its_own(tmp_path):
    """`snapshot_download` gives a folder of links into ../../blobs."""
    repo, outside = tmp_path / "datasets--a--b", tmp_path / "outside.parquet"
    rows = Dataset.from_list([{"image": {"bytes": picture(n), "path": None}, "label": "ab"[n % 2]} for n in range(8)])
    rows.cast_column("image", Image()).to_parquet(str(outside))
    (repo / "blobs").mkdir(parents=True)
    (repo / "snapshots" / "c0ffee").mkdir(parents=True)
    (repo / "blobs" / "1").write_bytes(outside.read_bytes())
    link = repo / "snapshots" / "c0ffee" / "train.parquet"
    link.symlink_to("../../blobs/1")
    assert load(link.parent, lone_split="test")[1].sizes == {"test": 8}
    link.unlink()
    link.symlink_to(outside)
    expect_error(link.parent, "outside.parquet")


def test_pictures_that_are_paths_are_left_out_when_told(tmp_path):
    made = tree(tmp_path / "photos", count=4)
    rows = [{"image": {"bytes": picture(n), "path": None}, "label": "ab"[n % 2]} for n in range(8)]
    rows[5]["image"] = {"bytes": None, "path": str(made / "dress" / "0.png")}
    table = Dataset.from_list(rows).data.table
    import pyarrow.parquet as pq

    pq.write_table(table, tmp_path / "train.parquet")
    dataset, report = load(tmp_path / "train.parquet", lone_split="test")
    assert [where for where, _ in errors(report)] == ["train:5"] and len(dataset["test"]) == 7
    assert dataset["test"]["source_row"][5] == "train:6"
    assert checks.check(dataset, report, on_bad_image="drop").left_out[0]["where"] == "train:5"


def test_a_dataset_of_the_hub_cannot_name_an_address(monkeypatch):
    from types import SimpleNamespace

    class Api:
        def dataset_info(self, source, revision, timeout):
            configs = [{"config_name": "default", "data_files": [{"split": "train", "path": "https://a.org/x.zip"}]}]
            return SimpleNamespace(sha="c" * 40, card_data=SimpleNamespace(license="mit", configs=configs))

    monkeypatch.setattr(reading, "HfApi", Api)
    monkeypatch.setattr(reading, "load_dataset", lambda *args, **kwargs: pytest.fail("it was loaded"))
    expect_error("org/name", "https://a.org/x.zip", "under configs")


@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
def test_the_metadata_of_a_folder_may_be_a_bomb(tmp_path, file):
    """Nine levels of nine aliases: a billion words when written out."""
    names = "abcdefghi"
    lines_ = [f"a: &a [{', '.join(['x'] * 9)}]"]
    lines_ += [f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]" for one, two in zip(names, names[1:], strict=False)]
    text = "\n".join([*lines_, "license: *i", "configs: *i"])
    tree(tmp_path / "photos", count=4)
    (tmp_path / "photos" / file).write_text(text if file.endswith("yaml") else f"---\n{text}\n---\n")
    with pytest.raises(InputError):
        load(tmp_path / "photos")


# -- labels


def test_label_order_is_that_of_train(root):
    made = in_hand(["b", "a"], ["a", "b"])(root)
    dataset, report = data.load(made.source, COLUMNS)
    assert data.labels(dataset) == ["b", "a"] and ours(made).kind in ("right", "reported")


def test_a_table_in_a_zip_cannot_name_a_file_beside_it(root):
    put(root / "9.png", 9)
    members = {f"{n}.png": n for n in range(8)} | {"metadata.csv": (lines(["a", "b"] * 4) + "../9.png,a\n").encode()}
    _, report = load(archive(members)(root).source, lone_split="test")
    assert [where for where, _ in errors(report)] == ["metadata.csv:10"]


def test_a_member_whose_lzma_is_damaged_is_named(root):
    made = archive({f"{label}/{n}.png": n for n, label in ZIPPED.items()}, ZIPPED)(root)
    with zipfile.ZipFile(made.source) as file, zipfile.ZipFile(root / "lzma.zip", "w", zipfile.ZIP_LZMA) as other:
        for name in file.namelist():
            other.writestr(name, file.read(name))
        first = other.infolist()[0]
    content = bytearray((root / "lzma.zip").read_bytes())
    content[60:90] = b"\xff" * 30
    (root / "lzma.zip").write_bytes(content)
    _, report = load(root / "lzma.zip", lone_split="test")
    assert [where for where, found in errors(report) if "damaged in the zip" in found] == [first.filename]
