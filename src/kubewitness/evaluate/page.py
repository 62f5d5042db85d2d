"""Evaluations as one HTML page that loads nothing, in the style of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kubewitness import __version__
from kubewitness.evaluate.calibration import Histogram
from kubewitness.evaluate.evaluation import Evaluation
from kubewitness.evaluate.results import grids
from kubewitness.report.html import TEMPLATES
from kubewitness.report.inert import plain
from kubewitness.report.svg import WIDTH, element, label, picture, tip

_COLUMNS = 4
_ROW = 96.0


def render(evaluations: Sequence[Evaluation]) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: plain(value, 2000) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        evaluations=evaluations,
        grids=grids(evaluations),
        histograms=histograms,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        version=__version__,
    )


def histograms(found: Sequence[Histogram]) -> Markup:
    """Small multiples, one a factor: the shares of p-values in 0…1, and the line they should
    follow. Columns higher than four times that line are cut."""
    wide = WIDTH / _COLUMNS
    body = []
    for number, histogram in enumerate(found):
        left, top = number % _COLUMNS * wide, number // _COLUMNS * _ROW
        body.append(_histogram(histogram, left, top + 20, wide - 16, _ROW - 36))
        body.append(label(histogram.factor, left, top + 13, cap=24))
    height = -(-len(found) // _COLUMNS) * _ROW
    return picture("Calibrated p-values of each factor on benign activity", height, "".join(body))


def _histogram(histogram: Histogram, left: float, top: float, wide: float, high: float) -> str:
    uniform = histogram.n / len(histogram.bins) or 1.0
    column = wide / len(histogram.bins)
    parts = []
    for place, n in enumerate(histogram.bins):
        tall = min(n / uniform / 4, 1.0) * high
        low = place / len(histogram.bins)
        words = tip(f"p from {low:.2f}: {n:,} of {histogram.n:,}")
        parts.append(
            element("rect", words, x=left + place * column, y=top + high - tall,
                    width=column - 1, height=tall, class_="bar")
        )  # fmt: skip
    line = top + high * 0.75
    parts.append(element("line", x1=left, x2=left + wide, y1=line, y2=line, class_="grid"))
    floor = top + high
    parts.append(element("line", x1=left, x2=left + wide, y1=floor, y2=floor, class_="grid"))
    return "".join(parts)
