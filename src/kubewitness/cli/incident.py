"""``kubewitness incident``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams


@click.command()
@click.argument("identity", metavar="ID")
@click.option(
    "--lake",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The lake whose last analysis is meant; without it, the last analysis of all.",
)
@click.option("-o", "--output", type=click.Choice(("json", "yaml", "jsonl")), help="Data.")
def incident(identity: str, lake: Path | None, output: str | None) -> None:
    """Everything about one incident of the last analysis; the beginning of its ID is enough."""
    from kubewitness.cli.analyze import last_analysis
    from kubewitness.report import exports, kept
    from kubewitness.report.terminal.incident import incident_detail

    path = lake / "analysis.json" if lake else last_analysis()
    if path is None:
        raise click.UsageError("without a home directory, say with --lake which analysis is meant")
    found = kept.named(kept.recall(path), identity, path)
    with streams.data() as console:
        if output:
            exports.write([found], output, sys.stdout.buffer)
        else:
            incident_detail(found, console)
