"""``kubewitness state``."""

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

    from kubewitness.forensics.objects.model import Snapshot


@click.command()
@asking
@click.option("--at", type=Time(), help="The time that is meant; without it, the end of the log.")
def state(
    reference: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    output: str | None,
    at: Moment | None,
) -> None:
    """An object as it was at a time, as far as the audit level lets anybody know.

    With -o yaml, the object as a manifest; what is not knowable is said in comments above it.
    """
    require_input(paths, lake)
    from kubewitness.cli.question import answer
    from kubewitness.forensics import target as targets
    from kubewitness.forensics.objects.state import snapshot
    from kubewitness.report import exports
    from kubewitness.report.terminal import objects

    def asked(connection: DuckDBPyConnection) -> Snapshot:
        last = targets.last_event(connection)
        target = targets.find(connection, reference, namespace=namespace, cluster=cluster)
        return snapshot(connection, target, at.at(last) if at else last)

    found = answer(asked, paths, cluster=cluster, lake=lake, strict=strict)
    with streams.data() as console:
        match output:
            case "yaml":
                exports.write_manifest(found, sys.stdout.buffer)
            case "json":
                exports.write_document(found, output, sys.stdout.buffer, kind="State")
            case _:
                objects.state_report(found, console)
