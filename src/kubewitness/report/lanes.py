"""An incident's timeline as swim lanes: who did what from where, over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from kubewitness.incidents.model import Incident, Moment
from kubewitness.report.inert import plain
from kubewitness.report.svg import LETTER, WIDTH, TimeAxis, element, label, picture, tip
from kubewitness.report.wording import brief, deed, moment, plural, principal

_GUTTER, _HIGH, _TOP = 236.0, 56.0, 4.0
_MOST_LANES, _MOST_MOMENTS = 8, 600


class Actor(NamedTuple):
    """Who a lane belongs to. One token from two places is two lanes: that is the story."""

    principal: str
    acting_as: str
    source_ip: str


def lanes(incident: Incident) -> Markup:
    """The picture; nothing when there is no timeline."""
    timeline = incident.timeline[:_MOST_MOMENTS]
    if not timeline:
        return Markup("")
    actors = _actors(timeline)
    others = len(actors) > _MOST_LANES
    shown = actors[: _MOST_LANES - 1] if others else actors
    axis = TimeAxis(
        min(event.at for event in timeline),
        max(event.until for event in timeline),
        _GUTTER,
        WIDTH - 16,
    )
    rows = len(shown) + others
    bottom = _TOP + rows * _HIGH
    body = [axis.drawn(_TOP, bottom, 6)]
    for number, actor in enumerate(shown):
        body.append(_name(actor, _TOP + number * _HIGH))
        own = [event for event in timeline if _actor(event) == actor]
        body.append(_lane(own, axis, _TOP + number * _HIGH))
    if others:
        y = _TOP + (rows - 1) * _HIGH
        body.append(label(f"{len(actors) - len(shown)} other lanes", 0, y + 28, "name"))
        hidden = set(actors[len(shown) :])
        body.append(_lane([e for e in timeline if _actor(e) in hidden], axis, y))
    words = (
        f"Timeline of {plural(len(timeline), 'moment')} in {plural(len(actors), 'lane')}; "
        f"filled dots stand out"
    )
    return picture(words, bottom + 22, "".join(body), class_=f"chart lanes {incident.severity}")


def _actor(event: Moment) -> Actor:
    return Actor(event.principal, event.acting_as, event.source_ip)


def _actors(timeline: Sequence[Moment]) -> list[Actor]:
    """In order of appearance, those with something notable first."""
    first: dict[Actor, int] = {}
    notable = {_actor(event) for event in timeline if event.notable}
    for number, event in enumerate(timeline):
        first.setdefault(_actor(event), number)
    return sorted(first, key=lambda actor: (actor not in notable, first[actor]))


def _name(actor: Actor, y: float) -> str:
    acting = f" as {actor.acting_as}" if actor.acting_as else ""
    name = principal(actor.principal) + acting
    where = label(f"from {actor.source_ip}", 0, y + 35, "tick", cap=36)
    return label(name, 0, y + 21, "name", cap=34) + where


def _lane(events: Sequence[Moment], axis: TimeAxis, top: float) -> str:
    y = top + 28
    line = element("line", x1=axis.left, x2=axis.right, y1=y, y2=y, class_="lane")
    marks = []
    for event in sorted(events, key=lambda e: (e.notable, e.at)):
        x, until = axis.x(event.at), axis.x(event.until)
        dot = tip(_sentence(event)) + element("circle", cx=x, cy=y, r=5 if event.notable else 3.5)
        if until - x > 6:
            dot = element("line", x1=x, x2=until, y1=y, y2=y, class_="span") + dot
        marks.append(element("g", dot, class_="notable" if event.notable else "plain"))
    return line + "".join(marks) + _words(events, axis, y)


def _words(events: Sequence[Moment], axis: TimeAxis, y: float) -> str:
    """What was done, above the dots or below them, once for a run of the same.

    Left out where it would run into another: each dot has its whole sentence as a title.
    """
    words, free = [], {y - 10: axis.left - 10, y + 19: axis.left - 10}
    before = ""
    for event in events:
        if not event.notable:
            continue
        action, name = deed(event)
        text = plain(brief(action if " " in action else f"{action} {name.partition('/')[0]}"), 34)
        if text == before:
            continue
        wide = len(text) * LETTER
        start = min(axis.x(event.at) - 5, axis.right - wide)
        row = next((row for row, end in free.items() if start > end), None)
        if row is not None:
            words.append(label(text, start, row, "tick"))
            free[row] = start + wide + 8
            before = text
    return "".join(words)


def _sentence(event: Moment) -> str:
    where = f" in {event.namespace}" if event.namespace else ""
    times = f" ×{event.n:,}" if event.n > 1 else ""
    what = " ".join(filter(None, deed(event))) + where + times
    return f"{moment(event.at)}: {what}, {event.outcome}, with {event.client}"
