"""One file of the spool: records behind each other, each of which proves that it is whole.

    record = MAGIC | length (4 bytes) | checksum (8 bytes) | payload (length bytes)

The checksum (BLAKE2b) is over the payload, its length and its place, so that neither a torn write
nor blocks of an older file nor anything that a payload says can pass for a record. No JSON text
holds the bytes of MAGIC, but even a payload that did would not deceive anybody for that reason.

A payload is msgpack, compressed with zstd (https://www.rfc-editor.org/rfc/rfc8878).
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

MAGIC = b"\x9eKWSP\x0d\x0a\x1a"
_HEAD = struct.Struct("<8sI8s")
_PLACE = struct.Struct("<QQI")
HEAD_BYTES = _HEAD.size
MOST_BYTES = 1 << 30
"""Of one payload; a longer length is damage."""

_WINDOW = 1 << 20
_SECTOR = 512
_LEVEL = 1  # as fast as the disk, and a tenth of the bytes


class Batch(msgspec.Struct, frozen=True):
    """What one delivery became: ``source`` is the kind of feed, perhaps with a colon and the place,
    ``received`` is in seconds since 1970, ``lines`` are canonical audit.k8s.io/v1 events in JSON,
    one a line, without their secrets."""

    cluster: str
    source: str
    received: float
    lines: tuple[bytes, ...]


class Entry(NamedTuple):
    """A record at ``offset`` of a segment, ``size`` bytes with its head; or, where ``payload`` is
    ``None``, bytes that are none."""

    offset: int
    size: int
    payload: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


def payload(batch: Batch) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(_encode(batch))


def batch(payload: bytes) -> Batch:
    """What was written. The checksum has vouched for ``payload``."""
    return _decode(zstandard.ZstdDecompressor().decompress(payload))


def record(payload: bytes, segment: int, offset: int) -> bytes:
    """``payload`` as it stands at ``offset`` of a segment."""
    return _HEAD.pack(MAGIC, len(payload), _checksum(payload, segment, offset)) + payload


def entries(path: Path, segment: int, begin: int, end: int | None = None) -> Iterator[Entry]:
    """What stands in the file between ``begin`` and ``end``, in order and without a gap.

    Behind damage the reading goes on at the next record that is whole.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size if end is None else end
        offset = begin
        while offset < end:
            found = _record(file.fileno(), segment, offset, end)
            if found is None:
                following = _next_record(file.fileno(), segment, offset + 1, end)
                yield Entry(offset, following - offset, None)
                offset = following
            else:
                yield found
                offset += found.size


def _record(file: int, segment: int, offset: int, end: int) -> Entry | None:
    head = _read(file, HEAD_BYTES, offset)
    if len(head) < HEAD_BYTES:
        return None
    magic, length, checksum = _HEAD.unpack(head)
    if magic != MAGIC or length > min(MOST_BYTES, end - offset - HEAD_BYTES):
        return None
    payload = _read(file, length, offset + HEAD_BYTES)
    if len(payload) < length or _checksum(payload, segment, offset) != checksum:
        return None
    return Entry(offset, HEAD_BYTES + length, payload)


def _next_record(file: int, segment: int, offset: int, end: int) -> int:
    """Where the next whole record begins, ``end`` if there is none."""
    while offset < end:
        window = min(_WINDOW, end - offset)
        block = _read(file, window + len(MAGIC) - 1, offset)
        if len(block) < window and window > _SECTOR:  # what cannot be read is stepped over
            block = _read(file, _SECTOR, offset)
            window = _SECTOR
        found = block.find(MAGIC)
        if found < 0:
            offset += window
        elif _record(file, segment, offset + found, end):
            return offset + found
        else:
            offset += found + 1
    return end


def _read(file: int, size: int, offset: int) -> bytes:
    """What can be read; nothing where the disk has lost it."""
    try:
        return os.pread(file, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def _checksum(payload: bytes, segment: int, offset: int) -> bytes:
    place = _PLACE.pack(segment, offset, len(payload))
    return hashlib.blake2b(payload, digest_size=8, salt=b"", key=place).digest()
