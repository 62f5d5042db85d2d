"""What all feeds have in common: bytes become a durable batch, and only then a position is kept.

A feed reads a source for as long as it runs. What it read goes through the intake into the spool;
when the spool has it on disk, the feed keeps how far it came. A crash in between reads a little
again, and the lake drops what it has already. Nothing is dropped on this side: while the spool is
full or the disk is, a feed waits, and with it its source.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

from kubewitness.errors import KubewitnessError
from kubewitness.report.inert import plain

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Intake: TypeAlias = Callable[[str, bytes], Any]
"""``(source, body)`` to a batch of ``lines``: it counts and sets aside what is no event.

``source`` is the kind of feed (``file``, ``bucket``, ``kafka``, ``stdin``), a colon, and the place.
"""


class Spool(Protocol):
    """Takes what the intake made; returns once it is durable."""

    async def append(self, batch: Any, /) -> object: ...


class Positions(Protocol):
    """How far each feed came, by the feed's name; both calls may block."""

    def get(self, feed: str, /) -> bytes | None: ...

    def set(self, feed: str, value: bytes, /) -> None: ...


class Feed(Protocol):
    """``name`` is unique among all feeds; ``behind`` is how much of the source is not taken yet, as
    far as is known: bytes of files, objects of a bucket, messages of a topic."""

    @property
    def name(self) -> str: ...

    @property
    def behind(self) -> int: ...

    async def run(self) -> None:
        """Until it is cancelled, or the source ends for good. Faults of the source, the spool and
        the state are waited out."""


class Inlet:
    """The way from a feed into the spool, which waits where it has to."""

    def __init__(self, intake: Intake, spool: Spool, positions: Positions) -> None:
        self._intake = intake
        self._spool = spool
        self._positions = positions

    async def take(self, source: str, body: bytes) -> None:
        """Returns when every event in ``body`` is durable, however long that takes."""
        batch: Any = None
        for delay in delays(0.05, 5.0):
            try:
                if batch is None:
                    batch = await in_thread(self._intake, source, body)
                if batch.lines:
                    await self._spool.append(batch)
            except (KubewitnessError, OSError) as error:
                if delay.tries in (1, 10) or delay.tries % 100 == 0:
                    logger.warning("%s waits for the spool: %s", plain(source), plain(str(error)))
                await asyncio.sleep(delay.seconds)
            else:
                return

    async def position(self, feed: str) -> bytes | None:
        """How far ``feed`` came. Waits until the store answers: to begin anew would be costly."""
        for delay in delays(0.2, 15.0):
            try:
                return await in_thread(self._positions.get, feed)
            except KubewitnessError as error:
                logger.warning("%s: position not known yet: %s", plain(feed), plain(str(error)))
                await asyncio.sleep(delay.seconds)
        raise AssertionError("delays never end")

    async def remember(self, feed: str, value: bytes) -> None:
        """Keeps the position. A store that fails costs reading again after a crash, no more."""
        try:
            await in_thread(self._positions.set, feed, value)
        except KubewitnessError as error:
            logger.warning("%s: position not kept: %s", plain(feed), plain(str(error)))


class Delay:
    """The wait after the ``tries``-th failure in a row (from 1), in ``seconds``."""

    __slots__ = ("seconds", "tries")

    def __init__(self, tries: int, seconds: float) -> None:
        self.tries = tries
        self.seconds = seconds


def delays(first: float, most: float) -> Iterator[Delay]:
    """Without end: twice as long each time up to ``most`` seconds, a part of it by chance, so that
    many who wait for one thing do not come back at once."""
    tries = 0
    while True:
        tries += 1
        longest = min(most, first * 2 ** min(tries - 1, 30))
        yield Delay(tries, longest * random.uniform(0.5, 1.0))


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``asyncio.to_thread``, which on cancellation first lets the call come to its end: what it
    works with is closed next."""
    task = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # of which nobody is told any more
        raise
