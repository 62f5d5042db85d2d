"""Events that a query asks for, what they have in common, when they were, and what was around.

A lake holds tens of millions of events of which a handful is shown. So the few columns that decide
are read first, and the others only of those rows: found again by their time of receipt, by which
the engine skips nearly all of every file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import duckdb
import msgspec

from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.forensics.target import bounds
from kubewitness.query.columns import ordering
from kubewitness.query.expression import And, Expression, Or, Question, questions, same, settled
from kubewitness.query.fields import FIELDS
from kubewitness.query.sql import Condition, condition, prepare
from kubewitness.times import Moment

BODIES = ("request_object", "response_object")
COLUMNS = tuple(name for name in EVENT_COLUMNS if name not in BODIES)

Event = dict[str, Any]
"""An event as ``EVENT_COLUMNS`` name it: times in UTC, maps and bodies as objects."""

FACETS = ("principal", "verb", "resource", "namespace", "source_ip", "user_agent", "code")
"""What ``facets`` counts: of a field with several values the first, of principals the caller."""

_JSON = {name for name, kind in EVENT_COLUMNS.items() if kind == "JSON"}
_NEWEST = "received_at DESC"
# What tells events that were received at once apart: of as few as possible this is read.
_THEN = "stage_at DESC, audit_id, stage"
# More values than this are not asked one by one.
_MANY = 50_000
_WIDTHS = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 5, 15, 60, 180, 360, 1440, 7 * 1440, 28 * 1440, 365 * 1440)
)


class Found(msgspec.Struct, frozen=True):
    """``events`` in the order asked for; ``more`` whether the limit left any out."""

    events: tuple[Event, ...]
    more: bool


class Facet(msgspec.Struct, frozen=True):
    """The commonest values of one field with their counts, "" for none; ``distinct`` values in
    all."""

    field: str
    values: tuple[tuple[str, int], ...]
    distinct: int


class Histogram(msgspec.Struct, frozen=True):
    """``counts`` of events in slots of ``seconds`` from ``start`` on, by time of receipt."""

    start: datetime | None
    seconds: int
    counts: tuple[int, ...]


class Neighbour(msgspec.Struct, frozen=True):
    """An event near another: by the same ``principal``, on the same ``object``, both, or the
    event itself (``match``)."""

    relation: str
    event: Event


class Surroundings(msgspec.Struct, frozen=True):
    """``neighbours`` in the order of time; ``more`` whether a limit left any out."""

    neighbours: tuple[Neighbour, ...]
    more: bool


def search(
    connection: duckdb.DuckDBPyConnection,
    expression: Expression,
    *,
    limit: int | None = 100,
    sort_by: str = "",
    columns: Sequence[str] = COLUMNS,
) -> Found:
    """Events of the view ``events``: the newest first, or by the field ``sort_by``, ascending.

    Durations count back from the last event of the view.
    """
    where = _condition(connection, expression)
    order = f"{ordering(sort_by)}, {_NEWEST}" if sort_by else _NEWEST
    return _found(connection, where, order, limit, columns)


def facets(
    connection: duckdb.DuckDBPyConnection, expression: Expression, *, top: int = 5
) -> tuple[Facet, ...]:
    """The commonest values of ``FACETS`` among the events asked for, in one pass."""
    where = _condition(connection, expression)
    values = [f"CAST({ordering(name)} AS VARCHAR)" for name in FACETS]
    sets = ", ".join(f"({value})" for value in values)
    rows = connection.execute(
        f"""SELECT grouping({", ".join(values)}), coalesce({", ".join(values)}, ''), count(*) AS n
        FROM events WHERE {where.text} GROUP BY GROUPING SETS ({sets}) ORDER BY n DESC, 2""",
        where.parameters,
    ).fetchall()
    found = []
    for place, name in enumerate(FACETS):
        # A bit for each field that a row is not grouped by, the last field's lowest.
        others = (1 << len(FACETS)) - 1 - (1 << (len(FACETS) - 1 - place))
        counts: dict[str, int] = {}
        for which, value, n in rows:
            if which == others:  # missing and empty are the same
                counts[value] = counts.get(value, 0) + n
        common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        found.append(Facet(name, tuple(common[:top]), len(common)))
    return tuple(found)


def histogram(
    connection: duckdb.DuckDBPyConnection, expression: Expression, *, slots: int = 72
) -> Histogram:
    """How many of the events asked for were received when, in at most ``slots`` slots."""
    where = _condition(connection, expression)
    minutes = connection.execute(
        f"""SELECT time_bucket(INTERVAL '1 minute', received_at) AS minute, count(*)
        FROM events WHERE {where.text} GROUP BY minute ORDER BY minute""",
        where.parameters,
    ).fetchall()
    if not minutes:
        return Histogram(None, 0, ())
    first, last = _utc(minutes[0][0]), _utc(minutes[-1][0])
    for width in _WIDTHS:
        start = first - (first - datetime.min.replace(tzinfo=UTC)) % width
        if (last - start) // width < slots:
            break
    counts = [0] * ((last - start) // width + 1)
    for minute, n in minutes:
        counts[(_utc(minute) - start) // width] += n
    return Histogram(start, int(width.total_seconds()), tuple(counts))


def around(
    connection: duckdb.DuckDBPyConnection,
    matches: Iterable[Event],
    *,
    within: timedelta,
    each: int | None = None,
    limit: int | None = 100,
    among: Expression = And(()),  # noqa: B008
    columns: Sequence[str] = COLUMNS,
) -> Surroundings:
    """What the same principals did, or others did to the same objects, ``within`` before and
    after ``matches``; of each only the ``each`` nearest before and after it, of all the ``limit``
    that are nearest to the middle. Only events that ``among`` asks for are neighbours.
    """
    centres = sorted(matches, key=_order)
    if not centres:
        return Surroundings((), more=False)
    asked = And((among, neighbourhood(centres, within)))
    where = _condition(connection, asked)
    # Of too many, those that are nearest to the middle.
    middle = centres[len(centres) // 2]["received_at"]
    nearest = f"abs(epoch_us(received_at) - {int(middle.timestamp() * 1e6)})"
    found = _found(connection, where, nearest, limit, columns)
    themselves = {_identity(event) for event in centres}
    others = sorted(
        (event for event in found.events if _identity(event) not in themselves), key=_order
    )
    kept: dict[int, Neighbour] = {}
    for centre in centres:
        kept[id(centre)] = Neighbour("match", centre)
        near = [(relation, event) for event in others if (relation := _relation(event, centre))]
        at = bisect_left([_order(event) for _, event in near], _order(centre))
        chosen = near if each is None else near[max(0, at - each) : at + each]
        for relation, event in chosen:
            kept.setdefault(id(event), Neighbour(relation, event))
    told = sorted(kept.values(), key=lambda one: _order(one.event))
    return Surroundings(tuple(told), found.more)


def neighbourhood(matches: Iterable[Event], within: timedelta) -> Expression:
    """The query for what the same principals did, or was done to the same objects, at most
    ``within`` before or after these events."""
    spans: dict[tuple[tuple[str, str], ...], list[tuple[datetime, datetime]]] = {}
    for event in sorted(matches, key=_order):
        at = event["received_at"]
        for shared in _shared(event).values():
            known = spans.setdefault(shared, [])
            begin = at - within
            if known and begin <= known[-1][1]:
                begin = known.pop()[0]
            known.append((begin, at + within))
    times = [span for several in spans.values() for span in several]
    if not times:
        return Or(())
    everything = _between(min(begin for begin, _ in times), max(end for _, end in times))
    return And(
        (
            *everything,
            Or(
                tuple(
                    And((*_between(begin, end), *(same(name, text) for name, text in shared)))
                    for shared, several in spans.items()
                    for begin, end in several
                )
            ),
        )
    )


def _shared(event: Event) -> dict[str, tuple[tuple[str, str], ...]]:
    """By which values of which fields another event has the same principal, or object."""
    home = ("cluster", event.get("cluster") or "")
    principals: dict[str, tuple[tuple[str, str], ...]] = {
        f"principal {who}": (home, ("principal", who))
        for who in (event.get("user"), event.get("impersonated_user"))
        if who
    }
    if not event.get("name"):
        return principals
    fields = ("resource", "api_group", "namespace", "name")
    return {**principals, "object": (home, *((name, event.get(name) or "") for name in fields))}


def _relation(event: Event, centre: Event) -> str:
    """How two events belong together, '' if they do not."""
    own, other = _shared(event), _shared(centre)
    words = []
    if any(shared == other.get(name) for name, shared in own.items() if name != "object"):
        words.append("principal")
    if "object" in own and own["object"] == other.get("object"):
        words.append("object")
    return " and ".join(words)


def _between(begin: datetime, end: datetime) -> tuple[Question, Question]:
    time = FIELDS["time"]
    return (
        Question(time, ">=", (Moment(when=begin),)),
        Question(time, "<=", (Moment(when=end),)),
    )


def _condition(connection: duckdb.DuckDBPyConnection, expression: Expression) -> Condition:
    values = [value for question in questions(expression) for value in question.values]
    if any(isinstance(value, IPv4Network | IPv6Network) for value in values):
        prepare(connection)
    if any(isinstance(value, Moment) and value.when is None for value in values):
        known = bounds(connection)
        # Without any event there is nothing that a duration could leave out.
        expression = settled(expression, known[1] if known else datetime.now(UTC))
    return condition(expression, partial(_distinct, connection))


def _distinct(connection: duckdb.DuckDBPyConnection, column: str) -> list[Any] | None:
    found = connection.execute(
        f"SELECT DISTINCT {column} AS value FROM events WHERE value IS NOT NULL LIMIT {_MANY + 1}"
    ).fetchall()
    return [value for (value,) in found] if len(found) <= _MANY else None


def _found(
    connection: duckdb.DuckDBPyConnection,
    where: Condition,
    order: str,
    limit: int | None,
    columns: Sequence[str],
) -> Found:
    told = ", ".join(f'"{name}"' for name in columns)
    text, parameters = where.text, list(where.parameters)
    most = ""
    if limit is not None:
        most = f"LIMIT {limit + 1}"
        times = _times(connection, where, order, limit + 1)
        if not times:
            return Found((), more=False)
        text = f"received_at IN (SELECT unnest(CAST(? AS TIMESTAMP[]))) AND {text}"
        parameters.insert(0, sorted(set(times)))
    rows = connection.execute(
        f"SELECT {told} FROM events WHERE {text} ORDER BY {order}, {_THEN} {most}", parameters
    ).fetchall()
    events = tuple(_event(columns, row) for row in rows[:limit])
    return Found(events, more=len(rows) > len(events))


def _times(
    connection: duckdb.DuckDBPyConnection, where: Condition, order: str, most: int
) -> list[datetime]:
    """When the first ``most`` events in this order were received.

    A lake is read from its beginning. Where the newest come first, every event of it would be
    among the newest so far: so the last day is tried before all.
    """
    days: list[str] = []
    if order == _NEWEST:
        last = connection.execute("SELECT max(date) FROM events").fetchone()
        days = [f"received_at >= TIMESTAMP '{last[0]}' AND "] if last and last[0] else []
    for day in (*days, ""):
        found = connection.execute(
            f"SELECT received_at FROM events WHERE {day}{where.text} ORDER BY {order} LIMIT {most}",
            where.parameters,
        ).fetchall()
        if len(found) == most:
            break
    return [at for (at,) in found]


def _event(columns: Sequence[str], row: Sequence[Any]) -> Event:
    return {name: _plain(name, value) for name, value in zip(columns, row, strict=True)}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return _utc(value)
    if name in _JSON and isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:  # half a surrogate pair: as it stands in the log
            return value
    return value


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


def _order(event: Event) -> tuple[datetime, datetime, str, str]:
    return event["received_at"], event["stage_at"], event["audit_id"], event["stage"]


_identity = _order
