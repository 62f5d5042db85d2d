"""The report as one HTML file: no script, no request to anywhere, readable in ten years.

What a template prints is made inert by the environment itself (``finalize``), before it is
escaped: a template cannot forget it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kubewitness import __version__
from kubewitness.report import (
    causal_graph,
    causes_wording,
    charts,
    headline,
    inert,
    lanes,
    tactics,
    wording,
)

if TYPE_CHECKING:
    from kubewitness.report.model import Analysis

TEMPLATES = Path(__file__).with_name("templates")
CARDS, ROWS = 25, 12
"""Incidents told in full, and moments of each shown before the fold."""


def render(analysis: Analysis) -> str:
    """The page of an analysis."""
    page = environment().get_template("report.html.j2")
    return page.render(
        analysis=analysis,
        summary=analysis.summary,
        coverage=analysis.summary.coverage,
        intake=analysis.intake,
        cards=analysis.incidents[:CARDS],
        rest=(*analysis.incidents[CARDS:], *headline.further(analysis)),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        version=__version__,
        rows=ROWS,
        cap=CARDS,
    )


@cache
def environment() -> Environment:
    """The templates, whose every text from a log is made inert."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_inert,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("brief", "chance", "compact", "deed", "duration", "history", "moment", "percent",
                 "period", "plural", "principal", "rfc3339", "slices", "unremarkable"):  # fmt: skip
        environment.filters[name] = getattr(wording, name)
    environment.filters.update(cut=inert.plain, name=_breakable)
    environment.globals.update(words=causes_wording, graph=causal_graph.graph)
    environment.globals.update(charts=charts, headline=headline, lanes=lanes, tactics=tactics)
    return environment


def _breakable(text: str, cap: int) -> Markup:
    """An inert name that may break where a reader would break it."""
    return Markup(re.sub("([:/@])", r"\1<wbr>", inert.html(text, cap)))


def _inert(value: Any) -> Any:
    marked_up = hasattr(value, "__html__")
    return inert.plain(value, 2000) if isinstance(value, str) and not marked_up else value
