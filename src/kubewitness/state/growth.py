"""What of an incident is news to somebody who has heard of it before.

An incident is judged again every few minutes, and most of what changes then interests nobody. News
is what would change a decision: it alerts now, it is more severe, somebody else is in it. That is
told at once. Another technique, more objects, more evidence or a much higher score are told, too,
but can wait a little. What had been told before is never news again, also if it was not so for a
while; and what is counted must have grown by a good part, so that an incident that grows for a year
is told a few dozen times.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from kubewitness.incidents.model import SEVERITIES, Incident, Severity

News = Literal["alert", "severity", "principals", "techniques", "objects", "evidence", "score"]
URGENT: frozenset[News] = frozenset({"alert", "severity", "principals"})

# A quarter more principals or objects, half as much score again, twice the evidence.
NAMED = 0.25
SCORE = 1.5
EVIDENCE = 2.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The most that was ever told of an incident."""

    alert: bool
    severity: Severity
    score: float
    principals: tuple[str, ...]
    techniques: tuple[str, ...]
    objects: tuple[str, ...]
    evidence: int


def told(incident: Incident, before: Told | None = None) -> Told:
    """What is known to whoever is told of ``incident`` and knew ``before``."""
    now = Told(
        alert=incident.alert,
        severity=incident.severity,
        score=incident.score,
        principals=incident.principals,
        techniques=incident.techniques,
        objects=incident.objects,
        evidence=len(incident.evidence),
    )
    if before is None:
        return now
    return Told(
        alert=now.alert or before.alert,
        severity=max(now.severity, before.severity, key=SEVERITIES.index),
        score=max(now.score, before.score),
        principals=_united(before.principals, now.principals),
        techniques=_united(before.techniques, now.techniques),
        objects=_united(before.objects, now.objects),
        evidence=max(now.evidence, before.evidence),
    )


def news(incident: Incident, before: Told) -> tuple[News, ...]:
    """What of ``incident`` is new to whoever knows ``before``, the most pressing first."""
    found: dict[News, bool] = {
        "alert": incident.alert and not before.alert,
        "severity": SEVERITIES.index(incident.severity) > SEVERITIES.index(before.severity),
        "principals": _more(incident.principals, before.principals),
        "techniques": not set(incident.techniques) <= set(before.techniques),
        "objects": _more(incident.objects, before.objects),
        "evidence": len(incident.evidence) >= EVIDENCE * max(1, before.evidence),
        "score": incident.score >= SCORE * before.score,
    }
    return tuple(what for what, is_new in found.items() if is_new)


def _more(now: Iterable[str], before: tuple[str, ...]) -> bool:
    new = len(set(now) - set(before))
    return new > 0 and new >= NAMED * len(before)


def _united(before: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *now)))
