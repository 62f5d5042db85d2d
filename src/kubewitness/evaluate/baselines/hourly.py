"""What the baselines share: flagged activity of one principal in one hour is one incident.

In a log of hours, five minutes take the place of the hour, or there would be nothing to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from kubewitness.activity.rollup import slot_width
from kubewitness.activity.table import Floats
from kubewitness.evaluate.dataset import Trial
from kubewitness.incidents.model import Incident

ALERTS_A_DAY = 1.0
# Further down nobody reads: enough for the largest budget and for the number of attacks.
LISTED_A_DAY = 10
LISTED_AT_LEAST = 100
EVIDENCE_IDS = 500


def width(trial: Trial) -> timedelta:
    """An hour, or five minutes in a log of hours."""
    return slot_width(trial.first, trial.until)


@dataclass(frozen=True, slots=True)
class Hour:
    """What one principal did in one hour, as far as a baseline flagged it."""

    principal: str
    start: datetime
    opened: datetime
    updated: datetime
    source_ips: tuple[str, ...]
    evidence: tuple[str, ...]
    score: float


def hours(trial: Trial, scored: str, *, total: str = "max", share: float = 0.5) -> list[Hour]:
    """Group the rows of ``scored`` by principal and hour.

    ``scored`` is a query that adds ``points`` to ``activities``; rows without points are not
    flagged. An hour scores their ``total``, an SQL aggregate. Rows that have at least ``share``
    of the hour's highest points are its evidence.
    """
    seconds = int(width(trial).total_seconds())
    rows = trial.connection.execute(f"""
        WITH flagged AS (
            SELECT *, time_bucket(INTERVAL '{seconds} seconds', first) AS hour
            FROM ({scored}) WHERE points > 0
        ), compared AS (
            SELECT *, points >= {share} * max(points) OVER (PARTITION BY principal, hour) AS telling
            FROM flagged
        )
        SELECT principal, hour, min(first) FILTER (telling), max(last) FILTER (telling),
            list_sort(list(DISTINCT source_ip)),
            list_slice(flatten(list(audit_ids ORDER BY first, audit_ids) FILTER (telling)), 1,
                {EVIDENCE_IDS}),
            {total}(points)
        FROM compared GROUP BY principal, hour ORDER BY hour, principal
        """).fetchall()
    return [
        Hour(who, _utc(hour), _utc(first), _utc(last), tuple(ips), tuple(ids), float(points))
        for who, hour, first, last, ips, ids, points in rows
    ]


def everything(trial: Trial) -> list[Hour]:
    """Every hour of every principal, all of it evidence: for what judges hours as a whole."""
    return hours(trial, "SELECT *, 1 AS points FROM activities")


def incidents(
    trial: Trial, hours_: Sequence[Hour], scores: Floats | None = None, *, alert: bool | None = None
) -> list[Incident]:
    """The judged hours as incidents, best first.

    Those alert that score more than all but ``ALERTS_A_DAY`` of the hours in the later half of
    the history; ``alert`` says otherwise, for what has no threshold.
    """
    given = np.array([hour.score for hour in hours_]) if scores is None else scores
    begin = trial.since or trial.first
    threshold = replayed(trial, hours_, given)
    judged = [
        (float(score), hour)
        for score, hour in zip(given, hours_, strict=True)
        if hour.opened >= begin
    ]
    judged.sort(key=lambda pair: (-pair[0], pair[1].start, pair[1].principal))
    days = (trial.until - begin) / timedelta(days=1)
    listed = max(LISTED_AT_LEAST, int(LISTED_A_DAY * days))
    return [
        _incident(trial.name, hour, score, score > threshold if alert is None else alert)
        for place, (score, hour) in enumerate(judged)
        if place < listed or alert or (alert is None and score > threshold)
    ]


def replayed(trial: Trial, hours_: Sequence[Hour], scores: Floats) -> float:
    """The score exceeded ``ALERTS_A_DAY`` in the later half of the history; infinite without."""
    if trial.since is None:
        return float("inf")
    middle = trial.first + (trial.since - trial.first) / 2
    past = sorted(
        (
            float(score)
            for score, hour in zip(scores, hours_, strict=True)
            if middle <= hour.opened < trial.since
        ),
        reverse=True,
    )
    allowed = int(ALERTS_A_DAY * ((trial.since - middle) / timedelta(days=1)))
    return past[allowed] if len(past) > allowed else 0.0


def _incident(cluster: str, hour: Hour, score: float, alert: bool) -> Incident:
    return Incident(
        id=f"{hour.principal}@{hour.start.isoformat()}",
        cluster=cluster,
        score=score,
        severity="medium",
        alert=alert,
        opened_at=hour.opened,
        updated_at=hour.updated,
        principals=(hour.principal,),
        source_ips=hour.source_ips,
        title=hour.principal,
        summary="",
        tactics=(),
        techniques=(),
        objects=(),
        reasons=(),
        timeline=(),
        considered=(),
        next_steps=(),
        evidence=hour.evidence,
        events=(),
    )


def _utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC)
