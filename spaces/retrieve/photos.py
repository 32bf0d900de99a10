"""The photos of what is found. An index holds none, only a hash of each photo's file (its column `picture`), and by
that they are found again: in `photos.parquet` or `photos/` beside the index, or in any folder of photos or parquet.

    python photos.py garments ./photos      # writes garments/photos.parquet: small copies, to go along to the Hub
"""

import hashlib
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hf_fashion import index
from hf_fashion.errors import InputError
from hf_fashion.images import decode
from hf_fashion.index.rows import PICTURE
from hf_fashion.serving import LIMITS, cores

FILE, FOLDER = "photos.parquet", "photos"
SIDE = 320  # pixels of a small copy's longer side
KEPT = 2000  # small copies in memory, some 15 KB each
_GROUP = 32  # rows that are read for one photo
_Place = tuple[Path, int, int]  # a parquet file, its row group, a row of it


class Photos:
    """Small copies of photos, by the hashes of their files.

    Args:
        places: Folders with photos or parquet files in them, or parquet files.

    Raises:
        InputError: There is no such place.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self._held: dict[str, Path | _Place] = {}
        self._reading = threading.Lock()  # a parquet file is read by one thread at a time
        self._decoding = threading.Semaphore(cores())
        for place in places:
            if not place.exists():
                raise InputError(
                    f"PHOTOS {place}", expected="a folder of photos or of parquet files", found="no such folder",
                    fix="the folder or data set that hf-fashion index was given",
                )  # fmt: skip
            for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
                if file.suffix == ".parquet":
                    self._held |= dict(_in_parquet(file))
                elif file.is_file() and 0 < file.stat().st_size <= LIMITS.max_bytes:
                    self._held[digest(file.read_bytes())] = file
        self.small = lru_cache(KEPT)(self._small)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, picture: str | None) -> bool:
        return picture in self._held

    def _small(self, picture: str | None) -> bytes | None:
        """A photo as a JPEG of at most `SIDE` pixels; None where it is not there, or cannot be read."""
        held = self._held.get(picture or "")
        try:
            if held is None:
                return None
            with self._decoding:
                return small(self._read(held))
        except (OSError, ValueError, pa.ArrowException):  # gone since, or no picture: its card says so
            return None

    def _read(self, held: Path | _Place) -> bytes:
        if isinstance(held, Path):
            return held.read_bytes()
        file, group, row = held
        with self._reading, pq.ParquetFile(file) as opened:
            column = _image_column(opened.schema_arrow)
            part = opened.read_row_group(group, columns=[f"{column}.bytes"]).column(str(column))
        data: bytes = part[row].as_py()["bytes"]
        return data


def beside(folder: Path) -> list[Path]:
    """Where photos lie that were shipped with an index."""
    return [place for place in (folder / FILE, folder / FOLDER) if place.exists()]


def digest(data: bytes) -> str:
    """The hash that an index has of a photo's file."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def small(photo: bytes | Image.Image, side: int = SIDE) -> bytes:
    """A small copy as JPEG, without metadata.

    Raises:
        ValueError: It cannot be read.
    """
    made = decode(photo, limits=LIMITS)
    made.thumbnail((side, side))
    buffer = BytesIO()
    made.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _image_column(schema: pa.Schema) -> str | None:
    """The column of photos, as `datasets` stores them: a struct with their bytes."""
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    return None


def _in_parquet(file: Path) -> Iterator[tuple[str, _Place]]:
    """The photos of a parquet file: those of `FILE` have their hashes beside them, all others are read once."""
    with pq.ParquetFile(file) as opened:
        image, told = _image_column(opened.schema_arrow), PICTURE in opened.schema_arrow.names
        if image is None:
            return
        for group in range(opened.num_row_groups):
            wanted = PICTURE if told else f"{image}.bytes"
            column = opened.read_row_group(group, columns=[wanted]).column(PICTURE if told else image)
            for row, value in enumerate(column):
                held = value.as_py()
                data = held if told or held is None else held["bytes"]
                if data:
                    yield data if told else digest(data), (file, group, row)


def write(folder: Path, places: Sequence[Path]) -> tuple[int, int]:
    """Writes small copies of the photos of an index into its folder.

    Args:
        folder: Of the index.
        places: See `Photos`.

    Returns:
        How many photos the index has, and of how many of them there is a copy now.
    """
    schema = pa.schema({PICTURE: pa.string(), "image": pa.struct({"bytes": pa.binary(), "path": pa.string()})})
    new, total, written = folder / f"{FILE}.new", 0, set[str]()
    rows: list[dict[str, Any]] = []
    with index.open(folder) as opened:
        photos = Photos(places)
        known = [PICTURE] if PICTURE in opened.columns else []
        with pq.ParquetWriter(new, schema, compression="none") as file:
            for part in opened.scan(columns=known):
                total += part.num_rows
                for picture in part.column(PICTURE).to_pylist() if known else ():
                    copy = None if picture in written else photos.small(picture)
                    if copy is not None:
                        written.add(picture)
                        rows.append({PICTURE: picture, "image": {"bytes": copy, "path": f"{picture}.jpg"}})
                    if len(rows) == _GROUP:
                        file.write_table(pa.Table.from_pylist(rows, schema))
                        rows.clear()
            if rows:
                file.write_table(pa.Table.from_pylist(rows, schema))
    new.replace(folder / FILE)
    return total, len(written)


def main(argv: Sequence[str]) -> None:
    if len(argv) < 2:
        sys.exit("usage: python photos.py INDEX PHOTOS [PHOTOS ...]")
    folder, *places = map(Path, argv)
    try:
        total, written = write(folder, places)
    except InputError as error:
        sys.exit(f"\nerror: {error}\n")
    print(f"{folder / FILE}: small copies of {written:,} different photos; the index has {total:,}")


if __name__ == "__main__":
    main(sys.argv[1:])
