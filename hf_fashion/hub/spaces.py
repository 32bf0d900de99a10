"""A folder of `spaces/` to the Hub, with the model that it shows, and with hf_fashion itself.

Spaces with the Gradio SDK install requirements.txt before the repo's own files are there, so a wheel beside it cannot
be named in it; an address of the wheel can only be read where the Space is public. As long as hf_fashion is on no
registry, its files therefore go along as the folder `hf_fashion/` beside app.py, which Python imports from, and its
dependencies take its place in requirements.txt. A page with a requirements-export.txt can show an exported model
without torch: if the model is one, the packages that it names and the model's engine are all that is asked for.
"""

import ast
import functools
import importlib.metadata
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import hf_fashion
from hf_fashion import runtime
from hf_fashion.cards.rules import repo_id
from hf_fashion.errors import InputError
from hf_fashion.hub import clean, secrets
from hf_fashion.hub.client import api, ask
from hf_fashion.hub.pushing import Pushed, preflight, send
from hf_fashion.hub.target import Target

LIBRARY = "hf-fashion"
VARIABLE = "MODEL"  # what app.py reads the model's id from
BUILT_IN = "efficientnet-lite0"  # of a package that requirements.txt names
LIGHT = "requirements-export.txt"  # what a page needs for an exported model, beside its engine
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}  # the package of each format
_FRONT = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# Of the package: what a page that serves a model never imports.
_NOT_SERVED = ("recipes", "model_cards", "samples", "__pycache__")
_SERVED = (".py", ".md", ".html", ".json")


def push_space(
    folder: str | Path, repo: str, *, model: str | None = None, public: bool = False, overwrite: bool = False,
    token: str | None = None,
) -> Pushed:  # fmt: skip
    """Pushes a Space.

    Args:
        folder: With app.py, requirements.txt and README.md; read only.
        repo: <name> or <namespace>/<name>.
        model: Id of the model that it shows, <name> for one of the token's owner: becomes the Space's variable
            `MODEL`, and `models:` of its README.md. Or `efficientnet-lite0`, which needs no Hub.
        public: Whether everybody may see it.
        overwrite: Write over what others changed in the repo.
        token: Of the Hub; the stored one when None. It is not given to the Space.

    Raises:
        InputError: A file is missing, or the README's metadata would give another Space than was tested.
        HubError: What the Hub refused.
    """
    root = Path(folder)
    front = front_matter(root)
    with_library = _names_library(root / "requirements.txt")
    edits: dict[str, Callable[[str], str]] = {}
    if model is not None and model != BUILT_IN:
        model = _on_hub(model, token)
        edits["README.md"] = lambda text: with_models(text, [model])
    engine = None
    if with_library:
        engine = _engine(model, token) if model is not None and model != BUILT_IN else None
        light = (root / LIGHT).read_text(encoding="utf-8") if engine and (root / LIGHT).is_file() else None
        edits["requirements.txt"] = functools.partial(with_dependencies, engine=engine, light=light)
    made = clean.export(root, clean.SPACE, edits=edits)
    _refuse_unparsable(root, made, str(front.get("python_version", "")))
    if with_library:
        made.files |= library()
        what = "what an exported model needs" if engine and light else "its dependencies"
        made.changed["requirements.txt"] = f"{with_library}: {what}, and its files as hf_fashion/"
    if edits.get("README.md"):
        made.changed["README.md"] = f"models: {model}"
    target = preflight(repo, "space", public=public, token=token, card=made.text("README.md"))
    private = model is not None and model != BUILT_IN and _is_private(model, token)
    if model is None and target.exists:
        _tell_kept(target, token)
    pushed = send(
        made, target, name=root.resolve().name, overwrite=overwrite, sdk=front["sdk"],
        variables={VARIABLE: model} if model is not None else None,
    )  # fmt: skip
    if private:
        print(
            f"{model} is private: until the Space has a token that may read it, as its secret HF_TOKEN, it only says "
            f"so; set it at {target.address}/settings, or make the model public"
            + (". The Space is public: then everybody can use it, and sees its example photos" if public else "")
        )
    return pushed


def front_matter(folder: Path) -> dict[str, Any]:
    """The metadata of a Space's README.md.

    Raises:
        InputError: A file is missing; no exact version of the SDK, no version of Python.
    """
    what = f"the Space {folder}"
    missing = [name for name in ("README.md", "requirements.txt") if not (folder / name).is_file()]
    if missing:
        raise InputError(
            what, expected="README.md, requirements.txt and app.py",
            found=f"no {', '.join(missing)}" if folder.is_dir() else "no such folder",
            fix="add it" if folder.is_dir() else "check the spelling",
        )  # fmt: skip
    found = _FRONT.match((folder / "README.md").read_text(encoding="utf-8"))
    try:
        front = yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError as error:
        raise InputError(f"{what}: README.md", expected="YAML", found=str(error), fix="mend it") from None
    front = front if isinstance(front, dict) else {}
    # Without them the Hub takes Python 3.10, which transformers 5 does not run on, and whatever Gradio is new.
    for key, form, fix in (
        ("sdk", r"gradio|docker|static", "sdk: gradio"),
        *((("sdk_version", r"\d+\.\d+\.\d+", "sdk_version: 6.31.0"),) if front.get("sdk") == "gradio" else ()),
        *((("python_version", r"3\.\d+", 'python_version: "3.12"'),) if front.get("sdk") == "gradio" else ()),
    ):
        if not re.fullmatch(form, str(front.get(key, ""))):
            raise InputError(
                f"{what}: README.md",
                expected=f"`{key}`, as {fix}",
                found=str(front.get(key, "none")),
                fix=f"write {fix}",
            )
    app = str(front.get("app_file", "app.py"))
    if front["sdk"] == "gradio" and not (folder / app).is_file():
        raise InputError(what, expected=app, found="none", fix="write it, or name it: app_file")
    return front


def with_models(text: str, models: list[str]) -> str:
    """A README.md whose `models:` are these; all other lines stay as they are."""
    found = _FRONT.match(text)
    if not found:
        return text
    lines, kept, inside = found.group(1).splitlines(), [], False
    for line in lines:
        inside = line.startswith("models:") or (inside and line.startswith((" ", "-", "\t")))
        if not inside:
            kept.append(line)
    front = "\n".join([*kept, yaml.safe_dump({"models": models}).rstrip()])
    return f"---\n{front}\n---\n{text[found.end() :]}"


def with_dependencies(text: str, engine: str | None = None, light: str | None = None) -> str:
    """A requirements.txt in which hf_fashion's dependencies stand in its place.

    Args:
        text: It.
        engine: The package that runs an exported model, where the Space shows one: it is added.
        light: Names of packages that suffice for an exported model; they take the place of all of `text`.
    """
    if engine is not None and light is not None:
        every = {canonicalize_name(Requirement(told).name): told for told in dependencies({"export", "litert"})}
        wanted_ones = [line.strip() for line in light.splitlines() if line.strip() and not line.startswith("#")]
        return "\n".join(every.get(canonicalize_name(name), name) for name in [*wanted_ones, engine]) + "\n"
    if engine is not None:
        [told] = with_dependencies("", engine, "").splitlines()
        return f"{with_dependencies(text)}{told}\n"
    lines = text.splitlines()
    named = {canonicalize_name(wanted.name) for wanted in map(_requirement, lines) if wanted}
    made: list[str] = []
    for line in lines:
        wanted = _requirement(line)
        if wanted is None or canonicalize_name(wanted.name) != LIBRARY:
            made.append(line)
            continue
        made += [
            told for told in dependencies(wanted.extras) if canonicalize_name(Requirement(told).name) not in named
        ]
    return "\n".join(made) + "\n"


def dependencies(extras: set[str]) -> list[str]:
    """What hf_fashion requires, with some extras; not Gradio, whose version is the README's."""
    made = []
    for told in importlib.metadata.requires(LIBRARY) or []:
        wanted = Requirement(told)
        marker = wanted.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ["", *extras]):
            wanted.marker = None if marker and "extra" in str(marker) else marker
            if canonicalize_name(wanted.name) not in ("gradio", LIBRARY):
                made.append(str(wanted))
    return list(dict.fromkeys(made))


def library() -> dict[str, bytes | Path]:
    """The files of hf_fashion, wherever it is installed, and what names its version: path in the Space -> file.

    Raises:
        InputError: Somebody wrote a secret into one of them.
    """
    root = Path(hf_fashion.__file__).parent
    told = importlib.metadata.distribution(LIBRARY)
    # What was installed; of a checkout (`pip install -e`) that list names no file of the package.
    installed = {line.split(",")[0] for line in (told.read_text("RECORD") or "").splitlines()}
    installed = {name for name in installed if name.startswith("hf_fashion/")}
    files: dict[str, bytes | Path] = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        name = "/".join(("hf_fashion", *parts))
        outside = path.is_symlink() or not path.resolve().is_relative_to(root.resolve()) or not path.is_file()
        if outside or set(parts) & set(_NOT_SERVED) or any(part.startswith(".") for part in parts):
            continue
        if path.suffix not in _SERVED and path.name != "py.typed" or (installed and name not in installed):
            continue
        content = path.read_bytes()
        for line, kind in secrets.found_in(content.decode("utf-8", "replace")):
            raise InputError(
                f"{path}, line {line}", expected="nothing that others could use in your name", found=kind,
                fix="take it out of the installed library, and revoke it",
            )  # fmt: skip
        files[name] = content
    metadata = told.read_text("METADATA") or told.read_text("PKG-INFO") or ""
    files[f"hf_fashion-{hf_fashion.__version__}.dist-info/METADATA"] = metadata.encode("utf-8")
    return files


def _names_library(requirements: Path) -> str | None:
    """The line that asks for hf_fashion, if one does."""
    for line in requirements.read_text(encoding="utf-8").splitlines():
        wanted = _requirement(line)
        if wanted is not None and canonicalize_name(wanted.name) == LIBRARY:
            return line.strip()
    return None


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line.split(" #")[0].strip())
    except InvalidRequirement:  # an option, a comment, an empty line
        return None


def _on_hub(model: str, token: str | None) -> str:
    """The id of a model on the Hub.

    Raises:
        InputError: A folder of this machine, which a Space does not see; or no id.
        HubError: The Hub could not be asked whose a lone name is.
    """
    if repo_id(model) is not None or Path(model).is_dir():
        folder = Path(model).is_dir()
        raise InputError(
            f"--model {model}", expected="the id of a model on the Hub, which the Space loads",
            found="a folder of this machine" if folder else str(repo_id(model)),
            fix=f"hf-fashion push {shlex.quote(model)} NAME, then --model NAME" if folder else "--model USER/NAME",
        )  # fmt: skip
    if "/" in model:
        return model
    return f"{ask(f'the model {model}', api(token).whoami)['name']}/{model}"


def _engine(model: str, token: str | None) -> str | None:
    """The package that runs a model of the Hub, if it is an export.

    Raises:
        HubError: There is no such model.
    """
    told = ask(f"the model {model}", lambda: api(token).model_info(model))
    if not any(file.rfilename == runtime.ABOUT for file in told.siblings or ()):
        return None
    path = ask(f"the model {model}", lambda: hf_hub_download(model, runtime.ABOUT, token=token, revision=told.sha))
    try:
        return ENGINES.get(json.loads(Path(path).read_text(encoding="utf-8"))["format"])
    except (ValueError, KeyError, TypeError):  # none of ours
        return None


def _tell_kept(target: Target, token: str | None) -> None:
    """Says which model a Space goes on to show that is pushed again without naming one."""
    kept = ask(f"push to {target.repo}", lambda: api(token).get_space_variables(target.repo)).get(VARIABLE)
    if kept is not None:
        print(f"the Space goes on to show {kept.value}, as its variable {VARIABLE} says; --model names another")


def _is_private(model: str, token: str | None) -> bool:
    """Whether a model of the Hub is; HubError where there is none."""
    return bool(ask(f"the model {model}", lambda: api(token).model_info(model)).private)


def _refuse_unparsable(folder: Path, made: clean.Export, version: str) -> None:
    """Raises InputError for Python that cannot be parsed: the Space would only tell so after it was built."""
    for path in sorted(path for path in made.files if path.endswith(".py")):
        content = made.files[path]
        try:
            ast.parse(content if isinstance(content, bytes) else content.read_bytes())
        except (SyntaxError, ValueError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            here = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise InputError(
                f"{folder / path}{line}", expected="Python that can be parsed",
                found=getattr(error, "msg", None) or str(error),
                fix="mend it" + (f"; if it is right in Python {version}, push with that: this is {here}"
                                 if version not in ("", here) else ""),
            ) from None  # fmt: skip
