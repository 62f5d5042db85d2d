"""``kubewitness analyze``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from kubewitness.cli.options import Time, reading, require_input
from kubewitness.incidents.model import SEVERITIES, Severity
from kubewitness.times import Moment

FAIL_ON = 3
FORMATS = ("table", "wide", "json", "yaml", "jsonl", "name")


@click.command()
@reading
@click.option(
    "--since",
    type=Time(),
    help="Judge what happens from here on, by what happened before (a date, an RFC 3339 time, or"
    " a duration counted back from the last event). Without it the whole log is judged.",
)
@click.option("--until", type=Time(), help="Leave out everything from here on.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Also write one self-contained HTML page.",
)
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
    from rich.console import Console

    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.report import exports, terminal

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
    library.save(found, last_analysis())
    # Before anything is printed: whoever reads our output may have seen enough (`| head`).
    if report is not None:
        _write_page(found, report)
    everything = (*found.incidents, *found.queue)
    if output in ("table", "wide"):
        terminal.incidents_table(
            everything,
            Console(),
            wide=output == "wide",
            now=found.summary.end,
            headers=not no_headers,
        )
    elif output:
        exports.write(found, output, sys.stdout.buffer)
    else:
        terminal.analysis_report(found, Console())
    if fail_on and any(
        SEVERITIES.index(incident.severity) >= SEVERITIES.index(fail_on)
        for incident in found.incidents
    ):
        sys.exit(FAIL_ON)


def last_analysis() -> Path:
    """Where the last analysis is kept for ``kubewitness incident`` (XDG state directory)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "kubewitness" / "analysis.json"


def _write_page(found: object, path: Path) -> None:
    from kubewitness.errors import KubewitnessError
    from kubewitness.report import html
    from kubewitness.report.model import Analysis

    assert isinstance(found, Analysis)
    try:
        path.write_text(html.render(found), encoding="utf-8")
    except OSError as error:
        raise KubewitnessError(
            f"the report cannot be written: {error.strerror}",
            where=str(path),
            remedy="choose another file with --report",
        ) from error
