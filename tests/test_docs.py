"""What the README and the other pages promise is there: settings, files, code."""

import re
import tomllib
from pathlib import Path

import pytest

from hf_fashion import training
from hf_fashion.recipes import check, crop, distill, export, predict, score, serve, sweep, tag
from hf_fashion.recipes import classify as recipe
from hf_fashion.recipes import detect as detect_recipe
from hf_fashion.recipes import retrieve as retrieve_recipe
from hf_fashion.tasks import classify, detect, retrieve
from hf_fashion.training import retrieving

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("hf_fashion/samples/**/*.md"), *ROOT.glob("model_cards/*.md")]
RECIPES = {
    "classify": (recipe, classify.Arguments),
    "detect": (detect_recipe, detect.Arguments, training.LearningArguments, training.DetectionTrainingArguments),
    "retrieve": (retrieve_recipe, retrieve.Arguments, retrieving.RetrievalTrainingArguments),
    "score": (score, score.Arguments),
    "sweep": (sweep, classify.Arguments),
    "tag": (tag, tag.Arguments),
    "distill": (distill, classify.Arguments),
}
OF_SWEEPS = {"--try", "--search", "--trials", "--seeds", "--resume"}


def commands(text):
    """(recipe, tokens) of every `accelerate launch recipes/...` in a text."""
    for name, rest in re.findall(r"accelerate launch recipes/(\w+)\.py([^\n`#]*)", text):
        yield name, rest.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_left_to_fill_in(page):
    assert "@@" not in page.read_text(encoding="utf-8")


def test_figures_of_the_readme_are_those_of_the_cards():
    """The table of `make classify` is the run whose card is in model_cards."""
    card = (ROOT / "model_cards" / "classify-efficientnet-lite0.md").read_text(encoding="utf-8")
    value = re.search(r"^\| accuracy \| (\S+) \| (\S+) to (\S+) \| 80 \|$", card, re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^accuracy +(\S+) +(\S+) to (\S+) +80$", readme, re.MULTILINE)
    assert value and shown and value.groups() == shown.groups()


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("recipes/*.py")], ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_in_commands_exist(page):
    for name, tokens in commands(page.read_text(encoding="utf-8")):
        known = {
            f"--{field}"
            for group in (*RECIPES[name][1:], training.MethodArguments, training.FashionTrainingArguments)
            for field in group.__dataclass_fields__
        } | {"--config", "--help", "--no_flip"}
        known |= OF_SWEEPS if name == "sweep" else {"--student"} if name == "distill" else set()
        assert {token for token in tokens if token.startswith("--")} <= known


def test_settings_named_in_the_prose_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    known = {
        field
        for group in (
            classify.Arguments,
            check.Arguments,
            crop.Arguments,
            export.Arguments,
            detect.Arguments,
            retrieve.Arguments,
            tag.Arguments,
            predict.Arguments,
            serve.Arguments,
            training.MethodArguments,
            training.FashionTrainingArguments,
        )  # fmt: skip
        for field in group.__dataclass_fields__
    }
    others = """config help exclude output prose data rows seeds compare metric to try search trials resume config_file
        num_processes num_machines main_process_ip machine_rank nproc_per_node public overwrite verify type
        no_card_photos repo bf image text k where output_file backend delete delete_gone text_weight task student
        vectors rounds private no_flip megapixels photos nets peers only"""
    known |= set(others.split())  # of other commands than the recipes
    assert set(re.findall(r"--([a-z_]+)", text)) <= known


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    """The block that trains, on few photos: the code is the README's, only `load` gives less."""
    import hf_fashion

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "FashionTrainer(" in block]
    whole = hf_fashion.data.load

    def few(*args, **kwargs):
        dataset, report = whole(*args, **kwargs)
        for split in dataset:
            dataset[split] = dataset[split].select(range(0, len(dataset[split]), 7))
        return dataset, report

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hf_fashion.data, "load", few)
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["trainer"].state.global_step == 2 and scope["predictions"].num_rows == 12


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_the_header_of_a_recipe_asks_for_what_it_needs(path):
    """PEP 723: what `uv run` installs; an extra that is asked for must be there."""
    [block] = re.findall(r"^# /// script\n(.*?)^# ///$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    header = tomllib.loads(re.sub(r"^# ?", "", block, flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert header["requires-python"] == project["requires-python"]
    [needed] = header["dependencies"]
    name, extra = re.fullmatch(r"(\w+)(?:\[(\w+)\])?", needed).groups()
    assert name == project["name"] and (extra is None or extra in project["optional-dependencies"])
