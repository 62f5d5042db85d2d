"""The period as a whole: trends, statistics, coverage, intake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.text import Text

from kubewitness.report.inert import plain
from kubewitness.report.model import Count, Coverage, Intake, Rejected, Summary
from kubewitness.report.terminal.layout import (
    bar,
    bullets,
    columns,
    heading,
    labelled,
    more,
    part,
    prose,
    show,
    sparkline,
)
from kubewitness.report.wording import (
    brief,
    compact,
    duration,
    moment,
    percent,
    period,
    plural,
    principal,
    utc,
)

TOP = 5
NARROW = 100
"""Below so many columns tables keep to what matters most."""


def summary_report(summary: Summary, intake: Intake | None, console: Console) -> None:
    """What ``kubewitness summary`` prints."""
    empty = not summary.coverage.levels
    when = "no events" if empty else period(summary.start, summary.end)
    show(console, Text(when, style="bold"))
    summary_sections(summary, intake, console, top=25)


def summary_sections(
    summary: Summary, intake: Intake | None, console: Console, *, top: int = TOP
) -> None:
    """Everything about the period that is not an incident."""
    size = (
        f"{plural(summary.requests, 'request')}, {plural(summary.principals, 'principal')}, "
        f"{plural(summary.namespaces, 'namespace')}"
    )
    heading(console, "Summary", size)
    _volume(summary, console)
    _classes(summary.classes, console)
    counted = (
        ("verbs", summary.verbs),
        ("resources", summary.resources),
        ("outcomes", summary.outcomes),
    )
    show(console, Text())
    for label, counts in counted:
        shown = ", ".join(f"{brief(plain(c.value, 60))} {compact(c.n)}" for c in counts[:8])
        rest = f", +{len(counts) - 8} more" if len(counts) > 8 else ""
        show(console, labelled(label, shown + rest or "none", console))
    _tables(summary, console, top)
    _coverage(summary.coverage, console)
    if intake is not None:
        intake_report(intake, console)


def _volume(summary: Summary, console: Console) -> None:
    if len(summary.slots) < 2:
        return
    every = [sum(slot) for slot in zip(*(s.n for s in summary.volume), strict=False)]
    width = max(min(console.width - 42, 84), 8)
    rows = [(Text(), Text(_axis(summary, width), style="dim"), Text())]
    for label, numbers in (("requests", every), ("denied", summary.denied_volume.n)):
        peak = max(range(len(numbers)), key=numbers.__getitem__, default=0)
        top = f"peak {compact(numbers[peak])}, {moment(summary.slots[peak])}" if numbers else ""
        line = Text(sparkline(numbers, width), style="cyan")
        rows.append((Text(label, style="dim"), line, Text(top)))
    show(console, Text(), columns(("", "", ""), rows, fixed=(0, 1)))


def _axis(summary: Summary, width: int) -> str:
    """Day names (hours, in a shorter log) above the columns they begin at."""
    slots, line = summary.slots, ""
    short = slots[-1] - slots[0] <= timedelta(days=2)
    columns_ = min(width, len(slots))
    before = None
    for column in range(columns_):
        at = utc(slots[column * len(slots) // columns_])
        label = f"{at:%H:%M}" if short else f"{at:%a}"
        if label != before and len(line) <= column and column + len(label) <= columns_:
            line = line.ljust(column) + label + " "
        before = label
    return line


def _classes(classes: Sequence[Count], console: Console) -> None:
    total = sum(c.n for c in classes) or 1
    rows = [
        (
            Text(plain(c.value, 30)),
            Text(compact(c.n)),
            Text(percent(c.n / total), style="dim"),
            Text(bar(c.n / total, 30), style="cyan"),
        )
        for c in classes[:8]
    ]
    if rows:
        show(console, Text(), columns(("", "", "", ""), rows, right=(1, 2), fixed=(0, 3)))


def _tables(summary: Summary, console: Console, top: int) -> None:
    table = _Tables(console, top)
    table.show(
        "Sensitive access",
        ("PRINCIPAL", "DID", "NAMESPACE", "OBJECTS", "TIMES", "LAST"),
        [
            (
                principal(a.principal),
                a.action,
                a.namespace,
                f"{a.objects:,}" if a.objects else "–",
                f"{a.n:,}",
                moment(a.last),
            )
            for a in summary.sensitive
        ],
        right=(3, 4),
        wide=(3, 5),
    )
    table.show(
        "Denied most",
        ("PRINCIPAL", "TRIED", "NAMESPACE", "TIMES", "LAST"),
        [
            (principal(d.principal), d.action, d.namespace, f"{d.n:,}", moment(d.last))
            for d in summary.denied
        ],
        right=(3,),
        wide=(4,),
    )
    table.show(
        "New in this period",
        ("KIND", "VALUE", "FIRST SEEN", "TIMES", "EXAMPLE"),
        [
            (n.kind, principal(n.value), moment(n.first_seen), f"{n.n:,}", n.example)
            for n in summary.newcomers
        ],
        right=(3,),
        wide=(3,),
    )
    table.show(
        "Moved most",
        ("PRINCIPAL", "BEFORE", "AFTER", ""),
        [
            (principal(m.principal), compact(m.before), compact(m.after), m.unit)
            for m in summary.movers
        ],
        right=(1, 2),
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
        *,
        right: Sequence[int],
        wide: Sequence[int] = (),
    ) -> None:
        """``wide`` columns are left out where there is no room for them."""
        if rows:
            kept = [
                number
                for number in range(len(headers))
                if self.console.width >= NARROW or number not in wide
            ]
            cells = [
                [Text(brief(plain(row[number], 70))) for number in kept] for row in rows[: self.top]
            ]
            part(self.console, title)
            numbers = [kept.index(number) for number in right if number in kept]
            heads = [headers[number] for number in kept]
            show(self.console, columns(heads, cells, right=numbers))
            more(self.console, len(rows) - self.top)


def _coverage(coverage: Coverage, console: Console) -> None:
    heading(console, "Coverage", "what this log can and cannot show")
    show(console, Text())
    shares = [("levels", coverage.levels), ("stages", coverage.stages)]
    if len(coverage.clusters) > 1:
        shares.append(("clusters", coverage.clusters))
    for label, counts in shares:
        total = sum(c.n for c in counts) or 1
        shown = ", ".join(f"{plain(c.value, 60)} {percent(c.n / total)}" for c in counts[:8])
        show(console, labelled(label, shown or "none", console))
    gaps = (
        f"No events for {duration(utc(g.end) - utc(g.start))}: {period(g.start, g.end)}."
        for g in coverage.gaps[:TOP]
    )
    show(console, *bullets(gaps, console))
    more(console, len(coverage.gaps) - TOP, "gaps")
    blind = (
        f"Cannot show {plain(b.what, 200)}: {plain(b.why, 300)}."
        + (f" What would: {plain(b.remedy, 300)}." if b.remedy else "")
        for b in coverage.blind
    )
    show(console, *bullets(blind, console))


def intake_report(intake: Intake, console: Console) -> None:
    heading(console, "Intake", "every line is accounted for")
    read = (
        f"{plural(intake.lines, 'line')} of {plural(intake.sources, 'source')}: "
        f"{plural(intake.events, 'event')} ({intake.added:,} new, "
        f"{plural(intake.duplicates, 'duplicate')}); {_total(intake.skipped):,} skipped, "
        f"{_total(intake.broken):,} broken."
    )
    show(console, Text(), prose(read, console, indent=2))
    for label, rejects in (("skipped", intake.skipped), ("broken", intake.broken)):
        show(console, *bullets((_places(label, r) for r in rejects[:TOP]), console))
        more(console, len(rejects) - TOP, f"reasons to be {label}")
    if intake.broken:
        kept = (
            f"Broken lines are kept in {plain(intake.quarantine)}."
            if intake.quarantine
            else "With --lake DIR, broken lines are kept in its quarantine."
        )
        show(console, prose(kept, console, indent=2))
    show(console, *bullets((plain(w, 300) for w in intake.warnings[:12]), console))
    more(console, len(intake.warnings) - 12)


def _places(label: str, reject: Rejected) -> str:
    """``broken 3, not JSON: audit.log:7, audit.log:9, audit.log:12``"""
    places = [plain(place, 120) for place in reject.places[:3]] or [plain(reject.source, 120)]
    rest = f", +{reject.n - len(places):,} more" if reject.n > len(places) else ""
    return f"{label} {reject.n:,}, {plain(reject.reason, 200)}: {', '.join(places)}{rest}"


def _total(rejects: Sequence[Rejected]) -> int:
    return sum(reject.n for reject in rejects)
