"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kubewitness.times import Moment, moment

if TYPE_CHECKING:
    from kubewitness.state.database import State


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
    """KIND/NAME, its namespace and the form of the answer: what asks about one object."""
    for decorate in reversed(
        (
            click.argument("reference", metavar="KIND/NAME"),
            reading,
            click.option("-n", "--namespace", metavar="NAME", help="Its namespace."),
            answering,
        )
    ):
        command = decorate(command)
    return command


def answering(command: Callable[..., Any]) -> Callable[..., Any]:
    """``-o`` of the commands that answer a question."""
    return click.option(
        "-o", "--output", type=click.Choice(("json", "yaml")), help="Data, not a report."
    )(command)


def snapshot_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--rbac FILE``: what is bound, better than a log can tell."""
    return click.option(
        "--rbac",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        metavar="FILE",
        help="Roles and bindings as kubectl writes them (YAML or JSON), instead of those that the"
        " log shows.",
    )(command)


class _Setting(click.ParamType[Any]):
    """KEY=VALUE."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE, as listen.port=8443", param, ctx)
        return key.strip(), text


def overriding(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--set KEY=VALUE``: settings of the service, over those of its file and of variables."""
    return click.option(
        "--set",
        "overrides",
        type=_Setting(),
        multiple=True,
        callback=lambda _ctx, _param, pairs: dict(pairs),
        metavar="KEY=VALUE",
        help="A setting by its key, as listen.port=8443; wins over the file and over variables.",
    )(command)


def page_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--report FILE.html``: the answer as a page, too."""
    return click.option(
        "--report",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.html",
        help="Also write one self-contained HTML page.",
    )(command)


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--data`` and ``--state``: the service that is meant, as its configuration says it."""
    for decorate in reversed(
        (
            click.option(
                "--data",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                envvar="KUBEWITNESS_DATA",
                help="The data folder of the service.",
            ),
            click.option(
                "--state",
                metavar="URL",
                default="",
                envvar="KUBEWITNESS_STATE",
                help="Its database, where that is PostgreSQL.",
            ),
        )
    ):
        command = decorate(command)
    return command


def service_state(data: Path | None, url: str) -> State:
    """The state that ``service_options`` mean, for reading."""
    if data is None and not url:
        raise click.UsageError("say which service is meant: with --data, or with --state")
    from kubewitness.state.database import state_at

    return state_at(data or Path(), url, existing=True)


def require_input(paths: tuple[str, ...], lake: Path | None) -> None:
    """At least something to read."""
    if not paths and lake is None:
        raise click.UsageError("give a PATH to read ('-' for standard input), or a --lake")
