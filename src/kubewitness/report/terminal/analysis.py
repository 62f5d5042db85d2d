"""A whole analysis on a terminal, and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kubewitness.incidents.model import Incident
from kubewitness.report import headline
from kubewitness.report.inert import plain
from kubewitness.report.model import Analysis
from kubewitness.report.terminal.incident import incident_detail, incident_section
from kubewitness.report.terminal.layout import (
    bullets,
    columns,
    heading,
    more,
    prose,
    severity,
    show,
)
from kubewitness.report.terminal.listing import incidents_table
from kubewitness.report.terminal.misconfiguration import misconfigurations_section
from kubewitness.report.terminal.period import intake_report, summary_report, summary_sections
from kubewitness.report.wording import moment, period, plural

__all__ = [
    "analysis_report",
    "incident_detail",
    "incidents_table",
    "intake_report",
    "summary_report",
]

FULL = 5
"""Incidents told in full; the others are listed, and each has its own command."""
LISTED = 30
NARROW = 100
"""Below so many columns a title gets lines of its own."""


def analysis_report(analysis: Analysis, console: Console) -> None:
    """What ``kubewitness analyze`` prints: header, incidents in full, what is broken, summary,
    coverage, intake."""
    _header(analysis, console)
    _contents(analysis, console)
    several = len(analysis.summary.coverage.clusters) > 1
    for rank, incident in enumerate(analysis.incidents[:FULL], 1):
        incident_section(incident, console, rank=rank, name_cluster=several)
    _further(analysis, console)
    misconfigurations_section(analysis.misconfigurations, console, name_cluster=several)
    if headline.blank(analysis):
        intake_report(analysis.intake, console)
    else:
        summary_sections(analysis.summary, analysis.intake, console)
    _closing(analysis, console)


def _header(analysis: Analysis, console: Console) -> None:
    title = Text("kubewitness", style="bold")
    if analysis.cluster:
        title.append(f"  {plain(analysis.cluster)}", style="bold cyan")
    summary, intake = analysis.summary, analysis.intake
    if headline.blank(analysis):
        show(console, title, Text(), prose(headline.paragraph(analysis), console))
        return
    show(console, title, Text(period(summary.start, summary.end), style="dim"))
    show(console, Text(headline.judged(analysis), style="dim"))
    read = f"read {plural(intake.events, 'event')} from {plural(intake.sources, 'source')}"
    lost = sum(r.n for r in intake.broken)
    show(console, Text(read + (f"; {plural(lost, 'line')} broken" if lost else ""), style="dim"))
    show(console, Text(), prose(headline.paragraph(analysis), console))
    for note in analysis.notes:
        show(console, prose(f"Note: {plain(note, 600)}", console, style="yellow"))


def _contents(analysis: Analysis, console: Console) -> None:
    if not analysis.incidents:
        what = "No alerts." if headline.further(analysis) else "No incidents."
        line = Text("Nothing to judge." if headline.blank(analysis) else what, style="bold")
        show(console, Text(), line, *bullets(headline.advice(analysis), console))
        return
    show(console, Text())
    shown = enumerate(analysis.incidents[:LISTED], 1)
    _list([(f"{rank:>2}  {plain(one.id, 40)}", one) for rank, one in shown], console)
    more(console, len(analysis.incidents) - LISTED)


def _list(rows: Sequence[tuple[str, Incident]], console: Console) -> None:
    """Incidents with what they are called by; no title is cut."""
    marked = [
        (
            Text(mark, style="dim"),
            severity(incident.severity),
            Text(moment(incident.opened_at)),
            Text(plain(incident.title, 300)),
        )
        for mark, incident in rows
    ]
    if console.width < NARROW:
        for mark, level, began, title in marked:
            line = Text("  ").append_text(Text("  ").join((mark, level, began)))
            show(console, line, Padding(title, (0, 0, 0, 4)))
    else:
        show(console, columns(("", "", "", ""), marked, fixed=(0, 1, 2)))


def _further(analysis: Analysis, console: Console) -> None:
    rest = headline.further(analysis)
    if not rest:
        return
    heading(console, "Further down the queue", f"{plural(len(rest), 'incident')}, lower ranked")
    show(console, Text())
    _list([(plain(one.id, 40), one) for one in rest[:LISTED]], console)
    more(console, len(rest) - LISTED, "(all are in -o table)")


def _closing(analysis: Analysis, console: Console) -> None:
    """What is read first in a terminal: its last lines."""
    ranked = headline.ranked(analysis)
    if not ranked:
        return
    counts = headline.severities(analysis.incidents) or "no alerts"
    broken = len(analysis.misconfigurations)
    rest = len(ranked) - len(analysis.incidents)
    queue = f"; {rest:,} more in the queue" if rest else ""
    mishaps = f"; {plural(broken, 'misconfiguration')}" if broken else ""
    heading(console, "In short", f"{counts}{queue}{mishaps}")
    first = plain(ranked[0].id, 40)
    show(
        console,
        Text(),
        *bullets(
            (
                f"First: {plain(ranked[0].title, 300)}.",
                f"Any incident in full: kubewitness incident ID (the first is {first}).",
                "As a page to read or print: --report FILE.html",
            ),
            console,
        ),
    )
