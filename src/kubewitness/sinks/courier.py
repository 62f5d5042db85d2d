"""Carries messages from the outbox to the sinks, for as long as it takes.

Each sink has a carrier of its own, so none waits for another. A carrier takes the message that has
been due for longest, sends it, and writes down what became of it before it takes the next: a
process that is killed in between sends that one again. A receiver may therefore hear a revision of
an incident twice, but never none, and never an older one after a newer.

Two things wait after a failure, as two things may be wrong: the message (this incident is too large
for that receiver) and the sink (it is down). Either waits a random time below a limit that doubles
with each failure, so that what failed at once does not come again at once, and not before the time
that the receiver asked for.

A sink that forgets what it was told (``Reminded``) is told all of it again while nothing new waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal, ParamSpec, Protocol, TypeVar

from kubewitness.config import settings
from kubewitness.errors import StateError
from kubewitness.report.inert import plain
from kubewitness.sinks.sink import DeliveryError, Notice, Reminded, Sink, Standing
from kubewitness.state.database import State
from kubewitness.state.outbox import LONGEST, Delivery

Outcome = Literal["delivered", "failed", "given_up"]

POLL = 1.0
"""Seconds between two looks at the outbox, where nobody wakes the courier."""
FIRST_WAIT = 1.0
LONGEST_WAIT = 300.0
MINUTE = timedelta(minutes=1)
GRACE = 5.0
"""Seconds that a sink may take beyond its own timeout."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Clock(Protocol):
    """What time it is, and letting it pass."""

    def now(self) -> datetime: ...

    async def sleep(self, seconds: float, until: asyncio.Event | None = None) -> None:
        """Returns after so many seconds, or as soon as ``until`` is set."""


class WallClock:
    """The time of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float, until: asyncio.Event | None = None) -> None:
        if until is None:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await until.wait()


class Courier:
    """Serves ``sinks``, with messages of ``clusters`` only: several services may share a state,
    each with its own clusters, and sinks that are called the same. More may be added meanwhile.

    ``count`` is called with the name of a sink and the outcome of each attempt.
    """

    def __init__(
        self,
        state: State,
        sinks: Iterable[tuple[settings.Sink, Sink]],
        *,
        clusters: Collection[str] | None = None,
        count: Callable[[str, Outcome], None] = lambda sink, outcome: None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._carriers = [
            _Carrier(state, wanted, sink, clusters, count, clock or WallClock(), random or Random())
            for wanted, sink in sinks
        ]

    async def run(self) -> None:
        """Serve until cancelled. What is on its way then is sent again by the next run."""
        async with asyncio.TaskGroup() as group:
            for carrier in self._carriers:
                group.create_task(carrier.run(), name=f"courier {carrier.name}")

    def wake(self) -> None:
        """There is something in the outbox: look now."""
        for carrier in self._carriers:
            carrier.woken.set()


class _Carrier:
    """Serves one sink."""

    def __init__(
        self,
        state: State,
        wanted: settings.Sink,
        sink: Sink,
        clusters: Collection[str] | None,
        count: Callable[[str, Outcome], None],
        clock: Clock,
        random: Random,
    ) -> None:
        self.name = wanted.name
        self.woken = asyncio.Event()
        self._state = state
        self._sink = sink
        self._clusters = clusters
        self._count = count
        self._clock = clock
        self._random = random
        self._patience = wanted.timeout + GRACE
        self._sent: deque[datetime] = deque(maxlen=max(1, wanted.per_minute))
        self._failures = 0
        self._reminded = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        while True:
            await self._pace()
            self.woken.clear()
            clusters = None if self._clusters is None else list(self._clusters)
            delivery = await self._stored(
                self._state.due, self.name, self._clock.now(), clusters=clusters
            )
            if delivery is None:
                await self._remind(clusters)
                await self._clock.sleep(POLL, self.woken)
            else:
                await self._carry(delivery)

    async def _pace(self) -> None:
        """Wait until the minute that ends now has room for another request."""
        if len(self._sent) == self._sent.maxlen:
            free = self._sent[0] + MINUTE - self._clock.now()
            # Not longer than a minute, wherever the clock was put.
            await self._clock.sleep(min(max(free, timedelta()), MINUTE).total_seconds())

    async def _carry(self, delivery: Delivery) -> None:
        notice = Notice(delivery.kind, delivery.incident, delivery.revision)
        self._sent.append(self._clock.now())
        try:
            async with asyncio.timeout(self._patience):
                await self._sink.send(notice)
        except DeliveryError as error:
            if error.permanent:
                await self._give_up(delivery, error)
            else:
                await self._put_off(delivery, _line(error), error.retry_after)
        except TimeoutError:
            await self._put_off(delivery, f"no answer in {self._patience:g} s", None)
        except Exception as error:
            # A mistake in a template or in a sink: the incident must not be lost by it.
            _log.exception("sink %s: cannot send", self.name)
            await self._put_off(delivery, _line(error), None)
        else:
            await self._stored(self._state.delivered, delivery)
            self._count(self.name, "delivered")
            if self._failures:
                _log.info("sink %s: works again, after %d failures", self.name, self._failures)
            self._failures = 0

    async def _remind(self, clusters: list[str] | None) -> None:
        """Send once more what stands, to a sink that would forget it. If it fails, the next time
        is soon."""
        sink, now = self._sink, self._clock.now()
        if not isinstance(sink, Reminded):
            return
        if 0 <= (now - self._reminded).total_seconds() < sink.every:
            return
        self._reminded = now
        standing = await self._stored(
            self._state.standing, self.name, now - sink.lasts, clusters=clusters
        )
        if not standing:
            return
        self._sent.append(now)
        try:
            async with asyncio.timeout(self._patience):
                await sink.remind(
                    [Standing(Notice("opened", one, told), at) for one, told, at in standing]
                )
        except Exception as error:  # what is new has to get through all the same
            _log.info("sink %s: cannot be reminded of what stands: %s", self.name, _line(error))

    async def _give_up(self, delivery: Delivery, error: DeliveryError) -> None:
        told = _line(error)
        _log.error("sink %s: will never take %s: %s", self.name, plain(delivery.incident.id), told)
        await self._stored(self._state.given_up, delivery, told)
        self._count(self.name, "given_up")

    async def _put_off(self, delivery: Delivery, error: str, asked: float | None) -> None:
        self._failures += 1
        level = logging.WARNING if self._failures == 1 else logging.INFO
        _log.log(level, "sink %s: %s; will be tried again", self.name, error)
        least = min(asked or 0.0, LONGEST.total_seconds())
        wait = max(least, self._wait(delivery.attempts))
        retry_at = self._clock.now() + timedelta(seconds=wait)
        await self._stored(self._state.failed, delivery, error, retry_at)
        self._count(self.name, "failed")
        await self._clock.sleep(max(least, self._wait(self._failures - 1)))

    def _wait(self, failures: int) -> float:
        """Seconds to wait after one more failure than these."""
        return self._random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures, 30)))

    async def _stored(self, call: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What the state answers, once it can."""
        failures = 0
        while True:
            try:
                return await asyncio.to_thread(call, *args, **kwargs)
            except StateError as error:
                failures += 1
                level = logging.WARNING if failures == 1 else logging.INFO
                _log.log(level, "sink %s waits for the state: %s", self.name, _line(error))
                await self._clock.sleep(self._wait(failures))


def _line(error: Exception) -> str:
    """What an error says, in one line that is safe to look at."""
    return plain(" ".join(str(error).split()) or type(error).__name__, 500)
