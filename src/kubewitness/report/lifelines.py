"""The history of an object as a picture: its lives on top, a lane for each who acted on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from kubewitness.forensics.objects.model import Change, History
from kubewitness.report.history_wording import actor, deed, gist, lives, runs
from kubewitness.report.inert import plain
from kubewitness.report.svg import LETTER, WIDTH, TimeAxis, element, label, picture, tip
from kubewitness.report.wording import moment, plural

_GUTTER, _HIGH, _TOP, _BAND = 220.0, 52.0, 6.0, 16.0
_LANES, _RUNS = 9, 400
_TELLING = ("created", "changed", "not knowable", "terminating", "deleted", "refused", "touched")


def lifelines(found: History) -> Markup:
    """The picture; nothing where nothing was done."""
    shown = list(runs(found.changes))[-_RUNS:]
    if not shown:
        return Markup("")
    axis = TimeAxis(shown[0][0].at, shown[-1][-1].until, _GUTTER, WIDTH - 18)
    busy = Counter(actor(run[0]) for run in shown if run[0].effect in _TELLING)
    hands = list(dict.fromkeys(actor(run[0]) for run in shown))
    if len(hands) > _LANES:
        kept = {name for name, _ in busy.most_common(_LANES - 1)}
        hands = [name for name in hands if name in kept]
        hands.append("")
    first = _TOP + _BAND + 34
    y = {name: first + number * _HIGH for number, name in enumerate(hands)}
    bottom = first + (len(hands) - 1) * _HIGH + 30
    body = [axis.drawn(_TOP, bottom, 6), _bands(found, axis)]
    others = len({actor(run[0]) for run in shown}) - len(hands) + 1
    for name in hands:
        told = name or f"{others} others"
        rule = element("line", x1=axis.left, x2=axis.right, y1=y[name], y2=y[name], class_="lane")
        body.append(label(told, 0, y[name] + 4, "name", cap=31) + rule)
    placed = [(run, axis.x(run[0].at), y.get(actor(run[0]), y.get("", first))) for run in shown]
    body += [_stem(run[0], x, height) for run, x, height in placed]
    body += [
        _mark(run, x, axis.x(run[-1].until), height)
        for run, x, height in sorted(placed, key=lambda one: one[0][0].effect in _TELLING)
    ]
    body.append(_words(placed, axis))
    words = f"{plural(sum(c.n for c in found.changes), 'request')} in {plural(len(hands), 'lane')}"
    return picture(words, bottom + 22, "".join(body), class_="chart lifelines")


def _bands(found: History, axis: TimeAxis) -> str:
    """When the object was there; of one that was there before the log tells of it the band begins
    at the margin."""
    drawn = [label("the object", 0, _TOP + 12, "name")]
    for number, begin, end, made in lives(found):
        left = axis.x(begin) if made else axis.left - 8
        right = axis.x(end) if end else axis.right + 8
        until = f"until {moment(end)}" if end else "and is still there"
        since = f"from {moment(begin)}" if made else "from before this log tells of it"
        band = element(
            "rect", x=left, y=_TOP, width=max(right - left, 3.0), height=_BAND,
            rx=3, class_="band" if made else "band before",
        )  # fmt: skip
        drawn.append(element("g", tip(f"Life {number}: {since} {until}") + band))
        name = f"life {number}"
        if found.lives > 1 and right - left > len(name) * LETTER + 8:
            drawn.append(label(name, max(left, axis.left) + 6, _TOP + 12, "life"))
    return "".join(drawn)


def _stem(change: Change, x: float, y: float) -> str:
    if change.effect not in ("created", "changed", "terminating", "deleted", "not knowable"):
        return ""
    style = f"stem {_class(change)}"
    return element("line", x1=x, x2=x, y1=_TOP + _BAND, y2=y - 6, class_=style)


def _mark(run: Sequence[Change], x: float, until: float, y: float) -> str:
    change = run[0]
    n = sum(one.n for one in run)
    times = f", {n:,} times" if n > 1 else ""
    told = tip(f"{moment(change.at)}: {change.effect}, {deed(change)} by {actor(change)}{times}")
    size = 5.5 if change.effect in _TELLING and change.subresource != "status" else 3.5
    if change.effect == "touched":
        shape = element("path", d=f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z")
    elif change.effect == "deleted":
        cross = f"M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m0 -9l-9 9"
        shape = element("path", d=cross, class_="cross")
    else:
        shape = element("circle", cx=x, cy=y, r=size)
    if until - x > 7:
        shape = element("line", x1=x, x2=until, y1=y, y2=y, class_="span") + shape
    return element("g", told + shape, class_=f"mark {_class(change)}")


def _class(change: Change) -> str:
    return "is-" + change.effect.replace(" ", "-")


def _words(placed: Sequence[tuple[list[Change], float, float]], axis: TimeAxis) -> str:
    """What happened, below the mark or above it, once for a run of the same, where there is
    room."""
    words: list[str] = []
    free: dict[float, float] = {}
    before: dict[float, str] = {}
    for run, x, y in placed:
        change = run[0]
        if change.effect not in _TELLING or change.subresource == "status":
            continue
        text = plain(gist(change), 30)
        if before.get(y) == text:
            continue
        wide = len(text) * LETTER
        start = min(x - 4, axis.right + 12 - wide)
        row = next((r for r in (y + 20, y - 11) if start > free.get(r, 0.0)), None)
        if row is not None:
            words.append(label(text, start, row, "tick"))
            free[row] = start + wide + 8
            before[y] = text
    return "".join(words)
