"""Tables as they occur: every cell is read as it is written, or the row is named that cannot be."""

import csv

import pytest
from bad_sources import TWO, lines, numbered, ours
from bad_sources_tables import FORMULAS, MISSING, TABLES, table
from loading import errors, load, texts

from hf_fashion import checks, data
from hf_fashion.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "in" / "source").mkdir(parents=True)
    return tmp_path / "in" / "source"


@pytest.mark.parametrize("case", TABLES, ids=lambda case: case.name.encode("unicode_escape").decode()[:60])
def test_every_case_comes_out_as_wanted(case, root):
    made = case.make(root)
    before = {path: path.read_bytes() for path in root.parent.rglob("*") if path.is_file()}
    outcome = ours(made, case.words)
    assert outcome.kind == case.wanted, outcome.said
    assert all(word in outcome.said for word in case.words), outcome.said
    assert {path: path.read_bytes() for path in root.parent.rglob("*") if path.is_file()} == before


def test_nothing_printed_holds_what_a_terminal_obeys(root):
    made = table(lines(["\x1b[2J\x1b]0;x\x07red", "hat\u202e"] * 4), name="labels.csv")(root)
    dataset, report = load(made.source, lone_split="test")
    assert data.labels(dataset)[0] == "\x1b[2J\x1b]0;x\x07red"  # kept as data
    printed = str(checks.check(dataset, report))
    assert not {c for c in printed if not c.isprintable()} - {"\n"}


def test_an_error_shows_a_header_as_text(root):
    made = table(lines(TWO, head="file_name,\x1b[31mcolour"), name="labels.csv")(root)
    with pytest.raises(InputError) as caught:
        load(made.source)
    assert "\x1b" not in str(caught.value) and r"\x1b[31mcolour" in str(caught.value)


def test_a_path_is_shown_as_text(root):
    made = table(lines(TWO) + "a\x1b[2Jb.png,hat\n", name="labels.csv")(root)
    _, report = load(made.source, lone_split="test")
    assert errors(report)[0][0] == "labels.csv:10"
    with pytest.raises(InputError) as caught:
        report.raise_on_errors()
    assert "\x1b" not in str(caught.value)


def test_names_that_may_mean_no_label_are_told_and_kept(root):
    dataset, report = load(table(lines(MISSING), numbered(MISSING))(root).source, lone_split="test")
    assert data.labels(dataset) == ["NA", "None", "nan", "null"]
    assert "perhaps no label, read as a class: NA, None, nan, null" in texts(report, "warning")
    _, report = load(table(lines(TWO))(root).source, lone_split="test")
    assert not report.of("warning")


def test_formulas_stay_data_and_no_table_of_ours_lets_a_spreadsheet_run_them(root, tmp_path):
    dataset, _ = load(table(lines(FORMULAS))(root).source, lone_split="test")
    assert data.labels(dataset) == sorted(set(FORMULAS))
    from hf_fashion.sweeps.study import spreadsheet_cell

    words = [*FORMULAS, "\t=1", "\r=1", " =1", '=HYPERLINK("http://a")', "-1e-3", "+5", "1e-4", "plain", None, 0.5]
    with (tmp_path / "out.csv").open("w", newline="") as file:
        csv.writer(file).writerow([spreadsheet_cell(word) for word in words])
    [row] = csv.reader((tmp_path / "out.csv").open(newline=""))
    assert not [cell for cell in row if cell.lstrip().startswith(("=", "@"))]
    assert [cell for cell in row if cell.startswith(("+", "-"))] == ["-1e-3", "+5"]  # numbers
    assert row[-4:] == ["1e-4", "plain", "", "0.5"] and "'=1+2" in row


def test_a_wanted_outcome_can_be_missed(root):
    made = table(lines(TWO), numbered(TWO))(root)
    assert ours(made).kind == "right"
    assert ours(made._replace(truth={**numbered(TWO), 3: "dress"})).kind == "wrong"
    assert ours(made._replace(truth=None)).kind == "wrong"
