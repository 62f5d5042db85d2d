"""A stream of bytes, cut into the lines and JSON values that it consists of.

JSON lines are the common case and cost one search and one decode each. Whatever is not one value a
line is scanned by structure: pretty-printed values, values behind each other without a newline, and
the elements of an array, so that an array of any size is read element by element. Memory is bounded
by ``limit``, and time is linear in the input, also for hostile input.

After something broken the reading goes on at the next place that can begin a value. JSON strings
hold no raw newlines, which is why a cut line never swallows the next one; a value that continues on
the next line is believed only where JSON could go on so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from kubewitness.events.formats.decoding import DEPTH_LIMIT, LINE_LIMIT, UndecodableError, decode
from kubewitness.events.formats.outcome import Broken

_PATIENCE = 1 << 20
"""Bytes without a newline after which a line is scanned instead of waited for."""

_LOOKAHEAD = 256
"""Bytes around a newline that tell whether a value goes on behind it."""

_RAW_LIMIT = 64 << 10
"""Bytes that are kept of a value longer than the limit."""

_BLANK = re.compile(rb"[ \t\r\n]*+")
_NULS = re.compile(rb"\0++")
_STRING = re.compile(rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"')
_FLAT = rb"[^\"{}\[\]\n]++|" + _STRING.pattern
# Everything up to the next bracket of something nested, unfinished string, or newline that needs a
# closer look: one before an indented string or a closing bracket is pretty-printing. Possessive,
# so linear.
_RUN = re.compile(
    rb"(?:%s|[{\[](?:%s)*+[}\]]|\n(?:[ \t]++(?=\")|[ \t]*+(?=[}\]])))*+" % (_FLAT, _FLAT)
)
_CONTINUATION = re.compile(
    rb'["{}\[\],:]|(?:true|false|null|-?\d[\d.eE+-]*+)[ \t\r]*+(?:[,\]}\n]|\Z)'
)
_VALUE_LINE = re.compile(rb"\n([ \t]*)[{\[]")
# How the API server begins a line. Inside a JSON string the quotes would be escaped.
_EVENT = re.compile(rb'\{"kind":"Event(?:List)?","apiVersion":"audit\.k8s\.io/')
_OPEN, _CLOSE, _NEWLINE, _QUOTE = b"{[", b"}]", 10, 34


class Piece(NamedTuple):
    """``raw`` began on line ``line`` (from 1) and is ``value``.

    The value is decoded JSON, or text where a line is no JSON, or ``Broken``. The raw bytes of a
    value longer than the limit are its beginning.
    """

    line: int
    raw: bytes
    value: Any


def pieces(
    blocks: Iterable[bytes],
    *,
    decode: Callable[[bytes], Any] = decode,
    limit: int = LINE_LIMIT,
) -> Iterator[Piece]:
    """The pieces of the concatenated ``blocks``, in order. Never raises for what is in them.

    ``decode`` turns the bytes of one value into what the piece holds, or raises
    ``UndecodableError``.

    >>> [piece.value for piece in pieces([b'[{"a":1},\\n {"b"', b":2}] x\\n"])]
    [{'a': 1}, {'b': 2}, 'x']
    """
    return iter(_Splitter(blocks, decode, limit))


class _Splitter:
    def __init__(
        self,
        blocks: Iterable[bytes],
        decode: Callable[[bytes], Any],
        limit: int,
    ) -> None:
        self._blocks = iter(blocks)
        self._decode = decode
        self._limit = limit
        self._text = b""
        self._at = 0
        self._passed = 0  # bytes of the stream before _text
        self._line = 1
        self._indent = 0
        self._line_begins = True
        self._in_array = False
        self._single_until = 0  # before it, a line that begins with a brace begins a value

    def __iter__(self) -> Iterator[Piece]:
        while self._skip_blank():
            first = self._text[self._at]
            if first == 123 or (first == 91 and self._in_array):
                yield self._value()
            elif first == 91 and self._opens_array():
                self._in_array = True
                self._at += 1
            elif self._in_array and first in b",]":
                self._in_array = first != 93
                self._at += 1
            elif first == 44 and not self._line_begins:
                self._at += 1
            elif first == 0:
                yield self._nuls()
            else:
                yield self._other(first)
        if self._in_array:
            yield Piece(self._line, b"", Broken("cut off"))

    # Window ----------------------------------------------------------------------------------

    def _more(self) -> bool:
        """Drops what was consumed and reads on, by half of what is there: linear in the end."""
        kept = self._text[self._at :]
        self._passed += self._at
        parts, length, wanted = [kept], 0, max(1, len(kept) // 2)
        for block in self._blocks:
            parts.append(block)
            length += len(block)
            if length >= wanted:
                break
        self._text, self._at = b"".join(parts), 0
        return length > 0

    def _skip_blank(self) -> bool:
        """Moves to the next byte that is not blank; ``False`` at the end."""
        while True:
            end = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            newline = self._text.rfind(b"\n", self._at, end)
            if newline >= 0:
                self._line += self._text.count(b"\n", self._at, end)
                self._line_begins = True
                self._indent = end - newline - 1
            self._at = end
            if end < len(self._text):
                return True
            if not self._more():
                return False

    def _line_end(self, patience: int) -> int | None:
        """Where the current line ends; ``None`` if it goes on for more than ``patience`` bytes."""
        searched = self._at
        while True:
            newline = self._text.find(b"\n", searched)
            if newline >= 0:
                return newline
            length = len(self._text) - self._at
            if length > patience:
                return None
            if not self._more():
                return len(self._text)
            searched = length

    def _take(self, end: int, value: Any) -> Piece:
        raw = self._text[self._at : end]
        piece = Piece(self._line, raw.rstrip(), value)
        self._line += raw.count(b"\n")
        self._at = end
        self._line_begins = False
        return piece

    # Values ----------------------------------------------------------------------------------

    def _value(self) -> Piece:
        if self._line_begins and not self._in_array:
            end = self._line_end(_PATIENCE)
            if end is not None:
                raw = self._text[self._at : end].rstrip()
                try:
                    value = self._decode(raw)
                except UndecodableError as refusal:
                    if refusal.reason in ("nested too deeply", "not UTF-8"):
                        return self._take(end, Broken(refusal.reason))
                else:
                    return self._take(end, value)
        return self._scan()

    def _scan(self) -> Piece:
        """The value that begins here, found by its brackets."""
        stack = bytearray(self._text[self._at : self._at + 1])
        length = 1  # scanned so far
        head: bytes | None = None  # of a value that grew too long
        first_line = self._line
        while True:
            end = _RUN.match(self._text, self._at + length).end()  # type: ignore[union-attr]
            length = end - self._at
            if length > self._limit:
                head = self._text[self._at : self._at + _RAW_LIMIT] if head is None else head
                self._line += self._text.count(b"\n", self._at, end)
                self._at, length = end, 0
            if end == len(self._text):
                if not self._more():
                    return self._give_up("cut off", len(self._text), head, first_line)
                continue
            byte = self._text[end]
            if byte in _OPEN:
                stack.append(byte)
                if len(stack) > DEPTH_LIMIT:
                    return self._give_up("nested too deeply", end, head, first_line)
            elif byte in _CLOSE:
                stack.pop()
                if not stack:
                    return self._closed(end + 1, head, first_line)
            elif byte == _QUOTE:
                piece = self._unfinished_string(end, head, first_line)
                if piece is not None:
                    return piece
                continue
            else:
                following = self._continuation(length, stack)
                if following < 0:
                    return self._give_up("cut off", self._at + length, head, first_line)
                length = following
                continue
            length += 1

    def _unfinished_string(self, end: int, head: bytes | None, first_line: int) -> Piece | None:
        """Reads on for the string at ``end``; the broken piece where it cannot come to an end."""
        if self._text.find(b"\n", end) >= 0:
            return self._give_up("cut off", end, head, first_line)
        if len(self._text) - end > self._limit:
            return self._overlong(head, first_line)
        if not self._more():
            return self._give_up("cut off", len(self._text), head, first_line)
        return None

    def _continuation(self, length: int, stack: bytearray) -> int:
        """Where the value goes on behind the newline at ``length``; -1 where it cannot."""
        while True:
            following = _BLANK.match(self._text, self._at + length).end()  # type: ignore[union-attr]
            if len(self._text) - following >= _LOOKAHEAD or not self._more():
                break
        newline = self._at + length
        following = _BLANK.match(self._text, newline).end()  # type: ignore[union-attr]
        if following == len(self._text):
            return following - self._at
        if not _CONTINUATION.match(self._text, following):
            return -1
        before = self._text[max(self._at, newline - _LOOKAHEAD) : newline].rstrip()[-1:]
        begins = self._text[following]
        if begins == _QUOTE:
            plausible = before in (b"{", b"[", b",", b":", b"")
        elif begins in _OPEN:
            # Lines of a value that proved broken are not tried as its parts again.
            plausible = self._passed + newline >= self._single_until and (
                before in (b":", b"") or (stack[-1:] == b"[" and before in (b"[", b","))
            )
        else:
            plausible = True
        return following - self._at if plausible else -1

    def _closed(self, end: int, head: bytes | None, first_line: int) -> Piece:
        if head is not None:
            self._take(end, None)
            return Piece(first_line, head, self._too_long())
        try:
            return self._take(end, self._decode(self._text[self._at : end]))
        except UndecodableError as refusal:
            restart = self._restart()
            if restart is not None:
                return self._take(restart, Broken(refusal.reason))
            piece = self._take(end, Broken(refusal.reason))
        # Brackets in what is no JSON prove little: go on right here only where a value begins.
        following = _BLANK.match(self._text, end).end()  # type: ignore[union-attr]
        if self._in_array or self._text[following : following + 1] in (b"{", b"", b"\n"):
            return piece
        rest = self._line_end(self._limit)
        return self._take_more(piece, len(self._text) if rest is None else rest)

    def _take_more(self, piece: Piece, end: int) -> Piece:
        rest = self._take(end, None).raw
        return Piece(piece.line, piece.raw + rest, piece.value)

    def _give_up(self, reason: str, end: int, head: bytes | None, first_line: int) -> Piece:
        """The value from here to ``end`` is broken; goes on where the next one may begin."""
        self._single_until = max(self._single_until, self._passed + end)
        if head is not None:
            self._take(end, None)
            return Piece(first_line, head, self._too_long())
        restart = self._restart()
        if restart is not None:
            return self._take(restart, Broken(reason))
        first_end = self._first_end()
        if end <= first_end:
            if reason == "nested too deeply":
                return self._rest_of_line(reason)
            return self._take(first_end, Broken(reason))
        for match in _VALUE_LINE.finditer(self._text, self._at, end):
            if len(match[1]) <= self._indent:
                return self._take(match.start(), Broken(reason))
        following = self._text.find(b"\n", end)
        return self._take(len(self._text) if following < 0 else following, Broken(reason))

    def _first_end(self) -> int:
        """Where the line that begins here ends, as far as it was read."""
        newline = self._text.find(b"\n", self._at)
        return len(self._text) if newline < 0 else newline

    def _restart(self) -> int | None:
        """Where a whole event begins behind one that was cut when the API server died."""
        line = self._text[self._at : self._first_end()].rstrip()
        match = _EVENT.search(line, 1)
        return self._at + match.start() if match and _decodes(line[match.start() :]) else None

    def _rest_of_line(self, reason: str) -> Piece:
        end = self._line_end(self._limit)
        if end is None:
            return self._overlong(None, self._line)
        return self._take(end, Broken(reason))

    # Everything else --------------------------------------------------------------------------

    def _opens_array(self) -> bool:
        """Whether the bracket here opens an array of values, and not, say, ``[info] …``."""
        if self._at + 1 == len(self._text):
            self._more()
        while True:
            following = _BLANK.match(self._text, self._at + 1).end()  # type: ignore[union-attr]
            if following < len(self._text):
                return self._text[following] in b'{[]"'
            if len(self._text) - self._at > _PATIENCE or not self._more():
                return False

    def _nuls(self) -> Piece:
        """A file system that lost power leaves a hole; what follows on the line is good."""
        return self._take(_NULS.match(self._text, self._at).end(), Broken("NUL bytes"))  # type: ignore[union-attr]

    def _other(self, first: int) -> Piece:
        if first == _QUOTE and self._in_array:
            match = _STRING.match(self._text, self._at)
            while match is None and len(self._text) - self._at <= self._limit and self._more():
                match = _STRING.match(self._text, self._at)
            if match:
                return self._take(match.end(), self._string(match[0]))
        end = self._line_end(self._limit)
        if end is None:
            return self._overlong(None, self._line)
        raw = self._text[self._at : end].rstrip()
        return self._take(end, self._string(raw) if first == _QUOTE else _text(raw))

    def _string(self, raw: bytes) -> Any:
        try:
            return decode(raw)
        except UndecodableError:
            return _text(raw)

    def _overlong(self, head: bytes | None, first_line: int) -> Piece:
        """Drops the rest of the line without keeping it."""
        head = self._text[self._at : self._at + _RAW_LIMIT] if head is None else head
        while (newline := self._text.find(b"\n", self._at)) < 0:
            self._at = len(self._text)
            if not self._more():
                break
        self._at = len(self._text) if newline < 0 else newline
        self._line_begins = False
        return Piece(first_line, head, self._too_long())

    def _too_long(self) -> Broken:
        return Broken(f"longer than {self._limit >> 20} MiB")


def _decodes(data: bytes) -> bool:
    try:
        decode(data)
    except UndecodableError:
        return False
    return True


def _text(raw: bytes) -> str | Broken:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Broken("binary data" if b"\0" in raw else "not UTF-8")
