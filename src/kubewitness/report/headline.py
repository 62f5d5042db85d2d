"""What an analysis says in one paragraph, and which incidents it puts before the reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from itertools import groupby
from typing import NamedTuple

from kubewitness.incidents.model import SEVERITIES, Incident, Moment
from kubewitness.report.inert import plain
from kubewitness.report.model import Analysis
from kubewitness.report.wording import duration, moment, period, plural, utc


def further(analysis: Analysis) -> tuple[Incident, ...]:
    """What ranks below the incidents of the report: kept in the queue, not worth an alert."""
    shown = {incident.id for incident in analysis.incidents}
    return tuple(incident for incident in analysis.queue if incident.id not in shown)


def ranked(analysis: Analysis) -> tuple[Incident, ...]:
    """Every incident once: those of the report, then the rest of the queue."""
    return (*analysis.incidents, *further(analysis))


def severities(incidents: Iterable[Incident]) -> str:
    """
    >>> severities(())
    ''
    """
    counts = Counter(incident.severity for incident in incidents)
    return ", ".join(f"{counts[s]} {s}" for s in reversed(SEVERITIES) if counts[s])


def paragraph(analysis: Analysis) -> str:
    """The executive summary, inert: period, size, how many incidents, and the first of them."""
    if blank(analysis):
        sources, lines = analysis.intake.sources, analysis.intake.lines
        return (
            f"None of {plural(lines, 'line')} from {plural(sources, 'source')} is an audit event."
            if lines
            else f"There is not a single line in {plural(sources, 'source')}."
        )
    summary, incidents = analysis.summary, analysis.incidents
    cluster = f"cluster {plain(analysis.cluster, 120)}" if analysis.cluster else "this cluster"
    span = summary.end - summary.start
    read = (
        f"In {duration(span) if span.total_seconds() >= 1 else 'a moment'} of {cluster}, "
        f"{plural(summary.principals, 'principal')} made {plural(summary.requests, 'request')} "
        f"in {plural(summary.namespaces, 'namespace')}."
    )
    queue, broken = further(analysis), breakage(analysis)
    if not incidents and not queue:
        return f"{read} Nothing stood out enough to be called an incident.{broken}"
    if not incidents:
        return (
            f"{read} Nothing stood out enough for an alert; {plural(len(queue), 'incident')} of "
            f"lower rank may be worth a look.{broken}"
        )
    first = incidents[0]
    worth = "1 incident is" if len(incidents) == 1 else f"{len(incidents)} incidents are"
    lead = "It" if len(incidents) == 1 else "The first to look at"
    rest = len(queue)
    lower = f" {rest} more {'ranks' if rest == 1 else 'rank'} lower." if rest else ""
    return (
        f"{read} {worth} worth attention ({severities(incidents)}).{lower} "
        f"{lead} began {moment(first.opened_at)} UTC: {plain(first.title.rstrip('.'), 300)}."
        f"{broken}"
    )


def breakage(analysis: Analysis) -> str:
    """How many misconfigurations there are, as one more sentence; '' when there are none."""
    n = len(analysis.misconfigurations)
    if not n:
        return ""
    mended = sum(one.mended is not None for one in analysis.misconfigurations)
    rest = f", {mended} of them mended" if mended else ""
    return f" Besides, {plural(n, 'misconfiguration')} kept requests from being served{rest}."


def blank(analysis: Analysis) -> bool:
    """Whether there was not a single event to judge."""
    return not analysis.summary.coverage.levels


def advice(analysis: Analysis) -> tuple[str, ...]:
    """What to look at where there are no incidents."""
    if blank(analysis):
        return (
            "What was read, and why it is no audit event, is under “Intake” below.",
            "The API server writes a log when it has --audit-policy-file and --audit-log-path;"
            " managed clusters have a switch for it. docs/formats.md lists what is read.",
        )
    return (
        "That is only as good as what was logged: see “Coverage” below.",
        "A longer log makes more things comparable: give older files or a lake too.",
        "See what was usual: kubewitness summary",
    )


def judged(analysis: Analysis) -> str:
    """By what the incidents were judged, and from when on."""
    if analysis.since is None:
        return "the whole log, each part judged by the rest"
    return f"incidents since {period(analysis.since, analysis.since)}, judged by what came before"


class Scene(NamedTuple):
    """Moments in a row of one actor: the same principal, address and program on one day."""

    principal: str
    acting_as: str
    source_ip: str
    client: str
    day: date
    moments: tuple[Moment, ...]


def scenes(timeline: Iterable[Moment]) -> tuple[Scene, ...]:
    """The moments, in their order, cut where somebody else acts or another day begins."""

    def actor(event: Moment) -> tuple[str, str, str, str, date]:
        return (
            event.principal,
            event.acting_as,
            event.source_ip,
            event.client,
            utc(event.at).date(),
        )

    return tuple(Scene(*who, tuple(events)) for who, events in groupby(timeline, key=actor))


def folded(timeline: tuple[Moment, ...], rows: int) -> tuple[Moment, ...]:
    """At most ``rows`` moments in time order: the notable ones first, then the earliest others."""
    ranked = sorted(range(len(timeline)), key=lambda i: (not timeline[i].notable, i))
    return tuple(timeline[i] for i in sorted(ranked[:rows]))
