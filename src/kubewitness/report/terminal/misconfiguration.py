"""What is broken: who is refused what again and again, and the fix."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kubewitness.incidents.model import Broken, Misconfiguration
from kubewitness.report.inert import plain
from kubewitness.report.terminal.layout import (
    columns,
    heading,
    labelled,
    more,
    numbered,
    prose,
    show,
)
from kubewitness.report.wording import brief, moment, plural

FULL = 3
"""Told in full; the others are listed by their titles."""
LISTED = 20
NARROW = 100
"""Below so many columns a title gets lines of its own."""
_LINES = 24


def misconfigurations_section(
    found: Sequence[Misconfiguration], console: Console, *, name_cluster: bool = False
) -> None:
    """Nothing where nothing is broken. What is mended is only listed."""
    if not found:
        return
    heading(
        console,
        "Misconfigurations",
        "refused again and again, always the same: rather broken than an attack",
    )
    told = [one for one in found if one.mended is None][:FULL]
    for one in told:
        _told(one, console, name_cluster)
    rest = [one for one in found if one not in told]
    if not rest:
        return
    if told:
        show(console, Text(), Text(f"Also ({plural(len(rest), 'finding')})", style="bold"))
    _list(rest[:LISTED], console)
    more(console, len(rest) - LISTED, "(all are in -o json)")


def misconfigurations_report(found: Sequence[Broken], console: Console) -> None:
    """All of a running service: what is broken in full, what is mended or gone as a list."""
    standing = [one for one in found if one.gone_at is None]
    several = len({one.misconfiguration.cluster for one in found}) > 1
    broken = [one for one in standing if one.misconfiguration.mended is None]
    heading(
        console,
        "Misconfigurations",
        "refused again and again, always the same: rather broken than an attack",
    )
    for one in broken:
        _told(one.misconfiguration, console, several)
        seen = f"{plain(one.misconfiguration.id, 40)}, found since {moment(one.first_seen)} UTC"
        show(console, Text(), Text(f"  {seen}", style="dim"))
    for title, rest in (
        ("Mended", [one for one in standing if one not in broken]),
        ("Gone", [one for one in found if one.gone_at is not None]),
    ):
        if rest:
            show(console, Text(), Text(f"{title} ({plural(len(rest), 'finding')})", style="bold"))
            _list([one.misconfiguration for one in rest], console, title.lower())


def _list(found: Sequence[Misconfiguration], console: Console, status: str = "") -> None:
    rows = [
        (
            Text(moment(one.first), style="dim"),
            Text(status or ("mended" if one.mended else "broken"), style="dim"),
            Text(f"×{one.n:,}", style="dim"),
            Text(brief(plain(one.title, 300))),
        )
        for one in found
    ]
    if console.width < NARROW:
        for *marks, title in rows:
            line = Text("  ").append_text(Text("  ").join(marks))
            show(console, line, Padding(title, (0, 0, 0, 4)))
    else:
        show(console, columns(("", "", "", ""), rows, right=(2,), fixed=(0, 1)))


def _told(one: Misconfiguration, console: Console, name_cluster: bool) -> None:
    title = Text(brief(plain(one.title, 300)), style="bold")
    if name_cluster:
        title.append(f"  {plain(one.cluster, 60)}", style="dim not bold")
    show(console, Text(), title)
    show(console, prose(brief(plain(" ".join(one.sentences), 1500)), console, indent=2))
    if one.message and one.failure != "permission":  # there it says what the title says
        show(console, labelled("answer", plain(one.message, 400), console))
    show(console, *numbered((brief(plain(step, 600)) for step in one.fix), console))
    if one.caution:
        show(console, prose(plain(one.caution, 400), console, indent=2, style="yellow"))
    lines = one.manifest.splitlines()
    if lines:
        show(console, Text())
    for line in lines[:_LINES]:
        show(console, Padding(Text(plain(line, 400), style="cyan"), (0, 0, 0, 6)))
    more(console, len(lines) - _LINES, "lines (whole in -o yaml and on the page)")
