"""Lines that a container runtime cut at 16 KiB, put together again.

A long event that the API server logs to its standard output reaches the disk in parts: CRI marks
all but the last with ``P`` (``2025-01-01T00:00:00Z stdout P {"kind":…``), Docker's json-file leaves
out the newline (``{"log":"{\\"kind\\":…","stream":"stdout","time":…}``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kubewitness.events.formats.decoding import LINE_LIMIT, UndecodableError, decode
from kubewitness.events.formats.outcome import Broken
from kubewitness.events.formats.splitting import Piece

_CRI = re.compile(r"\d{4}-\d\d-\d\dT\S+ (stdout|stderr) ([FP]) ")
_RUNTIME = re.compile(rb'\{"log":|\d{4}-\d\d-\d\dT\S+ std(?:out|err) [FP] ')
_PREFIX = 64
_DOCKER_FIELDS = frozenset({"log", "stream", "time", "attrs"})
_DOCKER_PART = 16 << 10


class _Part(NamedTuple):
    stream: str
    text: str
    last: bool


@dataclass(slots=True)
class _Line:
    """The parts of a line so far."""

    begun: int
    raw: list[bytes] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, raw: bytes, text: str) -> None:
        self.raw.append(raw)
        self.texts.append(text)
        self.size += len(raw)

    def piece(self, broken: Broken | None) -> Piece:
        return Piece(self.begun, b"\n".join(self.raw), broken or "".join(self.texts))


def joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """``pieces`` with those that are parts of a line replaced by the line, where it began."""
    lines: dict[str, _Line] = {}
    for piece in pieces:
        part = _part(piece.value)
        if part is None or (part.last and part.stream not in lines):
            yield piece
            continue
        line = lines.setdefault(part.stream, _Line(piece.line))
        line.add(piece.raw, part.text)
        too_long = line.size > LINE_LIMIT
        if part.last or too_long:
            del lines[part.stream]
            yield line.piece(Broken(f"longer than {LINE_LIMIT >> 20} MiB") if too_long else None)
    for line in lines.values():
        yield line.piece(Broken("cut off"))


def complete(text: bytes) -> int:
    """Where the last whole line of ``text``, lines of one file, ends: behind its last part.

    >>> complete(b"a\\nb"), complete(b"2026-03-02T08:00:00Z stdout P {\\n")
    (2, 0)
    """
    end = text.rfind(b"\n") + 1
    if not _RUNTIME.match(text):
        return end
    whole = at = 0
    unfinished: set[str] = set()
    while at < end:
        line_end = text.index(b"\n", at) + 1
        part = _part(_read(text[at:line_end].strip()))
        if part is not None:
            (unfinished.discard if part.last else unfinished.add)(part.stream)
        at = line_end
        if not unfinished:
            whole = at
    return whole


def _read(line: bytes) -> Any:
    if not line.startswith(b"{"):
        return line[:_PREFIX].decode("utf-8", "replace")
    try:
        return decode(line)
    except UndecodableError:
        return None


def _part(value: Any) -> _Part | None:
    if isinstance(value, str):
        match = _CRI.match(value)
        return _Part(match[1], value[match.end() :], match[2] == "F") if match else None
    if not isinstance(value, dict) or "log" not in value or not value.keys() <= _DOCKER_FIELDS:
        return None
    log, stream = value["log"], value.get("stream")
    if not isinstance(log, str) or not isinstance(stream, str):
        return None
    # Some shippers strip the newline of whole lines too, which are shorter than a part.
    whole = log.endswith("\n") or len(log.encode("utf-8", "replace")) < _DOCKER_PART
    return _Part(stream, log, whole)
