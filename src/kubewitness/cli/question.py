"""Questions about the past: reading what they are asked of, and telling what could not be read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kubewitness.cli import streams
from kubewitness.times import Moment

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from kubewitness.incidents.model import Incident

_Found = TypeVar("_Found")


def answer(
    question: Callable[[DuckDBPyConnection], _Found],
    paths: tuple[str, ...],
    *,
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    until: Moment | None = None,
    bodies: bool = True,
) -> _Found:
    """The answer of the log behind ``paths`` or ``lake``; what was not understood is told."""
    from kubewitness.cli.progress import reading_progress
    from kubewitness.inquiry import ask

    with reading_progress(paths) as progress:
        found, intake = ask(
            paths,
            question,
            lake=lake,
            cluster=cluster,
            until=until,
            strict=strict,
            bodies=bodies,
            stdin=sys.stdin.buffer,
            progress=progress,
        )
    if intake.skipped or intake.broken or intake.warnings:
        from kubewitness.report.terminal.period import intake_report

        with streams.talk() as console:
            intake_report(intake, console)
    return found


def known_incident(identity: str, paths: tuple[str, ...], lake: Path | None) -> Incident | None:
    """The incident of the last analysis whose ID begins so, if it is one and no log was named."""
    if paths:
        return None
    from kubewitness.cli.analyze import last_analysis
    from kubewitness.errors import KubewitnessError
    from kubewitness.report import kept

    path = lake / "analysis.json" if lake else last_analysis()
    if path is None or len(identity.removeprefix("incident/")) < kept.TELLING:
        return None
    try:
        return kept.named(kept.recall(path), identity, path)
    except KubewitnessError:
        return None
