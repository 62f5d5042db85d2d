"""A stream of blocks, cut where a line ends: each body is whole lines, of a megabyte or so.

A line that a container runtime wrote in parts is whole with its last part (see
``events/formats/joining.py``). A longer line than ``LINE_LIMIT`` is handed on by its beginning, for
the quarantine, and the rest of it is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kubewitness.events.formats.decoding import LINE_LIMIT
from kubewitness.events.formats.joining import complete

BODY = 1 << 20
"""Bytes that are cut at a time; a body is longer only where a line is."""

_KEPT = 64 << 10
_NUL = b"\0"


class Cut(NamedTuple):
    """``raw``, the next bytes of the stream, and what of them is handed on (``body``).

    ``skipping``: behind them lies the rest of a line that is too long.
    """

    raw: bytes
    body: bytes
    skipping: bool = False


class Cutter:
    """Cuts the blocks it is given. ``skipping``: the first belongs to a line that is too long."""

    def __init__(self, skipping: bool = False, limit: int = LINE_LIMIT) -> None:
        self._skipping = skipping
        self._limit = limit
        self._pending: list[bytes] = []
        self._size = 0

    def cuts(self, block: bytes) -> Iterator[Cut]:
        """What is whole now. The raw bytes of all cuts are the stream, without a gap.

        >>> cutter = Cutter()
        >>> [cut.body for block in (b"a", b"b\\nc", b"\\n") for cut in cutter.cuts(block)]
        [b'ab\\n', b'c\\n']
        """
        for at in range(0, len(block), BODY):
            yield from self._cuts(block[at : at + BODY])

    def _cuts(self, block: bytes) -> Iterator[Cut]:
        if self._skipping:
            end = block.find(b"\n") + 1
            self._skipping = not end
            yield Cut(block[: end or len(block)], b"", self._skipping)
            block = block[end:] if end else b""
        if not self._size and block.startswith(_NUL):
            # The hole that a truncated file has before what its writer goes on with: however
            # large, it is no part of the line behind it, and is told of by one NUL.
            rest = block.lstrip(_NUL)
            yield Cut(block[: len(block) - len(rest)], b"\0\n")
            block = rest
        self._pending.append(block)
        self._size += len(block)
        if b"\n" not in block and self._size <= self._limit:
            return
        text = b"".join(self._pending)
        if end := complete(text):
            yield Cut(text[:end], text[:end])
        rest = text[end:]
        if len(rest) > self._limit:
            self._skipping = True
            yield Cut(rest, rest[:_KEPT], skipping=True)
            rest = b""
        self._pending, self._size = [rest], len(rest)

    def rest(self) -> Cut | None:
        """What is left where the stream ends for good: a line without its newline."""
        text = b"".join(self._pending)
        self._pending, self._size = [], 0
        return Cut(text, text) if text else None
