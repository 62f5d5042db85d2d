"""What an auditor is shown: an incident, its reasons, its timeline.

The field names are the contract of ``-o jsonl`` and ``-o json``; scripts rely on them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from kubewitness.forensics.causes.graph import Chain, Reach

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")


class Expected(msgspec.Struct, frozen=True):
    """One value that was usual in this context, and the share of active days it was seen on."""

    value: str
    share: float


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One question a factor asked, what was observed, and what was expected instead.

    ``p`` is the calibrated chance of something at least as surprising on a normal day;
    ``share`` is this reason's share of the incident's score (all shares of an incident sum to 1).
    ``days_*`` count the time slices (days, in a log of weeks; ``unit`` says which) on which the
    observed value was seen before: by this principal, by its peers, by anyone in the cluster.
    """

    factor: str
    question: str
    sentence: str
    observed: str
    expected: tuple[Expected, ...]
    days_self: int
    days_peers: int
    days_cluster: int
    days_active: int
    unit: str
    peers: str
    p: float
    share: float
    evidence: tuple[str, ...]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the timeline: what one principal did in one breath."""

    at: datetime
    until: datetime
    principal: str
    acting_as: str
    action: str
    object: str
    namespace: str
    source_ip: str
    client: str
    outcome: str
    n: int
    notable: bool
    audit_ids: tuple[str, ...]


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A set of linked evidence with a story, a score and a severity.

    ``evidence`` are the auditIDs that made it anomalous, ``events`` further related ones.
    ``cause`` leads back to the first action and the person, ``reach`` says what was touched and
    caused, ``prevention`` what would have prevented it; ``None`` where nothing was asked of a log.
    ``considered`` are the benign explanations that were tried, and why each was rejected or kept.
    ``ended_at``: when what it tells of was over, where that shows by itself (a gap in the log).
    ``merged_into``: the incident that this one turned out to be part of, or ''.
    """

    id: str
    cluster: str
    score: float
    severity: Severity
    alert: bool
    opened_at: datetime
    updated_at: datetime
    principals: tuple[str, ...]
    source_ips: tuple[str, ...]
    title: str
    summary: str
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    objects: tuple[str, ...]
    reasons: tuple[Reason, ...]
    timeline: tuple[Moment, ...]
    considered: tuple[str, ...]
    next_steps: tuple[str, ...]
    evidence: tuple[str, ...]
    events: tuple[str, ...]
    cause: Chain | None = None
    reach: Reach | None = None
    prevention: tuple[str, ...] = ()
    ended_at: datetime | None = None
    merged_into: str = ""


Failure = Literal["permission", "admission", "credential", "missing", "invalid", "server"]
"""Why a request failed: RBAC did not allow it, admission refused it, nobody was authenticated, the
object is not there, the request is malformed, the API server or a webhook failed."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was refused ``n`` times: an action in a namespace ('': cluster-wide).

    ``objects`` are the names that were asked for, as far as known. ``binding`` permitted it until
    ``permitted_until``, where it was permitted before; ``permitted_again`` is when it was served
    the next time after ``last``.
    """

    action: str
    namespace: str
    objects: tuple[str, ...]
    n: int
    first: datetime
    last: datetime
    binding: str
    permitted_until: datetime | None
    permitted_again: datetime | None


class Misconfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is refused the same few things again and again, and how to mend it.

    ``every``: seconds between two requests, on average while it goes on. ``mended``: since when
    what was refused most is served. ``sentences`` say what is
    known, ``fix`` what to do, first things first. ``manifest`` is what ``kubectl apply`` would take
    to permit exactly what was refused, '' where that is no remedy; ``caution`` says why not to
    apply it before asking, or is ''. ``message``: what the API server said, where the log has it.
    """

    id: str
    cluster: str
    failure: Failure
    principal: str
    acting_as: str
    client: str
    source_ips: tuple[str, ...]
    title: str
    sentences: tuple[str, ...]
    refused: tuple[Refused, ...]
    n: int
    first: datetime
    last: datetime
    mended: datetime | None
    every: float
    fix: tuple[str, ...]
    manifest: str
    caution: str
    message: str
    audit_ids: tuple[str, ...]


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A misconfiguration of a cluster that is watched, as it was found last. ``first_seen`` and
    ``last_seen`` are when it was found, ``gone_at`` is when it no longer was (``None``: it is)."""

    misconfiguration: Misconfiguration
    first_seen: datetime
    last_seen: datetime
    gone_at: datetime | None
