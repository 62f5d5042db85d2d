"""A gap as the kind of notice that sinks already know."""

from __future__ import annotations

from kubewitness.incidents.model import Incident
from kubewitness.report.wording import moment
from kubewitness.service.gaps.model import Gap, Kind

# Impair Defenses: Disable or Modify Cloud Logs, which an audit log is.
_EVASION = "T1562.008"
_SUSPECT: frozenset[Kind] = frozenset({"level", "request", "stage"})


def notice(gap: Gap) -> Incident:
    """``gap`` as an incident of nobody: it has no events, as events are what is missing.

    A hole is known when it is over, and what it lacks stays lacking: it has no end to be told.
    """
    begun = (
        f"Since {moment(gap.since)} UTC"
        if gap.until is None
        else (f"From {moment(gap.since)} to {moment(gap.until)} UTC")
    )
    evasion = gap.kind in _SUSPECT
    return Incident(
        id=f"gap-{gap.id}",
        cluster=gap.cluster,
        score=1.0,
        severity=gap.severity,
        alert=gap.severity in {"high", "critical"},
        opened_at=gap.since,
        updated_at=gap.until or gap.since,
        principals=(),
        source_ips=(),
        title=gap.title,
        summary=f"{begun}: {gap.why}. In the dark: {gap.what}.",
        tactics=("Defense Evasion",) if evasion else (),
        techniques=(_EVASION,) if evasion else (),
        objects=gap.members,
        reasons=(),
        timeline=(),
        considered=(),
        next_steps=(gap.remedy,),
        evidence=(),
        events=(),
        ended_at=None if gap.kind == "hole" else gap.until,
    )
