"""The view models: what a terminal, a page and a JSON document all show.

Computed once, rendered many times. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from kubewitness.incidents.model import Incident, Misconfiguration


class Count(msgspec.Struct, frozen=True):
    """A value and how many requests carried it."""

    value: str
    n: int


class Series(msgspec.Struct, frozen=True):
    """Requests per time slot of one line of a chart; as long as ``Summary.slots``."""

    label: str
    n: tuple[int, ...]


class Mover(msgspec.Struct, frozen=True):
    """A principal whose daily volume changed most between the two halves of the period."""

    principal: str
    before: float
    after: float
    unit: str


class Newcomer(msgspec.Struct, frozen=True):
    """A principal, client or network first seen in the last part of the period."""

    kind: str
    value: str
    first_seen: datetime
    n: int
    example: str


class Denied(msgspec.Struct, frozen=True):
    """Requests of one principal that the API server refused (401, 403)."""

    principal: str
    action: str
    namespace: str
    n: int
    first: datetime
    last: datetime


class Access(msgspec.Struct, frozen=True):
    """Access to something sensitive: secrets, tokens, exec, RBAC, webhooks, certificates."""

    principal: str
    action: str
    namespace: str
    objects: int
    n: int
    last: datetime


class Gap(msgspec.Struct, frozen=True):
    """A stretch of time in which a cluster's log says nothing."""

    start: datetime
    end: datetime


class Blind(msgspec.Struct, frozen=True):
    """Something this log cannot show, why, and what would show it."""

    what: str
    why: str
    remedy: str


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What the log can and cannot show."""

    levels: tuple[Count, ...]
    stages: tuple[Count, ...]
    gaps: tuple[Gap, ...]
    blind: tuple[Blind, ...]
    clusters: tuple[Count, ...]


class Rejected(msgspec.Struct, frozen=True):
    """Lines of one source that are no audit events, by reason, with the first places."""

    source: str
    reason: str
    n: int
    places: tuple[str, ...]


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """What was read: nothing in a source vanishes uncounted."""

    sources: int
    lines: int
    events: int
    added: int
    duplicates: int
    skipped: tuple[Rejected, ...]
    broken: tuple[Rejected, ...]
    quarantine: str
    warnings: tuple[str, ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Trends and statistics of a period."""

    start: datetime
    end: datetime
    requests: int
    principals: int
    namespaces: int
    slots: tuple[datetime, ...]
    volume: tuple[Series, ...]
    denied_volume: Series
    classes: tuple[Count, ...]
    verbs: tuple[Count, ...]
    resources: tuple[Count, ...]
    outcomes: tuple[Count, ...]
    hours: tuple[Series, ...]
    movers: tuple[Mover, ...]
    newcomers: tuple[Newcomer, ...]
    denied: tuple[Denied, ...]
    sensitive: tuple[Access, ...]
    coverage: Coverage


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """Everything ``kubewitness analyze`` found out."""

    mode: str
    cluster: str
    since: datetime | None
    incidents: tuple[Incident, ...]
    queue: tuple[Incident, ...]
    summary: Summary
    intake: Intake
    notes: tuple[str, ...]
    misconfigurations: tuple[Misconfiguration, ...] = ()
