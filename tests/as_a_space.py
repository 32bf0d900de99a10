"""Runs app.py of the working folder as a Space with the Gradio SDK does: the folder first on Python's path, and of the
packages here only what its requirements.txt and that SDK bring. hf_fashion itself is hidden where it is installed.

    cd <the files of a Space> && python <here>/as_a_space.py
"""

import importlib.metadata
import os
import runpy
import sys
from collections import defaultdict
from importlib.machinery import PathFinder
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

SDK = "gradio[oauth,mcp]"  # what the Hub installs beside requirements.txt


def required(lines: list[str]) -> set[str]:
    """Names of the packages that requirements bring, and of those that these bring."""
    extras, left = defaultdict(set), [(line, {""}) for line in lines]
    while left:
        line, asked = left.pop()
        try:
            wanted = Requirement(line.split(" #")[0].strip())
        except InvalidRequirement:  # an option, a comment, an empty line
            continue
        name, more = canonicalize_name(wanted.name), wanted.extras | {""}
        needed = wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in asked)
        if needed and not more <= extras[name]:
            extras[name] |= more
            try:
                left += [(line, extras[name]) for line in importlib.metadata.requires(wanted.name) or []]
            except importlib.metadata.PackageNotFoundError:  # of another system
                continue
    return {name for name, found in extras.items() if found}


def main() -> None:
    named = Path("requirements.txt").read_text(encoding="utf-8").splitlines()
    brought = required([*named, SDK])
    hidden = {
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if not {*map(canonicalize_name, packages)} & brought
    } - {"hf_fashion"}

    class Brought(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name.split(".")[0] in hidden else super().find_spec(name, path, target)

    # Whatever finds modules in another way finds a checkout (`pip install -e`).
    own = {"BuiltinImporter", "FrozenImporter"}
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") in own] + [Brought]
    sys.path[0] = os.getcwd()
    import hf_fashion

    assert Path(hf_fashion.__file__).is_relative_to(os.getcwd()), hf_fashion.__file__
    runpy.run_path("app.py", run_name="__main__")


if __name__ == "__main__":
    main()
