"""``kubewitness diff``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, asking, require_input
from kubewitness.times import Moment

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from kubewitness.forensics.objects.model import Difference


@click.command()
@asking
@click.option("--from", "start", type=Time(), required=True, help="The earlier time.")
@click.option("--to", "end", type=Time(), help="The later one; without it, the end of the log.")
def diff(
    reference: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    output: str | None,
    start: Moment,
    end: Moment | None,
) -> None:
    """What changed about an object between two times, field by field."""
    require_input(paths, lake)
    from kubewitness.cli.question import answer
    from kubewitness.forensics import target as targets
    from kubewitness.forensics.objects.state import difference
    from kubewitness.report import exports
    from kubewitness.report.terminal import objects

    def asked(connection: DuckDBPyConnection) -> Difference:
        last = targets.last_event(connection)
        target = targets.find(connection, reference, namespace=namespace, cluster=cluster)
        return difference(connection, target, start.at(last), end.at(last) if end else last)

    found = answer(asked, paths, cluster=cluster, lake=lake, strict=strict)
    with streams.data() as console:
        if output:
            exports.write_document(found, output, sys.stdout.buffer)
        else:
            objects.difference_report(found, console)
