"""The storage side of xet as hf_xet speaks it: xorbs (packs of chunks), shards (which chunks make which file).

Layouts are those of the published xet protocol, version 1; all numbers little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

from hub_server_store import HubError, Storage, spoiled

_LAST = b"\xff" * 32
_WITH_VERIFICATION, _WITH_METADATA = 1 << 31, 1 << 30


def name_of(raw: bytes) -> str:
    """A 32-byte hash as xet writes it: four 64-bit numbers, each byte-swapped."""
    return "".join(raw[i : i + 8][::-1].hex() for i in range(0, 32, 8))


def _unpack(data: bytes, scheme: int, size: int) -> bytes:
    if scheme == 0:
        return data
    import pyarrow as pa  # here: takes a moment, and only xet needs it

    plain = pa.decompress(data, decompressed_size=size, codec="lz4", asbytes=True)
    if scheme == 1:
        return plain
    if scheme != 2:
        raise HubError(400, f"unknown compression {scheme}")
    out, start = bytearray(size), 0  # every fourth byte lies together: all first bytes, then all second ones, ...
    for offset in range(4):
        length = (size - offset + 3) // 4
        out[offset::4] = plain[start : start + length]
        start += length
    return bytes(out)


def chunks_of(xorb: bytes) -> list[bytes]:
    """The chunks of an uploaded xorb, unpacked; a footer is left aside."""
    found, at = [], 0
    while at + 8 <= len(xorb) and xorb[at : at + 7] != b"XETBLOB":
        version, scheme = xorb[at], xorb[at + 4]
        packed, size = int.from_bytes(xorb[at + 1 : at + 4], "little"), int.from_bytes(xorb[at + 5 : at + 8], "little")
        if version != 0:
            raise HubError(400, f"unknown chunk version {version}")
        found.append(_unpack(xorb[at + 8 : at + 8 + packed], scheme, size))
        at += 8 + packed
    return found


@dataclass
class Term:
    xorb: str
    start: int
    end: int
    size: int


@dataclass
class Cas:
    """What xet clients store. Chunks are kept unpacked, so that a test can flip a byte and the sizes stay."""

    storage: Storage
    xorbs: dict[str, list[bytes]] = field(default_factory=dict)
    files: dict[str, list[Term]] = field(default_factory=dict)

    def put_xorb(self, name: str, xorb: bytes) -> bool:
        """Store a xorb; False when it was here."""
        new = name not in self.xorbs
        self.xorbs[name] = chunks_of(xorb)
        return new

    def put_shard(self, shard: bytes) -> None:
        """Learn the files of a shard.

        Raises:
            HubError: 400 for a xorb that was never uploaded, or bytes that are not those of the sha256.
        """
        at = 48  # behind the header
        while shard[at : at + 32] != _LAST:
            name = name_of(shard[at : at + 32])
            flags, count = struct.unpack_from("<II", shard, at + 32)
            at += 48
            terms = []
            for _ in range(count):
                _, size, start, end = struct.unpack_from("<IIII", shard, at + 32)
                terms.append(Term(name_of(shard[at : at + 32]), start, end, size))
                at += 48
            at += 48 * count if flags & _WITH_VERIFICATION else 0
            sha256 = None
            if flags & _WITH_METADATA:
                sha256 = name_of(shard[at : at + 32])
                at += 48
            self._add(name, terms, sha256)

    def _add(self, name: str, terms: list[Term], sha256: str | None) -> None:
        missing = [term.xorb for term in terms if term.xorb not in self.xorbs]
        if missing:
            raise HubError(400, f"the shard names xorbs that are not here: {missing}")
        data = b"".join(b"".join(self.xorbs[t.xorb][t.start : t.end]) for t in terms)
        if len(data) != sum(term.size for term in terms):
            raise HubError(400, "the sizes of the shard are not those of its chunks")
        self.files[name] = terms
        key = hashlib.sha256(data).hexdigest()
        if sha256 not in (None, key):
            raise HubError(400, "the chunks do not make the file of this sha256")
        if any(term.xorb in self.storage.rotten for term in terms):
            self.storage.rotten.add(key)
        self.storage.blobs[key] = data
        self.storage.xet[key] = name

    def xorb(self, name: str) -> tuple[bytes, list[int]]:
        """A xorb as it is sent, and where each of its chunks starts (one more: where the last ends)."""
        parts, starts = [], [0]
        for chunk in self.xorbs[name]:
            chunk = spoiled(chunk) if name in self.storage.rotten else chunk
            size = len(chunk).to_bytes(3, "little")
            parts.append(b"\0" + size + b"\0" + size + chunk)
            starts.append(starts[-1] + 8 + len(chunk))
        return b"".join(parts), starts

    def reconstruction(self, name: str, origin: str, span: tuple[int, int | None]) -> dict:
        """How to make bytes `span` (inclusive) of a file.

        Raises:
            HubError: 404 for an unknown file, 416 for a span behind its end.
        """
        if name not in self.files:
            raise HubError(404, "file not found")
        total = sum(term.size for term in self.files[name])
        first, last = span[0], min(total - 1, total - 1 if span[1] is None else span[1])
        if first >= total and total:
            raise HubError(416, "behind the end of the file")
        terms: list[dict] = []
        fetch: dict[str, list[dict]] = {}
        at, skip = 0, None
        for term in self.files[name]:
            _, starts = self.xorb(term.xorb)
            position, begin = at, term.start
            at += term.size
            if at <= first or position > last:
                continue
            # Cut to the chunks that hold the span.
            sizes = [len(chunk) for chunk in self.xorbs[term.xorb][term.start : term.end]]
            chosen = []
            for i, size in enumerate(sizes):
                if position + size > first and position <= last:
                    if skip is None:
                        skip = first - position
                    chosen.append(i)
                position += size
            begin, end = term.start + chosen[0], term.start + chosen[-1] + 1
            window = {"start": begin, "end": end}
            length = sum(sizes[chosen[0] : chosen[-1] + 1])
            terms.append({"hash": term.xorb, "unpacked_length": length, "range": window})
            url: dict[str, Any] = {"url": f"{origin}/_cas/xorb/{term.xorb}", "range": window}
            url["url_range"] = {"start": starts[begin], "end": starts[end] - 1}
            if url not in fetch.setdefault(term.xorb, []):
                fetch[term.xorb].append(url)
        return {"offset_into_first_range": skip or 0, "terms": terms, "fetch_info": fetch}
