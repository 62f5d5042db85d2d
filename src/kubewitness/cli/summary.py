"""``kubewitness summary``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, reading, require_input
from kubewitness.times import Moment


@click.command()
@reading
@click.option("--until", type=Time(), help="Leave out everything from here on.")
@click.option("-o", "--output", type=click.Choice(("json", "yaml")), help="Data, not a report.")
def summary(
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    until: Moment | None,
    output: str | None,
) -> None:
    """Trends, statistics and coverage of audit logs, without judging anybody."""
    require_input(paths, lake)
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.report import exports
    from kubewitness.report.terminal.period import intake_report, summary_report

    with reading_progress(paths) as progress:
        found, intake = library.summarize(
            paths,
            lake=lake,
            cluster=cluster,
            until=until,
            strict=strict,
            stdin=sys.stdin.buffer,
            progress=progress,
        )
    with streams.data() as console:
        if output:
            exports.write(found, output, sys.stdout.buffer)
        else:
            summary_report(found, intake, console)
    if output:
        with streams.talk() as console:
            if intake.skipped or intake.broken or intake.warnings:
                intake_report(intake, console)
