"""Columns of attributes: how they are read, cut, checked; and what one row's labels become for a net."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from tiny import png

from hf_fashion import attributes, checks, data
from hf_fashion.errors import InputError

COLUMNS = Features({"image": Image(), "label": Value("string")})
pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    """Keeps what `load_dataset` writes out of the user's cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def pictures(count):
    rows = [{"bytes": png(number), "path": None} for number in range(count)]
    return Dataset.from_dict({"image": rows}, features=Features({"image": Image()}))


def load(source, **options):
    return data.load(source, COLUMNS, **options)


def texts(report, level):
    return " | ".join(f"{finding.where} {finding.column} {finding.found}" for finding in report.of(level))


def test_a_label_that_is_a_list_is_read_as_attributes(tmp_path):
    rows = pictures(20)
    rows = rows.add_column("labels", [["warm", "red"], ["red"], [], None] * 5, feature=List(Value("string")))
    dataset, report = load(rows)
    assert data.attributes(dataset) == {"labels": True}
    assert data.labels(dataset, "labels") == ["red", "warm"]
    values = [row for part in dataset.values() for row in part["labels"]]
    assert sorted(map(str, values)) == sorted(["[1, 0]", "[0]", "[]", "None"] * 5)
    assert "5 of 20 rows have no labels" in texts(report, "note")
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    (tmp_path / "x.jsonl").write_text(
        '{"file_name": "1.png", "label": ["a", "b"]}\n{"file_name": "2.png", "label": ["b"]}\n'
    )
    assert load(tmp_path / "x.jsonl", lone_split="test")[0]["test"]["label"] == [[0, 1], [1]]


def test_attributes_stand_in_columns_of_their_own(tmp_path):
    lines = ["image,color,tags,note"]
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        lines.append(f"{number}.png,{['red', 'blue', ''][number % 3]},{['soft|warm', 'warm'][number % 2]},x")
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    dataset, report = load(tmp_path / "x.csv", label_columns=["color", "tags"], label_separator="|")
    assert data.attributes(dataset) == {"color": False, "tags": True}
    rows = {row["source_row"]: row for part in dataset.values() for row in part}
    names = data.labels(dataset, "color")
    assert names == ["blue", "red"] and data.labels(dataset, "tags") == ["soft", "warm"]
    assert rows["2.png"]["color"] is None and rows["2.png"]["tags"] == [0, 1]
    assert rows["1.png"]["color"] == 0 and rows["1.png"]["tags"] == [1]
    for part in dataset.values():
        assert {names[value] for value in part["color"] if value is not None} == {"red", "blue"}
    assert "note" in texts(report, "note")
    with pytest.raises(InputError, match="label_columns color"):
        load(tmp_path / "x.csv", label_columns=["colour"])
    with pytest.raises(InputError, match="each once"):
        load(tmp_path / "x.csv", label_columns=["color", "color"])


def test_splits_are_cut_so_that_rare_values_come_into_each():
    color = ["rare"] * 8 + ["often", "more"] * 46
    rows = pictures(100).add_column("color", color).add_column("sleeve", ["long", "short"] * 50)
    dataset, _ = load(rows, label_columns=["color", "sleeve"])
    rare = data.labels(dataset, "color").index("rare")
    assert [part["color"].count(rare) for part in dataset.values()] == [6, 1, 1]
    assert sum(map(len, dataset.values())) == 100


def test_the_check_warns_of_values_that_cannot_be_learned_and_stops_at_leaks():
    train = pictures(20).add_column("color", ["red", "blue"] * 10)
    test = pictures(21).select([20]).add_column("color", ["green"])
    dataset, report = load(DatasetDict(train=train, test=test), label_columns=["color"])
    report = checks.check(dataset, report)
    assert "none of: green" in texts(report, "warning") and not report.of("error")
    twice = DatasetDict(train=train, test=pictures(1).add_column("color", ["red"]))
    dataset, report = load(twice, label_columns=["color"])
    assert "a leak" in texts(checks.check(dataset, report), "error")
    copies = Dataset.from_dict(
        {"image": [{"bytes": png(0), "path": None}] * 2, "color": ["red", "blue"]},
        features=Features({"image": Image(), "color": Value("string")}),
    )
    dataset, report = load(copies, label_columns=["color"], lone_split="test")
    assert "red and blue" in texts(checks.check(dataset, report), "warning")


# -- what a net makes of them

GROUPS = [
    attributes.Group("color", ("red", "blue", "green"), many=False, start=0),
    attributes.Group("tags", ("soft", "warm"), many=True, start=3),
]


def test_rows_become_yes_no_and_unknown():
    nan = np.nan
    cases = [
        ({"color": 1, "tags": [0, 1]}, [0, 1, 0, 1, 1]),
        ({"color": 2, "tags": []}, [0, 0, 1, 0, 0]),
        ({"color": None, "tags": [1]}, [nan, nan, nan, 0, 1]),
        ({"color": 0, "tags": None}, [1, 0, 0, nan, nan]),
    ]
    for row, wanted in cases:
        np.testing.assert_array_equal(attributes.encode(row, GROUPS), np.float32(wanted))


def test_the_loss_is_that_of_each_group_and_unknown_adds_nothing():
    torch.manual_seed(0)
    logits = torch.randn(3, 5)
    labels = torch.tensor([[0, 1, 0, 1, 1], [np.nan, np.nan, np.nan, 0, 1], [1, 0, 0, np.nan, np.nan]])
    compute = attributes.loss(GROUPS)
    color = torch.nn.functional.cross_entropy(logits[[0, 2], :3], torch.tensor([1, 0]), reduction="sum")
    tags = torch.nn.functional.binary_cross_entropy_with_logits(logits[:2, 3:], labels[:2, 3:], reduction="sum") / 2
    assert compute({"logits": logits}, labels) == pytest.approx(float((color + tags) / 3 / 2), abs=1e-6)
    parts = [compute({"logits": logits[[row]]}, labels[[row]], num_items_in_batch=15) for row in range(3)]
    assert float(sum(parts)) == pytest.approx(float(compute({"logits": logits}, labels)), abs=1e-6)
    logits.requires_grad_(True)
    compute({"logits": logits}, labels).backward()
    unknown = labels.isnan()
    assert (logits.grad[unknown] == 0).all() and (logits.grad[~unknown] != 0).all()


def test_scores_and_decisions_follow_the_groups():
    logits = np.array([[2.0, 1.0, 0.0, 0.0, -3.0], [0.0, 0.0, 5.0, 1.0, 1.0]])
    scores = attributes.probabilities(logits, GROUPS)
    assert scores[:, :3].sum(axis=1) == pytest.approx([1, 1])
    assert scores[0, 3] == pytest.approx(0.5) and scores[0, 4] == pytest.approx(1 / (1 + np.exp(3)))
    said = attributes.decide(scores, GROUPS, np.array([0.99, 0.99, 0.99, 0.5, 0.8]))
    np.testing.assert_array_equal(said, [[1, 0, 0, 1, 0], [0, 0, 1, 1, 0]])


def test_thresholds_are_those_with_the_best_f1_on_known_rows():
    scores = np.tile(np.array([0.9, 0.8, 0.3, 0.2, 0.1])[:, None], (1, 5))
    truth = np.zeros((5, 5))
    truth[:, 3] = [1, 1, 1, 0, np.nan]  # all three from 0.3 on: between 0.2 and 0.3
    thresholds = attributes.choose_thresholds(scores, truth, GROUPS)
    assert thresholds == pytest.approx([0.5, 0.5, 0.5, 0.25, 0.5])


def test_a_config_says_its_groups_in_plain_values_and_gives_them_back(tmp_path):
    from transformers import AutoConfig, ViTConfig

    labels = attributes.names(GROUPS)
    assert labels == ["color: red", "color: blue", "color: green", "tags: soft", "tags: warm"]
    told = attributes.describe(GROUPS, [0.5, 0.5, 0.5, 0.25, 0.75])
    config = ViTConfig(id2label=dict(enumerate(labels)), problem_type="multi_label_classification", **told)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.thresholds == {"tags: soft": 0.25, "tags: warm": 0.75}
    assert attributes.of_config(again) == GROUPS
    assert attributes.thresholds_of(again, GROUPS).tolist() == [0.5, 0.5, 0.5, 0.25, 0.75]
    assert attributes.of_config(ViTConfig()) is None
    foreign = attributes.of_config(ViTConfig(num_labels=2, problem_type="multi_label_classification"))
    assert foreign == [attributes.Group("labels", ("LABEL_0", "LABEL_1"), many=True)]


def test_under_data_parallel_the_count_comes_once_a_device():
    labels = torch.tensor([[0.0, 1, 0, 1, 1], [1, 0, 0, 0, 0]])
    logits = torch.randn(2, 5)
    compute = attributes.loss(GROUPS)
    whole = compute({"logits": logits}, labels, num_items_in_batch=10)
    assert compute({"logits": logits}, labels, torch.tensor([[5], [5]])) == pytest.approx(float(whole))


def test_a_tiny_threshold_stays_one():
    told = attributes.describe([attributes.Group("tags", ("soft",), many=True)], [2.34567891e-7])
    assert told["thresholds"] == {"soft": 2.34567891e-7}


def test_a_threshold_between_two_close_scores_stays_between_them_in_the_config():
    from transformers import ViTConfig

    group = [attributes.Group("tags", ("soft",), many=True)]
    close = 1 - 2.0**-53
    for scores in ([0.9999999, 0.99999985, 0.9999997, 0.9999993], [1.0, 1.0, close, close]):
        scores, truth = np.array(scores)[:, None], np.array([[1.0], [1.0], [0.0], [0.0]])
        told = attributes.describe(group, attributes.choose_thresholds(scores, truth, group))
        config = ViTConfig.from_dict(json.loads(ViTConfig(**told).to_json_string()))
        said = attributes.decide(scores, group, attributes.thresholds_of(config, group))
        assert said.ravel().tolist() == [True, True, False, False]


def test_a_column_called_label_may_have_holes_too():
    rows = pictures(20).add_column("label", ["red", "blue", None, "red"] * 5).add_column("sleeve", ["a", "b"] * 10)
    dataset, report = load(rows, label_columns=["label", "sleeve"])
    assert sum(part["label"].count(None) for part in dataset.values()) == 5
    checks.check(dataset, report).raise_on_errors()


def test_an_attribute_without_any_value_is_refused():
    with pytest.raises(InputError, match="column sleeve"):
        load(pictures(20).add_column("color", ["red", "blue"] * 10).add_column("sleeve", [""] * 20),
             label_columns=["color", "sleeve"])  # fmt: skip


def test_in_a_column_of_lists_a_text_alone_is_a_list_of_one(tmp_path):
    lines = [f'{{"file_name": "{n}.png", "tags": {["[1, 2]", "2", "[]", "null", "{}"][n]}}}' for n in range(5)]
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n")
    dataset, _ = load(tmp_path / "x.jsonl", label_columns=["tags"], lone_split="test")
    assert dataset["test"]["tags"] == [[0, 1], [1], [], None, None]


def test_pictures_have_a_fingerprint_of_their_own():
    rows = pictures(20).add_column("color", ["red", "blue"] * 10).add_column("sleeve", ["a", "b"] * 10)
    one, two = (load(rows, label_columns=columns)[1].source for columns in (["color"], ["color", "sleeve"]))
    assert one["pictures"] == two["pictures"] and one["fingerprint"] != two["fingerprint"]


def test_a_rarely_known_attribute_is_no_wrong_column():
    brands = [f"b{number}" for number in range(16)] + [None] * 24
    rows = pictures(40).add_column("brand", brands).add_column("color", ["red", "blue"] * 20)
    dataset, report = load(rows, label_columns=["brand", "color"])
    assert not checks.check(dataset, report).of("error")


def test_many_rare_values_do_not_shrink_the_training_split():
    rows = pictures(60).add_column("color", [f"c{number // 3}" for number in range(60)])
    rows = rows.add_column("sleeve", ["long", "short"] * 30)
    dataset, _ = load(rows, label_columns=["color", "sleeve"])
    assert {split: len(part) for split, part in dataset.items()} == {"train": 42, "validation": 9, "test": 9}


def test_a_cell_that_looks_like_several_labels_is_told():
    rows = pictures(20).add_column("uses", ["casual|fall", "fall"] * 10).add_column("color", ["red", "blue"] * 10)
    _, report = load(rows, label_columns=["uses", "color"])
    assert "a | in 10 rows: casual|fall" in texts(report, "warning")
    with pytest.raises(InputError, match="type --label_columns uses color"):
        load(rows, label_columns=["uses", "colour"])
