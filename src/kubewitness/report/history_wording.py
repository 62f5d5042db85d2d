"""The history of an object in words: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from kubewitness.forensics.objects.fields import Field
from kubewitness.forensics.objects.model import Change, History, Subject
from kubewitness.report.wording import brief, duration, moment, plural, principal, utc

SIGNS = {"add": "+", "remove": "−", "replace": "~", "set": "=", "unknown": "?"}


def runs(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Changes one by one, those of the status by one principal together."""
    run: list[Change] = []
    for change in changes:
        quiet = change.subresource == "status" and change.effect == "changed"
        if run and (
            not quiet or change.principal != run[0].principal or change.life != run[0].life
        ):
            yield run
            run = []
        if quiet:
            run.append(change)
        else:
            yield [change]
    if run:
        yield run


def title(subject: Subject) -> str:
    """``deployments/web in shop``."""
    home = f" in {subject.namespace}" if subject.namespace else ""
    return f"{brief(subject.kind)}/{subject.name}{home}"


def actor(change: Change) -> str:
    """Who did it, and as whom."""
    acting = f" as {principal(change.acting_as)}" if change.acting_as else ""
    return principal(change.principal) + acting


def deed(change: Change) -> str:
    """How, and on which part: ``update of status``."""
    return change.how + (f" of {change.subresource}" if change.subresource else "")


def source(change: Change) -> str:
    """From where and with what."""
    place = " › ".join(change.source_ips) or "an unknown address"
    return f"from {place} with {change.user_agent or 'no client name'}"


def value(found: object) -> str:
    """A value of a field as JSON."""
    return msgspec.json.encode(found).decode()


def gist(change: Change) -> str:
    """What happened in a few words: what was done, or the first field that says it."""
    if change.effect not in ("changed", "not knowable") or not change.fields:
        return f"{change.effect} ({deed(change)})" if change.subresource else change.effect
    telling = min(change.fields, key=_depth_of_interest)
    more = len(change.fields) - 1
    return _last(telling.path) + (f" +{more}" if more else "")


def _depth_of_interest(field: Field) -> tuple[bool, int]:
    """What stands in the spec says more than what stands in the metadata."""
    return (field.path.startswith(("metadata", "status")), field.path.count("."))


def _last(path: str) -> str:
    return path.rpartition(".")[2] if not path.endswith('"]') else path.rpartition('["')[2][:-2]


def lives(found: History) -> list[tuple[int, datetime, datetime | None, bool]]:
    """Of each object of this name: which it is, from when until when (``None``: it is still
    there), and whether its creation was seen."""
    told = []
    for number in range(1, found.lives + 1):
        own = [change for change in found.changes if change.life == number]
        if not own:
            continue
        made = [change.at for change in own if change.effect == "created"]
        gone = [change.at for change in own if change.effect == "deleted"]
        begin = made[0] if made else own[0].at
        told.append((number, begin, gone[-1] if gone else None, bool(made)))
    return told


def sentence(found: History) -> str:
    """The answer in one sentence."""
    changes = found.changes
    if not changes:
        return f"Nothing was done to {title(found.subject)} in this log, but for reads."
    first, last = changes[0], changes[-1]
    # Of two controllers that write at once one is told to try again, all day.
    telling = [change for change in changes if change.outcome != "conflict"]
    hands = dict.fromkeys(actor(change) for change in changes)
    n = sum(change.n for change in changes)
    told = (
        f"{plural(n, 'request')} by {plural(len(hands), 'principal')} over"
        f" {duration(utc(last.until) - utc(first.at))}"
    )
    parts = [
        f"{_who(telling, effect)} {words}"
        for effect, words in (
            ("created", "made it"),
            ("changed", "changed it"),
            ("touched", "used it"),
            ("refused", "tried in vain"),
            ("deleted", "deleted it"),
        )
        if any(change.effect == effect for change in telling)
    ]
    when = f"The last was on {moment(last.until)} UTC."
    return f"{told}: {', '.join(parts)}. {when}" if parts else f"{told}. {when}"


def _who(changes: Sequence[Change], effect: str) -> str:
    hands = list(dict.fromkeys(actor(change) for change in changes if change.effect == effect))
    told = " and ".join(hands[:2])
    return told if len(hands) <= 2 else f"{hands[0]} and {len(hands) - 1} others"
