"""A role that somebody has: as whom, from where and with which program its requests are made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from kubewitness.activity.principal import PrincipalClass
from kubewitness.evaluate.rehearsal.family import Place, Tool
from kubewitness.evaluate.rehearsal.habit import Habit, Sighting
from kubewitness.evaluate.rehearsal.rights import ACCOUNT, Grant

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
    def out_of_place(self) -> bool:
        """Whether its address or program is not one of its kind; programs do not change desks."""
        if self.kind == "human":
            return self.place == "outside"
        return (self.place, self.tool) != ("home", "own")

    @property
    def groups(self) -> tuple[str, ...]:
        user = self.identity
        if user is None and self.habit is not None:
            user = msgspec.json.decode(self.habit.sightings[-1].user)
        return tuple((user or {}).get("groups") or ())

    @property
    def namespace(self) -> str:
        """The namespace of a service account, else the one in which it mostly works."""
        if self.user.startswith(ACCOUNT):
            return self.user.removeprefix(ACCOUNT).partition(":")[0]
        common = self.habit.namespaces.most_common(1) if self.habit is not None else []
        return common[0][0] if common else ""

    @property
    def visited(self) -> Collection[str]:
        """The namespaces in which it was seen."""
        return self.habit.namespaces.keys() if self.habit is not None else ()


def account_groups(user: str) -> tuple[str, ...]:
    """The groups that every service account has.

    >>> account_groups("system:serviceaccount:shop:api")[1]
    'system:serviceaccounts:shop'
    """
    namespace = user.removeprefix(ACCOUNT).partition(":")[0]
    return "system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"
