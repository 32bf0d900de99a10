"""What a photo may be is said once, and holds alike in the check, in training, in a stream, and in a measurement."""

from io import BytesIO

import pytest
from datasets import Dataset, DatasetDict, Image
from PIL import Image as PILImage
from tiny import numbered, parquet, photos, tiny, undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import backbones, boxes, checks, data, examples, images, settings, streaming, training
from hf_fashion.errors import InputError
from hf_fashion.recipes import check, classify, score
from hf_fashion.tasks import attributes
from hf_fashion.tasks import classify as task

QUICK = ["--use_cpu", "True", "--disable_tqdm", "True"]
SMALLER = images.Limits(max_pixels=20 * 20 - 1)
FEWER = images.Limits(max_bytes=70)
LARGE = (5001, 5000)  # above the default


def reasons(split, photo, limits):
    """What each way of a photo to a net says of it: a check, an evaluation, a training, a plot, a stream."""
    kept, plain = split.select([0]), DatasetDict(train=split.select([0]))
    _, processor = backbones.load_classifier("sample", ["a", "b"])
    report = checks.check(plain, data.Report({}), limits=limits)
    yield [finding.found for finding in report.of("error") if finding.column == "image"]
    for made in (
        lambda: task.prepare(kept, processor, limits=limits)[0],
        lambda: task.prepare(kept, processor, train=True, limits=limits)[0],
        lambda: examples.photos(kept, [0], limits=limits),
        lambda: images.decode(photo, limits=limits),
    ):
        try:
            made()
        except ValueError as error:
            yield [str(error)]
        else:
            yield []


@pytest.mark.parametrize(("limits", "word"), [(SMALLER, "20 x 20"), (FEWER, "bytes")])
def test_a_photo_above_the_limits_is_refused_for_one_reason_everywhere(limits, word, tmp_path):
    rows = numbered(6)
    photo = rows.cast_column("image", Image(decode=False))["image"][0]["bytes"]
    said = list(reasons(rows, photo, limits))
    assert len({str(told) for told in said}) == 1 and word in said[0][0] and "limit" in said[0][0]
    assert all(told == [] for told in reasons(rows, photo, images.LIMITS))

    dataset, _ = streaming.load(parquet(tmp_path, DatasetDict(train=rows, validation=rows, test=rows)))
    _, processor = backbones.load_classifier("sample", ["a", "b", "c"])
    with pytest.raises(streaming.RowError) as caught:
        next(iter(task.prepare(dataset["train"], processor, train=True, limits=limits)))
    assert caught.value.found == said[0][0]
    assert next(iter(task.prepare(dataset["train"], processor, train=True)))


def test_attributes_take_them_too():
    rows = numbered(3)
    _, processor = backbones.load_classifier("sample", ["a", "b"])
    for train in (False, True):
        assert attributes.prepare(rows, processor, train=train)[0]
        with pytest.raises(ValueError, match="20 x 20 is more than the limit of 399"):
            attributes.prepare(rows, processor, train=train, limits=SMALLER)[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_pixels", "0"), ("max_bytes", "-5"), ("min_side", "0"), ("max_aspect", "nan"), ("max_aspect", "0.5"),
     ("max_pixels", "1.5"), ("max_aspect", "wide")],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_at_the_door(name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for recipe, groups in (
        ("classify", (task.Arguments, training.FashionTrainingArguments)),
        ("score", (score.Arguments, training.FashionTrainingArguments)),
        ("check", (check.Arguments,)),
    ):
        with pytest.raises(InputError, match=name):
            settings.parse_args(recipe, groups, [f"--{name}", value], metrics=task.METRICS)


def test_without_settings_they_are_the_safe_ones():
    assert task.PhotoArguments().limits == images.LIMITS == images.Limits()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A net, photos of which one is larger than the others, and the same with one that is above the default."""
    place = tmp_path_factory.mktemp("limits")
    tiny("resnet", place / "net")
    photos(place / "photos", train=2, validation=2, test=4)
    resized(place / "photos" / "test" / "circle" / "0.png", (99, 80))
    photos(place / "large", train=1, validation=1, test=3)
    resized(place / "large" / "test" / "circle" / "0.png", LARGE)
    return place


def resized(path, size):
    with PILImage.open(path) as photo:
        photo.resize(size, PILImage.Resampling.NEAREST).convert("L").save(path)


def test_recipes_stop_at_such_a_photo_before_anything_is_learned_or_measured(place, tmp_path):
    argv = ["--dataset", str(place / "photos"), "--max_pixels", "7919"]
    for main in (classify.main, score.main):
        with pytest.raises(InputError, match=r"circle/0\.png") as caught:
            main([*argv, "--model", str(place / "net"), "--output_dir", str(tmp_path / "run"), *QUICK])
        assert "99 x 80 is more than the limit of 7919" in caught.value.found
    with pytest.raises(SystemExit, match="1"):
        check.main(argv)


@pytest.fixture(scope="module")
def trained(place):
    with without_drawing():
        return classify.main(
            ["--dataset", str(place / "photos"), "--model", str(place / "net"), "--num_train_epochs", "1",
             "--max_pixels", "7919", "--on_bad_image", "drop", "--min_side", "40", "--output_dir",
             str(place / "trained"), *QUICK]
        )  # fmt: skip


def test_what_was_set_is_in_the_record_with_what_it_did(trained):
    assert trained.info["arguments"]["max_pixels"] == 7919 and trained.info["arguments"]["min_side"] == 40
    assert "max_bytes" not in trained.info["arguments"]
    [left_out] = trained.info["dataset"]["left_out"]
    assert left_out["where"].endswith("circle/0.png") and "limit of 7919" in left_out["reason"]
    assert trained.info["dataset"]["sizes"]["test"] == 11


@pytest.mark.usefixtures("undrawn")
def test_a_photo_above_the_default_is_measured_where_it_is_allowed(place, trained, tmp_path):
    argv = ["--dataset", str(place / "large"), "--model", str(trained.folder), *QUICK]
    with pytest.raises(InputError, match="limit of 25000000"):
        score.main([*argv, "--output_dir", str(tmp_path / "refused")])
    run = score.main([*argv, "--max_pixels", "25005000", "--output_dir", str(tmp_path / "run")])
    assert run.results["n"] == 9 and run.info["dataset"]["left_out"] == []


@pytest.mark.parametrize(
    ("size", "wider", "less"),
    [
        ((300, 200), images.LIMITS, {"limits": images.Limits(max_pixels=300 * 200 - 1)}),
        pytest.param(LARGE, images.Limits(max_pixels=LARGE[0] * LARGE[1]), {}, marks=pytest.mark.slow),
    ],
)
def test_a_check_shows_and_compares_what_it_was_allowed_to_read(size, wider, less, tmp_path):
    """All that decodes a picture once more takes the limits with which it was looked at."""
    pytest.importorskip("imagehash")
    buffer = BytesIO()
    PILImage.linear_gradient("L").resize(size).save(buffer, "PNG", compress_level=1)
    twice = [{"image": {"bytes": buffer.getvalue(), "path": None}}] * 2
    dataset = DatasetDict(train=Dataset.from_list(twice).cast_column("image", Image(decode=False)))
    report = checks.check(dataset, data.Report({}), thorough=True, limits=wider)
    assert [finding.found for finding in report.findings] == ["equal pixels"]
    page = checks.write(dataset, report, tmp_path, limits=wider).read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2
    page = checks.write(dataset, report, tmp_path, **less).read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 0
    assert boxes.sizes_of(dataset["train"], limits=wider).tolist() == [list(size)] * 2
