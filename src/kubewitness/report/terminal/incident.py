"""One incident told in full: who, from where, when, why, what happened, what next."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from kubewitness.incidents.model import Incident, Moment, Reason
from kubewitness.report import headline, tactics
from kubewitness.report.inert import plain
from kubewitness.report.terminal.layout import (
    bar,
    bullets,
    columns,
    heading,
    numbered,
    plain_glyphs,
    prose,
    severity,
    show,
)
from kubewitness.report.wording import (
    chance,
    duration,
    percent,
    period,
    plural,
    seen,
    usual,
    utc,
)

ROWS, REASONS, ITEMS = 12, 8, 8
_ALL = 200


def incident_section(incident: Incident, console: Console, *, rank: int) -> None:
    """An incident of a report, folded to about a screen."""
    heading(console, f"#{rank}", _caption(incident))
    _story(incident, console, rows=ROWS, reasons=REASONS, items=ITEMS)
    command = f"everything: kubewitness incident {plain(incident.id, 40)}"
    show(console, Text(), Text(f"  {command}", style="dim"))


def incident_detail(incident: Incident, console: Console) -> None:
    """What ``kubewitness incident ID`` prints: nothing folded, and the auditIDs to look up."""
    heading(console, "Incident", _caption(incident))
    _story(incident, console, rows=10 * _ALL, reasons=_ALL, items=_ALL)
    for label, ids in (("Evidence", incident.evidence), ("Related events", incident.events)):
        if ids:
            _part(console, label, plural(len(ids), "auditID"))
            show(console, *(Text(f"  {plain(audit_id, 80)}") for audit_id in ids[:_ALL]))
            _more(console, len(ids) - _ALL, "all are in -o json")


def _caption(incident: Incident) -> str:
    return f"{plain(incident.id, 40)}  score {incident.score:.1f}"


def _story(incident: Incident, console: Console, *, rows: int, reasons: int, items: int) -> None:
    title = Text().append_text(severity(incident.severity)).append("  ")
    title.append(plain(incident.title, 300), style="bold")
    show(console, title, prose(plain(incident.summary, 1200), console), Text(), _facts(incident))
    if incident.reasons:
        _part(console, "Why it stands out", "observed, and what is usual instead")
        _reasons(incident.reasons[:reasons], console)
        _more(console, len(incident.reasons) - reasons, "smaller reasons")
    if incident.timeline:
        _timeline(incident.timeline, rows, console)
    if incident.considered:
        _part(console, "Benign explanations considered")
        show(console, *bullets((plain(c, 600) for c in incident.considered[:items]), console))
        _more(console, len(incident.considered) - items)
    if incident.next_steps:
        _part(console, "What to do next")
        show(console, *numbered((plain(s, 600) for s in incident.next_steps[:items]), console))
        _more(console, len(incident.next_steps) - items)


def _part(console: Console, title: str, note: str = "") -> None:
    line = Text(title, style="bold")
    if note:
        line.append(f"  {note}", style="dim not bold")
    show(console, Text(), line)


def _more(console: Console, n: int, note: str = "") -> None:
    if n > 0:
        show(console, Text(f"  +{n} more" + (f" ({note})" if note else ""), style="dim"))


def _facts(incident: Incident) -> RenderableType:
    span = utc(incident.updated_at) - utc(incident.opened_at)
    when = period(incident.opened_at, incident.updated_at)
    arrow = " > "
    facts = (
        ("who", _several(incident.principals)),
        ("from", _several(incident.source_ips)),
        ("when", f"{when} ({duration(span)})" if span.total_seconds() >= 1 else when),
        ("what", _several(incident.objects)),
        ("tactics", arrow.join(plain(t, 60) for t in tactics.touched(incident)[:14])),
    )
    rows = [(Text(name, style="dim"), Text(value)) for name, value in facts if value]
    return columns(("", ""), rows, fixed=(0,))


def _several(values: Sequence[str], limit: int = 4) -> str:
    shown = ", ".join(plain(value, 90) for value in values[:limit])
    rest = len(values) - limit
    return f"{shown}, +{rest} more" if rest > 0 else shown


def _reasons(reasons: Sequence[Reason], console: Console) -> None:
    if console.width < 100:
        for reason in reasons:
            _stacked(reason, console)
        return
    rows = []
    for reason in reasons:
        weight = Text(bar(reason.share, 8, console).ljust(9), style="cyan")
        weight.append(f"{percent(reason.share):>4}")
        counts = Text(f"{reason.days_self} / {reason.days_peers} / {reason.days_cluster}")
        counts.append(f" of {plural(reason.days_active, reason.unit.removesuffix('s'))}", "dim")
        rows.append(
            (
                weight,
                Text(plain(reason.factor, 24)),
                Text(plain(reason.observed, 120), style="bold"),
                Text(plain(usual(reason, 3), 200)),
                counts,
                Text(chance(reason.p)),
            )
        )
    headers = (
        "SHARE OF SCORE",
        "FACTOR",
        "OBSERVED",
        "USUAL",
        "SEEN BY SELF / PEERS / ALL",
        "CHANCE",
    )
    show(console, columns(headers, rows, fixed=(0, 5)))


def _stacked(reason: Reason, console: Console) -> None:
    """A reason where a table has no room: the same facts below each other."""
    weight = Text(f"  {percent(reason.share):>4} ")
    weight.append(bar(reason.share, 8, console).ljust(9), style="cyan")
    weight.append(f"{plain(reason.factor, 24)}: ")
    weight.append(plain(reason.observed, 120), style="bold")
    below = f"usual: {plain(usual(reason, 3), 200)}"
    history = f"{plain(seen(reason), 200)}; {chance(reason.p)}"
    show(console, weight, prose(below, console, indent=16))
    show(console, prose(history, console, indent=16, style="dim"))


def _timeline(timeline: tuple[Moment, ...], rows: int, console: Console) -> None:
    shown = headline.folded(timeline, rows)
    folded = len(timeline) - len(shown)
    mark = "*" if plain_glyphs(console) else "●"
    note = f"{mark} stands out" + (f"; {len(shown)} of {len(timeline)} shown" if folded else "")
    _part(console, "Timeline", note)
    several = len({(m.principal, m.acting_as) for m in timeline}) > 1
    lines = []
    for number, event in enumerate(shown):
        new_day = number == 0 or utc(event.at).date() != utc(shown[number - 1].at).date()
        lines.append(_row(event, mark, several, new_day, console))
    show(console, columns(("", "", "", "", ""), lines, fixed=(0, 1)))
    _more(console, folded)


def _row(
    event: Moment, mark: str, several: bool, new_day: bool, console: Console
) -> tuple[Text, ...]:
    at = utc(event.at)
    clock = f"{at:%a} {at.day:>2} {at:%H:%M:%S}" if new_day else f"{at:%H:%M:%S}".rjust(15)
    what = Text(plain(event.action, 60), style="bold" if event.notable else "")
    what.append(f" {plain(event.object, 90)}")
    if event.namespace:
        what.append(f" in {plain(event.namespace, 63)}")
    where = Text(f"{plain(event.source_ip, 45)}  {plain(event.client, 40)}", style="dim")
    if several:
        actor = plain(event.principal, 60).removeprefix("system:serviceaccount:")
        if event.acting_as:
            actor += f" as {plain(event.acting_as, 60)}"
        where = Text(actor).append("  ").append_text(where)
    times = Text(f"×{event.n}" if event.n > 1 else "", style="dim")
    lasted = (event.until - event.at).total_seconds()
    if lasted >= 60:
        times.append(f" in {duration(event.until - event.at)}")
    outcome = Text(plain(event.outcome, 24), style="" if allowed(event.outcome) else "yellow")
    what.append("  ").append_text(outcome).append(" ").append_text(times)
    return Text(clock, style="dim"), Text(mark if event.notable else " ", style="red"), what, where


def allowed(outcome: str) -> bool:
    """Whether an outcome is the unremarkable one."""
    return outcome.casefold() in {"allowed", "allow", "ok", "success", "200", "201", ""}
