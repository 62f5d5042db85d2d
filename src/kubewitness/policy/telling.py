"""What ``kubewitness policy lint`` says of a policy, on a terminal and as data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.text import Text

from kubewitness.policy.blindness import Finding
from kubewitness.policy.volume import Share, Volume
from kubewitness.report.inert import plain
from kubewitness.report.terminal.layout import bullets, columns, heading, prose, show
from kubewitness.report.wording import percent, plural

_TITLES = {
    "blind": ("Blind", "what nobody will know from this log"),
    "leak": ("Leaks", "what the log itself would give away"),
    "idle": ("Idle", "what does nothing"),
}
_SHOWN = 4


class Lint(msgspec.Struct, frozen=True):
    """The answer: ``volume`` is of the log that was given, if one was."""

    findings: tuple[Finding, ...]
    volume: Volume | None

    @property
    def grave(self) -> bool:
        """Whether anything is blind or leaks."""
        return any(one.kind in ("blind", "leak") for one in self.findings)


def lint_report(lint: Lint, console: Console) -> None:
    """What is blind, leaks and idles, then the volume."""
    for kind, (title, note) in _TITLES.items():
        found = [one for one in lint.findings if one.kind == kind]
        if found:
            heading(console, title, note)
            show(console, *bullets([sentence(one) for one in found], console))
    if not lint.findings:
        show(
            console, Text("This policy shows all that detection looks at, and gives nothing away.")
        )
    if lint.volume is not None:
        _volume(lint.volume, console)


def sentence(found: Finding) -> str:
    """A finding in a line or two.

    >>> sentence(Finding("blind", "who read secrets", "left out", 5, ("nodes",)))
    'who read secrets: left out for nodes by line 5'
    """
    if found.kind == "idle":
        return plain(f"line {found.line}, {found.what}: {found.why}", 600)
    asked = f" ({', '.join(found.verbs)} of {_some(found.resources)})" if found.resources else ""
    whose = f" for {_some(found.whose)}" if found.whose else ""
    rule = f" by line {found.line}" if found.line else ", as no rule is about it"
    return plain(f"{found.what}{asked}: {found.why}{whose}{rule}", 600)


def _some(texts: Sequence[str]) -> str:
    rest = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _volume(volume: Volume, console: Console) -> None:
    kept, logged = volume.kept, volume.logged
    heading(console, "Volume", "what it would have kept of this log, by rule")
    if not logged.events:
        show(console, Text("The log has no events."))
        return
    rows = [
        (
            Text(f"line {one.line}" if one.line else "no rule"),
            Text(one.level),
            *_shares(one.logged, one.kept),
        )
        for one in volume.rules
    ]
    rows.append((Text("all", style="bold"), Text(), *_shares(logged, kept)))
    headers = ("rule", "level", "events", "kept", "", "MB", "kept", "")
    show(console, columns(headers, rows, right=(2, 3, 4, 5, 6, 7), fixed=(0, 1)))
    if volume.poorer:
        text = (
            f"{plural(volume.poorer, 'event')} would have more in them than this log has: the real"
            " volume is larger."
        )
        show(console, Text(), prose(text, console))
    if volume.grave:
        told = ", ".join(f"{what} ×{n:,}" for what, n in volume.grave.items())
        show(console, Text(), prose(f"Left out, though attacks are made of it: {told}.", console))


def _shares(logged: Share, kept: Share) -> tuple[Text, ...]:
    return (
        Text(f"{logged.events:,}"),
        Text(f"{kept.events:,}"),
        Text(percent(kept.events / logged.events), style="dim"),
        Text(f"{logged.bytes / 1e6:,.1f}"),
        Text(f"{kept.bytes / 1e6:,.1f}"),
        Text(percent(kept.bytes / logged.bytes), style="dim"),
    )
