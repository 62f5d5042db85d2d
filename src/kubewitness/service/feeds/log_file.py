"""One file of a log: how far it was read, and how it is known again.

A name says little about a file that is rotated, and an inode number is soon given to another. So a
file is known by what is in it: its first bytes, and those right before the place up to which it was
read. A copy of it, packed or not, is known again the same way.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from kubewitness.service.feeds.lines import BODY, Cut, Cutter
from kubewitness.sources.compression import Blocks, compression

WINDOW = 1024
"""Bytes at the beginning, and before the place, that a file is known by."""


class Mark(msgspec.Struct, frozen=True):
    """How far a file was read: ``offset`` bytes, unpacked. ``head`` and ``tail`` are digests of
    what it is known by: no text of the log is kept. ``skipping``: see ``Cut``."""

    inode: int
    offset: int
    head: str
    tail: str
    skipping: bool = False


class Identity(NamedTuple):
    """Which file a name leads to."""

    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino)


class LogFile:
    """A file that is read, or was to its end and is closed. ``offset`` counts bytes of the log,
    which are those of the file unless it is packed.

    ``met`` is when it was opened first, ``changed`` when it last did, by a monotonic clock.
    Whatever reads raises ``OSError``.
    """

    def __init__(self, path: Path, now: float, age: float = 0.0) -> None:
        """Opens ``path``, which last changed ``age`` seconds before ``now``."""
        self.path = path
        self.offset = 0
        self.met = now
        self.changed = now - max(0.0, age)
        self.problem = ""
        self._head = b""
        self._tail = b""
        self._skipping = False
        self._file = _opened(path)
        status = os.fstat(self._file.fileno())
        self.identity = Identity.of(status)
        self.size = status.st_size
        self._state = self._closed = _state(status)

    # How far it was read ------------------------------------------------------------------------

    def mark(self) -> Mark:
        head, tail = _digest(self._head), _digest(self._tail)
        return Mark(self.identity.inode, self.offset, head, tail, self._skipping)

    def advance(self, cut: Cut) -> None:
        """``cut``, the next one of ``cuts``, is durable."""
        self.offset += len(cut.raw)
        self._skipping = cut.skipping
        if len(self._head) < WINDOW:
            self._head += cut.raw[: WINDOW - len(self._head)]
        self._tail = (self._tail + cut.raw[-WINDOW:])[-WINDOW:]

    def restart(self) -> None:
        """Begins anew: what was read is no longer there."""
        self.offset = 0
        self._head = self._tail = b""
        self._skipping = False

    # What became of it --------------------------------------------------------------------------

    def observe(self, status: os.stat_result, now: float) -> None:
        """``status`` is what it looks like ``now``, before it is read."""
        self.size = status.st_size
        if self._state != _state(status):
            self._state, self.changed = _state(status), now

    @property
    def is_open(self) -> bool:
        return not self._file.closed

    @property
    def has_more(self) -> bool:
        """Whether it changed since it was closed."""
        return self._state != self._closed

    def close(self) -> None:
        self._file.close()
        self._closed = self._state

    def reopen(self) -> None:
        self._file = _opened(self.path)
        if Identity.of(os.fstat(self._file.fileno())) != self.identity:
            self._file.close()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def status(self) -> os.stat_result:
        """Of the open file, whatever its name leads to by now."""
        return os.fstat(self._file.fileno())

    # What is in it ------------------------------------------------------------------------------

    @property
    def packed(self) -> bool:
        return compression(os.pread(self._file.fileno(), 6, 0)) != "none"

    def intact(self) -> bool:
        """Whether what was read is still there; else the file was truncated or written anew."""
        tail = self._at(self.offset - len(self._tail), len(self._tail))
        return tail == self._tail and self._at(0, len(self._head)) == self._head

    def alike(self, marks: Sequence[Mark]) -> list[Mark]:
        """Those of files that begin like this one, the farthest read first."""
        head = self._at(0, WINDOW)
        digests = {size: _digest(head[:size]) for size in {min(WINDOW, m.offset) for m in marks}}
        found = [m for m in marks if m.head == digests[min(WINDOW, m.offset)]]
        return sorted(found, key=lambda mark: -mark.offset)

    def resume(self, mark: Mark) -> bool:
        """Goes on at ``mark`` if the file holds what was read up to there."""
        begin = max(0, mark.offset - WINDOW)
        tail = self._at(begin, mark.offset - begin)
        if _digest(tail) != mark.tail:
            return False
        self.offset, self._skipping = mark.offset, mark.skipping
        self._head, self._tail = self._at(0, min(WINDOW, mark.offset)), tail
        return True

    def cuts(self, finished: bool) -> Iterator[Cut]:
        """What is in it from ``offset`` on; ``finished``: its last line may lack a newline.

        ``problem`` says afterwards what is wrong with a packed file.
        """
        cutter = Cutter(self._skipping)
        for block in self._blocks(self.offset, BODY):
            yield from cutter.cuts(block)
        rest = cutter.rest()
        if finished and rest is not None:
            yield rest

    def _at(self, begin: int, size: int) -> bytes:
        found = b""
        if size:
            for block in self._blocks(begin, size):
                found += block[: size - len(found)]
                if len(found) == size:
                    break
        return found

    def _blocks(self, begin: int, most: int) -> Iterator[bytes]:
        """The log from ``begin`` on, unpacked."""
        file = self._file.fileno()
        if not self.packed:
            while block := os.pread(file, most, begin):
                begin += len(block)
                yield block
            return
        with os.fdopen(os.dup(file), "rb") as packed:
            packed.seek(0)
            blocks = Blocks(packed)
            for block in blocks:
                if len(block) > begin:
                    yield block[begin:]
                begin = max(0, begin - len(block))
            self.problem = blocks.problem


def _opened(path: Path) -> BinaryIO:
    # A pipe that lies there would keep us waiting for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a file")
    return file


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()
