"""What is known of a source once it is opened, and what every way of opening one needs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from datasets import Dataset, DatasetDict, Features
from datasets.exceptions import DatasetsError
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from hf_fashion.errors import InputError
from hf_fashion.reading import aliases
from hf_fashion.report import cell

# Of a broken dataset.
FAULTS = (DatasetsError, OSError, ValueError, KeyError, RuntimeError, NotImplementedError)


class Part(NamedTuple):
    """The rows of one split as its source has them.

    Args:
        rows: All columns of the source.
        where: How each row is named in a finding; None for "split:number".
        folder: What paths in a column of text are relative to; None when text cannot be a path.
    """

    rows: Dataset
    where: Sequence[str] | None = None
    folder: Path | None = None


class Opened(NamedTuple):
    """A source as its library reads it.

    Args:
        kind: What it is, for people.
        parts: Name of each split, as the source says it -> its rows.
        license: Licence id, "" when it is not said.
        revision: Commit on the Hub.
        root: The folder that paths are told relative to.
    """

    kind: str
    parts: dict[str, Part]
    license: str = ""
    revision: str | None = None
    root: Path | None = None


class ParquetFiles(NamedTuple):
    """Where the rows of a source lie.

    Args:
        kind: See `Opened`.
        files: Name of each split, as the source says it -> paths, or addresses of fsspec.
        root: The folder of the source, "" on the Hub.
        features: Columns, when a README.md says them.
        license: See `Opened`.
        revision: See there.
    """

    kind: str
    files: dict[str, list[str]]
    root: str
    features: Features | None
    license: str = ""
    revision: str | None = None


def in_hand(kind: str, source: Dataset | DatasetDict, license_: str = "") -> Opened:
    """What is loaded already."""
    splits = {"train": source} if isinstance(source, Dataset) else {str(name): rows for name, rows in source.items()}
    said_ = next((text for rows in splits.values() if (text := license_of(rows.info.license))), license_)
    return Opened(kind, {name: Part(rows) for name, rows in splits.items()}, said_)


def readme(folder: Path) -> dict[str, Any]:
    """The metadata at the head of a folder's README.md, and those of a `.huggingface.yaml`, which datasets reads, too;
    empty when there is none that can be read.

    Raises:
        InputError: Aliases in them unfold into more than a memory holds.
    """
    told: dict[str, Any] = {}
    for name in ("README.md", ".huggingface.yaml"):
        try:
            text = (folder / name).read_text(encoding="utf-8-sig")
            if name == "README.md":
                head = REGEX_YAML_BLOCK.search(text)
                text = head[2] if head else ""
            aliases.refuse(f"folder {folder}: its {name}", text)
            values = yaml.safe_load(text)
        except InputError:
            raise
        except Exception:  # there is none, or the YAML parser's own errors: without a right head it says nothing
            continue
        told |= values if isinstance(values, dict) else {}
    return told


def license_of(told: Any) -> str:
    """The licence that metadata name, one or several, as text. Nests are none: aliases of YAML make bombs of them."""
    words = [word.strip() for word in (told if isinstance(told, list) else [told]) if isinstance(word, str)]
    text = ", ".join(words)
    return "" if text.lower() in ("unknown", "none") else text


def attempt(what: str, load: Callable[[], Any]) -> Any:
    """What `load` of datasets gives; its faults as an `InputError`."""
    try:
        return load()
    except FAULTS as error:
        raise InputError(
            what,
            expected="a dataset that `datasets` can load",
            found=said(error),
            fix="mend it, or give another",
        ) from error


def said(error: BaseException) -> str:
    """The text of an exception in one line; datasets puts the true reason into the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return cell(" ".join(str(error).split()) or type(error).__name__, 300)
