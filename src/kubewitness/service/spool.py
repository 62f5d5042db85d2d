"""What was accepted and is not in the lake yet: batches on disk, in the order in which they came.

``append`` returns once the batch would survive a power cut. Everybody who waits at that time shares
one fsync: the disk gets as many as it can take, whatever the load. One process has the spool, and
one task in it reads and discards what it has stored elsewhere. The files: ``service/journal.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from kubewitness.errors import LakeError, SpoolFull
from kubewitness.service import metrics
from kubewitness.service.journal import Journal, Position
from kubewitness.service.segment import Batch

__all__ = ["Batch", "Position", "Spool", "SpoolFull"]

_log = logging.getLogger(__name__)

_GROUP_BYTES = 64 << 20
"""Of lines that share one write; a batch that is longer has one of its own."""

_BEGIN = Position(0, 0)
DAMAGED_BYTES = 1 << 30
_DISCARDED = "discarded"


class _Waiting(NamedTuple):
    batch: Batch
    size: int
    durable: asyncio.Future[Position]


class Spool:
    """The spool in ``folder``, made when missing.

    ``limit``: bytes on disk that may wait. Files of ``segment_bytes`` are deleted as a whole, so
    there may be that much more. Raises ``LakeError`` where the folder cannot be used, or another
    process uses it.
    """

    def __init__(self, folder: Path, *, limit: int, segment_bytes: int = 64 << 20) -> None:
        self._folder = folder
        self._limit = limit
        self._discarded = self._remembered()
        self._journal = Journal(folder, segment_bytes, self._discarded.segment)
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        # Whatever else the threads of the process wait for, what comes in gets to the disk.
        self._thread = ThreadPoolExecutor(1, "spool")
        self._grown = asyncio.Event()

    @property
    def backlog_bytes(self) -> int:
        """What is on disk and was not discarded."""
        return self._journal.bytes_behind(self._discarded)

    @property
    def full(self) -> bool:
        return self.backlog_bytes + self._waiting_bytes >= self._limit

    async def append(self, batch: Batch) -> Position:
        """Keep ``batch``; returns once it is durable.

        Raises ``SpoolFull`` where as much waits as may wait (one batch is always taken), and
        ``LakeError`` where the disk did not take it. Then nothing was kept, or it was and nobody
        knows: a batch may come twice.
        """
        held = self.backlog_bytes + self._waiting_bytes
        size = sum(map(len, batch.lines))
        if held and held + size > self._limit:
            raise SpoolFull(
                f"{held >> 20} MiB wait to be stored, and no more may",
                where=str(self._folder),
                remedy="see why they are not stored, or raise retention.spool_bytes",
            )
        waiting = _Waiting(batch, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += size
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await waiting.durable

    def read(self, after: Position | None, *, most_bytes: int) -> list[tuple[Position, Batch]]:
        """What is durable behind ``after`` (``None``: from the beginning), in order.

        No more than ``most_bytes`` of lines, but one batch at least. Damaged records are passed
        over, kept aside and counted. Raises ``LakeError`` where the disk cannot be read at all.
        """
        found: list[tuple[Position, Batch]] = []
        room = most_bytes
        for entry in self._journal.entries(after or _BEGIN):
            room -= sum(map(len, entry[1].lines))
            if found and room < 0:
                break
            found.append(entry)
        return found

    async def wait(self, after: Position | None) -> None:
        """Until there is something behind ``after``."""
        while not self._journal.bytes_behind(after or _BEGIN):
            self._grown.clear()
            await self._grown.wait()

    def discard(self, until: Position) -> None:
        """Everything up to ``until`` is stored elsewhere: delete what holds nothing else."""
        self._discarded = max(self._discarded, until)
        self._journal.discard(self._discarded)
        self._remember()
        metrics.SPOOL_BACKLOG.set(self.backlog_bytes)

    def forget_damaged(self, before: float) -> None:
        """Delete bytes that were kept aside before then (unix seconds), and the oldest beyond a
        gigabyte."""
        self._journal.forget_damaged(before, DAMAGED_BYTES)

    @property
    def discarded(self) -> Position:
        """Where the first entry begins that was not discarded, also before a restart."""
        return self._discarded

    def _remember(self) -> None:
        """Files are deleted as a whole; without this the rest of one would be read again."""
        draft = self._folder / f"{_DISCARDED}.draft"
        with suppress(OSError):  # what is read again is known to be there
            draft.write_bytes(msgspec.json.encode(self._discarded))
            draft.replace(self._folder / _DISCARDED)

    def _remembered(self) -> Position:
        try:
            text = (self._folder / _DISCARDED).read_bytes()
            return Position(*msgspec.json.decode(text, type=tuple[int, int]))
        except (OSError, msgspec.MsgspecError):
            return _BEGIN

    async def close(self) -> None:
        """Finish what is being written and let go of the folder."""
        if self._writer is not None:
            await self._writer
        self._thread.shutdown()
        self._journal.close()

    async def _write(self) -> None:
        """Write what waits, all of it at once, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            group = self._group()
            batches = [one.batch for one in group]
            try:
                ends = await loop.run_in_executor(self._thread, self._journal.append, batches)
            except Exception as error:  # whatever it is, nobody may wait for ever
                _log.error("%s: %s", self._folder, error)
                for one in group:
                    if not one.durable.done():
                        one.durable.set_exception(_refusal(error, self._folder))
            else:
                for one, end in zip(group, ends, strict=True):
                    events = len(one.batch.lines)
                    source, _, _ = one.batch.source.partition(":")
                    metrics.EVENTS_INGESTED.labels(source=source).inc(events)
                    if not one.durable.done():
                        one.durable.set_result(end)
                self._grown.set()
            self._waiting_bytes -= sum(one.size for one in group)
            metrics.SPOOL_BACKLOG.set(self.backlog_bytes)
        self._writer = None

    def _group(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        room = _GROUP_BYTES - group[0].size
        while self._waiting and self._waiting[0].size <= room:
            group.append(self._waiting.popleft())
            room -= group[-1].size
        return group


def _refusal(error: Exception, folder: Path) -> LakeError:
    what = (error.strerror or str(error)) if isinstance(error, OSError) else repr(error)
    return LakeError(
        f"cannot be written: {what.lower()}",
        where=str(folder),
        remedy="free some disk space: senders bring again what was not taken",
    )
