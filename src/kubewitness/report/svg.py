"""The few SVG elements that charts are drawn with, and the time axis they share.

A chart is markup inside the page: no script, no request, and it prints. Colours are classes, so
that the page's light and dark palettes apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from markupsafe import Markup

from kubewitness.report.inert import html
from kubewitness.report.wording import utc

WIDTH = 960
LETTER = 6.8
"""About how wide a letter of a small label is, to keep labels apart."""
_STEPS = tuple(
    timedelta(seconds=s)
    for s in (1, 5, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
              172800, 604800, 1209600, 2592000, 7776000, 31536000)
)  # fmt: skip


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """An element around ``content``, which is markup; attribute values are escaped here.

    A trailing underscore is dropped and others become hyphens: ``class_``, ``text_anchor``.

    >>> element("rect", x=1.25, width=3, class_="a b")
    '<rect x="1.2" width="3" class="a b"/>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def label(
    text: str, x: float, y: float, class_: str = "", *, anchor: str = "start", cap: int = 60
) -> str:
    """A line of text, inert and at most ``cap`` letters long."""
    where: dict[str, str | float] = {"x": x, "y": y}
    if class_:
        where["class_"] = class_
    if anchor != "start":
        where["text_anchor"] = anchor
    return element("text", html(text, cap), **where)


def tip(text: str) -> str:
    """What a pointer or a screen reader gets told about the element around it."""
    return element("title", html(text, 300))


def picture(title: str, height: float, body: str, *, class_: str = "chart") -> Markup:
    """A whole chart, ``WIDTH`` wide; ``title`` says in words what it shows."""
    return Markup(
        element(
            "svg",
            tip(title) + body,
            viewBox=f"0 0 {WIDTH} {height:.0f}",
            role="img",
            aria_label=title,
            class_=class_,
        )
    )


class TimeAxis:
    """Times from ``start`` to ``end`` on columns from ``left`` to ``right``."""

    def __init__(self, start: datetime, end: datetime, left: float, right: float) -> None:
        self.start = utc(start)
        self.end = max(utc(end), self.start + timedelta(seconds=1))
        self.left, self.right = left, right

    def x(self, at: datetime) -> float:
        """The column of a time, kept inside the picture."""
        share = (utc(at) - self.start) / (self.end - self.start)
        return self.left + max(0.0, min(share, 1.0)) * (self.right - self.left)

    def ticks(self, most: int = 8) -> Iterator[tuple[float, str]]:
        """Round times and their names: days, or hours and minutes in a shorter period."""
        span = self.end - self.start
        step = next((s for s in _STEPS if span / s <= most), _STEPS[-1])
        epoch = datetime(2024, 1, 1, tzinfo=self.start.tzinfo)  # a Monday: weeks begin there
        at = epoch + -((epoch - self.start) // step) * step
        while at <= self.end:
            if at >= self.start:
                yield self.x(at), self._name(at, step)
            at += step

    def _name(self, at: datetime, step: timedelta) -> str:
        if step >= timedelta(days=30):
            return f"{at.day} {at:%b %Y}"
        if step >= timedelta(days=1):
            return f"{at:%a} {at.day} {at:%b}"
        clock = f"{at:%H:%M:%S}" if step < timedelta(minutes=1) else f"{at:%H:%M}"
        long = self.end - self.start > timedelta(days=1)
        return f"{at:%a} {at.day}" if long and at.hour == at.minute == 0 else clock

    def drawn(self, top: float, bottom: float, most: int = 8) -> str:
        """Grid lines from ``top`` to ``bottom`` and their names below, where there is room."""
        lines, free = [], self.left - 8
        for x, name in self.ticks(most):
            lines.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
            wide = len(name) * LETTER
            start = min(x, self.right - wide)
            if start > free:
                lines.append(label(name, start, bottom + 16, "tick"))
                free = start + wide + 12
        return "".join(lines)


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return html(value, 4_000_000)
    return f"{value:.1f}".removesuffix(".0")
