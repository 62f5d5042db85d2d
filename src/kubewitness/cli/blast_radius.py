"""``kubewitness blast-radius``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, asking, require_input
from kubewitness.cli.page import require_writable, write_page
from kubewitness.times import Moment


@click.command("blast-radius")
@click.argument("subject", metavar="PRINCIPAL|CREDENTIAL|AUDITID|KIND/NAME|INCIDENT")
@asking
@click.option("--since", type=Time(), help="Only what began at or after this time.")
@click.option("--until", type=Time(), help="Only what began before this time.")
def blast_radius(
    subject: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str,
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
    from kubewitness.cli.question import asked, known_incident

    incident = None if "/" in subject else known_incident(subject, paths, lake)
    if incident is not None and incident.reach is not None:
        found = incident.reach
    else:
        require_input(paths, lake)
        from kubewitness.forensics.reach import reach_of

        with asked(paths, cluster, lake, strict) as record:
            end = record.bounds[1] if record.bounds else None
            begin = since.at(end) if since and end else None
            found = reach_of(
                record, subject, namespace, begin, until.at(end) if until and end else None
            )
    from kubewitness.report import exports, forensics_page
    from kubewitness.report.terminal import forensics

    if report is not None:
        write_page(report, forensics_page.reach_page(found))
    with streams.data() as console:
        if output:
            exports.write(found, output, sys.stdout.buffer)
        else:
            forensics.reach_report(found, console)
