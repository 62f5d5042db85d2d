"""``kubewitness sinks``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kubewitness.cli import streams

if TYPE_CHECKING:
    from kubewitness.config import settings


def _named(command: Callable[..., Any]) -> Callable[..., Any]:
    """NAME and the file that has it."""
    return click.argument("name")(
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            metavar="FILE",
            required=True,
            help="The configuration of the service.",
        )(command)
    )


@click.group()
def sinks() -> None:
    """Try out where incidents are sent to."""


@sinks.command()
@_named
def test(name: str, config: Path) -> None:
    """Send a test alert to the sink NAME, as complete as a real one and marked as a test."""
    import asyncio
    from datetime import UTC, datetime

    from kubewitness.sinks.sink import sink
    from kubewitness.sinks.trial import trial

    known, wanted = _wanted(name, config)
    with streams.stdout():
        asyncio.run(sink(wanted).send(trial(datetime.now(UTC), _cluster(known))))
    click.echo(f"The sink {name} has taken the test alert.", err=True)


@sinks.command()
@_named
@click.option(
    "--incident",
    "identity",
    metavar="ID",
    help="This incident of the last analysis, instead of the test alert.",
)
@click.option(
    "--lake",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The lake whose last analysis is meant; without it, the last analysis of all.",
)
def show(name: str, config: Path, identity: str | None, lake: Path | None) -> None:
    """Show what would be sent to the sink NAME, with secrets hidden; nothing is sent."""
    from datetime import UTC, datetime

    from kubewitness.cli.incident import known_incident
    from kubewitness.sinks.sink import Notice, sink
    from kubewitness.sinks.trial import trial

    if lake is not None and identity is None:
        raise click.UsageError("--lake says where --incident ID is from")
    known, wanted = _wanted(name, config)
    if identity is None:
        notice = trial(datetime.now(UTC), _cluster(known))
    else:
        notice = Notice(kind="opened", incident=known_incident(identity, lake), revision=1)
    told = sink(wanted).show(notice)
    with streams.stdout():
        click.echo(told, nl=False)


def _wanted(name: str, config: Path) -> tuple[settings.Settings, settings.Sink]:
    from kubewitness.config.reading import read
    from kubewitness.errors import KubewitnessError

    known = read(config, environment=os.environ, overrides={})
    for wanted in known.sinks:
        if wanted.name == name:
            return known, wanted
    names = ", ".join(one.name for one in known.sinks)
    raise KubewitnessError(
        f"there is no sink {name!r}",
        where=str(config),
        remedy=f"there are: {names}" if names else "it has no sinks",
    )


def _cluster(known: settings.Settings) -> str:
    return known.clusters[0].name if known.clusters else "example"
