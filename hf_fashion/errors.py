"""The error for what a user gave: what was expected, what was found, what to type next; and how that is typed."""

import contextlib
import errno
import functools
import gc
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """Something that the user gave cannot be used.

    Args:
        what: One line that names the setting, file, row or column.
        expected: What would have been right.
        found: What was there.
        fix: What to type, or to change, next.
    """

    def __init__(self, what: str, *, expected: str, found: str, fix: str) -> None:
        self.what, self.expected, self.found, self.fix = what, expected, found, fix
        text = f"{what}\n  expected: {expected}\n  found:    {found}\n  to do:    {fix}"
        # Names of files and columns may hold what a terminal obeys.
        super().__init__("\n".join(printable(line) for line in text.split("\n")))


def printable(text: str) -> str:
    """Text with what cannot be printed (line ends, control characters, turns of the writing direction) written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# How a process ends that was asked to, when it can go on later: EX_TEMPFAIL of BSD's sysexits.h.
INTERRUPTED = 75


class Interrupted(SystemExit):
    """The run was asked to end (SIGTERM, Ctrl-C); the process ends with `INTERRUPTED` where nothing catches it.

    Args:
        what: What asked, and what was done.
    """

    def __init__(self, what: str) -> None:
        super().__init__(INTERRUPTED)
        self.what = what

    def __str__(self) -> str:
        return self.what


def command(recipe: str) -> str:
    """How a recipe is typed, in the way in which this process was started: who installed the library has no checkout.

    Args:
        recipe: Its stem.

    Returns:
        `hf-fashion <recipe>`, `accelerate launch -m hf_fashion.recipes.<recipe>`, or, in a checkout and from Python,
        `accelerate launch recipes/<recipe>.py`.
    """
    module = str(getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", ""))  # what stands behind -m
    if Path(sys.argv[0]).stem == "hf-fashion" or module == "hf_fashion.cli":
        return f"hf-fashion {recipe}"
    if module.startswith("hf_fashion.recipes."):
        return f"accelerate launch -m hf_fashion.recipes.{recipe}"
    return f"accelerate launch recipes/{recipe}.py"


def from_here(tokens: Sequence[str]) -> list[str]:
    """Tokens of a command line, whose absolute paths in the working folder are seen from there: so they can be typed
    again, and say nothing of where that folder lies.

    Args:
        tokens: Also as `--setting=path`.
    """
    here = Path.cwd()
    seen = []
    for setting, value in map(setting_and_value, tokens):
        path = Path(value)
        if path.is_absolute() and path.is_relative_to(here) and here != Path(here.anchor):
            value = path.relative_to(here).as_posix()
            # A name alone may be one of ours (`sample`), of a model on the Hub, or a setting.
            value = value if "/" in value or value == "." else f"./{value}"
        seen.append(setting + value)
    return seen


def setting_and_value(token: str) -> tuple[str, str]:
    """A token in two: `--setting=`, `-o`, `module:` of a source of photos, or several of these or none, and the value
    that stands behind in the same token."""
    setting, value = re.fullmatch(r"(-\w=?|--[\w-]+=)?(.*)", token, re.DOTALL).groups()  # type: ignore[union-attr]
    setting = setting or ""
    if module := re.match(r"[a-z]\w+:(?=/(?!/))", value):  # fashion_mnist:/data, see `data.load`
        setting, value = setting + module[0], value[module.end() :]
    return setting, value


def in_range(name: str, value: float, lowest: float, highest: float) -> None:
    """Raises InputError unless the setting `name` lies between the two, both included."""
    if not lowest <= value <= highest:
        raise InputError(
            f"--{name} {value}",
            expected=f"{lowest:g} to {highest:g}",
            found=str(value),
            fix=f"--{name} with a value between them",
        )


@contextlib.contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turns what a library raises about a user's settings into an `InputError` with the library's own words."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise InputError(
            what,
            expected="values that the library takes",
            found=f"{type(error).__name__}: {error}",
            fix="change the setting that it names",
        ) from error


@contextlib.contextmanager
def extra(what: str, package: str, name: str) -> Iterator[None]:
    """Turns the lack of an optional package, imported inside, into an `InputError`.

    Args:
        what: What needs it.
        package: Its name.
        name: Of the extra of hf_fashion that brings it.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            what, expected=f"the package {package}", found="it is not installed",
            fix=f"pip install 'hf_fashion[{name}]'",
        ) from error  # fmt: skip


# "No space left on device", "Disk quota exceeded", "File too large".
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


@contextlib.contextmanager
def writing(
    what: str, fix: str = "make room there; a run goes on with --resume_from_checkpoint last"
) -> Iterator[None]:  # fmt: skip
    """Turns what is raised when a disk is full, by Python, torch or safetensors, into an `InputError`.

    Args:
        what: What is being written.
        fix: What to do about it, where it is no run that goes on.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # torch's writer says only that a write failed, and safetensors puts the system's words into a message.
        words = (*map(os.strerror, _FULL), "PytorchStreamWriter", "inline_container")
        if getattr(error, "errno", None) not in _FULL and not any(word in str(error) for word in words):
            raise
        raise InputError(
            what, expected="a disk with room for it", found=f"{type(error).__name__}: {error}".splitlines()[0], fix=fix
        ) from error  # fmt: skip


def script(main: Callable[..., Any]) -> Callable[..., None]:
    """Wraps a recipe's `main` for the command line.

    The process ends with 0, or with 1 and the message of an `InputError` instead of a traceback; with `INTERRUPTED`
    when it was asked to end and can go on later; with 130 when Ctrl-C broke it off.
    """

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> None:
        ended: str | None = None
        try:
            main(*args, **kwargs)
            _leave_group()
        except Interrupted as error:
            _leave_group()
            ended = error.what
        except InputError as error:
            sys.exit(f"\nerror: {error}\n")
        except KeyboardInterrupt:
            sys.exit(130)  # as a shell reports it; what to type next was printed where it is known
        if ended is not None:
            # With the error its frames are gone, and with these the processes that load photos end by themselves;
            # those that are left when the interpreter ends are killed, which torch takes for a fault.
            gc.collect()
            raise Interrupted(ended)

    return run


def _leave_group() -> None:
    # Several processes may abort when the interpreter ends before their group does. Not imported here, since a word
    # that needs no net needs no torch.
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()
