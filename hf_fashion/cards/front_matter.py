"""The YAML of a card, with its lines: what is wrong is told as a user finds it, all of it in one message."""

import difflib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from hf_fashion.errors import InputError, printable

Place = tuple[str | int, ...]  # as ("widget", 0, "src")
MOST = 100_000  # values; a nest of aliases grows to any size


class Metadata:
    """The YAML block of a card, or a YAML file: its values, their lines, and what is wrong with them.

    Args:
        text: The card, or the file.
        name: What messages call it.
        block: The YAML stands in a block at the top of a card.

    Attributes:
        values: The parsed YAML.
        body: The text behind the block.
        warnings: What is no error, in sentences.

    Raises:
        InputError: There is no block, it is no YAML, or it has a key twice.
    """

    def __init__(self, text: str, name: str, block: bool = True) -> None:
        self.name = name
        self.warnings: list[str] = []
        self._errors: list[tuple[str, str, str, str]] = []
        match = REGEX_YAML_BLOCK.match(text.removeprefix("\ufeff")) if block else None
        if block and match is None:
            raise InputError(
                name, expected="metadata at its very top: YAML between two lines of ---",
                found="no such block" if text.strip() else "an empty file", fix="begin the file with --- and metadata",
            )  # fmt: skip
        self.body = text[match.end() :] if match else ""
        source = match.group(2) if match else text
        self._first = match.group(1).count("\n") + 1 if match else 1
        self._lines: dict[Place, int] = {}
        self.raw: dict[Place, str] = {}  # scalars as they were typed: YAML makes 3.1 of 3.10
        try:
            node = yaml.compose(source, Loader=yaml.SafeLoader)
            if node is not None:
                self._walk(node, (), set())
            self.values = yaml.safe_load(source)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + self._first}" if mark else ""
            problem = getattr(error, "problem", None) or str(error) or type(error).__name__
            raise InputError(
                f"{name}{line}", expected="YAML", found=str(problem).splitlines()[0],
                fix='mend that line; a value with a colon or a # stands in quotes: title: "a: b"',
            ) from error  # fmt: skip
        if block and not isinstance(self.values, dict):
            raise InputError(
                f"{name}, line {self._first}", expected="`key: value` lines", found=told(self.values),
                fix="write the metadata, as license: apache-2.0",
            )  # fmt: skip
        self.raise_on_errors()

    @property
    def errors(self) -> int:
        """How many errors were found so far."""
        return len(self._errors)

    def _walk(self, node: Any, place: Place, above: set[int]) -> None:
        self._lines.setdefault(place, node.start_mark.line + self._first)
        if id(node) in above:  # an alias of what it stands in
            raise yaml.MarkedYAMLError(problem="an alias within itself", problem_mark=node.start_mark)
        if len(self._lines) > MOST:  # a nest of aliases grows to any size
            raise yaml.MarkedYAMLError(problem="more values than a card has", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                here = (*place, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")
                self._lines[here] = key.start_mark.line + self._first
                if here[-1] in seen:
                    self.wrong(here, "each key once", "the key a second time", "keep one of the two")
                seen.add(str(here[-1]))
                self._walk(value, here, above | {id(node)})
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._walk(value, (*place, number), above | {id(node)})
        else:
            self.raw[place] = node.value

    def wrong(self, place: Place, expected: str, found: str, fix: str, *, refused: bool = True) -> None:
        """Notes what is wrong at a place: an error where the Hub refuses it, a warning where it does not."""
        near = next((place[:n] for n in range(len(place), -1, -1) if place[:n] in self._lines), ())
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        where = f"line {self._lines.get(near, self._first)}" + f", {key}" * bool(key)
        if refused:
            self._errors.append((where, expected, found, fix))
        else:
            self.warnings.append(printable(f"{self.name}, {where}: {found}; expected {expected}; to do: {fix}"))

    def raise_on_errors(self) -> None:
        """Raises InputError with all that was found wrong, if anything was."""
        if not self._errors:
            return
        if len(self._errors) == 1:
            [(where, expected, found, fix)] = self._errors
            raise InputError(f"{self.name}, {where}", expected=expected, found=found, fix=fix)
        told = "".join(
            f"\n  {where}: {found}\n    expected {expected}; {fix}" for where, expected, found, fix in self._errors
        )
        raise InputError(
            f"{self.name}: {len(self._errors)} errors in its metadata", expected="metadata that the Hub takes",
            found=told, fix="what stands behind each",
        )  # fmt: skip

    def get(self, *place: str | int) -> Any:
        """The value at a place, None where there is none."""
        value: Any = self.values
        for part in place:
            if isinstance(value, dict) and isinstance(part, str):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def string(self, *place: str | int, needed: bool = False, example: str = "text") -> str | None:
        """The text at a place; notes what is none, and that it is missing where it is needed."""
        value = self.get(*place)
        if isinstance(value, str) and (value.strip() or not needed):
            return value
        if value is not None or needed:
            self.wrong(place, "text", told(value), f"{place[-1]}: {example}")
        return None

    def strings(self, key: str, example: str = "text", lone: bool = True) -> Iterator[tuple[Place, str]]:
        """The texts of a key that holds a list of them, or one where `lone` is true."""
        value = self.get(key)
        if isinstance(value, str) and lone:
            yield (key,), value
        elif isinstance(value, list):
            for number, one in enumerate(value):
                if isinstance(one, str):
                    yield (key, number), one
                else:
                    self.wrong((key, number), "text", told(one), f'write it in quotes: "{self._typed(key, number)}"')
        elif value is not None:
            self.wrong((key,), "a list of texts", told(value), f"{key}: [{example}]")

    def _typed(self, *place: str | int) -> str:
        return self.raw.get(place, "...")

    def choice(self, place: Place, value: Any, allowed: Collection[str], *, refused: bool = True) -> None:
        """Notes a value that is none of those allowed."""
        if value is not None and value not in allowed:
            near = difflib.get_close_matches(str(value).lower(), allowed, n=1)
            key = next(part for part in reversed(place) if isinstance(part, str))
            example = near[0] if near else next(iter(allowed))
            self.wrong(place, "one of: " + ", ".join(allowed), told(value), f"{key}: {example}", refused=refused)

    def flags(self, *keys: str) -> None:
        """Notes values of these keys that are neither true nor false."""
        for key in keys:
            if self.get(key) is not None and not isinstance(self.get(key), bool):
                self.wrong((key,), "true or false", told(self.get(key)), f"{key}: false")

    def mappings(self, *place: str | int, example: str) -> Iterator[tuple[Place, dict[str, Any]]]:
        """The mappings of a list at a place, each with its own place."""
        value = self.get(*place)
        if value is not None and not isinstance(value, list):
            self.wrong(place, "a list", told(value), f"{place[-1]}:\n- {example}" if place else f"- {example}")
        for number, one in enumerate(value if isinstance(value, list) else ()):
            if isinstance(one, dict):
                yield (*place, number), one
            else:
                self.wrong((*place, number), f"keys and values, as {example}", told(one), f"- {example}")


def text_of(path: Path) -> str:
    """The text of a card.

    Raises:
        InputError: It cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            str(path),
            expected="a card, as UTF-8",
            found=f"{type(error).__name__}: {error}",
            fix="the path of a README.md",
        ) from error


def told(value: Any) -> str:
    """A value in a message, cut."""
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a list" if isinstance(value, list) else "keys and values"
    text = printable(f"{value} ({type(value).__name__})" if not isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:76] + " ..."
