"""`hf-fashion check`: the table, the page, the exit code and the cleaned copy, as a user sees them."""

import base64
import csv
import html
import os
import re
import shlex
import sys
from io import BytesIO

import messy
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage
from tiny import photos

from hf_fashion import checks, data
from hf_fashion.errors import InputError
from hf_fashion.recipes import check
from hf_fashion.report import Report

pytest.importorskip("imagehash")


def run(*argv):
    """The exit code of the recipe."""
    try:
        check.main(list(map(str, argv)))
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The messy folder, checked once: source, page's folder, copy, exit code."""
    place = tmp_path_factory.mktemp("check")
    source = messy.folder(place / "source")
    before = {path.name: path.read_bytes() for path in source.rglob("*.parquet")}
    code = run(source, "--output_dir", place / "out", "--fix", place / "copy")
    assert before == {path.name: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    return place, code


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_exit_code_is_0_without_errors(tmp_path, capsys):
    photos(tmp_path / "clean", classes=("circle", "square"), train=10, validation=2, test=2)
    assert run(tmp_path / "clean") == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out


def test_warnings_do_not_stop_a_chain_of_commands(tmp_path, capsys):
    photos(tmp_path / "few", train=3, validation=1, test=1)
    assert run("--dataset", tmp_path / "few") == 0
    assert "0 errors, 1 warning\n" in capsys.readouterr().out


def test_all_that_is_wrong_is_in_the_table(checked):
    place, code = checked
    assert code == 1
    table = pq.read_table(place / "out" / "findings.parquet").to_pylist()
    found = {(row["level"], row["where"]): row for row in table}
    assert found["error", "train:4 and test:1"]["rows"] == [{"split": "train", "row": 4}, {"split": "test", "row": 1}]
    assert "HTML" in found["error", "train:7"]["found"]
    assert found["warning", "train:2 and train:8"]["found"] == "equal pixels"
    assert found["warning", "train:1 and train:21"]["column"] == "label"
    assert found["warning", "train:3 and train:5"]["found"] == "nearly the same"
    assert "2 splits" in found["warning", "train:6 and test:2"]["found"]
    assert "6 x 6 px" in found["warning", "train:10"]["found"]
    assert any("'Dress', 'dress '" in row["found"] for row in table)
    assert not any("train:11" in row["where"] or "train:12" in row["where"] for row in table)  # two colours of a shirt


def test_the_page_shows_the_pictures_side_by_side_and_runs_nothing(checked):
    page = (checked[0] / "out" / "report.html").read_text(encoding="utf-8")
    assert messy.HOSTILE not in page and html.escape(messy.HOSTILE) in page and "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:image/jpeg;base64,|#)", page)  # nothing from elsewhere
    assert "default-src 'none'" in page and 'name="viewport"' in page and "prefers-color-scheme: dark" in page
    leak = page[page.index("Expected: each picture in one split only") :]
    leak = leak[: leak.index("</article>")]
    shown = [PILImage.open(BytesIO(base64.b64decode(data))) for data in re.findall('base64,([^"]+)', leak)]
    assert len(shown) == 2 and "train:4" in leak and "test:1" in leak
    assert np.abs(np.asarray(shown[0], dtype=int) - np.asarray(messy.scene(4).resize(shown[0].size))).mean() < 20
    assert len(page) < 500_000


def test_a_hostile_file_name_is_text_on_the_page(tmp_path):
    rows = (
        messy.dataset()["train"]
        .select(range(9))
        .add_column("source_row", [f"<img src=x onerror=a>{n}" for n in range(9)])
    )
    report = checks.check(DatasetDict(train=rows), Report({"source": "<b>bold</b>"}))
    page = checks.write(DatasetDict(train=rows), report, tmp_path / "out").read_text(encoding="utf-8")
    assert "<img src=x" not in page and "&lt;img src=x" in page and "<b>bold" not in page


def test_the_copy_is_clean_and_loads_again(checked):
    place, _ = checked
    left_out = {(row["split"], row["where"]): row["reason"] for row in rows_of(place / "copy" / "left_out.csv")}
    assert left_out.keys() == {("train", "train:7"), ("train", "train:4")}
    assert "HTML" in left_out["train", "train:7"] and "test:1 stays" in left_out["train", "train:4"]
    left_in = {row["where"] for row in rows_of(place / "copy" / "left_in.csv")}
    assert {"train:3 and train:5", "train:2 and train:8", "train:1 and train:21", "train:10"} <= left_in
    dataset, report = data.load(place / "copy", check.COLUMNS, validation_share=None, test_share=None)
    assert report.of("error")[0].found == "none of: trouser"  # it takes a judgement, or photos
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 22, "test": 6}
    assert not [f for f in checks.check(dataset, report).of("error") if "none of" not in f.found]
    assert data.labels(dataset) == messy.NAMES and dataset["train"]["title"][4] == "photo 5"


def test_the_bytes_of_the_pictures_are_those_of_the_source(checked):
    place, _ = checked
    raw = Image(decode=False)
    copy = Dataset.from_parquet(str(place / "copy" / "data" / "train-00000-of-00001.parquet")).cast_column(
        "image", raw
    )
    source = messy.dataset()["train"].cast_column("image", raw)
    kept = [row for row in range(24) if row not in (4, 7)]
    assert [row["bytes"] for row in copy["image"]] == [source[row]["image"]["bytes"] for row in kept]
    assert copy["source_row"][4:6] == ["train:5", "train:6"]  # named as in the source


def test_files_of_a_folder_are_copied_into_the_parquet(tmp_path):
    photos(tmp_path / "photos", classes=("circle", "square"), train=3, validation=1, test=1)
    broken = tmp_path / "photos" / "train" / "circle" / "broken.png"
    broken.write_bytes(b"<html>")
    cut = tmp_path / "photos" / "train" / "circle" / "=cut.png"
    cut.write_bytes((tmp_path / "photos" / "train" / "circle" / "0.png").read_bytes()[:400])
    assert run(tmp_path / "photos", "--fix", tmp_path / "copy") == 1
    left_out = {row["where"] for row in rows_of(tmp_path / "copy" / "left_out.csv")}
    assert {"train/circle/broken.png", "train: train/circle/=cut.png"} == left_out
    [first, *_] = Dataset.from_parquet(str(tmp_path / "copy/data/train-00000-of-00001.parquet")).cast_column(
        "image", Image(decode=False)
    )
    assert first["image"]["bytes"] == (tmp_path / "photos" / first["source_row"]).read_bytes()
    assert first["image"]["path"] == "0.png"  # not where it lay on this machine


def test_cells_that_a_spreadsheet_would_run_are_escaped(tmp_path):
    rows = messy.dataset()["train"].select(range(9)).add_column("source_row", [f"=1+{n}" for n in range(9)])
    dataset = DatasetDict(train=rows)
    report = checks.check(dataset, Report({}))
    told = rows_of(checks.fix(dataset, report, tmp_path / "copy", lost=[]) / "left_in.csv")
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in told for cell in row.values())


def test_a_folder_in_use_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"1")
    with pytest.raises(InputError, match="new or empty"):
        check.main([str(tmp_path / "nowhere"), "--fix", str(tmp_path / "mine")])
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("setting", ["--fix", "--output_dir"])
@pytest.mark.parametrize("name", ["cleaned", "dress/cleaned", "."])
def test_nothing_is_written_into_the_source(setting, name, tmp_path, monkeypatch):
    """A copy or report there would be a class of the dataset from then on."""
    source = tmp_path / "photos"
    photos(source, train=1, validation=1, test=1)
    before = sorted(source.rglob("*"))
    monkeypatch.chdir(source)
    for told in (".", str(source), f"fashion_mnist:{source}"):
        with pytest.raises(InputError, match="new or empty folder|outside of the dataset"):
            check.main([told, setting, str(source / name) if told == "." else f"./{name}"])
    assert sorted(source.rglob("*")) == before


@pytest.mark.parametrize("name", ["report.html", "findings.parquet"])
def test_a_report_writes_over_earlier_reports_only(name, tmp_path):
    source = tmp_path / "photos"
    photos(source, train=1, validation=1, test=1)
    assert [run(source, "--output_dir", tmp_path / "out") for _ in range(2)] == [0, 0]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("<title>of mine")
    (tmp_path / "file").write_text("mine")
    for place in ("mine", "file"):
        with pytest.raises(InputError, match="no report of a check|found:    a file"):
            check.main(["nowhere", "--output_dir", str(tmp_path / place)])
    with pytest.raises(InputError, match="no report"):
        checks.write(DatasetDict(), Report({}), tmp_path / "mine")
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["<title>of mine"]


def test_names_that_are_not_utf8_are_told_in_the_copy_and_on_the_page(tmp_path, capsys):
    source = tmp_path / "photos"
    photos(source, train=1, validation=1, test=1)
    with open(os.fsencode(source / "train" / "circle") + b"/h\xfct.png", "wb") as file:
        file.write(b"a photo")
    (source / "train" / "circle" / "link.png").symlink_to(os.fsdecode(b"/h\xfct"))
    assert run(source, "--fix", tmp_path / "copy", "--output_dir", tmp_path / "out") == 1
    told = rows_of(tmp_path / "copy" / "left_out.csv")
    assert {row["where"] for row in told} == {r"train/circle/h\udcfct.png", "train/circle/link.png"}
    assert r"h\udcfct.png" in (tmp_path / "out" / "report.html").read_text()


def test_copies_that_stay_in_one_split_are_in_the_list_of_what_was_left_in(tmp_path):
    rows = messy.dataset()["train"]
    dataset = DatasetDict(train=rows.select([0, 1, 2]), test=rows.select([0, 0, 3]))
    report = checks.check(dataset, Report({}))
    folder = checks.fix(dataset, report, tmp_path / "copy")
    assert [row["where"] for row in rows_of(folder / "left_out.csv")] == ["train:0"]
    told = {row["where"]: row["found"] for row in rows_of(folder / "left_in.csv")}
    assert told["test:0, test:1"] == "equal pixels"


def test_a_copy_in_which_nothing_is_left_is_told(tmp_path, capsys):
    source = tmp_path / "photos"
    photos(source, train=1, validation=1, test=1)
    for path in source.rglob("*.*g"):
        path.write_bytes(path.read_bytes()[:100])
    assert run(source, "--fix", tmp_path / "copy") == 1
    assert "there is no photo in it: all were left out" in capsys.readouterr().out


def test_attributes_and_pictures_without_labels(tmp_path, capsys):
    raw = [{"bytes": messy.encoded(messy.scene(number)), "path": None} for number in range(12)]
    box = [{"bbox": [Value("float32")], "category": Value("string")}]
    features = Features({"image": Image(), "color": Value("string"), "objects": box})
    good, flat = ({"bbox": [1.0, 1.0, height, 5.0], "category": "hat"} for height in (5.0, 0.0))
    table = {"image": raw, "color": ["red", "Red"] * 6, "objects": [[good]] * 11 + [[flat]]}
    Dataset.from_dict(table, features=features).to_parquet(tmp_path / "a.parquet")
    assert run(tmp_path / "a.parquet", "--label_columns", "color") == 1
    assert "'Red', 'red'" in capsys.readouterr().out
    assert run(tmp_path / "a.parquet", "--output_dir", tmp_path / "out") == 1  # boxes, and no column of labels
    assert "no area" in capsys.readouterr().out
    assert "data:image" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_folder_of_nothing_but_pictures_is_checked_for_all_but_labels(tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(6):
        (flat / f"{number}.png").write_bytes(messy.encoded(messy.scene(number)))
    (flat / "again.png").write_bytes((flat / "3.png").read_bytes())
    (flat / "page.jpg").write_text("<html>gone</html>")
    (flat / "notes.txt").write_text("of last summer")
    (flat / "small.png").write_bytes(messy.encoded(messy.scene(7).resize((6, 6))))
    assert run(flat, "--output_dir", tmp_path / "out", "--fix", tmp_path / "copy") == 1
    said = capsys.readouterr().out
    assert "folder of pictures" in said and "1 error, 2 warnings" in said and "notes.txt: passed over" in said
    assert "HTML" in said and "equal pixels" in said and "6 x 6 px" in said and "class" not in said
    assert "data:image" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert {row["where"] for row in rows_of(tmp_path / "copy" / "left_out.csv")} == {"page.jpg"}
    assert run(tmp_path / "copy") == 0 and run(flat, "--on_bad_image", "drop") == 0
    for asked in (["--label_column", "label"], ["--label_columns", "color"]):
        with pytest.raises(InputError, match="8 pictures without labels"):
            check.main([str(flat), *asked])


def test_what_is_carried_along_is_not_taken_for_labels(tmp_path):
    rows = messy.dataset()["train"].select(range(1, 4)).cast_column("title", Value("string"))
    dataset, report = data.load(
        rows.class_encode_column("title"), check.COLUMNS, test_share=None, validation_share=None
    )
    assert report.carried == ["title"] and dataset["train"].features["title"].names
    assert not any(finding.column == "title" for finding in checks.check(dataset, report).findings)


def test_spellings_are_merged_only_when_told():
    texts = ["Dress", "dress ", "Dress", "te\u0301e", "t\u00e9e", "t\u00e9e", "hat", "hat"]
    raw = [{"bytes": messy.encoded(messy.scene(number)), "path": None} for number in range(8)]
    rows = Dataset.from_dict(
        {"image": raw, "label": texts}, features=Features({"image": Image(), "label": Value("string")})
    )
    whole = {"validation_share": None, "test_share": None}
    assert len(data.labels(data.load(rows, check.COLUMNS, **whole)[0])) == 5
    dataset, report = data.load(rows, check.COLUMNS, merge_labels=True, **whole)
    assert data.labels(dataset) == ["Dress", "hat", "t\u00e9e"]
    assert dataset["train"]["label"][:] == [0, 0, 0, 2, 2, 2, 1, 1]
    notes = report.to_dict()["notes"]  # what run.json and the card say
    assert any("merged into 'Dress', as was asked: 'dress ' (1)" in note for note in notes)
    lists = Dataset.from_dict(
        {"image": raw, "tags": [["Soft", "soft"], ["Soft"], [], ["new"]] * 2},
        features=Features({"image": Image(), "tags": [Value("string")]}),
    )
    dataset, _ = data.load(lists, check.COLUMNS, label_columns=["tags"], merge_labels=True, **whole)
    assert data.labels(dataset, "tags") == ["Soft", "new"] and dataset["train"]["tags"][:4] == [[0], [0], [], [1]]


def test_missing_packages_are_named_with_what_to_type(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    photos(tmp_path / "photos", train=2, validation=1, test=1)
    with pytest.raises(InputError, match=r"hf_fashion\[check\]"):
        check.main([str(tmp_path / "photos")])


def boxed(folder, bbox):
    """A folder with a split of four pictures of 64 x 48, with a box each."""
    features = Features(
        {"image": Image(), "objects": {"bbox": List(List(Value("float64"))), "category": List(Value("string"))}}
    )
    rows = [
        {"image": photo, "objects": {"bbox": [box], "category": ["bag"]}}
        for photo, box in zip(shots(4), bbox, strict=True)
    ]
    folder.mkdir(parents=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "train.parquet")
    return folder


def shots(count):
    generator = np.random.default_rng(0)
    return [PILImage.fromarray(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(count)]


def test_boxes_in_another_format_are_told_and_read_when_it_is_typed(tmp_path, capsys):
    corners = [[40.0, 30, 60, 44], [30, 20, 62, 40], [50, 30, 60, 46], [20, 25, 60, 47]]
    source = boxed(tmp_path / "corners", corners)
    assert run(source) == 1 and "--box_format xyxy" in capsys.readouterr().out
    assert run(source, "--box_format", "xyxy", "--fix", tmp_path / "copy") == 0
    fixed = pq.read_table(next((tmp_path / "copy").rglob("train*.parquet"))).to_pylist()
    assert [row["objects"]["bbox"] for row in fixed][0] == [[40, 30, 20, 14]]
    assert run(tmp_path / "copy") == 0


def test_boxes_partly_outside_are_clipped_when_told(tmp_path):
    source = boxed(tmp_path / "over", [[2.0, 2, 20, 20], [50, 2, 30, 20], [2, 2, 9, 9], [3, 3, 8, 8]])
    assert run(source) == 1
    assert run(source, "--on_bad_box", "clip", "--fix", tmp_path / "copy") == 0
    fixed = pq.read_table(next((tmp_path / "copy").rglob("train*.parquet"))).to_pylist()
    assert fixed[1]["objects"]["bbox"] == [[50, 2, 14, 20]]


def test_settings_of_boxes_need_boxes(tmp_path):
    photos(tmp_path / "plain", train=3, validation=1, test=1)
    with pytest.raises(InputError, match="objects"):
        check.main([str(tmp_path / "plain"), "--box_format", "xyxy"])


def test_what_is_typed_next_reads_the_copy_as_it_was_checked(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = [{"bytes": messy.encoded(messy.scene(number)), "path": None} for number in range(4)]
    table = {"photo": raw, "color": ["red", "blue"] * 2, "tags": ["a|b", "a"] * 2, "title": list("wxyz")}
    Dataset.from_dict(table).to_parquet("a.parquet")
    with pytest.raises(InputError, match="image_column"):
        check.main(["a.parquet"])
    assert run("a.parquet", "--image_column", "photo", "--label_columns", "color", "tags", "--label_separator", "|",
               "--max_pixels", "30000000", "--fix", "my copy") == 0  # fmt: skip
    [again] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    typed = shlex.split(again)[shlex.split(again).index("--dataset") :]
    assert typed == ["--dataset", "my copy", "--label_columns", "color", "tags", "--max_pixels", "30000000"]
    assert shlex.join(typed) in (tmp_path / "my copy" / "README.md").read_text(encoding="utf-8")
    assert run(*typed) == 0 and "labels were not checked" not in capsys.readouterr().out
    dataset, _ = data.load("my copy", check.COLUMNS, label_columns=["color", "tags"], test_share=None)
    assert data.attributes(dataset) == {"color": False, "tags": True}


def test_labels_that_were_not_looked_at_are_told(tmp_path, capsys):
    raw = [{"bytes": messy.encoded(messy.scene(number)), "path": None} for number in range(4)]
    table = {"image": raw, "color": ["red", "blue"] * 2, "title": list("wxyz")}
    Dataset.from_dict(table).cast_column("image", Image()).to_parquet(tmp_path / "a.parquet")
    told = "labels were not checked: no label column found; columns: color, title; --label_columns NAME"
    assert run(tmp_path / "a.parquet") == 0 and told in capsys.readouterr().out
    assert run(tmp_path / "a.parquet", "--label_columns", "color") == 0
    assert "labels were not checked" not in capsys.readouterr().out


def test_the_copy_says_how_to_go_on(checked):
    place, _ = checked
    readme = (place / "copy" / "README.md").read_text(encoding="utf-8")
    assert "hf-fashion classify --dataset copy\n" in readme and "--fix` again" in readme
    assert "2 were left out" in readme
    fixes = [row["to_do"] for row in rows_of(place / "copy" / "left_in.csv")]
    assert fixes and all(fix.endswith("(in the source, then --fix again into a new folder)") for fix in fixes if fix)
