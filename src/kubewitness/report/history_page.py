"""The history of an object as one HTML page, in the style of the report."""

from __future__ import annotations

from markupsafe import Markup

from kubewitness import __version__
from kubewitness.forensics.objects.model import History
from kubewitness.report import history_wording, html
from kubewitness.report.lifelines import lifelines

ROWS = 300
"""Changes told in full, the latest; the others are in the picture and in ``-o json``."""
FIELDS = 12


def history_page(found: History) -> str:
    """What ``kubewitness history --report`` writes."""
    several = list(history_wording.runs(found.changes))
    return (
        html.environment()
        .get_template("history.html.j2")
        .render(
            title=f"History of {history_wording.title(found.subject)}",
            found=found,
            runs=several[-ROWS:],
            earlier=max(0, len(several) - ROWS),
            picture=lifelines(found),
            telling=history_wording,
            most=FIELDS,
            style=Markup("".join(map(_read, ("report.css", "history.css")))),
            version=__version__,
        )
    )


def _read(style: str) -> str:
    return (html.TEMPLATES / style).read_text(encoding="utf-8")
