"""What was accepted and is not in the lake yet: batches on disk, in the order in which they came.

    SPOOL/
      00000000001795460464.spool           a segment: records behind each other (service/segment.py)
      00000000001795460464-8192.damaged    bytes that were no record, kept aside

``append`` returns once the batch would survive a power cut. Everybody who waits at that time shares
one fsync: the disk gets as many as it can take, whatever the load. One process has the spool, one
task in it reads and discards what it has stored elsewhere.

A segment is never appended to by another run than the one that began it, so that a torn write is
always at the end of one. Numbers of segments only grow, also where somebody emptied the folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from kubewitness.errors import LakeError, SpoolFull
from kubewitness.service import metrics, segment
from kubewitness.service.segment import Batch
from kubewitness.sources.spool import writing

__all__ = ["Batch", "Position", "Spool", "SpoolFull"]

_log = logging.getLogger(__name__)

_GROUP_BYTES = 64 << 20
"""Of lines that share one write; a batch that is longer has one of its own."""


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


class Spool:
    """The spool in ``folder``, made when missing.

    ``limit``: bytes on disk that may wait. Files of ``segment_bytes`` are deleted as a whole, so
    there may be that much more. Raises ``LakeError`` where the folder cannot be used, or another
    process uses it.
    """

    def __init__(self, folder: Path, *, limit: int, segment_bytes: int = 64 << 20) -> None:
        self.folder = folder
        self.limit = limit
        self._segment_bytes = segment_bytes
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._state = threading.Lock()  # of the segments, which a thread adds to
        self._lock()
        self._segments = self._found()
        self._discarded = Position(0, 0)
        self._waiting: deque[tuple[Batch, int, asyncio.Future[Position]]] = deque()
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()

    @property
    def backlog_bytes(self) -> int:
        """What is on disk and was not discarded."""
        number, offset = self._discarded
        return sum(
            max(0, one.end - offset) if one.number == number else one.end
            for one in self._listed()
            if one.number >= number
        )

    @property
    def full(self) -> bool:
        return self.backlog_bytes + self._waiting_bytes >= self.limit

    async def append(self, batch: Batch) -> Position:
        """Keep ``batch``; returns once it is durable.

        Raises ``SpoolFull`` where as much waits as may wait (one batch is always taken), and
        ``LakeError`` where the disk did not take it. Then nothing was kept, or it was and nobody
        knows: a batch may come twice.
        """
        held = self.backlog_bytes + self._waiting_bytes
        size = sum(map(len, batch.lines))
        if held and held + size > self.limit:
            raise SpoolFull(
                f"{held >> 20} MiB wait to be stored, and no more may",
                where=str(self.folder),
                remedy="see why they are not stored, or raise retention.spool_bytes",
            )
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, size, future))
        self._waiting_bytes += size
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await future

    def read(self, after: Position | None, *, most_bytes: int) -> list[tuple[Position, Batch]]:
        """What is durable behind ``after`` (``None``: from the beginning), in order.

        No more than ``most_bytes`` of lines, but one batch at least. Damaged records are passed
        over, kept aside and counted.
        """
        found: list[tuple[Position, Batch]] = []
        room = most_bytes
        number, offset = after or (0, 0)
        for one in self._listed():
            if one.number < number:
                continue
            at = offset if one.number == number else 0
            end = one.end
            for entry in segment.entries(one.path, one.number, at, end):
                batch = _understood(entry)
                if batch is None:
                    self._keep_aside(one, entry.offset, entry.size)
                    continue
                size = sum(map(len, batch.lines))
                if found and size > room:
                    return found
                at = entry.offset + entry.size
                found.append((Position(one.number, at), batch))
                room -= size
            if at < end:  # damage up to the end: nobody has to wait for what is there
                with self._state:
                    one.end = at if one.end == end else one.end
        return found

    async def wait(self, after: Position | None) -> None:
        """Until there is something behind ``after``."""
        while not self._reaches_beyond(after or Position(0, 0)):
            self._grown.clear()
            await self._grown.wait()

    def discard(self, until: Position) -> None:
        """Everything up to ``until`` is stored elsewhere: delete what holds nothing else."""
        self._discarded = max(self._discarded, until)
        for one in self._listed():
            if one.file is None and Position(one.number, one.end) <= self._discarded:
                self._delete(one)
        metrics.SPOOL_BACKLOG.set(self.backlog_bytes)

    async def close(self) -> None:
        """Finish what is being written and let go of the folder."""
        if self._writer is not None:
            await self._writer
        for one in self._listed():
            self._seal(one)
        os.close(self._folder)

    # Writing ----------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Write what waits, all of it at once, until nothing does."""
        while self._waiting:
            group = self._group()
            try:
                ends = await asyncio.to_thread(self._commit, [batch for batch, _, _ in group])
            except Exception as error:  # whatever it is, nobody may wait for ever
                _log.error("%s: %s", self.folder, error)
                for _, _, future in group:
                    if not future.done():
                        future.set_exception(_refusal(error, self.folder))
            else:
                for (batch, _, future), end in zip(group, ends, strict=True):
                    source = metrics.source_label(batch.source)
                    metrics.EVENTS_INGESTED.labels(source=source).inc(len(batch.lines))
                    if not future.done():
                        future.set_result(end)
                self._grown.set()
            self._waiting_bytes -= sum(size for _, size, _ in group)
            metrics.SPOOL_BACKLOG.set(self.backlog_bytes)
        self._writer = None

    def _group(self) -> list[tuple[Batch, int, asyncio.Future[Position]]]:
        group = [self._waiting.popleft()]
        room = _GROUP_BYTES - group[0][1]
        while self._waiting and self._waiting[0][1] <= room:
            group.append(self._waiting.popleft())
            room -= group[-1][1]
        return group

    def _commit(self, batches: Sequence[Batch]) -> list[Position]:
        """Write ``batches`` and wait for the disk; where each of them ends."""
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

    def _open_segment(self) -> _Segment:
        """The segment that is appended to; a new one if there is none."""
        listed = self._listed()
        if listed and listed[-1].file is not None:
            return listed[-1]
        number = max(int(time.time()), listed[-1].number + 1 if listed else 0)
        path = self.folder / f"{number:020}.spool"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        one = _Segment(number, path, 0, 0, file)
        with self._state:
            self._segments.append(one)
        try:
            os.fsync(self._folder)
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
                self._segments.remove(one)

    # Reading ----------------------------------------------------------------------------------

    def _listed(self) -> list[_Segment]:
        with self._state:
            return list(self._segments)

    def _reaches_beyond(self, after: Position) -> bool:
        return any(one.end and Position(one.number, one.end) > after for one in self._listed())

    def _lock(self) -> None:
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._folder)
            raise LakeError(
                "another process uses this spool",
                where=str(self.folder),
                remedy="stop it, or choose another folder with data",
            ) from None
        except OSError as error:  # a file system without locks
            _log.warning("%s: cannot be locked: %s", self.folder, error.strerror)

    def _found(self) -> list[_Segment]:
        """The segments that earlier runs have left, without what a torn write left at the end."""
        found: list[_Segment] = []
        with writing(self.folder):
            for path in sorted(self.folder.glob("*.spool")):
                if path.stem.isdigit():
                    size = path.stat().st_size
                    found.append(_Segment(int(path.stem), path, size, size))
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
        aside = self.folder / f"{one.path.stem}-{offset}.damaged"
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


def _refusal(error: Exception, folder: Path) -> LakeError:
    what = (error.strerror or str(error)) if isinstance(error, OSError) else repr(error)
    return LakeError(
        f"cannot be written: {what.lower()}",
        where=str(folder),
        remedy="free some disk space: senders bring again what was not taken",
    )
