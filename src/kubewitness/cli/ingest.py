"""``kubewitness ingest``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import reading


@click.command()
@reading
def ingest(paths: tuple[str, ...], cluster: str | None, lake: Path | None, strict: bool) -> None:
    """Add audit logs to a lake; what it holds already is not added again."""
    if lake is None:
        raise click.UsageError("say where the lake is with --lake DIR")
    if not paths:
        raise click.UsageError("give a PATH to read ('-' for standard input)")
    from kubewitness.cli.progress import reading_progress
    from kubewitness.inquiry import opened
    from kubewitness.report.terminal.period import intake_report

    with (
        reading_progress(paths) as progress,
        opened(
            paths,
            lake=lake,
            cluster=cluster,
            strict=strict,
            stdin=sys.stdin.buffer,
            progress=progress,
        ) as (home, _, intake),
    ):
        parts = len(home.parts())
    with streams.talk() as console:
        intake_report(intake, console)
        click.echo(
            f"{intake.added:,} events added, {intake.duplicates:,} were there already; the lake has"
            f" {parts:,} part{'s' if parts != 1 else ''}",
            err=True,
        )
