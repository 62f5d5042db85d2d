"""From the bytes of one delivery to events that may be stored: whatever they are, none is lost.

What the API server's webhook posts, an EventList of plain events, takes some microseconds an event;
all else goes through the sieve that files go through (``sources.sifting``). Secrets are taken out
here, before anything is on disk. What is no event is counted, and kept in the quarantine if it is
broken, in a file a day. Nothing that a sender writes makes ``read`` fail: it would send the same
again, for ever. Nor does it keep ``read`` for ever: a delivery that is mostly no events is read so
far, and what is behind that is kept as one.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from kubewitness.errors import LakeError
from kubewitness.events.formats.decoding import repeats_keys
from kubewitness.events.formats.plain import plain
from kubewitness.events.line_redaction import redacted, suspect
from kubewitness.events.redaction import Redactor
from kubewitness.service import metrics
from kubewitness.service.segment import Batch
from kubewitness.sources.compression import Blocks, compression
from kubewitness.sources.encoding import utf8
from kubewitness.sources.quarantine import DailyQuarantine
from kubewitness.sources.sifting import Sieve
from kubewitness.sources.tally import Rejection, Tally

_log = logging.getLogger(__name__)

_CUT = "longer than a delivery may be: its rest was dropped"
_FAULT = "a fault of kubewitness, see its log"
_HEAD = _BLOCK = 64 << 10
MOST_REJECTED = 100_000
"""Lines of one delivery that may be no events: seconds of reading. A shipper that posts all there
is in some megabytes at a time sends fewer."""
_REST = f"behind {MOST_REJECTED:,} lines that were no events: not read"
_ITEMS = b'"items":'


class _EventList(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["EventList"]
    apiVersion: Annotated[str, msgspec.Meta(pattern="^audit\\.k8s\\.io/v1[a-z0-9]*$")]  # noqa: N815
    items: list[msgspec.Raw]
    metadata: msgspec.Raw = msgspec.Raw()


_decode_list = msgspec.json.Decoder(_EventList).decode


class _OddError(Exception):
    """A delivery that is not plain throughout."""


class Intake:
    """Reads deliveries, in any thread.

    ``quarantine`` is the folder for what is broken, ``redactor`` the lake's own. A delivery that is
    longer than ``most_bytes`` when it is unpacked is cut there.
    """

    def __init__(
        self, quarantine: Path, redactor: Redactor, *, most_bytes: int = 128 << 20
    ) -> None:
        self._quarantine = DailyQuarantine(quarantine, redactor)
        self._redactor = redactor
        self._most_bytes = most_bytes

    def at_once(self, cluster: str, source: str, body: bytes) -> Batch | None:
        """What ``read`` makes of a list of plain events, neither packed nor cut, in microseconds
        an event; ``None`` of anything else."""
        received = time.time()
        try:
            found = _list(body)
            lines = tuple(map(self._plain, _items(found))) if found else None
        except Exception:  # ``read`` says what it is
            lines = None
        return None if lines is None else Batch(cluster, source, received, lines)

    def read(self, cluster: str, source: str, body: bytes, *, cut: bool = False) -> Batch:
        """The events in ``body``, without their secrets.

        ``body`` may be packed (gzip, zstd), and is the beginning of something longer if ``cut``:
        then all events that are whole are taken. ``source`` is the kind of feed. Raises
        ``LakeError``, and that only where the quarantine cannot be written.
        """
        received = time.time()
        lines: list[bytes] = []
        kept = b""
        try:
            data, problem = _unpacked(body, self._most_bytes)
            kept = data[:_HEAD]
            if cut or problem:
                self._reject(cluster, source, "oversize", problem or _CUT, b"")
                lines.extend(self._sifted(cluster, source, _begun(data)))
            else:
                lines.extend(self._read(cluster, source, data))
        except LakeError:
            raise
        except Exception:
            _log.exception("a delivery of %s could not be read", cluster)
            self._reject(cluster, source, "broken", _FAULT, kept)
        return Batch(cluster, source, received, tuple(lines))

    def close(self) -> None:
        self._quarantine.close()

    def _read(self, cluster: str, source: str, data: bytes) -> Iterator[bytes]:
        found = _list(data)
        if found is None:
            try:
                yield from [self._plain(line) for line in _lines(data)]
            except _OddError:
                yield from self._sifted(cluster, source, data)
            return
        odd: list[bytes] = []
        for raw, item in zip(found.items, _items(found), strict=True):
            try:
                yield self._plain(item)
            except _OddError:
                odd.append(bytes(raw))
        if odd:
            yield from self._sifted(cluster, source, b"[%s]" % b",\n".join(odd))

    def _plain(self, line: bytes) -> bytes:
        event = plain(line)
        if event is None:
            raise _OddError
        return redacted(line, self._redactor) if suspect(line, event) else line

    def _sifted(self, cluster: str, source: str, data: bytes) -> Iterator[bytes]:
        tally = Tally()
        sieve = Sieve(f"{cluster}/{source}", tally, self._quarantine)
        blocks = self._blocks(cluster, source, data, tally)
        for line in sieve.events(utf8(blocks, data[:_HEAD])):
            try:
                yield self._plain(line)
            except _OddError:
                yield redacted(line, self._redactor)
        self._quarantine.flush()
        for reason, rejections in (("foreign", tally.skipped), ("broken", tally.broken)):
            for rejection in rejections:
                _tell(cluster, reason, rejection, rejection.n if reason == "broken" else 0)
        for warning in tally.warnings:
            _log.info("%s", warning)

    def _blocks(self, cluster: str, source: str, data: bytes, tally: Tally) -> Iterator[bytes]:
        """``data``, until ``tally`` has too much of it that is no event."""
        for at in range(0, len(data), _BLOCK):
            if tally.rejected > MOST_REJECTED:
                n = data.count(b"\n", at, len(data) - 1) + 1
                self._reject(cluster, source, "broken", _REST, data[at : at + _BLOCK + 1], n)
                return
            yield data[at : at + _BLOCK]

    def _reject(
        self, cluster: str, source: str, kind: str, reason: str, raw: bytes, n: int = 1
    ) -> None:
        """Count a delivery of which something is lost, and keep what there is of it."""
        self._quarantine.keep(f"{cluster}/{source}", 1, reason, raw)
        self._quarantine.flush()
        _tell(cluster, kind, Rejection(f"{cluster}/{source}", reason, n, ()), 1)


def _list(data: bytes) -> _EventList | None:
    try:
        found = _decode_list(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if repeats_keys(data) else found


def _items(found: _EventList) -> Iterator[bytes]:
    """Items of a list have neither kind nor apiVersion of their own."""
    begin = b'{"kind":"Event","apiVersion":"%s",' % found.apiVersion.encode()
    for raw in found.items:
        item = bytes(raw)
        yield item if item.startswith(b'{"kind"') else begin + item[1:]


def _lines(data: bytes) -> Iterator[bytes]:
    """Those that are not empty, one at a time: there may be millions."""
    return filter(None, (line.rstrip(b"\r\n") for line in io.BytesIO(data)))


def _tell(cluster: str, kind: str, rejection: Rejection, kept: int) -> None:
    metrics.EVENTS_REJECTED.labels(reason=kind).inc(rejection.n)
    metrics.QUARANTINE_LINES.inc(kept)
    _log.warning("%s: %d rejected: %s", cluster, rejection.n, rejection.reason)


def _unpacked(body: bytes, most: int) -> tuple[bytes, str]:
    """``body`` unpacked as far as that is possible, and what was in the way."""
    if compression(body[:6]) not in ("gzip", "zstd"):
        return body[:most], _CUT if len(body) > most else ""
    blocks = Blocks(io.BytesIO(body))
    parts: list[bytes] = []
    room = most
    for block in blocks:
        parts.append(block[:room])
        room -= len(block)
        if room < 0:
            return b"".join(parts), _CUT
    return b"".join(parts), blocks.problem


def _begun(data: bytes) -> bytes:
    """A list that was cut: from its items on, so that each of them can be read."""
    items = data.find(_ITEMS, 0, _HEAD)
    return data[items + len(_ITEMS) :] if items >= 0 and b"EventList" in data[:items] else data
