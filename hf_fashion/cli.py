"""`hf-fashion <word> ...`: hands over to a recipe's or a module's `main`, imported when asked for; nothing else."""

import ast
import difflib
import importlib
import importlib.util
import logging
import sys
from pathlib import Path

import hf_fashion
from hf_fashion.errors import script

# Words that are not recipes: the module whose `main` they run.
MODULES = {"card": "hf_fashion.cards", "compare": "hf_fashion.comparison"}


def main(argv: list[str] | None = None) -> None:
    words = _words()
    word, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if word in ("--version", "-V"):
        print(f"hf_fashion {hf_fashion.__version__}")
    elif word in ("--help", "-h", "help"):
        width = max(map(len, words))
        print("usage: hf-fashion <word> [--setting value ...]\n")
        for name, module in words.items():
            print(f"  {name:<{width}}  {_first_line(module)}")
        print("\n`hf-fashion <word> --help` lists the settings of one.")
    elif word in words:
        script(_run)(words[word], rest)
    else:
        near = difflib.get_close_matches(word, words, n=1)
        sys.exit(f"hf-fashion: no word {word!r}; " + (f"did you mean {near[0]}?" if near else "see hf-fashion --help"))


def _run(module: str, argv: list[str]) -> None:
    """Imported here, since a module may say which extra it needs."""
    told = logging.getLogger("torch.utils._pytree")
    told.addFilter(_is_ours)
    try:
        importlib.import_module(module).main(argv)
    finally:
        told.removeFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Not what torch 2.14 advises torchao 0.18 to change, which the extra `litert` brings and transformers imports
    wherever it is: two lines at each start that no user can do anything about."""
    about = record.args[0] if isinstance(record.args, tuple) and record.args else None
    of_torchao = str(getattr(about, "__module__", "")).startswith("torchao.")
    return not (of_torchao and "register_constant()" in str(record.msg))


def _words() -> dict[str, str]:
    spec = importlib.util.find_spec("hf_fashion.recipes")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    recipes = {path.stem: f"hf_fashion.recipes.{path.stem}" for path in sorted(folder.glob("[a-z]*.py"))}
    return recipes | MODULES


def _first_line(module: str) -> str:
    """First line of a module's docstring, read without importing it (and torch with it)."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (doc or "").split("\n")[0]


if __name__ == "__main__":
    main()
