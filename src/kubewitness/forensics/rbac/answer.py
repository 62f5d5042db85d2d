"""What ``who`` and ``access`` answer: the models that a report shows and ``-o json`` writes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from kubewitness.activity.principal import PrincipalClass

Source = Literal["snapshot", "log", "default", "reason"]
DEFAULTS_OF = "Kubernetes v1.36"
"""The release whose default roles and bindings are known (``bench/rbac_defaults.py``)."""
Habit = Literal["usual", "team", "new", "first", "machinery"]
"""Touched it before; its team did; neither did, though others; nobody did; not asked of kubelets
and controllers, for which the scheduler decides."""
Ability = Literal[
    "read", "change", "delete", "enter", "mint tokens", "act as it", "proxy", "approve", "mount"
]
Origin = Literal["snapshot", "log", "default", "reason", "removed", "group"]


class Knowledge(msgspec.Struct, frozen=True):
    """How well roles and bindings are known. ``source`` is "log" or "snapshot"; bindings are the
    cluster's own, without those that every API server makes for itself. ``unknown_roles`` are
    bound, and nothing says what they permit."""

    source: Source
    bindings: int
    used: int
    only_used: int
    """Known by their use only: who else is bound is not known."""
    roles: int
    unknown_roles: tuple[str, ...]
    changed: tuple[str, ...]
    """Written in the log, which does not say to what."""
    notes: tuple[str, ...]


class Touched(msgspec.Struct, frozen=True):
    """What one principal, or one acting as another, did to the object. Times are UTC; ``days``
    count time slices (``unit``) other than those that are judged."""

    principal: str
    acting_as: str
    principal_class: PrincipalClass
    team: str
    requests: int
    refused: int
    first: datetime
    last: datetime
    actions: dict[str, int]
    """Requests by action, those that were refused included."""
    outcomes: dict[str, int]
    source_ips: dict[str, int]
    clients: dict[str, int]
    bindings: tuple[str, ...]
    """What allowed them: ``Binding NAME → Role``."""
    habit: Habit
    days_self: int
    days_team: int
    days_anyone: int


class Able(msgspec.Struct, frozen=True):
    """A subject of bindings that could have touched the object. ``members`` are those of a group
    that the log shows, ``touched`` those of them (or the subject itself) that did. ``subject`` is
    written as bindings do: ``User maria``, ``Group dev``, ``ServiceAccount shop/api``."""

    subject: str
    may: tuple[Ability, ...]
    bindings: tuple[str, ...]
    sources: tuple[Source, ...]
    members: tuple[str, ...]
    touched: tuple[str, ...]
    machinery: bool


class Who(msgspec.Struct, frozen=True):
    """The answer to ``kubewitness who``. ``start`` and ``end`` bound what was asked about,
    ``unit`` is what the days of ``touched`` are counted in; ``others`` may touch it by the
    bindings that ``knowledge`` knows."""

    cluster: str
    resource: str
    namespace: str
    name: str
    start: datetime
    end: datetime
    unit: str
    touched: tuple[Touched, ...]
    able: tuple[Able, ...]
    knowledge: Knowledge
    notes: tuple[str, ...]


class Grant(msgspec.Struct, frozen=True):
    """A binding of the principal. ``rules`` is ``None`` where what its role permits is not known;
    ``unused`` are those of them that nothing was done under. ``origin`` is where the binding is
    known from; "group" is membership in system:masters, which needs none."""

    binding: str
    subject: str
    origin: Origin
    namespace: str
    rules: tuple[str, ...] | None
    unused: tuple[str, ...]
    requests: int
    by_others: int
    last: datetime | None
    actions: dict[str, int]


class Danger(msgspec.Struct, frozen=True):
    """A dangerous power: where ('' everywhere), on which names (none: all), by which grant, and
    how often it was used."""

    power: str
    weight: float
    binding: str
    namespace: str
    names: tuple[str, ...]
    requests: int
    last: datetime | None


class Access(msgspec.Struct, frozen=True):
    """The answer to ``kubewitness access``. ``role`` are manifests that cover what was used."""

    cluster: str
    principal: str
    principal_class: PrincipalClass
    groups: tuple[str, ...]
    start: datetime
    end: datetime
    requests: int
    unexplained: int
    """Allowed, and no binding is named: by the Node authorizer, or the log does not say why."""
    acted_as: dict[str, int]
    grants: tuple[Grant, ...]
    dangers: tuple[Danger, ...]
    role: tuple[dict[str, Any], ...]
    knowledge: Knowledge
    notes: tuple[str, ...]
