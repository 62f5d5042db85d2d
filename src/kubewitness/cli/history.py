"""``kubewitness history``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, asking, require_input
from kubewitness.times import Moment


@click.command()
@asking
@click.option("--since", type=Time(), help="Only what happened from here on.")
@click.option("--until", type=Time(), help="Only what happened until here.")
def history(
    reference: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    namespace: str | None,
    output: str,
    since: Moment | None,
    until: Moment | None,
) -> None:
    """Every change of an object: who, from where, with what, allowed by what, and what it changed.

    KIND is any name kubectl knows (deploy, pods, Secret, certificates.cert-manager.io).
    """
    require_input(paths, lake)
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.forensics.objects import finding
    from kubewitness.forensics.objects import history as forensics
    from kubewitness.report import exports
    from kubewitness.report.terminal import objects

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
        target = finding.find(connection, reference, namespace=namespace, cluster=cluster)
        found = forensics.history(
            connection,
            target,
            since=since.at(last) if since else None,
            until=until.at(last) if until else None,
        )
    with streams.data() as console:
        if output == "table":
            objects.history_report(found, console)
        else:
            exports.write_document("History", found, output, sys.stdout.buffer)
