"""``kubewitness query``."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import Time, reading, require_input
from kubewitness.errors import KubewitnessError
from kubewitness.times import Moment

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from kubewitness.forensics.search import Facet, Found, Histogram, Surroundings
    from kubewitness.query.expression import Expression

    Answer = Found | Surroundings | Histogram | tuple[Facet, ...]

FORMATS = ("table", "wide", "json", "jsonl", "yaml", "csv", "name")


@click.command()
@click.argument("expression", metavar="EXPR")
@reading
@click.option("--since", type=Time(), help="Leave out what was received before.")
@click.option("--until", type=Time(), help="Leave out what was received from here on.")
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True,
    help="json, jsonl and yaml have the bodies, too, where the lake has them.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, metavar="N",
    help="At most N events; 0 for all.",
)  # fmt: skip
@click.option("--sort-by", metavar="FIELD", help="Ascending; without it, the newest come first.")
@click.option("--no-headers", is_flag=True, help="No column names.")
@click.option("--facets", is_flag=True, help="Count the commonest values instead.")
@click.option("--histogram", is_flag=True, help="Count over time instead.")
@click.option(
    "--context", type=click.IntRange(min=1), metavar="N",
    help="Also the N events before and after each, of the same principal or object.",
)  # fmt: skip
@click.option(
    "--around", metavar="AUDITID",
    help="What the principals and the object of this event did and met around it.",
)  # fmt: skip
@click.option(
    "--within", type=Time(), default="5m", show_default=True, metavar="DURATION",
    help="How far --context and --around look.",
)  # fmt: skip
def query(
    expression: str,
    paths: tuple[str, ...],
    cluster: str | None,
    lake: Path | None,
    strict: bool,
    since: Moment | None,
    until: Moment | None,
    output: str,
    limit: int,
    sort_by: str | None,
    no_headers: bool,
    facets: bool,
    histogram: bool,
    context: int | None,
    around: str | None,
    within: Moment,
) -> None:
    """Find events: by who, what, where, when and how it ended.

    EXPR is a filter, as in 'verb in (get, list) and resource = secrets and code >= 400', and
    PATH what to read, besides or instead of a lake. docs/query.md has the language.
    """
    require_input(paths, lake)
    if sum((facets, histogram, bool(context or around))) > 1:
        raise click.UsageError("--facets, --histogram and --context or --around: one at a time")
    if context and around:
        raise click.UsageError("--context is for events of EXPR: --around takes --within")
    if (facets or histogram) and output in ("csv", "name", "wide"):
        raise click.UsageError(f"-o {output} is for events")
    span = within.before
    if span is None:
        raise click.BadParameter("write a duration like 5m", param_hint="--within")
    from kubewitness.query.expression import narrowed
    from kubewitness.query.fields import SORTABLE
    from kubewitness.query.grammar import parse
    from kubewitness.query.writing import written

    if sort_by and sort_by not in SORTABLE:
        known = ", ".join(SORTABLE)
        raise click.BadParameter(f"{sort_by!r} is none of {known}", param_hint="--sort-by")
    asked = narrowed(parse(expression), cluster=cluster, since=since, until=until)
    bodies = output in ("json", "jsonl", "yaml")
    # What takes a while to load, after all that may be wrong with the query.
    from kubewitness.cli.question import answer

    found = answer(
        lambda connection: _answer(
            connection,
            asked,
            limit=limit or None,
            sort_by=sort_by or "",
            bodies=bodies,
            facets=facets,
            histogram=histogram,
            context=context,
            around=around,
            within=span,
        ),
        paths,
        cluster=cluster,
        lake=lake,
        strict=strict,
        bodies=bodies,
    )
    _show(found, output, written(asked), headers=not no_headers)


def _answer(
    connection: DuckDBPyConnection,
    asked: Expression,
    *,
    limit: int | None,
    sort_by: str,
    bodies: bool,
    facets: bool,
    histogram: bool,
    context: int | None,
    around: str | None,
    within: timedelta,
) -> Answer:
    from kubewitness.events.columns import EVENT_COLUMNS
    from kubewitness.forensics import search
    from kubewitness.query.expression import same

    if facets:
        return search.facets(connection, asked)
    if histogram:
        return search.histogram(connection, asked)
    columns = tuple(EVENT_COLUMNS) if bodies else search.COLUMNS
    if around:
        centre = search.search(connection, same("audit_id", around), columns=columns)
        if not centre.events:
            raise KubewitnessError(
                f"there is no event with the auditID {around!r}",
                remedy="-o wide and -o name show the auditIDs of events",
            )
        return search.around(
            connection, centre.events, within=within, limit=limit, among=asked, columns=columns
        )
    found = search.search(connection, asked, limit=limit, sort_by=sort_by, columns=columns)
    if context:
        near = search.around(
            connection, found.events, within=within, each=context, limit=None, columns=columns
        )
        return search.Surroundings(near.neighbours, found.more)
    return found


def _show(found: Answer, output: str, asked: str, *, headers: bool) -> None:
    from kubewitness.forensics.search import Found, Histogram, Surroundings
    from kubewitness.report import listing
    from kubewitness.report.terminal import events as tables

    stream = sys.stdout.buffer
    with streams.data() as console:
        match found:
            case Histogram() if output == "table":
                tables.histogram_report(found, console)
            case Histogram():
                listing.write_histogram(found, output, stream, query=asked)
            case Found(events=events) | Surroundings(neighbours=events):
                if output not in ("table", "wide"):
                    listing.write(events, output, stream, query=asked, headers=headers)
                elif events:
                    wide = output == "wide"
                    tables.events_table(events, console, wide=wide, headers=headers)
            case _ if output == "table":
                tables.facets_report(found, console)
            case _:
                listing.write_facets(found, output, stream, query=asked)
    if isinstance(found, Found | Surroundings):
        if not (found.events if isinstance(found, Found) else found.neighbours):
            click.echo("No events found.", err=True)
        elif found.more:
            click.echo("There are more: --limit 0 shows all.", err=True)
