"""CSV, JSON lines and metadata beside pictures: every cell stays text, every row that cannot be used is told."""

import json
import os
from pathlib import Path

import pytest
from datasets import Dataset
from loading import errors, expect_error, load, put, table, texts, tree

from hf_fashion import data
from hf_fashion.errors import InputError


def listed(tmp_path, text, encoding="utf-8", name="labels.csv", count=6):
    for number in range(count):
        put(tmp_path / "photos" / f"{number}.png", number)
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


LINES = ["photos/0.png,dress", "photos/1.png,hat", "photos/2.png,Größe", "photos/3.png,01", "photos/4.png,NA"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv(tmp_path, encoding, delimiter, end):
    text = end.join(["file_name,label", *LINES, ""]).replace(",", delimiter)
    dataset, report = load(listed(tmp_path, text, encoding), lone_split="test")
    assert [(row, label) for _, row, label in table(dataset)] == [tuple(line.split(",")) for line in LINES]
    assert not report.of("error") and ("Größe" in texts(report, "warning")) == (encoding == "cp1252")
    assert report.source["kind"] == "csv file"


def test_csv_quotes_and_other_delimiters_in_cells(tmp_path):
    text = 'label,path,note\n"a;b",photos/0.png,"two\nlines"\n"c,d",photos/1.png,"say ""x"""\n'
    dataset, _ = load(listed(tmp_path, text), lone_split="test")
    assert data.labels(dataset) == ["a;b", "c,d"]


@pytest.mark.parametrize("encoding", ["cp1251", "cp1253", "shift-jis", "utf-16-le", "iso8859-2", "cp1250"])
def test_uncertain_encoding_is_refused(tmp_path, encoding):
    word = {"cp1253": "φόρεμα", "shift-jis": "帽子", "iso8859-2": "šaty", "cp1250": "šaty"}.get(encoding, "платье")
    expect_error(listed(tmp_path, f"file_name,label\nphotos/0.png,{word}\n", encoding), "table", "expected")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("an empty file",)),
        ("file_name,label\n", ("a header and no rows",)),
        ("photos/0.png,dress\n", ("photos/0.png,dress", "column names")),
        ("file_name,label,label\na,b,c\n", ("each column once", "label")),
        ('file_name,label\n"photos/0.png,dress\n', ("line 2",)),
        ("file_name\nphotos/0.png\n", ("column of labels", "--label_column")),
        ("file_name,color\nphotos/0.png,red\n", ("file_name, color",)),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, words):
    expect_error(listed(tmp_path, text), *words)


def test_csv_rows_with_errors_are_all_told(tmp_path):
    bad = {
        3: "photos/9.png,hat",
        4: "../0.png,hat",
        5: f"{tmp_path}/photos/0.png,hat",
        6: "file:///etc/passwd,hat",
        7: "https://example.org/1.png,hat",
        8: "photos/1.png,",
        9: ",hat",
        10: "photos/2.png,hat,extra",
        11: "photos,hat",
        12: r"C:\1.png,hat",
        13: "photos/3.png,a",
        14: "photos/3.png,b",
    }
    path = listed(tmp_path, "\n".join(["file_name,label", "photos/0.png,dress", *bad.values()]) + "\n")
    dataset, report = load(path, lone_split="test")
    assert table(dataset) == [("test", "photos/0.png", "dress")]
    found = " ".join(where for where, _ in errors(report))
    assert all(f"labels.csv:{line}" in found for line in bad), found
    assert len(errors(report)) == len(bad) - 1  # the last two are one finding
    with pytest.raises(InputError, match="11 errors"):
        report.raise_on_errors()


def test_csv_links_out_of_the_folder_are_refused(tmp_path):
    path = listed(tmp_path / "in", "file_name,label\nphotos/0.png,a\nphotos/out.png,b\n")
    (tmp_path / "in" / "photos" / "out.png").symlink_to(put(tmp_path / "secret.png"))
    assert "link" in dict(errors(load(path, lone_split="test")[1]))["labels.csv:3"]


def test_csv_backslashes_repeats_and_blank_lines(tmp_path):
    text = "file_name,label\nphotos\\0.png,a\n\nphotos/1.png,b\nphotos/1.png,b\n"
    dataset, report = load(listed(tmp_path, text), lone_split="test")
    assert len(dataset["test"]) == 3 and "1 paths with \\" in texts(report, "note")
    assert "labels.csv:4 and labels.csv:5" in texts(report, "warning")


def test_csv_with_splits(tmp_path):
    rows = [
        f"photos/{number}.png,{'ab'[number % 2]},{split}" for number, split in enumerate(["train"] * 4 + ["dev", "x"])
    ]
    dataset, report = load(listed(tmp_path, "\n".join(["image,label,split", *rows])), lone_split="train")
    assert len(dataset["validation"]) == 1 and errors(report)[0] == ("labels.csv:7", "'x'")
    put(tmp_path / "train" / "1.png"), put(tmp_path / "test" / "1.png", 1), put(tmp_path / "val" / "1.png", 2)
    (tmp_path / "all.csv").write_text("image,label\ntrain/1.png,a\ntest/1.png,b\nval/1.png,c\n")
    dataset, report = load(tmp_path / "all.csv")
    assert report.sizes == {"train": 1, "validation": 1, "test": 1} and "as the split" in texts(report, "note")


def test_json_lines(tmp_path):
    rows = [{"file_name": f"photos/{number}.png", "label": label} for number, label in enumerate(["a", 1, "01", None])]
    text = "\n".join(json.dumps(row) for row in rows) + '\n\n{"file_name":\n[1]\n{"file_name": "photos/4.png"}\n'
    dataset, report = load(listed(tmp_path, text, name="rows.jsonl"), lone_split="test")
    assert [label for *_, label in table(dataset)] == ["a", "1", "01"]
    assert [where for where, _ in errors(report)] == [f"rows.jsonl:{line}" for line in (6, 7, 4, 8)]


def test_folder_with_metadata(tmp_path):
    listed(tmp_path, "file_name,kind\nphotos/0.png,a\nphotos/1.png,b\n", name="metadata.csv", count=3)
    dataset, report = load(tmp_path, names={"label": "kind"}, lone_split="test")
    assert table(dataset) == [("test", "photos/0.png", "a"), ("test", "photos/1.png", "b")]
    assert "1 file(s) without a row, the first: photos/2.png" in texts(report, "warning")
    assert report.source["kind"] == "folder with a table"


def test_split_folders_with_metadata(tmp_path):
    for split in ("train", "test"):
        for number in range(4):
            put(tmp_path / split / f"{number}.png", number)
        rows = [{"file_name": f"{number}.png", "label": "ab"[number % 2]} for number in range(4)]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset, report = load(tmp_path, lone_split="test")
    assert ("test", "test/1.png", "b") in table(dataset) and report.sizes == {"test": 4}
    with (tmp_path / "test" / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "../train/1.png", "label": "a"}')
    assert errors(load(tmp_path, lone_split="test")[1])[0][0] == "test/metadata.jsonl:5"
    put(tmp_path / "val" / "1.png")
    expect_error(tmp_path, "none in val")


def test_parquet_of_paths(tmp_path):
    listed(tmp_path, "")
    Dataset.from_dict({"path": ["photos/0.png", "photos/9.png"], "label": ["a", "b"]}).to_parquet(
        str(tmp_path / "p.parquet")
    )
    dataset, report = load(tmp_path / "p.parquet", lone_split="test")
    assert table(dataset) == [("test", "photos/0.png", "a")] and errors(report) == [
        ("train:1", "no such file: photos/9.png")
    ]


@pytest.mark.parametrize("last", ['photos/4.png,hat"', 'photos/4.png,"hat"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_that_an_open_quote_swallows_are_told(tmp_path, last, end):
    """All of them in one cell, which would be the name of a class."""
    lines = ["file_name,label", "photos/0.png,dress", 'photos/1.png,"dress', "photos/2.png,hat", "photos/3.png,hat"]
    path = listed(tmp_path, end.join([*lines, last, "photos/5.png,dress"]) + end)
    if '"hat"' in last:  # here csv itself sees it
        expect_error(path, "from line 3", "mend the quotes")
        return
    dataset, report = load(path, lone_split="test")
    assert errors(report) == [("labels.csv:3", "lines 3 to 6 in one cell, rows of their own among them")]
    assert {row for _, row, _ in table(dataset)} == {"photos/0.png", "photos/5.png"}


def test_a_cell_of_several_lines_is_text(tmp_path):
    path = listed(tmp_path, 'file_name,label,text\nphotos/0.png,a,"one\ntwo, three, four"\nphotos/1.png,b,x\n')
    assert len(table(load(path, lone_split="test")[0])) == 2


def test_a_key_that_stands_twice_in_a_line_of_json_is_refused(tmp_path):
    lines = [
        '{"file_name": "photos/0.png", "label": "a"}',
        '{"file_name": "photos/1.png", "label": "a", "label": "b"}',
    ]
    _, report = load(listed(tmp_path, "\n".join(lines), name="labels.jsonl"), lone_split="test")
    assert errors(report) == [("labels.jsonl:2", "twice: label")]


def test_a_table_that_may_not_be_read_or_whose_path_is_no_text_is_refused(tmp_path, monkeypatch):
    path = listed(tmp_path, "file_name,label\nphotos/0.png,a\n")
    odd = tmp_path / os.fsdecode(b"h\xfct")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    expect_error(path.rename(odd / "labels.csv"), "a path in UTF-8", "xfc")
    tree(odd)
    (odd / "labels.csv").unlink()
    expect_error(odd, "a path in UTF-8", "xfc")
    path = listed(tmp_path, "file_name,label\nphotos/0.png,a\n")
    monkeypatch.setattr(Path, "read_bytes", refused)
    expect_error(path, "a file that may be read", "Permission denied")


def refused(*_):
    raise PermissionError(13, os.strerror(13))
