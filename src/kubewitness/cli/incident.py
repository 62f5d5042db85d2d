"""``kubewitness incident``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import service_options, service_state

if TYPE_CHECKING:
    from kubewitness.incidents.model import Incident


@click.command()
@click.argument("identity", metavar="ID")
@click.option(
    "--lake",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The lake whose last analysis is meant; without it, the last analysis of all.",
)
@service_options
@click.option("-o", "--output", type=click.Choice(("json", "yaml", "jsonl")), help="Data.")
def incident(
    identity: str, lake: Path | None, data: Path | None, state: str, output: str | None
) -> None:
    """Everything about one incident of the last analysis, or with --data or --state of a running
    service; the beginning of its ID is enough."""
    from kubewitness.report import exports
    from kubewitness.report.terminal.incident import incident_detail

    found = known_incident(identity, lake, data, state)
    with streams.data() as console:
        if output:
            exports.write([found], output, sys.stdout.buffer)
        else:
            incident_detail(found, console)


def known_incident(
    identity: str, lake: Path | None, data: Path | None = None, state: str = ""
) -> Incident:
    """The only known incident whose ID begins so. Raises ``KubewitnessError``."""
    from kubewitness.report import kept

    if lake or not (data or state):
        everything, where = _of_analysis(lake)
    else:
        everything, where = _of_service(data, state)
    return kept.only(everything, identity, where)


def _of_analysis(lake: Path | None) -> tuple[Sequence[Incident], str]:
    from kubewitness.cli.analyze import last_analysis
    from kubewitness.report import kept

    path = lake / "analysis.json" if lake else last_analysis()
    if path is None:
        raise click.UsageError("without a home directory, say with --lake which analysis is meant")
    known = kept.recall(path)
    return (*known.incidents, *known.queue), str(path)


def _of_service(data: Path | None, url: str) -> tuple[Sequence[Incident], str]:
    with service_state(data, url) as state:
        return state.incidents(merged=True), state.where
