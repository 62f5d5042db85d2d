"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kubewitness.times import Moment, moment


class Time(click.ParamType[Any]):
    """A point in time; see ``kubewitness.times.moment``."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Moment:
        if isinstance(value, Moment):
            return value
        try:
            return moment(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """PATH... and the options of everything that reads logs."""
    for decorate in reversed(
        (
            click.argument("paths", nargs=-1, metavar="PATH..."),
            click.option("--cluster", metavar="NAME", help="Name of the cluster the logs are of."),
            click.option(
                "--lake",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="Keep events here as Parquet; what it holds already is history.",
            ),
            click.option(
                "--strict", is_flag=True, help="Fail if any line is not an audit event (exit 1)."
            ),
        )
    ):
        command = decorate(command)
    return command


def asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """PATH... and the options of every question to a log."""
    for decorate in reversed(
        (
            reading,
            click.option("-n", "--namespace", default="", metavar="NS", help="Of the object."),
            click.option(
                "--report",
                type=click.Path(path_type=Path, dir_okay=False),
                metavar="FILE.html",
                help="Also write one self-contained HTML page.",
            ),
            click.option("-o", "--output", type=click.Choice(("json", "yaml")), help="Data."),
        )
    ):
        command = decorate(command)
    return command


def require_input(paths: tuple[str, ...], lake: Path | None) -> None:
    """At least something to read."""
    if not paths and lake is None:
        raise click.UsageError("give a PATH to read ('-' for standard input), or a --lake")
