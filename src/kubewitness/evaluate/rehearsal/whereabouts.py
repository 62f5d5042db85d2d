"""Where requests come from and which program makes them, among what a log has."""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Iterable, Sequence

from kubewitness.activity.network import network
from kubewitness.evaluate.rehearsal.family import Place, Tool
from kubewitness.evaluate.rehearsal.habit import Habit
from kubewitness.evaluate.rehearsal.player import Player
from kubewitness.evaluate.rehearsal.survey import Survey

# What somebody brings along.
_SCRIPTS = (
    "curl/8.7.1",
    "curl/8.16.0",
    "python-requests/2.32.5",
    "Go-http-client/2.0",
    "python-urllib3/2.5.0",
    "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",
    "kubectl/v1.31.4 (linux/amd64) kubernetes/a78aa47",
    "kubectl/v1.33.5 (windows/amd64) kubernetes/7e1c6a1",
)


class Whereabouts:
    """Addresses, proxies and programs, chosen by ``rng``; ``known`` are whom history knows."""

    def __init__(self, survey: Survey, known: Sequence[Habit], rng: random.Random) -> None:
        self._survey = survey
        self._known = known
        self._rng = rng
        self._networks = survey.networks

    def program(self, habit: Habit | None) -> str:
        """One of the programs it uses, the common ones more often."""
        if habit is None or not habit.agents:
            return ""
        agents = sorted(habit.agents)
        chosen = self._rng.choices(agents, [habit.agents[agent] for agent in agents])[0]
        return chosen.partition("/")[0]

    def hops(self, habit: Habit | None) -> tuple[str, ...]:
        """The proxies behind an address: as for the principal itself, else as for most."""
        ways = Counter(
            self._behind(sighting.addresses)
            for other in ([habit] if habit is not None else self._known)
            if other.kind in ("human", "workload") or habit is not None
            for sighting in other.sightings
        )
        return ways.most_common(1)[0][0] if ways else ()

    def _behind(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        start = len(addresses)
        while start > 1 and addresses[start - 1] in self._survey.proxies:
            start -= 1
        return addresses[start:]

    def address(self, place: Place, habit: Habit | None, actor: Player | None) -> str | None:
        """Where somebody sits; None: where it always does."""
        if place == "home":
            return None
        if place == "same" and actor is not None:
            return actor.address or self._survey.peer(actor.at_last().addresses)
        if place in ("office", "pod"):
            return self._inside(place, habit) or self._outside()
        return self._outside()

    def _inside(self, place: Place, habit: Habit | None) -> str | None:
        """An address that is not this principal's: of another workload, or in a network of
        people's."""
        kind = "human" if place == "office" else "workload"
        own = self._addresses([habit] if habit is not None else [])
        taken = self._addresses(
            [other for other in self._known if other.kind == kind and other is not habit]
        )
        others = sorted(a for a in taken - own if network(a).scope in ("private", "public"))
        if not others or place == "pod":
            return self._rng.choice(others) if others else None
        base = self._rng.choice(others)
        block = ipaddress.ip_network((base, 24 if ":" not in base else 120), strict=False)
        free = [address for address in map(str, block.hosts()) if address not in taken | own]
        return self._rng.choice(free) if free else base

    def _addresses(self, habits: Iterable[Habit]) -> set[str]:
        return {self._survey.peer(seen.addresses) for habit in habits for seen in habit.sightings}

    def _outside(self) -> str:
        while True:
            address = ipaddress.IPv4Address(self._rng.getrandbits(32))
            first = int(address) >> 24
            if (
                address.is_global
                and first < 224
                and network(str(address)).prefix not in self._networks
            ):
                return str(address)

    def agent(self, tool: Tool, habit: Habit | None, actor: Player | None) -> str | None:
        if tool == "own":
            return None
        if tool == "same" and actor is not None:
            return actor.agent if actor.agent is not None else actor.at_last().agent
        if tool == "other":
            own = habit.agents.keys() if habit is not None else ()
            agents = {a for h in self._known if h.kind == "human" for a in h.agents} - set(own)
            if agents:
                return self._rng.choice(sorted(agents))
        return self._rng.choice(_SCRIPTS)
