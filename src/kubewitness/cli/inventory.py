"""``kubewitness inventory``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, answering, reading, require_input
from kubewitness.times import Moment

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from kubewitness.forensics.objects.model import Inventory


@click.command()
@reading
@click.option("-n", "--namespace", metavar="NAME", help="Only this one.")
@answering
@click.option("--at", type=Time(), help="The time that is meant; without it, the end of the log.")
@click.option(
    "--where",
    metavar="CONDITION",
    help="Only workloads like that: 'image ~ postgres and namespace = shop'. Without --at: when"
    " each of them was like that.",
)
def inventory(
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    output: str | None,
    at: Moment | None,
    where: str | None,
) -> None:
    """What ran at a time: pods and workload controllers, with what they run and mount."""
    require_input(paths, lake)
    from kubewitness.cli.question import answer
    from kubewitness.forensics.objects import condition as conditions
    from kubewitness.forensics.objects import inventory as forensics
    from kubewitness.forensics.objects.model import Holdings
    from kubewitness.forensics.target import last_event
    from kubewitness.report import exports
    from kubewitness.report.terminal import objects

    condition = conditions.where(where or "")

    def asked(connection: DuckDBPyConnection) -> Holdings | Inventory:
        last = last_event(connection)
        if where and at is None:
            return forensics.holdings(connection, condition, cluster=cluster, namespace=namespace)
        return forensics.inventory(
            connection,
            at.at(last) if at else last,
            condition=condition,
            cluster=cluster,
            namespace=namespace,
        )

    found = answer(asked, paths, cluster=cluster, lake=lake, strict=strict)
    with streams.data() as console:
        if output:
            exports.write_document(found, output, sys.stdout.buffer)
        elif isinstance(found, Holdings):
            objects.holdings_report(found, console)
        else:
            objects.inventory_report(found, console)
