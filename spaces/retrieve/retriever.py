"""The index behind the page: a photo, one of its garments, words, or both together in; what is nearest out."""

import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import columns
import light
import numpy as np
import photos
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from near import LEVEL, SAMPLE, Near

from hf_fashion import backbones, cropping, exports, index
from hf_fashion.backbones.encoders import takes_texts
from hf_fashion.backbones.sources import find, first_line
from hf_fashion.composed import composed
from hf_fashion.errors import InputError
from hf_fashion.index.rows import PICTURE
from hf_fashion.serving import Decoder, spare_a_core

VECTORS = "index.parquet"  # an index as `Index.to_parquet` writes it
GARMENTS = 8  # of a photo that are offered
CROP = 160  # pixels, the longer side of one as it is offered
MARGIN = 0.05  # of a garment's box, on each side
_QUERIES = 256  # photos whose vectors are kept, and whose garments
Box = tuple[float, float, float, float]  # x, y, width and height in pixels


@dataclass(frozen=True)
class Settings:
    """What the page serves; each is a variable of the Space, see app.py."""

    index: str
    index_revision: str | None = None
    model: str | None = None
    model_revision: str | None = None
    photos: str | None = None
    detector: str | None = None
    detector_revision: str | None = None
    speech: str | None = None
    speech_revision: str | None = None
    far: float = LEVEL


@dataclass(frozen=True)
class Garment:
    """One that the detector found in a photo: its class, score and box."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True)
class Found:
    """One photo of the index: its id, score and columns, and a small copy as JPEG, None where it is not there."""

    id: str
    score: float
    row: dict[str, Any]
    jpeg: bytes | None


@dataclass(frozen=True)
class Answer:
    """What was found, the nearest first.

    Args:
        found: The photos.
        limit: The score below which the best one is called far; None where nobody can tell.
        filtered: Whether a filter was set.
        by_photo: Whether a photo asked, or one with words.
    """

    found: list[Found]
    limit: float | None
    filtered: bool
    by_photo: bool = True

    @property
    def far(self) -> bool | None:
        """Whether even the nearest is far; None where nobody can tell."""
        return None if self.limit is None or not self.found else self.found[0].score < self.limit


class Retriever:
    """An index with its encoder, for many threads at once.

    Args:
        settings: What to serve.

    Attributes:
        index: Opened.
        folder: Where it lies; None of a server.
        model: The encoder's id or folder, and `revision`, its own.
        takes_words: Whether the encoder does.
        export: Where its files lie if it is an export, which takes none; else None.
        form: Its format and precision then; else None.
        detector: Where those of an exported detector lie; else None.
        columns: Of the index, see `columns.read`.
        near: What near means there.
        photos: The photos of what is found.

    Raises:
        InputError: The index, the model or the detector cannot be used, or the index is of another model.
    """

    def __init__(self, settings: Settings) -> None:
        spare_a_core()
        self.index, self.folder = opened(settings.index, settings.index_revision)
        made_by = self.index.made_by
        if not len(self.index):
            raise InputError(
                f"INDEX {settings.index}", expected="photos in it", found="none",
                fix=f"hf-fashion index PHOTOS MODEL -o {settings.index}",
            )  # fmt: skip
        self.model = settings.model or self.index.model
        self.revision = settings.model_revision if settings.model else made_by["revision"]
        self.export = exports.find(self.model, self.revision)
        try:
            self.encoder: Any = (
                backbones.load_encoder(self.model, revision=self.revision) if self.export is None
                else light.Encoder(self.model, self.export)
            )  # fmt: skip
        except InputError as error:
            if settings.model or Path(self.model).exists():
                raise
            raise InputError(
                f"the model of INDEX {settings.index}, '{self.model}'", found=error.found,
                expected="it where it was when the index was made", fix="MODEL=WHERE_IT_IS_NOW python app.py",
            ) from error  # fmt: skip
        if made_by["hash"] and self.export is None:
            same = index.identify(self.encoder, self.model, self.revision, normalised=made_by["normalised"])
            self.index.refuse_other(same, f"the model {self.model}")
        self._normalised = bool(made_by["normalised"])
        self._decoder, self._encoding, self._finding = Decoder(), threading.Lock(), threading.Lock()
        self.takes_words = self.export is None and takes_texts(self.encoder)
        self.form = None if self.export is None else self.encoder.net.form
        self.columns = columns.read(self.index, SAMPLE)
        self.near = Near(self.index, self.columns, self.read if self.takes_words else None, composed, settings.far)
        self.photos = photos.Photos(_places(settings.photos, self.folder))
        if self.export is not None:
            drawn = zip(self.columns.vectors, self.columns.drawn, strict=True)
            copies = ((vector, self.photos.small(row.get(PICTURE))) for vector, row in drawn)
            self.encoder.refuse_other(self.index, [*copies])
        self.detector = exports.find(settings.detector, settings.detector_revision) if settings.detector else None
        self._find = (
            _detector(settings.detector, settings.detector_revision) if self.detector is None
            else light.detector(str(settings.detector), self.detector)
        )  # fmt: skip
        # Asked again with another filter, a photo does not go through the nets again. No pixels are kept.
        self.garments = lru_cache(_QUERIES)(self._garments)
        self._look = lru_cache(_QUERIES)(self._vector)

    @property
    def finds_garments(self) -> bool:
        """Whether a detector is set."""
        return self._find is not None

    def look(self, photo: str | Path, garment: int | None = None) -> np.ndarray:
        """The vector (1, d) of a photo, or of one of its garments by its place in `garments`.

        Raises:
            ValueError: It cannot be read, or is too large; the text is the reason.
        """
        return self._look(Path(photo), garment)

    def crops(self, photo: str | Path) -> list[tuple[Garment, bytes]]:
        """The garments of a photo, with each cut out as a small JPEG; none without a detector.

        Raises:
            ValueError: As `look`.
        """
        found = self.garments(Path(photo))
        if not found:
            return []
        with self._decoder.open(photo) as image:
            return [(one, photos.small(cropping.cut(image, one.box, MARGIN), CROP)) for one in found]

    def read(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors (n, d) of texts."""
        return self._encode(list(texts))

    def vector_of(self, one: str) -> np.ndarray | None:
        """The vector (1, d) of a photo of the index; None where it has no such."""
        held = self.index.vectors_of([one]).get(one) if one else None
        return None if held is None else held[None]

    def row_of(self, one: str) -> dict[str, Any]:
        """The columns of a photo of the index."""
        return self.index.rows_of([one]).get(one, {})

    def search(
        self, photo: np.ndarray | None, words: str, weight: float, most: int, where: str | Mapping[str, Any] | None,
        without: str = "",
    ) -> Answer:  # fmt: skip
        """The nearest photos of the index.

        Args:
            photo: A vector (1, d), or None.
            words: Or "".
            weight: Of the words, from 0 to 1, where both are given.
            most: How many are wanted.
            where: A filter, as `Index.search` takes it.
            without: The id of a photo that is not looked for: the one that asks.

        Raises:
            InputError: A filter that cannot be.
        """
        query, share = photo, 0.0
        if words:
            read = self.read([words])
            query, share = (read, 1.0) if photo is None else (composed(photo, read, weight), weight)
        assert query is not None
        wanted = [*self.index.columns]
        found = self.index.search(query, most + bool(without), where, columns=wanted)
        made = [
            Found(one, float(score), row, self.photos.small(row.pop(PICTURE, None)))
            for one, score, row in zip(*(part[0] for part in found), strict=True)
            if one != without
        ]
        return Answer(made[:most], self.near.limit(photo is not None, share), bool(where), photo is not None)

    def _encode(self, inputs: list[Any]) -> np.ndarray:
        with self._encoding:
            made = self.encoder.encode(
                inputs, convert_to_numpy=True, normalize_embeddings=self._normalised, show_progress_bar=False
            )
        return np.asarray(made, dtype=np.float32)

    def _vector(self, photo: Path, garment: int | None) -> np.ndarray:
        chosen = None if garment is None else self.garments(photo)[garment]
        with self._decoder.open(photo) as image:
            seen = image if chosen is None else cropping.cut(image, chosen.box, MARGIN)
            return self._encode([seen])

    def _garments(self, photo: Path) -> list[Garment]:
        """The garments that the detector finds in a photo, the surest first.

        Raises:
            ValueError: It cannot be read, or is too large; the text is the reason.
        """
        if self._find is None:
            return []
        find, labels, threshold = self._find
        with self._decoder.open(photo) as image, self._finding:
            [boxes] = find([image], [{}])
        kept = [box for box in boxes if (box.score or 0) >= threshold]
        return [Garment(labels[box.label], float(box.score or 0), box.bbox) for box in kept[:GARMENTS]]


def opened(target: str, revision: str | None = None) -> tuple[index.Index, Path | None]:
    """An index, and the folder that it came in.

    Args:
        target: A folder that `hf-fashion index` wrote, or one with `VECTORS` in it; such a file; a data set or a
            model of the Hub that is such a folder; an address of Qdrant.
        revision: Of a repo of the Hub.

    Raises:
        InputError: There is none.
    """
    if target.startswith(("http://", "https://")):
        return index.open(target), None
    path = Path(target).expanduser()
    if path.is_file() and path.suffix == ".parquet":
        return _of_vectors(path), path.parent
    folder = path if path.is_dir() else _download(target, revision)
    file = folder / VECTORS
    if not index.exists(folder) and file.is_file():
        return _of_vectors(file), folder
    return index.open(folder), folder


def _of_vectors(file: Path) -> index.Index:
    """An index of a parquet file, in a folder that goes when it is needed no longer."""
    folder = tempfile.TemporaryDirectory(prefix="index_")
    made = index.from_parquet(file, folder.name)
    weakref.finalize(made, folder.cleanup)
    return made


def _download(target: str, revision: str | None, what: str = "INDEX") -> Path:
    """The files of a data set of the Hub, or of a model."""
    for kind in ("dataset", "model"):
        try:
            HfApi().repo_info(target, repo_type=kind, revision=revision, timeout=10)
            return Path(snapshot_download(target, repo_type=kind, revision=revision))
        except (RepositoryNotFoundError, HFValidationError):
            continue
        except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:  # offline, or no right to read it
            try:
                return Path(snapshot_download(target, repo_type=kind, revision=revision, local_files_only=True))
            except (OSError, ValueError):
                if kind == "dataset":
                    continue
                raise InputError(
                    f"{what} {target}", expected="a folder, an address of Qdrant, or a data set of the Hub",
                    found=f"no such folder, and the Hub says: {first_line(error)}",
                    fix="check the spelling; `hf auth login`, or the secret HF_TOKEN of a Space, for a private one",
                ) from error  # fmt: skip
    raise InputError(
        f"{what} {target}", expected="a folder, an address of Qdrant, or a data set of the Hub",
        found="no such folder, and the Hub has none of that name",
        fix="check the spelling; `hf auth login`, or the secret HF_TOKEN of a Space, for a private one",
    )  # fmt: skip


def _places(named: str | None, folder: Path | None) -> list[Path]:
    """Where the photos lie: what is named, else what was shipped with the index."""
    if named is None:
        return [] if folder is None else photos.beside(folder)
    path = Path(named).expanduser()
    return [path if path.exists() or named.count("/") != 1 else _download(named, None, "PHOTOS")]


def _detector(model: str | None, revision: str | None) -> tuple[cropping.Find, list[str], float] | None:
    """A function that finds garments, the names of its classes, and from which score they are believed."""
    if model is None:
        return None
    net, processor = backbones.load_detector(find(model, revision))
    told = cropping.score_threshold(net.config)
    threshold = cropping.USUAL if told is None else told
    labels = list(dict.fromkeys(cropping.class_names(net.config)))
    return cropping.found_boxes(net, processor, floor=min(cropping.FLOOR, threshold)), labels, threshold
