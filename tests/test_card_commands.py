"""A command on a card can be typed again, names no folder of the machine, and says how a licence is said."""

import shlex
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, metadata_load
from test_cards import made, run, write  # noqa: F401
from tiny import photos, tiny

from hf_fashion import cards
from hf_fashion.cards.writing import without_folders
from hf_fashion.errors import InputError, from_here


def test_paths_of_the_working_folder_are_seen_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["--model", f"{tmp_path}/runs/classify-1", f"--dataset={tmp_path}/a b", f"-o{tmp_path}/file", "runs/x"]
    assert from_here(typed) == ["--model", "runs/classify-1", "--dataset=./a b", "-o./file", "runs/x"]
    assert from_here([f"{tmp_path}/sample", f"polyvore:{tmp_path}/sample"]) == ["./sample", "polyvore:./sample"]
    kept = [
        "https://x/y",
        "/elsewhere/x",
        f"{tmp_path}-2/x",
        "--labels",
        "tee=/x",
        "--a=b=c",
        "-1",
        "you/model",
        "",
        "--",
        "-o",
    ]
    assert from_here(kept) == kept
    monkeypatch.chdir("/")  # where all that is private lies
    assert from_here([f"{tmp_path}/x"]) == [f"{tmp_path}/x"]


def test_other_absolute_paths_are_cut_to_what_can_be_filled_in():
    typed = [
        "hf-fashion",
        "export",
        "--model",
        "/home/anna/c 1",
        "--dataset=/home/anna/photos",
        "-o/home/anna/out",
        ".",
        "--compare=polyvore:/home/anna/p",
    ]
    told = shlex.split(without_folders(shlex.join(typed)))
    assert told[3:] == [
        "path/to/c 1",
        "--dataset=path/to/photos",
        "-opath/to/out",
        ".",
        "--compare=polyvore:path/to/p",
    ]


def test_a_trained_models_card_says_how_its_licence_is_said(run):  # noqa: F811
    text = write(run).text
    said = (
        "Nobody has said under which licence this model is. Its author says it by `hf-fashion card 'my run' --license"
    )
    assert "| this model | unknown |\n\n" in text and said in text
    assert "hf-fashion card" not in cards.render(run, repo="you/net").text.split("## Licences")[1].split("##")[0]
    cards.main([str(run.folder), "--license", "mit"])
    text = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "| this model | mit |" in text and "Nobody has said under" not in text


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return tiny("resnet", tmp_path_factory.mktemp("nets") / "runs" / "classify-1")


def test_an_exports_card_can_be_typed_again_and_says_the_licence(net, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from hf_fashion.recipes import export as recipe

    place = net.parents[1]
    monkeypatch.chdir(place)
    photos("photos", train=1, validation=1, test=2)
    words = [str(net), "--dataset", str(place / "photos"), "--photos", "4", "--least_agreement", "0"]
    recipe.main([*words, "-o", "exported/one"])
    text = Path("exported/one/README.md").read_text(encoding="utf-8")
    assert "--model runs/classify-1 --dataset ./photos" in text and str(place) not in text
    assert metadata_load("exported/one/README.md")["license"] == "unknown"
    assert "whose licence nobody has said" in text and "--license" in text
    recipe.main([*words, "-o", str(place / "exported" / "two"), "--license", "mit"])
    card = ModelCard.load("exported/two/README.md")
    assert card.data.license == "mit" and "under the licence of the original" in card.text
    assert "exported/two/model.onnx" in card.text and str(place) not in card.content
    (net / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    with pytest.raises(InputError, match=r"as its card says it: apache-2\.0"):
        recipe.main([*words, "-o", str(tmp_path / "three"), "--license", "mit"])
    assert not (tmp_path / "three").exists()
