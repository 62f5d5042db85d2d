"""``kubewitness config``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import answering, overriding


@click.group()
def config() -> None:
    """Check the settings of the service, or print a file to begin with."""


@config.command()
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, dir_okay=False), metavar="[FILE]"
)
@overriding
@answering
def check(file: Path | None, overrides: dict[str, str], output: str | None) -> None:
    """Say what is wrong with the settings, else which are in effect and where each was said.

    FILE, then variables KUBEWITNESS_*, then --set; what is said later wins. Exits with 1 if the
    settings cannot be taken.
    """
    from kubewitness.config.effective import effective, yaml_of
    from kubewitness.config.environment import FILE_VARIABLE
    from kubewitness.config.reading import configuration
    from kubewitness.report import exports
    from kubewitness.report.inert import plain

    if file is None and os.environ.get(FILE_VARIABLE):
        file = Path(os.environ[FILE_VARIABLE])
    found = configuration(file, environment=os.environ, overrides=overrides)
    for warning in found.warnings:
        for line in f"Warning: {warning}".splitlines():
            click.echo(plain(line, 1000), err=True)
    with streams.stdout():
        if output == "json":
            table, origins = effective(found.settings, found.origins)
            exports.write_plain({"settings": table, "origins": origins}, "json", sys.stdout.buffer)
        else:
            click.echo(yaml_of(found.settings, found.origins), nl=False)


@config.command()
def example() -> None:
    """Print a file to begin with, every key explained."""
    from importlib import resources

    text = resources.files("kubewitness.config").joinpath("example.yaml").read_text("utf-8")
    with streams.stdout():
        click.echo(text, nl=False)
