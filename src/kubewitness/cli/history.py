"""``kubewitness history``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, asking, page_option, require_input
from kubewitness.cli.page import require_writable, write_page
from kubewitness.times import Moment

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from kubewitness.forensics.objects.model import History

LIMIT = 100


@click.command()
@asking
@click.option("--since", type=Time(), help="Only what happened from here on.")
@click.option("--until", type=Time(), help="Only what happened until here.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=LIMIT,
    show_default=True,
    metavar="N",
    help="Only the latest N requests (0: all).",
)
@page_option
def history(
    reference: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    output: str | None,
    since: Moment | None,
    until: Moment | None,
    limit: int,
    report: Path | None,
) -> None:
    """Every change of an object: who, from where, with what, allowed by what, and what it changed.

    KIND is any name kubectl knows (deploy, pods, Secret, certificates.cert-manager.io).
    """
    require_input(paths, lake)
    if report is not None:
        require_writable(report)
    from kubewitness.cli.question import answer
    from kubewitness.forensics import target as targets
    from kubewitness.forensics.objects import history as forensics
    from kubewitness.report import exports
    from kubewitness.report.terminal import objects

    def asked(connection: DuckDBPyConnection) -> History:
        last = targets.last_event(connection)
        target = targets.find(connection, reference, namespace=namespace, cluster=cluster)
        return forensics.history(
            connection,
            target,
            since=since.at(last) if since else None,
            until=until.at(last) if until else None,
            limit=limit or None,
        )

    found = answer(asked, paths, cluster=cluster, lake=lake, strict=strict)
    if report is not None:
        from kubewitness.report.history_page import history_page

        write_page(report, history_page(found))
    with streams.data() as console:
        if output:
            exports.write_document(found, output, sys.stdout.buffer)
        else:
            objects.history_report(found, console)
    if found.more:
        click.echo("There are earlier ones: --limit 0 shows all.", err=True)
