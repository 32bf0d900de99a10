"""Whatever stands in a table of labels, or in the name of a class: rows, or an InputError that says what is wrong."""

import csv
import io
import json
import string
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from datasets import Dataset, Features, Image, Value
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memory import within_memory

from hf_fashion import data
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify

PICTURES = {f"{name}.png": tiny.png(seed) for seed, name in enumerate(("a", "b c", "é"))}
quickly = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
)
PLACES = (
    "../a.png",
    "/etc/passwd",
    "file:///a.png",
    "http://x/a.png",
    "b c.png\0",
    ".",
    "a.png/",
    "~/a.png",
    "a" * 300,
)
LABELS = (
    "NA",
    "None",
    "null",
    "nan",
    "",
    " ",
    "01",
    "1",
    "1e5",
    "=1+1",
    "-3",
    "@x",
    "True",
    "dress",
    "Dress",
    "dress ",
)
SPECIAL = ('"', ",", ";", "\t", "\n", "\r", "\r\n", "\0", "\ufeff", "|", "\\", "'", "\u2028", "\ud800")

labels = st.one_of(st.sampled_from(LABELS), st.text(max_size=8))
files = st.one_of(st.sampled_from(sorted(PICTURES)), st.sampled_from(PLACES), st.text(max_size=8))
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "utf-32"])


def load(source):
    """Loads, or is refused by InputError alone; what a row is refused for is told in words."""
    try:
        dataset, report = data.load(source, classify.COLUMNS)
    except InputError as error:
        assert error.what and error.found
        return None
    assert all(finding.found for finding in report.findings)
    names = data.labels(dataset)
    assert len(set(names)) == len(names)
    for rows in dataset.values():
        for told in rows["label"]:  # a list, where a table holds lists; None in them: not known
            assert all(0 <= label < len(names) for label in (told if isinstance(told, list) else [told or 0]))
    return dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, picture in PICTURES.items():
        (folder / name).write_bytes(picture)
    return folder


def write(folder, content, kind="csv"):
    for old in ("csv", "jsonl"):
        (folder / f"metadata.{old}").unlink(missing_ok=True)
    (folder / f"metadata.{kind}").write_bytes(content)


@quickly
@example(content="file_name,label\r\n".encode("utf-16-le"), head=b"", kind="csv")
@example(content=b"{}", head=b"", kind="jsonl")
@example(content=b"file_name,label\ra.png,x\r", head=b"", kind="csv")  # line ends of old Macs
@given(
    content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))),
    head=st.sampled_from([b"", b"file_name,label\n", b"file_name;label\r\n", b"\xef\xbb\xbffile_name,label\na.png,"]),
    kind=st.sampled_from(["csv", "jsonl"]),
)
def test_any_bytes_as_a_table(folder, content, head, kind):
    write(folder, head + content, kind)
    load(folder)


odd_cells = st.one_of(files, labels, st.sampled_from(SPECIAL))
HEAD = ["file_name", "label"]


@quickly
@given(rows=st.lists(st.one_of(st.tuples(st.sampled_from(sorted(PICTURES)), labels), st.lists(odd_cells, max_size=4)),
                     min_size=1, max_size=6),
       head=st.one_of(st.just(HEAD), st.lists(st.sampled_from([*HEAD, "image", "split", "", "x"]), max_size=4)),
       delimiter=st.sampled_from([",", ";", "\t", "|"]), encoding=encodings)  # fmt: skip
def test_any_cells_in_a_table(folder, rows, head, delimiter, encoding):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    try:
        writer.writerows([head, *rows])
    except csv.Error:
        return
    write(folder, buffer.getvalue().encode(encoding, "replace"))
    load(folder)


@quickly
@given(told=st.lists(labels, min_size=2, max_size=3), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_any_labels_of_real_files_come_through_as_text(folder, told, encoding):
    buffer = io.StringIO()
    rows = list(zip(sorted(PICTURES), told, strict=False))
    csv.writer(buffer).writerows([("file_name", "label"), *rows])
    try:
        content = buffer.getvalue().encode(encoding)
    except UnicodeEncodeError:
        return
    write(folder, content)
    dataset = load(folder)
    if dataset is not None:
        seen = {name for part in dataset.values() for name in part.features["label"].names}
        assert seen <= set(told)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), labels, files),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(labels, inner, max_size=3)),
    max_leaves=4,
)


rows_of_json = st.one_of(
    st.fixed_dictionaries({"file_name": st.sampled_from(sorted(PICTURES)), "label": st.one_of(labels, JSON)}),
    st.fixed_dictionaries({}, optional={"file_name": st.one_of(files, JSON), "label": JSON, "x": JSON}),
)


@quickly
@given(rows=st.lists(rows_of_json, min_size=1, max_size=5))
def test_any_values_in_json_lines(folder, rows):
    write(folder, "\n".join(map(json.dumps, rows)).encode("utf-8", "replace"), "jsonl")
    load(folder)


@quickly
@example(told=["a", "b"], pictures=[None, None])
@given(told=st.lists(st.one_of(st.none(), labels), min_size=1, max_size=6), pictures=st.lists(st.one_of(
    st.none(), st.binary(max_size=9), st.sampled_from(list(PICTURES.values()))), min_size=6, max_size=6))  # fmt: skip
def test_any_labels_of_a_dataset_in_hand(told, pictures):
    images = [picture and {"bytes": picture, "path": None} for picture in pictures[: len(told)]]
    features = Features({"image": Image(), "label": Value("string")})
    try:
        rows = Dataset.from_dict({"image": images, "label": told}, features=features)
    except (UnicodeEncodeError, ValueError):  # half a surrogate pair is no text for Arrow
        return
    load(rows)


SPLIT_LIKE = ["train", "testers", "dev", "training shoes", "validation", "-x", "a b"]
names_of_folders = st.one_of(
    st.sampled_from(SPLIT_LIKE), st.text(string.printable + "éß\u0301", min_size=1, max_size=6)
)


@quickly
@given(names=st.lists(names_of_folders, min_size=1, max_size=4), deep=st.booleans())
def test_any_names_of_class_folders(tmp_path_factory, names, deep):
    root = tmp_path_factory.mktemp("tree")
    for name in names:
        name = name.replace("/", "_")
        if name in (".", ".."):
            continue
        place = root / name / "x" if deep and name.startswith("t") else root / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "a.png").write_bytes(PICTURES["a.png"])
    load(root)


heads = st.sampled_from([b"", b"file_name,label\n", b"file_name;label\r\n", b"\xef\xbb\xbffile_name,label\na.png,"])


@st.composite
def tables(draw):
    """The bytes of a table of any of the kinds above, and its ending."""
    kind = draw(st.sampled_from(["bytes", "cells", "json"]))
    if kind == "json":
        rows = draw(st.lists(rows_of_json, min_size=1, max_size=5))
        return "\n".join(map(json.dumps, rows)).encode("utf-8", "replace"), "jsonl"
    if kind == "bytes":
        return draw(heads) + draw(st.binary(max_size=60)), draw(st.sampled_from(["csv", "jsonl"]))
    buffer = io.StringIO()
    real = st.tuples(st.sampled_from(sorted(PICTURES)), labels)
    rows = draw(st.lists(st.one_of(real, st.lists(odd_cells, max_size=4)), min_size=1, max_size=6))
    try:
        csv.writer(buffer, delimiter=draw(st.sampled_from([",", ";", "\t", "|"]))).writerows([HEAD, *rows])
    except csv.Error:  # a cell that csv cannot write
        buffer = io.StringIO()
    return buffer.getvalue().encode(draw(encodings), "replace"), "csv"


def test_too_much_memory_is_seen():
    """In a process of its own: one that ran other tests may give memory back meanwhile."""
    code = "from memory import within_memory\nwith within_memory(50):\n    bytearray(b'1') * (300 * 2**20)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    if Path("/proc/self/clear_refs").exists():
        assert done.returncode and "AssertionError" in done.stderr


@pytest.mark.slow
def test_10_000_tables_take_at_most_2_s_and_500_mb_each(folder):
    told = {"read": 0, "refused": 0, "seconds": 0.0}

    @settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(tables())
    def every(made):
        write(folder, *made)
        start = time.process_time()
        told["refused" if load(folder) is None else "read"] += 1
        told["seconds"] = max(told["seconds"], time.process_time() - start)
        assert time.process_time() - start < 2

    with within_memory():
        every()
    print(json.dumps(told))
    assert told["read"] + told["refused"] >= 10_000 and min(told["read"], told["refused"]) > 500
