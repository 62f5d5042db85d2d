"""``kubewitness incident``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams

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
@click.option("-o", "--output", type=click.Choice(("json", "yaml", "jsonl")), help="Data.")
def incident(identity: str, lake: Path | None, output: str | None) -> None:
    """Everything about one incident of the last analysis; the beginning of its ID is enough."""
    from kubewitness.report import exports, terminal

    found = known_incident(identity, lake)
    with streams.data() as console:
        if output:
            exports.write([found], output, sys.stdout.buffer)
        else:
            terminal.incident_detail(found, console)


def known_incident(identity: str, lake: Path | None) -> Incident:
    """The only incident of the last analysis whose ID begins so. Raises ``KubewitnessError``."""
    from kubewitness import analysis as library
    from kubewitness.cli.analyze import last_analysis
    from kubewitness.errors import KubewitnessError

    path = lake / "analysis.json" if lake else last_analysis()
    if path is None:
        raise click.UsageError("without a home directory, say with --lake which analysis is meant")
    known = library.recall(path)
    identity = identity.removeprefix("incident/")  # as -o name writes it
    everything = (*known.incidents, *known.queue)
    found = [one for one in everything if one.id.startswith(identity)]
    if len(found) != 1:
        what = "several incidents begin" if found else "no incident begins"
        names = ", ".join(one.id for one in (found or everything)[:8])
        raise KubewitnessError(
            f"{what} with {identity!r}",
            where=str(path),
            remedy=f"there are: {names}" if names else "the last analysis found none",
        )
    return found[0]
