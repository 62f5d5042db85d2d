"""Evaluations in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from kubewitness.evaluate.evaluation import Evaluation
from kubewitness.evaluate.results import grids
from kubewitness.report.inert import plain
from kubewitness.report.terminal.layout import columns, heading, prose, show

PIPED = 160
"""Columns where nobody looks: wide enough for every table."""


def tables(evaluations: Sequence[Evaluation], console: Console | None = None) -> None:
    """One borderless table a grid, and what was missed."""
    out = console or Console()
    if not out.is_terminal:
        out.width = PIPED
    for grid in grids(evaluations):
        heading(out, plain(grid.title))
        if grid.note:
            show(out, prose(plain(grid.note, 600), out, indent=2), Text())
        # Numbers are narrow: their headers stand on several lines.
        header = [grid.header[0], *(name.replace(" ", "\n") for name in grid.header[1:])]
        rows = [[Text(plain(value)) for value in row] for row in grid.rows]
        show(out, columns(header, rows, right=range(1, len(header))))
    for evaluation in evaluations:
        if evaluation.product.missed:
            heading(out, f"Missed in {plain(evaluation.dataset)}")
            for missed in evaluation.product.missed:
                show(out, prose(plain(missed), out, indent=2))
