"""Objects and workloads over time, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kubewitness.forensics.objects.fields import Field
from kubewitness.forensics.objects.model import (
    Change,
    Difference,
    History,
    Holdings,
    Inventory,
    Snapshot,
    Subject,
    Workload,
)
from kubewitness.report.history_wording import runs
from kubewitness.report.inert import plain
from kubewitness.report.terminal.layout import columns, heading, labelled, more, part, prose, show
from kubewitness.report.wording import brief, duration, plural, principal, rfc3339, utc

FIELDS = 12
"""Fields shown of one change; ``-o json`` has all of them."""
GAPS = 12

_HOLDING = ("FROM", "UNTIL", "FOR", "NAMESPACE", "WORKLOAD", "IMAGE")
# Published into every namespace, and from there into every pod.
_EVERYWHERE = frozenset({"kube-root-ca.crt", "openshift-service-ca.crt"})

_STYLES = {
    "created": "bold green",
    "changed": "bold yellow",
    "unchanged": "dim",
    "not knowable": "yellow",
    "terminating": "red",
    "deleted": "bold red",
    "touched": "cyan",
    "refused": "magenta",
    "dry run": "dim",
}
_EXISTENCE = {"exists": "green", "terminating": "red", "gone": "bold red", "unknown": "yellow"}
_SIGNS = {
    "add": ("+", "green"),
    "remove": ("-", "red"),
    "replace": ("~", "yellow"),
    "set": ("=", "cyan"),
    "unknown": ("?", "magenta"),
}


def history_report(found: History, console: Console) -> None:
    """What ``kubewitness history`` prints."""
    n = sum(change.n for change in found.changes)
    heading(console, _title(found.subject), plural(n, "request"))
    for note in found.notes:
        show(console, prose(plain(note), console, style="yellow"))
    life = 0
    for changes in runs(found.changes):
        if changes[0].life != life and found.lives > 1:
            life = changes[0].life
            uid = f" · uid {plain(changes[0].uid)}" if changes[0].uid else ""
            show(console, Text(), Text(f"Life {life} of {found.lives}{uid}", style="bold cyan"))
        _changes(changes, console)


def state_report(found: Snapshot, console: Console) -> None:
    """What ``kubewitness state`` prints."""
    heading(console, _title(found.subject), f"at {rfc3339(found.at.replace(microsecond=0))}")
    _facts(found, console)
    show(console, Text())
    for line in _document(found.object):
        show(console, Padding(line, (0, 0, 0, 2)))
    _gaps(found, console)


def difference_report(found: Difference, console: Console) -> None:
    """What ``kubewitness diff`` prints."""
    span = f"{rfc3339(found.before.at)} → {rfc3339(found.after.at)}"
    heading(console, _title(found.subject), span)
    for note in found.notes:
        show(console, prose(plain(note), console, style="yellow"))
    if found.before.existence != found.after.existence:
        line = f"{found.before.existence} → {found.after.existence}"
        show(console, labelled("existence", line, console))
    if not found.fields:
        show(console, Text("No field differs, as far as is known."))
    _fields(found.fields, console, len(found.fields))
    _gaps(found.after, console)


def inventory_report(found: Inventory, console: Console) -> None:
    """What ``kubewitness inventory`` prints."""
    title = plural(len(found.workloads), "workload")
    heading(console, title, f"at {rfc3339(found.at.replace(microsecond=0))}")
    for home, there in groupby(found.workloads, key=_home):
        rows = [
            (
                _name(one),
                Text(_several(one.images)),
                Text(plain(one.service_account)),
                Text(_several(_mounts(one))),
                Text(plain(one.node)),
            )
            for one in there
        ]
        show(console, Text())
        part(console, plain(home), plural(len(rows), "workload"))
        show(console, columns(("WORKLOAD", "IMAGE", "ACCOUNT", "MOUNTS", "NODE"), rows))
    for note in found.notes:
        show(console, Text(), prose(plain(note), console, style="dim"))


def holdings_report(found: Holdings, console: Console) -> None:
    """What ``kubewitness inventory --where`` prints: who was like that, and when."""
    heading(console, plural(len(found.items), "time"), "when workloads were like that")
    rows = [
        (
            Text(_clock(one.start)),
            Text(_clock(one.end) if one.end else "still then"),
            Text(duration(one.end - one.start) if one.end else ""),
            Text(plain(one.workload.subject.namespace)),
            _name(msgspec.structs.replace(one.workload, existence="exists")),
            Text(_several(one.workload.images)),
        )
        for one in found.items
    ]
    if rows:
        show(console, columns(_HOLDING, rows, fixed=(0, 1, 2)))
    for note in found.notes:
        show(console, Text(), prose(plain(note), console, style="dim"))


def _changes(run: Sequence[Change], console: Console) -> None:
    first, last = run[0], run[-1]
    n = sum(change.n for change in run)
    line = Text().append(_clock(first.at), style="dim")
    line.append(f"  {first.effect}", style=_STYLES[first.effect])
    line.append(f"  {_deed(first)}")
    if n > 1:
        line.append(f"  {n:,} times until {_clock(last.until)}", style="dim")
    if conflicts := sum(change.n for change in run[1:] if change.effect == "refused"):
        line.append(f" ({plural(conflicts, 'conflict')})", style="dim")
    line.append(f"  {principal(plain(first.principal))}", style="bold")
    if first.acting_as:
        line.append(f" acting as {principal(plain(first.acting_as))}", style="bold red")
    if first.owner:
        line.append(f" for {plain(first.owner)}", style="dim")
    show(console, Text(), line)
    if len(run) > 1:
        return
    source = " › ".join(plain(address) for address in first.source_ips) or "an unknown address"
    told = f"from {source} with {plain(first.user_agent, 80) or 'no client name'}"
    if first.reason:
        told += f"; {plain(first.reason)}"
    if first.effect == "refused":
        told += f"; answered {first.code} ({first.outcome})"
    show(console, Padding(Text(told, style="dim"), (0, 0, 0, 4)))
    if first.note:
        show(console, Padding(Text(plain(first.note), style="yellow"), (0, 0, 0, 4)))
    if first.effect == "not knowable" and not first.fields:
        text = f"what it changed is not knowable at this audit level ({plain(first.level)})"
        show(console, Padding(Text(text, style="yellow"), (0, 0, 0, 4)))
    _fields(first.fields, console, FIELDS)


def _deed(change: Change) -> str:
    return plain(change.how) + (f" of {plain(change.subresource)}" if change.subresource else "")


def _fields(fields: Sequence[Field], console: Console, limit: int) -> None:
    for field in fields[:limit]:
        sign, style = _SIGNS[field.op]
        line = Text().append(f"{sign} ", style=style).append(plain(field.path))
        match field.op:
            case "replace":
                line.append(f"  {_value(field.before)} → ", style="dim")
                line.append(_value(field.after))
            case "remove":
                line.append(f"  {_value(field.before)}", style="dim")
            case "unknown":
                line.append(f"  not knowable: {plain(field.why)}", style="dim")
            case _:
                line.append(f"  {_value(field.after)}")
        show(console, Padding(line, (0, 0, 0, 4)))
    more(console, len(fields) - limit, "fields (-o json has all)")


def _facts(found: Snapshot, console: Console) -> None:
    existence = Text("  ").append(found.existence, style=_EXISTENCE[found.existence])
    if found.created_at:
        existence.append(f"  created {rfc3339(found.created_at)}", style="dim")
    if found.uid:
        existence.append(f"  uid {plain(found.uid)}", style="dim")
    show(console, existence)
    for source in found.sources[-5:]:
        told = f"{source.gave} of {plain(source.audit_id)} at {rfc3339(source.at)}"
        show(console, labelled("from", told, console))
    for note in found.notes:
        show(console, prose(plain(note), console, indent=2, style="yellow"))


def _gaps(found: Snapshot, console: Console) -> None:
    if not found.gaps:
        return
    heading(console, "Not knowable at this audit level", plural(len(found.gaps), "place"))
    rows = [(Text(plain(gap.path)), Text(plain(gap.why), style="dim")) for gap in found.gaps]
    show(console, columns(("", ""), rows[:GAPS]))
    more(console, len(rows) - GAPS)


def _document(value: object) -> Iterator[Text]:
    """The object as YAML, without the bookkeeping that nobody reads."""
    import yaml

    told = msgspec.json.decode(msgspec.json.encode(value))
    if isinstance(told, dict) and isinstance(told.get("metadata"), dict):
        told["metadata"].pop("managedFields", None)
    for line in yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=100).splitlines():
        yield Text(plain(line, 400))


def _title(subject: Subject) -> str:
    home = f" -n {plain(subject.namespace)}" if subject.namespace else ""
    return f"{plain(brief(subject.kind))}/{plain(subject.name)}{home}"


def _home(one: Workload) -> str:
    return one.subject.namespace


def _name(one: Workload) -> Text:
    line = Text(plain(f"{brief(one.subject.kind)}/{one.subject.name}"))
    if one.existence == "terminating":
        line.append(" terminating", style="red")
    if one.unknown:
        line.append(" ?", style="yellow")
    return line


def _mounts(one: Workload) -> list[str]:
    """What it mounts, without what every pod of a cluster does."""
    return [*one.secrets, *(f"cm/{name}" for name in one.configmaps if name not in _EVERYWHERE)]


def _several(values: Sequence[str], limit: int = 3) -> str:
    shown = ", ".join(plain(value, 80) for value in values[:limit])
    return f"{shown} +{len(values) - limit}" if len(values) > limit else shown


def _value(value: object) -> str:
    return plain(msgspec.json.encode(value).decode(), 120)


def _clock(at: datetime) -> str:
    return f"{utc(at):%Y-%m-%d %H:%M:%S}"
