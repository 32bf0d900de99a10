"""What must not leave with a text: secrets stop a push, paths of this machine are cut to their last part."""

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import unquote

# Letters and a digit: a word of prose or code that follows `token:` has none.
_MIXED = r"(?=[\w.+/=~-]*[0-9])(?=[\w.+/=~-]*[A-Za-z])"
# What stands in the place of a secret, where it is done right: a variable of the shell, a name of the program, a call.
_VARIABLE = r"(?-i:\$\{?[A-Z][A-Z_]*\}?)(?!\w)"
_CODE = rf"(?:{_VARIABLE}|[a-z_][\w.]*[(\[]|[a-z_]+(?:\.[a-z_]+)+(?![^\s,;)}}\]])|your[_-])"
# Kind -> how such a secret looks. Each has a prefix or a length that nothing else has.
SECRETS = {
    "a Hugging Face token": r"(?:hf_|api_org_)[A-Za-z0-9]{20,}",
    "a GitHub token": r"(?:gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a GitLab token": r"glpat-[\w-]{20,}",
    "a key of OpenAI or Anthropic": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}",
    "an AWS key": r"(?<![A-Z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a Google key": r"(?<![A-Za-z0-9])AIza[\w-]{35}",
    "a Slack token": r"(?<![A-Za-z0-9])xox[abeprs]-[\w-]{10,}|hooks\.slack\.com/services/[\w/-]{16,}",
    "a PyPI or npm token": r"(?:pypi-AgE[\w-]{20,}|npm_[A-Za-z0-9]{36})",
    "a Stripe key": r"(?<![A-Za-z0-9])[rs]k_(?:live|test)_[A-Za-z0-9]{20,}",
    "a signed web token": r"(?<![A-Za-z0-9])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a SendGrid key": r"(?<![A-Za-z0-9])SG\.[\w-]{16,}\.[\w-]{30,}",
    "a Groq key": r"(?<![A-Za-z0-9])gsk_[A-Za-z0-9]{20,}",
    "an Azure key": r"(?i)(?:account|sharedaccess)key\s*=\s*[\w+/=-]{20,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
    "a password in an address": (
        rf"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"<>]+:(?!{_VARIABLE}@|\{{[\w.]+\}}@)[^\s/@'\"<>]+@"
    ),
    "a token in an address": rf"\b[a-z][a-z0-9+.-]*://{_MIXED}[A-Za-z0-9_.~-]{{16,}}@",
    "a signed address": r"[?&](?:X-Amz-Signature|X-Goog-Signature|sig|AWSAccessKeyId)=[\w%+/=-]{16,}",
    "an authorization": r"(?i)\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic)\s+[\w.+/=-]{8,}",
    "a bearer's token": rf"(?i)\bbearer\s+{_MIXED}[\w.+/=~-]{{12,}}",
    "a token or password": (
        rf"(?i)(?<![a-z])(?:token|pass|passphrase|pwd|secret)['\"]?\s*[:=]\s*['\"]?{_MIXED}[\w.+/=~-]{{12,}}"
    ),
    "a password or key": (
        r"(?i)(?<![a-z])(?:password|passwd|(?:api|secret|access|private|wandb|hub)[_-]?(?:api[_-]?)?(?:key|token)"
        rf"|client[_-]?secret|aws_secret_access_key)['\"]?\s*[:=]\s*(?:['\"]|(?!{_CODE}))"
        r"(?!none\b|null\b|true\b|false\b|your[_-])"
        r"[^\s'\",;<>{}\[\]()*]{8,}"
    ),
}  # fmt: skip
_SECRETS = {kind: re.compile(pattern) for kind, pattern in SECRETS.items()}
# What is looked for in base64: its beginning is so long that no picture has it by chance.
_IN_BASE64 = ("a Hugging Face token", "a GitHub token", "a GitLab token", "a PyPI or npm token", "a private key")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{32,}")
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))  # letters without a width

# Entries of a model's or tokenizer's JSON files whose texts are what the model knows: one letter else breaks it.
AS_THEY_ARE = frozenset({"id2label", "label2id", "attribute_groups", "labels", "vocab", "merges", "added_tokens"})

# Where homes and data of machines lie; beside them whatever lies at the root of this one.
_ROOTS = frozenset({
    "Users", "Volumes", "afs", "cluster", "content", "data", "gpfs", "home", "kaggle", "lustre", "media", "mnt",
    "nfs", "opt", "private", "root", "scratch", "srv", "tmp", "usr", "var", "workspace",
})  # fmt: skip
_POSIX = re.compile(r"(?<![\w./:~@%&?=#-])(?:file://)?/(?!/)[^\s'\"`<>|,;:(){}\[\]*?]+|file://[^\s'\"`<>|]+")
_AFTER_A_MARK = re.compile(r"(?:(?<=[:=@])|(?<=-[IL]))/(?!/)[^\s'\"`<>|,;:(){}\[\]*?]+")
# Homes that are spelt otherwise: with slashes in numbers or in twos, or with blanks in the user's name.
_ENCODED = re.compile(r"%2F(?:home|Users)%2F[\w.%+-]+", re.IGNORECASE)
_TWO_SLASHES = re.compile(r"(?<![\w:/.])//+(?:home|Users)/[^\s'\"`<>|,;:(){}\[\]*?]+")
_WITH_BLANKS = re.compile(
    r"(?<![\w./])(?:[A-Za-z]:\\{1,2}Users\\{1,2}|/home/|/Users/)[\w.-]+"
    r"(?: (?!(?:and|or|to|in|from|with|is|on|as|at|of|for|by)\b)[\w.-]+){1,2}[\\/][^\s'\"`<>|,;:(){}\[\]*?]+"
)
_HOME_ALONE = re.compile(r"(?:/|[A-Za-z]:[\\/]+|/[A-Za-z]/)(?:home|Users)[\\/]+[^\\/]+[\\/]*", re.IGNORECASE)
_WINDOWS = re.compile(
    r"(?<![A-Za-z])[A-Za-z]:(?:\\{1,2}|/)(?!/)[^\s'\"`<>|,;:*?]+|(?<!\\)\\\\[\w.-]+\\[^\s'\"`<>|,;:*?]+"
)


def found_in(text: str) -> Iterator[tuple[int, str]]:
    """Line number and kind of each secret in a text; the secret itself is never told."""
    text = text.translate(_UNSEEN)
    for kind, pattern in _SECRETS.items():
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, kind
    for match in _BASE64.finditer(text):
        run = match.group().replace("-", "+").replace("_", "/")
        for start in range(4):  # what stands before it may look like a part of it
            part = run[start : len(run) - (len(run) - start) % 4]
            rest = run[start + len(part) :]
            part += rest + "=" * (4 - len(rest)) if len(rest) > 1 else ""
            decoded = base64.b64decode(part).decode("latin-1")
            for kind in _IN_BASE64:
                if _SECRETS[kind].search(decoded):
                    yield text.count("\n", 0, match.start()) + 1, f"{kind}, in base64"


def without_paths(text: str) -> tuple[str, int]:
    """A text in which each absolute path of a machine is cut to its last part.

    Returns:
        The text, and how many paths were cut.
    """
    return _without(text, _of_a_machine)


def without_own_paths(text: str) -> tuple[str, int]:
    """The same for paths of this machine only: what merely looks like one, as `/home/dresses`, is somebody's text."""
    if "\n" not in text and _is_here(text):
        return _last_part(text), 1
    return _without(text, _is_here)


def _without(text: str, wanted: Callable[[str], bool]) -> tuple[str, int]:
    count = 0

    def cut(match: re.Match[str]) -> str:
        nonlocal count
        whole = match.group()
        path = whole.rstrip(".!")
        if not wanted(_plain(path)):
            return whole
        count += 1
        return _last_part(_plain(path)) + whole[len(path) :]

    for pattern in (_WITH_BLANKS, _WINDOWS, _ENCODED, _TWO_SLASHES, _POSIX, _AFTER_A_MARK):
        text = pattern.sub(cut, text)
    # A home whose name has blanks or commas is not seen as one path.
    for private in _own_folders():
        for spelt in {private, json.dumps(private)[1:-1]}:
            if spelt in text:
                count += text.count(spelt)
                text = text.replace(spelt + "/", "").replace(spelt, _last_part(private))
    return text, count


def without_paths_in(value: Any) -> tuple[Any, int]:
    """The same for what a JSON file holds, where a text that is a path as a whole may have blanks."""
    if isinstance(value, dict):
        made: dict[Any, Any] = {}
        count = 0
        for key, entry in value.items():
            if key in AS_THEY_ARE:
                made[key] = entry
                continue
            (name, k), (shown, n) = without_paths_in(key), without_paths_in(entry)
            count += k + n
            cut, number = name, 1
            while k and (name in made or name in value):  # two paths with the same end stay two entries
                number += 1
                name = f"{cut} ({number})"
            made[name] = shown
        return made, count
    if isinstance(value, list):
        each = [without_paths_in(entry) for entry in value]
        return [entry for entry, _ in each], sum(n for _, n in each)
    if not isinstance(value, str):
        return value, 0
    if "\n" not in value and _of_a_machine(value) and not _is_command(value):
        return _last_part(value), 1
    return without_paths(value)


def _is_command(text: str) -> bool:
    return " --" in text or " -" in text


def _of_a_machine(path: str) -> bool:
    """Whether an absolute path names a place on a disk, and not a route of a website as `/api/models`."""
    if path.startswith("file://") or re.match(r"[A-Za-z]:[\\/]|\\\\|/[A-Za-z]/Users/", path):
        return True
    parts = path.split("/")
    return len(parts) > 2 and parts[0] == "" and bool(parts[2]) and (parts[1] in _ROOTS or parts[1] in _at_the_root())


def _is_here(path: str) -> bool:
    """Whether a text names a place of this machine."""
    if path.startswith("file://"):
        return True
    if not os.path.isabs(path) or len(Path(path).parts) < 3:
        return False
    try:
        return any(Path(path).is_relative_to(own) for own in _own_folders()) or os.path.lexists(path)
    except (OSError, ValueError):  # too long for a path, or with a zero in it
        return False


def _plain(path: str) -> str:
    """A path as it would be typed."""
    path = unquote(path) if path[:3].upper() == "%2F" else path
    return re.sub(r"\A/{2,}", "/", path)


@cache
def _at_the_root() -> frozenset[str]:
    return frozenset(os.listdir("/")) if os.path.isdir("/") else frozenset()


@cache
def _own_folders() -> tuple[str, ...]:
    """The home and the working folder, unless they are as general as `/`."""
    places = {str(Path.home()), os.getcwd(), os.path.realpath(os.getcwd())}
    return tuple(sorted((place for place in places if len(Path(place).parts) > 2), key=len, reverse=True))


def _last_part(path: str) -> str:
    path = path.removeprefix("file://")
    # The last part of a home is the name of whom it belongs to.
    if _HOME_ALONE.fullmatch(path) or path.rstrip("/\\") == str(Path.home()):
        return "~"
    return PureWindowsPath(path.rstrip("/\\")).name
