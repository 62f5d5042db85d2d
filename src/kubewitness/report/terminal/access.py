"""``kubewitness access`` on a terminal: what is granted, used, dangerous, and needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kubewitness.forensics.rbac.answer import Access, Danger, Grant
from kubewitness.forensics.rbac.policy import grouped
from kubewitness.report.inert import plain
from kubewitness.report.terminal.knowledge import known_by, shorter
from kubewitness.report.terminal.layout import bullets, columns, heading, more, prose, show
from kubewitness.report.wording import brief, moment, period, plural, principal

SHOWN, RULES = 20, 4


def access_report(answer: Access, console: Console) -> None:
    """Grants with what was done under them, dangers, and the least role."""
    title = Text(plain(principal(answer.principal), 120), style="bold")
    title.append(f"  {plain(answer.cluster)}", style="bold cyan")
    show(console, title, Text(period(answer.start, answer.end), style="dim"))
    groups = ", ".join(plain(group, 60) for group in answer.groups)
    show(console, Text(f"{answer.principal_class}, in {groups}", style="dim"))
    show(console, Text(), prose(sentence(answer), console))
    own = [one for one in answer.grants if one.subject != "Group system:authenticated"]
    heading(console, "Granted and used", plural(len(own), "binding"))
    for grant in own[:SHOWN]:
        _grant(grant, console)
    more(console, len(own) - SHOWN, "(all are in -o table)")
    _dangers(answer.dangers, console)
    _role(answer.role, console)
    heading(console, "How well this is known")
    show(console, Text(), *bullets([*known_by(answer.knowledge), *answer.notes], console))


def sentence(answer: Access) -> str:
    """The answer in a sentence or two."""
    used = sum(one.requests > 0 for one in answer.grants)
    idle = sum(one.requests == 0 for one in answer.dangers)
    told = (
        f"{plural(answer.requests, 'permitted request')} under {used} of"
        f" {plural(len(answer.grants), 'known binding')}"
    )
    if answer.unexplained:
        told += f", {answer.unexplained:,} for which the log names none"
    dangers = f"{plural(len(answer.dangers), 'dangerous power')}, {idle} of them never used"
    whom = ", ".join(f"{plain(name, 60)} ×{n:,}" for name, n in list(answer.acted_as.items())[:5])
    acted = f" It acted as others: {whom}." if whom else ""
    return f"{told}. {dangers if answer.dangers else 'No dangerous power is known'}.{acted}"


def danger_rows(found: Sequence[Danger]) -> list[tuple[str, str, str, str]]:
    """What, where, how often used, by which binding."""
    return [
        (
            one.power
            + (f" ({', '.join(plain(name, 40) for name in one.names)})" if one.names else ""),
            plain(one.namespace, 60) or "everywhere",
            f"×{one.requests:,}, last {moment(one.last)}" if one.last else "never",
            plain(shorter(one.binding), 120),
        )
        for one in found
    ]


def _grant(one: Grant, console: Console) -> None:
    idle = not one.requests
    line = Text().append("○ " if idle else "● ", style="yellow" if idle else "green")
    line.append(plain(one.binding, 160), style="bold")
    use = "never used" if idle else f"×{one.requests:,}"
    if one.last:
        use += f", last {moment(one.last)}"
    line.append(f"  {use}", style="yellow" if idle else "")
    details = []
    via = f"to {plain(one.subject, 120)}" if one.subject else ""
    known = {
        "reason": "known by its use only",
        "removed": "removed since",
        "default": "a default of Kubernetes",
    }.get(one.origin, "")
    if via or known:
        details.append(Text("; ".join(filter(None, (via, known))), style="dim"))
    if one.actions:
        deeds = [f"{plain(brief(did), 100)} ×{n:,}" for did, n in one.actions.items()]
        details.append(Text(_several(deeds, 6)))
    if one.rules is None and one.origin != "group":
        details.append(Text("what its role permits is not known", style="yellow"))
    elif one.unused and not idle:
        rules = [plain(rule, 160) for rule in one.unused]
        details.append(Text(f"never used: {'; '.join(rules[:RULES])}", style="yellow"))
        if len(rules) > RULES:
            details.append(Text(f"and {len(rules) - RULES} more rules", style="yellow"))
    elif idle and one.rules:
        rules = [plain(rule, 160) for rule in one.rules]
        rest = f"; and {len(rules) - RULES} more" if len(rules) > RULES else ""
        details.append(Text(f"permits {'; '.join(rules[:RULES])}{rest}"))
    show(console, Text(), line, *(Padding(detail, (0, 0, 0, 4)) for detail in details))


def _dangers(found: Sequence[Danger], console: Console) -> None:
    if not found:
        return
    idle = sum(not one.requests for one in found)
    heading(console, "Dangerous powers", f"{idle} never used")
    rows = [
        tuple(Text(cell, style="" if one.requests else "yellow") for cell in row)
        for one, row in zip(found[:SHOWN], danger_rows(found[:SHOWN]), strict=True)
    ]
    show(console, Text(), columns(("MAY", "WHERE", "USED", "BY BINDING → ROLE"), rows))
    more(console, len(found) - SHOWN)


def _role(manifests: Sequence[Mapping[str, Any]], console: Console) -> None:
    roles = [one for one in manifests if "rules" in one]
    if not roles:
        return
    heading(console, "The least that covers what it used", "-o role prints it for kubectl apply")
    places: dict[str, list[str]] = {}
    for binding in manifests:
        if binding.get("roleRef", {}).get("kind") == "ClusterRole":
            place = binding["metadata"].get("namespace", "")
            places.setdefault(binding["roleRef"]["name"], []).append(place)
    rows = []
    for role in roles:
        metadata = role["metadata"]
        where = [metadata["namespace"]] if "namespace" in metadata else places[metadata["name"]]
        shown = ", ".join(plain(place, 60) or "everywhere" for place in where[:3])
        rest = f" and {len(where) - 3} more" if len(where) > 3 else ""
        for number, rule in enumerate(role["rules"]):
            rows.append((Text(f"{shown}{rest}" if not number else "", style="cyan"), *_told(rule)))
    show(console, Text(), columns(("WHERE", "VERBS", "RESOURCES"), rows[:40]))
    more(console, len(rows) - 40, "(all are in -o role)")


def _told(rule: Mapping[str, Any]) -> tuple[Text, Text]:
    group = rule.get("apiGroups", [""])[0]
    kinds = [grouped(kind, group) for kind in rule.get("resources", ())]
    kinds += rule.get("nonResourceURLs", ())
    named = rule.get("resourceNames", ())
    names = f" ({', '.join(plain(name, 60) for name in named)})" if named else ""
    shown = ", ".join(brief(plain(kind, 80)) for kind in kinds)
    return Text(", ".join(plain(verb, 30) for verb in rule["verbs"])), Text(shown + names)


def _several(names: Sequence[str], most: int) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
