"""The courier: every sink hears everything, in time that is not waited for but simulated."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kubewitness.config.settings import Sink as Settings
from kubewitness.errors import StateError, StateUnavailable
from kubewitness.incidents.model import SEVERITIES
from kubewitness.sinks import courier as module
from kubewitness.sinks.courier import LONGEST_WAIT, Courier, WallClock
from kubewitness.sinks.sink import DeliveryError, Notice, Standing
from kubewitness.state.database import State
from state_fixtures import MINUTE, NOW, incident, sink

HOUR = timedelta(hours=1)


class Simulation:
    """Time that jumps to the next alarm as soon as all of ``parties`` sleep.

    The parties are the carriers, one a sink, and the test.
    """

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self.time = NOW
        self._sleepers: list[Sleeper] = []

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float, until: asyncio.Event | None = None) -> None:
        sleeper = Sleeper(self.time + timedelta(seconds=seconds), asyncio.Event(), until)
        self._sleepers.append(sleeper)
        self._advance()
        waits = [asyncio.ensure_future(one.wait()) for one in (sleeper.alarm, until) if one]
        try:
            await asyncio.wait(waits, return_when="FIRST_COMPLETED")
        finally:
            sleeper.alarm.set()
            for wait in waits:
                wait.cancel()

    def put_back(self, by: timedelta) -> None:
        """Who sleeps does so for the time that it was told, not until a time of day."""
        self.time -= by
        self._sleepers = [one._replace(at=one.at - by) for one in self._sleepers]

    def _advance(self) -> None:
        self._sleepers = [one for one in self._sleepers if one.asleep]
        if len(self._sleepers) == self.parties:
            first = min(self._sleepers, key=lambda one: one.at)
            self.time = max(self.time, first.at)
            first.alarm.set()


class Sleeper(NamedTuple):
    at: datetime
    alarm: asyncio.Event
    until: asyncio.Event | None

    @property
    def asleep(self) -> bool:
        return not self.alarm.is_set() and not (self.until and self.until.is_set())


class Receiver:
    """A sink that notes what it hears and when, and does what ``answer`` does first."""

    def __init__(
        self,
        settings: Settings,
        clock: Simulation | WallClock,
        answer: Callable[[Notice], Awaitable[None]] | None = None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.asked: list[datetime] = []
        self.heard: list[tuple[datetime, Notice]] = []
        self._clock = clock
        self._answer = answer

    def show(self, notice: Notice) -> str:
        return notice.headline

    async def send(self, notice: Notice) -> None:
        self.asked.append(self._clock.now())
        if self._answer:
            await self._answer(notice)
        self.heard.append((self._clock.now(), notice))

    @property
    def stories(self) -> list[tuple[str, str, int]]:
        return [(notice.kind, notice.incident.id, notice.revision) for _, notice in self.heard]


class Forgetful(Receiver):
    """A sink that wants to be reminded."""

    every = 180.0
    lasts = timedelta(days=1)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.reminders: list[tuple[datetime, list[Standing]]] = []

    async def remind(self, standing: Sequence[Standing]) -> None:
        self.reminders.append((self._clock.now(), list(standing)))


@pytest.fixture
def clock() -> Simulation:
    return Simulation(parties=2)


@pytest.fixture
def state(tmp_path: Path, clock: Simulation) -> Iterator[State]:
    with State(tmp_path / "state.sqlite", clock=clock.now) as opened:
        yield opened


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outbox is looked at once a minute: hours need not be simulated by the second."""
    monkeypatch.setattr(module, "POLL", 60.0)


def simulate(
    state: State,
    clock: Simulation,
    receivers: list[Receiver],
    course: Callable[[Courier], Coroutine[Any, Any, None]],
    **options: Any,
) -> Counter[tuple[str, str]]:
    """Let a courier serve ``receivers`` during ``course``; how often each attempt ended how."""
    outcomes: Counter[tuple[str, str]] = Counter()
    clock.parties = len(receivers) + 1

    async def everything() -> None:
        courier = Courier(
            state,
            [(one.settings, one) for one in receivers],
            clock=clock,
            count=lambda sink, outcome: outcomes.update([(sink, outcome)]),
            random=random.Random(7),
            **options,
        )
        serving = asyncio.create_task(courier.run())
        await course(courier)
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving

    asyncio.run(everything())
    return outcomes


def waiting(clock: Simulation, seconds: float) -> Callable[[Courier], Coroutine[Any, Any, None]]:
    async def course(_: Courier) -> None:
        await clock.sleep(seconds)

    return course


def refusing(
    clock: Simulation, until: datetime, **what: Any
) -> Callable[[Notice], Awaitable[None]]:
    """A sink that is down until then."""

    async def answer(_: Notice) -> None:
        if clock.now() < until:
            raise DeliveryError("connection refused", where="http://pager", **what)

    return answer


def test_what_is_in_the_outbox_is_told_once(state: State, clock: Simulation) -> None:
    pager = Receiver(sink(), clock)
    state.keep("prod", [incident("a"), incident("b")], [pager.settings])
    outcomes = simulate(state, clock, [pager], waiting(clock, 600))
    assert pager.stories == [("opened", "a", 1), ("opened", "b", 1)]
    assert [notice.incident for _, notice in pager.heard] == [incident("a"), incident("b")]
    assert outcomes == {("pager", "delivered"): 2}
    assert state.backlog() == []


def test_what_comes_later_is_told_within_a_second_and_at_once_when_woken(
    state: State, clock: Simulation
) -> None:
    pager = Receiver(sink(), clock)

    async def course(courier: Courier) -> None:
        await clock.sleep(10.5)
        state.keep("prod", [incident("a")], [pager.settings])
        await clock.sleep(10)
        state.keep("prod", [incident("b")], [pager.settings])
        courier.wake()
        await clock.sleep(10)

    simulate(state, clock, [pager], course)
    (first, _), (second, _) = pager.heard
    assert NOW + timedelta(seconds=10.5) <= first <= NOW + timedelta(seconds=11.5)
    assert second == NOW + timedelta(seconds=20.5)


def test_a_sink_that_forgets_is_reminded_of_what_stands(state: State, clock: Simulation) -> None:
    pager = Forgetful(sink(), clock)
    worst, milder = incident("a", severity="critical"), incident("a", severity="high", score=99.0)

    async def course(_: Courier) -> None:
        state.keep("prod", [worst, incident("b"), incident("gap")], [pager.settings])
        state.keep("prod", [incident("quiet", alert=False)], [pager.settings])
        await clock.sleep(400)
        state.keep("prod", [milder, incident("gap", ended_at=NOW)], [pager.settings])
        await clock.sleep(400)

    simulate(state, clock, [pager], course)
    assert len(pager.reminders) == 5
    for (before, _), (later, _) in zip(pager.reminders, pager.reminders[1:], strict=False):
        assert 180 <= (later - before).total_seconds() <= 182
    told = [sorted(one.notice.incident.id for one in standing) for _, standing in pager.reminders]
    assert told == [["a", "b", "gap"]] * 3 + [["a", "b"]] * 2
    # It is the same alert, also if it would be milder by now.
    (a,) = (one for one in pager.reminders[-1][1] if one.notice.incident.id == "a")
    assert (a.notice.incident.severity, a.notice.incident.score) == ("critical", 99.0)
    assert a.told_at == pager.heard[-2][0]


@pytest.mark.usefixtures("rarely")
def test_nobody_is_reminded_for_ever(state: State, clock: Simulation) -> None:
    pager = Forgetful(sink(), clock)
    state.keep("prod", [incident()], [pager.settings])
    simulate(state, clock, [pager], waiting(clock, 100_000))
    last, _ = pager.reminders[-1]
    assert timedelta(hours=23.9) < last - pager.heard[0][0] <= pager.lasts


def test_a_reminder_that_fails_holds_up_nothing(state: State, clock: Simulation) -> None:
    class Broken(Forgetful):
        async def remind(self, standing: Sequence[Standing]) -> None:
            await super().remind(standing)
            raise DeliveryError("connection refused")

    pager = Broken(sink(), clock)

    async def course(_: Courier) -> None:
        for n in range(5):
            state.keep("prod", [incident(f"i{n}")], [pager.settings])
            await clock.sleep(100)

    outcomes = simulate(state, clock, [pager], course)
    assert len(pager.reminders) > 1
    assert outcomes == {("pager", "delivered"): 5}


@pytest.mark.usefixtures("rarely")
def test_a_sink_that_is_down_for_an_hour_hears_everything_afterwards(
    state: State, clock: Simulation
) -> None:
    """Incidents open and grow meanwhile; each is told once, as it is now, and as opened."""
    back = NOW + HOUR
    pager = Receiver(sink(per_minute=600), clock, refusing(clock, back))

    async def course(_: Courier) -> None:
        for minute in range(60):
            grown = incident(f"i{minute % 20:02}", severity=SEVERITIES[1 + minute // 20])
            state.keep("prod", [grown], [pager.settings])
            await clock.sleep(60)
        await clock.sleep(2 * LONGEST_WAIT + 60)

    outcomes = simulate(state, clock, [pager], course)
    assert sorted(pager.stories) == [("opened", f"i{n:02}", 3) for n in range(20)]
    assert all(at >= back for at, _ in pager.heard)
    assert {notice.incident.severity for _, notice in pager.heard} == {"critical"}
    # It was neither forgotten nor bothered: the longest wait is five minutes.
    assert 12 < outcomes["pager", "failed"] < 60
    assert pager.heard[0][0] < back + timedelta(seconds=LONGEST_WAIT)
    assert state.backlog() == []


@pytest.mark.usefixtures("rarely")
def test_waits_grow_are_random_and_end(state: State, clock: Simulation) -> None:
    pager = Receiver(sink(per_minute=600), clock, refusing(clock, NOW + 10 * HOUR))
    state.keep("prod", [incident()], [pager.settings])
    simulate(state, clock, [pager], waiting(clock, 36_000))
    gaps = [
        (later - before).total_seconds()
        for before, later in zip(pager.asked, pager.asked[1:], strict=False)
    ]
    for n, gap in enumerate(gaps):
        assert gap <= min(LONGEST_WAIT, 2.0**n) + module.POLL
    assert len(set(gaps)) > len(gaps) // 2
    late = gaps[12:]
    assert LONGEST_WAIT / 3 < sum(late) / len(late) < LONGEST_WAIT


@pytest.mark.usefixtures("rarely")
def test_a_sink_is_not_asked_again_before_it_said(state: State, clock: Simulation) -> None:
    pager = Receiver(sink(), clock, refusing(clock, NOW + 10 * MINUTE, retry_after=600))
    state.keep("prod", [incident(f"i{n}") for n in range(5)], [pager.settings])
    outcomes = simulate(state, clock, [pager], waiting(clock, 700))
    assert pager.asked[1] >= NOW + 10 * MINUTE
    assert outcomes == {("pager", "failed"): 1, ("pager", "delivered"): 5}


@pytest.mark.usefixtures("rarely")
def test_a_sink_cannot_ask_for_silence_for_ever(state: State, clock: Simulation) -> None:
    pager = Receiver(sink(), clock, refusing(clock, NOW + MINUTE, retry_after=1e12))
    state.keep("prod", [incident()], [pager.settings])
    simulate(state, clock, [pager], waiting(clock, 3_700))
    assert pager.stories == [("opened", "a1", 1)]


def test_what_a_sink_will_never_take_is_given_up_and_counted(
    state: State, clock: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(notice: Notice) -> None:
        if notice.incident.id == "bad":
            raise DeliveryError("400 \x1b[2J", where="http://pager", permanent=True)

    pager = Receiver(sink(), clock, answer)
    state.keep("prod", [incident("bad"), incident("good")], [pager.settings])
    outcomes = simulate(state, clock, [pager], waiting(clock, 600))
    assert pager.stories == [("opened", "good", 1)]
    assert outcomes == {("pager", "given_up"): 1, ("pager", "delivered"): 1}
    assert r"will never take bad: http://pager: 400 \x1b[2J" in caplog.text


@pytest.mark.usefixtures("rarely")
@pytest.mark.parametrize("error", [KeyError("template"), ValueError("\0\udcff")])
def test_one_message_that_fails_holds_up_no_other(
    state: State, clock: Simulation, error: Exception
) -> None:
    async def answer(notice: Notice) -> None:
        if notice.incident.id == "bad":
            raise error

    pager = Receiver(sink(), clock, answer)

    async def course(courier: Courier) -> None:
        state.keep("prod", [incident("bad")], [pager.settings])
        for n in range(60):
            state.keep("prod", [incident(f"i{n}")], [pager.settings])
            courier.wake()
            await clock.sleep(60)

    outcomes = simulate(state, clock, [pager], course)
    assert {identity for _, identity, _ in pager.stories} == {f"i{n}" for n in range(60)}
    for n, (at, _) in enumerate(pager.heard):
        assert at <= NOW + timedelta(seconds=60 * n + 2)
    assert 10 < outcomes["pager", "failed"] < 40
    (backlog,) = state.backlog()
    assert (backlog.waiting, backlog.failing) == (1, 1)


@pytest.mark.usefixtures("rarely")
def test_a_slow_sink_holds_up_no_other(state: State, clock: Simulation) -> None:
    async def answer(_: Notice) -> None:
        await clock.sleep(600)

    slow = Receiver(sink("slow"), clock, answer)
    down = Receiver(sink("down"), clock, refusing(clock, NOW + HOUR))
    quick = Receiver(sink("quick"), clock)
    receivers = [slow, down, quick]
    judged = [incident(f"i{n}") for n in range(10)]
    state.keep("prod", judged, [one.settings for one in receivers])
    simulate(state, clock, receivers, waiting(clock, 2 * 3600))
    assert quick.heard[-1][0] == NOW
    assert [len(one.heard) for one in receivers] == [10, 10, 10]
    assert slow.heard[-1][0] == NOW + timedelta(seconds=6000)


def test_a_sink_that_never_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time: it is the sink that hangs, not the clock."""
    monkeypatch.setattr(module, "GRACE", 0.0)
    outcomes: list[str] = []

    async def hang(_: Notice) -> None:
        await asyncio.Event().wait()

    async def serve(state: State, receiver: Receiver) -> None:
        pairs = [(receiver.settings, receiver)]
        courier = Courier(state, pairs, count=lambda sink, outcome: outcomes.append(outcome))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await courier.run()

    pager = Receiver(sink(timeout=0.05), WallClock(), hang)
    with State(tmp_path / "state.sqlite") as state:
        state.keep("prod", [incident()], [pager.settings])
        asyncio.run(serve(state, pager))
    assert outcomes
    assert set(outcomes) == {"failed"}


def test_no_minute_has_more_requests_than_a_sink_wants(state: State, clock: Simulation) -> None:
    pager = Receiver(sink(per_minute=10), clock)
    state.keep("prod", [incident(f"i{n}") for n in range(35)], [pager.settings])
    simulate(state, clock, [pager], waiting(clock, 600))
    assert len(pager.heard) == 35
    for at in pager.asked:
        assert sum(at <= other < at + MINUTE for other in pager.asked) <= 10
    assert pager.asked[9] == NOW
    assert pager.asked[-1] <= NOW + 3 * MINUTE


@pytest.mark.usefixtures("rarely")
def test_a_clock_that_is_put_back_holds_up_no_message(state: State, clock: Simulation) -> None:
    pager = Receiver(sink(), clock, refusing(clock, NOW - 23 * HOUR))

    async def course(_: Courier) -> None:
        state.keep("prod", [incident("a"), incident("b")], [pager.settings])
        await clock.sleep(5)
        clock.put_back(24 * HOUR)
        await clock.sleep(1.5 * 3600)

    simulate(state, clock, [pager], course)
    assert {identity for _, identity, _ in pager.stories} == {"a", "b"}


@pytest.mark.usefixtures("rarely")
def test_a_clock_that_is_put_back_holds_up_no_sink(state: State, clock: Simulation) -> None:
    """That had its share of a minute which, by the clock, is far ahead now."""

    async def answer(notice: Notice) -> None:
        if notice.incident.id == "a":
            clock.put_back(24 * HOUR)

    pager = Receiver(sink(per_minute=1), clock, answer)
    state.keep("prod", [incident("a"), incident("b")], [pager.settings])
    simulate(state, clock, [pager], waiting(clock, 200))
    assert [identity for _, identity, _ in pager.stories] == ["a", "b"]


@pytest.mark.usefixtures("rarely")
def test_a_state_that_is_away_is_waited_for(
    state: State, clock: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that cannot be written down, nothing is sent twice for it."""
    back = NOW + 10 * MINUTE
    pager = Receiver(sink(), clock)
    state.keep("prod", [incident(f"i{n}") for n in range(3)], [pager.settings])
    for name in ("due", "delivered"):
        there = getattr(state, name)

        def away(*args: Any, there: Any = there, name: str = name, **options: Any) -> Any:
            if clock.now() < back and (name == "delivered" or len(pager.heard) == 0) != (
                clock.now() < NOW + MINUTE
            ):
                raise StateUnavailable("locked") if name == "due" else StateError("malformed")
            return there(*args, **options)

        monkeypatch.setattr(state, name, away)
    simulate(state, clock, [pager], waiting(clock, 3600))
    assert sorted(pager.stories) == [("opened", f"i{n}", 1) for n in range(3)]


def test_a_courier_serves_its_own_clusters(state: State, clock: Simulation) -> None:
    pager = Receiver(sink(), clock)
    mine = {"mine": 1}

    async def course(_: Courier) -> None:
        await clock.sleep(30)
        assert pager.stories == [("opened", "mine", 1)]
        mine["new"] = 1
        await clock.sleep(30)

    for cluster in ("mine", "new", "other"):
        state.keep(cluster, [incident(cluster, cluster=cluster)], [pager.settings])
    simulate(state, clock, [pager], course, clusters=mine.keys())
    assert pager.stories == [("opened", "mine", 1), ("opened", "new", 1)]


PROCESS = """
import asyncio, json, os, sys
from datetime import timedelta
from pathlib import Path
from kubewitness.sinks.courier import Courier
from kubewitness.state import keeping
from kubewitness.state.database import State
from state_fixtures import incident, sink

keeping.QUIET = timedelta()
place, out, generation = sys.argv[1:]
pager = sink(per_minute=100_000)

class File:
    name = "pager"

    async def send(self, notice):
        line = json.dumps([notice.kind, notice.incident.id, notice.revision]) + "\\n"
        os.write(file, line.encode())

async def judge(state, courier):
    for n in range(10):
        judged = [incident(f"{generation}-{n}"), incident("grows", score=20 * 1.6 ** step(n))]
        await asyncio.to_thread(state.keep, "prod", judged, [pager])
        print(n, flush=True)
        courier.wake()

def step(n):
    return int(generation) * 10 + n

async def main():
    with State(place if "://" in place else Path(place)) as state:
        courier = Courier(state, [(pager, File())])
        async with asyncio.TaskGroup() as group:
            group.create_task(courier.run())
            if generation != "end":
                group.create_task(judge(state, courier))

file = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
asyncio.run(main())
"""


def test_kills_lose_nothing(place: Path | str, tmp_path: Path) -> None:
    """A process judges and delivers, and is killed at some moment; the last one only delivers."""
    State(place).close()
    out = tmp_path / "out"
    kept = []
    tests = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tests)])}
    generations = [*map(str, range(4)), "end"]
    for generation in generations:
        with subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(place), str(out), generation],
            stdout=subprocess.PIPE,
            env=env,
        ) as child:
            assert child.stdout is not None
            if generation == "end":
                deadline = time.monotonic() + 30
                while told(place) and time.monotonic() < deadline:
                    time.sleep(0.1)
            else:
                kept.append(f"{generation}-{int(child.stdout.readline())}")
                time.sleep(0.02 * int(generation))
            child.send_signal(signal.SIGKILL)
            kept += [f"{generation}-{int(line)}" for line in child.stdout]
    heard = [json.loads(line) for line in out.read_text().splitlines()]
    counts = Counter(identity for _, identity, _ in heard)
    assert set(kept) <= counts.keys()
    repeated = sum(n - 1 for (_, identity, _), n in Counter(map(tuple, heard)).items())
    assert repeated <= len(generations)
    revisions = [revision for _, identity, revision in heard if identity == "grows"]
    assert revisions == sorted(revisions)
    with State(place, existing=True) as state:
        assert state.backlog() == []


def told(place: Path | str) -> bool:
    """Whether something is still to be told at once."""
    with State(place, existing=True) as state:
        return any(one.waiting for one in state.backlog())
