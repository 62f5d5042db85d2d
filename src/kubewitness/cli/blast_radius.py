"""``kubewitness blast-radius``."""

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

    from kubewitness.forensics.causes.graph import Reach


@click.command("blast-radius")
@click.argument("subject", metavar="PRINCIPAL|CREDENTIAL|AUDITID|KIND/NAME|INCIDENT")
@reading
@click.option("-n", "--namespace", metavar="NAME", help="The object's namespace.")
@click.option("--since", type=Time(), help="Only what began at or after this time.")
@click.option("--until", type=Time(), help="Only what began before this time.")
@page_option
@answering
def blast_radius(
    subject: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    since: Moment | None,
    until: Moment | None,
    report: Path | None,
    output: str | None,
) -> None:
    """What a principal, credential, request or change touched and caused.

    A principal as the API server spells it, a credential id (JTI=…, X509SHA256=…), a request by its
    auditID, an object (deploy/web), or an incident of the last analysis by its ID.
    """
    if report is not None:
        require_writable(report)
    from kubewitness.cli.question import answer, known_incident

    incident = None if "/" in subject else known_incident(subject, paths, lake)
    if incident is not None and incident.reach is not None:
        from kubewitness.forensics.causes.subject import timeless

        timeless("an incident", since, until)
        found = incident.reach
    else:
        require_input(paths, lake)
        from kubewitness.forensics.causes.reach import reach_of
        from kubewitness.forensics.causes.record import Record

        def asked(connection: DuckDBPyConnection) -> Reach:
            record = Record(connection, cluster=cluster)
            end = record.bounds[1] if record.bounds else None
            begin = since.at(end) if since and end else None
            before = until.at(end) if until and end else None
            return reach_of(record, subject, namespace or "", begin, before)

        found = answer(asked, paths, cluster=cluster, lake=lake, strict=strict)
    from kubewitness.report import exports
    from kubewitness.report.terminal import causes

    if report is not None:
        from kubewitness.report import causes_page

        write_page(report, causes_page.reach_page(found))
    with streams.data() as console:
        if output:
            exports.write_document(found, output, sys.stdout.buffer, kind="BlastRadius")
        else:
            causes.reach_report(found, console)
