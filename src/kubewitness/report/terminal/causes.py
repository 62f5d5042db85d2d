"""A causal chain and a blast radius on a terminal."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kubewitness.activity.technique import GRAVE
from kubewitness.forensics.causes.graph import Chain, Link, Reach, Touched
from kubewitness.report import causes_wording as wording
from kubewitness.report.inert import plain
from kubewitness.report.terminal.layout import (
    bullets,
    columns,
    heading,
    more,
    part,
    prose,
    show,
)
from kubewitness.report.wording import principal, utc

_ROWS, _EXAMPLES = 30, 12


def chain_report(chain: Chain, console: Console) -> None:
    """What ``kubewitness cause`` prints: the answer, the chain, what else had a part in it."""
    heading(console, "Cause", plain(chain.subject, 160))
    show(console, prose(plain(wording.sentence(chain), 600), console, style="bold"), Text())
    ladder(chain, console)
    _others(chain, console)
    _notes(chain.notes, console)


def ladder(chain: Chain, console: Console) -> None:
    """The line from the first cause down to the subject, and what became of it."""
    day = ""
    for place, number in enumerate(chain.line):
        step = chain.steps[number]
        at = utc(step.at)
        if place:
            before = chain.line[place - 1]
            links = [one for one in wording.into(chain, number) if one.cause == before]
            _rung(links[0] if links else None, console)
        if f"{at:%a %d %b}" != day:
            day = f"{at:%a %d %b}"
            show(console, Text(f"  {day}", style="bold"))
        line = Text(plain(wording.who(step), 90), style=_STYLES.get(step.kind, ""))
        line.append(f"  {plain(wording.deed(step), 160)}", style="bold not dim")
        show(console, _timed(at, line))
        if step.kind in ("human", "anonymous", "workload"):
            _circumstance(chain, number, console)
    for number in chain.after:
        step = chain.steps[number]
        told = f"└ then {plain(wording.who(step), 90)}: {plain(wording.deed(step), 120)}"
        show(console, _timed(utc(step.at), Text(told, style="dim")))


_STYLES = {"human": "bold magenta", "workload": "magenta", "anonymous": "bold yellow"}


def _circumstance(chain: Chain, number: int, console: Console) -> None:
    step = chain.steps[number]
    facts = [
        f"from {step.source_ip}" if step.source_ip else "",
        f"with {step.client}" if step.client else "",
        f"allowed by {step.binding}" if step.binding else "",
        step.outcome if step.outcome not in ("ok", "unknown") else "",
    ]
    told = ", ".join(plain(fact, 90) for fact in facts if fact)
    if told:
        show(console, _beside(Text(told, style="dim")))


def _rung(link: Link | None, console: Console) -> None:
    if link is None:
        show(console, _beside(Text("│", style="dim")))
        return
    mark = Text("│ ", style="dim")
    mark.append(wording.known(link), style="green" if link.certain else "yellow")
    mark.append(f"  {plain(wording.meaning(link), 90)}: ", style="not dim")
    mark.append(plain(link.because, 200), style="dim")
    show(console, _beside(mark))


def _timed(at: datetime, text: Text) -> Table:
    """What was done, beside its time, however many lines it takes."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=10, no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    grid.add_row(f"  {at:%H:%M:%S}", text)
    return grid


def _beside(text: Text) -> Padding:
    """Under what was done, to the right of its time, however many lines it takes."""
    return Padding(text, (0, 0, 0, 12))


def _others(chain: Chain, console: Console) -> None:
    """Causes beside the line: what allowed it, what else could have led to it."""
    line = set(pairwise(chain.line))
    rest = [
        link
        for link in chain.links
        if (link.cause, link.effect) not in line and link.effect in {*chain.line, *chain.after}
    ]
    if not rest:
        return
    part(console, "What else had a part in it")
    rows = []
    for link in rest[:_EXAMPLES]:
        cause, effect = chain.steps[link.cause], chain.steps[link.effect]
        told = Text(plain(f"{wording.who(cause)}: {wording.deed(cause)}", 200), style="bold")
        why = f"{wording.meaning(link)} ({wording.deed(effect)}): {link.because}"
        told.append(f"\n{plain(why, 300)}", style="dim not bold")
        sure = Text(wording.known(link), style="green" if link.certain else "yellow")
        rows.append((Text(f"{utc(cause.at):%d %b %H:%M:%S}", style="dim"), sure, told))
    show(console, columns(("", "", ""), rows, fixed=(0, 1)))
    more(console, len(rest) - _EXAMPLES, "(all are in -o json)")


def reach_report(reach: Reach, console: Console) -> None:
    """What ``kubewitness blast-radius`` prints: the extent, then what was touched, grave first."""
    heading(console, "Blast radius", plain(reach.subject, 160))
    show(console, prose(plain(wording.summary(reach), 600), console, style="bold"))
    reach_table(reach, console, _ROWS)
    paths(reach, console)
    _notes(reach.notes, console)


def reach_table(reach: Reach, console: Console, limit: int) -> None:
    """One row a kind of deed and namespace."""
    rows = [_row(one) for one in reach.touched[:limit]]
    if rows:
        part(console, "Touched", "● grave, the gravest first; caused: done by others because of it")
        headers = ("", "", "WHAT", "OBJECTS", "TIMES", "BY")
        show(console, columns(headers, rows, right=(4,), fixed=(0, 1)))
        more(console, len(reach.touched) - limit, "(all are in -o json)")


def _row(one: Touched) -> tuple[Text, ...]:
    grave = one.weight >= GRAVE
    times = f"{one.n:,}" if not one.refused else f"{one.n:,} ({one.refused:,} refused)"
    names = ", ".join(principal(plain(name, 60)) for name in one.principals[:2])
    rest = len(one.principals) - 2
    return (
        Text("●" if grave else " ", style="red"),
        Text("caused" if one.caused else "", style="cyan"),
        Text(plain(one.did, 60), style="bold" if grave else ""),
        Text(plain(wording.touched(one), 200)),
        Text(times),
        Text(names + (f", +{rest}" if rest > 0 else ""), style="dim"),
    )


def paths(reach: Reach, console: Console) -> None:
    """How it led there, the surest and gravest links first."""
    shown = [link for link in reach.links if link.kind not in ("placement", "start")]
    if not shown:
        return
    part(console, "How it led there")
    rows = []
    for link in shown[:_EXAMPLES]:
        cause, effect = reach.steps[link.cause], reach.steps[link.effect]
        told = Text(plain(f"{wording.who(cause)}: {wording.deed(cause)}", 160))
        told.append("\n→ ", style="dim")
        told.append(plain(f"{wording.who(effect)}: {wording.deed(effect)}", 160), style="bold")
        told.append(f"\n  {plain(f'{wording.meaning(link)}: {link.because}', 240)}", style="dim")
        sure = Text(wording.known(link), style="green" if link.certain else "yellow")
        rows.append((Text(f"{utc(effect.at):%d %b %H:%M:%S}", style="dim"), sure, told))
    show(console, columns(("", "", ""), rows, fixed=(0, 1)))
    more(console, len(shown) - _EXAMPLES, "(all are in -o json)")


def _notes(notes: tuple[str, ...], console: Console) -> None:
    if notes:
        part(console, "What to keep in mind")
        show(console, *bullets((plain(note, 400) for note in notes), console))
