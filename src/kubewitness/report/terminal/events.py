"""Events in the terminal: one a line as kubectl would list them, their facets, their histogram."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kubewitness.activity.action import action
from kubewitness.forensics.search import Event, Facet, Histogram, Neighbour
from kubewitness.report.inert import cell
from kubewitness.report.terminal.layout import bar, columns, part, show, sparkline, whole
from kubewitness.report.wording import brief, compact, duration, plural, principal, rfc3339


def events_table(
    events: Sequence[Event | Neighbour],
    console: Console,
    *,
    wide: bool = False,
    headers: bool = True,
) -> None:
    """Aligned columns, capital headers, one line an event, whatever its texts hold.

    Of neighbours a first column tells why they are there: the match itself, or the same
    principal, object or both.
    """
    names = _WIDE if wide else _NARROW
    rows = []
    for one in events:
        event = one.event if isinstance(one, Neighbour) else one
        row = [_COLUMNS[name](event) or "<none>" for name in names]
        rows.append([one.relation, *row] if isinstance(one, Neighbour) else row)
    head = [*(["WHY"] if any(isinstance(one, Neighbour) for one in events) else []), *names]
    above = [head] if headers else []
    widths = [max(map(cell_len, column)) for column in zip(*above, *rows, strict=True)]
    for number, row in enumerate([*above, *rows]):
        line = Text(style="bold" if headers and number == 0 else "")
        for value, width in zip(row, widths, strict=True):
            line.append(value + " " * (width - cell_len(value) + 3))
        line.rstrip()
        # A pipe gets whole lines; on a screen what is last gives way.
        if console.is_terminal and not wide:
            line.truncate(console.width, overflow="ellipsis")
        whole(console, line)


def facets_report(facets: Sequence[Facet], console: Console) -> None:
    """The commonest values of each field, with bars."""
    for facet in facets:
        most = max((n for _, n in facet.values), default=0)
        rest = facet.distinct - len(facet.values)
        part(console, facet.field, f"+{plural(rest, 'other value')}" if rest > 0 else "")
        rows = [
            (Text(f"{n:,}"), Text(bar(n / most, 12)), Text(cell(value, 72) or "<none>"))
            for value, n in facet.values
        ]
        show(console, columns(("", "", ""), rows, right=(0,), fixed=(1,)))


def histogram_report(found: Histogram, console: Console) -> None:
    """Counts over time as one line of bars between its first and its last moment."""
    if found.start is None:
        whole(console, Text("No events."))
        return
    width = timedelta(seconds=found.seconds)
    total, most = sum(found.counts), max(found.counts)
    part(
        console,
        f"{total:,} events",
        f"{duration(width)} a bar, at most {compact(most)} in one",
    )
    bars = sparkline(found.counts, max(console.width - 4, 10))
    show(console, Text(f"  {bars}"))
    begin = rfc3339(found.start)
    end = rfc3339(found.start + width * len(found.counts))
    gap = " " * max(1, len(bars) - len(begin) - len(end))
    show(console, Text(f"  {begin}{gap}{end}", style="dim"))


def _who(event: Event) -> str:
    caller = cell(principal(event["user"] or "<unauthenticated>"), 64)
    other = event["impersonated_user"]
    return f"{caller} as {cell(principal(other), 64)}" if other else caller


def _deed(event: Event) -> str:
    resource, group = event["resource"] or "", event["api_group"] or ""
    deed = action(
        event["verb"] or "",
        f"{resource}.{group}" if resource and group else resource,
        event["subresource"] or "",
        event["request_uri"] or "",
    )
    return cell(brief(deed), 64)


def _object(event: Event) -> str:
    return cell("/".join(filter(None, (event["namespace"], event["name"]))), 72)


def _annotation(key: str) -> Callable[[Event], str]:
    def told(event: Event) -> str:
        annotations: Any = event["annotations"]
        value = annotations.get(key) if isinstance(annotations, Mapping) else None
        return cell(str(value or ""), 200)

    return told


def _text(name: str, cap: int) -> Callable[[Event], str]:
    return lambda event: cell(str(event[name] or ""), cap)


_COLUMNS: dict[str, Callable[[Event], str]] = {
    "TIME": lambda event: rfc3339(event["received_at"].replace(microsecond=0)),
    "CODE": lambda event: "" if event["code"] is None else str(event["code"]),
    "PRINCIPAL": _who,
    "ACTION": _deed,
    "OBJECT": _object,
    "SOURCE": lambda event: cell(",".join(ip or "" for ip in event["source_ips"] or ()), 64),
    "CLIENT": lambda event: cell((event["user_agent"] or "").partition(" ")[0], 40),
    "STAGE": _text("stage", 24),
    "LEVEL": _text("level", 24),
    "DECISION": _annotation("authorization.k8s.io/decision"),
    "AUDIT-ID": _text("audit_id", 64),
    "CLUSTER": _text("cluster", 40),
    "URI": _text("request_uri", 160),
    "REASON": _annotation("authorization.k8s.io/reason"),
}
_NARROW = ("TIME", "CODE", "PRINCIPAL", "ACTION", "OBJECT", "SOURCE", "CLIENT", "AUDIT-ID")
_WIDE = tuple(_COLUMNS)
