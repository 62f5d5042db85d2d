"""``-o table`` and ``-o wide``: a line a thing, as kubectl would list them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kubewitness.forensics.rbac.answer import Access, Who
from kubewitness.incidents.model import Broken, Incident
from kubewitness.report import tactics
from kubewitness.report.inert import cell
from kubewitness.report.terminal.layout import STYLES, whole
from kubewitness.report.wording import age, brief, principal, rfc3339, utc


def incidents_table(
    incidents: Sequence[Incident],
    console: Console,
    *,
    wide: bool = False,
    now: datetime | None = None,
    headers: bool = True,
) -> None:
    """Aligned columns, capital headers, no borders, one line an incident.

    AGE is counted from ``now``, the end of the log (a log of last year has no incidents that are
    a year old); the latest incident's last update stands in for it.
    """
    if not incidents:
        whole(console, Text("No incidents found."))
        return
    end = utc(now or max(incident.updated_at for incident in incidents))
    names = _WIDE if wide else _NARROW
    rows = [[_COLUMNS[name](incident, end) for name in names] for incident in incidents]
    styles = [STYLES[incident.severity] for incident in incidents]
    _aligned(names, rows, console, styles=styles, wide=wide, headers=headers)


def misconfigurations_table(found: Sequence[Broken], console: Console, *, now: datetime) -> None:
    """A line a misconfiguration; AGE is how long it has been known."""
    rows = []
    for one in found:
        told = one.misconfiguration
        status = "gone" if one.gone_at else "mended" if told.mended else "broken"
        rows.append(
            (
                cell(told.id, 40),
                cell(told.cluster, 40),
                status,
                told.failure,
                str(told.n),
                age(utc(now) - utc(one.first_seen)),
                cell(told.title, 160),
            )
        )
    _aligned(_BROKEN, rows, console, wide=False)


def who_table(answer: Who, console: Console) -> None:
    """A line for everybody who touched the object, then one for each who could have."""
    touched = [
        (
            cell(principal(one.principal), 60),
            cell(principal(one.acting_as), 60) or "<none>",
            str(one.requests),
            str(one.refused),
            rfc3339(one.first.replace(microsecond=0)),
            rfc3339(one.last.replace(microsecond=0)),
            one.habit,
            _several(list(one.source_ips), 40),
            _several(list(one.clients), 40),
            _several(list(one.actions), 60),
            _several(one.bindings, 100),
        )
        for one in answer.touched
    ]
    _aligned(_TOUCHED, touched, console, wide=True)
    if touched and answer.able:
        whole(console, Text())
    able = [
        (
            cell(one.subject, 80),
            ",".join(one.may).replace(" ", "-"),
            str(len(one.members)),
            _several([principal(name) for name in one.touched], 60),
            ",".join(one.sources),
            _several(one.bindings, 100),
        )
        for one in answer.able
    ]
    _aligned(_ABLE, able, console, wide=True)


def access_table(answer: Access, console: Console) -> None:
    """A line a grant, then one a dangerous power."""
    grants = [
        (
            cell(one.binding, 120),
            cell(one.subject, 80),
            one.origin,
            str(one.requests),
            rfc3339(one.last.replace(microsecond=0)) if one.last else "<never>",
            "<unknown>" if one.rules is None else f"{len(one.unused)}/{len(one.rules)}",
        )
        for one in answer.grants
    ]
    _aligned(
        ("GRANT", "SUBJECT", "KNOWN-BY", "REQUESTS", "LAST", "UNUSED-RULES"),
        grants,
        console,
        wide=True,
    )
    if answer.dangers:
        whole(console, Text())
    dangers = [
        (
            one.power,
            cell(one.namespace, 60) or "<all>",
            _several(one.names, 60) if one.names else "<all>",
            str(one.requests),
            cell(one.binding, 120),
        )
        for one in answer.dangers
    ]
    _aligned(("POWER", "NAMESPACE", "NAMES", "REQUESTS", "GRANT"), dangers, console, wide=True)


def _aligned(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: Console,
    *,
    styles: Sequence[str] = (),
    wide: bool,
    headers: bool = True,
) -> None:
    if not rows:
        return
    above = [list(names)] if headers else []
    widths = [max(map(cell_len, column)) for column in zip(*above, *rows, strict=True)]
    styled = [*([""] * len(above)), *(styles or [""] * len(rows))]
    for row, style in zip([*above, *rows], styled, strict=True):
        line = Text()
        for name, value, width in zip(names, row, widths, strict=True):
            line.append(value, style=style if name == "SEVERITY" else "")
            line.append(" " * (width - cell_len(value) + 3))
        line.rstrip()
        # A pipe gets whole lines; on a screen the title, which is last, gives way.
        if console.is_terminal and not wide:
            line.truncate(console.width, overflow="ellipsis")
        whole(console, line)


def _several(values: Sequence[str], cap: int) -> str:
    if not values:
        return "<none>"
    rest = f" +{len(values) - 1}" if len(values) > 1 else ""
    return cell(values[0], cap) + rest


def _title(incident: Incident, _end: datetime) -> str:
    said = f"(part of {incident.merged_into}) " if incident.merged_into else ""
    if incident.ended_at is not None:
        said += "(over) "
    return cell(said + incident.title, 160)


def _tactics(incident: Incident, _end: datetime) -> str:
    return cell(",".join(t.replace(" ", "") for t in tactics.touched(incident)), 72) or "<none>"


_COLUMNS: dict[str, Callable[[Incident, datetime], str]] = {
    "ID": lambda incident, _: cell(incident.id, 40),
    "SEVERITY": lambda incident, _: incident.severity,
    "SCORE": lambda incident, _: f"{incident.score:.1f}",
    "ALERT": lambda incident, _: str(incident.alert).lower(),
    "PRINCIPAL": lambda incident, _: _several([principal(p) for p in incident.principals], 48),
    "SOURCE": lambda incident, _: _several(incident.source_ips, 40),
    "OPENED": lambda incident, _: rfc3339(incident.opened_at.replace(microsecond=0)),
    "AGE": lambda incident, end: age(end - utc(incident.opened_at)),
    "TACTICS": _tactics,
    "OBJECTS": lambda incident, _: _several([brief(o) for o in incident.objects], 48),
    "TITLE": _title,
}
_NARROW = ("ID", "SEVERITY", "SCORE", "PRINCIPAL", "AGE", "TITLE")
_WIDE = tuple(_COLUMNS)
_TOUCHED = (
    "PRINCIPAL", "ACTING-AS", "REQUESTS", "REFUSED", "FIRST", "LAST", "HABIT", "SOURCE", "CLIENT",
    "ACTIONS", "GRANT",
)  # fmt: skip
_BROKEN = ("ID", "CLUSTER", "STATUS", "FAILURE", "REFUSED", "AGE", "TITLE")
_ABLE = ("COULD", "MAY", "MEMBERS", "DID", "KNOWN-BY", "GRANT")
