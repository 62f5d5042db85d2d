"""``kubewitness rehearse``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time
from kubewitness.times import Moment


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="A new folder: a labelled dataset for 'kubewitness evaluate'.",
)
@click.option(
    "--attacks",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many attacks to play.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Another seed, other attacks; the same seed, the same bytes.",
)
@click.option(
    "--from",
    "since",
    type=Time(),
    help="Where history ends and attacks begin (a date, an RFC 3339 time, or a duration counted"
    " back from the last event); without it the last third.",
)
@click.option(
    "--poison", is_flag=True, help="Each attack was done once in the history, too, and not noticed."
)
def rehearse(
    paths: tuple[str, ...],
    out: Path,
    attacks: int,
    seed: int,
    since: Moment | None,
    poison: bool,
) -> None:
    """Copy a log with attacks woven in that never happened.

    PATH is a log as for 'analyze' (not standard input: it is read twice), or a labelled dataset,
    whose own attacks are left out.
    """
    if "-" in paths:
        raise click.UsageError("standard input cannot be read twice: give a file")
    from rich.console import Console

    from kubewitness.evaluate.rehearsal.rehearsal import rehearse as play
    from kubewitness.report.inert import plain

    with Console(stderr=True).status("reading") as status:
        played = play(
            paths,
            out,
            seed=seed,
            attacks=attacks,
            since=since,
            poison=poison,
            progress=status.update,
        )
    with streams.stdout():
        for family, n in sorted(Counter(played.families).items()):
            click.echo(f"{n:4}  {family}")
    for lost in (*played.tally.broken, *played.tally.skipped):
        told = f"{lost.n:,} not copied, {lost.reason}: {', '.join(lost.places)}"
        click.echo(plain(told, 400), err=True)
    for warning in played.tally.warnings:
        click.echo(plain(warning, 400), err=True)
    click.echo(
        f"{plain(str(out), 300)}: {len(played.families)} attacks from"
        f" {played.since:%Y-%m-%dT%H:%M:%SZ} on among {played.lines:,} lines;"
        f" {played.removed} labelled ones taken out, {played.kept} other episodes kept",
        err=True,
    )
