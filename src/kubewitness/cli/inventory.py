"""``kubewitness inventory``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, answering, reading, require_input
from kubewitness.times import Moment


@click.command()
@reading
@click.option("-n", "--namespace", metavar="NAME", help="Only this one.")
@answering
@click.option("--at", type=Time(), help="The time that is meant; without it, the end of the log.")
@click.option(
    "--where",
    metavar="CONDITION",
    help="Only workloads like that: 'image~postgres and namespace=shop'. Without --at: when each of"
    " them was like that.",
)
def inventory(
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    output: str,
    at: Moment | None,
    where: str | None,
) -> None:
    """What ran at a time: pods and workload controllers, with what they run and mount."""
    require_input(paths, lake)
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.forensics.objects import finding
    from kubewitness.forensics.objects import inventory as forensics
    from kubewitness.report import exports
    from kubewitness.report.terminal import objects

    condition = forensics.where(where or "")
    with (
        reading_progress(paths) as progress,
        library.opened(
            paths,
            lake=lake,
            cluster=cluster,
            strict=strict,
            bodies=True,
            stdin=sys.stdin.buffer,
            progress=progress,
        ) as (_, connection, _intake),
    ):
        last = finding.last_event(connection)
        home = {"cluster": cluster, "namespace": namespace}
        if where and at is None:
            over = forensics.holdings(connection, condition, **home)
        else:
            then = at.at(last) if at else last
            there = forensics.inventory(connection, then, condition=condition, **home)
    with streams.data() as console:
        if where and at is None:
            if output == "table":
                objects.holdings_report(over, console)
            else:
                exports.write_document("Holdings", over, output, sys.stdout.buffer)
        elif output == "table":
            objects.inventory_report(there, console)
        else:
            exports.write_document("Inventory", there, output, sys.stdout.buffer)
