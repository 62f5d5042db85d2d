"""``kubewitness state``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, asking, require_input
from kubewitness.times import Moment


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
    output: str,
    at: Moment | None,
) -> None:
    """An object as it was at a time, as far as the audit level lets anybody know.

    With -o yaml, the object as a manifest; what is not knowable is said in comments above it.
    """
    require_input(paths, lake)
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.forensics.objects import finding
    from kubewitness.forensics.objects.state import snapshot
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
        found = snapshot(connection, target, at.at(last) if at else last)
    with streams.data() as console:
        match output:
            case "table":
                objects.state_report(found, console)
            case "yaml":
                exports.write_manifest(found, sys.stdout.buffer)
            case _:
                exports.write_document("State", found, output, sys.stdout.buffer)
