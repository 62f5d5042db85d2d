"""Who plays the roles of a family: principals of the log that may do what the family needs."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from kubewitness.activity.network import network
from kubewitness.activity.principal import PrincipalClass, principal_class
from kubewitness.evaluate.rehearsal.family import CLUSTER_SCOPED, Family, Kind, Role, Step
from kubewitness.evaluate.rehearsal.habit import Habit
from kubewitness.evaluate.rehearsal.player import Player, account_groups
from kubewitness.evaluate.rehearsal.rights import ACCOUNT, Right
from kubewitness.evaluate.rehearsal.survey import Survey
from kubewitness.evaluate.rehearsal.whereabouts import Whereabouts

_MASTERS = "system:masters"
_CREDENTIAL = "authentication.kubernetes.io/credential-id"
# A principal whom the history saw less often has no habits to depart from.
_SIGHTINGS = 3
# So often, somebody has rights that nobody knew of.
_MISCONFIGURED = 0.2


class Casting:
    """Casts families from what ``survey`` saw; nobody twice while others are left."""

    def __init__(self, survey: Survey, since: datetime, rng: random.Random) -> None:
        self.survey = survey
        self.since = since
        self._rng = rng
        self._times_cast: Counter[str] = Counter()
        self._known = [
            habit
            for habit in survey.habits.values()
            if sum(sighting.at < since for sighting in habit.sightings) >= _SIGHTINGS
            and not self._is_local(habit)
        ] or list(survey.habits.values())
        self._whereabouts = Whereabouts(survey, self._known, rng)

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
        return Player(
            user=user,
            kind=kind,
            place=place,
            tool=tool,
            habit=habit,
            identity=self._identity(role, user, habit),
            address=self._whereabouts.address(place, habit, actor),
            agent=self._whereabouts.agent(tool, habit, actor),
            hops=self._whereabouts.hops(habit),
            program=self._whereabouts.program(habit),
            latent=latent,
        )

    def _principal(
        self, role: Role, needs: Sequence[Step], others: Collection[str]
    ) -> tuple[str, PrincipalClass]:
        if role.is_ == "anonymous":
            return "system:anonymous", "anonymous"
        if role.is_ == "newcomer":
            return role.named, principal_class(role.named)
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
        return user, principal_class(user)

    def _candidates(self, kind: Kind) -> list[str]:
        if kind == "silent":
            accounts = {
                f"{ACCOUNT}{namespace}:{name}"
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
            identity["extra"] = {_CREDENTIAL: [f"JTI={self.uuid()}"]}
        return identity

    def _has_credentials(self) -> bool:
        return any(
            b"credential-id" in habit.sightings[-1].user for habit in self.survey.habits.values()
        )

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
