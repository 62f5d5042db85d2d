"""``kubewitness diff``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, asking, require_input
from kubewitness.times import Moment


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
    output: str,
    start: Moment,
    end: Moment | None,
) -> None:
    """What changed about an object between two times, field by field."""
    require_input(paths, lake)
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.forensics.objects import finding
    from kubewitness.forensics.objects.state import difference
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
        found = difference(connection, target, start.at(last), end.at(last) if end else last)
    with streams.data() as console:
        if output == "table":
            objects.difference_report(found, console)
        else:
            exports.write_document("Difference", found, output, sys.stdout.buffer)
