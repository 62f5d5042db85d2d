"""What the tests of feeds share: a spool, an intake and positions in memory that can be told to
fail, and a log file that is written and rotated as an API server does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from kubewitness.errors import LakeError


@dataclass(frozen=True)
class Batch:
    source: str
    lines: tuple[bytes, ...]


def intake(source: str, body: bytes) -> Batch:
    """Every line that is not blank."""
    return Batch(source, tuple(line for line in body.splitlines() if line.strip(b"\0 ")))


@dataclass
class Spool:
    """Keeps what it is given. ``full``: raises as a spool without room does."""

    batches: list[Batch] = field(default_factory=list)
    full: bool = False
    refused: int = 0

    async def append(self, batch: Batch, /) -> None:
        if self.full:
            self.refused += 1
            raise LakeError("the spool is full", where="spool")
        await asyncio.sleep(0)
        self.batches.append(batch)

    @property
    def lines(self) -> list[bytes]:
        return [line for batch in self.batches for line in batch.lines]


@dataclass
class Positions:
    kept: dict[str, bytes] = field(default_factory=dict)
    away: bool = False

    def get(self, feed: str, /) -> bytes | None:
        self._fail()
        return self.kept.get(feed)

    def set(self, feed: str, value: bytes, /) -> None:
        self._fail()
        self.kept[feed] = value

    def _fail(self) -> None:
        if self.away:
            raise LakeError("the database is locked", where="state")


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until something is ``true``; fails after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def running(run: Awaitable[None], then: Awaitable[None]) -> None:
    """``run`` for as long as ``then`` takes; what either raises is raised."""
    task = asyncio.ensure_future(run)
    rest = asyncio.ensure_future(then)
    try:
        await asyncio.wait([task, rest], return_when=asyncio.FIRST_COMPLETED)
        if task.done() and not rest.done():
            await task
        await rest
    finally:
        for one in (task, rest):
            one.cancel()
        await asyncio.gather(task, rest, return_exceptions=True)


class Log:
    """A log as lumberjack writes it: appended to, renamed with the time, begun anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rotations = 0
        self.written: list[bytes] = []
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def write(self, *lines: bytes) -> None:
        os.write(self._file, b"".join(line + b"\n" for line in lines))
        self.written += lines

    def numbered(self, n: int, size: int = 40) -> None:
        """``n`` lines that are told apart."""
        first = len(self.written)
        self.write(*(b'{"line":%d,"pad":"%s"}' % (k, b"x" * size) for k in range(first, first + n)))

    def rotate(self) -> Path:
        os.close(self._file)
        self.rotations += 1
        stamp = f"2026-11-23T18-{self.rotations // 60000:02}-{self.rotations / 1000 % 60:06.3f}"
        old = self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}")
        self.path.rename(old)
        self._file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        return old

    def close(self) -> None:
        os.close(self._file)
