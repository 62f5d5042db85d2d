"""The report on a terminal, and the same text when it is piped.

Every function takes a view model and a rich ``Console`` and prints. Whether there is colour is the
console's decision (``NO_COLOR``, a pipe); nothing here is carried by colour alone. Text from a log
reaches the console only as ``rich.text.Text`` of ``inert.plain``, never as markup.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from kubewitness.report import headline
from kubewitness.report.inert import plain
from kubewitness.report.model import Analysis
from kubewitness.report.terminal.incident import incident_detail, incident_section
from kubewitness.report.terminal.layout import bullets, heading, more, prose, severity, show, whole
from kubewitness.report.terminal.listing import incidents_table
from kubewitness.report.terminal.period import intake_report, summary_report, summary_sections
from kubewitness.report.wording import moment, period, plural

__all__ = [
    "analysis_report",
    "incident_detail",
    "incidents_table",
    "intake_report",
    "summary_report",
]

FULL = 10
"""Incidents told in full; the others are listed, and each has its own command."""
LISTED = 30


def analysis_report(analysis: Analysis, console: Console, *, full: int = FULL) -> None:
    """What ``kubewitness analyze`` prints: header, incidents in full, summary, coverage, intake."""
    _header(analysis, console)
    _contents(analysis, console)
    several = len(analysis.summary.coverage.clusters) > 1
    for rank, incident in enumerate(analysis.incidents[:full], 1):
        incident_section(incident, console, rank=rank, name_cluster=several)
    _further(analysis, console, full)
    summary_sections(analysis.summary, analysis.intake, console)


def _header(analysis: Analysis, console: Console) -> None:
    title = Text("kubewitness", style="bold")
    if analysis.cluster:
        title.append(f"  {plain(analysis.cluster)}", style="bold cyan")
    if analysis.mode:
        title.append(f"  {plain(analysis.mode)}", style="dim")
    summary, intake = analysis.summary, analysis.intake
    show(console, title, Text(period(summary.start, summary.end), style="dim"))
    if analysis.since is not None:
        show(console, Text(f"incidents since {moment(analysis.since)} UTC", style="dim"))
    read = f"read {plural(intake.events, 'event')} from {plural(intake.sources, 'source')}"
    lost = sum(r.n for r in intake.broken)
    show(console, Text(read + (f"; {plural(lost, 'line')} broken" if lost else ""), style="dim"))
    show(console, Text(), prose(headline.paragraph(analysis), console))
    for note in analysis.notes:
        show(console, prose(f"Note: {plain(note, 600)}", console, style="yellow"))


def _contents(analysis: Analysis, console: Console) -> None:
    if not analysis.incidents:
        show(
            console,
            Text(),
            Text("No incidents.", style="bold green"),
            *bullets(
                (
                    "That is only as good as what was logged: see “Coverage” below.",
                    "A longer log makes more things comparable: give older files or a lake too.",
                    "See what was usual: kubewitness summary",
                ),
                console,
            ),
        )
        return
    show(console, Text())
    for rank, incident in enumerate(analysis.incidents[:LISTED], 1):
        line = Text(f"{rank:>3}  ").append_text(severity(incident.severity))
        line.append(f"{'':{10 - len(incident.severity)}}{moment(incident.opened_at):<18}")
        line.append(plain(incident.title, 160))
        if console.is_terminal:
            line.truncate(console.width, overflow="ellipsis")
        whole(console, line)
    more(console, len(analysis.incidents) - LISTED)


def _further(analysis: Analysis, console: Console, full: int) -> None:
    rest = (*analysis.incidents[full:], *headline.further(analysis))
    if not rest:
        return
    heading(console, "Further down the queue", f"{plural(len(rest), 'incident')}, lower ranked")
    show(console, Text())
    incidents_table(rest[:20], console, now=analysis.summary.end)
    more(console, len(rest) - 20, "(all are in -o table)")
