"""A source read piece by piece: plain lines are copied, all others go through the formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from kubewitness.events.formats.canonical import BODY_LIMIT, encode
from kubewitness.events.formats.decoding import decode, repeats_keys
from kubewitness.events.formats.joining import joined
from kubewitness.events.formats.layout import foreign, tabular
from kubewitness.events.formats.outcome import Broken, Event, Found, Outcome, Skipped
from kubewitness.events.formats.plain import is_plain
from kubewitness.events.formats.registry import outcomes, repeated
from kubewitness.events.formats.splitting import Piece, pieces
from kubewitness.sources.quarantine import Quarantine
from kubewitness.sources.tally import Tally

_PLAIN = object()
_HEAD = 64 << 10


class Sieve:
    """Sifts one source: what are events comes through, what are not is counted and kept."""

    def __init__(self, source: str, tally: Tally, quarantine: Quarantine) -> None:
        self.empty = True
        self._source = source
        self._tally = tally
        self._quarantine = quarantine

    def events(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The events in the stream as lines of NDJSON, each without its newline."""
        for piece in self._pieces(blocks):
            self.empty = False
            if piece.value is _PLAIN:
                self._tally.events += 1
                yield piece.raw
                continue
            raw = piece.raw
            for outcome in _outcomes(piece):
                if isinstance(outcome, Found):
                    self._tally.events += 1
                    self._tally.mend(self._source, outcome.notes, piece.line)
                    yield self._line(outcome.event, piece.line)
                elif isinstance(outcome, Skipped):
                    self._tally.skip(self._source, outcome.reason, piece.line)
                else:
                    self._tally.breaks(self._source, outcome.reason, piece.line)
                    self._quarantine.keep(self._source, piece.line, outcome.reason, raw)
                    raw = b""  # once is enough for a list of a thousand broken items

    def _pieces(self, blocks: Iterable[bytes]) -> Iterator[Piece]:
        stream = iter(blocks)
        head = b""
        while len(head) < _HEAD and (block := next(stream, None)) is not None:
            head += block
        name = foreign(head)
        if name:
            return iter((Piece(1, head[:16], Broken(f"a {name}, no text: unpack or convert it")),))
        layout = tabular(head)
        whole = chain((head,), stream)
        return layout(whole) if layout else joined(pieces(whole, decode=_plain_or_decoded))

    def _line(self, event: Event, number: int) -> bytes:
        line = encode(event)
        if len(line) > BODY_LIMIT:
            note = "requestObject, responseObject: dropped, too long"
            self._tally.mend(self._source, (note,), number)
            event = {name: event[name] for name in event if not name.endswith("Object")}
            line = encode(event)
        return line


def _plain_or_decoded(raw: bytes) -> Any:
    return _PLAIN if is_plain(raw) else decode(raw)


def _outcomes(piece: Piece) -> Iterable[Outcome]:
    if isinstance(piece.value, Broken):
        return (piece.value,)
    found = outcomes(piece.value)
    if isinstance(piece.value, dict) and repeats_keys(piece.raw):
        return map(repeated, found)
    return found
