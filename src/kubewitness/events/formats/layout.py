"""How a file is laid out, told from its beginning: JSON in any arrangement, CSV or YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from kubewitness.events.formats.documents import documents, looks_like_yaml
from kubewitness.events.formats.splitting import Piece
from kubewitness.events.formats.tables import header, rows

Layout: TypeAlias = Callable[[Iterable[bytes]], Iterator[Piece]]

_FOREIGN = (
    (0, b"PK\x03\x04", "zip archive"),
    # With the NUL that JSON cannot hold: a client may put the word anywhere.
    (257, b"ustar\0", "tar archive"),
    (257, b"ustar  \0", "tar archive"),
    (0, b"PAR1", "Parquet file"),
    (0, b"SQLite format 3\0", "SQLite database"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (0, b"\x04\x22\x4d\x18", "lz4 file"),
    (0, b"\xff\x06\x00\x00sNaPpY", "snappy file"),
    (0, b"Obj\x01", "Avro file"),
    (0, b"%PDF-", "PDF file"),
    (0, b"\x7fELF", "program"),
    (0, b"<!doctype html>", "HTML page"),
    (0, b"<!DOCTYPE html>", "HTML page"),
)


def foreign(head: bytes) -> str:
    """What else the file is, by its magic bytes; ``""`` where it may well be text."""
    for offset, magic, name in _FOREIGN:
        if head.startswith(magic, offset):
            return name
    return ""


def tabular(head: bytes) -> Layout | None:
    """CSV or YAML, if the file begins like it; ``None`` for lines and JSON."""
    begin = head.lstrip()
    if header(begin.partition(b"\n")[0][:4096].decode("utf-8", "replace")) is not None:
        return rows
    return documents if looks_like_yaml(head) else None
