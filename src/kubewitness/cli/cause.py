"""``kubewitness cause``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, answering, page_option, reading, require_input
from kubewitness.cli.page import require_writable, write_page
from kubewitness.times import Moment

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from kubewitness.forensics.causes.graph import Chain


@click.command()
@click.argument("subject", metavar="KIND/NAME|AUDITID|INCIDENT")
@reading
@click.option("-n", "--namespace", metavar="NAME", help="The object's namespace.")
@click.option("--at", type=Time(), help="As it was then (default: at the end of the log).")
@page_option
@answering
def cause(
    subject: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    at: Moment | None,
    report: Path | None,
    output: str | None,
) -> None:
    """The causal chain back to who began it.

    An object (pod/web-0), a request by its auditID, or an incident of the last analysis by its ID;
    of a log (PATH) or of a lake.
    """
    if report is not None:
        require_writable(report)
    from kubewitness.cli.question import answer, known_incident

    incident = None if "/" in subject else known_incident(subject, paths, lake)
    if incident is not None and incident.cause is not None:
        from kubewitness.forensics.causes.subject import timeless

        timeless("an incident", at)
        found = incident.cause
    else:
        require_input(paths, lake)
        from kubewitness.forensics.causes.chain import cause_of
        from kubewitness.forensics.causes.record import Record

        def asked(connection: DuckDBPyConnection) -> Chain:
            record = Record(connection, cluster=cluster)
            until = at.at(record.bounds[1]) if at and record.bounds else None
            return cause_of(record, subject, namespace or "", until)

        found = answer(asked, paths, cluster=cluster, lake=lake, strict=strict)
    from kubewitness.report import exports
    from kubewitness.report.terminal import causes

    if report is not None:
        from kubewitness.report import causes_page

        write_page(report, causes_page.chain_page(found))
    with streams.data() as console:
        if output:
            exports.write_document(found, output, sys.stdout.buffer, kind="CauseChain")
        else:
            causes.chain_report(found, console)
