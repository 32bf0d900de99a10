"""The rules on imports of ARCHITECTURE: who may know whom, and what stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hf_fashion

ROOT = Path(hf_fashion.__file__).parent
LIBRARY = sorted(path for path in ROOT.glob("*.py") if path.stem != "cli")
TASKS = sorted((ROOT / "tasks").glob("[a-z]*.py"))
# What a low room may know of ours.
LOW = {
    "errors": set(),
    "images": {"errors"},
    "report": {"errors"},
    "metrics": {"errors", "metrics"},
    "record": {"errors"},
    "data": {
        *("errors", "images", "report", "columns", "reading", "tables", "splits", "boxed", "fingerprint", "objects"),
    },
    "cards": {"errors", "images", "record", "cards"},
}


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_library_modules_know_no_task_and_no_recipe(path):
    knows = {name for name in imports(path) if name.startswith(("hf_fashion.tasks", "hf_fashion.recipes", "recipes"))}
    assert knows <= {"hf_fashion.recipes.configs"}  # a folder of values, which parse_args reads


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_tasks_do_not_know_each_other(path):
    assert not {name for name in imports(path) if name.startswith(("hf_fashion.tasks", "hf_fashion.recipes"))}


@pytest.mark.parametrize("stem", LOW)
def test_low_rooms_look_downwards_only(stem):
    paths = [ROOT / f"{stem}.py"] if (ROOT / f"{stem}.py").exists() else sorted((ROOT / stem).glob("*.py"))
    ours = {name.split(".")[1] for path in paths for name in imports(path) if name.startswith("hf_fashion.")}
    assert ours <= LOW[stem]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_private_name_of_another_library(path):
    private = {
        name
        for name in imports(path)
        if not name.startswith(("hf_fashion.", "__future__."))
        and any(part.startswith("_") for part in name.split("."))
    }
    assert not private


def test_no_recipe_hides_a_module(tmp_path):
    """A script's folder is first on sys.path: `recipes/evaluate.py` would be imported in place of the library."""
    import hf_fashion.recipes

    recipes = {path.stem for path in Path(hf_fashion.recipes.__file__).parent.glob("*.py")} - {"__init__"}
    code = "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    # Isolated: any folder of that name where Python starts would be found too, as a namespace package.
    command = [sys.executable, "-I", "-c", code, *sorted(recipes)]
    elsewhere = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert recipes and not elsewhere.stdout.split()


@pytest.mark.parametrize("code", ["import hf_fashion", "from hf_fashion.cli import main; main(['--help'])"])
def test_import_and_help_are_light(code):
    heavy = "import sys; heavy = {'torch', 'transformers', 'evaluate', 'numpy'} & {*sys.modules}; assert not heavy"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{heavy}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names_are_there_and_documented():
    assert len(hf_fashion.__all__) <= 24
    for name in hf_fashion.__all__:
        assert getattr(hf_fashion, name).__doc__, name
    with pytest.raises(AttributeError):
        hf_fashion.no_such_name  # noqa: B018
