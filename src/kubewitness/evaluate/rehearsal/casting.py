"""Who plays the roles of a family: principals of the log, and where their requests come from."""

from __future__ import annotations

import ipaddress
import random
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from kubewitness.activity.network import network
from kubewitness.activity.principal import PrincipalClass
from kubewitness.evaluate.rehearsal.family import (
    CLUSTER_SCOPED,
    Family,
    Kind,
    Place,
    Role,
    Step,
    Tool,
)
from kubewitness.evaluate.rehearsal.rights import Grant, Right
from kubewitness.evaluate.rehearsal.survey import Habit, Sighting, Survey

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
_ACCOUNT = "system:serviceaccount:"
_MASTERS = "system:masters"
_AUTH = "authentication.kubernetes.io"
# A human whom the history saw less often has no habits to depart from.
_SIGHTINGS = 3
# So many times of a hundred, somebody has rights that nobody knew of.
_MISCONFIGURED = 0.2
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Player:
    """A role that somebody has. ``address`` and ``agent`` None: as the principal itself would.

    ``identity`` is the ``user`` of its events, None: as the log had it at that time.
    """

    user: str
    kind: PrincipalClass
    place: Place
    tool: Tool
    habit: Habit | None
    identity: dict[str, Any] | None
    address: str | None
    agent: str | None
    hops: tuple[str, ...]
    """Proxies that follow its address."""
    program: str = ""
    """How its own user agent begins, when it has several."""
    latent: Grant | None = None
    """A grant that nobody knew of."""

    def at(self, when: datetime) -> Sighting:
        """Identity, addresses and program at a time."""
        own = self.habit.near(when, self.program) if self.habit is not None else None
        user = msgspec.json.encode(self.identity) if self.identity is not None or own is None else (
            own.user
        )  # fmt: skip
        addresses = (self.address, *self.hops) if self.address or own is None else own.addresses
        agent = self.agent if self.agent is not None or own is None else own.agent
        return Sighting(when, user, tuple(filter(None, addresses)), agent or "")

    def at_last(self) -> Sighting:
        """As it was when the log saw it last."""
        return self.at(self.habit.sightings[-1].at if self.habit is not None else _NEVER)

    @property
    def groups(self) -> tuple[str, ...]:
        user = self.identity
        if user is None and self.habit is not None:
            user = msgspec.json.decode(self.habit.sightings[-1].user)
        return tuple((user or {}).get("groups") or ())

    @property
    def namespace(self) -> str:
        """The namespace of a service account, else the one in which it mostly works."""
        if self.user.startswith(_ACCOUNT):
            return self.user.removeprefix(_ACCOUNT).partition(":")[0]
        common = self.habit.namespaces.most_common(1) if self.habit is not None else []
        return common[0][0] if common else ""

    @property
    def visited(self) -> Collection[str]:
        """The namespaces in which it was seen."""
        return self.habit.namespaces.keys() if self.habit is not None else ()


class Casting:
    """Casts families from what ``survey`` saw; nobody twice while others are left."""

    def __init__(self, survey: Survey, since: datetime, rng: random.Random) -> None:
        self.survey = survey
        self._rng = rng
        self._times_cast: Counter[str] = Counter()
        self._networks = survey.networks
        self._known = [
            habit
            for habit in survey.habits.values()
            if sum(sighting.at < since for sighting in habit.sightings) >= _SIGHTINGS
            and not self._is_local(habit)
        ] or list(survey.habits.values())

    def _is_local(self, habit: Habit) -> bool:
        """Whether it sits on the API server's own host: infrastructure, whatever it is called."""
        return all(
            network(self.survey.peer(sighting.addresses)).scope == "loopback"
            for sighting in habit.sightings
        )

    def cast(self, family: Family) -> dict[str, Player]:
        """A player for each role, one that may do what the role must be able to do."""
        players: dict[str, Player] = {}
        for name, role in sorted(family.cast.items(), key=lambda item: item[0] != "actor"):
            needs = [step for step in family.steps if step.as_ == name and step.must]
            players[name] = self._player(role, needs, players)
        return players

    def book(self, players: Iterable[Player]) -> None:
        """They have played, and others are to be preferred."""
        self._times_cast.update(player.user for player in players)

    def where(self, user: str, groups: Collection[str], right: Right) -> set[str] | None:
        """The namespaces in which a principal may do this; None: everywhere."""
        if _MASTERS in groups:
            return None
        grants = self.survey.rights.grants(user, groups, right)
        habit = self.survey.habits.get(user)
        done: Collection[str] = habit.done.get(right, ()) if habit is not None else ()
        if not self.survey.rights.known or any(not grant.namespace for grant in grants):
            return None
        return {grant.namespace for grant in grants} | set(done)

    def reason(self, player: Player, right: Right, namespace: str) -> str | None:
        """Why the authorizer would allow this, None if it would not."""
        if not self.survey.rights.known or _MASTERS in player.groups:
            return ""
        for grant in self.survey.rights.grants(player.user, player.groups, right):
            if grant.namespace in ("", namespace):
                return grant.reason
        if player.habit is not None and not player.habit.strange(right, namespace):
            return ""
        if player.latent is not None and self.survey.rights.permits(player.latent, right):
            return player.latent.reason
        return None

    def able(self, user: str, groups: Collection[str], step: Step) -> bool:
        """Whether a principal may do what a step asks for, where it asks for it."""
        where = self.where(user, groups, step.right)
        if where is None:
            return True
        if step.in_ == "cluster" or step.resource in CLUSTER_SCOPED:
            return "" in where
        if step.in_ == "system":
            return "kube-system" in where
        return len(where - {""}) > (step.in_ == "each")

    def _player(self, role: Role, needs: Sequence[Step], players: dict[str, Player]) -> Player:
        actor = players.get("actor")
        user, kind = self._principal(role, needs, {player.user for player in players.values()})
        habit = self.survey.habits.get(user)
        groups = self._groups(user)
        latent = None
        if kind != "node" and not all(self.able(user, groups, step) for step in needs):
            latent = self.survey.rights.dormant(user, {step.right for step in needs})
        place = self._rng.choice(role.from_)
        tool = self._rng.choice(role.with_)
        if habit is None and place == "home":
            place = "pod"
        if habit is None and tool == "own":
            tool = "script"
        address = self._address(place, habit, actor)
        return Player(
            user=user,
            kind=kind,
            place=place,
            tool=tool,
            habit=habit,
            identity=self._identity(role, user, habit),
            address=address,
            agent=self._agent(tool, habit, actor),
            hops=self._hops(habit),
            program=self._program(habit),
            latent=latent,
        )

    def _program(self, habit: Habit | None) -> str:
        """One of the programs it uses, the common ones more often."""
        if habit is None or not habit.agents:
            return ""
        agents = sorted(habit.agents)
        chosen = self._rng.choices(agents, [habit.agents[agent] for agent in agents])[0]
        return chosen.partition("/")[0]

    def _principal(
        self, role: Role, needs: Sequence[Step], others: Collection[str]
    ) -> tuple[str, PrincipalClass]:
        if role.is_ == "anonymous":
            return "system:anonymous", "anonymous"
        if role.is_ == "newcomer":
            kind: PrincipalClass = "node" if role.named.startswith("system:node:") else "human"
            return role.named, kind
        candidates = [user for user in self._candidates(role.is_) if user not in others]
        groups = {user: self._groups(user) for user in candidates}
        able = [
            user
            for user in candidates
            if all(self.able(user, groups[user], step) for step in needs)
        ]
        if self._rng.random() < _MISCONFIGURED:
            able = []
        if not able and not candidates:
            # A log without such principals: whoever there is, people first.
            candidates = sorted(self.survey.habits, key=lambda u: self.survey.habits[u].kind)
        pool = able or candidates or ["system:anonymous"]
        fewest = min(self._times_cast[user] for user in pool)
        user = self._rng.choice([u for u in pool if self._times_cast[u] == fewest])
        habit = self.survey.habits.get(user)
        return user, habit.kind if habit is not None else "workload"

    def _candidates(self, kind: Kind) -> list[str]:
        if kind == "silent":
            accounts = {
                f"{_ACCOUNT}{namespace}:{name}"
                for namespace in self.survey.places("serviceaccounts/token")
                for name in self.survey.names("serviceaccounts/token", namespace)
            }
            return sorted(accounts - self.survey.habits.keys()) or self._candidates("workload")
        if kind == "deployer":
            found = [h.user for h in self._known if h.kind == "workload" and h.deploys]
            return sorted(found) or self._candidates("workload")
        return sorted(habit.user for habit in self._known if habit.kind == kind)

    def _groups(self, user: str) -> tuple[str, ...]:
        habit = self.survey.habits.get(user)
        if habit is None:
            return account_groups(user)
        return tuple(msgspec.json.decode(habit.sightings[-1].user).get("groups") or ())

    def _identity(self, role: Role, user: str, habit: Habit | None) -> dict[str, Any] | None:
        """What the log cannot tell of itself: newcomers, silent accounts, anonymous, new tokens."""
        if role.is_ == "anonymous":
            return {"username": user, "groups": ["system:unauthenticated"]}
        if role.is_ == "newcomer":
            return {"username": user, "groups": [*role.groups, "system:authenticated"]}
        if habit is not None and not role.minted:
            return None
        known: dict[str, Any] = {}
        if habit is not None:
            known = msgspec.json.decode(habit.sightings[-1].user)
        identity = {
            "username": user,
            "uid": known.get("uid") or self.uuid(),
            "groups": known.get("groups") or list(account_groups(user)),
        }
        if self._has_credentials():
            identity["extra"] = {f"{_AUTH}/credential-id": [f"JTI={self.uuid()}"]}
        return identity

    def _has_credentials(self) -> bool:
        return any(
            b"credential-id" in habit.sightings[-1].user for habit in self.survey.habits.values()
        )

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _hops(self, habit: Habit | None) -> tuple[str, ...]:
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
        while start > 1 and addresses[start - 1] in self.survey.proxies:
            start -= 1
        return addresses[start:]

    def _address(self, place: Place, habit: Habit | None, actor: Player | None) -> str | None:
        if place == "home":
            return None
        if place == "same" and actor is not None:
            return actor.address or self.survey.peer(actor.at_last().addresses)
        if place == "outside":
            return self._outside()
        kind = "human" if place == "office" else "workload"
        own = (
            {self.survey.peer(s.addresses) for s in habit.sightings} if habit is not None else set()
        )
        seen = {
            self.survey.peer(sighting.addresses)
            for other in self._known
            if other.kind == kind and other is not habit
            for sighting in other.sightings
        }
        inside = sorted(a for a in seen - own if network(a).scope in ("private", "public"))
        if not inside:
            return self._outside()
        base = self._rng.choice(inside)
        if place == "pod":
            return base
        # A colleague's network, but nobody's address.
        try:
            block = ipaddress.ip_network((base, 24 if ":" not in base else 120), strict=False)
        except ValueError:
            return base
        free = [a for a in map(str, block.hosts()) if a not in seen | own]
        return self._rng.choice(free) if free else base

    def _outside(self) -> str:
        while True:
            address = ipaddress.IPv4Address(self._rng.getrandbits(32))
            first = int(address) >> 24
            if (
                address.is_global
                and first < 224
                and network(str(address)).prefix not in (self._networks)
            ):
                return str(address)

    def _agent(self, tool: Tool, habit: Habit | None, actor: Player | None) -> str | None:
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


def account_groups(user: str) -> tuple[str, ...]:
    """The groups that every service account has.

    >>> account_groups("system:serviceaccount:shop:api")[1]
    'system:serviceaccounts:shop'
    """
    namespace = user.removeprefix(_ACCOUNT).partition(":")[0]
    return "system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"
