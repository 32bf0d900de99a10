"""`recipes/retrieve.py`, run as a user would, and the folder that it leaves."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from huggingface_hub import ModelCard
from PIL import Image, ImageDraw
from processes import several
from sentence_transformers import SentenceTransformer
from test_encoders import tiny_clip
from tiny import tiny, undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import items, metrics, protocols, record, searches
from hf_fashion.errors import InputError
from hf_fashion.recipes import retrieve as recipe
from hf_fashion.samples import views
from hf_fashion.tasks import retrieve
from hf_fashion.training import encoder_losses, retrieving
from hf_fashion.training import pairs as paired_photos

RECIPE = Path(__file__).parents[1] / "recipes" / "retrieve.py"
COLORS = {"red": (200, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 200), "black": (20, 20, 20)}
SHAPES = ("bag", "scarf")


def photo(color, shape, rng):
    picture = Image.new("RGB", (48, 48), tuple(int(v) for v in rng.integers(180, 255, 3)))
    draw = ImageDraw.Draw(picture)
    left, top = rng.integers(4, 14, 2)
    box = (int(left), int(top), int(left) + 28, int(top) + (28 if shape == "bag" else 10))
    (draw.ellipse if shape == "bag" else draw.rectangle)(box, fill=COLORS[color])
    return picture


def rows_of(split, each, seed):
    """Items of two photos, of eight kinds; the text says the kind, so items of one kind share it."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(each):
        for color in COLORS:
            for shape in SHAPES:
                item = f"{split}-{color}-{shape}-{number}"
                rows += [
                    {"image": photo(color, shape, rng), "item_id": item, "text": f"{color} {shape}", "price": number}
                    for _ in range(2)
                ]
    kinds = {"image": ImageFeature(), "item_id": Value("string"), "text": Value("string"), "price": Value("int64")}
    return Dataset.from_list(rows, features=Features(kinds))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("retrieve")
    DatasetDict(
        {
            split: rows_of(split, each, seed)
            for seed, (split, each) in enumerate({"train": 4, "validation": 1, "test": 2}.items())
        }
    ).save_to_disk(place / "photos")
    torch.manual_seed(0)
    tiny("swin", place / "swin")
    for name, more in (("both", ["--text_model", "words"]), ("image", ["--match", "image"])):
        with nullcontext() if name == "both" else without_drawing():
            recipe.main(run_of(place, place / name, *more))
    return place


def run_of(place, folder, *more):
    return [
        "--model", str(place / "swin"), "--dataset", str(place / "photos"), "--num_train_epochs", "1",
        "--dimension", "16",
        "--per_device_train_batch_size", "4", "--learning_rate", "3e-3", "--head_learning_rate", "1e-2",
        "--use_cpu", "True", "--disable_tqdm", "True", "--output_dir", str(folder), *more,
    ]  # fmt: skip


def test_the_folder_holds_all_that_the_design_names(place):
    for name, search in (("both", "text"), ("image", "image")):
        run = record.read(place / name)
        assert run.info["status"] == "finished" and run.info["recipe"] == "retrieve"
        assert run.info["dataset"]["sizes"] == {"train": 64, "validation": 16, "test": 32}
        results = run.results
        assert results["n"] == {"text": 8, "image": 32}[search] and run.info["main_search"] == search
        assert results["recall_at_1_low"] <= results["recall_at_1"] <= results["recall_at_1_high"]
        drawn = {path.stem for path in (place / name / "plots").iterdir()}
        assert drawn >= {"learning_curve", "recall", "found"}
        card = ModelCard.load(place / name / "README.md")
        assert card.data.library_name == "sentence-transformers"
        assert card.data.pipeline_tag == "image-feature-extraction"
        told = {result.metric_name: result.metric_value for result in card.data.eval_results}
        assert told["recall_at_5"] == pytest.approx(results["recall_at_5"], abs=5e-5)
        assert run.info["searches"][search]["line"] in card.content.replace("\\", "")
        assert "a vector of 16 numbers" in card.content
        gain = run.info["before"]["recall_at_10"]
        assert gain["accuracy_a"] == pytest.approx(results["recall_at_10"]) and gain["n"] == results["n"]
        assert "Paired query by query the training is worth" in card.content
        assert not [path for path in (place / name).rglob("*.bin") if "checkpoint" not in str(path)]
    assert "image/recall_at_1" in record.read(place / "both").results
    assert "sentence-transformers" in run.info["versions"]


def test_figures_are_those_of_the_stored_ranks_and_bare_vectors(place):
    """A second way to the same numbers: vectors of the bare library, sorted."""
    run = record.read(place / "image")
    rows = record.of_split(run.predictions, "test")
    assert metrics.retrieval(rows["ranks"], n_resamples=0)["mrr"] == pytest.approx(run.results["mrr"])
    stored = DatasetDict.load_from_disk(place / "photos")["test"]
    bare = SentenceTransformer(str(place / "image"), device="cpu")
    vectors = bare.encode([row["image"] for row in stored])
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    items = stored["item_id"]
    nearest = scores.argmax(axis=1)
    right = np.mean([items[row] == items[other] for row, other in enumerate(nearest)])
    assert run.results["recall_at_1"] == pytest.approx(right, abs=0.04)  # ties count against us


def test_the_bare_library_reads_photos_and_words(place):
    encoder = SentenceTransformer(str(place / "both"), device="cpu")
    photo = Image.new("RGB", (48, 48), COLORS["red"])
    assert encoder.similarity(encoder.encode(["red bag"]), encoder.encode([photo])).shape == (1, 1)


@pytest.mark.slow  # a fresh process
def test_a_process_without_us_reads_photos_and_words(place):
    code = """
import sys
sys.modules["hf_fashion"] = None
from PIL import Image
from sentence_transformers import SentenceTransformer
encoder = SentenceTransformer(sys.argv[1], device="cpu")
photo = Image.new("RGB", (48, 48), (200, 30, 30))
print(encoder.similarity(encoder.encode(["red bag"]), encoder.encode([photo])).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(place / "both")], capture_output=True, text=True, check=True
    )
    assert "[1, 1]" in done.stdout


@pytest.mark.slow  # another run; that records repeat runs is what `test_classify.py` shows, too
@pytest.mark.usefixtures("undrawn")
def test_the_same_record_gives_the_same_weights(place, tmp_path):
    recipe.main(["--config", str(place / "both" / "run.json"), "--output_dir", str(tmp_path / "again")])
    one, two = (
        SentenceTransformer(str(folder), device="cpu").state_dict() for folder in (place / "both", tmp_path / "again")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow  # two runs
def test_a_run_that_ended_in_its_middle_goes_on_to_the_bit(place, tmp_path):
    import shutil

    more = ["--text_model", "words", "--save_strategy", "steps", "--save_steps", "3", "--eval_strategy", "steps",
            "--eval_steps", "3", "--save_total_limit", "99", "--num_train_epochs", "2"]  # fmt: skip
    whole = tmp_path / "whole"
    recipe.main(run_of(place, whole, *more))
    last = max(whole.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    one = SentenceTransformer(str(last), device="cpu").state_dict()
    for folder in whole.glob("checkpoint-*"):
        if folder.name != "checkpoint-3":
            shutil.rmtree(folder)
    recipe.main(["--output_dir", str(whole), "--resume_from_checkpoint", "last"])
    two = SentenceTransformer(str(last), device="cpu").state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def pairs_of(place, **settings):
    rows = DatasetDict.load_from_disk(place / "photos")["train"]
    return paired_photos.Pairs(rows.add_column("source_row", [f"train:{n}" for n in range(len(rows))]), 0, **settings)


def test_batches_hold_no_two_rows_that_belong_together(place):
    pairs = pairs_of(place)
    batches = paired_photos.DistinctBatches(pairs, ("image", "text"), 4, 0)
    seen = list(batches)
    assert len(seen) == len(batches) == 32 and {kind for batch in seen for _, kind in batch} == {"image", "text"}
    for batch in seen:
        texts = [pairs.texts[row] for row, _ in batch]
        assert len(set(texts)) == len(batch) == 4 and len({kind for _, kind in batch}) == 1
    for kind in ("image", "text"):
        assert sorted(row for batch in seen for row, one in batch if one == kind) == list(range(64))
    pairs.set_epoch(1)
    assert list(batches) != seen
    pairs.set_epoch(0)
    assert list(batches) == seen
    with pytest.raises(InputError, match="no more pairs(.|\n)*--per_device_train_batch_size 4"):
        paired_photos.DistinctBatches(pairs, ("image",), 9, 0)
    with pytest.raises(InputError, match="photos of more items"):
        paired_photos.DistinctBatches(pairs_in_hand(["a", "b"], ["hat", "hat"]), ("text",), 2, 0)


def test_rows_that_share_an_item_or_a_text_belong_together():
    groups = paired_photos.together(["a", "a", "b", "c", "d"], ["x", "y", "Y ", None, None])
    assert groups[0] == groups[1] == groups[2] and len(set(groups)) == 3


def pairs_in_hand(items, texts, wrong=None):
    rows = Dataset.from_dict({"image": [None] * len(items), "item_id": items, "text": texts})
    return paired_photos.Pairs(rows, 0, wrong=wrong)


def test_a_wrong_answer_is_right_for_no_row_of_its_batch():
    """It is a wrong answer to them all, in the losses that compare all pairs of a batch."""
    items = [f"item {number // 2}" for number in range(20)]
    texts = [None if number % 4 == 1 else item for number, item in enumerate(items)]
    wrong = [[other for other in range(20) if other // 2 == (row // 2 + 1) % 10] for row in range(20)]
    pairs = pairs_in_hand(items, texts, wrong)
    batches = paired_photos.DistinctBatches(pairs, ("image", "text"), 4, 0)
    near = 0
    for batch in batches:
        here = {pairs.groups[row] for row, *_ in batch}
        for row, kind, other in batch:
            assert pairs.groups[other] not in here and (kind == "image" or pairs.texts[other])
            near += other in wrong[row]
    assert near > 5  # a random one only where all near ones are right for another row
    assert list(batches) == list(batches)
    with pytest.raises(InputError, match="one more for wrong answers"):
        paired_photos.DistinctBatches(pairs, ("image",), 10, 0)


def test_items_that_met_in_one_batch_meet_others_in_the_next():
    pairs = pairs_in_hand([f"item {number // 4}" for number in range(160)], [None] * 160)
    seen = [
        frozenset(pairs.items[row] for row, _ in batch)
        for batch in paired_photos.DistinctBatches(pairs, ("image",), 8, 0)
    ]
    assert len(seen) == 20 and len(set(seen)) > 15


def test_photos_that_fill_no_batch_are_counted():
    """Most of these have one text, so a batch takes one of them."""
    pairs = pairs_in_hand(
        [str(number) for number in range(40)], ["no text"] * 30 + [str(number) for number in range(10)]
    )
    batches = paired_photos.DistinctBatches(pairs, ("text",), 4, 0)
    assert batches.left == {"text": 40 - 4 * len(batches)} == {"text": 28}


def learned(place, folder, resume=None, **settings):
    """A training of two steps with SigLIP's loss, in half precision."""
    torch.manual_seed(0)
    encoder = SentenceTransformer(str(place / "both"), device="cpu")
    loss = encoder_losses.retrieval_loss(encoder, "sigmoid")
    args = retrieving.RetrievalTrainingArguments(
        output_dir=str(folder), use_cpu=True, bf16=True, max_steps=2, per_device_train_batch_size=4, save_steps=1,
        learning_rate=1e-2, lr_scheduler_type="constant", warmup_steps=0, save_strategy="steps", eval_strategy="no",
        load_best_model_at_end=False, save_total_limit=None, report_to="none", disable_tqdm=True, **settings,
    )  # fmt: skip
    trainer = retrieving.RetrievalTrainer(
        model=encoder, args=args, train_dataset=pairs_of(place), kinds=("text",), loss=loss
    )
    trainer.train(resume_from_checkpoint=resume)
    return encoder, loss, trainer


def test_what_a_loss_learns_is_in_checkpoints_and_the_encoder_ends_in_full_precision(place, tmp_path):
    encoder, loss, trainer = learned(place, tmp_path / "one")
    start = encoder_losses.SigmoidLoss(encoder, 0.05)
    assert loss.bias != start.bias and loss.log_scale != start.log_scale
    again, resumed, _ = learned(place, tmp_path / "one", str(tmp_path / "one" / "checkpoint-1"))
    assert torch.equal(loss.bias, resumed.bias) and torch.equal(loss.log_scale, resumed.log_scale)
    encoder.save_pretrained(str(tmp_path / "saved"))
    photos = [photo("red", "bag", np.random.default_rng(0))]
    bare = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert np.array_equal(bare.encode(photos), encoder.encode(photos))
    (tmp_path / "one" / "checkpoint-1" / retrieving.LOSS).unlink()
    with pytest.raises(InputError, match=retrieving.LOSS):
        trainer._load_from_checkpoint(str(tmp_path / "one" / "checkpoint-1"))
    with pytest.raises(InputError, match="fewer wrong answers"):
        trainer._take_smaller_batches(torch.OutOfMemoryError("full"))


@pytest.mark.slow  # two processes
@pytest.mark.parametrize("kind", ["sigmoid", "cached"])
def test_two_processes_learn_from_photos_and_texts(place, tmp_path, kind):
    """A process may have a batch of photos where the other has one of texts, so that none passes all nets."""
    clip = ["--model", str(tiny_clip("clip", tmp_path / "clip")), "--mini_batch_size", "2"]
    more = [*(clip if kind == "cached" else ["--text_model", "words", "--loss", "sigmoid"]), "--max_steps", "3",
            "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "False"]  # fmt: skip
    command = [sys.executable, str(RECIPE), *run_of(place, tmp_path / "run", *more)]
    told = tmp_path / "told"
    assert several(2, command, tmp_path, told) == [0, 0], told.read_text()
    assert record.read(tmp_path / "run").info["device"].endswith("2 processes")


def test_a_photo_that_cannot_be_read_is_named(place):
    encoder = SentenceTransformer(str(place / "image"), device="cpu")
    photo = {"bytes": b"\x89PNG and then nothing", "path": None}
    rows = Dataset.from_dict({"image": [photo], "source_row": ["gallery:7"]}).cast_column("image", ImageFeature())
    with pytest.raises(InputError, match="gallery:7"):
        searches.embed(encoder, rows)


def test_folders_may_be_the_items(tmp_path):
    for item in range(12):
        (tmp_path / f"item {item}").mkdir()
        for view in range(2):
            photo("red", "bag", np.random.default_rng([item, view])).save(tmp_path / f"item {item}" / f"{view}.png")
    dataset, _ = items.load(str(tmp_path), item_column="label")
    assert sum(map(len, dataset.values())) == 24
    for rows in dataset.values():
        assert all(rows["item_id"].count(item) == 2 for item in rows["item_id"][:])


def test_photos_of_one_item_make_no_three_splits(tmp_path):
    for number in range(4):
        photo("red", "bag", np.random.default_rng(number)).save(tmp_path / f"{number}.png")
    lines = "".join(f"{number}.png,a\n" for number in range(4))
    (tmp_path / "metadata.csv").write_text(f"file_name,item_id\n{lines}", encoding="utf-8")
    with pytest.raises(InputError, match="items of the photos\n.*at least 3 items(.|\n)*1 item(.|\n)*shared_items"):
        items.load(str(tmp_path))


def test_cells_become_items_and_texts(place):
    photo = DatasetDict.load_from_disk(place / "photos")["train"][0]["image"]

    def loaded(**columns):
        columns = {"source_row": ["train:0", "train:1", "train:2"], **columns}
        rows = Dataset.from_dict({"image": [photo] * 3, **columns}).cast_column("image", ImageFeature())
        return items._canonical(rows, *[name if name in columns else None for name in ("item_id", "text")], "train")

    rows = loaded(item_id=[1.0, 2.0, 1.0], text=["a", " ", None])
    assert list(rows["item_id"]) == ["1", "2", "1"] and list(rows["text"]) == ["a", None, None]
    with pytest.raises(InputError, match="train:1"):
        loaded(item_id=["a", None, "b"])
    with pytest.raises(InputError, match="split validation"):
        items._canonical(rows.select([]), "item_id", None, "validation")
    with pytest.raises(InputError, match="one text or number a row"):
        loaded(item_id=["a", "b", "c"], text=[["x"], ["y", "z"], []])


def test_the_card_says_what_was_learned(place):
    rows = rows_of("test", 1, 0)
    encoder = SentenceTransformer(str(place / "both"), device="cpu")
    told = {"test": {"image": protocols.leave_one_out(rows)}}
    both = retrieve.facts(encoder, DatasetDict(), told, {}, kinds=("image", "text"))["opening"]
    alone = retrieve.facts(encoder, DatasetDict(), told, {}, kinds=("image",))["opening"]
    assert "photos of one item near each other, and texts near their photos." in both and "alone" not in both
    assert "photos of one item near each other." in alone and "It learned from photos alone" in alone
    assert (
        "learned" not in retrieve.facts(encoder, DatasetDict(), told, {})["opening"]
    )  # of one that was only measured


def test_pairs_are_of_one_item_and_the_same_again(place):
    pairs = pairs_of(place, augment=paired_photos.crop_and_flip(0.5, True))
    one, two = pairs[5, "image", 0], pairs[5, "image", 0]
    assert all(np.array_equal(one[name], two[name]) for name in ("anchor", "positive", "negative"))
    assert not np.array_equal(one["anchor"], one["positive"])
    pairs.set_epoch(1)
    assert not np.array_equal(pairs[5, "image"]["anchor"], one["anchor"])
    plain = pairs_of(place)
    assert np.array_equal(plain[5, "image"]["positive"], plain[4, "image"]["anchor"])
    assert plain[5, "text"]["positive"] == plain.texts[5]


@pytest.mark.parametrize("kind", ["contrastive", "sigmoid", "triplet", "cached", "matryoshka"])
def test_losses_are_low_where_pairs_agree(place, kind):
    encoder = SentenceTransformer(str(place / ("image" if kind == "cached" else "both")), device="cpu")
    settings = {"cached": {"mini_batch_size": 2}, "matryoshka": {"dimensions": [8]}}.get(kind, {})
    loss = encoder_losses.retrieval_loss(
        encoder, kind if kind in ("sigmoid", "triplet") else "contrastive", **settings
    )
    rng = np.random.default_rng(0)
    photos = [photo(color, shape, rng) for color in COLORS for shape in SHAPES][:4]
    right = [encoder.preprocess(photos) for _ in range(2)]
    wrong = [encoder.preprocess(photos), encoder.preprocess(photos[1:] + photos[:1])]
    if kind == "triplet":
        right.append(encoder.preprocess(photos[1:] + photos[:1]))
        wrong.append(encoder.preprocess(photos))
    good, bad = (float(loss([dict(one) for one in batch], None)) for batch in (right, wrong))
    assert good < bad


def test_a_large_batch_in_parts_has_the_gradients_of_the_whole(place):
    rng = np.random.default_rng(0)
    photos = [photo(color, shape, rng) for color in COLORS for shape in SHAPES]
    gradients = []
    for mini in (None, 2):
        encoder = SentenceTransformer(str(place / "image"), device="cpu").eval()
        loss = encoder_losses.retrieval_loss(encoder, mini_batch_size=mini)
        loss([encoder.preprocess(photos), encoder.preprocess(photos[::-1][::-1])], None).backward()
        gradients.append({name: own.grad for name, own in encoder.named_parameters() if own.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-4) for name in gradients[0])


def test_a_text_model_of_words_is_not_cut_into_parts(place):
    with pytest.raises(InputError, match="a text model of words"):
        encoder_losses.retrieval_loss(SentenceTransformer(str(place / "both"), device="cpu"), mini_batch_size=2)


def test_hard_negatives_are_near_and_of_others():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3]] + 0.1
    groups = np.array([0, 0, 1, 2, 3])
    wrong = searches.nearest_wrong(vectors, groups, 2)
    assert all(groups[row] != groups[other] for row, others in enumerate(wrong) for other in others)
    assert len(wrong[0]) == 2


@pytest.mark.usefixtures("undrawn")
def test_settings_of_losses_in_a_run(place, tmp_path):
    more = ["--text_model", "words", "--loss", "triplet", "--hard_negatives", "3", "--matryoshka", "8",
            "--max_steps", "2", "--eval_strategy", "no", "--save_strategy", "no",
            "--load_best_model_at_end", "False"]  # fmt: skip
    run = recipe.main(run_of(place, tmp_path / "run", *more))
    assert run.info["arguments"]["loss"] == "triplet"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--item_column", "product"], "product"),
        (["--loss", "triplet"], "hard_negatives"),
        (["--matryoshka", "64"], "1 to 16"),
        (["--text_column", "price", "--match", "image", "--item_column", "price"], "a leak"),
        (["--metric_for_best_model", "accuracy"], "recall_at_1"),
        (["--metric_for_best_model", "loss"], "validation has no loss"),
        (["--match", "image", "--text_model", "words"], "photos alone"),
        (["--optim", "adafactor"], "AdamW"),
        (["--per_device_train_batch_size", "40"], "no more pairs"),
        (
            ["--early_stopping_patience", "2", "--eval_strategy", "no", "--load_best_model_at_end", "False"],
            "evaluations to judge by",
        ),
        (["--dimension", "0"], "dimension"),
    ],
)
def test_settings_that_cannot_be_are_refused(place, more, told, tmp_path):
    with pytest.raises(InputError, match=told):
        recipe.main(run_of(place, tmp_path / "run", *more))


def test_texts_need_an_encoder_that_reads_them(place, tmp_path):
    with pytest.raises(InputError, match="takes texts"):
        recipe.main(
            ["--model", str(place / "image"), "--dataset", str(place / "photos"), "--match", "text",
             "--use_cpu", "True", "--output_dir", str(tmp_path / "run")]
        )  # fmt: skip


def test_two_views_of_a_photo_are_an_item():
    made = views.views()
    rows = made["test"]
    assert made["train"].num_rows == 520 and rows["item_id"][0] == rows["item_id"][1] != rows["item_id"][2]
    assert not np.array_equal(rows[0]["image"], rows[1]["image"])
    assert json.dumps(rows[0]["source_row"]) and len(set(rows["text"])) == 10


@pytest.mark.usefixtures("undrawn")
def test_few_items_make_small_batches_where_nobody_chose(place, tmp_path, capsys):
    words = run_of(place, tmp_path / "few", "--match", "text", "--text_model", "words")
    at = words.index("--per_device_train_batch_size")
    recipe.main([*words[:at], *words[at + 2 :]])
    assert "8 items differ: 4 pairs a step" in capsys.readouterr().out
    assert record.read(tmp_path / "few").info["arguments"]["per_device_train_batch_size"] == 4
    with pytest.raises(InputError, match="no more pairs a step"):
        recipe.main([*words, "--per_device_train_batch_size", "9", "--output_dir", str(tmp_path / "no")])
