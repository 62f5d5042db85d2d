"""``-o table`` and ``-o wide``: incidents as kubectl would list them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kubewitness.incidents.model import Incident
from kubewitness.report import tactics
from kubewitness.report.inert import cell, ends
from kubewitness.report.terminal.layout import STYLES
from kubewitness.report.wording import age, moment, rfc3339, utc

_NARROW = ("ID", "SEVERITY", "SCORE", "PRINCIPAL", "AGE", "TITLE")
_WIDE = ("ID", "SEVERITY", "SCORE", "ALERT", "PRINCIPAL", "SOURCE", "OPENED", "UPDATED", "AGE",
         "TACTICS", "OBJECTS", "TITLE")  # fmt: skip


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
        console.print(Text("No incidents found."))
        return
    end = utc(now or max(incident.updated_at for incident in incidents))
    names = _WIDE if wide else _NARROW
    rows = [[*(_value(name, incident, end) for name in names)] for incident in incidents]
    shown = [[*names], *rows] if headers else rows
    widths = [max(cell_len(row[i]) for row in shown) for i in range(len(names))]
    for number, row in enumerate(shown):
        level = incidents[number - headers].severity if number >= headers else None
        line = Text()
        for column, (value, width) in enumerate(zip(row, widths, strict=True)):
            style = STYLES[level] if level and names[column] == "SEVERITY" else ""
            line.append(value, style=style)
            if column < len(row) - 1:
                line.append(" " * (width - cell_len(value) + 3))
        # A pipe gets whole lines; on a screen the title gives way.
        line.no_wrap = True
        if console.is_terminal and not wide:
            line.truncate(console.width, overflow="ellipsis")
        console.print(line, soft_wrap=True)


def _value(name: str, incident: Incident, end: datetime) -> str:
    match name:
        case "ID":
            return cell(incident.id, 40)
        case "SEVERITY":
            return incident.severity
        case "SCORE":
            return f"{incident.score:.1f}"
        case "ALERT":
            return "yes" if incident.alert else "no"
        case "PRINCIPAL":
            return _several(incident.principals, 44)
        case "SOURCE":
            return _several(incident.source_ips, 40)
        case "OPENED":
            return rfc3339(incident.opened_at.replace(microsecond=0))
        case "UPDATED":
            return moment(incident.updated_at)
        case "AGE":
            return age(end - utc(incident.opened_at))
        case "TACTICS":
            return (
                cell(",".join(t.replace(" ", "") for t in tactics.touched(incident)), 60)
                or "<none>"
            )
        case "OBJECTS":
            return _several(incident.objects, 48)
        case _:
            return cell(incident.title, 160)


def _several(values: Iterable[str], cap: int) -> str:
    first, *rest = [*values] or ["<none>"]
    return ends(cell(first, cap), cap) + (f" +{len(rest)}" if rest else "")
