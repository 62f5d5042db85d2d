"""The measured figures in the documentation: written by this module, never by hand.

A file takes part by having the two marks; what stands between them is replaced.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from kubewitness import __version__
from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.baselines import SEEDS
from kubewitness.evaluate.evaluation import Evaluation
from kubewitness.evaluate.results import Grid, grids, summary
from kubewitness.report.inert import plain

BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"


def short(evaluations: Sequence[Evaluation], measured: date) -> str:
    """One table and where it comes from, for a README."""
    return "\n\n".join((markdown(summary(evaluations)), provenance(evaluations, measured)))


def full(evaluations: Sequence[Evaluation], measured: date) -> str:
    """Every table, for the page on evaluation."""
    parts = [provenance(evaluations, measured)]
    for grid in grids(evaluations):
        parts.append(f"### {plain(grid.title)}")
        if grid.note:
            parts.append(plain(grid.note, 600))
        parts.append(markdown(grid))
    return "\n\n".join(parts)


def markdown(grid: Grid) -> str:
    """A Markdown table; a dash heads what is counted.

    >>> print(markdown(Grid("", ("Method", "recall"), (("a|b", "0.5"),))))
    | Method | recall |
    | --- | ---: |
    | a\\|b | 0.5 |
    """
    rule = ["---", *("---:" for _ in grid.header[1:])]
    lines = [grid.header, rule, *grid.rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def provenance(evaluations: Sequence[Evaluation], measured: date) -> str:
    """What was measured, when, by which version, on what kind of machine."""
    names = ", ".join(plain(evaluation.dataset) for evaluation in evaluations)
    return (
        f"Measured on {measured.isoformat()} by `bench/evaluate.py` on {names}: kubewitness"
        f" {__version__}, Python {platform.python_version()}, {platform.system()}"
        f" {platform.machine()}, {os.cpu_count()} cores; where there is chance, the mean of seeds"
        f" 0 to {SEEDS - 1} and, after ±, how far the farthest lies from it."
    )


def rewrite(path: Path, block: str) -> bool:
    """Replace what stands between the marks of ``path``; False where there are none.

    Raises ``KubewitnessError`` when only one of the marks is there: rewriting would lose text.
    """
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text and END not in text:
        return False
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise KubewitnessError(
            "the marks of the figures are no pair",
            where=str(path),
            remedy=f"put both {BEGIN} and {END} into it, in this order",
        )
    path.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}", encoding="utf-8")
    return True


def _cell(value: str) -> str:
    return value if set(value) <= {"-", ":"} else plain(value).replace("|", "\\|")
