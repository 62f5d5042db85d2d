"""What forensics tells: the structs that the terminal, JSON and YAML are renderings of."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from kubewitness.forensics.objects.fields import Field

Effect = Literal[
    "created",
    "changed",
    "unchanged",
    "not knowable",
    "terminating",
    "deleted",
    "touched",
    "refused",
    "dry run",
]


class Subject(Struct, frozen=True):
    """The object that was asked about, as the log spells it; ``kind`` is resource[.group]."""

    cluster: str
    kind: str
    namespace: str
    name: str


class Change(Struct, frozen=True):
    """One request about an object, or ``n`` alike that were folded into one line.

    ``principal`` was authenticated, ``acting_as`` is whom they impersonated; ``owner`` is the
    object's controller where a machine acted. ``source_ips`` are as logged: the last is the peer,
    those before are what it claimed. ``reason`` is the authorizer's own. ``life`` counts the
    objects of this name. ``how`` is the verb, for a patch its kind.
    """

    at: datetime
    until: datetime
    life: int
    uid: str
    effect: Effect
    how: str
    subresource: str
    principal: str
    acting_as: str
    owner: str
    source_ips: tuple[str, ...]
    user_agent: str
    reason: str
    outcome: str
    code: int | None
    level: str
    fields: tuple[Field, ...]
    note: str
    n: int
    audit_ids: tuple[str, ...]


class History(Struct, frozen=True):
    """Changes of an object in order, ``more`` whether a limit left earlier ones out. ``notes`` say
    what this log cannot tell."""

    subject: Subject
    changes: tuple[Change, ...]
    lives: int
    notes: tuple[str, ...]
    more: bool = False


class Gap(Struct, frozen=True):
    """A place in an object that cannot be known, and why."""

    path: str
    why: str


class Source(Struct, frozen=True):
    """A request that a state was taken from; ``gave`` is answer, request or metadata."""

    audit_id: str
    at: datetime
    gave: str


class Snapshot(Struct, frozen=True):
    """An object at one time, as far as the log tells.

    ``existence`` is exists, terminating, gone or unknown; ``object`` holds what is known, and
    ``gaps`` names what is not; ``sources`` are the requests it was taken from.
    """

    subject: Subject
    at: datetime
    existence: str
    life: int
    uid: str
    created_at: datetime | None
    object: dict[str, Any]
    gaps: tuple[Gap, ...]
    sources: tuple[Source, ...]
    notes: tuple[str, ...]


class Difference(Struct, frozen=True):
    """An object at two times, and the fields that differ."""

    subject: Subject
    before: Snapshot
    after: Snapshot
    fields: tuple[Field, ...]
    notes: tuple[str, ...]


class Workload(Struct, frozen=True):
    """A pod or a workload controller, and what it runs, mounts and is.

    ``created_at`` is ``None`` where neither its creation is in the log nor any answer tells;
    ``unknown`` says why the lists may be incomplete, '' where they are not; ``owner`` is its
    controller.
    """

    subject: Subject
    life: int
    uid: str
    existence: str
    created_at: datetime | None
    images: tuple[str, ...]
    service_account: str
    secrets: tuple[str, ...]
    configmaps: tuple[str, ...]
    node: str
    owner: str
    unknown: str


class Inventory(Struct, frozen=True):
    """What ran at one time."""

    at: datetime
    workloads: tuple[Workload, ...]
    notes: tuple[str, ...]


class Holding(Struct, frozen=True):
    """A time during which a workload met a condition; ``end`` is ``None`` where it still did at
    the end of the log. ``since_creation``: it began with the workload itself, otherwise with a
    change, or with what the log tells first."""

    workload: Workload
    start: datetime
    end: datetime | None
    since_creation: bool


class Holdings(Struct, frozen=True):
    """All of them, in order of time."""

    items: tuple[Holding, ...]
    notes: tuple[str, ...]
