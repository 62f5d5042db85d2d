"""The period as a whole: trends, statistics, coverage, intake."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from kubewitness.report.inert import plain
from kubewitness.report.model import Count, Coverage, Intake, Rejected, Summary
from kubewitness.report.terminal.layout import (
    bar,
    bullets,
    columns,
    heading,
    plain_glyphs,
    prose,
    show,
    sparkline,
)
from kubewitness.report.wording import (
    compact,
    duration,
    moment,
    percent,
    period,
    plural,
    utc,
)

TOP = 5


def summary_report(summary: Summary, intake: Intake | None, console: Console) -> None:
    """What ``kubewitness summary`` prints."""
    show(console, Text(period(summary.start, summary.end), style="bold"))
    summary_sections(summary, intake, console, top=12)


def summary_sections(
    summary: Summary, intake: Intake | None, console: Console, *, top: int = TOP
) -> None:
    """Everything about the period that is not an incident."""
    heading(console, "Summary", _size(summary))
    _volume(summary, console)
    _classes(summary.classes, console)
    for label, counts in (
        ("verbs", summary.verbs),
        ("resources", summary.resources),
        ("outcomes", summary.outcomes),
    ):
        _counted(label, counts, console)
    _tables(summary, console, top)
    _coverage(summary.coverage, console)
    if intake is not None:
        _intake(intake, console)


def _size(summary: Summary) -> str:
    return (
        f"{plural(summary.requests, 'request')}, {plural(summary.principals, 'principal')}, "
        f"{plural(summary.namespaces, 'namespace')}"
    )


def _volume(summary: Summary, console: Console) -> None:
    if len(summary.slots) < 2:
        return
    every = [sum(slot) for slot in zip(*(s.n for s in summary.volume), strict=False)]
    width = min(console.width - 40, 84)
    rows = [
        _trend("requests", every, summary, width, console),
        _trend("denied", summary.denied_volume.n, summary, width, console),
    ]
    show(console, Text(), columns(("", "", ""), rows, fixed=(0, 1)))


def _trend(
    label: str, numbers: Sequence[int], summary: Summary, width: int, console: Console
) -> tuple[Text, ...]:
    peak = max(range(len(numbers)), key=numbers.__getitem__, default=0)
    top = f"peak {compact(numbers[peak])}, {moment(summary.slots[peak])}" if numbers else ""
    return (
        Text(label, style="dim"),
        Text(sparkline(numbers, width, console), style="cyan"),
        Text(top),
    )


def _classes(classes: Sequence[Count], console: Console) -> None:
    total = sum(c.n for c in classes) or 1
    rows = [
        (
            Text(plain(c.value, 30)),
            Text(bar(c.n / total, 24, console), style="cyan"),
            Text(compact(c.n)),
            Text(percent(c.n / total), style="dim"),
        )
        for c in classes[:8]
    ]
    if rows:
        show(console, Text(), columns(("", "", "", ""), rows, right=(2, 3), fixed=(0, 1)))


def _counted(label: str, counts: Sequence[Count], console: Console) -> None:
    if not counts:
        return
    shown = ", ".join(f"{plain(c.value, 60)} {compact(c.n)}" for c in counts[:8])
    more = f", +{len(counts) - 8} more" if len(counts) > 8 else ""
    row = (Text(label.ljust(9), style="dim"), Text(shown + more))
    show(console, columns(("", ""), [row], fixed=(0,)))


def _tables(summary: Summary, console: Console, top: int) -> None:
    table = _Tables(console, top)
    arrow = "->" if plain_glyphs(console) else "→"
    table.show(
        "Sensitive access",
        ("PRINCIPAL", "DID", "NAMESPACE", "OBJECTS", "TIMES", "LAST"),
        [(a.principal, a.action, a.namespace, f"{a.objects:,}", f"{a.n:,}", moment(a.last))
         for a in summary.sensitive],
        right=(3, 4),
    )  # fmt: skip
    table.show(
        "Denied most",
        ("PRINCIPAL", "TRIED", "NAMESPACE", "TIMES", "LAST"),
        [(d.principal, d.action, d.namespace, f"{d.n:,}", moment(d.last)) for d in summary.denied],
        right=(3,),
    )
    table.show(
        "New in this period",
        ("KIND", "VALUE", "FIRST SEEN", "TIMES", "EXAMPLE"),
        [(n.kind, n.value, moment(n.first_seen), f"{n.n:,}", n.example) for n in summary.newcomers],
        right=(3,),
    )
    table.show(
        "Moved most",
        ("PRINCIPAL", "BEFORE", "", "AFTER", "UNIT"),
        [(m.principal, compact(m.before), arrow, compact(m.after), m.unit) for m in summary.movers],
        right=(1, 3),
    )


class _Tables:
    """Small tables that show their first rows and count the rest."""

    def __init__(self, console: Console, top: int) -> None:
        self.console, self.top = console, top

    def show(
        self,
        title: str,
        headers: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: Sequence[int],
    ) -> None:
        if not rows:
            return
        cells = [[Text(plain(value, 60)) for value in row] for row in rows[: self.top]]
        show(self.console, Text(), Text(title, style="bold"))
        show(self.console, columns(headers, cells, right=right))
        if len(rows) > self.top:
            show(self.console, Text(f"  +{len(rows) - self.top} more", style="dim"))


def _coverage(coverage: Coverage, console: Console) -> None:
    heading(console, "Coverage", "what this log can and cannot show")
    show(console, Text())
    for label, counts in (("levels", coverage.levels), ("stages", coverage.stages)):
        _shares(label, counts, console)
    if len(coverage.clusters) > 1:
        _shares("clusters", coverage.clusters, console)
    if coverage.gaps:
        _part_gaps(coverage, console)
    if coverage.blind:
        lines = (
            f"Cannot show {plain(b.what, 200)}: {plain(b.why, 300)}."
            + (f" Would show it: {plain(b.remedy, 300)}." if b.remedy else "")
            for b in coverage.blind
        )
        show(console, *bullets(lines, console))


def _shares(label: str, counts: Sequence[Count], console: Console) -> None:
    total = sum(c.n for c in counts) or 1
    shown = ", ".join(f"{plain(c.value, 60)} {percent(c.n / total)}" for c in counts[:8])
    if shown:
        row = (Text(label.ljust(9), style="dim"), Text(shown))
        show(console, columns(("", ""), [row], fixed=(0,)))


def _part_gaps(coverage: Coverage, console: Console) -> None:
    gaps: list[RenderableType] = bullets(
        (
            f"No events for {duration(utc(g.end) - utc(g.start))}: {period(g.start, g.end)}."
            for g in coverage.gaps[:TOP]
        ),
        console,
    )
    show(console, *gaps)
    if len(coverage.gaps) > TOP:
        show(console, Text(f"  +{len(coverage.gaps) - TOP} more gaps", style="dim"))


def _intake(intake: Intake, console: Console) -> None:
    heading(console, "Intake", "every line is accounted for")
    read = (
        f"{plural(intake.lines, 'line')} of {plural(intake.sources, 'source')}: "
        f"{plural(intake.events, 'event')}, {intake.added:,} of them new, "
        f"{plural(intake.duplicates, 'duplicate')}; {_total(intake.skipped):,} skipped, "
        f"{_total(intake.broken):,} broken"
    )
    show(console, Text(), prose(f"{read}.", console, indent=2))
    for label, rejects in (("skipped", intake.skipped), ("broken", intake.broken)):
        lines = (
            f"{label} {r.n:,}: {plain(r.reason, 200)}; "
            f"{', '.join(plain(place, 120) for place in r.places[:3]) or plain(r.source, 120)}"
            + (f", +{r.n - min(len(r.places), 3):,} more" if r.n > min(len(r.places), 3) else "")
            for r in rejects[:TOP]
        )
        show(console, *bullets(lines, console))
        if len(rejects) > TOP:
            show(console, Text(f"  +{len(rejects) - TOP} more kinds of {label}", style="dim"))
    if intake.broken and intake.quarantine:
        show(
            console,
            prose(f"Broken lines are kept in {plain(intake.quarantine)}.", console, indent=2),
        )
    show(console, *bullets((plain(w, 300) for w in intake.warnings[:12]), console))


def _total(rejects: Sequence[Rejected]) -> int:
    return sum(reject.n for reject in rejects)
