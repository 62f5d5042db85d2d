"""``kubewitness who`` on a terminal: who touched an object, and who could have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kubewitness.forensics.rbac.answer import Able, Touched, Who
from kubewitness.report.inert import plain
from kubewitness.report.terminal.knowledge import known_by, shorter, subject
from kubewitness.report.terminal.layout import bullets, columns, heading, more, prose, show
from kubewitness.report.wording import brief, moment, period, plural, principal, slices

SHOWN = 30
_NAMES, _PLACES = 6, 4
_STYLES = {"new": "bold red", "first": "yellow", "team": "yellow", "usual": "green"}


def who_report(answer: Who, console: Console) -> None:
    """Everybody who touched the object, what is least usual first, then everybody who could."""
    title = Text(plain(_thing(answer)), style="bold")
    title.append(f"  {plain(answer.cluster)}", style="bold cyan")
    show(console, title, Text(period(answer.start, answer.end), style="dim"))
    show(console, Text(), prose(sentence(answer), console))
    people = [one for one in answer.touched if one.habit != "machinery"]
    heading(console, "Who touched it", plural(len(people), "principal"))
    for one in people[:SHOWN]:
        _touched(one, answer.unit, console)
    more(console, len(people) - SHOWN, "(all are in -o table)")
    _machinery([one for one in answer.touched if one.habit == "machinery"], console)
    _could(answer.able, console)
    heading(console, "How well this is known")
    show(console, Text(), *bullets([*known_by(answer.knowledge), *answer.notes], console))


def sentence(answer: Who) -> str:
    """The answer in a sentence or two."""
    hands = [one for one in answer.touched if one.habit != "machinery"]
    served = [one for one in hands if one.refused < one.requests]
    unusual = sum(one.habit == "new" for one in served)
    refused = len(hands) - len(served)
    idle = [one for one in answer.able if not one.machinery and not one.touched]
    parts = [f"{plural(len(served), 'principal')} touched it"]
    if unusual:
        parts.append(f"{unusual} of them where neither they nor their team usually do")
    if refused:
        parts.append(f"{refused} more tried and {'was' if refused == 1 else 'were'} refused")
    told = ", ".join(parts)
    return f"{told}. {plural(len(idle), 'subject')} of known bindings could have, and did not."


def habit(one: Touched, unit: str) -> str:
    """Whether that was usual, in words."""
    units = slices(unit)
    match one.habit:
        case "usual":
            return f"usual: on {one.days_self} of {one.days_anyone} other {units}"
        case "team":
            return f"its team did on {one.days_team} of {one.days_anyone} other {units}, itself not"
        case "new":
            return f"unusual: neither it nor its team on {one.days_anyone} other {units}"
        case "first":
            return f"nobody did on other {units}"
    return "the cluster's own machinery"


def able_rows(found: Iterable[Able]) -> Iterable[tuple[str, str, str, str]]:
    """Who, what they may do, through which bindings, and who of them did."""
    for one in found:
        members = _several([plain(name, 60) for name in one.members], _NAMES)
        yield (
            plain(subject(one.subject), 80) + (f" ({members})" if one.members else ""),
            ", ".join(one.may),
            _several([plain(shorter(name), 120) for name in one.bindings], 2),
            _did(one),
        )


def _did(one: Able) -> str:
    if not one.subject.startswith("Group "):
        return "yes" if one.touched else "–"
    return _several([plain(principal(name), 60) for name in one.touched], 3) or "–"


def _thing(answer: Who) -> str:
    where = f" in {answer.namespace}" if answer.namespace else ""
    return f"{brief(answer.resource)}/{answer.name}{where}"


def _touched(one: Touched, unit: str, console: Console) -> None:
    vain = one.refused == one.requests
    style = "dim" if vain else _STYLES[one.habit]
    line = Text().append("● " if one.habit == "new" and not vain else "· ", style=style)
    line.append(plain(principal(one.principal), 80), style="bold")
    if one.acting_as:
        line.append(" acting as ").append(plain(principal(one.acting_as), 80), style="bold")
    line.append(f"  {'refused; ' if vain else ''}{habit(one, unit)}", style=style)
    deeds = ", ".join(f"{plain(brief(did), 80)} ×{n:,}" for did, n in one.actions.items())
    if one.refused and not vain:
        deeds += f"; {one.refused:,} refused"
    where = f"from {_counted(one.source_ips)}, with {_counted(one.clients)}"
    when = moment(one.first)
    if moment(one.last) != when:
        when += f" – {moment(one.last)}"
    details = [Text(deeds), Text(f"{when}, {where}", style="dim")]
    if one.bindings:
        by = _several([plain(name, 160) for name in one.bindings], 3)
        details.append(Text(f"by {by}", style="dim"))
    show(console, Text(), line, *(Padding(detail, (0, 0, 0, 4)) for detail in details))


def _machinery(found: Sequence[Touched], console: Console) -> None:
    if found:
        names = [f"{plain(principal(one.principal), 60)} ×{one.requests:,}" for one in found]
        told = f"And the cluster's own machinery: {_several(names, _NAMES)}"
        show(console, Text(), prose(told, console, style="dim", indent=2))


def _could(found: Sequence[Able], console: Console) -> None:
    own = [one for one in found if not one.machinery]
    direct = [one for one in own if set(one.may) != {"mount"}]
    heading(console, "Who could have", f"by known bindings; {plural(len(own), 'subject')}")
    rows = [tuple(Text(cell) for cell in row) for row in able_rows(direct[:SHOWN])]
    if rows:
        show(console, Text(), columns(("WHO", "MAY", "BY BINDING → ROLE", "DID"), rows))
    more(console, len(direct) - SHOWN, "(all are in -o table)")
    others = (
        ("Only by running a workload that mounts it", [one for one in own if one not in direct]),
        ("The cluster's own machinery", [one for one in found if one.machinery]),
    )
    for label, some in others:
        if some:
            names = _several([plain(subject(one.subject), 80) for one in some], _NAMES)
            show(console, Text(), prose(f"{label}: {names}", console, style="dim", indent=2))


def _counted(numbers: Mapping[str, int]) -> str:
    return _several([plain(name, 60) or "?" for name in numbers], _PLACES)


def _several(names: Sequence[str], most: int) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
