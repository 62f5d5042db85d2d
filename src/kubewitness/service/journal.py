"""The files of the spool: a folder of segments, of which the last is appended to.

    SPOOL/
      00000000001795460464.spool           a segment: records behind each other (service/segment.py)
      00000000001795460464-8192.damaged    bytes that were no record, kept aside

A segment is never appended to by another run than the one that began it, so that a torn write is
always at the end of one. Numbers of segments only grow, also where somebody emptied the folder or
put the clock back.
One thread appends; another may read meanwhile.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from kubewitness.errors import LakeError
from kubewitness.lake.store import synced
from kubewitness.service import metrics, segment
from kubewitness.service.segment import Batch
from kubewitness.sources.spool import writing

_log = logging.getLogger(__name__)


class Position(NamedTuple):
    """The place behind an entry; positions are in the order of the entries."""

    segment: int
    offset: int


@dataclass(slots=True)
class _Segment:
    """``size`` bytes are durable; behind ``end`` of them there is nothing that can be read.
    One that has a ``file`` is still appended to."""

    number: int
    path: Path
    size: int
    end: int
    file: int | None = None


class Journal:
    """The segments in ``folder``, made when missing; ``segment_bytes``: when to begin a new one.
    New ones come behind those found and behind ``used``, the highest number that is known.

    Raises ``LakeError`` where the folder cannot be used, or another process uses it.
    """

    def __init__(self, folder: Path, segment_bytes: int, used: int = 0) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            synced(folder.parent)
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._lock()
        self._state = threading.Lock()
        self._used = used
        self._segments = self._found()

    def close(self) -> None:
        for one in self._listed():
            self._seal(one)
        os.close(self._descriptor)

    def bytes_behind(self, position: Position) -> int:
        """How much there is to read behind ``position``."""
        number, offset = position
        return sum(
            max(0, one.end - offset) if one.number == number else one.end
            for one in self._listed()
            if one.number >= number
        )

    # Writing ----------------------------------------------------------------------------------

    def append(self, batches: Sequence[Batch]) -> list[Position]:
        """Write ``batches`` and wait for the disk, once; where each of them ends.

        Raises ``OSError``: then none of them is there, as far as anybody can tell.
        """
        one = self._open_segment()
        assert one.file is not None
        records: list[bytes] = []
        ends: list[Position] = []
        end = one.size
        for batch in batches:
            records.append(segment.record(segment.payload(batch), one.number, end))
            end += len(records[-1])
            ends.append(Position(one.number, end))
        try:
            _write_all(one.file, b"".join(records), one.size)
            os.fsync(one.file)
        except OSError:
            # What the disk holds now is unknown: nothing is ever written behind it.
            with suppress(OSError):
                os.ftruncate(one.file, one.size)
            self._seal(one)
            if not one.size:
                self._delete(one)
            raise
        with self._state:
            one.size = one.end = end
        if end >= self._segment_bytes:
            self._seal(one)
        return ends

    def discard(self, until: Position) -> None:
        """Delete the segments that hold nothing behind ``until``."""
        for one in self._listed():
            if one.file is None and Position(one.number, one.end) <= until:
                self._delete(one)

    def forget_damaged(self, before: float, most: int) -> None:
        """Delete what was kept aside before then (unix seconds), and the oldest of the rest until
        ``most`` bytes are left."""
        with suppress(OSError):  # the next time
            kept = sorted(
                (file.stat().st_mtime, file.stat().st_size, file)
                for file in self._folder.glob("*.damaged")
            )
            left = sum(size for _, size, _ in kept)
            for written, size, file in kept:
                if left > most or written < before:
                    file.unlink()
                    left -= size
                    _log.info("deleted %s: %d bytes that were no record", file, size)

    def _open_segment(self) -> _Segment:
        """The segment that is appended to; a new one if there is none."""
        listed = self._listed()
        if listed and listed[-1].file is not None:
            return listed[-1]
        number = self._used = max(int(time.time()), self._used + 1)
        path = self._folder / f"{number:020}.spool"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        one = _Segment(number, path, 0, 0, file)
        with self._state:
            self._segments.append(one)
        try:
            os.fsync(self._descriptor)
        except OSError:
            self._seal(one)
            self._delete(one)
            raise
        return one

    def _seal(self, one: _Segment) -> None:
        file, one.file = one.file, None
        if file is not None:
            os.close(file)

    def _delete(self, one: _Segment) -> None:
        try:
            one.path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s: cannot be deleted: %s", one.path, error.strerror)
        else:
            with self._state:
                self._segments = [other for other in self._segments if other is not one]

    # Reading ----------------------------------------------------------------------------------

    def entries(self, after: Position) -> Iterator[tuple[Position, Batch]]:
        """What is durable behind ``after``, in order; what is damaged is kept aside and counted.

        Raises ``LakeError`` where the disk cannot be read at all.
        """
        for one in self._listed():
            if one.number < after.segment:
                continue
            try:
                yield from self._entries(one, after.offset if one.number == after.segment else 0)
            except FileNotFoundError:
                _log.error("%s: gone, with all that waited there", one.path)
                self._delete(one)
            except OSError as error:
                raise LakeError(
                    f"cannot be read: {error.strerror}", where=str(one.path), remedy="see the disk"
                ) from error

    def _entries(self, one: _Segment, begin: int) -> Iterator[tuple[Position, Batch]]:
        end, whole = one.end, begin
        for entry in segment.entries(one.path, one.number, begin, end):
            batch = _understood(entry)
            if batch is None:
                self._keep_aside(one, entry.offset, entry.size)
            else:
                whole = entry.offset + entry.size
                yield Position(one.number, whole), batch
        if whole < end:  # damage up to the end: nobody has to wait for what is there
            with self._state:
                one.end = whole if one.end == end else one.end

    def _listed(self) -> list[_Segment]:
        with self._state:
            return list(self._segments)

    # Opening ----------------------------------------------------------------------------------

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise LakeError(
                "another process uses this spool",
                where=str(self._folder),
                remedy="stop it, or choose another folder with data",
            ) from None
        except OSError as error:  # a file system without locks
            _log.warning("%s: cannot be locked: %s", self._folder, error.strerror)

    def _found(self) -> list[_Segment]:
        """The segments that earlier runs have left, without what a torn write left at the end."""
        found: list[_Segment] = []
        with writing(self._folder):
            for path in sorted(self._folder.glob("*.spool")):
                if path.stem.isdigit():
                    size = path.stat().st_size
                    found.append(_Segment(int(path.stem), path, size, size))
                    self._used = max(self._used, found[-1].number)
            while found:
                last = found[-1]
                entries = segment.entries(last.path, last.number, 0)
                end = max((e.offset + e.size for e in entries if e.payload is not None), default=0)
                if end < last.size and self._keep_aside(last, end, last.size - end):
                    os.truncate(last.path, end)
                last.size = last.end = end
                if end:
                    break
                last.path.unlink()
                found.pop()
        return found

    def _keep_aside(self, one: _Segment, offset: int, size: int) -> bool:
        """Copy bytes that are no record, once; whether they are kept."""
        aside = self._folder / f"{one.path.stem}-{offset}.damaged"
        if aside.exists():
            return True
        metrics.SPOOL_DAMAGED.inc(size)
        try:
            with one.path.open("rb") as damaged:
                damaged.seek(offset)
                file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(file, "wb") as kept:
                    while size > 0 and (block := damaged.read(min(size, 1 << 20))):
                        size -= kept.write(block)
        except OSError as error:
            _log.warning("%s: damaged from byte %d: %s", one.path, offset, error.strerror)
            return False
        _log.warning("%s: no whole record at byte %d: kept aside as %s", one.path, offset, aside)
        return True


def _understood(entry: segment.Entry) -> Batch | None:
    if entry.payload is None:
        return None
    try:
        return segment.batch(entry.payload)
    except (msgspec.MsgspecError, zstandard.ZstdError):  # whole, but of another version
        return None


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written
