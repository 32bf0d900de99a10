"""`load_encoder`: what it gives is what bare sentence-transformers gives of the saved folder."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from sentence_transformers import SentenceTransformer
from tiny import KINDS, tiny
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from hf_fashion import backbones
from hf_fashion.backbones import encoders, freezing
from hf_fashion.errors import InputError

READERS = ("clip", "siglip")  # take texts, too
TEXTS = ["red dress", "blue shirt", "red shoes", "blue dress with dots"]


def photos(count=3, size=(60, 80)):
    return [
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8))
        for number in range(count)
    ]


def tokenizer():
    words = sorted({word for text in TEXTS for word in text.split()})
    known = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {word: number + 4 for number, word in enumerate(words)}
    made = Tokenizer(WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        model_max_length=16,
    )  # fmt: skip


def tiny_clip(kind, folder):
    """A CLIP or SigLIP of a few thousand parameters, as its library saves it."""
    text = {"vocab_size": 24, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1,
            "pad_token_id": 0}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    torch.manual_seed(0)
    if kind == "clip":
        config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        shown = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        processor = hf.CLIPProcessor(shown, tokenizer())
    else:
        config = hf.SiglipConfig(text_config=text, vision_config=vision)
        processor = hf.SiglipProcessor(hf.SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer())
    hf.AutoModel.from_config(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    for kind in KINDS:
        tiny(kind, place / kind)
    for kind in READERS:
        tiny_clip(kind, place / kind)
    return place


@pytest.mark.parametrize("kind", [*KINDS, *READERS])
def test_the_bare_library_gives_the_same_vectors(place, kind):
    encoder = backbones.load_encoder(place / kind)
    encoder.save_pretrained(str(place / f"saved-{kind}"))
    ours = encoder.encode(photos())
    assert ours.dtype == np.float32 and np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert np.abs(ours[0] - ours[1]).max() > 1e-4
    assert encoders.takes_texts(encoder) == (kind in READERS)
    again = backbones.load_encoder(place / f"saved-{kind}")
    assert np.array_equal(again.encode(photos()), ours)
    assert not list((place / f"saved-{kind}").rglob("*.bin"))
    assert '"one"' not in (place / f"saved-{kind}" / "config.json").read_text()  # labels of no head
    bare = SentenceTransformer(str(place / f"saved-{kind}"), device="cpu")
    assert np.allclose(bare.encode(photos()), ours, atol=1e-6)
    if kind in READERS:
        assert np.allclose(bare.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)


@pytest.mark.slow  # a fresh process
def test_a_process_without_us_gives_the_same_vectors(place, tmp_path):
    ours = {}
    for kind in (*KINDS, *READERS):
        encoder = backbones.load_encoder(place / kind)
        encoder.save_pretrained(str(tmp_path / kind))
        ours[kind] = encoder.encode(photos()), encoder.encode(TEXTS) if kind in READERS else None
    code = """
import json, sys
sys.modules["hf_fashion"] = None
import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer
photos = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (60, 80, 3), dtype=np.uint8)) for n in range(3)]
texts, told = json.loads(sys.argv[2]), {}
for kind in json.loads(sys.argv[1]):
    bare = SentenceTransformer(kind, device="cpu")
    told[kind] = [bare.encode(photos).tolist(), bare.encode(texts).tolist() if "text" in bare.modalities else None]
print(json.dumps(told))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(list(ours)), json.dumps(TEXTS)], cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    for kind, (pictures, texts) in ours.items():
        assert np.allclose(told[kind][0], pictures, atol=1e-6), kind
        assert kind not in READERS or np.allclose(told[kind][1], texts, atol=1e-6)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "swin", "convnext", "resnet", "timm"])
def test_a_vector_is_what_the_net_says_of_the_whole_picture(place, kind):
    """The first token of a ViT, the mean of the maps of the others; as the classifier's head sees it."""
    encoder = backbones.load_encoder(place / kind)
    classifier, processor = backbones.load_classifier(place / kind)
    classifier.eval()
    seen = []
    head = freezing.head_layers(classifier)[0]
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].flatten(1)))
    with torch.no_grad():
        classifier(**processor(photos(), return_tensors="pt"))
    wanted = seen[0]
    if kind == "dinov2":  # its head sees the mean of the patches beside it
        wanted = wanted[:, : wanted.shape[1] // 2]
    wanted = (wanted / wanted.norm(dim=1, keepdim=True)).numpy()
    assert np.allclose(encoder.encode(photos()), wanted, atol=1e-5)


def test_pictures_and_words_meet_in_one_space(place, tmp_path):
    torch.manual_seed(0)
    encoder = backbones.load_encoder(place / "swin", text_model="words", texts=TEXTS, dimension=24)
    pictures, texts = encoder.encode(photos()), encoder.encode(TEXTS)
    assert pictures.shape == (3, 24) and texts.shape == (4, 24)
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    encoder.save_pretrained(str(tmp_path / "saved"))
    again = backbones.load_encoder(tmp_path / "saved")
    assert np.array_equal(again.encode(photos()), pictures) and np.array_equal(again.encode(TEXTS), texts)
    assert np.array_equal(again.encode(["RED dress"]), texts[:1])  # of any case
    assert np.isfinite(again.encode(["quite unknown", ""])).all()


def test_a_text_model_of_transformers(place, tmp_path):
    bert = hf.BertConfig(
        vocab_size=24, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16,
    )  # fmt: skip
    hf.AutoModel.from_config(bert).save_pretrained(tmp_path / "bert")
    tokenizer().save_pretrained(tmp_path / "bert")
    encoder = backbones.load_encoder(place / "timm", text_model=tmp_path / "bert", dimension=10)
    assert encoder.encode(TEXTS).shape == (4, 10) and encoder.encode(photos()).shape == (3, 10)


@pytest.mark.parametrize("kind", READERS)
def test_the_vector_of_a_text_is_the_same_alone_and_among_others(place, kind):
    """SigLIP reads the last place of texts that are filled up to one length, as its own processor is asked to."""
    encoder = backbones.load_encoder(place / kind)
    encoder.save_pretrained(str(place / f"read-{kind}"))
    bare = SentenceTransformer(str(place / f"read-{kind}"), device="cpu")
    net, processor = hf.AutoModel.from_pretrained(place / kind), hf.AutoProcessor.from_pretrained(place / kind)
    filled = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    tokens = processor(text=TEXTS, return_tensors="pt", return_attention_mask=kind == "clip", **filled)
    with torch.no_grad():
        wanted = net.eval().get_text_features(**tokens).pooler_output.numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.allclose(bare.encode(TEXTS), wanted, atol=1e-5)
    assert np.allclose(bare.encode(TEXTS[:1]), wanted[:1], atol=1e-5)


def test_tokens_are_averaged_where_none_stands_for_the_picture(place):
    config = hf.IJepaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    hf.IJepaForImageClassification(config).save_pretrained(place / "ijepa")
    processor = hf.ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(place / "ijepa")
    net = hf.AutoModel.from_pretrained(place / "ijepa").eval()
    with torch.no_grad():
        tokens = net(**processor(photos(), return_tensors="pt")).last_hidden_state
    wanted = torch.nn.functional.normalize(tokens.mean(dim=1), dim=1).numpy()
    assert np.allclose(backbones.load_encoder(place / "ijepa").encode(photos()), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "swin", "timm", "convnext"])
def test_stages_of_the_net_that_sees_do_not_learn(place, kind):
    encoder = backbones.load_encoder(place / kind, freeze="stages:1", dimension=8)
    net = encoders.picture_net(encoder)
    frozen = {name for name, own in net.named_parameters() if not own.requires_grad and "pooler.dense" not in name}
    classifier, _ = backbones.load_classifier(place / kind, freeze="stages:1")
    same = {name for name, own in classifier.named_parameters() if not own.requires_grad}
    assert {name.rpartition(".")[0].split(".", 1)[-1] for name in same} >= {
        name.rpartition(".")[0].split(".", 1)[-1] for name in frozen if kind == "timm"
    }
    assert len(frozen) == len(same) > 0
    whole = backbones.load_encoder(place / kind, freeze="backbone", dimension=8)
    assert [name for name, own in whole.named_parameters() if own.requires_grad] == [
        "1.linear.weight"
    ] or kind == "vit"


def test_the_modules_of_a_router_are_looked_at_too(place, tmp_path):
    encoder = backbones.load_encoder(place / "swin", text_model="words", texts=TEXTS, dimension=8)
    encoder.save_pretrained(str(tmp_path / "saved"))
    dense = tmp_path / "saved" / "image_1_Dense"
    (dense / "pytorch_model.bin").write_bytes(b"\x80")
    (dense / "model.safetensors").rename(dense / "aside")
    with pytest.raises(InputError, match="image_1_Dense/pytorch_model.bin, a pickle"):
        backbones.load_encoder(tmp_path / "saved")
    (dense / "pytorch_model.bin").unlink()
    (dense / "aside").rename(dense / "model.safetensors")
    path = tmp_path / "saved" / "router_config.json"
    told = json.loads(path.read_text())
    for kind, name, match in (
        ("somebody.else.Module", "image_1_Dense", "code of others"),
        ("sentence_transformers.base.modules.dense.Dense", "../other", "its own folder"),
    ):
        path.write_text(json.dumps(told | {"types": told["types"] | {name: kind}}))
        with pytest.raises(InputError, match=match):
            backbones.load_encoder(tmp_path / "saved")


def test_what_cannot_be_is_refused(place, tmp_path):
    with pytest.raises(InputError, match="takes texts itself"):
        backbones.load_encoder(place / "clip", text_model="words", texts=TEXTS)
    with pytest.raises(InputError, match="words are taken"):
        backbones.load_encoder(place / "swin", text_model="words")
    with pytest.raises(InputError, match="dimension"):
        backbones.load_encoder(place / "swin", dimension=0)
    encoder = backbones.load_encoder(place / "swin")
    encoder.save_pretrained(str(tmp_path / "saved"))
    with pytest.raises(InputError, match="it has its modules"):
        backbones.load_encoder(tmp_path / "saved", dimension=8)
    (tmp_path / "saved" / "pytorch_model.bin").write_bytes(b"\x80")
    (tmp_path / "saved" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="a pickle"):
        backbones.load_encoder(tmp_path / "saved")
    (tmp_path / "saved" / "pytorch_model.bin").unlink()
    told = json.loads((tmp_path / "saved" / "modules.json").read_text())
    told[1]["type"] = "somebody.else.Module"
    (tmp_path / "saved" / "modules.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="code of others"):
        backbones.load_encoder(tmp_path / "saved")


@pytest.mark.parametrize("kind", ["timm", "resnet", "clip"])
def test_what_is_frozen_stays_in_eval_mode_while_an_encoder_trains(place, kind, tmp_path):
    """sentence-transformers asks the net past its own hooks."""
    plan = "backbone" if kind == "clip" else "stages:1"
    made = backbones.load_encoder(place / kind, freeze=plan)
    made.save_pretrained(str(tmp_path / "saved"))
    for encoder in (made, backbones.load_encoder(tmp_path / "saved", freeze=plan)):
        encoder.train()
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        encoder(dict(encoder.preprocess(photos())))
        frozen = freezing.frozen_modules(encoders.picture_net(encoder))
        assert frozen and not [module for module in frozen if module.training]
        counted = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
        named = {name for name, module in encoder.named_modules() if any(module is one for one in frozen)}
        assert not {name for name in counted if name.rpartition(".")[0] in named}


def test_a_text_model_of_many_languages(place, tmp_path):
    """An encoder of texts with pieces of words of any alphabet, as `retrieve-multilingual.yaml` names one."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts = ["red dress", "rotes Kleid", "robe rouge", "赤いドレス", "красное платье", "فستان أحمر"]
    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.train_from_iterator(texts * 4, trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    ))  # fmt: skip
    words = hf.PreTrainedTokenizerFast(
        tokenizer_object=pieces, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    roberta = hf.XLMRobertaConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=40, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    hf.AutoModel.from_config(roberta).save_pretrained(tmp_path / "net")
    words.save_pretrained(tmp_path / "net")
    first = Transformer(str(tmp_path / "net"))
    SentenceTransformer(modules=[first, Pooling(8)]).save_pretrained(str(tmp_path / "many"))
    encoder = backbones.load_encoder(place / "swin", text_model=tmp_path / "many", dimension=10)
    vectors = encoder.encode(texts)
    assert vectors.shape == (6, 10) and len(np.unique(vectors.round(5), axis=0)) == 6  # none is unknown
    encoder.save_pretrained(str(tmp_path / "saved"))
    bare = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(bare.encode(texts), vectors, atol=1e-6)


def test_a_net_inside_an_encoder_must_not_lead_out_of_its_folder(place, tmp_path):
    torch.manual_seed(0)
    backbones.load_encoder(place / "swin", dimension=8).save_pretrained(str(tmp_path / "saved"))
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    (tmp_path / "saved" / "config.json").write_text(json.dumps({**config, "attn_implementation": "some/kernel"}))
    with pytest.raises(InputError, match="code from the Hub"):
        backbones.load_encoder(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config))
    (tmp_path / "saved" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="weights of peft"):
        backbones.load_encoder(tmp_path / "saved")


def tiny_bert(folder):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    hf.AutoModel.from_config(hf.BertConfig(vocab_size=24, max_position_embeddings=40, **sizes)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_a_text_model_must_not_lead_out_of_its_folder_either(place, tmp_path):
    bert = tiny_bert(tmp_path / "bert")
    (bert / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="weights of peft"):
        backbones.load_encoder(place / "swin", text_model=bert)


@pytest.mark.parametrize("kept", ["", "0_CLIPModel"])
def test_what_nobody_reads_lies_beside_good_encoders(place, tmp_path, kept):
    """As on the Hub: the same weights for older libraries and other engines, the settings of a training; and CLIP as
    sentence-transformers saved it up to 5.3, which must lead out of its folder no more than others."""
    folder = tmp_path / "saved"
    if kept:
        shutil.copytree(place / "clip", folder / kept)
        module = {"idx": 0, "name": "0", "path": kept, "type": "sentence_transformers.models.CLIPModel"}
        (folder / "modules.json").write_text(json.dumps([module]))
    else:
        SentenceTransformer(str(place / "clip"), device="cpu").save_pretrained(str(folder))
    for name in ("pytorch_model.bin", "training_args.bin", "openvino/openvino_model.bin"):
        (folder / kept / name).parent.mkdir(exist_ok=True)
        (folder / kept / name).write_bytes(b"\x80")
    encoder = backbones.load_encoder(folder)
    expected = backbones.load_encoder(place / "clip")
    assert np.allclose(encoder.encode(photos(), normalize_embeddings=True), expected.encode(photos()), atol=1e-6)
    config = json.loads((folder / kept / "config.json").read_text())
    (folder / kept / "config.json").write_text(json.dumps({**config, "attn_implementation": "some/kernel"}))
    with pytest.raises(InputError, match="code from the Hub"):
        backbones.load_encoder(folder)
