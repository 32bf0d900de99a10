"""`recipes/score.py --task retrieve`: an encoder on a user's catalogue, or several on the same searches."""

import itertools
import json
import shlex
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from fake_encoder import Encoder
from huggingface_hub import ModelCard
from PIL import Image
from test_encoders import tiny_clip
from test_retrieve import rows_of
from tiny import tiny, undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import backbones, items, metrics, record, searches, settings
from hf_fashion.comparison import encoders as bake_off
from hf_fashion.comparison.paired import pairs_by_item
from hf_fashion.errors import InputError
from hf_fashion.metrics import difference_by_item, paired_by_item
from hf_fashion.protocols import Protocol
from hf_fashion.recipes import score
from hf_fashion.tasks import retrieve
from hf_fashion.training import retrieving

QUICK = ["--use_cpu", "True", "--disable_tqdm", "True"]


# Pairs of models on rows that belong to items.


def hits(rng, n_items, share_a, share_b, most=3):
    """Rows of items: whether a, and b, is right, and the item of each."""
    sizes = rng.integers(1, most + 1, n_items)
    names = np.repeat([f"item {n}" for n in range(n_items)], sizes)
    return rng.random(len(names)) < share_a, rng.random(len(names)) < share_b, names


def test_p_is_the_share_of_all_ways_to_turn_the_items():
    for seed in range(6):
        a, b, names = hits(np.random.default_rng(seed), 9, 0.8, 0.4)
        balance = np.array([(a[names == one].sum() - b[names == one].sum()) for one in dict.fromkeys(names)])
        turns = np.array(list(itertools.product([-1, 1], repeat=len(balance)))) @ balance
        told = paired_by_item(a, b, names)
        assert told["p"] == pytest.approx(np.mean(np.abs(turns) >= abs(balance.sum()))), seed
        assert (told["n"], told["items"]) == (len(a), 9)
        assert told["difference"] == pytest.approx(a.mean() - b.mean())
        assert (told["only_a"], told["only_b"]) == (int((a & ~b).sum()), int((b & ~a).sum()))


def test_with_one_row_an_item_it_is_mcnemars_test():
    a, b, names = hits(np.random.default_rng(0), 60, 0.8, 0.5, most=1)
    ours, plain = paired_by_item(a, b, names), metrics.paired(a, b)
    assert ours.pop("items") == 60 and set(ours) == set(plain)
    assert {key: value for key, value in ours.items() if "_low" not in key and "_high" not in key} == pytest.approx(
        {key: value for key, value in plain.items() if "_low" not in key and "_high" not in key}
    )
    assert ours["difference_low"] == pytest.approx(plain["difference_low"], abs=0.01)
    [pair] = pairs_by_item({"a": a, "b": b}, list(names))
    assert "McNemar" in pair["verdict"] and "items" not in pair


def test_rows_that_say_the_same_once_more_are_no_evidence():
    a, b, names = hits(np.random.default_rng(3), 30, 0.75, 0.5, most=1)
    once, often = metrics.paired(a, b), paired_by_item(*(np.repeat(one, 6) for one in (a, b, names)))
    assert often["p"] == pytest.approx(once["p"])
    assert often["difference_low"] == pytest.approx(once["difference_low"], abs=0.04)
    naive = metrics.paired(np.repeat(a, 6), np.repeat(b, 6))
    assert naive["p"] < often["p"] / 10 and naive["difference_low"] > often["difference_low"] + 0.02
    [pair] = pairs_by_item({"b": np.repeat(b, 6), "a": np.repeat(a, 6)}, list(np.repeat(names, 6)))
    assert (pair["a"], pair["b"]) == ("a", "b") and "randomization over 30 items" in pair["verdict"]


def test_items_that_never_differ_are_a_tie_without_certainty():
    told = paired_by_item(np.ones(40, bool), np.ones(40, bool), np.repeat(range(20), 2))
    assert (told["p"], told["tie"]) == (1.0, True) and -0.2 < told["difference_low"] < 0 < told["difference_high"]


@pytest.mark.parametrize("yes_or_no", [False, True])
def test_differences_of_means_are_drawn_by_items(yes_or_no):
    rng = np.random.default_rng(1)
    a, b, names = hits(rng, 25, 0.9, 0.6)
    if not yes_or_no:  # no two items are alike
        a, b = rng.random(len(names)), rng.random(len(names)) * 0.8
    a, b = a.astype(float), b.astype(float)
    difference, low, high = difference_by_item(a, b, names)
    rows = {one: np.flatnonzero(names == one) for one in dict.fromkeys(names)}
    drawn = []
    for _ in range(3000):
        picked = np.concatenate([rows[one] for one in rng.choice(list(rows), len(rows))])
        drawn.append((a[picked] - b[picked]).mean())
    assert difference == pytest.approx((a - b).mean())
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.02)
    assert difference_by_item(a, a, names) == (0.0, None, None)


# Searches whose truth is made by hand.


def asked(first, kind="image"):
    """Rows as of `searches.predict`: two searches an item, whose one right answer stands at these ranks."""
    rows = [
        {
            "split": "test", "search": kind, "query": f"test:{n}", "text": None, "item_id": f"item {n // 2}",
            "ranks": [rank], "found": [], "found_items": [], "scores": [],
        }
        for n, rank in enumerate(first)
    ]  # fmt: skip
    return Dataset.from_list(rows, features=searches.PREDICTIONS)


def told(*kinds):
    line = {"line": "Who asked what."}
    return {kind: Protocol(**dict.fromkeys(Protocol.__dataclass_fields__) | line) for kind in kinds}


def cost(parameters, ms=5.0):
    spent = {"ms": ms, "cpu_ms": 5.0, "ms_low": ms, "ms_high": ms, "cpu_ms_low": 5.0, "cpu_ms_high": 5.0, "batches": 3}
    return {
        "parameters": parameters, "weights_mb": parameters / 1e6, "photo": {"1": spent, "32": spent}, "text": None,
        "device": "cpu, 1 thread", "dimension": 8, "million_mb": 32.0, "vector_kb": 0.032, "takes_texts": False,
        "saved": True,
    }  # fmt: skip


GOOD = [1] * 36 + [2, 7] * 2


def test_the_better_one_is_named_and_of_a_tie_the_lightest():
    ranks = {"heavy": GOOD, "bad": [9] * 30 + [1] * 10, "light": [2, *GOOD[1:]]}
    predictions = {name: asked(first) for name, first in ranks.items()}
    costs = {"heavy": cost(9e6), "light": cost(2e6), "bad": cost(1e6)}
    of = dict.fromkeys(ranks, told("image"))
    compared = bake_off.results(predictions, of, costs)
    assert (compared["search"], compared["n"], compared["n_items"], compared["n_tested"]) == ("image", 40, 20, 20)
    assert list(compared["models"]) == ["heavy", "light", "bad"] and compared["best"] == "heavy"
    assert compared["models"]["heavy"]["recall_at_1"] == pytest.approx(0.9)
    assert compared["models"]["heavy"]["recall_at_5"] == pytest.approx(0.95)
    assert compared["models"]["bad"]["recall_at_10"] == 1.0
    assert (compared["tied"], compared["adapt"]) == (["light"], "light")
    assert compared["why"].startswith("a tie between heavy and light: none of these has fewer parameters than light")
    by = {(pair["a"], pair["b"]): pair for pair in compared["pairs"]}
    assert by["heavy", "light"]["tie"] and not by["heavy", "bad"]["tie"] and by["heavy", "bad"]["tests"] == 3
    assert (by["heavy", "bad"]["only_a"], by["heavy", "bad"]["only_b"]) == (30, 4)
    assert by["heavy", "bad"]["recall_at_10_difference"] == 0.0
    assert by["heavy", "bad"]["map_at_r_difference"] == pytest.approx(0.9 - 0.25)
    # Over photos, as where items are classes.
    shared = bake_off.results(predictions, of, costs, shared_items=True)
    assert shared["n_tested"] == 40 and "McNemar" in shared["pairs"][0]["verdict"]

    # Of equals the one that finds more, whatever the clock says.
    same = {"heavy": cost(2e6, ms=9.0), "light": cost(2e6), "bad": cost(1e6)}
    assert bake_off.results(predictions, of, same)["adapt"] == "heavy"
    assert bake_off.results(predictions, of, same)["busy"] == (
        "The machine was busy: wall time is up to 1.8 times CPU time."
    )
    same["heavy"] |= {"device": "H200, and 1 CPU thread"}
    assert bake_off.results(predictions, of, same)["busy"] is compared["busy"] is None

    two = bake_off.results({name: predictions[name] for name in ("bad", "heavy")}, of, costs)
    assert (two["best"], two["adapt"], two["tied"]) == ("heavy", "heavy", [])
    assert two["why"] == "heavy finds more than bad, and by more than chance."


def test_a_search_that_not_all_can_do_stands_behind():
    both = Dataset.from_list([*asked(GOOD), *asked([9] * 40, "text")], features=searches.PREDICTIONS)
    other = Dataset.from_list([*asked(GOOD), *asked(GOOD, "text")], features=searches.PREDICTIONS)
    predictions = {"blind": asked([3] * 40), "a": both, "b": other}
    of = {"blind": told("image"), "a": told("image", "text"), "b": told("image", "text")}
    costs = {name: cost(1e6) for name in predictions}
    compared = bake_off.results(predictions, of, costs)
    assert compared["search"] == "image" and compared["without"] == [] and len(compared["pairs"]) == 3
    text = compared["others"]["text"]
    assert list(text["models"]) == ["b", "a"] and text["without"] == ["blind"] and len(text["pairs"]) == 1
    shown = bake_off.summary(compared, dict.fromkeys(predictions, {"license": "mit"}))
    assert "blind: not measured, it takes no texts" in shown and shown.endswith(compared["why"])
    # Where all take texts these stand first; they are the harder ones.
    del predictions["blind"]
    assert bake_off.results(predictions, of, costs)["search"] == "text"
    # One alone can: no pair, and its figures stand there.
    alone = bake_off.results({"blind": asked([3] * 40), "a": both}, of, costs)
    assert alone["others"]["text"]["pairs"] == [] and list(alone["others"]["text"]["models"]) == ["a"]


def test_other_queries_are_not_paired():
    with pytest.raises(ValueError, match="b was asked other queries than a"):
        bake_off.results(
            {"a": asked(GOOD), "b": asked(GOOD[2:])}, dict.fromkeys("ab", told("image")),
            dict.fromkeys("ab", cost(1e6)),
        )  # fmt: skip


# What an encoder costs.


class Slow(Encoder):
    """Sleeps so many seconds a batch."""

    device = torch.device("cpu")

    def __init__(self, seconds, **settings):
        super().__init__(**settings)
        self.seconds, self.batches = seconds, []

    def encode(self, inputs, **settings):
        self.batches.append((len(inputs), torch.get_num_threads()))
        time.sleep(self.seconds)
        return super().encode(inputs, **settings)


def test_time_is_the_median_over_batches_of_each_size_and_slow_encoders_are_asked_less(monkeypatch):
    monkeypatch.setattr(bake_off, "_SECONDS", 0.05)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    encoders = {"slow": Slow(0.03, modalities=("image",)), "quick": Slow(0.001)}
    spent = bake_off.clock(encoders, [Image.new("RGB", (9, 9))], ["a text", "another"])
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert {threads for one in encoders.values() for _, threads in one.batches} == {bake_off.THREADS}
    assert spent["slow"]["text"] is None and spent["quick"]["text"]["32"]["batches"] > 3
    slow, quick = spent["slow"]["photo"], spent["quick"]["photo"]
    assert slow["1"]["batches"] == slow["32"]["batches"] == 3 < quick["1"]["batches"]
    assert 30 <= slow["1"]["ms"] < 90 and slow["32"]["ms"] == pytest.approx(slow["1"]["ms"] / 32, rel=2)
    assert slow["1"]["ms_low"] <= slow["1"]["ms"] <= slow["1"]["ms_high"] and quick["1"]["ms"] < slow["1"]["ms"]
    assert slow["1"]["cpu_ms"] < 30  # it slept
    assert [size for size, _ in encoders["slow"].batches] == [1] * 4 + [32] * 4  # one before that does not count
    assert slow["1"]["cpu_ms_low"] <= slow["1"]["cpu_ms"] <= slow["1"]["cpu_ms_high"]


def test_weights_are_those_that_are_loaded(place, tmp_path):
    encoder = backbones.load_encoder(place / "saved")
    shutil.copytree(place / "saved", tmp_path / "run")
    shutil.copytree(place / "saved", tmp_path / "run" / "checkpoint-3")
    files = [path.stat().st_size for path in (place / "saved").rglob("model.safetensors")]
    for folder in (place / "saved", tmp_path / "run"):
        told = bake_off.weigh(str(folder), encoder)
        assert told["weights_mb"] == pytest.approx(sum(files) / 1e6) and len(files) == 2 and told["saved"]
    assert told["parameters"] == sum(one.numel() for one in encoder.parameters())
    assert (told["dimension"], told["vector_kb"], told["million_mb"], told["takes_texts"]) == (12, 0.048, 48.0, False)
    clip = bake_off.weigh(str(place / "clip"), backbones.load_encoder(place / "clip"))
    assert clip["weights_mb"] == (place / "clip" / "model.safetensors").stat().st_size / 1e6
    assert clip["takes_texts"] and not clip["saved"]


@pytest.mark.parametrize(
    ("license_", "says"),
    [("mit", "keep the notices"), ("cc-by-nc-4.0", "no commercial purpose"), ("cc0-1.0", "nothing"),
     ("unknown", "find out")],
)  # fmt: skip
def test_a_licence_in_words(license_, says):
    assert says in bake_off.asks({"license": license_})["asks"]


# The recipe.


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos of items with texts; a CLIP, a copy of it, a Swin, and that as sentence-transformers saves it."""
    place = tmp_path_factory.mktemp("bakeoff")
    DatasetDict({split: rows_of(split, 1 + (split == "test"), seed) for seed, split in enumerate(("train", "test"))}
                ).save_to_disk(place / "photos")  # fmt: skip
    rows_of("lone", 2, 7).save_to_disk(place / "lone")
    torch.manual_seed(0)
    tiny("swin", place / "swin")
    tiny_clip("clip", place / "clip")
    (place / "clip" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\nA tiny one.\n")
    shutil.copytree(place / "clip", place / "copy")
    backbones.load_encoder(place / "swin", dimension=12).save_pretrained(str(place / "saved"))
    (place / "saved" / "README.md").write_text("---\nlicense: mit\n---\nA tiny one.\n")
    return place


def measured(place, folder, *argv, photos="photos"):
    return score.main([*argv, "--dataset", str(place / photos), "--output_dir", str(folder), *QUICK])


@pytest.fixture(scope="module")
def compared(place, tmp_path_factory):
    """A comparison, and what it printed."""
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        patch.setattr(bake_off, "_MEASURED", 3)
        run = measured(
            place, tmp_path_factory.mktemp("runs") / "run", "--task", "retrieve",
            "--compare", *(str(place / name) for name in ("swin", "clip", "saved", "copy")),
        )  # fmt: skip
    return run, "\n".join(printed)


def test_encoders_are_asked_the_same_searches_each_as_it_can(place, compared):
    run, printed = compared
    results = run.results
    assert results["search"] == "image" and results["n"] == 32 and results["n_items"] == 16
    assert set(results["models"]) == {"swin", "clip", "saved", "copy"} and results["without"] == []
    text = results["others"]["text"]
    assert set(text["models"]) == {"clip", "copy"} and text["without"] == ["swin", "saved"] and text["n"] == 8
    for name in ("swin", "saved"):
        assert f"{name}: not measured, it takes no texts" in printed
        assert results["costs"][name]["text"] is None and results["costs"][name]["photo"]["32"]["batches"] == 3
    assert results["costs"]["clip"]["text"]["1"]["ms"] > 0
    assert results["models"]["clip"] == results["models"]["copy"]
    [tie] = [pair for pair in results["pairs"] if {pair["a"], pair["b"]} == {"clip", "copy"}]
    assert tie["tie"] and tie["p_holm"] == 1.0 and (tie["only_a"], tie["only_b"]) == (0, 0) and tie["tests"] == 6
    assert all(pair["verdict"] in printed for pair in [*results["pairs"], *text["pairs"]])
    rows = run.predictions
    assert rows.column_names == ["model", *searches.PREDICTIONS] and len(rows) == 4 * 32 + 2 * 8
    # The figures are those that the encoder gets alone.
    own = rows.filter(lambda model, search: (model, search) == ("swin", "image"), input_columns=["model", "search"])
    alone = metrics.retrieval(own["ranks"][:], groups=own["item_id"][:])
    assert results["models"]["swin"]["recall_at_1"] == pytest.approx(alone["recall_at_1"])
    assert results["models"]["swin"]["map_at_r_low"] == pytest.approx(alone["map_at_r_low"])


def test_the_card_and_the_plots_say_it_too(compared):
    run, _ = compared
    card = ModelCard.load(run.folder / "README.md")
    lines = card.text.splitlines()
    by_name = {line.split(" | ")[0].strip("| "): line for line in reversed(lines) if line.startswith("| ")}
    assert by_name["clip"].endswith("| cc-by-nc-4.0 |") and by_name["saved"].endswith("| mit |")
    assert by_name["swin"].endswith("| unknown |")
    assert f"{run.results['models']['swin']['recall_at_1']:.3f}" in by_name["swin"]
    assert "use it for no commercial purpose" in card.text and "find out" in card.text
    assert "Not measured, since they take no texts: swin, saved." in card.text
    assert "randomization test over the 16 items" in card.text and "corrected for 6 pairs" in card.text
    assert f"**To adapt: {run.results['adapt']}.**" in card.text
    assert run.info["models"]["clip"]["license"] == "cc-by-nc-4.0"
    for pair in run.results["pairs"]:
        assert pair["verdict"].replace("<", "&lt;") in card.text
    for name in ("comparison", "recall_and_time"):
        assert f"plots/{name}.png" in card.text and Image.open(run.folder / "plots" / f"{name}.png").size[0] > 500
    assert {path.name for path in run.folder.iterdir()} == {
        "README.md", "eval_results.json", "plots", "predictions.parquet", "run.json",
    }  # fmt: skip


def test_the_last_line_trains_the_winner_on_these_photos(place, compared):
    run, printed = compared
    [line] = [line for line in printed.splitlines() if line.startswith("adapt:")]
    typed = shlex.split(line)
    assert typed[1:4] == ["accelerate", "launch", "recipes/retrieve.py"] and printed.endswith(line)
    args, *_ = settings.parse_args(
        "retrieve", (retrieve.Arguments, retrieving.RetrievalTrainingArguments), [*typed[4:], *QUICK],
        metrics=searches.METRICS,
    )  # fmt: skip
    assert args.model == str(place / run.results["adapt"]) and args.dataset == str(place / "photos")


@pytest.mark.parametrize(
    ("typed", "match"),
    [({}, "auto"), ({"item_column": "sku", "shared_items": True, "gallery": "more", "max_pixels": 9, "seed": 3},
                    "auto"), ({"saved": True}, "image"), ({"saved": True, "takes_texts": True}, "auto")],
)  # fmt: skip
def test_what_says_which_photos_is_carried_over(typed, match, place):
    rows = rows_of("test", 1, 0)
    of = {"adapt": "one", "costs": {"one": {"saved": False, "takes_texts": False} | typed}}
    given = {"dataset": "photos of mine", **{key: typed[key] for key in typed if key not in of["costs"]["one"]}}
    given |= {key: typed[key] for key in ("item_column", "shared_items", "gallery", "max_pixels") if key in typed}
    given |= {"seed": 3, "compare": ["one", "two"], "task": "retrieve"}
    line = bake_off.adapt(of, "one", rows, given)
    args, training_args, _ = settings.parse_args(
        "retrieve", (retrieve.Arguments, retrieving.RetrievalTrainingArguments), [*shlex.split(line)[4:], *QUICK],
        metrics=searches.METRICS,
    )  # fmt: skip
    assert (args.model, args.dataset, args.match, training_args.seed) == ("one", "photos of mine", match, 42)
    assert args.item_column == typed.get("item_column") and args.shared_items == typed.get("shared_items", False)
    assert args.gallery == typed.get("gallery") and ("--max_pixels 9" in line) == ("max_pixels" in typed)
    assert "already" not in line and "already" in bake_off.adapt(of, "one", rows, given, known=True)


@pytest.mark.usefixtures("undrawn")
def test_one_encoder_leaves_what_its_training_would(place, tmp_path):
    """A folder with modules.json is an encoder without a word; its figures are those of `searches`."""
    run = measured(place, tmp_path / "run", "--model", str(place / "saved"), "--gallery", str(place / "lone"))
    assert run.info["status"] == "finished" and run.info["kind"] == "retrieval" and run.info["main_search"] == "image"
    rows, report = items.load(str(place / "photos"), lone_split="test")
    assert report.sizes == {"test": 32}
    dataset = DatasetDict({**rows, "gallery": items.load_gallery(str(place / "lone"))})
    encoder = backbones.load_encoder(place / "saved")
    predictions, _ = searches.predict(encoder, dataset, ["test"])
    assert run.predictions.to_list() == predictions.to_list()
    wanted = searches.evaluate(predictions)["test"]
    assert {key: run.results[key] for key in wanted} == wanted
    assert {path.stem for path in (run.folder / "plots").iterdir()} >= {"recall", "found"}
    card = ModelCard.load(run.folder / "README.md")
    assert f"recall at 1 is **{wanted['recall_at_1']:.3f}**" in card.text.lower()
    assert "and 32 distractors" in card.text and "last step" not in card.text
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert {one.metric_name for one in card.data.eval_results} >= {"recall_at_1", "map_at_r"}


@pytest.mark.usefixtures("undrawn")
def test_a_net_is_an_encoder_where_it_is_said_and_a_lone_split_is_the_test(place, tmp_path):
    run = measured(place, tmp_path / "run", "--model", str(place / "clip"), "--task", "retrieve", photos="lone")
    assert run.info["dataset"]["sizes"] == {"test": 32} and run.info["main_search"] == "text"
    assert "image/recall_at_1" in run.results and run.results["n"] == 8
    again = score.main(["--config", str(run.folder / "run.json"), "--output_dir", str(tmp_path / "again")])
    assert again.results == run.results


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--model", "saved", "--label_column", "kind"], r"--label_column\n.*classifiers or detectors"),
        (["--model", "swin", "--task", "retrieve", "--box_format", "xyxy"], r"--box_format\n"),
        (["--model", "swin", "--item_column", "item_id"], r"--item_column\n.*encoders(.|\n)*--task retrieve"),
        (["--compare", "swin", "saved", "--shared_items", "True", "--merge_labels", "True"], "--merge_labels"),
        (["--model", "clip"], "(?s)the weights of the model.*for an encoder, --task retrieve"),
        (["--model", "nothing-there", "--task", "retrieve"], "nothing-there"),
        (["--model", "swin", "--task", "retrieve", "--item_column", "sku"], r"--item_column sku"),
    ],
)
def test_settings_that_do_not_fit_are_refused(argv, says, place, tmp_path):
    argv = [str(place / word) if word in ("saved", "swin", "clip", "nothing-there") else word for word in argv]
    with pytest.raises(InputError, match=says):
        measured(place, tmp_path / "run", *argv)
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_photos_that_words_alone_can_find_need_encoders_that_read(place, tmp_path):
    rows = rows_of("test", 1, 3).remove_columns("item_id")
    DatasetDict({"test": rows}).save_to_disk(tmp_path / "titles")
    with pytest.raises(InputError, match=r"(?s)found by texts alone.*of photos alone: swin"):
        measured(
            tmp_path, tmp_path / "run", "--task", "retrieve", "--compare", str(place / "swin"), str(place / "clip"),
            photos="titles",
        )  # fmt: skip


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("cut", [["validation", "test"], []])
def test_photos_that_an_encoder_was_trained_on_are_refused_or_told(cut, place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bake_off, "_MEASURED", 1)
    _, report = items.load(str(place / "lone"), lone_split="test")
    shutil.copytree(place / "saved", tmp_path / "mine")
    info = {"dataset": report.to_dict() | {"cut": cut}, "base_model": {"name": "swin", "id": "swin"}}
    (tmp_path / "mine" / "run.json").write_text(json.dumps(info))
    argv = ["--compare", str(tmp_path / "mine"), str(place / "saved")]
    if cut:
        with pytest.raises(InputError, match="has not seen"):
            measured(place, tmp_path / "run", *argv, photos="lone")
        return
    run = measured(place, tmp_path / "run", *argv, photos="lone")
    assert "its figures flatter" in (run.folder / "README.md").read_text()
    assert run.results["tied"] and ("already" in capsys.readouterr().out) == (run.results["adapt"] == "mine")
    assert record.read(run.folder).info["seen"]


def test_only_what_sentence_transformers_saved_is_an_encoder_without_a_word(place, hub):
    hub.create("ada/encoder", files={"modules.json": b"[]", "config.json": b"{}"}, private=True)
    hub.create("ada/net", files={"config.json": b"{}"}, private=True)
    assert score.is_encoder("ada/encoder", None) and not score.is_encoder("ada/net", None)
    assert score.is_encoder(str(place / "saved"), None)
    assert not any(score.is_encoder(str(place / name), None) for name in ("swin", "clip"))
    assert not score.is_encoder("efficientnet-lite0", None)


def test_a_gpu_is_named():
    encoder = SimpleNamespace(device=torch.device("cpu"))
    assert bake_off._device(encoder) == "cpu, 1 thread"
