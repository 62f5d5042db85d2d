"""``kubewitness misconfigurations``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import service_options, service_state

FORMATS = ("report", "table", "json", "yaml", "jsonl")


@click.command()
@service_options
@click.option("--cluster", metavar="NAME", help="Only those of this cluster.")
@click.option("--all", "everything", is_flag=True, help="Also those that are gone.")
@click.option("-o", "--output", type=click.Choice(FORMATS), default="report", help="Their form.")
def misconfigurations(
    data: Path | None, state: str, cluster: str | None, everything: bool, output: str
) -> None:
    """What is refused again and again in the clusters of a running 'kubewitness serve', and the
    fix."""
    from kubewitness.report import exports
    from kubewitness.report.terminal import listing, misconfiguration

    with service_state(data, state) as opened:
        found = opened.misconfigurations(cluster, gone=everything)
    with streams.data() as console:
        if output == "table":
            listing.misconfigurations_table(found, console, now=datetime.now(UTC))
        elif output != "report":
            exports.write_misconfigurations(found, output, sys.stdout.buffer)
        elif found:
            misconfiguration.misconfigurations_report(found, console)
    if not found:
        click.echo("No misconfigurations found.", err=True)
