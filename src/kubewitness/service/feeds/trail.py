"""Follows a log through its files: what is new in them, the oldest first, each byte once.

Nothing is noticed that must be noticed in time: a look compares what lies there with what was read,
so that it makes no difference whether a file was rotated just now or while nobody looked. Only what
is deleted or truncated before a look is lost. The first look reads everything that is there: a
history to judge by is worth more than the minutes it takes.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from kubewitness.errors import SourceError
from kubewitness.report.inert import plain
from kubewitness.service import metrics
from kubewitness.service.feeds.lines import Cut
from kubewitness.service.feeds.log_file import Identity, LogFile, Mark
from kubewitness.service.feeds.rotation import Family, families
from kubewitness.sources.files import reason

logger = logging.getLogger(__name__)

LINGER = 30.0
"""Seconds without a change after which a rotated file counts as finished, and a packed one as
completely written."""

_LOOK = 64 << 20
"""Bytes of one file after which a look goes on with the next: a writer may be as fast as we are."""

_PAST = 64


class _Role(Enum):
    LIVE = "the newest of its log"
    ROTATED = "another that lies beside it"
    STRAY = "where no name leads any more"


class Piece(NamedTuple):
    """The next ``cut`` of ``file``. Give it to ``Trail.took`` once it is durable."""

    file: LogFile
    cut: Cut

    @property
    def source(self) -> str:
        return "file:" + str(self.file.path).encode("utf-8", "backslashreplace").decode()


class Trail:
    """``named`` (see ``rotation.families``) from ``marks`` on, which ``marks()`` gave."""

    def __init__(self, named: Path, marks: Iterable[Mark] = (), *, linger: float = LINGER) -> None:
        self._named = named
        self._linger = linger
        self._files: dict[Identity, LogFile] = {}
        # Of files that are gone: what was packed or copied from them is known by these.
        self._past = deque(marks)
        self._absent = ""
        self._troubles: dict[Path, str] = {}

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    @property
    def behind(self) -> int:
        """Bytes that were there at the last look and are not read yet."""
        return sum(max(0, f.size - f.offset) for f in self._files.values() if f.is_open)

    def marks(self) -> list[Mark]:
        return [*self._past, *(file.mark() for file in self._files.values() if file.offset)]

    def took(self, piece: Piece) -> None:
        piece.file.advance(piece.cut)

    def look(self) -> Iterator[Piece]:
        """What is there now and was not read. Never raises for what is or is not there."""
        now = time.monotonic()
        met = self._meet(now)
        strays = [file for one, file in self._files.items() if one not in met]
        for file in strays:  # rotated to where no name leads: deleted, or moved away
            if file.is_open:
                file.observe(file.status(), now)
                yield from self._news(file, _Role.STRAY, now)
            if not file.is_open:
                self._forget(file)
        for file, role in met.values():
            yield from self._news(file, role, now)
        while len(self._past) > _PAST:
            self._past.popleft()

    def _meet(self, now: float) -> dict[Identity, tuple[LogFile, _Role]]:
        """The files that are there, in order."""
        met: dict[Identity, tuple[LogFile, _Role]] = {}
        absent = ""
        found: list[Family] = []
        try:
            found = families(self._named)
        except SourceError as error:
            absent = error.what
        except OSError as error:
            absent = reason(error)
        if absent and absent != self._absent:
            logger.warning("%s: nothing to follow yet: %s", plain(str(self._named)), absent)
        self._absent = absent
        for family in found:
            for path in family.files:
                try:
                    file = self._file(path, now)
                except OSError as error:
                    if error.errno != errno.ENOENT:  # rotated meanwhile
                        self._trouble(path, reason(error))
                else:
                    role = _Role.LIVE if path == family.files[-1] else _Role.ROTATED
                    if file is not None:
                        met.setdefault(file.identity, (file, role))
        return met

    def _file(self, path: Path, now: float) -> LogFile | None:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        file = self._files.get(Identity.of(status))
        if file is not None:
            file.path = path
            file.observe(status, now)
            return file
        file = LogFile(path, now, time.time() - status.st_mtime)
        if file.identity in self._files:  # rotated between the two calls: next time
            file.close()
            return None
        return self._files.setdefault(file.identity, file)

    def _news(self, file: LogFile, role: _Role, now: float) -> Iterator[Piece]:
        try:
            yield from self._read(file, role, now)
        except OSError as error:
            self._trouble(file.path, reason(error))
            self._forget(file)
        else:
            if self._troubles.pop(file.path, None):
                logger.info("%s: is read again", plain(str(file.path)))

    def _read(self, file: LogFile, role: _Role, now: float) -> Iterator[Piece]:
        """What is new in ``file``, which is closed where nothing more is expected."""
        if not file.is_open:
            if not file.has_more:
                return
            file.reopen()
        packed = file.packed
        finished = (packed or role is not _Role.LIVE) and now - file.changed >= self._linger
        if (packed and not finished) or not self._in_place(file, now):
            return
        end = file.offset + _LOOK
        for cut in file.cuts(finished):
            yield Piece(file, cut)
            if file.offset >= end and not packed:
                return
        if packed and file.problem:
            logger.warning("%s: %s", plain(str(file.path)), file.problem)
        if finished or (role is _Role.ROTATED and file.offset >= file.size):
            file.close()

    def _in_place(self, file: LogFile, now: float) -> bool:
        """Whether ``file`` can be read from its offset, which is found first where it has none."""
        if file.offset and not file.intact():
            logger.warning("%s: was truncated or written anew", plain(str(file.path)))
            self._past.append(file.mark())
            file.restart()
        if file.offset:
            return True
        others = (other.mark() for other in self._files.values() if other.offset)
        alike = file.alike([*self._past, *others])
        for mark in alike:
            if file.resume(mark):
                if mark in self._past and mark.inode == file.identity.inode:
                    self._past.remove(mark)
                return True
        # A copy that is being made has yet to grow to where its original was left.
        own = any(mark.inode == file.identity.inode for mark in alike)
        growing = bool(alike) and not own and file.size < alike[0].offset
        return not growing or now - file.met >= self._linger

    def _forget(self, file: LogFile) -> None:
        file.close()
        del self._files[file.identity]
        if file.offset:
            self._past.append(file.mark())

    def _trouble(self, path: Path, what: str) -> None:
        metrics.FEED_ERRORS.labels(source="file").inc()
        if self._troubles.get(path) != what:
            self._troubles[path] = what
            logger.warning("%s: cannot be read: %s", plain(str(path)), plain(what))
