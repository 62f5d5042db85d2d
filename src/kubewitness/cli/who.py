"""``kubewitness who``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, reading, require_input, snapshot_option
from kubewitness.times import Moment


@click.command()
@click.argument("reference", metavar="KIND/NAME")
@reading
@click.option("-n", "--namespace", metavar="NAME", help="The object's namespace.")
@click.option(
    "--since", type=Time(), help="Tell of touches from here on; what was before is usual."
)
@click.option("--until", type=Time(), help="Leave out everything from here on.")
@snapshot_option
@click.option(
    "-o", "--output", type=click.Choice(("table", "json", "yaml")), help="Data, not a report."
)
def who(
    reference: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    since: Moment | None,
    until: Moment | None,
    rbac: Path | None,
    output: str | None,
) -> None:
    """Who touched an object, was that usual, by which binding, and who could have."""
    require_input(paths, lake)
    from kubewitness.cli.question import answer
    from kubewitness.forensics.rbac import who as forensics
    from kubewitness.report import exports
    from kubewitness.report.terminal.listing import who_table
    from kubewitness.report.terminal.who import who_report

    found = answer(
        lambda connection: forensics.who(
            connection, reference, namespace=namespace, since=since, snapshot=rbac
        ),
        paths,
        cluster=cluster,
        lake=lake,
        strict=strict,
        until=until,
    )
    with streams.data() as console:
        if output == "table":
            who_table(found, console)
        elif output:
            exports.write_document(found, output, sys.stdout.buffer)
        else:
            who_report(found, console)
