"""An audit policy as the API server reads it (audit.k8s.io/v1), and what it logs of a request.

The first rule that matches decides; without one nothing is logged. Rules see who asks (before
impersonation), for what, and never how it ends. Source: k8s.io/apiserver, pkg/audit/policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

Level = Literal["None", "Metadata", "Request", "RequestResponse"]
Stage = Literal["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"]
STAGES: tuple[Stage, ...] = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
LEVELS: tuple[Level, ...] = ("None", "Metadata", "Request", "RequestResponse")


class Request(NamedTuple):
    """What rules look at. ``resource`` is '' for a request that is not about one, which has a
    ``path`` instead."""

    user: str
    groups: tuple[str, ...]
    verb: str
    api_group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Resources(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Resources of one API group; all of them, subresources included, where none is named."""

    group: str = ""
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()

    def matches(self, request: Request) -> bool:
        if self.group != request.api_group:
            return False
        if not self.resources:
            return True
        if self.resource_names and request.name not in self.resource_names:
            return False
        return any(self._names(spec, request) for spec in self.resources)

    @staticmethod
    def _names(spec: str, request: Request) -> bool:
        resource, subresource = request.resource, request.subresource
        whole = f"{resource}/{subresource}" if subresource else resource
        if spec in (whole, "*"):
            return True
        if subresource and spec == f"*/{subresource}":
            return True
        # "pods/*" is pods, too.
        return spec == f"{resource}/*"


class Rule(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is logged of the requests that match everything which is given."""

    level: Level
    users: tuple[str, ...] = ()
    user_groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[Resources, ...] = ()
    namespaces: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = msgspec.field(default=(), name="nonResourceURLs")
    omit_stages: tuple[Stage, ...] = ()
    omit_managed_fields: bool | None = None

    def matches(self, request: Request) -> bool:
        if self.users and request.user not in self.users:
            return False
        if self.user_groups and not set(self.user_groups) & set(request.groups):
            return False
        if self.verbs and request.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return self._matches_resource(request)
        if self.non_resource_urls:
            return not request.resource and any(
                _path_matches(request.path, spec) for spec in self.non_resource_urls
            )
        return True

    def _matches_resource(self, request: Request) -> bool:
        if not request.resource:
            return False
        if self.namespaces and request.namespace not in self.namespaces:
            return False
        return not self.resources or any(one.matches(request) for one in self.resources)


class Policy(msgspec.Struct, frozen=True, rename="camel"):
    """``rules`` in their order; ``lines`` are those of the file in which they begin."""

    rules: tuple[Rule, ...]
    omit_stages: tuple[Stage, ...] = ()
    omit_managed_fields: bool = False
    lines: tuple[int, ...] = ()

    def decide(self, request: Request) -> Decision:
        """What is logged of ``request``."""
        for n, rule in enumerate(self.rules):
            if rule.matches(request):
                fields = rule.omit_managed_fields
                return Decision(
                    n,
                    rule.level,
                    frozenset((*self.omit_stages, *rule.omit_stages)),
                    self.omit_managed_fields if fields is None else fields,
                )
        return Decision(None, "None", frozenset(self.omit_stages), self.omit_managed_fields)

    def line(self, decision: Decision) -> int:
        """The line of the rule that decided; 0 where none did."""
        return self.lines[decision.rule] if decision.rule is not None and self.lines else 0


class Decision(NamedTuple):
    """``rule`` is the index of the rule that matched, if any did."""

    rule: int | None
    level: Level
    omitted: frozenset[Stage]
    omits_managed_fields: bool

    def logs(self, stages: Iterable[Stage] = ("ResponseStarted", "ResponseComplete")) -> bool:
        """Whether any event is written."""
        return self.level != "None" and not self.omitted.issuperset(stages)

    def has(self, level: Level) -> bool:
        """Whether at least ``level`` is logged."""
        return LEVELS.index(self.level) >= LEVELS.index(level) and self.logs()


def _path_matches(path: str, spec: str) -> bool:
    if spec in ("*", path):
        return True
    return spec.endswith("*") and path.startswith(spec.rstrip("*"))
