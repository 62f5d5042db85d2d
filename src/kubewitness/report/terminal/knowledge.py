"""How well roles and bindings are known, in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kubewitness.forensics.rbac.answer import DEFAULTS_OF, Knowledge
from kubewitness.report.inert import plain
from kubewitness.report.wording import plural

_SHOWN = 6


def known_by(knowledge: Knowledge) -> Iterator[str]:
    """What is known, what is not, and what would help."""
    if knowledge.source == "snapshot":
        yield (
            f"The snapshot has {plural(knowledge.bindings, 'binding')} of the cluster's own;"
            f" {knowledge.used} of them allowed requests in the log."
        )
    elif knowledge.bindings:
        yield (
            f"Seen in the log: {plural(knowledge.bindings, 'binding')} of the cluster's own,"
            f" {knowledge.used} of them used. What was never written, read or used while the log"
            " ran is not known: --rbac FILE tells (kubectl get"
            " clusterroles,clusterrolebindings,roles,rolebindings -A -o json)."
        )
    else:
        yield "The log shows no bindings of the cluster's own, neither written nor used."
    if knowledge.only_used:
        yield (
            f"{plural(knowledge.only_used, 'binding')} known only by use: other subjects may be"
            " bound, too."
        )
    if knowledge.unknown_roles:
        yield (
            f"What {knowledge.roles - len(knowledge.unknown_roles)} of"
            f" {plural(knowledge.roles, 'bound role')} permit is known, not that of"
            f" {_several(knowledge.unknown_roles)}."
        )
    if knowledge.changed:
        yield (
            f"Written in the log, which does not say to what: {_several(knowledge.changed)}. What"
            " they are now is not knowable at this audit level."
        )
    if knowledge.source != "snapshot":
        yield f"Roles that every API server makes for itself are taken as {DEFAULTS_OF} has them."
    yield from knowledge.notes


def shorter(binding: str) -> str:
    """A binding and its role without their kinds: the namespace tells which kind it is.

    >>> shorter("RoleBinding shop/team → ClusterRole edit")
    'shop/team → edit'
    """
    return re.sub(r"\b(Cluster)?Role(Binding)? ", "", binding)


def subject(told: str) -> str:
    """A subject of bindings where room is short.

    >>> subject("ServiceAccount ci/deployer"), subject("User maria"), subject("Group dev")
    ('sa:ci:deployer', 'maria', 'group dev')
    """
    kind, _, name = told.partition(" ")
    if kind == "ServiceAccount":
        return f"sa:{name.replace('/', ':', 1)}"
    return name if kind == "User" else f"{kind.lower()} {name}"


def _several(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(plain(name, 80) for name in names[:_SHOWN]) + rest
