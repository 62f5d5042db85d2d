"""A progress bar with rate and time left, on a terminal only; stdout stays data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubewitness.lake.ingest import Progress
    from kubewitness.sources.reading import Chunk


@contextmanager
def reading_progress(paths: tuple[str, ...]) -> Iterator[Progress]:
    """A callback for ``ingest``; shows nothing when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda chunk, rows: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    from kubewitness.report.inert import plain
    from kubewitness.sources.files import expand

    total = sum(_size(source.path) for source in expand(paths))
    with Bars(
        SpinnerColumn(),
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        task = bars.add_task("reading", total=total or None, events=0, rate=0.0)
        done: dict[str, int] = {}

        def advance(chunk: Chunk, rows: int) -> None:
            # A spooled chunk is a part of its source: what is read of it is not known exactly.
            size = chunk.path.stat().st_size if chunk.path.exists() else 0
            done[chunk.source] = done.get(chunk.source, 0) + size
            current = bars.tasks[task]
            events = current.fields["events"] + rows
            elapsed = current.elapsed or 0.0
            bars.update(
                task,
                description=plain(os.path.basename(chunk.source) or chunk.source),
                completed=min(total, sum(done.values())),
                events=events,
                rate=events / elapsed if elapsed else 0.0,
            )

        yield advance


def _size(path: object) -> int:
    try:
        return os.path.getsize(str(path)) if path is not None else 0
    except OSError:
        return 0
