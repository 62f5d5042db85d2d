"""The least roles that cover what was used: no verb on no resource that was not.

Rules go where they were used: into a Role a namespace, into a ClusterRole what was asked of the
whole cluster. Namespaces that need the same share one ClusterRole, bound in each of them. Objects
are named where they are few and their names are not made up by a machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from kubewitness.activity.name import name_template
from kubewitness.forensics.rbac.policy import GROUP, Attributes, Rule

# So many objects are listed by name; more are a habit, and the list would soon be wrong.
FEW = 5
_SERVICE_ACCOUNT = "system:serviceaccount:"
_PLAIN = re.compile(r"[a-z0-9]{1,50}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# The next one has another number.
_COUNTED = re.compile(r"[.-]v?\d+$")
# kubectl opens these with GET (WebSocket, since 1.31) or POST (before, and as its way out), and an
# API server since 1.35 asks for both.
_STREAMS = frozenset({"exec", "attach", "portforward"})
_BOTH = ("create", "get")

Manifest = dict[str, Any]


def least(user: str, used: Iterable[Attributes]) -> list[Manifest]:
    """Roles and bindings, as ``kubectl apply`` takes them, that let ``user`` do what was ``used``.

    What cannot be in a role is left out: namespaces that no cluster can have, and what a role would
    read as a wildcard (``DELETE …/namespaces/shop/*`` asks for a resource called ``*``).
    """
    everywhere: set[Attributes] = set()
    places: dict[str, set[Attributes]] = {}
    for one in _completed(used):
        if any("*" in part for part in one._replace(namespace="", name="")):
            continue
        if not one.namespace or not one.resource:
            everywhere.add(one._replace(namespace=""))
        elif _LABEL.fullmatch(one.namespace):
            places.setdefault(one.namespace, set()).add(one._replace(namespace=""))
    whole = rules(everywhere)
    local = {
        namespace: found
        for namespace, deeds in sorted(places.items())
        if (found := rules(one for one in deeds if not any(rule.allows(one) for rule in whole)))
    }
    name = role_name(user)
    subject = _subject(user)
    manifests: list[Manifest] = []
    if whole:
        manifests += [
            _role("ClusterRole", name, "", whole),
            _binding("ClusterRoleBinding", name, "", "ClusterRole", name, subject),
        ]
    return manifests + _local(name, local, subject)


def rules(deeds: Iterable[Attributes]) -> tuple[Rule, ...]:
    """The fewest rules that permit these and nothing else, but for names where they are many."""
    paths: dict[str, set[str]] = {}
    names: dict[tuple[str, str, str], set[str]] = {}
    for one in deeds:
        if not one.resource:
            paths.setdefault(one.path, set()).add(one.verb)
            continue
        resource = f"{one.resource}/{one.subresource}" if one.subresource else one.resource
        names.setdefault((one.group, resource, one.verb), set()).add(one.name)
    verbs: dict[tuple[str, str, tuple[str, ...]], set[str]] = {}
    for (group, resource, verb), seen in names.items():
        verbs.setdefault((group, resource, _named(seen)), set()).add(verb)
    resources: dict[tuple[tuple[str, ...], str, tuple[str, ...]], set[str]] = {}
    for (group, resource, named), allowed in verbs.items():
        resources.setdefault((tuple(sorted(allowed)), group, named), set()).add(resource)
    alike: dict[tuple[str, ...], set[str]] = {}
    for path, allowed in paths.items():
        alike.setdefault(tuple(sorted(allowed)), set()).add(path)
    return (
        *(
            Rule(allowed, (group,), tuple(sorted(kinds)), named)
            for (allowed, group, named), kinds in sorted(
                resources.items(), key=lambda item: (item[0][1], sorted(item[1]), item[0])
            )
        ),
        *(
            Rule(verbs=allowed, paths=tuple(sorted(found)))
            for allowed, found in sorted(alike.items())
        ),
    )


def role_name(user: str) -> str:
    """A name for the roles of ``user`` that Kubernetes accepts (DNS-1123), whatever its own is, and
    that nobody else's have: what several users would be spelled as carries a hash.

    >>> role_name("ada"), role_name("system:serviceaccount:ci:deployer")
    ('least-ada', 'least-ci-deployer-179592d3')
    """
    if _PLAIN.fullmatch(user):
        return f"least-{user}"
    plain = re.sub(r"[^a-z0-9]+", "-", user.removeprefix(_SERVICE_ACCOUNT).lower())[:40].strip("-")
    mark = sha256(user.encode("utf-8", "replace")).hexdigest()[:8]
    return "-".join(filter(None, ("least", plain, mark)))


def _completed(used: Iterable[Attributes]) -> Iterable[Attributes]:
    for one in used:
        if one.subresource in _STREAMS and one.verb in _BOTH:
            yield from (one._replace(verb=verb) for verb in _BOTH)
        else:
            yield one


def _named(seen: set[str]) -> tuple[str, ...]:
    """The names to restrict a rule to, none where it was also used without, or on too many."""
    made_up = any(name_template(name) != name or _COUNTED.search(name) for name in seen)
    return () if "" in seen or made_up or len(seen) > FEW else tuple(sorted(seen))


def _local(
    name: str, local: Mapping[str, tuple[Rule, ...]], subject: dict[str, str]
) -> list[Manifest]:
    """Roles for single namespaces, ClusterRoles for several that need the same."""
    alike: dict[tuple[Rule, ...], list[str]] = {}
    for namespace, found in local.items():
        alike.setdefault(found, []).append(namespace)
    manifests: list[Manifest] = []
    shared = 0
    for found, namespaces in alike.items():
        if len(namespaces) == 1:
            (namespace,) = namespaces
            manifests += [
                _role("Role", name, namespace, found),
                _binding("RoleBinding", name, namespace, "Role", name, subject),
            ]
            continue
        shared += 1
        common = f"{name}-shared-{shared}"
        manifests.append(_role("ClusterRole", common, "", found))
        manifests += [
            _binding("RoleBinding", common, namespace, "ClusterRole", common, subject)
            for namespace in namespaces
        ]
    return manifests


def _role(kind: str, name: str, namespace: str, found: tuple[Rule, ...]) -> Manifest:
    return {**_head(kind, name, namespace), "rules": [_rule(one) for one in found]}


def _binding(
    kind: str, name: str, namespace: str, role_kind: str, role: str, subject: dict[str, str]
) -> Manifest:
    return {
        **_head(kind, name, namespace),
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
        "subjects": [dict(subject)],
    }


def _head(kind: str, name: str, namespace: str) -> Manifest:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata}


def _rule(rule: Rule) -> Manifest:
    if rule.paths:
        return {"nonResourceURLs": list(rule.paths), "verbs": list(rule.verbs)}
    named = {"resourceNames": list(rule.names)} if rule.names else {}
    return {
        "apiGroups": list(rule.groups),
        "resources": list(rule.resources),
        **named,
        "verbs": list(rule.verbs),
    }


def _subject(user: str) -> dict[str, str]:
    namespace, colon, name = user.removeprefix(_SERVICE_ACCOUNT).partition(":")
    if user.startswith(_SERVICE_ACCOUNT) and colon and _LABEL.fullmatch(namespace) and name:
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": "User", "name": user}
