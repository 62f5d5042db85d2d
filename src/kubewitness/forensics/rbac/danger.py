"""Grants that let their holder take over a cluster, or read what it guards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kubewitness.activity.technique import IMPERSONATION, technique
from kubewitness.forensics.rbac.policy import ALL, GROUP, Attributes, Rule

_ANYTHING = 3.0
"""The weight of a grant that includes all others; the others weigh what their technique does."""


class Power(NamedTuple):
    """What a rule lets its holder do: ``weight`` as in ``activity.technique``, or above all."""

    name: str
    weight: float
    asked: tuple[Attributes, ...]


def _power(name: str, verbs: str, *kinds: str) -> Power:
    """``kinds`` are ``resource[/subresource][.group]``."""
    asked = []
    for kind in kinds:
        path, _, group = kind.partition(".")
        resource, _, subresource = path.partition("/")
        asked += [Attributes(verb, group, resource, subresource) for verb in verbs.split()]
    heaviest = max(
        technique(one.verb, f"{one.resource}.{one.group}".rstrip("."), one.subresource).weight
        for one in asked
    )
    weight = IMPERSONATION.weight if "impersonate" in verbs else heaviest
    return Power(name, weight, tuple(asked))


_ROLES = (f"roles.{GROUP}", f"clusterroles.{GROUP}")
_BINDINGS = (f"rolebindings.{GROUP}", f"clusterrolebindings.{GROUP}")
_ADMISSION = "admissionregistration.k8s.io"
POWERS = (
    _power("give rights that one does not have (escalate, bind)", "escalate bind", *_ROLES),
    _power("act as others (impersonate)", "impersonate", "users", "groups", "serviceaccounts"),
    _power("bind roles", "create update patch", *_BINDINGS),
    _power("change roles", "create update patch", *_ROLES),
    _power(
        "change admission webhooks",
        "create update patch",
        f"mutatingwebhookconfigurations.{_ADMISSION}",
        f"validatingwebhookconfigurations.{_ADMISSION}",
    ),
    _power("reach kubelets through nodes/proxy", "get create", "nodes/proxy"),
    _power(
        "approve certificates",
        "update patch",
        "certificatesigningrequests/approval.certificates.k8s.io",
    ),
    _power("mint service account tokens", "create", "serviceaccounts/token"),
    _power("enter containers", "get create", "pods/exec", "pods/attach"),
    _power("inject debug containers", "update patch", "pods/ephemeralcontainers"),
    _power("read secrets", "get list watch", "secrets"),
    _power("change secrets", "create update patch", "secrets"),
    _power(
        "run workloads (with any secret and service account of the namespace)",
        "create update patch",
        "pods",
        "deployments.apps",
        "daemonsets.apps",
        "statefulsets.apps",
        "replicasets.apps",
        "replicationcontrollers",
        "jobs.batch",
        "cronjobs.batch",
    ),
    _power("make volumes of nodes' directories", "create", "persistentvolumes"),
    _power("delete namespaces", "delete", "namespaces"),
)
_OUTSIDE = frozenset(
    {
        "users",
        "groups",
        "nodes",
        "persistentvolumes",
        "certificatesigningrequests",
        "clusterrolebindings",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    }
)
EVERYTHING = Power("do anything with anything", _ANYTHING, ())


def powers(rules: Iterable[Rule], *, namespaced: bool) -> Iterator[tuple[Power, tuple[str, ...]]]:
    """The powers that rules give, each with the names it is restricted to (none: it is not).

    What is ``namespaced`` (by a RoleBinding) gives nothing outside of namespaces. A power that
    includes all others stands for them.
    """
    known = tuple(rules)
    if any(_is_everything(rule) for rule in known):
        yield EVERYTHING, ()
        return
    for power in POWERS:
        asked = [one for one in power.asked if not (namespaced and one.resource in _OUTSIDE)]
        giving = [rule for rule in known if any(_gives(rule, one) for one in asked)]
        if any(not rule.names for rule in giving):
            yield power, ()
        elif giving:
            yield power, tuple(sorted({name for rule in giving for name in rule.names}))


def serves(power: Power, asked: Attributes) -> bool:
    """Whether a request made use of a power."""
    return power is EVERYTHING or any(
        (one.verb, one.group, one.resource, one.subresource)
        == (asked.verb, asked.group, asked.resource, asked.subresource)
        for one in power.asked
    )


def _gives(rule: Rule, asked: Attributes) -> bool:
    if not rule.names:
        return rule.allows(asked)
    # a create names nothing, so that a rule with names never permits it
    nameless = asked.verb == "create" and not asked.subresource
    return not nameless and rule.allows(asked._replace(name=rule.names[0]))


def _is_everything(rule: Rule) -> bool:
    return ALL in rule.verbs and ALL in rule.groups and ALL in rule.resources and not rule.names
