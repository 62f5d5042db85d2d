"""``kubewitness policy``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import answering

if TYPE_CHECKING:
    from kubewitness.sources.tally import Tally

FOUND = 3


@click.group()
def policy() -> None:
    """Say what an audit policy costs, and what it blinds."""


@policy.command()
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE"
)
@click.argument("paths", nargs=-1, metavar="[LOG...]")
@answering
def lint(file: Path, paths: tuple[str, ...], output: str | None) -> None:
    """Say what a policy hides from detection, what it lets leak, and which rules do nothing.

    With LOG, also what it would have kept of that log, in events and bytes. Exits with 3 if
    anything is blind or leaks.
    """
    from kubewitness.policy.blindness import findings
    from kubewitness.policy.log import logged_lines
    from kubewitness.policy.reading import read_policy
    from kubewitness.policy.telling import Lint, lint_report
    from kubewitness.policy.volume import measure
    from kubewitness.report import exports

    asked = read_policy(file)
    volume = None
    if paths:
        with logged_lines(paths, stdin=sys.stdin.buffer) as (lines, tally):
            volume = measure(asked, lines)
            _tell(tally)
    found = Lint(findings(asked), volume)
    with streams.data() as console:
        if output:
            exports.write_document(found, output, sys.stdout.buffer)
        else:
            lint_report(found, console)
    if found.grave:
        sys.exit(FOUND)


def _tell(tally: Tally) -> None:
    """What in the log was no event, or had to be mended."""
    from kubewitness.report.inert import plain

    rejected = (
        f"{one.n:,} not counted: {one.reason} (first at {one.places[0]})"
        for one in (*tally.skipped, *tally.broken)
    )
    for line in (*tally.warnings, *rejected):
        click.echo(plain(line, 600), err=True)
