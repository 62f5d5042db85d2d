"""What an auditor is shown: an incident, its reasons, its timeline.

The field names are the contract of ``-o jsonl`` and ``-o json``; scripts rely on them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from kubewitness.forensics.graph import Chain, Reach

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
