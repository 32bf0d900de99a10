"""The error for what a user gave: what was expected, what was found, what to type next."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
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
        super().__init__(f"{what}\n  expected: {expected}\n  found:    {found}\n  to do:    {fix}")


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


def script(main: Callable[..., Any]) -> Callable[..., None]:
    """Wraps a recipe's `main` for the command line: an `InputError` ends it with its message, not a traceback."""

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            main(*args, **kwargs)
            # Several processes may abort when the interpreter ends before their group does. Not imported here, since
            # a word that needs no net needs no torch.
            distributed = sys.modules.get("torch.distributed")
            if distributed is not None and distributed.is_initialized():
                distributed.destroy_process_group()
        except InputError as error:
            sys.exit(f"\nerror: {error}\n")
        except KeyboardInterrupt:
            sys.exit(130)  # as a shell reports it; what to type next was printed where it is known

    return run
