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
    from kubewitness.cli.question import answer
    from kubewitness.forensics.rbac import access as forensics
    from kubewitness.report import exports
    from kubewitness.report.terminal.access import access_report
    from kubewitness.report.terminal.listing import access_table

    found = answer(
        lambda connection: forensics.access(connection, principal, snapshot=rbac),
        paths,
        cluster=cluster,
        lake=lake,
        strict=strict,
        until=at,
    )
    with streams.data() as console:
        if output == "table":
            access_table(found, console)
        elif output == "role":
            exports.write_manifests(found.role, sys.stdout.buffer)
        elif output:
            exports.write_document(found, output, sys.stdout.buffer)
        else:
            access_report(found, console)
