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
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.report import terminal

    with reading_progress(paths) as progress:
        found, intake = library.ask(
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
        with streams.talk() as console:
            terminal.intake_report(intake, console)
    return found
