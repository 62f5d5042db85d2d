"""The causal graph as a picture: a lane for each who, time to the right, an arrow for each link.

Steps stand in the order of time, evenly apart: causes lie milliseconds or weeks before what they
cause, and both must be readable. Dashed arrows are inferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from kubewitness.forensics.causes.graph import Link, Step
from kubewitness.report.causes_wording import deed, known, meaning, who
from kubewitness.report.svg import LETTER, WIDTH, element, label, picture, tip
from kubewitness.report.wording import duration, utc

_GUTTER, _HIGH, _TOP, _RIGHT = 210.0, 62.0, 22.0, 90.0
_LANES, _STEPS = 10, 24


def graph(steps: Sequence[Step], links: Sequence[Link], line: Sequence[int] = ()) -> Markup:
    """The steps (at most 24, those of ``line`` before others) and the links between them."""
    chosen = [*line, *(step.id for step in steps if step.id not in set(line))][:_STEPS]
    shown = sorted((step for step in steps if step.id in set(chosen)), key=lambda step: step.id)
    names = list(dict.fromkeys(who(step) for step in shown))[:_LANES]
    shown = [step for step in shown if who(step) in names]
    if not shown:
        return Markup("")
    gap = (WIDTH - _GUTTER - _RIGHT) / max(1, len(shown) - 1)
    x = {step.id: _GUTTER + 24 + number * gap for number, step in enumerate(shown)}
    y = {step.id: _TOP + 26 + names.index(who(step)) * _HIGH for step in shown}
    bottom = _TOP + len(names) * _HIGH
    body = [_lane(name, _TOP + 26 + n * _HIGH) for n, name in enumerate(names)]
    drawn = [link for link in links if link.cause in x and link.effect in x]
    on = set(pairwise(line))
    body += [
        _arrow(link, x, y, main=(link.cause, link.effect) in on)
        for link in sorted(drawn, key=lambda link: (link.cause, link.effect) in on)
    ]
    body += [_dot(step, x[step.id], y[step.id], step.id in line) for step in shown]
    body += _words(shown, x, y)
    body += _clock(shown, x, bottom)
    words = f"{len(shown)} steps of {len(names)} actors and {len(drawn)} links between them"
    return picture(words, bottom + 26, "".join(body), class_="chart causes")


def _lane(name: str, y: float) -> str:
    rule = element("line", x1=_GUTTER, x2=WIDTH - 8, y1=y, y2=y, class_="lane")
    return label(name, 0, y + 4, "name", cap=29) + rule


def _arrow(link: Link, x: dict[int, float], y: dict[int, float], *, main: bool) -> str:
    x1, y1, x2, y2 = x[link.cause], y[link.cause], x[link.effect], y[link.effect]
    if y1 == y2:
        bow = min(24.0, 8 + (x2 - x1) / 12)
        x2, y2, turn = x2 - 6, y2 - 3, 20.0
        bend = f"Q{(x1 + x2) / 2:.1f} {y1 - bow:.1f} {x2:.1f} {y2:.1f}"
    else:
        middle, turn = (y1 + y2) / 2, 90.0 if y2 > y1 else -90.0
        y2 += -7 if y2 > y1 else 7
        bend = f"C{x2:.1f} {y1:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}"
    style = f"arrow{' main' if main else ''}{'' if link.certain else ' guess'}"
    head = element(
        "path", d="M0 0L-7 -3.4L-7 3.4Z", class_=f"head{' main' if main else ''}",
        transform=f"translate({x2:.1f} {y2:.1f}) rotate({turn:.0f})",
    )  # fmt: skip
    told = tip(f"{meaning(link)} ({known(link)}): {link.because}")
    path = element("path", d=f"M{x1:.1f} {y1:.1f}{bend}", class_=style)
    return element("g", told + path + head)


def _dot(step: Step, x: float, y: float, main: bool) -> str:
    told = tip(f"{utc(step.at):%Y-%m-%d %H:%M:%S} UTC, {who(step)}: {deed(step)}")
    size = 6.0 if main else 4.0
    return element("g", told + element("circle", cx=x, cy=y, r=size), class_=f"step of-{step.kind}")


def _words(steps: Sequence[Step], x: dict[int, float], y: dict[int, float]) -> list[str]:
    """What was done, below its dot, where there is room."""
    words: list[str] = []
    free: dict[float, float] = {}
    for step in steps:
        text = deed(step).partition(" in ")[0]
        room = [other for other in steps if who(other) == who(step) and other.id > step.id]
        until = x[room[0].id] if room else float(WIDTH)
        start = x[step.id] - 6
        cap = int((until - start) / LETTER) - 1
        row = y[step.id] + 21
        if cap < 9 and x[step.id] < free.get(row, 0):
            continue
        if start + len(text) * LETTER > WIDTH and not room:
            start = max(free.get(row, _GUTTER), WIDTH - len(text) * LETTER)
            cap = int((WIDTH - start) / LETTER)
        if start < free.get(row, 0):
            continue
        words.append(label(text, start, row, "tick", cap=max(cap, 9)))
        free[row] = start + min(len(text), max(cap, 9)) * LETTER + 6
    return words


def _clock(steps: Sequence[Step], x: dict[int, float], bottom: float) -> list[str]:
    """When each step was; after the first how long after the one before, where that is telling."""
    words: list[str] = []
    free = 0.0
    for number, step in enumerate(steps):
        at = utc(step.at)
        text = f"{at:%d %b %H:%M:%S}" if number == 0 else f"+{_wait(steps[number - 1], step)}"
        start = x[step.id] - len(text) * LETTER / 2
        if start > free:
            words.append(label(text, start, bottom + 16, "tick"))
            free = start + len(text) * LETTER + 8
    return words


def _wait(one: Step, other: Step) -> str:
    span = utc(other.at) - utc(one.at)
    seconds = span.total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(span)
