"""Who may do what, as far as the log shows: learnt from the reasons that the authorizer gave."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

Right = tuple[str, str, str]
"""(verb, resource[.group] or path, subresource)."""

_REASON = re.compile(
    r'(ClusterRoleBinding|RoleBinding) "([^"]+)" of (ClusterRole|Role) "([^"]+)"'
    r' to (User|Group|ServiceAccount) "([^"]+)"'
)
_ALMIGHTY = "cluster-admin"
ACCOUNT = "system:serviceaccount:"
_GRANTS = 10_000


class Grant(NamedTuple):
    """A role that a subject was seen to use; ``namespace`` '' is everywhere."""

    role: str
    namespace: str
    reason: str


class Rights:
    """Learns grants from ``annotations["authorization.k8s.io/reason"]``.

    What anybody did under a role, everybody may who has that role. Nothing is known of grants that
    nobody used, so somebody may be refused here who would not be in life.
    """

    def __init__(self) -> None:
        self._grants: dict[str, dict[str, Grant]] = {}
        self._used: dict[str, set[Right]] = {}
        self._parsed: dict[str, tuple[str, Grant] | None] = {}

    @property
    def known(self) -> bool:
        """Whether the log gives reasons at all."""
        return bool(self._grants)

    def learn(self, right: Right, reason: str) -> None:
        """``right`` was granted for this ``reason``."""
        if reason not in self._parsed and len(self._parsed) < _GRANTS:
            self._parsed[reason] = _grant(reason)
        parsed = self._parsed.get(reason)
        if parsed is not None:
            subject, grant = parsed
            self._grants.setdefault(subject, {})[reason] = grant
            self._used.setdefault(grant.role, set()).add(right)

    def grants(self, user: str, groups: Collection[str], right: Right) -> list[Grant]:
        """The grants that permit ``right`` to this principal."""
        names = [f"User {user}", *(f"Group {group}" for group in groups)]
        if user.startswith(ACCOUNT):
            namespace, _, account = user.removeprefix(ACCOUNT).partition(":")
            names.append(f"ServiceAccount {account}/{namespace}")
        return [
            grant
            for name in names
            for grant in self._grants.get(name, {}).values()
            if self.permits(grant, right)
        ]

    def dormant(self, user: str, rights: Collection[Right]) -> Grant | None:
        """A grant that nobody knew of: the widest role that was seen to permit all this, bound to
        one more; None if there is none."""
        found = [
            grant
            for grants in self._grants.values()
            for grant in grants.values()
            if not grant.namespace
            and (grant.role == _ALMIGHTY or self._used[grant.role].issuperset(rights))
        ]
        if not found:
            return None
        widest = min(found, key=lambda grant: (grant.role != _ALMIGHTY, grant.reason))
        subject = f'User "{user}"'
        if user.startswith(ACCOUNT):
            namespace, _, name = user.removeprefix(ACCOUNT).partition(":")
            subject = f'ServiceAccount "{name}/{namespace}"'
        return widest._replace(reason=f"{widest.reason.rpartition(' to ')[0]} to {subject}")

    def permits(self, grant: Grant, right: Right) -> bool:
        return grant.role == _ALMIGHTY or right in self._used[grant.role]


def _grant(reason: str) -> tuple[str, Grant] | None:
    found = _REASON.search(reason)
    if found is None:
        return None
    kind, binding, _, role, subject, name = found.groups()
    namespace = binding.rpartition("/")[2] if kind == "RoleBinding" else ""
    return f"{subject} {name}", Grant(role, namespace, reason)
