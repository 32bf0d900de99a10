"""What a stranger's files could do: nothing in them is run, nothing that they name elsewhere is followed.

Every file here would write a canary when it was run; no test may find one.
"""

import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from loading import load, picture, tree
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file
from tiny import streamable

from hf_fashion import backbones, cards, metric_modules, metrics, plots, record, settings, streaming
from hf_fashion.errors import InputError
from hf_fashion.tasks import classify
from hf_fashion.training import FashionTrainingArguments

CODE = "open({canary!r}, 'w').write('it was run')\n"


class Pickled:
    """Writes the canary when it is unpickled."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self):
        return exec, (CODE.format(canary=self.canary),)


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "canary"
    yield str(path)
    assert not path.exists(), "code of the stranger's was run"


def test_the_canaries_sing(canary):
    exec(CODE.format(canary=canary))
    os.remove(canary)
    pickle.loads(pickle.dumps(Pickled(canary)))
    os.remove(canary)


def model(checkpoints, tmp_path, kind="vit", **changes):
    """A copy of a tiny checkpoint, with other entries in its config.json."""
    folder = Path(shutil.copytree(checkpoints[kind], tmp_path / f"hostile {kind}"))
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    return folder


def refused(folder, *words, labels=("a", "b")):
    with pytest.raises(InputError) as caught:
        backbones.load_classifier(folder, labels)
    for word in words:
        assert word in str(caught.value), str(caught.value)


# -- models


@pytest.mark.parametrize("kind", ["vit", "timm"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "model.pt", "model.ckpt"])
def test_weights_that_are_a_pickle(checkpoints, tmp_path, canary, kind, name):
    folder = model(checkpoints, tmp_path, kind)
    torch.save({"weight": Pickled(canary)}, folder / name)
    backbones.load_classifier(folder, ["a", "b"])  # the safetensors beside it are read
    (folder / "model.safetensors").unlink()
    refused(folder, name, "a pickle, which can run code")


def test_a_pickle_called_safetensors(checkpoints, tmp_path, canary):
    folder = model(checkpoints, tmp_path)
    torch.save({"weight": Pickled(canary)}, folder / "model.safetensors")
    refused(folder, "expected")


@pytest.mark.parametrize("where", ["config.json", "preprocessor_config.json", "processor_config.json"])
def test_code_of_the_repository(checkpoints, tmp_path, canary, where):
    """A type that transformers has itself is read as that; the code beside it is not."""
    folder = model(checkpoints, tmp_path)
    (folder / "code.py").write_text(CODE.format(canary=canary))
    names = ("AutoConfig", "AutoModelForImageClassification", "AutoImageProcessor", "AutoProcessor")
    told = folder / where
    values = (
        json.loads(told.read_text())
        if told.exists()
        else json.loads((folder / "preprocessor_config.json").read_text())
    )
    told.write_text(json.dumps(values | {"auto_map": dict.fromkeys(names, "code.Thing")}))
    net, processor = backbones.load_classifier(folder, ["a", "b"])
    assert type(net).__module__.startswith("transformers.") and type(processor).__module__.startswith("transformers.")
    told.write_text(json.dumps({"model_type": "nope", "image_processor_type": "Nope"} | {
        "auto_map": dict.fromkeys(names, "code.Thing")}))  # fmt: skip
    if where != "processor_config.json":  # which no image classifier needs
        refused(folder, "expected")


@pytest.mark.parametrize("shard", ["pytorch_model.bin", "../outside.safetensors", "{outside}", "gone.safetensors"])
def test_an_index_of_weights_that_leads_elsewhere(checkpoints, tmp_path, canary, shard):
    folder = model(checkpoints, tmp_path)
    weights = load_file(folder / "model.safetensors")
    outside = tmp_path / "outside.safetensors"
    save_file(weights, outside)
    torch.save({"weight": Pickled(canary)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard.format(outside=outside))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "model.safetensors.index.json, which names")
    (folder / "model.safetensors.index.json").write_text("[]")
    refused(folder, "which names no file")


def test_an_index_of_weights_in_the_folder_is_read(checkpoints, tmp_path):
    folder = model(checkpoints, tmp_path)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    weights = load_file(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert backbones.load_classifier(folder, ["a", "b"])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_args": {"checkpoint_path": "{pickle}"}}, "checkpoint_path"),
        ({"model_args": {"pretrained": True}}, "pretrained"),
        ({"model_args": {"pretrained_cfg_overlay": {"file": "{pickle}"}}}, "pretrained_cfg_overlay"),
        ({"architecture": "hf-hub:evil/net"}, "hf-hub:evil/net"),
        ({"architecture": "local-dir:{pickle}"}, "local-dir:"),
        ({"architecture": "../net"}, "../net"),
    ],
)
def test_a_timm_config_that_leads_elsewhere(checkpoints, tmp_path, canary, changes, word):
    path = tmp_path / "evil.pth"
    torch.save({"weight": Pickled(canary)}, path)
    refused(
        model(checkpoints, tmp_path, "timm", **json.loads(json.dumps(changes).replace("{pickle}", str(path)))), word
    )


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_config_that_asks_for_a_kernel_of_the_hub(checkpoints, tmp_path, key):
    refused(model(checkpoints, tmp_path, **{key: "evil/kernel"}), "code from the Hub", "evil/kernel")
    shutil.rmtree(tmp_path / "hostile vit")
    refused(model(checkpoints, tmp_path, inner={key: {"": "evil/kernel"}}), "code from the Hub")


def test_an_adapter_that_would_be_laid_over_the_net(checkpoints, tmp_path, canary):
    folder = model(checkpoints, tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "evil/x"}))
    torch.save({"weight": Pickled(canary)}, folder / "adapter_model.bin")
    refused(folder, "adapter_config.json")


@pytest.mark.parametrize("length", [2**62, 2**40, 99_000_000, 0])
def test_a_safetensors_file_that_declares_a_huge_header(checkpoints, tmp_path, length):
    folder = model(checkpoints, tmp_path)
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}      ")
    start = time.process_time()
    refused(folder, "model")
    assert time.process_time() - start < 5


def test_a_config_that_is_a_nest(checkpoints, tmp_path):
    folder = model(checkpoints, tmp_path)
    (folder / "config.json").write_text("[" * 100_000)
    refused(folder, "config.json")


def test_labels_that_say_two_things(checkpoints, tmp_path):
    folder = model(checkpoints, tmp_path, label2id={"old 0": 2, "old 1": 1, "old 2": 0})
    refused(folder, "id2label and label2id", labels=None)
    refused(folder, "id2label and label2id", labels=["old 0", "old 1", "old 2"])  # its head would be kept
    assert backbones.load_classifier(folder, ["a", "b"])  # its head is not used


def test_a_model_of_generic_labels_measures_nothing(checkpoints, tmp_path):
    names = {str(number): f"LABEL_{number}" for number in range(3)}
    folder = model(checkpoints, tmp_path, id2label=names, label2id={name: int(n) for n, name in names.items()})
    net, _ = backbones.load_classifier(folder)
    dataset, _ = load(tree(tmp_path / "photos", count=4), lone_split="test")
    with pytest.raises(InputError, match="LABEL_0"):
        classify.as_labelled_by(dataset, net)


def test_yaml_objects_in_the_card_of_a_model(checkpoints, tmp_path, canary):
    folder = model(checkpoints, tmp_path)
    (folder / "README.md").write_text(f"---\nlicense: {_object(canary)}\n---\n")
    backbones.load_classifier(folder, ["a", "b"])
    assert backbones.describe(folder)["license"] == "unknown"


# -- datasets


def _object(canary):
    return f'!!python/object/apply:builtins.exec ["{CODE.format(canary=canary).strip()}"]'


def test_yaml_objects_in_the_card_of_a_folder(tmp_path, canary):
    for name, text in (
        ("README.md", f"---\nlicense: {_object(canary)}\n---\n"), (".huggingface.yaml", f"license: {_object(canary)}"),
    ):  # fmt: skip
        tree(tmp_path / name / "photos", count=4)
        (tmp_path / name / "photos" / name).write_text(text)
        assert load(tmp_path / name / "photos")[1].source["license"] == "unknown"


def test_a_script_in_a_folder_of_photos(tmp_path, canary):
    folder = tree(tmp_path / "photos", count=4)
    for name in ("photos.py", "dataset.py", "hat/hat.py", "__init__.py"):
        (folder / name).write_text(CODE.format(canary=canary))
    _, report = load(folder)
    assert {finding.where for finding in report.of("error")} == {
        "photos.py",
        "dataset.py",
        "hat/hat.py",
        "__init__.py",
    }


@pytest.mark.parametrize("configs", ["", "configs:\n- config_name: default\n  data_files: '*.parquet'\n"])
def test_a_script_in_a_folder_of_parquet(tmp_path, canary, configs):
    rows = {"image": [{"bytes": picture(n), "path": None} for n in range(8)], "label": ["a", "b"] * 4}
    features = Features({"image": Image(), "label": Value("string")})
    (tmp_path / "photos").mkdir()
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "photos" / "train.parquet"))
    (tmp_path / "photos" / "photos.py").write_text(CODE.format(canary=canary))
    if configs:
        (tmp_path / "photos" / "README.md").write_text(f"---\n{configs}---\n")
    try:
        load(tmp_path / "photos", lone_split="test")
    except InputError as error:
        assert "photos" in str(error)


def test_a_pickle_called_parquet(tmp_path, canary):
    for name in ("x.parquet", "metadata.csv", "x.zip"):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(Pickled(canary)))
        with pytest.raises(InputError):
            load(path)


SECRET = (20, 200, 20)  # the colour of a picture that lies outside


@pytest.mark.parametrize("form", ["{secret}", "../secret.png", "file://{secret}", "http://127.0.0.1:9/x.png", "text"])
def test_a_stream_opens_nothing_that_its_rows_name(tmp_path, monkeypatch, form):
    """The first file of train is in order; the second has a path in the place of a picture, or a column of paths."""
    secret = tmp_path / "secret.png"
    PILImage.new("RGB", (20, 20), SECRET).save(secret)
    folder = streamable(tmp_path / "photos")
    monkeypatch.chdir(folder / "data")
    path = folder / "data" / "train-00001-of-00003.parquet"
    rows = pq.read_table(path).to_pylist()
    if form == "text":
        rows = [{**row, "image": str(secret)} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        schema = pq.read_schema(path)
        rows[2]["image"] = {"bytes": None, "path": form.format(secret=secret)}
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
    bad = [row for row in range(8, 16) if form == "text" or row == 10]

    def seen(on_bad_image):
        stream = streaming.load(folder, shuffle_buffer=5, on_bad_image=on_bad_image, folder=tmp_path)[0]["train"]
        return [
            example["color"]
            for example in streaming.StreamedExamples(
                stream, lambda row: {"color": row["image"].getpixel((0, 0))}, 1, **stream.options
            )
        ]

    with pytest.raises(InputError, match="train-00001-of-00003.parquet row") as caught:
        seen("stop")
    assert "not the picture but a path" in caught.value.found  # as without --streaming
    colors = seen("drop")
    assert SECRET not in colors and {color[0] for color in colors} == set(range(23)) - set(bad)
    told = [json.loads(line) for line in (tmp_path / streaming.LEFT_OUT).read_text().splitlines()]
    assert len(told) == len(bad) and all("not the picture but a path" in row["reason"] for row in told)


# -- what lies in the folder where one works


NAMES = ["evaluate", "accelerate", "datasets", "sklearn", "metrics", "fashion_classification", "accuracy"]
# What a recipe does first of all in which a module of the working folder could come in.
MEASURE = """
from datasets import Dataset
from hf_fashion import metric_modules
rows = Dataset.from_dict({'split': ['test'] * 4, 'label': [0, 1, 0, 1]})
told = lambda rows: {'predictions': [[1.0, 0.0]] * 4, 'references': rows['label'], 'labels': ['a', 'b'],
                     'n_resamples': 0}
found = metric_modules.by_split('fashion_classification', rows, told)['test']['accuracy']
"""


@pytest.fixture
def here(tmp_path, canary):
    """A folder with modules and packages called as those that a measurement uses."""
    for name in NAMES:
        (tmp_path / "here" / name).mkdir(parents=True)
        for file in (f"{name}.py", f"{name}/__init__.py", f"{name}/{name}.py"):
            (tmp_path / "here" / file).write_text(CODE.format(canary=canary))
    return tmp_path / "here"


def run(code, tmp_path, here):
    """What a script prints that lies elsewhere and is started here."""
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "elsewhere" / "measure.py"
    script.write_text(code)
    path = os.pathsep.join(filter(None, [str(Path(metric_modules.__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=here, text=True, capture_output=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_modules_of_the_working_folder_are_not_ours(tmp_path, monkeypatch, here):
    """A recipe is started as a file, `hf-fashion` as a script: the working folder is not on the path."""
    code = "import importlib.util\nfor name in %r:\n    print(importlib.util.find_spec(name))"
    seen = "".join(run(code % NAMES, tmp_path, here))
    assert "evaluate" in seen and str(here) not in seen
    monkeypatch.chdir(here)
    scope = {}
    exec(MEASURE, scope)
    assert scope["found"] == 0.5


@pytest.mark.slow  # for its imports
def test_a_measurement_by_a_process_of_its_own_imports_none_of_them(tmp_path, here):
    assert run(f"{MEASURE}\nprint(found)", tmp_path, here)[-1] == "0.5"


def test_a_metric_is_named_by_us_only(tmp_path, monkeypatch, canary):
    for name in ("../fashion_classification", "fashion_classification/../x", "/etc", "accuracy", ""):
        with pytest.raises(ValueError, match="no metric module"):
            metric_modules.path(name)
    folder = tmp_path / "fashion_classification"
    folder.mkdir()
    (folder / "fashion_classification.py").write_text(CODE.format(canary=canary))
    monkeypatch.chdir(tmp_path)
    assert Path(metric_modules.path("fashion_classification")).is_relative_to(Path(metric_modules.__file__).parent)


@pytest.mark.parametrize("tag", ["!!python/object/apply:builtins.exec", "!!python/name:os.system", "!include"])
@pytest.mark.parametrize("form", ["{tag} ['{code}']", "{{a: {tag} ['{code}']}}", "[{tag} ['{code}']]"])
def test_yaml_objects_in_a_config(tmp_path, canary, tag, form):
    path = tmp_path / "config.yaml"
    code = CODE.format(canary=canary).strip().replace("'", "''")
    path.write_text(f"lr_scheduler_kwargs: {form.format(tag=tag, code=code)}\n")
    with pytest.raises(InputError):
        settings.parse_args(
            "classify", (classify.Arguments, FashionTrainingArguments), ["--config", str(path)], metrics=["accuracy"]
        )


def bomb(form):
    """Nine levels of nine aliases: a billion values when they are written out or merged, or a nest in itself."""
    names = "abcdefghi"
    if form == "itself":
        return "lr_scheduler_kwargs: &a {x: *a}\n"
    if form == "lists":
        lines = [f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]" for one, two in itertools.pairwise(names)]
        return "\n".join(["a: &a [x]", *lines, "lr_scheduler_kwargs: {x: *i}", ""])
    lines = [f"{two}: &{two} {{{', '.join([f'<<: *{one}'] * 9)}}}" for one, two in itertools.pairwise(names)]
    return "\n".join(["a: &a {x: 1}", *lines, "lr_scheduler_kwargs: *i", ""])


@pytest.mark.parametrize("form", ["lists", "merged", "itself"])
@pytest.mark.parametrize("place", ["a config", "README.md", ".huggingface.yaml"])
def test_aliases_of_yaml_that_unfold_into_more_than_a_memory_holds(tmp_path, place, form):
    """One guard for both doors; before it is read, since reading a merged one takes all of the memory already."""
    start, text = time.process_time(), bomb(form)
    with pytest.raises(InputError, match=r"aliases \(\*name\)"):
        if place == "a config":
            (tmp_path / "x.yaml").write_text(text)
            argv = ["--config", str(tmp_path / "x.yaml")]
            settings.parse_args("classify", (classify.Arguments, FashionTrainingArguments), argv, metrics=["accuracy"])
        else:
            tree(tmp_path / "photos", count=1)
            (tmp_path / "photos" / place).write_text(f"---\n{text}---\n" if place == "README.md" else text)
            load(tmp_path / "photos")
    assert time.process_time() - start < 5


def test_few_aliases_are_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: &a {min_lr: 1.0e-6}\n")
    argv = ["--config", str(path)]
    _, args, _ = settings.parse_args("score", (classify.Arguments, FashionTrainingArguments), argv)
    assert args.lr_scheduler_kwargs == {"min_lr": 1e-6}
    tree(tmp_path / "photos", count=2)
    (tmp_path / "photos" / "README.md").write_text("---\nx: &a mit\nlicense: *a\n---\n")
    assert load(tmp_path / "photos", lone_split="test")[1].source["license"] == "mit"


@pytest.mark.parametrize("name", ["x.yaml", "run.json"])
def test_a_config_10_000_brackets_deep(tmp_path, name):
    (tmp_path / name).write_text('{"arguments": ' + "[" * 10_000)
    with pytest.raises(InputError, match="config"):
        settings.parse_args("score", (classify.Arguments,), ["--config", str(tmp_path / name)])


# -- what a reader of a card or of a table sees

MARK = (
    '<script>alert(1)</script><img src=x onerror=a()>{{ 7*7 }}{% include "/etc/passwd" %}`` ```\n```\n\n'
    "# head\n\n---\n\n- [a](javascript:a()) ![b](http://a.org/b.png) | x | \x1b[2J\x1b]0;t\x07\u202e\u2028\x85\0end"
)


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    """A finished run in which every text that comes from outside is hostile."""
    labels = [MARK, "dress"]
    truth, rng = np.asarray([0, 1] * 5), np.random.default_rng(0)
    results = {"test": metrics.classification(rng.dirichlet(np.ones(2), 10), truth, labels, n_resamples=5)}
    predictions = Dataset.from_dict({"split": ["test"] * 10, "row": list(range(10))})
    dataset = {
        "source": f"photos {MARK}", "kind": "hub", "config": MARK, "revision": MARK, "license": MARK,
        "fingerprint": "f00", "sizes": {"train": 9, "test": 10}, "left_out": [], "notes": [MARK, f"label {MARK}"],
    }  # fmt: skip
    base = dict.fromkeys(("name", "id", "revision", "license"), MARK) | {"base_model": None}
    folder = tmp_path_factory.mktemp("hostile") / "run"
    with record.start(
        folder, "classify", arguments={"model": MARK, "label_column": f"a`b\n\n{MARK}"}, device="cpu", dataset=dataset,
        argv=["--model", MARK, "--label_column", "a\n```\n<script>x</script>\n"], seed=1, base_model=base,
    ) as run:  # fmt: skip
        record.write(
            run, results=results, predictions=predictions, plots={}, labels=labels, kind="classification",
            opening=f"An image classifier of {MARK}", headline_metric="accuracy", model_type="swin", weakest=MARK,
            preprocessing="squashed", protocol="Measured once.", training_wall_seconds=1.0, training_cpu_seconds=2.0,
            task="image-classification", usage={"code": f"x = 1\n{MARK}", "output": MARK, "label": MARK},
        )  # fmt: skip
    return run


@pytest.mark.parametrize("recipe", ["classify", "score"])
def test_a_card_shows_hostile_text_as_text(hostile_run, recipe):
    run = record.read(hostile_run.folder)
    run.info["recipe"] = recipe
    text = str(cards.render(run, command=f"hf-fashion card {MARK}"))
    assert not {c for c in text if not c.isprintable()} - {"\n"}
    assert "49" not in text.replace("0.49", "")  # no template was filled in
    body = outside_fences(text.split("---\n", 2)[2])
    assert "<script" not in body and "<img" not in body and "&lt;script" in body
    assert "](javascript" not in body.replace("\\]", "") and "\n# head" not in body
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert all(line.split(" ")[0] in ("#", "##") and "head" not in line[:7] for line in headings)
    assert all(line.count("|") - line.count("\\|") in (5, 7, 3) for line in body.splitlines() if line.startswith("|"))


def outside_fences(text):
    """A card without what stands between fences, and without what stands between single backticks on a line."""
    kept, fence = [], ""
    for line in text.splitlines():
        ticks = len(line) - len(line.lstrip("`"))
        if not fence and ticks >= 3:
            fence = "`" * ticks
        elif fence and ticks >= len(fence) and not line.strip("`"):
            fence = ""
        elif not fence:
            kept.append("".join(line.replace("\\`", "").split("`")[::2]))
    assert not fence, "a fence is never closed"
    return "\n".join(kept)


def test_the_metadata_of_a_card_stay_metadata(hostile_run):
    run = record.read(hostile_run.folder)
    card = cards.render(run)
    assert card.data.to_dict()["license"] == "unknown" and "<script>" in card.data.eval_results[0].dataset_name
    assert set(card.data.to_dict()) <= {
        "license", "library_name", "pipeline_tag", "tags", "metrics", "datasets", "model-index", "base_model",
        "base_model_relation",
    }  # fmt: skip


def test_a_label_is_shown_as_text_in_plots(tmp_path):
    """matplotlib takes what stands between dollars for mathematics, and stops at what is none."""
    names = [MARK, "$\\frac{1}{$", "dress"]
    for figure in (
        plots.confusion_matrix(np.eye(3, dtype=int), names, "confusion"),
        plots.intervals(names, [0.5] * 3, [0.4] * 3, [0.6] * 3, [1] * 3, "F1"),
        plots.photo_sheet([PILImage.new("RGB", (8, 8))] * 3, names, "photos"),
    ):
        figure.savefig(tmp_path / "plot.png")
