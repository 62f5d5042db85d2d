"""Kinds of request, and stages, that were logged for long and no longer are, though those who used
to make them are still about.

A program that is upgraded or removed stops to ask, too. So what counts is that several teams
stop at once: the nodes, the control plane, the people, the service accounts of a namespace.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec

from kubewitness.activity.principal import account_namespace, principal_class
from kubewitness.report.inert import plain
from kubewitness.report.wording import plural
from kubewitness.service.gaps.model import Finding, listed
from kubewitness.service.gaps.survey import Sighting
from kubewitness.service.gaps.usual import WEEK, Usual

PLENTY = 20
"""Minutes in which something was seen before it is expected."""
LEAST = 10.0
"""Times that something should have come, and did not, that may be chance."""
PAUSE = 300.0
"""Seconds without it that are nothing yet."""
TEAMS, EACH = 3, 2.0
"""So many teams have to have left it out, each of them so many times."""
MOST = 3000
MINUTE, HOUR = 60.0, 3600.0


@functools.lru_cache(maxsize=10_000)
def team(user: str) -> str:
    """Who changes their ways together.

    >>> team("system:node:"), team("maria"), team("system:serviceaccount:shop:api")
    ('node', 'human', 'shop')
    """
    kind = principal_class(user)
    return account_namespace(user) if kind == "workload" else kind


class Part(msgspec.Struct, array_like=True):
    """A team's part in a stream: in how many minutes, the last one, how many minutes it had been
    about when it began, and how many times it should have come since the stream paused."""

    minutes: int
    last: float
    before: int
    due: float = 0.0


class Stream(msgspec.Struct, array_like=True):
    """One kind of request, or a stage, that comes again and again.

    In how many ``minutes`` it came, the ``last`` one, by which teams. ``usual`` is how many times
    it should have come in a pause; ``told``: since when it is missing, or 0.
    """

    last: float
    minutes: int = 0
    parts: dict[str, Part] = {}
    usual: Usual = msgspec.field(default_factory=Usual)
    told: float = 0.0

    @property
    def due(self) -> float:
        return sum(part.due for part in self.parts.values())

    def come(self, minute: float, by: str, about: int) -> None:
        """Note that it came from a team, which had been about for so many minutes."""
        if minute > self.last:
            self.minutes += 1
            self.last = minute
        part = self.parts.setdefault(by, Part(0, 0.0, about))
        if minute > part.last:
            part.minutes += 1
            part.last = minute

    def close(self, minute: float, about: dict[str, int]) -> None:
        """End a minute, with the teams that were about in it, and how often they ever were."""
        if self.last >= minute:
            self.usual.learn(self.due, minute, told=self.told > 0)
            self.told = 0.0
            for part in self.parts.values():
                part.due = 0.0
            return
        for by in self.parts.keys() & about.keys():
            part = self.parts[by]
            part.due += min(part.minutes / max(about[by] - part.before, 1), 1.0)

    def missing(self, minute: float, teams: int) -> bool:
        """Whether it should have come long since, from so many teams."""
        due = self.due
        if (
            not self.told
            and self.minutes >= PLENTY
            and minute - self.last > PAUSE
            and due > self.usual.limit(LEAST)
            # What came a few times may have been a phase.
            and due * 2 < sum(part.minutes for part in self.parts.values())
            and sum(part.due >= EACH for part in self.parts.values()) >= teams
        ):
            self.told = self.last + MINUTE
        return self.told > 0


class Requests(msgspec.Struct):
    """All streams of one cluster; ``about``: in how many minutes a team asked for anything."""

    kinds: dict[str, Stream] = {}
    stages: dict[str, Stream] = {}
    about: dict[str, int] = {}

    def see(self, seen: Sighting) -> None:
        """Take note of alike events."""
        # Those who renew leases are looked at one by one (``heartbeats``).
        if seen.kind and seen.user and not seen.kind.endswith(" leases.coordination.k8s.io"):
            stream = self.kinds.get(seen.kind)
            if stream is None:
                stream = self.kinds[seen.kind] = Stream(seen.minute - MINUTE)
                self._bound()
            by = team(seen.user)
            stream.come(seen.minute, by, self.about.get(by, 0))
        stage = self.stages.setdefault(seen.stage, Stream(seen.minute - MINUTE))
        stage.come(seen.minute, "", self.about.get(seen.stage, 0))

    def close(self, minute: float, teams: set[str], stages: set[str], *, watched: bool) -> None:
        """End a minute in which these teams asked for anything, and these stages were logged.
        ``watched``: among them was the end of a watch."""
        about = {}
        for by in teams:
            about[by] = self.about[by] = self.about.get(by, 0) + 1
        for stream in self.kinds.values():
            stream.close(minute, about)
        for stage, stream in self.stages.items():
            # Only watches and their like have an answer that begins before it ends.
            expected = watched if stage == "ResponseStarted" else bool(stages - {stage})
            stream.close(minute, {"": stream.minutes} if expected else {})
        if not minute % HOUR:
            self._forget(minute)

    def judge(self, now: float) -> Iterator[Finding]:
        """Which kinds of request, and which stages, should have come by ``now``."""
        kinds = {kind: stream for kind, stream in self.kinds.items() if stream.missing(now, TEAMS)}
        if kinds:
            yield _not_logged(kinds)
        for stage, stream in self.stages.items():
            if stream.missing(now, 1):
                yield _omitted(stage, stream)

    def _forget(self, minute: float) -> None:
        """What has not come for a week is not expected any more."""
        for streams in (self.kinds, self.stages):
            for name, stream in [*streams.items()]:
                if minute - stream.last > WEEK:
                    del streams[name]
                for by, part in [*stream.parts.items()]:
                    if minute - part.last > WEEK:
                        del stream.parts[by]
        known = {by for stream in self.kinds.values() for by in stream.parts}
        self.about = {by: minutes for by, minutes in self.about.items() if by in known}

    def _bound(self) -> None:
        """Forget the rarest: whoever asks for what does not exist makes any number of kinds."""
        if len(self.kinds) > MOST:
            best = sorted(self.kinds.items(), key=lambda item: (-item[1].minutes, -item[1].last))
            self.kinds = dict(best[: MOST * 9 // 10])


def _not_logged(kinds: dict[str, Stream]) -> Finding:
    names = sorted(kinds, key=lambda kind: -kinds[kind].minutes)
    teams = {by for stream in kinds.values() for by, part in stream.parts.items() if part.due}
    return Finding(
        "request",
        "request",
        "high",
        min(stream.told for stream in kinds.values()),
        f"Requests no longer logged: {listed(names)}",
        "who makes these requests",
        f"they came all the time from {plural(len(teams), 'team')} of users, who still ask for"
        " other things",
        "if nobody changed the audit policy or the filter of the export, find out who did; an audit"
        " policy rule of level Metadata for these resources and verbs brings them back",
        tuple(names),
    )


_DARK = {
    "ResponseStarted": "watches, execs and port-forwards that are still open",
    "ResponseComplete": "what was permitted, refused or answered",
}


def _omitted(stage: str, stream: Stream) -> Finding:
    name = plain(stage, 60)
    return Finding(
        "stage",
        stage,
        "medium",
        stream.told,
        f"Stage no longer logged: {name}",
        _DARK.get(stage, "when requests arrived"),
        f"for {stream.due:.0f} minutes in which it should have come there was none",
        f"if nobody changed the audit policy, find out who did; a policy that does not omit the"
        f" stage {name} brings it back",
    )
