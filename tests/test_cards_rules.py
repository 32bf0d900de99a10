"""The Hub's documented rules for a card's metadata, kept without a network: line, key, what is right, what to type."""

from pathlib import Path

import hub_server_cards as double
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_fashion import cards
from hf_fashion.cards import results as card_results
from hf_fashion.cards import rules as card_rules
from hf_fashion.errors import InputError

ROOT = Path(__file__).parents[1]
INDEX = """\
model-index:
- name: m
  results:
  - task: {type: image-classification}
    dataset: {type: a/b, name: Photos, split: test}
    metrics: [{type: accuracy, value: 0.9}]
"""
SPACE = 'title: Dresses\nemoji: 👗\nsdk: gradio\nsdk_version: 6.31.0\npython_version: "3.12"\n'

GOOD = {
    "a licence of a list": ("model", "license: [mit, cc-by-4.0]\n"),
    "a licence of its own": ("model", "license: other\nlicense_name: my-1.0\nlicense_link: LICENSE\n"),
    "no more than one key": ("model", "tags: []\n"),
    "a model-index": ("model", INDEX),
    "a figure in words": ("model", INDEX.replace("0.9", '"90 of 100"')),
    "Windows line ends": ("model", "license: mit\r\ntags:\r\n- fashion\r\n"),
    "several base models": ("model", "base_model: [a/b, c]\nbase_model_relation: merge\n"),
    "an example with boxes": (
        "model",
        "widget:\n- src: https://a.org/1.jpg\n  output: [{label: bag, score: 0.5, box: {xmin: 1, ymin: 2}}]\n",
    ),
    "emissions": ("model", "co2_eq_emissions: {emissions: 12.5, source: codecarbon}\n"),
    "an anchor": ("model", "license: &l mit\nlicense_name: *l\n"),
    "a dataset": (
        "dataset",
        "license: cc0-1.0\npretty_name: Dresses\ntask_categories: [image-classification]\nsize_categories: [n<1K]\n"
        "language: en\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: data/train-*}\n"
        "dataset_info:\n  features: [{name: image, dtype: image}]\n  splits: [{name: train, num_examples: 3}]\n",
    ),
    "a Space": (
        "space",
        SPACE + "colorFrom: pink\nmodels: [a/b]\npinned: false\nshort_description: " + "x" * 60 + "\n",
    ),
    "a Space with a joined emoji": ("space", SPACE.replace("👗", "👩‍🎨")),
}
# What is wrong -> (kind, metadata, what the message says of it).
BAD = {
    "a licence spelt as people do": ("model", "license: Apache 2.0\n", "line 2, license.*Apache 2.0.*: apache-2.0"),
    "a licence of SPDX": ("model", "license: gpl-3.0-or-later\n", "license: gpl-3.0"),
    "a licence of nobody": ("model", "license: mine\n", "license: other"),
    "a licence that is a number": ("model", "license: 2.0\n", "a list of texts|text"),
    "one of several licences": ("dataset", "license:\n- mit\n- x\n", r"line 4, license\[1\]"),
    "a base model on this disk": ("model", "base_model: /home/anna/runs/a\n", "path of this machine"),
    "a base model in words": ("model", "base_model: EfficientNet Lite 0\n", "base_model.*on the Hub"),
    "an unknown relation": (
        "model", "base_model: a/b\nbase_model_relation: finetuned\n", "base_model_relation: finetune$"
    ),
    "a dataset on this disk": ("model", "datasets:\n- ./photos\n", r"datasets\[0\].*path of this machine"),
    "a language in capitals": ("model", "language: zh-CN\n", "language: zh"),
    "a language that YAML reads as no": ("model", "language:\n- no\n", r'language\[0\].*in quotes: "no"'),
    "tags that are no texts": ("model", "tags: [fashion, 2026]\n", r"tags\[1\].*2026"),
    "a type with blanks": (
        "model", INDEX.replace("a/b", "my photos"), r"line 6, .*results\[0\].dataset.type.*type: my-photos"
    ),
    "a result without a dataset's name": ("model", INDEX.replace("name: Photos, ", ""), "dataset.name"),
    "a result without a type of task": ("model", INDEX.replace("type: image-classification", "name: x"), "task.type"),
    "a configuration that is a number": ("model", INDEX.replace("split: test", "config: 1"), "dataset.config"),
    "a figure that is none": ("model", INDEX.replace("0.9", ".nan"), r"line 7, .*metrics\[0\].value"),
    "a result without figures": ("model", INDEX.replace("[{type: accuracy, value: 0.9}]", "[]"), "metrics"),
    "an index that is no list": ("model", "model-index: {name: m}\n", "model-index.*a list"),
    "an example outside the repo": ("model", "widget:\n- src: ../1.jpg\n", r"line 3, widget\[0\].src.*\.\./1"),
    "a score of more than 1": ("model", "widget:\n- src: a.jpg\n  output: [{label: a, score: 87}]\n", "0 to 1"),
    "a label that YAML reads as no": (
        "model", "widget:\n- src: a.jpg\n  output:\n  - {label: no, score: 1}\n", r'output\[0\].label.*label: "no"'
    ),
    "emissions in words": ("model", "co2_eq_emissions: little\n", "grams"),
    "a size of its own": ("dataset", "size_categories: [small]\n", r"size_categories\[0\].*n<1K"),
    "configurations without names": ("dataset", "configs:\n- data_files: a.csv\n", r"configs\[0\].config_name"),
    "a configuration twice": ("dataset", "configs:\n- config_name: a\n- config_name: a\n", "each name once"),
    "files without a split": (
        "dataset", "configs:\n- {config_name: a, data_files: [{path: a.csv}]}\n", "split and path"
    ),
    "no sdk": ("space", "title: A\n", "sdk"),
    "another sdk": ("space", SPACE.replace("sdk: gradio", "sdk: flask"), "gradio, streamlit, docker, static"),
    "another colour": ("space", SPACE + "colorFrom: orange\n", "red, yellow, green"),
    "an emoji in letters": ("space", SPACE.replace("👗", "dress"), "emoji: 👗"),
    "a long description": ("space", SPACE + f"short_description: {'x' * 61}\n", "60 characters.*61.*cut 1"),
    "a version that YAML shortens": (
        "space", SPACE.replace('"3.12"', "3.10"), 'line 6, python_version.*number 3.1.*python_version: "3.10"'
    ),
    "a Python that is none": ("space", SPACE.replace("3.12", "python3"), "3.x or 3.x.x"),
    "models in a text": ("space", SPACE + "models: a/b\n", r"models.*a list"),
    "an app on this disk": ("space", SPACE + "app_file: /home/anna/app.py\n", "within the repo"),
    "pinned in words": ("space", SPACE + "pinned: maybe\n", "pinned: false"),
    "a header of its own": ("space", SPACE + "custom_headers: {x-frame: deny}\n", "cross-origin"),
    "a key twice": ("model", "license: mit\ntags: [a]\nlicense: mit\n", "line 4, license.*each key once"),
    "no YAML": ("model", "license: mit: x\n", "line 2.*YAML"),
    "a list in its place": ("model", "- license\n", "key: value"),
    "an object of Python": ("model", "license: !!python/object:os.system x\n", "YAML"),
    "a tab": ("model", "license: mit\n\ttags: [a]\n", "line 3.*YAML"),
    "an alias of itself": ("model", "a: &a [*a]\n", "YAML|alias"),
}  # fmt: skip


def card(metadata):
    return f"---\n{metadata}---\n# A card\n"


@pytest.mark.parametrize("what", GOOD)
def test_what_the_hub_takes(what):
    kind, metadata = GOOD[what]
    assert cards.validate(card(metadata), kind) == []
    assert double.validate(card(metadata), kind)[0] == []


@pytest.mark.parametrize("what", BAD)
def test_what_the_hub_refuses_is_told_with_its_line_and_what_to_type(what):
    kind, metadata, says = BAD[what]
    with pytest.raises(InputError, match=f"(?s){says}") as caught:
        cards.validate(card(metadata), kind)
    assert all(word in str(caught.value) for word in ("README.md", "expected:", "found:", "to do:"))


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(InputError, match=r"3 errors") as caught:
        cards.validate(card("license: x\nlanguage: EN\n" + INDEX.replace("a/b", "a b")))
    assert all(f"line {line}, " in str(caught.value) for line in (2, 3, 8))


@pytest.mark.parametrize(
    ("kind", "metadata", "says"),
    [
        ("model", "pipeline_tag: clothes\n", "line 2, pipeline_tag"),
        ("model", "licence: mit\n", "license: ..."),
        ("model", "license: other\n", "license_name"),
        ("model", "base_model_relation: finetune\n", "base_model"),
        ("dataset", "task_categories: [clothes]\n", r"task_categories[0]"),
        ("space", SPACE.replace("6.31.0", '"6"'), "sdk_version"),
        ("space", "sdk: gradio\nsdk_version: 6.31.0\n", "python_version"),
    ],
)
def test_what_the_hub_takes_and_does_not_understand_is_a_warning(kind, metadata, says):
    [warning] = cards.validate(card(metadata), kind)
    assert says in warning and "to do:" in warning


@pytest.mark.parametrize("text", ["", "# A card\n", "license: mit\n", "\n\ntext\n---\nlicense: mit\n---\n"])
def test_a_text_without_metadata(text):
    with pytest.raises(InputError, match="at its very top"):
        cards.validate(text + "\n")


def test_a_nest_of_aliases_ends(tmp_path):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(InputError, match="more values"):
        cards.validate(card(bomb))


def test_pictures_that_the_card_names_lie_beside_it(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(
        card("widget:\n- src: widget/1.jpg\n") + "![a](plots/a.png) ![b](https://a.org/b.png)\n", encoding="utf-8"
    )
    assert [warning.split(": ")[1] for warning in cards.validate(path)] == [
        "plots/a.png is not there; expected a file beside the card; to do",
        "widget/1.jpg is not there; expected a file beside the card; to do",
    ]
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.png").touch()
    assert len(cards.validate(str(path))) == 1
    with pytest.raises(InputError, match="none.md"):
        cards.validate(tmp_path / "none.md")
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    with pytest.raises(InputError, match="UTF-8"):
        cards.validate(path)


def test_a_kind_that_is_none():
    with pytest.raises(InputError, match="model, dataset, space"):
        cards.validate(card("license: mit\n"), "bucket")


@pytest.mark.parametrize("path", sorted(ROOT.glob("spaces/*/README.md")), ids=lambda path: path.parent.name)
def test_the_spaces_of_this_repository(path):
    assert cards.validate(path, "space") == []


KEYS = sorted({key for keys in card_rules._KEYS.values() for key in keys.split()})
INNER = (
    "src",
    "output",
    "label",
    "score",
    "name",
    "results",
    "task",
    "dataset",
    "type",
    "metrics",
    "value",
    "id",
    "date",
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=9)
    | st.sampled_from(card_rules.COLORS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=9,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    values=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
    kind=st.sampled_from(("model", "dataset", "space")),
)
def test_whatever_stands_there_it_is_taken_or_told(values, kind):
    text = card(yaml.safe_dump(values, allow_unicode=True))
    try:
        cards.validate(text, kind)
    except InputError:
        return
    assert double.validate(text, kind)[0] == []  # what is taken here, the double of the Hub does not refuse


@settings(max_examples=20, deadline=None, derandomize=True)
@given(values=VALUES)
def test_whatever_a_file_of_results_holds_it_is_taken_or_told(values):
    try:
        card_results.validate(yaml.safe_dump(values, allow_unicode=True) + "\n")
    except InputError as error:
        assert "to do:" in str(error)
