"""One incident told in full: who, from where, when, why, what happened, what next."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from kubewitness.incidents.model import Expected, Incident, Moment, Reason
from kubewitness.report import headline, tactics
from kubewitness.report.inert import plain
from kubewitness.report.terminal import causes
from kubewitness.report.terminal.layout import (
    bar,
    bullets,
    columns,
    heading,
    labelled,
    more,
    numbered,
    part,
    prose,
    severity,
    show,
)
from kubewitness.report.wording import (
    brief,
    chance,
    deed,
    duration,
    history,
    moment,
    percent,
    period,
    plural,
    principal,
    slices,
    unremarkable,
    usual,
    utc,
)

ROWS, REASONS, ITEMS = 12, 8, 8
_TABLE = 120
"""Columns from which on reasons fit into a table."""
_ALL = 200


def incident_section(
    incident: Incident, console: Console, *, rank: int, name_cluster: bool = False
) -> None:
    """An incident of a report, folded to about a screen."""
    _title(incident, f"#{rank}", console, name_cluster=name_cluster)
    _story(incident, console, rows=ROWS, reasons=REASONS, items=ITEMS)
    command = f"everything about it: kubewitness incident {plain(incident.id, 40)}"
    show(console, Text(), Text(f"  {command}", style="dim"))


def incident_detail(incident: Incident, console: Console) -> None:
    """What ``kubewitness incident ID`` prints: nothing folded, and the auditIDs to look up."""
    _title(incident, "Incident", console, name_cluster=True)
    _story(incident, console, rows=5 * _ALL, reasons=_ALL, items=_ALL)
    for label, ids in (("Evidence", incident.evidence), ("Related events", incident.events)):
        if ids:
            part(console, label, plural(len(ids), "auditID"))
            show(console, *(Text(f"  {plain(audit_id, 80)}") for audit_id in ids[:_ALL]))
            more(console, len(ids) - _ALL, "(all are in -o json)")


def _title(incident: Incident, number: str, console: Console, *, name_cluster: bool) -> None:
    title = Text(f"{number}  ").append_text(severity(incident.severity))
    cluster = f"  {plain(incident.cluster, 60)}" if name_cluster else ""
    heading(console, title, f"score {incident.score:.1f}  {plain(incident.id, 40)}{cluster}")
    show(console, Text(plain(incident.title, 300), style="bold"))


def _story(incident: Incident, console: Console, *, rows: int, reasons: int, items: int) -> None:
    show(
        console,
        prose(brief(plain(incident.summary, 1200)), console),
        Text(),
        *_facts(incident, console),
    )
    if incident.reasons:
        note = "share of the score, what was observed, what is usual"
        if console.width >= _TABLE:
            unit = plain(slices(incident.reasons[0].unit), 40)
            note += f"; in how many {unit} it was seen before"
        part(console, "Why it stands out", note)
        _reasons(incident.reasons[:reasons], console)
        more(console, len(incident.reasons) - reasons, "smaller reasons")
    if incident.timeline:
        _timeline(incident.timeline, rows, console)
    if incident.cause is not None and len(incident.cause.line) > 1:
        part(console, "Back to who began it", "the first cause on top")
        causes.ladder(incident.cause, console)
    if incident.reach is not None and incident.reach.touched:
        causes.reach_table(incident.reach, console, items)
    for title, style, sentences in (
        ("What to do next", numbered, incident.next_steps),
        ("What would have prevented it", bullets, incident.prevention),
        ("Benign explanations considered", bullets, incident.considered),
    ):
        if sentences:
            part(console, title)
            show(console, *style((brief(plain(s, 600)) for s in sentences[:items]), console))
            more(console, len(sentences) - items)


def _facts(incident: Incident, console: Console) -> list[RenderableType]:
    span = utc(incident.updated_at) - utc(incident.opened_at)
    when = period(incident.opened_at, incident.updated_at)
    facts = (
        ("part of", plain(incident.merged_into, 40)),
        ("over", moment(incident.ended_at) if incident.ended_at else ""),
        ("who", _several(incident.principals)),
        ("from", _several(incident.source_ips)),
        ("when", f"{when} ({duration(span)})" if span.total_seconds() >= 1 else when),
        ("what", brief(_several(incident.objects, 8))),
        ("tactics", " › ".join(plain(t, 60) for t in tactics.touched(incident)[:14])),
    )
    return [labelled(name, value, console) for name, value in facts if value]


def _several(values: Sequence[str], limit: int = 4) -> str:
    shown = ", ".join(plain(value, 90) for value in values[:limit])
    rest = len(values) - limit
    return f"{shown}, +{rest} more" if rest > 0 else shown


def _reasons(reasons: Sequence[Reason], console: Console) -> None:
    rows: list[tuple[Text, ...]] = []
    before: tuple[Expected, ...] = ()
    for reason in reasons:
        weight = Text(f"{percent(reason.share):>4} ").append(bar(reason.share, 8), style="cyan")
        observed = Text(brief(plain(reason.observed, 120)), style="bold")
        fact = Text(f"{plain(reason.factor, 24)}: ").append_text(observed)
        same = bool(reason.expected) and reason.expected == before
        instead = "as above" if same else brief(plain(usual(reason), 200))
        before = reason.expected
        times = history(reason)
        if console.width < _TABLE:
            seen = ", ".join(f"{who} {n}" for who, n in times)
            seen += f" ({plain(slices(reason.unit), 40)}); chance {chance(reason.p)}"
            rows.append((weight, fact))
            rows.append((Text(), Text(f"usual: {instead}")))
            rows.append((Text(), Text(f"seen before: {seen}", style="dim")))
        else:
            told = Text(brief(plain(reason.sentence, 400)), style="dim")
            fact.append("\n").append_text(told)
            counts = (Text(n) for _, n in times)
            rows.append((weight, fact, Text(instead), *counts, Text(chance(reason.p))))
    if console.width < _TABLE:
        show(console, columns(("", ""), rows, fixed=(0,)))
    else:
        headers = ("SHARE", "OBSERVED", "USUAL INSTEAD", "ITSELF", "PEERS", "ANYONE", "CHANCE")
        show(console, columns(headers, rows, fixed=(0, 3, 4, 5, 6)))


def _timeline(timeline: tuple[Moment, ...], rows: int, console: Console) -> None:
    shown = headline.folded(timeline, rows)
    folded = len(timeline) - len(shown)
    note = "● stands out" + (f"; {len(shown)} of {len(timeline)} shown" if folded else "")
    part(console, "Timeline", note)
    lines: list[tuple[Text, Text, Text]] = []
    day, actor = "", ""
    for event in shown:
        at = utc(event.at)
        if f"{at:%a} {at.day}" != day:
            day, actor = f"{at:%a} {at.day}", ""
            stamp = Text(f"{day} {at:%b}", style="bold")
        else:
            stamp = Text()
        if _actor(event) != actor:
            actor = _actor(event)
            lines.append((stamp, Text(), Text(f"↳ {actor}", style="dim")))
        mark = Text("●" if event.notable else " ", style="red")
        lines.append((Text(f"{at:%H:%M:%S}", justify="right"), mark, _what(event)))
    show(console, columns(("", "", ""), lines, fixed=(0, 1)))
    more(console, folded)


def _actor(event: Moment) -> str:
    acting = f" as {plain(event.acting_as, 60)}" if event.acting_as else ""
    where = f" from {plain(event.source_ip, 45)}" if event.source_ip else ""
    client = f" with {plain(event.client, 50)}" if event.client else ""
    return f"{principal(plain(event.principal, 80))}{acting}{where}{client}"


def _what(event: Moment) -> Text:
    action, name = deed(event)
    strong = "bold" if event.notable else ""
    what = Text(brief(plain(action, 90)), style=strong)
    if name:
        what.append(f" {plain(name, 100)}", style=strong)
    if event.namespace:
        what.append(f" in {plain(event.namespace, 63)}")
    if event.n > 1:
        what.append(f"  ×{event.n:,}")
    if (event.until - event.at).total_seconds() >= 60:
        what.append(f" in {duration(event.until - event.at)}")
    if not unremarkable(event.outcome):
        what.append(f"  {plain(event.outcome, 40)}", style="yellow")
    return what
