"""Trees of class folders: which folders are classes, which files are pictures, and what is told of the others."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from datasets import Image
from loading import errors, expect_error, load, picture, put, table, texts, tree

from hf_fashion import checks, data
from hf_fashion.errors import InputError
from hf_fashion.report import DROP


def test_class_folders(tmp_path):
    root = tree(tmp_path / "photos")
    dataset, report = load(root)
    assert report.sizes == {"train": 14, "validation": 3, "test": 3}
    assert data.labels(dataset) == ["dress", "hat"]
    assert {(row, label) for _, row, label in table(dataset)} >= {("dress/0.png", "dress"), ("hat/9.png", "hat")}
    row = dataset["train"].cast_column("image", Image(decode=False))[0]
    assert row["image"]["bytes"] is None and Path(row["image"]["path"]) == root / row["source_row"]
    assert report.source["kind"] == "class folders" and report.source["license"] == "unknown"
    assert load(str(root) + "/")[1].source["fingerprint"] == report.source["fingerprint"]
    put(root / "hat" / "new.png")
    assert load(root)[1].source["fingerprint"] != report.source["fingerprint"]


def test_relative_folder(tmp_path, monkeypatch):
    tree(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    dataset, _ = load("photos")
    monkeypatch.chdir("/")
    assert dataset["train"][0]["image"].size == (16, 16)


def test_split_folders(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        tree(tmp_path / split, count=count)
    dataset, report = load(tmp_path)
    assert report.sizes == {"train": 8, "validation": 4, "test": 2}
    assert ("validation", "val/dress/0.png", "dress") in table(dataset)


def test_class_names_like_splits_are_classes(tmp_path):
    tree(tmp_path, ("training shoes", "testers", "dev", "train set"), 4)
    dataset, report = load(tmp_path)
    assert data.labels(dataset) == ["dev", "testers", "train set", "training shoes"]
    assert "folder dev is read as a class" in texts(report, "note")


def test_two_readings_are_refused(tmp_path):
    tree(tmp_path / "mixed" / "train", ("a", "b"), 1)
    tree(tmp_path / "mixed", ("dress",), 1)
    expect_error(tmp_path / "mixed", "two readings", "train with folders inside", "dress without")
    tree(tmp_path / "half" / "train", ("a", "b"), 1)
    tree(tmp_path / "half", ("test",), 1)
    expect_error(tmp_path / "half", "two readings", "test have no class")
    tree(tmp_path / "flat", ("train", "test"), 1)
    expect_error(tmp_path / "flat", "two readings")
    tree(tmp_path / "deep" / "shoes", ("boots", "heels"), 1)
    expect_error(tmp_path / "deep", "two readings", "'shoes', or 'boots'")


def test_files_are_read_by_content(tmp_path):
    names = ["a.JPG", "none", "b.jpg?x=1", "c d.png", "e#%20.png", "f[1]*.png", "g\nh.png", "ü.png", "http:x.png"]
    names.append(unicodedata.normalize("NFD", "é.png"))
    for number, name in enumerate(names):
        put(tmp_path / "dress" / name, number)
    put(tmp_path / "hat" / "1.avif", format="AVIF")
    put(tmp_path / "hat" / "2.webp", format="WEBP")
    put(tmp_path / "hat" / "3.png", format="GIF")
    dataset, report = load(tmp_path)
    assert {row for _, row, _ in table(dataset)} == {f"dress/{name}" for name in names} | {
        f"hat/{name}" for name in ("1.avif", "2.webp", "3.png")
    }
    assert not report.of("error")
    for rows in dataset.values():
        assert all(image.size == (16, 16) for image in rows["image"])


def test_what_is_no_picture_is_listed(tmp_path):
    tree(tmp_path, count=5)
    for name in (".DS_Store", "._1.png", "Thumbs.db"):
        (tmp_path / "hat" / name).write_bytes(b"x")
    (tmp_path / "hat" / "notes.jpg").write_text("notes")
    (tmp_path / "hat" / "empty.png").write_text("")
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    (tmp_path / "bag").mkdir()
    (tmp_path / ".git").mkdir()
    put(tmp_path / "stray.png")
    dataset, report = load(tmp_path)
    assert data.labels(dataset) == ["dress", "hat"] and sum(report.sizes.values()) == 10
    found = dict(errors(report))
    assert set(found) == {"hat/notes.jpg", "hat/empty.png", "stray.png"}
    assert "empty" in found["hat/empty.png"] and "unknown class" in found["stray.png"]
    assert "bag label none" in texts(report, "warning") and report.source["license"] == "cc-by-4.0"
    for name in ("hat/.DS_Store", "hat/._1.png", "hat/Thumbs.db", "README.md"):
        assert f"{name} image passed over" in texts(report, "note")
    with pytest.raises(InputError) as caught:
        report.raise_on_errors()
    assert all(name in str(caught.value) for name in found)


def test_links(tmp_path):
    root = tree(tmp_path / "photos", count=5)
    put(tmp_path / "outside" / "1.png")
    (root / "hat" / "inside.png").symlink_to(root / "dress" / "1.png")
    (root / "hat" / "out.png").symlink_to(tmp_path / "outside" / "1.png")
    (root / "hat" / "dead.png").symlink_to(root / "nothing.png")
    (root / "bag").symlink_to(tmp_path / "outside")
    (root / "cap").symlink_to(root / "hat")
    dataset, report = load(root)
    assert set(dict(errors(report))) == {"hat/out.png", "hat/dead.png", "bag", "cap"}
    assert ("hat/inside.png", "hat") in {(row, label) for _, row, label in table(dataset)}
    (tmp_path / "link").symlink_to(root)
    assert set(dict(errors(load(tmp_path / "link")[1]))) == set(dict(errors(report)))


def test_names_that_are_not_utf8(tmp_path):
    tree(tmp_path, count=5)
    try:
        with open(os.fsencode(tmp_path / "hat") + b"/\xff.png", "wb") as file:
            file.write(picture())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    _, report = load(tmp_path)
    assert "xff" in errors(report)[0][1] and len(errors(report)) == 1
    assert "xff" in str(report) and str(report).encode("utf-8")


def test_folders_without_classes(tmp_path):
    (tmp_path / "empty").mkdir()
    expect_error(tmp_path / "empty", "no folders and no pictures")
    put(tmp_path / "flat" / "1.png")
    expect_error(tmp_path / "flat", "1 picture without labels", "metadata.csv")


@pytest.mark.parametrize(("folders", "name"), [(("images",), "catalogue.csv"), (("IMG", "photos"), "list.tsv")])
def test_a_table_beside_its_pictures_is_asked_for(tmp_path, monkeypatch, folders, name):
    tree(tmp_path / "cata logue", folders, 3)
    (tmp_path / "cata logue" / name).write_text("file_name,label\n")
    monkeypatch.chdir(tmp_path)
    expect_error("cata logue", name, f"did you mean --dataset 'cata logue/{name}'?")
    expect_error(tmp_path / "cata logue", f"'{tmp_path}/cata logue/{name}'?")


def test_a_table_beside_classes_is_a_document(tmp_path):
    (tree(tmp_path, ("dress", "images"), 5) / "list.csv").write_text("a,b\n")
    assert "list.csv image passed over" in texts(load(tmp_path)[1], "note")


def test_documents_in_class_folders_are_passed_over(tmp_path):
    tree(tmp_path, count=5)
    for name in ("README.txt", "LIST.CSV", "notes.jpg"):
        (tmp_path / "hat" / name).write_text("of last summer")
    put(tmp_path / "hat" / "photo.txt")  # a picture all the same
    _, report = load(tmp_path)
    assert [(f.where, f.fix) for f in report.of("error")] == [("hat/notes.jpg", DROP)] and "drop" in DROP
    assert "hat/LIST.CSV image passed over" in texts(report, "note") and "hat/README.txt image" in texts(
        report, "note"
    )
    checks.check(report=report, dataset=load(tmp_path)[0], on_bad_image="drop")
    assert [row["where"] for row in report.left_out] == ["hat/notes.jpg"] and sum(report.sizes.values()) == 11


def test_folders_that_may_not_be_read_are_told(tmp_path, monkeypatch):
    tree(tmp_path / "photos")
    plain = os.scandir

    def scandir(path):
        if os.path.basename(path) == closed:
            raise PermissionError(13, os.strerror(13))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    closed = "hat"
    _, report = load(tmp_path / "photos")
    assert errors(report)[0] == ("hat", "Permission denied")
    closed = "photos"
    expect_error(tmp_path / "photos", "a folder that may be read", "Permission denied")


def test_a_file_of_the_system_whose_name_is_no_text_can_be_recorded(tmp_path):
    tree(tmp_path)
    try:
        with open(os.fsencode(tmp_path / "hat") + b"/.\xff.png", "wb") as file:
            file.write(picture())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    _, report = load(tmp_path)
    assert r"hat/.\udcff.png" in texts(report, "note") and json.dumps(report.to_dict(), ensure_ascii=False).encode()
