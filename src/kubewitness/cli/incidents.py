"""``kubewitness incidents``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.analyze import FORMATS
from kubewitness.cli.options import Time, service_options, service_state
from kubewitness.times import Moment


@click.command()
@service_options
@click.option("--cluster", metavar="NAME", help="Only those of this cluster.")
@click.option(
    "--since",
    type=Time(),
    help="Only those that went on after this time (a date, an RFC 3339 time, or a duration that"
    " counts back from now).",
)
@click.option("--all", "everything", is_flag=True, help="Also those that became part of others.")
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", help="Their form.")
@click.option("--no-headers", is_flag=True, help="No column names in -o table and -o wide.")
def incidents(
    data: Path | None,
    state: str,
    cluster: str | None,
    since: Moment | None,
    everything: bool,
    output: str,
    no_headers: bool,
) -> None:
    """List the incidents of a running 'kubewitness serve', alerts first."""
    from kubewitness.report import exports
    from kubewitness.report.terminal.listing import incidents_table

    now = datetime.now(UTC)
    with service_state(data, state) as opened:
        found = opened.incidents(cluster, since=since.at(now) if since else None, merged=everything)
    with streams.data() as console:
        if output not in ("table", "wide"):
            exports.write(found, output, sys.stdout.buffer)
        elif found:
            wide, headers = output == "wide", not no_headers
            incidents_table(found, console, wide=wide, now=now, headers=headers)
    if not found:
        click.echo("No incidents found.", err=True)
