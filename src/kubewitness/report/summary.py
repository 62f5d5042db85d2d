"""A period in numbers: how much, by whom, what, when, and with which answers.

Reads the table ``activities`` (``activity.rollup.ACTIVITY_COLUMNS``) and the view ``events``;
nothing that grows with the number of events leaves DuckDB. Times of the result are UTC.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import duckdb

from kubewitness.activity.principal import CLASSES
from kubewitness.activity.rollup import slot_width
from kubewitness.report.access import denied_requests, sensitive_access, weigh
from kubewitness.report.change import movers, newcomers
from kubewitness.report.coverage import cover
from kubewitness.report.model import Count, Series, Summary

MOST_SLOTS = 200
MOST_VALUES = 60
OTHERS = "(others)"
NON_RESOURCE = "non-resource"
"""Requests for paths that are no objects: discovery, health, metrics."""

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDTHS = (
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=7),
    timedelta(days=28),
    timedelta(days=364),
)


def summarise(connection: duckdb.DuckDBPyConnection) -> Summary:
    """Everything about the period that is not an incident; a log without events has zeros."""
    weigh(connection)
    start, end = _period(connection)
    requests, principals, namespaces = _sizes(connection)
    slots, volume, denied = _volume(connection, chart_width(start, end))
    return Summary(
        start=start,
        end=end,
        requests=requests,
        principals=principals,
        namespaces=namespaces,
        slots=slots,
        volume=volume,
        denied_volume=denied,
        classes=_counts(connection, "class", requests),
        # an exec is "get" or "create" on the wire, which nobody who reads a report cares about
        verbs=_counts(
            connection, "CASE verb WHEN 'watch' THEN verb ELSE split_part(action, ' ', 1) END",
            requests,
        ),
        resources=_counts(
            connection,
            f"CASE WHEN resource = '' THEN '{NON_RESOURCE}' WHEN subresource = '' THEN resource"
            " ELSE resource || '/' || subresource END",
            requests,
        ),
        outcomes=_counts(connection, "outcome", requests),
        hours=_hours(connection),
        movers=movers(connection),
        newcomers=newcomers(connection),
        denied=denied_requests(connection),
        sensitive=sensitive_access(connection),
        coverage=cover(connection),
    )  # fmt: skip


def chart_width(start: datetime, end: datetime) -> timedelta:
    """The time slot of a chart: never finer than the activity's own, at most ``MOST_SLOTS``.

    >>> chart_width(datetime(2026, 3, 2), datetime(2026, 3, 9)) == timedelta(hours=1)
    True
    >>> chart_width(datetime(2026, 3, 2), datetime(2026, 3, 23)) == timedelta(hours=3)
    True
    """
    finest = slot_width(start, end)
    # one more than the span has, as both ends may lie inside of a slot
    fitting = (w for w in _WIDTHS if w >= finest and (end - start) // w + 2 <= MOST_SLOTS)
    return next(fitting, _WIDTHS[-1])


def _period(connection: duckdb.DuckDBPyConnection) -> tuple[datetime, datetime]:
    row = connection.execute("SELECT min(first), max(last) FROM activities").fetchone()
    if row is None or row[0] is None:
        return _EPOCH, _EPOCH
    return row[0].replace(tzinfo=UTC), row[1].replace(tzinfo=UTC)


def _sizes(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    row = connection.execute(
        """SELECT coalesce(sum(n), 0)::BIGINT, count(DISTINCT principal),
            count(DISTINCT namespace) FILTER (namespace <> '') FROM activities"""
    ).fetchone()
    return row or (0, 0, 0)


def _volume(
    connection: duckdb.DuckDBPyConnection, width: timedelta
) -> tuple[tuple[datetime, ...], tuple[Series, ...], Series]:
    """Slots without a hole, requests in them by principal class, and how many were refused."""
    rows = connection.execute(
        f"""SELECT time_bucket(INTERVAL '{int(width.total_seconds())} seconds', slot) AS at, class,
            sum(n)::BIGINT,
            coalesce(sum(n) FILTER (outcome IN ('denied', 'unauthenticated')), 0)::BIGINT
        FROM activities GROUP BY ALL"""
    ).fetchall()
    if not rows:
        return (), (), Series("denied", ())
    first, last = min(row[0] for row in rows), max(row[0] for row in rows)
    slots = tuple(first + width * i for i in range((last - first) // width + 1))
    requests: defaultdict[str, defaultdict[datetime, int]] = defaultdict(lambda: defaultdict(int))
    denied: defaultdict[datetime, int] = defaultdict(int)
    for at, class_, n, refused in rows:
        requests[class_][at] += n
        denied[at] += refused
    return (
        tuple(at.replace(tzinfo=UTC) for at in slots),
        tuple(
            Series(name, tuple(requests[name][at] for at in slots))
            for name in CLASSES
            if name in requests
        ),
        Series("denied", tuple(denied[at] for at in slots)),
    )


def _counts(
    connection: duckdb.DuckDBPyConnection, expression: str, requests: int
) -> tuple[Count, ...]:
    """Requests by a value, most first. Anybody can invent a resource, so rare ones are summed."""
    rows = connection.execute(
        f"""SELECT {expression} AS value, sum(n)::BIGINT AS requests FROM activities
        GROUP BY value ORDER BY requests DESC, value LIMIT {MOST_VALUES}"""
    ).fetchall()
    counts = tuple(Count(value, n) for value, n in rows)
    rest = requests - sum(count.n for count in counts)
    return (*counts, Count(OTHERS, rest)) if rest else counts


def _hours(connection: duckdb.DuckDBPyConnection) -> tuple[Series, ...]:
    """Requests by weekday and hour of the day (UTC): of people, whom it tells most about.

    A log without people shows everybody. Days that the log does not reach have no row: an empty
    one would say that nothing happened.
    """
    rows = connection.execute(
        """WITH shown AS (
            SELECT * FROM activities
            WHERE class = 'human' OR NOT EXISTS (FROM activities WHERE class = 'human')
        ), reached AS (
            SELECT DISTINCT isodow(slot) AS day FROM activities
        )
        SELECT reached.day, hour(slot), sum(n)::BIGINT
        FROM reached LEFT JOIN shown ON isodow(slot) = reached.day GROUP BY ALL"""
    ).fetchall()
    table = {day: [0] * 24 for day in sorted({row[0] for row in rows})}
    for day, hour, n in rows:
        if hour is not None:
            table[day][hour] = n
    return tuple(Series(DAYS[day - 1], tuple(hours)) for day, hours in table.items())
