"""Who could have touched an object, as far as the known roles and bindings tell."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from kubewitness.activity.principal import principal_class
from kubewitness.forensics.rbac.answer import Ability, Able, Source
from kubewitness.forensics.rbac.grants import Grants
from kubewitness.forensics.rbac.policy import MASTERS, Attributes, Subject
from kubewitness.forensics.rbac.principals import Principal
from kubewitness.forensics.target import Target

UNASKED = "system:masters, which needs no binding"
_READ, _CHANGE, _DELETE = ("get", "list", "watch"), ("update", "patch"), ("delete",)
_COLLECTIVE = ("list", "watch", "deletecollection")
# What gets at an object through a resource below it.
_BELOW: dict[str, tuple[tuple[Ability, tuple[str, ...], tuple[str, ...]], ...]] = {
    "pods": (
        ("read", ("get",), ("log",)),
        ("enter", ("get", "create"), ("exec", "attach", "portforward", "proxy")),
        ("enter", ("update", "patch"), ("ephemeralcontainers",)),
    ),
    "services": (("proxy", ("get", "create"), ("proxy",)),),
    "nodes": (("proxy", ("get", "create"), ("proxy",)),),
    "serviceaccounts": (("mint tokens", ("create",), ("token",)),),
    "certificatesigningrequests": (("approve", ("update", "patch"), ("approval",)),),
    "deployments": (("change", ("update", "patch"), ("scale",)),),
    "statefulsets": (("change", ("update", "patch"), ("scale",)),),
    "replicasets": (("change", ("update", "patch"), ("scale",)),),
}
# What a pod may use by naming it: whoever makes pods there has what these hold.
_MOUNTED = frozenset({"secrets", "configmaps", "serviceaccounts", "persistentvolumeclaims"})
_MAKERS = (
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("apps", "statefulsets"),
    ("apps", "replicasets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
)


def able(
    target: Target, grants: Grants, known: Mapping[str, Principal], touched: Collection[str]
) -> list[Able]:
    """The subjects that known bindings let read, change or delete ``target``, or get at it: people
    and workloads before the cluster's own machinery, those who may do most first."""
    questions = list(_questions(target))
    may: dict[Subject, dict[Ability, None]] = {}
    by: dict[Subject, dict[str, Source]] = {}
    for binding in grants.policy.bindings.values():
        abilities = {
            ability: None for ability, asked in questions if grants.policy.permits(binding, asked)
        }
        for subject in binding.subjects if abilities else ():
            may.setdefault(subject, {}).update(abilities)
            by.setdefault(subject, {})[binding.told] = grants.source[binding.key]
    masters = Subject("Group", MASTERS)
    if _members(masters, known):
        may.setdefault(masters, {}).update(dict.fromkeys(ability for ability, _ in questions))
        by.setdefault(masters, {})[UNASKED] = "default"
    order = {ability: number for number, (ability, _) in enumerate(questions)}
    found = []
    for subject, abilities in may.items():
        members = _members(subject, known)
        found.append(
            Able(
                subject.told,
                tuple(sorted(abilities, key=lambda one: order[one])),
                tuple(by[subject]),
                tuple(dict.fromkeys(by[subject].values())),
                members if subject.kind == "Group" else (),
                tuple(name for name in members if name in touched),
                _is_machinery(subject),
            )
        )
    found.sort(key=lambda one: (one.machinery, "read" not in one.may, -len(one.may), one.subject))
    return found


def _questions(target: Target) -> Iterator[tuple[Ability, Attributes]]:
    """What to ask an authorizer for each ability; any yes is enough."""
    # the namespace of a request for a namespace is that namespace
    namespace = target.name if target.kind.resource == "namespaces" else target.namespace
    about = Attributes("", target.kind.group, target.kind.resource, "", namespace, target.name)
    wanted: tuple[tuple[Ability, tuple[str, ...]], ...] = (
        ("read", _READ),
        ("change", _CHANGE),
        ("delete", (*_DELETE, "deletecollection")),
    )
    for ability, verbs in wanted:
        for verb in verbs:
            yield ability, about._replace(verb=verb)
            if verb in _COLLECTIVE:
                yield ability, about._replace(verb=verb, name="")
    for ability, verbs, below in _BELOW.get(target.kind.resource, ()):
        for verb in verbs:
            for subresource in below:
                yield ability, about._replace(verb=verb, subresource=subresource)
    if target.kind.resource == "serviceaccounts":
        yield "act as it", about._replace(verb="impersonate")
    if target.kind.resource in _MOUNTED and not target.kind.group:
        for group, resource in _MAKERS:
            for verb in ("create", *_CHANGE) if resource != "pods" else ("create",):
                yield "mount", Attributes(verb, group, resource, "", namespace)


def _members(subject: Subject, known: Mapping[str, Principal]) -> tuple[str, ...]:
    """Those in the log that are meant by ``subject``."""
    if subject.kind != "Group":
        return (subject.user,) if subject.user in known else ()
    return tuple(sorted(one.name for one in known.values() if subject.name in one.groups))


def _is_machinery(subject: Subject) -> bool:
    if subject.kind == "Group":
        return subject.name == "system:nodes"
    return principal_class(subject.user) in ("node", "control-plane")
