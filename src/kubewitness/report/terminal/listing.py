"""``-o table`` and ``-o wide``: incidents as kubectl would list them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kubewitness.incidents.model import Incident
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
    above = [list(names)] if headers else []
    widths = [max(map(cell_len, column)) for column in zip(*above, *rows, strict=True)]
    styles = ["", *(STYLES[i.severity] for i in incidents)][0 if headers else 1 :]
    for row, style in zip([*above, *rows], styles, strict=True):
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
    "TITLE": lambda incident, _: cell(incident.title, 160),
}
_NARROW = ("ID", "SEVERITY", "SCORE", "PRINCIPAL", "AGE", "TITLE")
_WIDE = tuple(_COLUMNS)
