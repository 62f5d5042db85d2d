"""An incident's timeline as swim lanes: who did what from where, over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from kubewitness.incidents.model import Incident, Moment
from kubewitness.report.inert import ends
from kubewitness.report.svg import WIDTH, TimeAxis, element, label, picture, tip
from kubewitness.report.wording import moment, plural, principal

_GUTTER, _HIGH, _TOP = 236.0, 46.0, 10.0
_MOST_LANES, _MOST_MOMENTS = 8, 600
_LETTER = 6.2  # pixels a letter of a label is wide, about


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
    name = ends(principal(actor.principal) + acting, 36)
    return label(name, 0, y + 21, "name") + label(f"from {actor.source_ip}", 0, y + 35, "tick")


def _lane(events: Sequence[Moment], axis: TimeAxis, top: float) -> str:
    y = top + 28
    line = element("line", x1=axis.left, x2=axis.right, y1=y, y2=y, class_="lane")
    marks, words = [], []
    free = axis.left - 10
    for event in sorted(events, key=lambda e: (e.notable, e.at)):
        x, until = axis.x(event.at), axis.x(event.until)
        kind = "notable" if event.notable else "plain"
        dot = tip(_sentence(event)) + element("circle", cx=x, cy=y, r=5 if event.notable else 3.5)
        if until - x > 6:
            dot = element("line", x1=x, x2=until, y1=y, y2=y, class_="span") + dot
        marks.append(element("g", dot, class_=kind))
    for event in (e for e in events if e.notable):
        text = ends(f"{event.action} {event.object.partition('/')[0]}", 34)
        x, wide = axis.x(event.at), len(text) * _LETTER
        # A label that would run into its neighbour is left out: the dot has it as its title.
        start = min(x - 4, axis.right - wide)
        if start > free:
            words.append(label(text, start, y - 10, "tick"))
            free = start + wide + 8
    return line + "".join(marks) + "".join(words)


def _sentence(event: Moment) -> str:
    where = f" in {event.namespace}" if event.namespace else ""
    times = f" ×{event.n:,}" if event.n > 1 else ""
    what = f"{event.action} {event.object}{where}{times}"
    return f"{moment(event.at)}: {what}, {event.outcome}, with {event.client}"
