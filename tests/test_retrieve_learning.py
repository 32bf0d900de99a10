"""Other ways for an encoder to learn: small matrices beside its nets, a larger encoder, photos with words."""

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from sentence_transformers import SentenceTransformer
from test_encoders import photos, tiny_clip
from test_retrieve import COLORS, SHAPES, photo, rows_of, run_of
from tiny import tiny, undrawn, without_drawing  # noqa: F401 (a fixture)

from hf_fashion import items, record, searches, training
from hf_fashion.backbones.encoders import load_encoder, picture_net
from hf_fashion.errors import InputError
from hf_fashion.metrics import retrieval
from hf_fashion.protocols import composed
from hf_fashion.recipes import retrieve as recipe
from hf_fashion.training import encoder_losses, retrieving
from hf_fashion.training import pairs as paired_photos


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("learning")
    splits = {"train": 2, "validation": 1, "test": 1}
    DatasetDict({split: rows_of(split, each, seed) for seed, (split, each) in enumerate(splits.items())}).save_to_disk(
        place / "photos"
    )
    torch.manual_seed(0)
    tiny("swin", place / "swin")
    tiny_clip("clip", place / "clip")
    return place


def trained(place, folder, model, resume=None, rank=4, kinds=None, **settings):
    torch.manual_seed(1)
    encoder = load_encoder(place / model, dimension=8 if model == "swin" else None)
    start = {name: value.clone() for name, value in encoder.state_dict().items()}
    lora = training.add_lora_to_encoder(encoder, rank, 8.0) if rank else []
    kinds = kinds or (("image",) if model == "swin" else ("text",))
    rows = DatasetDict.load_from_disk(place / "photos")["train"]
    rows = rows.add_column("source_row", [f"train:{number}" for number in range(len(rows))])
    args = retrieving.RetrievalTrainingArguments(
        output_dir=str(folder), use_cpu=True, max_steps=4, per_device_train_batch_size=4, save_steps=2,
        save_strategy="steps", eval_strategy="no", load_best_model_at_end=False, learning_rate=1e-2, warmup_steps=0,
        lr_scheduler_type="constant", save_total_limit=None, report_to="none", disable_tqdm=True, **settings,
    )  # fmt: skip
    trainer = retrieving.RetrievalTrainer(
        model=encoder, args=args, train_dataset=paired_photos.Pairs(rows, 0), kinds=kinds, lora=lora,
        loss=encoder_losses.retrieval_loss(encoder),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return encoder, start


@pytest.mark.parametrize("model", ["swin", "clip"])
def test_what_lora_learns_ends_in_the_plain_encoder(place, tmp_path, model):
    encoder, start = trained(place, tmp_path / "run", model)
    end = encoder.state_dict()
    assert end.keys() == start.keys() and all(end[name].shape == start[name].shape for name in start)
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed and all(name.endswith(("weight", "logit_scale")) for name in changed)
    if model == "clip":
        assert {name.split(".")[2] for name in changed} == {"vision_model", "text_model", "logit_scale"}
        assert all("_proj" in name and "self_attn" in name for name in changed - {"0.model.logit_scale"})
        assert float(picture_net(encoder).logit_scale.exp()) == pytest.approx(20)  # one over the temperature
    else:
        assert any(name.startswith("1.") or ".linear" in name for name in changed)  # the new layer, in full
    encoder.save_pretrained(str(tmp_path / "saved"))
    bare = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(bare.encode(photos()), encoder.encode(photos()), atol=1e-6)
    small = tmp_path / "run" / "checkpoint-4" / "adapter_model.safetensors"
    assert small.is_file() and not list((tmp_path / "run" / "checkpoint-4").glob("model*.safetensors"))


def test_a_run_with_lora_goes_on_to_the_bit(place, tmp_path):
    whole, _ = trained(place, tmp_path / "run", "clip")
    resumed, _ = trained(place, tmp_path / "run", "clip", str(tmp_path / "run" / "checkpoint-2"))
    one, two = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(InputError, match="adapter_model.safetensors of checkpoint"):
        trained(place, tmp_path / "run", "clip", str(tmp_path / "run" / "checkpoint-2"), rank=2)


def test_the_nets_stay_in_eval_mode_beside_their_matrices(place):
    encoder = load_encoder(place / "clip")
    training.add_lora_to_encoder(encoder, 4, 8.0)
    encoder.train()
    encoder(dict(encoder.preprocess(["red bag"])))
    learning = {name for name, module in encoder.named_modules() if module.training and "lora_" not in name}
    assert not [name for name in learning if ".model." in name]


def batch_of(collator, encoder, pairs):
    from hf_fashion.training import faults

    batch = collator([{**pair, faults.ROW: 0} for pair in pairs])
    batch.pop(faults.ROWS)
    names = ["anchor", "positive"]
    names += [f"teacher_{name}" for name in names if any(key.startswith("teacher_") for key in batch)]
    return [
        {key[len(name) + 1 :]: value for key, value in batch.items() if key.startswith(f"{name}_")} for name in names
    ]


def test_a_teacher_is_followed(place, tmp_path):
    """Alone it makes an encoder of another width lay photos and texts as it does itself."""
    torch.manual_seed(0)
    teacher = load_encoder(place / "clip")
    torch.manual_seed(5)
    texts = [f"{color} {shape}" for color in COLORS for shape in SHAPES]
    learner = load_encoder(place / "swin", text_model="words", texts=texts * 2, dimension=24)
    loss = encoder_losses.retrieval_loss(learner, teacher=teacher, teacher_weight=1.0)
    rng = np.random.default_rng(0)
    pairs = [{"anchor": photo(*text.split(), rng), "positive": text} for text in texts]
    batch = batch_of(retrieving.PairCollator(learner, teacher), learner, pairs)
    before = [value.clone() for value in teacher.state_dict().values()]
    assert loss.map.weight.shape == (teacher.get_embedding_dimension(), 24)
    names = [name for name, _ in loss.named_parameters()]
    assert "map.weight" in names and not any("teacher" in name for name in names)
    optimizer = torch.optim.AdamW(loss.parameters(), 5e-3)
    told = []
    for _ in range(30):
        value = loss(batch, None)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        told.append(float(value))
    assert told[-1] < 0.5 * told[0]
    assert all(torch.equal(one, two) for one, two in zip(before, teacher.state_dict().values(), strict=True))


def test_a_teacher_that_is_the_encoder_has_nothing_to_say(place):
    teacher = load_encoder(place / "clip")
    learner = load_encoder(place / "clip")
    loss = encoder_losses.retrieval_loss(learner, teacher=teacher, teacher_weight=1.0)
    rng = np.random.default_rng(0)
    pairs = [{"anchor": photo("red", "bag", rng), "positive": "red bag"}, {"anchor": photo("blue", "scarf", rng),
              "positive": "blue scarf"}]  # fmt: skip
    batch = batch_of(retrieving.PairCollator(learner, teacher), learner, pairs)
    assert float(loss(batch, None)) == pytest.approx(0, abs=1e-5)
    own = encoder_losses.retrieval_loss(learner)
    alone = encoder_losses.retrieval_loss(learner, teacher=teacher, teacher_weight=0.0)
    assert float(alone(batch, None)) == pytest.approx(float(own(batch[:2], None)), rel=1e-6)


def test_the_scale_and_bias_of_a_net_are_what_its_sigmoid_loss_learns(place, tmp_path):
    torch.manual_seed(0)
    tiny_clip("siglip", place / "siglip")
    encoder = load_encoder(place / "siglip")
    net = picture_net(encoder)
    loss = encoder_losses.retrieval_loss(encoder, "sigmoid")
    assert loss.log_scale is net.logit_scale and loss.bias is net.logit_bias
    vectors = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    logits = vectors @ vectors.T * net.logit_scale.exp() + net.logit_bias
    signs = 2 * torch.eye(3) - 1
    expected = -torch.nn.functional.logsigmoid(signs * logits).sum(-1).mean()  # as transformers' SiglipModel has it
    assert float(loss.compute_loss_from_embeddings([vectors, vectors], None)) == pytest.approx(float(expected))


def test_losses_of_our_own_are_in_full_precision(place):
    torch.manual_seed(0)
    encoder = load_encoder(tiny_clip("siglip", place / "siglip"))
    with torch.no_grad():
        picture_net(encoder).logit_scale.fill_(4.7)
    one, two = (torch.nn.functional.normalize(torch.randn(16, 16), dim=1) for _ in range(2))
    sigmoid = encoder_losses.retrieval_loss(encoder, "sigmoid")
    teacher = encoder_losses.retrieval_loss(encoder, teacher=encoder, teacher_weight=1.0, temperature=0.01)
    told = []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.no_grad():
            told.append(
                (sigmoid.compute_loss_from_embeddings([one, two], None), teacher._affinity([one, two], [two, one]))
            )
    assert torch.allclose(torch.stack(told[0]), torch.stack(told[1]), rtol=1e-6)


def test_a_layer_behind_a_net_makes_other_cosines_than_its_scale_was_learned_for(place):
    encoder = load_encoder(tiny_clip("siglip", place / "siglip"), dimension=8)
    loss = encoder_losses.retrieval_loss(encoder, "sigmoid", temperature=0.1)
    assert float(loss.log_scale.exp()) == pytest.approx(10) and float(loss.bias) == -10
    assert loss.log_scale is not picture_net(encoder).logit_scale


def test_a_contrastive_loss_leaves_a_net_scores_that_fit_it(place, tmp_path):
    """A pair's sigmoid is what the softmax of a batch says of it: the chance against all others."""
    tiny_clip("siglip", place / "siglip")
    encoder, start = trained(place, tmp_path / "run", "siglip", rank=0)
    net = picture_net(encoder)
    assert float(net.logit_scale.exp()) == pytest.approx(20)
    rows = DatasetDict.load_from_disk(place / "photos")["train"]
    pairs = paired_photos.Pairs(rows, 0)
    keys = next(iter(paired_photos.DistinctBatches(pairs, ("text",), 4, 42)))
    drawn = [pairs[key] for key in keys]
    seen, words = (encoder.encode([pair[name] for pair in drawn]) for name in ("anchor", "positive"))
    logits = 20 * seen @ words.T
    other = np.ma.masked_array(np.exp(logits), np.eye(4))
    expected = -np.concatenate([np.log(other.sum(axis)) for axis in (0, 1)]).mean()
    assert float(net.logit_bias) == pytest.approx(expected, abs=1e-4) and abs(expected + 10) > 1
    assert float(start["0.model.logit_bias"]) != float(net.logit_bias)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_photos_alone_teach_no_scale_of_words(place, tmp_path, kind):
    tiny_clip(kind, place / kind)
    encoder, start = trained(place, tmp_path / "run", kind, rank=0, kinds=("image",))
    end = encoder.state_dict()
    scales = [name for name in start if name.endswith(("logit_scale", "logit_bias"))]
    assert scales and all(torch.equal(start[name], end[name]) for name in scales)


def test_a_net_that_reads_is_chosen_and_judged_by_what_it_learned(place, tmp_path):
    """From photos alone CLIP learns to find photos: not how texts find them is measured, though they are there."""
    argv = run_of(place, tmp_path / "run", "--match", "image", "--model", str(place / "clip"))
    argv[argv.index("--dimension") : argv.index("--dimension") + 2] = []
    with without_drawing():
        recipe.main(argv)
    run = record.read(tmp_path / "run")
    told = run.results
    assert run.info["main_search"] == "image" and told["n"] == 16 and told["text/n"] == 8
    assert run.info["before"]["recall_at_1"]["n"] == 16
    rows = DatasetDict.load_from_disk(place / "photos")["validation"]
    seen = SentenceTransformer(str(tmp_path / "run"), device="cpu").encode(list(rows["image"]))
    near = seen @ seen.T
    np.fill_diagonal(near, -2)
    right = np.mean([rows["item_id"][int(one)] == rows["item_id"][row] for row, one in enumerate(near.argmax(1))])
    logged = [line["eval_recall_at_1"] for line in run.info["history"] if "eval_recall_at_1" in line]
    assert logged[-1] == pytest.approx(right, abs=0.07)  # of equal scores the wrong one stands first
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "On 16 searches of the test split" in card and "Leave one out: 16 photos" in card


@pytest.fixture(scope="module")
def changes(place):
    """Photos of one thing in four colours; the words name the colour that is asked for."""
    rng, splits = np.random.default_rng(0), {}
    for split, each in (("train", 6), ("validation", 2), ("test", 3)):
        rows = []
        for number in range(each):
            for shape in SHAPES:
                name = f"{split}-{shape}-{number}"
                for color in COLORS:
                    asked = [
                        {"target": f"{name}-{other}", "captions": [f"the same in {other}", f"it is {other}."]}
                        for other in COLORS
                        if other != color
                    ]
                    rows.append(
                        {"image": photo(color, shape, rng), "item_id": f"{name}-{color}", "category": shape,
                         "relative_captions": asked}
                    )  # fmt: skip
        asked = List({"target": Value("string"), "captions": List(Value("string"))})
        kinds = {"image": ImageFeature(), **dict.fromkeys(("item_id", "category"), Value("string"))}
        kinds["relative_captions"] = asked
        splits[split] = Dataset.from_list(rows, features=Features(kinds))
    DatasetDict(splits).save_to_disk(place / "changes")
    return splits


def test_photos_with_words_ask_for_photos(place, changes, tmp_path):
    more = ["--dataset", str(place / "changes"), "--num_train_epochs", "2", "--per_device_train_batch_size", "8",
            "--smallest_crop", "1", "--lora_rank", "4"]  # fmt: skip
    with without_drawing():
        recipe.main(run_of(place, tmp_path / "run", *more))
    run = record.read(tmp_path / "run")
    assert run.info["main_search"] == "composed" and "relative_captions" not in run.info["arguments"]
    told = run.results
    assert told["n"] == 3 * 2 * 4 * 3 and {"recall_at_50", "recall_at_1/bag", "recall_at_10/scarf"} <= told.keys()
    assert told["recall_at_10"] == pytest.approx((told["recall_at_10/bag"] + told["recall_at_10/scarf"]) / 2)
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "Composed, bag" in card.replace("\\", "") and "means over the categories" in card
    assert "the reference is not searched" in card and "the reference is searched" not in card
    assert run.info["before"]["recall_at_10"]["accuracy_a"] >= run.info["before"]["recall_at_10"]["accuracy_b"]

    # A second way to the same numbers, with the bare library.
    bare = SentenceTransformer(str(tmp_path / "run"), device="cpu")
    rows = changes["test"].filter(lambda row: row["category"] == "bag")
    protocol = composed(rows)["bag"]
    seen, words = bare.encode(list(rows["image"])), bare.encode(protocol.texts)
    scores = (seen[protocol.queries] + words) @ seen.T
    scores[np.arange(len(scores)), protocol.queries] = -9  # not what is in the hand already
    order = (-scores).argsort(axis=1)
    ranks = [
        1 + int(np.flatnonzero(np.isin(line, right))[0]) for line, right in zip(order, protocol.relevant, strict=True)
    ]
    assert retrieval([np.array([rank]) for rank in ranks], n_resamples=0)["mrr"] == pytest.approx(
        told["mrr/bag"], abs=0.03
    )


def test_the_photo_that_asks_is_searched_where_the_challenge_does():
    cells = [[{"target": "b", "captions": ["red"]}], [], []]
    rows = Dataset.from_dict({"item_id": ["a", "b", "c"], "relative_captions": cells})
    [shop] = searches.possible(rows, True).values()
    [challenge] = searches.possible(rows, True, reference_searched=True).values()
    assert [one.tolist() for one in shop.ignored] == [[0]] and challenge.ignored is None
    assert items.as_challenge("fashion_iq:/data/fiq") and not items.as_challenge("./photos")


def test_changes_are_pairs_of_photos_and_words(changes):
    rows = changes["train"].add_column("source_row", [f"train:{n}" for n in range(len(changes["train"]))])
    pairs = paired_photos.ComposedPairs(rows, 0)
    assert len(pairs) == 6 * 2 * 4 * 3
    one = pairs[0, "composed"]
    assert one["words"] == "the same in green and it is green" and list(one) == [
        "anchor",
        "words",
        "target",
        "row_number",
    ]
    assert one["target"].size == (48, 48)
    batches = list(paired_photos.DistinctBatches(pairs, ("composed",), 8, 0))
    assert batches and all(len({pairs.items[number] for number, _ in batch}) == 8 for batch in batches)
    some = [*rows["relative_captions"][:2]]
    some += [[{"target": pairs.items[0], "captions": [" "]}, {"target": "nowhere", "captions": ["red"]}]]
    few = rows.select(range(3)).remove_columns("relative_captions").add_column("relative_captions", some)
    told = paired_photos.ComposedPairs(few, 0)
    assert len(told) == 4 and told.left_out == {"the target is not in the training split": 3, "no words": 1}
    gone = rows.map(lambda row: {"relative_captions": [{"target": "nowhere", "captions": ["red"]}]})
    with pytest.raises(InputError, match="none of which the target"):
        paired_photos.ComposedPairs(gone, 0)


def test_a_composed_vector_lies_between():
    photo_vector, words = np.eye(3, dtype=np.float32)[:1], np.eye(3, dtype=np.float32)[1:2]
    np.testing.assert_allclose(searches.composed(photo_vector, words), [[0.5**0.5, 0.5**0.5, 0]], rtol=1e-6)
    np.testing.assert_allclose(searches.composed(photo_vector, words, 0.0), photo_vector)
    np.testing.assert_allclose(searches.composed(photo_vector, words, 1.0), words)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--lora_rank", "4", "--freeze", "backbone"], "--lora_rank with --freeze"),
        (["--match", "composed"], "a column relative_captions"),
        (["--match", "composed", "--hard_negatives", "3"], "none with --match composed"),
        (["--teacher_weight", "2"], "teacher_weight"),
        (["--match", "image", "--teacher", "swin", "--mini_batch_size", "2"], "--teacher"),
        (["--match", "text", "--teacher", "swin"], "an encoder that takes texts"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(place, more, told, tmp_path):
    more = [str(place / "swin") if one == "swin" else one for one in more]
    with pytest.raises(InputError, match=told.replace("(", "\\(")):
        recipe.main(run_of(place, tmp_path / "no", *more))
