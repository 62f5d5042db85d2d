"""``kubewitness analyze``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, page_option, reading, require_input
from kubewitness.cli.page import require_writable, write_page
from kubewitness.incidents.model import SEVERITIES, Severity
from kubewitness.times import Moment

if TYPE_CHECKING:
    from kubewitness.report.model import Analysis

FAIL_ON = 3
FORMATS = ("table", "wide", "json", "yaml", "jsonl", "ocsf", "name")


@click.command()
@reading
@click.option(
    "--since",
    type=Time(),
    help="Judge what happens from here on, by what happened before (a date, an RFC 3339 time, or"
    " a duration counted back from the last event). Without it the whole log is judged.",
)
@click.option("--until", type=Time(), help="Leave out everything from here on.")
@page_option
@click.option("-o", "--output", type=click.Choice(FORMATS), help="Data instead of a report.")
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    help=f"Exit {FAIL_ON} if an alerting incident is at least this severe.",
)
@click.option("--no-headers", is_flag=True, help="No column names in -o table and -o wide.")
def analyze(
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    since: Moment | None,
    until: Moment | None,
    report: Path | None,
    output: str | None,
    fail_on: Severity | None,
    no_headers: bool,
) -> None:
    """Read audit logs and report ranked, explained incidents.

    PATH is a file, a directory, a glob or '-' (standard input); any of the known formats,
    compressed or not.
    """
    require_input(paths, lake)
    if report is not None:
        require_writable(report)
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.report import exports, html
    from kubewitness.report.terminal import analysis as terminal

    with reading_progress(paths) as progress:
        found = library.analyze(
            paths,
            lake=lake,
            cluster=cluster,
            since=since,
            until=until,
            strict=strict,
            stdin=sys.stdin.buffer,
            progress=progress,
        )
    # First what has to last: whoever reads stdout may stop at any line.
    _keep(found, lake)
    if report is not None:
        write_page(report, html.render(found))
    with streams.data() as console:
        if output in ("table", "wide"):
            everything = (*found.incidents, *found.queue)
            if everything:
                terminal.incidents_table(
                    everything,
                    console,
                    wide=output == "wide",
                    now=found.summary.end,
                    headers=not no_headers,
                )
        elif output:
            exports.write(found, output, sys.stdout.buffer)
        else:
            terminal.analysis_report(found, console)
    if output:
        _tell(found)
    if fail_on and any(
        SEVERITIES.index(incident.severity) >= SEVERITIES.index(fail_on)
        for incident in found.incidents
    ):
        sys.exit(FAIL_ON)


def _tell(found: Analysis) -> None:
    """What a report has in it and data has not: what was wrong with the input, and no incidents."""
    from kubewitness.report.inert import plain
    from kubewitness.report.terminal import analysis as terminal

    with streams.talk() as console:
        intake = found.intake
        if intake.skipped or intake.broken or intake.warnings:
            terminal.intake_report(intake, console)
        for note in found.notes:
            click.echo(f"Note: {plain(note, 600)}", err=True)
        if not found.incidents and not found.queue:
            click.echo("No incidents found.", err=True)


def _keep(found: Analysis, lake: Path | None) -> None:
    """For ``kubewitness incident``; an analysis is worth as much where nothing can be kept."""
    from kubewitness.report.kept import save

    for path in (last_analysis(), lake / "analysis.json" if lake else None):
        if path is None:
            continue
        try:
            save(found, path)
        except OSError as error:
            click.echo(
                f"kubewitness: {path}: not kept for 'kubewitness incident': {error.strerror}",
                err=True,
            )


def last_analysis() -> Path | None:
    """Where the last analysis is kept for ``kubewitness incident`` (XDG state directory)."""
    state = os.environ.get("XDG_STATE_HOME")
    if not state:
        try:
            state = str(Path.home() / ".local" / "state")
        except RuntimeError:  # nobody's home
            return None
    return Path(state) / "kubewitness" / "analysis.json"
