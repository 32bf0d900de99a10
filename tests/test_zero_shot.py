"""Zero-shot scores are those of bare transformers; prompts, labels, calibration."""

import numpy as np
import pytest
import torch
import transformers as hf
from fake_encoder import Encoder
from PIL import Image
from sklearn.metrics import log_loss
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from hf_fashion import backbones, calibration, prompts, zero_shot
from hf_fashion.attributes import Group
from hf_fashion.errors import InputError

KINDS = ("clip", "siglip")
WORDS = ["red dress", "blue shirt", "shoes with dots", "hat"]
TEMPLATES = ("a photo of a {}.", "a {} on a hanger.", "{} for sale")


def photos(count=3):
    return [
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8))
        for number in range(count)
    ]


def tiny(kind, folder, texts=(*WORDS, *TEMPLATES)):
    """A CLIP or SigLIP of a few thousand parameters that knows these words, with a scale that is not a new one's."""
    words = sorted({word for text in texts for word in text.replace(".", " .").split()} - {"{}"})
    known = {"<pad>": 0, "<s>": 1, "<unk>": 2, "</s>": 3} | {word: number + 4 for number, word in enumerate(words)}
    made = Tokenizer(WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 3)])
    names = ["input_ids"] if kind == "siglip" else ["input_ids", "attention_mask"]
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        model_max_length=64, model_input_names=names,
    )  # fmt: skip
    text = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 64, "eos_token_id": 3, "bos_token_id": 1,
            "pad_token_id": 0}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    torch.manual_seed(0)
    if kind == "clip":
        net = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
        shown = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        processor = hf.CLIPProcessor(shown, tokenizer)
    else:
        net = hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision))
        processor = hf.SiglipProcessor(hf.SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
        torch.nn.init.constant_(net.logit_bias, -1.5)
    for weights in net.parameters():  # so large that texts and photos differ
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.5)
    torch.nn.init.constant_(net.logit_scale, np.log(7.0))
    net.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    place = tmp_path_factory.mktemp("zero_shot")
    return {kind: tiny(kind, place / kind) for kind in KINDS}


def ours(encoder, words, templates):
    scale = zero_shot.scale_of(encoder)
    vectors = encoder.encode(photos(), normalize_embeddings=True)
    made = zero_shot.logits_of(vectors, zero_shot.class_vectors(encoder, words, templates), scale)
    return made, zero_shot.scores_of(made, zero_shot.read_labels(words)[0], scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("saved", [False, True])
def test_with_one_sentence_scores_are_those_of_bare_transformers(nets, tmp_path, kind, saved):
    encoder = backbones.load_encoder(nets[kind])
    if saved:  # as an encoder that was trained on
        encoder.save_pretrained(str(tmp_path / "saved"))
        encoder = backbones.load_encoder(tmp_path / "saved")
    made, scores = ours(encoder, WORDS, TEMPLATES[:1])
    net, processor = hf.AutoModel.from_pretrained(nets[kind]).eval(), hf.AutoProcessor.from_pretrained(nets[kind])
    texts = [TEMPLATES[0].format(word) for word in WORDS]
    filled = {"padding": "max_length", "max_length": 64} if kind == "siglip" else {"padding": True}
    with torch.no_grad():
        wanted = net(**processor(text=texts, images=photos(), return_tensors="pt", **filled)).logits_per_image
    assert type(net).__name__ == {"clip": "CLIPModel", "siglip": "SiglipModel"}[kind]
    assert np.ptp(wanted.numpy()) > 1 and np.allclose(made, wanted, atol=1e-4)
    asked = hf.pipeline("zero-shot-image-classification", model=str(nets[kind]), device="cpu")
    for photo, row in zip(photos(), scores, strict=True):
        said = asked(photo, candidate_labels=WORDS, hypothesis_template=TEMPLATES[0])
        told = {one["label"]: one["score"] for one in said}
        assert np.allclose([told[word] for word in WORDS], row, atol=1e-5)
    assert np.allclose(scores.sum(axis=1), 1) == (kind == "clip")


def test_each_sentence_is_normalised_and_then_their_mean():
    """Without the first, long sentences weigh more; without the second, classes do whose sentences agree."""
    encoder = Encoder()  # one whose own vectors are of any length
    texts = [template.format(word) for word in WORDS for template in TEMPLATES]
    plain = encoder.encode(texts)
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    each, raw = (vectors.reshape(len(WORDS), len(TEMPLATES), -1).mean(axis=1) for vectors in (plain / lengths, plain))
    wanted, other = (mean / np.linalg.norm(mean, axis=1, keepdims=True) for mean in (each, raw))
    assert np.abs(wanted - other).max() > 0.01 and np.linalg.norm(each, axis=1).min() < 0.99
    found = zero_shot.class_vectors(encoder, WORDS, TEMPLATES)
    assert found.dtype == np.float32 and np.allclose(found, wanted, atol=1e-6)


def test_a_scale_counts_for_the_vectors_that_it_was_learned_with(nets, tmp_path):
    """Behind a layer of its own, or with another net for texts, there is none: cosines are no probabilities."""
    clip, siglip = (zero_shot.scale_of(backbones.load_encoder(nets[kind])) for kind in KINDS)
    assert (clip.kind, clip.factor, clip.bias) == ("softmax", pytest.approx(7.0), 0.0)
    assert (siglip.kind, siglip.factor, siglip.bias) == ("sigmoid", pytest.approx(7.0), -1.5)
    other = zero_shot.scale_of(backbones.load_encoder(nets["clip"], dimension=8))
    assert (other.kind, other.factor, other.bias) == ("cosine", 1.0, 0.0)


def test_photos_that_may_have_several_labels_need_a_score_for_each(nets):
    groups, _ = zero_shot.read_labels(["lace", "dots"], several=True)
    made = np.array([[2.0, -1.0]])
    sigmoid = zero_shot.Scale("sigmoid", 7.0, -1.5)
    assert np.allclose(zero_shot.scores_of(made, groups, sigmoid), 1 / (1 + np.exp(-made)))
    for kind, told in (("softmax", "compares the labels"), ("cosine", "no scale at all")):
        with pytest.raises(InputError, match=told):
            zero_shot.scores_of(made, groups, zero_shot.Scale(kind))
    one, _ = zero_shot.read_labels(["lace", "dots"])
    assert np.array_equal(zero_shot.scores_of(made, one, zero_shot.Scale("cosine")), made)


def test_an_encoder_of_photos_alone_is_refused(checkpoints):
    with pytest.raises(InputError, match="photos alone"):
        zero_shot.class_vectors(backbones.load_encoder(checkpoints["vit"]), WORDS, TEMPLATES)


@pytest.mark.parametrize("templates", [[], ["a photo"], ["a {} and a {}"], ["a photo of a {0}."]])
def test_templates_without_one_place_for_the_class_are_refused(nets, templates):
    with pytest.raises(InputError, match="templates"):
        zero_shot.class_vectors(backbones.load_encoder(nets["clip"]), WORDS, templates)


def test_words_that_bring_their_article_keep_it():
    assert zero_shot.sentence("a photo of a {}.", "dress") == "a photo of a dress."
    assert zero_shot.sentence("a photo of a {}.", "some trousers") == "a photo of some trousers."
    assert zero_shot.sentence("A {} on a hanger.", "a pair of jeans") == "a pair of jeans on a hanger."
    assert zero_shot.sentence("a photo of a {}.", "anorak") == "a photo of a anorak."  # as the pipeline puts it
    assert zero_shot.sentence("a {}.", "{0} {x}") == "a {0} {x}."


def test_the_shipped_sentences_have_a_place_for_the_class_and_differ():
    for templates in prompts.SETS.values():
        zero_shot.refuse_templates(templates)
        assert len(set(templates)) == len(templates)


def test_labels_as_they_are_typed():
    groups, words = zero_shot.read_labels(["dress", "t-shirt = short-sleeved t-shirt", "long_sleeve"])
    assert groups == [Group("label", ("dress", "t-shirt", "long_sleeve"), many=False)]
    assert words == ["dress", "short-sleeved t-shirt", "long sleeve"]
    groups, words = zero_shot.of_names(["a=b", "c"], "the photos")
    assert groups[0].labels == ("a=b", "c") and words == ["a=b", "c"]
    [group], _ = zero_shot.read_labels(["lace"], several=True)
    assert group == Group("labels", ("lace",), many=True)


@pytest.mark.parametrize("labels", [[], ["dress"], ["dress", "dress=gown"], ["dress", " "], ["a|b", "c"], ["=x", "y"]])
def test_labels_that_cannot_be_told_apart_are_refused(labels):
    with pytest.raises(InputError, match="--labels"):
        zero_shot.read_labels(labels)


def test_labels_in_a_file(tmp_path):
    (tmp_path / "plain.txt").write_text("dress\n\ntee=short-sleeved t-shirt\n")
    assert zero_shot.read_labels_file(tmp_path / "plain.txt") == zero_shot.read_labels(
        ["dress", "tee=short-sleeved t-shirt"]
    )
    table = tmp_path / "groups.csv"
    table.write_bytes(b'\xef\xbb\xbflabel,words,group\nred,,colour\nlong,"long sleeves, to the hand",sleeve\n'
                      b"blue,navy blue,colour\nshort,,sleeve\n")  # fmt: skip
    groups, words = zero_shot.read_labels_file(table)
    assert groups == [Group("colour", ("red", "blue"), False, 0), Group("sleeve", ("long", "short"), False, 2)]
    assert words == ["red", "navy blue", "long sleeves, to the hand", "short"]
    for text, told in (
        ("name\nred\n", "line 1"), ("label,words\nred,a,b\n", "line 2"),
        ("label,group\nred,\nblue,colour\n", "label 1"),
        ("label,group\nred,colour\nlong,sleeve\n", "one in colour"), ("label,words\nred\n", "fewer"),
    ):  # fmt: skip
        table.write_text(text)
        with pytest.raises(InputError, match=told):
            zero_shot.read_labels_file(table)
    with pytest.raises(InputError, match="No such file"):
        zero_shot.read_labels_file(tmp_path / "none.csv")


# Calibration.


def drawn(rng, slope, n, labels=4):
    """Logits, and truth that is as likely as a softmax of `slope` times them says."""
    made = rng.normal(size=(n, labels))
    chances = np.exp(slope * made)
    chances /= chances.sum(axis=1, keepdims=True)
    truth = (rng.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return made, np.eye(labels)[truth]


@pytest.mark.parametrize("slope", [0.3, 3.0])
def test_a_temperature_is_found_that_makes_scores_what_they_say(slope):
    """On other photos than those that it was learned from; and no other number does better on these."""
    rng = np.random.default_rng(0)
    groups, _ = zero_shot.read_labels(["a", "b", "c", "d"])
    made, truth = drawn(rng, slope, 4000)
    found = calibration.fit(made, truth, groups)
    assert found.slopes == pytest.approx(np.full(4, slope), rel=0.08) and not found.biases.any()
    others, wanted = drawn(rng, slope, 4000)
    before, after = (
        calibration.expected_error(*calibration.told(scores, wanted, groups))
        for scores in (calibration.Calibration(groups, np.ones(4), np.zeros(4), 0, ()).scores(others),
                       found.scores(others))
    )  # fmt: skip
    assert after < 0.03 < before
    own = calibration.log_loss(found.scores(made), truth, groups)
    assert own == pytest.approx(log_loss(truth.argmax(axis=1), found.scores(made)))
    for other in (0.9, 1.1):
        worse = calibration.Calibration(groups, found.slopes * other, found.biases, 0, ()).scores(made)
        assert calibration.log_loss(worse, truth, groups) > own


def test_a_model_without_a_mistake_on_few_photos_is_not_certain():
    groups, _ = zero_shot.read_labels(["a", "b"])
    made = np.tile([[0.31, 0.30], [0.30, 0.31]], (10, 1))
    truth = np.tile(np.eye(2), (10, 1))
    scores = calibration.fit(made, truth, groups).scores(made)
    assert 0.9 < scores.max() < 0.98  # 20 of 20 say no more


def test_logits_of_no_use_become_scores_of_no_use():
    rng = np.random.default_rng(0)
    groups, _ = zero_shot.read_labels(["a", "b", "c", "d"])
    made = rng.normal(size=(500, 4))
    scores = calibration.fit(-made, drawn(rng, 3, 500)[1], groups).scores(made)
    assert np.abs(scores - 0.25).max() < 0.1


def test_labels_that_do_not_exclude_each_other_get_a_bias_each():
    rng = np.random.default_rng(0)
    groups, _ = zero_shot.read_labels(["a", "b", "c", "never"], several=True)
    biases = np.array([-2.0, 0.0, 1.0, -50.0])
    made = rng.normal(size=(6000, 4)) / 10 + 0.3
    truth = (rng.random(made.shape) < 1 / (1 + np.exp(-(20 * made - 6 + biases)))).astype(float)
    truth[::3, 1] = np.nan
    found = calibration.fit(made, truth, groups)
    assert found.slopes[0] == pytest.approx(20, rel=0.08) and len(set(found.slopes)) == 1
    assert found.biases[:3] == pytest.approx(biases[:3] - 6, abs=0.4)
    assert found.unseen == ("never",) and found.scores(made)[:, 3].max() < 0.05
    scores, right = calibration.told(found.scores(made), truth, groups)
    assert len(scores) == 4 * 6000 - 2000 and calibration.expected_error(scores, right) < 0.02
    told = found.to_dict()["labels"]
    assert told["slope"] == found.slopes[0] and list(told["biases"]) == ["a", "b", "c", "never"]


def test_groups_are_calibrated_by_themselves_on_what_is_known():
    rng = np.random.default_rng(0)
    groups = [Group("one", ("a", "b", "c", "d"), False, 0), Group("two", ("e", "f", "g", "h"), False, 4)]
    (made, truth), (other, wanted) = drawn(rng, 3, 3000), drawn(rng, 0.5, 3000)
    wanted = np.where(np.arange(3000)[:, None] % 2, np.nan, wanted)
    logits, references = np.concatenate([made, other], axis=1), np.concatenate([truth, wanted], axis=1)
    found = calibration.fit(logits, references, groups)
    assert found.slopes == pytest.approx(np.repeat([3, 0.5], 4), rel=0.15)
    best, right = calibration.told(found.scores(logits), references, groups)
    assert len(best) == len(right) == 4500
    with pytest.raises(InputError, match="two is known"):
        calibration.fit(logits, np.where(np.arange(8) > 3, np.nan, references), groups)


def test_the_expected_error_as_by_hand():
    scores, right = np.array([0.05, 0.95, 0.92, 0.6, 1.0]), np.array([0, 1, 0, 1, 1], dtype=bool)
    # Ten bins: 0.05 (0 right); 0.6 (1 right); 0.95, 0.92 and 1.0 (2 of 3 right).
    wanted = (0.05 + 0.4 + 3 * abs((0.95 + 0.92 + 1.0) / 3 - 2 / 3)) / 5
    assert calibration.expected_error(scores, right, bins=10) == pytest.approx(wanted)
    assert calibration.expected_error(np.array([0.0, 1.0]), np.array([False, True])) == 0
    with pytest.raises(ValueError, match="from 0 to 1"):
        calibration.expected_error(np.array([1.5]), np.array([True]))
