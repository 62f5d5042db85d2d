"""One cluster's log as it comes: which minutes are over, and which are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from kubewitness.incidents.model import Severity
from kubewitness.report.wording import duration, moment, period
from kubewitness.service.gaps.clocks import Clock
from kubewitness.service.gaps.heartbeats import Heartbeats
from kubewitness.service.gaps.levels import Levels
from kubewitness.service.gaps.model import Finding
from kubewitness.service.gaps.requests import MINUTE, Requests, team
from kubewitness.service.gaps.survey import Mark, Sighting
from kubewitness.service.gaps.usual import Usual

PLENTY = 20
"""Arrivals, and minutes with events, before silence says anything."""
QUIET = 180.0
"""Seconds of silence that are nothing yet: an API server restarts, a batch is sent again."""
HOLE = 60.0
"""Seconds without events, once later ones have come, that are nothing."""
DELAY = 120.0, 3600.0
"""Seconds for which a minute is kept open for late events, at least and at most."""
HOUR = 3600.0
OLD = 86_400.0
"""Seconds after which what is found missing alarms nobody: somebody adds an old log."""
MOST = 2000


class Minute(msgspec.Struct):
    """What came of one minute: its first and last event, who asked, which stages there were."""

    first: float
    last: float
    teams: set[str] = set()
    stages: set[str] = set()
    watched: bool = False


class Cluster(msgspec.Struct):
    """The state of one cluster; all times are unix seconds.

    ``newest`` is the time of the newest event, ``arrived`` when something last came. Minutes before
    ``closed`` are over; ``last`` is the last event in them. Of the time before ``resumed`` nothing
    is known. ``silent``: since when nothing came, once that was told.
    """

    newest: float = 0.0
    arrived: float = 0.0
    closed: float = 0.0
    last: float = 0.0
    resumed: float = 0.0
    silent: float = 0.0
    late: int = 0
    minutes: dict[float, Minute] = {}
    arrivals: Usual = msgspec.field(default_factory=Usual)
    pauses: Usual = msgspec.field(default_factory=Usual)
    delay: Usual = msgspec.field(default_factory=Usual)
    heartbeats: Heartbeats = msgspec.field(default_factory=Heartbeats)
    levels: Levels = msgspec.field(default_factory=Levels)
    requests: Requests = msgspec.field(default_factory=Requests)
    clocks: dict[str, Clock] = {}

    def observe(
        self,
        sightings: Sequence[Sighting],
        marks: Sequence[Mark],
        received: float,
        *,
        before: bool,
    ) -> None:
        """Take in what was seen in a chunk that arrived at ``received``, or some time before."""
        newest = max(seen.last for seen in sightings)
        if not before:
            self._arrive(received, min(seen.minute for seen in sightings))
            self._clock("", newest, received)
        # Whatever an event says, now is the latest that it can be.
        self.newest = max(self.newest, min(newest, received))
        for mark in marks:
            self.heartbeats.hear(mark, self.resumed)
            if mark.what == "server" and not before:
                self._clock(mark.name, mark.last, received)
        for seen in sightings:
            self.levels.see(seen)
            self.requests.see(seen)
            if seen.minute < self.closed:
                self.late += seen.n
            else:
                self._minute(seen)

    def _arrive(self, received: float, oldest: float) -> None:
        if self.arrived:
            pause = max(received - self.arrived, 0.0)
            long = pause > self.arrivals.limit(QUIET) and self.arrivals.n >= PLENTY
            self.arrivals.learn(pause, received, told=long)
            self.delay.learn(max(self.newest - oldest - MINUTE, 0.0), received, half=HOUR)
        self.arrived = received

    def _clock(self, server: str, newest: float, received: float) -> None:
        if server in self.clocks or len(self.clocks) < 20:
            self.clocks.setdefault(server, Clock()).arrive(newest, received)

    def _minute(self, seen: Sighting) -> None:
        minute = self.minutes.get(seen.minute)
        if minute is None:
            # What claims to be of the future is of no use as a minute.
            if seen.minute > self.newest:
                return
            minute = self.minutes[seen.minute] = Minute(seen.first, seen.last)
        minute.first = min(minute.first, seen.first)
        minute.last = max(minute.last, seen.last)
        minute.stages.add(seen.stage)
        minute.watched |= seen.kind.startswith("watch ") and seen.stage == "ResponseComplete"
        if seen.user and len(minute.teams) < MOST:
            minute.teams.add(team(seen.user))

    def advance(self) -> Iterator[Finding]:
        """End the minutes of which nothing more is to be expected; returns holes between them."""
        least, most = DELAY
        until = self.newest - min(max(2 * self.delay.most, least), most)
        for at in sorted(self.minutes):
            if at + MINUTE > until:
                return
            minute = self.minutes.pop(at)
            yield from self._pause(minute)
            self.last = max(self.last, minute.last)
            self.closed = at + MINUTE
            self.requests.close(at, minute.teams, minute.stages, watched=minute.watched)

    def _pause(self, minute: Minute) -> Iterator[Finding]:
        """The pause before this minute, if it is out of the usual."""
        if not self.last:
            return
        pause = minute.first - self.last
        long = self.pauses.n >= PLENTY and pause > self.pauses.limit(HOLE)
        if long:
            self.resumed = minute.first
            # A clock that is set leaves out a time that never was.
            clock = self.clocks.get("")
            if not self.silent and not (clock and clock.ahead):
                old = self.arrived - minute.first > OLD
                yield _hole(self.last, minute.first, "low" if old else "high")
        if minute.first > self.silent:
            self.silent = 0.0
        self.pauses.learn(max(pause, 0.0), minute.first, told=long)

    def judge(self, now: float) -> Iterator[Finding]:
        """What is so at ``now``, of what is told as long as it is."""
        still = now - self.arrived
        if self.arrivals.n >= PLENTY and still > self.arrivals.limit(QUIET):
            self.silent = self.silent or self.newest
        if self.silent:
            yield _silence(self.silent)
        for server, clock in self.clocks.items():
            # An only API server has the clock of the cluster.
            if not server or len(self.clocks) > 2:
                yield from clock.judge(server)
        yield from self.levels.judge(self.newest)
        if not self.silent:
            yield from self.heartbeats.judge(self.closed, self.resumed)
            yield from self.requests.judge(self.closed)

    def wake(self, now: float) -> None:
        """Until ``now`` nobody listened, or the clock was set: there was no silence meanwhile."""
        self.arrived = now if self.arrived else 0.0


def _silence(since: float) -> Finding:
    return Finding(
        "silence",
        "silence",
        "high",
        since,
        "Nothing arrives any more",
        "everything that happens in this cluster",
        f"nothing came after {moment(datetime.fromtimestamp(since, UTC))} UTC, and it was never"
        " silent for so long",
        "see whether the API server runs, what its own log says of the audit backend, and whether"
        " its certificate and token for this receiver are still valid",
    )


def _hole(since: float, until: float, severity: Severity) -> Finding:
    shown = period(datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC))
    return Finding(
        "hole",
        f"{since}",
        severity,
        since,
        f"The log has a hole of {duration(timedelta(seconds=until - since))}",
        "everything that happened in this cluster meanwhile",
        f"there are no events of {shown}, though later ones came",
        "get the missing log files, or the API server's own logs if it was down; kubewitness"
        " ingest adds events to the lake at any time",
    )
