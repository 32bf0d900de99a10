"""`hf-fashion predict`: why a photo has no answer, and columns whose names are taken."""

import errno

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from tiny import png

from hf_fashion import backbones, cropping, predicting, predictors
from hf_fashion.errors import InputError
from hf_fashion.recipes import predict as recipe


def rows(count=3):
    pictures = [{"bytes": png(n), "path": None} for n in range(count)]
    features = Features({"image": Image(), "source_row": Value("string")})
    return Dataset.from_dict({"image": pictures, "source_row": [f"row {n}" for n in range(count)]}, features=features)


def written(schema, say, path):
    """The table, and what was done, of a model that says this."""
    model = predicting.Model(schema, say, {"model": "x"}, light=True)
    done = predicting.catalogue(model, rows(), path, progress=False, threads=1)
    return pq.read_table(path), done


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_a_reason_and_no_label(odd, tmp_path):
    schema, row = predicting.labelled(["hat", "coat"], 2)
    scores = np.array([[0.2, 0.8], [odd, 0.5], [0.9, 0.1]])
    table, done = written(schema, lambda photos: [row(one) for one in scores], tmp_path / "labels.parquet")
    assert table.column("label").to_pylist() == ["coat", None, "hat"]
    assert table.column("scores").to_pylist()[1] is None
    assert table.column("error").to_pylist() == [None, predicting.NOT_NUMBERS, None]
    assert done.unreadable == [{"where": "row 1", "reason": predicting.NOT_NUMBERS}]


def test_so_it_is_with_vectors_and_attributes():
    assert predicting.vector_or_error(np.array([np.nan, 1.0])) == {"error": predicting.NOT_NUMBERS}
    _, row = predicting.attributed([("color", ["red", "blue"], False)], 1)
    assert row(np.array([np.nan, 0.5]), np.array([True, False])) == {"error": predicting.NOT_NUMBERS}


def test_a_trained_detector_whose_scores_are_no_numbers_says_so(monkeypatch):
    """Boxes with such scores would be left out, as if nothing was there."""

    class Net(torch.nn.Module):
        def forward(self, bad):
            logits = torch.zeros(len(bad), 2, 3)
            logits[bad] = torch.nan
            return type("Outputs", (), {"logits": logits, "pred_boxes": torch.rand(len(bad), 2, 4)})

    net = Net()

    def found_boxes(net, processor, floor):
        return lambda photos, _: (
            [net(torch.tensor(photos)) and [cropping.Box(0, (1.0, 2.0, 3.0, 4.0), 0.9)]] * len(photos)
        )

    net.config = None
    monkeypatch.setattr(backbones, "load_detector", lambda *_, **__: (net, None))
    monkeypatch.setattr(predictors, "_identity", lambda *_: {})
    monkeypatch.setattr(cropping, "class_names", lambda _: ["hat"])
    monkeypatch.setattr(cropping, "score_threshold", lambda _: None)
    monkeypatch.setattr(cropping, "found_boxes", found_boxes)
    model = predictors.detector("x", None, None, torch.device("cpu"), {})
    for _ in range(2):  # from one call to the next nothing is left
        first, second = model.say([False, True])
        assert first["boxes"][0]["label"] == "hat" and second == {"error": predicting.NOT_NUMBERS}


def test_a_group_called_error_does_not_take_the_place_of_reasons(tmp_path):
    groups = [("error", ["seam", "none"], False), ("color", ["red", "blue"], True), ("color_score", ["a", "b"], False)]
    schema, row = predicting.attributed(groups, 1)
    assert schema.names == [
        "error_said", "error_said_score", "color", "color_score", "color_score_said", "color_score_said_score"
    ]  # fmt: skip
    chosen = np.array([1, 0, 0, 1, 0, 1], bool)
    table, _ = written(
        schema, lambda photos: [row(np.linspace(0, 1, 6), chosen) for _ in photos], tmp_path / "labels.parquet"
    )
    assert table.num_columns == 1 + 6 + 1 and table.column("error").to_pylist() == [None] * 3
    [first, *_] = table.to_pylist()
    assert (first["error_said"], first["color"], first["color_score_said"]) == ("seam", ["blue"], "b")
    assert table.schema.field("error_said").metadata[predicting.GROUP] == b"error"
    assert predicting.GROUP not in (table.schema.field("color").metadata or {})


def test_the_renamed_column_is_said(tmp_path, monkeypatch, capsys):
    schema, row = predicting.attributed([("error", ["seam", "none"], False)], 1)
    model = predicting.Model(
        schema, lambda photos: [row(np.array([0.4, 0.6]), np.array([0, 1], bool)) for _ in photos], {}, light=True
    )
    monkeypatch.setattr(predicting, "load", lambda *_, **__: model)
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    recipe.main(["x", str(tmp_path), "-o", str(tmp_path / "out.parquet")])
    assert "column:   error_said, of error, whose name is taken" in capsys.readouterr().out


def test_the_help_says_what_error_is(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit):
        recipe.main(["--help"])
    assert "`error`, why a photo has no answer; it is empty for all others" in capsys.readouterr().out


def test_a_full_disk_says_what_goes_on(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    schema = pa.schema([("label", pa.string())])
    with pytest.raises(InputError, match="the same command goes on") as error:
        written(schema, lambda photos: [{"label": "hat"}] * 3, tmp_path / "labels.parquet")
    assert "resume_from_checkpoint" not in str(error.value)
