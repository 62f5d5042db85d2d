"""The charts of a period: volume by class, denied requests, a heat map of hours, bars."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate

from markupsafe import Markup

from kubewitness.incidents.model import Incident
from kubewitness.report.model import Series, Summary
from kubewitness.report.svg import WIDTH, TimeAxis, element, label, picture, tip
from kubewitness.report.wording import compact, moment, plural, utc

_LEFT, _RIGHT = 44, WIDTH - 4
_MOST_SLOTS = 336
FLAGS, _FLAG = 12, 22
"""How many incidents are marked in the chart of requests, and how wide a mark is."""
CLASSES = ("workload", "node", "control-plane", "anonymous", "human")
"""From the bottom of the stack to its top: people last, where the line can be followed."""


def volume(summary: Summary, incidents: Sequence[Incident] = ()) -> Markup:
    """Requests over time, stacked by principal class, numbered markers where incidents began."""
    slots, series = _fewer(summary.slots, _stacked_order(summary.volume))
    if len(slots) < 2:
        return Markup("")
    top, bottom = 30.0, 210.0
    axis = TimeAxis(slots[0], slots[-1] + (slots[1] - slots[0]), _LEFT, _RIGHT)
    totals = [sum(column) for column in zip(*(s.n for s in series), strict=True)]
    scale = _Scale(max(totals, default=0), top, bottom)
    floor = [0] * len(slots)
    edges = [f"{axis.x(at):.1f}" for at in slots] + [f"{axis.right:.1f}"]
    body = [scale.drawn(), axis.drawn(bottom, bottom)]
    for line in series:
        roof = [low + n for low, n in zip(floor, line.n, strict=True)]
        shape = _band(edges, scale, floor, roof)
        body.append(element("path", d=shape, class_=class_colour(line.label)))
        floor = roof
    for number, at in enumerate(slots):
        until = slots[number + 1] if number + 1 < len(slots) else axis.end
        parts = ", ".join(f"{s.label} {compact(s.n[number])}" for s in reversed(series))
        words = f"{moment(at)}: {plural(totals[number], 'request')} ({parts})"
        body.append(
            element("rect", tip(words), x=axis.x(at), y=top, width=axis.x(until) - axis.x(at),
                    height=bottom - top, class_="hover")
        )  # fmt: skip
    body.extend(_markers(axis, incidents, top, bottom))
    peak = max(range(len(totals)), key=totals.__getitem__)
    words = f"Requests over time; most at {moment(slots[peak])}, {compact(totals[peak])}"
    return picture(words, bottom + 22, "".join(body))


def denied(summary: Summary) -> Markup:
    """Refused requests over time, as thin columns."""
    slots, (series,) = _fewer(summary.slots, [summary.denied_volume])
    if len(slots) < 2:
        return Markup("")
    top, bottom = 8.0, 78.0
    axis = TimeAxis(slots[0], slots[-1] + (slots[1] - slots[0]), _LEFT, _RIGHT)
    scale = _Scale(max(series.n, default=0), top, bottom)
    wide = (axis.right - axis.left) / len(slots)
    body = [scale.drawn(), axis.drawn(bottom, bottom)]
    for at, n in zip(slots, series.n, strict=True):
        if n:
            words = tip(f"{moment(at)}: {n:,} denied")
            body.append(
                element("rect", words, x=axis.x(at), y=scale.y(n), width=max(wide - 1, 0.8),
                        height=bottom - scale.y(n), class_="bar")
            )  # fmt: skip
    words = f"Denied requests over time, {plural(sum(series.n), 'request')}"
    return picture(words, bottom + 22, "".join(body))


def heat(hours: Sequence[Series], slots: Sequence[datetime]) -> Markup:
    """A row a series, a column an hour (or a slot), darker where more happened."""
    rows = [series for series in hours if series.n][:24]
    if not rows:
        return Markup("")
    left, high, top = 110.0, 22.0, 4.0
    columns = max(len(series.n) for series in rows)
    wide = (WIDTH - 4 - left) / columns
    names = _hour_names(columns, slots)
    body = []
    for number, series in enumerate(rows):
        y, most = top + number * high, max(series.n) or 1
        if columns == 24:  # a day each: one scale, so that days compare
            most = max(max(row.n) for row in rows) or 1
        body.append(label(series.label, left - 8, y + high * 0.66, "name", anchor="end", cap=16))
        for column, n in enumerate(series.n):
            words = tip(f"{series.label} {names[column]}: {n:,}")
            # Square root: people's quiet hours must differ from no hours at all.
            strength = 0 if n == 0 else 0.08 + 0.92 * (n / most) ** 0.5
            body.append(
                element("rect", words, x=left + column * wide, y=y, width=max(wide - 1, 0.5),
                        height=high - 2, class_="heat" if n else "heat none",
                        fill_opacity=f"{strength:.2f}")
            )  # fmt: skip
    bottom = top + len(rows) * high
    every = max(columns // 6 if columns > 24 else 3, 1)
    body.extend(
        label(names[column], left + column * wide, bottom + 14, "tick")
        for column in range(0, columns, every)
    )
    return picture("When people and machines were active, by hour", bottom + 20, "".join(body))


def share(part: float, class_: str = "share") -> Markup:
    """A bar for a table cell; the number beside it says the same."""
    wide = max(0.0, min(part, 1.0)) * 100
    filled = element("rect", width=max(wide, 0.6 if part > 0 else 0), height=8, class_="fill")
    track = element("rect", width=100, height=8, class_="track")
    return Markup(
        element("svg", track + filled, viewBox="0 0 100 8", preserveAspectRatio="none",
                aria_hidden="true", class_=class_)
    )  # fmt: skip


def class_colour(name: str) -> str:
    """The CSS class of a principal class; anything else shares one."""
    return f"of-{name}" if name in CLASSES else "of-other"


class _Scale:
    """Counts on rows: nothing at ``bottom``, a round number near ``top``."""

    def __init__(self, most: int, top: float, bottom: float) -> None:
        self.most, self.top, self.bottom = max(most, 1), top, bottom

    def y(self, n: float) -> float:
        return self.bottom - n / self.most * (self.bottom - self.top)

    def drawn(self) -> str:
        magnitude = 10 ** (len(str(self.most)) - 1)
        step = next(s for s in (1, 2, 5, 10) if self.most / (s * magnitude) <= 4) * magnitude
        lines = []
        for n in range(0, self.most + 1, max(step, 1)):
            y = self.y(n)
            lines.append(element("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y, class_="grid"))
            lines.append(label(compact(n), _LEFT - 6, y + 4, "tick", anchor="end"))
        return "".join(lines)


def _band(edges: Sequence[str], scale: _Scale, floor: Sequence[int], roof: Sequence[int]) -> str:
    """The steps between two lines over the slots' ``edges``, as one path."""
    over = "".join(f"V{scale.y(n):.1f}H{edges[i + 1]}" for i, n in enumerate(roof))
    back = "".join(f"V{scale.y(floor[i]):.1f}H{edges[i]}" for i in reversed(range(len(floor))))
    return f"M{edges[0]} {scale.bottom:.1f}{over}{back}Z"


def _markers(axis: TimeAxis, incidents: Sequence[Incident], top: float, bottom: float) -> list[str]:
    """A numbered flag for each of the first incidents; one that would cover another moves aside,
    and none leaves the picture."""
    ranked = sorted(enumerate(incidents[:FLAGS], 1), key=lambda pair: utc(pair[1].opened_at))
    middles: list[float] = []
    for _, incident in ranked:
        free = middles[-1] + _FLAG if middles else _LEFT + 10.0
        middles.append(max(axis.x(incident.opened_at), free))
    for back, at in enumerate(reversed(range(len(middles)))):
        middles[at] = min(middles[at], axis.right - 10 - back * _FLAG)
    flags = []
    for (rank, incident), middle in zip(ranked, middles, strict=True):
        x = axis.x(incident.opened_at)
        stem = element("path", d=f"M{middle:.1f} 20L{x:.1f} {top:.1f}V{bottom:.1f}", class_="stem")
        disc = element("circle", cx=middle, cy=11, r=9.5)
        words = tip(f"Incident {rank}, {incident.severity}: {incident.title}")
        flag = words + stem + disc + label(str(rank), middle, 15, "rank", anchor="middle")
        group = element("g", flag, class_=f"flag {incident.severity}")
        flags.append(element("a", group, href=f"#incident-{rank}"))
    return flags


def _stacked_order(volume: Sequence[Series]) -> list[Series]:
    known = {name: number for number, name in enumerate(CLASSES)}
    return sorted(volume, key=lambda series: known.get(series.label, -1))


def _fewer(
    slots: Sequence[datetime], series: Sequence[Series]
) -> tuple[Sequence[datetime], list[Series]]:
    """Neighbouring slots summed until a chart can hold them."""
    every = -(-len(slots) // _MOST_SLOTS) or 1
    if every == 1:
        return slots, list(series)
    starts = range(0, len(slots), every)
    return [slots[i] for i in starts], [
        Series(s.label, tuple(sum(s.n[i : i + every]) for i in starts)) for s in series
    ]


def _hour_names(columns: int, slots: Sequence[datetime]) -> list[str]:
    if columns == 24:
        return [f"{hour:02}:00" for hour in range(24)]
    if columns == len(slots):
        return [moment(at) for at in slots]
    if columns == 168:
        monday = datetime(2024, 1, 1)  # noqa: DTZ001  (only its weekday is shown)
        return [f"{monday + timedelta(hours=i):%a %H:%M}" for i in range(columns)]
    return list(accumulate(["1"] * columns, lambda before, _: str(int(before) + 1)))
