"""What one principal does in a log: what, where, from where and with which programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from kubewitness.activity.principal import PrincipalClass
from kubewitness.evaluate.rehearsal.rights import Right

_SIGHTINGS = 64
_NAMES = 200
_WRITES_WORKLOADS = frozenset(
    (verb, f"{kind}.apps", "") for verb in ("create", "update", "patch")
    for kind in ("deployments", "statefulsets", "daemonsets")
)  # fmt: skip


class Sighting(NamedTuple):
    """A principal at one moment: who it was (JSON of ``user``), where, and with which program."""

    at: datetime
    user: bytes
    addresses: tuple[str, ...]
    agent: str


@dataclass(slots=True)
class Habit:
    """What one principal does. ``sightings`` are spread over its whole time in the log."""

    user: str
    kind: PrincipalClass
    events: int = 0
    sightings: list[Sighting] = field(default_factory=list)
    done: dict[Right, Counter[str]] = field(default_factory=dict)
    agents: Counter[str] = field(default_factory=Counter)
    _every: float = 0.0

    def saw(self, at: datetime, user: bytes, addresses: tuple[str, ...], agent: str) -> None:
        """Keep a sighting, unless the last is too recent; when there are many, every other goes."""
        self.events += 1
        if len(self.agents) < _NAMES or agent in self.agents:
            self.agents[agent] += 1
        last = self.sightings[-1] if self.sightings else None
        if last is not None and abs((at - last.at).total_seconds()) < self._every:
            return
        self.sightings.append(Sighting(at, user, addresses, agent))
        if len(self.sightings) > _SIGHTINGS:
            span = abs((self.sightings[-1].at - self.sightings[0].at).total_seconds())
            self._every = 2 * span / _SIGHTINGS
            del self.sightings[::2]

    def did(self, right: Right, namespace: str) -> None:
        if right in self.done or len(self.done) < _NAMES:
            places = self.done.setdefault(right, Counter())
            if namespace in places or len(places) < _NAMES:
                places[namespace] += 1

    def near(self, at: datetime, program: str = "") -> Sighting:
        """The principal as it was at this time, rather with a program of this name."""
        return min(
            self.sightings,
            key=lambda seen: (not seen.agent.startswith(program), abs(seen.at - at)),
        )

    def strange(self, right: Right, namespace: str) -> bool:
        """Whether it never did this here."""
        return namespace not in self.done.get(right, {})

    @property
    def namespaces(self) -> Counter[str]:
        """Where it works, by how many kinds of requests."""
        return Counter(ns for places in self.done.values() for ns in places if ns)

    @property
    def deploys(self) -> bool:
        """Whether it writes workloads in several namespaces, as CI and GitOps do."""
        written = {ns for right in _WRITES_WORKLOADS & self.done.keys() for ns in self.done[right]}
        return len(written) > 1
