"""``kubewitness access``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, reading, require_input, snapshot_option
from kubewitness.times import Moment


@click.command()
@click.argument("principal")
@reading
@click.option("--at", type=Time(), help="As of this time; without it, as of the end of the log.")
@snapshot_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(("table", "json", "yaml", "role")),
    help="Data, not a report; role: manifests that cover what was used, for kubectl apply.",
)
def access(
    principal: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    at: Moment | None,
    rbac: Path | None,
    output: str | None,
) -> None:
    """What a principal is granted, what it used, what is dangerous, and the least role that does.

    PRINCIPAL is a username, or NAMESPACE/NAME of a service account.
    """
    require_input(paths, lake)
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.forensics.access import access as ask
    from kubewitness.report import exports
    from kubewitness.report.terminal.access import access_report
    from kubewitness.report.terminal.listing import access_table

    with (
        reading_progress(paths) as progress,
        library.asked(
            paths,
            lake=lake,
            cluster=cluster,
            until=at,
            strict=strict,
            stdin=sys.stdin.buffer,
            progress=progress,
        ) as connection,
    ):
        answer = ask(connection, principal, snapshot=rbac)
    with streams.data() as console:
        if output == "table":
            access_table(answer, console)
        elif output == "role":
            exports.write_manifests(answer.role, sys.stdout.buffer)
        elif output:
            exports.write(answer, output, sys.stdout.buffer)
        else:
            access_report(answer, console)
