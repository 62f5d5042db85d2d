"""Role-based access control as the API server evaluates it.

The semantics are those of ``rbac.authorization.k8s.io/v1`` and of the RBAC authorizer
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/): permissions only add up, ``*``
stands for all verbs, groups, resources or paths, ``resourceNames`` restrict only requests that
name their object, and ``*/scale`` is that subresource of every resource.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

GROUP = "rbac.authorization.k8s.io"
ALL = "*"
MASTERS = "system:masters"
"""Whoever is in this group is not asked for a binding at all."""
_SERVICE_ACCOUNT = "system:serviceaccount:"


class Attributes(NamedTuple):
    """What an authorizer is asked: may this be done? ``path`` is for requests that name no
    resource; ``name`` is '' where a request names no object, as create and list do."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Rule(msgspec.Struct, frozen=True):
    """A PolicyRule: verbs on resources of groups, or on paths. Empty names are all names."""

    verbs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The rule in one line: ``get, list secrets``, ``update deployments.apps (web)``."""
        kinds = self.resources
        of = ""
        if len(self.groups) == 1:
            kinds = tuple(grouped(resource, self.groups[0]) for resource in self.resources)
        elif self.groups:
            of = f" of {', '.join(group or 'core' for group in self.groups)}"
        named = f" ({', '.join(self.names)})" if self.names else ""
        return f"{', '.join(self.verbs)} {', '.join((*kinds, *self.paths))}{of}{named}"

    def allows(self, asked: Attributes) -> bool:
        """Whether this rule permits the request.

        >>> Rule(("get",), ("",), ("pods/*", "*/log")).allows(
        ...     Attributes("get", "", "pods", "log", "shop", "web"))
        True
        >>> Rule(("get",), ("",), ("pods",)).allows(Attributes("get", "", "pods", "exec"))
        False
        """
        if not _any(self.verbs, asked.verb):
            return False
        if not asked.resource:
            return any(_is_path(path, asked.path) for path in self.paths)
        return (
            _any(self.groups, asked.group)
            and any(_is_resource(one, asked) for one in self.resources)
            and (not self.names or asked.name in self.names)
        )


class Subject(msgspec.Struct, frozen=True, order=True):
    """A User, Group or ServiceAccount that a binding names; ``namespace`` of the last."""

    kind: str
    name: str
    namespace: str = ""

    @property
    def user(self) -> str:
        """The username that a request of this subject has; '' for a group."""
        if self.kind == "ServiceAccount":
            return f"{_SERVICE_ACCOUNT}{self.namespace}:{self.name}"
        return self.name if self.kind == "User" else ""

    @property
    def told(self) -> str:
        """``User maria``, ``Group dev``, ``ServiceAccount shop/api``."""
        return (
            f"{self.kind} {self.namespace}/{self.name}"
            if self.namespace
            else (f"{self.kind} {self.name}")
        )

    def is_one(self, user: str, groups: Collection[str]) -> bool:
        """Whether ``user`` with ``groups`` is meant."""
        return self.name in groups if self.kind == "Group" else self.user == user


class Key(NamedTuple):
    """What identifies a role or binding; ``namespace`` is '' for those of the whole cluster."""

    kind: str
    namespace: str
    name: str

    @property
    def told(self) -> str:
        """``ClusterRole edit``, ``Role shop/deployer``."""
        return (
            f"{self.kind} {self.namespace}/{self.name}"
            if self.namespace
            else (f"{self.kind} {self.name}")
        )


class Selector(msgspec.Struct, frozen=True):
    """A label selector: all pairs of ``labels``, all ``expressions`` (key, operator, values)."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def selects(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is meant."""
        return all(labels.get(key) == value for key, value in self.labels) and all(
            _holds(labels.get(key), operator, values) for key, operator, values in self.expressions
        )


class Role(msgspec.Struct, frozen=True):
    """A Role or ClusterRole. One with ``aggregates`` has the rules of the ClusterRoles that one of
    these selects, too."""

    key: Key
    rules: tuple[Rule, ...] = ()
    labels: dict[str, str] = {}
    aggregates: tuple[Selector, ...] = ()


class Binding(msgspec.Struct, frozen=True):
    """A RoleBinding or ClusterRoleBinding."""

    key: Key
    role: Key
    subjects: tuple[Subject, ...] = ()

    @property
    def told(self) -> str:
        """The binding and its role: ``RoleBinding shop/team → ClusterRole edit``."""
        role = self.role if self.role.kind == "ClusterRole" else self.role._replace(namespace="")
        return f"{self.key.told} → {role.told}"

    def reaches(self, asked: Attributes) -> bool:
        """Whether a request is in the namespace that the binding is about."""
        return not self.key.namespace or self.key.namespace == asked.namespace

    def binds(self, user: str, groups: Collection[str]) -> bool:
        """Whether ``user`` with ``groups`` is among the subjects."""
        return any(subject.is_one(user, groups) for subject in self.subjects)


class Policy:
    """Roles and bindings of one cluster at one time, and what follows from them."""

    def __init__(self, roles: Iterable[Role] = (), bindings: Iterable[Binding] = ()) -> None:
        self.roles = {role.key: role for role in roles}
        self.bindings = {binding.key: binding for binding in bindings}
        self._rules: dict[Key, tuple[Rule, ...]] = {}

    def rules(self, role: Key) -> tuple[Rule, ...] | None:
        """What a role permits, aggregated rules included; ``None`` where the role is not known."""
        if role not in self.roles:
            return None
        if role not in self._rules:
            gathered = [rule for one in self._aggregated(role, set()) for rule in one.rules]
            self._rules[role] = tuple(dict.fromkeys(gathered))
        return self._rules[role]

    def _aggregated(self, key: Key, seen: set[Key]) -> Iterator[Role]:
        """The role and those that it is the sum of. The aggregation controller writes the sum into
        the role, but may not have come to it when the role was seen."""
        seen.add(key)
        role = self.roles[key]
        yield role
        for other in self.roles.values() if role.aggregates else ():
            if (
                other.key.kind == "ClusterRole"
                and other.key not in seen
                and any(selector.selects(other.labels) for selector in role.aggregates)
            ):
                yield from self._aggregated(other.key, seen)

    @property
    def restricted(self) -> set[tuple[str, str]]:
        """The (group, resource) of which some rule is about objects by name."""
        return {
            (group, resource.partition("/")[0])
            for role in self.roles.values()
            for rule in role.rules
            if rule.names
            for group in rule.groups
            for resource in rule.resources
        }

    def permits(self, binding: Binding, asked: Attributes) -> bool:
        """Whether this binding gives its subjects what is asked."""
        return binding.reaches(asked) and any(
            rule.allows(asked) for rule in self.rules(binding.role) or ()
        )

    def of(self, user: str, groups: Collection[str]) -> Iterator[Binding]:
        """The bindings of which ``user`` with ``groups`` is a subject."""
        return (one for one in self.bindings.values() if one.binds(user, groups))

    def allowing(
        self, user: str, groups: Collection[str], asked: Attributes
    ) -> Iterator[Binding | None]:
        """The bindings that permit this; ``None`` stands for membership in ``system:masters``."""
        if MASTERS in groups:
            yield None
        yield from (one for one in self.of(user, groups) if self.permits(one, asked))


def grouped(resource: str, group: str) -> str:
    """A resource of a rule with its group, if it has one, as kubectl takes it.

    >>> grouped("deployments/scale", "apps"), grouped("pods/log", "")
    ('deployments.apps/scale', 'pods/log')
    """
    if group in ("", ALL):
        return resource
    name, slash, below = resource.partition("/")
    return f"{name}.{group}{slash}{below}"


def groups_of(user: str, groups: Iterable[str] = ()) -> frozenset[str]:
    """The groups of a principal: those that it showed, and those that follow from its name.

    >>> sorted(groups_of("system:serviceaccount:shop:api"))
    ['system:authenticated', 'system:serviceaccounts', 'system:serviceaccounts:shop']
    """
    shown = set(groups)
    if user.startswith(_SERVICE_ACCOUNT):
        namespace = user.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
        shown |= {"system:serviceaccounts", f"system:serviceaccounts:{namespace}"}
    if "system:unauthenticated" not in shown:
        shown.add("system:unauthenticated" if user == "system:anonymous" else _AUTHENTICATED)
    return frozenset(shown)


_AUTHENTICATED = "system:authenticated"


def _any(allowed: Sequence[str], value: str) -> bool:
    return value in allowed or ALL in allowed


def _is_resource(allowed: str, asked: Attributes) -> bool:
    if not asked.subresource:
        return allowed in (ALL, asked.resource)
    return allowed in (
        ALL,
        f"{asked.resource}/{asked.subresource}",
        f"{ALL}/{asked.subresource}",
    )


def _is_path(allowed: str, path: str) -> bool:
    return allowed == path or (allowed.endswith(ALL) and path.startswith(allowed.rstrip(ALL)))


def _holds(value: str | None, operator: str, values: tuple[str, ...]) -> bool:
    match operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False
