"""What must not leave with a text: secrets stop a push, paths of this machine are cut to their last part."""

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

# Kind -> how such a secret looks. Each has a prefix or a length that nothing else has.
SECRETS = {
    "a Hugging Face token": r"\b(?:hf_|api_org_)[A-Za-z0-9]{20,}",
    "a GitHub token": r"\b(?:gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a key of OpenAI or Anthropic": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}",
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a Google key": r"\bAIza[\w-]{35}",
    "a Slack token": r"\bxox[abeprs]-[\w-]{10,}",
    "a PyPI or npm token": r"\b(?:pypi-AgE[\w-]{20,}|npm_[A-Za-z0-9]{36})",
    "a Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{20,}",
    "a signed web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"<>]+:[^\s/@'\"<>]+@",
    "a signed address": r"[?&](?:X-Amz-Signature|X-Goog-Signature|sig|AWSAccessKeyId)=[\w%+/=-]{16,}",
    "an authorization": r"(?i)\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic)\s+[\w.+/=-]{8,}",
    "a password or key": (
        r"(?i)(?<![a-z])(?:password|passwd|(?:api|secret|access|private|wandb|hub)[_-]?(?:api[_-]?)?(?:key|token)"
        r"|client[_-]?secret|aws_secret_access_key)['\"]?\s*[:=]\s*['\"]?(?!none\b|null\b|true\b|false\b)"
        r"[^\s'\",;<>{}\[\]()*]{8,}"
    ),
}  # fmt: skip
_SECRETS = {kind: re.compile(pattern) for kind, pattern in SECRETS.items()}

# Where homes and data of machines lie; beside them whatever lies at the root of this one.
_ROOTS = frozenset({
    "Users", "Volumes", "content", "data", "home", "kaggle", "lustre", "media", "mnt", "nfs", "opt", "private",
    "root", "scratch", "srv", "tmp", "usr", "var", "workspace",
})  # fmt: skip
_POSIX = re.compile(r"(?<![\w./:~@%&?=#-])(?:file://)?/(?!/)[^\s'\"`<>|,;:(){}\[\]*?]+|file://[^\s'\"`<>|]+")
_AFTER_EQUALS = re.compile(r"(?<==)/(?!/)[^\s'\"`<>|,;:(){}\[\]*?]+")
_WINDOWS = re.compile(
    r"(?<![A-Za-z])[A-Za-z]:(?:\\{1,2}|/)(?!/)[^\s'\"`<>|,;:*?]+|(?<!\\)\\\\[\w.-]+\\[^\s'\"`<>|,;:*?]+"
)


def found_in(text: str) -> Iterator[tuple[int, str]]:
    """Line number and kind of each secret in a text; the secret itself is never told."""
    for kind, pattern in _SECRETS.items():
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, kind


def without_paths(text: str) -> tuple[str, int]:
    """A text in which each absolute path of a machine is cut to its last part.

    Returns:
        The text, and how many paths were cut.
    """
    count = 0

    def cut(match: re.Match[str]) -> str:
        nonlocal count
        whole = match.group()
        path = whole.rstrip(".!")
        if not _of_a_machine(path):
            return whole
        count += 1
        return _last_part(path) + whole[len(path) :]

    for pattern in (_WINDOWS, _POSIX, _AFTER_EQUALS):
        text = pattern.sub(cut, text)
    # A home whose name has blanks or commas is not seen as one path.
    for private in _own_folders():
        for spelt in {private, json.dumps(private)[1:-1]}:
            if spelt in text:
                count += text.count(spelt)
                text = text.replace(spelt + "/", "").replace(spelt, PureWindowsPath(private).name)
    return text, count


def without_paths_in(value: Any) -> tuple[Any, int]:
    """The same for what a JSON file holds, where a text that is a path as a whole may have blanks."""
    if isinstance(value, dict):
        entries = [(without_paths_in(key), without_paths_in(entry)) for key, entry in value.items()]
        return {key: entry for (key, _), (entry, _) in entries}, sum(k + n for (_, k), (_, n) in entries)
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
    if path.startswith("file://") or re.match(r"[A-Za-z]:[\\/]|\\\\", path):
        return True
    parts = path.split("/")
    return len(parts) > 2 and parts[0] == "" and bool(parts[2]) and (parts[1] in _ROOTS or parts[1] in _at_the_root())


@cache
def _at_the_root() -> frozenset[str]:
    return frozenset(os.listdir("/")) if os.path.isdir("/") else frozenset()


@cache
def _own_folders() -> tuple[str, ...]:
    """The home and the working folder, unless they are as general as `/`."""
    places = {str(Path.home()), os.getcwd(), os.path.realpath(os.getcwd())}
    return tuple(sorted((place for place in places if len(Path(place).parts) > 2), key=len, reverse=True))


def _last_part(path: str) -> str:
    return PureWindowsPath(path.removeprefix("file://").rstrip("/\\")).name
